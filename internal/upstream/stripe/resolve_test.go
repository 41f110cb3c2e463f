package stripe

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

// shelf answers look-ups from fixed objects and counts how often each was asked for. It is safe for one
// goroutine.
type shelf struct {
	objects map[string]string // by path
	status  map[string]int    // by path; 200 where absent and an object is there, 404 otherwise
	asked   map[string]int    // by path and query
	err     error
}

func (s *shelf) look(_ context.Context, l upstream.Look) (int, []byte, error) {
	if s.asked == nil {
		s.asked = make(map[string]int)
	}
	key := l.Path
	if l.Query != "" {
		key += "?" + l.Query
	}
	s.asked[key]++
	if s.err != nil {
		return 0, nil, s.err
	}
	if code, ok := s.status[l.Path]; ok {
		return code, []byte(`{"error":{"type":"invalid_request_error","message":"The provided key 'rk_test_abc' may not."}}`), nil
	}
	body, ok := s.objects[l.Path]
	if !ok {
		return 404, []byte(`{"error":{"type":"invalid_request_error","code":"resource_missing","message":"No such charge: 'ch_9'","param":"id"}}`), nil
	}
	return 200, []byte(body), nil
}

// objects is what the shelf holds in the tests: charges, an intent, a refund, an invoice and methods, of an
// allowed customer (A), a foreign one (X) and nobody.
func objects() map[string]string {
	return map[string]string{
		"/v1/charges/ch_A":         `{"id":"ch_A","object":"charge","amount":5000,"amount_captured":5000,"amount_refunded":1200,"currency":"usd","customer":"cus_A"}`,
		"/v1/charges/ch_full":      `{"id":"ch_full","object":"charge","amount":5000,"amount_refunded":5000,"currency":"usd","customer":"cus_A"}`,
		"/v1/charges/ch_X":         `{"id":"ch_X","object":"charge","amount":5000,"amount_refunded":0,"currency":"usd","customer":"cus_X"}`,
		"/v1/charges/ch_guest":     `{"id":"ch_guest","object":"charge","amount":5000,"amount_refunded":0,"currency":"usd","customer":null}`,
		"/v1/charges/ch_odd":       `{"id":"ch_odd","object":"charge","amount":"5000","amount_refunded":0,"currency":"usd","customer":"cus_A"}`,
		"/v1/payment_intents/pi_A": `{"id":"pi_A","object":"payment_intent","amount":5000,"amount_capturable":4000,"amount_received":1000,"currency":"eur","customer":{"id":"cus_A","object":"customer"},"latest_charge":{"id":"ch_A","amount":5000,"amount_refunded":500}}`,
		"/v1/payment_intents/pi_0": `{"id":"pi_0","object":"payment_intent","amount":5000,"amount_capturable":0,"amount_received":0,"currency":"usd","customer":"cus_A","latest_charge":null}`,
		"/v1/refunds/re_A":         `{"id":"re_A","object":"refund","charge":{"id":"ch_A","customer":"cus_A"}}`,
		"/v1/refunds/re_cash":      `{"id":"re_cash","object":"refund","charge":null}`,
		"/v1/invoices/in_A":        `{"id":"in_A","object":"invoice","amount_due":700,"amount_remaining":700,"currency":"usd","customer":"cus_A","status":"open"}`,
		"/v1/payment_methods/pm_X": `{"id":"pm_X","object":"payment_method","customer":"cus_X"}`,
		"/v1/payment_methods/pm_0": `{"id":"pm_0","object":"payment_method","customer":null}`,
		"/v1/payment_methods/pm_A": `{"id":"pm_A","object":"payment_method","customer":"cus_A"}`,
	}
}

const pinned = "2026-08-26.dahlia"

// parsedCall reads a request as the gateway does; the adapter's tables are the real ones.
func parsedCall(t *testing.T, a *Adapter, method, path, form string) *upstream.Call {
	t.Helper()
	raw := &upstream.RawCall{Method: method, Path: path, Header: http.Header{}}
	if method == "POST" {
		raw.Body = []byte(form)
		raw.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	} else {
		raw.Query = form
	}
	call, refusal := a.Parse(raw, pinned)
	if refusal != nil {
		t.Fatalf("%s %s %s: %+v", method, path, form, refusal)
	}
	call.Upstream = "up_1"
	return call
}

func TestResolveFindsAmountsAndPinsThem(t *testing.T) {
	tests := map[string]struct {
		path, form string
		minor      int64
		currency   string
		ceiling    int64
		body       string // as it will be sent
		asked      string // the one look-up
	}{
		"a refund without amount is the unrefunded rest":   {"/v1/refunds", "charge=ch_A", 3800, "usd", 0, "amount=3800&charge=ch_A", "/v1/charges/ch_A"},
		"a refund with amount is what was asked":           {"/v1/refunds", "charge=ch_A&amount=100", 100, "usd", 0, "amount=100&charge=ch_A", "/v1/charges/ch_A"},
		"a refund beyond the rest is left to Stripe":       {"/v1/refunds", "charge=ch_A&amount=999999", 999999, "usd", 0, "amount=999999&charge=ch_A", "/v1/charges/ch_A"},
		"a refund of an intent is of its latest charge":    {"/v1/refunds", "payment_intent=pi_A", 4500, "eur", 0, "amount=4500&payment_intent=pi_A", "/v1/payment_intents/pi_A?expand%5B0%5D=latest_charge"},
		"an equal currency is no conflict":                 {"/v1/refunds", "charge=ch_A&amount=100&currency=USD", 100, "usd", 0, "amount=100&charge=ch_A&currency=usd", "/v1/charges/ch_A"},
		"the legacy route of a charge's refund":            {"/v1/charges/ch_A/refund", "", 3800, "usd", 0, "amount=3800", "/v1/charges/ch_A"},
		"a capture without amount takes what is left":      {"/v1/payment_intents/pi_A/capture", "", 4000, "eur", 5000, "amount_to_capture=4000", "/v1/payment_intents/pi_A"},
		"a capture of a part":                              {"/v1/payment_intents/pi_A/capture", "amount_to_capture=10", 10, "eur", 5000, "amount_to_capture=10", "/v1/payment_intents/pi_A"},
		"an overcapture lifts the ceiling":                 {"/v1/payment_intents/pi_A/capture", "amount_to_capture=4500", 4500, "eur", 5500, "amount_to_capture=4500", "/v1/payment_intents/pi_A"},
		"a confirmation holds the intent's amount":         {"/v1/payment_intents/pi_A/confirm", "", 5000, "eur", 0, "", "/v1/payment_intents/pi_A"},
		"a smaller amount to confirm is not trusted":       {"/v1/payment_intents/pi_A/confirm", "amount_to_confirm=1", 5000, "eur", 0, "amount_to_confirm=1", "/v1/payment_intents/pi_A"},
		"a larger amount to confirm counts":                {"/v1/payment_intents/pi_A/confirm", "amount_to_confirm=6000", 6000, "eur", 0, "amount_to_confirm=6000", "/v1/payment_intents/pi_A"},
		"an update of the amount is in the intent's money": {"/v1/payment_intents/pi_A", "amount=7000", 7000, "eur", 0, "amount=7000", "/v1/payment_intents/pi_A"},
		"a currency alone re-values the whole intent":      {"/v1/payment_intents/pi_A", "currency=jpy", 5000, "jpy", 0, "amount=5000&currency=jpy", "/v1/payment_intents/pi_A"},
		"an invoice is paid as it is due":                  {"/v1/invoices/in_A/pay", "", 700, "usd", 0, "", "/v1/invoices/in_A"},
	}
	a := newAdapter(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for _, p := range []*policy.Policy{anyCustomer, onlyA} {
				s := &shelf{objects: objects()}
				call := parsedCall(t, a, "POST", tt.path, tt.form)
				before := call.Fingerprint
				refusal, err := a.Resolve(t.Context(), call, p, s.look)
				if refusal != nil || err != nil {
					t.Fatalf("refusal %+v, error %v", refusal, err)
				}
				op := &call.Operation
				if !op.Resolved || len(op.Effects) != 1 || !op.Effects[0].Known {
					t.Fatalf("not resolved: %+v", op)
				}
				e := op.Effects[0]
				if e.Amount.Minor != tt.minor || string(e.Amount.Currency) != tt.currency || e.Ceiling != tt.ceiling {
					t.Errorf("amount %d %s, ceiling %d; want %d %s, %d", e.Amount.Minor, e.Amount.Currency, e.Ceiling, tt.minor, tt.currency, tt.ceiling)
				}
				if string(call.Body) != tt.body {
					t.Errorf("body %q, want %q", call.Body, tt.body)
				}
				if diff := cmp.Diff(map[string]int{tt.asked: 1}, s.asked); diff != "" {
					t.Errorf("look-ups (-want +got):\n%s", diff)
				}
				if call.Fingerprint != before {
					t.Error("pinning changed the fingerprint")
				}
				want := policy.CustomerTie{Kind: policy.TieKnown, Customers: []policy.CustomerID{"cus_A"}}
				if p.Customers.Any {
					want.Kind = policy.TieLookup // nobody asked; it was seen
				}
				if diff := cmp.Diff(want, op.Customer); diff != "" {
					t.Errorf("customers (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestResolveFollowsCustomers(t *testing.T) {
	known := func(ids ...policy.CustomerID) policy.CustomerTie {
		return policy.CustomerTie{Kind: policy.TieKnown, Customers: ids}
	}
	guest := policy.CustomerTie{Kind: policy.TieKnown, Guest: true}
	tests := map[string]struct {
		method, path, form string
		tie                policy.CustomerTie
		resolved           bool
	}{
		"a charge":                                 {"GET", "/v1/charges/ch_A", "", known("cus_A"), true},
		"a foreign charge":                         {"GET", "/v1/charges/ch_X", "", known("cus_X"), false},
		"a guest's charge":                         {"GET", "/v1/charges/ch_guest", "", guest, false},
		"a charge that does not exist":             {"GET", "/v1/charges/ch_none", "", known(noSuchCustomer), false},
		"an intent with its customer expanded":     {"GET", "/v1/payment_intents/pi_A", "", known("cus_A"), true},
		"a refund, by its charge":                  {"GET", "/v1/refunds/re_A", "", known("cus_A"), true},
		"a refund of a cash balance":               {"GET", "/v1/refunds/re_cash", "", guest, false},
		"an invoice":                               {"GET", "/v1/invoices/in_A", "", known("cus_A"), true},
		"a refund of a foreign charge":             {"POST", "/v1/refunds", "charge=ch_X", known("cus_X"), false},
		"an invoice paid with a foreign method":    {"POST", "/v1/invoices/in_A/pay", "payment_method=pm_X", known("cus_A", "cus_X"), false},
		"an invoice paid with a loose method":      {"POST", "/v1/invoices/in_A/pay", "payment_method=pm_0", policy.CustomerTie{Kind: policy.TieKnown, Customers: []policy.CustomerID{"cus_A"}, Guest: true}, false},
		"an invoice paid with the customer's own":  {"POST", "/v1/invoices/in_A/pay", "payment_method=pm_A", known("cus_A"), true},
		"a method whose prefix leads nowhere":      {"POST", "/v1/invoices/in_A/pay", "payment_method=zz_1", policy.CustomerTie{Customers: []policy.CustomerID{"cus_A"}}, true},
		"refunds of a charge":                      {"GET", "/v1/refunds", "charge=ch_A", known("cus_A"), true},
		"refunds of a charge and a foreign intent": {"GET", "/v1/refunds", "charge=ch_X&payment_intent=pi_A", known("cus_X", "cus_A"), false},
		"an update that names a foreign customer":  {"POST", "/v1/payment_intents/pi_A", "customer=cus_X", known("cus_A", "cus_X"), false},
	}
	a := newAdapter(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			call := parsedCall(t, a, tt.method, tt.path, tt.form)
			call.Upstream = "" // nothing is remembered between the cases
			refusal, err := a.Resolve(t.Context(), call, onlyA, (&shelf{objects: objects()}).look)
			if refusal != nil || err != nil {
				t.Fatalf("refusal %+v, error %v", refusal, err)
			}
			call.Operation.Customer.Add = ""
			if diff := cmp.Diff(tt.tie, call.Operation.Customer); diff != "" {
				t.Errorf("customers (-want +got):\n%s", diff)
			}
			if call.Operation.Resolved != tt.resolved {
				t.Errorf("resolved %v, want %v", call.Operation.Resolved, tt.resolved)
			}
			wide := &policy.Policy{Scopes: map[policy.Resource]policy.Access{"*": policy.Write}, Customers: onlyA.Customers, Uncapped: true}
			if d := policy.Decide(wide, &call.Operation); (d.Verdict == policy.Allow) != (tt.resolved && tt.tie.Kind == policy.TieKnown) {
				t.Errorf("decided %v: %+v", d.Verdict, d.Failures)
			}
		})
	}
}

func TestAForeignAndAMissingObjectAreDeniedInTheSameWords(t *testing.T) {
	a := newAdapter(t)
	wide := &policy.Policy{Scopes: map[policy.Resource]policy.Access{"*": policy.Write}, Customers: onlyA.Customers, Uncapped: true}
	var said []string
	for _, id := range []string{"ch_X", "ch_none"} {
		call := parsedCall(t, a, "POST", "/v1/refunds", "charge="+id)
		refusal, err := a.Resolve(t.Context(), call, wide, (&shelf{objects: objects()}).look)
		if refusal != nil || err != nil {
			t.Fatalf("refusal %+v, error %v", refusal, err)
		}
		d := policy.Decide(wide, &call.Operation)
		if d.Verdict != policy.Deny || len(d.Failures) != 1 {
			t.Fatalf("%s: %+v", id, d)
		}
		said = append(said, string(d.Failures[0].Code)+d.Failures[0].Message+d.Failures[0].Param)
	}
	if said[0] != said[1] {
		t.Errorf("%q and %q", said[0], said[1])
	}
}

func TestResolveRefuses(t *testing.T) {
	tests := map[string]struct {
		path, form string
		code       policy.Code
		param, say string
	}{
		"a currency that is not the charge's":  {"/v1/refunds", "charge=ch_A&amount=1&currency=eur", policy.CodeMalformed, "currency", "USD"},
		"a refund of nothing":                  {"/v1/refunds", "charge=ch_full", policy.CodeMalformed, "amount", "Nothing is left"},
		"a capture of nothing":                 {"/v1/payment_intents/pi_0/capture", "", policy.CodeMalformed, "amount_to_capture", "Nothing is left"},
		"a refund of an intent without charge": {"/v1/refunds", "payment_intent=pi_0", policy.CodeMalformed, "payment_intent", "latest_charge.amount"},
		"a charge that does not exist":         {"/v1/refunds", "charge=ch_9", upstream.CodeResourceMissing, "charge", "No such charge: 'ch_9'"},
		"an object in the path":                {"/v1/charges/ch_9/refund", "", upstream.CodeResourceMissing, "", "No such charge: 'ch_9'"},
	}
	a := newAdapter(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			call := parsedCall(t, a, "POST", tt.path, tt.form)
			refusal, err := a.Resolve(t.Context(), call, anyCustomer, (&shelf{objects: objects()}).look)
			if err != nil || refusal == nil {
				t.Fatalf("refusal %+v, error %v", refusal, err)
			}
			if refusal.Code != tt.code || refusal.Param != tt.param || !strings.Contains(refusal.Message, tt.say) {
				t.Errorf("got %+v, want %s, param %q, a message with %q", refusal, tt.code, tt.param, tt.say)
			}
			if call.Operation.Resolved {
				t.Error("resolved all the same")
			}
		})
	}
}

func TestResolveFailsWhereStripeCannotBeAsked(t *testing.T) {
	path := "/v1/charges/ch_A"
	gone := errors.New("connection reset")
	tests := map[string]struct {
		shelf *shelf
		is    error
	}{
		"no answer":             {&shelf{err: gone}, gone},
		"an unknown secret":     {&shelf{status: map[string]int{path: 401}}, upstream.ErrCredential},
		"a missing permission":  {&shelf{status: map[string]int{path: 403}}, upstream.ErrCredential},
		"throttled":             {&shelf{status: map[string]int{path: 429}}, nil},
		"a server error":        {&shelf{status: map[string]int{path: 503}}, nil},
		"a redirect":            {&shelf{status: map[string]int{path: 302}}, nil},
		"a page":                {&shelf{objects: map[string]string{path: "<html>"}}, nil},
		"a list":                {&shelf{objects: map[string]string{path: "[]"}}, nil},
		"an amount in a text":   {&shelf{objects: map[string]string{path: `{"amount":"5","amount_refunded":0,"currency":"usd"}`}}, nil},
		"an amount below zero":  {&shelf{objects: map[string]string{path: `{"amount":5,"amount_refunded":-5,"currency":"usd"}`}}, nil},
		"an amount beyond 2^63": {&shelf{objects: map[string]string{path: `{"amount":9223372036854775808,"amount_refunded":0,"currency":"usd"}`}}, nil},
		"no currency":           {&shelf{objects: map[string]string{path: `{"amount":5,"amount_refunded":0}`}}, nil},
	}
	a := newAdapter(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			call := parsedCall(t, a, "POST", "/v1/refunds", "charge=ch_A")
			refusal, err := a.Resolve(t.Context(), call, anyCustomer, tt.shelf.look)
			if err == nil || refusal != nil || call.Operation.Resolved {
				t.Fatalf("refusal %+v, error %v", refusal, err)
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("error %v is not %v", err, tt.is)
			}
			if strings.Contains(err.Error(), "rk_test_abc") {
				t.Errorf("the error shows a key: %v", err)
			}
		})
	}
}

func TestShadowModeResolvesForeignObjectsToTheEnd(t *testing.T) {
	a := newAdapter(t)
	shadow := &policy.Policy{Customers: onlyA.Customers, Enforcement: policy.Shadow}
	call := parsedCall(t, a, "POST", "/v1/refunds", "charge=ch_X")
	refusal, err := a.Resolve(t.Context(), call, shadow, (&shelf{objects: objects()}).look)
	if refusal != nil || err != nil || !call.Operation.Resolved || call.Operation.Effects[0].Amount.Minor != 5000 {
		t.Errorf("refusal %+v, error %v, %+v", refusal, err, call.Operation)
	}
	call = parsedCall(t, a, "POST", "/v1/refunds", "charge=ch_9")
	if refusal, err = a.Resolve(t.Context(), call, shadow, (&shelf{objects: objects()}).look); err != nil || refusal == nil ||
		refusal.Code != upstream.CodeResourceMissing {
		t.Errorf("refusal %+v, error %v", refusal, err)
	}
}

func TestLastingEdgesAreRememberedAndOthersNever(t *testing.T) {
	a := newAdapter(t)
	s := &shelf{objects: objects()}
	resolve := func(path string, change func(*upstream.Call)) {
		call := parsedCall(t, a, "GET", path, "")
		change(call)
		if refusal, err := a.Resolve(t.Context(), call, onlyA, s.look); refusal != nil || err != nil {
			t.Fatalf("refusal %+v, error %v", refusal, err)
		}
	}
	same := func(*upstream.Call) {}
	for range 2 {
		resolve("/v1/charges/ch_A", same)
		resolve("/v1/charges/ch_guest", same)
		resolve("/v1/payment_intents/pi_A", same)
	}
	resolve("/v1/charges/ch_A", func(c *upstream.Call) { c.Upstream = "up_2" })
	resolve("/v1/charges/ch_A", func(c *upstream.Call) { c.Account = "acct_2" })
	want := map[string]int{"/v1/charges/ch_A": 3, "/v1/charges/ch_guest": 2, "/v1/payment_intents/pi_A": 2}
	if diff := cmp.Diff(want, s.asked); diff != "" {
		t.Errorf("look-ups (-want +got):\n%s", diff)
	}
	call := parsedCall(t, a, "POST", "/v1/refunds", "charge=ch_A")
	if _, err := a.Resolve(t.Context(), call, onlyA, s.look); err != nil || call.Operation.Effects[0].Amount.Minor != 3800 {
		t.Errorf("an amount from a remembered charge: %+v, %v", call.Operation.Effects, err)
	}
}

func TestTheEdgeCacheIsBounded(t *testing.T) {
	var c edgeCache
	for i := range maxEdges + 10 {
		c.put(edge{path: strconv.Itoa(i)}, "cus_A")
	}
	if c.recent.Len() != maxEdges || len(c.byEdge) != maxEdges {
		t.Errorf("%d edges, %d in the list", len(c.byEdge), c.recent.Len())
	}
	if _, ok := c.get(edge{path: "0"}); ok {
		t.Error("the oldest edge is still there")
	}
}

func TestTheEdgeCacheIsSafeForConcurrentUse(t *testing.T) {
	var c edgeCache
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 500 {
				e := edge{path: strconv.Itoa(i % 50), account: policy.AccountID(strconv.Itoa(g % 2))}
				if id, ok := c.get(e); ok && id != policy.CustomerID(e.path) {
					t.Errorf("edge %v leads to %s", e, id)
				}
				c.put(e, policy.CustomerID(e.path))
			}
		})
	}
	wg.Wait()
}

// TestUnderAnyCustomerTheOneThatWasSeenIsKept is for the record: an object that the amounts need anyway names its
// customer, and nothing is looked up for that alone.
func TestUnderAnyCustomerTheOneThatWasSeenIsKept(t *testing.T) {
	for name, tt := range map[string]struct {
		path, form string
		want       []policy.CustomerID
		asked      map[string]int
	}{
		"the customer of a refunded charge":    {"/v1/refunds", "charge=ch_A&amount=100", []policy.CustomerID{"cus_A"}, map[string]int{"/v1/charges/ch_A": 1}},
		"of a refunded intent, expanded":       {"/v1/refunds", "payment_intent=pi_A", []policy.CustomerID{"cus_A"}, map[string]int{"/v1/payment_intents/pi_A?expand%5B0%5D=latest_charge": 1}},
		"of a captured intent":                 {"/v1/payment_intents/pi_A/capture", "amount_to_capture=10", []policy.CustomerID{"cus_A"}, map[string]int{"/v1/payment_intents/pi_A": 1}},
		"of a paid invoice":                    {"/v1/invoices/in_A/pay", "", []policy.CustomerID{"cus_A"}, map[string]int{"/v1/invoices/in_A": 1}},
		"a guest's charge names nobody":        {"/v1/refunds", "charge=ch_guest", nil, map[string]int{"/v1/charges/ch_guest": 1}},
		"a method that no amount needs":        {"/v1/payment_intents/pi_A/confirm", "payment_method=pm_X", []policy.CustomerID{"cus_A"}, map[string]int{"/v1/payment_intents/pi_A": 1}},
		"the call's own customer comes first":  {"/v1/refunds", "charge=ch_A&customer=cus_Z", []policy.CustomerID{"cus_Z", "cus_A"}, map[string]int{"/v1/charges/ch_A": 1}},
		"one that is named twice is kept once": {"/v1/refunds", "charge=ch_A&customer=cus_A", []policy.CustomerID{"cus_A"}, map[string]int{"/v1/charges/ch_A": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			a, s := newAdapter(t), &shelf{objects: objects()}
			call := parsedCall(t, a, "POST", tt.path, tt.form)
			kind := call.Operation.Customer.Kind
			if refusal, err := a.Resolve(t.Context(), call, anyCustomer, s.look); refusal != nil || err != nil {
				t.Fatalf("refusal %+v, error %v", refusal, err)
			}
			tie := call.Operation.Customer
			if diff := cmp.Diff(tt.want, tie.Customers); diff != "" || tie.Guest || tie.Kind != kind {
				t.Errorf("%+v (-want +got):\n%s", tie, diff)
			}
			if diff := cmp.Diff(tt.asked, s.asked); diff != "" {
				t.Errorf("look-ups (-want +got):\n%s", diff)
			}
		})
	}
	// What an earlier call found out for good is known without a look-up.
	a, s := newAdapter(t), &shelf{objects: objects()}
	if _, err := a.Resolve(t.Context(), parsedCall(t, a, "GET", "/v1/charges/ch_A", ""), onlyA, s.look); err != nil {
		t.Fatal(err)
	}
	call := parsedCall(t, a, "GET", "/v1/charges/ch_A", "")
	if _, err := a.Resolve(t.Context(), call, anyCustomer, s.look); err != nil || len(call.Operation.Customer.Customers) != 1 || s.asked["/v1/charges/ch_A"] != 1 {
		t.Errorf("%+v, %v; look-ups %v", call.Operation.Customer, err, s.asked)
	}
}

func TestResolveNeedsACallOfParse(t *testing.T) {
	if _, err := (&Adapter{}).Resolve(t.Context(), &upstream.Call{}, anyCustomer, nil); err == nil {
		t.Error("a call that nobody parsed was resolved")
	}
}
