package contract

// Bodies of API v2, which are JSON; "{/v2/...}" and "{recipient}" in them are filled as in forms.
const (
	payment = `{"amount":{"value":100,"currency":"usd"},"from":{"financial_account":"{financial account}","currency":"usd"},` +
		`"to":{"recipient":"{recipient}"}}`
	heldPayment = `{"amount":{"value":100,"currency":"usd"},"from":{"financial_account":"{financial account}","currency":"usd"},` +
		`"to":{"recipient":"{recipient}"},"confirmation_method":"manual"}`
	card     = `{"payout_method_data":{"type":"card"},"usage_intent":"transfer"}`
	bank     = `{"account_number":"000123456789","routing_number":"110000000","currency":"usd"}`
	meterUse = `{"event_name":"calls","identifier":"use2","payload":{"stripe_customer_id":"{customer}","value":"1"}}`
)

var (
	recipient = []step{
		{"POST", "/v2/core/accounts", `{"contact_email":"paid@example.com","display_name":"A recipient","identity":{"country":"us",` +
			`"entity_type":"company"},"configuration":{"recipient":{"capabilities":{"bank_accounts":{"ach":{"requested":true}}}}}}`},
		{"AS {} POST", "/v2/money_management/outbound_setup_intents", `{"payout_method_data":{"type":"bank_account","bank_account":` +
			`{"account_number":"000123456789","routing_number":"110000000","country":"us","currency":"usd"}},"usage_intent":"payment"}`},
	}
	told = []step{
		{"POST", "/v2/core/vault/us_bank_accounts", bank},
		{"POST", "/v2/core/vault/us_bank_accounts/{}/send_microdeposits", ""},
	}
	payoutMethod = []step{
		{"POST", "/v2/money_management/outbound_setup_intents", card},
		{"GET", "/v2/money_management/payout_methods", ""},
	}
	destination = []step{{"POST", "/v2/core/event_destinations", destinationBody}}
	heldPayout  = []step{{"POST", "/v2/money_management/payout_intents", heldPayment}}
)

const destinationBody = `{"name":"n","type":"webhook_endpoint","event_payload":"thin","enabled_events":["*"],"webhook_endpoint":{"url":"https://a.example"}}`

// v2Made are the steps behind the names in braces.
var v2Made = map[string][]step{
	"bank":      append(told[:2:2], step{"POST", "/v2/core/vault/us_bank_accounts/{}/confirm_microdeposits", `{"amounts":[32,45]}`}),
	"recipient": recipient,
}

var v2Forms = map[string]string{
	"POST /v2/billing/meter_event_adjustments":                               `{"event_name":"calls","type":"cancel","cancel":{"identifier":"use2"}}`,
	"POST /v2/billing/meter_events":                                          meterUse,
	"POST /v2/core/account_links":                                            `{"account":"{/v2/core/accounts}","use_case":{"type":"account_onboarding","account_onboarding":{"refresh_url":"https://a.example"}}}`,
	"POST /v2/core/accounts":                                                 `{"display_name":"An account"}`,
	"POST /v2/core/accounts/{accountId}/persons":                             `{"given_name":"Ann","relationship":{"owner":true}}`,
	"POST /v2/core/accounts/{id}/close":                                      `{"applied_configurations":["recipient"]}`,
	"POST /v2/core/event_destinations":                                       destinationBody,
	"POST /v2/core/vault/gb_bank_accounts":                                   `{"account_number":"00012345","sort_code":"108800","currency":"gbp"}`,
	"POST /v2/core/vault/us_bank_accounts":                                   bank,
	"POST /v2/core/vault/us_bank_accounts/{id}/confirm_microdeposits":        `{"amounts":[32,45]}`,
	"POST /v2/money_management/financial_addresses":                          `{"financial_account":"{financial account}","type":"bank_account"}`,
	"POST /v2/money_management/inbound_transfers":                            `{"amount":{"value":300,"currency":"usd"},"from":{"payment_method":"{bank}"},"to":{"financial_account":"{financial account}","currency":"usd"}}`,
	"POST /v2/money_management/outbound_payments":                            payment,
	"POST /v2/money_management/outbound_setup_intents":                       card,
	"POST /v2/money_management/payout_intents":                               payment,
	"POST /v2/money_management/recipient_verifications":                      `{"payout_method":"x","recipient":"y"}`,
	"POST /v2/money_management/test_helpers/financial_addresses/{id}/credit": `{"amount":{"value":500,"currency":"usd"},"network":"ach"}`,
	"POST /v2/test_helpers/money_management/recipient_verifications":         `{"match_result":"no_match","payout_method":"x","recipient":"y"}`,
}

var v2Fresh = map[string][]step{
	"GET /v2/money_management/payout_methods/{id}":                           payoutMethod,
	"POST /v2/core/vault/us_bank_accounts/{id}/confirm_microdeposits":        told,
	"POST /v2/money_management/outbound_setup_intents/{id}/cancel":           {{"POST", "/v2/money_management/outbound_setup_intents", `{"usage_intent":"payment"}`}},
	"POST /v2/money_management/payout_intents/{id}":                          heldPayout,
	"POST /v2/money_management/payout_intents/{id}/cancel":                   heldPayout,
	"POST /v2/money_management/payout_intents/{id}/confirm":                  heldPayout,
	"POST /v2/money_management/payout_methods/{id}/archive":                  payoutMethod,
	"POST /v2/money_management/payout_methods/{id}/unarchive":                payoutMethod,
	"POST /v2/money_management/recipient_verifications/{id}/acknowledge":     {{"POST", "/v2/test_helpers/money_management/recipient_verifications", `{"match_result":"no_match","payout_method":"x","recipient":"y"}`}},
	"POST /v2/money_management/test_helpers/financial_addresses/{id}/credit": {{"POST", "/v2/money_management/financial_addresses", `{"financial_account":"{financial account}","type":"bank_account"}`}},
	"POST /v2/core/event_destinations/{id}/disable":                          destination,
	"POST /v2/core/event_destinations/{id}/enable":                           append(destination[:1:1], step{"POST", "/v2/core/event_destinations/{}/disable", ""}),
}

var v2Refusals = map[string]string{
	"GET /v2/money_management/adjustments/{id}": "nothing here makes an adjustment",
}

// denied are the operations that Keybrake lets no key do, so that a sandbox would do them on one side only.
var denied = map[string]string{
	"GET /v2/money_management/outbound_transfers":              preview,
	"GET /v2/money_management/outbound_transfers/{id}":         preview,
	"POST /v2/billing/meter_event_stream":                      "it takes a session's token, on a host of its own",
	"POST /v2/money_management/financial_accounts":             preview,
	"POST /v2/money_management/financial_accounts/{id}/close":  preview,
	"POST /v2/money_management/outbound_transfers":             preview,
	"POST /v2/money_management/outbound_transfers/{id}/cancel": preview,
}

const preview = "it is a preview"
