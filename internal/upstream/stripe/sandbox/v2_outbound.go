package sandbox

import "fmt"

// outboundModel is money sent from a financial account to somebody else, and
// ownModel to an account of one's own. Both leave at once and arrive later.
var (
	outboundModel = &model{object: "v2.money_management.outbound_payment", noun: "outbound payment", prefix: "obp_test", v2: true,
		resource: "v2.money_management.outbound_payments", path: "/v2/money_management/outbound_payments", own: []string{"amount", "from", "to"},
		defaults: `{"amount":null,"cancelable":true,"created":0,"description":null,"expected_arrival_date":null,"from":null,"livemode":false,` +
			`"metadata":{},"payout_intent":null,"recipient_notification":{"setting":"configured"},"recipient_verification":null,` +
			`"statement_descriptor":"KEYBRAKE SANDBOX","status":"processing","status_details":null,"status_transitions":{},"to":null}`}
	ownModel = &model{object: "v2.money_management.outbound_transfer", noun: "outbound transfer", prefix: "obt_test", v2: true,
		resource: "v2.money_management.outbound_transfers", path: "/v2/money_management/outbound_transfers", own: []string{"amount", "from", "to"},
		defaults: `{"amount":null,"cancelable":true,"created":0,"description":null,"expected_arrival_date":null,"from":null,"livemode":false,` +
			`"metadata":{},"payout_intent":null,"statement_descriptor":"KEYBRAKE SANDBOX","status":"processing","status_details":null,` +
			`"status_transitions":{},"to":null}`}
)

// inboundModel is money pulled from a bank account of one's own.
var inboundModel = &model{object: "v2.money_management.inbound_transfer", noun: "inbound transfer", prefix: "ibt_test", v2: true,
	resource: "v2.money_management.inbound_transfers", path: "/v2/money_management/inbound_transfers", own: []string{"amount", "from", "to"},
	defaults: `{"amount":null,"created":0,"description":"","from":null,"livemode":false,"to":null,"transfer_history":[]}`}

var outboundModels = []*model{outboundModel, ownModel, inboundModel}

var outboundRoutes = []*operation{
	get("/v2/money_management/outbound_payments", outboundModel.resource, kindNone, listV2(outboundModel, func(c *call, o *thing) bool {
		to := c.str("recipient")
		return (to == "" || o.at("to", "recipient") == to) && c.isOneOf("status", o.str("status"))
	})),
	post("/v2/money_management/outbound_payments", outboundModel.resource, kindNone, createOutbound(outboundModel)),
	get("/v2/money_management/outbound_payments/{id}", outboundModel.resource, kindNone, retrieve(outboundModel)),
	post("/v2/money_management/outbound_payments/{id}/cancel", outboundModel.resource, kindNone, cancelOutbound(outboundModel)),
	get("/v2/money_management/outbound_transfers", ownModel.resource, kindNone, listV2(ownModel, func(c *call, o *thing) bool {
		return c.isOneOf("status", o.str("status"))
	})),
	post("/v2/money_management/outbound_transfers", ownModel.resource, kindNone, createOutbound(ownModel)),
	get("/v2/money_management/outbound_transfers/{id}", ownModel.resource, kindNone, retrieve(ownModel)),
	post("/v2/money_management/outbound_transfers/{id}/cancel", ownModel.resource, kindNone, cancelOutbound(ownModel)),
	get("/v2/money_management/inbound_transfers", inboundModel.resource, kindNone, listV2(inboundModel, nil)),
	post("/v2/money_management/inbound_transfers", inboundModel.resource, kindNone, create(inboundModel, "", fillInbound)),
	get("/v2/money_management/inbound_transfers/{id}", inboundModel.resource, kindNone, retrieve(inboundModel)),
}

// order is what is to be sent: Value in To, paid out of a financial account in From.
type order struct {
	value     int64
	from, to  string // currencies
	account   *thing // financial
	recipient string // an account; empty: to oneself
	method    *thing // payout
}

// readOrder reads amount, from and to of a call.
func (c *call) readOrder() (o order, f *stripeError) {
	if o.value, o.to, f = c.moneyOf("amount"); f != nil {
		return o, f
	}
	if o.from = c.sub("from", "currency").text(); o.from == "" {
		o.from = o.to
	}
	if to := c.sub("to", "currency").text(); to != "" && to != o.to && o.to != o.from {
		return o, errInvalid("to.currency", "", "The currency of the amount must be that of from or to.")
	}
	if o.account, f = c.openFinancial(c.sub("from", "financial_account").text(), "from.financial_account"); f != nil {
		return o, f
	}
	return o, c.readTarget(&o)
}

// readTarget reads who is paid, and where.
func (c *call) readTarget(o *order) (f *stripeError) {
	o.recipient = c.sub("to", "recipient").text()
	owner := c.s
	if o.recipient != "" {
		if owner = c.s.connectedAccount(o.recipient); owner == nil {
			return errInvalid("to.recipient", "account_not_configured_as_recipient", "No such recipient: "+o.recipient)
		}
	}
	if id := c.sub("to", "payout_method").text(); id != "" {
		m, ok := owner.shelf(payoutMethodModel).byID[id]
		if !ok || m.fields["archived"] == true {
			return errV2("invalid_payout_method", "payout_method_does_not_exist", "No such payout method: "+id)
		}
		o.method = m
		return nil
	}
	all := owner.shelf(payoutMethodModel).order
	for i := len(all) - 1; i >= 0 && o.method == nil; i-- {
		if all[i].fields["archived"] != true {
			o.method = all[i]
		}
	}
	if o.method == nil {
		return errV2("invalid_payout_method", "payout_method_does_not_exist", "There is no payout method to send this to.")
	}
	return nil
}

// sendOrder takes the money out of the financial account and sends it off.
func (c *call) sendOrder(m *model, from order) (*thing, *stripeError) {
	debited, f := exchange(from.value, from.from, from.to)
	if f != nil {
		return nil, f
	}
	if debited > from.account.pot("available", from.from) {
		return nil, errV2("insufficient_funds", "outbound_payment_insufficient_funds",
			"The financial account does not hold "+formatAmount(debited, from.from)+".")
	}
	o := c.bare(m)
	to := map[string]any{"credited": money(from.value, from.to), "payout_method": from.method.id}
	if from.recipient != "" {
		to["recipient"] = from.recipient
	}
	o.put("amount", money(from.value, from.to), "to", to, "expected_arrival_date", stamp(c.now + 2*86_400)[:10],
		"from", map[string]any{"debited": money(debited, from.from), "financial_account": from.account.id})
	c.s.shelf(m).insert(o)
	c.shift(from.account, from.from, impact{available: -debited, outbound: debited}, m.flow(), m.flow(), o.id)
	c.effect(EffectOutbound, o.id, from.recipient, "", debited, from.from)
	return o, nil
}

// flow is the name of what a model is in the books.
func (m *model) flow() string { return string(m.object[len("v2.money_management."):]) }

func createOutbound(m *model) handler {
	return func(c *call) (view, *stripeError) {
		from, f := c.readOrder()
		if f != nil {
			return nil, f
		}
		if m == outboundModel && from.recipient == "" {
			return nil, errMissingParam("to.recipient")
		}
		md, f := c.metadata(nil)
		if f != nil {
			return nil, f
		}
		o, f := c.sendOrder(m, from)
		if f != nil {
			return nil, f
		}
		o.md = md
		if f := c.fill(o); f != nil {
			return nil, f
		}
		c.emitV2(string(m.object)+".created", o)
		return o, nil
	}
}

func cancelOutbound(m *model) handler {
	return func(c *call) (view, *stripeError) {
		o, f := c.thing(m, c.args[0], "id")
		if f != nil {
			return nil, f
		}
		if f := c.cancelSent(o); f != nil {
			return nil, f
		}
		return o, nil
	}
}

func (c *call) cancelSent(o *thing) *stripeError {
	switch status := o.str("status"); {
	case status == canceled:
		return errV2("already_canceled", "already_canceled", o.id+" is canceled already.")
	case status != processing:
		return errV2("not_cancelable", "not_cancelable", o.id+" cannot be canceled: its status is "+status+".")
	}
	c.endOutbound(o, canceled)
	return nil
}

// endOutbound ends a payment that is on its way: posted, or with the money back.
func (c *call) endOutbound(o *thing, status string) {
	fa := c.s.shelf(financialModel).byID[fmt.Sprint(o.at("from", "financial_account"))]
	debited, _ := o.at("from", "debited").(map[string]any)
	value, currency := asInt(debited["value"]), fmt.Sprint(debited["currency"])
	flow := o.model.flow()
	switch {
	case status == "posted":
		c.shift(fa, currency, impact{outbound: -value}, flow, flow, o.id)
	case o.str("status") == "posted": // returned by the bank
		c.shift(fa, currency, impact{available: value}, flow+"_reversal", flow, o.id)
		c.effect(EffectOutboundBack, o.id, "", "", value, currency)
	default:
		c.shift(fa, currency, impact{available: value, outbound: -value}, flow, flow, o.id)
		c.effect(EffectOutboundBack, o.id, "", "", value, currency)
	}
	o.put("status", status, "cancelable", false)
	o.fields["status_transitions"] = merged(o.fields["status_transitions"], map[string]any{status + "_at": stamp(c.now)})
	switch status {
	case "failed":
		o.put("status_details", map[string]any{"failed": map[string]any{"reason": "payout_method_declined"}})
	case "returned":
		o.put("status_details", map[string]any{"returned": map[string]any{"reason": "payout_method_closed"}})
	}
	c.emitV2(string(o.model.object)+"."+status, o)
	if intent, ok := c.s.shelf(payoutIntentModel).byID[o.str("payout_intent")]; ok {
		c.followPayout(intent, status)
	}
}

// setOutbound is what the bank does to a payment or transfer of v2.
func (c *call) setOutbound(id, status string) *stripeError {
	o, f := c.thing(outboundModel, id, "id")
	if f != nil {
		if o, f = c.thing(ownModel, id, "id"); f != nil {
			return f
		}
	}
	at := o.str("status")
	if at == processing && (status == "posted" || status == "failed") || at == "posted" && status == "returned" {
		c.endOutbound(o, status)
		return nil
	}
	return errInvalid("status", "", o.id+" cannot go from "+at+" to "+status+".")
}

// fillInbound asks the bank for money: it arrives when the control route says so.
func fillInbound(c *call, o *thing) *stripeError {
	value, currency, f := c.moneyOf("amount")
	if f != nil {
		return f
	}
	fa, f := c.openFinancial(c.sub("to", "financial_account").text(), "to.financial_account")
	if f != nil {
		return f
	}
	bank := c.sub("from", "payment_method").text()
	if _, ok := c.s.shelf(usBankModel).byID[bank]; !ok {
		return errInvalid("from.payment_method", "not_found", "No such payment method: "+bank)
	}
	o.put("amount", money(value, currency), "to", map[string]any{"credited": money(value, currency), "financial_account": fa.id},
		"from", map[string]any{"debited": money(value, currency), "payment_method": map[string]any{"type": "us_bank_account", "us_bank_account": bank}},
		"transfer_history", []any{c.historyOf("bank_debit_processing")})
	c.shift(fa, currency, impact{inbound: value}, "inbound_transfer", "inbound_transfer", o.id)
	c.emitV2("v2.money_management.inbound_transfer.bank_debit_processing", o)
	return nil
}

// historyOf is one step in the life of an inbound transfer.
func (c *call) historyOf(typ string) map[string]any {
	detail := map[string]any{}
	switch typ {
	case "bank_debit_failed":
		detail["failure_reason"] = "insufficient_funds"
	case "bank_debit_returned":
		detail["return_reason"] = "insufficient_funds"
	}
	return map[string]any{"id": c.s.id("ibthe_test"), "type": typ, typ: detail, "created": stamp(c.now), "effective_at": stamp(c.now)}
}

// setInbound is what the bank does to an inbound transfer.
func (c *call) setInbound(id, status string) *stripeError {
	o, f := c.thing(inboundModel, id, "id")
	if f != nil {
		return f
	}
	history := o.fields["transfer_history"].([]any)
	at := history[len(history)-1].(map[string]any)["type"]
	fa := c.s.shelf(financialModel).byID[fmt.Sprint(o.at("to", "financial_account"))]
	credited, _ := o.at("to", "credited").(map[string]any)
	value, currency := asInt(credited["value"]), fmt.Sprint(credited["currency"])
	const flow = "inbound_transfer"
	switch {
	case status == succeeded && at == "bank_debit_processing":
		c.shift(fa, currency, impact{available: value, inbound: -value}, flow, flow, o.id)
		c.effect(EffectInbound, o.id, fa.id, "", value, currency)
	case status == "failed" && at == "bank_debit_processing":
		c.shift(fa, currency, impact{inbound: -value}, flow, flow, o.id)
	case status == "returned" && at == "bank_debit_succeeded":
		c.shift(fa, currency, impact{available: -value}, flow+"_reversal", flow, o.id)
		c.effect(EffectInboundBack, o.id, fa.id, "", value, currency)
	default:
		return errInvalid("status", "", fmt.Sprintf("%s cannot go from %v to %s.", o.id, at, status))
	}
	o.put("transfer_history", append(history[:len(history):len(history)], c.historyOf("bank_debit_"+status)))
	c.emitV2("v2.money_management.inbound_transfer.bank_debit_"+status, o)
	return nil
}
