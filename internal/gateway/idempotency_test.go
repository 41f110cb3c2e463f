package gateway_test

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
	"github.com/keybrake/keybrake/internal/vault"
)

func TestTheSameIdempotencyKeyAttachesToTheFirstCall(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(refundPolicy)
	charge := w.Seeded.Customers[0].Charges[0]
	first := w.refund(key, charge, "9000", "Idempotency-Key", "mine").want(t, 200, "")
	for range 3 { // another hold would not fit under the cap
		again := w.refund(key, charge, "9000", "Idempotency-Key", "mine").want(t, 200, "")
		if again.Raw != first.Raw || again.Header.Get("Idempotent-Replayed") != "true" {
			t.Fatalf("%v %s, first %s", again.Header, again.Raw, first.Raw)
		}
	}
	w.wantUSD(k.ID, "refunds", 0, 9000)
	if n := len(w.reservations(k.ID)); n != 1 {
		t.Fatalf("%d reservations", n)
	}
	if n := len(w.Sandbox.Effects()); n != 1 {
		t.Fatalf("%d effects", n)
	}
	if got := w.lastOf(audit.KindIntent); got.Repeat != "attached" || got.Reservation != int64(w.last(k.ID).ID) || len(got.Effects) != 1 {
		t.Errorf("recorded as %q of %d: %+v", got.Repeat, got.Reservation, got.Effects)
	}
}

func TestAnIdempotencyKeyIsTheAgentsOwnToTheAgentAndOursUpstream(t *testing.T) {
	w := newWorld(t)
	key, _ := w.key(refundPolicy)
	charge := w.Seeded.Customers[0].Charges[0]
	r := w.refund(key, charge, "100", "Idempotency-Key", "order-4711").want(t, 200, "")
	if got := r.Header.Get("Idempotency-Key"); got != "order-4711" {
		t.Errorf("echoed %q", got)
	}
	w.refund(key, charge, "100").want(t, 200, "")
	seen := make(map[string]bool)
	for _, a := range w.Sandbox.Journal() {
		if a.Method != "POST" {
			continue
		}
		if a.IdempotencyKey == "" || strings.Contains(a.IdempotencyKey, "order") || len(a.IdempotencyKey) > 255 || seen[a.IdempotencyKey] {
			t.Errorf("sent with the key %q", a.IdempotencyKey)
		}
		seen[a.IdempotencyKey] = true
		if strings.Contains(r.Raw, a.IdempotencyKey) || r.Header.Get("Idempotency-Key") == a.IdempotencyKey {
			t.Error("our key was shown to the agent")
		}
	}
	if len(seen) != 2 {
		t.Fatalf("%d calls were sent", len(seen))
	}
}

func TestAnIdempotencyKeyIsForOneCallOnly(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(moneyPolicy(allPerDay))
	charges := w.Seeded.Customers[0].Charges
	w.refund(key, charges[0], "1000", "Idempotency-Key", "k").want(t, 200, "")
	before := w.Sandbox.Arrivals()
	for _, c := range []struct{ name, path, form string }{
		{"another amount", "/v1/refunds", "charge=" + charges[0] + "&amount=1001"},
		{"another object", "/v1/refunds", "charge=" + charges[1] + "&amount=1000"},
		{"one parameter more", "/v1/refunds", "charge=" + charges[0] + "&amount=1000&reason=duplicate"},
		{"another operation", "/v1/payment_intents", "amount=1000&currency=usd"},
		{"the same in another path", "/v1/charges/" + charges[0] + "/refund", "amount=1000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := w.call(key, "POST", c.path, c.form, "Idempotency-Key", "k").want(t, 400, "keybrake_idempotency_mismatch")
			if r.errType() != "idempotency_error" || r.errCode() != "" || r.Header.Get("Stripe-Should-Retry") != "false" {
				t.Errorf("%v %s", r.Header, r.Raw)
			}
		})
	}
	t.Run("another spelling is the same call", func(t *testing.T) {
		r := w.call(key, "POST", "/v1/refunds", "amount=1000&charge="+charges[0], "Idempotency-Key", "k").want(t, 200, "")
		if r.Header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("%v", r.Header)
		}
	})
	if after := w.Sandbox.Arrivals(); after != before+1 {
		t.Fatalf("%d more arrivals, want the replay only", after-before)
	}
	w.wantUSD(k.ID, "*", 0, 1000)
}

func TestFiftyCallsWithOneKeyAreForwardedOnce(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(refundPolicy)
	charge := w.Seeded.Customers[0].Charges[0]
	must(t, w.Sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultHang, Method: "POST"}))
	var passed, inUse atomic.Int64
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			switch r := w.refund(key, charge, "100", "Idempotency-Key", "k"); {
			case r.Status == 200:
				passed.Add(1)
			case r.Status == 409 && r.errCode() == "idempotency_key_in_use":
				if r.Header.Get("Stripe-Should-Retry") != "" || r.errType() != "idempotency_error" {
					t.Errorf("SDKs must back off by themselves: %v %s", r.Header, r.Raw)
				}
				inUse.Add(1)
			default:
				t.Errorf("%d %s", r.Status, r.Raw)
			}
		})
	}
	eventually(t, "all others are answered", func() bool { return inUse.Load() == 49 })
	w.Sandbox.Release()
	wg.Wait()
	if passed.Load() != 1 || w.arrivals("POST") != 1 {
		t.Fatalf("%d passed, %d arrived", passed.Load(), w.arrivals("POST"))
	}
	w.wantUSD(k.ID, "refunds", 0, 100)
}

func TestRetriesOfAnUnknownCallAreOnTheWireOneAtATime(t *testing.T) {
	w := newWorld(t)
	key, _ := w.key(refundPolicy)
	charge := w.Seeded.Customers[0].Charges[0]
	must(t, w.Sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultCut, Method: "POST"}))
	w.refund(key, charge, "100", "Idempotency-Key", "k").want(t, 504, "keybrake_upstream_unknown")
	must(t, w.Sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultHang, Method: "POST"}))
	done := make(chan reply, 1)
	go func() { done <- w.refund(key, charge, "100", "Idempotency-Key", "k") }()
	eventually(t, "the retry is on the wire", func() bool { return w.Sandbox.Hanging() == 1 })
	w.refund(key, charge, "100", "Idempotency-Key", "k").want(t, 409, "idempotency_key_in_use")
	if n := w.arrivals("POST"); n != 2 { // Stripe would have said the same
		t.Errorf("%d arrivals", n)
	}
	w.Sandbox.Release()
	r := <-done
	r.want(t, 200, "")
	if n := len(w.Sandbox.Effects()); n != 1 {
		t.Fatalf("%d effects", n)
	}
}

func TestTwoVaultKeysWithTheSameIdempotencyKeyDoNotMeet(t *testing.T) {
	w := newWorld(t)
	one, k1 := w.key(refundPolicy)
	two, k2 := w.key(refundPolicy)
	charge := w.Seeded.Customers[0].Charges[0]
	a := w.refund(one, charge, "1000", "Idempotency-Key", "k").want(t, 200, "")
	b := w.refund(two, charge, "1000", "Idempotency-Key", "k").want(t, 200, "")
	if a.str("id") == b.str("id") || b.Header.Get("Idempotent-Replayed") != "" {
		t.Fatal("one agent got the other's answer")
	}
	w.wantUSD(k1.ID, "refunds", 0, 1000)
	w.wantUSD(k2.ID, "refunds", 0, 1000)
}

func TestADeniedCallLeavesItsIdempotencyKeyFree(t *testing.T) {
	w := newWorld(t)
	key, _ := w.key(refundPolicy)
	charge := w.Seeded.Customers[0].Charges[0]
	w.refund(key, charge, "10001", "Idempotency-Key", "k").want(t, 403, "keybrake_cap_exceeded")
	w.refund(key, charge, "1000", "Idempotency-Key", "k").want(t, 200, "")
}

func TestARefusedCallIsJudgedAnew(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(refundPolicy)
	charge := w.Seeded.Customers[0].Charges[0]
	must(t, w.Sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultRateLimit, Method: "POST"}))
	w.refund(key, charge, "6000", "Idempotency-Key", "k").want(t, 429, "rate_limit")
	w.refund(key, charge, "5000").want(t, 200, "")
	w.refund(key, charge, "6000", "Idempotency-Key", "k").want(t, 403, "keybrake_cap_exceeded")
	w.wantUSD(k.ID, "refunds", 0, 5000)
}

func TestAnIdempotencyKeyIsOldAfterTwentyThreeHours(t *testing.T) {
	t.Run("a replay of what was counted then is released", func(t *testing.T) {
		w := newWorld(t)
		key, k := w.key(moneyPolicy(`resource: refunds, per: total, usd: 500.00`, allPerDay))
		charge := w.Seeded.Customers[0].Charges[0]
		first := w.refund(key, charge, "1000", "Idempotency-Key", "k").want(t, 200, "")
		w.Clock.Advance(23*time.Hour + 30*time.Minute)
		again := w.refund(key, charge, "1000", "Idempotency-Key", "k").want(t, 200, "")
		if again.str("id") != first.str("id") {
			t.Fatal("Stripe still knew it")
		}
		if got := w.lastOf(audit.KindIntent); got.Repeat != "anew" {
			t.Errorf("recorded as %q", got.Repeat)
		}
		rs := w.reservations(k.ID)
		if len(rs) != 2 || rs[1].State != ledger.Released || rs[1].Proof != ledger.ProofReplayed {
			t.Fatalf("%d reservations, the last %s by %q", len(rs), rs[len(rs)-1].State, rs[len(rs)-1].Proof)
		}
		if n := len(w.Sandbox.Effects()); n != 1 {
			t.Fatalf("%d effects", n)
		}
	})
	t.Run("a run that Stripe had forgotten counts again", func(t *testing.T) {
		w := newWorld(t)
		key, k := w.key(moneyPolicy(`resource: refunds, per: total, usd: 500.00`, allPerDay))
		charge := w.Seeded.Customers[0].Charges[0]
		w.refund(key, charge, "1000", "Idempotency-Key", "k").want(t, 200, "")
		w.Clock.Advance(25 * time.Hour)
		w.refund(key, charge, "1000", "Idempotency-Key", "k").want(t, 200, "")
		if rs := w.reservations(k.ID); len(rs) != 2 || rs[1].State != ledger.Settled {
			t.Fatalf("%d reservations", len(rs))
		}
		if n := len(w.Sandbox.Effects()); n != 2 {
			t.Fatalf("%d effects", n)
		}
	})
	t.Run("and is bound to its parameters no more", func(t *testing.T) {
		w := newWorld(t)
		key, _ := w.key(moneyPolicy(allPerDay))
		charge := w.Seeded.Customers[0].Charges[0]
		w.refund(key, charge, "1000", "Idempotency-Key", "k").want(t, 200, "")
		w.Clock.Advance(25 * time.Hour)
		w.refund(key, charge, "2000", "Idempotency-Key", "k").want(t, 200, "")
	})
}

// Stripe promises to remember for a day. If it does not, the second run is real money that nobody held.
func TestASecondRunUnderASettledKeyIsCountedAndFreezes(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(refundPolicy)
	charge := w.Seeded.Customers[0].Charges[0]
	must(t, w.Sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultForget, Method: "POST"}))
	w.refund(key, charge, "6000", "Idempotency-Key", "k").want(t, 200, "")
	second := w.refund(key, charge, "6000", "Idempotency-Key", "k").want(t, 200, "")
	if n := len(w.Sandbox.Effects()); n != 2 {
		t.Fatalf("%d effects", n)
	}
	w.wantUSD(k.ID, "refunds", 0, 12000) // past the cap of $100: it happened
	got := w.outcome()
	if got.Fate != "moved" || len(got.Effects) != 1 || got.Effects[0].Object != second.str("id") || got.Reservation != int64(w.last(k.ID).ID) {
		t.Errorf("recorded as %+v", got)
	}
	if got.Caps[0].Left != 0 || got.Caps[0].Settled != 120_000_000 {
		t.Errorf("caps after it: %+v", got.Caps)
	}
	must(t, w.Store.View(t.Context(), func(tx store.Tx) error {
		rows, err := tx.Brakes()
		if !slices.ContainsFunc(rows, func(r store.BrakeRow) bool { return r.Scope == store.FreezeScope(k.ID) }) {
			t.Errorf("the key's money is not frozen: %+v", rows)
		}
		return err
	}))
	if log := w.Log.String(); !strings.Contains(log, "moved more than was held") {
		t.Errorf("nobody was alarmed: %s", log)
	}
}

// An answer that Stripe would only repeat is a call all the same: what is stopped learns nothing more.
func TestAReplayAfterTheBrakeIsPulledIsRefused(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault sandbox.Fault
		want  int
	}{
		{"of a settled call", sandbox.Fault{}, 200},
		{"of a call whose outcome is unknown", sandbox.Fault{Kind: sandbox.FaultCut, Method: "POST", After: true}, 504},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			key, k := w.key(refundPolicy)
			charge := w.Seeded.Customers[0].Charges[0]
			if c.fault.Kind != "" {
				must(t, w.Sandbox.Inject(c.fault))
			}
			if r := w.refund(key, charge, "6000", "Idempotency-Key", "k"); r.Status != c.want {
				t.Fatalf("%d %s", r.Status, r.Raw)
			}
			before := w.Sandbox.Arrivals()
			_, err := w.Ring.SetBrake(vault.Scope{Key: k.ID}, vault.ReadOnly)
			must(t, err)
			w.refund(key, charge, "6000", "Idempotency-Key", "k").want(t, 401, "keybrake_key_readonly")
			_, err = w.Ring.SetBrake(vault.Scope{Key: k.ID}, vault.Stopped)
			must(t, err)
			w.refund(key, charge, "6000", "Idempotency-Key", "k").want(t, 401, "keybrake_key_killed")
			if n := w.Sandbox.Arrivals(); n != before {
				t.Errorf("%d more arrivals", n-before)
			}
			if got := w.account(k.ID, "refunds", policy.PerDay, policy.UnitUSD); got.Held+got.Settled != 60_000_000 {
				t.Errorf("%+v", got)
			}
		})
	}
}
