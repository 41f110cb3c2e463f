package sandbox

const noPlace = `{"city":null,"country":null,"line1":null,"line2":null,"postal_code":null,"state":null}`

// sentModel and movedModel are money sent from a financial account: to somebody
// else, and to a bank account of one's own.
var (
	sentModel = &model{object: "treasury.outbound_payment", prefix: "obp", resource: "treasury.outbound_payments", own: []string{"customer"},
		defaults: `{"amount":0,"cancelable":true,"created":0,"currency":"usd","customer":null,"description":null,"destination_payment_method":null,` +
			`"destination_payment_method_details":null,"end_user_details":null,"expected_arrival_date":0,"financial_account":"",` +
			`"hosted_regulatory_receipt_url":null,"livemode":false,"metadata":{},"returned_details":null,"statement_descriptor":"payment",` +
			`"status":"processing","status_transitions":{"canceled_at":null,"failed_at":null,"posted_at":null,"returned_at":null},` +
			`"tracking_details":null,"transaction":""}`}
	movedModel = &model{object: "treasury.outbound_transfer", prefix: "obt", resource: "treasury.outbound_transfers",
		defaults: `{"amount":0,"cancelable":true,"created":0,"currency":"usd","description":null,"destination_payment_method":null,` +
			`"destination_payment_method_details":null,"expected_arrival_date":0,"financial_account":"","hosted_regulatory_receipt_url":null,` +
			`"livemode":false,"metadata":{},"returned_details":null,"statement_descriptor":"transfer","status":"processing",` +
			`"status_transitions":{"canceled_at":null,"failed_at":null,"posted_at":null,"returned_at":null},"tracking_details":null,"transaction":""}`}
)

// pulledModel is money pulled from a bank account of one's own.
var pulledModel = &model{object: "treasury.inbound_transfer", prefix: "ibt", resource: "treasury.inbound_transfers",
	defaults: `{"amount":0,"cancelable":true,"created":0,"currency":"usd","description":null,"failure_details":null,"financial_account":"",` +
		`"hosted_regulatory_receipt_url":null,"linked_flows":{"received_debit":null},"livemode":false,"metadata":{},"origin_payment_method":null,` +
		`"origin_payment_method_details":null,"returned":false,"statement_descriptor":"transfer","status":"processing",` +
		`"status_transitions":{"canceled_at":null,"failed_at":null,"succeeded_at":null},"transaction":null}`}

// gotModel and takenModel are what others sent to, and took from, a financial account.
var (
	gotModel = &model{object: "treasury.received_credit", prefix: "rc", resource: "treasury.received_credits",
		defaults: `{"amount":0,"created":0,"currency":"usd","description":"","failure_code":null,"financial_account":null,` +
			`"hosted_regulatory_receipt_url":null,"initiating_payment_method_details":null,"linked_flows":{"credit_reversal":null,` +
			`"issuing_authorization":null,"issuing_transaction":null,"source_flow":null,"source_flow_details":null,"source_flow_type":null},` +
			`"livemode":false,"network":"ach","reversal_details":{"deadline":null,"restricted_reason":null},"status":"succeeded","transaction":null}`}
	takenModel = &model{object: "treasury.received_debit", prefix: "rd", resource: "treasury.received_debits",
		defaults: `{"amount":0,"created":0,"currency":"usd","description":"","failure_code":null,"financial_account":null,` +
			`"hosted_regulatory_receipt_url":null,"initiating_payment_method_details":null,"linked_flows":{"debit_reversal":null,` +
			`"inbound_transfer":null,"issuing_authorization":null,"issuing_transaction":null,"payout":null,"topup":null},` +
			`"livemode":false,"network":"ach","reversal_details":{"deadline":null,"restricted_reason":null},"status":"succeeded","transaction":null}`}
)

// backModel and claimModel send a received credit back, and claim a received debit.
var (
	backModel = &model{object: "treasury.credit_reversal", prefix: "credrev", resource: "treasury.credit_reversals",
		defaults: `{"amount":0,"created":0,"currency":"usd","financial_account":"","hosted_regulatory_receipt_url":null,"livemode":false,` +
			`"metadata":{},"network":"ach","received_credit":"","status":"posted","status_transitions":{"posted_at":null},"transaction":null}`}
	claimModel = &model{object: "treasury.debit_reversal", prefix: "debrev", resource: "treasury.debit_reversals",
		defaults: `{"amount":0,"created":0,"currency":"usd","financial_account":null,"hosted_regulatory_receipt_url":null,` +
			`"linked_flows":{"issuing_dispute":null},"livemode":false,"metadata":{},"network":"ach","received_debit":"","status":"succeeded",` +
			`"status_transitions":{"completed_at":null},"transaction":null}`}
)

var treasuryFlowModels = []*model{sentModel, movedModel, pulledModel, gotModel, takenModel, backModel, claimModel}

const helpTreasury = "/v1/test_helpers/treasury/"

var treasuryFlowRoutes = []*operation{
	get("/v1/treasury/outbound_payments", "treasury.outbound_payments", "list:treasury.outbound_payment", listTreasury(sentModel)),
	post("/v1/treasury/outbound_payments", "treasury.outbound_payments", "treasury.outbound_payment",
		create(sentModel, "treasury.outbound_payment.created", sendTreasury)),
	get("/v1/treasury/outbound_payments/{id}", "treasury.outbound_payments", "treasury.outbound_payment", retrieve(sentModel)),
	post("/v1/treasury/outbound_payments/{id}/cancel", "treasury.outbound_payments", "treasury.outbound_payment", endSent(sentModel, canceled)),
	post(helpTreasury+"outbound_payments/{id}/post", "test_helpers.treasury.outbound_payments", "treasury.outbound_payment", endSent(sentModel, "posted")),
	post(helpTreasury+"outbound_payments/{id}/fail", "test_helpers.treasury.outbound_payments", "treasury.outbound_payment", endSent(sentModel, "failed")),
	post(helpTreasury+"outbound_payments/{id}/return", "test_helpers.treasury.outbound_payments", "treasury.outbound_payment", endSent(sentModel, "returned")),
	get("/v1/treasury/outbound_transfers", "treasury.outbound_transfers", "list:treasury.outbound_transfer", listTreasury(movedModel)),
	post("/v1/treasury/outbound_transfers", "treasury.outbound_transfers", "treasury.outbound_transfer",
		create(movedModel, "treasury.outbound_transfer.created", sendTreasury)),
	get("/v1/treasury/outbound_transfers/{outbound_transfer}", "treasury.outbound_transfers", "treasury.outbound_transfer", retrieve(movedModel)),
	post("/v1/treasury/outbound_transfers/{outbound_transfer}/cancel", "treasury.outbound_transfers", "treasury.outbound_transfer", endSent(movedModel, canceled)),
	post(helpTreasury+"outbound_transfers/{outbound_transfer}/post", "test_helpers.treasury.outbound_transfers", "treasury.outbound_transfer", endSent(movedModel, "posted")),
	post(helpTreasury+"outbound_transfers/{outbound_transfer}/fail", "test_helpers.treasury.outbound_transfers", "treasury.outbound_transfer", endSent(movedModel, "failed")),
	post(helpTreasury+"outbound_transfers/{outbound_transfer}/return", "test_helpers.treasury.outbound_transfers", "treasury.outbound_transfer", endSent(movedModel, "returned")),
	get("/v1/treasury/inbound_transfers", "treasury.inbound_transfers", "list:treasury.inbound_transfer", listTreasury(pulledModel)),
	post("/v1/treasury/inbound_transfers", "treasury.inbound_transfers", "treasury.inbound_transfer",
		create(pulledModel, "treasury.inbound_transfer.created", pullTreasury)),
	get("/v1/treasury/inbound_transfers/{id}", "treasury.inbound_transfers", "treasury.inbound_transfer", retrieve(pulledModel)),
	post("/v1/treasury/inbound_transfers/{inbound_transfer}/cancel", "treasury.inbound_transfers", "treasury.inbound_transfer", endPulled(canceled)),
	post(helpTreasury+"inbound_transfers/{id}/succeed", "test_helpers.treasury.inbound_transfers", "treasury.inbound_transfer", endPulled(succeeded)),
	post(helpTreasury+"inbound_transfers/{id}/fail", "test_helpers.treasury.inbound_transfers", "treasury.inbound_transfer", endPulled("failed")),
	post(helpTreasury+"inbound_transfers/{id}/return", "test_helpers.treasury.inbound_transfers", "treasury.inbound_transfer", endPulled("returned")),
	get("/v1/treasury/received_credits", "treasury.received_credits", "list:treasury.received_credit", listTreasury(gotModel)),
	get("/v1/treasury/received_credits/{id}", "treasury.received_credits", "treasury.received_credit", retrieve(gotModel)),
	post(helpTreasury+"received_credits", "test_helpers.treasury.received_credits", "treasury.received_credit",
		create(gotModel, "treasury.received_credit.created", receiveTreasury)),
	get("/v1/treasury/received_debits", "treasury.received_debits", "list:treasury.received_debit", listTreasury(takenModel)),
	get("/v1/treasury/received_debits/{id}", "treasury.received_debits", "treasury.received_debit", retrieve(takenModel)),
	post(helpTreasury+"received_debits", "test_helpers.treasury.received_debits", "treasury.received_debit",
		create(takenModel, "treasury.received_debit.created", receiveTreasury)),
	get("/v1/treasury/credit_reversals", "treasury.credit_reversals", "list:treasury.credit_reversal", listTreasury(backModel)),
	post("/v1/treasury/credit_reversals", "treasury.credit_reversals", "treasury.credit_reversal",
		create(backModel, "treasury.credit_reversal.created", reverseReceived(gotModel))),
	get("/v1/treasury/credit_reversals/{credit_reversal}", "treasury.credit_reversals", "treasury.credit_reversal", retrieve(backModel)),
	get("/v1/treasury/debit_reversals", "treasury.debit_reversals", "list:treasury.debit_reversal", listTreasury(claimModel)),
	post("/v1/treasury/debit_reversals", "treasury.debit_reversals", "treasury.debit_reversal",
		create(claimModel, "treasury.debit_reversal.created", reverseReceived(takenModel))),
	get("/v1/treasury/debit_reversals/{debit_reversal}", "treasury.debit_reversals", "treasury.debit_reversal", retrieve(claimModel)),
}

// details are what is shown of a bank account that money goes to or comes from.
func (c *call) details(m *paymentMethod) map[string]any {
	return map[string]any{"type": typeOfBank, "billing_details": map[string]any{"address": parseJSON(noPlace), "email": nil, "name": nil},
		typeOfBank: map[string]any{"account_holder_type": nullable(m.holder), "account_type": "checking", "bank_name": "STRIPE TEST BANK",
			"fingerprint": m.fingerprint, "last4": m.last4, "network": "ach", "routing_number": nullable(m.routing)}}
}

// bankMethod is the stored bank account that a parameter names.
func (c *call) bankMethod(name string) (*paymentMethod, *stripeError) {
	m, f := c.s.methods.get(c.str(name), name)
	if f == nil && m.typ != typeOfBank {
		f = errInvalid(name, "", "The payment method must be of type us_bank_account.")
	}
	return m, f
}

// sendTreasury sends money to what the call names as its destination.
func sendTreasury(c *call, o *thing) *stripeError {
	fa, f := c.openTreasury()
	if f != nil {
		return f
	}
	customer := c.str("customer")
	if customer != "" {
		if _, f := c.s.customers.get(customer, "customer"); f != nil {
			return f
		}
		o.put("customer", customer)
	}
	data := c.p.get("destination_payment_method_data")
	switch {
	case c.set("destination_payment_method"):
		m, f := c.bankMethod("destination_payment_method")
		if f != nil {
			return f
		}
		if o.model == sentModel && m.customer != "" && m.customer != customer {
			return errNotAttached(m.id)
		}
		o.put("destination_payment_method_details", c.details(m))
	case data.get("type").text() == typeOfBank:
		m, f := c.newMethod(data, "destination_payment_method_data")
		if f != nil {
			return f
		}
		o.put("destination_payment_method_details", c.details(m))
	case data.get("financial_account").text() != "":
		to, f := c.thing(treasuryModel, data.get("financial_account").text(), "destination_payment_method_data[financial_account]")
		if f != nil {
			return f
		}
		o.put("destination_payment_method_details", map[string]any{"type": "financial_account", "financial_account": map[string]any{"id": to.id,
			"network": "stripe"}, "billing_details": map[string]any{"address": parseJSON(noPlace), "email": nil, "name": nil}})
	default:
		return errInvalid("destination_payment_method", "parameter_missing", "You must provide a destination_payment_method or destination_payment_method_data.")
	}
	amount := c.amount("amount")
	if amount > fa.cash() {
		return errInsufficient("amount", "The financial account does not hold "+formatAmount(amount, "usd")+".")
	}
	o.put("expected_arrival_date", c.now+2*86_400)
	typ := string(o.model.object[len("treasury."):])
	o.put("transaction", c.treasure(fa, o, typ, impact{available: -amount, outbound: amount}).id)
	c.effect(EffectOutbound, o.id, fa.id, customer, amount, "usd")
	return nil
}

// endSent ends what is on its way: posted, or with the money back.
func endSent(m *model, status string) handler {
	entries := map[string]string{canceled: "_cancellation", "posted": "_posting", "failed": "_failure", "returned": "_return"}
	return func(c *call) (view, *stripeError) {
		o, f := c.thing(m, c.args[0], "id")
		if f != nil {
			return nil, f
		}
		at, amount := o.str("status"), o.int("amount")
		if at != processing && (at != "posted" || status != "returned") {
			return nil, errInvalid("", "", "This "+string(m.object)+" cannot become "+status+": its status is "+at+".")
		}
		fa := c.s.shelf(treasuryModel).byID[o.str("financial_account")]
		by := impact{available: amount, outbound: -amount}
		switch {
		case status == "posted":
			by = impact{outbound: -amount}
		case at == "posted":
			by = impact{available: amount}
		}
		typ := string(m.object[len("treasury."):])
		line := c.treasure(fa, o, typ+entries[status], by)
		if status != "posted" {
			c.effect(EffectOutboundBack, o.id, fa.id, o.str("customer"), amount, "usd")
		}
		o.put("status", status, "cancelable", false)
		if status == "returned" {
			o.put("returned_details", map[string]any{"code": "other", "transaction": line.id})
		}
		o.fields["status_transitions"] = merged(o.fields["status_transitions"], map[string]any{status + "_at": c.now})
		c.emit(string(m.object)+"."+status, o)
		return o, nil
	}
}

func pullTreasury(c *call, o *thing) *stripeError {
	fa, f := c.openTreasury()
	if f != nil {
		return f
	}
	m, f := c.bankMethod("origin_payment_method")
	if f != nil {
		return f
	}
	o.put("origin_payment_method_details", c.details(m))
	o.put("transaction", c.treasure(fa, o, "inbound_transfer", impact{inbound: c.amount("amount")}).id)
	return nil
}

func endPulled(status string) handler {
	return func(c *call) (view, *stripeError) {
		o, f := c.thing(pulledModel, c.args[0], "id")
		if f != nil {
			return nil, f
		}
		at, amount := o.str("status"), o.int("amount")
		if at != processing && (at != succeeded || status != "returned" || o.fields["returned"] == true) {
			return nil, errInvalid("", "", "This inbound transfer cannot become "+status+": its status is "+at+".")
		}
		if at == processing && status == "returned" {
			return nil, errInvalid("", "", "This inbound transfer has not succeeded, so it cannot be returned.")
		}
		fa := c.s.shelf(treasuryModel).byID[o.str("financial_account")]
		switch status {
		case succeeded:
			c.treasure(fa, o, "inbound_transfer", impact{available: amount, inbound: -amount})
			c.effect(EffectInbound, o.id, fa.id, "", amount, "usd")
		case "returned":
			c.treasure(fa, o, "inbound_transfer_return", impact{available: -amount})
			c.effect(EffectInboundBack, o.id, fa.id, "", amount, "usd")
			o.put("returned", true)
			c.emit("treasury.inbound_transfer.failed", o)
			return o, nil
		default:
			c.treasure(fa, o, "inbound_transfer_return", impact{inbound: -amount})
		}
		if status == "failed" {
			o.put("failure_details", map[string]any{"code": "insufficient_funds"})
		}
		o.put("status", status, "cancelable", false)
		o.fields["status_transitions"] = merged(o.fields["status_transitions"], map[string]any{status + "_at": c.now})
		c.emit("treasury.inbound_transfer."+status, o)
		return o, nil
	}
}

// receiveTreasury is somebody sending money, or taking it: the test helpers.
func receiveTreasury(c *call, o *thing) *stripeError {
	fa, f := c.openTreasury()
	if f != nil {
		return f
	}
	amount := c.amount("amount")
	o.put("initiating_payment_method_details", map[string]any{"type": typeOfBank, "billing_details": map[string]any{"address": parseJSON(noPlace),
		"email": nil, "name": nil}, typeOfBank: map[string]any{"bank_name": "STRIPE TEST BANK", "last4": "6789", "routing_number": "110000000"}})
	if o.model == gotModel {
		o.put("transaction", c.treasure(fa, o, "received_credit", impact{available: amount}).id)
		c.effect(EffectReceivedCredit, o.id, fa.id, "", amount, "usd")
		return nil
	}
	if amount > fa.cash() {
		o.put("status", "failed", "failure_code", "insufficient_funds")
		return nil
	}
	o.put("transaction", c.treasure(fa, o, "received_debit", impact{available: -amount}).id)
	c.effect(EffectReceivedDebit, o.id, fa.id, "", amount, "usd")
	return nil
}

// reverseReceived sends back all of what was received, or claims all of what was taken.
func reverseReceived(m *model) func(*call, *thing) *stripeError {
	return func(c *call, o *thing) *stripeError {
		param := string(m.object[len("treasury."):])
		received, f := c.thing(m, c.str(param), param)
		if f != nil {
			return f
		}
		link := string(o.model.object[len("treasury."):])
		fa := c.s.shelf(treasuryModel).byID[received.str("financial_account")]
		amount := received.int("amount")
		switch {
		case received.str("status") != succeeded || received.at("linked_flows", link) != nil:
			return errInvalid(param, "", "This "+param+" cannot be reversed: it did not succeed, or has been reversed already.")
		case m == gotModel && amount > fa.cash():
			return errInsufficient(param, "The financial account does not hold "+formatAmount(amount, "usd")+".")
		}
		received.fields["linked_flows"] = merged(received.fields["linked_flows"], map[string]any{link: o.id})
		received.fields["reversal_details"] = map[string]any{"deadline": nil, "restricted_reason": "already_reversed"}
		o.put("amount", amount, "financial_account", fa.id)
		if m == gotModel {
			o.put("status_transitions", map[string]any{"posted_at": c.now}, "transaction", c.treasure(fa, o, link, impact{available: -amount}).id)
			c.effect(EffectOutbound, o.id, received.id, "", amount, "usd")
			return nil
		}
		o.put("status_transitions", map[string]any{"completed_at": c.now}, "transaction", c.treasure(fa, o, link, impact{available: amount}).id)
		c.effect(EffectInbound, o.id, received.id, "", amount, "usd")
		return nil
	}
}
