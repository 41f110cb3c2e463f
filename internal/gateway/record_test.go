package gateway_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/gateway"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

func TestTheRecordOfACallTellsAllThatIsAsked(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(listPolicy(w, ""))
	c := w.Seeded.Customers[0]
	r := w.refund(key, c.Charges[0], "2000", "User-Agent", "stripe-go/85", "X-Agent-Run-Id", "run-7", "Idempotency-Key", "k").want(t, 200, "")
	_, seq, err := audit.ParseID(r.Header.Get("Keybrake-Audit-Id"))
	must(t, err)
	in := w.records()[seq-1]
	for what, ok := range map[string]bool{
		"principal":      in.Key == k.ID && in.KeyName == k.Name && in.Upstream == w.up.ID && in.Mode == "test" && in.Policy == k.PolicyDigest,
		"operation":      in.Operation == "refunds.create" && in.Method == "POST" && in.Route == "/v1/refunds",
		"customer":       len(in.Customers) == 1 && string(in.Customers[0]) == c.ID,
		"amounts":        len(in.Effects) == 1 && in.Effects[0].Amount == money.Amount{Minor: 2000, Currency: "usd"} && in.Effects[0].USD == 20*money.Dollar && in.Effects[0].Bucket == "refunds",
		"caps after it":  len(in.Caps) == 1 && in.Caps[0].Held == int64(20*money.Dollar) && in.Caps[0].Left == int64(480*money.Dollar),
		"verdict":        in.Verdict == "allow" && in.Reservation == int64(w.last(k.ID).ID) && in.Repeat == "first",
		"agent":          in.UserAgent == "stripe-go/85" && in.RunID == "run-7" && in.From == "127.0.0.1",
		"latency":        in.OursMicros > 0 && in.TheirsMicros > 0, // a look-up was made
		"our request id": strings.HasPrefix(in.Request, "req_kb"),
	} {
		if !ok {
			t.Errorf("the intent does not tell the %s: %+v", what, in)
		}
	}
	out := w.outcome()
	last := w.Sandbox.Journal()[w.Sandbox.Arrivals()-1]
	for what, ok := range map[string]bool{
		"intent":              out.Ref == seq && out.Request == in.Request,
		"fate":                out.Fate == "moved" && len(out.Effects) == 1 && out.Effects[0].USD == 20*money.Dollar && out.Effects[0].Object == r.str("id"),
		"upstream request id": out.UpstreamRequest == last.RequestID && out.UpstreamRequest == r.Header.Get("Request-Id"),
		"statuses":            out.Status == 200 && out.UpstreamStatus == 200,
		"caps after it":       len(out.Caps) == 1 && out.Caps[0].Held == 0 && out.Caps[0].Settled == int64(20*money.Dollar) && out.Caps[0].Left == int64(480*money.Dollar),
		"latency":             out.OursMicros > 0 && out.TheirsMicros > in.TheirsMicros,
	} {
		if !ok {
			t.Errorf("the outcome does not tell the %s: %+v", what, out)
		}
	}
	if got := r.Header.Get("Keybrake-Remaining"); got != "refunds/day=480.00" {
		t.Errorf("the agent is told %q", got)
	}
}

func TestTheRecordOfADenialHasEveryRule(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(`
name: agent-support-strict-test
scopes: {charges: read, refunds: write}
caps: [{resource: refunds, per: day, usd: 10.00}, {resource: refunds, per: hour, usd: 5.00}, {resource: refunds, per: call, usd: 4.00}]
customers: any
params: {refunds.create: {reason: {in: [duplicate]}}}
`)
	charge := w.Seeded.Customers[0].Charges[0]
	w.refund(key, charge, "2000", "X-Agent-Run-Id", "r").want(t, 403, "keybrake_cap_exceeded")
	got := w.lastOf(audit.KindDenied)
	if got.Key != k.ID || got.Operation != "refunds.create" || got.Status != 403 || got.RunID != "r" || got.Verdict != "deny" {
		t.Errorf("%+v", got)
	}
	w.call(key, "POST", "/v1/refunds", "charge="+charge+"&amount=2000&reason=fraudulent").want(t, 403, "keybrake_param_denied")
	w.call(key, "GET", "/v1/charges/"+charge, "").want(t, 200, "")
	if got := w.outcome(); got.Object != charge || got.Route != "/v1/charges/{charge}" {
		t.Errorf("the record of a read names %q of %q", got.Object, got.Route)
	}
}

func TestTwoFullCapsAreBothOnRecord(t *testing.T) {
	w := newWorld(t)
	key, _ := w.key(moneyPolicy(`resource: refunds, per: day, usd: 10.00`, `resource: "*", per: hour, usd: 5.00`))
	for _, cents := range []string{"2000", ""} {
		w.refund(key, w.Seeded.Customers[0].Charges[0], cents).want(t, 403, "keybrake_cap_exceeded")
		var rules []string
		for _, f := range w.lastOf(audit.KindDenied).Failures {
			rules = append(rules, f.Rule)
		}
		if got := strings.Join(rules, " "); !strings.Contains(got, "caps.refunds/day") || !strings.Contains(got, "caps.*/hour") {
			t.Errorf("%s", got)
		}
	}
}

func TestAScanIsCountedNotWritten(t *testing.T) {
	begin := time.Now()
	turns := func() int { return 1 + int(time.Since(begin).Seconds()) } // a count is written once a second
	w := newWorld(t)
	key, _ := w.key(refundPolicy)
	first := w.call(key, "GET", "/v1/products", "").Header.Get("Keybrake-Audit-Id")
	for range 200 {
		if got := w.call(key, "GET", "/v1/products", "").Header.Get("Keybrake-Audit-Id"); got == "" {
			t.Fatal("a counted denial must name the record that it is counted in")
		}
	}
	for range 100 {
		w.call("vault_key_test_nonsense", "GET", "/v1/charges", "").want(t, 401, "keybrake_key_invalid")
	}
	if first == "" {
		t.Error("the first denial has no record")
	}
	if n := len(w.records()); n > 8+2*turns() {
		t.Errorf("%d records of a scan", n)
	}
	// a cap's end is hit in loops, too: after a look-up, before one, and without any
	open, _ := w.key(moneyPolicy(`resource: refunds, per: day, usd: 10.00`, `resource: payment_intents, per: hour, calls: 1`))
	w.call(open, "POST", "/v1/payment_intents", "amount=100&currency=usd").want(t, 200, "")
	before := len(w.records())
	begin = time.Now()
	for range 50 {
		w.refund(open, w.Seeded.Customers[0].Charges[0], "").want(t, 403, "keybrake_cap_exceeded")
		w.refund(open, w.Seeded.Customers[0].Charges[0], "2000").want(t, 403, "keybrake_cap_exceeded")
		w.call(open, "POST", "/v1/payment_intents", "amount=100&currency=usd").want(t, 403, "keybrake_cap_exceeded")
	}
	if n := len(w.records()) - before; n > 6+3*turns() {
		t.Errorf("%d records of 150 equal denials", n)
	}
	// that none went uncounted is checked when the world ends
}

func TestOversizedBodiesAreRecordedUnderTheirKey(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(refundPolicy)
	w.call(key, "POST", "/v1/refunds", "charge=ch_1&metadata[a]="+strings.Repeat("a", gateway.MaxBody)).want(t, 400, "keybrake_request_malformed")
	if got := w.lastOf(audit.KindDenied); got.Key != k.ID {
		t.Errorf("%+v", got)
	}
	w.call("sk_test_x", "POST", "/v1/refunds", strings.Repeat("a", gateway.MaxBody+1)).want(t, 401, "keybrake_key_invalid")
}

func TestAnInvariantThatBreaksAfterTheSendIsAnUnknownOutcome(t *testing.T) {
	adapter := &hookedAdapter{}
	w := buildWorld(t, setup{config: func(c *gateway.Config) { adapter.Adapter, c.Adapter = c.Adapter, adapter }})
	key, k := w.key(refundPolicy)
	charge := w.Seeded.Customers[0].Charges[0]
	adapter.beforeOutcome = func() { panic("an invariant") }
	w.refund(key, charge, "2000", "Idempotency-Key", "k").want(t, 504, "keybrake_upstream_unknown")
	if got := w.last(k.ID); got.State != ledger.Unresolved {
		t.Fatalf("%s", got.State)
	}
	w.call(key, "GET", "/v1/charges/"+charge, "")
	adapter.beforeOutcome = nil
	w.refund(key, charge, "2000", "Idempotency-Key", "k").want(t, 200, "")
	w.wantUSD(k.ID, "refunds", 0, 2000)
	if n := len(w.Sandbox.Effects()); n != 1 {
		t.Fatalf("%d effects", n)
	}
}

func TestAnInvariantThatBreaksBeforeTheSendIsA503(t *testing.T) {
	adapter := &hookedAdapter{}
	w := buildWorld(t, setup{config: func(c *gateway.Config) { adapter.Adapter, c.Adapter = c.Adapter, adapter }})
	w.partial.Store(true) // nobody knows what broke: the log has it, the record has not
	key, k := w.key(refundPolicy)
	adapter.afterResolve = func() { panic("an invariant") }
	w.refund(key, w.Seeded.Customers[0].Charges[0], "2000").want(t, 503, "keybrake_unavailable")
	if n := len(w.reservations(k.ID)); n != 0 || w.arrivals("POST") != 0 {
		t.Fatalf("%d reservations", n)
	}
}

func TestNothingIsSentThatCannotBeRecorded(t *testing.T) {
	w := newWorld(t)
	w.partial.Store(true)
	key, k := w.key(moneyPolicy(allPerDay))
	charge := w.Seeded.Customers[0].Charges[0]
	w.Faults.failAdmit.Store(true)
	r := w.call(key, "POST", "/v1/payment_intents", "amount=100&currency=usd", "Idempotency-Key", "k").want(t, 503, "keybrake_unavailable")
	if r.Header.Get("Stripe-Should-Retry") != "true" {
		t.Errorf("%v", r.Header)
	}
	if n := w.arrivals("POST"); n != 0 {
		t.Fatalf("%d were sent", n)
	}
	r = w.call(key, "GET", "/v1/charges/"+charge, "").want(t, 503, "keybrake_unavailable")
	if strings.Contains(r.Raw, charge) {
		t.Error("a read's answer was shown without a record")
	}
	w.Faults.failAdmit.Store(false)
	w.Faults.failLog.Store(true)
	w.call(key, "GET", "/v1/disputes", "").want(t, 503, "keybrake_unavailable") // a denial that has no record is none
	w.Faults.failLog.Store(false)
	w.Faults.failPeek.Store(true)
	w.call(key, "POST", "/v1/payment_intents", "amount=100&currency=usd").want(t, 503, "keybrake_unavailable")
	w.Faults.failPeek.Store(false)
	w.Faults.failAttached.Store(true)
	w.call(key, "POST", "/v1/payment_intents", "amount=100&currency=usd", "Idempotency-Key", "k").want(t, 503, "keybrake_unavailable")
	w.Faults.failAttached.Store(false)
	if n := w.arrivals("POST"); n != 0 {
		t.Fatalf("%d were sent", n)
	}
	w.call(key, "POST", "/v1/payment_intents", "amount=100&currency=usd", "Idempotency-Key", "k").want(t, 200, "")
	w.wantUSD(k.ID, "*", 0, 100)
}

func TestTheAgentIsToldTheTruthThatCouldNotBeWritten(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(moneyPolicy(allPerDay))
	charge := w.Seeded.Customers[0].Charges[0]
	w.Faults.failResolve.Store(true)
	r := w.refund(key, charge, "2000", "Idempotency-Key", "k").want(t, 200, "")
	if r.str("object") != "refund" || r.Header.Get("Keybrake-Settlement") != "pending" {
		t.Fatalf("%v %s", r.Header, r.Raw)
	}
	w.wantUSD(k.ID, "*", 2000, 0) // the hold stays
	if err := w.Gateway.Ready(t.Context()); err == nil {
		t.Error("it says that it is ready")
	}
	w.refund(key, charge, "100").want(t, 503, "keybrake_unavailable")
	w.call(key, "GET", "/v1/charges/"+charge, "").want(t, 200, "")
	if n := w.arrivals("POST"); n != 1 {
		t.Fatalf("%d were sent", n)
	}
	w.Faults.failResolve.Store(false)
	eventually(t, "it is settled", func() bool { return w.Gateway.Ready(t.Context()) == nil })
	w.wantUSD(k.ID, "*", 0, 2000)
	w.refund(key, charge, "100").want(t, 200, "")
}

func TestLookupsOfARunawayAgentWaitTheirTurn(t *testing.T) {
	w := buildWorld(t, setup{config: func(c *gateway.Config) { c.LookupsPerSecond = 0.0001; c.LookupWait = deadline }})
	key, _ := w.key(refundPolicy)
	charge := w.Seeded.Customers[0].Charges[0]
	last := reply{Status: 400}
	for range 150 { // a burst is free
		if last = w.refund(key, charge, "99999"); last.Status == 503 {
			break
		}
	}
	last.want(t, 503, "keybrake_unavailable")
	if got := w.lastOf(audit.KindDenied); got.Status != 503 || !strings.Contains(got.Why, "look-ups") {
		t.Errorf("%+v", got)
	}
	other, _ := w.key(refundPolicy)
	w.refund(other, charge, "100").want(t, 200, "")
}

func TestSelfTellsAnAgentWhatItMayDo(t *testing.T) {
	w := newWorld(t)
	w.partial.Store(true) // it asks nobody and moves nothing: it has no record unless it is refused
	key, k := w.key(listPolicy(w, ""))
	w.refund(key, w.Seeded.Customers[0].Charges[0], "2000").want(t, 200, "")
	r := w.call(key, "GET", "/keybrake/v1/self", "").want(t, 200, "")
	for _, part := range []string{string(k.ID), `"refunds":"write"`, `"settled":"20.00"`, `"left":"480.00"`, w.Seeded.Customers[1].ID} {
		if !strings.Contains(r.Raw, part) {
			t.Errorf("%s is missing: %s", part, r.Raw)
		}
	}
	w.call("", "GET", "/keybrake/v1/self", "").want(t, 401, "keybrake_key_invalid")
	w.call(key, "POST", "/keybrake/v1/self", "").want(t, 401, "keybrake_scope_denied")
	if n := w.arrivals("GET"); n != 1 {
		t.Errorf("%d arrivals, only the refund's look-up may be there", n)
	}
}

func TestEveryFaultLeavesARecordOfItsCall(t *testing.T) {
	w := buildWorld(t, setup{deadline: deadline})
	key, _ := w.key(refundPolicy + "repeat_unknown: allow\n")
	charge := w.Seeded.Customers[0].Charges[0]
	for _, kind := range []sandbox.FaultKind{sandbox.FaultCut, sandbox.FaultHang, sandbox.FaultGarbage, sandbox.FaultCutBody, sandbox.FaultError, sandbox.FaultRateLimit} {
		for _, method := range []string{"GET", "POST"} {
			must(t, w.Sandbox.Inject(sandbox.Fault{Kind: kind, Method: method}))
			w.call(key, "GET", "/v1/charges/"+charge, "")
			w.refund(key, charge, "10")
			w.Sandbox.ClearFaults()
		}
	}
	got := w.account(w.keys[0].ID, "refunds", policy.PerDay, policy.UnitUSD)
	if got.Held == 0 || got.Settled == 0 {
		t.Fatalf("%+v", got)
	}
}
