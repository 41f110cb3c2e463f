package stripe

import (
	"net/http"
	"testing"

	"github.com/keybrake/keybrake/internal/upstream"
)

// sdkHeaders are what stripe-go sends, more or less.
func sdkHeaders() http.Header {
	return http.Header{
		"Authorization":              {"Bearer vault_key_test_x"},
		"User-Agent":                 {"Stripe/v1 GoBindings/86.1.1"},
		"X-Stripe-Client-User-Agent": {`{"bindings_version":"86.1.1","lang":"go"}`},
		"Stripe-Version":             {"2026-10-28.endive"},
		"Accept-Encoding":            {"gzip"},
	}
}

func BenchmarkParseChargesRetrieve(b *testing.B) {
	a := newAdapter(b)
	raw := &upstream.RawCall{Method: "GET", Path: "/v1/charges/ch_3NirD82eZvKYlo2CIvbtLWuY", Header: sdkHeaders()}
	b.ReportAllocs()
	for b.Loop() {
		if _, refusal := a.Parse(raw, ""); refusal != nil {
			b.Fatal(refusal.Message)
		}
	}
}

func BenchmarkParseRefundsCreate(b *testing.B) {
	a := newAdapter(b)
	h := sdkHeaders()
	h["Content-Type"] = []string{"application/x-www-form-urlencoded"}
	h["Idempotency-Key"] = []string{"1795a0b1"}
	raw := &upstream.RawCall{Method: "POST", Path: "/v1/refunds", Header: h,
		Body: []byte("charge=ch_3NirD82eZvKYlo2CIvbtLWuY&amount=2000&reason=requested_by_customer&metadata[order]=6735")}
	b.ReportAllocs()
	for b.Loop() {
		if _, refusal := a.Parse(raw, ""); refusal != nil {
			b.Fatal(refusal.Message)
		}
	}
}

func BenchmarkNew(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := New(); err != nil {
			b.Fatal(err)
		}
	}
}
