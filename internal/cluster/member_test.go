package cluster

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/postgres"
	"github.com/keybrake/keybrake/internal/store/postgres/postgrestest"
	"github.com/keybrake/keybrake/internal/store/storetest"
	"github.com/keybrake/keybrake/internal/vault"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// node is a member over a real store that remembers what it was told.
type node struct {
	*Member
	db *postgres.DB

	mu     sync.Mutex
	brakes []string // scopes that it obeys
	told   []store.Changed
	busy   bool // an operator's change is just being made here
	now    time.Duration
}

func (n *node) obeys(scope string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Contains(n.brakes, scope)
}

// join opens the store at url once more, as another process would.
func join(t *testing.T, url, name string) *node { return joinFor(t, url, name, time.Minute) }

func joinFor(t *testing.T, url, name string, lease time.Duration) *node {
	t.Helper()
	db, err := postgres.Open(t.Context(), postgres.Options{URL: url, Signer: storetest.NewSigner("a"), MasterCheck: "m", Node: name, AllowUnsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() }) // some tests have closed it
	n := &node{db: db, now: time.Hour}
	n.Member = New(Config{
		Store: db, Lease: lease,
		Obeying: func() func(int64, []store.BrakeRow) {
			return func(_ int64, rows []store.BrakeRow) {
				n.mu.Lock()
				defer n.mu.Unlock()
				n.brakes = nil
				for _, r := range rows {
					n.brakes = append(n.brakes, r.Scope)
				}
			}
		},
		Follow: func(_ context.Context, c store.Changed) (bool, error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			if !n.busy {
				n.told = append(n.told, c)
			}
			return !n.busy, nil
		},
		clock: func() time.Duration {
			n.mu.Lock()
			defer n.mu.Unlock()
			return n.now
		},
	})
	look(t, n)
	return n
}

func look(t *testing.T, n *node) {
	t.Helper()
	if err := n.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func stop(t *testing.T, n *node, scope string) {
	t.Helper()
	err := n.db.Update(t.Context(), store.LaneBrake, func(tx store.Tx) error {
		return tx.PutBrake(store.BrakeRow{Scope: scope, Mode: vault.Stopped, Actor: "a", At: tx.Now()})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, n *node) {
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { n.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
}

func TestAStopIsAcknowledgedByEveryNodeThatObeysIt(t *testing.T) {
	url := postgrestest.Database(t)
	a, b, c := join(t, url, "a"), join(t, url, "b"), join(t, url, "c")
	run(t, b)
	run(t, c)
	stop(t, a, store.ScopeAll)
	acks, err := a.Acknowledged(t.Context(), true)
	if err != nil || len(acks) != 2 {
		t.Fatalf("%+v, %v; want both others", acks, err)
	}
	for _, ack := range acks {
		if ack.Expired {
			t.Errorf("node %s did not say so", ack.Name)
		}
	}
	for _, n := range []*node{b, c} {
		if !n.obeys(store.ScopeAll) {
			t.Error("a node said that it obeys a stop, and does not")
		}
	}
}

func TestANodeThatIsCutOffIsWaitedForUntilItsLeaseHasRunOut(t *testing.T) {
	url := postgrestest.Database(t)
	a, _ := join(t, url, "a"), joinFor(t, url, "b", DefaultLease) // b looked once and never again
	stop(t, a, store.ScopeAll)
	acks, err := a.Acknowledged(t.Context(), true)
	if err != nil || len(acks) != 1 || !acks[0].Expired || acks[0].Name != "b" {
		t.Fatalf("%+v, %v; want b, expired", acks, err)
	}
}

func TestAStoreThatFallsSilentIsWaitedForNoLongerThanALease(t *testing.T) {
	server := postgrestest.Start(t)
	url := server.Database(t)
	a, _ := joinFor(t, url, "a", DefaultLease), joinFor(t, url, "b", DefaultLease)
	stop(t, a, store.ScopeAll)
	time.AfterFunc(DefaultLease/3, server.Freeze)
	acks, err := a.Acknowledged(t.Context(), true)
	server.Thaw()
	if err != nil || len(acks) != 1 || !acks[0].Expired {
		t.Fatalf("%+v, %v; want b, expired", acks, err)
	}
	server.Kill()
	if acks, err := a.Acknowledged(t.Context(), true); err == nil {
		t.Errorf("nobody told which nodes there are, and it is said to be in force everywhere: %+v", acks)
	}
}

func TestANodeThatSaidGoodbyeIsNotWaitedFor(t *testing.T) {
	url := postgrestest.Database(t)
	a, b := join(t, url, "a"), join(t, url, "b")
	if err := b.db.Close(); err != nil {
		t.Fatal(err)
	}
	stop(t, a, store.ScopeAll)
	if acks, err := a.Acknowledged(t.Context(), true); err != nil || len(acks) != 0 {
		t.Fatalf("%+v, %v; want nobody", acks, err)
	}
}

func TestALeaseRunsOutUnlessTheStoreIsLookedAt(t *testing.T) {
	n := join(t, postgrestest.Database(t), "a")
	pass := func(d time.Duration) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.now += d
	}
	if !n.Held() {
		t.Fatal("a node that has just looked has no lease")
	}
	expired := n.Hold()
	pass(time.Minute - 1)
	if !n.Held() || expired() != nil {
		t.Error("the lease ran out before its time")
	}
	pass(1)
	if n.Held() || !errors.Is(n.Hold()(), ErrLease) {
		t.Error("the lease did not run out: a node that was paused would act on what it believed")
	}
	look(t, n)
	if !n.Held() || n.Hold()() != nil {
		t.Error("a look did not renew the lease")
	}
	if !errors.Is(expired(), ErrLease) {
		t.Error("a look made what was read before it newer")
	}
	n.lease.renew(time.Hour) // an answer that comes late
	if got := n.lease.Left(); got != time.Minute {
		t.Errorf("an older look shortened the lease to %s", got)
	}
}

func TestALookThatFailsRenewsNothing(t *testing.T) {
	n := join(t, postgrestest.Database(t), "a")
	if err := n.db.Close(); err != nil {
		t.Fatal(err)
	}
	n.mu.Lock()
	n.now += time.Minute
	n.mu.Unlock()
	if err := n.Look(t.Context()); err == nil || n.Held() {
		t.Errorf("looked at a closed store: %v, lease held: %v", err, n.Held())
	}
}

func TestAChangeIsToldAgainUntilItIsActedOn(t *testing.T) {
	url := postgrestest.Database(t)
	a, b := join(t, url, "a"), join(t, url, "b")
	b.busy = true
	storetest.Key(t, a.db, "key_1")
	look(t, b)
	acts := func() bool {
		seen, err := a.db.Nodes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return seen.Nodes[1].Control == seen.Control
	}
	if acts() {
		t.Error("a node that could not act on a change said that it did")
	}
	b.busy = false
	look(t, b)
	look(t, b) // the next beat says so
	if last := b.told[len(b.told)-1]; !acts() || len(last.Keys) != 1 || last.Keys[0].ID != "key_1" {
		t.Errorf("told of %+v; acts on it: %v", last, acts())
	}
}

func TestTheNodeThatStartedFirstLeads(t *testing.T) {
	url := postgrestest.Database(t)
	a, b := join(t, url, "a"), join(t, url, "b")
	if !a.Leads(t.Context()) || b.Leads(t.Context()) {
		t.Error("want the first alone")
	}
	if err := a.db.Close(); err != nil {
		t.Fatal(err)
	}
	if !b.Leads(t.Context()) {
		t.Error("nobody leads after the first has ended")
	}
}

func TestAStoreThatIsNotToBeHadIsSaidToBe(t *testing.T) {
	server := postgrestest.Start(t)
	n := join(t, server.Database(t), "a")
	server.Kill()
	if _, err := n.List(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("%v", err)
	}
}
