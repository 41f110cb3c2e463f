package money

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func day(s string) time.Time {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		panic(err)
	}
	return t
}

// atLimit is a file of one rate that is as large as a file may be.
var atLimit = "currency,rate\nEUR,1\n" + strings.Repeat("#", maxRateFile-len("currency,rate\nEUR,1\n"))

func TestParseRates(t *testing.T) {
	rate := func(c Currency, value int64, asOf time.Time) Rate {
		return Rate{Currency: c, Value: value, Source: RateImported, AsOf: asOf}
	}
	tests := map[string]struct {
		in   string
		want []Rate
	}{
		"a simple file is dated now": {"currency,rate\nEUR,1.09\njpy,0.0067\n", []Rate{
			rate("eur", 1_090_000_000_000, someday), rate("jpy", 6_700_000_000, someday),
		}},
		"a simple file may give dates, comments and spaces": {
			"\ufeffCurrency, Rate, As_Of\n# of the treasury\nGBP, 1.27, 2026-11-20\nEUR, 1.09, 2026-11-22T10:00:00Z\nUSD,1,\n", []Rate{
				rate("eur", 1_090_000_000_000, day("2026-11-22").Add(10*time.Hour)), rate("gbp", 1_270_000_000_000, day("2026-11-20")),
			},
		},
		"the daily file of the Central Bank is crossed over dollars, rounded up": {
			"Date, USD, JPY, HUF, \n20 November 2026, 1.1000, 165.00, 400, \n", []Rate{
				rate("eur", 1_100_000_000_000, day("2026-11-20")),
				rate("huf", 2_750_000_000, day("2026-11-20")),
				rate("jpy", 6_666_666_667, day("2026-11-20")),
			},
		},
		"the history of the Central Bank gives its newest row, gaps passed over": {
			"Date,USD,JPY,CYP,RUB,\n2026-11-19,1.2,160,N/A,N/A,\n2026-11-20,1.1,N/A,N/A,100,\n1999-01-04,1.1789,133.73,0.58231,N/A,\n",
			[]Rate{
				rate("eur", 1_100_000_000_000, day("2026-11-20")), rate("rub", 11_000_000_000, day("2026-11-20")),
			},
		},
		"a simple file may quote, after spaces too": {"\"currency\", \"rate\"\n\"EUR\", \"1.09\"\n", []Rate{
			rate("eur", 1_090_000_000_000, someday),
		}},
		"a rate may be thirty days old to the moment": {"currency,rate,as_of\nEUR,1,2026-10-24T12:00:00Z\n", []Rate{
			rate("eur", rateScale, someday.Add(-MaxRateAge)),
		}},
		"a file may be as large as the limit": {atLimit, []Rate{rate("eur", rateScale, someday)}},
		"the Central Bank may leave a figure out, and name a currency that nobody knows": {
			"Date, USD, JPY, XXX, \n2026-11-20, 1.1, , 5, \n", []Rate{rate("eur", 1_100_000_000_000, day("2026-11-20"))},
		},
		"the Central Bank may give a thousand dollars for a euro": {"Date, USD\n2026-11-20, 1000\n", []Rate{
			rate("eur", maxRateValue, day("2026-11-20")),
		}},
		"a figure may have forty characters": {"Date, USD\n2026-11-20, 1." + strings.Repeat("0", 38) + "\n", []Rate{
			rate("eur", rateScale, day("2026-11-20")),
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := ParseRates(strings.NewReader(test.in), someday)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseRatesNamesTheLineAndWhatToWrite(t *testing.T) {
	tests := map[string]struct{ in, want string }{
		"an empty file":             {"", "line 1: the file is empty; write a first line `currency,rate,as_of`"},
		"another heading":           {"code,value\nEUR,1\n", "line 1: \"code,value\": write `currency,rate,as_of`"},
		"a heading that ends early": {"currency\nEUR\n", "line 1: \"currency\": write `currency,rate,as_of`"},
		"a heading of something":    {"currency,price\nEUR,1\n", "line 1: \"currency,price\": write"},
		"a heading of rates alone":  {"code,rate\nEUR,1\n", "line 1: \"code,rate\": write"},
		"a heading with a note":     {"currency,rate,as_of,note\nEUR,1,2026-11-20,x\n", "line 1: \"currency,rate,as_of,note\": write"},
		"a heading of another date": {"currency,rate,day\nEUR,1,2026-11-20\n", "line 1: \"currency,rate,day\": write"},
		"no heading":                {"EUR,1.09\n", "line 1:"},
		"no rates":                  {"currency,rate\n", "line 2: no rates"},
		"an unknown currency":       {"currency,rate\nEUR,1\nEURO,1\n", `line 3: unknown currency "EURO"; write`},
		"a currency twice":          {"currency,rate\nEUR,1\neur,2\n", "line 3: eur is on line 2 already"},
		"a rate of zero":            {"currency,rate\nEUR,0\n", "line 2: rate \"0\": must be greater than zero"},
		"a negative rate":           {"currency,rate\nEUR,-1\n", "line 2: rate \"-1\": write dollars per unit"},
		"not a number":              {"currency,rate\nEUR,NaN\n", "line 2: rate \"NaN\""},
		"units per dollar":          {"currency,rate\nVND,26000\n", "write dollars per unit, not units per dollar"},
		"too few columns":           {"currency,rate\nEUR\n", "line 2: 1 columns; write 2"},
		"too many columns":          {"currency,rate\nEUR,1,2026-11-20\n", "line 2: 3 columns; write 2"},
		"a bad date":                {"currency,rate,as_of\nEUR,1,20.11.2026\n", "line 2: date \"20.11.2026\": write it like 2026-11-20"},
		"a date in the future":      {"currency,rate,as_of\nEUR,1,2027-11-20\n", "line 2: date 2027-11-20 is in the future"},
		"an old date":               {"currency,rate,as_of\nEUR,1,2026-01-20\n", "line 2: date 2026-01-20 is more than 30 days ago"},
		"an open quote":             {"currency,rate\n\"EUR,1\n", "read rates: parse error on line 2"},
		"central bank, old":         {"Date, USD, \n17 July 2026, 1.1, \n", "line 2: date 2026-07-17 is more than 30 days ago"},
		"central bank, no rows":     {"Date, USD, \n", "line 2: no rates under the heading"},
		"central bank, no dollars":  {"Date, JPY, \n2026-11-20, 160, \n", "line 2: no rate for USD"},
		"central bank, zero":        {"Date, USD, \n2026-11-20, 0, \n", "line 2: USD \"0\": must be greater than zero"},
		"central bank, words":       {"Date, USD, \n2026-11-20, abc, \n", "line 2: USD \"abc\": write digits"},
		"central bank, a fraction":  {"Date, USD, \n2026-11-20, 1/3, \n", "line 2: USD \"1/3\": write digits"},
		"central bank, an exponent": {"Date, USD, \n2026-11-20, 1.5e3, \n", "line 2: USD \"1.5e3\": write digits"},
		"central bank, too long":    {"Date, USD, \n2026-11-20, 1." + strings.Repeat("0", 39) + ", \n", "write digits"},
		"central bank, an old form": {"Date, USD, \n2026-11-20, 1.1\n", "line 2: 2 columns under a heading of 3"},
		"central bank, twice":       {"Date, USD, USD\n2026-11-20, 1.1, 1.2\n", "line 2: two columns for USD"},
		"central bank, absurd":      {"Date, USD, JPY\n2026-11-20, 1.1, 0.0000001\n", "line 2: JPY: more than 1000 dollars"},
		"one byte too large":        {atLimit + "#", "more than 16777216 bytes"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			rates, err := ParseRates(strings.NewReader(test.in), someday)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, error %v; want one with %q", rates, err, test.want)
			}
		})
	}
}

func TestImportedRatesConvert(t *testing.T) {
	rates, err := ParseRates(strings.NewReader("Date, USD, JPY, \n20 November 2026, 1.1000, 165.00, \n"), someday)
	if err != nil {
		t.Fatal(err)
	}
	q, err := NewTable(rates).Quote("jpy", someday)
	if err != nil {
		t.Fatal(err)
	}
	// 1650 yen are 10 euros are 11 dollars, and two percent; the third of a micro-dollar goes up.
	if got, err := q.USD(1650); err != nil || got < 11_220_000 || got > 11_220_001 {
		t.Errorf("1650 JPY are %s, %v", got, err)
	}
}

func FuzzParseRates(f *testing.F) {
	f.Add("currency,rate,as_of\nEUR,1.09,2026-11-20\n")
	f.Add("Date, USD, JPY, \n20 November 2026, 1.1, 165, \n")
	f.Fuzz(func(t *testing.T, s string) {
		rates, err := ParseRates(strings.NewReader(s), someday)
		if err != nil {
			return
		}
		table := NewTable(rates)
		for _, r := range rates {
			if _, err := table.Quote(r.Currency, someday); err != nil {
				t.Fatalf("imported rate of %s cannot be used: %v", r.Currency, err)
			}
		}
	})
}
