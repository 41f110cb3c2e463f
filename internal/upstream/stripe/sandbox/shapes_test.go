package sandbox

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// shapesTable has a line for each component of Stripe's OpenAPI document, and one
// for what each operation answers (see typReader; gentables in the module test
// writes it).
//
//go:embed testdata/shapes.txt
var shapesTable string

//go:embed testdata/shapes_v2.txt
var shapesOfV2 string

// loadShapes parses the table once: "@charge" and "GET /v1/charges" are keys.
var loadShapes = sync.OnceValue(func() map[string]*typ {
	shapes := map[string]*typ{}
	for _, table := range []string{shapesTable, shapesOfV2} {
		shared := map[string]*typ{}
		eachLine(table, func(word, rest string) {
			switch word[0] {
			case '@':
				shapes[word] = (&typReader{text: rest}).read()
			case '#':
				shared[word[1:]] = (&typReader{rest, shared}).read()
			default:
				path, text, _ := strings.Cut(rest, " ")
				shapes[word+" "+path] = (&typReader{text, shared}).read()
			}
		})
	}
	return shapes
})

// Misshapen holds the JSON of a success against what the document says the
// operation answers: what is wrong with it, or nothing. Where the document does
// not have the operation, anything is right.
func Misshapen(method, path string, body []byte) []string {
	op, _ := routesForShapes().match(method, path)
	if op == nil {
		return nil
	}
	shape := loadShapes()[op.method+" "+op.pattern]
	if shape == nil {
		return nil
	}
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		return []string{err.Error()}
	}
	m := &misfit{}
	m.check("", shape, v)
	return m.wrong
}

var routesForShapes = sync.OnceValue(newRouter)

// misfit collects what does not fit.
type misfit struct{ wrong []string }

func (m *misfit) say(at, format string, args ...any) {
	m.wrong = append(m.wrong, at+": "+fmt.Sprintf(format, args...))
}

// check holds a value against a type; of several components the best fit counts.
func (m *misfit) check(at string, t *typ, v any) {
	switch x := v.(type) {
	case nil:
		if !t.blank {
			m.say(at, "is null")
		}
	case map[string]any:
		m.object(at, t, x)
	case []any:
		if t.elem == nil {
			m.say(at, "is a list")
			return
		}
		for i, item := range x {
			m.check(fmt.Sprintf("%s.%d", at, i), t.elem, item)
		}
	case string:
		if !t.str && !slices.Contains(t.enum, x) {
			m.say(at, "is %q", x)
		}
	case bool:
		if !t.boolean && !slices.Contains(t.enum, fmt.Sprint(x)) {
			m.say(at, "is %t", x)
		}
	case float64:
		if !t.number && (!t.integer || x != float64(int64(x))) {
			m.say(at, "is %v", x)
		}
	}
}

func (m *misfit) object(at string, t *typ, v map[string]any) {
	if t.open {
		m.embedded(at, v)
		return
	}
	best := []string{at + ": is an object"}
	try := func(shape *typ) {
		sub := &misfit{}
		sub.members(at, shape, v)
		if len(best) > 0 && (len(sub.wrong) < len(best) || best[0] == at+": is an object") {
			best = sub.wrong
		}
	}
	if t.members != nil {
		try(t)
	}
	for _, ref := range t.refs {
		shape := loadShapes()["@"+ref]
		if shape.members == nil { // a component that is one of several
			sub := &misfit{}
			sub.check(at, shape, v)
			if len(sub.wrong) < len(best) {
				best = sub.wrong
			}
			continue
		}
		try(shape)
	}
	m.wrong = append(m.wrong, best...)
}

// embedded checks an object where the document allows any, as in an event.
func (m *misfit) embedded(at string, v map[string]any) {
	name, _ := v["object"].(string)
	if shape := loadShapes()["@"+name]; shape != nil {
		m.members(at, shape, v)
	}
}

func (m *misfit) members(at string, t *typ, v map[string]any) {
	for _, k := range slices.Sorted(maps.Keys(v)) {
		f, ok := t.members[k]
		switch {
		case ok:
			m.check(at+"."+k, f.typ, v[k])
		case !t.open:
			m.say(at+"."+k, "is not a field of Stripe's")
		}
	}
	for _, k := range slices.Sorted(maps.Keys(t.members)) {
		if _, has := v[k]; !has && t.members[k].required {
			m.say(at+"."+k, "is missing")
		}
	}
}
