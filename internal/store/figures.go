package store

import (
	"sync/atomic"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
)

// Observer is told what an engine does. Its functions run on the engine's own goroutine, between two transactions: they
// must be quick and wait for nothing. A nil one is not called.
type Observer struct {
	// Batch is told of each transaction of calls, whether it succeeded or not: how many callers' work was in it, how long it
	// took in all, and how long its commit took, the flush included (0 if it did not come to that).
	Batch func(callers int, took, commit time.Duration, err error)
}

// Figures is how an engine stands. Reading it waits for nobody, whatever the engine is doing.
type Figures struct {
	// Queued is the work of calls that waits for the writer, Actions that of operators.
	Queued, Actions int
	// Height is the number of the last audit record, Signed that of the last one under a signed head.
	Height, Signed int64
	SignedAt       time.Time // zero: there is no signed head
	// Open reservations wait for their fate, Unresolved ones among them have an unknown outcome, of which the oldest was
	// sent at Oldest (zero if there is none).
	Open, Unresolved int64
	Oldest           time.Time
}

// Gauges hold an engine's figures for who reads them without waiting. Times are microseconds; 0 = none. Safe for concurrent use.
type Gauges struct {
	Height, Open, Unresolved, Oldest atomic.Int64
	signed, signedAt                 atomic.Int64
}

// SignedUpTo notes the last signed head.
func (g *Gauges) SignedUpTo(h audit.Head) {
	g.signed.Store(h.Seq)
	g.signedAt.Store(h.At.UnixMicro())
}

// Figures are the figures, with what waits.
func (g *Gauges) Figures(queued, actions int) Figures {
	return Figures{
		Queued: queued, Actions: actions, Height: g.Height.Load(), Signed: g.signed.Load(), SignedAt: instant(g.signedAt.Load()),
		Open: g.Open.Load(), Unresolved: g.Unresolved.Load(), Oldest: instant(g.Oldest.Load()),
	}
}

func instant(micros int64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micros).UTC()
}

// Safety is what can be lost of what was acknowledged.
type Safety struct {
	// Remembers: losing a whole machine loses nothing. Another one has everything before anybody is answered.
	Remembers bool
	// Why says it in a sentence.
	Why string
}
