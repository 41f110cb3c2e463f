package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/record"
)

const (
	// indexEvery is how often the search index follows.
	indexEvery = 200 * time.Millisecond
	// indexChunk is how many records one transaction indexes (some ten milliseconds, beside the calls).
	indexChunk = 4096
)

// indexing keeps the search tables up with the record until the store closes. Every node does; the row of meta that says
// how far they are is locked by the one that is at it. No call waits for that row.
func (db *DB) indexing() {
	defer close(db.indexed)
	open, end := db.untilClosing()
	defer end()
	tick := time.NewTicker(indexEvery)
	defer tick.Stop()
	for {
		select {
		case <-open.Done():
			return
		case <-tick.C:
		}
		for more := true; more; {
			var err error
			if more, err = db.index(open); err != nil {
				break // tried again at the next tick; what is not indexed is read directly
			}
		}
	}
}

// index brings the search tables one chunk further and reports whether there is more. It need not be durable before it is
// answered: a crash takes the rows together with how far they are said to reach.
func (db *DB) index(ctx context.Context) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, db.wait)
	defer cancel()
	err = pgx.BeginFunc(ctx, db.side, func(q pgx.Tx) error {
		var indexed, last int64
		if _, err := q.Exec(ctx, `SET LOCAL synchronous_commit = off`); err != nil {
			return err
		}
		if err := q.QueryRow(ctx, `SELECT CAST(value AS BIGINT) FROM meta WHERE name = 'indexed' FOR UPDATE`).Scan(&indexed); err != nil {
			return err
		}
		if err := q.QueryRow(ctx, `SELECT seq FROM books WHERE one = 1`).Scan(&last); err != nil {
			return err
		}
		to := min(indexed+indexChunk, last)
		if more = to < last; to <= indexed {
			return nil
		}
		batch := &pgx.Batch{}
		batch.Queue(`INSERT INTO audit_by_key (key, seq) SELECT key, seq FROM audit WHERE seq > $1 AND seq <= $2 AND key <> ''`, indexed, to)
		batch.Queue(`INSERT INTO audit_by_call (call, seq) SELECT call, seq FROM audit WHERE seq > $1 AND seq <= $2 AND call > 0 AND call <> seq`, indexed, to)
		batch.Queue(`UPDATE meta SET value = $1 WHERE name = 'indexed'`, fmt.Sprint(to))
		return q.SendBatch(ctx, batch).Close()
	})
	if err != nil {
		return false, fmt.Errorf("index the audit: %w", err)
	}
	return more, nil
}

// IndexNow brings the search tables up to the present.
func (db *DB) IndexNow() error {
	for more := true; more; {
		var err error
		if more, err = db.index(context.Background()); err != nil {
			return err
		}
	}
	return nil
}

// Indexed implements record.Tx.
func (t *tx) Indexed() (at int64, err error) {
	return at, t.one(`SELECT CAST(value AS BIGINT) FROM meta WHERE name = 'indexed'`, nil, &at)
}

// Search implements record.Rows: by the search tables up to where they reach and by the audit itself after that.
func (t *tx) Search(q store.RecordQuery) (page store.RecordPage, err error) {
	indexed, err := t.Indexed()
	if err != nil {
		return page, fmt.Errorf("read the search index's place: %w", err)
	}
	clause, args := searchFor(q, indexed)
	if page.Entries, err = t.entries(clause, args...); err != nil {
		return page, err
	}
	if n := len(page.Entries); n == q.Limit {
		page.Next = page.Entries[n-1].Seq
	}
	return page, nil
}

// searchFor writes a query's clause so that it never walks the whole audit: the array of numbers is made first, from the
// search tables and from what is not indexed yet; the records are found by it.
func searchFor(q store.RecordQuery, indexed int64) (clause string, args []any) {
	from, to := record.Between(q)
	order := " ORDER BY seq DESC"
	if q.Ascending {
		order = " ORDER BY seq"
	}
	end := order + fmt.Sprintf(" LIMIT %d", q.Limit)
	const within = `seq > $1 AND seq < $2`
	switch {
	case q.Call != 0: // a call has few records: those of another key or page are sorted out at the end
		return `WHERE seq = ANY (ARRAY(SELECT $3::bigint UNION SELECT seq FROM audit_by_call WHERE call = $3
			UNION SELECT seq FROM audit WHERE seq > $4 AND call = $3)) AND ($5 = '' OR key = $5) AND ` + within + end,
			[]any{from, to, q.Call, indexed, text(q.Key)}
	case q.Deeds && q.Key != "":
		return `WHERE call = 0 AND key = $3 AND ` + within + end, []any{from, to, text(q.Key)}
	case q.Deeds:
		return `WHERE call = 0 AND ` + within + end, []any{from, to}
	case q.Key != "":
		return `WHERE seq = ANY (ARRAY((SELECT seq FROM audit_by_key WHERE key = $3 AND ` + within + end + `)
			UNION (SELECT seq FROM audit WHERE seq > $4 AND seq < $2 AND key = $3` + end + `)))` + end,
			[]any{from, to, text(q.Key), max(indexed, from)}
	default:
		return `WHERE ` + within + end, []any{from, to}
	}
}
