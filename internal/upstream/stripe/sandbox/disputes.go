package sandbox

import (
	"net/http"
	"slices"
)

// disputeFee is what Stripe takes for a dispute, in minor units.
const disputeFee = 1_500

// The statuses of a dispute that the sandbox reaches.
const (
	needsResponse    = "needs_response"
	underReview      = "under_review"
	won              = "won"
	lost             = "lost"
	warningOpen      = "warning_needs_response"
	warningInReview  = "warning_under_review"
	warningClosed    = "warning_closed"
	winningEvidence  = "winning_evidence" // Stripe's own words that decide a test dispute
	losingEvidence   = "losing_evidence"
	inquiry          = "inquiry"  // of a card: a warning, not yet a dispute
	disputedStatus   = "disputed" // what the control route calls a charge that a bank disputes
	disputeDue       = 14 * 24 * 60 * 60
	fraudulentReason = "fraudulent"
)

var disputeModel = &model{object: "dispute", prefix: "dp", resource: "disputes", links: []string{"charge"},
	defaults: `{"amount":0,"balance_transactions":[],"charge":"","created":0,"currency":"","enhanced_eligibility_types":[],` +
		`"evidence":{"access_activity_log":null,"billing_address":null,"cancellation_policy":null,"cancellation_policy_disclosure":null,` +
		`"cancellation_rebuttal":null,"customer_communication":null,"customer_email_address":null,"customer_name":null,"customer_purchase_ip":null,` +
		`"customer_signature":null,"duplicate_charge_documentation":null,"duplicate_charge_explanation":null,"duplicate_charge_id":null,` +
		`"enhanced_evidence":{},"product_description":null,"receipt":null,"refund_policy":null,"refund_policy_disclosure":null,` +
		`"refund_refusal_explanation":null,"service_date":null,"service_documentation":null,"shipping_address":null,"shipping_carrier":null,` +
		`"shipping_date":null,"shipping_documentation":null,"shipping_tracking_number":null,"uncategorized_file":null,"uncategorized_text":null},` +
		`"evidence_details":{"due_by":0,"enhanced_eligibility":{},"has_evidence":false,"past_due":false,"submission_count":0},` +
		`"is_charge_refundable":false,"livemode":false,"metadata":{},"payment_intent":null,"payment_method_details":null,"reason":"","status":""}`}

var disputeModels = []*model{disputeModel}

var disputeRoutes = []*operation{
	get("/v1/disputes", "disputes", "list:dispute", list(disputeModel)),
	get("/v1/disputes/{dispute}", "disputes", "dispute", retrieve(disputeModel)),
	post("/v1/disputes/{dispute}", "disputes", "dispute", func(c *call) (view, *stripeError) {
		return c.withDispute(c.thing(disputeModel, c.args[0], "id"))(c.answerDispute)
	}),
	post("/v1/disputes/{dispute}/close", "disputes", "dispute", func(c *call) (view, *stripeError) {
		return c.withDispute(c.thing(disputeModel, c.args[0], "id"))(c.closeDispute)
	}),
	get("/v1/charges/{charge}/dispute", "disputes", "dispute", func(c *call) (view, *stripeError) {
		return asView(c.disputeOf(c.args[0]))
	}),
	post("/v1/charges/{charge}/dispute", "disputes", "dispute", func(c *call) (view, *stripeError) {
		return c.withDispute(c.disputeOf(c.args[0]))(c.answerDispute)
	}),
	post("/v1/charges/{charge}/dispute/close", "disputes", "dispute", func(c *call) (view, *stripeError) {
		return c.withDispute(c.disputeOf(c.args[0]))(c.closeDispute)
	}),
}

// withDispute runs something on a dispute that was found, and answers with it.
func (c *call) withDispute(o *thing, f *stripeError) func(func(*thing) *stripeError) (view, *stripeError) {
	return func(do func(*thing) *stripeError) (view, *stripeError) {
		if f == nil {
			f = do(o)
		}
		return asView(o, f)
	}
}

// disputeOf is the newest dispute of a charge: an older integration knows no other.
func (c *call) disputeOf(charge string) (*thing, *stripeError) {
	if _, f := c.s.charges.get(charge, "id"); f != nil {
		return nil, f
	}
	all := c.s.shelf(disputeModel).index["charge="+charge]
	if len(all) == 0 {
		f := errInvalid("", "resource_missing", "No dispute for charge: "+charge)
		f.status = http.StatusNotFound
		return nil, f
	}
	return all[len(all)-1], nil
}

// dispute is what a bank does to a captured charge: the money goes back to the
// customer at once, or with an inquiry only a question comes.
func (c *call) dispute(ch *charge, amount int64, reason string) *stripeError {
	if ch.status != "succeeded" || amount <= 0 || amount > ch.captured-ch.refundedMoney {
		return errInvalid("charge", "", "Charge "+ch.id+" has no such money that could be disputed.")
	}
	o := c.bare(disputeModel)
	status, caseType := needsResponse, "chargeback"
	if reason == inquiry {
		status, caseType, reason = warningOpen, "inquiry", fraudulentReason
	}
	o.put("amount", amount, "charge", ch.id, "currency", ch.currency, "payment_intent", nullable(ch.intent), "reason", reason, "status", status,
		"is_charge_refundable", status == warningOpen)
	o.fields["evidence_details"] = merged(o.fields["evidence_details"], map[string]any{"due_by": c.now + disputeDue})
	brand := "visa"
	if m := c.s.methods.byID[ch.method]; m != nil {
		brand = m.brand
	}
	o.put("payment_method_details", map[string]any{"type": "card",
		"card": map[string]any{"brand": brand, "case_type": caseType, "network": brand, "network_reason_code": "10"}})
	c.s.shelf(disputeModel).insert(o)
	ch.disputed = true
	c.emit("charge.dispute.created", o)
	if status == needsResponse {
		c.bookDispute(o, ch, -amount, disputeFee, "dispute", "charge.dispute.funds_withdrawn", EffectDispute)
	}
	return nil
}

// nullable is null where there is no id.
func nullable(id string) any {
	if id == "" {
		return nil
	}
	return id
}

// bookDispute moves the disputed money and Stripe's fee for it.
func (c *call) bookDispute(o *thing, ch *charge, amount, fee int64, category, event string, kind EffectKind) {
	txn := c.book(booking{typ: "adjustment", category: category, source: o.id, description: "Chargeback " + category + " for " + ch.id,
		currency: ch.currency, amount: amount, fee: fee})
	o.put("balance_transactions", append(slices.Clone(o.fields["balance_transactions"].([]any)), txn))
	c.effect(kind, o.id, ch.id, ch.customer, max(amount, -amount), ch.currency)
	c.emit(event, o)
}

func (o *thing) open() bool {
	return slices.Contains([]string{needsResponse, underReview, warningOpen, warningInReview}, o.str("status"))
}

// answerDispute stages evidence, and submits it unless the call says not to.
func (c *call) answerDispute(o *thing) *stripeError {
	evidence := c.p.get("evidence")
	submit := c.bool("submit") || !evidence.blank() && !c.has("submit")
	if status := o.str("status"); (!evidence.blank() || submit) && status != needsResponse && status != warningOpen {
		return errInvalid("", "", "This dispute does not accept evidence: its status is "+status+".")
	}
	if f := c.fill(o); f != nil {
		return f
	}
	if !evidence.blank() {
		o.fields["evidence_details"] = merged(o.fields["evidence_details"], map[string]any{"has_evidence": true})
	}
	if submit {
		o.fields["evidence_details"] = merged(o.fields["evidence_details"], map[string]any{"submission_count": int64(1)})
		to := underReview
		if o.str("status") == warningOpen {
			to = warningInReview
		}
		o.put("status", to)
	}
	c.emit("charge.dispute.updated", o)
	switch text, _ := o.at("evidence", "uncategorized_text").(string); {
	case submit && text == winningEvidence:
		c.endDispute(o, won)
	case submit && text == losingEvidence:
		c.endDispute(o, lost)
	}
	return nil
}

// closeDispute gives a dispute up: final, and the money, which left when it
// opened, does not come back.
func (c *call) closeDispute(o *thing) *stripeError {
	if !o.open() {
		return errInvalid("", "", "This dispute is already closed.")
	}
	c.endDispute(o, lost)
	return nil
}

// endDispute closes an open dispute, won or lost.
func (c *call) endDispute(o *thing, status string) {
	ch := c.s.charges.byID[o.str("charge")]
	warning := o.str("status") == warningOpen || o.str("status") == warningInReview
	if warning {
		status = warningClosed
	}
	o.put("status", status)
	if ch != nil && !warning && status == won {
		c.bookDispute(o, ch, o.int("amount"), 0, "dispute_reversal", "charge.dispute.funds_reinstated", EffectDisputeBack)
	}
	if status == lost {
		c.effect(EffectDisputeLost, o.id, o.str("charge"), "", o.int("amount"), o.str("currency"))
	}
	c.emit("charge.dispute.closed", o)
}

// setCharge is what a bank does to a charge.
func (c *call) setCharge(id, status string) *stripeError {
	ch, f := c.s.charges.get(id, "id")
	if f != nil {
		return f
	}
	reason := map[string]string{disputedStatus: fraudulentReason, inquiry: inquiry}[status]
	if reason == "" {
		return errInvalid("status", "", "A charge can become disputed or an inquiry, not "+status+".")
	}
	return c.dispute(ch, ch.captured-ch.refundedMoney, reason)
}

// setDispute is what a bank decides.
func (c *call) setDispute(id, status string) *stripeError {
	o, f := c.thing(disputeModel, id, "id")
	if f != nil {
		return f
	}
	if !o.open() || status != won && status != lost {
		return errInvalid("status", "", "Dispute "+id+" cannot go from "+o.str("status")+" to "+status+".")
	}
	c.endDispute(o, status)
	return nil
}
