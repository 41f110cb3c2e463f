package sandbox

// sharing says who else gets part of a payment, and through whose name it goes:
// transfer_data, application_fee_amount and on_behalf_of.
type sharing struct {
	destination string // the connected account that the money goes on to; empty for nobody
	share       int64  // transfer_data[amount] in minor units, if hasShare
	hasShare    bool
	fee         int64 // application_fee_amount in minor units, if hasFee
	hasFee      bool
	onBehalfOf  string
}

// renderShare writes transfer_data of an intent or charge.
func (t *sharing) renderShare(e *enc, x *expansion) {
	if t.destination == "" {
		e.null("transfer_data")
		return
	}
	e.key("transfer_data")
	e.open()
	if t.hasShare {
		e.int("amount", t.share)
	}
	e.ref("destination", t.destination, x.child("transfer_data"))
	e.close()
}

func (t *sharing) renderFee(e *enc) {
	if t.hasFee {
		e.int("application_fee_amount", t.fee)
	} else {
		e.null("application_fee_amount")
	}
}

// readSharing merges the parameters of a payment of amount into t.
func (c *call) readSharing(t sharing, amount int64) (sharing, *stripeError) {
	to, param := c.sub("transfer_data"), "transfer_data[destination]"
	destination := to.get("destination")
	if legacy := c.p.get("destination"); !legacy.blank() {
		to, destination, param = legacy, legacy.get("account"), "destination"
		if legacy.kind == nodeString {
			destination = legacy
		}
	}
	if !destination.blank() {
		if f := c.destination(destination.text(), param); f != nil {
			return t, f
		}
		t.destination = destination.text()
	}
	if n := to.get("amount"); n != nil {
		if t.destination == "" {
			return t, errInvalid("transfer_data[amount]", "", "You cannot set transfer_data[amount] without a transfer_data[destination].")
		}
		t.share, _ = parseInt(n)
		t.hasShare = true
	}
	if id := c.str("on_behalf_of"); id != "" {
		if c.s.connectedAccount(id) == nil {
			return t, errMissing("account", id, "on_behalf_of")
		}
		t.onBehalfOf = id
	}
	for _, name := range []string{"application_fee_amount", "application_fee"} {
		if n := c.p.get(name); n != nil {
			t.fee, _ = parseInt(n)
			t.hasFee = !n.blank()
		}
	}
	return t, c.checkSharing(&t, amount)
}

// destination checks an account that money is to go to.
func (c *call) destination(id, param string) *stripeError {
	a := c.s.connectedAccount(id)
	if a == nil || c.s != c.s.platform {
		return errMissing("destination", id, param)
	}
	if a.self.capability("transfers") == "" && a.self.capability("legacy_payments") == "" && a.self.capability("crypto_transfers") == "" {
		return errInvalid(param, "insufficient_capabilities_for_transfer", "Your destination account needs to have at least one of the following "+
			"capabilities enabled: transfers, crypto_transfers, legacy_payments")
	}
	return nil
}

func (c *call) checkSharing(t *sharing, amount int64) *stripeError {
	switch {
	case t.hasFee && t.destination == "" && c.s == c.s.platform:
		return errInvalid("application_fee_amount", "", "Can only apply an application_fee when the request is made on behalf of another account "+
			"(using an OAuth key, the Stripe-Account header, or the destination parameter).")
	case t.hasFee && t.hasShare:
		return errInvalid("application_fee_amount", "", "You may not provide the application_fee_amount parameter and the transfer_data[amount] parameter "+
			"simultaneously.")
	case t.hasFee && (t.fee < 0 || t.fee > amount):
		return errInvalid("application_fee_amount", "", "The application fee must be a positive integer that is no more than the amount of the payment.")
	case t.hasShare && (t.share <= 0 || t.share > amount):
		return errInvalid("transfer_data[amount]", "", "The transfer amount must be a positive integer that is no more than the amount of the payment.")
	}
	return nil
}

// pass sends on what a payment shares: the transfer to its destination, and the
// fee out of the connected account's money. Captured is what came in just now.
func (c *call) pass(o *charge, captured int64) {
	if o.destination == "" {
		if o.hasFee && o.fee > 0 && c.s != c.s.platform {
			o.feeID = c.takeFee(c.s, o.id, "", min(o.fee, captured), o.currency)
		}
		return
	}
	amount := captured
	if o.hasShare {
		amount = min(o.share, captured)
	}
	fee := int64(0)
	if o.hasFee {
		fee = min(o.fee, captured)
	}
	if o.transferGroup == "" {
		o.transferGroup = "group_" + o.id
		if o.intent != "" {
			o.transferGroup = "group_" + o.intent
		}
	}
	t := c.send(&transfer{amount: amount, currency: o.currency, destination: o.destination, source: o.id, group: o.transferGroup}, fee)
	o.transfers = append(o.transfers, t.id)
	if fee > 0 {
		o.feeID = c.takeFee(c.s.connectedAccount(o.destination), t.payment, o.id, fee, o.currency)
	}
}

// send moves money of the platform to a connected account, which receives it as a
// payment of its own. Of that, fee is going to be taken at once.
func (c *call) send(t *transfer, fee int64) *transfer {
	md := t.md
	t.head = c.s.head("tr", c)
	t.md = md
	t.transaction = c.book(booking{typ: "transfer", source: t.id, description: t.description, currency: t.currency, amount: -t.amount}).id
	py := &charge{head: c.s.head("py", c), amount: t.amount, currency: t.currency, status: "succeeded", isCaptured: true, captured: t.amount,
		sourceTransfer: t.id, transferGroup: t.group}
	t.payment = py.id
	c.within(c.s.connectedAccount(t.destination), func() {
		py.transaction = c.book(booking{typ: "payment", source: py.id, currency: t.currency, amount: t.amount, appFee: fee}).id
		c.s.charges.insert(py)
		c.emit("payment.created", py)
	})
	c.s.transfers.insert(t)
	c.effect(EffectTransfer, t.id, t.destination, "", t.amount, t.currency)
	c.emit("transfer.created", t)
	return t
}

// takeFee gives the platform its fee on a payment that from received; it is part
// of that payment's booking already. Charge is the payment, origin the platform's
// own charge behind it, if there is one.
func (c *call) takeFee(from *account, charge, origin string, amount int64, currency string) string {
	o := &applicationFee{amount: amount, currency: currency, account: from.accountID, charge: charge, origin: origin}
	c.within(c.s.platform, func() {
		o.head = c.s.head("fee", c)
		o.transaction = c.book(booking{typ: "application_fee", source: o.id, currency: currency, amount: amount}).id
		c.s.fees.insert(o)
		c.effect(EffectFee, o.id, charge, "", amount, currency)
		c.emit("application_fee.created", o)
	})
	if py := from.charges.byID[charge]; py != nil {
		py.feeID, py.fee, py.hasFee = o.id, amount, true
	}
	return o.id
}

// returns is what a refund takes back from others beside the money of the charge.
type returns struct {
	transfers []*transfer
	back      []int64 // of each transfer
	fee       *applicationFee
	feeBack   int64
}

// planReturns works out what a refund of amount takes back: reverse_transfer and
// refund_application_fee, in proportion, and all of the rest with the last refund.
func (c *call) planReturns(o *charge, amount int64) (r returns, f *stripeError) {
	last := amount == o.captured-o.refundedMoney
	part := func(of, gone int64) int64 {
		if last {
			return of - gone
		}
		return min(mulDiv(of, amount, o.captured), of-gone)
	}
	if c.bool("refund_application_fee") {
		r.fee = c.s.platform.fees.byID[o.feeID]
		if r.fee == nil {
			return r, errInvalid("refund_application_fee", "", "Cannot refund the application fee of charge "+o.id+" because it has none.")
		}
		r.feeBack = part(r.fee.amount, r.fee.refunded)
	}
	if c.bool("reverse_transfer") {
		if len(o.transfers) == 0 {
			return r, errInvalid("reverse_transfer", "", "Cannot reverse transfer on charge "+o.id+" because it does not have an associated transfer.")
		}
		sum := int64(0)
		for _, id := range o.transfers {
			t, ok := c.s.transfers.byID[id]
			if !ok {
				continue // dropped at the bound
			}
			back := part(t.amount, t.reversed)
			r.transfers, r.back, sum = append(r.transfers, t), append(r.back, back), sum+back
		}
		if a := c.s.connectedAccount(o.destination); a == nil || a.ledgers[o.currency]+r.feeBack < sum {
			return r, errInsufficient("reverse_transfer", "The connected account does not have a balance that covers the reversal of its transfer.")
		}
	}
	return r, nil
}

// takeBack does what was planned, for the refund with this id; it returns the id
// of the (last) reversal.
func (c *call) takeBack(r returns, refund string) (reversal string) {
	if r.feeBack > 0 {
		c.refundFee(r.fee, r.feeBack, nil)
	}
	for i, t := range r.transfers {
		if r.back[i] > 0 {
			reversal = c.reverse(t, r.back[i], refund, nil).id
		}
	}
	return reversal
}

func errInsufficient(param, message string) *stripeError {
	return errInvalid(param, "balance_insufficient", message)
}

// mulDiv is a*b/c rounded down, for money whose product may not fit.
func mulDiv(a, b, c int64) int64 { return a/c*b + a%c*b/c }
