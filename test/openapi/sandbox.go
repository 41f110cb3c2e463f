package openapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// SandboxParams writes what every operation takes at top level, for the sandbox: method, path, then name:type.
// Types: i integer, b boolean, s string, n number, o object, a array, r integer or range, x anything of several,
// e=a|b one of; "!" marks a required one.
func SandboxParams(d *Document) string {
	var out strings.Builder
	out.WriteString(header(d, "gentables: parameters"))
	d.Each(func(method, path string, op *Operation) {
		fmt.Fprintf(&out, "%s %s", method, path)
		all, required := op.Request(), op.Required()
		for _, name := range slices.Sorted(maps.Keys(all.Properties)) {
			fmt.Fprintf(&out, " %s:%s", name, sandboxType(all.Properties[name]))
			if slices.Contains(required, name) {
				out.WriteByte('!')
			}
		}
		out.WriteByte('\n')
	})
	return out.String()
}

// Required names the parameters that an operation cannot do without.
func (op *Operation) Required() []string {
	var names []string
	for _, p := range op.Parameters {
		if p.In == "query" && p.Required {
			names = append(names, p.Name)
		}
	}
	for _, c := range op.RequestBody.Content {
		names = append(names, c.Schema.Required...)
	}
	return names
}

func sandboxType(s *Schema) string {
	switch {
	case isRange(s):
		return "r"
	case len(s.AnyOf) > 0:
		return sandboxChoice(s.AnyOf)
	}
	switch s.Type {
	case "integer":
		return "i"
	case "boolean":
		return "b"
	case "number":
		return "n"
	case "array":
		return "a"
	case "object":
		return "o"
	}
	var values []string
	for _, v := range s.Enum {
		if text, _ := v.(string); text != "" {
			values = append(values, text)
		}
	}
	if len(values) == 0 {
		return "s"
	}
	slices.Sort(values)
	return "e=" + strings.Join(values, "|")
}

// sandboxChoice is the type of alternatives where they have one in common; "or empty to unset", which is no
// type, does not count beside a string.
func sandboxChoice(alternatives []*Schema) string {
	var types []string
	for _, a := range alternatives {
		t := sandboxType(a)
		if len(a.Enum) == 1 && a.Enum[0] == "" {
			t = "s"
		}
		if !slices.Contains(types, t) {
			types = append(types, t)
		}
	}
	if len(types) == 1 {
		return types[0]
	}
	return "x"
}

// isRange reports a filter such as created: an integer, or an object of gt, gte, lt and lte.
func isRange(s *Schema) bool {
	return slices.ContainsFunc(s.AnyOf, func(a *Schema) bool { return a.Properties["gte"] != nil }) &&
		slices.ContainsFunc(s.AnyOf, func(a *Schema) bool { return a.Type == "integer" })
}

// SandboxFields writes the field names of every object that names itself, as JSON: "!" marks those that are
// always there. What is left of a deleted object is merged into the object.
func SandboxFields(d *Document) (string, error) {
	fields := map[string]map[string]bool{} // object -> field -> always there
	for _, name := range slices.Sorted(maps.Keys(d.Components.Schemas)) {
		s := d.Components.Schemas[name]
		object := s.Properties["object"]
		if object == nil || len(object.Enum) != 1 {
			continue
		}
		kind, _ := object.Enum[0].(string)
		if fields[kind] == nil {
			fields[kind] = map[string]bool{}
		}
		for f := range s.Properties {
			always, known := fields[kind][f]
			fields[kind][f] = slices.Contains(s.Required, f) && (always || !known) && f != "deleted"
		}
	}
	fields["list"] = map[string]bool{"data": true, "has_more": true, "object": true, "url": true}
	fields["search_result"] = map[string]bool{"data": true, "has_more": true, "next_page": false, "object": true, "total_count": false, "url": true}
	var lines []string
	for _, kind := range slices.Sorted(maps.Keys(fields)) {
		var names []string
		for _, f := range slices.Sorted(maps.Keys(fields[kind])) {
			if fields[kind][f] {
				f += "!"
			}
			names = append(names, f)
		}
		text, err := json.Marshal(names)
		if err != nil {
			return "", fmt.Errorf("write the fields of %s: %w", kind, err)
		}
		lines = append(lines, fmt.Sprintf("  %q: %s", kind, text))
	}
	return "{\n" + strings.Join(lines, ",\n") + "\n}\n", nil
}
