package stripe

import (
	"slices"
	"strconv"
	"strings"

	"github.com/keybrake/keybrake/internal/policy"
)

// NodeKind is what a parameter's value is. Form bodies know Text, Hash and Array only.
type NodeKind uint8

// The kinds. The zero kind is text.
const (
	Text NodeKind = iota
	Number
	Bool
	Null
	Hash
	Array
)

// Node is one value of a parameter tree.
type Node struct {
	Kind NodeKind
	// Text is the value of Text, Number (as written) and Bool ("true", "false").
	Text string
	// Members of a Hash are sorted by key, without duplicates; those of an Array have no keys.
	Members []Member
}

// Member is one entry of a Hash or one element of an Array.
type Member struct {
	Key   string // empty in an Array
	Value *Node
}

// Plain reports whether the value is a single one: no hash, no array, not null.
func (n *Node) Plain() bool { return n.Kind <= Bool }

// Params is the tree of a call's parameters in canonical form: hash members sorted, array elements in
// order, every key once. It implements policy.ParamView. Reading is safe for concurrent use while nobody
// calls Set.
type Params struct {
	root Node // a Hash
	json bool // v2: encoded as JSON
}

var _ policy.ParamView = (*Params)(nil)

// Root returns the outermost hash. It must not be changed.
func (p *Params) Root() *Node { return &p.root }

// Empty reports whether there are no parameters at all.
func (p *Params) Empty() bool { return p == nil || len(p.root.Members) == 0 }

// Get returns the value at a field without array elements; nil if it is absent.
func (p *Params) Get(f Field) *Node {
	if p == nil {
		return nil
	}
	n := &p.root
	for _, name := range f {
		if n = n.child(name); n == nil {
			return nil
		}
	}
	return n
}

// All appends the values at a field to out, following "[]" through every element of an array.
func (p *Params) All(f Field, out []*Node) []*Node {
	if p == nil {
		return out
	}
	return p.root.all(f, out)
}

// Has reports whether there is anything at a field, in any element of an array on the way.
func (p *Params) Has(f Field) bool { return len(p.All(f, nil)) > 0 }

// Value reads a field for a Condition: a plain value, or present without one for a hash, array or null. Through
// an array ("[]") it tells the presence in any element, and the first value.
func (p *Params) Value(f Field) (value string, present bool) {
	if slices.Contains(f, anyElement) {
		all := p.All(f, nil)
		if len(all) == 0 {
			return "", false
		}
		return all[0].Text, true
	}
	n := p.Get(f)
	if n == nil {
		return "", false
	}
	return n.Text, true
}

// Set writes a plain value at a field, as text in a form and as it is kept in JSON if the kind there is
// known, making hashes on the way. It is for pinning: the caller owns the call.
func (p *Params) Set(f Field, value string) {
	kind := Text
	if p.json && allDigits(value) {
		kind = Number
	}
	p.put(f, &Node{Kind: kind, Text: value})
}

// put hangs a node in at a field, making hashes on the way.
func (p *Params) put(f Field, v *Node) {
	n := &p.root
	for _, name := range f[:len(f)-1] {
		next := n.child(name)
		if next == nil || next.Kind != Hash {
			next = &Node{Kind: Hash}
			n.put(name, next)
		}
		n = next
	}
	n.put(f[len(f)-1], v)
}

// Lookup implements policy.ParamView: path is written as agents send it, "metadata[order]". A path that
// ends at an array, or has "[]" in it, returns the values of all elements.
func (p *Params) Lookup(path string) (values []string, ok bool) {
	if p == nil {
		return nil, false
	}
	for _, n := range p.root.all(splitPath(path), nil) {
		ok = true
		values = n.plainValues(values)
	}
	return values, ok
}

// Names implements policy.ParamView.
func (p *Params) Names() []string {
	if p.Empty() {
		return nil
	}
	return p.root.names("", make([]string, 0, len(p.root.Members)))
}

// names appends the paths of everything below that has no further members.
func (n *Node) names(path string, out []string) []string {
	for _, m := range n.Members {
		name := m.Key
		if path != "" {
			name = path + "[" + m.Key + "]"
		}
		if len(m.Value.Members) > 0 {
			out = m.Value.names(name, out)
		} else if !slices.Contains(out, name) { // the elements of an array are one
			out = append(out, name)
		}
	}
	return out
}

// splitPath turns "a[b][]" into its parts. A path that is not well formed matches nothing.
func splitPath(path string) Field {
	name, rest, nested := strings.Cut(path, "[")
	f := Field{name}
	if !nested {
		return f
	}
	for part := range strings.SplitSeq(strings.TrimSuffix(rest, "]"), "][") {
		if part == "" {
			part = anyElement
		}
		f = append(f, part)
	}
	return f
}

func (n *Node) child(name string) *Node {
	switch n.Kind {
	case Hash:
		if i, ok := n.find(name); ok {
			return n.Members[i].Value
		}
	case Array:
		if i, err := strconv.Atoi(name); err == nil && i >= 0 && i < len(n.Members) {
			return n.Members[i].Value
		}
	}
	return nil
}

func (n *Node) find(name string) (int, bool) {
	return slices.BinarySearchFunc(n.Members, name, func(m Member, k string) int { return strings.Compare(m.Key, k) })
}

func (n *Node) put(name string, v *Node) {
	i, ok := n.find(name)
	if ok {
		n.Members[i].Value = v
		return
	}
	n.Members = slices.Insert(n.Members, i, Member{Key: name, Value: v})
}

func (n *Node) all(f Field, out []*Node) []*Node {
	if len(f) == 0 {
		return append(out, n)
	}
	if f[0] == anyElement {
		// A hash where an array belongs is followed too: what Stripe would make of it is not relied on.
		for _, m := range n.Members {
			out = m.Value.all(f[1:], out)
		}
		return out
	}
	if c := n.child(f[0]); c != nil {
		return c.all(f[1:], out)
	}
	return out
}

// plainValues appends the value, or those of an array's elements. A hash has none: rules on it are written
// for its members.
func (n *Node) plainValues(out []string) []string {
	switch {
	case n.Plain():
		return append(out, n.Text)
	case n.Kind == Array:
		for _, m := range n.Members {
			out = m.Value.plainValues(out)
		}
	}
	return out
}

func allDigits(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != ""
}
