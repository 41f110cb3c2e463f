package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keybrake/keybrake/internal/alert"
	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

func TestEveryActionLeavesExactlyOneRecord(t *testing.T) {
	w := newWorld(t)
	w.key(t, "agent-support-refunds-one")
	w.key(t, "agent-support-refunds-two")
	w.key(t, "gone-1")
	w.key(t, "gone-2")
	ctx := t.Context()
	one := Target{Keys: []string{"agent-support-refunds-one"}}
	w.operator(t, "ada", vault.RoleAuditor)
	w.signedIn(t, "ada")
	w.signedIn(t, "ada")
	asked := w.listens()
	w.Alerter = &alert.Watcher{Config: alert.Config{Targets: []alert.Target{{Name: "pager", Kind: "command", Command: []string{"true"}}}}, Store: w.db}
	if err := w.db.Update(ctx, store.LaneControl, func(tx store.Tx) error {
		return tx.PutAlert(store.AlertRow{ID: "alr_open", Kind: "loop", Severity: "critical", First: tx.Now(), Last: tx.Now()})
	}); err != nil {
		t.Fatal(err)
	}
	for _, action := range []struct {
		name, subject string
		do            func() error
	}{
		{"upstream.add", "upstream second", func() error {
			_, err := w.client.AddUpstream(ctx, UpstreamRequest{Name: "second", Secret: testSecret})
			return err
		}},
		{"upstream.rotate", "upstream second", func() error {
			_, err := w.client.RotateUpstream(ctx, "second", UpstreamSecret{Secret: "rk_test_another"})
			return err
		}},
		{"upstream.remove", "upstream second", func() error { return w.client.RemoveUpstream(ctx, "second") }},
		{"key.create", "vault key agent-a-b-c", func() error {
			_, err := w.client.CreateKey(ctx, KeyRequest{Name: "agent-a-b-c", Preset: "reconciliation"})
			return err
		}},
		{"key.update", "vault key agent-a-b-c", func() error {
			_, err := w.client.UpdateKey(ctx, "agent-a-b-c", KeyUpdate{PolicyEdit: PolicyEdit{Expires: "30d"}})
			return err
		}},
		{"key.rotate", "vault key agent-a-b-c", func() error {
			_, err := w.client.RotateKey(ctx, "agent-a-b-c", Rotation{})
			return err
		}},
		{"upstream.stage", "upstream stripe-test", func() error {
			_, err := w.client.RotateUpstream(ctx, "stripe-test", UpstreamSecret{Secret: "rk_test_another", Stage: true})
			return err
		}},
		{"upstream.abandon", "upstream stripe-test", func() error {
			_, err := w.client.AbandonUpstream(ctx, "stripe-test")
			return err
		}},
		{"upstream.stage", "upstream stripe-test", func() error {
			_, err := w.client.RotateUpstream(ctx, "stripe-test", UpstreamSecret{Secret: "rk_test_another", Stage: true})
			return err
		}},
		{"upstream.switch", "upstream stripe-test", func() error {
			_, err := w.client.SwitchUpstream(ctx, "stripe-test", SwitchRequest{})
			return err
		}},
		{"key.rotate.undo", "vault key agent-a-b-c", func() error {
			_, err := w.client.UndoRotation(ctx, "agent-a-b-c", w.newest(t, "agent-a-b-c"))
			return err
		}},
		{"key.rotate", "vault key agent-a-b-c", func() error {
			_, err := w.client.RotateKey(ctx, "agent-a-b-c", Rotation{Open: true})
			return err
		}},
		{"key.overlap", "vault key agent-a-b-c", func() error {
			_, err := w.client.EndOverlap(ctx, "agent-a-b-c", Overlap{})
			return err
		}},
		{"key.revoke", "vault key agent-a-b-c", func() error {
			_, err := w.client.RevokeKey(ctx, "agent-a-b-c", "gone")
			return err
		}},
		{"kill", "vault key agent-support-refunds-one", func() error {
			_, err := w.client.Kill(ctx, KillRequest{Target: one})
			return err
		}},
		{"resume", "vault key agent-support-refunds-one", func() error {
			_, err := w.client.Resume(ctx, ResumeRequest{Target: one, Reason: "fixed"})
			return err
		}},
		{"key.revoke", "2 vault keys", func() error {
			_, err := w.client.RevokeKeys(ctx, Revocation{Match: "gone-*", Reason: "the runner left"})
			return err
		}},
		{"kill", "2 vault keys", func() error {
			_, err := w.client.Kill(ctx, KillRequest{Target: Target{Match: "agent-support-*"}})
			return err
		}},
		{"kill", "upstream stripe-test", func() error {
			_, err := w.client.Kill(ctx, KillRequest{Target: Target{Upstream: "stripe-test"}, ReadOnly: true})
			return err
		}},
		{"kill", "all", func() error {
			_, err := w.client.Kill(ctx, KillRequest{Target: Target{All: true}})
			return err
		}},
		{"rates.set", "1 rates", func() error {
			_, err := w.client.SetRates(ctx, RateInputs{Rates: []RateInput{{"EUR", "1.09"}}})
			return err
		}},
		{"rates.import", "2 rates", func() error {
			_, err := w.client.ImportRates(ctx, strings.NewReader("currency,rate\nEUR,1.08\nGBP,1.27\n"), "")
			return err
		}},
		{"token.create", "token pager", func() error {
			_, err := w.client.CreateToken(ctx, TokenRequest{Name: "pager", Role: "stop"})
			return err
		}},
		{"token.delete", "token pager", func() error { return w.client.DeleteToken(ctx, "pager") }},
		{"upstream.webhook", "upstream stripe-test", func() error {
			_, err := w.client.SetWebhook(ctx, "stripe-test", SigningSecret{Secret: "whsec_0123456789abcdef0123456789abcdef"})
			return err
		}},
		{"upstream.update", "upstream stripe-test", func() error {
			_, err := w.client.UpdateUpstream(ctx, "stripe-test", UpstreamUpdate{RotateEvery: "90d"})
			return err
		}},
		{"operator.create", "operator ben", func() error {
			_, err := w.client.CreateOperator(ctx, OperatorRequest{Name: "ben", Role: "responder"})
			return err
		}},
		{"operator.update", "operator ben", func() error {
			_, err := w.client.UpdateOperator(ctx, "ben", OperatorUpdate{Role: "admin", Reason: "on call"})
			return err
		}},
		{"operator.invite", "operator ben", func() error {
			_, err := w.client.Invite(ctx, "ben", InviteRequest{})
			return err
		}},
		{"operator.uninvite", "operator ben", func() error { return w.client.Uninvite(ctx, "ben") }},
		{"session.end", "session of ada", func() error {
			list, err := w.client.Sessions(ctx)
			if err != nil {
				return err
			}
			return w.client.EndSession(ctx, list.Items[0].ID)
		}},
		{"session.end", "sessions of ada", func() error {
			_, err := w.client.EndSessions(ctx, "ada")
			return err
		}},
		{"alert.acknowledge", "alert alr_open", func() error {
			_, err := w.client.AcknowledgeAlert(ctx, "alr_open")
			return err
		}},
		{"alert.test", "target pager", func() error {
			got, err := w.client.TestAlertTarget(ctx, "pager")
			if err == nil && !got.Arrived {
				err = errors.New(got.Error)
			}
			return err
		}},
	} {
		t.Run(action.name+" "+action.subject, func(t *testing.T) {
			before := len(w.records(t))
			if err := action.do(); err != nil {
				t.Fatal(err)
			}
			after := w.records(t)
			if len(after) != before+1 {
				t.Fatalf("%d records, want one", len(after)-before)
			}
			rec := after[before]
			got := []string{string(rec.Kind), rec.Operator, rec.From, rec.Action, strings.TrimSuffix(cutID(rec.Subject), " ")}
			want := []string{string(audit.KindOperator), "local", "127.0.0.1", action.name, action.subject}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	for _, route := range operations(t, w) {
		if method, _, _ := strings.Cut(route, " "); method == http.MethodGet || recordedElsewhere[route] != "" {
			continue
		}
		if !asked.has(route) {
			t.Errorf("%s changes something, and is not among the actions of this test", route)
		}
	}
}

// recordedElsewhere are routes that are no GET and are not tried here: why not.
var recordedElsewhere = map[string]string{
	"POST /admin/v1/policies/check":                 "it changes nothing",
	"POST /admin/v1/policies/replay":                "it changes nothing",
	"POST /admin/v1/backup":                         "it changes nothing; that it was done is a record, which the script backup.txtar reads",
	"POST /admin/v1/keys/{key}/verify":              "it changes nothing; what its twin sends are calls with records of their own",
	"POST /admin/v1/upstreams/{upstream}/verify":    "it changes nothing; that it was done is a record",
	"POST /admin/v1/upstreams/{upstream}/statement": "it changes nothing; that it was done is a record",
	"POST /admin/v1/reconcile/{reservation}":        "its record is the call's outcome, which reconcile.TestAnOperatorMayDecide counts",
}

// heard are the requests that a client made: "METHOD /path".
type heard struct {
	next  http.RoundTripper
	paths map[string]bool
}

// listens notes what the operator's client asks from now on.
func (w *world) listens() *heard {
	h := &heard{w.client.http.Transport, map[string]bool{}}
	w.client.http.Transport = h
	return h
}

// RoundTrip implements http.RoundTripper.
func (h *heard) RoundTrip(r *http.Request) (*http.Response, error) {
	h.paths[r.Method+" "+r.URL.Path] = true
	return h.next.RoundTrip(r)
}

// has reports whether a route was asked for.
func (h *heard) has(route string) bool {
	pattern := regexp.MustCompile("^" + regexp.MustCompile(`\\{[^}]*\\}`).ReplaceAllString(regexp.QuoteMeta(route), "[^/]+") + "$")
	for path := range h.paths {
		if pattern.MatchString(path) {
			return true
		}
	}
	return false
}

// cutID takes " (key_...)" off.
func cutID(s string) string {
	s, _, _ = strings.Cut(s, " (")
	return s
}

func TestRefusedActionsLeaveNothing(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-one")
	ctx := t.Context()
	for name, c := range map[string]struct {
		status int
		says   string
		do     func() error
	}{
		"an unrestricted live secret": {400, "--allow-unrestricted", func() error {
			_, err := w.client.AddUpstream(ctx, UpstreamRequest{Name: "x", Secret: "sk_live_abc"})
			return err
		}},
		"a secret that is none": {400, "rk_test_", func() error {
			_, err := w.client.AddUpstream(ctx, UpstreamRequest{Name: "x", Secret: "hunter2"})
			return err
		}},
		"a base URL without TLS": {400, "--allow-insecure-upstream", func() error {
			_, err := w.client.AddUpstream(ctx, UpstreamRequest{Name: "x", Secret: testSecret, BaseURL: "http://api.example.com"})
			return err
		}},
		"an upstream's name again": {409, "another name", func() error {
			_, err := w.client.AddUpstream(ctx, UpstreamRequest{Name: "stripe-test", Secret: testSecret})
			return err
		}},
		"a secret of the other mode": {409, "live mode", func() error {
			_, err := w.client.RotateUpstream(ctx, "stripe-test", UpstreamSecret{Secret: "rk_live_abc"})
			return err
		}},
		"an upstream in use": {409, "revoke them first", func() error { return w.client.RemoveUpstream(ctx, "stripe-test") }},
		"a key without a policy": {400, "--preset", func() error {
			_, err := w.client.CreateKey(ctx, KeyRequest{Name: "agent-a-b-c"})
			return err
		}},
		"a preset that does not exist": {400, "refund-support", func() error {
			_, err := w.client.CreateKey(ctx, KeyRequest{Preset: "refund-suport"})
			return err
		}},
		"a policy with a wrong resource": {400, "p.yaml:2:3: ", func() error {
			_, err := w.client.CreateKey(ctx, KeyRequest{Name: "agent-a-b-c", PolicyEdit: PolicyEdit{Policy: "scopes:\n  refundz: read\n", PolicyFile: "p.yaml"}})
			return err
		}},
		"a key's name again": {409, "another name", func() error {
			_, err := w.client.CreateKey(ctx, KeyRequest{Name: k.Name, Preset: "reconciliation"})
			return err
		}},
		"widening without a reason": {400, "caps.refunds/day", func() error {
			_, err := w.client.UpdateKey(ctx, k.ID, KeyUpdate{PolicyEdit: PolicyEdit{Caps: []string{"refunds/day=101"}}})
			return err
		}},
		"moving a key to another upstream": {409, "stays with its upstream", func() error {
			_, err := w.client.UpdateKey(ctx, k.ID, KeyUpdate{PolicyEdit: PolicyEdit{Policy: "upstream: other\nscopes: {products: write}\n"}})
			return err
		}},
		"resuming without a reason": {400, "--reason", func() error {
			_, err := w.client.Resume(ctx, ResumeRequest{Target: Target{All: true}, Reason: " "})
			return err
		}},
		"stopping nothing": {400, "--all", func() error {
			_, err := w.client.Kill(ctx, KillRequest{})
			return err
		}},
		"stopping two kinds of things": {400, "name one of", func() error {
			_, err := w.client.Kill(ctx, KillRequest{Target: Target{All: true, Upstream: "stripe-test"}})
			return err
		}},
		"stopping an upstream that does not exist": {404, "upstream list", func() error {
			_, err := w.client.Kill(ctx, KillRequest{Target: Target{Upstream: "nope"}})
			return err
		}},
		"a rate for dollars": {400, "no rate", func() error {
			_, err := w.client.SetRates(ctx, RateInputs{Rates: []RateInput{{"USD", "1"}}})
			return err
		}},
		"a role that does not exist": {422, "role", func() error {
			_, err := w.client.CreateToken(ctx, TokenRequest{Name: "x", Role: "root"})
			return err
		}},
		"an unknown field": {422, "unexpected property", func() error {
			_, err := call[KeyCreated](ctx, w.client, http.MethodPost, "keys", nil, map[string]any{"preset": "reconciliation", "uncaped": true})
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(w.records(t))
			err := c.do()
			var p *Problem
			if !errors.As(err, &p) || p.Status != c.status || !strings.Contains(p.Detail, c.says) {
				t.Fatalf("got %v, want %d saying %q", err, c.status, c.says)
			}
			if n := len(w.records(t)); n != before {
				t.Errorf("%d records", n-before)
			}
		})
	}
}

func TestAnUpstreamSaysWhatItLacks(t *testing.T) {
	w := newWorld(t)
	w.vendor.answer("/v1/events", http.StatusForbidden)
	got, err := w.client.AddUpstream(t.Context(), UpstreamRequest{Name: "poor", Secret: testSecret})
	if err != nil {
		t.Fatal(err)
	}
	want := []Missing{{"Events: Read", "status 403", "Unknown outcomes stay held."}}
	if diff := cmp.Diff(want, got.Missing); diff != "" {
		t.Error(diff)
	}
	if got.Mode != "test" || got.BaseURL != w.vendor.server.URL || got.Version != "2026-01-28.test" || strings.Contains(got.Secret, "Canary-") {
		t.Errorf("%+v", got)
	}
	w.vendor.answer("/v1/charges", http.StatusUnauthorized)
	w.vendor.answer("/v1/events", http.StatusUnauthorized)
	if _, err := w.client.AddUpstream(t.Context(), UpstreamRequest{Name: "wrong", Secret: testSecret}); err == nil || !strings.Contains(err.Error(), "does not know the secret") {
		t.Errorf("a secret that the vendor does not know: %v", err)
	}
	if _, found := w.Ring.FindUpstream("wrong"); found {
		t.Error("it was added all the same")
	}
}

func TestKeysAndUpstreamsSurviveARestart(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-one")
	shown, err := w.client.Key(t.Context(), k.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.client.SetRates(t.Context(), RateInputs{Rates: []RateInput{{"EUR", "1.09"}}}); err != nil {
		t.Fatal(err)
	}
	w.restart(t)
	again, err := w.client.Key(t.Context(), k.Name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(shown, again, cmp.AllowUnexported(Figure{})); diff != "" {
		t.Error(diff)
	}
	if !w.passes(t, k.Key, true) {
		t.Error("the key does not pass")
	}
	if _, err := w.Rates().Quote("eur", w.db.Now()); err != nil {
		t.Error(err)
	}
	u, _ := w.Ring.FindUpstream("stripe-test")
	if status, _, err := w.Prober.Probe(t.Context(), u, "/v1/charges", ""); err != nil || status != http.StatusOK {
		t.Errorf("the secret did not survive: %d, %v", status, err)
	}
}

func TestACapThatIsAddedCountsWhatWasSpent(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-one")
	w.spends(t, k.ID, 30)
	changed, err := w.client.UpdateKey(t.Context(), k.ID, KeyUpdate{PolicyEdit: PolicyEdit{Caps: []string{"refunds/month=200", "refunds/month=9calls"}}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Change{{"caps.refunds/month/calls", "", "9"}, {"caps.refunds/month/usd", "", "200.00"}}, changed.Changes); diff != "" {
		t.Error(diff)
	}
	spend, err := w.client.Spend(t.Context(), KeyFilter{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range spend.Keys[0].Caps {
		got = append(got, strings.Join([]string{c.Resource, c.Per, c.Unit, c.Limit.String(), c.Held.String(), c.Settled.String(), c.Left.String()}, " "))
	}
	want := []string{
		"refunds day usd 100.00 0.00 30.00 70.00",
		"refunds month usd 200.00 0.00 30.00 170.00",
		"refunds month calls 9 0 1 8",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	w.spends(t, k.ID, 20) // under the new version
}

func TestKeysMadeAlikeShareOnePolicy(t *testing.T) {
	w := newWorld(t)
	a, b := w.key(t, "agent-support-refunds-one"), w.key(t, "agent-support-refunds-two")
	check := func() {
		t.Helper()
		ka, _ := w.Ring.FindKey(a.ID)
		kb, _ := w.Ring.FindKey(b.ID)
		if ka.Policy != kb.Policy {
			t.Error("two policies in memory")
		}
	}
	check()
	w.restart(t)
	check()
	like, err := w.client.CreateKey(t.Context(), KeyRequest{Like: a.Name})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(like.Name, a.Name+"-") {
		t.Errorf("name %s", like.Name)
	}
}

func TestListsComeInPages(t *testing.T) {
	w := newWorld(t)
	var want []string
	for _, n := range []string{"a", "b", "c", "d", "e"} {
		w.key(t, "agent-x-y-"+n)
		want = append(want, "agent-x-y-"+n)
	}
	var got []string
	for f := (KeyFilter{Limit: 2}); ; {
		page, err := w.client.Keys(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range page.Items {
			got = append(got, k.Name)
		}
		if f.After = page.Next; f.After == "" {
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestSecretsAreShownOnceAndWrittenNowhere(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-one")
	token, err := w.client.CreateToken(t.Context(), TokenRequest{Name: "pager", Role: "stop"})
	if err != nil {
		t.Fatal(err)
	}
	rotated, err := w.client.RotateKey(t.Context(), k.ID, Rotation{})
	if err != nil {
		t.Fatal(err)
	}
	var shown bytes.Buffer
	if err := w.client.ExportAudit(t.Context(), AuditFilter{}, "jsonl", &shown); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"keys", "keys/" + k.ID, "upstreams", "tokens", "audit", "spend", "brakes"} {
		b, err := call[json.RawMessage](t.Context(), w.client, http.MethodGet, path, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		shown.Write(b)
	}
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(w.storePath() + suffix)
		if err != nil {
			t.Fatal(err)
		}
		shown.Write(b)
	}
	for _, secret := range []string{k.Key, rotated.Key, token.Token, testSecret} {
		if bytes.Contains(shown.Bytes(), []byte(secret)) {
			t.Errorf("%s… is there", secret[:12])
		}
	}
}

func TestAKeyWhosePolicyIsNotUnderstoodDeniesEverything(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-one")
	// As after a downgrade: the program does not know a resource that the policy names.
	s := New(Config{Store: w.db, Ring: vault.NewRing(w.master), Vocabulary: emptyVocabulary()})
	loaded, err := s.Load(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(loaded.Problems) != 1 || !strings.Contains(loaded.Problems[0], k.Name) {
		t.Errorf("problems: %q", loaded.Problems)
	}
	key, _ := s.Ring.FindKey(k.ID)
	if len(key.Policy.Scopes) != 0 || key.Policy.Customers.Any {
		t.Errorf("%+v", key.Policy)
	}
}

func TestAnExpiryCountsFromTheCreation(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-one")
	if _, err := w.client.UpdateKey(t.Context(), k.ID, KeyUpdate{PolicyEdit: PolicyEdit{Expires: "48h"}}); err != nil {
		t.Fatal(err)
	}
	got, err := w.client.Key(t.Context(), k.ID)
	if err != nil {
		t.Fatal(err)
	}
	if want := k.Created.Add(48 * time.Hour); !got.Expires.Equal(want) {
		t.Errorf("expires %s, want %s", got.Expires, want)
	}
}
