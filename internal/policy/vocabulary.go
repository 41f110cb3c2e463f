package policy

import (
	"math"
	"slices"
	"strings"
)

// Vocabulary is every name that a policy may use, as the catalog of a vendor knows them. A policy that
// names anything else is refused when it is read: a rule on a name that does not exist protects nothing.
// A Vocabulary is immutable and safe for concurrent use.
type Vocabulary struct {
	operations map[OperationName]*OperationTerm
	resources  map[Resource]*resourceTerm
	names      []OperationName // sorted
	resNames   []Resource      // sorted
}

// OperationTerm is what a policy must know of one operation.
type OperationTerm struct {
	Name     OperationName
	Resource Resource
	Access   Access // Read or Write
	// Buckets are all that the operation can move money in, or commit it: first and second effects,
	// whatever their conditions. Releases move nothing. Empty for none.
	Buckets []Resource
	// ReachesCustomer: the operation may touch objects of a customer, so `customers` must be answered by
	// every policy that grants it. Unfilterable operations reach customers.
	ReachesCustomer bool
	// Unfilterable: nothing in the call can tell whose objects it touches; under a customer list it needs
	// `no_customer`.
	Unfilterable bool
	// Params returns the root of the declared parameters (a ParamHash); a nil func or a nil result means
	// that they are not known, and any path is accepted. It is called only when a rule names the operation,
	// and must be safe for concurrent use.
	Params func() *ParamTerm
}

// ParamTerm is one declared parameter.
type ParamTerm struct {
	Type    ParamType
	Members map[string]*ParamTerm // of a ParamHash
	Element *ParamTerm            // of a ParamArray or ParamMap; nil = anything
}

// ParamType is what a declared parameter takes.
type ParamType string

// The types. The zero value is ParamAny: nothing is known about it.
const (
	ParamAny     ParamType = ""
	ParamString  ParamType = "string"
	ParamInteger ParamType = "integer"
	ParamNumber  ParamType = "number"
	ParamBool    ParamType = "boolean"
	ParamHash    ParamType = "hash"  // named members
	ParamMap     ParamType = "map"   // free keys, like metadata
	ParamArray   ParamType = "array" // elements
)

type resourceTerm struct {
	// customerFrom is the least access with which an operation of the resource reaches a customer; None if
	// no access does.
	customerFrom Access
}

// NewVocabulary indexes the operations of a catalog. Resources are those that the operations and their
// buckets name. A later operation of the same name replaces an earlier one.
func NewVocabulary(operations []OperationTerm) *Vocabulary {
	v := &Vocabulary{
		operations: make(map[OperationName]*OperationTerm, len(operations)),
		resources:  map[Resource]*resourceTerm{},
	}
	for i := range operations {
		op := &operations[i]
		v.operations[op.Name] = op
	}
	for name, op := range v.operations {
		v.names = append(v.names, name)
		r := v.resource(op.Resource)
		if op.ReachesCustomer && (r.customerFrom == None || op.Access < r.customerFrom) {
			r.customerFrom = op.Access
		}
		for _, bucket := range op.Buckets {
			v.resource(bucket)
		}
	}
	slices.Sort(v.names)
	for name := range v.resources {
		v.resNames = append(v.resNames, name)
	}
	slices.Sort(v.resNames)
	return v
}

func (v *Vocabulary) resource(name Resource) *resourceTerm {
	r, ok := v.resources[name]
	if !ok {
		r = &resourceTerm{}
		v.resources[name] = r
	}
	return r
}

// Operation returns what is known of an operation, or false if there is none of that name.
func (v *Vocabulary) Operation(name OperationName) (*OperationTerm, bool) {
	op, ok := v.operations[name]
	return op, ok
}

// HasResource reports whether the catalog has the scope name. AllResources is none.
func (v *Vocabulary) HasResource(name Resource) bool {
	_, ok := v.resources[name]
	return ok
}

// Resources lists the scope names, sorted. The slice must not be changed.
func (v *Vocabulary) Resources() []Resource { return v.resNames }

// Operations lists the operation names, sorted. The slice must not be changed.
func (v *Vocabulary) Operations() []OperationName { return v.names }

// reaches reports whether the access to a resource reaches a customer.
func (v *Vocabulary) reaches(name Resource, a Access) bool {
	r, ok := v.resources[name]
	return ok && r.customerFrom != None && a >= r.customerFrom
}

// NearestResource returns the scope name that s most likely means, or false if none is near.
func (v *Vocabulary) NearestResource(s string) (Resource, bool) { return nearest(s, v.resNames) }

// NearestOperation returns the operation name that s most likely means, or false if none is near.
func (v *Vocabulary) NearestOperation(s string) (OperationName, bool) { return nearest(s, v.names) }

// nearest returns the candidate with the smallest edit distance to s, letter case aside, if it differs in
// at most a third of its letters. The first of equals wins, so candidates are given sorted.
func nearest[S ~string](s string, candidates []S) (S, bool) {
	var best S
	s = strings.ToLower(s)
	least := math.MaxInt
	for _, c := range candidates {
		limit := max(1, max(len(s), len(c))/3)
		if d := distance(s, strings.ToLower(string(c)), limit); d <= limit && d < least {
			best, least = c, d
		}
	}
	return best, least < math.MaxInt
}

// maxNameLength bounds the edit distance of names that agents and operators write: it is quadratic.
const maxNameLength = 100

// distance is the edit distance of Levenshtein with swapped neighbours as one step (what typing gets
// wrong most), or limit+1 if it is more than limit.
func distance(a, b string, limit int) int {
	if len(a) > maxNameLength || len(b) > maxNameLength || len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	var before, row, next [maxNameLength + 1]int
	for j := range len(b) + 1 {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row = row, next
	}
	return min(row[len(b)], limit+1)
}
