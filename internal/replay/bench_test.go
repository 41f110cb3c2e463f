package replay

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
)

// BenchmarkReplay decodes and judges records as a busy account leaves them: of ten, four of two writes with money and six
// of three reads, of a hundred keys. It reports the memory that is live at the end, however many there were.
func BenchmarkReplay(b *testing.B) {
	p := &policy.Policy{
		Scopes: map[policy.Resource]policy.Access{"refunds": policy.Write, "charges": policy.Read},
		Caps: []policy.Cap{
			{Resource: "refunds", Per: policy.PerDay, Unit: policy.UnitUSD, Limit: 50_000_000_000},
			{Resource: "refunds", Per: policy.PerHour, Unit: policy.UnitCalls, Limit: 1000},
		},
		Customers: policy.Customers{Any: true}, Timezone: time.UTC,
	}
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	r := New(Options{Policy: p, Examples: 20})
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	chain := audit.NewChain(audit.FirstChain)
	seq, rsv := int64(0), int64(0)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		seq++
		at = at.Add(500 * time.Millisecond)
		rec := recordOf(seq, &rsv, at)
		body := chain.Append(rec).Bytes
		b.StartTimer()
		decoded, err := audit.Decode(body)
		if err != nil {
			b.Fatal(err)
		}
		if err := r.Add(decoded); err != nil {
			b.Fatal(err)
		}
	}
	var after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-min(before.HeapAlloc, after.HeapAlloc))/1e6, "live-MB")
	if got := r.Report(); got.Allowed.Calls+got.NewlyRefused.Calls != got.Calls {
		b.Fatalf("%+v", got.Verdicts)
	}
}

func recordOf(seq int64, rsv *int64, at time.Time) *audit.Record {
	n := (seq - 1) / 2
	key := policy.KeyID(fmt.Sprintf("key_%016d", n%100))
	rec := &audit.Record{Kind: audit.KindIntent, At: at, Key: key, KeyName: "agent-support-refunds-runner", Upstream: "up_1", Verdict: "allow", From: "10.0.0.1", Request: "req_kb_0123456789"}
	writes := n%5 < 2
	if seq%2 == 0 {
		rec.Kind, rec.Ref, rec.Fate, rec.Status, rec.UpstreamStatus, rec.Verdict = audit.KindOutcome, seq-1, "moved", 200, 200, ""
	}
	if !writes {
		rec.Operation, rec.Route, rec.Method = "charges.retrieve", "/v1/charges/{charge}", "GET"
		if rec.Kind == audit.KindIntent {
			rec.Judge(&policy.Operation{Name: rec.Operation, Access: policy.Read, Customer: policy.CustomerTie{Kind: policy.TieLookup}}, true)
		}
		return rec
	}
	rec.Operation, rec.Route, rec.Method = "refunds.create", "/v1/refunds", "POST"
	amount := money.Amount{Minor: 1000 + n%5000, Currency: "usd"}
	usd, _ := money.Dollars().USD(amount.Minor)
	if rec.Kind == audit.KindIntent {
		*rsv++
		rec.Judge(&policy.Operation{
			Name: rec.Operation, Access: policy.Write, Customer: policy.CustomerTie{Kind: policy.TieKnown},
			Effects: []policy.Effect{{Bucket: "refunds", Known: true, Amount: amount, Quote: money.Dollars(), USD: usd}},
		}, true)
	} else {
		rec.Effects = []audit.Effect{{Bucket: "refunds", Amount: amount, USD: usd, Object: fmt.Sprintf("re_%d", n)}}
	}
	rec.Reservation = *rsv
	return rec
}
