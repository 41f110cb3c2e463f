package contract

// Parameters of issued cards, treasury and climate.
const (
	asked  = "card={/v1/issuing/cards}&amount=700"
	toBank = "&destination_payment_method_data[type]=us_bank_account&destination_payment_method_data[us_bank_account][account_number]=000123456789" +
		"&destination_payment_method_data[us_bank_account][routing_number]=110000000&destination_payment_method_data[us_bank_account][account_holder_type]=company"
	bankPaid = "currency=usd&amount=10&financial_account={treasury}&customer={customer}" + toBank
	bankSent = "currency=usd&amount=10&financial_account={treasury}&destination_payment_method={bank account}"
	pulled   = "currency=usd&amount=10&financial_account={treasury}&origin_payment_method={bank account}"
	received = "currency=usd&amount=100&network=ach&financial_account={treasury}"
)

var (
	authorization = []step{{"POST", "/v1/test_helpers/issuing/authorizations", asked}}
	waiting       = []step{{"POST", "/v1/test_helpers/issuing/authorizations", asked + "&is_amount_controllable=true"}}
	spend         = []step{{"POST", "/v1/test_helpers/issuing/transactions/create_force_capture", "amount=50&card={/v1/issuing/cards}"}}
	paid          = []step{{"POST", "/v1/treasury/outbound_payments", bankPaid}}
	sent          = []step{{"POST", "/v1/treasury/outbound_transfers", bankSent}}
	inbound       = []step{{"POST", "/v1/treasury/inbound_transfers", pulled}}
	credited      = []step{{"POST", "/v1/test_helpers/treasury/received_credits", received}}
	debitedFrom   = []step{{"POST", "/v1/test_helpers/treasury/received_debits", received}}
)

// then adds a step that does something to what the first one made.
func then(steps []step, path string) []step {
	return append(steps[:len(steps):len(steps)], step{"POST", path, ""})
}

var issuingValues = map[string]string{"financial_account": "{treasury}"}

var issuingMade = map[string][]step{
	"bank account":    {{"POST", "/v1/payment_methods", "type=us_bank_account&us_bank_account[account_number]=000123456789&us_bank_account[routing_number]=110000000"}},
	"climate product": {{"GET", "/v1/climate/products", ""}},
	"received credit": credited,
	"received debit":  debitedFrom,
	"spend":           spend,
	"treasury": {
		{"POST", "/v1/treasury/financial_accounts", "supported_currencies[]=usd"},
		{"POST", "/v1/test_helpers/treasury/received_credits", "amount=10000&currency=usd&network=ach&financial_account={}"},
	},
}

var issuingForms = map[string]string{
	"POST /v1/climate/orders": "amount=100&product={climate product}",
	"POST /v1/issuing/cardholders": "name=Ann&type=individual&billing[address][line1]=1&billing[address][city]=SF&billing[address][country]=US" +
		"&billing[address][postal_code]=94103&billing[address][state]=CA",
	"POST /v1/issuing/cards":                                            "currency=usd&type=virtual&status=active&cardholder={/v1/issuing/cardholders}",
	"POST /v1/issuing/disputes":                                         "transaction={spend}&evidence[reason]=fraudulent",
	"POST /v1/test_helpers/issuing/authorizations":                      asked,
	"POST /v1/test_helpers/issuing/transactions/create_force_capture":   "amount=50&card={/v1/issuing/cards}",
	"POST /v1/test_helpers/issuing/transactions/create_unlinked_refund": "amount=20&card={/v1/issuing/cards}",
	"POST /v1/test_helpers/treasury/received_credits":                   received,
	"POST /v1/test_helpers/treasury/received_debits":                    received,
	"POST /v1/treasury/credit_reversals":                                "received_credit={received credit}",
	"POST /v1/treasury/debit_reversals":                                 "received_debit={received debit}",
	"POST /v1/treasury/inbound_transfers":                               pulled,
	"POST /v1/treasury/outbound_payments":                               bankPaid,
	"POST /v1/treasury/outbound_transfers":                              bankSent,
}

var issuingFresh = map[string][]step{
	"GET /v1/issuing/authorizations/{authorization}":                               authorization,
	"GET /v1/issuing/transactions/{transaction}":                                   spend,
	"GET /v1/treasury/received_credits/{id}":                                       credited,
	"GET /v1/treasury/received_debits/{id}":                                        debitedFrom,
	"GET /v1/treasury/transaction_entries/{id}":                                    {{"GET", "/v1/treasury/transaction_entries?financial_account={treasury}", ""}},
	"GET /v1/treasury/transactions/{id}":                                           {{"GET", "/v1/treasury/transactions?financial_account={treasury}", ""}},
	"POST /v1/issuing/authorizations/{authorization}":                              authorization,
	"POST /v1/issuing/authorizations/{authorization}/approve":                      waiting,
	"POST /v1/issuing/authorizations/{authorization}/decline":                      waiting,
	"POST /v1/issuing/transactions/{transaction}":                                  spend,
	"POST /v1/test_helpers/issuing/authorizations/{authorization}/capture":         authorization,
	"POST /v1/test_helpers/issuing/authorizations/{authorization}/expire":          authorization,
	"POST /v1/test_helpers/issuing/authorizations/{authorization}/reverse":         authorization,
	"POST /v1/test_helpers/issuing/transactions/{transaction}/refund":              spend,
	"POST /v1/test_helpers/treasury/inbound_transfers/{id}/fail":                   inbound,
	"POST /v1/test_helpers/treasury/inbound_transfers/{id}/return":                 then(inbound, "/v1/test_helpers/treasury/inbound_transfers/{}/succeed"),
	"POST /v1/test_helpers/treasury/inbound_transfers/{id}/succeed":                inbound,
	"POST /v1/test_helpers/treasury/outbound_payments/{id}/fail":                   paid,
	"POST /v1/test_helpers/treasury/outbound_payments/{id}/post":                   paid,
	"POST /v1/test_helpers/treasury/outbound_payments/{id}/return":                 then(paid, "/v1/test_helpers/treasury/outbound_payments/{}/post"),
	"POST /v1/test_helpers/treasury/outbound_transfers/{outbound_transfer}/fail":   sent,
	"POST /v1/test_helpers/treasury/outbound_transfers/{outbound_transfer}/post":   sent,
	"POST /v1/test_helpers/treasury/outbound_transfers/{outbound_transfer}/return": then(sent, "/v1/test_helpers/treasury/outbound_transfers/{}/post"),
	"POST /v1/test_helpers/treasury/outbound_payments/{id}":                        paid,
	"POST /v1/test_helpers/treasury/outbound_transfers/{outbound_transfer}":        sent,
}

var issuingRefusals = map[string]string{
	"GET /v1/issuing/personalization_designs/{personalization_design}":  "there is no bundle to design",
	"GET /v1/issuing/physical_bundles/{physical_bundle}":                "there are none",
	"GET /v1/issuing/tokens/{token}":                                    "only a wallet makes one",
	"POST /v1/issuing/personalization_designs":                          "there is no bundle to design",
	"POST /v1/issuing/personalization_designs/{personalization_design}": "there is no bundle to design",
	"POST /v1/issuing/tokens/{token}":                                   "only a wallet makes one",
}
