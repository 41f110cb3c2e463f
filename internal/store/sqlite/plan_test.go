package sqlite

import (
	"context"
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	"modernc.org/sqlite"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
)

// TestNoSearchWalksTheWholeAudit reads SQLite's own plans: with millions of records the difference is seconds.
func TestNoSearchWalksTheWholeAudit(t *testing.T) {
	db, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "keybrake.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for name, q := range map[string]store.RecordQuery{
		"a key, newest first":   {Key: "key_1", Limit: 10},
		"a key, the next page":  {Key: "key_1", After: 500, Limit: 10},
		"a key, oldest first":   {Key: "key_1", After: 500, Ascending: true, Limit: 10},
		"a call":                {Call: 7, Limit: 10},
		"a call, oldest first":  {Call: 7, Ascending: true, Limit: 10},
		"a call of a key":       {Call: 7, Key: "key_1", Limit: 10},
		"everything, next page": {After: 500, Limit: 10},
		"a span of numbers":     {From: 100, To: 200, Limit: 10},
		"a key within a span":   {Key: "key_1", From: 100, To: 200, After: 150, Limit: 10},
		"a call within a span":  {Call: 7, From: 1, To: 200, Limit: 10},
		"deeds":                 {Deeds: true, After: 500, Limit: 10},
		"deeds about a key":     {Deeds: true, Key: "key_1", Limit: 10},
	} {
		query, args := searchFor(q, 1_000_000)
		for _, step := range plan(t, db, query, args) {
			if strings.HasPrefix(step, "SCAN a") && !strings.Contains(step, "audit_deeds") { // the audit, by name or as a; SEARCH is by number
				t.Errorf("%s: %s", name, step)
			}
		}
	}
}

// TestALatePageCostsNoMoreThanTheFirst counts the pages of the file that a search looks at: an export reads
// millions of records page by page, and may not begin at the first record each time.
func TestALatePageCostsNoMoreThanTheFirst(t *testing.T) {
	const records = 20_000 // some thousand pages
	db, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "keybrake.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rs := make([]*audit.Record, records)
	for i := range rs {
		rs[i] = &audit.Record{Kind: audit.KindSystem, Key: "key_1", Action: strings.Repeat("x", 400)}
	}
	if _, err := db.Log(t.Context(), rs...); err != nil {
		t.Fatal(err)
	}
	for name, q := range map[string]store.RecordQuery{
		"everything, oldest first":        {After: records - 100, Ascending: true, Limit: 10},
		"everything, newest first":        {After: 100, Limit: 10},
		"a key, oldest first":             {After: records - 100, Key: "key_1", Ascending: true, Limit: 10},
		"a key, newest first, not so new": {After: 100, Key: "key_1", Limit: 10},
	} {
		if err := db.View(t.Context(), func(view store.Tx) error {
			conn := view.(*tx).q
			before := pagesRead(t, conn)
			found, err := view.Query(q)
			if len(found.Entries) != 10 {
				t.Errorf("%s: found %d", name, len(found.Entries))
			}
			if n := pagesRead(t, conn) - before; n > 100 {
				t.Errorf("%s: looked at %d pages", name, n)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// pagesRead is how many pages a connection has looked at, in its cache or in the file.
func pagesRead(t *testing.T, conn *sql.Conn) (n int) {
	t.Helper()
	if err := conn.Raw(func(c any) error {
		for _, op := range []sqlite.DBStatusOp{sqlite.DBStatusCacheHit, sqlite.DBStatusCacheMiss} {
			now, _, err := c.(sqlite.DBStatus).Status(op, false)
			if err != nil {
				return err
			}
			n += now
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

func plan(t *testing.T, db *DB, query string, args []any) (steps []string) {
	t.Helper()
	rows, err := db.read.QueryContext(context.Background(), "EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, parent, unused int
		var step string
		if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, step)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return steps
}
