package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

// facts reads rows for one transaction of the writer: from its caches, which hold committed state, or
// from the connection.
type facts struct {
	ctx    context.Context
	w      *writer
	brakes map[string]store.BrakeRow // read once per transaction; few rows
}

var (
	_ ledger.Rows = (*facts)(nil)
	_ store.Facts = (*facts)(nil)
)

func newFacts(ctx context.Context, w *writer) *facts { return &facts{ctx: ctx, w: w} }

func (f *facts) Account(k ledger.AccountKey) (ledger.Account, error) {
	f.w.db.mu.RLock()
	a, ok := f.w.db.accounts[k]
	f.w.db.mu.RUnlock()
	if ok {
		return a, nil
	}
	return scanAccount(f.w.stmts.selectAccount.QueryRowContext(f.ctx,
		string(k.Key), string(k.Resource), int64(k.Per), int64(k.Unit), k.Label))
}

func (f *facts) Object(k ledger.ObjectKey) (ledger.Object, error) {
	return scanObject(k, f.w.stmts.selectObject.QueryRowContext(f.ctx, string(k.Key), string(k.Object), string(k.Bucket), string(k.Currency)))
}

func (f *facts) Reservation(id ledger.ReservationID) (*ledger.Reservation, error) {
	if r, ok := f.w.open[id]; ok {
		return r, nil
	}
	var row reservationRow
	err := f.w.stmts.selectReservation.QueryRowContext(f.ctx, int64(id)).Scan(row.fields()...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, store.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return row.decode()
}

func (f *facts) Brake(scope string) (store.BrakeRow, bool, error) {
	if f.brakes == nil {
		rows, err := f.w.stmts.selectBrakes.QueryContext(f.ctx)
		if err != nil {
			return store.BrakeRow{}, false, err
		}
		if f.brakes, err = scanBrakes(rows); err != nil {
			return store.BrakeRow{}, false, err
		}
	}
	row, ok := f.brakes[scope]
	return row, ok, nil
}

func scanBrakes(rows *sql.Rows) (map[string]store.BrakeRow, error) {
	defer rows.Close()
	out := make(map[string]store.BrakeRow)
	for rows.Next() {
		var row store.BrakeRow
		var mode, at int64
		if err := rows.Scan(&row.Scope, &mode, &row.Reason, &row.Actor, &at); err != nil {
			return nil, err
		}
		row.Mode, row.At = vault.Brake(mode), fromMicros(at)
		out[row.Scope] = row
	}
	return out, rows.Err()
}

func (f *facts) KeyVersion(id policy.KeyID) (int64, error) {
	if v, ok := f.w.versions[id]; ok {
		return v, nil
	}
	var v int64
	if err := f.w.stmts.selectVersion.QueryRowContext(f.ctx, string(id)).Scan(&v); err != nil {
		if errors.Is(err, sql.ErrNoRows) {
			return 0, nil // no such key any more: no version matches, so the call is judged anew
		}
		return 0, err
	}
	f.w.versions[id] = v
	return v, nil
}

func (f *facts) Attached(key policy.KeyID, account policy.AccountID, idem string) (ledger.ReservationID, error) {
	var id int64
	err := f.w.stmts.selectAttached.QueryRowContext(f.ctx, string(key), idemValue(account, idem)).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return ledger.ReservationID(id), err
}

func (f *facts) Pending(key policy.KeyID, fingerprint [32]byte) ([]ledger.ReservationID, error) {
	return f.w.pending[repeat{key, fingerprint}], nil
}

func (f *facts) Recorded(seq int64, hash [32]byte) (there bool, err error) {
	err = f.w.conn.QueryRowContext(f.ctx, `SELECT EXISTS (SELECT 1 FROM audit WHERE seq = ? AND hash = ?)`, seq, hash[:]).Scan(&there)
	return there, err
}

// load reads what the writer keeps in memory.
func (w *writer) load(ctx context.Context) error {
	w.chain = audit.NewChain(audit.FirstChain)
	var at int64
	var hash []byte
	err := w.conn.QueryRowContext(ctx, `SELECT seq, at, hash FROM audit ORDER BY seq DESC LIMIT 1`).Scan(&w.chain.Seq, &at, &hash)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("read the chain's head: %w", err)
	}
	if err == nil {
		copy(w.chain.Hash[:], hash)
		w.db.last.Store(at)
	}
	if err := w.conn.QueryRowContext(ctx, `SELECT coalesce(max(id), 0) + 1 FROM reservations`).Scan(&w.next); err != nil {
		return fmt.Errorf("read reservations: %w", err)
	}
	if err := w.conn.QueryRowContext(ctx, selectIndexed).Scan(&w.indexed); err != nil {
		return fmt.Errorf("read the search index's place: %w", err)
	}
	open, err := queryReservations(ctx, w.conn, `SELECT `+reservationColumns+` FROM reservations WHERE state < 2 ORDER BY id`)
	if err != nil {
		return fmt.Errorf("read open reservations: %w", err)
	}
	for _, r := range open {
		w.track(r)
	}
	w.publish()
	return w.loadHead(ctx)
}

type rowsQueryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func queryReservations(ctx context.Context, q rowsQueryer, query string, args ...any) ([]*ledger.Reservation, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []*ledger.Reservation
	for rows.Next() {
		var row reservationRow
		if err := rows.Scan(row.fields()...); err != nil {
			return nil, err
		}
		r, err := row.decode()
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, rows.Err()
}
