package sandbox_test

import (
	"testing"

	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

// disputed makes a payment that is disputed at once and returns the ids of its
// dispute and charge.
func (r *rig) disputed(card string) (dispute, charge string) {
	r.t.Helper()
	pi := r.ok("POST", "/v1/payment_intents", "amount=9000&currency=usd&confirm=true&payment_method=pm_card_"+card)
	charge = pi.str("latest_charge")
	return r.ok("GET", "/v1/disputes?charge="+charge, "").ids()[0], charge
}

func TestDisputesTakeMoneyAway(t *testing.T) {
	r := newRig(t)
	dp, ch := r.disputed("createDispute")
	got := r.ok("GET", "/v1/disputes/"+dp+"?expand[]=charge&expand[]=payment_intent", "")
	r.want(got.str("status"), "needs_response", "status")
	r.want(got.num("balance_transactions.0.net"), int64(-9000-1500), "withdrawn with the fee")
	r.want(got.at("charge.disputed"), true, "the charge")
	r.want(r.moved(sandbox.EffectDispute), int64(9000), "withdrawn")
	r.refused(400, "charge_disputed", "POST", "/v1/refunds", "charge="+ch)

	staged := r.ok("POST", "/v1/disputes/"+dp, "evidence[customer_name]=Ada&submit=false&metadata[a]=b")
	r.want(staged.str("status"), "needs_response", "staged")
	r.want(staged.at("evidence_details.has_evidence"), true, "has_evidence")
	sent := r.ok("POST", "/v1/disputes/"+dp, "submit=true")
	r.want(sent.str("status"), "under_review", "submitted")
	r.want(sent.str("evidence.customer_name"), "Ada", "what was staged")
	r.refused(400, "", "POST", "/v1/disputes/"+dp, "evidence[customer_name]=Eve")
	if err := r.s.Happen("disputes", dp, "won"); err != nil {
		t.Fatal(err)
	}
	r.want(r.moved(sandbox.EffectDisputeBack), int64(9000), "came back")
	r.refused(400, "", "POST", "/v1/disputes/"+dp+"/close", "")
	r.ok("POST", "/v1/refunds", "charge="+ch)
}

func TestClosingADisputeGivesItUp(t *testing.T) {
	r := newRig(t)
	for _, tc := range []struct{ name, by string }{{"by its id", "dispute"}, {"by its charge", "charge"}} {
		t.Run(tc.name, func(t *testing.T) {
			dp, ch := r.disputed("createDisputeProductNotReceived")
			path := map[string]string{"dispute": "/v1/disputes/" + dp, "charge": "/v1/charges/" + ch + "/dispute"}[tc.by]
			r.want(r.ok("GET", path, "").str("reason"), "product_not_received", "reason")
			lost := r.moved(sandbox.EffectDisputeLost)
			r.want(r.ok("POST", path+"/close", "").str("status"), "lost", "status")
			r.want(r.moved(sandbox.EffectDisputeLost)-lost, int64(9000), "given up")
			r.refused(400, "", "POST", path+"/close", "")
		})
	}
	r.want(r.moved(sandbox.EffectDispute), int64(18000), "the money had left before")
}

func TestEvidenceDecidesTestDisputes(t *testing.T) {
	r := newRig(t)
	for text, want := range map[string]string{"winning_evidence": "won", "losing_evidence": "lost", "a letter": "under_review"} {
		dp, ch := r.disputed("createDispute")
		r.ok("POST", "/v1/charges/"+ch+"/dispute", "evidence[uncategorized_text]="+text)
		r.want(r.ok("GET", "/v1/disputes/"+dp, "").str("status"), want, text)
	}
}

func TestAnInquiryTakesNoMoney(t *testing.T) {
	r := newRig(t)
	dp, ch := r.disputed("createDisputeInquiry")
	r.want(r.ok("GET", "/v1/disputes/"+dp, "").str("status"), "warning_needs_response", "status")
	r.want(r.moved(sandbox.EffectDispute), int64(0), "withdrawn")
	r.want(r.ok("POST", "/v1/disputes/"+dp+"/close", "").str("status"), "warning_closed", "closed")
	r.ok("POST", "/v1/refunds", "charge="+ch)
}

func TestABankDisputesASeededCharge(t *testing.T) {
	r := newRig(t)
	ch := r.seed.Customers[0].Charges[3]
	r.refused(404, "resource_missing", "GET", "/v1/charges/"+ch+"/dispute", "")
	r.ok("POST", "/_sandbox/charges/"+ch, `{"status":"disputed"}`)
	r.want(r.ok("GET", "/v1/charges/"+ch+"/dispute", "").num("amount"), int64(20000), "amount")
	r.want(len(r.ok("GET", "/v1/disputes?payment_intent=pi_none", "").ids()), 0, "of another intent")
	if err := r.s.Happen("charges", ch, "vanished"); err == nil {
		t.Error("a charge vanished")
	}
	if err := r.s.Happen("moons", ch, "full"); err == nil {
		t.Error("something happened to a moon")
	}
}

func TestTopupsFillTheBalance(t *testing.T) {
	r := newRig(t)
	before := r.balance("")
	tu := r.ok("POST", "/v1/topups", "amount=5000&currency=usd&description=May&metadata[a]=b&transfer_group=g").str("id")
	r.want(r.balance(""), before, "while pending")
	r.ok("POST", "/_sandbox/topups/"+tu, `{"status":"succeeded"}`)
	r.want(r.balance(""), before+5000, "arrived")
	r.want(r.moved(sandbox.EffectTopup), int64(5000), "topped up")
	r.refused(400, "", "POST", "/v1/topups/"+tu+"/cancel", "")
	r.ok("POST", "/_sandbox/topups/"+tu, `{"status":"reversed"}`)
	r.want(r.moved(sandbox.EffectTopupBack), int64(5000), "taken back")
	other := r.ok("POST", "/v1/topups", "amount=700&currency=usd").str("id")
	r.want(r.ok("POST", "/v1/topups/"+other+"/cancel", "").str("status"), "canceled", "canceled")
	failed := r.ok("POST", "/v1/topups", "amount=800&currency=usd").str("id")
	r.ok("POST", "/_sandbox/topups/"+failed, `{"status":"failed"}`)
	r.want(r.ok("POST", "/v1/topups/"+failed, "description=again").str("failure_code"), "insufficient_funds", "failure_code")
	r.want(r.ok("GET", "/v1/topups?status=canceled", "").ids()[0], other, "listed by status")
	r.want(len(r.ok("GET", "/v1/topups?amount[gte]=700&amount[lt]=5000", "").ids()), 2, "listed by amount")
	r.want(len(r.ok("GET", "/v1/topups?amount=5000", "").ids()), 1, "listed by one amount")
	r.refused(400, "parameter_invalid_integer", "POST", "/v1/topups", "amount=0&currency=usd")
}
