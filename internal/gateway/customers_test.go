package gateway_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
)

// listPolicy allows the first two seeded customers, and wide scopes, so that what stops a call is the list.
func listPolicy(w *world, more string) string {
	return `
name: agent-support-listed-test
scopes: {charges: write, payment_intents: write, customers: write, refunds: write, invoices: write, balance_transactions: read, events: read, payment_methods: read}
uncapped: true
caps: [{resource: refunds, per: day, usd: 500.00}, {resource: payment_intents, per: day, usd: 500.00}]
customers: [` + w.Seeded.Customers[0].ID + ", " + w.Seeded.Customers[1].ID + "]\n" + more
}

// leaksNothingOf fails the test if an answer has anything of the third customer's in it.
func (w *world) leaksNothingOf(t testing.TB, r reply, but ...string) {
	t.Helper()
	c := w.Seeded.Customers[2]
	all := r.Raw
	for name, values := range r.Header {
		all += name + strings.Join(values, " ")
	}
	for _, mark := range append([]string{c.ID, c.Email, c.Card, c.PaymentIntent, c.Invoice, "Cleo"}, c.Charges...) {
		if !slices.Contains(but, mark) && strings.Contains(all, mark) {
			t.Errorf("the answer shows %s: %s", mark, all)
		}
	}
}

func TestAForeignCustomersObjectIsOutOfReach(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(listPolicy(w, ""))
	f := w.Seeded.Customers[2] // not on the list
	own := w.Seeded.Customers[0]
	for _, c := range []struct{ name, method, path, form string }{
		{"refunding a foreign charge", "POST", "/v1/refunds", "charge=" + f.Charges[0]},
		{"refunding a foreign charge with its amount", "POST", "/v1/refunds", "charge=" + f.Charges[0] + "&amount=100"},
		{"refunding a foreign intent", "POST", "/v1/refunds", "payment_intent=" + f.PaymentIntent},
		{"the old refund of a foreign charge", "POST", "/v1/charges/" + f.Charges[0] + "/refund", "amount=100"},
		{"updating a foreign charge", "POST", "/v1/charges/" + f.Charges[0], "description=x"},
		{"updating a foreign intent", "POST", "/v1/payment_intents/" + f.PaymentIntent, "description=x"},
		{"confirming a foreign intent", "POST", "/v1/payment_intents/" + f.PaymentIntent + "/confirm", ""},
		{"canceling a foreign intent", "POST", "/v1/payment_intents/" + f.PaymentIntent + "/cancel", ""},
		{"paying a foreign invoice", "POST", "/v1/invoices/" + f.Invoice + "/pay", ""},
		{"voiding a foreign invoice", "POST", "/v1/invoices/" + f.Invoice + "/void", ""},
		{"updating a foreign customer", "POST", "/v1/customers/" + f.ID, "name=x"},
		{"deleting a foreign customer", "DELETE", "/v1/customers/" + f.ID, ""},
		{"charging a foreign customer", "POST", "/v1/payment_intents", "amount=100&currency=usd&customer=" + f.ID},
		{"charging a guest", "POST", "/v1/payment_intents", "amount=100&currency=usd"},
		{"moving an intent to a foreign customer", "POST", "/v1/payment_intents/" + own.PaymentIntent, "customer=" + f.ID},
		{"charging a foreign customer account", "POST", "/v1/payment_intents", "amount=100&currency=usd&customer_account=acct_f"},
		{"an allowed customer beside a foreign account", "POST", "/v1/payment_intents", "amount=100&currency=usd&customer=" + own.ID + "&customer_account=acct_f"},
		{"creating a customer", "POST", "/v1/customers", "email=new@example.com"},
		{"reading a foreign customer", "GET", "/v1/customers/" + f.ID, ""},
		{"reading a foreign charge", "GET", "/v1/charges/" + f.Charges[0], ""},
		{"reading a foreign intent", "GET", "/v1/payment_intents/" + f.PaymentIntent, ""},
		{"reading a foreign invoice", "GET", "/v1/invoices/" + f.Invoice, ""},
		{"listing a foreign customer's charges", "GET", "/v1/charges", "customer=" + f.ID},
		{"listing a foreign customer's methods", "GET", "/v1/customers/" + f.ID + "/payment_methods", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := w.arrivals("POST") + w.arrivals("DELETE")
			r := w.call(key, c.method, c.path, c.form).want(t, 403, "keybrake_customer_denied")
			if r.Header.Get("Stripe-Should-Retry") != "false" || r.Header.Get("Keybrake-Audit-Id") == "" {
				t.Errorf("%v", r.Header)
			}
			// What the agent itself has named is no news to it.
			var named []string
			for _, id := range append([]string{f.ID, f.PaymentIntent, f.Invoice}, f.Charges...) {
				if strings.Contains(c.path+c.form, id) {
					named = append(named, id)
				}
			}
			w.leaksNothingOf(t, r, named...)
			if after := w.arrivals("POST") + w.arrivals("DELETE"); after != before {
				t.Error("it was sent")
			}
		})
	}
	if n := len(w.reservations(k.ID)); n != 0 {
		t.Errorf("%d reservations", n)
	}
	if n := len(w.Sandbox.Effects()); n != 0 {
		t.Errorf("%d effects", n)
	}
}

func TestAnAllowedCustomersObjectsAreInReach(t *testing.T) {
	w := newWorld(t)
	key, _ := w.key(listPolicy(w, ""))
	c := w.Seeded.Customers[1]
	refund := w.refund(key, c.Charges[0], "100").want(t, 200, "")
	for _, call := range []struct{ method, path, form string }{
		{"GET", "/v1/customers/" + c.ID, ""},
		{"GET", "/v1/charges/" + c.Charges[0], ""},
		{"GET", "/v1/charges/" + c.Charges[0], "expand[]=customer"},
		{"GET", "/v1/payment_intents/" + c.PaymentIntent, ""},
		{"GET", "/v1/invoices/" + c.Invoice, ""},
		{"GET", "/v1/refunds/" + refund.str("id"), ""},
		{"GET", "/v1/charges", "customer=" + c.ID},
		{"GET", "/v1/payment_intents", "customer=" + c.ID + "&limit=3"},
		{"GET", "/v1/invoices", "customer=" + c.ID},
		{"POST", "/v1/payment_intents", "amount=100&currency=usd&customer=" + c.ID},
		{"POST", "/v1/invoices/" + c.Invoice + "/pay", ""},
		{"POST", "/v1/customers/" + c.ID, "name=x"},
	} {
		w.call(key, call.method, call.path, call.form).want(t, 200, "")
	}
}

func TestAListNeedsItsFilter(t *testing.T) {
	w := newWorld(t)
	key, _ := w.key(listPolicy(w, ""))
	for _, c := range []struct{ path, form, param string }{
		{"/v1/charges", "", "customer"},
		{"/v1/charges", "limit=1", "customer"},
		{"/v1/payment_intents", "", "customer"},
		{"/v1/invoices", "status=open", "customer"},
		{"/v1/customers", "", ""},
		{"/v1/refunds", "", ""},
		{"/v1/balance_transactions", "", ""},
		{"/v1/events", "", ""},
	} {
		r := w.call(key, "GET", c.path, c.form).want(t, 403, "keybrake_customer_denied")
		if c.param != "" && !strings.Contains(r.message(), c.param) {
			t.Errorf("%s does not say which parameter to add: %s", c.path, r.message())
		}
		w.leaksNothingOf(t, r)
	}
	if n := w.Sandbox.Arrivals(); n != 0 {
		t.Fatalf("%d arrived", n)
	}
}

func TestExpandStaysInsideTheScopes(t *testing.T) {
	w := newWorld(t)
	key, _ := w.key(`
name: agent-support-narrow-test
scopes: {charges: read}
customers: any
`)
	charge := w.Seeded.Customers[0].Charges[0]
	for _, form := range []string{"expand[]=customer", "expand[0]=balance_transaction", "expand[]=payment_intent.customer"} {
		w.call(key, "GET", "/v1/charges/"+charge, form).want(t, 401, "keybrake_scope_denied")
	}
	w.call(key, "GET", "/v1/charges", "expand[]=data.customer").want(t, 401, "keybrake_scope_denied")
	if n := w.Sandbox.Arrivals(); n != 0 {
		t.Fatalf("%d arrived", n)
	}
}

func TestAGuestIsNoAllowedCustomer(t *testing.T) {
	w := newWorld(t)
	open, _ := w.key(moneyPolicy(allPerDay))
	guest := w.call(open, "POST", "/v1/payment_intents", "amount=1000&currency=usd&payment_method=pm_card_visa&confirm=true").want(t, 200, "")
	key, _ := w.key(listPolicy(w, ""))
	w.call(key, "GET", "/v1/payment_intents/"+guest.str("id"), "").want(t, 403, "keybrake_customer_denied")
	w.call(key, "POST", "/v1/refunds", "payment_intent="+guest.str("id")).want(t, 403, "keybrake_customer_denied")
	w.refund(key, guest.str("latest_charge"), "100").want(t, 403, "keybrake_customer_denied")
}

// swapping is a Stripe that answers with another customer's id than asked.
func swapping(sb http.Handler, match string, old, with func() string) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		sb.ServeHTTP(rec, r)
		for name, v := range rec.Header() {
			if name != "Content-Length" {
				rw.Header()[name] = v
			}
		}
		rw.WriteHeader(rec.Code)
		body := rec.Body.String()
		if r.Method+" "+r.URL.Path == match {
			body = strings.ReplaceAll(body, old(), with())
		}
		_, _ = rw.Write([]byte(body))
	}
}

func TestAForeignCustomerInTheAnswerToAnExecutedWriteIsCutOutAndFreezes(t *testing.T) {
	up := &late{}
	w := buildWorld(t, setup{upstream: up})
	up.set(swapping(w.Sandbox, "POST /v1/refunds", func() string { return w.Seeded.Customers[0].ID }, func() string { return w.Seeded.Customers[2].ID }))
	key, k := w.key(listPolicy(w, ""))
	r := w.refund(key, w.Seeded.Customers[0].Charges[0], "1000").want(t, 200, "")
	if r.Header.Get("Keybrake-Guarded") != "true" || r.str("object") != "refund" || r.num("amount") != 1000 || r.str("status") == "" || r.str("id") == "" {
		t.Errorf("the agent must know that it happened: %v %s", r.Header, r.Raw)
	}
	if len(r.Body) > 5 {
		t.Errorf("more than the bare facts: %s", r.Raw)
	}
	w.leaksNothingOf(t, r)
	if got := w.last(k.ID); got.State != ledger.Settled {
		t.Errorf("%s", got.State)
	}
	w.wantUSD(k.ID, "refunds", 0, 1000)
	if got := w.lastOf(audit.KindOutcome); !got.Guarded {
		t.Errorf("recorded as %+v", got)
	}
	w.refund(key, w.Seeded.Customers[0].Charges[0], "1000").want(t, 401, "keybrake_key_frozen")
	w.call(key, "GET", "/v1/customers/"+w.Seeded.Customers[0].ID, "").want(t, 200, "")
}

func TestACreatedCustomerJoinsTheListBeforeTheAnswer(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(listPolicy(w, "may_create_customers: true\n"))
	r := w.call(key, "POST", "/v1/customers", "email="+url.QueryEscape("new@example.com"), "Idempotency-Key", "c").want(t, 200, "")
	id := r.str("id")
	if r.str("email") != "new@example.com" || r.Header.Get("Keybrake-Guarded") != "" {
		t.Fatalf("%v %s", r.Header, r.Raw)
	}
	w.call(key, "GET", "/v1/customers/"+id, "").want(t, 200, "")
	w.call(key, "POST", "/v1/payment_intents", "amount=100&currency=usd&customer="+id).want(t, 200, "")
	w.call(key, "POST", "/v1/customers", "email="+url.QueryEscape("new@example.com"), "Idempotency-Key", "c").want(t, 200, "")
	must(t, w.Store.View(t.Context(), func(tx store.Tx) error {
		row, err := tx.Key(k.ID)
		if err != nil {
			return err
		}
		stored, err := store.DecodeKey(row, k.Policy)
		if err != nil {
			return err
		}
		if !slices.Equal(stored.Joined, []policy.CustomerID{policy.CustomerID(id)}) {
			t.Errorf("in the store joined %v", stored.Joined)
		}
		return nil
	}))
	other, _ := w.key(listPolicy(w, ""))
	w.call(other, "GET", "/v1/customers/"+id, "").want(t, 403, "keybrake_customer_denied")
}

// TestACustomerOfACallThatTheStoreHasForgottenJoinsNoList has the store set back while a call is on the wire: what is not in
// the store's list must not be in this process's either.
func TestACustomerOfACallThatTheStoreHasForgottenJoinsNoList(t *testing.T) {
	w := newWorld(t)
	w.partial.Store(true) // the outcome names no intent
	key, _ := w.key(listPolicy(w, "may_create_customers: true\n"))
	w.Faults.onAdmitted(func(_ *store.Admission, out *store.Admitted) {
		if out.Reservation != nil { // the one that the store has now is another call's
			was := *out.Reservation
			was.At = was.At.Add(-time.Hour)
			out.Reservation = &was
		}
	})
	id := w.call(key, "POST", "/v1/customers", "email="+url.QueryEscape("new@example.com")).want(t, 200, "").str("id")
	w.call(key, "GET", "/v1/customers/"+id, "").want(t, 403, "keybrake_customer_denied")
	w.call(key, "POST", "/v1/customers", "").want(t, 401, "keybrake_key_frozen")
}

func TestErrorsNameNobodyElse(t *testing.T) {
	up := &late{}
	w := buildWorld(t, setup{upstream: up})
	f := w.Seeded.Customers[2]
	up.set(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.Sandbox.ServeHTTP(rw, r)
			return
		}
		rw.Header().Set("Content-Type", "application/json")
		rw.Header().Set("Request-Id", "req_1")
		rw.WriteHeader(400)
		_, _ = rw.Write([]byte(`{"error":{"type":"invalid_request_error","code":"resource_missing","message":"No such payment method; ` +
			f.Card + ` belongs to ` + f.ID + `","payment_intent":{"id":"` + f.PaymentIntent + `","object":"payment_intent","customer":"` + f.ID + `"}}}`))
	}))
	key, k := w.key(listPolicy(w, ""))
	r := w.refund(key, w.Seeded.Customers[0].Charges[0], "100").want(t, 400, "resource_missing")
	w.leaksNothingOf(t, r)
	if got := w.last(k.ID); got.State != ledger.Released {
		t.Errorf("%s", got.State)
	}
	w.call(key, "POST", "/v1/customers/"+w.Seeded.Customers[0].ID, "name=x").want(t, 400, "resource_missing") // no freeze: nothing happened
}

// TestUnderAnyCustomerTheRecordSaysWhoseItWas wants the customer on record wherever the call, an object that had to be
// looked up, or the answer names it, at no look-up of its own.
func TestUnderAnyCustomerTheRecordSaysWhoseItWas(t *testing.T) {
	for name, test := range map[string]struct {
		method, path, form string // % is a charge of the customer, $ the customer
		intent, outcome    bool   // on which records the customer is
		lookups            int
	}{
		"a refund":                        {"POST", "/v1/refunds", "charge=%&amount=100", true, true, 1},
		"a refund of all that is left":    {"POST", "/v1/refunds", "charge=%", true, true, 1},
		"an intent that names it":         {"POST", "/v1/payment_intents", "amount=100&currency=usd&customer=$", true, true, 0},
		"a charge that is read":           {"GET", "/v1/charges/%", "", false, true, 0},
		"a list of one customer":          {"GET", "/v1/charges", "customer=$", true, true, 0},
		"a customer that is read":         {"GET", "/v1/customers/$", "", true, true, 0},
		"a list that names it among all":  {"GET", "/v1/charges", "limit=100", false, true, 0},
		"what names nobody, such as this": {"GET", "/v1/payouts", "", false, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			key, _ := w.key(moneyPolicy(allPerDay))
			c := w.Seeded.Customers[0]
			fill := strings.NewReplacer("%", c.Charges[0], "$", c.ID)
			before := w.arrivals("GET")
			w.call(key, test.method, fill.Replace(test.path), fill.Replace(test.form)).want(t, 200, "")
			if test.method == "GET" {
				before++ // the call itself
			}
			if n := w.arrivals("GET") - before; n != test.lookups {
				t.Errorf("%d look-ups, want %d", n, test.lookups)
			}
			for kind, r := range map[string]*audit.Record{"outcome": w.outcome(), "intent": w.lastOf(audit.KindIntent)} {
				want := kind == "intent" && test.intent || kind == "outcome" && test.outcome
				if got := slices.Contains(r.Customers, policy.CustomerID(c.ID)); got != want {
					t.Errorf("the %s has %v; with the customer: %v, want %v", kind, r.Customers, got, want)
				}
			}
		})
	}
}
