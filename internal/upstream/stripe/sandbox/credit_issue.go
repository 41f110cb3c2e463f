package sandbox

import "slices"

// creditNote works out a credit note. Nothing is kept: a preview needs no more.
func (c *call) creditNote() (*creditNote, *invoice, *stripeError) {
	in, f := c.s.invoices.get(c.str("invoice"), "invoice")
	if f != nil {
		return nil, nil, f
	}
	c.on(in.customer)
	if in.status == "draft" || in.status == "void" {
		return nil, nil, errInvalid("invoice", "", "Credit notes can only be created for open, paid or uncollectible invoices. This invoice is "+in.status+".")
	}
	p := c.whole()
	o := &creditNote{head: c.s.head("cn", c), invoice: in.id, customer: in.customer, currency: in.currency, status: "issued", memo: c.str("memo"),
		reason: c.str("reason"), effective: c.now, elsewhere: p.count("out_of_band_amount", 0)}
	o.number = in.number + "-CN-" + pad2(len(c.s.creditNotes.index["invoice="+in.id])+1)
	if p.has("effective_at") {
		o.effective = p.int("effective_at")
	}
	o.md = p.metadata(nil)
	c.creditLines(o, in, p)
	if f := p.fault(); f != nil {
		return nil, nil, f
	}
	o.bill = sumUp(o.lines, o.bill.shipping)
	if f := positive("amount", o.bill.total); f != nil {
		return nil, nil, f
	}
	c.linkRefunds(o, in, p)
	o.before = min(o.bill.total, in.remaining())
	o.after = o.bill.total - o.before
	if f := c.creditable(o, in, p); f != nil {
		return nil, nil, f
	}
	return o, in, nil
}

func pad2(n int) string {
	if n < 10 {
		return "0" + text(int64(n))
	}
	return text(int64(n))
}

// creditLines reads what is credited: lines, an amount, or the shipping.
func (c *call) creditLines(o *creditNote, in *invoice, p part) {
	for _, n := range p.list("lines") {
		if l := c.creditLine(in, n); l != nil {
			o.lines = append(o.lines, l)
		}
	}
	if p.has("amount") && len(o.lines) == 0 {
		amount := p.int("amount")
		o.lines = []*line{{id: c.s.id("cnli"), amount: amount, quantity: 1, unit: ratOf(amount), currency: in.currency, description: "Credit"}}
	}
	if rate := p.sub("shipping_cost").str("shipping_rate"); rate != "" {
		if rate != in.shippingRate {
			p.sub("shipping_cost").refuse("shipping_rate", "", "The shipping rate is not that of the invoice.")
		}
		o.shippingRate, o.bill.shipping = rate, in.bill.shipping
	}
	if len(o.lines) == 0 && o.shippingRate == "" {
		p.keep(errMissingParam("amount"))
	}
	if p.has("amount") && len(p.list("lines")) > 0 && sumUp(o.lines, o.bill.shipping).total != p.int("amount") {
		p.refuse("amount", "", "The sum of the lines must be the amount of the credit note.")
	}
}

// creditLine reads one line: part of a line of the invoice, with its part of the discounts, or one of its own.
func (c *call) creditLine(in *invoice, n part) *line {
	l := &line{id: c.s.id("cnli"), quantity: n.count("quantity", 1), currency: in.currency, md: n.metadata(nil), description: n.str("description")}
	if n.has("tax_amounts") {
		n.refuse("tax_amounts", "", "This sandbox works out taxes by tax rates only.")
	}
	if n.str("type") == "custom_line_item" {
		l.unit = n.amountOrDecimal("unit_amount")
		if l.unit == nil {
			n.keep(errMissingParam(n.nameOf("unit_amount")))
			return nil
		}
		l.amount = (&tariff{unit: l.unit}).cost(l.quantity)
		l.levy(c.rates(n, "tax_rates"))
		return l
	}
	of := in.lineOf(n.str("invoice_line_item"))
	if of == nil {
		n.keep(errMissing("line_item", n.str("invoice_line_item"), n.nameOf("invoice_line_item")))
		return nil
	}
	l.source, l.unit, l.amount = of.id, of.unit, of.amount
	if l.description == "" {
		l.description = of.description
	}
	switch {
	case n.has("amount"):
		l.amount, l.quantity = n.count("amount", 0), of.quantity
	case n.has("quantity"):
		l.amount = share(of.amount, l.quantity, of.quantity)
	default:
		l.quantity = of.quantity
	}
	if l.amount > of.amount || l.quantity > of.quantity {
		n.refuse("amount", "", "The credited amount is more than the invoice line item.")
		return nil
	}
	for _, t := range of.off {
		l.off = append(l.off, taken{t.discount, share(t.amount, l.amount, of.amount)})
	}
	for _, t := range of.taxes {
		l.rates = append(l.rates, t.rate)
	}
	l.levy(l.rates)
	return l
}

// sumUp adds lines whose discounts and taxes are worked out already.
func sumUp(lines []*line, shipping int64) bill {
	b := bill{shipping: shipping, total: shipping}
	for _, l := range lines {
		b.subtotal += l.amount
		b.total += l.net()
		b.note(l)
	}
	onTop, _ := b.tax()
	b.total += onTop
	return b
}

// linkRefunds reads refunds that were made already and belong to the note.
func (c *call) linkRefunds(o *creditNote, in *invoice, p part) {
	charges := c.chargesOf(in)
	for _, n := range p.list("refunds") {
		r, f := c.s.refunds.get(n.str("refund"), n.nameOf("refund"))
		if f != nil {
			n.keep(f)
			continue
		}
		if !slices.ContainsFunc(charges, func(ch *charge) bool { return ch.id == r.charge }) {
			n.refuse("refund", "", "The refund "+r.id+" is not of a payment of this invoice.")
		}
		amount := n.count("amount_refunded", r.amount)
		if amount > r.amount-c.credited(r.id) {
			n.refuse("amount_refunded", "", "The amount is more than what the refund has left.")
		}
		o.refunds = append(o.refunds, returned{r.id, amount})
	}
}

// credited is how much of a refund credit notes account for.
func (c *call) credited(refund string) int64 {
	var sum int64
	for _, note := range c.s.creditNotes.order {
		for _, r := range note.refunds {
			if r.refund == refund && note.status == "issued" {
				sum += r.amount
			}
		}
	}
	return sum
}

// chargesOf are the charges that paid an invoice.
func (c *call) chargesOf(in *invoice) []*charge {
	var out []*charge
	for _, pay := range c.s.payments.index["invoice="+in.id] {
		if pi := c.s.intents.byID[pay.intent]; pi != nil && pay.status == "paid" {
			if ch := c.s.charges.byID[pi.latestCharge]; ch != nil {
				out = append(out, ch)
			}
		}
	}
	return out
}

// creditable refuses a note for more than is left, or whose parts do not add up.
func (c *call) creditable(o *creditNote, in *invoice, p part) *stripeError {
	if f := p.fault(); f != nil {
		return f
	}
	left := in.paid - in.creditedPaid
	for _, ch := range c.chargesOf(in) { // what was refunded without a note is gone
		left -= ch.refundedMoney
		for _, r := range c.s.refunds.index["charge="+ch.id] {
			left += c.credited(r.id)
		}
	}
	linked := int64(0)
	for _, r := range o.refunds {
		linked += r.amount
	}
	left += linked
	if o.after > left {
		return errInvalid("amount", "", "The sum of credit notes ("+formatAmount(o.bill.total, o.currency)+") is more than what is left of the invoice ("+
			formatAmount(o.before+max(0, left), o.currency)+").")
	}
	parts := linked + o.elsewhere + p.count("refund_amount", 0) + p.count("credit_amount", 0)
	if parts != o.after {
		return errInvalid("refund_amount", "", "The sum of credit amount, refund amount and out of band amount ("+formatAmount(parts, o.currency)+
			") must equal the post payment amount of the credit note ("+formatAmount(o.after, o.currency)+").")
	}
	return p.fault()
}

// issue keeps a credit note and moves what it moves: a refund first, which may be refused.
func (c *call) issue(o *creditNote, in *invoice) *stripeError {
	p := c.whole()
	if amount := p.int("refund_amount"); amount > 0 {
		id, f := c.refundInvoice(in, amount)
		if f != nil {
			return f
		}
		o.refunds = append(o.refunds, returned{id, amount})
	}
	if credit := p.int("credit_amount"); credit > 0 {
		t := c.adjust(c.s.customers.byID[in.customer], -credit, "credit_note", "", in.id)
		t.creditNote = o.id
		o.transaction = t.id
	}
	c.s.creditNotes.insert(o)
	in.creditedOpen += o.before
	in.creditedPaid += o.after
	c.emit("credit_note.created", o)
	if o.before == 0 {
		return nil
	}
	if in.remaining() == 0 {
		c.endPayment(in, "canceled")
		c.markPaid(in)
	} else if pi := c.s.intents.byID[in.intent]; pi != nil {
		pi.amount = in.remaining()
	}
	return nil
}

// refundInvoice sends back part of what paid an invoice.
func (c *call) refundInvoice(in *invoice, amount int64) (string, *stripeError) {
	for _, ch := range c.chargesOf(in) {
		if ch.captured-ch.refundedMoney < amount {
			continue
		}
		own := c.with("amount", text(amount))
		r, f := own.refund(ch)
		c.effects = own.effects
		if f != nil {
			return "", f
		}
		return r.id, nil
	}
	return "", errInvalid("refund_amount", "", "No payment of the invoice has that much left to refund.")
}

// with is the call with other parameters, given as names and values in turn.
func (c *call) with(pairs ...string) *call {
	own := *c
	own.p = &node{kind: nodeMap}
	for i := 0; i+1 < len(pairs); i += 2 {
		own.p.set(pairs[i], word(pairs[i+1]))
	}
	return &own
}

// voidCreditNote asks for the amount again. What was refunded or credited stays.
func voidCreditNote(c *call) (view, *stripeError) {
	o, f := c.s.creditNotes.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	in := c.s.invoices.byID[o.invoice]
	c.on(o.customer)
	if o.status == "void" || in.status != "open" || o.after > 0 {
		return nil, errInvalid("", "", "You can only void credit notes of open invoices that were issued before any payment. This one is "+o.status+
			" and its invoice "+in.status+".")
	}
	o.status, o.voidedAt = "void", c.now
	in.creditedOpen -= o.before
	if pi := c.s.intents.byID[in.intent]; pi != nil {
		pi.amount = in.remaining()
	}
	c.emit("credit_note.voided", o)
	return o, nil
}
