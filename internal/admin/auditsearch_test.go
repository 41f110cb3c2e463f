package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
)

// seen are the fields of a listed record that the tests tell records apart by.
type seen struct {
	ID, Kind, Action string
	RunID            string `json:"run_id"`
}

func see(t *testing.T, items []json.RawMessage) (out []seen) {
	t.Helper()
	for _, item := range items {
		var one seen
		if err := json.Unmarshal(item, &one); err != nil {
			t.Fatal(err)
		}
		out = append(out, one)
	}
	return out
}

// listed reads every page of a filter.
func (w *world) listed(t *testing.T, f AuditFilter) (out []seen) {
	t.Helper()
	for {
		page, err := w.client.Audit(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, see(t, page.Items)...)
		if page.Next == "" {
			return out
		}
		f.After = page.Next
	}
}

// logs writes calls of agents, one record each, named by their run ids.
func (w *world) logs(t *testing.T, records ...*audit.Record) {
	t.Helper()
	if _, err := w.db.Log(t.Context(), records...); err != nil {
		t.Fatal(err)
	}
}

func runs(records []seen) string {
	var out []string
	for _, r := range records {
		out = append(out, r.RunID)
	}
	return strings.Join(out, " ")
}

func TestTheAuditIsSearchedByWhatItsRecordsSay(t *testing.T) {
	w := newWorld(t)
	one, two := w.key(t, "agent-support-refunds-one"), w.key(t, "agent-support-refunds-two")
	w.spends(t, one.ID, 20) // a call with a reservation
	spent := w.listed(t, AuditFilter{Key: one.ID, Limit: 2})
	call := func(key KeyCreated, run string, change func(*audit.Record)) *audit.Record {
		r := &audit.Record{
			Kind: audit.KindIntent, Key: policy.KeyID(key.ID), Operation: "refunds.create", Verdict: "allow", RunID: run, UserAgent: "stripe-go/85",
			Customers: []policy.CustomerID{"cus_A"}, Request: "req_kb_" + run,
			Effects: []audit.Effect{{Bucket: "refunds", Amount: money.Amount{Minor: 2000, Currency: "usd"}, USD: 20 * money.Dollar}},
		}
		if change != nil {
			change(r)
		}
		return r
	}
	w.logs(t,
		call(one, "a", nil),
		call(one, "b", func(r *audit.Record) { r.Deny(policy.Failure{Code: policy.CodeCapExceeded}) }),
		call(two, "c", func(r *audit.Record) {
			r.Customers = []policy.CustomerID{"cus_B"}
			r.Effects[0].USD = 500 * money.Dollar
		}),
		call(two, "d", func(r *audit.Record) { r.Operation, r.Effects, r.Customers = "charges.list", nil, nil }),
	)
	for name, test := range map[string]struct {
		f    AuditFilter
		want string // run ids, newest first; of the call that was spent they are empty
	}{
		"an operation":             {AuditFilter{Operation: "refunds.create"}, "c b a "},
		"a resource":               {AuditFilter{Resource: "charges"}, "d"},
		"a verdict":                {AuditFilter{Verdict: "deny"}, "b"},
		"a code":                   {AuditFilter{Code: "keybrake_cap_exceeded"}, "b"},
		"a customer":               {AuditFilter{Customer: "cus_B"}, "c"},
		"an amount":                {AuditFilter{MinUSD: "20.01"}, "c"},
		"at most an amount":        {AuditFilter{MaxUSD: "20"}, "b a"},
		"between two amounts":      {AuditFilter{MinUSD: "20.01", MaxUSD: "500"}, "c"},
		"between two, of which":    {AuditFilter{MinUSD: "20.01", MaxUSD: "499.99"}, ""},
		"a text of the User-Agent": {AuditFilter{Agent: "stripe-go"}, "d c b a"},
		"a run id":                 {AuditFilter{Agent: "c"}, "c"},
		"a request id":             {AuditFilter{Call: "req_kb_b"}, "b"},
		"a key and a verdict":      {AuditFilter{Key: two.Name, Verdict: "allow"}, "d c"},
		"oldest first":             {AuditFilter{Agent: "stripe-go", Ascending: true}, "a b c d"},
		"two at a time":            {AuditFilter{Agent: "stripe-go", Limit: 2}, "d c b a"},
		"a record's call":          {AuditFilter{Call: spent[0].ID}, " "},
		"what nobody did":          {AuditFilter{Customer: "cus_C"}, ""},
		"a call of another key":    {AuditFilter{Key: two.ID, Call: spent[0].ID}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := runs(w.listed(t, test.f)); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
	if got := w.listed(t, AuditFilter{Call: "rsv_1"}); len(got) != 2 || got[0].Kind != "outcome" || got[1].Kind != "intent" {
		t.Errorf("a reservation's records: %+v", got)
	}
	var part bytes.Buffer
	if err := w.client.ExportAudit(t.Context(), AuditFilter{Customer: "cus_A", Verdict: "deny"}, "jsonl", &part); err != nil {
		t.Fatal(err)
	}
	report, err := audit.Verify(&part, w.master.PublicKey())
	if err != nil || !report.OK || !report.Partial || report.Records != 1 || report.Filter != "verdict deny, customer cus_A" {
		t.Errorf("an export of the same: %+v, %v", report, err)
	}
}

func TestTheAuditIsSearchedByTime(t *testing.T) {
	w := newWorld(t)
	start := w.db.Now()
	w.key(t, "agent-support-refunds-one")
	before := len(w.listed(t, AuditFilter{Until: start}))
	if all := len(w.listed(t, AuditFilter{})); before+1 != all {
		t.Errorf("%d of %d records are older than the last", before, all)
	}
	if got := w.listed(t, AuditFilter{Since: start}); len(got) != 1 || got[0].Action != "key.create" {
		t.Errorf("%+v", got)
	}
	if got := w.listed(t, AuditFilter{Since: start.Add(time.Hour)}); len(got) != 0 {
		t.Errorf("of the future: %+v", got)
	}
	if got := w.listed(t, AuditFilter{Until: start.Add(-time.Hour)}); len(got) != 0 {
		t.Errorf("of the past: %+v", got)
	}
	if got := w.listed(t, AuditFilter{Until: start, Ascending: true, Limit: 1}); len(got) != before {
		t.Errorf("%d, want %d", len(got), before)
	}
}

func TestAnInstantIsATimeADateOrASpanAgo(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"": {}, "2026-11-20": time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC), "2026-11-20T10:00:00+01:00": time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC),
		"90m": now.Add(-90 * time.Minute), "24h": now.Add(-24 * time.Hour), "7d": now.Add(-7 * 24 * time.Hour),
	} {
		if got, err := ParseInstant(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"yesterday", "7", "-7d", "1h30m", "2026-13-01"} {
		if _, err := ParseInstant(text, now); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func TestASearchForWhatCannotBeThereIsRefused(t *testing.T) {
	w := newWorld(t)
	for name, test := range map[string]struct {
		f    AuditFilter
		want string
	}{
		"a misspelt operation":     {AuditFilter{Operation: "refund.create"}, "did you mean `refunds.create`?"},
		"a misspelt resource":      {AuditFilter{Resource: "refund"}, "did you mean `refunds`?"},
		"an unknown verdict":       {AuditFilter{Verdict: "denied"}, "write allow or deny"},
		"an amount that is none":   {AuditFilter{MinUSD: "lots"}, "write dollars"},
		"a highest that is none":   {AuditFilter{MaxUSD: "lots"}, "write dollars"},
		"a highest of nothing":     {AuditFilter{MaxUSD: "0"}, "nothing that moves is of 0 dollars"},
		"a highest below a lowest": {AuditFilter{MinUSD: "20", MaxUSD: "19.99"}, "below the lowest"},
		"an unknown key":           {AuditFilter{Key: "nobody"}, "there is no vault key"},
		"a call that is none":      {AuditFilter{Call: "ch_1"}, "write aud_..., rsv_... or req_..."},
		"a call that is not there": {AuditFilter{Call: "aud_1_9999"}, "there is no record"},
		"an unknown reservation":   {AuditFilter{Call: "rsv_9999"}, "there is no reservation"},
		"a cursor that is none":    {AuditFilter{After: "here"}, "write the id of the last record"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.client.Audit(t.Context(), test.f)
			var problem *Problem
			if !errors.As(err, &problem) || !strings.Contains(problem.Detail, test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
			if err := w.client.TailAudit(t.Context(), test.f, 1, io.Discard); test.f.After == "" && !errors.As(err, &problem) {
				t.Errorf("a tail of it: %v", err)
			}
		})
	}
}

// TestASearchLooksAtABoundedNumberOfRecordsAtATime wants what is far back to be found all the same, by going on.
func TestASearchLooksAtABoundedNumberOfRecordsAtATime(t *testing.T) {
	w := newWorld(t)
	many := make([]*audit.Record, 0, maxAuditScan+500)
	for i := range cap(many) {
		many = append(many, &audit.Record{Kind: audit.KindSystem, Action: "filler", Count: int64(i)})
	}
	many[100] = &audit.Record{Kind: audit.KindSystem, Action: "found", RunID: "needle"}
	for chunk := range slices.Chunk(many, 5000) {
		w.logs(t, chunk...)
	}
	f := AuditFilter{Agent: "needle", Limit: 10}
	page, err := w.client.Audit(t.Context(), f)
	if err != nil || len(page.Items) != 0 || page.Next == "" {
		t.Fatalf("the first page: %s, next %q, %v", page.Items, page.Next, err)
	}
	_, reached, err := audit.ParseID(page.Next)
	if last := int64(len(w.records(t))); err != nil || reached != last-maxAuditScan+1 {
		t.Errorf("it has looked from %d to %d, %v", last, reached, err)
	}
	f.After = page.Next
	if page, err = w.client.Audit(t.Context(), f); err != nil || len(page.Items) != 1 || page.Next != "" {
		t.Errorf("the second page: %s, next %q, %v", page.Items, page.Next, err)
	}
	if got := w.listed(t, AuditFilter{Agent: "needle", Ascending: true}); len(got) != 1 {
		t.Errorf("oldest first: %+v", got)
	}
}

func TestATailShowsWhatItsFilterSelects(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-one")
	record := func(run, verdict string) *audit.Record {
		return &audit.Record{Kind: audit.KindIntent, Key: policy.KeyID(k.ID), Verdict: verdict, RunID: run}
	}
	w.logs(t, record("old", "deny"), record("older than nothing", "allow"))
	ctx, cancel := context.WithCancel(t.Context())
	r, pipe := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- w.client.TailAudit(ctx, AuditFilter{Verdict: "deny"}, 5, pipe) }()
	lines := json.NewDecoder(r)
	for i := range 3 {
		var got seen
		if err := lines.Decode(&got); err != nil {
			t.Fatal(err)
		}
		if want := []string{"old", "1", "2"}[i]; got.RunID != want {
			t.Errorf("line %d is %q, want %q", i, got.RunID, want)
		}
		w.logs(t, record("passed", "allow"), record(fmt.Sprint(i+1), "deny"))
	}
	cancel()
	_ = pipe.Close() // the tail may be writing
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestDeedsAreFoundByWhatTheySay(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-one")
	stored, _ := w.Ring.Key(policy.KeyID(k.ID))
	for range 30 {
		admit(t, w.db, stored, 1)
	}
	if _, err := w.client.Kill(t.Context(), KillRequest{Target: Target{Keys: []string{k.ID}}, Reason: "It LOOPS again"}); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		filter AuditFilter
		want   []string
	}{
		"all deeds about a key":     {AuditFilter{Key: k.ID, Deeds: true}, []string{"kill", "key.create"}},
		"by the reason":             {AuditFilter{Text: "loops"}, []string{"kill"}},
		"by what changed":           {AuditFilter{Text: "refunds/day"}, []string{"key.create"}},
		"by the action":             {AuditFilter{Text: "upstream.add"}, []string{"upstream.add"}},
		"nothing that is in a call": {AuditFilter{Text: "refunds.create"}, nil},
	} {
		page, err := w.client.Audit(t.Context(), tt.filter)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, raw := range page.Items {
			var r struct{ Action string }
			if err := json.Unmarshal(raw, &r); err != nil {
				t.Fatal(err)
			}
			got = append(got, r.Action)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
	var out strings.Builder
	if err := w.client.ExportAudit(t.Context(), AuditFilter{Text: "loops"}, "jsonl", &out); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "refunds.create") || !strings.Contains(out.String(), "It LOOPS again") || !strings.Contains(out.String(), "partial") {
		t.Errorf("the export holds\n%s", out.String())
	}
}

func TestARecordIsShownBetweenItsNeighbours(t *testing.T) {
	w := newWorld(t)
	w.key(t, "agent-support-refunds-one")
	w.key(t, "agent-support-refunds-two")
	for _, tt := range []struct {
		id            string
		before, after bool
	}{{"aud_1_1", false, true}, {"aud_1_2", true, true}, {"aud_1_3", true, false}} {
		got, err := w.client.AuditChain(t.Context(), tt.id)
		if err != nil {
			t.Fatal(err)
		}
		if (got.Before != nil) != tt.before || (got.After != nil) != tt.after || !got.Whole || got.Height != 3 || !strings.Contains(string(got.This.Record), tt.id) {
			t.Errorf("%s: %+v", tt.id, got)
		}
	}
}
