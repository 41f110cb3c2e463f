package admin

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

// refunds puts refunds of a key on record as the gateway does: admitted under its policy, and settled.
func (w *world) refunds(t *testing.T, id string, customer policy.CustomerID, cents ...int64) {
	t.Helper()
	k, _ := w.Ring.Key(policy.KeyID(id))
	for _, c := range cents {
		amount := money.Amount{Minor: c, Currency: "usd"}
		usd, err := money.Dollars().USD(c)
		if err != nil {
			t.Fatal(err)
		}
		op := policy.Operation{
			Name: "refunds.create", Resource: "refunds", Access: policy.Write, Resolved: true,
			Customer: policy.CustomerTie{Kind: policy.TieKnown, Customers: []policy.CustomerID{customer}},
			Effects:  []policy.Effect{{Bucket: "refunds", Known: true, Amount: amount, Quote: money.Dollars(), USD: usd}},
		}
		rec := &audit.Record{Kind: audit.KindIntent, Key: k.ID, KeyName: k.Name, Upstream: k.Upstream, Operation: op.Name, Customers: op.Customer.Customers, Policy: k.PolicyDigest}
		rec.Judge(&op, true)
		got, err := w.db.Admit(t.Context(), &store.Admission{
			Key: k.ID, KeyVersion: k.Version, Upstream: k.Upstream, Writes: true, Record: rec, AllowRepeat: true,
			Reserve: &ledger.Request{
				Key: k.ID, Upstream: k.Upstream, Operation: op.Name, Caps: k.Policy.Caps, Zone: k.Policy.Timezone,
				Effects: op.Counted(), Counts: op.Counts(),
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		if got.Verdict != policy.Allow {
			continue
		}
		out := &audit.Record{
			Kind: audit.KindOutcome, Ref: got.Entry.Seq, Key: k.ID, Upstream: k.Upstream, Operation: op.Name, Fate: "moved",
			Effects: []audit.Effect{{Bucket: "refunds", Amount: amount, USD: usd}},
		}
		if _, err := w.db.Resolve(t.Context(), &store.Resolution{
			Reservation: got.Reservation.ID, Record: out, Fate: ledger.Fate{State: ledger.Settled, Moved: []ledger.Moved{{Amount: amount}}},
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAReplaySaysWhatAnEditWouldHaveRefused(t *testing.T) {
	w := newWorld(t)
	k, other := w.key(t, "agent-support-refunds-r1"), w.key(t, "agent-support-refunds-r2")
	w.refunds(t, k.ID, "cus_A", 3000, 4000, 5000) // the last one is refused: a hundred a day
	w.refunds(t, k.ID, "cus_B", 2000)
	w.refunds(t, other.ID, "cus_A", 1000)
	ada := w.as(t, "ada", vault.RoleAuditor)

	own, err := ada.Replay(t.Context(), ReplayRequest{Key: k.Name})
	if err != nil {
		t.Fatal(err)
	}
	if own.Calls != 4 || own.Allowed.Calls != 3 || own.Refused.Calls != 1 || own.NewlyRefused.Calls+own.NewlyAllowed.Calls+own.Untold.Calls != 0 || own.Stopped {
		t.Errorf("its own policy: %+v", own)
	}
	if own.Allowed.Moved.String() != "90.00" || own.Caps[0].Used.String() != "90.00" {
		t.Errorf("moved %s, fullest %s", own.Allowed.Moved, own.Caps[0].Used)
	}

	edit, err := ada.Replay(t.Context(), ReplayRequest{Key: k.ID, Since: "1d", PolicyEdit: PolicyEdit{Caps: []string{"refunds/day=60"}, Customers: []string{"cus_A"}}})
	if err != nil {
		t.Fatal(err)
	}
	// 30 pass; 40 and 50 do not fit into 60; 20 are another customer's.
	if edit.NewlyRefused.Calls != 2 || edit.NewlyRefused.USD.String() != "60.00" || edit.NewlyRefused.Moved.String() != "60.00" || edit.Refused.Calls != 1 {
		t.Errorf("the edit: %+v", edit.ReplayVerdicts)
	}
	if len(edit.Rules) != 2 || edit.Examples.NewlyRefused[0].Rule != "caps.refunds/day" || edit.Examples.NewlyRefused[1].Rule != "customers" {
		t.Errorf("rules %+v, examples %+v", edit.Rules, edit.Examples)
	}
	if days := edit.Days; len(days) != 1 || days[0].Resource != "refunds" || days[0].NewlyRefused.USD.String() != "60.00" {
		t.Errorf("days %+v", days)
	}

	all, err := ada.Replay(t.Context(), ReplayRequest{PolicyEdit: PolicyEdit{
		Policy: "scopes: {refunds: write}\ncaps: [{resource: refunds, per: day, usd: 1000}]\ncustomers: any\nenforcement: shadow\n",
	}})
	if err != nil {
		t.Fatal(err)
	}
	if all.Calls != 5 || all.NewlyAllowed.Calls != 1 || all.NewlyAllowed.USD.String() != "50.00" || !all.Shadow || len(all.Keys) != 2 || all.Keys[0].ID != k.ID {
		t.Errorf("all keys: %+v", all)
	}
	if len(all.Lifted) != 1 || all.Lifted[0].Rule != "caps.refunds/day" {
		t.Errorf("lifted %+v", all.Lifted)
	}
}

func TestAReplayCountsWhatItsWindowsHaveSeenBefore(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-r1")
	w.refunds(t, k.ID, "cus_A", 3000)
	since := w.now()
	w.pass(time.Second)
	w.refunds(t, k.ID, "cus_A", 2000)
	got, err := w.client.Replay(t.Context(), ReplayRequest{
		Key: k.ID, Since: since.UTC().Format(time.RFC3339Nano), PolicyEdit: PolicyEdit{Caps: []string{"refunds/total=40"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got.Calls != 1 || got.NewlyRefused.Calls != 1 || got.Rules[0].Rule != "caps.refunds/total" {
		t.Errorf("%+v", got)
	}
}

func TestAReplayThatIsOutOfTimeSaysHowFarItCame(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-r1")
	w.refunds(t, k.ID, "cus_A", 1000)
	run, err := w.replayOf(ReplayRequest{Key: k.ID})
	if err != nil {
		t.Fatal(err)
	}
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	stopped, err := run.read(late)
	if got := run.told(stopped); err != nil || !got.Stopped || got.Calls != 0 || !got.Until.IsZero() {
		t.Errorf("%v: %+v", err, got)
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if run, err = w.replayOf(ReplayRequest{Key: k.ID}); err != nil {
		t.Fatal(err)
	}
	if _, err := run.read(gone); err == nil {
		t.Error("nobody waits for it, and it says nothing")
	}
}

func TestAReplayRefusesWhatItCannotUnderstand(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-r1")
	many := 1000
	for name, c := range map[string]struct {
		req    ReplayRequest
		status int
		says   string
	}{
		"no policy":      {ReplayRequest{}, 400, "which policy"},
		"no such key":    {ReplayRequest{Key: "agent-x"}, 404, "no vault key"},
		"a strange time": {ReplayRequest{Key: k.ID, Since: "yesterday"}, 400, "how long ago"},
		"the future":     {ReplayRequest{Key: k.ID, Since: "2999-01-01"}, 400, "in the future"},
		"a bad policy":   {ReplayRequest{PolicyEdit: PolicyEdit{Policy: "scopes: {refund: write}\n"}}, 400, "refund"},
		"a bad cap":      {ReplayRequest{Key: k.ID, PolicyEdit: PolicyEdit{Caps: []string{"refunds"}}}, 400, "refunds"},
		"many examples":  {ReplayRequest{Key: k.ID, Examples: &many}, 422, "200"},
	} {
		if _, err := w.client.Replay(t.Context(), c.req); !said(err, c.status, c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.replaying.Lock()
	_, err := w.client.Replay(t.Context(), ReplayRequest{Key: k.ID})
	w.replaying.Unlock()
	if !said(err, 503, "another replay") {
		t.Error(err)
	}
}

func TestAReplayCannotTellWhatTheRecordDoesNotSay(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-r1")
	key, _ := w.Ring.Key(policy.KeyID(k.ID))
	for _, rec := range []*audit.Record{
		{Kind: audit.KindDenied, Operation: "refunds.create", Failures: []policy.Failure{{Code: policy.CodeScopeDenied, Rule: "scopes.refunds"}}},
		{Kind: audit.KindDenied, Operation: "refunds.create", Failures: []policy.Failure{{Code: policy.CodeKeyKilled, Rule: "key"}}},
	} {
		rec.Key, rec.Upstream, rec.Verdict = key.ID, key.Upstream, "deny"
		if _, err := w.db.Log(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
	}
	got, err := w.client.Replay(t.Context(), ReplayRequest{Key: k.ID})
	if err != nil {
		t.Fatal(err)
	}
	if got.Untold.Calls != 1 || got.Refused.Calls != 1 || got.Other != 1 || len(got.Reasons) != 1 || !strings.Contains(fmt.Sprint(got.Examples.Untold), "does not say") {
		t.Errorf("%+v", got)
	}
}
