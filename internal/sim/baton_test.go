// Package sim runs a whole Keybrake, seed by seed, in a world that breaks: agents, operators, the real gateway, operator
// service and reconciler over a store in memory (the real batch function and ledger) and the sandbox behind a line that
// loses, delays and garbles; or over PostgreSQL at the other end of a network that breaks (server_test.go). Tests only.
//
// One goroutine runs at a time and a scheduler with a seed decides which (baton_test.go, run_test.go), so a seed replays
// exactly. An auditor with a model of its own (auditor_test.go, verdicts_test.go) checks every decision, record and
// balance against what the vendor really did.
package sim

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"
	"sync"
	"sync/atomic"
	"testing/synctest"
)

// turn is one goroutine that waits for the baton.
type turn struct {
	who, what string
	unit      *unit // work that the store has queued; nil for a goroutine that only waits
	hangs     bool  // waits for an answer that may never come
	late      bool  // an effect that the vendor is slow with
	born      int64 // wire time in seconds at which it began to wait
	awake     chan struct{}
}

// baton lets one goroutine run at a time. Every call of the store, the upstream and the clock waits for its turn here;
// the scheduler looks when all goroutines are blocked, and lets one of them go on.
//
// What becomes runnable by itself (a timer, the fork of a read) shares nothing until it waits here, so that the order in
// which several arrive at once means nothing: they are sorted by what they are.
type baton struct {
	mu      sync.Mutex
	fresh   []*turn
	waiting []*turn
	hanging []*turn
	steps   atomic.Int64
	trace   hash.Hash
	verbose func(format string, args ...any)
}

func newBaton() *baton { return &baton{trace: sha256.New()} }

// wait gives the baton back until it is this goroutine's turn again.
func (b *baton) wait(who, what string) {
	<-b.line(&turn{who: who, what: what}).awake
}

// line puts a turn into the queue and returns without waiting.
func (b *baton) line(t *turn) *turn {
	t.awake = make(chan struct{})
	b.mu.Lock()
	b.fresh = append(b.fresh, t)
	b.mu.Unlock()
	return t
}

// leave takes a turn back that is not waited for any more.
func (b *baton) leave(t *turn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, list := range []*[]*turn{&b.fresh, &b.waiting, &b.hanging} {
		*list = slices.DeleteFunc(*list, func(o *turn) bool { return o == t })
	}
}

// settle waits until everybody is blocked and sorts those who came.
func (b *baton) settle(queue func(*turn), now int64) {
	b.handOver()
	synctest.Wait()
	b.mu.Lock()
	fresh := b.fresh
	b.fresh = nil
	b.mu.Unlock()
	slices.SortStableFunc(fresh, func(x, y *turn) int {
		return cmp.Or(cmp.Compare(x.who, y.who), cmp.Compare(x.what, y.what))
	})
	for _, t := range fresh {
		t.born = now
		switch {
		case t.unit != nil:
			queue(t)
		case t.hangs:
			b.hanging = append(b.hanging, t)
		default:
			b.waiting = append(b.waiting, t)
		}
	}
}

// pass hands the baton to a turn of a list.
func (b *baton) pass(list *[]*turn, i int) {
	t := (*list)[i]
	*list = slices.Delete(*list, i, i+1)
	b.note("run", t.who, t.what)
	close(t.awake)
}

// handOver tells the race detector what time and Wait do not: what was done before is seen by who goes on.
func (b *baton) handOver() {
	b.mu.Lock()
	//lint:ignore SA2001 nothing is guarded but the order
	b.mu.Unlock()
}

// note writes a step into the trace.
func (b *baton) note(kind, who, what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.steps.Add(1)
	for _, s := range [...]string{kind, who, what} {
		b.trace.Write([]byte(s))
		b.trace.Write([]byte{0})
	}
	if b.verbose != nil {
		b.verbose("%6d %s %s: %s", b.steps.Load(), kind, who, what)
	}
}

func (b *baton) notef(kind, who, format string, args ...any) {
	b.note(kind, who, fmt.Sprintf(format, args...))
}

func (b *baton) hash() string { return hex.EncodeToString(b.trace.Sum(nil)[:12]) }
