package arch

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strings"
	"testing"
)

// Limits of a room: beyond them nobody finds anything.
const (
	maxFileLines     = 500
	maxFunctionLines = 70
)

// larger are the functions that may be longer, each with its reason.
var larger = map[string]string{
	"internal/store/sqlite/statements.go:prepare": "a table of statements, one line each",
}

func TestFilesAndFunctionsStaySmall(t *testing.T) {
	for _, f := range files(t) {
		if f.test {
			continue
		}
		text, err := os.ReadFile(f.path)
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(text, []byte("\n")); n > maxFileLines {
			t.Errorf("%s/%s has %d lines, the limit is %d: split it by subject", f.pkg, f.name, n, maxFileLines)
		}
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, f.path, text, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			n := fset.Position(fn.Body.Rbrace).Line - fset.Position(fn.Body.Lbrace).Line
			if n > maxFunctionLines && larger[f.pkg+"/"+f.name+":"+fn.Name.Name] == "" {
				t.Errorf("%s/%s: %s has %d lines, the limit is %d", f.pkg, f.name, fn.Name.Name, n, maxFunctionLines)
			}
		}
	}
}

func TestEverythingExportedIsDocumented(t *testing.T) {
	packages := map[string]bool{}
	for _, f := range files(t) {
		if f.test {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), f.path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		packages[f.pkg] = packages[f.pkg] || parsed.Doc != nil
		for _, d := range parsed.Decls {
			for _, name := range undocumented(d) {
				t.Errorf("%s/%s: %s has no doc comment", f.pkg, f.name, name)
			}
		}
	}
	for pkg, documented := range packages {
		if !documented {
			t.Errorf("package %s has no package comment", pkg)
		}
	}
}

// undocumented returns the exported names of a declaration that nothing is said about. Methods that implement
// a well-known interface say enough by their name.
func undocumented(d ast.Decl) []string {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if !d.Name.IsExported() || d.Doc != nil || (d.Recv != nil && !ast.IsExported(receiver(d.Recv.List[0].Type))) {
			return nil
		}
		return []string{d.Name.Name}
	case *ast.GenDecl:
		var out []string
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() && s.Doc == nil && d.Doc == nil && s.Comment == nil {
					out = append(out, s.Name.Name)
				}
			case *ast.ValueSpec:
				for _, n := range s.Names {
					if n.IsExported() && s.Doc == nil && d.Doc == nil && s.Comment == nil {
						out = append(out, n.Name)
					}
				}
			}
		}
		return out
	}
	return nil
}

func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}

// forbidden are words that may not stand in any committed source file, with the reason.
var forbidden = []struct {
	re    *regexp.Regexp
	tests bool // also in tests
	why   string
}{
	{regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME)\b`), true, "do it, or open an issue and name it"},
	{regexp.MustCompile(`(^|[" ])/(work|root|home)/`), true, "a path of somebody's machine"},
	{regexp.MustCompile(`(?i)\bAPI key\b`), false, "it is a vault key or an upstream secret"},
}

// allowedWords are places where a forbidden word has a reason.
var allowedWords = map[string]bool{
	"internal/arch/rules_test.go": true,
	// Stripe's own words, repeated as Stripe says them.
	"internal/upstream/stripe/sandbox/auth.go": true,
}

func TestForbiddenWords(t *testing.T) {
	for _, f := range files(t) {
		if allowedWords[f.pkg+"/"+f.name] {
			continue
		}
		text, err := os.ReadFile(f.path)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			for _, w := range forbidden {
				if m := w.re.FindString(line); m != "" && (w.tests || !f.test) {
					t.Errorf("%s/%s:%d: %q: %s", f.pkg, f.name, i+1, m, w.why)
				}
			}
		}
	}
}
