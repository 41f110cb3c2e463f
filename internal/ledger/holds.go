package ledger

import (
	"math/bits"

	"github.com/keybrake/keybrake/internal/money"
)

// own is the part of what an effect counts for that the reservation held itself.
func (r *Reservation) own(effect int) int64 {
	n := r.Counted[effect]
	for _, part := range r.Handed {
		if part.Effect == effect {
			n -= part.Minor
		}
	}
	check(n >= 0, "reservation %d counts %d, less than was handed to it", r.ID, r.Counted[effect])
	return n
}

// change brings what an effect counts for to minor units, in all its holds. Less comes off what was handed
// over last, and off its own part at the end; more goes to its own part.
func (b *Book) change(r *Reservation, effect int, minor int64) error {
	less := r.Counted[effect] - minor
	if less == 0 {
		return nil
	}
	b.touch(r)
	own := r.own(effect)
	r.Counted[effect] = minor
	for i := len(r.Handed) - 1; i >= 0 && less > 0; i-- {
		part := &r.Handed[i]
		if part.Effect != effect || part.Minor == 0 {
			continue
		}
		was := part.Minor
		part.Minor -= min(less, was)
		less -= was - part.Minor
		for h := range r.Holds {
			hold := &r.Holds[h]
			if hold.Effect != effect || hold.From != part.From {
				continue
			}
			if err := b.rebook(hold, r.State, scale(hold.Amount, part.Minor, was)); err != nil {
				return err
			}
		}
	}
	if less == 0 {
		return nil
	}
	for h := range r.Holds {
		hold := &r.Holds[h]
		if hold.Effect != effect || hold.From != 0 {
			continue
		}
		if err := b.rebook(hold, r.State, int64(convert(r.Effects[effect].Quote, own-less))); err != nil {
			return err
		}
	}
	return nil
}

// rebook changes one hold's amount and the account that it is in.
func (b *Book) rebook(h *Hold, state State, amount int64) error {
	if amount == h.Amount {
		return nil
	}
	held, settled := amount-h.Amount, int64(0)
	if !state.Open() {
		held, settled = settled, held
	}
	h.Amount = amount
	return b.add(h.Account, held, settled)
}

// settleHold moves one hold from what is set aside to what is settled, at its own amount.
func (b *Book) settleHold(h *Hold) error {
	if h.Amount == 0 {
		return nil
	}
	return b.add(h.Account, -h.Amount, h.Amount)
}

// add changes what an account holds and has settled by so much.
func (b *Book) add(k AccountKey, held, settled int64) error {
	account, err := b.account(k)
	if err != nil {
		return err
	}
	b.touchAccount(k, account)
	account.Held += held
	account.Settled += settled
	check(account.Held >= 0 && account.Settled >= 0, "account %v: held %d, settled %d", k, account.Held, account.Settled)
	return nil
}

// handOver moves everything that an effect of an open reservation still counts for, in its windows and at
// its rates, to another effect on the same object.
func (b *Book) handOver(from *Reservation, effect int, to *Reservation, heir int) error {
	b.touch(from)
	b.touch(to)
	parts := []Handed{{Effect: heir, From: from.ID, Minor: from.own(effect), At: from.At}}
	for i := range from.Handed {
		if part := &from.Handed[i]; part.Effect == effect {
			parts = append(parts, Handed{Effect: heir, From: part.From, Minor: part.Minor, At: part.At})
			part.Minor = 0
		}
	}
	var holds []Hold // apart, because an effect may hand over to another one of the same reservation
	for i := range from.Holds {
		h := &from.Holds[i]
		if h.Effect != effect || h.Amount == 0 {
			continue
		}
		if !to.State.Open() {
			if err := b.settleHold(h); err != nil {
				return err
			}
		}
		moved := *h
		moved.Effect = heir
		if h.From == 0 {
			moved.From = from.ID
		}
		holds = append(holds, moved)
		h.Amount = 0
	}
	to.Counted[heir] += from.Counted[effect]
	from.Counted[effect] = 0
	for _, part := range parts {
		to.inherit(part)
	}
	to.Holds = append(to.Holds, holds...)
	return nil
}

func (r *Reservation) inherit(part Handed) {
	if part.Minor == 0 {
		return
	}
	for i := range r.Handed {
		if have := &r.Handed[i]; have.Effect == part.Effect && have.From == part.From {
			have.Minor += part.Minor
			return
		}
	}
	r.Handed = append(r.Handed, part)
}

// scale is amount*part/whole, rounded up: what a part of a hold is worth at the rate of the whole. It is
// used where the rate itself is not known, because another reservation made the hold.
func scale(amount, part, whole int64) int64 {
	if part == whole {
		return amount
	}
	check(amount >= 0 && part >= 0 && part < whole, "scale %d by %d/%d", amount, part, whole)
	hi, lo := bits.Mul64(uint64(amount), uint64(part))
	quo, rem := bits.Div64(hi, lo, uint64(whole)) // cannot overflow: part < whole
	if rem > 0 {
		quo++
	}
	return int64(quo)
}

// convert turns minor units into dollars at a quote. What does not fit is a breach: it was checked before
// it was held.
func convert(q money.Quote, minor int64) money.USD {
	if minor == 0 {
		return 0 // also at no quote at all
	}
	usd, err := q.USD(minor)
	check(err == nil, "convert %d at %v: %v", minor, q, err)
	return usd
}
