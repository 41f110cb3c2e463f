// Package requests makes valid requests from Stripe's OpenAPI document: for any operation one of each Variant, and
// the paths that `expand` may take. The same document gives the same requests.
package requests

import (
	"net/url"
	"strings"

	"github.com/keybrake/keybrake/test/openapi"
)

// Variant says how much of what an operation takes is in a request.
type Variant uint8

// The variants.
const (
	Required Variant = iota // what the operation cannot do without
	Full                    // everything that can stand beside the rest
	Unset                   // Required, and empty texts for whatever can be unset
)

// Variants are all of them.
var Variants = []Variant{Required, Full, Unset}

// String names the variant for messages.
func (v Variant) String() string { return [...]string{"required", "full", "unset"}[v] }

// Pair is one parameter in a form's spelling, "items[0][price]", with its value as it is meant.
type Pair struct{ Name, Value string }

// Request is one call.
type Request struct {
	Method, Path string
	Params       []Pair
	// InBody: the parameters are in the body, else in the query.
	InBody bool
	// JSON is the body, in place of Params, where the API takes no forms.
	JSON string
	// Context is the account that the call is for; empty for one's own.
	Context string
	// Multipart: the parameters are parts of a multipart body, and the one called "file" is a file.
	Multipart bool
}

// Form writes the parameters as Stripe's SDKs do: literal brackets, numbered elements.
func (r *Request) Form() string {
	var b strings.Builder
	for i, p := range r.Params {
		if i > 0 {
			b.WriteByte('&')
		}
		name := url.QueryEscape(p.Name)
		name = strings.ReplaceAll(strings.ReplaceAll(name, "%5B", "["), "%5D", "]")
		b.WriteString(name + "=" + url.QueryEscape(p.Value))
	}
	return b.String()
}

// Make makes a request of one operation.
func Make(method, path string, op *openapi.Operation, v Variant) Request {
	return build(method, path, op, v, true)
}

// MakeByDocument is Make with nothing but the document to go by: Stripe, or Keybrake, may refuse it.
func MakeByDocument(method, path string, op *openapi.Operation, v Variant) Request {
	return build(method, path, op, v, false)
}

func build(method, path string, op *openapi.Operation, v Variant, ruled bool) Request {
	w := writer{rule: rules[method+" "+path], ruled: ruled, full: v == Full, unset: v == Unset}
	w.members("", op.Request())
	_, multipart := op.RequestBody.Content["multipart/form-data"]
	return Request{
		Method: method, Path: fill(path), Params: w.pairs, Multipart: multipart,
		InBody: method == "POST" || method == "DELETE" && v == Full, // a DELETE may have them in either place
	}
}

// Suffix ends every id in a path, and Account is the connected account there.
const (
	Suffix  = "_contract"
	Account = "acct" + Suffix
)

// fill puts an id into every placeholder.
func fill(path string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		name, ok := strings.CutPrefix(s, "{")
		if !ok {
			continue
		}
		name = strings.TrimSuffix(name, "}")
		if segments[i] = name + Suffix; name == "account" {
			segments[i] = Account
		}
	}
	return strings.Join(segments, "/")
}

// Expansions lists what an operation's `expand` can open: paths of one step, then of two, in the order of
// their names.
func Expansions(d *openapi.Document, op *openapi.Operation) []string {
	if _, ok := op.Request().Properties["expand"]; !ok || op.Answer() == nil {
		return nil
	}
	one := steps(d, op.Answer())
	out := make([]string, 0, len(one))
	for _, s := range one {
		out = append(out, s.path)
	}
	for _, s := range one {
		for _, next := range steps(d, s.to) {
			out = append(out, s.path+"."+next.path)
		}
	}
	return out
}
