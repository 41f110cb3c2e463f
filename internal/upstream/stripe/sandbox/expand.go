package sandbox

import (
	_ "embed"
	"fmt"
	"strings"
	"sync"
)

// maxExpandDepth is Stripe's limit on the levels of one expand path.
const maxExpandDepth = 4

// expansion is the tree of what a caller asked to have expanded.
type expansion struct {
	names []string
	subs  []*expansion
}

func (x *expansion) child(name string) *expansion {
	if x == nil {
		return nil
	}
	for i, n := range x.names {
		if n == name {
			return x.subs[i]
		}
	}
	return nil
}

func (x *expansion) add(path []string) {
	for _, name := range path {
		next := x.child(name)
		if next == nil {
			next = &expansion{}
			x.names = append(x.names, name)
			x.subs = append(x.subs, next)
		}
		x = next
	}
}

// kind names an object type for expansion by its component in Stripe's OpenAPI
// document, or kindAny where the type is open, with a "list:" prefix for lists.
type kind string

const (
	kindAny  kind = "any"
	listOf        = "list:"
	kindNone kind = ""
)

// expandTable has a line for each component: which of its fields may be
// expanded, and into what. Asking for what the sandbox leaves null is no error,
// nor is it at Stripe.
//
//go:embed expand.txt
var expandTable string

// loadExpand parses the table once.
var loadExpand = sync.OnceValue(func() map[kind]map[string][]kind {
	all := map[kind]map[string][]kind{}
	eachLine(expandTable, func(component, rest string) {
		fields := map[string][]kind{}
		for _, f := range strings.Fields(rest) {
			name, targets, _ := strings.Cut(f, ">")
			for _, k := range strings.Split(targets, "|") {
				fields[name] = append(fields[name], kind(k))
			}
		}
		all[kind(component)] = fields
	})
	// The document does not call these expandable, but only expanding shows them.
	all["issuing.card"]["number"], all["issuing.card"]["cvc"] = []kind{kindAny}, []kind{kindAny}
	return all
})

// element is the kind of what is in a list; other kinds are their own.
func (k kind) element() kind {
	inner, _ := strings.CutPrefix(string(k), listOf)
	return kind(inner)
}

// parseExpand turns expand[] into a tree and checks each path against what the
// answer will be.
func (s *account) parseExpand(n *node, answer kind, who *credential, write bool) (*expansion, *stripeError) {
	if n.blank() {
		return nil, nil
	}
	items, ok := n.items()
	if !ok {
		return nil, errInvalid("expand", "", "Invalid array")
	}
	root := &expansion{}
	for _, item := range items {
		path := strings.Split(item.text(), ".")
		if len(path) > maxExpandDepth {
			return nil, errInvalid("expand", "", fmt.Sprintf(
				"You cannot expand more than %d levels of a property. Property: %s", maxExpandDepth, item.text()))
		}
		at := []kind{answer}
		for _, name := range path {
			if at = step(at, name); len(at) == 0 {
				return nil, errInvalid("expand", "", "This property cannot be expanded ("+item.text()+").")
			}
			// Before anything runs: a write must not happen and then fail on its answer.
			for _, k := range at {
				if resource := s.scopes[k.element()]; resource != "" && (write || len(at) == 1) && !who.may(resource, Read) {
					return nil, errPermission(s, who, resource, Read)
				}
			}
		}
		root.add(path)
	}
	return root, nil
}

// step is what lies behind a field of any of these kinds: nothing where it cannot
// be expanded.
func step(at []kind, name string) []kind {
	var behind []kind
	for _, k := range at {
		inner, list := strings.CutPrefix(string(k), listOf)
		switch {
		case k == kindAny:
			behind = append(behind, kindAny)
		case list && name == "data":
			behind = append(behind, kind(inner))
		case !list:
			behind = append(behind, loadExpand()[k][name]...)
		}
	}
	return behind
}
