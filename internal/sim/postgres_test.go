package sim

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// networkFailures are the ways in which a call of a store at the other end of a network fails.
var networkFailures = []string{
	unavailable, unknown, unknownBefore, awayBefore, awayAfter, cutBefore, cutAfter, "crash before", "crash after",
}

// readFailures are those of them that mean something for a read.
var readFailures = []string{unavailable, cutBefore, "crash before", "crash after"}

// TestNoSeedBreaksAnInvariantOnPostgreSQL is the simulation with PostgreSQL in the loop: it decides, and what it says is
// what the gateway is told. A seed does the same, step by step, as it does over rows in memory with the same failures.
func TestNoSeedBreaksAnInvariantOnPostgreSQL(t *testing.T) {
	begun := time.Now()
	first, seeds := setting(t, "SEED", 1), setting(t, "PG_SEEDS", 1)
	o := options{calls: setting(t, "PG_CALLS", 120)}
	if setting(t, "STEPS", 0) > 0 {
		o.verbose = t.Logf
	}
	var sum result
	for seed := first; seed < first+seeds; seed++ {
		r := twoWays(t, uint64(seed), o, nil)
		if seed == first {
			sum.hash = r.hash
		}
		sum.add(&r)
	}
	t.Logf("%d seeds from %d on PostgreSQL, %d calls in %s: %s, %d crashes, %d steps; trace of seed %d: %s", seeds, first, sum.calls,
		time.Since(begun).Round(time.Second), &sum.figures, sum.crashes, sum.steps, first, sum.hash)
}

// twoWays runs a seed over rows in memory, and again with PostgreSQL in the loop: nothing breaks, and both are the same. A
// sweep is for one run.
func twoWays(t *testing.T, seed uint64, o options, sweeps func() *sweep) result {
	t.Helper()
	o.network = true
	run := func(name string) result {
		if sweeps != nil {
			o.sweep = sweeps()
		}
		r := simulate(t, seed, o)
		for i, v := range r.broken {
			if i < 3 {
				t.Errorf("seed %d %s: %s", seed, name, v)
			}
		}
		return r
	}
	want := run("in memory")
	o.server = true
	o.after = func(w *world) {
		w.engine.server.outside(func() { w.engine.durable.compare(t, w.engine.server.db) })
	}
	got := run("on PostgreSQL")
	if got.hash != want.hash || got.steps != want.steps {
		t.Errorf("seed %d on PostgreSQL has the trace %s of %d steps, in memory %s of %d", seed, got.hash, got.steps, want.hash, want.steps)
	}
	return got
}

// TestEveryCallOfADayFailsOnceOnPostgreSQL fails each call of the store in a scripted day with PostgreSQL in the loop, one in
// each run, in every way in which it can. Under `make sim` all of them, here some.
func TestEveryCallOfADayFailsOnceOnPostgreSQL(t *testing.T) {
	begun := time.Now()
	whole := aDay(t, options{network: true, server: true})
	var all []sweep
	for _, how := range networkFailures {
		for k := 1; k <= whole.calls.store; k++ {
			if slices.Contains(whole.commits, k) || slices.Contains(readFailures, how) {
				all = append(all, sweep{how: how, store: k})
			}
		}
	}
	every, part := setting(t, "PG_SWEEP", 190), setting(t, "PG_PART", 100)
	runs := make(map[string]int)
	for i := part % every; i < len(all); i += every {
		s := all[i]
		t.Run(fmt.Sprintf("%s at the store's call %d", s.how, s.store), func(t *testing.T) {
			twoWays(t, 1, options{calm: true}, func() *sweep { again := s; return &again })
		})
		runs[s.how]++
	}
	t.Logf("%d of %d runs on PostgreSQL in %s of a day with %d calls of agents and %d of the store, %d of them for a commit: %v", (len(all)-part%every+every-1)/every, len(all),
		time.Since(begun).Round(time.Second), whole.calls.agents, whole.calls.store, len(whole.commits), runs)
}
