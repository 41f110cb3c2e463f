package sqlite_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/sqlite"
	"github.com/keybrake/keybrake/internal/store/storetest"
	"github.com/keybrake/keybrake/internal/vault"
)

// stall keeps the writer busy, as a disk that does not come back from a flush does, until the returned function
// is called.
func stall(t *testing.T, db *sqlite.DB) (release func()) {
	t.Helper()
	stalled, done := make(chan struct{}), make(chan struct{})
	end := make(chan struct{})
	go func() {
		defer close(done)
		if err := db.Update(context.Background(), store.LaneControl, func(store.Tx) error {
			close(stalled)
			<-end
			return nil
		}); err != nil {
			t.Error(err)
		}
	}()
	<-stalled
	release = sync.OnceFunc(func() { close(end); <-done })
	t.Cleanup(release)
	return release
}

// wantNothing fails the test if anything was held or recorded.
func wantNothing(t *testing.T, db *sqlite.DB) {
	t.Helper()
	if err := db.View(t.Context(), func(tx store.Tx) error {
		if height, _, err := tx.Height(); err != nil || height != 0 {
			t.Errorf("%d records (%v)", height, err)
		}
		open, err := tx.OpenReservations("")
		if len(open) != 0 {
			t.Errorf("%d reservations", len(open))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func TestWorkThatASlowStoreDidNotTakeUpIsWithdrawnForGood(t *testing.T) {
	const callers = 1000
	db := open(t, sqlite.Options{Wait: time.Second})
	version := storetest.Key(t, db, "key_1")
	caps := []policy.Cap{storetest.DayCap("refunds", 1_000_000)}
	release := stall(t, db)
	var wg sync.WaitGroup
	var busy atomic.Int64
	for range callers {
		wg.Go(func() {
			_, err := db.Admit(t.Context(), storetest.Admission("key_1", version, caps, storetest.USD("refunds", 100)))
			if errors.Is(err, store.ErrBusy) {
				busy.Add(1)
			} else {
				t.Errorf("%v", err)
			}
		})
	}
	wg.Wait() // while the store hangs: nobody waits for it to come back
	if busy.Load() != callers {
		t.Errorf("%d of %d were told", busy.Load(), callers)
	}
	release()
	if err := db.Update(t.Context(), store.LaneControl, func(store.Tx) error { return nil }); err != nil {
		t.Fatal(err) // behind everything that was queued
	}
	wantNothing(t, db)
	if got, err := db.Admit(t.Context(), storetest.Admission("key_1", version, caps, storetest.USD("refunds", 100))); err != nil || got.Verdict != policy.Allow {
		t.Errorf("once the store is back: %+v %v", got, err)
	}
}

func TestEveryVerbIsWithdrawnWhenItsCallerGivesUp(t *testing.T) {
	for name, verb := range map[string]func(context.Context, *sqlite.DB) error{
		"an admission": func(ctx context.Context, db *sqlite.DB) error {
			_, err := db.Admit(ctx, storetest.Admission("key_1", 1, nil, storetest.USD("refunds", 100)))
			return err
		},
		"a resolution": func(ctx context.Context, db *sqlite.DB) error {
			_, err := db.Resolve(ctx, &store.Resolution{Record: &audit.Record{Kind: audit.KindOutcome}})
			return err
		},
		"a record": func(ctx context.Context, db *sqlite.DB) error {
			_, err := db.Log(ctx, &audit.Record{Kind: audit.KindSystem})
			return err
		},
		"an operator's action": func(ctx context.Context, db *sqlite.DB) error {
			return db.Update(ctx, store.LaneControl, appendOne)
		},
		"a resumption": func(ctx context.Context, db *sqlite.DB) error {
			return db.Update(ctx, store.LaneBrake, appendOne)
		},
	} {
		t.Run(name, func(t *testing.T) {
			db := open(t, sqlite.Options{})
			storetest.Key(t, db, "key_1")
			release := stall(t, db)
			ctx, giveUp := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- verb(ctx, db) }()
			for db.Waiting() == 0 {
				runtime.Gosched()
			}
			giveUp()
			if err := <-done; !errors.Is(err, store.ErrBusy) {
				t.Errorf("%v", err)
			}
			release()
			if err := db.Update(t.Context(), store.LaneControl, func(store.Tx) error { return nil }); err != nil {
				t.Fatal(err)
			}
			wantNothing(t, db)
		})
	}
}

func appendOne(tx store.Tx) error {
	_, err := tx.Append(&audit.Record{Kind: audit.KindOperator, Action: "late"})
	return err
}

// TestWhatASlowStoreHasTakenUpIsWaitedFor: its caller gives up while the batch is being committed, and still hears
// what came of it. Otherwise a hold would stand that nobody knows of.
func TestWhatASlowStoreHasTakenUpIsWaitedFor(t *testing.T) {
	db := open(t, sqlite.Options{Wait: time.Millisecond})
	version := storetest.Key(t, db, "key_1")
	admission := storetest.Admission("key_1", version, []policy.Cap{storetest.DayCap("refunds", 0)}, storetest.USD("refunds", 100))
	admission.Record.Failures = nil
	ctx, giveUp := context.WithCancel(t.Context())
	admission.StatusOf = func(policy.Failure) int { // runs inside the batch
		giveUp()
		time.Sleep(20 * time.Millisecond) // far beyond the wait; the test holds however long it is
		return 403
	}
	got, err := db.Admit(ctx, admission)
	if err != nil || got.Verdict != policy.Deny || got.Entry.Seq != 1 {
		t.Errorf("%+v %v", got, err)
	}
}

func TestStopsAndFiguresAreServedWhileAThousandCallersSaturateTheStore(t *testing.T) {
	db := open(t, sqlite.Options{Wait: time.Minute})
	version := storetest.Key(t, db, "key_1")
	caps := []policy.Cap{storetest.DayCap("refunds", 1_000_000)}
	stop := make(chan struct{})
	var callers, warm sync.WaitGroup
	const n = 1000
	warm.Add(n)
	for range n {
		callers.Go(func() {
			for first := true; ; first = false {
				if _, err := db.Admit(t.Context(), storetest.Admission("key_1", version, caps, storetest.USD("refunds", 1))); err != nil {
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
	account := ledger.AccountKey{Key: "key_1", Resource: "refunds", Per: policy.PerDay, Unit: policy.UnitUSD, Label: ledger.Label(policy.PerDay, db.Now(), zone)}
	for range 20 {
		if queued, served := db.CountBatches(t); served-queued > 1 {
			t.Errorf("%d batches went before a stop", served-queued)
		}
		if got, err := db.Peek(t.Context(), []ledger.AccountKey{account}); err != nil || got[0].Held == 0 {
			t.Errorf("%+v %v", got, err)
		}
	}
	close(stop)
	callers.Wait()
}

func TestFiguresAreReadWhileTheStoreHangs(t *testing.T) {
	db := open(t, sqlite.Options{})
	version := storetest.Key(t, db, "key_1")
	if _, err := db.Admit(t.Context(), storetest.Admission("key_1", version, []policy.Cap{storetest.DayCap("refunds", 100)}, storetest.USD("refunds", 100))); err != nil {
		t.Fatal(err)
	}
	stall(t, db)
	for _, label := range []string{ledger.Label(policy.PerDay, db.Now(), zone), "2020-01-01"} { // in memory, and not
		if _, err := db.Peek(t.Context(), []ledger.AccountKey{{Key: "key_1", Resource: "refunds", Per: policy.PerDay, Unit: policy.UnitUSD, Label: label}}); err != nil {
			t.Error(err)
		}
	}
	if err := db.View(t.Context(), func(tx store.Tx) error {
		open, err := tx.OpenReservations("key_1")
		if len(open) != 1 {
			t.Errorf("%d open", len(open))
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	if _, err := db.Attached(t.Context(), "key_1", "", "none"); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
	if err := db.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestDamageIsWrittenDownHoweverFullTheLaneIs: the next round that would find it is a day away.
func TestDamageIsWrittenDownHoweverFullTheLaneIs(t *testing.T) {
	db := open(t, sqlite.Options{})
	release := stall(t, db)
	var stops sync.WaitGroup
	var busy atomic.Int64
	for range 500 {
		stops.Go(func() {
			if err := db.Update(context.Background(), store.LaneBrake, appendOne); errors.Is(err, store.ErrBusy) {
				busy.Add(1)
			}
		})
	}
	for busy.Load() == 0 {
		runtime.Gosched()
	}
	done := make(chan struct{})
	go func() { defer close(done); db.FreezeFound("record 7 is missing") }()
	release()
	stops.Wait()
	<-done
	if err := db.Check(t.Context()); err == nil {
		t.Error("the books are not frozen")
	}
}

// TestStopsThatCannotBeWrittenDoNotPileUp: an operator, or the KILL file, asks again and again.
func TestStopsThatCannotBeWrittenDoNotPileUp(t *testing.T) {
	db := open(t, sqlite.Options{})
	release := stall(t, db)
	pull := func(tx store.Tx) error {
		return tx.PutBrake(store.BrakeRow{Scope: store.ScopeAll, Mode: vault.Stopped, At: tx.Now()})
	}
	var wg sync.WaitGroup
	var written, busy atomic.Int64
	for range 500 {
		wg.Go(func() {
			switch err := db.Update(context.Background(), store.LaneBrake, pull); {
			case err == nil:
				written.Add(1)
			case errors.Is(err, store.ErrBusy):
				busy.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	for busy.Load() == 0 {
		runtime.Gosched()
	}
	release()
	wg.Wait()
	if written.Load() == 0 || written.Load()+busy.Load() != 500 {
		t.Errorf("%d written, %d refused", written.Load(), busy.Load())
	}
}
