// Package adminapi holds the description of the admin API against a public linter, and uses a client that a public generator
// makes from it.
package adminapi

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/test/binary"
)

// program is the path of the binary under test.
var program string

func TestMain(m *testing.M) { os.Exit(binary.Main(m, &program)) }

func TestTheDescriptionLintsAndMakesAClientThatWorks(t *testing.T) {
	if _, err := exec.LookPath("node"); err != nil {
		binary.Missing(t, "needs node")
	}
	modules, err := filepath.Abs("node_modules")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(modules); err != nil {
		binary.Missing(t, "needs `npm ci` in test/adminapi")
	}
	server := binary.Serve(t, program, "--dev")
	dir := t.TempDir()
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "openapi.json", get(t, server.Admin+"/admin/openapi.json"))
	client, err := os.ReadFile("client.ts")
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "client.ts", client)
	write(t, dir, "package.json", []byte(`{"type": "module"}`))
	write(t, dir, "tsconfig.json", []byte(`{"compilerOptions": {"target": "es2022", "module": "nodenext", "strict": true, "skipLibCheck": true, "types": [], "lib": ["es2022", "dom", "dom.iterable"]}, "files": ["client.ts"]}`))
	run(t, dir, "redocly", "lint", "openapi.json")
	run(t, dir, "openapi-typescript", "openapi.json", "--output", "schema.d.ts")
	run(t, dir, "tsc", "--project", ".")
	if out := run(t, dir, "node", "client.js", server.Admin, server.Token); !strings.Contains(out, "done") {
		t.Errorf("it says %q", out)
	}
}

// run runs a tool of npm's, or node itself, and returns what it says.
func run(t *testing.T, dir, tool string, args ...string) string {
	t.Helper()
	if tool != "node" {
		tool = filepath.Join(dir, "node_modules", ".bin", tool)
	}
	cmd := exec.Command(tool, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "REDOCLY_TELEMETRY=off", "REDOCLY_SUPPRESS_UPDATE_NOTICE=true")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(tool), strings.Join(args, " "), err, out)
	}
	return string(out)
}

func write(t *testing.T, dir, name string, text []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, url string) []byte {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %v", url, resp.StatusCode, err)
	}
	return text
}
