package sandbox

import "slices"

// Shopper is what a customer does on the page of a checkout session or payment
// link. The zero value takes what is offered and pays with a good card.
type Shopper struct {
	// Method is a payment method's id or test name; empty is pm_card_visa.
	Method string `json:"payment_method"`
	Email  string `json:"email"`
	// Quantities are of line items, by id, whose quantity may be adjusted.
	Quantities map[string]int64 `json:"quantities"`
	// Optional are quantities of optional items, by price.
	Optional map[string]int64 `json:"optional_items"`
	// Shipping is the shipping rate chosen; empty is the first.
	Shipping string `json:"shipping_rate"`
	// Code is a promotion code as customers type it.
	Code string `json:"promotion_code"`
	// Amount is what a customer who may choose it pays per unit, in minor units.
	Amount int64 `json:"amount"`
}

// Checkout does what a customer does on the page of an open checkout session: it
// is paid, subscribed to, or the card is kept. A card that declines and a choice
// that is not offered are errors, and the session stays open. Safe for concurrent
// use.
func (s *Server) Checkout(id string, by Shopper) error {
	return s.outside(func(c *call) *stripeError {
		o, f := c.openSession(id)
		if f != nil {
			return f
		}
		return c.complete(o, by)
	})
}

// FollowLink does what a customer does who follows a payment link: it opens a
// session and completes it, and returns its id. A link that is inactive or used
// up is an error, as is what [Server.Checkout] refuses. Safe for concurrent use.
func (s *Server) FollowLink(id string, by Shopper) (session string, err error) {
	err = s.outside(func(c *call) *stripeError {
		o, f := c.follow(id)
		if f != nil {
			return f
		}
		session = o.id
		return c.complete(o, by)
	})
	return session, err
}

// complete takes the customer's choices and then the money.
func (c *call) complete(o *session, by Shopper) *stripeError {
	before := o.cart
	f := c.choices(o, by)
	if f == nil {
		f = c.settleSession(o, by)
	}
	if f != nil {
		o.cart = before
		o.choose(0)
		return f
	}
	o.status = "complete"
	c.countLink(o.link)
	c.emit("checkout.session.completed", o)
	return nil
}

// choices puts what the customer chose into the cart, as far as that is offered.
func (c *call) choices(o *session, by Shopper) *stripeError {
	items := make([]*cartItem, len(o.cart.items))
	for i, it := range o.cart.items {
		own := *it
		items[i] = &own
		if q, ok := by.Quantities[it.line.id]; ok {
			if q < it.least || q > it.most {
				return errInvalid("quantities", "", "The quantity of "+it.line.id+" cannot be adjusted to that.")
			}
			own.quantity, own.amount = q, it.cost(q)
		}
		if it.custom != nil && by.Amount != 0 {
			if by.Amount < it.custom.minimum || it.custom.maximum != 0 && by.Amount > it.custom.maximum {
				return errInvalid("amount", "", "The amount is not between the bounds of the price.")
			}
			own.amount = by.Amount
		}
	}
	for price, q := range by.Optional {
		i := slices.IndexFunc(o.optional, func(it *cartItem) bool { return it.pricing.price.id == price })
		if i < 0 || q != o.optional[i].quantity && (q < o.optional[i].least || q > o.optional[i].most) {
			return errInvalid("optional_items", "", "The price "+price+" is not an optional item, or not in that quantity.")
		}
		own := *o.optional[i]
		own.quantity, own.amount = q, own.cost(q)
		items = append(items, &own)
	}
	o.cart.items = items
	if by.Shipping != "" {
		i := slices.IndexFunc(o.shipping, func(s shippingOption) bool { return s.rate.id == by.Shipping })
		if i < 0 {
			return errInvalid("shipping_rate", "", "The shipping rate "+by.Shipping+" is not offered.")
		}
		o.choose(i)
	}
	if by.Code != "" {
		return c.enterCode(o, by.Code)
	}
	return nil
}

// enterCode redeems a promotion code that the customer typed.
func (c *call) enterCode(o *session, typed string) *stripeError {
	for _, code := range c.s.promotions.order {
		if o.codes && code.code == typed && code.redeemable(o.customer, c.now) {
			n := &node{kind: nodeMap}
			n.set("promotion_code", word(code.id))
			p := part{n: n, bad: &fault{}}
			if d := c.redeemOne(p, discount{customer: o.customer, session: o.id}); d != nil {
				o.cart.discounts = append(slices.Clone(o.cart.discounts), d)
			}
			return p.fault()
		}
	}
	return errInvalid("promotion_code", "", "The promotion code "+typed+" cannot be redeemed here.")
}

// settleSession does what the session is for.
func (c *call) settleSession(o *session, by Shopper) *stripeError {
	if by.Method == "" {
		by.Method = "pm_card_visa"
	}
	if by.Email != "" && o.email == "" {
		o.email = by.Email
	}
	m, f := c.payWith(word(by.Method), "payment_method", o.customer)
	if f != nil {
		return f
	}
	if o.customer == "" && (o.mode == "subscription" || o.creation == "always" || o.invoiced || o.mode == "setup" && o.creation != "if_required") {
		if f := c.newShopper(o); f != nil {
			return f
		}
	}
	switch o.mode {
	case "setup":
		return c.keepCard(o, m)
	case "subscription":
		return c.subscribeSession(o, m)
	}
	if o.cart.reckon(c, nil).total == 0 {
		return nil
	}
	if o.invoiced {
		return c.invoiceSession(o, m)
	}
	return c.paySession(o, m)
}

// newShopper makes the customer that a session is to leave behind.
func (c *call) newShopper(o *session) *stripeError {
	n := &node{kind: nodeMap}
	if o.email != "" {
		n.set("email", word(o.email))
	}
	v, f := c.run("POST", "/v1/customers", n)
	if f != nil {
		return f
	}
	c.s.sessions.relink(o, func() { o.customer = v.(*customer).id })
	return nil
}

// run makes a call within the call.
func (c *call) run(method, path string, p *node) (view, *stripeError) {
	own := *c
	own.p, own.path, own.body = p, path, nil
	own.op, own.args = c.s.routes.match(method, path)
	v, f := own.op.handler(&own)
	c.effects = own.effects
	return v, f
}

func (c *call) keepCard(o *session, m *paymentMethod) *stripeError {
	si := c.s.setups.byID[o.setupID]
	si.method, si.status = m.id, needsConfirm
	c.s.setups.relink(si, func() { si.customer = o.customer })
	if f := c.confirmSetup(si); f != nil {
		return f
	}
	if si.status != succeeded {
		return c.authenticateSetup(si.id, true)
	}
	return nil
}

// paySession pays with an intent, which payment_intent_data has its say in.
func (c *call) paySession(o *session, m *paymentMethod) *stripeError {
	n := &node{kind: nodeMap}
	if o.intent != nil {
		n.keys, n.vals = slices.Clone(o.intent.keys), slices.Clone(o.intent.vals)
	}
	n.set("amount", word(text(o.cart.reckon(c, nil).total)))
	n.set("currency", word(o.cart.currency))
	n.set("payment_method", word(m.id))
	n.set("confirm", word("true"))
	if o.customer != "" {
		n.set("customer", word(o.customer))
	}
	v, f := c.run("POST", "/v1/payment_intents", n)
	if f != nil {
		return f
	}
	pi := v.(*paymentIntent)
	if pi.status == needsAction {
		if f := c.authenticate(pi.id, true); f != nil {
			return f
		}
	}
	c.s.sessions.relink(o, func() { o.intentID = pi.id })
	if pi.status == succeeded {
		o.paid = "paid"
	}
	return nil
}

// invoiceSession pays with an invoice.
func (c *call) invoiceSession(o *session, m *paymentMethod) *stripeError {
	in := c.newInvoice(c.s.customers.byID[o.customer], "manual")
	in.currency, in.sharing, in.discounts, in.rates = o.cart.currency, o.sharing, o.cart.discounts, o.cart.rates
	in.description, in.footer = o.invoice.get("description").text(), o.invoice.get("footer").text()
	if o.chosen != nil {
		in.shippingRate, in.bill.shipping = o.chosen.rate.id, o.chosen.amount
	}
	for _, it := range o.cart.items {
		in.lines = append(in.lines, &c.itemOf(it, o.customer).line)
	}
	if f := c.attach(m, o.customer); f != nil {
		return f
	}
	in.defaultMethod = m.id
	c.keepInvoice(in)
	if f := c.finalize(in); f != nil {
		return f
	}
	if in.status == "open" {
		if f := c.collectInvoice(in, false); f != nil {
			c.void(in)
			return f
		}
	}
	o.invoiceID, o.paid = in.id, "paid"
	c.s.sessions.relink(o, func() { o.intentID = in.intent })
	return nil
}

// itemOf is a cart's item as an invoice item.
func (c *call) itemOf(it *cartItem, customer string) *invoiceItem {
	item := c.newItem(customer, it.line.currency)
	item.line.quantity, item.line.amount, item.line.unit = it.quantity, it.amount, it.pricing.unit
	item.line.price, item.line.product, item.line.description = it.pricing.price.id, it.pricing.price.product, it.line.description
	item.line.rates, item.line.discounts = it.line.rates, it.line.discounts
	return item
}

// subscribeSession starts a subscription, which subscription_data has its say in.
func (c *call) subscribeSession(o *session, m *paymentMethod) *stripeError {
	if m.decline != "" {
		return errDeclined(m.decline, "")
	}
	if f := c.attach(m, o.customer); f != nil {
		return f
	}
	n := o.cart.order()
	if o.subData != nil {
		for i, k := range o.subData.keys {
			n.set(k, o.subData.vals[i])
		}
	}
	n.set("default_payment_method", word(m.id))
	p := part{n: n, bad: &fault{}, own: true}
	sub, in := c.newSubscription(c.s.customers.byID[o.customer], p)
	if f := p.fault(); f != nil {
		return f
	}
	if o.chosen != nil {
		in.shippingRate, in.bill.shipping = o.chosen.rate.id, o.chosen.amount
	}
	if f := c.start(sub, in, "allow_incomplete"); f != nil {
		return f
	}
	if pi := c.s.intents.byID[in.intent]; pi != nil && pi.status == needsAction {
		if f := c.authenticate(pi.id, true); f != nil {
			return f
		}
	}
	o.invoiceID = in.id
	if in.paid > 0 {
		o.paid = "paid"
	}
	c.s.sessions.relink(o, func() { o.subscription = sub.id })
	return nil
}
