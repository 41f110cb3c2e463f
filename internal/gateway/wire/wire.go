// Package wire judges the bytes of HTTP/1.1 before net/http reads them.
//
// A handler sees a request too late: by then net/http has already chosen one of several possible readings.
// It takes Content-Length together with Transfer-Encoding, ends lines at a bare LF, joins folded headers and
// keeps the last of two equal headers. Whatever stands before or behind Keybrake may choose otherwise, and two
// readings of one message are how a request is smuggled past a check. So this package lets through only bytes
// that have one reading, and refuses the rest with an answer that Stripe's SDKs raise and never retry.
//
// It follows the framing of every request on a connection, also of pipelined ones, in constant memory: bytes go
// straight into the reader's buffer and are looked at there. It knows nothing of routes, keys or policies.
//
// What has one reading here: HTTP/1.1 and nothing older (1.0 has other rules for when a message ends); a target
// in origin form; header lines that end in CR LF, with nothing between name and colon, of printable bytes; one
// Host; at most one Authorization, Idempotency-Key, Content-Type, Expect and of each Stripe-* header; and a
// body framed by one Content-Length, or by chunks without extensions and trailers.
package wire

import (
	"errors"
	"net"
	"os"
	"sync"
)

// Limits bound the head of a request. A zero field takes its default.
type Limits struct {
	// Head is the longest head in bytes, from the method to the empty line. It must not exceed the
	// http.Server's MaxHeaderBytes, or net/http refuses first, in words that no SDK understands.
	Head int
	// HeaderLines is the greatest number of header lines.
	HeaderLines int
	// OnRefused is told of every refused connection, once, before the refusal is written, so that it can be
	// recorded. What it returns is sent as Request-Id and Keybrake-Audit-Id; empty sends neither. Called from
	// many goroutines at once. nil = nobody is told.
	OnRefused func(remote net.Addr, why Reason) (record string)
}

const (
	// DefaultHead is far above what the SDKs and load balancers send (1 to 4 kB).
	DefaultHead = 32 << 10
	// DefaultHeaderLines: SDKs send about 15, a chain of proxies some 30 more.
	DefaultHeaderLines = 100
)

// Listen returns a listener whose connections deliver nothing but HTTP/1.1 with one reading. It is given to
// http.Server.Serve, whose handler must read a body to its end before it acts on a request: an error in the
// framing of a body shows itself as an error of the body's Read, and the agent has then been answered.
//
// It must see plain text. For TLS it goes around the TLS listener, never inside it, and the TLS configuration
// offers http/1.1 alone, because net/http speaks HTTP/2 only on connections it knows to be TLS:
//
//	config.NextProtos = []string{"http/1.1"}
//	server.Serve(wire.Listen(tls.NewListener(l, config), limits))
//
// The handshake then happens at the first read, under the server's ReadHeaderTimeout, and Request.TLS is nil.
func Listen(l net.Listener, limits Limits) net.Listener {
	if limits.Head <= 0 {
		limits.Head = DefaultHead
	}
	if limits.HeaderLines <= 0 {
		limits.HeaderLines = DefaultHeaderLines
	}
	return &listener{Listener: l, limits: &limits}
}

type listener struct {
	net.Listener
	limits *Limits
}

// Accept waits for the next connection and puts the guard around it.
func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newConn(c, l.limits), nil
}

// conn is one guarded connection. Read is called by one goroutine at a time, as net/http does; Write may run
// beside it.
//
// The order of answers is net/http's: a refusal must wait until the requests before it are answered. Two
// facts make that simple. A Read never delivers bytes of two requests, and net/http reads at most one byte
// ahead of the request that it serves (to notice that a client left). So once the first byte of a request has
// been delivered, the next Read means that every earlier answer has been written.
type conn struct {
	net.Conn
	limits *Limits
	scan   scanner
	// rest holds bytes of later requests that came with the end of an earlier one; at most one read's worth.
	rest []byte
	// delivered: a byte of the current request has been handed up.
	delivered bool
	// begun: the whole head has been handed up, so a handler may be at work.
	begun bool
	// why is set once a violation was seen; the next Read refuses.
	why Reason

	mu sync.Mutex // orders a refusal and the server's own writing
	// answered: the server has begun to answer the current request, so that a refusal can only hang up.
	answered bool
	refused  bool
}

func newConn(c net.Conn, limits *Limits) *conn {
	return &conn{Conn: c, limits: limits, scan: scanner{limits: limits}}
}

// standIn is handed up in place of the first byte of a refused request: net/http then comes back for more,
// which it does only when it has answered everything before.
const standIn = 'X'

// Read delivers bytes of at most one request. It fails once a violation was seen.
func (c *conn) Read(p []byte) (int, error) {
	if c.why != "" {
		return 0, c.refuse()
	}
	kept := len(c.rest) > 0
	n, err := c.fill(p)
	if n == 0 {
		if errors.Is(err, os.ErrDeadlineExceeded) && c.scan.state.inHead() && c.scan.head > 0 {
			c.why = TooSlow
			return 0, c.refuse()
		}
		return 0, err
	}
	if c.scan.state == stDone {
		c.scan.reset()
		c.delivered, c.begun = false, false
	}
	used, why := c.scan.scan(p[:n])
	if why != "" {
		return c.violation(p, why)
	}
	if !c.begun && !c.scan.state.inHead() {
		c.begin()
	}
	c.delivered = true
	switch {
	case kept && used < len(c.rest):
		c.rest = c.rest[used:]
	case kept:
		c.rest = nil
	case used < n:
		c.rest = append(c.rest, p[used:n]...)
		err = nil // the next read meets it again, after what is kept
	}
	return used, err
}

// fill copies what was kept from an earlier read, else reads.
func (c *conn) fill(p []byte) (int, error) {
	if len(c.rest) == 0 || len(p) == 0 {
		return c.Conn.Read(p)
	}
	return copy(p, c.rest), nil
}

// violation remembers why, and refuses at once if net/http has already begun with this request.
func (c *conn) violation(p []byte, why Reason) (int, error) {
	c.why = why
	if c.delivered {
		return 0, c.refuse()
	}
	c.delivered = true
	p[0] = standIn
	return 1, nil
}

// begin notes that a new request will be served. What was written until now belongs to others.
func (c *conn) begin() {
	c.mu.Lock()
	c.answered = false
	c.mu.Unlock()
	c.begun = true
}

// Write writes what the server answers. After a refusal it fails: one request gets one answer.
func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused {
		return 0, net.ErrClosed
	}
	if !isContinue(p) {
		c.answered = true
	}
	return c.Conn.Write(p)
}

// closeWriter is a connection that can end its own half, as TCP and TLS can.
type closeWriter interface{ CloseWrite() error }

// CloseWrite ends the half that we write, where the connection can. net/http uses it before it hangs up on a
// client that still sends.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(closeWriter); ok {
		return half.CloseWrite()
	}
	return nil
}
