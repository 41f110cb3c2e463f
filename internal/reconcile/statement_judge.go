package reconcile

import (
	"fmt"
	"slices"
	"time"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

// standing sorts the entries of a cell by what can be expected of them. What was settled must show (now), is not the
// vendor's last word (pending), or was counted ahead (later).
type standing struct {
	now, pending, later, open, never, released, uncounted []Entry
}

func (s *standing) settled() []Entry { return slices.Concat(s.now, s.pending, s.later) }
func (s *standing) waiting() []Entry { return slices.Concat(s.pending, s.later) }

func (c *Comparison) sort(entries []Entry) (s standing) {
	for _, e := range entries {
		switch {
		case e.Effect < 0 && e.State == ledger.Settled:
			s.uncounted = append(s.uncounted, e)
		case e.State.Open():
			s.open = append(s.open, e)
		case e.State == ledger.Released:
			s.released = append(s.released, e)
		case e.Trace.Shows == upstream.ShowsNever:
			s.never = append(s.never, e)
		case e.Trace.Shows == upstream.ShowsLater:
			s.later = append(s.later, e)
		case e.Pending:
			s.pending = append(s.pending, e)
		default:
			s.now = append(s.now, e)
		}
	}
	return s
}

func total(entries []Entry) (minor int64) {
	for i := range entries {
		minor += entries[i].Amount.Minor
	}
	return minor
}

// judge says how a cell stands.
func (c *Comparison) judge(x *cell) []Line {
	s := c.sort(x.entries)
	if x.entries[0].Elsewhere {
		if len(x.movements) == 0 {
			return nil
		}
		return []Line{c.line(x, Elsewhere, x.entries, x.movements, "a vault key of another upstream made it")}
	}
	var out []Line
	if len(s.never) > 0 {
		out = append(out, c.line(x, NotMoney, s.never, nil, s.never[0].Trace.Why))
	}
	settled := s.settled()
	if len(x.foreign) > 0 && len(x.movements) == 0 && total(settled) != 0 {
		l := c.line(x, Different, settled, x.foreign, "another currency moved than was counted")
		l.Vendor = money.Amount{Minor: moved(x.foreign), Currency: x.foreign[0].Amount.Currency}
		return append(out, l)
	}
	out = append(out, c.nobodys(x.foreign)...)
	if len(x.movements) == 0 {
		return append(out, c.unmoved(x, s)...)
	}
	return append(out, c.held(x, s)...)
}

// unmoved says how entries stand of which the vendor shows nothing.
func (c *Comparison) unmoved(x *cell, s standing) []Line {
	var out []Line
	if len(s.open) > 0 {
		out = append(out, c.line(x, Open, s.open, nil, "held: its outcome is not known yet"))
	}
	if waiting := s.waiting(); total(waiting) != 0 {
		out = append(out, c.line(x, NotYet, waiting, nil, whyLater(waiting)))
	}
	if total(s.now) == 0 {
		return out // counted by another call, or given back
	}
	l := c.line(x, MissingThere, s.now, nil, "the ledger says that it moved, and the vendor shows nothing")
	for _, e := range s.now {
		if e.Resolved.After(c.AsOf) || e.At.After(c.AsOf.Add(-fresh)) {
			l.Class, l.Why = NotYet, "it is younger than a minute: the vendor's lists may not have it yet"
		}
	}
	return append(out, l)
}

func whyLater(later []Entry) string {
	for _, e := range later {
		if e.Trace.Shows == upstream.ShowsLater {
			return e.Trace.Why
		}
	}
	return "it waits: for a capture, a bank or a customer"
}

// held holds what was counted against what moved.
func (c *Comparison) held(x *cell, s standing) []Line {
	if settled := s.settled(); len(settled) > 0 {
		return c.settled(x, s)
	}
	switch {
	case len(s.open) > 0:
		return []Line{c.line(x, Open, s.open, x.movements, "the ledger still holds it, and the vendor shows that it moved: reconciliation settles it")}
	case len(s.uncounted) > 0:
		return []Line{c.line(x, Unmetered, s.uncounted, x.movements, "its policy lets it pass without being counted")}
	case x.others && len(x.mine()) == 0:
		return nil // another key did it, and this one was refused
	default:
		return []Line{c.released(x, s.released)}
	}
}

// settled holds settled entries against what moved: all of them, or those that must show, with what waits beside.
func (c *Comparison) settled(x *cell, s standing) []Line {
	settled, waiting := s.settled(), s.waiting()
	now, all := total(s.now), total(settled)
	var out []Line
	wait := func(rest []Entry) {
		if total(rest) != 0 {
			out = append(out, c.line(x, NotYet, rest, nil, whyLater(rest)))
		}
	}
	switch {
	case x.moved == all:
		out = append(out, c.line(x, Matched, settled, x.movements, ""))
	case x.moved == now+total(s.pending) && len(s.now)+len(s.pending) > 0:
		out = append(out, c.line(x, Matched, slices.Concat(s.now, s.pending), x.movements, ""))
		wait(s.later)
	case x.moved == now && len(s.now) > 0:
		out = append(out, c.line(x, Matched, s.now, x.movements, ""))
		wait(waiting)
	case takenBack(x.movements) != "":
		out = append(out, c.line(x, Different, settled, x.movements, whyDifferent(x, all)))
	case len(waiting) > 0 && x.moved >= now && x.moved < all:
		out = append(out, c.line(x, NotYet, settled, x.movements, "a part of it has moved"))
	case x.moved > 0 && x.moved < all && slices.ContainsFunc(settled, func(e Entry) bool { return e.Trace.AtMost }):
		out = append(out, c.line(x, AtMost, settled, x.movements, "the ledger counts the most that it could come to"))
	case len(s.open) > 0 && x.moved == all+total(s.open):
		return []Line{c.line(x, Open, slices.Concat(settled, s.open), x.movements,
			"the ledger still holds a part of it, and the vendor shows that all of it moved")}
	default:
		out = append(out, c.line(x, Different, settled, x.movements, whyDifferent(x, all)))
	}
	if len(s.open) > 0 {
		out = append(out, c.line(x, Open, s.open, nil, "held: its outcome is not known yet"))
	}
	return out
}

// released judges what the ledger gave back.
func (c *Comparison) released(x *cell, entries []Entry) Line {
	if x.moved == 0 {
		return c.line(x, Matched, entries, x.movements, "")
	}
	return c.line(x, MissingHere, entries, x.movements,
		fmt.Sprintf("the ledger gave the hold back (%s), and the vendor shows that it moved", entries[0].Proof))
}

// takenBack says what came back; empty: nothing did.
func takenBack(movements []Moving) string {
	for i := range movements {
		m := &movements[i]
		back := money.Amount{Minor: -m.Amount.Minor, Currency: m.Amount.Currency}
		switch {
		case m.Amount.Minor < 0:
			return back.String() + " came back (" + m.Type + ")"
		case m.After != 0:
			back.Minor = -m.After
			return back.String() + " came back later"
		}
	}
	return ""
}

func whyDifferent(x *cell, counted int64) string {
	if back := takenBack(x.movements); back != "" {
		return back + ": the ledger follows when that is reconciled"
	}
	if x.shared {
		return "other keys counted it too, and what they counted does not add up to what moved"
	}
	if x.moved > counted {
		return "more moved than was counted"
	}
	return "less moved than was counted"
}

// line makes one, with this key's part of what moved.
func (c *Comparison) line(x *cell, class Class, entries []Entry, movements []Moving, why string) Line {
	l := Line{
		Class: class, Key: x.key, Kind: kindOf(entries, movements), Entries: entries, Movements: movements, Why: why,
		Ledger: money.Amount{Minor: total(entries), Currency: x.currency}, Vendor: money.Amount{Currency: x.currency},
		Day: c.day(x.key, dayOf(entries)), Shared: x.shared && len(movements) > 0,
	}
	for i := range entries {
		l.USD += entries[i].USD
	}
	if len(movements) > 0 {
		l.Vendor.Minor, l.Origin, l.By = x.moved, originOf(movements), matchedBy(entries, movements)
	}
	return l
}

func kindOf(entries []Entry, movements []Moving) upstream.MovementKind {
	if len(movements) > 0 {
		return movements[0].Kind
	}
	return entries[0].Trace.Kind
}

// matchedBy is the strongest thing that both sides name.
func matchedBy(entries []Entry, movements []Moving) string {
	by := ""
	for i := range entries {
		for j := range movements {
			e, m := &entries[i], &movements[j]
			if slices.ContainsFunc(e.Objects, func(id policy.ObjectID) bool { return id == m.Object || slices.Contains(m.Same, id) }) {
				return "object"
			}
			for _, call := range m.Calls {
				switch {
				case call.Request != "" && call.Request == e.Request:
					by = "request"
				case by == "" && call.IdempotencyKey != "" && call.IdempotencyKey == e.IdempotencyKey:
					by = "idempotency_key"
				}
			}
		}
	}
	return by
}

// dayOf is when the first entry that counts something was admitted.
func dayOf(entries []Entry) time.Time {
	for i := range entries {
		if entries[i].Amount.Minor != 0 {
			return entries[i].At
		}
	}
	return entries[0].At
}
