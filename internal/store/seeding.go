package store

import (
	"slices"
	"time"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
)

// Seeding makes caps that a key is about to get count what their current windows have seen, open holds included:
// each reservation is given the holds that it lacks, and they are added to the accounts. Whatever part of that
// is done is right by itself: a hold without a cap is kept by the same rules and refuses nothing (outcome records
// show it already). So the most of it is done before, in many small transactions beside the calls (DB.Seed), and
// only what was admitted meanwhile in the transaction that adds the caps (Books.Seed). One that broke off can be
// begun anew.
type Seeding struct {
	Key  policy.KeyID
	Caps []policy.Cap
	Zone *time.Location // that the caps' windows will be in
	// Done: the reservations up to this one have their holds, and so has whoever was handed what they held.
	Done ledger.ReservationID
}

// Covers reports whether the seeding is one for these caps in this zone.
func (s *Seeding) Covers(key policy.KeyID, caps []policy.Cap, zone *time.Location) bool {
	return s.Key == key && slices.Equal(s.Caps, caps) && s.Zone != nil && s.Zone.String() == zone.String()
}

// Begins is the earliest instant that any of the caps' windows holds at time now; the zero time if one of them
// has no beginning.
func (s *Seeding) Begins(now time.Time) time.Time {
	var first time.Time
	for i, c := range s.Caps {
		if at := ledger.StartsAt(c.Per, now, s.Zone); i == 0 || at.Before(first) {
			first = at
		}
	}
	return first
}
