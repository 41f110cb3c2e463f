package sandbox

import (
	"strconv"
	"time"
)

// autoAdvance is how long Stripe leaves a draft that will collect by itself.
const autoAdvance = time.Hour

type invoice struct {
	head
	customer, currency, description string
	status, number, collection      string
	autoAdvance                     bool
	attempts                        int64
	attempted                       bool
	lines                           []*invoiceItem
	paid, fromBalance, postPaid     int64 // minor units
	defaultMethod, defaultSource    string
	dueDate, finalizes              int64
	finalizedAt, paidAt, voidedAt   int64
	uncollectibleAt                 int64
	footer, descriptor, hosted      string
	intent                          string
	preview                         bool
	startingBalance, endingBalance  int64
	customerEmail, customerName     string
}

func (o *invoice) links() []string { return []string{"customer=" + o.customer} }

func (o *invoice) total() int64 {
	var sum int64
	for _, l := range o.lines {
		sum += l.amount
	}
	return sum
}

// due is what is asked of the customer; a negative total becomes credit.
func (o *invoice) due() int64 { return max(0, o.total()-o.fromBalance) }

func (o *invoice) remaining() int64 {
	if o.status == "paid" {
		return 0
	}
	return o.due() - o.paid
}

func (o *invoice) render(e *enc, x *expansion) {
	e.open()
	if o.preview {
		e.str("id", "upcoming_"+o.id)
	} else {
		e.str("id", o.id)
	}
	e.constant(`"object":"invoice","account_country":"US","account_name":"Keybrake Sandbox","account_tax_ids":null`)
	e.int("amount_due", o.due())
	e.constant(`"amount_overpaid":0`)
	e.int("amount_paid", o.paid)
	e.int("amount_paid_off_stripe", o.postPaid)
	e.int("amount_remaining", o.remaining())
	e.constant(`"amount_shipping":0,"application":null`)
	e.int("attempt_count", o.attempts)
	e.bool("attempted", o.attempted)
	e.bool("auto_advance", o.autoAdvance)
	e.constant(`"automatic_tax":{"disabled_reason":null,"enabled":false,"liability":null,"provider":null,"status":null}`)
	e.optInt("automatically_finalizes_at", o.finalizes)
	e.str("billing_reason", "manual")
	e.str("collection_method", o.collection)
	e.int("created", o.created)
	e.str("currency", o.currency)
	e.null("custom_fields")
	e.ref("customer", o.customer, x)
	e.constant(`"customer_account":null,"customer_address":null`)
	e.opt("customer_email", o.customerEmail)
	e.opt("customer_name", o.customerName)
	e.constant(`"customer_phone":null,"customer_shipping":null,"customer_tax_exempt":"none","customer_tax_ids":[]`)
	e.ref("default_payment_method", o.defaultMethod, x)
	e.ref("default_source", o.defaultSource, x)
	e.constant(`"default_tax_rates":[]`)
	e.opt("description", o.description)
	e.constant(`"discounts":[]`)
	e.optInt("due_date", o.dueDate)
	e.optInt("effective_at", o.finalizedAt)
	if o.finalizedAt > 0 {
		e.int("ending_balance", o.endingBalance)
	} else {
		e.null("ending_balance")
	}
	e.opt("footer", o.footer)
	e.null("from_invoice")
	e.opt("hosted_invoice_url", o.hosted)
	e.constant(`"invoice_pdf":null,"issuer":{"type":"self"},"last_finalization_error":null,"latest_revision":null`)
	o.renderTail(e)
}

func (o *invoice) renderTail(e *enc) {
	lines := o.lineList()
	lines.more = len(lines.data) > defaultLimit
	lines.data = lines.data[:min(len(lines.data), defaultLimit)]
	e.key("lines")
	lines.render(e, nil)
	e.bool("livemode", e.s.live())
	e.metadata(o.md)
	e.null("next_payment_attempt")
	e.opt("number", o.number)
	e.constant(`"on_behalf_of":null,"parent":null,"payment_settings":{"default_mandate":null,"payment_method_options":null,"payment_method_types":null}`)
	e.int("period_end", o.created)
	e.int("period_start", o.created)
	e.constant(`"post_payment_credit_notes_amount":0,"pre_payment_credit_notes_amount":0,"receipt_number":null,"rendering":null,` +
		`"shipping_cost":null,"shipping_details":null`)
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
	e.int("subtotal", o.total())
	e.int("subtotal_excluding_tax", o.total())
	e.null("test_clock")
	e.int("total", o.total())
	e.constant(`"total_discount_amounts":[]`)
	e.int("total_excluding_tax", o.total())
	e.constant(`"total_pretax_credit_amounts":[],"total_taxes":[]`)
	e.optInt("webhooks_delivered_at", o.created)
	e.close()
}

func (o *invoice) lineList() *listView {
	list := &listView{url: "/v1/invoices/" + o.id + "/lines"}
	for _, item := range o.lines {
		list.data = append(list.data, &lineView{item, o.id})
	}
	return list
}

var invoiceRoutes = []*operation{
	get("/v1/invoiceitems", "invoiceitems", "list:invoiceitem", listItems),
	post("/v1/invoiceitems", "invoiceitems", "invoiceitem", createItem),
	get("/v1/invoiceitems/{invoiceitem}", "invoiceitems", "invoiceitem", func(c *call) (view, *stripeError) {
		return asView(c.s.items.get(c.args[0], "id"))
	}),
	post("/v1/invoiceitems/{invoiceitem}", "invoiceitems", "invoiceitem", updateItem),
	remove("/v1/invoiceitems/{invoiceitem}", "invoiceitems", deleteItem),
	get("/v1/invoices", "invoices", "list:invoice", listInvoices),
	post("/v1/invoices", "invoices", "invoice", createInvoice),
	post("/v1/invoices/create_preview", "invoices", "invoice", previewInvoice),
	get("/v1/invoices/{invoice}", "invoices", "invoice", func(c *call) (view, *stripeError) {
		return asView(c.s.invoices.get(c.args[0], "id"))
	}),
	post("/v1/invoices/{invoice}", "invoices", "invoice", updateInvoice),
	remove("/v1/invoices/{invoice}", "invoices", deleteInvoice),
	get("/v1/invoices/{invoice}/lines", "invoices", kindAny, func(c *call) (view, *stripeError) {
		o, f := c.s.invoices.get(c.args[0], "id")
		if f != nil {
			return nil, f
		}
		return o.linePage(c)
	}),
	post("/v1/invoices/{invoice}/finalize", "invoices", "invoice", finalizeInvoice),
	post("/v1/invoices/{invoice}/mark_uncollectible", "invoices", "invoice", func(c *call) (view, *stripeError) {
		o, f := c.openInvoice("marked uncollectible")
		if f != nil {
			return nil, f
		}
		o.status, o.uncollectibleAt, o.autoAdvance = "uncollectible", c.now, false
		c.emit("invoice.marked_uncollectible", o)
		return o, nil
	}),
	post("/v1/invoices/{invoice}/pay", "invoices", "invoice", payInvoice),
	post("/v1/invoices/{invoice}/send", "invoices", "invoice", func(c *call) (view, *stripeError) {
		o, f := c.s.invoices.get(c.args[0], "id")
		if f != nil {
			return nil, f
		}
		if o.status == "draft" {
			if f := c.finalize(o); f != nil {
				return nil, f
			}
		}
		if o.status != "open" && o.status != "paid" {
			return nil, errInvalid("", "invoice_not_editable", "Invoices with status "+o.status+" cannot be sent.")
		}
		c.emit("invoice.sent", o)
		return o, nil
	}),
	post("/v1/invoices/{invoice}/void", "invoices", "invoice", func(c *call) (view, *stripeError) {
		o, f := c.openInvoice("voided")
		if f != nil {
			return nil, f
		}
		o.status, o.voidedAt, o.autoAdvance = "void", c.now, false
		c.emit("invoice.voided", o)
		return o, nil
	}),
}

// linePage pages through the lines, which are no collection of their own.
func (o *invoice) linePage(c *call) (view, *stripeError) {
	list := o.lineList()
	limit := defaultLimit
	if c.has("limit") {
		if limit = int(c.amount("limit")); limit < 1 || limit > maxLimit {
			return nil, errInvalid("limit", "parameter_invalid_integer", "Invalid limit: must be between 1 and 100")
		}
	}
	if after := c.str("starting_after"); after != "" {
		for i, l := range o.lines {
			if l.lineID == after {
				list.data = list.data[i+1:]
			}
		}
	}
	list.more = len(list.data) > limit
	list.data = list.data[:min(len(list.data), limit)]
	return list, nil
}

func listInvoices(c *call) (view, *stripeError) {
	link := ""
	if id := c.str("customer"); id != "" {
		link = "customer=" + id
	}
	status, collection := c.str("status"), c.str("collection_method")
	return c.s.invoices.page(c, link, func(o *invoice) bool {
		return (status == "" || o.status == status) && (collection == "" || o.collection == collection)
	})
}

func createInvoice(c *call) (view, *stripeError) {
	if !c.set("customer") {
		return nil, errMissingParam("customer")
	}
	owner, f := c.s.customers.get(c.str("customer"), "customer")
	if f != nil {
		return nil, f
	}
	if f := c.unbilled(); f != nil {
		return nil, f
	}
	o := &invoice{head: c.s.head("in", c), customer: owner.id, currency: "usd", status: "draft", collection: "charge_automatically",
		customerEmail: owner.email, customerName: owner.name, startingBalance: owner.balance}
	if owner.currency != "" {
		o.currency = owner.currency
	}
	if c.set("currency") {
		if o.currency, f = c.currency("currency"); f != nil {
			return nil, f
		}
	}
	if f := c.fillInvoice(o); f != nil {
		return nil, f
	}
	if c.str("pending_invoice_items_behavior") == "include" {
		for _, item := range c.s.items.index["customer="+owner.id] {
			if item.invoice == "" && item.currency == o.currency && !item.deleted {
				c.assignItem(item, o)
			}
		}
	}
	c.s.invoices.insert(o)
	c.arm(o)
	c.emit("invoice.created", o)
	return o, nil
}

// unbilled refuses what this sandbox does not work out; pretending would answer
// with a wrong total.
func (c *call) unbilled() *stripeError {
	for _, name := range []string{"subscription", "schedule", "from_invoice", "discounts", "default_tax_rates", "shipping_cost",
		"subscription_details", "schedule_details"} {
		if c.set(name) {
			return errInvalid(name, "", "This sandbox makes invoices of invoice items only, without "+name+".")
		}
	}
	return c.noConnect()
}

func (c *call) fillInvoice(o *invoice) (f *stripeError) {
	if o.md, f = c.metadata(o.md); f != nil {
		return f
	}
	c.assign("description", &o.description)
	c.assign("footer", &o.footer)
	c.assign("statement_descriptor", &o.descriptor)
	c.assign("number", &o.number)
	if c.set("collection_method") {
		o.collection = c.str("collection_method")
	}
	if c.has("days_until_due") {
		o.dueDate = c.now + c.amount("days_until_due")*86400
	}
	if c.has("due_date") {
		o.dueDate = c.amount("due_date")
	}
	if o.dueDate != 0 && o.collection != "send_invoice" {
		return errInvalid("days_until_due", "", "You can only specify a due date when collection_method is send_invoice.")
	}
	for name, field := range map[string]*string{"default_payment_method": &o.defaultMethod, "default_source": &o.defaultSource} {
		if !c.set(name) {
			continue
		}
		m, f := c.s.methods.get(c.str(name), name)
		if f != nil {
			return f
		}
		if m.customer != o.customer {
			return errNotAttached(m.id)
		}
		*field = m.id
	}
	if c.set("auto_advance") {
		o.autoAdvance = c.bool("auto_advance")
	}
	if c.has("automatically_finalizes_at") {
		o.autoAdvance, o.finalizes = true, c.amount("automatically_finalizes_at")
	}
	return nil
}

// arm has the clock finalize a draft that collects by itself.
func (c *call) arm(o *invoice) {
	if !o.autoAdvance || o.status != "draft" {
		o.finalizes = 0
		return
	}
	if o.finalizes == 0 {
		o.finalizes = c.now + int64(autoAdvance/time.Second)
	}
	at := o.finalizes
	c.later(o.customer, at, func(c *call) {
		if o.status != "draft" || !o.autoAdvance || o.deleted || o.finalizes != at {
			return
		}
		if f := c.finalize(o); f == nil && o.status == "open" && o.collection == "charge_automatically" {
			// A card that declines leaves the invoice open, as it would at Stripe.
			_ = c.collectInvoice(o)
		}
	})
}

func updateInvoice(c *call) (view, *stripeError) {
	o, f := c.s.invoices.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	if o.status != "draft" {
		for _, name := range c.p.keys {
			if name != "metadata" && name != "expand" && name != "auto_advance" && name != "description" && name != "default_payment_method" {
				return nil, errInvalid(name, "invoice_not_editable", "Finalized invoices can't be updated in this way")
			}
		}
	}
	if f := c.unbilled(); f != nil {
		return nil, f
	}
	if f := c.fillInvoice(o); f != nil {
		return nil, f
	}
	c.arm(o)
	c.emit("invoice.updated", o)
	return o, nil
}

func deleteInvoice(c *call) (view, *stripeError) {
	o, f := c.s.invoices.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	if o.status != "draft" {
		return nil, errInvalid("", "invoice_not_editable", "You can only delete draft invoices.")
	}
	for _, item := range o.lines {
		item.deleted = true
	}
	c.emit("invoice.deleted", o)
	o.deleted = true
	return &deletedView{"invoice", o.id}, nil
}

func (c *call) openInvoice(verb string) (*invoice, *stripeError) {
	o, f := c.s.invoices.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	if o.status != "open" && (o.status != "uncollectible" || verb != "voided") {
		return nil, errInvalid("", "invoice_not_editable", "You can only pass in open invoices. This invoice isn't open, so it cannot be "+verb+".")
	}
	return o, nil
}

func finalizeInvoice(c *call) (view, *stripeError) {
	o, f := c.s.invoices.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	if c.set("auto_advance") {
		o.autoAdvance = c.bool("auto_advance")
	}
	return asView(o, c.finalize(o))
}

// finalize turns a draft into something owed, using up the customer's own balance first.
func (c *call) finalize(o *invoice) *stripeError {
	if o.status != "draft" {
		return errInvalid("", "invoice_not_editable", "This invoice is already finalized, you can't re-finalize a non-draft invoice.")
	}
	owner := c.s.customers.byID[o.customer]
	if owner == nil || owner.deleted {
		return errMissing("customer", o.customer, "")
	}
	o.status, o.finalizedAt, o.finalizes = "open", c.now, 0
	if o.number == "" {
		o.number = owner.invoicePrefix + "-" + pad4(owner.nextInvoice)
	}
	owner.nextInvoice++
	o.hosted = "https://invoice.stripe.com/i/" + c.s.accountID + "/" + o.id
	o.startingBalance = owner.balance
	c.useBalance(o, owner)
	o.endingBalance = owner.balance
	c.emit("invoice.finalized", o)
	if o.due() == 0 {
		c.markPaid(o)
	}
	return nil
}

// useBalance applies credit, or adds debt, of the customer to an invoice.
func (c *call) useBalance(o *invoice, owner *customer) {
	use := int64(0)
	switch total := o.total(); {
	case total < 0:
		use = total // the whole of it becomes credit
	case owner.balance < 0:
		use = min(total, -owner.balance)
	case owner.balance > 0:
		use = -owner.balance
	}
	if use == 0 {
		return
	}
	o.fromBalance = use
	c.adjust(owner, use, "applied_to_invoice", "", o.id)
}

func pad4(n int64) string {
	text := strconv.FormatInt(n, 10)
	for len(text) < 4 {
		text = "0" + text
	}
	return text
}
