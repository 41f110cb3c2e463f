package gateway_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
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

// world is a whole Keybrake in one process: a real store in a temporary file, the real adapter, the
// sandbox over real HTTP, and the gateway over real HTTP.
type world struct {
	t       testing.TB
	Sandbox *sandbox.Server
	Seeded  sandbox.Seeded
	Ring    *vault.Ring
	Store   *sqlite.DB
	Gateway *gateway.Gateway
	URL     string
	adapter *stripe.Adapter
	up      *vault.Upstream
}

// upstreamSecret has full access in the sandbox.
const upstreamSecret = "sk_test_keybrakeharness"

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, Sandbox: sandbox.New(sandbox.Options{Seed: 1})}
	w.Seeded = w.Sandbox.Seed()
	up := httptest.NewServer(w.Sandbox)
	t.Cleanup(up.Close)
	t.Cleanup(w.Sandbox.Close) // first: what hangs is let go
	master, err := vault.EphemeralMaster()
	must(t, err)
	w.Store, err = sqlite.Open(t.Context(), sqlite.Options{
		Path: filepath.Join(t.TempDir(), "keybrake.db"), Signer: master, MasterCheck: master.CheckValue(),
	})
	must(t, err)
	w.adapter, err = stripe.New()
	must(t, err)
	w.Ring = vault.NewRing(master)
	_, err = w.Ring.SetBrake(vault.All, vault.Normal)
	must(t, err)
	base, err := url.Parse(up.URL)
	must(t, err)
	u, err := vault.Upstream{
		ID: vault.NewUpstreamID(), Name: "sandbox", Mode: vault.Test, BaseURL: base, Version: "2026-08-26.dahlia", Brake: vault.Normal,
	}.SealInto(master, vault.NewSecret(upstreamSecret))
	must(t, err)
	w.up, err = w.Ring.PutUpstream(u)
	must(t, err)
	rates := money.NewTable([]money.Rate{{ID: "r1", Currency: "eur", Value: 1_100_000_000_000, Source: money.RateTyped, AsOf: time.Now()}})
	client := upstream.NewClient(nil)
	w.Gateway = gateway.New(gateway.Config{
		Adapter: w.adapter, Ring: w.Ring, Store: w.Store, Client: client,
		Rates: func() *money.Table { return rates }, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		LookupsPerSecond: 1e6, LookupsPerUpstream: 1e6,
	})
	server := httptest.NewServer(w.Gateway)
	w.URL = server.URL
	t.Cleanup(func() {
		server.Close()
		w.Gateway.Close()
		client.Close()
		must(t, w.Store.Close())
	})
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// key makes a vault key with the policy (YAML) and returns its text.
func (w *world) key(yaml string) (secret string, k *vault.Key) {
	w.t.Helper()
	p, _, err := policy.Parse("test.yaml", []byte(yaml), w.adapter.Catalog().Vocabulary())
	must(w.t, err)
	text, digest, last4 := w.Ring.Master().Mint(vault.Test)
	credential := vault.Credential{Digest: digest, Last4: last4, Created: time.Now()}
	key := vault.Key{
		ID: vault.NewKeyID(), Name: p.Name, Upstream: w.up.ID, Mode: vault.Test, Brake: vault.Normal,
		Policy: p, PolicyDigest: policy.Digest(p), Created: time.Now(), Credentials: []vault.Credential{credential},
	}
	row, err := store.EncodeKey(&key, policy.Format(p), key.PolicyDigest)
	must(w.t, err)
	must(w.t, w.Store.Update(w.t.Context(), store.LaneControl, func(tx store.Tx) error {
		key.Version, err = tx.PutKey(row)
		return err
	}))
	k, err = w.Ring.PutKey(key)
	must(w.t, err)
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

func (r reply) message() string {
	e, _ := r.Body["error"].(map[string]any)
	m, _ := e["message"].(string)
	return m
}

func (r reply) str(name string) string { s, _ := r.Body[name].(string); return s }

// call sends one request as an agent would.
func (w *world) call(secret, method, path, form string, headers ...string) reply {
	w.t.Helper()
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader(form)
	} else if form != "" {
		path += "?" + form
	}
	req, err := http.NewRequestWithContext(context.Background(), method, w.URL+path, body)
	must(w.t, err)
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	must(w.t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	must(w.t, err)
	r := reply{Status: resp.StatusCode, Header: resp.Header, Raw: string(raw)}
	_ = json.Unmarshal(raw, &r.Body) // a body that is no JSON shows in Raw
	return r
}

// records returns the audit log, oldest first.
func (w *world) records() []*audit.Record {
	w.t.Helper()
	var out []*audit.Record
	must(w.t, w.Store.View(w.t.Context(), func(tx store.Tx) error {
		return tx.EachRecord(1, func(e audit.Entry) error {
			r, err := audit.Decode(e.Bytes)
			out = append(out, r)
			return err
		})
	}))
	return out
}

const refundPolicy = `
name: agent-support-refunds-test
scopes: {charges: read, payment_intents: read, customers: read, refunds: write}
caps:
  - {resource: refunds, per: day, usd: 100.00}
customers: any
`
