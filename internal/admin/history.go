package admin

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

const (
	// historyHours and historyDays are how far back a key's money is told.
	historyHours, historyDays = 24, 14
	// maxHistory is how many reservations are read for the hours: some hundredths of a second.
	maxHistory = 10_000
)

// KeyHistory is a key's money over time, gross, in the windows in which it was held.
type KeyHistory struct {
	Hours []Stretch `json:"hours" doc:"the last 24, oldest first, of everything that is counted in dollars"`
	// Whole is false where the hours hold only the first calls of the day: there are too many.
	Whole bool      `json:"whole"`
	Days  []DayCaps `json:"days" doc:"the last 14 days of each cap in dollars per day"`
}

// DayCaps is a cap per day over days.
type DayCaps struct {
	Resource string    `json:"resource"`
	Limit    Figure    `json:"limit" doc:"as it is now"`
	Days     []Stretch `json:"days" doc:"oldest first"`
}

// Stretch is an hour or a day.
type Stretch struct {
	Start   time.Time `json:"start"`
	Held    Figure    `json:"held"`
	Settled Figure    `json:"settled"`
}

// errWhole ends a reading that has seen enough.
var errWhole = errors.New("enough")

// History tells a key's money over time.
func (s *Service) History(ctx context.Context, idOrName string) (KeyHistory, error) {
	k, err := s.key(idOrName)
	if err != nil {
		return KeyHistory{}, err
	}
	now := s.Store.Now()
	out := KeyHistory{Days: []DayCaps{}}
	if out.Hours, out.Whole, err = s.hours(ctx, k, now); err != nil {
		return out, understood("read the money of "+k.Name, err)
	}
	for _, c := range k.Policy.Caps {
		if c.Unit != policy.UnitUSD || c.Per != policy.PerDay {
			continue
		}
		days, err := s.days(ctx, k, c, now)
		if err != nil {
			return out, understood("read the caps of "+k.Name, err)
		}
		out.Days = append(out.Days, DayCaps{string(c.Resource), figure(c.Unit, c.Limit), days})
	}
	return out, nil
}

// hours sums up what the key's calls of the last day count for, by the hour in which they were made.
func (s *Service) hours(ctx context.Context, k *vault.Key, now time.Time) ([]Stretch, bool, error) {
	first := now.Truncate(time.Hour).Add(-(historyHours - 1) * time.Hour)
	var held, settled [historyHours]money.USD
	seen := 0
	err := s.Store.View(ctx, func(tx store.Tx) error {
		return tx.ReservationsSince(k.ID, first, func(r *ledger.Reservation) error {
			if seen++; seen > maxHistory {
				return errWhole
			}
			i := int(r.At.Sub(first) / time.Hour)
			if i < 0 || i >= historyHours || r.State == ledger.Released {
				return nil
			}
			sum := &settled[i]
			if r.State.Open() {
				sum = &held[i]
			}
			for e := range r.Effects {
				if usd, err := r.Effects[e].Quote.USD(r.Counted[e]); err == nil { // without a rate it has no value in dollars
					*sum = saturated(*sum, int64(usd))
				}
			}
			return nil
		})
	})
	if err != nil && !errors.Is(err, errWhole) {
		return nil, false, err
	}
	out := make([]Stretch, historyHours)
	for i := range out {
		out[i] = stretch(first.Add(time.Duration(i)*time.Hour), held[i], settled[i])
	}
	return out, err == nil, nil
}

// days reads a cap's accounts of days gone by: they are kept for good.
func (s *Service) days(ctx context.Context, k *vault.Key, c policy.Cap, now time.Time) ([]Stretch, error) {
	zone := k.Policy.Timezone
	var accounts []ledger.AccountKey
	var starts []time.Time
	noon := now.In(zone)
	noon = time.Date(noon.Year(), noon.Month(), noon.Day(), 12, 0, 0, 0, zone) // no zone changes its clocks at noon
	for i := historyDays - 1; i >= 0; i-- {
		at := noon.AddDate(0, 0, -i)
		accounts = append(accounts, ledger.AccountKey{Key: k.ID, Resource: c.Resource, Per: c.Per, Unit: c.Unit, Label: ledger.Label(c.Per, at, zone)})
		starts = append(starts, ledger.StartsAt(c.Per, at, zone))
	}
	states, err := s.Store.Peek(ctx, accounts)
	if err != nil {
		return nil, err
	}
	out := make([]Stretch, len(states))
	for i, a := range states {
		out[i] = stretch(starts[i], money.USD(a.Held), money.USD(a.Settled))
	}
	return out, nil
}

func stretch(start time.Time, held, settled money.USD) Stretch {
	return Stretch{start.UTC(), figure(policy.UnitUSD, int64(held)), figure(policy.UnitUSD, int64(settled))}
}

func (a *api) history() {
	handle(a, route{http.MethodGet, "keys/{key}/history", "key-history", "Show a vault key's money over hours and days", vault.ToSee, 0},
		func(ctx context.Context, _ Actor, in *keyPath) (KeyHistory, error) { return a.s.History(ctx, in.Key) })
}

// History calls Service.History.
func (c *Client) History(ctx context.Context, idOrName string) (KeyHistory, error) {
	return call[KeyHistory](ctx, c, http.MethodGet, "keys/"+seg(idOrName)+"/history", nil, nil)
}
