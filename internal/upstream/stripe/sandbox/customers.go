package sandbox

import (
	"slices"
	"strings"
)

type customer struct {
	head
	name, email, phone, description string
	address, shipping               string // JSON
	taxExempt                       string
	currency                        string
	balance                         int64 // minor units; negative is credit
	defaultSource, defaultMethod    string
	invoicePrefix                   string
	nextInvoice                     int64
	cash                            map[string]int64 // sent by bank transfer and not yet spent, by currency
	cashByHand, cashModeSet         bool             // payments out of it are reconciled by hand; or it says itself
	clock                           string           // the test clock it lives on
	discount                        *discount
}

func (o *customer) links() []string {
	var keys []string
	if o.email != "" {
		keys = append(keys, "email="+o.email)
	}
	if o.clock != "" {
		keys = append(keys, "test_clock="+o.clock)
	}
	return keys
}

func (o *customer) render(e *enc, x *expansion) {
	if o.deleted {
		(&deletedView{"customer", o.id}).render(e, nil)
		return
	}
	e.open()
	e.str("id", o.id)
	e.str("object", "customer")
	e.raw("address", o.address)
	e.int("balance", o.balance)
	e.int("created", o.created)
	e.opt("currency", o.currency)
	e.null("customer_account")
	e.ref("default_source", o.defaultSource, x)
	e.constant(`"delinquent":false`)
	e.opt("description", o.description)
	if o.discount != nil {
		e.key("discount")
		o.discount.render(e, x.child("discount"))
	} else {
		e.null("discount")
	}
	e.opt("email", o.email)
	e.str("invoice_prefix", o.invoicePrefix)
	e.key("invoice_settings")
	e.open()
	e.null("custom_fields")
	e.ref("default_payment_method", o.defaultMethod, x.child("invoice_settings"))
	e.constant(`"footer":null,"rendering_options":null`)
	e.close()
	e.bool("livemode", e.s.live())
	e.metadata(o.md)
	e.opt("name", o.name)
	e.int("next_invoice_sequence", o.nextInvoice)
	e.opt("phone", o.phone)
	e.constant(`"preferred_locales":[]`)
	e.raw("shipping", o.shipping)
	e.str("tax_exempt", o.taxExempt)
	e.ref("test_clock", o.clock, x)
	o.renderLists(e, x)
	e.close()
}

// customerTransaction is one change of a customer's own balance.
type customerTransaction struct {
	head
	customer, currency, description, typ string
	invoice, creditNote, session         string // what it is for
	amount, ending                       int64  // minor units; negative is credit
}

func (o *customerTransaction) links() []string { return []string{"customer=" + o.customer} }

func (o *customerTransaction) render(e *enc, x *expansion) {
	e.open()
	e.str("id", o.id)
	e.str("object", "customer_balance_transaction")
	e.int("amount", o.amount)
	e.ref("checkout_session", o.session, x)
	e.int("created", o.created)
	e.ref("credit_note", o.creditNote, x)
	e.str("currency", o.currency)
	e.ref("customer", o.customer, x)
	e.constant(`"customer_account":null`)
	e.opt("description", o.description)
	e.int("ending_balance", o.ending)
	e.ref("invoice", o.invoice, x)
	e.bool("livemode", e.s.live())
	e.metadata(o.md)
	e.str("type", o.typ)
	e.close()
}

var customerRoutes = []*operation{
	get("/v1/customers", "customers", "list:customer", listCustomers),
	post("/v1/customers", "customers", "customer", createCustomer),
	get("/v1/customers/{customer}", "customers", "customer", func(c *call) (view, *stripeError) {
		o, ok := c.s.customers.byID[c.args[0]]
		if !ok {
			return nil, errMissing("customer", c.args[0], "id")
		}
		return o, nil // also when deleted: Stripe keeps answering for those
	}),
	post("/v1/customers/{customer}", "customers", "customer", updateCustomer),
	remove("/v1/customers/{customer}", "customers", deleteCustomer),
	get("/v1/customers/{customer}/balance_transactions", "customers.balance_transactions", "list:customer_balance_transaction", func(c *call) (view, *stripeError) {
		if _, f := c.s.customers.get(c.args[0], "id"); f != nil {
			return nil, f
		}
		return c.s.adjustments.page(c, "customer="+c.args[0], func(o *customerTransaction) bool {
			return c.str("invoice") == "" || o.invoice == c.str("invoice")
		})
	}),
	post("/v1/customers/{customer}/balance_transactions", "customers.balance_transactions", "customer_balance_transaction", adjustCustomer),
	get("/v1/customers/{customer}/balance_transactions/{transaction}", "customers.balance_transactions", "customer_balance_transaction",
		func(c *call) (view, *stripeError) { return asView(c.adjustmentOf()) }),
	post("/v1/customers/{customer}/balance_transactions/{transaction}", "customers.balance_transactions", "customer_balance_transaction",
		func(c *call) (view, *stripeError) {
			o, f := c.adjustmentOf()
			if f != nil {
				return nil, f
			}
			if o.md, f = c.metadata(o.md); f != nil {
				return nil, f
			}
			c.assign("description", &o.description)
			return o, nil
		}),
	get("/v1/customers/{customer}/payment_methods", "payment_methods", "list:payment_method", func(c *call) (view, *stripeError) {
		if _, f := c.s.customers.get(c.args[0], "id"); f != nil {
			return nil, f
		}
		return c.s.methods.page(c, "customer="+c.args[0], byType(c))
	}),
	get("/v1/customers/{customer}/payment_methods/{payment_method}", "payment_methods", "payment_method", func(c *call) (view, *stripeError) {
		m, f := c.s.methods.get(c.args[1], "id")
		if f != nil {
			return nil, f
		}
		if m.customer != c.args[0] {
			return nil, errMissing("payment_method", c.args[1], "id")
		}
		return m, nil
	}),
}

func listCustomers(c *call) (view, *stripeError) {
	link := ""
	clock := c.str("test_clock")
	if email := c.str("email"); email != "" {
		link = "email=" + email
	}
	// Customers on a test clock are listed by naming it only.
	return c.s.customers.page(c, link, func(o *customer) bool { return o.clock == clock })
}

func createCustomer(c *call) (view, *stripeError) {
	o := &customer{head: c.s.head("cus", c), taxExempt: "none", nextInvoice: 1}
	o.invoicePrefix = strings.ToUpper(c.s.random(c.s.ids, 8))
	if c.set("test_clock") {
		clock, f := c.s.clocks.get(c.str("test_clock"), "test_clock")
		if f != nil {
			return nil, f
		}
		o.clock, o.created = clock.id, clock.frozen
	}
	if f := c.fillCustomer(o); f != nil {
		return nil, f
	}
	o.balance = c.amount("balance")
	c.s.customers.insert(o)
	if f := c.attachNew(o); f != nil {
		o.deleted = true
		c.s.customers.drop(o)
		return nil, f
	}
	c.emit("customer.created", o)
	return o, nil
}

// attachNew gives a new or updated customer the payment method or source of the call.
func (c *call) attachNew(o *customer) *stripeError {
	for _, name := range []string{"payment_method", "source"} {
		if !c.set(name) {
			continue
		}
		m, f := c.method(c.p.get(name), name)
		if f != nil {
			return f
		}
		if m.decline != "" && m.decline != "insufficient_funds" {
			return errDeclined(m.decline, "")
		}
		if f := c.attach(m, o.id); f != nil {
			return f
		}
		if name == "source" {
			o.defaultSource = m.id
		}
	}
	settings := c.sub("invoice_settings", "default_payment_method")
	if settings.blank() {
		return nil
	}
	m, f := c.s.methods.get(settings.text(), "invoice_settings[default_payment_method]")
	if f != nil {
		return f
	}
	if m.customer != o.id {
		return errNotAttached(m.id)
	}
	o.defaultMethod = m.id
	return nil
}

func (c *call) fillCustomer(o *customer) (f *stripeError) {
	email := o.email
	c.assign("email", &email)
	if email != "" && !strings.Contains(email, "@") {
		return errInvalid("email", "email_invalid", "Invalid email address: "+email)
	}
	if o.md, f = c.metadata(o.md); f != nil {
		return f
	}
	c.assign("name", &o.name)
	c.assign("phone", &o.phone)
	c.assign("description", &o.description)
	c.assignJSON("address", &o.address)
	c.assignJSON("shipping", &o.shipping)
	if c.set("tax_exempt") {
		o.taxExempt = c.str("tax_exempt")
	}
	if _, stored := c.s.customers.byID[o.id]; stored {
		c.s.customers.relink(o, func() { o.email = email })
	} else {
		o.email = email
	}
	return nil
}

func updateCustomer(c *call) (view, *stripeError) {
	o, f := c.s.customers.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	if f := c.fillCustomer(o); f != nil {
		return nil, f
	}
	if f := c.attachNew(o); f != nil {
		return nil, f
	}
	if c.set("default_source") {
		m, f := c.s.methods.get(c.str("default_source"), "default_source")
		if f != nil {
			return nil, f
		}
		if m.customer != o.id {
			return nil, errMissing("source", m.id, "default_source")
		}
		o.defaultSource = m.id
	}
	if c.set("source") {
		c.on(o.id)
		c.payArrears(o)
	}
	if c.has("balance") {
		c.adjust(o, c.amount("balance")-o.balance, "adjustment", "", "")
	}
	c.emit("customer.updated", o)
	return o, nil
}

func deleteCustomer(c *call) (view, *stripeError) {
	o, f := c.s.customers.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	c.dropCustomer(o)
	return &deletedView{"customer", o.id}, nil
}

func (c *call) dropCustomer(o *customer) {
	for _, sub := range c.s.subscriptions.index["customer="+o.id] {
		if !sub.ended() {
			c.end(sub)
		}
	}
	c.emit("customer.deleted", o)
	o.deleted = true
	for _, m := range slices.Clone(c.s.methods.index["customer="+o.id]) {
		c.s.methods.relink(m, func() { m.customer = "" })
	}
}

// adjust changes a customer's own balance, which later invoices use up.
func (c *call) adjust(o *customer, delta int64, typ, description, invoice string) *customerTransaction {
	o.balance += delta
	if o.currency == "" {
		o.currency = "usd"
	}
	t := &customerTransaction{head: c.s.head("cbtxn", c), customer: o.id, currency: o.currency, typ: typ,
		description: description, invoice: invoice, amount: delta, ending: o.balance}
	c.s.adjustments.insert(t)
	return t
}

// adjustmentOf is the change of a customer's balance that the path names.
func (c *call) adjustmentOf() (*customerTransaction, *stripeError) {
	o, f := c.s.adjustments.get(c.args[1], "id")
	if f != nil || o.customer != c.args[0] {
		return nil, errMissing("customer_balance_transaction", c.args[1], "id")
	}
	return o, nil
}

func adjustCustomer(c *call) (view, *stripeError) {
	o, f := c.s.customers.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	currency, f := c.currency("currency")
	if f != nil {
		return nil, f
	}
	if o.currency != "" && o.currency != currency {
		return nil, errInvalid("currency", "", "The currency of the customer is "+o.currency+", not "+currency+".")
	}
	md, f := c.metadata(nil)
	if f != nil {
		return nil, f
	}
	o.currency = currency
	t := c.adjust(o, c.amount("amount"), "adjustment", c.str("description"), "")
	t.md = md
	return t, nil
}
