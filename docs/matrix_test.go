package docs_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/upstream/stripe"
)

// TestTheFeatureMatrixHasItsSources: every fact about a native key names where it comes from, and whatever is
// claimed for Keybrake names a test that exists.
func TestTheFeatureMatrixHasItsSources(t *testing.T) {
	page := read(t, "feature-matrix.md")
	tests := testNames(t)
	rows := 0
	for line := range strings.Lines(page) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| |") {
			continue
		}
		rows++
		if len(cells) != 5 {
			t.Errorf("%d cells: %s", len(cells), line)
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		what, native, source, ours, shown := cells[0], cells[1], cells[2], cells[3], cells[4]
		if (native == "–") != (source == "") {
			t.Errorf("%s: %q has the source %q", what, native, source)
		}
		if source != "" && !regexp.MustCompile(`^(guide, |docs|issue: )`).MatchString(source) {
			t.Errorf("%s: %q is none of the sources", what, source)
		}
		if shown == "" && !strings.Contains(ours, "not yet") {
			t.Errorf("%s: nothing shows it", what)
		}
		for _, m := range regexp.MustCompile(`Test\w+`).FindAllString(shown, -1) {
			if !tests[m] {
				t.Errorf("%s: there is no %s", what, m)
			}
		}
	}
	if rows < 30 {
		t.Errorf("only %d facts were found", rows)
	}
	adapter, err := stripe.New()
	if err != nil {
		t.Fatal(err)
	}
	c := adapter.Catalog()
	for _, want := range []string{fmt.Sprintf("all %d operations", len(c.Rows())), fmt.Sprintf("per resource, %d of them", len(c.Permissions()))} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
}

// testNames are the tests of both modules.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	re := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	err := filepath.WalkDir("..", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(p, "_test.go") {
			return err
		}
		text, err := os.ReadFile(p)
		for _, m := range re.FindAllStringSubmatch(string(text), -1) {
			out[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
