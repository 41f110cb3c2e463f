package sandbox_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

func TestAKeyRunsOnceAndIsReplayed(t *testing.T) {
	r := newRig(t)
	ch := r.seed.Customers[0].Charges[1]
	first := r.ok("POST", "/v1/refunds", "charge="+ch+"&amount=100&metadata[a]=1&metadata[b]=2", "Idempotency-Key", "k")
	r.want(first.header.Get("Idempotent-Replayed"), "", "first run")
	r.want(first.header.Get("Original-Request"), first.header.Get("Request-Id"), "original of a first run")
	again := r.ok("POST", "/v1/refunds", "metadata%5Bb%5D=2&metadata[a]=1&amount=100&charge="+ch, "Idempotency-Key", "k")
	r.want(again.raw, first.raw, "replayed body")
	r.want(again.header.Get("Idempotent-Replayed"), "true", "replay header")
	r.want(again.header.Get("Idempotency-Key"), "k", "echo")
	r.want(again.header.Get("Original-Request"), first.header.Get("Request-Id"), "original")
	if again.header.Get("Request-Id") == first.header.Get("Request-Id") {
		t.Error("a replay has a request id of its own")
	}
	r.want(r.moved(sandbox.EffectRefund), int64(100), "refunded")
	r.want(r.s.Journal()[1].Replayed, true, "journal")

	other := r.refused(400, "", "POST", "/v1/refunds", "charge="+ch+"&amount=101", "Idempotency-Key", "k")
	r.want(other.str("error.type"), "idempotency_error", "other parameters")
	path := r.refused(400, "", "POST", "/v1/customers", "name=x", "Idempotency-Key", "k")
	if !strings.Contains(path.str("error.message"), "('/v1/customers' vs '/v1/refunds')") {
		t.Errorf("message %q", path.str("error.message"))
	}
	r.s.AddRestrictedKey("rk_test_other", map[string]sandbox.Access{"charges": sandbox.Write})
	shared := r.ok("POST", "/v1/refunds", "charge="+ch+"&amount=100&metadata[a]=1&metadata[b]=2", "Idempotency-Key", "k",
		"Authorization", "Bearer rk_test_other")
	r.want(shared.raw, first.raw, "keys belong to the account, not to the credential")
}

func TestWhatIsRememberedOfAFailure(t *testing.T) {
	r := newRig(t)
	ch := r.seed.Customers[0].Charges[1]
	r.refused(400, "parameter_unknown", "POST", "/v1/refunds", "charge="+ch+"&x=1", "Idempotency-Key", "a")
	r.ok("POST", "/v1/refunds", "charge="+ch+"&amount=100", "Idempotency-Key", "a")
	r.refused(401, "", "POST", "/v1/refunds", "charge="+ch, "Idempotency-Key", "b", "Authorization", "Bearer nope")
	r.ok("POST", "/v1/refunds", "charge="+ch+"&amount=200", "Idempotency-Key", "b")
	over := r.refused(400, "", "POST", "/v1/refunds", "charge="+ch+"&amount=90000", "Idempotency-Key", "c")
	again := r.refused(400, "", "POST", "/v1/refunds", "charge="+ch+"&amount=90000", "Idempotency-Key", "c")
	r.want(again.raw, over.raw, "a refusal out of execution is replayed")
	r.want(again.header.Get("Idempotent-Replayed"), "true", "replay header")
	declined := "amount=900&currency=usd&confirm=true&payment_method=pm_card_chargeDeclined"
	one := r.refused(402, "card_declined", "POST", "/v1/payment_intents", declined, "Idempotency-Key", "d")
	two := r.refused(402, "card_declined", "POST", "/v1/payment_intents", declined, "Idempotency-Key", "d")
	r.want(two.raw, one.raw, "a decline is replayed")
	r.refused(400, "", "POST", "/v1/refunds", "charge="+ch, "Idempotency-Key", strings.Repeat("k", 256))
	r.ok("POST", "/v1/refunds", "charge="+ch+"&amount=1", "Idempotency-Key", strings.Repeat("k", 255))
}

func TestKeysAreForgottenAfterADay(t *testing.T) {
	r := newRig(t)
	body := "charge=" + r.seed.Customers[0].Charges[1] + "&amount=100"
	first := r.ok("POST", "/v1/refunds", body, "Idempotency-Key", "k")
	r.clock.advance(24*time.Hour - time.Second)
	r.want(r.ok("POST", "/v1/refunds", body, "Idempotency-Key", "k").str("id"), first.str("id"), "within the day")
	r.clock.advance(time.Second)
	if r.ok("POST", "/v1/refunds", body, "Idempotency-Key", "k").str("id") == first.str("id") {
		t.Error("replayed after a day")
	}
	r.want(r.moved(sandbox.EffectRefund), int64(200), "refunded")
}

func TestAKeyInFlightIsAConflict(t *testing.T) {
	r := newRig(t)
	body := "charge=" + r.seed.Customers[0].Charges[1] + "&amount=100"
	r.inject(sandbox.Fault{Kind: sandbox.FaultHang, Path: "/v1/refunds"})
	var wg sync.WaitGroup
	wg.Go(func() { r.ok("POST", "/v1/refunds", body, "Idempotency-Key", "k") })
	r.awaitHanging(1)
	out := r.refused(409, "idempotency_key_in_use", "POST", "/v1/refunds", body, "Idempotency-Key", "k")
	r.want(out.str("error.type"), "idempotency_error", "type")
	r.want(out.header.Get("Stripe-Should-Retry"), "", "should retry")
	r.s.Release()
	wg.Wait()
	r.want(r.ok("POST", "/v1/refunds", body, "Idempotency-Key", "k").header.Get("Idempotent-Replayed"), "true", "afterwards")
	r.want(r.moved(sandbox.EffectRefund), int64(100), "refunded")
}

func TestManyCallsWithOneKeyRunOnce(t *testing.T) {
	r := newRig(t)
	body := "charge=" + r.seed.Customers[0].Charges[1] + "&amount=100"
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if out := r.do("POST", "/v1/refunds", body, "Idempotency-Key", "k"); out.status != 200 && out.status != 409 {
				t.Errorf("status %d: %s", out.status, out.raw)
			}
		})
	}
	wg.Wait()
	r.want(r.moved(sandbox.EffectRefund), int64(100), "refunded")
}

func TestConcurrentRefundsNeverSendMoreThanTheCharge(t *testing.T) {
	r := newRig(t)
	body := "amount=2000&charge=" + r.seed.Customers[0].Charges[1]
	var wg sync.WaitGroup
	var passed atomic.Int64
	for range 64 {
		wg.Go(func() {
			if r.do("POST", "/v1/refunds", body).status == 200 {
				passed.Add(1)
			}
		})
	}
	wg.Wait()
	r.want(passed.Load(), int64(10), "passed")
	r.want(r.moved(sandbox.EffectRefund), int64(20000), "refunded")
}
