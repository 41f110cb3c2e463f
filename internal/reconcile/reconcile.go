// Package reconcile asks a vendor what became of calls whose answer never came, and of money that was settled for the
// time being. It only reads there. What it learns it writes as the gateway would: a settlement, a release with a proof,
// or nothing, with a record that says what was read.
//
// A reservation whose outcome is unknown is asked about, oldest first, once the gateway has surely given it up: first the
// list that its object would be in, or the object that it acts on, then the vendor's log of events. It is released as
// absent when the list showed nothing of it twice, ten minutes apart, the first time ten minutes after the last moment at
// which it could have been on the wire. Whatever is in between stays held.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/upstream"
	"github.com/keybrake/keybrake/internal/vault"
)

const (
	// Late is how long after the gateway gave a call up the vendor may still run it, and how far two looks at its list
	// are apart that prove it absent.
	Late = 10 * time.Minute
	// defaultPerSecond leaves nearly all of an account's rate limit (about 100 a second) to agents.
	defaultPerSecond = 2
	defaultRound     = 15 * time.Second
	defaultEvents    = time.Minute
	// firstPause is the pause after a look that told nothing; it doubles up to lastPause.
	firstPause = time.Minute
	lastPause  = 6 * time.Hour
	// pageSize is how many reservations are read from the store at a time.
	pageSize = 100
	// lookTimeout bounds one look at the vendor.
	lookTimeout = 30 * time.Second
)

// Vendor is what must be known of a vendor.
type Vendor interface {
	upstream.Inquirer
	upstream.Later
	Base(base *url.URL, host string) *url.URL
}

// Doer sends a request to a vendor; *upstream.Client is one.
type Doer interface {
	Do(ctx context.Context, base *url.URL, cred upstream.Credential, r *upstream.Request) upstream.Answer
}

// Config is what a Reconciler needs. Every field is required unless it says otherwise.
type Config struct {
	Vendor Vendor
	Ring   *vault.Ring
	Store  store.DB
	Client Doer
	Log    *slog.Logger
	// PerSecond bounds the looks at all vendors together; 0 = 2.
	PerSecond float64
	// Deadline is when the gateway gives up a call that is not answered; 0 = upstream.Deadline.
	Deadline time.Duration
	// Round is the pause between two rounds over what is open; 0 = 15 s.
	Round time.Duration
	// Events is the pause between two looks at a vendor's log of events; 0 = 1 min.
	Events time.Duration
}

// Reconciler does the asking. It is safe for concurrent use.
type Reconciler struct {
	Config
	pace *rate.Limiter
	// asking keeps a round and an operator's question from asking about one reservation at a time.
	asking sync.Mutex

	mu    sync.Mutex
	notes map[ledger.ReservationID]*Note
}

// Note is what is known of asking about one reservation. It is kept in memory: after a restart asking begins anew, but for
// the first look that showed nothing, which the store keeps.
type Note struct {
	Why   string    // what the last look showed, or why there was none; one sentence
	Asked time.Time // the last look; zero = none yet
	Next  time.Time // not before
	tries int
	given time.Time // when the gateway had surely given it up
}

// New makes a Reconciler; Run starts it.
func New(c Config) *Reconciler {
	if c.PerSecond == 0 {
		c.PerSecond = defaultPerSecond
	}
	if c.Deadline == 0 {
		c.Deadline = upstream.Deadline
	}
	if c.Round == 0 {
		c.Round = defaultRound
	}
	if c.Events == 0 {
		c.Events = defaultEvents
	}
	return &Reconciler{
		Config: c, pace: rate.NewLimiter(rate.Limit(c.PerSecond), max(1, int(c.PerSecond))),
		notes: make(map[ledger.ReservationID]*Note),
	}
}

// Run asks until ctx ends.
func (r *Reconciler) Run(ctx context.Context) {
	rounds, events := time.NewTicker(r.Round), time.NewTicker(r.Events)
	defer rounds.Stop()
	defer events.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-rounds.C:
			err = r.Open(ctx)
		case <-events.C:
			err = r.Follow(ctx)
		}
		if err != nil && ctx.Err() == nil {
			r.Log.Warn("asking upstreams what became of calls did not get through", "err", err)
		}
	}
}

// Open takes one round over everything whose outcome is unknown, oldest first, and asks about what is due.
func (r *Reconciler) Open(ctx context.Context) error {
	var errs []error
	seen := make(map[ledger.ReservationID]bool)
	for after := ledger.ReservationID(0); ; {
		page, err := r.page(ctx, after)
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		for _, rsv := range page {
			after, seen[rsv.ID] = rsv.ID, true
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if !r.due(rsv) {
				continue
			}
			if _, err := r.ask(ctx, rsv, ""); err != nil {
				errs = append(errs, err) // the others are asked about all the same
			}
		}
		if len(page) < pageSize {
			break
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.notes {
		if !seen[id] {
			delete(r.notes, id)
		}
	}
	return errors.Join(errs...)
}

func (r *Reconciler) page(ctx context.Context, after ledger.ReservationID) (page []*ledger.Reservation, err error) {
	err = r.Store.View(ctx, func(tx store.Tx) error {
		page, err = tx.Unresolved(after, pageSize)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read what is open: %w", err)
	}
	return page, nil
}

// given is when the gateway has surely given a call up: nothing of it is on the wire any more.
func (r *Reconciler) given(rsv *ledger.Reservation) time.Time { return rsv.Sends().Add(r.Deadline) }

// due reports whether it is time to ask about a reservation.
func (r *Reconciler) due(rsv *ledger.Reservation) bool {
	now := r.Store.Now()
	n := r.note(rsv)
	r.mu.Lock()
	defer r.mu.Unlock()
	return !now.Before(n.Next)
}

// note is what is kept of a reservation. One that was sent again begins anew.
func (r *Reconciler) note(rsv *ledger.Reservation) *Note {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.notes[rsv.ID]
	if given := r.given(rsv); n == nil || !n.given.Equal(given) {
		n = &Note{Why: "it was not asked about yet", Next: given, given: given}
		r.notes[rsv.ID] = n
	}
	return n
}

// NoteOf tells what is known of asking about a reservation.
func (r *Reconciler) NoteOf(rsv *ledger.Reservation) Note {
	n := r.note(rsv)
	r.mu.Lock()
	defer r.mu.Unlock()
	return *n
}

// noted writes down what a look showed. The next one is at the time given, or, if that is zero, after a pause that
// doubles.
func (r *Reconciler) noted(rsv *ledger.Reservation, why string, next time.Time) Note {
	n := r.note(rsv)
	r.mu.Lock()
	defer r.mu.Unlock()
	n.Why, n.Asked = why, r.Store.Now()
	n.Next = next
	if next.IsZero() {
		n.Next = n.Asked.Add(min(firstPause<<min(n.tries, 16), lastPause))
		n.tries++
	}
	return *n
}

// lookup reads at an upstream, in the account and version of the call that it is about. A pulled brake does not stop it: brakes
// stop agents, and to know what their last calls did is why one is pulled.
func (r *Reconciler) lookup(u *vault.Upstream, host string, header http.Header) upstream.Lookup {
	return func(ctx context.Context, look upstream.Look) (int, []byte, error) {
		if err := r.pace.Wait(ctx); err != nil {
			return 0, nil, fmt.Errorf("wait for a turn: %w", err)
		}
		ctx, cancel := context.WithTimeout(ctx, lookTimeout)
		defer cancel()
		answer := r.Client.Do(ctx, r.Vendor.Base(u.BaseURL, host), u, &upstream.Request{
			Method: look.Method, Path: look.Path, Query: look.Query, Body: look.Body, Header: header,
		})
		return answer.Status, answer.Body, answer.Err
	}
}

// scopeHeaders are those of a call that decide whose objects are read, and how they are written.
var scopeHeaders = []string{"Stripe-Version", "Stripe-Account", "Stripe-Context"}

func scope(call http.Header) http.Header {
	out := make(http.Header, len(scopeHeaders))
	for _, name := range scopeHeaders {
		if v := call[name]; len(v) > 0 {
			out[name] = slices.Clone(v)
		}
	}
	return out
}

// upstreamOf finds where a reservation's call went.
func (r *Reconciler) upstreamOf(id policy.UpstreamID) (*vault.Upstream, error) {
	u, ok := r.Ring.Upstream(id)
	if !ok {
		return nil, fmt.Errorf("the upstream %s is gone", id)
	}
	return u, nil
}
