package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// secretVariable carries the upstream secret to the proxies that Keybrake is compared with.
const secretVariable = "UPSTREAM_SECRET"

// patience is how long a process may take to come up or to go.
const patience = 60 * time.Second

// process is one program under measurement.
type process struct {
	name string
	cmd  *exec.Cmd
	out  bytes.Buffer
	gone chan error
}

func start(name string, cmd *exec.Cmd) (*process, error) {
	p := &process{name: name, cmd: cmd, gone: make(chan error, 1)}
	if cmd.Stdout == nil {
		cmd.Stdout = &p.out
	}
	cmd.Stderr = &p.out
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() { p.gone <- cmd.Wait() }()
	return p, nil
}

// until waits for a condition while the process lives.
func (p *process) until(what string, ready func() bool) error {
	for limit := time.Now().Add(patience); time.Now().Before(limit); {
		if ready() {
			return nil
		}
		select {
		case err := <-p.gone:
			p.gone <- err
			return fmt.Errorf("%s ended before %s: %w\n%s", p.name, what, err, p.out.Bytes())
		case <-time.After(5 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s: no %s within %s", p.name, what, patience)
}

// accepts waits until something listens at addr.
func (p *process) accepts(addr string) error {
	return p.until("listening", func() bool {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return false
		}
		return c.Close() == nil
	})
}

func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.name, err)
	}
	select {
	case err := <-p.gone:
		p.gone <- err
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() > 0 {
			return fmt.Errorf("%s: %w\n%s", p.name, err, p.out.Bytes())
		}
		return nil
	case <-time.After(patience):
		return errors.Join(fmt.Errorf("%s does not end within %s", p.name, patience), p.cmd.Process.Kill())
	}
}

// ticks is the unit of times in /proc: USER_HZ, 100 on every Linux of today.
const ticks = 100

// cpu is what the process and its children (nginx has workers) have spent, user and system.
func (p *process) cpu() (time.Duration, error) {
	total, err := cpuOf(p.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // a thread that ended in between
		}
		for _, field := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				return 0, err
			}
			child, err := cpuOf(pid)
			if err != nil {
				return 0, err
			}
			total += child
		}
	}
	return total, nil
}

func cpuOf(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field is the program's name in brackets and may hold anything.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	var total int
	for _, i := range []int{11, 12} { // utime and stime, fields 14 and 15 of the whole line
		n, err := strconv.Atoi(fields[i])
		if err != nil {
			return 0, err
		}
		total += n
	}
	return time.Duration(total) * (time.Second / ticks), nil
}

// memory is what a process has resident, in bytes.
type memory struct {
	now, anon, file int64 // anon: heap and caches of its own; file: pages of its program and its store's index
	peak            int64 // the most since forgetPeak
}

// String writes what a table shows.
func (m memory) String() string {
	return fmt.Sprintf("%s (anonymous %s, file %s), at most %s", mb(m.now), mb(m.anon), mb(m.file), mb(m.peak))
}

func (p *process) memory() (m memory, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return m, err
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		to, ok := map[string]*int64{"VmRSS": &m.now, "RssAnon": &m.anon, "RssFile": &m.file, "VmHWM": &m.peak}[name]
		if !ok {
			continue
		}
		kilobytes, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			return m, fmt.Errorf("read %s of %s: %w", name, p.name, err)
		}
		*to = kilobytes << 10
	}
	return m, nil
}

// forgetPeak lets the peak begin anew at what is resident now.
func (p *process) forgetPeak() error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.cmd.Process.Pid), []byte("5"), 0)
}

// freePort finds an address for programs that cannot tell which port they got.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// firstLine is a writer that hands on the first line written to it and drops the rest.
type firstLine struct {
	line chan string
	buf  []byte
	done bool
}

var _ io.Writer = (*firstLine)(nil)

func (f *firstLine) Write(b []byte) (int, error) {
	if f.done {
		return len(b), nil
	}
	f.buf = append(f.buf, b...)
	if line, _, ok := bytes.Cut(f.buf, []byte("\n")); ok {
		f.line <- string(line)
		f.done = true
	}
	return len(b), nil
}
