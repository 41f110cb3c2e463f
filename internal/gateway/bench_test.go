package gateway

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store/sqlite"
	"github.com/keybrake/keybrake/internal/upstream"
	"github.com/keybrake/keybrake/internal/upstream/stripe"
	"github.com/keybrake/keybrake/internal/vault"
)

const benchPolicy = `
name: agent-support-refunds-bench
scopes: {charges: read, payment_intents: write, customers: read, refunds: write}
caps:
  - {resource: payment_intents, per: day, usd: 1000000.00}
  - {resource: refunds, per: day, usd: 100.00}
customers: any
`

// BenchmarkDecision is what the gateway does before anything is written or sent, steps 2 to 6: authenticate,
// parse, classify, attach, decide.
func BenchmarkDecision(b *testing.B) {
	g, secret := benchGateway(b)
	header := func(more ...string) http.Header {
		h := http.Header{
			"Authorization": {"Bearer " + secret}, "User-Agent": {"Stripe/v1 GoBindings/84.0.0"},
			"Content-Type": {"application/x-www-form-urlencoded"}, "Stripe-Version": {stripe.DefaultVersion}, "Accept-Encoding": {"gzip"},
			"X-Stripe-Client-User-Agent": {`{"bindings_version":"84.0.0","lang":"go","publisher":"stripe"}`},
		}
		for i := 0; i+1 < len(more); i += 2 {
			h[more[i]] = []string{more[i+1]}
		}
		return h
	}
	for _, call := range []struct {
		name string
		raw  upstream.RawCall
	}{
		{"read", upstream.RawCall{Method: http.MethodGet, Path: "/v1/charges/ch_3abcdefghijklmnopqrstuvw", Header: header()}},
		{"list", upstream.RawCall{Method: http.MethodGet, Path: "/v1/charges", Query: "customer=cus_1&limit=100", Header: header()}},
		{"create", upstream.RawCall{
			Method: http.MethodPost, Path: "/v1/payment_intents", Header: header("Idempotency-Key", "0c1f5b7e-5b0e-4a39-9ad1-3d4f3f3d8a10"),
			Body: []byte("amount=2000&currency=usd"),
		}},
	} {
		b.Run(call.name, func(b *testing.B) {
			ctx := context.Background()
			now, from := time.Now(), netip.MustParseAddr("127.0.0.1")
			b.ReportAllocs()
			for b.Loop() {
				j := journey{start: now, raw: &call.raw, from: from}
				if refused := g.authenticate(&j); refused != nil {
					b.Fatal(refused)
				}
				if refused := g.parse(&j); refused != nil {
					b.Fatal(refused)
				}
				if stop := g.attach(ctx, &j); stop != nil {
					b.Fatal("attached to something")
				}
				if stop := g.judge(ctx, &j); stop != nil || j.decision.Verdict != policy.Allow {
					b.Fatal(j.decision)
				}
			}
		})
	}
}

// benchGateway has a real store, ring and adapter, and one vault key.
func benchGateway(b *testing.B) (_ *Gateway, secret string) {
	b.Helper()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	master, err := vault.EphemeralMaster()
	must(err)
	db, err := sqlite.Open(b.Context(), sqlite.Options{
		Path: filepath.Join(b.TempDir(), "keybrake.db"), Signer: master, MasterCheck: master.CheckValue(),
	})
	must(err)
	b.Cleanup(func() { must(db.Close()) })
	adapter, err := stripe.New()
	must(err)
	ring := vault.NewRing(master)
	_, err = ring.SetBrake(vault.All, vault.Normal)
	must(err)
	u, err := vault.Upstream{
		ID: vault.NewUpstreamID(), Name: "bench", Mode: vault.Test, BaseURL: &url.URL{Scheme: "http", Host: "127.0.0.1:1"},
		Version: stripe.DefaultVersion, Brake: vault.Normal,
	}.SealInto(master, vault.NewSecret("sk_test_bench"))
	must(err)
	up, err := ring.PutUpstream(u)
	must(err)
	p, _, err := policy.Parse("bench.yaml", []byte(benchPolicy), adapter.Catalog().Vocabulary())
	must(err)
	text, digest, last4 := master.Mint(vault.Test)
	_, err = ring.PutKey(vault.Key{
		ID: vault.NewKeyID(), Name: p.Name, Upstream: up.ID, Mode: vault.Test, Brake: vault.Normal, Policy: p, PolicyDigest: policy.Digest(p),
		Created: time.Now(), Credentials: []vault.Credential{{Digest: digest, Last4: last4, Created: time.Now()}},
	})
	must(err)
	table := money.NewTable(nil)
	g := New(Config{
		Adapter: adapter, Ring: ring, Store: db, Client: upstream.NewClient(nil),
		Rates: func() *money.Table { return table }, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	b.Cleanup(g.Close)
	return g, text.Reveal()
}
