package admin

import (
	"fmt"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/alert"
	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
)

func TestWhatThereIsToBeAlertedOfIsSeen(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-one")
	stored, _ := w.Ring.Key(policy.KeyID(k.ID))
	admit(t, w.db, stored, 80)
	for i := range 12 {
		rec := &audit.Record{Kind: audit.KindIntent, Key: stored.ID, Operation: "refunds.create", Customers: []policy.CustomerID{"cus_A"}, Verdict: "allow"}
		rec.Access = policy.Write
		if i >= 10 {
			rec = &audit.Record{Kind: audit.KindOutcome, Key: stored.ID, Upstream: stored.Upstream, Fate: "unknown", Status: 504}
		}
		if _, err := w.db.Log(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.db.Log(t.Context(), &audit.Record{Kind: audit.KindDenied, Key: stored.ID, Verdict: "deny"}, &audit.Record{Kind: audit.KindFolded, Key: stored.ID, Count: 40}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.client.Kill(t.Context(), KillRequest{Target: Target{All: true}, Reason: "a drill"}); err != nil {
		t.Fatal(err)
	}
	seen, err := w.Seen(t.Context(), 50, 30*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if len(seen.Caps) != 1 || seen.Caps[0].Permille != 800 || seen.Caps[0].Left != "$20.00" || seen.Caps[0].Limit != "$100.00" {
		t.Errorf("caps %+v", seen.Caps)
	}
	if len(seen.Loops) != 1 || seen.Loops[0].Count != 10 || seen.Loops[0].Subject != "cus_A" || seen.Loops[0].Operation != "refunds.create" {
		t.Errorf("loops %+v", seen.Loops)
	}
	if len(seen.Denials) != 1 || seen.Denials[0].Count != 41 {
		t.Errorf("refusals %+v", seen.Denials)
	}
	if len(seen.Upstreams) != 1 || seen.Upstreams[0].Failed != 2 || seen.Upstreams[0].Calls < 2 {
		t.Errorf("upstreams %+v", seen.Upstreams)
	}
	if len(seen.Brakes) != 1 || seen.Brakes[0].Scope != "all" || seen.Brakes[0].Reason != "a drill" || seen.Brakes[0].At.IsZero() {
		t.Errorf("brakes %+v", seen.Brakes)
	}
	if seen.Damage != "" || seen.Trouble != "" {
		t.Errorf("damage %q, trouble %q", seen.Damage, seen.Trouble)
	}
	if none, err := w.Seen(t.Context(), 81, 30*24*time.Hour); err != nil || len(none.Caps) != 0 {
		t.Errorf("above 80 %%: %+v, %v", none.Caps, err)
	}
}

func TestARepeatIsTheSameWriteForTheSameCustomer(t *testing.T) {
	begin := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	call := func(op, object string, customer policy.CustomerID) *audit.Sketch {
		return &audit.Sketch{Operation: policy.OperationName(op), Object: object, Customer: customer}
	}
	var r repeats
	at := func(minute int, rec *audit.Sketch) { r.count(begin.Add(time.Duration(minute)*time.Minute), rec) }
	for m := range 5 {
		at(m, call("refunds.create", "", "cus_A"))
		at(m, call("refunds.create", "", "cus_B"))
		at(m, call("payment_intents.capture", "pi_1", "cus_A"))
	}
	at(4, call("payouts.create", "", ""))
	counted := func(since int) map[string]int {
		out := map[string]int{}
		r.within(begin.Add(time.Duration(since)*time.Minute), func(op, subject string, n int) { out[op+" "+subject] = n })
		return out
	}
	got := counted(2)
	for what, want := range map[string]int{"refunds.create cus_A": 3, "refunds.create cus_B": 3, "payment_intents.capture pi_1": 3, "payouts.create no customer": 1} {
		if got[what] != want {
			t.Errorf("%s: %d, want %d", what, got[what], want)
		}
	}
	if left := counted(5); len(left) != 0 || len(r) != 0 {
		t.Errorf("later there are %v, and %d are remembered", left, len(r))
	}
	for i := range 1000 {
		at(10+i/100, call("refunds.create", "", policy.CustomerID(fmt.Sprint("cus_", i))))
	}
	if len(r) != maxRepeats {
		t.Errorf("%d are remembered of one that repeats nothing", len(r))
	}
}

func TestARecordThatDoesNotFollowIsSeen(t *testing.T) {
	var f figures
	chain := audit.NewChain(audit.FirstChain)
	var entries []audit.Entry
	for range 3 {
		entries = append(entries, chain.Append(&audit.Record{Kind: audit.KindSystem, Action: "x"}))
	}
	for i := range entries {
		f.link(&entries[i])
	}
	if f.damage != "" {
		t.Fatal(f.damage)
	}
	f = figures{}
	entries[2].Bytes = append([]byte(nil), entries[2].Bytes...)
	entries[2].Bytes[5] ^= 1
	for i := range entries {
		f.link(&entries[i])
	}
	seen := alert.Seen{Damage: f.damage}
	if got := (alert.Thresholds{}).Conditions(&seen); len(got) != 1 || got[0].Kind != alert.Chain {
		t.Errorf("%+v", got)
	}
}

// TestAWholeCheckEndsWhatWasWrongWithTheRecord: nothing else does, since a new process has only not met the place again.
func TestAWholeCheckEndsWhatWasWrongWithTheRecord(t *testing.T) {
	w := newWorld(t)
	w.figures.damage = "record 7 does not follow from the one before it"
	seen := func() alert.Seen {
		t.Helper()
		s, err := w.Seen(t.Context(), 50, 0)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := seen(); s.Damage == "" || !s.Verified.IsZero() {
		t.Fatalf("%q, %v", s.Damage, s.Verified)
	}
	if v, err := w.client.VerifyAudit(t.Context()); err != nil || !v.OK {
		t.Fatalf("%+v, %v", v, err)
	}
	if s := seen(); s.Damage != "" || s.Verified.IsZero() {
		t.Errorf("%q, %v", s.Damage, s.Verified)
	}
}

func TestAlertsThatWaitForSomebodyAreCountedHoweverManyThereAre(t *testing.T) {
	w := newWorld(t)
	err := w.db.Update(t.Context(), store.LaneControl, func(tx store.Tx) error {
		for i := range 1300 {
			r := store.AlertRow{ID: fmt.Sprint("alr_", i), Kind: "cap", Subject: fmt.Sprint(i), Severity: "info", First: tx.Now().Add(time.Duration(i) * time.Second), Last: tx.Now()}
			if i < 600 {
				r.Severity = "warning"
			}
			if i%2 == 0 {
				r.Acked, r.AckedBy = tx.Now(), "dana"
			}
			if i%3 == 0 {
				r.Resolved = tx.Now()
			}
			if err := tx.PutAlert(r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := w.client.Status(t.Context()); err != nil || s.Alerts != 200 {
		t.Errorf("%d wait, %v", s.Alerts, err)
	}
	if a, err := w.client.AcknowledgeAlert(t.Context(), "alr_1"); err != nil || a.AckedBy == "" {
		t.Errorf("the oldest: %+v, %v", a, err)
	}
	if s, err := w.client.Status(t.Context()); err != nil || s.Alerts != 199 {
		t.Errorf("%d wait after one is looked after, %v", s.Alerts, err)
	}
}

func TestWhatARevokedKeyDidIsForgotten(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-one")
	stored, _ := w.Ring.Key(policy.KeyID(k.ID))
	admit(t, w.db, stored, 5)
	if list, err := w.client.Standings(t.Context(), StandingFilter{}); err != nil || list.Items[0].Hour != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	if _, err := w.client.RevokeKey(t.Context(), k.ID, ""); err != nil {
		t.Fatal(err)
	}
	list, err := w.client.Standings(t.Context(), StandingFilter{KeyFilter: KeyFilter{Revoked: true}})
	if err != nil || len(list.Items) != 1 || list.Items[0].LastCall.IsZero() {
		t.Errorf("%+v, %v", list, err)
	}
	if n := len(w.figures.activity); n != 0 {
		t.Errorf("the activity of %d keys is kept", n)
	}
}
