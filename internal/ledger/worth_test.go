package ledger

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
)

// micro is a quote by which one minor unit is one micro-dollar, the least that a hold can be.
var micro = money.Quote{Rate: "m", Currency: "jpy", Value: 1_000_000}

func least(e policy.Effect) policy.Effect {
	e.Amount.Currency, e.Quote = micro.Currency, micro
	return e
}

func (b *books) movedIn(currency money.Currency, minor int64) {
	b.resolve(b.hold(gross(intents, 5)), Fate{State: Settled, Moved: []Moved{{Amount: money.Amount{Minor: minor, Currency: currency}}}})
}

// checkWorth holds each hold against what it stands for: the reservation's own part at its quote, or what was handed to it at
// the quote of the one that made it (or at its own, under a cap that came later).
func checkWorth(t failer, s *shelf) {
	t.Helper()
	const rounded = 40 // micro-dollars: a hold that is made smaller again and again is rounded up each time
	for _, r := range s.all() {
		handed := map[Hold]int64{} // by effect and maker
		for _, part := range r.Handed {
			handed[Hold{Effect: part.Effect, From: part.From}] += part.Minor
		}
		worth := map[Hold]int64{} // by account, effect and maker
		for _, h := range r.Holds {
			if h.Effect != noEffect {
				worth[Hold{Account: h.Account, Effect: h.Effect, From: h.From}] += h.Amount
			}
		}
		for h, amount := range worth {
			q, minor := r.Effects[h.Effect].Quote, r.own(h.Effect)
			if h.From == 0 {
				if amount != int64(convert(q, minor)) {
					t.Fatalf("reservation %d has %d of its own at %+v and holds %d", r.ID, minor, q, amount)
				}
				continue
			}
			minor = handed[Hold{Effect: h.Effect, From: h.From}]
			low, high := int64(convert(q, minor)), int64(convert(q, minor))
			maker := s.reservations[h.From]
			for i := range maker.Effects {
				if maker.objectKey(i) == r.objectKey(h.Effect) {
					at := int64(convert(maker.Effects[i].Quote, minor))
					low, high = min(low, at), max(high, at)
				}
			}
			if amount < low || amount > high+rounded || (minor == 0 && amount != 0) {
				t.Fatalf("reservation %d was handed %d by %d, worth %d to %d, and holds %d", r.ID, minor, h.From, low, high, amount)
			}
		}
	}
}

func TestLessComesOffWhatWasHandedOverFirst(t *testing.T) {
	day := dollars(intents, policy.PerDay, 1000)
	b := newBooks(t, day)
	first := b.hold(total("pi_1", 1))
	b.now = b.now.AddDate(0, 0, 1)
	second := b.hold(total("pi_1", 10))
	b.release(first, ProofRefused)
	b.want(day, 9, 0)
	b.settle(second, 9, "pi_1")
	b.want(day, 0, 9)
	b.now = b.now.AddDate(0, 0, -1)
	b.want(day, 0, 0)
}

func TestTheLeastHoldIsHandedOver(t *testing.T) {
	day := dollars(intents, policy.PerDay, 1000)
	b := newBooks(t, day)
	first, second := b.hold(least(total("pi_1", 1))), b.hold(least(total("pi_1", 1)))
	b.release(first, ProofRefused)
	if got := b.account(day); got != (Account{Held: 1}) {
		t.Errorf("one micro-dollar is held by the second: %+v", got)
	}
	b.resolve(second, Fate{State: Settled, Moved: []Moved{{money.Amount{Minor: 1, Currency: micro.Currency}, "pi_1"}}})
	if got := b.account(day); got != (Account{Settled: 1}) {
		t.Errorf("and settled: %+v", got)
	}
	checkBooks(t, b.shelf)
}

func TestOverTellsMoreAndOnlyMore(t *testing.T) {
	unpriced := gross(intents, 500)
	unpriced.Quote = money.Quote{}
	cheapest := gross(intents, 500)
	cheapest.Quote.Value = 1
	for name, test := range map[string]struct {
		effect policy.Effect
		moved  int64
		want   []Over
	}{
		"what was held moved":          {gross(intents, 500), 500, nil},
		"less moved":                   {gross(intents, 500), 499, nil},
		"a cent more moved":            {gross(intents, 500), 501, []Over{{intents, 5 * money.Dollar, 501 * money.Dollar / 100}}},
		"more moved that has no price": {unpriced, 501, []Over{{Bucket: intents}}},
		"more moved at the least rate": {cheapest, 600, []Over{{intents, 1, 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBooks(t)
			if diff := cmp.Diff(test.want, b.settle(b.hold(test.effect), test.moved, "")); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestTheLastWordTellsWhatItAdded(t *testing.T) {
	learn := func(b *books, cents int64) []Over {
		book := NewBook(b.shelf, b.shelf.next)
		overs, _, err := book.Learn(agent, Final{Bucket: intents, Object: "pi_1", Amount: usd(cents)}, true)
		if err != nil {
			b.t.Fatal(err)
		}
		b.shelf.write(book.Changes())
		checkBooks(b.t, b.shelf)
		return overs
	}
	unpriced, cheapest := total("pi_1", 700), total("pi_1", 700)
	unpriced.Quote, cheapest.Quote.Value = money.Quote{}, 1
	for name, test := range map[string]struct {
		effect policy.Effect
		open   bool
		cents  int64
		want   []Over
	}{
		"a cent more":               {total("pi_1", 700), false, 701, []Over{{intents, 7 * money.Dollar, 701 * money.Dollar / 100}}},
		"no more":                   {total("pi_1", 700), false, 700, nil},
		"more without a price":      {unpriced, false, 900, []Over{{Bucket: intents}}},
		"more at the least rate":    {cheapest, false, 900, []Over{{intents, 1, 1}}},
		"more while a call is open": {total("pi_1", 700), true, 900, nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBooks(t)
			b.resolve(b.hold(test.effect), Fate{State: Settled, Moved: []Moved{{usd(700), "pi_1"}}, Pending: true})
			if test.open {
				b.hold(total("pi_1", 650))
			}
			if diff := cmp.Diff(test.want, learn(b, test.cents)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestAFinalStateAndALateAnswer(t *testing.T) {
	for name, test := range map[string]struct{ final, want int64 }{
		"of all that was counted: the late total may stand below it": {3000, 13000},
		"of less: what came before it is over":                       {2000, 10000},
	} {
		t.Run(name, func(t *testing.T) {
			day := dollars(intents, policy.PerDay, 1000)
			b := newBooks(t, day)
			created := b.hold(total("", 10000))
			b.settle(b.hold(part("pi_1", 3000, 0)), 3000, "pi_1")
			b.finish(intents, "pi_1", test.final)
			b.settle(created, 10000, "pi_1")
			b.want(day, 0, test.want)
		})
	}
}

func TestWhatNoAccountCanWriteDownIsRefusedUnderSoftToo(t *testing.T) {
	all := int64(math.MaxInt64)
	noRate := gross(intents, 5)
	noRate.Quote = money.Quote{}
	for name, test := range map[string]struct {
		before  []policy.Effect
		effects []policy.Effect
		held    bool
	}{
		"no rate":                         {nil, []policy.Effect{noRate}, false},
		"two halves that overflow":        {nil, []policy.Effect{least(gross(intents, all/2+1)), least(gross(intents, all/2+1))}, false},
		"one more than there is room for": {[]policy.Effect{least(gross(intents, 2))}, []policy.Effect{least(gross(intents, all-1))}, false},
		"as much as there is room for":    {[]policy.Effect{least(gross(intents, 1))}, []policy.Effect{least(gross(intents, all-1))}, true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBooks(t, dollars(intents, policy.PerDay, 1000))
			if test.before != nil {
				b.hold(test.before...)
			}
			req := b.request(test.effects...)
			req.Soft = true
			r, full := b.ask(req)
			if (r != nil) != test.held || len(full) != 1 {
				t.Errorf("held %v, full %+v", r, full)
			}
			if len(full) == 1 && full[0].AskedInCurrency != test.effects[0].Amount {
				t.Errorf("asked %v, want %v", full[0].AskedInCurrency, test.effects[0].Amount)
			}
		})
	}
	b := newBooks(t, dollars(intents, policy.PerDay, 1))
	if full := b.refuse(gross(intents, 70), gross(intents, 60)); full.AskedInCurrency != usd(70) {
		t.Errorf("the failure tells %v, not the first that falls on the account", full.AskedInCurrency)
	}
}

func TestWhatCannotBeMeteredCountsForNothing(t *testing.T) {
	b := newBooks(t, dollars(intents, policy.PerDay, 1))
	r, _ := b.ask(b.request(policy.Effect{Bucket: intents, Unmeterable: true}))
	if r == nil || r.Counted[0] != 0 || len(r.HoldsFor(b.caps, time.UTC)) != 0 {
		t.Errorf("it counts: %+v", r)
	}
}

func TestACallCountsInItsBucketsOrItsOwnResource(t *testing.T) {
	for _, c := range []struct {
		name     string
		r        Reservation
		resource policy.Resource
		want     bool
	}{
		{"no effect, its own resource", Reservation{Operation: "refunds.create"}, "refunds", true},
		{"no effect, another resource", Reservation{Operation: "refunds.create"}, "charges", false},
		{"no effect, a resource within another", Reservation{Operation: "issuing.cards.create"}, "issuing.cards", true},
		{"no effect, no method", Reservation{Operation: "r"}, "r", false},
		{"an effect elsewhere", Reservation{Operation: "refunds.create", Effects: []policy.Effect{{Bucket: intents}}}, "refunds", false},
		{"an effect on it", Reservation{Operation: "refunds.create", Effects: []policy.Effect{{Bucket: intents}}}, intents, true},
		{"everything", Reservation{Operation: "refunds.create"}, policy.AllResources, true},
		{"never sent", Reservation{Operation: "refunds.create", State: Released, Proof: ProofNotSent}, policy.AllResources, false},
	} {
		if got := c.r.counts(c.resource); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
	day := dollars(intents, policy.PerDay, 1)
	h := Hold{Account: AccountKey{Resource: intents, Per: policy.PerDay, Unit: policy.UnitUSD}}
	for _, other := range []policy.Cap{dollars(refunds, policy.PerDay, 1), dollars(intents, policy.PerHour, 1), calls(intents, policy.PerDay, 1)} {
		if !h.under(day) || h.under(other) {
			t.Errorf("a hold under %+v is taken for one under %+v", day, other)
		}
	}
}

func TestAWindowIsOfItsZone(t *testing.T) {
	b := NewBook(newShelf(), 1)
	now := instant(t, "2026-11-24T20:00:00Z")
	east := time.FixedZone("east", 8*3600)
	for range 2 {
		if w, e := b.Window(policy.PerDay, now, time.UTC), b.Window(policy.PerDay, now, east); w == e {
			t.Fatalf("both zones are in %+v", w)
		}
	}
}

// TestAFailedOperationLeavesWhatTheBatchMade: a reservation is made and settled in one batch, and the settlement fails first.
func TestAFailedOperationLeavesWhatTheBatchMade(t *testing.T) {
	b := newBooks(t)
	book := NewBook(b.shelf, b.shelf.next)
	r, _, err := book.Reserve(b.now, b.request(total("", 500)))
	if err != nil {
		t.Fatal(err)
	}
	fate := Fate{State: Settled, Moved: []Moved{{usd(500), "pi_1"}}}
	b.shelf.failAt = 0
	if _, err := book.Resolve(b.now, r.ID, fate); err == nil {
		t.Fatal("a row that cannot be read was read")
	}
	b.shelf.failAt = readable
	if _, err := book.Resolve(b.now, r.ID, fate); err != nil {
		t.Fatal(err)
	}
	b.shelf.write(book.Changes())
	if got := b.shelf.reservations[r.ID]; got == nil || got.State != Settled || got.Counted[0] != 500 {
		t.Errorf("it is %+v", got)
	}
	checkBooks(t, b.shelf)
}

func TestTwoPartsFromOneReservationAreOnePart(t *testing.T) {
	day := dollars(intents, policy.PerDay, 1000)
	b := newBooks(t, day)
	first := b.hold(total("pi_1", 100), total("pi_1", 150))
	second := b.hold(total("pi_1", 200))
	b.release(first, ProofRefused)
	b.want(day, 200, 0)
	want := []Handed{{Effect: 0, From: first, Minor: 150, At: b.now}}
	if diff := cmp.Diff(want, b.shelf.reservations[second].Handed); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	b.settle(second, 125, "pi_1")
	b.want(day, 0, 125)
}

func TestHoldsUnderACapThatComesLater(t *testing.T) {
	day := dollars(intents, policy.PerDay, 1000)
	unpriced, cheapest := gross(intents, 500), gross(intents, 500)
	unpriced.Quote, cheapest.Quote.Value = money.Quote{}, 1
	settled := func(e policy.Effect, own int64, handed ...Handed) Reservation {
		r := Reservation{Key: agent, State: Settled, Effects: []policy.Effect{e}, Counted: []int64{own}, Handed: handed}
		for _, part := range handed {
			r.Counted[0] += part.Minor
		}
		return r
	}
	open := settled(least(gross(intents, 5)), 0)
	open.State = Reserved
	for name, test := range map[string]struct {
		r    Reservation
		want []int64
	}{
		"no price":                     {settled(unpriced, 500), nil},
		"the least rate":               {settled(cheapest, 500), []int64{1}},
		"the least amount":             {settled(least(gross(intents, 5)), 1), []int64{1}},
		"nothing that is settled":      {settled(least(gross(intents, 5)), 0), nil},
		"nothing that may become more": {open, []int64{0}},
		"the least that was handed":    {settled(least(gross(intents, 5)), 0, Handed{From: 1, Minor: 1}, Handed{From: 2}), []int64{1}},
		"handed to another effect":     {settled(least(gross(intents, 5)), 2, Handed{From: 1, Minor: 0}), []int64{2}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []int64
			for _, h := range test.r.HoldsFor([]policy.Cap{day}, time.UTC) {
				got = append(got, h.Amount)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestEachFinalStateOfASettlementIsTaken(t *testing.T) {
	day := dollars(intents, policy.PerDay, 1000)
	b := newBooks(t, day)
	b.settle(b.hold(total("pi_1", 100)), 100, "pi_1")
	b.settle(b.hold(total("pi_2", 100)), 100, "pi_2")
	overs := b.resolve(b.hold(gross(intents, 5)), Fate{State: Settled, Moved: []Moved{{Amount: usd(6)}}, Finals: []Final{
		{Bucket: intents, Object: "pi_1", Amount: usd(10)}, {Bucket: intents, Object: "pi_2", Amount: usd(20)},
	}})
	if len(overs) != 1 {
		t.Errorf("a cent over was reported as %+v", overs)
	}
	b.want(day, 0, 36)
}
