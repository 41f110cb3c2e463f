package sqlite_test

import (
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/sqlite"
	"github.com/keybrake/keybrake/internal/store/storetest"
)

func TestFiguresFollowTheStore(t *testing.T) {
	var mu sync.Mutex
	callers, commits := 0, 0
	o := sqlite.Options{Path: filepath.Join(t.TempDir(), "kb.db"), Observer: store.Observer{Batch: func(n int, took, commit time.Duration, err error) {
		mu.Lock()
		defer mu.Unlock()
		callers += n
		if err == nil && commit > 0 && took >= commit {
			commits++
		}
	}}}
	db := open(t, o)
	version := storetest.Key(t, db, "key_1")
	admit := func() *ledger.Reservation {
		t.Helper()
		a, err := db.Admit(t.Context(), storetest.Admission("key_1", version, nil, storetest.USD("refunds", 100)))
		if err != nil {
			t.Fatal(err)
		}
		return a.Reservation
	}
	want := func(what string, open, unresolved int64, oldest time.Time) {
		t.Helper()
		f := db.Figures()
		if f.Open != open || f.Unresolved != unresolved || !f.Oldest.Equal(oldest) || f.Queued != 0 || f.Actions != 0 {
			t.Errorf("%s: %+v, want %d open, %d unresolved, the oldest of %s", what, f, open, unresolved, oldest)
		}
	}
	resolve := func(r *ledger.Reservation, fate ledger.Fate) {
		t.Helper()
		s := storetest.Settle(r)
		if fate.State != 0 {
			s.Fate = fate
		}
		if _, err := db.Resolve(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	first, second, third := admit(), admit(), admit()
	want("three on the wire", 3, 0, time.Time{})
	unknown := ledger.Fate{State: ledger.Unresolved, Why: "no answer"}
	resolve(second, unknown)
	resolve(first, unknown)
	want("two unknown", 3, 2, first.FirstSent)
	resolve(first, ledger.Fate{})
	want("the older one settled", 2, 1, second.FirstSent)
	if f := db.Figures(); f.Height != 6 || f.Signed != 0 || !f.SignedAt.IsZero() {
		t.Errorf("before the first head: %+v", f)
	}
	if err := db.SignHead(t.Context()); err != nil {
		t.Fatal(err)
	}
	signed := db.Figures()
	if signed.Height != 6 || signed.Signed != 6 || signed.SignedAt.IsZero() {
		t.Errorf("after it: %+v", signed)
	}
	mu.Lock()
	if callers != 6 || commits == 0 || commits > 6 {
		t.Errorf("%d callers in %d transactions were told", callers, commits)
	}
	mu.Unlock()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = open(t, o)
	// The third was on the wire when the process ended: it is unknown now, and on record.
	want("opened again", 2, 2, second.FirstSent)
	if f := db.Figures(); f.Height != 7 || f.Signed != 6 || !f.SignedAt.Equal(signed.SignedAt) {
		t.Errorf("opened again: %+v", f)
	}
	resolve(second, ledger.Fate{})
	want("the youngest is left", 1, 1, third.FirstSent)
}

func TestAQueueShowsInTheFigures(t *testing.T) {
	db := open(t, sqlite.Options{})
	version := storetest.Key(t, db, "key_1")
	release := stall(t, db)
	var done sync.WaitGroup
	for range 3 {
		done.Go(func() {
			if _, err := db.Admit(t.Context(), storetest.Admission("key_1", version, nil, storetest.USD("refunds", 100))); err != nil {
				t.Error(err)
			}
		})
	}
	for db.Figures().Queued != 3 {
		time.Sleep(time.Millisecond)
	}
	release()
	done.Wait()
	if f := db.Figures(); f.Queued != 0 || f.Open != 3 {
		t.Errorf("%+v", f)
	}
}
