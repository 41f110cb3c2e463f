package gateway_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
)

// wholePolicy may move money everywhere, under one cap for everything and one for each bucket that a test names.
func wholePolicy(caps ...string) string {
	return `
name: agent-everything-money-test
scopes: {"*": write}
customers: any
caps:
  - {resource: "*", per: day, usd: 100000.00}
` + capLines(caps)
}

// shop makes a connected account that takes cards and transfers, and returns its id.
func (w *world) shop(t *testing.T) string {
	var o struct{ ID string }
	must(t, json.Unmarshal(w.atStripe(t, "POST", "/v1/accounts", "type=custom&country=US&email=shop@example.com"+
		"&capabilities[card_payments][requested]=true&capabilities[transfers][requested]=true"), &o))
	return o.ID
}

func TestEveryMovementOfACallIsHeldInItsOwnBucket(t *testing.T) {
	w := newWorld(t)
	shop, card := w.shop(t), w.Seeded.Customers[0].Card
	paid := func(t *testing.T, key, more string) string {
		return w.call(key, "POST", "/v1/payment_intents", "amount=10000&currency=usd&confirm=true&customer="+w.Seeded.Customers[0].ID+
			"&payment_method="+card+"&transfer_data[destination]="+shop+more).want(t, 200, "").str("latest_charge")
	}
	t.Run("a payment that sends a part on counts twice, once in each", func(t *testing.T) {
		key, k := w.key(wholePolicy(`resource: payment_intents, per: day, usd: 500.00`, `resource: transfers, per: day, usd: 500.00`))
		paid(t, key, "&transfer_data[amount]=7000")
		w.wantUSD(k.ID, "payment_intents", 0, 10000)
		w.wantUSD(k.ID, "transfers", 0, 7000)
		w.wantUSD(k.ID, "*", 0, 17000)
	})
	t.Run("the bucket that is full stops the call, and nothing is held in the other", func(t *testing.T) {
		key, k := w.key(wholePolicy(`resource: payment_intents, per: day, usd: 500.00`, `resource: transfers, per: day, usd: 60.00`))
		w.call(key, "POST", "/v1/payment_intents", "amount=10000&currency=usd&transfer_data[destination]="+shop+"&transfer_data[amount]=7000").
			want(t, 403, "keybrake_cap_exceeded")
		w.wantUSD(k.ID, "payment_intents", 0, 0)
		w.wantUSD(k.ID, "*", 0, 0)
	})
	t.Run("a refund gives a fee back and pulls a transfer in: three buckets", func(t *testing.T) {
		key, k := w.key(wholePolicy(`resource: refunds, per: day, usd: 500.00`, `resource: transfers.reversals, per: day, usd: 500.00`,
			`resource: application_fees.refunds, per: day, usd: 500.00`))
		charge := paid(t, key, "&application_fee_amount=2000")
		w.call(key, "POST", "/v1/refunds", "charge="+charge+"&amount=4000&reverse_transfer=true&refund_application_fee=true").want(t, 200, "")
		w.wantUSD(k.ID, "refunds", 0, 4000)
		w.wantUSD(k.ID, "transfers.reversals", 0, 4000)
		w.wantUSD(k.ID, "application_fees.refunds", 0, 2000) // all that was left of the fee: never less than its share
	})
	t.Run("a scope that lacks the second bucket is out of scope", func(t *testing.T) {
		key, _ := w.key("\nscopes: {payment_intents: write}\ncustomers: any\ncaps: [{resource: payment_intents, per: day, usd: 500.00}]")
		for _, more := range []string{"&transfer_data[destination]=" + shop, "&application_fee_amount=1", "&on_behalf_of=" + shop} {
			r := w.call(key, "POST", "/v1/payment_intents", "amount=100&currency=usd"+more).want(t, 401, "keybrake_scope_denied")
			if !strings.Contains(r.Raw, "transfers") {
				t.Errorf("%s: it does not say which scope: %s", more, r.Raw)
			}
		}
	})
}

func TestMovementsBetweenAccountsAreCounted(t *testing.T) {
	w := newWorld(t)
	shop := w.shop(t)
	key, k := w.key(wholePolicy(`resource: transfers, per: day, usd: 500.00`, `resource: transfers.reversals, per: day, usd: 500.00`,
		`resource: topups, per: day, usd: 500.00`))
	whole := w.call(key, "POST", "/v1/transfers", "currency=usd&destination="+shop+"&source_transaction="+w.Seeded.Customers[0].Charges[2]).want(t, 200, "")
	w.wantUSD(k.ID, "transfers", 0, 20000) // a transfer of a charge without an amount is all of it
	w.call(key, "POST", "/v1/transfers/"+whole.str("id")+"/reversals", "amount=5000").want(t, 200, "")
	w.call(key, "POST", "/v1/transfers/"+whole.str("id")+"/reversals", "").want(t, 200, "")
	w.wantUSD(k.ID, "transfers.reversals", 0, 20000)
	top := w.call(key, "POST", "/v1/topups", "amount=3000&currency=usd").want(t, 200, "")
	w.wantUSD(k.ID, "topups", 0, 3000)
	w.call(key, "POST", "/v1/topups/"+top.str("id")+"/cancel", "").want(t, 200, "")
	w.wantUSD(k.ID, "topups", 0, 0) // Stripe's last word gives it back
	w.call(key, "POST", "/v1/transfers", "amount=40000&currency=usd&destination="+shop).want(t, 403, "keybrake_cap_exceeded")
}

func TestASubscriptionIsHeldByItsPreviewAndOneRenewal(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(wholePolicy(`resource: subscriptions, per: day, usd: 100.00`))
	form := "customer=" + w.Seeded.Customers[0].ID + "&items[0][price]=" + w.Seeded.Price
	sub := w.call(key, "POST", "/v1/subscriptions", form).want(t, 200, "")
	w.wantUSD(k.ID, "subscriptions", 0, 4000) // the first invoice of $20 and the next one
	item := sub.Body["items"].(map[string]any)["data"].([]any)[0].(map[string]any)["id"].(string)

	// Three instead of one: what the preview asks for, and a renewal of $60 in place of the one of $20.
	before := w.arrivals("POST")
	w.call(key, "POST", "/v1/subscriptions/"+sub.str("id"), "items[0][id]="+item+"&items[0][quantity]=300").want(t, 403, "keybrake_cap_exceeded")
	if w.arrivals("POST") != before+1 { // the preview alone
		t.Errorf("%d posts arrived", w.arrivals("POST")-before)
	}
	w.call(key, "POST", "/v1/subscriptions/"+sub.str("id"), "metadata[a]=b").want(t, 200, "")
	w.wantUSD(k.ID, "subscriptions", 0, 4000)
	w.call(key, "POST", "/v1/subscriptions", form).want(t, 200, "")
	w.wantUSD(k.ID, "subscriptions", 0, 8000)
	w.call(key, "POST", "/v1/subscriptions", form).want(t, 403, "keybrake_cap_exceeded")
}

// A first invoice that comes out dearer than Stripe's own preview is looked after: it is written as it is, and the
// key stops.
func TestAnInvoiceThatPassesItsPreviewFreezesTheKey(t *testing.T) {
	sb := &late{}
	w := buildWorld(t, setup{upstream: sb})
	sb.set(dearer(w.Sandbox, 9900))
	key, k := w.key(wholePolicy(`resource: subscriptions, per: day, usd: 500.00`))
	form := "customer=" + w.Seeded.Customers[0].ID + "&items[0][price]=" + w.Seeded.Price
	w.call(key, "POST", "/v1/subscriptions", form).want(t, 200, "")
	w.wantUSD(k.ID, "subscriptions", 0, 9900+2000)
	w.call(key, "POST", "/v1/subscriptions", form).want(t, 401, "keybrake_key_frozen")
}

func TestWhatPayersFinishOutsideIsHeldAtItsMost(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(wholePolicy(`resource: checkout.sessions, per: day, usd: 100.00`, `resource: payment_links, per: day, usd: 100.00`))
	line := "line_items[0][price_data][currency]=usd&line_items[0][price_data][unit_amount]=900&line_items[0][price_data][product_data][name]=x&line_items[0][quantity]=1"
	cs := w.call(key, "POST", "/v1/checkout/sessions", "mode=payment&success_url=https://a.example&"+line+
		"&line_items[0][adjustable_quantity][enabled]=true&line_items[0][adjustable_quantity][maximum]=5").want(t, 200, "")
	w.wantUSD(k.ID, "checkout.sessions", 0, 4500) // five, though one is in it now
	w.call(key, "POST", "/v1/checkout/sessions", "mode=payment&success_url=https://a.example&"+line+
		"&line_items[0][adjustable_quantity][enabled]=true").want(t, 403, "keybrake_cap_exceeded") // 99 of them
	w.call(key, "POST", "/v1/checkout/sessions/"+cs.str("id")+"/expire", "").want(t, 200, "")
	w.wantUSD(k.ID, "checkout.sessions", 0, 0)

	price := "line_items[0][price]=" + w.onePrice(t, 1000) + "&line_items[0][quantity]=1"
	w.call(key, "POST", "/v1/payment_links", price).want(t, 403, "keybrake_unmeterable")
	w.call(key, "POST", "/v1/payment_links", price+"&restrictions[completed_sessions][limit]=11").want(t, 403, "keybrake_cap_exceeded")
	w.call(key, "POST", "/v1/payment_links", price+"&restrictions[completed_sessions][limit]=10").want(t, 200, "")
	w.wantUSD(k.ID, "payment_links", 0, 10000)
}

// onePrice makes a price that is paid once.
func (w *world) onePrice(t *testing.T, cents int) string {
	var o struct{ ID string }
	must(t, json.Unmarshal(w.atStripe(t, "POST", "/v1/prices", "currency=usd&unit_amount="+strconv.Itoa(cents)+"&product="+w.Seeded.Product), &o))
	return o.ID
}

func TestQuotesAndCreditNotesAreHeldInBothBuckets(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(wholePolicy(`resource: quotes, per: day, usd: 100.00`, `resource: subscriptions, per: day, usd: 100.00`,
		`resource: credit_notes, per: day, usd: 100.00`, `resource: refunds, per: day, usd: 100.00`))
	qt := w.call(key, "POST", "/v1/quotes", "customer="+w.Seeded.Customers[0].ID+"&line_items[0][price]="+w.Seeded.Price).want(t, 200, "")
	w.call(key, "POST", "/v1/quotes/"+qt.str("id")+"/finalize", "").want(t, 200, "")
	w.wantUSD(k.ID, "quotes", 0, 0)
	w.call(key, "POST", "/v1/quotes/"+qt.str("id")+"/accept", "").want(t, 200, "")
	w.wantUSD(k.ID, "quotes", 0, 2000)
	w.wantUSD(k.ID, "subscriptions", 0, 2000)

	invoice := w.Seeded.Customers[0].Invoice
	w.call(key, "POST", "/v1/invoices/"+invoice+"/pay", "").want(t, 200, "")
	w.call(key, "POST", "/v1/credit_notes", "invoice="+invoice+"&amount=3000&refund_amount=2500&credit_amount=500").want(t, 200, "")
	w.wantUSD(k.ID, "credit_notes", 0, 3000)
	w.wantUSD(k.ID, "refunds", 0, 2500)
}

func TestPaymentsOfTheSecondAPIAreHeldLikeTheFirsts(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(wholePolicy(`resource: v2.money_management.outbound_payments, per: day, usd: 80.00`))
	var to struct{ ID string }
	must(t, json.Unmarshal(w.atStripeV2(t, "/v2/core/accounts", `{"contact_email":"paid@example.com","display_name":"A recipient",`+
		`"identity":{"country":"us","entity_type":"company"},"configuration":{"recipient":{"capabilities":{"bank_accounts":{"ach":{"requested":true}}}}}}`), &to))
	w.atStripeV2(t, "/v2/money_management/outbound_setup_intents", `{"payout_method_data":{"type":"bank_account","bank_account":{"account_number":`+
		`"000123456789","routing_number":"110000000","country":"us","currency":"usd"}},"usage_intent":"payment"}`, "Stripe-Context", to.ID)
	pay := `{"amount":{"value":5000,"currency":"usd"},"from":{"financial_account":"` + w.Seeded.FinancialAccount +
		`","currency":"usd"},"to":{"recipient":"` + to.ID + `"}}`
	w.call(key, "POST", "/v2/money_management/outbound_payments", pay, "Content-Type", "application/json").want(t, 200, "")
	w.wantUSD(k.ID, "v2.money_management.outbound_payments", 0, 5000)
	w.call(key, "POST", "/v2/money_management/outbound_payments", pay, "Content-Type", "application/json").want(t, 403, "keybrake_cap_exceeded")
	w.call(key, "POST", "/v2/money_management/outbound_payments", strings.Replace(pay, "{", `{"bonus":1,`, 1), "Content-Type", "application/json").
		want(t, 400, "keybrake_request_malformed")
}

// atStripeV2 calls the sandbox's second API itself.
func (w *world) atStripeV2(t *testing.T, path, body string, headers ...string) []byte {
	t.Helper()
	req := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+upstreamSecret)
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	w.Sandbox.ServeHTTP(rec, req)
	if rec.Code != http.StatusOK {
		t.Fatalf("%s: %d %s", path, rec.Code, rec.Body)
	}
	return rec.Body.Bytes()
}

// dearer is a Stripe whose invoices come to more than it said before.
func dearer(sb http.Handler, amount int) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		sb.ServeHTTP(rec, r)
		body := rec.Body.String()
		if r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/v1/invoices/in_") {
			body = strings.Replace(body, `"amount_due":2000`, `"amount_due":`+strconv.Itoa(amount), 1)
			body = strings.Replace(body, `"amount_due": 2000`, `"amount_due": `+strconv.Itoa(amount), 1)
		}
		for name, values := range rec.Header() {
			rw.Header()[name] = values
		}
		rw.Header().Set("Content-Length", strconv.Itoa(len(body)))
		rw.WriteHeader(rec.Code)
		_, _ = io.WriteString(rw, body)
	}
}

func TestADisputeThatIsGivenUpCountsOnce(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(wholePolicy(`resource: disputes, per: day, usd: 500.00`))
	var pi struct{ ID string }
	must(t, json.Unmarshal(w.atStripe(t, "POST", "/v1/payment_intents", "amount=2500&currency=usd&payment_method=pm_card_createDispute&confirm=true"), &pi))
	var list struct{ Data []struct{ ID string } }
	must(t, json.Unmarshal(w.atStripe(t, "GET", "/v1/disputes?payment_intent="+pi.ID, ""), &list))
	if len(list.Data) != 1 {
		t.Fatalf("%d disputes", len(list.Data))
	}
	w.call(key, "POST", "/v1/disputes/"+list.Data[0].ID+"/close", "").want(t, 200, "")
	w.wantUSD(k.ID, "disputes", 0, 2500)
}
