package postgres_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/postgres"
	"github.com/keybrake/keybrake/internal/store/postgres/postgrestest"
	"github.com/keybrake/keybrake/internal/store/storetest"
	"github.com/keybrake/keybrake/internal/vault"
)

// twoNodes opens two engines on one database.
func twoNodes(t testing.TB) (url string, nodes [2]*postgres.DB) {
	t.Helper()
	url = postgrestest.Database(t)
	for i := range nodes {
		nodes[i] = node(t, postgres.Options{URL: url})
	}
	return url, nodes
}

func TestTwoNodesShareOneCapToTheCent(t *testing.T) {
	url, nodes := twoNodes(t)
	version := storetest.Key(t, nodes[0], "key_1")
	caps := []policy.Cap{storetest.DayCap("refunds", 1000)}
	var passed, settled atomic.Int64
	var wg sync.WaitGroup
	for i := range 128 {
		db := nodes[i%2]
		wg.Go(func() {
			for n := range 4 {
				a, err := db.Admit(t.Context(), admission(version, caps, 500))
				if err != nil {
					t.Error(err)
					return
				}
				if a.Verdict != policy.Allow {
					continue
				}
				passed.Add(1)
				if n%2 == 0 {
					continue // stays on the wire
				}
				if _, err := nodes[(i+1)%2].Resolve(t.Context(), storetest.Settle(a.Reservation)); err != nil { // told by the other one
					t.Error(err)
				}
				settled.Add(1)
			}
		})
	}
	wg.Wait()
	if passed.Load() != 200 {
		t.Errorf("%d of $5 passed under $1000", passed.Load())
	}
	b := booked(t, nodes[0], url)
	want := book{
		held: 5_000_000 * (passed.Load() - settled.Load()), settled: 5_000_000 * settled.Load(),
		reservations: passed.Load(), intents: passed.Load(), records: 512 + settled.Load(),
	}
	if b != want {
		t.Errorf("%+v, want %+v", b, want)
	}
}

func TestWhatOneNodeDoesBindsTheOther(t *testing.T) {
	_, nodes := twoNodes(t)
	here, there := nodes[0], nodes[1]
	version := storetest.Key(t, here, "key_1")
	call := func(db *postgres.DB, version int64, idem string) store.Admitted {
		t.Helper()
		a := admission(version, nil, 100)
		a.Reserve.IdemKey, a.Reserve.Fingerprint[0] = idem, 1
		out, err := db.Admit(t.Context(), a)
		must(t, err)
		return out
	}
	first := call(here, version, "k")
	if got := call(there, version, "k"); got.InUse == nil || got.InUse.ID != first.Reservation.ID {
		t.Errorf("an idempotency key that the other node has bound: %+v", got)
	}
	unknown := storetest.Settle(first.Reservation)
	unknown.Fate = ledger.Fate{State: ledger.Unresolved, Why: "timeout"}
	if _, err := there.Resolve(t.Context(), unknown); err != nil {
		t.Fatal(err)
	}
	if got := call(here, version, "another"); got.Pending == nil {
		t.Errorf("the same call, unknown on the other node: %+v", got)
	}
	newer := storetest.Key(t, there, "key_1")
	if got := call(here, version, "k2"); !got.Stale {
		t.Errorf("a policy that the other node has changed: %+v", got)
	}
	must(t, there.Update(t.Context(), store.LaneBrake, func(tx store.Tx) error {
		return tx.PutBrake(store.BrakeRow{Scope: store.ScopeAll, Mode: vault.Stopped, Reason: "test", Actor: "me", At: tx.Now()})
	}))
	if got := call(here, newer, "k3"); got.Braked != store.ScopeAll {
		t.Errorf("a stop of the other node's: %+v", got)
	}
}

// TestNothingPassesAfterAStop pulls brakes while both nodes are under load: what is admitted has its place in the record
// before the stop.
func TestNothingPassesAfterAStop(t *testing.T) {
	_, nodes := twoNodes(t)
	version := storetest.Key(t, nodes[0], "key_1")
	var wg sync.WaitGroup
	var after atomic.Int64 // the record's number at the stop
	for i := range 64 {
		db := nodes[i%2]
		wg.Go(func() {
			for {
				a, err := db.Admit(t.Context(), admission(version, nil, 1))
				if err != nil {
					t.Error(err)
					return
				}
				if a.Verdict != policy.Allow {
					return
				}
				if stop := after.Load(); stop != 0 && a.Entry.Seq > stop {
					t.Errorf("record %d let a call through after the stop in %d", a.Entry.Seq, stop)
				}
			}
		})
	}
	must(t, nodes[1].Update(t.Context(), store.LaneBrake, func(tx store.Tx) error {
		if err := tx.PutBrake(store.BrakeRow{Scope: store.ScopeAll, Mode: vault.Stopped, Reason: "test", Actor: "me", At: tx.Now()}); err != nil {
			return err
		}
		e, err := tx.Append(&audit.Record{Kind: audit.KindSystem, Action: "stop"})
		after.Store(e.Seq)
		return err
	}))
	wg.Wait()
}

func TestWhatADeadNodeLeftOnTheWireIsTakenOver(t *testing.T) {
	url := postgrestest.Database(t)
	dead, alive := opened(t, postgres.Options{URL: url}), node(t, postgres.Options{URL: url})
	version := storetest.Key(t, dead, "key_1")
	lost, err := dead.Admit(t.Context(), admission(version, nil, 100))
	must(t, err)
	kept, err := alive.Admit(t.Context(), admission(version, nil, 100))
	must(t, err)
	dead.Die()
	exec(t, url, `UPDATE nodes SET alive = 0, seen = 0 WHERE id = '`+dead.Node()+`'`)
	must(t, alive.TakeOver())
	must(t, alive.View(t.Context(), func(tx store.Tx) error {
		for id, want := range map[ledger.ReservationID]ledger.State{lost.Reservation.ID: ledger.Unresolved, kept.Reservation.ID: ledger.Reserved} {
			r, err := tx.Reservation(id)
			if err != nil {
				return err
			}
			if r.State != want {
				t.Errorf("reservation %d is %s, want %s", id, r.State, want)
			}
		}
		return nil
	}))
	for until := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) { // it is noticed within a second or so
		seen, err := alive.Nodes(t.Context())
		must(t, err)
		if !seen.Nodes[0].Ended.IsZero() && seen.Nodes[1].Ended.IsZero() {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("a node that is silent for long has not ended: %+v", seen.Nodes)
		}
	}
	before := booked(t, alive, url).records
	must(t, alive.TakeOver())
	if again := booked(t, alive, url).records; again != before {
		t.Errorf("%d records for what was taken over already", again-before)
	}
}
