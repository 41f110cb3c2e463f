package sandbox

import "slices"

// previewInvoice is a read: it works out an invoice and keeps nothing.
func previewInvoice(c *call) (view, *stripeError) {
	c.dry = true
	p := c.whole()
	sub, owner, f := c.previewed(p)
	if f != nil {
		return nil, f
	}
	c.on(owner.id)
	details := p.sub("subscription_details")
	var o *invoice
	switch {
	case sub != nil && details.n.blank():
		o = c.upcoming(sub, sub.items, nil)
	case sub != nil:
		o = c.previewChange(sub, details)
	case details.has("items"):
		_, o = c.newSubscription(owner, details)
	case p.has("schedule_details"):
		if phases := p.sub("schedule_details").list("phases"); len(phases) > 0 {
			_, o = c.newSubscription(owner, phases[0])
		}
	default:
		o = c.newInvoice(owner, "manual")
		if o.currency = p.or("currency", o.currency); owner.discount != nil {
			o.discounts = []*discount{owner.discount}
		}
		c.sweep(o, func(*invoiceItem) bool { return true })
	}
	if f := p.fault(); f != nil {
		return nil, f
	}
	if o == nil {
		return nil, errMissingParam("schedule_details[phases]")
	}
	return c.finishPreview(o, owner, p)
}

// previewed is the subscription that a preview is about, if it is about one, and the customer.
func (c *call) previewed(p part) (*subscription, *customer, *stripeError) {
	id := p.str("subscription")
	if schedule := p.str("schedule"); schedule != "" {
		o, f := c.s.schedules.get(schedule, "schedule")
		if f != nil {
			return nil, nil, f
		}
		if id = o.subscription; id == "" {
			owner, f := c.s.customers.get(o.customer, "schedule")
			return nil, owner, f
		}
	}
	if id != "" {
		sub, f := c.s.subscriptions.get(id, "subscription")
		if f != nil {
			return nil, nil, f
		}
		if customer := p.str("customer"); customer != "" && customer != sub.customer {
			return nil, nil, errMissing("subscription", id, "subscription")
		}
		if sub.ended() {
			return nil, nil, errUpcomingNone(sub.customer)
		}
		return sub, c.s.customers.byID[sub.customer], nil
	}
	if !p.has("customer") {
		if p.has("customer_details") {
			return nil, &customer{head: c.s.head("cus", c), taxExempt: p.sub("customer_details").or("tax_exempt", "none")}, nil
		}
		return nil, nil, errMissingParam("customer")
	}
	owner, f := c.s.customers.get(p.str("customer"), "customer")
	if f != nil || p.sub("subscription_details").has("items") || p.has("schedule_details") {
		return nil, owner, f
	}
	var next *subscription
	for _, sub := range c.s.subscriptions.index["customer="+owner.id] {
		if sub.runs() && (next == nil || sub.stop < next.stop) {
			next = sub
		}
	}
	return next, owner, nil
}

func errUpcomingNone(customer string) *stripeError {
	f := errInvalid("", "invoice_upcoming_none", "No upcoming invoices for customer: "+customer)
	f.status = 404
	return f
}

// previewChange is the invoice that a change would lead to: made at once, or at the next renewal.
func (c *call) previewChange(sub *subscription, p part) *invoice {
	if p.bool("cancel_now") {
		in := c.newInvoice(c.s.customers.byID[sub.customer], "subscription_update")
		c.adopt(in, sub)
		in.lines = c.usedLines(sub)
		if p.or("proration_behavior", "create_prorations") != "none" && sub.runs() && sub.status != subTrialing {
			for _, it := range sub.items {
				if !it.metered() {
					in.lines = append(in.lines, c.proration(sub, it, max(p.int("proration_date"), c.now), -1))
				}
			}
		}
		c.sweep(in, func(item *invoiceItem) bool { return item.subscription == sub.id })
		return in
	}
	if sub.status == subPaused && p.str("resume_at") == "now" {
		return c.changeInvoice(sub, c.planResume(sub, p))
	}
	ch := c.planChange(sub, p)
	if p.fault() != nil {
		return nil
	}
	if ch.bills() {
		next := *sub
		next.start, next.stop = ch.start, ch.stop
		return c.changeInvoice(&next, ch)
	}
	next := *sub
	next.start, next.stop, next.anchor = ch.start, ch.stop, ch.anchor
	return c.upcoming(&next, ch.items, ch.lines)
}

// upcoming is the next renewal of a subscription with some items and prorations.
func (c *call) upcoming(sub *subscription, items []*subItem, prorations []*line) *invoice {
	in := c.newInvoice(c.s.customers.byID[sub.customer], "subscription_cycle")
	c.adopt(in, sub)
	in.start, in.stop = sub.start, sub.stop
	in.lines = append(in.lines, prorations...)
	if sub.cancelAt == 0 || sub.cancelAt > sub.stop {
		in.lines = append(in.lines, c.periodLines(sub, items, sub.start, sub.stop, sub.period().after(sub.anchor, sub.stop))...)
	}
	c.sweep(in, func(item *invoiceItem) bool { return item.subscription == "" || item.subscription == sub.id })
	return in
}

// finishPreview adds what the preview itself brings, and works the invoice out.
func (c *call) finishPreview(o *invoice, owner *customer, p part) (view, *stripeError) {
	for _, n := range p.list("invoice_items") {
		c.previewItem(o, owner, n)
	}
	if p.str("preview_mode") == "recurring" {
		o.lines = slices.DeleteFunc(o.lines, func(l *line) bool { return l.of != nil })
	}
	if p.sent("discounts") {
		o.discounts = c.redeem(p, discount{customer: owner.id})
	}
	if f := p.fault(); f != nil {
		return nil, f
	}
	if len(o.lines) == 0 && o.subscription == "" {
		return nil, errUpcomingNone(owner.id)
	}
	o.preview = true
	c.refresh(o)
	c.applyGrants(o)
	c.refresh(o)
	if total := o.bill.total; total > 0 && owner.balance != 0 && p.str("preview_mode") != "recurring" {
		o.fromBalance = min(total, -owner.balance)
	}
	return o, nil
}

// previewItem adds an item to a preview, or shows a pending one as it would be.
func (c *call) previewItem(o *invoice, owner *customer, n part) {
	item := c.newItem(owner.id, n.or("currency", o.currency))
	l := &item.line
	if id := n.str("invoiceitem"); id != "" {
		i := slices.IndexFunc(o.lines, func(l *line) bool { return l.of != nil && l.of.head.id == id })
		if i < 0 {
			n.keep(errMissing("invoiceitem", id, n.nameOf("invoiceitem")))
			return
		}
		next := *o.lines[i]
		l = &next
		o.lines[i] = l
	} else {
		o.lines = append(o.lines, l)
	}
	c.fillLine(l, n, owner.id)
	if l.currency != o.currency {
		n.refuse("currency", "", "The currency of the invoice is "+o.currency+", not "+l.currency+".")
	}
}
