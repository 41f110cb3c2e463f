package contract

import "maps"

// values are what parameters and placeholders mean in a sandbox: "{/v1/prices}" is a new object of that collection,
// "{account}" a connected account, "{open invoice}" what the steps of that name make.
var values = merged(billingValues, issuingValues, map[string]string{
	"account":          "{account}",
	"capability":       "transfers",
	"charge":           "{/v1/charges}",
	"customer":         "{customer}",
	"destination":      "{account}",
	"external_account": "btok_us_verified",
	"payment_method":   "pm_card_visa",
	"price":            "{/v1/prices}",
	"product":          "{/v1/products}",
	"source":           "tok_visa",
})

// world are the calls that make what no operation makes by itself: an application fee and a dispute.
var world = []step{
	{"POST", "/v1/payment_intents", shared},
	{"POST", "/v1/charges", disputed},
}

// forms are the parameters of operations that need others than the document says.
var forms = merged(restForms, billingForms, issuingForms, v2Forms, map[string]string{
	"GET /v1/payment_intents/search":                         `query=status:"succeeded"`,
	"POST /v1/accounts":                                      "type=custom&country=US&capabilities[card_payments][requested]=true&capabilities[transfers][requested]=true&external_account=btok_us_verified",
	"POST /v1/accounts/{account}/bank_accounts":              "external_account=btok_us_verified",
	"POST /v1/accounts/{account}/external_accounts":          "external_account=btok_us_verified",
	"POST /v1/accounts/{account}/reject":                     "reason=fraud",
	"POST /v1/application_fees/{id}/refunds":                 "amount=1",
	"POST /v1/charges":                                       "amount=1000&currency=usd&source=tok_visa",
	"POST /v1/invoiceitems":                                  "customer={customer}&amount=1000&currency=usd",
	"POST /v1/invoices":                                      "customer={customer}",
	"POST /v1/invoices/create_preview":                       "customer={customer}",
	"POST /v1/payment_intents":                               "amount=1000&currency=usd&payment_method=pm_card_visa",
	"POST /v1/payment_intents/{intent}/verify_microdeposits": "descriptor_code=SM11AA",
	"POST /v1/payment_methods":                               "type=card&card[token]=tok_visa",
	"POST /v1/payment_methods/{payment_method}/attach":       "customer={customer}",
	"POST /v1/plans":                                         "amount=1000&currency=usd&interval=month&product={/v1/products}",
	"POST /v1/prices":                                        "unit_amount=1000&currency=usd&product={/v1/products}",
	"POST /v1/test_helpers/test_clocks/{test_clock}/advance": "frozen_time=1893460000",
	"POST /v1/transfers/{id}/reversals":                      "amount=1",
})

// made are the steps behind "{open invoice}" and the like.
var made = merged(billingMade, issuingMade, v2Made, restMade)

// fresh are the steps that bring the object of a path into the state that an operation needs: "{}" is the id of
// what the first one made, or of what the last GET found. SANDBOX is a control route, "AS acct_1 POST" a call for a connected account.
var fresh = merged(billingFresh, issuingFresh, v2Fresh, restFresh, map[string][]step{
	"DELETE /v1/accounts/{account}":                                        {{"POST", "/v1/accounts", "type=custom&country=US"}},
	"DELETE /v1/accounts/{account}/bank_accounts/{id}":                     second,
	"DELETE /v1/accounts/{account}/external_accounts/{id}":                 second,
	"GET /v1/charges/{charge}/dispute":                                     {{"POST", "/v1/charges", disputed}},
	"GET /v1/customers/{customer}/payment_methods/{payment_method}":        attached,
	"POST /v1/accounts/{account}/reject":                                   {{"POST", "/v1/accounts", "type=custom&country=US"}},
	"POST /v1/accounts/{account}/unreject":                                 {{"POST", "/v1/accounts", "type=custom&country=US"}, {"POST", "/v1/accounts/{}/reject", "reason=fraud"}},
	"POST /v1/application_fees/{id}/refund":                                fee,
	"POST /v1/application_fees/{id}/refunds":                               fee,
	"POST /v1/charges/{charge}/capture":                                    {{"POST", "/v1/charges", "amount=1000&currency=usd&source=tok_visa&capture=false"}},
	"POST /v1/charges/{charge}/dispute":                                    {{"POST", "/v1/charges", disputed}},
	"POST /v1/charges/{charge}/dispute/close":                              {{"POST", "/v1/charges", disputed}},
	"POST /v1/disputes/{dispute}/close":                                    {{"POST", "/v1/charges", disputed}, {"GET", "/v1/disputes", ""}},
	"POST /v1/invoices/{invoice}/mark_uncollectible":                       open,
	"POST /v1/invoices/{invoice}/pay":                                      open,
	"POST /v1/invoices/{invoice}/void":                                     open,
	"GET /v1/customers/{customer}/cash_balance_transactions/{transaction}": funded,
	"POST /v1/payment_intents/{intent}/apply_customer_balance":             append([]step{{"POST", "/v1/payment_intents", "amount=900&currency=usd&customer={customer}&payment_method_types[]=customer_balance"}}, funded...),
	"POST /v1/payment_intents/{intent}/capture":                            authorized,
	"POST /v1/payment_intents/{intent}/increment_authorization":            authorized,
	"POST /v1/payment_intents/{intent}/verify_microdeposits":               {{"POST", "/v1/payment_intents", debited}},
	"POST /v1/test_helpers/customers/{customer}/fund_cash_balance":         {{"POST", "/v1/customers", ""}},
	"POST /v1/payment_methods/{payment_method}/detach":                     attached,
	"POST /v1/payouts/{payout}/reverse":                                    {{"POST", "/v1/payouts", "amount=1000&currency=usd"}, {"SANDBOX", "payouts/{}", `{"status":"paid"}`}},
	"POST /v1/refunds/{refund}/cancel":                                     {{"POST", "/v1/refunds", "charge={/v1/charges}&metadata[sandbox_status]=requires_action"}},
})

const (
	debited = "amount=700&currency=usd&confirm=true&payment_method_types[]=us_bank_account&payment_method_data[type]=us_bank_account" +
		"&payment_method_data[us_bank_account][account_number]=000123456789&payment_method_data[us_bank_account][routing_number]=110000000" +
		"&payment_method_data[us_bank_account][account_holder_type]=individual"
	disputed = "amount=1000&currency=usd&source=tok_createDispute"
	shared   = "amount=10000&currency=usd&payment_method=pm_card_visa&confirm=true&application_fee_amount=1000&transfer_data[destination]={account}"
)

var (
	attached = []step{
		{"POST", "/v1/payment_methods", "type=card&card[token]=tok_visa"},
		{"POST", "/v1/payment_methods/{}/attach", "customer={customer}"},
	}
	authorized = []step{{"POST", "/v1/payment_intents", "amount=900&currency=usd&payment_method=pm_card_visa&capture_method=manual" +
		"&confirm=true&payment_method_options[card][request_incremental_authorization]=if_available"}}
	fee    = []step{{"POST", "/v1/payment_intents", shared}, {"GET", "/v1/application_fees", ""}}
	funded = []step{{"POST", "/v1/test_helpers/customers/{customer}/fund_cash_balance", "amount=1000&currency=usd"}}
	open   = []step{
		{"POST", "/v1/invoices", "customer={customer}&collection_method=send_invoice&days_until_due=30"},
		{"POST", "/v1/invoiceitems", "customer={customer}&invoice={}&amount=1000&currency=usd"},
		{"POST", "/v1/invoices/{}/finalize", ""},
	}
	// second is a bank account that is not the default one.
	second = []step{{"POST", "/v1/accounts/{account}/external_accounts", "external_account=btok_us_verified"}}
)

// refusals are the operations that the sandbox refuses here, each with the reason.
var refusals = merged(billingRefusals, issuingRefusals, v2Refusals, restRefusals, map[string]string{
	"POST /v1/external_accounts/{id}": "it is for the account's own, which has none",
})

func merged[V any](tables ...map[string]V) map[string]V {
	all := map[string]V{}
	for _, t := range tables {
		maps.Copy(all, t)
	}
	return all
}
