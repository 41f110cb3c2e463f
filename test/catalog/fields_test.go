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
	c := newChecker(t, d)
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

// worstCasesRead is what the bounds in code read of looked-up objects: fields that no table names.
var worstCasesRead = map[string]string{
	"GET /v1/prices/{price}": "currency billing_scheme unit_amount unit_amount_decimal tiers_mode tiers[].up_to tiers[].unit_amount " +
		"tiers[].unit_amount_decimal tiers[].flat_amount tiers[].flat_amount_decimal custom_unit_amount.maximum transform_quantity.divide_by " +
		"recurring.interval recurring.interval_count recurring.usage_type",
	"GET /v1/tax_rates/{tax_rate}":                            "inclusive percentage rate_type",
	"GET /v1/shipping_rates/{shipping_rate_token}":            "fixed_amount.amount fixed_amount.currency",
	"GET /v1/subscriptions/{subscription_exposed_id}":         "automatic_tax.enabled default_tax_rates[].inclusive items.has_more items.data[].id items.data[].price.id items.data[].quantity items.data[].tax_rates[].inclusive",
	"GET /v1/subscription_items/{item}":                       "id price.id quantity tax_rates[].inclusive subscription",
	"GET /v1/invoiceitems/{invoiceitem}":                      "amount currency",
	"GET /v1/invoices/{invoice}/lines":                        "data[].id data[].amount data[].currency",
	"GET /v1/climate/products/{product}":                      "current_prices_per_metric_ton",
	"GET /v1/issuing/cards/{card}":                            "currency spending_controls.spending_limits[].amount spending_controls.spending_limits[].interval spending_controls.spending_limits[].categories spending_controls.spending_limits_currency",
	"GET /v1/issuing/cardholders/{cardholder}":                "spending_controls.spending_limits[].amount spending_controls.spending_limits_currency",
	"GET /v1/treasury/financial_accounts/{financial_account}": "balance.cash balance.inbound_pending balance.outbound_pending",
	"GET /v1/invoices/{invoice}":                              "amount_due currency",
}

func TestEveryFieldThatAWorstCaseReadsExists(t *testing.T) {
	d, _ := load(t)
	c := newChecker(t, d)
	for route, fields := range worstCasesRead {
		method, path, _ := strings.Cut(route, " ")
		op := c.byShape[method+" "+shape(path)]
		if op == nil {
			t.Errorf("%s is not in the document", route)
			continue
		}
		c.row, c.call = &stripe.Row{Name: "worst case"}, route
		for name := range strings.FieldsSeq(fields) {
			f, err := stripe.ParseField(name)
			if err != nil {
				t.Fatal(err)
			}
			c.field(f, op, nil)
		}
	}
}

func newChecker(t *testing.T, d *openapi.Document) *checker {
	a, err := stripe.New()
	if err != nil {
		t.Fatal(err)
	}
	c := &checker{t: t, doc: d, catalog: a.Catalog(), byShape: map[string]*openapi.Operation{}}
	d.Each(func(method, path string, op *openapi.Operation) { c.byShape[method+" "+shape(path)] = op })
	return c
}

type checker struct {
	t       *testing.T
	catalog *stripe.Catalog
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
		case stripe.FromPreview:
			rule := c.catalog.Preview(s.Name)
			if read := c.read(rule.Ref); read != nil {
				c.field(s.Field, read, nil)
				c.field(stripe.Field{"currency"}, read, nil)
			}
			for _, p := range rule.Send {
				c.sources([]stripe.Source{p.Source}, op)
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
		c.condition(stripe.Condition{Terms: term.And}, op)
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
