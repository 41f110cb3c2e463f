package gateway_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

// FuzzNoRequestMovesMoreThanItsCap sends anything with every scope under a cap of one dollar, to a sandbox that
// reads as generously as Stripe does. It gives what was moved back into the cap's window by moving on a day.
func FuzzNoRequestMovesMoreThanItsCap(f *testing.F) {
	w := newWorld(f)
	w.partial.Store(true)
	key, k := w.key("name: agent-fuzz-money-1\nscopes: {\"*\": write}\ncaps: [{resource: \"*\", per: day, usd: 1.00}]\ncustomers: any\n")
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
	for _, r := range contractWrites(f, own) {
		f.Add("POST", r[0], r[1])
	}
	f.Fuzz(func(t *testing.T, method, target, body string) {
		w.t = t
		defer func() { w.t = f }() // the world ends with f
		w.Clock.Advance(24 * time.Hour)
		before := len(w.Sandbox.Effects())
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
		for _, e := range w.Sandbox.Effects()[before:] {
			// What happens without a call was counted when it was armed.
			if slices.Contains(bounded, e.Kind) && e.RequestID != "" && e.Currency == "usd" {
				moved += e.Amount
			}
		}
		if moved > 100 {
			t.Fatalf("%d cents moved under a cap of 100", moved)
		}
		if counted := w.account(k.ID, "*", policy.PerDay, policy.UnitUSD); (counted.Held+counted.Settled)/10_000 < moved {
			t.Fatalf("%d cents moved and %+v was counted", moved, counted)
		}
	})
}

// bounded are the movements that a cap in dollars is to bound.
var bounded = []sandbox.EffectKind{
	sandbox.EffectRefund, sandbox.EffectPayment, sandbox.EffectAuthorization, sandbox.EffectPayout,
	sandbox.EffectTransfer, sandbox.EffectTopup, sandbox.EffectOutbound,
}

// contractWrites are the contract test's requests (target and form) that the sandbox takes, about objects that
// are there, with amounts that fit under the cap.
func contractWrites(f *testing.F, own sandbox.SeededCustomer) (writes [][2]string) {
	text, err := os.ReadFile("../upstream/stripe/testdata/requests.txt")
	must(f, err)
	there := strings.NewReplacer(
		"=1000", "=90", "customer_contract", own.ID, "=customer_1", "="+own.ID,
		"charge_contract", own.Charges[0], "=charge_1", "="+own.Charges[1],
		"intent_contract", own.PaymentIntent, "=payment_intent_1", "="+own.PaymentIntent,
		"invoice_contract", own.Invoice, "=invoice_1", "="+own.Invoice,
		"=payment_method_1", "=pm_card_visa", "=source_1", "=tok_visa", "confirm=false", "confirm=true",
	)
	served := map[string]bool{}
	for _, name := range sandbox.Operations() {
		served[shapeOf(name)] = true
	}
	for line := range strings.Lines(string(text)) {
		if parts := strings.SplitN(strings.TrimSpace(line), " ", 3); parts[0] == "POST" && served[shapeOf(parts[0]+" "+parts[1])] {
			parts = append(parts, "")
			writes = append(writes, [2]string{there.Replace(parts[1]), there.Replace(parts[2])})
		}
	}
	if len(writes) < 50 {
		f.Fatalf("%d writes", len(writes))
	}
	return writes
}

// shapeOf is an operation with its placeholders, or the ids of the contract test, left open.
func shapeOf(name string) string { return ids.ReplaceAllString(name, "{}") }

var ids = regexp.MustCompile(`\{\w+\}|\w+_contract`)
