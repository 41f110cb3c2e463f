package sandbox

import (
	"math/big"
	"slices"
)

// line is one line of an invoice: an invoice item, or a period of a subscription item.
type line struct {
	id                   string
	of                   *invoiceItem // behind it; nil for a period of a subscription
	source               string       // the invoice line that a line of a credit note is of
	subscription, member string       // and its item
	amount, quantity     int64        // minor units, before discounts
	unit                 *big.Rat
	currency             string
	description          string
	price, product       string
	discountable         bool
	proration            bool
	discounts            []*discount
	rates                []*taxRate
	start, stop          int64 // the period it is for
	md                   pairs

	off     []taken // what discounts took off it
	granted []granted
	taxes   []levied
}

// taken is what a discount took off.
type taken struct {
	discount *discount
	amount   int64
}

// levied is what a tax rate came to.
type levied struct {
	rate         *taxRate
	base, amount int64
}

// itemID is the id of the invoice item behind the line, if there is one.
func (l *line) itemID() string {
	if l.of == nil {
		return ""
	}
	return l.of.head.id
}

// granted is what a credit grant paid of it.
type granted struct {
	transaction string
	amount      int64
}

// rest is what discounts leave of a line's amount.
func (l *line) rest() int64 {
	sum := l.amount
	for _, t := range l.off {
		sum -= t.amount
	}
	return sum
}

// net is what is to be paid of it: what credit leaves of that.
func (l *line) net() int64 {
	sum := l.rest()
	for _, g := range l.granted {
		sum -= g.amount
	}
	return sum
}

// lineView is a line as it stands on an invoice.
type lineView struct {
	*line
	invoice string
}

func (l *lineView) key() string { return l.id }

func (l *lineView) render(e *enc, x *expansion) {
	e.open()
	e.str("id", l.id)
	e.str("object", "line_item")
	e.int("amount", l.amount)
	e.str("currency", l.currency)
	e.opt("description", l.description)
	e.renderTaken("discount_amounts", l.off, x)
	e.bool("discountable", l.discountable)
	e.renderDiscounts(l.discounts, x)
	e.str("invoice", l.invoice)
	e.bool("livemode", e.s.live())
	e.metadata(l.md)
	l.renderParent(e)
	l.renderPeriod(e)
	e.renderPretax("pretax_credit_amounts", l.off, l.granted, x)
	l.renderPricing(e, x)
	e.int("quantity", l.quantity)
	e.str("quantity_decimal", text(l.quantity))
	e.ref("subscription", l.subscription, x)
	e.int("subtotal", l.amount)
	e.renderLevied("taxes", l.taxes, x)
	e.close()
}

func (l *line) renderParent(e *enc) {
	e.key("parent")
	e.open()
	proration := func() {
		e.bool("proration", l.proration)
		if l.proration {
			e.constant(`"proration_details":{"credited_items":null}`)
		} else {
			e.null("proration_details")
		}
		e.opt("subscription", l.subscription)
	}
	if l.member == "" {
		e.key("invoice_item_details")
		e.open()
		e.str("invoice_item", l.itemID())
		proration()
		e.close()
		e.constant(`"subscription_item_details":null,"type":"invoice_item_details"`)
	} else {
		e.null("invoice_item_details")
		e.key("subscription_item_details")
		e.open()
		e.opt("invoice_item", l.itemID())
		proration()
		e.str("subscription_item", l.member)
		e.close()
		e.str("type", "subscription_item_details")
	}
	e.close()
}

func (l *line) renderPeriod(e *enc) {
	e.key("period")
	e.open()
	e.int("end", l.stop)
	e.int("start", l.start)
	e.close()
}

func (l *line) renderPricing(e *enc, x *expansion) {
	if l.price == "" {
		e.null("pricing")
		return
	}
	e.key("pricing")
	e.open()
	e.key("price_details")
	e.open()
	e.ref("price", l.price, x.child("pricing").child("price_details"))
	e.str("product", l.product)
	e.close()
	e.str("type", "price_details")
	e.opt("unit_amount_decimal", decimal(l.unit))
	e.close()
}

// renderTaken writes what discounts took off, of one line or in all.
func (e *enc) renderTaken(field string, off []taken, x *expansion) {
	sub := x.child(field)
	e.key(field)
	e.b = append(e.b, '[')
	for _, t := range off {
		e.open()
		e.int("amount", t.amount)
		if inner := sub.child("discount"); inner != nil {
			e.key("discount")
			t.discount.render(e, inner)
		} else {
			e.str("discount", t.discount.id)
		}
		e.close()
	}
	e.b = append(e.b, ']')
}

// renderPretax writes what came off before taxes: discounts and credit.
func (e *enc) renderPretax(field string, off []taken, paid []granted, x *expansion) {
	sub := x.child(field)
	e.key(field)
	e.b = append(e.b, '[')
	for _, t := range off {
		e.open()
		e.int("amount", t.amount)
		if inner := sub.child("discount"); inner != nil {
			e.key("discount")
			t.discount.render(e, inner)
		} else {
			e.str("discount", t.discount.id)
		}
		e.str("type", "discount")
		e.close()
	}
	for _, g := range paid {
		e.open()
		e.int("amount", g.amount)
		e.ref("credit_balance_transaction", g.transaction, sub)
		e.str("type", "credit_balance_transaction")
		e.close()
	}
	e.b = append(e.b, ']')
}

// renderLevied writes taxes in the form of invoices and credit notes.
func (e *enc) renderLevied(field string, taxes []levied, x *expansion) {
	sub := x.child(field)
	e.key(field)
	e.b = append(e.b, '[')
	for _, t := range taxes {
		e.open()
		e.int("amount", t.amount)
		if t.rate.inclusive {
			e.str("tax_behavior", "inclusive")
		} else {
			e.str("tax_behavior", "exclusive")
		}
		e.key("tax_rate_details")
		e.open()
		e.ref("tax_rate", t.rate.id, sub.child("tax_rate_details"))
		e.close()
		e.str("taxability_reason", "not_available")
		e.int("taxable_amount", t.base)
		e.str("type", "tax_rate_details")
		e.close()
	}
	e.b = append(e.b, ']')
}

// bill is what lines come to.
type bill struct {
	subtotal int64 // before discounts and taxes on top
	shipping int64
	off      []taken
	granted  []granted
	taxes    []levied
	total    int64
}

// discount is all that was taken off.
func (b *bill) discount() int64 {
	var sum int64
	for _, t := range b.off {
		sum += t.amount
	}
	return sum
}

// onTop are the taxes that are not in the prices already; inside, those that are.
func (b *bill) tax() (onTop, inside int64) {
	for _, t := range b.taxes {
		if t.rate.inclusive {
			inside += t.amount
		} else {
			onTop += t.amount
		}
	}
	return onTop, inside
}

// reckon works out what lines come to: each line's own discounts first, then
// those of the whole, then taxes; rates are for the lines that have none of their own.
func reckon(lines []*line, discounts []*discount, rates []*taxRate, shipping int64) bill {
	b := bill{shipping: shipping}
	for _, l := range lines {
		b.subtotal += l.amount
		l.off, l.taxes = nil, nil
		for _, d := range l.discounts {
			if l.discountable {
				l.off = append(l.off, taken{d, d.coupon.takes(l.rest(), l.currency)})
			}
		}
	}
	for _, d := range discounts {
		spread(lines, d)
	}
	b.total = shipping
	for _, l := range lines {
		own := rates
		if l.rates != nil {
			own = l.rates
		}
		l.levy(own)
		b.total += l.net()
		b.note(l)
	}
	onTop, _ := b.tax()
	b.total += onTop
	return b
}

// spread takes one discount off all lines that it is for.
func spread(lines []*line, d *discount) {
	var on []*line
	var sum int64
	for _, l := range lines {
		if l.discountable && d.coupon.covers(l.product) {
			on = append(on, l)
			sum += l.rest()
		}
	}
	if len(on) == 0 {
		return
	}
	if d.coupon.percent != nil {
		for _, l := range on {
			l.off = append(l.off, taken{d, d.coupon.takes(l.rest(), l.currency)})
		}
		return
	}
	rest := d.coupon.takes(sum, on[0].currency)
	for i, l := range on {
		part := share(rest, l.rest(), sum)
		if i == len(on)-1 {
			part = rest
		}
		sum -= l.rest()
		rest -= part
		l.off = append(l.off, taken{d, part})
	}
}

// levy works out the taxes of a line.
func (l *line) levy(rates []*taxRate) {
	net := ratOf(l.net())
	for _, r := range rates {
		part := new(big.Rat).Quo(r.percent, ratOf(100))
		t := levied{rate: r, base: l.net()}
		if r.inclusive {
			base := new(big.Rat).Quo(net, new(big.Rat).Add(ratOf(1), part))
			t.amount = l.net() - round(base)
			t.base = round(base)
		} else {
			t.amount = round(new(big.Rat).Mul(net, part))
		}
		l.taxes = append(l.taxes, t)
	}
}

// note adds a line's discounts and taxes to those of the whole.
func (b *bill) note(l *line) {
	for _, t := range l.off {
		i := slices.IndexFunc(b.off, func(o taken) bool { return o.discount == t.discount })
		if i < 0 {
			b.off = append(b.off, t)
			continue
		}
		b.off[i].amount += t.amount
	}
	b.granted = append(b.granted, l.granted...)
	for _, t := range l.taxes {
		i := slices.IndexFunc(b.taxes, func(o levied) bool { return o.rate == t.rate })
		if i < 0 {
			b.taxes = append(b.taxes, t)
			continue
		}
		b.taxes[i].amount += t.amount
		b.taxes[i].base += t.base
	}
}
