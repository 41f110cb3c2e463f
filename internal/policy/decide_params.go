package policy

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func paramFailures(f []Failure, p *Policy, op *Operation) []Failure {
	rules := p.Params[op.Name]
	if len(rules) == 0 {
		return f
	}
	for _, path := range slices.Sorted(maps.Keys(rules)) {
		rule := rules[path]
		var values []string
		var present bool
		if op.Params != nil {
			values, present = op.Params.Lookup(path)
		}
		if why := rule.broken(values, present); why != "" {
			f = append(f, Failure{
				Code: CodeParamDenied, Rule: "params." + string(op.Name) + "." + path, Param: path, Soft: true,
				Message: "The parameter `" + path + "` of " + string(op.Name) + " " + why + ".",
			})
		}
	}
	return f
}

// broken says how the values of a parameter break the rule, as the end of a sentence; empty if they do
// not. It never repeats a value: parameters can hold what no record may.
func (r *ParamRule) broken(values []string, present bool) string {
	switch {
	case !present && r.Required:
		return "is required by this key's policy; add it"
	case !present:
		return ""
	case r.Deny:
		return "is refused by this key's policy; leave it out"
	case !r.judgesValues():
		return ""
	case len(values) == 0:
		return "must be a plain value for this key's policy to judge it"
	}
	for _, v := range values {
		if why := r.valueBroken(v); why != "" {
			return why
		}
	}
	return ""
}

// ByPresence judges the rule by nothing but whether the parameter is there; certain is false where its value decides.
func (r *ParamRule) ByPresence(present bool) (broken, certain bool) {
	if !present {
		return r.Required, true
	}
	return r.Deny, r.Deny || !r.judgesValues()
}

func (r *ParamRule) judgesValues() bool {
	return r.In != nil || r.Not != nil || r.Max != nil || r.Min != nil || r.Pattern != ""
}

func (r *ParamRule) valueBroken(v string) string {
	if r.In != nil && !slices.Contains(r.In, v) {
		return "must be one of " + sample(r.In) + " by this key's policy"
	}
	if slices.Contains(r.Not, v) {
		return "must not be one of " + sample(r.Not) + " by this key's policy"
	}
	if r.Max != nil || r.Min != nil {
		n, err := strconv.ParseInt(v, 10, 64)
		switch {
		case err != nil:
			return "must be a whole number for this key's policy to judge it"
		case r.Max != nil && n > *r.Max:
			return fmt.Sprintf("must be at most %d by this key's policy", *r.Max)
		case r.Min != nil && n < *r.Min:
			return fmt.Sprintf("must be at least %d by this key's policy", *r.Min)
		}
	}
	if r.Pattern == "" {
		return ""
	}
	re := r.pattern
	if re == nil { // a rule that Parse did not make
		var err error
		if re, err = compilePattern(r.Pattern); err != nil {
			return "cannot be judged: the policy's pattern is not a regular expression"
		}
	}
	if !re.MatchString(v) {
		return "must match `" + r.Pattern + "` by this key's policy"
	}
	return ""
}

// compilePattern anchors at both ends: half a match would let anything follow.
func compilePattern(pattern string) (*regexp.Regexp, error) {
	// On its own first: "a)|(b" is a pattern only between our brackets.
	if _, err := regexp.Compile(pattern); err != nil {
		return nil, err
	}
	return regexp.Compile(`\A(?:` + pattern + `)\z`)
}

// maxSample is how many admitted values a message names.
const maxSample = 10

func sample(values []string) string {
	if len(values) == 0 {
		return "(nothing)"
	}
	if len(values) > maxSample {
		return strings.Join(values[:maxSample], ", ") + fmt.Sprintf(" and %d more", len(values)-maxSample)
	}
	return strings.Join(values, ", ")
}
