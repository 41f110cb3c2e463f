package stripe

import (
	"slices"
	"strings"
	"testing"
)

// Free text with a slash is legal in the ids of coupons, plans and products alone. Elsewhere an encoded slash
// would be another route to whoever decodes before routing: a refund judged as an update of its charge.
func TestAnEncodedSlashCannotHideARoute(t *testing.T) {
	a := newAdapter(t)
	for _, path := range []string{
		"/v1/charges/ch_1%2Frefund", "/v1/charges/ch_1%2frefunds", "/v1/payment_intents/pi_1%2Fcapture", "/v1/invoices/in_1%2Fpay",
		"/v1/customers/cus_1%2Fbalance_transactions", "/v1/subscription_items/si_1%2Fusage_records", "/v1/products/prod_1%2Ffeatures",
		`/v1/charges/ch_1%5Crefund`,
	} {
		if call, refusal := a.Parse(post(path, ""), ""); refusal == nil {
			t.Errorf("%s was taken for %s and sent as %s", path, call.Operation.Name, call.Path)
		}
	}
	for _, path := range []string{"/v1/coupons/summer%2F26", "/v1/plans/gold%2Fyear", "/v1/products/a%2Fb"} {
		if _, refusal := a.Parse(post(path, ""), ""); refusal != nil {
			t.Errorf("%s: %s", path, refusal.Message)
		}
	}
}

// An id in a parameter goes into the path of a look-up: what would lead that path elsewhere is no id.
func TestALookUpsPathTakesPlainIDsOnly(t *testing.T) {
	a := newAdapter(t)
	for _, id := range []string{"ch_1/refunds", "../customers/cus_X", "ch_1?expand[]=customer", `ch_1\x`, "ch_1#x", "ch_1%2Frefunds"} {
		call := parsedCall(t, a, "POST", "/v1/refunds", "amount=1&charge="+string(appendEscaped(nil, id)))
		s := &shelf{objects: objects()}
		_, err := a.Resolve(t.Context(), call, anyCustomer, s.look)
		if err != nil || len(s.asked) > 0 {
			t.Errorf("%q was looked up: %v, error %v", id, s.asked, err)
		}
		if e := call.Operation.Effects[0]; e.Known {
			t.Errorf("%q: %+v is known", id, e)
		}
	}
}

// Objects that open each other (a balance entry its source, the source its balance entry) must not multiply
// the work: what is looked through at each step is bounded by how many kinds of object there are.
func TestExpansionsThatComeBackToThemselvesCostNoMore(t *testing.T) {
	a := newAdapter(t)
	row := a.catalog.byCall["GET /v1/application_fees/{fee}/refunds/{id}"]
	path := strings.TrimPrefix(strings.Repeat(".balance_transaction.source", 4), ".")
	if _, refusal := a.catalog.expands.follow(row, path, nil); refusal != nil {
		t.Fatal(refusal.Message)
	}
	at := a.catalog.expands.roots[row]
	for field := range strings.SplitSeq(path, ".") {
		at, _, _ = a.catalog.expands.step(at, field)
		if sorted := slices.Sorted(slices.Values(at)); len(slices.Compact(sorted)) != len(at) || len(at) > len(a.catalog.expands.nodes) {
			t.Fatalf("behind %s the same %d objects stand several times", field, len(at))
		}
	}
}
