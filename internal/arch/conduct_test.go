package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// mayDial are the packages that may make an http.Client or http.Transport: agent data leaves only through
// upstream's client, the operators' client speaks to their own server, and secret stores are named in the config file.
var mayDial = []string{"internal/alert", "internal/upstream", "internal/admin", "internal/alert", "internal/secretstore"}

// shared are members of net/http that belong to the whole process: anybody could change what they do.
var shared = []string{"DefaultClient", "DefaultTransport", "DefaultServeMux", "Get", "Post", "PostForm", "Head", "Handle", "HandleFunc"}

// clockless are the packages whose decisions depend on their arguments alone.
var clockless = []string{"internal/money", "internal/policy", "internal/ledger"}

// worldly are imports that clockless packages do not have.
var worldly = []string{"os", "net", "net/http", "log/slog", "crypto/rand"}

// clocks are members of package time that look at a clock or wait for one.
var clocks = []string{"Now", "Since", "Until", "After", "AfterFunc", "Sleep", "Tick", "NewTimer", "NewTicker"}

// misconduct is what a file of pkg does that it may not.
func misconduct(pkg string, f *ast.File) []string {
	var wrong []string
	pure := slices.Contains(clockless, pkg)
	for _, i := range f.Imports {
		if name := strings.Trim(i.Path.Value, `"`); pure && slices.Contains(worldly, name) {
			wrong = append(wrong, "imports "+name+": it decides by its arguments alone")
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		x, ok := sel.X.(*ast.Ident)
		if !ok {
			return true
		}
		name := sel.Sel.Name
		switch {
		case x.Name == "http" && slices.Contains(shared, name):
			wrong = append(wrong, "uses http."+name+", which the whole process shares")
		case x.Name == "http" && (name == "Client" || name == "Transport") && !slices.Contains(mayDial, pkg):
			wrong = append(wrong, "uses http."+name+": it may not dial")
		case x.Name == "time" && pure && slices.Contains(clocks, name):
			wrong = append(wrong, "uses time."+name+": time is an argument here")
		}
		return true
	})
	return wrong
}

func TestOnlyItsRoomDialsAndDecisionsKnowNoClock(t *testing.T) {
	for _, f := range files(t) {
		if f.test {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), f.path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range misconduct(f.pkg, parsed) {
			t.Errorf("%s/%s %s", f.pkg, f.name, w)
		}
	}
}

func TestMisconductIsSeen(t *testing.T) {
	for _, tt := range []struct{ name, pkg, text, want string }{
		{"a client of its own in the gateway", "internal/gateway", "import \"net/http\"\nvar c http.Client", "may not dial"},
		{"a client in upstream", "internal/upstream", "import \"net/http\"\nvar c http.Client", ""},
		{"the shared client even where dialling is allowed", "internal/admin", "import \"net/http\"\nvar c = http.DefaultClient", "shares"},
		{"a clock in a decision", "internal/policy", "import \"time\"\nvar now = time.Now", "time is an argument"},
		{"a duration in a decision", "internal/policy", "import \"time\"\nconst d = time.Hour", ""},
		{"a clock at the edge", "internal/gateway", "import \"time\"\nvar now = time.Now", ""},
		{"a file in a decision", "internal/money", "import _ \"os\"", "arguments alone"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := parser.ParseFile(token.NewFileSet(), "a.go", "package a\n"+tt.text, 0)
			if err != nil {
				t.Fatal(err)
			}
			got := misconduct(tt.pkg, f)
			if (len(got) == 0) != (tt.want == "") || tt.want != "" && !strings.Contains(got[0], tt.want) {
				t.Errorf("found %q, want %q", got, tt.want)
			}
		})
	}
}

// leaks are what no file may say, whatever its language: where it was written, and where its packages came from
// there. The patterns are put together so that they do not find themselves.
var leaks = map[string]*regexp.Regexp{
	"a path of somebody's machine": regexp.MustCompile(`(^|[\s"'(=:])/(wor` + `k/|roo` + `t/|hom` + `e/[a-z]|User` + `s/[a-z])`),
	"a host of a package registry": regexp.MustCompile(`(?i)\b(regis` + `try|pro` + `xy|artifactory|nexus)\.[a-z0-9-]+\.[a-z]{2,}`),
	"a host in a lock file":        regexp.MustCompile(`"resolv` + `ed":\s*"http`),
}

func leaksIn(text string) []string {
	var found []string
	for what, re := range leaks {
		if m := re.FindString(text); m != "" {
			found = append(found, what+": "+strings.TrimSpace(m))
		}
	}
	return found
}

func TestNoFileNamesTheMachineItWasWrittenOn(t *testing.T) {
	read := 0
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			switch d.Name() {
			case ".git", ".cache", "node_modules", "build", "bin":
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || d.Name() == "go.sum" || d.Name() == ".git" { // a file in a worktree: it is not in the repository
			return nil
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if read++; strings.ContainsRune(string(b), 0) {
			return nil // not a text
		}
		for _, w := range leaksIn(string(b)) {
			t.Errorf("%s: %s", filepath.ToSlash(p), w)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if read < 100 {
		t.Fatalf("%d files: the walk did not find the repository", read)
	}
}

func TestLeaksAreSeen(t *testing.T) {
	for text, want := range map[string]int{
		"see /wor" + "k/main/a.go":                    1,
		"cd /roo" + "t/keybrake":                      1,
		"CONFIG=/hom" + "e/ann/c":                     1,
		`"resolv` + `ed": "http://a/b"`:               1,
		"from regis" + "try.a.org":                    1,
		"the home/start page, stripe.com/wor" + "k/x": 0,
		"GET /v1/charges":                             0,
	} {
		if got := leaksIn(text); len(got) != want {
			t.Errorf("%q: %q, want %d findings", text, got, want)
		}
	}
}
