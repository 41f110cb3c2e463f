package sandbox

// transfer is money of the platform's that went to a connected account.
type transfer struct {
	head
	amount, reversed     int64 // minor units
	currency             string
	description          string
	destination, payment string // the account, and the payment it received
	source, group        string // the charge that it was made of, if any
	transaction          string
	sourceType           string
}

func (o *transfer) links() []string {
	keys := []string{"destination=" + o.destination}
	if o.source != "" {
		keys = append(keys, "source="+o.source)
	}
	return keys
}

func (o *transfer) render(e *enc, x *expansion) {
	e.open()
	e.str("id", o.id)
	e.str("object", "transfer")
	e.int("amount", o.amount)
	e.int("amount_reversed", o.reversed)
	e.ref("balance_transaction", o.transaction, x)
	e.int("created", o.created)
	e.str("currency", o.currency)
	e.opt("description", o.description)
	e.ref("destination", o.destination, x)
	e.foreign("destination_payment", o.payment, e.s.connectedAccount(o.destination), x)
	e.bool("livemode", e.s.live())
	e.metadata(o.md)
	e.key("reversals")
	newest(&e.s.reversals, "transfer="+o.id, "/v1/transfers/"+o.id+"/reversals").render(e, x.child("reversals"))
	e.bool("reversed", o.reversed >= o.amount)
	e.ref("source_transaction", o.source, x)
	if o.sourceType == "" {
		e.str("source_type", "card")
	} else {
		e.str("source_type", o.sourceType)
	}
	e.opt("transfer_group", o.group)
	e.close()
}

// newest is the first page of what an object shows of its own list.
func newest[T record](c *collection[T], link, url string) *listView {
	out := &listView{url: url}
	all := c.index[link]
	for i := len(all) - 1; i >= 0 && len(out.data) < defaultLimit; i-- {
		out.data = append(out.data, all[i])
	}
	out.more = len(all) > defaultLimit
	return out
}

// reversal is a part of a transfer that came back.
type reversal struct {
	head
	amount        int64 // minor units
	currency      string
	transfer      string
	destination   string // the account that it came back from
	transaction   string
	paymentRefund string // of the connected account's payment
	sourceRefund  string // of the platform's charge
}

func (o *reversal) links() []string { return []string{"transfer=" + o.transfer} }

func (o *reversal) render(e *enc, x *expansion) {
	e.open()
	e.str("id", o.id)
	e.str("object", "transfer_reversal")
	e.int("amount", o.amount)
	e.ref("balance_transaction", o.transaction, x)
	e.int("created", o.created)
	e.str("currency", o.currency)
	e.foreign("destination_payment_refund", o.paymentRefund, e.s.connectedAccount(o.destination), x)
	e.metadata(o.md)
	e.ref("source_refund", o.sourceRefund, x)
	e.ref("transfer", o.transfer, x)
	e.close()
}

var transferRoutes = []*operation{
	get("/v1/transfers", "transfers", "list:transfer", func(c *call) (view, *stripeError) {
		link := ""
		if to := c.str("destination"); to != "" {
			link = "destination=" + to
		}
		group := c.str("transfer_group")
		return c.s.transfers.page(c, link, func(o *transfer) bool { return group == "" || o.group == group })
	}),
	post("/v1/transfers", "transfers", "transfer", createTransfer),
	get("/v1/transfers/{transfer}", "transfers", "transfer", func(c *call) (view, *stripeError) {
		return asView(c.s.transfers.get(c.args[0], "id"))
	}),
	post("/v1/transfers/{transfer}", "transfers", "transfer", func(c *call) (view, *stripeError) {
		o, f := c.s.transfers.get(c.args[0], "id")
		if f != nil {
			return nil, f
		}
		if o.md, f = c.metadata(o.md); f != nil {
			return nil, f
		}
		c.assign("description", &o.description)
		c.emit("transfer.updated", o)
		return o, nil
	}),
	get("/v1/transfers/{id}/reversals", "transfers.reversals", "list:transfer_reversal", func(c *call) (view, *stripeError) {
		if _, f := c.s.transfers.get(c.args[0], "id"); f != nil {
			return nil, f
		}
		return c.s.reversals.page(c, "transfer="+c.args[0], nil)
	}),
	post("/v1/transfers/{id}/reversals", "transfers.reversals", "transfer_reversal", reverseTransfer),
	get("/v1/transfers/{transfer}/reversals/{id}", "transfers.reversals", "transfer_reversal", func(c *call) (view, *stripeError) {
		return asView(c.reversalOf(c.args[0], c.args[1]))
	}),
	post("/v1/transfers/{transfer}/reversals/{id}", "transfers.reversals", "transfer_reversal", func(c *call) (view, *stripeError) {
		o, f := c.reversalOf(c.args[0], c.args[1])
		if f != nil {
			return nil, f
		}
		if o.md, f = c.metadata(o.md); f != nil {
			return nil, f
		}
		return o, nil
	}),
}

func (c *call) reversalOf(transfer, id string) (*reversal, *stripeError) {
	if _, f := c.s.transfers.get(transfer, "id"); f != nil {
		return nil, f
	}
	o, f := c.s.reversals.get(id, "id")
	if f == nil && o.transfer != transfer {
		return nil, errMissing("transfer reversal", id, "id")
	}
	return o, f
}

func createTransfer(c *call) (view, *stripeError) {
	currency, f := c.currency("currency")
	if f != nil {
		return nil, f
	}
	if f := c.destination(c.str("destination"), "destination"); f != nil {
		return nil, f
	}
	t := &transfer{amount: c.amount("amount"), currency: currency, destination: c.str("destination"), description: c.str("description"),
		group: c.str("transfer_group"), source: c.str("source_transaction"), sourceType: c.str("source_type")}
	if f := c.fundTransfer(t); f != nil {
		return nil, f
	}
	if t.md, f = c.metadata(nil); f != nil {
		return nil, f
	}
	return c.send(t, 0), nil
}

// fundTransfer finds the money for a transfer: the balance, or the charge that it
// names. Of a charge, everything that is left is taken where no amount is given;
// Stripe's document does not say that, it only leaves amount optional.
func (c *call) fundTransfer(t *transfer) *stripeError {
	if t.source == "" {
		if !c.has("amount") {
			return errMissingParam("amount")
		}
		if f := positive("amount", t.amount); f != nil {
			return f
		}
		if t.amount > c.s.ledgers[t.currency] {
			return errInsufficient("", "You have insufficient available funds in your Stripe account. Try adding funds directly to your available balance.")
		}
		return nil
	}
	o, f := c.s.charges.get(t.source, "source_transaction")
	if f != nil {
		return f
	}
	left := o.captured
	for _, other := range c.s.transfers.index["source="+o.id] {
		left -= other.amount
	}
	if !c.has("amount") {
		t.amount = left
	}
	switch {
	case o.currency != t.currency:
		return errInvalid("currency", "", "The currency of source_transaction's balance transaction ("+o.currency+
			") must be the same as the transfer currency ("+t.currency+")")
	case left <= 0 || t.amount > left:
		return errInvalid("amount", "", "Transfers using this transaction as a source must not exceed the source amount of "+
			formatAmount(o.captured, o.currency)+". (There is already "+formatAmount(o.captured-left, o.currency)+" transferred.)")
	}
	if t.group == "" {
		if o.transferGroup == "" {
			o.transferGroup = "group_" + o.id
		}
		t.group = o.transferGroup
	}
	return positive("amount", t.amount)
}

func reverseTransfer(c *call) (view, *stripeError) {
	t, f := c.s.transfers.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	amount := t.amount - t.reversed
	if c.has("amount") {
		amount = c.amount("amount")
	}
	a := c.s.connectedAccount(t.destination)
	switch {
	case t.reversed >= t.amount:
		return nil, errInvalid("", "", "Transfer "+t.id+" is already fully reversed.")
	case a == nil:
		return nil, errNoAccount(c.who, t.destination)
	case amount > t.amount-t.reversed:
		return nil, errInvalid("amount", "", "Reversal amount ("+formatAmount(amount, t.currency)+") is greater than unreversed amount on transfer ("+
			formatAmount(t.amount-t.reversed, t.currency)+")")
	case amount > a.ledgers[t.currency]:
		return nil, errInsufficient("", "Cannot reverse this transfer: the connected account does not have enough available funds.")
	}
	if f := positive("amount", amount); f != nil {
		return nil, f
	}
	md, f := c.metadata(nil)
	if f != nil {
		return nil, f
	}
	if fee := c.s.fees.byID[c.feeOf(t)]; fee != nil && c.bool("refund_application_fee") {
		back := fee.amount - fee.refunded
		if amount < t.amount-t.reversed {
			back = min(mulDiv(fee.amount, amount, t.amount), back)
		}
		if back > 0 {
			c.refundFee(fee, back, nil)
		}
	}
	return c.reverse(t, amount, "", md), nil
}

// feeOf is the fee that was taken from the payment of a transfer.
func (c *call) feeOf(t *transfer) string {
	if a := c.s.connectedAccount(t.destination); a != nil {
		if py := a.charges.byID[t.payment]; py != nil {
			return py.feeID
		}
	}
	return ""
}

// reverse pulls money of a transfer back, for a refund of the platform's if one is named.
func (c *call) reverse(t *transfer, amount int64, refundID string, md pairs) *reversal {
	r := &reversal{head: c.s.head("trr", c), amount: amount, currency: t.currency, transfer: t.id, destination: t.destination, sourceRefund: refundID}
	r.md = md
	t.reversed += amount
	r.transaction = c.book(booking{typ: "transfer_refund", source: r.id, currency: t.currency, amount: amount}).id
	c.within(c.s.connectedAccount(t.destination), func() {
		py := c.s.charges.byID[t.payment]
		back := &refund{head: c.s.head("pyr", c), amount: amount, currency: t.currency, charge: t.payment, status: "succeeded", sourceReversal: r.id}
		back.transaction = c.book(booking{typ: "payment_refund", source: back.id, currency: t.currency, amount: -amount}).id
		c.s.refunds.insert(back)
		r.paymentRefund = back.id
		if py != nil {
			py.refundedMoney += amount
			c.emit("charge.refunded", py)
		}
	})
	c.s.reversals.insert(r)
	c.effect(EffectTransferBack, r.id, t.id, "", amount, t.currency)
	c.emit("transfer.reversed", t)
	return r
}
