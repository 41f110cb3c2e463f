// Package docs_test keeps the documentation true: every code, setting and policy field has its place in a page,
// every example parses, and no link is dead.
package docs_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
	"github.com/keybrake/keybrake/internal/upstream/stripe"
)

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func parse(t *testing.T, name string) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// codes reads the values of all constants whose name begins with Code.
func codes(t *testing.T, name string) []policy.Code {
	t.Helper()
	var out []policy.Code
	ast.Inspect(parse(t, name), func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Code") || len(spec.Values) != 1 {
			return true
		}
		if lit, ok := spec.Values[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
			out = append(out, policy.Code(unquote(t, lit.Value)))
		}
		return true
	})
	return out
}

func unquote(t *testing.T, s string) string {
	t.Helper()
	out, err := strconv.Unquote(s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func allCodes(t *testing.T) []policy.Code {
	t.Helper()
	out := append(codes(t, "../internal/policy/decision.go"), codes(t, "../internal/upstream/failure.go")...)
	if len(out) < 25 {
		t.Fatalf("only %d codes were found; the test looks at the wrong constants", len(out))
	}
	return out
}

// headings lists the headings of a page with their level's marks.
func headings(page string) []string {
	var out []string
	inCode := false
	for line := range strings.Lines(page) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "```") {
			inCode = !inCode
		}
		if !inCode && strings.HasPrefix(line, "#") {
			out = append(out, line)
		}
	}
	return out
}

func TestEveryCodeHasAHeadingThatItsErrorLinksTo(t *testing.T) {
	have := headings(read(t, "policies.md"))
	for _, code := range allCodes(t) {
		if !slices.Contains(have, "## "+string(code)) {
			t.Errorf("docs/policies.md has no heading `## %s`, where errors with that code link to", code)
		}
	}
	known := allCodes(t)
	for _, h := range have {
		if name := strings.TrimPrefix(h, "## "); strings.HasPrefix(name, "keybrake_") && !slices.Contains(known, policy.Code(name)) {
			t.Errorf("docs/policies.md explains %s, which no constant names", name)
		}
	}
}

func TestEveryPolicyFieldHasAHeading(t *testing.T) {
	have := headings(read(t, "policies.md"))
	found := 0
	ast.Inspect(parse(t, "../internal/policy/parse.go"), func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || spec.Names[0].Name != "fields" {
			return true
		}
		for _, e := range spec.Values[0].(*ast.CompositeLit).Elts {
			name := unquote(t, e.(*ast.KeyValueExpr).Key.(*ast.BasicLit).Value)
			found++
			if !slices.Contains(have, "### `"+name+"`") {
				t.Errorf("docs/policies.md has no heading for the field `%s`", name)
			}
		}
		return false
	})
	if found < 15 {
		t.Fatalf("only %d fields were found; the test looks at the wrong variable", found)
	}
}

var yamlBlock = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```")

func TestEveryPolicyExampleParses(t *testing.T) {
	adapter, err := stripe.New()
	if err != nil {
		t.Fatal(err)
	}
	voc := adapter.Catalog().Vocabulary()
	blocks := yamlBlock.FindAllStringSubmatch(read(t, "policies.md"), -1)
	if len(blocks) < 8 {
		t.Fatalf("only %d examples were found", len(blocks))
	}
	for i, block := range blocks {
		if _, _, err := policy.Parse(fmt.Sprintf("example %d", i+1), []byte(block[1]), voc); err != nil {
			t.Errorf("%v\n%s", err, block[0])
		}
	}
}

// row finds a line of a table by its first cell and returns its cells.
func row(page, first string) []string {
	for line := range strings.Lines(page) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if strings.HasPrefix(line, "|") && cells[0] == first {
			return cells
		}
	}
	return nil
}

func TestTheErrorTableSaysWhatAgentsGet(t *testing.T) {
	adapter, err := stripe.New()
	if err != nil {
		t.Fatal(err)
	}
	page := read(t, "api.md")
	for _, code := range allCodes(t) {
		got := adapter.Refuse(upstream.Denial{Code: code, Message: "m"})
		kind := regexp.MustCompile(`"type": "(\w+)"`).FindStringSubmatch(string(got.Body))
		if kind == nil {
			t.Fatalf("%s: no type in %s", code, got.Body)
		}
		retry := got.Header.Get("Stripe-Should-Retry")
		if code == upstream.CodeOutcomeUnknown {
			retry = "true with a key"
			again := adapter.Refuse(upstream.Denial{Code: code, Message: "m", Retry: true})
			if again.Header.Get("Stripe-Should-Retry") != "true" {
				t.Errorf("%s is not retried with an idempotency key", code)
			}
		}
		if retry == "" {
			retry = "no header"
		}
		want := []string{"`" + string(code) + "`", strconv.Itoa(got.Status), "`" + kind[1] + "`", retry}
		have := row(page, want[0])
		if len(have) < len(want) || !slices.Equal(have[:len(want)], want) {
			t.Errorf("docs/api.md: the row of %s is %q, agents get %q", code, have, want)
		}
	}
	if scope := adapter.Refuse(upstream.Denial{Code: policy.CodeScopeDenied, ScopeStatus: http.StatusForbidden}); scope.Status != http.StatusForbidden {
		t.Errorf("scope_denial_status 403 gives %d", scope.Status)
	}
}

func TestEverySettingIsInOperating(t *testing.T) {
	page := read(t, "operating.md")
	found := 0
	known := map[string]bool{}
	ast.Inspect(parse(t, "../cmd/keybrake/settings.go"), func(n ast.Node) bool {
		field, ok := n.(*ast.Field)
		if !ok || field.Tag == nil {
			return true
		}
		name := reflect.StructTag(unquote(t, field.Tag.Value)).Get("yaml")
		if name == "" {
			return true
		}
		found++
		known[name] = true
		forms := []string{"`" + name + "`", "`--" + strings.ReplaceAll(name, "_", "-") + "`", "`KEYBRAKE_" + strings.ToUpper(name) + "`"}
		if list, ok := field.Type.(*ast.ArrayType); ok {
			if _, text := list.Elt.(*ast.Ident); !text {
				forms = forms[:1] // a list of things with parts: in the config file alone
			}
		}
		if kind, ok := field.Type.(*ast.Ident); ok && strings.HasSuffix(kind.Name, "Settings") {
			forms = forms[:1] // a thing with parts likewise
		}
		if _, of := field.Type.(*ast.SelectorExpr); of {
			forms = forms[:1] // and so is one of another package
		}
		for _, form := range forms {
			if !strings.Contains(page, form) {
				t.Errorf("docs/operating.md does not name %s", form)
			}
		}
		return true
	})
	if found < 10 {
		t.Fatalf("only %d settings were found", found)
	}
	for _, block := range yamlBlock.FindAllStringSubmatch(page, -1) {
		var config map[string]any
		if err := yaml.Unmarshal([]byte(block[1]), &config); err != nil {
			t.Errorf("the example of a config file does not parse: %v", err)
		}
		for name := range config {
			if !known[name] {
				t.Errorf("the example of a config file has %s, which is no setting", name)
			}
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// anchor is the id that a heading gets on GitHub.
func anchor(heading string) string {
	text := strings.ToLower(strings.TrimSpace(strings.TrimLeft(heading, "#")))
	return regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(text, "")
}

func hasAnchor(page, name string) bool {
	return slices.ContainsFunc(headings(page), func(h string) bool { return strings.ReplaceAll(anchor(h), " ", "-") == name })
}

func TestNoLinkIsDead(t *testing.T) {
	pages := []string{"../README.md", "../ARCHITECTURE.md"}
	for _, pattern := range []string{"*.md", "decisions/*.md", "../internal/*/README.md", "../internal/upstream/*/README.md"} {
		more, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, more...)
	}
	for _, page := range pages {
		for _, m := range link.FindAllStringSubmatch(read(t, page), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			file, at, _ := strings.Cut(m[1], "#")
			target := page
			if file != "" {
				target = filepath.Join(filepath.Dir(page), file)
			}
			info, err := os.Stat(target)
			if errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s links to %s, which does not exist", page, m[1])
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if at != "" && (info.IsDir() || !hasAnchor(read(t, target), at)) {
				t.Errorf("%s links to %s: there is no such heading", page, m[1])
			}
		}
	}
}
