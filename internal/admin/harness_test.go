package admin

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/sqlite"
	"github.com/keybrake/keybrake/internal/upstream"
	"github.com/keybrake/keybrake/internal/vault"
)

// world is a control plane as it runs: a store on disk, a ring, a vendor and the admin port.
type world struct {
	*Service
	db       *sqlite.DB
	master   *vault.Master
	dir      string
	vendor   *vendor
	server   *httptest.Server
	client   *Client      // an operator's
	ahead    atomic.Int64 // of the clock: nanoseconds
	upstream UpstreamView
}

const testSecret = "rk_test_51CanaryCanaryCanary"

func newWorld(t *testing.T) *world {
	t.Helper()
	master, err := vault.EphemeralMaster()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{dir: t.TempDir(), master: master, vendor: newVendor(t)}
	w.start(t)
	w.upstream, err = w.client.AddUpstream(t.Context(), UpstreamRequest{Name: "stripe-test", Secret: testSecret})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) storePath() string { return filepath.Join(w.dir, "keybrake.db") }

// start opens the store and serves; a second start is a restart.
func (w *world) start(t *testing.T) {
	t.Helper()
	db, err := sqlite.Open(context.Background(), sqlite.Options{Path: w.storePath(), Signer: w.master, MasterCheck: w.master.CheckValue(), Clock: w.now})
	if err != nil {
		t.Fatal(err)
	}
	w.db = db
	w.Service = New(Config{
		Store: db, Ring: vault.NewRing(w.master), Vocabulary: testVocabulary(),
		Prober: prober{upstream.NewClient(nil)}, BaseURL: w.vendor.server.URL, Version: "2026-01-28.test",
		Needs: []Need{
			{Name: "Charges: Read", Path: "/v1/charges", Query: "limit=1", Without: "Refunds cannot be bounded."},
			{Name: "Events: Read", Path: "/v1/events", Query: "limit=1", Without: "Unknown outcomes stay held."},
		},
		KillFile: KillFilePath(w.storePath()),
	})
	if _, err := w.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	handler := w.Handler()
	w.server = httptest.NewServer(readDescription(t, handler).holds(t, handler))
	if w.client, err = NewClient(w.server.URL, w.MintLocal("local", vault.RoleAdmin).Reveal()); err != nil {
		t.Fatal(err)
	}
	server, service := w.server, w.Service
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		service.Close()
		_ = db.Close() // a test may have closed it
	})
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

// pass lets time pass.
func (w *world) pass(d time.Duration) { w.ahead.Add(int64(d)) }

func (w *world) restart(t *testing.T) {
	t.Helper()
	w.server.Close()
	w.Service.Close()
	if err := w.db.Close(); err != nil {
		t.Fatal(err)
	}
	w.start(t)
}

// key makes a vault key that refunds up to a hundred dollars a day.
func (w *world) key(t *testing.T, name string) KeyCreated {
	t.Helper()
	k, err := w.client.CreateKey(t.Context(), KeyRequest{
		Name: name, Preset: "refund-support",
		PolicyEdit: PolicyEdit{Caps: []string{"refunds/day=100"}, Customers: []string{"cus_A", "cus_B"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// passes reports whether a call of the key would leave now.
func (w *world) passes(t *testing.T, key string, writes bool) bool {
	t.Helper()
	k, _, failure := w.Ring.Authenticate(vault.Attempt{Presented: key, Now: w.db.Now(), Writes: writes})
	if failure != nil {
		return false
	}
	flight, failure := w.Ring.Depart(k, writes)
	flight.Land()
	return failure == nil
}

// records reads the whole audit.
func (w *world) records(t *testing.T) []*audit.Record {
	t.Helper()
	var out []*audit.Record
	err := w.db.View(t.Context(), func(tx store.Tx) error {
		return tx.EachRecord(1, func(e audit.Entry) error {
			rec, err := audit.Decode(e.Bytes)
			out = append(out, rec)
			return err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// spends makes a settled call of a key, as the gateway would.
func (w *world) spends(t *testing.T, id string, usd int64) {
	t.Helper()
	k, ok := w.Ring.Key(policy.KeyID(id))
	if !ok {
		t.Fatalf("no key %s", id)
	}
	admit(t, w.db, k, usd)
}

// until waits for something that another goroutine does on its own time.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("never happened: %s", what)
}

// vendor is as much of a vendor as is asked here: lists behind a secret with permissions.
type vendor struct {
	server *httptest.Server
	mu     sync.Mutex
	status map[string]int // by path; else 200
}

func newVendor(t *testing.T) *vendor {
	v := &vendor{status: map[string]int{}}
	v.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v.mu.Lock()
		status, ok := v.status[r.URL.Path]
		v.mu.Unlock()
		if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer rk_") {
			status, ok = http.StatusUnauthorized, true
		}
		if !ok {
			status = http.StatusOK
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`{"object":"list","data":[]}`))
	}))
	t.Cleanup(v.server.Close)
	return v
}

func (v *vendor) answer(path string, status int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.status[path] = status
}

// prober asks over HTTP, with the secret that vault attaches.
type prober struct{ client *upstream.Client }

func (p prober) Try(ctx context.Context, up *vault.Upstream, probe upstream.Probe) (int, error) {
	answer := p.client.Do(ctx, up.BaseURL, up, &upstream.Request{Method: probe.Method, Path: probe.Path, Query: probe.Broken})
	return answer.Status, answer.Err
}

func (p prober) Probe(ctx context.Context, up *vault.Upstream, path, query string) (int, []byte, error) {
	a := p.client.Do(ctx, up.BaseURL, up, &upstream.Request{Method: http.MethodGet, Path: path, Query: query, Header: http.Header{}})
	return a.Status, a.Body, a.Err
}

func testVocabulary() *policy.Vocabulary {
	term := func(resource policy.Resource, method string, access policy.Access, customer bool, buckets ...policy.Resource) policy.OperationTerm {
		return policy.OperationTerm{
			Name: policy.OperationName(string(resource) + "." + method), Resource: resource, Access: access,
			ReachesCustomer: customer, Buckets: buckets,
		}
	}
	return policy.NewVocabulary([]policy.OperationTerm{
		term("charges", "list", policy.Read, true), term("charges", "create", policy.Write, true, "charges"),
		term("payment_intents", "list", policy.Read, true), term("customers", "list", policy.Read, true),
		term("refunds", "list", policy.Read, true), term("refunds", "create", policy.Write, true, "refunds"),
		term("invoices", "list", policy.Read, true), term("balance_transactions", "list", policy.Read, false),
		term("events", "list", policy.Read, false), term("payouts", "list", policy.Read, false),
		term("products", "create", policy.Write, false), term("plans", "create", policy.Write, false),
		term("prices", "create", policy.Write, false),
	})
}

func emptyVocabulary() *policy.Vocabulary { return policy.NewVocabulary(nil) }

// admit reserves and settles a refund of so many dollars, as the gateway does.
func admit(t *testing.T, db store.DB, k *vault.Key, usd int64) {
	t.Helper()
	quote, err := money.NewTable(nil).Quote("usd", db.Now())
	if err != nil {
		t.Fatal(err)
	}
	amount := money.Amount{Minor: usd * 100, Currency: "usd"}
	got, err := db.Admit(t.Context(), &store.Admission{
		Key: k.ID, KeyVersion: k.Version, Upstream: k.Upstream, Writes: true,
		Record: &audit.Record{Kind: audit.KindIntent, Key: k.ID, KeyName: k.Name, Operation: "refunds.create"},
		Reserve: &ledger.Request{
			Key: k.ID, Upstream: k.Upstream, Operation: "refunds.create", Caps: k.Policy.Caps, Zone: k.Policy.Timezone,
			Effects: []policy.Effect{{Bucket: "refunds", Known: true, Amount: amount, Quote: quote, USD: money.USD(usd) * money.Dollar}},
			Counts:  []policy.Resource{"refunds"},
		},
	})
	if err != nil || got.Verdict != policy.Allow {
		t.Fatalf("admit: %+v, %v", got, err)
	}
	_, err = db.Resolve(t.Context(), &store.Resolution{
		Reservation: got.Reservation.ID,
		Fate:        ledger.Fate{State: ledger.Settled, Moved: []ledger.Moved{{Amount: amount}}},
		Record:      &audit.Record{Kind: audit.KindOutcome, Ref: got.Entry.Seq, Key: k.ID, KeyName: k.Name},
	})
	if err != nil {
		t.Fatal(err)
	}
}
