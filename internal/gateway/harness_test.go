package gateway_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keybrake/keybrake/internal/gateway"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/sqlite"
	"github.com/keybrake/keybrake/internal/upstream"
	"github.com/keybrake/keybrake/internal/upstream/stripe"
	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
	"github.com/keybrake/keybrake/internal/vault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a whole Keybrake in one process: a real store in a temporary file, the real adapter, the
// sandbox over real HTTP, and the gateway over real HTTP. When a test ends, its books and its record are
// held against themselves (audit_test.go in this folder).
type world struct {
	t       testing.TB
	Sandbox *sandbox.Server
	Seeded  sandbox.Seeded
	Ring    *vault.Ring
	Store   *sqlite.DB
	Faults  *flakyStore // what the gateway sees of Store
	Gateway *gateway.Gateway
	URL     string
	Clock   *clock
	Log     *logBook
	Path    string // of the store
	adapter *stripe.Adapter
	up      *vault.Upstream
	client  *http.Client
	signer  *vault.Master

	mu   sync.Mutex
	keys []*vault.Key
	// calls counts what the gateway must have recorded: each call that reached it, less those that it said it
	// could not record.
	calls atomic.Int64
	// partial: the test makes calls that harness cannot count, or breaks the store; records are not counted.
	partial atomic.Bool
}

// setup changes how a world is built. The zero setup is what most tests want.
type setup struct {
	secret   string // the upstream's; empty = full access
	deadline time.Duration
	upstream http.Handler // in place of the sandbox
	h2       bool         // TLS and HTTP/2 to the upstream
	base     string       // another base URL
	config   func(*gateway.Config)
	rates    []money.Rate
	wait     time.Duration // of the store and of settlements; 0 = the defaults
}

// upstreamSecret has full access in the sandbox.
const upstreamSecret = "sk_test_keybrakeharness"

func newWorld(t testing.TB) *world { return buildWorld(t, setup{}) }

func buildWorld(t testing.TB, s setup) *world {
	t.Helper()
	w := &world{t: t, Clock: newClock(), Log: &logBook{}, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	w.Sandbox = sandbox.New(sandbox.Options{Seed: 1, Now: w.Clock.Now})
	w.Seeded = w.Sandbox.Seed()
	base, tlsConfig := w.serveUpstream(s)
	master, err := vault.EphemeralMaster()
	must(t, err)
	w.signer, w.Path = master, filepath.Join(t.TempDir(), "keybrake.db")
	w.Store, err = sqlite.Open(t.Context(), sqlite.Options{
		Path: w.Path, Signer: master, MasterCheck: master.CheckValue(), Clock: w.Clock.Now, Wait: s.wait,
	})
	must(t, err)
	w.Faults = &flakyStore{DB: w.Store}
	w.adapter, err = stripe.New()
	must(t, err)
	w.Ring = vault.NewRing(master)
	_, err = w.Ring.SetBrake(vault.All, vault.Normal)
	must(t, err)
	if s.secret == "" {
		s.secret = upstreamSecret
	}
	u, err := vault.Upstream{
		ID: vault.NewUpstreamID(), Name: "sandbox", Mode: vault.Test, BaseURL: base, Version: "2026-08-26.dahlia", Brake: vault.Normal,
	}.SealInto(master, vault.NewSecret(s.secret))
	must(t, err)
	w.up, err = w.Ring.PutUpstream(u)
	must(t, err)
	w.serve(s, tlsConfig)
	return w
}

// serveUpstream starts what the gateway will take for Stripe.
func (w *world) serveUpstream(s setup) (*url.URL, *tls.Config) {
	var handler http.Handler = w.Sandbox
	if s.upstream != nil {
		handler = s.upstream
	}
	up := httptest.NewUnstartedServer(handler)
	up.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	var config *tls.Config
	if s.h2 {
		up.EnableHTTP2 = true
		up.StartTLS()
		config = up.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		config.NextProtos = nil // the client under test offers what it offers
	} else {
		up.Start()
	}
	w.t.Cleanup(up.Close)
	w.t.Cleanup(w.Sandbox.Close) // first: what hangs is let go
	text := up.URL
	if s.base != "" {
		text = s.base
	}
	base, err := url.Parse(text)
	must(w.t, err)
	return base, config
}

// serve starts the gateway and registers the end of the world.
func (w *world) serve(s setup, tlsConfig *tls.Config) {
	list := []money.Rate{{ID: "r1", Currency: "eur", Value: 1_100_000_000_000, Source: money.RateTyped, AsOf: w.Clock.Now()}}
	if s.rates != nil {
		list = s.rates
	}
	rates := money.NewTable(list)
	client := upstream.NewClient(tlsConfig)
	c := gateway.Config{
		Adapter: w.adapter, Ring: w.Ring, Store: w.Faults, Client: client,
		Rates: func() *money.Table { return rates }, Log: slog.New(slog.NewTextHandler(w.Log, nil)),
		LookupsPerSecond: 1e6, LookupsPerUpstream: 1e6, Deadline: s.deadline, StoreWait: s.wait,
	}
	if s.config != nil {
		s.config(&c)
	}
	w.Gateway = gateway.New(c)
	server := httptest.NewUnstartedServer(w.Gateway)
	server.Config.DisableGeneralOptionsHandler = true // or "OPTIONS *" is answered without us
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.Start()
	w.URL = server.URL
	w.t.Cleanup(func() {
		w.Sandbox.Release()
		w.client.CloseIdleConnections()
		server.Close()
		w.Gateway.Close()
		client.Close()
		w.checkBooks()
		w.checkRecord()
		must(w.t, w.Store.Close())
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// clock is the wall clock with an offset that tests move forward.
type clock struct{ offset atomic.Int64 }

// newClock is ahead of the wall clock, at half past twelve UTC: the windows of caps end at no moment of a test that does not
// ask for it, at whichever hour it runs.
func newClock() *clock {
	now, c := time.Now().UTC(), &clock{}
	c.Advance(now.Truncate(24 * time.Hour).Add(36*time.Hour + 30*time.Minute).Sub(now))
	return c
}

func (c *clock) Now() time.Time          { return time.Now().Add(time.Duration(c.offset.Load())) }
func (c *clock) Advance(d time.Duration) { c.offset.Add(int64(d)) }
func (b *logBook) String() string        { b.mu.Lock(); defer b.mu.Unlock(); return b.text.String() }
func (b *logBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// logBook keeps what the gateway logs.
type logBook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// key makes a vault key with the policy (YAML) and returns its text.
func (w *world) key(yaml string) (secret string, k *vault.Key) {
	w.t.Helper()
	p, _, err := policy.Parse("test.yaml", []byte(yaml), w.adapter.Catalog().Vocabulary())
	must(w.t, err)
	text, digest, last4 := w.Ring.Master().Mint(vault.Test)
	credential := vault.Credential{Digest: digest, Last4: last4, Created: w.Clock.Now()}
	bare := *p
	bare.Name, bare.Upstream = "", "" // as admin has it
	id := vault.NewKeyID()
	key := vault.Key{
		ID: id, Name: p.Name + "-" + string(id)[4:8], Upstream: w.up.ID, Mode: vault.Test, Brake: vault.Normal,
		Policy: p, PolicyDigest: policy.Digest(&bare), Created: w.Clock.Now(), Credentials: []vault.Credential{credential},
	}
	row, err := store.EncodeKey(&key, policy.Format(p), key.PolicyDigest)
	must(w.t, err)
	must(w.t, w.Store.Update(w.t.Context(), store.LaneControl, func(tx store.Tx) error {
		key.Version, err = tx.PutKey(row)
		return err
	}))
	k, err = w.Ring.PutKey(key)
	must(w.t, err)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keys = append(w.keys, k)
	return text.Reveal(), k
}

// reply is an answer with its body parsed.
type reply struct {
	Status int
	Header http.Header
	Body   map[string]any
	Raw    string
}

func (r reply) errCode() string {
	e, _ := r.Body["error"].(map[string]any)
	code, _ := e["code"].(string)
	return code
}

func (r reply) errType() string {
	e, _ := r.Body["error"].(map[string]any)
	kind, _ := e["type"].(string)
	return kind
}

func (r reply) message() string {
	e, _ := r.Body["error"].(map[string]any)
	m, _ := e["message"].(string)
	return m
}

// reason is our own code of a refusal, which tells apart what SDKs see as one.
func (r reply) reason() string {
	e, _ := r.Body["error"].(map[string]any)
	k, _ := e["keybrake"].(map[string]any)
	code, _ := k["code"].(string)
	return code
}

func (r reply) str(name string) string { s, _ := r.Body[name].(string); return s }
func (r reply) num(name string) int64  { n, _ := r.Body[name].(float64); return int64(n) }

// want fails the test unless the answer has the status and, for errors, the code.
func (r reply) want(t testing.TB, status int, code string) reply {
	t.Helper()
	if got := r.errCode(); r.Status != status || got != code && r.reason() != code {
		t.Fatalf("%d %s, want %d %s: %s", r.Status, got, status, code, r.Raw)
	}
	return r
}

// call sends one request as an agent would.
func (w *world) call(secret, method, path, form string, headers ...string) reply {
	w.t.Helper()
	r, err := w.try(context.Background(), secret, method, path, form, headers...)
	must(w.t, err)
	return r
}

// try is call with a context, for agents that go away.
func (w *world) try(ctx context.Context, secret, method, path, form string, headers ...string) (reply, error) {
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader(form)
	} else if form != "" {
		path += "?" + form
	}
	req, err := http.NewRequestWithContext(ctx, method, w.URL+path, body)
	if err != nil {
		return reply{}, err
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	w.calls.Add(1)
	resp, err := w.client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	r := reply{Status: resp.StatusCode, Header: resp.Header, Raw: string(raw)}
	_ = json.Unmarshal(raw, &r.Body) // a body that is no JSON shows in Raw
	return r, err
}

// refund asks for a refund of cents (0 = whatever is left) of a charge.
func (w *world) refund(key, charge, cents string, headers ...string) reply {
	w.t.Helper()
	form := "charge=" + charge
	if cents != "" {
		form += "&amount=" + cents
	}
	return w.call(key, "POST", "/v1/refunds", form, headers...)
}

// arrivals counts what reached the sandbox since it was seeded, look-ups left out.
func (w *world) arrivals(method string) (n int) {
	for _, a := range w.Sandbox.Journal() {
		if a.Method == method {
			n++
		}
	}
	return n
}

const refundPolicy = `
name: agent-support-refunds-test
scopes: {charges: read, payment_intents: read, customers: read, refunds: write}
caps:
  - {resource: refunds, per: day, usd: 100.00}
customers: any
`
