package sandbox

import "time"

// autoAdvance is how long Stripe leaves a draft that will collect by itself.
const autoAdvance = time.Hour

// newInvoice is a draft for a customer, with nothing on it.
func (c *call) newInvoice(owner *customer, reason string) *invoice {
	o := &invoice{head: c.s.head("in", c), customer: owner.id, currency: "usd", status: "draft", collection: "charge_automatically", reason: reason,
		customerEmail: owner.email, customerName: owner.name, startingBalance: owner.balance, start: c.now, stop: c.now}
	if owner.currency != "" {
		o.currency = owner.currency
	}
	return o
}

// keepInvoice stores a draft, with the items that it takes.
func (c *call) keepInvoice(o *invoice) {
	for _, l := range o.lines {
		if l.of == nil {
			continue
		}
		l.of.invoice = o.id
		if _, stored := c.s.items.byID[l.of.head.id]; !stored {
			c.s.items.insert(l.of)
			c.emit("invoiceitem.created", l.of)
		}
	}
	c.refresh(o)
	c.s.invoices.insert(o)
	c.arm(o)
	c.emit("invoice.created", o)
}

// refresh works out a draft anew.
func (c *call) refresh(o *invoice) {
	rates := o.rates
	if owner := c.s.customers.byID[o.customer]; owner != nil && owner.taxExempt != "none" {
		rates = nil
	}
	o.bill = reckon(o.lines, c.holding(o.discounts), rates, o.bill.shipping)
}

func createInvoice(c *call) (view, *stripeError) {
	p := c.whole()
	var first *invoice
	if c.set("from_invoice") {
		found, f := c.s.invoices.get(p.sub("from_invoice").str("invoice"), "from_invoice[invoice]")
		if f != nil {
			return nil, f
		}
		first = found
	}
	customer := c.str("customer")
	if first != nil {
		customer = first.customer
	}
	if customer == "" {
		return nil, errMissingParam("customer")
	}
	owner, f := c.s.customers.get(customer, "customer")
	if f != nil {
		return nil, f
	}
	c.on(owner.id)
	o := c.newInvoice(owner, "manual")
	if first != nil {
		if f := c.revise(o, first); f != nil {
			return nil, f
		}
	}
	if c.set("currency") {
		if o.currency, f = c.currency("currency"); f != nil {
			return nil, f
		}
	}
	if f := c.invoiceSubscription(o); f != nil {
		return nil, f
	}
	if !p.sent("discounts") && owner.discount != nil && first == nil {
		o.discounts = append(o.discounts, owner.discount)
	}
	if f := c.fillInvoice(o); f != nil {
		return nil, f
	}
	if o.subscription != "" || c.str("pending_invoice_items_behavior") == "include" {
		c.sweep(o, func(item *invoiceItem) bool { return o.subscription == "" || item.subscription == o.subscription })
	}
	c.keepInvoice(o)
	return o, nil
}

// revise copies an open invoice into a draft that replaces it when it is finalized.
func (c *call) revise(o, first *invoice) *stripeError {
	if first.status != "open" && first.status != "uncollectible" {
		return errInvalid("from_invoice[invoice]", "", "You can only revise open invoices. This invoice is "+first.status+".")
	}
	o.revises, o.currency, o.collection, o.description, o.footer = first.id, first.currency, first.collection, first.description, first.footer
	o.discounts, o.rates, o.shippingRate, o.dueDate = first.discounts, first.rates, first.shippingRate, first.dueDate
	o.bill.shipping = first.bill.shipping
	for _, l := range first.lines {
		own := *l
		own.id = c.s.id("il")
		o.lines = append(o.lines, &own)
	}
	return nil
}

// invoiceSubscription makes it an invoice for what is pending on a subscription.
func (c *call) invoiceSubscription(o *invoice) *stripeError {
	if !c.set("subscription") {
		return nil
	}
	sub, f := c.s.subscriptions.get(c.str("subscription"), "subscription")
	if f != nil {
		return f
	}
	if sub.customer != o.customer {
		return errMissing("subscription", sub.id, "subscription")
	}
	o.subscription, o.parentMetadata, o.currency = sub.id, sub.md, sub.currency
	return nil
}

// sweep puts the customer's pending items that fit onto a draft that is not kept yet.
func (c *call) sweep(o *invoice, fits func(*invoiceItem) bool) {
	for _, item := range c.s.items.index["customer="+o.customer] {
		if item.invoice == "" && item.currency == o.currency && !item.deleted && fits(item) {
			o.lines = append(o.lines, &item.line)
		}
	}
}

func (c *call) fillInvoice(o *invoice) *stripeError {
	p := c.whole()
	o.md = p.metadata(o.md)
	for name, field := range map[string]*string{"description": &o.description, "footer": &o.footer, "statement_descriptor": &o.descriptor,
		"number": &o.number} {
		c.assign(name, field)
	}
	c.assignJSON("custom_fields", &o.customFields)
	c.assignJSON("shipping_details", &o.shippingDetails)
	o.collection = p.or("collection_method", o.collection)
	if c.has("days_until_due") {
		o.dueDate = c.now + c.amount("days_until_due")*86400
	}
	if c.has("due_date") {
		o.dueDate = c.amount("due_date")
	}
	if o.dueDate != 0 && o.collection != "send_invoice" {
		return errInvalid("days_until_due", "", "You can only specify a due date when collection_method is send_invoice.")
	}
	if c.has("effective_at") {
		o.effective = c.amount("effective_at")
	}
	if f := c.ownMethods(o.customer, &o.defaultMethod, &o.defaultSource); f != nil {
		return f
	}
	if p.sent("default_tax_rates") {
		o.rates = c.rates(p, "default_tax_rates")
	}
	if p.sent("discounts") {
		o.discounts = c.redeem(p, discount{customer: o.customer, invoice: o.id})
	}
	if p.sent("shipping_cost") {
		o.shippingRate, o.bill.shipping = "", 0
		if rate, amount := c.shipping(p.sub("shipping_cost"), o.currency); rate != nil {
			o.shippingRate, o.bill.shipping = rate.id, amount
		}
	}
	terms, f := c.readSharing(o.sharing, maxAmount)
	if f != nil {
		return f
	}
	o.sharing = terms
	if c.set("auto_advance") {
		o.autoAdvance = c.bool("auto_advance")
	}
	if c.has("automatically_finalizes_at") {
		o.autoAdvance, o.finalizes = true, c.amount("automatically_finalizes_at")
	}
	return p.fault()
}

// ownMethods reads default_payment_method and default_source, which must be the customer's own.
func (c *call) ownMethods(customer string, method, source *string) *stripeError {
	for _, p := range []struct { // in order: of two that are wrong, the first is named
		name  string
		field *string
	}{{"default_payment_method", method}, {"default_source", source}} {
		name, field := p.name, p.field
		if !c.has(name) {
			continue
		}
		if *field = c.str(name); *field == "" {
			continue
		}
		m, f := c.s.methods.get(c.str(name), name)
		if f != nil {
			return f
		}
		if m.customer != customer {
			return errNotAttached(m.id)
		}
	}
	return nil
}

// arm has the clock finalize a draft that collects by itself.
func (c *call) arm(o *invoice) {
	if !o.autoAdvance || o.status != "draft" {
		o.finalizes = 0
		return
	}
	if o.finalizes == 0 {
		o.finalizes = c.now + int64(autoAdvance/time.Second)
	}
	at := o.finalizes
	c.later(o.customer, at, func(c *call) {
		if o.status != "draft" || !o.autoAdvance || o.deleted || o.finalizes != at {
			return
		}
		if f := c.finalize(o); f == nil && o.status == "open" && o.collection == "charge_automatically" {
			// A card that declines leaves the invoice open, as it would at Stripe.
			_ = c.collectInvoice(o, false)
		}
	})
}

func updateInvoice(c *call) (view, *stripeError) {
	o, f := c.s.invoices.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	c.on(o.customer)
	if o.status != "draft" {
		for _, name := range c.p.keys {
			if name != "metadata" && name != "expand" && name != "auto_advance" && name != "description" && name != "default_payment_method" {
				return nil, errInvalid(name, "invoice_not_editable", "Finalized invoices can't be updated in this way")
			}
		}
	}
	if f := c.fillInvoice(o); f != nil {
		return nil, f
	}
	if o.status == "draft" {
		c.refresh(o)
	}
	c.arm(o)
	c.emit("invoice.updated", o)
	return o, nil
}

func deleteInvoice(c *call) (view, *stripeError) {
	o, f := c.s.invoices.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	if o.status != "draft" {
		return nil, errInvalid("", "invoice_not_editable", "You can only delete draft invoices.")
	}
	if o.subscription != "" {
		return nil, errInvalid("", "invoice_not_editable", "You can't delete invoices created by subscriptions.")
	}
	for _, l := range o.lines {
		if l.of != nil {
			l.of.deleted = true
		}
	}
	c.emit("invoice.deleted", o)
	o.deleted = true
	return &deletedView{"invoice", o.id}, nil
}
