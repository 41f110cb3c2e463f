package openapi

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// minShared is how long a description must be before it gets a line of its own to be shared.
const minShared = 48

// ParamTable writes what every operation takes, one line each: method, path and a description in the
// letters s(tring) i(nteger) n(umber) b(oolean) m(ap) [element] {name:type ...}; alternatives stand side by
// side. Descriptions that recur are written once, as "#7 {...}", and named by "#7".
func ParamTable(d *Document) string {
	w := paramWriter{uses: map[string]int{}, ids: map[string]int{}}
	d.Each(func(_, _ string, op *Operation) { w.count(op.Request()) })
	var lines strings.Builder
	d.Each(func(method, path string, op *Operation) {
		fmt.Fprintf(&lines, "%s %s %s\n", method, path, w.write(op.Request(), true))
	})
	return header(d, "gentables: parameters") + w.defs.String() + lines.String()
}

func header(d *Document, what string) string {
	return fmt.Sprintf("# %s, from the OpenAPI document %s (stripe-mock v0.203.0). Generated: do not edit.\n", what, d.Info.Version)
}

type paramWriter struct {
	uses map[string]int
	ids  map[string]int
	defs strings.Builder
}

// form is a schema with its alternatives merged.
type form struct {
	letters  string
	elements *Schema
	members  map[string]*Schema
}

func merge(s *Schema) form {
	var f form
	var add func(*Schema)
	add = func(s *Schema) {
		for _, a := range s.AnyOf {
			add(a)
		}
		if s.Type == "string" && len(s.Enum) == 1 && s.Enum[0] == "" {
			return // "or empty to unset", which every parameter takes
		}
		switch s.Type {
		case "string", "integer", "number", "boolean":
			f.letters += s.Type[:1]
		case "array":
			f.elements = either(f.elements, s.Items)
		case "object":
			if len(s.Properties) == 0 && len(s.Additional) > 0 && string(s.Additional) != "false" {
				f.letters += "m"
				return
			}
			if f.members == nil {
				f.members = map[string]*Schema{}
			}
			for name, member := range s.Properties {
				f.members[name] = either(f.members[name], member)
			}
		}
	}
	add(s)
	letters := []byte(f.letters)
	slices.Sort(letters)
	f.letters = string(slices.Compact(letters))
	return f
}

// either is what two alternatives of the same name take; nil stands for none.
func either(a, b *Schema) *Schema {
	if a == nil {
		return b
	}
	return &Schema{AnyOf: []*Schema{a, b}}
}

// plain writes a schema without sharing: the key under which equal ones are found.
func plain(s *Schema) string {
	f := merge(s)
	out := f.letters
	if f.elements != nil {
		out += "[" + plain(f.elements) + "]"
	}
	if f.members != nil {
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(f.members)) {
			parts = append(parts, name+":"+plain(f.members[name]))
		}
		out += "{" + strings.Join(parts, " ") + "}"
	}
	return out
}

func (w *paramWriter) count(s *Schema) {
	key := plain(s)
	if w.uses[key]++; w.uses[key] > 1 {
		return
	}
	f := merge(s)
	if f.elements != nil {
		w.count(f.elements)
	}
	for _, m := range f.members {
		w.count(m)
	}
}

func (w *paramWriter) write(s *Schema, top bool) string {
	key := plain(s)
	shared := !top && w.uses[key] > 1 && len(key) >= minShared
	if id, ok := w.ids[key]; ok && shared {
		return fmt.Sprintf("#%d", id)
	}
	f := merge(s)
	out := f.letters
	if f.elements != nil {
		out += "[" + w.write(f.elements, false) + "]"
	}
	if f.members != nil {
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(f.members)) {
			parts = append(parts, name+":"+w.write(f.members[name], false))
		}
		out += "{" + strings.Join(parts, " ") + "}"
	}
	if !shared {
		return out
	}
	id := len(w.ids) + 1
	w.ids[key] = id
	fmt.Fprintf(&w.defs, "#%d %s\n", id, out)
	return fmt.Sprintf("#%d", id)
}
