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

	"go.uber.org/goleak"

	"github.com/keybrake/keybrake/internal/audit"
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

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a gateway with its store, its sandbox and a reconciler that is moved by hand, under one clock.
type world struct {
	t       *testing.T
	sandbox *sandbox.Server
	seeded  sandbox.Seeded
	store   *sqlite.DB
	ring    *vault.Ring
	up      *vault.Upstream
	adapter *stripe.Adapter
	client  *upstream.Client
	r       *reconcile.Reconciler
	agents  http.Handler
	offset  atomic.Int64
	at      time.Time // that the clock began at
	key     string
	id      policy.KeyID
}

const (
	secret  = "sk_test_reconcile"
	signing = "whsec_reconcile"
)

// openPolicy lets a key do everything, under caps that never fill.
const openPolicy = `
name: agent-open-all-test
scopes: {"*": write}
caps:
  - {resource: "*", per: day, usd: 100000.00}
  - {resource: "*", per: day, calls: 1000}
customers: any
unmetered: ["*"]
client_secrets: allow
`

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, at: time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC)}
	w.sandbox = sandbox.New(sandbox.Options{Seed: 1, Now: w.now})
	w.seeded = w.sandbox.Seed()
	stripeServer := httptest.NewServer(w.sandbox)
	base, err := url.Parse(stripeServer.URL)
	must(t, err)
	master, err := vault.EphemeralMaster()
	must(t, err)
	w.store, err = sqlite.Open(t.Context(), sqlite.Options{
		Path: filepath.Join(t.TempDir(), "keybrake.db"), Signer: master, MasterCheck: master.CheckValue(), Clock: w.now,
	})
	must(t, err)
	w.adapter, err = stripe.New()
	must(t, err)
	w.ring = vault.NewRing(master)
	_, err = w.ring.SetBrake(vault.All, vault.Normal)
	must(t, err)
	u, err := vault.Upstream{
		ID: vault.NewUpstreamID(), Name: "sandbox", Mode: vault.Test, BaseURL: base, Version: stripe.DefaultVersion, Brake: vault.Normal,
	}.SealInto(master, vault.NewSecret(secret))
	must(t, err)
	u, err = u.SealWebhook(master, vault.NewSecret(signing))
	must(t, err)
	w.up, err = w.ring.PutUpstream(u)
	must(t, err)
	w.client = upstream.NewClient(nil)
	log := slog.New(slog.DiscardHandler)
	rates := money.NewTable(nil)
	g := gateway.New(gateway.Config{
		Adapter: w.adapter, Ring: w.ring, Store: w.store, Client: w.client, Log: log,
		Rates: func() *money.Table { return rates }, LookupsPerSecond: 1e6, LookupsPerUpstream: 1e6,
	})
	w.agents = g
	w.restart()
	w.key, w.id = w.newKey(openPolicy)
	t.Cleanup(func() {
		w.sandbox.Close()
		g.Close()
		w.client.Close()
		w.checkBooks()
		must(t, w.store.Close())
		stripeServer.Close()
	})
	return w
}

// restart makes a reconciler that knows nothing of what the one before it saw.
func (w *world) restart() {
	w.r = reconcile.New(reconcile.Config{
		Vendor: w.adapter, Ring: w.ring, Store: w.store, Client: w.client, Log: slog.New(slog.DiscardHandler), PerSecond: 1e6,
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) now() time.Time { return w.at.Add(time.Duration(w.offset.Load())) }

// pass lets time go by and takes a round.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	w.offset.Add(int64(d))
	must(w.t, w.r.Open(w.t.Context()))
}

func (w *world) newKey(yaml string) (string, policy.KeyID) {
	w.t.Helper()
	p, _, err := policy.Parse("test.yaml", []byte(yaml), w.adapter.Catalog().Vocabulary())
	must(w.t, err)
	text, digest, last4 := w.ring.Master().Mint(vault.Test)
	key := vault.Key{
		ID: vault.NewKeyID(), Upstream: w.up.ID, Mode: vault.Test, Brake: vault.Normal, Policy: p, PolicyDigest: policy.Digest(p),
		Created: w.now(), Credentials: []vault.Credential{{Digest: digest, Last4: last4, Created: w.now()}},
	}
	key.Name = p.Name + "-" + string(key.ID)[4:8]
	row, err := store.EncodeKey(&key, policy.Format(p), key.PolicyDigest)
	must(w.t, err)
	must(w.t, w.store.Update(w.t.Context(), store.LaneControl, func(tx store.Tx) error {
		key.Version, err = tx.PutKey(row)
		return err
	}))
	_, err = w.ring.PutKey(key)
	must(w.t, err)
	return text.Reveal(), key.ID
}

// reply is an answer with its body parsed.
type reply struct {
	status int
	body   map[string]any
	raw    string
}

func (r reply) str(name string) string { s, _ := r.body[name].(string); return s }

func (r reply) want(t *testing.T, status int) reply {
	t.Helper()
	if r.status != status {
		t.Fatalf("%d, want %d: %s", r.status, status, r.raw)
	}
	return r
}

func exchange(h http.Handler, auth, method, path, form string, headers ...string) reply {
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader(form)
	} else if form != "" {
		path += "?" + form
	}
	req := httptest.NewRequest(method, path, body)
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	req.Header.Set("Authorization", "Bearer "+auth)
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	r := reply{status: rec.Code, raw: rec.Body.String()}
	_ = json.Unmarshal(rec.Body.Bytes(), &r.body) // a body that is no JSON shows in raw
	return r
}

// call is an agent's call through the gateway.
func (w *world) call(path, form string, headers ...string) reply {
	return exchange(w.agents, w.key, http.MethodPost, path, form, headers...)
}

// direct is a call that does not pass the gateway.
func (w *world) direct(method, path, form string) reply {
	w.t.Helper()
	return exchange(w.sandbox, secret, method, path, form).want(w.t, 200)
}

// lost makes a call whose answer does not come, after or before its effect.
func (w *world) lost(happens bool, path, form string, headers ...string) *ledger.Reservation {
	w.t.Helper()
	must(w.t, w.sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultCut, Method: "POST", Path: path, After: happens}))
	w.call(path, form, headers...).want(w.t, 504)
	return w.last()
}

func (w *world) reservations() (out []*ledger.Reservation) {
	w.t.Helper()
	must(w.t, w.store.View(context.Background(), func(tx store.Tx) error {
		out = nil
		return tx.ReservationsSince(w.id, time.Time{}, func(r *ledger.Reservation) error {
			out = append(out, r)
			return nil
		})
	}))
	return out
}

func (w *world) last() *ledger.Reservation {
	w.t.Helper()
	rs := w.reservations()
	if len(rs) == 0 {
		w.t.Fatal("there is no reservation")
	}
	return rs[len(rs)-1]
}

// reread is a reservation as it stands now.
func (w *world) reread(r *ledger.Reservation) (out *ledger.Reservation) {
	w.t.Helper()
	must(w.t, w.store.View(w.t.Context(), func(tx store.Tx) (err error) {
		out, err = tx.Reservation(r.ID)
		return err
	}))
	return out
}

// wantState fails the test unless the reservation stands there, with what is counted for it in cents.
func (w *world) wantState(r *ledger.Reservation, s ledger.State, proof ledger.Proof, cents int64) {
	w.t.Helper()
	got := w.reread(r)
	counted := int64(0)
	for _, n := range got.Counted {
		counted += n
	}
	if got.State != s || got.Proof != proof || counted != cents {
		w.t.Fatalf("it is %s by %q and counts %d (%s); want %s by %q and %d. Noted: %+v", got.State, got.Proof, counted, got.Why, s, proof, cents, w.r.NoteOf(got))
	}
}

// checkBooks holds the accounts of today against what the reservations say.
func (w *world) checkBooks() {
	w.t.Helper()
	k, _ := w.ring.Key(w.id)
	for key, want := range ledger.Recount(k.Policy.Caps, time.UTC, w.reservations()) {
		got, err := w.store.Peek(context.Background(), []ledger.AccountKey{key})
		if err != nil || got[0] != want {
			w.t.Errorf("account %v: %+v, its reservations say %+v (%v)", key, got, want, err)
		}
	}
}

// records returns what was recorded as reconciled, oldest first.
func (w *world) records() (out []*audit.Record) {
	w.t.Helper()
	must(w.t, w.store.View(w.t.Context(), func(tx store.Tx) error {
		return tx.EachRecord(1, func(e audit.Entry) error {
			r, err := audit.Decode(e.Bytes)
			if err == nil && r.Kind == audit.KindReconciled {
				out = append(out, r)
			}
			return err
		})
	}))
	return out
}
