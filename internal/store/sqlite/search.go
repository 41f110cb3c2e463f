package sqlite

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
)

const (
	// indexEvery is how often the search index follows when the writer is idle.
	indexEvery = 200 * time.Millisecond
	// indexChunk bounds how long indexing keeps a call waiting (about a millisecond).
	indexChunk = 256
	// maxQuery is the most records that one query returns.
	maxQuery = 1000
)

// index brings the search tables one chunk further. It runs only when nobody waits; a query reads what is
// not indexed yet directly, so being behind is never wrong.
func (w *writer) index() {
	for w.db.broken.Load() == nil && w.indexed < w.chain.Seq && len(w.queue) == 0 && len(w.resolves) == 0 && len(w.brakes) == 0 && len(w.controls) == 0 {
		if err := w.indexChunk(context.Background()); err != nil {
			_ = w.failed("index the audit", err) // tried again at the next tick; a dead disk is noticed there too
			return
		}
	}
}

func (w *writer) indexChunk(ctx context.Context) error {
	to := min(w.indexed+indexChunk, w.chain.Seq)
	if err := w.stmts.begin(ctx); err != nil {
		return err
	}
	err := w.indexTo(ctx, to)
	if err == nil {
		err = w.stmts.commit(ctx)
	}
	if err != nil {
		w.rollback(ctx)
		return err
	}
	w.indexed = to
	return nil
}

// indexTo writes the search rows of the records after those that are indexed, up to number to.
func (w *writer) indexTo(ctx context.Context, to int64) error {
	if _, err := w.stmts.indexKeys.ExecContext(ctx, w.indexed, to); err != nil {
		return err
	}
	if _, err := w.stmts.indexCalls.ExecContext(ctx, w.indexed, to); err != nil {
		return err
	}
	_, err := w.stmts.setMeta.ExecContext(ctx, "indexed", fmt.Sprint(to))
	return err
}

// IndexNow brings the search tables up to the present, for tests that compare before and after.
func (db *DB) IndexNow() error {
	return db.Update(context.Background(), store.LaneControl, func(t store.Tx) error {
		own := t.(*tx)
		own.indexed = own.w.chain.Seq
		return own.w.indexTo(own.ctx, own.indexed)
	})
}

// Query finds records by the search tables up to where they reach and by the audit itself after that.
func (t *tx) Query(q store.RecordQuery) ([]audit.Entry, error) {
	if q.Limit <= 0 {
		q.Limit = 100
	}
	q.Limit = min(q.Limit, maxQuery)
	var where []string
	var args []any
	const indexed = `(SELECT coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'indexed'), 0))`
	if q.Key != "" {
		where = append(where, `(seq IN (SELECT seq FROM audit_by_key WHERE key = ?) OR (seq > `+indexed+` AND key = ?))`)
		args = append(args, string(q.Key), string(q.Key))
	}
	if q.Call != 0 {
		where = append(where, `(seq = ? OR seq IN (SELECT seq FROM audit_by_call WHERE call = ?) OR (seq > `+indexed+` AND call = ?))`)
		args = append(args, q.Call, q.Call, q.Call)
	}
	order := "DESC"
	if q.Ascending {
		order = "ASC"
	}
	switch {
	case q.After > 0 && q.Ascending:
		where = append(where, "seq > ?")
		args = append(args, q.After)
	case q.After > 0:
		where = append(where, "seq < ?")
		args = append(args, q.After)
	}
	query := `SELECT seq, at, key, call, hash, body FROM audit`
	if len(where) > 0 {
		query += ` WHERE ` + strings.Join(where, " AND ")
	}
	rows, err := t.q.QueryContext(t.ctx, query+` ORDER BY seq `+order+` LIMIT ?`, append(args, q.Limit)...)
	if err != nil {
		return nil, err
	}
	var out []audit.Entry
	err = eachEntry(rows, func(e audit.Entry) error {
		out = append(out, e)
		return nil
	})
	return out, err
}
