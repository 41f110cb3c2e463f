package ledger

import (
	"errors"
	"slices"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/keybrake/keybrake/internal/policy"
)

// wants is what a request comes to under a cap if each effect asks for minor(i).
func wants(req *Request, c policy.Cap, minor func(int) int64) int64 {
	var sum int64
	for i, e := range req.Effects {
		switch {
		case c.Resource != e.Bucket && c.Resource != policy.AllResources:
		case c.Unit == policy.UnitCalls:
			sum = 1
		default:
			sum += inDollars(e.Quote, minor(i))
		}
	}
	return sum
}

func (m *machine) judgeAdmission(t *rapid.T, req *Request, r *Reservation, full []policy.CapFailure, before map[AccountKey]Account) {
	over := 0
	for _, c := range m.caps {
		k := m.accountOf(req.Key, c)
		asked := wants(req, c, func(i int) int64 { return r.Counted[i] })
		was := before[k]
		now, _ := m.book.Account(k)
		if now != (Account{Held: was.Held + asked, Settled: was.Settled}) {
			t.Fatalf("%v went from %+v to %+v for %d", k, was, now, asked)
		}
		if asked > 0 && was.Held+was.Settled+asked > c.Limit {
			over++
		}
	}
	if len(full) != over || (over > 0 && !req.Soft) || r.Marked != req.Soft {
		t.Fatalf("admitted past %d caps, soft %v, marked %v: %+v", over, req.Soft, r.Marked, full)
	}
}

func (m *machine) judgeRefusal(t *rapid.T, req *Request, full []policy.CapFailure, before map[AccountKey]Account) {
	if req.Soft || len(full) == 0 {
		t.Fatalf("refused, soft %v, by %+v", req.Soft, full)
	}
	for _, f := range full {
		k := m.accountOf(req.Key, f.Cap)
		was := before[k]
		most := wants(req, f.Cap, func(i int) int64 { return req.Effects[i].Amount.Minor })
		if f.Held != was.Held || f.Settled != was.Settled || f.Asked > most || was.Held+was.Settled+f.Asked <= f.Cap.Limit {
			t.Fatalf("refused by %+v with %+v used and %d asked at most", f, was, most)
		}
		if f.Left != max(0, f.Cap.Limit-was.Held-was.Settled) {
			t.Fatalf("left %d of %d after %+v", f.Left, f.Cap.Limit, was)
		}
	}
	for k, a := range before {
		if now, _ := m.book.Account(k); now != a {
			t.Fatalf("a refusal changed %v from %+v to %+v", k, a, now)
		}
	}
}

func (m *machine) judgeOvers(t *rapid.T, req *Request, held []int64, r *Reservation, fate Fate, overs []Over) {
	for i, e := range req.Effects {
		over := slices.ContainsFunc(overs, func(o Over) bool {
			return o.Bucket == e.Bucket && int64(o.Held) == inDollars(e.Quote, held[i]) && o.Moved > o.Held
		})
		if r.Counted[i] > held[i] && !over {
			t.Fatalf("effect %d went from %d to %d without a word: %+v", i, held[i], r.Counted[i], overs)
		}
		if r.Effects[i].Object == "" && r.Counted[i] != fate.Moved[i].Amount.Minor {
			t.Fatalf("effect %d counts %d, %v moved", i, r.Counted[i], fate.Moved[i].Amount)
		}
	}
}

// recount holds the accounts against what reservations alone say.
func (m *machine) recount(t *rapid.T) {
	for _, key := range principals {
		var rs []*Reservation
		for _, r := range m.shelf.all() {
			if r.Key == key {
				rs = append(rs, r)
			}
		}
		want := Recount(m.caps, zone, rs)
		for _, c := range m.caps {
			for k, a := range m.shelf.accounts {
				if m.whole[k] && k.Key == key && k.Resource == c.Resource && k.Per == c.Per && k.Unit == c.Unit && a != want[k] {
					t.Fatalf("%v is %+v, recounted %+v", k, a, want[k])
				}
			}
		}
	}
}

func (m *machine) check(t *rapid.T) {
	checkBooks(t, m.shelf)
	counted := make(map[ObjectKey]int64)
	for _, r := range m.shelf.all() {
		for i, n := range r.Counted {
			if k := r.objectKey(i); k.Object != "" {
				counted[k] += n
			} else if r.State.Open() && n != m.asked[r.ID].Effects[i].Amount.Minor {
				t.Fatalf("reservation %d holds %d for no object, asked for %d", r.ID, n, m.asked[r.ID].Effects[i].Amount.Minor)
			}
		}
		for _, h := range r.Holds {
			if h.Effect != noEffect && h.From == 0 && h.Amount != inDollars(r.Effects[h.Effect].Quote, r.own(h.Effect)) {
				t.Fatalf("reservation %d: hold %+v is not worth %d at %v", r.ID, h, r.own(h.Effect), r.Effects[h.Effect].Quote)
			}
		}
	}
	seen := make(map[ObjectKey]bool)
	for _, e := range m.events {
		if seen[e.object] {
			continue
		}
		seen[e.object] = true
		can := most(m.events, e.object)
		if counted[e.object] < can {
			t.Fatalf("%v counts %d and can have moved %d: %+v\n%s", e.object, counted[e.object], can, m.shelf.objects[e.object], tell(m.events, e.object))
		}
		if counted[e.object] > can && !overlap(m.events, e.object) {
			t.Fatalf("%v counts %d and can have moved %d only", e.object, counted[e.object], can)
		}
	}
}

// again resolves twice: the same word changes nothing, another one is refused.
func (m *machine) again(t *rapid.T, id ReservationID, was State) {
	r, _ := m.book.Reservation(id)
	before := copyReservation(r)
	other := Fate{State: Released, Proof: ProofOperator}
	if was == Released {
		other = Fate{State: Unresolved}
	}
	if _, err := m.book.Resolve(m.now, id, other); !errors.Is(err, ErrResolved) {
		t.Fatalf("%s, then %s: %v", was, other.State, err)
	}
	same := Fate{State: was, Proof: ProofAbsent, Moved: make([]Moved, len(r.Effects)), Why: "again"}
	if _, err := m.book.Resolve(m.now, id, same); err != nil {
		t.Fatalf("%s twice: %v", was, err)
	}
	if diff := cmp.Diff(before, r); diff != "" {
		t.Fatalf("resolving again changed\n%s", diff)
	}
}
