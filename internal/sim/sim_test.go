package sim

import (
	"os"
	"strconv"
	"testing"
	"time"
)

// setting reads one of KEYBRAKE_SIM_SEED, _SEEDS, _ENGINE_SEEDS, _CALLS, _STEPS, _SWEEP, _PG_SEEDS, _PG_CALLS, _PG_SWEEP (one
// failure in so many), _PG_PART (which).
func setting(t *testing.T, name string, otherwise int) int {
	text := os.Getenv("KEYBRAKE_SIM_" + name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	must(t, err)
	return n
}

// TestNoSeedBreaksAnInvariant is the simulation: short here, long under `make sim`. A seed that fails is replayed with
// SEED=n SEEDS=1 STEPS=1.
func TestNoSeedBreaksAnInvariant(t *testing.T) {
	begun := time.Now()
	first, seeds := setting(t, "SEED", 1), setting(t, "SEEDS", 40)
	o := options{calls: setting(t, "CALLS", 250)}
	if setting(t, "STEPS", 0) > 0 {
		o.verbose = t.Logf
	}
	var sum result
	for seed := first; seed < first+seeds; seed++ {
		r := simulate(t, uint64(seed), o)
		for i, v := range r.broken {
			if i < 5 {
				t.Errorf("seed %d: %s", seed, v)
			}
		}
		if seed == first {
			sum.hash = r.hash
		}
		sum.add(&r)
	}
	t.Logf("%d seeds from %d, %d calls in %s: %s, %d crashes, %d steps; trace of seed %d: %s", seeds, first, sum.calls, time.Since(begun).Round(time.Second),
		&sum.figures, sum.crashes, sum.steps, first, sum.hash)
	if seeds > 10 && !sum.reached() {
		t.Error("something never happened: the simulation does not reach what it is about")
	}
}

func (r *result) add(o *result) {
	r.calls, r.crashes, r.steps = r.calls+o.calls, r.crashes+o.crashes, r.steps+o.steps
	r.figures.add(&o.figures)
}

func TestASeedReplaysExactly(t *testing.T) {
	hashes := make(map[string]uint64)
	for seed := range uint64(6) {
		once, again := simulate(t, seed, options{calls: 200}), simulate(t, seed, options{calls: 200})
		if once.hash != again.hash || once.steps != again.steps {
			t.Errorf("seed %d: trace %s of %d steps, then %s of %d", seed, once.hash, once.steps, again.hash, again.steps)
		}
		if other, ok := hashes[once.hash]; ok {
			t.Errorf("seeds %d and %d have the same trace", seed, other)
		}
		hashes[once.hash] = seed
	}
}
