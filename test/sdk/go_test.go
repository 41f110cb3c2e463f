package sdk

import (
	"testing"

	"github.com/stripe/stripe-go/v85"
)

const fullPolicy = `
name: agent-test-everything-sdk
scopes: {charges: read, payment_intents: write, refunds: write}
caps:
  - {resource: payment_intents, per: day, usd: 1000.00}
  - {resource: refunds, per: day, usd: 30.00}
customers: any
`

// client is the SDK as an agent would make it.
func (d *dev) client(key string) *stripe.Client {
	backends := stripe.NewBackendsWithConfig(&stripe.BackendConfig{
		URL: stripe.String(d.Front.URL), LeveledLogger: &stripe.LeveledLogger{},
	})
	return stripe.NewClient(key, stripe.WithBackends(backends))
}

func TestStripeGoCreatesListsRefundsAndRetries(t *testing.T) {
	d := serveDev(t)
	ctx := t.Context()
	c := d.client(d.key(fullPolicy))

	intent, err := c.V1PaymentIntents.Create(ctx, &stripe.PaymentIntentCreateParams{
		Amount: stripe.Int64(2500), Currency: stripe.String("usd"), Customer: stripe.String(d.Listed[0]),
		PaymentMethod: stripe.String("pm_card_visa"), Confirm: stripe.Bool(true), OffSession: stripe.Bool(true),
	})
	if err != nil || intent.Status != "succeeded" {
		t.Fatalf("create: %+v %v", intent, err)
	}
	if intent.ClientSecret != "" {
		t.Error("the client secret came through")
	}

	var pages, charges int
	before, _ := d.counts()
	params := &stripe.ChargeListParams{Customer: stripe.String(d.Listed[0])}
	params.Limit = stripe.Int64(4)
	for charge, err := range c.V1Charges.List(ctx, params).All(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if charge.Customer.ID != d.Listed[0] {
			t.Errorf("a charge of %s", charge.Customer.ID)
		}
		charges++
	}
	after, _ := d.counts()
	if pages = after - before; charges < 11 || pages < 3 {
		t.Errorf("%d charges on %d pages", charges, pages)
	}

	refund := &stripe.RefundCreateParams{PaymentIntent: stripe.String(intent.ID), Amount: stripe.Int64(1000)}
	refund.SetIdempotencyKey("refund-1")
	first, err := c.V1Refunds.Create(ctx, refund)
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.V1Refunds.Create(ctx, refund)
	if err != nil || again.ID != first.ID {
		t.Errorf("a retry made %+v, %v", again, err)
	}
	if n, total := d.refunds(); n != 1 || total != 1000 {
		t.Errorf("%d refunds of %d happened", n, total)
	}
}
