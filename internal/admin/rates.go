package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/store"
)

// Rate is what one whole unit of a currency is worth in dollars.
type Rate struct {
	Currency string    `json:"currency" doc:"ISO code in upper case"`
	Rate     string    `json:"rate" doc:"dollars per whole unit, decimal"`
	Source   string    `json:"source" doc:"typed (margin 5 %) or imported (margin 2 %)"`
	AsOf     time.Time `json:"as_of"`
	Stale    bool      `json:"stale" doc:"older than 30 days: converts nothing"`
	ID       string    `json:"id"`
}

// RateTable is a page of the rates in force, by currency.
type RateTable struct {
	Items []Rate `json:"items" nullable:"false"`
	Next  string `json:"next" doc:"give it back as after for the next page; empty: this is the last one"`
	ETag  string `json:"etag" doc:"version of the whole table"`
}

// RateInput is a rate as operators type it.
type RateInput struct {
	Currency string `json:"currency"`
	Rate     string `json:"rate" doc:"dollars per whole unit, like 1.09"`
}

// RateInputs are typed rates.
type RateInputs struct {
	Rates []RateInput `json:"rates"`
	// IfMatch is the version of the table that they were typed for; empty: the present one, whichever that is.
	IfMatch string `json:"-"`
}

// SetRates puts typed rates in force, all or none, and returns the whole table.
func (s *Service) SetRates(ctx context.Context, who Actor, req RateInputs) (RateTable, error) {
	s.changes.Lock()
	defer s.changes.Unlock()
	if err := unchanged("the table of rates", req.IfMatch, s.ListRates().ETag); err != nil {
		return RateTable{}, err
	}
	var wrong faults
	if len(req.Rates) == 0 {
		wrong.add("body.rates", errors.New("name a currency and its rate, like EUR=1.09"))
	}
	var rates []money.Rate
	for i, in := range req.Rates {
		at := fmt.Sprintf("body.rates[%d]", i)
		c, err := money.ParseCurrency(strings.ToLower(in.Currency))
		switch {
		case err != nil:
		case c == "usd":
			err = errors.New("dollars need no rate")
		case slices.ContainsFunc(rates, func(r money.Rate) bool { return r.Currency == c }):
			err = fmt.Errorf("%s is there twice; leave one of them", in.Currency)
		}
		wrong.add(at+".currency", err)
		value, err := money.ParseRate(in.Rate)
		if err != nil {
			wrong.add(at+".rate", fmt.Errorf("%s: %w", in.Currency, err))
		}
		rates = append(rates, money.Rate{Currency: c, Value: value, Source: money.RateTyped, AsOf: s.Store.Now()})
	}
	if err := wrong.refusal(); err != nil {
		return RateTable{}, err
	}
	return s.putRates(ctx, who, "rates.set", rates)
}

// ImportRates puts the rates of a file in force (money.ParseRates says which files), all or none, and
// returns the whole table. ifMatch is as in RateInputs.
func (s *Service) ImportRates(ctx context.Context, who Actor, file io.Reader, ifMatch string) (RateTable, error) {
	s.changes.Lock()
	defer s.changes.Unlock()
	if err := unchanged("the table of rates", ifMatch, s.ListRates().ETag); err != nil {
		return RateTable{}, err
	}
	rates, err := money.ParseRates(file, s.Store.Now())
	if err != nil {
		return RateTable{}, wrong("body", "%v", err)
	}
	return s.putRates(ctx, who, "rates.import", rates)
}

func (s *Service) putRates(ctx context.Context, who Actor, action string, rates []money.Rate) (RateTable, error) {
	before := map[money.Currency]string{}
	for _, r := range s.Rates().Rates() {
		before[r.Currency] = money.FormatRate(r.Value)
	}
	var all []money.Rate
	err := s.act(ctx, store.LaneControl, who, action, func(tx store.Tx, rec *audit.Record) error {
		var diff []string
		for _, r := range rates {
			code := strings.ToUpper(string(r.Currency))
			r.ID = money.RateID(fmt.Sprintf("rate_%s_%d", r.Currency, tx.Now().UnixMicro()))
			if err := tx.PutRate(r); err != nil {
				return fmt.Errorf("write rate %s: %w", code, err)
			}
			line := code + ": " + money.FormatRate(r.Value)
			if old, ok := before[r.Currency]; ok {
				line = code + ": " + old + " -> " + money.FormatRate(r.Value)
			}
			diff = append(diff, line)
		}
		rec.Subject, rec.Diff = fmt.Sprintf("%d rates", len(rates)), strings.Join(diff, "\n")
		var err error
		all, err = tx.Rates()
		return err
	})
	if err != nil {
		return RateTable{}, err
	}
	s.rates.Store(money.NewTable(all))
	return s.ListRates(), nil
}

// ListRates lists the rates in force by currency.
func (s *Service) ListRates() RateTable {
	out := RateTable{Items: []Rate{}}
	var ids []any
	now := s.Store.Now()
	for _, r := range s.Rates().Rates() {
		ids = append(ids, r.ID)
		out.Items = append(out.Items, Rate{
			Currency: strings.ToUpper(string(r.Currency)), Rate: money.FormatRate(r.Value), Source: string(r.Source),
			AsOf: r.AsOf.UTC(), Stale: now.Sub(r.AsOf) > money.MaxRateAge, ID: string(r.ID),
		})
	}
	out.ETag = entityTag(ids...)
	return out
}
