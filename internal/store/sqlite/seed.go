package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/codec"
	"github.com/keybrake/keybrake/internal/store/seeding"
)

var _ seeding.Tx = (*tx)(nil)

// Seed implements store.DB.
func (db *DB) Seed(ctx context.Context, s *store.Seeding) error { return seeding.Beside(ctx, db, s) }

// Seed implements store.Books.
func (t *tx) Seed(s store.Seeding) error {
	if t.w == nil {
		return errReadOnly
	}
	return seeding.Within(t, s)
}

// LastReservation implements seeding.Numbers.
func (t *tx) LastReservation() (id ledger.ReservationID, err error) {
	err = t.q.QueryRowContext(t.ctx, `SELECT coalesce(max(id), 0) FROM reservations`).Scan(&id)
	return id, err
}

// MadeAt implements seeding.Numbers.
func (t *tx) MadeAt(from ledger.ReservationID) (id ledger.ReservationID, at time.Time, err error) {
	var made int64
	err = t.q.QueryRowContext(t.ctx, `SELECT id, at FROM reservations WHERE id >= ? ORDER BY id LIMIT 1`, int64(from)).Scan(&id, &made)
	return id, fromMicros(made), err
}

// OfKey implements seeding.Tx.
func (t *tx) OfKey(key policy.KeyID, from ledger.ReservationID, n int) ([]*ledger.Reservation, error) {
	return queryReservations(t.ctx, t.q, `SELECT `+reservationColumns+` FROM reservations
		WHERE key = ? AND id >= ? ORDER BY id LIMIT ?`, string(key), int64(from), n)
}

// Object implements seeding.Tx.
func (t *tx) Object(k ledger.ObjectKey) (ledger.Object, error) {
	return scanObject(k, t.q.QueryRowContext(t.ctx, selectObject, string(k.Key), string(k.Object), string(k.Bucket), string(k.Currency)))
}

// PutAccount implements seeding.Tx.
func (t *tx) PutAccount(k ledger.AccountKey, a ledger.Account) error {
	t.touchedAccounts = append(t.touchedAccounts, k)
	_, err := t.w.stmts.upsertAccount.ExecContext(t.ctx, string(k.Key), string(k.Resource), int64(k.Per), int64(k.Unit), k.Label, a.Held, a.Settled)
	return err
}

// PutHolds implements seeding.Tx.
func (t *tx) PutHolds(r *ledger.Reservation) error {
	moving, err := codec.EncodeMoving(r)
	if err != nil {
		return err
	}
	t.touchedReservations = append(t.touchedReservations, r)
	_, err = t.exec(`UPDATE reservations SET moving = ?, moving_sum = ? WHERE id = ?`, moving, movingSum(int64(r.ID), int64(r.State), moving), int64(r.ID))
	return err
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
