package stripe

import (
	"cmp"
	"slices"
	"strings"

	"github.com/keybrake/keybrake/internal/policy"
)

// Permission is one resource of the permission map: what a scope on it opens. All but the Judgement is derived
// from the catalog.
type Permission struct {
	Resource policy.Resource
	Judgement
	// Operations are what the scope opens, reads first. Preview operations are not among them.
	Operations []PermissionOperation
	// Moves are the movements of money that its operations can make.
	Moves []Movement
	Reach Reach
	// Presets are those that grant something on the resource.
	Presets []string
}

// PermissionOperation is one operation as the map shows it.
type PermissionOperation struct {
	*Row
	Moves []Movement
	// Money is what the operation does to money and how that is dealt with, in a few words; empty for nothing.
	Money string
	// Customers is how a call is tied to its customer, in a word.
	Customers string
}

// Movement is one way in which money moves, comes to be owed, or is armed to move later.
type Movement struct {
	Klass  Klass // a metered one
	Bucket policy.Resource
	// Counted: it is held against the caps of its bucket. Otherwise calls that make it are denied unless the
	// policy names them under `unmetered`.
	Counted bool
	// Sometimes: only some parameters make it.
	Sometimes bool
}

// Direction says which way the money goes: "in", "out", "in later", "out later" (armed by the call, moved
// without one), or "owed" (what somebody owes changes).
func (m Movement) Direction() string {
	switch m.Klass {
	case KlassMoveIn:
		return "in"
	case KlassMoveOut:
		return "out"
	case KlassCommitIn:
		return "in later"
	case KlassCommitOut:
		return "out later"
	default:
		return "owed"
	}
}

// Reach is how far a resource's operations reach into the objects of customers, and whether a customer list
// can follow. The zero Reach reaches none.
type Reach string

// The reaches.
const (
	ReachNone     Reach = "none"     // no customer is concerned
	ReachFollowed Reach = "followed" // each call can be tied to its customers
	ReachPartly   Reach = "partly"   // some operations concern any customer and are denied under a list
	ReachAny      Reach = "any"      // all that reach a customer concern any
)

// Permissions returns the map, sorted by resource. The caller owns the slice, but not the rows in it.
func (c *Catalog) Permissions() []Permission {
	presets := c.presets()
	byName := map[policy.Resource]*Permission{}
	for _, row := range c.rows {
		if row.Release == Preview {
			continue
		}
		p := byName[row.Resource]
		if p == nil {
			p = &Permission{Resource: row.Resource, Judgement: *c.risks[row.Resource], Presets: presets[row.Resource]}
			byName[row.Resource] = p
		}
		op := PermissionOperation{Row: row, Moves: row.moves(), Money: row.moneyWords(), Customers: row.customerWords()}
		p.Operations = append(p.Operations, op)
		for _, m := range op.Moves {
			p.add(m)
		}
	}
	out := make([]Permission, 0, len(byName))
	for _, p := range byName {
		slices.SortFunc(p.Operations, func(a, b PermissionOperation) int {
			return cmp.Or(cmp.Compare(a.Access, b.Access), cmp.Compare(a.Name, b.Name))
		})
		slices.SortFunc(p.Moves, func(a, b Movement) int {
			return cmp.Or(cmp.Compare(a.Direction(), b.Direction()), cmp.Compare(a.Bucket, b.Bucket))
		})
		p.Reach = reach(p.Operations)
		out = append(out, *p)
	}
	slices.SortFunc(out, func(a, b Permission) int { return cmp.Compare(a.Resource, b.Resource) })
	return out
}

// presets lists, by resource, the presets that grant something on it.
func (c *Catalog) presets() map[policy.Resource][]string {
	voc := c.Vocabulary()
	out := map[policy.Resource][]string{}
	for _, preset := range policy.Presets() {
		p, _, err := policy.ParseEdited(preset.Name, preset.YAML, voc, policy.Edit{})
		if err != nil {
			panic("stripe: a preset that does not go with the catalog: " + err.Error()) // both are built in
		}
		for name, access := range p.Scopes {
			if access > policy.None {
				out[name] = append(out[name], preset.Name)
			}
		}
	}
	return out
}

// Writable reports whether the resource has anything to write.
func (p *Permission) Writable() bool {
	return slices.ContainsFunc(p.Operations, func(o PermissionOperation) bool { return o.Access == policy.Write })
}

// add notes a movement. It is counted if any operation counts it, and made sometimes if none makes it always.
func (p *Permission) add(m Movement) {
	i := slices.IndexFunc(p.Moves, func(o Movement) bool { return o.Klass == m.Klass && o.Bucket == m.Bucket })
	if i < 0 {
		p.Moves = append(p.Moves, m)
		return
	}
	p.Moves[i].Counted = p.Moves[i].Counted || m.Counted
	p.Moves[i].Sometimes = p.Moves[i].Sometimes && m.Sometimes
}

// moves lists what an operation can do to money. What hands out a credential or runs in bulk moves nothing by
// itself and is not here.
func (r *Row) moves() []Movement {
	var out []Movement
	for _, e := range r.Money.Effects {
		out = append(out, Movement{Klass: e.Klass, Bucket: e.Bucket, Counted: e.Bounded(), Sometimes: !e.When.Always})
	}
	return out
}

// closed reports whether a verdict holds for every call, whatever its parameters.
func (v Verdict) closed() bool { return v == DenyCredential || v == DenyEgress || v == DenyBulk }

const (
	unlessNamed     = "denied unless named"
	someUnlessNamed = "some parameters denied unless named"
)

func (r *Row) moneyWords() string {
	m := &r.Money
	if r.Default.closed() {
		return unlessNamed
	}
	var words []string
	say := func(s string) {
		if !slices.Contains(words, s) {
			words = append(words, s)
		}
	}
	for _, move := range r.moves() {
		switch {
		case move.Counted && move.Sometimes:
			say("counted on `" + string(move.Bucket) + "`, on some parameters only")
		case move.Counted:
			say("counted on `" + string(move.Bucket) + "`")
		case move.Sometimes:
			say(someUnlessNamed)
		default:
			say(unlessNamed)
		}
	}
	if len(m.Refused) > 0 && !slices.Contains(words, unlessNamed) {
		say(someUnlessNamed)
	}
	if len(m.Effects) == 0 && m.Final != nil {
		say("gives back")
	}
	return strings.Join(words, "; ")
}

func (r *Row) customerWords() string {
	switch {
	case r.Customer.Creates:
		return "creates one"
	case r.Customer.Form == CustomerListFilter:
		return "list, by `" + r.Customer.Param.Param() + "`"
	}
	return map[CustomerForm]string{
		CustomerPath: "path", CustomerParam: "parameter", CustomerLookup: "look-up", CustomerParent: "look-up",
		CustomerNone: "none", CustomerUnknown: "unfilterable",
	}[r.Customer.Form]
}

func reach(operations []PermissionOperation) Reach {
	tied, open := 0, 0
	for _, op := range operations {
		switch {
		case op.Customer.Form == CustomerUnknown && !op.Customer.Creates:
			open++
		case op.Customer.Form != CustomerNone || len(op.Customer.Checks) > 0:
			tied++
		}
	}
	switch {
	case tied == 0 && open == 0:
		return ReachNone
	case open == 0:
		return ReachFollowed
	case tied == 0:
		return ReachAny
	default:
		return ReachPartly
	}
}
