package sandbox

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// typ is the type of a parameter or of a field, as the tables write it (see
// parseTyp). Several alternatives may be set at once.
type typ struct {
	str, integer, number, boolean, open bool
	blank                               bool     // may be empty, or null
	enum                                []string // one of these texts
	refs                                []string // one of these components (answers only)
	elem                                *typ     // a list of these
	members                             map[string]member
}

type member struct {
	*typ
	required bool
}

// typReader reads types: s(tring) i(nteger) n(umber) b(oolean) m(ap of
// anything), (one|of|these), [elements], {members}, @component, #7 for a type
// given before, and _ for "may be empty" or null. A member that must be there
// has a "!" behind its name. It panics on text that is none: the tables are part
// of the program, and any test reads them.
type typReader struct {
	text   string
	shared map[string]*typ
}

func (r *typReader) take(until string) string {
	end := strings.IndexAny(r.text, until)
	if end < 0 {
		end = len(r.text)
	}
	out := r.text[:end]
	r.text = r.text[end:]
	return out
}

func (r *typReader) skip(want byte) {
	if r.text == "" || r.text[0] != want {
		panic(fmt.Sprintf("sandbox: a table has %.40q where %q should be", r.text, want))
	}
	r.text = r.text[1:]
}

func (r *typReader) read() *typ {
	t := &typ{}
	for r.text != "" && !strings.ContainsAny(r.text[:1], " ]}") {
		c := r.text[0]
		r.text = r.text[1:]
		switch c {
		case 's':
			t.str = true
		case 'i':
			t.integer = true
		case 'n':
			t.number = true
		case 'b':
			t.boolean = true
		case 'm':
			t.open = true
		case '_':
			t.blank = true
		case '(':
			t.enum = strings.Split(r.take(")"), "|")
			r.skip(')')
		case '@':
			t.refs = append(t.refs, r.take("@ ([{]}"))
		case '#':
			return r.shared[r.take(" ]}")]
		case '[':
			t.elem = r.read()
			r.skip(']')
		case '{':
			t.members = r.readMembers()
		default:
			panic(fmt.Sprintf("sandbox: a table has the type %q", c))
		}
	}
	return t
}

func (r *typReader) readMembers() map[string]member {
	members := map[string]member{}
	for r.text != "" && r.text[0] != '}' {
		name, required := strings.CutSuffix(r.take(":"), "!")
		r.skip(':')
		members[name] = member{r.read(), required}
		r.text = strings.TrimPrefix(r.text, " ")
	}
	r.skip('}')
	return members
}

// eachLine calls f with the first word and the rest of every line that is no comment.
func eachLine(table string, f func(word, rest string)) {
	for line := range strings.Lines(table) {
		word, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if word != "#" {
			f(word, rest)
		}
	}
}

// check holds a parameter against its type; name is the parameter's full name.
// What fails here never began to execute, so its idempotency key stays free.
func (t *typ) check(name string, v *node) *stripeError {
	if v.blank() {
		return t.checkBlank(name)
	}
	if items, ok := v.items(); ok && t.elem != nil {
		for i, item := range items {
			if f := t.elem.check(fmt.Sprintf("%s[%d]", name, i), item); f != nil {
				return f
			}
		}
		return nil
	}
	if v.kind == nodeMap && t.members != nil {
		return t.checkMembers(name, v)
	}
	if v.kind == nodeMap && t.open {
		return nil
	}
	if v.kind == nodeString && t.fits(v) {
		return nil
	}
	return t.mismatch(name, v)
}

// fits reports a text that the type takes; in JSON a number is no text, nor the other way round.
func (t *typ) fits(v *node) bool {
	text := t.str || slices.Contains(t.enum, v.str)
	switch v.written {
	case inJSON:
		return text || t.open
	case bareInJSON:
		return t.scalar(v) || t.open
	}
	return text || t.scalar(v)
}

// scalar reports a text that is a number or a boolean where the type wants one.
func (t *typ) scalar(v *node) bool {
	if _, err := parseInt(v); t.integer && err == nil {
		return true
	}
	if _, err := strconv.ParseFloat(v.str, 64); t.number && err == nil {
		return true
	}
	_, ok := parseBool(v)
	return t.boolean && ok
}

func (t *typ) mismatch(name string, v *node) *stripeError {
	switch {
	case t.integer:
		return errInvalid(name, "parameter_invalid_integer", "Invalid integer: "+v.text())
	case t.boolean:
		return errInvalid(name, "", "Invalid boolean: "+v.text())
	case t.number:
		return errInvalid(name, "parameter_invalid_decimal", "Invalid decimal: "+v.text())
	case t.str:
		return errInvalid(name, "", "Invalid string: "+string(v.json(nil)))
	case t.enum != nil:
		return errInvalid(name, "", "Invalid "+name+": must be one of "+orList(t.enum))
	case t.elem != nil:
		return errInvalid(name, "", "Invalid array")
	}
	return errInvalid(name, "", "Invalid object")
}

// unsettable parameters may not be emptied, because an empty value means "unset".
const unsettable = " amount currency charge payment_intent amount_to_capture amount_to_confirm price product limit confirm "

func (t *typ) checkBlank(name string) *stripeError {
	if t.blank || !strings.Contains(unsettable, " "+name+" ") {
		return nil
	}
	return errInvalid(name, "parameter_invalid_empty", fmt.Sprintf("You passed an empty string for '%s'. "+
		"We assume empty values are an attempt to unset a parameter; however '%s' cannot be unset. "+
		"You should remove '%s' from your request or supply a non-empty value.", name, name, name))
}

func (t *typ) checkMembers(name string, v *node) *stripeError {
	full := func(k string) string {
		if name == "" {
			return k
		}
		return name + "[" + k + "]"
	}
	for i, k := range v.keys {
		m, ok := t.members[k]
		if !ok && t.open {
			continue
		}
		if !ok {
			return errInvalid(full(k), "parameter_unknown", "Received unknown parameter: "+full(k))
		}
		if f := m.check(full(k), v.vals[i]); f != nil {
			return f
		}
	}
	if missing := t.missing(v); missing != "" {
		return errMissingParam(full(missing))
	}
	return nil
}

// missing names the alphabetically first absent required member, so that the
// answer does not depend on the order of a map.
func (t *typ) missing(v *node) string {
	first := ""
	for k, m := range t.members {
		if m.required && v.get(k) == nil && (first == "" || k < first) {
			first = k
		}
	}
	return first
}

// json appends a checked parameter as JSON of its type.
func (t *typ) json(b []byte, v *node) []byte {
	if t == nil || v.blank() {
		return v.json(b)
	}
	if items, ok := v.items(); ok && t.elem != nil {
		b = append(b, '[')
		for i, item := range items {
			if i > 0 {
				b = append(b, ',')
			}
			b = t.elem.json(b, item)
		}
		return append(b, ']')
	}
	if v.kind == nodeMap && t.members != nil {
		b = append(b, '{')
		for i, k := range v.keys {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendString(b, k), ':')
			b = t.members[k].json(b, v.vals[i])
		}
		return append(b, '}')
	}
	if v.kind != nodeString || t.str || slices.Contains(t.enum, v.str) {
		return v.json(b)
	}
	if n, err := parseInt(v); t.integer && err == nil {
		return strconv.AppendInt(b, n, 10)
	}
	if yes, ok := parseBool(v); t.boolean && ok {
		return strconv.AppendBool(b, yes)
	}
	if n, err := strconv.ParseFloat(v.str, 64); t.number && err == nil {
		return strconv.AppendFloat(b, n, 'f', -1, 64)
	}
	return v.json(b)
}
