package sdk

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"
)

// step is one line that drive.js prints: what it did, what came back, and how many calls the SDK made for it.
type step struct {
	Step   string
	OK     bool
	Calls  int64
	Detail string // an id, a number, or the error
}

// hasNodeStripe reports whether the scripts in test/node can load the SDK.
func hasNodeStripe() bool {
	return has("node", "-e", "require(require('path').resolve('../node/node_modules/stripe'))")
}

func TestTheNodeSDKCreatesListsRefundsAndRetries(t *testing.T) {
	need(t, "the stripe package for Node", hasNodeStripe())
	d := serveDev(t)
	input, err := json.Marshal(map[string]any{
		"url": d.Front.URL, "key": d.key(fullPolicy), "customer": d.Listed[0],
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("node", filepath.Join("..", "node", "drive.js"), string(input))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s%s", err, out.String(), errs.String())
	}
	want := map[string]step{
		"create": {OK: true, Calls: 1},
		"list":   {OK: true, Calls: 3},
		"refund": {OK: true, Calls: 1},
		"retry":  {OK: true, Calls: 1},
	}
	dec := json.NewDecoder(&out)
	seen := 0
	for dec.More() {
		var got step
		if err := dec.Decode(&got); err != nil {
			t.Fatal(err)
		}
		seen++
		w, ok := want[got.Step]
		if !ok {
			t.Errorf("unexpected step %+v", got)
			continue
		}
		if got.OK != w.OK || got.Calls != w.Calls {
			t.Errorf("%s: %+v, want %+v", got.Step, got, w)
		}
	}
	if seen != len(want) {
		t.Errorf("%d of %d steps: %s", seen, len(want), errs.String())
	}
	if n, total := d.refunds(); n != 1 || total != 1000 {
		t.Errorf("%d refunds of %d happened", n, total)
	}
}
