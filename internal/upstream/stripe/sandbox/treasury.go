package sandbox

import (
	"slices"
)

const treasuryFeatures = `["card_issuing","deposit_insurance","financial_addresses.aba","inbound_transfers.ach","intra_stripe_flows",` +
	`"outbound_payments.ach","outbound_payments.us_domestic_wire","outbound_transfers.ach","outbound_transfers.us_domestic_wire"]`

// treasuryModel is an account of v1 that holds money of its own, beside the balance.
var treasuryModel = &model{object: "treasury.financial_account", noun: "financial account", prefix: "fa", resource: "treasury.financial_accounts",
	own: []string{"features"},
	defaults: `{"active_features":` + treasuryFeatures + `,"balance":{"cash":{"usd":0},"inbound_pending":{"usd":0},"outbound_pending":{"usd":0}},` +
		`"country":"US","created":0,"financial_addresses":[],"livemode":false,"metadata":{},"nickname":null,"pending_features":[],` +
		`"platform_restrictions":{"inbound_flows":"unrestricted","outbound_flows":"unrestricted"},"restricted_features":[],"status":"open",` +
		`"status_details":{"closed":null},"supported_currencies":["usd"]}`}

// treasuryLineModel is a line in its books, treasuryEntryModel one change of it.
var (
	treasuryLineModel = &model{object: "treasury.transaction", prefix: "trxn", resource: "treasury.transactions", links: []string{"flow"},
		defaults: `{"amount":0,"balance_impact":null,"created":0,"currency":"usd","description":"","financial_account":"","flow":null,` +
			`"flow_details":null,"flow_type":"other","livemode":false,"status":"open","status_transitions":{"posted_at":null,"void_at":null}}`}
	treasuryEntryModel = &model{object: "treasury.transaction_entry", prefix: "trxne", resource: "treasury.transaction_entries",
		defaults: `{"balance_impact":null,"created":0,"currency":"usd","effective_at":0,"financial_account":"","flow":null,"flow_details":null,` +
			`"flow_type":"other","livemode":false,"transaction":"","type":"other"}`}
)

var treasuryModels = []*model{treasuryModel, treasuryLineModel, treasuryEntryModel}

var treasuryRoutes = []*operation{
	get("/v1/treasury/financial_accounts", "treasury.financial_accounts", "list:treasury.financial_account", list(treasuryModel)),
	post("/v1/treasury/financial_accounts", "treasury.financial_accounts", "treasury.financial_account",
		create(treasuryModel, "treasury.financial_account.created", nil)),
	get("/v1/treasury/financial_accounts/{financial_account}", "treasury.financial_accounts", "treasury.financial_account", retrieve(treasuryModel)),
	post("/v1/treasury/financial_accounts/{financial_account}", "treasury.financial_accounts", "treasury.financial_account", update(treasuryModel, "", nil)),
	post("/v1/treasury/financial_accounts/{financial_account}/close", "treasury.financial_accounts", "treasury.financial_account", closeTreasury),
	get("/v1/treasury/financial_accounts/{financial_account}/features", "treasury.financial_accounts.features", kindNone, treasuryFeaturesOf),
	post("/v1/treasury/financial_accounts/{financial_account}/features", "treasury.financial_accounts.features", kindNone, treasuryFeaturesOf),
	get("/v1/treasury/transactions", "treasury.transactions", "list:treasury.transaction", listTreasury(treasuryLineModel)),
	get("/v1/treasury/transactions/{id}", "treasury.transactions", "treasury.transaction", retrieve(treasuryLineModel)),
	get("/v1/treasury/transaction_entries", "treasury.transaction_entries", "list:treasury.transaction_entry", listTreasury(treasuryEntryModel)),
	get("/v1/treasury/transaction_entries/{id}", "treasury.transaction_entries", "treasury.transaction_entry", retrieve(treasuryEntryModel)),
}

// listTreasury is list for what belongs to a financial account, which every call names.
func listTreasury(m *model) handler {
	filters := []string{"financial_account", "status", "customer", "received_credit", "received_debit", "transaction"}
	return func(c *call) (view, *stripeError) {
		if _, f := c.thing(treasuryModel, c.str("financial_account"), "financial_account"); f != nil {
			return nil, f
		}
		return c.s.shelf(m).page(c, "", func(o *thing) bool {
			return !slices.ContainsFunc(filters, func(name string) bool { return c.set(name) && o.str(name) != c.str(name) })
		})
	}
}

// cash is what a financial account holds in US dollars, its only currency here.
func (o *thing) cash() int64 { return asInt(o.at("balance", "cash", "usd")) }

// openTreasury is the financial account of a call, if money can move on it.
func (c *call) openTreasury() (*thing, *stripeError) {
	fa, f := c.thing(treasuryModel, c.str("financial_account"), "financial_account")
	if f != nil {
		return nil, f
	}
	if fa.str("status") != "open" {
		return nil, errInvalid("financial_account", "", "This financial account is closed.")
	}
	if currency, f := c.currency("currency"); f != nil || currency != "usd" {
		return nil, errInvalid("currency", "", "Financial accounts hold US dollars only.")
	}
	return fa, positive("amount", c.amount("amount"))
}

// treasure changes a financial account and writes it into its books, under the
// flow that it is part of; entry is what Stripe calls the change.
func (c *call) treasure(fa *thing, flow *thing, entry string, by impact) *thing {
	was := fa.fields["balance"]
	for name, delta := range map[string]int64{"cash": by.available, "inbound_pending": by.inbound, "outbound_pending": by.outbound} {
		was = merged(was, map[string]any{name: map[string]any{"usd": asInt(fa.at("balance", name, "usd")) + delta}})
	}
	fa.put("balance", was)
	typ := string(flow.model.object[len("treasury."):])
	t, total := c.treasuryLine(fa, flow, typ, by)
	t.put("amount", total.available+total.inbound, "balance_impact", treasuryImpact(total))
	switch {
	case total.inbound != 0 || total.outbound != 0:
	case total.available == 0:
		t.put("status", "void", "status_transitions", map[string]any{"posted_at": nil, "void_at": c.now})
	default:
		t.put("status", "posted", "status_transitions", map[string]any{"posted_at": c.now, "void_at": nil})
	}
	e := c.bare(treasuryEntryModel)
	e.put("balance_impact", treasuryImpact(by), "effective_at", c.now, "financial_account", fa.id, "flow", flow.id, "flow_type", typ,
		"flow_details", map[string]any{"type": typ}, "transaction", t.id, "type", entry)
	c.s.shelf(treasuryEntryModel).insert(e)
	return t
}

func treasuryImpact(by impact) map[string]any {
	return map[string]any{"cash": by.available, "inbound_pending": by.inbound, "outbound_pending": by.outbound}
}

// treasuryLine is the line of a flow, made with its first change, and what it has
// changed in all. What came back after it was posted is a line of its own.
func (c *call) treasuryLine(fa, flow *thing, typ string, by impact) (*thing, impact) {
	for _, t := range c.s.shelf(treasuryLineModel).index["flow="+flow.id] {
		if t.str("status") == "open" {
			return t, impact{by.available + asInt(t.at("balance_impact", "cash")), by.inbound + asInt(t.at("balance_impact", "inbound_pending")),
				by.outbound + asInt(t.at("balance_impact", "outbound_pending"))}
		}
	}
	t := c.bare(treasuryLineModel)
	t.put("description", flow.str("description"), "financial_account", fa.id, "flow", flow.id, "flow_type", typ, "flow_details", map[string]any{"type": typ})
	c.s.shelf(treasuryLineModel).insert(t)
	return t, by
}

func closeTreasury(c *call) (view, *stripeError) {
	fa, f := c.thing(treasuryModel, c.args[0], "id")
	if f != nil {
		return nil, f
	}
	if fa.cash() != 0 || asInt(fa.at("balance", "inbound_pending", "usd")) != 0 || asInt(fa.at("balance", "outbound_pending", "usd")) != 0 {
		return nil, errInvalid("", "", "You cannot close a financial account that holds money.")
	}
	fa.put("status", "closed", "status_details", map[string]any{"closed": map[string]any{"reasons": []any{"other"}}}, "active_features", []any{})
	c.emit("treasury.financial_account.closed", fa)
	return fa, nil
}

// treasuryFeaturesOf answers the features of a financial account: all of them are
// on, whatever is asked for.
func treasuryFeaturesOf(c *call) (view, *stripeError) {
	if _, f := c.thing(treasuryModel, c.args[0], "id"); f != nil {
		return nil, f
	}
	on := func() map[string]any {
		return map[string]any{"requested": true, "status": "active", "status_details": []any{}}
	}
	ways := func() map[string]any { return map[string]any{"ach": on(), "us_domestic_wire": on()} }
	return fieldsView{"object": "treasury.financial_account_features", "card_issuing": on(), "deposit_insurance": on(),
		"financial_addresses": map[string]any{"aba": on()}, "inbound_transfers": map[string]any{"ach": on()}, "intra_stripe_flows": on(),
		"outbound_payments": ways(), "outbound_transfers": ways()}, nil
}
