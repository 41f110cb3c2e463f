package sandbox

import "slices"

// invoiceItem is something that a customer will be billed for: on a draft
// already, or pending.
type invoiceItem struct {
	head
	line
	customer, invoice string
}

func (o *invoiceItem) links() []string { return []string{"customer=" + o.customer} }

func (o *invoiceItem) render(e *enc, x *expansion) {
	if o.deleted {
		(&deletedView{"invoiceitem", o.head.id}).render(e, nil)
		return
	}
	e.open()
	e.str("id", o.head.id)
	e.str("object", "invoiceitem")
	e.int("amount", o.amount)
	e.str("currency", o.currency)
	e.ref("customer", o.customer, x)
	e.null("customer_account")
	e.int("date", o.created)
	e.opt("description", o.description)
	e.bool("discountable", o.discountable)
	e.renderDiscounts(o.discounts, x)
	e.ref("invoice", o.invoice, x)
	e.bool("livemode", e.s.live())
	e.metadata(o.line.md)
	e.int("net_amount", o.net())
	if o.subscription == "" {
		e.null("parent")
	} else {
		e.key("parent")
		e.open()
		e.key("subscription_details")
		e.open()
		e.str("subscription", o.subscription)
		if o.member != "" {
			e.str("subscription_item", o.member)
		}
		e.close()
		e.str("type", "subscription_details")
		e.close()
	}
	o.renderPeriod(e)
	o.renderPricing(e, x)
	e.bool("proration", o.proration)
	e.int("quantity", o.quantity)
	e.str("quantity_decimal", text(o.quantity))
	e.renderRates("tax_rates", o.rates)
	e.renderClock(o.customer, x)
	e.close()
}

var itemRoutes = []*operation{
	get("/v1/invoiceitems", "invoiceitems", "list:invoiceitem", listItems),
	post("/v1/invoiceitems", "invoiceitems", "invoiceitem", createItem),
	get("/v1/invoiceitems/{invoiceitem}", "invoiceitems", "invoiceitem", func(c *call) (view, *stripeError) {
		return asView(c.s.items.get(c.args[0], "id"))
	}),
	post("/v1/invoiceitems/{invoiceitem}", "invoiceitems", "invoiceitem", updateItem),
	remove("/v1/invoiceitems/{invoiceitem}", "invoiceitems", deleteItem),
}

func listItems(c *call) (view, *stripeError) {
	link := ""
	if id := c.str("customer"); id != "" {
		link = "customer=" + id
	}
	in := c.str("invoice")
	return c.s.items.page(c, link, func(o *invoiceItem) bool {
		return (in == "" || o.invoice == in) && (!c.bool("pending") || o.invoice == "")
	})
}

// priceLine works out what a line costs: an amount, or quantity times a unit
// price. A line that has a price already keeps it where p names none.
func (c *call) priceLine(l *line, p part) {
	quantity := p.count("quantity", l.quantity)
	if p.has("quantity_decimal") {
		whole := p.rat("quantity_decimal")
		if whole == nil || !whole.IsInt() || whole.Sign() < 0 {
			p.refuse("quantity_decimal", "", "This sandbox takes whole quantities of zero or more only.")
			return
		}
		quantity = whole.Num().Int64()
	}
	switch {
	case p.has("amount"):
		if p.has("quantity") && l.price == "" {
			p.refuse("quantity", "", "You may only specify one of these parameters: amount, quantity.")
		}
		l.amount, l.quantity, l.unit, l.price, l.product = p.int("amount"), 1, ratOf(p.int("amount")), "", ""
		return
	case p.has("unit_amount"), p.has("unit_amount_decimal"):
		if l.unit = p.amountOrDecimal("unit_amount"); l.unit == nil {
			return
		}
		l.price, l.product = "", ""
	default:
		if pr := c.pricing(p, ""); pr != nil {
			if pr.recurs() {
				p.refuse("price", "", "The price specified is set to `type=recurring` but this field only accepts prices with `type=one_time`.")
				return
			}
			l.currency, l.unit, l.price, l.product = pr.currency, pr.unit, pr.id, pr.product
			l.quantity, l.amount = quantity, pr.cost(quantity)
			return
		}
	}
	l.quantity = quantity
	switch pr := c.s.prices.byID[l.price]; {
	case pr != nil:
		l.amount = (&pricing{pr, pr.in(l.currency), l.currency}).cost(quantity)
	case l.unit != nil:
		l.amount = (&tariff{unit: l.unit}).cost(quantity)
	}
}

// fillLine writes what items and lines of invoices have in common.
func (c *call) fillLine(l *line, p part, owner string) {
	c.priceLine(l, p)
	l.md = p.metadata(l.md)
	if p.sent("description") {
		l.description = p.str("description")
	}
	if p.has("period") {
		l.start, l.stop = p.sub("period").int("start"), p.sub("period").int("end")
	}
	if p.has("discountable") {
		l.discountable = p.bool("discountable")
	}
	if p.sent("discounts") {
		l.discounts = c.redeem(p, discount{customer: owner, invoiceItem: l.itemID()})
	}
	if p.sent("tax_rates") {
		l.rates = c.rates(p, "tax_rates")
	}
	if p.has("tax_amounts") {
		p.refuse("tax_amounts", "", "This sandbox works out taxes by tax rates only.")
	}
}

// newItem is an item that costs nothing yet.
func (c *call) newItem(customer, currency string) *invoiceItem {
	o := &invoiceItem{head: c.s.head("ii", c), customer: customer}
	o.line = line{id: c.s.id("il"), of: o, currency: currency, quantity: 1, discountable: true, start: c.now, stop: c.now}
	return o
}

func createItem(c *call) (view, *stripeError) {
	o := c.newItem(c.str("customer"), "usd")
	in, f := c.draft(o)
	if f != nil {
		return nil, f
	}
	p := c.whole()
	if c.set("currency") {
		o.currency = p.currency("currency")
	}
	c.fillLine(&o.line, p, o.customer)
	if f := p.fault(); f != nil {
		return nil, f
	}
	if !c.has("discountable") && o.amount < 0 {
		o.discountable = false
	}
	if in != nil && in.currency != o.currency {
		return nil, errInvalid("currency", "", "The currency of the invoice is "+in.currency+", not "+o.currency+".")
	}
	c.keepItem(o, in)
	return o, nil
}

// keepItem stores an item, on a draft if there is one.
func (c *call) keepItem(o *invoiceItem, in *invoice) {
	c.s.items.insert(o)
	if in != nil {
		o.invoice = in.id
		in.lines = append(in.lines, &o.line)
		c.refresh(in)
	}
	c.emit("invoiceitem.created", o)
}

// draft finds whose item it is, and the draft it goes on, if one is named.
func (c *call) draft(o *invoiceItem) (*invoice, *stripeError) {
	if id := c.str("subscription"); id != "" {
		sub, f := c.s.subscriptions.get(id, "subscription")
		if f != nil {
			return nil, f
		}
		if o.customer != "" && sub.customer != o.customer {
			return nil, errMissing("subscription", id, "subscription")
		}
		o.customer, o.subscription, o.currency = sub.customer, id, sub.currency
	}
	if !c.set("invoice") {
		if o.customer == "" {
			return nil, errMissingParam("customer")
		}
		owner, f := c.s.customers.get(o.customer, "customer")
		if f != nil {
			return nil, f
		}
		if owner.currency != "" && o.subscription == "" {
			o.currency = owner.currency
		}
		c.on(owner.id)
		o.created, o.start, o.stop = c.now, c.now, c.now
		return nil, nil
	}
	in, f := c.s.invoices.get(c.str("invoice"), "invoice")
	if f != nil {
		return nil, f
	}
	if o.customer != "" && o.customer != in.customer {
		return nil, errInvalid("invoice", "", "The invoice "+in.id+" does not belong to the customer "+o.customer+".")
	}
	if in.status != "draft" {
		return nil, errInvalid("invoice", "invoice_not_editable", "You can only add invoice items to draft invoices.")
	}
	o.customer, o.currency = in.customer, in.currency
	return in, nil
}

func (c *call) editable(id string) (*invoiceItem, *invoice, *stripeError) {
	o, f := c.s.items.get(id, "id")
	if f != nil {
		return nil, nil, f
	}
	in := c.s.invoices.byID[o.invoice]
	if in != nil && in.status != "draft" {
		return nil, nil, errInvalid("", "invoice_not_editable", "This invoice item is on an invoice that is no longer editable.")
	}
	return o, in, nil
}

func updateItem(c *call) (view, *stripeError) {
	o, in, f := c.editable(c.args[0])
	if f != nil {
		return nil, f
	}
	p := c.whole()
	next := o.line
	c.fillLine(&next, p, o.customer)
	if f := p.fault(); f != nil {
		return nil, f
	}
	if in != nil && next.currency != in.currency {
		return nil, errInvalid("currency", "", "The currency of the invoice is "+in.currency+", not "+next.currency+".")
	}
	o.line = next
	if in != nil {
		c.refresh(in)
	}
	return o, nil
}

func deleteItem(c *call) (view, *stripeError) {
	o, in, f := c.editable(c.args[0])
	if f != nil {
		return nil, f
	}
	if in != nil {
		c.takeOff(in, &o.line)
	}
	c.emit("invoiceitem.deleted", o)
	o.deleted = true
	return &deletedView{"invoiceitem", o.head.id}, nil
}

// takeOff removes a line from a draft.
func (c *call) takeOff(in *invoice, l *line) {
	in.lines = slices.DeleteFunc(in.lines, func(other *line) bool { return other == l })
	c.refresh(in)
}
