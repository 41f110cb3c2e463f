package sim

import (
	"context"
	"math"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/sqlite"
	"github.com/keybrake/keybrake/internal/store/storetest"
	"github.com/keybrake/keybrake/internal/vault"
)

// asked is one operation on a key's cap and brake, and said what came of it.
type asked struct {
	key   policy.KeyID
	what  string // admit, settle, release, stop, resume
	cents int64
}

type said struct {
	admitted, braked bool
	left             int64 // micro-dollars, of a full cap
}

// purse is a key as the specification has it: what is used of its cap, and whether it is stopped.
type purse struct {
	used    int64
	stopped bool
}

const purseLimit = 100 // dollars

// specification says what each operation may answer, one after the other.
var specification = porcupine.Model{
	Partition: func(history []porcupine.Operation) (out [][]porcupine.Operation) {
		by := make(map[policy.KeyID][]porcupine.Operation)
		for _, o := range history {
			by[o.Input.(asked).key] = append(by[o.Input.(asked).key], o)
		}
		for _, ops := range by {
			out = append(out, ops)
		}
		return out
	},
	Init: func() any { return purse{} },
	Step: func(state, input, output any) (bool, any) {
		p, in, out := state.(purse), input.(asked), output.(said)
		usd := in.cents * 10_000
		left := purseLimit*1_000_000 - p.used
		switch in.what {
		case "stop":
			p.stopped = true
		case "resume":
			p.stopped = false
		case "release":
			p.used -= usd
		case "admit":
			switch {
			case out.braked:
				return p.stopped, p
			case out.admitted:
				p.used += usd
				return !p.stopped && usd <= left, p
			default:
				return !p.stopped && usd > left && out.left == left, p
			}
		}
		return true, p
	},
}

// TestHoldsAndStopsAreLinearizable has many goroutines hold, settle, release and stop on a real store; each key's history
// must be one that a single purse could have had.
func TestHoldsAndStopsAreLinearizable(t *testing.T) {
	for seed := range uint64(setting(t, "HISTORIES", 4)) {
		history := liveHistory(t, seed, func(db store.DB) store.DB { return db })
		if result := porcupine.CheckOperationsTimeout(specification, history, time.Minute); result != porcupine.Ok {
			t.Errorf("seed %d: %d operations are not linearizable (%s)", seed, len(history), result)
		}
	}
}

// The same workload over a store that checks first and holds later is found out.
func TestAHistoryOfCheckThenHoldIsNotLinearizable(t *testing.T) {
	for seed := range uint64(5) {
		history := liveHistory(t, seed, func(db store.DB) store.DB { return hastyStore{db} })
		if porcupine.CheckOperationsTimeout(specification, history, time.Minute) == porcupine.Illegal {
			return
		}
	}
	t.Error("five histories of a store that checks before it holds passed")
}

// hastyStore looks whether a cap has room, and holds a moment later without looking again.
type hastyStore struct{ store.DB }

func (h hastyStore) Admit(ctx context.Context, a *store.Admission) (store.Admitted, error) {
	c := a.Reserve.Caps[0]
	k := ledger.AccountKey{Key: a.Key, Resource: c.Resource, Per: c.Per, Unit: c.Unit, Label: ledger.Label(c.Per, h.Now(), a.Reserve.Zone)}
	accounts, err := h.Peek(ctx, []ledger.AccountKey{k})
	if err == nil && int64(a.Reserve.Effects[0].USD) <= ledger.Left(accounts[0], c.Limit) {
		a.Reserve.Caps = []policy.Cap{{Resource: c.Resource, Per: c.Per, Unit: c.Unit, Limit: math.MaxInt64 / 2}}
	}
	return h.DB.Admit(ctx, a)
}

// liveHistory lets clients work on one store at the same time and returns what they asked and were told, and when.
func liveHistory(t *testing.T, seed uint64, over func(store.DB) store.DB) []porcupine.Operation {
	t.Helper()
	noon := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	db, err := sqlite.Open(t.Context(), sqlite.Options{
		Path: filepath.Join(t.TempDir(), "keybrake.db"), Signer: storetest.NewSigner("sim"), Clock: func() time.Time { return noon },
	})
	must(t, err)
	defer func() { must(t, db.Close()) }()
	keys := []policy.KeyID{"key_1", "key_2", "key_3"}
	versions := make(map[policy.KeyID]int64)
	for _, k := range keys {
		versions[k] = storetest.Key(t, db, k)
	}
	seen := over(db)
	var mu sync.Mutex
	var history []porcupine.Operation
	begun := time.Now()
	do := func(client int, in asked, f func() said) {
		call := time.Since(begun).Nanoseconds()
		out := f()
		mu.Lock()
		defer mu.Unlock()
		history = append(history, porcupine.Operation{ClientId: client, Input: in, Call: call, Output: out, Return: time.Since(begun).Nanoseconds()})
	}
	var wg sync.WaitGroup
	for client := range 12 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(client)))
			for range 50 {
				key := keys[rng.IntN(len(keys))]
				if client == 0 && rng.IntN(4) == 0 {
					stop := rng.IntN(2) == 0
					do(client, asked{key: key, what: map[bool]string{true: "stop", false: "resume"}[stop]}, func() said {
						return said{}.of(db.Update(t.Context(), store.LaneBrake, func(tx store.Tx) error { return setBrake(tx, key, stop) }), t)
					})
					continue
				}
				holdOne(t, seen, client, key, versions[key], 100*int64(1+rng.IntN(25)), rng.IntN(3), do)
			}
		})
	}
	wg.Wait()
	return history
}

func setBrake(tx store.Tx, key policy.KeyID, stop bool) error {
	if stop {
		return tx.PutBrake(store.BrakeRow{Scope: store.KeyScope(key), Mode: vault.Stopped, At: tx.Now()})
	}
	_, err := tx.LiftBrake(store.KeyScope(key))
	return err
}

func (s said) of(err error, t *testing.T) said {
	if err != nil {
		t.Error(err)
	}
	return s
}

// holdOne asks for a hold and ends it in one of three ways: settled, released, or left open.
func holdOne(t *testing.T, db store.DB, client int, key policy.KeyID, version, cents int64, end int, do func(int, asked, func() said)) {
	var r *ledger.Reservation
	do(client, asked{key, "admit", cents}, func() said {
		a, err := db.Admit(t.Context(), storetest.Admission(key, version, []policy.Cap{storetest.DayCap("refunds", purseLimit)}, storetest.USD("refunds", cents)))
		r = a.Reservation
		out := said{admitted: a.Verdict == policy.Allow, braked: a.Braked != ""}
		if len(a.Full) > 0 {
			out.left = a.Full[0].Left
		}
		return out.of(err, t)
	})
	if r == nil || end == 0 {
		return
	}
	what, resolution := "settle", storetest.Settle(r)
	if end == 1 {
		what, resolution.Fate = "release", ledger.Fate{State: ledger.Released, Proof: ledger.ProofRefused}
	}
	do(client, asked{key, what, cents}, func() said {
		_, err := db.Resolve(t.Context(), resolution)
		return said{}.of(err, t)
	})
}
