package docs_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestEveryInvariantAndCaseNamesItsTest holds reliability.md: each number is there, and names tests that exist or says why
// there is none.
func TestEveryInvariantAndCaseNamesItsTest(t *testing.T) {
	text, err := os.ReadFile("reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := testNames(t)
	told := map[string]bool{}
	number := regexp.MustCompile(`([IF])-?(\d\d)(?:-[IF](\d\d))?`)
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || !number.MatchString(cells[1]) {
			continue
		}
		for _, m := range number.FindAllStringSubmatch(cells[1], -1) {
			var from, to int
			_, _ = fmt.Sscan(strings.TrimPrefix(m[2], "0"), &from)
			if to = from; m[3] != "" {
				_, _ = fmt.Sscan(strings.TrimPrefix(m[3], "0"), &to)
			}
			for n := from; n <= to; n++ {
				told[fmt.Sprintf("%s%02d", m[1], n)] = true
			}
		}
		named := regexp.MustCompile(`Test\w+`).FindAllString(cells[3], -1)
		for _, name := range named {
			if !tests[name] {
				t.Errorf("%s: there is no %s", cells[1], name)
			}
		}
		if len(named) == 0 && !strings.Contains(cells[3], "left out") && !strings.Contains(cells[3], "goleak") {
			t.Errorf("%s: nothing shows it, and nothing says why: %s", cells[1], cells[3])
		}
	}
	for _, m := range regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(string(text), -1) {
		if !tests[m[1]] {
			t.Errorf("there is no %s", m[1])
		}
	}
	for kind, last := range map[string]int{"I": 32, "F": 95} {
		for n := 1; n <= last; n++ {
			if name := fmt.Sprintf("%s%02d", kind, n); !told[name] {
				t.Errorf("%s is missing", name)
			}
		}
	}
}
