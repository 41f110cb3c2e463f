package cluster

import (
	"sync/atomic"
	"time"
)

// Lease is how long a node may act on what it last read from the store. It only ever stops: that a call may pass is decided
// elsewhere, and without a lease none does. It counts from before the store was asked, on the node's own clock, so clocks of
// different machines are never compared. The zero Lease has run out. Safe for concurrent use.
type Lease struct {
	length time.Duration
	clock  func() time.Duration
	// until is when it runs out, in nanoseconds of the clock; 0: it was never renewed.
	until atomic.Int64
}

// Held reports whether the node may act. It reads a clock and a number, and takes no lock: every call asks right before it
// is sent.
func (l *Lease) Held() bool { return l.holds(l.until.Load()) }

// holds reports whether a lease that runs out then has not run out yet.
func (l *Lease) holds(until int64) bool { return until > 0 && int64(l.clock()) < until }

// Left is for how long the node may still act; 0: it may not.
func (l *Lease) Left() time.Duration {
	until := l.until.Load()
	if until == 0 {
		return 0
	}
	return max(0, time.Duration(until)-l.clock())
}

// renew makes the lease hold from when the store was asked. An answer that comes after a later one changes nothing.
func (l *Lease) renew(asked time.Duration) {
	until := int64(asked + l.length)
	for {
		had := l.until.Load()
		if until <= had || l.until.CompareAndSwap(had, until) {
			return
		}
	}
}
