package sandbox

import (
	"math/big"
	"strconv"
	"strings"
)

// maxDecimals is how many decimals Stripe takes in a unit amount.
const maxDecimals = 12

// tariff is what a quantity costs: so much a unit, or by tiers.
type tariff struct {
	unit   *big.Rat // minor units; nil where tiered or chosen by the customer
	custom *customAmount
	tiers  []tier
	mode   string // of tiers: graduated or volume
	tax    string // tax_behavior
}

// tier is a band of quantities.
type tier struct {
	upTo       int64 // 0 has no end
	unit, flat *big.Rat
}

// customAmount is a price that the customer chooses within bounds; zero is none.
type customAmount struct{ minimum, maximum, preset int64 }

// pack groups units before they are priced.
type pack struct {
	size int64 // 0: no groups
	up   bool  // a group that is begun counts
}

func (g pack) of(quantity int64) int64 {
	if g.size == 0 {
		return quantity
	}
	n := quantity / g.size
	if g.up && quantity%g.size != 0 {
		n++
	}
	return n
}

// cost is what a quantity costs in minor units, halves rounded up.
func (t *tariff) cost(quantity int64) int64 {
	if len(t.tiers) == 0 {
		if t.unit == nil {
			return 0
		}
		return round(new(big.Rat).Mul(t.unit, ratOf(quantity)))
	}
	sum := new(big.Rat)
	from := int64(0)
	for _, b := range t.tiers {
		last := b.upTo == 0 || quantity <= b.upTo
		units := quantity
		if t.mode == "graduated" {
			if !last {
				units = b.upTo
			}
			units -= from
			from = b.upTo
		}
		if t.mode == "graduated" || last {
			sum.Add(sum, b.cost(units))
		}
		if last {
			break
		}
	}
	return round(sum)
}

func (b *tier) cost(units int64) *big.Rat {
	sum := new(big.Rat)
	if units > 0 && b.flat != nil {
		sum.Add(sum, b.flat)
	}
	if b.unit != nil {
		sum.Add(sum, new(big.Rat).Mul(b.unit, ratOf(units)))
	}
	return sum
}

func ratOf(n int64) *big.Rat { return new(big.Rat).SetInt64(n) }

// round takes halves away from zero.
func round(r *big.Rat) int64 {
	num := new(big.Int).Mul(big.NewInt(2), new(big.Int).Abs(r.Num()))
	num.Add(num, r.Denom())
	num.Quo(num, new(big.Int).Mul(big.NewInt(2), r.Denom()))
	if r.Sign() < 0 {
		num.Neg(num)
	}
	return num.Int64()
}

// share is part/whole of an amount, rounded.
func share(amount, part, whole int64) int64 {
	if whole == 0 {
		return 0
	}
	return round(new(big.Rat).Mul(ratOf(amount), big.NewRat(part, whole)))
}

// decimal writes a number without needless zeros; empty for none.
func decimal(r *big.Rat) string {
	if r == nil {
		return ""
	}
	text := r.FloatString(maxDecimals)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}

// rat reads a number with decimals; nil where none was sent.
func (p part) rat(field string) *big.Rat {
	if !p.has(field) {
		return nil
	}
	r, ok := new(big.Rat).SetString(p.str(field))
	if _, decimals, _ := strings.Cut(p.str(field), "."); !ok || len(decimals) > maxDecimals || strings.ContainsAny(p.str(field), "eE/_") {
		p.refuse(field, "parameter_invalid_decimal", "Invalid decimal: "+p.str(field))
		return nil
	}
	return r
}

// amountOrDecimal reads unit_amount or unit_amount_decimal and the like.
func (p part) amountOrDecimal(field string) *big.Rat {
	if p.has(field) {
		return ratOf(p.int(field))
	}
	return p.rat(field + "_decimal")
}

// tariff reads what a price asks: field is unit_amount, or amount for plans.
func (p part) tariff(field string) tariff {
	t := tariff{unit: p.amountOrDecimal(field), tax: p.or("tax_behavior", "unspecified")}
	if t.unit != nil && t.unit.Sign() < 0 {
		p.refuse(field, "parameter_invalid_integer", "Invalid non-negative integer")
	}
	if custom := p.sub("custom_unit_amount"); custom.bool("enabled") {
		t.custom = &customAmount{custom.int("minimum"), custom.int("maximum"), custom.int("preset")}
	}
	for _, b := range p.list("tiers") {
		next := tier{unit: b.amountOrDecimal("unit_amount"), flat: b.amountOrDecimal("flat_amount")}
		if b.str("up_to") != "inf" {
			next.upTo = b.int("up_to")
		}
		t.tiers = append(t.tiers, next)
	}
	if len(t.tiers) > 0 {
		t.mode = p.or("tiers_mode", "graduated")
		if last := t.tiers[len(t.tiers)-1]; last.upTo != 0 {
			p.refuse("tiers", "", "The last tier must have up_to set to inf.")
		}
	}
	if t.unit == nil && t.custom == nil && len(t.tiers) == 0 {
		p.keep(errMissingParam(p.nameOf(field)))
	}
	return t
}

// render writes an amount as its whole minor units, if it has them, and as a decimal.
func (e *enc) rat(field string, r *big.Rat) {
	if r != nil && r.IsInt() {
		e.int(field, r.Num().Int64())
	} else {
		e.null(field)
	}
	e.opt(field+"_decimal", decimal(r))
}

func (e *enc) tiers(list []tier) {
	e.key("tiers")
	e.b = append(e.b, '[')
	for _, t := range list {
		e.open()
		e.rat("flat_amount", t.flat)
		e.rat("unit_amount", t.unit)
		e.optInt("up_to", t.upTo)
		e.close()
	}
	e.b = append(e.b, ']')
}

func (e *enc) custom(c *customAmount) {
	if c == nil {
		e.null("custom_unit_amount")
		return
	}
	e.key("custom_unit_amount")
	e.open()
	e.optInt("maximum", c.maximum)
	e.optInt("minimum", c.minimum)
	e.optInt("preset", c.preset)
	e.close()
}

func (e *enc) pack(field string, g pack) {
	if g.size == 0 {
		e.null(field)
		return
	}
	e.key(field)
	e.open()
	e.int("divide_by", g.size)
	if g.up {
		e.str("round", "up")
	} else {
		e.str("round", "down")
	}
	e.close()
}

func (p part) pack(field string) pack {
	if !p.has(field) {
		return pack{}
	}
	sub := p.sub(field)
	g := pack{sub.int("divide_by"), sub.str("round") == "up"}
	if g.size <= 0 {
		sub.refuse("divide_by", "parameter_invalid_integer", "Invalid positive integer")
	}
	return g
}

// text is a whole number as a string.
func text(n int64) string { return strconv.FormatInt(n, 10) }
