package ledger

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
)

// never is the end of what has not ended.
const never = math.MaxInt

// event is something that a vendor may have done to one object: the effect of a call, or its final state.
// It happened at some instant between start and end, if it happened. The naive model knows nothing else:
// no claims, no hand-over, no running sums.
type event struct {
	reservation ReservationID
	effect      int
	object      ObjectKey
	mode        policy.CountMode
	amount      int64
	ceiling     int64
	start, end  int  // of the call, in steps; end is never while it is open
	final       bool // not a call: the object came to amount
	refused     bool // never happened
	late        bool // only the answer named the object
}

// happen is what the object has moved after the event if it had moved n before.
func (e *event) happen(n int64) int64 {
	switch {
	case e.final:
		return min(n, e.amount)
	case e.mode == policy.Total:
		if e.amount < n {
			return n // lowering gives nothing back
		}
		return e.amount
	case e.mode == policy.Part && e.ceiling != 0:
		top := e.ceiling
		if e.amount > top {
			top = e.amount
		}
		if n > top {
			return n
		}
		if n+e.amount > top {
			return top
		}
	}
	return n + e.amount
}

// most is the largest amount that an object can have moved: every order in which its events can have
// happened is tried out. One whose answer came before another was sent happened before it. What is still
// open may have happened or not; what was refused has not.
func most(events []*event, object ObjectKey) int64 {
	var left []*event
	for _, e := range events {
		if e.object == object && !e.refused {
			left = append(left, e)
		}
	}
	return try(left, 0)
}

func try(left []*event, n int64) int64 {
	var best int64
	done := true
	for i, e := range left {
		if e.end != never {
			done = false
		}
		first := !slices.ContainsFunc(left, func(o *event) bool { return o.end < e.start })
		if !first {
			continue
		}
		rest := slices.Delete(slices.Clone(left), i, i+1)
		best = max(best, try(rest, e.happen(n)))
	}
	if done { // only open ones are left, and they need not happen
		best = max(best, n)
	}
	return best
}

// overlap reports whether two calls on the object were ever on the wire together, or one was named only by its
// answer: then, and only then, may the ledger count for more than can have moved.
func overlap(events []*event, object ObjectKey) bool {
	for i, a := range events {
		for _, b := range events[i+1:] {
			if a.object == object && b.object == object && (b.late || (a.start <= b.end && b.start <= a.end)) {
				return true
			}
		}
	}
	return false
}

// inDollars is the exact value rounded up, worked out apart from package money.
func inDollars(q money.Quote, minor int64) int64 {
	unit := int64(1_000_000)
	for range q.Exponent {
		unit *= 10
	}
	return (minor*q.Value + unit - 1) / unit
}

// tell writes out what happened to an object.
func tell(events []*event, object ObjectKey) string {
	var b strings.Builder
	for _, e := range events {
		if e.object == object {
			fmt.Fprintf(&b, "%+v\n", *e)
		}
	}
	return b.String()
}
