package sandbox

// paymentLink is an address under which anybody can buy, again and again.
type paymentLink struct {
	head
	offer
	active         bool
	limit, count   int64 // of completed sessions; limit 0 is none
	after, message string
	redirect       string
}

func (o *paymentLink) links() []string { return nil }

func (o *paymentLink) render(e *enc, x *expansion) {
	e.open()
	e.str("id", o.id)
	e.str("object", "payment_link")
	e.bool("active", o.active)
	e.key("after_completion")
	e.open()
	if o.after == "redirect" {
		e.key("redirect")
		e.open()
		e.str("url", o.redirect)
		e.close()
	} else {
		e.constant(`"hosted_confirmation":{"custom_message":null}`)
	}
	e.str("type", o.after)
	e.close()
	e.bool("allow_promotion_codes", o.codes)
	e.null("application")
	o.renderFee(e)
	e.raw("application_fee_percent", decimal(o.split.fee))
	e.constant(`"automatic_tax":{"enabled":false,"liability":null}`)
	e.str("billing_address_collection", o.address)
	e.constant(`"consent_collection":null`)
	e.str("currency", o.cart.currency)
	e.constant(`"custom_fields":[],"custom_text":{"after_submit":null,"shipping_address":null,"submit":null,"terms_of_service_acceptance":null}`)
	e.str("customer_creation", o.creation)
	e.opt("inactive_message", o.message)
	e.key("invoice_creation")
	e.open()
	e.bool("enabled", o.invoiced)
	e.key("invoice_data")
	o.renderInvoiceData(e)
	e.close()
	if sub := x.child("line_items"); sub != nil {
		o.cart.reckon(&call{s: e.s, now: o.created}, nil)
		e.key("line_items")
		o.cart.list("/v1/payment_links/"+o.id+"/line_items", nil).shown().render(e, sub)
	}
	e.bool("livemode", e.s.live())
	e.metadata(o.md)
	e.ref("on_behalf_of", o.onBehalf(), x)
	o.renderOptional(e)
	o.renderIntentData(e)
	e.str("payment_method_collection", o.collect)
	e.constant(`"payment_method_options":null,"payment_method_types":null,"phone_number_collection":{"enabled":false}`)
	o.renderRestrictions(e)
	e.null("shipping_address_collection")
	o.renderShippingOptions(e, x)
	e.str("submit_type", o.submit)
	o.renderSubscriptionData(e)
	e.constant(`"tax_id_collection":{"enabled":false,"required":"never"}`)
	o.renderDestination(e, x)
	e.str("url", "https://buy.stripe.com/test_"+o.id[len(o.id)-16:])
	e.close()
}

// onBehalf is the account in whose name a link's payments go.
func (o *paymentLink) onBehalf() string {
	if o.split.onBehalfOf != "" {
		return o.split.onBehalfOf
	}
	return o.onBehalfOf
}

func (o *paymentLink) renderIntentData(e *enc) {
	if o.cart.recurring().unit != "" {
		e.null("payment_intent_data")
		return
	}
	e.key("payment_intent_data")
	e.open()
	e.opt("capture_method", o.intent.get("capture_method").text())
	e.opt("description", o.intent.get("description").text())
	e.nodeMetadata(o.intent)
	for _, name := range []string{"setup_future_usage", "statement_descriptor", "statement_descriptor_suffix", "transfer_group"} {
		e.opt(name, o.intent.get(name).text())
	}
	e.close()
}

func (o *paymentLink) renderRestrictions(e *enc) {
	if o.limit == 0 {
		e.null("restrictions")
		return
	}
	e.key("restrictions")
	e.open()
	e.key("completed_sessions")
	e.open()
	e.int("count", o.count)
	e.int("limit", o.limit)
	e.close()
	e.close()
}

func (o *paymentLink) renderSubscriptionData(e *enc) {
	if o.cart.recurring().unit == "" {
		e.null("subscription_data")
		return
	}
	data := part{n: o.subData, bad: &fault{}}
	e.key("subscription_data")
	e.open()
	e.opt("description", data.str("description"))
	e.constant(`"invoice_settings":{"issuer":{"type":"self"}}`)
	e.nodeMetadata(o.subData)
	e.optInt("trial_period_days", data.int("trial_period_days"))
	e.null("trial_settings")
	e.close()
}

func (o *paymentLink) renderDestination(e *enc, x *expansion) {
	to := o.destination
	if o.split.destination != "" {
		to = o.split.destination
	}
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
	e.ref("destination", to, x.child("transfer_data"))
	e.close()
}

var linkRoutes = []*operation{
	get("/v1/payment_links", "payment_links", "list:payment_link", func(c *call) (view, *stripeError) {
		return c.s.paymentLinks.page(c, "", func(o *paymentLink) bool { return !c.has("active") || o.active == c.bool("active") })
	}),
	post("/v1/payment_links", "payment_links", "payment_link", func(c *call) (view, *stripeError) {
		o := &paymentLink{head: c.s.head("plink", c), active: true, after: "hosted_confirmation"}
		o.creation, o.collect, o.address, o.submit = "if_required", "always", "auto", "auto"
		p := c.whole()
		if p.has("currency") {
			o.cart.currency = p.currency("currency")
		}
		c.fillOffer(&o.offer, p, "")
		o.checkMode(p, o.mode())
		if f := c.fillLink(o, p); f != nil {
			return nil, f
		}
		c.s.paymentLinks.insert(o)
		c.emit("payment_link.created", o)
		return o, nil
	}),
	get("/v1/payment_links/{payment_link}", "payment_links", "payment_link", func(c *call) (view, *stripeError) {
		return asView(c.s.paymentLinks.get(c.args[0], "id"))
	}),
	post("/v1/payment_links/{payment_link}", "payment_links", "payment_link", updateLink),
	get("/v1/payment_links/{payment_link}/line_items", "payment_links", "list:item", func(c *call) (view, *stripeError) {
		o, f := c.s.paymentLinks.get(c.args[0], "id")
		if f != nil {
			return nil, f
		}
		o.cart.reckon(c, nil)
		return pageOf(c, o.cart.list(c.url(), nil), "item")
	}),
}

// mode is that of the sessions that a link opens.
func (o *paymentLink) mode() string {
	if o.cart.recurring().unit != "" {
		return "subscription"
	}
	return "payment"
}

// fillLink writes what create and update of a link share.
func (c *call) fillLink(o *paymentLink, p part) *stripeError {
	o.md = p.metadata(o.md)
	c.assign("inactive_message", &o.message)
	if after := p.sub("after_completion"); !after.n.blank() {
		o.after, o.redirect = after.str("type"), after.sub("redirect").str("url")
	}
	if p.sent("restrictions") {
		o.limit = p.sub("restrictions").sub("completed_sessions").count("limit", 0)
		if p.has("restrictions") && o.limit == 0 {
			p.sub("restrictions").sub("completed_sessions").refuse("limit", "parameter_invalid_integer", "Invalid positive integer")
		}
	}
	if p.fault() != nil {
		return p.fault()
	}
	if o.mode() == "subscription" {
		o.split = c.readSplit(o.split, p)
		return p.fault()
	}
	terms, f := c.readSharing(o.sharing, maxAmount)
	o.sharing = terms
	return f
}

// updateLink changes a link. Its line items stay, but for their quantities.
func updateLink(c *call) (view, *stripeError) {
	o, f := c.s.paymentLinks.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	p := c.whole()
	next := *o
	if p.sent("line_items") {
		scratch := &session{offer: o.offer}
		next.cart.items = nil
		for _, it := range o.cart.items {
			own := *it
			next.cart.items = append(next.cart.items, &own)
		}
		for _, n := range p.list("line_items") {
			changed := c.sessionItem(scratch, n)
			for i, it := range next.cart.items {
				if changed != nil && it.line.id == changed.line.id {
					next.cart.items[i] = changed
				}
			}
		}
	}
	rest := &node{kind: nodeMap}
	for i, k := range p.n.keys {
		if k != "line_items" {
			rest.set(k, p.n.vals[i])
		}
	}
	c.fillOffer(&next.offer, part{n: rest, bad: p.bad}, "")
	if c.set("active") {
		next.active = c.bool("active")
	}
	if f := c.fillLink(&next, p); f != nil {
		return nil, f
	}
	*o = next
	c.emit("payment_link.updated", o)
	return o, nil
}

// follow opens a session for somebody who follows a link.
func (c *call) follow(id string) (*session, *stripeError) {
	o, f := c.s.paymentLinks.get(id, "id")
	if f != nil {
		return nil, f
	}
	if !o.active {
		return nil, errInvalid("", "", "This payment link is no longer active.")
	}
	prefix := "cs_test"
	if c.s.live() {
		prefix = "cs_live"
	}
	cs := &session{head: c.s.head(prefix, c), offer: o.offer, mode: o.mode(), status: "open", paid: "unpaid", link: o.id,
		settings: map[string]string{"ui_mode": "hosted_page", "success_url": o.redirect}}
	cs.md = o.md
	cs.cart.items = nil
	for _, it := range o.cart.items {
		own := *it
		cs.cart.items = append(cs.cart.items, &own)
	}
	cs.intent = withSharing(o.intent, &o.sharing)
	cs.subData = withSplit(o.subData, &o.split)
	cs.expires = c.now + int64(maxSession.Seconds())
	c.keepSession(cs)
	return cs, nil
}

// withSharing are payment_intent_data with how the payment is shared.
func withSharing(data *node, s *sharing) *node {
	n := &node{kind: nodeMap}
	if data != nil {
		n.keys, n.vals = append([]string{}, data.keys...), append([]*node{}, data.vals...)
	}
	if s.destination != "" {
		to := &node{kind: nodeMap}
		to.set("destination", word(s.destination))
		if s.hasShare {
			to.set("amount", word(text(s.share)))
		}
		n.set("transfer_data", to)
	}
	if s.hasFee {
		n.set("application_fee_amount", word(text(s.fee)))
	}
	if s.onBehalfOf != "" {
		n.set("on_behalf_of", word(s.onBehalfOf))
	}
	return n
}

// withSplit are subscription_data with how its invoices are shared.
func withSplit(data *node, s *split) *node {
	n := &node{kind: nodeMap}
	if data != nil {
		n.keys, n.vals = append([]string{}, data.keys...), append([]*node{}, data.vals...)
	}
	if s.destination != "" {
		to := &node{kind: nodeMap}
		to.set("destination", word(s.destination))
		n.set("transfer_data", to)
	}
	if s.fee != nil {
		n.set("application_fee_percent", word(decimal(s.fee)))
	}
	if s.onBehalfOf != "" {
		n.set("on_behalf_of", word(s.onBehalfOf))
	}
	return n
}

// countLink counts a completed session of a link, and closes the link at its limit.
func (c *call) countLink(id string) {
	o := c.s.paymentLinks.byID[id]
	if o == nil {
		return
	}
	o.count++
	if o.limit != 0 && o.count >= o.limit {
		o.active = false
		c.emit("payment_link.updated", o)
	}
}
