package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// mutant is one change of one file.
type mutant struct {
	pkg, file string
	source    []byte
	from, to  int // bytes of source that are replaced
	by        string
	function  string
	line      int
	where     string // the expression that it is in, as written
	told      string // what is changed, where the bytes themselves would say too much
}

func (m *mutant) text() []byte {
	return append(append(append([]byte{}, m.source[:m.from]...), m.by...), m.source[m.to:]...)
}

// String tells where it is and what it changes.
func (m *mutant) String() string {
	return fmt.Sprintf("internal/%s/%s:%d: %s", m.pkg, filepath.Base(m.file), m.line, m.change())
}

func (m *mutant) change() string {
	if m.told != "" {
		return m.told
	}
	return fmt.Sprintf("%s: %s -> %s", m.where, m.source[m.from:m.to], m.by)
}

// key names it without a line, so that a list of keys does not rot.
func (m *mutant) key() string {
	return m.pkg + "/" + m.function + ": " + strings.Join(strings.Fields(m.change()), " ")
}

// swaps are the operators that are put in place of others.
var swaps = map[token.Token][]string{
	token.LSS: {"<=", ">"}, token.LEQ: {"<", ">"}, token.GTR: {">=", "<"}, token.GEQ: {">", "<"},
	token.EQL: {"!="}, token.NEQ: {"=="}, token.LAND: {"||"}, token.LOR: {"&&"},
	token.ADD: {"-"}, token.SUB: {"+"}, token.MUL: {"/"}, token.QUO: {"*"}, token.REM: {"*"},
	token.ADD_ASSIGN: {"-="}, token.SUB_ASSIGN: {"+="}, token.INC: {"--"}, token.DEC: {"++"},
}

// mutantsOf makes the mutants of a package: comparisons and signs flipped, conditions turned round, whole numbers one up
// and one down, and in the table of currencies each currency under each other exponent.
func mutantsOf(root, pkg string) (out []mutant, err error) {
	names, err := filepath.Glob(filepath.Join(root, "internal", pkg, "*.go"))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		source, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		set := token.NewFileSet()
		parsed, err := parser.ParseFile(set, name, source, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		f := &finder{pkg: pkg, file: name, source: source, set: set}
		for _, d := range parsed.Decls {
			f.function = nameOf(d)
			f.walk(d)
		}
		out = append(out, f.found...)
	}
	return out, nil
}

func nameOf(d ast.Decl) string {
	switch d := d.(type) {
	case *ast.FuncDecl:
		return d.Name.Name
	case *ast.GenDecl:
		for _, s := range d.Specs {
			if v, ok := s.(*ast.ValueSpec); ok {
				return v.Names[0].Name
			}
		}
	}
	return ""
}

type finder struct {
	pkg, file string
	source    []byte
	set       *token.FileSet
	function  string
	stack     []ast.Node
	found     []mutant
}

func (f *finder) offset(p token.Pos) int { return f.set.Position(p).Offset }

// add notes a change of the bytes between two positions, within an expression.
func (f *finder) add(in ast.Node, from, to token.Pos, by string) {
	f.found = append(f.found, mutant{
		pkg: f.pkg, file: f.file, source: f.source, from: f.offset(from), to: f.offset(to), by: by, function: f.function,
		line: f.set.Position(from).Line, where: string(f.source[f.offset(in.Pos()):f.offset(in.End())]),
	})
}

func (f *finder) walk(d ast.Decl) {
	ast.Inspect(d, func(n ast.Node) bool {
		if n == nil {
			f.stack = f.stack[:len(f.stack)-1]
			return false
		}
		f.stack = append(f.stack, n)
		f.visit(n)
		return true
	})
}

func (f *finder) visit(n ast.Node) {
	switch n := n.(type) {
	case *ast.BinaryExpr:
		for _, by := range swaps[n.Op] {
			f.add(n, n.OpPos, n.OpPos+token.Pos(len(n.Op.String())), by)
		}
	case *ast.AssignStmt:
		for _, by := range swaps[n.Tok] {
			f.add(n, n.TokPos, n.TokPos+token.Pos(len(n.Tok.String())), by)
		}
	case *ast.IncDecStmt:
		f.add(n, n.TokPos, n.TokPos+2, swaps[n.Tok][0])
	case *ast.UnaryExpr:
		if n.Op == token.NOT || n.Op == token.SUB {
			f.add(n, n.OpPos, n.OpPos+1, "")
		}
	case *ast.Ident:
		switch n.Name {
		case "true":
			f.add(n, n.Pos(), n.End(), "false")
		case "false":
			f.add(n, n.Pos(), n.End(), "true")
		}
	case *ast.CallExpr:
		if called, ok := n.Fun.(*ast.Ident); ok && (called.Name == "min" || called.Name == "max") {
			f.add(n, called.Pos(), called.End(), map[string]string{"min": "max", "max": "min"}[called.Name])
		}
	case *ast.BasicLit:
		f.literal(n)
	}
}

func (f *finder) literal(n *ast.BasicLit) {
	parent := f.stack[max(0, len(f.stack)-2)]
	switch n.Kind {
	case token.INT:
		v, err := strconv.ParseInt(strings.ReplaceAll(n.Value, "_", ""), 0, 64)
		if err != nil {
			return
		}
		f.add(parent, n.Pos(), n.End(), strconv.FormatInt(v+1, 10))
		if v > 0 {
			f.add(parent, n.Pos(), n.End(), strconv.FormatInt(v-1, 10))
		}
	case token.STRING:
		if f.pkg == "money" && filepath.Base(f.file) == "currency.go" {
			f.currencies(n)
		}
	}
}

// currencies takes each currency out of the list of its exponent, and puts one of each list into the next.
func (f *finder) currencies(n *ast.BasicLit) {
	text, err := strconv.Unquote(n.Value)
	if err != nil {
		return
	}
	codes := strings.Fields(text)
	for i, code := range codes {
		if len(code) != 3 {
			return
		}
		rest := strings.Join(append(append([]string{}, codes[:i]...), codes[i+1:]...), " ")
		f.found = append(f.found, mutant{
			pkg: f.pkg, file: f.file, source: f.source, from: f.offset(n.Pos()), to: f.offset(n.End()), by: strconv.Quote(rest),
			function: f.function, line: f.set.Position(n.Pos()).Line, told: "the exponent of " + code,
		})
	}
}
