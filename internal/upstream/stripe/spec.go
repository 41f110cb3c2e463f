package stripe

// ParamType is what a declared parameter takes.
type ParamType uint8

// The types. AnyType is for declarations that allow several forms.
const (
	AnyType ParamType = iota
	StringType
	IntegerType
	NumberType
	BoolType
	HashType
	ArrayType
	MapType // a hash with free keys: metadata
)

// ParamSpec is one declared parameter, or the whole set of an operation's (Kind HashType). Immutable.
type ParamSpec struct {
	Type ParamType
	// Members of a HashType by name.
	Members map[string]*ParamSpec
	// Element of an ArrayType or MapType; nil for anything.
	Element *ParamSpec
}
