package gateway

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
)

// Limits of what agents can make grow, each with its reason (docs/operating.md has them in one table).
const (
	// defaultCallsPerKey is an eighth of an upstream, so that eight agents that hang leave it with nothing only while
	// the ninth waits for the next of their slots, which is its own.
	defaultCallsPerKey = 64
	// defaultCallsPerUpstream bounds connections and answers in memory; another upstream has as many of its own.
	defaultCallsPerUpstream = 512
	// waitingPerKey is how many more calls of a key may wait for its slots, or be read and answered: a burst of an
	// honest agent, far below what would fill memory.
	waitingPerKey = 256
	// defaultSlotWait is how long a call waits for a slot. Nothing is held while it waits.
	defaultSlotWait = 5 * time.Second
	// smallBody is what a request may take in memory without asking; Stripe's ordinary forms are far smaller.
	smallBody = 64 << 10
	// largeBodies and uploads bound the larger ones: 128 MB in memory, and 1 GB in the temporary folder. A key may have
	// a quarter of them.
	largeBodies = 128
	uploads     = 64
)

// crowdedError says that there is no room for a call now. Nothing of it was sent or held.
type crowdedError struct{ message string }

func (e *crowdedError) Error() string { return e.message }

// errStopping ends calls that wait, or come, while the server stops.
var errStopping = &crowdedError{"Keybrake is being stopped or restarted; the call was not sent. Try again."}

// places counts what each key has of something, and all keys together. Nobody waits for a place.
type places struct {
	all, perKey int // 0: no limit
	mu          sync.Mutex
	taken       int
	of          map[policy.KeyID]int
}

func newPlaces(all, perKey int) *places {
	return &places{all: all, perKey: perKey, of: make(map[policy.KeyID]int)}
}

// take takes a place for a key and reports whether there was one. Give it back once.
func (p *places) take(k policy.KeyID) (giveBack func(), ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all > 0 && p.taken >= p.all || p.perKey > 0 && p.of[k] >= p.perKey {
		return nil, false
	}
	p.taken++
	p.of[k]++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.taken--
		if p.of[k]--; p.of[k] == 0 {
			delete(p.of, k)
		}
	}, true
}

// shares divides an upstream's slots among vault keys. A call has a slot while it may speak with the vendor, its
// look-ups included, and takes it before anything is held for it. A key has at most perKey of them; a slot that
// comes free goes to the waiting key that has the fewest. Upstreams share nothing. Safe for concurrent use.
type shares struct {
	perKey, perUpstream int
	wait                time.Duration

	mu        sync.Mutex
	upstreams map[policy.UpstreamID]*slots
	turn      uint64
	stopping  chan struct{} // closed once nobody gets a slot any more
	stopped   bool
}

// slots are those of one upstream.
type slots struct {
	used    int
	of      map[policy.KeyID]int
	waiting lines
}

func newShares(perKey, perUpstream int, wait time.Duration) *shares {
	return &shares{
		perKey: perKey, perUpstream: perUpstream, wait: wait,
		upstreams: make(map[policy.UpstreamID]*slots), stopping: make(chan struct{}),
	}
}

// take waits for a slot: at most until ctx ends, its wait is over or the gateway stops. Give it back once.
func (s *shares) take(ctx context.Context, u policy.UpstreamID, k policy.KeyID) (giveBack func(), err error) {
	w := s.line(u, k)
	if w == nil {
		return nil, errStopping
	}
	giveBack = func() { s.giveBack(u, k) }
	select {
	case <-w.granted:
		return giveBack, nil
	default:
	}
	timer := time.NewTimer(s.wait)
	defer timer.Stop()
	select {
	case <-w.granted:
		return giveBack, nil
	case <-s.stopping:
		err = errStopping
	case <-ctx.Done():
		err = fmt.Errorf("wait for a slot: %w", ctx.Err())
	case <-timer.C:
		err = &crowdedError{"Too many calls of this vault key, or to its upstream, are on their way at once; this one was not sent. Try again."}
	}
	if s.leave(u, k, w) {
		return nil, err
	}
	return giveBack, nil // granted meanwhile
}

// line grants a slot or queues for one; nil while stopping.
func (s *shares) line(u policy.UpstreamID, k policy.KeyID) *waiter {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil
	}
	up := s.upstreams[u]
	if up == nil {
		up = &slots{of: make(map[policy.KeyID]int), waiting: make(lines)}
		s.upstreams[u] = up
	}
	s.turn++
	w := up.waiting.join(k, s.turn)
	s.grant(up)
	return w
}

// leave takes a waiter out of the queue and reports whether it was still there.
func (s *shares) leave(u policy.UpstreamID, k policy.KeyID, w *waiter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	up := s.upstreams[u]
	left := up.waiting.leave(k, w)
	s.forget(u, up)
	return left
}

func (s *shares) giveBack(u policy.UpstreamID, k policy.KeyID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	up := s.upstreams[u]
	up.used--
	if up.of[k]--; up.of[k] == 0 {
		delete(up.of, k)
	}
	s.grant(up)
	s.forget(u, up)
}

// forget lets go of an upstream that nobody uses.
func (s *shares) forget(u policy.UpstreamID, up *slots) {
	if up.used == 0 && len(up.waiting) == 0 {
		delete(s.upstreams, u)
	}
}

// grant gives free slots to those that wait: each to the key with the fewest, of equals to the longest waiting.
func (s *shares) grant(up *slots) {
	for up.used < s.perUpstream {
		next, ok := up.waiting.next(func(k policy.KeyID) (uint64, bool) { return uint64(up.of[k]), up.of[k] < s.perKey })
		if !ok {
			return
		}
		up.used++
		up.of[next]++
		up.waiting.serve(next)
	}
}

// stop ends waiting: nobody gets a slot any more who does not have one.
func (s *shares) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.stopped = true
		close(s.stopping)
	}
}

// takeSlot gets the call its slot, if it has none yet.
func (g *Gateway) takeSlot(ctx context.Context, j *journey) error {
	if j.giveBack != nil {
		return nil
	}
	start := time.Now()
	var err error
	j.giveBack, err = g.shares.take(ctx, j.key.Upstream, j.key.ID)
	j.took.Wait += time.Since(start)
	return err
}

// leaveSlot gives it back.
func (j *journey) leaveSlot() {
	if j.giveBack != nil {
		j.giveBack()
		j.giveBack = nil
	}
}

// isCrowded finds what an agent is told of a call for which there was no room.
func isCrowded(err error) (*crowdedError, bool) {
	var crowded *crowdedError
	return crowded, errors.As(err, &crowded)
}
