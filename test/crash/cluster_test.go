package crash

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	// clusterVariable is how many rounds of trouble a cluster goes through; a longer run sets it.
	clusterVariable = "KEYBRAKE_CLUSTER_ROUNDS"
	// spenders spend at the same time, through all nodes.
	spenders = 64
)

// TestNothingIsLostOrOverspentWhateverHappensToACluster lets three gateways on one PostgreSQL, with a standby that every
// commit waits for, go through one trouble after the other under load, and has the books audited after each.
func TestNothingIsLostOrOverspentWhateverHappensToACluster(t *testing.T) {
	rounds, seed := int(numberFrom(clusterVariable, 5)), numberFrom(seedVariable, rand.Uint64())
	t.Logf("%s=%d", seedVariable, seed)
	began := time.Now()
	w := newCluster(t, 3, "--upstream-deadline", "1", "--reconcile-per-second", "1000", "--store-wait", "1")
	s := newSeason(w, seed)
	storm := &storm{season: s, seen: make(map[string]int)}
	for n := len(s.agents); n < spenders; n++ {
		s.agents = append(s.agents, &agent{w: w, number: n, rng: rand.New(rand.NewPCG(seed, uint64(n)+1))})
	}
	for _, a := range s.agents {
		a.over = storm.over.Load
	}
	for round := range rounds {
		storm.round(round)
		if t.Failed() {
			t.Fatalf("in round %d (%s), %s=%d", round, storm.last, seedVariable, seed)
		}
	}
	storm.end()
	s.summary(time.Since(began))
	t.Logf("%v", storm.seen)
}

// storm is what a cluster goes through.
type storm struct {
	*season
	over atomic.Bool // the agents' time is over
	last string      // trouble
	seen map[string]int
}

// troubles are what can happen, and how often.
var troubles = []struct {
	name  string
	often int
	do    func(*storm, *node)
}{
	{"what a node and the store send each other gets lost", 4, func(s *storm, n *node) {
		n.store(hole)
		s.pass(1500)
		n.store(heal)
	}},
	{"what the store sends a node gets lost", 3, func(s *storm, n *node) {
		n.store(mute)
		s.pass(1500)
		n.store(heal)
	}},
	{"a node's way to the store is slow, and loses packets", 2, func(s *storm, n *node) {
		n.store(spoil)
		s.pass(1500)
		n.store(heal)
	}},
	{"a node is cut off from all but the store, and connections of agents break", 2, func(s *storm, n *node) {
		hole(n.agents)
		s.pass(1500)
		n.agents.cut()
		heal(n.agents)
	}},
	{"a node's connections break, again and again", 3, func(s *storm, n *node) {
		for range 1 + s.rng.IntN(8) {
			n.store(cut)
			s.pass(200)
		}
	}},
	{"a node is killed", 4, func(s *storm, n *node) {
		n.kill()
		s.pass(500)
		n.sane()
		n.start()
	}},
	{"a node's machine dies, and nobody is told", 3, func(s *storm, n *node) {
		n.store(hole)
		hole(n.agents)
		n.kill()
		s.pass(1500)
		n.sane()
		n.store(heal)
		heal(n.agents)
		n.start()
	}},
	{"a node is told to stop", 2, func(s *storm, n *node) {
		n.signal(syscall.SIGTERM)
		<-n.gone
		n.sane()
		n.start()
	}},
	{"a node is paused, past its lease or not", 4, func(s *storm, n *node) {
		n.signal(syscall.SIGSTOP)
		s.pass(2000)
		n.signal(syscall.SIGCONT)
	}},
	{"the store crashes and comes back", 2, func(s *storm, _ *node) { s.w.pair.restart() }},
	{"the store hangs", 2, func(s *storm, _ *node) {
		s.w.pair.leader().Freeze()
		s.pass(1500)
		s.w.pair.leader().Thaw()
	}},
	{"the store takes no more connections, and a node loses its own", 2, func(s *storm, n *node) {
		end := s.w.pair.crowdOut()
		n.store(cut)
		s.pass(200)
		more := s.w.pair.crowdOut() // what it lost
		s.pass(1500)
		more()
		end()
	}},
	{"the standby cannot be reached", 2, func(s *storm, _ *node) {
		way := s.w.pair.followed[s.w.pair.primary]
		hole(way)
		s.pass(1500)
		heal(way)
	}},
	{"the store dies and its standby takes over", 3, func(s *storm, _ *node) { s.w.pair.failOver() }},
	{"the store's machine dies, nobody is told, and its standby takes over", 3, func(s *storm, _ *node) {
		s.w.pair.vanish(func() { s.pass(1500) }, s.w.awaitNodes)
	}},
	{"the standby takes over while the old store lives", 3, func(s *storm, _ *node) { s.w.pair.split(func() { s.pass(1500) }) }},
	{"half of the nodes still see the old store when the standby takes over", 2, func(s *storm, n *node) {
		hole(n.stores[1-s.w.pair.primary])
		s.w.pair.split(func() { s.pass(1500) })
		n.store(heal)
	}},
}

// pass lets some time pass, at most so many milliseconds.
func (s *storm) pass(most int) { time.Sleep(time.Duration(1+s.rng.IntN(most)) * time.Millisecond) }

// pick chooses a trouble: each once, in a long run as often as it is said to happen.
func (s *storm) pick(round int) int {
	if round < len(troubles) && numberFrom(clusterVariable, 0) > 0 {
		return round
	}
	all := 0
	for _, t := range troubles {
		all += t.often
	}
	n := s.rng.IntN(all)
	for i, t := range troubles {
		if n -= t.often; n < 0 {
			return i
		}
	}
	panic("unreachable")
}

// round is a trouble under load, from before it begins until after it is over.
func (s *storm) round(round int) {
	w := s.w
	w.t.Helper()
	w.ops = w.nodes[0].ops // its node may be another process than in the last round
	if round%generation == 0 {
		s.generation()
	}
	s.lift()
	s.misbehave()
	trouble := troubles[s.pick(round)]
	s.last = trouble.name
	s.seen[trouble.name]++
	w.t.Logf("round %d: %s", round, trouble.name)
	s.over.Store(false)
	var spending sync.WaitGroup
	for _, a := range s.agents {
		spending.Go(func() {
			for !s.over.Load() {
				a.spend(func() {})
			}
		})
	}
	acts := s.operateCluster(&spending)
	s.pass(300)
	trouble.do(s, w.nodes[s.rng.IntN(len(w.nodes))])
	s.pass(300)
	s.over.Store(true)
	w.command("DELETE", "faults", "") // or calls hang at Stripe for ever
	spending.Wait()
	w.acts = append(w.acts, *acts...)
	w.calls = w.calls[:0]
	for _, a := range s.agents {
		w.calls = append(w.calls, a.calls...)
	}
	w.awaitNodes()
	for _, problem := range w.audit(false, len(w.books.records) < readWhole || round%wholeEvery == 0) {
		w.t.Error(problem)
	}
}

// operateCluster is what operators do meanwhile, each time at another node: stop keys, and let some go on.
func (s *storm) operateCluster(wg *sync.WaitGroup) *[]*act {
	var acts []*act
	rng := rand.New(rand.NewPCG(s.rng.Uint64(), 0))
	wg.Go(func() {
		for !s.over.Load() {
			time.Sleep(time.Duration(rng.IntN(200)) * time.Millisecond)
			p := s.w.keys[len(s.w.keys)-1-rng.IntN(len(kinds))]
			n := s.w.nodes[rng.IntN(len(s.w.nodes))]
			if rng.IntN(2) == 0 {
				a := s.w.pullAt(n.ops, p)
				if a.warning != "" { // it was left beside the node, and others know of it once it is in the store
					n.awaitTaken()
					a.ended = time.Now()
				}
				acts = append(acts, a)
			} else {
				acts = append(acts, s.w.liftAt(n.ops, p))
			}
		}
	})
	return &acts
}

// end waits until nothing is on the wire any more, of dead nodes either, and has everything audited once more.
func (s *storm) end() {
	w := s.w
	w.t.Helper()
	w.awaitNodes()
	w.awaitTakenOver()
	w.ops = w.nodes[0].ops // its node may be another process than in the last round
	s.season.last()
	if v, err := w.ops.VerifyAudit(w.t.Context()); err != nil || !v.OK {
		w.t.Errorf("the program's own verification: %+v %v", v, err)
	}
	for _, n := range w.nodes {
		n.sane()
	}
}
