package sqlite_test

import (
	"errors"
	"runtime"
	"sync"
	"testing"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/sqlite"
	"github.com/keybrake/keybrake/internal/store/storetest"
	"github.com/keybrake/keybrake/internal/vault"
)

// together runs works so that they meet in one batch: the writer is kept busy until all of them are queued.
func together(t *testing.T, db *sqlite.DB, works ...func()) {
	t.Helper()
	var wg sync.WaitGroup
	err := db.Update(t.Context(), store.LaneControl, func(store.Tx) error {
		for _, work := range works {
			before := db.Waiting()
			wg.Go(work)
			for db.Waiting() == before {
				runtime.Gosched()
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	wg.Wait()
}

func TestADenialThatIsDecidedTwiceIsRecordedOnce(t *testing.T) {
	db := open(t, sqlite.Options{})
	version := storetest.Key(t, db, "key_1")
	storetest.Key(t, db, "key_2")
	if err := db.Update(t.Context(), store.LaneBrake, func(tx store.Tx) error {
		return tx.PutBrake(store.BrakeRow{Scope: store.KeyScope("key_1"), Mode: vault.Stopped, At: tx.Now()})
	}); err != nil {
		t.Fatal(err)
	}
	denied := storetest.Admission("key_1", version, nil, storetest.USD("refunds", 100))
	together(t, db,
		func() {
			if got, err := db.Admit(t.Context(), denied); err != nil || got.Braked != store.KeyScope("key_1") {
				t.Errorf("%+v %v", got, err)
			}
		},
		func() { // no such reservation: the batch cannot be decided, and everyone in it is tried alone
			lost := storetest.Admission("key_1", version, nil, storetest.USD("refunds", 100))
			lost.Upstream, lost.Key, lost.Resend = "up_2", "key_2", 99
			if _, err := db.Admit(t.Context(), lost); !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("%v", err)
			}
		})
	if n := len(denied.Record.Failures); n != 1 {
		t.Errorf("the record names %d failed rules where one failed: %+v", n, denied.Record.Failures)
	}
}

func TestCloseEndsWhileCallersNeverStopAsking(t *testing.T) {
	db := open(t, sqlite.Options{})
	version := storetest.Key(t, db, "key_1")
	var wg sync.WaitGroup
	var warm sync.WaitGroup
	const callers = 256
	warm.Add(callers)
	for range callers {
		wg.Go(func() {
			for first := true; ; first = false {
				closing := db.Closing()
				_, err := db.Admit(t.Context(), storetest.Admission("key_1", version, nil, storetest.USD("refunds", 1)))
				if first {
					warm.Done()
				}
				if err != nil {
					if !errors.Is(err, store.ErrUnavailable) {
						t.Errorf("%v", err)
					}
					return
				}
				if closing {
					t.Error("work was taken on after Close began: it never ends while callers ask")
				}
			}
		})
	}
	warm.Wait()
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

// TestABrakeWaitsForOneBatchAtMost counts what was committed between asking and being served, while callers
// saturate the store.
func TestABrakeWaitsForOneBatchAtMost(t *testing.T) {
	db := open(t, sqlite.Options{})
	version := storetest.Key(t, db, "key_1")
	stop := make(chan struct{})
	var wg, warm sync.WaitGroup
	const callers = 256
	warm.Add(callers)
	for range callers {
		wg.Go(func() {
			for first := true; ; first = false {
				_, err := db.Admit(t.Context(), storetest.Admission("key_1", version, nil, storetest.USD("refunds", 1)))
				if err != nil {
					t.Error(err)
				}
				if first {
					warm.Done()
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	warm.Wait()
	for range 50 {
		queued, served := db.CountBatches(t)
		if served-queued > 1 {
			t.Errorf("%d batches went before the brake", served-queued)
		}
	}
	close(stop)
	wg.Wait()
}

func TestAnOlderUnknownCallStillRefusesWhenANewerOneIsKnown(t *testing.T) {
	db := open(t, sqlite.Options{})
	version := storetest.Key(t, db, "key_1")
	var both []*ledger.Reservation
	for range 2 { // on the wire at the same time, so neither refuses the other
		a, err := db.Admit(t.Context(), storetest.Admission("key_1", version, nil, storetest.USD("refunds", 100)))
		if err != nil || a.Verdict != policy.Allow {
			t.Fatalf("%+v %v", a, err)
		}
		both = append(both, a.Reservation)
	}
	for _, r := range both {
		unknown := storetest.Settle(r)
		unknown.Fate = ledger.Fate{State: ledger.Unresolved, Why: "timeout"}
		if _, err := db.Resolve(t.Context(), unknown); err != nil {
			t.Fatal(err)
		}
	}
	repeat := func(want *ledger.Reservation) {
		t.Helper()
		got, err := db.Admit(t.Context(), storetest.Admission("key_1", version, nil, storetest.USD("refunds", 100)))
		if err != nil || got.Pending == nil || got.Pending.ID != want.ID {
			t.Errorf("%+v %v", got, err)
		}
	}
	if _, err := db.Resolve(t.Context(), storetest.Settle(both[1])); err != nil {
		t.Fatal(err)
	}
	repeat(both[0])
	// The same when the newer one is settled within the batch that asks.
	if _, err := db.Resolve(t.Context(), storetest.Settle(both[0])); err != nil {
		t.Fatal(err)
	}
	if got, err := db.Admit(t.Context(), storetest.Admission("key_1", version, nil, storetest.USD("refunds", 100))); err != nil || got.Verdict != policy.Allow {
		t.Errorf("once both are known: %+v %v", got, err)
	}
}

func TestABrokenStoreWritesNothingThatWasQueuedBefore(t *testing.T) {
	db := open(t, sqlite.Options{})
	db.BreakWhileBusy(t, func(tx store.Tx) error { return tx.SetMeta("after", "x") })
	_ = db.View(t.Context(), func(tx store.Tx) error {
		if v, err := tx.Meta("after"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("written: %q %v", v, err)
		}
		return nil
	})
}

func TestAnActionOnAFullDiskIsUnavailable(t *testing.T) {
	db := open(t, sqlite.Options{})
	if err := db.SetMaxPages(1); err != nil {
		t.Fatal(err)
	}
	err := db.Update(t.Context(), store.LaneControl, func(tx store.Tx) error {
		for range 10_000 {
			if _, err := tx.Append(&audit.Record{Kind: audit.KindOperator, Action: "fill"}); err != nil {
				return err
			}
		}
		return nil
	})
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	if err := db.SetMaxPages(1 << 30); err != nil {
		t.Fatal(err)
	}
	if es, err := db.Log(t.Context(), &audit.Record{Kind: audit.KindSystem}); err != nil || es[0].Seq != 1 {
		t.Errorf("after space came back: %+v %v", es, err)
	}
}

// TestAnOutcomeReadsNoRunningTotal tells how the caps stand from what the admission left in memory: a read of its own
// would be paid by every call that waits for the writer.
func TestAnOutcomeReadsNoRunningTotal(t *testing.T) {
	db := open(t, sqlite.Options{})
	version := storetest.Key(t, db, "key_1")
	caps := []policy.Cap{storetest.DayCap("refunds", 100), {Resource: "*", Per: policy.PerHour, Unit: policy.UnitCalls, Limit: 9}}
	fates := []ledger.Fate{
		{}, // as Settle has it
		{State: ledger.Unresolved},
		{State: ledger.Released, Proof: ledger.ProofRefused},
		{State: ledger.Released, Proof: ledger.ProofNotSent},
	}
	var admitted []*ledger.Reservation
	for range fates {
		a, err := db.Admit(t.Context(), storetest.Admission("key_1", version, caps, storetest.USD("refunds", 100)))
		if err != nil || a.Reservation == nil {
			t.Fatalf("%+v %v", a, err)
		}
		admitted = append(admitted, a.Reservation)
	}
	db.ForgetHowToReadAccounts(t)
	for i, fate := range fates {
		r := storetest.Settle(admitted[i])
		if i > 0 {
			r.Fate = fate
		}
		done, err := db.Resolve(t.Context(), r)
		if err != nil || len(done.Caps) != 2 || len(r.Record.Caps) != 2 {
			t.Errorf("%s %s: %+v, %v", r.Fate.State, r.Fate.Proof, done, err)
		}
	}
}
