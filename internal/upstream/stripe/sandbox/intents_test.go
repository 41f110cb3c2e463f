package sandbox_test

import (
	"fmt"
	"testing"

	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

// authorize holds 10 dollars with a feature asked for, and returns the intent.
func (r *rig) authorize(feature string) string {
	r.t.Helper()
	return "/v1/payment_intents/" + r.ok("POST", "/v1/payment_intents", "amount=1000&currency=usd&confirm=true&capture_method=manual"+
		"&payment_method=pm_card_visa&payment_method_options[card]["+feature+"]=if_available").str("id")
}

func TestMulticaptureTakesPartAfterPart(t *testing.T) {
	r := newRig(t)
	plain := r.authorize("request_overcapture")
	r.refused(400, "", "POST", plain+"/capture", "amount_to_capture=300&final_capture=false")
	pi := r.authorize("request_multicapture")
	r.want(r.ok("POST", pi+"/capture", "amount_to_capture=300&final_capture=false").str("status"), "requires_capture", "status")
	got := r.ok("POST", pi+"/capture", "amount_to_capture=200&final_capture=false&expand[]=latest_charge")
	r.want(got.num("amount_received"), int64(500), "amount_received")
	r.want(got.num("amount_capturable"), int64(500), "amount_capturable")
	r.want(got.str("latest_charge.payment_method_details.card.multicapture.status"), "available", "multicapture")
	r.refused(400, "amount_too_large", "POST", pi+"/capture", "amount_to_capture=501")
	r.want(r.ok("POST", pi+"/capture", "amount_to_capture=100").str("status"), "succeeded", "the last capture")
	r.want(r.moved(sandbox.EffectCapture), int64(600), "captured")
	r.want(r.moved(sandbox.EffectRelease), int64(400), "released")
}

func TestOvercaptureTakesMoreThanWasAuthorized(t *testing.T) {
	r := newRig(t)
	r.refused(400, "amount_too_large", "POST", r.authorize("request_multicapture")+"/capture", "amount_to_capture=1001")
	pi := r.authorize("request_overcapture")
	most := r.ok("GET", pi+"?expand[]=latest_charge", "").num("latest_charge.payment_method_details.card.overcapture.maximum_amount_capturable")
	r.refused(400, "amount_too_large", "POST", pi+"/capture", fmt.Sprint("amount_to_capture=", most+1))
	r.want(r.ok("POST", pi+"/capture", fmt.Sprint("amount_to_capture=", most)).num("amount_received"), most, "amount_received")
	r.want(r.moved(sandbox.EffectCapture), most, "captured")
}

func TestAnAuthorizationIsRaisedToANewTotal(t *testing.T) {
	r := newRig(t)
	r.refused(400, "", "POST", r.authorize("request_multicapture")+"/increment_authorization", "amount=1200")
	pi := r.authorize("request_incremental_authorization")
	held := r.moved(sandbox.EffectAuthorization)
	r.want(r.ok("POST", pi+"/increment_authorization", "amount=1200&description=more").num("amount"), int64(1200), "the new total")
	r.want(r.moved(sandbox.EffectAuthorization)-held, int64(200), "the increase")
	r.refused(400, "", "POST", pi+"/increment_authorization", "amount=1200")
	for i := range 9 {
		r.ok("POST", pi+"/increment_authorization", fmt.Sprint("amount=", 1201+i))
	}
	r.refused(400, "", "POST", pi+"/increment_authorization", "amount=5000")
	r.want(r.ok("POST", pi+"/capture", "").num("amount_received"), int64(1209), "captured")
}

func TestABankAccountIsDebitedAfterItsDepositsAreTold(t *testing.T) {
	r := newRig(t)
	const bank = "&payment_method_data[type]=us_bank_account&payment_method_data[us_bank_account][account_number]=000123456789" +
		"&payment_method_data[us_bank_account][routing_number]=110000000&payment_method_data[us_bank_account][account_holder_type]=individual"
	r.refused(400, "payment_method_not_available", "POST", "/v1/payment_intents", "amount=700&currency=usd&confirm=true"+bank)
	make := func() *reply {
		return r.ok("POST", "/v1/payment_intents", "amount=700&currency=usd&confirm=true&payment_method_types[]=us_bank_account"+bank)
	}
	pi := make()
	r.want(pi.str("next_action.type"), "verify_with_microdeposits", "next_action")
	path := "/v1/payment_intents/" + pi.str("id")
	r.refused(400, "payment_method_microdeposit_verification_amounts_mismatch", "POST", path+"/verify_microdeposits", "amounts[]=1&amounts[]=2")
	r.refused(400, "parameter_missing", "POST", path+"/verify_microdeposits", "")
	r.refused(400, "payment_method_microdeposit_verification_descriptor_code_mismatch", "POST", path+"/verify_microdeposits", "descriptor_code=SM0000")
	r.want(r.ok("POST", path+"/verify_microdeposits", "amounts[]=32&amounts[]=45").str("status"), "processing", "told")
	r.want(r.ok("GET", path+"?expand[]=latest_charge", "").str("latest_charge.status"), "pending", "the charge")
	r.want(r.moved(sandbox.EffectPayment), int64(0), "moved while pending")
	r.ok("POST", "/_sandbox/payment_intents/"+pi.str("id"), `{"status":"succeeded"}`)
	r.want(r.ok("GET", path, "").num("amount_received"), int64(700), "received")
	r.want(r.moved(sandbox.EffectPayment), int64(700), "moved")

	other := make().str("id")
	r.ok("POST", "/v1/payment_intents/"+other+"/verify_microdeposits", "descriptor_code=SM11AA")
	r.ok("POST", "/_sandbox/payment_intents/"+other, `{"status":"failed"}`)
	r.want(r.ok("GET", "/v1/payment_intents/"+other, "").str("status"), "requires_payment_method", "refused by the bank")
	r.refused(400, "payment_intent_unexpected_state", "POST", path+"/verify_microdeposits", "descriptor_code=SM11AA")
}

func TestBankTransfersPayThroughTheCashBalance(t *testing.T) {
	r := newRig(t)
	ada := "/v1/customers/" + r.seed.Customers[0].ID
	intent := "amount=900&currency=usd&customer=" + r.seed.Customers[0].ID + "&payment_method_types[]=customer_balance"
	fund := "/v1/test_helpers/customers/" + r.seed.Customers[0].ID + "/fund_cash_balance"
	wait := r.ok("POST", "/v1/payment_intents", intent+"&confirm=true&payment_method_data[type]=customer_balance")
	r.want(wait.num("next_action.display_bank_transfer_instructions.amount_remaining"), int64(900), "amount_remaining")
	r.ok("POST", fund, "amount=500&currency=usd&reference=x")
	path := "/v1/payment_intents/" + wait.str("id")
	r.want(r.ok("GET", path, "").num("next_action.display_bank_transfer_instructions.amount_remaining"), int64(400), "then")
	r.ok("POST", fund, "amount=1000&currency=usd")
	r.want(r.ok("GET", path, "").str("status"), "succeeded", "paid")
	r.want(r.moved(sandbox.EffectPayment), int64(900), "moved")
	r.want(r.ok("GET", ada+"/cash_balance", "").num("available.usd"), int64(600), "left")

	hand := "/v1/payment_intents/" + r.ok("POST", "/v1/payment_intents", intent).str("id")
	r.refused(400, "", "POST", hand+"/apply_customer_balance", "amount=601")
	r.refused(400, "amount_too_large", "POST", hand+"/apply_customer_balance", "amount=901")
	r.want(r.ok("POST", hand+"/apply_customer_balance", "amount=600").str("status"), "requires_action", "in part")
	r.want(r.ok("POST", ada+"/cash_balance", "settings[reconciliation_mode]=manual").str("settings.reconciliation_mode"), "manual", "by hand")
	r.ok("POST", fund, "amount=1000&currency=usd")
	r.want(r.ok("POST", hand+"/apply_customer_balance", "").num("amount_received"), int64(900), "in full")
	r.refused(400, "payment_intent_unexpected_state", "POST", hand+"/apply_customer_balance", "")

	r.refused(400, "", "POST", "/v1/refunds", "origin=customer_balance&customer="+r.seed.Customers[0].ID+"&amount=701&currency=usd")
	back := r.ok("POST", "/v1/refunds", "origin=customer_balance&customer="+r.seed.Customers[0].ID+"&amount=700&currency=usd&instructions_email=a@example.com")
	r.want(r.ok("GET", ada+"/cash_balance", "").num("available.usd"), int64(0), "sent back")
	r.ok("POST", "/v1/refunds/"+back.str("id")+"/cancel", "")
	r.want(r.ok("GET", ada+"/cash_balance", "").num("available.usd"), int64(700), "and not")
	txns := r.ok("GET", ada+"/cash_balance_transactions", "").ids()
	r.want(len(txns), 9, "movements")
	r.ok("GET", ada+"/cash_balance_transactions/"+txns[0], "")
	r.refused(404, "resource_missing", "GET", "/v1/customers/"+r.seed.Customers[1].ID+"/cash_balance_transactions/"+txns[0], "")
	r.ok("POST", ada+"/funding_instructions", "currency=eur&funding_type=bank_transfer&bank_transfer[type]=eu_bank_transfer")
}
