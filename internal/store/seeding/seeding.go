// Package seeding makes new caps count what their windows have seen (store.Seeding): which reservations lack which holds,
// and what is handed over meanwhile. An engine supplies rows.
package seeding

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
)

const (
	// seedPage is how many reservations one read of a seeding looks at, beside the writer.
	seedPage = 1000
	// seedChunk is how many of them one transaction changes: some milliseconds in which calls and brakes wait.
	seedChunk = 64
)

// Numbers is what one transaction of an engine knows of when reservations were made.
type Numbers interface {
	// LastReservation is the number of the last one, of any key; 0 = there is none.
	LastReservation() (ledger.ReservationID, error)
	// MadeAt is the first reservation from a number on, and when it was made.
	MadeAt(ledger.ReservationID) (ledger.ReservationID, time.Time, error)
}

// Tx is a transaction of an engine. The writing methods are for Update alone.
type Tx interface {
	store.Tx
	Numbers
	// OfKey reads at most n reservations of a key from a number on, oldest first.
	OfKey(key policy.KeyID, from ledger.ReservationID, n int) ([]*ledger.Reservation, error)
	// Object reads what a key is counted for on an object; the zero value if it is not.
	Object(ledger.ObjectKey) (ledger.Object, error)
	PutAccount(ledger.AccountKey, ledger.Account) error
	// PutHolds writes the holds of a reservation.
	PutHolds(*ledger.Reservation) error
}

// Found is a reservation that lacks holds, in the state in which it was seen.
type Found struct {
	ID    ledger.ReservationID
	State ledger.State
}

// FirstSince is the number of the first reservation, of any key, made at since or later. The store's clock never
// goes back, so numbers are in the order of time and halving them finds it.
func FirstSince(t Numbers, since time.Time) (ledger.ReservationID, error) {
	if since.IsZero() {
		return 0, nil
	}
	last, err := t.LastReservation()
	if err != nil {
		return 0, err
	}
	low, high := ledger.ReservationID(1), last+1 // numbers begin with 1: a store without any has none to look at
	for low < high {
		middle := low + (high-low)/2
		id, at, err := t.MadeAt(middle) // middle is never above the last
		if err != nil {
			return 0, err
		}
		if at.Before(since) {
			low = id + 1
		} else {
			high = middle
		}
	}
	return low, nil
}

// Beside implements store.DB.Seed.
func Beside(ctx context.Context, db store.DB, s *store.Seeding) error {
	for more := true; more; {
		var lacking []Found
		next := *s
		err := db.View(ctx, func(v store.Tx) (err error) {
			lacking, more, err = Lacking(v.(Tx), &next)
			return err
		})
		for chunk := range slices.Chunk(lacking, seedChunk) {
			if err == nil {
				err = db.Update(ctx, store.LaneControl, func(u store.Tx) error { return Give(u.(Tx), s, chunk) })
			}
		}
		if err != nil {
			return fmt.Errorf("count what %s has moved: %w", s.Key, err)
		}
		s.Done = next.Done
	}
	return nil
}

// Within implements store.Books.Seed.
func Within(t Tx, s store.Seeding) error {
	for more := true; more; {
		var lacking []Found
		var err error
		if lacking, more, err = Lacking(t, &s); err == nil {
			err = Give(t, &s, lacking)
		}
		if err != nil {
			return fmt.Errorf("count what %s has moved: %w", s.Key, err)
		}
	}
	return nil
}

// Lacking looks at the next page of reservations and lists those that lack holds, and those that lack them for
// what the page's released ones handed over. It moves s.Done behind the page.
func Lacking(t Tx, s *store.Seeding) (out []Found, more bool, err error) {
	from, err := FirstSince(t, s.Begins(t.Now()))
	if err != nil {
		return nil, false, err
	}
	page, err := t.OfKey(s.Key, max(from, s.Done+1), seedPage)
	if err != nil {
		return nil, false, err
	}
	objects := make(map[ledger.ObjectKey][]*ledger.Reservation)
	add := func(r *ledger.Reservation) {
		if len(lacks(t, s, r)) > 0 && !slices.ContainsFunc(out, func(o Found) bool { return o.ID == r.ID }) {
			out = append(out, Found{r.ID, r.State})
		}
	}
	for _, r := range page {
		heirs, err := heirs(t, r, objects)
		if err != nil {
			return nil, false, err
		}
		add(r)
		for _, heir := range heirs {
			add(heir)
		}
		s.Done = r.ID
	}
	return out, len(page) == seedPage, nil
}

// lacks are the holds in current windows that a reservation does not have. A window that has passed decides
// nothing any more.
func lacks(t Tx, s *store.Seeding, r *ledger.Reservation) []ledger.Hold {
	return slices.DeleteFunc(r.HoldsFor(s.Caps, s.Zone), func(h ledger.Hold) bool {
		return h.Account.Label != ledger.Label(h.Account.Per, t.Now(), s.Zone)
	})
}

// Give gives reservations the holds that they lack by now.
func Give(t Tx, s *store.Seeding, rs []Found) error {
	for _, seen := range rs {
		r, err := t.Reservation(seen.ID)
		if err != nil {
			return err
		}
		if err := giveHolds(t, s, r); err != nil {
			return err
		}
		if r.State == seen.State {
			continue
		}
		// Released since it was seen, perhaps, without these holds: then they are its heirs'.
		heirs, err := heirs(t, r, nil)
		if err != nil {
			return err
		}
		for _, heir := range heirs {
			if err := giveHolds(t, s, heir); err != nil {
				return err
			}
		}
	}
	return nil
}

func giveHolds(t Tx, s *store.Seeding, r *ledger.Reservation) error {
	holds := lacks(t, s, r)
	if len(holds) == 0 {
		return nil
	}
	for i := range holds {
		if err := count(t, &holds[i], r.State); err != nil {
			return err
		}
	}
	r.Holds = append(r.Holds, holds...)
	return t.PutHolds(r)
}

// count adds a hold to its account.
func count(t Tx, h *ledger.Hold, state ledger.State) error {
	a, err := t.Account(h.Account)
	if err != nil {
		return err
	}
	total := &a.Settled
	if state.Open() {
		total = &a.Held
	}
	if *total > math.MaxInt64-h.Amount {
		return fmt.Errorf("account %v overflows", h.Account)
	}
	*total += h.Amount
	return t.PutAccount(h.Account, a)
}

// heirs are the reservations that hold what a released one handed over. What counts for an object is all with the
// object's own claims and settlements, so they are among these. objects, if not nil, keeps what was read.
func heirs(t Tx, r *ledger.Reservation, objects map[ledger.ObjectKey][]*ledger.Reservation) ([]*ledger.Reservation, error) {
	if r.State != ledger.Released {
		return nil, nil
	}
	var out []*ledger.Reservation
	for i := range r.Effects {
		e := &r.Effects[i]
		if e.Object == "" {
			continue
		}
		k := ledger.ObjectKey{Key: r.Key, Bucket: e.Bucket, Object: e.Object, Currency: e.Amount.Currency}
		counted, known := objects[k]
		if !known {
			var err error
			if counted, err = countedOn(t, k); err != nil {
				return nil, err
			}
			if objects != nil {
				objects[k] = counted
			}
		}
		for _, heir := range counted {
			if slices.ContainsFunc(heir.Handed, func(h ledger.Handed) bool { return h.From == r.ID && h.Minor > 0 }) {
				out = append(out, heir)
			}
		}
	}
	return out, nil
}

// countedOn reads the reservations that count for an object.
func countedOn(t Tx, k ledger.ObjectKey) ([]*ledger.Reservation, error) {
	o, err := t.Object(k)
	if err != nil {
		return nil, err
	}
	ids := make([]ledger.ReservationID, 0, len(o.Claims)+len(o.Refs))
	for _, c := range o.Claims {
		ids = append(ids, c.Reservation)
	}
	for _, ref := range o.Refs {
		ids = append(ids, ref.Reservation)
	}
	slices.Sort(ids)
	var out []*ledger.Reservation
	for _, id := range slices.Compact(ids) {
		r, err := t.Reservation(id)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}
