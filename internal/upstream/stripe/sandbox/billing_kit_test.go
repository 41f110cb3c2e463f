package sandbox_test

import (
	"fmt"
	"strings"
)

// biller is a customer on a test clock, with prices to subscribe to.
type biller struct {
	*rig
	clock, customer, card   string
	product                 string
	basic, plus, year, once string // $20 and $50 a month, $200 a year, $7 once
}

// newBiller starts on 1 June 2026, when a month has 30 days.
func newBiller(r *rig, card string) *biller {
	b := &biller{rig: r}
	b.clock = r.ok("POST", "/v1/test_helpers/test_clocks", fmt.Sprintf("frozen_time=%d", r.clock.now().Unix())).str("id")
	b.customer = r.ok("POST", "/v1/customers", "test_clock="+b.clock+"&email=biller@example.com").str("id")
	if card != "" {
		b.card = r.ok("POST", "/v1/payment_methods", "type=card&card[token]=tok_"+card).str("id")
		r.ok("POST", "/v1/payment_methods/"+b.card+"/attach", "customer="+b.customer)
		r.ok("POST", "/v1/customers/"+b.customer, "invoice_settings[default_payment_method]="+b.card)
	}
	b.product = r.ok("POST", "/v1/products", "name=Plan").str("id")
	b.basic = b.price("unit_amount=2000&recurring[interval]=month")
	b.plus = b.price("unit_amount=5000&recurring[interval]=month")
	b.year = b.price("unit_amount=20000&recurring[interval]=year")
	b.once = b.price("unit_amount=700")
	return b
}

func (b *biller) price(form string) string {
	return b.ok("POST", "/v1/prices", "currency=usd&product="+b.product+"&"+form).str("id")
}

// subscribe starts a subscription to one price.
func (b *biller) subscribe(price, more string) *reply {
	b.t.Helper()
	return b.ok("POST", "/v1/subscriptions", strings.TrimSuffix("customer="+b.customer+"&items[0][price]="+price+"&"+more, "&"))
}

// pass moves the clock by days, and by seconds.
func (b *biller) pass(days, seconds int64) {
	b.t.Helper()
	now := b.now()
	b.ok("POST", "/v1/test_helpers/test_clocks/"+b.clock+"/advance", fmt.Sprintf("frozen_time=%d", now+days*86400+seconds))
}

func (b *biller) now() int64 {
	b.t.Helper()
	return b.ok("GET", "/v1/test_helpers/test_clocks/"+b.clock, "").num("frozen_time")
}

// invoice is the newest invoice of a subscription.
func (b *biller) invoice(sub string) *reply {
	b.t.Helper()
	list := b.ok("GET", "/v1/invoices?limit=1&subscription="+sub, "")
	return b.ok("GET", "/v1/invoices/"+list.ids()[0], "")
}

func (b *biller) get(kind, id string) *reply {
	b.t.Helper()
	return b.ok("GET", "/v1/"+kind+"/"+id, "")
}
