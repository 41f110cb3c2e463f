package sqlite_test

import (
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/sqlite"
	"github.com/keybrake/keybrake/internal/store/storetest"
)

// TestWhatADeadProcessLeftOnTheWireIsUnknownBeforeTheStoreOpens: no money call can pass before that, because none can
// before Open returns. KEYBRAKE_OPEN says how many there are; the time is logged.
func TestWhatADeadProcessLeftOnTheWireIsUnknownBeforeTheStoreOpens(t *testing.T) {
	left := 1000
	if text := os.Getenv("KEYBRAKE_OPEN"); text != "" {
		var err error
		left, err = strconv.Atoi(text)
		must(t, err)
	}
	path := filepath.Join(t.TempDir(), "keybrake.db")
	o := sqlite.Options{Path: path, Signer: storetest.NewSigner("test"), Wait: time.Minute}
	db, err := sqlite.Open(t.Context(), o)
	must(t, err)
	version := storetest.Key(t, db, "key_1")
	caps := []policy.Cap{storetest.DayCap("refunds", 1_000_000_000)}
	var wg sync.WaitGroup
	const callers = 250
	for range callers {
		wg.Go(func() {
			for range left / callers {
				got, err := db.Admit(t.Context(), storetest.Admission("key_1", version, caps, storetest.USD("refunds", 100)))
				if err != nil || got.Verdict != policy.Allow {
					t.Errorf("%+v %v", got, err)
					return
				}
			}
		})
	}
	wg.Wait()
	must(t, db.Close()) // with everything still on the wire
	start := time.Now()
	db, err = sqlite.Open(t.Context(), o)
	must(t, err)
	took := time.Since(start)
	defer db.Close() //nolint:errcheck // it was read
	must(t, db.View(t.Context(), func(tx store.Tx) error {
		open, err := tx.OpenReservations("key_1")
		if len(open) != left {
			t.Errorf("%d are open, want %d", len(open), left)
		}
		for _, r := range open {
			if r.State != ledger.Unresolved {
				t.Fatalf("reservation %d is %s", r.ID, r.State)
			}
		}
		return err
	}))
	account, err := db.Peek(t.Context(), []ledger.AccountKey{{
		Key: "key_1", Resource: "refunds", Per: policy.PerDay, Unit: policy.UnitUSD, Label: ledger.Label(policy.PerDay, db.Now(), zone),
	}})
	if err != nil || account[0].Held != int64(left)*1_000_000 {
		t.Errorf("%+v %v", account, err)
	}
	t.Logf("%d reservations taken over, store open after %s", left, took)
}
