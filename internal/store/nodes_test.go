package store_test

import (
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/store"
)

func TestANodeIsGoneOnlyLongAfterItsLease(t *testing.T) {
	now := time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		node       store.NodeRow
		live, gone bool
	}{
		"seen just now":                  {store.NodeRow{Seen: now, Beat: store.Beat{Lease: time.Second}}, true, false},
		"seen by a clock that is ahead":  {store.NodeRow{Seen: now.Add(time.Minute), Beat: store.Beat{Lease: time.Second}}, true, false},
		"its lease has just run out":     {store.NodeRow{Seen: now.Add(-time.Second), Beat: store.Beat{Lease: time.Second}}, false, false},
		"a standby took over, 9 s ahead": {store.NodeRow{Seen: now.Add(-9 * time.Second), Beat: store.Beat{Lease: time.Second}}, false, false},
		"silent for very long":           {store.NodeRow{Seen: now.Add(-12 * time.Second), Beat: store.Beat{Lease: time.Second}}, false, true},
		"it never had a lease":           {store.NodeRow{Seen: now}, false, true},
		"it said goodbye a moment ago":   {store.NodeRow{Seen: now, Ended: now, Beat: store.Beat{Lease: time.Second}}, false, true},
		"the zero node, as in a new row": {store.NodeRow{}, false, true},
	} {
		if tt.node.Live(now) != tt.live || tt.node.Gone(now) != tt.gone {
			t.Errorf("%s: live %t, gone %t", name, tt.node.Live(now), tt.node.Gone(now))
		}
	}
}
