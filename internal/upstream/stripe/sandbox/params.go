package sandbox

import (
	_ "embed"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// paramsTable holds one line for each operation in Stripe's OpenAPI document,
// served here or not: method, path, and the type of what it takes (see typReader).
// gentables in the module test writes it.
//
//go:embed params.txt
var paramsTable string

// paramsOfSDKs is the same, by hand, for operations that only Stripe's SDKs know.
//
//go:embed params_sdk.txt
var paramsOfSDKs string

// paramsOfV2 is the same for API v2, from the types of the npm package stripe.
//
//go:embed params_v2.txt
var paramsOfV2 string

// loadParams parses the table once; the key is "METHOD /path".
var loadParams = sync.OnceValue(func() map[string]*typ {
	ops := map[string]*typ{}
	for _, table := range []string{paramsTable, paramsOfSDKs, paramsOfV2} {
		shared := map[string]*typ{} // numbers are a table's own
		eachLine(table, func(word, rest string) {
			if id, ok := strings.CutPrefix(word, "#"); ok {
				shared[id] = (&typReader{rest, shared}).read()
				return
			}
			path, text, _ := strings.Cut(rest, " ")
			op := (&typReader{text, shared}).read()
			if _, paged := op.members["limit"]; paged && isV2(path) {
				op.members["page"] = member{typ: &typ{str: true}} // of next_page_url
			}
			ops[word+" "+path] = op
		})
	}
	addCards(ops)
	return ops
})

// addCards lets payment_method_data be a card. The document leaves that out, but
// Stripe takes it from whoever may handle card numbers.
func addCards(ops map[string]*typ) {
	card := ops["POST /v1/payment_methods"].members["card"]
	for _, op := range ops {
		data := op.members["payment_method_data"]
		if data.typ == nil || data.members["type"].typ == nil {
			continue
		}
		data.members["card"] = card
		if t := data.members["type"]; !slices.Contains(t.enum, "card") {
			t.enum = append(t.enum, "card")
		}
	}
}

// metaParams are read out of the form by Stripe itself, not by the operation.
var metaParams = []string{"key", "_method", "_stripe_account", "_stripe_version", "payment_user_agent"}

func errMissingParam(name string) *stripeError {
	return errInvalid(name, "parameter_missing", "Missing required param: "+name+".")
}

func orList(list []string) string {
	if len(list) == 1 {
		return list[0]
	}
	return strings.Join(list[:len(list)-1], ", ") + ", or " + list[len(list)-1]
}

// parseInt reads an integer as generously as Ruby does: blanks around it, a
// plus sign, underscores, 0x and 0b. What Stripe itself takes is not
// documented; a witness takes the reading that moves money.
func parseInt(n *node) (int64, error) {
	text := strings.TrimSpace(n.text())
	base := 10
	if digits := strings.TrimLeft(text, "+-"); len(digits) > 1 && digits[0] == '0' && strings.ContainsAny(digits[1:2], "xXbBoO") {
		base = 0
	}
	if base == 10 {
		text = strings.ReplaceAll(text, "_", "")
	}
	v, err := strconv.ParseInt(text, base, 64)
	if err != nil {
		return 0, fmt.Errorf("read integer %q: %w", text, err)
	}
	return v, nil
}

func parseBool(n *node) (value, ok bool) {
	switch strings.ToLower(n.text()) {
	case "true", "1":
		return true, true
	case "false", "0":
		return false, true
	}
	return false, false
}

// call is one execution of one operation.
type call struct {
	s       *account
	op      *operation
	p       *node
	args    []string // ids out of the path, in order
	at      time.Time
	now     int64  // at, in Unix seconds
	path    string // of the request, as routed
	reqID   string
	idemKey string
	who     *credential // nil: the sandbox itself (seed, clock)
	quiet   bool        // seed: neither effects nor requests on events
	dry     bool        // a preview: nothing is kept
	effects []string
	body    []byte // the answer where a handler has rendered it already
}

func (c *call) url() string               { return c.path }
func (c *call) has(name string) bool      { return c.p.get(name) != nil }
func (c *call) str(name string) string    { return c.p.get(name).text() }
func (c *call) bool(name string) bool     { v, _ := parseBool(c.p.get(name)); return v }
func (c *call) amount(name string) int64  { v, _ := parseInt(c.p.get(name)); return v }
func (c *call) set(name string) bool      { return !c.p.get(name).blank() }
func (c *call) sub(names ...string) *node { return dig(c.p, names...) }

func dig(n *node, names ...string) *node {
	for _, name := range names {
		n = n.get(name)
	}
	return n
}

// assign overwrites *field where the parameter was sent; empty unsets it.
func (c *call) assign(name string, field *string) {
	if v := c.p.get(name); v != nil {
		*field = v.text()
	}
}

// assignJSON is assign for a nested parameter that is kept as it came, typed.
func (c *call) assignJSON(name string, field *string) {
	if v := c.p.get(name); v != nil {
		*field = ""
		if !v.blank() {
			*field = string(c.op.params.members[name].json(nil, v))
		}
	}
}

const (
	maxMetadataKeys  = 50
	maxMetadataKey   = 40
	maxMetadataValue = 500
)

// metadata merges the metadata parameter into m: an empty value removes a key,
// an empty parameter removes all.
func (c *call) metadata(m pairs) (pairs, *stripeError) {
	return mergeMetadata("metadata", c.p.get("metadata"), m)
}

func mergeMetadata(name string, n *node, m pairs) (pairs, *stripeError) {
	if n == nil {
		return m, nil
	}
	if n.blank() {
		return nil, nil
	}
	if n.kind != nodeMap {
		return nil, errInvalid(name, "", "Invalid object")
	}
	out := slices.Clone(m)
	for i, k := range n.keys {
		v := n.vals[i]
		if len(k) > maxMetadataKey || len(v.text()) > maxMetadataValue {
			return nil, errInvalid(name+"["+k+"]", "", "Metadata keys can have up to 40 characters and values up to 500 characters")
		}
		at := slices.IndexFunc(out, func(e pair) bool { return e.k == k })
		switch {
		case v.blank() && at >= 0:
			out = slices.Delete(out, at, at+1)
		case v.blank():
		case at >= 0:
			out[at].v = v.text()
		default:
			out = append(out, pair{k, v.text()})
		}
	}
	if len(out) > maxMetadataKeys {
		return nil, errInvalid(name, "", "You cannot have more than 50 metadata keys on an object")
	}
	return out, nil
}

// currency reads a currency parameter; Stripe takes any letter case.
func (c *call) currency(name string) (string, *stripeError) { return readCurrency(name, c.str(name)) }

func readCurrency(name, text string) (string, *stripeError) {
	code := strings.ToLower(text)
	if !known(currencies, code) {
		return "", errInvalid(name, "", "Invalid currency: "+code+". Stripe currently supports these currencies: "+
			strings.Join(strings.Fields(currencies), ", "))
	}
	return code, nil
}

const (
	// minAmount is the least that may be charged, in minor units. Stripe's real
	// minimum depends on the currency and is worth about half a dollar.
	minAmount = 50
	// maxAmount is Stripe's twelve digits.
	maxAmount = 999_999_999_999
)

// chargeable checks an amount that somebody is to pay.
func chargeable(param string, amount int64, currency string) *stripeError {
	switch {
	case amount < 0:
		return errInvalid(param, "parameter_invalid_integer", "Invalid positive integer")
	case amount < minAmount:
		return errInvalid(param, "amount_too_small", "Amount must be at least "+formatAmount(minAmount, currency)+" "+currency)
	case amount > maxAmount:
		return errInvalid(param, "amount_too_large", "Amount must be no more than "+formatAmount(maxAmount, currency))
	}
	return nil
}

// positive checks an amount that need not reach the minimum.
func positive(param string, amount int64) *stripeError {
	if amount <= 0 {
		return errInvalid(param, "parameter_invalid_integer", "Invalid positive integer")
	}
	return nil
}

// parseFailure is Stripe's answer to parameters that Rack could not read.
func parseFailure(err error) *stripeError {
	if media, ok := err.(errMedia); ok {
		return errInvalid("", "", "Invalid request: unsupported Content-Type "+string(media)+
			". If you have trouble, please use application/x-www-form-urlencoded.")
	}
	f := errInvalid("", "", "Invalid request (check that your parameters are well formed: "+err.Error()+")")
	f.status = http.StatusBadRequest
	return f
}
