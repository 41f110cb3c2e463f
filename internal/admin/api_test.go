package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/sqlite"
	"github.com/keybrake/keybrake/internal/vault"
)

func TestAStopTokenMayOnlyStop(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-one")
	made, err := w.client.CreateToken(t.Context(), TokenRequest{Name: "pager", Role: "stop"})
	if err != nil {
		t.Fatal(err)
	}
	stop, err := NewClient(w.server.URL, made.Token)
	if err != nil {
		t.Fatal(err)
	}
	// Every operation of the API's own description, so that one that is added later is in here too.
	for _, op := range operations(t, w) {
		method, path, _ := strings.Cut(op, " ")
		if method+" "+path == "POST /admin/v1/kill" {
			continue
		}
		path = strings.NewReplacer("{key}", k.ID, "{upstream}", "stripe-test", "{token}", "pager", "{id}", "aud_1_1").Replace(path)
		_, err := call[json.RawMessage](t.Context(), stop, method, strings.TrimPrefix(path, prefix), nil, map[string]any{})
		var p *Problem
		if !errors.As(err, &p) || p.Status != http.StatusForbidden {
			t.Errorf("%s: %v", op, err)
		}
	}
	if _, err := stop.Kill(t.Context(), KillRequest{Target: Target{All: true}}); err != nil {
		t.Fatal(err)
	}
	if w.passes(t, k.Key, false) {
		t.Error("it passes")
	}
	if err := w.client.DeleteToken(t.Context(), "pager"); err != nil {
		t.Fatal(err)
	}
	if _, err := stop.Kill(t.Context(), KillRequest{Target: Target{All: true}}); err == nil {
		t.Error("a deleted token stops")
	}
}

// operations reads "METHOD /path" from the API's description.
func operations(t *testing.T, w *world) []string {
	t.Helper()
	resp, err := http.Get(w.server.URL + "/admin/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var doc struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	var out []string
	for path, methods := range doc.Paths {
		for method := range methods {
			out = append(out, strings.ToUpper(method)+" "+path)
		}
	}
	if len(out) < 24 {
		t.Fatalf("%d operations: %q", len(out), out)
	}
	return out
}

func TestRequestsThatAreNotAnOperators(t *testing.T) {
	w := newWorld(t)
	good := w.MintLocal("good", vault.RoleAdmin).Reveal()
	expired, old := w.master.MintOperator("old", vault.RoleAdmin, w.db.Now())
	err := w.db.Update(t.Context(), store.LaneControl, func(tx store.Tx) error {
		return tx.PutToken(store.TokenRow{Digest: old.Digest[:], Name: "old", Role: "operator", Created: tx.Now(), Expires: tx.Now()})
	})
	if err == nil {
		err = w.db.View(t.Context(), w.loadRoster)
	}
	if err != nil {
		t.Fatal(err)
	}
	k := w.key(t, "agent-support-refunds-one")
	for name, c := range map[string]struct {
		host   string
		auth   []string
		status int
	}{
		"a good token":            {"", []string{"Bearer " + good}, 200},
		"none":                    {"", nil, 401},
		"another one":             {"", []string{"Bearer keybrake_admin_x"}, 401},
		"two headers":             {"", []string{"Bearer " + good, "Bearer " + good}, 401},
		"Basic":                   {"", []string{"Basic " + good}, 401},
		"an expired one":          {"", []string{"Bearer " + expired.Reveal()}, 401},
		"a vault key":             {"", []string{"Bearer " + k.Key}, 401},
		"another site's name":     {"evil.example", []string{"Bearer " + good}, 403},
		"that name with a port":   {"evil.example:8788", []string{"Bearer " + good}, 403},
		"an address as a prefix":  {"127.0.0.1.evil.example", []string{"Bearer " + good}, 403},
		"localhost":               {"LOCALHOST:1", []string{"Bearer " + good}, 200},
		"an address":              {"[::1]:8788", []string{"Bearer " + good}, 200},
		"a name from the setting": {"keybrake.internal", []string{"Bearer " + good}, 200},
	} {
		t.Run(name, func(t *testing.T) {
			w.Hosts = []string{"keybrake.internal"}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.server.URL+prefix+"keys", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = c.host
			req.Header["Authorization"] = c.auth
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != c.status {
				t.Errorf("status %d, want %d", resp.StatusCode, c.status)
			}
			if resp.Header.Get("Cache-Control") != "no-store" {
				t.Error("the answer may be kept")
			}
			if c.status >= 400 && resp.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("content type %s", resp.Header.Get("Content-Type"))
			}
		})
	}
}

func TestWrongTokensAreSlowedDownAndGoodOnesAreNot(t *testing.T) {
	w := newWorld(t)
	bad, err := NewClient(w.server.URL, "keybrake_admin_wrong")
	if err != nil {
		t.Fatal(err)
	}
	slowed := false
	for range 2 * badTokensBurst {
		_, err := bad.Upstreams(t.Context())
		var p *Problem
		if !errors.As(err, &p) {
			t.Fatal(err)
		}
		slowed = slowed || p.Status == http.StatusTooManyRequests
	}
	if !slowed {
		t.Error("never told to slow down")
	}
	if _, err := w.client.Upstreams(t.Context()); err != nil {
		t.Errorf("a good token was refused: %v", err)
	}
}

func TestAnswersNeverRepeatWhatWasSentInASecretsPlace(t *testing.T) {
	w := newWorld(t)
	_, err := call[json.RawMessage](t.Context(), w.client, http.MethodPost, "upstreams", nil, map[string]any{"secret": []string{"rk_live_canary"}, "name": 1})
	if err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("%v", err)
	}
	resp, err := w.client.send(t.Context(), http.MethodPost, "upstreams", nil, "application/json", strings.NewReader(`{"name":"x","secret":["rk_live_canary"]}`))
	if err == nil {
		resp.Body.Close()
		t.Error("it was taken")
	}
}

func TestBodiesAreBounded(t *testing.T) {
	w := newWorld(t)
	_, err := w.client.AddUpstream(t.Context(), UpstreamRequest{Name: "x", Secret: strings.Repeat("a", 2<<20)})
	var p *Problem
	if !errors.As(err, &p) || p.Status != http.StatusRequestEntityTooLarge {
		t.Errorf("%v", err)
	}
}

func TestHealthAndReadiness(t *testing.T) {
	w := newWorld(t)
	get := func(path string) int {
		t.Helper()
		resp, err := http.Get(w.server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if get("/healthz") != 200 || get("/readyz") != 200 {
		t.Error("not ready")
	}
	w.Ready = func(context.Context) error { return errors.New("unsettled") }
	if get("/healthz") != 200 || get("/readyz") != 503 {
		t.Error("ready all the same")
	}
	if get("/docs") != 401 || get("/") != 401 {
		t.Error("something else is open")
	}
}

func TestAnExportVerifiesAndAChangedOneDoesNot(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-one")
	w.spends(t, k.ID, 20)
	w.key(t, "agent-support-refunds-two")
	var whole, part, table bytes.Buffer
	for _, x := range []struct {
		f      AuditFilter
		format string
		to     *bytes.Buffer
	}{{AuditFilter{}, "jsonl", &whole}, {AuditFilter{Key: k.Name}, "jsonl", &part}, {AuditFilter{}, "csv", &table}} {
		if err := w.client.ExportAudit(t.Context(), x.f, x.format, x.to); err != nil {
			t.Fatal(err)
		}
	}
	report, err := audit.Verify(bytes.NewReader(whole.Bytes()), w.master.PublicKey())
	if err != nil || !report.OK || report.Partial || !report.Trusted || report.Records != int64(len(w.records(t))) {
		t.Errorf("%+v, %v", report, err)
	}
	if report, err = audit.Verify(&part, w.master.PublicKey()); err != nil || !report.OK || !report.Partial || report.Records != 3 {
		t.Errorf("partial: %+v, %v", report, err)
	}
	flipped := bytes.Replace(whole.Bytes(), []byte(`"refunds.create"`), []byte(`"refunds.cancel"`), 1)
	if report, err = audit.Verify(bytes.NewReader(flipped), nil); err != nil || report.OK || report.Problem.ID == "" {
		t.Errorf("flipped: %+v, %v", report, err)
	}
	if rows := strings.Count(table.String(), "\n"); rows != len(w.records(t))+1 {
		t.Errorf("%d rows", rows)
	}
	v, err := w.client.VerifyAudit(t.Context())
	if err != nil || !v.OK || v.LastSigned != v.Last {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestTheRecordsOfACallAreShownTogether(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-one")
	w.spends(t, k.ID, 20)
	list, err := w.client.Audit(t.Context(), AuditFilter{Key: k.ID, Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != 2 || list.Next == "" {
		t.Fatalf("%s", list.Items)
	}
	var newest struct{ ID, Kind string }
	if err := json.Unmarshal(list.Items[0], &newest); err != nil || newest.Kind != "outcome" {
		t.Fatalf("%+v, %v", newest, err)
	}
	call, err := w.client.AuditRecord(t.Context(), newest.ID)
	if err != nil || len(call.Items) != 2 || !strings.Contains(string(call.Items[0]), `"kind":"intent"`) {
		t.Errorf("%s, %v", call.Items, err)
	}
	if _, err := w.client.AuditRecord(t.Context(), "aud_1_99999"); err == nil {
		t.Error("a record that is not there")
	}
}

func TestATailShowsWhatComes(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-one")
	ctx, cancel := context.WithCancel(t.Context())
	r, pipe := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- w.client.TailAudit(ctx, AuditFilter{}, 1, pipe) }()
	lines := json.NewDecoder(r)
	next := func() string {
		t.Helper()
		var rec struct{ Action, Kind string }
		if err := lines.Decode(&rec); err != nil {
			t.Fatal(err)
		}
		return rec.Action + rec.Kind
	}
	if got := next(); got != "key.createoperator" {
		t.Error(got)
	}
	w.spends(t, k.ID, 1)
	if got := next() + " " + next(); got != "intent outcome" {
		t.Error(got)
	}
	cancel()
	_ = pipe.Close() // the tail may be writing
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestTheAnswerSaysWhatTheUpstreamNeedsForTheKey(t *testing.T) {
	w := newWorld(t)
	req := KeyRequest{Name: "agent-a-b-c", PolicyEdit: PolicyEdit{Policy: "scopes: {charges: read}\ncustomers: any"}}
	if k, err := w.client.CreateKey(t.Context(), req); err != nil || k.RestrictedKey != nil {
		t.Fatalf("nobody can tell, and the answer has %+v, %v", k.RestrictedKey, err)
	}
	w.Restricted = func(p *policy.Policy, mode vault.Mode) RestrictedKey {
		return RestrictedKey{Link: mode.String() + " " + p.Name, Permissions: []string{p.Scope("charges").String()}, Notes: []string{}}
	}
	req.Name = "agent-a-b-d"
	made, err := w.client.CreateKey(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := w.client.Key(t.Context(), made.ID)
	if err != nil {
		t.Fatal(err)
	}
	for what, r := range map[string]*RestrictedKey{"creating": made.RestrictedKey, "showing": shown.RestrictedKey} {
		if r == nil || r.Link != "test agent-a-b-d" || r.Permissions[0] != "read" {
			t.Errorf("%s says %+v", what, r)
		}
	}
}

func TestAServerThatIsNotThereIsUnreachable(t *testing.T) {
	w := newWorld(t)
	w.server.Close()
	if _, err := w.client.Upstreams(t.Context()); !errors.Is(err, ErrUnreachable) {
		t.Errorf("%v", err)
	}
}

// BenchmarkLoad starts with 100,000 keys made from one preset.
func BenchmarkLoad(b *testing.B) {
	master, err := vault.EphemeralMaster()
	if err != nil {
		b.Fatal(err)
	}
	db, err := sqlite.Open(b.Context(), sqlite.Options{Path: b.TempDir() + "/k.db", Signer: master, MasterCheck: master.CheckValue()})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	preset, err := policy.FindPreset("refund-support")
	if err != nil {
		b.Fatal(err)
	}
	p, _, err := policy.Parse("preset", preset.YAML, testVocabulary())
	if err != nil {
		b.Fatal(err)
	}
	const keys = 100_000
	for from := 0; from < keys; from += 5000 {
		err := db.Update(b.Context(), store.LaneControl, func(tx store.Tx) error {
			for i := range 5000 {
				_, digest, last4 := master.Mint(vault.Test)
				k := &vault.Key{
					ID: vault.NewKeyID(), Name: fmt.Sprintf("agent-bench-refunds-%d", from+i), Upstream: "up_x", Mode: vault.Test, Policy: p,
					PolicyDigest: policy.Digest(p), Created: tx.Now(),
					Credentials: []vault.Credential{{Digest: digest, Last4: last4, Created: tx.Now()}},
				}
				if err := putKey(tx, k); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		s := New(Config{Store: db, Ring: vault.NewRing(master), Vocabulary: testVocabulary()})
		start := time.Now()
		if loaded, err := s.Load(b.Context()); err != nil || loaded.Keys != keys {
			b.Fatal(loaded, err)
		}
		b.ReportMetric(time.Since(start).Seconds(), "s/load")
	}
}
