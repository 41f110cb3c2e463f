package sandbox

import (
	"fmt"
	"maps"
	"time"
)

// payoutMethodModel is where an account can be paid: a bank account or a card.
var payoutMethodModel = &model{object: "v2.money_management.payout_method", noun: "payout method", prefix: "pyom_test", v2: true,
	resource: "v2.money_management.payout_methods", path: "/v2/money_management/payout_methods",
	defaults: `{"archived":false,"bank_account":null,"card":null,"created":0,"latest_outbound_setup_intent":null,"livemode":false,` +
		`"restricted":false,"type":"bank_account","usage_status":{"payments":"eligible","transfers":"eligible"}}`}

// setupModel is the making of a payout method.
var setupModel = &model{object: "v2.money_management.outbound_setup_intent", noun: "outbound setup intent", prefix: "obsi_test", v2: true,
	resource: "v2.money_management.outbound_setup_intents", path: "/v2/money_management/outbound_setup_intents", own: []string{"payout_method"},
	defaults: `{"created":0,"livemode":false,"payout_method":null,"status":"requires_payout_method","usage_intent":"payment"}`}

// payoutIntentModel is a payment or transfer that is to be made: now, on a day, or
// when it is confirmed.
var payoutIntentModel = &model{object: "v2.money_management.payout_intent", noun: "payout intent", prefix: "pyi_test", v2: true,
	resource: "v2.money_management.payout_intents", path: "/v2/money_management/payout_intents", own: []string{"amount", "from", "to"},
	defaults: `{"amount":null,"confirmation_method":"automatic","created":0,"description":null,"estimated_fees":[],"from":null,"fx_quote":null,` +
		`"latest_payout":null,"livemode":false,"metadata":{},"next_action":null,"recipient_notification":null,"schedule_options":null,` +
		`"statement_descriptor":null,"status":"pending","status_transitions":{},"to":null}`}

var payoutV2Models = []*model{payoutMethodModel, setupModel, payoutIntentModel}

var payoutV2Routes = []*operation{
	get("/v2/money_management/outbound_setup_intents", setupModel.resource, kindNone, listV2(setupModel, nil)),
	post("/v2/money_management/outbound_setup_intents", setupModel.resource, kindNone, create(setupModel, "", setUp)),
	get("/v2/money_management/outbound_setup_intents/{id}", setupModel.resource, kindNone, retrieve(setupModel)),
	post("/v2/money_management/outbound_setup_intents/{id}", setupModel.resource, kindNone, update(setupModel, "", setUp)),
	post("/v2/money_management/outbound_setup_intents/{id}/cancel", setupModel.resource, kindNone,
		move(setupModel, "status", canceled, "", "requires_payout_method", "requires_action")),
	get("/v2/money_management/payout_methods", payoutMethodModel.resource, kindNone, listV2(payoutMethodModel, nil)),
	get("/v2/money_management/payout_methods/{id}", payoutMethodModel.resource, kindNone, retrieve(payoutMethodModel)),
	post("/v2/money_management/payout_methods/{id}/archive", payoutMethodModel.resource, kindNone, archive(payoutMethodModel, true)),
	post("/v2/money_management/payout_methods/{id}/unarchive", payoutMethodModel.resource, kindNone, archive(payoutMethodModel, false)),
	get("/v2/money_management/payout_methods_bank_account_spec", payoutMethodModel.resource, kindNone, func(c *call) (view, *stripeError) {
		return fieldsView{"object": "v2.money_management.payout_methods_bank_account_spec", "livemode": c.s.live(), "countries": map[string]any{}}, nil
	}),
	get("/v2/money_management/payout_intents", payoutIntentModel.resource, kindNone, listV2(payoutIntentModel, nil)),
	post("/v2/money_management/payout_intents", payoutIntentModel.resource, kindNone, createPayoutIntent),
	get("/v2/money_management/payout_intents/{id}", payoutIntentModel.resource, kindNone, retrieve(payoutIntentModel)),
	post("/v2/money_management/payout_intents/{id}", payoutIntentModel.resource, kindNone, updatePayoutIntent),
	post("/v2/money_management/payout_intents/{id}/cancel", payoutIntentModel.resource, kindNone, cancelPayoutIntent),
	post("/v2/money_management/payout_intents/{id}/confirm", payoutIntentModel.resource, kindNone, confirmPayoutIntent),
	post("/v2/money_management/payout_intents/{id}/refresh_fx_quote", payoutIntentModel.resource, kindNone, func(c *call) (view, *stripeError) {
		o, f := c.thing(payoutIntentModel, c.args[0], "id")
		if f != nil {
			return nil, f
		}
		return asView(o, c.quote(o))
	}),
	post("/v2/money_management/payout_intents/{id}/refresh_recipient_verification", payoutIntentModel.resource, kindNone, retrieve(payoutIntentModel)),
}

// archive puts a thing away, or takes it out again.
func archive(m *model, away bool) handler {
	return func(c *call) (view, *stripeError) {
		o, f := c.thing(m, c.args[0], "id")
		if f != nil {
			return nil, f
		}
		o.put("archived", away)
		return o, nil
	}
}

// setUp makes a payout method of the account that calls, or names one.
func setUp(c *call, o *thing) *stripeError {
	if id := c.str("payout_method"); id != "" {
		m, f := c.thing(payoutMethodModel, id, "payout_method")
		if f != nil {
			return f
		}
		o.put("payout_method", m, "status", succeeded)
		return nil
	}
	data := c.p.get("payout_method_data")
	if data.blank() {
		return nil
	}
	m := c.bare(payoutMethodModel)
	m.put("type", data.get("type").text(), "latest_outbound_setup_intent", o.id)
	switch data.get("type").text() {
	case "card":
		m.put("card", map[string]any{"exp_month": "8", "exp_year": "2030", "fingerprint": "5556Qm7xT1vL2k", "last4": "5556", "supported_currencies": []any{"usd"}})
	default:
		bank := data.get("bank_account")
		number := bank.get("account_number").text()
		if len(number) < 4 {
			return errV2("invalid_payout_method", "invalid_payout_method", "The account number is not valid.")
		}
		m.put("bank_account", map[string]any{"bank_account_type": "checking", "bank_name": "STRIPE TEST BANK", "country": bank.get("country").text(),
			"last4": number[len(number)-4:], "supported_currencies": []any{bank.get("currency").text()}})
	}
	c.s.shelf(payoutMethodModel).insert(m)
	o.put("payout_method", m, "status", succeeded)
	return nil
}

func createPayoutIntent(c *call) (view, *stripeError) {
	from, f := c.readOrder()
	if f != nil {
		return nil, f
	}
	o, f := c.newThing(payoutIntentModel)
	if f != nil {
		return nil, f
	}
	c.aim(o, from)
	if f := c.quote(o); f != nil {
		return nil, f
	}
	c.s.shelf(payoutIntentModel).insert(o)
	c.emitV2("v2.money_management.payout_intent.created", o)
	if o.str("confirmation_method") == "manual" {
		c.ask(o, map[string]any{"type": "confirm", "confirm": map[string]any{"reason": "manually_requested", "fields_to_review": []any{}}})
		return o, nil
	}
	c.payWhenDue(o)
	return o, nil
}

// aim writes what is to be sent where.
func (c *call) aim(o *thing, from order) {
	to := map[string]any{"currency": from.to, "payout_method": from.method.id}
	if from.recipient != "" {
		to["recipient"] = from.recipient
	}
	o.put("amount", money(from.value, from.to), "to", to,
		"from", map[string]any{"currency": from.from, "financial_account": from.account.id})
}

// order is what an intent is to send.
func (c *call) orderOf(o *thing) (from order, f *stripeError) {
	from.value, from.to = asInt(o.at("amount", "value")), fmt.Sprint(o.at("amount", "currency"))
	from.from = fmt.Sprint(o.at("from", "currency"))
	from.recipient, _ = o.at("to", "recipient").(string)
	owner := c.s
	if from.recipient != "" {
		owner = c.s.connectedAccount(from.recipient)
	}
	if owner != nil {
		from.method = owner.shelf(payoutMethodModel).byID[fmt.Sprint(o.at("to", "payout_method"))]
	}
	if from.method == nil {
		return from, errV2("invalid_payout_method", "payout_method_does_not_exist", "The payout method of "+o.id+" is gone.")
	}
	from.account, f = c.openFinancial(fmt.Sprint(o.at("from", "financial_account")), "from.financial_account")
	return from, f
}

// quote writes what an intent in another currency will take.
func (c *call) quote(o *thing) *stripeError {
	from, to := fmt.Sprint(o.at("from", "currency")), fmt.Sprint(o.at("amount", "currency"))
	debited, f := exchange(asInt(o.at("amount", "value")), from, to)
	if f != nil {
		return f
	}
	o.fields["from"] = merged(o.fields["from"], map[string]any{"debited": money(debited, from)})
	if from != to {
		o.put("fx_quote", map[string]any{"lock_duration": "five_minutes", "lock_expires_at": stamp(c.now + 300), "lock_status": "active",
			"rates": map[string]any{from: map[string]any{"exchange_rate": fmt.Sprintf("%.6f", float64(worth[to])/float64(worth[from]))}}, "to_currency": to})
	}
	return nil
}

// ask makes an intent wait for its owner.
func (c *call) ask(o *thing, action map[string]any) {
	o.put("status", "requires_action", "next_action", action)
	o.fields["status_transitions"] = merged(o.fields["status_transitions"], map[string]any{"requires_action_at": stamp(c.now)})
	c.emitV2("v2.money_management.payout_intent.requires_action", o)
}

// payWhenDue pays at once, or leaves the intent pending until its day.
func (c *call) payWhenDue(o *thing) {
	o.put("status", "pending", "next_action", nil)
	if day, _ := o.at("schedule_options", "execute_on").(string); day > stamp(c.now)[:10] {
		if at, err := time.Parse(time.DateOnly, day); err == nil {
			c.s.agenda.add(at.Unix(), func(c *call) {
				if o.str("status") == "pending" {
					c.payWhenDue(o)
				}
			})
		}
		return
	}
	from, f := c.orderOf(o)
	m := outboundModel
	if from.recipient == "" {
		m = ownModel
	}
	var sent *thing
	if f == nil {
		sent, f = c.sendOrder(m, from)
	}
	if f != nil {
		reason := f.typ
		if reason != "insufficient_funds" {
			reason = "payout_method_invalid"
		}
		c.ask(o, map[string]any{"type": "handle_failure", "handle_failure": map[string]any{"failure_reason": reason}})
		return
	}
	sent.md = o.md
	sent.put("payout_intent", o.id, "description", o.fields["description"])
	if text := o.str("statement_descriptor"); text != "" {
		sent.put("statement_descriptor", text)
	}
	c.emitV2(string(m.object)+".created", sent)
	o.put("status", processing, "latest_payout", map[string]any{"type": m.flow(), m.flow(): sent.id})
	o.fields["from"] = merged(o.fields["from"], map[string]any{"debited": sent.at("from", "debited")})
	o.fields["status_transitions"] = merged(o.fields["status_transitions"], map[string]any{"processing_at": stamp(c.now)})
	c.emitV2("v2.money_management.payout_intent.processing", o)
}

// followPayout is an intent learning what became of its payment.
func (c *call) followPayout(o *thing, status string) {
	if status == "failed" || status == "returned" {
		reason := map[string]string{"failed": "payout_method_declined", "returned": "payout_method_closed"}[status]
		c.ask(o, map[string]any{"type": "handle_failure", "handle_failure": map[string]any{"failure_reason": reason}})
		return
	}
	o.put("status", status)
	o.fields["status_transitions"] = merged(o.fields["status_transitions"], map[string]any{status + "_at": stamp(c.now)})
	c.emitV2("v2.money_management.payout_intent."+status, o)
}

// waiting is an intent that can still be changed.
func (c *call) waiting() (*thing, *stripeError) {
	o, f := c.thing(payoutIntentModel, c.args[0], "id")
	if status := ""; f == nil {
		if status = o.str("status"); status != "pending" && status != "requires_action" {
			return nil, errV2("cannot_proceed", "cannot_proceed", o.id+" cannot be changed: its status is "+status+".")
		}
	}
	return o, f
}

func updatePayoutIntent(c *call) (view, *stripeError) {
	o, f := c.waiting()
	if f != nil {
		return nil, f
	}
	next := &thing{head: o.head, model: o.model, fields: maps.Clone(o.fields)}
	if f := c.fill(next); f != nil {
		return nil, f
	}
	if to := c.p.get("to"); !to.blank() {
		from, f := c.orderOf(o)
		if f != nil {
			return nil, f
		}
		recipient := from.recipient
		if f := c.readTarget(&from); f != nil {
			return nil, f
		}
		if from.recipient == "" {
			from.recipient = recipient
		}
		c.aim(next, from)
		if f := c.quote(next); f != nil {
			return nil, f
		}
	}
	o.md, o.fields = next.md, next.fields
	return o, nil
}

func confirmPayoutIntent(c *call) (view, *stripeError) {
	o, f := c.thing(payoutIntentModel, c.args[0], "id")
	if f != nil {
		return nil, f
	}
	if o.str("status") != "requires_action" {
		return nil, errV2("cannot_proceed", "cannot_proceed", o.id+" does not wait for confirmation: its status is "+o.str("status")+".")
	}
	c.payWhenDue(o)
	return o, nil
}

func cancelPayoutIntent(c *call) (view, *stripeError) {
	o, f := c.thing(payoutIntentModel, c.args[0], "id")
	if f != nil {
		return nil, f
	}
	switch o.str("status") {
	case "pending", "requires_action":
		c.followPayout(o, canceled)
		o.put("next_action", nil)
		return o, nil
	case processing:
		typ, _ := o.at("latest_payout", "type").(string)
		m := map[string]*model{outboundModel.flow(): outboundModel, ownModel.flow(): ownModel}[typ]
		sent, f := c.thing(m, fmt.Sprint(o.at("latest_payout", typ)), "id")
		if f == nil {
			f = c.cancelSent(sent)
		}
		return asView(o, f)
	}
	return nil, errV2("not_cancelable", "not_cancelable", o.id+" cannot be canceled: its status is "+o.str("status")+".")
}
