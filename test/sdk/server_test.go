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
	"sync/atomic"
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
	// Front counts what arrives at the gateway: the SDKs are pointed at it.
	Front    *httptest.Server
	arrivals atomic.Int64
}

// serveDev starts a server of its own for the test and ends it with Ctrl-C.
func serveDev(t *testing.T) *dev {
	t.Helper()
	dir := t.TempDir()
	readyFile := filepath.Join(dir, "ready.json")
	cmd := exec.Command(program, "serve", "--dev", "--gateway-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--ready-file", readyFile)
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+dir)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
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
	d := &dev{t: t}
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
	d.Out = out.String()
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
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	d.Front = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.arrivals.Add(1)
		proxy.ServeHTTP(w, r)
	}))
	d.t.Cleanup(d.Front.Close)
}

// counts returns how many calls have reached the gateway and how many its upstream.
func (d *dev) counts() (gateway, upstream int64) {
	d.t.Helper()
	var health struct{ Arrivals int64 }
	d.get(d.ready.Sandbox+"/_sandbox/healthz", &health)
	return d.arrivals.Load(), health.Arrivals
}

func (d *dev) get(address string, to any) {
	d.t.Helper()
	resp, err := http.Get(address)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	if err := json.Unmarshal(body, to); err != nil {
		d.t.Fatalf("%s: %v", address, err)
	}
}

// effects returns the refunds that really happened.
func (d *dev) refunds() (n int, total int64) {
	d.t.Helper()
	var effects struct {
		Items []struct {
			Kind   string
			Amount int64
		}
	}
	d.get(d.ready.Sandbox+"/_sandbox/effects", &effects)
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
	body, err := json.Marshal(map[string]string{"policy": policy, "policy_file": "test.yaml"})
	if err != nil {
		d.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(d.t.Context(), http.MethodPost, d.ready.Admin+"/admin/v1/keys", bytes.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+d.ready.AdminToken)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	var created struct{ Key string }
	if err := json.Unmarshal(text, &created); err != nil || created.Key == "" {
		d.t.Fatalf("make a key: %d %s", resp.StatusCode, text)
	}
	return created.Key
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
