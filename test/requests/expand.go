package requests

import (
	"slices"
	"strings"

	"github.com/keybrake/keybrake/test/openapi"
)

// step is one field that can be expanded, with the object behind it.
type step struct {
	path string
	to   *openapi.Schema
}

// steps lists the expandable fields of an answer, sorted by name; those of a list's elements are below "data".
func steps(d *openapi.Document, s *openapi.Schema) []step {
	var out []step
	for _, s := range d.Alternatives(s) {
		s = d.Resolve(s)
		for _, name := range s.Expandable {
			if strings.Contains(name, ".") || slices.ContainsFunc(out, func(o step) bool { return o.path == name }) {
				continue
			}
			field := s.Properties[name]
			if field != nil && field.Expansion != nil {
				out = append(out, step{name, field.Expansion.OneOf[0]})
			}
		}
		if list := s.Properties["data"]; list != nil && list.Items != nil {
			for _, inner := range steps(d, list.Items) {
				out = append(out, step{"data." + inner.path, inner.to})
			}
		}
	}
	slices.SortFunc(out, func(a, b step) int { return strings.Compare(a.path, b.path) })
	return out
}
