package stripe

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Field is a path into parameters or into an answer: {"transfer_data", "amount"}. The element "[]" stands
// for every element of an array.
type Field []string

// anyElement is the element of a Field that stands for every element of an array.
const anyElement = "[]"

// ParseField reads the tables' form: "transfer_data.amount", "discounts[].promotion_code".
func ParseField(s string) (Field, error) {
	if s == "" {
		return nil, fmt.Errorf("empty field")
	}
	var f Field
	for part := range strings.SplitSeq(s, ".") {
		name, array := strings.CutSuffix(part, "[]")
		if !fieldName(name) {
			return nil, fmt.Errorf("field %q: %q is not a name", s, part)
		}
		f = append(f, name)
		if array {
			f = append(f, anyElement)
		}
	}
	return f, nil
}

func fieldName(s string) bool {
	for _, c := range []byte(s) {
		if !(c == '_' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9') {
			return false
		}
	}
	return s != ""
}

// String writes the field as the tables do: "transfer_data.amount".
func (f Field) String() string {
	return strings.ReplaceAll(strings.Join(f, "."), ".[]", "[]")
}

// Param writes the field as an agent sends it: "transfer_data[amount]".
func (f Field) Param() string {
	var b strings.Builder
	for i, p := range f {
		switch {
		case i == 0:
			b.WriteString(p)
		case p == anyElement:
			b.WriteString(anyElement)
		default:
			b.WriteString("[" + p + "]")
		}
	}
	return b.String()
}

// Equal reports whether two fields are the same path.
func (f Field) Equal(g Field) bool { return slices.Equal(f, g) }

// Condition is a test on a request or an answer: nothing, always, or terms of which one must hold. The
// zero Condition never holds.
type Condition struct {
	// Always holds whatever the values ("always", "2xx": the caller has checked the status).
	Always bool
	Terms  []Term
}

// Term is one test of a Condition.
type Term struct {
	Field  Field
	Op     Op
	Values []string // for Equals and Differs
	And    []Term   // must hold too
}

// Op is the test of a Term.
type Op uint8

// The tests. The zero Op never holds.
const (
	Equals  Op = iota + 1 // one of the values
	Differs               // none of the values, or absent
	Present
	Absent
)

// ParseCondition reads the tables' grammar: "2xx", "always", or terms joined by "|" meaning or; terms joined by
// " & " hold together. A bare word is one more value of the term before it. The empty string is the condition
// that never holds.
func ParseCondition(s string) (Condition, error) {
	switch s {
	case "":
		return Condition{}, nil
	case "2xx", "always":
		return Condition{Always: true}, nil
	}
	var c Condition
	for part := range strings.SplitSeq(s, "|") {
		alternative := strings.Split(part, " & ")
		t, err := parseTerm(alternative[0])
		if err != nil {
			return Condition{}, fmt.Errorf("condition %q: %w", s, err)
		}
		if t.Op == 0 {
			last := c.last()
			if last == nil || len(alternative) > 1 || (last.Op != Equals && last.Op != Differs) {
				return Condition{}, fmt.Errorf("condition %q: %q belongs to no field", s, part)
			}
			last.Values = append(last.Values, t.Values...)
			continue
		}
		for _, more := range alternative[1:] {
			and, err := parseTerm(more)
			if err != nil {
				return Condition{}, fmt.Errorf("condition %q: %w", s, err)
			}
			if and.Op == 0 {
				return Condition{}, fmt.Errorf("condition %q: %q is no test", s, more)
			}
			t.And = append(t.And, and)
		}
		c.Terms = append(c.Terms, t)
	}
	return c, nil
}

// last is the term that was read last; nil before the first.
func (c *Condition) last() *Term {
	if len(c.Terms) == 0 {
		return nil
	}
	t := &c.Terms[len(c.Terms)-1]
	if n := len(t.And); n > 0 {
		return &t.And[n-1]
	}
	return t
}

// parseTerm reads one term; a bare word comes back as a Term without Op.
func parseTerm(s string) (Term, error) {
	name, op, value := s, Op(0), ""
	if n, v, ok := strings.Cut(s, "!="); ok {
		name, op, value = n, Differs, v
	} else if n, v, ok := strings.Cut(s, "="); ok {
		name, op, value = n, Equals, v
	} else if n, ok := strings.CutSuffix(s, " present"); ok {
		name, op = n, Present
	} else if n, ok := strings.CutSuffix(s, " absent"); ok {
		name, op = n, Absent
	} else if !fieldName(s) {
		return Term{}, fmt.Errorf("%q is neither a term nor a value", s)
	} else {
		return Term{Values: []string{s}}, nil
	}
	f, err := ParseField(name)
	if err != nil {
		return Term{}, err
	}
	t := Term{Field: f, Op: op}
	if op == Equals || op == Differs {
		if !fieldName(value) {
			return Term{}, fmt.Errorf("%q is not a value", value)
		}
		t.Values = []string{value}
	}
	return t, nil
}

// Eval reports whether the condition holds. get returns a field's value; present is true for a field that
// is there without a plain value (a hash). Booleans are compared whatever their letter case.
func (c Condition) Eval(get func(Field) (value string, present bool)) bool {
	if c.Always {
		return true
	}
	return slices.ContainsFunc(c.Terms, func(t Term) bool { return t.holds(get) })
}

func (t Term) holds(get func(Field) (value string, present bool)) bool {
	v, ok := get(t.Field)
	var holds bool
	switch t.Op {
	case Present:
		holds = ok
	case Absent:
		holds = !ok
	case Equals:
		holds = ok && t.has(v)
	case Differs:
		holds = !ok || !t.has(v)
	}
	return holds && !slices.ContainsFunc(t.And, func(and Term) bool { return !and.holds(get) })
}

// Empty reports whether the condition is the one that never holds.
func (c Condition) Empty() bool { return !c.Always && len(c.Terms) == 0 }

func (t Term) has(v string) bool {
	return slices.ContainsFunc(t.Values, func(w string) bool {
		return v == w || (w == "true" || w == "false") && strings.EqualFold(v, w)
	})
}

// SourceKind says where a value comes from.
type SourceKind string

// The kinds of sources. FromNothing ("none") and the zero kind yield no value.
const (
	FromRequest     SourceKind = "request"
	FromLookup      SourceKind = "lookup"
	FromPreview     SourceKind = "preview"
	FromWorstCase   SourceKind = "worst_case"
	FromBound       SourceKind = "bound" // the currency that came with a preview or a worst case
	FromValue       SourceKind = "value" // a placeholder of the path
	FromLiteral     SourceKind = "literal"
	FromResponse    SourceKind = "response"
	FromResponseAbs SourceKind = "response_abs"
	FromHold        SourceKind = "hold"
	FromNothing     SourceKind = "none"
	IsUnmeterable   SourceKind = "unmeterable"
	IsDenied        SourceKind = "deny"
	IsZero          SourceKind = "zero"
)

// Source is one place where an amount, a currency or an id comes from.
type Source struct {
	Kind SourceKind
	// Field is the parameter or the field of the object; Minus, if set, is subtracted from it.
	Field, Minus Field
	// Ref is the object to look up; set for FromLookup.
	Ref LookupRef
	// Name is the name of the bound (FromWorstCase) or of the preview (FromPreview), the placeholder
	// (FromValue) or the text itself (FromLiteral).
	Name string
}

// ParseSources reads alternatives joined by " | ". The empty string and "none" give none.
func ParseSources(s string) ([]Source, error) {
	if s == "" || s == string(FromNothing) {
		return nil, nil
	}
	var out []Source
	for part := range strings.SplitSeq(s, " | ") {
		src, err := parseSource(part)
		if err != nil {
			return nil, fmt.Errorf("source %q: %w", s, err)
		}
		out = append(out, src)
	}
	return out, nil
}

func parseSource(s string) (Source, error) {
	head, rest, colon := strings.Cut(s, ":")
	src := Source{Kind: SourceKind(head)}
	var err error
	switch src.Kind {
	case FromBound, FromHold, IsUnmeterable, IsDenied, IsZero:
		if colon {
			return Source{}, fmt.Errorf("%q takes no argument", head)
		}
	case FromWorstCase, FromValue, FromLiteral:
		if !fieldName(rest) {
			return Source{}, fmt.Errorf("%q is not the name of a %s", rest, src.Kind)
		}
		src.Name = rest
	case FromRequest, FromResponse, FromResponseAbs:
		src.Field, err = ParseField(rest)
	case FromPreview:
		name, field, ok := strings.Cut(rest, "#")
		if !ok || name == "" {
			return Source{}, fmt.Errorf("%q names no preview and field", rest)
		}
		src.Name = name
		src.Field, err = ParseField(field)
	case FromLookup:
		ref, field, ok := strings.Cut(rest, "#")
		if !ok {
			return Source{}, fmt.Errorf("%q names no field after #", rest)
		}
		if src.Ref, err = ParseLookupRef(ref); err != nil {
			return Source{}, err
		}
		plus, minus, sub := strings.Cut(field, "-")
		if src.Field, err = ParseField(plus); err == nil && sub {
			src.Minus, err = ParseField(minus)
		}
	default:
		return Source{}, fmt.Errorf("%q is no kind of source", head)
	}
	return src, err
}

// LookupRef names an object by the route that reads it. The zero ref names none.
type LookupRef struct {
	Method       string
	Template     string // "/v1/charges/{charge}"
	Query        string // as written: "expand[]=latest_charge"; empty for none
	Placeholders []string
}

// ParseLookupRef reads "GET /v1/refunds/{refund}?expand[]=charge".
func ParseLookupRef(s string) (LookupRef, error) {
	method, target, ok := strings.Cut(s, " ")
	if !ok || (method != "GET" && method != "POST") || !strings.HasPrefix(target, "/") {
		return LookupRef{}, fmt.Errorf("look-up %q is not a method and a path", s)
	}
	template, query, _ := strings.Cut(target, "?")
	names, err := placeholders(template)
	if err != nil {
		return LookupRef{}, fmt.Errorf("look-up %q: %w", s, err)
	}
	return LookupRef{Method: method, Template: template, Query: query, Placeholders: names}, nil
}

// Path fills the template; ok is false if a value is missing or is no plain id. Values are escaped whole, so
// that an id cannot reach another route, also where somebody on the way decodes before routing.
func (l LookupRef) Path(value func(name string) (string, bool)) (path string, ok bool) {
	path = l.Template
	for _, name := range l.Placeholders {
		v, ok := value(name)
		if !ok || v == "" || v == "." || v == ".." || len(v) > maxID || strings.ContainsAny(v, `/\?#%`) {
			return "", false
		}
		path = strings.Replace(path, "{"+name+"}", url.PathEscape(v), 1)
	}
	return path, true
}

// placeholders returns the names in a template's braces, in order. A brace fills a whole segment.
func placeholders(template string) ([]string, error) {
	var names []string
	for seg := range strings.SplitSeq(strings.TrimPrefix(template, "/"), "/") {
		switch inner, braced := strings.CutPrefix(seg, "{"); {
		case seg == "":
			return nil, fmt.Errorf("template %q has an empty segment", template)
		case braced && strings.HasSuffix(inner, "}") && len(inner) > 1:
			name := inner[:len(inner)-1]
			if slices.Contains(names, name) {
				return nil, fmt.Errorf("template %q names {%s} twice", template, name)
			}
			names = append(names, name)
		case strings.ContainsAny(seg, "{}"):
			return nil, fmt.Errorf("template %q: %q is half a placeholder", template, seg)
		}
	}
	return names, nil
}
