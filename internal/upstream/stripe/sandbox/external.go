package sandbox

import (
	"slices"
	"strings"
)

// externalModel is the shelf of an account's banks and debit cards, where its
// payouts go. What lies on it is one of the two models after it.
var externalModel = &model{object: "external_account", noun: "external account", resource: "accounts.external_accounts"}

var bankModel = &model{object: "bank_account", prefix: "ba",
	defaults: `{"account":null,"account_holder_name":null,"account_holder_type":null,"account_type":null,"available_payout_methods":["standard"],` +
		`"bank_name":"STRIPE TEST BANK","country":"US","currency":"usd","default_for_currency":false,"fingerprint":null,"last4":"","metadata":{},` +
		`"routing_number":null,"status":"new"}`}

var debitCardModel = &model{object: "card", prefix: "card",
	defaults: `{"account":null,"address_city":null,"address_country":null,"address_line1":null,"address_line1_check":null,"address_line2":null,` +
		`"address_state":null,"address_zip":null,"address_zip_check":null,"allow_redisplay":"unspecified",` +
		`"available_payout_methods":["standard","instant"],"brand":"Visa","country":"US","currency":"usd","cvc_check":"pass",` +
		`"default_for_currency":false,"dynamic_last4":null,"exp_month":8,"exp_year":2030,"fingerprint":null,"funding":"debit","last4":"5556",` +
		`"metadata":{},"name":null,"regulated_status":"unregulated","tokenization_method":null}`}

const personNeedsNothing = `{"alternatives":[],"currently_due":[],"errors":[],"eventually_due":[],"past_due":[],"pending_verification":[]}`

// personModel is one of the people behind an account.
var personModel = &model{object: "person", prefix: "person", resource: "accounts.persons",
	defaults: `{"account":"","address":{"city":null,"country":null,"line1":null,"line2":null,"postal_code":null,"state":null},"created":0,` +
		`"dob":{"day":null,"month":null,"year":null},"email":null,"first_name":null,"last_name":null,"full_name_aliases":[],"maiden_name":null,` +
		`"metadata":{},"nationality":null,"phone":null,"political_exposure":"none","id_number_provided":false,"ssn_last_4_provided":false,` +
		`"relationship":{"authorizer":false,"director":false,"executive":false,"legal_guardian":false,"owner":false,"percent_ownership":null,` +
		`"representative":false,"title":null},"requirements":` + personNeedsNothing + `,"future_requirements":` + personNeedsNothing + `,` +
		`"verification":{"additional_document":null,"details":null,"details_code":null,"document":{"back":null,"details":null,` +
		`"details_code":null,"front":null},"status":"verified"}}`}

var externalModels = []*model{externalModel, personModel}

var externalRoutes = slices.Concat(
	externalsUnder("/v1/accounts/{account}/external_accounts"),
	externalsUnder("/v1/accounts/{account}/bank_accounts"),
	personsUnder("/v1/accounts/{account}/persons"),
	personsUnder("/v1/accounts/{account}/people"),
	[]*operation{
		post("/v1/external_accounts/{id}", "accounts.external_accounts", kindAny, func(c *call) (view, *stripeError) {
			return c.updateExternal(c.s)
		}),
		post("/v1/accounts/{account}/login_links", "accounts.login_links", kindNone, func(c *call) (view, *stripeError) {
			a, f := c.owned(c.args[0])
			if f != nil {
				return nil, f
			}
			return &linkView{"login_link", "https://connect.stripe.com/express/" + a.accountID + "/" + c.s.random(c.s.ids, 12), c.now, 0}, nil
		}),
		post("/v1/account_links", "account_links", kindNone, func(c *call) (view, *stripeError) {
			a, f := c.owned(c.str("account"))
			if f != nil {
				return nil, f
			}
			return &linkView{"account_link", "https://connect.stripe.com/setup/" + a.accountID + "/" + c.s.random(c.s.ids, 12), c.now, c.now + 300}, nil
		}),
		post("/v1/account_sessions", "account_sessions", kindNone, createAccountSession),
	},
)

// linkView is an address that works for whoever has it.
type linkView struct {
	object, url    string
	created, until int64
}

func (o *linkView) render(e *enc, _ *expansion) {
	e.open()
	e.str("object", o.object)
	e.int("created", o.created)
	if o.until != 0 {
		e.int("expires_at", o.until)
	}
	e.str("url", o.url)
	e.close()
}

var accountSessionModel = &model{object: "account_session", own: []string{"components"},
	defaults: `{"account":"","client_secret":"","components":null,"expires_at":0,"livemode":false}`}

// sessionView is a thing without an id of its own.
type sessionView struct{ *thing }

func (o sessionView) render(e *enc, _ *expansion) {
	e.b = append(e.b, '{')
	e.str("object", string(o.model.object))
	for _, name := range []string{"account", "client_secret", "components", "expires_at"} {
		e.key(name)
		e.value(o.fields[name], nil)
	}
	e.bool("livemode", e.s.live())
	e.close()
}

func createAccountSession(c *call) (view, *stripeError) {
	a, f := c.owned(c.str("account"))
	if f != nil {
		return nil, f
	}
	o := &thing{model: accountSessionModel, fields: parseJSON(accountSessionModel.defaults)}
	o.put("account", a.accountID, "client_secret", "accs_secret__"+c.s.random(c.s.ids, 24), "expires_at", c.now+3600,
		"components", merged(off(c.op.params.members["components"].typ), c.op.params.members["components"].value(c.p.get("components"))))
	return sessionView{o}, nil
}

// off is a value with every switch of a type turned off.
func off(t *typ) any {
	if t.boolean {
		return false
	}
	all := map[string]any{}
	for name, m := range t.members {
		all[name] = off(m.typ)
	}
	return all
}

// externalList is what an account shows of its banks and cards.
type externalList struct{ of *account }

func (l externalList) render(e *enc, x *expansion) {
	out := &listView{url: "/v1/accounts/" + l.of.accountID + "/external_accounts"}
	all := l.of.things[externalModel.object].order
	for i := len(all) - 1; i >= 0 && len(out.data) < defaultLimit; i-- {
		if !all[i].deleted {
			out.data = append(out.data, all[i])
		}
	}
	out.render(e, x)
}

// externalsUnder are the routes of external accounts below a path: there is an
// older one that does the same.
func externalsUnder(path string) []*operation {
	const resource = "accounts.external_accounts"
	// of runs a handler on the books of the account in the path.
	of := func(do func(*call, *account) (view, *stripeError)) handler {
		return func(c *call) (v view, f *stripeError) {
			a, f := c.account(c.args[0])
			if f != nil {
				return nil, f
			}
			c.within(a, func() { v, f = do(c, a) })
			return v, f
		}
	}
	routes := []*operation{
		post(path, resource, kindAny, of(func(c *call, a *account) (view, *stripeError) {
			for _, name := range []string{"external_account", "bank_account"} {
				if n := c.p.get(name); !n.blank() {
					return asView(c.addExternal(n, name))
				}
			}
			return nil, errMissingParam("external_account")
		})),
		get(path+"/{id}", resource, kindAny, of(func(c *call, a *account) (view, *stripeError) {
			return asView(c.thing(externalModel, c.args[1], "id"))
		})),
		post(path+"/{id}", resource, kindAny, of(func(c *call, a *account) (view, *stripeError) { return c.updateExternal(a) })),
		remove(path+"/{id}", resource, of(func(c *call, a *account) (view, *stripeError) { return c.deleteExternal(a) })),
	}
	if strings.HasSuffix(path, "/external_accounts") {
		routes = append(routes, get(path, resource, "list:bank_account", of(func(c *call, a *account) (view, *stripeError) {
			want := kind(c.str("object"))
			return c.s.shelf(externalModel).page(c, "", func(o *thing) bool { return want == "" || o.model.object == want })
		})))
	}
	return routes
}

// addExternal makes a bank account or a debit card out of a parameter and adds it
// to the account whose books the call is on. The first of its currency is where
// that currency is paid out.
func (c *call) addExternal(n *node, param string) (*thing, *stripeError) {
	o, f := c.bankOrCard(n, param)
	if f != nil {
		return nil, f
	}
	a := c.s
	o.put("account", a.accountID, "default_for_currency", false)
	if md, f := c.metadata(nil); f == nil && c.op.pattern != "/v1/accounts" {
		o.md = md
	}
	first := a.payoutTarget(o.str("currency")) == nil
	a.shelf(externalModel).insert(o)
	if first || c.bool("default_for_currency") {
		a.setPayoutTarget(o)
	}
	a.self.put("payouts_enabled", true)
	c.emit("account.external_account.created", o)
	return o, nil
}

// bankOrCard reads a bank account or a debit card: a token, a test name, or the
// numbers themselves.
func (c *call) bankOrCard(n *node, param string) (*thing, *stripeError) {
	id := n.text()
	if v, f := c.spendToken(id, param, "bank_account"); f != nil || v != nil {
		o, _ := v.(*thing)
		return o, f
	}
	switch {
	case n.kind == nodeMap && n.get("object").text() == "card", strings.HasPrefix(id, "tok_"):
		o := c.bare(debitCardModel)
		o.put("fingerprint", "5556Qm7xT1vL2k", "currency", c.s.currency())
		return o, nil
	case n.kind == nodeMap:
		return c.bankOf(n, param)
	case strings.HasPrefix(id, "btok_"):
		o := c.bare(bankModel)
		country := "US"
		if rest, _, ok := strings.Cut(strings.TrimPrefix(id, "btok_"), "_"); ok && len(rest) == 2 {
			country = strings.ToUpper(rest)
		}
		o.put("country", country, "currency", homeCurrency(country), "last4", "6789", "routing_number", "110000000", "fingerprint", "6789Bk4nR0tE9s")
		if strings.HasSuffix(id, "_verified") {
			o.put("status", "verified")
		}
		return o, nil
	}
	return nil, errMissing("token", id, param)
}

// bare is a thing with the defaults of its model.
func (c *call) bare(m *model) *thing {
	return &thing{head: c.s.head(m.prefix, c), model: m, fields: parseJSON(m.defaults)}
}

// currency is what the account is paid in unless it says otherwise.
func (a *account) currency() string {
	if code := a.self.str("default_currency"); code != "" {
		return code
	}
	return "usd"
}

func (c *call) bankOf(n *node, param string) (*thing, *stripeError) {
	number := n.get("account_number").text()
	if len(number) < 4 {
		return nil, errInvalid(param+"[account_number]", "account_number_invalid", "Invalid account number")
	}
	o := c.bare(bankModel)
	country := strings.ToUpper(n.get("country").text())
	o.put("country", country, "currency", homeCurrency(country), "last4", number[len(number)-4:], "fingerprint", number[len(number)-4:]+"Bk4nR0tE9s")
	for _, name := range []string{"account_holder_name", "account_holder_type", "account_type", "routing_number", "currency"} {
		if v := n.get(name); !v.blank() {
			o.put(name, v.text())
		}
	}
	o.put("currency", strings.ToLower(o.str("currency")))
	return o, nil
}

// payoutTarget is where the account's payouts of a currency go; nil if nowhere.
func (a *account) payoutTarget(currency string) *thing {
	for _, o := range a.shelf(externalModel).order {
		if !o.deleted && o.str("currency") == currency && o.fields["default_for_currency"] == true {
			return o
		}
	}
	return nil
}

func (a *account) setPayoutTarget(o *thing) {
	for _, other := range a.shelf(externalModel).order {
		if other.str("currency") == o.str("currency") {
			other.put("default_for_currency", other == o)
		}
	}
}

func (c *call) updateExternal(a *account) (view, *stripeError) {
	o, f := c.thing(externalModel, c.args[len(c.args)-1], "id")
	if f != nil {
		return nil, f
	}
	makeDefault := c.bool("default_for_currency")
	c.p.remove("default_for_currency")
	if f := c.fill(o); f != nil {
		return nil, f
	}
	if makeDefault {
		a.setPayoutTarget(o)
	}
	c.emit("account.external_account.updated", o)
	return o, nil
}

func (c *call) deleteExternal(a *account) (view, *stripeError) {
	o, f := c.thing(externalModel, c.args[1], "id")
	if f != nil {
		return nil, f
	}
	if o.fields["default_for_currency"] == true {
		return nil, errInvalid("", "", "You cannot delete the default external account for a currency. Make another one the default first.")
	}
	o.deleted = true
	c.emit("account.external_account.deleted", o)
	return &deletedView{string(o.model.object), o.id}, nil
}

// personsUnder are the routes of people below a path: there is an older one that
// does the same.
func personsUnder(path string) []*operation {
	const resource = "accounts.persons"
	of := func(do handler) handler {
		return func(c *call) (v view, f *stripeError) {
			a, f := c.account(c.args[0])
			if f != nil {
				return nil, f
			}
			c.within(a, func() { v, f = do(c) })
			return v, f
		}
	}
	fill := func(c *call, o *thing) *stripeError {
		o.put("account", c.s.accountID)
		if c.set("id_number") {
			o.put("id_number_provided", true)
		}
		if c.set("ssn_last_4") || c.set("id_number") {
			o.put("ssn_last_4_provided", true)
		}
		return nil
	}
	return []*operation{
		get(path, resource, "list:person", of(func(c *call) (view, *stripeError) {
			want := c.p.get("relationship")
			return c.s.shelf(personModel).page(c, "", func(o *thing) bool {
				for i, name := range mapKeys(want) {
					asked, _ := parseBool(want.vals[i])
					if o.at("relationship", name) != asked {
						return false
					}
				}
				return true
			})
		})),
		post(path, resource, "person", of(create(personModel, "person.created", fill))),
		get(path+"/{person}", resource, "person", of(retrieve(personModel))),
		post(path+"/{person}", resource, "person", of(update(personModel, "person.updated", fill))),
		remove(path+"/{person}", resource, of(discard(personModel, "person.deleted"))),
	}
}

// mapKeys are the keys of a parameter that is a map; none otherwise.
func mapKeys(n *node) []string {
	if n == nil {
		return nil
	}
	return n.keys
}
