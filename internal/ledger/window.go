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

// ResetsAt is the first instant of the window after the one that holds t: when a full cap has room
// again. It is the zero time for PerCall and PerTotal, which never reset.
func ResetsAt(per policy.Window, t time.Time, zone *time.Location) time.Time {
	t = t.In(zone)
	year, month, day := t.Date()
	switch per {
	case policy.PerHour:
		// Not time.Date(hour+1): in the hour before a change that names an hour which does not exist, or one
		// that exists twice. Zone offsets are whole minutes, so the civil hour ends after the rest of it.
		rest := time.Hour - time.Duration(t.Minute())*time.Minute -
			time.Duration(t.Second())*time.Second - time.Duration(t.Nanosecond())
		return t.Add(rest)
	case policy.PerDay:
		return time.Date(year, month, day+1, 0, 0, 0, 0, zone)
	case policy.PerWeek:
		sinceMonday := (int(t.Weekday()) + 6) % 7
		return time.Date(year, month, day-sinceMonday+7, 0, 0, 0, 0, zone)
	case policy.PerMonth:
		return time.Date(year, month+1, 1, 0, 0, 0, 0, zone)
	default:
		return time.Time{}
	}
}
