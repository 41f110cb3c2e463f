package sandbox_test

import (
	"bytes"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

// TestWhatSlipsThroughIsExecuted shows the generous readings: each request means
// a refund of $9.00 to this server, whatever a stricter reader would make of it.
func TestWhatSlipsThroughIsExecuted(t *testing.T) {
	for _, tc := range []struct{ name, query, body string }{
		{"the last duplicate wins", "", "charge=CH&amount=5&amount=900"},
		{"a bracket before the name vanishes", "", "charge=CH&[amount]=900"},
		{"a closing bracket before the name vanishes", "", "charge=CH&]amount=900"},
		{"a closing bracket after the name vanishes", "", "charge=CH&amount]=900"},
		{"escaped brackets are brackets", "", "charge=CH&%5Bamount%5D=900"},
		{"a semicolon separates", "", "charge=CH;amount=900"},
		{"blanks after a separator vanish", "", "charge=CH&  amount=900"},
		{"the query counts on a POST", "amount=900", "charge=CH"},
		{"the body beats the query", "amount=5", "charge=CH&amount=900"},
		{"all in the query", "charge=CH&amount=900", ""},
		{"an integer with a sign", "", "charge=CH&amount=%2B900"},
		{"an integer with blanks", "", "charge=CH&amount=+900+"},
		{"a hexadecimal integer", "", "charge=CH&amount=0x384"},
		{"an array with gaps for expand", "", "charge=CH&amount=900&expand[7]=charge"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			put := func(s string) string { return strings.ReplaceAll(s, "CH", r.seed.Customers[0].Charges[1]) }
			target := "/v1/refunds"
			if tc.query != "" {
				target += "?" + put(tc.query)
			}
			r.ok("POST", target, put(tc.body))
			r.want(r.moved(sandbox.EffectRefund), int64(900), "refunded")
		})
	}
}

func TestFormsAreReadInEveryTypeThatRackReads(t *testing.T) {
	r := newRig(t)
	ch := r.seed.Customers[0].Charges[1]
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for k, v := range map[string]string{"charge": ch, "amount": "100", "metadata[a]": "b"} {
		if err := w.WriteField(k, v); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r.want(r.ok("POST", "/v1/refunds", b.String(), "Content-Type", w.FormDataContentType()).str("metadata.a"), "b", "multipart")
	r.ok("POST", "/v1/refunds", "charge="+ch+"&amount=100", "Content-Type", "")
	r.ok("GET", "/v1/charges", "limit=1")
	r.want(len(r.ok("GET", "/v1/charges", "limit=1").ids()), 1, "a GET body is read too")
	for _, media := range []string{"application/json", "text/plain"} {
		out := r.refused(400, "", "POST", "/v1/refunds", "charge="+ch, "Content-Type", media)
		if !strings.Contains(out.str("error.message"), media) {
			t.Errorf("%s: message %q", media, out.str("error.message"))
		}
	}
	for _, body := range []string{"charge=%zz", "charge=a&charge[b]=c", "metadata[]=1&metadata[a]=2", strings.Repeat("a[b]", 1) + strings.Repeat("[c]", 40) + "=1"} {
		r.refused(400, "", "POST", "/v1/refunds", body)
	}
	r.want(r.moved(sandbox.EffectRefund), int64(200), "refunded")
	if out := r.do("POST", "/v1/refunds", "amount="+strings.Repeat("9", 2<<20)); out.status != http.StatusRequestEntityTooLarge {
		t.Errorf("a body of 2 MB: %d", out.status)
	}
}

func TestPathsAndMethodsAreReadGenerously(t *testing.T) {
	r := newRig(t)
	ch := r.seed.Customers[0].Charges[1]
	for _, path := range []string{"/v1/charges/" + ch, "/v1/charges/" + ch + "/", "/v1/refunds/../charges/" + ch, "/v1//charges/" + ch,
		"/v1/charges%2F" + ch, "/v1/customers/cus%2F..%2F..%2Fcharges/" + ch} {
		r.want(r.ok("GET", path, "").str("id"), ch, path)
	}
	id := r.ok("POST", "/v1/customers", "name=x").str("id")
	r.want(r.ok("POST", "/v1/customers/"+id, "", "X-HTTP-Method-Override", "DELETE").at("deleted"), true, "overridden by header")
	id = r.ok("POST", "/v1/customers", "name=x").str("id")
	r.want(r.ok("POST", "/v1/customers/"+id, "_method=delete").at("deleted"), true, "overridden by parameter")
	out := r.refused(404, "", "GET", "/v1/nothing", "")
	if !strings.HasPrefix(out.str("error.message"), "Unrecognized request URL (GET: /v1/nothing).") {
		t.Errorf("message %q", out.str("error.message"))
	}
	r.refused(404, "", "PUT", "/v1/charges/"+ch, "")
	r.refused(404, "", "POST", "/v1/subscription", "")
}

func TestKeysAreKnownByModeAndPrefix(t *testing.T) {
	r := newRig(t)
	for _, tc := range []struct{ name, auth, message string }{
		{"no key", "", "You did not provide an API key."},
		{"a key of live mode", "Bearer sk_live_abcdefgh1234", "Invalid API Key provided: sk_live_********1234"},
		{"an unknown restricted key", "Bearer rk_test_abcdefgh1234", "Invalid API Key provided: rk_test_********1234"},
		{"a prefix alone", "Bearer sk_test_", "Invalid API Key provided: sk_test_"},
		{"not a key", "Bearer vault", "Invalid API Key provided: *ault"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out := r.refused(401, "", "GET", "/v1/balance", "", "Authorization", tc.auth)
			if !strings.HasPrefix(out.str("error.message"), tc.message) {
				t.Errorf("message %q, want %q", out.str("error.message"), tc.message)
			}
		})
	}
	r.ok("GET", "/v1/balance", "", "Authorization", "Basic c2tfdGVzdF9yaWc6") // sk_test_rig:
	r.refused(401, "", "GET", "/v1/balance?key=sk_live_other", "")
	live := sandbox.New(sandbox.Options{Mode: sandbox.ModeLive})
	if live.Seed().Account == "" {
		t.Error("live sandbox has no account")
	}
}

func TestRestrictedKeysDoWhatTheyWereMadeFor(t *testing.T) {
	r := newRig(t)
	r.s.AddRestrictedKey("rk_test_reader", map[string]sandbox.Access{"charges": sandbox.Read, "plans": sandbox.Write})
	r.ok("POST", "/_sandbox/keys", `{"key":"rk_test_refunder","permissions":{"charges":"read","refunds":"write"}}`)
	ch := r.seed.Customers[0].Charges[1]
	reader, refunder := "Bearer rk_test_reader", "Bearer rk_test_refunder"
	for _, tc := range []struct {
		name, auth, method, target, body, permission string
	}{
		{"reading what it may read", reader, "GET", "/v1/charges/" + ch, "", ""},
		{"reading refunds through charges", reader, "GET", "/v1/refunds", "", ""},
		{"writing prices through plans", reader, "GET", "/v1/prices", "", ""},
		{"writing with read only", reader, "POST", "/v1/charges/" + ch, "description=x", "rak_charge_write"},
		{"refunding with read only", reader, "POST", "/v1/refunds", "charge=" + ch, "rak_charge_write"},
		{"another resource", reader, "GET", "/v1/customers", "", "rak_customer_read"},
		{"an expansion it may not read", reader, "GET", "/v1/charges/" + ch + "?expand[]=customer", "", "rak_customer_read"},
		{"an expansion in a list", reader, "GET", "/v1/charges?expand[]=data.payment_intent", "", "rak_payment_intent_read"},
		{"the books", reader, "GET", "/v1/balance_transactions", "", "rak_balance_transaction_source_read"},
		{"a refund with refund permission", refunder, "POST", "/v1/refunds", "charge=" + ch + "&amount=100", ""},
		{"a charge with refund permission", refunder, "POST", "/v1/charges", "amount=900&currency=usd&source=tok_visa", "rak_charge_write"},
		{"an expansion on a write is refused before it runs", refunder, "POST", "/v1/refunds", "charge=" + ch + "&expand[]=customer", "rak_customer_read"},
		{"an unknown object out of scope", reader, "GET", "/v1/payouts/po_none", "", "rak_payout_read"},
		{"a preview is a read", reader, "POST", "/v1/invoices/create_preview", "customer=x", "rak_invoice_read"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.permission == "" {
				r.ok(tc.method, tc.target, tc.body, "Authorization", tc.auth)
				return
			}
			out := r.refused(403, "", tc.method, tc.target, tc.body, "Authorization", tc.auth)
			if !strings.Contains(out.str("error.message"), "Having the '"+tc.permission+"' permission would allow this request to continue.") {
				t.Errorf("message %q", out.str("error.message"))
			}
		})
	}
	r.want(r.moved(sandbox.EffectRefund), int64(100), "refunded")
}

func TestAnotherAccountIsOutOfReach(t *testing.T) {
	r := newRig(t)
	own := r.ok("GET", "/v1/account", "").str("id")
	r.want(own, r.seed.Account, "account")
	r.ok("GET", "/v1/balance", "", "Stripe-Account", own)
	r.ok("GET", "/v1/accounts/"+own, "")
	r.refused(403, "account_invalid", "GET", "/v1/accounts/acct_other", "")
	r.refused(403, "account_invalid", "GET", "/v1/balance", "", "Stripe-Account", "acct_other")
	r.refused(403, "account_invalid", "GET", "/v1/balance?_stripe_account=acct_other", "")
	r.s.AddRestrictedKey("rk_test_x", map[string]sandbox.Access{"balance": sandbox.Read})
	out := r.refused(403, "", "GET", "/v1/balance", "", "Authorization", "Bearer rk_test_x", "Stripe-Account", "acct_other")
	if !strings.Contains(out.str("error.message"), "does not have any Connect permissions") {
		t.Errorf("message %q", out.str("error.message"))
	}
}

func TestAnswersCarryStripesHeaders(t *testing.T) {
	r := newRig(t)
	a := r.ok("GET", "/v1/balance", "")
	b := r.ok("GET", "/v1/balance", "", "Stripe-Version", "2025-03-31.basil")
	if id := a.header.Get("Request-Id"); !strings.HasPrefix(id, "req_") || id == b.header.Get("Request-Id") {
		t.Errorf("request ids %q, %q", id, b.header.Get("Request-Id"))
	}
	r.want(a.header.Get("Stripe-Version"), "2026-08-26.dahlia", "version of its own")
	r.want(b.header.Get("Stripe-Version"), "2025-03-31.basil", "version asked for")
	r.want(a.header.Get("Content-Type"), "application/json", "type")
	r.want(r.refused(400, "", "GET", "/v1/balance", "", "Stripe-Version", "newest").header.Get("Stripe-Should-Retry"), "false", "should retry")
	r.want(r.ok("GET", "/v1/balance", "", "Idempotency-Key", "k").header.Get("Idempotency-Key"), "", "a GET has no key")
}

func TestTheJournalHoldsArrivalsAsTheyCame(t *testing.T) {
	r := newRig(t)
	r.do("POST", "/v1/refunds?x=1", "charge="+r.seed.Customers[0].Charges[1]+"&amount=5", "Idempotency-key", "k1", "Stripe-Version", "2025-03-31.basil",
		"User-Agent", "agent/1")
	out := r.ok("POST", "/v1/refunds", "charge="+r.seed.Customers[0].Charges[1]+"&amount=5")
	got := r.s.Journal()
	if len(got) != 2 || r.s.Arrivals() != 2 {
		t.Fatalf("%d arrivals kept, %d counted", len(got), r.s.Arrivals())
	}
	a := got[0]
	for what, pair := range map[string][2]string{"query": {a.Query, "x=1"}, "key": {a.IdempotencyKey, "k1"}, "version": {a.StripeVersion, "2025-03-31.basil"},
		"agent": {a.UserAgent, "agent/1"}, "authorization": {a.Authorization, "sk_test_***"}, "path": {a.Path, "/v1/refunds"}} {
		r.want(pair[0], pair[1], what)
	}
	r.want(a.Status, 400, "status of the refused one")
	r.want(len(a.Effects), 0, "effects of the refused one")
	r.want(got[1].Effects[0], out.str("id"), "effect")
	r.want(got[1].RequestID, out.header.Get("Request-Id"), "request id")
	r.want(r.ok("GET", "/_sandbox/journal", "").num("total"), int64(2), "control routes are no arrivals")
	e := r.ok("GET", "/_sandbox/effects", "")
	r.want(e.str("items.0.object"), out.str("id"), "effect by control route")
	r.want(e.str("items.0.request_id"), out.header.Get("Request-Id"), "request of the effect")
	r.want(r.ok("GET", "/_sandbox/journal?after=1", "").num("items.0.seq"), int64(2), "what arrived after the first")
	r.want(strings.TrimSpace(r.ok("GET", "/_sandbox/effects?after=1", "").raw), `{"items":[]}`, "what moved after the first")
	r.want(r.do("GET", "/_sandbox/effects?after=x", "").status, 400, "after no number")
	r.want(r.ok("GET", "/_sandbox/healthz", "").num("running"), int64(0), "running")
}
