package console

import (
	"html"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/admin"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

func TestUpstreamsAreAddedChangedAndRemoved(t *testing.T) {
	s := newSite(t)
	find := func() admin.UpstreamView {
		t.Helper()
		list, err := s.api.Upstreams(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range list.Items {
			if u.Name == "stripe-two" {
				return u
			}
		}
		return admin.UpstreamView{}
	}
	const secret = "rk_test_51CanaryCanaryCanaryTwo"
	refused := s.post("/upstreams", url.Values{"name": {"stripe-two"}, "secret": {secret}, "base": {"http://insecure.example"}})
	if refused.status != http.StatusUnprocessableEntity || !strings.Contains(refused.body, `value="http://insecure.example"`) || !strings.Contains(refused.body, `value="stripe-two"`) {
		t.Errorf("an address without TLS: %d %s", refused.status, shown(refused.body))
	}
	added := s.post("/upstreams", url.Values{"name": {"stripe-two"}, "secret": {secret}, "base": {"http://insecure.example"}, "insecure": {"on"}})
	if added.status != http.StatusOK || find().BaseURL != "http://insecure.example" {
		t.Fatalf("%d %s", added.status, shown(added.body))
	}
	for _, page := range []seen{refused, added, s.get("/upstreams"), s.get("/upstreams/stripe-two")} {
		if strings.Contains(page.body, secret) {
			t.Errorf("%s shows the secret", page.url)
		}
	}
	at := "/upstreams/stripe-two"
	if got := s.post(at, url.Values{"do": {"version"}, "version": {"2024-06-20"}}); got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, `value="2024-06-20"`) {
		t.Errorf("a version without a reason: %d", got.status)
	}
	if got := s.post(at, url.Values{"do": {"version"}, "version": {"2024-06-20"}, "reason": {"the SDK is old"}}); got.status != http.StatusOK || find().Version != "2024-06-20" {
		t.Errorf("%d %s", got.status, shown(got.body))
	}
	if got := s.post(at, url.Values{"do": {"webhook"}, "secret": {"whsec_" + strings.Repeat("a", 32)}}); got.status != http.StatusOK || !find().Webhook {
		t.Errorf("%d %s", got.status, shown(got.body))
	}
	if got := s.post(at, url.Values{"do": {"webhook"}, "secret": {""}}); got.status != http.StatusUnprocessableEntity || !find().Webhook {
		t.Errorf("an empty secret: %d, messages are taken: %v", got.status, find().Webhook)
	}
	if s.post(at, url.Values{"do": {"webhook-off"}}); find().Webhook {
		t.Error("messages are taken still")
	}
	if got := s.post(at, url.Values{"do": {"explode"}}); got.status != http.StatusUnprocessableEntity && got.status != http.StatusBadRequest {
		t.Errorf("an action that there is not: %d", got.status)
	}
	if got := s.post(at, url.Values{"do": {"remove"}}); got.url != "/upstreams" || find().Name != "" {
		t.Errorf("%s", got.url)
	}
	if got := s.get(at); got.status != http.StatusNotFound {
		t.Errorf("a removed one: %d", got.status)
	}
}

func TestRatesAreSetAndImportedAndKeepWhatWasTyped(t *testing.T) {
	s := newSite(t)
	if got := s.get("/rates").body; !strings.Contains(got, "No rates") {
		t.Error("an empty table says nothing")
	}
	if got := s.post("/rates", url.Values{"do": {"set"}, "currency": {"EURO"}, "rate": {"1.09"}}); got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, `value="EURO"`) {
		t.Errorf("a currency that there is not: %d", got.status)
	}
	if got := s.post("/rates", url.Values{"do": {"set"}, "currency": {"EUR"}, "rate": {"1.09"}}); got.status != http.StatusOK || !strings.Contains(got.body, "1.09") {
		t.Errorf("%d", got.status)
	}
	if got := s.post("/rates", url.Values{"do": {"import"}, "file": {"currency,rate\r\nGBP,1.27\r\nJPYX,1\r\n"}}); got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, "line 3") || !strings.Contains(got.body, "GBP,1.27") {
		t.Errorf("a file with a fault: %d %s", got.status, shown(got.body))
	}
	s.post("/rates", url.Values{"do": {"import"}, "file": {"currency,rate\r\nGBP,1.27\r\n"}})
	if list, err := s.api.Rates(t.Context()); err != nil || len(list.Items) != 2 {
		t.Errorf("%+v, %v", list, err)
	}
}

// versionOn reads the version that a form on a page was made for.
func versionOn(t *testing.T, body, field string) string {
	t.Helper()
	m := regexp.MustCompile(`name="` + field + `" value="([^"]*)"`).FindStringSubmatch(body)
	if m == nil {
		t.Fatal("the form carries no version")
	}
	return html.UnescapeString(m[1])
}

func TestAFormThatIsOlderThanWhatItIsAboutChangesNothingAndSaysSo(t *testing.T) {
	s := newSite(t)
	if _, err := s.api.CreateOperator(t.Context(), admin.OperatorRequest{Name: "ines", Role: "auditor"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.api.SetRates(t.Context(), admin.RateInputs{Rates: []admin.RateInput{{Currency: "EUR", Rate: "1.09"}}}); err != nil {
		t.Fatal(err)
	}
	signing := func(letter string) string { return "whsec_" + strings.Repeat(letter, 32) }
	for _, c := range []struct {
		name, at, field string
		theirs, mine    url.Values
		typed           string
	}{
		{"a rate", "/rates", "version", url.Values{"do": {"set"}, "currency": {"EUR"}, "rate": {"1.08"}}, url.Values{"do": {"set"}, "currency": {"EUR"}, "rate": {"1.07"}}, `value="1.07"`},
		{"a file of rates", "/rates", "version", url.Values{"do": {"set"}, "currency": {"GBP"}, "rate": {"1.3"}}, url.Values{"do": {"import"}, "file": {"currency,rate\nGBP,1.27\n"}}, "GBP,1.27"},
		{"a pinned version", "/upstreams/stripe-test", "of", url.Values{"do": {"version"}, "version": {"2024-06-20"}, "reason": {"theirs"}}, url.Values{"do": {"version"}, "version": {"2024-04-10"}, "reason": {"mine"}}, `value="2024-04-10"`},
		{"a signing secret", "/upstreams/stripe-test", "of", url.Values{"do": {"webhook"}, "secret": {signing("a")}}, url.Values{"do": {"webhook"}, "secret": {signing("b")}}, ""},
		{"no messages", "/upstreams/stripe-test", "of", url.Values{"do": {"webhook"}, "secret": {signing("c")}}, url.Values{"do": {"webhook-off"}}, ""},
		{"a role", "/operators/ines", "version", url.Values{"do": {"change"}, "role": {"auditor"}, "email": {"ines@example.com"}}, url.Values{"do": {"change"}, "role": {"responder"}, "reason": {"mine"}}, "<option selected>responder"},
	} {
		t.Run(c.name, func(t *testing.T) {
			version := versionOn(t, s.get(c.at).body, c.field)
			c.theirs.Set(c.field, version)
			c.mine.Set(c.field, version)
			if got := s.post(c.at, c.theirs); got.status != http.StatusOK {
				t.Fatalf("theirs: %d %s", got.status, shown(got.body))
			}
			again := s.post(c.at, c.mine)
			if again.status != http.StatusPreconditionFailed || !strings.Contains(again.body, "Somebody changed this") || !strings.Contains(again.body, c.typed) {
				t.Errorf("mine: %d %s", again.status, shown(again.body))
			}
			c.mine.Set(c.field, versionOn(t, again.body, c.field))
			if got := s.post(c.at, c.mine); got.status != http.StatusOK {
				t.Errorf("mine once more: %d %s", got.status, shown(got.body))
			}
		})
	}
	if got := s.post("/operators/ines", url.Values{"do": {"disable"}, "version": {`"older"`}, "reason": {"left"}}); got.status != http.StatusOK {
		t.Errorf("an account is disabled whatever it became: %d", got.status)
	}
}

func TestAReasonThatWasTypedStaysInItsForm(t *testing.T) {
	s := newSite(t)
	if _, err := s.api.CreateOperator(t.Context(), admin.OperatorRequest{Name: "ines", Role: "auditor"}); err != nil {
		t.Fatal(err)
	}
	self := s.get("/operators/ines")
	for _, c := range []struct {
		form        url.Values
		first, last bool
	}{
		{url.Values{"do": {"change"}, "role": {"auditor"}, "email": {"no address"}, "reason": {"typed-here"}}, true, false},
		{url.Values{"do": {"forget"}, "reason": {"typed-here"}}, false, true},
	} {
		got := s.post("/operators/ines", c.form)
		in := func(id string) bool {
			return strings.Contains(got.body, `<input id="`+id+`" name="reason" value="typed-here"`)
		}
		if got.status != http.StatusUnprocessableEntity || in("ow") != c.first || in("dw") != c.last {
			t.Errorf("%v: %d, first form %v, last form %v\n%s", c.form, got.status, in("ow"), in("dw"), shown(self.body))
		}
	}
}

func TestARateThatIsWrongIsSaidBesideItsFields(t *testing.T) {
	s := newSite(t)
	got := s.post("/rates", url.Values{"do": {"set"}, "currency": {"EURO"}, "rate": {"much"}})
	for _, id := range []string{"rc", "rv"} {
		if got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, `id="`+id+`" aria-invalid="true"`) {
			t.Errorf("%d, and nothing stands beside %s: %s", got.status, id, shown(got.body))
		}
	}
}

func TestASearchThatIsWrongIsSaidBesideItsFieldsAndAllAtOnce(t *testing.T) {
	s := newSite(t)
	got := s.get("/audit?from=soon&to=later&min=much&max=more&operation=refund.create")
	for _, id := range []string{"f-f", "f-t", "f-a", "f-z", "f-o"} {
		if got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, `id="`+id+`" aria-invalid="true"`) {
			t.Errorf("%d, and nothing stands beside %s: %s", got.status, id, shown(got.body))
		}
	}
	if !strings.Contains(got.body, `value="soon"`) || !strings.Contains(got.body, `value="much"`) || !strings.Contains(got.body, `value="more"`) {
		t.Error("what was typed is gone")
	}
}

func TestEachRuleThatASearchOffersIsOneThatThereIs(t *testing.T) {
	text, err := os.ReadFile("../../docs/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range rules {
		if !strings.Contains(string(text), "\n## keybrake_"+rule+"\n") {
			t.Errorf("%s is no reason of a refusal", rule)
		}
	}
}

// TestWhatARoleMayNotDoIsNotOfferedAndIsRefused: a page is not what keeps somebody from doing it.
func TestWhatARoleMayNotDoIsNotOfferedAndIsRefused(t *testing.T) {
	s := newSite(t)
	k := s.key("agent-support-refunds-one")
	s.signIn(vault.RoleAuditor)
	for path, offers := range map[string]string{
		"/keys": `href="/keys/new"`, "/keys/" + k.ID: `value="rotate"`, "/upstreams": `name="secret"`, "/upstreams/stripe-test": `name="secret"`, "/rates": `name="rate"`,
	} {
		if got := s.get(path); got.status != http.StatusOK || strings.Contains(got.body, offers) {
			t.Errorf("%s answers %d and offers %s", path, got.status, offers)
		}
	}
	for path, form := range map[string]url.Values{
		"/rates":                 {"do": {"set"}, "currency": {"EUR"}, "rate": {"1"}},
		"/upstreams":             {"name": {"x"}, "secret": {"rk_test_51CanaryCanaryCanary"}},
		"/upstreams/stripe-test": {"do": {"remove"}},
		"/keys/" + k.ID:          {"do": {"revoke"}},
		"/resume":                {"target": {"all"}, "reason": {"x"}},
	} {
		if got := s.post(path, form); got.status < 400 {
			t.Errorf("%s answers %d", path, got.status)
		}
	}
	if got := s.post("/stop", url.Values{"target": {"all"}, "mode": {"stopped"}}); got.status != http.StatusOK || !strings.Contains(got.body, "Everything is stopped.") {
		t.Errorf("a stop: %d", got.status)
	}
}

func TestTimesAreShownAndReadInTheZoneThatIsChosen(t *testing.T) {
	s := newSite(t)
	if got := s.get("/audit").body; !strings.Contains(got, "times in UTC") {
		t.Error("the zone is not said")
	}
	if got := s.post("/look", url.Values{"zone": {"America/New_York"}, "next": {"/audit"}}); got.url != "/audit" || !strings.Contains(got.body, "times in New York") {
		t.Errorf("%s does not say New York", got.url)
	}
	s.post("/look", url.Values{"zone": {"Mars/Olympus"}})
	s.post("/look", url.Values{"zone": {"../../etc/passwd"}})
	if got := s.get("/audit").body; !strings.Contains(got, "times in New York") {
		t.Error("a zone that there is not took the place of one that there is")
	}
	york, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"2026-11-24": "2026-11-24T05:00:00Z", "2026-11-24 02:07": "2026-11-24T07:07:00Z", "2026-11-24T10:00:00Z": "2026-11-24T10:00:00Z", "24h": "2026-11-23T12:00:00Z",
	} {
		if got, err := instant(text, now, york); err != nil || got.UTC().Format(time.RFC3339) != want {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
}

func TestARefusedReasonStaysInTheFormThatItWasTypedInto(t *testing.T) {
	s := newSite(t)
	k := s.key("agent-support-refunds-one")
	err := s.db.Update(t.Context(), store.LaneControl, func(tx store.Tx) error {
		return tx.PutBrake(store.BrakeRow{Scope: store.FreezeScope(policy.KeyID(k.ID)), Mode: vault.ReadOnly, Reason: "too much moved", At: tx.Now()})
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.service.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("so it is ", 100)
	for do, id := range map[string]string{"resume": "thaw", "revoke": "rv"} {
		got := s.post("/keys/"+k.ID, url.Values{"do": {do}, "reason": {long}})
		before, rest, _ := strings.Cut(got.body, `value="`+long)
		field := before[max(0, strings.LastIndex(before, `<input id="`)):]
		if got.status != http.StatusUnprocessableEntity || !strings.HasPrefix(field, `<input id="`+id+`" aria-invalid="true"`) || strings.Contains(rest, long) || !strings.Contains(rest[:strings.Index(rest, "</form>")], `class="error"`) {
			t.Errorf("%s: %d, %s", do, got.status, shown(got.body))
		}
	}
}

func TestARefusedResumptionStaysWithTheBrakeThatWasChosen(t *testing.T) {
	s := newSite(t)
	one, two := s.key("agent-support-refunds-one"), s.key("agent-support-refunds-two")
	for _, k := range []admin.KeyCreated{one, two} {
		if _, err := s.api.Kill(t.Context(), admin.KillRequest{Target: admin.Target{Keys: []string{k.ID}}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range []admin.KeyCreated{one, two} {
		got := s.post("/resume", url.Values{"target": {"key:" + k.ID}, "reason": {" "}})
		if got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, `value="key:`+k.ID+`" checked`) || strings.Count(got.body, " checked required>") != 1 || !strings.Contains(got.body, `<input id="why" aria-invalid="true"`) {
			t.Errorf("%s: %d, %s", k.Name, got.status, shown(got.body))
		}
	}
}

// Which brake is lifted is never the page's choice, also where there is only one.
func TestAResumptionWithoutAChoiceIsRefusedBesideTheChoice(t *testing.T) {
	s := newSite(t)
	k := s.key("agent-support-refunds-one")
	if _, err := s.api.Kill(t.Context(), admin.KillRequest{Target: admin.Target{Keys: []string{k.ID}}}); err != nil {
		t.Fatal(err)
	}
	if page := s.get("/stopped").body; !strings.Contains(page, `value="key:`+k.ID+`" required>`) || strings.Contains(page, " checked required>") {
		t.Errorf("a brake is chosen already: %s", shown(page))
	}
	for reason, besides := range map[string]bool{"the loop is fixed": false, "": true} {
		got := s.post("/resume", url.Values{"reason": {reason}})
		if got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, "Choose the brake that is to be lifted.") || !strings.Contains(got.body, `value="`+reason+`"`) {
			t.Errorf("%q: %d, %s", reason, got.status, shown(got.body))
		}
		if strings.Contains(got.body, `<input id="why" aria-invalid="true"`) != besides {
			t.Errorf("%q: what is wrong with the reason is not said at once: %s", reason, shown(got.body))
		}
	}
	if b, err := s.api.Brakes(t.Context()); err != nil || len(b.Items) != 1 {
		t.Errorf("%v, %v", b, err)
	}
}

func TestWhenASecretIsDueAndWhatIsStagedIsShown(t *testing.T) {
	s := newSite(t)
	k := s.key("agent-support-refunds-one")
	if _, err := s.api.UpdateUpstream(t.Context(), "stripe-test", admin.UpstreamUpdate{RotateEvery: "90d"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.api.RotateUpstream(t.Context(), "stripe-test", admin.UpstreamSecret{Secret: "rk_test_51StagedStagedStaged", Stage: true, SwitchRequest: admin.SwitchRequest{SameAccount: true}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.api.UpdateKey(t.Context(), k.ID, admin.KeyUpdate{PolicyEdit: admin.PolicyEdit{RotateEvery: "30d"}}); err != nil {
		t.Fatal(err)
	}
	soon, late := s.get("/upstreams/stripe-test").body, s.get("/keys/"+k.ID).body
	if !strings.Contains(soon, "every 90d, due ") || !strings.Contains(soon, "in 89 days") || !strings.Contains(soon, "keybrake upstream rotate stripe-test --switch") || strings.Contains(soon, "StagedStaged") {
		t.Error(shown(soon))
	}
	if !strings.Contains(late, "every 30d, due ") || !strings.Contains(late, "in 29 days") {
		t.Error(shown(late))
	}
	if list := s.get("/upstreams").body; !strings.Contains(list, "a secret is staged") || strings.Contains(list, "overdue") {
		t.Error(shown(list))
	}
	s.clock.pass(91 * 24 * time.Hour)
	s.signIn(vault.RoleAdmin)
	for _, path := range []string{"/upstreams", "/upstreams/stripe-test", "/keys/" + k.ID} {
		if body := s.get(path).body; !strings.Contains(body, "overdue") {
			t.Errorf("%s: %s", path, shown(body))
		}
	}
}
