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

// standing sorts the entries of a cell by what can be expected of them.
type standing struct {
	now, later, open, never, released, uncounted []Entry
}

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
		case e.Pending || e.Trace.Shows == upstream.ShowsLater:
			s.later = append(s.later, e)
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
	settled := slices.Concat(s.now, s.later)
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
	if total(s.later) != 0 {
		out = append(out, c.line(x, NotYet, s.later, nil, whyLater(s.later)))
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
	now, later := total(s.now), total(s.later)
	settled := slices.Concat(s.now, s.later)
	var out []Line
	open := func() {
		if len(s.open) > 0 {
			out = append(out, c.line(x, Open, s.open, nil, "held: its outcome is not known yet"))
		}
	}
	switch {
	case len(settled) == 0 && len(s.open) > 0:
		return append(out, c.line(x, Open, s.open, x.movements, "the ledger still holds it, and the vendor shows that it moved: reconciliation settles it"))
	case len(settled) == 0 && len(s.uncounted) > 0:
		return append(out, c.line(x, Unmetered, s.uncounted, x.movements, "its policy lets it pass without being counted"))
	case len(settled) == 0 && len(s.released) > 0:
		return append(out, c.released(x, s.released))
	case len(settled) == 0:
		return append(out, c.line(x, MissingHere, x.entries, x.movements, "the call was not counted as money of the balance"))
	case x.moved == now+later:
		out = append(out, c.line(x, Matched, settled, x.movements, ""))
	case x.moved == now:
		out = append(out, c.line(x, Matched, s.now, x.movements, ""), c.line(x, NotYet, s.later, nil, whyLater(s.later)))
	case len(s.later) > 0 && x.moved > now && x.moved < now+later:
		out = append(out, c.line(x, NotYet, settled, x.movements, "a part of it has moved"))
	case len(s.open) > 0 && x.moved == now+later+total(s.open):
		return append(out, c.line(x, Open, x.entries, x.movements, "the ledger still holds a part of it, and the vendor shows that all of it moved"))
	default:
		out = append(out, c.line(x, Different, settled, x.movements, c.whyDifferent(x, now+later)))
	}
	open()
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

func (c *Comparison) whyDifferent(x *cell, counted int64) string {
	for _, m := range x.movements {
		if m.Amount.Minor < 0 {
			return fmt.Sprintf("%s took it back (%s): the ledger follows when that is reconciled", m.Amount, m.Type)
		}
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
