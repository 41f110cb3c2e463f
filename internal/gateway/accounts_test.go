package gateway_test

import (
	"testing"

	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

func TestALookupGoesWhereItsCallGoes(t *testing.T) {
	for _, header := range []string{"Stripe-Account", "Stripe-Context"} {
		t.Run(header, func(t *testing.T) {
			w := newWorld(t)
			account := w.Seeded.Account
			key, _ := w.key(moneyPolicy(allPerDay) + "accounts: [" + account + "]\n")
			w.refund(key, w.Seeded.Customers[0].Charges[0], "", header, account, "Stripe-Version", "2026-07-29.dahlia").want(t, 200, "")
			journal := w.Sandbox.Journal()
			if len(journal) != 2 {
				t.Fatalf("%d arrivals", len(journal))
			}
			for _, a := range journal {
				want := sandbox.Arrival{StripeAccount: account}
				if header == "Stripe-Context" {
					want = sandbox.Arrival{StripeContext: account}
				}
				if a.StripeAccount != want.StripeAccount || a.StripeContext != want.StripeContext || a.StripeVersion != "2026-07-29.dahlia" {
					t.Errorf("%s %s went to account %q, context %q, version %q", a.Method, a.Path, a.StripeAccount, a.StripeContext, a.StripeVersion)
				}
			}
		})
	}
}

func TestAnAccountWithoutGrantIsOutOfScope(t *testing.T) {
	w := newWorld(t)
	key, _ := w.key(moneyPolicy(allPerDay) + "accounts: [acct_granted]\n")
	for _, header := range []string{"Stripe-Account", "Stripe-Context"} {
		w.call(key, "GET", "/v1/charges", "", header, "acct_other").want(t, 401, "keybrake_account_denied")
		w.refund(key, w.Seeded.Customers[0].Charges[0], "100", header, "acct_other").want(t, 401, "keybrake_account_denied")
	}
	if n := w.Sandbox.Arrivals(); n != 0 {
		t.Fatalf("%d arrivals", n)
	}
}

func TestAnIdempotencyKeyBelongsToOneAccount(t *testing.T) {
	w := newWorld(t)
	account := w.Seeded.Account
	key, k := w.key(moneyPolicy(allPerDay) + "accounts: [" + account + "]\n")
	a := w.call(key, "POST", "/v1/payment_intents", "amount=100&currency=usd", "Idempotency-Key", "k").want(t, 200, "")
	b := w.call(key, "POST", "/v1/payment_intents", "amount=100&currency=usd", "Idempotency-Key", "k", "Stripe-Account", account).want(t, 200, "")
	if a.str("id") == b.str("id") {
		t.Error("one account got the other's answer")
	}
	w.wantUSD(k.ID, "*", 0, 200)
}
