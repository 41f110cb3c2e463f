package ledger

import (
	"fmt"
	"testing"
	"time"
	_ "time/tzdata" // the zones below must be there on any machine

	"pgregory.net/rapid"

	"github.com/keybrake/keybrake/internal/policy"
)

func zoneOf(t rapid.TB, name string) *time.Location {
	zone, err := time.LoadLocation(name)
	if err != nil {
		t.Fatalf("load %s: %v", name, err)
	}
	return zone
}

func instant(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

var windowCases = map[string]struct {
	zone   string
	per    policy.Window
	at     string
	label  string
	starts string
	resets string
}{
	"a day in UTC": {
		"UTC", policy.PerDay, "2026-11-23T12:00:00Z", "2026-11-23", "2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z"},
	"the last nanosecond of a day still belongs to it": {
		"UTC", policy.PerDay, "2026-11-23T23:59:59.999999999Z", "2026-11-23", "2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z"},
	"midnight belongs to the new day": {
		"UTC", policy.PerDay, "2026-11-24T00:00:00Z", "2026-11-24", "2026-11-24T00:00:00Z", "2026-11-25T00:00:00Z"},
	"the spring day of New York has 23 hours": {
		"America/New_York", policy.PerDay, "2026-03-08T20:00:00Z", "2026-03-08", "2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z"},
	"the autumn day of New York has 25 hours": {
		"America/New_York", policy.PerDay, "2026-11-01T20:00:00Z", "2026-11-01", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"},
	"the first of two equal hours has its own budget": {
		"America/New_York", policy.PerHour, "2026-11-01T05:30:00Z", "2026-11-01T01-04:00", "2026-11-01T05:00:00Z", "2026-11-01T06:00:00Z"},
	"the second of two equal hours has another": {
		"America/New_York", policy.PerHour, "2026-11-01T06:30:00Z", "2026-11-01T01-05:00", "2026-11-01T06:00:00Z", "2026-11-01T07:00:00Z"},
	"the hour that does not exist is skipped": {
		"America/New_York", policy.PerHour, "2026-03-08T06:59:00Z", "2026-03-08T01-05:00", "2026-03-08T06:00:00Z", "2026-03-08T07:00:00Z"},
	"a day that begins at one o'clock because midnight does not exist": {
		"America/Sao_Paulo", policy.PerDay, "2018-11-04T12:00:00Z", "2018-11-04", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"},
	"the day before a midnight that does not exist": {
		"America/Sao_Paulo", policy.PerDay, "2018-11-03T12:00:00Z", "2018-11-03", "2018-11-03T03:00:00Z", "2018-11-04T03:00:00Z"},
	"a day whose last hour comes twice": {
		"America/Sao_Paulo", policy.PerDay, "2018-02-17T12:00:00Z", "2018-02-17", "2018-02-17T02:00:00Z", "2018-02-18T03:00:00Z"},
	"hours begin on the half in India": {
		"Asia/Kolkata", policy.PerHour, "2026-11-23T12:15:00Z", "2026-11-23T17+05:30", "2026-11-23T11:30:00Z", "2026-11-23T12:30:00Z"},
	"hours begin on the quarter in Chatham": {
		"Pacific/Chatham", policy.PerHour, "2026-11-23T12:20:00Z", "2026-11-24T02+13:45", "2026-11-23T12:15:00Z", "2026-11-23T13:15:00Z"},
	"half of an hour comes again on Lord Howe": {
		"Australia/Lord_Howe", policy.PerHour, "2026-04-04T14:45:00Z", "2026-04-05T01+11:00", "2026-04-04T14:00:00Z", "2026-04-04T15:00:00Z"},
	"and counts apart": {
		"Australia/Lord_Howe", policy.PerHour, "2026-04-04T15:10:00Z", "2026-04-05T01+10:30", "2026-04-04T15:00:00Z", "2026-04-04T15:30:00Z"},
	"the last of December may be in the first week of the next year": {
		"UTC", policy.PerWeek, "2025-12-30T12:00:00Z", "2026-W01", "2025-12-29T00:00:00Z", "2026-01-05T00:00:00Z"},
	"the first of January may be in the last week of the old year": {
		"UTC", policy.PerWeek, "2027-01-03T23:59:59Z", "2026-W53", "2026-12-28T00:00:00Z", "2027-01-04T00:00:00Z"},
	"weeks begin on Monday": {
		"UTC", policy.PerWeek, "2026-11-23T00:00:00Z", "2026-W48", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"},
	"the leap day": {
		"UTC", policy.PerDay, "2028-02-29T12:00:00Z", "2028-02-29", "2028-02-29T00:00:00Z", "2028-03-01T00:00:00Z"},
	"February ends after its leap day": {
		"UTC", policy.PerMonth, "2028-02-29T12:00:00Z", "2028-02", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"},
	"the 31st does not skip a shorter month": {
		"UTC", policy.PerMonth, "2026-01-31T23:00:00Z", "2026-01", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"},
	"December ends with its year": {
		"Asia/Tokyo", policy.PerMonth, "2026-12-31T14:59:59Z", "2026-12", "2026-11-30T15:00:00Z", "2026-12-31T15:00:00Z"},
	"a month over a change of the clocks": {
		"Europe/Berlin", policy.PerMonth, "2026-03-15T12:00:00Z", "2026-03", "2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z"},
	"the last day of a leap year in a zone that lives by a rule": {
		"America/New_York", policy.PerDay, "2044-12-31T12:00:00Z", "2044-12-31", "2044-12-31T05:00:00Z", "2045-01-01T05:00:00Z"},
	"the month that ends with it": {
		"America/New_York", policy.PerMonth, "2044-12-31T12:00:00Z", "2044-12", "2044-12-01T05:00:00Z", "2045-01-01T05:00:00Z"},
	"the day before one that a country left out": {
		"Pacific/Apia", policy.PerDay, "2011-12-30T01:00:00Z", "2011-12-29", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"},
}

func TestWindowsAreCivil(t *testing.T) {
	for name, tt := range windowCases {
		t.Run(name, func(t *testing.T) {
			zone, at := zoneOf(t, tt.zone), instant(t, tt.at)
			if got := Label(tt.per, at, zone); got != tt.label {
				t.Errorf("Label = %q, want %q", got, tt.label)
			}
			if got := ResetsAt(tt.per, at, zone); !got.Equal(instant(t, tt.resets)) {
				t.Errorf("ResetsAt = %s, want %s", got.UTC(), tt.resets)
			}
			if got := StartsAt(tt.per, at, zone); !got.Equal(instant(t, tt.starts)) {
				t.Errorf("StartsAt = %s, want %s", got.UTC(), tt.starts)
			}
		})
	}
}

func TestCallAndTotalNeverReset(t *testing.T) {
	early, late := instant(t, "2020-01-01T00:00:00Z"), instant(t, "2031-07-09T11:12:13Z")
	for _, per := range []policy.Window{policy.PerCall, policy.PerTotal} {
		if Label(per, early, time.UTC) != Label(per, late, time.UTC) {
			t.Errorf("%s has more than one window", per)
		}
		if !ResetsAt(per, early, time.UTC).IsZero() || !StartsAt(per, early, time.UTC).IsZero() {
			t.Errorf("%s begins or ends", per)
		}
	}
	if Label(policy.PerCall, early, time.UTC) == Label(policy.PerTotal, early, time.UTC) {
		t.Error("call and total share a label")
	}
}

var windows = []policy.Window{policy.PerHour, policy.PerDay, policy.PerWeek, policy.PerMonth}

var oddZones = []string{
	"UTC", "America/New_York", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "Pacific/Chatham", "Australia/Lord_Howe",
	"America/Sao_Paulo", "Africa/Cairo", "America/St_Johns", "Pacific/Apia", "Pacific/Kwajalein", "Africa/Casablanca",
	"Asia/Gaza", "Antarctica/Troll", "America/Havana", "Asia/Beirut", "Africa/Monrovia",
}

// drawInstant prefers the neighbourhood of clock changes, where windows go wrong.
func drawInstant(t *rapid.T, zone *time.Location) time.Time {
	at := time.Unix(rapid.Int64Range(0, 4_102_444_800).Draw(t, "unix"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanos"))
	if _, end := at.In(zone).ZoneBounds(); !end.IsZero() && rapid.Bool().Draw(t, "near a change") {
		at = end.Add(time.Duration(rapid.Int64Range(int64(-26*time.Hour), int64(26*time.Hour)).Draw(t, "off")))
	}
	return at
}

func TestResetsAtIsTheFirstInstantWithAnotherLabel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		zone := zoneOf(t, rapid.SampledFrom(oddZones).Draw(t, "zone"))
		per := rapid.SampledFrom(windows).Draw(t, "window")
		at := drawInstant(t, zone)
		label, resets, starts := Label(per, at, zone), ResetsAt(per, at, zone), StartsAt(per, at, zone)
		if !resets.After(at) || starts.After(at) {
			t.Fatalf("window of %s runs from %s to %s", at, starts, resets)
		}
		if Label(per, resets, zone) == label {
			t.Fatalf("%s still has the label %q of %s", resets, label, at)
		}
		if Label(per, starts.Add(-1), zone) == label {
			t.Fatalf("the nanosecond before %s has the label %q too", starts, label)
		}
		inside := starts.Add(time.Duration(rapid.Int64Range(0, int64(resets.Sub(starts)-1)).Draw(t, "inside")))
		for _, in := range []time.Time{starts, inside, resets.Add(-1)} {
			if got := Label(per, in, zone); got != label {
				t.Fatalf("%s has the label %q inside of %q (%s to %s)", in, got, label, starts, resets)
			}
		}
	})
}

func TestLaterWindowsNeverHaveALabelOfTheirElders(t *testing.T) {
	// Holds only where clocks are not turned back over midnight; those that were (before 2012) reopen a day
	// for an hour, on its old account.
	rapid.Check(t, func(t *rapid.T) {
		zone := zoneOf(t, rapid.SampledFrom([]string{"UTC", "America/New_York", "Asia/Kolkata", "Pacific/Chatham"}).Draw(t, "zone"))
		per := rapid.SampledFrom(windows).Draw(t, "window")
		at := drawInstant(t, zone)
		seen := map[string]bool{}
		for range 60 {
			label := Label(per, at, zone)
			if seen[label] {
				t.Fatalf("%q opens again at %s", label, at)
			}
			seen[label] = true
			at = ResetsAt(per, at, zone)
		}
	})
}

func ExampleLabel() {
	zone, _ := time.LoadLocation("America/New_York")
	at := time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)
	fmt.Println(Label(policy.PerDay, at, zone), ResetsAt(policy.PerDay, at, zone).UTC().Format(time.RFC3339))
	// Output: 2026-11-23 2026-11-24T05:00:00Z
}
