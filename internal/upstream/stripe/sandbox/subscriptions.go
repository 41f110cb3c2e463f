package sandbox

import "slices"

type subscription struct {
	head
	customer, currency, description string
	status, collection              string
	items                           []*subItem
	daysDue                         int64
	method, source                  string
	split                           split
	discounts                       []*discount
	rates                           []*taxRate
	invoiceSettings                 string // JSON
	paymentSettings                 string // JSON
	pendingInterval                 string // JSON
	mode                            string // billing_mode
	anchor, startDate               int64
	start, stop                     int64 // the current period
	trialStart, trialEnd            int64
	withoutMethod                   string // what a trial's end does when there is nothing to pay with
	atPeriodEnd                     bool
	cancelAt, canceledAt, endedAt   int64
	cancelReason, feedback, comment string
	pause                           string // what becomes of invoices while collection pauses
	resumes                         int64
	latest, schedule                string
	pending                         *pendingChange
}

// The statuses of a subscription.
const (
	subActive     = "active"
	subCanceled   = "canceled"
	subIncomplete = "incomplete"
	subExpired    = "incomplete_expired"
	subPastDue    = "past_due"
	subPaused     = "paused"
	subTrialing   = "trialing"
)

// incompleteLife is how long Stripe waits for the first payment.
const incompleteLife = 23 * 3600

func (o *subscription) links() []string {
	keys := []string{"customer=" + o.customer}
	for _, it := range o.items {
		keys = append(keys, "price="+it.price.id)
	}
	return keys
}

// ended reports that nothing will happen to it any more.
func (o *subscription) ended() bool { return o.status == subCanceled || o.status == subExpired }

// runs reports that its periods go on.
func (o *subscription) runs() bool {
	return o.status == subActive || o.status == subTrialing || o.status == subPastDue
}

func (o *subscription) period() cadence { return o.items[0].price.period }

func (o *subscription) render(e *enc, x *expansion) {
	e.open()
	e.str("id", o.id)
	e.constant(`"object":"subscription","application":null,"automatic_tax":{"disabled_reason":null,"enabled":false,"liability":null}`)
	e.int("billing_cycle_anchor", o.anchor)
	e.null("billing_cycle_anchor_config")
	e.key("billing_mode")
	e.open()
	if o.mode == "flexible" {
		e.constant(`"flexible":{"proration_discounts":"included"}`)
	} else {
		e.null("flexible")
	}
	e.str("type", o.mode)
	e.close()
	e.constant(`"billing_schedules":[],"billing_thresholds":null`)
	e.optInt("cancel_at", o.cancelAt)
	e.bool("cancel_at_period_end", o.atPeriodEnd)
	e.optInt("canceled_at", o.canceledAt)
	e.key("cancellation_details")
	e.open()
	e.opt("comment", o.comment)
	e.opt("feedback", o.feedback)
	e.opt("reason", o.cancelReason)
	e.close()
	e.str("collection_method", o.collection)
	e.int("created", o.created)
	e.str("currency", o.currency)
	e.ref("customer", o.customer, x)
	e.null("customer_account")
	e.optInt("days_until_due", o.daysDue)
	e.ref("default_payment_method", o.method, x)
	e.ref("default_source", o.source, x)
	e.renderRates("default_tax_rates", o.rates)
	e.opt("description", o.description)
	e.renderDiscounts(o.discounts, x)
	e.optInt("ended_at", o.endedAt)
	e.raw("invoice_settings", settingsOr(o.invoiceSettings, `{"account_tax_ids":null,"custom_fields":null,"description":null,"footer":null,"issuer":{"type":"self"}}`))
	e.key("items")
	o.itemList().render(e, x.child("items"))
	e.ref("latest_invoice", o.latest, x)
	e.bool("livemode", e.s.live())
	e.metadata(o.md)
	e.null("next_pending_invoice_item_invoice")
	o.split.render(e, x)
	o.renderPause(e)
	e.raw("payment_settings", settingsOr(o.paymentSettings, `{"payment_method_options":null,"payment_method_types":null,"save_default_payment_method":"off"}`))
	e.raw("pending_invoice_item_interval", o.pendingInterval)
	e.null("pending_setup_intent")
	o.renderPending(e, x)
	e.ref("schedule", o.schedule, x)
	e.int("start_date", o.startDate)
	e.str("status", o.status)
	e.renderClock(o.customer, x)
	e.optInt("trial_end", o.trialEnd)
	e.key("trial_settings")
	e.open()
	e.key("end_behavior")
	e.open()
	e.str("missing_payment_method", o.withoutMethod)
	e.close()
	e.close()
	e.optInt("trial_start", o.trialStart)
	e.close()
}

// settingsOr is what the caller set, with what is always answered beside it.
func settingsOr(set, all string) string {
	if set == "" {
		return all
	}
	return overlay(all, set)
}

func (o *subscription) renderPause(e *enc) {
	if o.pause == "" {
		e.null("pause_collection")
		return
	}
	e.key("pause_collection")
	e.open()
	e.str("behavior", o.pause)
	e.optInt("resumes_at", o.resumes)
	e.close()
}

func (o *subscription) itemList() *listView {
	list := &listView{url: "/v1/subscription_items?subscription=" + o.id}
	for _, it := range o.items {
		list.data = append(list.data, it)
	}
	return list
}

var subscriptionRoutes = []*operation{
	get("/v1/subscriptions", "subscriptions", "list:subscription", func(c *call) (view, *stripeError) { return listSubscriptions(c, c.str("customer")) }),
	post("/v1/subscriptions", "subscriptions", "subscription", func(c *call) (view, *stripeError) {
		return asView(c.subscribe(c.str("customer"), "customer"))
	}),
	get("/v1/subscriptions/{subscription_exposed_id}", "subscriptions", "subscription", func(c *call) (view, *stripeError) {
		return asView(c.s.subscriptions.get(c.args[0], "id"))
	}),
	post("/v1/subscriptions/{subscription_exposed_id}", "subscriptions", "subscription", func(c *call) (view, *stripeError) {
		return updateSubscription(c, c.args[0], "")
	}),
	remove("/v1/subscriptions/{subscription_exposed_id}", "subscriptions", func(c *call) (view, *stripeError) {
		return cancelSubscription(c, c.args[0], "")
	}),
	remove("/v1/subscriptions/{subscription_exposed_id}/discount", "subscriptions.discount", func(c *call) (view, *stripeError) {
		return c.dropDiscount(c.args[0], "")
	}),
	post("/v1/subscriptions/{subscription}/resume", "subscriptions", "subscription", resumeSubscription),
	post("/v1/subscriptions/{id}/pause", "subscriptions", "subscription", pauseSubscription),
	post("/v1/subscriptions/{subscription}/migrate", "subscriptions", "subscription", func(c *call) (view, *stripeError) {
		sub, f := c.liveSubscription(c.args[0], "")
		if f != nil {
			return nil, f
		}
		sub.mode = c.sub("billing_mode", "type").text()
		c.emit("customer.subscription.updated", sub)
		return sub, nil
	}),
	get("/v1/customers/{customer}/subscriptions", "subscriptions", "list:subscription", func(c *call) (view, *stripeError) {
		if _, f := c.s.customers.get(c.args[0], "id"); f != nil {
			return nil, f
		}
		return listSubscriptions(c, c.args[0])
	}),
	post("/v1/customers/{customer}/subscriptions", "subscriptions", "subscription", func(c *call) (view, *stripeError) {
		return asView(c.subscribe(c.args[0], "id"))
	}),
	get("/v1/customers/{customer}/subscriptions/{subscription_exposed_id}", "subscriptions", "subscription", func(c *call) (view, *stripeError) {
		return asView(c.subscriptionOf(c.args[1], c.args[0]))
	}),
	post("/v1/customers/{customer}/subscriptions/{subscription_exposed_id}", "subscriptions", "subscription", func(c *call) (view, *stripeError) {
		return updateSubscription(c, c.args[1], c.args[0])
	}),
	remove("/v1/customers/{customer}/subscriptions/{subscription_exposed_id}", "subscriptions", func(c *call) (view, *stripeError) {
		return cancelSubscription(c, c.args[1], c.args[0])
	}),
	get("/v1/customers/{customer}/subscriptions/{subscription_exposed_id}/discount", "subscriptions.discount", "discount", func(c *call) (view, *stripeError) {
		sub, f := c.subscriptionOf(c.args[1], c.args[0])
		if f != nil {
			return nil, f
		}
		if len(sub.discounts) == 0 {
			return nil, errMissing("discount", sub.id, "id")
		}
		return sub.discounts[0], nil
	}),
	remove("/v1/customers/{customer}/subscriptions/{subscription_exposed_id}/discount", "subscriptions.discount", func(c *call) (view, *stripeError) {
		return c.dropDiscount(c.args[1], c.args[0])
	}),
}

// subscriptionOf finds a subscription, of one customer where that is named.
func (c *call) subscriptionOf(id, customer string) (*subscription, *stripeError) {
	sub, f := c.s.subscriptions.get(id, "id")
	if f != nil || customer != "" && sub.customer != customer {
		return nil, errMissing("subscription", id, "id")
	}
	c.on(sub.customer)
	return sub, nil
}

// liveSubscription is one that can still change.
func (c *call) liveSubscription(id, customer string) (*subscription, *stripeError) {
	sub, f := c.subscriptionOf(id, customer)
	if f == nil && sub.ended() {
		return nil, errMissing("subscription", id, "id")
	}
	return sub, f
}

func listSubscriptions(c *call, customer string) (view, *stripeError) {
	link := ""
	if customer != "" {
		link = "customer=" + customer
	}
	status, price := c.str("status"), c.str("price")
	from, to := rangeFilter(c.p.get("current_period_start")), rangeFilter(c.p.get("current_period_end"))
	clock := c.str("test_clock")
	return c.s.subscriptions.page(c, link, func(o *subscription) bool {
		return o.isOf(status) && (c.str("collection_method") == "" || o.collection == c.str("collection_method")) && from(o.start) && to(o.stop) &&
			(price == "" || slices.ContainsFunc(o.items, func(it *subItem) bool { return it.price.id == price })) &&
			(clock == "" || c.s.customers.byID[o.customer].clock == clock)
	})
}

// isOf reports that a subscription is in what a status filter wants; without one, all that are not canceled.
func (o *subscription) isOf(status string) bool {
	switch status {
	case "":
		return o.status != subCanceled
	case "all":
		return true
	case "ended":
		return o.ended()
	}
	return o.status == status
}

// dropDiscount takes a subscription's discount away, which makes every later invoice dearer.
func (c *call) dropDiscount(id, customer string) (view, *stripeError) {
	sub, f := c.liveSubscription(id, customer)
	if f != nil {
		return nil, f
	}
	if len(sub.discounts) == 0 {
		return nil, errMissing("discount", sub.id, "id")
	}
	d := sub.discounts[0]
	sub.discounts = sub.discounts[1:]
	return c.endDiscount(d), nil
}
