package postgres

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/storetest"
)

// ArchiveUpTo is storetest's on this store.
func (db *DB) ArchiveUpTo(t testing.TB, before time.Time, steps, chunks int) int {
	t.Helper()
	return storetest.ArchiveUpTo(t, db, db.mover(), before, steps, chunks)
}

// TakeTurn takes the turn to archive, as a process does that is killed then.
func (db *DB) TakeTurn(ctx context.Context) (bool, error) { return db.takeTurn(ctx) }

// Plan is how PostgreSQL would look for what a query asks, a line for each step.
func (db *DB) Plan(t testing.TB, q store.RecordQuery, indexed int64) (steps []string) {
	t.Helper()
	clause, args := searchFor(q, indexed)
	err := db.View(t.Context(), func(v store.Tx) (err error) {
		steps, err = listed(v.(*tx), pgx.RowTo[string], `EXPLAIN SELECT seq, at, key, call, hash, body FROM audit `+clause, args...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return steps
}

// FillRecords writes n records of 1000 keys, past the engine, and indexes them.
func (db *DB) FillRecords(t testing.TB, n int) {
	t.Helper()
	for _, query := range []string{
		`INSERT INTO audit (seq, at, key, call, hash, body) SELECT i, i, 'key_' || i %% 1000, CASE WHEN i %% 500 = 0 THEN 0 ELSE i - i %% 2 + 1 END, '', '' FROM generate_series(1, %d) i`,
		`INSERT INTO audit_by_key (key, seq) SELECT key, seq FROM audit WHERE seq <= %d`,
		`INSERT INTO audit_by_call (call, seq) SELECT call, seq FROM audit WHERE call > 0 AND call <> seq AND seq <= %d`,
	} {
		if _, err := db.side.Exec(t.Context(), fmt.Sprintf(query, n)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.side.Exec(t.Context(), `ANALYZE`); err != nil {
		t.Fatal(err)
	}
}
