package gateway_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

func (r reply) remaining(t testing.TB, want string) {
	t.Helper()
	if got := r.Header.Get("Keybrake-Remaining"); got != want {
		t.Errorf("the agent is told %q, want %q", got, want)
	}
}

func TestARetryIsToldWhatItsCapsHaveLeft(t *testing.T) {
	w := newWorld(t)
	key, _ := w.key(moneyPolicy(allPerDay, `resource: refunds, per: hour, usd: 100.00`, `resource: refunds, per: total, calls: 9`))
	charge := w.Seeded.Customers[0].Charges[0]
	w.refund(key, charge, "2000", "Idempotency-Key", "k").want(t, 200, "").remaining(t, "*/day=980.00, refunds/hour=80.00, refunds/total=8calls")
	w.refund(key, charge, "1000").want(t, 200, "").remaining(t, "*/day=970.00, refunds/hour=70.00, refunds/total=7calls")
	w.refund(key, charge, "2000", "Idempotency-Key", "k").want(t, 200, "").remaining(t, "*/day=970.00, refunds/hour=70.00, refunds/total=7calls")
	if in := w.lastOf(audit.KindIntent); in.Repeat != "attached" || len(in.Caps) != 3 || in.Caps[1].Left != 70_000_000 {
		t.Errorf("on record: %s %+v", in.Repeat, in.Caps)
	}
	if out := w.outcome(); len(out.Caps) != 3 || out.Caps[1].Settled != 30_000_000 {
		t.Errorf("its outcome: %+v", out.Caps)
	}
	w.Clock.Advance(time.Hour) // what is left is left now, whenever the first call was made
	again := w.refund(key, charge, "2000", "Idempotency-Key", "k").want(t, 200, "")
	if got := again.Header.Get("Keybrake-Remaining"); !strings.HasSuffix(got, "refunds/hour=100.00, refunds/total=7calls") {
		t.Errorf("in the next hour the agent is told %q", got)
	}
}

func TestWhatIsLeftIsToldAsItIsAfterTheAnswer(t *testing.T) {
	w := newWorld(t)
	key, _ := w.key(moneyPolicy(`resource: "*", per: day, usd: 100.00`))
	charge := w.Seeded.Customers[0].Charges[0]
	// Stripe refuses it: nothing of the hold is left.
	must(t, w.Sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultError, Status: 404, Method: "POST"}))
	w.refund(key, charge, "2000", "Idempotency-Key", "refused").want(t, 404, "").remaining(t, "*/day=100.00")
	w.Sandbox.ClearFaults()
	// Nobody knows: the hold stays, until the retry learns that nothing had happened.
	const form = "amount=2500&currency=usd&payment_method=pm_card_chargeDeclined&confirm=true"
	must(t, w.Sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultCut, After: true, Method: "POST"}))
	w.call(key, "POST", "/v1/payment_intents", form, "Idempotency-Key", "k").want(t, 504, "keybrake_upstream_unknown").remaining(t, "*/day=75.00")
	w.call(key, "POST", "/v1/payment_intents", form, "Idempotency-Key", "k").want(t, 402, "card_declined").remaining(t, "*/day=100.00")
}
