package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/seeding"
	"github.com/keybrake/keybrake/internal/vault"
)

// Control implements queue.Engine.
func (w *writer) Control(_ store.Lane, f func(store.Tx) error) error {
	ctx := context.Background()
	if err := w.stmts.begin(ctx); err != nil {
		return w.failed("begin", err)
	}
	t := &tx{ctx: ctx, q: w.conn, w: w, archives: w.db.archives, now: w.db.Now(), chain: w.chain}
	err := w.guarded(t, f)
	if err == nil {
		if err = w.stmts.commit(ctx); err == nil {
			w.adoptControl(t)
			w.remember()
			return nil
		}
		err = w.unflushed(err)
	} else if engineFault(err) {
		err = w.failed("update", err)
	}
	w.rollback(ctx)
	return err
}

// engineFault reports whether an action failed because of the engine and not because of what it asked for.
func engineFault(err error) bool {
	switch primary(err) {
	case 0, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH:
		return false
	}
	return true
}

// guarded runs an action and turns a broken invariant into the end of all writing, as in a batch.
func (w *writer) guarded(t *tx, f func(store.Tx) error) (err error) {
	defer w.db.trouble.Recover(&err)
	return f(t)
}

func (w *writer) adoptControl(t *tx) {
	w.db.trouble.Stuck(nil)
	if t.chain.Seq != w.chain.Seq {
		w.db.last.Store(t.now.UnixMicro())
	}
	w.chain, w.indexed = t.chain, max(w.indexed, t.indexed)
	for _, id := range t.touchedKeys {
		delete(w.versions, id)
	}
	for _, r := range t.touchedReservations {
		w.track(r)
	}
	if t.touchedBooks {
		if err := w.loadBooks(t.ctx); err != nil {
			_ = w.failed("read back", err) // kept for Check
		}
	}
	if t.signed != nil {
		w.db.figures.SignedUpTo(*t.signed)
	}
	w.publish()
	if len(t.touchedAccounts) > 0 {
		w.db.mu.Lock()
		for _, k := range t.touchedAccounts {
			delete(w.db.accounts, k)
		}
		w.db.mu.Unlock()
	}
}

// View implements store.DB.
func (db *DB) View(ctx context.Context, f func(store.Tx) error) error {
	turn, cancel := context.WithTimeout(ctx, db.wait)
	conn, err := db.views.Conn(turn)
	cancel()
	if err != nil {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "BEGIN"); err != nil {
		return fmt.Errorf("%w: begin: %w", store.ErrUnavailable, err)
	}
	defer conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK") //nolint:errcheck // a read has nothing to lose
	return f(&tx{ctx: ctx, q: conn, archives: db.archives, now: db.Now()})
}

// tx implements store.Tx on the writer's connection or, with w nil, on a reader's.
type tx struct {
	ctx   context.Context
	q     *sql.Conn
	w     *writer // nil: read-only
	now   time.Time
	chain audit.Chain

	archives string // their folder

	touchedKeys         []policy.KeyID
	touchedReservations []*ledger.Reservation
	touchedAccounts     []ledger.AccountKey
	touchedBooks        bool
	signed              *audit.Head
	indexed             int64 // the search index covers the audit up to here, once this is committed
}

var _ store.Tx = (*tx)(nil)

var errReadOnly = errors.New("write in a read-only transaction")

func (t *tx) Now() time.Time { return t.now }

// exec runs a writing statement.
func (t *tx) exec(query string, args ...any) (int64, error) {
	if t.w == nil {
		return 0, errReadOnly
	}
	res, err := t.q.ExecContext(t.ctx, query, args...)
	if err != nil {
		return 0, translate(err)
	}
	return res.RowsAffected()
}

// translate turns the engine's codes into the contract's errors.
func translate(err error) error {
	var se *sqlite.Error
	if errors.As(err, &se) {
		switch se.Code() {
		case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
			return fmt.Errorf("%w: %w", store.ErrExists, err)
		}
	}
	if errors.Is(err, sql.ErrNoRows) {
		return store.ErrNotFound
	}
	return err
}

func (t *tx) Meta(name string) (string, error) {
	var v string
	err := t.q.QueryRowContext(t.ctx, `SELECT value FROM meta WHERE name = ?`, name).Scan(&v)
	return v, translate(err)
}

func (t *tx) SetMeta(name, value string) error {
	_, err := t.exec(`INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value`, name, value)
	return err
}

const keyColumns = `k.id, k.name, k.upstream, k.version, k.live, k.policy, p.yaml, k.doc`

func scanKey(scan func(...any) error) (store.KeyRow, error) {
	var row store.KeyRow
	err := scan(&row.ID, &row.Name, &row.Upstream, &row.Version, &row.Live, &row.Digest, &row.Policy, &row.Doc)
	return row, translate(err)
}

func (t *tx) EachKey(f func(store.KeyRow) error) error {
	rows, err := t.q.QueryContext(t.ctx, `SELECT `+keyColumns+` FROM keys k JOIN policies p ON p.digest = k.policy ORDER BY k.rowid`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		row, err := scanKey(rows.Scan)
		if err != nil {
			return err
		}
		if err := f(row); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (t *tx) Key(id policy.KeyID) (store.KeyRow, error) {
	row := t.q.QueryRowContext(t.ctx, `SELECT `+keyColumns+` FROM keys k JOIN policies p ON p.digest = k.policy WHERE k.id = ?`, string(id))
	return scanKey(row.Scan)
}

func (t *tx) PutKey(row store.KeyRow) (int64, error) {
	if t.w == nil {
		return 0, errReadOnly
	}
	version, err := t.w.putKey(t.ctx, row)
	if err != nil {
		return 0, translate(err)
	}
	t.touchedKeys = append(t.touchedKeys, row.ID)
	return version, nil
}

// putKey writes a key under the next version.
func (w *writer) putKey(ctx context.Context, row store.KeyRow) (int64, error) {
	var version int64
	err := w.stmts.selectVersion.QueryRowContext(ctx, string(row.ID)).Scan(&version)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, err
	}
	version++
	if _, err := w.stmts.putPolicy.ExecContext(ctx, row.Digest, row.Policy); err != nil {
		return 0, fmt.Errorf("write policy: %w", err)
	}
	_, err = w.stmts.updateKey.ExecContext(ctx, string(row.ID), row.Name, string(row.Upstream), version, row.Live, row.Digest, row.Doc)
	return version, err
}

// join adds a customer to a key's own list, in the transaction of the call that created it. The key keeps its
// version: a longer list refuses nothing that the shorter one let through, so calls on their way need not be
// judged anew, and a join cannot overtake an operator's change that is on its way into memory.
func (w *writer) join(ctx context.Context, j store.Join) error {
	row, err := scanKey(w.stmts.selectKeyRow.QueryRowContext(ctx, string(j.Key)).Scan)
	if err != nil {
		return err
	}
	if row.Doc, err = store.JoinCustomer(row.Doc, j.Customer); err != nil {
		return err
	}
	_, err = w.stmts.updateKey.ExecContext(ctx, string(row.ID), row.Name, string(row.Upstream), row.Version, row.Live, row.Digest, row.Doc)
	return err
}

func (t *tx) Upstreams() ([]store.UpstreamRow, error) {
	rows, err := t.q.QueryContext(t.ctx, `SELECT id, name, doc FROM upstreams ORDER BY name`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []store.UpstreamRow
	for rows.Next() {
		var row store.UpstreamRow
		if err := rows.Scan(&row.ID, &row.Name, &row.Doc); err != nil {
			return nil, err
		}
		out = append(out, row)
	}
	return out, rows.Err()
}

func (t *tx) PutUpstream(row store.UpstreamRow) error {
	_, err := t.exec(`INSERT INTO upstreams (id, name, doc) VALUES (?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, doc = excluded.doc`, string(row.ID), row.Name, row.Doc)
	return err
}

func (t *tx) DeleteUpstream(id policy.UpstreamID) error {
	n, err := t.exec(`DELETE FROM upstreams WHERE id = ?`, string(id))
	if err == nil && n == 0 {
		return store.ErrNotFound
	}
	return err
}

func (t *tx) Brakes() ([]store.BrakeRow, error) {
	rows, err := t.q.QueryContext(t.ctx, `SELECT scope, mode, reason, actor, at FROM brakes`)
	if err != nil {
		return nil, err
	}
	byScope, err := scanBrakes(rows)
	if err != nil {
		return nil, err
	}
	out := make([]store.BrakeRow, 0, len(byScope))
	for _, row := range byScope {
		out = append(out, row)
	}
	slices.SortFunc(out, func(a, b store.BrakeRow) int { return a.At.Compare(b.At) })
	return out, nil
}

func (t *tx) PutBrake(row store.BrakeRow) error {
	if row.Mode == vault.Normal {
		return errors.New("write brake: normal is the absence of a row")
	}
	_, err := t.exec(`INSERT INTO brakes (scope, mode, reason, actor, at) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET mode = excluded.mode, reason = excluded.reason, actor = excluded.actor, at = excluded.at`,
		row.Scope, int64(row.Mode), row.Reason, row.Actor, micros(row.At))
	t.touchedBooks = t.touchedBooks || row.Scope == store.ScopeBooks
	return err
}

func (t *tx) LiftBrake(scope string) (bool, error) {
	n, err := t.exec(`DELETE FROM brakes WHERE scope = ?`, scope)
	t.touchedBooks = t.touchedBooks || scope == store.ScopeBooks
	return n > 0, err
}

func (t *tx) Rates() ([]money.Rate, error) {
	rows, err := t.q.QueryContext(t.ctx, `SELECT currency, id, value, source, as_of FROM rates ORDER BY currency`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []money.Rate
	for rows.Next() {
		var r money.Rate
		var asOf int64
		if err := rows.Scan(&r.Currency, &r.ID, &r.Value, &r.Source, &asOf); err != nil {
			return nil, err
		}
		r.AsOf = fromMicros(asOf)
		out = append(out, r)
	}
	return out, rows.Err()
}

func (t *tx) PutRate(r money.Rate) error {
	_, err := t.exec(`INSERT INTO rates (currency, id, value, source, as_of) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET id = excluded.id, value = excluded.value, source = excluded.source, as_of = excluded.as_of`,
		string(r.Currency), string(r.ID), r.Value, string(r.Source), micros(r.AsOf))
	return err
}

func (t *tx) Account(k ledger.AccountKey) (ledger.Account, error) { return readAccount(t.ctx, t.q, k) }

func (t *tx) AccountsIn(per policy.Window, label string, f func(ledger.AccountKey, ledger.Account) error) error {
	rows, err := t.q.QueryContext(t.ctx, `SELECT key, resource, unit, held, settled FROM accounts WHERE per = ? AND label = ?`, int64(per), label)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		k := ledger.AccountKey{Per: per, Label: label}
		var a ledger.Account
		if err := rows.Scan(&k.Key, &k.Resource, &k.Unit, &a.Held, &a.Settled); err != nil {
			return err
		}
		if err := f(k, a); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (t *tx) Reservation(id ledger.ReservationID) (*ledger.Reservation, error) {
	var row reservationRow
	if err := t.q.QueryRowContext(t.ctx, `SELECT `+reservationColumns+` FROM reservations WHERE id = ?`, int64(id)).Scan(row.fields()...); err != nil {
		return nil, translate(err)
	}
	return row.decode()
}

func (t *tx) OpenReservations(key policy.KeyID) ([]*ledger.Reservation, error) {
	return queryReservations(t.ctx, t.q, `SELECT `+reservationColumns+` FROM reservations
		WHERE state < 2 AND (? = '' OR key = ?) ORDER BY id`, string(key), string(key))
}

func (t *tx) Unresolved(after ledger.ReservationID, n int) ([]*ledger.Reservation, error) {
	return queryReservations(t.ctx, t.q, `SELECT `+reservationColumns+` FROM reservations
		WHERE state < 2 AND state = ? AND id > ? ORDER BY id LIMIT ?`, int64(ledger.Unresolved), int64(after), n)
}

func (t *tx) Counted(id policy.ObjectID) (map[ledger.ObjectKey]ledger.Object, error) {
	rows, err := t.q.QueryContext(t.ctx, `SELECT key, bucket, currency, doc, sum FROM objects WHERE object = ?`, string(id))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := make(map[ledger.ObjectKey]ledger.Object)
	for rows.Next() {
		k := ledger.ObjectKey{Object: id}
		var doc []byte
		var sum sql.NullInt64
		if err := rows.Scan(&k.Key, &k.Bucket, &k.Currency, &doc, &sum); err != nil {
			return nil, err
		}
		if out[k], err = decodeObject(k, doc, sum); err != nil {
			return nil, err
		}
	}
	return out, rows.Err()
}

func (t *tx) ReservationsSince(key policy.KeyID, since time.Time, f func(*ledger.Reservation) error) error {
	from, err := seeding.FirstSince(t, since)
	if err != nil {
		return err
	}
	where, args := `key = ? AND id >= ?`, []any{string(key), int64(from)}
	if key == "" {
		where, args = `id >= ?`, args[1:]
	}
	rows, err := t.q.QueryContext(t.ctx, `SELECT `+reservationColumns+` FROM reservations WHERE `+where+` ORDER BY id`, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var row reservationRow
		if err := rows.Scan(row.fields()...); err != nil {
			return err
		}
		r, err := row.decode()
		if err != nil {
			return err
		}
		if err := f(r); err != nil {
			return err
		}
	}
	return rows.Err()
}
