package ledger

import (
	"slices"

	"github.com/keybrake/keybrake/internal/policy"
)

// Object is what a principal was counted for on one object, in minor units.
//
// What its reservations count for it (Reservation.Counted, open and settled together) always sums up to
// exactly what the object counts for: nothing on it is uncounted, and nothing is counted twice.
type Object struct {
	// Settled is what has moved or is committed for good.
	Settled int64 `json:"settled"`
	// Claims are the open reservations that want the object at a total, or to add to it. They stand in the
	// order in which they add up to most: see Claim.after.
	Claims []Claim `json:"claims,omitempty"`
	// Refs are the settled effects whose holds make up Settled, oldest first: a final state gives back in
	// their windows. What added nothing is left out, or a loop of equal calls would grow the row for ever.
	Refs []Ref `json:"refs,omitempty"`
	// Parts is the sum of what settled on top of whatever was there, since the last final state: an effect
	// whose answer names the object only afterwards may have come before all of it.
	Parts int64 `json:"parts,omitempty"`
}

// Ref names one effect of a reservation.
type Ref struct {
	Reservation ReservationID `json:"r"`
	Effect      int           `json:"e"`
}

// Claim is one open reservation's wish for an object. Minor and Ceiling start as the effect's own and
// rise when a part settles that the vendor may have taken after this claim: see Object.settle.
type Claim struct {
	Reservation ReservationID    `json:"r"`
	Effect      int              `json:"e"` // index of the effect in the reservation
	Mode        policy.CountMode `json:"m"`
	Minor       int64            `json:"n"`           // total wanted, or part to add
	Ceiling     int64            `json:"c,omitempty"` // for parts; 0 = none
	// Lift is how much settled parts may stand on top of this claim; Minor (of a total) or Ceiling includes
	// it, as far as their own ceilings let it.
	Lift int64 `json:"l,omitempty"`
}

func claimOf(r ReservationID, effect int, e *policy.Effect) Claim {
	return Claim{Reservation: r, Effect: effect, Mode: e.Mode, Minor: e.Amount.Minor, Ceiling: e.Ceiling}
}

// named is the claim of an effect whose object only the answer named. Whatever part settled on the object
// before may have come after it, so its total and its ceiling rise by all of them.
func (o *Object) named(c Claim, moved int64) Claim {
	c.Lift, c.Minor = o.Parts, moved
	if c.Mode == policy.Total {
		c.Minor += o.Parts
	}
	if c.Ceiling > 0 {
		c.Ceiling = max(c.Ceiling, moved) + o.Parts
	}
	check(c.Minor >= 0 && c.Ceiling >= 0, "object count overflows: %d + %d", moved, o.Parts)
	return c
}

// applied is what an object that counts for n counts for once the claim has come true. It is never below
// n, never falls when n rises, and rises by no more than n does: all that is said about orders and
// removals below rests on these three.
func (c Claim) applied(n int64) int64 {
	if c.Mode == policy.Total {
		return max(n, c.Minor)
	}
	sum := n + c.Minor
	check(sum >= n, "object count overflows: %d + %d", n, c.Minor)
	if c.Mode == policy.Part && c.Ceiling > 0 { // without a ceiling a part has no bound but itself
		return max(n, min(sum, max(c.Ceiling, c.Minor)))
	}
	return sum
}

// after reports whether c stands behind d. Nobody knows in which order the vendor runs what is on the
// wire, so the object counts for the order that comes to most: totals, then parts from the lowest
// ceiling up, then what has no ceiling.
func (c Claim) after(d Claim) bool {
	rank := func(c Claim) int {
		switch {
		case c.Mode == policy.Total:
			return 0
		case c.Mode == policy.Part && c.Ceiling > 0:
			return 1
		default:
			return 2
		}
	}
	if rank(c) != rank(d) {
		return rank(c) > rank(d)
	}
	return rank(c) == 1 && max(c.Ceiling, c.Minor) > max(d.Ceiling, d.Minor)
}

// counted is what the object counts for while its open claims may still come true, in any order.
func (o *Object) counted() int64 {
	n := o.Settled
	for _, c := range o.Claims {
		n = c.applied(n)
	}
	return n
}

// Counts is what the object counts for, in minor units: what its reservations count for it, together.
func (o *Object) Counts() int64 { return o.counted() }

// countedWith is what the object would count for with one more claim.
func (o *Object) countedWith(more Claim) int64 {
	n, done := o.Settled, false
	for _, c := range o.Claims {
		if !done && c.after(more) {
			n, done = more.applied(n), true
		}
		n = c.applied(n)
	}
	if !done {
		n = more.applied(n)
	}
	return n
}

// fits reports whether one more claim leaves every sum over the object within 64 bits.
func (o *Object) fits(minor int64) bool {
	sum := o.Settled
	for _, c := range o.Claims {
		if sum += max(c.Minor, c.Ceiling); sum < 0 {
			return false
		}
	}
	return sum+minor >= 0
}

// withClaim returns the claims with one more at its place. The old slice stays as it was.
func (o *Object) withClaim(more Claim) []Claim {
	at := 0
	for at < len(o.Claims) && !o.Claims[at].after(more) {
		at++
	}
	return slices.Concat(o.Claims[:at], []Claim{more}, o.Claims[at:])
}

// take removes a claim and returns it. The old slice stays as it was.
func (o *Object) take(r ReservationID, effect int) (Claim, bool) {
	at := slices.IndexFunc(o.Claims, func(c Claim) bool { return c.Reservation == r && c.Effect == effect })
	if at < 0 {
		return Claim{}, false
	}
	c := o.Claims[at]
	o.Claims = slices.Concat(o.Claims[:at], o.Claims[at+1:])
	return c, true
}

// came is what a claim comes to once the vendor has told the amount of its effect.
func (c Claim) came(asked, moved int64) Claim {
	if c.Mode == policy.Total {
		lifted := moved + c.Lift // the parts that settled meanwhile, on top of what it really came to
		check(lifted >= moved, "object count overflows: %d + %d", moved, c.Lift)
		if moved > asked {
			c.Minor = lifted
		} else {
			c.Minor = min(c.Minor, lifted)
		}
		return c
	}
	if over := moved - asked; over > 0 && c.Ceiling > 0 && c.Lift > 0 {
		c.Ceiling = max(c.Ceiling, asked) + over // it was lifted from what was asked, and stood higher
		check(c.Ceiling >= over, "object count overflows: + %d", over)
	}
	c.Minor = moved
	return c
}

// settle makes a claim, which is not among the open ones any more, part of what is settled. Other claims that are still open may
// have come true before it, their answers being late: what the claim adds would then stand on top of
// them, so their totals and ceilings rise by it. Without that a capture that is answered before the
// increment that it followed would count for nothing.
func (o *Object) settle(c Claim) {
	o.Settled = c.applied(o.Settled)
	if c.Mode == policy.Total {
		return
	}
	o.Parts += c.Minor
	check(o.Parts >= c.Minor, "object parts overflow: + %d", c.Minor)
	if len(o.Claims) == 0 {
		return
	}
	lifted := slices.Clone(o.Claims)
	for i := range lifted {
		switch l := &lifted[i]; {
		case l.Mode == policy.Total:
			l.Minor = c.applied(l.Minor)
			l.Lift += c.Minor
		case l.Mode == policy.Part && l.Ceiling > 0:
			l.Ceiling = c.applied(max(l.Ceiling, l.Minor))
			l.Lift += c.Minor
		}
	}
	// They keep their order: what c is applied to never falls when it rises.
	o.Claims = lifted
}
