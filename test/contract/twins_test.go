package contract

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
	"github.com/keybrake/keybrake/test/openapi"
	"github.com/keybrake/keybrake/test/requests"
)

// twins are two sandboxes that are kept the same.
type twins struct {
	t        *testing.T
	doc      *openapi.Document
	direct   string // base URL of the one
	through  string // and of the other
	gateway  *gateway
	seeded   sandbox.Seeded
	account  string // a connected one
	compared int
	wrong    []string
	apart    bool // one did what the other did not
}

func newTwins(t *testing.T, d *openapi.Document) *twins {
	t.Helper()
	at := time.Now()
	serve := func() (string, sandbox.Seeded) {
		s := sandbox.New(sandbox.Options{Seed: 7, Now: func() time.Time { return at }})
		seeded := s.Seed()
		server := httptest.NewServer(s)
		t.Cleanup(server.Close)
		t.Cleanup(s.Close)
		return server.URL, seeded
	}
	w := &twins{t: t, doc: d}
	w.direct, w.seeded = serve()
	w.through, _ = serve()
	w.gateway = startGateway(t, w.through, w.seeded.Account)
	w.account = w.object("/v1/accounts", "/v1/accounts")
	w.prepared(world)
	return w
}

// both sends one call both ways, remembers what differs and returns the direct answer.
func (w *twins) both(r requests.Request) answer {
	w.compared++
	agent := fmt.Sprintf("twins/%d", w.compared)
	direct := send(w.t, newRequest(w.t, w.direct, secret, agent, r))
	through := send(w.t, newRequest(w.t, w.gateway.base, w.gateway.key, agent, r))
	if diff := cmp.Diff([]any{direct.Status, meaning(direct.Body)}, []any{through.Status, meaning(through.Body)}); diff != "" {
		w.wrong = append(w.wrong, fmt.Sprintf("%s %s %s (-direct +through):\n%s", r.Method, r.Path, r.Form()+r.JSON, diff))
		w.apart = w.apart || r.Method != http.MethodGet && (direct.Status < 300) != (through.Status < 300)
	}
	if id := idOf(direct); r.Method == http.MethodPost && (r.Path == "/v1/accounts" || r.Path == "/v2/core/accounts") && id != "" {
		w.gateway.allow(id) // no policy allows accounts that it does not name
	}
	return direct
}

// A request id and an idempotency key are each side's own: Keybrake asks the sandbox more, and with keys of its
// own.
var ownNames = regexp.MustCompile(`"req_[0-9A-Za-z]+"|"idempotency_key": ?("[^"]*"|null)`)

// meaning parses an answer, numbers as they are written; what is no JSON stays text.
func meaning(body string) any {
	body = ownNames.ReplaceAllStringFunc(body, func(s string) string {
		if strings.HasPrefix(s, `"req_`) {
			return `"its own"`
		}
		return `"idempotency_key":"its own"`
	})
	var v any
	d := json.NewDecoder(strings.NewReader(body))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return body
	}
	return v
}

// denies sends a call through Keybrake only: the sandbox would do it.
func (w *twins) denies(method, template, reason string) {
	r := requests.Request{Method: method, Path: placeholder.ReplaceAllLiteralString(template, "none"), InBody: method == http.MethodPost, JSON: "{}"}
	a := send(w.t, newRequest(w.t, w.gateway.base, w.gateway.key, "denied", r))
	if a.Status < 400 || a.Status >= 500 {
		w.t.Errorf("%s %s passes now: take it off the denied ones: %d %s", method, template, a.Status, a.Body)
	}
	w.t.Logf("%s %s is denied to every key: %s", method, template, reason)
}

// operation makes what an operation needs and calls it with the required parameters, then with all.
func (w *twins) operation(method, template string) answer {
	a := w.both(w.request(method, template, requests.Required))
	if w.doc.Paths[template] != nil {
		w.both(w.request(method, template, requests.Full))
	}
	return a
}

func (w *twins) request(method, template string, v requests.Variant) requests.Request {
	path := w.path(method, template)
	r := requests.Request{Method: method, InBody: method == http.MethodPost}
	if op := w.doc.Paths[template][strings.ToLower(method)]; op != nil {
		r = requests.Make(method, template, op, v)
	}
	r.Path = path
	if form, ok := forms[method+" "+template]; ok && v == requests.Required {
		w.put(&r, form)
		return r
	}
	for i := range r.Params {
		if value, ok := values[lastName(r.Params[i].Name)]; ok {
			r.Params[i].Value = w.fill(value)
		}
	}
	return r
}

var placeholder = regexp.MustCompile(`\{[^}]*\}`)

// path fills a template: its last placeholder with an object that is fit for the operation, those before it with
// what their names mean everywhere.
func (w *twins) path(method, template string) string {
	path := ""
	segments := strings.Split(template[1:], "/")
	last := strings.LastIndex(template, "{")
	for i, s := range segments {
		above := "/" + strings.Join(segments[:i], "/")
		switch value, meant := values[strings.Trim(s, "{}")]; {
		case s[0] != '{':
			path += "/" + s
		case len(above)+1 == last && len(fresh[method+" "+template]) > 0:
			path += "/" + w.prepared(fresh[method+" "+template])
		case meant && (len(above)+1 != last || value == "{account}"):
			path += "/" + w.fill(value)
		default:
			path += "/" + w.object(above, path)
		}
	}
	return path
}

// step is one call that prepares an object.
type step struct{ Method, Path, Form string }

// prepared takes the steps and returns the id of what the first one made, or the last GET found.
func (w *twins) prepared(steps []step) string {
	id := ""
	for _, s := range steps {
		path, form := w.fill(strings.ReplaceAll(s.Path, "{}", id)), strings.ReplaceAll(s.Form, "{}", id)
		if s.Method == "SANDBOX" {
			w.control(path, form)
			continue
		}
		r := requests.Request{Path: path, InBody: true}
		r.Context, r.Method = account(strings.ReplaceAll(s.Method, "{}", id))
		w.put(&r, form)
		a := w.both(r)
		if id == "" || r.Method == http.MethodGet {
			id = idOf(a)
		}
	}
	return id
}

// control gives both sandboxes a command.
func (w *twins) control(path, command string) {
	w.t.Helper()
	for _, base := range []string{w.direct, w.through} {
		resp, err := client.Post(base+"/_sandbox/"+path, "application/json", strings.NewReader(command))
		if err != nil {
			w.t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			w.t.Errorf("_sandbox/%s %s: %s", path, command, resp.Status)
		}
	}
}

// object makes one of a collection, which is at path, or takes the first that is there.
func (w *twins) object(template, path string) string {
	if known := served(http.MethodPost, template); known != "" && denied["POST "+known] == "" {
		r := w.request(http.MethodPost, known, requests.Required)
		r.Path = path
		if id := idOf(w.both(r)); id != "" {
			return id
		}
	}
	if served(http.MethodGet, template) != "" {
		if id := idOf(w.both(requests.Request{Method: http.MethodGet, Path: path})); id != "" {
			return id
		}
	}
	return "none"
}

// served is the sandbox's own template for one whose placeholders may have other names; empty if it has none.
func served(method, template string) string {
	unnamed := func(t string) string { return placeholder.ReplaceAllString(t, "{}") }
	for _, name := range sandbox.Operations() {
		if m, t, _ := strings.Cut(name, " "); m == method && unnamed(t) == unnamed(template) {
			return t
		}
	}
	return ""
}

// idOf is the id of an object, or of a list's first; empty for a refusal.
func idOf(a answer) string {
	var o struct {
		ID   string
		Data []struct{ ID string }
	}
	_ = json.Unmarshal([]byte(a.Body), &o) // what is no object has no id either
	if o.ID == "" && len(o.Data) > 0 {
		return o.Data[0].ID
	}
	return o.ID
}

// put gives a request its parameters: JSON, or "a=1&b={/v1/customers}".
func (w *twins) put(r *requests.Request, form string) {
	if strings.HasPrefix(r.Path, "/v2/") {
		r.JSON = w.fill(form)
		return
	}
	r.Params = nil
	for pair := range strings.SplitSeq(form, "&") {
		if name, value, ok := strings.Cut(pair, "="); ok {
			r.Params = append(r.Params, requests.Pair{Name: name, Value: w.fill(value)})
		}
	}
}

// account takes "AS acct_1 POST" apart.
func account(method string) (account, verb string) {
	if rest, ok := strings.CutPrefix(method, "AS "); ok {
		account, verb, _ = strings.Cut(rest, " ")
		return account, verb
	}
	return "", method
}

var filled = regexp.MustCompile(`\{(/v[12]/[^}]+|[a-z][a-z ]*)\}`)

// fill puts objects into "{/v1/customers}".
func (w *twins) fill(value string) string {
	return filled.ReplaceAllStringFunc(value, func(p string) string {
		switch path := strings.Trim(p, "{}"); path {
		case "account":
			return w.account
		case "customer":
			return w.seeded.Customers[0].ID
		case "financial account":
			return w.seeded.FinancialAccount
		default:
			if steps, ok := made[path]; ok {
				return w.prepared(steps)
			}
			return w.object(path, path)
		}
	})
}

func lastName(name string) string {
	parts := strings.Split(strings.ReplaceAll(name, "]", ""), "[")
	return parts[len(parts)-1]
}
