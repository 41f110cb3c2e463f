package sandbox

import (
	"maps"
	"slices"
	"strings"
)

const noRequirements = `{"alternatives":[],"current_deadline":null,"currently_due":[],"disabled_reason":null,"errors":[],"eventually_due":[],` +
	`"past_due":[],"pending_verification":[]}`

// accountModel is a connected account. Onboarding takes no time here: what is
// asked for is active at once.
var accountModel = &model{object: "account", prefix: "acct", resource: "accounts",
	own: []string{"capabilities", "company", "country", "type"},
	defaults: `{"business_profile":{"annual_revenue":null,"estimated_worker_count":null,"mcc":null,"name":null,"product_description":null,` +
		`"support_address":null,"support_email":null,"support_phone":null,"support_url":null,"url":null},"business_type":null,"capabilities":{},` +
		`"charges_enabled":false,"company":{"name":null,"phone":null,"tax_id_provided":false},"controller":{"fees":{"payer":"account"},"is_controller":true,` +
		`"losses":{"payments":"stripe"},"requirement_collection":"stripe","stripe_dashboard":{"type":"full"},"type":"application"},` +
		`"country":"US","created":0,"default_currency":"usd","details_submitted":true,"email":null,"external_accounts":null,` +
		`"future_requirements":` + noRequirements + `,"metadata":{},"payouts_enabled":false,"requirements":` + noRequirements + `,` +
		`"settings":{"bacs_debit_payments":{"display_name":null,"service_user_number":null},` +
		`"branding":{"icon":null,"logo":null,"primary_color":null,"secondary_color":null},` +
		`"card_issuing":{"tos_acceptance":{"date":null,"ip":null}},` +
		`"card_payments":{"decline_on":{"avs_failure":false,"cvc_failure":false},"statement_descriptor_prefix":null,` +
		`"statement_descriptor_prefix_kana":null,"statement_descriptor_prefix_kanji":null},` +
		`"dashboard":{"display_name":null,"timezone":"Etc/UTC"},"payments":{"statement_descriptor":null,"statement_descriptor_kana":null,` +
		`"statement_descriptor_kanji":null},"payouts":{"debit_negative_balances":true,"schedule":{"delay_days":2,"interval":"daily"},` +
		`"statement_descriptor":null},"sepa_debit_payments":{}},"tos_acceptance":{"date":null,"ip":null,"user_agent":null},"type":"none"}`}

var accountModels = []*model{accountModel}

var accountRoutes = []*operation{
	get("/v1/account", "account", "account", func(c *call) (view, *stripeError) { return c.s.self, nil }),
	get("/v1/accounts", "accounts", "list:account", list(accountModel)),
	post("/v1/accounts", "accounts", "account", createAccount),
	get("/v1/accounts/{account}", "accounts", "account", func(c *call) (view, *stripeError) {
		a, f := c.account(c.args[0])
		if f != nil {
			return nil, f
		}
		return a.self, nil
	}),
	post("/v1/accounts/{account}", "accounts", "account", updateAccount),
	remove("/v1/accounts/{account}", "accounts", deleteAccount),
	post("/v1/accounts/{account}/reject", "accounts", "account", rejectAccount),
	post("/v1/accounts/{account}/unreject", "accounts", "account", unrejectAccount),
	get("/v1/accounts/{account}/capabilities", "accounts.capabilities", "list:capability", listCapabilities),
	get("/v1/accounts/{account}/capabilities/{capability}", "accounts.capabilities", "capability", func(c *call) (view, *stripeError) {
		return asView(c.capability())
	}),
	post("/v1/accounts/{account}/capabilities/{capability}", "accounts.capabilities", "capability", updateCapability),
}

// newPlatform is the sandbox's own account.
func (s *Server) newPlatform(id string) *account {
	a := s.newAccount(id)
	a.self = &thing{head: head{id: id}, model: accountModel, fields: parseJSON(`{"business_profile":{"mcc":null,"name":"Keybrake Sandbox",` +
		`"product_description":null,"support_address":null,"support_email":null,"support_phone":null,"support_url":null,"url":null},` +
		`"business_type":"company","capabilities":{"card_payments":"active","transfers":"active"},"charges_enabled":true,"country":"US",` +
		`"default_currency":"usd","details_submitted":true,"email":"sandbox@example.com","metadata":{},"payouts_enabled":true,"type":"standard"}`)}
	fa := &thing{head: head{id: financialModel.prefix + id[len("acct"):]}, model: financialModel, fields: parseJSON(financialModel.defaults)}
	a.shelf(financialModel).insert(fa)
	return a
}

// account is the platform itself or one that is connected to it, as a path names it.
func (c *call) account(id string) (*account, *stripeError) {
	if id == c.s.accountID {
		return c.s, nil
	}
	if a := c.s.connectedAccount(id); a != nil && c.s == c.s.platform {
		return a, nil
	}
	return nil, errNoAccount(c.who, id)
}

// owned is account for what a platform may only do to others.
func (c *call) owned(id string) (*account, *stripeError) {
	a, f := c.account(id)
	if f == nil && a == c.s.platform {
		return nil, errInvalid("", "", "You cannot perform this request as you do not have access to the account '"+id+"' in this way: it is your own.")
	}
	return a, f
}

// homeCurrency is what an account of a country is paid in.
func homeCurrency(country string) string {
	for currency, countries := range map[string]string{"eur": " AT BE DE ES FI FR IE IT NL PT ", "gbp": " GB ", "jpy": " JP ", "cad": " CA ", "aud": " AU "} {
		if strings.Contains(countries, " "+country+" ") {
			return currency
		}
	}
	return "usd"
}

func createAccount(c *call) (view, *stripeError) {
	if c.s != c.s.platform {
		return nil, errForbidden("Only a platform can create accounts.")
	}
	o, f := c.newThing(accountModel)
	if f != nil {
		return nil, f
	}
	if country := strings.ToUpper(c.str("country")); country != "" {
		o.put("country", country)
		if !c.set("default_currency") {
			o.put("default_currency", homeCurrency(country))
		}
	}
	if typ := c.str("type"); typ != "" {
		if c.set("controller") {
			return nil, errInvalid("type", "", "You may not provide both the `type` and `controller` parameters.")
		}
		dashboard := map[string]string{"standard": "full", "express": "express", "custom": "none"}[typ]
		o.put("type", typ)
		o.fields["controller"] = merged(o.fields["controller"], map[string]any{"stripe_dashboard": map[string]any{"type": dashboard}})
	}
	a := c.s.connect(o)
	o.put("external_accounts", externalList{a})
	f = c.fillAccount(a, o)
	if f != nil {
		c.s.connected = c.s.connected[:len(c.s.connected)-1]
		return nil, f
	}
	c.s.shelf(accountModel).insert(o)
	c.emit("account.updated", o)
	return o, nil
}

// fillAccount is what create and update have in common.
func (c *call) fillAccount(a *account, o *thing) *stripeError {
	company := maps.Clone(o.fields["company"].(map[string]any))
	for _, name := range []string{"name", "phone", "address"} {
		if n := c.sub("company", name); n != nil {
			company[name] = c.op.params.members["company"].members[name].value(n)
		}
	}
	company["tax_id_provided"] = company["tax_id_provided"] == true || !c.sub("company", "tax_id").blank()
	o.put("company", company)
	if wanted := c.p.get("capabilities"); wanted != nil {
		for i, name := range wanted.keys {
			asked, _ := parseBool(wanted.vals[i].get("requested"))
			o.setCapability(name, asked)
		}
	}
	for _, name := range []string{"external_account", "bank_account"} {
		if n := c.p.get(name); !n.blank() {
			var f *stripeError
			c.within(a, func() { _, f = c.addExternal(n, name) })
			if f != nil {
				return f
			}
		}
	}
	o.put("charges_enabled", o.capability("card_payments") == "active", "payouts_enabled", a.things["external_account"].next > 0)
	return nil
}

func (o *thing) capability(name string) string { s, _ := o.at("capabilities", name).(string); return s }

// setCapability asks for a capability, or gives it up; one that is there is active.
func (o *thing) setCapability(name string, asked bool) {
	all := maps.Clone(o.fields["capabilities"].(map[string]any))
	delete(all, name)
	if asked {
		all[name] = "active"
	}
	o.put("capabilities", all)
}

func updateAccount(c *call) (view, *stripeError) {
	a, f := c.account(c.args[0])
	if f != nil {
		return nil, f
	}
	if a == c.s.platform {
		return nil, errForbidden("You cannot use this method on your own account: you may only use it on connected accounts.")
	}
	o := a.self
	next := &thing{head: o.head, model: accountModel, fields: maps.Clone(o.fields)}
	if f := c.fill(next); f != nil {
		return nil, f
	}
	if f := c.fillAccount(a, next); f != nil {
		return nil, f
	}
	o.md, o.fields = next.md, next.fields
	c.emit("account.updated", o)
	return o, nil
}

func deleteAccount(c *call) (view, *stripeError) {
	a, f := c.owned(c.args[0])
	if f != nil {
		return nil, f
	}
	for currency, amount := range a.ledgers {
		if amount != 0 {
			return nil, errInvalid("", "", "This account cannot be deleted: it has a balance in "+currency+".")
		}
	}
	a.self.deleted = true
	return &deletedView{"account", a.accountID}, nil
}

func rejectAccount(c *call) (view, *stripeError) {
	a, f := c.owned(c.args[0])
	if f != nil {
		return nil, f
	}
	reason := c.str("reason")
	if reason != "fraud" && reason != "terms_of_service" && reason != "other" {
		return nil, errInvalid("reason", "", "Invalid reason: must be one of fraud, terms_of_service, or other")
	}
	a.self.put("charges_enabled", false, "payouts_enabled", false)
	a.self.fields["requirements"] = merged(a.self.fields["requirements"], map[string]any{"disabled_reason": "rejected." + reason})
	c.emit("account.updated", a.self)
	return a.self, nil
}

func unrejectAccount(c *call) (view, *stripeError) {
	a, f := c.owned(c.args[0])
	if f != nil {
		return nil, f
	}
	reason, _ := a.self.at("requirements", "disabled_reason").(string)
	if !strings.HasPrefix(reason, "rejected.") {
		return nil, errInvalid("", "", "Account "+a.accountID+" is not rejected.")
	}
	a.self.fields["requirements"] = merged(a.self.fields["requirements"], map[string]any{"disabled_reason": nil})
	a.self.put("charges_enabled", a.self.capability("card_payments") == "active", "payouts_enabled", a.things["external_account"].next > 0)
	c.emit("account.updated", a.self)
	return a.self, nil
}

// capabilityView is one power of an account, asked for or not.
type capabilityView struct {
	account *thing
	name    string
}

func (o *capabilityView) render(e *enc, x *expansion) {
	status := o.account.capability(o.name)
	e.open()
	e.str("id", o.name)
	e.constant(`"object":"capability"`)
	e.ref("account", o.account.id, x)
	e.constant(`"future_requirements":` + noRequirements)
	e.bool("requested", status != "")
	if status == "" {
		e.constant(`"requested_at":null,"requirements":` + noRequirements + `,"status":"unrequested"`)
	} else {
		e.int("requested_at", o.account.created)
		e.constant(`"requirements":` + noRequirements)
		e.str("status", status)
	}
	e.close()
}

func listCapabilities(c *call) (view, *stripeError) {
	a, f := c.account(c.args[0])
	if f != nil {
		return nil, f
	}
	out := &listView{url: c.url()}
	for _, name := range capabilityNames() {
		if a.self.capability(name) != "" {
			out.data = append(out.data, &capabilityView{a.self, name})
		}
	}
	return out, nil
}

func (c *call) capability() (*capabilityView, *stripeError) {
	a, f := c.account(c.args[0])
	if f != nil {
		return nil, f
	}
	for _, name := range capabilityNames() {
		if name == c.args[1] {
			return &capabilityView{a.self, name}, nil
		}
	}
	return nil, errMissing("capability", c.args[1], "id")
}

func updateCapability(c *call) (view, *stripeError) {
	o, f := c.capability()
	if f != nil {
		return nil, f
	}
	if o.account == c.s.platform.self {
		return nil, errForbidden("You cannot update the capabilities of your own account.")
	}
	if c.set("requested") {
		o.account.setCapability(o.name, c.bool("requested"))
		o.account.put("charges_enabled", o.account.capability("card_payments") == "active")
		c.emit("account.updated", o.account)
	}
	return o, nil
}

// capabilityNames are those that the table of parameters knows, in order.
func capabilityNames() []string {
	return slices.Sorted(maps.Keys(loadParams()["POST /v1/accounts"].members["capabilities"].members))
}
