package gateway_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

// secondAPI is a world with a key that may pay out of a balance through v2, up to $80 a day.
type secondAPI struct {
	*world
	key string
	pay string // a payment of $50
}

// newSecondAPI passes every answer of v2 through edit, which may be nil.
func newSecondAPI(t *testing.T, edit func(http.Header)) *secondAPI {
	var w *world
	s := &secondAPI{}
	w = buildWorld(t, setup{upstream: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if edit == nil || !strings.HasPrefix(r.URL.Path, "/v2/") {
			w.Sandbox.ServeHTTP(rw, r)
			return
		}
		rec := httptest.NewRecorder()
		w.Sandbox.ServeHTTP(rec, r)
		edit(rec.Header())
		for name, values := range rec.Header() {
			rw.Header()[name] = values
		}
		rw.WriteHeader(rec.Code)
		_, _ = rw.Write(rec.Body.Bytes())
	})})
	key, _ := w.key(wholePolicy(`resource: v2.money_management.outbound_payments, per: day, usd: 80.00`))
	s.world, s.key = w, key
	var to struct{ ID string }
	must(t, json.Unmarshal(w.atStripeV2(t, "/v2/core/accounts", `{"contact_email":"paid@example.com","display_name":"A recipient",`+
		`"identity":{"country":"us","entity_type":"company"},"configuration":{"recipient":{"capabilities":{"bank_accounts":{"ach":{"requested":true}}}}}}`), &to))
	w.atStripeV2(t, "/v2/money_management/outbound_setup_intents", `{"payout_method_data":{"type":"bank_account","bank_account":{"account_number":`+
		`"000123456789","routing_number":"110000000","country":"us","currency":"usd"}},"usage_intent":"payment"}`, "Stripe-Context", to.ID)
	s.pay = `{"amount":{"value":5000,"currency":"usd"},"from":{"financial_account":"` + w.Seeded.FinancialAccount +
		`","currency":"usd"},"to":{"recipient":"` + to.ID + `"}}`
	return s
}

func (s *secondAPI) payOut() reply {
	s.t.Helper()
	return s.call(s.key, "POST", "/v2/money_management/outbound_payments", s.pay, "Content-Type", "application/json", "Idempotency-Key", "k")
}

const payments = "v2.money_management.outbound_payments"

// v2 runs a failed call again under its key, so a retry after an error can move money.
func TestARetryOfTheSecondAPIAfterAnErrorIsHeld(t *testing.T) {
	t.Run("after a refusal it is held anew", func(t *testing.T) {
		s := newSecondAPI(t, nil)
		must(t, s.Sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultRateLimit, Method: "POST", Path: "/v2/money_management/outbound_payments"}))
		s.payOut().want(t, 429, "")
		s.wantUSD(s.keys[0].ID, payments, 0, 0)
		s.payOut().want(t, 200, "")
		s.wantUSD(s.keys[0].ID, payments, 0, 5000)
		if rs := s.reservations(s.keys[0].ID); len(rs) != 2 || rs[0].State != ledger.Released || rs[1].State != ledger.Settled {
			t.Errorf("%d reservations", len(rs))
		}
	})
	t.Run("after an unknown outcome its hold stood all the time", func(t *testing.T) {
		s := newSecondAPI(t, nil)
		must(t, s.Sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultError, Method: "POST", Path: "/v2/money_management/outbound_payments"}))
		s.payOut().want(t, 504, "keybrake_upstream_unknown")
		s.wantUSD(s.keys[0].ID, payments, 5000, 0)
		s.payOut().want(t, 200, "")
		s.wantUSD(s.keys[0].ID, payments, 0, 5000)
		if rs := s.reservations(s.keys[0].ID); len(rs) != 1 {
			t.Errorf("%d reservations", len(rs))
		}
	})
	t.Run("after twenty-nine days it is held anew", func(t *testing.T) {
		s := newSecondAPI(t, nil)
		s.payOut().want(t, 200, "")
		s.Clock.Advance(28 * 24 * time.Hour)
		s.payOut().want(t, 200, "")
		if rs := s.reservations(s.keys[0].ID); len(rs) != 1 {
			t.Fatalf("%d reservations after 28 days", len(rs))
		}
		s.Clock.Advance(24*time.Hour + time.Minute)
		s.payOut().want(t, 200, "")
		rs := s.reservations(s.keys[0].ID)
		if len(rs) != 2 || rs[1].Proof != ledger.ProofReplayed {
			t.Fatalf("%d reservations, the last released by %q", len(rs), rs[len(rs)-1].Proof)
		}
	})
}

// v2 promises not to repeat what succeeded, and nothing about a mark on the answer.
func TestTheSecondAPIMayRepeatAnAnswerWithoutAMark(t *testing.T) {
	unmarked := func(h http.Header) { h.Del("Idempotent-Replayed") }
	t.Run("the same payment is no second run", func(t *testing.T) {
		s := newSecondAPI(t, unmarked)
		first := s.payOut().want(t, 200, "")
		if again := s.payOut().want(t, 200, ""); again.str("id") != first.str("id") {
			t.Fatal("paid twice")
		}
		s.wantUSD(s.keys[0].ID, payments, 0, 5000)
		if rs := s.reservations(s.keys[0].ID); len(rs) != 1 {
			t.Errorf("%d reservations", len(rs))
		}
	})
	t.Run("another payment is one", func(t *testing.T) {
		s := newSecondAPI(t, unmarked)
		must(t, s.Sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultForget, Method: "POST", Path: "/v2/money_management/outbound_payments"}))
		s.payOut().want(t, 200, "")
		s.payOut().want(t, 200, "")
		s.wantUSD(s.keys[0].ID, payments, 0, 10000)
	})
}
