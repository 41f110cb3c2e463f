package sandbox

import (
	"slices"
	"strconv"
)

type product struct {
	head
	name, description, descriptor string
	unitLabel, url, taxCode       string
	images                        string // JSON
	defaultPrice                  string
	active                        bool
	updated                       int64
}

func (o *product) links() []string { return nil }

func (o *product) render(e *enc, x *expansion) {
	if o.deleted {
		(&deletedView{"product", o.id}).render(e, nil)
		return
	}
	e.open()
	e.str("id", o.id)
	e.str("object", "product")
	e.bool("active", o.active)
	e.int("created", o.created)
	e.ref("default_price", o.defaultPrice, x)
	e.opt("description", o.description)
	e.raw("images", o.images)
	e.bool("livemode", e.s.live())
	e.constant(`"marketing_features":[]`)
	e.metadata(o.md)
	e.str("name", o.name)
	e.constant(`"package_dimensions":null,"shippable":null`)
	e.opt("statement_descriptor", o.descriptor)
	e.opt("tax_code", o.taxCode)
	e.opt("unit_label", o.unitLabel)
	e.int("updated", o.updated)
	e.opt("url", o.url)
	e.close()
}

// price is kept apart from plan here, though Stripe shows each as the other.
type price struct {
	head
	product, currency, nickname, lookup string
	unit                                int64 // minor units
	interval, usage, tax                string
	every                               int64
	active                              bool
}

func (o *price) links() []string { return []string{"product=" + o.product} }

func (o *price) render(e *enc, x *expansion) {
	e.open()
	e.str("id", o.id)
	e.str("object", "price")
	e.bool("active", o.active)
	e.constant(`"billing_scheme":"per_unit"`)
	e.int("created", o.created)
	e.str("currency", o.currency)
	e.null("custom_unit_amount")
	e.bool("livemode", e.s.live())
	e.opt("lookup_key", o.lookup)
	e.metadata(o.md)
	e.opt("nickname", o.nickname)
	e.ref("product", o.product, x)
	if o.interval == "" {
		e.null("recurring")
	} else {
		e.key("recurring")
		e.open()
		e.str("interval", o.interval)
		e.int("interval_count", o.every)
		e.null("meter")
		e.str("usage_type", o.usage)
		e.close()
	}
	e.str("tax_behavior", o.tax)
	e.constant(`"tiers_mode":null,"transform_quantity":null`)
	if o.interval == "" {
		e.str("type", "one_time")
	} else {
		e.str("type", "recurring")
	}
	e.int("unit_amount", o.unit)
	e.str("unit_amount_decimal", strconv.FormatInt(o.unit, 10))
	e.close()
}

type plan struct {
	head
	product, currency, nickname, interval, usage string
	amount, every, trial                         int64
	active                                       bool
}

func (o *plan) links() []string { return []string{"product=" + o.product} }

func (o *plan) render(e *enc, x *expansion) {
	if o.deleted {
		(&deletedView{"plan", o.id}).render(e, nil)
		return
	}
	e.open()
	e.str("id", o.id)
	e.str("object", "plan")
	e.bool("active", o.active)
	e.int("amount", o.amount)
	e.str("amount_decimal", strconv.FormatInt(o.amount, 10))
	e.constant(`"billing_scheme":"per_unit"`)
	e.int("created", o.created)
	e.str("currency", o.currency)
	e.str("interval", o.interval)
	e.int("interval_count", o.every)
	e.bool("livemode", e.s.live())
	e.metadata(o.md)
	e.null("meter")
	e.opt("nickname", o.nickname)
	e.ref("product", o.product, x)
	e.constant(`"tiers_mode":null,"transform_usage":null`)
	e.optInt("trial_period_days", o.trial)
	e.str("usage_type", o.usage)
	e.close()
}

var catalogRoutes = []*operation{
	get("/v1/products", "products", "list:product", listProducts),
	post("/v1/products", "products", "product", createProduct),
	get("/v1/products/{id}", "products", "product", func(c *call) (view, *stripeError) {
		return asView(c.s.products.get(c.args[0], "id"))
	}),
	post("/v1/products/{id}", "products", "product", updateProduct),
	remove("/v1/products/{id}", "products", deleteProduct),
	get("/v1/prices", "prices", "list:price", listPrices),
	post("/v1/prices", "prices", "price", createPrice),
	get("/v1/prices/{price}", "prices", "price", func(c *call) (view, *stripeError) {
		return asView(c.s.prices.get(c.args[0], "id"))
	}),
	post("/v1/prices/{price}", "prices", "price", updatePrice),
	get("/v1/plans", "plans", "list:plan", func(c *call) (view, *stripeError) {
		link := ""
		if id := c.str("product"); id != "" {
			link = "product=" + id
		}
		return c.s.plans.page(c, link, func(o *plan) bool { return !c.has("active") || o.active == c.bool("active") })
	}),
	post("/v1/plans", "plans", "plan", createPlan),
	get("/v1/plans/{plan}", "plans", "plan", func(c *call) (view, *stripeError) {
		return asView(c.s.plans.get(c.args[0], "id"))
	}),
	post("/v1/plans/{plan}", "plans", "plan", updatePlan),
	remove("/v1/plans/{plan}", "plans", func(c *call) (view, *stripeError) {
		o, f := c.s.plans.get(c.args[0], "id")
		if f != nil {
			return nil, f
		}
		c.emit("plan.deleted", o)
		o.deleted = true
		return &deletedView{"plan", o.id}, nil
	}),
}

func listProducts(c *call) (view, *stripeError) {
	var ids []string
	if items, ok := c.p.get("ids").items(); ok {
		for _, n := range items {
			ids = append(ids, n.text())
		}
	}
	return c.s.products.page(c, "", func(o *product) bool {
		return (!c.has("active") || o.active == c.bool("active")) && (ids == nil || slices.Contains(ids, o.id))
	})
}

// custom takes an id that the caller chose, or makes one.
func (c *call) custom(prefix, what string, taken bool) (head, *stripeError) {
	h := c.s.head(prefix, c)
	if id := c.str("id"); id != "" {
		if taken {
			return h, errInvalid("id", "resource_already_exists", what+" already exists.")
		}
		h.id = id
	}
	return h, nil
}

func createProduct(c *call) (view, *stripeError) {
	_, taken := c.s.products.byID[c.str("id")]
	h, f := c.custom("prod", "Product", taken)
	if f != nil {
		return nil, f
	}
	o := &product{head: h, active: true, images: "[]", updated: c.now}
	if f := c.fillProduct(o); f != nil {
		return nil, f
	}
	data := c.p.get("default_price_data")
	var p *price
	if !data.blank() {
		if p, f = c.newPrice(data, "default_price_data"); f != nil {
			return nil, f
		}
		p.product, o.defaultPrice = o.id, p.id
	}
	c.s.products.insert(o)
	c.emit("product.created", o)
	if p != nil {
		c.s.prices.insert(p)
		c.emit("price.created", p)
	}
	return o, nil
}

func (c *call) fillProduct(o *product) (f *stripeError) {
	if o.md, f = c.metadata(o.md); f != nil {
		return f
	}
	if c.set("name") {
		o.name = c.str("name")
	}
	c.assign("description", &o.description)
	c.assign("statement_descriptor", &o.descriptor)
	c.assign("unit_label", &o.unitLabel)
	c.assign("url", &o.url)
	c.assign("tax_code", &o.taxCode)
	if c.set("images") {
		o.images = string(c.p.get("images").json(nil))
	}
	if c.set("active") {
		o.active = c.bool("active")
	}
	return nil
}

func updateProduct(c *call) (view, *stripeError) {
	o, f := c.s.products.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	if id := c.str("default_price"); id != "" {
		if p, ok := c.s.prices.byID[id]; !ok || p.product != o.id {
			return nil, errMissing("price", id, "default_price")
		}
		o.defaultPrice = id
	}
	if f := c.fillProduct(o); f != nil {
		return nil, f
	}
	o.updated = c.now
	c.emit("product.updated", o)
	return o, nil
}

func deleteProduct(c *call) (view, *stripeError) {
	o, f := c.s.products.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	if len(c.s.prices.index["product="+o.id]) > 0 {
		return nil, errInvalid("", "", "This product cannot be deleted because it has one or more user-created prices.")
	}
	c.emit("product.deleted", o)
	o.deleted = true
	return &deletedView{"product", o.id}, nil
}

func listPrices(c *call) (view, *stripeError) {
	link := ""
	if id := c.str("product"); id != "" {
		link = "product=" + id
	}
	var lookups []string
	if items, ok := c.p.get("lookup_keys").items(); ok {
		for _, n := range items {
			lookups = append(lookups, n.text())
		}
	}
	currency, typ := c.str("currency"), c.str("type")
	return c.s.prices.page(c, link, func(o *price) bool {
		return (!c.has("active") || o.active == c.bool("active")) && (currency == "" || o.currency == currency) &&
			(typ == "" || (typ == "recurring") == (o.interval != "")) && (lookups == nil || slices.Contains(lookups, o.lookup))
	})
}

// newPrice reads the money of a price out of n: the call's own parameters or a nested *_data.
func (c *call) newPrice(n *node, prefix string) (*price, *stripeError) {
	o := &price{head: c.s.head("price", c), active: true, tax: "unspecified", currency: n.get("currency").text()}
	if !known(currencies, o.currency) {
		return nil, errInvalid(prefix+"[currency]", "", "Invalid currency: "+o.currency)
	}
	unit := n.get("unit_amount")
	if unit == nil {
		unit = n.get("unit_amount_decimal")
	}
	v, err := parseInt(unit)
	if err != nil || v < 0 {
		return nil, errInvalid(prefix+"[unit_amount]", "parameter_missing", "Prices of this sandbox need a whole unit_amount of zero or more.")
	}
	o.unit = v
	if r := n.get("recurring"); !r.blank() {
		o.interval, o.every, o.usage = r.get("interval").text(), 1, "licensed"
		if !slices.Contains([]string{"day", "week", "month", "year"}, o.interval) {
			return nil, errInvalid(prefix+"[recurring][interval]", "", "Invalid recurring[interval]: must be one of day, month, week, or year")
		}
		if every, err := parseInt(r.get("interval_count")); err == nil {
			o.every = every
		}
	}
	return o, nil
}

func createPrice(c *call) (view, *stripeError) {
	o, f := c.newPrice(c.p, "price")
	if f != nil {
		return nil, f
	}
	switch data := c.p.get("product_data"); {
	case c.set("product"):
		if _, f := c.s.products.get(c.str("product"), "product"); f != nil {
			return nil, f
		}
		o.product = c.str("product")
	case data.get("name").text() != "":
		p := &product{head: c.s.head("prod", c), active: true, images: "[]", updated: c.now, name: data.get("name").text()}
		c.s.products.insert(p)
		c.emit("product.created", p)
		o.product = p.id
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

func (c *call) fillPrice(o *price) (f *stripeError) {
	if o.md, f = c.metadata(o.md); f != nil {
		return f
	}
	c.assign("nickname", &o.nickname)
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
	if f := c.fillPrice(o); f != nil {
		return nil, f
	}
	c.emit("price.updated", o)
	return o, nil
}

func createPlan(c *call) (view, *stripeError) {
	_, taken := c.s.plans.byID[c.str("id")]
	h, f := c.custom("plan", "Plan", taken)
	if f != nil {
		return nil, f
	}
	currency, f := c.currency("currency")
	if f != nil {
		return nil, f
	}
	o := &plan{head: h, active: true, currency: currency, interval: c.str("interval"), every: 1, usage: "licensed", amount: c.amount("amount")}
	if !c.has("amount") || o.amount < 0 {
		return nil, errInvalid("amount", "parameter_missing", "Plans of this sandbox need an amount of zero or more.")
	}
	if c.has("interval_count") {
		o.every = c.amount("interval_count")
	}
	if f := c.fillPlan(o); f != nil {
		return nil, f
	}
	switch n := c.p.get("product"); {
	case n.text() != "":
		if _, f := c.s.products.get(n.text(), "product"); f != nil {
			return nil, f
		}
		o.product = n.text()
	case n.get("name").text() != "":
		p := &product{head: c.s.head("prod", c), active: true, images: "[]", updated: c.now, name: n.get("name").text()}
		c.s.products.insert(p)
		o.product = p.id
	default:
		return nil, errMissingParam("product")
	}
	c.s.plans.insert(o)
	c.emit("plan.created", o)
	return o, nil
}

func (c *call) fillPlan(o *plan) (f *stripeError) {
	if o.md, f = c.metadata(o.md); f != nil {
		return f
	}
	c.assign("nickname", &o.nickname)
	if c.has("trial_period_days") {
		o.trial = c.amount("trial_period_days")
	}
	if c.set("active") {
		o.active = c.bool("active")
	}
	return nil
}

func updatePlan(c *call) (view, *stripeError) {
	o, f := c.s.plans.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	if id := c.str("product"); id != "" {
		if _, f := c.s.products.get(id, "product"); f != nil {
			return nil, f
		}
		c.s.plans.relink(o, func() { o.product = id })
	}
	if f := c.fillPlan(o); f != nil {
		return nil, f
	}
	c.emit("plan.updated", o)
	return o, nil
}
