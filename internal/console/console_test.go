package console

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/admin"
	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
)

func TestWhoHasNotSignedInSeesOnlyTheWayIn(t *testing.T) {
	s := newSite(t)
	s.browser.Jar = nil
	for _, path := range []string{"/", "/stop", "/stopped", "/more", "/keys/x?y=1", "/nowhere"} {
		got := s.get(path)
		if want := "/login?next=" + url.QueryEscape(path); got.url != want || !strings.Contains(got.body, "Sign in") {
			t.Errorf("%s leads to %s", path, got.url)
		}
	}
	if got := s.get("/live"); got.status != http.StatusUnauthorized {
		t.Errorf("the stream answers %d", got.status)
	}
	if got := s.post("/stop", url.Values{"target": {"all"}}); !strings.HasPrefix(got.url, "/login") {
		t.Errorf("a stop leads to %s", got.url)
	}
	if b, err := s.api.Brakes(t.Context()); err != nil || len(b.Items) != 0 {
		t.Error(b, err)
	}
	if got := s.post("/login", url.Values{"token": {"bad"}}); got.status != http.StatusUnauthorized || !strings.Contains(got.body, "no valid operator") {
		t.Errorf("a bad token: %d %s", got.status, got.body)
	}
}

func TestSigningInLeadsBackWithinTheConsoleOnly(t *testing.T) {
	for next, want := range map[string]string{
		"/keys?after=x":        "/keys?after=x",
		"":                     "/",
		"keys":                 "/",
		"//evil.example/":      "/",
		`/\evil.example`:       "/",
		"https://evil.example": "/",
		"javascript:alert(1)":  "/",
	} {
		if got := within(next); got != want {
			t.Errorf("%q leads to %q, want %q", next, got, want)
		}
	}
}

func TestAnotherSiteCannotPostHere(t *testing.T) {
	s := newSite(t)
	for name, set := range map[string]func(http.Header){
		"by what the browser says":  func(h http.Header) { h.Set("Sec-Fetch-Site", "cross-site") },
		"by the origin alone":       func(h http.Header) { h.Set("Origin", "https://evil.example") },
		"from another port's pages": func(h http.Header) { h.Set("Origin", "http://127.0.0.1:1"); h.Set("Sec-Fetch-Site", "same-site") },
	} {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.server.URL+"/stop", strings.NewReader("target=all"))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			set(r.Header)
			if got := s.read(s.browser.Do(r)); got.status != http.StatusForbidden {
				t.Errorf("it is answered %d", got.status)
			}
		})
	}
	if b, err := s.api.Brakes(t.Context()); err != nil || len(b.Items) != 0 {
		t.Error("it stopped something:", b, err)
	}
}

func TestEveryAnswerHasItsPolicyAndNothingInline(t *testing.T) {
	s := newSite(t)
	s.key("agent-support-refunds-one")
	for _, path := range []string{"/", "/stop", "/stopped", "/more", "/nowhere", "/login", "/static/console.js"} {
		got := s.get(path)
		if policy := got.header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s has the policy %q", path, policy)
		}
		for _, inline := range []string{" style=", "<style", " onclick=", "<script>", "javascript:"} {
			if strings.Contains(got.body, inline) {
				t.Errorf("%s has %q", path, inline)
			}
		}
	}
}

func TestStopIsTwoPressesAndResumeAsksWhy(t *testing.T) {
	s := newSite(t)
	k := s.key("agent-support-refunds-one")
	panel := s.get("/").body
	if !strings.Contains(panel, `name="target" value="all"`) {
		t.Fatal("the overview has no stop panel")
	}
	stopped := s.post("/stop", url.Values{"target": {"key:" + k.ID}, "mode": {"stopped"}, "reason": {"it loops"}})
	for _, want := range []string{"agent-support-refunds-one is stopped.", "Measured effect", "it loops", "ines"} {
		if !strings.Contains(stopped.body, want) {
			t.Errorf("the page after a stop lacks %q", want)
		}
	}
	b, err := s.api.Brakes(t.Context())
	if err != nil || len(b.Items) != 1 || b.Items[0].ID != k.ID || b.Items[0].Actor != "ines" {
		t.Fatal(b, err)
	}
	if got := s.post("/resume", url.Values{"target": {"key:" + k.ID}}); got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, "a reason is required") {
		t.Errorf("without a reason: %d", got.status)
	}
	s.post("/resume", url.Values{"target": {"key:" + k.ID}, "reason": {"the runner is gone"}})
	if b, err := s.api.Brakes(t.Context()); err != nil || len(b.Items) != 0 {
		t.Error("it is not resumed:", b, err)
	}
	if got := s.post("/stop", url.Values{"target": {"everything"}}); got.status != http.StatusBadRequest {
		t.Errorf("a target that is none: %d", got.status)
	}
}

// What a stop refused is counted from the record: its own keys' refusals since, those that were folded included.
func TestWhatAStopRefusedSinceIsCounted(t *testing.T) {
	s := newSite(t)
	one, two := s.key("agent-support-refunds-one"), s.key("agent-support-refunds-two")
	refused := func(k admin.KeyCreated, kind audit.Kind, count int64, code policy.Code) {
		t.Helper()
		rec := &audit.Record{
			Kind: kind, Key: policy.KeyID(k.ID), KeyName: k.Name, Operation: "refunds.create", Verdict: "deny", Count: count,
			Failures: []policy.Failure{{Code: code, Message: "It is stopped."}},
		}
		if _, err := s.db.Log(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
	}
	refused(one, audit.KindDenied, 0, policy.CodeKeyKilled) // by an earlier stop
	s.clock.pass(time.Minute)
	page := s.post("/stop", url.Values{"target": {"key:" + one.ID}, "mode": {"stopped"}})
	if !strings.Contains(shown(page.body), "0 calls refused since , 0 passed.") {
		t.Errorf("at once: %s", shown(page.body))
	}
	s.clock.pass(time.Second)
	refused(one, audit.KindDenied, 0, policy.CodeKeyKilled)
	refused(one, audit.KindFolded, 36, policy.CodeKeyKilled)
	refused(one, audit.KindDenied, 0, policy.CodeScopeDenied)
	refused(two, audit.KindDenied, 0, policy.CodeKeyKilled)
	page = s.get(page.url)
	if says := shown(page.body); !strings.Contains(says, "37 calls refused since , 0 passed.") || !strings.Contains(says, "The first 1.0 s after the press: refunds.create of agent-support-refunds-one") {
		t.Errorf("then: %s", says)
	}
}

// How many calls passed since a stop is told only where it is known: a call that came before it, or one that was stopped after
// it had been admitted, is none, and once the brake was lifted nobody can tell.
func TestWhatPassedSinceAStopIsCountedWhileItHolds(t *testing.T) {
	s := newSite(t)
	one, two := s.key("agent-support-refunds-one"), s.key("agent-support-refunds-two")
	log := func(rec audit.Record) int64 {
		t.Helper()
		rec.Key, rec.Operation = policy.KeyID(one.ID), "refunds.create"
		entries, err := s.db.Log(t.Context(), &rec)
		if err != nil {
			t.Fatal(err)
		}
		return entries[0].Seq
	}
	says := func(page seen, want, never string) {
		t.Helper()
		if text := shown(page.body); !strings.Contains(text, want) || never != "" && strings.Contains(text, never) {
			t.Errorf("not %q, or %q: %s", want, never, text)
		}
	}
	read, write := audit.Judged{Access: policy.Read}, audit.Judged{Access: policy.Write}
	writes := s.post("/stop", url.Values{"target": {"key:" + one.ID}, "mode": {"read-only"}})
	s.clock.pass(time.Second)
	log(audit.Record{Kind: audit.KindIntent, Verdict: "allow", Judged: read})
	says(s.get(writes.url), "0 passed.", "")

	all := s.post("/stop", url.Values{"target": {"key:" + one.ID}, "mode": {"stopped"}})
	says(s.get(writes.url), "0 calls refused since .", "passed") // another brake has taken its place
	s.clock.pass(time.Second)
	log(audit.Record{Kind: audit.KindIntent, Verdict: "allow", Judged: read, OursMicros: 1500, TheirsMicros: 2_000_000})
	late := log(audit.Record{Kind: audit.KindIntent, Verdict: "allow", Judged: write})
	log(audit.Record{Kind: audit.KindOutcome, Ref: late, Failures: []policy.Failure{{Code: policy.CodeKeyKilled}}})
	says(s.get(all.url), "1 call refused since , 0 passed.", "")
	log(audit.Record{Kind: audit.KindIntent, Verdict: "allow", Judged: write})
	says(s.get(all.url), "1 passed which", "0 passed")
	other := s.post("/stop", url.Values{"target": {"key:" + two.ID}, "mode": {"stopped"}})
	says(other, "agent-support-refunds-two is stopped.", "2 brakes on")
	says(other, "0 passed.", "")

	s.post("/resume", url.Values{"target": {"key:" + one.ID}, "reason": {"it was a drill"}})
	says(s.get(all.url), "1 call refused since .", "passed")
}

// What is left under the caps of what was stopped is as it was at that moment, whatever is settled afterwards.
func TestAStopShowsItsKeysCaps(t *testing.T) {
	s := newSite(t)
	one, two := s.key("agent-support-refunds-one"), s.key("agent-support-refunds-two")
	caps := func(page seen) string {
		_, after, _ := strings.Cut(shown(page.body), "Caps at the moment of the stop")
		before, _, _ := strings.Cut(after, "Resume")
		return before
	}
	page := s.post("/stop", url.Values{"target": {"key:" + one.ID}, "mode": {"stopped"}})
	if says := caps(page); !strings.Contains(says, "agent-support-refunds-one refunds per day $100.00 left of $100.00") || strings.Contains(says, two.Name) {
		t.Errorf("of one key: %s", says)
	}
	page = s.post("/stop", url.Values{"target": {"all"}, "mode": {"stopped"}})
	if says := caps(page); !strings.Contains(says, one.Name) || !strings.Contains(says, two.Name) {
		t.Errorf("of everything: %s", says)
	}
}

func TestTheOverviewSaysHowManyKeysRunAndWhatIsLeft(t *testing.T) {
	s := newSite(t)
	if says := shown(s.get("/").body); strings.Contains(says, " run") {
		t.Errorf("without a key: %s", says)
	}
	one := s.key("agent-support-refunds-one")
	two := s.key("agent-support-refunds-two")
	for _, step := range []struct {
		target   admin.Target
		readOnly bool
		want     string
	}{
		{admin.Target{}, false, "2 keys run. $200.00 left of $200.00 in today’s caps."},
		{admin.Target{Keys: []string{one.ID}}, true, "1 of 2 keys run, 1 is read-only."},
		{admin.Target{Keys: []string{two.ID}}, false, "0 of 2 keys run, 1 is read-only, 1 is stopped."},
		{admin.Target{Keys: []string{one.ID}}, false, "0 of 2 keys run, 2 are stopped."},
	} {
		if len(step.target.Keys) > 0 {
			if _, err := s.api.Kill(t.Context(), admin.KillRequest{Target: step.target, ReadOnly: step.readOnly}); err != nil {
				t.Fatal(err)
			}
		}
		if says := shown(s.get("/").body); !strings.Contains(says, step.want) {
			t.Errorf("it does not say %q: %s", step.want, says)
		}
	}
}

func TestACapIsDrawnAsItStands(t *testing.T) {
	figure := func(s string) (f admin.Figure) {
		if err := f.UnmarshalJSON([]byte(s)); err != nil {
			t.Fatal(err)
		}
		return f
	}
	for _, tt := range []struct {
		name                       string
		unit, limit, settled, held string
		level, over, width, hatch  string
		percent                    int
	}{
		{"nothing yet", "usd", `"500.00"`, `"0.00"`, `"0.00"`, "fine", "", "0.0%", "0.0%", 0},
		{"held only", "usd", `"500.00"`, `"0.00"`, `"38.00"`, "fine", "", "0.0%", "7.6%", 7},
		{"one cent below 80 %", "usd", `"500.00"`, `"399.99"`, `"0.00"`, "fine", "", "79.9%", "0.0%", 79},
		{"80 % is near", "usd", `"500.00"`, `"362.00"`, `"38.00"`, "near", "", "72.4%", "7.6%", 80},
		{"one cent left is not full", "usd", `"500.00"`, `"499.99"`, `"0.00"`, "near", "", "99.9%", "0.0%", 99},
		{"full", "usd", `"500.00"`, `"462.00"`, `"38.00"`, "full", "", "92.4%", "7.6%", 100},
		{"more moved than the cap", "usd", `"500.00"`, `"512.40"`, `"0.00"`, "full", "$12.40", "100.0%", "0.0%", 102},
		{"calls", "calls", `30`, `17`, `2`, "fine", "", "56.6%", "6.6%", 63},
		{"a cap of nothing", "usd", `"0.00"`, `"0.00"`, `"0.00"`, "full", "", "0.0%", "0.0%", 100},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newCapBar(admin.SpendCap{Unit: tt.unit, Limit: figure(tt.limit), Settled: figure(tt.settled), Held: figure(tt.held), Left: figure(tt.limit)})
			if b.Level != tt.level || b.Over != tt.over || b.SettledW != tt.width || b.HeldW != tt.hatch || b.Percent != tt.percent {
				t.Errorf("%+v", b)
			}
		})
	}
}

func TestMoneyAndTimesAreWordedTheSameEverywhere(t *testing.T) {
	for in, want := range map[string]string{"1234.5": "$1,234.50", "0": "$0.00", "-3.10": "−$3.10", "1000000.00": "$1,000,000.00", "n/a": "n/a", "12.345": "$12.345"} {
		if got := dollars(in); got != want {
			t.Errorf("%s is %s, want %s", in, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		600 * time.Millisecond: "0.6 s", 12 * time.Second: "12 s", 168 * time.Second: "2 min 48 s",
		21*time.Hour + 53*time.Minute: "21 h 53 min", 3 * time.Hour: "3 h", 82 * 24 * time.Hour: "82 days",
	} {
		if got := span(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

// TestARefusalIsNotSaidToBeShadowsUnlessItWas: rules that shadow would only mark refuse where they are enforced.
func TestARefusalIsNotSaidToBeShadowsUnlessItWas(t *testing.T) {
	s := newSite(t)
	for _, shadowed := range []bool{false, true} {
		rec := &audit.Record{
			Kind: audit.KindDenied, Operation: "refunds.create", Verdict: "deny",
			Failures: []policy.Failure{{Code: policy.CodeCustomerDenied, Rule: "customers", Message: "Add it to the policy's `customers`.", Soft: true}},
		}
		if shadowed {
			rec.Kind, rec.Verdict, rec.Shadowed = audit.KindIntent, "allow", true
		}
		var entry audit.Entry
		err := s.db.Update(t.Context(), store.LaneControl, func(tx store.Tx) (err error) {
			entry, err = tx.Append(rec)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		page := s.get(fmt.Sprintf("/audit/aud_1_%d", entry.Seq))
		if page.status != http.StatusOK || strings.Contains(page.body, "(shadow: not enforced)") != shadowed || !strings.Contains(page.body, "policy&#39;s <code>customers</code>.") {
			t.Errorf("shadowed %v: %d %s", shadowed, page.status, shown(page.body))
		}
	}
}

func TestWhatASentenceQuotesIsShownAsCode(t *testing.T) {
	for in, want := range map[string]string{
		"no `a<b` here, `c`": "no <code>a&lt;b</code> here, <code>c</code>", "one ` alone": "one ` alone", "": "", "``": "<code></code>", "<b>": "&lt;b&gt;",
	} {
		if got := string(prose(in)); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}
