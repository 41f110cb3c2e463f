package upstream

import (
	"context"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
)

// Inquiry is a call whose answer never came, as it was sent.
type Inquiry struct {
	Sent *Request
	// Effects are those that were held, with their amounts.
	Effects []policy.Effect
	// From and To are when the vendor may have run it, by our clock.
	From, To time.Time
	// Owned reports whether an object is counted by some other call already.
	Owned func(policy.ObjectID) (bool, error)
}

// Inquirer finds out what became of calls, by reading. Safe for concurrent use.
type Inquirer interface {
	// Inquire reads what a call would have left behind: the object that it acts on, the list that its object would
	// be in, then the vendor's log of events. Moved tells what it came to; Refused, that nothing of it is to be seen
	// where it would be if it had run; Unknown, that nobody can tell. Why says in one sentence what was read. An error
	// means that the vendor could not be asked.
	Inquire(ctx context.Context, q *Inquiry, look Lookup) (Outcome, error)
}

// Truth is the last word about an object that may be counted.
type Truth struct {
	Final Final
	// Why says in one sentence what was seen.
	Why string
}

// Later tells what became of objects after the calls that they come from. Safe for concurrent use.
type Later interface {
	// Changes reads which objects have changed since a place in the vendor's log of events (empty: since the time
	// given), oldest first, and the place to go on from. more asks to be called again at once.
	Changes(ctx context.Context, place string, since time.Time, look Lookup) (changed []Changed, next string, more bool, err error)
	// Announced reads a message of the vendor's that was verified: the object that it is about.
	Announced(message []byte) (Changed, error)
	// Truths reads an object as it is now and says what remains counted for it, in each bucket; nothing while its last
	// word is not spoken.
	Truths(ctx context.Context, c Changed, look Lookup) ([]Truth, error)
}

// Changed is an object that has changed.
type Changed struct {
	Type   string // the vendor's name for what it is
	Object policy.ObjectID
	Event  string // the vendor's id of the message
}
