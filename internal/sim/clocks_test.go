package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"sync"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/admin"
	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/cluster"
	"github.com/keybrake/keybrake/internal/gateway"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/postgres"
	"github.com/keybrake/keybrake/internal/store/postgres/postgrestest"
	"github.com/keybrake/keybrake/internal/upstream"
	"github.com/keybrake/keybrake/internal/upstream/stripe"
	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
	"github.com/keybrake/keybrake/internal/vault"
)

// clockNode is one of two gateways on one PostgreSQL, on a machine whose clock is off.
type clockNode struct {
	*process
	off    time.Duration
	db     *postgres.DB
	member *cluster.Member
}

// done waits, as the operators' API does, until the other node acts on what was done here.
func (n *clockNode) done(t *testing.T, err error) {
	t.Helper()
	must(t, err)
	_, err = n.member.Acknowledged(t.Context(), false)
	must(t, err)
}

func (n *clockNode) String() string { return fmt.Sprintf("the node whose clock is off by %s", n.off) }

// plainWay leads to a vendor that loses nothing.
type plainWay struct{ *sandbox.Server }

func (w plainWay) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		body, _ = io.ReadAll(req.Body) // it is in memory
	}
	if trace := httptrace.ContextClientTrace(req.Context()); trace != nil {
		trace.GotConn(httptrace.GotConnInfo{Conn: noConn{}})
	}
	sent, rec := requestOf(req, body), &recorder{head: make(http.Header)}
	sent.http.Body = io.NopCloser(bytes.NewReader(body))
	w.ServeHTTP(rec, sent.http)
	return &http.Response{StatusCode: rec.code, Header: rec.head, Body: io.NopCloser(&rec.body), Request: req}, nil
}

// joinApart opens the store once more, as a process on a machine does whose clock is off.
func joinApart(t *testing.T, w *world, url string, off time.Duration) *clockNode {
	t.Helper()
	db, err := postgres.Open(t.Context(), postgres.Options{
		URL: url, Signer: w.master, MasterCheck: w.master.CheckValue(), Node: off.String(), Machine: func() time.Time { return time.Now().Add(off) },
	})
	must(t, err)
	n := &clockNode{process: &process{ring: vault.NewRing(w.master)}, off: off, db: db}
	n.member = cluster.New(cluster.Config{
		Store: db, Lease: time.Minute, // a machine may be busy with other tests
		Obeying: func() func(int64, []store.BrakeRow) { return n.service.Obeying() },
		Follow:  func(ctx context.Context, c store.Changed) (bool, error) { return n.service.Follow(ctx, c) },
	})
	log := slog.New(w.log)
	n.service = admin.New(admin.Config{Store: db, Ring: n.ring, Vocabulary: w.adapter.Catalog().Vocabulary(), Version: stripe.DefaultVersion, Log: log, Cluster: n.member})
	_, err = n.service.Load(t.Context())
	must(t, err)
	n.gateway = gateway.New(gateway.Config{
		Adapter: w.adapter, Ring: n.ring, Store: db, Client: upstream.NewClientOver(plainWay{w.sandbox}), Rates: n.service.Rates, Log: log, Lease: n.member.Hold,
		LookupsPerSecond: 1e6, LookupsPerUpstream: 1e6,
	})
	must(t, n.member.Look(t.Context()))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { n.member.Run(ctx) })
	t.Cleanup(func() {
		n.gateway.Close()
		n.service.Close()
		cancel()
		running.Wait()
		must(t, db.Close())
	})
	return n
}

// noon is the name of a zone in which no day ends while a test runs.
func noon() string {
	hour := time.Now().UTC().Hour()
	switch ahead := 12 - hour; {
	case ahead > 0:
		return fmt.Sprintf("Etc/GMT-%d", ahead) // its names count the other way round
	case ahead < 0:
		return fmt.Sprintf("Etc/GMT+%d", -ahead)
	}
	return "UTC"
}

// TestTwoGatewaysWhoseClocksAreDaysApartDoTheSame: which of them takes a call means nothing for its window, for what its key
// has left, for whether the key has ended, and for whether a stop binds it.
func TestTwoGatewaysWhoseClocksAreDaysApartDoTheSame(t *testing.T) {
	w := &world{log: &errorLog{}, sandbox: sandbox.New(sandbox.Options{Seed: 1})}
	w.seeded = w.sandbox.Seed()
	var err error
	w.master, err = vault.EphemeralMaster()
	must(t, err)
	w.adapter, err = stripe.New()
	must(t, err)
	url := postgrestest.Database(t)
	nodes := []*clockNode{joinApart(t, w, url, -30*time.Hour), joinApart(t, w, url, 31*time.Hour)}
	behind, ahead := nodes[0], nodes[1]

	who := admin.Actor{Name: "setup", Role: vault.RoleAdmin}
	_, err = behind.service.AddUpstream(t.Context(), who, admin.UpstreamRequest{Name: "stripe", Secret: "sk_test_simulated", BaseURL: "https://api.stripe.example"})
	behind.done(t, err)
	key := func(n *clockNode, name, expires string) admin.KeyCreated {
		t.Helper()
		made, err := n.service.CreateKey(t.Context(), who, admin.KeyRequest{Name: "agent-sim-clock-" + name, PolicyEdit: admin.PolicyEdit{
			Policy:     "scopes: {charges: read, refunds: write}\ncaps: [{resource: refunds, per: day, usd: 100.00}]\ncustomers: any\ntimezone: " + noon() + "\n",
			PolicyFile: "clocks.yaml", Expires: expires,
		}})
		n.done(t, err)
		return made
	}
	charge := w.seeded.Customers[0].Charges[0]
	refund := func(n *clockNode, secret, idem string, cents int) string {
		return w.request(t.Context(), n.process, secret, "r", shot{method: http.MethodPost, path: "/v1/refunds", form: fmt.Sprintf("charge=%s&amount=%d", charge, cents), idem: idem}).refusal()
	}
	read := func(n *clockNode, secret string) string {
		return w.request(t.Context(), n.process, secret, "r", shot{method: http.MethodGet, path: "/v1/charges/" + charge}).refusal()
	}
	check := func(what string, n *clockNode, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s, at %s: %q, want %q", what, n, got, want)
		}
	}

	// It ends while the rest of the test runs: there is time enough to make it on a machine that is busy with other tests.
	over := key(ahead, "over", time.Now().Add(5*time.Second).UTC().Format(time.RFC3339Nano))
	short := key(ahead, "short", "1h")
	for _, n := range nodes {
		check("a key that has an hour left", n, read(n, short.Key), "")
	}
	check("the first of a day's money", ahead, refund(ahead, short.Key, "one", 1000), "")
	check("a retry of a call of the other's", behind, refund(behind, short.Key, "one", 1000), "")
	check("more than is left of the day", behind, refund(behind, short.Key, "", 9500), "keybrake_cap_exceeded")
	check("what is left of it", behind, refund(behind, short.Key, "", 9000), "")
	for _, n := range nodes {
		check("a cent more", n, refund(n, short.Key, "", 1), "keybrake_cap_exceeded")
	}
	if n := len(w.sandbox.Effects()); n != 2 {
		t.Errorf("%d movements of money, want 2", n)
	}

	rotated := key(behind, "rotated", "")
	next, err := ahead.service.RotateKey(t.Context(), who, rotated.ID, time.Hour, false)
	ahead.done(t, err)
	for _, n := range nodes {
		check("a text that has an hour left", n, read(n, rotated.Key), "")
	}
	last, err := ahead.service.RotateKey(t.Context(), who, rotated.ID, 0, false)
	ahead.done(t, err)
	for _, n := range nodes {
		check("a text that has ended", n, read(n, next.Key), "keybrake_key_expired")
		check("a text that has ended, for money", n, refund(n, rotated.Key, "", 1), "keybrake_key_expired")
		check("the text of now", n, read(n, last.Key), "")
	}

	for until := time.Now().Add(time.Minute); !behind.db.Now().After(over.Expires) && time.Now().Before(until); {
		time.Sleep(10 * time.Millisecond)
	}
	for _, n := range nodes {
		check("a key that has expired", n, read(n, over.Key), "keybrake_key_expired")
	}

	for i, n := range nodes {
		stopped := key(n, fmt.Sprint("stopped", i), "")
		_, err := n.service.Kill(t.Context(), who, admin.KillRequest{Target: admin.Target{Keys: []string{stopped.ID}}})
		must(t, err)
		for _, other := range nodes {
			check("a read after a stop", other, read(other, stopped.Key), "keybrake_key_killed")
			check("money after a stop", other, refund(other, stopped.Key, "", 1), "keybrake_key_killed")
		}
	}
	if len(w.log.broken) > 0 {
		t.Error(w.log.broken)
	}
	inOrder(t, behind.db)
}

// refusal is the reason of a refusal; empty: the call went through.
func (r *recorder) refusal() string {
	if r.code == http.StatusOK {
		return ""
	}
	var said struct{ Error struct{ Code string } }
	if err := json.Unmarshal(r.body.Bytes(), &said); err != nil {
		return err.Error()
	}
	return said.Error.Code
}

// inOrder makes sure that records are of the server's time, one after the other.
func inOrder(t *testing.T, db store.DB) {
	t.Helper()
	var before time.Time
	must(t, db.View(t.Context(), func(tx store.Tx) error {
		return tx.EachRecord(1, func(e audit.Entry) error {
			if e.At.Before(before) || time.Since(e.At).Abs() > 10*time.Minute {
				t.Errorf("record %d is of %s, the one before of %s", e.Seq, e.At, before)
			}
			before = e.At
			return nil
		})
	}))
}
