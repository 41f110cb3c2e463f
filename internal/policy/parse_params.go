package policy

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

func (r *reader) params(field string, n ast.Node) {
	for _, e := range r.entries(field, n) {
		at := field + "." + e.key
		r.at[at] = e.at
		op, ok := r.voc.Operation(OperationName(e.key))
		if !ok {
			r.problem(e.at, at, "no such operation `%s`%s", e.key, didYouMean(r.voc.NearestOperation(e.key)))
			continue
		}
		var declared *ParamTerm
		if op.Params != nil {
			declared = op.Params()
		}
		for _, rule := range r.entries(at, e.value) {
			r.param(at+"."+rule.key, op.Name, declared, rule)
		}
	}
}

func (r *reader) param(field string, op OperationName, declared *ParamTerm, e entry) {
	kind, err := declaredType(declared, e.key)
	if err != nil {
		r.problem(e.at, field, "%v", err)
		return
	}
	before := len(r.problems)
	rule := r.rule(field, kind, e.value)
	if len(r.problems) > before {
		return
	}
	if rule.judgesValues() && (kind == ParamHash || kind == ParamMap) {
		r.problem(placeOf(e.value), field, "this parameter holds others; write the rule for one of them, like `%s[name]`, or `deny` it", e.key)
		return
	}
	if r.policy.Params == nil {
		r.policy.Params = map[OperationName]map[string]ParamRule{}
	}
	if r.policy.Params[op] == nil {
		r.policy.Params[op] = map[string]ParamRule{}
	}
	r.policy.Params[op][e.key] = rule
}

// declaredType finds a parameter by its path, "metadata[order]", "items[][price]". A nil root knows
// nothing and accepts every well-formed path.
func declaredType(root *ParamTerm, path string) (ParamType, error) {
	parts, ok := splitPath(path)
	if !ok {
		return "", fmt.Errorf("`%s` is not the path of a parameter; write it like amount, metadata[order] or items[][price]", path)
	}
	term := root
	for i, part := range parts {
		if term == nil {
			return ParamAny, nil
		}
		switch {
		case term.Type == ParamArray && part == "":
			term = term.Element
		case term.Type == ParamArray:
			return "", fmt.Errorf("`%s`: rules hold for every element of a list; write `[]` for `[%s]`", path, part)
		case part == "":
			return "", fmt.Errorf("`%s`: there is no list before `[]`", path)
		case term.Type == ParamHash:
			member, known := term.Members[part]
			if !known {
				what := "parameter"
				if i > 0 {
					what = "part"
				}
				names := slices.Sorted(maps.Keys(term.Members))
				return "", fmt.Errorf("no such %s `%s`%s", what, part, didYouMean(nearest(part, names)))
			}
			term = member
		case term.Type == ParamMap:
			term = term.Element
		case term.Type == ParamAny:
			return ParamAny, nil
		default:
			return "", fmt.Errorf("`%s`: nothing is inside a parameter of type %s", path, term.Type)
		}
	}
	if term == nil {
		return ParamAny, nil
	}
	return term.Type, nil
}

// splitPath takes "a[b][]" apart; an array element is the empty part.
func splitPath(path string) ([]string, bool) {
	name, rest, nested := strings.Cut(path, "[")
	if name == "" || strings.ContainsAny(name, "]") {
		return nil, false
	}
	parts := []string{name}
	if !nested {
		return parts, true
	}
	inner, closed := strings.CutSuffix(rest, "]")
	if !closed {
		return nil, false
	}
	for part := range strings.SplitSeq(inner, "][") {
		if strings.ContainsAny(part, "[]") {
			return nil, false
		}
		parts = append(parts, part)
	}
	return parts, true
}

// rule reads `deny`, `required`, or a mapping of parts.
func (r *reader) rule(field string, kind ParamType, n ast.Node) ParamRule {
	var rule ParamRule
	if s, ok := plain(n); ok {
		switch s {
		case "deny":
			rule.Deny = true
		case "required":
			rule.Required = true
		default:
			r.problem(placeOf(n), field, "write `deny`, `required`, or parts like {in: [a, b]}, {max: 5000}")
		}
		return rule
	}
	before := len(r.problems)
	for _, e := range r.entries(field, n) {
		r.rulePart(field+"."+e.key, kind, e, &rule)
	}
	switch {
	case len(r.problems) > before:
	case rule.Deny && (rule.Required || rule.judgesValues()):
		r.problem(placeOf(n), field, "`deny` refuses the parameter whatever its value; leave out the other parts")
	case rule.Max != nil && rule.Min != nil && *rule.Min > *rule.Max:
		r.problem(placeOf(n), field, "no number is at least %d and at most %d", *rule.Min, *rule.Max)
	case !rule.Deny && !rule.Required && !rule.judgesValues():
		r.problem(placeOf(n), field, "the rule is empty and restricts nothing; write `deny`, `required`, or parts like {max: 5000}")
	}
	return rule
}

func (r *reader) rulePart(field string, kind ParamType, e entry, rule *ParamRule) {
	switch e.key {
	case "in":
		rule.In = r.values(field, e.value)
	case "not":
		rule.Not = r.values(field, e.value)
	case "max":
		rule.Max = r.bound(field, kind, e.value)
	case "min":
		rule.Min = r.bound(field, kind, e.value)
	case "deny":
		r.boolean(field, e.value, &rule.Deny)
	case "required":
		r.boolean(field, e.value, &rule.Required)
	case "pattern":
		s, ok := r.text(field, e.value)
		if !ok {
			return
		}
		re, err := compilePattern(s)
		if err != nil || s == "" || len(s) > maxPattern {
			r.problem(placeOf(e.value), field, "write a regular expression (RE2) of 1 to %d characters; it must match the whole value", maxPattern)
			return
		}
		rule.Pattern, rule.pattern = s, re
	default:
		near, ok := nearest(e.key, []string{"deny", "in", "max", "min", "not", "pattern", "required"})
		r.problem(e.at, field, "no such part of a rule%s", didYouMean(near, ok))
	}
}

// maxPattern bounds a pattern in bytes: what it costs per call grows with it.
const maxPattern = 1000

func (r *reader) values(field string, n ast.Node) []string {
	items, ok := r.items(field, n)
	if ok && len(items) == 0 {
		r.problem(placeOf(n), field, "the list is empty; write at least one value, or `deny` the parameter")
	}
	out := make([]string, 0, len(items))
	for i, item := range items {
		if s, ok := r.text(fmt.Sprintf("%s[%d]", field, i), item); ok {
			out = append(out, s)
		}
	}
	return sortedOnce(out)
}

func (r *reader) bound(field string, kind ParamType, n ast.Node) *int64 {
	if kind != ParamInteger && kind != ParamAny && kind != ParamArray {
		r.problem(placeOf(n), field, "`max` and `min` judge whole numbers, and this parameter is a %s; use `in` or `pattern`", kind)
		return nil
	}
	s, _ := plain(n)
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		r.problem(placeOf(n), field, "write a whole number, in the parameter's own unit (amounts: minor units)")
		return nil
	}
	return &v
}
