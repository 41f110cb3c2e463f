package sandbox

import (
	"strconv"
)

// The statuses of a PaymentIntent that this sandbox reaches.
const (
	needsMethod  = "requires_payment_method"
	needsConfirm = "requires_confirmation"
	needsAction  = "requires_action"
	needsCapture = "requires_capture"
	succeeded    = "succeeded"
	canceled     = "canceled"
	processing   = "processing"
)

type paymentIntent struct {
	head
	sharing
	amount, capturable, received int64 // minor units
	currency, customer           string
	description, receiptEmail    string
	captureMethod, confirmMethod string
	status, cancelReason         string
	canceledAt                   int64
	secret, latestCharge, method string
	lastError                    *stripeError
	setupFuture                  string
	descriptor, suffix           string
	transferGroup                string
	shipping, options, types     string // JSON
	automatic                    string // JSON
	confirming                   int64  // amount awaiting authentication
	applied                      int64  // paid out of the customer's cash so far
	offSession                   bool
	features
	invoice string // kept for effects
}

func (o *paymentIntent) links() []string {
	if o.customer == "" {
		return nil
	}
	return []string{"customer=" + o.customer}
}

func (o *paymentIntent) render(e *enc, x *expansion) {
	e.open()
	e.str("id", o.id)
	e.constant(`"object":"payment_intent"`)
	e.int("amount", o.amount)
	e.int("amount_capturable", o.capturable)
	e.constant(`"amount_details":{"tip":{}}`)
	e.int("amount_received", o.received)
	if e.s == e.s.platform {
		e.null("application")
	} else {
		e.str("application", applicationID)
	}
	o.renderFee(e)
	e.raw("automatic_payment_methods", o.automatic)
	e.optInt("canceled_at", o.canceledAt)
	e.opt("cancellation_reason", o.cancelReason)
	e.str("capture_method", o.captureMethod)
	e.str("client_secret", o.secret)
	e.str("confirmation_method", o.confirmMethod)
	e.int("created", o.created)
	e.str("currency", o.currency)
	e.ref("customer", o.customer, x)
	e.constant(`"customer_account":null`)
	e.opt("description", o.description)
	e.constant(`"excluded_payment_method_types":null`)
	o.lastError.renderLast(e, "last_payment_error")
	e.ref("latest_charge", o.latestCharge, x)
	e.bool("livemode", e.s.live())
	e.metadata(o.md)
	o.renderAction(e)
	e.ref("on_behalf_of", o.onBehalfOf, x)
	e.ref("payment_method", o.method, x)
	e.raw("payment_method_options", o.options)
	e.raw("payment_method_types", o.types)
	e.null("processing")
	e.opt("receipt_email", o.receiptEmail)
	e.null("review")
	e.opt("setup_future_usage", o.setupFuture)
	e.raw("shipping", o.shipping)
	e.opt("statement_descriptor", o.descriptor)
	e.opt("statement_descriptor_suffix", o.suffix)
	e.str("status", o.status)
	o.renderShare(e, x)
	e.opt("transfer_group", o.transferGroup)
	e.close()
}

// renderAction writes what the customer has to do.
func (o *paymentIntent) renderAction(e *enc) {
	typ := typeOfCard
	if m := e.s.methods.byID[o.method]; m != nil {
		typ = m.typ
	}
	switch {
	case o.status != needsAction:
		e.null("next_action")
	case typ == typeOfBank:
		e.constant(`"next_action":{"type":"verify_with_microdeposits","verify_with_microdeposits":{"arrival_date":` +
			strconv.FormatInt(o.created+86_400, 10) + `,"hosted_verification_url":"https://payments.stripe.com/microdeposit/` + o.id +
			`","microdeposit_type":"amounts"}}`)
	case typ == typeOfCash:
		e.constant(`"next_action":{"type":"display_bank_transfer_instructions","display_bank_transfer_instructions":{"amount_remaining":` +
			strconv.FormatInt(o.amount-o.applied, 10) + `,"currency":"` + o.currency + `","hosted_instructions_url":"https://payments.stripe.com/` +
			`bank_transfers/instructions/` + o.id + `","reference":"` + o.id[3:11] + `","type":"us_bank_transfer"}}`)
	default:
		e.constant(`"next_action":{"type":"use_stripe_sdk","use_stripe_sdk":{"type":"three_d_secure_redirect"}}`)
	}
}

// renderLast writes the last error of an intent.
func (f *stripeError) renderLast(e *enc, field string) {
	if f == nil {
		e.null(field)
		return
	}
	e.key(field)
	e.open()
	if f.charge != "" {
		e.str("charge", f.charge)
	}
	e.str("code", f.code)
	if f.declineCode != "" {
		e.str("decline_code", f.declineCode)
	}
	e.str("message", f.message)
	if f.method != nil {
		e.key("payment_method")
		f.method.render(e, nil)
	}
	e.str("type", f.typ)
	e.close()
}

var intentRoutes = []*operation{
	get("/v1/payment_intents", "payment_intents", "list:payment_intent", func(c *call) (view, *stripeError) {
		link := ""
		if id := c.str("customer"); id != "" {
			link = "customer=" + id
		}
		return c.s.intents.page(c, link, nil)
	}),
	post("/v1/payment_intents", "payment_intents", "payment_intent", createIntent),
	get("/v1/payment_intents/{intent}", "payment_intents", "payment_intent", func(c *call) (view, *stripeError) {
		return asView(c.s.intents.get(c.args[0], "id"))
	}),
	post("/v1/payment_intents/{intent}", "payment_intents", "payment_intent", updateIntent),
	post("/v1/payment_intents/{intent}/cancel", "payment_intents", "payment_intent", cancelIntent),
	post("/v1/payment_intents/{intent}/capture", "payment_intents", "payment_intent", captureIntent),
	post("/v1/payment_intents/{intent}/confirm", "payment_intents", "payment_intent", confirmIntent),
	post("/v1/payment_intents/{intent}/increment_authorization", "payment_intents", "payment_intent", incrementIntent),
	post("/v1/payment_intents/{intent}/verify_microdeposits", "payment_intents", "payment_intent", verifyIntent),
}

func createIntent(c *call) (view, *stripeError) {
	currency, f := c.currency("currency")
	if f != nil {
		return nil, f
	}
	if f := chargeable("amount", c.amount("amount"), currency); f != nil {
		return nil, f
	}
	if f := c.intentParams(nil); f != nil {
		return nil, f
	}
	o := &paymentIntent{head: c.s.head("pi", c), amount: c.amount("amount"), currency: currency, customer: c.str("customer"),
		captureMethod: "automatic", confirmMethod: "automatic", status: needsMethod, options: `{"card":{"request_three_d_secure":"automatic"}}`,
		types: `["card"]`}
	o.secret = o.id + "_secret_" + c.s.random(c.s.ids, 25)
	if o.sharing, f = c.readSharing(sharing{}, o.amount); f != nil {
		return nil, f
	}
	if f := c.fillIntent(o); f != nil {
		return nil, f
	}
	if c.set("confirmation_method") {
		o.confirmMethod = c.str("confirmation_method")
	}
	if o.method != "" {
		o.status = needsConfirm
	}
	c.s.intents.insert(o)
	created := c.emit("payment_intent.created", o)
	if c.bool("confirm") {
		return asView(o, c.confirm(o))
	}
	c.body = created // nothing changes after the event, so one rendering serves both
	return o, nil
}

// intentParams checks what create, update and confirm have in common.
func (c *call) intentParams(o *paymentIntent) *stripeError {
	if id := c.str("customer"); id != "" {
		if o != nil && o.customer != "" && o.customer != id {
			return errInvalid("customer", "", "You cannot modify `customer` on a PaymentIntent once it already has been set. "+
				"To fulfill a payment with a different Customer, cancel this PaymentIntent and create a new one.")
		}
		if _, f := c.s.customers.get(id, "customer"); f != nil {
			return f
		}
	}
	return nil
}

// fillIntent writes the parameters that create, update and confirm share.
func (c *call) fillIntent(o *paymentIntent) (f *stripeError) {
	if o.md, f = c.metadata(o.md); f != nil {
		return f
	}
	c.assign("description", &o.description)
	c.assign("receipt_email", &o.receiptEmail)
	c.assign("statement_descriptor", &o.descriptor)
	c.assign("statement_descriptor_suffix", &o.suffix)
	c.assign("transfer_group", &o.transferGroup)
	c.assign("setup_future_usage", &o.setupFuture)
	c.assignJSON("shipping", &o.shipping)
	if c.set("capture_method") {
		o.captureMethod = c.str("capture_method")
	}
	if c.set("automatic_payment_methods") {
		on, _ := parseBool(c.sub("automatic_payment_methods", "enabled"))
		o.automatic = `{"allow_redirects":"always","enabled":false}`
		if on {
			o.automatic = `{"allow_redirects":"always","enabled":true}`
		}
	}
	if c.set("payment_method_types") {
		o.types = string(c.p.get("payment_method_types").json(nil))
	}
	if n := c.p.get("payment_method_options"); !n.blank() {
		o.options = string(n.json(nil))
		o.request(n.get("card"))
	}
	if c.has("off_session") {
		o.offSession = c.bool("off_session")
	}
	return c.fillMethodOf(o)
}

func (c *call) fillMethodOf(o *paymentIntent) *stripeError {
	n, param := c.p.get("payment_method"), "payment_method"
	if data := c.p.get("payment_method_data"); !data.blank() {
		n, param = data, "payment_method_data"
	}
	if n.blank() {
		return nil
	}
	m, f := c.payWith(n, param, o.customer)
	if f != nil {
		return f
	}
	o.method = m.id
	return nil
}

// open reports that an intent can still be changed.
func (o *paymentIntent) open() bool {
	return o.status == needsMethod || o.status == needsConfirm || o.status == needsAction
}

func updateIntent(c *call) (view, *stripeError) {
	o, f := c.s.intents.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	if f := c.intentParams(o); f != nil {
		return nil, f
	}
	amount, currency := o.amount, o.currency
	if c.invoiceOwns(o) && (c.has("amount") || c.has("currency")) {
		return nil, errInvalid("amount", "", "The amount of a PaymentIntent that was made by an invoice cannot be changed.")
	}
	if c.has("amount") {
		amount = c.amount("amount")
	}
	if c.has("currency") {
		if currency, f = c.currency("currency"); f != nil {
			return nil, f
		}
	}
	for _, name := range []string{"amount", "currency", "customer", "payment_method", "payment_method_data", "capture_method"} {
		if c.has(name) && !o.open() {
			return nil, errState(o, "This PaymentIntent's "+name+" could not be updated because it has a status of "+o.status+
				". You may only update the "+name+" of a PaymentIntent with one of the following statuses: "+
				"requires_payment_method, requires_confirmation, requires_action.")
		}
	}
	if amount != o.amount || currency != o.currency {
		if f := chargeable("amount", amount, currency); f != nil {
			return nil, f
		}
	}
	terms, f := c.readSharing(o.sharing, amount)
	if f != nil {
		return nil, f
	}
	before := *o
	if id := c.str("customer"); id != "" {
		c.s.intents.relink(o, func() { o.customer = id })
	}
	if f := c.fillIntent(o); f != nil {
		c.s.intents.relink(o, func() { h := o.head; *o = before; o.head = h })
		return nil, f
	}
	o.amount, o.currency, o.sharing = amount, currency, terms
	if o.method != before.method && o.open() {
		o.status = needsConfirm
	}
	return o, nil
}

func cancelIntent(c *call) (view, *stripeError) {
	o, f := c.s.intents.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	if !o.open() && o.status != needsCapture {
		return nil, errState(o, "You cannot cancel this PaymentIntent because it has a status of "+o.status+". Only a PaymentIntent with one of the "+
			"following statuses may be canceled: requires_payment_method, requires_capture, requires_confirmation, requires_action, processing.")
	}
	if c.invoiceOwns(o) {
		return nil, errState(o, "You cannot cancel this PaymentIntent because it was made by an invoice; void the invoice instead.")
	}
	if ch := c.s.charges.byID[o.latestCharge]; ch != nil && o.status == needsCapture {
		rest := ch.amount - ch.captured
		ch.released += rest
		c.effect(EffectRelease, ch.id, o.id, o.customer, rest, o.currency)
		c.emit("charge.refunded", ch)
	}
	o.status, o.capturable, o.canceledAt = canceled, 0, c.now
	o.cancelReason = c.str("cancellation_reason")
	c.emit("payment_intent.canceled", o)
	return o, nil
}
