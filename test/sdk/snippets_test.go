package sdk

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// snippet cuts what serve --dev printed for a language.
func (d *dev) snippet(language string) string {
	d.t.Helper()
	_, rest, ok := strings.Cut(d.Out, "--- "+language+" ---\n")
	text, _, end := strings.Cut(rest, "--- end ---\n")
	if !ok || !end {
		d.t.Fatalf("no snippet for %s in:\n%s", language, d.Out)
	}
	return text
}

// hasPythonStripe reports whether Debian's Python, for which python3-stripe is installed, has the SDK.
func hasPythonStripe() bool { return has("/usr/bin/python3", "-c", "import stripe") }

func TestThePrintedSnippetsRunAsPrinted(t *testing.T) {
	node, err := filepath.Abs(filepath.Join("..", "node"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		language, file string
		needs          bool
		run            func(file string) *exec.Cmd
	}{
		{"curl", "try.sh", has("curl", "--version"), func(f string) *exec.Cmd { return exec.Command("bash", f) }},
		{"go", "main.go", true, func(f string) *exec.Cmd {
			return exec.Command("go", "run", f) // in this module, which has stripe-go
		}},
		{"node", "try.js", hasNodeStripe(), func(f string) *exec.Cmd {
			cmd := exec.Command("node", f)
			cmd.Env = append(os.Environ(), "NODE_PATH="+filepath.Join(node, "node_modules"))
			return cmd
		}},
		{"python", "try.py", hasPythonStripe(), func(f string) *exec.Cmd {
			return exec.Command("/usr/bin/python3", f)
		}},
	} {
		t.Run(c.language, func(t *testing.T) {
			need(t, "what the "+c.language+" snippet runs with", c.needs)
			d := serveDev(t)
			file := filepath.Join(t.TempDir(), c.file)
			if err := os.WriteFile(file, []byte(d.snippet(c.language)), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := c.run(file).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if !strings.Contains(string(out), "ch_") {
				t.Errorf("no charge was listed:\n%s", out)
			}
			if n := strings.Count(string(out), "$100.00"); n == 0 || !strings.Contains(string(out), "used up") {
				t.Errorf("the sixth refund was not refused by the cap:\n%s", out)
			}
			if n, total := d.refunds(); n != 5 || total != 10_000 {
				t.Errorf("%d refunds of %d cents happened:\n%s", n, total, out)
			}
		})
	}
}
