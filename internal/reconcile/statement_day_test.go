package reconcile_test

import (
	"testing"

	"github.com/keybrake/keybrake/internal/reconcile"
	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

func TestADayThatMatches(t *testing.T) {
	b := newBank(t, sandbox.Options{})
	support, _ := b.key("agent-support-refunds-a", "UTC", b.up)
	billing, _ := b.key("agent-billing-intents-b", "UTC", b.up)
	b.agent(support, "/v1/refunds", "charge="+b.charge(0, 1)+"&amount=500")
	b.agent(support, "/v1/refunds", "charge="+b.charge(0, 1)+"&amount=700")
	b.agent(support, "/v1/charges/"+b.charge(0, 2)+"/refund", "amount=900")
	pi := b.agent(billing, "/v1/payment_intents", "amount=10000&currency=usd&payment_method=pm_card_visa&confirm=true&capture_method=manual")
	b.agent(billing, "/v1/payment_intents/"+pi+"/capture", "amount_to_capture=6000")
	b.agent(billing, "/v1/payouts", "amount=1000&currency=usd")
	r := b.statement(reconcile.Ask{})
	for i, l := range r.Lines {
		t.Log(said(r.Lines[i:i+1]), l.Why, l.By, l.Origin, l.Day, l.Key)
	}
}
