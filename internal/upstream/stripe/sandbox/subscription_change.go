package sandbox

import "slices"

// change is what an update of a subscription comes to.
type change struct {
	items                []*subItem // as they will be; new and changed ones are not kept yet
	lines                []*line    // credits for time not used and charges for time to come
	full                 []*line    // of a period that begins now
	renews               bool       // whether one does
	extra                []*line    // add_invoice_items
	start, stop, anchor  int64
	trialStart, trialEnd int64
	status               string
	at                   int64 // the time prorations are worked out for
	behavior             string
}

// pendingChange waits for its invoice to be paid.
type pendingChange struct {
	*change
	invoice string
	expires int64
}

// bills reports that the change makes an invoice at once.
func (ch *change) bills() bool {
	return ch.renews || ch.behavior == "always_invoice" && len(ch.lines)+len(ch.extra) > 0
}

// planChange works out what parameters would do to a subscription. Nothing is kept.
func (c *call) planChange(sub *subscription, p part) *change {
	ch := &change{start: sub.start, stop: sub.stop, anchor: sub.anchor, trialStart: sub.trialStart, trialEnd: sub.trialEnd, status: sub.status,
		at: c.now, behavior: p.or("proration_behavior", "create_prorations")}
	if p.has("proration_date") {
		if ch.at = p.int("proration_date"); ch.at < sub.start || ch.at > sub.stop {
			p.refuse("proration_date", "", "Cannot specify proration_date outside of current subscription period.")
			return ch
		}
	}
	ch.items = c.itemsAfter(sub, p)
	if p.fault() != nil {
		return ch
	}
	c.planPeriod(sub, ch, p)
	for _, it := range ch.items {
		if it.price.period != ch.items[0].price.period {
			p.refuse("items", "", "All items of a subscription of this sandbox have the same billing interval.")
			return ch
		}
	}
	if ch.behavior != "none" && sub.status != subTrialing {
		c.planProrations(sub, ch)
	}
	if ch.renews && ch.status != subTrialing {
		for _, it := range ch.items {
			if !it.metered() {
				ch.full = append(ch.full, c.subItemLine(it, sub.customer, ch.start, ch.stop))
			}
		}
	}
	scratch := &invoice{}
	c.extraItems(sub, scratch, p)
	ch.extra = scratch.lines
	return ch
}

// itemsAfter is the items as they will be: unchanged ones are the same, changed ones copies.
func (c *call) itemsAfter(sub *subscription, p part) []*subItem {
	after := slices.Clone(sub.items)
	for _, n := range p.list("items") {
		id := n.str("id")
		if id == "" {
			after = append(after, c.newSubItem(sub, n))
			continue
		}
		i := slices.IndexFunc(after, func(it *subItem) bool { return it.id == id })
		if i < 0 {
			n.keep(errMissing("subscription_item", id, n.nameOf("id")))
			return after
		}
		if n.bool("deleted") {
			after = slices.Delete(after, i, i+1)
			continue
		}
		next := *after[i]
		c.fillSubItem(&next, sub, n)
		after[i] = &next
	}
	if len(after) == 0 {
		p.refuse("items", "", "A subscription must have at least one active plan.")
	}
	return after
}

// planPeriod works out whether a new period begins: at a trial's end or begin, at
// a reset of the anchor, where the interval changes, and where it cost nothing before.
func (c *call) planPeriod(sub *subscription, ch *change, p part) {
	period := ch.items[0].price.period
	switch until := p.int("trial_end"); {
	case p.has("trial_end") && p.str("trial_end") != "now":
		if until <= c.now {
			p.refuse("trial_end", "", "Invalid timestamp: must be an integer Unix timestamp in the future.")
		}
		ch.renews = sub.status != subTrialing
		ch.trialStart, ch.trialEnd, ch.anchor, ch.status = c.now, until, until, subTrialing
		ch.start, ch.stop = c.now, until
		return
	case p.has("trial_end") && sub.status == subTrialing:
		ch.status, ch.trialEnd, ch.renews = subActive, c.now, true
	case p.str("billing_cycle_anchor") == "now", period != sub.period(), sub.status != subTrialing && c.wasFree(sub) && !free(ch.items):
		ch.renews = true
	}
	if ch.renews {
		ch.start, ch.anchor = c.now, c.now
		ch.stop = period.after(c.now, c.now)
	}
}

func (c *call) wasFree(sub *subscription) bool { return free(sub.items) }

func free(items []*subItem) bool {
	return !slices.ContainsFunc(items, func(it *subItem) bool { return it.metered() || it.cost(it.quantity) > 0 })
}

// planProrations credits the time that is not used and charges what comes instead.
func (c *call) planProrations(sub *subscription, ch *change) {
	if ch.at >= sub.stop {
		return // nothing of the period is left
	}
	moves := ch.start != sub.start
	for _, old := range sub.items {
		if !old.metered() && (moves || !slices.Contains(ch.items, old)) {
			ch.lines = append(ch.lines, c.proration(sub, old, ch.at, -1))
		}
	}
	if moves {
		return
	}
	for _, it := range ch.items {
		if !it.metered() && !slices.Contains(sub.items, it) {
			ch.lines = append(ch.lines, c.proration(sub, it, ch.at, +1))
		}
	}
	// Changes that touch neither price nor quantity cancel out.
	ch.lines = slices.DeleteFunc(ch.lines, func(l *line) bool {
		return slices.ContainsFunc(ch.lines, func(o *line) bool {
			return o.member == l.member && o.price == l.price && o.quantity == l.quantity && o.amount == -l.amount
		})
	})
}

// proration is an item's share of the rest of the current period, credited or charged, as discounts leave it.
func (c *call) proration(sub *subscription, it *subItem, at int64, sign int64) *line {
	full := c.subItemLine(it, sub.customer, at, sub.stop)
	var shares []*discount
	for _, d := range c.holding(sub.discounts) {
		if d.coupon.percent != nil {
			shares = append(shares, d)
		}
	}
	reckon([]*line{full}, shares, nil, 0)
	item := c.newItem(sub.customer, sub.currency)
	l := &item.line
	words := "Remaining time on "
	if sign < 0 {
		words = "Unused time on "
	}
	l.subscription, l.member, l.proration, l.discountable = sub.id, it.id, true, false
	l.quantity, l.unit, l.price, l.product, l.rates = full.quantity, full.unit, full.price, full.product, full.rates
	l.description, l.start, l.stop = words+full.description, at, sub.stop
	l.amount = sign * share(full.net(), sub.stop-at, sub.stop-sub.start)
	return l
}

func updateSubscription(c *call, id, customer string) (view, *stripeError) {
	sub, f := c.subscriptionOf(id, customer)
	if f != nil {
		return nil, f
	}
	p := c.whole()
	if sub.ended() {
		for _, name := range c.p.keys {
			if name != "metadata" && name != "cancellation_details" && name != "expand" {
				return nil, errInvalid(name, "", "A canceled subscription can only update its cancellation_details and metadata.")
			}
		}
	}
	return asView(sub, c.change(sub, p))
}

// change updates a subscription, and bills the change if it makes an invoice.
func (c *call) change(sub *subscription, p part) *stripeError {
	ch := c.planChange(sub, p)
	if f := p.fault(); f != nil {
		return f
	}
	if sub.status == subIncomplete && (len(p.list("items")) > 0 || ch.bills()) {
		return errInvalid("items", "", "You cannot change the items of a subscription whose first invoice is not paid.")
	}
	next := *sub
	c.fillSubscription(&next, p)
	c.fillEnd(&next, ch, p)
	if f := p.fault(); f != nil {
		return f
	}
	behavior := p.or("payment_behavior", "allow_incomplete")
	var in *invoice
	if ch.bills() {
		in = c.changeInvoice(&next, ch)
		if f := c.affordable(&next, in, behavior, "allow_incomplete"); f != nil && (behavior == "error_if_incomplete") {
			return f
		}
	}
	c.s.subscriptions.relink(sub, func() { *sub = next })
	if in == nil {
		c.keepLines(slices.Concat(ch.lines, ch.extra))
		c.apply(sub, ch)
		c.updated(sub)
		return nil
	}
	return c.billChange(sub, ch, in, behavior, p.bool("off_session"))
}

// keepLines makes lines that no invoice takes yet into pending items.
func (c *call) keepLines(lines []*line) {
	for _, l := range lines {
		c.keepItem(l.of, nil)
	}
}

// changeInvoice is the invoice of a change that bills at once.
func (c *call) changeInvoice(sub *subscription, ch *change) *invoice {
	in := c.newInvoice(c.s.customers.byID[sub.customer], "subscription_update")
	c.adopt(in, sub)
	in.prorated = ch.at
	in.lines = slices.Concat(ch.lines, ch.full, ch.extra)
	c.sweep(in, func(item *invoiceItem) bool { return item.subscription == "" || item.subscription == sub.id })
	c.refresh(in)
	return in
}

// billChange keeps the invoice of a change and collects it; a change may wait for that.
func (c *call) billChange(sub *subscription, ch *change, in *invoice, behavior string, offSession bool) *stripeError {
	sub.latest = in.id
	waits := behavior == "pending_if_incomplete" && sub.collection == "charge_automatically"
	if waits {
		sub.pending = &pendingChange{ch, in.id, c.now + incompleteLife}
		c.later(sub.customer, sub.pending.expires, func(c *call) {
			if sub.pending != nil && sub.pending.invoice == in.id {
				c.void(in)
			}
		})
	} else {
		c.apply(sub, ch)
	}
	in.defaultMethod, in.defaultSource = "", ""
	c.keepInvoice(in)
	if sub.collection == "charge_automatically" {
		if f := c.finalize(in); f != nil {
			return f
		}
		if in.status == "open" && behavior != "default_incomplete" {
			// A card that declines makes the subscription past due: that is the answer.
			_ = c.collectInvoice(in, !offSession)
		} else if in.status == "open" {
			c.invoiceUnpaid(in)
		}
	}
	c.updated(sub)
	return nil
}

func (c *call) updated(sub *subscription) { c.emit("customer.subscription.updated", sub) }

// apply makes a change true.
func (c *call) apply(sub *subscription, ch *change) {
	for _, old := range sub.items {
		if !slices.ContainsFunc(ch.items, func(it *subItem) bool { return it.id == old.id }) {
			old.deleted = true
		}
	}
	var after []*subItem
	for _, it := range ch.items {
		if known := c.s.subItems.byID[it.id]; known != nil && known != it {
			*known = *it
			it = known
		} else if known == nil {
			c.s.subItems.insert(it)
		}
		it.start, it.stop = ch.start, ch.stop
		after = append(after, it)
	}
	c.s.subscriptions.relink(sub, func() { sub.items = after })
	sub.start, sub.stop, sub.anchor = ch.start, ch.stop, ch.anchor
	sub.trialStart, sub.trialEnd = ch.trialStart, ch.trialEnd
	if sub.runs() && ch.status != subPastDue {
		sub.status = ch.status
	}
	c.armSubscription(sub)
}

// renderPending writes a change that waits for its payment.
func (o *subscription) renderPending(e *enc, x *expansion) {
	if o.pending == nil {
		e.null("pending_update")
		return
	}
	sub := x.child("pending_update")
	e.key("pending_update")
	e.open()
	e.int("billing_cycle_anchor", o.pending.anchor)
	e.constant(`"discount":null,"discounts":null`)
	e.int("expires_at", o.pending.expires)
	e.null("metadata")
	e.key("subscription_items")
	e.b = append(e.b, '[')
	for _, it := range o.pending.items {
		it.render(e, sub.child("subscription_items"))
	}
	e.b = append(e.b, ']')
	e.optInt("trial_end", o.pending.trialEnd)
	e.constant(`"trial_from_plan":null`)
	e.close()
}
