package sdktypes

import (
	"fmt"
	"strings"
)

// expr is a type as written.
type expr struct {
	name   string           // of another type, with dots; or a primitive
	args   []*expr          // of Array<T> and the like
	text   string           // a literal
	either []*expr          // a union
	fields map[string]field // an object
	values *expr            // a map of these
}

type field struct {
	*expr
	optional bool
}

// scope is a namespace or a file: what is declared in it, by name.
type scope struct {
	outer   *scope
	types   map[string]*expr
	inner   map[string]*scope
	imports map[string][2]string // name -> file, and the name there
}

func newScope(outer *scope) *scope {
	return &scope{outer: outer, types: map[string]*expr{}, inner: map[string]*scope{}, imports: map[string][2]string{}}
}

// method is a function of a resource: what it takes and answers.
type method struct {
	params, answer *expr
}

// file is one parsed declaration file.
type file struct {
	*scope
	methods map[string]map[string]method // class -> name
}

func parse(text string) (f *file, err error) {
	defer func() {
		if s, ok := recover().(syntax); ok {
			err = fmt.Errorf("read TypeScript: %s", string(s))
		}
	}()
	l := lex(text)
	f = &file{newScope(nil), map[string]map[string]method{}}
	for l.peek() != "" {
		f.declaration(l)
	}
	return f, nil
}

func (f *file) declaration(l *lexer) {
	switch {
	case l.take("import"):
		f.importNames(l)
	case l.take("export"):
		if l.peek() == "{" || l.peek() == "*" {
			f.importNames(l) // and passed on
		}
	case l.take("declare"):
	case l.take("class"):
		f.class(l)
	default:
		if !f.scope.declare(l) {
			l.skipTo(";")
		}
	}
}

func (f *file) importNames(l *lexer) {
	var names [][2]string
	if l.take("*") { // as a namespace
		l.need("as")
		names = append(names, [2]string{l.next(), "*"})
	} else if !l.take("{") {
		l.skipTo(";")
		return
	}
	for len(names) == 0 || names[0][1] != "*" {
		if l.take("}") {
			break
		}
		name := l.next()
		as := name
		if l.take("as") {
			as = l.next()
		}
		names = append(names, [2]string{as, name})
		l.take(",")
	}
	if !l.take("from") {
		l.take(";")
		return
	}
	from := strings.Trim(l.next(), `'"`)
	l.take(";")
	for _, n := range names {
		f.imports[n[0]] = [2]string{from, n[1]}
	}
}

// declare reads an interface, a type or a namespace.
func (s *scope) declare(l *lexer) bool {
	switch {
	case l.take("interface"):
		name := l.next()
		for l.peek() != "{" { // extends
			l.next()
		}
		s.types[name] = parseObject(l)
	case l.take("type"):
		name := l.next()
		if l.peek() == "<" {
			l.skipTo(";")
			return true
		}
		l.need("=")
		s.types[name] = parseType(l)
		l.take(";")
	case l.take("namespace"):
		name := l.next()
		sub := s.inner[name]
		if sub == nil {
			sub = newScope(s)
			s.inner[name] = sub
		}
		l.need("{")
		for !l.take("}") {
			if l.take("export") || l.take("declare") {
				continue
			}
			if !sub.declare(l) {
				l.skipTo(";")
			}
		}
	default:
		return false
	}
	return true
}

// class reads the methods of a resource.
func (f *file) class(l *lexer) {
	name := l.next()
	for l.peek() != "{" {
		l.next()
	}
	l.need("{")
	methods := map[string]method{}
	for !l.take("}") {
		what := l.next()
		if l.peek() != "(" {
			l.skipTo(";")
			continue
		}
		l.need("(")
		var m method
		for !l.take(")") {
			arg := l.next()
			l.take("?")
			l.need(":")
			t := parseType(l)
			if arg == "params" {
				m.params = t
			}
			l.take(",")
		}
		if l.take(":") {
			m.answer = parseType(l)
		}
		l.take(";")
		methods[what] = m
	}
	f.methods[name] = methods
}

func parseObject(l *lexer) *expr {
	l.need("{")
	o := &expr{fields: map[string]field{}}
	for !l.take("}") {
		l.take("readonly")
		if l.take("[") { // [key: string]: T
			for !l.take("]") {
				l.next()
			}
			l.need(":")
			o.values = parseType(l)
			l.take(";")
			continue
		}
		name := strings.Trim(l.next(), `'"`)
		if l.peek() == "(" || l.peek() == "<" { // a method of an event
			l.skipTo(";")
			continue
		}
		optional := l.take("?")
		l.need(":")
		o.fields[name] = field{parseType(l), optional}
		l.take(";")
	}
	return o
}

func parseType(l *lexer) *expr {
	l.take("|")
	t := parseSingle(l)
	for l.take("&") {
		parseSingle(l) // an intersection is only used to brand strings
	}
	if l.peek() != "|" {
		return t
	}
	u := &expr{either: []*expr{t}}
	for l.take("|") {
		u.either = append(u.either, parseSingle(l))
	}
	return u
}

func parseSingle(l *lexer) *expr {
	t := l.peek()
	var out *expr
	switch {
	case t == "{":
		out = parseObject(l)
	case t == "(":
		l.next()
		depth := 1
		for depth > 0 {
			switch l.next() {
			case "(":
				depth++
			case ")":
				depth--
			}
		}
		if l.take("=>") {
			parseType(l)
		}
		out = &expr{name: "unknown"}
	case t != "" && strings.ContainsAny(t[:1], "'\"`"):
		l.next()
		out = &expr{text: t[1 : len(t)-1]}
	default:
		out = &expr{name: l.next()}
		for l.take(".") {
			out.name += "." + l.next()
		}
		if l.take("<") {
			for !l.take(">") {
				out.args = append(out.args, parseType(l))
				l.take(",")
			}
		}
	}
	for l.take("[") {
		l.need("]")
		out = &expr{name: "Array", args: []*expr{out}}
	}
	return out
}
