package sandbox

import (
	"slices"
	"strings"
)

// price is what Stripe also shows as a plan, where it recurs.
type price struct {
	head
	product, currency, nickname, lookup string
	tariff
	pack    pack
	options []currencyOption // what it costs in other currencies
	period  cadence          // zero for a one-time price
	usage   string           // licensed or metered
	meter   string
	trial   int64 // days, of plans
	active  bool
}

// currencyOption is what a price costs in another currency.
type currencyOption struct {
	currency string
	tariff
}

// cadence is how often something recurs.
type cadence struct {
	unit  string // day, week, month or year; empty never
	every int64
}

func (o *price) links() []string { return []string{"product=" + o.product} }

func (o *price) recurs() bool { return o.period.unit != "" }

// in is what the price asks in a currency; nil where it has none for it.
func (o *price) in(currency string) *tariff {
	if o.currency == currency {
		return &o.tariff
	}
	for i := range o.options {
		if o.options[i].currency == currency {
			return &o.options[i].tariff
		}
	}
	return nil
}

func (o *price) render(e *enc, x *expansion) {
	e.open()
	e.str("id", o.id)
	e.str("object", "price")
	e.bool("active", o.active)
	e.str("billing_scheme", o.scheme())
	e.int("created", o.created)
	e.str("currency", o.currency)
	if x.child("currency_options") != nil {
		o.renderOptions(e)
	}
	e.custom(o.custom)
	e.bool("livemode", e.s.live())
	e.opt("lookup_key", o.lookup)
	e.metadata(o.md)
	e.opt("nickname", o.nickname)
	e.ref("product", o.product, x)
	if o.recurs() {
		e.key("recurring")
		e.open()
		e.cadence(o.period)
		e.opt("meter", o.meter)
		e.str("usage_type", o.usage)
		e.close()
	} else {
		e.null("recurring")
	}
	e.str("tax_behavior", o.tax)
	if x.child("tiers") != nil && len(o.tiers) > 0 {
		e.tiers(o.tiers)
	}
	e.opt("tiers_mode", o.mode)
	e.pack("transform_quantity", o.pack)
	if o.recurs() {
		e.str("type", "recurring")
	} else {
		e.str("type", "one_time")
	}
	e.rat("unit_amount", o.unit)
	e.close()
}

func (e *enc) cadence(p cadence) {
	e.str("interval", p.unit)
	e.int("interval_count", p.every)
}

func (o *price) renderOptions(e *enc) {
	e.key("currency_options")
	e.open()
	for _, opt := range append([]currencyOption{{o.currency, o.tariff}}, o.options...) {
		e.key(opt.currency)
		e.open()
		e.custom(opt.custom)
		e.str("tax_behavior", opt.tax)
		if len(opt.tiers) > 0 {
			e.tiers(opt.tiers)
		}
		e.rat("unit_amount", opt.unit)
		e.close()
	}
	e.close()
}

func (o *price) scheme() string {
	if len(o.tiers) > 0 {
		return "tiered"
	}
	return "per_unit"
}

var priceRoutes = []*operation{
	get("/v1/prices", "prices", "list:price", listPrices),
	post("/v1/prices", "prices", "price", createPrice),
	get("/v1/prices/{price}", "prices", "price", func(c *call) (view, *stripeError) {
		return asView(c.s.prices.get(c.args[0], "id"))
	}),
	post("/v1/prices/{price}", "prices", "price", updatePrice),
}

func listPrices(c *call) (view, *stripeError) {
	link := ""
	if id := c.str("product"); id != "" {
		link = "product=" + id
	}
	lookups := c.whole().texts("lookup_keys")
	currency, typ, recurring := c.str("currency"), c.str("type"), c.whole().sub("recurring")
	return c.s.prices.page(c, link, func(o *price) bool {
		return (!c.has("active") || o.active == c.bool("active")) && (currency == "" || o.currency == currency) &&
			(typ == "" || (typ == "recurring") == o.recurs()) && (lookups == nil || slices.Contains(lookups, o.lookup)) &&
			matches(recurring, "interval", o.period.unit) && matches(recurring, "usage_type", o.usage) && matches(recurring, "meter", o.meter)
	})
}

// matches reports that a filter was not sent, or names v.
func matches(p part, field, v string) bool { return !p.has(field) || p.str(field) == v }

// newPrice reads the money of a price out of p: the call's own parameters, or a
// nested price_data. It is not kept yet.
func (c *call) newPrice(p part) *price {
	o := &price{head: c.s.head("price", c), active: true, currency: p.currency("currency"), tariff: p.tariff("unit_amount"), pack: p.pack("transform_quantity")}
	if p.has("recurring") {
		r := p.sub("recurring")
		o.period = r.cadence()
		o.usage = r.or("usage_type", "licensed")
		o.meter = c.meterOf(r, o.usage)
	}
	o.options = p.currencyOptions()
	return o
}

// cadence reads interval and interval_count.
func (p part) cadence() cadence {
	out := cadence{p.or("interval", "month"), p.count("interval_count", 1)}
	longest := map[string]int64{"day": 3 * 365, "week": 3 * 52, "month": 36, "year": 3}[out.unit]
	if out.every < 1 || out.every > longest {
		p.refuse("interval_count", "", "The maximum billing interval is three years, the minimum is one "+out.unit+".")
	}
	return out
}

func (p part) currencyOptions() []currencyOption {
	sub := p.sub("currency_options")
	if sub.n.blank() {
		return nil
	}
	var out []currencyOption
	for _, code := range sub.n.keys {
		code = strings.ToLower(code)
		if !known(currencies, code) {
			p.refuse("currency_options", "", "Invalid currency: "+code)
		}
		out = append(out, currencyOption{code, sub.sub(code).tariff("unit_amount")})
	}
	return out
}

func createPrice(c *call) (view, *stripeError) {
	p := c.whole()
	o := c.newPrice(p)
	if f := p.fault(); f != nil {
		return nil, f
	}
	switch data := p.sub("product_data"); {
	case c.set("product"):
		if _, f := c.s.products.get(c.str("product"), "product"); f != nil {
			return nil, f
		}
		o.product = c.str("product")
	case data.has("name"):
		o.product = c.inlineProduct(data).id
	default:
		return nil, errInvalid("product", "parameter_missing", "You must specify either `product` or `product_data` when creating a price.")
	}
	if f := c.fillPrice(o); f != nil {
		return nil, f
	}
	c.s.prices.insert(o)
	c.emit("price.created", o)
	return o, nil
}

// inlineProduct makes the product that comes with a price.
func (c *call) inlineProduct(data part) *product {
	o := &product{head: c.s.head("prod", c), active: true, images: "[]", updated: c.now, name: data.str("name"), description: data.str("description"),
		descriptor: data.str("statement_descriptor"), taxCode: data.str("tax_code"), unitLabel: data.str("unit_label")}
	o.md = data.metadata(nil)
	c.s.products.insert(o)
	c.emit("product.created", o)
	return o
}

// fillPrice writes what create and update share.
func (c *call) fillPrice(o *price) (f *stripeError) {
	if o.md, f = c.metadata(o.md); f != nil {
		return f
	}
	c.assign("nickname", &o.nickname)
	if key := c.str("lookup_key"); key != "" && key != o.lookup {
		for _, other := range c.s.prices.order {
			if other.lookup != key || other.deleted {
				continue
			}
			if !c.bool("transfer_lookup_key") {
				return errInvalid("lookup_key", "", "A price (`"+other.id+"`) already uses that lookup key.")
			}
			other.lookup = ""
		}
	}
	c.assign("lookup_key", &o.lookup)
	if c.set("tax_behavior") {
		o.tax = c.str("tax_behavior")
	}
	if c.set("active") {
		o.active = c.bool("active")
	}
	return nil
}

func updatePrice(c *call) (view, *stripeError) {
	o, f := c.s.prices.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	if c.set("currency_options") {
		p := c.whole()
		for _, opt := range p.currencyOptions() {
			o.options = slices.DeleteFunc(o.options, func(old currencyOption) bool { return old.currency == opt.currency })
			o.options = append(o.options, opt)
		}
		if f := p.fault(); f != nil {
			return nil, f
		}
	}
	if f := c.fillPrice(o); f != nil {
		return nil, f
	}
	c.emit("price.updated", o)
	return o, nil
}

// pricing is a price that a nested parameter names (price, or pricing[price]) or brings
// (price_data), and in which currency it is used; empty is its own.
type pricing struct {
	*price
	*tariff
	currency string
}

// pricing reads a price for use; nil where p has none, or it cannot be used. A price that a parameter brings is
// kept, inactive, as Stripe does, unless the call only looks.
func (c *call) pricing(p part, currency string) *pricing {
	id := p.str("price")
	if id == "" {
		id = p.sub("pricing").str("price")
	}
	if id == "" {
		id = p.str("plan")
	}
	var o *price
	switch {
	case id != "":
		found, f := c.s.prices.get(id, p.nameOf("price"))
		if f != nil {
			p.keep(f)
			return nil
		}
		if o = found; !o.active && !p.own {
			p.refuse("price", "", "The price specified is inactive. This field only accepts active prices.")
		}
	case p.has("price_data"):
		if o = c.inlinePrice(p.sub("price_data")); o == nil {
			return nil
		}
	default:
		return nil
	}
	if currency == "" {
		currency = o.currency
	}
	t := o.in(currency)
	if t == nil {
		p.refuse("price", "", "The price specified only supports `"+o.currency+"`. This doesn't match the expected currency: `"+currency+"`.")
		return nil
	}
	return &pricing{o, t, currency}
}

// inlinePrice makes the price of a price_data.
func (c *call) inlinePrice(data part) *price {
	o := c.newPrice(data)
	o.active = false
	switch {
	case data.has("product"):
		owner, f := c.s.products.get(data.str("product"), data.nameOf("product"))
		if f != nil {
			data.keep(f)
			return nil
		}
		o.product = owner.id
	case data.sub("product_data").has("name"):
		if o.product = "prod_preview"; !c.dry {
			o.product = c.inlineProduct(data.sub("product_data")).id
		}
	default:
		data.keep(errMissingParam(data.nameOf("product")))
	}
	if data.fault() != nil {
		return nil
	}
	if !c.dry {
		c.s.prices.insert(o)
		c.emit("price.created", o)
	}
	return o
}

// cost is what a quantity of it costs in the currency it is used in.
func (p *pricing) cost(quantity int64) int64 { return p.tariff.cost(p.price.pack.of(quantity)) }
