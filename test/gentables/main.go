// Command gentables writes what is generated from the OpenAPI document into internal/upstream/stripe: which
// parameters every operation takes and what `expand` can open (tables), and which parameters and fields the
// sandbox holds itself to, in a form of its own (sandbox); and the requests that a fuzz target starts from
// (testdata). Run it from the folder test:
//
//	go run ./gentables ../internal/upstream/stripe
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/keybrake/keybrake/test/openapi"
	"github.com/keybrake/keybrake/test/requests"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "gentables:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 {
		return fmt.Errorf("usage: gentables FOLDER")
	}
	d, err := openapi.Load()
	if err != nil {
		return err
	}
	tables := openapi.Tables(d)
	tables[requests.SeedFile] = requests.Seeds(d)
	for name, text := range tables {
		if err := os.WriteFile(filepath.Join(os.Args[1], name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("write a table: %w", err)
		}
	}
	return nil
}
