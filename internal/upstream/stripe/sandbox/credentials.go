package sandbox

import "strings"

// What hands out something that works without the key that made it.
var credentialRoutes = []*operation{
	post("/v1/ephemeral_keys", "ephemeral_keys", kindNone, func(c *call) (view, *stripeError) {
		if id := c.str("customer"); id != "" {
			if _, f := c.s.customers.get(id, "customer"); f != nil {
				return nil, f
			}
		} else if !c.set("issuing_card") && !c.set("verification_session") {
			return nil, errInvalid("customer", "parameter_missing", "You must provide one of customer, issuing_card or verification_session.")
		}
		id := c.s.id("ephkey")
		return fieldsView{"id": id, "object": "ephemeral_key", "created": c.now, "expires": c.now + 3600, "livemode": c.s.live(),
			"secret": "ek_" + string(c.s.opts.Mode) + "_" + c.s.random(c.s.ids, 40)}, nil
	}),
	remove("/v1/ephemeral_keys/{key}", "ephemeral_keys", func(c *call) (view, *stripeError) {
		if !strings.HasPrefix(c.args[0], "ephkey_") {
			return nil, errMissing("ephemeral key", c.args[0], "id")
		}
		return fieldsView{"id": c.args[0], "object": "ephemeral_key", "created": c.now, "expires": c.now, "livemode": c.s.live()}, nil
	}),
	post("/v1/customer_sessions", "customer_sessions", "customer_session", func(c *call) (view, *stripeError) {
		o, f := c.s.customers.get(c.str("customer"), "customer")
		if f != nil {
			return nil, f
		}
		return fieldsView{"object": "customer_session", "client_secret": o.id + "_secret_" + c.s.random(c.s.ids, 24), "created": c.now,
			"customer": o.id, "customer_account": nil, "expires_at": c.now + 1800, "livemode": c.s.live()}, nil
	}),
	post("/v1/terminal/connection_tokens", "terminal.connection_tokens", kindNone, func(c *call) (view, *stripeError) {
		return fieldsView{"object": "terminal.connection_token", "secret": "pst_" + string(c.s.opts.Mode) + "_" + c.s.random(c.s.ids, 40)}, nil
	}),
}
