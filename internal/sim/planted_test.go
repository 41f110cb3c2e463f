package sim

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/admin"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/reconcile"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/upstream"
	"github.com/keybrake/keybrake/internal/upstream/stripe"
	"github.com/keybrake/keybrake/internal/vault"
)

// fault is one known mistake, planted into what is around the gateway: nothing of the product is changed. The zero value
// plants none.
type fault string

const (
	releasesUnknown fault = "release on unknown"
	checksThenHolds fault = "check, then hold"
	notDurable      fault = "hold not durable before the call"
	replayTwice     fault = "replay counted twice"
	staleBrake      fault = "brake read from a stale copy"
	staleTexts      fault = "texts of keys read from a stale copy"
	unmarked        fault = "what the shadow would refuse is not marked"
	releasesSecond  fault = "release on unknown, second API"
	deaf            fault = "messages of the vendor are not heard"
)

// TestAPlantedFaultIsFound shows that the auditor can fail: each known mistake is found within some seeds, by the name of
// the invariant that it breaks.
func TestAPlantedFaultIsFound(t *testing.T) {
	const within = 100 // "check, then hold" needs two calls at a nearly full cap at once: about one seed in ten has them
	for f, invariant := range map[fault]string{
		releasesUnknown: "I-06", checksThenHolds: "I-01", notDurable: "I-02", replayTwice: "I-10", staleBrake: "I-15",
		staleTexts: "I-17", unmarked: "I-20", releasesSecond: "I-06", deaf: "I-13",
	} {
		t.Run(string(f), func(t *testing.T) {
			for seed := range uint64(within) {
				r := simulate(t, seed, options{calls: 250, fault: f})
				if i := slices.IndexFunc(r.broken, func(v violation) bool { return v.invariant == invariant }); i >= 0 {
					t.Logf("found by seed %d, %s", seed, r.broken[i])
					return
				}
			}
			t.Errorf("not found in %d seeds of 250 calls, want a breach of %s", within, invariant)
		})
	}
}

// adapter is what the gateway takes for the vendor's reading.
func (f fault) adapter(a upstream.Adapter) upstream.Adapter {
	switch f {
	case releasesUnknown:
		return forgetful{a, "/"}
	case releasesSecond:
		return forgetful{a, "/v2/"}
	}
	return a
}

// forgetful takes an unknown outcome for a refusal, for calls below a path.
type forgetful struct {
	upstream.Adapter
	below string
}

func (a forgetful) Outcome(call *upstream.Call, answer *upstream.Answer) upstream.Outcome {
	o := a.Adapter.Outcome(call, answer)
	if o.Fate == upstream.Unknown && strings.HasPrefix(call.Template, a.below) {
		o.Fate = upstream.Refused
	}
	return o
}

// vendor is what the reconciler takes for the vendor's reading.
func (f fault) vendor(a *stripe.Adapter) reconcile.Vendor {
	if f == deaf {
		return unhearing{a}
	}
	return a
}

// unhearing takes every message for one about something that nobody is counted for.
type unhearing struct{ *stripe.Adapter }

func (a unhearing) Announced(message []byte) (upstream.Changed, error) {
	c, err := a.Adapter.Announced(message)
	c.Object = "re_of_somebody_else"
	return c, err
}

// db is what the gateway takes for the store.
func (f fault) db(e *engine) store.DB {
	switch f {
	case checksThenHolds:
		return hasty{e}
	case replayTwice:
		return doubling{e}
	case staleTexts:
		return trusting{e}
	case unmarked:
		return unmarking{e}
	case notDurable:
		e.lazy = true
	}
	return e
}

// trusting takes every key for the one that it is now: an admission notices otherwise that it was judged by an older one.
type trusting struct{ *engine }

func (t trusting) Admit(ctx context.Context, a *store.Admission) (store.Admitted, error) {
	a.KeyVersion = t.live.keys[a.Key].Version
	return t.engine.Admit(ctx, a)
}

// unmarking takes the mark off calls that the policy would have refused.
type unmarking struct{ *engine }

func (u unmarking) Admit(ctx context.Context, a *store.Admission) (store.Admitted, error) {
	a.Record.Shadowed = false
	return u.engine.Admit(ctx, a)
}

// hasty looks whether the caps have room, and holds later without looking again.
type hasty struct{ *engine }

func (h hasty) Admit(ctx context.Context, a *store.Admission) (store.Admitted, error) {
	if a.Reserve == nil || a.Resend != 0 {
		return h.engine.Admit(ctx, a)
	}
	roomy := *a.Reserve
	roomy.Caps = slices.Clone(a.Reserve.Caps)
	for i, c := range roomy.Caps {
		k := ledger.AccountKey{
			Key: roomy.Key, Resource: c.Resource, Per: c.Per, Unit: c.Unit, Label: ledger.Label(c.Per, h.time(), roomy.Zone),
		}
		accounts, err := h.Peek(ctx, []ledger.AccountKey{k})
		if err != nil {
			return store.Admitted{}, err
		}
		asked := int64(1)
		if c.Unit == policy.UnitUSD {
			asked = 0
			for _, e := range roomy.Effects {
				asked += int64(e.USD)
			}
		}
		if asked <= ledger.Left(accounts[0], c.Limit) {
			roomy.Caps[i].Limit = math.MaxInt64 / 2
		}
	}
	a.Reserve = &roomy
	return h.engine.Admit(ctx, a)
}

// doubling makes a hold of its own for a retry.
type doubling struct{ *engine }

func (d doubling) Admit(ctx context.Context, a *store.Admission) (store.Admitted, error) {
	if a.Resend != 0 {
		sent := d.live.reservations[a.Resend].Sent
		a.Resend, a.AllowRepeat, a.Reserve.Sent = 0, true, sent
	}
	return d.engine.Admit(ctx, a)
}

// ring is what the gateway takes for the keys and brakes of now.
func (f fault) ring(ctx context.Context, w *world, p *process) *vault.Ring {
	if f != staleBrake && f != staleTexts {
		return p.ring
	}
	old := vault.NewRing(w.master)
	for !p.dead {
		if _, err := admin.New(admin.Config{Store: w.engine, Ring: old, Vocabulary: w.adapter.Catalog().Vocabulary()}).Load(ctx); err == nil {
			break
		}
	}
	return old
}
