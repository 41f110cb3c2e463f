package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// pkg is a package that judges, read and type-checked.
type pkg struct {
	name  string // below internal/
	set   *token.FileSet
	files []*file
	info  types.Info
	deps  types.Importer
}

type file struct {
	name   string // absolute
	source []byte
	tree   *ast.File
}

func load(root, name string) (*pkg, error) {
	names, err := filepath.Glob(filepath.Join(root, "internal", name, "*.go"))
	if err != nil {
		return nil, err
	}
	p := &pkg{name: name, set: token.NewFileSet(), info: types.Info{Types: map[ast.Expr]types.TypeAndValue{}}}
	for _, n := range names {
		if strings.HasSuffix(n, "_test.go") {
			continue
		}
		source, err := os.ReadFile(n)
		if err != nil {
			return nil, err
		}
		tree, err := parser.ParseFile(p.set, n, source, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		p.files = append(p.files, &file{name: n, source: source, tree: tree})
	}
	if p.deps, err = dependencies(root, name, p.set); err != nil {
		return nil, err
	}
	conf := types.Config{Importer: p.deps}
	_, err = conf.Check(name, p.set, p.trees(), &p.info)
	return p, err
}

func (p *pkg) trees() (out []*ast.File) {
	for _, f := range p.files {
		out = append(out, f.tree)
	}
	return out
}

// compiles reports whether the package still is Go with a mutant in it.
func (p *pkg) compiles(m *mutant) bool {
	changed, err := parser.ParseFile(p.set, m.file.name, m.text(), parser.SkipObjectResolution)
	if err != nil {
		return false
	}
	trees := p.trees()
	for i, f := range p.files {
		if f == m.file {
			trees[i] = changed
		}
	}
	conf := types.Config{Importer: p.deps}
	_, err = conf.Check(p.name, p.set, trees, nil)
	return err == nil
}

// dependencies imports what a package needs from what the go command has compiled of it.
func dependencies(root, name string, set *token.FileSet) (types.Importer, error) {
	cmd := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Export", "./internal/"+name)
	cmd.Dir = root
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list what %s imports: %w", name, err)
	}
	compiled := map[string]string{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var one struct{ ImportPath, Export string }
		if err := d.Decode(&one); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		compiled[one.ImportPath] = one.Export
	}
	return importer.ForCompiler(set, "gc", func(path string) (io.ReadCloser, error) { return os.Open(compiled[path]) }), nil
}
