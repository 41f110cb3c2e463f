package sim

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/admin"
	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/gateway"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/sqlite"
	"github.com/keybrake/keybrake/internal/upstream"
	"github.com/keybrake/keybrake/internal/upstream/stripe"
	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
	"github.com/keybrake/keybrake/internal/vault"
)

// live is a Keybrake without a scheduler: real goroutines, a real store in a file. It is not replayed; what happened is
// taken down in the order in which it was seen, and given to the same auditor afterwards.
type live struct {
	*world
	db *sqlite.DB

	running sync.Map // *call by run id
	mu      sync.Mutex
	rng     *rand.Rand
	effects map[string][]happening // by idempotency key
	stops   []*stop
	slow    sync.WaitGroup
	early   []string // left before a hold was durable
}

type happening struct {
	r       *request
	rec     *recorder
	effects []sandbox.Effect
}

// stop is a brake of a key, and what left while it was in force. What had passed the last look before may be seen later:
// the answer to the stop has counted it.
type stop struct {
	scope    string
	inForce  bool
	inFlight int64
	left     int64
}

// TestRealConcurrencyIsAudited runs agents, a vendor that lies and operators at the same time, and lets the auditor judge.
func TestRealConcurrencyIsAudited(t *testing.T) {
	for seed := range uint64(setting(t, "LIVE", 3)) {
		l := newLive(t, seed)
		var agents, operators sync.WaitGroup
		done := make(chan struct{})
		var books sync.Mutex
		for i := range 12 {
			a := &agent{w: l.world, name: fmt.Sprintf("a%dx%d", i%5, i), rng: rand.New(rand.NewPCG(seed, uint64(i)))}
			agents.Go(func() {
				for range 40 {
					l.send(a, &books)
				}
			})
		}
		operators.Go(func() { l.operate(seed, done) })
		agents.Wait()
		close(done)
		operators.Wait()
		l.slow.Wait()
		l.p.gateway.Close()
		l.p.service.Close()
		l.audit(t)
		must(t, l.db.Close())
		for i, v := range l.auditor.broken {
			if i < 10 {
				t.Errorf("seed %d: %s", seed, v)
			}
		}
		a := l.auditor
		t.Logf("seed %d: %d calls at once by 12: %d admitted, %d refused, %d movements of money", seed, len(a.calls), a.admitted, a.denied, a.effects)
	}
}

func newLive(t *testing.T, seed uint64) *live {
	t.Helper()
	w := &world{rng: rand.New(rand.NewPCG(seed, 1)), log: &errorLog{}, b: newBaton()}
	l := &live{world: w, rng: rand.New(rand.NewPCG(seed, 2)), effects: make(map[string][]happening)}
	w.sandbox = sandbox.New(sandbox.Options{Seed: int64(seed)})
	w.seeded = w.sandbox.Seed()
	w.auditor = newAuditor(func() int64 { return 0 }, func() int64 { return 0 })
	w.auditor.afterwards = true
	w.sellAbroad(t)
	w.vendor = &vendor{rng: l.rng, rate: 0.15}
	var err error
	w.master, err = vault.EphemeralMaster()
	must(t, err)
	w.adapter, err = stripe.New()
	must(t, err)
	l.db, err = sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "keybrake.db"), Signer: w.master, MasterCheck: w.master.CheckValue()})
	must(t, err)
	log := slog.New(w.log)
	w.p = &process{ring: vault.NewRing(w.master), up: true}
	w.p.service = admin.New(admin.Config{Store: l.db, Ring: w.p.ring, Vocabulary: w.adapter.Catalog().Vocabulary(), Version: stripe.DefaultVersion, Log: log})
	_, err = w.p.service.Load(t.Context())
	must(t, err)
	must(t, w.setUp(t.Context(), w.p.service))
	w.p.gateway = gateway.New(gateway.Config{
		Adapter: w.adapter, Ring: w.p.ring, Store: l.db, Client: upstream.NewClientOver(l), Rates: w.p.service.Rates, Log: log,
		LookupsPerSecond: 1e6, LookupsPerUpstream: 1e6, Deadline: 150 * time.Millisecond,
	})
	return l
}

// send lets an agent make one call. The agents' own lists are theirs alone; the list of calls is shared.
func (l *live) send(a *agent, books *sync.Mutex) {
	s := a.choose()
	a.n++
	c := &call{run: fmt.Sprintf("%s-%d", a.name, a.n), key: l.keys[s.key].id, write: s.method != http.MethodGet, class: s.class, at: l.db.Now()}
	books.Lock()
	l.auditor.calls[c.run] = c
	books.Unlock()
	l.running.Store(c.run, c)
	rec := l.request(context.WithValue(context.Background(), whoKey{}, c.run), l.p, l.keys[s.key].secret, c.run, s)
	_, reason := a.heard(s, rec)
	books.Lock()
	defer books.Unlock()
	l.mu.Lock() // departures are counted there
	defer l.mu.Unlock()
	l.auditor.answered(c, rec, reason)
}

// operate stops and resumes keys while agents work.
func (l *live) operate(seed uint64, done chan struct{}) {
	rng := rand.New(rand.NewPCG(seed, 3))
	who := admin.Actor{Name: "operator", Role: vault.RoleAdmin}
	for {
		select {
		case <-done:
			return
		case <-time.After(time.Duration(5+rng.IntN(40)) * time.Millisecond):
		}
		k := l.keys[rng.IntN(len(l.keys))]
		target := admin.Target{Keys: []string{string(k.id)}}
		brake := l.auditor.brake(store.KeyScope(k.id), false)
		answer, err := l.p.service.Kill(context.Background(), who, admin.KillRequest{Target: target})
		l.mu.Lock()
		s := &stop{scope: string(k.id), inForce: err == nil, inFlight: answer.InFlight}
		l.stops = append(l.stops, s)
		l.mu.Unlock()
		time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
		l.mu.Lock()
		s.inForce = false
		l.mu.Unlock()
		if _, err := l.p.service.Resume(context.Background(), who, admin.ResumeRequest{Target: target, Reason: "looked at it"}); err != nil {
			l.problems = append(l.problems, err.Error())
		}
		brake.released = 0 // in this run steps do not count
	}
}

// RoundTrip is the way to the vendor: it notes what leaves and what happens, and loses what it is told to.
func (l *live) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		var err error
		if body, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
	}
	sent := requestOf(req, body)
	l.departs(who(req.Context()), sent)
	l.mu.Lock()
	p := l.vendor.random(sent.write)
	l.mu.Unlock()
	if p.unwritten {
		return nil, errUnwritten
	}
	if trace := httptrace.ContextClientTrace(req.Context()); trace != nil {
		trace.GotConn(httptrace.GotConnInfo{Conn: noConn{}})
	}
	truth := &recorder{code: http.StatusInternalServerError, head: http.Header{}}
	switch p.runs {
	case runsNow:
		truth = l.execute(sent)
	case runsLate:
		l.slow.Go(func() {
			time.Sleep(20 * time.Millisecond)
			l.execute(sent)
		})
	}
	if p.answer == answersNothing {
		<-req.Context().Done()
		return nil, req.Context().Err()
	}
	return p.lie(truth)
}

// execute runs a request and takes down what moved.
func (l *live) execute(r *request) *recorder {
	again := *r.http
	again.Body = io.NopCloser(bytes.NewReader(r.body))
	rec := &recorder{head: make(http.Header)}
	l.sandbox.ServeHTTP(rec, &again)
	if !r.write || rec.code >= 300 || rec.head.Get("Idempotent-Replayed") != "" {
		return rec
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var moved []sandbox.Effect
	for _, e := range l.sandbox.Effects() {
		if e.IdempotencyKey == r.key {
			moved = append(moved, e)
		}
	}
	l.effects[r.key] = append(l.effects[r.key], happening{r, rec, moved})
	return rec
}

// departs checks, on a connection of its own, that the hold is durable, and counts what leaves past a stop.
func (l *live) departs(run string, r *request) {
	durable := !r.write
	if !durable {
		err := l.db.View(context.Background(), func(tx store.Tx) error {
			rs, err := tx.OpenReservations("")
			for _, rsv := range rs {
				durable = durable || strings.Contains(string(rsv.Sent), r.key)
			}
			if c := l.call(run); err == nil && !durable && c != nil { // a retry of what is settled
				err = tx.ReservationsSince(c.key, time.Time{}, func(rsv *ledger.Reservation) error {
					durable = durable || rsv.State != ledger.Released && strings.Contains(string(rsv.Sent), r.key)
					return nil
				})
			}
			return err
		})
		if err != nil {
			durable = false
		}
	}
	c := l.call(run)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !durable {
		l.early = append(l.early, run)
	}
	if c == nil {
		return
	}
	if r.write {
		c.departures++
	}
	for _, s := range l.stops {
		if s.inForce && s.scope == string(c.key) {
			s.left++
		}
	}
}

func (l *live) call(run string) *call {
	c, _ := l.running.Load(run)
	made, _ := c.(*call)
	return made
}

// audit tells the auditor, in the order of the record, what became durable and what happened.
func (l *live) audit(t *testing.T) {
	a, r := l.auditor, newRows()
	r.objects = nil // the auditor does without
	last := make(map[string]*ledger.Reservation)
	must(t, l.db.View(t.Context(), func(tx store.Tx) error {
		err := tx.EachKey(func(row store.KeyRow) error {
			a.wrote(row)
			return tx.ReservationsSince(row.ID, time.Time{}, func(rsv *ledger.Reservation) error {
				r.put(rsv)
				sent, err := upstream.DecodeSent(rsv.Sent)
				last[sent.IdempotencyKey] = rsv
				return err
			})
		})
		if err != nil {
			return err
		}
		return tx.EachRecord(1, func(e audit.Entry) error {
			r.entries = append(r.entries, e)
			return nil
		})
	}))
	made := make(map[int64]*ledger.Reservation)
	for _, rsv := range r.reservations {
		made[rsv.AuditSeq] = rsv
	}
	for _, e := range r.entries {
		c := &change{entries: []audit.Entry{e}}
		rsv := made[e.Seq]
		if rsv != nil {
			c.ledger.Created = []*ledger.Reservation{rsv}
		}
		a.durable(c, r)
		if rsv == nil {
			continue
		}
		for key, hs := range l.effects {
			if l := last[key]; l != nil && l.ID == rsv.ID {
				for _, h := range hs {
					a.happened(h.r, h.rec, h.effects)
				}
			}
		}
	}
	l.accounts(t, r)
	for _, s := range l.stops {
		if s.left > s.inFlight {
			a.fail("I-15", "%d requests left past the stop of %s, %d were in flight when it was pulled", s.left, s.scope, s.inFlight)
		}
	}
	for _, run := range l.early {
		a.fail("I-02", "%s left before its hold was durable", run)
	}
	for key := range l.effects {
		if last[key] == nil {
			a.fail("I-02", "%s moved money and is in no book", key)
		}
	}
	l.result()
	a.finish(r, 0)
}

// accounts reads the running totals that reservations count in.
func (l *live) accounts(t *testing.T, r *rows) {
	for _, rsv := range r.reservations {
		for _, h := range rsv.Holds {
			got, err := l.db.Peek(t.Context(), []ledger.AccountKey{h.Account})
			must(t, err)
			r.accounts[h.Account] = got[0]
		}
	}
}
