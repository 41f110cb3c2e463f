package stripe

import (
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/policy"
)

// What an attacker found: parameters that move money, or send it elsewhere, beside the amount that is held.
func TestMoneyThatTravelsBesideTheHeldAmountIsUnmeterable(t *testing.T) {
	a := newAdapter(t)
	for _, c := range []struct{ name, path, body, says string }{
		{"whoever reads the mail names the account that is paid", "/v1/refunds", "charge=ch_1&instructions_email=me@evil.example", "instructions_email"},
		{"the same mail through the charge", "/v1/charges/ch_1/refund", "instructions_email=me@evil.example", "instructions_email"},
		{"the same mail under the charge", "/v1/charges/ch_1/refunds", "instructions_email=me@evil.example", "instructions_email"},
		{"a new source collects past-due invoices", "/v1/customers/cus_1", "source=tok_1", "source"},
		{"a new card does", "/v1/customers/cus_1", "card=tok_1", "card"},
		{"a new bank account does", "/v1/customers/cus_1", "bank_account=btok_1", "bank_account"},
		{"an instant payout takes a fee on top", "/v1/payouts", "amount=1&currency=usd&method=instant", "method=instant"},
		{"an invoice in another account's name", "/v1/invoices", "customer=cus_1&issuer[type]=account&issuer[account]=acct_1", "issuer"},
		{"giving a draft to another account", "/v1/invoices/in_1", "issuer[type]=account&issuer[account]=acct_1", "issuer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			call := mustParse(t, a, post(c.path, c.body))
			effects := call.Operation.Effects
			if len(effects) == 0 {
				t.Fatal("no effect at all")
			}
			if e := effects[len(effects)-1]; !e.Unmeterable || !strings.Contains(e.Why, c.says) {
				t.Errorf("%+v does not say %q", e, c.says)
			}
		})
	}
	for _, body := range []string{"charge=ch_1&reverse_transfer=false", "charge=ch_1&amount=5"} {
		if e := mustParse(t, a, post("/v1/refunds", body)).Operation.Effects; len(e) != 1 || e[0].Unmeterable {
			t.Errorf("%s: %+v", body, e)
		}
	}
}

// An object of another resource that a call makes on the way needs that resource's scope, or a key for
// products would set prices.
func TestObjectsMadeOnTheWayNeedTheirOwnScope(t *testing.T) {
	a := newAdapter(t)
	for _, c := range []struct {
		path, body string
		want       policy.Resource
	}{
		{"/v1/products", "name=a&default_price_data[currency]=usd&default_price_data[unit_amount]=5", "prices"},
		{"/v1/prices", "currency=usd&product_data[name]=a&unit_amount=5", "products"},
		{"/v1/plans", "currency=usd&interval=month&amount=5&product[name]=a", "products"},
		{"/v1/plans", "currency=usd&interval=month&amount=5&product=prod_1", ""},
		{"/v1/products", "name=a", ""},
	} {
		op := mustParse(t, a, post(c.path, c.body)).Operation
		var got policy.Resource
		for _, n := range op.Needs {
			if n.Access == policy.Write {
				got = n.Resource
			}
		}
		if got != c.want || len(op.Effects) != 0 {
			t.Errorf("%s %s asks for write on %q, want %q; effects %+v", c.path, c.body, got, c.want, op.Effects)
		}
	}
}

// A rule of the policy on a parameter that the agent leaves out and Keybrake fills in must see what is sent.
func TestAParameterRuleSeesThePinnedAmount(t *testing.T) {
	a := newAdapter(t)
	most := int64(1000)
	for _, c := range []struct {
		path, body, param string
		name              policy.OperationName
	}{
		{"/v1/charges/ch_A/refund", "", "amount", "refunds.create_via_charge"},
		{"/v1/payment_intents/pi_A/capture", "", "amount_to_capture", "payment_intents.capture"},
		{"/v1/refunds", "charge=ch_A", "amount", "refunds.create"},
	} {
		p := &policy.Policy{
			Scopes: map[policy.Resource]policy.Access{"*": policy.Write}, Uncapped: true, Customers: policy.Customers{Any: true},
			Params: map[policy.OperationName]map[string]policy.ParamRule{c.name: {c.param: {Max: &most}}},
		}
		call := parsedCall(t, a, "POST", c.path, c.body)
		if refusal, err := a.Resolve(t.Context(), call, p, (&shelf{objects: objects()}).look); refusal != nil || err != nil {
			t.Fatalf("%s: %+v, %v", c.path, refusal, err)
		}
		if d := policy.Decide(p, &call.Operation); d.Verdict != policy.Deny {
			t.Errorf("%s sends %s and passes a rule of at most %d", c.path, call.Body, most)
		}
	}
}
