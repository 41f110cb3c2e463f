package binary

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Server is a program under test that serves, until its test ends.
type Server struct {
	ReadyFile string // where it wrote what is here
	Printed   string // what it had printed by then
	Gateway   string `json:"gateway"`
	Admin     string `json:"admin"`
	Token     string `json:"admin_token"`
}

// Serve starts `serve` in a folder and a state of its own, on ports that are free, and waits until it is ready. At the end of
// the test it must end well.
func Serve(t *testing.T, program string, flags ...string) *Server {
	t.Helper()
	dir := t.TempDir()
	s := &Server{ReadyFile: filepath.Join(dir, "ready.json")}
	out, err := os.Create(filepath.Join(dir, "printed")) // a file: what was printed before the ready file is in it
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, append([]string{"serve", "--gateway-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--ready-file", s.ReadyFile}, flags...)...)
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
	for until := time.Now().Add(time.Minute); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		if text, err := os.ReadFile(s.ReadyFile); err == nil && json.Unmarshal(text, s) == nil {
			s.Printed = said()
			return s
		}
		select {
		case err := <-gone:
			gone <- nil
			t.Fatalf("the server ended: %v\n%s", err, said())
		default:
		}
	}
	t.Fatalf("the server does not come up\n%s", said())
	return nil
}

// Missing leaves a test out for want of something that scripts/setup installs, except where everything must be there.
func Missing(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why + "; `make setup` installs it")
}
