package stripe

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

// Stripe keeps idempotency keys at least 24 hours (v1) or 30 days (v2). We attach for less, counted from the
// first send, so that a repeated call never arrives after Stripe has forgotten it and runs again.
const (
	attachV1 = 23 * time.Hour
	attachV2 = 29 * 24 * time.Hour
)

// parsed is everything that Parse makes for one call, in one allocation.
type parsed struct {
	call    upstream.Call
	request Request
	ids     [maxPlaceholders]string
}

// Parse implements upstream.Adapter: it matches the route, reads headers and parameters strictly, says what
// the call would do, and rebuilds it in canonical form. Everything that it cannot be sure of is a Refusal.
// A Call that comes with a Refusal has its operation named, as far as it is known, and must not be sent.
func (a *Adapter) Parse(raw *upstream.RawCall, pinnedVersion string) (*upstream.Call, *policy.Refusal) {
	p := &parsed{}
	row, ids, refusal := a.catalog.routes.match(raw.Method, raw.Path, p.ids[:0])
	if refusal != nil {
		return nil, refusal
	}
	req, call := &p.request, &p.call
	*req = Request{Row: row, IDs: ids}
	call.Vendor = req
	call.Method, call.Template = row.Method, row.Template
	call.Operation = policy.Operation{Name: row.Name, Resource: row.Resource, Access: row.Access}
	if row.Host != HostAPI {
		call.Host = string(row.Host)
	}
	h, refusal := readHeaders(raw.Header, pinnedVersion)
	if refusal != nil {
		return call, refusal
	}
	call.Header, call.IdempotencyKey, call.Account = h.forward, h.idempotencyKey, h.account
	req.Version = h.version
	if refusal := a.readParams(raw, req); refusal != nil {
		return call, refusal
	}
	if refusal := a.classify(req, call); refusal != nil {
		return call, refusal
	}
	call.Path = buildPath(row, ids, raw.Path)
	encode(call, req)
	params := call.Body
	switch {
	case raw.Upload != nil:
		call.Upload, call.Fields, call.Body = raw.Upload, formFields(req.Params), nil
		delete(call.Header, "Content-Type") // the form brings its own
		params = append(params, raw.Upload.Sum[:]...)
	case params == nil:
		params = []byte(call.Query)
	}
	call.Fingerprint = fingerprint(req, string(call.Account), params)
	call.AttachFor, call.MarksReplays = attachFor(row), !row.V2()
	return call, nil
}

// classify fills the operation from the parsed request.
func (a *Adapter) classify(req *Request, call *upstream.Call) *policy.Refusal {
	row, op := req.Row, &call.Operation
	op.Account = call.Account
	if id, ok := pathAccount(req); ok {
		if op.Account != "" && op.Account != id {
			return headerDenied("Stripe-Account", "and the path name two accounts; send one of them")
		}
		op.Account = id
	}
	if !req.Params.Empty() {
		op.Params = req.Params
	}
	op.CreatesCustomer = row.Customer.Creates
	op.Customer = customerTie(req)
	var refusal *policy.Refusal
	if op.Needs, refusal = a.needs(req); refusal != nil {
		return refusal
	}
	if refusal := classifyMoney(req, op); refusal != nil {
		return refusal
	}
	op.Resolved = op.Customer.Kind != policy.TieLookup
	for i := range op.Effects {
		op.Resolved = op.Resolved && (op.Effects[i].Known || op.Effects[i].Unmeterable)
	}
	return nil
}

// pathAccount returns the connected account that a path names: it has the same effect as the header.
func pathAccount(req *Request) (policy.AccountID, bool) {
	t := req.Row.Template
	if strings.HasPrefix(t, "/v1/accounts/{") || strings.HasPrefix(t, "/v2/core/accounts/{") {
		return policy.AccountID(req.IDs[0]), true
	}
	return "", false
}

// needs lists the scopes that `expand` opens.
func (a *Adapter) needs(req *Request) ([]policy.Need, *policy.Refusal) {
	if req.Params.Empty() {
		return nil, nil
	}
	if req.Row.V2() {
		return nil, checkInclude(req)
	}
	return a.catalog.expands.needs(req.Row, req.Params, nil)
}

// checkInclude refuses what v2 would show only on demand and must not pass: signing secrets and addresses of
// event destinations. v2 has no `expand`.
func checkInclude(req *Request) *policy.Refusal {
	if req.Params.Get(Field{"expand"}) != nil {
		return malformed("expand", "Stripe's v2 API has no expand; use include, or leave it out.")
	}
	for _, n := range req.Params.All(Field{"include", anyElement}, nil) {
		if strings.Contains(n.Text, "secret") || strings.HasSuffix(n.Text, ".url") {
			return &policy.Refusal{Code: policy.CodeParamDenied, Param: "include",
				Message: fmt.Sprintf("include %q would show a secret, which never passes through Keybrake; leave it out.", clip(n.Text))}
		}
	}
	return nil
}

// readParams reads query and body as the method has them, and nothing else: Stripe itself would merge both.
func (a *Adapter) readParams(raw *upstream.RawCall, req *Request) *policy.Refusal {
	if len(raw.Query) > maxQuery || len(raw.Body) > maxBody {
		return malformed("", fmt.Sprintf("The request is too large: at most %d bytes of query and %d of body are read.", maxQuery, maxBody))
	}
	row := req.Row
	var refusal *policy.Refusal
	switch {
	case row.Method == "POST" && raw.Query != "":
		return malformed("", "A POST carries its parameters in the body; Stripe would mix a query into them, so it is refused. Move them to the body.")
	case row.Method == "GET" && len(raw.Body) > 0:
		return malformed("", "A GET carries its parameters in the query; Stripe would mix a body into them, so it is refused. Move them to the query.")
	case row.Method == "DELETE" && raw.Query != "" && len(raw.Body) > 0:
		return malformed("", "A DELETE carries its parameters in the query or in the body, never in both.")
	case raw.Stream != nil || raw.Upload != nil:
		if refusal = readUpload(raw); refusal == nil {
			req.Params, refusal = parseForm(raw.Form)
		}
	case len(raw.Body) == 0:
		req.Params, refusal = parseForm(raw.Query)
	default:
		req.Params, refusal = readBody(raw, row)
	}
	if refusal != nil {
		return refusal
	}
	if req.Params.Empty() {
		return nil
	}
	return canonicalise(row, req.Params, row.strict())
}

// readBody parses a body by the one content type that the operation takes.
func readBody(raw *upstream.RawCall, row *Row) (*Params, *policy.Refusal) {
	want := "application/x-www-form-urlencoded"
	if row.V2() {
		want = "application/json"
	}
	got := strings.ToLower(first(raw.Header, "Content-Type"))
	mime, params, _ := strings.Cut(got, ";")
	if params = strings.TrimSpace(params); strings.TrimSpace(mime) != want || params != "" && params != "charset=utf-8" {
		message := fmt.Sprintf("The content type %q is not read here: send %s.", clip(got), want)
		if strings.HasPrefix(mime, "multipart/") {
			message = "Only POST /v1/files takes a form with files (multipart/form-data); send the parameters as a plain form."
		}
		return nil, malformed("Content-Type", message)
	}
	if !row.V2() {
		return parseForm(string(raw.Body))
	}
	if row.Method == "DELETE" {
		return nil, malformed("", "A DELETE of the v2 API has no body; leave it out.")
	}
	return parseJSON(raw.Body)
}

// encode writes the parameters into the call, where the method has them, with the headers that belong to it.
func encode(call *upstream.Call, req *Request) {
	if call.Method == http.MethodPost {
		call.Body = req.Params.Encode()
		// The type is set without a body too: pinning may still add one.
		call.Header["Content-Type"] = formType
		if req.Row.V2() {
			call.Header["Content-Type"] = jsonType
			if call.Body == nil {
				call.Body = []byte("{}")
			}
		}
		return
	}
	if !req.Params.Empty() {
		call.Query = string(req.Params.EncodeForm())
	}
}

// Header values that every call shares. Nobody may write to them.
var (
	formType = []string{"application/x-www-form-urlencoded"}
	jsonType = []string{"application/json"}
)

// attachFor is how long a write may be attached to. v1 knows idempotency for POST only.
func attachFor(row *Row) time.Duration {
	switch {
	case row.Method == "GET" || row.Access == policy.Read || row.Host == HostFiles:
		return 0 // an upload is not kept, so it cannot be sent again
	case row.V2():
		return attachV2
	case row.Method == "POST":
		return attachV1
	}
	return 0
}
