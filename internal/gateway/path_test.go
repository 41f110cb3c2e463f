package gateway_test

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

func TestAnAgentRefundsUntilItsCapIsFull(t *testing.T) {
	w := newWorld(t)
	key, _ := w.key(refundPolicy)
	charge := w.Seeded.Customers[0].Charges[0]
	for i := range 5 {
		r := w.call(key, "POST", "/v1/refunds", "charge="+charge+"&amount=2000")
		if r.Status != 200 || r.str("object") != "refund" {
			t.Fatalf("refund %d: %d %s", i+1, r.Status, r.Raw)
		}
	}
	r := w.call(key, "POST", "/v1/refunds", "charge="+charge+"&amount=2000")
	if r.Status != 403 || r.errCode() != "keybrake_cap_exceeded" {
		t.Fatalf("sixth refund: %d %s", r.Status, r.Raw)
	}
	t.Log(r.Raw, r.Header)
	if n := len(w.Sandbox.Effects()); n < 5 {
		t.Fatalf("%d effects", n)
	}
}

func TestSixtyFourCallersShareRoomForTen(t *testing.T) {
	w := newWorld(t)
	key, _ := w.key(refundPolicy)
	before := len(w.Sandbox.Effects())
	var passed, refused atomic.Int64
	var wg sync.WaitGroup
	for i := range 64 {
		charge := w.Seeded.Customers[i%2].Charges[i/2%10]
		wg.Go(func() {
			switch r := w.call(key, "POST", "/v1/refunds", "charge="+charge+"&amount=1000"); {
			case r.Status == 200:
				passed.Add(1)
			case r.Status == 403 && r.errCode() == "keybrake_cap_exceeded":
				refused.Add(1)
			default:
				t.Errorf("%d %s", r.Status, r.Raw)
			}
		})
	}
	wg.Wait()
	if passed.Load() != 10 || refused.Load() != 54 {
		t.Fatalf("%d passed, %d refused", passed.Load(), refused.Load())
	}
	if n := len(w.Sandbox.Effects()) - before; n != 10 {
		t.Fatalf("%d effects upstream", n)
	}
}

func TestAReadIsForwardedAndRecorded(t *testing.T) {
	w := newWorld(t)
	key, _ := w.key(refundPolicy)
	r := w.call(key, "GET", "/v1/charges/"+w.Seeded.Customers[0].Charges[0], "")
	if r.Status != http.StatusOK || r.Header.Get("Keybrake-Audit-Id") == "" {
		t.Fatalf("%d %s %v", r.Status, r.Raw, r.Header)
	}
	r = w.call(key, "GET", "/v1/products", "")
	if r.Status != 401 || r.errCode() != "keybrake_scope_denied" {
		t.Fatalf("%d %s", r.Status, r.Raw)
	}
}

// The guide: every call outside the scopes is 401, also one that could not be read.
func TestACallOutsideTheScopesIsOneWhateverElseIsWrongWithIt(t *testing.T) {
	w := newWorld(t)
	key, _ := w.key("\nscopes: {charges: read}\ncustomers: any")
	for _, form := range []string{"", "amount=1e3", "amount=1&amount=2", "charge=ch_1&payment_intent=pi_1", "unknown=1"} {
		w.call(key, "POST", "/v1/refunds", form).want(t, 401, "keybrake_scope_denied")
	}
	w.call(key, "GET", "/v1/charges?limit=1&limit=2", "").want(t, 400, "keybrake_request_malformed")
}

func TestAWriteOfAProbeIsDecidedAndStops(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(moneyPolicy(`resource: refunds, per: day, usd: 5.00`))
	probe := *k
	probe.Probe = true
	_, err := w.Ring.PutKey(probe)
	must(t, err)
	charge := w.Seeded.Customers[0].Charges[0]
	before := w.arrivals("POST")
	w.refund(key, charge, "100").want(t, 403, "keybrake_probe")
	w.refund(key, charge, "600").want(t, 403, "keybrake_cap_exceeded")
	w.call(key, "GET", "/v1/charges/"+charge, "").want(t, 200, "")
	w.wantUSD(k.ID, "refunds", 0, 0)
	if after := w.arrivals("POST"); after != before {
		t.Errorf("%d were sent", after-before)
	}
}
