package admin

import (
	"cmp"
	"slices"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
)

const (
	// repeatWithin is how far back repeated calls are counted together.
	repeatWithin = 10 * time.Minute
	// maxRepeats is how many different writes of a key are watched at once: who does more than these does not repeat.
	maxRepeats = 32
	// maxRepeatCalls is how many calls of each are remembered.
	maxRepeatCalls = 64
)

// repeats are the writes of a key that may be a loop: the same operation for the same customer or object.
type repeats []*repeat

// repeat is one of them, with the times of its last calls, oldest first.
type repeat struct {
	operation, subject string
	at                 []time.Time
}

// count takes a write in. What names neither a customer nor an object is told apart by its operation alone.
func (r *repeats) count(at time.Time, rec *audit.Sketch) {
	subject := cmp.Or(rec.Object, string(rec.Customer), "no customer")
	i := slices.IndexFunc(*r, func(o *repeat) bool { return o.operation == string(rec.Operation) && o.subject == subject })
	if i < 0 {
		if len(*r) >= maxRepeats {
			oldest := slices.MinFunc(*r, byLast)
			*r = slices.DeleteFunc(*r, func(o *repeat) bool { return o == oldest })
		}
		*r = append(*r, &repeat{operation: string(rec.Operation), subject: subject})
		i = len(*r) - 1
	}
	one := (*r)[i]
	one.at = append(one.at, at)
	if n := len(one.at); n > maxRepeatCalls {
		one.at = slices.Clone(one.at[n-maxRepeatCalls:])
	}
}

func byLast(a, b *repeat) int { return a.at[len(a.at)-1].Compare(b.at[len(b.at)-1]) }

// within counts the calls since a time, and forgets what has none since.
func (r *repeats) within(since time.Time, each func(operation, subject string, n int)) {
	*r = slices.DeleteFunc(*r, func(o *repeat) bool {
		i := 0
		for i < len(o.at) && o.at[i].Before(since) {
			i++
		}
		o.at = o.at[i:]
		return len(o.at) == 0
	})
	for _, o := range *r {
		each(o.operation, o.subject, len(o.at))
	}
}
