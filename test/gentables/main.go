// Command gentables writes what is generated from the OpenAPI document into internal/upstream/stripe: which
// parameters every operation takes and what `expand` can open (tables), and which parameters and fields the
// sandbox holds itself to, in a form of its own (sandbox); and the requests that a fuzz target starts from
// (testdata). Run it from the folder test:
//
//	go run ./gentables ../internal/upstream/stripe [node/node_modules/stripe]
//
// With the npm package stripe, also the sandbox's tables of API v2, which the document does not have.
package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"

	"github.com/keybrake/keybrake/test/openapi"
	"github.com/keybrake/keybrake/test/requests"
	"github.com/keybrake/keybrake/test/sdktypes"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "gentables:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 && len(os.Args) != 3 {
		return fmt.Errorf("usage: gentables FOLDER [PACKAGE]")
	}
	d, err := openapi.Load()
	if err != nil {
		return err
	}
	tables := openapi.Tables(d)
	tables[requests.SeedFile] = requests.Seeds(d)
	if len(os.Args) == 3 {
		p, err := sdktypes.Open(os.Args[2])
		if err != nil {
			return err
		}
		ops, err := p.Operations()
		if err != nil {
			return err
		}
		maps.Copy(tables, sdktypes.Tables(ops))
	}
	for name, text := range tables {
		if err := os.WriteFile(filepath.Join(os.Args[1], name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("write a table: %w", err)
		}
	}
	return nil
}
