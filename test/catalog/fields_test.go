package catalog

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/upstream/stripe"
	"github.com/keybrake/keybrake/test/openapi"
)

// TestEveryFieldThatARuleReadsExists holds the fields and status values of money and customer rules against
// the answers of the operation, or of the route that a look-up reads.
func TestEveryFieldThatARuleReadsExists(t *testing.T) {
	d, rows := load(t)
	c := &checker{t: t, doc: d, byShape: map[string]*openapi.Operation{}}
	d.Each(func(method, path string, op *openapi.Operation) { c.byShape[method+" "+shape(path)] = op })
	checked := 0
	for call, row := range rows {
		op := c.byShape[row.Method+" "+shape(row.Template)]
		if op == nil || row.Witness != "openapi" {
			continue
		}
		checked++
		c.row, c.call = row, call
		for _, e := range row.Money.Effects {
			c.effect(e, op)
		}
		if f := row.Money.Final; f != nil {
			c.condition(f.When, op)
			c.sources(f.Amount, op)
		}
		for _, chain := range row.Customer.Chains {
			c.chain(chain)
		}
		for _, check := range row.Customer.Checks {
			for _, chain := range check.Chains {
				c.chain(chain.Chain)
			}
		}
	}
	if checked != documented {
		t.Errorf("%d rows were checked, not %d", checked, documented)
	}
}

type checker struct {
	t       *testing.T
	doc     *openapi.Document
	byShape map[string]*openapi.Operation
	row     *stripe.Row
	call    string
}

// shape is a path with its placeholders unnamed: rules name an id as the request does.
func shape(path string) string {
	segs := strings.Split(path, "/")
	for i, s := range segs {
		if strings.HasPrefix(s, "{") {
			segs[i] = "{}"
		}
	}
	return strings.Join(segs, "/")
}

func (c *checker) effect(e *stripe.EffectRule, op *openapi.Operation) {
	for _, list := range [][]stripe.Source{e.Amount, e.Absent, e.Floor, e.Base, e.Currency, e.Ceiling, e.Settle} {
		c.sources(list, op)
	}
	for _, cond := range []stripe.Condition{e.CountsWhen, e.PendingWhen, e.NothingWhen} {
		c.condition(cond, op)
	}
	for _, f := range e.CurrencyField {
		c.field(f, op, nil)
	}
	if e.ObjectField != nil {
		c.field(e.ObjectField, op, nil)
	}
}

func (c *checker) sources(list []stripe.Source, op *openapi.Operation) {
	for _, s := range list {
		switch s.Kind {
		case stripe.FromLookup:
			if read := c.read(s.Ref); read != nil {
				c.field(s.Field, read, nil)
				if s.Minus != nil {
					c.field(s.Minus, read, nil)
				}
			}
		case stripe.FromResponse, stripe.FromResponseAbs:
			c.field(s.Field, op, nil)
		}
	}
}

func (c *checker) chain(chain stripe.Chain) {
	for _, step := range chain {
		if read := c.read(step.Ref); read != nil {
			c.field(step.Field, read, nil)
		}
	}
}

// read returns the operation behind a look-up. One outside the document (v2) is not judged here.
func (c *checker) read(ref stripe.LookupRef) *openapi.Operation {
	op := c.byShape[ref.Method+" "+shape(ref.Template)]
	if op == nil && strings.HasPrefix(ref.Template, "/v1/") {
		c.t.Errorf("%s looks up %s %s, which is not in the document", c.row.Name, ref.Method, ref.Template)
	}
	return op
}

func (c *checker) condition(cond stripe.Condition, op *openapi.Operation) {
	for _, term := range cond.Terms {
		if !slices.Contains(term.Values, "base") { // the base look-up's value
			c.field(term.Field, op, term.Values)
		}
	}
}

// field looks for a field, and for values in its enumeration, in an operation's answer.
func (c *checker) field(f stripe.Field, op *openapi.Operation, values []string) {
	found := c.find(op.Answer(), f)
	if len(found) == 0 {
		c.t.Errorf("%s (%s): no answer has the field %s", c.row.Name, c.call, f)
		return
	}
	for _, v := range values {
		ok := false
		for _, s := range found {
			for _, e := range s.Enum {
				ok = ok || fmt.Sprint(e) == v
			}
			// Where the document has no closed list (a status of refunds, a boolean) any word may come.
			ok = ok || len(s.Enum) == 0
		}
		if !ok {
			c.t.Errorf("%s (%s): the field %s is never %q", c.row.Name, c.call, f, v)
		}
	}
}

// find collects the schemas that a field can have, through references, alternatives and arrays.
func (c *checker) find(s *openapi.Schema, f stripe.Field) []*openapi.Schema {
	s = c.doc.Resolve(s)
	if s == nil {
		return nil
	}
	if len(s.AnyOf) > 0 {
		var out []*openapi.Schema
		for _, alt := range s.AnyOf {
			out = append(out, c.find(alt, f)...)
		}
		return out
	}
	switch {
	case len(f) == 0:
		return []*openapi.Schema{s}
	case f[0] == "[]":
		if s.Items == nil {
			return nil
		}
		return c.find(s.Items, f[1:])
	case s.Properties[f[0]] != nil:
		return c.find(s.Properties[f[0]], f[1:])
	}
	return nil
}
