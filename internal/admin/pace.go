package admin

import (
	"context"
	"sync"
	"time"
)

// pageEvery is how far apart the pages of exports and verifications are while calls add records: 5,000 records a
// second, a twentieth of what one core can read. Five million then take some seventeen minutes; read as fast
// as possible they take half of a small machine from the calls.
const pageEvery = exportPage * time.Second / 5_000

// pace spaces the pages of all long reads together. The zero value is ready; safe for concurrent use.
type pace struct {
	mu   sync.Mutex
	next time.Time // no page is read before it
}

// turn waits until the next page may be used, so long after the one before it: not at all unless calls have added records
// since the last. The error is ctx's.
func (p *pace) turn(ctx context.Context, grew bool, every time.Duration) error {
	if !grew {
		return ctx.Err()
	}
	p.mu.Lock()
	now := time.Now()
	wait := max(0, p.next.Sub(now))
	p.next = now.Add(wait + every)
	p.mu.Unlock()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
