// Package browser tries the console as people have it: in headless Chromium, against the real program.
package browser

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/keybrake/keybrake/test/binary"
)

// program is the path of the binary under test.
var program string

func TestMain(m *testing.M) { os.Exit(binary.Main(m, &program)) }

// TestConsole runs each file of tests against a server of its own: they stop things.
func TestConsole(t *testing.T) {
	for _, tool := range []string{"node", "chromium"} {
		if _, err := exec.LookPath(tool); err != nil {
			skip(t, "needs "+tool)
		}
	}
	if _, err := os.Stat("node_modules"); err != nil {
		skip(t, "needs `npm ci` in test/browser")
	}
	files, err := filepath.Glob("*.test.js")
	if err != nil || len(files) == 0 {
		t.Fatal("no tests:", files, err)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			cmd := exec.Command("node", "--test", "--test-reporter=spec", file)
			cmd.Env = append(os.Environ(), "KEYBRAKE_READY="+serve(t))
			out, err := cmd.CombinedOutput()
			t.Logf("%s", out)
			if err != nil {
				t.Errorf("node --test %s: %v", file, err)
			}
		})
	}
}

// skip leaves a test out where something is missing, except where everything must be there.
func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why + "; `make setup` installs it")
}

// serve starts a development server that ends with the test, and returns the file that says where it is.
func serve(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	ready := filepath.Join(dir, "ready.json")
	var out bytes.Buffer
	cmd := exec.Command(program, "serve", "--dev", "--gateway-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--ready-file", ready)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, append(os.Environ(), "XDG_STATE_HOME="+dir), &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() { gone <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may be gone, which the next line tells
		if err := <-gone; err != nil {
			t.Errorf("the server ended with %v\n%s", err, out.Bytes())
		}
	})
	for until := time.Now().Add(time.Minute); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		if text, err := os.ReadFile(ready); err == nil && json.Valid(text) {
			return ready
		}
		select {
		case err := <-gone:
			gone <- nil
			t.Fatalf("the server ended: %v\n%s", err, out.Bytes())
		default:
		}
	}
	t.Fatal("the server does not come up")
	return ""
}
