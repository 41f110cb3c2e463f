package sandbox_test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestServedFieldsAreStripes holds every object served, nested ones included,
// against the field names in Stripe's OpenAPI document (testdata/fields.json); a "!" marks
// those that Stripe requires.
func TestServedFieldsAreStripes(t *testing.T) {
	raw, err := os.ReadFile("testdata/fields.json")
	if err != nil {
		t.Fatal(err)
	}
	var known map[string][]string
	if err := json.Unmarshal(raw, &known); err != nil {
		t.Fatal(err)
	}
	r := newRig(t)
	ada := r.seed.Customers[0]
	r.ok("POST", "/v1/refunds", "charge="+ada.Charges[1]+"&amount=100")
	r.ok("POST", "/v1/customers/"+ada.ID+"/balance_transactions", "amount=-100&currency=usd")
	r.ok("POST", "/v1/invoiceitems", "customer="+ada.ID+"&pricing[price]="+r.seed.Price)
	r.do("POST", "/v1/payment_intents", "amount=700&currency=usd&payment_method=pm_card_chargeDeclined&confirm=true")
	r.ok("POST", "/v1/payment_intents", "amount=700&currency=usd&payment_method=pm_card_threeDSecure2Required&confirm=true")
	r.ok("DELETE", "/v1/customers/"+r.seed.Customers[2].ID, "")

	seen := map[string]int{}
	for _, path := range []string{"/v1/account", "/v1/balance", "/v1/balance_transactions?limit=100&expand[]=data.source",
		"/v1/charges?limit=100&expand[]=data.refunds&expand[]=data.customer", "/v1/customers?limit=100&expand[]=data.default_source",
		"/v1/customers/" + r.seed.Customers[2].ID, "/v1/customers/" + ada.ID + "/balance_transactions", "/v1/events?limit=100",
		"/v1/invoices?limit=100", "/v1/invoiceitems", "/v1/payment_intents?limit=100&expand[]=data.latest_charge.customer",
		"/v1/payment_methods?limit=100", "/v1/payouts", "/v1/plans", "/v1/prices", "/v1/products", "/v1/refunds", "/v1/disputes",
		"/v1/payment_intents/search?query=currency:'usd'"} {
		checkShape(t, path, r.ok("GET", path, "").body, known, seen)
	}
	for _, name := range []string{"account", "balance", "balance_transaction", "charge", "customer", "customer_balance_transaction", "event",
		"invoice", "invoiceitem", "line_item", "payment_intent", "payment_method", "payout", "plan", "price", "product", "refund",
		"list", "search_result"} {
		if seen[name] == 0 {
			t.Errorf("no %s was served, so nothing was checked", name)
		}
	}
}

func checkShape(t *testing.T, where string, v any, known map[string][]string, seen map[string]int) {
	switch x := v.(type) {
	case map[string]any:
		name, _ := x["object"].(string)
		fields, ok := known[name]
		if name != "" && !ok {
			t.Errorf("%s: object %q is not known", where, name)
		}
		seen[name]++
		for _, k := range fields {
			k, required := strings.CutSuffix(k, "!")
			if _, has := x[k]; required && !has && x["deleted"] != true {
				t.Errorf("%s: %s lacks %q, which Stripe always answers", where, name, k)
			}
		}
		for k, sub := range x {
			if name != "" && ok && !slices.Contains(fields, k) && !slices.Contains(fields, k+"!") {
				t.Errorf("%s: %s has no field %q at Stripe", where, name, k)
			}
			checkShape(t, where+"/"+k, sub, known, seen)
		}
	case []any:
		for _, sub := range x {
			checkShape(t, where, sub, known, seen)
		}
	}
}
