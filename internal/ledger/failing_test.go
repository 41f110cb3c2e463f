package ledger

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/keybrake/keybrake/internal/policy"
)

// copyChanges is what a Book would write now, safe from what it does next.
func copyChanges(b *Book) Changes {
	c := b.Changes()
	var created, updated []*Reservation
	for _, r := range c.Created {
		created = append(created, copyReservation(r))
	}
	for _, r := range c.Updated {
		updated = append(updated, copyReservation(r))
	}
	c.Created, c.Updated = created, updated
	for k, o := range c.Objects {
		c.Objects[k] = copyObject(o)
	}
	return c
}

// TestARowThatCannotBeReadLeavesNothingHalfDone fails every read of every operation in turn. A Book that has
// served another caller before must want to write that caller's changes and no others, and must then do the
// same operation as one that never failed.
func TestARowThatCannotBeReadLeavesNothingHalfDone(t *testing.T) {
	tests := map[string]func(b *books, book *Book) error{
		"reserve": func(b *books, book *Book) error {
			req := b.request(total("pi_1", 30000), part("pi_2", 500, 0), gross(refunds, 700))
			req.Key = "key_other" // whose rows nobody in the batch has read yet
			_, _, err := book.Reserve(b.now, req)
			return err
		},
		"settle what holds for others": func(b *books, book *Book) error {
			_, err := book.Resolve(b.now, 2, Fate{
				State: Settled, Moved: []Moved{{usd(9000), "pi_1"}, {usd(100), "po_1"}},
				Finals: []Final{{Bucket: intents, Object: "pi_2", Amount: usd(100)}, {Bucket: intents, Object: "pi_1", Amount: usd(10)}}})
			return err
		},
		"settle what was handed over": func(b *books, book *Book) error {
			_, err := book.Resolve(b.now, 3, Fate{State: Settled, Moved: []Moved{{usd(1000), "pi_1"}}})
			return err
		},
		"release to an heir": func(b *books, book *Book) error {
			_, err := book.Resolve(b.now, 2, Fate{State: Released, Proof: ProofRefused})
			return err
		},
		"release what was never sent": func(b *books, book *Book) error {
			_, err := book.Resolve(b.now, 3, Fate{State: Released, Proof: ProofNotSent})
			return err
		},
		"finish": func(b *books, book *Book) error {
			return book.Finish(agent, Final{Bucket: intents, Object: "pi_2", Amount: usd(50)})
		},
		"write down what happened without a hold": func(b *books, book *Book) error {
			req := b.request(total("pi_1", 30000), part("pi_2", 500, 0), gross(refunds, 700))
			req.Key = "key_other"
			_, _, err := book.Happened(b.now, req, Fate{State: Settled, Moved: []Moved{{usd(30000), "pi_1"}, {usd(500), "pi_2"}, {usd(700), "re_1"}}})
			return err
		},
		"write down what happened on an object that others count on": func(b *books, book *Book) error {
			_, _, err := book.Happened(b.now, b.request(total("pi_1", 30000), gross(intents, 700)),
				Fate{State: Settled, Moved: []Moved{{usd(30000), "pi_1"}, {usd(700), "pi_2"}}})
			return err
		},
		"learn that less remains": func(b *books, book *Book) error {
			_, _, err := book.Learn(agent, Final{Bucket: intents, Object: "pi_2", Amount: usd(50)}, true)
			return err
		},
		"learn that more moved": func(b *books, book *Book) error {
			_, _, err := book.Learn(agent, Final{Bucket: intents, Object: "pi_3", Amount: usd(1200)}, true)
			return err
		},
		"send again": func(b *books, book *Book) error { return book.Resent(b.now, 2) },
		"detach":     func(_ *books, book *Book) error { return book.Detach(2) },
	}
	for name, operation := range tests {
		t.Run(name, func(t *testing.T) {
			for k := 0; ; k++ {
				b := crowded(t)
				clean, torn := busy(t, b), busy(t, b)
				before := copyChanges(torn)
				b.shelf.failAt = k
				err := operation(b, torn)
				b.shelf.failAt = readable
				if err == nil {
					if k == 0 {
						t.Fatal("nothing was read")
					}
					return
				}
				if !errors.Is(err, errShelf) {
					t.Fatalf("read %d: %v", k, err)
				}
				if diff := cmp.Diff(before, copyChanges(torn), cmpopts.EquateEmpty()); diff != "" {
					t.Fatalf("read %d failed, and what would be written changed\n%s", k, diff)
				}
				if err := operation(b, torn); err != nil {
					t.Fatalf("after a failed read %d: %v", k, err)
				}
				if err := operation(b, clean); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(copyChanges(clean), copyChanges(torn), cmpopts.EquateEmpty()); diff != "" {
					t.Fatalf("after a failed read %d it came out differently\n%s", k, diff)
				}
				b.shelf.write(torn.Changes())
				checkBooks(t, b.shelf)
			}
		})
	}
}

// crowded are books on whose objects open, settled and released calls stand: 1 was released and 2 has its hold,
// 3 counts on what 2 holds, 4 is settled, 5 is settled for the time being.
func crowded(t *testing.T) *books {
	b := newBooks(t, dollars(intents, policy.PerDay, 1000), dollars("*", policy.PerHour, 1000), calls(intents, policy.PerHour, 50),
		calls(refunds, policy.PerHour, 50))
	first := b.hold(total("pi_1", 8000))
	b.hold(total("pi_1", 9000), gross(intents, 100))
	b.hold(total("pi_1", 9000))
	b.settle(b.hold(total("pi_2", 500)), 400, "pi_2")
	b.release(first, ProofRefused)
	b.resolve(b.hold(total("pi_3", 700)), Fate{State: Settled, Moved: []Moved{{usd(700), "pi_3"}}, Pending: true})
	return b
}

// busy is a Book that has served a caller already, on the rows that the next one will want too.
func busy(t *testing.T, b *books) *Book {
	t.Helper()
	book := NewBook(b.shelf, b.shelf.next)
	if r, full, err := book.Reserve(b.now, b.request(total("po_1", 9500))); r == nil || err != nil {
		t.Fatalf("reserve: %+v, %v", full, err)
	}
	if err := book.Detach(3); err != nil {
		t.Fatal(err)
	}
	return book
}
