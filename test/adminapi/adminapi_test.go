// Package adminapi holds the description of the admin API against a public linter, and uses a client that a public generator
// makes from it.
package adminapi

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keybrake/keybrake/test/binary"
)

// program is the path of the binary under test.
var program string

func TestMain(m *testing.M) { os.Exit(binary.Main(m, &program)) }

func TestTheDescriptionLintsAndMakesAClientThatWorks(t *testing.T) {
	if _, err := exec.LookPath("node"); err != nil {
		skip(t, "needs node")
	}
	modules, err := filepath.Abs("node_modules")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(modules); err != nil {
		skip(t, "needs `npm ci` in test/adminapi")
	}
	url, token := serve(t)
	dir := t.TempDir()
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "openapi.json", get(t, url+"/admin/openapi.json"))
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
	if out := run(t, dir, "node", "client.js", url, token); !strings.Contains(out, "done") {
		t.Errorf("it says %q", out)
	}
}

func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why + "; `make setup` installs it")
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

// serve starts a development server that ends with the test.
func serve(t *testing.T) (url, token string) {
	t.Helper()
	dir := t.TempDir()
	ready := filepath.Join(dir, "ready.json")
	cmd := exec.Command(program, "serve", "--dev", "--gateway-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--ready-file", ready)
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+dir)
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	var told struct {
		Admin string `json:"admin"`
		Token string `json:"admin_token"`
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		text, err := os.ReadFile(ready)
		if err == nil && json.Unmarshal(text, &told) == nil {
			return told.Admin, told.Token
		}
		if time.Now().After(deadline) {
			t.Fatal("the server does not come up")
		}
	}
}
