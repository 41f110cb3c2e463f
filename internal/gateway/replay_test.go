package gateway_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/replay"
	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
	"github.com/keybrake/keybrake/internal/vault"
)

// traffic is an agent that does what comes to its mind, one call after the other.
type traffic struct {
	w       *world
	rng     *rand.Rand
	key     string
	intents []string
	sent    []func() reply // to be repeated under the same idempotency key
	n       int
}

func (a *traffic) one(of ...string) string { return of[a.rng.IntN(len(of))] }

func (a *traffic) step() {
	w, seeded := a.w, a.w.Seeded
	a.n++
	customer := seeded.Customers[a.rng.IntN(3)]
	charge := customer.Charges[a.rng.IntN(len(customer.Charges))]
	cents := 100 * (1 + a.rng.IntN(60))
	send := func(path, form string) {
		headers := []string{}
		if a.rng.IntN(2) == 0 {
			headers = append(headers, "Idempotency-Key", fmt.Sprintf("k%d", a.n))
		}
		again := func() reply { return w.call(a.key, http.MethodPost, path, form, headers...) }
		r := again()
		if id := r.str("id"); strings.HasPrefix(id, "pi_") {
			a.intents = append(a.intents, id)
		}
		a.sent = append(a.sent, again)
	}
	switch n := a.rng.IntN(100); {
	case n < 10 && len(a.sent) > 0:
		a.sent[a.rng.IntN(len(a.sent))]()
	case n < 14:
		must(w.t, w.Sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultError, Method: "POST", After: a.rng.IntN(2) == 0}))
	case n < 17:
		w.Clock.Advance(time.Duration(a.rng.IntN(5)) * time.Hour)
	case n < 25:
		w.call(a.key, http.MethodGet, "/v1/charges/"+charge, a.one("", "expand[]=customer", "expand[]=balance_transaction"))
	case n < 30:
		w.call(a.key, http.MethodGet, "/v1/"+a.one("charges", "customers", "refunds", "products"), a.one("", "limit=2", "customer="+customer.ID))
	case n < 33:
		send("/v1/customers", "email=a@example.com")
	case n < 36:
		send("/v1/transfers", fmt.Sprintf("amount=%d&currency=usd&destination=acct_1", cents))
	case n < 39:
		send("/v1/refunds", fmt.Sprintf("amount=1&amount=%d&charge=%s", cents, charge))
	case n < 65:
		form := "charge=" + charge
		if a.rng.IntN(4) > 0 {
			form += fmt.Sprintf("&amount=%d", cents)
		}
		send("/v1/refunds", form+a.one("", "&reason=duplicate", "&reason=fraudulent", "&metadata[x]=1"))
	case n < 72 && len(a.intents) > 0:
		id := a.intents[a.rng.IntN(len(a.intents))]
		send("/v1/payment_intents/"+id+"/"+a.one("cancel", "confirm", "capture"), "")
	default:
		currency := a.one("usd", "usd", "eur", "chf")
		card := a.one(customer.Card, customer.Card, "pm_card_chargeDeclined")
		send("/v1/payment_intents", fmt.Sprintf("amount=%d&currency=%s&customer=%s&payment_method=%s", cents, currency, customer.ID, card)+
			a.one("", "&confirm=true", "&confirm=true&capture_method=manual"))
	}
}

// busy is a world in which a key has made its calls, with the policy under which it made them.
func busy(t *testing.T, seed uint64) (*world, *vault.Key, string) {
	w := newWorld(t)
	a := &traffic{w: w, rng: rand.New(rand.NewPCG(seed, 7))}
	yaml := a.policy()
	var k *vault.Key
	a.key, k = w.key(yaml)
	for range 150 {
		a.step()
	}
	w.Gateway.Close() // what was counted is written
	k, _ = w.Ring.Key(k.ID)
	return w, k, yaml
}

// policies are drawn at random: some refuse much, some little.
func (a *traffic) policy() string {
	customers := "any"
	switch a.rng.IntN(3) {
	case 0:
		customers = "[" + a.w.Seeded.Customers[0].ID + "]\nmay_create_customers: true\nno_customer: [products.list]"
	case 1:
		customers = "[" + a.w.Seeded.Customers[0].ID + ", " + a.w.Seeded.Customers[1].ID + "]"
	}
	caps := fmt.Sprintf(`
  - {resource: refunds, per: day, usd: %d.00}
  - {resource: payment_intents, per: month, usd: %d.00}
  - {resource: "*", per: total, usd: %d.00}`, 20+a.rng.IntN(200), 20+a.rng.IntN(400), 100+a.rng.IntN(2000))
	if a.rng.IntN(2) == 0 {
		caps += fmt.Sprintf("\n  - {resource: refunds, per: call, usd: %d.00}\n  - {resource: \"*\", per: hour, calls: %d}", 5+a.rng.IntN(50), 2+a.rng.IntN(20))
	}
	return `
name: agent-support-replay-test
scopes: {charges: read, customers: write, payment_intents: write, refunds: ` + a.one("read", "write", "write", "write") + a.one("", ", balance_transactions: read", ", products: read") + `}
caps:` + caps + `
customers: ` + customers + `
timezone: ` + a.one("UTC", "America/New_York", "Asia/Kolkata") + a.one("", `
params: {refunds.create: {reason: {in: [duplicate, requested_by_customer]}, metadata: deny}}`, `
params: {refunds.create: {amount: {max: 3000, required: true}}}`) + "\n"
}

// replayed runs a policy over everything that the world has on record.
func (w *world) replayed(p *policy.Policy, known ...*vault.Key) *replay.Report {
	w.t.Helper()
	r := replay.New(replay.Options{
		Policy: p, Examples: 20,
		Key: func(id policy.KeyID) replay.Key {
			k, _ := w.Ring.Key(id)
			return replay.Key{Created: k.Created, Joined: k.Joined}
		},
		Stood: func(digest string) *policy.Policy {
			for _, k := range known {
				if k.PolicyDigest == digest {
					return k.Policy
				}
			}
			return nil
		},
	})
	for _, rec := range w.records() {
		must(w.t, r.Add(rec))
	}
	return r.Report()
}

// TestAPolicyReplayedOverItsOwnCallsDecidesAsItDid: the same rules, over the same calls, in the same order, from nothing but
// the record.
func TestAPolicyReplayedOverItsOwnCallsDecidesAsItDid(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w, k, yaml := busy(t, seed)
			got := w.replayed(k.Policy, k)
			t.Logf("allowed %d, refused %d (%d for other reasons), asked %s, moved %s", got.Allowed.Calls, got.Refused.Calls, got.Other, got.Allowed.Asked, got.Allowed.Moved)
			for _, list := range [][]replay.Example{got.RefusedCalls, got.AllowedCalls, got.UntoldCalls} {
				for _, e := range list {
					t.Errorf("%s %s %s: %s: %s%s", e.Record, e.Operation, e.Asked, e.Rule, e.Message, e.Why)
				}
			}
			if got.NewlyRefused.Calls+got.NewlyAllowed.Calls+got.Untold.Calls > 0 {
				t.Errorf("newly refused %d, newly allowed %d, untold %d: %+v\n%s", got.NewlyRefused.Calls, got.NewlyAllowed.Calls, got.Untold.Calls, got.Reasons, yaml)
			}
			for _, c := range got.Caps {
				if c.Cap.Per != policy.PerCall && c.Used != w.fullest(c.Cap) {
					t.Errorf("%+v: on record it came to %d", c, w.fullest(c.Cap))
				}
			}
			if got.Allowed.Calls < 10 || got.Refused.Calls-got.Other < 3 {
				t.Errorf("the traffic shows nothing: %+v", got.Verdicts)
			}
		})
	}
}

// fullest is the most that a cap was used after a call, as the record has it.
func (w *world) fullest(c policy.Cap) (most int64) {
	for _, r := range w.records() {
		for _, at := range r.Caps {
			if r.Kind == audit.KindIntent && at.Resource == string(c.Resource) && at.Per == c.Per.String() && at.Unit == c.Unit {
				most = max(most, at.Held+at.Settled)
			}
		}
	}
	return most
}

// TestWhatHoldsForEveryReplay: more or less is allowed as the policy says more or less, whatever the calls were.
func TestWhatHoldsForEveryReplay(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w, k, _ := busy(t, seed)
			own := w.replayed(k.Policy, k)
			with := func(change func(*policy.Policy)) *replay.Report {
				p := *k.Policy
				p.Scopes, p.Caps = maps.Clone(p.Scopes), slices.Clone(p.Caps)
				change(&p)
				got := w.replayed(&p, k)
				if sum := got.Allowed.Calls + got.Refused.Calls + got.NewlyRefused.Calls + got.NewlyAllowed.Calls + got.Untold.Calls; sum != got.Calls || sum != own.Calls {
					t.Errorf("%d calls in all, %d by verdict, %d in its own", got.Calls, sum, own.Calls)
				}
				for _, c := range got.Caps {
					if got.Untold.Calls == 0 && c.Used > c.Cap.Limit {
						t.Errorf("%+v passes its limit", c)
					}
				}
				return got
			}
			half := with(func(p *policy.Policy) {
				for i := range p.Caps {
					p.Caps[i].Limit /= 2
				}
			})
			if half.Allowed.Asked+half.NewlyAllowed.Asked > own.Allowed.Asked+own.Allowed.Asked/2 {
				t.Errorf("half the caps let %s pass, all of them %s", half.Allowed.Asked+half.NewlyAllowed.Asked, own.Allowed.Asked)
			}
			shut := with(func(p *policy.Policy) {
				for i := range p.Caps {
					p.Caps[i].Limit = 0
				}
			})
			if shut.NewlyAllowed.Calls != 0 || shut.Allowed.Asked != 0 {
				t.Errorf("caps of nothing let %+v pass", shut.Verdicts)
			}
			for name, narrower := range map[string]func(*policy.Policy){
				"no refunds":   func(p *policy.Policy) { delete(p.Scopes, "refunds") },
				"nothing":      func(p *policy.Policy) { p.Scopes = nil },
				"nobody":       func(p *policy.Policy) { p.Customers = policy.Customers{} },
				"no reason":    func(p *policy.Policy) { p.Params = denies(p, "reason") },
				"another net":  func(p *policy.Policy) { p.Network = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} },
				"expired":      func(p *policy.Policy) { p.Expires = policy.Expiry{At: k.Created.Add(-time.Hour)} },
				"its shadow":   func(p *policy.Policy) { p.Enforcement = policy.Shadow },
				"another name": func(p *policy.Policy) { p.Name = "agent-other-name-test" },
			} {
				got := with(narrower)
				if name == "nothing" && got.Allowed.Calls+got.Untold.Calls > 0 || name == "expired" && got.Allowed.Calls > 0 || name == "another net" && got.Allowed.Calls > 0 {
					t.Errorf("%s: lets %+v pass", name, got.Verdicts)
				}
				if same := name == "its shadow" || name == "another name"; same && got.NewlyRefused.Calls+got.NewlyAllowed.Calls+got.Untold.Calls > 0 {
					t.Errorf("%s: decides otherwise: %+v", name, got.Verdicts)
				}
			}
			open := with(func(p *policy.Policy) {
				*p = policy.Policy{
					Scopes: map[policy.Resource]policy.Access{"*": policy.Write}, Uncapped: true, Unmetered: []policy.OperationName{"*"},
					Customers: policy.Customers{Any: true}, RepeatUnknown: true, Timezone: time.UTC,
				}
			})
			if open.NewlyRefused.Calls > 0 || open.Refused.Calls != open.Other {
				t.Errorf("the open policy refuses: %+v, %d for other reasons, %+v", open.Verdicts, open.Other, open.Rules)
			}
		})
	}
}

// denies is a policy's rules on parameters with one more for refunds.
func denies(p *policy.Policy, path string) map[policy.OperationName]map[string]policy.ParamRule {
	rules := maps.Clone(p.Params["refunds.create"])
	if rules == nil {
		rules = map[string]policy.ParamRule{}
	}
	rules[path] = policy.ParamRule{Deny: true}
	return map[policy.OperationName]map[string]policy.ParamRule{"refunds.create": rules}
}

// TestEveryAdmissionOfACrowdReplays: whatever runs at the same time, the record's order is the order in which calls were
// admitted, so each of them is admitted again. Only a refusal may be found otherwise: a cap that is full when a call is
// looked at can have room by the time that its refusal is written. Such a call then takes room from those behind it.
func TestEveryAdmissionOfACrowdReplays(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t)
			first := &traffic{w: w, rng: rand.New(rand.NewPCG(seed, 11))}
			key, k := w.key(first.policy())
			var crowd sync.WaitGroup
			for i := range uint64(8) {
				crowd.Go(func() {
					a := &traffic{w: w, rng: rand.New(rand.NewPCG(seed, 100+i)), key: key, n: int(i) * 10_000}
					for range 40 {
						a.step()
					}
				})
			}
			crowd.Wait()
			w.Gateway.Close()
			k, _ = w.Ring.Key(k.ID)
			got := w.replayed(k.Policy, k)
			if got.Allowed.Calls < 10 {
				t.Errorf("the crowd shows nothing: %+v", got.Verdicts)
			}
			if got.NewlyRefused.Calls > 0 && (got.NewlyAllowed.Calls == 0 || got.RefusedCalls[0].At.Before(got.AllowedCalls[0].At)) {
				e := got.RefusedCalls[0]
				t.Errorf("%s %s %s: %s: %s", e.Record, e.Operation, e.Asked, e.Rule, e.Message)
			}
			for _, c := range got.Caps {
				if c.Used > c.Cap.Limit {
					t.Errorf("%+v passes its limit", c)
				}
			}
		})
	}
}
