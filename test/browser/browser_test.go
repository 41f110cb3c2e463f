// Package browser tries the console as people have it: in headless Chromium, against the real program.
package browser

import (
	"encoding/json"
	"errors"
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
			where := []string{"--dev"}
			if file == "first.test.js" { // somebody's first start, with nothing in the store
				where = []string{"--store", "sqlite:" + filepath.Join(t.TempDir(), "keybrake.db")}
			}
			ready, printed := serve(t, where...)
			cmd.Env = append(os.Environ(), "KEYBRAKE_READY="+ready, "KEYBRAKE_PRINTED="+printed)
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

// serve starts a server that ends with the test, and returns the file that says where it is and what it printed by then.
func serve(t *testing.T, flags ...string) (ready, printed string) {
	t.Helper()
	dir := t.TempDir()
	ready = filepath.Join(dir, "ready.json")
	out, err := os.Create(filepath.Join(dir, "printed"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, append([]string{"serve", "--gateway-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--ready-file", ready}, flags...)...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, append(os.Environ(), "XDG_STATE_HOME="+dir), out, out
	said := func() string {
		text, err := os.ReadFile(out.Name())
		if err != nil {
			t.Error(err)
		}
		return string(text)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() { gone <- errors.Join(cmd.Wait(), out.Close()) }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may be gone, which the next line tells
		if err := <-gone; err != nil {
			t.Errorf("the server ended with %v\n%s", err, said())
		}
	})
	for until := time.Now().Add(time.Minute); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		if text, err := os.ReadFile(ready); err == nil && json.Valid(text) {
			return ready, said()
		}
		select {
		case err := <-gone:
			gone <- nil
			t.Fatalf("the server ended: %v\n%s", err, said())
		default:
		}
	}
	t.Fatal("the server does not come up")
	return "", ""
}
