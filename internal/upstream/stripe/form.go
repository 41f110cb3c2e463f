package stripe

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/keybrake/keybrake/internal/policy"
)

// parseForm reads a form or a query strictly. Stripe's own reader (classic Rack) takes many spellings for
// the same parameter; here every spelling that another reader could take for something else is refused.
func parseForm(raw string) (*Params, *policy.Refusal) {
	p := &Params{root: Node{Kind: Hash}}
	if raw == "" {
		return p, nil
	}
	if r := checkFormBytes(raw); r != nil {
		return nil, r
	}
	count := 0
	for pair := range strings.SplitSeq(raw, "&") {
		if count++; count > maxParams {
			return nil, malformed("", fmt.Sprintf("The request has more than %d parameters.", maxParams))
		}
		if r := p.addPair(pair); r != nil {
			return nil, r
		}
	}
	if r := p.root.finish("", false); r != nil {
		return nil, r
	}
	return p, nil
}

func checkFormBytes(raw string) *policy.Refusal {
	for i := range len(raw) {
		switch c := raw[i]; {
		case c == ';':
			return malformed("", "The parameters have a bare semicolon, which some servers take for a separator; write it as %3B.")
		case c <= 0x20 || c >= 0x7f:
			return malformed("", "The parameters have a space, a control character or one outside ASCII; write it in percent codes.")
		}
	}
	return nil
}

func (p *Params) addPair(pair string) *policy.Refusal {
	rawKey, rawValue, ok := strings.Cut(pair, "=")
	if !ok {
		if pair == "" {
			return malformed("", "The parameters have an empty entry (two & in a row, or one at an end).")
		}
		return malformed(pair, fmt.Sprintf("The parameter %q has no value; write %s= to unset it.", clip(pair), clip(pair)))
	}
	if len(rawKey) > maxKey {
		return malformed("", fmt.Sprintf("A parameter's name is longer than %d bytes.", maxKey))
	}
	key, ok := percentDecode(rawKey, true)
	if !ok {
		return malformed(rawKey, fmt.Sprintf("The parameter name %q has a broken percent code.", clip(rawKey)))
	}
	value, ok := percentDecode(rawValue, true)
	if !ok {
		return malformed(key, fmt.Sprintf("The value of %q has a broken percent code.", clip(key)))
	}
	if r := checkValue(key, value); r != nil {
		return r
	}
	var space [maxDepth + 1]string
	parts, r := splitKey(key, space[:0])
	if r != nil {
		return r
	}
	return p.root.insert(key, parts, value)
}

// checkValue refuses values that no Stripe parameter has and that readers treat differently.
func checkValue(key, value string) *policy.Refusal {
	if len(value) > maxValue {
		return malformed(key, fmt.Sprintf("The value of %q is longer than %d bytes.", clip(key), maxValue))
	}
	if !utf8.ValidString(value) {
		return malformed(key, fmt.Sprintf("The value of %q is not UTF-8.", clip(key)))
	}
	for i := range len(value) {
		if c := value[i]; c < 0x20 && c != '\n' && c != '\r' && c != '\t' || c == 0x7f {
			return malformed(key, fmt.Sprintf("The value of %q has a control character.", clip(key)))
		}
	}
	return nil
}

// splitKey takes "a[b][0][]" apart. The brackets must stand exactly so: Rack would also take "[a]", "a]" or
// "a[b]c" for something.
func splitKey(key string, parts []string) ([]string, *policy.Refusal) {
	name, rest := key, ""
	if i := strings.IndexByte(key, '['); i >= 0 {
		name, rest = key[:i], key[i:]
	}
	if !plainName(name, false) || allDigits(name) { // a number would be an element of no list
		return nil, malformed(key, fmt.Sprintf("%q is not a parameter name; names are written like amount or transfer_data[amount].", clip(key)))
	}
	parts = append(parts, name)
	free := freeKeys(name)
	for rest != "" {
		end := strings.IndexByte(rest, ']')
		if rest[0] != '[' || end < 0 {
			return nil, malformed(key, fmt.Sprintf("The brackets of %q do not close; names are written like transfer_data[amount].", clip(key)))
		}
		part := rest[1:end]
		rest = rest[end+1:]
		if part == "" && rest != "" {
			return nil, malformed(key, fmt.Sprintf("%q leaves open which element is meant; number the elements, like items[0][price].", clip(key)))
		}
		if part == "" {
			part = anyElement
		} else if !plainName(part, free) {
			return nil, malformed(key, fmt.Sprintf("%q has %q in brackets, which is not a name.", clip(key), clip(part)))
		}
		free = freeKeys(part)
		if parts = append(parts, part); len(parts) > maxDepth {
			return nil, malformed(key, fmt.Sprintf("A parameter is nested deeper than %d levels.", maxDepth))
		}
	}
	return parts, nil
}

// freeKeys reports whether a hash's keys are the agent's own text.
func freeKeys(name string) bool { return name == "metadata" || strings.HasSuffix(name, "_metadata") }

// plainName reports whether a name is one that Stripe could have declared; free allows any text that has no
// brackets and no control characters.
func plainName(s string, free bool) bool {
	if s == "" || !utf8.ValidString(s) {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if free && c >= 0x20 && c != 0x7f && c != '[' && c != ']' {
			continue
		}
		if !unreserved(c) || c == '~' {
			return false
		}
	}
	return true
}

// insert puts a value into the tree that is being read. Numbered elements are kept under their numbers until
// finish.
func (n *Node) insert(key string, parts []string, value string) *policy.Refusal {
	for i, part := range parts {
		last := i == len(parts)-1
		if part == anyElement {
			n.Members = append(n.Members, Member{Value: &Node{Text: value}})
			return nil
		}
		at, found := n.find(part)
		if last && found {
			return malformed(key, fmt.Sprintf("The parameter %q is there twice; Stripe would take the last, others the first.", clip(key)))
		}
		if last {
			n.Members = slices.Insert(n.Members, at, Member{Key: part, Value: &Node{Text: value}})
			return nil
		}
		kind := Hash
		if parts[i+1] == anyElement {
			kind = Array
		}
		if !found {
			n.Members = slices.Insert(n.Members, at, Member{Key: part, Value: &Node{Kind: kind}})
		} else if old := n.Members[at].Value.Kind; old != kind {
			return malformed(key, fmt.Sprintf("The parameter %q is given in two forms (a value, named members or a list).", clip(key)))
		}
		n = n.Members[at].Value
	}
	return nil
}

// finish turns hashes with the keys 0, 1, 2 ... into arrays. Gaps, leading zeros and numbers beside names
// are refused, but under free keys, where a number is a name.
func (n *Node) finish(name string, free bool) *policy.Refusal {
	for _, m := range n.Members {
		if r := m.Value.finish(m.Key, free || freeKeys(m.Key)); r != nil {
			return r
		}
	}
	if n.Kind != Hash {
		return nil
	}
	numbers := 0
	for _, m := range n.Members {
		if allDigits(m.Key) {
			numbers++
		}
	}
	if numbers == 0 {
		return nil
	}
	if array := n.elements(); array != nil {
		n.Kind, n.Members = Array, array
		return nil
	}
	if free {
		return nil
	}
	return malformed(name, fmt.Sprintf("The elements of %q must be numbered 0, 1, 2 and so on, without gaps.", clip(name)))
}

// elements returns the members in the order of their numbers, or nil if those are not exactly 0 to n-1.
func (n *Node) elements() []Member {
	array := make([]Member, len(n.Members))
	for _, m := range n.Members {
		i, err := strconv.Atoi(m.Key)
		if err != nil || i < 0 || i >= len(array) || strconv.Itoa(i) != m.Key || array[i].Value != nil {
			return nil
		}
		array[i].Value = m.Value
	}
	return array
}

// percentDecode decodes percent codes once; plus also turns + into a space. Text without either is returned as it
// is, without a copy.
func percentDecode(s string, plus bool) (string, bool) {
	i := 0
	for i < len(s) && s[i] != '%' && (!plus || s[i] != '+') {
		i++
	}
	if i == len(s) {
		return s, true
	}
	out := make([]byte, i, len(s))
	copy(out, s)
	for ; i < len(s); i++ {
		switch c := s[i]; {
		case c == '%':
			if i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2]) {
				return "", false
			}
			out = append(out, fromHex(s[i+1])<<4|fromHex(s[i+2]))
			i += 2
		case c == '+' && plus:
			out = append(out, ' ')
		default:
			out = append(out, c)
		}
	}
	return string(out), true
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func fromHex(c byte) byte {
	switch {
	case c >= 'a':
		return c - 'a' + 10
	case c >= 'A':
		return c - 'A' + 10
	default:
		return c - '0'
	}
}
