package ledger

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
)

// The figures of these tables are cents in one cap of $1000 a day on payment intents.
type figures struct{ held, settled int64 }

var objectCases = map[string]struct {
	does func(b *books)
	want figures
}{
	"a second confirmation adds nothing": {func(b *books) {
		b.hold(total("pi_1", 10000))
		b.hold(total("pi_1", 10000))
	}, figures{10000, 0}},
	"the first confirmation is refused, the second may still succeed": {func(b *books) {
		first := b.hold(total("pi_1", 10000))
		b.hold(total("pi_1", 10000))
		b.release(first, ProofRefused)
	}, figures{10000, 0}},
	"the second confirmation is refused, the first may still succeed": {func(b *books) {
		b.hold(total("pi_1", 10000))
		b.release(b.hold(total("pi_1", 10000)), ProofRefused)
	}, figures{10000, 0}},
	"the first is refused after the second succeeded": {func(b *books) {
		first, second := b.hold(total("pi_1", 10000)), b.hold(total("pi_1", 10000))
		b.settle(second, 10000, "pi_1")
		b.release(first, ProofRefused)
	}, figures{0, 10000}},
	"the first is refused, then the second succeeds": {func(b *books) {
		first, second := b.hold(total("pi_1", 10000)), b.hold(total("pi_1", 10000))
		b.release(first, ProofRefused)
		b.settle(second, 10000, "pi_1")
	}, figures{0, 10000}},
	"both confirmations are refused": {func(b *books) {
		first, second := b.hold(total("pi_1", 10000)), b.hold(total("pi_1", 10000))
		b.release(first, ProofRefused)
		b.release(second, ProofAbsent)
	}, figures{0, 0}},
	"an update raises it, then it is confirmed": {func(b *books) {
		b.settle(b.hold(total("pi_1", 10000)), 10000, "pi_1")
		b.settle(b.hold(total("pi_1", 15000)), 15000, "pi_1")
		b.settle(b.hold(total("pi_1", 15000)), 15000, "pi_1")
	}, figures{0, 15000}},
	"an update lowers it and gives nothing back": {func(b *books) {
		b.settle(b.hold(total("pi_1", 10000)), 10000, "pi_1")
		b.settle(b.hold(total("pi_1", 2000)), 2000, "pi_1")
	}, figures{0, 10000}},
	"an update is unknown while the intent is confirmed": {func(b *books) {
		b.resolve(b.hold(total("pi_1", 15000)), Fate{State: Unresolved})
		b.settle(b.hold(total("pi_1", 10000)), 10000, "pi_1")
	}, figures{15000, 0}},
	"and the update turns out to have been refused": {func(b *books) {
		update := b.hold(total("pi_1", 15000))
		b.resolve(update, Fate{State: Unresolved})
		b.settle(b.hold(total("pi_1", 10000)), 10000, "pi_1")
		b.release(update, ProofAbsent)
	}, figures{0, 10000}},
	"the capture of another's authorisation counts in full": {func(b *books) {
		b.settle(b.hold(part("pi_2", 4000, 10000)), 4000, "pi_2")
	}, figures{0, 4000}},
	"and so does its rest": {func(b *books) {
		b.settle(b.hold(part("pi_2", 4000, 10000)), 4000, "pi_2")
		b.settle(b.hold(part("pi_2", 6000, 10000)), 6000, "pi_2")
	}, figures{0, 10000}},
	"a capture of one's own authorisation adds nothing": {func(b *books) {
		b.settle(b.hold(total("pi_1", 10000)), 10000, "pi_1")
		b.settle(b.hold(part("pi_1", 10000, 10000)), 10000, "pi_1")
	}, figures{0, 10000}},
	"a partial capture and the rest add nothing": {func(b *books) {
		b.settle(b.hold(total("pi_1", 10000)), 10000, "pi_1")
		b.settle(b.hold(part("pi_1", 3000, 10000)), 3000, "pi_1")
		b.settle(b.hold(part("pi_1", 7000, 10000)), 7000, "pi_1")
	}, figures{0, 10000}},
	"a final partial capture gives the rest back": {func(b *books) {
		b.settle(b.hold(total("pi_1", 10000)), 10000, "pi_1")
		b.resolve(b.hold(part("pi_1", 3000, 10000)), Fate{
			State: Settled, Moved: []Moved{{Amount: usd(3000), Object: "pi_1"}},
			Finals: []Final{{Bucket: intents, Object: "pi_1", Amount: usd(3000)}}})
	}, figures{0, 3000}},
	"an overcapture adds what is above the authorisation": {func(b *books) {
		b.settle(b.hold(total("pi_1", 10000)), 10000, "pi_1")
		b.settle(b.hold(part("pi_1", 12000, 10000)), 12000, "pi_1")
	}, figures{0, 12000}},
	"a part without a ceiling adds in full": {func(b *books) {
		b.settle(b.hold(total("pi_1", 10000)), 10000, "pi_1")
		b.hold(part("pi_1", 3000, 0))
	}, figures{3000, 10000}},
	"a part that moved more than asked, answered after a later part": {func(b *books) {
		first := b.hold(part("pi_1", 3000, 3000))
		b.settle(b.hold(part("pi_1", 1000, 0)), 1000, "pi_1")
		b.settle(first, 5000, "pi_1")
	}, figures{0, 6000}},
	"a create that names a known object counts it once": {func(b *books) {
		b.settle(b.hold(total("pi_1", 10000)), 10000, "pi_1")
		b.settle(b.hold(total("", 10000)), 10000, "pi_1")
	}, figures{0, 10000}},
	"a create that names a larger object than was known": {func(b *books) {
		b.settle(b.hold(total("pi_1", 6000)), 6000, "pi_1")
		b.settle(b.hold(total("", 10000)), 10000, "pi_1")
	}, figures{0, 10000}},
	"a create whose answer comes after a part stands below it": {func(b *books) {
		created := b.hold(total("", 10000))
		b.settle(b.hold(part("pi_1", 3000, 0)), 3000, "pi_1")
		b.settle(created, 10000, "pi_1")
	}, figures{0, 13000}},
	"another currency is another count": {func(b *books) {
		b.settle(b.hold(total("pi_1", 10000)), 10000, "pi_1")
		e := total("pi_1", 10000)
		e.Amount.Currency, e.Quote.Currency = "eur", "eur"
		b.hold(e)
	}, figures{10000, 10000}},
	"two effects on one object add up to it": {func(b *books) {
		id := b.hold(total("pi_1", 10000), part("pi_1", 3000, 0))
		b.resolve(id, Fate{State: Settled, Moved: []Moved{{usd(10000), "pi_1"}, {usd(2000), "pi_1"}}})
	}, figures{0, 12000}},
	"two effects on one object are refused together": {func(b *books) {
		b.release(b.hold(total("pi_1", 10000), total("pi_1", 12000), part("pi_1", 3000, 0)), ProofRefused)
	}, figures{0, 0}},
	"nothing of an object holds nothing": {func(b *books) {
		b.settle(b.hold(total("pi_1", 0)), 0, "pi_1")
		b.settle(b.hold(part("pi_1", 0, 10000)), 0, "pi_1")
		b.settle(b.hold(gross(intents, 0)), 0, "pi_1")
	}, figures{0, 0}},
	"nothing that turns out to be something counts": {func(b *books) {
		b.settle(b.hold(total("pi_1", 0)), 700, "pi_1")
	}, figures{0, 700}},
	"a cancelled intent gives everything back": {func(b *books) {
		b.settle(b.hold(total("pi_1", 10000)), 10000, "pi_1")
		b.finish(intents, "pi_1", 0)
	}, figures{0, 0}},
	"a final state twice gives back once": {func(b *books) {
		b.settle(b.hold(total("pi_1", 10000)), 10000, "pi_1")
		b.finish(intents, "pi_1", 4000)
		b.finish(intents, "pi_1", 4000)
	}, figures{0, 4000}},
	"a final state above what was counted raises nothing": {func(b *books) {
		b.settle(b.hold(total("pi_1", 10000)), 10000, "pi_1")
		b.finish(intents, "pi_1", 20000)
		b.finish(intents, "pi_9", 500)
	}, figures{0, 10000}},
	"a final state leaves an open call what it may need": {func(b *books) {
		b.settle(b.hold(total("pi_1", 10000)), 10000, "pi_1")
		b.hold(total("pi_1", 15000))
		b.finish(intents, "pi_1", 0)
	}, figures{5000, 10000}},
	"and gives it back once that call is refused": {func(b *books) {
		b.settle(b.hold(total("pi_1", 10000)), 10000, "pi_1")
		open := b.hold(total("pi_1", 15000))
		b.finish(intents, "pi_1", 0)
		b.release(open, ProofRefused)
	}, figures{0, 0}},
	"two that wait give back what both were handed": {func(b *books) {
		b.release(waitingForFour(b), ProofRefused)
	}, figures{150, 0}},
	"two that wait give back what the one that succeeded did not move": {func(b *books) {
		b.settle(waitingForFour(b), 10, "pi_1") // which the vendor may have taken before the total of the others
	}, figures{160, 0}},
	"a gross effect adds to its object however often": {func(b *books) {
		b.settle(b.hold(gross(intents, 500)), 500, "tr_1")
		b.settle(b.hold(gross(intents, 500)), 500, "tr_1")
	}, figures{0, 1000}},
}

// waitingForFour makes five calls on one intent of $100, refuses two of them, and returns one that could move all of it and
// holds nothing: the two small ones carry what the refused ones held, $60 and $40.
func waitingForFour(b *books) ReservationID {
	b.hold(part("pi_1", 100, 10000))
	first, second := b.hold(part("pi_1", 5900, 10000)), b.hold(part("pi_1", 4000, 10000))
	all := b.hold(part("pi_1", 10000, 10000))
	b.release(first, ProofRefused)
	b.hold(total("pi_1", 50))
	b.release(second, ProofRefused)
	return all
}

func TestOneObjectIsCountedOnce(t *testing.T) {
	day := dollars(intents, policy.PerDay, 1000)
	for name, tt := range objectCases {
		t.Run(name, func(t *testing.T) {
			b := newBooks(t, day)
			tt.does(b)
			b.want(day, tt.want.held, tt.want.settled)
		})
	}
}

func TestEqualCallsDoNotGrowTheObject(t *testing.T) {
	b := newBooks(t, dollars(intents, policy.PerDay, 1000))
	for range 50 {
		b.settle(b.hold(total("pi_1", 10000)), 10000, "pi_1")
	}
	want := Object{Settled: 10000, Refs: []Ref{{Reservation: 1}}}
	if diff := cmp.Diff(want, b.shelf.objects[ObjectKey{agent, intents, "pi_1", "usd"}]); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestWhatIsHandedOverKeepsItsWindow(t *testing.T) {
	day := dollars(intents, policy.PerDay, 1000)
	b := newBooks(t, day)
	first := b.hold(total("pi_1", 10000))
	b.now = instant(t, "2026-11-25T12:00:00Z")
	second := b.hold(total("pi_1", 12000))
	b.want(day, 2000, 0)
	b.release(first, ProofRefused)
	b.want(day, 2000, 0)
	b.settle(second, 12000, "pi_1")
	b.want(day, 0, 2000)
	b.now = instant(t, tuesday)
	b.want(day, 0, 10000)
}

func TestAnObjectThatOverflowsIsRefused(t *testing.T) {
	b := newBooks(t) // no cap in dollars stands in the way
	half := int64(math.MaxInt64/2 + 1)
	b.hold(part("pi_1", half, 0))
	req := b.request(part("pi_1", half, 0))
	for _, soft := range []bool{false, true} {
		req.Soft = soft
		if r, _ := b.ask(req); r != nil {
			t.Errorf("soft %v: held %d on top of %d", soft, half, half)
		}
	}
	checkBooks(t, b.shelf)
}

func TestOversOnObjectsTellWhatWasAdded(t *testing.T) {
	b := newBooks(t, dollars(intents, policy.PerDay, 1000))
	b.settle(b.hold(total("pi_1", 10000)), 10000, "pi_1")
	got := b.settle(b.hold(part("pi_1", 3000, 10000)), 11000, "pi_1")
	want := []Over{{Bucket: intents, Held: 0, Moved: 10 * money.Dollar}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestACapAddedAtNoonCountsTheMorning(t *testing.T) {
	b := newBooks(t, calls(refunds, policy.PerDay, 100))
	day, all := dollars(intents, policy.PerDay, 1000), calls("*", policy.PerDay, 100)
	b.now = instant(t, "2026-11-23T23:00:00Z")
	yesterday, late := b.hold(total("pi_0", 99900)), b.hold(total("pi_5", 99900))
	b.now = instant(t, "2026-11-24T08:00:00Z")
	b.settle(b.hold(total("pi_1", 10000)), 8000, "pi_1")
	b.hold(total("pi_5", 99900))
	b.release(late, ProofRefused) // its heir is of today, what it held is of yesterday
	first, second := b.hold(total("pi_2", 5000)), b.hold(total("pi_2", 7000))
	b.release(b.hold(gross(intents, 300)), ProofRefused)
	b.release(b.hold(gross(intents, 300)), ProofNotSent)
	b.release(first, ProofRefused) // the second carries both parts now
	b.now = instant(t, tuesday)

	added := []policy.Cap{day, all}
	account := func(c policy.Cap) AccountKey {
		return AccountKey{agent, c.Resource, c.Per, c.Unit, Label(c.Per, b.now, b.now.Location())}
	}
	rows := Recount(added, b.now.Location(), b.shelf.all())
	for _, r := range b.shelf.all() {
		for _, h := range r.HoldsFor(added, b.now.Location()) {
			if h.Account == account(day) || h.Account == account(all) {
				r.Holds = append(r.Holds, h)
			}
		}
	}
	for _, c := range added {
		b.shelf.accounts[account(c)] = rows[account(c)]
	}
	b.caps = append(b.caps, added...)
	b.want(day, 7000, 8000)
	b.want(all, 2, 3) // the one that never left does not count
	b.settle(second, 6000, "pi_2")
	b.want(day, 0, 14000)
	b.settle(yesterday, 99900, "pi_0")
	b.finish(intents, "pi_1", 0)
	b.want(day, 0, 6000)
	b.hold(total("pi_3", 94000))
	b.refuse(total("pi_4", 1))
	again := Recount(added, b.now.Location(), b.shelf.all())
	for _, c := range added {
		if got := again[account(c)]; got != b.account(c) {
			t.Errorf("recounted %+v, the books say %+v", got, b.account(c))
		}
	}
}

// TestTheLastWordEndsTheWait: what a vendor says at the end lowers what is counted, and raises it only for whoever is alone
// with the object and was settled for the time being.
func TestTheLastWordEndsTheWait(t *testing.T) {
	for _, c := range []struct {
		name           string
		pending, alone bool
		final          int64 // cents
		want           int64
		over, changed  bool
	}{
		{"less remains", true, true, 400, 400, false, true},
		{"all of it stands", true, true, 700, 700, false, true},
		{"more moved by this principal's calls", true, true, 900, 900, true, true},
		{"more moved, and others are counted for it too", true, false, 900, 700, false, true},
		{"more moved after the last word", false, true, 900, 700, false, false},
		{"less remains after the last word", false, true, 0, 0, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			day := dollars(intents, policy.PerDay, 1000)
			b := newBooks(t, day)
			id := b.hold(total("pi_1", 700))
			b.resolve(id, Fate{State: Settled, Moved: []Moved{{usd(700), "pi_1"}}, Pending: c.pending})
			b.now = b.now.AddDate(0, 0, 1)
			final := Final{Bucket: intents, Object: "pi_1", Amount: usd(c.final)}
			for round := range 2 {
				book := NewBook(b.shelf, b.shelf.next)
				overs, changed, err := book.Learn(agent, final, c.alone)
				if err != nil {
					t.Fatal(err)
				}
				b.shelf.write(book.Changes())
				checkBooks(t, b.shelf)
				if want := c.changed && round == 0; changed != want || (len(overs) > 0) != (c.over && round == 0) {
					t.Errorf("round %d: changed %t, reported %+v", round, changed, overs)
				}
			}
			r := b.shelf.reservations[id]
			if r.Counted[0] != c.want || r.Pending {
				t.Errorf("it counts %d, want %d; waits: %t", r.Counted[0], c.want, r.Pending)
			}
			b.now = b.now.AddDate(0, 0, -1)
			b.want(day, 0, c.want)
		})
	}
}
