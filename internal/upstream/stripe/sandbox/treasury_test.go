package sandbox_test

import (
	"testing"

	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

// treasury makes a financial account that holds 100 dollars, and returns its id.
func (r *rig) treasury() string {
	r.t.Helper()
	fa := r.ok("POST", "/v1/treasury/financial_accounts", "supported_currencies[]=usd&nickname=Float&metadata[a]=b").str("id")
	r.ok("POST", "/v1/test_helpers/treasury/received_credits", "amount=10000&currency=usd&network=ach&financial_account="+fa)
	return fa
}

func (r *rig) cash(fa string) int64 {
	r.t.Helper()
	return r.ok("GET", "/v1/treasury/financial_accounts/"+fa, "").num("balance.cash.usd")
}

const toABank = "&destination_payment_method_data[type]=us_bank_account&destination_payment_method_data[us_bank_account][account_number]=000123456789" +
	"&destination_payment_method_data[us_bank_account][routing_number]=110000000&destination_payment_method_data[us_bank_account][account_holder_type]=company"

func TestTreasuryPaymentsLeaveAndComeBack(t *testing.T) {
	r := newRig(t)
	fa, ada := r.treasury(), r.seed.Customers[0].ID
	body := "currency=usd&financial_account=" + fa
	for _, tc := range []struct {
		name, end, status string
		cash              int64 // after it, of the 100 dollars
	}{
		{"posted", "/v1/test_helpers/treasury/outbound_payments/{}/post", "posted", 9000},
		{"canceled", "/v1/treasury/outbound_payments/{}/cancel", "canceled", 9000},
		{"failed", "/v1/test_helpers/treasury/outbound_payments/{}/fail", "failed", 9000},
	} {
		t.Run(tc.name, func(t *testing.T) {
			op := r.ok("POST", "/v1/treasury/outbound_payments", body+"&amount=1000&customer="+ada+toABank)
			r.want(op.str("status"), "processing", "at first")
			r.want(r.ok("POST", replaceID(tc.end, op.str("id")), "").str("status"), tc.status, "then")
			r.want(r.cash(fa), tc.cash, "cash")
			r.refused(400, "", "POST", "/v1/treasury/outbound_payments/"+op.str("id")+"/cancel", "")
		})
	}
	posted := r.ok("GET", "/v1/treasury/outbound_payments?status=posted&financial_account="+fa, "").ids()[0]
	back := r.ok("POST", "/v1/test_helpers/treasury/outbound_payments/"+posted+"/return", "")
	r.want(back.str("status"), "returned", "returned")
	r.want(r.cash(fa), int64(10000), "all came back")
	r.want(r.moved(sandbox.EffectOutbound)-r.moved(sandbox.EffectOutboundBack), int64(0), "moved in the end")
	r.want(len(r.ok("GET", "/v1/treasury/outbound_payments?financial_account="+fa+"&customer="+r.seed.Customers[1].ID, "").ids()), 0, "of another customer")
	r.want(len(r.ok("GET", "/v1/treasury/transactions?financial_account="+fa+"&status=void", "").ids()), 2, "void lines")
	line := r.ok("GET", "/v1/treasury/outbound_payments/"+posted+"?expand[]=transaction", "").str("transaction.id")
	r.want(len(r.ok("GET", "/v1/treasury/transaction_entries?financial_account="+fa+"&transaction="+line, "").ids()), 2, "entries")
	r.ok("GET", "/v1/treasury/transactions/"+line, "")
}

func replaceID(path, id string) string {
	for i := 0; i+1 < len(path); i++ {
		if path[i:i+2] == "{}" {
			return path[:i] + id + path[i+2:]
		}
	}
	return path
}

func TestTreasuryPaymentsAreRefused(t *testing.T) {
	r := newRig(t)
	fa := r.treasury()
	body := "currency=usd&financial_account=" + fa
	bens := r.ok("POST", "/v1/payment_methods", "type=us_bank_account&us_bank_account[account_number]=000123456789&us_bank_account[routing_number]=110000000").str("id")
	r.ok("POST", "/v1/payment_methods/"+bens+"/attach", "customer="+r.seed.Customers[1].ID)
	for _, tc := range []struct{ name, body, code string }{
		{"more than it holds", body + "&amount=10001" + toABank, "balance_insufficient"},
		{"nothing", body + "&amount=0" + toABank, "parameter_invalid_integer"},
		{"another currency", "currency=eur&financial_account=" + fa + "&amount=100" + toABank, ""},
		{"no destination", body + "&amount=100", "parameter_missing"},
		{"an unknown account", "currency=usd&financial_account=fa_none&amount=100" + toABank, "resource_missing"},
		{"another customer's bank", body + "&amount=100&customer=" + r.seed.Customers[0].ID + "&destination_payment_method=" + bens, "resource_missing"},
		{"a card", body + "&amount=100&destination_payment_method=" + r.seed.Customers[0].Card, ""},
	} {
		t.Run(tc.name, func(t *testing.T) { r.refused(400, tc.code, "POST", "/v1/treasury/outbound_payments", tc.body) })
	}
	r.want(r.cash(fa), int64(10000), "cash")
}

func TestTreasuryMovesMoneyOfOnesOwn(t *testing.T) {
	r := newRig(t)
	fa := r.treasury()
	bank := r.ok("POST", "/v1/payment_methods", "type=us_bank_account&us_bank_account[account_number]=000123456789&us_bank_account[routing_number]=110000000").str("id")
	body := "currency=usd&amount=700&financial_account=" + fa
	out := r.ok("POST", "/v1/treasury/outbound_transfers", body+"&destination_payment_method="+bank).str("id")
	r.want(r.ok("POST", "/v1/treasury/outbound_transfers/"+out+"/cancel", "").str("status"), "canceled", "canceled")
	r.want(len(r.ok("GET", "/v1/treasury/outbound_transfers?financial_account="+fa, "").ids()), 1, "listed")
	in := r.ok("POST", "/v1/treasury/inbound_transfers", body+"&origin_payment_method="+bank).str("id")
	help := "/v1/test_helpers/treasury/inbound_transfers/" + in
	r.refused(400, "", "POST", help+"/return", "")
	r.want(r.ok("POST", help+"/succeed", "").str("status"), "succeeded", "arrived")
	r.want(r.cash(fa), int64(10700), "cash")
	r.want(r.ok("POST", help+"/return", "").at("returned"), true, "taken back")
	r.want(r.cash(fa), int64(10000), "cash after that")
	other := r.ok("POST", "/v1/treasury/inbound_transfers", body+"&origin_payment_method="+bank).str("id")
	r.want(r.ok("POST", "/v1/treasury/inbound_transfers/"+other+"/cancel", "").str("status"), "canceled", "canceled on its way")
	failed := r.ok("POST", "/v1/treasury/inbound_transfers", body+"&origin_payment_method="+bank).str("id")
	r.want(r.ok("POST", "/v1/test_helpers/treasury/inbound_transfers/"+failed+"/fail", "").str("failure_details.code"), "insufficient_funds", "failed")
	r.want(len(r.ok("GET", "/v1/treasury/inbound_transfers?financial_account="+fa+"&status=canceled", "").ids()), 1, "listed by status")

	r.refused(400, "", "POST", "/v1/treasury/financial_accounts/"+fa+"/close", "")
	empty := r.ok("POST", "/v1/treasury/financial_accounts", "supported_currencies[]=usd").str("id")
	r.ok("POST", "/v1/treasury/financial_accounts/"+empty, "nickname=Spare")
	r.ok("POST", "/v1/treasury/financial_accounts/"+empty+"/features", "card_issuing[requested]=true")
	r.ok("GET", "/v1/treasury/financial_accounts/"+empty+"/features", "")
	r.want(r.ok("POST", "/v1/treasury/financial_accounts/"+empty+"/close", "").str("status"), "closed", "closed")
	r.refused(400, "", "POST", "/v1/treasury/inbound_transfers", "currency=usd&amount=700&financial_account="+empty+"&origin_payment_method="+bank)
}

func TestWhatWasReceivedIsReversedOnce(t *testing.T) {
	r := newRig(t)
	fa := r.treasury()
	credit := r.ok("GET", "/v1/treasury/received_credits?financial_account="+fa, "").ids()[0]
	back := r.ok("POST", "/v1/treasury/credit_reversals", "received_credit="+credit+"&metadata[a]=b")
	r.want(back.num("amount"), int64(10000), "amount")
	r.want(r.cash(fa), int64(0), "sent back")
	r.want(r.moved(sandbox.EffectOutbound), int64(10000), "moved")
	r.refused(400, "", "POST", "/v1/treasury/credit_reversals", "received_credit="+credit)
	r.want(r.ok("GET", "/v1/treasury/received_credits/"+credit, "").str("linked_flows.credit_reversal"), back.str("id"), "linked")
	r.ok("GET", "/v1/treasury/credit_reversals/"+back.str("id"), "")

	r.ok("POST", "/v1/test_helpers/treasury/received_credits", "amount=500&currency=usd&network=ach&financial_account="+fa)
	debit := r.ok("POST", "/v1/test_helpers/treasury/received_debits", "amount=500&currency=usd&network=ach&financial_account="+fa).str("id")
	r.want(r.cash(fa), int64(0), "taken")
	poor := r.ok("POST", "/v1/test_helpers/treasury/received_debits", "amount=500&currency=usd&network=ach&financial_account="+fa)
	r.want(poor.str("failure_code"), "insufficient_funds", "what cannot be taken")
	claim := r.ok("POST", "/v1/treasury/debit_reversals", "received_debit="+debit).str("id")
	r.want(r.cash(fa), int64(500), "claimed")
	r.refused(400, "", "POST", "/v1/treasury/debit_reversals", "received_debit="+poor.str("id"))
	r.want(r.ok("GET", "/v1/treasury/debit_reversals?financial_account="+fa, "").ids()[0], claim, "listed")
	r.want(len(r.ok("GET", "/v1/treasury/received_debits?financial_account="+fa+"&status=failed", "").ids()), 1, "failed ones")
}
