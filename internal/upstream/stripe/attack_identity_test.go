package stripe

import (
	"slices"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

// notACustomers are parameters whose name leads to a customer elsewhere, but not here.
var notACustomers = map[string]string{
	"automatic_tax.liability.account":              "a connected account, not a linked bank account",
	"issuer.account":                               "a connected account",
	"destination.account":                          "a connected account",
	"transfer_data.destination":                    "a connected account",
	"payment_method_data.card":                     "a new method",
	"payment_method_options.card":                  "options",
	"payment_settings.payment_method_options.card": "options",
}

// Every parameter of the presets' resources whose name leads to somebody's object must be followed, at any
// depth: a new one that the tables miss lets a key with a customer list use a foreign object.
func TestEveryParameterThatNamesSomebodysObjectIsFollowed(t *testing.T) {
	a := newAdapter(t)
	l, err := loadLinks(tableFiles)
	if err != nil {
		t.Fatal(err)
	}
	ours := []string{"charges", "payment_intents", "customers", "refunds", "invoices", "balance_transactions", "events", "payouts", "products", "plans", "prices"}
	seen := 0
	for _, row := range a.catalog.rows {
		if row.Params == nil || !slices.Contains(ours, string(row.Resource)) || row.Release == Preview || row.Customer.Form == CustomerUnknown && !row.Customer.Creates {
			continue
		}
		followed := map[string]bool{row.Customer.Param.String(): true}
		for _, c := range row.Customer.Checks {
			followed[c.Field.String()] = true
		}
		for _, chain := range row.Customer.Chains {
			for _, name := range chain[0].Ref.Placeholders {
				followed[name] = true
			}
		}
		for _, f := range plainFields(row.Params, nil, nil) {
			name := f.String()
			if l[f[len(f)-1]] == nil || notACustomers[name] != "" || strings.Contains(name, "automatic_tax.liability") || strings.Contains(name, "issuer") {
				continue
			}
			if seen++; !followed[name] {
				t.Errorf("%s: nobody asks whose %s is", row.Name, name)
			}
		}
	}
	if seen < 50 {
		t.Errorf("only %d parameters were looked at", seen)
	}
}

// plainFields lists the parameters of a declaration that take a single text.
func plainFields(s *ParamSpec, at Field, out []Field) []Field {
	if s == nil {
		return out
	}
	if len(at) > 0 && s.Type.Has(StringType) {
		out = append(out, slices.Clone(at))
	}
	for name, below := range s.Members {
		out = plainFields(below, append(slices.Clone(at), name), out)
	}
	if s.Type.Has(ArrayType) {
		out = plainFields(s.Element, append(slices.Clone(at), anyElement), out)
	}
	return out
}

// A key that may create customers may not hang somebody's instrument on the new one: neither a foreign one,
// nor one that belongs to nobody yet, nor one whose owner cannot be found out.
func TestANewCustomerTakesNobodysInstrument(t *testing.T) {
	a := newAdapter(t)
	p := &policy.Policy{Scopes: map[policy.Resource]policy.Access{"customers": policy.Write}, Uncapped: true, MayCreate: true, Customers: onlyA.Customers}
	for body, want := range map[string]policy.Verdict{
		"email=a%40b.c":                                 policy.Allow,
		"payment_method=pm_A":                           policy.Allow,
		"payment_method=pm_X":                           policy.Deny,
		"payment_method=pm_0":                           policy.Deny,
		"payment_method=ba_1":                           policy.Deny,
		"invoice_settings[default_payment_method]=pm_X": policy.Deny,
		"invoice_settings[default_payment_method]=zz_1": policy.Deny,
		"source=tok_visa":                               policy.Deny,
		"source=btok_1":                                 policy.Deny,
		"source=src_9":                                  policy.Deny,
		"payment_method=pm_A&source=tok_visa":           policy.Deny,
	} {
		call := parsedCall(t, a, "POST", "/v1/customers", body)
		refusal, err := a.Resolve(t.Context(), call, p, (&shelf{objects: objects()}).look)
		if err != nil || refusal != nil {
			t.Errorf("%s: refusal %+v, error %v", body, refusal, err)
			continue
		}
		if d := policy.Decide(p, &call.Operation); d.Verdict != want {
			t.Errorf("%s: %v, want %v (%+v)", body, d.Verdict, want, call.Operation.Customer)
		}
	}
}

// The ledger settles in the currency that it holds; an amount in another one has no meaning there.
func TestASettlementInAnotherCurrencyIsUnknown(t *testing.T) {
	for name, tt := range map[string]struct {
		rule *EffectRule
		body string
	}{
		"a refund":              {refundRule(), `{"id":"re_1","object":"refund","status":"succeeded","amount":2000,"currency":"eur"}`},
		"a pending refund":      {refundRule(), `{"id":"re_1","object":"refund","status":"pending","amount":2000,"currency":"eur"}`},
		"a refund without one":  {refundRule(), `{"id":"re_1","object":"refund","status":"succeeded","amount":2000}`},
		"a refund with a null":  {refundRule(), `{"id":"re_1","object":"refund","status":"succeeded","amount":2000,"currency":null}`},
		"an intent":             {intentRule(), `{"id":"pi_1","object":"payment_intent","status":"succeeded","amount":2000,"currency":"jpy"}`},
		"what settles the hold": {captureRule(), `{"id":"pi_1","object":"payment_intent","status":"succeeded","amount":2000,"amount_received":2000,"currency":"eur"}`},
	} {
		got := (&Adapter{}).Outcome(held(&Row{}, tt.rule, ""), answer(200, tt.body))
		if got.Fate != upstream.Unknown || len(got.Moved) > 0 || len(got.Finals) > 0 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	call := held(&Row{}, refundRule(), "")
	got := (&Adapter{}).Outcome(call, answer(200, `{"id":"re_1","object":"refund","status":"succeeded","amount":2000,"currency":"USD"}`))
	if got.Fate != upstream.Moved || got.Moved[0].Amount != (money.Amount{Minor: 2000, Currency: "usd"}) {
		t.Errorf("the same currency in capitals: %+v", got)
	}
}
