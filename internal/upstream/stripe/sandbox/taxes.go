package sandbox

import (
	"math/big"
	"strings"
)

// taxRate is a tax that a merchant defines: a share on top of a price, or inside of it.
type taxRate struct {
	head
	name, description, country, state string
	jurisdiction, typ                 string
	percent                           *big.Rat
	inclusive, active                 bool
}

func (o *taxRate) links() []string { return nil }

func (o *taxRate) render(e *enc, _ *expansion) {
	e.open()
	e.str("id", o.id)
	e.str("object", "tax_rate")
	e.bool("active", o.active)
	e.opt("country", o.country)
	e.int("created", o.created)
	e.opt("description", o.description)
	e.str("display_name", o.name)
	e.raw("effective_percentage", decimal(o.percent))
	e.null("flat_amount")
	e.bool("inclusive", o.inclusive)
	e.opt("jurisdiction", o.jurisdiction)
	e.null("jurisdiction_level")
	e.bool("livemode", e.s.live())
	e.metadata(o.md)
	e.raw("percentage", decimal(o.percent))
	e.str("rate_type", "percentage")
	e.opt("state", o.state)
	e.opt("tax_type", o.typ)
	e.close()
}

var taxRoutes = []*operation{
	get("/v1/tax_rates", "tax_rates", "list:tax_rate", func(c *call) (view, *stripeError) {
		return c.s.taxRates.page(c, "", func(o *taxRate) bool {
			return (!c.has("active") || o.active == c.bool("active")) && (!c.has("inclusive") || o.inclusive == c.bool("inclusive"))
		})
	}),
	post("/v1/tax_rates", "tax_rates", "tax_rate", func(c *call) (view, *stripeError) {
		p := c.whole()
		o := &taxRate{head: c.s.head("txr", c), percent: p.rat("percentage"), inclusive: c.bool("inclusive"), active: true}
		if o.percent != nil && (o.percent.Sign() < 0 || o.percent.Cmp(ratOf(100)) > 0) {
			p.refuse("percentage", "", "Invalid percentage: must be between 0 and 100.")
		}
		if f := p.fault(); f != nil {
			return nil, f
		}
		return c.fillTaxRate(o, "tax_rate.created")
	}),
	get("/v1/tax_rates/{tax_rate}", "tax_rates", "tax_rate", func(c *call) (view, *stripeError) {
		return asView(c.s.taxRates.get(c.args[0], "id"))
	}),
	post("/v1/tax_rates/{tax_rate}", "tax_rates", "tax_rate", func(c *call) (view, *stripeError) {
		o, f := c.s.taxRates.get(c.args[0], "id")
		if f != nil {
			return nil, f
		}
		return c.fillTaxRate(o, "tax_rate.updated")
	}),
	get("/v1/tax_ids", "tax_ids", "list:tax_id", func(c *call) (view, *stripeError) {
		owner := c.sub("owner", "customer").text()
		return c.s.taxIDs.page(c, "customer="+owner, nil)
	}),
	post("/v1/tax_ids", "tax_ids", "tax_id", func(c *call) (view, *stripeError) {
		owner := c.sub("owner", "customer").text()
		if typ := c.sub("owner", "type").text(); typ == "customer" && owner == "" {
			return nil, errMissingParam("owner[customer]")
		}
		return c.createTaxID(owner, "owner[customer]")
	}),
	get("/v1/tax_ids/{id}", "tax_ids", "tax_id", func(c *call) (view, *stripeError) {
		return asView(c.s.taxIDs.get(c.args[0], "id"))
	}),
	remove("/v1/tax_ids/{id}", "tax_ids", func(c *call) (view, *stripeError) { return c.deleteTaxID(c.args[0], "") }),
	get("/v1/customers/{customer}/tax_ids", "tax_ids", "list:tax_id", func(c *call) (view, *stripeError) {
		if _, f := c.s.customers.get(c.args[0], "id"); f != nil {
			return nil, f
		}
		return c.s.taxIDs.page(c, "customer="+c.args[0], nil)
	}),
	post("/v1/customers/{customer}/tax_ids", "tax_ids", "tax_id", func(c *call) (view, *stripeError) {
		return c.createTaxID(c.args[0], "id")
	}),
	get("/v1/customers/{customer}/tax_ids/{id}", "tax_ids", "tax_id", func(c *call) (view, *stripeError) {
		o, f := c.s.taxIDs.get(c.args[1], "id")
		if f != nil || o.customer != c.args[0] {
			return nil, errMissing("tax_id", c.args[1], "id")
		}
		return o, nil
	}),
	remove("/v1/customers/{customer}/tax_ids/{id}", "tax_ids", func(c *call) (view, *stripeError) {
		return c.deleteTaxID(c.args[1], c.args[0])
	}),
}

func (c *call) fillTaxRate(o *taxRate, event string) (view, *stripeError) {
	md, f := c.metadata(o.md)
	if f != nil {
		return nil, f
	}
	o.md = md
	for name, field := range map[string]*string{"display_name": &o.name, "description": &o.description, "country": &o.country,
		"state": &o.state, "jurisdiction": &o.jurisdiction, "tax_type": &o.typ} {
		c.assign(name, field)
	}
	if c.set("active") {
		o.active = c.bool("active")
	}
	if _, stored := c.s.taxRates.byID[o.id]; !stored {
		c.s.taxRates.insert(o)
	}
	c.emit(event, o)
	return o, nil
}

// rates reads a list of tax rates by id.
func (c *call) rates(p part, field string) []*taxRate {
	var out []*taxRate
	for _, n := range p.list(field) {
		o, f := c.s.taxRates.get(n.n.text(), n.name)
		if f != nil {
			n.keep(f)
			continue
		}
		if !o.active {
			n.keep(errInvalid(n.name, "", "The tax rate "+o.id+" is archived."))
		}
		out = append(out, o)
	}
	return out
}

// renderRates writes tax rates, which Stripe embeds whole.
func (e *enc) renderRates(field string, all []*taxRate) {
	e.key(field)
	e.b = append(e.b, '[')
	for _, o := range all {
		o.render(e, nil)
	}
	e.b = append(e.b, ']')
}

// taxID is a number under which a tax office knows somebody.
type taxID struct {
	head
	customer, country, typ, value string // no customer: the account's own
}

func (o *taxID) links() []string { return []string{"customer=" + o.customer} }

func (o *taxID) render(e *enc, x *expansion) {
	if o.deleted {
		(&deletedView{"tax_id", o.id}).render(e, nil)
		return
	}
	e.open()
	e.str("id", o.id)
	e.str("object", "tax_id")
	e.opt("country", o.country)
	e.int("created", o.created)
	e.ref("customer", o.customer, x)
	e.null("customer_account")
	e.bool("livemode", e.s.live())
	e.key("owner")
	e.open()
	if o.customer != "" {
		e.ref("customer", o.customer, x.child("owner"))
		e.constant(`"customer_account":null,"type":"customer"`)
	} else {
		e.str("type", "self")
	}
	e.close()
	e.str("type", o.typ)
	e.str("value", o.value)
	if o.customer != "" {
		e.constant(`"verification":{"status":"pending","verified_address":null,"verified_name":null}`)
	} else {
		e.null("verification")
	}
	e.close()
}

func (c *call) createTaxID(customer, param string) (view, *stripeError) {
	if customer != "" {
		if _, f := c.s.customers.get(customer, param); f != nil {
			return nil, f
		}
	}
	o := &taxID{head: c.s.head("txi", c), customer: customer, typ: c.str("type"), value: c.str("value")}
	if country, _, ok := strings.Cut(o.typ, "_"); ok && len(country) == 2 && country != "eu" {
		o.country = strings.ToUpper(country)
	}
	c.s.taxIDs.insert(o)
	if customer != "" {
		c.emit("customer.tax_id.created", o)
	}
	return o, nil
}

func (c *call) deleteTaxID(id, customer string) (view, *stripeError) {
	o, f := c.s.taxIDs.get(id, "id")
	if f != nil || customer != "" && o.customer != customer {
		return nil, errMissing("tax_id", id, "id")
	}
	if o.customer != "" {
		c.emit("customer.tax_id.deleted", o)
	}
	o.deleted = true
	return &deletedView{"tax_id", o.id}, nil
}
