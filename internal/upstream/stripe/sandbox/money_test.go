package sandbox_test

import (
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

func TestRefundsTakeMoneyOutOnceAndNeverMoreThanTheCharge(t *testing.T) {
	r := newRig(t)
	ch := r.seed.Customers[0].Charges[3]
	before := r.ok("GET", "/v1/balance", "").num("available.0.amount")
	one := r.ok("POST", "/v1/refunds", "charge="+ch+"&amount=2000&reason=requested_by_customer&metadata[order]=7")
	r.want(one.str("status"), "succeeded", "status")
	r.want(one.str("metadata.order"), "7", "metadata")
	r.want(one.str("customer"), r.seed.Customers[0].ID, "customer")
	r.want(r.ok("GET", "/v1/charges/"+ch, "").num("amount_refunded"), int64(2000), "amount_refunded")
	r.want(r.ok("GET", "/v1/balance", "").num("available.0.amount"), before-2000, "balance")

	over := r.refused(400, "", "POST", "/v1/refunds", "charge="+ch+"&amount=18001")
	if want := "Refund amount ($180.01) is greater than unrefunded amount on charge ($180.00)"; over.str("error.message") != want {
		t.Errorf("message %q, want %q", over.str("error.message"), want)
	}
	r.want(over.str("error.param"), "amount", "param")
	rest := r.ok("POST", "/v1/refunds", "charge="+ch)
	r.want(rest.num("amount"), int64(18000), "refund without an amount")
	r.want(r.ok("GET", "/v1/charges/"+ch, "").at("refunded"), true, "refunded")
	r.refused(400, "charge_already_refunded", "POST", "/v1/refunds", "charge="+ch)
	r.want(r.moved(sandbox.EffectRefund), int64(20000), "refunded in truth")
	if got := r.ok("GET", "/v1/refunds?charge="+ch, "").ids(); len(got) != 2 || got[1] != one.str("id") {
		t.Errorf("refunds of the charge: %v", got)
	}
}

func TestEveryDoorToARefundLeadsToTheSameMoney(t *testing.T) {
	r := newRig(t)
	ada := r.seed.Customers[0]
	legacy := r.ok("POST", "/v1/charges/"+ada.Charges[1]+"/refund", "amount=100")
	r.want(legacy.str("object"), "charge", "legacy answer")
	r.want(legacy.num("amount_refunded"), int64(100), "legacy total")
	r.want(r.ok("POST", "/v1/charges/"+ada.Charges[1]+"/refunds", "amount=100").str("object"), "refund", "nested answer")
	byIntent := r.ok("POST", "/v1/refunds", "payment_intent="+ada.PaymentIntent+"&amount=300")
	r.want(byIntent.str("charge"), ada.Charges[0], "charge of the intent")
	r.want(len(r.ok("GET", "/v1/refunds?payment_intent="+ada.PaymentIntent, "").ids()), 1, "refunds of the intent")
	r.want(len(r.ok("GET", "/v1/charges/"+ada.Charges[1]+"/refunds", "").ids()), 2, "refunds of the charge")
	id := byIntent.str("id")
	r.want(r.ok("POST", "/v1/refunds/"+id, "metadata[a]=b").str("metadata.a"), "b", "update")
	r.want(r.ok("GET", "/v1/charges/"+ada.Charges[0]+"/refunds/"+id, "").str("id"), id, "nested retrieve")
	r.want(r.moved(sandbox.EffectRefund), int64(500), "refunded in truth")

	r.refused(400, "parameter_missing", "POST", "/v1/refunds", "amount=5")
	r.refused(400, "resource_missing", "POST", "/v1/refunds", "charge=ch_none")
	r.refused(404, "resource_missing", "POST", "/v1/charges/ch_none/refund", "")
	r.refused(400, "", "POST", "/v1/refunds", "charge="+ada.Charges[2]+"&reason=because")
	r.refused(400, "", "POST", "/v1/refunds", "charge="+ada.Charges[2]+"&currency=eur")
	r.refused(400, "parameter_invalid_integer", "POST", "/v1/refunds", "charge="+ada.Charges[2]+"&amount=-5")
	r.refused(400, "", "POST", "/v1/refunds", "charge="+ada.Charges[2]+"&reverse_transfer=true")
	r.want(r.moved(sandbox.EffectRefund), int64(500), "refunded after refusals")
}

func TestARefundThatFailsLaterBringsItsMoneyBack(t *testing.T) {
	r := newRig(t)
	ch := r.seed.Customers[1].Charges[0]
	before := r.ok("GET", "/v1/balance", "").num("available.0.amount")
	re := r.ok("POST", "/v1/refunds", "charge="+ch+"&amount=500&metadata[sandbox_status]=pending")
	r.want(re.str("status"), "pending", "status")
	r.refused(400, "", "POST", "/v1/refunds/"+re.str("id")+"/cancel", "")
	r.ok("POST", "/_sandbox/refunds/"+re.str("id"), `{"status":"failed"}`)
	failed := r.ok("GET", "/v1/refunds/"+re.str("id")+"?expand[]=failure_balance_transaction", "")
	r.want(failed.str("status"), "failed", "status")
	r.want(failed.num("failure_balance_transaction.amount"), int64(500), "booked back")
	r.want(r.ok("GET", "/v1/charges/"+ch, "").num("amount_refunded"), int64(0), "amount_refunded")
	r.want(r.ok("GET", "/v1/balance", "").num("available.0.amount"), before, "balance")
	r.want(r.moved(sandbox.EffectRefundFailed), int64(500), "came back in truth")
	r.want(r.ok("GET", "/v1/events?type=refund.failed", "").str("data.0.data.object.id"), re.str("id"), "event")
	if out := r.do("POST", "/_sandbox/refunds/"+re.str("id"), `{"status":"succeeded"}`); out.status != 400 {
		t.Errorf("a failed refund succeeded: %s", out.raw)
	}
	action := r.ok("POST", "/v1/refunds", "charge="+ch+"&amount=700&metadata[sandbox_status]=requires_action")
	r.want(r.ok("POST", "/v1/refunds/"+action.str("id")+"/cancel", "").str("status"), "canceled", "canceled")
	r.want(r.ok("GET", "/v1/charges/"+ch, "").num("amount_refunded"), int64(0), "after cancel")
	pi := r.ok("POST", "/v1/payment_intents", "amount=900&currency=usd&confirm=true&payment_method=pm_card_pendingRefund")
	slow := r.ok("POST", "/v1/refunds", "payment_intent="+pi.str("id"))
	r.want(slow.str("status"), "pending", "refund to the slow test card")
	r.ok("POST", "/_sandbox/refunds/"+slow.str("id"), `{"status":"succeeded"}`)
	r.want(r.ok("GET", "/v1/refunds/"+slow.str("id"), "").str("status"), "succeeded", "later")
}

func TestIntentsMoveMoneyAtConfirmAndOnlyThen(t *testing.T) {
	r := newRig(t)
	ada := r.seed.Customers[0]
	pi := r.ok("POST", "/v1/payment_intents", "amount=1500&currency=USD&customer="+ada.ID+"&metadata[k]=v&automatic_payment_methods[enabled]=true")
	id := pi.str("id")
	r.want(pi.str("status"), "requires_payment_method", "status at first")
	r.want(pi.str("currency"), "usd", "currency")
	if !strings.HasPrefix(pi.str("client_secret"), id+"_secret_") {
		t.Errorf("client_secret %q", pi.str("client_secret"))
	}
	r.refused(400, "payment_intent_unexpected_state", "POST", "/v1/payment_intents/"+id+"/confirm", "")
	r.want(r.ok("POST", "/v1/payment_intents/"+id, "amount=1600&payment_method="+ada.Card).str("status"), "requires_confirmation", "status with a card")
	r.want(r.moved(sandbox.EffectPayment), int64(0), "moved before confirm")
	paid := r.ok("POST", "/v1/payment_intents/"+id+"/confirm", "expand[]=latest_charge.balance_transaction")
	r.want(paid.str("status"), "succeeded", "status")
	r.want(paid.num("amount_received"), int64(1600), "amount_received")
	r.want(paid.num("latest_charge.amount_captured"), int64(1600), "charge")
	r.want(paid.num("latest_charge.balance_transaction.fee"), int64(76), "fee")
	r.want(r.moved(sandbox.EffectPayment), int64(1600), "moved")
	again := r.refused(400, "payment_intent_unexpected_state", "POST", "/v1/payment_intents/"+id+"/confirm", "")
	r.want(again.str("error.payment_intent.client_secret"), pi.str("client_secret"), "embedded intent")
	r.refused(400, "payment_intent_unexpected_state", "POST", "/v1/payment_intents/"+id+"/cancel", "")
	r.refused(400, "payment_intent_unexpected_state", "POST", "/v1/payment_intents/"+id, "amount=9900")
	r.refused(400, "payment_intent_unexpected_state", "POST", "/v1/payment_intents/"+id+"/capture", "")
	r.want(r.ok("POST", "/v1/payment_intents/"+id, "description=late").str("description"), "late", "description after success")
	e := r.s.Effects()
	r.want(e[len(e)-1].Parent, id, "parent of the effect")
	r.want(e[len(e)-1].Customer, ada.ID, "customer of the effect")
}

func TestManualCaptureHoldsThenCollectsPartAndReleasesTheRest(t *testing.T) {
	r := newRig(t)
	create := "amount=1000&currency=usd&capture_method=manual&confirm=true&payment_method=pm_card_visa" +
		"&payment_method_options[card][request_incremental_authorization]=if_available&payment_method_options[card][request_multicapture]=if_available"
	pi := r.ok("POST", "/v1/payment_intents", create)
	id := pi.str("id")
	r.want(pi.str("status"), "requires_capture", "status")
	r.want(pi.num("amount_capturable"), int64(1000), "capturable")
	r.refused(400, "payment_intent_unexpected_state", "POST", "/v1/refunds", "payment_intent="+id)
	r.refused(400, "", "POST", "/v1/payment_intents/"+id+"/increment_authorization", "amount=1000")
	r.want(r.ok("POST", "/v1/payment_intents/"+id+"/increment_authorization", "amount=1400").num("amount_capturable"), int64(1400), "raised")
	r.refused(400, "amount_too_large", "POST", "/v1/payment_intents/"+id+"/capture", "amount_to_capture=1401")
	part := r.ok("POST", "/v1/payment_intents/"+id+"/capture", "amount_to_capture=300&final_capture=false")
	r.want(part.str("status"), "requires_capture", "after a first part")
	r.want(part.num("amount_capturable"), int64(1100), "capturable after a first part")
	done := r.ok("POST", "/v1/payment_intents/"+id+"/capture", "amount_to_capture=600")
	r.want(done.str("status"), "succeeded", "after the last part")
	r.want(done.num("amount_received"), int64(900), "received")
	ch := r.ok("GET", "/v1/charges/"+done.str("latest_charge"), "")
	r.want(ch.num("amount")-ch.num("amount_refunded"), int64(900), "what can be refunded")
	r.want(r.ok("POST", "/v1/refunds", "payment_intent="+id).num("amount"), int64(900), "refund of the rest")
	r.want(r.moved(sandbox.EffectAuthorization), int64(1400), "authorized")
	r.want(r.moved(sandbox.EffectCapture), int64(900), "captured")
	r.want(r.moved(sandbox.EffectRelease), int64(500), "released")

	other := r.ok("POST", "/v1/payment_intents", "amount=800&currency=usd&capture_method=manual&confirm=true&payment_method=pm_card_visa").str("id")
	r.refused(400, "", "POST", "/v1/payment_intents/"+other+"/increment_authorization", "amount=900")
	r.want(r.ok("POST", "/v1/payment_intents/"+other+"/cancel", "cancellation_reason=duplicate").str("status"), "canceled", "canceled")
	r.want(r.moved(sandbox.EffectRelease), int64(1300), "released by cancel")
}

func TestDeclinesChargeNothingAndEmbedTheIntent(t *testing.T) {
	r := newRig(t)
	for _, tc := range []struct{ name, method, decline string }{
		{"a card that is declined", "payment_method=pm_card_chargeDeclined", "generic_decline"},
		{"a card without funds", "payment_method=pm_card_chargeDeclinedInsufficientFunds", "insufficient_funds"},
		{"a declined number", "payment_method_data[type]=card&payment_method_data[card][number]=4000000000000002", "generic_decline"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out := r.refused(402, "card_declined", "POST", "/v1/payment_intents", "amount=900&currency=usd&confirm=true&"+tc.method)
			r.want(out.str("error.decline_code"), tc.decline, "decline_code")
			r.want(out.str("error.type"), "card_error", "type")
			r.want(out.str("error.payment_intent.status"), "requires_payment_method", "status of the embedded intent")
			r.want(out.str("error.payment_intent.last_payment_error.decline_code"), tc.decline, "last_payment_error")
			ch := r.ok("GET", "/v1/charges/"+out.str("error.charge"), "")
			r.want(ch.str("status"), "failed", "charge")
			r.want(ch.at("paid"), false, "paid")
			r.refused(400, "", "POST", "/v1/refunds", "charge="+ch.str("id"))
			id := out.str("error.payment_intent.id")
			r.want(r.ok("POST", "/v1/payment_intents/"+id+"/confirm", "payment_method=pm_card_visa").str("status"), "succeeded", "second try")
		})
	}
	r.want(r.moved(sandbox.EffectPayment), int64(2700), "moved by the second tries")
	legacy := r.refused(402, "card_declined", "POST", "/v1/charges", "amount=900&currency=usd&source=tok_chargeDeclined")
	if !strings.HasPrefix(legacy.str("error.charge"), "ch_") {
		t.Errorf("legacy decline names no charge: %s", legacy.raw)
	}
	r.refused(402, "incorrect_number", "POST", "/v1/payment_methods", "type=card&card[number]=4242")
}

func TestAuthenticationMovesMoneyWithoutACall(t *testing.T) {
	r := newRig(t)
	pi := r.ok("POST", "/v1/payment_intents", "amount=900&currency=usd&confirm=true&payment_method=pm_card_authenticationRequired")
	r.want(pi.str("status"), "requires_action", "status")
	r.ok("POST", "/_sandbox/payment_intents/"+pi.str("id"), `{"status":"succeeded"}`)
	r.want(r.ok("GET", "/v1/payment_intents/"+pi.str("id"), "").str("status"), "succeeded", "later")
	r.want(r.moved(sandbox.EffectPayment), int64(900), "moved")
	off := r.refused(402, "authentication_required", "POST", "/v1/payment_intents",
		"amount=900&currency=usd&confirm=true&off_session=true&payment_method=pm_card_authenticationRequired")
	r.want(off.str("error.payment_intent.status"), "requires_payment_method", "off session")
	no := r.ok("POST", "/v1/payment_intents", "amount=900&currency=usd&confirm=true&payment_method=pm_card_authenticationRequired").str("id")
	if err := r.s.Authenticate(no, false); err != nil {
		t.Fatal(err)
	}
	r.want(r.ok("GET", "/v1/payment_intents/"+no, "").str("last_payment_error.code"), "payment_intent_authentication_failure", "failed")
	r.want(r.moved(sandbox.EffectPayment), int64(900), "moved in the end")
}

func TestAmountsAndCurrenciesAreJudgedAsStripeDoes(t *testing.T) {
	r := newRig(t)
	for _, tc := range []struct{ name, body, code, param string }{
		{"no amount", "currency=usd", "parameter_missing", "amount"},
		{"no currency", "amount=900", "parameter_missing", "currency"},
		{"an amount below the minimum", "amount=49&currency=usd", "amount_too_small", "amount"},
		{"thirteen digits", "amount=1000000000000&currency=usd", "amount_too_large", "amount"},
		{"scientific notation", "amount=1e3&currency=usd", "parameter_invalid_integer", "amount"},
		{"an empty amount", "amount=&currency=usd", "parameter_invalid_empty", "amount"},
		{"an unknown currency", "amount=900&currency=zzz", "", "currency"},
		{"an unknown parameter", "amount=900&currency=usd&Amount=1", "parameter_unknown", "Amount"},
		{"a bad enumeration", "amount=900&currency=usd&capture_method=later", "", "capture_method"},
		{"a bad boolean", "amount=900&currency=usd&confirm=maybe", "", "confirm"},
		{"an unknown customer", "amount=900&currency=usd&customer=cus_none", "resource_missing", "customer"},
		{"money for another account", "amount=900&currency=usd&transfer_data[destination]=acct_1", "resource_missing", "transfer_data[destination]"},
		{"a fee without Connect", "amount=900&currency=usd&application_fee_amount=1", "", "application_fee_amount"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out := r.refused(400, tc.code, "POST", "/v1/payment_intents", tc.body)
			r.want(out.str("error.param"), tc.param, "param")
		})
	}
}

func TestACardPaysOnlyForItsCustomer(t *testing.T) {
	r := newRig(t)
	ada, ben := r.seed.Customers[0], r.seed.Customers[1]
	r.refused(400, "resource_missing", "POST", "/v1/payment_intents", "amount=900&currency=usd&customer="+ben.ID+"&payment_method="+ada.Card)
	r.refused(400, "", "POST", "/v1/payment_intents", "amount=900&currency=usd&payment_method="+ada.Card)
	r.refused(400, "resource_missing", "POST", "/v1/charges", "amount=900&currency=usd&customer="+ben.ID+"&source="+ada.Card)
	pm := r.ok("POST", "/v1/payment_methods", "type=card&card[token]=tok_visa&billing_details[name]=Ada").str("id")
	r.want(r.ok("POST", "/v1/payment_methods/"+pm+"/attach", "customer="+ada.ID).str("customer"), ada.ID, "attached")
	r.refused(400, "resource_already_exists", "POST", "/v1/payment_methods/"+pm+"/attach", "customer="+ben.ID)
	r.want(len(r.ok("GET", "/v1/customers/"+ada.ID+"/payment_methods", "").ids()), 2, "methods of the customer")
	r.want(len(r.ok("GET", "/v1/payment_methods?customer="+ada.ID+"&type=card", "").ids()), 2, "listed by filter")
	if got := r.ok("POST", "/v1/payment_methods/"+pm+"/detach", "").at("customer"); got != nil {
		t.Errorf("still attached to %v", got)
	}
	r.refused(400, "", "POST", "/v1/payment_methods/"+pm+"/detach", "")
}

func TestLegacyChargesAuthorizeCaptureAndRelease(t *testing.T) {
	r := newRig(t)
	ada := r.seed.Customers[0].ID
	ch := r.ok("POST", "/v1/charges", "amount=1000&currency=usd&capture=false&customer="+ada)
	r.want(ch.at("captured"), false, "captured")
	got := r.ok("POST", "/v1/charges/"+ch.str("id")+"/capture", "amount=400")
	r.want(got.num("amount_captured"), int64(400), "amount_captured")
	r.want(got.num("amount_refunded"), int64(600), "amount_refunded counts the release")
	r.refused(400, "charge_expired_for_capture", "POST", "/v1/charges/"+ch.str("id")+"/capture", "")
	held := r.ok("POST", "/v1/charges", "amount=700&currency=usd&capture=false&source=tok_visa").str("id")
	r.refused(400, "", "POST", "/v1/refunds", "charge="+held+"&amount=1")
	void := r.ok("POST", "/v1/refunds", "charge="+held+"&metadata[sandbox_status]=pending")
	r.want(void.str("status"), "succeeded", "giving up an authorization takes no time")
	if err := r.s.SetRefundStatus(void.str("id"), "failed"); err == nil {
		t.Error("a released authorization failed, which would make money")
	}
	r.want(r.moved(sandbox.EffectRelease), int64(1300), "released")
	r.want(r.moved(sandbox.EffectRefund), int64(0), "a release is no refund")
	r.want(r.ok("POST", "/v1/charges/"+ch.str("id"), "description=x&metadata[a]=1").str("description"), "x", "update")
	r.refused(400, "parameter_missing", "POST", "/v1/charges", "amount=900&currency=usd")
}

func TestPayoutsNeedABalanceAndCanComeBack(t *testing.T) {
	r := newRig(t)
	r.refused(400, "balance_insufficient", "POST", "/v1/payouts", "amount=99999999&currency=usd")
	po := r.ok("POST", "/v1/payouts", "amount=1000&currency=usd&metadata[a]=b").str("id")
	r.want(r.ok("POST", "/v1/payouts/"+po+"/cancel", "").str("status"), "canceled", "canceled")
	r.refused(400, "", "POST", "/v1/payouts/"+po+"/cancel", "")
	paid := r.ok("POST", "/v1/payouts", "amount=2000&currency=usd&method=instant").str("id")
	r.refused(400, "", "POST", "/v1/payouts/"+paid+"/reverse", "")
	r.ok("POST", "/_sandbox/payouts/"+paid, `{"status":"paid"}`)
	back := r.ok("POST", "/v1/payouts/"+paid+"/reverse", "")
	r.want(back.str("original_payout"), paid, "original_payout")
	r.want(r.ok("GET", "/v1/payouts/"+paid, "").str("reversed_by"), back.str("id"), "reversed_by")
	failed := r.ok("POST", "/v1/payouts", "amount=3000&currency=usd").str("id")
	if err := r.s.SetPayoutStatus(failed, "failed"); err != nil {
		t.Fatal(err)
	}
	r.want(r.ok("GET", "/v1/payouts?status=failed", "").ids()[0], failed, "listed by status")
	r.want(r.moved(sandbox.EffectPayout), int64(6000), "paid out")
	r.want(r.moved(sandbox.EffectPayoutBack), int64(6000), "came back")
	r.ok("POST", "/v1/payouts/"+failed, "metadata[x]=y")
}
