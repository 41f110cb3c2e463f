package admin

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/policy"
)

// TestFiguresOverAllKeysFollowTheBooks: what is kept in memory says the same as the books, call by call.
func TestFiguresOverAllKeysFollowTheBooks(t *testing.T) {
	w := newWorld(t)
	var made []KeyCreated
	for i := range 8 {
		made = append(made, w.key(t, fmt.Sprintf("agent-support-refunds-%d", i)))
	}
	for step := range 20 {
		k, ok := w.Ring.Key(policy.KeyID(made[step*step%8].ID))
		if !ok {
			t.Fatal("the key is gone")
		}
		admit(t, w.db, k, int64(1+step%5))
		spend, err := w.client.Spend(t.Context(), KeyFilter{})
		if err != nil {
			t.Fatal(err)
		}
		list, err := w.client.Standings(t.Context(), StandingFilter{Sort: "name"})
		if err != nil {
			t.Fatal(err)
		}
		for i, row := range list.Items {
			if row.Name != spend.Keys[i].Name || *row.Closest != spend.Keys[i].Caps[0] {
				t.Fatalf("step %d: %s stands at %+v, the books say %+v", step, row.Name, *row.Closest, spend.Keys[i].Caps[0])
			}
		}
	}
	got, err := w.client.Overview(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.Day.Settled.String() != "60.00" || got.Day.Limit.String() != "800.00" || got.Day.Left.String() != "740.00" {
		t.Errorf("the day sums up to %+v", got.Day)
	}
	calls := int64(0)
	for _, m := range got.Minutes {
		calls += m.Allowed
	}
	if len(got.Minutes) != trafficMinutes || calls != 20 {
		t.Errorf("%d calls in %d minutes", calls, len(got.Minutes))
	}
	for i := 1; i < len(got.Closest); i++ {
		if number(t, got.Closest[i].Cap.Left) < number(t, got.Closest[i-1].Cap.Left) {
			t.Errorf("%+v stands before %+v", got.Closest[i-1], got.Closest[i])
		}
	}
}

func number(t *testing.T, f Figure) (n float64) {
	t.Helper()
	if _, err := fmt.Sscan(f.String(), &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestDenialsCountWithWhatWasFolded(t *testing.T) {
	w := newWorld(t)
	for _, r := range []*audit.Record{
		{Kind: audit.KindDenied, Verdict: "deny"}, {Kind: audit.KindFolded, Count: 41}, {Kind: audit.KindOutcome}, {Kind: audit.KindSystem, Action: "x"},
	} {
		if _, err := w.db.Log(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	got, err := w.client.Overview(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	denied := int64(0)
	for _, m := range got.Minutes {
		denied += m.Denied
	}
	if denied != 42 {
		t.Errorf("%d denied, want 42", denied)
	}
}

func TestKeysAreListedByHowCloseTheyAreAndFound(t *testing.T) {
	w := newWorld(t)
	for i, usd := range []int64{5, 90, 40} {
		k := w.key(t, fmt.Sprintf("agent-support-refunds-%d", i))
		stored, _ := w.Ring.Key(policy.KeyID(k.ID))
		admit(t, w.db, stored, usd)
	}
	reader, err := w.client.CreateKey(t.Context(), KeyRequest{
		Name: "agent-umbrella-reads-1", PolicyEdit: PolicyEdit{Policy: "scopes: {charges: read}\ncustomers: any\nexpires: 90d\n"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.client.Kill(t.Context(), KillRequest{Target: Target{Keys: []string{"agent-support-refunds-2"}}}); err != nil {
		t.Fatal(err)
	}
	names := func(f StandingFilter) (out []string) {
		t.Helper()
		for {
			page, err := w.client.Standings(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			if f.Limit > 0 && len(page.Items) > f.Limit {
				t.Errorf("a page of %d has %d", f.Limit, len(page.Items))
			}
			for _, row := range page.Items {
				out = append(out, row.Name)
			}
			if f.After = page.Next; f.After == "" {
				return out
			}
		}
	}
	closest := []string{"agent-support-refunds-1", "agent-support-refunds-2", "agent-support-refunds-0", "agent-umbrella-reads-1"}
	for name, tt := range map[string]struct {
		filter StandingFilter
		want   []string
	}{
		"closest first, without a cap last":   {StandingFilter{}, closest},
		"page by page":                        {StandingFilter{KeyFilter: KeyFilter{Limit: 1}}, closest},
		"by name":                             {StandingFilter{Sort: "name"}, []string{"agent-support-refunds-0", "agent-support-refunds-1", "agent-support-refunds-2", "agent-umbrella-reads-1"}},
		"by the last call":                    {StandingFilter{Sort: "called"}, []string{"agent-support-refunds-2", "agent-support-refunds-1", "agent-support-refunds-0", "agent-umbrella-reads-1"}},
		"by expiry, those that never do last": {StandingFilter{Sort: "expires"}, []string{"agent-umbrella-reads-1", "agent-support-refunds-0", "agent-support-refunds-1", "agent-support-refunds-2"}},
		"a part of the name":                  {StandingFilter{Search: "UMBRELLA"}, []string{"agent-umbrella-reads-1"}},
		"its id":                              {StandingFilter{Search: reader.ID}, []string{"agent-umbrella-reads-1"}},
		"what is stopped":                     {StandingFilter{Brake: "stopped"}, []string{"agent-support-refunds-2"}},
		"another mode":                        {StandingFilter{Mode: "live"}, nil},
	} {
		if got := names(tt.filter); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
	overview, err := w.client.Overview(t.Context())
	if err != nil || overview.Keys != 4 || overview.Stopped != 1 {
		t.Errorf("%+v, %v", overview, err)
	}
}

func TestAKeysMoneyIsToldByHourAndDay(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-one")
	stored, _ := w.Ring.Key(policy.KeyID(k.ID))
	for _, usd := range []int64{5, 7} {
		admit(t, w.db, stored, usd)
	}
	got, err := w.client.History(t.Context(), k.ID)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Hours) != 24 || got.Hours[23].Settled.String() != "12.00" || got.Hours[22].Settled.String() != "0.00" || !got.Whole {
		t.Errorf("hours %+v, whole %v", got.Hours, got.Whole)
	}
	if len(got.Days) != 1 || len(got.Days[0].Days) != 14 || got.Days[0].Days[13].Settled.String() != "12.00" || got.Days[0].Limit.String() != "100.00" {
		t.Errorf("days %+v", got.Days)
	}
	for i := 1; i < 14; i++ {
		if step := got.Days[0].Days[i].Start.Sub(got.Days[0].Days[i-1].Start); step.Hours() != 24 {
			t.Errorf("day %d begins %v after the one before", i, step)
		}
	}
}

func TestTheCallsOfTheLastHourAreCounted(t *testing.T) {
	at := func(minute, second int) time.Time { return time.Unix(int64(minute*60+second), 0) }
	type call struct {
		at time.Time
		n  int64
	}
	for name, tt := range map[string]struct {
		calls []call
		now   time.Time
		want  int64
		last  time.Time
	}{
		"none":                                {nil, at(1000, 0), 0, time.Time{}},
		"those of one minute":                 {[]call{{at(1000, 1), 1}, {at(1000, 59), 2}}, at(1000, 59), 3, at(1000, 59)},
		"the minute an hour ago is gone":      {[]call{{at(940, 0), 5}, {at(941, 0), 7}}, at(1000, 0), 7, at(941, 0)},
		"all of them, long after":             {[]call{{at(940, 0), 5}}, at(5000, 0), 0, at(940, 0)},
		"a slot is not counted for two hours": {[]call{{at(940, 0), 5}, {at(1000, 0), 7}}, at(1000, 0), 7, at(1000, 0)},
		"a call that comes a little late":     {[]call{{at(1000, 5), 1}, {at(999, 58), 1}}, at(1000, 6), 2, at(1000, 5)},
		"a call that comes an hour late":      {[]call{{at(1000, 5), 1}, {at(940, 0), 9}}, at(1000, 6), 1, at(1000, 5)},
	} {
		t.Run(name, func(t *testing.T) {
			var a activity
			for _, c := range tt.calls {
				a.call(c.at, c.n)
			}
			if got := a.hour(tt.now); got != tt.want || !a.last.Equal(tt.last) {
				t.Errorf("%d calls, the last at %v", got, a.last)
			}
		})
	}
}

func TestAKeysLastCallIsFoundThoughItIsLongAgo(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-one")
	stored, _ := w.Ring.Key(policy.KeyID(k.ID))
	admit(t, w.db, stored, 5)
	list, err := w.client.Standings(t.Context(), StandingFilter{})
	if err != nil || len(list.Items) != 1 || list.Items[0].Hour != 1 || list.Items[0].LastCall.IsZero() {
		t.Fatalf("%+v, %v", list, err)
	}
	w.figures.mu.Lock()
	*w.figures.acted(stored.ID) = activity{} // as after a start on a store whose last hour had no call
	w.figures.mu.Unlock()
	again, err := w.client.Standings(t.Context(), StandingFilter{})
	if err != nil || again.Items[0].Hour != 0 || !again.Items[0].LastCall.Equal(list.Items[0].LastCall) {
		t.Errorf("%+v, %v", again, err)
	}
}

func TestHowMuchOfACapIsUsedIsToldForAnyAmount(t *testing.T) {
	const most = math.MaxInt64
	for name, tt := range map[string]struct {
		used, limit int64
		want        int
	}{
		"nothing":                    {0, 100, 0},
		"a third":                    {1, 3, 333},
		"all of it":                  {500, 500, 1000},
		"more than all":              {750, 500, 1500},
		"a cap of nothing":           {0, 0, 1000},
		"nearly all of the largest":  {most - 1, most, 999},
		"the largest of the least":   {most, 1, 1_000_000},
		"half of the largest":        {most / 2, most, 499},
		"a thousand times the limit": {5_000_000, 5_000, 1_000_000},
	} {
		if got := permille(tt.used, tt.limit); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
}
