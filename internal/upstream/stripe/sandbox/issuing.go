package sandbox

import "fmt"

const noControls = `{"allowed_card_presences":null,"allowed_categories":null,"allowed_merchant_countries":null,"blocked_card_presences":null,` +
	`"blocked_categories":null,"blocked_merchant_countries":null,"spending_limits":[],"spending_limits_currency":null}`

// holderModel is who may spend with cards that the account issues.
var holderModel = &model{object: "issuing.cardholder", prefix: "ich", resource: "issuing.cardholders", own: []string{"company", "individual"},
	defaults: `{"billing":{"address":{"city":null,"country":null,"line1":null,"line2":null,"postal_code":null,"state":null}},"company":null,` +
		`"created":0,"email":null,"individual":null,"livemode":false,"metadata":{},"name":"","phone_number":null,"preferred_locales":null,` +
		`"requirements":{"disabled_reason":null,"past_due":[]},"spending_controls":` + noControls + `,"status":"active","type":"individual"}`}

// cardModel is a card that the account issued. Its number is answered only to who
// expands it.
var cardModel = &model{object: "issuing.card", prefix: "ic", resource: "issuing.cards", own: []string{"cardholder", "financial_account"},
	secret: []string{"number", "cvc"},
	defaults: `{"brand":"Visa","cancellation_reason":null,"cardholder":null,"created":0,"currency":"usd","cvc":"123","exp_month":8,"exp_year":2030,` +
		`"financial_account":null,"last4":"9424","latest_fraud_warning":null,"lifecycle_controls":null,"livemode":false,"metadata":{},` +
		`"number":"4000009990009424","personalization_design":null,"replaced_by":null,"replacement_for":null,"replacement_reason":null,` +
		`"second_line":null,"shipping":null,"spending_controls":` + noControls + `,"status":"inactive","type":"virtual",` +
		`"wallets":{"apple_pay":{"eligible":true,"ineligible_reason":null},"google_pay":{"eligible":true,"ineligible_reason":null},` +
		`"primary_account_identifier":null}}`}

var issuingDisputeModel = &model{object: "issuing.dispute", prefix: "idp", resource: "issuing.disputes",
	defaults: `{"amount":0,"balance_transactions":null,"created":0,"currency":"usd","evidence":{"reason":"fraudulent"},"livemode":false,` +
		`"metadata":{},"status":"unsubmitted","transaction":""}`}

var issuingTokenModel = &model{object: "issuing.token", prefix: "intok", resource: "issuing.tokens",
	defaults: `{"card":"","created":0,"device_fingerprint":null,"livemode":false,"network":"visa","network_updated_at":0,"status":"active"}`}

var bundleModel = &model{object: "issuing.physical_bundle", prefix: "ics", resource: "issuing.physical_bundles",
	defaults: `{"features":{"card_logo":"optional","carrier_text":"optional","second_line":"optional"},"livemode":false,"name":"Standard","status":"active","type":"standard"}`}

var designModel = &model{object: "issuing.personalization_design", prefix: "icd", resource: "issuing.personalization_designs",
	defaults: `{"card_logo":null,"carrier_text":null,"created":0,"livemode":false,"lookup_key":null,"metadata":{},"name":null,"physical_bundle":"",` +
		`"preferences":{"is_default":false,"is_platform_default":null},"rejection_reasons":{"card_logo":null,"carrier_text":null},"status":"active"}`}

var issuingModels = []*model{holderModel, cardModel, authorizationModel, spendModel, issuingDisputeModel, issuingTokenModel, bundleModel, designModel}

var issuingRoutes = []*operation{
	get("/v1/issuing/cardholders", "issuing.cardholders", "list:issuing.cardholder", list(holderModel)),
	post("/v1/issuing/cardholders", "issuing.cardholders", "issuing.cardholder", create(holderModel, "issuing_cardholder.created", fillHolder)),
	get("/v1/issuing/cardholders/{cardholder}", "issuing.cardholders", "issuing.cardholder", retrieve(holderModel)),
	post("/v1/issuing/cardholders/{cardholder}", "issuing.cardholders", "issuing.cardholder", update(holderModel, "issuing_cardholder.updated", fillHolder)),
	get("/v1/issuing/cards", "issuing.cards", "list:issuing.card", listIssued(cardModel)),
	post("/v1/issuing/cards", "issuing.cards", "issuing.card", create(cardModel, "issuing_card.created", fillIssued)),
	get("/v1/issuing/cards/{card}", "issuing.cards", "issuing.card", retrieve(cardModel)),
	post("/v1/issuing/cards/{card}", "issuing.cards", "issuing.card", update(cardModel, "issuing_card.updated", changeIssued)),
	get("/v1/issuing/disputes", "issuing.disputes", "list:issuing.dispute", list(issuingDisputeModel)),
	post("/v1/issuing/disputes", "issuing.disputes", "issuing.dispute", create(issuingDisputeModel, "issuing_dispute.created", claimSpend)),
	get("/v1/issuing/disputes/{dispute}", "issuing.disputes", "issuing.dispute", retrieve(issuingDisputeModel)),
	post("/v1/issuing/disputes/{dispute}", "issuing.disputes", "issuing.dispute", update(issuingDisputeModel, "issuing_dispute.updated", nil)),
	post("/v1/issuing/disputes/{dispute}/submit", "issuing.disputes", "issuing.dispute",
		move(issuingDisputeModel, "status", "submitted", "issuing_dispute.submitted", "unsubmitted")),
	get("/v1/issuing/tokens", "issuing.tokens", "list:issuing.token", list(issuingTokenModel)),
	get("/v1/issuing/tokens/{token}", "issuing.tokens", "issuing.token", retrieve(issuingTokenModel)),
	post("/v1/issuing/tokens/{token}", "issuing.tokens", "issuing.token", update(issuingTokenModel, "issuing_token.updated", nil)),
	get("/v1/issuing/physical_bundles", "issuing.physical_bundles", "list:issuing.physical_bundle", list(bundleModel)),
	get("/v1/issuing/physical_bundles/{physical_bundle}", "issuing.physical_bundles", "issuing.physical_bundle", retrieve(bundleModel)),
	get("/v1/issuing/personalization_designs", "issuing.personalization_designs", "list:issuing.personalization_design", list(designModel)),
	post("/v1/issuing/personalization_designs", "issuing.personalization_designs", "issuing.personalization_design", create(designModel, "", fillDesign)),
	get("/v1/issuing/personalization_designs/{personalization_design}", "issuing.personalization_designs", "issuing.personalization_design", retrieve(designModel)),
	post("/v1/issuing/personalization_designs/{personalization_design}", "issuing.personalization_designs", "issuing.personalization_design",
		update(designModel, "", fillDesign)),
}

// idOf is the id of a field that is either one or the object itself.
func (o *thing) idOf(name string) string {
	if t, ok := o.fields[name].(*thing); ok {
		return t.id
	}
	return o.str(name)
}

// listIssued is list for things that show a card or a cardholder whole.
func listIssued(m *model) handler {
	return func(c *call) (view, *stripeError) {
		card, holder, rest := c.str("card"), c.str("cardholder"), []string{"status", "type", "last4", "exp_month", "exp_year"}
		return c.s.shelf(m).page(c, "", func(o *thing) bool {
			for _, name := range rest {
				if c.set(name) && fmt.Sprint(o.fields[name]) != c.str(name) {
					return false
				}
			}
			return (card == "" || o.idOf("card") == card) && (holder == "" || o.idOf("cardholder") == holder)
		})
	}
}

func fillHolder(c *call, o *thing) *stripeError {
	if c.set("company") {
		o.put("company", map[string]any{"tax_id_provided": !c.sub("company", "tax_id").blank()})
	}
	if n := c.p.get("individual"); !n.blank() {
		was, _ := o.fields["individual"].(map[string]any)
		o.put("individual", merged(was, map[string]any{"first_name": c.orNull(n.get("first_name")), "last_name": c.orNull(n.get("last_name"))}))
	}
	return nil
}

// orNull is a text, or null where there is none.
func (c *call) orNull(n *node) any { return nullable(n.text()) }

func fillIssued(c *call, o *thing) *stripeError {
	holder, f := c.thing(holderModel, c.str("cardholder"), "cardholder")
	if f != nil {
		return f
	}
	if _, f := c.currency("currency"); f != nil {
		return f
	}
	if id := c.str("financial_account"); id != "" {
		if _, f := c.thing(treasuryModel, id, "financial_account"); f != nil {
			return f
		}
		o.put("financial_account", id)
	}
	if id := c.str("replacement_for"); id != "" {
		old, f := c.thing(cardModel, id, "replacement_for")
		if f != nil {
			return f
		}
		old.put("replaced_by", o.id)
	}
	number := "400000999" + fmt.Sprintf("%07d", c.s.ids.IntN(10_000_000))
	o.put("cardholder", holder, "number", number, "last4", number[12:])
	if n := c.p.get("shipping"); !n.blank() {
		o.fields["shipping"] = merged(map[string]any{"address_validation": nil, "carrier": nil, "customs": nil, "eta": nil, "phone_number": nil,
			"require_signature": nil, "service": "standard", "status": "pending", "tracking_number": nil, "tracking_url": nil, "type": "individual"},
			c.op.params.members["shipping"].value(n))
	}
	return nil
}

func changeIssued(c *call, next *thing) *stripeError {
	now, f := c.thing(cardModel, c.args[0], "id")
	if f != nil {
		return f
	}
	if now.str("status") == canceled && next.str("status") != canceled {
		return errInvalid("status", "", "You cannot activate a card that has been canceled.")
	}
	return nil
}

func fillDesign(c *call, o *thing) *stripeError {
	_, f := c.thing(bundleModel, o.str("physical_bundle"), "physical_bundle")
	return f
}

// claimSpend disputes what was spent with a card.
func claimSpend(c *call, o *thing) *stripeError {
	spend, f := c.thing(spendModel, c.str("transaction"), "transaction")
	if f != nil {
		return f
	}
	spent := -spend.int("amount")
	if o.int("amount") == 0 {
		o.put("amount", spent)
	}
	if o.int("amount") > spent {
		return errInvalid("amount", "", "The disputed amount is greater than that of the transaction.")
	}
	o.put("currency", spend.str("currency"), "transaction", spend.id)
	spend.put("dispute", o.id)
	return nil
}

// setIssuingDispute is what the network decides.
func (c *call) setIssuingDispute(id, status string) *stripeError {
	o, f := c.thing(issuingDisputeModel, id, "id")
	if f != nil {
		return f
	}
	if o.str("status") != "submitted" || status != won && status != lost {
		return errInvalid("status", "", "Dispute "+id+" cannot go from "+o.str("status")+" to "+status+".")
	}
	o.put("status", status)
	if status == won {
		t := c.book(booking{typ: "issuing_dispute", balance: "issuing", source: o.id, currency: o.str("currency"), amount: o.int("amount")})
		o.put("balance_transactions", []any{t})
		c.effect(EffectSpendBack, o.id, o.str("transaction"), "", o.int("amount"), o.str("currency"))
	}
	c.emit("issuing_dispute.closed", o)
	return nil
}
