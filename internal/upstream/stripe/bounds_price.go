package stripe

import (
	"encoding/json"
	"fmt"
	"math/big"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
)

// price is what one unit costs: Stripe's price object, or the inline data of a request in its form.
type price struct {
	ID         string      `json:"id"`
	Currency   string      `json:"currency"`
	Scheme     string      `json:"billing_scheme"`
	Unit       json.Number `json:"unit_amount"`
	UnitExact  string      `json:"unit_amount_decimal"`
	TiersMode  string      `json:"tiers_mode"`
	Tiers      []tier      `json:"tiers"`
	Custom     *customUnit `json:"custom_unit_amount"`
	Transform  *transform  `json:"transform_quantity"`
	Recurring  *recurring  `json:"recurring"`
	Currencies map[string]struct {
		Unit      json.Number `json:"unit_amount"`
		UnitExact string      `json:"unit_amount_decimal"`
		Tiers     []tier      `json:"tiers"`
		Custom    *customUnit `json:"custom_unit_amount"`
	} `json:"currency_options"`
}

type customUnit struct {
	Maximum json.Number `json:"maximum"`
}

type transform struct {
	DivideBy int64 `json:"divide_by"`
}

type recurring struct {
	Interval string `json:"interval"`
	Count    int64  `json:"interval_count"`
	Usage    string `json:"usage_type"`
}

type tier struct {
	UpTo      json.Number `json:"up_to"` // empty: no end
	Unit      json.Number `json:"unit_amount"`
	UnitExact string      `json:"unit_amount_decimal"`
	Flat      json.Number `json:"flat_amount"`
	FlatExact string      `json:"flat_amount_decimal"`
}

// metered reports whether the quantity is told by usage, which no call of ours bounds.
func (p *price) metered() bool { return p.Recurring != nil && p.Recurring.Usage == "metered" }

// decode looks an object up and reads it into out. found is false where refusal or err ends the call.
func (r *resolver) decode(template, query string, value func(string) (string, bool), out any) (found bool, refusal *policy.Refusal, err error) {
	ref, err := ParseLookupRef("GET " + template)
	if err != nil {
		return false, nil, err
	}
	ref.Query = query
	path, ok := ref.Path(value)
	if !ok {
		return false, malformed("", "An id in this call is no plain id, so what it names cannot be looked up."), nil
	}
	body, refusal, err := r.fetch(ref, path, "")
	switch {
	case refusal != nil || err != nil:
		return false, refusal, err
	case body == nil:
		return false, notAllowed(""), nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return false, nil, fmt.Errorf("look up %s: %w", template, err)
	}
	return true, nil, nil
}

// the is a value for the only placeholder of a look-up.
func the(id string) func(string) (string, bool) {
	return func(string) (string, bool) { return id, id != "" }
}

// priceOf finds the price that a line names: by id, or written into it. nil without a refusal: it names none.
func (r *resolver) priceOf(line *Node) (*price, *policy.Refusal, error) {
	id := orEmpty(line.child("price")).Text
	if id == "" {
		if pricing := line.child("pricing"); pricing != nil {
			id = orEmpty(pricing.child("price")).Text
		}
	}
	if id != "" {
		p := &price{}
		found, refusal, err := r.decode("/v1/prices/{price}", "expand[]=tiers&expand[]=currency_options", the(id), p)
		if !found {
			return nil, refusal, err
		}
		return p, nil, nil
	}
	data := line.child("price_data")
	if data == nil {
		return nil, nil, nil
	}
	p := &price{
		Currency: orEmpty(data.child("currency")).Text, Scheme: "per_unit",
		Unit: json.Number(orEmpty(data.child("unit_amount")).Text), UnitExact: orEmpty(data.child("unit_amount_decimal")).Text,
	}
	if rec := data.child("recurring"); rec != nil {
		p.Recurring = &recurring{Interval: orEmpty(rec.child("interval")).Text, Count: 1}
		if n, ok := ParseMinor(orEmpty(rec.child("interval_count")), false); ok {
			p.Recurring.Count = n
		}
	}
	return p, nil, nil
}

// quantityOf reads a line's quantity; one if it names none.
func quantityOf(line *Node) (*big.Rat, bool) {
	for _, name := range []string{"quantity", "quantity_decimal"} {
		if n := line.child(name); n != nil {
			q, ok := exact(n.Text)
			return q, ok && q.Sign() >= 0
		}
	}
	return big.NewRat(1, 1), true
}

// cost is the most that a quantity of a price costs. why says that nothing bounds it. in asks for the price in
// another currency than its own; empty for its own.
func (p *price) cost(quantity *big.Rat, in money.Currency) (amount *big.Rat, currency money.Currency, why string) {
	unit, unitExact, tiers, custom := p.Unit, p.UnitExact, p.Tiers, p.Custom
	currency = lowerCurrency(p.Currency)
	if in != "" && in != currency {
		other, ok := p.Currencies[string(in)]
		if !ok {
			return nil, "", "a price has no amount in " + string(in)
		}
		unit, unitExact, tiers, custom, currency = other.Unit, other.UnitExact, other.Tiers, other.Custom, in
	}
	q := quantity
	if p.Transform != nil && p.Transform.DivideBy > 0 {
		q = ceil(new(big.Rat).Quo(q, big.NewRat(p.Transform.DivideBy, 1)))
	}
	switch {
	case custom != nil:
		highest, ok := exact(custom.Maximum.String())
		if !ok {
			return nil, "", "the payer chooses the amount of a price, which has no maximum"
		}
		return highest.Mul(highest, q), currency, ""
	case p.Scheme == "tiered":
		amount, why = tiered(tiers, q, p.TiersMode == "volume")
		return amount, currency, why
	}
	each, ok := eitherExact(unitExact, unit)
	if !ok || each.Sign() < 0 {
		return nil, "", "a price has no amount"
	}
	return each.Mul(each, q), currency, ""
}

// ceil rounds up to a whole number.
func ceil(x *big.Rat) *big.Rat {
	n := new(big.Int).Quo(x.Num(), x.Denom())
	if !x.IsInt() && x.Sign() > 0 {
		n.Add(n, big.NewInt(1))
	}
	return new(big.Rat).SetInt(n)
}

// eitherExact reads the exact form of an amount, or else the rounded one.
func eitherExact(text string, rounded json.Number) (*big.Rat, bool) {
	if text != "" {
		return exact(text)
	}
	return exact(rounded.String())
}

// tiered is what a quantity costs in tiers: graduated, each tier by itself; by volume, all of it in the tier
// that the quantity reaches. Without tiers nothing is known.
func tiered(tiers []tier, quantity *big.Rat, volume bool) (*big.Rat, string) {
	const unknown = "a price in tiers does not tell its tiers"
	total, below := new(big.Rat), new(big.Rat)
	for i, t := range tiers {
		each, flat := new(big.Rat), new(big.Rat)
		if n, ok := eitherExact(t.UnitExact, t.Unit); ok {
			each = n
		}
		if n, ok := eitherExact(t.FlatExact, t.Flat); ok {
			flat = n
		}
		end, bounded := exact(t.UpTo.String())
		if bounded != (i < len(tiers)-1) {
			return nil, unknown
		}
		last := !bounded || quantity.Cmp(end) <= 0
		switch {
		case volume && last:
			return flat.Add(flat, each.Mul(each, quantity)), ""
		case volume:
			continue
		}
		upper := quantity
		if !last {
			upper = end
		}
		in := new(big.Rat).Sub(upper, below)
		total.Add(total, flat).Add(total, each.Mul(each, in))
		if last {
			return total, ""
		}
		below = end
	}
	return nil, unknown
}

// taxMargin is what automatic tax may add: half of the amount. No sales tax or value added tax that is levied
// on ordinary goods comes near it (the highest standard rate in use is 27 %).
var taxMargin = big.NewRat(3, 2)

// taxFactor is what the tax rates of a line add, as a factor: exclusive percentages add up.
func (r *resolver) taxFactor(lists ...*Node) (factor *big.Rat, why string, refusal *policy.Refusal, err error) {
	factor = big.NewRat(1, 1)
	for _, list := range lists {
		if list == nil {
			continue
		}
		for _, m := range list.Members {
			var rate struct {
				Inclusive  bool        `json:"inclusive"`
				Percentage json.Number `json:"percentage"`
				Type       string      `json:"rate_type"`
			}
			found, refusal, err := r.decode("/v1/tax_rates/{tax_rate}", "", the(m.Value.Text), &rate)
			if !found {
				return nil, "", refusal, err
			}
			percent, ok := exact(rate.Percentage.String())
			switch {
			case rate.Inclusive:
			case rate.Type == "flat_amount" || !ok || percent.Sign() < 0:
				return nil, "a tax rate is no percentage", nil, nil
			default:
				factor.Add(factor, percent.Quo(percent, big.NewRat(100, 1)))
			}
		}
	}
	return factor, "", nil, nil
}

// automaticTax reports whether the call, or a part of it, turns automatic tax on.
func automaticTax(n *Node) bool {
	if n == nil {
		return false
	}
	tax := n.child("automatic_tax")
	return tax != nil && orEmpty(tax.child("enabled")).Text == "true"
}
