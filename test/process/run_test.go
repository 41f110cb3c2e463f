package process

import (
	"errors"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMakeRunEndsWithCtrlC types the README's first command and interrupts it as a terminal does: every process of
// the foreground group gets the signal.
func TestMakeRunEndsWithCtrlC(t *testing.T) {
	h := &home{t: t, dir: t.TempDir()}
	p := &process{t: t, cmd: exec.Command("make", "-C", filepath.Join("..", ".."), "run"), out: &output{}, done: make(chan struct{})}
	p.cmd.Env = append(h.env("KEYBRAKE_GATEWAY_LISTEN=127.0.0.1:0", "KEYBRAKE_ADMIN_LISTEN=127.0.0.1:0"), "MAKEFLAGS=", "MAKELEVEL=")
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	group := -p.cmd.Process.Pid
	go func() { p.err = p.cmd.Wait(); close(p.done) }()
	t.Cleanup(func() { _ = syscall.Kill(group, syscall.SIGKILL); <-p.done })
	p.waitFor(regexp.MustCompile(`ends with Ctrl-C`))
	if err := syscall.Kill(group, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	<-p.done
	if out := p.out.String(); strings.Contains(out, "Error") || strings.Contains(out, "***") {
		t.Errorf("make complains about a program that ended well:\n%s", out)
	}
	// make itself dies of the signal, once its program has ended.
	if status := p.cmd.ProcessState.Sys().(syscall.WaitStatus); p.err != nil && status.Signal() != syscall.SIGINT {
		t.Errorf("make: %v\n%s", p.err, p.out)
	}
	for range 1000 { // a process that ended is in its group until somebody has waited for it
		if err := syscall.Kill(group, 0); errors.Is(err, syscall.ESRCH) {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("something of process group %d is still running", -group)
}
