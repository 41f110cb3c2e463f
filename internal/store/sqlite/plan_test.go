package sqlite

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

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
	} {
		query, args := searchFor(q, 1_000_000)
		for _, step := range plan(t, db, query, args) {
			if strings.HasPrefix(step, "SCAN a") { // the audit, by name or as a; SEARCH is by number
				t.Errorf("%s: %s", name, step)
			}
		}
	}
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
