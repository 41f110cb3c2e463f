package reconcile

import (
	"time"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

// A statement holds what the ledger says moved against the vendor's own books. Compare is pure: it sees two lists and
// decides by them alone. What it cannot prove it does not claim: a line is matched by the object that moved, by the
// request that moved it or by the idempotency key that the vendor got, and by nothing else.

// Class says how a line of a statement stands.
type Class string

// The classes. Four of them are differences; the others say why there is none.
const (
	Matched      Class = "matched"       // both say the same
	Open         Class = "open"          // held: nobody knows yet whether it moved
	NotYet       Class = "not_yet"       // counted, and moves later, or never
	NotMoney     Class = "not_money"     // counted, and nothing of these books
	AtMost       Class = "at_most"       // counted as the most that it could come to, and less moved
	Unmetered    Class = "unmetered"     // moved by a call that the policy lets pass uncounted
	Elsewhere    Class = "elsewhere"     // moved by a vault key of another upstream
	Automatic    Class = "automatic"     // moved without any call: fees, payouts on schedule, renewals, disputes
	MissingHere  Class = "missing_here"  // moved, and the ledger does not have it
	MissingThere Class = "missing_there" // the ledger has it, and the vendor shows nothing
	Different    Class = "different"     // another amount
)

// Difference reports whether somebody has to look at a line of this class.
func (c Class) Difference() bool { return c == MissingHere || c == MissingThere || c == Different }

// Entry is one counted effect of one call, as the ledger has it.
type Entry struct {
	Reservation ledger.ReservationID
	Effect      int // -1: the call counted nothing
	Key         policy.KeyID
	Operation   policy.OperationName
	Account     policy.AccountID
	At          time.Time // of the admission: its window
	Resolved    time.Time // zero while open
	State       ledger.State
	Proof       ledger.Proof
	Pending     bool // settled, and not the vendor's last word
	Trace       upstream.Trace
	Amount      money.Amount // what it counts for now
	USD         money.USD    // the same at its own quote, rounded up
	// Objects are those that the call counted under, its own first.
	Objects        []policy.ObjectID
	Request        string // the vendor's, of the answer that resolved it
	IdempotencyKey string // as the vendor got it
	// Elsewhere: of another upstream. It can only claim what moved.
	Elsewhere bool
}

// Moving is one line of the vendor's books, with the account whose books they are ("" is the upstream's own).
type Moving struct {
	upstream.Movement
	Account policy.AccountID
}

// Comparison is what Compare compares.
type Comparison struct {
	From, To string // days, inclusive, "2026-11-23"
	// Zone tells in which time zone a key's days are. Lines without a key have days of UTC.
	Zone func(policy.KeyID) *time.Location
	// Ours reports whether an idempotency key has the form of Keybrake's own.
	Ours      func(string) bool
	Entries   []Entry
	Movements []Moving
	// AsOf is when reading began: what was not over by then may stand in one of the lists only.
	AsOf time.Time

	counted map[counted]ledger.ReservationID
}

// fresh is how young a call may be for the vendor's lists to lack it.
const fresh = time.Minute

// Line is one movement as both sides have it; several calls and several lines of the vendor's can be one.
type Line struct {
	Class Class
	Day   string       // of the call that counted; of the movement where there is none
	Key   policy.KeyID // empty: none that we know of
	Kind  upstream.MovementKind
	// Ledger and Vendor are in the same currency, unless the class is Different and they are not.
	Ledger, Vendor money.Amount
	USD            money.USD // of Ledger
	Entries        []Entry
	Movements      []Moving
	// Shared: the vendor's amount also stands on another key's line. Each key counts an object for itself.
	Shared bool
	// Ours: nobody's line, and its idempotency key has Keybrake's form.
	Ours bool
	// By is what matched them: object, request, idempotency_key or look_up.
	By     string
	Origin upstream.Origin
	Why    string
}

// inside reports whether a line concerns the days asked for: by the ledger's day, or by that of a movement.
func (l *Line) inside(c *Comparison) bool {
	if l.Day >= c.From && l.Day <= c.To {
		return true
	}
	for i := range l.Movements {
		if d := c.day(l.Key, l.Movements[i].At); d >= c.From && d <= c.To {
			return true
		}
	}
	return false
}

// day is the civil day of an instant for a key.
func (c *Comparison) day(key policy.KeyID, at time.Time) string {
	zone := time.UTC
	if key != "" && c.Zone != nil {
		if z := c.Zone(key); z != nil {
			zone = z
		}
	}
	return ledger.Label(policy.PerDay, at, zone)
}
