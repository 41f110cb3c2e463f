package audit

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
)

func operations() *rapid.Generator[*policy.Operation] {
	return rapid.Custom(func(t *rapid.T) *policy.Operation {
		euro := money.Quote{Rate: "rate_1", Currency: "eur", Exponent: 2, Value: 1_090_000_000_000, MarginBP: 200}
		op := &policy.Operation{
			Name: "refunds.create", Resource: "refunds", Access: rapid.SampledFrom([]policy.Access{policy.Read, policy.Write}).Draw(t, "access"),
			Account: "acct_1", CreatesCustomer: rapid.Bool().Draw(t, "creates"), Resolved: true,
			Customer: policy.CustomerTie{
				Kind: policy.CustomerKind(rapid.IntRange(0, 4).Draw(t, "tie")), Customers: []policy.CustomerID{"cus_A"},
				Guest: rapid.Bool().Draw(t, "guest"), Add: "customer",
			},
		}
		if rapid.Bool().Draw(t, "needs") {
			op.Needs = []policy.Need{{Resource: "tax.settings", Access: policy.Write}, {Resource: "charges", Access: policy.Read}}
		}
		op.Resolved = op.Customer.Kind != policy.TieLookup
		for i := range rapid.IntRange(0, 4).Draw(t, "effects") {
			e := policy.Effect{Bucket: policy.Resource(fmt.Sprintf("bucket_%d", i))}
			switch rapid.SampledFrom([]string{"dollars", "euros", "no rate", "open", "unbound"}).Draw(t, "kind") {
			case "dollars":
				e.Known, e.Amount, e.USD, e.Quote = true, money.Amount{Minor: 2000, Currency: "usd"}, 20*money.Dollar, money.Dollars()
				e.LookedUp = true
			case "euros":
				e.Known, e.Amount, e.USD, e.Quote = true, money.Amount{Minor: 100, Currency: "eur"}, 1_111_800, euro
				e.Mode, e.Object, e.Ceiling = policy.Part, "pi_1", 5000
			case "no rate":
				e.Known, e.Amount, e.NoRate = true, money.Amount{Minor: 100, Currency: "chf"}, "there was no rate for chf when the call was made"
				e.Mode = policy.Total
			case "open":
				op.Resolved, e.Mode, e.Object = false, policy.Total, "pi_2"
			default:
				e.Unmeterable = true
			}
			op.Effects = append(op.Effects, e)
		}
		return op
	})
}

func TestWhatWasJudgedCanBeJudgedAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		op := operations().Draw(t, "operation")
		r := &Record{Seq: 1, Kind: KindIntent, Operation: op.Name, Customers: op.Customer.Customers, Account: op.Account}
		r.Judge(op, true)
		read, err := Decode(r.AppendJSON(nil))
		if err != nil {
			t.Fatal(err)
		}
		got, ok := read.Rejudge()
		if diff := cmp.Diff(*op, got, cmpopts.EquateEmpty()); diff != "" || !ok {
			t.Fatalf("ok %t\n%s", ok, diff)
		}
	})
}

func TestACallThatWasNotReadToTheEndCannotBeJudgedAgain(t *testing.T) {
	op := &policy.Operation{Name: "refunds.create", Resource: "refunds", Access: policy.Write}
	half := &Record{Operation: op.Name}
	half.Judge(op, false)
	much := &Record{Operation: op.Name}
	much.Judge(&policy.Operation{Access: policy.Read, Needs: make([]policy.Need, maxNeeds+1)}, true)
	for name, r := range map[string]*Record{"not read": half, "too much": much, "an old record": {Operation: op.Name, Effects: []Effect{{}}}} {
		if _, ok := r.Rejudge(); ok {
			t.Errorf("%s: can be judged", name)
		}
	}
	if half.Access != policy.Write {
		t.Error("its access is not on record")
	}
}

func TestTheRecordKnowsWhichParametersACallHad(t *testing.T) {
	many := make([]string, maxParams+1)
	for i := range many {
		many[i] = fmt.Sprintf("p%c", 'a'+rune(i))
	}
	for _, c := range []struct {
		names      []string
		path       string
		has, known bool
	}{
		{[]string{"amount", "metadata[order]"}, "amount", true, true},
		{[]string{"amount", "metadata[order]"}, "metadata[order]", true, true},
		{[]string{"amount", "metadata[order]"}, "metadata", true, true},
		{[]string{"amount", "metadata[order]"}, "meta", false, true},
		{[]string{"amount"}, "reason", false, true},
		{[]string{"items[][price]"}, "items[][price]", true, true},
		{[]string{"items[][price]"}, "items", true, true},
		{[]string{"expand[]"}, "expand", true, true},
		{[]string{"items[][price]"}, "items[0][price]", false, false},
		{nil, "amount", false, true},
		{many, "zz", false, false},
		{many, "pa", true, true},
	} {
		r := &Record{Judged: Judged{Params: c.names}}
		read, err := Decode(r.AppendJSON(nil))
		if err != nil {
			t.Fatal(err)
		}
		if has, known := read.Has(c.path); has != c.has || known != c.known {
			t.Errorf("%v has %s: %t, known %t", c.names, c.path, has, known)
		}
	}
}

// A digest that is scrubbed like a text names no policy any more.
func TestADigestIsNotTakenForACard(t *testing.T) {
	digest := strings.Repeat("a", 20) + "4242424242424242" + strings.Repeat("b", 28)
	if body := string((&Record{Policy: digest}).AppendJSON(nil)); !strings.Contains(body, `"policy":"`+digest+`"`) {
		t.Error(body)
	}
	if body := string((&Record{Policy: "card 4242424242424242"}).AppendJSON(nil)); strings.Contains(body, "4242") {
		t.Error(body)
	}
}
