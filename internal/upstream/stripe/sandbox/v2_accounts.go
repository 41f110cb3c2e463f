package sandbox

// financialModel is an account of v2 that holds money of its own, beside the balance.
var financialModel = &model{object: "v2.money_management.financial_account", noun: "financial account", prefix: "fa_test", v2: true,
	resource: "v2.money_management.financial_accounts", path: "/v2/money_management/financial_accounts",
	defaults: `{"balance":{"available":{},"inbound_pending":{},"outbound_pending":{}},"country":"US","created":0,"display_name":null,` +
		`"livemode":false,"metadata":{},"status":"open","storage":{"holds_currencies":["usd","eur","gbp"]},"type":"storage"}`}

// addressModel is where others can send money to a financial account.
var addressModel = &model{object: "v2.money_management.financial_address", noun: "financial address", prefix: "finaddr_test", v2: true,
	resource: "v2.money_management.financial_addresses", path: "/v2/money_management/financial_addresses",
	own: []string{"bank_account"}, defaults: `{"bank_account":null,"created":0,"financial_account":"","livemode":false,` +
		`"settlement_currency":"usd","status":"active","type":"bank_account"}`}

// creditModel is money that others have sent to a financial account.
var creditModel = &model{object: "v2.money_management.received_credit", noun: "received credit", prefix: "rc_test", v2: true,
	resource: "v2.money_management.received_credits", path: "/v2/money_management/received_credits",
	defaults: `{"amount":null,"amount_received":null,"bank_transfer":null,"created":0,"description":null,"financial_account":"",` +
		`"livemode":false,"status":"succeeded","status_transitions":null,"type":"bank_transfer"}`}

// adjustmentModel is a correction by Stripe; the sandbox makes none.
var adjustmentModel = &model{object: "v2.money_management.adjustment", noun: "adjustment", prefix: "adj_test", v2: true,
	resource: "v2.money_management.adjustments", path: "/v2/money_management/adjustments", defaults: `{}`}

// flowModel is a line in the books of a financial account, entryModel one change of it.
var (
	flowModel = &model{object: "v2.money_management.transaction", noun: "transaction", prefix: "trxn_test", v2: true,
		resource: "v2.money_management.transactions", path: "/v2/money_management/transactions",
		defaults: `{"amount":null,"balance_impact":null,"category":"","created":0,"description":null,"financial_account":"","flow":null,` +
			`"livemode":false,"metadata":{},"regulatory_receipt":{"status":"not_applicable"},"status":"posted","status_transitions":{}}`}
	entryModel = &model{object: "v2.money_management.transaction_entry", noun: "transaction entry", prefix: "trxne_test", v2: true,
		resource: "v2.money_management.transaction_entries", path: "/v2/money_management/transaction_entries",
		defaults: `{"balance_impact":null,"created":0,"effective_at":"","livemode":false,"transaction":"","transaction_details":null}`}
)

var storageModels = []*model{financialModel, addressModel, creditModel, adjustmentModel, flowModel, entryModel, eventV2Model}

var storageRoutes = []*operation{
	get("/v2/money_management/financial_accounts", financialModel.resource, kindNone, listV2(financialModel, func(c *call, o *thing) bool {
		return c.isOneOf("statuses", o.str("status"))
	})),
	post("/v2/money_management/financial_accounts", financialModel.resource, kindNone, create(financialModel, "", nil)),
	get("/v2/money_management/financial_accounts/{id}", financialModel.resource, kindNone, retrieve(financialModel)),
	post("/v2/money_management/financial_accounts/{id}", financialModel.resource, kindNone, update(financialModel, "", nil)),
	post("/v2/money_management/financial_accounts/{id}/close", financialModel.resource, kindNone, closeFinancial),
	get("/v2/money_management/financial_addresses", addressModel.resource, kindNone, listV2(addressModel, func(c *call, o *thing) bool {
		return !c.set("financial_account") || o.str("financial_account") == c.str("financial_account")
	})),
	post("/v2/money_management/financial_addresses", addressModel.resource, kindNone, create(addressModel, "", fillAddress)),
	get("/v2/money_management/financial_addresses/{id}", addressModel.resource, kindNone, retrieve(addressModel)),
	post("/v2/money_management/test_helpers/financial_addresses/{id}/credit", "v2.test_helpers.financial_addresses", kindNone, creditAddress),
	get("/v2/money_management/received_credits", creditModel.resource, kindNone, listV2(creditModel, nil)),
	get("/v2/money_management/received_credits/{id}", creditModel.resource, kindNone, retrieve(creditModel)),
	get("/v2/money_management/adjustments", adjustmentModel.resource, kindNone, listV2(adjustmentModel, nil)),
	get("/v2/money_management/adjustments/{id}", adjustmentModel.resource, kindNone, retrieve(adjustmentModel)),
	get("/v2/money_management/transactions", flowModel.resource, kindNone, listV2(flowModel, func(c *call, o *thing) bool {
		fa, flow := c.str("financial_account"), c.str("flow")
		typ, _ := o.at("flow", "type").(string)
		return (fa == "" || o.str("financial_account") == fa) && (flow == "" || o.at("flow", typ) == flow)
	})),
	get("/v2/money_management/transactions/{id}", flowModel.resource, kindNone, retrieve(flowModel)),
	post("/v2/money_management/transactions/{id}", flowModel.resource, kindNone, update(flowModel, "", nil)),
	post("/v2/money_management/transactions/{id}/refresh_regulatory_receipt", flowModel.resource, kindNone, retrieve(flowModel)),
	get("/v2/money_management/transaction_entries", entryModel.resource, kindNone, listV2(entryModel, func(c *call, o *thing) bool {
		return !c.set("transaction") || o.str("transaction") == c.str("transaction")
	})),
	get("/v2/money_management/transaction_entries/{id}", entryModel.resource, kindNone, retrieve(entryModel)),
}

// money is an amount as v2 writes it.
func money(value int64, currency string) map[string]any {
	return map[string]any{"value": value, "currency": currency}
}

// pot is one of the three amounts that a financial account has of a currency.
func (o *thing) pot(name, currency string) int64 {
	m, _ := o.at("balance", name, currency).(map[string]any)
	return asInt(m["value"])
}

// impact is a change of the three pots.
type impact struct{ available, inbound, outbound int64 }

// shift changes a financial account and writes the change into its books, under
// the flow (its type, such as outbound_payment, and id) that it is part of.
func (c *call) shift(fa *thing, currency string, by impact, category, flow, id string) {
	balance := fa.fields["balance"]
	for name, delta := range map[string]int64{"available": by.available, "inbound_pending": by.inbound, "outbound_pending": by.outbound} {
		balance = merged(balance, map[string]any{name: map[string]any{currency: money(fa.pot(name, currency)+delta, currency)}})
	}
	fa.put("balance", balance)
	t, total := c.flow(fa, currency, by, category, flow, id)
	effect := map[string]any{"available": money(by.available, currency), "inbound_pending": money(by.inbound, currency),
		"outbound_pending": money(by.outbound, currency)}
	t.put("amount", money(total.available+total.inbound, currency), "balance_impact", map[string]any{
		"available": money(total.available, currency), "inbound_pending": money(total.inbound, currency), "outbound_pending": money(total.outbound, currency)})
	status := "posted"
	if total.inbound != 0 || total.outbound != 0 {
		status = "pending"
	} else if total.available == 0 {
		status = "void"
	}
	t.put("status", status)
	e := c.bare(entryModel)
	e.put("balance_impact", effect, "effective_at", stamp(c.now), "transaction", t.id, "transaction_details",
		map[string]any{"category": category, "financial_account": fa.id, "flow": map[string]any{"type": flow, flow: id}})
	c.s.shelf(entryModel).insert(e)
}

// flow is the line in the books that belongs to a flow, made with its first
// change, and what the flow has changed in all.
func (c *call) flow(fa *thing, currency string, by impact, category, flow, id string) (*thing, impact) {
	all := c.s.shelf(flowModel).order
	for i := len(all) - 1; i >= 0; i-- {
		if t := all[i]; t.str("category") == category && t.at("flow", flow) == id {
			sum := func(name string) int64 {
				m, _ := t.at("balance_impact", name).(map[string]any)
				return asInt(m["value"])
			}
			return t, impact{by.available + sum("available"), by.inbound + sum("inbound_pending"), by.outbound + sum("outbound_pending")}
		}
	}
	t := c.bare(flowModel)
	t.put("category", category, "financial_account", fa.id, "flow", map[string]any{"type": flow, flow: id})
	c.s.shelf(flowModel).insert(t)
	return t, by
}

// openFinancial is the financial account with this id, if money can move on it.
func (c *call) openFinancial(id, param string) (*thing, *stripeError) {
	fa, f := c.thing(financialModel, id, param)
	if f == nil && fa.str("status") != "open" {
		f = errV2("financial_account_not_open", "financial_account_not_open", "Financial account "+id+" is not open.")
	}
	return fa, f
}

func closeFinancial(c *call) (view, *stripeError) {
	fa, f := c.openFinancial(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	held, _ := fa.at("balance", "available").(map[string]any)
	for currency := range held {
		if fa.pot("available", currency) != 0 || fa.pot("inbound_pending", currency) != 0 || fa.pot("outbound_pending", currency) != 0 {
			return nil, errV2("cannot_proceed", "financial_account_balance_not_zero", "Financial account "+fa.id+" still holds money in "+currency+".")
		}
	}
	fa.put("status", "closed")
	return fa, nil
}

func fillAddress(c *call, o *thing) *stripeError {
	if _, f := c.openFinancial(c.str("financial_account"), "financial_account"); f != nil {
		return f
	}
	currency := c.sub("bank_account", "currency").text()
	if currency == "" {
		currency = "usd"
	}
	o.put("settlement_currency", currency, "bank_account", map[string]any{"type": "aba", "currency": currency, "country": "US",
		"aba": map[string]any{"account_number": "000" + c.s.random(c.s.ids, 9), "routing_number": "110000000", "bank_name": "STRIPE TEST BANK"}})
	return nil
}

// creditAddress is somebody sending money to an address, in test mode.
func creditAddress(c *call) (view, *stripeError) {
	address, f := c.thing(addressModel, c.args[0], "id")
	if f != nil {
		return nil, f
	}
	fa, f := c.openFinancial(address.str("financial_account"), "id")
	if f != nil {
		return nil, f
	}
	value, currency, f := c.moneyOf("amount")
	if f != nil {
		return nil, f
	}
	o := c.bare(creditModel)
	o.put("amount", money(value, currency), "amount_received", money(value, currency), "financial_account", fa.id,
		"description", nullable(c.str("statement_descriptor")), "status_transitions", map[string]any{"succeeded_at": stamp(c.now)},
		"bank_transfer", map[string]any{"financial_address": address.id, "network": c.str("network"), "originating_bank_account": map[string]any{
			"type": "aba", "aba": map[string]any{"account_holder_name": "A payer", "bank_name": "STRIPE TEST BANK", "last4": "6789", "routing_number": "110000000"}}})
	c.s.shelf(creditModel).insert(o)
	c.shift(fa, currency, impact{available: value}, "received_credit", "received_credit", o.id)
	c.effect(EffectReceivedCredit, o.id, fa.id, "", value, currency)
	c.emitV2("v2.money_management.received_credit.succeeded", o)
	return fieldsView{"object": "v2.money_management.financial_address_credit_simulation", "livemode": c.s.live(), "status": "pending"}, nil
}

// moneyOf reads {"value": N, "currency": "usd"}.
func (c *call) moneyOf(name string) (value int64, currency string, f *stripeError) {
	n := c.p.get(name)
	value, _ = parseInt(n.get("value")) // checked against its type
	currency = n.get("currency").text()
	if !known(currencies, currency) {
		return 0, "", errInvalid(name+".currency", "", "Invalid currency: "+currency)
	}
	return value, currency, positive(name+".value", value)
}

// worth is what the smallest unit of a currency is worth in millionths of a US
// dollar, for payments that cross currencies.
var worth = map[string]int64{"usd": 10_000, "eur": 11_000, "gbp": 12_500, "cad": 7_500, "jpy": 6_500}

// exchange is what must be paid in one currency for value in another, rounded up.
func exchange(value int64, from, to string) (int64, *stripeError) {
	if from == to {
		return value, nil
	}
	paid, got := worth[from], worth[to]
	if paid == 0 || got == 0 {
		return 0, errV2("feature_not_enabled", "currency_not_supported", "This sandbox does not exchange "+from+" for "+to+".")
	}
	return (value*got + paid - 1) / paid, nil
}
