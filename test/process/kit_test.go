// Package process tries what only whole processes can show: start, stop, restart, signals, files, TLS, and the
// command line from another shell.
package process

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keybrake/keybrake/test/binary"
)

// program is the path of the binary under test.
var program string

func TestMain(m *testing.M) { os.Exit(binary.Main(m, &program)) }

// home is a user with a folder, in which servers run and commands are typed.
type home struct {
	t       *testing.T
	dir     string
	Sandbox string
}

// newHome starts a sandbox of its own: a Stripe that outlives every gateway of the test.
func newHome(t *testing.T) *home {
	t.Helper()
	h := &home{t: t, dir: t.TempDir()}
	box := h.start("sandbox", "--listen", "127.0.0.1:0")
	h.Sandbox = strings.TrimPrefix(box.waitFor(regexp.MustCompile(`http://\S+`)), "sandbox: ")
	return h
}

// process is a running keybrake.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  *output // standard output and error
	log  *output // standard error alone
	done chan struct{}
	err  error
}

// output collects what a process prints, for reading while it runs.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func (h *home) env(extra ...string) []string {
	return append(append(os.Environ(), "XDG_STATE_HOME="+h.dir), extra...)
}

// start runs a command in the background; it is ended with the test.
func (h *home) start(args ...string) *process {
	h.t.Helper()
	p := &process{t: h.t, cmd: exec.Command(program, args...), out: &output{}, log: &output{}, done: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = h.dir, h.env(), p.out, io.MultiWriter(p.out, p.log)
	if err := p.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	go func() { p.err = p.cmd.Wait(); close(p.done) }()
	h.t.Cleanup(func() { p.signal(syscall.SIGKILL); <-p.done })
	return p
}

func (p *process) signal(s os.Signal) { _ = p.cmd.Process.Signal(s) } // one that ended needs none

// end asks the process to stop and returns how it ended.
func (p *process) end() error {
	p.signal(syscall.SIGTERM)
	<-p.done
	return p.err
}

func (p *process) waitFor(re *regexp.Regexp) string {
	p.t.Helper()
	for {
		if m := re.FindString(p.out.String()); m != "" {
			return m
		}
		select {
		case <-p.done:
			p.t.Fatalf("it ended without saying %s: %v\n%s", re, p.err, p.out)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// server is a running `keybrake serve`.
type server struct {
	*process
	h                     *home
	Gateway, Admin, Token string
}

// serve starts a gateway on the home's store with more flags.
func (h *home) serve(flags ...string) *server {
	h.t.Helper()
	ready := filepath.Join(h.dir, "ready.json")
	_ = os.Remove(ready) // the one of an earlier server
	args := append([]string{"serve", "--gateway-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--store", "sqlite:kb.db", "--ready-file", ready}, flags...)
	s := &server{process: h.start(args...), h: h}
	for {
		text, err := os.ReadFile(ready)
		if err == nil {
			var f struct {
				Gateway, Admin string
				AdminToken     string `json:"admin_token"`
			}
			if err := json.Unmarshal(text, &f); err != nil {
				h.t.Fatal(err)
			}
			s.Gateway, s.Admin, s.Token = f.Gateway, f.Admin, f.AdminToken
			return s
		}
		select {
		case <-s.done:
			h.t.Fatalf("serve ended: %v\n%s", s.err, s.out)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// result is what a command did.
type result struct {
	Exit     int
	Out, Err string
}

// run types one command.
func (h *home) run(args ...string) result { return h.runEnv(nil, args...) }

func (h *home) runEnv(env []string, args ...string) result {
	h.t.Helper()
	cmd := exec.Command(program, args...)
	var out, errs bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = h.dir, h.env(env...), &out, &errs
	err := cmd.Run()
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		h.t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// must types a command that has to succeed and reads its JSON.
func (h *home) must(to any, args ...string) {
	h.t.Helper()
	r := h.run(args...)
	if r.Exit != 0 {
		h.t.Fatalf("keybrake %s: exit %d\n%s%s", strings.Join(args, " "), r.Exit, r.Out, r.Err)
	}
	if to != nil {
		if err := json.Unmarshal([]byte(r.Out), to); err != nil {
			h.t.Fatalf("keybrake %s: %v\n%s", strings.Join(args, " "), err, r.Out)
		}
	}
}

// ready adds the sandbox as upstream and makes a key of the refund preset, any customer.
func (h *home) ready() (key string) {
	h.t.Helper()
	r := h.runEnv([]string{"SECRET=sk_test_process"}, "upstream", "add", "stripe-test", "--secret-env", "SECRET", "--base-url", h.Sandbox)
	if r.Exit != 0 {
		h.t.Fatalf("upstream add: %s%s", r.Out, r.Err)
	}
	return h.newKey("agent-support-refunds-p1")
}

func (h *home) newKey(name string) (key string) {
	h.t.Helper()
	var created struct{ Key string }
	h.must(&created, "key", "create", "--preset", "refund-support", "--name", name, "--customer", "any", "--cap", "refunds/day=100", "-o", "json")
	return created.Key
}

// answer is what an agent got.
type answer struct {
	Status int
	Code   string
	Body   string
}

// call sends one request as an agent.
func call(t *testing.T, client *http.Client, key, method, url, form string, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	if form != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var parsed struct{ Error struct{ Code string } }
	_ = json.Unmarshal(body, &parsed) // what is no JSON shows in Body
	return answer{resp.StatusCode, parsed.Error.Code, string(body)}
}

// seeded is what the sandbox holds.
func (h *home) seeded() (customers []struct {
	ID      string
	Charges []string
}) {
	h.t.Helper()
	resp, err := http.Post(h.Sandbox+"/_sandbox/seed", "application/json", nil)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	var s struct {
		Customers []struct {
			ID      string
			Charges []string
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		h.t.Fatal(err)
	}
	return s.Customers
}

// sandbox sends a command to the sandbox.
func (h *home) sandbox(method, path, body string) {
	h.t.Helper()
	req, err := http.NewRequest(method, h.Sandbox+"/_sandbox/"+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		text, _ := io.ReadAll(resp.Body)
		h.t.Fatalf("%s %s: %d %s", method, path, resp.StatusCode, text)
	}
}

// health reads the sandbox's counters.
func (h *home) health() (arrivals, hanging int) {
	h.t.Helper()
	resp, err := http.Get(h.Sandbox + "/_sandbox/healthz")
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	var s struct{ Arrivals, Hanging int }
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		h.t.Fatal(err)
	}
	return s.Arrivals, s.Hanging
}
