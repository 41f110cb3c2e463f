package gateway_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

// FuzzNoRequestMovesMoreThanItsCap sends anything as a refund under a cap of one dollar, to a sandbox that
// reads as generously as Stripe does. It gives what was moved back into the cap's window by moving on a day.
func FuzzNoRequestMovesMoreThanItsCap(f *testing.F) {
	w := newWorld(f)
	w.partial.Store(true)
	key, k := w.key(moneyPolicy(`resource: "*", per: day, usd: 1.00`))
	own := w.Seeded.Customers[0]
	for _, seed := range []struct{ method, target, body string }{
		{"POST", "/v1/refunds", "charge=" + own.Charges[0] + "&amount=100"},
		{"POST", "/v1/refunds", "charge=" + own.Charges[0] + "&amount=1&amount=20000"},
		{"POST", "/v1/refunds?amount=20000", "charge=" + own.Charges[1] + "&amount=1"},
		{"POST", "/v1/charges/" + own.Charges[2] + "/refund", "[amount]=20000&amount=1"},
		{"POST", "/v1/charges/" + own.Charges[2] + "/../" + own.Charges[3] + "/refund", "amount=1;amount=20000"},
		{"POST", "/v1/payment_intents", "amount=1&currency=usd&confirm=true&payment_method=pm_card_visa&amount%5D=900"},
		{"POST", "/v1/payment_intents/" + own.PaymentIntent + "/capture", ""},
		{"POST", "/v1/invoices/" + own.Invoice + "/pay", ""},
		{"POST", "/v1/payouts", "amount=100&currency=usd"},
		{"DELETE", "/v1/customers/" + own.ID, "_method=POST"},
	} {
		f.Add(seed.method, seed.target, seed.body)
	}
	f.Fuzz(func(t *testing.T, method, target, body string) {
		w.t = t
		defer func() { w.t = f }() // the world ends with f
		w.Clock.Advance(24 * time.Hour)
		since := w.Clock.Now()
		r := &http.Request{
			Method: method, RequestURI: target, URL: &url.URL{Path: "/"}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Host: "keybrake",
			Header: http.Header{"Authorization": {"Bearer " + key}, "Content-Type": {"application/x-www-form-urlencoded"}},
			Body:   io.NopCloser(strings.NewReader(body)), RemoteAddr: "127.0.0.1:1",
		}
		rec := httptest.NewRecorder()
		w.Gateway.ServeHTTP(rec, r.WithContext(t.Context()))
		if rec.Code == 500 || rec.Code == 503 {
			t.Fatalf("%d %s", rec.Code, rec.Body)
		}
		var moved int64
		for _, kind := range []sandbox.EffectKind{sandbox.EffectRefund, sandbox.EffectPayment, sandbox.EffectAuthorization, sandbox.EffectPayout} {
			moved += w.Sandbox.Moved(kind, since)["usd"]
		}
		if moved > 100 {
			t.Fatalf("%d cents moved under a cap of 100", moved)
		}
		if counted := w.account(k.ID, "*", policy.PerDay, policy.UnitUSD); (counted.Held+counted.Settled)/10_000 < moved {
			t.Fatalf("%d cents moved and %+v was counted", moved, counted)
		}
	})
}
