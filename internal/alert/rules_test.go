package alert

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// says is what the rules find, in short.
func says(conditions []Condition) []string {
	out := []string{}
	for _, c := range conditions {
		out = append(out, string(c.Kind)+" "+string(c.Severity))
	}
	return out
}

func TestRules(t *testing.T) {
	now := began
	at := func(d time.Duration) time.Time { return now.Add(d) }
	capAt := func(permille int) Seen {
		c := used("a", 0)
		c.Permille = permille
		return Seen{Caps: []Cap{c}}
	}
	repeats := func(n int) Seen {
		return Seen{Loops: []Repeat{{Key: "a", Name: "agent-a", Operation: "refunds.create", Subject: "ch_1", Count: n, Within: 10 * time.Minute}}}
	}
	refusals := func(n int64) Seen { return Seen{Denials: []DenialBurst{refused("a", n)}} }
	unknown := func(n int, d time.Duration) Seen {
		return Seen{Open: OpenCalls{Count: n, Oldest: at(-d), USD: "20.00"}}
	}
	due := func(kind Kind, d time.Duration) Seen {
		return Seen{Due: []Date{{Kind: kind, What: "vault key", Key: "a", Name: "agent-a", At: at(d)}}}
	}
	traffic := func(failed, calls int64) Seen {
		return Seen{Upstreams: []Traffic{{Name: "stripe", Calls: calls, Failed: failed, Within: 5 * time.Minute}}}
	}
	braked := func(scope string) Seen {
		return Seen{Brakes: []BrakeOn{{Scope: scope, ID: "a", Name: "agent-a", Mode: "stopped"}}}
	}
	const day = 24 * time.Hour
	for _, tt := range []struct {
		name string
		set  Thresholds
		seen Seen
		want string // empty: nothing
	}{
		{"nothing is wrong", Thresholds{}, Seen{}, ""},
		{"a cap just below half is nothing", Thresholds{}, capAt(499), ""},
		{"a cap at half", Thresholds{}, capAt(500), "cap info"},
		{"a cap just below 80", Thresholds{}, capAt(799), "cap info"},
		{"a cap at 80", Thresholds{}, capAt(800), "cap warning"},
		{"a cap just below full", Thresholds{}, capAt(999), "cap warning"},
		{"a cap that is full", Thresholds{}, capAt(1000), "cap critical"},
		{"a cap that is more than full", Thresholds{}, capAt(1500), "cap critical"},
		{"a cap at a level that nobody set", Thresholds{Caps: []int{90}}, capAt(899), ""},
		{"a cap at the only level, in any order", Thresholds{Caps: []int{100, 90}}, capAt(900), "cap warning"},

		{"refusals one below", Thresholds{}, refusals(29), ""},
		{"refusals at thirty", Thresholds{}, refusals(30), "denials warning"},
		{"refusals one below what is set", Thresholds{Denials: 3}, refusals(2), ""},
		{"refusals at what is set", Thresholds{Denials: 3}, refusals(3), "denials warning"},

		{"repeats one below", Thresholds{}, repeats(9), ""},
		{"repeats at ten", Thresholds{}, repeats(10), "loop critical"},
		{"repeats one below what is set", Thresholds{Repeats: 50}, repeats(49), ""},
		{"repeats at what is set", Thresholds{Repeats: 50}, repeats(50), "loop critical"},

		{"an outcome unknown for a moment less", Thresholds{}, unknown(1, 15*time.Minute-time.Second), ""},
		{"an outcome unknown for a quarter of an hour", Thresholds{}, unknown(1, 15*time.Minute), "unresolved warning"},
		{"no call is unknown", Thresholds{}, unknown(0, day), ""},
		{"an outcome unknown for less than is set", Thresholds{UnresolvedAfter: time.Hour}, unknown(3, time.Hour-time.Second), ""},
		{"outcomes unknown for as long as is set", Thresholds{UnresolvedAfter: time.Hour}, unknown(3, time.Hour), "unresolved warning"},

		{"a key that ends in more than a week", Thresholds{}, due(Expiry, 7*day+time.Second), ""},
		{"a key that ends in a week", Thresholds{}, due(Expiry, 7*day), "expiry info"},
		{"a key that ends in a little more than a day", Thresholds{}, due(Expiry, day+time.Second), "expiry info"},
		{"a key that ends in a day", Thresholds{}, due(Expiry, day), "expiry warning"},
		{"a key that has ended needs nobody", Thresholds{}, due(Expiry, 0), ""},
		{"a key that ends later than is set", Thresholds{ExpiryBefore: 2 * day}, due(Expiry, 2*day+time.Second), ""},
		{"a key that ends when it is set", Thresholds{ExpiryBefore: 2 * day}, due(Expiry, 2*day), "expiry info"},
		{"what expiry is set to is not for rotation", Thresholds{ExpiryBefore: time.Hour}, due(Rotation, 7*day), "rotation info"},
		{"a rotation in more than a week", Thresholds{}, due(Rotation, 7*day+time.Second), ""},
		{"a rotation in a day", Thresholds{}, due(Rotation, day), "rotation warning"},
		{"a rotation that is overdue stays", Thresholds{}, due(Rotation, -30*day), "rotation warning"},
		{"a rotation later than is set", Thresholds{RotationBefore: day}, due(Rotation, day+time.Second), ""},
		{"a date that nobody set", Thresholds{}, Seen{Due: []Date{{Kind: Rotation, What: "vault key", Name: "a"}}}, ""},

		{"an upstream with one failure less than half", Thresholds{}, traffic(9, 20), ""},
		{"an upstream that fails by half", Thresholds{}, traffic(10, 20), "upstream critical"},
		{"an upstream with too few calls to tell", Thresholds{}, traffic(9, 9), ""},
		{"an upstream below what is set", Thresholds{UpstreamFailed: 90}, traffic(89, 100), ""},
		{"an upstream at what is set", Thresholds{UpstreamFailed: 90}, traffic(90, 100), "upstream critical"},

		{"a key is stopped", Thresholds{}, braked("key"), "brake warning"},
		{"an upstream is stopped", Thresholds{}, braked("upstream"), "brake warning"},
		{"everything is stopped", Thresholds{}, braked("all"), "brake critical"},
		{"a key's money is frozen", Thresholds{}, braked("freeze"), "frozen critical"},
		{"all money is frozen", Thresholds{}, braked("books"), "frozen critical"},

		{"the store takes nothing", Thresholds{}, Seen{Trouble: "the disk is full"}, "store critical"},
		{"the record was changed", Thresholds{}, Seen{Damage: "record 7 does not follow record 6"}, "chain critical"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.seen.Now = now
			got := tt.set.Conditions(&tt.seen)
			if s := strings.Join(says(got), ", "); s != tt.want {
				t.Fatalf("found %q, want %q", s, tt.want)
			}
			for _, c := range got {
				if !slices.Contains(Kinds, c.Kind) || c.Severity.rank() < 0 || c.Subject == "" || c.Title == "" || c.Text == "" || strings.Contains(c.Title+c.Text, "%!") {
					t.Errorf("%+v lacks something", c)
				}
			}
		})
	}
}

func TestSubjectsTellApart(t *testing.T) {
	later := used("a", 80)
	later.Resets = later.Resets.Add(24 * time.Hour)
	monthly := used("a", 80)
	monthly.Per = "month"
	rotated := Date{Kind: Rotation, What: "vault key", Key: "a", Name: "agent-a", At: began.Add(48 * time.Hour)}
	seen := Seen{
		Now:  began,
		Caps: []Cap{used("a", 80), used("b", 80), later, monthly},
		Loops: []Repeat{
			{Key: "a", Operation: "refunds.create", Subject: "ch_1", Count: 10}, {Key: "a", Operation: "refunds.create", Subject: "ch_2", Count: 10},
			{Key: "a", Operation: "payouts.create", Subject: "ch_1", Count: 10}, {Key: "b", Operation: "refunds.create", Subject: "ch_1", Count: 10},
		},
		Brakes: []BrakeOn{{Scope: "key", ID: "a"}, {Scope: "upstream", ID: "a"}, {Scope: "all"}, {Scope: "freeze", ID: "a"}, {Scope: "books"}},
		Due: []Date{
			{Kind: Rotation, What: "vault key", Key: "a", Name: "agent-a", At: began.Add(24 * time.Hour)}, rotated,
			{Kind: Rotation, What: "secret of the upstream", Name: "agent-a", At: began.Add(24 * time.Hour)},
		},
	}
	names := map[string]bool{}
	conditions := Thresholds{}.Conditions(&seen)
	for _, c := range conditions {
		names[name(string(c.Kind), c.Subject)] = true
	}
	if len(names) != 16 || len(conditions) != 16 {
		t.Errorf("16 things are wrong and have %d names in %d conditions", len(names), len(conditions))
	}
}

// TestWhatAnAlertSays holds the sentences that people are woken by.
func TestWhatAnAlertSays(t *testing.T) {
	for _, tt := range []struct {
		seen        Seen
		title, text string
	}{
		{Seen{Caps: []Cap{used("a", 83)}}, "agent-a has used 83 % of its cap on refunds per day", "$20 left of $100"},
		{Seen{Brakes: []BrakeOn{{Scope: "all", Mode: "stopped", By: "dana", Reason: "A drill.", At: began}}}, "Everything is stopped", "By dana at 27 Nov 08:00:00 UTC. Reason: A drill. It stays"},
		{Seen{Brakes: []BrakeOn{{Scope: "books", Mode: "frozen", By: "keybrake", At: began}}}, "The money of all keys is frozen: the books and the vendor do not agree", "By keybrake"},
		{Seen{Brakes: []BrakeOn{{Scope: "upstream", ID: "ups_1", Name: "stripe", Mode: "read-only", By: "dana", At: began}}}, "The upstream stripe is read-only", "By dana"},
		{Seen{Denials: []DenialBurst{refused("a", 31)}}, "agent-a was refused 31 times in 5 min", "keybrake audit list --key agent-a --verdict deny"},
		{Seen{Open: OpenCalls{Count: 1, Oldest: began.Add(-time.Hour), USD: "20.00"}}, "The outcome of a call is not known since 27 Nov 07:00 UTC", "$20.00 stay held"},
		{Seen{Open: OpenCalls{Count: 2, Oldest: began.Add(-time.Hour), USD: "20.00"}}, "The outcome of 2 calls is not known since 27 Nov 07:00 UTC", "$20.00 stay held"},
		{Seen{Open: OpenCalls{Count: 1000, More: true, Oldest: began.Add(-time.Hour), USD: "20.00"}}, "The outcome of more than 1000 calls is not known since 27 Nov 07:00 UTC", "More than $20.00 stay held"},
		{Seen{Due: []Date{{Kind: Rotation, What: "vault key", Key: "a", Name: "agent-a", At: began.Add(-time.Hour)}}}, "The vault key agent-a was due for rotation on 27 Nov 2026", "keybrake key rotate agent-a"},
		{Seen{Due: []Date{{Kind: Rotation, What: "secret of the upstream", Name: "stripe", At: began.Add(time.Hour)}}}, "The secret of the upstream stripe is due for rotation on 27 Nov 2026", "keybrake upstream rotate stripe"},
		{Seen{Upstreams: []Traffic{{Name: "stripe", Calls: 12, Failed: 7, Within: 5 * time.Minute}}}, "7 of 12 calls to stripe failed in 5 min", "stays held until it is known"},
		{Seen{Loops: []Repeat{{Key: "a", Name: "agent-a", Operation: "refunds.create", Subject: "ch_1", Count: 12, Within: 10 * time.Minute}}}, "agent-a may be in a loop", "refunds.create for ch_1: 12 calls in 10 min. To stop it: keybrake kill agent-a"},
	} {
		t.Run(tt.title, func(t *testing.T) {
			tt.seen.Now = began
			got := Thresholds{}.Conditions(&tt.seen)
			if len(got) != 1 || got[0].Title != tt.title || !strings.Contains(got[0].Text, tt.text) {
				t.Errorf("it says %s", fmt.Sprintf("%+v", got))
			}
		})
	}
}
