package sandbox

// creditNote takes back part of a finalized invoice: first what is still asked,
// then what was paid, which goes back as a refund, as the customer's credit, or elsewhere.
type creditNote struct {
	head
	invoice, customer, currency string
	number, memo, reason        string
	status                      string
	lines                       []*line
	shippingRate                string
	bill                        bill
	before, after               int64 // of the total: not paid yet, and paid already
	elsewhere                   int64 // out_of_band_amount
	refunds                     []returned
	transaction                 string // of the customer's balance
	effective, voidedAt         int64
}

// returned is a refund that a credit note made or is linked to, and how much of it is the note's.
type returned struct {
	refund string
	amount int64
}

func (o *creditNote) links() []string {
	return []string{"customer=" + o.customer, "invoice=" + o.invoice}
}

func (o *creditNote) kind() string {
	switch {
	case o.after == 0:
		return "pre_payment"
	case o.before == 0:
		return "post_payment"
	}
	return "mixed"
}

func (o *creditNote) render(e *enc, x *expansion) {
	onTop, inside := o.bill.tax()
	e.open()
	e.str("id", o.id)
	e.str("object", "credit_note")
	e.int("amount", o.bill.total)
	e.int("amount_shipping", o.bill.shipping)
	e.int("created", o.created)
	e.str("currency", o.currency)
	e.ref("customer", o.customer, x)
	e.null("customer_account")
	e.ref("customer_balance_transaction", o.transaction, x)
	e.int("discount_amount", o.bill.discount())
	e.renderTaken("discount_amounts", o.bill.off, x)
	e.optInt("effective_at", o.effective)
	e.ref("invoice", o.invoice, x)
	e.key("lines")
	lines := o.lineList()
	lines.more = len(lines.data) > defaultLimit
	lines.data = lines.data[:min(len(lines.data), defaultLimit)]
	lines.render(e, x.child("lines"))
	e.bool("livemode", e.s.live())
	e.opt("memo", o.memo)
	e.metadata(o.md)
	e.str("number", o.number)
	e.optInt("out_of_band_amount", o.elsewhere)
	e.str("pdf", "https://pay.stripe.com/credit_notes/"+e.s.accountID+"/"+o.id+"/pdf")
	e.int("post_payment_amount", o.after)
	e.int("pre_payment_amount", o.before)
	e.constant(`"pretax_credit_amounts":[]`)
	e.opt("reason", o.reason)
	e.key("refunds")
	e.b = append(e.b, '[')
	for _, r := range o.refunds {
		e.open()
		e.int("amount_refunded", r.amount)
		e.null("payment_record_refund")
		e.ref("refund", r.refund, x.child("refunds"))
		e.str("type", "refund")
		e.close()
	}
	e.b = append(e.b, ']')
	o.renderShipping(e, x)
	e.str("status", o.status)
	e.int("subtotal", o.bill.subtotal)
	e.int("subtotal_excluding_tax", o.bill.subtotal-inside)
	e.int("total", o.bill.total)
	e.int("total_excluding_tax", o.bill.total-onTop-inside)
	e.renderLevied("total_taxes", o.bill.taxes, x)
	e.str("type", o.kind())
	e.optInt("voided_at", o.voidedAt)
	e.close()
}

func (o *creditNote) renderShipping(e *enc, x *expansion) {
	if o.shippingRate == "" {
		e.null("shipping_cost")
		return
	}
	e.key("shipping_cost")
	e.open()
	e.int("amount_subtotal", o.bill.shipping)
	e.int("amount_tax", 0)
	e.int("amount_total", o.bill.shipping)
	e.ref("shipping_rate", o.shippingRate, x.child("shipping_cost"))
	e.close()
}

// creditLine is a line as it stands on a credit note.
type creditLine struct{ *line }

func (l *creditLine) key() string { return l.id }

func (l *creditLine) render(e *enc, x *expansion) {
	var discount int64
	for _, t := range l.off {
		discount += t.amount
	}
	e.open()
	e.str("id", l.id)
	e.str("object", "credit_note_line_item")
	e.int("amount", l.amount)
	e.opt("description", l.description)
	e.int("discount_amount", discount)
	e.renderTaken("discount_amounts", l.off, x)
	if l.source != "" {
		e.str("invoice_line_item", l.source)
	}
	e.bool("livemode", e.s.live())
	e.metadata(l.md)
	e.constant(`"pretax_credit_amounts":[]`)
	e.int("quantity", l.quantity)
	e.renderRates("tax_rates", l.rates)
	e.renderLevied("taxes", l.taxes, x)
	if l.source != "" {
		e.str("type", "invoice_line_item")
	} else {
		e.str("type", "custom_line_item")
	}
	e.rat("unit_amount", l.unit)
	e.close()
}

func (o *creditNote) lineList() *listView {
	list := &listView{url: "/v1/credit_notes/" + o.id + "/lines"}
	for _, l := range o.lines {
		list.data = append(list.data, &creditLine{l})
	}
	return list
}

var creditNoteRoutes = []*operation{
	get("/v1/credit_notes", "credit_notes", "list:credit_note", func(c *call) (view, *stripeError) {
		link := ""
		if id := c.str("invoice"); id != "" {
			link = "invoice=" + id
		} else if id := c.str("customer"); id != "" {
			link = "customer=" + id
		}
		return c.s.creditNotes.page(c, link, func(o *creditNote) bool { return c.str("customer") == "" || o.customer == c.str("customer") })
	}),
	post("/v1/credit_notes", "credit_notes", "credit_note", func(c *call) (view, *stripeError) {
		o, in, f := c.creditNote()
		if f != nil {
			return nil, f
		}
		return asView(o, c.issue(o, in))
	}),
	get("/v1/credit_notes/preview", "credit_notes", "credit_note", func(c *call) (view, *stripeError) {
		o, _, f := c.creditNote()
		return asView(o, f)
	}),
	get("/v1/credit_notes/preview/lines", "credit_notes", "list:credit_note_line_item", func(c *call) (view, *stripeError) {
		o, _, f := c.creditNote()
		if f != nil {
			return nil, f
		}
		return pageOf(c, o.lineList(), "credit_note_line_item")
	}),
	get("/v1/credit_notes/{credit_note}/lines", "credit_notes", "list:credit_note_line_item", func(c *call) (view, *stripeError) {
		o, f := c.s.creditNotes.get(c.args[0], "id")
		if f != nil {
			return nil, f
		}
		return pageOf(c, o.lineList(), "credit_note_line_item")
	}),
	get("/v1/credit_notes/{id}", "credit_notes", "credit_note", func(c *call) (view, *stripeError) {
		return asView(c.s.creditNotes.get(c.args[0], "id"))
	}),
	post("/v1/credit_notes/{id}", "credit_notes", "credit_note", func(c *call) (view, *stripeError) {
		o, f := c.s.creditNotes.get(c.args[0], "id")
		if f != nil {
			return nil, f
		}
		if o.md, f = c.metadata(o.md); f != nil {
			return nil, f
		}
		c.assign("memo", &o.memo)
		c.emit("credit_note.updated", o)
		return o, nil
	}),
	post("/v1/credit_notes/{id}/void", "credit_notes", "credit_note", voidCreditNote),
}
