package sdk

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

// documented is what docs/api.md promises of the error with a code.
type documented struct {
	Status int
	Type   string
	Retry  string // true, false, "no header", "true with a key"
}

// code is what the SDKs show as the error's code, which is not always the reason.
func (d documented) code(reason policy.Code) string {
	switch reason {
	case policy.CodeUnknownRoute, policy.CodeAccountDenied:
		return string(policy.CodeScopeDenied)
	case policy.CodeIdemMismatch:
		return ""
	}
	return string(reason)
}

// promises is docs/api.md, read.
type promises struct {
	errors map[policy.Code]documented
	// classes are the names of the SDKs' errors by SDK, status and type.
	classes map[string]map[int]map[string]string
	// calls is how many arrive until the error is raised, by SDK and retry.
	calls map[string]map[string]int
}

func readPromises(t *testing.T) promises {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "api.md"))
	if err != nil {
		t.Fatal(err)
	}
	p := promises{make(map[policy.Code]documented), make(map[string]map[int]map[string]string), make(map[string]map[string]int)}
	for _, row := range table(string(page), "code") {
		p.errors[policy.Code(row["code"])] = documented{number(t, row["status"]), row["type"], row["retry"]}
	}
	for _, s := range sdks {
		p.classes[s.name], p.calls[s.name] = make(map[int]map[string]string), make(map[string]int)
		for _, row := range table(string(page), "status") {
			for status := range strings.SplitSeq(row["status"], ", ") {
				n := number(t, status)
				if p.classes[s.name][n] == nil {
					p.classes[s.name][n] = make(map[string]string)
				}
				p.classes[s.name][n][row["type"]] = row[s.name]
			}
		}
		for _, row := range table(string(page), "retry") {
			p.calls[s.name][row["retry"]] = number(t, row[s.name])
		}
	}
	if len(p.errors) < 25 || len(p.classes["stripe-go"]) < 8 || len(p.calls["stripe-go"]) != 3 {
		t.Fatalf("docs/api.md has other tables than this test reads: %+v", p)
	}
	return p
}

// table reads the rows of the table whose first column has a heading; the marks of code are left out.
func table(page, first string) []map[string]string {
	var heads []string
	var out []map[string]string
	for line := range strings.Lines(page) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.Trim(strings.TrimSpace(cells[i]), "`")
		}
		switch {
		case !strings.HasPrefix(line, "|"):
			heads = nil
		case cells[0] == first:
			heads = cells
		case heads != nil && !strings.HasPrefix(cells[0], "-"):
			row := make(map[string]string, len(heads))
			for i, head := range heads {
				row[head] = cells[i]
			}
			out = append(out, row)
		}
	}
	return out
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("docs/api.md: %v", err)
	}
	return n
}

// unreachable are the codes that no SDK can meet, with the reason.
var unreachable = map[policy.Code]string{
	policy.CodeKeyMode: "a vault key takes its mode from its upstream, whose secrets can only be exchanged for others of the same mode, and " +
		"a key's text in another mode has another checksum: keybrake_key_invalid (there is a case for it)",
	policy.CodeProbe: "only the twin of a key that `keybrake verify` makes for itself meets it, and nobody is shown the twin's text",
	policy.CodeUncapped: "a policy is refused when it is made or changed unless a cap bounds every bucket that it can move; only a catalog " +
		"that learned since then that an operation moves money leads here",
}

// TestEveryCodeMeetsEverySDK fails for a code that nobody has tried with an SDK, or has said why not.
func TestEveryCodeMeetsEverySDK(t *testing.T) {
	codes := append(codesOf(t, "policy"), codesOf(t, "upstream")...)
	if len(codes) < 28 {
		t.Fatalf("only %d codes were found; the test looks at the wrong constants", len(codes))
	}
	for _, code := range codes {
		for _, s := range sdks {
			tried := 0
			for _, c := range denials() {
				if c.code == code && c.without[s.name] == "" {
					tried++
				}
			}
			reason := unreachable[code]
			if tried == 0 && reason == "" {
				t.Errorf("%s: no case raises %s", s.name, code)
			}
			if tried > 0 && reason != "" {
				t.Errorf("%s raises %s, which is said to be out of reach: %s", s.name, code, reason)
			}
		}
	}
}

// codesOf reads the values of all constants of a package whose name begins with Code.
func codesOf(t *testing.T, pkg string) []policy.Code {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("..", "..", "internal", pkg, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var out []policy.Code
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, codesIn(t, file)...)
	}
	return out
}

func codesIn(t *testing.T, file *ast.File) (out []policy.Code) {
	t.Helper()
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Code") || len(spec.Values) != 1 {
			return true
		}
		lit, ok := spec.Values[0].(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return true
		}
		value, err := strconv.Unquote(lit.Value)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, policy.Code(value))
		return true
	})
	return out
}

// retryOf is what the header says: only of a call with an unknown outcome does it depend on the call.
func (d documented) retryOf(reason policy.Code, keyed bool) string {
	if reason == upstream.CodeOutcomeUnknown {
		return strconv.FormatBool(keyed)
	}
	return d.Retry
}
