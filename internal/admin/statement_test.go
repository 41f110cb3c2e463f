package admin

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/reconcile"
	"github.com/keybrake/keybrake/internal/upstream"
	"github.com/keybrake/keybrake/internal/upstream/stripe"
	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
	"github.com/keybrake/keybrake/internal/vault"
)

// newBookWorld is a control plane over a Stripe in memory, whose books it can read.
func newBookWorld(t *testing.T) (*world, *httptest.Server) {
	t.Helper()
	w := newWorld(t)
	bank := sandbox.New(sandbox.Options{Seed: 1})
	server := httptest.NewServer(bank)
	t.Cleanup(func() { bank.Close(); server.Close() })
	books, err := stripe.New()
	if err != nil {
		t.Fatal(err)
	}
	client := upstream.NewClient(nil)
	t.Cleanup(client.Close)
	w.Service.Statements = &reconcile.Statements{Store: w.db, Ring: w.Ring, Client: client, Books: books, Version: stripe.DefaultVersion}
	if _, err := w.client.AddUpstream(t.Context(), UpstreamRequest{Name: "bank", Secret: "sk_test_bankbankbank", BaseURL: server.URL}); err != nil {
		t.Fatal(err)
	}
	return w, server
}

// direct makes a call at the bank that no vault key made.
func direct(t *testing.T, bank *httptest.Server, path, form string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, bank.URL+path, strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer sk_test_bankbankbank")
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := bank.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var out struct {
		ID string `json:"id"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d, %v", path, resp.StatusCode, err)
	}
	return out.ID
}

func silent(Progress) {}

func TestAStatementIsRecordedAndOthersMayMoveMoneyToo(t *testing.T) {
	w, bank := newBookWorld(t)
	direct(t, bank, "/v1/charges", "amount=9000&currency=usd&source=tok_visa")
	got, err := w.client.Statement(t.Context(), "bank", StatementRequest{}, silent)
	if err != nil {
		t.Fatal(err)
	}
	if got.Passed || got.Differences != 1 || got.Classes["missing_here"] != 1 || len(got.Notes) != 1 || got.Days[0].Vendor != "90.00" {
		t.Errorf("%+v", got)
	}
	got, err = w.client.Statement(t.Context(), "bank", StatementRequest{Others: true}, silent)
	if err != nil || !got.Passed || got.Differences != 0 || len(got.Items) != 1 || got.Items[0].Difference || got.Days[0].Differences != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	page, err := w.client.Audit(t.Context(), AuditFilter{Limit: 1})
	if err != nil || !strings.Contains(string(page.Items[0]), `"action":"reconcile.statement","subject":"upstream bank"`) {
		t.Errorf("the record says %s, %v", page.Items, err)
	}
}

func TestAStatementsJSONIsAContract(t *testing.T) {
	w, bank := newBookWorld(t)
	charge := direct(t, bank, "/v1/charges", "amount=9000&currency=usd&source=tok_visa")
	direct(t, bank, "/v1/refunds", "amount=700&charge="+charge)
	created, err := w.client.CreateKey(t.Context(), KeyRequest{
		Name: "agent-support-refunds-a", Preset: "refund-support", Upstream: "bank", PolicyEdit: PolicyEdit{Caps: []string{"refunds/day=100"}, Customers: []string{"cus_A"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	k, _ := w.Ring.FindKey(created.ID)
	admit(t, w.db, k, 20)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.server.URL+"/admin/v1/upstreams/bank/statement", bytes.NewReader([]byte(`{"all":true}`)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+w.client.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(body)), "\n")
	var last struct{ Report map[string]any }
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || len(lines) < 2 || !strings.Contains(lines[0], `"done":1`) {
		t.Fatalf("%s: %v", body, err)
	}
	members := func(of any) string {
		m, _ := of.(map[string]any)
		return strings.Join(slices.Sorted(maps.Keys(m)), " ")
	}
	list := func(of map[string]any, name string) map[string]any {
		items, _ := of[name].([]any)
		if len(items) == 0 {
			t.Fatalf("%s has no %s", members(of), name)
		}
		m, _ := items[0].(map[string]any)
		return m
	}
	items, _ := last.Report["items"].([]any)
	byClass := map[string]map[string]any{}
	for _, i := range items {
		m, _ := i.(map[string]any)
		class, _ := m["class"].(string)
		kind, _ := m["kind"].(string)
		byClass[class+" "+kind] = m
	}
	waiting, missing := byClass["not_yet refund"], byClass["missing_here refund"]
	if waiting == nil || missing == nil {
		t.Fatalf("%s", body)
	}
	for name, tc := range map[string]struct {
		of   any
		want string
	}{
		"report":   {last.Report, "as_of classes days differences events_from from items mode next notes passed read to upstream"},
		"day":      {list(last.Report, "days"), "currency day differences key key_name kind ledger matched usd vendor waiting"},
		"missing":  {missing, "calls class currency day difference kind ledger movements origin usd vendor why"},
		"movement": {list(missing, "movements"), "amount at booked booked_currency fee id object requests type"},
		"waiting":  {waiting, "calls class currency day difference key key_name kind ledger movements usd vendor why"},
		"call":     {list(waiting, "calls"), "amount at objects operation reservation state"},
	} {
		if got := members(tc.of); got != tc.want {
			t.Errorf("a %s has %s, want %s", name, got, tc.want)
		}
	}
	if missing["vendor"] != "7.00" || waiting["ledger"] != "20.00" || waiting["usd"] != "20.00" || list(missing, "movements")["booked"] != "-7.00" {
		t.Errorf("amounts: %v %v", missing, waiting)
	}
}

func TestAStatementIsForOperatorsAndSaysWhatIsWrong(t *testing.T) {
	w, _ := newBookWorld(t)
	stopper, err := NewClient(w.server.URL, w.MintLocal("monitor", vault.RoleStop).Reveal())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stopper.Statement(t.Context(), "bank", StatementRequest{}, silent); err == nil {
		t.Error("who may only stop reads the books")
	}
	w.vendor.answer("/v1/balance_transactions", http.StatusForbidden)
	for name, tc := range map[string]struct {
		req  StatementRequest
		at   string
		want string
	}{
		"an upstream that there is not": {StatementRequest{}, "nowhere", "there is no upstream"},
		"a secret that may not":         {StatementRequest{}, "stripe-test", "tick Balance Transactions: Read"},
		"a year and a day":              {StatementRequest{From: "2025-01-01", To: "2026-01-02"}, "bank", "at most 366"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := w.client.Statement(t.Context(), tc.at, tc.req, silent); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("it says %v", err)
			}
		})
	}
}
