package openapi

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The sandbox of internal/upstream/stripe is a witness of its own, so its tables are written by code of their
// own. A type is its alternatives, one after the other: s(tring) i(nteger) n(umber) b(oolean) m(ap of anything),
// (one|of|these), [elements], {members}, @component, and _ for "may be empty" (a request) or null (an answer).
// A member that must be there has a "!" behind its name.

// SandboxParams writes what every operation takes, one line each. Types that recur are written once, as
// "#7 {...}", and named by "#7".
func SandboxParams(d *Document) string {
	w := typeWriter{uses: map[string]int{}, ids: map[string]int{}}
	d.Each(func(_, _ string, op *Operation) { w.count(op.Request()) })
	var lines strings.Builder
	d.Each(func(method, path string, op *Operation) {
		takes := "{}"
		if r := op.Request(); len(r.Properties) > 0 {
			takes = w.text(r)
		}
		fmt.Fprintf(&lines, "%s %s %s\n", method, path, takes)
	})
	return header(d, "gentables: parameters") + w.defs.String() + lines.String()
}

// SandboxShapes writes what every operation answers: a line for each component that an answer can hold, then
// one for each operation.
func SandboxShapes(d *Document) string {
	w := typeWriter{}
	var lines strings.Builder
	reached := map[string]string{}
	d.Each(func(method, path string, op *Operation) {
		if s := op.Answer(); s != nil {
			fmt.Fprintf(&lines, "%s %s %s\n", method, path, w.text(s))
			d.reach(s, &w, reached)
		}
	})
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(reached)) {
		fmt.Fprintf(&out, "@%s %s\n", name, reached[name])
	}
	return header(d, "gentables: answers") + out.String() + lines.String()
}

// reach writes the components behind a schema into reached.
func (d *Document) reach(s *Schema, w *typeWriter, reached map[string]string) {
	if s.Ref != "" {
		name := Name(s)
		if _, done := reached[name]; done {
			return
		}
		reached[name] = ""
		c := d.Resolve(s)
		reached[name] = w.text(c)
		d.reach(c, w, reached)
		return
	}
	for _, a := range s.AnyOf {
		d.reach(a, w, reached)
	}
	if s.Items != nil {
		d.reach(s.Items, w, reached)
	}
	for _, p := range s.Properties {
		d.reach(p, w, reached)
	}
}

// SandboxExpand writes what can be expanded: for each component the fields that open something, or lead to one
// that does, and what is behind them.
func SandboxExpand(d *Document) string {
	fields := map[string]map[string][]string{}
	for name, s := range d.Components.Schemas {
		fields[name] = map[string][]string{}
		for _, field := range s.Expandable {
			if p := s.Properties[field]; p != nil {
				fields[name][field] = behind(p)
			}
		}
	}
	for pruned := true; pruned; {
		pruned = false
		for name := range fields {
			for field, to := range fields[name] {
				if !slices.Contains(leftOut, name+"."+field) && !opens(d.Components.Schemas[name].Properties[field]) && !slices.ContainsFunc(to, func(k string) bool { return len(fields[k]) > 0 }) {
					delete(fields[name], field)
					pruned = true
				}
			}
		}
	}
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if len(fields[name]) == 0 {
			continue
		}
		out.WriteString(name)
		for _, field := range slices.Sorted(maps.Keys(fields[name])) {
			fmt.Fprintf(&out, " %s>%s", field, strings.Join(fields[name][field], "|"))
		}
		out.WriteByte('\n')
	}
	return header(d, "gentables: expansions") + out.String()
}

// leftOut are embedded objects and lists that answers leave out unless they are expanded. The document does not
// tell them from other optional fields; Stripe's reference calls them includable.
var leftOut = []string{"coupon.applies_to", "coupon.currency_options", "currency_option.tiers", "customer.cash_balance", "customer.tax",
	"invoice.confirmation_secret", "item.taxes", "plan.tiers", "price.currency_options", "price.tiers", "promotion_codes_resource_restrictions.currency_options",
	"shipping_rate_fixed_amount.currency_options"}

// opens reports a field that is an id until it is expanded, or a list that is left out until then.
func opens(p *Schema) bool {
	return p.Expansion != nil || p.Items != nil && p.Items.Expansion != nil || p.Properties["data"] != nil
}

// behind is what an expandable field opens: components, or "list:" and one.
func behind(p *Schema) []string {
	if p.Expansion != nil {
		var out []string
		for _, s := range p.Expansion.OneOf {
			if name := Name(s); !strings.HasPrefix(name, "deleted_") {
				out = append(out, name)
			}
		}
		return out
	}
	if data := p.Properties["data"]; data != nil && data.Items != nil {
		var out []string
		for _, name := range behind(data.Items) {
			out = append(out, "list:"+name)
		}
		return out
	}
	if p.Items != nil {
		return behind(p.Items)
	}
	if p.Ref != "" {
		return []string{Name(p)}
	}
	var out []string
	for _, a := range p.AnyOf {
		if name := Name(a); name != "" && !strings.HasPrefix(name, "deleted_") {
			out = append(out, name)
		}
	}
	return out
}

// typeWriter writes types. Without the map of uses it shares none.
type typeWriter struct {
	uses map[string]int
	ids  map[string]int
	defs strings.Builder
}

// typed is a schema with its alternatives merged.
type typed struct {
	letters  string
	enums    []string
	refs     []string
	elements *Schema
	members  map[string]*Schema
	required []string
	blank    bool
}

func (t *typed) add(s *Schema) {
	if s.Nullable {
		t.blank = true
	}
	if s.Ref != "" {
		t.refs = append(t.refs, Name(s))
		return
	}
	for _, a := range s.AnyOf {
		t.add(a)
	}
	switch s.Type {
	case "string":
		t.addEnum(s)
	case "integer", "number", "boolean":
		t.letters += s.Type[:1]
	case "array":
		t.elements = s.Items
	case "object":
		if len(s.Properties) == 0 {
			t.letters += "m"
			return
		}
		if t.members == nil {
			t.members, t.required = map[string]*Schema{}, s.Required
		} else {
			t.required = slices.DeleteFunc(slices.Clone(t.required), func(r string) bool { return !slices.Contains(s.Required, r) })
		}
		maps.Copy(t.members, s.Properties)
	}
}

func (t *typed) addEnum(s *Schema) {
	if len(s.Enum) == 0 {
		t.letters += "s"
	}
	for _, e := range s.Enum {
		if text := fmt.Sprint(e); text == "" {
			t.blank = true
		} else {
			t.enums = append(t.enums, text)
		}
	}
}

// text writes a type, with what recurs replaced by its number.
func (w *typeWriter) text(s *Schema) string { return w.write(s, true) }

func (w *typeWriter) write(s *Schema, share bool) string {
	var t typed
	t.add(s)
	letters := []byte(t.letters)
	slices.Sort(letters)
	out := string(slices.Compact(letters))
	if t.blank {
		out += "_"
	}
	for _, ref := range slices.Compact(t.refs) {
		out += "@" + ref
	}
	if len(t.enums) > 0 && !strings.Contains(out, "s") {
		slices.Sort(t.enums)
		out += "(" + strings.Join(slices.Compact(t.enums), "|") + ")"
	}
	if t.elements != nil {
		out += "[" + w.inner(t.elements, share) + "]"
	}
	if t.members != nil {
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(t.members)) {
			mark := ""
			if slices.Contains(t.required, name) {
				mark = "!"
			}
			parts = append(parts, name+mark+":"+w.inner(t.members[name], share))
		}
		out += "{" + strings.Join(parts, " ") + "}"
	}
	return out
}

func (w *typeWriter) inner(s *Schema, share bool) string {
	if !share || w.uses == nil {
		return w.write(s, share)
	}
	key := w.write(s, false)
	if w.uses[key] < 2 || len(key) < minShared {
		return w.write(s, true)
	}
	if _, ok := w.ids[key]; !ok {
		text := w.write(s, true) // numbers what is inside first
		w.ids[key] = len(w.ids) + 1
		fmt.Fprintf(&w.defs, "#%d %s\n", w.ids[key], text)
	}
	return fmt.Sprintf("#%d", w.ids[key])
}

func (w *typeWriter) count(s *Schema) {
	key := w.write(s, false)
	if w.uses[key]++; w.uses[key] > 1 {
		return
	}
	var t typed
	t.add(s)
	if t.elements != nil {
		w.count(t.elements)
	}
	for _, m := range t.members {
		w.count(m)
	}
}
