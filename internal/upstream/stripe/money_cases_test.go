package stripe

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

// The cases of testdata/money say what a call does to money, from its parameters over Stripe's state to the
// settlement. They are written by hand, to be read by somebody who knows payments: see the README there.

// moneyCase is one case: what is called, what Stripe has, and what must come of it.
type moneyCase struct {
	name, call string
	objects    map[string]string
	answer     string
	// says are the lines that tell what must come of it, in order.
	says []string
}

// fewestCases is what the tables must have at least.
const fewestCases = 300

func TestMoneyCases(t *testing.T) {
	files, err := filepath.Glob("testdata/money/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	a := newAdapter(t)
	cases, shown := 0, map[*EffectRule]bool{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range parseCases(t, file, string(data)) {
			cases++
			t.Run(strings.TrimSuffix(filepath.Base(file), ".txt")+"/"+c.name, func(t *testing.T) {
				said, lines := c.run(t, a)
				for _, e := range lines {
					shown[e] = true
				}
				if diff := cmp.Diff(c.says, said); diff != "" {
					t.Errorf("%s (-want +got):\n%s", c.call, diff)
				}
			})
		}
	}
	t.Logf("%d cases of %d lines of effects.csv", cases, len(shown))
	if cases < fewestCases {
		t.Errorf("%d cases, there were %d", cases, fewestCases)
	}
	for _, row := range a.catalog.rows {
		if row.Release == Preview || row.Host == HostMeterEvents {
			continue // refused, whatever they say
		}
		for i, e := range row.Money.Effects {
			if !shown[e] {
				t.Errorf("%s: no case shows line %d of it, on %s", row.Name, i+1, e.Bucket)
			}
		}
	}
}

// parseCases reads a file: "object PATH JSON" before the first case holds for all of them, "== name" begins one.
func parseCases(t *testing.T, file, data string) []moneyCase {
	t.Helper()
	shared := map[string]string{}
	var out []moneyCase
	for i, line := range strings.Split(data, "\n") {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		var c *moneyCase
		if len(out) > 0 {
			c = &out[len(out)-1]
		}
		switch {
		case word == "" || word == "#":
		case word == "==":
			out = append(out, moneyCase{name: rest, objects: map[string]string{}})
			for path, body := range shared {
				out[len(out)-1].objects[path] = body
			}
		case word == "object":
			path, body, _ := strings.Cut(rest, " ")
			if c == nil {
				shared[path] = body
			} else {
				c.objects[path] = body
			}
		case c == nil:
			t.Fatalf("%s:%d: %q stands before the first case", file, i+1, word)
		case word == "POST" || word == "DELETE":
			c.call = word + " " + rest
		case word == "answer":
			c.answer = rest
		default:
			c.says = append(c.says, strings.TrimSpace(line))
		}
	}
	return out
}

// run takes the case through parsing, resolution and outcome, and tells what came of it in the words of the
// files, and which lines of effects.csv it is about.
func (c *moneyCase) run(t *testing.T, a *Adapter) (said []string, lines []*EffectRule) {
	t.Helper()
	method, rest, _ := strings.Cut(c.call, " ")
	path, params, _ := strings.Cut(rest, " ")
	raw := formCall(method, path, "", params)
	if strings.HasPrefix(path, "/v2/") {
		raw = jsonCall(path, params)
	}
	call, refusal := a.Parse(raw, "")
	if refusal != nil {
		return []string{fmt.Sprintf("malformed %s", refusal.Param)}, nil
	}
	req := call.Vendor.(*Request)
	for _, e := range req.Row.Money.Effects {
		if e.When.Eval(req.Params.Value) {
			lines = append(lines, e)
		}
	}
	sent := string(call.Body)
	op := &call.Operation
	for _, need := range op.Needs {
		if !slices.ContainsFunc(op.Effects, func(e policy.Effect) bool { return e.Bucket == need.Resource }) {
			said = append(said, fmt.Sprintf("needs %s", need.Resource))
		}
	}
	look := c.look(t)
	if op.NeedsLookup(anyCustomer) {
		refusal, err := a.Resolve(t.Context(), call, anyCustomer, look)
		if err != nil {
			t.Fatal(err)
		}
		if refusal != nil {
			return append(said, strings.TrimSpace("malformed "+refusal.Param)), lines
		}
	}
	for _, e := range op.Effects {
		said = append(said, holdWords(e))
	}
	if now := string(call.Body); now != sent {
		text, err := url.QueryUnescape(now)
		if err != nil {
			t.Fatal(err)
		}
		said = append(said, "sent "+text)
	}
	if c.answer == "" {
		return said, lines
	}
	status, body, _ := strings.Cut(c.answer, " ")
	code, err := strconv.Atoi(status)
	if err != nil {
		t.Fatal(err)
	}
	got := answer(code, body)
	outcome := a.Outcome(call, got)
	if err := a.Follow(t.Context(), call, got, &outcome, look); err != nil {
		t.Fatal(err)
	}
	return append(said, outcomeWords(op, &outcome)...), lines
}

func holdWords(e policy.Effect) string {
	switch {
	case e.Unmeterable:
		return "unmeterable " + string(e.Bucket)
	case !e.Known:
		return "unknown amount on " + string(e.Bucket)
	}
	words := fmt.Sprintf("hold %s %d %s", e.Bucket, e.Amount.Minor, e.Amount.Currency)
	switch e.Mode {
	case policy.Total:
		words += " total"
	case policy.Part:
		words += fmt.Sprintf(" part of %d", e.Ceiling)
	}
	if e.Object != "" {
		words += " of " + string(e.Object)
	}
	return words
}

func outcomeWords(op *policy.Operation, o *upstream.Outcome) (said []string) {
	switch {
	case o.Fate == upstream.Refused:
		return []string{"refused"}
	case o.Fate == upstream.Unknown:
		return []string{"unknown: " + o.Why}
	}
	for i, m := range o.Moved {
		if op.Effects[i].Unmeterable {
			continue
		}
		words := fmt.Sprintf("moved %s %d %s", op.Effects[i].Bucket, m.Amount.Minor, m.Amount.Currency)
		if m.Object != "" {
			words += " of " + string(m.Object)
		}
		said = append(said, words)
	}
	for _, f := range o.Finals {
		said = append(said, fmt.Sprintf("final %s %d %s of %s", f.Bucket, f.Amount.Minor, f.Amount.Currency, f.Object))
	}
	if o.Pending {
		said = append(said, "pending")
	}
	return said
}

// look answers from the case's objects. A preview is an object too, under its path with its parameters where the
// case writes them, or else under its path alone.
func (c *moneyCase) look(t *testing.T) upstream.Lookup {
	return func(_ context.Context, l upstream.Look) (int, []byte, error) {
		params := l.Query + string(l.Body)
		text, err := url.QueryUnescape(params)
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{l.Path + "?" + text, l.Path} {
			if body, ok := c.objects[key]; ok {
				return 200, []byte(body), nil
			}
		}
		t.Logf("not there: %s %s?%s", l.Method, l.Path, text)
		return 404, []byte(`{"error":{"type":"invalid_request_error","code":"resource_missing","message":"No such object"}}`), nil
	}
}
