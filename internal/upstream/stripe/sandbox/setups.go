package sandbox

import "net/http"

// setupIntent makes an instrument ready for later payments.
type setupIntent struct {
	head
	customer, method, description string
	status, cancelReason          string
	secret, usage                 string
	types, options, automatic     string // JSON
	lastError                     *stripeError
	latest                        string // attempt
	onBehalfOf                    string
	session                       string // the checkout session it is for
}

func (o *setupIntent) links() []string {
	if o.customer == "" {
		return nil
	}
	return []string{"customer=" + o.customer}
}

func (o *setupIntent) open() bool {
	return o.status == needsMethod || o.status == needsConfirm || o.status == needsAction
}

func (o *setupIntent) render(e *enc, x *expansion) {
	e.open()
	e.str("id", o.id)
	e.constant(`"object":"setup_intent","application":null`)
	e.raw("automatic_payment_methods", o.automatic)
	e.opt("cancellation_reason", o.cancelReason)
	e.str("client_secret", o.secret)
	e.int("created", o.created)
	e.ref("customer", o.customer, x)
	e.null("customer_account")
	e.opt("description", o.description)
	e.constant(`"excluded_payment_method_types":null,"flow_directions":null`)
	o.lastError.renderLast(e, "last_setup_error")
	e.ref("latest_attempt", o.latest, x)
	e.bool("livemode", e.s.live())
	e.null("mandate")
	e.metadata(o.md)
	m := e.s.methods.byID[o.method]
	switch {
	case o.status != needsAction:
		e.null("next_action")
	case m != nil && m.typ == typeOfBank:
		e.raw("next_action", `{"type":"verify_with_microdeposits","verify_with_microdeposits":{"arrival_date":`+text(o.created+86_400)+
			`,"hosted_verification_url":"https://payments.stripe.com/microdeposit/`+o.id+`","microdeposit_type":"amounts"}}`)
	default:
		e.raw("next_action", `{"type":"use_stripe_sdk","use_stripe_sdk":{"type":"three_d_secure_redirect"}}`)
	}
	e.ref("on_behalf_of", o.onBehalfOf, x)
	e.ref("payment_method", o.method, x)
	e.raw("payment_method_options", o.options)
	e.raw("payment_method_types", o.types)
	e.null("single_use_mandate")
	e.str("status", o.status)
	e.str("usage", o.usage)
	e.close()
}

// setupAttempt is one confirmation of a setup intent.
type setupAttempt struct {
	head
	intent, customer, method, status, usage string
	failure                                 *stripeError
}

func (o *setupAttempt) links() []string { return []string{"setup_intent=" + o.intent} }

func (o *setupAttempt) render(e *enc, x *expansion) {
	e.open()
	e.str("id", o.id)
	e.constant(`"object":"setup_attempt","application":null`)
	e.int("created", o.created)
	e.ref("customer", o.customer, x)
	e.constant(`"customer_account":null,"flow_directions":null`)
	e.bool("livemode", e.s.live())
	e.null("on_behalf_of")
	e.ref("payment_method", o.method, x)
	typ := typeOfCard
	if m := e.s.methods.byID[o.method]; m != nil {
		typ = m.typ
	}
	e.raw("payment_method_details", `{"type":"`+typ+`"}`)
	o.failure.renderLast(e, "setup_error")
	e.ref("setup_intent", o.intent, x)
	e.str("status", o.status)
	e.str("usage", o.usage)
	e.close()
}

var setupRoutes = []*operation{
	get("/v1/setup_intents", "setup_intents", "list:setup_intent", func(c *call) (view, *stripeError) {
		link := ""
		if id := c.str("customer"); id != "" {
			link = "customer=" + id
		}
		return c.s.setups.page(c, link, func(o *setupIntent) bool {
			return !c.set("payment_method") || o.method == c.str("payment_method")
		})
	}),
	post("/v1/setup_intents", "setup_intents", "setup_intent", createSetup),
	get("/v1/setup_intents/{intent}", "setup_intents", "setup_intent", func(c *call) (view, *stripeError) {
		o, f := c.s.setups.get(c.args[0], "id")
		if f == nil && c.set("client_secret") && c.str("client_secret") != o.secret {
			return nil, errInvalid("client_secret", "", "The client_secret provided does not match the client_secret associated with the SetupIntent.")
		}
		return asView(o, f)
	}),
	post("/v1/setup_intents/{intent}", "setup_intents", "setup_intent", func(c *call) (view, *stripeError) {
		o, f := c.openSetup("update")
		if f != nil {
			return nil, f
		}
		if f := c.fillSetup(o); f != nil {
			return nil, f
		}
		return o, nil
	}),
	post("/v1/setup_intents/{intent}/confirm", "setup_intents", "setup_intent", func(c *call) (view, *stripeError) {
		o, f := c.openSetup("confirm")
		if f != nil {
			return nil, f
		}
		if secret := c.str("client_secret"); secret != "" && secret != o.secret {
			return nil, errInvalid("client_secret", "", "The client_secret provided does not match the client_secret associated with the SetupIntent.")
		}
		if f := c.fillSetup(o); f != nil {
			return nil, f
		}
		return asView(o, c.confirmSetup(o))
	}),
	post("/v1/setup_intents/{intent}/cancel", "setup_intents", "setup_intent", func(c *call) (view, *stripeError) {
		o, f := c.openSetup("cancel")
		if f != nil {
			return nil, f
		}
		if o.session != "" {
			return nil, errSetupState(o, "This SetupIntent belongs to a Checkout Session; expire the session instead.")
		}
		o.status, o.cancelReason = canceled, c.str("cancellation_reason")
		c.emit("setup_intent.canceled", o)
		return o, nil
	}),
	post("/v1/setup_intents/{intent}/verify_microdeposits", "setup_intents", "setup_intent", func(c *call) (view, *stripeError) {
		o, f := c.s.setups.get(c.args[0], "id")
		if f != nil {
			return nil, f
		}
		m := c.s.methods.byID[o.method]
		if o.status != needsAction || m == nil || m.typ != typeOfBank {
			return nil, errSetupState(o, "This SetupIntent does not wait for microdeposits to be verified.")
		}
		if f := c.deposits(); f != nil {
			return nil, f
		}
		m.verified = true
		return asView(o, c.setUp(o, m))
	}),
	get("/v1/setup_attempts", "setup_attempts", "list:setup_attempt", func(c *call) (view, *stripeError) {
		o, f := c.s.setups.get(c.str("setup_intent"), "setup_intent")
		if f != nil {
			return nil, f
		}
		return c.s.attempts.page(c, "setup_intent="+o.id, nil)
	}),
}

func errSetupState(o *setupIntent, message string) *stripeError {
	f := errInvalid("", "setup_intent_unexpected_state", message)
	f.setup = o
	return f
}

// openSetup is the setup intent that the path names, if it can still change.
func (c *call) openSetup(verb string) (*setupIntent, *stripeError) {
	o, f := c.s.setups.get(c.args[0], "id")
	if f == nil && !o.open() {
		return nil, errSetupState(o, "You cannot "+verb+" this SetupIntent because it has a status of "+o.status+".")
	}
	return o, f
}

func createSetup(c *call) (view, *stripeError) {
	o := c.newSetup()
	if c.set("usage") {
		o.usage = c.str("usage")
	}
	if c.set("automatic_payment_methods") {
		o.automatic = `{"allow_redirects":"always","enabled":` + map[bool]string{true: "true", false: "false"}[c.whole().sub("automatic_payment_methods").bool("enabled")] + `}`
	}
	if f := c.fillSetup(o); f != nil {
		return nil, f
	}
	c.s.setups.insert(o)
	c.emit("setup_intent.created", o)
	if c.bool("confirm") {
		return asView(o, c.confirmSetup(o))
	}
	return o, nil
}

func (c *call) newSetup() *setupIntent {
	o := &setupIntent{head: c.s.head("seti", c), status: needsMethod, usage: "off_session", types: `["card"]`,
		options: `{"card":{"mandate_options":null,"network":null,"request_three_d_secure":"automatic"}}`}
	o.secret = o.id + "_secret_" + c.s.random(c.s.ids, 25)
	return o
}

// fillSetup writes what create, update and confirm share. The customer may still change.
func (c *call) fillSetup(o *setupIntent) (f *stripeError) {
	if o.md, f = c.metadata(o.md); f != nil {
		return f
	}
	customer := o.customer
	if id := c.str("customer"); id != "" {
		if _, f := c.s.customers.get(id, "customer"); f != nil {
			return f
		}
		customer = id
	}
	n, param := c.p.get("payment_method"), "payment_method"
	if data := c.p.get("payment_method_data"); !data.blank() {
		n, param = data, "payment_method_data"
	}
	method := o.method
	if !n.blank() {
		m, f := c.payWith(n, param, customer)
		if f != nil {
			return f
		}
		method = m.id
		if o.status == needsMethod {
			o.status = needsConfirm
		}
	} else if m := c.s.methods.byID[method]; m != nil && m.customer != "" && m.customer != customer {
		return errNotAttached(m.id)
	}
	if id := c.str("on_behalf_of"); id != "" && c.s.connectedAccount(id) == nil {
		return errMissing("account", id, "on_behalf_of")
	}
	c.assign("on_behalf_of", &o.onBehalfOf)
	c.assign("description", &o.description)
	if c.set("payment_method_types") {
		o.types = string(c.p.get("payment_method_types").json(nil))
	}
	if _, stored := c.s.setups.byID[o.id]; stored {
		c.s.setups.relink(o, func() { o.customer = customer })
	}
	o.customer, o.method = customer, method
	return nil
}

// confirmSetup tries to make the method ready.
func (c *call) confirmSetup(o *setupIntent) *stripeError {
	m := c.s.methods.byID[o.method]
	if m == nil {
		return errSetupState(o, "You cannot confirm this SetupIntent because it's missing a payment method. Update the SetupIntent with a payment method and then confirm it again.")
	}
	if m.needsAction || m.typ == typeOfBank && !m.verified {
		o.status = needsAction
		c.attempt(o, m, "requires_action", nil)
		c.emit("setup_intent.requires_action", o)
		return nil
	}
	return c.setUp(o, m)
}

func (c *call) attempt(o *setupIntent, m *paymentMethod, status string, failure *stripeError) {
	a := &setupAttempt{head: c.s.head("setatt", c), intent: o.id, customer: o.customer, method: m.id, status: status, usage: o.usage, failure: failure}
	c.s.attempts.insert(a)
	o.latest = a.id
}

// setUp attaches the method, unless its bank says no.
func (c *call) setUp(o *setupIntent, m *paymentMethod) *stripeError {
	if m.decline != "" {
		f := errDeclined(m.decline, "")
		f.method = m
		o.lastError, o.status, o.method = f, needsMethod, ""
		c.attempt(o, m, "failed", f)
		c.emit("setup_intent.setup_failed", o)
		told := *f
		told.setup = o
		return &told
	}
	o.status, o.lastError = succeeded, nil
	if o.customer != "" && m.customer == "" {
		c.s.methods.relink(m, func() { m.customer = o.customer })
		c.emit("payment_method.attached", m)
	}
	c.attempt(o, m, "succeeded", nil)
	c.emit("setup_intent.succeeded", o)
	return nil
}

// authenticateSetup is what the customer of a setup intent in requires_action does.
func (c *call) authenticateSetup(id string, ok bool) *stripeError {
	o, f := c.s.setups.get(id, "id")
	if f != nil {
		return f
	}
	m := c.s.methods.byID[o.method]
	if o.status != needsAction || m == nil {
		f := errSetupState(nil, "SetupIntent "+id+" waits for nobody; its status is "+o.status+".")
		f.status = http.StatusConflict
		return f
	}
	if ok {
		// A decline after authentication is an outcome of the intent, not of this call.
		_ = c.setUp(o, m)
		return nil
	}
	o.lastError = &stripeError{typ: typeInvalid, code: "setup_intent_authentication_failure", message: "The provided PaymentMethod has failed authentication.", method: m}
	o.status, o.method = needsMethod, ""
	c.attempt(o, m, "failed", o.lastError)
	c.emit("setup_intent.setup_failed", o)
	return nil
}
