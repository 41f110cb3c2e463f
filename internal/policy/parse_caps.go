package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/keybrake/keybrake/internal/money"
)

func (r *reader) scopes(field string, n ast.Node) {
	r.policy.Scopes = map[Resource]Access{}
	for _, e := range r.entries(field, n) {
		at := field + "." + e.key
		r.at[at] = e.at
		access, ok := parseAccess(e.value)
		if !ok {
			r.problem(placeOf(e.value), at, "write `none`, `read` or `write`")
		}
		r.policy.Scopes[r.resource(at, e.key, e.at)] = access
	}
}

func parseAccess(n ast.Node) (Access, bool) {
	s, _ := plain(n)
	for _, a := range []Access{None, Read, Write} {
		if s == a.String() {
			return a, true
		}
	}
	return None, false
}

// resource checks a scope name of the catalog, or the wildcard. What is neither becomes the resource without a name.
func (r *reader) resource(field, name string, at place) Resource {
	if name == string(AllResources) || r.voc.HasResource(Resource(name)) {
		return Resource(name)
	}
	r.problem(at, field, "no such resource `%s`%s", name, didYouMean(r.voc.NearestResource(name)))
	return ""
}

func (r *reader) caps(field string, n ast.Node) {
	items, ok := r.items(field, n)
	if !ok {
		r.refused[field] = true
	}
	for i, item := range items {
		at := fmt.Sprintf("%s[%d]", field, i)
		c, ok := r.cap(at, item)
		if !ok {
			r.halfCaps = append(r.halfCaps, c)
			continue
		}
		if j := slices.IndexFunc(r.policy.Caps, c.same); j >= 0 {
			r.problem(placeOf(item), at, "there is a cap on %s per %s in %s already; leave one of them", c.Resource, c.Per, c.Unit)
			continue
		}
		r.at["caps."+c.name()] = placeOf(item)
		r.policy.Caps = append(r.policy.Caps, c)
	}
}

// same reports whether two caps are one: they differ in the limit at most.
func (c Cap) same(d Cap) bool {
	return c.Resource == d.Resource && c.Per == d.Per && c.Unit == d.Unit
}

// name is what identifies a cap in a policy: "refunds/day/usd".
func (c Cap) name() string { return string(c.Resource) + "/" + c.Per.String() + "/" + c.Unit.String() }

// mayCover reports whether a cap that was refused may have been meant to bound the bucket: what of it could not
// be read may have been anything.
func (c Cap) mayCover(bucket Resource) bool {
	if c.Unit == 0 {
		c.Unit = UnitUSD
	}
	if c.Per == 0 {
		c.Per = PerDay
	}
	return c.Resource == "" || c.Covers(bucket)
}

// cap reads one cap, reporting everything that is wrong with it. One that is refused has what could be read.
func (r *reader) cap(field string, n ast.Node) (Cap, bool) {
	var c Cap
	before := len(r.problems)
	given := map[string]bool{}
	for _, e := range r.entries(field, n) {
		at := field + "." + e.key
		given[e.key] = true
		switch e.key {
		case "resource":
			if s, ok := r.text(at, e.value); ok {
				c.Resource = r.resource(at, s, placeOf(e.value))
			}
		case "per":
			s, _ := plain(e.value)
			var err error
			if c.Per, err = parseWindow(s); err != nil {
				r.problem(placeOf(e.value), at, "%v", err)
			}
		case "usd", "calls":
			s, ok := r.text(at, e.value)
			if !ok {
				continue
			}
			unit, limit, err := parseLimit(e.key, s)
			if err != nil {
				r.problem(placeOf(e.value), at, "%v", err)
			}
			c.Unit, c.Limit = unit, limit
		default:
			near, ok := nearest(e.key, []string{"calls", "per", "resource", "usd"})
			r.problem(e.at, at, "no such field%s", didYouMean(near, ok))
		}
	}
	if len(r.problems) > before {
		return c, false
	}
	switch {
	case !given["resource"]:
		r.problem(placeOf(n), field, "`resource` is missing; write a resource, or \"*\" for the sum over all")
	case !given["per"]:
		r.problem(placeOf(n), field, "`per` is missing; write call, hour, day, week, month or total")
	case given["usd"] == given["calls"]:
		r.problem(placeOf(n), field, "write either `usd` or `calls`; two limits are two caps")
		c.Unit = UnitUSD // as mayCover takes what was not read
	default:
		return c, true
	}
	return c, false
}

func parseWindow(s string) (Window, error) {
	words := windowNames[PerCall:]
	i := slices.Index(words, s)
	if i < 0 {
		return 0, fmt.Errorf("no window `%s`, there are %s%s", s, strings.Join(words, ", "), didYouMean(nearest(s, words)))
	}
	return PerCall + Window(i), nil
}

// maxCalls bounds caps in calls: a sum of such limits stays far from the largest integer.
const maxCalls = 1_000_000_000_000

// parseLimit reads a limit from the written text: a float would read 0.1 dollars as something else. The unit is
// told also of a limit that is refused.
func parseLimit(field, s string) (unit Unit, limit int64, err error) {
	if unit = UnitUSD; field == UnitCalls.String() {
		unit = UnitCalls
	}
	if strings.HasPrefix(s, "-") {
		return unit, 0, fmt.Errorf("`%s`: a cap cannot be negative; 0 admits nothing", s)
	}
	if unit == UnitCalls {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n > maxCalls || s[0] == '+' || (s[0] == '0' && len(s) > 1) {
			return unit, 0, fmt.Errorf("`%s`: write a whole number of calls, at most %d", s, int64(maxCalls))
		}
		return unit, n, nil
	}
	usd, err := money.ParseUSD(s)
	if err != nil {
		return unit, 0, fmt.Errorf("`%s`: %w; write dollars, like 500.00", s, err)
	}
	return unit, int64(usd), nil
}
