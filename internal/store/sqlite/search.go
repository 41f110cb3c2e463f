package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/record"
)

const (
	// indexEvery is how often the search index follows when the writer is idle.
	indexEvery = 200 * time.Millisecond
	// indexChunk bounds how long indexing keeps a call waiting (about a millisecond).
	indexChunk = 256
	// maxLag is how far the search index may fall behind a writer that never rests. What is not indexed is read
	// record by record, and a query must not have to read millions.
	maxLag = 100_000
	// lagChunk is what is indexed at each tick while it is further behind: some ten milliseconds of work, five
	// times a second, for more records than the writer can make.
	lagChunk = 4096
	// selectIndexed reads how far the search tables reach.
	selectIndexed = `SELECT coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'indexed'), 0)`
)

// index brings the search tables one chunk further. It runs when nobody waits, and one chunk at a time
// when it is far behind; a query reads what is not indexed yet directly, so being behind is never wrong.
func (w *writer) index() {
	chunk := int64(indexChunk)
	if w.chain.Seq-w.indexed > maxLag {
		chunk = lagChunk
	}
	for first := true; first && chunk == lagChunk || w.resting(); first = false {
		if w.db.trouble.Broken() != nil || w.indexed >= w.chain.Seq {
			return
		}
		if err := w.indexChunk(context.Background(), chunk); err != nil {
			_ = w.failed("index the audit", err) // tried again at the next tick; a dead disk is noticed there too
			return
		}
	}
}

// resting reports whether nobody waits for the writer.
func (w *writer) resting() bool {
	calls, actions := w.queue.Waiting()
	return calls+actions == 0
}

func (w *writer) indexChunk(ctx context.Context, n int64) error {
	to := min(w.indexed+n, w.chain.Seq)
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

// IndexNow brings the search tables up to the present.
func (db *DB) IndexNow() error {
	return db.Update(context.Background(), store.LaneControl, func(t store.Tx) error {
		own := t.(*tx)
		own.indexed = own.w.chain.Seq
		return own.w.indexTo(own.ctx, own.indexed)
	})
}

// Indexed implements record.Tx.
func (t *tx) Indexed() (at int64, err error) {
	err = t.q.QueryRowContext(t.ctx, selectIndexed).Scan(&at)
	return at, err
}

// Search implements record.Rows: by the search tables up to where they reach and by the audit itself after that.
func (t *tx) Search(q store.RecordQuery) (page store.RecordPage, err error) {
	indexed, err := t.Indexed()
	if err != nil {
		return page, fmt.Errorf("read the search index's place: %w", err)
	}
	query, args := searchFor(q, indexed)
	rows, err := t.q.QueryContext(t.ctx, query, args...)
	if err != nil {
		return page, err
	}
	err = eachEntry(rows, func(e audit.Entry) error {
		page.Entries = append(page.Entries, e)
		return nil
	})
	if n := len(page.Entries); n == q.Limit {
		page.Next = page.Entries[n-1].Seq
	}
	return page, err
}

// searchFor writes a query so that it never walks the whole audit: numbers first, from the search tables and
// from what is not indexed yet, records by number after. SQLite orders the joins of one big condition by the
// audit's own order instead, and reads millions of records for a key that has three. Each range has one bound
// on either side: of two lower ones SQLite may start at the lower.
func searchFor(q store.RecordQuery, indexed int64) (query string, args []any) {
	order := "DESC"
	if q.Ascending {
		order = "ASC"
	}
	from, to := record.Between(q)
	const columns = `SELECT a.seq, a.at, a.key, a.call, a.hash, a.body FROM `
	end := ` ORDER BY a.seq ` + order + fmt.Sprintf(` LIMIT %d`, q.Limit)
	page := ` ORDER BY seq ` + order + fmt.Sprintf(` LIMIT %d`, q.Limit)
	switch {
	case q.Call != 0: // a call has few records: those of another key or page are sorted out at the end
		query = columns + `(SELECT ? AS seq UNION SELECT seq FROM audit_by_call WHERE call = ?
			UNION SELECT seq FROM audit WHERE seq > ? AND call = ?) AS f CROSS JOIN audit a ON a.seq = f.seq
			WHERE (? = '' OR a.key = ?) AND a.seq > ? AND a.seq < ?` + end
		return query, []any{q.Call, q.Call, indexed, q.Call, string(q.Key), string(q.Key), from, to}
	case q.Deeds && q.Key != "":
		return columns + `audit a INDEXED BY audit_deeds_of_key WHERE a.call = 0 AND a.key = ? AND a.seq > ? AND a.seq < ?` + end, []any{string(q.Key), from, to}
	case q.Deeds:
		return columns + `audit a INDEXED BY audit_deeds WHERE a.call = 0 AND a.seq > ? AND a.seq < ?` + end, []any{from, to}
	case q.Key != "":
		query = columns + `(SELECT seq FROM (SELECT seq FROM audit_by_key WHERE key = ? AND seq > ? AND seq < ?` + page + `)
			UNION SELECT seq FROM (SELECT seq FROM audit WHERE seq > ? AND seq < ? AND key = ?` + page + `)) AS f
			CROSS JOIN audit a ON a.seq = f.seq` + end
		return query, []any{string(q.Key), from, to, max(indexed, from), to, string(q.Key)}
	default:
		return columns + `audit a WHERE a.seq > ? AND a.seq < ?` + end, []any{from, to}
	}
}
