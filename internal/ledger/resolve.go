package ledger

import (
	"errors"
	"slices"
	"time"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
)

// ErrResolved says that a reservation was resolved before, to something else. Nothing was changed: the
// first word stands.
var ErrResolved = errors.New("reservation is already resolved")

// Resolve gives a reservation its fate. Resolving to the state it already has changes nothing, so a
// retried settlement is harmless. The Overs report what moved beyond the hold: the books then say what
// happened, and the caller freezes the key.
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
	b.touch(r)
	r.Why, r.UpstreamRequest = fate.Why, fate.UpstreamRequest
	var overs []Over
	switch fate.State {
	case Unresolved:
		r.State = Unresolved
		return nil, nil
	case Settled:
		check(len(fate.Moved) == len(r.Effects), "settle %d: %d amounts for %d effects", id, len(fate.Moved), len(r.Effects))
		overs, err = b.settle(r, fate.Moved)
		r.Pending = fate.Pending
	case Released:
		check(fate.Proof.valid(), "release %d without proof (%q)", id, fate.Proof)
		err = b.release(r, fate.Proof)
	default:
		check(false, "resolve %d to %s", id, fate.State)
	}
	if err != nil {
		return nil, err
	}
	r.State, r.Proof, r.Resolved = fate.State, fate.Proof, now
	for _, final := range fate.Finals {
		if err := b.Finish(r.Key, final); err != nil {
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
		held := r.Counted[i]
		kept, err := b.settleEffect(r, i, moved[i])
		if err != nil {
			return nil, err
		}
		r.Counted[i] = kept
		if kept > held {
			overs = append(overs, Over{
				Bucket: r.Effects[i].Bucket,
				Held:   convert(r.Effects[i].Quote, held), Moved: convert(r.Effects[i].Quote, kept),
			})
		}
	}
	for i := range r.Holds {
		if err := b.settleHold(&r.Holds[i]); err != nil {
			return nil, err
		}
	}
	for i := range r.Effects {
		if err := b.retarget(r, i, int64(convert(r.Effects[i].Quote, r.Counted[i]))); err != nil {
			return nil, err
		}
	}
	return overs, nil
}

// settleEffect returns what the reservation counts for, in minor units, once effect i has moved.
func (b *Book) settleEffect(r *Reservation, i int, moved Moved) (int64, error) {
	e := &r.Effects[i]
	check(moved.Amount.Minor >= 0, "settle %d: negative amount", r.ID)
	if e.Object == "" || e.Mode == policy.Gross {
		// Nothing was claimed before: the object, if the answer names one, is counted from here on.
		if moved.Object == "" {
			return moved.Amount.Minor, nil
		}
		mode := e.Mode
		e.Object = moved.Object
		object, err := b.object(r.objectKey(i))
		if err != nil {
			return 0, err
		}
		before := object.counted()
		object.Settled = Claim{Mode: mode, Minor: moved.Amount.Minor, Ceiling: e.Ceiling}.applied(object.Settled)
		object.Refs = append(object.Refs, Ref{Reservation: r.ID, Effect: i})
		b.touchObject(r.objectKey(i))
		return max(0, object.counted()-before), nil
	}
	key := r.objectKey(i)
	object, err := b.object(key)
	if err != nil {
		return 0, err
	}
	before := object.counted()
	object.Claims = object.withoutClaim(r.ID, i)
	object.Settled = Claim{Mode: e.Mode, Minor: moved.Amount.Minor, Ceiling: e.Ceiling}.applied(object.Settled)
	object.Refs = append(object.Refs, Ref{Reservation: r.ID, Effect: i})
	b.touchObject(key)
	return max(0, r.Counted[i]+object.counted()-before), nil
}

// release gives the holds back. On an object that other open reservations count on, what they rely on is
// handed over to one of them instead: two confirmations of one intent hold its amount once, and the
// second may succeed after the first was refused.
func (b *Book) release(r *Reservation, proof Proof) error {
	for i := range r.Effects {
		e := &r.Effects[i]
		if e.Object == "" || e.Mode == policy.Gross {
			r.Counted[i] = 0
			continue
		}
		key := r.objectKey(i)
		object, err := b.object(key)
		if err != nil {
			return err
		}
		before := object.counted()
		object.Claims = object.withoutClaim(r.ID, i)
		b.touchObject(key)
		free := min(r.Counted[i], before-object.counted())
		if rest := r.Counted[i] - free; rest > 0 {
			if err := b.handOver(r, i, rest, object); err != nil {
				return err
			}
		}
		r.Counted[i] = 0
	}
	for i := range r.Holds {
		h := &r.Holds[i]
		if h.Effect == noEffect && !proof.uncounts() {
			// Written upstream: the call stays counted whatever came back.
			if err := b.settleHold(h); err != nil {
				return err
			}
			continue
		}
		account, err := b.account(h.Account)
		if err != nil {
			return err
		}
		account.Held -= h.Amount
		h.Amount = 0
		b.touchAccount(h.Account)
	}
	return nil
}

// handOver moves rest minor units of the holds of effect i to the first open claim on the object.
func (b *Book) handOver(from *Reservation, i int, rest int64, object *Object) error {
	check(len(object.Claims) > 0, "release %d: object still counts %d without a claim", from.ID, rest)
	claim := object.Claims[0]
	to, err := b.Reservation(claim.Reservation)
	if err != nil {
		return err
	}
	b.touch(to)
	quote := from.Effects[i].Quote
	to.Counted[claim.Effect] += rest
	for h := range from.Holds {
		hold := &from.Holds[h]
		if hold.Effect != i {
			continue
		}
		amount := min(hold.Amount, int64(convert(quote, rest)))
		hold.Amount -= amount
		to.Holds = append(to.Holds, Hold{Account: hold.Account, Effect: claim.Effect, Amount: amount})
	}
	return nil
}

// settleHold moves one hold from what is set aside to what is settled, at its own amount.
func (b *Book) settleHold(h *Hold) error {
	account, err := b.account(h.Account)
	if err != nil {
		return err
	}
	account.Held -= h.Amount
	account.Settled += h.Amount
	check(account.Settled >= 0, "account %v: settled overflows", h.Account)
	b.touchAccount(h.Account)
	return nil
}

// retarget brings what a settled reservation counts for under each cap, for one effect, to target. A cap
// may have several holds of it: its own and one that was handed over from another window. More goes to
// its own (the first), less comes off the last.
func (b *Book) retarget(r *Reservation, effect int, target int64) error {
	type capID struct {
		resource policy.Resource
		per      policy.Window
		unit     policy.Unit
	}
	over := make(map[capID]int64)
	for i := range r.Holds {
		if h := &r.Holds[i]; h.Effect == effect {
			id := capID{h.Account.Resource, h.Account.Per, h.Account.Unit}
			if _, seen := over[id]; !seen {
				over[id] = -target
			}
			over[id] += h.Amount
		}
	}
	for i := len(r.Holds) - 1; i >= 0; i-- {
		h := &r.Holds[i]
		id := capID{h.Account.Resource, h.Account.Per, h.Account.Unit}
		if h.Effect != effect || over[id] == 0 {
			continue
		}
		change := -min(over[id], h.Amount)
		if over[id] < 0 {
			if !firstOf(r.Holds, i) {
				continue
			}
			change = -over[id]
		}
		account, err := b.account(h.Account)
		if err != nil {
			return err
		}
		over[id] += change
		h.Amount += change
		account.Settled += change
		check(account.Settled >= 0, "account %v: settled below zero", h.Account)
		b.touchAccount(h.Account)
	}
	return nil
}

// firstOf reports whether no earlier hold belongs to the same cap and effect.
func firstOf(holds []Hold, i int) bool {
	at := holds[i]
	for _, h := range holds[:i] {
		if h.Effect == at.Effect && h.Account.Resource == at.Account.Resource &&
			h.Account.Per == at.Account.Per && h.Account.Unit == at.Account.Unit {
			return false
		}
	}
	return true
}

// Finish brings an object to its final amount: what a principal was counted for beyond it is given back,
// newest settlement first, in the windows where it was held. It never raises anything and does nothing
// for an object that the principal was not counted for.
func (b *Book) Finish(principal policy.KeyID, final Final) error {
	key := ObjectKey{Key: principal, Bucket: final.Bucket, Object: final.Object, Currency: final.Amount.Currency}
	object, err := b.object(key)
	if err != nil {
		return err
	}
	before := object.counted()
	if final.Amount.Minor >= object.Settled {
		return nil
	}
	object.Settled = final.Amount.Minor
	b.touchObject(key)
	free := before - object.counted()
	for i := len(object.Refs) - 1; i >= 0 && free > 0; i-- {
		cut, err := b.giveBack(object.Refs[i], free)
		if err != nil {
			return err
		}
		free -= cut
	}
	return nil
}

// giveBack lowers what one settled effect counts for by at most minor units.
func (b *Book) giveBack(ref Ref, minor int64) (int64, error) {
	r, err := b.Reservation(ref.Reservation)
	if err != nil {
		return 0, err
	}
	cut := min(minor, r.Counted[ref.Effect])
	if cut == 0 {
		return 0, nil
	}
	b.touch(r)
	r.Counted[ref.Effect] -= cut
	return cut, b.retarget(r, ref.Effect, int64(convert(r.Effects[ref.Effect].Quote, r.Counted[ref.Effect])))
}

// convert turns minor units into dollars at a quote that has converted a larger amount before.
func convert(q money.Quote, minor int64) money.USD {
	usd, err := q.USD(minor)
	check(err == nil, "convert %d at %v: %v", minor, q, err)
	return usd
}
