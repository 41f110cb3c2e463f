package sandbox

import "time"

// quoteLife is how long a quote can be accepted if it does not say.
const quoteLife = 30 * 24 * time.Hour

// quote offers a customer something; accepted, it becomes an invoice, a
// subscription or a schedule.
type quote struct {
	head
	customer, clock             string
	status, number              string
	collection                  string
	daysDue                     int64
	cart                        cart
	description, header, footer string
	expires                     int64
	trialDays, effective        int64
	subDescription, mode        string
	subMetadata                 pairs
	split                       split
	sharing                     // of a quote with nothing that recurs
	from                        string
	revision                    bool
	invoice, subscription       string
	schedule                    string
	finalizedAt, acceptedAt     int64
	canceledAt                  int64
}

func (o *quote) links() []string {
	if o.customer == "" {
		return nil
	}
	return []string{"customer=" + o.customer}
}

// upfront reports what of a quote is paid when it is accepted: in a trial nothing that recurs.
func (o *quote) upfront(it *cartItem) bool { return o.trialDays == 0 || !it.recurs() }

func (o *quote) render(e *enc, x *expansion) {
	c := &call{s: e.s, now: o.created}
	all := o.cart.reckon(c, nil)
	e.open()
	e.str("id", o.id)
	e.str("object", "quote")
	e.int("amount_subtotal", all.subtotal)
	e.int("amount_total", all.total)
	e.null("application")
	o.renderFee(e)
	e.raw("application_fee_percent", decimal(o.split.fee))
	e.constant(`"automatic_tax":{"enabled":false,"liability":null,"provider":null,"status":null}`)
	e.str("collection_method", o.collection)
	o.renderComputed(e, x)
	e.int("created", o.created)
	e.opt("currency", o.cart.currency)
	e.ref("customer", o.customer, x)
	e.null("customer_account")
	var rates []string
	for _, r := range o.cart.rates {
		rates = append(rates, r.id)
	}
	e.refs("default_tax_rates", rates, x)
	e.opt("description", o.description)
	e.renderDiscounts(o.cart.discounts, x)
	e.int("expires_at", o.expires)
	e.opt("footer", o.footer)
	if o.from != "" {
		e.key("from_quote")
		e.open()
		e.bool("is_revision", o.revision)
		e.ref("quote", o.from, x.child("from_quote"))
		e.close()
	} else {
		e.null("from_quote")
	}
	e.opt("header", o.header)
	e.ref("invoice", o.invoice, x)
	e.key("invoice_settings")
	e.open()
	e.null("custom_fields")
	e.optInt("days_until_due", o.daysDue)
	e.constant(`"description":null,"footer":null,"issuer":{"type":"self"}`)
	e.close()
	if sub := x.child("line_items"); sub != nil {
		e.key("line_items")
		o.cart.list("/v1/quotes/"+o.id+"/line_items", nil).shown().render(e, sub)
	}
	e.bool("livemode", e.s.live())
	e.metadata(o.md)
	e.opt("number", o.number)
	e.ref("on_behalf_of", o.terms().onBehalfOf, x)
	e.str("status", o.status)
	e.key("status_transitions")
	e.open()
	e.optInt("accepted_at", o.acceptedAt)
	e.optInt("canceled_at", o.canceledAt)
	e.optInt("finalized_at", o.finalizedAt)
	e.close()
	o.renderTail(e, x, &all)
}

func (o *quote) renderTail(e *enc, x *expansion, all *bill) {
	e.ref("subscription", o.subscription, x)
	e.key("subscription_data")
	e.open()
	e.raw("billing_mode", `{"type":"`+o.mode+`"}`)
	e.opt("description", o.subDescription)
	e.optInt("effective_date", o.effective)
	e.metadata(o.subMetadata)
	e.optInt("trial_period_days", o.trialDays)
	e.close()
	e.ref("subscription_schedule", o.schedule, x)
	if o.customer != "" {
		e.renderClock(o.customer, x)
	} else {
		e.ref("test_clock", o.clock, x)
	}
	all.renderTotals(e, x)
	o.renderDestination(e, x)
	e.close()
}

// terms are how a quote's payments are shared, recurring or not.
func (o *quote) terms() sharing {
	if o.cart.recurring().unit != "" {
		return o.split.of(0)
	}
	return o.sharing
}

func (o *quote) renderDestination(e *enc, x *expansion) {
	to := o.terms().destination
	if to == "" {
		e.null("transfer_data")
		return
	}
	e.key("transfer_data")
	e.open()
	if o.hasShare {
		e.int("amount", o.share)
	} else {
		e.null("amount")
	}
	e.raw("amount_percent", decimal(o.split.percent))
	e.ref("destination", to, x.child("transfer_data"))
	e.close()
}

func (o *quote) renderComputed(e *enc, x *expansion) {
	sub := x.child("computed")
	c := &call{s: e.s, now: o.created}
	e.key("computed")
	e.open()
	if period := o.cart.recurring(); period.unit != "" {
		recurring := o.cart.reckon(c, recurringItem)
		e.key("recurring")
		e.open()
		e.int("amount_subtotal", recurring.subtotal)
		e.int("amount_total", recurring.total)
		e.cadence(period)
		recurring.renderTotals(e, sub.child("recurring"))
		e.close()
	} else {
		e.null("recurring")
	}
	upfront := o.cart.reckon(c, o.upfront)
	e.key("upfront")
	e.open()
	e.int("amount_subtotal", upfront.subtotal)
	e.int("amount_total", upfront.total)
	if items := sub.child("upfront").child("line_items"); items != nil {
		e.key("line_items")
		o.cart.list("/v1/quotes/"+o.id+"/computed_upfront_line_items", o.upfront).shown().render(e, items)
	}
	upfront.renderTotals(e, sub.child("upfront"))
	e.close()
	e.close()
}

var quoteRoutes = []*operation{
	get("/v1/quotes", "quotes", "list:quote", func(c *call) (view, *stripeError) {
		link := ""
		if id := c.str("customer"); id != "" {
			link = "customer=" + id
		}
		return c.s.quotes.page(c, link, func(o *quote) bool {
			return (!c.set("status") || o.status == c.str("status")) && (!c.set("test_clock") || o.clock == c.str("test_clock"))
		})
	}),
	post("/v1/quotes", "quotes", "quote", createQuote),
	get("/v1/quotes/{quote}", "quotes", "quote", func(c *call) (view, *stripeError) {
		return asView(c.s.quotes.get(c.args[0], "id"))
	}),
	post("/v1/quotes/{quote}", "quotes", "quote", updateQuote),
	get("/v1/quotes/{quote}/line_items", "quotes", "list:item", func(c *call) (view, *stripeError) {
		return c.quoteItems(func(*quote) func(*cartItem) bool { return nil })
	}),
	get("/v1/quotes/{quote}/computed_upfront_line_items", "quotes", "list:item", func(c *call) (view, *stripeError) {
		return c.quoteItems(func(o *quote) func(*cartItem) bool { return o.upfront })
	}),
	post("/v1/quotes/{quote}/finalize", "quotes", "quote", finalizeQuote),
	post("/v1/quotes/{quote}/accept", "quotes", "quote", acceptQuote),
	post("/v1/quotes/{quote}/cancel", "quotes", "quote", func(c *call) (view, *stripeError) {
		o, f := c.quoteIn("draft", "open")
		if f != nil {
			return nil, f
		}
		c.cancelQuote(o)
		return o, nil
	}),
}

func (c *call) quoteItems(which func(*quote) func(*cartItem) bool) (view, *stripeError) {
	o, f := c.s.quotes.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	o.cart.reckon(c, nil)
	return pageOf(c, o.cart.list(c.url(), which(o)), "item")
}

// quoteIn is the quote that the path names, in one of some statuses.
func (c *call) quoteIn(statuses ...string) (*quote, *stripeError) {
	o, f := c.s.quotes.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	c.on(o.customer)
	for _, s := range statuses {
		if o.status == s {
			return o, nil
		}
	}
	return nil, errInvalid("", "", "This quote's status is "+o.status+"; it must be "+orList(statuses)+".")
}

func (c *call) cancelQuote(o *quote) {
	o.status, o.canceledAt = "canceled", c.now
	c.emit("quote.canceled", o)
}
