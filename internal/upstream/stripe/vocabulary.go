package stripe

import (
	"slices"
	"sync"

	"github.com/keybrake/keybrake/internal/policy"
)

// Vocabulary returns every name that a policy for Stripe may use. Preview operations are not in it: nothing
// can admit them.
func (c *Catalog) Vocabulary() *policy.Vocabulary {
	terms := make([]policy.OperationTerm, 0, len(c.rows))
	for _, row := range c.rows {
		if row.Release == Preview {
			continue
		}
		terms = append(terms, policy.OperationTerm{
			Name:            row.Name,
			Resource:        row.Resource,
			Access:          row.Access,
			Buckets:         row.buckets(),
			ReachesCustomer: row.Customer.Form != CustomerNone || len(row.Customer.Checks) > 0,
			Unfilterable:    row.Customer.Form == CustomerUnknown && !row.Customer.Creates,
			Params:          row.paramTerm(),
		})
	}
	return policy.NewVocabulary(terms)
}

// buckets lists what an operation can move money in by an amount that is counted, whatever its conditions.
// Effects without a bound need no cap: no cap could hold them, and only `unmetered` admits them.
func (r *Row) buckets() []policy.Resource {
	var out []policy.Resource
	for _, e := range r.Money.Effects {
		if e.Bounded() && !slices.Contains(out, e.Bucket) {
			out = append(out, e.Bucket)
		}
	}
	return out
}

func (r *Row) paramTerm() func() *policy.ParamTerm {
	if r.Params == nil {
		return nil
	}
	return sync.OnceValue(func() *policy.ParamTerm { return r.Params.term() })
}

// term translates a declaration. Where several forms are taken, a rule may name any path below.
func (s *ParamSpec) term() *policy.ParamTerm {
	if s == nil {
		return &policy.ParamTerm{}
	}
	t := &policy.ParamTerm{}
	switch s.Type {
	case StringType:
		t.Type = policy.ParamString
	case IntegerType:
		t.Type = policy.ParamInteger
	case NumberType:
		t.Type = policy.ParamNumber
	case BoolType:
		t.Type = policy.ParamBool
	case MapType:
		t.Type = policy.ParamMap
	case ArrayType:
		t.Type = policy.ParamArray
		t.Element = s.Element.term()
	case HashType:
		t.Type = policy.ParamHash
		t.Members = make(map[string]*policy.ParamTerm, len(s.Members))
		for name, m := range s.Members {
			t.Members[name] = m.term()
		}
	}
	return t
}
