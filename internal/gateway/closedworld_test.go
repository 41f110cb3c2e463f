package gateway_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
	"github.com/keybrake/keybrake/internal/upstream/stripe"
)

// presetKey makes a vault key of a preset for any customer.
func (w *world) presetKey(name string) string {
	w.t.Helper()
	preset, err := policy.FindPreset(name)
	must(w.t, err)
	p, _, err := policy.ParseEdited(name, preset.YAML, w.adapter.Catalog().Vocabulary(),
		policy.Edit{Name: "agent-preset-" + name + "-t", Customers: &policy.Customers{Any: true}})
	must(w.t, err)
	secret, _ := w.key(string(policy.Format(p)))
	return secret
}

// stated are reasons that may stand against a call which is in scope: they lie in its money or its parameters.
var stated = []policy.Code{
	policy.CodeUnmeterable, policy.CodeCapExceeded, policy.CodeNoRate, policy.CodeParamDenied, policy.CodeMalformed, upstream.CodeResourceMissing,
}

// TestThePresetsCloseTheWorld tries every operation of the catalog with a key of every preset: what the preset
// does not grant is 401, previews included; what it grants passes to the upstream, or is denied for its money or
// a parameter.
func TestThePresetsCloseTheWorld(t *testing.T) {
	w := newWorld(t)
	rows := w.adapter.Catalog().Rows()
	for _, preset := range policy.Presets() {
		t.Run(preset.Name, func(t *testing.T) {
			secret := w.presetKey(preset.Name)
			p, _, err := policy.ParseEdited(preset.Name, preset.YAML, w.adapter.Catalog().Vocabulary(), policy.Edit{})
			must(t, err)
			counts := tryAll(t, w, secret, p, rows)
			t.Logf("%d operations: %s", len(rows), counts)
		})
	}
}

// tryAll makes one call for each row, several at a time, and counts how they ended.
func tryAll(t *testing.T, w *world, secret string, p *policy.Policy, rows []*stripe.Row) tally {
	counts := tally{}
	var mu sync.Mutex
	var wait sync.WaitGroup
	work := make(chan *stripe.Row)
	for range 16 {
		wait.Go(func() {
			for row := range work {
				end, problem := tryRow(t, w, secret, p, row)
				mu.Lock()
				counts[end]++
				mu.Unlock()
				if problem != "" {
					t.Errorf("%s: %s", row.Name, problem)
				}
			}
		})
	}
	for _, row := range rows {
		work <- row
	}
	close(work)
	wait.Wait()
	return counts
}

// tryRow makes the smallest well-formed call of an operation and judges how it ended.
func tryRow(t *testing.T, w *world, secret string, p *policy.Policy, row *stripe.Row) (end, problem string) {
	path, body, headers := smallest(row)
	r, err := w.try(t.Context(), secret, row.Method, path, body, headers...)
	if err != nil {
		return "no answer", err.Error()
	}
	reason := policy.Code(r.reason())
	inScope := row.Release != stripe.Preview && p.Scope(row.Resource) >= row.Access
	switch {
	case !inScope && r.Status == http.StatusUnauthorized && (reason == policy.CodeScopeDenied || reason == policy.CodeUnknownRoute):
		return "401 out of scope", ""
	case !inScope:
		return "leaks", fmt.Sprintf("out of scope, and answered with %d %s: %s", r.Status, reason, r.Raw)
	case reason == "":
		return "passed", ""
	case slices.Contains(stated, reason):
		return "denied: " + string(reason), ""
	default:
		return "wrong", fmt.Sprintf("in scope, and answered with %d %s: %s", r.Status, reason, r.Raw)
	}
}

// smallest writes the smallest call of an operation that has all that its money rule asks for.
func smallest(row *stripe.Row) (path, body string, headers []string) {
	path = row.Template
	for _, name := range row.Placeholders {
		path = strings.Replace(path, "{"+name+"}", "x_1", 1)
	}
	if row.Method != http.MethodPost {
		return path, "", nil
	}
	params := map[string]any{}
	set := func(f stripe.Field, v any) {
		at := params
		for _, name := range f[:len(f)-1] {
			if at[name] == nil {
				at[name] = map[string]any{}
			}
			at = at[name].(map[string]any)
		}
		at[f[len(f)-1]] = v
	}
	if len(row.Money.OneOf) > 0 {
		set(row.Money.OneOf[0], "x_1")
	}
	for _, e := range row.Money.Effects {
		if !e.When.Eval(func(f stripe.Field) (string, bool) { v, ok := params[f[0]]; return fmt.Sprint(v), ok }) {
			continue
		}
		for _, list := range [][]stripe.Source{e.Amount, e.Currency} {
			if len(list) == 0 {
				continue
			}
			for _, name := range list[0].Ref.Placeholders { // an object that a parameter names
				if !slices.Contains(row.Placeholders, name) {
					set(stripe.Field{name}, "x_1")
				}
			}
			switch f := list[0].Field; {
			case list[0].Kind != stripe.FromRequest:
			case f[len(f)-1] == "currency":
				set(f, "usd")
			default:
				set(f, 100)
			}
		}
	}
	if row.V2() {
		b, _ := json.Marshal(params) // of strings and numbers
		return path, string(b), []string{"Content-Type", "application/json"}
	}
	form := url.Values{}
	flatten(form, "", params)
	return path, form.Encode(), nil
}

func flatten(form url.Values, prefix string, params map[string]any) {
	for name, v := range params {
		if prefix != "" {
			name = prefix + "[" + name + "]"
		}
		if below, ok := v.(map[string]any); ok {
			flatten(form, name, below)
			continue
		}
		form.Set(name, fmt.Sprint(v))
	}
}

// tally counts calls by how they ended.
type tally map[string]int

func (c tally) String() string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(c)) {
		parts = append(parts, fmt.Sprintf("%d %s", c[k], k))
	}
	return strings.Join(parts, ", ")
}
