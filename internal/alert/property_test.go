package alert

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keybrake/keybrake/internal/store"
)

// drawn is a state of things, and which alerts there must be of it, with their severities.
func drawn(t *rapid.T) (seen Seen, want map[string]Severity) {
	want = map[string]Severity{}
	for _, key := range []string{"a", "b"} {
		switch perCent := rapid.SampledFrom([]int{0, 0, 50, 80, 100}).Draw(t, "cap of "+key); perCent {
		case 50, 80, 100:
			seen.Caps = append(seen.Caps, used(key, perCent))
			want["cap "+key+" refunds day usd 2026-11-28T08:00:00Z"] = map[int]Severity{50: Info, 80: Warning, 100: Critical}[perCent]
		}
		if rapid.Bool().Draw(t, "refusals of "+key) {
			seen.Denials = append(seen.Denials, refused(key, 30))
			want["denials "+key] = Warning
		}
		if rapid.Bool().Draw(t, "brake of "+key) {
			seen.Brakes = append(seen.Brakes, stopped(key))
			want["brake key "+key] = Warning
		}
	}
	if rapid.IntRange(0, 3).Draw(t, "all") == 0 {
		seen.Brakes = append(seen.Brakes, BrakeOn{Scope: "all", Mode: "stopped", By: "dana", At: began})
		want["brake all"] = Critical
	}
	return seen, want
}

// TestAlertsAreWhatIsWrong: whatever comes and goes, across restarts and looks that see nothing, the alerts that are open are
// what is wrong, each once, and each target has been told of each that it takes; nobody was last told the contrary.
func TestAlertsAreWhatIsWrong(t *testing.T) {
	targets := []Target{paper("all"), paper("urgent"), paper("brakes")}
	targets[1].Least = Critical
	targets[2].Only = []Kind{Brake}
	w := newWorld(t, targets...)
	rapid.Check(t, func(t *rapid.T) {
		w.clear(t)
		for range rapid.IntRange(1, 12).Draw(t, "looks") {
			w.pass(rapid.SampledFrom([]time.Duration{0, time.Minute, refreshed, time.Hour, 3 * time.Hour}).Draw(t, "time passes"))
			switch rapid.IntRange(0, 5).Draw(t, "what happens") {
			case 0:
				w.watch() // a restart, as far as a watcher knows
			case 1:
				before, _ := w.alerts(t)
				w.seen, w.blind = Seen{}, errBlind
				w.look(t)
				w.blind = nil
				if after, _ := w.alerts(t); len(after) < len(before) {
					t.Fatalf("blind, it closed some of %+v", before)
				}
				continue
			}
			var want map[string]Severity
			w.seen, want = drawn(t)
			w.look(t)
			w.holds(t, want)
		}
	})
}

// clear makes the store new.
func (w *world) clear(t *rapid.T) {
	w.seen, w.blind = Seen{}, nil
	w.look(t)
	err := w.db.Update(context.Background(), store.LaneControl, func(tx store.Tx) error {
		all, err := tx.Messages("", 10_000)
		for _, m := range all {
			m.Done = tx.Now()
			if err := tx.PutMessage(m); err != nil {
				return err
			}
		}
		return errors.Join(err, tx.ForgetAlerts(tx.Now().Add(time.Second)))
	})
	if err != nil {
		t.Fatal(err)
	}
	w.watch()
}

// holds compares what is kept and told with what is wrong.
func (w *world) holds(t *rapid.T, want map[string]Severity) {
	open, over := w.alerts(t)
	names := map[string]bool{}
	for _, r := range open {
		names[name(r.Kind, r.Subject)] = true
	}
	if len(names) != len(open) || !slices.Equal(slices.Sorted(maps.Keys(names)), slices.Sorted(maps.Keys(want))) {
		t.Fatalf("open are %v in %d rows, wrong are %v", slices.Sorted(maps.Keys(names)), len(open), want)
	}
	for i := range w.Targets {
		target := &w.Targets[i]
		most, last := map[string]int{}, map[string]string{}
		for _, a := range w.told(t, target.Name) {
			if !target.takes(a.Kind, a.Severity) {
				t.Fatalf("%s is told of %s %s", target.Name, a.Kind, a.Severity)
			}
			last[a.ID] = a.Event
			if a.Event != "resolved" {
				most[a.ID] = max(most[a.ID], a.Severity.rank()+1)
			}
		}
		for _, r := range open {
			severity := want[name(r.Kind, r.Subject)]
			if !target.takes(Kind(r.Kind), severity) {
				continue
			}
			if most[r.ID] <= severity.rank() || last[r.ID] == "resolved" {
				t.Fatalf("%s was not told that %s %s is %s: last %q", target.Name, r.Kind, r.Subject, severity, last[r.ID])
			}
		}
		for _, r := range over {
			if event := last[r.ID]; tellsEnd(Kind(r.Kind)) && event != "" && event != "resolved" {
				t.Fatalf("%s waits for the end of %s %s", target.Name, r.Kind, r.Subject)
			}
		}
	}
}
