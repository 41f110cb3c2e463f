package sim

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/admin"
	"github.com/keybrake/keybrake/internal/store"
)

// sweep is one failure in a scripted day: the store's call or the vendor's call with a number fails in some way. With
// number 0 nothing fails, and calls are counted.
type sweep struct {
	how           string
	store, vendor int
	calls         struct{ agents, store, vendor int } // so far
	commits       []int                               // which of the store's calls were for a commit
	crash         bool
}

// storeFailures are the ways in which a call of the store fails: before its effect, after it, and with the process.
var storeFailures = []string{unavailable, unknown, "crash before", "crash after"}

// vendorFailures are what becomes of one request on its way and back.
var vendorFailures = map[string]plan{
	"not written":        {unwritten: true},
	"cut before":         {runs: runsNever, answer: answersCut},
	"hangs before":       {runs: runsNever, answer: answersNothing},
	"500 before":         {runs: runsNever, answer: answers500},
	"429":                {runs: runsNever, answer: answers429},
	"cut after":          {answer: answersCut},
	"hangs after":        {answer: answersNothing},
	"500 after":          {answer: answers500},
	"half an answer":     {answer: answersHalf},
	"garbage":            {answer: answersGarbage},
	"runs long after":    {runs: runsLate, answer: answersNothing},
	"runs after the cut": {runs: runsLate, answer: answersCut},
}

// counted takes one call of the store and reports whether it is the one that fails.
func (s *sweep) counted(w *world) bool {
	if !w.p.up || w.ending {
		return false
	}
	s.calls.store++
	return s.calls.store == s.store
}

func (s *sweep) strikesRead(w *world) string {
	switch {
	case !s.counted(w):
		return ""
	case s.how == cutBefore || s.how == cutAfter:
		return s.how // there is another connection
	}
	s.crash = strings.HasPrefix(s.how, "crash")
	return unavailable
}

func (s *sweep) strikesCommit(w *world) string {
	before := s.calls.store
	struck := s.counted(w)
	if s.calls.store > before {
		s.commits = append(s.commits, s.calls.store)
	}
	switch {
	case !struck:
		return ""
	case s.how == "crash before":
		w.crash()
		return "crash"
	case s.how == "crash after":
		s.crash = true
		return ""
	}
	return s.how
}

func (s *sweep) plan(bool) plan {
	if s.calls.vendor++; s.calls.vendor == s.vendor {
		return vendorFailures[s.how]
	}
	return plan{}
}

// TestEveryCallOfADayFailsOnce fails each call of the store and of the vendor in a scripted day, one in each run, in
// every way. Under `make sim` all of them, here some.
func TestEveryCallOfADayFailsOnce(t *testing.T) {
	every := setting(t, "SWEEP", 7)
	whole := aDay(t, options{})
	runs := 0
	try := func(s *sweep) {
		runs++
		r := simulate(t, 1, options{calm: true, sweep: s})
		for i, v := range r.broken {
			if i < 3 {
				t.Errorf("%s at store call %d, vendor call %d: %s", s.how, s.store, s.vendor, v)
			}
		}
	}
	for i, how := range storeFailures {
		for k := 1 + i%every; k <= whole.calls.store; k += every {
			try(&sweep{how: how, store: k})
		}
	}
	i := 0
	for _, how := range slices.Sorted(maps.Keys(vendorFailures)) {
		for k := 1 + i%every; k <= whole.calls.vendor; k += every {
			try(&sweep{how: how, vendor: k})
		}
		i++
	}
	t.Logf("%d runs of a day with %d calls of agents, %d of the store and %d of the vendor", runs, whole.calls.agents, whole.calls.store, whole.calls.vendor)
}

// aDay runs the day without a failure and counts its calls.
func aDay(t *testing.T, o options) *sweep {
	t.Helper()
	whole := &sweep{}
	o.calm, o.sweep = true, whole
	clean := simulate(t, 1, o)
	if len(clean.broken) > 0 || clean.admitted < 25 || clean.effects < 12 || clean.denied < 5 {
		t.Fatalf("the day without a failure: %+v", clean)
	}
	whole.calls.agents = clean.calls
	return whole
}

// day is what one agent and its operators do from a morning to the next noon.
func (a *agent) day() {
	a.w.agents.Add(1)
	defer func() { a.w.agents.Add(-1) }()
	o := newOperator(a.w, "day", 5)
	ctx := context.WithValue(context.Background(), whoKey{}, "day")
	for i, s := range a.script() {
		switch {
		case s == nil:
			a.ready()
			a.midnight()
		case s.path == "kill":
			p := a.ready()
			o.kill(ctx, p, admin.Target{Keys: []string{string(a.w.keys[s.key].id)}}, store.KeyScope(a.w.keys[s.key].id), false)
		case s.path == "resume":
			p := a.ready()
			o.resume(ctx, p, admin.Target{Keys: []string{string(a.w.keys[s.key].id)}}, store.KeyScope(a.w.keys[s.key].id))
		default:
			a.scripted(i, *s)
		}
	}
}

// ready waits until there is a process that takes calls.
func (a *agent) ready() *process {
	for {
		a.w.b.wait(a.name, "next")
		if p := a.w.p; p.up && !p.dead {
			return p
		}
	}
}

// scripted makes one call of the script, and again as SDKs do if it had no good answer.
func (a *agent) scripted(i int, s shot) {
	if s.method == http.MethodPost && i%4 != 3 {
		s.idem = fmt.Sprintf("day-%d", i)
	}
	for try := range 3 {
		a.ready()
		if strings.Contains(s.path, "{intent}") {
			if len(a.intents) == 0 {
				return
			}
			s.path = strings.Replace(s.path, "{intent}", a.intents[len(a.intents)-1], 1)
		}
		before := len(a.last)
		if try > 0 && s.class.must == "" {
			s.class = repeated
		}
		a.send(s)
		if len(a.last) == before || s.idem == "" {
			return
		}
	}
}

func (a *agent) midnight() {
	now := a.w.clock.world()
	a.w.clock.leap += now.Truncate(24 * time.Hour).Add(24*time.Hour + time.Second).Sub(now)
	a.w.b.note("leap", "time", "midnight")
}

func (a *agent) script() []*shot {
	ada, ben := a.w.seeded.Customers[0], a.w.seeded.Customers[1]
	post := func(c class, key int, path, form string) *shot {
		return &shot{class: c, method: http.MethodPost, path: path, form: form, key: key}
	}
	refund := func(key, n, cents int) *shot {
		return post(ordinary, key, "/v1/refunds", fmt.Sprintf("charge=%s&amount=%d", ada.Charges[n], cents))
	}
	intent := func(form string) *shot {
		return post(ordinary, 1, "/v1/payment_intents", "amount=4000&currency=usd&customer="+ada.ID+"&payment_method="+ada.Card+form)
	}
	read := func(key int) *shot {
		return &shot{class: ordinary, method: http.MethodGet, path: "/v1/charges/" + ada.Charges[0], key: key}
	}
	act := func(what string, key int) *shot { return &shot{path: what, key: key} }
	payout := func(cents int) *shot {
		return post(ordinary, 2, "/v1/payouts", fmt.Sprintf("amount=%d&currency=usd", cents))
	}
	work := []*shot{
		read(0), refund(0, 0, 2000), refund(0, 1, 2500), refund(1, 2, 1000),
		post(outside, 0, "/v1/transfers", "amount=100&currency=usd&destination=acct_1"),
		post(malformed, 0, "/v1/refunds", "amount=1&amount=2&charge="+ada.Charges[0]),
		post(foreign, 1, "/v1/refunds", "charge="+ben.Charges[0]+"&amount=100"),
		intent("&confirm=true"), intent("&confirm=true&capture_method=manual"),
		post(pinned, 1, "/v1/payment_intents/{intent}/capture", "amount_to_capture=1500"),
		intent(""), post(pinned, 1, "/v1/payment_intents/{intent}/confirm", ""),
		intent("&confirm=true&capture_method=manual"), post(pinned, 1, "/v1/payment_intents/{intent}/cancel", ""),
		payout(3000), payout(9000), payout(30000), read(2),
	}
	day := slices.Concat(work, []*shot{
		act("kill", 0), refund(0, 3, 1000), read(0), act("resume", 0), refund(0, 3, 1000), nil,
	}, work[1:4], work[7:10], work[14:])
	return append(day, refund(0, 4, 3000), refund(0, 5, 2900))
}
