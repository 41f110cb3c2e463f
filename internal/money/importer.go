package money

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"
	"time"
)

// maxRateFile bounds a file of rates, in bytes. The European Central Bank's whole history since 1999 is
// below two million.
const maxRateFile = 16 << 20

// ParseRates reads a file of rates for import, in one of two forms that its first line tells apart:
//
//	currency,rate[,as_of]       dollars per whole unit; as_of is a date or RFC 3339, now if it is left out
//	EUR,1.09,2026-11-20
//
//	Date, USD, JPY, ...         eurofxref.csv and eurofxref-hist.csv of the European Central Bank: units
//	20 November 2026, 1.09, ... per euro; the newest row counts, dollar rates are crossed over USD
//
// Crossed rates are rounded up. The rates come sorted by currency, with source RateImported and without an
// ID: whoever stores them names them. Dollars and, in the Bank's form, cells without a rate or of a
// currency that Stripe does not know are passed over. Errors name the line and what to write; a date in
// the future or older than MaxRateAge is one, because such a rate would never convert anything.
func ParseRates(r io.Reader, now time.Time) ([]Rate, error) {
	in := io.LimitedReader{R: r, N: maxRateFile + 1}
	file := csv.NewReader(&in)
	file.FieldsPerRecord = -1
	file.TrimLeadingSpace = true
	file.Comment = '#'
	header, err := file.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("line 1: the file is empty; write a first line `currency,rate,as_of`")
	}
	if err != nil {
		return nil, fmt.Errorf("read rates: %w", err)
	}
	header = trimmed(header)
	header[0] = strings.TrimPrefix(header[0], "\ufeff")
	var rates []Rate
	switch {
	case strings.EqualFold(header[0], "date"):
		rates, err = centralBankRates(file, header, now)
	case len(header) >= 2 && len(header) <= 3 && strings.EqualFold(header[0], "currency") &&
		strings.EqualFold(header[1], "rate") && (len(header) == 2 || strings.EqualFold(header[2], "as_of")):
		rates, err = simpleRates(file, len(header), now)
	default:
		err = fmt.Errorf("line 1: %q: write `currency,rate,as_of` as the first line, or give the European Central "+
			"Bank's eurofxref.csv unchanged", strings.Join(header, ","))
	}
	if err != nil {
		return nil, err
	}
	if in.N == 0 {
		return nil, fmt.Errorf("the file has more than %d bytes; split it", maxRateFile)
	}
	if len(rates) == 0 {
		return nil, errors.New("line 2: no rates; write one per line, like `EUR,1.09,2026-11-20`")
	}
	slices.SortFunc(rates, func(a, b Rate) int { return strings.Compare(string(a.Currency), string(b.Currency)) })
	return rates, nil
}

func simpleRates(file *csv.Reader, columns int, now time.Time) ([]Rate, error) {
	var rates []Rate
	lines := map[Currency]int{}
	for {
		row, line, err := readRow(file)
		if row == nil || err != nil {
			return rates, err
		}
		if len(row) < 2 || len(row) > columns {
			return nil, fmt.Errorf("line %d: %d columns; write %d, like `EUR,1.09`", line, len(row), columns)
		}
		c, err := ParseCurrency(row[0])
		if err != nil {
			return nil, fmt.Errorf("line %d: %w; write a currency's three letters that Stripe knows", line, err)
		}
		if first, twice := lines[c]; twice {
			return nil, fmt.Errorf("line %d: %s is on line %d already; leave one of them", line, row[0], first)
		}
		lines[c] = line
		value, err := ParseRate(row[1])
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		asOf := now
		if len(row) == 3 && row[2] != "" {
			if asOf, err = parseDate(row[2], time.DateOnly, time.RFC3339); err != nil {
				return nil, fmt.Errorf("line %d: %w", line, err)
			}
		}
		if err := usableDate(asOf, now); err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		if c != "usd" {
			rates = append(rates, Rate{Currency: c, Value: value, Source: RateImported, AsOf: asOf})
		}
	}
}

func centralBankRates(file *csv.Reader, header []string, now time.Time) ([]Rate, error) {
	var newest []string
	var asOf time.Time
	var newestLine int
	for {
		row, line, err := readRow(file)
		if err != nil {
			return nil, err
		}
		if row == nil {
			break
		}
		date, err := parseDate(row[0], time.DateOnly, "2 January 2006")
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		if newest == nil || date.After(asOf) {
			newest, asOf, newestLine = row, date, line
		}
	}
	if newest == nil {
		return nil, errors.New("line 2: no rates under the heading; download the file anew")
	}
	if err := usableDate(asOf, now); err != nil {
		return nil, fmt.Errorf("line %d: %w", newestLine, err)
	}
	if len(newest) != len(header) {
		return nil, fmt.Errorf("line %d: %d columns under a heading of %d; download the file anew",
			newestLine, len(newest), len(header))
	}
	return crossed(header, newest, newestLine, asOf)
}

// crossed turns units per euro into dollars per unit.
func crossed(header, row []string, line int, asOf time.Time) ([]Rate, error) {
	perEuro := map[Currency]*big.Rat{}
	for i := 1; i < len(header); i++ {
		if header[i] == "" || row[i] == "" || strings.EqualFold(row[i], "N/A") {
			continue
		}
		c, err := ParseCurrency(header[i])
		if err != nil {
			continue // no call can be in a currency without an exponent
		}
		whole, frac, point := strings.Cut(row[i], ".")
		if !digits(whole) || (point && !digits(frac)) || len(row[i]) > 40 {
			return nil, fmt.Errorf("line %d: %s %q: write digits, like 1.0942", line, header[i], row[i])
		}
		v, ok := new(big.Rat).SetString(row[i])
		if !ok || v.Sign() <= 0 {
			return nil, fmt.Errorf("line %d: %s %q: must be greater than zero", line, header[i], row[i])
		}
		if _, twice := perEuro[c]; twice {
			return nil, fmt.Errorf("line %d: two columns for %s; leave one of them", line, header[i])
		}
		perEuro[c] = v
	}
	dollars, ok := perEuro["usd"]
	if !ok {
		return nil, fmt.Errorf("line %d: no rate for USD, over which the others are crossed", line)
	}
	perEuro["eur"] = big.NewRat(1, 1)
	delete(perEuro, "usd")
	var rates []Rate
	for c, v := range perEuro {
		value := new(big.Rat).Quo(dollars, v)
		value.Mul(value, new(big.Rat).SetInt64(rateScale))
		up := new(big.Int).Add(value.Num(), new(big.Int).Sub(value.Denom(), big.NewInt(1)))
		up.Quo(up, value.Denom())
		if !up.IsInt64() || up.Int64() > maxRateValue {
			return nil, fmt.Errorf("line %d: %s: more than 1000 dollars per unit; download the file anew",
				line, strings.ToUpper(string(c)))
		}
		rates = append(rates, Rate{Currency: c, Value: up.Int64(), Source: RateImported, AsOf: asOf})
	}
	return rates, nil
}

// readRow returns the next row and its line, or a nil row at the end.
func readRow(file *csv.Reader) (row []string, line int, err error) {
	row, err = file.Read()
	if errors.Is(err, io.EOF) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read rates: %w", err)
	}
	line, _ = file.FieldPos(0)
	return trimmed(row), line, nil
}

func trimmed(row []string) []string {
	for i := range row {
		row[i] = strings.TrimSpace(row[i])
	}
	return row
}

func parseDate(s string, layouts ...string) (time.Time, error) {
	for _, layout := range layouts {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("date %q: write it like 2026-11-20", s)
}

// usableDate refuses what Table.Quote would refuse too.
func usableDate(asOf, now time.Time) error {
	if asOf.After(now.Add(maxRateAhead)) {
		return fmt.Errorf("date %s is in the future; write the day of the rate", asOf.Format(time.DateOnly))
	}
	if now.Sub(asOf) > MaxRateAge {
		return fmt.Errorf("date %s is more than %d days ago; such a rate is not used, get a newer one",
			asOf.Format(time.DateOnly), int(MaxRateAge/(24*time.Hour)))
	}
	return nil
}
