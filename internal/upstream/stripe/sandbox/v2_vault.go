package sandbox

import (
	"strconv"
	"time"
)

// usBankModel and gbBankModel are bank accounts of one's own, kept to be used later.
var (
	usBankModel = &model{object: "v2.core.vault.us_bank_account", noun: "US bank account", prefix: "usba_test", v2: true,
		resource: "v2.core.vault.us_bank_accounts", defaults: `{"archived":false,"bank_account_type":"checking","bank_name":"STRIPE TEST BANK",` +
			`"created":0,"fedwire_routing_number":null,"last4":"","livemode":false,"restricted":false,"routing_number":null,` +
			`"supported_currencies":["usd"],"verification":{"status":"unverified"}}`}
	gbBankModel = &model{object: "v2.core.vault.gb_bank_account", noun: "GB bank account", prefix: "gbba_test", v2: true,
		resource: "v2.core.vault.gb_bank_accounts", defaults: `{"archived":false,"bank_account_type":"checking","bank_name":"STRIPE TEST BANK",` +
			`"created":0,"last4":"","livemode":false,"restricted":false,"sort_code":null,"supported_currencies":["gbp"]}`}
)

// recipientCheckModel is asking a bank whether a name belongs to an account.
var recipientCheckModel = &model{object: "v2.money_management.recipient_verification", noun: "recipient verification", prefix: "rvfn_test", v2: true,
	resource: "v2.money_management.recipient_verifications", own: []string{"match_result"},
	defaults: `{"consumed_by":null,"created":0,"expires_at":"","livemode":false,"match_result":"match",` +
		`"match_result_details":{"message":"The name matches.","provided_name":"A recipient"},"payout_method":"","recipient":"",` +
		`"status":"verified","status_transitions":null,"verification_type":"confirmation_of_payee"}`}

// Usage that v2 is told about becomes money at the next renewal.
var (
	meterCancelModel = &model{object: "v2.billing.meter_event_adjustment", noun: "meter event adjustment", prefix: "mea_test", v2: true,
		resource: "v2.billing.meter_event_adjustments", defaults: `{"cancel":null,"created":0,"event_name":"","livemode":false,"status":"pending","type":"cancel"}`}
	meterSessionModel = &model{object: "v2.billing.meter_event_session", noun: "meter event session", prefix: "mes_test", v2: true,
		resource: "v2.billing.meter_event_sessions", defaults: `{"authentication_token":"","created":0,"expires_at":"","livemode":false}`}
)

var vaultModels = []*model{usBankModel, gbBankModel, recipientCheckModel, meterCancelModel, meterSessionModel}

var vaultRoutes = []*operation{
	get("/v2/core/vault/us_bank_accounts", usBankModel.resource, kindNone, listV2(usBankModel, func(c *call, o *thing) bool {
		want := c.str("verification_status")
		return want == "" || o.at("verification", "status") == want
	})),
	post("/v2/core/vault/us_bank_accounts", usBankModel.resource, kindNone, create(usBankModel, "", fillVaulted)),
	get("/v2/core/vault/us_bank_accounts/{id}", usBankModel.resource, kindNone, retrieve(usBankModel)),
	post("/v2/core/vault/us_bank_accounts/{id}", usBankModel.resource, kindNone, update(usBankModel, "", nil)),
	post("/v2/core/vault/us_bank_accounts/{id}/archive", usBankModel.resource, kindNone, archive(usBankModel, true)),
	post("/v2/core/vault/us_bank_accounts/{id}/unarchive", usBankModel.resource, kindNone, archive(usBankModel, false)),
	post("/v2/core/vault/us_bank_accounts/{id}/send_microdeposits", usBankModel.resource, kindNone, func(c *call) (view, *stripeError) {
		o, f := c.thing(usBankModel, c.args[0], "id")
		if f != nil {
			return nil, f
		}
		o.put("verification", map[string]any{"status": "awaiting_verification", "microdeposit_verification_details": map[string]any{
			"microdeposit_type": "amounts", "sent": stamp(c.now), "expires": stamp(c.now + 10*86_400)}})
		return o, nil
	}),
	post("/v2/core/vault/us_bank_accounts/{id}/confirm_microdeposits", usBankModel.resource, kindNone, confirmVaulted),
	get("/v2/core/vault/gb_bank_accounts", gbBankModel.resource, kindNone, listV2(gbBankModel, nil)),
	post("/v2/core/vault/gb_bank_accounts", gbBankModel.resource, kindNone, create(gbBankModel, "", fillVaulted)),
	get("/v2/core/vault/gb_bank_accounts/{id}", gbBankModel.resource, kindNone, retrieve(gbBankModel)),
	post("/v2/core/vault/gb_bank_accounts/{id}/archive", gbBankModel.resource, kindNone, archive(gbBankModel, true)),
	post("/v2/core/vault/gb_bank_accounts/{id}/unarchive", gbBankModel.resource, kindNone, archive(gbBankModel, false)),
	post("/v2/money_management/recipient_verifications", recipientCheckModel.resource, kindNone, create(recipientCheckModel, "", fillCheck)),
	post("/v2/test_helpers/money_management/recipient_verifications", "v2.test_helpers.recipient_verifications", kindNone,
		create(recipientCheckModel, "", fillCheck)),
	get("/v2/money_management/recipient_verifications/{id}", recipientCheckModel.resource, kindNone, retrieve(recipientCheckModel)),
	post("/v2/money_management/recipient_verifications/{id}/acknowledge", recipientCheckModel.resource, kindNone,
		move(recipientCheckModel, "status", "acknowledged", "", "awaiting_acknowledgement")),
	post("/v2/billing/meter_events", "v2.billing.meter_events", kindNone, func(c *call) (view, *stripeError) {
		ev, f := c.meterEventV2(c.whole())
		if f != nil {
			return nil, f
		}
		return fieldsView{"object": "v2.billing.meter_event", "created": stamp(ev.created), "event_name": ev.meter.event, "identifier": ev.id,
			"livemode": c.s.live(), "payload": (&typ{open: true}).value(c.p.get("payload")), "timestamp": stamp(ev.at)}, nil
	}),
	post("/v2/billing/meter_event_stream", "v2.billing.meter_events", kindNone, streamMeterEvents),
	post("/v2/billing/meter_event_adjustments", meterCancelModel.resource, kindNone, create(meterCancelModel, "", func(c *call, o *thing) *stripeError {
		_, f := c.cancelMeterEvent()
		o.put("status", "complete")
		return f
	})),
	post("/v2/billing/meter_event_session", meterSessionModel.resource, kindNone, create(meterSessionModel, "", func(c *call, o *thing) *stripeError {
		o.put("authentication_token", "mes_token_"+c.s.random(c.s.ids, 32), "expires_at", stamp(c.now+900))
		return nil
	})),
}

func fillVaulted(c *call, o *thing) *stripeError {
	number := c.str("account_number")
	if number == "" {
		number = c.str("iban")
	}
	if len(number) < 4 {
		return errInvalid("account_number", "", "account_number is not valid.")
	}
	o.put("last4", number[len(number)-4:], "supported_currencies", []any{c.str("currency")})
	return nil
}

func confirmVaulted(c *call) (view, *stripeError) {
	o, f := c.thing(usBankModel, c.args[0], "id")
	if f != nil {
		return nil, f
	}
	if o.at("verification", "status") != "awaiting_verification" {
		return nil, errV2("verification_not_initiated", "verification_not_initiated", "No deposits have been sent to "+o.id+".")
	}
	items, _ := c.p.get("amounts").items()
	right := len(items) == len(microdeposits)
	for i, n := range items {
		right = right && n.text() == strconv.FormatInt(microdeposits[i], 10)
	}
	if !right && c.str("descriptor_code") != microdepositCode {
		return nil, errV2("verification_attempt_failed", "verification_attempt_failed", "These are not the deposits that were sent.")
	}
	o.put("verification", map[string]any{"status": "verified"})
	return o, nil
}

func fillCheck(c *call, o *thing) *stripeError {
	result := "match"
	if c.set("match_result") {
		result = c.str("match_result")
	}
	status := "verified"
	if result != "match" {
		status = "awaiting_acknowledgement"
	}
	o.put("match_result", result, "status", status, "expires_at", stamp(c.now+86_400))
	return nil
}

// meterEventV2 notes one use as v1 does; its time is written as text.
func (c *call) meterEventV2(p part) (*meterEvent, *stripeError) {
	at := int64(0)
	if text := p.str("timestamp"); text != "" {
		t, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return nil, errInvalid("timestamp", "", "timestamp is not a time: "+text)
		}
		at = t.Unix()
	}
	return c.meterEvent(p, at)
}

func streamMeterEvents(c *call) (view, *stripeError) {
	for _, p := range c.whole().list("events") {
		if _, f := c.meterEventV2(p); f != nil {
			return nil, f
		}
	}
	return fieldsView{}, nil
}
