package ledger

import (
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
)

// BenchmarkReserveAndResolve is one call of 64 in a batch, over rows in memory and one hot cap in dollars: what
// the ledger itself costs in a store's transaction.
func BenchmarkReserveAndResolve(b *testing.B) {
	const batch = 64
	caps := []policy.Cap{dollars(refunds, policy.PerDay, 1<<40)}
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	key := AccountKey{agent, refunds, policy.PerDay, policy.UnitUSD, Label(policy.PerDay, now, time.UTC)}
	rows := newShelf()
	book := NewBook(rows, 1)
	b.ReportAllocs()
	for i := range b.N {
		if i%batch == 0 {
			rows.accounts[key] = book.Changes().Accounts[key]
			book = NewBook(rows, book.next)
		}
		req := &Request{
			Key: agent, Operation: "refunds.create", Caps: caps, Zone: time.UTC, Effects: []policy.Effect{gross(refunds, 100)},
			Counts: []policy.Resource{refunds},
		}
		r, full, err := book.Reserve(now, req)
		if r == nil || err != nil {
			b.Fatalf("%+v, %v", full, err)
		}
		if _, err := book.Resolve(now, r.ID, Fate{State: Settled, Moved: []Moved{{Amount: usd(100), Object: "re_1"}}}); err != nil {
			b.Fatal(err)
		}
	}
}
