package sdktypes

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Package is the npm package stripe on disk.
type Package struct {
	root  string
	files map[string]*file
}

// Open reads the package in a folder, such as node_modules/stripe.
func Open(root string) (*Package, error) {
	if _, err := os.Stat(filepath.Join(root, "package.json")); err != nil {
		return nil, fmt.Errorf("open the npm package stripe: %w", err)
	}
	return &Package{root, map[string]*file{}}, nil
}

// Operation is a call of API v2, with what it takes and answers as types of the sandbox's tables.
type Operation struct{ Method, Path, Takes, Answers string }

// function and request find the functions of a resource's code, and the call that each makes.
var (
	function = regexp.MustCompile(`\n    ([a-zA-Z]+)\([^)]*\) {`)
	request  = regexp.MustCompile("_makeRequest\\('([A-Z]+)', ['`]([^'`]+)['`]")
)

var argument = regexp.MustCompile(`\$\{encodeURIComponent\((\w+)\)\}`)

// Operations are all calls of API v2, by path and then method.
func (p *Package) Operations() ([]Operation, error) {
	var all []Operation
	err := filepath.WalkDir(filepath.Join(p.root, "cjs/resources/V2"), func(path string, d os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".js") {
			return err
		}
		ops, err := p.operations(strings.TrimSuffix(path, ".js"))
		all = append(all, ops...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the operations of v2: %w", err)
	}
	slices.SortFunc(all, func(a, b Operation) int { return strings.Compare(a.Path+" "+a.Method, b.Path+" "+b.Method) })
	return all, nil
}

func (p *Package) operations(path string) (ops []Operation, err error) {
	code, err := os.ReadFile(path + ".js")
	if err != nil {
		return nil, err
	}
	f, err := p.file(path + ".d.ts")
	if err != nil {
		return nil, err
	}
	starts := function.FindAllSubmatchIndex(code, -1)
	for i, s := range starts {
		end := len(code)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		call := request.FindStringSubmatch(string(code[s[1]:end]))
		if call == nil {
			continue
		}
		for _, methods := range f.methods {
			m, ok := methods[string(code[s[2]:s[3]])]
			if !ok {
				continue
			}
			w := writer{pkg: p, path: path + ".d.ts"}
			op := Operation{Method: call[1], Path: argument.ReplaceAllString(call[2], "{$1}"), Takes: "{}"}
			if m.params != nil {
				op.Takes = w.write(m.params, f.scope)
			}
			if m.answer != nil {
				op.Answers = w.write(m.answer, f.scope)
			}
			if w.err != nil {
				return nil, fmt.Errorf("%s %s: %w", op.Method, op.Path, w.err)
			}
			ops = append(ops, op)
		}
	}
	return ops, nil
}

func (p *Package) file(path string) (*file, error) {
	if f, ok := p.files[path]; ok {
		return f, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f, err := parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	p.files[path] = f
	return f, nil
}

// writer writes types in the language of the sandbox's tables.
type writer struct {
	pkg   *Package
	path  string // of the file that the scope belongs to
	depth int
	err   error
}

// maxDepth stops types that contain themselves.
const maxDepth = 24

// kinds are types that have no declaration worth following.
var kinds = map[string]string{"string": "s", "number": "i", "boolean": "b", "unknown": "m", "any": "m", "object": "m", "Metadata": "m",
	"MetadataParam": "m", "Decimal": "s", "Date": "s", "OtherString": "", "bigint": "s", "null": "_", "undefined": "_", "void": "{}",
	"RangeQueryParam": "is{gt:is gte:is lt:is lte:is}"}

func (w *writer) write(t *expr, in *scope) string {
	if w.depth++; w.depth > maxDepth {
		w.depth--
		return "m"
	}
	defer func() { w.depth-- }()
	switch {
	case t.text != "":
		return "(" + t.text + ")"
	case t.either != nil:
		return w.union(t.either, in)
	case t.values != nil && len(t.fields) == 0:
		return "m"
	case t.fields != nil:
		return w.object(t, in)
	}
	switch t.name {
	case "Promise", "Response", "ApiListPromise", "Readonly":
		return w.write(t.args[0], in)
	case "Array":
		return "[" + w.write(t.args[0], in) + "]"
	case "Emptyable":
		return w.union([]*expr{{name: "null"}, t.args[0]}, in)
	case "V2ListPromise":
		return "{data!:[" + w.write(t.args[0], in) + "] next_page_url:_s previous_page_url:_s}"
	}
	if text, ok := kinds[t.name]; ok {
		return text
	}
	return w.named(t.name, in)
}

// union joins alternatives: letters, one list of words, one object.
func (w *writer) union(parts []*expr, in *scope) string {
	var letters, words, rest string
	for _, part := range parts {
		text := w.write(part, in)
		switch {
		case strings.HasPrefix(text, "("):
			words += "|" + strings.Trim(text, "()")
		case text != "" && strings.ContainsAny(text[:1], "{["):
			if rest != "" && rest != text {
				text = "m" // one of several objects: the tables have no word for it
			}
			rest = text
		default:
			letters += text
		}
	}
	if words != "" && !strings.Contains(letters, "s") {
		letters += "(" + words[1:] + ")"
	}
	return letters + rest
}

func (w *writer) object(t *expr, in *scope) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(t.fields)) {
		f := t.fields[name]
		mark := "!"
		if f.optional {
			mark = ""
		}
		parts = append(parts, name+mark+":"+w.write(f.expr, in))
	}
	return "{" + strings.Join(parts, " ") + "}"
}

// named follows a name: outwards through the scopes, then into what the file imports.
func (w *writer) named(name string, in *scope) string {
	head, rest, dotted := strings.Cut(name, ".")
	for s := in; s != nil; s = s.outer {
		if t, ok := s.types[head]; ok && !dotted {
			home := s
			if sub := s.inner[head]; sub != nil {
				home = sub // an interface's own parts are in the namespace of its name
			}
			return w.write(t, home)
		}
		if sub := s.inner[head]; sub != nil && dotted && sub.has(rest) {
			return w.named(rest, sub)
		}
		if from, ok := s.imports[head]; ok {
			return w.imported(from, rest)
		}
	}
	w.err = fmt.Errorf("the type %s is not declared", name)
	return "m"
}

// has reports whether a dotted name leads somewhere from here.
func (s *scope) has(name string) bool {
	head, rest, dotted := strings.Cut(name, ".")
	if !dotted {
		return s.types[head] != nil
	}
	return s.inner[head] != nil && s.inner[head].has(rest)
}

func (w *writer) imported(from [2]string, rest string) string {
	path := filepath.Join(filepath.Dir(w.path), strings.TrimSuffix(from[0], ".js")+".d.ts")
	f, err := w.pkg.file(path)
	if err != nil {
		w.err = err
		return "m"
	}
	name := strings.TrimPrefix(from[1]+"."+rest, "*.")
	name = strings.TrimSuffix(name, ".")
	was := w.path
	w.path = path
	defer func() { w.path = was }()
	return w.named(name, f.scope)
}
