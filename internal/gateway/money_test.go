package gateway_test

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

// moneyPolicy is a policy with write on what moves money and the given caps.
func moneyPolicy(caps ...string) string {
	return `
name: agent-billing-money-test
scopes: {charges: write, payment_intents: write, customers: read, refunds: write, invoices: write, payouts: write, transfers: write}
customers: any
uncapped: true
caps:
` + capLines(caps)
}

func capLines(caps []string) string {
	var b strings.Builder
	for _, c := range caps {
		b.WriteString("  - {" + c + "}\n")
	}
	return b.String()
}

const allPerDay = `resource: "*", per: day, usd: 1000.00`

// lastBody is the body of the last call of a method that reached the sandbox.
func (w *world) lastBody(method string) string {
	w.t.Helper()
	journal := w.Sandbox.Journal()
	for i := len(journal) - 1; i >= 0; i-- {
		if journal[i].Method == method {
			return string(journal[i].Body)
		}
	}
	w.t.Fatalf("no %s arrived", method)
	return ""
}

func TestARefundWithoutAnAmountHoldsAndSendsWhatIsLeft(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(moneyPolicy(allPerDay))
	charge := w.Seeded.Customers[0].Charges[1]
	w.refund(key, charge, "5000").want(t, 200, "")
	r := w.refund(key, charge, "").want(t, 200, "")
	if r.num("amount") != 15000 {
		t.Fatalf("refunded %d", r.num("amount"))
	}
	if body := w.lastBody("POST"); !strings.Contains(body, "amount=15000") {
		t.Fatalf("sent %q without the amount that was held", body)
	}
	w.wantUSD(k.ID, "*", 0, 20000)
	w.refund(key, charge, "").want(t, 400, "keybrake_request_malformed") // nothing is left
}

func TestEveryFormOfARefundCountsTheSame(t *testing.T) {
	for _, c := range []struct{ name, path, form string }{
		{"by charge", "/v1/refunds", "charge=CHARGE"},
		{"by charge with its amount", "/v1/refunds", "charge=CHARGE&amount=20000"},
		{"by payment intent", "/v1/refunds", "payment_intent=INTENT"},
		{"by payment intent with its amount", "/v1/refunds", "payment_intent=INTENT&amount=20000"},
		{"by the old refund of a charge", "/v1/charges/CHARGE/refund", ""},
		{"by the old refund of a charge with its amount", "/v1/charges/CHARGE/refund", "amount=20000"},
		{"by the old refunds of a charge", "/v1/charges/CHARGE/refunds", "amount=20000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			key, k := w.key(moneyPolicy(`resource: refunds, per: day, usd: 300.00`, allPerDay))
			of := strings.NewReplacer("CHARGE", w.Seeded.Customers[0].Charges[0], "INTENT", w.Seeded.Customers[0].PaymentIntent)
			r := w.call(key, "POST", of.Replace(c.path), of.Replace(c.form))
			r.want(t, 200, "")
			if body := w.lastBody("POST"); !strings.Contains(body, "amount=20000") {
				t.Errorf("sent %q without the amount that was held", body)
			}
			w.wantUSD(k.ID, "refunds", 0, 20000)
			w.wantUSD(k.ID, "*", 0, 20000)
			if got := w.Sandbox.Moved(sandbox.EffectRefund, time.Time{})["usd"]; got != 20000 {
				t.Errorf("%d moved", got)
			}
		})
	}
}

func TestALegacyRefundNeedsWriteOnRefunds(t *testing.T) {
	w := newWorld(t)
	key, _ := w.key(`
name: agent-billing-charges-test
scopes: {charges: write}
customers: any
caps: [{resource: charges, per: day, usd: 1000.00}]
`)
	r := w.call(key, "POST", "/v1/charges/"+w.Seeded.Customers[0].Charges[0]+"/refund", "amount=100")
	r.want(t, 401, "keybrake_scope_denied")
	if w.Sandbox.Arrivals() != 0 {
		t.Fatal("it was sent")
	}
}

// intent makes an unconfirmed payment intent and returns its id.
func (w *world) intent(key, form string) string {
	w.t.Helper()
	r := w.call(key, "POST", "/v1/payment_intents", form).want(w.t, 200, "")
	return r.str("id")
}

func TestOneIntentCountsOnceFromCreateToCapture(t *testing.T) {
	w := newWorld(t)
	// The cap is exactly the intent: whatever counted twice would be refused.
	key, k := w.key(moneyPolicy(`resource: payment_intents, per: day, usd: 150.00`))
	c := w.Seeded.Customers[0]
	id := w.intent(key, "amount=10000&currency=usd&customer="+c.ID+"&payment_method="+c.Card+"&capture_method=manual")
	w.wantUSD(k.ID, "payment_intents", 0, 10000)
	w.call(key, "POST", "/v1/payment_intents/"+id, "amount=12000").want(t, 200, "")
	w.wantUSD(k.ID, "payment_intents", 0, 12000)
	w.call(key, "POST", "/v1/payment_intents/"+id, "amount=11000").want(t, 200, "") // lowering gives nothing back
	w.wantUSD(k.ID, "payment_intents", 0, 12000)
	w.call(key, "POST", "/v1/payment_intents/"+id, "amount=15000").want(t, 200, "")
	w.call(key, "POST", "/v1/payment_intents/"+id+"/confirm", "").want(t, 200, "")
	w.wantUSD(k.ID, "payment_intents", 0, 15000)
	r := w.call(key, "POST", "/v1/payment_intents/"+id+"/capture", "").want(t, 200, "")
	if r.num("amount_received") != 15000 || !strings.Contains(w.lastBody("POST"), "amount_to_capture=15000") {
		t.Fatalf("captured %d by %q", r.num("amount_received"), w.lastBody("POST"))
	}
	w.wantUSD(k.ID, "payment_intents", 0, 15000)
	w.call(key, "POST", "/v1/payment_intents", "amount=1&currency=usd").want(t, 403, "keybrake_cap_exceeded")
}

func TestAPartialFinalCaptureGivesTheRestBack(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(moneyPolicy(`resource: payment_intents, per: day, usd: 100.00`))
	c := w.Seeded.Customers[0]
	id := w.intent(key, "amount=10000&currency=usd&customer="+c.ID+"&payment_method="+c.Card+"&capture_method=manual&confirm=true")
	w.call(key, "POST", "/v1/payment_intents/"+id+"/capture", "amount_to_capture=4000").want(t, 200, "")
	w.wantUSD(k.ID, "payment_intents", 0, 4000)
	w.intent(key, "amount=6000&currency=usd") // what was given back can be used
}

func TestACanceledIntentGivesItsAmountBack(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(moneyPolicy(`resource: payment_intents, per: day, usd: 100.00`))
	id := w.intent(key, "amount=10000&currency=usd")
	w.call(key, "POST", "/v1/payment_intents/"+id+"/cancel", "").want(t, 200, "")
	w.wantUSD(k.ID, "payment_intents", 0, 0)
}

func TestAnotherPrincipalsIntentCountsInFull(t *testing.T) {
	w := newWorld(t)
	mine, _ := w.key(moneyPolicy(`resource: payment_intents, per: day, usd: 500.00`))
	theirs, k := w.key(moneyPolicy(`resource: payment_intents, per: day, usd: 60.00`))
	c := w.Seeded.Customers[0]
	id := w.intent(mine, "amount=10000&currency=usd&customer="+c.ID+"&payment_method="+c.Card+"&capture_method=manual")
	w.call(theirs, "POST", "/v1/payment_intents/"+id+"/confirm", "").want(t, 403, "keybrake_cap_exceeded")
	w.call(mine, "POST", "/v1/payment_intents/"+id+"/confirm", "").want(t, 200, "")
	w.call(theirs, "POST", "/v1/payment_intents/"+id+"/capture", "").want(t, 403, "keybrake_cap_exceeded")
	w.call(theirs, "POST", "/v1/payment_intents/"+id+"/capture", "amount_to_capture=5000").want(t, 200, "")
	w.wantUSD(k.ID, "payment_intents", 0, 5000)
}

func TestADeclinedConfirmGivesItsAmountBack(t *testing.T) {
	for _, c := range []struct {
		name    string
		secrets string
		settled int64
	}{
		{"while client secrets are withheld", "deny", 0},
		{"but not while the agent's side can still pay it", "allow", 2500},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			policy := moneyPolicy(`resource: payment_intents, per: day, usd: 100.00`)
			if c.secrets == "allow" {
				policy += "client_secrets: allow\n"
			}
			key, k := w.key(policy)
			r := w.call(key, "POST", "/v1/payment_intents", "amount=2500&currency=usd&payment_method=pm_card_chargeDeclined&confirm=true")
			r.want(t, 402, "card_declined")
			w.wantUSD(k.ID, "payment_intents", 0, c.settled)
		})
	}
}

func TestForeignCurrencyIsCountedInDollarsRoundedUp(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(moneyPolicy(`resource: payment_intents, per: day, usd: 100.00`))
	w.intent(key, "amount=3333&currency=EUR")
	// 33.33 EUR at 1.10, margin 5 % for a typed rate: 38.49615 USD, written on the hold.
	got := w.account(k.ID, "payment_intents", policy.PerDay, policy.UnitUSD)
	if got.Settled != 38_496_150 || got.Held != 0 {
		t.Fatalf("%+v", got)
	}
	e := w.lastOf(audit.KindIntent).Effects
	if len(e) != 1 || e[0].USD != 38_496_150 || e[0].Rate != "r1" || e[0].Amount != (money.Amount{Minor: 3333, Currency: "eur"}) {
		t.Fatalf("the record says %+v", e)
	}
	// 53.25 EUR would be 61.50375 USD, one cent too many beside what is settled.
	w.call(key, "POST", "/v1/payment_intents", "amount=5326&currency=eur").want(t, 403, "keybrake_cap_exceeded")
	w.intent(key, "amount=5325&currency=eur")
}

func TestAmountsThatHaveNoDollarValueAreDenied(t *testing.T) {
	w := buildWorld(t, setup{rates: []money.Rate{
		{ID: "old", Currency: "eur", Value: 1_100_000_000_000, Source: money.RateTyped, AsOf: time.Now().AddDate(0, 0, -31)},
	}})
	key, _ := w.key(moneyPolicy(`resource: payment_intents, per: day, usd: 100.00`))
	for _, c := range []struct{ name, currency, code string }{
		{"a currency that Stripe does not have", "xyz", "keybrake_rate_missing"},
		{"a currency without a rate", "gbp", "keybrake_rate_missing"},
		{"a rate that is too old", "eur", "keybrake_rate_missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := w.call(key, "POST", "/v1/payment_intents", "amount=100&currency="+c.currency)
			if r.Status != 403 && r.Status != 400 {
				t.Fatalf("%d %s", r.Status, r.Raw)
			}
		})
	}
	if w.Sandbox.Arrivals() != 0 {
		t.Fatal("something was sent")
	}
}

func TestEveryWindowHasItsOwnLimit(t *testing.T) {
	for _, c := range []struct {
		per     string
		advance time.Duration // to where the next window is open; 0 = never
	}{
		{"hour", time.Hour}, {"day", 24 * time.Hour}, {"week", 7 * 24 * time.Hour}, {"month", 31 * 24 * time.Hour}, {"total", 0},
	} {
		t.Run("per "+c.per, func(t *testing.T) {
			w := newWorld(t)
			key, _ := w.key(moneyPolicy(`resource: refunds, per: ` + c.per + `, usd: 30.00`))
			charge := w.Seeded.Customers[0].Charges[0]
			w.refund(key, charge, "2000").want(t, 200, "")
			r := w.refund(key, charge, "2000").want(t, 403, "keybrake_cap_exceeded")
			if !strings.Contains(r.message(), "10.00 left") {
				t.Errorf("the denial does not say what is left: %s", r.message())
			}
			if c.advance > 0 {
				w.Clock.Advance(c.advance)
				w.refund(key, charge, "2000").want(t, 200, "")
			} else {
				w.Clock.Advance(10 * 365 * 24 * time.Hour)
				w.refund(key, charge, "2000").want(t, 403, "keybrake_cap_exceeded")
			}
		})
	}
	t.Run("per call", func(t *testing.T) {
		w := newWorld(t)
		key, _ := w.key(moneyPolicy(`resource: refunds, per: call, usd: 50.00`, allPerDay))
		charge := w.Seeded.Customers[0].Charges[0]
		w.refund(key, charge, "5001").want(t, 403, "keybrake_cap_exceeded")
		w.refund(key, charge, "5000").want(t, 200, "")
		w.refund(key, charge, "").want(t, 403, "keybrake_cap_exceeded") // 150.00 are left on it
	})
}

func TestACapInCallsCountsWhatWasWritten(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(moneyPolicy(`resource: refunds, per: hour, calls: 2`, allPerDay))
	charge := w.Seeded.Customers[0].Charges[0]
	w.refund(key, charge, "99999").want(t, 400, "") // Stripe refuses it: it was written, so it counts
	w.refund(key, charge, "100").want(t, 200, "")
	w.refund(key, charge, "100").want(t, 403, "keybrake_cap_exceeded")
	got := w.account(k.ID, "refunds", policy.PerHour, policy.UnitCalls)
	if got != (ledger.Account{Settled: 2}) {
		t.Fatalf("%+v", got)
	}
}

func TestAWildcardCapSumsOverAllResources(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(moneyPolicy(`resource: "*", per: day, usd: 100.00`))
	w.refund(key, w.Seeded.Customers[0].Charges[0], "6000").want(t, 200, "")
	w.call(key, "POST", "/v1/payment_intents", "amount=4001&currency=usd").want(t, 403, "keybrake_cap_exceeded")
	w.intent(key, "amount=4000&currency=usd")
	w.wantUSD(k.ID, "*", 0, 10000)
}

func TestWhatStripeRefusesIsGivenBack(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(moneyPolicy(allPerDay))
	r := w.refund(key, w.Seeded.Customers[0].Charges[0], "20001").want(t, 400, "")
	if r.errType() != "invalid_request_error" || r.Header.Get("Keybrake-Audit-Id") == "" {
		t.Fatalf("%s", r.Raw)
	}
	w.wantUSD(k.ID, "*", 0, 0)
	if got := w.last(k.ID); got.State != ledger.Released || got.Proof != ledger.ProofRefused {
		t.Fatalf("%s %s", got.State, got.Proof)
	}
}

func TestAnInvoiceIsHeldAtWhatRemainsOfIt(t *testing.T) {
	w := newWorld(t)
	small, _ := w.key(moneyPolicy(`resource: invoices, per: day, usd: 49.99`))
	w.call(small, "POST", "/v1/invoices/"+w.Seeded.Customers[0].Invoice+"/pay", "").want(t, 403, "keybrake_cap_exceeded")
	key, k := w.key(moneyPolicy(`resource: invoices, per: day, usd: 50.00`))
	w.call(key, "POST", "/v1/invoices/"+w.Seeded.Customers[0].Invoice+"/pay", "").want(t, 200, "")
	w.wantUSD(k.ID, "invoices", 0, 5000)
}

func TestMoneyThatCannotBeMeteredIsDenied(t *testing.T) {
	w := newWorld(t)
	key, _ := w.key(moneyPolicy(allPerDay))
	id := w.intent(key, "amount=1000&currency=usd")
	before := w.arrivals("POST")
	for _, c := range []struct{ name, path, form string }{
		{"an authorization that may be raised", "/v1/payment_intents", "amount=100&currency=usd&payment_method_options[card][request_overcapture]=if_available"},
		{"a confirmation that may be raised", "/v1/payment_intents/" + id + "/confirm", "payment_method_options[card][request_incremental_authorization]=if_available"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.call(key, "POST", c.path, c.form).want(t, 403, "keybrake_unmeterable")
		})
	}
	if after := w.arrivals("POST"); after != before {
		t.Fatalf("%d were sent", after-before)
	}
}

// inflated is a Stripe that moves more than it was asked to.
func inflated(sb http.Handler, factor int) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		sb.ServeHTTP(rec, r)
		body := rec.Body.String()
		if r.Method == http.MethodPost && strings.Contains(body, `"object": "refund"`) || strings.Contains(body, `"object":"refund"`) {
			for _, form := range []string{`"amount": 1000`, `"amount":1000`} {
				body = strings.Replace(body, form, form+strings.Repeat("0", factor), 1)
			}
		}
		for name, v := range rec.Header() {
			rw.Header()[name] = v
		}
		rw.Header().Set("Content-Length", strconv.Itoa(len(body)))
		rw.WriteHeader(rec.Code)
		_, _ = rw.Write([]byte(body))
	}
}

func TestMoreMovedThanHeldIsWrittenAndFreezesTheKey(t *testing.T) {
	sb := &late{}
	w := buildWorld(t, setup{upstream: sb})
	sb.set(inflated(w.Sandbox, 1))
	key, k := w.key(moneyPolicy(`resource: refunds, per: day, usd: 500.00`))
	charge := w.Seeded.Customers[0].Charges[0]
	r := w.refund(key, charge, "1000").want(t, 200, "")
	if r.num("amount") != 10000 {
		t.Fatalf("the agent was not told the truth: %s", r.Raw)
	}
	w.wantUSD(k.ID, "refunds", 0, 10000) // not what was held: what happened
	w.refund(key, charge, "1").want(t, 401, "keybrake_key_frozen")
	w.call(key, "GET", "/v1/charges/"+charge, "").want(t, 200, "") // reads pass
	if !strings.Contains(w.Log.String(), "moved more than was held") {
		t.Error("nobody was told")
	}
}

// A policy that would hold nothing against anything asks for no figures, and sends what it was given.
func TestTheFullyOpenPolicyLooksNothingUpAndPinsNothing(t *testing.T) {
	w := newWorld(t)
	key, _ := w.key("name: agent-dev-open-test\nscopes: {\"*\": write}\nuncapped: true\nunmetered: [\"*\"]\ncustomers: any\n")
	own := w.Seeded.Customers[0]
	for _, c := range []struct{ path, form string }{
		{"/v1/refunds", "charge=" + own.Charges[0]},
		{"/v1/payment_intents/" + own.PaymentIntent, "amount=100"},
		{"/v1/invoices/" + own.Invoice + "/pay", ""},
	} {
		reads, writes := w.arrivals("GET"), w.arrivals("POST")
		for range 2 { // a retry too is sent as it came
			w.call(key, "POST", c.path, c.form, "Idempotency-Key", c.path)
		}
		if w.arrivals("GET") != reads || w.arrivals("POST") != writes+2 {
			t.Errorf("%s: %d look-ups, %d calls", c.path, w.arrivals("GET")-reads, w.arrivals("POST")-writes)
		}
		if sent := w.lastBody("POST"); sent != c.form {
			t.Errorf("%s: sent %q, not %q", c.path, sent, c.form)
		}
	}
	if r := w.call(key, "GET", "/v1/charges/"+own.Charges[0], ""); r.num("amount_refunded") != 20000 {
		t.Errorf("refunded %d", r.num("amount_refunded"))
	}
}
