package sandbox

// applicationFee is what the platform took of a payment to a connected account.
type applicationFee struct {
	head
	amount, refunded int64 // minor units
	currency         string
	account, charge  string // who paid it, and out of which payment
	origin           string // the platform's own charge behind that, if any
	transaction      string
}

func (o *applicationFee) links() []string { return []string{"charge=" + o.charge} }

func (o *applicationFee) render(e *enc, x *expansion) {
	e.open()
	e.str("id", o.id)
	e.str("object", "application_fee")
	e.ref("account", o.account, x)
	e.int("amount", o.amount)
	e.int("amount_refunded", o.refunded)
	e.str("application", applicationID)
	e.ref("balance_transaction", o.transaction, x)
	e.foreign("charge", o.charge, e.s.connectedAccount(o.account), x)
	e.int("created", o.created)
	e.str("currency", o.currency)
	e.key("fee_source")
	e.open()
	e.str("charge", o.charge)
	e.str("type", "charge")
	e.close()
	e.bool("livemode", e.s.live())
	e.ref("originating_transaction", o.origin, x)
	e.bool("refunded", o.refunded >= o.amount)
	e.key("refunds")
	newest(&e.s.feeRefunds, "fee="+o.id, "/v1/application_fees/"+o.id+"/refunds").render(e, x.child("refunds"))
	e.close()
}

// applicationID is the platform as an application.
const applicationID = "ca_SandboxPlatform"

// feeRefund is a part of a fee that was given back.
type feeRefund struct {
	head
	amount                     int64 // minor units
	currency, fee, transaction string
}

func (o *feeRefund) links() []string { return []string{"fee=" + o.fee} }

func (o *feeRefund) render(e *enc, x *expansion) {
	e.open()
	e.str("id", o.id)
	e.str("object", "fee_refund")
	e.int("amount", o.amount)
	e.ref("balance_transaction", o.transaction, x)
	e.int("created", o.created)
	e.str("currency", o.currency)
	e.ref("fee", o.fee, x)
	e.metadata(o.md)
	e.close()
}

var feeRoutes = []*operation{
	get("/v1/application_fees", "application_fees", "list:application_fee", func(c *call) (view, *stripeError) {
		link := ""
		if id := c.str("charge"); id != "" {
			link = "charge=" + id
		}
		return c.s.fees.page(c, link, nil)
	}),
	get("/v1/application_fees/{id}", "application_fees", "application_fee", func(c *call) (view, *stripeError) {
		return asView(c.s.fees.get(c.args[0], "id"))
	}),
	post("/v1/application_fees/{id}/refund", "application_fees.refunds", "application_fee", func(c *call) (view, *stripeError) {
		o, _, f := c.giveBack()
		return asView(o, f) // the legacy route answers with the fee
	}),
	get("/v1/application_fees/{id}/refunds", "application_fees.refunds", "list:fee_refund", func(c *call) (view, *stripeError) {
		if _, f := c.s.fees.get(c.args[0], "id"); f != nil {
			return nil, f
		}
		return c.s.feeRefunds.page(c, "fee="+c.args[0], nil)
	}),
	post("/v1/application_fees/{id}/refunds", "application_fees.refunds", "fee_refund", func(c *call) (view, *stripeError) {
		_, r, f := c.giveBack()
		return asView(r, f)
	}),
	get("/v1/application_fees/{fee}/refunds/{id}", "application_fees.refunds", "fee_refund", func(c *call) (view, *stripeError) {
		return asView(c.feeRefundOf(c.args[0], c.args[1]))
	}),
	post("/v1/application_fees/{fee}/refunds/{id}", "application_fees.refunds", "fee_refund", func(c *call) (view, *stripeError) {
		o, f := c.feeRefundOf(c.args[0], c.args[1])
		if f != nil {
			return nil, f
		}
		if o.md, f = c.metadata(o.md); f != nil {
			return nil, f
		}
		c.emit("application_fee.refund.updated", o)
		return o, nil
	}),
}

func (c *call) feeRefundOf(fee, id string) (*feeRefund, *stripeError) {
	if _, f := c.s.fees.get(fee, "id"); f != nil {
		return nil, f
	}
	o, f := c.s.feeRefunds.get(id, "id")
	if f == nil && o.fee != fee {
		return nil, errMissing("fee refund", id, "id")
	}
	return o, f
}

// giveBack refunds the fee that the path names, in part or whole.
func (c *call) giveBack() (*applicationFee, *feeRefund, *stripeError) {
	o, f := c.s.fees.get(c.args[0], "id")
	if f != nil {
		return nil, nil, f
	}
	rest := o.amount - o.refunded
	amount := rest
	if c.has("amount") {
		amount = c.amount("amount")
	}
	if rest == 0 {
		return nil, nil, errInvalid("", "", "Application fee "+o.id+" has already been refunded.")
	}
	if f := positive("amount", amount); f != nil {
		return nil, nil, f
	}
	if amount > rest {
		return nil, nil, errInvalid("amount", "", "Refund amount ("+formatAmount(amount, o.currency)+") is greater than unrefunded amount on fee ("+
			formatAmount(rest, o.currency)+")")
	}
	md, f := c.metadata(nil)
	if f != nil {
		return nil, nil, f
	}
	return o, c.refundFee(o, amount, md), nil
}

// refundFee gives a part of a fee back to the account that paid it.
func (c *call) refundFee(o *applicationFee, amount int64, md pairs) *feeRefund {
	r := &feeRefund{amount: amount, currency: o.currency, fee: o.id}
	c.within(c.s.platform, func() {
		r.head = c.s.head("fr", c)
		r.md = md
		o.refunded += amount
		r.transaction = c.book(booking{typ: "application_fee_refund", source: r.id, currency: o.currency, amount: -amount}).id
		c.s.feeRefunds.insert(r)
		c.effect(EffectFeeRefund, r.id, o.id, "", amount, o.currency)
	})
	if a := c.s.connectedAccount(o.account); a != nil {
		c.within(a, func() {
			c.book(booking{typ: "application_fee_refund", source: r.id, currency: o.currency, amount: amount})
		})
	}
	c.within(c.s.platform, func() { c.emit("application_fee.refunded", o) })
	return r
}
