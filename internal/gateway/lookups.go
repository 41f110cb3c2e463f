package gateway

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/keybrake/keybrake/internal/policy"
)

// Default look-up rates; Stripe allows about 100 requests per second and account.
const (
	defaultLookupsPerKey      = 25
	defaultLookupsPerUpstream = 80
	lookupBurst               = 100
	defaultLookupWait         = 5 * time.Second
)

// limiters bound look-ups per key and per upstream. What an upstream has is shared out to the keys in turn: bursts of some do
// not make another wait for all that they asked for. Safe for concurrent use.
type limiters struct {
	perKey, perUpstream rate.Limit

	mu        sync.Mutex
	keys      map[policy.KeyID]*rate.Limiter // idle ones are dropped when there are many
	upstreams map[policy.UpstreamID]*budget
	turn      uint64
}

// budget is the look-ups that an upstream may be asked.
type budget struct {
	rate    *rate.Limiter
	waiting lines
	served  map[policy.KeyID]uint64 // while there are lines: the turn that a key had last
	coming  bool                    // one has been taken from rate for whose turn it is once it is due
}

// maxLimiters bounds their memory; dropping them all only gives a burst back.
const maxLimiters = 10_000

func newLimiters(perKey, perUpstream float64) *limiters {
	return &limiters{
		perKey: rate.Limit(perKey), perUpstream: rate.Limit(perUpstream),
		keys: make(map[policy.KeyID]*rate.Limiter), upstreams: make(map[policy.UpstreamID]*budget),
	}
}

// wait takes one look-up from both budgets, waiting for its turn until ctx ends.
func (l *limiters) wait(ctx context.Context, k policy.KeyID, u policy.UpstreamID) error {
	if err := l.key(k).Wait(ctx); err != nil {
		return err
	}
	up, w := l.line(u, k)
	select {
	case <-w.granted:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if up.waiting.leave(k, w) {
		return fmt.Errorf("wait for a look-up: %w", ctx.Err())
	}
	return nil // granted meanwhile
}

func (l *limiters) key(k policy.KeyID) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.keys) > maxLimiters {
		clear(l.keys)
	}
	key := l.keys[k]
	if key == nil {
		key = rate.NewLimiter(l.perKey, lookupBurst)
		l.keys[k] = key
	}
	return key
}

// line stands in a key's line for an upstream.
func (l *limiters) line(u policy.UpstreamID, k policy.KeyID) (*budget, *waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	up := l.upstreams[u]
	if up == nil {
		up = &budget{rate: rate.NewLimiter(l.perUpstream, lookupBurst), waiting: make(lines), served: make(map[policy.KeyID]uint64)}
		l.upstreams[u] = up
	}
	l.turn++
	w := up.waiting.join(k, l.turn)
	l.grant(up)
	return up, w
}

// grant serves those that wait as far as the rate allows, and comes back when it allows the next.
func (l *limiters) grant(up *budget) {
	for !up.coming && len(up.waiting) > 0 {
		if until := up.rate.Reserve().Delay(); until > 0 {
			up.coming = true
			time.AfterFunc(until, func() { l.due(up) })
			return
		}
		l.serve(up)
	}
	if len(up.waiting) == 0 {
		clear(up.served)
	}
}

// due serves with what was reserved. It is lost if nobody waits any more.
func (l *limiters) due(up *budget) {
	l.mu.Lock()
	defer l.mu.Unlock()
	up.coming = false
	l.serve(up)
	l.grant(up)
}

func (l *limiters) serve(up *budget) {
	next, ok := up.waiting.next(func(k policy.KeyID) (uint64, bool) { return up.served[k], true })
	if ok {
		l.turn++
		up.served[next] = l.turn
		up.waiting.serve(next)
	}
}
