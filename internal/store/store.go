// Package store says what an engine must do for Keybrake: keep rows, lock them, and make a batch of
// decisions durable in one transaction. The decisions themselves are made here (Batch) and in ledger,
// once over every engine.
//
// The data plane uses three verbs, each grouped with those of other callers into one transaction and one
// fsync: Admit (brake, holds, intent record), Resolve (fate, outcome record) and Log (records alone). The
// control plane uses Update, one transaction of its own per operator action.
package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/vault"
)

// Errors that callers branch on.
var (
	// ErrUnavailable: the store could not take the work (closed, full, broken disk). Nothing was made
	// durable, and it is safe to say so to an agent. One case is open: after a failed flush the work may be there
	// at the next start, as a hold whose outcome is unknown; the store takes nothing more until then.
	ErrUnavailable = errors.New("store unavailable")
	// ErrUncertain comes with ErrUnavailable in that case: whether the work is there will be seen at the next start.
	ErrUncertain = errors.New("the end of the transaction is not known")
	// ErrBusy: the queue is full or the wait was too long; nothing was made durable.
	ErrBusy = errors.New("store busy")
	// ErrOnTheWire: the call may still be on its way, so nobody can say what becomes of it.
	ErrOnTheWire = errors.New("the call may still be on the wire")
	// ErrNotFound: no such row.
	ErrNotFound = errors.New("not found")
	// ErrExists: the name or id is taken.
	ErrExists = errors.New("already exists")
)

// DB is one engine. All methods are safe for concurrent use.
type DB interface {
	// Admit judges the brake again, makes the holds and writes the intent record, all in one transaction.
	// When it returns an Admitted with verdict allow, that is durable: the call may leave. A full cap, a
	// pulled brake or a reused idempotency key is a value, not an error. On an error nothing may be sent;
	// ErrUnavailable and ErrBusy say that nothing was written.
	//
	// Work that the engine has not taken up when ctx ends, or when its own wait is over, is withdrawn: ErrBusy, and
	// nothing of it will ever be written. What it has taken up is waited for, so a late answer is never a lie. The
	// same holds for Resolve, Log and Update.
	Admit(ctx context.Context, a *Admission) (Admitted, error)
	// Resolve gives a reservation its fate and writes the outcome record. It goes before admissions in a
	// batch: what is given back can be used by the next.
	Resolve(ctx context.Context, r *Resolution) (Resolved, error)
	// Log appends records and returns their numbers once they are durable.
	Log(ctx context.Context, records ...*audit.Record) ([]audit.Entry, error)
	// Update runs f in one write transaction, with its audit records; the brake lane goes before
	// everything that waits, and is not withdrawn before ctx ends. If f returns an error, nothing is written.
	Update(ctx context.Context, lane Lane, f func(Tx) error) error
	// View runs f on a consistent snapshot; writing methods of its Tx fail.
	View(ctx context.Context, f func(Tx) error) error
	// Attached finds the reservation that a write with this idempotency key belongs to, or ErrNotFound.
	Attached(ctx context.Context, key policy.KeyID, account policy.AccountID, idem string) (*ledger.Reservation, error)
	// Peek returns the committed running totals, for decisions that need no lock (an early "the cap is
	// full"). Admit decides.
	Peek(ctx context.Context, keys []ledger.AccountKey) ([]ledger.Account, error)
	// Seed brings a seeding up to the present, in small transactions between which calls and brakes go on, and
	// moves its Done. It can take minutes for a key with millions of calls. On an error what is done stays done.
	Seed(ctx context.Context, s *Seeding) error
	// Now is the store's clock: never behind the last committed record, so no window ever opens again.
	Now() time.Time
	// SignHead signs the chain's head as of now and keeps it, if the chain has grown since the last head. It lets go
	// of heads that later ones supersede (audit.Superseded), some at each call, so that they do not pile up.
	SignHead(ctx context.Context) error
	// Archive moves records that were written before a time into one archive file, as many as fit, and returns how many
	// those were; 0: there is nothing to move yet. It works in small steps beside the calls and can take a minute. The
	// newest records always stay, and so do a few that do not fill a file until the first of them is a day older than
	// before. A crash loses and doubles nothing: the next call goes on where it was. One call at a time.
	Archive(ctx context.Context, before time.Time) (int64, error)
	// Check reports what stands against taking money calls (nil = ready).
	Check(ctx context.Context) error
	Close() error
}

// Lane orders writers of the control plane.
type Lane uint8

// The lanes. LaneBrake is served before any queued call.
const (
	LaneControl Lane = iota
	LaneBrake
)

// Admission is one call that wants to leave.
type Admission struct {
	Key        policy.KeyID
	KeyVersion int64 // of the policy that was judged; an older one is refused as stale
	Upstream   policy.UpstreamID
	Writes     bool
	// Reserve asks for holds; nil for a read. With Resend it asks for none and only says which caps are told.
	Reserve *ledger.Request
	// AllowRepeat lifts the refusal of a call that looks like one whose outcome is unknown.
	AllowRepeat bool
	// AttachFor is how long a reservation may be attached to after its first send; an older one with the
	// same idempotency key is detached and the call is held anew.
	AttachFor time.Duration
	// Resend attaches to a reservation that exists (an idempotent retry); 0 otherwise.
	Resend ledger.ReservationID
	// Ended says why the key is good for no call any more at a time, that of the admission; nil: it does not end. It
	// runs inside the batch: pure, and quick.
	Ended func(now time.Time) *policy.Failure
	// Record is the intent record. The batch completes it: number, time, verdict, failures, caps,
	// reservation. It belongs to the store until Admit returns.
	Record *audit.Record
	// StatusOf tells which status an agent gets for a denial, for the record of one that is decided here. It runs
	// inside the batch: pure, and quick. Nil leaves the status out.
	StatusOf func(policy.Failure) int
}

// Admitted is what came of an Admission.
type Admitted struct {
	Verdict policy.Verdict
	// Braked is the scope whose brake refused ("all", "upstream:...", "key:..."), with its mode.
	Braked string
	Mode   vault.Brake
	// Frozen is why money of this key is frozen; empty if it is not.
	Frozen string
	// Full lists the caps that are full (under shadow also on an allowed call).
	Full []policy.CapFailure
	// Stale: the key's policy changed since it was judged; judge anew.
	Stale bool
	// InUse is the reservation that already has this idempotency key; nothing was written.
	InUse *ledger.Reservation
	// Pending is the reservation of the same call whose outcome is unknown.
	Pending *ledger.Reservation
	// Detached: the idempotency key belonged to a reservation too old to attach to. If the vendor replays
	// that one's answer, it was counted then.
	Detached bool
	// Reservation is what was made (or attached to); nil for a read.
	Reservation *ledger.Reservation
	Entry       audit.Entry
	// Caps is how the caps that an admitted call concerns stand after it, in the windows of now.
	Caps []CapState
}

// Resolution is the end of a reservation.
type Resolution struct {
	Reservation ledger.ReservationID // 0 = record only
	// Made is when the reservation was made. Another one with its number is not it: a store that was set back, which on
	// PostgreSQL can happen while calls are on the wire, gives numbers anew. Zero: whichever has the number.
	Made   time.Time
	Fate   ledger.Fate
	Record *audit.Record
	// Joins is a customer that the call created and that joins the key's list.
	Joins policy.CustomerID
	// Asked, if set, is when the call had been sent last when the vendor was asked about it. If it was sent again or
	// resolved meanwhile, nothing changes and nothing is recorded.
	Asked time.Time
	// OnWire: nothing changes, and nothing is recorded, unless the call is still on the wire.
	OnWire bool
	// Learned, if set, is what became of an object after the calls that it comes from: then there is no reservation.
	Learned *Learned
	// Freeze stops the key's money because the guard tripped; empty = no.
	Freeze string
	// Again is set where the vendor ran a call once more that it had been settled for: what moved is written down
	// beside the reservation, past every cap, and the key's money freezes.
	Again *Rerun
	// decided is what came of it in the last transaction that it was in, whatever became of that.
	decided *Resolved
}

// Learned is the last word about an object that a key is counted for.
type Learned struct {
	Key   policy.KeyID
	Final ledger.Final
	// Alone: no other key is counted for the object.
	Alone bool
}

// Rerun is a second run of a settled call, for which nothing was held.
type Rerun struct {
	Request *ledger.Request
	Fate    ledger.Fate // settled
}

// Resolved is what came of a Resolution.
type Resolved struct {
	// Already: the reservation had another fate before, and the record says so; or, for what the vendor was asked about,
	// there is nothing new and no record. Nothing else changed.
	Already bool
	// Forgotten: the store has no such reservation any more. The outcome is on record, and unless nothing moved, the key's
	// money is frozen.
	Forgotten bool
	// State is where the reservation stands now.
	State ledger.State
	// Overs: more moved than was held. The key's money is frozen in the same transaction.
	Overs []ledger.Over
	// Caps is how the caps that the reservation counts in stand after it, in its own windows; after a second run,
	// those of what that run added.
	Caps  []CapState
	Entry audit.Entry
}

// Scope names for brakes. A freeze is a brake on a key's money.
const ScopeAll = "all"

// KeyScope names the brake of one key.
func KeyScope(id policy.KeyID) string { return "key:" + string(id) }

// UpstreamScope names the brake of one upstream.
func UpstreamScope(id policy.UpstreamID) string { return "upstream:" + string(id) }

// FreezeScope names the freeze of one key's money.
func FreezeScope(id policy.KeyID) string { return "freeze:" + string(id) }

// ScopeBooks is the freeze of every key's money: the books are not the ones that were written.
const ScopeBooks = "freeze:*"

// BrakeRow is a pulled brake or a freeze. Scopes without a row are normal.
type BrakeRow struct {
	Scope  string      `json:"scope"`
	Mode   vault.Brake `json:"-"`
	Reason string      `json:"reason,omitempty"`
	Actor  string      `json:"actor,omitempty"`
	At     time.Time   `json:"at"`
}

// KeyRow is a vault key as stored: never its secret, only digests. Policy is the canonical YAML.
type KeyRow struct {
	ID       policy.KeyID
	Name     string
	Upstream policy.UpstreamID
	Version  int64 // grows with every change; assigned by PutKey
	Live     bool  // not revoked and not expired when written: live names are unique
	Digest   string
	Policy   []byte
	// Doc is vault's own encoding of everything else.
	Doc []byte
}

// UpstreamRow is an upstream as stored; the secret inside Doc is sealed.
type UpstreamRow struct {
	ID   policy.UpstreamID
	Name string
	Doc  []byte
}

// RecordQuery selects audit records, newest first unless Ascending.
type RecordQuery struct {
	Key       policy.KeyID // empty = all
	Call      int64        // with the records of one call: its intent's number
	Deeds     bool         // only what belongs to no call: what operators and the server itself did
	After     int64        // exclusive bound by number in the direction of reading; 0 = from the end
	From, To  int64        // inclusive bounds by number, whatever the direction; 0 = open
	Limit     int          // at most 1000; 0 = 100
	Ascending bool
}

// RecordPage is what a RecordQuery found.
type RecordPage struct {
	Entries []audit.Entry
	// Next is where to go on (RecordQuery.After); 0 at the end. Records in archives are looked at in bounded pieces, so
	// a page may have a Next though it is short, or empty.
	Next int64
}

// Archive is a file with a stretch of the record that is no longer in the store itself.
type Archive struct {
	Path        string
	First, Last int64
	Hash        [32]byte  // of the last record
	From, Until time.Time // when the first and the last record were written
	// Absent: the file is not there, nor is any before it. That is how operators let go of old records.
	Absent bool
}

// Before is the end of the chain before the first record that is still there, given all archives.
func Before(archives []Archive) audit.Chain {
	at := audit.NewChain(audit.FirstChain)
	for _, a := range archives {
		if a.Absent {
			at.Seq, at.Hash = a.Last, a.Hash
		}
	}
	return at
}

// ArchiveError says that records cannot be read because an archive file is missing, though older ones are there, or is
// not as it was written.
type ArchiveError struct {
	Path        string
	First, Last int64
	What        string
}

// Error names the file and its records.
func (e *ArchiveError) Error() string {
	return fmt.Sprintf("the archive file %s with the records %d to %d: %s", e.Path, e.First, e.Last, e.What)
}

// Tx is one transaction's view of the control plane's rows. Not safe for concurrent use.
type Tx interface {
	Keys
	Upstreams
	Brakes
	Books
	Records
	People
	Alerts
	// Now is the transaction's time.
	Now() time.Time
	// Meta reads and writes small settings of the store itself.
	Meta(name string) (string, error)
	SetMeta(name, value string) error
	Rates() ([]money.Rate, error)
	PutRate(money.Rate) error
}

// Keys is the part of Tx about vault keys.
type Keys interface {
	// EachKey reads all keys, oldest first.
	EachKey(func(KeyRow) error) error
	Key(policy.KeyID) (KeyRow, error)
	// PutKey writes a key; a live name that another key has is ErrExists. It returns the new version.
	PutKey(KeyRow) (int64, error)
}

// Upstreams is the part of Tx about upstreams.
type Upstreams interface {
	Upstreams() ([]UpstreamRow, error)
	PutUpstream(UpstreamRow) error
	DeleteUpstream(policy.UpstreamID) error
}

// Brakes is the part of Tx about brakes and freezes.
type Brakes interface {
	Brakes() ([]BrakeRow, error)
	PutBrake(BrakeRow) error
	// LiftBrake removes a row and reports whether there was one.
	LiftBrake(scope string) (bool, error)
}

// Books is the part of Tx about money.
type Books interface {
	Account(ledger.AccountKey) (ledger.Account, error)
	// AccountsIn reads the running totals that all keys have in one window, by its name, in no order. A cap that nothing was
	// counted against in the window has none.
	AccountsIn(per policy.Window, label string, f func(ledger.AccountKey, ledger.Account) error) error
	Reservation(ledger.ReservationID) (*ledger.Reservation, error)
	// OpenReservations lists what still waits for its fate, oldest first; of one key or (empty) of all.
	OpenReservations(policy.KeyID) ([]*ledger.Reservation, error)
	// Unresolved lists at most n reservations whose outcome is unknown, oldest first, behind a number.
	Unresolved(after ledger.ReservationID, n int) ([]*ledger.Reservation, error)
	// Counted lists the keys that are counted for an object, with what it counts for there.
	Counted(policy.ObjectID) (map[ledger.ObjectKey]ledger.Object, error)
	// ReservationsSince reads the reservations of one key or (empty) of all from a time on, oldest first.
	ReservationsSince(key policy.KeyID, since time.Time, f func(*ledger.Reservation) error) error
	// Seed does what is left of a seeding, in the transaction that adds its caps.
	Seed(Seeding) error
}

// Records is the part of Tx about the audit log.
type Records interface {
	// Append writes a record within this transaction.
	Append(*audit.Record) (audit.Entry, error)
	// EachRecord reads entries in ascending order from number `from` (inclusive), archives included.
	EachRecord(from int64, f func(audit.Entry) error) error
	// Query finds records, also in archives; what is in one that is missing or damaged is an *ArchiveError.
	Query(RecordQuery) (RecordPage, error)
	// Archives lists the archive files, oldest first, without looking into them.
	Archives() ([]Archive, error)
	Heads(from int64) ([]audit.Head, error)
	// FirstAt is the number of the first record that was written at a time or later; the next number to be given
	// if there is none. It reads a few records, however many there are.
	FirstAt(time.Time) (int64, error)
	// Height is the number of the last record and its hash.
	Height() (int64, [32]byte, error)
}
