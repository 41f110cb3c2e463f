package sandbox

import "net/http"

const (
	retryAfter = 3 * 86400 // seconds between attempts to collect
	maxRetries = 3         // after the first attempt
)

func (c *call) markPaid(o *invoice) {
	o.status, o.paidAt, o.attempted, o.autoAdvance, o.nextTry = "paid", c.now, true, false, 0
	c.emit("invoice.paid", o)
	c.emit("invoice.payment_succeeded", o)
	c.invoicePaid(o)
}

func payInvoice(c *call) (view, *stripeError) {
	o, f := c.s.invoices.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	c.on(o.customer)
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
		o.offStripe = o.remaining()
		o.paid += o.offStripe
		c.endPayment(o, "canceled")
		c.markPaid(o)
		return o, nil
	}
	return asView(o, c.collectInvoice(o, c.has("off_session") && !c.bool("off_session")))
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
	if m := c.usualMethod(o); m != nil {
		return m, nil
	}
	return nil, errInvalid("", "", "There is no `default_payment_method` set on this Customer or Invoice. "+
		"Please provide a default payment method or use a different collection method.")
}

// usualMethod is what an invoice is paid with when nobody says: its own method, its
// subscription's, its customer's. Nil where there is none.
func (c *call) usualMethod(o *invoice) *paymentMethod {
	ids := []string{o.defaultMethod, o.defaultSource}
	if sub := c.s.subscriptions.byID[o.subscription]; sub != nil {
		ids = append(ids, sub.method, sub.source)
	}
	if owner := c.s.customers.byID[o.customer]; owner != nil {
		ids = append(ids, owner.defaultMethod, owner.defaultSource)
	}
	for _, id := range ids {
		if m := c.s.methods.byID[id]; m != nil {
			return m
		}
	}
	return nil
}

// intentFor is the intent that collects an invoice; the first call makes it.
func (c *call) intentFor(o *invoice) *paymentIntent {
	if pi := c.s.intents.byID[o.intent]; pi != nil && pi.status != canceled {
		return pi
	}
	pi := &paymentIntent{head: c.s.head("pi", c), sharing: o.terms(o.remaining()), amount: o.remaining(), currency: o.currency, customer: o.customer, captureMethod: "automatic",
		confirmMethod: "automatic", options: `{"card":{"request_three_d_secure":"automatic"}}`, types: `["card"]`, invoice: o.id,
		description: "Payment for Invoice", status: needsMethod}
	pi.secret = pi.id + "_secret_" + c.s.random(c.s.ids, 25)
	if m := c.usualMethod(o); m != nil {
		pi.method, pi.status = m.id, needsConfirm
	}
	c.s.intents.insert(pi)
	o.intent = pi.id
	c.emit("payment_intent.created", pi)
	c.s.payments.insert(&invoicePayment{head: c.s.head("inpay", c), invoice: o.id, currency: o.currency, requested: pi.amount, status: "open", intent: pi.id})
	return pi
}

// collectInvoice takes what is left to pay, through an intent as Stripe does. In
// a session the customer can be asked to authenticate; otherwise such a card fails.
func (c *call) collectInvoice(o *invoice, inSession bool) *stripeError {
	m, f := c.invoiceMethod(o)
	if f != nil {
		c.invoiceFailed(o)
		return f
	}
	pi := c.intentFor(o)
	pi.method, pi.amount = m.id, o.remaining()
	pi.sharing = o.terms(pi.amount)
	o.attempted = true
	o.attempts++
	if !m.needsAction {
		return c.pay(pi, m, pi.amount)
	}
	if !inSession {
		pi.lastError = errDeclined("authentication_required", "")
		return c.failed(pi, m)
	}
	pi.status, pi.confirming = needsAction, pi.amount
	c.emit("payment_intent.requires_action", pi)
	c.emit("invoice.payment_action_required", o)
	return &stripeError{status: http.StatusPaymentRequired, typ: typeCard, code: "invoice_payment_intent_requires_action", retry: "false",
		message: "Payment for this invoice requires additional user action before it can be completed successfully."}
}

// intentPaid books what an intent received for its invoice.
func (c *call) intentPaid(pi *paymentIntent) {
	o := c.s.invoices.byID[pi.invoice]
	if o == nil || o.status != "open" && o.status != "uncollectible" {
		return
	}
	for _, pay := range c.s.payments.index["payment_intent="+pi.id] {
		if pay.attached {
			c.attachedPaid(o, pay, pi)
			return
		}
	}
	o.paid += pi.received
	c.endPayment(o, "paid")
	c.markPaid(o)
}

// intentFailed notes that an invoice was not paid, and tries again later if it collects by itself.
func (c *call) intentFailed(pi *paymentIntent) {
	if o := c.s.invoices.byID[pi.invoice]; o != nil && o.status == "open" {
		c.invoiceFailed(o)
	}
}

func (c *call) invoiceFailed(o *invoice) {
	o.nextTry = 0
	if o.autoAdvance && o.collection == "charge_automatically" && o.attempts <= maxRetries {
		at := c.now + retryAfter
		o.nextTry = at
		c.later(o.customer, at, func(c *call) {
			if o.status == "open" && o.nextTry == at {
				_ = c.collectInvoice(o, false) // it may well fail again
			}
		})
	}
	c.emit("invoice.payment_failed", o)
	c.invoiceUnpaid(o)
}

// attachPayment lets an intent that the merchant made pay an invoice.
func attachPayment(c *call) (view, *stripeError) {
	o, f := c.openInvoice("paid by another payment")
	if f != nil {
		return nil, f
	}
	pi, f := c.s.intents.get(c.str("payment_intent"), "payment_intent")
	if f != nil {
		return nil, f
	}
	if pi.invoice != "" || pi.customer != o.customer || pi.currency != o.currency || pi.status == canceled {
		return nil, errInvalid("payment_intent", "", "This PaymentIntent cannot be attached to the invoice: it belongs to another invoice or customer, "+
			"has another currency, or was canceled.")
	}
	pi.invoice = o.id
	pay := &invoicePayment{head: c.s.head("inpay", c), invoice: o.id, currency: o.currency, requested: pi.amount, status: "open", intent: pi.id, attached: true}
	c.s.payments.insert(pay)
	if pi.status == succeeded {
		c.attachedPaid(o, pay, pi)
	}
	return o, nil
}

// attachedPaid books an attached payment; what is more than asked for is the customer's.
func (c *call) attachedPaid(o *invoice, pay *invoicePayment, pi *paymentIntent) {
	pay.status, pay.paid, pay.paidAt = "paid", pi.received, c.now
	c.emit("invoice_payment.paid", pay)
	o.paid += pi.received
	o.attempted = true
	if o.paid >= o.due() {
		c.endPayment(o, "canceled")
		c.markPaid(o)
	}
}
