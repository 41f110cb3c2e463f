package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// mutant is one change of one file.
type mutant struct {
	id       int // from 1; what the switch is set to
	pkg      string
	file     *file
	at       ast.Node   // the expression or statement that is switched as a whole; nil: it cannot be, and is compiled alone
	kind     types.Type // of the expression; nil for a statement
	from, to int        // bytes of the source that are replaced
	by       string
	function string
	line     int
	where    string // the expression that it is in, as written
	told     string // what is changed, where the bytes themselves would say too much
}

func (m *mutant) text() []byte {
	return slices.Concat(m.file.source[:m.from], []byte(m.by), m.file.source[m.to:])
}

// String tells where it is and what it changes.
func (m *mutant) String() string {
	return fmt.Sprintf("internal/%s/%s:%d: %s", m.pkg, filepath.Base(m.file.name), m.line, m.change())
}

func (m *mutant) change() string {
	if m.told != "" {
		return m.told
	}
	return fmt.Sprintf("%s: %s -> %s", m.where, m.file.source[m.from:m.to], m.by)
}

// key names it without a line, so that a list of keys does not rot.
func (m *mutant) key() string {
	return m.pkg + "/" + m.function + ": " + strings.Join(strings.Fields(m.change()), " ")
}

// toldIn reports whether a run told the mutant as a survivor, at the end or on the way.
func (m *mutant) toldIn(lines []string) bool {
	return slices.ContainsFunc(lines, func(l string) bool { return l == "    "+m.key() || strings.HasSuffix(l, "survived: "+m.String()) })
}

// swaps are the operators that are put in place of others.
var swaps = map[token.Token][]string{
	token.LSS: {"<=", ">"}, token.LEQ: {"<", ">"}, token.GTR: {">=", "<"}, token.GEQ: {">", "<"},
	token.EQL: {"!="}, token.NEQ: {"=="}, token.LAND: {"||"}, token.LOR: {"&&"},
	token.ADD: {"-"}, token.SUB: {"+"}, token.MUL: {"/"}, token.QUO: {"*"}, token.REM: {"*"},
	token.ADD_ASSIGN: {"-="}, token.SUB_ASSIGN: {"+="}, token.INC: {"--"}, token.DEC: {"++"},
}

// mutantsOf makes the mutants of a package: comparisons and signs flipped, conditions turned round, truths and whole
// numbers changed by one, and in the table of currencies each currency under another exponent.
//
// Two kinds of change are not made, because they cannot change what happens: the room that `make` is told to keep free, and
// what a function returns beside an error.
func mutantsOf(p *pkg) []*mutant {
	var out []*mutant
	for _, f := range p.files {
		find := &finder{pkg: p, file: f}
		for _, d := range f.tree.Decls {
			find.function = nameOf(d)
			find.walk(d)
		}
		out = append(out, find.found...)
	}
	return out
}

func nameOf(d ast.Decl) string {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv != nil {
			return strings.TrimPrefix(types.ExprString(d.Recv.List[0].Type), "*") + "." + d.Name.Name
		}
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
	pkg      *pkg
	file     *file
	function string
	stack    []ast.Node
	found    []*mutant
}

func (p *pkg) offset(at token.Pos) int { return p.set.Position(at).Offset }

func (f *finder) offset(p token.Pos) int { return f.pkg.offset(p) }

// add notes a change of the bytes between two positions, within a node that is shown.
func (f *finder) add(shown ast.Node, from, to token.Pos, by string) *mutant {
	m := &mutant{
		pkg: f.pkg.name, file: f.file, from: f.offset(from), to: f.offset(to), by: by, function: f.function,
		line: f.pkg.set.Position(from).Line, where: string(f.file.source[f.offset(shown.Pos()):f.offset(shown.End())]),
	}
	if isSwitchable(f.stack) {
		m.at = f.switched()
		if e, ok := m.at.(ast.Expr); ok {
			m.kind = f.pkg.info.Types[e].Type
		}
	}
	f.found = append(f.found, m)
	return m
}

// switched is the node that a change of the current one is switched with: itself, or the whole of the constant that it is a
// part of, for the compiler works constants out before there is a switch.
func (f *finder) switched() ast.Node {
	at := f.stack[len(f.stack)-1]
	for _, n := range slices.Backward(f.stack) {
		e, ok := n.(ast.Expr)
		if !ok {
			break
		}
		if f.pkg.info.Types[e].Value != nil {
			at = n
		}
	}
	return at
}

func (f *finder) parent() ast.Node { return f.stack[max(0, len(f.stack)-2)] }

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
	if f.room() {
		return
	}
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
		if f.besideAnError() {
			return
		}
		switch n.Name {
		case "true":
			f.add(f.parent(), n.Pos(), n.End(), "false")
		case "false":
			f.add(f.parent(), n.Pos(), n.End(), "true")
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
	switch n.Kind {
	case token.INT:
		v, err := strconv.ParseInt(strings.ReplaceAll(n.Value, "_", ""), 0, 64)
		if err != nil || f.besideAnError() {
			return
		}
		f.add(f.parent(), n.Pos(), n.End(), strconv.FormatInt(v+1, 10))
		if v > 0 {
			f.add(f.parent(), n.Pos(), n.End(), strconv.FormatInt(v-1, 10))
		}
	case token.STRING:
		if f.pkg.name == "money" && filepath.Base(f.file.name) == "currency.go" {
			f.currencies(n)
		}
	}
}

// besideAnError reports whether the current node is a value that is returned beside an error.
func (f *finder) besideAnError() bool {
	for _, n := range slices.Backward(f.stack) {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false
		case *ast.ReturnStmt:
			last := n.Results[len(n.Results)-1]
			kind := f.pkg.info.Types[last]
			inside := last.Pos() <= f.stack[len(f.stack)-1].Pos()
			return len(n.Results) > 1 && !inside && !kind.IsNil() && types.Implements(kind.Type, types.Universe.Lookup("error").Type().Underlying().(*types.Interface))
		}
	}
	return false
}

// room reports whether the current node belongs to the last argument of a make that says more than a length of zero.
func (f *finder) room() bool {
	for i, n := range f.stack[:len(f.stack)-1] {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			continue
		}
		called, ok := call.Fun.(*ast.Ident)
		if !ok || called.Name != "make" || len(call.Args) < 2 {
			continue
		}
		_, isMap := f.pkg.info.Types[call.Args[0]].Type.Underlying().(*types.Map)
		if f.stack[i+1] == ast.Node(call.Args[len(call.Args)-1]) && (isMap || len(call.Args) == 3) {
			return true
		}
	}
	return false
}

// currencies takes each currency out of the list of its exponent, which puts it under the one of all others.
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
		m := f.add(n, n.Pos(), n.End(), strconv.Quote(strings.Join(slices.Delete(slices.Clone(codes), i, i+1), " ")))
		m.told = "the exponent of " + code
	}
}
