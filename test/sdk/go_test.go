package sdk

import (
	"errors"
	"net/http"
	"testing"

	"github.com/stripe/stripe-go/v85"
)

const fullPolicy = `
name: agent-test-everything-sdk
scopes: {charges: read, payment_intents: write, customers: read, refunds: write, products: write}
caps:
  - {resource: payment_intents, per: day, usd: 1000.00}
  - {resource: refunds, per: day, usd: 30.00}
params:
  products.create: {name: {pattern: "shirt.*"}}
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
	if pages = int(after - before); charges < 11 || pages < 3 {
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

func TestStripeGoRaisesEveryDenialOnceAndNeverRetries(t *testing.T) {
	d := serveDev(t)
	ctx := t.Context()
	full, listed := d.client(d.key(fullPolicy)), d.client(d.Keys[0])
	var own, foreign string
	for customer, to := range map[string]*string{d.Listed[0]: &own, d.other(): &foreign} {
		params := &stripe.ChargeListParams{Customer: stripe.String(customer)}
		params.Limit = stripe.Int64(1)
		for charge, err := range d.client(d.Keys[1]).V1Charges.List(ctx, params).All(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			*to = charge.ID
			break
		}
	}
	refundOf := func(c *stripe.Client, charge string, amount int64) error {
		_, err := c.V1Refunds.Create(ctx, &stripe.RefundCreateParams{Charge: stripe.String(charge), Amount: stripe.Int64(amount)})
		return err
	}
	for name, c := range map[string]struct {
		call     func() error
		status   int
		code     stripe.ErrorCode
		lookups  int64 // that the gateway made to decide
		upstream bool
	}{
		"an unknown key": {func() error {
			return refundOf(d.client("vault_key_test_0000000000000000000000000000000"), own, 100)
		}, 401, "keybrake_key_invalid", 0, false},
		"out of scope": {func() error {
			_, err := full.V1Subscriptions.Retrieve(ctx, "sub_1", nil)
			return err
		}, 401, "keybrake_scope_denied", 0, false},
		"over the cap":              {func() error { return refundOf(full, own, 3001) }, 403, "keybrake_cap_exceeded", 1, false},
		"another customer's charge": {func() error { return refundOf(listed, foreign, 100) }, 403, "keybrake_customer_denied", 1, false},
		"a list without its filter": {func() error {
			for _, err := range listed.V1Charges.List(ctx, nil).All(ctx) {
				return err
			}
			return nil
		}, 403, "keybrake_customer_denied", 0, false},
		"a parameter rule": {func() error {
			_, err := full.V1Products.Create(ctx, &stripe.ProductCreateParams{Name: stripe.String("hat")})
			return err
		}, 403, "keybrake_param_denied", 0, false},
		"a malformed amount": {func() error { return refundOf(full, own, -5) }, 400, "keybrake_request_malformed", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			gateway, upstream := d.counts()
			err := c.call()
			gatewayAfter, upstreamAfter := d.counts()
			var se *stripe.Error
			if !errors.As(err, &se) {
				t.Fatalf("not the SDK's own error: %T %v", err, err)
			}
			if se.HTTPStatusCode != c.status || se.Code != c.code || se.Type != stripe.ErrorTypeInvalidRequest || se.RequestID == "" {
				t.Errorf("%+v", se)
			}
			if n := gatewayAfter - gateway; n != 1 {
				t.Errorf("%d calls reached the gateway: a denial was retried", n)
			}
			if n := upstreamAfter - upstream; n > c.lookups {
				t.Errorf("%d calls reached Stripe", n)
			}
		})
	}
	if n, _ := d.refunds(); n != 0 {
		t.Errorf("%d refunds happened", n)
	}
}

// other is a customer of the sandbox that the first key may not see.
func (d *dev) other() string {
	d.t.Helper()
	resp, err := http.Post(d.ready.Sandbox+"/_sandbox/seed", "application/json", nil)
	if err != nil {
		d.t.Fatal(err)
	}
	var seeded struct {
		Customers []struct{ ID string }
	}
	d.decode(resp, &seeded)
	for _, c := range seeded.Customers {
		if c.ID != d.Listed[0] && c.ID != d.Listed[1] {
			return c.ID
		}
	}
	d.t.Fatal("no third customer")
	return ""
}
