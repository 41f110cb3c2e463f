package replay

import (
	"errors"
	"fmt"
	"time"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
)

// turn is how many operations one ledger.Book serves before its rows are taken over.
const turn = 256

// errLetGo says that a reservation is not kept any more.
var errLetGo = errors.New("let go of")

// books are the rows of a store, in memory. What is over is let go of, oldest first, so that they stay small however many
// calls are replayed; what a vendor said much later about such a call then changes nothing.
type books struct {
	accounts     map[ledger.AccountKey]account
	objects      map[ledger.ObjectKey]ledger.Object
	reservations map[ledger.ReservationID]*ledger.Reservation
	over         []ledger.ReservationID // resolved, oldest first
	keep         int                    // of over
	forgotten    int64                  // later words about calls that were let go of
	now          time.Time              // of the latest record

	current *ledger.Book
	turns   int
	next    ledger.ReservationID
}

// account is a running total and when its window ends; zero = never.
type account struct {
	ledger.Account
	ends time.Time
}

func newBooks(keep int) books {
	return books{
		accounts: map[ledger.AccountKey]account{}, objects: map[ledger.ObjectKey]ledger.Object{},
		reservations: map[ledger.ReservationID]*ledger.Reservation{}, keep: keep, next: 1,
	}
}

// Account implements ledger.Rows.
func (b *books) Account(k ledger.AccountKey) (ledger.Account, error) {
	return b.accounts[k].Account, nil
}

// Object implements ledger.Rows.
func (b *books) Object(k ledger.ObjectKey) (ledger.Object, error) { return b.objects[k], nil }

// Reservation implements ledger.Rows.
func (b *books) Reservation(id ledger.ReservationID) (*ledger.Reservation, error) {
	if r, ok := b.reservations[id]; ok {
		return r, nil
	}
	return nil, errLetGo
}

// book returns the ledger's view for the next operation.
func (b *books) book() *ledger.Book {
	if b.turns++; b.turns >= turn && b.current != nil {
		b.write()
	}
	if b.current == nil {
		b.current, b.turns = ledger.NewBook(b, b.next), 0
	}
	return b.current
}

// write takes over what the open book has changed.
func (b *books) write() {
	if b.current == nil {
		return
	}
	c := b.current.Changes()
	b.current, b.next = nil, c.Next
	for _, list := range [...][]*ledger.Reservation{c.Created, c.Updated} {
		for _, r := range list {
			was := b.reservations[r.ID]
			b.reservations[r.ID] = r
			if !r.State.Open() && (was == nil || was.State.Open()) {
				b.over = append(b.over, r.ID)
			}
			for i := range r.Holds {
				h := &r.Holds[i]
				a := b.accounts[h.Account]
				a.ends = h.ResetsAt
				b.accounts[h.Account] = a
			}
		}
	}
	for k, a := range c.Accounts {
		row := b.accounts[k]
		row.Account = a
		b.accounts[k] = row
	}
	for k, o := range c.Objects {
		b.objects[k] = o
	}
	if len(b.over) > b.keep {
		b.letGo()
	}
}

// letGo drops the older half of what is over, the objects that nothing kept counts for, and the windows that have ended
// and in which nothing kept counts.
func (b *books) letGo() {
	half := len(b.over) / 2
	gone := make([]*ledger.Reservation, 0, half)
	for _, id := range b.over[:half] {
		gone = append(gone, b.reservations[id])
		delete(b.reservations, id)
	}
	b.over = append([]ledger.ReservationID(nil), b.over[half:]...)
	for _, r := range gone {
		for i := range r.Effects {
			e := &r.Effects[i]
			k := ledger.ObjectKey{Key: r.Key, Bucket: e.Bucket, Object: e.Object, Currency: e.Amount.Currency}
			if o, ok := b.objects[k]; ok && !b.counts(&o) {
				delete(b.objects, k)
			}
		}
	}
	used := make(map[ledger.AccountKey]bool, len(b.accounts))
	for _, r := range b.reservations {
		for i := range r.Holds {
			used[r.Holds[i].Account] = true
		}
	}
	for k, a := range b.accounts {
		if !used[k] && !a.ends.IsZero() && !b.now.Before(a.ends) {
			delete(b.accounts, k)
		}
	}
}

// counts reports whether anything that is kept counts for an object.
func (b *books) counts(o *ledger.Object) bool {
	for _, ref := range o.Refs {
		if b.reservations[ref.Reservation] != nil {
			return true
		}
	}
	return len(o.Claims) > 0
}

// open reports whether a reservation still waits for its fate.
func (b *books) open(id ledger.ReservationID) bool {
	r, err := b.book().Reservation(id)
	return err == nil && r.State.Open()
}

// resolve gives a reservation its fate. One that has another one already keeps it.
func (b *books) resolve(now time.Time, id ledger.ReservationID, fate ledger.Fate) error {
	if r, err := b.book().Reservation(id); err == nil && !fits(r, &fate) {
		fate = ledger.Fate{State: ledger.Unresolved}
	}
	_, err := b.book().Resolve(now, id, fate)
	if errors.Is(err, errLetGo) && len(fate.Finals) > 0 { // an object's earlier calls; its own fate is known all the same
		b.forgotten++
		fate.Finals = nil
		_, err = b.book().Resolve(now, id, fate)
	}
	if errors.Is(err, ledger.ErrResolved) {
		return nil
	}
	return b.let(err)
}

// fits reports whether a fate can be written into a reservation: the record is from outside, and the ledger takes what
// does not fit for its own mistake.
func fits(r *ledger.Reservation, fate *ledger.Fate) bool {
	if fate.State != ledger.Settled || !r.State.Open() {
		return true
	}
	if len(fate.Moved) != len(r.Effects) {
		return false
	}
	for i, m := range fate.Moved {
		if m.Amount.Minor > 0 && m.Amount.Currency != r.Effects[i].Amount.Currency {
			return false
		}
	}
	return true
}

// learn brings an object to the last word about it.
func (b *books) learn(key policy.KeyID, f ledger.Final, alone bool) error {
	_, _, err := b.book().Learn(key, f, alone)
	return b.let(err)
}

// let passes over what concerns calls that were let go of.
func (b *books) let(err error) error {
	if errors.Is(err, errLetGo) {
		b.forgotten++
		return nil
	}
	if err != nil {
		return fmt.Errorf("count what became of a call: %w", err)
	}
	return nil
}
