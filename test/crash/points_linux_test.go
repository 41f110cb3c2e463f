package crash

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// nothing is the state of a reservation that was never made.
const nothing = -1

// TestKilledAtEachStepOfACall kills the program at every step of one call that moves money, exactly there, and looks at
// what the next one finds: nothing at all before the call is durable, then a hold, until the outcome is written down.
// Whatever the step, the agent that asks again with its idempotency key gets what it asked for, once.
func TestKilledAtEachStepOfACall(t *testing.T) {
	intent, outcome := logging(unix.SYS_PWRITE64, `"kind":"intent"`), logging(unix.SYS_PWRITE64, `"fate":"moved"`)
	flush, request := logging(unix.SYS_FDATASYNC, ""), saying("POST /v1/payment_intents")
	for _, step := range []struct {
		name    string
		there   func(*attempt) bool
		arrived bool // at Stripe, in whole
		state   int  // of the reservation after the restart
	}{
		{"before the reservation is written", intent, false, nothing},
		{"before the reservation is flushed", then(intent, flush), false, unknown},
		{"after the commit, before the connection to Stripe", dialling, false, unknown},
		{"after the connection, before the request is written", request, false, unknown},
		{"in the middle of the request", then(request, saying("")), false, unknown},
		{"after the answer, before the settlement is written", outcome, true, unknown},
		{"after the answer, before the settlement is flushed", then(outcome, flush), true, settled},
		{"after the settlement, before the agent is answered", saying("HTTP/1.1 200 OK"), true, settled},
	} {
		t.Run(step.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c := w.longCall("p1")
			w.killAt(c, step.there)
			w.start()
			w.found(c, step.arrived, step.state)
			w.asksAgain(c)
		})
	}
}

// TestKilledAfterTheHeadOfTheAnswer is one more step: Stripe has acted, and half of its answer is there.
func TestKilledAfterTheHeadOfTheAnswer(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	reached := make(chan struct{})
	var dead atomic.Bool
	half := httptest.NewServer(http.HandlerFunc(func(to http.ResponseWriter, r *http.Request) {
		body := w.relay(to, r)
		if r.Method == http.MethodGet || dead.Load() { // the probes of a new upstream; the retry
			_, _ = to.Write(body)
			return
		}
		_, _ = to.Write(body[:len(body)/2])
		_ = http.NewResponseController(to).Flush()
		close(reached)
		<-r.Context().Done()
	}))
	t.Cleanup(half.Close)
	w.addUpstream(half.URL)
	c := w.longCall("p1")
	asked := w.goSend(c)
	<-reached
	w.kill()
	<-asked
	w.start()
	w.found(c, true, unknown)
	dead.Store(true)
	w.asksAgain(c)
}

// TestACallThatNobodyCanAskForAgainStaysHeld is the same without an idempotency key: nobody knows, so the money
// stays held, and who asks for the same thing again is told so and moves nothing.
func TestACallThatNobodyCanAskForAgainStaysHeld(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.longCall("")
	w.killAt(c, logging(unix.SYS_PWRITE64, `"fate":"moved"`))
	w.start()
	w.found(c, true, unknown)
	if again := w.send(c); again.status != 409 || again.code != "keybrake_outcome_pending" {
		t.Errorf("asked again: %+v", again)
	}
	w.found(c, true, unknown)
}

// longCall is a call that needs no look-up, so that the first connection to Stripe is its own, and is longer than
// what is written at once, so that it has a middle.
func (w *world) longCall(idem string) *call {
	p := w.newPrincipal("agent-crash-points-r0", "payment_intents: write", "any", rule{resource: "payment_intents", per: "day", cents: 100_00})
	c := newCall(p, create, "p1", "/v1/payment_intents", "amount=2000&currency=usd&confirm=true&payment_method=pm_card_visa&customer="+p.customer, idem)
	for i := range 20 {
		c.form += fmt.Sprintf("&metadata[more%d]=%s", i, strings.Repeat("x", 400))
	}
	return c
}

// killAt lets a fresh gateway serve a call and kills it there.
func (w *world) killAt(c *call, there func(*attempt) bool) {
	w.t.Helper()
	w.kill() // and with it the connections that it has to Stripe
	reached := w.startBehindGate(openly).reach(there)
	asked := w.goSend(c)
	select {
	case <-reached:
	case <-asked:
		w.t.Fatalf("the call never came there: %+v", c.tries)
	}
	w.kill()
	<-asked
	if got := c.tries[0]; got.status != 0 {
		w.t.Fatalf("the agent was answered: %+v", got)
	}
}

// found says what the next gateway must have found of the only call.
func (w *world) found(c *call, arrived bool, state int) {
	w.t.Helper()
	w.agree()
	want := 0
	if arrived {
		want = 1
	}
	if len(w.truth.effects) != want || len(w.truth.arrivals) != want {
		w.t.Errorf("%d arrivals and %d effects at Stripe", len(w.truth.arrivals), len(w.truth.effects))
	}
	switch r := w.books.reservations[1]; {
	case state == nothing && len(w.books.reservations) > 0:
		w.t.Errorf("%+v is held for call %s, which was never admitted", r, c.id)
	case state != nothing && (r == nil || r.state != state || r.counted() != 20_00):
		w.t.Errorf("the reservation is %+v, it should be %s", r, stateNames[state])
	}
}

// asksAgain is what agents do. They get what they asked for, once, and the books have it once.
func (w *world) asksAgain(c *call) {
	w.t.Helper()
	if again := w.send(c); again.status != 200 || again.amount != 20_00 {
		w.t.Errorf("asked again: %+v", again)
	}
	w.agree()
	r := w.books.reservations[1]
	if r == nil || r.state != settled || r.counted() != 20_00 || len(w.books.reservations) != 1 || len(w.truth.effects) != 1 {
		w.t.Errorf("after the retry: %d reservations, %+v, %d effects", len(w.books.reservations), r, len(w.truth.effects))
	}
}

// relay hands a request on to the sandbox, writes the head of its answer and returns the rest.
func (w *world) relay(to http.ResponseWriter, r *http.Request) (body []byte) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return nil // the gateway is gone
	}
	req, err := http.NewRequest(r.Method, w.box+r.URL.RequestURI(), bytes.NewReader(text))
	if err != nil {
		panic(err) // it is a request that we have just read
	}
	req.Header = r.Header
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Error(err)
		return nil
	}
	defer resp.Body.Close()
	if body, err = io.ReadAll(resp.Body); err != nil {
		w.t.Error(err)
	}
	maps.Copy(to.Header(), resp.Header)
	to.Header().Set("Content-Length", strconv.Itoa(len(body)))
	to.WriteHeader(resp.StatusCode)
	return body
}

func logging(number int32, text string) func(*attempt) bool {
	return func(a *attempt) bool { return a.logs(number, text) }
}

func saying(beginning string) func(*attempt) bool {
	return func(a *attempt) bool { return a.says(beginning) }
}

func dialling(a *attempt) bool { return a.number == unix.SYS_CONNECT }

// then is the second place, once the first has been passed.
func then(before, there func(*attempt) bool) func(*attempt) bool {
	passed := false
	return func(a *attempt) bool {
		if !passed {
			passed = before(a)
			return false
		}
		return there(a)
	}
}
