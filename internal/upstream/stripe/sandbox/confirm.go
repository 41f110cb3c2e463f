package sandbox

import (
	"net/http"
	"strings"
)

// maxIncrements is how often an authorization may be raised.
const maxIncrements = 10

// features are what was asked for beyond a plain authorization; here they are
// always granted.
type features struct {
	incremental, multi, over bool
	increments               int
}

func (o *features) request(card *node) {
	o.incremental = o.incremental || card.get("request_incremental_authorization").text() == "if_available"
	o.multi = o.multi || card.get("request_multicapture").text() == "if_available"
	o.over = o.over || card.get("request_overcapture").text() == "if_available"
}

// beyond is how much more than was authorized may be captured: a fifth, where it
// was asked for. At Stripe that depends on the card and the trade.
func (o *features) beyond(authorized int64) int64 {
	if !o.over {
		return 0
	}
	return authorized / 5
}

func confirmIntent(c *call) (view, *stripeError) {
	o, f := c.s.intents.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	if secret := c.str("client_secret"); secret != "" && secret != o.secret {
		return nil, errInvalid("client_secret", "", "The client_secret provided does not match the client_secret associated with the PaymentIntent.")
	}
	if !o.open() {
		reason := "it has a status of " + o.status
		if o.status == succeeded {
			reason = "it has already succeeded after being previously confirmed"
		}
		return nil, errState(o, "You cannot confirm this PaymentIntent because "+reason+".")
	}
	if f := c.intentParams(o); f != nil {
		return nil, f
	}
	if f := c.fillIntent(o); f != nil {
		return nil, f
	}
	return asView(o, c.confirm(o))
}

// confirm tries to take the money of an intent.
func (c *call) confirm(o *paymentIntent) *stripeError {
	if o.method == "" {
		return errState(o, "You cannot confirm this PaymentIntent because it's missing a payment method. "+
			"You can either update the PaymentIntent with a payment method and then confirm it again, or confirm it again directly with a payment method.")
	}
	amount := o.amount
	if c.has("amount_to_confirm") {
		if amount = c.amount("amount_to_confirm"); amount > o.amount {
			return errInvalid("amount_to_confirm", "amount_too_large", "The amount to confirm is greater than the amount of the PaymentIntent.")
		}
		if f := chargeable("amount_to_confirm", amount, o.currency); f != nil {
			return f
		}
	}
	m := c.s.methods.byID[o.method]
	switch {
	case m == nil:
		return errState(o, "The payment method of this PaymentIntent is gone.") // dropped at the bound
	case m.typ != typeOfCard && !strings.Contains(o.types, `"`+m.typ+`"`):
		return errInvalid("payment_method", "payment_method_not_available", "The PaymentMethod provided ("+m.typ+
			") is not allowed for this PaymentIntent. Please attach a PaymentMethod of one of the following types: "+o.types+".")
	case m.typ == typeOfBank && !m.verified:
		o.status, o.confirming = needsAction, amount
		c.emit("payment_intent.requires_action", o)
		return nil
	case m.typ == typeOfCash:
		return c.awaitTransfer(o)
	case m.needsAction:
		return c.challenge(o, m, amount)
	}
	return c.pay(o, m, amount)
}

// awaitTransfer takes what the customer has sent already, and waits for the rest.
func (c *call) awaitTransfer(o *paymentIntent) *stripeError {
	owner := c.s.customers.byID[o.customer]
	if owner == nil {
		return errInvalid("customer", "", "A PaymentIntent that is paid by bank transfer needs a customer.")
	}
	o.status = needsAction
	c.emit("payment_intent.requires_action", o)
	if !owner.cashByHand {
		c.applyCash(o, owner, min(owner.cash[o.currency], o.amount-o.applied))
	}
	return nil
}

// challenge asks for authentication; off session there is nobody to ask.
func (c *call) challenge(o *paymentIntent, m *paymentMethod, amount int64) *stripeError {
	if !c.bool("off_session") && !c.bool("error_on_requires_action") {
		o.status, o.confirming = needsAction, amount
		c.emit("payment_intent.requires_action", o)
		return nil
	}
	o.lastError = errDeclined("authentication_required", "")
	return c.failed(o, m)
}

// failed puts the decline in o.lastError into the answer as Stripe does: with
// the intent and the method embedded whole.
func (c *call) failed(o *paymentIntent, m *paymentMethod) *stripeError {
	o.lastError.method = m
	o.status, o.method = needsMethod, ""
	c.emit("payment_intent.payment_failed", o)
	c.intentFailed(o)
	f := *o.lastError
	f.intent = o
	return &f
}

func (c *call) pay(o *paymentIntent, m *paymentMethod, amount int64) *stripeError {
	manual := o.captureMethod == "manual"
	ch := &charge{sharing: o.sharing, amount: amount, currency: o.currency, customer: o.customer, intent: o.id, invoice: o.invoice, description: o.description,
		receiptEmail: o.receiptEmail, descriptor: o.descriptor, suffix: o.suffix, transferGroup: o.transferGroup, shipping: o.shipping}
	ch.md, ch.features = o.md, o.features
	if m.typ == typeOfBank {
		return c.debit(o, m, ch)
	}
	f := c.take(ch, m, !manual)
	o.latestCharge, o.confirming = ch.id, 0
	if f != nil {
		o.lastError = f
		return c.failed(o, m)
	}
	o.lastError = nil
	if o.customer != "" && o.setupFuture != "" && m.customer == "" {
		c.s.methods.relink(m, func() { m.customer = o.customer })
	}
	if manual {
		o.status, o.capturable = needsCapture, amount
		c.emit("payment_intent.amount_capturable_updated", o)
		return nil
	}
	o.received = amount
	c.succeed(o)
	return nil
}

// succeed ends an intent well, and pays the invoice behind it, if there is one.
func (c *call) succeed(o *paymentIntent) {
	o.status = succeeded
	c.emit("payment_intent.succeeded", o)
	c.intentPaid(o)
}

// authenticate is what a customer does with a challenge, outside of any call of
// the merchant: the payment goes through, or fails.
func (c *call) authenticate(id string, ok bool) *stripeError {
	o, f := c.s.intents.get(id, "id")
	if f != nil {
		return f
	}
	if o.status == processing {
		return c.clear(o, ok)
	}
	if m := c.s.methods.byID[o.method]; o.status != needsAction || m == nil || m.typ != typeOfCard {
		f := errState(nil, "PaymentIntent "+id+" waits for nobody; its status is "+o.status+".")
		f.status = http.StatusConflict
		return f
	}
	m := c.s.methods.byID[o.method]
	if ok {
		// A decline after authentication is an outcome of the intent, not of this call.
		_ = c.pay(o, m, o.confirming)
		return nil
	}
	o.lastError = &stripeError{typ: typeInvalid, code: "payment_intent_authentication_failure",
		message: "The provided PaymentMethod has failed authentication."}
	_ = c.failed(o, m)
	return nil
}

func captureIntent(c *call) (view, *stripeError) {
	o, f := c.s.intents.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	if o.status != needsCapture {
		return nil, errState(o, "This PaymentIntent could not be captured because it has a status of "+o.status+
			". Only a PaymentIntent with one of the following statuses may be captured: requires_capture.")
	}
	amount := o.capturable
	if c.has("amount_to_capture") {
		amount = c.amount("amount_to_capture")
	}
	if amount > o.capturable+o.beyond(o.amount) {
		return nil, errInvalid("amount_to_capture", "amount_too_large",
			"The amount_to_capture is greater than the amount that can be captured on this PaymentIntent.")
	}
	final := !c.has("final_capture") || c.bool("final_capture")
	if !final && !o.multi {
		return nil, errInvalid("final_capture", "", "This PaymentIntent is not eligible for multicapture: "+
			"it was not asked for with payment_method_options[card][request_multicapture].")
	}
	if o.md, f = c.metadata(o.md); f != nil {
		return nil, f
	}
	terms, f := c.readSharing(o.sharing, amount)
	if f != nil {
		return nil, f
	}
	ch := c.s.charges.byID[o.latestCharge]
	was := o.sharing
	o.sharing, ch.sharing = terms, terms
	if f := c.capture(ch, amount, final); f != nil {
		o.sharing, ch.sharing = was, was
		return nil, f
	}
	o.received += amount
	o.capturable = max(0, o.capturable-amount)
	if final || o.capturable == 0 {
		o.capturable = 0
		c.succeed(o)
	} else {
		c.emit("payment_intent.amount_capturable_updated", o)
	}
	return o, nil
}

// incrementIntent raises an authorization; amount is the new total.
func incrementIntent(c *call) (view, *stripeError) {
	o, f := c.s.intents.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	if o.status != needsCapture {
		return nil, errState(o, "This PaymentIntent's authorization could not be incremented because it has a status of "+o.status+".")
	}
	if !o.incremental {
		return nil, errInvalid("", "", "This PaymentIntent is not eligible for incremental authorization: "+
			"it was not asked for with payment_method_options[card][request_incremental_authorization].")
	}
	if o.increments >= maxIncrements {
		return nil, errInvalid("", "", "This PaymentIntent's authorization has been incremented 10 times already.")
	}
	amount := c.amount("amount")
	terms, f := c.readSharing(o.sharing, amount)
	if f != nil {
		return nil, f
	}
	if amount <= o.amount {
		return nil, errInvalid("amount", "", "The amount must be greater than the currently authorized amount.")
	}
	if f := chargeable("amount", amount, o.currency); f != nil {
		return nil, f
	}
	if o.md, f = c.metadata(o.md); f != nil {
		return nil, f
	}
	ch, more := c.s.charges.byID[o.latestCharge], amount-o.amount
	ch.amount += more
	o.amount, o.sharing, ch.sharing = amount, terms, terms
	o.capturable += more
	o.increments++
	c.assign("description", &o.description)
	c.effect(EffectAuthorization, ch.id, o.id, o.customer, more, o.currency)
	c.emit("payment_intent.amount_capturable_updated", o)
	return o, nil
}
