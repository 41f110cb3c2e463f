package postgres_test

import (
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/postgres"
	"github.com/keybrake/keybrake/internal/store/postgres/postgrestest"
	"github.com/keybrake/keybrake/internal/store/storetest"
)

// TestANodeLeavesAServerThatIsAway: it says goodbye for no longer than it waits for the store.
func TestANodeLeavesAServerThatIsAway(t *testing.T) {
	const wait = 2 * time.Second
	for name, away := range map[string]func(*postgrestest.Server){
		"dead": (*postgrestest.Server).Kill, "hanging": (*postgrestest.Server).Freeze,
	} {
		t.Run(name, func(t *testing.T) {
			server := postgrestest.Start(t)
			server.Exec(t, "CREATE DATABASE books")
			db := opened(t, postgres.Options{URL: server.URL("books"), Node: "a", Wait: wait})
			storetest.Key(t, db, "key_1")
			must(t, db.Update(t.Context(), store.LaneBrake, func(store.Tx) error { return nil }))
			away(server)
			defer server.Thaw()
			began := time.Now()
			must(t, db.Close())
			// The goodbye is waited for, and the connections' end for a second. It took 18 s once.
			if took := time.Since(began); took > 12*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}
