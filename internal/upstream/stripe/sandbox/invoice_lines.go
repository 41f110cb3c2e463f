package sandbox

// editableInvoice is the draft that the path names.
func (c *call) editableInvoice() (*invoice, *stripeError) {
	o, f := c.s.invoices.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	if o.status != "draft" {
		return nil, errInvalid("", "invoice_not_editable", "You can only change the lines of draft invoices. This invoice is "+o.status+".")
	}
	c.on(o.customer)
	return o, nil
}

// changed ends a change of a draft's lines.
func (c *call) changed(o *invoice, p part) (view, *stripeError) {
	if p.sent("invoice_metadata") {
		md, f := mergeMetadata("invoice_metadata", p.n.get("invoice_metadata"), o.md)
		if f != nil {
			return nil, f
		}
		o.md = md
	}
	c.refresh(o)
	c.emit("invoice.updated", o)
	return o, nil
}

// addLines puts new or pending items on a draft.
func addLines(c *call) (view, *stripeError) {
	o, f := c.editableInvoice()
	if f != nil {
		return nil, f
	}
	p := c.whole()
	var added []*invoiceItem
	for _, n := range p.list("lines") {
		item := c.newItem(o.customer, o.currency)
		if id := n.str("invoice_item"); id != "" {
			found, f := c.s.items.get(id, n.nameOf("invoice_item"))
			if f == nil && (found.customer != o.customer || found.invoice != "" || found.currency != o.currency) {
				f = errInvalid(n.nameOf("invoice_item"), "", "The invoice item "+id+" is not pending for this customer in this currency.")
			}
			n.keep(f)
			if item = found; f != nil {
				continue
			}
		}
		next := item.line
		c.fillLine(&next, n, o.customer)
		if next.currency != o.currency {
			n.refuse("pricing", "", "The currency of the invoice is "+o.currency+", not "+next.currency+".")
		}
		if n.fault() == nil {
			item.line = next
			added = append(added, item)
		}
	}
	if f := p.fault(); f != nil {
		return nil, f
	}
	for _, item := range added {
		if _, stored := c.s.items.byID[item.head.id]; !stored {
			c.s.items.insert(item)
		}
		item.invoice = o.id
		o.lines = append(o.lines, &item.line)
	}
	return c.changed(o, p)
}

// updateLines changes lines of a draft; the items behind them change with them.
func updateLines(c *call) (view, *stripeError) {
	o, f := c.editableInvoice()
	if f != nil {
		return nil, f
	}
	p := c.whole()
	next := map[*line]line{}
	for _, n := range p.list("lines") {
		if l, to := c.changeLine(o, n.str("id"), n); l != nil {
			next[l] = to
		}
	}
	if f := p.fault(); f != nil {
		return nil, f
	}
	for l, to := range next {
		*l = to
	}
	return c.changed(o, p)
}

// changeLine works out what a line becomes.
func (c *call) changeLine(o *invoice, id string, p part) (*line, line) {
	l := o.lineOf(id)
	if l == nil {
		p.keep(errMissing("line_item", id, p.nameOf("id")))
		return nil, line{}
	}
	next := *l
	c.fillLine(&next, p, o.customer)
	if next.currency != o.currency {
		p.refuse("pricing", "", "The currency of the invoice is "+o.currency+", not "+next.currency+".")
	}
	return l, next
}

func updateLine(c *call) (view, *stripeError) {
	o, f := c.editableInvoice()
	if f != nil {
		return nil, f
	}
	if o.lineOf(c.args[1]) == nil {
		return nil, errMissing("line_item", c.args[1], "id")
	}
	p := c.whole()
	l, next := c.changeLine(o, c.args[1], p)
	if f := p.fault(); f != nil {
		return nil, f
	}
	*l = next
	c.refresh(o)
	c.emit("invoice.updated", o)
	return &lineView{l, o.id}, nil
}

// removeLines deletes items of a draft, or makes them pending again.
func removeLines(c *call) (view, *stripeError) {
	o, f := c.editableInvoice()
	if f != nil {
		return nil, f
	}
	p := c.whole()
	for _, n := range p.list("lines") {
		if o.lineOf(n.str("id")) == nil {
			return nil, errMissing("line_item", n.str("id"), n.nameOf("id"))
		}
	}
	for _, n := range p.list("lines") {
		l := o.lineOf(n.str("id"))
		c.takeOff(o, l)
		if l.of != nil {
			l.of.invoice = ""
			l.of.deleted = n.str("behavior") == "delete"
		}
	}
	return c.changed(o, p)
}
