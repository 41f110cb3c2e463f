package gateway_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
	"github.com/keybrake/keybrake/internal/vault"
)

// deadline is what the worlds wait for an upstream that hangs: long for everything that answers, on a machine that has
// other work as well, short for whoever runs the tests.
const deadline = time.Second

// deadlineFor is the deadline where something hangs, and the gateway's own where everything answers.
func deadlineFor(f sandbox.Fault) time.Duration {
	if f.Kind == sandbox.FaultHang {
		return deadline
	}
	return 0
}

func TestEveryOutcomeKeepsOrReleasesItsHold(t *testing.T) {
	const held, settled, released = ledger.Unresolved, ledger.Settled, ledger.Released
	for _, c := range []struct {
		name   string
		fault  sandbox.Fault
		status int
		code   string
		state  ledger.State
		proof  ledger.Proof
		effect bool // the refund happened
		replay ledger.State
	}{
		{"an error before the effect is unknown", sandbox.Fault{Kind: sandbox.FaultError}, 504, "keybrake_upstream_unknown", held, "", false, settled},
		{"an error after the effect is unknown", sandbox.Fault{Kind: sandbox.FaultError, After: true}, 504, "keybrake_upstream_unknown", held, "", true, held},
		{"an error after the effect whose true answer is remembered", sandbox.Fault{Kind: sandbox.FaultError, After: true, Memory: sandbox.MemoryAnswer}, 504, "keybrake_upstream_unknown", held, "", true, settled},
		{"a 503 is unknown", sandbox.Fault{Kind: sandbox.FaultError, Status: 503}, 504, "keybrake_upstream_unknown", held, "", false, settled},
		{"a cut before the effect is unknown", sandbox.Fault{Kind: sandbox.FaultCut}, 504, "keybrake_upstream_unknown", held, "", false, settled},
		{"a cut after the effect is unknown", sandbox.Fault{Kind: sandbox.FaultCut, After: true}, 504, "keybrake_upstream_unknown", held, "", true, settled},
		{"a cut in the body is unknown", sandbox.Fault{Kind: sandbox.FaultCutBody}, 504, "keybrake_upstream_unknown", held, "", true, settled},
		{"no answer before the deadline is unknown", sandbox.Fault{Kind: sandbox.FaultHang}, 504, "keybrake_upstream_unknown", held, "", false, settled},
		{"no answer after the effect is unknown", sandbox.Fault{Kind: sandbox.FaultHang, After: true}, 504, "keybrake_upstream_unknown", held, "", true, settled},
		{"a redirect is unknown", sandbox.Fault{Kind: sandbox.FaultRedirect, After: true}, 504, "keybrake_upstream_unknown", held, "", true, settled},
		{"garbage is unknown", sandbox.Fault{Kind: sandbox.FaultGarbage}, 504, "keybrake_upstream_unknown", held, "", true, settled},
		{"half an answer is unknown", sandbox.Fault{Kind: sandbox.FaultTruncate}, 504, "keybrake_upstream_unknown", held, "", true, settled},
		{"another content type is unknown", sandbox.Fault{Kind: sandbox.FaultContentType}, 504, "keybrake_upstream_unknown", held, "", true, settled},
		{"a conflict is unknown, and passed", sandbox.Fault{Kind: sandbox.FaultError, Status: 409}, 409, "", held, "", false, settled},
		{"a rate limit is a refusal", sandbox.Fault{Kind: sandbox.FaultRateLimit}, 429, "rate_limit", released, ledger.ProofRefused, false, settled},
		{"a refusal of what was asked", sandbox.Fault{Kind: sandbox.FaultError, Status: 404}, 404, "", released, ledger.ProofRefused, false, settled},
		{"a refusal of our secret is no word to the agent", sandbox.Fault{Kind: sandbox.FaultError, Status: 401}, 502, "keybrake_upstream_credential", released, ledger.ProofRefused, false, settled},
		{"a refusal of our secret's rights is none either", sandbox.Fault{Kind: sandbox.FaultError, Status: 403}, 502, "keybrake_upstream_credential", released, ledger.ProofRefused, false, settled},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := buildWorld(t, setup{deadline: deadlineFor(c.fault)})
			key, k := w.key(refundPolicy)
			charge := w.Seeded.Customers[0].Charges[0]
			c.fault.Method, c.fault.Path = "POST", "/v1/refunds"
			must(t, w.Sandbox.Inject(c.fault))
			r := w.refund(key, charge, "2000", "Idempotency-Key", "once").want(t, c.status, c.code)
			if c.status == 504 && (r.Header.Get("Stripe-Should-Retry") != "true" || !strings.Contains(r.Raw, `"reservation": "rsv_`)) {
				t.Errorf("an unknown outcome with an idempotency key may be asked for again: %v %s", r.Header, r.Raw)
			}
			first := w.last(k.ID)
			if first.State != c.state || first.Proof != c.proof {
				t.Fatalf("%s %q, want %s %q (%s)", first.State, first.Proof, c.state, c.proof, first.Why)
			}
			w.wantUSD(k.ID, "refunds", map[bool]int64{true: 2000}[c.state == held], 0)
			if n := len(w.Sandbox.Effects()); (n == 1) != c.effect {
				t.Fatalf("%d effects", n)
			}
			if got := w.outcome(); got.Proof != string(c.proof) || got.Status != r.Status || got.Ref == 0 {
				t.Errorf("recorded %q %d for %d", got.Proof, got.Status, r.Status)
			}
			w.Sandbox.ClearFaults()
			w.refund(key, charge, "2000", "Idempotency-Key", "once")
			if got := w.last(k.ID); got.State != c.replay {
				t.Fatalf("after the retry: %s (%s), want %s", got.State, got.Why, c.replay)
			}
			if n := len(w.Sandbox.Effects()); n != 1 {
				t.Fatalf("%d effects after the retry", n)
			}
			if c.replay == settled {
				w.wantUSD(k.ID, "refunds", 0, 2000)
			}
		})
	}
}

func TestAnUnknownOutcomeWithoutAnIdempotencyKeyIsNotToBeRepeated(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(refundPolicy)
	charge := w.Seeded.Customers[0].Charges[0]
	must(t, w.Sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultCut, After: true, Method: "POST"}))
	r := w.refund(key, charge, "2000").want(t, 504, "keybrake_upstream_unknown")
	if r.Header.Get("Stripe-Should-Retry") != "false" {
		t.Errorf("%v", r.Header)
	}
	w.refund(key, charge, "2000").want(t, 409, "keybrake_outcome_pending")
	r = w.refund(key, charge, "2000", "Idempotency-Key", "another").want(t, 409, "keybrake_outcome_pending")
	if r.Header.Get("Stripe-Should-Retry") != "false" || r.errType() != "idempotency_error" {
		t.Errorf("%v %s", r.Header, r.Raw)
	}
	w.refund(key, charge, "2001").want(t, 200, "") // another call
	w.wantUSD(k.ID, "refunds", 2000, 2001)
	if n := len(w.Sandbox.Effects()); n != 2 {
		t.Fatalf("%d effects", n)
	}
}

// Stripe gives an idempotency key no meaning on a v1 DELETE, though stripe-go sends one there: a second attempt
// would be a second call.
func TestAnUnknownOutcomeWhoseIdempotencyKeyMeansNothingIsNotToBeRepeated(t *testing.T) {
	w := newWorld(t)
	key, _ := w.key("name: agent-catalog-update-delete\nscopes: {products: write}\n")
	must(t, w.Sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultCut, Method: "DELETE"}))
	r := w.call(key, "DELETE", "/v1/products/"+w.Seeded.Product, "", "Idempotency-Key", "k").want(t, 504, "keybrake_upstream_unknown")
	if r.Header.Get("Stripe-Should-Retry") != "false" {
		t.Errorf("%v", r.Header)
	}
	if strings.Contains(r.Raw, "Send it again") || !strings.Contains(r.Raw, "look at Stripe") {
		t.Errorf("the agent is sent into a denial: %s", r.Raw)
	}
	w.call(key, "DELETE", "/v1/products/"+w.Seeded.Product, "", "Idempotency-Key", "k").want(t, 409, "keybrake_outcome_pending")
}

func TestAPolicyMayAllowToRepeatAnUnknownCall(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(refundPolicy + "repeat_unknown: allow\n")
	charge := w.Seeded.Customers[0].Charges[0]
	must(t, w.Sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultCut, After: true, Method: "POST"}))
	w.refund(key, charge, "2000").want(t, 504, "keybrake_upstream_unknown")
	w.refund(key, charge, "2000").want(t, 200, "")
	w.wantUSD(k.ID, "refunds", 2000, 2000) // both count
}

// A refusal of the retry says nothing about the first attempt, unless Stripe says that it is the first one's
// answer, or the retry got as far as the bank: what had run before would have been replayed.
func TestARefusedRetryFreesNothing(t *testing.T) {
	for _, c := range []struct {
		name   string
		fault  sandbox.Fault
		status int
	}{
		{"a rate limit", sandbox.Fault{Kind: sandbox.FaultRateLimit}, 429},
		{"a bad request", sandbox.Fault{Kind: sandbox.FaultError, Status: 400}, 400},
		{"a missing object", sandbox.Fault{Kind: sandbox.FaultError, Status: 404}, 404},
		{"a refusal of our secret", sandbox.Fault{Kind: sandbox.FaultError, Status: 401}, 502},
		{"another unknown outcome", sandbox.Fault{Kind: sandbox.FaultError, Status: 500}, 504},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			key, k := w.key(refundPolicy)
			charge := w.Seeded.Customers[0].Charges[0]
			must(t, w.Sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultCut, After: true, Method: "POST"}))
			w.refund(key, charge, "2000", "Idempotency-Key", "k").want(t, 504, "keybrake_upstream_unknown")
			c.fault.Method = "POST"
			must(t, w.Sandbox.Inject(c.fault))
			if r := w.refund(key, charge, "2000", "Idempotency-Key", "k"); r.Status != c.status {
				t.Errorf("%d %s", r.Status, r.Raw)
			}
			if got := w.last(k.ID); got.State != ledger.Unresolved {
				t.Fatalf("%s by %q", got.State, got.Proof)
			}
			w.wantUSD(k.ID, "refunds", 2000, 0)
			w.refund(key, charge, "2000", "Idempotency-Key", "k").want(t, 200, "")
			w.wantUSD(k.ID, "refunds", 0, 2000)
			if n := len(w.Sandbox.Effects()); n != 1 {
				t.Fatalf("%d effects", n)
			}
		})
	}
}

// A decline that the retry brings home is final: the first attempt did not run, or it is its answer.
func TestADeclinedRetryIsReleased(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(moneyPolicy(allPerDay))
	const form = "amount=2500&currency=usd&payment_method=pm_card_chargeDeclined&confirm=true"
	must(t, w.Sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultCut, After: true, Method: "POST"}))
	w.call(key, "POST", "/v1/payment_intents", form, "Idempotency-Key", "k").want(t, 504, "keybrake_upstream_unknown")
	w.wantUSD(k.ID, "*", 2500, 0)
	w.call(key, "POST", "/v1/payment_intents", form, "Idempotency-Key", "k").want(t, 402, "card_declined")
	w.wantUSD(k.ID, "*", 0, 0)
}

// A retry learns what a call without an amount did, though the first attempt's look-up found the amount.
func TestARetryOfARefundWithoutAnAmountLearnsItsOutcome(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(moneyPolicy(allPerDay))
	charge := w.Seeded.Customers[0].Charges[0]
	must(t, w.Sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultCut, After: true, Method: "POST"}))
	w.refund(key, charge, "", "Idempotency-Key", "all").want(t, 504, "keybrake_upstream_unknown")
	r := w.refund(key, charge, "", "Idempotency-Key", "all").want(t, 200, "")
	if r.num("amount") != 20000 || r.Header.Get("Idempotent-Replayed") != "true" {
		t.Fatalf("%v %s", r.Header, r.Raw)
	}
	w.wantUSD(k.ID, "*", 0, 20000)
	if n := len(w.Sandbox.Effects()); n != 1 {
		t.Fatalf("%d effects", n)
	}
}

// nobody is an address at which nobody listens: a port that was free a moment ago may be somebody else's by now.
const nobody = "http://127.0.0.1:1"

func TestARefusedConnectionReleasesTheHold(t *testing.T) {
	w := buildWorld(t, setup{base: nobody})
	key, k := w.key(moneyPolicy(`resource: payment_intents, per: hour, calls: 1`, allPerDay))
	for range 2 { // a call that was never written does not count as one
		r := w.call(key, "POST", "/v1/payment_intents", "amount=2000&currency=usd", "Idempotency-Key", "k").
			want(t, 502, "keybrake_upstream_unreachable")
		if r.Header.Get("Stripe-Should-Retry") != "true" {
			t.Errorf("nothing was sent, so it may be tried again: %v", r.Header)
		}
		w.wantUSD(k.ID, "*", 0, 0)
		if got := w.last(k.ID); got.State != ledger.Released || got.Proof != ledger.ProofNotWritten {
			t.Fatalf("%s %s", got.State, got.Proof)
		}
	}
	if n := len(w.reservations(k.ID)); n != 2 {
		t.Fatalf("%d reservations: a released one must be judged anew", n)
	}
	if got := w.account(k.ID, "payment_intents", policy.PerHour, policy.UnitCalls); got != (ledger.Account{}) {
		t.Fatalf("%+v", got)
	}
	w.call(key, "GET", "/v1/charges/ch_1", "").want(t, 502, "keybrake_upstream_unreachable")
}

func TestALookupThatFailsEndsTheCallBeforeAnythingIsHeld(t *testing.T) {
	for _, c := range []struct {
		name   string
		fault  sandbox.Fault
		status int
		code   string
	}{
		{"the upstream breaks", sandbox.Fault{Kind: sandbox.FaultError, Times: sandbox.Always}, 502, "keybrake_upstream_unreachable"},
		{"the upstream hangs", sandbox.Fault{Kind: sandbox.FaultHang, Times: sandbox.Always}, 502, "keybrake_upstream_unreachable"},
		{"the upstream talks nonsense", sandbox.Fault{Kind: sandbox.FaultGarbage, Times: sandbox.Always}, 502, "keybrake_upstream_unreachable"},
		{"the upstream redirects", sandbox.Fault{Kind: sandbox.FaultRedirect, Times: sandbox.Always}, 502, "keybrake_upstream_unreachable"},
		{"our secret may not look", sandbox.Fault{Kind: sandbox.FaultError, Status: 403, Times: sandbox.Always}, 502, "keybrake_upstream_credential"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := buildWorld(t, setup{deadline: deadlineFor(c.fault)})
			key, k := w.key(refundPolicy)
			c.fault.Method = "GET"
			must(t, w.Sandbox.Inject(c.fault))
			w.refund(key, w.Seeded.Customers[0].Charges[0], "").want(t, c.status, c.code)
			if n := w.arrivals("POST"); n != 0 {
				t.Fatalf("%d were sent", n)
			}
			if n := len(w.reservations(k.ID)); n != 0 {
				t.Fatalf("%d reservations", n)
			}
			if got := w.lastOf(audit.KindDenied); got.Operation != "refunds.create" || got.Status != c.status {
				t.Fatalf("recorded as %+v", got)
			}
		})
	}
}

// A secret that goes where a redirect points would be anybody's.
func TestARedirectIsNeverFollowed(t *testing.T) {
	var elsewhere int
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	defer other.Close()
	w := newWorld(t)
	key, _ := w.key(moneyPolicy(allPerDay))
	charge := w.Seeded.Customers[0].Charges[0]
	must(t, w.Sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultRedirect, Location: other.URL, Times: sandbox.Always}))
	for _, r := range []reply{
		w.call(key, "GET", "/v1/charges/"+charge, "").want(t, 502, "keybrake_upstream_unreachable"),
		w.call(key, "POST", "/v1/payment_intents", "amount=100&currency=usd").want(t, 504, "keybrake_upstream_unknown"),
	} {
		if r.Header.Get("Location") != "" || strings.Contains(r.Raw, other.URL) {
			t.Errorf("the agent was sent on: %v %s", r.Header, r.Raw)
		}
	}
	if elsewhere != 0 {
		t.Fatalf("%d requests went elsewhere", elsewhere)
	}
}

func TestAnAgentThatGoesAwayChangesNothing(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(refundPolicy)
	charge := w.Seeded.Customers[0].Charges[0]
	must(t, w.Sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultHang, Method: "POST"}))
	ctx, leave := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		_, err := w.try(ctx, key, "POST", "/v1/refunds", "charge="+charge+"&amount=2000", "Idempotency-Key", "k")
		gone <- err
	}()
	eventually(t, "the call is on the wire", func() bool { return w.Sandbox.Hanging() == 1 })
	leave()
	if err := <-gone; err == nil {
		t.Fatal("it was answered")
	}
	w.refund(key, charge, "2000", "Idempotency-Key", "k").want(t, 409, "idempotency_key_in_use")
	w.Sandbox.Release()
	eventually(t, "the call is settled", func() bool { return w.last(k.ID).State == ledger.Settled })
	eventually(t, "what is kept in memory of the books says so", func() bool { // a moment after the transaction
		return w.account(k.ID, "refunds", policy.PerDay, policy.UnitUSD).Held == 0
	})
	w.wantUSD(k.ID, "refunds", 0, 2000)
	r := w.refund(key, charge, "2000", "Idempotency-Key", "k").want(t, 200, "")
	if r.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("%v", r.Header)
	}
	w.wantUSD(k.ID, "refunds", 0, 2000)
}

// The first attempt may have moved money. That the second met a brake says nothing about it.
func TestARetryThatIsStoppedAtItsLastLookFreesNothing(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(refundPolicy)
	charge := w.Seeded.Customers[0].Charges[0]
	must(t, w.Sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultCut, After: true, Method: "POST"}))
	w.refund(key, charge, "2000", "Idempotency-Key", "k").want(t, 504, "keybrake_upstream_unknown")
	w.Faults.onAdmitted(func(*store.Admission, *store.Admitted) {
		_, err := w.Ring.SetBrake(vault.Scope{Key: k.ID}, vault.Stopped)
		must(t, err)
	})
	w.refund(key, charge, "2000", "Idempotency-Key", "k").want(t, 401, "keybrake_key_killed")
	if got := w.last(k.ID); got.State != ledger.Unresolved {
		t.Fatalf("%s by %s", got.State, got.Proof)
	}
	w.wantUSD(k.ID, "refunds", 2000, 0)
	if n := w.arrivals("POST"); n != 1 {
		t.Fatalf("%d arrivals", n)
	}
}

func TestACallThatIsStoppedAtItsLastLookIsReleased(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(refundPolicy)
	w.Faults.onAdmitted(func(*store.Admission, *store.Admitted) {
		_, err := w.Ring.SetBrake(vault.All, vault.ReadOnly)
		must(t, err)
	})
	w.refund(key, w.Seeded.Customers[0].Charges[0], "2000").want(t, 401, "keybrake_key_readonly")
	if got := w.last(k.ID); got.State != ledger.Released || got.Proof != ledger.ProofNotSent {
		t.Fatalf("%s by %s", got.State, got.Proof)
	}
	if got := w.outcome(); got.Proof != "not_sent" || got.Status != 401 || len(got.Failures) != 1 {
		t.Fatalf("recorded as %+v", got)
	}
	if n := w.arrivals("POST"); n != 0 {
		t.Fatalf("%d arrivals", n)
	}
}

// A machine that was suspended goes on where it was, hours later.
func TestACallThatStoodStillAfterItsAdmissionIsNotSent(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(refundPolicy)
	charge := w.Seeded.Customers[0].Charges[0]
	w.Faults.onAdmitted(func(*store.Admission, *store.Admitted) { w.Clock.Advance(2 * time.Hour) })
	r := w.refund(key, charge, "2000", "Idempotency-Key", "k").want(t, 503, "keybrake_unavailable")
	if r.Header.Get("Stripe-Should-Retry") != "true" {
		t.Errorf("the answer's headers are %v", r.Header)
	}
	if got := w.last(k.ID); got.State != ledger.Released || got.Proof != ledger.ProofNotSent {
		t.Fatalf("%s by %s", got.State, got.Proof)
	}
	if n := w.arrivals("POST"); n != 0 {
		t.Fatalf("%d arrivals", n)
	}
	w.Faults.onAdmitted(nil)
	w.refund(key, charge, "2000", "Idempotency-Key", "k").want(t, 200, "")
}
