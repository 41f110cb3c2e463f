package ledger

import (
	"fmt"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
)

// Label is the identity of the window that holds the instant t in the zone. Labels are civil: a day is
// the calendar day of the zone, 23 or 25 hours long when the clocks change. An hour carries its offset,
// because the hour after a change back is another hour with the same name.
//
// PerCall and PerTotal have one window each.
func Label(per policy.Window, t time.Time, zone *time.Location) string {
	t = t.In(zone)
	switch per {
	case policy.PerHour:
		return t.Format("2006-01-02T15-07:00")
	case policy.PerDay:
		return t.Format(time.DateOnly)
	case policy.PerWeek:
		year, week := t.ISOWeek()
		return fmt.Sprintf("%04d-W%02d", year, week)
	case policy.PerMonth:
		return t.Format("2006-01")
	case policy.PerTotal:
		return "total"
	default:
		return "call"
	}
}

// ResetsAt is the first instant after t that is in another window: when a full cap has room again. It is the
// zero time for PerCall and PerTotal, which never reset.
func ResetsAt(per policy.Window, t time.Time, zone *time.Location) time.Time {
	if per < policy.PerHour || per > policy.PerMonth {
		return time.Time{}
	}
	name := Label(per, t, zone)
	// Not time.Date in the zone: it names instants that do not exist or exist twice where clocks change.
	// Between two changes civil time runs evenly, so every such span is looked at on its own.
	for at := t.In(zone); ; {
		_, end := at.ZoneBounds()
		if !end.IsZero() && !end.After(at) {
			// On the last day of a leap year ZoneBounds names its beginning, in zones that live by a rule. A loop
			// that believed it would never end.
			end = at.Add(24 * time.Hour)
		}
		_, offset := at.Zone()
		next := boundary(per, at.In(time.FixedZone("", offset)), 1)
		if end.IsZero() || next.Before(end) {
			return next.In(zone)
		}
		if at = end.In(zone); Label(per, at, zone) != name {
			return at
		}
	}
}

// StartsAt is the first instant of the window that holds t; the zero time for PerCall and PerTotal, which
// have no beginning.
func StartsAt(per policy.Window, t time.Time, zone *time.Location) time.Time {
	if per < policy.PerHour || per > policy.PerMonth {
		return time.Time{}
	}
	name := Label(per, t, zone)
	for at := t.In(zone); ; {
		start, _ := at.ZoneBounds()
		_, offset := at.Zone()
		first := boundary(per, at.In(time.FixedZone("", offset)), 0)
		if start.IsZero() || first.After(start) {
			return first.In(zone)
		}
		before := start.Add(-1).In(zone) // time.Time counts nanoseconds: there is nothing in between
		if Label(per, before, zone) != name {
			return start.In(zone)
		}
		at = before
	}
}

// boundary is the beginning of the window of t (0) or of the one after it (1). t is in a zone whose offset
// never changes.
func boundary(per policy.Window, t time.Time, next int) time.Time {
	year, month, day := t.Date()
	switch per {
	case policy.PerHour:
		return time.Date(year, month, day, t.Hour()+next, 0, 0, 0, t.Location())
	case policy.PerDay:
		return time.Date(year, month, day+next, 0, 0, 0, 0, t.Location())
	case policy.PerWeek:
		sinceMonday := (int(t.Weekday()) + 6) % 7
		return time.Date(year, month, day-sinceMonday+7*next, 0, 0, 0, 0, t.Location())
	default:
		return time.Date(year, month+time.Month(next), 1, 0, 0, 0, 0, t.Location())
	}
}
