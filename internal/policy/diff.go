package policy

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Change is one difference between two policies, in the policy's words.
type Change struct {
	Field string // "scopes.refunds", "caps.refunds/day/usd", "customers.cus_A"
	Old   string // empty: it was not there
	New   string // empty: it is not there any more
}

// Diff lists what changed from one policy to the other, sorted by field; nil for nothing.
func Diff(before, after *Policy) []Change {
	a, b := flatten(before), flatten(after)
	var out []Change
	for field, old := range a {
		if b[field] != old {
			out = append(out, Change{field, old, b[field]})
		}
	}
	for field, now := range b {
		if _, was := a[field]; !was {
			out = append(out, Change{field, "", now})
		}
	}
	slices.SortFunc(out, func(x, y Change) int { return strings.Compare(x.Field, y.Field) })
	return out
}

// flatten writes a policy as one line per thing that can change by itself.
func flatten(p *Policy) map[string]string {
	out := map[string]string{}
	set := func(field, value string, given bool) {
		if given {
			out[field] = value
		}
	}
	set("name", p.Name, p.Name != "")
	set("upstream", p.Upstream, p.Upstream != "")
	for r, a := range p.Scopes {
		out["scopes."+string(r)] = a.String()
	}
	for _, c := range p.Caps {
		out["caps."+c.name()] = c.LimitString()
	}
	set("uncapped", "true", p.Uncapped)
	set("customers", "any", p.Customers.Any)
	set("customers", "a list", !p.Customers.Any && p.Customers.List != nil)
	if !p.Customers.Any {
		members(out, "customers.", p.Customers.List)
	}
	set("may_create_customers", "true", p.MayCreate)
	members(out, "no_customer.", p.NoCustomer)
	members(out, "accounts.", p.Accounts)
	for op, rules := range p.Params {
		for path, rule := range rules {
			out["params."+string(op)+"."+path] = rule.String()
		}
	}
	members(out, "unmetered.", p.Unmetered)
	set("client_secrets", "allow", p.ClientSecrets)
	set("repeat_unknown", "allow", p.RepeatUnknown)
	for _, n := range p.Network {
		out["network."+n.String()] = "allowed"
	}
	set("expires", p.Expires.String(), p.Expires != Expiry{})
	set("rotate_every", FormatSpan(p.RotateEvery), p.RotateEvery != 0)
	set("timezone", zoneName(p.Timezone), true)
	set("enforcement", "shadow", p.Enforcement == Shadow)
	return out
}

func members[S ~string](out map[string]string, prefix string, list []S) {
	for _, s := range list {
		out[prefix+string(s)] = "allowed"
	}
}

// Widens reports whether the change lets a principal do anything that it could not do before; such a change
// needs a reason. In doubt it does: a change that is neither wider nor narrower in every respect widens.
func Widens(before, after *Policy) bool {
	switch {
	case before.Upstream != after.Upstream,
		!before.Uncapped && after.Uncapped,
		!before.MayCreate && after.MayCreate,
		!before.ClientSecrets && after.ClientSecrets,
		!before.RepeatUnknown && after.RepeatUnknown,
		before.Enforcement != Shadow && after.Enforcement == Shadow:
		return true
	}
	return scopesWiden(before, after) || capsWiden(before, after) || customersWiden(before.Customers, after.Customers) ||
		adds(before.NoCustomer, after.NoCustomer) || adds(before.Accounts, after.Accounts) ||
		(adds(before.Unmetered, after.Unmetered) && !slices.Contains(before.Unmetered, "*")) ||
		paramsWiden(before, after) || networkWidens(before.Network, after.Network) ||
		expiryWidens(before.Expires, after.Expires)
}

// Lowers reports whether the change only takes from what a principal may do. What neither gives nor takes, like another
// name, does not count as lowering.
func Lowers(before, after *Policy) bool {
	neutral := func(c Change) bool { return c.Field == "name" || c.Field == "timezone" || c.Field == "rotate_every" }
	return !Widens(before, after) && !slices.ContainsFunc(Diff(before, after), neutral)
}

func scopesWiden(before, after *Policy) bool {
	if after.Scope(AllResources) > before.Scope(AllResources) {
		return true
	}
	for _, scopes := range []map[Resource]Access{before.Scopes, after.Scopes} {
		for r := range maps.Keys(scopes) {
			if after.Scope(r) > before.Scope(r) {
				return true
			}
		}
	}
	return false
}

// capsWiden: a cap raised or gone, or, in another time zone, with its windows starting anew earlier.
func capsWiden(before, after *Policy) bool {
	for _, c := range before.Caps {
		i := slices.IndexFunc(after.Caps, c.same)
		if i < 0 || after.Caps[i].Limit > c.Limit {
			return true
		}
	}
	return len(before.Caps) > 0 && zoneName(before.Timezone) != zoneName(after.Timezone)
}

func customersWiden(before, after Customers) bool {
	if before.Any {
		return false
	}
	return after.Any || adds(before.List, after.List)
}

// adds reports whether the second list has what the first has not.
func adds[S comparable](before, after []S) bool {
	was := make(map[S]bool, len(before))
	for _, s := range before {
		was[s] = true
	}
	return slices.ContainsFunc(after, func(s S) bool { return !was[s] })
}

func paramsWiden(before, after *Policy) bool {
	for op, rules := range before.Params {
		for path, rule := range rules {
			now, ok := after.Params[op][path]
			if !ok || !now.AtLeast(&rule) {
				return true
			}
		}
	}
	return false
}

// AtLeast reports whether every value that r admits is admitted by old too.
func (r *ParamRule) AtLeast(old *ParamRule) bool {
	if old.Required && !r.Required {
		return false
	}
	if r.Deny {
		return true
	}
	return !old.Deny &&
		(old.In == nil || (r.In != nil && !adds(old.In, r.In))) &&
		!adds(r.Not, old.Not) &&
		(old.Max == nil || (r.Max != nil && *r.Max <= *old.Max)) &&
		(old.Min == nil || (r.Min != nil && *r.Min >= *old.Min)) &&
		(old.Pattern == "" || old.Pattern == r.Pattern)
}

func networkWidens(before, after []netip.Prefix) bool {
	if len(before) == 0 {
		return false
	}
	within := func(n netip.Prefix) bool {
		return slices.ContainsFunc(before, func(o netip.Prefix) bool { return o.Bits() <= n.Bits() && o.Contains(n.Addr()) })
	}
	return len(after) == 0 || slices.ContainsFunc(after, func(n netip.Prefix) bool { return !within(n) })
}

// expiryWidens: a span and an instant do not compare without the key's creation.
func expiryWidens(before, after Expiry) bool {
	switch {
	case before == Expiry{}:
		return false
	case !before.At.IsZero():
		return after.At.IsZero() || after.At.After(before.At)
	default:
		return !after.At.IsZero() || after.After == 0 || after.After > before.After
	}
}
