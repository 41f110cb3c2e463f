package sandbox_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

// v2 is ok for a call of API v2, whose bodies are JSON.
func (r *rig) v2(method, path, body string, headers ...string) *reply {
	r.t.Helper()
	return r.ok(method, path, body, append(headers, "Content-Type", "application/json")...)
}

// no is refused for a call of API v2.
func (r *rig) no(status int, code, method, path, body string, headers ...string) *reply {
	r.t.Helper()
	return r.refused(status, code, method, path, body, append(headers, "Content-Type", "application/json")...)
}

const moneyV2 = "/v2/money_management/"

// recipient makes an account that payments of v2 can go to.
func (r *rig) recipient() string {
	r.t.Helper()
	id := r.v2("POST", "/v2/core/accounts", `{"contact_email":"paid@example.com","display_name":"A recipient","identity":{"country":"us",`+
		`"entity_type":"company"},"configuration":{"recipient":{"capabilities":{"bank_accounts":{"ach":{"requested":true}}}}},"include":["identity"]}`).str("id")
	r.v2("POST", moneyV2+"outbound_setup_intents", `{"payout_method_data":{"type":"bank_account","bank_account":{"account_number":"000123456789",`+
		`"routing_number":"110000000","country":"us","currency":"usd"}},"usage_intent":"payment"}`, "Stripe-Context", id)
	return id
}

// pay is the body of an outbound payment in US dollars.
func (r *rig) pay(to string, value int) string {
	return fmt.Sprintf(`{"amount":{"value":%d,"currency":"usd"},"from":{"financial_account":%q,"currency":"usd"},"to":{"recipient":%q}}`,
		value, r.seed.FinancialAccount, to)
}

// pots are the available and outbound amounts of the seeded financial account.
func (r *rig) pots() (available, outbound int64) {
	r.t.Helper()
	fa := r.v2("GET", moneyV2+"financial_accounts/"+r.seed.FinancialAccount, "")
	return fa.num("balance.available.usd.value"), fa.num("balance.outbound_pending.usd.value")
}

func TestOutboundPaymentsLeaveAFinancialAccount(t *testing.T) {
	r := newRig(t)
	to := r.recipient()
	had, _ := r.pots()
	op := r.v2("POST", moneyV2+"outbound_payments", strings.TrimSuffix(r.pay(to, 5000), "}")+`,"description":"May","metadata":{"a":"b"}}`)
	r.want(op.str("status"), "processing", "status")
	r.want(op.num("from.debited.value"), int64(5000), "debited")
	r.want(op.str("metadata.a"), "b", "metadata")
	available, outbound := r.pots()
	r.want(available, had-5000, "available")
	r.want(outbound, int64(5000), "on its way")
	r.want(r.moved(sandbox.EffectOutbound), int64(5000), "moved")
	r.ok("POST", "/_sandbox/v2.outbound_payments/"+op.str("id"), `{"status":"posted"}`)
	r.want(r.v2("GET", moneyV2+"outbound_payments/"+op.str("id"), "").str("status"), "posted", "posted")
	r.no(400, "not_cancelable", "POST", moneyV2+"outbound_payments/"+op.str("id")+"/cancel", "")

	other := r.v2("POST", moneyV2+"outbound_payments", r.pay(to, 700)).str("id")
	r.want(r.v2("POST", moneyV2+"outbound_payments/"+other+"/cancel", "{}").str("status"), "canceled", "canceled")
	r.no(400, "already_canceled", "POST", moneyV2+"outbound_payments/"+other+"/cancel", "")
	r.want(r.moved(sandbox.EffectOutboundBack), int64(700), "came back")
	r.ok("POST", "/_sandbox/v2.outbound_payments/"+op.str("id"), `{"status":"returned"}`)
	available, outbound = r.pots()
	r.want(available, had, "available in the end")
	r.want(outbound, int64(0), "on its way in the end")
	r.want(len(r.v2("GET", moneyV2+"outbound_payments?status[]=canceled&recipient="+to, "").ids()), 1, "listed")
	r.want(len(r.v2("GET", moneyV2+"transactions?flow="+op.str("id"), "").ids()), 2, "lines in the books")
	txn := r.v2("GET", moneyV2+"transactions?flow="+other, "")
	r.want(txn.str("data.0.status"), "void", "a canceled payment's line")
	r.want(len(r.v2("GET", moneyV2+"transaction_entries?transaction="+txn.ids()[0], "").ids()), 2, "entries")
	r.v2("POST", moneyV2+"transactions/"+txn.ids()[0], `{"description":"x"}`)
	r.want(len(r.v2("GET", "/v2/core/events?object_id="+other, "").ids()), 2, "events")
}

func TestOutboundPaymentsAreRefused(t *testing.T) {
	r := newRig(t)
	to := r.recipient()
	poor := r.v2("POST", "/v2/core/accounts", `{"display_name":"Nobody"}`).str("id")
	for _, tc := range []struct{ name, body, code, typ string }{
		{"more than the account holds", r.pay(to, 99_999_999), "outbound_payment_insufficient_funds", "insufficient_funds"},
		{"a text for a number", strings.Replace(r.pay(to, 100), "100", `"100"`, 1), "invalid_fields", "invalid_request_error"},
		{"a fraction", strings.Replace(r.pay(to, 100), "100", "100.5", 1), "invalid_fields", "invalid_request_error"},
		{"nothing", r.pay(to, 0), "invalid_fields", "invalid_request_error"},
		{"no amount", `{"from":{"financial_account":"fa","currency":"usd"},"to":{"recipient":"acct"}}`, "invalid_fields", "invalid_request_error"},
		{"an unknown field", strings.Replace(r.pay(to, 100), `"to":`, `"too":1,"to":`, 1), "invalid_fields", "invalid_request_error"},
		{"an unknown account", strings.Replace(r.pay(to, 100), r.seed.FinancialAccount, "fa_none", 1), "not_found", "invalid_request_error"},
		{"an unknown recipient", r.pay("acct_none", 100), "account_not_configured_as_recipient", "invalid_request_error"},
		{"a recipient without a payout method", r.pay(poor, 100), "payout_method_does_not_exist", "invalid_payout_method"},
		{"no JSON", "amount=1", "invalid_fields", "invalid_request_error"},
		{"more after the JSON", r.pay(to, 100) + "{}", "invalid_fields", "invalid_request_error"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r.want(r.no(400, tc.code, "POST", moneyV2+"outbound_payments", tc.body).str("error.type"), tc.typ, "type")
		})
	}
	r.refused(400, "invalid_fields", "POST", moneyV2+"outbound_payments", "amount[value]=1")
	r.no(404, "not_found", "GET", moneyV2+"outbound_payments/obp_none", "")
	r.want(r.moved(sandbox.EffectOutbound), int64(0), "moved")
}

func TestPaymentsAcrossCurrenciesDebitWhatTheyCost(t *testing.T) {
	r := newRig(t)
	to := r.recipient()
	op := r.v2("POST", moneyV2+"outbound_payments", strings.Replace(r.pay(to, 1000), `"value":1000,"currency":"usd"`, `"value":1000,"currency":"eur"`, 1))
	r.want(op.num("amount.value"), int64(1000), "sent")
	r.want(op.num("from.debited.value"), int64(1100), "paid")
	r.want(r.moved(sandbox.EffectOutbound), int64(1100), "moved, in US dollars")
	r.no(400, "currency_not_supported", "POST", moneyV2+"outbound_payments",
		strings.Replace(r.pay(to, 1000), `"value":1000,"currency":"usd"`, `"value":1000,"currency":"sek"`, 1))
}

func TestV2RunsAgainUnderAKeyWhoseCallFailed(t *testing.T) {
	r := newRig(t)
	to := r.recipient()
	r.no(400, "outbound_payment_insufficient_funds", "POST", moneyV2+"outbound_payments", r.pay(to, 10_000_100), "Idempotency-Key", "k")
	address := r.v2("POST", moneyV2+"financial_addresses", `{"financial_account":"`+r.seed.FinancialAccount+`","type":"bank_account"}`).str("id")
	r.v2("POST", moneyV2+"test_helpers/financial_addresses/"+address+"/credit", `{"amount":{"value":500,"currency":"usd"},"network":"ach"}`)
	r.want(r.moved(sandbox.EffectReceivedCredit), int64(500), "credited")
	first := r.v2("POST", moneyV2+"outbound_payments", r.pay(to, 10_000_100), "Idempotency-Key", "k")
	r.clock.advance(29 * 24 * time.Hour)
	again := r.v2("POST", moneyV2+"outbound_payments", r.pay(to, 10_000_100), "Idempotency-Key", "k")
	r.want(again.str("id"), first.str("id"), "the same payment")
	r.want(r.moved(sandbox.EffectOutbound), int64(10_000_100), "moved once")
	r.no(400, "invalid_fields", "POST", moneyV2+"outbound_payments", r.pay(to, 1), "Idempotency-Key", "k")
	r.want(len(r.v2("GET", moneyV2+"received_credits", "").ids()), 1, "credits")
}

func TestPayoutIntentsPayNowLaterOrWhenConfirmed(t *testing.T) {
	r := newRig(t)
	to := r.recipient()
	intent := func(more string) *reply {
		return r.v2("POST", moneyV2+"payout_intents", strings.TrimSuffix(r.pay(to, 900), "}")+more+"}")
	}
	path := func(o *reply) string { return moneyV2 + "payout_intents/" + o.str("id") }
	now := intent(`,"metadata":{"a":"b"}`)
	r.want(now.str("status"), "processing", "at once")
	r.want(r.moved(sandbox.EffectOutbound), int64(900), "moved at once")
	r.ok("POST", "/_sandbox/v2.outbound_payments/"+now.str("latest_payout.outbound_payment"), `{"status":"posted"}`)
	r.want(r.v2("GET", path(now), "").str("status"), "posted", "then")

	asked := intent(`,"confirmation_method":"manual"`)
	r.want(asked.str("next_action.type"), "confirm", "next_action")
	r.want(r.v2("POST", path(asked), `{"description":"x"}`).str("description"), "x", "updated")
	r.want(r.moved(sandbox.EffectOutbound), int64(900), "nothing moved yet")
	r.want(r.v2("POST", path(asked)+"/confirm", "").str("status"), "processing", "confirmed")
	r.no(400, "cannot_proceed", "POST", path(asked)+"/confirm", "")
	r.want(r.v2("POST", path(asked)+"/cancel", "").str("status"), "canceled", "canceled on its way")

	later := intent(`,"schedule_options":{"execute_on":"2026-06-03"}`)
	r.want(later.str("status"), "pending", "until its day")
	r.clock.advance(48 * time.Hour)
	r.want(r.v2("GET", path(later), "").str("status"), "processing", "on its day")
	never := intent(`,"schedule_options":{"execute_on":"2027-01-01"}`)
	r.want(r.v2("POST", path(never)+"/cancel", "").str("status"), "canceled", "canceled before its day")
	r.no(400, "not_cancelable", "POST", path(never)+"/cancel", "")
	r.no(400, "cannot_proceed", "POST", path(never), `{"description":"y"}`)

	big := r.v2("POST", moneyV2+"payout_intents", r.pay(to, 90_000_000))
	r.want(big.str("next_action.handle_failure.failure_reason"), "insufficient_funds", "too much")
	fx := r.v2("POST", moneyV2+"payout_intents", strings.Replace(r.pay(to, 100), `"value":100,"currency":"usd"`, `"value":100,"currency":"eur"`, 1))
	r.want(r.v2("POST", path(fx)+"/refresh_fx_quote", "").str("fx_quote.lock_status"), "active", "quote")
	r.want(len(r.v2("GET", moneyV2+"payout_intents?limit=2", "").ids()), 2, "a page")
}

func TestV2ListsGoFromPageToPage(t *testing.T) {
	r := newRig(t)
	to := r.recipient()
	for range 5 {
		r.v2("POST", moneyV2+"outbound_payments", r.pay(to, 100))
	}
	seen, next := 0, moneyV2+"outbound_payments?limit=2"
	for pages := 0; next != ""; pages++ {
		page := r.v2("GET", next, "")
		seen += len(page.ids())
		next = page.str("next_page_url")
		if pages > 3 {
			t.Fatal("the pages do not end")
		}
	}
	r.want(seen, 5, "seen")
	r.want(len(r.v2("GET", moneyV2+"outbound_payments?created[gte]=2030-01-01T00:00:00Z", "").ids()), 0, "of the future")
	r.no(400, "invalid_fields", "GET", moneyV2+"outbound_payments?page=page_none", "")
}

func TestMoneyIsPulledIntoAndSentToAccountsOfOnesOwn(t *testing.T) {
	r := newRig(t)
	bank := r.v2("POST", "/v2/core/vault/us_bank_accounts", `{"account_number":"000123456789","routing_number":"110000000","currency":"usd"}`).str("id")
	vault := "/v2/core/vault/us_bank_accounts/" + bank
	r.no(400, "verification_not_initiated", "POST", vault+"/confirm_microdeposits", `{"amounts":[32,45]}`)
	r.v2("POST", vault+"/send_microdeposits", "")
	r.no(400, "verification_attempt_failed", "POST", vault+"/confirm_microdeposits", `{"amounts":[1,2]}`)
	r.want(r.v2("POST", vault+"/confirm_microdeposits", `{"amounts":[32,45]}`).str("verification.status"), "verified", "verified")
	r.want(r.v2("POST", vault+"/archive", "").at("archived"), true, "archived")
	r.v2("POST", vault+"/unarchive", "")
	r.v2("POST", vault, `{"fedwire_routing_number":"110000000"}`)
	r.v2("POST", "/v2/core/vault/gb_bank_accounts", `{"account_number":"00012345","sort_code":"108800","currency":"gbp"}`)

	had, _ := r.pots()
	in := r.v2("POST", moneyV2+"inbound_transfers", fmt.Sprintf(`{"amount":{"value":300,"currency":"usd"},"from":{"payment_method":%q},`+
		`"to":{"financial_account":%q,"currency":"usd"}}`, bank, r.seed.FinancialAccount)).str("id")
	r.ok("POST", "/_sandbox/v2.inbound_transfers/"+in, `{"status":"succeeded"}`)
	available, _ := r.pots()
	r.want(available, had+300, "arrived")
	r.want(r.moved(sandbox.EffectInbound), int64(300), "moved")
	r.ok("POST", "/_sandbox/v2.inbound_transfers/"+in, `{"status":"returned"}`)
	r.want(r.v2("GET", moneyV2+"inbound_transfers/"+in, "").str("transfer_history.2.type"), "bank_debit_returned", "taken back")
	r.no(400, "not_found", "POST", moneyV2+"inbound_transfers", `{"amount":{"value":300,"currency":"usd"},"from":{"payment_method":"usba_none"},`+
		`"to":{"financial_account":"`+r.seed.FinancialAccount+`","currency":"usd"}}`)

	method := r.v2("POST", moneyV2+"outbound_setup_intents", `{"payout_method_data":{"type":"card"},"usage_intent":"transfer"}`).str("payout_method.id")
	out := fmt.Sprintf(`{"amount":{"value":200,"currency":"usd"},"from":{"financial_account":%q,"currency":"usd"},"to":{"payout_method":%q}}`,
		r.seed.FinancialAccount, method)
	own := r.v2("POST", moneyV2+"outbound_transfers", out).str("id")
	r.want(r.v2("POST", moneyV2+"outbound_transfers/"+own+"/cancel", "").str("status"), "canceled", "canceled")
	r.v2("POST", moneyV2+"payout_methods/"+method+"/archive", "")
	r.no(400, "payout_method_does_not_exist", "POST", moneyV2+"outbound_transfers", out)
	r.want(len(r.v2("GET", moneyV2+"outbound_transfers", "").ids()), 1, "listed")

	fa := r.v2("POST", moneyV2+"financial_accounts", `{"type":"storage","storage":{"holds_currencies":["usd"]},"display_name":"Spare"}`).str("id")
	r.want(r.v2("POST", moneyV2+"financial_accounts/"+fa+"/close", "").str("status"), "closed", "closed")
	r.no(400, "financial_account_balance_not_zero", "POST", moneyV2+"financial_accounts/"+r.seed.FinancialAccount+"/close", "")
	r.no(400, "financial_account_not_open", "POST", moneyV2+"financial_accounts/"+fa+"/close", "")
}

func TestAccountsOfV2AreThoseOfV1(t *testing.T) {
	r := newRig(t)
	id := r.recipient()
	path := "/v2/core/accounts/" + id
	r.want(r.ok("GET", "/v1/accounts/"+id, "").at("capabilities.transfers"), "active", "as v1 sees it")
	r.ok("POST", "/v1/transfers", "amount=100&currency=usd&destination="+id)
	if got := r.v2("GET", path, "").at("configuration.recipient"); got != nil {
		t.Errorf("answered without being included: %v", got)
	}
	r.want(r.v2("GET", path+"?include[]=configuration.recipient", "").at("configuration.recipient.applied"), true, "included")
	r.want(r.v2("POST", path, `{"display_name":"Renamed","configuration":{"customer":{}},"include":["configuration.customer"]}`).
		at("configuration.customer.applied"), true, "made a customer")
	r.want(len(r.v2("GET", "/v2/core/accounts?applied_configurations[]=customer", "").ids()), 1, "customers")
	person := r.v2("POST", path+"/persons", `{"given_name":"Ann","relationship":{"owner":true}}`).str("id")
	r.want(r.v2("POST", path+"/persons/"+person, `{"surname":"Ames"}`).str("surname"), "Ames", "renamed")
	r.want(len(r.v2("GET", path+"/persons", "").ids()), 1, "persons")
	r.v2("DELETE", path+"/persons/"+person, "")
	r.no(404, "not_found", "GET", path+"/persons/"+person, "")
	token := r.v2("POST", "/v2/core/account_tokens", `{"display_name":"x"}`).str("id")
	r.v2("GET", "/v2/core/account_tokens/"+token, "")
	r.v2("GET", path+"/person_tokens/"+r.v2("POST", path+"/person_tokens", `{"given_name":"x"}`).str("id"), "")
	r.v2("POST", "/v2/core/account_links", `{"account":"`+id+`","use_case":{"type":"account_onboarding","account_onboarding":{"refresh_url":"https://a.example"}}}`)
	r.want(r.v2("POST", path+"/close", `{"applied_configurations":["recipient"]}`).at("closed"), true, "closed")
}

func TestEventsOfV2GoOutside(t *testing.T) {
	r := newRig(t)
	body := `{"name":"n","type":"webhook_endpoint","event_payload":"thin","enabled_events":["*"],"webhook_endpoint":{"url":"https://a.example"}`
	plain := r.v2("POST", "/v2/core/event_destinations", body+"}")
	if got := plain.at("webhook_endpoint.signing_secret"); got != nil {
		t.Errorf("answered without being included: %v", got)
	}
	if got := r.v2("POST", "/v2/core/event_destinations", body+`,"include":["webhook_endpoint.signing_secret"]}`).str("webhook_endpoint.signing_secret"); got == "" {
		t.Error("no secret, though it was included")
	}
	path := "/v2/core/event_destinations/" + plain.str("id")
	r.want(r.v2("GET", path+"?include[]=webhook_endpoint.url", "").str("webhook_endpoint.url"), "https://a.example", "url")
	r.want(r.v2("POST", path+"/disable", "").str("status"), "disabled", "disabled")
	r.want(r.v2("POST", path+"/enable", "").str("status"), "enabled", "enabled")
	r.v2("POST", path, `{"name":"m"}`)
	r.want(r.do("POST", path+"/ping", "", "Content-Type", "application/json").str("type"), "v2.core.event_destination.ping", "pinged")
	r.v2("DELETE", path, "")
	r.no(404, "not_found", "GET", path, "")
}

func TestUsageOfV2IsUsageOfV1(t *testing.T) {
	r := newRig(t)
	ada := r.seed.Customers[0].ID
	mtr := r.ok("POST", "/v1/billing/meters", "display_name=Calls&event_name=calls&default_aggregation[formula]=sum").str("id")
	event := `{"event_name":"calls","identifier":"e1","payload":{"stripe_customer_id":"` + ada + `","value":"7"}}`
	r.v2("POST", "/v2/billing/meter_events", event)
	r.v2("POST", "/v2/billing/meter_event_stream", `{"events":[`+strings.Replace(event, "e1", "e2", 1)+`]}`)
	summaries := fmt.Sprintf("/v1/billing/meters/%s/event_summaries?customer=%s&start_time=%d&end_time=%d", mtr, ada, r.clock.now().Unix()-3600, r.clock.now().Unix()+3600)
	r.want(r.ok("GET", summaries, "").num("data.0.aggregated_value"), int64(14), "used")
	r.v2("POST", "/v2/billing/meter_event_adjustments", `{"event_name":"calls","type":"cancel","cancel":{"identifier":"e1"}}`)
	r.want(r.ok("GET", summaries, "").num("data.0.aggregated_value"), int64(7), "after a cancellation")
	r.v2("POST", "/v2/billing/meter_event_session", "")
	r.no(400, "invalid_fields", "POST", "/v2/billing/meter_events", strings.Replace(event, "calls", "moons", 1))

	check := r.v2("POST", "/v2/test_helpers/money_management/recipient_verifications", `{"match_result":"no_match","payout_method":"x","recipient":"y"}`)
	r.want(r.v2("POST", moneyV2+"recipient_verifications/"+check.str("id")+"/acknowledge", "").str("status"), "acknowledged", "acknowledged")
	r.want(r.v2("POST", moneyV2+"recipient_verifications", `{"payout_method":"x","recipient":"y"}`).str("status"), "verified", "verified")
	r.v2("GET", moneyV2+"payout_methods_bank_account_spec", "")
	r.v2("GET", moneyV2+"adjustments", "")
}
