package catalog

import (
	"testing"

	"github.com/keybrake/keybrake/internal/upstream/stripe"
)

// TestEveryLastWordExists holds finals.csv against the answers of the routes that it reads.
func TestEveryLastWordExists(t *testing.T) {
	d, _ := load(t)
	c := newChecker(t, d)
	words := 0
	for kind, list := range c.catalog.LastWords() {
		for _, w := range list {
			words++
			op := c.byShape[w.Ref.Method+" "+shape(w.Ref.Template)]
			if op == nil {
				t.Errorf("%s: %s is not in the document", kind, w.Ref.Template)
				continue
			}
			c.row, c.call = &stripe.Row{Name: "finals.csv"}, kind
			c.condition(w.When, op)
			c.field(stripe.Field{"currency"}, op, nil)
			if len(w.Amount) > 0 {
				c.field(w.Amount, op, nil)
			}
		}
	}
	if words < 10 {
		t.Errorf("%d last words", words)
	}
}

// TestEveryEventThatIsFollowedExists: Stripe ignores a type that it does not know, and nothing would be learned.
func TestEveryEventThatIsFollowedExists(t *testing.T) {
	d, _ := load(t)
	known := map[any]bool{}
	for _, name := range d.Resolve(d.Paths["/v1/webhook_endpoints"]["post"].Request().Properties["enabled_events"]).Items.Enum {
		known[name] = true
	}
	types := stripe.ChangeTypes()
	if len(types) > 20 {
		t.Errorf("%d types of events: Stripe filters by twenty at most", len(types))
	}
	for _, name := range types {
		if !known[name] {
			t.Errorf("the document knows no event %s", name)
		}
	}
}
