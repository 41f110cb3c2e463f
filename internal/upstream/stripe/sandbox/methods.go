package sandbox

import "strings"

// paymentMethod is a card. Legacy sources (card_...) are kept here too: Stripe
// answers for them under both names.
type paymentMethod struct {
	head
	customer             string
	typ                  string // card, or another
	brand, last4         string
	holder, routing      string // of a bank account
	verified             bool   // a bank account's deposits have been told
	expMonth, expYear    int64
	billing              string // JSON
	decline              string // decline code, or empty
	needsAction          bool   // asks for authentication
	refundStatus         string // what its refunds become at first
	dispute              string // why its payments are disputed at once, or empty
	fingerprint, funding string
}

func (o *paymentMethod) links() []string {
	if o.customer == "" {
		return nil
	}
	return []string{"customer=" + o.customer}
}

const noBilling = `{"address":{"city":null,"country":null,"line1":null,"line2":null,"postal_code":null,"state":null},"email":null,"name":null,"phone":null,"tax_id":null}`

func (o *paymentMethod) render(e *enc, x *expansion) {
	e.open()
	e.str("id", o.id)
	e.str("object", "payment_method")
	e.str("allow_redisplay", "unspecified")
	e.raw("billing_details", o.billing)
	e.key(o.typ)
	e.open()
	switch o.typ {
	case typeOfCard:
		o.renderCard(e)
		e.str("display_brand", o.brand)
		e.constant(`"generated_from":null,"networks":{"available":["` + o.brand + `"],"preferred":null},"three_d_secure_usage":{"supported":true},"wallet":null`)
	case typeOfBank:
		o.renderBank(e)
		e.constant(`"financial_connections_account":null,"networks":{"preferred":"ach","supported":["ach"]},"status_details":null`)
	}
	e.close()
	e.int("created", o.created)
	e.ref("customer", o.customer, x)
	e.null("customer_account")
	e.bool("livemode", e.s.live())
	e.metadata(o.md)
	e.str("type", o.typ)
	e.close()
}

// renderCard writes what a method and the charge made with it share.
func (o *paymentMethod) renderCard(e *enc) {
	e.str("brand", o.brand)
	e.constant(`"checks":{"address_line1_check":null,"address_postal_code_check":null,"cvc_check":"pass"},"country":"US"`)
	e.int("exp_month", o.expMonth)
	e.int("exp_year", o.expYear)
	e.str("fingerprint", o.fingerprint)
	e.str("funding", o.funding)
	e.str("last4", o.last4)
	e.constant(`"regulated_status":"unregulated"`)
}

// testCard is one of Stripe's published test cards.
type testCard struct {
	number, brand string
	decline       string
	action        bool
	refund        string
	dispute       string
}

// testCards by the name that follows pm_card_ and tok_.
var testCards = map[string]testCard{
	"visa":                                 {number: "4242424242424242", brand: "visa"},
	"visa_debit":                           {number: "4000056655665556", brand: "visa"},
	"mastercard":                           {number: "5555555555554444", brand: "mastercard"},
	"amex":                                 {number: "378282246310005", brand: "amex"},
	"chargeDeclined":                       {number: "4000000000000002", brand: "visa", decline: "generic_decline"},
	"visa_chargeDeclined":                  {number: "4000000000000002", brand: "visa", decline: "generic_decline"},
	"chargeDeclinedInsufficientFunds":      {number: "4000000000009995", brand: "visa", decline: "insufficient_funds"},
	"visa_chargeDeclinedInsufficientFunds": {number: "4000000000009995", brand: "visa", decline: "insufficient_funds"},
	"chargeDeclinedLostCard":               {number: "4000000000009987", brand: "visa", decline: "lost_card"},
	"chargeDeclinedStolenCard":             {number: "4000000000009979", brand: "visa", decline: "stolen_card"},
	"authenticationRequired":               {number: "4000002760003184", brand: "visa", action: true},
	"threeDSecure2Required":                {number: "4000000000003220", brand: "visa", action: true},
	"pendingRefund":                        {number: "4000000000007726", brand: "visa", refund: "pending"},
	"refundFail":                           {number: "4000000000005126", brand: "visa"},
	"createDispute":                        {number: "4000000000000259", brand: "visa", dispute: fraudulentReason},
	"createDisputeProductNotReceived":      {number: "4000000000002685", brand: "visa", dispute: "product_not_received"},
	"createDisputeInquiry":                 {number: "4000000000001976", brand: "visa", dispute: inquiry},
}

var methodRoutes = []*operation{
	get("/v1/payment_methods", "payment_methods", "list:payment_method", func(c *call) (view, *stripeError) {
		link := ""
		if id := c.str("customer"); id != "" {
			if _, f := c.s.customers.get(id, "customer"); f != nil {
				return nil, f
			}
			link = "customer=" + id
		}
		return c.s.methods.page(c, link, byType(c))
	}),
	post("/v1/payment_methods", "payment_methods", "payment_method", func(c *call) (view, *stripeError) {
		m, f := c.makeMethod()
		if f != nil {
			return nil, f
		}
		return m, c.fillMethod(m)
	}),
	get("/v1/payment_methods/{payment_method}", "payment_methods", "payment_method", func(c *call) (view, *stripeError) {
		m, f := c.s.methods.get(c.args[0], "id")
		return m, f
	}),
	post("/v1/payment_methods/{payment_method}", "payment_methods", "payment_method", func(c *call) (view, *stripeError) {
		m, f := c.s.methods.get(c.args[0], "id")
		if f != nil {
			return nil, f
		}
		return m, c.fillMethod(m)
	}),
	post("/v1/payment_methods/{payment_method}/attach", "payment_methods", "payment_method", func(c *call) (view, *stripeError) {
		m, f := c.named(c.args[0], "id")
		if f != nil {
			return nil, f
		}
		if c.str("customer") == "" {
			return nil, errMissingParam("customer")
		}
		if f := c.attach(m, c.str("customer")); f != nil {
			return nil, f
		}
		c.emit("payment_method.attached", m)
		return m, nil
	}),
	post("/v1/payment_methods/{payment_method}/detach", "payment_methods", "payment_method", detachMethod),
}

func byType(c *call) func(*paymentMethod) bool {
	typ := c.str("type")
	return func(m *paymentMethod) bool { return typ == "" || typ == m.typ }
}

func (c *call) fillMethod(m *paymentMethod) (f *stripeError) {
	if m.md, f = c.metadata(m.md); f != nil {
		return f
	}
	if b := c.p.get("billing_details"); !b.blank() {
		m.billing = billing(b)
	}
	if year := c.sub("card", "exp_year"); !year.blank() && c.args != nil {
		m.expYear, _ = parseInt(year)
	}
	return nil
}

// billing renders billing details with every field that Stripe always answers.
func billing(n *node) string {
	e := &enc{}
	e.open()
	e.raw("address", string(n.get("address").json(nil)))
	for _, k := range []string{"email", "name", "phone", "tax_id"} {
		e.opt(k, n.get(k).text())
	}
	e.close()
	return string(e.b)
}

func detachMethod(c *call) (view, *stripeError) {
	m, f := c.s.methods.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	if m.customer == "" {
		return nil, errInvalid("", "", "The payment method you provided is not attached to a customer so detachment is impossible.")
	}
	if o := c.s.customers.byID[m.customer]; o != nil {
		if o.defaultMethod == m.id {
			o.defaultMethod = ""
		}
		if o.defaultSource == m.id {
			o.defaultSource = ""
		}
	}
	c.s.methods.relink(m, func() { m.customer = "" })
	c.emit("payment_method.detached", m)
	return m, nil
}

func (c *call) attach(m *paymentMethod, customer string) *stripeError {
	if _, f := c.s.customers.get(customer, "customer"); f != nil {
		return f
	}
	if m.customer != "" && m.customer != customer {
		return errInvalid("payment_method", "resource_already_exists", "The payment method you provided has already been attached to a customer.")
	}
	c.s.methods.relink(m, func() { m.customer = customer })
	return nil
}

func errNotAttached(id string) *stripeError {
	return errInvalid("payment_method", "resource_missing", "The customer does not have a payment method with the ID "+id+
		". The payment method must be attached to the customer.")
}

// named finds a stored method, or makes one out of a test name (pm_card_visa,
// tok_visa): each use of a test name is a new method, as at Stripe.
func (c *call) named(id, param string) (*paymentMethod, *stripeError) {
	if m, ok := c.s.methods.byID[id]; ok {
		return m, nil
	}
	if v, f := c.spendToken(id, param, "card"); f != nil || v != nil {
		m, _ := v.(cardSource)
		return m.paymentMethod, f
	}
	for _, prefix := range []string{"pm_card_", "tok_"} {
		name, ok := strings.CutPrefix(id, prefix)
		if !ok {
			continue
		}
		if card, ok := testCards[name]; ok {
			return c.storeCard(card, prefix == "tok_", nil), nil
		}
	}
	what := "PaymentMethod"
	if strings.HasPrefix(id, "tok_") {
		what = "token"
	}
	return nil, errMissing(what, id, param)
}

// method reads a payment method given as an id, a test name, or a card itself.
func (c *call) method(n *node, param string) (*paymentMethod, *stripeError) {
	if n.kind == nodeString {
		return c.named(n.str, param)
	}
	return c.newMethod(n, param)
}

// makeMethod makes what POST /v1/payment_methods asks for.
func (c *call) makeMethod() (*paymentMethod, *stripeError) {
	switch c.str("type") {
	case "":
		return nil, errMissingParam("type")
	case typeOfCard:
		return c.newCard(c.p.get("card"), "card")
	}
	return c.newMethod(c.p, "payment_method")
}

// newCard makes a method out of card[number] or card[token].
func (c *call) newCard(n *node, param string) (*paymentMethod, *stripeError) {
	if token := n.get("token").text(); token != "" {
		return c.named(token, param+"[token]")
	}
	number := strings.NewReplacer(" ", "", "-", "").Replace(n.get("number").text())
	if number == "" {
		return nil, errMissingParam(param + "[number]")
	}
	for _, card := range testCards {
		if card.number == number {
			return c.storeCard(card, param == "source" || param == "card[card]", n), nil
		}
	}
	return nil, &stripeError{status: 402, typ: typeCard, code: "incorrect_number", param: "number", retry: "false",
		message: "Your card number is incorrect."}
}

func (c *call) storeCard(card testCard, source bool, n *node) *paymentMethod {
	prefix := "pm"
	if source {
		prefix = "card"
	}
	m := &paymentMethod{head: c.s.head(prefix, c), typ: typeOfCard, brand: card.brand, last4: card.number[len(card.number)-4:], expMonth: 8,
		expYear: int64(c.at.Year()) + 4, billing: noBilling, decline: card.decline, needsAction: card.action, refundStatus: card.refund, dispute: card.dispute,
		fingerprint: card.number[len(card.number)-4:] + "Qm7xT1vL2k", funding: "credit"}
	if n != nil {
		if v, err := parseInt(n.get("exp_month")); err == nil {
			m.expMonth = v
		}
		if v, err := parseInt(n.get("exp_year")); err == nil {
			m.expYear = v
		}
	}
	c.s.methods.insert(m)
	return m
}

// payWith is the method for a payment by customer: it must be the customer's
// own, or nobody's.
func (c *call) payWith(n *node, param, customer string) (*paymentMethod, *stripeError) {
	m, f := c.method(n, param)
	if f != nil {
		return nil, f
	}
	switch {
	case m.customer != "" && customer == "":
		return nil, errInvalid(param, "", "The payment method "+m.id+" belongs to the Customer "+m.customer+
			". Please include the Customer in the `customer` parameter on the PaymentIntent.")
	case m.customer != "" && m.customer != customer:
		return nil, errNotAttached(m.id)
	}
	return m, nil
}
