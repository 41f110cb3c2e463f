package sandbox

import "slices"

// The types of a payment method that the sandbox knows.
const (
	typeOfCard = "card"
	typeOfBank = "us_bank_account"  // debited, after two small deposits have been verified
	typeOfCash = "customer_balance" // a bank transfer that the customer makes
)

// The two deposits that verify a bank account in test mode, in cents, and the
// code of the one that carries a code.
var microdeposits = []int64{32, 45}

const microdepositCode = "SM11AA"

// newMethod makes a payment method out of type and the parameter of that name;
// param is where they are.
func (c *call) newMethod(n *node, param string) (*paymentMethod, *stripeError) {
	switch typ := n.get("type").text(); typ {
	case typeOfBank:
		bank := n.get(typeOfBank)
		number := bank.get("account_number").text()
		if len(number) < 4 {
			return nil, errMissingParam(param + "[us_bank_account][account_number]")
		}
		m := &paymentMethod{head: c.s.head("pm", c), typ: typeOfBank, billing: noBilling, last4: number[len(number)-4:],
			fingerprint: number[len(number)-4:] + "Us5bK8mW3x", holder: bank.get("account_holder_type").text(),
			routing: bank.get("routing_number").text()}
		c.s.methods.insert(m)
		return m, nil
	case typeOfCash:
		m := &paymentMethod{head: c.s.head("pm", c), typ: typeOfCash, billing: noBilling}
		c.s.methods.insert(m)
		return m, nil
	case typeOfCard, "":
		if card := n.get("card"); card != nil {
			return c.newCard(card, param+"[card]")
		}
		return c.newCard(n, param)
	default:
		return nil, errInvalid(param+"[type]", "", "This sandbox makes payment methods of the types card, us_bank_account and customer_balance, not "+typ+".")
	}
}

// renderBank writes what a bank account and the debit of it share.
func (o *paymentMethod) renderBank(e *enc) {
	e.opt("account_holder_type", o.holder)
	e.constant(`"account_type":"checking","bank_name":"STRIPE TEST BANK"`)
	e.str("fingerprint", o.fingerprint)
	e.str("last4", o.last4)
	e.opt("routing_number", o.routing)
}

// verifyIntent is the customer telling the two deposits.
func verifyIntent(c *call) (view, *stripeError) {
	o, f := c.s.intents.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	m := c.s.methods.byID[o.method]
	if o.status != needsAction || m == nil || m.typ != typeOfBank {
		return nil, errState(o, "This PaymentIntent does not wait for microdeposits to be verified.")
	}
	if f := c.deposits(); f != nil {
		return nil, f
	}
	m.verified = true
	return asView(o, c.pay(o, m, o.confirming))
}

// deposits checks what the customer tells of the two deposits.
func (c *call) deposits() *stripeError {
	var told []int64
	if items, ok := c.p.get("amounts").items(); ok {
		for _, n := range items {
			amount, _ := parseInt(n) // checked against its type
			told = append(told, amount)
		}
	}
	slices.Sort(told)
	switch {
	case told == nil && !c.has("descriptor_code"):
		return errInvalid("amounts", "parameter_missing", "You must provide either amounts or descriptor_code.")
	case c.has("descriptor_code") && c.str("descriptor_code") != microdepositCode:
		return errInvalid("descriptor_code", "payment_method_microdeposit_verification_descriptor_code_mismatch",
			"The provided descriptor code does not match the one sent to the bank account.")
	case told != nil && !slices.Equal(told, microdeposits):
		return errInvalid("amounts", "payment_method_microdeposit_verification_amounts_mismatch",
			"The amounts provided do not match the amounts that were sent to the bank account.")
	}
	return nil
}

// debit starts to collect from a bank account: it takes days and may fail.
func (c *call) debit(o *paymentIntent, m *paymentMethod, ch *charge) *stripeError {
	md := ch.md
	ch.head = c.s.head("py", c)
	ch.md, ch.method, ch.status = md, m.id, "pending"
	c.s.charges.insert(ch)
	o.latestCharge, o.status, o.lastError, o.confirming = ch.id, processing, nil, 0
	c.emit("charge.pending", ch)
	c.emit("payment_intent.processing", o)
	return nil
}

// clear ends a debit: the money came, or the bank refused it.
func (c *call) clear(o *paymentIntent, ok bool) *stripeError {
	ch, m := c.s.charges.byID[o.latestCharge], c.s.methods.byID[o.method]
	if ch == nil || m == nil {
		return errState(nil, "PaymentIntent "+o.id+" has lost its charge.") // dropped at the bound
	}
	if !ok {
		ch.status, ch.decline = "failed", "generic_decline"
		o.lastError = errDeclined("generic_decline", ch.id)
		c.emit("charge.failed", ch)
		// The refusal is an outcome of the intent, not of this call.
		_ = c.failed(o, m)
		return nil
	}
	ch.status, ch.isCaptured = "succeeded", true
	c.collect(ch, ch.amount, EffectPayment, o.id)
	c.emit("charge.succeeded", ch)
	o.received = ch.amount
	c.succeed(o)
	return nil
}
