package stripe

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

// resolver is the work of one Resolve. It belongs to one goroutine.
type resolver struct {
	ctx  context.Context
	call *upstream.Call
	req  *Request
	p    *policy.Policy
	look upstream.Lookup
	edge *edgeCache
	// catalog has the previews.
	catalog *Catalog
	// fetched are the objects that were looked up, by path: each is asked for once per call.
	fetched map[string][]byte
	// wanted are the look-ups that the amounts of this call need; their objects are fetched in any case.
	wanted []LookupRef
}

// fetch returns the object behind a reference. A nil body without refusal and error means that there is no
// such object, and that the agent must not learn so.
func (r *resolver) fetch(ref LookupRef, path, param string) ([]byte, *policy.Refusal, error) {
	look := upstream.Look{Method: http.MethodGet, Path: path, Query: r.query(ref)}
	return r.ask(path, look, ref.Template, param)
}

// ask sends a look-up, once per call for each key, and reads its answer. A nil body is as with fetch.
func (r *resolver) ask(key string, look upstream.Look, template, param string) ([]byte, *policy.Refusal, error) {
	if body, ok := r.fetched[key]; ok {
		return body, nil, nil
	}
	status, body, err := r.look(r.ctx, look)
	if err != nil {
		return nil, nil, fmt.Errorf("look up %s: %w", template, err)
	}
	switch {
	case status == http.StatusOK:
		if k, _ := findJSON(body, nil); k != jsonObject || !validJSON(body) {
			return nil, nil, fmt.Errorf("look up %s: the answer is no JSON object", template)
		}
		r.fetched[key] = body
		return body, nil, nil
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return nil, nil, fmt.Errorf("look up %s: %w (status %d): it must be able to read %s",
			template, upstream.ErrCredential, status, resourceOf(template))
	case status == http.StatusTooManyRequests || status < 400 || status >= 500:
		return nil, nil, fmt.Errorf("look up %s: status %d", template, status)
	case !r.p.Customers.Any && r.p.Enforcement != policy.Shadow && !nobodys[template]:
		return nil, nil, nil
	case status == http.StatusNotFound:
		return nil, missing(body, param), nil
	default:
		why := "Stripe refuses what would have to be looked up for this call (status " + strconv.Itoa(status) + ")"
		if m := says(body); m != "" {
			return nil, malformed(param, why+": "+m), nil
		}
		return nil, malformed(param, why+". Check its parameters."), nil
	}
}

// nobodys are objects that belong to no customer: that one does not exist tells nothing about anybody.
var nobodys = map[string]bool{
	"/v1/prices/{price}": true, "/v1/tax_rates/{tax_rate}": true, "/v1/shipping_rates/{shipping_rate_token}": true, "/v1/climate/products/{product}": true,
}

// notAllowed denies in the very words of a foreign customer's object, so that ids cannot be probed.
func notAllowed(param string) *policy.Refusal {
	return &policy.Refusal{Code: policy.CodeCustomerDenied, Param: param,
		Message: "This call concerns an object that is not among those of this key's customers."}
}

// missing passes on what Stripe says about an object that does not exist.
func missing(body []byte, param string) *policy.Refusal {
	message := "No such object."
	if m := says(body); m != "" {
		message = m
	}
	return &policy.Refusal{Code: upstream.CodeResourceMissing, Param: param, Message: message}
}

// says is the message of Stripe's error, without secrets; empty if there is none.
func says(body []byte) string {
	if !validJSON(body) {
		return ""
	}
	clean, _ := cleanAll([]byte(findText(body, Field{"error", "message"})), secrets{})
	return string(clean)
}

// resourceOf names what a template reads, as operators see it in Stripe's list of permissions.
func resourceOf(template string) string {
	var words []string
	for seg := range strings.SplitSeq(strings.TrimPrefix(template, "/"), "/") {
		if !strings.HasPrefix(seg, "{") && seg != "v1" && seg != "v2" {
			words = append(words, seg)
		}
	}
	return strings.Join(words, ".")
}

// query is what is sent with a look-up: the expansions of every reference of this call to the same kind of
// object, so that one answer serves all.
func (r *resolver) query(ref LookupRef) string {
	expand := expansionsOf(nil, ref)
	for _, other := range r.wanted {
		if other.Template == ref.Template {
			expand = expansionsOf(expand, other)
		}
	}
	slices.Sort(expand)
	var out []byte
	for i, e := range slices.Compact(expand) {
		if i > 0 {
			out = append(out, '&')
		}
		out = fmt.Appendf(out, "expand%%5B%d%%5D=", i)
		out = appendEscaped(out, e)
	}
	return string(out)
}

func expansionsOf(out []string, ref LookupRef) []string {
	for part := range strings.SplitSeq(ref.Query, "&") {
		if e, ok := strings.CutPrefix(part, "expand[]="); ok {
			out = append(out, e)
		}
	}
	return out
}
