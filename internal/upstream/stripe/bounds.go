package stripe

import (
	"fmt"
	"math/big"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
)

// worstCase works out the most that one effect of a call can come to. bound.why says that nothing bounds it.
type worstCase func(r *resolver, i int) (bound, *policy.Refusal, error)

// worstCases are the bounds that the tables may name after "worst_case:". What each one reads is told in
// tables/README.md; a name that is not here stops the catalog from loading.
var worstCases map[string]worstCase

func init() { // not a literal: the functions reach the map through the resolver
	worstCases = map[string]worstCase{
		"account_balance":      (*resolver).accountBalance,
		"amount":               (*resolver).earlierEffects,
		"line_items":           (*resolver).lineItems,
		"line_price":           (*resolver).linePrice,
		"lines":                (*resolver).lines,
		"metric_tons":          (*resolver).metricTons,
		"payment_link":         (*resolver).paymentLink,
		"phases":               (*resolver).phases,
		"recurring_item":       (*resolver).recurringItem,
		"recurring_line_items": (*resolver).recurringLineItems,
		"recurring_period":     (*resolver).recurringPeriod,
		"removed_credit":       (*resolver).removedCredit,
		"removed_lines":        (*resolver).removedLines,
		"sends_on":             (*resolver).sendsOn,
		"spending_limits":      (*resolver).spendingLimits,
	}
}

// tally adds up exact amounts in one currency. The zero tally is empty.
type tally struct {
	sum      big.Rat
	currency money.Currency
	why      string // why there is no sum; the first reason stays
}

// add counts an amount. Amounts of two currencies have no sum.
func (t *tally) add(amount *big.Rat, currency money.Currency) {
	switch {
	case t.why != "":
	case currency == "":
		t.why = "a price does not say its currency"
	case t.currency != "" && t.currency != currency:
		t.why = "its prices are in more than one currency"
	default:
		t.currency = currency
		t.sum.Add(&t.sum, amount)
	}
}

// fail notes why there is no sum; an empty reason is none.
func (t *tally) fail(why string) {
	if t.why == "" {
		t.why = why
	}
}

// times multiplies what was counted.
func (t *tally) times(factor *big.Rat) { t.sum.Mul(&t.sum, factor) }

// largest is the most that an amount may be: what twelve digits can say.
const largest = 999_999_999_999

// bound rounds the sum up. An empty tally is nothing at all, in no currency.
func (t *tally) bound() bound {
	if t.why != "" {
		return bound{why: t.why}
	}
	n := new(big.Int).Quo(t.sum.Num(), t.sum.Denom())
	if !t.sum.IsInt() && t.sum.Sign() > 0 {
		n.Add(n, big.NewInt(1))
	}
	if n.CmpAbs(big.NewInt(largest)) > 0 {
		return bound{why: "its amount is larger than any that Stripe takes"}
	}
	return bound{amount: n.Int64(), currency: t.currency}
}

// exact reads a plain decimal number of at most 12 digits before the point and 12 behind it.
func exact(s string) (*big.Rat, bool) {
	digits, point := 0, -1
	for i := range len(s) {
		switch c := s[i]; {
		case '0' <= c && c <= '9':
			digits++
		case c == '.' && point < 0 && i > 0:
			point = i
		case c == '-' && i == 0:
		default:
			return nil, false
		}
	}
	whole := len(s)
	if point >= 0 {
		whole = point
	}
	if digits == 0 || whole > 13 || len(s)-whole > 13 {
		return nil, false
	}
	return new(big.Rat).SetString(s)
}

// earlierEffects is what the call's other effects come to together: what is sent on cannot be more than what
// is collected.
func (r *resolver) earlierEffects(i int) (bound, *policy.Refusal, error) {
	return sumOfEffects(r.call.Operation.Effects[:i]), nil, nil
}

func sumOfEffects(effects []policy.Effect) bound {
	var t tally
	for _, e := range effects {
		switch {
		case e.Unmeterable:
			t.fail("it is a part of an amount that has no bound")
		case !e.Known:
			t.fail("it is a part of an amount that is not known")
		default:
			t.add(new(big.Rat).SetInt64(e.Amount.Minor), e.Amount.Currency)
		}
	}
	if len(effects) == 0 {
		t.fail("the amount that it is a share of is not told by this call")
	}
	return t.bound()
}

// accountBalance is all that a financial account holds, also what is still on its way in or out.
func (r *resolver) accountBalance(int) (bound, *policy.Refusal, error) {
	var account struct {
		Balance map[string]map[string]int64 `json:"balance"`
	}
	found, refusal, err := r.decode("/v1/treasury/financial_accounts/{financial_account}", "", r.req.Value, &account)
	if !found {
		return bound{}, refusal, err
	}
	var t tally
	for _, part := range account.Balance {
		for currency, amount := range part {
			if amount > 0 {
				t.add(new(big.Rat).SetInt64(amount), lowerCurrency(currency))
			}
		}
	}
	if t.currency == "" && t.why == "" {
		t.currency = "usd" // an empty account: treasury knows no other
	}
	return t.bound(), nil, nil
}

// metricTons is what an order of carbon removal costs with its fee, whether it names tons or an amount.
func (r *resolver) metricTons(int) (bound, *policy.Refusal, error) {
	var product struct {
		Prices map[string]struct {
			Subtotal int64 `json:"amount_subtotal"`
			Total    int64 `json:"amount_total"`
		} `json:"current_prices_per_metric_ton"`
	}
	currency, ok := r.req.Value("currency")
	if !ok {
		return bound{}, malformed("currency", "Name the order's currency: the price per ton depends on it."), nil
	}
	found, refusal, err := r.decode("/v1/climate/products/{product}", "", r.req.Value, &product)
	if !found {
		return bound{}, refusal, err
	}
	price, ok := product.Prices[currency]
	if !ok || price.Subtotal <= 0 || price.Total < price.Subtotal {
		return bound{why: "the product has no price per ton in " + clip(currency)}, nil, nil
	}
	var t tally
	total := new(big.Rat).SetInt64(price.Total)
	if text, ok := r.req.Value("metric_tons"); ok {
		tons, ok := exact(text)
		if !ok || tons.Sign() <= 0 {
			return bound{}, malformed("metric_tons", "metric_tons must be a plain decimal number above zero."), nil
		}
		t.add(total.Mul(total, tons), lowerCurrency(currency))
		return t.bound(), nil, nil
	}
	n := r.req.Params.Get(Field{"amount"})
	if n == nil {
		return bound{}, malformed("amount", "Name an amount or metric_tons: what is not named cannot be held."), nil
	}
	amount, ok := ParseMinor(n, false)
	if !ok {
		return bound{}, malformed("amount", "The amount must be a whole number of minor units."), nil
	}
	total.Quo(total, new(big.Rat).SetInt64(price.Subtotal))
	t.add(total.Mul(total, new(big.Rat).SetInt64(amount)), lowerCurrency(currency))
	return t.bound(), nil, nil
}

// limit is one of a card's spending limits.
type limit struct {
	Amount     int64    `json:"amount"`
	Interval   string   `json:"interval"`
	Categories []string `json:"categories"`
}

// spendingLimits is the most that a card can ever spend: its smallest limit for all time that holds for all
// categories. What the call sets replaces what the card has.
func (r *resolver) spendingLimits(int) (bound, *policy.Refusal, error) {
	limits, currency := []limit(nil), money.Currency("")
	if set := r.req.Params.Get(Field{"spending_controls", "spending_limits"}); set != nil {
		for _, m := range set.Members {
			amount, ok := ParseMinor(orEmpty(m.Value.child("amount")), false)
			if !ok {
				return bound{}, malformed("spending_controls", "Every spending limit needs an amount in whole minor units."), nil
			}
			l := limit{Amount: amount, Interval: orEmpty(m.Value.child("interval")).Text}
			if c := m.Value.child("categories"); c != nil {
				l.Categories = append(l.Categories, "named")
			}
			limits = append(limits, l)
		}
	} else if r.req.Row.Placeholders != nil {
		var card struct {
			Currency string `json:"currency"`
			Controls struct {
				Limits   []limit `json:"spending_limits"`
				Currency string  `json:"spending_limits_currency"`
			} `json:"spending_controls"`
		}
		found, refusal, err := r.decode(r.req.Row.Template, "", r.req.Value, &card)
		if !found {
			return bound{}, refusal, err
		}
		limits, currency = card.Controls.Limits, lowerCurrency(card.Controls.Currency)
		if currency == "" {
			currency = lowerCurrency(card.Currency)
		}
	}
	best := int64(-1)
	for _, l := range limits {
		if l.Interval == "all_time" && len(l.Categories) == 0 && l.Amount > 0 && (best < 0 || l.Amount < best) {
			best = l.Amount
		}
	}
	if best < 0 {
		return bound{why: "only a spending limit with interval all_time and no categories bounds what a card can spend"}, nil, nil
	}
	for _, f := range []Field{{"currency"}, {"spending_controls", "spending_limits_currency"}} {
		if v, ok := r.req.Params.Value(f); ok {
			currency = lowerCurrency(v)
		}
	}
	return bound{amount: best, currency: currency}, nil, nil
}

// orEmpty is a node that can be asked without being there.
func orEmpty(n *Node) *Node {
	if n == nil {
		return &Node{}
	}
	return n
}

// noSuchBound is what a name that the interpreter does not know says when the catalog loads.
func noSuchBound(name string) error { return fmt.Errorf("no worst case is called %q", name) }
