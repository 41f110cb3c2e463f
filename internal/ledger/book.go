package ledger

import (
	"fmt"

	"github.com/keybrake/keybrake/internal/policy"
)

// Rows reads what a store has. Absent accounts and objects are zero values; an absent reservation is an
// error, because everything that names one knows that it exists. The rows are locked (or the store has
// one writer) for as long as the Book is in use.
type Rows interface {
	Account(AccountKey) (Account, error)
	Object(ObjectKey) (Object, error)
	Reservation(ReservationID) (*Reservation, error)
}

// Book is the part of the ledger that one store transaction works on. Rows are read once; changes stay
// in the Book until the store has written them. A Book whose store transaction failed must be thrown
// away: it then holds what never happened. Not safe for concurrent use.
type Book struct {
	rows         Rows
	next         ReservationID
	accounts     map[AccountKey]*Account
	objects      map[ObjectKey]*Object
	reservations map[ReservationID]*Reservation

	changedAccounts map[AccountKey]struct{}
	changedObjects  map[ObjectKey]struct{}
	created         []*Reservation
	changed         map[ReservationID]struct{}
}

// NewBook opens a Book over rows. The next reservation gets the number next.
func NewBook(rows Rows, next ReservationID) *Book {
	return &Book{
		rows: rows, next: next,
		accounts:        make(map[AccountKey]*Account),
		objects:         make(map[ObjectKey]*Object),
		reservations:    make(map[ReservationID]*Reservation),
		changedAccounts: make(map[AccountKey]struct{}),
		changedObjects:  make(map[ObjectKey]struct{}),
		changed:         make(map[ReservationID]struct{}),
	}
}

// Changes are the rows that a store must write for a Book. Values are final for the transaction.
type Changes struct {
	Next     ReservationID
	Accounts map[AccountKey]Account
	Objects  map[ObjectKey]Object
	Created  []*Reservation // in order of their numbers
	Updated  []*Reservation // existed before
}

// Changes returns what has changed since the Book was opened, and checks the invariants of every
// account once more before it is written.
func (b *Book) Changes() Changes {
	c := Changes{
		Next:     b.next,
		Accounts: make(map[AccountKey]Account, len(b.changedAccounts)),
		Objects:  make(map[ObjectKey]Object, len(b.changedObjects)),
		Created:  b.created,
	}
	for k := range b.changedAccounts {
		a := *b.accounts[k]
		check(a.Held >= 0 && a.Settled >= 0, "account %v: held %d, settled %d", k, a.Held, a.Settled)
		c.Accounts[k] = a
	}
	for k := range b.changedObjects {
		o := *b.objects[k]
		check(o.Settled >= 0, "object %v: settled %d", k, o.Settled)
		c.Objects[k] = o
	}
	for id := range b.changed {
		c.Updated = append(c.Updated, b.reservations[id])
	}
	return c
}

func (b *Book) account(k AccountKey) (*Account, error) {
	if a, ok := b.accounts[k]; ok {
		return a, nil
	}
	a, err := b.rows.Account(k)
	if err != nil {
		return nil, fmt.Errorf("read account %v: %w", k, err)
	}
	check(a.Held >= 0 && a.Settled >= 0, "account %v read as held %d, settled %d", k, a.Held, a.Settled)
	b.accounts[k] = &a
	return &a, nil
}

func (b *Book) object(k ObjectKey) (*Object, error) {
	if o, ok := b.objects[k]; ok {
		return o, nil
	}
	o, err := b.rows.Object(k)
	if err != nil {
		return nil, fmt.Errorf("read object %v: %w", k, err)
	}
	b.objects[k] = &o
	return &o, nil
}

// Reservation returns the Book's copy of a reservation, as changed so far.
func (b *Book) Reservation(id ReservationID) (*Reservation, error) {
	if r, ok := b.reservations[id]; ok {
		return r, nil
	}
	stored, err := b.rows.Reservation(id)
	if err != nil {
		return nil, fmt.Errorf("read reservation %d: %w", id, err)
	}
	// A copy: if the transaction fails, the store's own (cached) row must not show what never happened.
	r := *stored
	r.Counted = append([]int64(nil), stored.Counted...)
	r.Holds = append([]Hold(nil), stored.Holds...)
	b.reservations[id] = &r
	return &r, nil
}

func (b *Book) touchAccount(k AccountKey) { b.changedAccounts[k] = struct{}{} }
func (b *Book) touchObject(k ObjectKey)   { b.changedObjects[k] = struct{}{} }

// touch marks a reservation as changed, unless it was created in this Book and is written whole anyway.
func (b *Book) touch(r *Reservation) {
	if n := len(b.created); n > 0 && r.ID >= b.created[0].ID {
		return
	}
	b.changed[r.ID] = struct{}{}
}

// key is the identity under which an effect of a reservation counts once.
func (r *Reservation) objectKey(effect int) ObjectKey {
	e := &r.Effects[effect]
	return ObjectKey{Key: r.Key, Bucket: e.Bucket, Object: e.Object, Currency: e.Amount.Currency}
}

// counted is what the object counts for while its open claims may still come true: the settled amount,
// brought to every total that a claim wants, plus every part up to its ceiling. It is monotone in the
// claims, so taking one away never raises it.
func (o *Object) counted() int64 {
	n := o.Settled
	for _, c := range o.Claims {
		n = c.applied(n)
	}
	return n
}

func (c Claim) applied(n int64) int64 {
	switch c.Mode {
	case policy.Total:
		return max(n, c.Minor)
	case policy.Part:
		sum := n + c.Minor
		check(sum >= n, "object count overflows: %d + %d", n, c.Minor)
		return max(n, min(sum, max(c.Ceiling, c.Minor)))
	default:
		sum := n + c.Minor
		check(sum >= n, "object count overflows: %d + %d", n, c.Minor)
		return sum
	}
}

func (o *Object) withoutClaim(r ReservationID, effect int) []Claim {
	out := make([]Claim, 0, len(o.Claims))
	for _, c := range o.Claims {
		if c.Reservation != r || c.Effect != effect {
			out = append(out, c)
		}
	}
	return out
}

// check panics if an invariant of ours does not hold. The store lets no transaction commit after it and
// the gateway stops taking money calls: going on with wrong books is worse than stopping.
func check(ok bool, format string, args ...any) {
	if !ok {
		panic("ledger: " + fmt.Sprintf(format, args...))
	}
}
