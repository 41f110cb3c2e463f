package sandbox

import "time"

// boundary is the k-th beginning of a period, counted from an anchor. Months that
// are too short for the anchor's day end on their last.
func (p cadence) boundary(anchor, k int64) int64 {
	n := int(k * p.every)
	at := time.Unix(anchor, 0).UTC()
	switch p.unit {
	case "day":
		return at.AddDate(0, 0, n).Unix()
	case "week":
		return at.AddDate(0, 0, 7*n).Unix()
	case "year":
		n *= 12
	}
	first := time.Date(at.Year(), at.Month(), 1, at.Hour(), at.Minute(), at.Second(), 0, time.UTC).AddDate(0, n, 0)
	last := first.AddDate(0, 1, -1).Day()
	return first.AddDate(0, 0, min(at.Day(), last)-1).Unix()
}

// length is about how long a period is, in seconds; never longer than the longest.
func (p cadence) length() int64 {
	days := map[string]int64{"day": 1, "week": 7, "month": 28, "year": 365}[p.unit]
	return days * p.every * 86400
}

// after is the first boundary later than a time.
func (p cadence) after(anchor, at int64) int64 {
	k := (at-anchor)/p.length() + 2
	for p.boundary(anchor, k) > at {
		k--
	}
	return p.boundary(anchor, k+1)
}

// before is the last boundary earlier than a time.
func (p cadence) before(anchor, at int64) int64 {
	k := (at-anchor)/p.length() + 2
	for p.boundary(anchor, k) >= at {
		k--
	}
	return p.boundary(anchor, k)
}
