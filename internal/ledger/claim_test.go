package ledger

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keybrake/keybrake/internal/policy"
)

func totalClaim(minor, lift int64) Claim { return Claim{Mode: policy.Total, Minor: minor, Lift: lift} }

func partClaim(minor, ceiling, lift int64) Claim {
	return Claim{Mode: policy.Part, Minor: minor, Ceiling: ceiling, Lift: lift}
}

func TestClaimsStandInTheOrderThatComesToMost(t *testing.T) {
	// Each group stands after those above it; within a group the order says nothing.
	groups := [][]Claim{
		{totalClaim(5, 0), totalClaim(900, 0)},
		{partClaim(1, 3, 0), partClaim(3, 1, 0)},
		{partClaim(1, 5, 0), partClaim(5, 5, 0)},
		{partClaim(1, 6, 0), partClaim(6, 2, 0)},
		{partClaim(5, 0, 0), partClaim(900, 0, 0), {Mode: policy.Gross, Minor: 1, Ceiling: 1}},
	}
	for i, behind := range groups {
		for j, ahead := range groups {
			for _, c := range behind {
				for _, d := range ahead {
					if got := c.after(d); got != (i > j) {
						t.Errorf("%+v after %+v: %t", c, d, got)
					}
				}
			}
		}
	}
}

func TestAClaimComesToWhatItsCallMoved(t *testing.T) {
	tests := map[string]struct {
		claim        Claim
		asked, moved int64
		want         Claim
	}{
		"a total of what was asked keeps what it was lifted to": {totalClaim(120, 50), 100, 100, totalClaim(120, 50)},
		"a total of more rises by all parts":                    {totalClaim(120, 50), 100, 101, totalClaim(151, 50)},
		"a total of less falls":                                 {totalClaim(120, 50), 100, 60, totalClaim(110, 50)},
		"a part of what was asked keeps its ceiling":            {partClaim(10, 5, 1), 10, 10, partClaim(10, 5, 1)},
		"a part of less keeps its ceiling":                      {partClaim(10, 50, 1), 10, 4, partClaim(4, 50, 1)},
		"a part of one more lifts its lifted ceiling by one":    {partClaim(10, 50, 1), 10, 11, partClaim(11, 51, 1)},
		"from what was asked, if that was more":                 {partClaim(10, 1, 1), 10, 13, partClaim(13, 13, 1)},
		"a ceiling that nothing lifted stays":                   {partClaim(10, 50, 0), 10, 13, partClaim(13, 50, 0)},
		"what has no ceiling gets none":                         {partClaim(10, 0, 7), 10, 13, partClaim(13, 0, 7)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, test.claim.came(test.asked, test.moved)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestAClaimThatOnlyTheAnswerNamedMayStandOnEveryPart(t *testing.T) {
	o := Object{Settled: 40, Parts: 30}
	tests := map[string]struct {
		claim Claim
		moved int64
		want  Claim
	}{
		"a total":                            {totalClaim(10, 0), 12, totalClaim(42, 30)},
		"a part without a ceiling":           {partClaim(10, 0, 0), 12, partClaim(12, 0, 30)},
		"a part under its ceiling":           {partClaim(10, 50, 0), 12, partClaim(12, 80, 30)},
		"a part over its ceiling":            {partClaim(10, 5, 0), 12, partClaim(12, 42, 30)},
		"a part under the least of ceilings": {partClaim(0, 1, 0), 0, partClaim(0, 31, 30)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, o.named(test.claim, test.moved)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestASettledPartLiftsWhatMayHaveComeBeforeIt(t *testing.T) {
	o := Object{Settled: 5, Parts: 1, Claims: []Claim{
		totalClaim(100, 2), partClaim(1, 1, 0), partClaim(9, 3, 0), partClaim(4, 0, 0), {Mode: policy.Gross, Minor: 6, Ceiling: 8},
	}}
	o.settle(partClaim(10, 0, 0))
	want := Object{Settled: 15, Parts: 11, Claims: []Claim{
		totalClaim(110, 12), partClaim(1, 11, 10), partClaim(9, 19, 10), partClaim(4, 0, 0), {Mode: policy.Gross, Minor: 6, Ceiling: 8},
	}}
	if diff := cmp.Diff(want, o); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	before := copyObject(o)
	o.settle(totalClaim(12, 0)) // a total lifts nothing
	if diff := cmp.Diff(before, o); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestOneMoreClaimCountsAtItsPlace(t *testing.T) {
	claims := []Claim{totalClaim(2, 0), partClaim(1, 20, 0), partClaim(1, 30, 0), partClaim(1, 0, 0)}
	for _, more := range []Claim{
		totalClaim(1, 0), totalClaim(9, 0), partClaim(3, 10, 0), partClaim(3, 25, 0), partClaim(1, 1, 0), partClaim(3, 0, 0),
	} {
		o := Object{Settled: 1, Claims: claims}
		with := Object{Settled: 1, Claims: o.withClaim(more)}
		if got, want := o.countedWith(more), with.counted(); got != want {
			t.Errorf("with %+v it would count %d, and counts %d", more, got, want)
		}
	}
	if got := partClaim(1, 1, 0).applied(1); got != 1 {
		t.Errorf("a part under a ceiling of one brings one to %d", got)
	}
	if (&Object{Settled: math.MaxInt64, Claims: []Claim{totalClaim(1, 0), totalClaim(math.MaxInt64, 0)}}).fits(0) {
		t.Error("claims that 64 bits cannot add up fit")
	}
}

func TestScaleRoundsUp(t *testing.T) {
	for _, c := range []struct{ amount, part, whole, want int64 }{
		{3, 1, 2, 2}, {4, 1, 2, 2}, {5, 2, 3, 4}, {0, 1, 2, 0}, {7, 0, 3, 0}, {7, 3, 3, 7}, {0, 0, 0, 0},
		{math.MaxInt64, math.MaxInt64 - 1, math.MaxInt64, math.MaxInt64 - 1},
	} {
		if got := scale(c.amount, c.part, c.whole); got != c.want {
			t.Errorf("%d*%d/%d is %d, want %d", c.amount, c.part, c.whole, got, c.want)
		}
	}
}

// doctored puts an account in place of the one that a cap of the day on payment intents has now.
func (b *books) doctored(a Account) { b.shelf.accounts[b.key()] = a }

// key is the account of the day's cap on payment intents.
func (b *books) key() AccountKey {
	return AccountKey{agent, intents, policy.PerDay, policy.UnitUSD, Label(policy.PerDay, b.now, time.UTC)}
}

// try resolves a reservation and writes nothing.
func (b *books) try(id ReservationID, fate Fate) {
	book := NewBook(b.shelf, b.shelf.next)
	if _, err := book.Resolve(b.now, id, fate); err != nil {
		b.t.Fatal(err)
	}
}

// written asks for the changes of a Book in which an account went wrong unseen.
func (b *books) written(a Account) {
	book := NewBook(b.shelf, b.shelf.next)
	book.accounts[b.key()], book.changedAccounts[b.key()] = &a, struct{}{}
	book.Changes()
}

// unasked holds an amount that nobody has held against the account.
func (b *books) unasked(has Account, soft bool, amount int64) {
	book := NewBook(b.shelf, b.shelf.next)
	book.accounts[b.key()] = &has
	book.hold(&Request{Soft: soft}, &Reservation{}, []need{{cap: b.caps[0], key: b.key(), amount: amount}})
}

// recounted adds a cent to an account of all that 64 bits hold.
func (b *books) recounted(s State) {
	most, cent := Hold{Account: b.key(), Amount: math.MaxInt64}, Hold{Account: b.key(), Amount: perCent}
	Recount(b.caps, time.UTC, []*Reservation{{State: s, Holds: []Hold{most}}, {State: s, Holds: []Hold{cent}}})
}

// TestWrongBooksStop: what no right call can ask for ends in a panic and not in a figure.
func TestWrongBooksStop(t *testing.T) {
	for name, does := range map[string]func(b *books){
		"a negative amount is scaled":      func(*books) { scale(-1, 1, 2) },
		"a negative part is scaled":        func(*books) { scale(1, -1, 2) },
		"more than the whole is scaled":    func(*books) { scale(1, 3, 2) },
		"a total over 64 bits is named":    func(*books) { (&Object{Parts: math.MaxInt64}).named(totalClaim(1, 0), 1) },
		"a ceiling over 64 bits is named":  func(*books) { (&Object{Parts: math.MaxInt64}).named(partClaim(1, 1, 0), 1) },
		"a part goes over 64 bits":         func(*books) { partClaim(1, 0, 0).applied(math.MaxInt64) },
		"the least of another currency":    func(b *books) { b.movedIn("eur", 1) },
		"less than nothing moved":          func(b *books) { b.movedIn("usd", -1) },
		"a final amount below nothing":     func(b *books) { b.finish(intents, "pi_1", -1) },
		"an unknown outcome that is known": func(b *books) { b.ask(b.request(policy.Effect{Bucket: intents})) },
		"a hold under a cap in no unit": func(*books) {
			(&Reservation{}).HoldsFor([]policy.Cap{{Resource: refunds, Per: policy.PerDay}}, time.UTC)
		},
		"a recount of what is held over 64 bits":    func(b *books) { b.recounted(Reserved) },
		"a recount of what is settled over 64 bits": func(b *books) { b.recounted(Settled) },
		"an account holds less than nothing":        func(b *books) { b.doctored(Account{Held: -1}); b.hold(gross(intents, 5)) },
		"an account settled less than nothing":      func(b *books) { b.doctored(Account{Settled: -1}); b.hold(gross(intents, 5)) },
		"an account lacks what is settled": func(b *books) {
			id := b.hold(gross(intents, 5))
			b.doctored(Account{})
			b.try(id, Fate{State: Settled, Moved: []Moved{{Amount: usd(5)}}})
		},
		"an account lacks what is released": func(b *books) {
			id := b.hold(gross(intents, 5))
			b.doctored(Account{})
			b.try(id, Fate{State: Released, Proof: ProofRefused})
		},
		"an account cannot settle what is held": func(b *books) {
			id := b.hold(gross(intents, 5))
			b.doctored(Account{Held: 5 * perCent, Settled: math.MaxInt64})
			b.try(id, Fate{State: Settled, Moved: []Moved{{Amount: usd(5)}}})
		},
		"an account that holds less than nothing is written":   func(b *books) { b.written(Account{Held: -1, Settled: 1}) },
		"an account that settled less than nothing is written": func(b *books) { b.written(Account{Held: 1, Settled: -1}) },
		"a hold passes its cap":                                func(b *books) { b.unasked(Account{Settled: 999 * dollar}, false, 1*dollar+1) },
		"a hold passes 64 bits":                                func(b *books) { b.unasked(Account{Settled: math.MaxInt64}, true, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBooks(t, dollars(intents, policy.PerDay, 1000))
			defer func() {
				if why, _ := recover().(string); !strings.HasPrefix(why, "ledger: ") {
					t.Errorf("it went on, or stopped by chance: %s", why)
				}
			}()
			does(b)
		})
	}
}
