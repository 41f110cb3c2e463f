package gateway_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream/stripe"
	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

// desk is an agent at work: a vault key of a preset, and an upstream whose restricted key has just what the
// preset's link ticks at Stripe.
type desk struct {
	*world
	key   string
	ada   sandbox.SeededCustomer // the customer that the key is for
	other sandbox.SeededCustomer // not the key's, where it has a list
}

const deskSecret = "rk_test_desk"

// open sets a desk up. The key is for the first seeded customer, where the preset asks for customers.
func open(t *testing.T, name string) *desk {
	t.Helper()
	w := buildWorld(t, setup{secret: deskSecret})
	preset, err := policy.FindPreset(name)
	must(t, err)
	edit := policy.Edit{Name: "agent-preset-" + name + "-t"}
	p, _, err := policy.ParseEdited(name, preset.YAML, w.adapter.Catalog().Vocabulary(), edit)
	must(t, err)
	if !p.Customers.Any {
		edit.Customers = &policy.Customers{List: []policy.CustomerID{policy.CustomerID(w.Seeded.Customers[0].ID)}}
		p = edit.Apply(p)
	}
	w.Sandbox.AddRestrictedKey(deskSecret, opened(w.adapter.Catalog(), p))
	secret, _ := w.key(string(policy.Format(p)))
	return &desk{world: w, key: secret, ada: w.Seeded.Customers[0], other: w.Seeded.Customers[1]}
}

// opened is what the restricted key of a policy opens, by the names that its link ticks.
func opened(c *stripe.Catalog, p *policy.Policy) map[string]sandbox.Access {
	ticked := c.RestrictedKey(p, p.Name, false).Permissions
	has := func(names []string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return slices.Contains(ticked, "rak_"+n) })
	}
	out := map[string]sandbox.Access{}
	for _, r := range c.Permissions() {
		switch {
		case has(r.RestrictedWrite):
			out[string(r.Resource)] = sandbox.Write
		case has(r.RestrictedRead):
			out[string(r.Resource)] = sandbox.Read
		}
	}
	return out
}

// does makes a call that must pass.
func (d *desk) does(method, path, form string) reply {
	d.t.Helper()
	r := d.call(d.key, method, path, form)
	if r.Status != http.StatusOK {
		d.t.Fatalf("%s %s %s: %d %s", method, path, form, r.Status, r.Raw)
	}
	return r
}

// may not make a call, for the reason given.
func (d *desk) mayNot(reason policy.Code, method, path, form string) {
	d.t.Helper()
	if r := d.call(d.key, method, path, form); policy.Code(r.reason()) != reason {
		d.t.Errorf("%s %s %s: %d %s, want %s", method, path, form, r.Status, r.Raw, reason)
	}
}

// somebody else does something at Stripe, not through Keybrake.
func (d *desk) somebody(method, path, form string) reply {
	d.t.Helper()
	req := httptest.NewRequest(method, path, strings.NewReader(form))
	req.Header.Set("Authorization", "Bearer "+upstreamSecret)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	rec := httptest.NewRecorder()
	d.Sandbox.ServeHTTP(rec, req)
	r := reply{Status: rec.Code, Header: rec.Header(), Raw: rec.Body.String()}
	must(d.t, json.Unmarshal(rec.Body.Bytes(), &r.Body))
	if r.Status != http.StatusOK {
		d.t.Fatalf("%s %s %s at Stripe: %d %s", method, path, form, r.Status, r.Raw)
	}
	return r
}

func TestTheRefundSupportPresetRefundsTickets(t *testing.T) {
	d := open(t, "refund-support")
	d.does("GET", "/v1/customers/"+d.ada.ID, "")
	d.does("GET", "/v1/charges", "customer="+d.ada.ID+"&limit=3")
	d.does("GET", "/v1/payment_intents/"+d.ada.PaymentIntent, "expand[]=latest_charge")
	d.does("POST", "/v1/refunds", "payment_intent="+d.ada.PaymentIntent+"&amount=5000&reason=requested_by_customer")
	refund := d.does("POST", "/v1/refunds", "charge="+d.ada.Charges[1]).str("id")
	d.does("GET", "/v1/refunds/"+refund, "")
	d.does("POST", "/v1/refunds/"+refund, "metadata[ticket]=T-1")
	d.does("POST", "/v1/refunds", "charge="+d.ada.Charges[2])
	d.mayNot(policy.CodeCapExceeded, "POST", "/v1/refunds", "charge="+d.ada.Charges[3]) // $450 of $500 are gone
	d.mayNot(policy.CodeCustomerDenied, "POST", "/v1/refunds", "charge="+d.other.Charges[0])
	d.mayNot(policy.CodeScopeDenied, "POST", "/v1/charges", "amount=100&currency=usd&customer="+d.ada.ID)
	d.mayNot(policy.CodeScopeDenied, "POST", "/v1/customers/"+d.ada.ID, "name=Eve")
}

func TestTheReconciliationPresetReadsTheLedger(t *testing.T) {
	d := open(t, "reconciliation")
	for _, path := range []string{"charges", "payment_intents", "customers", "invoices", "balance_transactions", "events", "payouts"} {
		d.does("GET", "/v1/"+path, "limit=2")
	}
	d.does("GET", "/v1/payouts/"+d.Seeded.Payout, "expand[]=balance_transaction")
	d.mayNot(policy.CodeScopeDenied, "POST", "/v1/payouts", "amount=100&currency=usd")
	d.mayNot(policy.CodeScopeDenied, "GET", "/v1/refunds", "")
	d.mayNot(policy.CodeScopeDenied, "POST", "/v1/invoices/"+d.ada.Invoice+"/pay", "")
}

func TestTheCatalogUpdatePresetSyncsTheShop(t *testing.T) {
	d := open(t, "catalog-update")
	product := d.does("POST", "/v1/products", "name=Lamp&metadata[sku]=L-1").str("id")
	price := d.does("POST", "/v1/prices", "product="+product+"&currency=usd&unit_amount=4900").str("id")
	d.does("POST", "/v1/prices/"+price, "active=false")
	d.does("POST", "/v1/plans", "product="+product+"&currency=usd&amount=900&interval=month")
	d.does("POST", "/v1/products/"+product, "name=Desk+lamp&active=true")
	d.does("GET", "/v1/products", "limit=3")
	d.mayNot(policy.CodeScopeDenied, "GET", "/v1/customers", "")
	d.mayNot(policy.CodeScopeDenied, "POST", "/v1/payment_intents", "amount=100&currency=usd")
}

func TestTheBillingPresetBillsFromThePriceList(t *testing.T) {
	d := open(t, "billing")
	price := d.somebody("POST", "/v1/prices", "product="+d.Seeded.Product+"&currency=usd&unit_amount=30000").str("id")
	d.does("GET", "/v1/prices/"+price, "expand[]=product")
	d.does("GET", "/v1/customers/"+d.ada.ID, "")
	invoice := d.does("POST", "/v1/invoices", "customer="+d.ada.ID+"&collection_method=send_invoice&days_until_due=30").str("id")
	d.does("POST", "/v1/invoiceitems", "customer="+d.ada.ID+"&invoice="+invoice+"&pricing[price]="+price+"&quantity=2")
	if due := d.does("GET", "/v1/invoices/"+invoice, "").num("amount_due"); due != 60_000 {
		t.Fatalf("the draft asks for %d", due)
	}
	d.does("POST", "/v1/invoices/"+invoice+"/finalize", "")
	d.does("POST", "/v1/invoices/"+invoice+"/send", "")
	d.mayNot(policy.CodeCapExceeded, "POST", "/v1/invoiceitems", "customer="+d.ada.ID+"&pricing[price]="+price+"&quantity=2")
	d.mayNot(policy.CodeParamDenied, "POST", "/v1/invoices/"+invoice+"/pay", "paid_out_of_band=true")
	d.mayNot(policy.CodeCustomerDenied, "POST", "/v1/invoices", "customer="+d.other.ID)
	d.mayNot(policy.CodeScopeDenied, "POST", "/v1/prices", "product="+d.Seeded.Product+"&currency=usd&unit_amount=1")
	d.mayNot(policy.CodeScopeDenied, "POST", "/v1/refunds", "charge="+d.ada.Charges[0])
}

func TestTheInvoiceFinalizerPresetFinalizesWhatPeopleDrafted(t *testing.T) {
	d := open(t, "invoice-finalizer")
	draft := func(amount string) string {
		id := d.somebody("POST", "/v1/invoices", "customer="+d.ada.ID+"&auto_advance=false").str("id")
		d.somebody("POST", "/v1/invoiceitems", "customer="+d.ada.ID+"&invoice="+id+"&currency=usd&amount="+amount)
		return id
	}
	invoice := draft("40000")
	d.does("GET", "/v1/invoices", "customer="+d.ada.ID+"&status=draft")
	d.does("GET", "/v1/invoices/"+invoice, "expand[]=customer")
	d.does("POST", "/v1/invoices/"+invoice+"/finalize", "auto_advance=false")
	if paid := d.does("POST", "/v1/invoices/"+invoice+"/pay", ""); paid.str("status") != "paid" {
		t.Fatalf("%s", paid.Raw)
	}
	d.mayNot(policy.CodeCapExceeded, "POST", "/v1/invoices/"+draft("70000")+"/finalize", "") // $400 of $1,000 are gone, once
	open := draft("1000")
	d.mayNot(policy.CodeParamDenied, "POST", "/v1/invoices", "customer="+d.ada.ID)
	d.mayNot(policy.CodeParamDenied, "POST", "/v1/invoices/"+open+"/add_lines", "lines[0][amount]=100")
	d.mayNot(policy.CodeParamDenied, "POST", "/v1/invoices/"+open+"/pay", "paid_out_of_band=true")
	d.mayNot(policy.CodeScopeDenied, "POST", "/v1/invoiceitems", "customer="+d.ada.ID+"&amount=100&currency=usd")
	d.mayNot(policy.CodeCustomerDenied, "POST", "/v1/invoices/"+d.other.Invoice+"/pay", "")
}

func TestThePaymentCapturerPresetCapturesWhatIsAuthorized(t *testing.T) {
	d := open(t, "payment-capturer")
	authorized := func(amount string) string {
		return d.somebody("POST", "/v1/payment_intents", "amount="+amount+"&currency=usd&customer="+d.ada.ID+"&payment_method="+d.ada.Card+
			"&capture_method=manual&confirm=true").str("id")
	}
	first, second, third := authorized("90000"), authorized("50000"), authorized("120000")
	d.does("GET", "/v1/payment_intents", "customer="+d.ada.ID)
	d.does("GET", "/v1/payment_intents/"+first, "expand[]=latest_charge")
	if got := d.does("POST", "/v1/payment_intents/"+first+"/capture", ""); got.num("amount_received") != 90_000 {
		t.Fatalf("%s", got.Raw)
	}
	d.does("POST", "/v1/payment_intents/"+second+"/cancel", "cancellation_reason=requested_by_customer")
	d.mayNot(policy.CodeCapExceeded, "POST", "/v1/payment_intents/"+third+"/capture", "") // $900 of $2,000 are gone
	d.mayNot(policy.CodeParamDenied, "POST", "/v1/payment_intents", "amount=100&currency=usd&customer="+d.ada.ID)
	d.mayNot(policy.CodeParamDenied, "POST", "/v1/payment_intents/"+third, "amount=130000")
	waiting := d.somebody("POST", "/v1/payment_intents", "amount=100&currency=usd&customer="+d.ada.ID+"&payment_method="+d.ada.Card).str("id")
	d.mayNot(policy.CodeParamDenied, "POST", "/v1/payment_intents/"+waiting+"/confirm", "")
	d.mayNot(policy.CodeParamDenied, "POST", "/v1/payment_intents/"+waiting+"/confirm", "payment_method="+d.ada.Card)
	d.mayNot(policy.CodeScopeDenied, "POST", "/v1/charges", "amount=100&currency=usd&customer="+d.ada.ID)
	d.mayNot(policy.CodeScopeDenied, "POST", "/v1/refunds", "payment_intent="+first)
}

func TestTheCustomerReaderPresetReadsWhoTheyAre(t *testing.T) {
	d := open(t, "customer-reader")
	d.does("GET", "/v1/customers/"+d.ada.ID, "")
	d.does("GET", "/v1/customers/"+d.ada.ID+"/payment_methods", "")
	d.does("GET", "/v1/payment_methods", "customer="+d.ada.ID)
	theirs := d.somebody("POST", "/v1/subscriptions", "customer="+d.other.ID+"&items[0][price]="+d.Seeded.Price).str("id")
	mine := d.somebody("POST", "/v1/subscriptions", "customer="+d.ada.ID+"&items[0][price]="+d.Seeded.Price).str("id")
	d.does("GET", "/v1/subscriptions", "customer="+d.ada.ID)
	d.does("GET", "/v1/subscriptions/"+mine, "expand[]=customer")
	d.does("GET", "/v1/customers/"+d.ada.ID+"/tax_ids", "")
	d.mayNot(policy.CodeCustomerDenied, "GET", "/v1/subscriptions/"+theirs, "")
	d.mayNot(policy.CodeCustomerDenied, "GET", "/v1/customers/"+d.other.ID, "")
	d.mayNot(policy.CodeCustomerDenied, "GET", "/v1/customers", "")
	d.mayNot(policy.CodeScopeDenied, "GET", "/v1/charges", "customer="+d.ada.ID)
	d.mayNot(policy.CodeScopeDenied, "POST", "/v1/customers/"+d.ada.ID, "name=Eve")
}

func TestThePayoutWatcherPresetWatches(t *testing.T) {
	d := open(t, "payout-watcher")
	d.does("GET", "/v1/balance", "")
	d.does("GET", "/v1/payouts", "limit=5")
	d.does("GET", "/v1/payouts/"+d.Seeded.Payout, "")
	d.does("GET", "/v1/balance_transactions", "payout="+d.Seeded.Payout)
	d.mayNot(policy.CodeScopeDenied, "POST", "/v1/payouts", "amount=100&currency=usd")
	d.mayNot(policy.CodeScopeDenied, "POST", "/v1/payouts/"+d.Seeded.Payout+"/cancel", "")
	d.mayNot(policy.CodeScopeDenied, "GET", "/v1/charges", "")
}

func TestTheDisputeResponderPresetAnswersAndConcedesNothing(t *testing.T) {
	d := open(t, "dispute-responder")
	must(t, d.Sandbox.Happen("charges", d.ada.Charges[3], "disputed"))
	must(t, d.Sandbox.Happen("charges", d.ada.Charges[4], "disputed"))
	must(t, d.Sandbox.Happen("charges", d.other.Charges[3], "disputed"))
	dispute := func(charge string) string { return d.somebody("GET", "/v1/charges/"+charge+"/dispute", "").str("id") }
	mine, second, foreign := dispute(d.ada.Charges[3]), dispute(d.ada.Charges[4]), dispute(d.other.Charges[3])

	d.does("GET", "/v1/disputes", "charge="+d.ada.Charges[3])
	d.does("GET", "/v1/disputes/"+mine, "expand[]=charge")
	d.does("GET", "/v1/customers/"+d.ada.ID, "")
	d.does("GET", "/v1/refunds", "charge="+d.ada.Charges[3])
	evidence := "evidence[customer_name]=Ada+Adams&evidence[product_description]=Order+4&evidence[shipping_tracking_number]=T-4"
	d.mayNot(policy.CodeParamDenied, "POST", "/v1/disputes/"+mine, evidence) // would be sent to the bank at once
	d.does("POST", "/v1/disputes/"+mine, evidence+"&submit=false")
	d.does("POST", "/v1/disputes/"+mine, "submit=true")
	d.mayNot(policy.CodeCapExceeded, "POST", "/v1/disputes/"+second+"/close", "")
	d.mayNot(policy.CodeCapExceeded, "POST", "/v1/charges/"+d.ada.Charges[4]+"/dispute/close", "")
	d.mayNot(policy.CodeCustomerDenied, "POST", "/v1/disputes/"+foreign, "submit=false")
	d.mayNot(policy.CodeScopeDenied, "POST", "/v1/refunds", "charge="+d.ada.Charges[0])
	d.mayNot(policy.CodeScopeDenied, "POST", "/v1/customers/"+d.ada.ID, "name=Eve")
}

func TestTheSubscriptionManagerPresetStartsChangesAndCancels(t *testing.T) {
	d := open(t, "subscription-manager")
	dear := d.somebody("POST", "/v1/prices", "product="+d.Seeded.Product+"&currency=usd&unit_amount=20000&recurring[interval]=month").str("id")
	d.does("GET", "/v1/prices", "product="+d.Seeded.Product)
	d.does("GET", "/v1/customers/"+d.ada.ID, "")
	d.does("POST", "/v1/invoices/create_preview", "customer="+d.ada.ID+"&subscription_details[items][0][price]="+dear)
	// The first bill and one renewal: $400 of $1,000.
	sub := d.does("POST", "/v1/subscriptions", "customer="+d.ada.ID+"&items[0][price]="+dear)
	if d.does("GET", "/v1/subscriptions/"+sub.str("id"), "").str("status") != "active" {
		t.Fatalf("%s", sub.Raw)
	}
	d.does("GET", "/v1/invoices", "customer="+d.ada.ID+"&limit=1")
	d.does("POST", "/v1/subscriptions/"+sub.str("id"), "metadata[ticket]=T-2&cancel_at_period_end=true")
	d.mayNot(policy.CodeCapExceeded, "POST", "/v1/subscriptions", "customer="+d.ada.ID+"&items[0][price]="+dear+"&items[0][quantity]=2")
	d.does("DELETE", "/v1/subscriptions/"+sub.str("id"), "")
	d.mayNot(policy.CodeCustomerDenied, "POST", "/v1/subscriptions", "customer="+d.other.ID+"&items[0][price]="+dear)
	d.mayNot(policy.CodeScopeDenied, "POST", "/v1/prices", "product="+d.Seeded.Product+"&currency=usd&unit_amount=1")
	d.mayNot(policy.CodeScopeDenied, "POST", "/v1/invoices/"+d.ada.Invoice+"/pay", "")
	d.mayNot(policy.CodeScopeDenied, "POST", "/v1/refunds", "charge="+d.ada.Charges[0])
	d.mayNot(policy.CodeScopeDenied, "POST", "/v1/subscriptions", "customer="+d.ada.ID+"&items[0][price]="+dear+
		"&transfer_data[destination]=acct_1") // a share of it goes elsewhere
}

func TestTheCheckoutLinksPresetMakesPagesToBePaidOnce(t *testing.T) {
	d := open(t, "checkout-links")
	price := d.somebody("POST", "/v1/prices", "product="+d.Seeded.Product+"&currency=usd&unit_amount=20000").str("id")
	d.does("GET", "/v1/prices/"+price, "expand[]=product")
	page := func(quantity string) string {
		return "mode=payment&success_url=https%3A%2F%2Fshop.example%2Fthanks&line_items[0][price]=" + price + "&line_items[0][quantity]=" + quantity
	}
	made := d.does("POST", "/v1/checkout/sessions", page("2"))
	if made.str("url") == "" || made.num("amount_total") != 40_000 {
		t.Fatalf("%s", made.Raw)
	}
	d.does("GET", "/v1/checkout/sessions/"+made.str("id"), "")
	d.does("GET", "/v1/checkout/sessions/"+made.str("id")+"/line_items", "")
	d.does("POST", "/v1/checkout/sessions/"+made.str("id")+"/expire", "")
	d.mayNot(policy.CodeCapExceeded, "POST", "/v1/checkout/sessions", page("3")) // $600 on one page
	d.mayNot(policy.CodeScopeDenied, "POST", "/v1/checkout/sessions", "mode=subscription&line_items[0][price]="+d.Seeded.Price+"&line_items[0][quantity]=1")
	d.mayNot(policy.CodeParamDenied, "POST", "/v1/checkout/sessions", "mode=setup&currency=usd")
	d.mayNot(policy.CodeScopeDenied, "POST", "/v1/payment_links", "line_items[0][price]="+price+"&line_items[0][quantity]=1")
	d.mayNot(policy.CodeScopeDenied, "POST", "/v1/prices", "product="+d.Seeded.Product+"&currency=usd&unit_amount=1")
	d.mayNot(policy.CodeScopeDenied, "GET", "/v1/customers", "")
}
