// Package audit is the hash-chained record of decisions, outcomes and operator actions. Each record is
// encoded once, canonically; the stored bytes are what is hashed, each hash covers the one before, and the
// head of the chain is signed. A record that was changed, removed, added or moved is found by Verify, and
// so is a tail that was cut off.
//
// The package knows no store and no keys: signing comes in as a Signer.
package audit

import (
	"strconv"
	"time"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
)

// Kind says what a record is about.
type Kind string

// The kinds.
const (
	KindIntent   Kind = "intent"   // a call that was admitted, written before it leaves
	KindDenied   Kind = "denied"   // a call that was refused
	KindOutcome  Kind = "outcome"  // what became of an admitted call; Ref names its intent
	KindFolded   Kind = "folded"   // Count further denials like the one that Ref names
	KindOperator Kind = "operator" // an operator's action
	KindSystem   Kind = "system"   // start, stop, take-over, freeze
	// KindReconciled tells what was learned from the vendor about a call after its answer, or the lack of one. Ref names
	// the call's intent.
	KindReconciled Kind = "reconciled"
)

// Record is one entry before it is chained. Texts from outside are cleaned when it is encoded: bounded,
// without control characters, without anything that looks like a secret or a card number.
type Record struct {
	Seq   int64 // assigned by Chain.Append
	Chain string
	At    time.Time
	Kind  Kind
	Ref   int64 // number of the intent, for outcomes; of the first of its kind, for folded denials

	Key     policy.KeyID
	KeyName string
	// Credential is the last four characters of the key's text that was sent, on a call's first record.
	Credential string
	Presented  string // the credential that was sent, masked, where no key is known
	Upstream   policy.UpstreamID
	Mode       string // test or live
	Policy     string // digest of the policy that decided
	Node       string // the process that wrote it, of several on one store: its name and the end of its id
	Operation  policy.OperationName
	Method     string
	Route      string // the template, not the path: ids are in Object
	Object     string // the id in the path, if there is one
	Customers  []policy.CustomerID
	Account    policy.AccountID
	Effects    []Effect
	Judged           // of a call's first record
	Caps       []Cap // of an intent and an outcome: after it; of a denial: those that were full

	Verdict     string // allow or deny
	Shadowed    bool   // enforcement would have denied
	Failures    []policy.Failure
	Fate        string // moved, refused, unknown
	Proof       string
	Why         string
	Reservation int64
	// Finals are the last words about objects that the call brought: beyond their amounts nothing stays counted. Pending: a
	// later truth may lower what moved. Alone: of what was learned later, no other key is counted for the object.
	Finals  []Final
	Pending bool
	Alone   bool
	Created policy.CustomerID // the customer that the call made

	Status          int    // what the agent got
	UpstreamStatus  int    // what the vendor answered
	UpstreamRequest string // the vendor's request id
	Request         string // ours
	Repeat          string // of the agent's idempotency key: first, attached, anew
	Replayed        bool
	Guarded         bool
	Withheld        int
	OursMicros      int64 // time spent in Keybrake
	TheirsMicros    int64 // time spent waiting for the vendor

	// Trace is where the agent's own trace has the call, on its first record: W3C Trace Context, ids in lower-case hex.
	Trace, ParentSpan, Span string
	TraceState              string

	UserAgent string
	RunID     string
	From      string // address

	Operator string // who, for operator records
	Action   string // "key.create", "kill"
	Subject  string // what it was done to
	Diff     string // what changed
	Reason   string
	InFlight int64 // of a stop: calls that were on the wire
	Count    int64 // of a fold: the calls it stands for, the first one not included
}

// Effect is one movement of money in a record.
type Effect struct {
	Bucket string
	Amount money.Amount
	USD    money.USD
	Rate   money.RateID
	Object string

	// What the ledger needs to count it once more, of a call's first record. Value and MarginBP are the rate's, as in
	// money.Quote.
	Value, MarginBP int64
	Mode            policy.CountMode
	Ceiling         int64
	LookedUp        bool // the call did not name the amount
}

// Final is the last word about an object.
type Final struct {
	Bucket string
	Object string
	Amount money.Amount
}

// Cap is how one cap stood after the call. Limit, Held, Settled and Left are in its unit.
type Cap struct {
	Resource string
	Per      string
	Unit     policy.Unit
	Limit    int64
	Held     int64
	Settled  int64
	Left     int64
	ResetsAt time.Time // zero = never
}

// Deny marks the record as a denial for one more reason; the first one decides, and none that shadow had only marked. A
// full cap is told with its figures.
func (r *Record) Deny(f policy.Failure) {
	if r.Kind == KindIntent {
		r.Kind = KindDenied
	}
	r.Verdict = policy.Deny.String()
	if r.Shadowed {
		r.Shadowed = false
		r.Failures = append([]policy.Failure{f}, r.Failures...)
	} else {
		r.Failures = append(r.Failures, f)
	}
	if f.Cap != nil {
		r.Caps = append(r.Caps, refusing(f.Cap))
	}
}

// refusing is how a cap stood that refused a call.
func refusing(f *policy.CapFailure) Cap {
	c := Cap{
		Resource: string(f.Cap.Resource), Per: f.Cap.Per.String(), Unit: f.Cap.Unit,
		Limit: f.Cap.Limit, Held: f.Held, Settled: f.Settled, Left: f.Left,
	}
	if f.ResetsAtUnix != 0 {
		c.ResetsAt = time.Unix(f.ResetsAtUnix, 0).UTC()
	}
	return c
}

// Call is the number of the intent of the call that the record belongs to; 0 for none.
func (r *Record) Call() int64 {
	switch r.Kind {
	case KindIntent, KindDenied:
		return r.Seq
	default:
		return r.Ref
	}
}

// ID is how a record is named outside: "aud_<chain>_<number>".
func ID(chain string, seq int64) string { return "aud_" + chain + "_" + strconv.FormatInt(seq, 10) }
