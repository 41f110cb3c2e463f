package console

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/keybrake/keybrake/internal/admin"
)

// keyForm is a policy as a form has it, for a key to be made or to be changed. What the form has no field for stays as
// lines of the policy (Rest), so that nothing is lost by an edit.
type keyForm struct {
	Key      string // id of the key that is changed; empty for a new one
	Version  string // of that key, as it was when the form was opened
	Preset   string
	Name     string
	Upstream string
	Scopes   []scopeField
	Caps     []capField
	// Customers is any or list; List has an id per line.
	Customers, List                         string
	Expires, Network, Timezone, Enforcement string
	Rest                                    string
	Reason                                  string
	Find                                    string // a search among resources
}

// scopeField is one resource of the form.
type scopeField struct {
	Resource, Access string
}

// capField is one cap of the form.
type capField struct {
	Resource, Per, Unit, Limit string
	Problem                    string
}

// covered are the parts of a policy that the form has fields for; the others are kept as they are.
var covered = append([]string{"scopes", "caps"}, fieldsOfForm...)

// rest is what of a policy file the form has no field for. A part begins with its name at the start of a line.
func rest(policy string) string {
	var out strings.Builder
	keep := false
	for line := range strings.Lines(policy) {
		if name, _, ok := strings.Cut(line, ":"); ok && name != "" && strings.TrimLeft(name, " \t-#") == name {
			keep = !slices.Contains(covered, name)
		} else if strings.HasPrefix(line, "#") {
			continue
		}
		if keep {
			out.WriteString(line)
		}
	}
	return strings.TrimSpace(out.String())
}

// formOf fills the form from a policy in parts and as a file.
func formOf(v *admin.PolicyView, text string) keyForm {
	f := keyForm{Customers: v.Customers, List: strings.Join(v.List, "\n"), Network: strings.Join(v.Network, ", "), Enforcement: v.Enforcement, Rest: rest(text)}
	if v.Timezone != "UTC" {
		f.Timezone = v.Timezone
	}
	for _, g := range v.Scopes {
		f.Scopes = append(f.Scopes, scopeField{g.Resource, g.Access})
	}
	for _, c := range v.Caps {
		f.Caps = append(f.Caps, capField{Resource: c.Resource, Per: c.Per, Unit: c.Unit, Limit: c.Limit.String()})
	}
	return f
}

// readForm reads what was typed.
func readForm(in url.Values) keyForm {
	get := func(name string) string { return strings.TrimSpace(in.Get(name)) }
	f := keyForm{
		Preset: get("preset"), Name: get("name"), Upstream: get("upstream"), Customers: get("customers"), List: get("customer"),
		Expires: get("expires"), Network: get("network"), Timezone: get("timezone"), Enforcement: get("enforcement"),
		Rest: strings.ReplaceAll(in.Get("rest"), "\r\n", "\n"), Reason: get("reason"), Find: get("find"), Version: get("version"),
	}
	for _, resource := range in["resource"] {
		f.Scopes = append(f.Scopes, scopeField{resource, in.Get("scope-" + resource)})
	}
	limits, pers, units := in["cap-limit"], in["cap-per"], in["cap-unit"]
	for i, resource := range in["cap-resource"] {
		if i < len(limits) && i < len(pers) && i < len(units) {
			f.Caps = append(f.Caps, capField{Resource: resource, Per: pers[i], Unit: units[i], Limit: strings.TrimSpace(limits[i])})
		}
	}
	return f
}

// policy writes the form as a policy file, and tells which line each cap stands on.
func (f *keyForm) policy() (text string, caps map[int]int) {
	var b strings.Builder
	caps = map[int]int{}
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("scopes:")
	granted := false
	others := "none" // what resources without a line have
	for _, s := range f.Scopes {
		if s.Resource == "*" {
			others = s.Access
		}
	}
	for _, s := range f.Scopes {
		if s.Resource != "*" && s.Access == others {
			continue
		}
		if s.Access == "read" || s.Access == "write" || s.Access == "none" && s.Resource != "*" {
			line("  %s: %s", strconv.Quote(s.Resource), s.Access)
			granted = true
		}
	}
	if !granted {
		b.Reset()
		line("scopes: {}")
	}
	if len(f.Caps) > 0 {
		line("caps:")
	}
	for i, c := range f.Caps {
		limit := plainAmount(c.Limit)
		if !plainNumber.MatchString(limit) {
			limit = strconv.Quote(c.Limit) // the policy's own message says what is wrong with it
		}
		unit := "usd"
		if c.Unit == "calls" {
			unit = "calls"
		}
		line("  - {resource: %s, per: %s, %s: %s}", strconv.Quote(c.Resource), strconv.Quote(c.Per), unit, limit)
		caps[strings.Count(b.String(), "\n")] = i
	}
	if f.Customers == "any" {
		line("customers: any")
	} else {
		line("customers: [%s]", quoted(f.List))
	}
	for _, one := range [][2]string{{"expires", f.Expires}, {"timezone", f.Timezone}} {
		if one[1] != "" && one[1] != "never" { // a policy says never by not saying when
			line("%s: %s", one[0], strconv.Quote(one[1]))
		}
	}
	if f.Network != "" {
		line("network: [%s]", quoted(f.Network))
	}
	if f.Enforcement == "shadow" {
		line("enforcement: shadow")
	}
	if f.Rest != "" {
		line("%s", strings.TrimSpace(f.Rest))
	}
	return b.String(), caps
}

// plainNumber is a number as policies write limits.
var plainNumber = regexp.MustCompile(`^[0-9]+(\.[0-9]{1,2})?$`)

// words are those of a list that was typed with commas, spaces or lines between.
func words(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
}

// quoted writes such a list as a policy has it.
func quoted(list string) string {
	all := words(list)
	for i := range all {
		all[i] = strconv.Quote(all[i])
	}
	return strings.Join(all, ", ")
}

// nameFits is the pattern of names that say who the agent is.
var nameFits = regexp.MustCompile(`^agent-[a-z0-9]+-[a-z0-9]+(-[a-z0-9]+)+$`)

// step does what a button inside the form asks for; it reports whether it was one of those.
func (f *keyForm) step(do string, scopes []admin.Scope) bool {
	what, which, _ := strings.Cut(do, ":")
	switch what {
	case "add-cap":
		f.Caps = append(f.Caps, capField{Resource: f.writable(scopes), Per: "day", Unit: "usd"})
	case "drop-cap":
		if i, err := strconv.Atoi(which); err == nil && i >= 0 && i < len(f.Caps) {
			f.Caps = slices.Delete(f.Caps, i, i+1)
		}
	case "suggest":
		f.suggest(scopes)
	case "find", "check":
	default:
		return false
	}
	return true
}

// writable is a resource that has a write scope and moves money; the first that has no cap yet.
func (f *keyForm) writable(scopes []admin.Scope) string {
	for _, bucket := range f.buckets(scopes) {
		if !slices.ContainsFunc(f.Caps, func(c capField) bool { return c.Resource == bucket }) {
			return bucket
		}
	}
	return "*"
}

// buckets are what the form's write scopes move money on.
func (f *keyForm) buckets(scopes []admin.Scope) (out []string) {
	for _, s := range f.Scopes {
		i := slices.IndexFunc(scopes, func(o admin.Scope) bool { return o.Resource == s.Resource })
		if s.Access != "write" || i < 0 {
			continue
		}
		for _, bucket := range scopes[i].Moves {
			if !slices.Contains(out, bucket) {
				out = append(out, bucket)
			}
		}
	}
	return out
}

// suggest adds the caps that the permission map suggests, for buckets without one.
func (f *keyForm) suggest(scopes []admin.Scope) {
	for _, s := range f.Scopes {
		i := slices.IndexFunc(scopes, func(o admin.Scope) bool { return o.Resource == s.Resource })
		if s.Access != "write" || i < 0 {
			continue
		}
		for _, flag := range scopes[i].SuggestedCaps { // refunds/day=500.00, refunds/hour=30calls
			where, limit, _ := strings.Cut(flag, "=")
			resource, per, _ := strings.Cut(where, "/")
			c := capField{Resource: resource, Per: per, Unit: "usd", Limit: limit}
			if n, calls := strings.CutSuffix(limit, "calls"); calls {
				c.Unit, c.Limit = "calls", n
			}
			if !slices.ContainsFunc(f.Caps, func(o capField) bool { return o.Resource == resource && o.Per == per && o.Unit == c.Unit }) {
				f.Caps = append(f.Caps, c)
			}
		}
	}
}
