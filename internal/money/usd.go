// Package money holds the amounts that the rest of Keybrake reasons about: US dollars as whole
// micro-dollars, currency amounts in Stripe's minor units, and the rates between them.
//
// Everything is integer arithmetic that checks for overflow. Conversion to dollars rounds up: a cap
// must never be passed by a rounding. The package knows no clock (ages are judged against a time
// that the caller gives) and does no I/O.
package money

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// USD is an amount of US dollars in micro-dollars (1 USD = 1,000,000). It may be negative only in
// adjustments; limits, holds and settlements are never negative. The range is about ±9.2 trillion
// dollars.
type USD int64

// Dollar is one US dollar.
const Dollar USD = 1_000_000

// ErrOverflow says that an amount does not fit into 64 bits. Callers must deny: an amount that
// cannot be represented cannot be capped.
var ErrOverflow = errors.New("amount too large")

// Add returns u+v, or false if the sum does not fit.
func (u USD) Add(v USD) (USD, bool) {
	sum := u + v
	return sum, (sum > u) == (v > 0)
}

// Sub returns u-v, or false if the difference does not fit.
func (u USD) Sub(v USD) (USD, bool) {
	diff := u - v
	return diff, (diff < u) == (v > 0)
}

// String writes the amount in dollars with at least two and at most six decimals, without a
// currency sign: "20.00", "0.005", "-1.50".
func (u USD) String() string {
	sign, magnitude := "", uint64(u)
	if u < 0 {
		sign, magnitude = "-", -magnitude
	}
	whole, frac := magnitude/uint64(Dollar), magnitude%uint64(Dollar)
	digits := fmt.Sprintf("%06d", frac)
	for len(digits) > 2 && digits[len(digits)-1] == '0' {
		digits = digits[:len(digits)-1]
	}
	return sign + strconv.FormatUint(whole, 10) + "." + digits
}

// MarshalJSON writes the amount as a decimal string, so that no reader loses digits to a float.
func (u USD) MarshalJSON() ([]byte, error) {
	return []byte(`"` + u.String() + `"`), nil
}

// UnmarshalJSON reads what MarshalJSON writes: a decimal string with at most six decimals.
func (u *USD) UnmarshalJSON(b []byte) error {
	s, err := strconv.Unquote(string(b))
	if err != nil {
		return fmt.Errorf("read USD %s: want a decimal string", b)
	}
	v, err := parseDecimal(s, 6)
	if err != nil {
		return fmt.Errorf("read USD %q: %w", s, err)
	}
	*u = USD(v)
	return nil
}

// ParseUSD reads a limit as a person writes it: digits, optionally a point and one or two decimals.
// Signs, exponents, separators and a third decimal are refused, because a limit that is read
// differently from what was meant is worse than an error.
func ParseUSD(s string) (USD, error) {
	if strings.HasPrefix(s, "-") {
		return 0, errors.New("an amount cannot be negative")
	}
	v, err := parseDecimal(s, 2)
	if err != nil {
		return 0, err
	}
	return USD(v), nil
}

// parseDecimal reads [-]digits[.digits] with at most decimals places into micro units.
func parseDecimal(s string, decimals int) (int64, error) {
	neg := strings.HasPrefix(s, "-")
	whole, frac, point := strings.Cut(strings.TrimPrefix(s, "-"), ".")
	if !digits(whole) || (point && !digits(frac)) {
		return 0, errors.New("write it as digits with a decimal point, like 500.00")
	}
	if len(frac) > decimals {
		return 0, fmt.Errorf("at most %d decimals", decimals)
	}
	if len(whole) > 1 && whole[0] == '0' {
		return 0, errors.New("write it without leading zeros") // some readers take them for octal
	}
	sign := ""
	if neg {
		sign = "-" // before parsing: the least amount has no positive counterpart
	}
	v, err := strconv.ParseInt(sign+whole+frac+strings.Repeat("0", 6-len(frac)), 10, 64)
	if err != nil {
		return 0, ErrOverflow
	}
	return v, nil
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
