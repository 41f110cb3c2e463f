package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/money"
)

// Format writes the policy in its canonical form: fields in the order of the documentation, names sorted,
// caps in the policy's own order. Equal policies give equal bytes, and Parse reads them back to an equal
// policy.
func Format(p *Policy) []byte {
	var w writer
	w.field("name", quote(p.Name), p.Name != "")
	w.field("upstream", quote(p.Upstream), p.Upstream != "")
	w.scopes(p.Scopes)
	w.caps(p.Caps)
	w.field("uncapped", "true", p.Uncapped)
	if p.Customers.Any {
		w.field("customers", "any", true)
	} else {
		w.field("customers", list(p.Customers.List), p.Customers.List != nil)
	}
	w.field("may_create_customers", "true", p.MayCreate)
	w.field("no_customer", list(p.NoCustomer), len(p.NoCustomer) > 0)
	w.field("accounts", list(p.Accounts), len(p.Accounts) > 0)
	w.params(p.Params)
	w.field("unmetered", list(p.Unmetered), len(p.Unmetered) > 0)
	w.field("client_secrets", "allow", p.ClientSecrets)
	w.field("repeat_unknown", "allow", p.RepeatUnknown)
	networks := make([]string, len(p.Network))
	for i, n := range p.Network {
		networks[i] = n.String()
	}
	w.field("network", list(networks), len(networks) > 0)
	w.field("expires", p.Expires.String(), p.Expires != Expiry{})
	w.field("rotate_every", FormatSpan(p.RotateEvery), p.RotateEvery != 0)
	w.field("timezone", quote(zoneName(p.Timezone)), zoneName(p.Timezone) != "UTC")
	w.field("enforcement", "shadow", p.Enforcement == Shadow)
	return []byte(w.b.String())
}

// Digest names the content of a policy: the hex SHA-256 of its canonical form.
func Digest(p *Policy) string {
	sum := sha256.Sum256(Format(p))
	return hex.EncodeToString(sum[:])
}

// String writes the expiry as policies do: a span ("90d"), an instant in RFC 3339, or "never".
func (e Expiry) String() string {
	switch {
	case !e.At.IsZero():
		return e.At.UTC().Format(time.RFC3339)
	case e.After != 0:
		return FormatSpan(e.After)
	default:
		return "never"
	}
}

// LimitString writes the limit in the cap's unit: "500.00" or "30".
func (c Cap) LimitString() string {
	if c.Unit == UnitUSD {
		return money.USD(c.Limit).String()
	}
	return fmt.Sprint(c.Limit)
}

func zoneName(zone *time.Location) string {
	if zone == nil {
		return "UTC"
	}
	return zone.String()
}

type writer struct{ b strings.Builder }

func (w *writer) field(name, value string, given bool) {
	if given {
		w.b.WriteString(name + ": " + value + "\n")
	}
}

func (w *writer) scopes(scopes map[Resource]Access) {
	if len(scopes) == 0 {
		w.b.WriteString("scopes: {}\n")
		return
	}
	w.b.WriteString("scopes:\n")
	for _, name := range slices.Sorted(maps.Keys(scopes)) {
		w.b.WriteString("  " + quote(string(name)) + ": " + scopes[name].String() + "\n")
	}
}

func (w *writer) caps(caps []Cap) {
	if len(caps) == 0 {
		return
	}
	w.b.WriteString("caps:\n")
	for _, c := range caps {
		fmt.Fprintf(&w.b, "  - {resource: %s, per: %s, %s: %s}\n", quote(string(c.Resource)), c.Per, c.Unit, c.LimitString())
	}
}

func (w *writer) params(params map[OperationName]map[string]ParamRule) {
	if len(params) == 0 {
		return
	}
	w.b.WriteString("params:\n")
	for _, op := range slices.Sorted(maps.Keys(params)) {
		w.b.WriteString("  " + quote(string(op)) + ":\n")
		for _, path := range slices.Sorted(maps.Keys(params[op])) {
			rule := params[op][path]
			w.b.WriteString("    " + quote(path) + ": " + rule.String() + "\n")
		}
	}
}

// String writes the rule as policies do: `deny`, or its parts, like `{in: [a, b], required: true}`.
func (r ParamRule) String() string {
	if r.Deny {
		return "deny"
	}
	var parts []string
	if r.In != nil {
		parts = append(parts, "in: "+list(r.In))
	}
	if r.Not != nil {
		parts = append(parts, "not: "+list(r.Not))
	}
	if r.Max != nil {
		parts = append(parts, fmt.Sprintf("max: %d", *r.Max))
	}
	if r.Min != nil {
		parts = append(parts, fmt.Sprintf("min: %d", *r.Min))
	}
	if r.Required {
		parts = append(parts, "required: true")
	}
	if r.Pattern != "" {
		parts = append(parts, "pattern: "+quote(r.Pattern))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

func list[S ~string](items []S) string {
	quoted := make([]string, len(items))
	for i, s := range items {
		quoted[i] = quote(string(s))
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// quote writes a string so that YAML reads it back as that string: bare where it starts with a letter, has
// nothing but letters, digits and `_.-/` and is no word of YAML's, else in double quotes with JSON's
// escapes, which YAML shares.
func quote(s string) string {
	if bare(s) {
		return s
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic("policy: a string that JSON cannot write: " + err.Error()) // there is none
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// yamlWords are bare words that some reader of YAML takes for something else than text.
var yamlWords = []string{"true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"}

func bare(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || !(c >= '0' && c <= '9' || c == '_' || c == '.' || c == '-' || c == '/')) {
			return false
		}
	}
	return s != "" && !slices.Contains(yamlWords, strings.ToLower(s))
}
