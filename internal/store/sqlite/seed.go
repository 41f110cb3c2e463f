package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/codec"
)

const (
	// seedPage is how many reservations one read of a seeding looks at, beside the writer.
	seedPage = 1000
	// seedChunk is how many of them one transaction changes: some milliseconds in which calls and brakes wait.
	seedChunk = 64
)

// seedable is a reservation that lacks holds, in the state in which it was seen.
type seedable struct {
	id    ledger.ReservationID
	state ledger.State
}

// Seed implements store.DB.
func (db *DB) Seed(ctx context.Context, s *store.Seeding) error {
	for more := true; more; {
		var lacking []seedable
		next := *s
		err := db.View(ctx, func(v store.Tx) (err error) {
			lacking, more, err = v.(*tx).lacking(&next)
			return err
		})
		for chunk := range slices.Chunk(lacking, seedChunk) {
			if err == nil {
				err = db.Update(ctx, store.LaneControl, func(u store.Tx) error { return u.(*tx).seed(s, chunk) })
			}
		}
		if err != nil {
			return fmt.Errorf("count what %s has moved: %w", s.Key, err)
		}
		s.Done = next.Done
	}
	return nil
}

// Seed implements store.Books.
func (t *tx) Seed(s store.Seeding) error {
	if t.w == nil {
		return errReadOnly
	}
	for more := true; more; {
		var lacking []seedable
		var err error
		if lacking, more, err = t.lacking(&s); err == nil {
			err = t.seed(&s, lacking)
		}
		if err != nil {
			return fmt.Errorf("count what %s has moved: %w", s.Key, err)
		}
	}
	return nil
}

// lacking looks at the next page of reservations and lists those that lack holds, and those that lack them for
// what the page's released ones handed over. It moves s.Done behind the page.
func (t *tx) lacking(s *store.Seeding) (out []seedable, more bool, err error) {
	from, err := t.firstSince(s.Begins(t.now))
	if err != nil {
		return nil, false, err
	}
	page, err := queryReservations(t.ctx, t.q, `SELECT `+reservationColumns+` FROM reservations
		WHERE key = ? AND id >= ? ORDER BY id LIMIT ?`, string(s.Key), int64(max(from, s.Done+1)), seedPage)
	if err != nil {
		return nil, false, err
	}
	objects := make(map[ledger.ObjectKey][]*ledger.Reservation)
	add := func(r *ledger.Reservation) {
		if len(t.lacks(s, r)) > 0 && !slices.ContainsFunc(out, func(o seedable) bool { return o.id == r.ID }) {
			out = append(out, seedable{r.ID, r.State})
		}
	}
	for _, r := range page {
		heirs, err := t.heirs(r, objects)
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
func (t *tx) lacks(s *store.Seeding, r *ledger.Reservation) []ledger.Hold {
	return slices.DeleteFunc(r.HoldsFor(s.Caps, s.Zone), func(h ledger.Hold) bool {
		return h.Account.Label != ledger.Label(h.Account.Per, t.now, s.Zone)
	})
}

// seed gives reservations the holds that they lack by now.
func (t *tx) seed(s *store.Seeding, rs []seedable) error {
	for _, seen := range rs {
		r, err := t.Reservation(seen.id)
		if err != nil {
			return err
		}
		if err := t.seedHolds(s, r); err != nil {
			return err
		}
		if r.State == seen.state {
			continue
		}
		// Released since it was seen, perhaps, without these holds: then they are its heirs'.
		heirs, err := t.heirs(r, nil)
		if err != nil {
			return err
		}
		for _, heir := range heirs {
			if err := t.seedHolds(s, heir); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *tx) seedHolds(s *store.Seeding, r *ledger.Reservation) error {
	holds := t.lacks(s, r)
	if len(holds) == 0 {
		return nil
	}
	for i := range holds {
		if err := t.count(&holds[i], r.State); err != nil {
			return err
		}
	}
	r.Holds = append(r.Holds, holds...)
	moving, err := codec.EncodeMoving(r)
	if err != nil {
		return err
	}
	t.touchedReservations = append(t.touchedReservations, r)
	_, err = t.exec(`UPDATE reservations SET moving = ?, moving_sum = ? WHERE id = ?`, moving, movingSum(int64(r.ID), int64(r.State), moving), int64(r.ID))
	return err
}

// count adds a hold to its account.
func (t *tx) count(h *ledger.Hold, state ledger.State) error {
	k := h.Account
	a, err := readAccount(t.ctx, t.q, k)
	if err != nil {
		return err
	}
	total := &a.Settled
	if state.Open() {
		total = &a.Held
	}
	if *total > math.MaxInt64-h.Amount {
		return fmt.Errorf("account %v overflows", k)
	}
	*total += h.Amount
	t.touchedAccounts = append(t.touchedAccounts, k)
	_, err = t.w.stmts.upsertAccount.ExecContext(t.ctx, string(k.Key), string(k.Resource), int64(k.Per), int64(k.Unit), k.Label, a.Held, a.Settled)
	return err
}

// heirs are the reservations that hold what a released one handed over. What counts for an object is all with the
// object's own claims and settlements, so they are among these. objects, if not nil, keeps what was read.
func (t *tx) heirs(r *ledger.Reservation, objects map[ledger.ObjectKey][]*ledger.Reservation) ([]*ledger.Reservation, error) {
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
			if counted, err = t.countedOn(k); err != nil {
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
func (t *tx) countedOn(k ledger.ObjectKey) ([]*ledger.Reservation, error) {
	o, err := scanObject(k, t.q.QueryRowContext(t.ctx, selectObject, string(k.Key), string(k.Object), string(k.Bucket), string(k.Currency)))
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

func scanObject(k ledger.ObjectKey, row *sql.Row) (ledger.Object, error) {
	var doc []byte
	var sum sql.NullInt64
	err := row.Scan(&doc, &sum)
	if errors.Is(err, sql.ErrNoRows) {
		return ledger.Object{}, nil
	}
	if err != nil {
		return ledger.Object{}, err
	}
	return decodeObject(k, doc, sum)
}
