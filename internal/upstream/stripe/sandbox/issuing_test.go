package sandbox_test

import (
	"fmt"
	"testing"

	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

// issue makes an active card with spending controls, and returns its id.
func (r *rig) issue(controls string) string {
	r.t.Helper()
	holder := r.ok("POST", "/v1/issuing/cardholders", "name=Ann Ames&email=ann@example.com&type=individual&individual[first_name]=Ann"+
		"&billing[address][line1]=1 Main&billing[address][city]=SF&billing[address][country]=US&billing[address][postal_code]=94103&billing[address][state]=CA").str("id")
	return r.ok("POST", "/v1/issuing/cards", "currency=usd&type=virtual&status=active&cardholder="+holder+controls).str("id")
}

// ask is a shop asking whether a card may spend.
func (r *rig) ask(card string, amount int, more string) *reply {
	r.t.Helper()
	return r.ok("POST", "/v1/test_helpers/issuing/authorizations", fmt.Sprintf("card=%s&amount=%d%s", card, amount, more))
}

func TestIssuedCardsSpendWithinTheirLimits(t *testing.T) {
	r := newRig(t)
	for _, tc := range []struct {
		name, controls string
		amounts        []int
		approved       []bool
	}{
		{"in all", "&spending_controls[spending_limits][0][amount]=1000&spending_controls[spending_limits][0][interval]=all_time", []int{600, 500, 400}, []bool{true, false, true}},
		{"at once", "&spending_controls[spending_limits][0][amount]=500&spending_controls[spending_limits][0][interval]=per_authorization", []int{500, 500, 501}, []bool{true, true, false}},
		{"a day", "&spending_controls[spending_limits][0][amount]=500&spending_controls[spending_limits][0][interval]=daily", []int{300, 201}, []bool{true, false}},
		{"in other shops", "&spending_controls[spending_limits][0][amount]=1&spending_controls[spending_limits][0][interval]=daily" +
			"&spending_controls[spending_limits][0][categories][0]=bakeries", []int{300}, []bool{true}},
		{"without a limit, the balance", "", []int{99_999_999}, []bool{false}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			card := r.issue(tc.controls)
			for i, amount := range tc.amounts {
				r.want(r.ask(card, amount, "").at("approved"), tc.approved[i], fmt.Sprint("spending ", amount))
			}
		})
	}
}

func TestAnAuthorizationIsCapturedReversedOrDeclined(t *testing.T) {
	r := newRig(t)
	card := r.issue("")
	before := r.balance("")
	auth := r.ask(card, 1000, "")
	r.want(r.balance(""), before-1000, "held")
	got := r.ok("POST", "/v1/test_helpers/issuing/authorizations/"+auth.str("id")+"/capture", "capture_amount=400")
	r.want(got.str("status"), "closed", "status")
	r.want(r.balance(""), before-400, "spent")
	r.want(r.moved(sandbox.EffectSpend), int64(400), "moved")
	txn := got.str("transactions.0.id")
	r.want(r.ok("GET", "/v1/issuing/transactions?card="+card, "").ids()[0], txn, "listed")
	r.refused(400, "", "POST", "/v1/test_helpers/issuing/authorizations/"+auth.str("id")+"/reverse", "")
	other := r.ask(card, 700, "").str("id")
	r.want(r.ok("POST", "/v1/test_helpers/issuing/authorizations/"+other+"/reverse", "reverse_amount=200").num("amount"), int64(500), "reversed in part")
	r.want(r.ok("POST", "/v1/test_helpers/issuing/authorizations/"+other+"/expire", "").str("status"), "expired", "expired")
	r.want(r.balance(""), before-400, "in the end")

	wait := r.ask(card, 900, "&is_amount_controllable=true")
	r.want(wait.num("pending_request.amount"), int64(900), "asked")
	r.want(r.ok("POST", "/v1/issuing/authorizations/"+wait.str("id")+"/approve", "amount=300").num("amount"), int64(300), "approved in part")
	r.refused(400, "", "POST", "/v1/issuing/authorizations/"+wait.str("id")+"/decline", "")
	no := r.ask(card, 900, "&is_amount_controllable=true").str("id")
	r.want(r.ok("POST", "/v1/issuing/authorizations/"+no+"/decline", "").str("status"), "closed", "declined")
	r.ok("POST", "/v1/issuing/authorizations/"+no, "metadata[a]=b")
	r.want(len(r.ok("GET", "/v1/issuing/authorizations?card="+card+"&status=closed", "").ids()), 2, "closed")

	back := r.ok("POST", "/v1/test_helpers/issuing/transactions/"+txn+"/refund", "refund_amount=100")
	r.want(back.num("amount"), int64(100), "refunded")
	r.ok("POST", "/v1/test_helpers/issuing/transactions/create_force_capture", "amount=50&card="+card)
	r.ok("POST", "/v1/test_helpers/issuing/transactions/create_unlinked_refund", "amount=20&card="+card)
	r.want(r.moved(sandbox.EffectSpendBack), int64(120), "came back")

	r.refused(400, "", "POST", "/v1/issuing/disputes", "transaction="+txn+"&amount=401&evidence[reason]=fraudulent")
	dispute := "/v1/issuing/disputes/" + r.ok("POST", "/v1/issuing/disputes", "transaction="+txn+"&evidence[reason]=fraudulent").str("id")
	r.ok("POST", dispute, "evidence[fraudulent][explanation]=not mine")
	r.want(r.ok("POST", dispute+"/submit", "").str("status"), "submitted", "submitted")
	r.ok("POST", "/_sandbox/issuing.disputes/"+r.ok("GET", dispute, "").str("id"), `{"status":"won"}`)
	r.want(r.ok("GET", dispute, "").str("balance_transactions.0.balance_type"), "issuing", "won")
	r.want(r.ok("GET", "/v1/issuing/transactions/"+txn, "").str("dispute"), r.ok("GET", dispute, "").str("id"), "disputed")
}

func TestCardNumbersAreAnsweredToWhoAsks(t *testing.T) {
	r := newRig(t)
	card := "/v1/issuing/cards/" + r.issue("")
	if got := r.ok("GET", card, "").at("number"); got != nil {
		t.Errorf("the number %v was not asked for", got)
	}
	full := r.ok("GET", card+"?expand[]=number&expand[]=cvc", "")
	if full.str("number") == "" || full.str("cvc") == "" {
		t.Errorf("no number: %s", full.raw)
	}
	r.want(r.ok("POST", card, "status=canceled&cancellation_reason=lost").str("status"), "canceled", "canceled")
	r.refused(400, "", "POST", card, "status=active")
	r.want(r.ask(full.str("id"), 100, "").str("request_history.0.reason"), "card_canceled", "spending with it")
	holder := full.str("cardholder.id")
	r.ok("POST", "/v1/issuing/cardholders/"+holder, "status=inactive&metadata[a]=b")
	r.want(len(r.ok("GET", "/v1/issuing/cards?cardholder="+holder, "").ids()), 1, "cards of the holder")
	r.want(len(r.ok("GET", "/v1/issuing/cardholders?status=inactive", "").ids()), 1, "holders")
	r.refused(400, "resource_missing", "POST", "/v1/issuing/cards", "currency=usd&type=virtual&cardholder=ich_none")
	r.ok("GET", "/v1/issuing/tokens?card="+full.str("id"), "")
	r.ok("GET", "/v1/issuing/physical_bundles", "")
}

func TestClimateOrdersCostAFeeOnTop(t *testing.T) {
	r := newRig(t)
	product := r.ok("GET", "/v1/climate/products", "").ids()[0]
	r.ok("GET", "/v1/climate/products/"+product, "")
	r.ok("GET", "/v1/climate/suppliers/"+r.ok("GET", "/v1/climate/suppliers", "").ids()[0], "")
	r.want(r.ok("POST", "/v1/climate/orders", "product="+product+"&amount=10000").num("amount_total"), int64(10300), "by amount")
	tons := r.ok("POST", "/v1/climate/orders", "product="+product+"&metric_tons=0.333&metadata[a]=b")
	r.want(tons.num("amount_subtotal"), int64(16650), "by tons")
	r.want(r.moved(sandbox.EffectClimate), int64(10300+17150), "moved")
	path := "/v1/climate/orders/" + tons.str("id")
	r.ok("POST", path, "metadata[a]=c")
	r.want(r.ok("POST", path+"/cancel", "").str("status"), "canceled", "canceled")
	r.refused(400, "", "POST", path+"/cancel", "")
	r.want(r.moved(sandbox.EffectClimateBack), int64(17150), "came back")
	r.refused(400, "", "POST", "/v1/climate/orders", "product="+product)
	r.refused(400, "balance_insufficient", "POST", "/v1/climate/orders", "product="+product+"&amount=99999999")
	r.refused(400, "resource_missing", "POST", "/v1/climate/orders", "product=climsku_none&amount=100")
}
