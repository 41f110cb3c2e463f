package store

import (
	"slices"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
)

// CapState is one cap in one window, in the cap's unit.
type CapState struct {
	Cap           policy.Cap
	Account       ledger.AccountKey // the cap's running total in that window
	Held, Settled int64
	Left          int64
	ResetsAt      time.Time // zero = never
}

// StateOf describes a cap whose account k stands as given at time now.
func StateOf(c policy.Cap, k ledger.AccountKey, account ledger.Account, now time.Time, zone *time.Location) CapState {
	return stateOf(c, k, account, ledger.ResetsAt(c.Per, now, zone))
}

func stateOf(c policy.Cap, k ledger.AccountKey, account ledger.Account, resetsAt time.Time) CapState {
	return CapState{
		Cap: c, Account: k, Held: account.Held, Settled: account.Settled, Left: ledger.Left(account, c.Limit), ResetsAt: resetsAt,
	}
}

// Renewed returns the states with what later ones say about the same windows. Limits stay those of states.
func Renewed(states, later []CapState) []CapState {
	out := slices.Clone(states)
	for i := range out {
		for _, l := range later {
			if s := &out[i]; l.Account == s.Account {
				*s = stateOf(s.Cap, s.Account, ledger.Account{Held: l.Held, Settled: l.Settled}, s.ResetsAt)
			}
		}
	}
	return out
}

// caps tells how the caps of a request stand in their current windows; of no request, none.
func (b *Batch) caps(req *ledger.Request) ([]CapState, error) {
	if req == nil {
		return nil, nil
	}
	var out []CapState
	for _, c := range req.Caps {
		if c.Per == policy.PerCall || !concerns(c, req) {
			continue
		}
		window := b.Book.Window(c.Per, b.Now, req.Zone)
		k := ledger.AccountKey{Key: req.Key, Resource: c.Resource, Per: c.Per, Unit: c.Unit, Label: window.Label}
		account, err := b.Book.Account(k)
		if err != nil {
			return nil, err
		}
		out = append(out, stateOf(c, k, account, window.ResetsAt))
	}
	return out, nil
}

// concerns reports whether the request counts against the cap at all.
func concerns(c policy.Cap, req *ledger.Request) bool {
	if c.Resource == policy.AllResources || slices.Contains(req.Counts, c.Resource) {
		return true
	}
	return slices.ContainsFunc(req.Effects, func(e policy.Effect) bool { return e.Bucket == c.Resource })
}

// standing tells how the caps that a reservation counts in stand, in its own windows and under the limits that it
// was held against. Its fate has read or changed most of these accounts, so they are at hand.
func (b *Batch) standing(r *ledger.Reservation) ([]CapState, error) {
	var out []CapState
	for i := range r.Holds {
		h := &r.Holds[i]
		seen := slices.ContainsFunc(out, func(s CapState) bool { return s.Account == h.Account })
		if seen || h.From != 0 { // what others handed over counts in their windows
			continue
		}
		account, err := b.Book.Account(h.Account)
		if err != nil {
			return nil, err
		}
		c := policy.Cap{Resource: h.Account.Resource, Per: h.Account.Per, Unit: h.Account.Unit, Limit: h.Limit}
		out = append(out, stateOf(c, h.Account, account, h.ResetsAt))
	}
	return out, nil
}

func capRecords(states []CapState) []audit.Cap {
	out := make([]audit.Cap, 0, len(states))
	for _, s := range states {
		out = append(out, audit.Cap{
			Resource: string(s.Cap.Resource), Per: s.Cap.Per.String(), Unit: s.Cap.Unit,
			Limit: s.Cap.Limit, Held: s.Held, Settled: s.Settled, Left: s.Left, ResetsAt: s.ResetsAt,
		})
	}
	return out
}
