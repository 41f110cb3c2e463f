package sqlite

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
)

func (t *tx) SeedCap(key policy.KeyID, c policy.Cap, zone *time.Location) error {
	if t.w == nil {
		return errReadOnly
	}
	label := ledger.Label(c.Per, t.now, zone)
	var rs []*ledger.Reservation
	since := ledger.StartsAt(c.Per, t.now, zone)
	err := t.ReservationsSince(key, since, func(r *ledger.Reservation) error {
		rs = append(rs, r)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read reservations of %s: %w", key, err)
	}
	older, err := t.heirs(rs, since)
	if err != nil {
		return fmt.Errorf("read what %s was handed: %w", key, err)
	}
	rs = append(older, rs...)
	t.accountsChanged = true
	for k, a := range ledger.Recount([]policy.Cap{c}, zone, rs) {
		if k.Label != label {
			continue // a window that has passed decides nothing any more
		}
		if _, err := t.exec(`INSERT INTO accounts (key, resource, per, unit, label, held, settled) VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET held = excluded.held, settled = excluded.settled`,
			string(k.Key), string(k.Resource), int64(k.Per), int64(k.Unit), k.Label, a.Held, a.Settled); err != nil {
			return fmt.Errorf("seed cap: %w", err)
		}
	}
	for _, r := range rs {
		if err := t.seedHolds(r, c, zone, label); err != nil {
			return err
		}
	}
	return nil
}

// seedHolds gives a reservation the holds that it would have, had the cap been there when it was made, so
// that its fate settles them too.
func (t *tx) seedHolds(r *ledger.Reservation, c policy.Cap, zone *time.Location, label string) error {
	var added bool
	for _, h := range r.HoldsFor([]policy.Cap{c}, zone) {
		has := slices.ContainsFunc(r.Holds, func(x ledger.Hold) bool { return x.Account == h.Account && x.Effect == h.Effect })
		if h.Account.Label == label && !has {
			r.Holds = append(r.Holds, h)
			added = true
		}
	}
	if !added {
		return nil
	}
	moving, err := encodeMoving(r)
	if err != nil {
		return err
	}
	t.touchedReservations = append(t.touchedReservations, r)
	_, err = t.exec(`UPDATE reservations SET moving = ? WHERE id = ?`, moving, int64(r.ID))
	return err
}

// heirs are the reservations made before a window that hold what was handed over from reservations made in it.
// What counts for an object is all with the object's own claims and settlements, so only those of released
// reservations' objects can be heirs.
func (t *tx) heirs(rs []*ledger.Reservation, since time.Time) ([]*ledger.Reservation, error) {
	known := make(map[ledger.ReservationID]bool, len(rs))
	for _, r := range rs {
		known[r.ID] = true
	}
	var out []*ledger.Reservation
	seen := make(map[ledger.ObjectKey]bool)
	for _, r := range rs {
		if r.State != ledger.Released {
			continue
		}
		for i := range r.Effects {
			e := &r.Effects[i]
			k := ledger.ObjectKey{Key: r.Key, Bucket: e.Bucket, Object: e.Object, Currency: e.Amount.Currency}
			if e.Object == "" || seen[k] {
				continue
			}
			seen[k] = true
			ids, err := t.countedOn(k)
			if err != nil {
				return nil, err
			}
			for _, id := range ids {
				if known[id] {
					continue
				}
				known[id] = true
				heir, err := t.Reservation(id)
				if err != nil {
					return nil, err
				}
				if slices.ContainsFunc(heir.Handed, func(h ledger.Handed) bool { return h.Minor > 0 && !h.At.Before(since) }) {
					out = append(out, heir)
				}
			}
		}
	}
	return out, nil
}

// countedOn lists the reservations that count for an object.
func (t *tx) countedOn(k ledger.ObjectKey) ([]ledger.ReservationID, error) {
	o, err := scanObject(t.w.stmts.selectObject.QueryRowContext(t.ctx, string(k.Key), string(k.Object), string(k.Bucket), string(k.Currency)))
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
	return ids, nil
}

func scanObject(row *sql.Row) (ledger.Object, error) {
	var doc []byte
	err := row.Scan(&doc)
	if errors.Is(err, sql.ErrNoRows) {
		return ledger.Object{}, nil
	}
	if err != nil {
		return ledger.Object{}, err
	}
	var o ledger.Object
	if err := json.Unmarshal(doc, &o); err != nil {
		return ledger.Object{}, fmt.Errorf("decode object: %w", err)
	}
	return o, nil
}
