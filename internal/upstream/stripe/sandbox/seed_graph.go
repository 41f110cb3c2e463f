package sandbox

import "strconv"

// SeededGraph is what a seeded customer has beside charges: one of each kind,
// with the customer's canary in every text.
type SeededGraph struct {
	// Canary is a word that nothing of another customer holds.
	Canary        string `json:"canary"`
	Subscription  string `json:"subscription"` // in a trial that outlasts any test, and canceled at its end
	Schedule      string `json:"schedule"`
	SetupIntent   string `json:"setup_intent"`
	PaidInvoice   string `json:"paid_invoice"` // out of band
	CreditNote    string `json:"credit_note"`
	Quote         string `json:"quote"`
	Session       string `json:"checkout_session"` // expired: it was opened in the past
	TaxID         string `json:"tax_id"`
	PromotionCode string `json:"promotion_code"`
	CreditGrant   string `json:"credit_grant"`
}

// graphTrial is the seeded subscriptions' trial in days, and when their schedules start: until
// then nothing of the seed moves money by itself.
const graphTrial = 700

// graph gives a customer one of everything that moves no money. It comes after
// all else, so that the ids of the rest do not depend on it.
func (b *seeder) graph(o SeededCustomer, product, canary string) SeededGraph {
	g := SeededGraph{Canary: canary}
	tag := "&description=" + canary + "&metadata[canary]=" + canary
	mine := "customer=" + o.ID
	item := func(at string) string {
		return at + "[price_data][currency]=usd&" + at + "[price_data][unit_amount]=2000&" + at + "[price_data][product]=" + product
	}
	sub := b.run("POST", "/v1/subscriptions", mine+tag+"&trial_period_days="+strconv.Itoa(graphTrial)+
		"&trial_settings[end_behavior][missing_payment_method]=cancel&cancel_at_period_end=true&default_payment_method="+o.Card+
		"&"+item("items[0]")+"&items[0][price_data][recurring][interval]=month").(*subscription)
	g.Subscription = sub.id
	g.Schedule = b.run("POST", "/v1/subscription_schedules", mine+"&metadata[canary]="+canary+"&start_date="+
		text(b.at.AddDate(0, 0, graphTrial).Unix())+"&"+item("phases[0][items][0]")+"&phases[0][items][0][price_data][recurring][interval]=year").(*schedule).id
	g.SetupIntent = b.run("POST", "/v1/setup_intents", mine+tag+"&payment_method="+o.Card).(*setupIntent).id
	in := b.run("POST", "/v1/invoices", mine+tag+"&footer="+canary+"&collection_method=send_invoice&days_until_due=30").(*invoice)
	b.run("POST", "/v1/invoiceitems", mine+"&invoice="+in.id+"&amount=1000&currency=usd&description="+canary)
	b.run("POST", "/v1/invoices/"+in.id+"/pay", "paid_out_of_band=true")
	g.PaidInvoice = in.id
	g.CreditNote = b.run("POST", "/v1/credit_notes", "invoice="+in.id+"&amount=100&out_of_band_amount=100&memo="+canary).(*creditNote).id
	g.Quote = b.run("POST", "/v1/quotes", mine+tag+"&header="+canary+"&"+item("line_items[0]")).(*quote).id
	g.Session = b.run("POST", "/v1/checkout/sessions", mine+"&mode=payment&success_url=https://example.com/"+canary+"&client_reference_id="+canary+
		"&"+item("line_items[0]")+"&line_items[0][quantity]=1").(*session).id
	g.TaxID = b.run("POST", "/v1/customers/"+o.ID+"/tax_ids", "type=us_ein&value="+canary).(*taxID).id
	off := b.run("POST", "/v1/coupons", "percent_off=10&duration=once&name="+canary).(*coupon).id
	g.PromotionCode = b.run("POST", "/v1/promotion_codes", mine+"&promotion[type]=coupon&promotion[coupon]="+off+"&code="+canary).(*promotionCode).id
	g.CreditGrant = b.run("POST", "/v1/billing/credit_grants", mine+"&name="+canary+"&amount[type]=monetary&amount[monetary][currency]=usd"+
		"&amount[monetary][value]=500&applicability_config[scope][price_type]=metered").(*creditGrant).id
	for _, amount := range []string{"-500", "500"} {
		b.run("POST", "/v1/customers/"+o.ID+"/balance_transactions", "currency=usd&amount="+amount+"&description="+canary)
	}
	return g
}
