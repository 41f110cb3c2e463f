package sqlite

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/seeding"
	"github.com/keybrake/keybrake/internal/store/storetest"
)

// run executes a statement on the writer's connection.
func (db *DB) run(query string) error {
	return db.Update(context.Background(), store.LaneControl, func(t store.Tx) error {
		_, err := t.(*tx).exec(query)
		return err
	})
}

// SetApplicationID marks the file as another program's.
func (db *DB) SetApplicationID(id int) error {
	return db.run(fmt.Sprintf("PRAGMA application_id = %d", id))
}

// SetSchemaVersion pretends that a newer program was here.
func (db *DB) SetSchemaVersion(v int) error {
	return db.run(fmt.Sprintf("INSERT INTO goose_db_version (version_id, is_applied) VALUES (%d, 1)", v))
}

// SetMaxPages lets the disk look full.
func (db *DB) SetMaxPages(n int) error {
	return db.pragma(fmt.Sprintf("PRAGMA max_page_count = %d", n))
}

// SetReadOnly makes every write fail.
func (db *DB) SetReadOnly(on bool) error { return db.pragma(fmt.Sprintf("PRAGMA query_only = %t", on)) }

// pragma runs beside the writer: some settings cannot change inside a transaction.
func (db *DB) pragma(query string) error {
	_, err := db.writer.conn.ExecContext(context.Background(), query)
	return err
}

// Waiting is how many callers are queued.
func (db *DB) Waiting() int {
	calls, actions := db.writer.queue.Waiting()
	return calls + actions
}

// CountBatches pulls a brake and returns how many batches had been taken when it was asked for and when it was
// served.
func (db *DB) CountBatches(t testing.TB) (queued, served int64) {
	t.Helper()
	queued = db.writer.queue.Batches()
	err := db.Update(t.Context(), store.LaneBrake, func(store.Tx) error {
		served = db.writer.queue.Batches()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return queued, served
}

// BreakWhileBusy runs an action that breaks the store while another one is queued behind it.
func (db *DB) BreakWhileBusy(t testing.TB, behind func(store.Tx) error) {
	t.Helper()
	done := make(chan error, 1)
	err := db.Update(t.Context(), store.LaneControl, func(store.Tx) error {
		go func() { done <- db.Update(t.Context(), store.LaneControl, behind) }()
		for db.Waiting() == 0 {
			runtime.Gosched()
		}
		panic("a broken invariant")
	})
	if !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("%v", err)
	}
	if err := <-done; !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("the one behind it: %v", err)
	}
}

// SeedAround does one page of a seeding, with something between what is read and what is written.
func (db *DB) SeedAround(t testing.TB, s *store.Seeding, between func()) {
	t.Helper()
	var found []seeding.Found
	page := *s
	if err := db.View(t.Context(), func(v store.Tx) (err error) {
		found, _, err = seeding.Lacking(v.(*tx), &page)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	between()
	if err := db.Update(t.Context(), store.LaneControl, func(u store.Tx) error { return seeding.Give(u.(*tx), s, found) }); err != nil {
		t.Fatal(err)
	}
	*s = page
}

// Closing reports whether Close has begun.
func (db *DB) Closing() bool {
	select {
	case <-db.writer.queue.Closing():
		return true
	default:
		return false
	}
}

// ForgetHowToReadAccounts leaves the writer only the running totals that it has in memory.
func (db *DB) ForgetHowToReadAccounts(t testing.TB) {
	t.Helper()
	err := db.Update(t.Context(), store.LaneControl, func(store.Tx) error { return db.writer.stmts.selectAccount.Close() })
	if err != nil {
		t.Fatal(err)
	}
}

// ReadAll reads everything again, as the store does beside the calls.
func (db *DB) ReadAll() error { return db.readAll(func() bool { return true }) }

// Behind changes rows in a way that no code of ours does.
func (db *DB) Behind(query string) error { return db.run(query) }

// ArchiveUpTo is storetest's on this store.
func (db *DB) ArchiveUpTo(t testing.TB, before time.Time, steps, chunks int) int {
	t.Helper()
	return storetest.ArchiveUpTo(t, db, db.mover(), before, steps, chunks)
}

// Count counts the rows of a table.
func (db *DB) Count(t testing.TB, table string) (n int) {
	t.Helper()
	if err := db.read.QueryRowContext(t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Unfinished is the name under which an archive is written.
const Unfinished = unfinished

// Pages tells how many bytes new rows will use first, and how many there are in all.
func (db *DB) Pages(t testing.TB) (free, all int64) {
	t.Helper()
	err := db.read.QueryRowContext(t.Context(), `SELECT f.freelist_count * s.page_size, c.page_count * s.page_size
		FROM pragma_freelist_count f, pragma_page_count c, pragma_page_size s`).Scan(&free, &all)
	if err != nil {
		t.Fatal(err)
	}
	return free, all
}

// Sizes tells how many bytes each table takes with its indexes.
func (db *DB) Sizes(t testing.TB) map[string]int64 {
	t.Helper()
	out := map[string]int64{}
	err := db.View(t.Context(), func(v store.Tx) error {
		own := v.(*tx)
		rows, err := own.q.QueryContext(own.ctx, `SELECT s.tbl_name, sum(d.pgsize) FROM (SELECT name, pgsize FROM dbstat WHERE aggregate = TRUE) d JOIN sqlite_schema s ON s.name = d.name GROUP BY 1`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var name string
			var n int64
			if err := rows.Scan(&name, &n); err != nil {
				return err
			}
			out[name] = n
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// FreezeFound is what the daily round does when it finds damage.
func (db *DB) FreezeFound(why string) { db.freezeFound(why) }
