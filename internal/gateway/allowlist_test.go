package gateway_test

import (
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream/stripe"
)

// attempt is one way to see or touch what is somebody else's.
type attempt struct{ method, path, form string }

// TestAKeyForOneCustomerSeesAndTouchesNothingOfAnother: two customers have something of everything, and a key that
// may do everything, uncapped and unmetered, for one of them tries every route, parameter, list, expansion, search
// and form of an id to reach the other.
func TestAKeyForOneCustomerSeesAndTouchesNothingOfAnother(t *testing.T) {
	w := newWorld(t)
	own, other := w.makeGraph(t, "Zanzibarina"), w.makeGraph(t, "Quetzalcoatla")
	key, _ := w.key(`
name: agent-support-everything-test
scopes: {"*": write}
uncapped: true
unmetered: ["*"]
customers: [` + own.ids["cus"] + `]`)
	before := other.state(t, w)

	counts := map[string]int{}
	run := func(what string, attempts []attempt) {
		t.Helper()
		counts[what] += len(attempts)
		var wait sync.WaitGroup
		work := make(chan attempt)
		for range 8 {
			wait.Go(func() {
				for a := range work {
					w.leaksNothingOfGraph(t, what, key, a, other)
				}
			})
		}
		for _, a := range attempts {
			work <- a
		}
		close(work)
		wait.Wait()
	}
	rows := w.adapter.Catalog().Rows()
	run("reads of the other's objects", inPaths(rows, policy.Read, other))
	run("lists and searches", listsAndSearches(rows, own, other))
	run("forms of an id", formsOfIDs(other))
	run("expansions of one's own", expansions(rows, own))
	run("parameters that name the other's objects", inParams(rows, own, other))
	run("writes on the other's objects", inPaths(rows, policy.Write, other))

	for id, was := range before {
		if now := other.state(t, w)[id]; now != was {
			t.Errorf("%s was touched:\n%s\n%s", id, was, now)
		}
	}
	total := 0
	for what, n := range counts {
		t.Logf("%5d %s", n, what)
		total += n
	}
	t.Logf("%5d attempts on %d objects", total, len(other.marks)-1)
	if total < 11_000 || len(other.marks) < 31 {
		t.Errorf("%d attempts on %d objects: there were more", total, len(other.marks))
	}
	// The key is not just shut: its own customer is within reach.
	for _, a := range []attempt{
		{"GET", "/v1/customers/" + own.ids["cus"], ""}, {"GET", "/v1/charges/" + own.ids["ch"], ""},
		{"GET", "/v1/invoices", "customer=" + own.ids["cus"]}, {"GET", "/v1/refunds/" + own.ids["re"], ""},
	} {
		if r := w.call(key, a.method, a.path, a.form); r.Status != 200 || !strings.Contains(r.Raw, own.ids["cus"]) && !strings.Contains(r.Raw, own.ids["ch"]) {
			t.Errorf("its own %s: %d %s", a.path, r.Status, r.Raw)
		}
	}
}

// leaksNothingOfGraph makes one attempt and searches the whole answer for anything of the graph that the attempt did
// not say itself.
func (w *world) leaksNothingOfGraph(t *testing.T, what, key string, a attempt, g *graph) {
	r, err := w.try(t.Context(), key, a.method, a.path, a.form)
	if err != nil {
		t.Errorf("%s: %s %s %s: %v", what, a.method, a.path, a.form, err)
		return
	}
	all := r.Raw
	for name, values := range r.Header {
		all += name + strings.Join(values, " ")
	}
	said := a.path + " " + a.form
	if text, err := url.QueryUnescape(said); err == nil {
		said += " " + text
	}
	for _, mark := range g.marks {
		if strings.Contains(all, mark) && !strings.Contains(said, mark) {
			t.Errorf("%s: %s %s %s shows %s: %d %s", what, a.method, a.path, a.form, mark, r.Status, r.Raw)
			return
		}
	}
	if r.Status < 300 && strings.Contains(all, g.ids["cus"]) && r.Header.Get("Keybrake-Guarded") == "" {
		t.Errorf("%s: %s %s %s answers with the other's object: %s", what, a.method, a.path, a.form, r.Raw)
	}
}

// inPaths names the other's objects in every path that takes an id: those of the right kind, or else its
// customer and its payment.
func inPaths(rows []*stripe.Row, access policy.Access, g *graph) (out []attempt) {
	for _, row := range rows {
		if row.Access != access || row.Release == stripe.Preview || len(row.Placeholders) == 0 {
			continue
		}
		paths := []string{row.Template}
		for _, name := range row.Placeholders {
			var next []string
			for _, p := range paths {
				for _, id := range g.idsFor(rows, row.Template, name) {
					next = append(next, strings.Replace(p, "{"+name+"}", id, 1))
				}
			}
			paths = next[:min(len(next), 12)]
		}
		for _, p := range paths {
			out = append(out, attempt{row.Method, p, ""})
		}
	}
	return out
}

// idsFor are the graph's ids for one placeholder.
func (g *graph) idsFor(rows []*stripe.Row, template, name string) []string {
	end := strings.Index(template, "{"+name+"}") + len(name) + 2
	for _, row := range rows {
		if row.Method == "GET" && row.Template == template[:end] && len(g.byObject[row.Object]) > 0 {
			ids := g.byObject[row.Object]
			return ids[:min(len(ids), 3)]
		}
	}
	return []string{g.ids["cus"], g.ids["pi"]}
}

// listsAndSearches asks every list without and with the other as a filter, and every search in every way.
func listsAndSearches(rows []*stripe.Row, own, other *graph) (out []attempt) {
	for _, row := range rows {
		if row.Method != "GET" || row.Release == stripe.Preview || len(row.Placeholders) > 0 {
			continue
		}
		out = append(out, attempt{"GET", row.Template, ""}, attempt{"GET", row.Template, "limit=100"})
		if strings.HasSuffix(row.Template, "/search") {
			for _, q := range []string{
				`customer:"` + other.ids["cus"] + `"`, `customer:"` + own.ids["cus"] + `" OR customer:"` + other.ids["cus"] + `"`,
				`-customer:"` + own.ids["cus"] + `"`, `metadata["k"]:"` + other.name + `"`, `email:"` + other.name + `@leak.example"`,
				`customer:"` + own.ids["cus"] + `" AND -customer:"` + own.ids["cus"] + `"`, `amount>0`, `customer~"cus_"`,
			} {
				out = append(out, attempt{"GET", row.Template, "query=" + url.QueryEscape(q)})
			}
			continue
		}
		for param, id := range other.filters() {
			out = append(out,
				attempt{"GET", row.Template, param + "=" + id},
				attempt{"GET", row.Template, "customer=" + own.ids["cus"] + "&" + param + "=" + id},
				attempt{"GET", row.Template, "customer=" + own.ids["cus"] + "&" + param + "=" + id + "&expand[0]=data.customer"})
		}
		for _, cursor := range []string{other.ids["ch"], other.ids["pi"], other.ids["in"]} {
			out = append(out, attempt{"GET", row.Template, "customer=" + own.ids["cus"] + "&ending_before=" + cursor + "&limit=100"})
		}
	}
	return out
}

// filters name the other's objects by the parameters that lists and writes take.
func (g *graph) filters() map[string]string {
	out := map[string]string{}
	for param, step := range map[string]string{
		"customer": "cus", "charge": "ch", "payment_intent": "pi", "invoice": "in", "subscription": "sub", "payment_method": "pm",
		"setup_intent": "seti", "quote": "qt", "from_subscription": "sub", "schedule": "sched", "source_transaction": "ch",
		"default_payment_method": "pm", "source": "pm", "invoiceitem": "ii", "refund": "re", "credit_note": "cn",
	} {
		if id := g.ids[step]; id != "" {
			out[param] = id
		}
	}
	return out
}

// formsOfIDs writes an id in ways that some reader takes for the id.
func formsOfIDs(g *graph) (out []attempt) {
	for collection, id := range map[string]string{"customers": g.ids["cus"], "charges": g.ids["ch"], "payment_intents": g.ids["pi"], "invoices": g.ids["in"]} {
		for _, form := range []string{
			strings.ToUpper(id), id + "%20", "%20" + id, id + "%00", id + "/", id + "%2F", "x/../" + id, "x%2F..%2F" + id, id + ";x", id + "%3Fa",
			strings.ReplaceAll(id, "_", "%5F"), id + "?expand[0]=customer", id + "#x", "./" + id, id + ".json", "%2e%2e/" + collection + "/" + id,
		} {
			out = append(out, attempt{"GET", "/v1/" + collection + "/" + form, ""}, attempt{"POST", "/v1/" + collection + "/" + form, "metadata[a]=b"})
		}
	}
	return out
}

// expansions widens the answers about one's own objects as far as they go.
func expansions(rows []*stripe.Row, g *graph) (out []attempt) {
	paths := []string{
		"customer", "data.customer", "invoice", "charge", "payment_intent", "latest_charge", "balance_transaction", "data.balance_transaction",
		"balance_transaction.source", "charge.customer", "invoice.subscription", "subscription", "payment_method.customer", "latest_invoice.payment_intent",
	}
	for _, row := range rows {
		if row.Method != "GET" || row.Release == stripe.Preview || row.V2() {
			continue
		}
		path := row.Template
		for _, name := range row.Placeholders {
			ids := g.idsFor(rows, row.Template, name)
			path = strings.Replace(path, "{"+name+"}", ids[0], 1)
		}
		for _, e := range paths {
			out = append(out, attempt{"GET", path, "expand[0]=" + e})
		}
	}
	return out
}

// inParams names the other's objects in every parameter that takes one, on routes and objects of one's own.
func inParams(rows []*stripe.Row, own, other *graph) (out []attempt) {
	names := other.filters()
	for _, row := range rows {
		if row.Method == "GET" || row.Release == stripe.Preview || row.Params == nil {
			continue
		}
		path := row.Template
		for _, name := range row.Placeholders {
			path = strings.Replace(path, "{"+name+"}", own.idsFor(rows, row.Template, name)[0], 1)
		}
		for param := range row.Params.Members {
			id, ok := names[param]
			if !ok {
				continue
			}
			form := param + "=" + id
			if param != "customer" && row.Params.Members["customer"] != nil {
				out = append(out, attempt{row.Method, path, form + "&customer=" + own.ids["cus"]})
			}
			if row.Params.Members["amount"] != nil && row.Params.Members["currency"] != nil {
				form += "&amount=100&currency=usd"
			}
			out = append(out, attempt{row.Method, path, form})
		}
	}
	slices.SortFunc(out, func(a, b attempt) int { return strings.Compare(b.method+b.path+b.form, a.method+a.path+a.form) })
	return out // what deletes one's own objects comes last
}
