package gateway_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/keybrake/keybrake/internal/ledger"
)

// dropping is a Stripe that executes writes and then hangs up without an answer.
type dropping struct {
	sandbox http.Handler
	drop    atomic.Bool
	writes  atomic.Int64
}

func (d *dropping) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		d.sandbox.ServeHTTP(w, r)
		return
	}
	d.writes.Add(1)
	if !d.drop.Load() {
		d.sandbox.ServeHTTP(w, r)
		return
	}
	d.sandbox.ServeHTTP(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

// net/http re-sends by itself what it takes for harmless. A call is one arrival, whatever its form.
func TestACallIsOneArrivalWhenAReusedConnectionBreaks(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		for _, c := range []struct{ name, method, path, form string }{
			{"a POST with a body", "POST", "/v1/payment_intents", "amount=100&currency=usd"},
			{"a confirmation without a body", "POST", "/v1/payment_intents/INTENT/confirm", ""},
			{"a cancellation without a body", "POST", "/v1/payment_intents/INTENT/cancel", ""},
			{"a payment without a body", "POST", "/v1/invoices/INVOICE/pay", ""},
			{"a DELETE", "DELETE", "/v1/customers/CUSTOMER", ""},
		} {
			t.Run(map[bool]string{false: "HTTP/1.1 ", true: "HTTP/2 "}[h2]+c.name, func(t *testing.T) {
				up := &dropping{}
				front := &late{}
				w := buildWorld(t, setup{upstream: front, h2: h2})
				up.sandbox = w.Sandbox
				front.set(up)
				key, k := w.key(`
name: agent-billing-arrivals-test
scopes: {customers: write, payment_intents: write, invoices: write, charges: read}
uncapped: true
customers: any
`)
				own := w.Seeded.Customers[0]
				intent := w.intent(key, "amount=100&currency=usd&customer="+own.ID+"&payment_method="+own.Card)
				of := strings.NewReplacer("INTENT", intent, "INVOICE", own.Invoice, "CUSTOMER", own.ID)
				w.call(key, "GET", "/v1/customers/"+own.ID, "").want(t, 200, "") // a connection to reuse
				before := up.writes.Load()
				up.drop.Store(true)
				w.call(key, c.method, of.Replace(c.path), c.form, "Idempotency-Key", "k").want(t, 504, "keybrake_upstream_unknown")
				if n := up.writes.Load() - before; n != 1 {
					t.Fatalf("%d arrivals", n)
				}
				if got := w.last(k.ID); got.State != ledger.Unresolved {
					t.Fatalf("%s", got.State)
				}
			})
		}
	}
}

func TestTheUpstreamSeesOneSecretAndNothingOfTheAgents(t *testing.T) {
	var seen []http.Header
	front := &late{}
	w := buildWorld(t, setup{upstream: front})
	front.set(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Header.Clone())
		w.Sandbox.ServeHTTP(rw, r)
	}))
	key, _ := w.key(moneyPolicy(allPerDay))
	w.call(key, "POST", "/v1/payment_intents", "amount=100&currency=usd", "Cookie", "session=1", "X-Forwarded-For", "10.0.0.1",
		"X-Anything", "x", "Proxy-Authorization", "Basic x", "Accept-Encoding", "gzip", "X-Stripe-Client-Telemetry", "{}").want(t, 200, "")
	if len(seen) != 1 {
		t.Fatalf("%d arrivals", len(seen))
	}
	allowed := map[string]bool{"Authorization": true, "Content-Type": true, "Content-Length": true, "Idempotency-Key": true,
		"Stripe-Version": true, "User-Agent": true, "X-Stripe-Client-User-Agent": true}
	for name, values := range seen[0] {
		if !allowed[name] || len(values) != 1 || strings.Contains(values[0], key) {
			t.Errorf("%s: %q", name, values)
		}
	}
	if got := seen[0].Get("Authorization"); got != "Bearer "+upstreamSecret {
		t.Errorf("authorization %q", got)
	}
}

func TestProbesAreAnsweredAndNothingElse(t *testing.T) {
	w := newWorld(t)
	for path, want := range map[string]string{"/healthz": "ok\n", "/readyz": "ready\n"} {
		resp, err := w.client.Get(w.URL + path)
		must(t, err)
		body, err := io.ReadAll(resp.Body)
		must(t, err)
		must(t, resp.Body.Close())
		if resp.StatusCode != 200 || string(body) != want {
			t.Errorf("%s: %d %q", path, resp.StatusCode, body)
		}
	}
	key, _ := w.key(refundPolicy)
	for _, path := range []string{"/admin", "/keybrake/v1/keys", "/metrics", "/debug/pprof"} {
		w.call(key, "GET", path, "").want(t, 401, "keybrake_scope_denied")
	}
	if n := w.Sandbox.Arrivals(); n != 0 {
		t.Fatalf("%d arrivals", n)
	}
}
