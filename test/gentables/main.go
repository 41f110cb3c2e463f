// Command gentables writes what is generated from the OpenAPI document into internal/upstream/stripe: which
// parameters every operation takes and what `expand` can open (tables), and which parameters and fields the
// sandbox holds itself to, in a form of its own (sandbox). Run it from the folder test:
//
//	go run ./gentables ../internal/upstream/stripe
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/keybrake/keybrake/test/openapi"
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
	for name, text := range openapi.Tables(d) {
		if err := os.WriteFile(filepath.Join(os.Args[1], name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("write a table: %w", err)
		}
	}
	return nil
}
