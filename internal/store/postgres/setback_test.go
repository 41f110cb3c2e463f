package postgres_test

import (
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/postgres"
	"github.com/keybrake/keybrake/internal/store/postgres/postgrestest"
	"github.com/keybrake/keybrake/internal/store/storetest"
)

// TestAStoreThatWasSetBackIsFrozenOnce puts a store restored from a dump, which has another name, under a node that serves
// it: nothing passes on either of its connections, and once an operator has looked, it is this node's also after a restart.
func TestAStoreThatWasSetBackIsFrozenOnce(t *testing.T) {
	server := postgrestest.Start(t)
	server.Exec(t, "CREATE DATABASE books")
	o := postgres.Options{URL: server.URL("books"), Mark: filepath.Join(t.TempDir(), "mark")}
	db := opened(t, o)
	version := storetest.Key(t, db, "key_1")
	must(t, db.Close())
	server.Exec(t, "CREATE DATABASE early TEMPLATE books")
	exec(t, server.URL("early"), `UPDATE meta SET value = 'another store' WHERE name = 'identity'`)

	db = opened(t, o)
	on, err := db.Admit(t.Context(), admission(version, nil, 100))
	must(t, err)
	swap(t, server, "books", "early")
	var callers sync.WaitGroup
	for range 16 {
		callers.Go(func() {
			if a, err := db.Admit(t.Context(), admission(version, nil, 100)); err != nil || !strings.Contains(a.Frozen, "another server") {
				t.Errorf("a call: %+v, %v", a, err)
			}
		})
		callers.Go(func() {
			if err := db.Update(t.Context(), store.LaneBrake, func(store.Tx) error { return nil }); err != nil {
				t.Errorf("a stop: %v", err)
			}
		})
	}
	callers.Wait()

	done, err := db.Resolve(t.Context(), told(on.Reservation))
	if err != nil || !done.Forgotten {
		t.Errorf("a call that was on the wire: %+v, %v", done, err)
	}
	if n := db.OnWire(); n != 0 {
		t.Errorf("the node goes on knowing %d calls that the store has forgotten", n)
	}
	if did, _ := deeds(t, db); strings.Count(strings.Join(did, "\n"), "books.freeze") != 1 {
		t.Errorf("both connections noticed at once, and the record says %q", did)
	}
	must(t, db.Update(t.Context(), store.LaneControl, func(tx store.Tx) error {
		_, err := tx.LiftBrake(store.FreezeScope("key_1"))
		must(t, err)
		_, err = tx.LiftBrake(store.ScopeBooks)
		return err
	}))
	if a, err := db.Admit(t.Context(), admission(version, nil, 100)); err != nil || a.Verdict != policy.Allow {
		t.Errorf("after an operator has looked: %+v, %v", a, err)
	}
	must(t, db.Close())
	db = node(t, o)
	again := admission(version, nil, 200)
	again.AllowRepeat = true
	if a, err := db.Admit(t.Context(), again); err != nil || a.Verdict != policy.Allow {
		t.Errorf("after a restart: %+v, %v", a, err)
	}
}

// told is a settlement as a gateway tells it, which names the very reservation.
func told(r *ledger.Reservation) *store.Resolution {
	out := storetest.Settle(r)
	out.Made = r.At
	return out
}

// TestARowThatCannotBeReadFailsItsOwnCallAlone has a damaged reservation and a sound one resolved in one transaction.
func TestARowThatCannotBeReadFailsItsOwnCallAlone(t *testing.T) {
	url := postgrestest.Database(t)
	first := opened(t, postgres.Options{URL: url})
	version := storetest.Key(t, first, "key_1")
	var made []*ledger.Reservation
	for range 2 {
		a := admission(version, nil, 100)
		a.AllowRepeat = true
		out, err := first.Admit(t.Context(), a)
		must(t, err)
		made = append(made, out.Reservation)
	}
	must(t, first.Close())
	db := node(t, postgres.Options{URL: url}) // it does not know them: it reads them
	exec(t, url, `UPDATE reservations SET moving = '\x00' WHERE id = (SELECT min(id) FROM reservations)`)

	conn, err := pgx.Connect(t.Context(), url)
	must(t, err)
	defer conn.Close(t.Context()) //nolint:errcheck // what it held is let go of
	_, err = conn.Exec(t.Context(), `BEGIN; SELECT FROM books FOR UPDATE`)
	must(t, err)
	var told sync.WaitGroup
	errs := make([]error, len(made)+1)
	told.Go(func() { // waits for the lock, so that the others wait for their turn together
		_, errs[len(made)] = db.Log(t.Context(), &audit.Record{Kind: audit.KindSystem})
	})
	for waits := false; !waits; time.Sleep(time.Millisecond) {
		query(t, url, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database())`, &waits)
	}
	for i, r := range made {
		told.Go(func() { _, errs[i] = db.Resolve(t.Context(), storetest.Settle(r)) })
	}
	for n := 0; n < len(made); time.Sleep(time.Millisecond) {
		n = db.QueuedCalls()
	}
	_, err = conn.Exec(t.Context(), `COMMIT`)
	must(t, err)
	told.Wait()
	if errs[0] == nil || errs[1] != nil || errs[2] != nil {
		t.Errorf("%v", errs)
	}
}

// TestAStatementThatIsCancelledIsTriedAgain: of a server that lets none take long, or an operator of it who ends one. It says
// nothing about a call that waits for the lock.
func TestAStatementThatIsCancelledIsTriedAgain(t *testing.T) {
	url := postgrestest.Database(t)
	db := node(t, postgres.Options{URL: url})
	conn, err := pgx.Connect(t.Context(), url)
	must(t, err)
	defer conn.Close(t.Context()) //nolint:errcheck // what it held is let go of
	_, err = conn.Exec(t.Context(), `BEGIN; SELECT FROM books FOR UPDATE`)
	must(t, err)
	done := make(chan error, 1)
	go func() {
		_, err := db.Log(t.Context(), &audit.Record{Kind: audit.KindSystem})
		done <- err
	}()
	for cancelled := false; !cancelled; time.Sleep(time.Millisecond) {
		query(t, url, `SELECT coalesce(bool_or(pg_cancel_backend(pid)), false) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`, &cancelled)
	}
	_, err = conn.Exec(t.Context(), `COMMIT`)
	must(t, err)
	must(t, <-done)
}
