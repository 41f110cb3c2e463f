package sandbox

import "slices"

// armSubscription has the clock renew a subscription at the end of its period,
// and cancel it when it is to end.
func (c *call) armSubscription(sub *subscription) {
	stop := sub.stop
	c.later(sub.customer, stop, func(c *call) {
		if sub.runs() && sub.stop == stop {
			c.renew(sub)
		}
	})
}

// endsWith reads when a subscription is to end.
func (c *call) endsWith(sub *subscription, p part) {
	if p.sent("cancel_at_period_end") {
		sub.atPeriodEnd, sub.cancelAt, sub.canceledAt = p.bool("cancel_at_period_end"), 0, 0
		if sub.atPeriodEnd {
			sub.cancelAt, sub.canceledAt, sub.cancelReason = sub.stop, c.now, "cancellation_requested"
		}
	}
	if p.sent("cancel_at") {
		switch p.str("cancel_at") {
		case "":
			sub.cancelAt, sub.canceledAt, sub.atPeriodEnd = 0, 0, false
		case "min_period_end", "max_period_end", "max_billed_until":
			sub.cancelAt, sub.canceledAt = sub.stop, c.now
		default:
			sub.cancelAt, sub.canceledAt = p.int("cancel_at"), c.now
		}
		if at, id := sub.cancelAt, sub.id; at != 0 && at < sub.stop {
			c.later(sub.customer, at, func(c *call) {
				if live := c.s.subscriptions.byID[id]; !live.ended() && live.cancelAt == at {
					c.end(live)
				}
			})
		}
	}
}

// fillEnd reads what an update says of a subscription's end and of pauses.
func (c *call) fillEnd(sub *subscription, ch *change, p part) {
	if d := p.sub("cancellation_details"); !d.n.blank() {
		sub.feedback, sub.comment = d.or("feedback", sub.feedback), d.or("comment", sub.comment)
	}
	before := sub.stop
	sub.stop = ch.stop
	c.endsWith(sub, p)
	sub.stop = before
	if p.sent("pause_collection") {
		pause := p.sub("pause_collection")
		sub.pause, sub.resumes = pause.str("behavior"), pause.int("resumes_at")
		if at, id := sub.resumes, sub.id; at != 0 {
			c.later(sub.customer, at, func(c *call) {
				if live := c.s.subscriptions.byID[id]; live.resumes == at {
					live.pause, live.resumes = "", 0
					c.updated(live)
				}
			})
		}
	}
}

// renew begins the next period: it bills what is used, what is pending, and the time to come.
func (c *call) renew(sub *subscription) {
	if sub.cancelAt != 0 && sub.cancelAt <= c.now {
		c.end(sub)
		return
	}
	if o := c.s.schedules.byID[sub.schedule]; o != nil {
		stop := sub.stop
		if c.nextPhase(o); !sub.runs() || sub.stop != stop {
			return // the new phase has begun a period of its own
		}
	}
	if sub.status == subTrialing && !c.leaveTrial(sub) {
		return
	}
	from, to := sub.start, sub.stop
	sub.start, sub.stop = to, sub.period().after(sub.anchor, to)
	in := c.newInvoice(c.s.customers.byID[sub.customer], "subscription_cycle")
	c.adopt(in, sub)
	in.start, in.stop = from, to
	in.lines = c.periodLines(sub, sub.items, from, to, sub.stop)
	for _, it := range sub.items {
		it.start, it.stop = sub.start, sub.stop
	}
	c.sweep(in, func(item *invoiceItem) bool { return item.subscription == "" || item.subscription == sub.id })
	sub.latest = in.id
	c.pauses(sub, in)
	c.keepInvoice(in)
	c.updated(sub)
	c.armSubscription(sub)
	switch sub.pause {
	case "void":
		if c.finalize(in) == nil && in.status == "open" {
			c.void(in)
		}
	case "mark_uncollectible":
		if c.finalize(in) == nil && in.status == "open" {
			c.writeOff(in)
		}
	}
}

// pauses keeps an invoice from being collected while collection is paused.
func (c *call) pauses(sub *subscription, in *invoice) {
	if sub.pause != "" {
		in.autoAdvance = false
	}
}

// periodLines are the lines of a renewal: what metered items used from a time to
// another, and the next period of the others.
func (c *call) periodLines(sub *subscription, items []*subItem, from, to, next int64) []*line {
	var lines []*line
	for _, it := range items {
		if it.metered() {
			lines = append(lines, c.subItemLine(it, sub.customer, from, to))
		} else {
			lines = append(lines, c.subItemLine(it, sub.customer, to, next))
		}
	}
	return lines
}

// leaveTrial makes a subscription active, unless it is to end or pause where nothing can be paid.
func (c *call) leaveTrial(sub *subscription) bool {
	scratch := &invoice{subscription: sub.id, customer: sub.customer}
	if c.usualMethod(scratch) == nil && sub.collection == "charge_automatically" {
		switch sub.withoutMethod {
		case "cancel":
			c.end(sub)
			return false
		case "pause":
			sub.status = subPaused
			c.emit("customer.subscription.paused", sub)
			return false
		}
	}
	sub.status = subActive
	return true
}

// end cancels a subscription now. Its open invoices are collected by themselves no more.
func (c *call) end(sub *subscription) {
	sub.status, sub.endedAt = subCanceled, c.now
	if sub.canceledAt == 0 {
		sub.canceledAt = c.now
	}
	if sub.cancelReason == "" {
		sub.cancelReason = "cancellation_requested"
	}
	for _, in := range c.s.invoices.index["subscription="+sub.id] {
		if in.status == "open" {
			in.autoAdvance, in.nextTry = false, 0
		}
	}
	c.emit("customer.subscription.deleted", sub)
}

// cancelSubscription cancels at once: prorate credits the time not used, and
// invoice_now bills what is used and pending.
func cancelSubscription(c *call, id, customer string) (view, *stripeError) {
	sub, f := c.liveSubscription(id, customer)
	if f != nil {
		return nil, f
	}
	if d := c.whole().sub("cancellation_details"); !d.n.blank() {
		sub.feedback, sub.comment = d.or("feedback", sub.feedback), d.or("comment", sub.comment)
	}
	return asView(sub, c.cancelNow(sub, c.bool("prorate"), c.bool("invoice_now")))
}

func (c *call) cancelNow(sub *subscription, prorate, invoiceNow bool) *stripeError {
	if sub.status == subIncomplete {
		c.end(sub)
		if in := c.s.invoices.byID[sub.latest]; in != nil && in.status == "open" {
			c.void(in)
		}
		return nil
	}
	if prorate && sub.runs() && sub.status != subTrialing {
		for _, it := range sub.items {
			if !it.metered() {
				c.keepItem(c.proration(sub, it, c.now, -1).of, nil)
			}
		}
	}
	if !prorate && !invoiceNow {
		for _, item := range c.s.items.index["customer="+sub.customer] {
			if item.invoice == "" && item.proration && item.subscription == sub.id {
				item.deleted = true
			}
		}
	}
	var f *stripeError
	if invoiceNow {
		f = c.lastInvoice(sub, c.usedLines(sub))
	}
	c.end(sub)
	return f
}

// lastInvoice bills lines and what is pending, outside of the cycle.
func (c *call) lastInvoice(sub *subscription, lines []*line) *stripeError {
	in := c.newInvoice(c.s.customers.byID[sub.customer], "subscription_update")
	c.adopt(in, sub)
	in.lines = lines
	c.sweep(in, func(item *invoiceItem) bool { return item.subscription == sub.id })
	if len(in.lines) == 0 {
		return nil
	}
	sub.latest = in.id
	c.keepInvoice(in)
	if sub.collection != "charge_automatically" {
		return nil
	}
	if f := c.finalize(in); f != nil {
		return f
	}
	if in.status == "open" {
		// The subscription ends all the same; the invoice stays open.
		_ = c.collectInvoice(in, false)
	}
	return nil
}

// usedLines is what metered items used since the period began.
func (c *call) usedLines(sub *subscription) []*line {
	var lines []*line
	for _, it := range sub.items {
		if it.metered() {
			lines = append(lines, c.subItemLine(it, sub.customer, sub.start, c.now+1)) // what is used now, too
		}
	}
	return lines
}

// pauseSubscription stops a subscription: credits go to the next invoice, or are billed at once.
func pauseSubscription(c *call) (view, *stripeError) {
	sub, f := c.liveSubscription(c.args[0], "")
	if f != nil {
		return nil, f
	}
	if !sub.runs() {
		return nil, errInvalid("", "", "A subscription whose status is "+sub.status+" cannot be paused.")
	}
	p := c.whole()
	bill := p.sub("bill_for")
	var lines []*line
	if from := bill.sub("unused_time_from").or("type", "now"); from != "none" && sub.status != subTrialing {
		at := c.now
		if from == "item_current_period_start" {
			at = sub.start
		}
		for _, it := range sub.items {
			if !it.metered() {
				lines = append(lines, c.proration(sub, it, at, -1))
			}
		}
	}
	var used []*line
	if bill.sub("outstanding_usage_through").or("type", "now") != "none" {
		used = c.usedLines(sub)
	}
	for _, l := range used {
		item := c.newItem(sub.customer, sub.currency)
		own := *l
		own.of, own.id = item, item.line.id
		item.line = own
		lines = append(lines, &item.line)
	}
	c.keepLines(lines)
	if p.str("invoicing_behavior") == "invoice" {
		if f := c.lastInvoice(sub, nil); f != nil {
			return nil, f
		}
	}
	sub.status = subPaused
	c.emit("customer.subscription.paused", sub)
	return sub, nil
}

// resumeSubscription goes on with a paused subscription: with a new period that is billed now, or with the
// rest of the old one.
func resumeSubscription(c *call) (view, *stripeError) {
	sub, f := c.liveSubscription(c.args[0], "")
	if f != nil {
		return nil, f
	}
	if sub.status != subPaused {
		return nil, errInvalid("", "", "You can only resume paused subscriptions. This subscription is "+sub.status+".")
	}
	ch := c.planResume(sub, c.whole())
	if !ch.bills() {
		c.keepLines(ch.lines)
		sub.status = subActive
		c.apply(sub, ch)
		c.emit("customer.subscription.resumed", sub)
		return sub, nil
	}
	c.apply(sub, ch)
	in := c.changeInvoice(sub, ch)
	in.autoAdvance = false
	sub.latest = in.id
	c.keepInvoice(in)
	if f := c.finalize(in); f != nil {
		return nil, f
	}
	if in.status == "open" {
		_ = c.collectInvoice(in, false) // it stays paused until it is paid
	}
	c.later(sub.customer, c.now+incompleteLife, func(c *call) {
		if in.status == "open" && in.attempts == 0 {
			c.void(in)
		}
	})
	return sub, nil
}

// planResume works out what resuming comes to.
func (c *call) planResume(sub *subscription, p part) *change {
	ch := &change{items: sub.items, start: sub.start, stop: sub.stop, anchor: sub.anchor, trialStart: sub.trialStart, trialEnd: sub.trialEnd,
		status: subActive, at: c.now, behavior: p.or("proration_behavior", "create_prorations")}
	if p.str("billing_cycle_anchor") != "unchanged" {
		ch.renews, ch.start, ch.anchor = true, c.now, c.now
		ch.stop = sub.period().after(c.now, c.now)
		ch.full = c.periodLines(sub, slices.DeleteFunc(slices.Clone(sub.items), (*subItem).metered), c.now, c.now, ch.stop)
		return ch
	}
	for ch.stop <= c.now {
		ch.start, ch.stop = ch.stop, sub.period().after(sub.anchor, ch.stop)
	}
	if ch.behavior != "none" {
		rest := *sub
		rest.start, rest.stop = ch.start, ch.stop
		for _, it := range sub.items {
			if !it.metered() {
				ch.lines = append(ch.lines, c.proration(&rest, it, c.now, +1))
			}
		}
	}
	return ch
}

// invoicePaid tells the subscription of an invoice that was paid.
func (c *call) invoicePaid(in *invoice) {
	sub := c.s.subscriptions.byID[in.subscription]
	if sub == nil || sub.ended() {
		return
	}
	if sub.pending != nil && sub.pending.invoice == in.id {
		ch := sub.pending.change
		sub.pending = nil
		c.apply(sub, ch)
		c.emit("customer.subscription.pending_update_applied", sub)
	}
	switch {
	case sub.status == subIncomplete && in.id == sub.latest:
		sub.status = subActive
	case sub.status == subPaused && in.id == sub.latest:
		sub.status = subActive
		c.armSubscription(sub)
		c.emit("customer.subscription.resumed", sub)
	case sub.status == subPastDue && !c.owes(sub):
		sub.status = subActive
	default:
		return
	}
	c.updated(sub)
}

// owes reports that a subscription has an open invoice that was tried in vain.
func (c *call) owes(sub *subscription) bool {
	return slices.ContainsFunc(c.s.invoices.index["subscription="+sub.id], func(in *invoice) bool { return in.status == "open" && in.attempted })
}

// invoiceUnpaid tells the subscription of an invoice that could not be collected.
func (c *call) invoiceUnpaid(in *invoice) {
	sub := c.s.subscriptions.byID[in.subscription]
	if sub == nil || sub.status != subActive && sub.status != subTrialing || sub.pending != nil && sub.pending.invoice == in.id {
		return
	}
	sub.status = subPastDue
	c.updated(sub)
}

// invoiceVoided tells the subscription of an invoice that nobody will pay.
func (c *call) invoiceVoided(in *invoice) {
	sub := c.s.subscriptions.byID[in.subscription]
	if sub == nil || sub.ended() {
		return
	}
	switch {
	case sub.pending != nil && sub.pending.invoice == in.id:
		sub.pending = nil
		c.emit("customer.subscription.pending_update_expired", sub)
	case sub.status == subIncomplete && in.id == sub.latest:
		sub.status, sub.endedAt = subExpired, c.now
		c.updated(sub)
	case sub.status == subPastDue && !c.owes(sub):
		sub.status = subActive
		c.updated(sub)
	}
}
