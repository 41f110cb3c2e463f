package gateway_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

// sendsOnPolicy may collect $500 a day and send $5 of it on.
const sendsOnPolicy = `
name: agent-sales-sends-on-test
scopes: {payment_intents: write, quotes: write, subscriptions: write, subscription_schedules: write, invoices: write, invoiceitems: write, transfers: write, checkout.sessions: write, customers: read}
caps:
  - {resource: payment_intents, per: day, usd: 500.00}
  - {resource: quotes, per: day, usd: 500.00}
  - {resource: subscriptions, per: day, usd: 500.00}
  - {resource: invoices, per: day, usd: 500.00}
  - {resource: invoiceitems, per: day, usd: 500.00}
  - {resource: checkout.sessions, per: day, usd: 500.00}
  - {resource: transfers, per: day, usd: 5.00}
customers: any
`

// TestWhatIsSentOnIsCountedHoweverItIsSaid tries to send more on to another account than the cap on transfers has: by
// saying where to in one call, and how much in another.
func TestWhatIsSentOnIsCountedHoweverItIsSaid(t *testing.T) {
	w := newWorld(t)
	w.partial.Store(true)
	own, shop := w.Seeded.Customers[0], w.shop(t)
	type call struct{ method, path, form string }
	for name, calls := range map[string][]call{
		"an intent is raised after it was given a destination": {
			{"POST", "/v1/payment_intents", "amount=400&currency=usd&transfer_data[destination]={acct}"},
			{"POST", "/v1/payment_intents/{id}", "amount=9000"},
			{"POST", "/v1/payment_intents/{id}/confirm", "payment_method=pm_card_visa&return_url=https://a.example"},
		},
		"an authorization is raised after it was given a destination": {
			{"POST", "/v1/payment_intents", "amount=400&currency=usd&capture_method=manual&confirm=true&payment_method=pm_card_visa&payment_method_options[card][request_extended_authorization]=never&transfer_data[destination]={acct}"},
			{"POST", "/v1/payment_intents/{id}/increment_authorization", "amount=9000"},
		},
		"a quote is given a destination": {
			{"POST", "/v1/quotes", "customer=" + own.ID + "&line_items[0][price]={price}&transfer_data[destination]={acct}"},
			{"POST", "/v1/quotes/{id}/finalize", ""},
			{"POST", "/v1/quotes/{id}/accept", ""},
		},
		"a quote is given a destination later": {
			{"POST", "/v1/quotes", "customer=" + own.ID + "&line_items[0][price]={price}"},
			{"POST", "/v1/quotes/{id}", "transfer_data[destination]={acct}"},
			{"POST", "/v1/quotes/{id}/finalize", ""},
			{"POST", "/v1/quotes/{id}/accept", ""},
		},
		"a subscription that runs is given a destination": {
			{"POST", "/v1/subscriptions/" + own.Graph.Subscription, "transfer_data[destination]={acct}"},
		},
		"a schedule that runs is given a destination": {
			{"POST", "/v1/subscription_schedules/" + own.Graph.Schedule, "default_settings[transfer_data][destination]={acct}"},
		},
		"a schedule is made of a subscription with a destination": {
			{"POST", "/v1/subscription_schedules", "from_subscription=" + own.Graph.Subscription + "&default_settings[transfer_data][destination]={acct}"},
		},
		"a draft is given a destination, and lines later": {
			{"POST", "/v1/invoices", "customer=" + own.ID},
			{"POST", "/v1/invoices/{id}", "transfer_data[destination]={acct}"},
			{"POST", "/v1/invoices/{id}/add_lines", "lines[0][amount]=9000&lines[0][description]=a"},
			{"POST", "/v1/invoices/{id}/pay", ""},
		},
		"a session whose lines can change is given a destination": {
			{"POST", "/v1/checkout/sessions", "mode=payment&ui_mode=elements&return_url=https://a.example&line_items[0][price_data][currency]=usd&line_items[0][price_data][product_data][name]=a&line_items[0][price_data][unit_amount]=100&line_items[0][quantity]=1&payment_intent_data[transfer_data][destination]={acct}"},
			{"POST", "/v1/checkout/sessions/{id}", "line_items[0][price_data][currency]=usd&line_items[0][price_data][product_data][name]=a&line_items[0][price_data][unit_amount]=9000&line_items[0][quantity]=1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			key, k := w.key(sendsOnPolicy)
			id, before := "", w.Sandbox.Moved(sandbox.EffectTransfer, time.Time{})["usd"]
			for i, c := range calls {
				fill := strings.NewReplacer("{id}", id, "{acct}", shop, "{price}", w.Seeded.Price)
				r := w.call(key, c.method, fill.Replace(c.path), fill.Replace(c.form))
				t.Logf("%s %s: %d %s", c.path, c.form, r.Status, r.message())
				if r.Status >= 400 {
					if r.reason() == "" && r.errCode() != "" || r.Status == 404 {
						t.Errorf("this proves nothing: %s", r.Raw)
					}
					return // refused, at the latest here
				}
				if id = r.str("id"); i == len(calls)-1 {
					moved := w.Sandbox.Moved(sandbox.EffectTransfer, time.Time{})["usd"] - before
					t.Errorf("all of it passed: %d cents were sent on, %+v is counted", moved, w.account(k.ID, "transfers", policy.PerDay, policy.UnitUSD))
				}
			}
		})
	}
}
