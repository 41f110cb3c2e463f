package requests

import (
	"os"
	"testing"

	"github.com/keybrake/keybrake/test/openapi"
)

// maxSeeds keeps the file small enough to be looked at.
const maxSeeds = 300 << 10

func TestTheSeedsAreOfThisDocument(t *testing.T) {
	d, err := openapi.Load()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../internal/upstream/stripe/" + SeedFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != Seeds(d) {
		t.Errorf("%s is not of this document: run go run ./gentables ../internal/upstream/stripe", SeedFile)
	}
	if len(got) > maxSeeds {
		t.Errorf("%s has %d bytes", SeedFile, len(got))
	}
}
