package sandbox

import "net/http"

type payout struct {
	head
	amount                         int64 // minor units; negative for a reversal
	currency, description, method  string
	destination, descriptor        string
	status                         string
	transaction, failedTransaction string
	failure                        string
	original, reversedBy           string
	automatic                      bool
	card                           bool // the destination is a debit card
}

func (o *payout) links() []string { return nil }

func (o *payout) render(e *enc, x *expansion) {
	e.open()
	e.str("id", o.id)
	e.str("object", "payout")
	e.int("amount", o.amount)
	e.constant(`"application_fee":null,"application_fee_amount":null`)
	e.int("arrival_date", o.created)
	e.bool("automatic", o.automatic)
	e.ref("balance_transaction", o.transaction, x)
	e.int("created", o.created)
	e.str("currency", o.currency)
	e.opt("description", o.description)
	e.ref("destination", o.destination, x)
	e.ref("failure_balance_transaction", o.failedTransaction, x)
	e.opt("failure_code", o.failure)
	if o.failure != "" {
		e.str("failure_message", "The bank account could not be located.")
	} else {
		e.null("failure_message")
	}
	e.bool("livemode", e.s.live())
	e.metadata(o.md)
	e.str("method", o.method)
	e.ref("original_payout", o.original, x)
	e.null("payout_method")
	e.str("reconciliation_status", "not_applicable")
	e.ref("reversed_by", o.reversedBy, x)
	e.str("source_type", "card")
	e.opt("statement_descriptor", o.descriptor)
	e.str("status", o.status)
	e.null("trace_id")
	if o.card {
		e.str("type", "card")
	} else {
		e.str("type", "bank_account")
	}
	e.close()
}

var payoutRoutes = []*operation{
	get("/v1/payouts", "payouts", "list:payout", func(c *call) (view, *stripeError) {
		status, destination := c.str("status"), c.str("destination")
		return c.s.payouts.page(c, "", func(o *payout) bool {
			return (status == "" || o.status == status) && (destination == "" || o.destination == destination)
		})
	}),
	post("/v1/payouts", "payouts", "payout", createPayout),
	get("/v1/payouts/{payout}", "payouts", "payout", func(c *call) (view, *stripeError) {
		return asView(c.s.payouts.get(c.args[0], "id"))
	}),
	post("/v1/payouts/{payout}", "payouts", "payout", func(c *call) (view, *stripeError) {
		o, f := c.s.payouts.get(c.args[0], "id")
		if f != nil {
			return nil, f
		}
		if o.md, f = c.metadata(o.md); f != nil {
			return nil, f
		}
		c.emit("payout.updated", o)
		return o, nil
	}),
	post("/v1/payouts/{payout}/cancel", "payouts", "payout", cancelPayout),
	post("/v1/payouts/{payout}/reverse", "payouts", "payout", reversePayout),
}

func createPayout(c *call) (view, *stripeError) {
	currency, f := c.currency("currency")
	if f != nil {
		return nil, f
	}
	amount := c.amount("amount")
	if f := positive("amount", amount); f != nil {
		return nil, f
	}
	if amount > c.s.ledgers[currency] {
		return nil, errInvalid("amount", "balance_insufficient", "You have insufficient funds in your Stripe account for this transfer. "+
			"Your card balance is too low.")
	}
	o := &payout{head: c.s.head("po", c), amount: amount, currency: currency, description: c.str("description"), method: "standard",
		destination: "ba_" + c.s.accountID[len("acct_"):], descriptor: c.str("statement_descriptor"), status: "pending"}
	if c.set("method") {
		o.method = c.str("method")
	}
	if f := c.payoutTo(o); f != nil {
		return nil, f
	}
	if o.md, f = c.metadata(nil); f != nil {
		return nil, f
	}
	c.sendPayout(o)
	return o, nil
}

// sendPayout takes the money of a payout out of the balance.
func (c *call) sendPayout(o *payout) {
	o.transaction = c.book(booking{typ: "payout", source: o.id, description: "STRIPE PAYOUT", currency: o.currency, amount: -o.amount}).id
	c.s.payouts.insert(o)
	c.effect(EffectPayout, o.id, "", "", o.amount, o.currency)
	c.emit("payout.created", o)
}

// payoutTo finds where a payout goes: where the call says, or where the account
// has its currency paid out. The platform has one bank for every currency.
func (c *call) payoutTo(o *payout) *stripeError {
	id := c.str("destination")
	if c.s == c.s.platform {
		if id != "" && id != o.destination {
			return errMissing("external account", id, "destination")
		}
		return nil
	}
	target := c.s.payoutTarget(o.currency)
	if id != "" {
		var f *stripeError
		if target, f = c.thing(externalModel, id, "destination"); f != nil {
			return f
		}
	}
	if target == nil {
		return errInvalid("destination", "", "Sorry, you don't have any external accounts in that currency ("+o.currency+").")
	}
	o.destination = target.id
	o.card = target.model == debitCardModel
	return nil
}

// undo ends a payout whose money came back.
func (c *call) undo(o *payout, status, bookAs string) {
	o.status = status
	o.failedTransaction = c.book(booking{typ: bookAs, source: o.id, description: "STRIPE PAYOUT", currency: o.currency, amount: o.amount}).id
	c.effect(EffectPayoutBack, o.id, "", "", o.amount, o.currency)
	c.emit("payout."+status, o)
}

func cancelPayout(c *call) (view, *stripeError) {
	o, f := c.s.payouts.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	if o.status != "pending" {
		return nil, errInvalid("", "", "Payouts can only be canceled while they are pending. "+o.id+" has a status of "+o.status+".")
	}
	c.undo(o, canceled, "payout_cancel")
	return o, nil
}

func reversePayout(c *call) (view, *stripeError) {
	o, f := c.s.payouts.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	if o.status != "paid" || o.reversedBy != "" || o.original != "" {
		return nil, errInvalid("", "", "Payout "+o.id+" cannot be reversed: only a paid payout can, and only once.")
	}
	r := &payout{head: c.s.head("po", c), amount: -o.amount, currency: o.currency, method: o.method, destination: o.destination,
		status: "pending", original: o.id}
	if r.md, f = c.metadata(nil); f != nil {
		return nil, f
	}
	r.transaction = c.book(booking{typ: "payout", source: r.id, description: "STRIPE PAYOUT REVERSAL", currency: o.currency, amount: o.amount}).id
	o.reversedBy = r.id
	c.s.payouts.insert(r)
	c.effect(EffectPayoutBack, r.id, o.id, "", o.amount, o.currency)
	c.emit("payout.created", r)
	return r, nil
}

// setPayout is what the bank does to a payout.
func (c *call) setPayout(id, status string) *stripeError {
	o, f := c.s.payouts.get(id, "id")
	if f != nil {
		return f
	}
	switch {
	case status == "paid" && o.status == "pending":
		o.status = "paid"
		c.emit("payout.paid", o)
	case status == "failed" && (o.status == "pending" || o.status == "paid") && o.amount > 0:
		o.failure = "account_closed"
		c.undo(o, "failed", "payout_failure")
	case status == o.status:
	default:
		f := errInvalid("status", "", "Payout "+id+" cannot go from "+o.status+" to "+status+".")
		f.status = http.StatusConflict
		return f
	}
	return nil
}

// PayOutOnSchedule does what Stripe does by itself every day: it pays amount out, without any call. More than the
// balance is an error. Safe for concurrent use.
func (s *Server) PayOutOnSchedule(amount int64, currency string) error {
	return s.outside(func(c *call) *stripeError {
		if amount <= 0 || amount > c.s.ledgers[currency] {
			return errInvalid("amount", "balance_insufficient", "There is not so much to pay out.")
		}
		c.sendPayout(&payout{head: c.s.head("po", c), amount: amount, currency: currency, description: "STRIPE PAYOUT", method: "standard",
			destination: "ba_" + c.s.accountID[len("acct_"):], status: "pending", automatic: true})
		return nil
	})
}
