package sandbox

import "strings"

// cashModel is one movement of the cash that customers have sent by bank transfer
// and not yet spent: theirs, until it pays for something.
var cashModel = &model{object: "customer_cash_balance_transaction", noun: "customer cash balance transaction", prefix: "ccsbtxn",
	resource: "customers.cash_balance_transactions", links: []string{"customer"},
	defaults: `{"created":0,"currency":"","customer":"","customer_account":null,"ending_balance":0,"livemode":false,"net_amount":0,"type":""}`}

var cashModels = []*model{cashModel}

var cashRoutes = []*operation{
	get("/v1/customers/{customer}/cash_balance", "customers.cash_balance", "cash_balance", func(c *call) (view, *stripeError) {
		o, f := c.s.customers.get(c.args[0], "id")
		return cashView{o}, f
	}),
	post("/v1/customers/{customer}/cash_balance", "customers.cash_balance", "cash_balance", func(c *call) (view, *stripeError) {
		o, f := c.s.customers.get(c.args[0], "id")
		if f != nil {
			return nil, f
		}
		if mode := c.sub("settings", "reconciliation_mode").text(); mode != "" {
			o.cashByHand, o.cashModeSet = mode == "manual", mode != "merchant_default"
		}
		return cashView{o}, nil
	}),
	get("/v1/customers/{customer}/cash_balance_transactions", "customers.cash_balance_transactions", "list:customer_cash_balance_transaction",
		func(c *call) (view, *stripeError) {
			if _, f := c.s.customers.get(c.args[0], "id"); f != nil {
				return nil, f
			}
			return c.s.shelf(cashModel).page(c, "customer="+c.args[0], nil)
		}),
	get("/v1/customers/{customer}/cash_balance_transactions/{transaction}", "customers.cash_balance_transactions", "customer_cash_balance_transaction",
		func(c *call) (view, *stripeError) {
			o, f := c.thing(cashModel, c.args[1], "id")
			if f == nil && o.str("customer") != c.args[0] {
				return nil, errMissing("customer cash balance transaction", c.args[1], "id")
			}
			return asView(o, f)
		}),
	post("/v1/customers/{customer}/funding_instructions", "customers.funding_instructions", kindNone, fundingInstructions),
	post("/v1/test_helpers/customers/{customer}/fund_cash_balance", "test_helpers.customers", "customer_cash_balance_transaction", fundCash),
	post("/v1/payment_intents/{intent}/apply_customer_balance", "payment_intents", "payment_intent", applyBalance),
}

// cashView is what a customer has sent and not yet spent.
type cashView struct{ of *customer }

func (o cashView) render(e *enc, _ *expansion) {
	e.open()
	e.constant(`"object":"cash_balance"`)
	e.key("available")
	if len(o.of.cash) == 0 {
		e.b = append(e.b, "null"...)
	} else {
		held := map[string]any{}
		for currency, amount := range o.of.cash {
			held[currency] = amount
		}
		e.value(held, nil)
	}
	e.str("customer", o.of.id)
	e.null("customer_account")
	e.bool("livemode", e.s.live())
	e.key("settings")
	e.open()
	mode := "automatic"
	if o.of.cashByHand {
		mode = "manual"
	}
	e.str("reconciliation_mode", mode)
	e.bool("using_merchant_default", !o.of.cashModeSet)
	e.close()
	e.close()
}

func fundingInstructions(c *call) (view, *stripeError) {
	if _, f := c.s.customers.get(c.args[0], "id"); f != nil {
		return nil, f
	}
	currency, f := c.currency("currency")
	if f != nil {
		return nil, f
	}
	const place = `{"city":"Dublin","country":"IE","line1":"1 Main Street","line2":null,"postal_code":"D02","state":null}`
	o := &thing{fields: parseJSON(`{"bank_transfer":{"country":"IE","financial_addresses":[{"type":"iban","supported_networks":["sepa"],"iban":` +
		`{"account_holder_address":` + place + `,"account_holder_name":"Keybrake Sandbox","bank_address":` + place + `,"bic":"TESTIE2D",` +
		`"country":"IE","iban":"IE29AIBK93115212345678"}}],"type":"eu_bank_transfer"},"funding_type":"bank_transfer","object":"funding_instructions"}`)}
	o.put("currency", currency, "livemode", c.s.live())
	return fieldsView(o.fields), nil
}

// fieldsView is an answer without an id.
type fieldsView map[string]any

func (o fieldsView) render(e *enc, x *expansion) {
	e.comma()
	e.value(map[string]any(o), x)
}

// moveCash changes what a customer has; typ is the type of the movement, and
// detail what is told of it under that name.
func (c *call) moveCash(o *customer, amount int64, currency, typ string, detail map[string]any) *thing {
	if o.cash == nil {
		o.cash = map[string]int64{}
	}
	o.cash[currency] += amount
	t := c.bare(cashModel)
	t.put("currency", currency, "customer", o.id, "ending_balance", o.cash[currency], "net_amount", amount, "type", typ)
	if detail != nil {
		t.put(typ, detail)
	}
	c.s.shelf(cashModel).insert(t)
	c.emit("customer_cash_balance_transaction.created", t)
	return t
}

// fundCash is a bank transfer that arrives: it pays for what waits for it, oldest
// first, unless the customer's payments are reconciled by hand.
func fundCash(c *call) (view, *stripeError) {
	o, f := c.s.customers.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	currency, f := c.currency("currency")
	if f != nil {
		return nil, f
	}
	if f := positive("amount", c.amount("amount")); f != nil {
		return nil, f
	}
	t := c.moveCash(o, c.amount("amount"), currency, "funded", map[string]any{"bank_transfer": map[string]any{"type": "us_bank_transfer",
		"reference": nullable(c.str("reference")), "us_bank_transfer": map[string]any{"network": "ach", "sender_name": nil}}})
	if !o.cashByHand {
		for _, pi := range c.s.intents.index["customer="+o.id] {
			if m := c.s.methods.byID[pi.method]; pi.status == needsAction && m != nil && m.typ == typeOfCash && pi.currency == currency {
				c.applyCash(pi, o, min(o.cash[currency], pi.amount-pi.applied))
			}
		}
	}
	return t, nil
}

// applyCash pays a part of an intent, or the rest, out of the customer's cash.
func (c *call) applyCash(o *paymentIntent, owner *customer, amount int64) {
	if amount <= 0 {
		return
	}
	o.applied += amount
	c.moveCash(owner, -amount, o.currency, "applied_to_payment", map[string]any{"payment_intent": o.id})
	if o.applied < o.amount {
		o.status = needsAction
		c.emit("payment_intent.partially_funded", o)
		return
	}
	ch := &charge{sharing: o.sharing, head: c.s.head("py", c), amount: o.amount, currency: o.currency, customer: o.customer, intent: o.id,
		invoice: o.invoice, description: o.description, method: o.method, status: "succeeded", isCaptured: true}
	c.s.charges.insert(ch)
	parent := o.id
	if o.invoice != "" {
		parent = o.invoice
	}
	c.collect(ch, o.amount, EffectPayment, parent)
	c.emit("charge.succeeded", ch)
	o.latestCharge, o.received = ch.id, o.amount
	c.succeed(o)
}

// applyBalance reconciles by hand: the whole rest for an intent of an invoice.
func applyBalance(c *call) (view, *stripeError) {
	o, f := c.s.intents.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	if !strings.Contains(o.types, `"`+typeOfCash+`"`) || !o.open() {
		return nil, errState(o, "This PaymentIntent's status is "+o.status+" and its payment_method_types are "+o.types+
			": a customer's cash balance cannot be applied to it.")
	}
	owner := c.s.customers.byID[o.customer]
	if owner == nil {
		return nil, errInvalid("", "", "This PaymentIntent has no customer whose cash balance could be applied.")
	}
	if currency := strings.ToLower(c.str("currency")); currency != "" && currency != o.currency {
		return nil, errInvalid("currency", "", "The currency must be that of the PaymentIntent, "+o.currency+".")
	}
	amount := o.amount - o.applied
	if c.has("amount") && o.invoice == "" {
		amount = c.amount("amount")
	}
	if f := positive("amount", amount); f != nil {
		return nil, f
	}
	if amount > o.amount-o.applied {
		return nil, errInvalid("amount", "amount_too_large", "The amount is greater than what remains of the PaymentIntent.")
	}
	if amount > owner.cash[o.currency] {
		return nil, errInvalid("amount", "", "The customer's cash balance does not cover "+formatAmount(amount, o.currency)+".")
	}
	if m := c.s.methods.byID[o.method]; m == nil || m.typ != typeOfCash {
		cash := &paymentMethod{head: c.s.head("pm", c), typ: typeOfCash, billing: noBilling, customer: o.customer}
		c.s.methods.insert(cash)
		o.method = cash.id
	}
	c.applyCash(o, owner, amount)
	return o, nil
}

// refundCash sends unspent cash of a customer back to their bank.
func (c *call) refundCash() (*refund, *stripeError) {
	if c.str("origin") != "customer_balance" || c.str("customer") == "" {
		return nil, errInvalid("customer", "", "A refund of a cash balance needs both customer and origin=customer_balance.")
	}
	o, f := c.s.customers.get(c.str("customer"), "customer")
	if f != nil {
		return nil, f
	}
	for _, name := range []string{"amount", "currency"} {
		if !c.has(name) {
			return nil, errMissingParam(name)
		}
	}
	currency, f := c.currency("currency")
	if f != nil {
		return nil, f
	}
	amount := c.amount("amount")
	if f := positive("amount", amount); f != nil {
		return nil, f
	}
	if amount > o.cash[currency] {
		return nil, errInvalid("amount", "", "Refund amount ("+formatAmount(amount, currency)+") is greater than the cash balance of the customer ("+
			formatAmount(o.cash[currency], currency)+")")
	}
	md, f := c.metadata(nil)
	if f != nil {
		return nil, f
	}
	r := &refund{head: c.s.head("re", c), amount: amount, currency: currency, customer: o.id, reason: c.str("reason"), status: "requires_action",
		instructions: c.str("instructions_email")}
	r.md = md
	c.moveCash(o, -amount, currency, "return_initiated", nil)
	c.s.refunds.insert(r)
	c.effect(EffectRefund, r.id, "", o.id, amount, currency)
	c.emit("refund.created", r)
	return r, nil
}
