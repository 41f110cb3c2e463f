package ledger

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
)

func amount(minor int64, c money.Currency) money.Amount {
	return money.Amount{Minor: minor, Currency: c}
}

func TestACapIsExact(t *testing.T) {
	day := func(limit int64) policy.Cap {
		return policy.Cap{Resource: refunds, Per: policy.PerDay, Unit: policy.UnitUSD, Limit: limit}
	}
	tests := map[string]struct {
		cap      policy.Cap
		used     int64 // cents, settled before
		asked    int64
		admitted bool
		left     int64 // micro-dollars, when refused
	}{
		"met exactly":                          {day(10 * dollar), 0, 1000, true, 0},
		"one cent over":                        {day(10 * dollar), 0, 1001, false, 10 * dollar},
		"one micro-dollar under the amount":    {day(10*dollar - 1), 0, 1000, false, 10*dollar - 1},
		"what is settled counts":               {day(10 * dollar), 400, 601, false, 6 * dollar},
		"the rest of it fits":                  {day(10 * dollar), 400, 600, true, 0},
		"a zero cap admits nothing":            {day(0), 0, 1, false, 0},
		"a zero amount passes":                 {day(0), 0, 0, true, 0},
		"the largest limit takes a large call": {day(math.MaxInt64), 0, 900_000_000_000_000, true, 0},
		"and not what would overflow with it":  {day(math.MaxInt64), 900_000_000_000_000, 900_000_000_000_000, false, math.MaxInt64 - 900_000_000_000_000*perCent},
		"an amount that fits no dollar at all": {day(math.MaxInt64), 0, math.MaxInt64, false, math.MaxInt64},
		"an amount that just does not":         {day(math.MaxInt64), 0, math.MaxInt64/perCent + 1, false, math.MaxInt64},
		"an amount that just does":             {day(math.MaxInt64), 0, math.MaxInt64 / perCent, true, 0},
		"a large amount under a small cap":     {day(dollar), 0, math.MaxInt64, false, dollar},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBooks(t, tt.cap)
			if tt.used > 0 {
				b.settle(b.hold(gross(refunds, tt.used)), tt.used, "")
			}
			r, full := b.ask(b.request(gross(refunds, tt.asked)))
			if (r != nil) != tt.admitted {
				t.Fatalf("admitted %v, full %+v", r != nil, full)
			}
			if tt.admitted {
				b.want(tt.cap, tt.asked, tt.used)
				return
			}
			if len(full) != 1 || full[0].Left != tt.left || full[0].WouldAdmitAtMost != tt.left {
				t.Fatalf("full %+v, want %d left", full, tt.left)
			}
			b.want(tt.cap, 0, tt.used)
		})
	}
}

func TestARefusalTellsTheFigures(t *testing.T) {
	c := dollars(refunds, policy.PerDay, 100)
	b := newBooks(t, c, calls("*", policy.PerTotal, 9))
	b.settle(b.hold(gross(refunds, 2500)), 2500, "")
	b.hold(gross(refunds, 5000))
	got := b.refuse(gross(refunds, 3000))
	want := policy.CapFailure{
		Cap: c, Held: 50 * dollar, Settled: 25 * dollar, Asked: 30 * dollar, Left: 25 * dollar, WouldAdmitAtMost: 25 * dollar,
		ResetsAtUnix: instant(t, "2026-11-25T00:00:00Z").Unix(), AskedInCurrency: usd(3000),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestAllCapsTakeTheirHoldsOrNone(t *testing.T) {
	day, hour, all := dollars(refunds, policy.PerDay, 50), dollars(refunds, policy.PerHour, 20), dollars("*", policy.PerTotal, 30)
	other, count := dollars("payouts", policy.PerDay, 1), calls(refunds, policy.PerMonth, 3)
	b := newBooks(t, day, hour, all, other, count)
	b.hold(gross(refunds, 1500))
	if _, full := b.ask(b.request(gross(refunds, 1600))); len(full) != 2 {
		t.Fatalf("hour and total are full: %+v", full)
	}
	for _, c := range []policy.Cap{day, hour, all} {
		b.want(c, 1500, 0)
	}
	b.want(other, 0, 0)
	b.want(count, 1, 0)
}

func TestCallsAreCountedOncePerCall(t *testing.T) {
	own, all, other := calls(refunds, policy.PerHour, 2), calls("*", policy.PerHour, 5), calls("payouts", policy.PerHour, 0)
	b := newBooks(t, own, all, other)
	req := b.request(gross(refunds, 100), gross("transfers", 100))
	req.Counts = []policy.Resource{refunds, "transfers"}
	for range 2 {
		if r, full := b.ask(req); r == nil {
			t.Fatalf("refused: %+v", full)
		}
	}
	b.want(own, 2, 0)
	b.want(all, 2, 0) // two buckets, one call
	if f := b.refuse(gross(refunds, 100)); f.Cap != own || f.Asked != 1 || f.Left != 0 || f.Held != 2 {
		t.Errorf("refused by %+v", f)
	}
	b.resolve(2, Fate{State: Settled, Moved: []Moved{{Amount: usd(100)}, {Amount: usd(100)}}})
	b.want(own, 1, 1) // a settled call stays counted
}

func TestAWildcardCapSumsOverAllBuckets(t *testing.T) {
	all := dollars("*", policy.PerDay, 100)
	b := newBooks(t, all, dollars(refunds, policy.PerDay, 80))
	b.hold(gross(refunds, 6000))
	b.hold(gross("payouts", 3000))
	b.want(all, 9000, 0)
	if f := b.refuse(gross("payouts", 1001)); f.Cap != all {
		t.Errorf("refused by %+v", f.Cap)
	}
	b.hold(gross(refunds, 1000))
}

func TestSeveralEffectsAddUpOnOneAccount(t *testing.T) {
	all, day := dollars("*", policy.PerDay, 100), dollars(refunds, policy.PerDay, 100)
	tests := map[string]struct {
		effects  []policy.Effect
		admitted bool
		held     int64 // in `all`
	}{
		"together at the limit":      {[]policy.Effect{gross(refunds, 6000), gross("transfers", 4000)}, true, 10000},
		"together one cent over":     {[]policy.Effect{gross(refunds, 6000), gross("transfers", 4001)}, false, 0},
		"twice on the same bucket":   {[]policy.Effect{gross(refunds, 6000), gross(refunds, 4000)}, true, 10000},
		"twice, and over":            {[]policy.Effect{gross(refunds, 6000), gross(refunds, 4001)}, false, 0},
		"sums that would overflow":   {[]policy.Effect{gross(refunds, math.MaxInt64/perCent), gross("x", math.MaxInt64/perCent)}, false, 0},
		"with one that is unmetered": {[]policy.Effect{gross(refunds, 6000), {Bucket: "x", Unmeterable: true}}, true, 6000},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBooks(t, all, day)
			r, full := b.ask(b.request(tt.effects...))
			if (r != nil) != tt.admitted {
				t.Fatalf("admitted %v: %+v", r != nil, full)
			}
			b.want(all, tt.held, 0)
			if r == nil {
				return
			}
			b.resolve(r.ID, Fate{State: Settled, Moved: []Moved{{Amount: usd(100)}, {Amount: usd(0)}}})
			b.want(all, 0, 100)
		})
	}
}

func TestMoreThanHeldIsWrittenAndReported(t *testing.T) {
	c := dollars(refunds, policy.PerDay, 20)
	b := newBooks(t, c)
	got := b.settle(b.hold(gross(refunds, 1500)), 2600, "re_1")
	want := []Over{{Bucket: refunds, Held: 15 * money.Dollar, Moved: 26 * money.Dollar}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	b.want(c, 0, 2600)
	if f := b.refuse(gross(refunds, 1)); f.Left != 0 {
		t.Errorf("left %d", f.Left)
	}
}

func TestALoweredCapRefusesNewSpendAndLetsOldSpendEnd(t *testing.T) {
	c := dollars(intents, policy.PerDay, 100)
	b := newBooks(t, c)
	b.settle(b.hold(total("pi_1", 8000)), 8000, "pi_1")
	open := b.hold(total("pi_2", 1000))
	b.caps = []policy.Cap{dollars(intents, policy.PerDay, 50)}
	b.refuse(total("pi_3", 1))
	again := b.hold(total("pi_1", 8000)) // adds nothing, so nothing refuses it
	b.settle(open, 900, "pi_2")
	b.settle(again, 8000, "pi_1")
	b.want(c, 0, 8900)
}

func TestShadowHoldsPastTheLimitAndSaysSo(t *testing.T) {
	c := dollars(refunds, policy.PerDay, 10)
	b := newBooks(t, c)
	req := b.request(gross(refunds, 1500))
	req.Soft = true
	r, full := b.ask(req)
	if r == nil || !r.Marked || len(full) != 1 || full[0].Asked != 15*dollar || full[0].Left != 10*dollar {
		t.Fatalf("%+v, full %+v", r, full)
	}
	b.want(c, 1500, 0)
	b.settle(r.ID, 1200, "")
	b.want(c, 0, 1200)
	req.Effects = []policy.Effect{gross(refunds, math.MaxInt64/perCent)}
	if r, full := b.ask(req); r != nil || len(full) != 1 {
		t.Fatalf("an overflow was held in shadow: %+v, %+v", r, full)
	}
	b.want(c, 0, 1200)
}

func TestAReservationStaysInItsWindow(t *testing.T) {
	c := dollars(refunds, policy.PerDay, 10)
	b := newBooks(t, c)
	b.now = instant(t, "2026-11-24T23:59:59.9Z")
	late, lost := b.hold(gross(refunds, 600)), b.hold(gross(refunds, 400))
	b.now = instant(t, "2026-11-25T00:00:00.2Z")
	b.want(c, 0, 0)
	b.hold(gross(refunds, 1000)) // the new day has its own budget
	b.settle(late, 500, "re_1")
	b.release(lost, ProofRefused)
	b.finish(refunds, "re_1", 100)
	b.want(c, 1000, 0)
	b.now = instant(t, "2026-11-24T10:00:00Z")
	b.want(c, 0, 100)
}

func TestWindowsFollowThePolicysZone(t *testing.T) {
	b := newBooks(t, dollars(refunds, policy.PerDay, 10), dollars(refunds, policy.PerHour, 10))
	req := b.request(gross(refunds, 600))
	req.Zone = zoneOf(t, "America/New_York")
	b.now = instant(t, "2026-11-25T04:59:00Z")
	r, _ := b.ask(req)
	var got []string
	for _, h := range r.Holds {
		got = append(got, h.Account.Label)
	}
	if diff := cmp.Diff([]string{"2026-11-24", "2026-11-24T23-05:00"}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	_, full := b.ask(req)
	if want := instant(t, "2026-11-25T05:00:00Z").Unix(); len(full) != 2 || full[0].ResetsAtUnix != want || full[1].ResetsAtUnix != want {
		t.Errorf("full: %+v", full)
	}
}

func TestASettlementKeepsTheRateOfItsHold(t *testing.T) {
	c := dollars(intents, policy.PerDay, 1000)
	b := newBooks(t, c)
	euros := func(cents int64, cost int64) policy.Effect { // cost: micro-dollars per euro, no margin
		e := total("pi_1", cents)
		e.Amount.Currency = "eur"
		e.Quote = money.Quote{Rate: "r", Currency: "eur", Exponent: 2, Value: cost * 1_000_000}
		return e
	}
	first := b.hold(euros(10000, 1_000_000))
	second := b.hold(euros(10000, 1_200_000)) // the same intent, at a new rate: adds nothing
	b.want(c, 10000, 0)
	b.release(first, ProofRefused) // the second takes the hold over, and with it the rate
	b.want(c, 10000, 0)
	third := b.hold(euros(15000, 1_200_000))
	b.want(c, 16000, 0)
	b.resolve(second, Fate{State: Settled, Moved: []Moved{{Amount: amount(10000, "eur"), Object: "pi_1"}}})
	b.want(c, 6000, 10000)
	b.resolve(third, Fate{State: Settled, Moved: []Moved{{Amount: amount(15000, "eur"), Object: "pi_1"}}})
	b.want(c, 0, 16000)
}

func TestWithoutACapNeedsNoRate(t *testing.T) {
	b := newBooks(t, calls("*", policy.PerDay, 5))
	e := gross(refunds, 500)
	e.Amount.Currency, e.Quote = "xyz", money.Quote{}
	r, full := b.ask(b.request(e))
	if r == nil {
		t.Fatalf("refused: %+v", full)
	}
	overs := b.resolve(r.ID, Fate{State: Settled, Moved: []Moved{{Amount: amount(700, "xyz")}}})
	if diff := cmp.Diff([]Over{{Bucket: refunds}}, overs); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	b.caps = []policy.Cap{dollars(refunds, policy.PerDay, 1_000_000)}
	if r, _ := b.ask(b.request(e)); r != nil {
		t.Error("an amount without a rate passed a cap in dollars")
	}
}

func TestLeft(t *testing.T) {
	tests := map[string]struct {
		a           Account
		limit, want int64
	}{
		"nothing used":                  {Account{}, 10, 10},
		"held and settled both count":   {Account{3, 4}, 10, 3},
		"used up":                       {Account{6, 4}, 10, 0},
		"over a lowered limit":          {Account{6, 9}, 10, 0},
		"a sum that overflows is full":  {Account{math.MaxInt64, 1}, math.MaxInt64, 0},
		"nothing is left of a zero cap": {Account{}, 0, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := Left(tt.a, tt.limit); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestABatchSeesItsOwnHolds(t *testing.T) {
	c := dollars(refunds, policy.PerDay, 100)
	b := newBooks(t, c)
	book := NewBook(b.shelf, b.shelf.next)
	var passed int
	for range 64 {
		r, full, err := book.Reserve(b.now, b.request(gross(refunds, 1000)))
		if err != nil {
			t.Fatal(err)
		}
		if r != nil {
			passed++
		} else if full[0].Left != 0 {
			t.Fatalf("refused with %d left", full[0].Left)
		}
	}
	if passed != 10 {
		t.Fatalf("%d of 64 passed, want 10", passed)
	}
	if got, err := book.Account(AccountKey{agent, refunds, policy.PerDay, policy.UnitUSD, Label(policy.PerDay, b.now, time.UTC)}); err != nil || got.Held != 100*dollar {
		t.Errorf("the book says %+v, %v", got, err)
	}
	b.shelf.write(book.Changes())
	b.want(c, 10000, 0)
}
