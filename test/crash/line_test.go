package crash

import (
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
)

// line is a stretch of network between two processes that a test can break: a port of the loopback interface that passes
// on what comes to another one.
type line struct {
	t      testing.TB
	listen net.Listener

	mu      sync.Mutex
	changed *sync.Cond
	to      int // port at the other end
	holed   bool
	ended   bool
	conns   map[net.Conn]bool
}

func newLine(t testing.TB, to int) *line {
	t.Helper()
	listen, err := net.Listen("tcp", "127.0.0.1:0")
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
		l.set(func() { l.ended, l.holed = true, false })
		l.cut()
		running.Wait()
	})
	return l
}

func (l *line) port() int { return l.listen.Addr().(*net.TCPAddr).Port }

func (l *line) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
	l.changed.Broadcast()
}

// lead makes the line lead to another port; what is connected stays where it is.
func (l *line) lead(port int) { l.set(func() { l.to = port }) }

// hole lets everything that is sent get lost on the way, for all that either end can see; heal lets it arrive after all.
func (l *line) hole() { l.set(func() { l.holed = true }) }
func (l *line) heal() { l.set(func() { l.holed = false }) }

// cut breaks all connections that there are.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.Close() // it may be closed already
	}
}

// whole waits until nothing gets lost, and returns the port at the other end; false: the test is over.
func (l *line) whole() (int, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.holed {
		l.changed.Wait()
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
	to, ok := l.whole()
	if !ok {
		return
	}
	far, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(to)))
	if err != nil {
		return // nobody listens there: the near end sees its connection end
	}
	defer l.done(far)
	if !l.keep(far) {
		return
	}
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		both.Go(func() {
			l.copy(way[0], way[1])
			_, _ = way[0].Close(), way[1].Close() // where one way ends, both do
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

func (l *line) copy(from io.Reader, to io.Writer) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, ok := l.whole(); !ok {
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
