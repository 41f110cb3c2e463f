package sandbox

import (
	"math/big"
	"slices"
	"strings"
)

// coupon takes something off: a share, or an amount.
type coupon struct {
	head
	name, duration  string
	percent         *big.Rat // nil where it is an amount
	off             map[string]int64
	currency        string
	currencies      []string // of off, in order
	months          int64
	products        []string // only these; empty is all
	limit, redeemed int64
	redeemBy        int64
}

func (o *coupon) links() []string { return nil }

func (o *coupon) valid(now int64) bool {
	return !o.deleted && (o.limit == 0 || o.redeemed < o.limit) && (o.redeemBy == 0 || now < o.redeemBy)
}

func (o *coupon) render(e *enc, x *expansion) {
	if o.deleted {
		(&deletedView{"coupon", o.id}).render(e, nil)
		return
	}
	e.open()
	e.str("id", o.id)
	e.str("object", "coupon")
	if o.percent == nil {
		e.int("amount_off", o.off[o.currency])
	} else {
		e.null("amount_off")
	}
	if x.child("applies_to") != nil && o.products != nil {
		e.key("applies_to")
		e.open()
		e.strings("products", o.products)
		e.close()
	}
	e.int("created", o.created)
	e.opt("currency", o.currency)
	if x.child("currency_options") != nil {
		e.key("currency_options")
		e.open()
		for _, code := range o.currencies {
			e.key(code)
			e.open()
			e.int("amount_off", o.off[code])
			e.close()
		}
		e.close()
	}
	e.str("duration", o.duration)
	e.optInt("duration_in_months", o.months)
	e.bool("livemode", e.s.live())
	e.optInt("max_redemptions", o.limit)
	e.metadata(o.md)
	e.opt("name", o.name)
	e.raw("percent_off", decimal(o.percent))
	e.optInt("redeem_by", o.redeemBy)
	e.int("times_redeemed", o.redeemed)
	e.bool("valid", o.valid(e.s.now().Unix()))
	e.close()
}

// strings writes a list of strings.
func (e *enc) strings(k string, list []string) {
	e.key(k)
	e.b = append(e.b, '[')
	for i, v := range list {
		if i > 0 {
			e.b = append(e.b, ',')
		}
		e.b = appendString(e.b, v)
	}
	e.b = append(e.b, ']')
}

// takes is what the coupon takes off an amount of a currency.
func (o *coupon) takes(amount int64, currency string) int64 {
	if o.percent != nil {
		return round(new(big.Rat).Mul(ratOf(amount), new(big.Rat).Quo(o.percent, ratOf(100))))
	}
	return min(max(amount, 0), o.off[currency])
}

// covers reports that a coupon is for a product.
func (o *coupon) covers(product string) bool {
	return len(o.products) == 0 || slices.Contains(o.products, product)
}

var couponRoutes = []*operation{
	get("/v1/coupons", "coupons", "list:coupon", func(c *call) (view, *stripeError) { return c.s.coupons.page(c, "", nil) }),
	post("/v1/coupons", "coupons", "coupon", createCoupon),
	get("/v1/coupons/{coupon}", "coupons", "coupon", func(c *call) (view, *stripeError) {
		return asView(c.s.coupons.get(c.args[0], "id"))
	}),
	post("/v1/coupons/{coupon}", "coupons", "coupon", func(c *call) (view, *stripeError) {
		o, f := c.s.coupons.get(c.args[0], "id")
		if f != nil {
			return nil, f
		}
		if o.md, f = c.metadata(o.md); f != nil {
			return nil, f
		}
		c.assign("name", &o.name)
		if f := c.couponCurrencies(o, c.whole()); f != nil {
			return nil, f
		}
		c.emit("coupon.updated", o)
		return o, nil
	}),
	remove("/v1/coupons/{coupon}", "coupons", func(c *call) (view, *stripeError) {
		o, f := c.s.coupons.get(c.args[0], "id")
		if f != nil {
			return nil, f
		}
		c.emit("coupon.deleted", o)
		o.deleted = true // discounts that were made of it stay
		return &deletedView{"coupon", o.id}, nil
	}),
}

func createCoupon(c *call) (view, *stripeError) {
	_, taken := c.s.coupons.byID[c.str("id")]
	h := c.s.head("", c)
	h.id = c.s.random(c.s.ids, 8)
	if id := c.str("id"); id != "" {
		if taken {
			return nil, errInvalid("id", "resource_already_exists", "Coupon already exists.")
		}
		h.id = id
	}
	p := c.whole()
	o := &coupon{head: h, name: c.str("name"), duration: p.or("duration", "once"), percent: p.rat("percent_off"),
		months: p.int("duration_in_months"), limit: p.count("max_redemptions", 0), redeemBy: p.int("redeem_by"), off: map[string]int64{}}
	o.md = p.metadata(nil)
	o.products = p.sub("applies_to").texts("products")
	switch {
	case (o.percent != nil) == c.set("amount_off"):
		p.refuse("percent_off", "", "You must pass exactly one of percent_off or amount_off.")
	case o.percent != nil && (o.percent.Sign() <= 0 || o.percent.Cmp(ratOf(100)) > 0):
		p.refuse("percent_off", "", "Invalid percent_off: must be greater than 0 and at most 100.")
	case o.percent == nil:
		o.currency = p.currency("currency")
		o.off[o.currency] = p.int("amount_off")
		o.currencies = []string{o.currency}
		p.keep(positive("amount_off", o.off[o.currency]))
	}
	if (o.duration == "repeating") != (o.months > 0) {
		p.refuse("duration_in_months", "", "duration_in_months is required for a repeating coupon, and for no other.")
	}
	p.keep(c.couponCurrencies(o, p))
	if f := p.fault(); f != nil {
		return nil, f
	}
	c.s.coupons.insert(o)
	c.emit("coupon.created", o)
	return o, nil
}

// couponCurrencies reads what a coupon takes off in other currencies.
func (c *call) couponCurrencies(o *coupon, p part) *stripeError {
	sub := p.sub("currency_options")
	if sub.n.blank() {
		return p.fault()
	}
	for _, code := range sub.n.keys {
		code = strings.ToLower(code)
		amount := sub.sub(code).int("amount_off")
		if !known(currencies, code) || amount <= 0 || o.percent != nil {
			sub.refuse(code, "", "Invalid currency option: "+code)
			continue
		}
		if _, again := o.off[code]; !again {
			o.currencies = append(o.currencies, code)
		}
		o.off[code] = amount
	}
	return p.fault()
}

// promotionCode is a word that customers redeem for a coupon.
type promotionCode struct {
	head
	code, coupon, customer string
	active                 bool
	expires                int64
	limit, redeemed        int64
	firstTime              bool
	minimum                int64 // of the order, in minor units
	minimumCurrency        string
}

func (o *promotionCode) links() []string { return []string{"coupon=" + o.coupon, "code=" + o.code} }

func (o *promotionCode) render(e *enc, x *expansion) {
	e.open()
	e.str("id", o.id)
	e.str("object", "promotion_code")
	e.bool("active", o.active)
	e.str("code", o.code)
	e.int("created", o.created)
	e.ref("customer", o.customer, x)
	e.null("customer_account")
	e.optInt("expires_at", o.expires)
	e.bool("livemode", e.s.live())
	e.optInt("max_redemptions", o.limit)
	e.metadata(o.md)
	e.key("promotion")
	e.open()
	e.ref("coupon", o.coupon, x.child("promotion"))
	e.str("type", "coupon")
	e.close()
	e.key("restrictions")
	e.open()
	e.bool("first_time_transaction", o.firstTime)
	e.optInt("minimum_amount", o.minimum)
	e.opt("minimum_amount_currency", o.minimumCurrency)
	e.close()
	e.int("times_redeemed", o.redeemed)
	e.close()
}

var promotionRoutes = []*operation{
	get("/v1/promotion_codes", "promotion_codes", "list:promotion_code", func(c *call) (view, *stripeError) {
		link := ""
		if id := c.str("coupon"); id != "" {
			link = "coupon=" + id
		}
		return c.s.promotions.page(c, link, func(o *promotionCode) bool {
			return (!c.has("active") || o.active == c.bool("active")) && (!c.set("customer") || o.customer == c.str("customer")) &&
				(!c.set("code") || strings.EqualFold(o.code, c.str("code")))
		})
	}),
	post("/v1/promotion_codes", "promotion_codes", "promotion_code", createPromotion),
	get("/v1/promotion_codes/{promotion_code}", "promotion_codes", "promotion_code", func(c *call) (view, *stripeError) {
		return asView(c.s.promotions.get(c.args[0], "id"))
	}),
	post("/v1/promotion_codes/{promotion_code}", "promotion_codes", "promotion_code", func(c *call) (view, *stripeError) {
		o, f := c.s.promotions.get(c.args[0], "id")
		if f != nil {
			return nil, f
		}
		if o.md, f = c.metadata(o.md); f != nil {
			return nil, f
		}
		if c.set("active") {
			o.active = c.bool("active")
		}
		c.emit("promotion_code.updated", o)
		return o, nil
	}),
}

func createPromotion(c *call) (view, *stripeError) {
	p := c.whole()
	restrictions := p.sub("restrictions")
	o := &promotionCode{head: c.s.head("promo", c), code: c.str("code"), coupon: p.sub("promotion").str("coupon"), customer: c.str("customer"),
		active: !c.set("active") || c.bool("active"), expires: p.int("expires_at"), limit: p.count("max_redemptions", 0),
		firstTime: restrictions.bool("first_time_transaction"), minimum: restrictions.count("minimum_amount", 0)}
	o.md = p.metadata(nil)
	p.sub("promotion").must("coupon")
	if o.minimum > 0 {
		o.minimumCurrency = restrictions.currency("minimum_amount_currency")
	}
	if f := p.fault(); f != nil {
		return nil, f
	}
	if _, f := c.s.coupons.get(o.coupon, "promotion[coupon]"); f != nil {
		return nil, f
	}
	if o.customer != "" {
		if _, f := c.s.customers.get(o.customer, "customer"); f != nil {
			return nil, f
		}
	}
	if o.code == "" {
		o.code = strings.ToUpper(c.s.random(c.s.ids, 8))
	}
	for _, other := range c.s.promotions.order {
		if other.active && strings.EqualFold(other.code, o.code) && (other.customer == "" || other.customer == o.customer) {
			return nil, errInvalid("code", "", "An active promotion code with `code: "+o.code+"` already exists.")
		}
	}
	c.s.promotions.insert(o)
	c.emit("promotion_code.created", o)
	return o, nil
}
