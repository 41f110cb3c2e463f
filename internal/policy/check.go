package policy

import (
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// whole checks what no single field shows.
func (r *reader) whole() {
	if _, given := r.at["scopes"]; !given {
		if !r.refused["scopes"] {
			r.problem(place{}, "scopes", "missing; write what the key may do, like `scopes: {charges: read}`")
		}
		return
	}
	if !r.refused["customers"] {
		r.customersAnswered()
	}
	if !r.policy.Uncapped && !r.refused["uncapped"] && !r.refused["caps"] {
		r.bucketsCapped()
	}
}

// customersAnswered demands `customers` once a scope reaches one.
func (r *reader) customersAnswered() {
	if _, given := r.at["customers"]; given {
		return
	}
	if name, ok := r.reaching(); ok {
		r.problem(r.at["scopes."+string(name)], "customers",
			"missing, and the scope `%s: %s` reaches customers; write whose, like `customers: [cus_A]`, or `customers: any`",
			name, r.policy.Scopes[name])
	}
}

// reaching returns the first scope, as written, that reaches a customer.
func (r *reader) reaching() (Resource, bool) {
	for _, name := range slices.Sorted(maps.Keys(r.policy.Scopes)) {
		if name == AllResources {
			reaches := func(res Resource) bool {
				_, named := r.policy.Scopes[res]
				return !named && r.voc.reaches(res, r.policy.Scopes[name])
			}
			if slices.ContainsFunc(r.voc.Resources(), reaches) {
				return name, true
			}
		} else if r.voc.reaches(name, r.policy.Scopes[name]) {
			return name, true
		}
	}
	return "", false
}

// uncovered lists the buckets that the policy's scopes can move money in and no cap bounds over time,
// sorted, each with the scope as written that opens it.
func (r *reader) uncovered() (buckets []Resource, opened map[Resource]Resource) {
	p := r.policy
	opened = map[Resource]Resource{}
	for _, name := range r.voc.Operations() {
		op := r.voc.operations[name]
		if op.Access != Write || p.Scope(op.Resource) != Write {
			continue
		}
		for _, bucket := range op.Buckets {
			if p.Scope(bucket) != Write || slices.ContainsFunc(p.Caps, func(c Cap) bool { return c.Covers(bucket) }) {
				continue
			}
			by := bucket
			if _, named := p.Scopes[bucket]; !named {
				by = AllResources
			}
			opened[bucket] = by
		}
	}
	return slices.Sorted(maps.Keys(opened)), opened
}

func (r *reader) bucketsCapped() {
	buckets, opened := r.uncovered()
	var wild []string
	for _, bucket := range buckets {
		if slices.ContainsFunc(r.halfCaps, func(c Cap) bool { return c.mayCover(bucket) }) {
			continue // what is wrong with that cap has been said
		}
		if opened[bucket] == AllResources {
			wild = append(wild, string(bucket))
			continue
		}
		r.problem(r.at["scopes."+string(bucket)], "caps",
			"the scope `%s: write` moves money, and no cap in dollars per hour, day, week, month or total bounds it; add "+
				"{resource: %s, per: day, usd: 100.00} to `caps`, or set `uncapped: true`", bucket, bucket)
	}
	if len(wild) > 0 {
		r.problem(r.at["scopes.*"], "caps",
			"the scope `*: write` moves money on %s, and no cap in dollars per hour, day, week, month or total bounds it; add "+
				"{resource: \"*\", per: day, usd: 100.00} to `caps`, or set `uncapped: true`", sample(wild))
	}
}

// agentName is the pattern for names: agent-<role>-<action>-<runner-id>. The last part may hold dashes.
var agentName = regexp.MustCompile(`^agent-[a-z0-9]+-[a-z0-9]+-[a-z0-9][a-z0-9-]*$`)

func (r *reader) warning(field, message string) {
	at := r.at[field]
	r.warnings = append(r.warnings, Warning{at.line, at.column, field, field + ": " + message})
}

// FullyOpen reports whether the policy refuses nothing that money or scope could refuse: the policy that
// must be named in every place where operators look.
func (p *Policy) FullyOpen() bool {
	return p.Scopes[AllResources] == Write && p.Uncapped && p.Unmeters("*") && p.Customers.Any
}

func (r *reader) warn() {
	p := r.policy
	if !agentName.MatchString(p.Name) {
		r.warning("name", "write it as agent-<role>-<action>-<runner-id>, like agent-support-refunds-runner42; it is what "+
			"people will see in records and alerts")
	}
	if p.FullyOpen() {
		r.warning("scopes", "this policy is fully open: every operation, uncapped, unmetered, for any customer")
	} else if p.Scopes[AllResources] == Write {
		r.warning("scopes", "`*: write` also grants what the vendor adds later; name the resources that the agent needs")
	}
	if p.Enforcement == Shadow {
		r.warning("enforcement", "shadow: scopes, caps, customers and parameters refuse nothing, they only mark what they would refuse")
	}
	if p.Uncapped {
		if buckets, _ := r.uncovered(); len(buckets) > 0 {
			r.warning("uncapped", "nothing bounds what this key can move on "+sampleOf(buckets))
		}
	}
	if len(p.Unmetered) > 0 {
		r.warning("unmetered", "money that these operations move is counted against no cap: "+sampleOf(p.Unmetered))
	}
	if p.ClientSecrets {
		r.warning("client_secrets", "allow: whoever holds a client secret can act on its object without Keybrake")
	}
	if p.RepeatUnknown {
		r.warning("repeat_unknown", "allow: a call whose outcome is unknown may be made again and move money twice")
	}
	if _, reaches := r.reaching(); reaches && !p.Customers.Any && len(p.Customers.List) == 0 && !p.MayCreate {
		r.warning("customers", "the list is empty, so every call that concerns a customer is refused")
	}
	r.warnUseless()
}

// warnUseless names rules that cannot have an effect: what they protect is probably spelled otherwise.
func (r *reader) warnUseless() {
	p := r.policy
	moved := map[Resource]bool{AllResources: true}
	for _, op := range r.voc.operations {
		for _, bucket := range op.Buckets {
			moved[bucket] = true
		}
	}
	for _, c := range p.Caps {
		field := "caps." + c.name()
		switch {
		case c.Unit == UnitUSD && !moved[c.Resource]:
			r.warning(field, "no operation moves money on "+string(c.Resource)+", so this cap limits nothing")
		case c.Resource != AllResources && p.Scope(c.Resource) != Write:
			r.warning(field, "the scopes grant no write on "+string(c.Resource)+", so this cap limits nothing")
		}
	}
	for _, name := range p.NoCustomer {
		op, _ := r.voc.Operation(name)
		if p.Customers.Any {
			r.warning("no_customer", "customers is `any`, so the list has no effect")
			break
		} else if op != nil && !op.Unfilterable {
			r.warning("no_customer", "the customers of "+string(name)+" are always checked, so it needs no exception and gets none")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.Params)) {
		if op, _ := r.voc.Operation(name); op != nil && p.Scope(op.Resource) < op.Access {
			r.warning("params."+string(name), "the scopes do not allow this operation, so its rules have no effect")
		}
	}
}

func sampleOf[S ~string](names []S) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = strings.TrimSpace(string(n))
	}
	return sample(out)
}

// ErrShadowLive refuses a key that would let everything through in live mode without anybody having said so.
var ErrShadowLive = errors.New("a policy in shadow refuses nothing that it would cap; in live mode it needs `uncapped: true`")

// CheckMode says whether a key under the policy may exist in the mode: it returns ErrShadowLive for a policy
// in Shadow that is not uncapped at a live upstream, else nil. It is asked when a key is made or changed.
func CheckMode(p *Policy, live bool) error {
	if live && p.Enforcement == Shadow && !p.Uncapped {
		return ErrShadowLive
	}
	return nil
}
