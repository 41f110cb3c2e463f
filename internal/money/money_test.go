package money

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestParseUSD(t *testing.T) {
	tests := map[string]struct {
		in   string
		want USD
		ok   bool
	}{
		"whole dollars":                         {"500", 500 * Dollar, true},
		"two decimals":                          {"500.25", 500_250_000, true},
		"one decimal":                           {"0.5", 500_000, true},
		"zero":                                  {"0", 0, true},
		"the largest that fits":                 {"9223372036854.77", 9_223_372_036_854_770_000, true},
		"one cent more than fits":               {"9223372036854.78", 0, false},
		"a third decimal is refused":            {"1.005", 0, false},
		"a negative amount is refused":          {"-1", 0, false},
		"a plus sign is refused":                {"+1", 0, false},
		"an exponent is refused":                {"1e3", 0, false},
		"a separator is refused":                {"1_000", 0, false},
		"a comma is refused":                    {"1,000", 0, false},
		"hexadecimal is refused":                {"0x10", 0, false},
		"a leading zero is refused":             {"0500", 0, false},
		"and before one digit too":              {"05", 0, false},
		"a point without decimals is refused":   {"5.", 0, false},
		"a point without a number is refused":   {".5", 0, false},
		"nothing is refused":                    {"", 0, false},
		"infinity is refused":                   {".inf", 0, false},
		"not a number is refused":               {"NaN", 0, false},
		"a space is refused":                    {"5 ", 0, false},
		"digits of another script are refused":  {"٥", 0, false},
		"two points are refused":                {"1.2.3", 0, false},
		"a currency sign is refused":            {"$5", 0, false},
		"a minus sign before zero is refused":   {"-0", 0, false},
		"a minus sign alone is refused as such": {"-", 0, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := ParseUSD(test.in)
			if (err == nil) != test.ok || got != test.want {
				t.Errorf("ParseUSD(%q) = %d, %v; want %d, ok %v", test.in, got, err, test.want, test.ok)
			}
		})
	}
}

func TestUSDIsWrittenInDollars(t *testing.T) {
	for in, want := range map[USD]string{
		0: "0.00", 20 * Dollar: "20.00", 5_000: "0.005", -1_500_000: "-1.50", 1: "0.000001",
		math.MaxInt64: "9223372036854.775807", math.MinInt64: "-9223372036854.775808",
	} {
		if got := in.String(); got != want {
			t.Errorf("USD(%d) is written %q, want %q", int64(in), got, want)
		}
	}
}

func TestUSDInJSON(t *testing.T) {
	for _, bad := range []string{`1`, `1.5`, `null`, `"1.0000001"`, `"x"`, `""`, `"1e3"`, `"99999999999999"`} {
		var u USD
		if err := json.Unmarshal([]byte(`[`+bad+`]`), &[]*USD{&u}); err == nil && u != 0 {
			t.Errorf("%s was read as %s", bad, u)
		}
		if err := u.UnmarshalJSON([]byte(bad)); err == nil {
			t.Errorf("%s was read as %s, want an error", bad, u)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		want := USD(rapid.Int64().Draw(t, "usd"))
		b, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got USD
		if err := json.Unmarshal(b, &got); err != nil || got != want {
			t.Fatalf("%s came back as %d, %v; want %d", b, got, err, want)
		}
	})
}

func TestUSDAddAndSubRefuseWhatDoesNotFit(t *testing.T) {
	edge := rapid.OneOf(rapid.Int64(), rapid.SampledFrom([]int64{0, 1, -1, math.MaxInt64, math.MinInt64}))
	rapid.Check(t, func(t *rapid.T) {
		a, b := edge.Draw(t, "a"), edge.Draw(t, "b")
		sum := new(big.Int).Add(big.NewInt(a), big.NewInt(b))
		if got, ok := USD(a).Add(USD(b)); ok != sum.IsInt64() || ok && int64(got) != sum.Int64() {
			t.Fatalf("%d + %d = %d, %v; want %s", a, b, got, ok, sum)
		}
		diff := new(big.Int).Sub(big.NewInt(a), big.NewInt(b))
		if got, ok := USD(a).Sub(USD(b)); ok != diff.IsInt64() || ok && int64(got) != diff.Int64() {
			t.Fatalf("%d - %d = %d, %v; want %s", a, b, got, ok, diff)
		}
	})
}

// The expectation is written out a second time on purpose: a wrong exponent is a factor of ten to a
// hundred on every cap.
func TestExponentsAreStripes(t *testing.T) {
	zero := []Currency{
		"bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf",
	}
	three := []Currency{"bhd", "jod", "kwd", "omr", "tnd"}
	if len(exponents) != len(zero)+len(three)+len(strings.Fields(twoDecimal)) {
		t.Errorf("%d currencies: one is listed twice", len(exponents))
	}
	for c, got := range exponents {
		want := 2
		if slices.Contains(zero, c) {
			want = 0
		} else if slices.Contains(three, c) {
			want = 3
		}
		if got != want {
			t.Errorf("%s has exponent %d, want %d", c, got, want)
		}
	}
	for _, c := range append(zero, three...) {
		if _, ok := c.Exponent(); !ok {
			t.Errorf("%s has no exponent", c)
		}
	}
	for name, test := range map[string]struct {
		code Currency
		want int
		ok   bool
	}{
		"ISK has two decimals in the API, none in life":    {"isk", 2, true},
		"UGX has two decimals in the API, none in life":    {"ugx", 2, true},
		"MGA has none at Stripe, one in ISO":               {"mga", 0, true},
		"HUF has two decimals":                             {"huf", 2, true},
		"TWD has two decimals":                             {"twd", 2, true},
		"IDR has two decimals":                             {"idr", 2, true},
		"COP has two decimals":                             {"cop", 2, true},
		"an unknown currency has none":                     {"xxx", 0, false},
		"a stablecoin has none":                            {"usdc", 0, false},
		"the zero currency has none":                       {"", 0, false},
		"upper case is not the code: ParseCurrency lowers": {"USD", 0, false},
	} {
		if got, ok := test.code.Exponent(); got != test.want || ok != test.ok {
			t.Errorf("%s: got %d, %v", name, got, ok)
		}
	}
}

func TestParseCurrency(t *testing.T) {
	for in, want := range map[string]Currency{
		"usd": "usd", "USD": "usd", "Jpy": "jpy", "": "", "us": "", "xxx": "", " usd": "", "\u212aWD": "", "usd\x00": "",
	} {
		got, err := ParseCurrency(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("ParseCurrency(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestAmountIsWrittenForPeople(t *testing.T) {
	for want, in := range map[string]Amount{
		"20.00 USD": {2000, "usd"}, "0.05 USD": {5, "usd"}, "500 JPY": {500, "jpy"}, "1.005 KWD": {1005, "kwd"},
		"5.00 ISK": {500, "isk"}, "-0.50 EUR": {-50, "eur"}, "7 minor units of XXX": {7, "xxx"},
		"1234 minor units of XXX": {1234, "xxx"}, "0.00 EUR": {0, "eur"}, "0 JPY": {0, "jpy"},
		"-92233720368547758.08 USD": {math.MinInt64, "usd"},
	} {
		if got := in.String(); got != want {
			t.Errorf("%+v is written %q, want %q", in, got, want)
		}
	}
}

// exact is the conversion over fractions, without rounding.
func exact(q Quote, minor int64) *big.Rat {
	r := new(big.Rat).SetInt64(minor)
	r.Mul(r, big.NewRat(q.Value, rateScale))
	r.Mul(r, big.NewRat(10_000+q.MarginBP, 10_000))
	r.Mul(r, new(big.Rat).SetInt64(int64(Dollar)))
	for range q.Exponent {
		r.Quo(r, big.NewRat(10, 1))
	}
	return r
}

func anyQuote(t *rapid.T) Quote {
	return Quote{
		Currency: "eur",
		Exponent: rapid.SampledFrom([]int{0, 2, 3}).Draw(t, "exponent"),
		Value:    rapid.Int64Range(1, maxRateValue).Draw(t, "value"),
		MarginBP: rapid.SampledFrom([]int64{0, marginImportedBP, marginTypedBP}).Draw(t, "margin"),
	}
}

func TestConversionIsTheCeilingOfTheExactValue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := anyQuote(t)
		minor := rapid.Int64Range(0, math.MaxInt64).Draw(t, "minor")
		want := exact(q, minor)
		got, err := q.USD(minor)
		ceiling := new(big.Int).Add(want.Num(), new(big.Int).Sub(want.Denom(), big.NewInt(1)))
		ceiling.Quo(ceiling, want.Denom())
		if !ceiling.IsInt64() {
			if !errors.Is(err, ErrOverflow) {
				t.Fatalf("USD(%d) = %d, %v; want overflow", minor, got, err)
			}
			return
		}
		if err != nil || int64(got) != ceiling.Int64() {
			t.Fatalf("USD(%d) = %d, %v; want %s", minor, got, err, ceiling)
		}
	})
}

func TestConversionAtItsEdges(t *testing.T) {
	micro := Quote{Currency: "jpy", Value: 1_000_000} // a unit is a micro-dollar
	tests := map[string]struct {
		quote Quote
		minor int64
		want  USD
		err   error
	}{
		"a remainder of one goes up":                {Quote{Currency: "jpy", Value: 99_990_001, MarginBP: 1}, 1, 101, nil}, // 10^12+1 over 10^10
		"no remainder goes nowhere":                 {micro, 7, 7, nil},
		"the largest amount that can be written":    {micro, math.MaxInt64, math.MaxInt64, nil},
		"one more than can be written":              {Quote{Currency: "jpy", Value: 2_000_000}, 1 << 62, 0, ErrOverflow},
		"a quotient of 64 bits exactly":             {Quote{Currency: "jpy", Value: 4_000_000}, 1 << 62, 0, ErrOverflow},
		"a quotient of one bit more than 64":        {Quote{Currency: "jpy", Value: 8_000_000}, 1 << 62, 0, ErrOverflow},
		"a numerator that is 2^64 denominators":     {Quote{Currency: "jpy", Value: 4_000_000}, 1 << 62, 0, ErrOverflow},
		"a rate of which the least part is charged": {Quote{Currency: "jpy", Value: 1}, 1, 1, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got, err := test.quote.USD(test.minor); got != test.want || !errors.Is(err, test.err) {
				t.Errorf("got %d, %v; want %d, %v", int64(got), err, int64(test.want), test.err)
			}
		})
	}
}

func TestConversionIsMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := anyQuote(t)
		a := rapid.Int64Range(0, 1e12).Draw(t, "a")
		b := rapid.Int64Range(a, 1e12).Draw(t, "b")
		usdA, errA := q.USD(a)
		usdB, errB := q.USD(b)
		if errB == nil && (errA != nil || usdA > usdB) {
			t.Fatalf("%d minor is %d (%v), %d minor is %d", a, usdA, errA, b, usdB)
		}
	})
}

func TestTenThousandSmallCallsNeverUnderCount(t *testing.T) {
	table := NewTable([]Rate{{ID: "r1", Currency: "jpy", Value: 6_666_666_667, Source: RateImported, AsOf: someday}})
	q, err := table.Quote("jpy", someday)
	if err != nil {
		t.Fatal(err)
	}
	var sum USD
	for range 10_000 {
		one, err := q.USD(1)
		if err != nil {
			t.Fatal(err)
		}
		var ok bool
		if sum, ok = sum.Add(one); !ok {
			t.Fatal("overflow")
		}
	}
	if new(big.Rat).SetInt64(int64(sum)).Cmp(exact(q, 10_000)) < 0 {
		t.Errorf("10,000 calls of 1 JPY count %s, exactly they are %s micro-dollars", sum, exact(q, 10_000))
	}
}

func TestQuotesThatConvertNothing(t *testing.T) {
	for name, q := range map[string]Quote{
		"the zero quote":          {},
		"a negative value":        {Currency: "eur", Exponent: 2, Value: -1},
		"a negative margin":       {Currency: "eur", Exponent: 2, Value: rateScale, MarginBP: -1},
		"a negative exponent":     {Currency: "eur", Exponent: -1, Value: rateScale},
		"an exponent of 20":       {Currency: "eur", Exponent: 20, Value: rateScale},
		"an exponent of 4":        {Currency: "eur", Exponent: 4, Value: rateScale},
		"a value past all bounds": {Currency: "eur", Exponent: 2, Value: math.MaxInt64},
	} {
		if got, err := q.USD(100); err == nil || got != 0 {
			t.Errorf("%s converts 100 to %s, %v", name, got, err)
		}
	}
	if got, err := usdQuote.USD(-1); err == nil || got != 0 {
		t.Errorf("a negative amount converts to %s", got)
	}
	if got, err := usdQuote.USD(2000); err != nil || got != 20*Dollar {
		t.Errorf("2000 cents are %s, %v", got, err)
	}
}

var someday = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestQuoteChoosesRateAndMargin(t *testing.T) {
	eur := Rate{ID: "r1", Currency: "eur", Value: 1_090_000_000_000, Source: RateTyped, AsOf: someday}
	at := func(change func(*Rate)) *Table { r := eur; change(&r); return NewTable([]Rate{r}) }
	tests := map[string]struct {
		table *Table
		code  Currency
		want  Quote
		err   error
	}{
		"dollars need no rate": {&Table{}, "usd", usdQuote, nil},
		"a typed rate has five percent": {
			at(func(*Rate) {}), "eur", Quote{Rate: "r1", Currency: "eur", Exponent: 2, Value: 1_090_000_000_000, MarginBP: 500}, nil,
		},
		"an imported rate has two percent": {
			at(func(r *Rate) { r.Source = RateImported }), "eur",
			Quote{Rate: "r1", Currency: "eur", Exponent: 2, Value: 1_090_000_000_000, MarginBP: 200}, nil,
		},
		"a rate of no known source has the larger margin": {
			at(func(r *Rate) { r.Source = "" }), "eur",
			Quote{Rate: "r1", Currency: "eur", Exponent: 2, Value: 1_090_000_000_000, MarginBP: 500}, nil,
		},
		"thirty days old is still a rate": {
			at(func(r *Rate) { r.AsOf = someday.Add(-MaxRateAge) }), "eur",
			Quote{Rate: "r1", Currency: "eur", Exponent: 2, Value: 1_090_000_000_000, MarginBP: 500}, nil,
		},
		"older than thirty days is none": {at(func(r *Rate) { r.AsOf = someday.Add(-MaxRateAge - 1) }), "eur", Quote{}, ErrStaleRate},
		"a day ahead is still a rate": {
			at(func(r *Rate) { r.AsOf = someday.Add(24 * time.Hour) }), "eur",
			Quote{Rate: "r1", Currency: "eur", Exponent: 2, Value: 1_090_000_000_000, MarginBP: 500}, nil,
		},
		"a moment more than a day ahead is none": {at(func(r *Rate) { r.AsOf = someday.Add(24*time.Hour + 1) }), "eur", Quote{}, ErrNoRate},
		"the smallest rate is one": {
			at(func(r *Rate) { r.Value = 1 }), "eur", Quote{Rate: "r1", Currency: "eur", Exponent: 2, Value: 1, MarginBP: 500}, nil,
		},
		"without a date it is none":        {at(func(r *Rate) { r.AsOf = time.Time{} }), "eur", Quote{}, ErrStaleRate},
		"from the day after next is none":  {at(func(r *Rate) { r.AsOf = someday.Add(48 * time.Hour) }), "eur", Quote{}, ErrNoRate},
		"a rate of zero is none":           {at(func(r *Rate) { r.Value = 0 }), "eur", Quote{}, ErrNoRate},
		"a negative rate is none":          {at(func(r *Rate) { r.Value = -1 }), "eur", Quote{}, ErrNoRate},
		"a missing rate is none":           {&Table{}, "eur", Quote{}, ErrNoRate},
		"an unknown currency has no rate":  {NewTable([]Rate{{Currency: "xxx", Value: 1, AsOf: someday}}), "xxx", Quote{}, ErrNoRate},
		"a rate for dollars changes none":  {NewTable([]Rate{{Currency: "usd", Value: 1, AsOf: someday}}), "usd", usdQuote, nil},
		"the zero currency has no rate":    {&Table{}, "", Quote{}, ErrNoRate},
		"upper case has no rate by itself": {at(func(*Rate) {}), "EUR", Quote{}, ErrNoRate},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := test.table.Quote(test.code, someday)
			if !errors.Is(err, test.err) {
				t.Fatalf("error %v, want %v", err, test.err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRefusedRatesSayWhatToDo(t *testing.T) {
	old := NewTable([]Rate{{Currency: "eur", Value: rateScale, AsOf: someday.AddDate(0, 0, -31)}})
	if _, err := old.Quote("eur", someday); err == nil || !strings.Contains(err.Error(), "older than 30 days") {
		t.Errorf("an old rate: %v", err)
	}
	// Neither may be told as an overflow: both are more than a sane rate, one of them by far.
	for _, in := range []string{"1000.000000000001", "5000000"} {
		if _, err := ParseRate(in); err == nil || !strings.Contains(err.Error(), "more than 1000 dollars per unit") {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func TestAQuoteOutlivesTheTable(t *testing.T) {
	before := NewTable([]Rate{{ID: "r1", Currency: "eur", Value: 1e12, Source: RateImported, AsOf: someday}})
	q, err := before.Quote("eur", someday)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	var kept Quote
	if err := json.Unmarshal(b, &kept); err != nil {
		t.Fatal(err)
	}
	held, _ := q.USD(10_000)
	settled, err := kept.USD(10_000)
	if err != nil || held != settled || held != 102*Dollar {
		t.Errorf("held %s, settled %s, %v; want 102.00 both", held, settled, err)
	}
}

func TestParseRate(t *testing.T) {
	for in, want := range map[string]int64{
		"1.09": 1_090_000_000_000, "0.0067": 6_700_000_000, "1": 1e12, "0.000000000001": 1, "1000": maxRateValue,
		"0": 0, "0.0000000000001": 0, "-1": 0, "": 0, "NaN": 0, "1e3": 0, ".5": 0, "1.": 0, "1000.1": 0,
		"99999999999999999999": 0, "+1": 0, "inf": 0,
	} {
		got, err := ParseRate(in)
		if got != want || (err == nil) != (want != 0) {
			t.Errorf("ParseRate(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.Int64Range(1, maxRateValue).Draw(t, "rate")
		if got, err := ParseRate(FormatRate(want)); err != nil || got != want {
			t.Fatalf("%q came back as %d, %v; want %d", FormatRate(want), got, err, want)
		}
	})
}

func FuzzParseUSD(f *testing.F) {
	for _, s := range []string{"500", "0.5", "-1", "1e3", "1_000", "9223372036854.78", "", ".", "0500", "1.005"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseUSD(s)
		if err != nil {
			if got != 0 {
				t.Fatalf("ParseUSD(%q) gives %s with an error", s, got)
			}
			return
		}
		want, ok := new(big.Rat).SetString(s)
		if !ok || want.Mul(want, new(big.Rat).SetInt64(int64(Dollar))).Cmp(new(big.Rat).SetInt64(int64(got))) != 0 {
			t.Fatalf("ParseUSD(%q) = %d micro-dollars", s, got)
		}
		if again, err := ParseUSD(got.String()); err != nil || again != got {
			t.Fatalf("%q is written %s, which reads as %s, %v", s, got, again, err)
		}
	})
}

func FuzzParseRate(f *testing.F) {
	for _, s := range []string{"1.09", "0.0067", "0", "-1", "1e3", "1000.1", "", "0.0000000000001"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseRate(s)
		if err != nil {
			return
		}
		want, ok := new(big.Rat).SetString(s)
		if !ok || got <= 0 || got > maxRateValue ||
			want.Mul(want, new(big.Rat).SetInt64(rateScale)).Cmp(new(big.Rat).SetInt64(got)) != 0 {
			t.Fatalf("ParseRate(%q) = %d", s, got)
		}
	})
}

// TestEveryExponentIsTheOneOnStripesPage: one that is wrong is a factor of ten or a hundred.
func TestEveryExponentIsTheOneOnStripesPage(t *testing.T) {
	text, err := os.ReadFile("testdata/exponents.golden")
	if err != nil {
		t.Fatal(err)
	}
	want := map[Currency]int{}
	for line := range strings.Lines(string(text)) {
		if line[0] == '#' {
			continue
		}
		var code Currency
		var exponent int
		if _, err := fmt.Sscan(line, &code, &exponent); err != nil {
			t.Fatal(err)
		}
		want[code] = exponent
	}
	if len(want) < 140 {
		t.Fatalf("%d currencies", len(want))
	}
	for code, exponent := range want {
		if got, ok := code.Exponent(); !ok || got != exponent {
			t.Errorf("%s has the exponent %d (%t), want %d", code, got, ok, exponent)
		}
	}
	for code := range exponents {
		if _, ok := want[code]; !ok {
			t.Errorf("nobody has looked at the exponent of %s", code)
		}
	}
}

func TestNothingIsAddedAndTakenAway(t *testing.T) {
	for _, u := range []USD{math.MinInt64, -1, 0, 1, math.MaxInt64} {
		if got, ok := u.Add(0); got != u || !ok {
			t.Errorf("%d and nothing is %d, %t", int64(u), int64(got), ok)
		}
		if got, ok := u.Sub(0); got != u || !ok {
			t.Errorf("%d less nothing is %d, %t", int64(u), int64(got), ok)
		}
	}
}

func TestATableListsItsRates(t *testing.T) {
	if got := NewTable(nil).Rates(); len(got) != 0 {
		t.Errorf("an empty table lists %v", got)
	}
	eur, aud := Rate{Currency: "eur", Value: 2}, Rate{Currency: "aud", Value: 1}
	if got := NewTable([]Rate{eur, aud}).Rates(); !slices.Equal(got, []Rate{aud, eur}) {
		t.Errorf("it lists %v", got)
	}
}
