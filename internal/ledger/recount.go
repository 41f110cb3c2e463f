package ledger

import (
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
)

// Recount computes from nothing but reservations how the accounts of some caps stand: what a running total
// must say. Where a reservation carries holds under a cap they are summed up; where it does not, because the
// cap did not exist when it was made, it counts as if the cap had been there (HoldsFor). So it serves two
// purposes: to hold the books against themselves, and to seed a cap that is added in the middle of a window.
//
// All reservations must be of one key. Accounts that nothing counts in are absent. A window is complete only
// if rs holds every reservation made in it, and all that was handed over from it to an older one.
func Recount(caps []policy.Cap, zone *time.Location, rs []*Reservation) map[AccountKey]Account {
	out := make(map[AccountKey]Account)
	add := func(r *Reservation, h *Hold) {
		if h.Amount == 0 {
			return
		}
		a := out[h.Account]
		if r.State.Open() {
			a.Held += h.Amount
		} else {
			a.Settled += h.Amount
		}
		check(a.Held >= 0 && a.Settled >= 0, "account %v overflows", h.Account)
		out[h.Account] = a
	}
	for _, r := range rs {
		for i := range r.Holds {
			for _, c := range caps {
				if r.Holds[i].under(c) {
					add(r, &r.Holds[i])
					break
				}
			}
		}
		holds := r.HoldsFor(caps, zone)
		for i := range holds {
			add(r, &holds[i])
		}
	}
	return out
}

// HoldsFor returns the holds that the reservation would carry under those of the caps that it has none of:
// caps that were added after it was made. An open reservation must be given them when such a cap is added,
// so that its fate settles or releases them too; a settled one, so that a final state can give them back.
// Windows are those of the instant at which it was made, or at which what was handed over to it was.
//
// What was counted in a currency that had no rate then has no value in dollars and no hold.
func (r *Reservation) HoldsFor(caps []policy.Cap, zone *time.Location) []Hold {
	var out []Hold
	for _, c := range caps {
		if c.Per == policy.PerCall {
			continue
		}
		switch c.Unit {
		case policy.UnitCalls:
			if !r.has(c, noEffect, 0) && r.counts(c.Resource) {
				out = append(out, r.holdUnder(c, r.At, zone, Hold{Effect: noEffect, Amount: 1}))
			}
		case policy.UnitUSD:
			for i := range r.Effects {
				if c.Resource == policy.AllResources || c.Resource == r.Effects[i].Bucket {
					out = append(out, r.effectHolds(c, zone, i)...)
				}
			}
		default:
			check(false, "cap on %s per %s counts in no unit", c.Resource, c.Per)
		}
	}
	return out
}

// effectHolds are the holds that one effect lacks under a cap, part by part.
func (r *Reservation) effectHolds(c policy.Cap, zone *time.Location, effect int) []Hold {
	q := r.Effects[effect].Quote
	if q.Value <= 0 || !r.Effects[effect].Known {
		return nil
	}
	var out []Hold
	// An open one gets its own hold also if that is zero: should more move, it is written there.
	if own := r.own(effect); (own > 0 || r.State.Open()) && !r.has(c, effect, 0) {
		out = append(out, r.holdUnder(c, r.At, zone, Hold{Effect: effect, Amount: int64(convert(q, own))}))
	}
	for _, part := range r.Handed {
		if part.Effect == effect && part.Minor > 0 && !r.has(c, effect, part.From) {
			out = append(out, r.holdUnder(c, part.At, zone, Hold{Effect: effect, Amount: int64(convert(q, part.Minor)), From: part.From}))
		}
	}
	return out
}

// holdUnder puts a hold under a cap, into the window of an instant.
func (r *Reservation) holdUnder(c policy.Cap, at time.Time, zone *time.Location, h Hold) Hold {
	h.Account = AccountKey{Key: r.Key, Resource: c.Resource, Per: c.Per, Unit: c.Unit, Label: Label(c.Per, at, zone)}
	h.Limit, h.ResetsAt = c.Limit, ResetsAt(c.Per, at, zone)
	return h
}

func (h *Hold) under(c policy.Cap) bool {
	return h.Account.Resource == c.Resource && h.Account.Per == c.Per && h.Account.Unit == c.Unit
}

func (r *Reservation) has(c policy.Cap, effect int, from ReservationID) bool {
	for i := range r.Holds {
		if h := &r.Holds[i]; h.Effect == effect && h.From == from && h.under(c) {
			return true
		}
	}
	return false
}

// counts reports whether the reservation is a call in `calls` caps on the resource: of the buckets of its
// effects, or of its own resource where it has none; not if it was never written upstream.
func (r *Reservation) counts(resource policy.Resource) bool {
	if r.State == Released && r.Proof.uncounts() {
		return false
	}
	if resource == policy.AllResources {
		return true
	}
	for i := range r.Effects {
		if r.Effects[i].Bucket == resource {
			return true
		}
	}
	own := string(r.Operation) // resource + the SDK's method
	return len(r.Effects) == 0 && own[:max(0, strings.LastIndexByte(own, '.'))] == string(resource)
}
