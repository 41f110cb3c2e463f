package postgrestest

import (
	"bytes"
	"net"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// Proxy stands between a node and PostgreSQL and cuts connections where the test says. What the node sends at once is one
// trip; it counts those of the connections that write.
type Proxy struct {
	target string

	mu       sync.Mutex
	conns    map[net.Conn]struct{}
	trip     int  // trips until the cut; 0 = no cut
	answered bool // the cut is after PostgreSQL got the trip, before the node gets the answer
	commit   bool // the cut is at the next commit, however many trips come before it
	closed   bool // nobody gets through after the cut
}

// NewProxy starts a proxy in front of a database for the length of a test and returns the connection string through it.
func NewProxy(t testing.TB, database string) (*Proxy, string) {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{target: u.Host, conns: make(map[net.Conn]struct{})}
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
		p.CutAll()
		serving.Wait()
	})
	return p, u.String()
}

// Cut cuts the writing connection at its n-th trip from now on: before PostgreSQL gets it or, answered, after. With
// closed nobody gets through any more until Heal.
func (p *Proxy) Cut(n int, answered, closed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trip, p.commit, p.answered, p.closed = n, false, answered, closed
}

// CutCommit cuts the writing connection as Cut does, at the next trip with a COMMIT.
func (p *Proxy) CutCommit(answered, closed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trip, p.commit, p.answered, p.closed = 0, true, answered, closed
}

// CutAll cuts all connections now.
func (p *Proxy) CutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
	clear(p.conns)
}

// Down cuts all connections now, and lets nobody through until Heal.
func (p *Proxy) Down() {
	p.Cut(0, false, true)
	p.CutAll()
}

// Heal lets everybody through again.
func (p *Proxy) Heal() { p.Cut(0, false, false) }

// down reports whether nobody gets through.
func (p *Proxy) down() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed && p.trip == 0 && !p.commit
}

func (p *Proxy) serve(conn net.Conn) {
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
func (p *Proxy) ask(conn, server net.Conn, muted *atomic.Bool) {
	buf := make([]byte, 1<<20)
	writes := false
	var commit []byte // the name of the prepared statement
	for first := true; ; first = false {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		// Only the connections that write have this setting.
		writes = writes || first && bytes.Contains(buf[:n], []byte("idle_in_transaction_session_timeout"))
		if commit == nil {
			commit = prepared(buf[:n], "COMMIT")
		}
		cut, after := writes && p.counts(commit != nil && bytes.Contains(buf[:n], commit)), p.after()
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

// prepared finds the statement in a trip that prepares it, and returns how a trip that runs it names it; nil: it is not
// there. In a message that runs one, the name stands between the empty name of a portal and a zero.
func prepared(trip []byte, sql string) []byte {
	end := bytes.Index(trip, []byte("\x00"+sql+"\x00"))
	begin := bytes.LastIndex(trip[:max(end, 0)], []byte("stmtcache_"))
	if begin < 0 {
		return nil
	}
	return slices.Concat([]byte{0}, trip[begin:end], []byte{0})
}

// counts counts a trip and reports whether it is the one at which to cut.
func (p *Proxy) counts(commits bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.commit && commits {
		p.commit = false
		return true
	}
	if p.trip == 0 {
		return false
	}
	p.trip--
	return p.trip == 0
}

func (p *Proxy) after() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.answered
}

// fall cuts all connections if nobody is to get through.
func (p *Proxy) fall() {
	if p.down() {
		p.CutAll()
	}
}

// answer passes PostgreSQL's answers on, up to the one that nobody is to hear.
func (p *Proxy) answer(server, conn net.Conn, muted *atomic.Bool) {
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
