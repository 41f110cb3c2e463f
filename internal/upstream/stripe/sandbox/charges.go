package sandbox

import (
	"net/http"
	"strconv"
)

type charge struct {
	head
	sharing
	features
	transfers        []string // to the destination, one for each capture
	feeID            string   // of the application fee
	sourceTransfer   string   // the transfer that this is the receipt of
	amount, captured int64    // minor units
	refundedMoney    int64    // sent back to the customer, pending included
	released         int64    // the part of an authorization that was given up
	currency         string
	customer         string
	intent           string
	invoice          string // kept for effects; no longer a field of Stripe's charge
	method           string
	description      string
	descriptor       string
	suffix           string
	receiptEmail     string
	transferGroup    string
	shipping         string // JSON
	status           string // succeeded or failed
	isCaptured       bool
	transaction      string
	decline          string
	disputed         bool
}

func (o *charge) links() []string {
	var keys []string
	if o.customer != "" {
		keys = append(keys, "customer="+o.customer)
	}
	if o.intent != "" {
		keys = append(keys, "payment_intent="+o.intent)
	}
	return keys
}

// amountRefunded counts a released authorization as refunded, so that amount
// less this is always what can still be refunded.
func (o *charge) amountRefunded() int64 { return o.refundedMoney + o.released }

func (o *charge) render(e *enc, x *expansion) {
	failed := o.status == "failed"
	e.open()
	e.str("id", o.id)
	e.str("object", "charge")
	e.int("amount", o.amount)
	e.int("amount_captured", o.captured)
	e.int("amount_refunded", o.amountRefunded())
	if e.s == e.s.platform {
		e.null("application")
	} else {
		e.str("application", applicationID)
	}
	e.foreign("application_fee", o.feeID, e.s.platform, x)
	o.renderFee(e)
	e.ref("balance_transaction", o.transaction, x)
	m := e.s.methods.byID[o.method]
	if m != nil {
		e.raw("billing_details", m.billing)
	} else {
		e.raw("billing_details", noBilling)
	}
	e.constant(`"calculated_statement_descriptor":"KEYBRAKE SANDBOX"`)
	e.bool("captured", o.isCaptured)
	e.int("created", o.created)
	e.str("currency", o.currency)
	e.ref("customer", o.customer, x)
	e.opt("description", o.description)
	e.bool("disputed", o.disputed)
	e.null("failure_balance_transaction")
	o.renderFailure(e, failed)
	e.constant(`"fraud_details":{}`)
	e.bool("livemode", e.s.live())
	e.metadata(o.md)
	e.ref("on_behalf_of", o.onBehalfOf, x)
	o.renderOutcome(e, failed)
	e.bool("paid", o.status == "succeeded")
	e.ref("payment_intent", o.intent, x)
	e.opt("payment_method", o.method)
	o.renderMethod(e, m)
	e.constant(`"radar_options":{}`)
	e.opt("receipt_email", o.receiptEmail)
	e.constant(`"receipt_number":null,"receipt_url":null`)
	e.bool("refunded", o.amountRefunded() >= o.amount && o.amount > 0)
	if sub := x.child("refunds"); sub != nil {
		o.renderRefunds(e, sub)
	}
	e.null("review")
	e.raw("shipping", o.shipping)
	e.foreign("source_transfer", o.sourceTransfer, e.s.platform, x)
	e.opt("statement_descriptor", o.descriptor)
	e.opt("statement_descriptor_suffix", o.suffix)
	e.str("status", o.status)
	if len(o.transfers) > 0 {
		e.ref("transfer", o.transfers[0], x)
	}
	o.renderShare(e, x)
	e.opt("transfer_group", o.transferGroup)
	e.close()
}

// renderMethod writes what the charge was paid with.
func (o *charge) renderMethod(e *enc, m *paymentMethod) {
	e.key("payment_method_details")
	e.open()
	typ := typeOfCard
	if m != nil {
		typ = m.typ
		e.key(typ)
		e.open()
		switch typ {
		case typeOfCard:
			e.int("amount_authorized", o.amount)
			m.renderCard(e)
			o.renderFeatures(e)
			e.str("network", m.brand)
			e.constant(`"three_d_secure":null,"wallet":null`)
		case typeOfBank:
			m.renderBank(e)
		}
		e.close()
	}
	e.str("type", typ)
	e.close()
}

func (o *charge) renderFeatures(e *enc) {
	status := map[bool]string{true: "available", false: "unavailable"}
	e.constant(`"incremental_authorization":{"status":"` + status[o.incremental] + `"},"multicapture":{"status":"` + status[o.multi] + `"}`)
	e.constant(`"overcapture":{"maximum_amount_capturable":` + strconv.FormatInt(o.amount+o.beyond(o.amount), 10) + `,"status":"` + status[o.over] + `"}`)
}

func (o *charge) renderFailure(e *enc, failed bool) {
	if !failed {
		e.constant(`"failure_code":null,"failure_message":null`)
		return
	}
	e.str("failure_code", errDeclined(o.decline, "").code)
	e.str("failure_message", declines[o.decline])
}

func (o *charge) renderOutcome(e *enc, failed bool) {
	e.key("outcome")
	e.open()
	if failed {
		e.str("network_status", "declined_by_network")
		e.str("reason", o.decline)
		e.constant(`"risk_level":"normal","seller_message":"The bank did not return any further details with this decline.","type":"issuer_declined"`)
	} else {
		e.constant(`"network_status":"approved_by_network","reason":null,"risk_level":"normal","seller_message":"Payment complete.","type":"authorized"`)
	}
	e.close()
}

func (o *charge) renderRefunds(e *enc, x *expansion) {
	list := &listView{url: "/v1/charges/" + o.id + "/refunds"}
	all := e.s.refunds.index["charge="+o.id]
	for i := len(all) - 1; i >= 0 && len(list.data) < defaultLimit; i-- {
		list.data = append(list.data, all[i])
	}
	list.more = len(all) > defaultLimit
	e.key("refunds")
	list.render(e, x)
}

var chargeRoutes = []*operation{
	get("/v1/charges", "charges", "list:charge", func(c *call) (view, *stripeError) {
		customer, intent := c.str("customer"), c.str("payment_intent")
		if c.has("transfer_group") {
			group := c.str("transfer_group")
			return c.s.charges.page(c, "", func(o *charge) bool {
				return o.transferGroup == group && (customer == "" || o.customer == customer) && (intent == "" || o.intent == intent)
			})
		}
		switch {
		case intent != "":
			return c.s.charges.page(c, "payment_intent="+intent, func(o *charge) bool { return customer == "" || o.customer == customer })
		case customer != "":
			return c.s.charges.page(c, "customer="+customer, nil)
		}
		return c.s.charges.page(c, "", nil)
	}),
	post("/v1/charges", "charges", "charge", createCharge),
	get("/v1/charges/{charge}", "charges", "charge", func(c *call) (view, *stripeError) {
		o, f := c.s.charges.get(c.args[0], "id")
		return o, f
	}),
	post("/v1/charges/{charge}", "charges", "charge", updateCharge),
	post("/v1/charges/{charge}/capture", "charges", "charge", captureCharge),
	post("/v1/charges/{charge}/refund", "refunds", "charge", func(c *call) (view, *stripeError) {
		o, f := c.s.charges.get(c.args[0], "id")
		if f != nil {
			return nil, f
		}
		_, f = c.refund(o)
		return o, f // the legacy route answers with the charge
	}),
	get("/v1/charges/{charge}/refunds", "refunds", "list:refund", func(c *call) (view, *stripeError) {
		if _, f := c.s.charges.get(c.args[0], "id"); f != nil {
			return nil, f
		}
		return c.s.refunds.page(c, "charge="+c.args[0], nil)
	}),
	post("/v1/charges/{charge}/refunds", "refunds", "refund", func(c *call) (view, *stripeError) {
		o, f := c.s.charges.get(c.args[0], "id")
		if f != nil {
			return nil, f
		}
		return asView(c.refund(o))
	}),
	get("/v1/charges/{charge}/refunds/{refund}", "refunds", "refund", func(c *call) (view, *stripeError) {
		return asView(c.refundOf(c.args[0], c.args[1]))
	}),
	post("/v1/charges/{charge}/refunds/{refund}", "refunds", "refund", func(c *call) (view, *stripeError) {
		r, f := c.refundOf(c.args[0], c.args[1])
		if f != nil {
			return nil, f
		}
		return asView(c.updateRefund(r))
	}),
}

// asView keeps a nil pointer from becoming a view that is not nil.
func asView[T view](v T, f *stripeError) (view, *stripeError) {
	if f != nil {
		return nil, f
	}
	return v, nil
}

func createCharge(c *call) (view, *stripeError) {
	if !c.has("amount") {
		return nil, errMissingParam("amount")
	}
	currency, f := c.currency("currency")
	if f != nil {
		return nil, f
	}
	if f := chargeable("amount", c.amount("amount"), currency); f != nil {
		return nil, f
	}
	terms, f := c.readSharing(sharing{}, c.amount("amount"))
	if f != nil {
		return nil, f
	}
	m, customer, f := c.chargeSource()
	if f != nil {
		return nil, f
	}
	md, f := c.metadata(nil)
	if f != nil {
		return nil, f
	}
	capture := true
	if c.set("capture") {
		capture = c.bool("capture")
	}
	o := &charge{sharing: terms, amount: c.amount("amount"), currency: currency, customer: customer, description: c.str("description"),
		receiptEmail: c.str("receipt_email"), descriptor: c.str("statement_descriptor"), suffix: c.str("statement_descriptor_suffix"),
		transferGroup: c.str("transfer_group")}
	o.md = md
	c.assignJSON("shipping", &o.shipping)
	if f := c.take(o, m, capture); f != nil {
		return nil, f
	}
	return o, nil
}

// chargeSource is what a legacy charge is paid with, and whose it is.
func (c *call) chargeSource() (m *paymentMethod, customer string, f *stripeError) {
	source := c.p.get("source")
	if source.blank() {
		source = c.p.get("card")
	}
	customer = c.str("customer")
	if customer == "" {
		if source.blank() {
			return nil, "", errInvalid("", "parameter_missing", "Must provide source or customer.")
		}
		m, f = c.payWith(source, "source", "")
		return m, "", f
	}
	o, f := c.s.customers.get(customer, "customer")
	if f != nil {
		return nil, "", f
	}
	if !source.blank() {
		m, f = c.payWith(source, "source", customer)
		if f == nil && m.customer == "" {
			return nil, "", errInvalid("source", "missing", "Customer "+customer+" does not have a linked source with ID "+m.id+".")
		}
		return m, customer, f
	}
	id := o.defaultSource
	if id == "" {
		return nil, "", &stripeError{status: http.StatusPaymentRequired, typ: typeCard, code: "missing", param: "card", retry: "false",
			message: "Cannot charge a customer that has no active card"}
	}
	m, f = c.s.methods.get(id, "source")
	return m, customer, f
}

// take charges a card: the one place where money comes in. A decline stores a
// failed charge and is returned.
func (c *call) take(o *charge, m *paymentMethod, capture bool) *stripeError {
	s := c.s
	md := o.md
	o.head = s.head("ch", c)
	o.md = md
	o.method = m.id
	if m.decline != "" {
		o.status, o.decline = "failed", m.decline
		s.charges.insert(o)
		c.emit("charge.failed", o)
		return errDeclined(m.decline, o.id)
	}
	o.status = "succeeded"
	s.charges.insert(o)
	parent := o.intent
	if o.invoice != "" {
		parent = o.invoice
	}
	if !capture {
		c.effect(EffectAuthorization, o.id, parent, o.customer, o.amount, o.currency)
		c.emit("charge.succeeded", o)
		return nil
	}
	o.isCaptured = true
	c.collect(o, o.amount, EffectPayment, parent)
	c.emit("charge.succeeded", o)
	if m.dispute != "" {
		return c.dispute(o, o.amount, m.dispute)
	}
	return nil
}

// collect books captured money: 2.9 % and 30 go to Stripe.
func (c *call) collect(o *charge, amount int64, kind EffectKind, parent string) {
	o.captured += amount
	fee := amount/1000*29 + amount%1000*29/1000 + 30
	b := booking{typ: "charge", source: o.id, description: o.description, currency: o.currency, amount: amount, fee: fee}
	if o.destination == "" && o.hasFee {
		b.appFee = min(o.fee, amount)
	}
	o.transaction = c.book(b).id
	c.effect(kind, o.id, parent, o.customer, amount, o.currency)
	c.pass(o, amount)
}

func updateCharge(c *call) (view, *stripeError) {
	o, f := c.s.charges.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	if id := c.str("customer"); id != "" && id != o.customer {
		if o.customer != "" {
			return nil, errInvalid("customer", "", "You cannot update the customer of a charge that has one already.")
		}
		if _, f := c.s.customers.get(id, "customer"); f != nil {
			return nil, f
		}
		c.s.charges.relink(o, func() { o.customer = id })
	}
	if o.md, f = c.metadata(o.md); f != nil {
		return nil, f
	}
	c.assign("description", &o.description)
	c.assign("receipt_email", &o.receiptEmail)
	c.assign("transfer_group", &o.transferGroup)
	c.assignJSON("shipping", &o.shipping)
	c.emit("charge.updated", o)
	return o, nil
}

func captureCharge(c *call) (view, *stripeError) {
	o, f := c.s.charges.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	if o.intent != "" {
		return nil, errInvalid("", "", "This Charge belongs to a PaymentIntent; capture "+o.intent+" instead.")
	}
	amount := o.amount
	if c.has("amount") {
		amount = c.amount("amount")
	}
	terms, f := c.readSharing(o.sharing, amount)
	if f != nil {
		return nil, f
	}
	was := o.sharing
	o.sharing = terms
	if f := c.capture(o, amount, true); f != nil {
		o.sharing = was
		return nil, f
	}
	return o, nil
}

// capture collects out of an authorization; final gives up the rest.
func (c *call) capture(o *charge, amount int64, final bool) *stripeError {
	switch {
	case o.status != "succeeded" || o.released > 0:
		return errInvalid("", "charge_expired_for_capture", "Charge "+o.id+" cannot be captured.")
	case o.isCaptured && o.captured+o.released >= o.amount:
		return errInvalid("", "charge_already_captured", "Charge "+o.id+" has already been captured.")
	case amount > o.amount-o.captured+o.beyond(o.amount):
		return errInvalid("amount", "amount_too_large", "The requested capture amount is greater than the amount you can capture for this charge.")
	}
	if f := positive("amount", amount); f != nil {
		return f
	}
	o.isCaptured = true
	c.collect(o, amount, EffectCapture, o.intent)
	o.amount = max(o.amount, o.captured) // of an overcapture
	if rest := o.amount - o.captured; final && rest > 0 {
		o.released = rest
		c.effect(EffectRelease, o.id, o.intent, o.customer, rest, o.currency)
	}
	c.emit("charge.captured", o)
	return nil
}
