package gateway_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/gateway"
	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

// raw sends bytes as they are and reads one answer.
func (w *world) raw(t testing.TB, request string) reply {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.URL, "http://"))
	must(t, err)
	defer conn.Close()
	go func() { _, _ = io.WriteString(conn, request) }() // it may be refused before all of it is read
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	r := reply{Status: resp.StatusCode, Header: resp.Header, Raw: string(body)}
	_ = json.Unmarshal(body, &r.Body)
	return r
}

// request writes an HTTP/1.1 request with a vault key. Each header is a whole line.
func request(key, method, target, body string, headers ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: keybrake\r\n", method, target)
	if key != "" {
		b.WriteString("Authorization: Bearer " + key + "\r\n")
	}
	typed := false
	for _, h := range headers {
		typed = typed || strings.HasPrefix(strings.ToLower(h), "content-type")
		b.WriteString(h + "\r\n")
	}
	if body != "" {
		if !typed {
			b.WriteString("Content-Type: application/x-www-form-urlencoded\r\n")
		}
		b.WriteString("Content-Length: " + strconv.Itoa(len(body)) + "\r\n")
	}
	return b.String() + "Connection: close\r\n\r\n" + body
}

// odd is a request that means one thing to a careless reader and another to Stripe.
type odd struct{ name, request string }

// oddParameters lists names, separators and numbers that two parsers read in two ways.
func oddParameters(key string, own sandbox.SeededCustomer) []odd {
	post := func(body string, headers ...string) string {
		return request(key, "POST", "/v1/refunds", body, headers...)
	}
	charge := "charge=" + own.Charges[0]
	return []odd{
		// Names of parameters.
		{"a bracketed name", post(charge + "&[amount]=9")},
		{"a name that begins with a closing bracket", post(charge + "&]amount=9")},
		{"a name that ends with a closing bracket", post(charge + "&amount]=9")},
		{"a bracketed name in percent codes", post(charge + "&%5Bamount%5D=9")},
		{"text behind the brackets", post(charge + "&metadata[a]b=9")},
		{"a name with a space", post(charge + "&amount%20=5")},
		{"a name in other letters", post(charge + "&Amount=5")},
		{"a name with a NUL", post(charge + "&amount%00=5")},
		{"no name", post(charge + "&=5")},
		{"a name alone", post(charge + "&amount")},
		{"a scalar and a hash", post(charge + "&metadata=1&metadata[b]=2")},
		{"a scalar twice", post(charge + "&amount=1&amount=20000")},
		{"a scalar twice, once in percent codes", post(charge + "&amount=1&%61mount=20000")},
		{"elements with a gap", post(charge + "&expand[0]=charge&expand[7]=charge")},
		// Separators and encodings.
		{"a semicolon", post(charge + "&amount=1;amount=20000")},
		{"a space behind the ampersand", post(charge + "& amount=1")},
		{"an empty pair", post(charge + "&&amount=1")},
		{"an ampersand in front", post("&" + charge)},
		{"a broken percent code", post(charge + "&reason=%zz")},
		{"a cut percent code", post(charge + "&reason=%2")},
		{"bytes that are not UTF-8", post(charge + "&metadata[a]=%ff%fe")},
		{"an overlong dot", post(charge + "&metadata[a]=%c0%ae")},
		// Numbers.
		{"an exponent", post(charge + "&amount=1e3")},
		{"a plus", post(charge + "&amount=%2B100")},
		{"a space in front", post(charge + "&amount=+100")},
		{"hex", post(charge + "&amount=0x64")},
		{"decimals", post(charge + "&amount=100.0")},
		{"unicode digits", post(charge + "&amount=%D9%A1%D9%A2")},
		{"thirteen digits", post(charge + "&amount=1000000000000")},
		{"a minus", post(charge + "&amount=-1")},
		{"nothing", post(charge + "&amount=")},
		{"a list", post(charge + "&amount[]=1")},
	}
}

// oddPlaces lists parameters where they do not belong, headers and overrides.
func oddPlaces(key string, own sandbox.SeededCustomer) []odd {
	post := func(body string, headers ...string) string {
		return request(key, "POST", "/v1/refunds", body, headers...)
	}
	charge := "charge=" + own.Charges[0]
	get := func(target string, headers ...string) string { return request(key, "GET", target, "", headers...) }
	return []odd{
		// One bucket of parameters.
		{"a query on a POST", request(key, "POST", "/v1/refunds?amount=20000", charge+"&amount=1")},
		{"a query alone on a POST", request(key, "POST", "/v1/refunds?"+charge, "")},
		{"an empty query on a POST", request(key, "POST", "/v1/refunds?&", charge)},
		{"a body on a GET", request(key, "GET", "/v1/charges", "customer="+own.ID)},
		{"query and body on a DELETE", request(key, "DELETE", "/v1/customers/"+own.ID+"?a=1", "b=2")},
		// Meta parameters and overrides.
		{"_method", post(charge + "&_method=DELETE")},
		{"_method on a GET", get("/v1/charges?_method=POST")},
		{"key", post(charge + "&key=sk_test_other")},
		{"_stripe_account", post(charge + "&_stripe_account=acct_1")},
		{"_stripe_version", post(charge + "&_stripe_version=2015-01-01")},
		{"a method override", post(charge, "X-HTTP-Method-Override: DELETE")},
		{"a method override in small letters", post(charge, "x-http-method-override: DELETE")},
		// Headers.
		{"a gzipped body", post(charge, "Content-Encoding: gzip")},
		{"two vault keys", post(charge, "Authorization: Bearer sk_test_other")},
		{"two idempotency keys", post(charge, "Idempotency-Key: a", "Idempotency-Key: b")},
		{"an idempotency key twice in two spellings", post(charge, "Idempotency-Key: a", "idempotency-key: b")},
		{"an idempotency key that is too long", post(charge, "Idempotency-Key: "+strings.Repeat("k", 256))},
		{"two accounts", post(charge, "Stripe-Account: acct_1", "Stripe-Account: acct_2")},
		{"an account without grant", post(charge, "Stripe-Account: acct_1")},
		{"a context without grant", post(charge, "Stripe-Context: acct_1")},
		{"an account and a context", post(charge, "Stripe-Account: acct_1", "Stripe-Context: acct_1")},
		{"an account named by Connection", post(charge, "Stripe-Account: acct_1", "Connection: Stripe-Account")},
		{"an old version", post(charge, "Stripe-Version: 2015-01-01")},
		{"a preview version", post(charge, "Stripe-Version: 2026-08-26.preview; orders_beta=v4")},
		{"two versions", post(charge, "Stripe-Version: 2026-08-26.dahlia", "Stripe-Version: 2015-01-01")},
	}
}

// oddBodies lists bodies that are not what they say, and more than anybody needs.
func oddBodies(key string, own sandbox.SeededCustomer) []odd {
	post := func(body string, headers ...string) string {
		return request(key, "POST", "/v1/refunds", body, headers...)
	}
	charge := "charge=" + own.Charges[0]
	get := func(target string, headers ...string) string { return request(key, "GET", target, "", headers...) }
	return []odd{
		// Bodies.
		{"a form that says it is JSON", post(charge, "Content-Type: application/json")},
		{"JSON on v1", post(`{"charge":"ch_1"}`, "Content-Type: application/json")},
		{"JSON that says it is a form", post(`{"charge":"ch_1"}`)},
		{"multipart", post("--x\r\nContent-Disposition: form-data; name=\"charge\"\r\n\r\nch_1\r\n--x--", "Content-Type: multipart/form-data; boundary=x")},
		{"plain text", post(charge, "Content-Type: text/plain")},
		{"another charset", post(charge, "Content-Type: application/x-www-form-urlencoded; charset=utf-16")},
		{"two content types", post(charge, "Content-Type: application/x-www-form-urlencoded", "Content-Type: text/plain")},
		{"v2: a member twice", request(key, "POST", "/v2/core/event_destinations", `{"name":"a","name":"b"}`, "Content-Type: application/json")},
		{"v2: something behind the value", request(key, "POST", "/v2/core/event_destinations", `{"name":"a"} {}`, "Content-Type: application/json")},
		{"v2: a byte order mark", request(key, "POST", "/v2/core/event_destinations", "\ufeff{}", "Content-Type: application/json")},
		{"v2: a number beyond all bounds", request(key, "POST", "/v2/core/event_destinations", `{"a":1e400}`, "Content-Type: application/json")},
		{"v2: a depth without end", request(key, "POST", "/v2/core/event_destinations", strings.Repeat(`{"a":`, 200)+"1"+strings.Repeat("}", 200), "Content-Type: application/json")},
		{"v2: a form", request(key, "POST", "/v2/core/event_destinations", "name=a")},
		// Limits.
		{"a depth without end", post(charge + "&metadata" + strings.Repeat("[a]", 100) + "=1")},
		{"parameters without end", post(charge + strings.Repeat("&metadata[a]=1", 10_001))},
		{"a name without end", post(charge + "&" + strings.Repeat("a", 600) + "=1")},
		{"a value without end", post(charge + "&metadata[a]=" + strings.Repeat("a", 200_000))},
		{"a body without end", post(charge + "&metadata[a]=" + strings.Repeat("a", gateway.MaxBody))},
		{"a query without end", get("/v1/charges?customer=" + strings.Repeat("a", 70<<10))},
		{"a path without end", get("/v1/charges/" + strings.Repeat("a", 5000))},
	}
}

// oddTargets lists paths and methods.
func oddTargets(key string, own sandbox.SeededCustomer) []odd {
	charge := "charge=" + own.Charges[0]
	get := func(target string, headers ...string) string { return request(key, "GET", target, "", headers...) }
	return []odd{
		// Paths.
		{"a slash at the end", get("/v1/charges/")},
		{"two slashes", get("/v1//charges")},
		{"two slashes in front", get("//v1/charges")},
		{"a dot", get("/v1/./charges")},
		{"two dots", get("/v1/refunds/../charges")},
		{"two dots in percent codes", get("/v1/refunds/%2e%2e/charges")},
		{"two dots in upper case percent codes", get("/v1/refunds/%2E%2E/charges")},
		{"two dots behind an encoded slash", get("/v1/charges/..%2Fcustomers")},
		{"percent codes twice", get("/v1/charges/%252e%252e")},
		{"a slash in percent codes", get("/v1%2fcharges")},
		{"a backslash", get(`/v1/charges\..\customers`)},
		{"a backslash in percent codes", get("/v1/charges/%5c..%5ccustomers")},
		{"a semicolon in the path", get("/v1/charges;x=1")},
		{"a letter outside ASCII", get("/v1/charges/ch_\xc3\xa9")},
		{"a control character", get("/v1/charges/ch%0d%0aX:y")},
		{"a fragment", get("/v1/charges#/v1/refunds")},
		{"upper case", get("/V1/charges")},
		{"another host", get("http://169.254.169.254/v1/charges")},
		{"a host of its own", get("https://api.stripe.com/v1/charges")},
		{"an asterisk", request(key, "OPTIONS", "*", "")},
		{"a route that Stripe does not document", get("/v1/charges/ch_1/secrets")},
		{"a route of another time", get("/v1/orders")},
		{"a stream that is opened with a session's token", request(key, "POST", "/v2/billing/meter_event_stream", "")},
		// Methods.
		{"CONNECT", request(key, "CONNECT", "api.stripe.com:443", "")},
		{"PUT", request(key, "PUT", "/v1/refunds", charge)},
		{"PATCH", request(key, "PATCH", "/v1/refunds", charge)},
		{"HEAD", request(key, "HEAD", "/v1/charges", "")},
		{"TRACE", request(key, "TRACE", "/v1/charges", "")},
		{"post in small letters", request(key, "post", "/v1/refunds", charge)},
		{"a method of its own", request(key, "REFUND", "/v1/refunds", charge)},
	}
}

// oddSecrets lists credentials that are none and card data.
func oddSecrets(key string, _ sandbox.SeededCustomer) []odd {
	get := func(target string, headers ...string) string { return request(key, "GET", target, "", headers...) }
	return []odd{
		// Credentials.
		{"no key", request("", "GET", "/v1/charges", "")},
		{"a Stripe key", request("sk_test_keybrakeharness", "GET", "/v1/charges", "")},
		{"a vault key with one letter changed", request(flip(key), "GET", "/v1/charges", "")},
		{"a key in the query", request("", "GET", "/v1/charges?key="+key, "")},
		// Card data.
		{"a card number", request(key, "POST", "/v1/payment_methods", "type=card&card[number]=4242424242424242&card[exp_month]=1&card[exp_year]=2030")},
		{"a card number in a source", request(key, "POST", "/v1/customers", "source[object]=card&source[number]=4242424242424242")},
		{"a card token's data", request(key, "POST", "/v1/tokens", "card[number]=4242424242424242&card[cvc]=123")},
		{"an issued card's number", get("/v1/issuing/cards/ic_1?expand[]=number")},
		{"an issued card's code", get("/v1/issuing/cards?expand[]=data.cvc")},
	}
}

// Whatever it is, nothing of it arrives, and there is a record of it.
func TestNothingAmbiguousReachesTheUpstream(t *testing.T) {
	w := newWorld(t)
	w.partial.Store(true) // raw requests are not counted
	key, _ := w.key("name: agent-dev-open-test\nscopes: {\"*\": write}\nuncapped: true\nunmetered: [\"*\"]\ncustomers: any\n")
	for _, list := range []func(string, sandbox.SeededCustomer) []odd{oddParameters, oddPlaces, oddBodies, oddTargets, oddSecrets} {
		for _, c := range list(key, w.Seeded.Customers[0]) {
			t.Run(c.name, func(t *testing.T) { w.refusesUnsent(t, c.request) })
		}
	}
}

// refusesUnsent checks that a request ends here: as the SDKs need it, on record, and with nothing sent.
func (w *world) refusesUnsent(t *testing.T, request string) {
	t.Helper()
	r := w.raw(t, request)
	if r.Status < 400 || r.Status >= 500 {
		t.Fatalf("%d %s", r.Status, r.Raw)
	}
	if n := w.Sandbox.Arrivals(); n != 0 {
		t.Fatalf("it reached the upstream: %+v", w.Sandbox.Journal()[n-1])
	}
	if r.Header.Get("Content-Type") != "application/json" || !strings.HasPrefix(request, "HEAD ") && r.errType() != "invalid_request_error" {
		t.Errorf("not as the SDKs need it: %v %s", r.Header, r.Raw)
	}
	if r.Header.Get("Stripe-Should-Retry") != "false" || r.Header.Get("Request-Id") == "" {
		t.Errorf("%v", r.Header)
	}
	records := w.records()
	_, seq, err := audit.ParseID(r.Header.Get("Keybrake-Audit-Id"))
	if err != nil || seq > int64(len(records)) {
		t.Fatalf("its record is %q of %d: %v", r.Header.Get("Keybrake-Audit-Id"), len(records), err)
	}
	if got := records[seq-1]; got.Kind != audit.KindDenied || got.Verdict != "deny" || len(got.Failures) == 0 {
		t.Errorf("recorded as %+v", got)
	}
}

// flip changes one letter in the middle of a vault key.
func flip(key string) string {
	b := []byte(key)
	if b[20] == 'a' {
		b[20] = 'b'
	} else {
		b[20] = 'a'
	}
	return string(b)
}

// What the SDKs send in odd but harmless forms must pass, or nobody could use the gateway.
func TestOrdinaryFormsPass(t *testing.T) {
	w := newWorld(t)
	w.partial.Store(true)
	key, _ := w.key(moneyPolicy(allPerDay))
	own := w.Seeded.Customers[0]
	charge := "charge=" + own.Charges[0] + "&amount=100"
	basic := "Authorization: Basic " + basicAuth(key)
	chunked := "POST /v1/refunds HTTP/1.1\r\nHost: keybrake\r\nAuthorization: Bearer " + key +
		"\r\nContent-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n" +
		fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(charge), charge)
	for _, c := range []struct{ name, request string }{
		{"stripe-go's chunked body", chunked},
		{"a key in Basic authentication", request("", "GET", "/v1/charges/"+own.Charges[0], "", basic)},
		{"a content type on a GET", request(key, "GET", "/v1/charges?limit=1", "", "Content-Type: application/x-www-form-urlencoded")},
		{"a charset", request(key, "POST", "/v1/refunds", charge, "Content-Type: application/x-www-form-urlencoded; charset=utf-8")},
		{"brackets in percent codes", request(key, "POST", "/v1/refunds", charge+"&metadata%5Border%5D=1")},
		{"unnumbered elements", request(key, "POST", "/v1/refunds", charge+"&expand[]=charge&expand[]=payment_intent")},
		{"telemetry and forwarding headers", request(key, "GET", "/v1/charges?limit=1", "", "X-Stripe-Client-Telemetry: {}", "X-Forwarded-For: 1.2.3.4", "Cookie: a=b", "Via: 1.1 x")},
		{"a path below /stripe", request(key, "GET", "/stripe/v1/charges?limit=1", "")},
		{"an endive version", request(key, "GET", "/v1/charges?limit=1", "", "Stripe-Version: 2026-09-30.endive")},
	} {
		t.Run(c.name, func(t *testing.T) {
			if r := w.raw(t, c.request); r.Status != 200 {
				t.Fatalf("%d %s", r.Status, r.Raw)
			}
			last := w.Sandbox.Journal()[w.Sandbox.Arrivals()-1]
			if strings.HasPrefix(last.Path, "/stripe") || strings.Contains(last.Query, ";") {
				t.Errorf("sent as %+v", last)
			}
		})
	}
}
