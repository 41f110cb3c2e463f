package sandbox

import "time"

func createQuote(c *call) (view, *stripeError) {
	p := c.whole()
	o := &quote{head: c.s.head("qt", c), status: "draft", collection: "charge_automatically", mode: "flexible", clock: c.str("test_clock")}
	if p.has("from_quote") {
		first, f := c.s.quotes.get(p.sub("from_quote").str("quote"), "from_quote[quote]")
		if f != nil {
			return nil, f
		}
		own := *first
		own.head, own.status, own.number, own.from = o.head, "draft", "", first.id
		own.revision = p.sub("from_quote").bool("is_revision")
		own.invoice, own.subscription, own.schedule = "", "", ""
		own.finalizedAt, own.acceptedAt, own.canceledAt = 0, 0, 0
		o = &own
	}
	if o.clock != "" {
		clock, f := c.s.clocks.get(o.clock, "test_clock")
		if f != nil {
			return nil, f
		}
		o.created = clock.frozen
	}
	o.expires = time.Unix(max(o.created, c.now), 0).Add(quoteLife).Unix()
	if f := c.fillQuote(o, p); f != nil {
		return nil, f
	}
	c.s.quotes.insert(o)
	c.armQuote(o)
	c.emit("quote.created", o)
	return o, nil
}

// fillQuote writes what create and update share.
func (c *call) fillQuote(o *quote, p part) *stripeError {
	if p.has("customer") {
		owner, f := c.s.customers.get(p.str("customer"), "customer")
		if f != nil {
			return f
		}
		if _, stored := c.s.quotes.byID[o.id]; stored {
			c.s.quotes.relink(o, func() { o.customer = owner.id })
		}
		o.customer = owner.id
		c.on(owner.id)
	}
	o.md = p.metadata(o.md)
	c.assign("description", &o.description)
	c.assign("header", &o.header)
	c.assign("footer", &o.footer)
	o.collection = p.or("collection_method", o.collection)
	o.daysDue = p.sub("invoice_settings").count("days_until_due", o.daysDue)
	if o.collection == "send_invoice" && o.daysDue == 0 {
		o.daysDue = 30
	}
	if p.has("expires_at") {
		o.expires = p.int("expires_at")
	}
	data := p.sub("subscription_data")
	o.mode = data.sub("billing_mode").or("type", o.mode)
	if data.sent("description") {
		o.subDescription = data.str("description")
	}
	o.subMetadata = data.metadata(o.subMetadata)
	if data.sent("trial_period_days") {
		o.trialDays = data.count("trial_period_days", 0)
	}
	if data.sent("effective_date") {
		o.effective = data.int("effective_date")
	}
	if p.sent("default_tax_rates") {
		o.cart.rates = c.rates(p, "default_tax_rates")
	}
	if p.sent("discounts") {
		o.cart.discounts = c.redeem(p, discount{customer: o.customer})
	}
	if p.sent("line_items") {
		o.cart.currency = ""
		o.cart.fill(c, p, "line_items", o.customer)
	}
	if p.fault() != nil {
		return p.fault()
	}
	return c.shareQuote(o, p)
}

// shareQuote reads who else gets part of what a quote brings in.
func (c *call) shareQuote(o *quote, p part) *stripeError {
	if o.cart.recurring().unit != "" {
		o.split = c.readSplit(o.split, p)
		return p.fault()
	}
	terms, f := c.readSharing(o.sharing, maxAmount)
	o.sharing = terms
	return f
}

// armQuote has the clock cancel a quote that nobody accepts.
func (c *call) armQuote(o *quote) {
	at := o.expires
	c.later(o.customer, at, func(c *call) {
		if (o.status == "draft" || o.status == "open") && o.expires == at {
			c.cancelQuote(o)
		}
	})
}

func updateQuote(c *call) (view, *stripeError) {
	o, f := c.quoteIn("draft", "open")
	if f != nil {
		return nil, f
	}
	if o.status == "open" {
		for _, name := range c.p.keys {
			if name != "expires_at" && name != "metadata" && name != "expand" {
				return nil, errInvalid(name, "", "Only the expiration date and metadata of an open quote can be changed.")
			}
		}
	}
	if f := c.fillQuote(o, c.whole()); f != nil {
		return nil, f
	}
	c.armQuote(o)
	c.emit("quote.updated", o)
	return o, nil
}

func finalizeQuote(c *call) (view, *stripeError) {
	o, f := c.quoteIn("draft")
	if f != nil {
		return nil, f
	}
	switch {
	case o.customer == "":
		return nil, errInvalid("", "", "You must set a customer before finalizing the quote.")
	case len(o.cart.items) == 0:
		return nil, errInvalid("", "", "You must add line items before finalizing the quote.")
	}
	if c.has("expires_at") {
		o.expires = c.amount("expires_at")
		c.armQuote(o)
	}
	owner := c.s.customers.byID[o.customer]
	o.status, o.finalizedAt = "open", c.now
	o.number = "QT-" + owner.invoicePrefix + "-" + pad4(int64(len(c.s.quotes.index["customer="+o.customer]))) + "-1"
	c.emit("quote.finalized", o)
	return o, nil
}

// acceptQuote makes what was offered: a schedule that begins later, a subscription, or an invoice. Their first
// invoices are drafts; a subscription's finalizes itself.
func acceptQuote(c *call) (view, *stripeError) {
	o, f := c.quoteIn("open")
	if f != nil {
		return nil, f
	}
	owner, f := c.s.customers.get(o.customer, "")
	if f != nil {
		return nil, f
	}
	switch {
	case o.cart.recurring().unit == "":
		c.invoiceQuote(o, owner)
	case o.effective > c.now:
		f = c.scheduleQuote(o)
	default:
		f = c.subscribeQuote(o, owner)
	}
	if f != nil {
		return nil, f
	}
	o.status, o.acceptedAt = "accepted", c.now
	c.emit("quote.accepted", o)
	return o, nil
}

func (c *call) invoiceQuote(o *quote, owner *customer) {
	in := c.newInvoice(owner, "quote_accept")
	in.quote, in.currency, in.collection, in.sharing = o.id, o.cart.currency, o.collection, o.sharing
	in.discounts, in.rates = o.cart.discounts, o.cart.rates
	if o.collection == "send_invoice" {
		in.dueDate = c.now + o.daysDue*86400
	}
	for _, it := range o.cart.items {
		in.lines = append(in.lines, &c.itemOf(it, owner.id).line)
	}
	c.keepInvoice(in)
	o.invoice = in.id
}

// order is the quote as parameters of a subscription.
func (o *quote) order() part {
	n := o.cart.order()
	n.set("collection_method", word(o.collection))
	if o.collection == "send_invoice" {
		n.set("days_until_due", word(text(o.daysDue)))
	}
	if o.subDescription != "" {
		n.set("description", word(o.subDescription))
	}
	md := &node{kind: nodeMap}
	for _, kv := range o.subMetadata {
		md.set(kv.k, word(kv.v))
	}
	if len(md.keys) > 0 {
		n.set("metadata", md)
	}
	return part{n: n, bad: &fault{}, own: true}
}

func (c *call) subscribeQuote(o *quote, owner *customer) *stripeError {
	p := o.order()
	if o.trialDays > 0 {
		p.n.set("trial_period_days", word(text(o.trialDays)))
	}
	sub, in := c.newSubscription(owner, p)
	if f := p.fault(); f != nil {
		return f
	}
	sub.split = o.split
	in.split = &o.split
	c.startDraft(sub, in)
	o.subscription, o.invoice = sub.id, in.id
	return nil
}

// startDraft keeps a subscription whose first invoice is a draft that finalizes and collects itself.
func (c *call) startDraft(sub *subscription, in *invoice) {
	c.s.subscriptions.insert(sub)
	for _, it := range sub.items {
		c.s.subItems.insert(it)
	}
	sub.latest = in.id
	c.keepInvoice(in)
	c.emit("customer.subscription.created", sub)
	c.armSubscription(sub)
}

func (c *call) scheduleQuote(o *quote) *stripeError {
	p := o.order()
	phase := p.n
	if o.trialDays > 0 {
		phase.set("trial_end", word(text(o.effective+o.trialDays*86400)))
	}
	all := &node{kind: nodeMap}
	all.set("phases", &node{kind: nodeList, list: []*node{phase}})
	s := &schedule{head: c.s.head("sub_sched", c), customer: o.customer, status: scheduleWaits, end: "release", mode: o.mode, split: o.split}
	p = part{n: all, bad: p.bad, own: true}
	s.phases = c.readPhases(s, p, o.effective)
	if f := p.fault(); f != nil {
		return f
	}
	c.s.schedules.insert(s)
	c.awaitStart(s, o.effective)
	c.emit("subscription_schedule.created", s)
	o.schedule = s.id
	return nil
}
