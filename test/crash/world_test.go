// Package crash kills the real program with SIGKILL while agents spend through it, starts it again on the same store,
// and lets an auditor hold its books against what really moved at Stripe and what was ever acknowledged. The
// sandbox is a process of its own, so that Stripe outlives every gateway.
package crash

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/admin"
	"github.com/keybrake/keybrake/internal/store/postgres/postgrestest"
	"github.com/keybrake/keybrake/test/binary"
)

// program is the path of the binary under test.
var program string

func TestMain(m *testing.M) { os.Exit(binary.Main(m, &program)) }

// ours starts the idempotency keys under which the test itself prepares things at Stripe: that moves no agent's money.
const ours = "setup-"

// world is a Stripe, a store, and the gateways that serve it one after the other.
type world struct {
	t     testing.TB
	dir   string
	box   string   // the sandbox's URL
	flags []string // of gateways, beyond the usual ones

	gateway   *process
	url       string // of the agents' port
	ops       *admin.Client
	operators string // their port's URL
	client    *http.Client

	keys  []*principal
	acts  []*act
	calls []*call
	truth *truth
	books books
	// A cluster has these as well; they are nil where one gateway after the other serves a file.
	nodes []*node
	pair  *pair
	// server has the books where one gateway after the other serves PostgreSQL; nil: they are in a file, or a cluster's.
	server *postgrestest.Server
	kills  int
	setup  int // things prepared at Stripe
}

// principal is a vault key whose calls concern one customer that nobody else has: whatever moves at Stripe for that
// customer, this key moved.
type principal struct {
	name, id, secret string
	customer, card   string
	rules            []rule
	refunds, intents bool // what it may write
	charges, small   []string
}

// rule is a cap of a principal, as the auditor understands it.
type rule struct {
	resource string
	per      string
	cents    int64 // of a cap in dollars
	calls    int64 // of a cap in calls
}

func (r rule) yaml() string {
	if r.calls > 0 {
		return fmt.Sprintf("{resource: %q, per: %s, calls: %d}", r.resource, r.per, r.calls)
	}
	return fmt.Sprintf("{resource: %q, per: %s, usd: %d.%02d}", r.resource, r.per, r.cents/100, r.cents%100)
}

// newWorld starts a sandbox and a gateway in front of it, on an empty store.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := startWorld(t)
	w.addUpstream(w.box)
	return w
}

// startWorld is newWorld without the upstream.
func startWorld(t testing.TB) *world {
	t.Helper()
	return startWorldIn(t, t.TempDir())
}

// startWorldIn is startWorld with its files in a folder.
func startWorldIn(t testing.TB, dir string) *world {
	t.Helper()
	w := emptyWorld(t, dir)
	w.sandbox()
	w.start()
	return w
}

// emptyWorld has a folder, and nothing runs in it.
func emptyWorld(t testing.TB, dir string) *world {
	w := &world{t: t, dir: dir, client: newClient(), truth: &truth{sent: make(map[string]*sent), came: make(map[string][]time.Time)}}
	t.Cleanup(w.client.CloseIdleConnections)
	return w
}

// sandbox starts a Stripe that lives as long as the test.
func (w *world) sandbox() {
	box := w.run(here, nil, "sandbox", "--listen", "127.0.0.1:0")
	w.box = strings.TrimPrefix(box.waitFor(regexp.MustCompile(`http://\S+`)), "sandbox: ")
}

func (w *world) addUpstream(url string) {
	w.t.Helper()
	_, err := w.ops.AddUpstream(w.t.Context(), admin.UpstreamRequest{Name: "stripe-test", Secret: "sk_test_crash", BaseURL: url, AllowInsecure: true})
	if err != nil {
		w.t.Fatal(err)
	}
}

func newClient() *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2 * clients}}
}

// process is a running keybrake.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	out  output
	gone chan struct{}
}

// output collects what a process prints.
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

// here is where everything runs that is not a cluster's.
var here = postgrestest.Host{Address: loopback}

// run starts the program on a host; it is ended with the test. before may change how.
func (w *world) run(host postgrestest.Host, before func(*exec.Cmd), args ...string) *process {
	w.t.Helper()
	p := &process{t: w.t, cmd: exec.Command(program, args...), gone: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env = w.dir, append(os.Environ(), "XDG_STATE_HOME="+w.dir)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if before != nil {
		before(p.cmd)
	}
	started := make(chan error)
	go func() {
		// It has entered the host, and the kernel sends Pdeathsig when it ends: it is for this process alone.
		runtime.LockOSThread()
		err := host.Start(p.cmd)
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // how it ended shows in what the tests see of it
		}
		close(p.gone)
	}()
	if err := <-started; err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(p.kill)
	return p
}

// kill ends a process as a power cut would end it, for itself; a dead one stays dead.
func (p *process) kill() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.gone
}

func (p *process) waitFor(re *regexp.Regexp) string {
	p.t.Helper()
	for {
		if m := re.FindString(p.out.String()); m != "" {
			return m
		}
		select {
		case <-p.gone:
			p.t.Fatalf("it ended without saying %s:\n%s", re, &p.out)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// store is the file that all gateways of the world serve.
func (w *world) store() string { return filepath.Join(w.dir, "kb.db") }

// postgres is the connection string of the PostgreSQL with the books, as the test itself reaches it; empty: they are in a file.
func (w *world) postgres() string {
	switch {
	case w.pair != nil:
		return w.pair.url()
	case w.server != nil:
		return w.server.URL(database)
	}
	return ""
}

// beside is what the names of all files beside the store begin with.
func (w *world) beside() string {
	if w.server != nil {
		return filepath.Join(w.dir, "keybrake")
	}
	return w.store()
}

// archive is the folder of the archive files.
func (w *world) archive() string {
	if w.pair != nil {
		return filepath.Join(w.dir, "archive")
	}
	return w.beside() + ".archive"
}

// snapshot reads the books as they stand; the second result ends it.
func (w *world) snapshot() (*sql.Tx, func()) {
	w.t.Helper()
	if url := w.postgres(); url != "" {
		return beginReading(w.t, "pgx", url, sql.LevelRepeatableRead)
	}
	return snapshot(w.t, w.store())
}

// launch starts a gateway and does not wait until it serves.
func (w *world) launch(before func(*exec.Cmd)) *process {
	w.t.Helper()
	if w.server != nil {
		return w.serve(here, before, w.ready(), "--store", w.postgres(), "--data", w.dir, "--node", "lone")
	}
	return w.serve(here, before, w.ready(), "--store", "sqlite:"+w.store())
}

// serve starts a gateway on a host that writes the file ready once it serves.
func (w *world) serve(host postgrestest.Host, before func(*exec.Cmd), ready string, flags ...string) *process {
	w.t.Helper()
	_ = os.Remove(ready) // the one of an earlier gateway
	flags = append([]string{"serve", "--gateway-listen", host.Address + ":0", "--admin-listen", host.Address + ":0", "--allow-plain-http", "--ready-file", ready,
		"--lookups-per-second", "1000000", "--lookups-per-upstream", "1000000"}, flags...)
	return w.run(host, before, append(flags, w.flags...)...)
}

func (w *world) ready() string { return filepath.Join(w.dir, "ready.json") }

// start starts a gateway and waits until it serves.
func (w *world) start() {
	w.t.Helper()
	w.gateway = w.launch(nil)
	if !w.awaitServing(nil) {
		w.t.Fatalf("serve ended:\n%s", &w.gateway.out)
	}
}

// awaitServing waits until the gateway serves; false if it ended, or something else came first.
func (w *world) awaitServing(first <-chan struct{}) bool {
	w.t.Helper()
	at, ok := w.gateway.awaitServing(w.ready(), first)
	if ok {
		w.url, w.operators, w.ops = at.agents, at.operators, at.ops
	}
	return ok
}

// serving is where a gateway listens.
type serving struct {
	agents, operators string
	ops               *admin.Client
}

// awaitServing waits until a gateway has written its file; false if it ended, or something else came first.
func (p *process) awaitServing(ready string, first <-chan struct{}) (at serving, ok bool) {
	p.t.Helper()
	for {
		text, err := os.ReadFile(ready)
		if err == nil {
			return p.announced(text), true
		}
		select {
		case <-p.gone:
			return at, false
		case <-first:
			return at, false
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (p *process) announced(text []byte) serving {
	p.t.Helper()
	var f struct {
		Gateway, Admin string
		AdminToken     string `json:"admin_token"`
	}
	if err := json.Unmarshal(text, &f); err != nil {
		p.t.Fatal(err)
	}
	ops, err := admin.NewClient(f.Admin, f.AdminToken)
	if err != nil {
		p.t.Fatal(err)
	}
	return serving{f.Gateway, f.Admin, ops}
}

// kill ends the gateway and waits until Stripe has done what had reached it.
func (w *world) kill() {
	w.t.Helper()
	w.gateway.kill()
	w.kills++
	w.gateway.sane()
	w.client.CloseIdleConnections()
	w.command("DELETE", "faults", "")
	for w.health().Running > 0 {
		time.Sleep(time.Millisecond)
	}
}

// sane fails the test if a gateway had more to say than it should.
func (p *process) sane() {
	p.t.Helper()
	if out := p.out.String(); strings.Contains(out, "panic:") || strings.Contains(out, "DATA RACE") {
		p.t.Errorf("the gateway had more to say than it should: %s", out)
	}
}

// own is what a principal's policy says of customers where it may see its own alone.
const own = ""

// newPrincipal makes a customer with a card and a vault key for it; customers is own or any.
func (w *world) newPrincipal(name, scopes, customers string, rules ...rule) *principal {
	w.t.Helper()
	p := &principal{name: name, rules: rules, refunds: strings.Contains(scopes, "refunds"), intents: strings.Contains(scopes, "payment_intents")}
	made := w.prepare("/v1/customers", "source=tok_visa&name="+name)
	p.customer, p.card = made.ID, made.DefaultSource
	if customers == own {
		customers = "[" + p.customer + "]"
	}
	var caps []string
	for _, r := range rules {
		caps = append(caps, r.yaml())
	}
	key, err := w.ops.CreateKey(w.t.Context(), admin.KeyRequest{PolicyEdit: admin.PolicyEdit{Policy: fmt.Sprintf(
		"name: %s\nscopes: {charges: read, customers: read, payment_methods: read, %s}\ncaps: [%s]\ncustomers: %s\n", name, scopes, strings.Join(caps, ", "), customers)}})
	if err != nil {
		w.t.Fatal(err)
	}
	p.id, p.secret = key.ID, key.Key
	w.keys = append(w.keys, p)
	return p
}

// newCharge makes a charge of so many cents that the principal may give back.
func (w *world) newCharge(p *principal, cents int64) string {
	return w.prepare("/v1/charges", fmt.Sprintf("amount=%d&currency=usd&customer=%s", cents, p.customer)).ID
}

type prepared struct {
	ID            string
	DefaultSource string `json:"default_source"`
}

// prepare makes something at Stripe that no agent asked for.
func (w *world) prepare(path, form string) (made prepared) {
	w.t.Helper()
	w.setup++
	req, err := http.NewRequest("POST", w.box+path, strings.NewReader(form))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer sk_test_setup")
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Idempotency-Key", fmt.Sprint(ours, w.setup))
	w.fetch(req, &made)
	return made
}

// command sends the sandbox a command, with JSON.
func (w *world) command(method, path, body string) {
	w.t.Helper()
	req, err := http.NewRequest(method, w.box+"/_sandbox/"+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	w.fetch(req, nil)
}

func (w *world) health() (h struct{ Hanging, Running int }) {
	w.t.Helper()
	req, err := http.NewRequest("GET", w.box+"/_sandbox/healthz", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.fetch(req, &h)
	return h
}

// fetch asks the sandbox for something that must work.
func (w *world) fetch(req *http.Request, to any) {
	w.t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		w.t.Fatalf("%s %s: %d %s %v", req.Method, req.URL, resp.StatusCode, text, err)
	}
	if to != nil {
		if err := json.Unmarshal(text, to); err != nil {
			w.t.Fatal(err)
		}
	}
}

// awaitHanging waits until so many calls hang at Stripe.
func (w *world) awaitHanging(n int) {
	w.t.Helper()
	for w.health().Hanging < n {
		time.Sleep(time.Millisecond)
	}
}
