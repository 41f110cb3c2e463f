package contract

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keybrake/keybrake/test/openapi"
	"github.com/keybrake/keybrake/test/requests"
)

// documented is how many operations the document has; all are tried.
const documented = 594

// TestEveryOperationAnswersThroughKeybrakeAsItDoesDirectly sends every operation of the document in every variant,
// directly and through a fully open key, and compares the answers, and what arrived with what was sent. The calls
// go one after the other: stripe-mock writes into its own examples.
func TestEveryOperationAnswersThroughKeybrakeAsItDoesDirectly(t *testing.T) {
	d, err := openapi.Load()
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t)
	tried, passed, expanded, refused := 0, 0, 0, 0
	d.Each(func(method, path string, op *openapi.Operation) {
		tried++
		var wrong []string
		variants := requestsOf(method, path, op)
		for _, r := range variants {
			if why := b.differs(r); why != "" {
				wrong = append(wrong, fmt.Sprintf("%s\n%s", r.Form(), why))
			}
		}
		if paths := requests.Expansions(d, op); len(paths) > 0 {
			expanded++
			wrong = append(wrong, b.expands(variants[0], paths)...)
		}
		refused += b.refuses(method, path, op)
		name := method + " " + path
		reason, known := gaps[name]
		switch {
		case len(wrong) == 0 && known:
			t.Errorf("%s passes now: take it off the gaps", name)
		case len(wrong) == 0:
			passed++
		case known:
			t.Logf("not the same, as known: %s: %s", name, reason)
		default:
			t.Errorf("%s: %s", name, strings.Join(wrong, "\n"))
		}
	})
	t.Logf("%d operations tried, %d the same through Keybrake, %d with something expanded; %d calls compared; %d requests beyond Stripe's or Keybrake's rules refused",
		tried, passed, expanded, b.compared, refused)
	if tried != documented || passed+len(gaps) != tried && !t.Failed() {
		t.Errorf("%d operations tried and %d passed of %d", tried, passed, documented)
	}
}

// requestsOf makes an operation's variants, those that are the same once.
func requestsOf(method, path string, op *openapi.Operation) []requests.Request {
	var out []requests.Request
	seen := map[string]bool{}
	for _, v := range requests.Variants {
		if r := requests.Make(method, path, op, v); !seen[r.Form()] {
			seen[r.Form()] = true
			out = append(out, r)
		}
	}
	return out
}

// bench is stripe-mock and a Keybrake before it.
type bench struct {
	t        *testing.T
	mock     string
	gateway  *gateway
	recorder *recorder
	compared int
	sent     int
	// made are the ids that stripe-mock made up so far. It leaves some of them in its examples.
	made map[string]string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, mock: startStripeMock(t), made: map[string]string{}}
	target, err := url.Parse(b.mock)
	if err != nil {
		t.Fatal(err)
	}
	b.recorder = startRecorder(t, httputil.NewSingleHostReverseProxy(target))
	b.gateway = startGateway(t, b.recorder.URL, requests.Account)
	return b
}

// agent is a name that no other call has.
func (b *bench) agent() string {
	b.sent++
	return fmt.Sprintf("contract/%d", b.sent)
}

// differs sends one request both ways and says what is not the same; empty for nothing.
func (b *bench) differs(r requests.Request) string {
	agent := b.agent()
	direct := send(b.t, newRequest(b.t, b.mock, secret, agent, r))
	if direct.Status != http.StatusOK {
		return fmt.Sprintf("stripe-mock itself answers %d %s", direct.Status, direct.Body)
	}
	return b.differsFrom(direct, agent, r)
}

// differsFrom is differs for a request that was answered directly already.
func (b *bench) differsFrom(direct answer, agent string, r requests.Request) string {
	b.compared++
	through := send(b.t, newRequest(b.t, b.gateway.base, b.gateway.key, agent, r))
	type seen struct {
		Status                                 int
		ContentType, RequestID, IdempotencyKey string
		Body                                   string
	}
	look := func(a answer) seen {
		return seen{a.Status, a.Header.Get("Content-Type"), a.Header.Get("Request-Id"), a.Header.Get("Idempotency-Key"), b.mask(a.Body)}
	}
	if diff := cmp.Diff(look(direct), look(through)); diff != "" {
		return "the answers differ (-direct +through):\n" + diff
	}
	asked := newRequest(b.t, b.mock, secret, agent, r)
	want := []arrival{{asked.Method, asked.URL.EscapedPath(), readParams(asked)}}
	if diff := cmp.Diff(want, b.recorder.of(agent)); diff != "" {
		return "what arrived differs (-sent +arrived):\n" + diff
	}
	return ""
}

// expands tries the paths of `expand` of one step, then those of two, until stripe-mock can do one of each kind
// (it has no examples for some), and says what differs.
func (b *bench) expands(r requests.Request, paths []string) (wrong []string) {
	base := r.Params
	worked := map[int]bool{}
	for _, path := range paths {
		depth := strings.Count(strings.TrimPrefix(path, "data."), ".")
		if worked[depth] {
			continue
		}
		r.Params = append(base[:len(base):len(base)], requests.Pair{Name: "expand[]", Value: path})
		agent := b.agent()
		direct := send(b.t, newRequest(b.t, b.mock, secret, agent, r))
		if direct.Status != http.StatusOK {
			continue
		}
		worked[depth] = true
		if why := b.differsFrom(direct, agent, r); why != "" {
			wrong = append(wrong, "expand "+path+": "+why)
		}
	}
	if len(worked) == 0 {
		wrong = append(wrong, fmt.Sprintf("stripe-mock can expand none of %v", paths))
	}
	return wrong
}

// refuses sends the requests that the document alone allows, where a rule of package requests forbids them, and
// counts them. One that passes means that its rule is no longer needed.
func (b *bench) refuses(method, path string, op *openapi.Operation) (n int) {
	var changed []string
	for _, v := range requests.Variants {
		r, ruled := requests.MakeByDocument(method, path, op, v), requests.Make(method, path, op, v)
		if r.Form() == ruled.Form() {
			continue
		}
		n++
		changed = append(changed, onlyIn("without ", r, ruled)...)
		changed = append(changed, onlyIn("with ", ruled, r)...)
		if a := send(b.t, newRequest(b.t, b.gateway.base, b.gateway.key, b.agent(), r)); a.Status < 400 || a.Status >= 500 {
			b.t.Errorf("%s %s: %d: it needs no rule of its own in package requests", method, path, a.Status)
		}
	}
	if n > 0 {
		slices.Sort(changed)
		b.t.Logf("%s %s: %s: %s", method, path, requests.Why(method, path), strings.Join(slices.Compact(changed), ", "))
	}
	return n
}

// onlyIn names the parameters of a that b lacks.
func onlyIn(what string, a, b requests.Request) (names []string) {
	for _, p := range a.Params {
		if !slices.ContainsFunc(b.Params, func(o requests.Pair) bool { return o.Name == p.Name }) {
			names = append(names, what+p.Name)
		}
	}
	return names
}

var (
	word   = regexp.MustCompile(`[A-Za-z0-9_]+`)
	madeUp = regexp.MustCompile(`^(.*_)[0-9A-Za-z]{15}$`)
)

// mask replaces the ids that stripe-mock made up: an answer's own, where the request names none, and those of
// earlier answers.
func (b *bench) mask(body string) string {
	var object struct{ ID string }
	if json.Unmarshal([]byte(body), &object) == nil {
		if m := madeUp.FindStringSubmatch(object.ID); m != nil {
			b.made[object.ID] = m[1] + "MADE_UP"
		}
	}
	return word.ReplaceAllStringFunc(body, func(id string) string {
		if made, ok := b.made[id]; ok {
			return made
		}
		return id
	})
}
