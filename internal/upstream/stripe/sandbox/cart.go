package sandbox

// cart is what a quote, a checkout session or a payment link sells.
type cart struct {
	currency  string
	items     []*cartItem
	discounts []*discount
	rates     []*taxRate
	shipping  int64
}

// cartItem is a price and how many of it. Its line is what that costs.
type cartItem struct {
	line
	*pricing
	least, most int64 // what a customer may adjust the quantity to; most 0: not at all
}

func (o *cartItem) key() string { return o.line.id }

func (o *cartItem) render(e *enc, x *expansion) {
	var discount, tax int64
	for _, t := range o.off {
		discount += t.amount
	}
	onTop := int64(0)
	for _, t := range o.taxes {
		tax += t.amount
		if !t.rate.inclusive {
			onTop += t.amount
		}
	}
	e.open()
	e.str("id", o.line.id)
	e.str("object", "item")
	if o.most > 0 {
		e.key("adjustable_quantity")
		e.open()
		e.bool("enabled", true)
		e.int("maximum", o.most)
		e.int("minimum", o.least)
		e.close()
	} else {
		e.null("adjustable_quantity")
	}
	e.int("amount_discount", discount)
	e.int("amount_subtotal", o.amount)
	e.int("amount_tax", tax)
	e.int("amount_total", o.net()+onTop)
	e.str("currency", o.line.currency)
	e.opt("description", o.line.description)
	if sub := x.child("discounts"); sub != nil {
		e.itemDiscounts("discounts", o.off, sub)
	}
	e.metadata(o.line.md)
	e.key("price")
	o.pricing.price.render(e, x.child("price"))
	e.int("quantity", o.quantity)
	if x.child("taxes") != nil {
		e.itemTaxes("taxes", o.taxes)
	}
	e.close()
}

// itemDiscounts writes discounts with the objects behind them, as line items show them.
func (e *enc) itemDiscounts(field string, off []taken, x *expansion) {
	e.key(field)
	e.b = append(e.b, '[')
	for _, t := range off {
		e.open()
		e.int("amount", t.amount)
		e.key("discount")
		t.discount.render(e, x.child("discount"))
		e.close()
	}
	e.b = append(e.b, ']')
}

func (e *enc) itemTaxes(field string, taxes []levied) {
	e.key(field)
	e.b = append(e.b, '[')
	for _, t := range taxes {
		e.open()
		e.int("amount", t.amount)
		e.key("rate")
		t.rate.render(e, nil)
		e.null("taxability_reason")
		e.int("taxable_amount", t.base)
		e.close()
	}
	e.b = append(e.b, ']')
}

// renderTotals writes total_details.
func (b *bill) renderTotals(e *enc, x *expansion) {
	onTop, inside := b.tax()
	e.key("total_details")
	e.open()
	e.int("amount_discount", b.discount())
	e.int("amount_shipping", b.shipping)
	e.int("amount_tax", onTop+inside)
	if sub := x.child("total_details").child("breakdown"); sub != nil {
		e.key("breakdown")
		e.open()
		e.itemDiscounts("discounts", b.off, sub.child("discounts"))
		e.itemTaxes("taxes", b.taxes)
		e.close()
	}
	e.close()
}

// fill reads line items: field is line_items. All have the currency of the first.
func (o *cart) fill(c *call, p part, field, customer string) {
	o.items = nil
	for _, n := range p.list(field) {
		pr := c.pricing(n, o.currency)
		if pr == nil {
			if n.fault() == nil {
				n.keep(errMissingParam(n.nameOf("price")))
			}
			return
		}
		o.currency = pr.currency
		item := &cartItem{pricing: pr, line: line{id: c.s.id("li"), currency: pr.currency, unit: pr.unit, price: pr.id, product: pr.product,
			discountable: true, md: n.metadata(nil), rates: c.rates(n, "tax_rates")}}
		item.quantity = n.count("quantity", 1)
		if p := c.s.products.byID[pr.product]; p != nil {
			item.description = p.name
		}
		if n.sent("discounts") {
			item.line.discounts = c.redeem(n, discount{customer: customer})
		}
		if adjust := n.sub("adjustable_quantity"); adjust.bool("enabled") {
			item.least, item.most = adjust.count("minimum", 0), adjust.count("maximum", 99)
		}
		item.amount = pr.cost(item.quantity)
		if pr.custom != nil {
			item.amount = pr.custom.preset
		}
		o.items = append(o.items, item)
	}
}

// reckon works out what the cart comes to; fits chooses items, nil all.
func (o *cart) reckon(c *call, fits func(*cartItem) bool) bill {
	var lines []*line
	for _, it := range o.items {
		if fits == nil || fits(it) {
			lines = append(lines, &it.line)
		}
	}
	return reckon(lines, c.holding(o.discounts), o.rates, o.shipping)
}

// recurring is the cadence of the items that recur; the zero one where none does.
func (o *cart) recurring() cadence {
	for _, it := range o.items {
		if it.recurs() {
			return it.period
		}
	}
	return cadence{}
}

func recurringItem(it *cartItem) bool { return it.recurs() }

func (o *cart) list(url string, fits func(*cartItem) bool) *listView {
	list := &listView{url: url}
	for _, it := range o.items {
		if fits == nil || fits(it) {
			list.data = append(list.data, it)
		}
	}
	return list
}

// shown cuts a list to what is embedded.
func (l *listView) shown() *listView {
	l.more = len(l.data) > defaultLimit
	l.data = l.data[:min(len(l.data), defaultLimit)]
	return l
}

// order is the cart as parameters of a subscription: what recurs as its items,
// the rest as items of its first invoice.
func (o *cart) order() *node {
	all := &node{kind: nodeMap}
	items, once := &node{kind: nodeList}, &node{kind: nodeList}
	for _, it := range o.items {
		n := &node{kind: nodeMap}
		n.set("price", word(it.pricing.price.id))
		if it.usage != "metered" {
			n.set("quantity", word(text(it.quantity)))
		}
		if it.line.rates != nil {
			n.set("tax_rates", idList(it.line.rates))
		}
		if it.line.discounts != nil {
			n.set("discounts", discountList(it.line.discounts))
		}
		if it.recurs() {
			items.list = append(items.list, n)
		} else {
			once.list = append(once.list, n)
		}
	}
	all.set("items", items)
	if len(once.list) > 0 {
		all.set("add_invoice_items", once)
	}
	all.set("currency", word(o.currency))
	if o.rates != nil {
		all.set("default_tax_rates", idList(o.rates))
	}
	if o.discounts != nil {
		all.set("discounts", discountList(o.discounts))
	}
	return all
}

func idList(rates []*taxRate) *node {
	list := &node{kind: nodeList}
	for _, r := range rates {
		list.list = append(list.list, word(r.id))
	}
	return list
}

func discountList(all []*discount) *node {
	list := &node{kind: nodeList}
	for _, d := range all {
		n := &node{kind: nodeMap}
		n.set("discount", word(d.id))
		list.list = append(list.list, n)
	}
	return list
}
