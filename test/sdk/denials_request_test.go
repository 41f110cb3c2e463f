package sdk

import (
	"strings"

	"github.com/keybrake/keybrake/internal/policy"
)

// onAda may do with the charges of one customer what anyCustomer may with all.
const onAda = `
scopes: {charges: read, customers: write, events: read, refunds: write}
caps: [{resource: "*", per: day, usd: 1000.00}]
customers: ["{customer}"]
`

// with returns a call with other parameters; an empty value leaves one out.
func with(a ask, params ...string) ask {
	merged := make(map[string]string)
	for name, value := range a.Params {
		merged[name] = value
	}
	for i := 0; i+1 < len(params); i += 2 {
		merged[params[i]] = params[i+1]
		if params[i+1] == "" {
			delete(merged, params[i])
		}
	}
	a.Params = merged
	return a
}

// change is the cure of a call that has to be another one.
func change(params ...string) func(*scene, *ask) {
	return func(s *scene, a *ask) { *a = s.filledIn(with(*a, params...)) }
}

var requestDenials = []denial{
	{
		name: "out of scope", code: policy.CodeScopeDenied, call: ask{Op: "subscriptions.retrieve", ID: "sub_1"},
		refused: "may not read subscriptions", cure: "Add `subscriptions: read` to the policy's scopes",
	},
	{
		name: "an expansion that opens more than the scopes", code: policy.CodeScopeDenied,
		call:    with(readCharge, "expand[0]", "customer"),
		refused: "may not read customers", cure: "Add `customers: read` to the policy's scopes", cured: change("expand[0]", ""),
	},
	{
		name: "out of scope under v2", code: policy.CodeScopeDenied, call: ask{Op: "v2.core.events.list"},
		refused: "may not read v2.core.events", cure: "Add `v2.core.events: read` to the policy's scopes",
		without: map[string]string{"stripe-python": "5.0.0 has no /v2"},
	},
	{
		name: "a route that the catalog does not know", code: policy.CodeUnknownRoute, call: ask{Op: "GET /v1/unheard"},
		refused: "is not an operation that Keybrake knows", cure: "Use a route of Stripe's documented API",
	},
	{
		name: "an account without a grant", code: policy.CodeAccountDenied,
		call:    ask{Op: "charges.retrieve", ID: "{own}", Account: "acct_1Foreign"},
		refused: "acts for a connected account", cure: "Leave the account out", cured: func(_ *scene, a *ask) { a.Account = "" },
	},
	{
		name: "a version of long ago", code: policy.CodeVersion, call: ask{Op: "charges.retrieve", ID: "{own}", Version: "2014-01-31"},
		refused: "is not one whose fields Keybrake knows", cure: "Leave the header out", param: "Stripe-Version",
		cured: func(_ *scene, a *ask) { a.Version = "" },
	},
	{
		name: "a header that makes it another request", code: policy.CodeHeaderDenied,
		call:    ask{Op: "POST /v1/refunds", Params: refundOwn.Params, Headers: map[string]string{"X-HTTP-Method-Override": "DELETE"}},
		refused: "The header X-Http-Method-Override changes what the request is", cure: "leave it out",
		cured: func(_ *scene, a *ask) { a.Headers = nil },
	},
	{
		name: "an idempotency key that is too long", code: policy.CodeHeaderDenied,
		call:    ask{Op: refundOwn.Op, Params: refundOwn.Params, IdempotencyKey: strings.Repeat("k", 256)},
		refused: "The header Idempotency-Key", cure: "must be 1 to 255 printable ASCII characters",
		cured:   func(_ *scene, a *ask) { a.IdempotencyKey = a.IdempotencyKey[:255] },
		without: map[string]string{"stripe-go": "it refuses such a key by itself"},
	},
	{
		name: "an amount below nothing", code: policy.CodeMalformed, call: with(refundOwn, "amount", "-5"), param: "amount",
		refused: "amount", cure: "must be", cured: change("amount", "5"),
	},
	{
		name: "a second name for a parameter", code: policy.CodeMalformed, call: with(refundOwn, "[amount]", "90000"), param: "[amount]",
		refused: "is not a parameter name", cure: "names are written like amount", cured: change("[amount]", ""),
	},
	{
		name: "an unknown parameter on what moves money", code: policy.CodeMalformed, call: with(refundOwn, "speed", "fast"), param: "speed",
		refused: "does not take the parameter \"speed\"", cure: "leave it out", cured: change("speed", ""),
	},
	{
		name: "a body over the limit", code: policy.CodeMalformed, call: with(refundOwn, "metadata[note]", strings.Repeat("n", 1<<20)),
		refused: "larger than 1048576 bytes", cure: "Send less", cured: change("metadata[note]", "short"),
	},
	{
		name: "a head over the limit", code: policy.CodeMalformed,
		call:    ask{Op: "GET /v1/charges", Headers: map[string]string{"X-Padding": strings.Repeat("p", 128<<10)}},
		refused: "head is too long", cure: "Send fewer or shorter headers", cured: func(_ *scene, a *ask) { a.Headers = nil },
	},
	{
		name: "a parameter rule", code: policy.CodeParamDenied, call: ask{Op: "products.create", Params: map[string]string{"name": "hat"}}, param: "name",
		policy:  anyCustomer + "params: {products.create: {name: {pattern: \"shirt.*\"}}}\n",
		refused: "The parameter `name` of products.create", cure: "must match `shirt.*`", cured: change("name", "shirt"),
	},
	{
		name: "an expansion to card data", code: policy.CodeParamDenied, param: "expand",
		call:    with(readCharge, "expand[0]", "payment_method_details.card.number"),
		refused: "would show card data", cure: "leave it out", cured: change("expand[0]", ""),
	},
}

var moneyDenials = []denial{
	{
		name: "more than a cap", code: policy.CodeCapExceeded, call: with(payment, "amount", "100001"),
		refused: "would pass the cap of $1000.00 per day", cure: "It resets at", cured: change("amount", "2500"),
	},
	{
		name: "more than a cap, for an object whose currency is looked up", code: policy.CodeCapExceeded, call: with(refundOwn, "amount", "3001"),
		policy:  "scopes: {charges: read, refunds: write}\ncaps: [{resource: refunds, per: day, usd: 30.00}]\ncustomers: any\n",
		refused: "This call of $30.01 would pass the cap of $30.00 per day on refunds", cure: "$30.00 left. It resets at", sent: 1,
		cured: change("amount", "3000"),
	},
	{
		name: "a cap with nothing left", code: policy.CodeCapExceeded, call: refundOwn,
		policy:  "scopes: {charges: read, refunds: write}\ncaps: [{resource: refunds, per: day, usd: 1.00}]\ncustomers: any\n",
		before:  func(s *scene, _ *ask) { s.mustPost(200, "/v1/refunds", "", refundOwn.Params) },
		refused: "is used up: $1.00 settled, $0.00 held, $0.00 left", cure: "It resets at",
	},
	{
		name: "a cap in calls with nothing left", code: policy.CodeCapExceeded, call: ask{Op: "products.create", Params: map[string]string{"name": "shirt"}},
		policy:  "scopes: {products: write}\ncaps: [{resource: products, per: month, calls: 1}]\n",
		before:  func(s *scene, _ *ask) { s.mustPost(200, "/v1/products", "", map[string]string{"name": "hat"}) },
		refused: "The cap of 1 products calls per month is used up", cure: "It resets at",
	},
	{
		name: "an amount without a bound", code: policy.CodeUnmeterable, call: with(refundOwn, "instructions_email", "ada@example.com"),
		refused: "instructions_email", cure: "list refunds.create under `unmetered`", cured: change("instructions_email", ""),
	},
	{
		name: "a currency without a rate", code: policy.CodeNoRate, call: with(payment, "currency", "chf"),
		refused: "has no value in dollars", cure: "`keybrake rates set CHF=",
		cured: func(s *scene, _ *ask) {
			s.admin("POST", "rates", map[string]any{"rates": []map[string]string{{"currency": "CHF", "rate": "1.12"}}}, nil)
		},
	},
}

var customerDenials = []denial{
	{
		name: "another customer's charge", code: policy.CodeCustomerDenied, policy: onAda, call: with(refundOwn, "charge", "{foreign}"), sent: 1,
		refused: "not among", cure: "Add the customer to the policy's `customers`", cured: change("charge", "{own}"),
	},
	{
		name: "a list without its filter", code: policy.CodeCustomerDenied, policy: onAda, call: ask{Op: "charges.list"}, param: "customer",
		refused: "may show objects of any customer", cure: "Add the parameter `customer`", cured: change("customer", "{customer}"),
	},
	{
		name: "another customer by name", code: policy.CodeCustomerDenied, policy: onAda, call: ask{Op: "customers.retrieve", ID: "{other}"},
		refused: "not among this key's customers", cure: "Add the customer to the policy's `customers`",
		cured: func(s *scene, a *ask) { a.ID = s.customers[0].ID },
	},
	{
		name: "another customer's charge to read", code: policy.CodeCustomerDenied, policy: onAda,
		call: ask{Op: "charges.retrieve", ID: "{unseen}"}, sent: 1,
		refused: "not among this key's customers", cure: "Add the customer to the policy's `customers`",
		cured: func(s *scene, a *ask) { a.ID = s.customers[0].Charges[1] },
	},
	{
		name: "a new customer", code: policy.CodeCustomerDenied, policy: onAda, call: ask{Op: "customers.create", Params: map[string]string{"name": "Dora"}},
		refused: "may not create one", cure: "Set `may_create_customers: true`",
		cured: func(s *scene, _ *ask) { s.update(onAda + "may_create_customers: true\n") },
	},
	{
		name: "what may concern anybody", code: policy.CodeCustomerDenied, policy: onAda, call: ask{Op: "events.list"},
		refused: "may concern any customer", cure: "List the operation under `no_customer`",
	},
	{
		name: "an answer that shows other customers", code: policy.CodeCustomerDenied, policy: onAda + "no_customer: [events.list]\n",
		call: ask{Op: "events.list"}, sent: 1, on: asPair,
		refused: "may not see", cure: "Ask for what belongs to this key's customers only",
	},
	{
		name: "an object that is not there", code: "resource_missing", call: with(refundOwn, "charge", "ch_missing"), sent: 1, param: "charge",
		refused: "No such charge", cure: "'ch_missing'", cured: change("charge", "{own}"),
	},
}
