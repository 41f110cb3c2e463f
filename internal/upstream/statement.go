package upstream

import (
	"context"
	"errors"
	"time"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
)

// MovementKind says what a line of a vendor's books is about. Amounts of a kind count in its direction: a refund of
// 5.00 that leaves is +5.00 of refunds, and one that comes back is -5.00.
type MovementKind string

// The kinds. The empty kind is on no line of the books that are compared.
const (
	Payment          MovementKind = "payment"           // collected from a customer
	Refund           MovementKind = "refund"            // given back to one
	Payout           MovementKind = "payout"            // to the account's own bank
	PayoutReversal   MovementKind = "payout_reversal"   // pulled back from it
	Transfer         MovementKind = "transfer"          // to a connected account
	TransferReversal MovementKind = "transfer_reversal" // pulled back from one
	FeeRefund        MovementKind = "fee_refund"        // of an application fee
	Topup            MovementKind = "topup"             // from the account's own bank
	Climate          MovementKind = "climate"           // for carbon removal
	OtherMovement    MovementKind = "other"             // fees, disputes, reserves: no call of ours makes them
)

// Origin says who made a movement, as far as the vendor tells.
type Origin uint8

// The origins. The zero value knows nothing.
const (
	OriginUnknown   Origin = iota
	OriginCall             // a call, or a person in the vendor's own pages; with which key is not told
	OriginAutomatic        // the vendor itself, a bank or a schedule
)

// String returns the word used in reports.
func (o Origin) String() string { return [...]string{"unknown", "call", "automatic"}[o] }

// MadeBy names one call that a movement goes back to.
type MadeBy struct {
	Request        string // the vendor's id of the request
	IdempotencyKey string // as the vendor got it; empty for none
}

// Movement is one line of a vendor's books.
type Movement struct {
	ID     string // of the line
	Type   string // the vendor's word for it
	Kind   MovementKind
	Object policy.ObjectID // what moved: a refund, a charge, a payout
	// Same are further objects under which a call may have counted the same money: the intent of a charge.
	Same []policy.ObjectID
	// Causes are objects that bring movements about again and again, without a call for each: a subscription.
	Causes []policy.ObjectID
	// Amount is in the currency that was asked for, positive in the direction of the kind.
	Amount money.Amount
	// Before is what the object had moved before the lines that were read, in Amount's currency; set on lines
	// that take something back.
	Before int64
	// After is what came back after the lines that were read, likewise; never above 0.
	After int64
	// Booked is what the balance changed by, fees not taken off, in the balance's currency: positive is more money.
	Booked money.Amount
	Fee    int64 // in Booked's currency
	At     time.Time
	Origin Origin
	Calls  []MadeBy
}

// Span is from From up to, and not with, To.
type Span struct{ From, To time.Time }

// Statement is what a vendor's books say about a span.
type Statement struct {
	Movements []Movement // oldest first
	// EventsFrom is since when the vendor still tells which calls made what; zero: it told nothing at all.
	EventsFrom time.Time
	// Notes are what a reader must know, a sentence each.
	Notes []string
}

// Shows says how a counted effect shows in the vendor's books.
type Shows uint8

// How effects show. The zero value is the strict one: it is looked for.
const (
	ShowsNow   Shows = iota // a line is there as soon as the call was answered
	ShowsLater              // a line comes when somebody pays, captures or a time comes; perhaps never
	ShowsNever              // it is no money of these books
)

// Trace is where to look for an effect in the vendor's books.
type Trace struct {
	Kind  MovementKind
	Shows Shows
	Why   string // for ShowsLater and ShowsNever: one phrase
	// AtMost: what was counted is the most that it could come to, because the answer does not tell the amount.
	AtMost bool
}

// Found is what the vendor says about one object.
type Found struct {
	Shows Shows
	Why   string // one phrase: its state, in the vendor's words
	// Moved is what it has moved so far; Known is false where the answer does not tell.
	Moved money.Amount
	Known bool
	At    time.Time // of the movement; zero if not told
}

// ErrTooLong says that a span has more lines than one statement reads.
var ErrTooLong = errors.New("too many lines for one statement")

// Bookkeeper reads a vendor's own books. All methods are safe for concurrent use.
type Bookkeeper interface {
	// Movements reads the lines of a span. Each page is one look; tell hears how many there have been and may
	// end it. now is the time by the caller's clock: the vendor does not tell for ever who made what. Errors wrap
	// ErrCredential where the secret may not read the books, ErrTooLong where the span has too many lines.
	Movements(ctx context.Context, span Span, now time.Time, look Lookup, tell func(pages int) error) (Statement, error)
	// Trace says of each effect of a call where to look for it. sent is the call as it left; nil if it is not known.
	Trace(op policy.OperationName, sent *Request, effects []policy.Effect) []Trace
	// Find asks for one object that should have moved something of a kind. ok is false for objects that it cannot ask
	// for, or that move something else.
	Find(ctx context.Context, kind MovementKind, id policy.ObjectID, look Lookup) (found Found, ok bool, err error)
}
