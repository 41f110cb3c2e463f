package postgres_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/postgres"
	"github.com/keybrake/keybrake/internal/store/postgres/postgrestest"
	"github.com/keybrake/keybrake/internal/store/storetest"
)

// cuts are the places at which a transaction of two trips can be cut.
var cuts = map[string]struct {
	trip     int
	answered bool
}{
	"before the lock is asked for":         {1, false},
	"when the lock was taken":              {1, true},
	"before the writes arrive":             {2, false},
	"when it was committed, but not heard": {2, true},
}

func TestACutConnectionLosesAndDoublesNothing(t *testing.T) {
	database := postgrestest.Database(t)
	p, through := postgrestest.NewProxy(t, database)
	db := node(t, postgres.Options{URL: through})
	version := storetest.Key(t, db, "key_1")
	caps := []policy.Cap{storetest.DayCap("refunds", 1000)}
	calls := map[string]func() (*ledger.Reservation, error){
		"an admission": func() (*ledger.Reservation, error) {
			a, err := db.Admit(t.Context(), admission(version, caps, 100))
			return a.Reservation, err
		},
		"a settlement": func() (*ledger.Reservation, error) {
			a, err := db.Admit(t.Context(), admission(version, caps, 100))
			must(t, err)
			_, err = db.Resolve(t.Context(), storetest.Settle(a.Reservation))
			return nil, err
		},
	}
	_, _ = calls["an admission"]() // so that every statement is prepared and a transaction has its two trips
	_, err := calls["a settlement"]()
	must(t, err)
	before := booked(t, db, database)
	for name, c := range cuts {
		for what := range calls {
			t.Run(what+" "+name, func(t *testing.T) {
				switch what {
				case "an admission":
					p.Cut(c.trip, c.answered, false)
				case "a settlement": // the admission before it goes through
					p.Cut(c.trip+2, c.answered, false)
				}
				if _, err := calls[what](); err != nil {
					t.Error(err)
				}
				want := before
				want.reservations, want.intents, want.records = want.reservations+1, want.intents+1, want.records+1
				if what == "an admission" {
					want.held += 1_000_000
				} else {
					want.settled, want.records = want.settled+1_000_000, want.records+1
				}
				if before = booked(t, db, database); before != want {
					t.Errorf("%+v, want %+v", before, want)
				}
			})
		}
	}
}

// TestWhatWasAdmittedForNobodyIsReleased cuts a node off right after PostgreSQL has committed: its caller must be refused,
// and the hold that is there must go once the node is back.
func TestWhatWasAdmittedForNobodyIsReleased(t *testing.T) {
	database := postgrestest.Database(t)
	p, through := postgrestest.NewProxy(t, database)
	db := node(t, postgres.Options{URL: through, Wait: 2 * time.Second})
	version := storetest.Key(t, db, "key_1")
	caps := []policy.Cap{storetest.DayCap("refunds", 1000), {Resource: "refunds", Per: policy.PerDay, Unit: policy.UnitCalls, Limit: 10}}
	_, err := db.Admit(t.Context(), admission(version, caps, 100))
	must(t, err)
	before := booked(t, db, database)
	p.Cut(2, true, true)
	if a, err := db.Admit(t.Context(), admission(version, caps, 100)); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("nobody can know whether it is durable: %+v, %v", a, err)
	}
	if err := db.Check(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("it is ready: %v", err)
	}
	p.Heal()
	for db.Check(t.Context()) != nil || len(proven(t, db, "not_sent")) == 0 {
		time.Sleep(10 * time.Millisecond) // the next tick finds out
	}
	got := booked(t, db, database)
	before.reservations, before.intents, before.records = before.reservations+1, before.intents+1, before.records+2
	if got != before {
		t.Errorf("%+v, want %+v", got, before)
	}
}

// proven are the outcome records with a proof.
func proven(t testing.TB, db store.DB, proof string) (out []*audit.Record) {
	t.Helper()
	must(t, db.View(t.Context(), func(tx store.Tx) error {
		return tx.EachRecord(1, func(e audit.Entry) error {
			r, err := audit.Decode(e.Bytes)
			if err == nil && r.Proof == proof {
				out = append(out, r)
			}
			return err
		})
	}))
	return out
}

// TestAnActionThatIsCutOffIsThereOrNot: an operator's action is not run again once it was run; what its answer says is
// what is there.
func TestAnActionThatIsCutOffIsThereOrNot(t *testing.T) {
	database := postgrestest.Database(t)
	p, through := postgrestest.NewProxy(t, database)
	db := node(t, postgres.Options{URL: through})
	for name, c := range map[string]struct {
		trip     int // the lock, the record, the commit
		answered bool
		there    int
	}{
		"before the lock is asked for":         {1, false, 1}, // it was not run yet, so it is begun again
		"when the lock was taken":              {1, true, 1},
		"before its record arrives":            {2, false, 0},
		"when its record was written":          {2, true, 0},
		"before it is committed":               {3, false, 0},
		"when it was committed, but not heard": {3, true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			runs := 0
			act := func(action string) error {
				return db.Update(t.Context(), store.LaneControl, func(tx store.Tx) error {
					runs++
					_, err := tx.Append(&audit.Record{Kind: audit.KindSystem, Action: action})
					return err
				})
			}
			must(t, act("first")) // so that every statement is prepared and an action has its three trips
			runs = 0
			stamp := fmt.Sprint(t.Name(), time.Now())
			p.Cut(c.trip, c.answered, false)
			err := act(stamp)
			p.Heal()
			there := 0
			must(t, db.View(t.Context(), func(tx store.Tx) error {
				return tx.EachRecord(1, func(e audit.Entry) error {
					r, err := audit.Decode(e.Bytes)
					if err == nil && r.Action == stamp {
						there++
					}
					return err
				})
			}))
			if runs != 1 || there != c.there || (err == nil) != (there == 1) {
				t.Errorf("it was run %d times and is there %d times, and its caller was told %v; want %d", runs, there, err, c.there)
			}
		})
	}
}

// TestAnActionWithoutARecordThatIsCutOffIsNotDenied: where nothing was written that could be looked for, its caller is told
// that it is not there only if nothing is.
func TestAnActionWithoutARecordThatIsCutOffIsNotDenied(t *testing.T) {
	database := postgrestest.Database(t)
	p, through := postgrestest.NewProxy(t, database)
	db := node(t, postgres.Options{URL: through})
	act := func(value string) error {
		return db.Update(t.Context(), store.LaneControl, func(tx store.Tx) error { return tx.SetMeta("place", value) })
	}
	must(t, act("first")) // so that every statement is prepared
	for value, kept := range map[string]bool{"lost": false, "kept": true} {
		p.CutCommit(kept, false)
		if err := act(value); !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrUncertain) != kept {
			t.Errorf("%s: %v", value, err)
		}
		p.Heal()
		must(t, act("after "+value)) // and the store goes on
	}
}
