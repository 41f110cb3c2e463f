package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/types"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// switchName is the variable of the environment that says which of the built-in mutants is alive; 0 or nothing: none.
const switchName = "KEYBRAKE_MUTANT"

const switchSource = `package %s

import (
	"os"
	"strconv"
)

var mutantAlive, _ = strconv.Atoi(os.Getenv("` + switchName + `"))
`

// switched writes a file with all the mutants that can be told from each other while it runs, and a switch around each.
func switched(p *pkg, f *file, mutants []*mutant) []byte {
	w := &writer{pkg: p, source: f.source, at: map[span][]*mutant{}, imports: map[string]string{}}
	for _, m := range mutants {
		s := span{p.offset(m.at.Pos()), p.offset(m.at.End())}
		w.at[s] = append(w.at[s], m)
	}
	// The widest of those that begin at one place comes first.
	w.spans = slices.SortedFunc(maps.Keys(w.at), func(a, b span) int { return cmp.Or(a.from-b.from, b.to-a.to) })
	body := w.write(span{0, len(f.source)}, w.spans)
	cut := p.offset(f.tree.Name.End())
	var imports strings.Builder
	for _, path := range slices.Sorted(maps.Keys(w.imports)) {
		fmt.Fprintf(&imports, "; import %s %q", w.imports[path], path)
	}
	return slices.Concat(body[:cut], []byte(imports.String()), body[cut:])
}

type span struct{ from, to int }

type writer struct {
	pkg     *pkg
	source  []byte
	at      map[span][]*mutant
	spans   []span
	imports map[string]string
}

// write writes a part of the source, with what is switched inside of it.
func (w *writer) write(part span, inside []span) []byte {
	var out []byte
	from := part.from
	for i := 0; i < len(inside); {
		s := inside[i]
		end := i + 1
		for end < len(inside) && inside[end].from < s.to {
			end++
		}
		out = append(out, w.source[from:s.from]...)
		out = append(out, w.choose(s, w.write(s, inside[i+1:end]))...)
		from, i = s.to, end
	}
	return append(out, w.source[from:part.to]...)
}

// choose writes an expression or a statement of which the living mutant takes the place.
func (w *writer) choose(s span, as []byte) []byte {
	var out strings.Builder
	mutants := w.at[s]
	give, result := "", ""
	if kind := mutants[0].kind; kind != nil {
		give, result = "return ", types.TypeString(types.Default(kind), w.qualify)
	}
	fmt.Fprintf(&out, "func() %s { switch mutantAlive {", result)
	for _, m := range mutants {
		text := slices.Concat(w.source[s.from:m.from], []byte(m.by), w.source[m.to:s.to])
		fmt.Fprintf(&out, " case %d: %s%s;", m.id, give, text)
	}
	fmt.Fprintf(&out, " default: %s%s } }()", give, as)
	return []byte(out.String())
}

// qualify names a package under a name that cannot be taken.
func (w *writer) qualify(p *types.Package) string {
	if p.Path() == w.pkg.name {
		return ""
	}
	w.imports[p.Path()] = "mutant_" + p.Name()
	return w.imports[p.Path()]
}

// isSwitchable reports whether a function may stand in place of a node: not where the language wants a constant.
func isSwitchable(stack []ast.Node) bool {
	for i, n := range stack[:len(stack)-1] {
		switch n := n.(type) {
		case *ast.GenDecl:
			if n.Tok.String() == "const" {
				return false
			}
		case *ast.ArrayType:
			if n.Len != nil && stack[i+1] == ast.Node(n.Len) {
				return false
			}
		}
	}
	return true
}

// builder compiles the tests of packages over changed files.
type builder struct{ root, dir string }

// build compiles the tests of a package, with files in place of others, and tells where the program is.
func (b *builder) build(tests string, changed map[string][]byte) (string, error) {
	dir, err := os.MkdirTemp(b.dir, "tests-") // several packages share b.dir
	if err != nil {
		return "", err
	}
	replace := map[string]string{}
	for name, text := range changed {
		replace[name] = filepath.Join(dir, filepath.Base(name))
		if err := os.WriteFile(replace[name], text, 0o600); err != nil {
			return "", err
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay, program := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "tests")
	if err := os.WriteFile(overlay, text, 0o600); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "test", "-c", "-overlay", overlay, "-vet=off", "-o", program, "./internal/"+tests)
	cmd.Dir = b.root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the tests of %s: %w\n%s", tests, err, out)
	}
	return program, nil
}

// everyMutant are the files of a package with all its switches.
func everyMutant(p *pkg, mutants []*mutant) map[string][]byte {
	changed := map[string][]byte{}
	for _, f := range p.files {
		var own []*mutant
		for _, m := range mutants {
			if m.file == f && m.at != nil {
				own = append(own, m)
			}
		}
		if len(own) > 0 {
			changed[f.name] = switched(p, f, own)
		}
	}
	name := filepath.Join(filepath.Dir(p.files[0].name), "mutant_switch.go")
	changed[name] = fmt.Appendf(nil, switchSource, p.files[0].tree.Name.Name)
	return changed
}
