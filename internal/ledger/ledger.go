// Package ledger holds money against caps before it moves and settles or releases it after.
//
// The rules are written once, over a Book: the rows that a store fetched (and locked) for a batch of
// callers. The ledger decides in memory, in arrival order, purely; the store then writes the rows that
// changed, in one transaction with the audit records. The package knows neither engines nor vendors nor
// clocks.
//
// Invariants, checked on every write (a breach panics: it is our bug, and money must stop):
//   - held and settled are never negative;
//   - held + settled + asked never passes the limit when a hold is made;
//   - a reservation resolves once: reserved or unknown becomes settled or released, never back;
//   - what reservations count for an object, open and settled, sums up to what the object counts for;
//   - a release carries a proof from the closed list.
package ledger

import (
	"time"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
)

// ReservationID numbers reservations; it is assigned by the store and grows. Shown as "rsv_<number>".
type ReservationID int64

// State is where a reservation stands. The zero value is Reserved: an unwritten field keeps its hold.
type State uint8

// The states. Reserved may become Settled, Released or Unresolved; Unresolved may become Settled or
// Released; the others are final.
const (
	Reserved State = iota
	Unresolved
	Settled
	Released
)

// String returns the word used in records. Unresolved shows as "unknown", the word of the contract.
func (s State) String() string {
	return [...]string{"reserved", "unknown", "settled", "released"}[s]
}

// Open reports whether the reservation still waits for its fate.
func (s State) Open() bool { return s == Reserved || s == Unresolved }

// Proof says why a reservation could be released. The zero value is no proof.
type Proof string

// The closed list of proofs (DESIGN.md section 4).
const (
	ProofNotWritten Proof = "not_written" // no byte of the request was written
	ProofNotSent    Proof = "not_sent"    // our own last look stopped it
	ProofRefused    Proof = "refused"     // the vendor refused before doing anything
	ProofReplayed   Proof = "replayed"    // the vendor replayed a call that was counted before
	ProofOperator   Proof = "operator"    // a person decided, with a reason
	ProofAbsent     Proof = "absent"      // the vendor's lists show no effect
)

func (p Proof) valid() bool {
	switch p {
	case ProofNotWritten, ProofNotSent, ProofRefused, ProofReplayed, ProofOperator, ProofAbsent:
		return true
	}
	return false
}

// uncounts reports whether the proof also takes the call out of `calls` caps: only a call that was never
// written upstream does.
func (p Proof) uncounts() bool { return p == ProofNotWritten || p == ProofNotSent }

// AccountKey identifies one running total: a cap of a principal in one window. Label is the window's
// identity ("2026-11-23", "2026-W48"), so a new window is a new account and nothing is reset.
type AccountKey struct {
	Key      policy.KeyID
	Resource policy.Resource
	Per      policy.Window
	Unit     policy.Unit
	Label    string
}

// Account is a running total in the cap's unit (micro-dollars or calls).
type Account struct {
	Held    int64 // set aside, fate open
	Settled int64 // moved
}

// ObjectKey identifies what is counted once: one object of a vendor, per principal and bucket. The
// currency belongs to it: an object that changes its currency is counted anew, in full.
type ObjectKey struct {
	Key      policy.KeyID
	Bucket   policy.Resource
	Object   policy.ObjectID
	Currency money.Currency
}

// Hold is an amount set aside against one account.
type Hold struct {
	Account AccountKey
	// Effect is the index of the effect that the hold belongs to; -1 for a hold on calls.
	Effect int
	Amount int64 // in the account's unit; what is still counted after resolution
	// Limit and ResetsAt are the cap's own when the hold was made, for telling how it stands. ResetsAt is zero where
	// the window never ends. Nothing is decided by them.
	Limit    int64
	ResetsAt time.Time
	// From is the reservation that made the hold, if that one was released and handed it over (0 = own). Such
	// a hold keeps its window and the rate it was made at; Reservation.Handed says what it stands for.
	From ReservationID
}

// Handed is a part of what an effect counts for that a released reservation had held before.
type Handed struct {
	Effect int
	From   ReservationID
	Minor  int64
	At     time.Time // when From was made: it counts in the windows of then
}

// Reservation is all holds of one call, all or none. Its windows, quotes and caps are fixed when it is
// made.
type Reservation struct {
	ID        ReservationID
	Key       policy.KeyID
	Upstream  policy.UpstreamID
	Operation policy.OperationName
	Customers []policy.CustomerID
	State     State
	Proof     Proof
	Effects   []policy.Effect
	// Counted is what each effect still counts for, in minor units: what was held while open, what moved
	// once settled, less what a final state gave back.
	Counted []int64
	// Handed are the parts of Counted that other reservations handed over; the rest is its own, at its quote.
	Handed   []Handed
	Holds    []Hold
	Marked   bool // made in shadow mode: counted, never refused
	Pending  bool // settled, but a later truth may lower it
	At       time.Time
	Resolved time.Time
	AuditSeq int64 // of its intent record

	// What an idempotent retry needs (empty IdemKey: the agent sent none).
	IdemKey     string
	IdemAccount policy.AccountID
	Fingerprint [32]byte
	// Sent is the request as it left, sealed against change: a retry sends the very same.
	Sent      []byte
	FirstSent time.Time
	// LastSent is when it was sent once more; the zero time if it was not.
	LastSent time.Time
	// Absent is when the vendor's lists first showed nothing of it, after the last time it was sent; the zero time if
	// they were not read yet, or showed something.
	Absent time.Time
	// UpstreamRequest is the vendor's id of the answer that resolved it.
	UpstreamRequest string
	Why             string
}

// Request asks for a reservation.
type Request struct {
	Key       policy.KeyID
	Upstream  policy.UpstreamID
	Operation policy.OperationName
	Customers []policy.CustomerID
	Caps      []policy.Cap // of the key's policy, all of them
	Zone      *time.Location
	// Effects are resolved: Amount and Quote are set. One that is not Known must be Unmeterable, and policy
	// must have allowed it all the same: it counts for nothing. The reservation keeps the slice.
	Effects []policy.Effect
	// Counts: the call is a write and counts as one in the `calls` caps of these buckets (the buckets of
	// its effects, or its own resource where it has none).
	Counts []policy.Resource
	// Soft: shadow mode. A full cap does not refuse; the holds are marked.
	Soft bool

	IdemKey     string
	IdemAccount policy.AccountID
	Fingerprint [32]byte
	Sent        []byte
	AuditSeq    int64
}

// Fate is how a reservation resolves.
type Fate struct {
	State   State // Settled, Released or Unresolved
	Proof   Proof // for Released
	Moved   []Moved
	Pending bool
	Finals  []Final
	// Absent is when the vendor's lists first showed nothing of the call; for Unresolved.
	Absent time.Time
	// UpstreamRequest and Why go into the reservation for the record.
	UpstreamRequest string
	Why             string
}

// Moved is what one effect came to; in the order of the reservation's effects.
type Moved struct {
	Amount money.Amount
	Object policy.ObjectID
}

// Final is the last word about an object: beyond Amount nothing stays counted.
type Final struct {
	Bucket policy.Resource
	Object policy.ObjectID
	Amount money.Amount
}

// Sends is when the call was sent last.
func (r *Reservation) Sends() time.Time {
	if r.LastSent.IsZero() {
		return r.FirstSent
	}
	return r.LastSent
}

// Over reports that more moved than was held: the truth was written, the caller must freeze the key and
// alarm. Figures are at the reservation's own quote, and zero for a currency that had none (then no cap in
// dollars was there to be passed).
type Over struct {
	Bucket      policy.Resource
	Held, Moved money.USD
}
