package sandbox_test

import (
	"testing"

	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

// connect makes a connected account that can take cards and transfers, with a
// bank account.
func (r *rig) connect() string {
	r.t.Helper()
	return r.ok("POST", "/v1/accounts", "type=custom&country=US&email=shop@example.com&capabilities[card_payments][requested]=true"+
		"&capabilities[transfers][requested]=true&external_account=btok_us_verified").str("id")
}

// balance is what an account has in US dollars; empty is the platform.
func (r *rig) balance(account string) int64 {
	r.t.Helper()
	return r.ok("GET", "/v1/balance", "", "Stripe-Account", account).num("available.0.amount")
}

func TestTransfersMoveMoneyToAConnectedAccount(t *testing.T) {
	r := newRig(t)
	shop := r.connect()
	before := r.balance("")
	tr := r.ok("POST", "/v1/transfers", "amount=5000&currency=usd&destination="+shop+"&description=May&metadata[a]=b&transfer_group=g1")
	r.want(r.balance(""), before-5000, "the platform's balance")
	r.want(r.balance(shop), int64(5000), "the account's balance")
	r.want(r.moved(sandbox.EffectTransfer), int64(5000), "transferred")
	py := r.ok("GET", "/v1/charges/"+tr.str("destination_payment"), "", "Stripe-Account", shop)
	r.want(py.str("source_transfer"), tr.str("id"), "source_transfer")
	r.want(r.ok("GET", "/v1/transfers/"+tr.str("id")+"?expand[]=destination_payment&expand[]=destination", "").str("destination_payment.id"),
		py.str("id"), "the payment, expanded across accounts")
	r.want(r.ok("POST", "/v1/transfers/"+tr.str("id"), "description=June").str("description"), "June", "description")
	for target, want := range map[string]int{"?destination=" + shop: 1, "?transfer_group=g1": 1, "?transfer_group=g2": 0} {
		r.want(len(r.ok("GET", "/v1/transfers"+target, "").ids()), want, target)
	}
}

func TestTransfersAreRefused(t *testing.T) {
	r := newRig(t)
	shop := r.connect()
	weak := r.ok("POST", "/v1/accounts", "type=custom").str("id")
	ch := r.seed.Customers[0].Charges[0]
	r.ok("POST", "/v1/transfers", "amount=15000&currency=usd&destination="+shop+"&source_transaction="+ch)
	for _, tc := range []struct{ name, body, code, param string }{
		{"no amount and no source", "currency=usd&destination=" + shop, "parameter_missing", "amount"},
		{"nothing", "amount=0&currency=usd&destination=" + shop, "parameter_invalid_integer", "amount"},
		{"more than the balance", "amount=99999999999&currency=usd&destination=" + shop, "balance_insufficient", ""},
		{"a currency without balance", "amount=100&currency=eur&destination=" + shop, "balance_insufficient", ""},
		{"an unknown account", "amount=100&currency=usd&destination=acct_none", "resource_missing", "destination"},
		{"an account without the capability", "amount=100&currency=usd&destination=" + weak, "insufficient_capabilities_for_transfer", "destination"},
		{"an unknown charge", "amount=100&currency=usd&destination=" + shop + "&source_transaction=ch_none", "resource_missing", "source_transaction"},
		{"more than is left of the charge", "amount=5001&currency=usd&destination=" + shop + "&source_transaction=" + ch, "", "amount"},
		{"another currency than the charge's", "amount=5000&currency=eur&destination=" + shop + "&source_transaction=" + ch, "", "currency"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r.want(r.refused(400, tc.code, "POST", "/v1/transfers", tc.body).str("error.param"), tc.param, "param")
		})
	}
	rest := r.ok("POST", "/v1/transfers", "currency=usd&destination="+shop+"&source_transaction="+ch)
	r.want(rest.num("amount"), int64(5000), "without an amount, what is left of the charge")
	r.want(rest.str("transfer_group"), r.ok("GET", "/v1/charges/"+ch, "").str("transfer_group"), "the group of both")
}

func TestReversalsPullMoneyBack(t *testing.T) {
	r := newRig(t)
	shop := r.connect()
	tr := r.ok("POST", "/v1/transfers", "amount=5000&currency=usd&destination="+shop).str("id")
	path := "/v1/transfers/" + tr + "/reversals"
	r.refused(400, "", "POST", path, "amount=5001")
	one := r.ok("POST", path, "amount=2000&metadata[a]=b")
	r.want(one.num("amount"), int64(2000), "amount")
	r.want(r.ok("GET", "/v1/refunds/"+one.str("destination_payment_refund"), "", "Stripe-Account", shop).str("source_transfer_reversal"), one.str("id"),
		"the account's side")
	r.want(r.ok("POST", path, "").num("amount"), int64(3000), "without an amount, the rest")
	r.refused(400, "", "POST", path, "")
	got := r.ok("GET", "/v1/transfers/"+tr, "")
	r.want(got.at("reversed"), true, "reversed")
	r.want(got.num("amount_reversed"), int64(5000), "amount_reversed")
	r.want(r.moved(sandbox.EffectTransferBack), int64(5000), "came back")
	r.want(r.balance(shop), int64(0), "the account's balance")
	r.want(len(r.ok("GET", path, "").ids()), 2, "listed")
	r.want(r.ok("POST", path+"/"+one.str("id"), "metadata[a]=c").str("metadata.a"), "c", "updated")
	r.refused(404, "resource_missing", "GET", path+"/trr_none", "")

	spent := r.ok("POST", "/v1/transfers", "amount=5000&currency=usd&destination="+shop).str("id")
	r.ok("POST", "/v1/payouts", "amount=4000&currency=usd", "Stripe-Account", shop)
	r.refused(400, "balance_insufficient", "POST", "/v1/transfers/"+spent+"/reversals", "")
}

func TestDestinationChargesPassMoneyOn(t *testing.T) {
	r := newRig(t)
	shop := r.connect()
	for _, tc := range []struct {
		name, path, body        string
		transferred, fee, shops int64
	}{
		{"a share", "/v1/payment_intents", "amount=10000&currency=usd&payment_method=pm_card_visa&confirm=true&transfer_data[destination]=" + shop +
			"&transfer_data[amount]=7000", 7000, 0, 7000},
		{"a fee", "/v1/payment_intents", "amount=10000&currency=usd&payment_method=pm_card_visa&confirm=true&transfer_data[destination]=" + shop +
			"&application_fee_amount=1000&on_behalf_of=" + shop, 10000, 1000, 9000},
		{"all of a legacy charge", "/v1/charges", "amount=10000&currency=usd&source=tok_visa&destination=" + shop, 10000, 0, 10000},
		{"a share of a legacy charge", "/v1/charges", "amount=10000&currency=usd&source=tok_visa&destination[account]=" + shop +
			"&destination[amount]=2500", 2500, 0, 2500},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sent, fees, had := r.moved(sandbox.EffectTransfer), r.moved(sandbox.EffectFee), r.balance(shop)
			r.ok("POST", tc.path, tc.body)
			r.want(r.moved(sandbox.EffectTransfer)-sent, tc.transferred, "transferred")
			r.want(r.moved(sandbox.EffectFee)-fees, tc.fee, "fee")
			r.want(r.balance(shop)-had, tc.shops, "what the account keeps")
		})
	}
}

func TestSharesAreRefused(t *testing.T) {
	r := newRig(t)
	shop := r.connect()
	for _, tc := range []struct{ name, body, code, param string }{
		{"more than the payment", "transfer_data[amount]=1001&transfer_data[destination]=" + shop, "", "transfer_data[amount]"},
		{"a fee beside a share", "transfer_data[amount]=1&application_fee_amount=1&transfer_data[destination]=" + shop, "", "application_fee_amount"},
		{"a fee above the payment", "application_fee_amount=1001&transfer_data[destination]=" + shop, "", "application_fee_amount"},
		{"a fee of nobody", "application_fee_amount=1", "", "application_fee_amount"},
		{"in the name of nobody", "on_behalf_of=acct_none", "resource_missing", "on_behalf_of"},
		{"without a destination", "transfer_data[amount]=1", "parameter_missing", "transfer_data[destination]"},
		{"an unknown part", "transfer_data[share]=1&transfer_data[destination]=" + shop, "parameter_unknown", "transfer_data[share]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out := r.refused(400, tc.code, "POST", "/v1/payment_intents", "amount=1000&currency=usd&"+tc.body)
			r.want(out.str("error.param"), tc.param, "param")
		})
	}
}

func TestRefundsTakeTransferAndFeeBackInProportion(t *testing.T) {
	r := newRig(t)
	shop := r.connect()
	pi := r.ok("POST", "/v1/payment_intents", "amount=10000&currency=usd&payment_method=pm_card_visa&confirm=true&application_fee_amount=1000"+
		"&transfer_data[destination]="+shop).str("id")
	first := r.ok("POST", "/v1/refunds", "payment_intent="+pi+"&amount=3333&reverse_transfer=true&refund_application_fee=true")
	tr := r.ok("GET", "/v1/transfers?destination="+shop, "").ids()[0]
	rev := r.ok("GET", "/v1/transfers/"+tr+"/reversals/"+first.str("transfer_reversal"), "")
	r.want(rev.num("amount"), int64(3333), "reversed")
	r.want(rev.str("source_refund"), first.str("id"), "source_refund")
	r.want(r.moved(sandbox.EffectFeeRefund), int64(333), "fee given back")
	r.ok("POST", "/v1/refunds", "payment_intent="+pi+"&reverse_transfer=true&refund_application_fee=true")
	r.want(r.moved(sandbox.EffectTransferBack), int64(10000), "all reversed")
	r.want(r.moved(sandbox.EffectFeeRefund), int64(1000), "all of the fee")
	r.want(r.balance(shop), int64(0), "the account's balance")

	plain := r.seed.Customers[0].Charges[2]
	r.refused(400, "", "POST", "/v1/refunds", "charge="+plain+"&reverse_transfer=true")
	r.refused(400, "", "POST", "/v1/refunds", "charge="+plain+"&refund_application_fee=true")
	r.want(r.ok("GET", "/v1/charges/"+plain, "").num("amount_refunded"), int64(0), "a refused refund moves nothing")
}

func TestDirectChargesPayAFeeToThePlatform(t *testing.T) {
	r := newRig(t)
	shop := r.connect()
	before := r.balance("")
	pi := r.ok("POST", "/v1/payment_intents", "amount=10000&currency=usd&payment_method=pm_card_visa&confirm=true&application_fee_amount=500",
		"Stripe-Account", shop)
	r.refused(404, "resource_missing", "GET", "/v1/payment_intents/"+pi.str("id"), "")
	r.want(r.balance(""), before+500, "the platform's balance")
	r.want(r.balance(shop), int64(10000-320-500), "the account's balance")
	fees := r.ok("GET", "/v1/application_fees?charge="+pi.str("latest_charge"), "")
	fee := fees.ids()[0]
	r.want(fees.str("data.0.account"), shop, "who paid it")
	r.want(r.ok("GET", "/v1/application_fees/"+fee+"?expand[]=charge&expand[]=account", "").str("charge.id"), pi.str("latest_charge"), "its charge")
	effects := r.s.Effects()
	r.want(effects[len(effects)-2].Account, shop, "whose books moved")

	r.refused(400, "", "POST", "/v1/application_fees/"+fee+"/refunds", "amount=501")
	fr := r.ok("POST", "/v1/application_fees/"+fee+"/refunds", "amount=200&metadata[a]=b")
	r.want(fr.num("amount"), int64(200), "amount")
	r.want(r.ok("POST", "/v1/application_fees/"+fee+"/refund", "").num("amount_refunded"), int64(500), "the legacy route answers the fee")
	r.refused(400, "", "POST", "/v1/application_fees/"+fee+"/refund", "")
	r.want(r.ok("POST", "/v1/application_fees/"+fee+"/refunds/"+fr.str("id"), "metadata[a]=c").str("metadata.a"), "c", "updated")
	r.want(len(r.ok("GET", "/v1/application_fees/"+fee+"/refunds", "").ids()), 2, "listed")
	r.want(r.moved(sandbox.EffectFeeRefund), int64(500), "given back")
	r.want(r.balance(""), before, "the platform's balance in the end")
}

func TestAConnectedAccountHasBooksOfItsOwn(t *testing.T) {
	r := newRig(t)
	shop, other := r.connect(), r.connect()
	cus := r.ok("POST", "/v1/customers", "email=shopper@example.com", "Stripe-Account", shop).str("id")
	r.refused(404, "resource_missing", "GET", "/v1/customers/"+cus, "")
	r.refused(404, "resource_missing", "GET", "/v1/customers/"+cus, "", "Stripe-Account", other)
	r.want(r.ok("GET", "/v1/events?type=customer.created", "", "Stripe-Account", shop).str("data.0.account"), shop, "the event's account")
	r.refused(403, "account_invalid", "GET", "/v1/customers", "", "Stripe-Account", "acct_none")
	r.ok("POST", "/v1/customers", "email=a@example.com", "Stripe-Account", shop, "Idempotency-Key", "k")
	again := r.ok("POST", "/v1/customers", "email=a@example.com", "Stripe-Account", other, "Idempotency-Key", "k")
	r.want(again.header.Get("Idempotent-Replayed"), "", "a key of another account")
	r.want(r.ok("GET", "/v1/account", "", "Stripe-Account", shop).str("id"), shop, "itself")
}

func TestAccountsAreKept(t *testing.T) {
	r := newRig(t)
	shop := r.connect()
	got := r.ok("GET", "/v1/accounts/"+shop, "")
	r.want(got.at("charges_enabled"), true, "charges_enabled")
	r.want(got.at("payouts_enabled"), true, "payouts_enabled")
	r.want(got.str("external_accounts.data.0.last4"), "6789", "bank")
	r.want(r.ok("POST", "/v1/accounts/"+shop, "business_profile[name]=Shop&metadata[a]=b&settings[payouts][schedule][interval]=manual").
		str("settings.payouts.schedule.interval"), "manual", "interval")
	r.want(len(r.ok("GET", "/v1/accounts", "").ids()), 1, "listed, the platform not")
	r.want(r.ok("GET", "/v1/accounts/"+r.seed.Account, "").str("id"), r.seed.Account, "the platform by its id")
	r.refused(403, "", "POST", "/v1/accounts/"+r.seed.Account, "email=x@example.com")
	r.refused(403, "account_invalid", "GET", "/v1/accounts/acct_none", "")

	r.want(r.ok("POST", "/v1/accounts/"+shop+"/capabilities/transfers", "requested=false").str("status"), "unrequested", "dropped")
	r.refused(400, "insufficient_capabilities_for_transfer", "POST", "/v1/transfers", "amount=100&currency=usd&destination="+shop)
	r.want(len(r.ok("GET", "/v1/accounts/"+shop+"/capabilities", "").ids()), 1, "capabilities")
	r.want(r.ok("GET", "/v1/accounts/"+shop+"/capabilities/card_payments", "").str("status"), "active", "status")
	r.refused(404, "resource_missing", "GET", "/v1/accounts/"+shop+"/capabilities/flying", "")

	r.want(r.ok("POST", "/v1/accounts/"+shop+"/reject", "reason=fraud").str("requirements.disabled_reason"), "rejected.fraud", "rejected")
	r.want(r.ok("POST", "/v1/accounts/"+shop+"/unreject", "").at("charges_enabled"), true, "again")
	r.want(r.ok("DELETE", "/v1/accounts/"+shop, "").at("deleted"), true, "deleted")
	r.refused(403, "account_invalid", "GET", "/v1/accounts/"+shop, "")
}

func TestExternalAccountsSayWherePayoutsGo(t *testing.T) {
	r := newRig(t)
	shop := r.connect()
	path := "/v1/accounts/" + shop + "/external_accounts"
	first := r.ok("GET", path, "").ids()[0]
	card := r.ok("POST", path, "external_account=tok_visa_debit").str("id")
	bank := r.ok("POST", "/v1/accounts/"+shop+"/bank_accounts", "bank_account[object]=bank_account&bank_account[country]=DE"+
		"&bank_account[currency]=eur&bank_account[account_number]=DE89370400440532013000")
	r.want(bank.at("default_for_currency"), true, "the first of its currency")
	r.want(len(r.ok("GET", path+"?object=card", "").ids()), 1, "cards")
	r.ok("POST", "/v1/transfers", "amount=5000&currency=usd&destination="+shop)
	r.want(r.ok("POST", "/v1/payouts", "amount=1000&currency=usd", "Stripe-Account", shop).str("destination"), first, "paid out to")
	r.ok("POST", path+"/"+card, "default_for_currency=true")
	r.want(r.ok("POST", "/v1/payouts", "amount=1000&currency=usd", "Stripe-Account", shop).str("destination"), card, "paid out to, later")
	r.want(r.ok("POST", "/v1/payouts", "amount=1000&currency=usd&destination="+first, "Stripe-Account", shop).str("destination"), first, "as told")
	r.refused(400, "resource_missing", "POST", "/v1/payouts", "amount=1000&currency=usd&destination=ba_none", "Stripe-Account", shop)
	r.refused(400, "", "DELETE", path+"/"+card, "")
	r.want(r.ok("DELETE", path+"/"+first, "").at("deleted"), true, "deleted")

	persons := "/v1/accounts/" + shop + "/persons"
	ann := r.ok("POST", persons, "first_name=Ann&relationship[owner]=true&id_number=000000000&dob[day]=1&dob[month]=2&dob[year]=1990").str("id")
	r.ok("POST", "/v1/accounts/"+shop+"/people", "first_name=Bob&relationship[director]=true")
	r.want(r.ok("GET", persons+"?relationship[owner]=true", "").ids()[0], ann, "the owner")
	r.want(r.ok("POST", persons+"/"+ann, "last_name=Ames").str("last_name"), "Ames", "renamed")
	r.ok("DELETE", persons+"/"+ann, "")
	r.refused(404, "resource_missing", "GET", persons+"/"+ann, "")

	r.ok("POST", "/v1/accounts/"+shop+"/login_links", "")
	r.ok("POST", "/v1/account_links", "account="+shop+"&type=account_onboarding&refresh_url=https://a.example&return_url=https://b.example")
	r.ok("POST", "/v1/account_sessions", "account="+shop+"&components[payments][enabled]=true")
}
