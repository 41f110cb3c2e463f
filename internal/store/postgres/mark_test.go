package postgres_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/postgres"
	"github.com/keybrake/keybrake/internal/store/postgres/postgrestest"
	"github.com/keybrake/keybrake/internal/store/storetest"
)

// swap puts another database in a database's place, as a fail-over to a standby does that had not got everything.
func swap(t testing.TB, server *postgrestest.Server, place, other string) {
	t.Helper()
	server.Exec(t, "ALTER DATABASE "+place+" ALLOW_CONNECTIONS false")
	server.Exec(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '"+place+"'")
	server.Exec(t, "ALTER DATABASE "+place+" RENAME TO "+place+"_before")
	server.Exec(t, "ALTER DATABASE "+other+" RENAME TO "+place)
}

// TestBooksThatWentBackwardsFreezeAllMoney takes a store back to an earlier state: under a node that serves it, and before a
// node's start.
func TestBooksThatWentBackwardsFreezeAllMoney(t *testing.T) {
	server := postgrestest.Start(t)
	server.Exec(t, "CREATE DATABASE books")
	place := server.URL("books")
	o := postgres.Options{URL: place, Mark: filepath.Join(t.TempDir(), "mark")}
	db := opened(t, o)
	version := storetest.Key(t, db, "key_1")
	call := func(db *postgres.DB) store.Admitted {
		t.Helper()
		again := admission(version, nil, 100)
		again.AllowRepeat = true // the one of an earlier process is unknown
		a, err := db.Admit(t.Context(), again)
		must(t, err)
		return a
	}
	call(db)
	must(t, db.Close())
	for _, copied := range []string{"early", "earlier"} {
		server.Exec(t, "CREATE DATABASE "+copied+" TEMPLATE books")
	}

	db = opened(t, o)
	if a := call(db); a.Verdict != policy.Allow {
		t.Fatalf("nothing has happened yet: %+v", a)
	}
	swap(t, server, "books", "early")
	if a := call(db); !strings.Contains(a.Frozen, "backwards") {
		t.Errorf("the node that served it lets a call through: %+v", a)
	}
	if err := db.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "backwards") {
		t.Errorf("it is ready: %v", err)
	}
	// An operator has looked.
	must(t, db.Update(t.Context(), store.LaneControl, func(tx store.Tx) error {
		_, err := tx.LiftBrake(store.ScopeBooks)
		return err
	}))
	if a := call(db); a.Verdict != policy.Allow {
		t.Errorf("after an operator has looked: %+v", a)
	}
	must(t, db.Close())

	server.Exec(t, "ALTER DATABASE books_before RENAME TO books_first")
	swap(t, server, "books", "earlier")
	db = node(t, o)
	if a := call(db); !strings.Contains(a.Frozen, "backwards") {
		t.Errorf("a node that was there before lets a call through: %+v", a)
	}
	// One that comes anew knows nothing, but all money is frozen.
	if a := call(node(t, postgres.Options{URL: place})); a.Frozen == "" {
		t.Errorf("a new node lets a call through: %+v", a)
	}
}

func TestAnotherRecordInThePlaceOfAKnownOneFreezesAllMoney(t *testing.T) {
	url := postgrestest.Database(t)
	o := postgres.Options{URL: url, Mark: filepath.Join(t.TempDir(), "mark")}
	db := opened(t, o)
	version := storetest.Key(t, db, "key_1")
	_, err := db.Admit(context.Background(), admission(version, nil, 100))
	must(t, err)
	must(t, db.Close())
	exec(t, url, `UPDATE audit SET hash = '\x00' WHERE seq = (SELECT max(seq) FROM audit)`)
	a, err := node(t, o).Admit(t.Context(), admission(version, nil, 200))
	if err != nil || !strings.Contains(a.Frozen, "another one") {
		t.Errorf("%+v %v", a, err)
	}
}
