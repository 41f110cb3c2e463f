package sdk

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os/exec"
	"path/filepath"
	"testing"
)

func (d *dev) decode(resp *http.Response, to any) {
	d.t.Helper()
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(to); err != nil {
		d.t.Fatal(err)
	}
}

// step is one line that drive.js prints: what it did, what came back, and how many calls the SDK made for it.
type step struct {
	Step   string
	OK     bool
	Type   string // class of the SDK's error
	Code   string
	Status int
	Calls  int64
	Detail string
}

// hasNodeStripe reports whether drive.js can load the SDK.
func hasNodeStripe() bool {
	return has("node", "-e", "require(require('path').resolve('../node/node_modules/stripe'))")
}

func TestTheNodeSDKCreatesListsRefundsRetriesAndRaisesDenialsOnce(t *testing.T) {
	need(t, "the stripe package for Node", hasNodeStripe())
	d := serveDev(t)
	input, err := json.Marshal(map[string]any{
		"url": d.Front.URL, "full": d.key(fullPolicy), "listed": d.Keys[0],
		"customer": d.Listed[0], "foreign": d.other(), "any": d.Keys[1],
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
		"create":           {OK: true, Calls: 1},
		"list":             {OK: true, Calls: 3},
		"refund":           {OK: true, Calls: 1},
		"retry":            {OK: true, Calls: 1},
		"unknown key":      {Type: "StripeAuthenticationError", Code: "keybrake_key_invalid", Status: 401, Calls: 1},
		"out of scope":     {Type: "StripeAuthenticationError", Code: "keybrake_scope_denied", Status: 401, Calls: 1},
		"over the cap":     {Type: "StripePermissionError", Code: "keybrake_cap_exceeded", Status: 403, Calls: 1},
		"foreign charge":   {Type: "StripePermissionError", Code: "keybrake_customer_denied", Status: 403, Calls: 1},
		"unfiltered list":  {Type: "StripePermissionError", Code: "keybrake_customer_denied", Status: 403, Calls: 1},
		"parameter rule":   {Type: "StripePermissionError", Code: "keybrake_param_denied", Status: 403, Calls: 1},
		"malformed amount": {Type: "StripeInvalidRequestError", Code: "keybrake_request_malformed", Status: 400, Calls: 1},
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
		if got.OK != w.OK || got.Type != w.Type || got.Code != w.Code || got.Status != w.Status || got.Calls != w.Calls {
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
