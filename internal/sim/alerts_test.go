package sim

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/keybrake/keybrake/internal/store"
)

// notices are the rows about alerts and the messages that tell of them.
type notices struct {
	alerts   map[string]store.AlertRow
	messages map[string]store.MessageRow
}

func newNotices() notices {
	return notices{map[string]store.AlertRow{}, map[string]store.MessageRow{}}
}

func (n notices) clone() notices { return notices{maps.Clone(n.alerts), maps.Clone(n.messages)} }

// listing is rows, those that wait first, then newest first.
func listing[R any](rows map[string]R, limit int, over func(R) bool, at func(R) time.Time) []R {
	out := slices.SortedFunc(maps.Values(rows), func(a, b R) int {
		if over(a) != over(b) {
			return map[bool]int{true: 1, false: -1}[over(a)]
		}
		return cmp.Compare(at(b).UnixMicro(), at(a).UnixMicro())
	})
	return out[:min(limit, len(out))]
}

func (t *tx) Alerts(limit int) ([]store.AlertRow, error) {
	return listing(t.control.alerts, limit, func(a store.AlertRow) bool { return !a.Resolved.IsZero() }, func(a store.AlertRow) time.Time { return a.First }), nil
}

func (t *tx) PutAlert(a store.AlertRow) error {
	t.control.alerts[a.ID] = a
	return nil
}

func (t *tx) Messages(target string, limit int) ([]store.MessageRow, error) {
	of := maps.Clone(t.control.messages)
	maps.DeleteFunc(of, func(_ string, m store.MessageRow) bool { return target != "" && m.Target != target })
	return listing(of, limit, func(m store.MessageRow) bool { return !m.Done.IsZero() }, func(m store.MessageRow) time.Time { return m.Created }), nil
}

func (t *tx) PutMessage(m store.MessageRow) error {
	t.control.messages[m.ID] = m
	return nil
}

func (t *tx) ForgetAlerts(before time.Time) error {
	maps.DeleteFunc(t.control.alerts, func(_ string, a store.AlertRow) bool { return !a.Resolved.IsZero() && a.Resolved.Before(before) })
	maps.DeleteFunc(t.control.messages, func(_ string, m store.MessageRow) bool { return !m.Done.IsZero() && m.Done.Before(before) })
	return nil
}
