package sandbox

import (
	"net/http"
	"slices"
	"strings"
)

// refundStatusKey is the metadata key with which a test asks for a refund that
// starts as pending or requires_action.
const refundStatusKey = "sandbox_status"

type refund struct {
	head
	amount              int64 // minor units
	currency            string
	charge, intent      string
	customer, method    string
	reason, status      string
	failureReason       string
	transaction, failed string // balance transactions
	instructions        string
	reversal            string // of the transfer behind the charge
	sourceReversal      string // the platform's reversal that this is the other side of
}

func (o *refund) links() []string {
	if o.charge == "" {
		return nil
	}
	keys := []string{"charge=" + o.charge}
	if o.intent != "" {
		keys = append(keys, "payment_intent="+o.intent)
	}
	return keys
}

func (o *refund) render(e *enc, x *expansion) {
	e.open()
	e.str("id", o.id)
	e.str("object", "refund")
	e.int("amount", o.amount)
	e.ref("balance_transaction", o.transaction, x)
	e.ref("charge", o.charge, x)
	e.int("created", o.created)
	e.str("currency", o.currency)
	e.ref("customer", o.customer, x)
	e.null("customer_account")
	if o.charge != "" {
		e.constant(`"destination_details":{"card":{"type":"refund","reference_status":"pending","reference_type":"acquirer_reference_number"},"type":"card"}`)
	}
	if o.failed != "" {
		e.ref("failure_balance_transaction", o.failed, x)
	}
	if o.failureReason != "" {
		e.str("failure_reason", o.failureReason)
	}
	if o.instructions != "" {
		e.str("instructions_email", o.instructions)
	}
	e.metadata(o.md)
	e.ref("payment_intent", o.intent, x)
	e.ref("payment_method", o.method, x)
	if o.status == "pending" {
		e.str("pending_reason", "processing")
	}
	e.opt("reason", o.reason)
	e.null("receipt_number")
	e.foreign("source_transfer_reversal", o.sourceReversal, e.s.platform, x)
	e.str("status", o.status)
	e.ref("transfer_reversal", o.reversal, x)
	e.close()
}

var refundRoutes = []*operation{
	get("/v1/refunds", "refunds", "list:refund", func(c *call) (view, *stripeError) {
		charge, intent := c.str("charge"), c.str("payment_intent")
		switch {
		case charge != "":
			if _, f := c.s.charges.get(charge, "charge"); f != nil {
				return nil, f
			}
			return c.s.refunds.page(c, "charge="+charge, func(o *refund) bool { return intent == "" || o.intent == intent })
		case intent != "":
			if _, f := c.s.intents.get(intent, "payment_intent"); f != nil {
				return nil, f
			}
			return c.s.refunds.page(c, "payment_intent="+intent, nil)
		}
		return c.s.refunds.page(c, "", nil)
	}),
	post("/v1/refunds", "refunds", "refund", createRefund),
	get("/v1/refunds/{refund}", "refunds", "refund", func(c *call) (view, *stripeError) {
		return asView(c.s.refunds.get(c.args[0], "id"))
	}),
	post("/v1/refunds/{refund}", "refunds", "refund", func(c *call) (view, *stripeError) {
		r, f := c.s.refunds.get(c.args[0], "id")
		if f != nil {
			return nil, f
		}
		return asView(c.updateRefund(r))
	}),
	post("/v1/refunds/{refund}/cancel", "refunds", "refund", func(c *call) (view, *stripeError) {
		r, f := c.s.refunds.get(c.args[0], "id")
		if f != nil {
			return nil, f
		}
		if r.status != "requires_action" {
			return nil, errInvalid("", "", "Refund "+r.id+" cannot be canceled because it has a status of "+r.status+
				". Only a refund with a status of requires_action may be canceled.")
		}
		c.returnRefund(r, "canceled", "")
		return r, nil
	}),
}

func createRefund(c *call) (view, *stripeError) {
	chargeID, intentID := c.str("charge"), c.str("payment_intent")
	if c.has("origin") || c.has("customer") {
		return asView(c.refundCash())
	}
	if chargeID == "" && intentID == "" {
		return nil, errInvalid("", "parameter_missing", "One of the following params should be provided for this request: payment_intent or charge.")
	}
	if intentID != "" {
		pi, f := c.s.intents.get(intentID, "payment_intent")
		if f != nil {
			return nil, f
		}
		if chargeID != "" && chargeID != pi.latestCharge {
			return nil, errInvalid("charge", "", "The charge "+chargeID+" does not belong to the PaymentIntent "+intentID+".")
		}
		if pi.latestCharge == "" || pi.received == 0 {
			return nil, errInvalid("payment_intent", "payment_intent_unexpected_state",
				"This PaymentIntent ("+intentID+") does not have a successful charge to refund.")
		}
		chargeID = pi.latestCharge
	}
	o, f := c.s.charges.get(chargeID, "charge")
	if f != nil {
		return nil, f
	}
	return asView(c.refund(o))
}

// refund sends money of a charge back, or gives up an uncaptured authorization.
func (c *call) refund(o *charge) (*refund, *stripeError) {
	rest := o.captured - o.refundedMoney
	if !o.isCaptured {
		rest = o.amount - o.released
	}
	amount := rest
	if c.has("amount") {
		amount = c.amount("amount")
	}
	if f := c.refundable(o, amount, rest); f != nil {
		return nil, f
	}
	back, f := c.planReturns(o, amount)
	if f != nil {
		return nil, f
	}
	md, f := c.metadata(nil)
	if f != nil {
		return nil, f
	}
	r := &refund{head: c.s.head("re", c), amount: amount, currency: o.currency, charge: o.id, intent: o.intent, customer: o.customer,
		method: o.method, reason: c.str("reason"), status: "succeeded", instructions: c.str("instructions_email")}
	r.md = md
	if o.isCaptured {
		r.status = c.refundStatus(o, md)
		o.refundedMoney += amount
		r.transaction = c.book(booking{typ: "refund", source: r.id, description: "REFUND FOR CHARGE", currency: r.currency, amount: -amount}).id
		c.effect(EffectRefund, r.id, o.id, o.customer, amount, o.currency)
		r.reversal = c.takeBack(back, r.id)
	} else {
		o.released += amount
		c.effect(EffectRelease, o.id, o.intent, o.customer, amount, o.currency)
	}
	c.s.refunds.insert(r)
	c.emit("refund.created", r)
	c.emit("charge.refunded", o)
	return r, nil
}

// refundStatus is where a refund of money starts: the card or the test decides.
func (c *call) refundStatus(o *charge, md pairs) string {
	if want := md.get(refundStatusKey); want == "pending" || want == "requires_action" {
		return want
	}
	if m := c.s.methods.byID[o.method]; m != nil && m.refundStatus != "" {
		return m.refundStatus
	}
	return "succeeded"
}

func (c *call) refundable(o *charge, amount, rest int64) *stripeError {
	if currency := strings.ToLower(c.str("currency")); currency != "" && currency != o.currency {
		return errInvalid("currency", "", "The currency of the refund must be that of the charge, "+o.currency+".")
	}
	switch {
	case o.status != "succeeded":
		return errInvalid("", "", "Charge "+o.id+" is not successful and cannot be refunded.")
	case o.disputed && c.chargedBack(o):
		return errInvalid("", "charge_disputed", "Charge "+o.id+" has been charged back; cannot issue a refund.")
	case rest == 0:
		return errInvalid("", "charge_already_refunded", "Charge "+o.id+" has already been refunded.")
	}
	if f := positive("amount", amount); f != nil {
		return f
	}
	if amount > rest {
		return errInvalid("amount", "", "Refund amount ("+formatAmount(amount, o.currency)+") is greater than unrefunded amount on charge ("+
			formatAmount(rest, o.currency)+")")
	}
	if !o.isCaptured && (o.intent != "" || amount != rest) {
		return errInvalid("", "", "Charge "+o.id+" is not captured: cancel its PaymentIntent, or refund the charge in full.")
	}
	return nil
}

// chargedBack reports a charge whose money a dispute holds or took.
func (c *call) chargedBack(o *charge) bool {
	return slices.ContainsFunc(c.s.shelf(disputeModel).index["charge="+o.id], func(d *thing) bool {
		return d.fields["is_charge_refundable"] != true && d.str("status") != won
	})
}

func (c *call) refundOf(chargeID, id string) (*refund, *stripeError) {
	if _, f := c.s.charges.get(chargeID, "id"); f != nil {
		return nil, f
	}
	r, f := c.s.refunds.get(id, "id")
	if f == nil && r.charge != chargeID {
		return nil, errMissing("refund", id, "id")
	}
	return r, f
}

func (c *call) updateRefund(r *refund) (*refund, *stripeError) {
	md, f := c.metadata(r.md)
	if f != nil {
		return nil, f
	}
	r.md = md
	c.emit("refund.updated", r)
	return r, nil
}

// returnRefund ends a refund whose money came back.
func (c *call) returnRefund(r *refund, status, reason string) {
	r.status, r.failureReason = status, reason
	if o := c.s.charges.byID[r.charge]; o != nil {
		o.refundedMoney -= r.amount
	}
	if o := c.s.customers.byID[r.customer]; r.charge == "" && o != nil {
		c.moveCash(o, r.amount, r.currency, "return_canceled", nil)
	} else {
		r.failed = c.book(booking{typ: "refund_failure", source: r.id, description: "REFUND FAILURE", currency: r.currency, amount: r.amount}).id
	}
	c.effect(EffectRefundFailed, r.id, r.charge, r.customer, r.amount, r.currency)
	if status == "failed" {
		c.emit("refund.failed", r)
	}
	c.emit("refund.updated", r)
	c.emit("charge.refund.updated", r)
}

// setRefund is what time does to a refund: pending ones end well or badly, and
// succeeded ones may still come back.
func (c *call) setRefund(id, status string) *stripeError {
	r, f := c.s.refunds.get(id, "id")
	if f != nil {
		return f
	}
	switch {
	case status == "failed" && r.transaction == "" && r.charge != "":
		// It gave up an authorization: no money went out that could come back.
		return errInvalid("status", "", "Refund "+id+" sent no money, so it cannot fail.")
	case status == "failed" && (r.status == "pending" || r.status == "succeeded" || r.status == "requires_action"):
		c.returnRefund(r, "failed", "declined")
	case status == "succeeded" && (r.status == "pending" || r.status == "requires_action"):
		r.status = "succeeded"
		c.emit("refund.updated", r)
		c.emit("charge.refund.updated", r)
	case status == r.status:
	default:
		f := errInvalid("status", "", "Refund "+id+" cannot go from "+r.status+" to "+status+".")
		f.status = http.StatusConflict
		return f
	}
	return nil
}
