package gateway

import (
	"slices"

	"github.com/keybrake/keybrake/internal/policy"
)

// lines are calls that wait for something that keys share: a line for each key, first come, first served within it. They
// belong to whoever shares it out, under its lock.
type lines map[policy.KeyID][]*waiter

// waiter is a call that waits.
type waiter struct {
	turn    uint64 // when it came, of all that ever did
	granted chan struct{}
}

func (l lines) join(k policy.KeyID, turn uint64) *waiter {
	w := &waiter{turn: turn, granted: make(chan struct{})}
	l[k] = append(l[k], w)
	return w
}

// leave takes a waiter out of its line and reports whether it was still there.
func (l lines) leave(k policy.KeyID, w *waiter) bool {
	i := slices.Index(l[k], w)
	if i >= 0 {
		l.drop(k, i)
	}
	return i >= 0
}

// next is the key whose turn it is: of those that may have more the one that had the least, of equals the one whose first call
// has waited longest. It reports whether there is one.
func (l lines) next(had func(policy.KeyID) (n uint64, mayHave bool)) (key policy.KeyID, ok bool) {
	var least uint64
	for k, line := range l {
		n, may := had(k)
		if may && (!ok || n < least || n == least && line[0].turn < l[key][0].turn) {
			key, least, ok = k, n, true
		}
	}
	return key, ok
}

// serve ends the wait of the first in a key's line.
func (l lines) serve(k policy.KeyID) {
	close(l[k][0].granted)
	l.drop(k, 0)
}

func (l lines) drop(k policy.KeyID, i int) {
	if l[k] = slices.Delete(l[k], i, i+1); len(l[k]) == 0 {
		delete(l, k)
	}
}
