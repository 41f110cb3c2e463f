package crash

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// effect is a movement of money that really happened, as the sandbox tells it.
type effect struct {
	Seq            int
	At             time.Time
	Kind           string
	Object         string
	Parent         string
	Customer       string
	Amount         int64  // cents
	IdempotencyKey string `json:"idempotency_key"`
}

// arrival is a request that reached Stripe.
type arrival struct {
	Seq            int
	At             time.Time
	Method, Path   string
	Query          string
	Body           []byte
	IdempotencyKey string `json:"idempotency_key"`
}

// customer is whom a request names; empty: nobody.
func (a *arrival) customer() string {
	for _, text := range []string{a.Query, string(a.Body)} {
		if form, err := url.ParseQuery(text); err == nil && form.Has("customer") {
			return form.Get("customer")
		}
	}
	return ""
}

// truth is everything that reached Stripe, and everything that moved there.
type truth struct {
	effects  []effect
	arrivals []arrival
	sent     map[string]*sent       // by the idempotency key that Stripe got
	came     map[string][]time.Time // when agents' calls came, reads too, by the customer whom they name
	// How far the sandbox has been read.
	lastEffect, lastArrival int
}

// sent is what Stripe knows of one idempotency key: one call of ours, however often it came.
type sent struct {
	first   arrival
	effects []effect
}

// moved is what the effects of one kind come to.
func (s *sent) moved(kinds ...string) (cents int64) {
	for _, e := range s.effects {
		for _, k := range kinds {
			if e.Kind == k {
				cents += e.Amount
			}
		}
	}
	return cents
}

// readTruth learns what happened at Stripe since it was last asked.
func (w *world) readTruth() {
	w.t.Helper()
	tr := w.truth
	// In this order: what moves in between has its arrival, and is found the next time.
	var moved struct{ Items []effect }
	w.history("effects", tr.lastEffect, &moved)
	var arrived struct{ Items []arrival }
	w.history("journal", tr.lastArrival, &arrived)
	for _, a := range arrived.Items {
		if a.Seq != tr.lastArrival+1 {
			w.t.Fatalf("the sandbox forgot arrival %d before it was read", tr.lastArrival+1)
		}
		tr.lastArrival = a.Seq
		if customer := a.customer(); customer != "" && !strings.HasPrefix(a.IdempotencyKey, ours) {
			tr.came[customer] = append(tr.came[customer], a.At)
		}
		if a.Method != http.MethodPost || strings.HasPrefix(a.IdempotencyKey, ours) {
			continue
		}
		tr.arrivals = append(tr.arrivals, a)
		if tr.sent[a.IdempotencyKey] == nil {
			tr.sent[a.IdempotencyKey] = &sent{first: a}
		}
	}
	for _, e := range moved.Items {
		tr.lastEffect = e.Seq
		if strings.HasPrefix(e.IdempotencyKey, ours) {
			continue
		}
		tr.effects = append(tr.effects, e)
		s, ok := tr.sent[e.IdempotencyKey]
		if !ok {
			w.t.Fatalf("effect %d (%s) came with no request that the journal has", e.Seq, e.Object)
		}
		s.effects = append(s.effects, e)
	}
}

// history reads the journal or the effects after a place.
func (w *world) history(what string, after int, to any) {
	w.t.Helper()
	req, err := http.NewRequest("GET", fmt.Sprintf("%s/_sandbox/%s?after=%d", w.box, what, after), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.fetch(req, to)
}
