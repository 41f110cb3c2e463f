package catalog

import (
	"os"
	"testing"

	"github.com/keybrake/keybrake/test/sdktypes"
)

// TestTheTablesOfV2AreOfThePackage holds the sandbox's tables of API v2 against the npm package stripe, which
// scripts/setup installs.
func TestTheTablesOfV2AreOfThePackage(t *testing.T) {
	p, err := sdktypes.Open("../node/node_modules/stripe")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("the npm package stripe is not installed: run scripts/setup")
	}
	ops, err := p.Operations()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range sdktypes.Tables(ops) {
		got, err := os.ReadFile("../../internal/upstream/stripe/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("%s differs from the package: run go run ./gentables ../internal/upstream/stripe node/node_modules/stripe", name)
		}
	}
}
