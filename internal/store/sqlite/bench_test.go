package sqlite_test

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store/sqlite"
	"github.com/keybrake/keybrake/internal/store/storetest"
)

var zone = time.UTC

func open(t testing.TB, o sqlite.Options) *sqlite.DB {
	t.Helper()
	if o.Path == "" {
		o.Path = filepath.Join(t.TempDir(), "keybrake.db")
	}
	if o.Signer == nil {
		o.Signer = storetest.NewSigner("test")
	}
	db, err := sqlite.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// BenchmarkPair is one admission and one settlement, both durable, all on one hot cap. "each" is the same
// engine with one transaction per caller.
func BenchmarkPair(b *testing.B) {
	for _, mode := range []struct {
		name  string
		batch int
	}{{"batched", 0}, {"each", 1}} {
		for _, callers := range []int{1, 64, 256} {
			b.Run(fmt.Sprintf("%s/callers=%d", mode.name, callers), func(b *testing.B) {
				db := open(b, sqlite.Options{MaxBatch: mode.batch})
				version := storetest.Key(b, db, "key_1")
				caps := []policy.Cap{storetest.DayCap("refunds", 1<<40)}
				b.ReportAllocs()
				b.ResetTimer()
				var wg sync.WaitGroup
				for c := range callers {
					n := b.N / callers
					if c < b.N%callers {
						n++
					}
					wg.Go(func() {
						for range n {
							a, err := db.Admit(b.Context(), storetest.Admission("key_1", version, caps, storetest.USD("refunds", 100)))
							if err != nil || a.Verdict != policy.Allow {
								b.Errorf("admit: %v %v", a, err)
								return
							}
							if _, err := db.Resolve(b.Context(), storetest.Settle(a.Reservation)); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pairs/s")
			})
		}
	}
}
