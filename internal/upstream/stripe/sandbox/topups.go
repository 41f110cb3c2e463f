package sandbox

// topup is money pulled from the platform's own bank into its balance.
type topup struct {
	head
	amount      int64 // minor units
	currency    string
	description string
	descriptor  string
	group       string
	status      string
	transaction string
	failure     string
}

func (o *topup) links() []string { return nil }

func (o *topup) render(e *enc, x *expansion) {
	e.open()
	e.str("id", o.id)
	e.str("object", "topup")
	e.int("amount", o.amount)
	e.ref("balance_transaction", o.transaction, x)
	e.int("created", o.created)
	e.str("currency", o.currency)
	e.opt("description", o.description)
	e.int("expected_availability_date", o.created)
	e.opt("failure_code", o.failure)
	if o.failure == "" {
		e.null("failure_message")
	} else {
		e.str("failure_message", "The bank refused the debit.")
	}
	e.str("initiated_by", "user")
	e.bool("livemode", e.s.live())
	e.metadata(o.md)
	e.null("source")
	e.opt("statement_descriptor", o.descriptor)
	e.str("status", o.status)
	e.opt("transfer_group", o.group)
	e.close()
}

var topupRoutes = []*operation{
	get("/v1/topups", "topups", "list:topup", func(c *call) (view, *stripeError) {
		status := c.str("status")
		within := rangeFilter(c.p.get("amount"))
		return c.s.topups.page(c, "", func(o *topup) bool { return (status == "" || o.status == status) && within(o.amount) })
	}),
	post("/v1/topups", "topups", "topup", createTopup),
	get("/v1/topups/{topup}", "topups", "topup", func(c *call) (view, *stripeError) {
		return asView(c.s.topups.get(c.args[0], "id"))
	}),
	post("/v1/topups/{topup}", "topups", "topup", func(c *call) (view, *stripeError) {
		o, f := c.s.topups.get(c.args[0], "id")
		if f != nil {
			return nil, f
		}
		if o.md, f = c.metadata(o.md); f != nil {
			return nil, f
		}
		c.assign("description", &o.description)
		return o, nil
	}),
	post("/v1/topups/{topup}/cancel", "topups", "topup", func(c *call) (view, *stripeError) {
		o, f := c.s.topups.get(c.args[0], "id")
		if f != nil {
			return nil, f
		}
		if o.status != "pending" {
			return nil, errInvalid("", "", "Top-up "+o.id+" cannot be canceled: its status is "+o.status+", not pending.")
		}
		o.status = canceled
		c.emit("topup.canceled", o)
		return o, nil
	}),
}

func createTopup(c *call) (view, *stripeError) {
	currency, f := c.currency("currency")
	if f != nil {
		return nil, f
	}
	if f := positive("amount", c.amount("amount")); f != nil {
		return nil, f
	}
	o := &topup{head: c.s.head("tu", c), amount: c.amount("amount"), currency: currency, description: c.str("description"),
		descriptor: c.str("statement_descriptor"), group: c.str("transfer_group"), status: "pending"}
	if o.md, f = c.metadata(nil); f != nil {
		return nil, f
	}
	c.s.topups.insert(o)
	c.emit("topup.created", o)
	return o, nil
}

// setTopup is what the bank does to a top-up: the money arrives, does not, or is
// taken back later.
func (c *call) setTopup(id, status string) *stripeError {
	o, f := c.s.topups.get(id, "id")
	if f != nil {
		return f
	}
	switch {
	case status == succeeded && o.status == "pending":
		o.transaction = c.book(booking{typ: "topup", source: o.id, description: o.description, currency: o.currency, amount: o.amount}).id
		c.effect(EffectTopup, o.id, "", "", o.amount, o.currency)
	case status == "failed" && o.status == "pending":
		o.failure = "insufficient_funds"
	case status == "reversed" && o.status == succeeded:
		c.book(booking{typ: "topup_reversal", source: o.id, description: o.description, currency: o.currency, amount: -o.amount})
		c.effect(EffectTopupBack, o.id, "", "", o.amount, o.currency)
	default:
		return errInvalid("status", "", "Top-up "+id+" cannot go from "+o.status+" to "+status+".")
	}
	o.status = status
	c.emit("topup."+status, o)
	return nil
}
