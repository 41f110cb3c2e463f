package ledger

import (
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
)

// machine drives Books over a shelf with random callers and holds the result against the naive model. A Book
// serves one or several of them, as in a batch.
type machine struct {
	shelf  *shelf
	book   *Book
	now    time.Time
	step   int
	caps   []policy.Cap
	events []*event
	asked  map[ReservationID]*Request
	// started is the step at which a reservation was made.
	started map[ReservationID]int
	// whole are the accounts of windows that some cap has seen from their beginning on, itself or by a seed.
	whole map[AccountKey]bool
	// named counts the objects of each name, so that no object gets more events than all orders of them can be
	// tried out.
	named map[policy.ObjectID]int
}

var (
	principals = []policy.KeyID{"key_a", "key_b"}
	zone       = time.UTC
	quotes     = []money.Quote{
		usdQuote, usdQuote, usdQuote,
		{Rate: "eur1", Currency: "eur", Exponent: 2, Value: 1_100_000_000_000},
		{Rate: "eur2", Currency: "eur", Exponent: 2, Value: 1_234_567_891_234},
		{Rate: "jpy", Currency: "jpy", Exponent: 0, Value: 6_500_000_001},
	}
	proofs = []Proof{ProofNotWritten, ProofNotSent, ProofRefused, ProofReplayed, ProofOperator, ProofAbsent}
)

// maxEvents bounds what is tried out per object: all orders of six events are 720.
const maxEvents = 6

func newMachine(t *rapid.T) *machine {
	m := &machine{
		shelf: newShelf(), now: time.Date(2026, 11, 24, 22, 0, 0, 0, time.UTC),
		asked: make(map[ReservationID]*Request), started: make(map[ReservationID]int),
		whole: make(map[AccountKey]bool), named: make(map[policy.ObjectID]int),
	}
	for range rapid.IntRange(1, 4).Draw(t, "caps") {
		m.addCap(t)
	}
	m.book = NewBook(m.shelf, m.shelf.next)
	return m
}

func (m *machine) accountOf(key policy.KeyID, c policy.Cap) AccountKey {
	return AccountKey{Key: key, Resource: c.Resource, Per: c.Per, Unit: c.Unit, Label: Label(c.Per, m.now, zone)}
}

// addCap adds a cap in the middle of its window and seeds it, as a store must.
func (m *machine) addCap(t *rapid.T) {
	c := policy.Cap{
		Resource: rapid.SampledFrom([]policy.Resource{intents, refunds, policy.AllResources}).Draw(t, "resource"),
		Per:      rapid.SampledFrom([]policy.Window{policy.PerHour, policy.PerDay, policy.PerTotal}).Draw(t, "per"),
		Unit:     policy.UnitUSD,
		Limit:    rapid.Int64Range(0, 60).Draw(t, "limit") * perCent,
	}
	if rapid.IntRange(0, 3).Draw(t, "unit") == 0 {
		c.Unit, c.Limit = policy.UnitCalls, rapid.Int64Range(0, 12).Draw(t, "calls")
	}
	same := func(o policy.Cap) bool { return o.Resource == c.Resource && o.Per == c.Per && o.Unit == c.Unit }
	if slices.ContainsFunc(m.caps, same) {
		return
	}
	m.caps = append(m.caps, c)
	for _, key := range principals {
		m.seed(key, c)
	}
}

func (m *machine) seed(key policy.KeyID, c policy.Cap) {
	var rs []*Reservation
	for _, r := range m.shelf.all() {
		if r.Key == key {
			rs = append(rs, r)
		}
	}
	account := m.accountOf(key, c)
	m.whole[account] = true
	m.shelf.accounts[account] = Recount([]policy.Cap{c}, zone, rs)[account]
	for _, r := range rs {
		for _, h := range r.HoldsFor([]policy.Cap{c}, zone) {
			if h.Account == account {
				r.Holds = append(r.Holds, h)
			}
		}
	}
}

// commit ends the transaction and checks everything.
func (m *machine) commit(t *rapid.T) {
	m.shelf.write(m.book.Changes())
	m.book = NewBook(m.shelf, m.shelf.next)
	m.check(t)
}

// end is the end of every step: some batches go on.
func (m *machine) end(t *rapid.T) {
	m.step++
	if rapid.IntRange(0, 3).Draw(t, "commit") > 0 {
		m.commit(t)
	}
}

// drawEffect draws one movement of money, on an object that others may use too.
func (m *machine) drawEffect(t *rapid.T) policy.Effect {
	q := rapid.SampledFrom(quotes).Draw(t, "quote")
	e := policy.Effect{
		Bucket: rapid.SampledFrom([]policy.Resource{intents, intents, refunds}).Draw(t, "bucket"), Known: true, Quote: q,
		Amount: money.Amount{Minor: rapid.Int64Range(0, 12).Draw(t, "minor"), Currency: q.Currency},
		Mode:   rapid.SampledFrom([]policy.CountMode{policy.Gross, policy.Total, policy.Total, policy.Part, policy.Part}).Draw(t, "mode"),
	}
	if rapid.IntRange(0, 4).Draw(t, "named") > 0 {
		e.Object = m.drawObject(t)
	}
	if e.Mode == policy.Part && rapid.Bool().Draw(t, "bounded") {
		e.Ceiling = rapid.Int64Range(1, 20).Draw(t, "ceiling")
	}
	return e
}

// drawObject takes one of two objects, or of those that come after them once they are worn out.
func (m *machine) drawObject(t *rapid.T) policy.ObjectID {
	id := rapid.SampledFrom([]policy.ObjectID{"pi", "po"}).Draw(t, "object")
	m.named[id]++
	return id + policy.ObjectID('A'+rune(m.named[id]/maxEvents))
}

func (m *machine) reserve(t *rapid.T) {
	req := &Request{
		Key: rapid.SampledFrom(principals).Draw(t, "key"), Operation: "x.create", Caps: m.caps, Zone: zone,
		Soft: rapid.IntRange(0, 9).Draw(t, "soft") == 0,
	}
	for range rapid.SampledFrom([]int{1, 1, 1, 2}).Draw(t, "effects") {
		e := m.drawEffect(t)
		req.Effects = append(req.Effects, e)
		req.Counts = append(req.Counts, e.Bucket)
	}
	before := make(map[AccountKey]Account)
	for _, c := range m.caps {
		k := m.accountOf(req.Key, c)
		before[k], _ = m.book.Account(k)
		m.whole[k] = true
	}
	r, full, err := m.book.Reserve(m.now, req)
	if err != nil {
		t.Fatalf("reserve: %v", err)
	}
	if r == nil {
		m.judgeRefusal(t, req, full, before)
		m.end(t)
		return
	}
	m.asked[r.ID], m.started[r.ID] = req, m.step
	m.judgeAdmission(t, req, r, full, before)
	for i, e := range req.Effects {
		if r.Counted[i] > e.Amount.Minor || r.Counted[i] < 0 {
			t.Fatalf("%d asked for %d", e.Amount.Minor, r.Counted[i])
		}
		if e.Object != "" {
			m.events = append(m.events, &event{
				reservation: r.ID, effect: i, object: r.objectKey(i), mode: e.Mode, amount: e.Amount.Minor, ceiling: e.Ceiling,
				start: m.step, end: never,
			})
		}
	}
	m.end(t)
}

// open lists what still waits for its fate.
func (m *machine) open() []ReservationID {
	var out []ReservationID
	for _, id := range slices.Sorted(maps.Keys(m.asked)) {
		if r, _ := m.book.Reservation(id); r.State.Open() {
			out = append(out, id)
		}
	}
	return out
}

func (m *machine) drawOpen(t *rapid.T) ReservationID {
	open := m.open()
	if len(open) == 0 {
		t.Skip("nothing is open")
	}
	return rapid.SampledFrom(open).Draw(t, "reservation")
}

func (m *machine) eventsOf(id ReservationID) []*event {
	var out []*event
	for _, e := range m.events {
		if !e.final && e.reservation == id {
			out = append(out, e)
		}
	}
	return out
}

func (m *machine) settle(t *rapid.T) {
	id := m.drawOpen(t)
	m.settleNow(t, id)
	m.end(t)
}

func (m *machine) settleNow(t *rapid.T, id ReservationID) {
	req := m.asked[id]
	r, _ := m.book.Reservation(id)
	start := m.started[id]
	fate := Fate{State: Settled, Pending: rapid.Bool().Draw(t, "pending")}
	for i, e := range req.Effects {
		moved := Moved{Amount: e.Amount, Object: e.Object}
		switch rapid.IntRange(0, 3).Draw(t, "came to") {
		case 0:
			moved.Amount.Minor = rapid.Int64Range(0, e.Amount.Minor).Draw(t, "less")
		case 1:
			moved.Amount.Minor += rapid.Int64Range(0, 5).Draw(t, "more")
		}
		if e.Object == "" && rapid.IntRange(0, 3).Draw(t, "answer names") > 0 {
			moved.Object = m.drawObject(t)
			key := ObjectKey{Key: req.Key, Bucket: e.Bucket, Object: moved.Object, Currency: e.Amount.Currency}
			m.events = append(m.events, &event{
				reservation: id, effect: i, object: key, mode: e.Mode, ceiling: e.Ceiling, start: start, end: never, late: true})
		}
		fate.Moved = append(fate.Moved, moved)
	}
	for _, e := range m.eventsOf(id) {
		e.amount, e.end = fate.Moved[e.effect].Amount.Minor, m.step
	}
	held := slices.Clone(r.Counted)
	overs, err := m.book.Resolve(m.now, id, fate)
	if err != nil {
		t.Fatalf("settle: %v", err)
	}
	m.judgeOvers(t, req, held, r, fate, overs)
	m.again(t, id, Settled)
}

func (m *machine) release(t *rapid.T) {
	id := m.drawOpen(t)
	m.releaseNow(t, id)
	m.end(t)
}

func (m *machine) releaseNow(t *rapid.T, id ReservationID) {
	m.commit(t)
	before := make(map[ReservationID]*Reservation)
	for _, r := range m.shelf.all() {
		before[r.ID] = copyReservation(r)
	}
	alone := true
	for _, mine := range m.eventsOf(id) {
		mine.refused = true
		for _, e := range m.events {
			if e != mine && e.object == mine.object && e.end >= mine.start {
				alone = false
			}
		}
	}
	proof := rapid.SampledFrom(proofs).Draw(t, "proof")
	if _, err := m.book.Resolve(m.now, id, Fate{State: Released, Proof: proof}); err != nil {
		t.Fatalf("release: %v", err)
	}
	m.again(t, id, Released)
	for _, u := range m.book.Changes().Updated {
		if u.ID != id && alone {
			t.Fatalf("releasing %d, alone on its object, changed %d:\n%s", id, u.ID, cmp.Diff(before[u.ID], u))
		}
		for _, h := range u.Holds {
			if u.ID == id && h.Effect == noEffect && (h.Amount == 0) != (proof == "not_written" || proof == "not_sent") {
				t.Fatalf("released by %s, the call counts %d", proof, h.Amount)
			}
		}
	}
}

func (m *machine) unresolved(t *rapid.T) {
	id := m.drawOpen(t)
	r, _ := m.book.Reservation(id)
	before := copyReservation(r)
	if _, err := m.book.Resolve(m.now, id, Fate{State: Unresolved}); err != nil {
		t.Fatalf("unresolved: %v", err)
	}
	before.State = Unresolved
	if diff := cmp.Diff(before, r); diff != "" {
		t.Fatalf("an unknown outcome changed\n%s", diff)
	}
	m.end(t)
}

func (m *machine) finish(t *rapid.T) {
	if len(m.events) == 0 {
		t.Skip("no object")
	}
	object := rapid.SampledFrom(m.events).Draw(t, "event").object
	m.finishNow(t, object, rapid.Int64Range(0, 15).Draw(t, "final"))
	m.end(t)
}

func (m *machine) finishNow(t *rapid.T, object ObjectKey, minor int64) {
	m.named[object.Object[:2]]++
	final := Final{Bucket: object.Bucket, Object: object.Object, Amount: money.Amount{Minor: minor, Currency: object.Currency}}
	if err := m.book.Finish(object.Key, final); err != nil {
		t.Fatalf("finish: %v", err)
	}
	m.events = append(m.events, &event{object: object, final: true, amount: minor, start: m.step, end: m.step})
}

func (m *machine) detach(t *rapid.T) {
	if len(m.asked) == 0 {
		t.Skip("nothing to detach")
	}
	id := rapid.SampledFrom(slices.Sorted(maps.Keys(m.asked))).Draw(t, "reservation")
	if err := m.book.Detach(id); err != nil {
		t.Fatalf("detach: %v", err)
	}
	m.end(t)
}

func (m *machine) later(t *rapid.T) {
	m.now = m.now.Add(time.Duration(rapid.IntRange(1, 120).Draw(t, "minutes")) * time.Minute)
}

func (m *machine) editCaps(t *rapid.T) {
	m.commit(t)
	m.caps = slices.Clone(m.caps) // requests keep theirs
	if len(m.caps) > 1 && rapid.Bool().Draw(t, "drop") {
		i := rapid.IntRange(0, len(m.caps)-1).Draw(t, "which")
		for _, key := range principals {
			delete(m.whole, m.accountOf(key, m.caps[i]))
		}
		m.caps = slices.Delete(m.caps, i, i+1)
		return
	}
	m.addCap(t)
	m.check(t)
}

// windUp resolves everything and brings every object to nothing: what is left is what moved for good.
func (m *machine) windUp(t *rapid.T) {
	for _, id := range m.open() {
		if rapid.Bool().Draw(t, "refused") {
			m.releaseNow(t, id)
		} else {
			m.settleNow(t, id)
		}
		m.step++
	}
	m.commit(t)
	m.recount(t)
	for k := range maps.Clone(m.shelf.objects) {
		m.finishNow(t, k, 0)
	}
	m.shelf.write(m.book.Changes())
	checkBooks(t, m.shelf)
	m.recount(t)
	for _, r := range m.shelf.all() {
		for i, n := range r.Counted {
			if r.Effects[i].Object != "" && n != 0 {
				t.Fatalf("reservation %d counts %d for a finished object", r.ID, n)
			}
		}
	}
}

func TestBooksAgreeWithTheNaiveModel(t *testing.T) {
	if most(nil, ObjectKey{}) != 0 || never != math.MaxInt {
		t.Fatal("the model counts nothing as something")
	}
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine(t)
		t.Repeat(map[string]func(*rapid.T){
			"reserve": m.reserve, "reserve too": m.reserve, "and again": m.reserve,
			"settle": m.settle, "settle another": m.settle, "release": m.release, "unresolved": m.unresolved,
			"finish": m.finish, "detach": m.detach, "later": m.later, "edit caps": m.editCaps,
		})
		m.windUp(t)
	})
}
