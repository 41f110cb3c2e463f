package sandbox

type invoice struct {
	head
	customer, currency, description string
	status, number, collection      string
	reason                          string // billing_reason
	subscription, quote             string // whose it is, if any
	parentMetadata                  pairs  // of the subscription, when the invoice was made
	prorated                        int64  // the time up to which a change of the subscription prorates
	lines                           []*line
	discounts                       []*discount
	rates                           []*taxRate
	sharing                                // of what the invoice itself says
	split                           *split // of its subscription; nil for none
	shippingRate                    string
	shippingDetails, customFields   string // JSON
	bill                            bill
	start, stop                     int64 // period
	preview                         bool

	autoAdvance         bool
	finalizes, nextTry  int64
	attempts            int64
	attempted           bool
	intent              string
	defaultMethod       string
	defaultSource       string
	dueDate, effective  int64
	footer, descriptor  string
	hosted              string
	customerEmail       string
	customerName        string
	finalizedAt, paidAt int64
	voidedAt            int64
	uncollectibleAt     int64
	revises, revisedBy  string
	startingBalance     int64
	endingBalance       int64
	fromBalance         int64 // of the customer's own balance, used up (or owed, negative) for it
	paid, offStripe     int64 // offStripe is the part that was paid elsewhere
	creditedOpen        int64 // by credit notes while it was not paid
	creditedPaid        int64 // by credit notes afterwards
}

func (o *invoice) links() []string {
	keys := []string{"customer=" + o.customer}
	if o.subscription != "" {
		keys = append(keys, "subscription="+o.subscription)
	}
	return keys
}

// terms are how a payment of it is shared.
func (o *invoice) terms(amount int64) sharing {
	if o.split != nil {
		return o.split.of(amount)
	}
	return o.sharing
}

// due is what is asked of the customer; a negative total becomes credit.
func (o *invoice) due() int64 { return max(0, o.bill.total-o.fromBalance-o.creditedOpen) }

func (o *invoice) remaining() int64 {
	if o.status == "paid" {
		return 0
	}
	return max(0, o.due()-o.paid)
}

func (o *invoice) render(e *enc, x *expansion) {
	if o.deleted {
		(&deletedView{"invoice", o.id}).render(e, nil)
		return
	}
	e.open()
	if o.preview {
		e.str("id", "upcoming_"+o.id)
	} else {
		e.str("id", o.id)
	}
	e.constant(`"object":"invoice","account_country":"US","account_name":"Keybrake Sandbox","account_tax_ids":null`)
	o.renderAmounts(e)
	e.int("attempt_count", o.attempts)
	e.bool("attempted", o.attempted)
	e.bool("auto_advance", o.autoAdvance)
	e.constant(`"automatic_tax":{"disabled_reason":null,"enabled":false,"liability":null,"provider":null,"status":null}`)
	e.optInt("automatically_finalizes_at", o.finalizes)
	if o.preview {
		e.str("billing_reason", "upcoming")
	} else {
		e.str("billing_reason", o.reason)
	}
	e.str("collection_method", o.collection)
	if x.child("confirmation_secret") != nil {
		o.renderSecret(e)
	}
	e.int("created", o.created)
	e.str("currency", o.currency)
	e.raw("custom_fields", o.customFields)
	e.ref("customer", o.customer, x)
	e.constant(`"customer_account":null,"customer_address":null`)
	e.opt("customer_email", o.customerEmail)
	e.opt("customer_name", o.customerName)
	e.constant(`"customer_phone":null,"customer_shipping":null`)
	o.renderOwner(e)
	e.ref("default_payment_method", o.defaultMethod, x)
	e.ref("default_source", o.defaultSource, x)
	e.renderRates("default_tax_rates", o.rates)
	e.opt("description", o.description)
	e.renderDiscounts(o.discounts, x)
	e.optInt("due_date", o.dueDate)
	e.optInt("effective_at", o.effectiveAt())
	if o.finalizedAt > 0 {
		e.int("ending_balance", o.endingBalance)
	} else {
		e.null("ending_balance")
	}
	e.opt("footer", o.footer)
	o.renderRevised(e)
	e.opt("hosted_invoice_url", o.hosted)
	e.constant(`"invoice_pdf":null,"issuer":{"type":"self"},"last_finalization_error":null`)
	e.ref("latest_revision", o.revisedBy, x)
	o.renderTail(e, x)
}

func (o *invoice) renderAmounts(e *enc) {
	e.int("amount_due", o.due())
	e.int("amount_overpaid", max(0, o.paid-o.due()))
	e.int("amount_paid", o.paid)
	e.int("amount_paid_off_stripe", o.offStripe)
	e.int("amount_remaining", o.remaining())
	e.int("amount_shipping", o.bill.shipping)
	e.null("application")
}

func (o *invoice) renderOwner(e *enc) {
	exempt := "none"
	if owner := e.s.customers.byID[o.customer]; owner != nil {
		exempt = owner.taxExempt
	}
	e.str("customer_tax_exempt", exempt)
	e.constant(`"customer_tax_ids":[]`)
}

func (o *invoice) effectiveAt() int64 {
	if o.effective != 0 {
		return o.effective
	}
	return o.finalizedAt
}

func (o *invoice) renderRevised(e *enc) {
	if o.revises == "" {
		e.null("from_invoice")
		return
	}
	e.key("from_invoice")
	e.open()
	e.str("action", "revision")
	e.str("invoice", o.revises)
	e.close()
}

// renderSecret shows the client secret of the intent that collects the invoice.
func (o *invoice) renderSecret(e *enc) {
	pi := e.s.intents.byID[o.intent]
	if pi == nil {
		e.null("confirmation_secret")
		return
	}
	e.key("confirmation_secret")
	e.open()
	e.str("client_secret", pi.secret)
	e.str("type", "payment_intent")
	e.close()
}

func (o *invoice) renderTail(e *enc, x *expansion) {
	lines := o.lineList()
	lines.more = len(lines.data) > defaultLimit
	lines.data = lines.data[:min(len(lines.data), defaultLimit)]
	e.key("lines")
	lines.render(e, x.child("lines"))
	e.bool("livemode", e.s.live())
	e.metadata(o.md)
	e.optInt("next_payment_attempt", o.nextAttempt())
	e.opt("number", o.number)
	e.ref("on_behalf_of", o.terms(0).onBehalfOf, x)
	o.renderParent(e, x)
	e.constant(`"payment_settings":{"default_mandate":null,"payment_method_options":null,"payment_method_types":null}`)
	if sub := x.child("payments"); sub != nil {
		o.renderPayments(e, sub)
	}
	e.int("period_end", o.stop)
	e.int("period_start", o.start)
	e.int("post_payment_credit_notes_amount", o.creditedPaid)
	e.int("pre_payment_credit_notes_amount", o.creditedOpen)
	e.constant(`"receipt_number":null,"rendering":null`)
	o.renderShipping(e, x)
	e.raw("shipping_details", o.shippingDetails)
	e.int("starting_balance", o.startingBalance)
	e.opt("statement_descriptor", o.descriptor)
	e.str("status", o.status)
	e.key("status_transitions")
	e.open()
	e.optInt("finalized_at", o.finalizedAt)
	e.optInt("marked_uncollectible_at", o.uncollectibleAt)
	e.optInt("paid_at", o.paidAt)
	e.optInt("voided_at", o.voidedAt)
	e.close()
	onTop, inside := o.bill.tax()
	e.int("subtotal", o.bill.subtotal)
	e.int("subtotal_excluding_tax", o.bill.subtotal-inside)
	e.renderClock(o.customer, x)
	e.int("total", o.bill.total)
	e.renderTaken("total_discount_amounts", o.bill.off, x)
	e.int("total_excluding_tax", o.bill.total-onTop-inside)
	e.renderPretax("total_pretax_credit_amounts", o.bill.off, o.bill.granted, x)
	e.renderLevied("total_taxes", o.bill.taxes, x)
	e.optInt("webhooks_delivered_at", o.created)
	e.close()
}

// nextAttempt is when the invoice collects by itself.
func (o *invoice) nextAttempt() int64 {
	if o.status == "draft" && o.autoAdvance && o.collection == "charge_automatically" {
		return o.finalizes
	}
	return o.nextTry
}

func (o *invoice) renderParent(e *enc, x *expansion) {
	switch {
	case o.subscription != "":
		e.key("parent")
		e.open()
		e.null("quote_details")
		e.key("subscription_details")
		e.open()
		e.metadata(o.parentMetadata)
		e.ref("subscription", o.subscription, x.child("parent").child("subscription_details"))
		if o.prorated != 0 {
			e.int("subscription_proration_date", o.prorated)
		}
		e.close()
		e.str("type", "subscription_details")
		e.close()
	case o.quote != "":
		e.key("parent")
		e.open()
		e.key("quote_details")
		e.open()
		e.str("quote", o.quote)
		e.close()
		e.null("subscription_details")
		e.str("type", "quote_details")
		e.close()
	default:
		e.null("parent")
	}
}

func (o *invoice) renderShipping(e *enc, x *expansion) {
	if o.shippingRate == "" {
		e.null("shipping_cost")
		return
	}
	e.key("shipping_cost")
	e.open()
	e.int("amount_subtotal", o.bill.shipping)
	e.int("amount_tax", 0)
	e.int("amount_total", o.bill.shipping)
	e.ref("shipping_rate", o.shippingRate, x.child("shipping_cost"))
	e.close()
}

func (o *invoice) lineList() *listView {
	list := &listView{url: "/v1/invoices/" + o.id + "/lines"}
	for _, l := range o.lines {
		list.data = append(list.data, &lineView{l, o.id})
	}
	return list
}

// lineOf is the line with an id.
func (o *invoice) lineOf(id string) *line {
	for _, l := range o.lines {
		if l.id == id {
			return l
		}
	}
	return nil
}

var invoiceRoutes = []*operation{
	get("/v1/invoices", "invoices", "list:invoice", listInvoices),
	post("/v1/invoices", "invoices", "invoice", createInvoice),
	post("/v1/invoices/create_preview", "invoices", "invoice", previewInvoice),
	get("/v1/invoices/{invoice}", "invoices", "invoice", func(c *call) (view, *stripeError) {
		return asView(c.s.invoices.get(c.args[0], "id"))
	}),
	post("/v1/invoices/{invoice}", "invoices", "invoice", updateInvoice),
	remove("/v1/invoices/{invoice}", "invoices", deleteInvoice),
	get("/v1/invoices/{invoice}/lines", "invoices", "list:line_item", func(c *call) (view, *stripeError) {
		o, f := c.s.invoices.get(c.args[0], "id")
		if f != nil {
			return nil, f
		}
		return pageOf(c, o.lineList(), "line_item")
	}),
	post("/v1/invoices/{invoice}/lines/{line_item_id}", "invoices", "line_item", updateLine),
	post("/v1/invoices/{invoice}/add_lines", "invoices", "invoice", addLines),
	post("/v1/invoices/{invoice}/update_lines", "invoices", "invoice", updateLines),
	post("/v1/invoices/{invoice}/remove_lines", "invoices", "invoice", removeLines),
	post("/v1/invoices/{invoice}/finalize", "invoices", "invoice", finalizeInvoice),
	post("/v1/invoices/{invoice}/mark_uncollectible", "invoices", "invoice", markUncollectible),
	post("/v1/invoices/{invoice}/pay", "invoices", "invoice", payInvoice),
	post("/v1/invoices/{invoice}/attach_payment", "invoices", "invoice", attachPayment),
	post("/v1/invoices/{invoice}/send", "invoices", "invoice", sendInvoice),
	post("/v1/invoices/{invoice}/void", "invoices", "invoice", voidInvoice),
}

func listInvoices(c *call) (view, *stripeError) {
	link := ""
	if id := c.str("customer"); id != "" {
		link = "customer=" + id
	}
	subscription := c.str("subscription")
	if subscription != "" && link == "" {
		link = "subscription=" + subscription
	}
	due := rangeFilter(c.p.get("due_date"))
	status, collection := c.str("status"), c.str("collection_method")
	return c.s.invoices.page(c, link, func(o *invoice) bool {
		return (status == "" || o.status == status) && (collection == "" || o.collection == collection) &&
			(subscription == "" || o.subscription == subscription) && (!c.set("due_date") || o.dueDate != 0 && due(o.dueDate))
	})
}
