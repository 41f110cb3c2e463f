package stripe

import (
	"math/big"
	"strconv"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
)

// sale says how the lines of a call are counted.
type sale struct {
	// recurring counts only what renews; without it only what is charged at once.
	recurring bool
	currency  money.Currency // of the call, if it names one
	// taxes are the tax rates that hold where a line has none of its own.
	taxes *Node
}

// sold adds the lines of an array to a tally: price, largest quantity, tax rates.
func (r *resolver) sold(t *tally, lines *Node, s sale) (*policy.Refusal, error) {
	if lines == nil {
		return nil, nil
	}
	for _, m := range lines.Members {
		if refusal, err := r.soldLine(t, m.Value, s); refusal != nil || err != nil {
			return refusal, err
		}
	}
	return nil, nil
}

func (r *resolver) soldLine(t *tally, line *Node, s sale) (*policy.Refusal, error) {
	p, refusal, err := r.priceOf(line)
	if refusal != nil || err != nil {
		return refusal, err
	}
	quantity, ok := quantityOf(line)
	switch {
	case p == nil:
		t.fail("a line names no price")
		return nil, nil
	case !ok:
		return malformed("quantity", "A quantity must be a plain number."), nil
	case s.recurring && p.Recurring == nil:
		return nil, nil
	case s.recurring && p.metered():
		t.fail("a price is metered, so its quantity is only told by usage")
		return nil, nil
	case p.metered():
		return nil, nil // nothing was used yet
	}
	if most, adjustable := largestQuantity(line); adjustable && most.Cmp(quantity) > 0 {
		quantity = most
	}
	amount, currency, why := p.cost(quantity, s.currency)
	if why != "" {
		t.fail(why)
		return nil, nil
	}
	taxes := line.child("tax_rates")
	if taxes == nil {
		taxes = s.taxes
	}
	factor, why, refusal, err := r.taxFactor(taxes)
	if refusal != nil || err != nil {
		return refusal, err
	}
	if why != "" {
		t.fail(why)
		return nil, nil
	}
	t.add(amount.Mul(amount, factor), currency)
	return nil, nil
}

// mostAdjustable is the quantity that a payer can choose where a line lets him and names no maximum.
// The document of 2026-08-26: "By default this value is 99".
const mostAdjustable = 99

// largestQuantity is what a payer can raise a line's quantity to; ok is false if he cannot.
func largestQuantity(line *Node) (most *big.Rat, ok bool) {
	a := line.child("adjustable_quantity")
	if a == nil || orEmpty(a.child("enabled")).Text != "true" {
		return nil, false
	}
	if n, ok := ParseMinor(orEmpty(a.child("maximum")), false); ok && n > 0 {
		return big.NewRat(n, 1), true
	}
	return big.NewRat(mostAdjustable, 1), true
}

// root is the outermost hash of the call's parameters.
func (r *resolver) root() *Node { return r.req.Params.Root() }

// callCurrency is the currency that the call itself names.
func (r *resolver) callCurrency() money.Currency {
	v, _ := r.req.Value("currency")
	return lowerCurrency(v)
}

// lineItems is the most that a payer can pay at once through a session: all lines at their largest quantity,
// all optional items, the dearest shipping, and a margin where tax is worked out later.
func (r *resolver) lineItems(int) (bound, *policy.Refusal, error) {
	t, refusal, err := r.checkout()
	return t.bound(), refusal, err
}

func (r *resolver) checkout() (*tally, *policy.Refusal, error) {
	t := &tally{}
	s := sale{currency: r.callCurrency()}
	if data := r.root().child("subscription_data"); data != nil {
		s.taxes = data.child("default_tax_rates")
	}
	for _, name := range []string{"line_items", "optional_items"} {
		if refusal, err := r.sold(t, r.root().child(name), s); refusal != nil || err != nil {
			return t, refusal, err
		}
	}
	if refusal, err := r.dearestShipping(t, s.currency); refusal != nil || err != nil {
		return t, refusal, err
	}
	if r.root().child("line_items") == nil {
		t.fail("it names no line_items")
	}
	if automaticTax(r.root()) {
		t.times(taxMargin)
	}
	return t, nil, nil
}

// dearestShipping adds the dearest of the shipping rates that a payer can choose from.
func (r *resolver) dearestShipping(t *tally, in money.Currency) (*policy.Refusal, error) {
	options := r.root().child("shipping_options")
	if options == nil {
		return nil, nil
	}
	var dearest *big.Rat
	var currency money.Currency
	for _, m := range options.Members {
		amount, c, why, refusal, err := r.shippingRate(m.Value, in)
		if refusal != nil || err != nil {
			return refusal, err
		}
		if why != "" || currency != "" && c != currency {
			t.fail("a shipping rate has no amount in the currency of the call")
			return nil, nil
		}
		if currency = c; dearest == nil || amount.Cmp(dearest) > 0 {
			dearest = amount
		}
	}
	if dearest != nil {
		t.add(dearest, currency)
	}
	return nil, nil
}

func (r *resolver) shippingRate(option *Node, in money.Currency) (amount *big.Rat, c money.Currency, why string, refusal *policy.Refusal, err error) {
	if data := option.child("shipping_rate_data"); data != nil {
		fixed := orEmpty(data.child("fixed_amount"))
		n, ok := exact(orEmpty(fixed.child("amount")).Text)
		c = lowerCurrency(orEmpty(fixed.child("currency")).Text)
		if !ok || in != "" && c != in {
			return nil, "", "none", nil, nil
		}
		return n, c, "", nil, nil
	}
	var rate struct {
		Fixed *struct {
			Amount   int64  `json:"amount"`
			Currency string `json:"currency"`
		} `json:"fixed_amount"`
	}
	found, refusal, err := r.decode("/v1/shipping_rates/{shipping_rate_token}", "", the(orEmpty(option.child("shipping_rate")).Text), &rate)
	if !found {
		return nil, "", "", refusal, err
	}
	if rate.Fixed == nil || in != "" && lowerCurrency(rate.Fixed.Currency) != in {
		return nil, "", "none", nil, nil
	}
	return new(big.Rat).SetInt64(rate.Fixed.Amount), lowerCurrency(rate.Fixed.Currency), "", nil, nil
}

// recurringLineItems is one renewal of the subscription that a session makes.
func (r *resolver) recurringLineItems(int) (bound, *policy.Refusal, error) {
	t := &tally{}
	s := sale{recurring: true, currency: r.callCurrency()}
	for _, name := range []string{"line_items", "optional_items"} {
		if refusal, err := r.sold(t, r.root().child(name), s); refusal != nil || err != nil {
			return bound{}, refusal, err
		}
	}
	if automaticTax(r.root()) {
		t.times(taxMargin)
	}
	if t.currency == "" {
		t.fail("it names no price that renews")
	}
	return t.bound(), nil, nil
}

// paymentLink is what all payers of a link can pay together: what one can pay, times the number of sessions
// that the link allows.
func (r *resolver) paymentLink(int) (bound, *policy.Refusal, error) {
	limit := r.req.Params.Get(Field{"restrictions", "completed_sessions", "limit"})
	if limit == nil {
		return bound{why: "a link can be paid any number of times unless restrictions[completed_sessions][limit] says how often"}, nil, nil
	}
	n, ok := ParseMinor(limit, false)
	if !ok || n == 0 { // nobody knows what Stripe makes of none at all
		return bound{}, malformed("restrictions[completed_sessions][limit]", "The limit must be a whole number above zero."), nil
	}
	t, refusal, err := r.checkout()
	if refusal != nil || err != nil {
		return bound{}, refusal, err
	}
	renews := &tally{}
	s := sale{recurring: true, currency: r.callCurrency()}
	for _, name := range []string{"line_items", "optional_items"} {
		if refusal, err := r.sold(renews, r.root().child(name), s); refusal != nil || err != nil {
			return bound{}, refusal, err
		}
	}
	if renews.why != "" || renews.sum.Sign() > 0 {
		t.fail("its prices renew, so every payer pays again without a call")
	}
	t.times(big.NewRat(n, 1))
	return t.bound(), nil, nil
}

// lines is what the lines that a call adds to an invoice, or changes there, come to at most. A credit counts
// as much as a debt.
func (r *resolver) lines(i int) (bound, *policy.Refusal, error) {
	t := &tally{}
	list := r.req.Params.Get(Field{"lines"})
	if list == nil {
		return bound{why: "it names no lines"}, nil, nil
	}
	for _, m := range list.Members {
		if refusal, err := r.invoiceLine(i, t, m.Value); refusal != nil || err != nil {
			return bound{}, refusal, err
		}
	}
	return t.bound(), nil, nil
}

// linePrice is the one line that a call is about, written out in its own parameters.
func (r *resolver) linePrice(i int) (bound, *policy.Refusal, error) {
	t := &tally{}
	refusal, err := r.invoiceLine(i, t, r.root())
	return t.bound(), refusal, err
}

// touchesAmount are the parameters of a line that change what it comes to.
var touchesAmount = []string{
	"amount", "quantity", "quantity_decimal", "unit_amount_decimal", "price", "pricing", "price_data", "tax_rates", "tax_amounts", "discounts", "discountable",
}

func (r *resolver) invoiceLine(i int, t *tally, line *Node) (*policy.Refusal, error) {
	touched := false
	for _, name := range touchesAmount {
		touched = touched || line.child(name) != nil
	}
	if !touched && line.child("invoice_item") == nil {
		return nil, nil // a description, a period: nothing about money
	}
	if line.child("tax_amounts") != nil {
		t.fail("tax_amounts add what they say to the line")
		return nil, nil
	}
	amount, currency, refusal, err := r.lineAmount(i, t, line)
	if amount == nil || refusal != nil || err != nil {
		return refusal, err
	}
	factor, why, refusal, err := r.taxFactor(line.child("tax_rates"))
	if refusal != nil || err != nil {
		return refusal, err
	}
	if why != "" {
		t.fail(why)
		return nil, nil
	}
	t.add(amount.Mul(amount.Abs(amount), factor), currency)
	return nil, nil
}

// lineAmount reads a line's amount: written out, unit times quantity, or its price times its quantity. nil
// without a refusal: the tally says why there is none.
func (r *resolver) lineAmount(i int, t *tally, line *Node) (*big.Rat, money.Currency, *policy.Refusal, error) {
	quantity, ok := quantityOf(line)
	if !ok {
		return nil, "", malformed("quantity", "A quantity must be a plain number."), nil
	}
	for _, name := range []string{"amount", "unit_amount_decimal"} {
		n := line.child(name)
		if n == nil {
			continue
		}
		amount, ok := exact(n.Text)
		if !ok {
			return nil, "", malformed(name, strconv.Quote(name)+" must be a plain number of minor units."), nil
		}
		if name != "amount" {
			amount.Mul(amount, quantity)
		}
		currency, refusal, err := r.currency(r.req.Effects[i], bound{})
		return amount, currency, refusal, err
	}
	p, refusal, err := r.priceOf(line)
	if refusal != nil || err != nil {
		return nil, "", refusal, err
	}
	if p == nil {
		t.fail("a line is changed without its amount or its price; name one of them")
		return nil, "", nil, nil
	}
	amount, currency, why := p.cost(quantity, r.callCurrency())
	if why != "" {
		t.fail(why)
		return nil, "", nil, nil
	}
	return amount, currency, nil, nil
}

// removedCredit is the credit that falls away when an invoice item is deleted: a debt that falls away costs
// nobody anything.
func (r *resolver) removedCredit(int) (bound, *policy.Refusal, error) {
	var item struct {
		Amount   int64  `json:"amount"`
		Currency string `json:"currency"`
	}
	found, refusal, err := r.decode("/v1/invoiceitems/{invoiceitem}", "", r.req.Value, &item)
	if !found {
		return bound{}, refusal, err
	}
	return bound{amount: max(0, -item.Amount), currency: lowerCurrency(item.Currency)}, nil, nil
}

// removedLines is the credit that falls away with lines of an invoice, which raises what it asks for.
func (r *resolver) removedLines(int) (bound, *policy.Refusal, error) {
	var page struct {
		Data []struct {
			ID       string `json:"id"`
			Amount   int64  `json:"amount"`
			Currency string `json:"currency"`
		} `json:"data"`
	}
	found, refusal, err := r.decode("/v1/invoices/{invoice}/lines", "", r.req.Value, &page)
	if !found {
		return bound{}, refusal, err
	}
	t := &tally{}
	for _, named := range r.req.Params.All(Field{"lines", anyElement, "id"}, nil) {
		known := false
		for _, line := range page.Data {
			if line.ID == named.Text {
				known = true
				t.add(new(big.Rat).SetInt64(max(0, -line.Amount)), lowerCurrency(line.Currency))
			}
		}
		if !known {
			t.fail("a line is not among the first that the invoice shows; remove it outside the agent")
		}
	}
	if t.currency == "" {
		t.fail("it names no lines")
	}
	return t.bound(), nil, nil
}
