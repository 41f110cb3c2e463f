package sim

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/postgres"
	"github.com/keybrake/keybrake/internal/store/postgres/postgrestest"
	"github.com/keybrake/keybrake/internal/vault"
)

// server is PostgreSQL in the loop: the engine asks it for each transaction and each read, tells the callers what it
// answers, and compares that with what the rows in memory come to. What fails is the way to it.
//
// Only one goroutine of the simulation runs at a time, and it waits here for an answer, so a run is as deterministic as it
// is in memory. What talks to PostgreSQL lives outside of the simulated time, or nothing would be waited for.
type server struct {
	work     chan func()
	done     chan struct{}
	proxy    *postgrestest.Proxy
	database string       // the way that is never cut
	through  string       // the product's way
	clock    atomic.Int64 // the simulated one, in microseconds
	master   *vault.Master
	db       *postgres.DB
}

// patience is how long the product waits for PostgreSQL. A run waits that long for each failure in which it cannot be
// reached; on a machine that stands still for longer a run fails for nothing.
const patience = 2 * time.Second

func newServer(t *testing.T) *server {
	s := &server{work: make(chan func()), done: make(chan struct{}), database: postgrestest.Database(t)}
	s.proxy, s.through = postgrestest.NewProxy(t, s.database)
	go func() {
		for f := range s.work {
			f()
			s.done <- struct{}{}
		}
	}()
	t.Cleanup(func() {
		close(s.work)
		if s.db != nil {
			must(t, s.db.Close())
		}
	})
	return s
}

// outside runs f outside of the simulated time while everybody waits. f must not touch what waits in it.
func (s *server) outside(f func()) {
	s.work <- f
	<-s.done
}

// serveBy lets a server decide; nil: none does.
func (w *world) serveBy(t testing.TB, s *server) {
	if s != nil {
		s.master, w.engine.server = w.master, s
		w.engine.differ = func(format string, args ...any) { w.auditor.fail("server", format, args...) }
		s.at(w.engine.time())
		s.outside(func() { must(t, s.open()) })
	}
	if w.network {
		w.reseed()
	}
}

func (s *server) at(now time.Time) { s.clock.Store(now.UnixMicro()) }

func (s *server) open() (err error) {
	s.db, err = postgres.Open(context.Background(), postgres.Options{
		URL: s.through + "&connect_timeout=30", Signer: s.master, MasterCheck: s.master.CheckValue(), Wait: patience,
		Clock: func() time.Time { return time.UnixMicro(s.clock.Load()).UTC() },
	})
	return err
}

// now is what the store says the time is.
func (s *server) now(clock time.Time) time.Time {
	s.at(clock)
	return s.db.Now()
}

// serves reports whether a server decides.
func (e *engine) serves() bool { return e.server != nil && !e.dead }

// restart ends the process without a word and opens the store again, long enough afterwards that the dead one's calls are
// taken over.
func (e *engine) restart() (err error) {
	s := e.server
	s.at(e.clock())
	s.outside(func() {
		s.proxy.Down()
		_ = s.db.Close() // it cannot say anything
		ctx := context.Background()
		var conn *pgx.Conn
		if conn, err = pgx.Connect(ctx, s.database); err != nil {
			return
		}
		defer conn.Close(ctx) //nolint:errcheck // it was answered
		if _, err = conn.Exec(ctx, `UPDATE nodes SET alive = 0, seen = 0`); err == nil {
			s.proxy.Heal()
			err = s.open()
		}
	})
	if err == nil {
		e.height()
	}
	return err
}

// serve has the server make a transaction, and the rows in memory follow. The error is that of the rows.
func (e *engine) serve(units []*unit, fault string) error {
	copies := make([]*unit, len(units))
	for i, u := range units {
		copies[i] = u.copy()
	}
	if units[0].update != nil {
		units[0].update, copies[0].update = twice(units[0].update)
	}
	e.server.ask(e.clock(), units, fault)
	err := e.transact(copies, fault)
	for i, u := range units {
		e.answered(&u.told, &copies[i].told)
	}
	if e.broken == nil {
		e.server.outside(e.server.proxy.Heal)
		if err != nil { // it says itself that all is well again; when it does must not be left to chance
			e.stamp()
			if err := e.server.calm(); err != nil {
				e.differ("the server does not recover: %v", err)
			}
		}
	}
	return err
}

// twice lets an action run in the server's transaction, and do what it did there in one of the rows in memory. What it
// tells its caller is what the server told it.
func twice(update func(store.Tx) error) (first, second func(store.Tx) error) {
	var did *scribe
	var said error
	first = func(t store.Tx) error {
		did = &scribe{Tx: t}
		said = update(did)
		return said
	}
	second = func(t store.Tx) error {
		switch {
		case did == nil:
			return errors.New("the server did not run it")
		case said != nil:
			return said
		}
		if err := did.write(t); err != nil {
			return fmt.Errorf("the rows in memory do not take it: %w", err)
		}
		if d := cmp.Diff(entriesOf(t), did.entries); d != "" {
			return fmt.Errorf("the server has other records: %s", d)
		}
		return nil
	}
	return first, second
}

func entriesOf(t store.Tx) []audit.Entry { return t.(*scribe).entries }

// ask has PostgreSQL make one transaction of units, which ends in a way.
func (s *server) ask(clock time.Time, units []*unit, fault string) {
	s.at(clock)
	strike := func() {
		switch how := endings[fault]; fault {
		case "":
		case unavailable:
			s.proxy.Down()
		default:
			s.proxy.CutCommit(how.kept, how.down)
		}
	}
	s.outside(func() {
		if len(units) == 1 {
			strike()
			units[0].ask(context.Background(), s.db)
			return
		}
		s.together(units, strike)
	})
}

// together queues units in their order while the writer is busy, so that it takes them all at once. Where the server is out
// of reach nothing keeps the writer busy, and their order means nothing.
func (s *server) together(units []*unit, strike func()) {
	ended := make(chan struct{})
	queue := func(u *unit) {
		u.ask(context.Background(), s.db)
		ended <- struct{}{}
	}
	queued := 0
	_ = s.db.Update(context.Background(), store.LaneControl, func(store.Tx) error {
		for ; queued < len(units); queued++ {
			go queue(units[queued])
			for s.db.Figures().Queued <= queued {
				time.Sleep(20 * time.Microsecond)
			}
		}
		strike()
		return errors.New("nothing to be kept")
	})
	for _, u := range units[queued:] {
		go queue(u)
	}
	for range units {
		<-ended
	}
}

// calm lets the store find out that its server is there again.
func (s *server) calm() (err error) {
	s.outside(func() {
		for until := time.Now().Add(time.Minute); time.Now().Before(until); time.Sleep(time.Millisecond) {
			if err = s.db.Update(context.Background(), store.LaneControl, func(store.Tx) error { return nil }); err == nil {
				return
			}
		}
	})
	return err
}

// reached is comeBack's for the server.
func (e *engine) reached() error {
	s := e.server
	s.at(e.clock())
	s.outside(s.proxy.Heal)
	if err := s.calm(); err != nil {
		return err
	}
	s.outside(func() { // what was admitted for nobody is let go of when the writer is next looked after
		for until := time.Now().Add(time.Minute); time.Now().Before(until) && s.db.Figures().Height < e.live.chain.Seq; {
			time.Sleep(time.Millisecond)
		}
	})
	e.height()
	return nil
}

// height compares the ends of the records.
func (e *engine) height() {
	chain := e.live.chain
	e.server.outside(func() {
		err := e.server.db.View(context.Background(), func(t store.Tx) (err error) {
			chain.Seq, chain.Hash, err = t.Height()
			return err
		})
		if err != nil || chain != e.live.chain {
			e.differ("after a restart the record of the server ends at %d %x (%v), want %d %x", chain.Seq, chain.Hash[:4], err, e.live.chain.Seq, e.live.chain.Hash[:4])
		}
	})
}

// looked reads from the server. want is the error that is expected.
func (e *engine) looked(fault string, want error, read func(store.DB) error) (err error) {
	s := e.server
	s.at(e.clock())
	s.outside(func() {
		switch {
		case fault == unavailable && e.broken == nil:
			s.proxy.Down()
			defer s.proxy.Heal()
			time.Sleep(150 * time.Millisecond) // what was read a moment ago is known
		case fault != "" && e.broken == nil:
			s.proxy.CutAll()
		}
		err = read(s.db)
	})
	if (want != nil) != (err != nil && !errors.Is(err, store.ErrNotFound)) {
		e.differ("a read (%q) was answered with %v, want %v", fault, err, want)
	}
	if want != nil {
		return want
	}
	return err
}

// answered compares what was said to a unit with what would have been said in memory. The text of an error is the one of
// memory from here on: the server's names ports, which go into records.
func (e *engine) answered(got, want *told) {
	kinds := func(err error) [3]bool { // waiting in vain for a server that is out of reach is either
		return [3]bool{err != nil, errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrBusy), errors.Is(err, store.ErrUncertain)}
	}
	if kinds(got.err) != kinds(want.err) {
		e.differ("an answer is the error %v, want %v", got.err, want.err)
	}
	if got.err == nil && want.err == nil {
		e.same("an answer", *got, *want)
	}
	got.err = want.err
}

// same compares what the server says with what the rows in memory say.
func (e *engine) same(what string, got, want any) {
	d := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmp.Exporter(func(reflect.Type) bool { return true }))
	if d != "" {
		e.differ("%s differs: %s", what, d)
	}
}
