package postgres_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/postgres"
	"github.com/keybrake/keybrake/internal/store/postgres/postgrestest"
	"github.com/keybrake/keybrake/internal/store/storetest"
)

// proxy stands between a node and PostgreSQL and cuts connections where the test says. What the node sends at once is one
// trip; it counts those of the connections that write.
type proxy struct {
	target string

	mu       sync.Mutex
	conns    map[net.Conn]struct{}
	trip     int  // trips until the cut; 0 = no cut
	answered bool // the cut is after PostgreSQL got the trip, before the node gets the answer
	closed   bool // nobody gets through after the cut
}

func newProxy(t testing.TB, database string) (*proxy, string) {
	t.Helper()
	u, err := url.Parse(database)
	must(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &proxy{target: u.Host, conns: make(map[net.Conn]struct{})}
	u.Host = l.Addr().String()
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { p.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.cutAll()
		serving.Wait()
	})
	return p, u.String()
}

// cut cuts the writing connection at its n-th trip from now on: before PostgreSQL gets it or, answered, after. With
// closed nobody gets through any more until heal.
func (p *proxy) cut(n int, answered, closed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trip, p.answered, p.closed = n, answered, closed
}

func (p *proxy) heal() { p.cut(0, false, false) }

func (p *proxy) cutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

// down reports whether nobody gets through.
func (p *proxy) down() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed && p.trip == 0
}

func (p *proxy) serve(conn net.Conn) {
	defer conn.Close() //nolint:errcheck // it is cut
	if p.down() {
		return
	}
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer server.Close() //nolint:errcheck // it is cut
	p.mu.Lock()
	p.conns[conn], p.conns[server] = struct{}{}, struct{}{}
	p.mu.Unlock()
	var muted atomic.Bool
	var both sync.WaitGroup
	both.Go(func() {
		p.ask(conn, server, &muted)
		_, _ = conn.Close(), server.Close()
	})
	both.Go(func() {
		p.answer(server, conn, &muted)
		_, _ = conn.Close(), server.Close()
	})
	both.Wait()
}

// ask passes the node's trips on, up to the cut.
func (p *proxy) ask(conn, server net.Conn, muted *atomic.Bool) {
	buf := make([]byte, 1<<20)
	writes := false
	for first := true; ; first = false {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		// Only the connections that write have this setting.
		writes = writes || first && bytes.Contains(buf[:n], []byte("idle_in_transaction_session_timeout"))
		cut, after := writes && p.counts(), p.after()
		if cut && !after {
			p.fall()
			return
		}
		muted.Store(cut)
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}

// counts counts a trip and reports whether it is the one at which to cut.
func (p *proxy) counts() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.trip == 0 {
		return false
	}
	p.trip--
	return p.trip == 0
}

func (p *proxy) after() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.answered
}

// fall cuts all connections if nobody is to get through.
func (p *proxy) fall() {
	if p.down() {
		p.cutAll()
	}
}

// answer passes PostgreSQL's answers on, up to the one that nobody is to hear.
func (p *proxy) answer(server, conn net.Conn, muted *atomic.Bool) {
	buf := make([]byte, 1<<20)
	for {
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		if muted.Load() {
			p.fall()
			return
		}
		if _, err := conn.Write(buf[:n]); err != nil {
			return
		}
	}
}

// cuts are the places at which a transaction of two trips can be cut.
var cuts = map[string]struct {
	trip     int
	answered bool
}{
	"before the lock is asked for":         {1, false},
	"when the lock was taken":              {1, true},
	"before the writes arrive":             {2, false},
	"when it was committed, but not heard": {2, true},
}

func TestACutConnectionLosesAndDoublesNothing(t *testing.T) {
	database := postgrestest.Database(t)
	p, through := newProxy(t, database)
	db := node(t, postgres.Options{URL: through})
	version := storetest.Key(t, db, "key_1")
	caps := []policy.Cap{storetest.DayCap("refunds", 1000)}
	calls := map[string]func() (*ledger.Reservation, error){
		"an admission": func() (*ledger.Reservation, error) {
			a, err := db.Admit(t.Context(), admission(version, caps, 100))
			return a.Reservation, err
		},
		"a settlement": func() (*ledger.Reservation, error) {
			a, err := db.Admit(t.Context(), admission(version, caps, 100))
			must(t, err)
			_, err = db.Resolve(t.Context(), storetest.Settle(a.Reservation))
			return nil, err
		},
	}
	_, _ = calls["an admission"]() // so that every statement is prepared and a transaction has its two trips
	_, err := calls["a settlement"]()
	must(t, err)
	before := booked(t, db, database)
	for name, c := range cuts {
		for what := range calls {
			t.Run(what+" "+name, func(t *testing.T) {
				switch what {
				case "an admission":
					p.cut(c.trip, c.answered, false)
				case "a settlement": // the admission before it goes through
					p.cut(c.trip+2, c.answered, false)
				}
				if _, err := calls[what](); err != nil {
					t.Error(err)
				}
				want := before
				want.reservations, want.intents, want.records = want.reservations+1, want.intents+1, want.records+1
				if what == "an admission" {
					want.held += 1_000_000
				} else {
					want.settled, want.records = want.settled+1_000_000, want.records+1
				}
				if before = booked(t, db, database); before != want {
					t.Errorf("%+v, want %+v", before, want)
				}
			})
		}
	}
}

// TestWhatWasAdmittedForNobodyIsReleased cuts a node off right after PostgreSQL has committed: its caller must be refused,
// and the hold that is there must go once the node is back.
func TestWhatWasAdmittedForNobodyIsReleased(t *testing.T) {
	database := postgrestest.Database(t)
	p, through := newProxy(t, database)
	db := node(t, postgres.Options{URL: through, Wait: 500 * time.Millisecond})
	version := storetest.Key(t, db, "key_1")
	caps := []policy.Cap{storetest.DayCap("refunds", 1000), {Resource: "refunds", Per: policy.PerDay, Unit: policy.UnitCalls, Limit: 10}}
	_, err := db.Admit(t.Context(), admission(version, caps, 100))
	must(t, err)
	before := booked(t, db, database)
	p.cut(2, true, true)
	if a, err := db.Admit(t.Context(), admission(version, caps, 100)); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("nobody can know whether it is durable: %+v, %v", a, err)
	}
	if err := db.Check(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("it is ready: %v", err)
	}
	p.heal()
	for db.Check(t.Context()) != nil || len(proven(t, db, "not_sent")) == 0 {
		time.Sleep(10 * time.Millisecond) // the next tick finds out
	}
	got := booked(t, db, database)
	before.reservations, before.intents, before.records = before.reservations+1, before.intents+1, before.records+2
	if got != before {
		t.Errorf("%+v, want %+v", got, before)
	}
}

// proven are the outcome records with a proof.
func proven(t testing.TB, db store.DB, proof string) (out []*audit.Record) {
	t.Helper()
	must(t, db.View(t.Context(), func(tx store.Tx) error {
		return tx.EachRecord(1, func(e audit.Entry) error {
			r, err := audit.Decode(e.Bytes)
			if err == nil && r.Proof == proof {
				out = append(out, r)
			}
			return err
		})
	}))
	return out
}

// TestAnActionThatIsCutOffIsThereOrNot: an operator's action is not run again once it was run; what its answer says is
// what is there.
func TestAnActionThatIsCutOffIsThereOrNot(t *testing.T) {
	database := postgrestest.Database(t)
	p, through := newProxy(t, database)
	db := node(t, postgres.Options{URL: through})
	for name, c := range map[string]struct {
		trip     int // the lock, the record, the commit
		answered bool
		there    int
	}{
		"before the lock is asked for":         {1, false, 1}, // it was not run yet, so it is begun again
		"when the lock was taken":              {1, true, 1},
		"before its record arrives":            {2, false, 0},
		"when its record was written":          {2, true, 0},
		"before it is committed":               {3, false, 0},
		"when it was committed, but not heard": {3, true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			runs := 0
			act := func(action string) error {
				return db.Update(t.Context(), store.LaneControl, func(tx store.Tx) error {
					runs++
					_, err := tx.Append(&audit.Record{Kind: audit.KindSystem, Action: action})
					return err
				})
			}
			must(t, act("first")) // so that every statement is prepared and an action has its three trips
			runs = 0
			stamp := fmt.Sprint(t.Name(), time.Now())
			p.cut(c.trip, c.answered, false)
			err := act(stamp)
			p.heal()
			there := 0
			must(t, db.View(t.Context(), func(tx store.Tx) error {
				return tx.EachRecord(1, func(e audit.Entry) error {
					r, err := audit.Decode(e.Bytes)
					if err == nil && r.Action == stamp {
						there++
					}
					return err
				})
			}))
			if runs != 1 || there != c.there || (err == nil) != (there == 1) {
				t.Errorf("it was run %d times and is there %d times, and its caller was told %v; want %d", runs, there, err, c.there)
			}
		})
	}
}
