package money

import (
	"fmt"
	"strconv"
	"strings"
)

// Currency is an ISO 4217 code in lower case, as Stripe writes it: "usd".
type Currency string

// ParseCurrency lowers the case of a code and accepts it only if its exponent is known (Stripe takes
// `USD` and `usd` alike). An unknown currency cannot be held against a dollar cap.
func ParseCurrency(s string) (Currency, error) {
	c := Currency(strings.ToLower(s))
	// The length is of what came in: letters outside ASCII that lower to ASCII ones are not a code.
	if _, ok := c.Exponent(); !ok || len(s) != len(c) {
		return "", fmt.Errorf("unknown currency %q", s)
	}
	return c, nil
}

// Amount is what Stripe's API calls an amount: a whole number of the currency's minor units, by
// Stripe's own exponents.
type Amount struct {
	Minor    int64    `json:"amount"`
	Currency Currency `json:"currency"`
}

// String writes the amount for people: "20.00 USD", "500 JPY". A currency without a known exponent is
// written in minor units and says so.
func (a Amount) String() string {
	exp, ok := a.Currency.Exponent()
	code := strings.ToUpper(string(a.Currency))
	if !ok {
		return strconv.FormatInt(a.Minor, 10) + " minor units of " + code
	}
	sign, m := "", uint64(a.Minor)
	if a.Minor < 0 {
		sign, m = "-", -m
	}
	s := strconv.FormatUint(m, 10)
	if exp > 0 {
		if len(s) <= exp {
			s = strings.Repeat("0", exp+1-len(s)) + s
		}
		s = s[:len(s)-exp] + "." + s[len(s)-exp:]
	}
	return sign + s + " " + code
}
