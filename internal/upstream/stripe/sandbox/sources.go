package sandbox

import (
	"slices"
	"strings"
)

// cardSource is a payment method as the source that it also is: what older
// integrations charge.
type cardSource struct{ *paymentMethod }

func (o cardSource) render(e *enc, x *expansion) {
	if o.deleted {
		(&deletedView{"card", o.id}).render(e, nil)
		return
	}
	e.open()
	e.str("id", o.id)
	e.constant(`"object":"card","address_city":null,"address_country":null,"address_line1":null,"address_line1_check":null,` +
		`"address_line2":null,"address_state":null,"address_zip":null,"address_zip_check":null,"allow_redisplay":"unspecified"`)
	e.str("brand", o.brand)
	e.str("country", "US")
	e.ref("customer", o.customer, x)
	e.constant(`"cvc_check":"pass","dynamic_last4":null`)
	e.int("exp_month", o.expMonth)
	e.int("exp_year", o.expYear)
	e.str("fingerprint", o.fingerprint)
	e.str("funding", o.funding)
	e.str("last4", o.last4)
	e.metadata(o.md)
	e.constant(`"name":null,"regulated_status":"unregulated","tokenization_method":null`)
	e.close()
}

// legacySource is a payment method that was made as a source, under that name.
type legacySource struct{ *paymentMethod }

func (o legacySource) render(e *enc, _ *expansion) {
	e.open()
	e.str("id", o.id)
	e.constant(`"object":"source","amount":null`)
	e.key("card")
	e.open()
	e.constant(`"address_line1_check":null,"address_zip_check":null`)
	e.str("brand", o.brand)
	e.str("country", "US")
	e.constant(`"cvc_check":"pass","dynamic_last4":null`)
	e.int("exp_month", o.expMonth)
	e.int("exp_year", o.expYear)
	e.str("fingerprint", o.fingerprint)
	e.str("funding", o.funding)
	e.str("last4", o.last4)
	e.constant(`"name":null,"three_d_secure":"optional","tokenization_method":null`)
	e.close()
	e.str("client_secret", o.id+"_secret_"+o.fingerprint)
	e.int("created", o.created)
	e.null("currency")
	if o.customer != "" {
		e.str("customer", o.customer)
	}
	e.constant(`"flow":"none"`)
	e.bool("livemode", e.s.live())
	e.metadata(o.md)
	e.constant(`"owner":{"address":null,"email":null,"name":null,"phone":null,"verified_address":null,"verified_email":null,` +
		`"verified_name":null,"verified_phone":null},"statement_descriptor":null,"status":"chargeable","type":"card","usage":"reusable"`)
	e.close()
}

// asSource is a payment method as older integrations know it.
func asSource(m *paymentMethod) view {
	if strings.HasPrefix(m.id, "src_") {
		return legacySource{m}
	}
	return cardSource{m}
}

// customerBankModel is a customer's bank account as a source: it is charged once
// its deposits are told.
var customerBankModel = &model{object: "bank_account", noun: "source", prefix: "ba", resource: "customers.sources", links: []string{"customer"},
	defaults: `{"account_holder_name":null,"account_holder_type":null,"account_type":null,"bank_name":"STRIPE TEST BANK","country":"US","currency":"usd",` +
		`"customer":null,"fingerprint":null,"last4":"","metadata":{},"routing_number":null,"status":"new"}`}

// tokenModel is a card or a bank account on its way in: it is good for one use.
var tokenModel = &model{object: "token", prefix: "tok", resource: "tokens",
	defaults: `{"bank_account":null,"card":null,"client_ip":null,"created":0,"livemode":false,"type":"card","used":false}`}

var sourceModels = []*model{customerBankModel, tokenModel}

var sourceRoutes = slices.Concat(
	sourcesUnder("/v1/customers/{customer}/sources", ""),
	sourcesUnder("/v1/customers/{customer}/cards", "card"),
	sourcesUnder("/v1/customers/{customer}/bank_accounts", "bank_account"),
	[]*operation{
		post("/v1/tokens", "tokens", "token", createToken),
		get("/v1/tokens/{token}", "tokens", "token", func(c *call) (view, *stripeError) {
			o, f := c.thing(tokenModel, c.args[0], "id")
			return tokenView{o}, f
		}),
		post("/v1/sources", "sources", "source", createSource),
		get("/v1/sources/{source}", "sources", "source", func(c *call) (view, *stripeError) { return c.sourceOf(c.args[0]) }),
		post("/v1/sources/{source}", "sources", "source", func(c *call) (view, *stripeError) {
			v, f := c.sourceOf(c.args[0])
			if f != nil {
				return nil, f
			}
			m := v.(legacySource).paymentMethod
			if m.md, f = c.metadata(m.md); f != nil {
				return nil, f
			}
			return v, nil
		}),
		get("/v1/sources/{source}/source_transactions", "sources", "list:source_transaction", func(c *call) (view, *stripeError) {
			_, f := c.sourceOf(c.args[0])
			return &listView{url: c.url()}, f
		}),
	},
)

func (c *call) sourceOf(id string) (view, *stripeError) {
	m, ok := c.s.methods.byID[id]
	if !ok || !strings.HasPrefix(id, "src_") {
		return nil, errMissing("source", id, "id")
	}
	return legacySource{m}, nil
}

// createSource makes a source out of a card's token.
func createSource(c *call) (view, *stripeError) {
	if c.str("type") != typeOfCard {
		return nil, errInvalid("type", "", "This sandbox makes sources of type card only.")
	}
	token := c.str("token")
	if token == "" {
		return nil, errMissingParam("token")
	}
	from, f := c.named(token, "token")
	if f != nil {
		return nil, f
	}
	card := *from // the token's own card stays what it is
	m := &card
	m.head = c.s.head("src", c)
	if m.md, f = c.metadata(nil); f != nil {
		return nil, f
	}
	c.s.methods.insert(m)
	if id := c.str("customer"); id != "" {
		if f := c.attach(m, id); f != nil {
			return nil, f
		}
	}
	c.emit("source.chargeable", legacySource{m})
	return legacySource{m}, nil
}

// tokenView is a token with what it stands for.
type tokenView struct{ *thing }

func (o tokenView) render(e *enc, _ *expansion) {
	e.open()
	e.str("id", o.id)
	e.constant(`"object":"token","client_ip":null`)
	e.int("created", o.created)
	e.bool("livemode", e.s.live())
	e.str("type", o.str("type"))
	e.bool("used", o.fields["used"] == true)
	for _, name := range []string{"card", "bank_account"} {
		if v, ok := o.fields[name].(view); ok {
			e.key(name)
			v.render(e, nil)
		}
	}
	e.close()
}

func createToken(c *call) (view, *stripeError) {
	o := c.bare(tokenModel)
	switch {
	case c.set("bank_account"):
		bank, f := c.bankOf(c.p.get("bank_account"), "bank_account")
		if f != nil {
			return nil, f
		}
		o.id = c.s.id("btok")
		o.put("type", "bank_account", "bank_account", bank)
	case c.set("card") && c.p.get("card").kind == nodeMap:
		m, f := c.newCard(c.p.get("card"), "source")
		if f != nil {
			return nil, f
		}
		o.put("card", cardSource{m})
	default:
		return nil, errInvalid("card", "parameter_missing", "This sandbox makes tokens of cards and bank accounts only: you must supply one.")
	}
	c.s.shelf(tokenModel).insert(o)
	return tokenView{o}, nil
}

// spendToken is what a stored token stands for; it can be used once.
func (c *call) spendToken(id, param, field string) (view, *stripeError) {
	o, ok := c.s.shelf(tokenModel).byID[id]
	if !ok {
		return nil, nil
	}
	if o.fields["used"] == true {
		return nil, errInvalid(param, "token_already_used", "You cannot use a Stripe token more than once: "+id+".")
	}
	v, ok := o.fields[field].(view)
	if !ok {
		return nil, errInvalid(param, "", "The token "+id+" is of another kind.")
	}
	o.put("used", true)
	return v, nil
}

// sourcesUnder are the routes of a customer's sources below a path: two older ones
// know one kind each.
func sourcesUnder(path, only string) []*operation {
	const resource = "customers.sources"
	one := func(do func(*call, view) (view, *stripeError)) handler {
		return func(c *call) (view, *stripeError) {
			if _, f := c.s.customers.get(c.args[0], "id"); f != nil {
				return nil, f
			}
			if m, ok := c.s.methods.byID[c.args[1]]; ok && m.customer == c.args[0] && !strings.HasPrefix(m.id, "pm_") {
				return do(c, asSource(m))
			}
			if o, ok := c.s.shelf(customerBankModel).byID[c.args[1]]; ok && o.str("customer") == c.args[0] && !o.deleted {
				return do(c, o)
			}
			return nil, errMissing("source", c.args[1], "id")
		}
	}
	routes := []*operation{
		get(path, resource, kindAny, func(c *call) (view, *stripeError) { return c.listSources(only) }),
		post(path, resource, kindAny, addSource),
		get(path+"/{id}", resource, kindAny, one(func(c *call, v view) (view, *stripeError) { return v, nil })),
		post(path+"/{id}", resource, kindAny, one(updateSource)),
		remove(path+"/{id}", resource, one(removeSource)),
	}
	if only != "card" {
		routes = append(routes, post(path+"/{id}/verify", resource, kindAny, one(verifySource)))
	}
	return routes
}

func (c *call) listSources(only string) (view, *stripeError) {
	if _, f := c.s.customers.get(c.args[0], "id"); f != nil {
		return nil, f
	}
	if only == "" && c.set("object") {
		only = c.str("object")
	}
	out := &listView{url: c.url(), data: c.s.sourcesOf(c.args[0], only)}
	limit := defaultLimit
	if c.has("limit") {
		limit = int(min(max(c.amount("limit"), 1), maxLimit))
	}
	out.more = len(out.data) > limit
	out.data = out.data[:min(len(out.data), limit)]
	return out, nil
}

// addSource gives a customer a card or a bank account.
func addSource(c *call) (view, *stripeError) {
	o, f := c.s.customers.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	for _, name := range []string{"source", "card", "bank_account"} {
		n := c.p.get(name)
		if n.blank() {
			continue
		}
		if name == "bank_account" || strings.HasPrefix(n.text(), "btok_") {
			return asView(c.addCustomerBank(o, n, name))
		}
		m, f := c.named(n.text(), name)
		if n.kind == nodeMap {
			m, f = c.newCard(n, "source")
		}
		if f != nil {
			return nil, f
		}
		if m.decline != "" && m.decline != "insufficient_funds" {
			return nil, errDeclined(m.decline, "")
		}
		if f := c.attach(m, o.id); f != nil {
			return nil, f
		}
		if m.md, f = c.metadata(m.md); f != nil {
			return nil, f
		}
		if o.defaultSource == "" {
			o.defaultSource = m.id
		}
		c.emit("customer.source.created", asSource(m))
		return asSource(m), nil
	}
	return nil, errMissingParam("source")
}

func (c *call) addCustomerBank(o *customer, n *node, param string) (*thing, *stripeError) {
	from, f := c.bankOrCard(n, param)
	if f != nil {
		return nil, f
	}
	bank := c.bare(customerBankModel)
	for name := range bank.fields {
		if v, ok := from.fields[name]; ok {
			bank.fields[name] = v
		}
	}
	bank.put("customer", o.id)
	if bank.md, f = c.metadata(nil); f != nil {
		return nil, f
	}
	c.s.shelf(customerBankModel).insert(bank)
	c.emit("customer.source.created", bank)
	return bank, nil
}

func updateSource(c *call, v view) (view, *stripeError) {
	var f *stripeError
	switch o := v.(type) {
	case *thing:
		if f = c.fill(o); f != nil {
			return nil, f
		}
	case cardSource:
		if o.md, f = c.metadata(o.md); f != nil {
			return nil, f
		}
		if n := c.p.get("exp_month"); !n.blank() {
			o.expMonth, _ = parseInt(n)
		}
		if n := c.p.get("exp_year"); !n.blank() {
			o.expYear, _ = parseInt(n)
		}
	case legacySource:
		if o.md, f = c.metadata(o.md); f != nil {
			return nil, f
		}
	}
	c.emit("customer.source.updated", v)
	return v, nil
}

func removeSource(c *call, v view) (view, *stripeError) {
	c.emit("customer.source.deleted", v)
	if bank, ok := v.(*thing); ok {
		bank.deleted = true
		return &deletedView{"bank_account", bank.id}, nil
	}
	m := c.s.methods.byID[c.args[1]]
	if o := c.s.customers.byID[m.customer]; o != nil && o.defaultSource == m.id {
		o.defaultSource = ""
	}
	c.s.methods.relink(m, func() { m.customer = "" })
	return &deletedView{"card", m.id}, nil
}

func verifySource(c *call, v view) (view, *stripeError) {
	bank, ok := v.(*thing)
	if !ok {
		return nil, errInvalid("", "", "Only bank accounts can be verified.")
	}
	items, _ := c.p.get("amounts").items()
	right := len(items) == len(microdeposits)
	for i, n := range items {
		amount, _ := parseInt(n) // checked against its type
		right = right && amount == microdeposits[i]
	}
	if !right {
		return nil, errInvalid("amounts", "", "The amounts provided do not match the amounts that were sent to the bank account.")
	}
	bank.put("status", "verified")
	return bank, nil
}
