package sim

import (
	"slices"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/replay"
)

// TestTheBooksCanBeToldFromTheRecord: whatever was cut, crashed, sent again, asked about and learned later, counting the
// calls on record as they were decided comes to the store's own books, in every window.
func TestTheBooksCanBeToldFromTheRecord(t *testing.T) {
	accounts := 0
	for seed := range uint64(16) {
		simulate(t, 500+seed, options{calls: 250, after: func(w *world) {
			for _, k := range w.keys {
				key, _ := w.p.ring.Key(k.id)
				r := replay.New(replay.Options{Policy: key.Policy, Since: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)})
				for i := range w.engine.durable.entries {
					rec, err := audit.Decode(w.engine.durable.entries[i].Bytes)
					must(t, err)
					must(t, r.Add(rec))
				}
				for at, account := range w.engine.durable.accounts {
					kept := func(c policy.Cap) bool { return c.Resource == at.Resource && c.Per == at.Per && c.Unit == at.Unit }
					if at.Key != k.id || !slices.ContainsFunc(key.Policy.Caps, kept) {
						continue
					}
					accounts++
					if got := r.Account(at); got != account {
						t.Errorf("seed %d: %v: %+v in the store, %+v from the record", seed, at, account, got)
					}
				}
				if n := r.Report().Uncounted; n > 0 {
					t.Errorf("seed %d: %d calls could not be counted", seed, n)
				}
			}
		}})
	}
	if accounts < 100 {
		t.Errorf("%d accounts were compared", accounts)
	}
}
