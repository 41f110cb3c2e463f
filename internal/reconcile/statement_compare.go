package reconcile

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

// Compare matches both lists and returns the lines that concern the days asked for, by day, key and kind. The order
// of the lists does not matter.
func Compare(c Comparison) []Line {
	c.index()
	var lines []Line
	for _, m := range matters(&c) {
		lines = append(lines, c.lines(m)...)
	}
	lines = slices.DeleteFunc(lines, func(l Line) bool { return !l.inside(&c) })
	slices.SortFunc(lines, func(a, b Line) int {
		return cmp.Or(strings.Compare(a.Day, b.Day), strings.Compare(string(a.Key), string(b.Key)), strings.Compare(string(a.Kind), string(b.Kind)),
			strings.Compare(string(a.Class), string(b.Class)), strings.Compare(a.first(), b.first()))
	})
	return lines
}

// counted is an object in the books of an account.
type counted struct {
	account policy.AccountID
	object  policy.ObjectID
}

// index notes the first reservation that counted each object.
func (c *Comparison) index() {
	c.counted = make(map[counted]ledger.ReservationID)
	for i := range c.Entries {
		e := &c.Entries[i]
		for _, id := range e.Objects {
			at := counted{e.Account, id}
			if before, ok := c.counted[at]; !ok || e.Reservation < before {
				c.counted[at] = e.Reservation
			}
		}
	}
}

// first names a line for sorting: equal lists give equal statements.
func (l *Line) first() string {
	if len(l.Entries) > 0 {
		return fmt.Sprintf("a%020d.%d", l.Entries[0].Reservation, l.Entries[0].Effect)
	}
	return "b" + l.Movements[0].At.UTC().Format(time.RFC3339) + l.Movements[0].ID
}

// matter is everything that concerns one movement of money: calls and lines that name the same object, request or
// idempotency key.
type matter struct {
	entries   []Entry
	movements []Moving
}

// matters groups both lists. Objects count as the same within one kind and one account only: a refund names its
// charge, and is another matter.
func matters(c *Comparison) []*matter {
	g := grouping{parent: make(map[string]string)}
	for i := range c.Entries {
		e := &c.Entries[i]
		g.join(e.names())
	}
	for i := range c.Movements {
		g.join(c.Movements[i].names())
	}
	by := make(map[string]*matter)
	of := func(names []string) *matter {
		root := g.root(names[0])
		if by[root] == nil {
			by[root] = &matter{}
		}
		return by[root]
	}
	for i := range c.Entries {
		m := of(c.Entries[i].names())
		m.entries = append(m.entries, c.Entries[i])
	}
	for i := range c.Movements {
		m := of(c.Movements[i].names())
		m.movements = append(m.movements, c.Movements[i])
	}
	out := make([]*matter, 0, len(by))
	for _, root := range slices.Sorted(maps.Keys(by)) {
		m := by[root]
		slices.SortFunc(m.entries, func(a, b Entry) int {
			return cmp.Or(cmp.Compare(a.Reservation, b.Reservation), cmp.Compare(a.Effect, b.Effect))
		})
		slices.SortFunc(m.movements, func(a, b Moving) int { return cmp.Or(a.At.Compare(b.At), strings.Compare(a.ID, b.ID)) })
		out = append(out, m)
	}
	return out
}

// names are what an entry can be known by in the vendor's books. The first is its own alone.
func (e *Entry) names() []string {
	own := fmt.Sprintf("entry|%d|%d|%s", e.Reservation, e.Effect, e.Trace.Kind)
	if e.Trace.Shows == upstream.ShowsNever {
		return []string{own}
	}
	return append([]string{own}, known(e.Trace.Kind, e.Account, e.Objects, upstream.MadeBy{Request: e.Request, IdempotencyKey: e.IdempotencyKey})...)
}

func (m *Moving) names() []string {
	own := "line|" + string(m.Account) + "|" + m.ID
	if m.Kind == upstream.OtherMovement {
		return []string{own}
	}
	objects := append([]policy.ObjectID{m.Object}, m.Same...)
	return append([]string{own}, known(m.Kind, m.Account, objects, m.Calls...)...)
}

func known(kind upstream.MovementKind, account policy.AccountID, objects []policy.ObjectID, calls ...upstream.MadeBy) []string {
	var out []string
	at := string(kind) + "|" + string(account) + "|"
	for _, id := range objects {
		if id != "" {
			out = append(out, at+"object|"+string(id))
		}
	}
	for _, c := range calls {
		if c.Request != "" {
			out = append(out, at+"request|"+c.Request)
		}
		if c.IdempotencyKey != "" {
			out = append(out, at+"key|"+c.IdempotencyKey)
		}
	}
	return out
}

// grouping joins names into sets.
type grouping struct{ parent map[string]string }

func (g *grouping) root(name string) string {
	for {
		up, ok := g.parent[name]
		if !ok || up == name {
			return name
		}
		if above, ok := g.parent[up]; ok {
			g.parent[name] = above // shorter for the next
		}
		name = up
	}
}

func (g *grouping) join(names []string) {
	for _, n := range names[1:] {
		a, b := g.root(names[0]), g.root(n)
		if a != b {
			g.parent[max(a, b)] = min(a, b) // whatever the order, the least name is the root
		}
	}
}

// lines judges one matter: a line for each key and currency.
func (c *Comparison) lines(m *matter) []Line {
	if len(m.entries) == 0 {
		return c.nobodys(m.movements)
	}
	var out []Line
	for _, cell := range m.cells() {
		out = append(out, c.judge(cell)...)
	}
	return out
}

// nobodys are lines that no entry claims, each for itself.
func (c *Comparison) nobodys(movements []Moving) []Line {
	by := make(map[money.Currency][]Moving)
	for _, m := range movements {
		by[m.Amount.Currency] = append(by[m.Amount.Currency], m)
	}
	var out []Line
	for _, currency := range slices.Sorted(maps.Keys(by)) {
		some := by[currency]
		l := Line{
			Class: MissingHere, Day: c.day("", some[0].At), Kind: some[0].Kind, Movements: some,
			Vendor: money.Amount{Minor: moved(some), Currency: currency}, Ledger: money.Amount{Currency: currency}, Origin: originOf(some),
		}
		l.Class, l.Why = c.unclaimed(&l)
		out = append(out, l)
	}
	return out
}

// unclaimed says how a movement stands that no vault key made.
func (c *Comparison) unclaimed(l *Line) (Class, string) {
	for i := range l.Movements {
		for _, by := range l.Movements[i].Calls {
			if c.Ours != nil && c.Ours(by.IdempotencyKey) {
				l.Ours = true
				return MissingHere, "its idempotency key has Keybrake's form, and the ledger does not have it: another Keybrake at this account, " +
					"or books that went backwards"
			}
		}
	}
	if lead, counted := c.lead(l.Movements); counted || lead != "" && l.Origin != upstream.OriginCall {
		return Automatic, lead
	}
	switch l.Origin {
	case upstream.OriginAutomatic:
		return Automatic, "no call made it: " + typesOf(l.Movements)
	case upstream.OriginCall:
		return MissingHere, "a call that did not pass this Keybrake, or a person in the vendor's pages; with which key is not told"
	default:
		return MissingHere, "the vendor does not tell who made it"
	}
}

// lead says what brought a movement about without a further call: an object that was counted, if there is one.
func (c *Comparison) lead(movements []Moving) (why string, counts bool) {
	for i := range movements {
		for _, cause := range movements[i].Causes {
			if r, ok := c.counted[counted{movements[i].Account, cause}]; ok {
				return fmt.Sprintf("it comes from %s, which reservation %d counted ahead", cause, r), true
			}
			if why == "" {
				why = "it comes from " + string(cause) + ", without a call"
			}
		}
	}
	return why, false
}

// moved is what lines come to, with what their objects moved before and after them.
func moved(movements []Moving) (sum int64) {
	for i := range movements {
		sum += movements[i].Amount.Minor + movements[i].Before + movements[i].After
	}
	return sum
}

// originOf is who made a movement: a call, if any of its lines goes back to one.
func originOf(movements []Moving) upstream.Origin {
	out := upstream.OriginAutomatic
	for i := range movements {
		switch o := movements[i].Origin; {
		case o == upstream.OriginCall:
			return o
		case o == upstream.OriginUnknown:
			out = o
		}
	}
	return out
}

func typesOf(movements []Moving) string {
	var out []string
	for i := range movements {
		if !slices.Contains(out, movements[i].Type) {
			out = append(out, movements[i].Type)
		}
	}
	return strings.Join(out, ", ")
}

// cell is what one key counted in one currency of a matter, with what the vendor shows of it.
type cell struct {
	key       policy.KeyID
	currency  money.Currency
	entries   []Entry
	movements []Moving // of the whole matter, in this currency
	foreign   []Moving // in other currencies, where this one has none
	moved     int64    // this key's part of the movements
	shared    bool
	others    bool // another key counted, or holds, something of it
}

// cells splits a matter by key and currency. Movements in a currency that nobody counted in stay with the first cell.
func (m *matter) cells() []*cell {
	var out []*cell
	currencies := make(map[money.Currency][]Moving)
	for _, mv := range m.movements {
		currencies[mv.Amount.Currency] = append(currencies[mv.Amount.Currency], mv)
	}
	for _, e := range m.entries {
		at := slices.IndexFunc(out, func(x *cell) bool { return x.key == e.Key && x.currency == e.currency(currencies) })
		if at < 0 {
			at = len(out)
			out = append(out, &cell{key: e.Key, currency: e.currency(currencies)})
		}
		out[at].entries = append(out[at].entries, e)
	}
	for _, x := range out {
		x.movements = currencies[x.currency]
	}
	for currency := range currencies {
		if !slices.ContainsFunc(out, func(x *cell) bool { return x.currency == currency }) {
			out[0].foreign = append(out[0].foreign, currencies[currency]...)
		}
	}
	slices.SortFunc(out[0].foreign, func(a, b Moving) int { return strings.Compare(a.ID, b.ID) })
	share(out)
	return out
}

// currency is an entry's; one that counted nothing has whatever moved.
func (e *Entry) currency(currencies map[money.Currency][]Moving) money.Currency {
	if e.Amount.Currency != "" || len(currencies) == 0 {
		return e.Amount.Currency
	}
	return slices.Min(slices.Collect(maps.Keys(currencies)))
}

// share says what of a movement belongs to each key. Where the parts that the keys counted add up to it, each has its own; where
// one counted all of it, all (each key counts an object for itself); otherwise what its own calls made.
func share(cells []*cell) {
	for _, x := range cells {
		x.moved = moved(x.movements)
		var sum int64
		keys := 0
		for _, y := range cells {
			if y.currency == x.currency {
				sum += y.counted()
				keys++
				x.others = x.others || y != x && y.stands()
			}
		}
		mine := x.mine()
		switch own := x.counted(); {
		case keys == 1 || len(x.movements) == 0:
		case sum == x.moved && (own != 0 || len(mine) == 0):
			x.moved = own
		case own == x.moved || len(mine) == 0:
			x.shared = true
		default:
			x.moved = moved(mine)
		}
	}
}

// mine are the movements that the key's own calls made.
func (x *cell) mine() []Moving {
	var out []Moving
	for _, m := range x.movements {
		if slices.ContainsFunc(m.Calls, func(by upstream.MadeBy) bool {
			return slices.ContainsFunc(x.entries, func(e Entry) bool {
				return by.Request != "" && by.Request == e.Request || by.IdempotencyKey != "" && by.IdempotencyKey == e.IdempotencyKey
			})
		}) {
			out = append(out, m)
		}
	}
	return out
}

// stands reports whether the key counts or holds something.
func (x *cell) stands() bool {
	return slices.ContainsFunc(x.entries, func(e Entry) bool { return e.State != ledger.Released })
}

// counted is what the key's settled entries count for.
func (x *cell) counted() (sum int64) {
	for i := range x.entries {
		if x.entries[i].State == ledger.Settled {
			sum += x.entries[i].Amount.Minor
		}
	}
	return sum
}
