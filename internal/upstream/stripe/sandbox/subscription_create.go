package sandbox

import (
	"net/http"
	"time"
)

// newSubscription works out a subscription and its first invoice. Nothing is
// kept: a preview needs no more.
func (c *call) newSubscription(owner *customer, p part) (*subscription, *invoice) {
	sub := &subscription{head: c.s.head("sub", c), customer: owner.id, status: subActive, collection: "charge_automatically", mode: "flexible",
		startDate: c.now, withoutMethod: "create_invoice"}
	if p.has("currency") {
		sub.currency = p.currency("currency")
	}
	for _, n := range p.list("items") {
		sub.items = append(sub.items, c.newSubItem(sub, n))
	}
	if len(sub.items) == 0 {
		p.keep(errMissingParam(p.nameOf("items")))
	}
	sub.mode = p.sub("billing_mode").or("type", sub.mode)
	c.fillSubscription(sub, p)
	if p.fault() != nil {
		return nil, nil
	}
	for _, it := range sub.items {
		if it.price.period != sub.period() {
			p.refuse("items", "", "All items of a subscription of this sandbox have the same billing interval.")
			return nil, nil
		}
	}
	c.firstPeriod(sub, p)
	in := c.newInvoice(owner, "subscription_create")
	c.adopt(in, sub)
	c.firstLines(sub, in, p)
	c.extraItems(sub, in, p)
	c.sweep(in, func(item *invoiceItem) bool { return item.subscription == "" || item.subscription == sub.id })
	c.refresh(in)
	return sub, in
}

// adopt makes an invoice one of a subscription's.
func (c *call) adopt(in *invoice, sub *subscription) {
	in.subscription, in.parentMetadata, in.currency, in.collection = sub.id, sub.md, sub.currency, sub.collection
	in.rates, in.start, in.stop = sub.rates, sub.start, sub.stop
	in.autoAdvance = true
	terms := sub.split
	in.split = &terms
	if sub.collection == "send_invoice" {
		in.dueDate = c.now + sub.daysDue*86400
	}
	in.discounts = c.holding(sub.discounts)
	if owner := c.s.customers.byID[sub.customer]; len(in.discounts) == 0 && owner != nil && owner.discount != nil {
		in.discounts = c.holding([]*discount{owner.discount})
	}
}

// firstPeriod works out when the first period ends: with a trial, at an anchor, or after a full period.
func (c *call) firstPeriod(sub *subscription, p part) {
	sub.start, sub.anchor = c.now, c.now
	if p.has("backdate_start_date") {
		if sub.startDate = p.int("backdate_start_date"); sub.startDate > c.now {
			p.refuse("backdate_start_date", "", "The backdate_start_date must be in the past.")
		}
	}
	switch {
	case p.int("billing_cycle_anchor") != 0: // phases of a schedule have words here
		if sub.anchor = p.int("billing_cycle_anchor"); sub.anchor < c.now {
			p.refuse("billing_cycle_anchor", "", "The billing_cycle_anchor must be in the future.")
		}
		if sub.anchor > sub.period().after(c.now, c.now) {
			p.refuse("billing_cycle_anchor", "", "billing_cycle_anchor cannot be later than next natural billing date for plan.")
		}
	case p.has("billing_cycle_anchor_config"):
		sub.anchor = anchorOf(p.sub("billing_cycle_anchor_config"), c.now)
	}
	sub.stop = sub.period().after(sub.anchor, c.now)
	if until := c.trialUntil(sub, p); until > c.now {
		sub.status, sub.trialStart, sub.trialEnd, sub.stop = subTrialing, c.now, until, until
		if p.int("billing_cycle_anchor") == 0 {
			sub.anchor = until
		}
	}
	for _, it := range sub.items {
		it.start, it.stop = sub.start, sub.stop
	}
}

// trialUntil is when a trial ends; zero for no trial.
func (c *call) trialUntil(sub *subscription, p part) int64 {
	switch {
	case p.str("trial_end") == "now":
		return 0
	case p.has("trial_end"):
		until := p.int("trial_end")
		if until <= c.now {
			p.refuse("trial_end", "", "Invalid timestamp: must be an integer Unix timestamp in the future.")
		}
		return until
	case p.has("trial_period_days"):
		return c.now + p.count("trial_period_days", 0)*86400
	case p.bool("trial_from_plan"):
		return c.now + sub.items[0].price.trial*86400
	}
	return 0
}

// anchorOf is the next time that a day of month (and a time of day) comes.
func anchorOf(p part, now int64) int64 {
	at := time.Unix(now, 0).UTC()
	hour, minute, second := at.Clock()
	next := func(months int) int64 {
		first := time.Date(at.Year(), at.Month(), 1, int(p.count("hour", int64(hour))), int(p.count("minute", int64(minute))),
			int(p.count("second", int64(second))), 0, time.UTC).AddDate(0, months, 0)
		last := first.AddDate(0, 1, -1).Day()
		return first.AddDate(0, 0, min(int(p.int("day_of_month")), last)-1).Unix()
	}
	months := 0
	for next(months) <= now || p.has("month") && time.Unix(next(months), 0).UTC().Month() != time.Month(p.int("month")) {
		if months++; months > 12 { // no such month: the parameter's type does not bound it
			p.refuse("month", "", "Invalid month: must be between 1 and 12")
			break
		}
	}
	return next(months)
}

// firstLines bills the time up to the first boundary: in a trial nothing, before
// an anchor the share of a period that is left.
func (c *call) firstLines(sub *subscription, in *invoice, p part) {
	from := sub.period().before(sub.anchor, sub.stop)
	for _, it := range sub.items {
		if it.metered() {
			continue
		}
		l := c.subItemLine(it, sub.customer, sub.start, sub.stop)
		switch {
		case sub.status == subTrialing:
			l.amount = 0
			l.description = "Trial period for " + l.description
		case sub.anchor > sub.start && p.str("proration_behavior") == "none":
			l.amount = 0
		case sub.anchor > sub.start:
			l.amount = share(l.amount, sub.stop-sub.start, sub.stop-from)
		}
		if sub.startDate < sub.start && p.str("proration_behavior") != "none" {
			late := c.subItemLine(it, sub.customer, sub.startDate, sub.start)
			late.amount = share(late.amount, sub.start-sub.startDate, sub.stop-from)
			in.lines = append(in.lines, late)
		}
		in.lines = append(in.lines, l)
	}
}

// extraItems reads add_invoice_items onto an invoice.
func (c *call) extraItems(sub *subscription, in *invoice, p part) {
	for _, n := range p.list("add_invoice_items") {
		item := c.newItem(sub.customer, sub.currency)
		item.subscription = sub.id
		c.fillLine(&item.line, n, sub.customer)
		if item.currency != sub.currency {
			n.refuse("price", "", "The currency of the subscription is "+sub.currency+", not "+item.currency+".")
		}
		in.lines = append(in.lines, &item.line)
	}
}

// fillSubscription writes the settings that create and update share.
func (c *call) fillSubscription(sub *subscription, p part) {
	sub.md = p.metadata(sub.md)
	if p.sent("description") {
		sub.description = p.str("description")
	}
	sub.collection = p.or("collection_method", sub.collection)
	sub.daysDue = p.count("days_until_due", p.sub("invoice_settings").count("days_until_due", sub.daysDue))
	if sub.collection == "charge_automatically" {
		sub.daysDue = 0
	} else if sub.daysDue == 0 {
		p.refuse("days_until_due", "", "You must pass days_until_due when collection_method is send_invoice.")
	}
	for name, field := range map[string]*string{"invoice_settings": &sub.invoiceSettings, "payment_settings": &sub.paymentSettings,
		"pending_invoice_item_interval": &sub.pendingInterval} {
		if p.name == "" && c.op != nil && c.op.params.members[name].typ != nil {
			c.assignJSON(name, field)
		}
	}
	if p.sent("default_tax_rates") {
		sub.rates = c.rates(p, "default_tax_rates")
	}
	if p.sent("discounts") {
		sub.discounts = c.redeem(p, discount{customer: sub.customer, subscription: sub.id})
	}
	sub.withoutMethod = p.sub("trial_settings").sub("end_behavior").or("missing_payment_method", sub.withoutMethod)
	for _, name := range []string{"default_payment_method", "default_source"} {
		if !p.has(name) {
			continue
		}
		m, f := c.s.methods.get(p.str(name), p.nameOf(name))
		if f == nil && m.customer != sub.customer {
			f = errNotAttached(m.id)
		}
		p.keep(f)
	}
	if p.sent("default_payment_method") {
		sub.method = p.str("default_payment_method")
	}
	if p.sent("default_source") {
		sub.source = p.str("default_source")
	}
	sub.split = c.readSplit(sub.split, p)
}

// subscribe starts a subscription.
func (c *call) subscribe(customer, param string) (*subscription, *stripeError) {
	if customer == "" {
		return nil, errMissingParam("customer")
	}
	owner, f := c.s.customers.get(customer, param)
	if f != nil {
		return nil, f
	}
	c.on(owner.id)
	p := c.whole()
	sub, in := c.newSubscription(owner, p)
	if f := p.fault(); f != nil {
		return nil, f
	}
	c.endsWith(sub, p)
	behavior := p.or("payment_behavior", "allow_incomplete")
	if f := c.affordable(sub, in, behavior, "default_incomplete"); f != nil {
		return nil, f
	}
	return sub, c.start(sub, in, behavior)
}

// affordable refuses what could not be paid, where the caller wants that refused
// rather than left incomplete.
func (c *call) affordable(sub *subscription, in *invoice, behavior, patient string) *stripeError {
	owner := c.s.customers.byID[sub.customer]
	if sub.collection == "send_invoice" || in.bill.total+owner.balance <= 0 || behavior == patient {
		return nil
	}
	c.adoptMethods(in, sub)
	m := c.usualMethod(in)
	if m == nil {
		return errInvalid("", "resource_missing", "This customer has no attached payment source or default payment method. "+
			"Please consider adding a default payment method.")
	}
	if behavior != "error_if_incomplete" {
		return nil
	}
	if m.needsAction {
		return &stripeError{status: http.StatusPaymentRequired, typ: typeCard, code: "subscription_payment_intent_requires_action", retry: "false",
			message: "Payment for this subscription requires additional user action before it can be completed successfully."}
	}
	if m.decline != "" {
		return errDeclined(m.decline, "")
	}
	return nil
}

// adoptMethods has an invoice that is not kept yet paid as its subscription's will be.
func (c *call) adoptMethods(in *invoice, sub *subscription) {
	in.defaultMethod, in.defaultSource = sub.method, sub.source
}

// start keeps a subscription and bills its first period.
func (c *call) start(sub *subscription, in *invoice, behavior string) *stripeError {
	in.defaultMethod, in.defaultSource = "", "" // its subscription's, as long as those stand
	becomes := sub.status
	if sub.collection == "charge_automatically" && sub.status == subActive {
		sub.status = subIncomplete
		in.autoAdvance = false
	}
	c.s.subscriptions.insert(sub)
	for _, it := range sub.items {
		c.s.subItems.insert(it)
	}
	sub.latest = in.id
	c.keepInvoice(in)
	c.emit("customer.subscription.created", sub)
	c.armSubscription(sub)
	if sub.collection == "send_invoice" && in.bill.total > 0 {
		return nil // a draft that finalizes itself
	}
	if f := c.finalize(in); f != nil {
		return f
	}
	if in.status == "open" && behavior != "default_incomplete" {
		// A card that declines leaves the subscription incomplete: that is the answer.
		_ = c.collectInvoice(in, !c.bool("off_session"))
	}
	if sub.status == subIncomplete {
		c.later(sub.customer, c.now+incompleteLife, func(c *call) {
			if sub.status == subIncomplete {
				c.void(in)
			}
		})
		return nil
	}
	sub.status = becomes
	return nil
}
