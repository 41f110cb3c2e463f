// Package sdk drives Keybrake with the real Stripe SDKs, unmodified but for base URL and key, against the
// real binary.
package sdk

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keybrake/keybrake/test/binary"
)

// program is the path of the binary under test.
var program string

func TestMain(m *testing.M) { os.Exit(binary.Main(m, &program)) }

// dev is a running `keybrake serve --dev`.
type dev struct {
	t      *testing.T
	Out    string // what it printed
	Keys   []string
	Listed []string // the two customers of the first key
	ready  struct {
		Gateway, Admin, Sandbox string
		AdminToken              string `json:"admin_token"`
	}
	// Front notes what arrives at the gateway: the SDKs are pointed at it.
	Front    *httptest.Server
	mu       sync.Mutex
	arrivals []arrival
	dir      string
}

// arrival is one call that reached the gateway, as it was answered.
type arrival struct {
	Status int
	Header http.Header
	Body   []byte
}

// serveDev starts a server of its own for the test and ends it with Ctrl-C. flags are more of them.
func serveDev(t *testing.T, flags ...string) *dev {
	t.Helper()
	dir := t.TempDir()
	readyFile := filepath.Join(dir, "ready.json")
	cmd := exec.Command(program, append([]string{"serve", "--dev", "--reconcile-per-second", "0", "--gateway-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--ready-file", readyFile}, flags...)...)
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+dir, "TMPDIR="+dir)
	// A file, not a buffer: what was printed before the ready file is in it, however late anybody copies.
	out, err := os.Create(filepath.Join(dir, "printed"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	var errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT) // it may have ended by itself, which Wait tells
		if err := <-done; err != nil {
			t.Errorf("serve did not end cleanly on Ctrl-C: %v\n%s", err, errs.String())
		}
	})
	d := &dev{t: t, dir: dir}
	for {
		text, err := os.ReadFile(readyFile)
		if err == nil {
			if err := json.Unmarshal(text, &d.ready); err != nil {
				t.Fatal(err)
			}
			break
		}
		select {
		case err := <-done:
			done <- err
			t.Fatalf("serve ended before it was ready: %v\n%s", err, errs.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
	printed, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	d.Out = string(printed)
	d.Keys = regexp.MustCompile(`vault_key_test_[A-Za-z0-9]+`).FindAllString(d.Out, 2)
	// The second key is printed after the first one's customers.
	d.Listed = regexp.MustCompile(`cus_[A-Za-z0-9]+`).FindAllString(d.Out, 2)
	d.front()
	return d
}

func (d *dev) front() {
	target, err := url.Parse(d.ready.Gateway)
	if err != nil {
		d.t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ModifyResponse: func(r *http.Response) error {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return err
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			d.arrived(arrival{r.StatusCode, r.Header.Clone(), body})
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			d.arrived(arrival{Status: http.StatusBadGateway, Body: []byte(err.Error())})
			w.WriteHeader(http.StatusBadGateway)
		},
	}
	d.Front = httptest.NewServer(proxy)
	d.t.Cleanup(d.Front.Close)
}

func (d *dev) arrived(a arrival) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.arrivals = append(d.arrivals, a)
}

// since returns the calls that have reached the gateway after the first n.
func (d *dev) since(n int) []arrival {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.arrivals[n:])
}

// counts returns how many calls have reached the gateway and how many its upstream.
func (d *dev) counts() (gateway, upstream int) {
	d.t.Helper()
	var health struct{ Arrivals int }
	d.sandbox("GET", "healthz", "", &health)
	return len(d.since(0)), health.Arrivals
}

// sandbox sends a command to the sandbox and reads its answer.
func (d *dev) sandbox(method, path, body string, to any) {
	d.t.Helper()
	d.do(method, d.ready.Sandbox+"/_sandbox/"+path, "", []byte(body), to)
}

// admin does what an operator does and reads the answer.
func (d *dev) admin(method, path string, body, to any) {
	d.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		d.t.Fatal(err)
	}
	if body == nil {
		text = nil
	}
	d.do(method, d.ready.Admin+"/admin/v1/"+path, d.ready.AdminToken, text, to)
}

// do sends one request that has to succeed; to may be nil.
func (d *dev) do(method, address, token string, body []byte, to any) {
	d.t.Helper()
	req, err := http.NewRequest(method, address, bytes.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("If-Match", "*") // for edits, whichever version there is: nobody else edits here
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	if resp.StatusCode >= 300 {
		d.t.Fatalf("%s %s: %d %s", method, address, resp.StatusCode, text)
	}
	if to == nil {
		return
	}
	if err := json.Unmarshal(text, to); err != nil {
		d.t.Fatalf("%s %s: %v in %s", method, address, err, text)
	}
}

// refunds returns the refunds that really happened.
func (d *dev) refunds() (n int, total int64) {
	d.t.Helper()
	var effects struct {
		Items []struct {
			Kind   string
			Amount int64
		}
	}
	d.sandbox("GET", "effects", "", &effects)
	for _, e := range effects.Items {
		if e.Kind == "refund" {
			n++
			total += e.Amount
		}
	}
	return n, total
}

// key makes another vault key through the admin API.
func (d *dev) key(policy string) string {
	d.t.Helper()
	var created struct{ Key string }
	d.admin("POST", "keys", map[string]string{"policy": policy, "policy_file": "test.yaml"}, &created)
	return created.Key
}

// seeded is what the sandbox holds of a customer. Its charges are of $200.00 each.
type seeded struct {
	ID      string
	Charges []string
}

// seeded returns the sandbox's customers; the first two are d.Listed.
func (d *dev) seeded() []seeded {
	d.t.Helper()
	var s struct{ Customers []seeded }
	d.sandbox("POST", "seed", "", &s)
	return s.Customers
}

// need skips the test where a tool is missing; with KEYBRAKE_NO_SKIP or CI set that is a failure, because the
// project's scripts install it.
func need(t *testing.T, what string, ok bool) {
	t.Helper()
	if ok {
		return
	}
	if os.Getenv("CI") == "true" || os.Getenv("KEYBRAKE_NO_SKIP") != "" {
		t.Fatalf("%s is missing; scripts/setup installs it", what)
	}
	t.Skipf("%s is missing; get it with scripts/setup as root, or install it yourself", what)
}

func has(name string, args ...string) bool { return exec.Command(name, args...).Run() == nil }
