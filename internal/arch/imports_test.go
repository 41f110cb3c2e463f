// Package arch holds the repository's rules that no compiler checks: who may import whom, how large a room may
// get, what must be documented. Tests only. Everything is read with go/parser inside this process: a test that
// asked the go command instead would pass from the test cache after a forbidden import was added.
package arch

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module = "github.com/keybrake/keybrake"
	root   = "../.."
)

// may says which packages of ours each package may import: the table of ARCHITECTURE.md. Everything below
// points down; siblings (ledger, vault, audit) do not know each other. A package that is not here fails the
// test: add it where it belongs in the picture.
var may = map[string][]string{
	"internal/money":                       {},
	"internal/program":                     {},
	"internal/policy":                      {"internal/money"},
	"internal/ledger":                      {"internal/money", "internal/policy"},
	"internal/vault":                       {"internal/money", "internal/policy"},
	"internal/audit":                       {"internal/money", "internal/policy"},
	"internal/store":                       below("internal/store"),
	"internal/store/codec":                 below("internal/store"),
	"internal/store/mark":                  {},
	"internal/store/move":                  append(below("internal/store"), "internal/store", "internal/store/codec"),
	"internal/store/queue":                 append(below("internal/store"), "internal/store"),
	"internal/store/record":                append(below("internal/store"), "internal/store"),
	"internal/store/seeding":               append(below("internal/store"), "internal/store"),
	"internal/store/sqlite":                engine(),
	"internal/store/postgres":              engine(),
	"internal/store/postgres/postgrestest": {},
	"internal/store/storetest":             append(below("internal/store"), "internal/store", "internal/store/codec", "internal/store/record"),
	"internal/upstream":                    below("internal/store"),
	"internal/upstream/stripe":             append(below("internal/store"), "internal/upstream"),
	"internal/upstream/stripe/sandbox":     {}, // a witness must know nothing of what it witnesses
	"internal/gateway":                     append(below("internal/store"), "internal/store", "internal/upstream"),
	"internal/gateway/wire":                {"internal/policy"},
	"internal/replay":                      {"internal/money", "internal/policy", "internal/ledger", "internal/audit"}, // pure: no store, no clock
	"internal/reconcile":                   append(below("internal/store"), "internal/store", "internal/upstream"),
	"internal/admin":                       append(below("internal/store"), "internal/store", "internal/upstream", "internal/reconcile", "internal/replay", "internal/alert", "internal/cluster"), // operators drive it
	"internal/alert":                       append(below("internal/store"), "internal/store", "internal/program"),
	"internal/cluster":                     {"internal/store"},
	"internal/console":                     {"internal/admin"},                                                                         // not store: a page cannot write around the audit
	"internal/observe":                     append(below("internal/store"), "internal/store", "internal/upstream", "internal/gateway"), // is told of calls
	"internal/secretstore":                 {"internal/vault", "internal/program"},
	"internal/sim":                         {}, // tests only
	"internal/arch":                        {},
	"docs":                                 {},
	"cmd/keybrake":                         {"*"}, // the one place that names an engine and a vendor
}

// engine is what an engine may import: what is below the store, and what the engines share.
func engine() []string {
	return append(below("internal/store"), "internal/store", "internal/store/codec", "internal/store/mark", "internal/store/move", "internal/store/queue", "internal/store/record", "internal/store/seeding")
}

// below is everything under the store.
func below(string) []string {
	return []string{"internal/money", "internal/policy", "internal/ledger", "internal/vault", "internal/audit"}
}

// only says which packages may import what is dangerous or belongs to one place. Tests are free.
var only = map[string][]string{
	"database/sql":                      {"internal/store/sqlite"},
	"modernc.org/sqlite":                {"internal/store/sqlite"},
	"github.com/pressly/goose/v3":       {"internal/store/sqlite", "internal/store/postgres"},
	"github.com/pressly/goose/v3/lock":  {"internal/store/postgres"},
	"github.com/jackc/pgx/v5":           {"internal/store/postgres", "internal/store/postgres/postgrestest"},
	"github.com/jackc/pgx/v5/stdlib":    {"internal/store/postgres"}, // for migrations
	"github.com/jackc/pgx/v5/pgconn":    {"internal/store/postgres"},
	"github.com/jackc/pgx/v5/pgxpool":   {"internal/store/postgres"},
	"crypto/aes":                        {"internal/vault"},
	"crypto/cipher":                     {"internal/vault"},
	"crypto/hmac":                       {"internal/alert", "internal/vault"},
	"crypto/hkdf":                       {"internal/vault"},
	"crypto/ed25519":                    {"internal/vault", "internal/audit", "internal/store/storetest"}, // audit verifies, storetest signs as a fake
	"net/http/httputil":                 {},                                                               // forwards odd paths, cancels what must finish
	"net/rpc":                           {},
	"os/exec":                           {"internal/program", "internal/secretstore", "internal/store/postgres/postgrestest"}, // programs that the config file names; a server for tests
	"unsafe":                            {},
	"plugin":                            {},
	"math/rand":                         {},
	"math/rand/v2":                      {"internal/upstream/stripe/sandbox"}, // deterministic by seed
	"github.com/danielgtaylor/huma/v2":  {"internal/admin"},
	"github.com/coreos/go-oidc/v3/oidc": {"internal/admin"},
	"golang.org/x/oauth2":               {"internal/admin"},
	"github.com/prometheus/client_golang/prometheus":            {"internal/observe"},
	"github.com/prometheus/client_golang/prometheus/promhttp":   {"internal/observe"},
	"github.com/prometheus/client_golang/prometheus/promauto":   {}, // it counts in what the whole process shares
	"github.com/prometheus/client_golang/prometheus/collectors": {"internal/observe"},
	"github.com/wneessen/go-mail":                               {"internal/alert"},
	"github.com/spf13/cobra":                                    {"cmd/keybrake"},
	"github.com/goccy/go-yaml":                                  {"internal/policy", "cmd/keybrake"},
}

// file is one parsed source file.
type file struct {
	pkg, name string // "internal/policy", "decide.go"
	path      string
	test      bool
	imports   []string
}

// files reads every Go file of the root module.
func files(t *testing.T) []file {
	t.Helper()
	var out []file
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if name := d.Name(); rel != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "build" || rel == "test") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(rel, ".go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		f := file{pkg: path.Dir(rel), name: path.Base(rel), path: p, test: strings.HasSuffix(rel, "_test.go")}
		for _, i := range parsed.Imports {
			name, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			f.imports = append(f.imports, name)
		}
		out = append(out, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 100 {
		t.Fatalf("%d files: the walk did not find the repository", len(out))
	}
	return out
}

func TestImportsPointDown(t *testing.T) {
	for _, f := range files(t) {
		allowed, known := may[f.pkg]
		if !known {
			t.Errorf("%s is in no row of the import table (internal/arch/imports_test.go): add it where it belongs", f.pkg)
			continue
		}
		if f.test || slices.Contains(allowed, "*") {
			continue // a test may bring up a whole world
		}
		for _, name := range f.imports {
			ours, is := strings.CutPrefix(name, module+"/")
			if is && !slices.Contains(allowed, ours) {
				t.Errorf("%s/%s imports %s, which is not below it", f.pkg, f.name, ours)
			}
		}
	}
}

func TestDangerousPackagesStayInTheirRoom(t *testing.T) {
	for _, f := range files(t) {
		if f.test {
			continue
		}
		for _, name := range f.imports {
			if rooms, limited := only[name]; limited && !slices.Contains(rooms, f.pkg) {
				t.Errorf("%s/%s imports %s, which belongs to %v", f.pkg, f.name, name, rooms)
			}
		}
	}
}

// TestTheTableHasNoCycle makes sure that the table itself points down.
func TestTheTableHasNoCycle(t *testing.T) {
	var visit func(pkg string, trail []string)
	visit = func(pkg string, trail []string) {
		if slices.Contains(trail, pkg) {
			t.Fatalf("cycle: %v", append(trail, pkg))
		}
		for _, next := range may[pkg] {
			if next != "*" {
				visit(next, append(trail, pkg))
			}
		}
	}
	for pkg := range may {
		visit(pkg, nil)
	}
}
