package sandbox_test

import (
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

func TestASetupIntentAttachesWhatItSetsUp(t *testing.T) {
	r := newRig(t)
	ada, ben := r.seed.Customers[0], r.seed.Customers[1]
	si := r.ok("POST", "/v1/setup_intents", "customer="+ada.ID+"&usage=on_session&description=d&metadata[a]=b&automatic_payment_methods[enabled]=true")
	id := si.str("id")
	r.want(si.str("status"), "requires_payment_method", "status at first")
	if !strings.HasPrefix(si.str("client_secret"), id+"_secret_") {
		t.Errorf("client_secret %q", si.str("client_secret"))
	}
	r.refused(400, "setup_intent_unexpected_state", "POST", "/v1/setup_intents/"+id+"/confirm", "")
	r.refused(400, "resource_missing", "POST", "/v1/setup_intents/"+id, "payment_method="+ben.Card)
	r.want(r.ok("POST", "/v1/setup_intents/"+id, "payment_method=pm_card_visa").str("status"), "requires_confirmation", "with a card")
	done := r.ok("POST", "/v1/setup_intents/"+id+"/confirm", "expand[]=payment_method&expand[]=latest_attempt")
	r.want(done.str("status"), "succeeded", "confirmed")
	r.want(done.str("payment_method.customer"), ada.ID, "attached")
	r.want(done.str("latest_attempt.status"), "succeeded", "attempt")
	r.refused(400, "setup_intent_unexpected_state", "POST", "/v1/setup_intents/"+id+"/cancel", "")
	r.want(len(r.ok("GET", "/v1/setup_attempts?setup_intent="+id, "").ids()), 1, "attempts")
	r.refused(400, "parameter_missing", "GET", "/v1/setup_attempts", "")
	r.want(r.ok("GET", "/v1/setup_intents?customer="+ada.ID, "").ids()[0], id, "listed")
	r.want(len(r.ok("GET", "/v1/setup_intents?customer="+r.seed.Customers[2].ID, "").ids()), 0, "another's")
	r.want(len(r.s.Effects()), 0, "no money moved")

	moved := r.ok("POST", "/v1/setup_intents", "customer="+ada.ID).str("id")
	r.want(r.ok("POST", "/v1/setup_intents/"+moved, "customer="+ben.ID).str("customer"), ben.ID, "a customer can change")
	r.want(r.ok("GET", "/v1/setup_intents?customer="+ben.ID, "").ids()[0], moved, "and the list follows")
	r.want(r.ok("POST", "/v1/setup_intents/"+moved+"/cancel", "cancellation_reason=abandoned").str("status"), "canceled", "canceled")
}

func TestSetupsFailAndAskAsCardsDo(t *testing.T) {
	r := newRig(t)
	out := r.refused(402, "card_declined", "POST", "/v1/setup_intents", "confirm=true&payment_method=pm_card_chargeDeclined")
	r.want(out.str("error.setup_intent.status"), "requires_payment_method", "embedded")
	r.want(out.str("error.setup_intent.last_setup_error.code"), "card_declined", "last error")
	id := out.str("error.setup_intent.id")
	r.want(r.ok("POST", "/v1/setup_intents/"+id+"/confirm", "payment_method=pm_card_authenticationRequired").str("status"), "requires_action", "asked")
	r.ok("POST", "/_sandbox/setup_intents/"+id, `{"status":"failed"}`)
	r.want(r.ok("GET", "/v1/setup_intents/"+id, "").str("last_setup_error.code"), "setup_intent_authentication_failure", "refused")
	r.ok("POST", "/v1/setup_intents/"+id+"/confirm", "payment_method=pm_card_authenticationRequired")
	r.ok("POST", "/_sandbox/setup_intents/"+id, `{"status":"succeeded"}`)
	r.want(r.ok("GET", "/v1/setup_intents/"+id, "").str("status"), "succeeded", "granted")
	bank := r.ok("POST", "/v1/setup_intents", "confirm=true&payment_method_types[0]=us_bank_account&payment_method_data[type]=us_bank_account"+
		"&payment_method_data[us_bank_account][account_number]=000123456789&payment_method_data[us_bank_account][routing_number]=110000000"+
		"&payment_method_data[us_bank_account][account_holder_type]=individual")
	r.want(bank.str("next_action.type"), "verify_with_microdeposits", "a bank account")
	verify := "/v1/setup_intents/" + bank.str("id") + "/verify_microdeposits"
	r.refused(400, "payment_method_microdeposit_verification_amounts_mismatch", "POST", verify, "amounts[0]=1&amounts[1]=2")
	r.want(r.ok("POST", verify, "amounts[0]=32&amounts[1]=45").str("status"), "succeeded", "verified")
	r.refused(400, "setup_intent_unexpected_state", "POST", verify, "amounts[0]=32&amounts[1]=45")
}

func TestAnInvoicesIntentIsTheInvoices(t *testing.T) {
	r := newRig(t)
	id := r.draft("")
	pi := r.ok("POST", "/v1/invoices/"+id+"/finalize", "expand[]=payments").str("payments.data.0.payment.payment_intent")
	r.refused(400, "payment_intent_unexpected_state", "POST", "/v1/payment_intents/"+pi+"/cancel", "")
	r.refused(400, "", "POST", "/v1/payment_intents/"+pi, "amount=1")
	held := r.ok("POST", "/v1/payment_intents", "amount=1000&currency=usd&capture_method=manual&confirm=true&customer="+r.seed.Customers[0].ID+
		"&payment_method="+r.seed.Customers[0].Card).str("id")
	r.ok("POST", "/v1/invoices/"+id+"/attach_payment", "payment_intent="+held)
	r.want(r.ok("GET", "/v1/invoices/"+id, "").str("status"), "open", "an authorization is no payment")
	r.ok("POST", "/v1/payment_intents/"+held+"/capture", "")
	r.want(r.ok("GET", "/v1/invoices/"+id, "").str("status"), "paid", "its capture is")
	r.want(r.moved(sandbox.EffectCapture), int64(1000), "moved")
}
