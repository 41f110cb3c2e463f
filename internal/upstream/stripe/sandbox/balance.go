package sandbox

import (
	"math"
	"slices"
	"strconv"
)

// balanceTransaction is one line of the account's books.
type balanceTransaction struct {
	head
	amount, fee         int64 // minor units, signed
	appFee              int64 // the part of fee that went to the platform
	currency            string
	rate                float64 // 0: what moved was in the balance's currency
	description, source string
	typ, category       string
	balance             string // payments or issuing
	payout              string
}

func (o *balanceTransaction) links() []string { return []string{"source=" + o.source} }

func (o *balanceTransaction) render(e *enc, x *expansion) {
	e.open()
	e.str("id", o.id)
	e.str("object", "balance_transaction")
	e.int("amount", o.amount)
	e.int("available_on", o.created)
	e.str("balance_type", o.balance)
	e.int("created", o.created)
	e.str("currency", o.currency)
	e.opt("description", o.description)
	if e.key("exchange_rate"); o.rate == 0 {
		e.b = append(e.b, "null"...)
	} else {
		e.b = strconv.AppendFloat(e.b, o.rate, 'f', -1, 64)
	}
	e.int("fee", o.fee)
	e.key("fee_details")
	e.b = append(e.b, '[')
	if own := o.fee - o.appFee; own != 0 {
		e.open()
		e.int("amount", own)
		e.null("application")
		e.str("currency", o.currency)
		e.constant(`"description":"Stripe processing fees","type":"stripe_fee"`)
		e.close()
	}
	if o.appFee != 0 {
		e.open()
		e.int("amount", o.appFee)
		e.str("application", applicationID)
		e.str("currency", o.currency)
		e.constant(`"description":"Application fee","type":"application_fee"`)
		e.close()
	}
	e.b = append(e.b, ']')
	e.int("net", o.amount-o.fee)
	e.str("reporting_category", o.category)
	e.ref("source", o.source, x)
	e.constant(`"status":"available"`)
	e.str("type", o.typ)
	e.close()
}

// booking is what goes into the books.
type booking struct {
	typ, source, description, currency string
	category                           string // of reports, where the type does not say it
	balance                            string // issuing; empty is payments
	amount, fee                        int64
	appFee                             int64 // beside fee
}

// categories are the types that reports file under another name.
var categories = map[string]string{"payout_cancel": "payout_reversal", "payout_failure": "payout_reversal", "adjustment": "other_adjustment",
	"payment": "charge", "payment_refund": "refund", "transfer_refund": "transfer_reversal", "application_fee": "platform_earning",
	"application_fee_refund": "platform_earning_refund"}

// book writes a line and changes the balance. Money is available at once here,
// not after days: tests want to refund and pay out what they charged.
func (c *call) book(b booking) *balanceTransaction {
	category := b.category
	if category == "" {
		category = categories[b.typ]
	}
	if category == "" {
		category = b.typ
	}
	rate := c.s.opts.Settle[b.currency]
	if rate != 0 {
		b.convert(rate)
	}
	fee := b.fee + b.appFee
	t := &balanceTransaction{head: c.s.head("txn", c), amount: b.amount, fee: fee, appFee: b.appFee, currency: b.currency,
		rate: rate, description: b.description, source: b.source, typ: b.typ, category: category, balance: "payments"}
	if b.balance != "" {
		t.balance = b.balance
	}
	c.s.ledgers[b.currency] += b.amount - fee
	c.s.transactions.insert(t)
	return t
}

// convert turns a booking into dollars.
func (b *booking) convert(rate float64) {
	for _, n := range []*int64{&b.amount, &b.fee, &b.appFee} {
		*n = int64(math.Round(float64(*n) * rate))
	}
	b.currency = "usd"
}

// balanceView is the account's balance as it is when it is rendered.
type balanceView struct{}

func (balanceView) render(e *enc, _ *expansion) {
	codes := make([]string, 0, len(e.s.ledgers))
	for code := range e.s.ledgers {
		codes = append(codes, code)
	}
	slices.Sort(codes)
	if len(codes) == 0 {
		codes = []string{"usd"}
	}
	e.open()
	e.str("object", "balance")
	for _, pot := range []string{"available", "pending"} {
		e.key(pot)
		e.b = append(e.b, '[')
		for _, code := range codes {
			amount := e.s.ledgers[code]
			if pot == "pending" {
				amount = 0
			}
			e.open()
			e.int("amount", amount)
			e.str("currency", code)
			e.key("source_types")
			e.open()
			e.int("card", amount)
			e.close()
			e.close()
		}
		e.b = append(e.b, ']')
	}
	e.bool("livemode", e.s.live())
	e.close()
}

var balanceRoutes = []*operation{
	get("/v1/balance", "balance", kindNone, func(*call) (view, *stripeError) { return balanceView{}, nil }),
	get("/v1/balance_transactions", "balance_transactions", "list:balance_transaction", listTransactions),
	get("/v1/balance_transactions/{id}", "balance_transactions", "balance_transaction", getTransaction),
	get("/v1/balance/history", "balance_transactions", "list:balance_transaction", listTransactions),
	get("/v1/balance/history/{id}", "balance_transactions", "balance_transaction", getTransaction),
	get("/v1/events", "events", "list:event", listEvents),
	get("/v1/events/{id}", "events", "event", func(c *call) (view, *stripeError) {
		return asView(c.s.events.get(c.args[0], "id"))
	}),
}

func getTransaction(c *call) (view, *stripeError) {
	return asView(c.s.transactions.get(c.args[0], "id"))
}

func listTransactions(c *call) (view, *stripeError) {
	link := ""
	if source := c.str("source"); source != "" {
		link = "source=" + source
	}
	currency, typ, payout := c.str("currency"), c.str("type"), c.str("payout")
	return c.s.transactions.page(c, link, func(o *balanceTransaction) bool {
		return (currency == "" || o.currency == currency) && (typ == "" || o.typ == typ) && (payout == "" || o.payout == payout)
	})
}

// event is a notification: the object as it was when it happened.
type event struct {
	head
	typ            string
	object         []byte
	reqID, idemKey string
}

func (o *event) links() []string { return nil }

func (o *event) render(e *enc, _ *expansion) {
	e.open()
	e.str("id", o.id)
	e.constant(`"object":"event","api_version":"` + apiVersion + `"`)
	if e.s != e.s.platform {
		e.str("account", e.s.accountID)
	}
	e.int("created", o.created)
	e.key("data")
	e.open()
	e.raw("object", string(o.object))
	e.close()
	e.bool("livemode", e.s.live())
	e.constant(`"pending_webhooks":0`)
	e.key("request")
	e.open()
	e.opt("id", o.reqID)
	e.opt("idempotency_key", o.idemKey)
	e.close()
	e.str("type", o.typ)
	e.close()
}

// emit stores an event about v and returns how v was rendered for it.
func (c *call) emit(typ string, v view) []byte {
	e := &enc{b: make([]byte, 0, 1536), s: c.s}
	v.render(e, nil)
	ev := &event{head: c.s.head("evt", c), typ: typ, object: e.b}
	if !c.quiet {
		ev.reqID, ev.idemKey = c.reqID, c.idemKey
	}
	c.s.events.insert(ev)
	return e.b
}

func listEvents(c *call) (view, *stripeError) {
	typ := c.str("type")
	var types []string
	if items, ok := c.p.get("types").items(); ok {
		for _, n := range items {
			types = append(types, n.text())
		}
	}
	return c.s.events.page(c, "", func(o *event) bool {
		return (typ == "" || matchType(typ, o.typ)) && (len(types) == 0 || slices.Contains(types, o.typ))
	})
}

// matchType compares an event type with a filter such as charge.*.
func matchType(filter, typ string) bool {
	if n := len(filter) - 1; n > 0 && filter[n] == '*' {
		return len(typ) >= n && typ[:n] == filter[:n]
	}
	return filter == typ
}
