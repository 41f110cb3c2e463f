package sandbox_test

import "testing"

// TestServedObjectsAreStripes asks for objects of every kind; rig.do holds each
// answer against Stripe's document.
func TestServedObjectsAreStripes(t *testing.T) {
	r := newRig(t)
	ada := r.seed.Customers[0]
	r.ok("POST", "/v1/refunds", "charge="+ada.Charges[1]+"&amount=100")
	r.ok("POST", "/v1/customers/"+ada.ID+"/balance_transactions", "amount=-100&currency=usd")
	r.ok("POST", "/v1/invoiceitems", "customer="+ada.ID+"&price_data[currency]=usd&price_data[unit_amount_decimal]=0.5&price_data[product]="+r.seed.Product)
	r.do("POST", "/v1/payment_intents", "amount=700&currency=usd&payment_method=pm_card_chargeDeclined&confirm=true")
	r.ok("POST", "/v1/payment_intents", "amount=700&currency=usd&payment_method=pm_card_threeDSecure2Required&confirm=true")
	r.ok("DELETE", "/v1/customers/"+r.seed.Customers[2].ID, "")
	for _, path := range []string{"/v1/account", "/v1/balance", "/v1/balance_transactions?limit=100&expand[]=data.source",
		"/v1/charges?limit=100&expand[]=data.refunds&expand[]=data.customer", "/v1/customers?limit=100&expand[]=data.default_source",
		"/v1/customers/" + r.seed.Customers[2].ID, "/v1/customers/" + ada.ID + "/balance_transactions", "/v1/events?limit=100",
		"/v1/invoices?limit=100", "/v1/invoiceitems", "/v1/payment_intents?limit=100&expand[]=data.latest_charge.customer",
		"/v1/payment_methods?limit=100", "/v1/payouts", "/v1/plans", "/v1/prices", "/v1/products", "/v1/refunds", "/v1/disputes",
		"/v1/payment_intents/search?query=currency:'usd'"} {
		r.ok("GET", path, "")
	}
}
