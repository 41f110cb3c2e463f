package crash

import (
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"
)

// line is a way that a test can break: a port that passes on what comes to a port of the loopback interface.
type line struct {
	t      testing.TB
	listen net.Listener

	mu      sync.Mutex
	changed *sync.Cond
	to      int     // port at the other end
	lost    [2]bool // all that is sent there, and back
	most    time.Duration
	ended   bool
	conns   map[net.Conn]bool
}

// newLine makes a line with its near end at an address of this machine.
func newLine(t testing.TB, address string, to int) *line {
	t.Helper()
	listen, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	l := &line{t: t, listen: listen, to: to, conns: make(map[net.Conn]bool)}
	l.changed = sync.NewCond(&l.mu)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listen.Accept()
			if err != nil {
				return
			}
			running.Go(func() { l.pass(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listen.Close()
		l.set(func() { l.ended, l.lost = true, [2]bool{} })
		l.cut()
		running.Wait()
	})
	return l
}

func (l *line) address() (string, int) {
	at := l.listen.Addr().(*net.TCPAddr)
	return at.IP.String(), at.Port
}

func (l *line) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
	l.changed.Broadcast()
}

func (l *line) lead(port int)           { l.set(func() { l.to = port }) }
func (l *line) lose(there, back bool)   { l.set(func() { l.lost = [2]bool{there, back} }) }
func (l *line) slow(most time.Duration) { l.set(func() { l.most = most }) }

func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.Close() // it may be closed already
	}
}

// direction is one of a line's two.
type direction int

const (
	there direction = iota
	back
)

// whole waits until nothing gets lost in a direction, and for as long as that takes, and returns the port at the other end;
// false: the test is over.
func (l *line) whole(d direction) (int, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.lost[d] {
		l.changed.Wait()
	}
	if l.most > 0 {
		wait := rand.N(l.most)
		l.mu.Unlock()
		time.Sleep(wait)
		l.mu.Lock()
	}
	return l.to, !l.ended
}

// keep has a connection broken with the line; false: the test is over.
func (l *line) keep(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = true
	return !l.ended
}

func (l *line) pass(near net.Conn) {
	defer l.done(near)
	if !l.keep(near) {
		return
	}
	to, ok := l.whole(there)
	if !ok {
		return
	}
	far, err := net.Dial("tcp", net.JoinHostPort(loopback, strconv.Itoa(to)))
	if err != nil {
		return // nobody listens there: the near end sees its connection end
	}
	defer l.done(far)
	if !l.keep(far) {
		return
	}
	var both sync.WaitGroup
	for d, ends := range [][2]net.Conn{there: {near, far}, back: {far, near}} {
		both.Go(func() {
			l.copy(direction(d), ends[0], ends[1])
			_, _ = ends[0].Close(), ends[1].Close() // where one direction ends, both do
		})
	}
	both.Wait()
}

func (l *line) done(c net.Conn) {
	_ = c.Close() // it may be closed already
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

func (l *line) copy(d direction, from io.Reader, to io.Writer) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, ok := l.whole(d); !ok {
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			l.whole(d) // that it has ended gets lost like everything else
			return
		}
	}
}
