package stripe

// ParamType is a set of forms that a declared parameter may take.
type ParamType uint8

// The forms. The zero set takes anything: nothing is known.
const (
	StringType ParamType = 1 << iota
	IntegerType
	NumberType
	BoolType
	HashType  // members by name
	ArrayType // elements by position
	MapType   // a hash with free keys: metadata
)

// Has reports whether the set holds all of t.
func (p ParamType) Has(t ParamType) bool { return p&t == t }

// ParamSpec is one declared parameter, or the whole set of an operation's (HashType). Immutable.
type ParamSpec struct {
	Type ParamType
	// Members of a HashType by name.
	Members map[string]*ParamSpec
	// Element of an ArrayType; nil for anything.
	Element *ParamSpec
}
