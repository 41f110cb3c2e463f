package gateway_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/gateway"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/upstream"
	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
	"github.com/keybrake/keybrake/internal/vault"
)

// changed changes a key as an operator does: first the store, then the ring.
func (w *world) changed(k *vault.Key, change func(*vault.Key)) {
	w.t.Helper()
	next := *k
	change(&next)
	row, err := store.EncodeKey(&next, policy.Format(next.Policy), next.PolicyDigest)
	must(w.t, err)
	must(w.t, w.Store.Update(w.t.Context(), store.LaneControl, func(tx store.Tx) error {
		next.Version, err = tx.PutKey(row)
		return err
	}))
	_, err = w.Ring.PutKey(next)
	must(w.t, err)
}

// rotated gives a key another text; the one that it has works until a time, if there is one.
func (w *world) rotated(k *vault.Key, until time.Time) (text string) {
	w.t.Helper()
	secret, digest, last4 := w.Ring.Master().Mint(k.Mode)
	w.changed(k, func(k *vault.Key) {
		before := k.Credentials[0]
		before.Expires = until
		k.Credentials = []vault.Credential{before, {Digest: digest, Last4: last4, Created: w.Clock.Now()}}
	})
	return secret.Reveal()
}

// Whatever two agents with the two texts of one key ask for at once: together they get no more than the key may.
func TestTwoTextsOfAKeyShareItsCaps(t *testing.T) {
	w := newWorld(t)
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Int64Range(1, 40).Draw(t, "cap in dollars")
		first, k := w.key(fmt.Sprintf("name: agent-rotation-test-a\nscopes: {payment_intents: write}\ncustomers: any\ncaps: [{resource: payment_intents, per: day, usd: %d}]", limit))
		second := w.rotated(k, w.Clock.Now().Add(time.Hour))
		asked := rapid.SliceOfN(rapid.Int64Range(50, 1200), 2, 12).Draw(t, "cents")
		with := rapid.SliceOfN(rapid.SampledFrom([]string{first, second}), len(asked), len(asked)).Draw(t, "texts")
		var wg sync.WaitGroup
		replies := make([]reply, len(asked))
		for i, cents := range asked {
			wg.Go(func() {
				replies[i] = w.call(with[i], "POST", "/v1/payment_intents", fmt.Sprintf("amount=%d&currency=usd&metadata[n]=%d", cents, i))
			})
		}
		wg.Wait()
		var passed int64
		smallest := int64(1 << 62)
		for i, r := range replies {
			switch r.Status {
			case 200:
				passed += asked[i]
			case 403:
				smallest = min(smallest, asked[i])
			default:
				t.Fatalf("%d %s", r.Status, r.Raw)
			}
		}
		if passed > limit*100 {
			t.Fatalf("%d cents moved under a cap of %d dollars", passed, limit)
		}
		if passed+smallest <= limit*100 {
			t.Fatalf("%d cents moved under a cap of %d dollars, and %d were refused", passed, limit, smallest)
		}
	})
}

func TestTheOldTextOfAKeyEndsWithoutAJob(t *testing.T) {
	w := newWorld(t)
	old, k := w.key(refundPolicy)
	next := w.rotated(k, w.Clock.Now().Add(time.Hour))
	charge := w.Seeded.Customers[0].Charges[0]
	for _, text := range []string{old, next} {
		w.refund(text, charge, "100").want(t, 200, "")
		if got := w.lastOf(audit.KindIntent).Credential; got != text[len(text)-4:] {
			t.Errorf("the record names the text …%s, …%s was sent", got, text[len(text)-4:])
		}
	}
	for text, told := range map[string]bool{old: true, next: false} {
		w.partial.Store(true) // it has no record unless it is refused
		if self := w.call(text, "GET", "/keybrake/v1/self", "").want(t, 200, ""); (self.str("text_expires") != "") != told {
			t.Errorf("…%s is told %s", text[len(text)-4:], self.Raw)
		}
	}
	w.Clock.Advance(time.Hour)
	refused := w.refund(old, charge, "100").want(t, 401, "keybrake_key_expired")
	if got := w.lastOf(audit.KindDenied); got.Credential != old[len(old)-4:] || got.Key != k.ID {
		t.Errorf("%+v: %s", got, refused.Raw)
	}
	w.refund(next, charge, "100").want(t, 200, "")
	w.wantUSD(k.ID, "refunds", 0, 300) // one account, whichever text was sent
}

func TestARetryWithTheOtherTextIsTheSameCall(t *testing.T) {
	w := newWorld(t)
	old, k := w.key(refundPolicy)
	charge := w.Seeded.Customers[0].Charges[0]
	first := w.refund(old, charge, "9000", "Idempotency-Key", "mine").want(t, 200, "")
	next := w.rotated(k, w.Clock.Now().Add(time.Hour))
	for _, text := range []string{next, old} {
		if again := w.refund(text, charge, "9000", "Idempotency-Key", "mine").want(t, 200, ""); again.Raw != first.Raw {
			t.Errorf("%s, first %s", again.Raw, first.Raw)
		}
	}
	w.wantUSD(k.ID, "refunds", 0, 9000)
	if n := len(w.Sandbox.Effects()); n != 1 {
		t.Errorf("%d effects", n)
	}
}

// parsing counts the calls that came as far as being parsed: their key was good for them until then.
type parsing struct {
	upstream.Adapter
	parsed atomic.Int64
}

func (p *parsing) Parse(raw *upstream.RawCall, version string) (*upstream.Call, *policy.Refusal) {
	defer p.parsed.Add(1)
	return p.Adapter.Parse(raw, version)
}

// A key that ends while its call waits for a slot is not served any more when the slot comes.
func TestAKeyThatEndsWhileItsCallWaitsDoesNotPass(t *testing.T) {
	for name, end := range map[string]func(k *vault.Key, at time.Time){
		"expired":                    func(k *vault.Key, at time.Time) { k.Expires = at },
		"rotated, and its text over": func(k *vault.Key, at time.Time) { k.Credentials[0].Expires = at },
	} {
		for _, method := range []string{"GET", "POST"} {
			t.Run(name+" "+method, func(t *testing.T) {
				adapter := &parsing{}
				w := buildWorld(t, setup{config: func(c *gateway.Config) {
					c.CallsPerKey, c.SlotWait = 4, time.Minute
					adapter.Adapter, c.Adapter = c.Adapter, adapter
				}})
				key, k := w.key(intentsPolicy)
				w.changed(k, func(k *vault.Key) {
					k.Credentials = append([]vault.Credential{}, k.Credentials...)
					end(k, w.Clock.Now().Add(time.Hour))
				})
				must(t, w.Sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultHang, After: true, Times: 4}))
				var before, waiting sync.WaitGroup
				for i := range 4 {
					before.Go(func() { w.oneIntent(key, i).want(t, 200, "") })
				}
				eventually(t, "all slots are taken", func() bool { return w.Sandbox.Hanging() == 4 })
				waiting.Go(func() {
					path, form := "/v1/payment_intents", "amount=100&currency=usd&metadata[n]=5"
					if method == "GET" {
						path, form = "/v1/charges", ""
					}
					w.call(key, method, path, form).want(t, 401, "keybrake_key_expired")
				})
				eventually(t, "the fifth is known and waits", func() bool { return adapter.parsed.Load() == 5 })
				w.Clock.Advance(time.Hour)
				w.Sandbox.Release()
				before.Wait() // what left in time is answered
				waiting.Wait()
				if n := w.Sandbox.Arrivals(); n != 4 {
					t.Errorf("%d arrived, 4 left in time", n)
				}
				w.wantUSD(k.ID, "payment_intents", 0, 400)
			})
		}
	}
}

// The time of the record that admits a call is before the end of the key, always: whoever reads the record can check that.
func TestNoCallIsAdmittedAtTheEndOfItsKeyOrLater(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(refundPolicy)
	ends := w.Clock.Now().Add(time.Hour)
	w.changed(k, func(k *vault.Key) { k.Expires = ends })
	var once sync.Once
	w.Faults.onAdmitting(func(*store.Admission) { once.Do(func() { w.Clock.Advance(time.Hour) }) }) // judged before, admitted after
	w.refund(key, w.Seeded.Customers[0].Charges[0], "100").want(t, 401, "keybrake_key_expired")
	if n := w.arrivals("POST"); n != 0 {
		t.Errorf("%d left", n)
	}
	if n := len(w.reservations(k.ID)); n != 0 {
		t.Errorf("%d hold money", n)
	}
	if got := w.lastOf(audit.KindDenied); got.Key != k.ID || got.Status != 401 || got.At.Before(ends) {
		t.Errorf("%+v", got)
	}
}

// While an upstream's secret is rotated, what is on the wire ends with the old one, and what leaves afterwards carries the
// new one: also what came in before and waited.
func TestCallsCarryTheSecretOfTheMomentThatTheyLeave(t *testing.T) {
	w := narrow(t, time.Minute)
	key, k := w.key(intentsPolicy)
	must(t, w.Sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultHang, After: true, Times: 4}))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { w.oneIntent(key, i).want(t, 200, "") })
	}
	eventually(t, "four are on the wire", func() bool { return w.Sandbox.Hanging() == 4 })
	staged, err := w.up.Stage(w.Ring.Master(), vault.NewSecret("sk_test_keybrakerotated"), w.Clock.Now(), "ada")
	must(t, err)
	next, err := staged.Switched(w.Ring.Master(), w.Clock.Now())
	must(t, err)
	_, err = w.Ring.PutUpstream(next)
	must(t, err)
	w.Sandbox.Release()
	wg.Wait()
	sent := map[string]int{}
	for _, a := range w.Sandbox.Journal() {
		sent[a.Authorization[len(a.Authorization)-4:]]++
	}
	if len(sent) != 2 || sent["ness"] != 4 || sent["ated"] != 4 {
		t.Errorf("%v", sent)
	}
	w.wantUSD(k.ID, "payment_intents", 0, 800)
}
