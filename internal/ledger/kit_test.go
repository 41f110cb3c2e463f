package ledger

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
)

const (
	agent    policy.KeyID    = "key_agent"
	refunds  policy.Resource = "refunds"
	intents  policy.Resource = "payment_intents"
	dollar                   = int64(money.Dollar)
	perCent                  = dollar / 100
	tuesday                  = "2026-11-24T12:00:00Z"
	readable                 = -1 // for shelf.failAt: every row can be read
)

// shelf is a store in memory: it keeps rows as a Book's Changes leave them and gives them out as copies, so
// that nothing but Changes can change them.
type shelf struct {
	next         ReservationID
	accounts     map[AccountKey]Account
	objects      map[ObjectKey]Object
	reservations map[ReservationID]*Reservation

	failAt int // reads until one fails; readable = none
}

var errShelf = errors.New("the shelf fell down")

func newShelf() *shelf {
	return &shelf{
		next: 1, failAt: readable,
		accounts:     make(map[AccountKey]Account),
		objects:      make(map[ObjectKey]Object),
		reservations: make(map[ReservationID]*Reservation),
	}
}

func (s *shelf) read() error {
	if s.failAt == 0 {
		return errShelf
	}
	if s.failAt > 0 {
		s.failAt--
	}
	return nil
}

func (s *shelf) Account(k AccountKey) (Account, error) { return s.accounts[k], s.read() }

func (s *shelf) Object(k ObjectKey) (Object, error) { return copyObject(s.objects[k]), s.read() }

func (s *shelf) Reservation(id ReservationID) (*Reservation, error) {
	r, ok := s.reservations[id]
	if !ok {
		return nil, errors.New("no such reservation")
	}
	return r, s.read() // as a cache would: the Book must not write into it
}

func (s *shelf) write(c Changes) {
	s.next = c.Next
	for k, a := range c.Accounts {
		s.accounts[k] = a
	}
	for k, o := range c.Objects {
		s.objects[k] = copyObject(o)
	}
	for _, r := range slices.Concat(c.Created, c.Updated) {
		s.reservations[r.ID] = copyReservation(r)
	}
}

// all lists the reservations by number.
func (s *shelf) all() []*Reservation {
	var out []*Reservation
	for id := ReservationID(1); id < s.next; id++ {
		out = append(out, s.reservations[id])
	}
	return out
}

func copyObject(o Object) Object {
	o.Claims, o.Refs = slices.Clone(o.Claims), slices.Clone(o.Refs)
	return o
}

func copyReservation(r *Reservation) *Reservation {
	c := *r
	c.Effects, c.Counted = slices.Clone(r.Effects), slices.Clone(r.Counted)
	c.Handed, c.Holds = slices.Clone(r.Handed), slices.Clone(r.Holds)
	return &c
}

// books is a shelf with one transaction per call, at a time that the test sets.
type books struct {
	t     *testing.T
	shelf *shelf
	now   time.Time
	caps  []policy.Cap
}

func newBooks(t *testing.T, caps ...policy.Cap) *books {
	t.Helper()
	return &books{t: t, shelf: newShelf(), now: instant(t, tuesday), caps: caps}
}

func (b *books) request(effects ...policy.Effect) *Request {
	req := &Request{
		Key: agent, Operation: "refunds.create", Caps: b.caps, Zone: time.UTC, Effects: effects,
		Counts: []policy.Resource{refunds},
	}
	return req
}

// ask reserves in a transaction of its own; the reservation is nil when a cap is full.
func (b *books) ask(req *Request) (*Reservation, []policy.CapFailure) {
	b.t.Helper()
	book := NewBook(b.shelf, b.shelf.next)
	r, full, err := book.Reserve(b.now, req)
	if err != nil {
		b.t.Fatalf("reserve: %v", err)
	}
	b.shelf.write(book.Changes())
	return r, full
}

// hold reserves and must succeed.
func (b *books) hold(effects ...policy.Effect) ReservationID {
	b.t.Helper()
	r, full := b.ask(b.request(effects...))
	if r == nil {
		b.t.Fatalf("refused: %+v", full)
	}
	return r.ID
}

func (b *books) refuse(effects ...policy.Effect) policy.CapFailure {
	b.t.Helper()
	r, full := b.ask(b.request(effects...))
	if r != nil || len(full) == 0 {
		b.t.Fatalf("admitted: %+v (full: %v)", r, full)
	}
	return full[0]
}

func (b *books) resolve(id ReservationID, fate Fate) []Over {
	b.t.Helper()
	book := NewBook(b.shelf, b.shelf.next)
	overs, err := book.Resolve(b.now, id, fate)
	if err != nil {
		b.t.Fatalf("resolve %d: %v", id, err)
	}
	b.shelf.write(book.Changes())
	return overs
}

// settle settles a reservation of one effect at cents.
func (b *books) settle(id ReservationID, cents int64, object policy.ObjectID) []Over {
	b.t.Helper()
	return b.resolve(id, Fate{State: Settled, Moved: []Moved{{Amount: usd(cents), Object: object}}})
}

func (b *books) release(id ReservationID, proof Proof) {
	b.t.Helper()
	b.resolve(id, Fate{State: Released, Proof: proof})
}

func (b *books) finish(bucket policy.Resource, object policy.ObjectID, cents int64) {
	b.t.Helper()
	book := NewBook(b.shelf, b.shelf.next)
	if err := book.Finish(agent, Final{Bucket: bucket, Object: object, Amount: usd(cents)}); err != nil {
		b.t.Fatalf("finish %s: %v", object, err)
	}
	b.shelf.write(book.Changes())
}

// account reads how a cap stands in the window of now.
func (b *books) account(c policy.Cap) Account {
	return b.shelf.accounts[AccountKey{
		Key: agent, Resource: c.Resource, Per: c.Per, Unit: c.Unit, Label: Label(c.Per, b.now, time.UTC),
	}]
}

// want checks an account, in cents, and the books as a whole.
func (b *books) want(c policy.Cap, heldCents, settledCents int64) {
	b.t.Helper()
	want := Account{Held: heldCents * perCent, Settled: settledCents * perCent}
	if c.Unit == policy.UnitCalls {
		want = Account{Held: heldCents, Settled: settledCents}
	}
	if got := b.account(c); got != want {
		b.t.Fatalf("%s/%s holds %+v, want %+v", c.Resource, c.Per, got, want)
	}
	checkBooks(b.t, b.shelf)
}

func dollars(resource policy.Resource, per policy.Window, limit int64) policy.Cap {
	return policy.Cap{Resource: resource, Per: per, Unit: policy.UnitUSD, Limit: limit * dollar}
}

func calls(resource policy.Resource, per policy.Window, limit int64) policy.Cap {
	return policy.Cap{Resource: resource, Per: per, Unit: policy.UnitCalls, Limit: limit}
}

func usd(cents int64) money.Amount { return money.Amount{Minor: cents, Currency: "usd"} }

var usdQuote = money.Quote{Currency: "usd", Exponent: 2, Value: 1_000_000_000_000}

func gross(bucket policy.Resource, cents int64) policy.Effect {
	return policy.Effect{Bucket: bucket, Known: true, Amount: usd(cents), Quote: usdQuote}
}

func total(object policy.ObjectID, cents int64) policy.Effect {
	e := gross(intents, cents)
	e.Mode, e.Object = policy.Total, object
	return e
}

func part(object policy.ObjectID, cents, ceiling int64) policy.Effect {
	e := gross(intents, cents)
	e.Mode, e.Object, e.Ceiling = policy.Part, object, ceiling
	return e
}

// failer is what testing.T and rapid.T have in common here.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// checkBooks holds stored rows against each other: accounts are the sums of their holds, what reservations
// count for an object is what the object counts for, nothing is negative, released counts for nothing.
func checkBooks(t failer, s *shelf) {
	t.Helper()
	checkWorth(t, s)
	accounts := make(map[AccountKey]Account)
	counted := make(map[ObjectKey]int64)
	for _, r := range s.all() {
		for _, h := range r.Holds {
			if h.Amount < 0 {
				t.Fatalf("reservation %d has a negative hold %+v", r.ID, h)
			}
			a := accounts[h.Account]
			if r.State.Open() {
				a.Held += h.Amount
			} else {
				a.Settled += h.Amount
			}
			accounts[h.Account] = a
			if r.State == Released && h.Effect != noEffect && h.Amount != 0 {
				t.Fatalf("released reservation %d still holds %+v", r.ID, h)
			}
		}
		for i, n := range r.Counted {
			if n < 0 || (r.State == Released && n != 0) {
				t.Fatalf("%s reservation %d counts %d", r.State, r.ID, n)
			}
			if r.own(i) < 0 {
				t.Fatalf("reservation %d: more handed over than it counts", r.ID)
			}
			if r.Effects[i].Object != "" && r.Effects[i].Known {
				counted[r.objectKey(i)] += n
			}
		}
	}
	for k, a := range s.accounts {
		if a != accounts[k] {
			t.Fatalf("account %v is %+v, its holds sum up to %+v", k, a, accounts[k])
		}
		delete(accounts, k)
	}
	for k, a := range accounts {
		if a != (Account{}) {
			t.Fatalf("account %v has holds %+v and no row", k, a)
		}
	}
	for k, o := range s.objects {
		if o.counted() != counted[k] {
			t.Fatalf("object %v counts %d, its reservations %d: %+v", k, o.counted(), counted[k], o)
		}
		delete(counted, k)
	}
	for k, n := range counted {
		if n != 0 {
			t.Fatalf("object %v is counted %d and has no row", k, n)
		}
	}
}
