package stripe

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
	"pgregory.net/rapid"
)

// again turns a parsed call back into a raw one, as Stripe would read it.
func again(call *upstream.Call) *upstream.RawCall {
	return &upstream.RawCall{Method: call.Method, Path: call.Path, Query: call.Query, Header: call.Header.Clone(), Body: call.Body}
}

// reader parses calls and has policies to judge them by, which look at different things.
type reader struct {
	*Adapter
	policies []*policy.Policy
}

func newReader(t testing.TB) *reader {
	r := &reader{Adapter: newAdapter(t)}
	for _, text := range []string{
		"name: agent-fuzz-open-1\nscopes: {\"*\": write}\nuncapped: true\nunmetered: [\"*\"]\ncustomers: any\n",
		"name: agent-fuzz-listed-1\nscopes: {\"*\": write}\nuncapped: true\ncustomers: [customer_1, customer_contract]\naccounts: [acct_contract]\n",
		"name: agent-fuzz-narrow-1\nscopes: {charges: read, customers: read, refunds: write}\ncustomers: any\n" +
			"caps: [{resource: refunds, per: call, usd: 5.00}, {resource: \"*\", per: day, usd: 1.00}]\n" +
			"params:\n  refunds.create: {amount: {max: 500, required: true}, reason: {in: [duplicate]}, reverse_transfer: deny}\n",
	} {
		p, _, err := policy.Parse("fuzz.yaml", []byte(text), r.Catalog().Vocabulary())
		if err != nil {
			t.Fatal(err)
		}
		r.policies = append(r.policies, p)
	}
	return r
}

// sameDecision checks that what is sent is judged as what was read: parse, write, parse again.
func (a *reader) sameDecision(t rapid.TB, raw *upstream.RawCall) {
	call, refusal := a.Parse(raw, "")
	if refusal != nil {
		if refusal.Code == "" || refusal.Message == "" || len(refusal.Param) > 2*maxEcho {
			t.Fatalf("a refusal without words: %+v", refusal)
		}
		return
	}
	back, refusal := a.Parse(again(call), "")
	if refusal != nil {
		t.Fatalf("%s %s %s %s is sent, but would be refused: %s", call.Method, call.Path, call.Query, call.Body, refusal.Message)
	}
	if back.Path != call.Path || back.Query != call.Query || string(back.Body) != string(call.Body) || back.Fingerprint != call.Fingerprint {
		t.Fatalf("%s %s %s %s is read again as %s %s %s", call.Path, call.Query, call.Body, call.Template, back.Path, back.Query, back.Body)
	}
	ignore := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Params" }, cmp.Ignore())
	if diff := cmp.Diff(call.Operation, back.Operation, ignore); diff != "" {
		t.Fatalf("another operation (-read +sent):\n%s", diff)
	}
	for _, p := range a.policies {
		if diff := cmp.Diff(policy.Decide(p, &call.Operation), policy.Decide(p, &back.Operation)); diff != "" {
			t.Fatalf("%s decides otherwise (-read +sent):\n%s", p.Name, diff)
		}
	}
}

// FuzzCall tries routes and parameters together: whatever is let through is read again as it was read.
func FuzzCall(f *testing.F) {
	for _, s := range requestSeeds(f) {
		f.Add(s[0], s[1], s[2])
	}
	a := newReader(f)
	f.Fuzz(func(t *testing.T, method, path, params string) {
		inQuery := formCall(method, path, params, "")
		inBody := formCall(method, path, "", params)
		a.sameDecision(t, inQuery)
		a.sameDecision(t, inBody)
		if method != http.MethodDelete {
			return
		}
		one, refused := a.Parse(inQuery, "")
		other, refusedToo := a.Parse(inBody, "")
		if (refused == nil) != (refusedToo == nil) || refused == nil && (one.Query != other.Query || one.Fingerprint != other.Fingerprint) {
			t.Fatalf("%s %s %q is another call with its parameters in the body", method, path, params)
		}
	})
}

func FuzzRoutes(f *testing.F) {
	for _, path := range []string{"/v1/charges", "/v1/charges/ch_1", "/stripe/v1/coupons/a%2Fb", "/v1/charges/%2e%2e", "/v2/core/accounts/acct_1", "/v1//x", "/v1/charges/%73earch", "/v1/invoices/in_1;x"} {
		for _, method := range []string{"GET", "POST", "DELETE", "PUT"} {
			f.Add(method, path)
		}
	}
	a := newReader(f)
	f.Fuzz(func(t *testing.T, method, path string) {
		raw := &upstream.RawCall{Method: method, Path: path, Header: http.Header{}}
		a.sameDecision(t, raw)
		call, refusal := a.Parse(raw, "")
		if refusal != nil {
			return
		}
		// The sent path has the template's shape however often it is decoded.
		if strings.Count(call.Path, "/") != strings.Count(call.Template, "/") {
			t.Fatalf("%q is sent as %q, which is no %q", path, call.Path, call.Template)
		}
		for seg := range strings.SplitSeq(call.Path, "/") {
			if seg == "." || seg == ".." || strings.ContainsAny(seg, ";\\ ") {
				t.Fatalf("%q is sent as %q", path, call.Path)
			}
		}
	})
}

func FuzzForm(f *testing.F) {
	for _, body := range []string{
		"charge=ch_1&amount=100", "charge=ch_1&metadata[a]=b&metadata[0]=c", "charge=ch_1&expand[]=charge", "charge=ch_1&expand%5B0%5D=charge",
		"[amount]=1", "amount=1&amount=2", "a=1;b=2", "charge=ch_1&reverse_transfer=TRUE", "payment_intent=pi_1&currency=USD", "charge=%00", "charge=+",
	} {
		f.Add(body)
	}
	a := newReader(f)
	f.Fuzz(func(t *testing.T, body string) {
		a.sameDecision(t, post("/v1/refunds", body))
		a.sameDecision(t, post("/v1/customers", body))
		a.sameDecision(t, formCall("GET", "/v1/charges", body, ""))
		a.sameDecision(t, formCall("GET", "/v1/charges/search", body, ""))
	})
}

func FuzzJSON(f *testing.F) {
	for _, body := range []string{
		`{}`, `{"a":1}`, `{"a":{"b":[1,null,true,"x"]}}`, `{"a":1,"a":2}`, `{"A":1,"a":2}`, `[]`, "\xef\xbb\xbf{}", `{"a":1e400}`, `{"a":"\ud800"}`,
		`{"metadata":{"A":"1","a":"2"}}`, `{"a":{}}`, `{"a":[]}`, `{} {}`, `{"include":["x.signing_secret"]}`,
		`{"amount":{"value":100,"currency":"USD"},"from":{"financial_account":"fa_1","currency":"usd"},"to":{"recipient":"acct_1"}}`,
		`{"amount":{"value":"100","currency":"usd"},"to":{"recipient":"acct_1","currency":"usd"}}`, `{"amount":{"value":1.0}}`, `{"amount":100}`,
	} {
		f.Add(body)
	}
	a := newReader(f)
	f.Fuzz(func(t *testing.T, body string) {
		a.sameDecision(t, jsonCall("/v2/core/accounts", body))
		a.sameDecision(t, jsonCall("/v2/money_management/outbound_payments", body))
		a.sameDecision(t, jsonCall("/v2/money_management/payout_intents", body))
	})
}

func FuzzSearch(f *testing.F) {
	for _, q := range []string{`customer:"cus_1"`, `customer:"cus_1" AND amount>1`, `customer:"a" OR customer:"b"`, `-customer:"a"`, `metadata["a"]:"b" AND customer:'c'`} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, query string) {
		id, ok := searchCustomer(query)
		if !ok {
			return
		}
		if !accountName(id, false) || !strings.Contains(query, `customer:"`+id+`"`) && !strings.Contains(query, `customer:'`+id+`'`) {
			t.Fatalf("%q is tied to %q", query, id)
		}
	})
}

func FuzzHeaders(f *testing.F) {
	f.Add("Stripe-Account", "acct_1")
	f.Add("Idempotency-Key", "k")
	f.Add("User-Agent", "a\nb")
	f.Add("Stripe-Version", "2026-08-26.dahlia")
	a := newAdapter(f)
	f.Fuzz(func(t *testing.T, header, value string) {
		raw := formCall("GET", "/v1/charges", "", "")
		raw.Header[http.CanonicalHeaderKey(header)] = []string{value}
		call, refusal := a.Parse(raw, "")
		if refusal != nil {
			if refusal.Code == policy.CodeMalformed {
				t.Fatalf("%s: %s", header, refusal.Message)
			}
			return
		}
		for name, values := range call.Header {
			switch name {
			case "Stripe-Version", "Stripe-Account", "Stripe-Context", "User-Agent", "X-Stripe-Client-User-Agent":
			default:
				t.Fatalf("%s is forwarded", name)
			}
			if len(values) != 1 || !printable(values[0]) {
				t.Fatalf("%s: %q is forwarded", name, values)
			}
		}
	})
}
