package sandbox

import "strings"

func (c *call) openInvoice(verb string) (*invoice, *stripeError) {
	o, f := c.s.invoices.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	c.on(o.customer)
	if o.status != "open" && (o.status != "uncollectible" || verb != "voided") {
		return nil, errInvalid("", "invoice_not_editable", "You can only pass in open invoices. This invoice isn't open, so it cannot be "+verb+".")
	}
	return o, nil
}

func finalizeInvoice(c *call) (view, *stripeError) {
	o, f := c.s.invoices.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	c.on(o.customer)
	if c.set("auto_advance") {
		o.autoAdvance = c.bool("auto_advance")
	}
	return asView(o, c.finalize(o))
}

// finalize turns a draft into something owed, using up the customer's own balance first.
func (c *call) finalize(o *invoice) *stripeError {
	if o.status != "draft" {
		return errInvalid("", "invoice_not_editable", "This invoice is already finalized, you can't re-finalize a non-draft invoice.")
	}
	owner := c.s.customers.byID[o.customer]
	if owner == nil || owner.deleted {
		return errMissing("customer", o.customer, "")
	}
	c.refresh(o)
	c.applyGrants(o)
	c.refresh(o)
	o.status, o.finalizedAt, o.finalizes = "open", c.now, 0
	if o.number == "" {
		o.number = owner.invoicePrefix + "-" + pad4(owner.nextInvoice)
	}
	owner.nextInvoice++
	o.hosted = "https://invoice.stripe.com/i/" + c.s.accountID + "/" + o.id
	o.startingBalance = owner.balance
	c.useBalance(o, owner)
	o.endingBalance = owner.balance
	spend(o.discounts)
	c.emit("invoice.finalized", o)
	c.replaceRevised(o)
	if o.due() == 0 {
		c.markPaid(o)
		return nil
	}
	if o.collection == "charge_automatically" {
		c.intentFor(o)
	}
	return nil
}

// replaceRevised voids what a revision was made of.
func (c *call) replaceRevised(o *invoice) {
	first := c.s.invoices.byID[o.revises]
	if first == nil || first.status != "open" && first.status != "uncollectible" {
		return
	}
	first.revisedBy = o.id
	c.void(first)
}

// useBalance applies credit, or adds debt, of the customer to an invoice. What
// is too little to be charged becomes debt for the next one.
func (c *call) useBalance(o *invoice, owner *customer) {
	use := int64(0)
	switch total := o.bill.total; {
	case total < 0:
		use = total // the whole of it becomes credit
	case owner.balance < 0:
		use = min(total, -owner.balance)
	case owner.balance > 0:
		use = -owner.balance
	}
	if use != 0 {
		o.fromBalance = use
		c.adjust(owner, use, "applied_to_invoice", "", o.id)
	}
	if rest := o.due(); rest > 0 && rest < minAmount && o.collection == "charge_automatically" {
		o.fromBalance += rest
		c.adjust(owner, rest, "invoice_too_small", "", o.id)
	}
}

func pad4(n int64) string {
	number := text(n)
	return strings.Repeat("0", max(0, 4-len(number))) + number
}

func sendInvoice(c *call) (view, *stripeError) {
	o, f := c.s.invoices.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	c.on(o.customer)
	if o.status == "draft" {
		if f := c.finalize(o); f != nil {
			return nil, f
		}
	}
	if o.status != "open" && o.status != "paid" {
		return nil, errInvalid("", "invoice_not_editable", "Invoices with status "+o.status+" cannot be sent.")
	}
	c.emit("invoice.sent", o)
	return o, nil
}

func markUncollectible(c *call) (view, *stripeError) {
	o, f := c.openInvoice("marked uncollectible")
	if f != nil {
		return nil, f
	}
	c.writeOff(o)
	return o, nil
}

// writeOff gives up hope; the invoice can still be paid.
func (c *call) writeOff(o *invoice) {
	o.status, o.uncollectibleAt, o.autoAdvance, o.nextTry = "uncollectible", c.now, false, 0
	c.emit("invoice.marked_uncollectible", o)
}

func voidInvoice(c *call) (view, *stripeError) {
	o, f := c.openInvoice("voided")
	if f != nil {
		return nil, f
	}
	if o.paid > 0 {
		return nil, errInvalid("", "invoice_not_editable", "This invoice has been paid in part, so it cannot be voided.")
	}
	c.void(o)
	return o, nil
}

// void takes an invoice back: nobody owes it, and what it used of the customer's balance returns.
func (c *call) void(o *invoice) {
	o.status, o.voidedAt, o.autoAdvance, o.nextTry = "void", c.now, false, 0
	if owner := c.s.customers.byID[o.customer]; owner != nil && o.fromBalance != 0 {
		c.adjust(owner, -o.fromBalance, "unapplied_from_invoice", "", o.id)
	}
	c.returnGrants(o)
	c.endPayment(o, "canceled")
	c.emit("invoice.voided", o)
	c.invoiceVoided(o)
}
