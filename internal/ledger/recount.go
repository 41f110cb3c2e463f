package ledger

import (
	"slices"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
)

// Recount computes from nothing but reservations how the accounts of some caps stand: what a running total
// must say, so that the books can be held against themselves. Where a reservation carries holds under a cap they are
// summed up; where it does not, because the cap did not exist when it was made, it counts as if the cap had been
// there (HoldsFor).
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

// HoldsFor returns the holds that the reservation would carry and does not: under caps that were added after it
// was made, or whose windows have had other bounds since, in another time zone. An open reservation must be
// given them when such a cap is added, so that its fate settles or releases them too; a settled one, so that a
// final state can give them back. Once it has them, the rules keep them as they keep all others. Windows are
// those of the instant at which it was made, or at which what was handed over to it was.
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
			if h := r.holdUnder(c, r.At, zone, Hold{Effect: noEffect, Amount: 1}); r.counts(c.Resource) && !r.has(&h) {
				out = append(out, h)
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
	own := r.own(effect)
	if h := r.holdUnder(c, r.At, zone, Hold{Effect: effect, Amount: int64(convert(q, own))}); (own > 0 || r.State.Open()) && !r.has(&h) {
		out = append(out, h)
	}
	for _, part := range r.Handed {
		if part.Effect != effect || part.Minor == 0 {
			continue
		}
		if h := r.holdUnder(c, part.At, zone, Hold{Effect: effect, Amount: int64(convert(q, part.Minor)), From: part.From}); !r.has(&h) {
			out = append(out, h)
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

// has reports whether the reservation carries such a hold, of whatever amount.
func (r *Reservation) has(like *Hold) bool {
	return slices.ContainsFunc(r.Holds, func(h Hold) bool {
		return h.Account == like.Account && h.Effect == like.Effect && h.From == like.From
	})
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
