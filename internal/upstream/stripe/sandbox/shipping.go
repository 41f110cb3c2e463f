package sandbox

import "strings"

// shippingRate is what shipping costs.
type shippingRate struct {
	head
	name, estimate, tax, taxCode string
	amounts                      map[string]int64
	currencies                   []string // of amounts; the first is the rate's own
	active                       bool
}

func (o *shippingRate) links() []string { return nil }

func (o *shippingRate) render(e *enc, x *expansion) {
	e.open()
	e.str("id", o.id)
	e.str("object", "shipping_rate")
	e.bool("active", o.active)
	e.int("created", o.created)
	e.raw("delivery_estimate", o.estimate)
	e.opt("display_name", o.name)
	e.key("fixed_amount")
	e.open()
	e.int("amount", o.amounts[o.currencies[0]])
	e.str("currency", o.currencies[0])
	if x.child("fixed_amount").child("currency_options") != nil {
		e.key("currency_options")
		e.open()
		for _, code := range o.currencies {
			e.key(code)
			e.open()
			e.int("amount", o.amounts[code])
			e.str("tax_behavior", o.tax)
			e.close()
		}
		e.close()
	}
	e.close()
	e.bool("livemode", e.s.live())
	e.metadata(o.md)
	e.str("tax_behavior", o.tax)
	e.opt("tax_code", o.taxCode)
	e.str("type", "fixed_amount")
	e.close()
}

var shippingRoutes = []*operation{
	get("/v1/shipping_rates", "shipping_rates", "list:shipping_rate", func(c *call) (view, *stripeError) {
		return c.s.shippingRates.page(c, "", func(o *shippingRate) bool {
			return (!c.has("active") || o.active == c.bool("active")) && (!c.set("currency") || o.currencies[0] == strings.ToLower(c.str("currency")))
		})
	}),
	post("/v1/shipping_rates", "shipping_rates", "shipping_rate", func(c *call) (view, *stripeError) {
		p := c.whole()
		o := c.newShipping(p)
		return asView(o, p.fault())
	}),
	get("/v1/shipping_rates/{shipping_rate_token}", "shipping_rates", "shipping_rate", func(c *call) (view, *stripeError) {
		return asView(c.s.shippingRates.get(c.args[0], "id"))
	}),
	post("/v1/shipping_rates/{shipping_rate_token}", "shipping_rates", "shipping_rate", func(c *call) (view, *stripeError) {
		o, f := c.s.shippingRates.get(c.args[0], "id")
		if f != nil {
			return nil, f
		}
		p := c.whole()
		o.md = p.metadata(o.md)
		o.shippingCurrencies(p.sub("fixed_amount"))
		if c.set("active") {
			o.active = c.bool("active")
		}
		c.assign("tax_behavior", &o.tax)
		return asView(o, p.fault())
	}),
}

// newShipping makes a rate out of a call's own parameters or a shipping_rate_data, and keeps it.
func (c *call) newShipping(p part) *shippingRate {
	fixed := p.sub("fixed_amount")
	currency := fixed.currency("currency")
	o := &shippingRate{head: c.s.head("shr", c), name: p.str("display_name"), estimate: estimate(p.sub("delivery_estimate")), active: true,
		tax:     p.or("tax_behavior", "unspecified"),
		taxCode: p.str("tax_code"), amounts: map[string]int64{currency: fixed.count("amount", 0)}, currencies: []string{currency}}
	fixed.must("amount")
	o.md = p.metadata(nil)
	o.shippingCurrencies(fixed)
	if p.fault() == nil && !c.dry {
		c.s.shippingRates.insert(o)
	}
	return o
}

// estimate keeps a delivery estimate; both bounds are always answered.
func estimate(p part) string {
	if p.n.blank() {
		return ""
	}
	e := &enc{}
	e.open()
	for _, side := range []string{"maximum", "minimum"} {
		bound := p.sub(side)
		if bound.n.blank() {
			e.null(side)
			continue
		}
		e.key(side)
		e.open()
		e.str("unit", bound.or("unit", "day"))
		e.int("value", bound.count("value", 1))
		e.close()
	}
	e.close()
	return string(e.b)
}

func (o *shippingRate) shippingCurrencies(fixed part) {
	sub := fixed.sub("currency_options")
	if sub.n.blank() {
		return
	}
	for _, code := range sub.n.keys {
		if !known(currencies, strings.ToLower(code)) {
			sub.refuse(code, "", "Invalid currency: "+code)
			continue
		}
		if _, again := o.amounts[code]; !again {
			o.currencies = append(o.currencies, code)
		}
		o.amounts[code] = sub.sub(code).count("amount", 0)
	}
}

// shipping reads a rate by id (shipping_rate) or made on the spot (shipping_rate_data), and what it costs in
// a currency. Nil where there is none.
func (c *call) shipping(p part, currency string) (*shippingRate, int64) {
	var o *shippingRate
	switch {
	case p.has("shipping_rate"):
		found, f := c.s.shippingRates.get(p.str("shipping_rate"), p.nameOf("shipping_rate"))
		if f != nil {
			p.keep(f)
			return nil, 0
		}
		o = found
	case p.has("shipping_rate_data"):
		o = c.newShipping(p.sub("shipping_rate_data"))
	default:
		return nil, 0
	}
	amount, ok := o.amounts[currency]
	if !ok {
		p.refuse("shipping_rate", "", "The shipping rate does not support the currency "+currency+".")
	}
	return o, amount
}
