package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/record"
)

// archiveKeeps is how many of the newest records never go: a start looks at as many, and the mark knows one of them.
const archiveKeeps = tailCheck + 1

// unfinished is the name under which an archive is written.
const unfinished = "unfinished.tmp"

var _ record.Tx = (*tx)(nil)

// Archive implements store.DB.
func (db *DB) Archive(ctx context.Context, before time.Time) (int64, error) {
	db.archiving.Lock()
	defer db.archiving.Unlock()
	if db.trouble.Frozen() {
		return 0, nil // nothing moves until somebody has looked at the books
	}
	return db.mover().Archive(ctx, before)
}

func (db *DB) mover() *record.Mover {
	return &record.Mover{
		DB: db, Folder: db.archives, PerFile: db.perArchive, Keeps: archiveKeeps, Signer: db.signer, Unfinished: unfinished,
		Closing: db.writer.queue.Closing(),
	}
}

// Border implements record.Rows.
func (t *tx) Border() (audit.Chain, error) {
	at := audit.NewChain(audit.FirstChain)
	var hash []byte
	err := t.q.QueryRowContext(t.ctx, `SELECT last, hash FROM archives ORDER BY first DESC LIMIT 1`).Scan(&at.Seq, &hash)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return at, nil
	case err != nil:
		return at, fmt.Errorf("read where the archives end: %w", err)
	}
	copy(at.Hash[:], hash)
	return at, nil
}

// Registered implements record.Rows.
func (t *tx) Registered() ([]store.Archive, error) {
	return listed(t, `SELECT first, last, hash, begun, ended, file FROM archives ORDER BY first`, func(rows *sql.Rows) (a store.Archive, err error) {
		var hash []byte
		var begun, ended int64
		err = rows.Scan(&a.First, &a.Last, &hash, &begun, &ended, &a.Path)
		copy(a.Hash[:], hash)
		a.From, a.Until = fromMicros(begun), fromMicros(ended)
		return a, err
	})
}

// LaterOfCall implements record.Rows.
func (t *tx) LaterOfCall(call, to int64) (out []int64, err error) {
	rows, err := t.q.QueryContext(t.ctx, `SELECT seq FROM audit_by_call WHERE call = ? AND seq <= ?`, call, to)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var n int64
		if err := rows.Scan(&n); err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, rows.Err()
}

// Register implements record.Tx.
func (t *tx) Register(a store.Archive) error {
	_, err := t.exec(`INSERT INTO archives (first, last, hash, begun, ended, file) VALUES (?, ?, ?, ?, ?, ?)`,
		a.First, a.Last, a.Hash[:], micros(a.From), micros(a.Until), a.Path)
	return err
}

// Oldest implements record.Tx.
func (t *tx) Oldest() (seq int64, err error) {
	err = t.q.QueryRowContext(t.ctx, `SELECT coalesce(min(seq), 0) FROM audit`).Scan(&seq)
	return seq, err
}

// Remove implements record.Tx.
func (t *tx) Remove(from, to, began int64) error {
	for _, remove := range []struct {
		query string
		args  []any
	}{
		{`DELETE FROM audit_by_key WHERE (key, seq) IN (SELECT key, seq FROM audit WHERE seq >= ? AND seq <= ?)`, []any{from, to}},
		{`DELETE FROM audit_by_call WHERE (call, seq) IN (SELECT call, seq FROM audit WHERE seq >= ? AND seq <= ? AND call >= ?)`, []any{from, to, began}},
		{`DELETE FROM audit WHERE seq >= ? AND seq <= ?`, []any{from, to}},
	} {
		if _, err := t.exec(remove.query, remove.args...); err != nil {
			return err
		}
	}
	return nil
}
