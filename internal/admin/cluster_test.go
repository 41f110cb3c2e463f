package admin

import (
	"context"
	"errors"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/cluster"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/postgres"
	"github.com/keybrake/keybrake/internal/store/postgres/postgrestest"
	"github.com/keybrake/keybrake/internal/upstream"
	"github.com/keybrake/keybrake/internal/vault"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// node is one of several control planes over one store.
type node struct {
	*Service
	member *cluster.Member
	client *Client
	db     *postgres.DB
	url    string
	leave  func()
}

func joinNode(t *testing.T, url, name string, master *vault.Master, v *vendor) *node {
	t.Helper()
	db, err := postgres.Open(context.Background(), postgres.Options{
		URL: url, Signer: master, MasterCheck: master.CheckValue(), Node: name, Version: "test", AllowUnsafe: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	n := &node{db: db}
	n.member = cluster.New(cluster.Config{
		Store: db, Lease: time.Minute, // a machine may be busy with other tests
		Obeying: func() func(int64, []store.BrakeRow) { return n.Obeying() }, Follow: func(ctx context.Context, c store.Changed) (bool, error) { return n.Follow(ctx, c) },
	})
	n.Service = New(Config{
		Store: db, Ring: vault.NewRing(master), Vocabulary: testVocabulary(), Prober: prober{upstream.NewClient(nil)},
		BaseURL: v.server.URL, Version: "2026-01-28.test", Cluster: n.member,
	})
	if _, err := n.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(n.Handler())
	n.url = server.URL
	if n.client, err = NewClient(server.URL, n.MintLocal("local", vault.RoleAdmin).Reveal()); err != nil {
		t.Fatal(err)
	}
	if err := n.member.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { n.member.Run(ctx) })
	n.leave = sync.OnceFunc(func() {
		server.Close()
		n.Service.Close()
		cancel()
		running.Wait()
		_ = db.Close()
	})
	t.Cleanup(n.leave)
	return n
}

func TestWhatIsDoneAtOneNodeHoldsAtAllOthers(t *testing.T) {
	master, err := vault.EphemeralMaster()
	if err != nil {
		t.Fatal(err)
	}
	url, v := postgrestest.Database(t), newVendor(t)
	a, b := joinNode(t, url, "a", master, v), joinNode(t, url, "b", master, v)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err = a.client.AddUpstream(t.Context(), UpstreamRequest{Name: "stripe-test", Secret: testSecret})
	must(err)
	made, err := a.client.CreateKey(t.Context(), KeyRequest{
		Name: "agent", Preset: "refund-support", PolicyEdit: PolicyEdit{Caps: []string{"refunds/day=100"}, Customers: []string{"cus_A"}},
	})
	must(err)
	passes := func(writes bool) bool {
		_, _, failure := b.Ring.Authenticate(vault.Attempt{Presented: made.Key, Now: b.db.Now(), Writes: writes})
		return failure == nil
	}
	if !passes(true) {
		t.Fatal("a key that was made at one node is not known at the other when its creation has answered")
	}

	killed, err := a.client.Kill(t.Context(), KillRequest{Target: Target{Keys: []string{"agent"}}, ReadOnly: true})
	must(err)
	if len(killed.Nodes) != 1 || killed.Nodes[0].Name != "b" || killed.Nodes[0].Expired || killed.Warning != "" || killed.DurableMS <= 0 || killed.DurableMS > killed.EffectiveMS {
		t.Errorf("killed: %+v; want node b to have said so", killed)
	}
	if passes(true) || !passes(false) {
		t.Error("the other node does not obey a read-only brake when the stop has answered")
	}
	_, err = b.client.Resume(t.Context(), ResumeRequest{Target: Target{Keys: []string{"agent"}}, Reason: "looked at"})
	must(err)
	if k, _ := a.Ring.FindKey("agent"); a.Ring.EffectiveBrake(k.ID) != vault.Normal {
		t.Error("a resumption at one node is not one at the other")
	}

	_, err = a.client.UpdateKey(t.Context(), "agent", KeyUpdate{PolicyEdit: PolicyEdit{Caps: []string{"refunds/day=7"}}})
	must(err)
	if k, _ := b.Ring.FindKey("agent"); k.Policy.Caps[0].Limit != int64(7*money.Dollar) {
		t.Errorf("the other node holds against %+v", k.Policy.Caps)
	}
	token, err := a.client.CreateToken(t.Context(), TokenRequest{Name: "tool", Role: "auditor"})
	must(err)
	other, err := NewClient(b.url, token.Token)
	must(err)
	if _, err := other.Status(t.Context()); err != nil {
		t.Errorf("a token that was made at one node, at the other: %v", err)
	}
	_, err = a.client.RevokeKeys(t.Context(), Revocation{Keys: []string{"agent"}})
	must(err)
	if passes(false) {
		t.Error("a revoked key passes at the other node")
	}
	must(a.client.RemoveUpstream(t.Context(), "stripe-test"))
	if _, still := b.Ring.FindUpstream("stripe-test"); still {
		t.Error("an upstream that was removed is still there at the other node")
	}
}

func TestNodesAreListedWithHowTheyStand(t *testing.T) {
	master, err := vault.EphemeralMaster()
	if err != nil {
		t.Fatal(err)
	}
	url, v := postgrestest.Database(t), newVendor(t)
	a, b := joinNode(t, url, "a", master, v), joinNode(t, url, "b", master, v)
	states := func() (out []string) {
		list, err := a.client.Nodes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range list.Items {
			if n.Own != (n.Name == "a") || n.Version != "test" {
				t.Errorf("%+v", n)
			}
			out = append(out, n.Name+" "+n.State)
		}
		return out
	}
	if got, want := states(), []string{"a live", "b live"}; !slices.Equal(got, want) {
		t.Errorf("nodes %q, want %q", got, want)
	}
	b.leave()
	if got, want := states(), []string{"a live", "b ended"}; !slices.Equal(got, want) {
		t.Errorf("after one left: %q, want %q", got, want)
	}
}

// TestAChangeOfAnUpstreamAtANodeThatIsBehindIsRefused: it would take back what another node did, or pull from under its
// keys what they need.
func TestAChangeOfAnUpstreamAtANodeThatIsBehindIsRefused(t *testing.T) {
	master, err := vault.EphemeralMaster()
	if err != nil {
		t.Fatal(err)
	}
	url, v := postgrestest.Database(t), newVendor(t)
	a, b := joinNode(t, url, "a", master, v), joinNode(t, url, "b", master, v)
	who := Actor{Name: "dana", Role: vault.RoleAdmin}
	for _, name := range []string{"edited", "removed", "used"} {
		if _, err := a.client.AddUpstream(t.Context(), UpstreamRequest{Name: name, Secret: testSecret}); err != nil {
			t.Fatal(err)
		}
	}
	key := func(upstream string) KeyRequest {
		return KeyRequest{
			Name: "agent-" + upstream, Upstream: upstream, Preset: "refund-support",
			PolicyEdit: PolicyEdit{Caps: []string{"refunds/day=100"}, Customers: []string{"cus_A"}},
		}
	}
	attempts := map[string]func(*node) error{
		"set it": func(n *node) error {
			_, err := n.UpdateUpstream(t.Context(), who, "edited", UpstreamUpdate{RotateEvery: "90d"})
			return err
		},
		"make a key for one that was removed": func(n *node) error {
			_, err := n.CreateKey(t.Context(), who, key("removed"))
			return err
		},
		"remove one that has a key": func(n *node) error { return n.RemoveUpstream(t.Context(), who, "used") },
	}
	a.rosterMu.Lock() // who may come in is just being changed here, so that this node cannot follow
	_, errSet := b.SetWebhook(t.Context(), who, "edited", SigningSecret{Secret: "whsec_" + strings.Repeat("A", 32)})
	_, errMake := b.CreateKey(t.Context(), who, key("used"))
	if err := errors.Join(errSet, errMake, b.RemoveUpstream(t.Context(), who, "removed")); err != nil {
		t.Error(err)
	}
	for name, attempt := range attempts {
		var refused *Refusal
		if err := attempt(a); !errors.As(err, &refused) || refused.Kind != Conflict {
			t.Errorf("%s: %v; want a conflict", name, err)
		}
	}
	a.rosterMu.Unlock()
	if err := a.member.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := attempts["set it"](a); err != nil {
		t.Errorf("once it has followed: %v", err)
	}
	if u, err := a.Upstream("edited"); err != nil || !u.Webhook {
		t.Errorf("what the other node did is gone: %+v, %v", u, err)
	}
}

// TestAnEditAtANodeThatIsBehindIsRefused: it would bring back the policy that this node remembers.
func TestAnEditAtANodeThatIsBehindIsRefused(t *testing.T) {
	master, err := vault.EphemeralMaster()
	if err != nil {
		t.Fatal(err)
	}
	url, v := postgrestest.Database(t), newVendor(t)
	a, b := joinNode(t, url, "a", master, v), joinNode(t, url, "b", master, v)
	if _, err := a.client.AddUpstream(t.Context(), UpstreamRequest{Name: "stripe-test", Secret: testSecret}); err != nil {
		t.Fatal(err)
	}
	made, err := a.client.CreateKey(t.Context(), KeyRequest{
		Name: "agent", Preset: "refund-support", PolicyEdit: PolicyEdit{Caps: []string{"refunds/day=100"}, Customers: []string{"cus_A"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	nothing := func(*vault.Key, store.Tx, *audit.Record) error { return nil }
	who := Actor{Name: "dana", Role: vault.RoleAdmin}
	a.changes.Lock() // something goes on here, so that this node cannot follow
	b.changes.Lock()
	err = b.changeKey(t.Context(), who, "key.note", made.ID, nothing)
	b.changes.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	err = a.changeKey(t.Context(), who, "key.note", made.ID, nothing)
	a.changes.Unlock()
	var refused *Refusal
	if !errors.As(err, &refused) || refused.Kind != Conflict {
		t.Errorf("an edit at a node that is behind: %v; want a conflict", err)
	}
	if err := a.member.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.changes.Lock()
	err = a.changeKey(t.Context(), who, "key.note", made.ID, nothing)
	a.changes.Unlock()
	if err != nil {
		t.Errorf("once it has followed: %v", err)
	}
}
