package store

import (
	"errors"
	"fmt"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/vault"
)

// Facts is what a batch must know of the store beyond the ledger's rows. The engine answers from its
// transaction.
type Facts interface {
	// Brake returns the pulled brake or freeze of a scope, if there is one.
	Brake(scope string) (BrakeRow, bool, error)
	// KeyVersion returns the version of a key's row.
	KeyVersion(policy.KeyID) (int64, error)
	// Attached returns the reservation with this idempotency key; 0 if there is none.
	Attached(key policy.KeyID, account policy.AccountID, idem string) (ledger.ReservationID, error)
	// Pending returns the reservations of this call (operation and parameters) whose outcome is unknown: several
	// if they were on the wire at the same time.
	Pending(key policy.KeyID, fingerprint [32]byte) ([]ledger.ReservationID, error)
	// Recorded reports whether the record with this number has this hash. The newest records alone are looked among.
	Recorded(seq int64, hash [32]byte) (bool, error)
}

// Batch decides the work of many callers in arrival order, in memory. The engine opens one per
// transaction and afterwards writes what it holds: Book.Changes, Entries, Freezes and Joins. A batch
// whose transaction failed is thrown away. Not safe for concurrent use.
type Batch struct {
	Now   time.Time
	Node  string // the process that decides, as records name it; empty where there is but one
	Book  *ledger.Book
	Chain audit.Chain // a copy: the engine takes it over after the commit
	Facts Facts

	Entries []audit.Entry
	Freezes []BrakeRow
	Joins   []Join

	attached map[attachment]ledger.ReservationID
	pending  map[repeat][]ledger.ReservationID // became unknown in this batch
}

type repeat struct {
	key         policy.KeyID
	fingerprint [32]byte
}

// Join is a customer that becomes part of a key's list.
type Join struct {
	Key      policy.KeyID
	Customer policy.CustomerID
}

type attachment struct {
	key     policy.KeyID
	account policy.AccountID
	idem    string
}

// Admit decides one admission. The order is the promise: brake first, then the key's version and whether it has ended,
// then what the idempotency key is bound to, then the caps.
func (b *Batch) Admit(a *Admission) (Admitted, error) {
	if refused, err := b.braked(a); err != nil || refused != nil {
		if err != nil {
			return Admitted{}, err
		}
		refused.Entry = b.appendDenial(a)
		return *refused, nil
	}
	version, err := b.Facts.KeyVersion(a.Key)
	if err != nil {
		return Admitted{}, fmt.Errorf("read version of %s: %w", a.Key, err)
	}
	if version != a.KeyVersion {
		return Admitted{Stale: true}, nil // nothing was decided, so nothing is recorded: the caller judges anew
	}
	if a.Ended != nil {
		if ended := a.Ended(b.Now); ended != nil {
			a.Record.Deny(*ended)
			return Admitted{Verdict: policy.Deny, Entry: b.appendDenial(a)}, nil
		}
	}
	switch {
	case a.Resend != 0:
		return b.resend(a)
	case a.Reserve != nil:
		return b.reserve(a)
	default:
		a.Record.Verdict = policy.Allow.String()
		return Admitted{Verdict: policy.Allow, Entry: b.append(a.Record)}, nil
	}
}

// braked returns the refusal of a pulled brake or a freeze, with the record completed.
func (b *Batch) braked(a *Admission) (*Admitted, error) {
	for _, scope := range [...]string{ScopeAll, UpstreamScope(a.Upstream), KeyScope(a.Key)} {
		row, pulled, err := b.brake(scope)
		if err != nil {
			return nil, err
		}
		if pulled && (row.Mode == vault.Stopped || a.Writes) {
			f := vault.BrakeFailure(row.Scope, row.Mode)
			a.Record.Deny(f)
			return &Admitted{Braked: row.Scope, Mode: row.Mode}, nil
		}
	}
	if !a.Writes {
		return nil, nil
	}
	row, frozen, err := b.brake(ScopeBooks)
	if err == nil && frozen {
		a.Record.Deny(booksFailure())
		return &Admitted{Frozen: row.Reason}, nil
	}
	if err == nil {
		row, frozen, err = b.brake(FreezeScope(a.Key))
	}
	if err != nil || !frozen {
		return nil, err
	}
	a.Record.Deny(FrozenFailure(row.Reason))
	return &Admitted{Frozen: row.Reason}, nil
}

// FrozenFailure is the denial of a key whose money is frozen.
func FrozenFailure(reason string) policy.Failure {
	return policy.Failure{
		Code: policy.CodeFrozen, Rule: "freeze",
		Message: "This vault key's writes are frozen: " + reason +
			". An operator must look at it and lift the freeze with `keybrake resume`.",
	}
}

// booksFailure is the denial of every write while the books are frozen. What is wrong with them is not for agents.
func booksFailure() policy.Failure {
	return policy.Failure{
		Code: policy.CodeFrozen, Rule: "freeze",
		Message: "All writes are frozen: Keybrake's books are not the ones that were written last. An operator must look at them and lift the freeze with `keybrake resume --books`.",
	}
}

// brake looks at this batch's own freezes first: a freeze binds the very next call.
func (b *Batch) brake(scope string) (BrakeRow, bool, error) {
	for _, row := range b.Freezes {
		if row.Scope == scope {
			return row, true, nil
		}
	}
	row, ok, err := b.Facts.Brake(scope)
	if err != nil {
		return BrakeRow{}, false, fmt.Errorf("read brake %s: %w", scope, err)
	}
	return row, ok, nil
}

// resend attaches a retry to the reservation that its idempotency key made: nothing is held again.
func (b *Batch) resend(a *Admission) (Admitted, error) {
	r, err := b.Book.Reservation(a.Resend)
	if err != nil {
		return Admitted{}, err
	}
	if r.State == ledger.Released || b.Now.Sub(r.FirstSent) > a.AttachFor { // since the caller looked: it must be judged anew
		return Admitted{Stale: true}, nil
	}
	caps, err := b.caps(a.Reserve)
	if err != nil {
		return Admitted{}, err
	}
	if r.State == ledger.Unresolved {
		if err := b.Book.Resent(b.Now, r.ID); err != nil {
			return Admitted{}, err
		}
	}
	a.Record.Verdict = policy.Allow.String()
	a.Record.Reservation = int64(r.ID)
	a.Record.Caps = capRecords(caps)
	return Admitted{Verdict: policy.Allow, Reservation: r, Caps: caps, Entry: b.append(a.Record)}, nil
}

func (b *Batch) reserve(a *Admission) (Admitted, error) {
	at := attachment{a.Reserve.Key, a.Reserve.IdemAccount, a.Reserve.IdemKey}
	bound, detached, err := b.bound(at, a.AttachFor)
	if err != nil || bound != nil {
		return Admitted{InUse: bound}, err
	}
	if pending, err := b.outcomePending(a); err != nil || pending != nil {
		if err != nil {
			return Admitted{}, err
		}
		a.Record.Deny(PendingFailure(pending))
		return Admitted{Pending: pending, Entry: b.appendDenial(a)}, nil
	}
	a.Reserve.AuditSeq = b.Chain.Seq + 1
	r, full, err := b.Book.Reserve(b.Now, a.Reserve)
	if err != nil {
		return Admitted{}, err
	}
	if r == nil {
		for i := range full {
			a.Record.Deny(full[i].Failure())
		}
		return Admitted{Full: full, Entry: b.appendDenial(a)}, nil
	}
	if at.idem != "" {
		if b.attached == nil {
			b.attached = make(map[attachment]ledger.ReservationID)
		}
		b.attached[at] = r.ID
	}
	for i := range full { // shadow: the call passes, the record says what enforcement would have said
		a.Record.Shadowed = true
		a.Record.Failures = append(a.Record.Failures, full[i].Failure())
	}
	if detached {
		a.Record.Repeat = "anew"
	}
	a.Record.Verdict = policy.Allow.String()
	a.Record.Reservation = int64(r.ID)
	caps, err := b.caps(a.Reserve)
	if err != nil {
		return Admitted{}, err
	}
	a.Record.Caps = capRecords(caps)
	return Admitted{
		Verdict: policy.Allow, Full: full, Detached: detached, Reservation: r, Caps: caps, Entry: b.append(a.Record),
	}, nil
}

// bound returns the reservation that the idempotency key belongs to. One that is too old to attach to
// lets the key go.
func (b *Batch) bound(at attachment, attachFor time.Duration) (r *ledger.Reservation, detached bool, err error) {
	if at.idem == "" {
		return nil, false, nil
	}
	id, ok := b.attached[at]
	if !ok {
		if id, err = b.Facts.Attached(at.key, at.account, at.idem); err != nil {
			return nil, false, fmt.Errorf("look up idempotency key of %s: %w", at.key, err)
		}
	}
	if id == 0 {
		return nil, false, nil
	}
	if r, err = b.Book.Reservation(id); err != nil || r.State == ledger.Released {
		return nil, false, err
	}
	if r.State != ledger.Reserved && b.Now.Sub(r.FirstSent) > attachFor {
		return nil, true, b.Book.Detach(id)
	}
	return r, false, nil
}

// outcomePending returns a reservation of the very same call whose outcome is unknown: sending it again
// under another key could do it twice.
func (b *Batch) outcomePending(a *Admission) (*ledger.Reservation, error) {
	if a.AllowRepeat {
		return nil, nil
	}
	before, err := b.Facts.Pending(a.Reserve.Key, a.Reserve.Fingerprint)
	if err != nil {
		return nil, fmt.Errorf("look up pending calls of %s: %w", a.Reserve.Key, err)
	}
	for _, ids := range [...][]ledger.ReservationID{before, b.pending[repeat{a.Reserve.Key, a.Reserve.Fingerprint}]} {
		for _, id := range ids {
			r, err := b.Book.Reservation(id)
			if err != nil {
				return nil, err
			}
			if r.State == ledger.Unresolved { // and not resolved in this batch
				return r, nil
			}
		}
	}
	return nil, nil
}

// PendingFailure is the denial of a call that repeats one whose outcome is unknown.
func PendingFailure(r *ledger.Reservation) policy.Failure {
	cure := "Send it again with the idempotency key of that call to learn it."
	if r.IdemKey == "" {
		cure = "No idempotency key binds that call: look at Stripe whether it happened, or ask an operator."
	}
	return policy.Failure{
		Code: policy.CodeOutcomePending, Rule: "repeat_unknown",
		Message: fmt.Sprintf("The same call was sent at %s and its outcome is not known yet (reservation %d). %s",
			r.FirstSent.UTC().Format(time.RFC3339), r.ID, cure),
	}
}

// Resolve decides one resolution. One that was decided before, in a transaction that was committed without anybody hearing
// of it, is not decided and recorded once more.
func (b *Batch) Resolve(r *Resolution) (Resolved, error) {
	if r.decided != nil && r.decided.Entry.Seq != 0 {
		there, err := b.Facts.Recorded(r.decided.Entry.Seq, r.decided.Entry.Hash)
		if err != nil || there {
			return *r.decided, err
		}
	}
	out, err := b.resolve(r)
	if err == nil {
		r.decided = &out
	}
	return out, err
}

func (b *Batch) resolve(r *Resolution) (Resolved, error) {
	var out Resolved
	if r.Learned != nil {
		return b.learn(r)
	}
	if r.Reservation != 0 {
		reservation, err := b.Book.Reservation(r.Reservation)
		if r.forgotten(reservation, err) {
			return b.forgotten(r), nil
		}
		if err != nil {
			return Resolved{}, err
		}
		if !r.Asked.IsZero() && (reservation.State != ledger.Unresolved || reservation.Sends().UnixMicro() != r.Asked.UnixMicro()) {
			return Resolved{Already: true, State: reservation.State}, nil
		}
		if r.OnWire && reservation.State != ledger.Reserved {
			return Resolved{Already: true, State: reservation.State}, nil
		}
		overs, err := b.Book.Resolve(b.Now, r.Reservation, r.Fate)
		switch {
		case errors.Is(err, ledger.ErrResolved):
			out.Already = true
		case err != nil:
			return Resolved{}, err
		}
		out.Overs, out.State = overs, reservation.State
		if out.State == ledger.Unresolved {
			if b.pending == nil {
				b.pending = make(map[repeat][]ledger.ReservationID)
			}
			at := repeat{reservation.Key, reservation.Fingerprint}
			b.pending[at] = append(b.pending[at], reservation.ID)
		}
		if r.Again != nil {
			if reservation, overs, err = b.Book.Happened(b.Now, r.Again.Request, r.Again.Fate); err != nil {
				return Resolved{}, err
			}
			out.Overs = overs
		}
		for _, o := range overs {
			b.freeze(reservation.Key, fmt.Sprintf("the upstream moved %s USD of %s where %s USD was held", o.Moved, o.Bucket, o.Held))
		}
		if r.Freeze != "" {
			b.freeze(reservation.Key, r.Freeze)
		}
		if r.Joins != "" {
			b.Joins = append(b.Joins, Join{Key: reservation.Key, Customer: r.Joins})
		}
		if out.Caps, err = b.standing(reservation); err != nil {
			return Resolved{}, err
		}
		r.Record.Reservation, r.Record.Caps = int64(reservation.ID), capRecords(out.Caps)
	}
	out.Entry = b.append(r.Record)
	return out, nil
}

// forgotten reports whether the reservation that was looked for is not the one that the resolution is of.
func (r *Resolution) forgotten(found *ledger.Reservation, err error) bool {
	if r.Made.IsZero() {
		return false
	}
	return errors.Is(err, ErrNotFound) || err == nil && !found.At.Equal(r.Made)
}

// forgotten records the outcome of a call of which the store has nothing any more. What it moved stands in no account, so
// the key's money waits for somebody who has looked. The numbers of its intent and its reservation are others' by now.
func (b *Batch) forgotten(r *Resolution) Resolved {
	const why = "the store has forgotten a call that was on the wire when it was set back; what that moved is in no account"
	if r.Fate.State != ledger.Released {
		b.freeze(r.Record.Key, why)
	}
	record := *r.Record // it may be decided again, in another transaction, which finds the call
	record.Ref, record.Reservation, record.Reason = 0, 0, why
	return Resolved{Forgotten: true, State: r.Fate.State, Entry: b.append(&record)}
}

// learn writes down what became of an object. If the books say so already there is nothing to record.
func (b *Batch) learn(r *Resolution) (Resolved, error) {
	l := r.Learned
	overs, changed, err := b.Book.Learn(l.Key, l.Final, l.Alone)
	if err != nil || !changed {
		return Resolved{Already: true}, err
	}
	for _, o := range overs {
		b.freeze(l.Key, fmt.Sprintf("the upstream moved %s USD of %s where %s USD was counted", o.Moved, o.Bucket, o.Held))
	}
	return Resolved{Overs: overs, Entry: b.append(r.Record)}, nil
}

func (b *Batch) freeze(key policy.KeyID, reason string) {
	b.Freezes = append(b.Freezes, BrakeRow{
		Scope: FreezeScope(key), Mode: vault.ReadOnly, Reason: reason, Actor: "keybrake", At: b.Now,
	})
}

// Log appends a record that decides nothing.
func (b *Batch) Log(rec *audit.Record) audit.Entry { return b.append(rec) }

// appendDenial writes the record of a refused admission, with the status that the agent will get.
func (b *Batch) appendDenial(a *Admission) audit.Entry {
	if a.StatusOf != nil && len(a.Record.Failures) > 0 {
		a.Record.Status = a.StatusOf(a.Record.Failures[0])
	}
	return b.append(a.Record)
}

func (b *Batch) append(rec *audit.Record) audit.Entry {
	rec.At, rec.Node = b.Now, b.Node
	entry := b.Chain.Append(rec)
	b.Entries = append(b.Entries, entry)
	return entry
}
