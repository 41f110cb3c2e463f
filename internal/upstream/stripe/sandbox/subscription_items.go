package sandbox

// subItem is an item of a subscription: a recurring price and how many of it.
type subItem struct {
	head
	subscription string
	*pricing
	quantity    int64
	discounts   []*discount
	rates       []*taxRate
	start, stop int64 // the current period
}

func (o *subItem) links() []string { return []string{"subscription=" + o.subscription} }

func (o *subItem) metered() bool { return o.price.usage == "metered" }

func (o *subItem) render(e *enc, x *expansion) {
	if o.deleted {
		(&deletedView{"subscription_item", o.id}).render(e, nil)
		return
	}
	e.open()
	e.str("id", o.id)
	e.constant(`"object":"subscription_item","billing_thresholds":null`)
	e.int("created", o.created)
	e.int("current_period_end", o.stop)
	e.int("current_period_start", o.start)
	e.renderDiscounts(o.discounts, x)
	e.metadata(o.md)
	e.key("price")
	o.price.render(e, x.child("price"))
	if !o.metered() {
		e.int("quantity", o.quantity)
	}
	e.str("subscription", o.subscription)
	e.renderRates("tax_rates", o.rates)
	e.close()
}

// line is what a period of the item costs; of a metered one, what was used in it.
func (c *call) subItemLine(o *subItem, customer string, start, stop int64) *line {
	quantity := o.quantity
	if m := c.s.meters.byID[o.price.meter]; m != nil {
		quantity = m.usage(customer, start, stop)
	}
	return &line{id: c.s.id("il"), subscription: o.subscription, member: o.id, currency: o.pricing.currency, quantity: quantity, amount: o.cost(quantity),
		unit: o.unit, price: o.price.id, product: o.product, discountable: true, discounts: o.discounts, rates: o.rates, start: start, stop: stop,
		md: o.md, description: c.describe(o, quantity)}
}

func (c *call) describe(o *subItem, quantity int64) string {
	name := o.product
	if p := c.s.products.byID[o.product]; p != nil {
		name = p.name
	}
	return text(quantity) + " × " + name
}

// newSubItem reads a new item.
func (c *call) newSubItem(sub *subscription, p part) *subItem {
	o := &subItem{head: c.s.head("si", c), subscription: sub.id, quantity: 1, start: sub.start, stop: sub.stop}
	c.fillSubItem(o, sub, p)
	if o.pricing == nil && p.fault() == nil {
		p.keep(errMissingParam(p.nameOf("price")))
	}
	return o
}

// fillSubItem writes what creating and changing an item share.
func (c *call) fillSubItem(o *subItem, sub *subscription, p part) {
	if pr := c.pricing(p, sub.currency); pr != nil {
		if !pr.recurs() {
			p.refuse("price", "", "The price specified is set to `type=one_time` but this field only accepts prices with `type=recurring`.")
			return
		}
		o.pricing = pr
		if sub.currency == "" {
			sub.currency = pr.currency
		}
	}
	if o.pricing == nil {
		return
	}
	if p.has("quantity") {
		if o.metered() {
			p.refuse("quantity", "", "You cannot set the quantity of a metered price.")
		}
		o.quantity = p.count("quantity", 1)
	}
	o.md = p.metadata(o.md)
	if p.sent("discounts") {
		o.discounts = c.redeem(p, discount{customer: sub.customer, subscription: sub.id, item: o.id})
	}
	if p.sent("tax_rates") {
		o.rates = c.rates(p, "tax_rates")
	}
}

var subItemRoutes = []*operation{
	get("/v1/subscription_items", "subscription_items", "list:subscription_item", func(c *call) (view, *stripeError) {
		sub, f := c.s.subscriptions.get(c.str("subscription"), "subscription")
		if f != nil {
			return nil, f
		}
		return c.s.subItems.page(c, "subscription="+sub.id, nil)
	}),
	post("/v1/subscription_items", "subscription_items", "subscription_item", func(c *call) (view, *stripeError) {
		sub, f := c.s.subscriptions.get(c.str("subscription"), "subscription")
		if f != nil {
			return nil, f
		}
		known := len(sub.items)
		if f := c.changeSubItem(sub, ""); f != nil {
			return nil, f
		}
		if len(sub.items) == known { // it waits for a payment
			return sub.pending.items[len(sub.pending.items)-1], nil
		}
		return sub.items[len(sub.items)-1], nil
	}),
	get("/v1/subscription_items/{item}", "subscription_items", "subscription_item", func(c *call) (view, *stripeError) {
		return asView(c.s.subItems.get(c.args[0], "id"))
	}),
	post("/v1/subscription_items/{item}", "subscription_items", "subscription_item", func(c *call) (view, *stripeError) {
		sub, f := c.ownerOf(c.args[0])
		if f != nil {
			return nil, f
		}
		if f := c.changeSubItem(sub, c.args[0]); f != nil {
			return nil, f
		}
		return asView(c.s.subItems.get(c.args[0], "id"))
	}),
	remove("/v1/subscription_items/{item}", "subscription_items", func(c *call) (view, *stripeError) {
		sub, f := c.ownerOf(c.args[0])
		if f != nil {
			return nil, f
		}
		c.p.set("deleted", &node{kind: nodeString, str: "true"})
		if f := c.changeSubItem(sub, c.args[0]); f != nil {
			return nil, f
		}
		return &deletedView{"subscription_item", c.args[0]}, nil
	}),
}

// ownerOf is the subscription of an item.
func (c *call) ownerOf(item string) (*subscription, *stripeError) {
	o, f := c.s.subItems.get(item, "id")
	if f != nil {
		return nil, f
	}
	return c.s.subscriptions.get(o.subscription, "id")
}

// changeSubItem changes one item as an update of its subscription would.
func (c *call) changeSubItem(sub *subscription, item string) *stripeError {
	c.on(sub.customer)
	if sub.ended() {
		return errMissing("subscription", sub.id, "subscription")
	}
	one := &node{kind: nodeMap}
	whole := &node{kind: nodeMap}
	for i, k := range c.p.keys {
		switch k {
		case "proration_behavior", "proration_date", "payment_behavior", "off_session":
			whole.set(k, c.p.vals[i])
		case "expand", "subscription":
		default:
			one.set(k, c.p.vals[i])
		}
	}
	if item != "" {
		one.set("id", &node{kind: nodeString, str: item})
	}
	whole.set("items", &node{kind: nodeList, list: []*node{one}})
	return c.change(sub, part{n: whole, bad: &fault{}})
}
