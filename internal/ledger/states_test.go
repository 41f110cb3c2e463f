package ledger

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
)

func TestZeroValuesKeepTheHold(t *testing.T) {
	if s := State(0); s != Reserved || !s.Open() {
		t.Errorf("the zero State is %s", s)
	}
	if Proof("").valid() || Proof("timer").valid() || Proof("").uncounts() {
		t.Error("something outside the closed list proves a release")
	}
	if c := (policy.Effect{}); c.Mode != policy.Gross {
		t.Error("the zero mode does not count in full")
	}
}

func TestAReservationResolvesOnce(t *testing.T) {
	fates := map[State]Fate{
		Unresolved: {State: Unresolved},
		Settled:    {State: Settled, Moved: []Moved{{Amount: usd(700)}}},
		Released:   {State: Released, Proof: ProofRefused},
	}
	tests := map[string]struct {
		path []State
		last error // of the last step
		held int64 // cents
		done int64
	}{
		"reserved holds":                              {nil, nil, 1000, 0},
		"unknown keeps the hold":                      {[]State{Unresolved}, nil, 1000, 0},
		"settled counts what moved":                   {[]State{Settled}, nil, 0, 700},
		"released gives everything back":              {[]State{Released}, nil, 0, 0},
		"unknown twice is unknown":                    {[]State{Unresolved, Unresolved}, nil, 1000, 0},
		"unknown becomes settled":                     {[]State{Unresolved, Settled}, nil, 0, 700},
		"unknown becomes released":                    {[]State{Unresolved, Released}, nil, 0, 0},
		"settling again changes nothing":              {[]State{Settled, Settled}, nil, 0, 700},
		"releasing again changes nothing":             {[]State{Released, Released}, nil, 0, 0},
		"settled is never released":                   {[]State{Settled, Released}, ErrResolved, 0, 700},
		"released is never settled":                   {[]State{Released, Settled}, ErrResolved, 0, 0},
		"settled is never unknown again":              {[]State{Settled, Unresolved}, ErrResolved, 0, 700},
		"released is never unknown again":             {[]State{Released, Unresolved}, ErrResolved, 0, 0},
		"settled after unknown is never released":     {[]State{Unresolved, Settled, Released}, ErrResolved, 0, 700},
		"settled twice after unknown changes nothing": {[]State{Unresolved, Settled, Settled}, nil, 0, 700},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := dollars(refunds, policy.PerDay, 100)
			b := newBooks(t, c)
			id := b.hold(gross(refunds, 1000))
			for i, s := range tt.path {
				book := NewBook(b.shelf, b.shelf.next)
				_, err := book.Resolve(b.now, id, fates[s])
				if want := tt.last; i == len(tt.path)-1 && !errors.Is(err, want) {
					t.Fatalf("step %s: %v, want %v", s, err, want)
				} else if i < len(tt.path)-1 && err != nil {
					t.Fatalf("step %s: %v", s, err)
				}
				if ch := book.Changes(); err != nil && len(ch.Accounts)+len(ch.Objects)+len(ch.Updated)+len(ch.Created) > 0 {
					t.Fatalf("a refused step wants to write %+v", ch)
				}
				b.shelf.write(book.Changes())
			}
			b.want(c, tt.held, tt.done)
		})
	}
}

func TestEveryProofReleasesAndOnlyThoseNeverWrittenUncountTheCall(t *testing.T) {
	tests := map[Proof]int64{ // calls that stay counted
		ProofNotWritten: 0, ProofNotSent: 0,
		ProofRefused: 1, ProofReplayed: 1, ProofOperator: 1, ProofAbsent: 1,
	}
	for proof, stays := range tests {
		t.Run(string(proof), func(t *testing.T) {
			money, count := dollars(refunds, policy.PerDay, 100), calls(refunds, policy.PerHour, 30)
			b := newBooks(t, money, count)
			id := b.hold(gross(refunds, 1000))
			b.want(money, 1000, 0)
			b.want(count, 1, 0)
			b.release(id, proof)
			b.want(money, 0, 0)
			b.want(count, 0, stays)
			if got := b.shelf.reservations[id]; got.Proof != proof || got.State != Released || !got.Resolved.Equal(b.now) {
				t.Errorf("resolved as %s by %q at %s", got.State, got.Proof, got.Resolved)
			}
		})
	}
}

func TestBreachesPanicAndLeaveTheRowsAlone(t *testing.T) {
	tests := map[string]func(b *books, id ReservationID){
		"a release without proof":          func(b *books, id ReservationID) { b.resolve(id, Fate{State: Released}) },
		"a release by a proof of its own":  func(b *books, id ReservationID) { b.release(id, "timer") },
		"the zero fate":                    func(b *books, id ReservationID) { b.resolve(id, Fate{}) },
		"a settlement without its amounts": func(b *books, id ReservationID) { b.resolve(id, Fate{State: Settled}) },
		"a settlement that is negative":    func(b *books, id ReservationID) { b.settle(id, -1, "") },
		"an effect that nobody knows":      func(b *books, id ReservationID) { b.hold(policy.Effect{Bucket: refunds}) },
		"a negative amount":                func(b *books, id ReservationID) { b.hold(gross(refunds, -5)) },
		"a negative final amount":          func(b *books, id ReservationID) { b.finish(refunds, "re_1", -1) },
		"a settlement in another currency": func(b *books, id ReservationID) {
			b.resolve(id, Fate{State: Settled, Moved: []Moved{{Amount: amount(5, "eur")}}})
		},
		"a cap that counts in nothing": func(b *books, id ReservationID) {
			b.caps = []policy.Cap{{Resource: refunds, Per: policy.PerDay, Limit: 1000}}
			b.hold(gross(refunds, 1))
		},
	}
	for name, breach := range tests {
		t.Run(name, func(t *testing.T) {
			c := dollars(refunds, policy.PerDay, 100)
			b := newBooks(t, c)
			id := b.hold(gross(refunds, 1000))
			defer func() {
				if recover() == nil {
					t.Fatal("went through")
				}
				b.want(c, 1000, 0)
			}()
			breach(b, id)
		})
	}
}

func TestWhatACallSaysIsKeptForTheRecord(t *testing.T) {
	b := newBooks(t, dollars(refunds, policy.PerDay, 100), calls(refunds, policy.PerTotal, 5))
	req := b.request(gross(refunds, 1000))
	req.Upstream, req.Customers, req.AuditSeq = "up_1", []policy.CustomerID{"cus_A"}, 41
	req.IdemKey, req.IdemAccount, req.Fingerprint, req.Sent = "order-7", "acct_1", [32]byte{7}, []byte("amount=1000")
	r, _ := b.ask(req)
	b.resolve(r.ID, Fate{
		State: Settled, Moved: []Moved{{Amount: usd(1000), Object: "re_1"}}, Pending: true, UpstreamRequest: "req_9", Why: "200",
	})
	got := b.shelf.reservations[r.ID]
	want := &Reservation{
		ID: r.ID, Key: agent, Upstream: "up_1", Operation: "refunds.create", Customers: req.Customers, State: Settled,
		Effects: []policy.Effect{gross(refunds, 1000)}, Counted: []int64{1000}, Pending: true,
		Holds: []Hold{
			{Effect: 0, Amount: 10 * dollar, Limit: 100 * dollar, ResetsAt: instant(t, "2026-11-25T00:00:00Z"), Account: AccountKey{
				Key: agent, Resource: refunds, Per: policy.PerDay, Unit: policy.UnitUSD, Label: "2026-11-24"}},
			{Effect: -1, Amount: 1, Limit: 5, Account: AccountKey{Key: agent, Resource: refunds, Per: policy.PerTotal, Unit: policy.UnitCalls, Label: "total"}},
		},
		At: b.now, Resolved: b.now, FirstSent: b.now, AuditSeq: 41, IdemKey: "order-7", IdemAccount: "acct_1",
		Fingerprint: [32]byte{7}, Sent: []byte("amount=1000"), UpstreamRequest: "req_9", Why: "200",
	}
	want.Effects[0].Object = "re_1"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if req.Effects[0].Object != "" {
		t.Error("the request's own effects were written to")
	}
}

// TestWhatHappenedWithoutAHoldIsCountedPastEveryCap: a vendor forgot a call that it had answered and ran it again.
func TestWhatHappenedWithoutAHoldIsCountedPastEveryCap(t *testing.T) {
	b := newBooks(t, dollars(refunds, policy.PerDay, 10), calls(refunds, policy.PerDay, 1))
	b.settle(b.hold(gross(refunds, 900)), 900, "re_1")
	book := NewBook(b.shelf, b.shelf.next)
	r, overs, err := book.Happened(b.now, b.request(gross(refunds, 900)), Fate{State: Settled, Moved: []Moved{{usd(900), "re_2"}}})
	if err != nil {
		t.Fatal(err)
	}
	b.shelf.write(book.Changes())
	if want := []Over{{Bucket: refunds, Held: 0, Moved: 9 * money.Dollar}}; !slices.Equal(overs, want) {
		t.Errorf("reported %+v, want %+v", overs, want)
	}
	if r.State != Settled || r.Marked || r.Effects[0].Object != "re_2" {
		t.Errorf("%+v", r)
	}
	checkBooks(t, b.shelf)
	var got []int64
	for _, c := range b.caps {
		a := b.shelf.accounts[AccountKey{Key: agent, Resource: c.Resource, Per: c.Per, Unit: c.Unit, Label: Label(c.Per, b.now, time.UTC)}]
		got = append(got, a.Settled, a.Held)
	}
	if want := []int64{18 * dollar, 0, 2, 0}; !slices.Equal(got, want) {
		t.Errorf("accounts say %d, want %d", got, want)
	}
}
