package reconcile_test

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
	"sync/atomic"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/gateway"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/reconcile"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/sqlite"
	"github.com/keybrake/keybrake/internal/upstream"
	"github.com/keybrake/keybrake/internal/upstream/stripe"
	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
	"github.com/keybrake/keybrake/internal/vault"
)

// bank is a Keybrake with its sandbox, whose books are compared: real store, real HTTP on both sides, and a clock that
// both share.
type bank struct {
	t       *testing.T
	sandbox *sandbox.Server
	seeded  sandbox.Seeded
	store   *sqlite.DB
	ring    *vault.Ring
	up      *vault.Upstream
	books   *reconcile.Statements
	adapter *stripe.Adapter
	agents  string // URL
	direct  string // URL of the sandbox
	ahead   atomic.Int64
	epoch   time.Time
	client  *http.Client
}

const bankSecret = "sk_test_keybrakebank"

// newBank opens at noon of a day on which nothing has moved yet.
func newBank(t *testing.T, o sandbox.Options) *bank {
	t.Helper()
	b := &bank{t: t, epoch: time.Date(2026, 11, 10, 12, 0, 0, 0, time.UTC), client: &http.Client{Transport: &http.Transport{}}}
	o.Seed, o.Now = 1, b.now
	b.sandbox = sandbox.New(o)
	b.seeded = b.sandbox.Seed()
	upstreamServer := httptest.NewServer(b.sandbox)
	b.direct = upstreamServer.URL
	base, err := url.Parse(upstreamServer.URL)
	must(t, err)
	master, err := vault.EphemeralMaster()
	must(t, err)
	b.store, err = sqlite.Open(t.Context(), sqlite.Options{
		Path: filepath.Join(t.TempDir(), "keybrake.db"), Signer: master, MasterCheck: master.CheckValue(), Clock: b.now,
	})
	must(t, err)
	b.adapter, err = stripe.New()
	must(t, err)
	b.ring = vault.NewRing(master)
	_, err = b.ring.SetBrake(vault.All, vault.Normal)
	must(t, err)
	b.up = b.upstream("bank", base)
	client := upstream.NewClient(nil)
	b.books = &reconcile.Statements{Store: b.store, Ring: b.ring, Client: client, Books: b.adapter, Version: stripe.DefaultVersion}
	rates := money.NewTable([]money.Rate{{ID: "r1", Currency: "eur", Value: 1_100_000_000_000, Source: money.RateTyped, AsOf: b.epoch}})
	g := gateway.New(gateway.Config{
		Adapter: b.adapter, Ring: b.ring, Store: b.store, Client: client, Rates: func() *money.Table { return rates },
		Log: slog.New(slog.DiscardHandler), LookupsPerSecond: 1e6, LookupsPerUpstream: 1e6,
	})
	agents := httptest.NewServer(g)
	b.agents = agents.URL
	t.Cleanup(func() {
		b.client.CloseIdleConnections()
		agents.Close()
		g.Close()
		client.Close()
		b.sandbox.Close()
		upstreamServer.Close()
		must(t, b.store.Close())
	})
	return b
}

func (b *bank) now() time.Time         { return b.epoch.Add(time.Duration(b.ahead.Load())) }
func (b *bank) wait(d time.Duration)   { b.ahead.Add(int64(d)) }
func (b *bank) day(days int) string    { return b.epoch.AddDate(0, 0, days).Format(time.DateOnly) }
func (b *bank) charge(c, n int) string { return b.seeded.Customers[c].Charges[n] }

// effects counts what really happened, by kind.
func (b *bank) effects() map[string]int {
	n := make(map[string]int)
	for _, e := range b.sandbox.Effects() {
		n[string(e.Kind)]++
	}
	return n
}

func (b *bank) upstream(name string, base *url.URL) *vault.Upstream {
	b.t.Helper()
	u, err := vault.Upstream{
		ID: vault.NewUpstreamID(), Name: name, Mode: vault.Test, BaseURL: base, Version: stripe.DefaultVersion, Brake: vault.Normal,
	}.SealInto(b.ring.Master(), vault.NewSecret(bankSecret))
	must(b.t, err)
	in, err := b.ring.PutUpstream(u)
	must(b.t, err)
	return in
}

// key makes a vault key that may move everything, with days of a time zone.
func (b *bank) key(name, zone string, up *vault.Upstream) (string, *vault.Key) {
	b.t.Helper()
	yaml := "name: " + name + "\nscopes: {'*': write}\ncaps: [{resource: '*', per: month, usd: 100000.00}]\ncustomers: any\ntimezone: " + zone + "\n"
	p, _, err := policy.Parse("test.yaml", []byte(yaml), b.adapter.Catalog().Vocabulary())
	must(b.t, err)
	text, digest, last4 := b.ring.Master().Mint(vault.Test)
	key := vault.Key{
		ID: vault.NewKeyID(), Name: name, Upstream: up.ID, Mode: vault.Test, Brake: vault.Normal, Policy: p, PolicyDigest: policy.Digest(p),
		Created: b.now(), Credentials: []vault.Credential{{Digest: digest, Last4: last4, Created: b.now()}},
	}
	row, err := store.EncodeKey(&key, policy.Format(p), key.PolicyDigest)
	must(b.t, err)
	must(b.t, b.store.Update(b.t.Context(), store.LaneControl, func(tx store.Tx) error {
		key.Version, err = tx.PutKey(row)
		return err
	}))
	k, err := b.ring.PutKey(key)
	must(b.t, err)
	return text.Reveal(), k
}

// post calls and returns the answer's body; at is where: the agents' side, or the sandbox itself.
func (b *bank) post(at, secret, path, form string, want int) map[string]any {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, at+path, strings.NewReader(form))
	must(b.t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", "Bearer "+secret)
	resp, err := b.client.Do(req)
	must(b.t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	must(b.t, err)
	if resp.StatusCode != want {
		b.t.Fatalf("POST %s %s: %d, want %d: %s", path, form, resp.StatusCode, want, raw)
	}
	var out map[string]any
	must(b.t, json.Unmarshal(raw, &out))
	b.wait(time.Second)
	return out
}

func (b *bank) agent(secret, path, form string) string {
	b.t.Helper()
	id, _ := b.post(b.agents, secret, path, form, http.StatusOK)["id"].(string)
	return id
}

// statement asks for days after everything has settled down.
func (b *bank) statement(ask reconcile.Ask) reconcile.Report {
	b.t.Helper()
	ask.Upstream, ask.PerSecond = b.up, reconcile.MaxRate
	if ask.From == "" {
		ask.From, ask.To = b.day(0), b.day(0)
	}
	b.wait(2 * time.Minute)
	r, err := b.books.Make(context.Background(), ask, func(int) error { return nil })
	must(b.t, err)
	return r
}

// said writes lines as tests expect them: class kind ledger vendor.
func said(lines []reconcile.Line) []string {
	var out []string
	for _, l := range lines {
		out = append(out, strings.Join([]string{string(l.Class), string(l.Kind), l.Ledger.String(), l.Vendor.String()}, " "))
	}
	return out
}

// reservation is a key's newest.
func (b *bank) reservation(k *vault.Key) *ledger.Reservation {
	b.t.Helper()
	var last *ledger.Reservation
	must(b.t, b.store.View(b.t.Context(), func(tx store.Tx) error {
		return tx.ReservationsSince(k.ID, time.Time{}, func(r *ledger.Reservation) error {
			last = r
			return nil
		})
	}))
	return last
}
