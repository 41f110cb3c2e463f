package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/codec"
)

// statements are the writer's prepared statements. They belong to its connection.
type statements struct {
	all []*sql.Stmt

	beginTx, commitTx                                     *sql.Stmt
	insertAudit, insertReservation, updateReservation     *sql.Stmt
	upsertAccount, upsertObject                           *sql.Stmt
	selectAccount, selectObject, selectReservation        *sql.Stmt
	selectBrakes, selectVersion, selectAttached, putBrake *sql.Stmt
	indexKeys, indexCalls, putHead, setMeta, selectKeyRow *sql.Stmt
	putPolicy, updateKey                                  *sql.Stmt
}

func (s *statements) prepare(ctx context.Context, conn *sql.Conn) error {
	for _, p := range []struct {
		stmt **sql.Stmt
		sql  string
	}{
		{&s.beginTx, `BEGIN IMMEDIATE`},
		{&s.commitTx, `COMMIT`},
		{&s.insertAudit, `INSERT INTO audit (seq, at, key, call, hash, body) VALUES (?, ?, ?, ?, ?, ?)`},
		{&s.insertReservation, `INSERT INTO reservations (id, key, state, at, idem, fixed, moving, fixed_sum, moving_sum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`},
		{&s.updateReservation, `UPDATE reservations SET state = ?, idem = ?, moving = ?, moving_sum = ? WHERE id = ?`},
		{&s.upsertAccount, `INSERT INTO accounts (key, resource, per, unit, label, held, settled) VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET held = excluded.held, settled = excluded.settled`},
		{&s.upsertObject, `INSERT INTO objects (key, object, bucket, currency, doc, sum) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET doc = excluded.doc, sum = excluded.sum`},
		{&s.selectAccount, selectAccount},
		{&s.selectObject, selectObject},
		{&s.selectReservation, `SELECT ` + reservationColumns + ` FROM reservations WHERE id = ?`},
		{&s.selectBrakes, `SELECT scope, mode, reason, actor, at FROM brakes`},
		{&s.selectVersion, `SELECT version FROM keys WHERE id = ?`},
		{&s.selectAttached, `SELECT id FROM reservations WHERE key = ? AND idem = ?`},
		{&s.putBrake, `INSERT INTO brakes (scope, mode, reason, actor, at) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET mode = excluded.mode, reason = excluded.reason, actor = excluded.actor, at = excluded.at`},
		{&s.indexKeys, `INSERT INTO audit_by_key (key, seq) SELECT key, seq FROM audit WHERE seq > ? AND seq <= ? AND key <> ''`},
		{&s.indexCalls, `INSERT INTO audit_by_call (call, seq) SELECT call, seq FROM audit WHERE seq > ? AND seq <= ? AND call > 0 AND call <> seq`},
		{&s.putHead, `INSERT OR IGNORE INTO heads (seq, doc) VALUES (?, ?)`},
		{&s.setMeta, `INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value`},
		{&s.selectKeyRow, `SELECT ` + keyColumns + ` FROM keys k JOIN policies p ON p.digest = k.policy WHERE k.id = ?`},
		{&s.putPolicy, `INSERT OR IGNORE INTO policies (digest, yaml) VALUES (?, ?)`},
		{&s.updateKey, `INSERT INTO keys (id, name, upstream, version, live, policy, doc) VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET name = excluded.name, upstream = excluded.upstream, version = excluded.version,
			live = excluded.live, policy = excluded.policy, doc = excluded.doc`},
	} {
		stmt, err := conn.PrepareContext(ctx, p.sql)
		if err != nil {
			return fmt.Errorf("prepare %q: %w", p.sql, err)
		}
		*p.stmt = stmt
		s.all = append(s.all, stmt)
	}
	return nil
}

func (s *statements) close() {
	for _, stmt := range s.all {
		_ = stmt.Close() // the connection closes right after; there is nothing to lose
	}
}

func (s *statements) begin(ctx context.Context) error {
	_, err := s.beginTx.ExecContext(ctx)
	return err
}

func (s *statements) commit(ctx context.Context) error {
	_, err := s.commitTx.ExecContext(ctx)
	return err
}

const selectAccount = `SELECT held, settled FROM accounts WHERE key = ? AND resource = ? AND per = ? AND unit = ? AND label = ?`

const selectObject = `SELECT doc, sum FROM objects WHERE key = ? AND object = ? AND bucket = ? AND currency = ?`

type queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func readAccount(ctx context.Context, q queryer, k ledger.AccountKey) (ledger.Account, error) {
	return scanAccount(q.QueryRowContext(ctx, selectAccount, string(k.Key), string(k.Resource), int64(k.Per), int64(k.Unit), k.Label))
}

func scanAccount(row *sql.Row) (ledger.Account, error) {
	var a ledger.Account
	if err := row.Scan(&a.Held, &a.Settled); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return ledger.Account{}, err
	}
	return a, nil
}

// write writes what a batch decided, in the open transaction.
func (w *writer) write(ctx context.Context, b *store.Batch, c ledger.Changes) error {
	for i := range b.Entries {
		if err := w.writeEntry(ctx, &b.Entries[i]); err != nil {
			return err
		}
	}
	if err := w.writeBooks(ctx, c); err != nil {
		return err
	}
	for _, row := range b.Freezes {
		if _, err := w.stmts.putBrake.ExecContext(ctx, row.Scope, int64(row.Mode), row.Reason, row.Actor, micros(row.At)); err != nil {
			return fmt.Errorf("write freeze %s: %w", row.Scope, err)
		}
	}
	for _, j := range b.Joins {
		if err := w.join(ctx, j); err != nil {
			return fmt.Errorf("add %s to %s: %w", j.Customer, j.Key, err)
		}
	}
	return nil
}

func (w *writer) writeEntry(ctx context.Context, e *audit.Entry) error {
	_, err := w.stmts.insertAudit.ExecContext(ctx, e.Seq, micros(e.At), string(e.Key), e.Call, e.Hash[:], e.Bytes)
	if err != nil {
		return fmt.Errorf("write record %d: %w", e.Seq, err)
	}
	return nil
}

func (w *writer) writeBooks(ctx context.Context, c ledger.Changes) error {
	for k, a := range c.Accounts {
		if _, err := w.stmts.upsertAccount.ExecContext(ctx, string(k.Key), string(k.Resource), int64(k.Per), int64(k.Unit), k.Label, a.Held, a.Settled); err != nil {
			return fmt.Errorf("write account %v: %w", k, err)
		}
	}
	for k, o := range c.Objects {
		doc, err := json.Marshal(o)
		if err != nil {
			return err
		}
		if _, err := w.stmts.upsertObject.ExecContext(ctx, string(k.Key), string(k.Object), string(k.Bucket), string(k.Currency), doc, objectSum(k, doc)); err != nil {
			return fmt.Errorf("write object %v: %w", k, err)
		}
	}
	// Changed ones first: one of them may let go of the idempotency key that a new one takes.
	for _, r := range c.Updated {
		moving, err := codec.EncodeMoving(r)
		if err != nil {
			return err
		}
		if _, err := w.stmts.updateReservation.ExecContext(ctx, int64(r.State), idem(r), moving,
			movingSum(int64(r.ID), int64(r.State), moving), int64(r.ID)); err != nil {
			return fmt.Errorf("write reservation %d: %w", r.ID, err)
		}
	}
	for _, r := range c.Created {
		fixed, err := codec.EncodeFixed(r)
		if err != nil {
			return err
		}
		moving, err := codec.EncodeMoving(r)
		if err != nil {
			return err
		}
		if _, err := w.stmts.insertReservation.ExecContext(ctx, int64(r.ID), string(r.Key), int64(r.State), micros(r.At), idem(r), fixed, moving,
			fixedSum(int64(r.ID), string(r.Key), micros(r.At), fixed), movingSum(int64(r.ID), int64(r.State), moving)); err != nil {
			return fmt.Errorf("write reservation %d: %w", r.ID, err)
		}
	}
	return nil
}
