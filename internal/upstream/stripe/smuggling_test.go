package stripe

import (
	"net/http"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

func formCall(method, path, query, body string) *upstream.RawCall {
	h := http.Header{}
	if body != "" {
		h.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return &upstream.RawCall{Method: method, Path: path, Query: query, Header: h, Body: []byte(body)}
}

func jsonCall(path, body string) *upstream.RawCall {
	return with(formCall("POST", path, "", body), "Content-Type", "application/json")
}

func with(raw *upstream.RawCall, name string, values ...string) *upstream.RawCall {
	raw.Header[http.CanonicalHeaderKey(name)] = values
	return raw
}

func refundCall(body string) *upstream.RawCall {
	return formCall("POST", "/v1/refunds", "", "charge=ch_1&"+body)
}

// smuggled are the ways in which one request can mean two things to two readers.
var smuggled = []struct {
	name  string
	raw   *upstream.RawCall
	code  policy.Code
	param string
}{
	{"a bracket in front of the name", refundCall("[amount]=9"), policy.CodeMalformed, "[amount]"},
	{"a closing bracket in front", refundCall("]amount=9"), policy.CodeMalformed, "]amount"},
	{"a closing bracket behind", refundCall("amount]=9"), policy.CodeMalformed, "amount]"},
	{"a name that goes on behind its brackets", refundCall("metadata[a]b=9"), policy.CodeMalformed, "metadata[a]b"},
	{"brackets in brackets", refundCall("metadata[a[b]]=9"), policy.CodeMalformed, "metadata[a[b]]"},
	{"a value twice", refundCall("amount=1&amount=9"), policy.CodeMalformed, "amount"},
	{"a value twice in two spellings", refundCall("amount=1&%61mount=9"), policy.CodeMalformed, "amount"},
	{"a bare semicolon", refundCall("amount=1;amount=9"), policy.CodeMalformed, ""},
	{"a space behind the separator", refundCall("amount=1& amount=9"), policy.CodeMalformed, ""},
	{"a plus in front of a name", refundCall("+amount=9"), policy.CodeMalformed, " amount"},
	{"a value and a hash", refundCall("metadata=1&metadata[b]=2"), policy.CodeMalformed, "metadata[b]"},
	{"a hash and a list", refundCall("expand[a]=1&expand[]=2"), policy.CodeMalformed, "expand[]"},
	{"numbered and unnumbered elements", refundCall("expand[0]=charge&expand[]=charge"), policy.CodeMalformed, "expand[]"},
	{"elements with a gap", refundCall("expand[0]=charge&expand[2]=charge"), policy.CodeMalformed, "expand"},
	{"elements with leading zeros", refundCall("expand[00]=charge"), policy.CodeMalformed, "expand"},
	{"an element twice", refundCall("expand[0]=charge&expand[0]=charge"), policy.CodeMalformed, "expand[0]"},
	{"unnumbered hashes", formCall("POST", "/v1/invoices/in_1/add_lines", "", "lines[][amount]=1&lines[][amount]=2"), policy.CodeMalformed, "lines[][amount]"},
	{"a name without a value", refundCall("amount"), policy.CodeMalformed, "amount"},
	{"an empty entry", refundCall("&amount=1"), policy.CodeMalformed, ""},
	{"a broken percent code in a value", refundCall("amount=%zz"), policy.CodeMalformed, "amount"},
	{"a cut percent code in a name", refundCall("amount%5=1"), policy.CodeMalformed, "amount%5"},
	{"a NUL in a name", refundCall("amount%00=1"), policy.CodeMalformed, "amount?"},
	{"a NUL in a value", refundCall("reason=a%00b"), policy.CodeMalformed, "reason"},
	{"a value that is not UTF-8", refundCall("reason=%ff"), policy.CodeMalformed, "reason"},
	{"a depth without end", refundCall("metadata" + strings.Repeat("[a]", 15) + "=1"), policy.CodeMalformed, "metadata" + strings.Repeat("[a]", 15)},
	{"a query on a POST", formCall("POST", "/v1/refunds", "amount=9", "charge=ch_1"), policy.CodeMalformed, ""},
	{"a body on a GET", formCall("GET", "/v1/charges", "", "customer=cus_B"), policy.CodeMalformed, ""},
	{"a query and a body on a DELETE", formCall("DELETE", "/v1/subscriptions/sub_1", "prorate=true", "invoice_now=true"), policy.CodeMalformed, ""},
	{"_method", refundCall("_method=DELETE"), policy.CodeMalformed, "_method"},
	{"key in the form", refundCall("key=sk_live_1"), policy.CodeMalformed, "key"},
	{"_stripe_account in the form", refundCall("_stripe_account=acct_1"), policy.CodeMalformed, "_stripe_account"},
	{"_stripe_version in the form", refundCall("_stripe_version=2015-01-01"), policy.CodeMalformed, "_stripe_version"},
	{"payment_user_agent in the form", refundCall("payment_user_agent=x"), policy.CodeMalformed, "payment_user_agent"},
	{"multipart", with(formCall("POST", "/v1/refunds", "", "x"), "Content-Type", "multipart/form-data; boundary=x"), policy.CodeMalformed, "Content-Type"},
	{"JSON on v1", with(formCall("POST", "/v1/refunds", "", `{"amount":1}`), "Content-Type", "application/json"), policy.CodeMalformed, "Content-Type"},
	{"a body without a content type", &upstream.RawCall{Method: "POST", Path: "/v1/refunds", Header: http.Header{}, Body: []byte("amount=1")}, policy.CodeMalformed, "Content-Type"},
	{"another charset", with(refundCall("amount=1"), "Content-Type", "application/x-www-form-urlencoded; charset=utf-7"), policy.CodeMalformed, "Content-Type"},
	{"two content types", with(refundCall("amount=1"), "Content-Type", "application/x-www-form-urlencoded", "application/json"), policy.CodeHeaderDenied, ""},
	{"a method override", with(refundCall("amount=1"), "X-HTTP-Method-Override", "DELETE"), policy.CodeHeaderDenied, ""},
	{"a content encoding", with(refundCall("amount=1"), "Content-Encoding", "gzip"), policy.CodeHeaderDenied, ""},
	{"two authorizations", with(refundCall("amount=1"), "Authorization", "Bearer a", "Bearer b"), policy.CodeHeaderDenied, ""},
	{"two idempotency keys", with(refundCall("amount=1"), "Idempotency-Key", "a", "b"), policy.CodeHeaderDenied, ""},
	{"two accounts", with(refundCall("amount=1"), "Stripe-Account", "acct_1", "acct_2"), policy.CodeHeaderDenied, ""},
	{"two accounts in one header", with(refundCall("amount=1"), "Stripe-Account", "acct_1, acct_2"), policy.CodeHeaderDenied, ""},
	{"two versions", with(refundCall("amount=1"), "Stripe-Version", "2026-08-26.dahlia", "2015-01-01"), policy.CodeHeaderDenied, ""},
	{"an account and a context", with(with(refundCall("amount=1"), "Stripe-Account", "acct_1"), "Stripe-Context", "acct_2"), policy.CodeHeaderDenied, ""},
	{"an account in the header and another in the path", with(formCall("GET", "/v1/accounts/acct_2", "", ""), "Stripe-Account", "acct_1"), policy.CodeHeaderDenied, ""},
	{"an idempotency key that is too long", with(refundCall("amount=1"), "Idempotency-Key", strings.Repeat("k", 256)), policy.CodeHeaderDenied, ""},
	{"an old version", with(refundCall("amount=1"), "Stripe-Version", "2022-11-15"), policy.CodeVersion, "Stripe-Version"},
	{"a preview version", with(refundCall("amount=1"), "Stripe-Version", "2026-08-26.preview; orders_beta=v4"), policy.CodeVersion, "Stripe-Version"},
	{"a version with something behind it", with(refundCall("amount=1"), "Stripe-Version", "2026-08-26.dahlia; x=v1"), policy.CodeVersion, "Stripe-Version"},
	{"an amount with an exponent", refundCall("amount=1e3"), policy.CodeMalformed, "amount"},
	{"an amount with a plus", refundCall("amount=%2B100"), policy.CodeMalformed, "amount"},
	{"an amount with a space", refundCall("amount=%20100"), policy.CodeMalformed, "amount"},
	{"an amount in hex", refundCall("amount=0x64"), policy.CodeMalformed, "amount"},
	{"an amount with decimals", refundCall("amount=100.0"), policy.CodeMalformed, "amount"},
	{"an amount that some read as octal", refundCall("amount=0100"), policy.CodeMalformed, "amount"},
	{"an amount in other digits", refundCall("amount=%D9%A1%D9%A2"), policy.CodeMalformed, "amount"},
	{"an amount beyond 2^53", refundCall("amount=9007199254740993"), policy.CodeMalformed, "amount"},
	{"a negative amount", refundCall("amount=-100"), policy.CodeMalformed, "amount"},
	{"an empty amount", refundCall("amount="), policy.CodeMalformed, "amount"},
	{"an amount in a list", refundCall("amount[]=100"), policy.CodeMalformed, "amount"},
	{"a boolean that is none", refundCall("reverse_transfer=1"), policy.CodeMalformed, "reverse_transfer"},
	{"an unknown parameter on a money call", refundCall("surprise=1"), policy.CodeMalformed, "surprise"},
	{"an unknown nested parameter on a money call", formCall("POST", "/v1/payment_intents", "", "amount=1&currency=usd&shipping[surprise]=1"), policy.CodeMalformed, "shipping[surprise]"},
	{"a hash where a value belongs", formCall("POST", "/v1/customers", "", "source[number]=4242424242424242"), policy.CodeMalformed, "source"},
	{"two objects to refund", refundCall("payment_intent=pi_1"), policy.CodeMalformed, "charge"},
	{"no object to refund", formCall("POST", "/v1/refunds", "", "amount=1"), policy.CodeMalformed, "charge"},
	{"a card number", formCall("POST", "/v1/charges", "", "amount=1&currency=usd&card[number]=4242424242424242"), policy.CodeParamDenied, "card[number]"},
	{"a card number in a payment method", formCall("POST", "/v1/payment_methods", "", "type=card&card[number]=4242"), policy.CodeParamDenied, "card[number]"},
	{"a card number in payment method data", formCall("POST", "/v1/setup_intents", "", "payment_method_data[card][number]=4242424242424242"), policy.CodeParamDenied, "payment_method_data[card][number]"},
	{"a card number in a source", formCall("POST", "/v1/setup_intents", "", "source[number]=4242424242424242"), policy.CodeParamDenied, "source[number]"},
	{"a security code", formCall("POST", "/v1/tokens", "", "cvc_update[cvc]=123"), policy.CodeParamDenied, "cvc_update[cvc]"},
	{"expanding a card number", formCall("GET", "/v1/issuing/cards/ic_1", "expand[]=number", ""), policy.CodeParamDenied, "expand"},
	{"expanding a security code", formCall("GET", "/v1/issuing/cards/ic_1", "expand[0]=cvc", ""), policy.CodeParamDenied, "expand"},
	{"expanding what is not there", formCall("GET", "/v1/charges/ch_1", "expand[]=surprise", ""), policy.CodeMalformed, "expand"},
	{"expanding a hash", formCall("GET", "/v1/charges/ch_1", "expand[a]=customer", ""), policy.CodeMalformed, "expand"},
	{"expanding without end", formCall("GET", "/v1/charges/ch_1", "expand[]="+strings.Repeat("customer.", 20)+"customer", ""), policy.CodeMalformed, "expand"},
	{"an uploaded file", with(formCall("POST", "/v1/files", "", "x"), "Content-Type", "multipart/form-data; boundary=x"), policy.CodeMalformed, "Content-Type"},
}

// TestEverySmugglingFormIsRefused: each must end here, with a code and, where a parameter is at fault, its
// name.
func TestEverySmugglingFormIsRefused(t *testing.T) {
	a := newAdapter(t)
	for _, c := range smuggled {
		t.Run(c.name, func(t *testing.T) {
			_, r := a.Parse(c.raw, "")
			if r == nil {
				t.Fatal("let through")
			}
			if r.Code != c.code || r.Param != c.param {
				t.Fatalf("refused with %s on %q, want %s on %q (%s)", r.Code, r.Param, c.code, c.param, r.Message)
			}
			if !strings.HasSuffix(r.Message, ".") {
				t.Errorf("%q is not a sentence", r.Message)
			}
		})
	}
}

func TestEveryOddPathIsRefused(t *testing.T) {
	a := newAdapter(t)
	for _, c := range []struct {
		name, method, path string
		code               policy.Code
	}{
		{"a slash at the end", "GET", "/v1/charges/", policy.CodeMalformed},
		{"two slashes", "GET", "/v1//charges", policy.CodeMalformed},
		{"two slashes in front", "GET", "//v1/charges", policy.CodeMalformed},
		{"a dot segment", "GET", "/v1/charges/..", policy.CodeMalformed},
		{"a dot segment in percent codes", "GET", "/v1/charges/%2e%2e", policy.CodeMalformed},
		{"a dot segment behind an encoded slash", "GET", "/v1/charges/ch_1%2F..%2F..%2Frefunds", policy.CodeMalformed},
		{"a dot segment behind an encoded backslash", "GET", "/v1/charges/ch_1%5C..%5Crefunds", policy.CodeMalformed},
		{"two encoded slashes in an id", "GET", "/v1/charges/a%2F%2Fb", policy.CodeMalformed},
		{"two percent codes in one", "GET", "/v1/charges/%252e%252e", policy.CodeMalformed},
		{"a broken percent code", "GET", "/v1/charges/ch%", policy.CodeMalformed},
		{"a control character in an id", "GET", "/v1/charges/ch%0a1", policy.CodeMalformed},
		{"a semicolon", "GET", "/v1/charges/ch_1;x=1", policy.CodeMalformed},
		{"an encoded semicolon", "GET", "/v1/charges/ch_1%3Bx", policy.CodeMalformed},
		{"a character outside ASCII", "GET", "/v1/charges/ch_\xc3\xa9", policy.CodeMalformed},
		{"an encoded character outside ASCII", "GET", "/v1/charges/ch_%C3%A9", policy.CodeMalformed},
		{"a whole address", "GET", "http://api.stripe.com/v1/charges", policy.CodeMalformed},
		{"an authority", "GET", "api.stripe.com:443", policy.CodeMalformed},
		{"nothing", "GET", "", policy.CodeMalformed},
		{"a question mark", "GET", "/v1/charges?limit=1", policy.CodeMalformed},
		{"a literal in percent codes", "GET", "/v1/%63harges", policy.CodeUnknownRoute},
		{"a literal in percent codes where an id may stand", "GET", "/v1/charges/%73earch", policy.CodeMalformed},
		{"a literal in upper case", "GET", "/v1/Charges", policy.CodeUnknownRoute},
		{"an unknown version", "GET", "/v3/charges", policy.CodeUnknownRoute},
		{"an unknown route", "POST", "/v1/charge", policy.CodeUnknownRoute},
		{"a route that is gone from the document", "GET", "/v1/invoices/upcoming/lines", policy.CodeUnknownRoute},
		{"another one", "GET", "/v1/invoices/upcoming", policy.CodeUnknownRoute},
		{"a method that the route lacks", "DELETE", "/v1/charges/ch_1", policy.CodeUnknownRoute},
		{"a mount without its slash", "GET", "/stripev1/charges", policy.CodeUnknownRoute},
		{"a mount twice", "GET", "/stripe/stripe/v1/charges", policy.CodeUnknownRoute},
		{"a path that is too long", "GET", "/v1/charges/" + strings.Repeat("a", 5000), policy.CodeMalformed},
		{"HEAD", "HEAD", "/v1/charges", policy.CodeUnknownRoute},
		{"PUT", "PUT", "/v1/charges/ch_1", policy.CodeUnknownRoute},
		{"PATCH", "PATCH", "/v1/charges/ch_1", policy.CodeUnknownRoute},
		{"OPTIONS", "OPTIONS", "/v1/charges", policy.CodeUnknownRoute},
		{"CONNECT", "CONNECT", "api.stripe.com:443", policy.CodeUnknownRoute},
		{"TRACE", "TRACE", "/v1/charges", policy.CodeUnknownRoute},
		{"a method in lower case", "post", "/v1/refunds", policy.CodeUnknownRoute},
	} {
		t.Run(c.name, func(t *testing.T) {
			call, r := a.Parse(&upstream.RawCall{Method: c.method, Path: c.path, Header: http.Header{}}, "")
			if r == nil {
				t.Fatalf("let through as %s", call.Operation.Name)
			}
			if r.Code != c.code {
				t.Fatalf("refused with %s, want %s (%s)", r.Code, c.code, r.Message)
			}
		})
	}
}

func TestAnUnknownRouteNamesTheNearestOne(t *testing.T) {
	a := newAdapter(t)
	for path, want := range map[string]string{
		"/v1/refund":              "POST /v1/refunds",
		"/v1/payment_intent":      "POST /v1/payment_intents",
		"/v1/charges/ch_1/captur": "POST /v1/charges/{charge}/capture",
	} {
		_, r := a.Parse(formCall("POST", path, "", ""), "")
		if r == nil || !strings.Contains(r.Message, want+".") {
			t.Errorf("%s: %v does not name %s", path, r, want)
		}
	}
}

func TestIdsThatAreLegalPass(t *testing.T) {
	a := newAdapter(t)
	for raw, sent := range map[string]string{
		"/v1/charges/ch_1":              "/v1/charges/ch_1",
		"/stripe/v1/charges/ch_1":       "/v1/charges/ch_1",
		"/v1/coupons/50%25OFF":          "/v1/coupons/50%25OFF",
		"/v1/coupons/summer%2f26":       "/v1/coupons/summer%2F26",
		"/v1/coupons/summer%2F26":       "/v1/coupons/summer%2F26",
		"/v1/coupons/a+b":               "/v1/coupons/a%2Bb",
		"/v1/coupons/a%20b":             "/v1/coupons/a%20b",
		"/v1/coupons/%61bc":             "/v1/coupons/abc",
		"/v1/coupons/v1.2":              "/v1/coupons/v1.2",
		"/v1/coupons/a:b@c!$&'(),=*":    "/v1/coupons/a%3Ab%40c%21%24%26%27%28%29%2C%3D%2A",
		"/v1/coupons/what%3Fand%23more": "/v1/coupons/what%3Fand%23more",
	} {
		call, r := a.Parse(formCall("GET", raw, "", ""), "")
		if r != nil {
			t.Errorf("%s: %s", raw, r.Message)
		} else if call.Path != sent {
			t.Errorf("%s is sent as %s, want %s", raw, call.Path, sent)
		}
	}
}

func TestTooMuchIsRefused(t *testing.T) {
	a := newAdapter(t)
	for name, raw := range map[string]*upstream.RawCall{
		"parameters":    formCall("POST", "/v1/customers", "", strings.Repeat("a=1&", maxParams+1)+"b=1"),
		"body":          formCall("POST", "/v1/customers", "", "name="+strings.Repeat("a", maxBody)),
		"query":         formCall("GET", "/v1/customers", "email="+strings.Repeat("a", maxQuery), ""),
		"one value":     formCall("POST", "/v1/customers", "", "name="+strings.Repeat("a", maxValue+1)),
		"one name":      formCall("POST", "/v1/customers", "", "metadata["+strings.Repeat("a", maxKey)+"]=1"),
		"one id":        formCall("GET", "/v1/customers/"+strings.Repeat("a", maxID+1), "", ""),
		"JSON depth":    with(formCall("POST", "/v2/core/accounts", "", strings.Repeat(`{"a":`, 200)+"1"+strings.Repeat("}", 200)), "Content-Type", "application/json"),
		"JSON elements": with(formCall("POST", "/v2/core/accounts", "", `{"a":[`+strings.Repeat("1,", maxParams)+"1]}"), "Content-Type", "application/json"),
	} {
		if _, r := a.Parse(raw, ""); r == nil || r.Code != policy.CodeMalformed {
			t.Errorf("too much of %s: %v", name, r)
		}
	}
}

func TestJSONIsReadInOneWayOnly(t *testing.T) {
	a := newAdapter(t)
	for name, body := range map[string]string{
		"a key twice":                    `{"a":1,"a":2}`,
		"a key twice in two cases":       `{"amount":1,"Amount":2}`,
		"a key twice through an escape":  `{"a":1,"\u0061":2}`,
		"a key twice in a nested object": `{"o":{"a":1,"a":2}}`,
		"a byte order mark":              "\xef\xbb\xbf{}",
		"something behind the object":    `{} {}`,
		"a list":                         `[]`,
		"a bare value":                   `1`,
		"an exponent":                    `{"value":1e400}`,
		"a number without end":           `{"value":` + strings.Repeat("1", 40) + `}`,
		"a leading zero":                 `{"value":0100}`,
		"a comment":                      `{"a":1/*x*/}`,
		"single quotes":                  `{'a':1}`,
		"a cut object":                   `{"a":1`,
		"not UTF-8":                      "{\"a\":\"\xff\"}",
		"an empty name":                  `{"":1}`,
		"a name with brackets":           `{"a[b]":1}`,
		"a NUL":                          `{"a":"\u0000"}`,
	} {
		raw := with(formCall("POST", "/v2/core/accounts", "", body), "Content-Type", "application/json")
		if _, r := a.Parse(raw, ""); r == nil || r.Code != policy.CodeMalformed {
			t.Errorf("%s: %v", name, r)
		}
	}
}

func TestAContentTypeWithoutABodyIsIgnored(t *testing.T) {
	a := newAdapter(t)
	for _, raw := range []*upstream.RawCall{formCall("GET", "/v1/charges", "limit=1", ""), formCall("POST", "/v1/payment_intents/pi_1/cancel", "", "")} {
		if _, refusal := a.Parse(with(raw, "Content-Type", "text/plain"), ""); refusal != nil {
			t.Errorf("%s: %s", raw.Path, refusal.Message)
		}
	}
}

// TestACheckedParameterCannotHideInAnotherForm: a hash where a list belongs is followed to its customers too.
func TestACheckedParameterCannotHideInAnotherForm(t *testing.T) {
	call := mustParse(t, newAdapter(t), post("/v1/invoices/create_preview", "customer=cus_1&discounts[a][promotion_code]=promo_1"))
	if call.Operation.Customer.Kind != policy.TieLookup {
		t.Errorf("%+v", call.Operation.Customer)
	}
}

// Two alternatives of one parameter may each have a member of the same name; the members of both are taken.
func TestAMoneyCallTakesEveryAlternativeOfAParameter(t *testing.T) {
	a := newAdapter(t)
	for _, body := range []string{
		"mandate_data[customer_acceptance][type]=offline&mandate_data[customer_acceptance][accepted_at]=1893456000",
		"mandate_data[customer_acceptance][type]=online&mandate_data[customer_acceptance][online][ip_address]=1.2.3.4",
	} {
		mustParse(t, a, post("/v1/payment_intents/pi_1/confirm", body))
	}
}
