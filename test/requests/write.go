package requests

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/keybrake/keybrake/test/openapi"
)

// writer collects the parameters of one request.
type writer struct {
	// rule and ruled: what holds beyond the document, and whether it is heeded.
	rule  rule
	ruled bool
	full  bool
	unset bool
	// element is the number of the innermost array's element that is being written.
	element int
	pairs   []Pair
}

// value writes one value and reports whether it could: a hash without members cannot be said in a form.
func (w *writer) value(name string, s *openapi.Schema) bool {
	if w.ruled && w.rule.leavesOut(name) {
		return false
	}
	if len(s.AnyOf) > 0 {
		choices := slices.DeleteFunc(slices.Clone(s.AnyOf), unsets)
		if w.full {
			slices.SortStableFunc(choices, func(a, b *openapi.Schema) int { return leaves(b) - leaves(a) })
		}
		return slices.ContainsFunc(choices, func(c *openapi.Schema) bool { return w.value(name, c) })
	}
	switch {
	case s.Type == "array":
		return w.array(name, s)
	case isMap(s):
		return w.hash(name, s)
	case s.Type == "object":
		return w.members(name, s)
	}
	return w.put(name, w.plain(lastName(name), s))
}

func (w *writer) put(name, value string) bool {
	w.pairs = append(w.pairs, Pair{name, value})
	return true
}

// members writes a hash: what is required, in a full request all, and at least one.
func (w *writer) members(name string, s *openapi.Schema) bool {
	before := len(w.pairs)
	names := slices.Sorted(maps.Keys(s.Properties))
	for _, member := range names {
		wanted := slices.Contains(s.Required, member)
		full := join(name, member)
		switch {
		case full == "expand":
			continue
		case wanted || w.full || w.ruled && w.rule.adds(full):
		case w.unset && canBeUnset(s.Properties[member]) && !(w.ruled && w.rule.leavesOut(full)):
			w.put(full, "")
			continue
		default:
			continue
		}
		if !w.value(full, s.Properties[member]) && wanted {
			w.pairs = w.pairs[:before]
			return false
		}
	}
	if len(w.pairs) > before || name == "" {
		return true
	}
	return slices.ContainsFunc(names, func(member string) bool { return w.value(join(name, member), s.Properties[member]) })
}

// array writes one element, in a full request two that differ, so that their order can be seen.
func (w *writer) array(name string, s *openapi.Schema) bool {
	if !w.value(name+"[0]", s.Items) {
		return false
	}
	if outer := w.element; w.full {
		w.element = 1
		w.value(name+"[1]", s.Items)
		w.element = outer
	}
	return true
}

// hash writes a map with keys of the caller's choice.
func (w *writer) hash(name string, s *openapi.Schema) bool {
	var element openapi.Schema
	if json.Unmarshal(s.Additional, &element) != nil {
		return false
	}
	keys := []string{"eur"}
	if last := lastName(name); last == "metadata" || strings.HasSuffix(last, "_metadata") {
		keys = []string{"order", "Größe & co"}
	}
	if !w.full {
		keys = keys[:1]
	}
	written := false
	for _, k := range keys {
		written = w.value(name+"["+k+"]", &element) || written
	}
	return written
}

func join(name, member string) string {
	if name == "" {
		return member
	}
	return name + "[" + member + "]"
}

// lastName is the last name of "a[b][0]" that is not a number: b.
func lastName(name string) string {
	parts := strings.Split(strings.ReplaceAll(name, "]", ""), "[")
	for _, part := range slices.Backward(parts) {
		if _, err := strconv.Atoi(part); err != nil {
			return part
		}
	}
	return name
}

// unsets reports whether an alternative is the empty text that takes a value away.
func unsets(s *openapi.Schema) bool {
	return s.Type == "string" && len(s.Enum) == 1 && s.Enum[0] == ""
}

func canBeUnset(s *openapi.Schema) bool { return slices.ContainsFunc(s.AnyOf, unsets) }

func isMap(s *openapi.Schema) bool {
	return s.Type == "object" && len(s.Properties) == 0 && len(s.Additional) > 0 && s.Additional[0] == '{'
}

// leaves is how many values a full request can have there.
func leaves(s *openapi.Schema) int {
	switch {
	case len(s.AnyOf) > 0:
		most := 0
		for _, a := range s.AnyOf {
			most = max(most, leaves(a))
		}
		return most
	case s.Type == "array":
		return 2 * leaves(s.Items)
	case isMap(s):
		return 1
	case s.Type == "object":
		n := 0
		for _, p := range s.Properties {
			n += leaves(p)
		}
		return n
	}
	return 1
}
