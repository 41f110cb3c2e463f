package openapi

import (
	"fmt"
	"slices"
	"strings"
)

// ExpandTable writes what `expand` can reach. A node's line is its name and its fields, each as
// field>target|target. "+x" is an object that expanding opens (its scope is needed), "!x" one that is opened
// inside a list, and a bare target a node that is passed through. An operation's line is method, path and
// root nodes.
func ExpandTable(d *Document) string {
	w := expandWriter{doc: d, names: map[string]string{}}
	var lines strings.Builder
	d.Each(func(method, path string, op *Operation) {
		if _, ok := op.Request().Properties["expand"]; !ok || op.Answer() == nil {
			return
		}
		var roots []string
		for _, s := range d.Alternatives(op.Answer()) {
			if node := w.node(s); node != "" {
				roots = append(roots, node)
			}
		}
		if len(roots) > 0 {
			fmt.Fprintf(&lines, "%s %s %s\n", method, path, strings.Join(roots, "|"))
		}
	})
	return header(d, "gentables: expansions") + w.defs.String() + lines.String()
}

type expandWriter struct {
	doc   *Document
	names map[string]string // an inline schema's text, or a component's name -> node
	defs  strings.Builder
	seen  int
}

// Alternatives lists what a schema may be, each a reference or an inline schema: also those of a component that
// is nothing but alternatives (a payment source).
func (d *Document) Alternatives(s *Schema) []*Schema {
	either := s.AnyOf
	if s.Ref != "" {
		either = d.Resolve(s).AnyOf
	}
	if len(either) == 0 {
		return []*Schema{s}
	}
	var out []*Schema
	for _, a := range either {
		out = append(out, d.Alternatives(a)...)
	}
	return out
}

// node writes the line of a schema with expandable fields and returns its name; "" if it has none.
func (w *expandWriter) node(s *Schema) string {
	if name := Name(s); name != "" {
		if node, ok := w.names[name]; ok {
			return node
		}
		c := w.doc.Components.Schemas[name]
		if len(c.Expandable) == 0 {
			w.names[name] = ""
			return ""
		}
		w.names[name] = name
		w.define(name, w.fields(c))
		return name
	}
	if len(s.Expandable) == 0 {
		return ""
	}
	text := w.fields(s)
	if node, ok := w.names[text]; ok {
		return node
	}
	w.seen++
	node := fmt.Sprintf("@%d", w.seen)
	w.names[text] = node
	w.define(node, text)
	return node
}

func (w *expandWriter) define(node, fields string) { fmt.Fprintf(&w.defs, "%s = %s\n", node, fields) }

func (w *expandWriter) fields(s *Schema) string {
	var out []string
	for _, name := range slices.Sorted(slices.Values(s.Expandable)) {
		field := name
		if p := s.Properties[name]; p != nil {
			if targets := w.targets(p); len(targets) > 0 {
				field += ">" + strings.Join(targets, "|")
			}
		}
		out = append(out, field)
	}
	return strings.Join(out, " ")
}

// targets lists what lies behind a property: opened objects with a plus, embedded ones without.
func (w *expandWriter) targets(p *Schema) []string {
	var out []string
	if p.Expansion != nil {
		for _, s := range p.Expansion.OneOf {
			w.node(s)
			out = append(out, "+"+Name(s))
		}
		return out
	}
	if p.Items != nil {
		return w.targets(p.Items)
	}
	for _, s := range w.doc.Alternatives(p) {
		if list := s.Properties["data"]; list != nil && list.Items != nil {
			// A list that is left out unless it is asked for shows the objects in it.
			for _, item := range w.doc.Alternatives(list.Items) {
				if Name(item) != "" {
					out = append(out, "!"+Name(item))
				}
			}
		}
		if node := w.node(s); node != "" {
			out = append(out, node)
		}
	}
	return out
}
