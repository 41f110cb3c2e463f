package stripe

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
)

// DefaultVersion is sent where neither the agent nor the upstream names a version: the one that the tables
// were held against.
const DefaultVersion = "2026-08-26.dahlia"

// knownTrains are the release trains whose fields and statuses the tables describe. Monthly releases of one
// train do not break, so any date of a train will do. Witnesses: the OpenAPI document (dahlia) and the npm
// package stripe 23.1.0 (endive).
var knownTrains = []string{"dahlia", "endive"}

// refusedHeaders change what a request is after it was judged.
var refusedHeaders = []string{"X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "Content-Encoding"}

// singleHeaders may stand once at most: two readers of two would each take another.
var singleHeaders = []string{"Authorization", "Idempotency-Key", "Content-Type", "X-Agent-Run-Id"}

// headers is what Parse needs from a request's headers.
type headers struct {
	forward        http.Header
	version        string
	idempotencyKey string
	account        policy.AccountID
}

// readHeaders refuses by one closed list, forwards by another, and drops everything else unread.
func readHeaders(h http.Header, pinned string) (headers, *policy.Refusal) {
	out := headers{forward: make(http.Header, 4)}
	for _, name := range refusedHeaders {
		if v, ok := h[name]; ok && !(name == "Content-Encoding" && len(v) == 1 && strings.EqualFold(v[0], "identity")) {
			return out, headerDenied(name, "changes what the request is after it was judged; leave it out")
		}
	}
	for _, name := range singleHeaders {
		if len(h[name]) > 1 {
			return out, headerDenied(name, "is there twice; send it once")
		}
	}
	for name, values := range h {
		if len(values) > 1 && strings.HasPrefix(name, "Stripe-") {
			return out, headerDenied(name, "is there twice; send it once")
		}
	}
	if r := out.readIdempotencyKey(h); r != nil {
		return out, r
	}
	if r := out.readAccount(h); r != nil {
		return out, r
	}
	var r *policy.Refusal
	if out.version, r = pickVersion(first(h, "Stripe-Version"), pinned); r != nil {
		return out, r
	}
	out.forward["Stripe-Version"] = []string{out.version}
	for _, name := range [...]string{"User-Agent", "X-Stripe-Client-User-Agent"} {
		// These two say which SDK is calling; they decide nothing, so an odd one is dropped, not refused.
		if v := h[name]; len(v) > 0 && len(v[0]) <= maxHeader && printable(v[0]) {
			out.forward[name] = v[:1:1]
		}
	}
	return out, nil
}

func headerDenied(name, why string) *policy.Refusal {
	return &policy.Refusal{Code: policy.CodeHeaderDenied, Message: fmt.Sprintf("The header %s %s.", clip(name), why)}
}

func first(h http.Header, name string) string {
	if v := h[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

func (o *headers) readIdempotencyKey(h http.Header) *policy.Refusal {
	v, ok := h["Idempotency-Key"]
	if !ok {
		return nil
	}
	key := v[0]
	if key == "" || len(key) > maxIdempotencyKey || !printable(key) || strings.TrimSpace(key) != key {
		return headerDenied("Idempotency-Key", fmt.Sprintf("must be 1 to %d printable ASCII characters", maxIdempotencyKey))
	}
	o.idempotencyKey = key
	return nil
}

// readAccount reads the connected account that the call aims at. Whether the policy grants it is decided
// later; here it must only be one plain name.
func (o *headers) readAccount(h http.Header) *policy.Refusal {
	account, direct := h["Stripe-Account"]
	context, ok := h["Stripe-Context"]
	switch {
	case direct && ok:
		return headerDenied("Stripe-Account", "and Stripe-Context name two accounts; send one of them")
	case direct:
		if !accountName(account[0], false) {
			return headerDenied("Stripe-Account", "is not an account id like acct_123")
		}
		o.account, o.forward["Stripe-Account"] = policy.AccountID(account[0]), account[:1:1]
	case ok:
		if !accountName(context[0], true) {
			return headerDenied("Stripe-Context", "is not an account id, or ids joined by slashes")
		}
		o.account, o.forward["Stripe-Context"] = policy.AccountID(context[0]), context[:1:1]
	}
	return nil
}

func accountName(s string, path bool) bool {
	for i := range len(s) {
		c := s[i]
		if !(c == '_' || c == '-' || c == '/' && path || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9') {
			return false
		}
	}
	return s != "" && len(s) <= 255
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// pickVersion returns the Stripe-Version to send. pinned is the upstream's own: it is taken as it is, by the
// operator's decision.
func pickVersion(asked, pinned string) (string, *policy.Refusal) {
	if pinned == "" {
		pinned = DefaultVersion
	}
	if asked == "" || asked == pinned {
		return pinned, nil
	}
	date, train, ok := strings.Cut(asked, ".")
	if ok && isDate(date) {
		for _, known := range knownTrains {
			if train == known {
				return asked, nil
			}
		}
	}
	return "", &policy.Refusal{Code: policy.CodeVersion, Param: "Stripe-Version",
		Message: fmt.Sprintf("Stripe-Version %q is not one whose fields Keybrake knows: it takes any release of %s, and the upstream's pinned version (%s). "+
			"Leave the header out, or have an operator admit it with `keybrake upstream update UPSTREAM --api-version %s`.",
			clip(asked), strings.Join(knownTrains, " and "), pinned, clip(asked))}
}

func isDate(s string) bool {
	_, err := time.Parse(time.DateOnly, s)
	return err == nil
}
