package money

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"
)

// RateID names one rate as it was set: it is written on every hold made with it, so that the books can
// be recomputed after the table has changed.
type RateID string

// RateSource says where a rate came from; it decides the margin.
type RateSource string

// The two ways in which operators bring rates.
const (
	RateTyped    RateSource = "typed"    // by hand: margin 5 %
	RateImported RateSource = "imported" // from a file: margin 2 %
)

// Margins in basis points, by source. A typed rate is rounder and older than an imported one.
const (
	marginTypedBP    = 500
	marginImportedBP = 200
)

// MaxRateAge is how old a rate may be when it is used. Older counts as no rate at all.
const MaxRateAge = 30 * 24 * time.Hour

// maxRateAhead is how far in the future a rate may be dated: a day, because dates have no time zone. A rate
// from further ahead would never grow old.
const maxRateAhead = 24 * time.Hour

// rateScale is the unit of Rate.Value: 10^-12 dollars per whole currency unit. It keeps seven
// significant digits of the smallest currencies (VND, LAK) and fits any larger one.
const rateScale = 1_000_000_000_000

// maxRateValue keeps value times margin within 64 bits, with room.
const maxRateValue = 1000 * rateScale

// Errors that a conversion can end in. All of them deny a call under a dollar cap.
var (
	ErrNoRate    = errors.New("no rate for the currency")
	ErrStaleRate = errors.New("the currency's rate is too old")
)

// Rate says what one whole unit of a currency is worth in dollars.
type Rate struct {
	ID       RateID     `json:"id"`
	Currency Currency   `json:"currency"`
	Value    int64      `json:"value"` // 10^-12 USD per whole unit
	Source   RateSource `json:"source"`
	AsOf     time.Time  `json:"as_of"`
}

// Quote is a rate fixed for one reservation: exponent, value and margin. A reservation settles at the
// quote that it was held at, so that a move of the rate in between cannot pass a cap. The zero Quote
// converts nothing.
type Quote struct {
	Rate     RateID   `json:"rate,omitempty"`
	Currency Currency `json:"currency"`
	Exponent int      `json:"exponent"`
	Value    int64    `json:"value"`     // 10^-12 USD per whole unit
	MarginBP int64    `json:"margin_bp"` // added on top, basis points
}

// usdQuote is exact: dollars need no rate and no margin.
var usdQuote = Quote{Currency: "usd", Exponent: 2, Value: rateScale}

// Dollars is the quote of dollars: exact, and of any time.
func Dollars() Quote { return usdQuote }

// USD converts minor units at the quote, rounded up. Negative amounts are refused.
func (q Quote) USD(minor int64) (USD, error) {
	if q.Value <= 0 {
		return 0, ErrNoRate
	}
	if minor < 0 {
		return 0, fmt.Errorf("convert %d %s: negative amount", minor, q.Currency)
	}
	if q.MarginBP < 0 || q.Exponent < 0 || q.Exponent > 3 {
		return 0, fmt.Errorf("convert %d %s: margin %d or exponent %d out of range", minor, q.Currency, q.MarginBP, q.Exponent)
	}
	// usd_micro = ceil(minor * value * (10000+margin) * 10^6 / (10^exp * 10^12 * 10^4)); the numerator
	// needs more than 128 bits only for amounts that do not fit the answer either.
	factor, ok := mul(uint64(q.Value), uint64(10_000+q.MarginBP))
	if !ok {
		return 0, ErrOverflow
	}
	hi, lo := bits.Mul64(uint64(minor), factor)
	den := uint64(10_000_000_000) // 10^12 * 10^4 / 10^6
	for range q.Exponent {
		den *= 10
	}
	if hi >= den {
		return 0, ErrOverflow
	}
	quo, rem := bits.Div64(hi, lo, den)
	if rem > 0 {
		quo++
	}
	if quo > 1<<63-1 {
		return 0, ErrOverflow
	}
	return USD(quo), nil
}

func mul(a, b uint64) (uint64, bool) {
	hi, lo := bits.Mul64(a, b)
	return lo, hi == 0
}

// Table is the set of rates in force. It is immutable; the zero Table knows only dollars.
type Table struct{ rates map[Currency]Rate }

// NewTable builds a table; a later rate for the same currency replaces an earlier one.
func NewTable(rates []Rate) *Table {
	t := &Table{rates: make(map[Currency]Rate, len(rates))}
	for _, r := range rates {
		t.rates[r.Currency] = r
	}
	return t
}

// Rates lists the table by currency.
func (t *Table) Rates() []Rate {
	out := make([]Rate, 0, len(t.rates))
	for _, r := range t.rates {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Rate) int { return strings.Compare(string(a.Currency), string(b.Currency)) })
	return out
}

// Quote fixes the rate of a currency at time now. It returns ErrNoRate or ErrStaleRate, wrapped with
// what to do about it.
func (t *Table) Quote(c Currency, now time.Time) (Quote, error) {
	exp, ok := c.Exponent()
	if !ok {
		return Quote{}, fmt.Errorf("%w: %q is not a currency that Stripe knows", ErrNoRate, c)
	}
	if c == "usd" {
		return usdQuote, nil
	}
	code := strings.ToUpper(string(c))
	r, ok := t.rates[c]
	if !ok || r.Value <= 0 {
		return Quote{}, fmt.Errorf("%w: set one with `keybrake rates set %s=...`", ErrNoRate, code)
	}
	if r.AsOf.After(now.Add(maxRateAhead)) {
		return Quote{}, fmt.Errorf("%w: %s is dated %s, in the future; set it anew with `keybrake rates set %s=...`",
			ErrNoRate, code, r.AsOf.UTC().Format(time.DateOnly), code)
	}
	if age := now.Sub(r.AsOf); age > MaxRateAge {
		return Quote{}, fmt.Errorf("%w: %s is of %s, older than %d days; set it anew with `keybrake rates set %s=...`",
			ErrStaleRate, code, r.AsOf.UTC().Format(time.DateOnly), int(MaxRateAge/(24*time.Hour)), code)
	}
	margin := int64(marginTypedBP)
	if r.Source == RateImported {
		margin = marginImportedBP
	}
	return Quote{Rate: r.ID, Currency: c, Exponent: exp, Value: r.Value, MarginBP: margin}, nil
}

// ParseRate reads a rate as operators write it, dollars per whole unit: "1.09", "0.0067". At most
// twelve decimals; it must be greater than zero and at most 1000, which no currency is worth.
func ParseRate(s string) (int64, error) {
	whole, frac, point := strings.Cut(s, ".")
	if !digits(whole) || (point && !digits(frac)) || len(frac) > 12 {
		return 0, fmt.Errorf("rate %q: write dollars per unit as digits with at most twelve decimals, like 1.09", s)
	}
	v, err := strconv.ParseInt(whole+frac+strings.Repeat("0", 12-len(frac)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("rate %q: %w", s, ErrOverflow)
	}
	if v == 0 {
		return 0, fmt.Errorf("rate %q: must be greater than zero", s)
	}
	if v > maxRateValue {
		return 0, fmt.Errorf("rate %q: more than 1000 dollars per unit; write dollars per unit, not units per dollar", s)
	}
	return v, nil
}

// FormatRate writes a rate's value as ParseRate reads it.
func FormatRate(value int64) string {
	s := fmt.Sprintf("%d.%012d", value/rateScale, value%rateScale)
	s = strings.TrimRight(s, "0")
	return strings.TrimSuffix(s, ".")
}
