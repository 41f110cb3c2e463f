package gateway_test

import (
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/gateway"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
	"github.com/keybrake/keybrake/internal/vault"
)

func TestNothingLeavesAfterTheBrakeIsPulled(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(moneyPolicy(`resource: payment_intents, per: day, usd: 900000.00`))
	for _, c := range []struct {
		name  string
		scope vault.Scope
	}{
		{"the key's", vault.Scope{Key: k.ID}}, {"the upstream's", vault.Scope{Upstream: w.up.ID}}, {"everything's", vault.All},
	} {
		t.Run(c.name, func(t *testing.T) {
			var wg sync.WaitGroup
			var refused, passed atomic.Int64
			for range 32 {
				wg.Go(func() {
					for {
						switch r := w.call(key, "POST", "/v1/payment_intents", "amount=100&currency=usd"); {
						case r.Status == 401 && r.errCode() == "keybrake_key_killed":
							refused.Add(1)
							return
						case r.Status == 200:
							passed.Add(1)
						default:
							t.Errorf("%d %s", r.Status, r.Raw)
							return
						}
					}
				})
			}
			eventually(t, "the loop runs", func() bool { return passed.Load() > 100 })
			_, err := w.Ring.SetBrake(c.scope, vault.Stopped)
			must(t, err)
			// Those in flight may be written already or be about to be; no other may come.
			bound := int64(w.Sandbox.Arrivals()) + w.Ring.InFlight(c.scope)
			wg.Wait()
			if n := int64(w.Sandbox.Arrivals()); n > bound {
				t.Errorf("%d arrived, at most %d were on the wire", n, bound)
			}
			if refused.Load() != 32 {
				t.Errorf("%d were refused", refused.Load())
			}
			if n := w.Ring.InFlight(c.scope); n != 0 {
				t.Errorf("%d still count as in flight", n)
			}
			_, err = w.Ring.SetBrake(c.scope, vault.Normal)
			must(t, err)
			w.call(key, "POST", "/v1/payment_intents", "amount=100&currency=usd").want(t, 200, "")
		})
	}
}

func TestTheBrakeWorksWhileTheUpstreamHangs(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(moneyPolicy(allPerDay))
	must(t, w.Sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultHang, After: true, Times: sandbox.Always, Method: "POST"}))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			w.call(key, "POST", "/v1/payment_intents", "amount=100&currency=usd&metadata[n]="+strconv.Itoa(i)).want(t, 200, "")
		})
	}
	eventually(t, "all hang", func() bool { return w.Sandbox.Hanging() == 8 })
	_, err := w.Ring.SetBrake(vault.Scope{Key: k.ID}, vault.Stopped)
	must(t, err)
	if n := w.Ring.InFlight(vault.Scope{Key: k.ID}); n != 8 {
		t.Errorf("%d on the wire", n)
	}
	w.call(key, "POST", "/v1/payment_intents", "amount=100&currency=usd").want(t, 401, "keybrake_key_killed")
	w.call(key, "GET", "/v1/charges", "").want(t, 401, "keybrake_key_killed")
	w.Sandbox.ClearFaults()
	wg.Wait() // what was on the wire is told its outcome all the same
	w.wantUSD(k.ID, "*", 0, 800)
}

func TestABrakeStopsLookupsToo(t *testing.T) {
	adapter := &hookedAdapter{}
	w := buildWorld(t, setup{config: func(c *gateway.Config) { adapter.Adapter, c.Adapter = c.Adapter, adapter }})
	key, k := w.key(listPolicy(w, ""))
	adapter.beforeResolve = func() {
		_, err := w.Ring.SetBrake(vault.Scope{Key: k.ID}, vault.Stopped)
		must(t, err)
	}
	w.call(key, "POST", "/v1/refunds", "payment_intent="+w.Seeded.Customers[0].PaymentIntent).want(t, 401, "keybrake_key_killed")
	if n := w.Sandbox.Arrivals(); n != 0 {
		t.Fatalf("%d arrivals", n)
	}
	if n := len(w.reservations(k.ID)); n != 0 {
		t.Fatalf("%d reservations", n)
	}
}

func TestReadOnlyLetsReadsPass(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(refundPolicy)
	_, err := w.Ring.SetBrake(vault.Scope{Key: k.ID}, vault.ReadOnly)
	must(t, err)
	charge := w.Seeded.Customers[0].Charges[0]
	w.call(key, "GET", "/v1/charges/"+charge, "").want(t, 200, "")
	w.refund(key, charge, "100").want(t, 401, "keybrake_key_readonly")
	if n := w.arrivals("POST"); n != 0 {
		t.Fatalf("%d arrivals", n)
	}
}

// A brake that only the store knows yet (another process pulled it) binds at the admission.
func TestABrakeInTheStoreBindsAtTheAdmission(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(refundPolicy)
	charge := w.Seeded.Customers[0].Charges[0]
	must(t, w.Store.Update(t.Context(), store.LaneBrake, func(tx store.Tx) error {
		return tx.PutBrake(store.BrakeRow{Scope: store.KeyScope(k.ID), Mode: vault.Stopped, Reason: "test", At: tx.Now()})
	}))
	w.refund(key, charge, "100").want(t, 401, "keybrake_key_killed")
	r := w.call(key, "GET", "/v1/charges/"+charge, "").want(t, 401, "keybrake_key_killed")
	if n := w.arrivals("POST"); n != 0 {
		t.Fatalf("%d arrivals", n)
	}
	if _, seq, err := audit.ParseID(r.Header.Get("Keybrake-Audit-Id")); err != nil || w.records()[seq-1].Kind != audit.KindDenied || w.records()[seq-1].Status != 401 {
		t.Errorf("%v %v", r.Header, err)
	}
}

func TestWhatWasOnTheWireBeforeTheBrakeIsAnswered(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(refundPolicy)
	must(t, w.Sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultHang, Method: "GET"}))
	done := make(chan reply, 1)
	go func() { done <- w.call(key, "GET", "/v1/charges/"+w.Seeded.Customers[0].Charges[0], "") }()
	eventually(t, "the read is on the wire", func() bool { return w.Sandbox.Hanging() == 1 })
	_, err := w.Ring.SetBrake(vault.Scope{Key: k.ID}, vault.Stopped)
	must(t, err)
	w.Sandbox.Release()
	r := <-done
	r.want(t, 200, "")
}

// The brake is pulled between a read's parsing and its last look: while the edge quotes rates.
func TestAReadThatIsStoppedAtItsLastLookHasItsOutcome(t *testing.T) {
	var w *world
	var once sync.Once
	adapter := &hookedAdapter{}
	w = buildWorld(t, setup{config: func(c *gateway.Config) { adapter.Adapter, c.Adapter = c.Adapter, adapter }})
	key, k := w.key(listPolicy(w, ""))
	adapter.afterResolve = func() {
		once.Do(func() {
			_, err := w.Ring.SetBrake(vault.Scope{Key: k.ID}, vault.Stopped)
			must(t, err)
		})
	}
	w.call(key, "GET", "/v1/charges/"+w.Seeded.Customers[0].Charges[0], "").want(t, 401, "keybrake_key_killed")
	if got := w.outcome(); got.Status != 401 || got.Proof != "not_sent" {
		t.Errorf("recorded as %+v", got)
	}
}

func TestAPolicyThatChangesOnTheWayIsJudgedAnew(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(refundPolicy)
	charge := w.Seeded.Customers[0].Charges[0]
	bump := func() { // as an operator's edit: first the store, then the ring
		var version int64
		must(t, w.Store.Update(t.Context(), store.LaneControl, func(tx store.Tx) error {
			row, err := tx.Key(k.ID)
			if err != nil {
				return err
			}
			version, err = tx.PutKey(row)
			return err
		}))
		_, err := w.Ring.ChangeKey(k.ID, func(key vault.Key) vault.Key { key.Version = version; return key })
		must(t, err)
	}
	var once sync.Once
	w.Faults.onAdmitting(func(a *store.Admission) {
		if a.Writes {
			once.Do(bump)
		}
	})
	w.refund(key, charge, "100").want(t, 200, "")
	if n := len(w.reservations(k.ID)); n != 1 || w.last(k.ID).State != ledger.Settled {
		t.Fatalf("%d reservations", n)
	}
	// A read is on its way already when the store finds its policy old: the answer is withheld, on record.
	var again sync.Once
	w.Faults.onAdmitting(func(*store.Admission) { again.Do(bump) })
	r := w.call(key, "GET", "/v1/charges/"+charge, "").want(t, 503, "keybrake_unavailable")
	if r.Header.Get("Stripe-Should-Retry") != "true" {
		t.Errorf("%v", r.Header)
	}
	w.call(key, "GET", "/v1/charges/"+charge, "").want(t, 200, "")
}

// TestNothingIsSentOnceTheLeaseHasRunOut: what this process knows of the store is too old then to send anything by it, also
// where it was new enough when the brakes were read.
func TestNothingIsSentOnceTheLeaseHasRunOut(t *testing.T) {
	var over atomic.Bool
	w := newWorld(t)
	w.Gateway.Lease = func() func() error {
		return func() error {
			if over.Load() {
				return errors.New("the lease has run out")
			}
			return nil
		}
	}
	key, k := w.key(moneyPolicy(`resource: payment_intents, per: day, usd: 10.00`))
	create := func() reply {
		return w.call(key, "POST", "/v1/payment_intents", "amount=900&currency=usd")
	}
	over.Store(true)
	before := w.Sandbox.Arrivals()
	for range 3 { // what is held is given back each time: it was not sent
		r := create().want(t, 503, "keybrake_unavailable")
		if r.Header.Get("Stripe-Should-Retry") != "true" {
			t.Errorf("it is not said that it may be sent again: %v", r.Header)
		}
	}
	w.call(key, "GET", "/v1/payment_intents", "").want(t, 503, "keybrake_unavailable")
	if n := w.Sandbox.Arrivals() - before; n != 0 {
		t.Errorf("%d calls were sent", n)
	}
	if w.Ring.InFlight(vault.Scope{Key: k.ID}) != 0 || w.Gateway.Ready(t.Context()) == nil {
		t.Error("it is ready, or counts calls as on the wire")
	}
	over.Store(false)
	create().want(t, 200, "")
}
