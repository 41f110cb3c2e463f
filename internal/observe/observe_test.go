package observe_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keybrake/keybrake/internal/gateway"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/observe"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/sqlite"
	"github.com/keybrake/keybrake/internal/store/storetest"
	"github.com/keybrake/keybrake/internal/vault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// series are the lines of a scrape: "name{labels}" to its value.
type series map[string]string

func scrape(t testing.TB, m *observe.Metrics) series {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler(slog.New(slog.DiscardHandler)).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	body, err := io.ReadAll(w.Result().Body)
	if err != nil || w.Code != 200 {
		t.Fatalf("%d %v: %s", w.Code, err, body)
	}
	out := series{}
	for line := range strings.Lines(string(body)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "} "); ok {
			out[name+"}"] = value
		} else if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && line[0] != '#' {
			out[name] = value
		}
	}
	return out
}

// of lists the series of a metric, sorted.
func (s series) of(name string) []string {
	var out []string
	for k := range s {
		if k == name || strings.HasPrefix(k, name+"{") {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}

func (s series) want(t *testing.T, name, value string) {
	t.Helper()
	if s[name] != value {
		t.Errorf("%s is %q, want %q", name, s[name], value)
	}
}

// world is a store and a ring with one upstream.
type world struct {
	db      *sqlite.DB
	ring    *vault.Ring
	metrics *observe.Metrics
	ready   error
}

func newWorld(t testing.TB) *world {
	t.Helper()
	master, err := vault.EphemeralMaster()
	must(t, err)
	w := &world{ring: vault.NewRing(master), metrics: observe.NewMetrics("v1.2.3", "abc")}
	w.db, err = sqlite.Open(t.Context(), sqlite.Options{
		Path: filepath.Join(t.TempDir(), "kb.db"), Signer: master, MasterCheck: master.CheckValue(), Observer: w.metrics.Store(),
	})
	must(t, err)
	t.Cleanup(func() { must(t, w.db.Close()) })
	_, err = w.ring.SetBrake(vault.All, vault.Normal)
	must(t, err)
	w.metrics.Watch(observe.Sources{
		Ring: w.ring, Store: w.db, Figures: w.db.Figures, Ready: func(context.Context) error { return w.ready },
	})
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// keys makes n vault keys, each with a day cap of $100 on refunds and one of 10 calls an hour.
func (w *world) keys(t testing.TB, n int) []policy.KeyID {
	t.Helper()
	p := &policy.Policy{Timezone: time.UTC, Caps: []policy.Cap{
		storetest.DayCap("refunds", 100), {Resource: "refunds", Per: policy.PerHour, Unit: policy.UnitCalls, Limit: 10},
	}}
	var ids []policy.KeyID
	must(t, w.db.Update(t.Context(), store.LaneControl, func(tx store.Tx) error {
		for i := range n {
			id := policy.KeyID(fmt.Sprintf("key_%05d", i))
			version, err := tx.PutKey(store.KeyRow{ID: id, Name: "agent-" + string(id), Upstream: "up_1", Live: true, Digest: "d", Policy: []byte("p"), Doc: []byte("{}")})
			if err != nil {
				return err
			}
			if _, err := w.ring.PutKey(vault.Key{
				ID: id, Name: "agent-" + string(id), Version: version, Upstream: "up_1", Policy: p, PolicyDigest: "d", Brake: vault.Normal,
			}); err != nil {
				return err
			}
			ids = append(ids, id)
		}
		return nil
	}))
	return ids
}

// spend holds cents against a key's caps and, if settle, settles them.
func (w *world) spend(t testing.TB, id policy.KeyID, cents int64, settle bool) *ledger.Reservation {
	t.Helper()
	k, _ := w.ring.Key(id)
	a, err := w.db.Admit(t.Context(), storetest.Admission(id, k.Version, k.Policy.Caps, storetest.USD("refunds", cents)))
	must(t, err)
	if a.Verdict != policy.Allow {
		t.Fatalf("%+v", a)
	}
	if settle {
		_, err = w.db.Resolve(t.Context(), storetest.Settle(a.Reservation))
		must(t, err)
	}
	return a.Reservation
}

func TestEveryMetricThatIsDefinedIsExposed(t *testing.T) {
	w := newWorld(t)
	id := w.keys(t, 1)[0]
	w.metrics.Watch(observe.Sources{
		Ring: w.ring, Store: w.db, Figures: w.db.Figures, Ready: func(context.Context) error { return nil }, Alerts: func() int64 { return 3 },
	})
	w.spend(t, id, 9000, true)
	w.metrics.Call(&gateway.Ended{
		Key: id, Upstream: "stripe", Operation: "refunds.create", Writes: true, Verdict: policy.Allow, Code: "keybrake_upstream_unknown", Fate: "moved",
		USD: 90 * money.Dollar, Lookups: 1, Took: gateway.Timings{Admit: 1, Upstream: 1, Wait: 1, Total: 4}, Caps: []store.CapState{{}},
	})
	got := scrape(t, w.metrics)
	for _, m := range observe.Definitions() {
		name := m.Name
		if m.Kind == observe.Histogram {
			name += "_count"
		}
		if len(got.of(name)) == 0 {
			t.Errorf("%s is not exposed", name)
		}
		if m.Help == "" || !strings.HasSuffix(m.Help, ".") {
			t.Errorf("%s is not explained in a sentence", m.Name)
		}
	}
	for name := range got {
		family := strings.SplitN(name, "{", 2)[0]
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base, ok := strings.CutSuffix(family, suffix); ok && slices.ContainsFunc(observe.Definitions(), func(m observe.Metric) bool { return m.Name == base && m.Kind == observe.Histogram }) {
				family = base
			}
		}
		known := slices.ContainsFunc(observe.Definitions(), func(m observe.Metric) bool { return m.Name == family })
		if !known && !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") {
			t.Errorf("%s is exposed and not defined", name)
		}
	}
	got.want(t, `keybrake_alerts_outstanding`, "3")
	got.want(t, `keybrake_build_info{revision="abc",version="v1.2.3"}`, "1")
}

func TestWhatAlertRulesWaitForBeginsAtZero(t *testing.T) {
	got := scrape(t, observe.NewMetrics("v", "r"))
	for _, name := range []string{`keybrake_outcomes_total{fate="unknown"}`, `keybrake_denials_total{code="keybrake_upstream_credential"}`, "keybrake_store_failures_total"} {
		got.want(t, name, "0")
	}
}

func TestCallsAreCountedByWhatBecameOfThem(t *testing.T) {
	w := newWorld(t)
	allowed := gateway.Ended{Upstream: "stripe", Operation: "refunds.create", Writes: true, Verdict: policy.Allow, Fate: "moved", USD: 20 * money.Dollar, Took: gateway.Timings{Upstream: time.Second, Total: time.Second}}
	retried := allowed
	retried.Repeat = "attached"
	denied := gateway.Ended{Operation: "refunds.create", Writes: true, Code: policy.CodeCapExceeded, Rule: "caps.refunds/day"}
	param := gateway.Ended{Operation: "payouts.create", Writes: true, Code: policy.CodeParamDenied, Rule: "params.payouts.create.amount"}
	param2 := param
	param2.Rule = "params.payouts.create.currency"
	folded := gateway.Ended{Operation: "", Code: policy.CodeKeyInvalid, Folded: true}
	for _, e := range []gateway.Ended{allowed, allowed, retried, denied, param, param2, folded, {Count: 41, Code: policy.CodeKeyInvalid}} {
		w.metrics.Call(&e)
	}
	got := scrape(t, w.metrics)
	got.want(t, `keybrake_calls_total{operation="refunds.create",verdict="allow"}`, "3")
	got.want(t, `keybrake_calls_total{operation="refunds.create",verdict="deny"}`, "1")
	got.want(t, `keybrake_calls_total{operation="none",verdict="deny"}`, "1") // the summary counts nothing twice
	got.want(t, `keybrake_denials_total{code="keybrake_cap_exceeded"}`, "1")
	got.want(t, `keybrake_denials_by_rule_total{rule="caps.refunds/day"}`, "1")
	got.want(t, `keybrake_denials_by_rule_total{rule="params"}`, "2")
	got.want(t, `keybrake_outcomes_total{fate="moved"}`, "3")
	got.want(t, `keybrake_moved_usd_total{operation="refunds.create"}`, "40") // a retry moves nothing
	got.want(t, `keybrake_upstream_seconds_sum{upstream="stripe"}`, "3")
	got.want(t, `keybrake_overhead_seconds_count{access="write"}`, "6")
}

func TestTheStateIsReadAtTheScrape(t *testing.T) {
	w := newWorld(t)
	ids := w.keys(t, 4)
	r := w.spend(t, ids[0], 100, false)
	s := storetest.Settle(r)
	s.Fate = ledger.Fate{State: ledger.Unresolved, Why: "no answer"}
	_, err := w.db.Resolve(t.Context(), s)
	must(t, err)
	w.spend(t, ids[3], 100, false)
	must(t, w.db.SignHead(t.Context()))
	_, err = w.ring.SetBrake(vault.Scope{Key: ids[1]}, vault.Stopped)
	must(t, err)
	_, err = w.ring.SetBrake(vault.Scope{Key: ids[2]}, vault.ReadOnly)
	must(t, err)
	got := scrape(t, w.metrics)
	for name, value := range map[string]string{
		"keybrake_reservations_open": "2", "keybrake_reservations_unresolved": "1", "keybrake_audit_height": "3", "keybrake_audit_signed_height": "3",
		"keybrake_ready": "1", `keybrake_brake{scope="all"}`: "0", `keybrake_keys{state="active"}`: "2", `keybrake_keys{state="stopped"}`: "1",
		`keybrake_keys{state="read-only"}`: "1", "keybrake_calls_in_flight": "0", "keybrake_store_failures_total": "0", "keybrake_store_batch_callers_sum": "3",
	} {
		got.want(t, name, value)
	}
	if got["keybrake_reservations_unresolved_oldest_seconds"] == "0" || got["keybrake_audit_signed_timestamp_seconds"] == "0" {
		t.Error("neither age nor time is told")
	}
	_, err = w.ring.SetBrake(vault.All, vault.Stopped)
	must(t, err)
	w.ready = errors.New("no")
	got = scrape(t, w.metrics)
	got.want(t, `keybrake_brake{scope="all"}`, "2")
	got.want(t, "keybrake_ready", "0")
	if len(got.of("keybrake_alerts_outstanding")) != 0 {
		t.Error("there are no alerts, and a metric of them")
	}
}

// TestCardinalityIsBounded: ten thousand keys, all with calls and many with tight caps, make no more series than twenty.
func TestCardinalityIsBounded(t *testing.T) {
	w := newWorld(t)
	ids := w.keys(t, 10_000)
	before := len(scrape(t, w.metrics))
	for i, id := range ids[:100] { // $50.01 to $51.00 of $100: all of them tight
		w.spend(t, id, 5001+int64(i), true)
	}
	w.spend(t, ids[9_999], 9900, true) // the tightest, among the last of all
	for i, id := range ids {
		w.metrics.Call(&gateway.Ended{
			Key: id, KeyName: "agent-" + string(id), Upstream: "stripe", RunID: string(id), Operation: "refunds.create", Writes: true, Verdict: policy.Allow, Fate: "moved",
			Took: gateway.Timings{Upstream: 1, Admit: 1, Total: 2}, USD: money.Dollar, Caps: []store.CapState{{}}, AuditID: fmt.Sprint(i),
		})
	}
	var got series
	const tightest = `keybrake_cap_used_ratio{cap="refunds/day usd",key="agent-key_09999"}`
	for range 21 { // a round through all keys
		got = scrape(t, w.metrics)
	}
	for range 200 { // a scrape that the store kept waiting looked at no key; their turn comes again
		if got[tightest] != "" {
			break
		}
		got = scrape(t, w.metrics)
	}
	if n := len(got.of("keybrake_cap_used_ratio")); n != 20 {
		t.Errorf("%d caps are shown", n)
	}
	got.want(t, tightest, "0.99")
	got.want(t, `keybrake_cap_left{cap="refunds/day usd",key="agent-key_09999",unit="usd"}`, "1")
	got.want(t, `keybrake_cap_left{cap="refunds/day usd",key="agent-key_00099",unit="usd"}`, "49")
	if n := len(got) - before; n > 200 {
		t.Errorf("%d series came with ten thousand keys", n)
	}
	for i := range 10_000 { // what cannot happen: operations, codes, rules and upstreams without end
		w.metrics.Call(&gateway.Ended{Operation: policy.OperationName(fmt.Sprint("op", i)), Code: policy.Code(fmt.Sprint("code", i)), Rule: fmt.Sprint("scopes.r", i), Upstream: fmt.Sprint("up", i), Took: gateway.Timings{Upstream: 1}})
	}
	got = scrape(t, w.metrics)
	if n := len(got); n > 2001+201+1001+51*17+500 {
		t.Errorf("%d series", n)
	}
	for _, name := range []string{`keybrake_calls_total{operation="other",verdict="deny"}`, `keybrake_denials_total{code="other"}`, `keybrake_denials_by_rule_total{rule="other"}`, `keybrake_upstream_seconds_count{upstream="other"}`} {
		if got[name] == "" {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestACapThatIsSpentShowsAtTheNextScrape(t *testing.T) {
	w := newWorld(t)
	ids := w.keys(t, 2_000)
	for range 5 {
		scrape(t, w.metrics) // a round is over
	}
	w.spend(t, ids[1234], 8000, false)
	w.metrics.Call(&gateway.Ended{Key: ids[1234], Caps: []store.CapState{{}}})
	scrape(t, w.metrics).want(t, `keybrake_cap_used_ratio{cap="refunds/day usd",key="agent-key_01234"}`, "0.8")
	must(t, errorOf(w.ring.ChangeKey(ids[1234], func(k vault.Key) vault.Key { k.Revoked = time.Now(); return k })))
	if got := scrape(t, w.metrics).of("keybrake_cap_used_ratio"); len(got) != 0 {
		t.Errorf("a revoked key's cap is shown: %v", got)
	}
}

func errorOf(_ any, err error) error { return err }

func TestALineTellsWhatIsAskedOfIt(t *testing.T) {
	var out bytes.Buffer
	l := observe.NewCallLog(slog.New(slog.NewJSONHandler(&out, nil)), func() { t.Error("dropped") })
	l.Call(&gateway.Ended{
		AuditID: "aud_1_7", Request: "req_kb1", Trace: gateway.Trace{ID: "t", Parent: "p", Span: "s", State: "a=sk_live_1234567890abcdef"},
		Key: "key_1", KeyName: "agent-a", Upstream: "stripe", Mode: "live", From: "10.0.0.1", RunID: "run vault_key_live_abcdefghijkl 4242424242424242",
		Operation: "refunds.create", Method: "POST", Route: "/v1/refunds", Writes: true, Verdict: policy.Allow, Amount: money.Amount{Minor: 2000, Currency: "eur"},
		USD: 21*money.Dollar + 800_000, Customers: []policy.CustomerID{"cus_1", "sk_live_1234567890abcdef"}, Status: 200, UpstreamStatus: 200, Fate: "moved", Repeat: "first", Lookups: 2,
		Took: gateway.Timings{Read: 1e3, Wait: 2e3, Decide: 3e3, Lookups: 4e3, Admit: 5e3, Upstream: 6e3, Settle: 7e3, Total: 28e3},
	})
	l.Call(&gateway.Ended{AuditID: "aud_1_9", Folded: true, Code: policy.CodeScopeDenied})
	l.Call(&gateway.Ended{AuditID: "aud_1_9", Code: policy.CodeScopeDenied, Rule: "scopes", Status: 401, Count: 12})
	l.Close()
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines: %s", len(lines), out.String())
	}
	var got map[string]any
	must(t, json.Unmarshal([]byte(lines[0]), &got))
	for key, want := range map[string]any{
		"msg": "call", "level": "INFO", "audit_id": "aud_1_7", "key": "key_1", "key_name": "agent-a", "operation": "refunds.create", "verdict": "allow", "amount": 2000.0,
		"currency": "eur", "usd": "21.80", "status": 200.0, "trace_id": "t", "span_id": "s", "parent_span_id": "p", "trace_state": "a=[secret]", "run_id": "run [secret] [card]",
		"read_us": 1.0, "wait_us": 2.0, "decide_us": 3.0, "lookups_us": 4.0, "admit_us": 5.0, "upstream_us": 6.0, "settle_us": 7.0, "total_us": 28.0, "lookups": 2.0,
	} {
		if got[key] != want {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
	if c, _ := got["customers"].([]any); len(c) != 2 || c[0] != "cus_1" || c[1] != "[secret]" {
		t.Errorf("customers are %v", got["customers"])
	}
	got = nil
	must(t, json.Unmarshal([]byte(lines[1]), &got))
	if got["msg"] != "equal calls refused" || got["count"] != 12.0 || got["code"] != string(policy.CodeScopeDenied) || got["total_us"] != nil {
		t.Errorf("the summary: %v", got)
	}
}

// slowWriter is a reader of the log that stands still until it is let go.
type slowWriter struct{ gate chan struct{} }

func (s *slowWriter) Write(p []byte) (int, error) { <-s.gate; return len(p), nil }

func TestALogThatNobodyReadsKeepsNoCallWaiting(t *testing.T) {
	slow := &slowWriter{gate: make(chan struct{})}
	var mu sync.Mutex
	dropped := 0
	l := observe.NewCallLog(slog.New(slog.NewJSONHandler(slow, nil)), func() { mu.Lock(); dropped++; mu.Unlock() })
	for range 10_000 { // returns, or the test never ends
		l.Call(&gateway.Ended{})
	}
	mu.Lock()
	if dropped < 5_000 || dropped > 6_000 {
		t.Errorf("%d lines of 10000 were dropped", dropped)
	}
	mu.Unlock()
	close(slow.gate)
	l.Close()
}

func BenchmarkCall(b *testing.B) {
	m := observe.NewMetrics("v", "r")
	l := observe.NewCallLog(slog.New(slog.NewJSONHandler(io.Discard, nil)), func() {})
	defer l.Close()
	e := gateway.Ended{
		AuditID: "aud_1_7", Request: "req_kb1", Key: "key_1", KeyName: "agent-a", Upstream: "stripe", Mode: "live", From: "10.0.0.1", Operation: "refunds.create", Method: "POST",
		Route: "/v1/refunds", Writes: true, Verdict: policy.Allow, Amount: money.Amount{Minor: 2000, Currency: "eur"}, USD: 21 * money.Dollar,
		Customers: []policy.CustomerID{"cus_1"}, Status: 200, UpstreamStatus: 200, Fate: "moved", Caps: []store.CapState{{}},
		Took: gateway.Timings{Admit: 5e6, Upstream: 6e6, Total: 28e6},
	}
	for name, f := range map[string]func(*gateway.Ended){"metrics": m.Call, "line": l.Call} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f(&e)
			}
		})
	}
}

func BenchmarkScrapeOfTenThousandKeys(b *testing.B) {
	w := newWorld(b)
	w.keys(b, 10_000)
	b.ReportAllocs()
	for b.Loop() {
		scrape(b, w.metrics)
	}
}
