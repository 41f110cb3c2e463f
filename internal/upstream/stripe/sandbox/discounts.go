package sandbox

import "time"

// discount is a coupon redeemed for something, from a time on and maybe to another.
type discount struct {
	head
	coupon       *coupon
	promotion    string
	customer     string
	subscription string
	item         string // subscription item
	invoice      string
	invoiceItem  string
	session      string
	start, end   int64
	spent        bool // it was for one invoice, and that was made
}

func (o *discount) links() []string { return nil }

func (o *discount) render(e *enc, x *expansion) {
	e.open()
	e.str("id", o.id)
	e.str("object", "discount")
	e.opt("checkout_session", o.session)
	e.ref("customer", o.customer, x)
	e.null("customer_account")
	if o.deleted {
		e.bool("deleted", true)
	} else {
		e.optInt("end", o.end)
	}
	e.opt("invoice", o.invoice)
	e.opt("invoice_item", o.invoiceItem)
	e.ref("promotion_code", o.promotion, x)
	e.key("source")
	e.open()
	e.ref("coupon", o.coupon.id, x.child("source"))
	e.str("type", "coupon")
	e.close()
	e.int("start", o.start)
	e.opt("subscription", o.subscription)
	e.opt("subscription_item", o.item)
	e.close()
}

// holds reports that a discount still takes something off at a time.
func (o *discount) holds(at int64) bool {
	return !o.deleted && !o.spent && (o.end == 0 || at < o.end)
}

// redeem makes discounts out of a discounts parameter: coupons, promotion codes,
// or discounts that exist already. like is where they belong.
func (c *call) redeem(p part, like discount) []*discount {
	var out []*discount
	for _, n := range p.list("discounts") {
		if id := n.str("discount"); id != "" {
			d, f := c.s.discounts.get(id, n.nameOf("discount"))
			n.keep(f)
			if f == nil {
				out = append(out, d)
			}
			continue
		}
		if d := c.redeemOne(n, like); d != nil {
			out = append(out, d)
		}
	}
	return out
}

// redeemOne makes a discount of a coupon or a promotion code.
func (c *call) redeemOne(n part, like discount) *discount {
	like.head = c.s.head("di", c)
	like.start = c.now
	couponID := n.str("coupon")
	var code *promotionCode
	if id := n.str("promotion_code"); id != "" {
		found, f := c.s.promotions.get(id, n.nameOf("promotion_code"))
		if f != nil {
			n.keep(f)
			return nil
		}
		if code = found; !code.redeemable(like.customer, c.now) {
			n.refuse("promotion_code", "promotion_code_expired", "This promotion code cannot be redeemed.")
			return nil
		}
		couponID, like.promotion = code.coupon, code.id
	}
	found, f := c.s.coupons.get(couponID, n.nameOf("coupon"))
	if f != nil {
		n.keep(f)
		return nil
	}
	if !found.valid(c.now) {
		n.refuse("coupon", "coupon_expired", "Coupon expired: "+found.id)
		return nil
	}
	like.coupon = found
	if found.duration == "repeating" {
		like.end = time.Unix(c.now, 0).UTC().AddDate(0, int(found.months), 0).Unix()
	}
	d := &like
	if c.dry {
		return d
	}
	found.redeemed++
	if code != nil {
		code.redeemed++
	}
	c.s.discounts.insert(d)
	return d
}

func (o *promotionCode) redeemable(customer string, now int64) bool {
	return o.active && (o.customer == "" || o.customer == customer) && (o.limit == 0 || o.redeemed < o.limit) && (o.expires == 0 || now < o.expires)
}

// holding are the discounts that still take something off.
func (c *call) holding(all []*discount) []*discount {
	var out []*discount
	for _, d := range all {
		if d != nil && d.holds(c.now) {
			out = append(out, d)
		}
	}
	return out
}

// spend ends the discounts that were for one invoice.
func spend(all []*discount) {
	for _, d := range all {
		d.spent = d.spent || d.coupon.duration == "once" && d.invoice == "" && d.invoiceItem == ""
	}
}

// renderDiscounts writes discounts as ids, or as objects where asked for.
func (e *enc) renderDiscounts(all []*discount, x *expansion) {
	sub := x.child("discounts")
	e.key("discounts")
	e.b = append(e.b, '[')
	for _, d := range all {
		if sub != nil {
			d.render(e, sub)
			continue
		}
		e.comma()
		e.b = appendString(e.b, d.id)
	}
	e.b = append(e.b, ']')
}

var discountRoutes = []*operation{
	get("/v1/customers/{customer}/discount", "customers.discount", "discount", func(c *call) (view, *stripeError) {
		d, f := c.customerDiscount()
		return asView(d, f)
	}),
	remove("/v1/customers/{customer}/discount", "customers.discount", func(c *call) (view, *stripeError) {
		d, f := c.customerDiscount()
		if f != nil {
			return nil, f
		}
		c.s.customers.byID[d.customer].discount = nil
		return c.endDiscount(d), nil
	}),
}

func (c *call) customerDiscount() (*discount, *stripeError) {
	o, f := c.s.customers.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	if o.discount == nil {
		return nil, errMissing("discount", o.id, "id")
	}
	return o.discount, nil
}

// endDiscount takes a discount away.
func (c *call) endDiscount(d *discount) view {
	c.emit("customer.discount.deleted", d)
	d.deleted = true
	return d
}

// SetCustomerDiscount gives a customer a discount by a coupon, which only Stripe's
// dashboard and older versions of its API can do. Unknown ids are errors. Safe
// for concurrent use.
func (s *Server) SetCustomerDiscount(customer, coupon string) error {
	return s.outside(func(c *call) *stripeError {
		o, f := c.s.customers.get(customer, "id")
		if f != nil {
			return f
		}
		c.on(customer)
		n := &node{kind: nodeMap}
		n.set("coupon", &node{kind: nodeString, str: coupon})
		p := part{n: n, bad: &fault{}}
		d := c.redeemOne(p, discount{customer: customer})
		if f := p.fault(); f != nil {
			return f
		}
		o.discount = d
		c.emit("customer.discount.created", d)
		return nil
	})
}
