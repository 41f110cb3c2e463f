package gateway_test

import (
	"bytes"
	"context"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/gateway"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
	"github.com/keybrake/keybrake/internal/vault"
)

const intentsPolicy = `
name: agent-pressure-intents-test
scopes: {payment_intents: write, charges: read}
caps: [{resource: payment_intents, per: day, usd: 900000.00}]
customers: any
`

// narrow makes a world whose upstreams have eight slots, four of them for one key.
func narrow(t *testing.T, wait time.Duration) *world {
	return buildWorld(t, setup{config: func(c *gateway.Config) {
		c.CallsPerKey, c.CallsPerUpstream, c.SlotWait = 4, 8, wait
	}})
}

// secondUpstream adds another vendor account, with a sandbox of its own, and lets further keys be bound to it.
func (w *world) secondUpstream() *sandbox.Server {
	w.t.Helper()
	other := sandbox.New(sandbox.Options{Seed: 2, Now: w.Clock.Now})
	other.Seed()
	server := httptest.NewServer(other)
	w.t.Cleanup(server.Close)
	w.t.Cleanup(other.Close)
	base, err := url.Parse(server.URL)
	must(w.t, err)
	u, err := vault.Upstream{
		ID: vault.NewUpstreamID(), Name: "other", Mode: vault.Test, BaseURL: base, Version: "2026-08-26.dahlia", Brake: vault.Normal,
	}.SealInto(w.Ring.Master(), vault.NewSecret(upstreamSecret))
	must(w.t, err)
	w.up, err = w.Ring.PutUpstream(u)
	must(w.t, err)
	return other
}

// oneIntent makes one payment intent, told apart from all others.
func (w *world) oneIntent(key string, n int) reply {
	return w.call(key, "POST", "/v1/payment_intents", "amount=100&currency=usd&metadata[n]="+strconv.Itoa(n))
}

// wantTurnedAway fails the test unless the answer says that nothing was sent and the call may be sent again.
func wantTurnedAway(t *testing.T, r reply) {
	t.Helper()
	if r.Status != 503 || r.errCode() != "keybrake_unavailable" || r.Header.Get("Stripe-Should-Retry") != "true" || r.errType() != "api_error" {
		t.Errorf("%d %v %s", r.Status, r.Header, r.Raw)
	}
}

func TestAHangingUpstreamStarvesNeitherOtherKeysNorOtherUpstreams(t *testing.T) {
	for name, call := range map[string]func(*world, string, int) reply{
		"writes that hang": (*world).oneIntent,
		"reads that hang": func(w *world, key string, n int) reply {
			return w.call(key, "GET", "/v1/charges", "limit="+strconv.Itoa(1+n%100))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := narrow(t, time.Minute)
			flooding, first := w.key(intentsPolicy)
			honest, second := w.key(intentsPolicy)
			must(t, w.Sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultHang, After: true, Times: sandbox.Always}))
			var wg sync.WaitGroup
			for i := range 40 {
				wg.Go(func() { call(w, flooding, i).want(t, 200, "") })
			}
			eventually(t, "the flood has its share", func() bool { return w.Sandbox.Hanging() == 4 })
			for i := range 4 {
				wg.Go(func() { call(w, honest, 100+i).want(t, 200, "") })
			}
			eventually(t, "the other key has its own", func() bool { return w.Sandbox.Hanging() == 8 })
			if n := len(w.reservations(first.ID)); n > 4 {
				t.Errorf("%d of the flood hold money, 4 are on the wire", n)
			}
			if n := w.Ring.InFlight(vault.Scope{Key: second.ID}); n != 4 {
				t.Errorf("%d of the other key are on the wire", n)
			}
			w.secondUpstream()
			elsewhere, _ := w.key(intentsPolicy)
			for i := range 8 {
				call(w, elsewhere, 200+i).want(t, 200, "")
			}
			if n := w.Sandbox.Hanging(); n != 8 {
				t.Errorf("%d hang", n)
			}
			w.Sandbox.ClearFaults()
			wg.Wait() // those that waited were sent in the end
		})
	}
}

func TestACallThatWaitsTooLongForItsSlotHoldsNothing(t *testing.T) {
	w := narrow(t, 30*time.Millisecond)
	key, k := w.key(intentsPolicy)
	must(t, w.Sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultHang, After: true, Times: sandbox.Always}))
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() { w.oneIntent(key, i).want(t, 200, "") })
	}
	eventually(t, "its slots are taken", func() bool { return w.Sandbox.Hanging() == 4 })
	for i := range 10 {
		wantTurnedAway(t, w.oneIntent(key, 10+i))
	}
	if n := len(w.reservations(k.ID)); n != 4 {
		t.Errorf("%d reservations", n)
	}
	w.call(key, "GET", "/v1/products", "").want(t, 401, "keybrake_scope_denied") // what needs no slot waits for none
	w.Sandbox.ClearFaults()
	wg.Wait()
	if n := w.arrivals("POST"); n != 4 {
		t.Errorf("%d arrived", n)
	}
}

// A call that has a slot asks what it needs to know on it: with one slot there is no second to wait for.
func TestLookupsNeedNoSlotOfTheirOwn(t *testing.T) {
	w := buildWorld(t, setup{config: func(c *gateway.Config) { c.CallsPerKey, c.CallsPerUpstream = 1, 1 }})
	key, _ := w.key(listPolicy(w, ""))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			w.refund(key, w.Seeded.Customers[0].Charges[i%2], "100", "Idempotency-Key", strconv.Itoa(i)).want(t, 200, "")
		})
	}
	wg.Wait()
}

func TestCallsThatWaitAreBoundedPerKey(t *testing.T) {
	w := buildWorld(t, setup{config: func(c *gateway.Config) { c.CallsPerKey, c.SlotWait = 1, time.Minute }})
	key, _ := w.key(intentsPolicy)
	other, _ := w.key(intentsPolicy)
	must(t, w.Sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultHang, After: true}))
	var wg sync.WaitGroup
	var refused, passed atomic.Int64
	const calls = 1 + 256 + 20 // one on the wire, those that may wait, and more
	for i := range calls {
		wg.Go(func() {
			if r := w.oneIntent(key, i); r.Status == 200 {
				passed.Add(1)
			} else {
				wantTurnedAway(t, r)
				refused.Add(1)
			}
		})
	}
	eventually(t, "what is too much is told at once", func() bool { return refused.Load() == 20 })
	w.oneIntent(other, 0).want(t, 200, "")
	w.Sandbox.Release()
	wg.Wait()
	if passed.Load() != calls-20 {
		t.Errorf("%d passed", passed.Load())
	}
}

func TestALargeBodyIsReadWhole(t *testing.T) {
	w := newWorld(t)
	key, _ := w.key(intentsPolicy)
	for _, n := range []int{64<<10 - 1, 64 << 10, 64<<10 + 1, 500 << 10} {
		form := "amount=100&currency=usd&x="
		r := w.call(key, "POST", "/v1/payment_intents", form+strings.Repeat("a", n-len(form)))
		if r.Status != 400 || !strings.Contains(r.Raw, `"param": "x"`) {
			t.Errorf("%d bytes: %d %s", n, r.Status, r.Raw[:min(len(r.Raw), 300)])
		}
	}
}

// stall keeps the store's writer busy until the returned function is called.
func (w *world) stall() (release func()) {
	stalled, end, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		must(w.t, w.Store.Update(context.Background(), store.LaneControl, func(store.Tx) error {
			close(stalled)
			<-end
			return nil
		}))
	}()
	<-stalled
	release = sync.OnceFunc(func() { close(end); <-done })
	w.t.Cleanup(release)
	return release
}

func TestWhileTheStoreHangsAThousandCallsAreTurnedAwayAndNothingIsSentOrHeld(t *testing.T) {
	w := buildWorld(t, setup{wait: time.Second})
	var keys []string
	var held []*vault.Key
	for range 10 {
		key, k := w.key(intentsPolicy)
		keys, held = append(keys, key), append(held, k)
	}
	w.partial.Store(true) // what the store cannot take is not on record
	release := w.stall()
	var wg sync.WaitGroup
	for i := range 1000 {
		wg.Go(func() { wantTurnedAway(t, w.oneIntent(keys[i%len(keys)], i)) })
	}
	wg.Wait() // while it hangs
	release()
	if n := w.Sandbox.Arrivals(); n != 0 {
		t.Errorf("%d arrived", n)
	}
	for _, k := range held {
		if n := len(w.reservations(k.ID)); n != 0 {
			t.Errorf("%d reservations", n)
		}
	}
	w.oneIntent(keys[0], 0).want(t, 200, "")
}

// The vendor answered; the store hangs. The agent hears the answer, the hold stays, and later it is settled.
func TestASlowSettlementDoesNotKeepTheAnswerBack(t *testing.T) {
	w := buildWorld(t, setup{wait: time.Second})
	key, k := w.key(intentsPolicy)
	must(t, w.Sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultHang, After: true}))
	done := make(chan reply, 1)
	go func() { done <- w.oneIntent(key, 0) }()
	eventually(t, "it is on the wire", func() bool { return w.Sandbox.Hanging() == 1 })
	release := w.stall()
	w.Sandbox.Release()
	if r := (<-done).want(t, 200, ""); r.Header.Get("Keybrake-Settlement") != "pending" {
		t.Errorf("%v", r.Header)
	}
	if w.Gateway.Ready(t.Context()) == nil {
		t.Error("it says that it is ready while an outcome is not written")
	}
	release()
	eventually(t, "it is settled", func() bool { return w.last(k.ID).State == ledger.Settled })
	eventually(t, "it is ready again", func() bool { return w.Gateway.Ready(t.Context()) == nil })
	w.oneIntent(key, 1).want(t, 200, "")
}

func TestADrainedGatewayFinishesWhatHasASlotAndTurnsTheRestAway(t *testing.T) {
	w := narrow(t, time.Minute)
	key, k := w.key(intentsPolicy)
	must(t, w.Sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultHang, After: true, Times: sandbox.Always}))
	answers := make(chan reply, 12)
	for i := range cap(answers) {
		go func() { answers <- w.oneIntent(key, i) }()
	}
	eventually(t, "its slots are taken", func() bool { return w.Sandbox.Hanging() == 4 })
	w.Gateway.Drain()
	for range 8 {
		wantTurnedAway(t, <-answers)
	}
	if w.Gateway.Ready(t.Context()) == nil {
		t.Error("a gateway that is being stopped says that it is ready")
	}
	wantTurnedAway(t, w.oneIntent(key, 100))
	w.Sandbox.Release()
	for range 4 {
		r := <-answers
		r.want(t, 200, "")
	}
	for _, r := range w.reservations(k.ID) {
		if r.State != ledger.Settled {
			t.Errorf("%s", r.State)
		}
	}
}

func TestCallsThatAreGivenUpStayHeld(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(intentsPolicy)
	must(t, w.Sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultHang, After: true, Times: sandbox.Always}))
	done := make(chan reply, 1)
	go func() { done <- w.oneIntent(key, 0) }()
	eventually(t, "it is on the wire", func() bool { return w.Sandbox.Hanging() == 1 })
	w.Gateway.GiveUp()
	r := <-done
	r.want(t, 504, "keybrake_upstream_unknown")
	if got := w.last(k.ID); got.State != ledger.Unresolved {
		t.Errorf("%s", got.State)
	}
	w.wantUSD(k.ID, "payment_intents", 100, 0)
}

func TestUploadsAtOnceAreBoundedPerKey(t *testing.T) {
	w := buildWorld(t, setup{config: func(c *gateway.Config) { c.SlotWait = time.Minute }})
	key, _ := w.key(filesPolicy)
	body, contentType := evidence(t, bytes.Repeat([]byte("x"), 1000))
	must(t, w.Sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultHang, Times: sandbox.Always}))
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() { w.call(key, "POST", "/v1/files", body, "Content-Type", contentType) })
	}
	eventually(t, "sixteen are on their way", func() bool { return w.Sandbox.Hanging() == 16 })
	wantTurnedAway(t, w.call(key, "POST", "/v1/files", body, "Content-Type", contentType))
	w.Sandbox.ClearFaults()
	wg.Wait()
}
