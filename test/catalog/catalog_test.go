// Package catalog holds Keybrake's tables of Stripe against Stripe's own OpenAPI document. A newer document
// (a newer github.com/stripe/stripe-mock in go.mod) makes these tests fail and name the operations.
package catalog

import (
	"os"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/upstream/stripe"
	"github.com/keybrake/keybrake/test/openapi"
)

func load(t *testing.T) (*openapi.Document, map[string]*stripe.Row) {
	t.Helper()
	d, err := openapi.Load()
	if err != nil {
		t.Fatal(err)
	}
	a, err := stripe.New()
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]*stripe.Row{}
	for _, row := range a.Catalog().Rows() {
		rows[row.Method+" "+row.Template] = row
	}
	return d, rows
}

// documented is how many operations the document has that the tables were made from.
const documented = 594

func TestEveryDocumentedOperationHasItsRow(t *testing.T) {
	d, rows := load(t)
	count := 0
	d.Each(func(method, path string, op *openapi.Operation) {
		count++
		row := rows[method+" "+path]
		switch {
		case row == nil:
			t.Errorf("%s %s (%s) has no row: add it to operations.csv, money.csv and customers.csv", method, path, op.OperationID)
		case row.Witness != "openapi":
			t.Errorf("%s is in the document, but its row names the witness %q", row.Name, row.Witness)
		case row.Params == nil:
			t.Errorf("%s has no parameters: run gentables", row.Name)
		}
	})
	if count != documented {
		t.Errorf("the document has %d operations, not %d", count, documented)
	}
}

func TestRowsThatTheDocumentLacksNameTheirWitness(t *testing.T) {
	d, rows := load(t)
	known := map[string]bool{}
	d.Each(func(method, path string, _ *openapi.Operation) { known[method+" "+path] = true })
	for call, row := range rows {
		switch {
		case known[call]:
		case row.Witness == "openapi":
			t.Errorf("%s (%s) is gone from the document", row.Name, call)
		case row.Release == stripe.Preview && row.Witness != "":
		case !strings.HasPrefix(row.Witness, "npm stripe "):
			t.Errorf("%s (%s) is in no document and names the witness %q", row.Name, call, row.Witness)
		}
	}
}

func TestTheGeneratedTablesAreOfThisDocument(t *testing.T) {
	d, _ := load(t)
	for name, want := range openapi.Tables(d) {
		got, err := os.ReadFile("../../internal/upstream/stripe/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) == want {
			continue
		}
		lines := map[string]bool{}
		for line := range strings.Lines(string(got)) {
			lines[line] = true
		}
		for line := range strings.Lines(want) {
			if !lines[line] && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "@") {
				t.Errorf("%s is not of this document: %.120s", name, line)
			}
		}
		t.Errorf("%s differs from the document: run go run ./gentables ../internal/upstream/stripe", name)
	}
}
