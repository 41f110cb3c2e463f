package sandbox

import (
	"slices"
	"time"
)

// authorizationModel is a shop asking whether a card may pay. What the sandbox
// does not decide itself (is_amount_controllable in the test helper) waits for
// approve or decline.
var authorizationModel = &model{object: "issuing.authorization", prefix: "iauth", resource: "issuing.authorizations",
	own: []string{"card", "amount", "merchant_amount"},
	defaults: `{"amount":0,"amount_details":{"atm_fee":null,"cashback_amount":null},"approved":false,"authorization_method":"online",` +
		`"balance_transactions":[],"card":null,"card_presence":"not_present","cardholder":null,"created":0,"currency":"usd","fleet":null,` +
		`"fraud_challenges":null,"fuel":null,"livemode":false,"merchant_amount":0,"merchant_currency":"usd",` +
		`"merchant_data":{"category":"computer_software_stores","category_code":"5734","city":"San Francisco","country":"US","name":"Sandbox shop",` +
		`"network_id":"1234567890","postal_code":"94103","state":"CA","tax_id":null,"terminal_id":null,"url":null},"metadata":{},` +
		`"network_data":{"acquiring_institution_id":null,"system_trace_audit_number":null,"transaction_id":null},"pending_request":null,` +
		`"request_history":[],"status":"pending","token":null,"transactions":[],"verification_data":{"address_line1_check":"not_provided",` +
		`"address_postal_code_check":"not_provided","authentication_exemption":null,"cvc_check":"match","expiry_check":"match",` +
		`"postal_code":null,"three_d_secure":null},"verified_by_fraud_challenge":null,"wallet":null}`}

// spendModel is money that went to a shop, or came back from it.
var spendModel = &model{object: "issuing.transaction", prefix: "ipi", resource: "issuing.transactions", own: []string{"card", "amount"},
	defaults: `{"amount":0,"amount_details":{"atm_fee":null,"cashback_amount":null},"authorization":null,"balance_transaction":null,"card":"",` +
		`"cardholder":null,"created":0,"currency":"usd","dispute":null,"livemode":false,"merchant_amount":0,"merchant_currency":"usd",` +
		`"merchant_data":null,"metadata":{},"network_data":{"authorization_code":null,"processing_date":null,"transaction_id":null},` +
		`"purchase_details":null,"token":null,"type":"capture","wallet":null}`}

const helpIssuing = "/v1/test_helpers/issuing/"

var spendingRoutes = []*operation{
	get("/v1/issuing/authorizations", "issuing.authorizations", "list:issuing.authorization", listIssued(authorizationModel)),
	get("/v1/issuing/authorizations/{authorization}", "issuing.authorizations", "issuing.authorization", retrieve(authorizationModel)),
	post("/v1/issuing/authorizations/{authorization}", "issuing.authorizations", "issuing.authorization",
		update(authorizationModel, "issuing_authorization.updated", nil)),
	post("/v1/issuing/authorizations/{authorization}/approve", "issuing.authorizations", "issuing.authorization", decide(true)),
	post("/v1/issuing/authorizations/{authorization}/decline", "issuing.authorizations", "issuing.authorization", decide(false)),
	get("/v1/issuing/transactions", "issuing.transactions", "list:issuing.transaction", listIssued(spendModel)),
	get("/v1/issuing/transactions/{transaction}", "issuing.transactions", "issuing.transaction", retrieve(spendModel)),
	post("/v1/issuing/transactions/{transaction}", "issuing.transactions", "issuing.transaction", update(spendModel, "issuing_transaction.updated", nil)),
	post(helpIssuing+"authorizations", "test_helpers.issuing.authorizations", "issuing.authorization", create(authorizationModel,
		"issuing_authorization.created", askCard)),
	post(helpIssuing+"authorizations/{authorization}/capture", "test_helpers.issuing.authorizations", "issuing.authorization", captureSpend),
	post(helpIssuing+"authorizations/{authorization}/expire", "test_helpers.issuing.authorizations", "issuing.authorization", endAuthorization("expired")),
	post(helpIssuing+"authorizations/{authorization}/reverse", "test_helpers.issuing.authorizations", "issuing.authorization", reverseAuthorization),
	post(helpIssuing+"transactions/create_force_capture", "test_helpers.issuing.transactions", "issuing.transaction", func(c *call) (view, *stripeError) {
		card, f := c.thing(cardModel, c.str("card"), "card")
		if f != nil {
			return nil, f
		}
		if f := positive("amount", c.amount("amount")); f != nil {
			return nil, f
		}
		return c.spend(card, nil, c.amount("amount")), nil
	}),
	post(helpIssuing+"transactions/create_unlinked_refund", "test_helpers.issuing.transactions", "issuing.transaction", func(c *call) (view, *stripeError) {
		card, f := c.thing(cardModel, c.str("card"), "card")
		if f != nil {
			return nil, f
		}
		return c.spend(card, nil, -c.amount("amount")), nil
	}),
	post(helpIssuing+"transactions/{transaction}/refund", "test_helpers.issuing.transactions", "issuing.transaction", func(c *call) (view, *stripeError) {
		o, f := c.thing(spendModel, c.args[0], "id")
		if f != nil {
			return nil, f
		}
		amount := -o.int("amount")
		if c.has("refund_amount") {
			amount = c.amount("refund_amount")
		}
		if amount <= 0 || amount > -o.int("amount") {
			return nil, errInvalid("refund_amount", "", "The refund is greater than the transaction.")
		}
		card, f := c.thing(cardModel, o.str("card"), "id")
		if f != nil {
			return nil, f
		}
		return c.spend(card, nil, -amount), nil
	}),
}

// askCard is a shop asking: the test helper.
func askCard(c *call, o *thing) *stripeError {
	card, f := c.thing(cardModel, c.str("card"), "card")
	if f != nil {
		return f
	}
	amount := c.amount("amount")
	if !c.has("amount") {
		amount = c.amount("merchant_amount")
	}
	if f := positive("amount", amount); f != nil {
		return f
	}
	currency := card.str("currency")
	o.put("card", card, "cardholder", card.idOf("cardholder"), "currency", currency, "merchant_currency", currency)
	reason := c.refusal(card, o, amount)
	if reason == "" && c.bool("is_amount_controllable") {
		o.put("pending_request", map[string]any{"amount": amount, "amount_details": nil, "currency": currency, "is_amount_controllable": true,
			"merchant_amount": amount, "merchant_currency": currency, "network_risk_score": nil}, "merchant_amount", amount)
		return nil
	}
	if reason == "" {
		c.approve(o, amount, "card_active")
	} else {
		c.refuse(o, amount, reason)
	}
	return nil
}

// refusal is why a card may not spend an amount; empty if it may.
func (c *call) refusal(card, o *thing, amount int64) string {
	holder, _ := card.fields["cardholder"].(*thing)
	switch {
	case card.str("status") == canceled:
		return "card_canceled"
	case card.str("status") != "active":
		return "card_inactive"
	case holder == nil || holder.str("status") != "active":
		return "cardholder_inactive"
	case c.overLimit(card, o, amount) || c.overLimit(holder, o, amount):
		return "spending_controls"
	case amount > c.s.ledgers[card.str("currency")]:
		return "insufficient_funds"
	}
	return ""
}

// overLimit holds an amount against the limits of a card or of its holder.
func (c *call) overLimit(of, o *thing, amount int64) bool {
	limits, _ := of.at("spending_controls", "spending_limits").([]any)
	for _, v := range limits {
		limit, _ := v.(map[string]any)
		categories, _ := limit["categories"].([]any)
		if len(categories) > 0 && !slices.Contains(categories, o.at("merchant_data", "category")) {
			continue
		}
		interval, _ := limit["interval"].(string)
		if c.spent(of, interval, categories)+amount > asInt(limit["amount"]) {
			return true
		}
	}
	return false
}

// spent sums what was authorized since an interval began.
func (c *call) spent(of *thing, interval string, categories []any) int64 {
	since := c.at.UTC()
	switch interval {
	case "per_authorization":
		return 0
	case "all_time":
		since = time.Time{}
	case "weekly":
		since = since.Truncate(24*time.Hour).AddDate(0, 0, -(int(since.Weekday())+6)%7)
	case "monthly":
		since = time.Date(since.Year(), since.Month(), 1, 0, 0, 0, 0, time.UTC)
	case "yearly":
		since = time.Date(since.Year(), 1, 1, 0, 0, 0, 0, time.UTC)
	default:
		since = since.Truncate(24 * time.Hour)
	}
	sum := int64(0)
	for _, o := range c.s.shelf(authorizationModel).order {
		mine := o.idOf("card") == of.id || o.idOf("cardholder") == of.id
		if mine && o.fields["approved"] == true && o.created >= since.Unix() &&
			(len(categories) == 0 || slices.Contains(categories, o.at("merchant_data", "category"))) {
			sum += o.int("merchant_amount")
		}
	}
	return sum
}

// approve holds the money for a shop.
func (c *call) approve(o *thing, amount int64, reason string) {
	c.answerShop(o, amount, true, reason)
	o.put("approved", true, "amount", amount, "merchant_amount", amount)
	t := c.book(booking{typ: "issuing_authorization_hold", balance: "issuing", source: o.id, currency: o.str("currency"), amount: -amount})
	o.put("balance_transactions", []any{t})
	c.effect(EffectSpendHold, o.id, o.idOf("card"), "", amount, o.str("currency"))
}

func (c *call) refuse(o *thing, amount int64, reason string) {
	c.answerShop(o, amount, false, reason)
	o.put("approved", false, "status", "closed", "merchant_amount", amount)
}

func (c *call) answerShop(o *thing, amount int64, approved bool, reason string) {
	history, _ := o.fields["request_history"].([]any)
	o.put("pending_request", nil, "request_history", append(history[:len(history):len(history)], map[string]any{"amount": amount,
		"amount_details": nil, "approved": approved, "authorization_code": nil, "created": c.now, "currency": o.str("currency"),
		"merchant_amount": amount, "merchant_currency": o.str("merchant_currency"), "network_risk_score": nil, "reason": reason,
		"reason_message": nil, "requested_at": c.now}))
}

// decide answers a shop that waits.
func decide(yes bool) handler {
	return func(c *call) (view, *stripeError) {
		o, f := c.thing(authorizationModel, c.args[0], "id")
		if f != nil {
			return nil, f
		}
		asked, _ := o.fields["pending_request"].(map[string]any)
		if asked == nil {
			return nil, errInvalid("", "", "This authorization does not wait for an answer.")
		}
		amount := asInt(asked["amount"])
		if o.md, f = c.metadata(o.md); f != nil {
			return nil, f
		}
		if !yes {
			c.refuse(o, amount, "webhook_declined")
		} else {
			if c.has("amount") {
				amount = c.amount("amount")
			}
			if amount <= 0 || amount > c.s.ledgers[o.str("currency")] {
				return nil, errInvalid("amount", "", "The amount cannot be approved: the balance does not cover it.")
			}
			c.approve(o, amount, "webhook_approved")
		}
		c.emit("issuing_authorization.updated", o)
		return o, nil
	}
}

// giveUp gives back what is held and not captured, up to an amount.
func (c *call) giveUp(o *thing, amount int64) {
	held := o.int("amount")
	amount = min(amount, held)
	if amount <= 0 {
		return
	}
	t := c.book(booking{typ: "issuing_authorization_release", balance: "issuing", source: o.id, currency: o.str("currency"), amount: amount})
	o.put("amount", held-amount, "balance_transactions", append(slices.Clone(o.fields["balance_transactions"].([]any)), t))
	c.effect(EffectSpendRelease, o.id, o.idOf("card"), "", amount, o.str("currency"))
}

// spend moves money to a shop, or back from it where amount is below zero.
func (c *call) spend(card, of *thing, amount int64) *thing {
	o := c.bare(spendModel)
	currency := card.str("currency")
	o.put("amount", -amount, "merchant_amount", -amount, "card", card.id, "cardholder", card.idOf("cardholder"), "currency", currency,
		"merchant_currency", currency, "merchant_data", parseJSON(authorizationModel.defaults)["merchant_data"])
	if of != nil {
		o.put("authorization", of.id, "merchant_data", of.fields["merchant_data"])
	}
	kind := EffectSpend
	if amount < 0 {
		o.put("type", "refund")
		kind = EffectSpendBack
	}
	o.put("balance_transaction", c.book(booking{typ: "issuing_transaction", balance: "issuing", source: o.id, currency: currency, amount: -amount}).id)
	c.s.shelf(spendModel).insert(o)
	c.effect(kind, o.id, card.id, "", max(amount, -amount), currency)
	c.emit("issuing_transaction.created", o)
	return o
}

// captureSpend is the shop taking its money: the test helper.
func captureSpend(c *call) (view, *stripeError) {
	o, f := c.heldAuthorization()
	if f != nil {
		return nil, f
	}
	amount := o.int("amount")
	if c.has("capture_amount") {
		amount = c.amount("capture_amount")
	}
	if f := positive("capture_amount", amount); f != nil {
		return nil, f
	}
	card, _ := o.fields["card"].(*thing)
	c.giveUp(o, amount)
	t := c.spend(card, o, amount)
	o.put("transactions", append(slices.Clone(o.fields["transactions"].([]any)), t))
	if !c.has("close_authorization") || c.bool("close_authorization") {
		c.giveUp(o, o.int("amount"))
		o.put("status", "closed")
	}
	c.emit("issuing_authorization.updated", o)
	return o, nil
}

func (c *call) heldAuthorization() (*thing, *stripeError) {
	o, f := c.thing(authorizationModel, c.args[0], "id")
	if f == nil && (o.str("status") != "pending" || o.fields["approved"] != true) {
		f = errInvalid("", "", "This authorization holds nothing: its status is "+o.str("status")+".")
	}
	return o, f
}

func endAuthorization(status string) handler {
	return func(c *call) (view, *stripeError) {
		o, f := c.heldAuthorization()
		if f != nil {
			return nil, f
		}
		c.giveUp(o, o.int("amount"))
		o.put("status", status)
		c.emit("issuing_authorization.updated", o)
		return o, nil
	}
}

func reverseAuthorization(c *call) (view, *stripeError) {
	o, f := c.heldAuthorization()
	if f != nil {
		return nil, f
	}
	amount := o.int("amount")
	if c.has("reverse_amount") {
		amount = c.amount("reverse_amount")
	}
	c.giveUp(o, amount)
	if o.int("amount") == 0 {
		o.put("status", "reversed")
	}
	c.emit("issuing_authorization.updated", o)
	return o, nil
}
