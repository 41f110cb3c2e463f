package stripe

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

// A way is a call that has one reason to be counted, asked for more, or refused: one term of one cell of the tables.
type way struct {
	row    *Row
	what   string // the reason, as the tables write it
	params branch
	counts policy.Resource // the bucket on which it must be counted; empty: it must have no bound
	needs  bool            // instead: it must ask for write on transfers
}

// TestEveryWayIntoTheTablesIsCountedOrRefused makes a call for every condition of every line of effects.csv, and for every
// parameter that money.csv has as one that raises, sends on or has no bound.
func TestEveryWayIntoTheTablesIsCountedOrRefused(t *testing.T) {
	a := newAdapter(t)
	tried, counted := 0, 0
	for _, row := range a.catalog.rows {
		if row.Release == Preview || row.Access != policy.Write || row.Host == HostMeterEvents {
			continue
		}
		for _, w := range waysInto(row) {
			tried++
			call, refusal := w.parse(a)
			if refusal != nil {
				t.Errorf("%s, %s: the call that tries it is malformed: %s", row.Name, w.what, refusal.Message)
				continue
			}
			effects := call.Operation.Effects
			switch {
			case w.needs:
				if !slices.ContainsFunc(call.Operation.Needs, func(n policy.Need) bool { return n.Resource == transfers && n.Access == policy.Write }) {
					t.Errorf("%s, %s: asks for nothing on transfers", row.Name, w.what)
				}
			case slices.ContainsFunc(effects, func(e policy.Effect) bool { return e.Unmeterable && strings.Contains(e.Why, string(row.Name)) }):
			case w.counts != "" && slices.ContainsFunc(effects, func(e policy.Effect) bool { return e.Bucket == w.counts }):
				counted++
			default:
				t.Errorf("%s, %s: passes uncounted: %+v", row.Name, w.what, effects)
			}
		}
	}
	t.Logf("%d ways, %d of them counted", tried, counted)
	if tried < 350 || counted < 150 {
		t.Errorf("%d ways were tried, %d of them counted: the tables have more", tried, counted)
	}
}

func waysInto(row *Row) (out []way) {
	add := func(what string, c Condition, counts policy.Resource) {
		if c.Always {
			out = append(out, way{row: row, what: what, params: branch{}, counts: counts})
		}
		for _, term := range c.Terms {
			params := branch{}
			together := append([]Term{term}, term.And...)
			for _, each := range together {
				params.meet(row, each, together)
			}
			out = append(out, way{row: row, what: fmt.Sprintf("%s with %s", what, params.form()), params: params, counts: counts})
		}
	}
	present := func(f Field) Condition { return Condition{Terms: []Term{{Field: f, Op: Present}}} }
	m := &row.Money
	for i, e := range m.Effects {
		add(fmt.Sprintf("line %d", i+1), e.When, e.Bucket)
	}
	for _, r := range m.Refused {
		add("refused", r.When, "")
	}
	for _, f := range m.Raising {
		add("raising", present(f), "")
	}
	if slices.Contains([]Verdict{DenyCredential, DenyEgress, DenyBulk}, row.Default) {
		add(string(row.Default), Condition{Always: true}, "")
	}
	routing := len(out)
	for _, f := range m.Routing {
		add("routing", present(f), "")
	}
	for i := range out[routing:] {
		out[routing+i].needs = true
	}
	return out
}

// parse makes the call, with what it cannot do without.
func (w way) parse(a *Adapter) (*upstream.Call, *policy.Refusal) {
	path := w.row.Template
	for _, name := range w.row.Placeholders {
		path = strings.Replace(path, "{"+name+"}", "x", 1)
	}
	// The amount's parameter, its currency's, and the object's are the only ones that a call may lack.
	for range 4 {
		call, refusal := w.call(a, path)
		if refusal == nil || refusal.Param == "" {
			return call, refusal
		}
		f := fieldOfParam(refusal.Param)
		switch f[len(f)-1] {
		case "amount", "value":
			w.params.put(f, 100)
		case "currency":
			w.params.put(f, "usd")
		default:
			w.params.put(f, "x")
		}
	}
	return w.call(a, path)
}

func (w way) call(a *Adapter, path string) (*upstream.Call, *policy.Refusal) {
	switch {
	case w.row.Method == "DELETE":
		return a.Parse(formCall("DELETE", path, w.params.form(), ""), "")
	case w.row.V2():
		body, err := json.Marshal(w.params)
		if err != nil {
			panic(err)
		}
		return a.Parse(jsonCall(path, string(body)), "")
	}
	return a.Parse(formCall("POST", path, "", w.params.form()), "")
}

// branch is a part of a parameter tree: branches, lists of one, and plain values.
type branch map[string]any

// meet puts in what makes a term hold, and nothing that another of those that must hold together wants absent.
func (p branch) meet(row *Row, term Term, together []Term) {
	absent := func(f Field) bool {
		return slices.ContainsFunc(together, func(t Term) bool { return t.Op == Absent && t.Field.Equal(f) })
	}
	switch term.Op {
	case Present:
		p.put(term.Field, someValue(specOf(row.Params, term.Field), term.Field, absent))
	case Equals:
		p.put(term.Field, term.Values[0])
	}
}

func (p branch) put(f Field, value any) {
	if len(f) == 1 {
		p[f[0]] = value
		return
	}
	if f[1] == anyElement {
		inner := branch{}
		if len(f) > 2 {
			inner.put(f[2:], value)
			p[f[0]] = []any{inner}
		} else {
			p[f[0]] = []any{value}
		}
		return
	}
	inner, ok := p[f[0]].(branch)
	if !ok {
		inner = branch{}
	}
	inner.put(f[1:], value)
	p[f[0]] = inner
}

func (p branch) form() string {
	values := url.Values{}
	var walk func(name string, v any)
	walk = func(name string, v any) {
		switch v := v.(type) {
		case branch:
			for k, inner := range v {
				walk(name+"["+k+"]", inner)
			}
		case []any:
			walk(name+"[0]", v[0])
		default:
			values.Set(name, fmt.Sprint(v))
		}
	}
	for k, v := range p {
		walk(k, v)
	}
	return values.Encode()
}

func specOf(spec *ParamSpec, f Field) *ParamSpec {
	for _, name := range f {
		switch {
		case spec == nil:
			return nil
		case name == anyElement:
			spec = spec.Element
		default:
			spec = spec.Members[name]
		}
	}
	return spec
}

// someValue is a value of the kind that a parameter takes.
func someValue(spec *ParamSpec, at Field, absent func(Field) bool) any {
	switch {
	case spec == nil:
		return "x"
	case spec.Type.Has(ArrayType):
		return []any{someValue(spec.Element, append(slices.Clone(at), anyElement), absent)}
	case spec.Type.Has(HashType):
		for _, name := range slices.Sorted(maps.Keys(spec.Members)) {
			if inner := append(slices.Clone(at), name); !absent(inner) {
				return branch{name: someValue(spec.Members[name], inner, absent)}
			}
		}
	case spec.Type.Has(IntegerType), spec.Type.Has(NumberType):
		return 100
	case spec.Type.Has(BoolType):
		return true
	case spec.Type.Has(MapType):
		return branch{"a": "b"}
	}
	return "x"
}

// fieldOfParam reads a parameter as an agent writes it.
func fieldOfParam(param string) Field {
	return strings.Split(strings.ReplaceAll(param, "]", ""), "[")
}
