package sandbox

import (
	"slices"
	"time"
)

// The least and the most time that a checkout session stays open.
const (
	minSession = 30 * time.Minute
	maxSession = 24 * time.Hour
)

// offer is what a checkout session or a payment link lets a customer buy.
type offer struct {
	cart     cart
	optional []*cartItem
	shipping []shippingOption
	codes    bool  // whether customers may enter promotion codes
	intent   *node // payment_intent_data
	subData  *node // subscription_data
	setup    *node // setup_intent_data
	invoiced bool  // invoice_creation
	invoice  *node // its invoice_data
	creation string
	collect  string // payment_method_collection
	address  string // billing_address_collection
	submit   string
	sharing        // of a payment
	split    split // of a subscription
}

// shippingOption is one of the ways to ship that a customer chooses from.
type shippingOption struct {
	rate   *shippingRate
	amount int64
}

// session is a page on which a customer pays, subscribes, or leaves a card.
type session struct {
	head
	offer
	mode, status, paid      string
	customer, email         string
	reference, link         string
	settings                map[string]string // addresses of pages, ui_mode and the like
	chosen                  *shippingOption
	expires                 int64
	intentID, setupID       string
	subscription, invoiceID string
	name                    string // of the customer, as told
}

func (o *session) links() []string {
	var keys []string
	for name, id := range map[string]string{"customer": o.customer, "payment_intent": o.intentID, "payment_link": o.link, "subscription": o.subscription} {
		if id != "" {
			keys = append(keys, name+"="+id)
		}
	}
	slices.Sort(keys)
	return keys
}

// upfront reports what is paid at once: in a trial nothing that recurs.
func (o *session) upfront(it *cartItem) bool {
	trial := part{n: o.subData}
	return !it.recurs() || trial.int("trial_period_days") == 0 && trial.int("trial_end") == 0
}

func (o *session) render(e *enc, x *expansion) {
	total := o.cart.reckon(&call{s: e.s, now: o.created}, o.upfront)
	e.open()
	e.str("id", o.id)
	e.constant(`"object":"checkout.session","adaptive_pricing":null,"after_expiration":null`)
	if o.codes {
		e.bool("allow_promotion_codes", true)
	} else {
		e.null("allow_promotion_codes")
	}
	if o.mode == "setup" {
		e.constant(`"amount_subtotal":null,"amount_total":null`)
	} else {
		e.int("amount_subtotal", total.subtotal)
		e.int("amount_total", total.total)
	}
	e.constant(`"automatic_tax":{"enabled":false,"liability":null,"provider":null,"status":null}`)
	e.opt("billing_address_collection", o.address)
	e.opt("cancel_url", o.settings["cancel_url"])
	e.opt("client_reference_id", o.reference)
	if o.settings["ui_mode"] != "hosted_page" {
		e.str("client_secret", o.id+"_secret_"+o.id[len(o.id)-12:])
	} else {
		e.null("client_secret")
	}
	e.constant(`"collected_information":null,"consent":null,"consent_collection":null`)
	e.int("created", o.created)
	e.opt("currency", o.cart.currency)
	e.constant(`"currency_conversion":null,"custom_fields":[],"custom_text":{"after_submit":null,"shipping_address":null,"submit":null,"terms_of_service_acceptance":null}`)
	e.ref("customer", o.customer, x)
	e.null("customer_account")
	e.opt("customer_creation", o.creation)
	o.renderPerson(e)
	o.renderDiscounts(e, x)
	e.int("expires_at", o.expires)
	e.ref("invoice", o.invoiceID, x)
	o.renderInvoicing(e)
	if sub := x.child("line_items"); sub != nil {
		e.key("line_items")
		o.cart.list("/v1/checkout/sessions/"+o.id+"/line_items", nil).shown().render(e, sub)
	}
	e.bool("livemode", e.s.live())
	e.opt("locale", o.settings["locale"])
	e.metadata(o.md)
	e.str("mode", o.mode)
	o.renderOptional(e)
	e.ref("payment_intent", o.intentID, x)
	e.ref("payment_link", o.link, x)
	o.renderTail(e, x, &total)
}

func (o *session) renderTail(e *enc, x *expansion, total *bill) {
	e.opt("payment_method_collection", o.collect)
	e.constant(`"payment_method_configuration_details":null,"payment_method_options":{"card":{"request_three_d_secure":"automatic"}},"payment_method_types":["card"]`)
	e.str("payment_status", o.paid)
	e.constant(`"permissions":null,"phone_number_collection":{"enabled":false},"recovered_from":null`)
	if url := o.settings["return_url"]; url != "" {
		e.str("redirect_on_completion", "always")
		e.str("return_url", url)
	}
	e.null("saved_payment_method_options")
	e.ref("setup_intent", o.setupID, x)
	e.null("shipping_address_collection")
	o.renderShipping(e, x)
	e.str("status", o.status)
	e.opt("submit_type", o.submit)
	e.ref("subscription", o.subscription, x)
	e.opt("success_url", o.settings["success_url"])
	if o.mode == "setup" {
		e.null("total_details")
	} else {
		total.renderTotals(e, x)
	}
	e.str("ui_mode", o.settings["ui_mode"])
	if o.settings["ui_mode"] == "hosted_page" && o.status == "open" {
		e.str("url", "https://checkout.stripe.com/c/pay/"+o.id)
	} else {
		e.null("url")
	}
	e.null("wallet_options")
	e.close()
}

func (o *session) renderPerson(e *enc) {
	if o.email == "" && o.name == "" {
		e.constant(`"customer_details":null,"customer_email":null`)
		return
	}
	e.key("customer_details")
	e.open()
	e.constant(`"address":null,"business_name":null`)
	e.opt("email", o.email)
	e.null("individual_name")
	e.opt("name", o.name)
	e.constant(`"phone":null,"tax_exempt":"none","tax_ids":[]`)
	e.close()
	if o.customer == "" {
		e.opt("customer_email", o.email)
	} else {
		e.null("customer_email")
	}
}

func (o *session) renderDiscounts(e *enc, x *expansion) {
	sub := x.child("discounts")
	e.key("discounts")
	e.b = append(e.b, '[')
	for _, d := range o.cart.discounts {
		e.open()
		if d.promotion == "" {
			e.ref("coupon", d.coupon.id, sub)
			e.null("promotion_code")
		} else {
			e.null("coupon")
			e.ref("promotion_code", d.promotion, sub)
		}
		e.close()
	}
	e.b = append(e.b, ']')
}

func (o *session) renderInvoicing(e *enc) {
	if o.mode != "payment" {
		e.null("invoice_creation")
		return
	}
	e.key("invoice_creation")
	e.open()
	e.bool("enabled", o.invoiced)
	e.key("invoice_data")
	o.renderInvoiceData(e)
	e.close()
}

// renderInvoiceData writes what an offer's invoices say.
func (o *offer) renderInvoiceData(e *enc) {
	e.open()
	e.constant(`"account_tax_ids":null,"custom_fields":null`)
	e.opt("description", o.invoice.get("description").text())
	e.opt("footer", o.invoice.get("footer").text())
	e.constant(`"issuer":null`)
	e.nodeMetadata(o.invoice)
	e.null("rendering_options")
	e.close()
}

// nodeMetadata writes the metadata of parameters that are kept as they came.
func (e *enc) nodeMetadata(n *node) {
	e.metadata(part{n: n, bad: &fault{}}.metadata(nil))
}

func (o *offer) renderOptional(e *enc) {
	e.key("optional_items")
	e.b = append(e.b, '[')
	for _, it := range o.optional {
		e.open()
		if it.most > 0 {
			e.key("adjustable_quantity")
			e.open()
			e.bool("enabled", true)
			e.int("maximum", it.most)
			e.int("minimum", it.least)
			e.close()
		} else {
			e.null("adjustable_quantity")
		}
		e.str("price", it.pricing.price.id)
		e.int("quantity", it.quantity)
		e.close()
	}
	e.b = append(e.b, ']')
}

func (o *session) renderShipping(e *enc, x *expansion) {
	if o.chosen == nil {
		e.null("shipping_cost")
	} else {
		e.key("shipping_cost")
		e.open()
		e.int("amount_subtotal", o.chosen.amount)
		e.int("amount_tax", 0)
		e.int("amount_total", o.chosen.amount)
		e.ref("shipping_rate", o.chosen.rate.id, x.child("shipping_cost"))
		e.close()
	}
	o.renderShippingOptions(e, x)
}

func (o *offer) renderShippingOptions(e *enc, x *expansion) {
	sub := x.child("shipping_options")
	e.key("shipping_options")
	e.b = append(e.b, '[')
	for _, s := range o.shipping {
		e.open()
		e.int("shipping_amount", s.amount)
		e.ref("shipping_rate", s.rate.id, sub)
		e.close()
	}
	e.b = append(e.b, ']')
}

var checkoutRoutes = []*operation{
	get("/v1/checkout/sessions", "checkout.sessions", "list:checkout.session", func(c *call) (view, *stripeError) {
		link := ""
		for _, name := range []string{"customer", "payment_intent", "payment_link", "subscription"} {
			if id := c.str(name); id != "" {
				link = name + "=" + id
			}
		}
		email := c.sub("customer_details", "email").text()
		return c.s.sessions.page(c, link, func(o *session) bool {
			return (!c.set("status") || o.status == c.str("status")) && (email == "" || o.email == email) &&
				(!c.set("customer") || o.customer == c.str("customer"))
		})
	}),
	post("/v1/checkout/sessions", "checkout.sessions", "checkout.session", createSession),
	get("/v1/checkout/sessions/{session}", "checkout.sessions", "checkout.session", func(c *call) (view, *stripeError) {
		return asView(c.s.sessions.get(c.args[0], "id"))
	}),
	post("/v1/checkout/sessions/{session}", "checkout.sessions", "checkout.session", updateSession),
	post("/v1/checkout/sessions/{session}/expire", "checkout.sessions", "checkout.session", func(c *call) (view, *stripeError) {
		o, f := c.openSession(c.args[0])
		if f != nil {
			return nil, f
		}
		c.expireSession(o)
		return o, nil
	}),
	get("/v1/checkout/sessions/{session}/line_items", "checkout.sessions", "list:item", func(c *call) (view, *stripeError) {
		o, f := c.s.sessions.get(c.args[0], "id")
		if f != nil {
			return nil, f
		}
		o.cart.reckon(c, nil)
		return pageOf(c, o.cart.list(c.url(), nil), "item")
	}),
}

func (c *call) openSession(id string) (*session, *stripeError) {
	o, f := c.s.sessions.get(id, "id")
	if f != nil {
		return nil, f
	}
	c.on(o.customer)
	if o.status != "open" {
		return nil, errInvalid("", "", "Only Checkout Sessions with a status in [\"open\"] can be changed. This Checkout Session has a status of "+o.status+".")
	}
	return o, nil
}

func (c *call) expireSession(o *session) {
	o.status = "expired"
	if si := c.s.setups.byID[o.setupID]; si != nil && si.open() {
		si.status = canceled
	}
	c.emit("checkout.session.expired", o)
}
