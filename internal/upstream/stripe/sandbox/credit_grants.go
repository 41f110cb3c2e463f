package sandbox

import (
	"cmp"
	"maps"
	"slices"
)

// creditGrant is credit that invoices for metered use take before they ask for money.
type creditGrant struct {
	head
	customer, currency, name, category string
	value, left                        int64    // minor units
	prices                             []string // only these; empty is all metered ones
	priority                           int64
	effective, expires, voided         int64
	updated                            int64
}

func (o *creditGrant) links() []string { return []string{"customer=" + o.customer} }

// live reports that invoices can take from it at a time.
func (o *creditGrant) live(at int64) bool {
	return o.voided == 0 && o.effective <= at && (o.expires == 0 || at < o.expires)
}

func (o *creditGrant) render(e *enc, x *expansion) {
	e.open()
	e.str("id", o.id)
	e.str("object", "billing.credit_grant")
	e.monetary("amount", o.value, o.currency)
	e.key("applicability_config")
	e.open()
	e.key("scope")
	e.open()
	if o.prices == nil {
		e.str("price_type", "metered")
	} else {
		e.key("prices")
		e.b = append(e.b, '[')
		for _, id := range o.prices {
			e.open()
			e.str("id", id)
			e.close()
		}
		e.b = append(e.b, ']')
	}
	e.close()
	e.close()
	e.str("category", o.category)
	e.int("created", o.created)
	e.ref("customer", o.customer, x)
	e.null("customer_account")
	e.optInt("effective_at", o.effective)
	e.optInt("expires_at", o.expires)
	e.bool("livemode", e.s.live())
	e.metadata(o.md)
	e.opt("name", o.name)
	e.int("priority", o.priority)
	e.renderClock(o.customer, x)
	e.int("updated", o.updated)
	e.optInt("voided_at", o.voided)
	e.close()
}

// monetary writes an amount as credit grants do.
func (e *enc) monetary(field string, value int64, currency string) {
	e.key(field)
	e.open()
	e.key("monetary")
	e.open()
	e.str("currency", currency)
	e.int("value", value)
	e.close()
	e.str("type", "monetary")
	e.close()
}

// grantTransaction is one change of a credit grant.
type grantTransaction struct {
	head
	grant, customer, currency string
	why                       string // credits_granted, credits_applied and the like
	credit                    bool
	value                     int64 // minor units
	invoice, line             string
}

func (o *grantTransaction) links() []string {
	return []string{"customer=" + o.customer, "credit_grant=" + o.grant}
}

func (o *grantTransaction) render(e *enc, x *expansion) {
	typ, other := "debit", "credit"
	if o.credit {
		typ, other = other, typ
	}
	e.open()
	e.str("id", o.id)
	e.str("object", "billing.credit_balance_transaction")
	e.int("created", o.created)
	e.ref("credit_grant", o.grant, x)
	e.key(typ)
	e.open()
	e.monetary("amount", o.value, o.currency)
	if o.invoice != "" {
		field := "credits_applied"
		if o.credit {
			field = o.why
		}
		e.key(field)
		e.open()
		e.ref("invoice", o.invoice, x.child(typ).child(field))
		e.str("invoice_line_item", o.line)
		e.close()
	}
	e.str("type", o.why)
	e.close()
	e.null(other)
	e.int("effective_at", o.created)
	e.bool("livemode", e.s.live())
	e.renderClock(o.customer, x)
	e.str("type", typ)
	e.close()
}

var grantRoutes = []*operation{
	get("/v1/billing/credit_grants", "billing.credit_grants", "list:billing.credit_grant", func(c *call) (view, *stripeError) {
		link := ""
		if id := c.str("customer"); id != "" {
			link = "customer=" + id
		}
		return c.s.grants.page(c, link, nil)
	}),
	post("/v1/billing/credit_grants", "billing.credit_grants", "billing.credit_grant", createGrant),
	get("/v1/billing/credit_grants/{id}", "billing.credit_grants", "billing.credit_grant", func(c *call) (view, *stripeError) {
		return asView(c.s.grants.get(c.args[0], "id"))
	}),
	post("/v1/billing/credit_grants/{id}", "billing.credit_grants", "billing.credit_grant", func(c *call) (view, *stripeError) {
		o, f := c.liveGrant()
		if f != nil {
			return nil, f
		}
		if o.md, f = c.metadata(o.md); f != nil {
			return nil, f
		}
		if c.has("expires_at") {
			o.expires = c.amount("expires_at")
			c.awaitExpiry(o)
		}
		o.updated = c.now
		c.emit("billing.credit_grant.updated", o)
		return o, nil
	}),
	post("/v1/billing/credit_grants/{id}/expire", "billing.credit_grants", "billing.credit_grant", func(c *call) (view, *stripeError) {
		o, f := c.liveGrant()
		if f != nil {
			return nil, f
		}
		o.expires = c.now
		c.endGrant(o, "credits_expired")
		return o, nil
	}),
	post("/v1/billing/credit_grants/{id}/void", "billing.credit_grants", "billing.credit_grant", func(c *call) (view, *stripeError) {
		o, f := c.liveGrant()
		if f != nil {
			return nil, f
		}
		if o.left != o.value {
			return nil, errInvalid("", "", "You can only void a credit grant that has not been applied to any invoice.")
		}
		o.voided = c.now
		c.endGrant(o, "credits_voided")
		return o, nil
	}),
	get("/v1/billing/credit_balance_summary", "billing.credit_balance_summary", "billing.credit_balance_summary", summarizeGrants),
	get("/v1/billing/credit_balance_transactions", "billing.credit_balance_transactions", "list:billing.credit_balance_transaction",
		func(c *call) (view, *stripeError) {
			link := ""
			if id := c.str("credit_grant"); id != "" {
				link = "credit_grant=" + id
			} else if id := c.str("customer"); id != "" {
				link = "customer=" + id
			}
			return c.s.grantMoves.page(c, link, func(o *grantTransaction) bool { return c.str("customer") == "" || o.customer == c.str("customer") })
		}),
	get("/v1/billing/credit_balance_transactions/{id}", "billing.credit_balance_transactions", "billing.credit_balance_transaction",
		func(c *call) (view, *stripeError) { return asView(c.s.grantMoves.get(c.args[0], "id")) }),
}

// liveGrant is the grant that the path names, if it can still change.
func (c *call) liveGrant() (*creditGrant, *stripeError) {
	o, f := c.s.grants.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	c.on(o.customer)
	if o.voided != 0 || o.expires != 0 && o.expires <= c.now {
		return nil, errInvalid("", "", "This credit grant has expired or was voided.")
	}
	return o, nil
}

func createGrant(c *call) (view, *stripeError) {
	if !c.set("customer") {
		return nil, errMissingParam("customer")
	}
	owner, f := c.s.customers.get(c.str("customer"), "customer")
	if f != nil {
		return nil, f
	}
	c.on(owner.id)
	p := c.whole()
	money, scope := p.sub("amount").sub("monetary"), p.sub("applicability_config").sub("scope")
	o := &creditGrant{head: c.s.head("credgr", c), customer: owner.id, currency: money.currency("currency"), value: money.int("value"), name: c.str("name"),
		category: p.or("category", "paid"), priority: p.count("priority", 50), effective: c.now, expires: p.int("expires_at"), updated: c.now}
	p.keep(positive("amount[monetary][value]", o.value))
	if p.has("effective_at") {
		o.effective = p.int("effective_at")
	}
	for _, n := range scope.list("prices") {
		pr, f := c.s.prices.get(n.str("id"), n.nameOf("id"))
		if f == nil && pr.usage != "metered" {
			f = errInvalid(n.nameOf("id"), "", "Credit grants apply to metered prices only.")
		}
		n.keep(f)
		o.prices = append(o.prices, n.str("id"))
	}
	if o.prices == nil && !scope.has("price_type") {
		scope.must("price_type")
	}
	o.md = p.metadata(nil)
	if f := p.fault(); f != nil {
		return nil, f
	}
	o.left = o.value
	c.s.grants.insert(o)
	c.moveGrant(&grantTransaction{why: "credits_granted", credit: true, value: o.value}, o)
	c.awaitExpiry(o)
	c.emit("billing.credit_grant.created", o)
	return o, nil
}

func (c *call) moveGrant(t *grantTransaction, o *creditGrant) *grantTransaction {
	t.head, t.grant, t.customer, t.currency = c.s.head("cbtxn", c), o.id, o.customer, o.currency
	c.s.grantMoves.insert(t)
	return t
}

func (c *call) awaitExpiry(o *creditGrant) {
	at := o.expires
	if at == 0 {
		return
	}
	c.later(o.customer, at, func(c *call) {
		if o.expires == at && o.voided == 0 {
			c.endGrant(o, "credits_expired")
		}
	})
}

// endGrant takes away what is left of a grant.
func (c *call) endGrant(o *creditGrant, why string) {
	if o.left > 0 {
		c.moveGrant(&grantTransaction{why: why, value: o.left}, o)
	}
	o.left, o.updated = 0, c.now
	c.emit("billing.credit_grant.updated", o)
}

// grantsFor are the grants that a line of a customer's invoice takes from, in order.
func (c *call) grantsFor(customer string, l *line) []*creditGrant {
	pr := c.s.prices.byID[l.price]
	if pr == nil || pr.usage != "metered" || l.member == "" {
		return nil
	}
	var out []*creditGrant
	for _, o := range c.s.grants.index["customer="+customer] {
		if o.live(c.now) && o.left > 0 && o.currency == l.currency && (o.prices == nil || slices.Contains(o.prices, l.price)) {
			out = append(out, o)
		}
	}
	slices.SortStableFunc(out, func(a, b *creditGrant) int { return cmp.Compare(a.priority, b.priority) })
	return out
}

// applyGrants pays lines for metered use out of credit grants, as an invoice is
// finalized; a preview only tells what that would be.
func (c *call) applyGrants(in *invoice) {
	told := map[*creditGrant]int64{}
	for _, l := range in.lines {
		for _, o := range c.grantsFor(in.customer, l) {
			use := min(o.left-told[o], l.net())
			if use <= 0 {
				continue
			}
			g := granted{amount: use}
			if c.dry {
				told[o] += use
			} else {
				o.left -= use
				g.transaction = c.moveGrant(&grantTransaction{why: "credits_applied", value: use, invoice: in.id, line: l.id}, o).id
			}
			l.granted = append(l.granted, g)
		}
	}
}

// returnGrants gives back what a voided invoice took.
func (c *call) returnGrants(in *invoice) {
	for _, l := range in.lines {
		for _, g := range l.granted {
			o := c.s.grants.byID[c.s.grantMoves.byID[g.transaction].grant]
			o.left += g.amount
			c.moveGrant(&grantTransaction{why: "credits_application_invoice_voided", credit: true, value: g.amount, invoice: in.id, line: l.id}, o)
		}
	}
}

// grantSummary is what a customer's grants still hold.
type grantSummary struct {
	customer string
	left     map[string]int64 // by currency
}

func (o *grantSummary) render(e *enc, x *expansion) {
	e.open()
	e.str("object", "billing.credit_balance_summary")
	e.key("balances")
	e.b = append(e.b, '[')
	for _, currency := range slices.Sorted(maps.Keys(o.left)) {
		e.open()
		e.monetary("available_balance", o.left[currency], currency)
		e.monetary("ledger_balance", o.left[currency], currency)
		e.close()
	}
	e.b = append(e.b, ']')
	e.ref("customer", o.customer, x)
	e.null("customer_account")
	e.bool("livemode", e.s.live())
	e.close()
}

func summarizeGrants(c *call) (view, *stripeError) {
	if _, f := c.s.customers.get(c.str("customer"), "customer"); f != nil {
		return nil, f
	}
	c.on(c.str("customer"))
	filter := c.whole().sub("filter")
	var prices []string
	for _, n := range filter.sub("applicability_scope").list("prices") {
		prices = append(prices, n.str("id"))
	}
	out := &grantSummary{customer: c.str("customer"), left: map[string]int64{}}
	for _, o := range c.s.grants.index["customer="+out.customer] {
		fits := filter.str("type") != "credit_grant" || o.id == filter.str("credit_grant")
		for _, id := range prices {
			fits = fits && (o.prices == nil || slices.Contains(o.prices, id))
		}
		if fits && o.live(c.now) {
			out.left[o.currency] += o.left
		}
	}
	return out, nil
}
