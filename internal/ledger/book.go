package ledger

import (
	"cmp"
	"fmt"
	"slices"
	"time"

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
// in the Book until the store has written them. An operation that returns an error has changed nothing, so
// the Book can go on with the next caller. A Book whose store transaction failed must be thrown away: it
// then holds what never happened. Not safe for concurrent use.
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

	before  undo
	windows []window
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
	Updated  []*Reservation // existed before; in order of their numbers
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
	slices.SortFunc(c.Updated, func(x, y *Reservation) int { return cmp.Compare(x.ID, y.ID) })
	return c
}

// Account returns how an account stands with the changes of this Book.
func (b *Book) Account(k AccountKey) (Account, error) {
	a, err := b.account(k)
	if err != nil {
		return Account{}, err
	}
	return *a, nil
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
	o.Refs = slices.Clip(o.Refs) // growing must not write into the store's own (cached) row
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
	r.Counted = slices.Clone(stored.Counted)
	r.Handed = slices.Clone(stored.Handed)
	r.Holds = slices.Clone(stored.Holds)
	b.reservations[id] = &r
	return &r, nil
}

// Detach takes the idempotency key from a reservation: no retry may attach to it any more.
func (b *Book) Detach(id ReservationID) error {
	r, err := b.Reservation(id)
	if err != nil {
		return err
	}
	b.touch(r)
	r.IdemKey = ""
	b.keep() // or the next caller's failure would take this back
	return nil
}

// Window is the window of a cap that holds some instant.
type Window struct {
	Label    string    // its identity, as by Label
	ResetsAt time.Time // as by ResetsAt
}

// window is a current window: all callers of a batch share its time, so it is found once and not once per
// caller.
type window struct {
	per  policy.Window
	zone *time.Location
	now  time.Time
	Window
}

// Window returns the window that now falls into.
func (b *Book) Window(per policy.Window, now time.Time, zone *time.Location) Window {
	for i := range b.windows {
		if w := &b.windows[i]; w.per == per && w.zone == zone && w.now.Equal(now) {
			return w.Window
		}
	}
	if len(b.windows) == maxWindows {
		b.windows = b.windows[:0]
	}
	found := Window{Label: Label(per, now, zone), ResetsAt: ResetsAt(per, now, zone)}
	b.windows = append(b.windows, window{per, zone, now, found})
	return found
}

// maxWindows bounds the search above: five windows in a few zones are one batch's usual work.
const maxWindows = 32

// objectKeyOf is the identity under which an effect counts once.
func objectKeyOf(key policy.KeyID, e *policy.Effect) ObjectKey {
	return ObjectKey{Key: key, Bucket: e.Bucket, Object: e.Object, Currency: e.Amount.Currency}
}

func (r *Reservation) objectKey(effect int) ObjectKey { return objectKeyOf(r.Key, &r.Effects[effect]) }

// check panics if an invariant of ours does not hold. The store lets no transaction commit after it and
// the gateway stops taking money calls: going on with wrong books is worse than stopping.
func check(ok bool, format string, args ...any) {
	if !ok {
		panic("ledger: " + fmt.Sprintf(format, args...))
	}
}
