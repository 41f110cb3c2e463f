// Command gentables writes the generated tables of internal/upstream/stripe from the OpenAPI document:
// which parameters every operation takes and what `expand` can open. Run it from the folder test:
//
//	go run ./gentables ../internal/upstream/stripe/tables
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
	for name, text := range map[string]string{
		"params.txt": openapi.ParamTable(d),
		"expand.txt": openapi.ExpandTable(d),
	} {
		if err := os.WriteFile(filepath.Join(os.Args[1], name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("write a table: %w", err)
		}
	}
	return nil
}
