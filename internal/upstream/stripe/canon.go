package stripe

import (
	"fmt"
	"slices"
	"strings"

	"github.com/keybrake/keybrake/internal/policy"
)

// metaParams are parameters that Stripe's own pages send in a form in place of headers: they would override
// the credential, the account or the version. Names with a leading underscore are refused too.
var metaParams = []string{"key", "guid", "muid", "sid", "payment_user_agent", "pasted_fields", "time_on_page", "referrer"}

// canonicalise checks a parsed tree and brings it into the form that is judged and sent. strict holds every
// name and type against the operation's declaration: for calls that move money.
func canonicalise(row *Row, p *Params, strict bool) *policy.Refusal {
	for _, m := range p.root.Members {
		if m.Key[0] == '_' || slices.Contains(metaParams, m.Key) {
			return malformed(m.Key, fmt.Sprintf("The parameter %q would replace the credential, account, version or method of the call; leave it out.", clip(m.Key)))
		}
	}
	if strict && row.Params == nil {
		strict = false // such a row is not interpreted: its calls are denied as unmeterable
	}
	c := canonicaliser{strict: strict, operation: row.Name}
	return c.hash(&p.root, row.Params, nil)
}

type canonicaliser struct {
	strict    bool
	operation policy.OperationName
}

// trail is the way to a node, for messages: written out only when one is needed.
type trail struct {
	up   *trail
	name string
}

func (t *trail) String() string {
	if t.up == nil {
		return t.name
	}
	return t.up.String() + "[" + t.name + "]"
}

// inMetadata reports whether the way leads through the agent's own keys.
func (t *trail) inMetadata() bool {
	for ; t != nil; t = t.up {
		if freeKeys(t.name) {
			return true
		}
	}
	return false
}

func (c *canonicaliser) hash(n *Node, spec *ParamSpec, up *trail) *policy.Refusal {
	for i := range n.Members {
		m := &n.Members[i]
		at := trail{up: up, name: m.Key}
		if n.Kind == Array {
			at.name = fmt.Sprint(i)
		}
		next, known := spec.member(n, m.Key)
		if !known && c.strict {
			return malformed(at.String(), fmt.Sprintf("%s does not take the parameter %q. On a call that moves money an unknown parameter is refused; check its name or leave it out.",
				c.operation, clip(at.String())))
		}
		if r := c.node(m.Value, next, &at); r != nil {
			return r
		}
	}
	return nil
}

// member returns the declaration below a hash or an array; known is false where the declaration has no such
// member. A nil declaration knows nothing and refuses nothing.
func (s *ParamSpec) member(n *Node, name string) (spec *ParamSpec, known bool) {
	switch {
	case s == nil:
		return nil, true
	case n.Kind == Array && s.Type.Has(ArrayType):
		return s.Element, true
	case s.Type.Has(MapType):
		return nil, true
	case n.Kind == Hash && s.Type.Has(HashType):
		next := s.Members[name]
		return next, next != nil
	}
	return nil, false
}

func (c *canonicaliser) node(n *Node, spec *ParamSpec, at *trail) *policy.Refusal {
	if r := cardData(n, at); r != nil {
		return r
	}
	if !n.Plain() {
		if n.Kind == Null {
			return nil
		}
		if c.strict && spec != nil && spec.Type&(HashType|ArrayType|MapType) == 0 {
			return malformed(at.String(), fmt.Sprintf("The parameter %q takes a single value.", clip(at.String())))
		}
		return c.hash(n, spec, at)
	}
	if at.name == "currency" {
		n.Text = strings.ToLower(n.Text)
	}
	if spec == nil || n.Text == "" {
		return nil // empty means unset
	}
	return c.plain(n, spec, at)
}

func (c *canonicaliser) plain(n *Node, spec *ParamSpec, at *trail) *policy.Refusal {
	const plainTypes = StringType | IntegerType | NumberType | BoolType
	takes := spec.Type & plainTypes
	wrong := ""
	switch {
	case takes == 0 && spec.Type != 0:
		wrong = "has members, like " + clip(at.String()) + "[name]=value"
	case takes == BoolType && (strings.EqualFold(n.Text, "true") || strings.EqualFold(n.Text, "false")):
		n.Text = strings.ToLower(n.Text)
	case takes == BoolType:
		wrong = "is true or false"
	case takes == IntegerType && !plainInteger(n.Text, 15):
		wrong = "is a whole number in plain digits"
	case takes&StringType == 0 && takes.Has(NumberType) && !decimal(n.Text):
		wrong = "is a number in plain digits"
	}
	if wrong != "" && c.strict {
		return malformed(at.String(), fmt.Sprintf("The parameter %q %s; it was sent as %q.", clip(at.String()), wrong, clip(n.Text)))
	}
	return nil
}

// plainInteger reports whether s is an integer as every reader reads it: an optional minus and at most the
// given number of digits, without a leading zero (which some take for octal).
func plainInteger(s string, digits int) bool {
	s = strings.TrimPrefix(s, "-")
	return allDigits(s) && len(s) <= digits && (s[0] != '0' || s == "0")
}

func decimal(s string) bool {
	whole, frac, point := strings.Cut(s, ".")
	return plainInteger(whole, 15) && (!point || allDigits(frac) && len(frac) <= 12)
}

// cardParents are hashes whose `number` is a card's.
var cardParents = []string{"card", "source", "default_card", "default_source", "external_account", "network_token", "card_present", "interac_present"}

// cardData refuses card numbers and security codes: an agent that has them would put them into our memory,
// and into the memory of everything on the way.
func cardData(n *Node, at *trail) *policy.Refusal {
	if !n.Plain() || n.Text == "" {
		return nil
	}
	bad := false
	switch at.name {
	case "cvc", "cvv", "cvc2", "cvv2":
		bad = !at.inMetadata()
	case "number":
		bad = at.up != nil && !at.inMetadata() && (slices.Contains(cardParents, at.up.name) || looksLikeCard(n.Text))
	}
	if !bad {
		return nil
	}
	return &policy.Refusal{Code: policy.CodeParamDenied, Param: at.String(),
		Message: fmt.Sprintf("The parameter %q is card data, which never passes through Keybrake; use a payment method or token made in the browser.", clip(at.String()))}
}

// looksLikeCard reports whether a text is 12 to 19 digits, apart from spaces and hyphens.
func looksLikeCard(s string) bool {
	digits := 0
	for i := range len(s) {
		switch c := s[i]; {
		case '0' <= c && c <= '9':
			digits++
		case c != ' ' && c != '-':
			return false
		}
	}
	return digits >= 12 && digits <= 19
}
