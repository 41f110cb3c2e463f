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

// paramsTable holds one line per operation of Stripe's OpenAPI document, served
// here or not (gentables in the module test writes it): method, path, then
// name:type for each top-level parameter. Types: i integer, b boolean, s string, n number, o object, a array,
// r integer or range, x anything, e=a|b one of; "!" marks a required one.
//
//go:embed params.txt
var paramsTable string

// paramsOfSDKs is the same, by hand, for operations that only Stripe's SDKs know.
//
//go:embed params_sdk.txt
var paramsOfSDKs string

type paramSpec struct {
	typ      byte
	required bool
	enum     []string
}

// loadParams parses the table once; the key is "METHOD /path".
var loadParams = sync.OnceValue(func() map[string]map[string]paramSpec {
	ops := make(map[string]map[string]paramSpec)
	for line := range strings.Lines(paramsTable + paramsOfSDKs) {
		if line[0] == '#' {
			continue
		}
		fields := strings.Fields(line)
		specs := make(map[string]paramSpec, len(fields))
		for _, f := range fields[2:] {
			name, typ, _ := strings.Cut(f, ":")
			var ps paramSpec
			typ, ps.required = strings.CutSuffix(typ, "!")
			ps.typ = typ[0]
			if list, ok := strings.CutPrefix(typ, "e="); ok {
				ps.enum = strings.Split(list, "|")
			}
			specs[name] = ps
		}
		ops[fields[0]+" "+fields[1]] = specs
	}
	return ops
})

// unsettable parameters may not be emptied, because an empty value means "unset".
const unsettable = " amount currency charge payment_intent amount_to_capture amount_to_confirm price product limit confirm "

// metaParams are read out of the form by Stripe itself, not by the operation.
var metaParams = []string{"key", "_method", "_stripe_account", "_stripe_version", "payment_user_agent"}

// validate checks names and types against the table. What fails here never
// began to execute, so its idempotency key stays free.
func (op *operation) validate(p *node) *stripeError {
	for i, name := range p.keys {
		spec, ok := op.params[name]
		if !ok {
			f := errInvalid(name, "parameter_unknown", "Received unknown parameter: "+name)
			return f
		}
		v := p.vals[i]
		if v.blank() {
			if strings.Contains(unsettable, " "+name+" ") {
				return errInvalid(name, "parameter_invalid_empty", fmt.Sprintf("You passed an empty string for '%s'. "+
					"We assume empty values are an attempt to unset a parameter; however '%s' cannot be unset. "+
					"You should remove '%s' from your request or supply a non-empty value.", name, name, name))
			}
			continue
		}
		if f := spec.check(name, v); f != nil {
			return f
		}
	}
	for name, spec := range op.params {
		if spec.required && p.get(name) == nil {
			return errMissingParam(op.firstMissing(p))
		}
	}
	return nil
}

// firstMissing names the alphabetically first absent required parameter, so
// that the answer does not depend on the order of a map.
func (op *operation) firstMissing(p *node) string {
	var missing []string
	for name, spec := range op.params {
		if spec.required && p.get(name) == nil {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	return missing[0]
}

func errMissingParam(name string) *stripeError {
	return errInvalid(name, "parameter_missing", "Missing required param: "+name+".")
}

func (ps paramSpec) check(name string, v *node) *stripeError {
	switch ps.typ {
	case 'i':
		if _, err := parseInt(v); err != nil {
			return errInvalid(name, "parameter_invalid_integer", "Invalid integer: "+v.text())
		}
	case 'b':
		if _, ok := parseBool(v); !ok {
			return errInvalid(name, "", "Invalid boolean: "+v.text())
		}
	case 's':
		if v.kind != nodeString {
			return errInvalid(name, "", "Invalid string: "+string(v.json(nil)))
		}
	case 'e':
		if !slices.Contains(ps.enum, v.text()) {
			return errInvalid(name, "", "Invalid "+name+": must be one of "+orList(ps.enum))
		}
	case 'o':
		if v.kind != nodeMap {
			return errInvalid(name, "", "Invalid object")
		}
	case 'a':
		if _, ok := v.items(); !ok {
			return errInvalid(name, "", "Invalid array")
		}
	case 'r':
		return checkRange(name, v)
	}
	return nil
}

func checkRange(name string, v *node) *stripeError {
	if v.kind == nodeString {
		if _, err := parseInt(v); err != nil {
			return errInvalid(name, "parameter_invalid_integer", "Invalid integer: "+v.text())
		}
		return nil
	}
	for i, k := range v.keys {
		if k != "gt" && k != "gte" && k != "lt" && k != "lte" {
			return errInvalid(name+"["+k+"]", "parameter_unknown", "Received unknown parameter: "+name+"["+k+"]")
		}
		if _, err := parseInt(v.vals[i]); err != nil {
			return errInvalid(name+"["+k+"]", "parameter_invalid_integer", "Invalid integer: "+v.vals[i].text())
		}
	}
	return nil
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

// assignJSON is assign for a nested parameter that is kept as it came.
func (c *call) assignJSON(name string, field *string) {
	if v := c.p.get(name); v != nil {
		*field = ""
		if !v.blank() {
			*field = string(v.json(nil))
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
