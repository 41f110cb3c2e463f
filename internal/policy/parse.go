package policy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds of a policy file. The YAML parser needs quadratic time for nesting and for keys, so a file that is
// far larger than any policy is refused before it is parsed.
const (
	maxPolicyBytes     = 1 << 20 // some fifty thousand customers
	maxPolicyStructure = 5_000   // brackets, braces and colons
)

// Parse reads a policy file. file is the name used in messages. The policy is checked against the
// vocabulary as a whole; everything that is wrong with it is in one *ParseError. A policy that is refused
// is nil.
func Parse(file string, src []byte, voc *Vocabulary) (*Policy, []Warning, error) {
	return ParseEdited(file, src, voc, Edit{})
}

// ParseEdited is Parse with changes from flags, made before the policy is checked as a whole: a file
// without a cap is good if a flag adds it.
func ParseEdited(file string, src []byte, voc *Vocabulary, edit Edit) (*Policy, []Warning, error) {
	r := &reader{voc: voc, policy: &Policy{Timezone: time.UTC}, at: map[string]place{}, refused: map[string]bool{}}
	if root := r.document(src); root != nil {
		r.root(root)
		r.edited(edit)
		r.whole()
	}
	if len(r.problems) > 0 {
		slices.SortStableFunc(r.problems, func(a, b Problem) int {
			return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
		})
		return nil, nil, &ParseError{File: file, Problems: r.problems}
	}
	r.warn()
	return r.policy, r.warnings, nil
}

// edited makes the changes from flags and checks in them what a file's fields are checked for.
func (r *reader) edited(edit Edit) {
	r.policy = edit.Apply(r.policy)
	if edit.Customers != nil {
		r.at["customers"] = place{}
	}
	for _, c := range edit.Caps {
		r.resource("cap "+c.name(), string(c.Resource), place{})
	}
	for field, label := range map[string]string{"name": edit.Name, "upstream": edit.Upstream} {
		if why := labelProblem(label); label != "" && why != "" {
			r.problem(place{}, field, "%s", why)
		}
	}
}

// place is a position in the file.
type place struct{ line, column int }

func placeOf(n ast.Node) place {
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		return placeOfToken(m.Values[0].Key.GetToken()) // a block mapping's own token is its first colon
	}
	return placeOfToken(n.GetToken())
}

func placeOfToken(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{}
	}
	return place{t.Position.Line, t.Position.Column}
}

// reader collects a policy and everything that is wrong with it.
type reader struct {
	voc      *Vocabulary
	policy   *Policy
	at       map[string]place // of every field that was given, for problems found later
	problems []Problem
	// refused are the fields that were given in a form that was not read (misspelt, say): nobody is told that they
	// are missing as well. halfCaps are the caps of which that is so.
	refused  map[string]bool
	halfCaps []Cap
	warnings []Warning
}

func (r *reader) problem(at place, field, format string, args ...any) {
	r.problems = append(r.problems, Problem{at.line, at.column, field, field + ": " + fmt.Sprintf(format, args...)})
}

// document parses the bytes into the root mapping, or reports why not.
func (r *reader) document(src []byte) *ast.MappingNode {
	structure := 0
	for _, c := range src {
		if strings.IndexByte("[{:", c) >= 0 {
			structure++
		}
	}
	switch {
	case len(src) > maxPolicyBytes:
		r.problem(place{}, "policy", "the file has %d bytes; at most %d are read", len(src), maxPolicyBytes)
		return nil
	case structure > maxPolicyStructure:
		r.problem(place{}, "policy", "the file has more than %d fields and brackets; no policy needs them", maxPolicyStructure)
		return nil
	case !utf8.Valid(src):
		r.problem(place{}, "policy", "the file is not UTF-8 text")
		return nil
	}
	file, err := parser.ParseBytes(src, 0, parser.AllowDuplicateMapKey()) // duplicates are reported by mapping
	if err != nil {
		var syntax *yaml.SyntaxError
		if errors.As(err, &syntax) {
			r.problem(placeOfToken(syntax.Token), "policy", "not YAML: %s", syntax.Message)
		} else {
			r.problem(place{}, "policy", "not YAML: %v", err)
		}
		return nil
	}
	if len(file.Docs) != 1 {
		r.problem(place{}, "policy", "the file holds %d documents; write one policy per file", len(file.Docs))
		return nil
	}
	switch root := file.Docs[0].Body.(type) {
	case nil:
		r.problem(place{}, "policy", "the file is empty; a policy needs at least `scopes`")
	case *ast.MappingNode:
		return root
	default:
		r.problem(placeOf(root), "policy", "write fields, like `scopes: {charges: read}`")
	}
	return nil
}

// fields are all fields of a policy, with what reads them.
var fields = map[string]func(r *reader, field string, n ast.Node){
	"name":                 func(r *reader, f string, n ast.Node) { r.label(f, n, &r.policy.Name) },
	"upstream":             func(r *reader, f string, n ast.Node) { r.label(f, n, &r.policy.Upstream) },
	"scopes":               (*reader).scopes,
	"caps":                 (*reader).caps,
	"uncapped":             func(r *reader, f string, n ast.Node) { r.boolean(f, n, &r.policy.Uncapped) },
	"customers":            (*reader).customers,
	"may_create_customers": func(r *reader, f string, n ast.Node) { r.boolean(f, n, &r.policy.MayCreate) },
	"no_customer":          func(r *reader, f string, n ast.Node) { r.operations(f, n, &r.policy.NoCustomer) },
	"accounts":             (*reader).accounts,
	"params":               (*reader).params,
	"unmetered":            func(r *reader, f string, n ast.Node) { r.operations(f, n, &r.policy.Unmetered) },
	"client_secrets":       func(r *reader, f string, n ast.Node) { r.choice(f, n, &r.policy.ClientSecrets, "withhold", "allow") },
	"repeat_unknown":       func(r *reader, f string, n ast.Node) { r.choice(f, n, &r.policy.RepeatUnknown, "refuse", "allow") },
	"network":              (*reader).network,
	"expires":              func(*reader, string, ast.Node) {}, // read last: a date needs the time zone
	"rotate_every":         (*reader).rotateEvery,
	"timezone":             (*reader).timezone,
	"enforcement":          (*reader).enforcement,
}

func (r *reader) root(root *ast.MappingNode) {
	names := slices.Sorted(maps.Keys(fields))
	var expires ast.Node
	for _, e := range r.entries("policy", root) {
		read, ok := fields[e.key]
		if !ok {
			near, meant := nearest(e.key, names)
			r.problem(e.at, e.key, "no such field%s", didYouMean(near, meant))
			if meant {
				r.refused[near] = true
			}
			continue
		}
		r.at[e.key] = e.at
		if e.key == "expires" {
			expires = e.value
		}
		read(r, e.key, e.value)
	}
	if expires != nil {
		r.expiry("expires", expires)
	}
}

// didYouMean ends a message about an unknown name.
func didYouMean[S ~string](near S, ok bool) string {
	if !ok {
		return ""
	}
	return "; did you mean `" + string(near) + "`?"
}

// entry is one field of a mapping.
type entry struct {
	key   string
	at    place // of the key
	value ast.Node
}

// entries reads a mapping with plain keys, each once.
func (r *reader) entries(field string, n ast.Node) []entry {
	m, ok := n.(*ast.MappingNode)
	if !ok {
		r.problem(placeOf(n), field, "write a mapping, like {key: value}%s", plainOnly(n))
		return nil
	}
	out := make([]entry, 0, len(m.Values))
	seen := map[string]place{}
	for _, v := range m.Values {
		at := placeOf(v.Key)
		key, ok := plain(v.Key)
		if !ok {
			r.problem(at, field, "write a plain name as key%s", plainOnly(v.Key))
			continue
		}
		if first, twice := seen[key]; twice {
			r.problem(at, key, "given twice, first on line %d; leave one", first.line)
			continue
		}
		seen[key] = at
		out = append(out, entry{key, at, v.Value})
	}
	return out
}

// items reads a sequence.
func (r *reader) items(field string, n ast.Node) ([]ast.Node, bool) {
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		r.problem(placeOf(n), field, "write a list, like [a, b]%s", plainOnly(n))
		return nil, false
	}
	return s.Values, true
}

// plain returns the text of a scalar as it is written; quoted text without its quotes. Null, anchors, tags
// and block text are none.
func plain(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	case *ast.BoolNode:
		return strings.ToLower(n.GetToken().Value), true
	}
	return "", false
}

func plainOnly(n ast.Node) string {
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		return "; anchors, aliases, merges and tags are not read, so that a policy says what it says where it stands"
	}
	return ""
}

// text reads a scalar, or reports it missing.
func (r *reader) text(field string, n ast.Node) (string, bool) {
	s, ok := plain(n)
	if !ok {
		r.problem(placeOf(n), field, "write one plain value%s", plainOnly(n))
	}
	return s, ok
}
