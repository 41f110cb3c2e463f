package sandbox

import (
	"fmt"
	"strconv"
	"time"
)

// Seeded names what [Server.Seed] made. All amounts are in US dollars.
type Seeded struct {
	Account   string           `json:"account"`
	Customers []SeededCustomer `json:"customers"` // three
	Product   string           `json:"product"`
	Price     string           `json:"price"` // $20.00 a month
	Plan      string           `json:"plan"`  // $20.00 a month
	Payout    string           `json:"payout"`
	// FinancialAccount holds $100,000.00 beside the balance, for payments of API v2.
	FinancialAccount string `json:"financial_account"`
}

// SeededCustomer is a customer with an e-mail address, a card that is the
// default for charges and invoices, and something of everything.
type SeededCustomer struct {
	ID    string `json:"id"`
	Email string `json:"email"`
	Card  string `json:"card"`
	// Charges succeeded, $200.00 each, oldest first: ten for the first two
	// customers, one for the third. The first belongs to PaymentIntent.
	Charges       []string `json:"charges"`
	PaymentIntent string   `json:"payment_intent"`
	Invoice       string   `json:"invoice"` // open, $50.00
	// Graph is the rest of what the first two customers have; the third has none.
	Graph SeededGraph `json:"graph,omitzero"`
}

const (
	seedAmount  = 20_000     // $200.00 per charge
	seedBalance = 10_000_000 // $100,000.00, so that refunds and payouts never lack money
	seedHistory = 10         // days over which the seeded charges lie
)

// Seed fills the account with what "serve --dev" shows and returns the ids. The
// data lies in the days before now and counts as no [Effect]; a second call
// returns the same. Safe for concurrent use.
func (s *Server) Seed() Seeded {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seeded != nil {
		return *s.seeded
	}
	start := s.now().Add(-seedHistory * 24 * time.Hour)
	b := &seeder{s: s.platform, at: start}
	out := Seeded{Account: s.platform.accountID}
	b.call().book(booking{typ: "topup", source: "tu_" + s.random(s.ids, idLength), description: "Seed balance", currency: "usd", amount: seedBalance})
	fa := s.platform.shelf(financialModel).order[0]
	fa.created = start.Unix()
	fa.put("balance", merged(fa.fields["balance"], map[string]any{"available": map[string]any{"usd": money(seedBalance, "usd")}}))
	out.FinancialAccount = fa.id
	out.Product = b.run("POST", "/v1/products", "name=Support plan").(*product).id
	out.Price = b.run("POST", "/v1/prices", "currency=usd&unit_amount=2000&recurring[interval]=month&product="+out.Product).(*price).id
	out.Plan = b.run("POST", "/v1/plans", "currency=usd&amount=2000&interval=month&product="+out.Product).(planView).id
	for i, name := range []string{"Ada Adams", "Ben Brown", "Cleo Clark"} {
		charges := 10
		if i == 2 {
			charges = 1
		}
		out.Customers = append(out.Customers, b.customer(name, i, charges))
	}
	out.Payout = b.run("POST", "/v1/payouts", "amount=50000&currency=usd").(*payout).id
	for i, canary := range []string{"Quetzalcanary", "Xylocanary"} {
		out.Customers[i].Graph = b.graph(out.Customers[i], out.Product, canary)
	}
	s.seeded = &out
	return out
}

// seeder runs the sandbox's own operations, an hour apart.
type seeder struct {
	s  *account
	at time.Time
}

func (b *seeder) call() *call {
	b.at = b.at.Add(time.Hour)
	return &call{s: b.s, p: &node{kind: nodeMap}, at: b.at, now: b.at.Unix(), quiet: true}
}

func (b *seeder) run(method, path, form string) view {
	c := b.call()
	if err := parseForm(form, c.p); err != nil {
		panic(fmt.Sprintf("sandbox: seed %s: %v", path, err)) // our own constant
	}
	c.path = path
	c.op, c.args = b.s.routes.match(method, path)
	v, f := c.op.handler(c)
	if f != nil {
		panic("sandbox: seed " + path + ": " + f.message) // our own constant
	}
	return v
}

func (b *seeder) customer(name string, i, charges int) SeededCustomer {
	email := []string{"ada", "ben", "cleo"}[i] + "@example.com"
	o := b.run("POST", "/v1/customers", "name="+name+"&email="+email+"&source=tok_visa").(*customer)
	o.defaultMethod = o.defaultSource
	out := SeededCustomer{ID: o.id, Email: email, Card: o.defaultSource}
	amount := strconv.Itoa(seedAmount)
	pi := b.run("POST", "/v1/payment_intents", "amount="+amount+"&currency=usd&customer="+o.id+"&payment_method="+o.defaultSource+
		"&confirm=true&description=Order 1").(*paymentIntent)
	out.PaymentIntent = pi.id
	out.Charges = append(out.Charges, pi.latestCharge)
	for n := 2; n <= charges; n++ {
		ch := b.run("POST", "/v1/charges", "amount="+amount+"&currency=usd&customer="+o.id+"&description=Order "+strconv.Itoa(n)).(*charge)
		out.Charges = append(out.Charges, ch.id)
	}
	in := b.run("POST", "/v1/invoices", "customer="+o.id+"&collection_method=send_invoice&days_until_due=30").(*invoice)
	b.run("POST", "/v1/invoiceitems", "customer="+o.id+"&invoice="+in.id+"&amount=5000&currency=usd&description=Consulting")
	b.run("POST", "/v1/invoices/"+in.id+"/finalize", "")
	out.Invoice = in.id
	return out
}
