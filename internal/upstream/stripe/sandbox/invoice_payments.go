package sandbox

// invoicePayment ties an invoice to an intent that pays it.
type invoicePayment struct {
	head
	invoice, intent, currency string
	requested, paid           int64 // minor units
	status                    string
	attached                  bool // by the merchant: not the one that the invoice made itself
	paidAt, canceledAt        int64
}

func (o *invoicePayment) links() []string {
	return []string{"invoice=" + o.invoice, "payment_intent=" + o.intent}
}

func (o *invoicePayment) render(e *enc, x *expansion) {
	e.open()
	e.str("id", o.id)
	e.str("object", "invoice_payment")
	if o.status == "paid" {
		e.int("amount_paid", o.paid)
	} else {
		e.null("amount_paid")
	}
	e.int("amount_requested", o.requested)
	e.int("created", o.created)
	e.str("currency", o.currency)
	e.ref("invoice", o.invoice, x)
	e.bool("is_default", !o.attached)
	e.bool("livemode", e.s.live())
	e.key("payment")
	e.open()
	e.ref("payment_intent", o.intent, x.child("payment"))
	e.str("type", "payment_intent")
	e.close()
	e.str("status", o.status)
	e.key("status_transitions")
	e.open()
	e.optInt("canceled_at", o.canceledAt)
	e.optInt("paid_at", o.paidAt)
	e.close()
	e.close()
}

// invoiceOwns reports an intent that an invoice made to collect itself.
func (c *call) invoiceOwns(o *paymentIntent) bool {
	in := c.s.invoices.byID[o.invoice]
	return in != nil && in.intent == o.id
}

// endPayment closes what the invoice itself asked for: it was paid, or is asked no more.
func (c *call) endPayment(o *invoice, status string) {
	for _, pay := range c.s.payments.index["invoice="+o.id] {
		pi := c.s.intents.byID[pay.intent]
		if pay.attached || pay.status != "open" || pi == nil {
			continue
		}
		pay.status = status
		if status == "paid" {
			pay.paid, pay.paidAt = pi.received, c.now
			c.emit("invoice_payment.paid", pay)
			continue
		}
		pay.canceledAt = c.now
		if pi.open() {
			pi.status, pi.canceledAt, pi.cancelReason = canceled, c.now, "void_invoice"
			c.emit("payment_intent.canceled", pi)
		}
	}
}

func (o *invoice) renderPayments(e *enc, x *expansion) {
	list := &listView{url: "/v1/invoice_payments"}
	for _, pay := range e.s.payments.index["invoice="+o.id] {
		list.data = append(list.data, pay)
	}
	e.key("payments")
	list.render(e, x)
}

var invoicePaymentRoutes = []*operation{
	get("/v1/invoice_payments", "invoice_payments", "list:invoice_payment", func(c *call) (view, *stripeError) {
		link := ""
		if id := c.str("invoice"); id != "" {
			link = "invoice=" + id
		}
		intent := c.sub("payment", "payment_intent").text()
		return c.s.payments.page(c, link, func(o *invoicePayment) bool {
			return (intent == "" || o.intent == intent) && (!c.set("status") || o.status == c.str("status"))
		})
	}),
	get("/v1/invoice_payments/{invoice_payment}", "invoice_payments", "invoice_payment", func(c *call) (view, *stripeError) {
		return asView(c.s.payments.get(c.args[0], "id"))
	}),
}
