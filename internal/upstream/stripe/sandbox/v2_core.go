package sandbox

import (
	"maps"
	"strings"
)

// accountV2Model is a connected account as v2 sees it: the same account, with the
// same id, as v1 has it. It may also be a customer.
var accountV2Model = &model{object: "v2.core.account", noun: "account", prefix: "acct", resource: "v2.core.accounts", v2: true, path: "/v2/core/accounts",
	own: []string{"configuration"},
	defaults: `{"applied_configurations":[],"closed":false,"configuration":null,"contact_email":null,"contact_phone":null,"created":0,` +
		`"dashboard":"none","defaults":{"currency":"usd","responsibilities":{"fees_collector":"stripe","losses_collector":"stripe",` +
		`"requirements_collector":"stripe"}},"display_name":null,"future_requirements":{"entries":[]},"identity":{"country":"us"},"livemode":false,` +
		`"metadata":{},"requirements":{"entries":[]}}`}

var personV2Model = &model{object: "v2.core.account_person", noun: "person", prefix: "person_test", resource: "v2.core.accounts.persons", v2: true,
	links: []string{"account"}, own: []string{"id_numbers"},
	defaults: `{"account":"","additional_addresses":null,"additional_names":null,"additional_terms_of_service":null,"address":null,"created":0,` +
		`"date_of_birth":null,"email":null,"given_name":null,"legal_gender":null,"livemode":false,"metadata":{},"nationalities":null,"phone":null,` +
		`"political_exposure":null,"relationship":null,"script_addresses":null,"script_names":null,"surname":null,"updated":""}`}

// tokenV2Model is what somebody outside sent to become part of an account.
var (
	accountTokenModel = &model{object: "v2.core.account_token", noun: "account token", prefix: "accttok_test", resource: "v2.core.account_tokens", v2: true,
		defaults: `{"created":0,"expires_at":"","livemode":false,"used":false}`}
	personTokenModel = &model{object: "v2.core.account_person_token", noun: "person token", prefix: "perstok_test",
		resource: "v2.core.accounts.person_tokens", v2: true, defaults: `{"created":0,"expires_at":"","livemode":false,"used":false}`}
)

// destinationModel is where events are sent, outside.
var destinationModel = &model{object: "v2.core.event_destination", noun: "event destination", prefix: "ed_test", resource: "v2.core.event_destinations",
	v2: true, own: []string{"webhook_endpoint"},
	defaults: `{"created":0,"description":"","enabled_events":[],"event_payload":"thin","events_from":["self"],"livemode":false,"metadata":{},` +
		`"name":"","snapshot_api_version":null,"status":"enabled","type":"webhook_endpoint","updated":"","webhook_endpoint":null}`}

var coreV2Models = []*model{accountV2Model, personV2Model, accountTokenModel, personTokenModel, destinationModel}

var coreV2Routes = []*operation{
	get("/v2/core/accounts", accountV2Model.resource, kindNone, listV2(accountV2Model, func(c *call, o *thing) bool {
		applied, _ := o.fields["applied_configurations"].([]any)
		for _, name := range applied {
			if c.isOneOf("applied_configurations", name.(string)) {
				return true
			}
		}
		return !c.has("applied_configurations")
	})),
	post("/v2/core/accounts", accountV2Model.resource, kindNone, createAccountV2),
	get("/v2/core/accounts/{id}", accountV2Model.resource, kindNone, func(c *call) (view, *stripeError) {
		o, f := c.thing(accountV2Model, c.args[0], "id")
		return including{o, c}, f
	}),
	post("/v2/core/accounts/{id}", accountV2Model.resource, kindNone, updateAccountV2),
	post("/v2/core/accounts/{id}/close", accountV2Model.resource, kindNone, func(c *call) (view, *stripeError) {
		o, f := c.thing(accountV2Model, c.args[0], "id")
		if f != nil {
			return nil, f
		}
		o.put("closed", true)
		c.emitV2("v2.core.account.closed", o)
		return including{o, c}, nil
	}),
	get("/v2/core/accounts/{accountId}/persons", personV2Model.resource, kindNone, listV2(personV2Model, func(c *call, o *thing) bool {
		return o.str("account") == c.args[0]
	})),
	post("/v2/core/accounts/{accountId}/persons", personV2Model.resource, kindNone, create(personV2Model, "", fillPersonV2)),
	get("/v2/core/accounts/{accountId}/persons/{id}", personV2Model.resource, kindNone, func(c *call) (view, *stripeError) {
		return asView(c.personV2())
	}),
	post("/v2/core/accounts/{accountId}/persons/{id}", personV2Model.resource, kindNone, func(c *call) (view, *stripeError) {
		if _, f := c.personV2(); f != nil {
			return nil, f
		}
		return update(personV2Model, "", fillPersonV2)(c)
	}),
	remove("/v2/core/accounts/{accountId}/persons/{id}", personV2Model.resource, func(c *call) (view, *stripeError) {
		o, f := c.personV2()
		if f != nil {
			return nil, f
		}
		o.deleted = true
		return fieldsView{"id": o.id, "object": string(o.model.object)}, nil
	}),
	post("/v2/core/account_tokens", accountTokenModel.resource, kindNone, create(accountTokenModel, "", fillTokenV2)),
	get("/v2/core/account_tokens/{id}", accountTokenModel.resource, kindNone, retrieve(accountTokenModel)),
	post("/v2/core/accounts/{accountId}/person_tokens", personTokenModel.resource, kindNone, create(personTokenModel, "", fillTokenV2)),
	get("/v2/core/accounts/{accountId}/person_tokens/{id}", personTokenModel.resource, kindNone, retrieve(personTokenModel)),
	post("/v2/core/account_links", "v2.core.account_links", kindNone, func(c *call) (view, *stripeError) {
		o, f := c.thing(accountV2Model, c.str("account"), "account")
		if f != nil {
			return nil, f
		}
		return fieldsView{"object": "v2.core.account_link", "account": o.id, "created": stamp(c.now), "expires_at": stamp(c.now + 300),
			"livemode": c.s.live(), "url": "https://accounts.stripe.com/r/" + c.s.random(c.s.ids, 16),
			"use_case": c.op.params.members["use_case"].value(c.p.get("use_case"))}, nil
	}),
	get("/v2/core/event_destinations", destinationModel.resource, kindNone, listV2(destinationModel, nil)),
	post("/v2/core/event_destinations", destinationModel.resource, kindNone, func(c *call) (view, *stripeError) {
		v, f := create(destinationModel, "", fillDestination)(c)
		if f != nil {
			return nil, f
		}
		return including{v.(*thing), c}, nil
	}),
	get("/v2/core/event_destinations/{id}", destinationModel.resource, kindNone, func(c *call) (view, *stripeError) {
		o, f := c.thing(destinationModel, c.args[0], "id")
		return including{o, c}, f
	}),
	post("/v2/core/event_destinations/{id}", destinationModel.resource, kindNone, update(destinationModel, "", fillDestination)),
	remove("/v2/core/event_destinations/{id}", destinationModel.resource, func(c *call) (view, *stripeError) {
		o, f := c.thing(destinationModel, c.args[0], "id")
		if f != nil {
			return nil, f
		}
		o.deleted = true
		return fieldsView{"id": o.id, "object": string(o.model.object)}, nil
	}),
	post("/v2/core/event_destinations/{id}/disable", destinationModel.resource, kindNone, move(destinationModel, "status", "disabled", "", "enabled")),
	post("/v2/core/event_destinations/{id}/enable", destinationModel.resource, kindNone, move(destinationModel, "status", "enabled", "", "disabled")),
	post("/v2/core/event_destinations/{id}/ping", destinationModel.resource, kindNone, func(c *call) (view, *stripeError) {
		o, f := c.thing(destinationModel, c.args[0], "id")
		if f != nil {
			return nil, f
		}
		c.emitV2("v2.core.event_destination.ping", o)
		all := c.s.shelf(eventV2Model).order
		return all[len(all)-1], nil
	}),
}

// onRequest are the fields that v2 answers only to those who include them.
var onRequest = []string{"configuration.customer", "configuration.merchant", "configuration.recipient", "defaults", "future_requirements",
	"identity", "requirements", "webhook_endpoint.url", "webhook_endpoint.signing_secret"}

// including is a thing with the fields that a call includes.
type including struct {
	of *thing
	c  *call
}

func (o including) render(e *enc, x *expansion) {
	shown := &thing{head: o.of.head, model: o.of.model, fields: maps.Clone(o.of.fields)}
	for _, path := range onRequest {
		top, sub, nested := strings.Cut(path, ".")
		if _, ok := shown.fields[top]; !ok || o.c.has("include") && o.c.isOneOf("include", path) {
			continue
		}
		if !nested {
			shown.fields[top] = nil
		} else if m, ok := shown.fields[top].(map[string]any); ok {
			m = maps.Clone(m)
			delete(m, sub)
			shown.fields[top] = m
		}
	}
	shown.render(e, x)
}

func createAccountV2(c *call) (view, *stripeError) {
	if c.s != c.s.platform {
		return nil, errForbidden("Only a platform can create accounts.")
	}
	o, f := c.newThing(accountV2Model)
	if f != nil {
		return nil, f
	}
	v1 := c.bare(accountModel)
	v1.id = o.id
	a := c.s.connect(v1)
	v1.put("external_accounts", externalList{a}, "email", o.fields["contact_email"])
	if f := c.configure(o, v1); f != nil {
		c.s.connected = c.s.connected[:len(c.s.connected)-1]
		return nil, f
	}
	c.s.shelf(accountModel).insert(v1)
	c.s.shelf(accountV2Model).insert(o)
	c.emitV2("v2.core.account.created", o)
	return including{o, c}, nil
}

// configure applies the configurations of a call, to the account as v2 and as v1 see it.
func (c *call) configure(o, v1 *thing) *stripeError {
	if id, ok := o.fields["identity"].(map[string]any); ok {
		if country, _ := id["country"].(string); country != "" {
			v1.put("country", strings.ToUpper(country))
		}
	}
	configuration, _ := o.fields["configuration"].(map[string]any)
	configuration = maps.Clone(configuration)
	if configuration == nil {
		configuration = map[string]any{}
	}
	for _, name := range []string{"customer", "merchant", "recipient"} {
		n := c.sub("configuration", name)
		if n == nil {
			continue
		}
		part, _ := merged(configuration[name], c.op.params.members["configuration"].members[name].value(n)).(map[string]any)
		if part == nil {
			part = map[string]any{}
		}
		part["applied"] = true
		part["capabilities"] = c.grant(n.get("capabilities"), part["capabilities"])
		configuration[name] = part
	}
	var applied []any
	for _, name := range []string{"customer", "merchant", "recipient"} {
		if configuration[name] != nil {
			applied = append(applied, name)
		}
	}
	o.put("configuration", configuration, "applied_configurations", append([]any{}, applied...))
	v1.setCapability("transfers", configuration["recipient"] != nil)
	v1.setCapability("card_payments", configuration["merchant"] != nil)
	v1.put("charges_enabled", configuration["merchant"] != nil)
	return nil
}

// grant turns what is requested into what is there: everything, at once.
func (c *call) grant(asked *node, had any) any {
	if asked == nil || asked.kind != nodeMap {
		return had
	}
	out := map[string]any{}
	if m, ok := had.(map[string]any); ok {
		out = maps.Clone(m)
	}
	for i, name := range asked.keys {
		if v := asked.vals[i]; v.get("requested") != nil {
			out[name] = map[string]any{"status": "active", "status_details": []any{}}
		} else {
			out[name] = c.grant(v, nil)
		}
	}
	return out
}

func updateAccountV2(c *call) (view, *stripeError) {
	o, f := c.thing(accountV2Model, c.args[0], "id")
	if f != nil {
		return nil, f
	}
	if f := c.fill(o); f != nil {
		return nil, f
	}
	if f := c.configure(o, c.s.connectedAccount(o.id).self); f != nil {
		return nil, f
	}
	c.emitV2("v2.core.account.updated", o)
	return including{o, c}, nil
}

func (c *call) personV2() (*thing, *stripeError) {
	o, f := c.thing(personV2Model, c.args[1], "id")
	if f == nil && o.str("account") != c.args[0] {
		return nil, errMissing("person", c.args[1], "id")
	}
	return o, f
}

func fillPersonV2(c *call, o *thing) *stripeError {
	if _, f := c.thing(accountV2Model, c.args[0], "id"); f != nil {
		return f
	}
	o.put("account", c.args[0], "updated", stamp(c.now))
	return nil
}

func fillTokenV2(c *call, o *thing) *stripeError {
	o.put("expires_at", stamp(c.now+600))
	return nil
}

func fillDestination(c *call, o *thing) *stripeError {
	o.put("updated", stamp(c.now))
	if url := c.sub("webhook_endpoint", "url").text(); url != "" {
		o.put("webhook_endpoint", map[string]any{"url": url, "signing_secret": "whsec_" + c.s.random(c.s.ids, 32)})
	}
	return nil
}
