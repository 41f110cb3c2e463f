package gateway_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

// graph is everything that one customer has at Stripe, made with words that nobody else's objects hold.
type graph struct {
	name string            // "Anna": in every text of the graph
	ids  map[string]string // by the names of graphSteps
	// byObject are ids by what they are ("charge"), marks everything that must not be seen by others.
	byObject map[string][]string
	marks    []string
}

// graphSteps make a graph, in order: name, route and form, in which {name} is an id of an earlier step and {who}
// the customer's word.
var graphSteps = []struct{ name, method, path, form string }{
	{"cus", "POST", "/v1/customers", "name={who}&email={who}@leak.example&description=about {who}&metadata[k]={who}&source=tok_visa"},
	{"pm", "POST", "/v1/payment_methods", "type=card&card[token]=tok_visa&billing_details[name]={who}"},
	{"", "POST", "/v1/payment_methods/{pm}/attach", "customer={cus}"},
	{"pi", "POST", "/v1/payment_intents", "amount=5000&currency=usd&customer={cus}&payment_method={pm}&confirm=true&description={who}&metadata[k]={who}"},
	{"open", "POST", "/v1/payment_intents", "amount=4000&currency=usd&customer={cus}&payment_method={pm}&description={who}"},
	{"ch", "POST", "/v1/charges", "amount=3000&currency=usd&customer={cus}&description={who}&metadata[k]={who}"},
	{"re", "POST", "/v1/refunds", "charge={ch}&amount=500&metadata[k]={who}"},
	{"ii", "POST", "/v1/invoiceitems", "customer={cus}&amount=700&currency=usd&description={who}"},
	{"in", "POST", "/v1/invoices", "customer={cus}&collection_method=send_invoice&days_until_due=30&description={who}&pending_invoice_items_behavior=include"},
	{"", "POST", "/v1/invoices/{in}/finalize", ""},
	{"draft", "POST", "/v1/invoices", "customer={cus}&description={who}"},
	{"seti", "POST", "/v1/setup_intents", "customer={cus}&payment_method={pm}&description={who}"},
	{"sub", "POST", "/v1/subscriptions", "customer={cus}&items[0][price]={price}&description={who}&default_payment_method={pm}"},
	{"sched", "POST", "/v1/subscription_schedules", "from_subscription={sub}"},
	{"cbtxn", "POST", "/v1/customers/{cus}/balance_transactions", "amount=-300&currency=usd&description={who}"},
	{"txi", "POST", "/v1/customers/{cus}/tax_ids", "type=eu_vat&value=DE123456789"},
	{"cn", "POST", "/v1/credit_notes", "invoice={in}&amount=100&memo={who}"},
	{"qt", "POST", "/v1/quotes", "customer={cus}&description={who}&line_items[0][price]={price}"},
	{"cs", "POST", "/v1/checkout/sessions", "mode=payment&customer={cus}&line_items[0][price_data][currency]=usd&line_items[0][price_data][unit_amount]=900&line_items[0][price_data][product_data][name]=a thing&line_items[0][quantity]=1&success_url=https://a.example"},
	{"dispcard", "POST", "/v1/payment_methods/pm_card_createDispute/attach", "customer={cus}"},
	{"dpi", "POST", "/v1/payment_intents", "amount=2500&currency=usd&customer={cus}&payment_method={dispcard}&confirm=true&description={who}"},
	{"", "GET", "/v1/disputes", "payment_intent={dpi}"},
	{"card", "POST", "/v1/customers/{cus}/sources", "source=tok_mastercard&metadata[k]={who}"},
	{"ba", "POST", "/v1/customers/{cus}/sources", "source=btok_us&metadata[k]={who}"},
	{"ccsbtxn", "POST", "/v1/test_helpers/customers/{cus}/fund_cash_balance", "amount=800&currency=usd&reference={who}"},
	{"taxcalc", "POST", "/v1/tax/calculations", "currency=usd&customer={cus}&line_items[0][amount]=1000&line_items[0][reference]={who}"},
	{"tax", "POST", "/v1/tax/transactions/create_from_calculation", "calculation={taxcalc}&reference={who}&metadata[k]={who}"},
	{"fa", "POST", "/v1/treasury/financial_accounts", "supported_currencies[]=usd"},
	{"", "POST", "/v1/test_helpers/treasury/received_credits", "amount=9000&currency=usd&network=ach&financial_account={fa}"},
	{"obp", "POST", "/v1/treasury/outbound_payments", "amount=600&currency=usd&financial_account={fa}&customer={cus}&description={who}" +
		"&destination_payment_method_data[type]=us_bank_account&destination_payment_method_data[us_bank_account][account_number]=000123456789" +
		"&destination_payment_method_data[us_bank_account][routing_number]=110000000"},
}

// makeGraph makes a customer's graph at the sandbox, past the gateway.
func (w *world) makeGraph(t *testing.T, who string) *graph {
	t.Helper()
	g := &graph{name: who, ids: map[string]string{"price": w.Seeded.Price}, byObject: map[string][]string{}, marks: []string{who}}
	served := sandbox.Operations()
	for _, s := range graphSteps {
		path := strings.Replace(s.path, "pm_card_createDispute", "{pm}", 1)
		route := s.method + " " + regexp.MustCompile(`\{\w+\}`).ReplaceAllString(path, "{}")
		if !slices.ContainsFunc(served, func(op string) bool { return regexp.MustCompile(`\{\w+\}`).ReplaceAllString(op, "{}") == route }) {
			t.Fatalf("the sandbox does not serve %s", route)
		}
		body := w.atStripe(t, s.method, g.fill(s.path), g.fill(s.form))
		var o map[string]any
		must(t, json.Unmarshal(body, &o))
		if o["error"] != nil {
			t.Fatalf("%s %s: %s", s.method, s.path, body)
		}
		if id, ok := o["id"].(string); ok && s.name != "" {
			g.ids[s.name] = id
		}
		g.collect(w, o)
	}
	return g
}

func (g *graph) fill(s string) string {
	for name, id := range g.ids {
		s = strings.ReplaceAll(s, "{"+name+"}", id)
	}
	return strings.ReplaceAll(s, "{who}", g.name)
}

// collect notes every object of an answer that is the customer's: all but what all customers share.
func (g *graph) collect(w *world, v any) {
	switch v := v.(type) {
	case map[string]any:
		id, _ := v["id"].(string)
		kind, _ := v["object"].(string)
		shared := slices.Contains([]string{"price", "product", "plan", "coupon", "tax_rate",
			"treasury.financial_account", "treasury.received_credit"}, kind) && !strings.Contains(mustJSON(v), g.name)
		if id != "" && kind != "" && !shared && !slices.Contains(g.marks, id) {
			g.marks = append(g.marks, id)
			g.byObject[kind] = append(g.byObject[kind], id)
		}
		for _, below := range v {
			g.collect(w, below)
		}
	case []any:
		for _, below := range v {
			g.collect(w, below)
		}
	}
}

func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // it was JSON before
	}
	return string(b)
}

// atStripe calls the sandbox itself, with a secret that may do everything.
func (w *world) atStripe(t *testing.T, method, path, form string) []byte {
	t.Helper()
	body := form
	if method == http.MethodGet && form != "" {
		path, body = path+"?"+form, ""
	}
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	req.Header.Set("Authorization", "Bearer "+upstreamSecret)
	rec := httptest.NewRecorder()
	w.Sandbox.ServeHTTP(rec, req)
	return rec.Body.Bytes()
}

// state is how every object of the graph stands at Stripe.
func (g *graph) state(t *testing.T, w *world) map[string]string {
	out := map[string]string{}
	for kind, collection := range map[string]string{
		"customer": "customers", "payment_intent": "payment_intents", "charge": "charges", "refund": "refunds", "invoice": "invoices",
		"invoiceitem": "invoiceitems", "payment_method": "payment_methods", "setup_intent": "setup_intents", "subscription": "subscriptions",
		"subscription_schedule": "subscription_schedules", "credit_note": "credit_notes", "quote": "quotes", "dispute": "disputes",
		"checkout.session": "checkout/sessions",
	} {
		for _, id := range g.byObject[kind] {
			out[id] = string(w.atStripe(t, "GET", "/v1/"+collection+"/"+id, ""))
		}
	}
	return out
}
