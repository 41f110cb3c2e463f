package console

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/admin"
)

// wanted is a form as a browser sends it for an agent that refunds for two customers.
func wanted(name string) url.Values {
	return url.Values{
		"preset": {"refund-support"}, "name": {name}, "upstream": {"stripe-test"},
		"resource": {"refunds", "charges"}, "scope-refunds": {"write"}, "scope-charges": {"read"},
		"cap-resource": {"refunds", "refunds"}, "cap-per": {"day", "hour"}, "cap-limit": {"$1,250.50", "30"}, "cap-unit": {"usd", "calls"},
		"customers": {"list"}, "customer": {"cus_A\r\ncus_B, cus_C"}, "expires": {"30d"}, "network": {""}, "timezone": {"Europe/Berlin"},
		"enforcement": {"enforce"}, "rest": {"rotate_every: 90d\r\n"},
	}
}

func (s *site) make(name string) admin.KeyDetail {
	s.t.Helper()
	form := wanted(name)
	form.Set("do", "create")
	if got := s.post("/keys/new", form); got.status != http.StatusOK || !strings.Contains(got.body, "Copy the vault key now") {
		s.t.Fatalf("%d %s", got.status, shown(got.body))
	}
	return s.only()
}

func (s *site) only() admin.KeyDetail {
	s.t.Helper()
	all, err := s.api.Keys(s.t.Context(), admin.KeyFilter{})
	if err != nil || len(all.Items) != 1 {
		s.t.Fatal(all, err)
	}
	k, err := s.api.Key(s.t.Context(), all.Items[0].ID)
	if err != nil {
		s.t.Fatal(err)
	}
	return k
}

// shown is a page without its marks.
func shown(body string) string {
	return regexp.MustCompile(`\s+`).ReplaceAllString(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(body, " "), " ")
}

func TestTheWizardMakesTheKeyThatItShowed(t *testing.T) {
	s := newSite(t)
	if form := s.get("/keys/new?preset=refund-support"); !strings.Contains(form.body, "Worst case with write:") || !strings.Contains(form.body, `name="scope-refunds" value="write" checked`) {
		t.Error("the form is not filled from its preset")
	}
	k := s.make("agent-support-refunds-runner44")
	v := k.View
	if k.Name != "agent-support-refunds-runner44" || v.Timezone != "Europe/Berlin" || !slices.Equal(v.List, []string{"cus_A", "cus_B", "cus_C"}) {
		t.Errorf("%s %s %q", k.Name, v.Timezone, v.List)
	}
	var caps []string
	for _, c := range v.Caps {
		caps = append(caps, c.Resource+"/"+c.Per+"="+c.Limit.String()+" "+c.Unit)
	}
	if !slices.Equal(caps, []string{"refunds/day=1250.50 usd", "refunds/hour=30 calls"}) {
		t.Errorf("caps %q", caps)
	}
	if !strings.Contains(k.Policy, "rotate_every: 90d") {
		t.Errorf("what the form has no field for is lost: %s", k.Policy)
	}
}

func TestTheFormKeepsWhatWasTyped(t *testing.T) {
	s := newSite(t)
	for name, set := range map[string]func(url.Values){
		"a step within it":      func(f url.Values) { f.Set("do", "add-cap") },
		"a check":               func(f url.Values) { f.Set("do", "check") },
		"Enter in a field":      func(f url.Values) { f.Set("do", "check"); f.Set("find", "invoices") },
		"a refused making":      func(f url.Values) { f.Set("do", "create"); f.Set("timezone", "Mars/Olympus") },
		"a cap that is no cap":  func(f url.Values) { f.Set("do", "create"); f["cap-limit"][0] = "a lot" },
		"a rule that is no one": func(f url.Values) { f.Set("do", "create"); f.Set("rest", "rotate_evry: 90d") },
	} {
		t.Run(name, func(t *testing.T) {
			form := wanted("agent-support-refunds-one")
			set(form)
			got := s.post("/keys/new", form)
			for _, want := range []string{"agent-support-refunds-one", form["cap-limit"][0], "cus_A\ncus_B, cus_C", `value="` + form.Get("timezone") + `"`, strings.TrimSpace(form.Get("rest")), `value="30d"`} {
				if !strings.Contains(strings.ReplaceAll(got.body, "\r", ""), want) {
					t.Errorf("%q is lost", want)
				}
			}
			refused := form.Get("do") == "create"
			if refused != (got.status == http.StatusUnprocessableEntity) || refused != strings.Contains(got.body, `class="error"`) {
				t.Errorf("status %d; an error is shown: %v", got.status, strings.Contains(got.body, `class="error"`))
			}
		})
	}
	if all, err := s.api.Keys(t.Context(), admin.KeyFilter{}); err != nil || len(all.Items) > 0 {
		t.Error("a key was made:", all, err)
	}
}

func TestAnErrorStandsBesideItsCap(t *testing.T) {
	s := newSite(t)
	form := wanted("agent-support-refunds-one")
	form.Set("do", "create")
	form["cap-limit"][1] = "thirty"
	got := s.post("/keys/new", form)
	if !strings.Contains(got.body, `id="cv1-e"`) || strings.Contains(got.body, `id="cv0-e"`) || !strings.Contains(got.body, `href="#cv1"`) {
		t.Error("the error is not at the second cap, or not linked from the review")
	}
}

func TestAKeyCanBeMadeThatNeverExpires(t *testing.T) {
	s := newSite(t)
	form := wanted("agent-support-refunds-one")
	form.Set("do", "create")
	form.Set("expires", "never")
	if got := s.post("/keys/new", form); got.status != http.StatusOK {
		t.Fatal(shown(got.body))
	}
	if k := s.only(); !k.Expires.IsZero() {
		t.Error(k.Expires)
	}
}

func TestSuggestedCapsAreAddedOnce(t *testing.T) {
	s := newSite(t)
	form := wanted("agent-support-refunds-one")
	form.Set("do", "suggest")
	for _, name := range []string{"cap-resource", "cap-per", "cap-limit", "cap-unit"} {
		form.Del(name)
	}
	first := s.post("/keys/new", form)
	n := strings.Count(first.body, `name="cap-limit"`)
	if n == 0 {
		t.Fatal("none was added")
	}
	field := regexp.MustCompile(`name="cap-limit"[^>]*value="([^"]*)"`)
	for _, m := range field.FindAllStringSubmatch(first.body, -1) {
		if m[1] == "" {
			t.Error("a cap without a limit was added")
		}
	}
	resources := regexp.MustCompile(`(?s)name="cap-resource">.*?<option value="([^"]*)" selected`).FindAllStringSubmatch(first.body, -1)
	pers := regexp.MustCompile(`(?s)name="cap-per">.*?<option selected>([^<]*)<`).FindAllStringSubmatch(first.body, -1)
	units := regexp.MustCompile(`(?s)name="cap-unit">.*?</select>`).FindAllString(first.body, -1)
	for i, m := range field.FindAllStringSubmatch(first.body, -1) {
		form.Add("cap-resource", resources[i][1])
		form.Add("cap-per", pers[i][1])
		form.Add("cap-limit", m[1])
		unit := "usd"
		if strings.Contains(units[i], `value="calls" selected`) {
			unit = "calls"
		}
		form.Add("cap-unit", unit)
	}
	if again := strings.Count(s.post("/keys/new", form).body, `name="cap-limit"`); again != n {
		t.Errorf("%d caps, and pressed again %d", n, again)
	}
}

func TestAnEditSaysWhatChangesAndWideningAsksWhy(t *testing.T) {
	s := newSite(t)
	k := s.make("agent-support-refunds-one")
	form := s.get("/keys/" + k.ID + "/edit")
	for _, want := range []string{`value="agent-support-refunds-one"`, `value="1250.50"`, "cus_A\ncus_B\ncus_C", "rotate_every: 90d", "Nothing would change."} {
		if !strings.Contains(form.body, want) {
			t.Errorf("the form lacks %q", want)
		}
	}
	wider := wanted("agent-support-refunds-one")
	wider["cap-limit"][0] = "2000"
	wider.Set("expires", "30d")
	wider.Set("do", "check")
	if got := s.post("/keys/"+k.ID+"/edit", wider); !strings.Contains(got.body, "<del>- caps") || !strings.Contains(got.body, "Required: the key could do more than before.") {
		t.Errorf("the check does not tell the change: %s", shown(got.body))
	}
	wider.Set("do", "save")
	if got := s.post("/keys/"+k.ID+"/edit", wider); got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, `value="2000"`) {
		t.Errorf("widening without a reason: %d", got.status)
	}
	if v := s.only().View; v.Caps[0].Limit.String() != "1250.50" {
		t.Fatal("it was widened")
	}
	wider.Set("reason", "the season begins")
	if got := s.post("/keys/"+k.ID+"/edit", wider); got.status != http.StatusOK || got.url != "/keys/"+k.ID {
		t.Errorf("%d %s %s", got.status, got.url, shown(got.body))
	}
	if v := s.only().View; v.Caps[0].Limit.String() != "2000.00" {
		t.Error(v.Caps)
	}
	if page := s.get("/keys/" + k.ID).body; !strings.Contains(page, "the season begins") {
		t.Error("the key's history does not say why")
	}
}

func TestWhatTheFormHasNoFieldForIsKept(t *testing.T) {
	const policy = `# a note
name: x
scopes:
  refunds: write
params:
  refunds.create:
    reason: {one_of: [duplicate]}
caps:
  - {resource: refunds, per: day, usd: 5}
may_create_customers: true
# the end
customers: any
rotate_every: 90d
`
	want := "params:\n  refunds.create:\n    reason: {one_of: [duplicate]}\nmay_create_customers: true\nrotate_every: 90d"
	if got := rest(policy); got != want {
		t.Errorf("got %q", got)
	}
}

func TestAnEditIsTriedOnTheCallsOfTheLastDaysBeforeItIsSaved(t *testing.T) {
	s := newSite(t)
	k := s.make("agent-support-refunds-one")
	stricter := wanted("agent-support-refunds-one")
	stricter["cap-limit"][0] = "1"
	stricter.Set("do", "replay")
	got := s.post("/keys/"+k.ID+"/edit", stricter)
	for _, want := range []string{"On the last 30 days", "0 calls of this key", "that passed would be refused", `value="1"`} {
		if !strings.Contains(got.body, want) {
			t.Errorf("the page lacks %q: %s", want, shown(got.body))
		}
	}
	if v := s.only().View; v.Caps[0].Limit.String() != "1250.50" {
		t.Error("it was saved")
	}
	stricter["cap-limit"][0] = "a lot"
	if got := s.post("/keys/"+k.ID+"/edit", stricter); strings.Contains(got.body, "On the last 30 days") || !strings.Contains(got.body, `id="cv0-e"`) {
		t.Error("what is no policy was tried")
	}
}

func TestWhatSomebodyElseChangedMeanwhileIsNotUndoneUnseen(t *testing.T) {
	s := newSite(t)
	k := s.make("agent-support-refunds-one")
	mine := wanted("agent-support-refunds-one")
	mine.Set("version", versionOn(t, s.get("/keys/"+k.ID+"/edit").body, "version"))
	mine["cap-limit"][0] = "1000"
	mine.Set("do", "save")
	theirs := wanted("agent-support-refunds-one")
	theirs.Set("version", mine.Get("version"))
	theirs["cap-limit"][1] = "7"
	theirs.Set("do", "save")
	if got := s.post("/keys/"+k.ID+"/edit", theirs); got.url != "/keys/"+k.ID {
		t.Fatalf("%d %s", got.status, shown(got.body))
	}
	again := s.post("/keys/"+k.ID+"/edit", mine)
	for _, want := range []string{"Somebody changed this key", `value="1000"`, "7"} {
		if again.status != http.StatusPreconditionFailed || !strings.Contains(again.body, want) {
			t.Errorf("%d, and the page lacks %q", again.status, want)
		}
	}
	if v := s.only().View; v.Caps[0].Limit.String() != "1250.50" || v.Caps[1].Limit.String() != "7" {
		t.Errorf("%+v", v.Caps)
	}
	mine.Set("version", versionOn(t, again.body, "version"))
	mine.Set("reason", "both are right")
	if got := s.post("/keys/"+k.ID+"/edit", mine); got.url != "/keys/"+k.ID {
		t.Errorf("%d %s", got.status, shown(got.body))
	}
}

func TestAScopeThatNoMapHasSurvivesAnEdit(t *testing.T) {
	s := newSite(t)
	made, err := s.api.CreateKey(t.Context(), admin.KeyRequest{Name: "agent-reads-everything-one", PolicyEdit: admin.PolicyEdit{
		Policy: "scopes: {\"*\": read, charges: none, refunds: write}\ncaps: [{resource: refunds, per: day, usd: 5}]\ncustomers: any\n",
	}})
	if err != nil {
		t.Fatal(err)
	}
	form := s.get("/keys/" + made.ID + "/edit").body
	for _, want := range []string{`name="scope-*" value="read" checked`, `name="scope-charges" value="none" checked`, `name="scope-invoices" value="read" checked`, "Nothing would change."} {
		if !strings.Contains(form, want) {
			t.Errorf("the form lacks %q", want)
		}
	}
	version := regexp.MustCompile(`name="version" value="([^"]*)"`).FindStringSubmatch(form)[1]
	got := s.post("/keys/"+made.ID+"/edit", url.Values{
		"do": {"check"}, "version": {strings.ReplaceAll(version, "&#34;", `"`)}, "name": {"agent-reads-everything-one"},
		"resource": {"*", "charges", "refunds", "invoices"}, "scope-*": {"read"}, "scope-charges": {"none"}, "scope-refunds": {"write"}, "scope-invoices": {"read"},
		"cap-resource": {"refunds"}, "cap-per": {"day"}, "cap-limit": {"5"}, "cap-unit": {"usd"}, "customers": {"any"},
	})
	if !strings.Contains(got.body, "Nothing would change.") {
		t.Errorf("it would change: %s", shown(got.body))
	}
}

func TestAListOfNobodyIsNoListThatCrashes(t *testing.T) {
	s := newSite(t)
	form := wanted("agent-support-refunds-one")
	form.Set("do", "create")
	form.Set("customer", " , ")
	if got := s.post("/keys/new", form); got.status != http.StatusOK && got.status != http.StatusUnprocessableEntity {
		t.Errorf("it answers %d", got.status)
	}
}
