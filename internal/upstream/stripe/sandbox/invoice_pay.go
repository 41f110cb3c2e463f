package sandbox

import "strconv"

func (c *call) markPaid(o *invoice) {
	o.status, o.paidAt, o.attempted, o.autoAdvance = "paid", c.now, true, false
	c.emit("invoice.paid", o)
	c.emit("invoice.payment_succeeded", o)
}

func payInvoice(c *call) (view, *stripeError) {
	o, f := c.s.invoices.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	switch o.status {
	case "paid":
		return nil, errInvalid("", "invoice_already_paid", "Invoice is already paid")
	case "void":
		return nil, errInvalid("", "invoice_not_editable", "This invoice is void and can't be paid.")
	case "draft":
		if f := c.finalize(o); f != nil {
			return nil, f
		}
		if o.status == "paid" {
			return o, nil
		}
	}
	if c.bool("paid_out_of_band") {
		o.postPaid = o.remaining()
		o.paid = o.due()
		c.markPaid(o)
		return o, nil
	}
	return asView(o, c.collectInvoice(o))
}

// invoiceMethod is the card an invoice is paid with: the call's, the invoice's, the customer's.
func (c *call) invoiceMethod(o *invoice) (*paymentMethod, *stripeError) {
	for _, name := range []string{"payment_method", "source"} {
		if !c.set(name) {
			continue
		}
		m, f := c.payWith(c.p.get(name), name, o.customer)
		if f == nil && m.customer != o.customer {
			return nil, errNotAttached(m.id)
		}
		return m, f
	}
	owner := c.s.customers.byID[o.customer]
	for _, id := range []string{o.defaultMethod, o.defaultSource, owner.defaultMethod, owner.defaultSource} {
		if m := c.s.methods.byID[id]; m != nil {
			return m, nil
		}
	}
	return nil, errInvalid("", "", "There is no `default_payment_method` set on this Customer or Invoice. "+
		"Please provide a default payment method or use a different collection method.")
}

// collectInvoice takes what is left to pay, through an intent as Stripe does.
func (c *call) collectInvoice(o *invoice) *stripeError {
	m, f := c.invoiceMethod(o)
	if f != nil {
		return f
	}
	pi := c.s.intents.byID[o.intent]
	if pi == nil {
		pi = &paymentIntent{head: c.s.head("pi", c), amount: o.remaining(), currency: o.currency, customer: o.customer, captureMethod: "automatic",
			confirmMethod: "automatic", options: `{"card":{"request_three_d_secure":"automatic"}}`, types: `["card"]`, invoice: o.id,
			description: "Payment for Invoice"}
		pi.secret = pi.id + "_secret_" + c.s.random(c.s.ids, 25)
		pi.status = needsConfirm
		c.s.intents.insert(pi)
		o.intent = pi.id
		c.emit("payment_intent.created", pi)
	}
	pi.method = m.id
	o.attempted = true
	o.attempts++
	if m.needsAction {
		f = c.challengeInvoice(pi, m)
	} else {
		f = c.pay(pi, m, o.remaining())
	}
	if f != nil {
		c.emit("invoice.payment_failed", o)
		return f
	}
	o.paid += pi.received
	c.markPaid(o)
	return nil
}

// challengeInvoice fails: an invoice is paid off session.
func (c *call) challengeInvoice(pi *paymentIntent, m *paymentMethod) *stripeError {
	pi.lastError = errDeclined("authentication_required", "")
	return c.failed(pi, m)
}

type invoiceItem struct {
	head
	lineID                  string
	customer, invoice       string
	amount, quantity, unit  int64 // minor units
	currency, description   string
	price, product          string
	discountable            bool
	periodStart, periodStop int64
}

func (o *invoiceItem) links() []string { return []string{"customer=" + o.customer} }

func (o *invoiceItem) render(e *enc, x *expansion) {
	if o.deleted {
		(&deletedView{"invoiceitem", o.id}).render(e, nil)
		return
	}
	e.open()
	e.str("id", o.id)
	e.str("object", "invoiceitem")
	e.int("amount", o.amount)
	e.str("currency", o.currency)
	e.ref("customer", o.customer, x)
	e.null("customer_account")
	e.int("date", o.created)
	e.opt("description", o.description)
	e.bool("discountable", o.discountable)
	e.constant(`"discounts":[]`)
	e.ref("invoice", o.invoice, x)
	e.bool("livemode", e.s.live())
	e.metadata(o.md)
	e.int("net_amount", o.amount)
	e.null("parent")
	o.renderPeriod(e)
	o.renderPricing(e)
	e.constant(`"proration":false`)
	e.int("quantity", o.quantity)
	e.str("quantity_decimal", strconv.FormatInt(o.quantity, 10))
	e.constant(`"tax_rates":[],"test_clock":null`)
	e.close()
}

func (o *invoiceItem) renderPeriod(e *enc) {
	e.key("period")
	e.open()
	e.int("end", o.periodStop)
	e.int("start", o.periodStart)
	e.close()
}

func (o *invoiceItem) renderPricing(e *enc) {
	if o.price == "" {
		e.null("pricing")
		return
	}
	e.key("pricing")
	e.open()
	e.key("price_details")
	e.open()
	e.str("price", o.price)
	e.str("product", o.product)
	e.close()
	e.str("type", "price_details")
	e.str("unit_amount_decimal", strconv.FormatInt(o.unit, 10))
	e.close()
}

// lineView is an invoice item as a line of its invoice.
type lineView struct {
	item    *invoiceItem
	invoice string
}

func (l *lineView) render(e *enc, _ *expansion) {
	o := l.item
	e.open()
	e.str("id", o.lineID)
	e.str("object", "line_item")
	e.int("amount", o.amount)
	e.str("currency", o.currency)
	e.opt("description", o.description)
	e.constant(`"discount_amounts":[]`)
	e.bool("discountable", o.discountable)
	e.constant(`"discounts":[]`)
	e.str("invoice", l.invoice)
	e.bool("livemode", e.s.live())
	e.metadata(o.md)
	e.key("parent")
	e.open()
	e.key("invoice_item_details")
	e.open()
	e.str("invoice_item", o.id)
	e.constant(`"proration":false,"proration_details":null,"subscription":null`)
	e.close()
	e.constant(`"subscription_item_details":null,"type":"invoice_item_details"`)
	e.close()
	o.renderPeriod(e)
	e.constant(`"pretax_credit_amounts":[]`)
	o.renderPricing(e)
	e.int("quantity", o.quantity)
	e.str("quantity_decimal", strconv.FormatInt(o.quantity, 10))
	e.null("subscription")
	e.int("subtotal", o.amount)
	e.constant(`"taxes":[]`)
	e.close()
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

// priceItem works out what an item costs: an amount, or quantity times a unit price.
func (c *call) priceItem(o *invoiceItem, p *node) *stripeError {
	if n := p.get("quantity"); !n.blank() {
		q, err := parseInt(n)
		if err != nil || q < 0 {
			return errInvalid("quantity", "parameter_invalid_integer", "Invalid non-negative integer")
		}
		o.quantity = q
	}
	data := p.get("price_data")
	id := dig(p, "pricing", "price").text()
	if id == "" {
		id = p.get("price").text()
	}
	switch {
	case !p.get("amount").blank():
		v, err := parseInt(p.get("amount"))
		if err != nil {
			return errInvalid("amount", "parameter_invalid_integer", "Invalid integer: "+p.get("amount").text())
		}
		if !p.get("quantity").blank() && o.price == "" {
			return errInvalid("quantity", "", "You may only specify one of these parameters: amount, quantity.")
		}
		o.amount, o.unit, o.quantity, o.price, o.product = v, v, 1, "", ""
		return nil
	case id != "":
		pr, f := c.s.prices.get(id, "pricing[price]")
		if f != nil {
			return f
		}
		o.unit, o.currency, o.price, o.product = pr.unit, pr.currency, pr.id, pr.product
	case !data.blank():
		pr, f := c.newPrice(data, "price_data")
		if f != nil {
			return f
		}
		o.unit, o.currency, o.price, o.product = pr.unit, pr.currency, pr.id, data.get("product").text()
	case !p.get("unit_amount_decimal").blank():
		v, err := parseInt(p.get("unit_amount_decimal"))
		if err != nil {
			return errInvalid("unit_amount_decimal", "", "This sandbox takes whole minor units only.")
		}
		o.unit = v
	}
	o.amount = o.unit * o.quantity
	return nil
}

func (c *call) assignItem(item *invoiceItem, o *invoice) {
	item.invoice = o.id
	o.lines = append(o.lines, item)
}

func createItem(c *call) (view, *stripeError) {
	o := &invoiceItem{head: c.s.head("ii", c), lineID: c.s.id("il"), currency: "usd", quantity: 1, discountable: true,
		customer: c.str("customer"), description: c.str("description"), periodStart: c.now, periodStop: c.now}
	in, f := c.draft(o)
	if f != nil {
		return nil, f
	}
	if c.set("currency") {
		if o.currency, f = c.currency("currency"); f != nil {
			return nil, f
		}
	}
	if f := c.priceItem(o, c.p); f != nil {
		return nil, f
	}
	if in != nil && in.currency != o.currency {
		return nil, errInvalid("currency", "", "The currency of the invoice is "+in.currency+", not "+o.currency+".")
	}
	if o.md, f = c.metadata(nil); f != nil {
		return nil, f
	}
	c.s.items.insert(o)
	if in != nil {
		c.assignItem(o, in)
	}
	c.emit("invoiceitem.created", o)
	return o, nil
}

// draft finds whose item it is, and the draft it goes on, if one is named.
func (c *call) draft(o *invoiceItem) (*invoice, *stripeError) {
	for _, name := range []string{"subscription", "tax_rates", "discounts"} {
		if c.set(name) {
			return nil, errInvalid(name, "", "This sandbox makes invoice items without "+name+".")
		}
	}
	if !c.set("invoice") {
		if o.customer == "" {
			return nil, errMissingParam("customer")
		}
		_, f := c.s.customers.get(o.customer, "customer")
		return nil, f
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
	o, _, f := c.editable(c.args[0])
	if f != nil {
		return nil, f
	}
	if f := c.priceItem(o, c.p); f != nil {
		return nil, f
	}
	if o.md, f = c.metadata(o.md); f != nil {
		return nil, f
	}
	c.assign("description", &o.description)
	return o, nil
}

func deleteItem(c *call) (view, *stripeError) {
	o, in, f := c.editable(c.args[0])
	if f != nil {
		return nil, f
	}
	if in != nil {
		for i, l := range in.lines {
			if l == o {
				in.lines = append(in.lines[:i:i], in.lines[i+1:]...)
				break
			}
		}
	}
	o.deleted = true
	return &deletedView{"invoiceitem", o.id}, nil
}

// previewInvoice is a read: it works out an invoice and stores nothing.
func previewInvoice(c *call) (view, *stripeError) {
	owner, f := c.s.customers.get(c.str("customer"), "customer")
	if f != nil {
		return nil, f
	}
	if f := c.unbilled(); f != nil {
		return nil, f
	}
	o := &invoice{head: c.s.head("in", c), customer: owner.id, currency: "usd", status: "draft", collection: "charge_automatically",
		customerEmail: owner.email, customerName: owner.name, preview: true}
	if c.set("currency") {
		if o.currency, f = c.currency("currency"); f != nil {
			return nil, f
		}
	}
	for _, item := range c.s.items.index["customer="+owner.id] {
		if item.invoice == "" && item.currency == o.currency && !item.deleted {
			o.lines = append(o.lines, item)
		}
	}
	extra, _ := c.p.get("invoice_items").items()
	for _, n := range extra {
		item := &invoiceItem{head: c.s.head("ii", c), lineID: c.s.id("il"), currency: o.currency, quantity: 1, discountable: true,
			customer: owner.id, description: n.get("description").text(), periodStart: c.now, periodStop: c.now}
		if f := c.priceItem(item, n); f != nil {
			return nil, f
		}
		o.lines = append(o.lines, item)
	}
	if total := o.total(); total > 0 && owner.balance != 0 {
		o.fromBalance = min(total, -owner.balance)
	}
	return o, nil
}
