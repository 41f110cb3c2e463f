package postgres

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/codec"
	"github.com/keybrake/keybrake/internal/store/seeding"
)

var _ seeding.Tx = (*tx)(nil)

// Account implements store.Books.
func (t *tx) Account(k ledger.AccountKey) (a ledger.Account, err error) {
	err = t.one(`SELECT held, settled FROM accounts WHERE key = $1 AND resource = $2 AND per = $3 AND unit = $4 AND label = $5`,
		[]any{text(k.Key), text(k.Resource), int64(k.Per), int64(k.Unit), text(k.Label)}, &a.Held, &a.Settled)
	if errors.Is(err, store.ErrNotFound) {
		return ledger.Account{}, nil
	}
	return a, err
}

// AccountsIn implements store.Books.
func (t *tx) AccountsIn(per policy.Window, label string, f func(ledger.AccountKey, ledger.Account) error) error {
	type total struct {
		key ledger.AccountKey
		ledger.Account
	}
	totals, err := listed(t, func(row pgx.CollectableRow) (a total, err error) {
		a.key.Per, a.key.Label = per, label
		var unit int64
		err = row.Scan(&a.key.Key, &a.key.Resource, &unit, &a.Held, &a.Settled)
		a.key.Unit = policy.Unit(unit)
		return a, err
	}, `SELECT key, resource, unit, held, settled FROM accounts WHERE per = $1 AND label = $2`, int64(per), text(label))
	for _, a := range totals {
		if err == nil {
			err = f(a.key, a.Account)
		}
	}
	return err
}

const reservationColumns = `id, key, state, at, fixed, moving`

func scanReservation(row pgx.CollectableRow) (*ledger.Reservation, error) {
	var r codec.Reservation
	if err := row.Scan(&r.ID, &r.Key, &r.State, &r.At, &r.Fixed, &r.Moving); err != nil {
		return nil, err
	}
	return r.Decode()
}

// reservations reads those that a condition selects, oldest first; n < 0 = all.
func (t *tx) reservations(where string, n int, args ...any) ([]*ledger.Reservation, error) {
	query := `SELECT ` + reservationColumns + ` FROM reservations WHERE ` + where + ` ORDER BY id`
	if n >= 0 {
		query += fmt.Sprintf(` LIMIT %d`, n)
	}
	return listed(t, scanReservation, query, args...)
}

func (t *tx) Reservation(id ledger.ReservationID) (*ledger.Reservation, error) {
	rs, err := t.reservations(`id = $1`, -1, int64(id))
	if err == nil && len(rs) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return rs[0], nil
}

func (t *tx) OpenReservations(key policy.KeyID) ([]*ledger.Reservation, error) {
	return t.reservations(`state < 2 AND ($1 = '' OR key = $1)`, -1, text(key))
}

func (t *tx) Unresolved(after ledger.ReservationID, n int) ([]*ledger.Reservation, error) {
	return t.reservations(`state < 2 AND state = $1 AND id > $2`, n, int64(ledger.Unresolved), int64(after))
}

func (t *tx) ReservationsSince(key policy.KeyID, since time.Time, f func(*ledger.Reservation) error) error {
	from, err := seeding.FirstSince(t, since)
	if err != nil {
		return err
	}
	for {
		page, err := t.OfKey(key, from, rowsPage)
		if err != nil {
			return err
		}
		for _, r := range page {
			if err := f(r); err != nil {
				return err
			}
			from = r.ID + 1
		}
		if len(page) < rowsPage {
			return nil
		}
	}
}

func (t *tx) Counted(id policy.ObjectID) (map[ledger.ObjectKey]ledger.Object, error) {
	type counted struct {
		key    ledger.ObjectKey
		object ledger.Object
	}
	rows, err := listed(t, func(row pgx.CollectableRow) (c counted, err error) {
		c.key.Object = id
		var doc []byte
		if err := row.Scan(&c.key.Key, &c.key.Bucket, &c.key.Currency, &doc); err != nil {
			return c, err
		}
		c.object, err = decodeObject(c.key, doc)
		return c, err
	}, `SELECT key, bucket, currency, doc FROM objects WHERE object = $1`, []byte(id))
	if err != nil {
		return nil, err
	}
	out := make(map[ledger.ObjectKey]ledger.Object, len(rows))
	for _, c := range rows {
		out[c.key] = c.object
	}
	return out, nil
}

func decodeObject(k ledger.ObjectKey, doc []byte) (o ledger.Object, err error) {
	if err := json.Unmarshal(doc, &o); err != nil {
		return ledger.Object{}, fmt.Errorf("decode object %v: %w", k, err)
	}
	return o, nil
}

// Seed implements store.Books.
func (t *tx) Seed(s store.Seeding) error {
	if !t.writes {
		return errReadOnly
	}
	return seeding.Within(t, s)
}

// LastReservation implements seeding.Numbers.
func (t *tx) LastReservation() (id ledger.ReservationID, err error) {
	return id, t.one(`SELECT coalesce(max(id), 0) FROM reservations`, nil, &id)
}

// MadeAt implements seeding.Numbers.
func (t *tx) MadeAt(from ledger.ReservationID) (id ledger.ReservationID, at time.Time, err error) {
	var made int64
	err = t.one(`SELECT id, at FROM reservations WHERE id >= $1 ORDER BY id LIMIT 1`, []any{int64(from)}, &id, &made)
	return id, codec.FromMicros(made), err
}

// OfKey implements seeding.Tx; an empty key stands for all.
func (t *tx) OfKey(key policy.KeyID, from ledger.ReservationID, n int) ([]*ledger.Reservation, error) {
	if key == "" {
		return t.reservations(`id >= $1`, n, int64(from))
	}
	return t.reservations(`key = $1 AND id >= $2`, n, text(key), int64(from))
}

// Object implements seeding.Tx.
func (t *tx) Object(k ledger.ObjectKey) (ledger.Object, error) {
	var doc []byte
	err := t.one(`SELECT doc FROM objects WHERE object = $1 AND key = $2 AND bucket = $3 AND currency = $4`,
		[]any{[]byte(k.Object), text(k.Key), text(k.Bucket), text(k.Currency)}, &doc)
	if errors.Is(err, store.ErrNotFound) {
		return ledger.Object{}, nil
	}
	if err != nil {
		return ledger.Object{}, err
	}
	return decodeObject(k, doc)
}

// PutAccount implements seeding.Tx.
func (t *tx) PutAccount(k ledger.AccountKey, a ledger.Account) error {
	t.touchedAccounts = append(t.touchedAccounts, k)
	_, err := t.exec(`INSERT INTO accounts (key, resource, per, unit, label, held, settled) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (key, resource, per, unit, label) DO UPDATE SET held = excluded.held, settled = excluded.settled`,
		text(k.Key), text(k.Resource), int64(k.Per), int64(k.Unit), text(k.Label), a.Held, a.Settled)
	return err
}

// PutHolds implements seeding.Tx.
func (t *tx) PutHolds(r *ledger.Reservation) error {
	moving, err := codec.EncodeMoving(r)
	if err != nil {
		return err
	}
	t.touchedReservations = append(t.touchedReservations, r)
	_, err = t.exec(`UPDATE reservations SET moving = $1 WHERE id = $2`, moving, int64(r.ID))
	return err
}
