package stripe

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

// world is a sandbox behind HTTP and an adapter in front of it.
type world struct {
	t      *testing.T
	a      *Adapter
	srv    *httptest.Server
	seeded sandbox.Seeded
}

func newWorld(t *testing.T) *world {
	s := sandbox.New(sandbox.Options{Seed: 1})
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	return &world{t: t, a: newAdapter(t), srv: srv, seeded: s.Seed()}
}

// do takes a call the whole way: parse, resolve, send, read, guard.
func (w *world) do(p *policy.Policy, method, path, form string) (*upstream.Call, upstream.Outcome, upstream.Guarded) {
	w.t.Helper()
	call := parsedCall(w.t, w.a, method, path, form)
	if call.Operation.NeedsLookup(p) {
		refusal, err := w.a.Resolve(w.t.Context(), call, p, httpLook(w.t, w.srv))
		if refusal != nil || err != nil {
			w.t.Fatalf("%s %s: refusal %+v, error %v", method, path, refusal, err)
		}
	}
	a := send(w.t, w.srv, call)
	return call, w.a.Outcome(call, a), w.a.Guard(call, p, a)
}

// id reads the id of an answer.
func (w *world) id(g upstream.Guarded) string {
	w.t.Helper()
	var v struct{ ID string }
	if err := json.Unmarshal(g.Body, &v); err != nil || v.ID == "" {
		w.t.Fatalf("no id in %s: %v", g.Body, err)
	}
	return v.ID
}

func TestCallsGoTheWholeWayThroughTheSandbox(t *testing.T) {
	w := newWorld(t)
	mine := w.seeded.Customers[0]
	list := &policy.Policy{Customers: policy.Customers{List: []policy.CustomerID{policy.CustomerID(mine.ID)}}}

	t.Run("refunds of a charge, the second of the rest", func(t *testing.T) {
		_, out, g := w.do(list, "POST", "/v1/refunds", "charge="+mine.Charges[1]+"&amount=2000")
		want := []upstream.MovedEffect{{Amount: cents(2000), Object: policy.ObjectID(w.id(g))}}
		if diff := cmp.Diff(want, out.Moved); out.Fate != upstream.Moved || diff != "" {
			t.Fatalf("%v %s (-want +got):\n%s", out.Fate, out.Why, diff)
		}
		call, out, g := w.do(list, "POST", "/v1/refunds", "charge="+mine.Charges[1])
		if got := string(call.Body); got != "amount=18000&charge="+mine.Charges[1] {
			t.Errorf("sent %s", got)
		}
		if out.Fate != upstream.Moved || out.Moved[0].Amount != cents(18000) || g.Tripped {
			t.Errorf("%+v, tripped %v", out, g.Tripped)
		}
	})
	t.Run("a refund that Stripe refuses", func(t *testing.T) {
		_, out, g := w.do(list, "POST", "/v1/refunds", "charge="+mine.Charges[2]+"&amount=999999")
		if out.Fate != upstream.Refused || g.Status != 400 || g.Header.Get("Keybrake-Guarded") != "" {
			t.Errorf("%v (%s), status %d, %s", out.Fate, out.Why, g.Status, g.Body)
		}
	})
	t.Run("an intent from creation to its last capture", func(t *testing.T) {
		_, out, g := w.do(list, "POST", "/v1/payment_intents", "amount=5000&currency=usd&capture_method=manual&customer="+mine.ID+"&payment_method="+mine.Card)
		pi := w.id(g)
		if out.Fate != upstream.Moved || !out.Pending || out.Moved[0].Object != policy.ObjectID(pi) || g.Withheld != 1 || strings.Contains(string(g.Body), "client_secret") {
			t.Fatalf("create: %+v, %d withheld, %s", out, g.Withheld, g.Body)
		}
		call, out, _ := w.do(list, "POST", "/v1/payment_intents/"+pi+"/confirm", "")
		if e := call.Operation.Effects[0]; out.Fate != upstream.Moved || !out.Pending || e.Amount != cents(5000) || e.Object != policy.ObjectID(pi) {
			t.Fatalf("confirm: %+v, effect %+v", out, e)
		}
		call, out, _ = w.do(list, "POST", "/v1/payment_intents/"+pi+"/capture", "amount_to_capture=3000")
		final := []upstream.Final{{Bucket: "payment_intents", Object: policy.ObjectID(pi), Amount: cents(3000)}}
		if diff := cmp.Diff(final, out.Finals); out.Fate != upstream.Moved || out.Pending || call.Operation.Effects[0].Ceiling != 5000 || diff != "" {
			t.Fatalf("capture: %+v, effect %+v (-want +got):\n%s", out, call.Operation.Effects[0], diff)
		}
	})
	t.Run("a declined card", func(t *testing.T) {
		_, out, g := w.do(anyCustomer, "POST", "/v1/payment_intents", "amount=5000&currency=usd&confirm=true&payment_method=pm_card_chargeDeclined")
		if out.Fate != upstream.Refused || out.Why != "card_declined" || g.Status != 402 || strings.Contains(string(g.Body), "client_secret") {
			t.Errorf("%v (%s), status %d, %s", out.Fate, out.Why, g.Status, g.Body)
		}
	})
	t.Run("an invoice is paid", func(t *testing.T) {
		call, out, _ := w.do(list, "POST", "/v1/invoices/"+mine.Invoice+"/pay", "")
		if out.Fate != upstream.Moved || out.Pending || call.Operation.Effects[0].Amount != cents(5000) || out.Moved[0].Amount != cents(5000) {
			t.Errorf("%+v, effect %+v", out, call.Operation.Effects[0])
		}
	})
}

func TestAnswersOfTheSandboxAreGuarded(t *testing.T) {
	w := newWorld(t)
	mine, other := w.seeded.Customers[0], w.seeded.Customers[1]
	list := &policy.Policy{Customers: policy.Customers{List: []policy.CustomerID{policy.CustomerID(mine.ID)}}}
	t.Run("reads of one's own pass untouched", func(t *testing.T) {
		for _, target := range []string{"/v1/charges?customer=" + mine.ID + "&limit=3", "/v1/customers/" + mine.ID, "/v1/charges/" + mine.Charges[0]} {
			path, query, _ := strings.Cut(target, "?")
			if _, _, g := w.do(list, "GET", path, query); g.Tripped || g.Status != 200 {
				t.Errorf("%s: status %d, tripped by %q", target, g.Status, g.Foreign)
			}
		}
	})
	t.Run("what slips through to a foreign object is seen in the answer", func(t *testing.T) {
		for _, path := range []string{"/v1/charges", "/v1/charges/" + other.Charges[0], "/v1/customers/" + other.ID, "/v1/payment_intents/" + other.PaymentIntent, "/v1/events"} {
			call := parsedCall(t, w.a, "GET", path, "")
			g := w.a.Guard(call, list, send(t, w.srv, call))
			if !g.Tripped {
				t.Errorf("%s passed: %s", path, g.Body)
			}
		}
	})
	t.Run("a wrong secret is ours", func(t *testing.T) {
		call := parsedCall(t, w.a, "GET", "/v1/charges", "")
		call.Path = "/v1/charges"
		a := sendAs(t, w.srv, call, "sk_live_wrong_1234567890")
		if out := w.a.Outcome(call, a); !out.CredentialRefused || a.Status != 401 {
			t.Errorf("%+v", out)
		}
		if g := w.a.Guard(call, anyCustomer, a); strings.Contains(string(g.Body), "sk_live_") {
			t.Errorf("a key is shown: %s", g.Body)
		}
	})
}

// httpLook looks things up at a server, as the gateway does.
func httpLook(t *testing.T, srv *httptest.Server) upstream.Lookup {
	return func(_ context.Context, look upstream.Look) (int, []byte, error) {
		a := send(t, srv, &upstream.Call{Method: look.Method, Path: look.Path, Query: look.Query, Body: look.Body})
		return a.Status, a.Body, nil
	}
}

// send sends a call as it was rebuilt.
func send(t *testing.T, srv *httptest.Server, call *upstream.Call) *upstream.Answer {
	t.Helper()
	return sendAs(t, srv, call, "sk_test_keybrake")
}

func sendAs(t *testing.T, srv *httptest.Server, call *upstream.Call, secret string) *upstream.Answer {
	t.Helper()
	url := srv.URL + call.Path
	if call.Query != "" {
		url += "?" + call.Query
	}
	req, err := http.NewRequestWithContext(t.Context(), call.Method, url, strings.NewReader(string(call.Body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	if len(call.Body) > 0 {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	res, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return &upstream.Answer{Status: res.StatusCode, Header: res.Header, Body: body, Sent: true}
}
