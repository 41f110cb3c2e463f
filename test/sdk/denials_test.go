package sdk

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
)

// denial is one way to be refused, the same for every SDK. In its texts {own} stands for a charge of the customer
// {customer}, {foreign} for one of the customer {other}, {unseen} for one of a third that nobody has read yet.
type denial struct {
	name string
	code policy.Code // error.keybrake.code
	// policy of the agent's key; empty = anyCustomer. upstream is what the key is for; empty = the sandbox, with all
	// rights.
	policy, upstream string
	// before makes the world as the call meets it; it may change the call. Nil: it is so already.
	before func(*scene, *ask)
	call   ask // without the key and the address
	// refused and cure are in the message: what was refused, and what to do.
	refused, cure string
	param         string // error.param
	// sent is how many requests reach Stripe for each attempt: look-ups, or the call itself.
	sent int
	on   record // what stands in the audit for each attempt
	// cured does what the message says; then the same call succeeds. Nil: that takes time or another policy.
	cured func(*scene, *ask)
	// without names SDKs that cannot send this, with the reason.
	without map[string]string
}

// record is what stands in the audit for a call.
type record uint8

const (
	asDenied  record = iota // one record: it was denied
	asPair                  // it was admitted: its intent and its outcome
	asNothing               // the store would not have it
)

func denials() []denial {
	return slices.Concat(keyDenials, requestDenials, moneyDenials, customerDenials, idempotencyDenials, upstreamDenials, timeDenials)
}

func TestEveryDenialIsRaisedAndNoneIsRetried(t *testing.T) {
	promised := readPromises(t)
	for _, s := range sdks {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			need(t, s.what, s.has())
			st := newStage(t, s, promised)
			for _, c := range denials() {
				if c.without[s.name] == "" {
					t.Run(c.name, func(t *testing.T) { st.try(t, c) })
				}
			}
		})
	}
}

// try brings about one denial, looks at it from all sides, and applies its cure.
func (st *stage) try(t *testing.T, c denial) {
	st.dev.t = t // what fails from here on fails this case
	s := &scene{stage: st, key: st.newKey(c.policy, c.upstream)}
	call := s.filledIn(c.call)
	if c.before != nil {
		c.before(s, &call)
	}
	mark := s.lastRecord()
	gateway, upstream := s.counts()
	got := st.call(call)
	arrivals := s.since(gateway)
	_, upstreamAfter := s.counts()
	if got == nil {
		t.Fatalf("it passed: %s", arrivals[len(arrivals)-1].Body)
	}
	promised := st.promised.errors[c.code]
	retry := promised.retryOf(c.code, !strings.HasSuffix(c.call.Op, ".delete"))
	if want := st.promised.calls[st.sdk.name][retry]; len(arrivals) != want {
		t.Fatalf("%d calls reached the gateway, want %d: %+v", len(arrivals), want, got)
	}
	if n := upstreamAfter - upstream; n != c.sent*len(arrivals) {
		t.Errorf("%d requests reached Stripe, want %d for each of %d calls", n, c.sent, len(arrivals))
	}
	for _, a := range arrivals {
		a.check(t, c, promised, retry)
	}
	st.checkRaised(c, got, promised, arrivals[len(arrivals)-1])
	s.checkRecords(c, mark, arrivals)
	if c.cured == nil {
		return
	}
	c.cured(s, &call)
	if again := st.call(call); again != nil {
		t.Errorf("the cure did not help: %+v", again)
	}
}

// check looks at what went over the wire.
func (a *arrival) check(t *testing.T, c denial, promised documented, retry string) {
	t.Helper()
	var body struct {
		Error struct {
			Keybrake struct {
				Code      policy.Code
				AuditID   string `json:"audit_id"`
				Rule, Doc string
			}
		}
	}
	if err := json.Unmarshal(a.Body, &body); err != nil {
		t.Fatalf("not JSON: %v in %s", err, a.Body)
	}
	if a.Status != promised.Status || a.Header.Get("Content-Type") != "application/json" {
		t.Errorf("status %d, %v", a.Status, a.Header)
	}
	shown, ok := a.Header["Stripe-Should-Retry"]
	if ok == (retry == "no header") || ok && shown[0] != retry {
		t.Errorf("Stripe-Should-Retry is %q, want %s", shown, retry)
	}
	id := a.Header.Get("Keybrake-Audit-Id")
	if a.Header.Get("Request-Id") == "" || (id == "") != (c.on == asNothing) {
		t.Errorf("ids are missing: %v", a.Header)
	}
	told := body.Error.Keybrake
	if told.Code != c.code || told.AuditID != id || told.Rule == "" || (told.Rule != "wire" && told.Doc != "docs/policies.md#"+string(c.code)) {
		t.Errorf("programs are told %+v in %s", told, a.Body)
	}
}

// checkRaised looks at the error that the agent's code gets in its hands.
func (st *stage) checkRaised(c denial, got *raised, promised documented, last arrival) {
	t := st.dev.t
	t.Helper()
	class := st.promised.classes[st.sdk.name][promised.Status][promised.Type]
	if strings.HasPrefix(c.call.Op, "v2.") && st.sdk.name == "stripe-go" {
		class = "V2RawError"
	}
	if got.Class != class || got.Type != promised.Type || got.Status != promised.Status || got.Code != promised.code(c.code) || got.Param != c.param {
		t.Errorf("raised %+v\nwant %s, type %s, status %d, code %q, param %q", got, class, promised.Type, promised.Status, promised.code(c.code), c.param)
	}
	if !strings.Contains(got.Message, c.refused) || !strings.Contains(got.Message, c.cure) || c.refused == "" || c.cure == "" {
		t.Errorf("the message is %q\nwant in it %q and %q", got.Message, c.refused, c.cure)
	}
	if got.RequestID != last.Header.Get("Request-Id") {
		t.Errorf("the request id is %q, want %q", got.RequestID, last.Header.Get("Request-Id"))
	}
	for _, name := range []string{"Stripe-Should-Retry", "Request-Id", "Keybrake-Audit-Id"} {
		if seen := got.Headers[strings.ToLower(name)]; got.Headers != nil && seen != last.Header.Get(name) {
			t.Errorf("the SDK shows %q as %s", seen, name)
		}
	}
}

// auditRecord is what the test needs of a record.
type auditRecord struct {
	ID       string
	Seq      int64
	Kind     string
	Request  string
	Key      string
	Failures []struct{ Code policy.Code }
}

// lastRecord is the number of the newest record.
func (s *scene) lastRecord() int64 {
	s.dev.t.Helper()
	var page struct{ Items []auditRecord }
	s.admin("GET", "audit?limit=1", nil, &page)
	return page.Items[0].Seq
}

// checkRecords looks for what stands in the audit for each call: one record, or two of one call, and nothing else. A
// denial like one of the same second is counted with that one, and goes by its id.
func (s *scene) checkRecords(c denial, mark int64, arrivals []arrival) {
	t := s.dev.t
	t.Helper()
	want := map[record][]string{asDenied: {"denied"}, asPair: {"intent", "outcome"}}[c.on]
	for _, a := range arrivals {
		request, id := a.Header.Get("Request-Id"), a.Header.Get("Keybrake-Audit-Id")
		named := s.recordsOf(id, len(want))
		own := s.recordsAfter(mark, func(r auditRecord) bool { return r.Request == request || r.ID == request })
		folded := c.on == asDenied && len(own) == 0 && len(named) == 1 && slices.ContainsFunc(named[0].Failures, func(f struct{ Code policy.Code }) bool { return f.Code == c.code })
		if !slices.Equal(kinds(named), want) || !folded && !slices.Equal(kinds(own), want) {
			t.Errorf("%s: %v by its id, %v by its request, want %v", id, kinds(named), kinds(own), want)
		}
	}
}

func kinds(records []auditRecord) (out []string) {
	for _, r := range records {
		out = append(out, r.Kind)
	}
	return out
}

// recordsOf returns the records of a call by its id, without the counts of those that are folded into it. A read's
// outcome is written behind its answer, so it waits until there are n.
func (s *scene) recordsOf(id string, n int) []auditRecord {
	s.dev.t.Helper()
	if id == "" {
		return nil
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		var page struct{ Items []auditRecord }
		s.admin("GET", "audit/records/"+id, nil, &page)
		page.Items = slices.DeleteFunc(page.Items, func(r auditRecord) bool { return r.Kind == "folded" })
		if len(page.Items) >= n || time.Now().After(deadline) {
			return page.Items
		}
	}
}

func (s *scene) recordsAfter(mark int64, is func(auditRecord) bool) []auditRecord {
	s.dev.t.Helper()
	var page struct{ Items []auditRecord }
	s.admin("GET", "audit?ascending=true&limit=1000&after="+strconv.FormatInt(mark, 10), nil, &page)
	return slices.DeleteFunc(page.Items, func(r auditRecord) bool { return !is(r) })
}

// filledIn puts in the key, the address and the ids.
func (s *scene) filledIn(a ask) ask {
	a.URL, a.Key = s.Front.URL, s.key.Key
	a.ID = s.ids.Replace(a.ID)
	a.Params = maps.Clone(a.Params)
	for name, value := range a.Params {
		a.Params[name] = s.ids.Replace(value)
	}
	return a
}

// TestTheSettingForScopesIsAsStripeAnswersToday: with --scope-denial-status 403 the SDKs raise what they raise for a
// restricted key of Stripe's that may not.
func TestTheSettingForScopesIsAsStripeAnswersToday(t *testing.T) {
	promised := readPromises(t)
	d := serveDev(t, "--scope-denial-status", "403")
	for _, s := range sdks {
		t.Run(s.name, func(t *testing.T) {
			need(t, s.what, s.has())
			got := s.start(t)(ask{URL: d.Front.URL, Key: d.Keys[0], Op: "subscriptions.retrieve", ID: "sub_1"})
			class := promised.classes[s.name][http.StatusForbidden]["invalid_request_error"]
			if got == nil || got.Status != http.StatusForbidden || got.Class != class || got.Code != string(policy.CodeScopeDenied) {
				t.Errorf("raised %+v, want %s", got, class)
			}
		})
	}
}
