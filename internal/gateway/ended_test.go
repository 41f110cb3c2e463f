package gateway_test

import (
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/gateway"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
)

// witness keeps what a gateway tells of its calls.
type witness struct {
	mu    sync.Mutex
	ended []*gateway.Ended
}

func (w *witness) see(e *gateway.Ended) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = append(w.ended, e)
}
func (w *witness) all() []*gateway.Ended {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]*gateway.Ended(nil), w.ended...)
}

func newWitnessed(t *testing.T) (*world, *witness) {
	saw := &witness{}
	return buildWorld(t, setup{config: func(c *gateway.Config) { c.Ended = saw.see }}), saw
}

// last waits for the nth call to be told: that happens after its answer was handed over.
func (s *witness) nth(t *testing.T, n int) *gateway.Ended {
	t.Helper()
	eventually(t, "the call was told", func() bool { return len(s.all()) >= n })
	if all := s.all(); len(all) != n {
		t.Fatalf("%d calls were told, want %d: %+v", len(all), n, all[len(all)-1])
	}
	return s.all()[n-1]
}

func TestEachCallIsToldOnceWithWhatBecameOfIt(t *testing.T) {
	w, saw := newWitnessed(t)
	key, k := w.key(refundPolicy)
	charge := w.Seeded.Customers[0].Charges[0]
	parent := "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for i, tt := range []struct {
		name  string
		call  func() reply
		wants func(e *gateway.Ended, r reply) bool
	}{
		{"a refund that moves money", func() reply {
			return w.refund(key, charge, "2000", "Idempotency-Key", "k", "X-Agent-Run-Id", "run-7", "traceparent", parent)
		}, func(e *gateway.Ended, r reply) bool {
			return e.Verdict == policy.Allow && e.Code == "" && e.Operation == "refunds.create" && e.Route == "/v1/refunds" && e.Writes &&
				e.Key == k.ID && e.KeyName == k.Name && e.Upstream == "sandbox" && e.Mode == "test" && e.From == "127.0.0.1" && e.RunID == "run-7" &&
				e.Amount == money.Amount{Minor: 2000, Currency: "usd"} && e.USD == 20*money.Dollar &&
				len(e.Customers) <= 1 && e.Status == 200 && e.UpstreamStatus == 200 && e.Fate == "moved" && e.Repeat == "first" &&
				e.AuditID == r.Header.Get("Keybrake-Audit-Id") && e.Trace.ID == parent[3:35] && e.Trace.Parent == parent[36:52] &&
				e.Lookups == 1 && e.Took.Lookups > 0 && e.Took.Admit > 0 && e.Took.Upstream > 0 && e.Took.Settle > 0 && e.Took.Decide > 0 &&
				len(e.Caps) == 1 && e.Caps[0].Settled == int64(20*money.Dollar)
		}},
		{"its retry", func() reply { return w.refund(key, charge, "2000", "Idempotency-Key", "k") }, func(e *gateway.Ended, _ reply) bool {
			return e.Repeat == "attached" && e.Verdict == policy.Allow && e.Lookups == 0
		}},
		{"a read", func() reply { return w.call(key, "GET", "/v1/charges/"+charge, "") }, func(e *gateway.Ended, _ reply) bool {
			return e.Operation == "charges.retrieve" && !e.Writes && e.Took.Settle == 0 && e.Took.Admit > 0 && e.Took.Upstream > 0 && e.Status == 200
		}},
		{"a cap that is too small", func() reply { return w.refund(key, charge, "9900") }, func(e *gateway.Ended, r reply) bool {
			return e.Verdict == policy.Deny && e.Code == policy.CodeCapExceeded && e.Status == 403 && e.Fate == "" && e.UpstreamStatus == 0 && !e.Folded &&
				e.AuditID == r.Header.Get("Keybrake-Audit-Id")
		}},
		{"out of scope", func() reply { return w.call(key, "GET", "/v1/products", "") }, func(e *gateway.Ended, _ reply) bool {
			return e.Code == policy.CodeScopeDenied && e.Operation == "products.list" && e.Status == 401 && e.Took.Admit > 0
		}},
		{"the same again, which is counted with it", func() reply { return w.call(key, "GET", "/v1/products", "") }, func(e *gateway.Ended, r reply) bool {
			return e.Folded && e.Count == 0 && e.AuditID == r.Header.Get("Keybrake-Audit-Id")
		}},
		{"nobody's key", func() reply { return w.call("sk_test_mine", "GET", "/v1/charges", "") }, func(e *gateway.Ended, _ reply) bool {
			return e.Key == "" && e.Verdict == policy.Deny && e.Status == 401 && e.Operation == ""
		}},
		{"a question about the key itself", func() reply { return w.call(key, "GET", "/keybrake/v1/self", "") }, func(e *gateway.Ended, _ reply) bool {
			w.calls.Add(-1) // it is not on record
			return e.Operation == "keybrake.self" && e.Verdict == policy.Allow && e.Status == 200 && e.AuditID == ""
		}},
	} {
		r := tt.call()
		e := saw.nth(t, i+1)
		if !tt.wants(e, r) || e.Took.Total <= 0 || e.Request == "" || e.Status != r.Status {
			t.Errorf("%s: %d %s: told as %+v", tt.name, r.Status, r.Raw, e)
		}
	}
}

func TestWhatTheWireRefusedIsTold(t *testing.T) {
	w, saw := newWitnessed(t)
	w.partial.Store(true)
	id := w.Gateway.Refused(&net.TCPAddr{IP: net.IPv4(10, 0, 0, 9), Port: 1}, "two framings")
	if e := saw.nth(t, 1); e.Code != policy.CodeMalformed || e.Rule != "wire" || e.Status != 400 || e.AuditID != id || e.From != "10.0.0.9" {
		t.Errorf("%+v", e)
	}
}

func TestFoldedRefusalsAreSummedUp(t *testing.T) {
	w, saw := newWitnessed(t)
	key, k := w.key(refundPolicy)
	for range 50 {
		w.call(key, "GET", "/v1/products", "").want(t, 401, "keybrake_scope_denied")
	}
	w.Clock.Advance(2 * time.Second)
	eventually(t, "the fold was summed up", func() bool { all := saw.all(); return all[len(all)-1].Count > 0 })
	folded, summed := 0, int64(0)
	for _, e := range saw.all() {
		if e.Folded {
			folded++
		}
		if e.Count > 0 && (e.Key != k.ID || e.Code != policy.CodeScopeDenied || e.Operation != "products.list" || e.AuditID == "") {
			t.Errorf("%+v", e)
		}
		summed += e.Count
	}
	if folded == 0 || summed != int64(folded) {
		t.Errorf("%d refusals were folded, the summaries say %d", folded, summed)
	}
}

func TestATraceIsKeptOnRecordAndEchoed(t *testing.T) {
	const id, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	var leaked atomic.Int64
	way := &late{}
	w := buildWorld(t, setup{upstream: way})
	way.set(http.HandlerFunc(func(to http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Traceparent")+r.Header.Get("Tracestate") != "" {
			leaked.Add(1)
		}
		w.Sandbox.ServeHTTP(to, r)
	}))
	key, _ := w.key(refundPolicy)
	r := w.call(key, "GET", "/v1/charges", "limit=1", "traceparent", "00-"+id+"-"+span+"-01", "tracestate", "vendor=4242424242424242,b=1").want(t, 200, "")
	in := w.lastOf(audit.KindIntent)
	if in.Trace != id || in.ParentSpan != span || len(in.Span) != 16 || in.Span == span || in.TraceState != "vendor=[card],b=1" {
		t.Errorf("on record: %q %q %q %q", in.Trace, in.ParentSpan, in.Span, in.TraceState)
	}
	if got, want := r.Header.Get("Traceparent"), "00-"+id+"-"+in.Span+"-01"; got != want {
		t.Errorf("the agent gets %q, want %q", got, want)
	}
	if w.Sandbox.Arrivals() == 0 || leaked.Load() > 0 {
		t.Errorf("of %d requests %d carried the trace on to the upstream", w.Sandbox.Arrivals(), leaked.Load())
	}
	denied := w.call(key, "GET", "/v1/products", "", "traceparent", "00-"+id+"-"+span+"-00").want(t, 401, "keybrake_scope_denied")
	if got := denied.Header.Get("Traceparent"); len(got) != 55 || got[:36] != "00-"+id+"-" || got[52:] != "-00" {
		t.Errorf("a denial's trace is %q", got)
	}
	if r := w.call(key, "GET", "/v1/charges", "limit=1").want(t, 200, ""); r.Header.Get("Traceparent") != "" {
		t.Error("a trace came from nowhere")
	}
}
