package postgres_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/postgres"
	"github.com/keybrake/keybrake/internal/store/postgres/postgrestest"
	"github.com/keybrake/keybrake/internal/store/storetest"
)

// TestAServerInWhosePlaceAnotherWasPromotedIsNotTheStore: it was not fenced, no commit waited for its standby, and its record has
// everything that the node knows. So nothing but the timeline tells it from the store.
func TestAServerInWhosePlaceAnotherWasPromotedIsNotTheStore(t *testing.T) {
	noop := func(store.Tx) error { return nil }
	for name, then := range map[string]func(t *testing.T, db *postgres.DB, call func() store.Admitted, old, promoted *postgrestest.Server){
		"a connection to it that was left is not written on": func(t *testing.T, db *postgres.DB, _ func() store.Admitted, old, promoted *postgrestest.Server) {
			var before, here, there int64
			query(t, old.URL("books"), `SELECT writes FROM books`, &before)
			must(t, db.Update(t.Context(), store.LaneBrake, func(tx store.Tx) error {
				_, err := tx.Append(&audit.Record{Kind: audit.KindSystem, Action: "stop"})
				return err
			}))
			query(t, old.URL("books"), `SELECT writes FROM books`, &here)
			query(t, promoted.URL("books"), `SELECT writes FROM books`, &there)
			if here != before || there != before+2 {
				t.Errorf("%d transactions at the old one and %d at the promoted one, after %d", here, there, before)
			}
		},
		"where it alone is left, all money is frozen": func(t *testing.T, _ *postgres.DB, call func() store.Admitted, _, promoted *postgrestest.Server) {
			promoted.Kill()
			if a := call(); !strings.Contains(a.Frozen, "timeline 1") {
				t.Errorf("%+v", a)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			old := postgrestest.Start(t)
			old.Exec(t, "CREATE DATABASE books")
			standby := old.Standby(t, old.Port)
			db := node(t, postgres.Options{URL: fmt.Sprintf("postgres://keybrake@127.0.0.1:%d,127.0.0.1:%d/books?sslmode=disable", standby.Port, old.Port)})
			version := storetest.Key(t, db, "key_1")
			call := func() store.Admitted {
				t.Helper()
				a, err := db.Admit(t.Context(), admission(version, nil, 100))
				must(t, err)
				return a
			}
			if a := call(); a.Verdict != policy.Allow {
				t.Fatalf("%+v", a)
			}
			var before string
			query(t, old.URL("books"), `SELECT clock_timestamp()::text`, &before)
			must(t, db.Update(t.Context(), store.LaneBrake, noop)) // connects
			for behind := true; behind; time.Sleep(10 * time.Millisecond) {
				query(t, old.URL("books"), `SELECT coalesce(bool_or(replay_lsn < pg_current_wal_lsn()), true) FROM pg_stat_replication`, &behind)
			}
			standby.Promote(t)
			// The connection of calls is made anew, to the promoted server, whose record it leaves as it is.
			old.Exec(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'books' AND backend_start < '`+before+`'`)
			must(t, db.Update(t.Context(), store.LaneControl, noop))
			then(t, db, call, old, standby)
		})
	}
}
