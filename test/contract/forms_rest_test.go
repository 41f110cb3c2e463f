package contract

const (
	calculated = "currency=usd&line_items[0][amount]=1000&line_items[0][reference]=L1&customer_details[address][country]=US" +
		"&customer_details[address][line1]=1 Main St&customer_details[address][city]=Springfield&customer_details[address][state]=CA" +
		"&customer_details[address][postal_code]=94110&customer_details[address_source]=shipping"
	found = "query=created>0"
	visa  = "type=card&token=tok_visa"
)

// restMade are the steps behind the names in braces.
var restMade = map[string][]step{
	"tax calculation": {{"POST", "/v1/tax/calculations", calculated}},
	"bank token":      {{"POST", "/v1/tokens", bankToken}},
}

const bankToken = "bank_account[country]=US&bank_account[currency]=usd&bank_account[account_number]=000123456789&bank_account[routing_number]=110000000"

var restForms = map[string]string{
	"POST /v1/customers/{customer}/bank_accounts/{id}/verify": "amounts[0]=32&amounts[1]=45",
	"POST /v1/customers/{customer}/sources/{id}/verify":       "amounts[0]=32&amounts[1]=45",
	"GET /v1/charges/search":                                  "query=amount>0",
	"GET /v1/customers/search":                                found,
	"GET /v1/invoices/search":                                 found,
	"GET /v1/prices/search":                                   "query=active:'true'",
	"GET /v1/products/search":                                 "query=active:'true'",
	"GET /v1/subscriptions/search":                            found,
	"POST /v1/customer_sessions":                              "customer={customer}&components[buy_button][enabled]=true",
	"POST /v1/ephemeral_keys":                                 "customer={customer}",
	"POST /v1/sources":                                        visa,
	"POST /v1/tax/calculations":                               calculated,
	"POST /v1/tax/transactions/create_from_calculation":       "calculation={tax calculation}&reference=T2",
	"POST /v1/customers/{customer}/sources":                   "source=tok_visa",
	"POST /v1/customers/{customer}/cards":                     "source=tok_visa",
	"POST /v1/customers/{customer}/bank_accounts":             "source={bank token}",
	"POST /v1/tokens":                                         bankToken,
}

var (
	banked  = []step{{"POST", "/v1/customers/{customer}/bank_accounts", "source={bank token}"}}
	sourced = []step{{"POST", "/v1/sources", visa}}
)

var restFresh = map[string][]step{
	"DELETE /v1/customers/{customer}/bank_accounts/{id}":      banked,
	"GET /v1/customers/{customer}/bank_accounts/{id}":         banked,
	"GET /v1/sources/{source}":                                sourced,
	"GET /v1/sources/{source}/source_transactions":            sourced,
	"GET /v1/tax/calculations/{calculation}":                  restMade["tax calculation"],
	"GET /v1/tax/calculations/{calculation}/line_items":       restMade["tax calculation"],
	"GET /v1/tokens/{token}":                                  {{"POST", "/v1/tokens", bankToken}},
	"POST /v1/customers/{customer}/bank_accounts/{id}":        banked,
	"POST /v1/customers/{customer}/bank_accounts/{id}/verify": banked,
	"POST /v1/customers/{customer}/sources/{id}/verify":       banked,
	"POST /v1/sources/{source}":                               sourced,
	"DELETE /v1/ephemeral_keys/{key}":                         {{"POST", "/v1/ephemeral_keys", "customer={customer}"}},
}

const secondStep = "the transaction is what the second step makes, and the steps carry the first one's id"

var restRefusals = map[string]string{
	"GET /v1/tax/transactions/{transaction}":            secondStep,
	"GET /v1/tax/transactions/{transaction}/line_items": secondStep,
	"POST /v1/tax/transactions/create_reversal":         secondStep,
	"POST /v1/file_links":                               "a link is to a file, and files are uploaded in the contract with stripe-mock",
}
