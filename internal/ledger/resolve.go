package ledger

import (
	"errors"
	"slices"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
)

// ErrResolved says that a reservation was resolved before, to something else. Nothing was changed: the
// first word stands.
var ErrResolved = errors.New("reservation is already resolved")

// Resolve gives a reservation its fate. Resolving to the state it already has changes nothing, so a
// retried settlement is harmless. The Overs report what moved beyond the hold: the books then say what
// happened, and the caller freezes the key. On an error (ErrResolved, or rows that could not be read)
// nothing was changed.
func (b *Book) Resolve(now time.Time, id ReservationID, fate Fate) ([]Over, error) {
	r, err := b.Reservation(id)
	if err != nil {
		return nil, err
	}
	if !r.State.Open() {
		if r.State == fate.State {
			return nil, nil
		}
		return nil, ErrResolved
	}
	overs, err := b.resolve(now, r, &fate)
	if err != nil {
		b.rollBack()
		return nil, err
	}
	b.keep()
	return overs, nil
}

func (b *Book) resolve(now time.Time, r *Reservation, fate *Fate) ([]Over, error) {
	b.touch(r)
	r.Why, r.UpstreamRequest = fate.Why, fate.UpstreamRequest
	var overs []Over
	var err error
	switch fate.State {
	case Unresolved:
		r.State, r.Absent = Unresolved, fate.Absent
		return nil, nil
	case Settled:
		check(len(fate.Moved) == len(r.Effects), "settle %d: %d amounts for %d effects", r.ID, len(fate.Moved), len(r.Effects))
		overs, err = b.settle(r, fate.Moved)
		r.Pending = fate.Pending
	case Released:
		check(fate.Proof.valid(), "release %d without proof (%q)", r.ID, fate.Proof)
		err = b.release(r, fate.Proof)
		r.Proof = fate.Proof
	default:
		check(false, "resolve %d to %s", r.ID, fate.State)
	}
	if err != nil {
		return nil, err
	}
	r.State, r.Resolved = fate.State, now
	for _, final := range fate.Finals {
		if err := b.finish(r.Key, final); err != nil {
			return nil, err
		}
	}
	return overs, nil
}

// settle replaces the holds by what moved.
func (b *Book) settle(r *Reservation, moved []Moved) ([]Over, error) {
	var overs []Over
	r.Effects = slices.Clone(r.Effects) // the request's own slice may still be in use elsewhere
	for i := range r.Effects {
		if !r.Effects[i].Known {
			continue // unmeterable, and allowed all the same: it counts for nothing
		}
		held := r.Counted[i]
		kept, err := b.settleEffect(r, i, moved[i])
		if err != nil {
			return nil, err
		}
		if err := b.change(r, i, kept); err != nil {
			return nil, err
		}
		if kept > held {
			q := r.Effects[i].Quote
			over := Over{Bucket: r.Effects[i].Bucket}
			if q.Value > 0 {
				over.Held, over.Moved = convert(q, held), convert(q, kept)
			}
			overs = append(overs, over)
		}
	}
	for i := range r.Holds {
		if err := b.settleHold(&r.Holds[i]); err != nil {
			return nil, err
		}
	}
	return overs, nil
}

// settleEffect writes what effect i came to into its object and returns what the effect counts for from
// now on, in minor units.
func (b *Book) settleEffect(r *Reservation, i int, moved Moved) (int64, error) {
	e := &r.Effects[i]
	check(moved.Amount.Minor >= 0, "settle %d: negative amount", r.ID)
	check(moved.Amount.Minor == 0 || moved.Amount.Currency == e.Amount.Currency,
		"settle %d: %s moved where %s was held", r.ID, moved.Amount.Currency, e.Amount.Currency)
	held := r.Counted[i]
	if e.Object == "" {
		if moved.Object == "" {
			return moved.Amount.Minor, nil
		}
		// The answer names the object: it is counted from here on, and may have been counted before.
		e.Object, held = moved.Object, 0
	}
	key := r.objectKey(i)
	object, err := b.object(key)
	if err != nil {
		return 0, err
	}
	before := object.counted()
	b.touchObject(key, object)
	claim, claimed := object.take(r.ID, i)
	if !claimed {
		claim = object.named(claimOf(r.ID, i, e), moved.Amount.Minor)
	}
	object.settle(claim.came(e.Amount.Minor, moved.Amount.Minor))
	kept := held + object.counted() - before
	if kept > 0 || len(object.Refs) == 0 { // the first is needed all the same: see heir
		object.Refs = append(object.Refs, Ref{Reservation: r.ID, Effect: i})
	}
	if kept >= 0 {
		return kept, nil
	}
	// Others were handed more than they still need. Its own part goes first, so that none is taken twice.
	if err := b.change(r, i, 0); err != nil {
		return 0, err
	}
	return 0, b.giveBack(object, -kept)
}

// release gives the holds back. On an object that other reservations count on, what they rely on is handed
// over to one of them instead: two confirmations of one intent hold its amount once, and the second may
// succeed, or have succeeded, after the first was refused.
func (b *Book) release(r *Reservation, proof Proof) error {
	for i := range r.Effects {
		if err := b.releaseEffect(r, i); err != nil {
			return err
		}
	}
	if proof.uncounts() {
		for i := range r.Holds {
			if h := &r.Holds[i]; h.Effect == noEffect {
				if err := b.rebook(h, r.State, 0); err != nil {
					return err
				}
			}
		}
		return nil
	}
	for i := range r.Holds {
		// Written upstream: the call stays counted whatever came back.
		if h := &r.Holds[i]; h.Effect == noEffect {
			if err := b.settleHold(h); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *Book) releaseEffect(r *Reservation, i int) error {
	if !r.Effects[i].Known {
		return nil
	}
	if r.Effects[i].Object == "" {
		return b.change(r, i, 0)
	}
	key := r.objectKey(i)
	object, err := b.object(key)
	if err != nil {
		return err
	}
	before := object.counted()
	b.touchObject(key, object)
	object.take(r.ID, i)
	free, held := before-object.counted(), r.Counted[i]
	if err := b.change(r, i, max(0, held-free)); err != nil {
		return err
	}
	if free > held { // others hold more than they still need: it was handed over to them
		return b.giveBack(object, free-held)
	}
	if free == held {
		return nil
	}
	ref := object.heir()
	to, err := b.Reservation(ref.Reservation)
	if err != nil {
		return err
	}
	return b.handOver(r, i, to, ref.Effect)
}

// heir is the effect that takes over what a released one held: an open claim, or the last settlement. There
// is one, because without any the object would count for nothing.
func (o *Object) heir() Ref {
	if len(o.Claims) > 0 {
		return Ref{Reservation: o.Claims[0].Reservation, Effect: o.Claims[0].Effect}
	}
	check(len(o.Refs) > 0, "object counts %d for nobody", o.Settled)
	return o.Refs[len(o.Refs)-1]
}

// Finish brings an object to its final amount: what a principal was counted for beyond it is given back,
// newest settlement first, in the windows where it was held. It never raises anything, does nothing for an
// object that the principal was not counted for, and leaves open reservations what they may still need.
// On an error nothing was changed.
func (b *Book) Finish(principal policy.KeyID, final Final) error {
	if err := b.finish(principal, final); err != nil {
		b.rollBack()
		return err
	}
	b.keep()
	return nil
}

func (b *Book) finish(principal policy.KeyID, final Final) error {
	check(final.Amount.Minor >= 0, "finish %s: negative amount", final.Object)
	key := ObjectKey{Key: principal, Bucket: final.Bucket, Object: final.Object, Currency: final.Amount.Currency}
	object, err := b.object(key)
	if err != nil {
		return err
	}
	if final.Amount.Minor >= object.Settled {
		return nil
	}
	before := object.counted()
	b.touchObject(key, object)
	object.Settled, object.Parts = final.Amount.Minor, 0
	return b.giveBack(object, before-object.counted())
}

// Learn brings an object to the last word that its vendor has spoken about it, as Finish does, and ends the wait of
// those that were settled for it for the time being. alone says that no other principal is counted for the object: then
// whatever moved beyond what was counted moved by its calls, is counted too, and is reported. changed is false if the
// books say so already. On an error nothing was changed.
func (b *Book) Learn(principal policy.KeyID, final Final, alone bool) (overs []Over, changed bool, err error) {
	overs, changed, err = b.learn(principal, final, alone)
	if err != nil {
		b.rollBack()
		return nil, false, err
	}
	b.keep()
	return overs, changed, nil
}

func (b *Book) learn(principal policy.KeyID, final Final, alone bool) (overs []Over, changed bool, err error) {
	key := ObjectKey{Key: principal, Bucket: final.Bucket, Object: final.Object, Currency: final.Amount.Currency}
	object, err := b.object(key)
	if err != nil {
		return nil, false, err
	}
	changed = final.Amount.Minor < object.Settled
	var waits *Reservation
	var effect int
	for _, ref := range object.Refs {
		r, err := b.Reservation(ref.Reservation)
		if err != nil {
			return nil, false, err
		}
		if r.Pending {
			b.touch(r)
			r.Pending, changed, waits, effect = false, true, r, ref.Effect
		}
	}
	if err := b.finish(principal, final); err != nil {
		return nil, false, err
	}
	more := final.Amount.Minor - object.Settled
	if !alone || waits == nil || more <= 0 || len(object.Claims) > 0 {
		return nil, changed, nil
	}
	b.touchObject(key, object)
	object.Settled = final.Amount.Minor
	held := waits.Counted[effect]
	if err := b.change(waits, effect, held+more); err != nil {
		return nil, false, err
	}
	e := &waits.Effects[effect]
	over := Over{Bucket: e.Bucket}
	if e.Quote.Value > 0 {
		over.Held, over.Moved = convert(e.Quote, held), convert(e.Quote, held+more)
	}
	return []Over{over}, true, nil
}

// Resent notes that a reservation's call leaves once more. What the vendor's lists showed before says nothing now.
func (b *Book) Resent(now time.Time, id ReservationID) error {
	r, err := b.Reservation(id)
	if err != nil {
		return err
	}
	b.touch(r)
	r.LastSent, r.Absent = now, time.Time{}
	b.keep()
	return nil
}

// giveBack lowers what others count for an object by minor units: settled effects first, newest first.
func (b *Book) giveBack(object *Object, minor int64) error {
	for _, ref := range slices.Backward(object.Refs) {
		if err := b.cut(ref, &minor); err != nil {
			return err
		}
	}
	for _, c := range slices.Backward(object.Claims) {
		if err := b.cut(Ref{Reservation: c.Reservation, Effect: c.Effect}, &minor); err != nil {
			return err
		}
	}
	check(minor == 0, "object counts %d less than its reservations", minor)
	return nil
}

// cut lowers what one effect counts for by at most minor units, and minor by what it could.
func (b *Book) cut(ref Ref, minor *int64) error {
	if *minor == 0 {
		return nil
	}
	r, err := b.Reservation(ref.Reservation)
	if err != nil {
		return err
	}
	less := min(*minor, r.Counted[ref.Effect])
	*minor -= less
	return b.change(r, ref.Effect, r.Counted[ref.Effect]-less)
}
