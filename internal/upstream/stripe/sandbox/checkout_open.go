package sandbox

import "slices"

// fillOffer reads what sessions and links have in common.
func (c *call) fillOffer(o *offer, p part, customer string) {
	if p.sent("line_items") {
		o.cart.fill(c, p, "line_items", customer)
	}
	if p.sent("optional_items") {
		extra := cart{currency: o.cart.currency}
		extra.fill(c, p, "optional_items", customer)
		o.optional = extra.items
	}
	if p.sent("shipping_options") {
		o.shipping = nil
		for _, n := range p.list("shipping_options") {
			if rate, amount := c.shipping(n, o.cart.currency); rate != nil {
				o.shipping = append(o.shipping, shippingOption{rate, amount})
			}
		}
	}
	if p.sent("allow_promotion_codes") {
		o.codes = p.bool("allow_promotion_codes")
	}
	for name, kept := range map[string]**node{"payment_intent_data": &o.intent, "subscription_data": &o.subData, "setup_intent_data": &o.setup} {
		if n := p.n.get(name); n != nil {
			*kept = n
		}
	}
	if p.has("invoice_creation") {
		o.invoiced, o.invoice = p.sub("invoice_creation").bool("enabled"), p.sub("invoice_creation").n.get("invoice_data")
	}
	o.creation = p.or("customer_creation", o.creation)
	o.collect = p.or("payment_method_collection", o.collect)
	o.address = p.or("billing_address_collection", o.address)
	o.submit = p.or("submit_type", o.submit)
}

// checkMode refuses items that do not go with what the page is for.
func (o *offer) checkMode(p part, mode string) {
	recurring := o.cart.recurring()
	switch {
	case mode == "setup" && len(o.cart.items) > 0:
		p.refuse("line_items", "", "You can not pass `line_items` in `setup` mode.")
	case mode != "setup" && len(o.cart.items) == 0 && p.fault() == nil:
		p.keep(errMissingParam("line_items"))
	case mode == "payment" && recurring.unit != "":
		p.refuse("line_items", "", "You specified `payment` mode but passed a recurring price. Either switch to `subscription` mode or use only one-time prices.")
	case mode == "subscription" && recurring.unit == "" && p.fault() == nil:
		p.refuse("line_items", "", "You must provide at least one recurring price in `subscription` mode when using prices.")
	}
	for _, it := range o.cart.items {
		if it.recurs() && it.period != recurring {
			p.refuse("line_items", "", "All recurring prices of this sandbox's sessions have the same billing interval.")
		}
	}
}

func createSession(c *call) (view, *stripeError) {
	p := c.whole()
	prefix := "cs_test"
	if c.s.live() {
		prefix = "cs_live"
	}
	o := &session{head: c.s.head(prefix, c), mode: c.str("mode"), status: "open", paid: "unpaid", email: c.str("customer_email"),
		reference: c.str("client_reference_id"), settings: map[string]string{"ui_mode": "hosted_page"}}
	if o.mode == "" {
		return nil, errMissingParam("mode")
	}
	if id := c.str("customer"); id != "" {
		owner, f := c.s.customers.get(id, "customer")
		if f != nil {
			return nil, f
		}
		o.customer, o.email, o.name = owner.id, owner.email, owner.name
		c.on(owner.id)
		o.created = c.now
	}
	o.md = p.metadata(nil)
	for _, name := range []string{"success_url", "cancel_url", "return_url", "ui_mode", "locale"} {
		o.settings[name] = p.or(name, o.settings[name])
	}
	if o.settings["ui_mode"] == "hosted_page" {
		p.must("success_url")
	} else {
		p.must("return_url")
	}
	if o.mode == "payment" && o.customer == "" {
		o.creation = "if_required"
	}
	if p.has("currency") {
		o.cart.currency = p.currency("currency")
	}
	c.fillOffer(&o.offer, p, o.customer)
	o.checkMode(p, o.mode)
	o.cart.discounts = c.redeem(p, discount{customer: o.customer, session: o.id})
	c.shareSession(o, p)
	c.boundSession(o, p)
	if f := p.fault(); f != nil {
		return nil, f
	}
	c.keepSession(o)
	return o, nil
}

// shareSession reads who else gets part of what a session brings in.
func (c *call) shareSession(o *session, p part) {
	switch o.mode {
	case "payment":
		own := *c
		if own.p = o.intent; own.p == nil {
			return
		}
		terms, f := own.readSharing(sharing{}, maxAmount)
		o.sharing = terms
		p.keep(f)
	case "subscription":
		o.split = c.readSplit(split{}, p.sub("subscription_data"))
	}
}

// boundSession reads how long a session stays open.
func (c *call) boundSession(o *session, p part) {
	o.expires = c.now + int64(maxSession.Seconds())
	if !p.has("expires_at") {
		return
	}
	if o.expires = p.int("expires_at"); o.expires < c.now+int64(minSession.Seconds()) || o.expires > c.now+int64(maxSession.Seconds()) {
		p.refuse("expires_at", "", "The `expires_at` timestamp must be between 30 minutes and 24 hours from Checkout Session creation.")
	}
}

// keepSession stores a session; one that leaves a card has its setup intent from the start.
func (c *call) keepSession(o *session) {
	o.choose(0)
	if o.mode == "setup" {
		si := c.newSetup()
		si.customer, si.session, si.onBehalfOf = o.customer, o.id, o.setup.get("on_behalf_of").text()
		si.description = o.setup.get("description").text()
		c.s.setups.insert(si)
		c.emit("setup_intent.created", si)
		o.setupID, o.paid = si.id, "no_payment_required"
	}
	if o.mode != "setup" && o.cart.reckon(c, o.upfront).total == 0 {
		o.paid = "no_payment_required"
	}
	c.s.sessions.insert(o)
	c.later(o.customer, o.expires, func(c *call) {
		if o.status == "open" {
			c.expireSession(o)
		}
	})
}

// choose takes one of the shipping options; at first that is the first.
func (o *session) choose(i int) {
	o.chosen, o.cart.shipping = nil, 0
	if i < len(o.shipping) {
		own := o.shipping[i]
		o.chosen, o.cart.shipping = &own, own.amount
	}
}

// updateSession changes an open session. Line items that are named by id stay, those left out go.
func updateSession(c *call) (view, *stripeError) {
	o, f := c.openSession(c.args[0])
	if f != nil {
		return nil, f
	}
	p := c.whole()
	next := *o
	next.md = p.metadata(o.md)
	if p.sent("line_items") {
		next.cart.items = nil
		for _, n := range p.list("line_items") {
			if it := c.sessionItem(o, n); it != nil {
				next.cart.items = append(next.cart.items, it)
			}
		}
		next.checkMode(p, o.mode)
	}
	if p.sent("shipping_options") {
		c.fillOffer(&next.offer, part{n: only(p.n, "shipping_options"), bad: p.bad}, o.customer)
	}
	if f := p.fault(); f != nil {
		return nil, f
	}
	*o = next
	o.choose(0)
	return o, nil
}

// only is some of the parameters.
func only(n *node, names ...string) *node {
	out := &node{kind: nodeMap}
	for i, k := range n.keys {
		if slices.Contains(names, k) {
			out.set(k, n.vals[i])
		}
	}
	return out
}

// sessionItem is a line item of an update: an old one, changed, or a new one.
func (c *call) sessionItem(o *session, n part) *cartItem {
	id := n.str("id")
	i := slices.IndexFunc(o.cart.items, func(it *cartItem) bool { return it.line.id == id })
	switch {
	case id == "":
		one := cart{currency: o.cart.currency}
		all := &node{kind: nodeMap}
		all.set("line_items", &node{kind: nodeList, list: []*node{n.n}})
		one.fill(c, part{n: all, bad: n.bad}, "line_items", o.customer)
		if len(one.items) == 0 {
			return nil
		}
		return one.items[0]
	case i < 0:
		n.keep(errMissing("item", id, n.nameOf("id")))
		return nil
	}
	it := *o.cart.items[i]
	if pr := c.pricing(n, o.cart.currency); pr != nil {
		it.pricing = pr
		it.line.price, it.line.product, it.line.unit = pr.price.id, pr.price.product, pr.unit
	}
	it.quantity = n.count("quantity", it.quantity)
	it.amount = it.cost(it.quantity)
	it.line.md = n.metadata(it.line.md)
	if adjust := n.sub("adjustable_quantity"); !adjust.n.blank() {
		it.least, it.most = 0, 0
		if adjust.bool("enabled") {
			it.least, it.most = adjust.count("minimum", 0), adjust.count("maximum", 99)
		}
	}
	return &it
}
