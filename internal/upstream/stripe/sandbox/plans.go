package sandbox

// planView is a recurring price as Stripe's older routes show it.
type planView struct{ *price }

func (v planView) render(e *enc, x *expansion) {
	o := v.price
	if o.deleted {
		(&deletedView{"plan", o.id}).render(e, nil)
		return
	}
	e.open()
	e.str("id", o.id)
	e.str("object", "plan")
	e.bool("active", o.active)
	e.rat("amount", o.unit)
	e.str("billing_scheme", o.scheme())
	e.int("created", o.created)
	e.str("currency", o.currency)
	e.cadence(o.period)
	e.bool("livemode", e.s.live())
	e.metadata(o.md)
	e.opt("meter", o.meter)
	e.opt("nickname", o.nickname)
	e.ref("product", o.product, x)
	if x.child("tiers") != nil && len(o.tiers) > 0 {
		e.tiers(o.tiers)
	}
	e.opt("tiers_mode", o.mode)
	e.pack("transform_usage", o.pack)
	e.optInt("trial_period_days", o.trial)
	e.str("usage_type", o.usage)
	e.close()
}

var planRoutes = []*operation{
	get("/v1/plans", "plans", "list:plan", func(c *call) (view, *stripeError) {
		link := ""
		if id := c.str("product"); id != "" {
			link = "product=" + id
		}
		page, f := c.s.prices.page(c, link, func(o *price) bool {
			return o.recurs() && (!c.has("active") || o.active == c.bool("active"))
		})
		if f != nil {
			return nil, f
		}
		list := page.(*listView)
		for i, v := range list.data {
			list.data[i] = planView{v.(*price)}
		}
		return list, nil
	}),
	post("/v1/plans", "plans", "plan", createPlan),
	get("/v1/plans/{plan}", "plans", "plan", func(c *call) (view, *stripeError) { return c.plan() }),
	post("/v1/plans/{plan}", "plans", "plan", updatePlan),
	remove("/v1/plans/{plan}", "plans", func(c *call) (view, *stripeError) {
		o, f := c.plan()
		if f != nil {
			return nil, f
		}
		c.emit("plan.deleted", o)
		o.(planView).deleted = true
		return &deletedView{"plan", c.args[0]}, nil
	}),
}

// plan is the plan that the path names.
func (c *call) plan() (view, *stripeError) {
	o, f := c.s.prices.get(c.args[0], "id")
	if f != nil || !o.recurs() {
		return nil, errMissing("plan", c.args[0], "id")
	}
	return planView{o}, nil
}

func createPlan(c *call) (view, *stripeError) {
	_, taken := c.s.prices.byID[c.str("id")]
	h, f := c.custom("plan", "Plan", taken)
	if f != nil {
		return nil, f
	}
	p := c.whole()
	o := &price{head: h, active: true, currency: p.currency("currency"), tariff: p.tariff("amount"), pack: p.pack("transform_usage"),
		period: p.cadence(), usage: p.or("usage_type", "licensed")}
	o.meter = c.meterOf(p, o.usage)
	if f := c.fillPlan(o); f != nil {
		return nil, f
	}
	if f := p.fault(); f != nil {
		return nil, f
	}
	switch {
	case c.str("product") != "":
		if _, f := c.s.products.get(c.str("product"), "product"); f != nil {
			return nil, f
		}
		o.product = c.str("product")
	case p.sub("product").has("name"):
		o.product = c.inlineProduct(p.sub("product")).id
	default:
		return nil, errMissingParam("product")
	}
	c.s.prices.insert(o)
	c.emit("plan.created", planView{o})
	c.emit("price.created", o)
	return planView{o}, nil
}

func (c *call) fillPlan(o *price) (f *stripeError) {
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
	v, f := c.plan()
	if f != nil {
		return nil, f
	}
	o := v.(planView).price
	if id := c.str("product"); id != "" {
		if _, f := c.s.products.get(id, "product"); f != nil {
			return nil, f
		}
		c.s.prices.relink(o, func() { o.product = id })
	}
	if f := c.fillPlan(o); f != nil {
		return nil, f
	}
	c.emit("plan.updated", v)
	return v, nil
}
