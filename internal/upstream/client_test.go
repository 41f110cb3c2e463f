package upstream_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keybrake/keybrake/internal/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open is a credential that says yes to one host and puts a mark on the request.
type open struct{ base *url.URL }

func (o open) Attach(r *http.Request) error {
	if r.URL.Host != o.base.Host {
		return errors.New("another host")
	}
	r.Header["Authorization"] = []string{"Bearer secret"}
	return nil
}

// target is a server that reads requests and, when told to, drops the connection after reading one.
type target struct {
	*httptest.Server
	base     *url.URL
	drop     atomic.Bool
	mu       sync.Mutex
	arrivals []string
	headers  []http.Header
	conns    map[string]bool
}

func newTarget(t *testing.T, h2 bool) (*target, *upstream.Client) {
	t.Helper()
	s := &target{conns: make(map[string]bool)}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // a broken body shows as a short one
		s.mu.Lock()
		s.arrivals = append(s.arrivals, r.Proto+" "+r.Method+" "+r.URL.EscapedPath()+" "+string(body))
		s.headers = append(s.headers, r.Header.Clone())
		s.conns[r.RemoteAddr] = true
		s.mu.Unlock()
		if s.drop.Load() {
			s.CloseClientConnections() // the connection itself, also under HTTP/2, where a handler ends a stream only
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, "{}")
	}))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	var config *tls.Config
	if h2 {
		s.EnableHTTP2 = true
		s.StartTLS()
		config = s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		config.NextProtos = nil
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	base, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	s.base = base
	c := upstream.NewClient(config)
	t.Cleanup(c.Close)
	return s, c
}

// net/http sends a request again by itself on a reused connection that breaks, if it believes that this does
// no harm. With money it does. So what counts is how often a request arrives.
func TestAWriteArrivesExactlyOnce(t *testing.T) {
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		for _, c := range []struct {
			name string
			r    upstream.Request
		}{
			{"a POST with a body", upstream.Request{Method: "POST", Path: "/v1/refunds", Body: []byte("charge=ch_1"), IdempotencyKey: "k"}},
			{"a confirmation with an empty body", upstream.Request{Method: "POST", Path: "/v1/payment_intents/pi_1/confirm", IdempotencyKey: "k"}},
			{"a cancellation with an empty body", upstream.Request{Method: "POST", Path: "/v1/payment_intents/pi_1/cancel", IdempotencyKey: "k"}},
			{"a payment with an empty body", upstream.Request{Method: "POST", Path: "/v1/invoices/in_1/pay", IdempotencyKey: "k"}},
			{"a DELETE", upstream.Request{Method: "DELETE", Path: "/v1/subscriptions/sub_1", IdempotencyKey: "k"}},
			{"a DELETE with a query", upstream.Request{Method: "DELETE", Path: "/v1/subscriptions/sub_1", Query: "prorate=true", IdempotencyKey: "k"}},
		} {
			t.Run(proto+" "+c.name, func(t *testing.T) {
				s, client := newTarget(t, proto == "HTTP/2.0")
				warm := client.Do(t.Context(), s.base, open{s.base}, &upstream.Request{Method: "GET", Path: "/v1/charges"})
				if warm.Err != nil {
					t.Fatal(warm.Err)
				}
				s.drop.Store(true)
				c.r.Header = http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
				answer := client.Do(t.Context(), s.base, open{s.base}, &c.r)
				if answer.Err == nil || !answer.Sent || answer.Status != 0 {
					t.Errorf("%+v", answer)
				}
				s.mu.Lock()
				defer s.mu.Unlock()
				if len(s.arrivals) != 2 || !strings.HasPrefix(s.arrivals[1], proto+" "+c.r.Method) {
					t.Fatalf("arrived: %q", s.arrivals)
				}
				if len(s.conns) != 1 {
					t.Errorf("%d connections: the write must have met the reused one", len(s.conns))
				}
				if got := s.headers[1]["Idempotency-Key"]; len(got) != 1 || got[0] != "k" {
					t.Errorf("idempotency key %q", got)
				}
			})
		}
	}
}

func TestOnlyWhatWasBuiltIsSent(t *testing.T) {
	s, client := newTarget(t, false)
	answer := client.Do(t.Context(), s.base, open{s.base}, &upstream.Request{
		Method: "GET", Path: "/v1/coupons/a%2Fb", Query: "x=1", Header: http.Header{"Stripe-Version": {"v"}},
	})
	if answer.Err != nil || answer.Status != 200 || string(answer.Body) != "{}" || !answer.Sent || answer.Took <= 0 {
		t.Fatalf("%+v", answer)
	}
	if s.arrivals[0] != "HTTP/1.1 GET /v1/coupons/a%2Fb " {
		t.Errorf("%q", s.arrivals[0])
	}
	h := s.headers[0]
	if h.Get("Authorization") != "Bearer secret" || h.Get("Stripe-Version") != "v" {
		t.Errorf("%v", h)
	}
	if e := h.Get("Accept-Encoding"); e != "" && e != "identity" {
		t.Errorf("asks for %q, which nobody here reads", e)
	}
}

func TestACredentialThatRefusesSendsNothing(t *testing.T) {
	s, client := newTarget(t, false)
	elsewhere := &url.URL{Scheme: "http", Host: "elsewhere.invalid"}
	answer := client.Do(t.Context(), s.base, open{elsewhere}, &upstream.Request{Method: "POST", Path: "/v1/refunds"})
	if answer.Err == nil || answer.Sent || len(s.arrivals) != 0 {
		t.Fatalf("%+v", answer)
	}
}

func TestAProxyOfTheEnvironmentIsIgnored(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	s, client := newTarget(t, false)
	if answer := client.Do(t.Context(), s.base, open{s.base}, &upstream.Request{Method: "GET", Path: "/"}); answer.Err != nil {
		t.Fatal(answer.Err)
	}
}

// wire serves connections with a function each, below HTTP.
func wire(t *testing.T, serve func(net.Conn)) *url.URL {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); open.Wait() })
	return &url.URL{Scheme: "http", Host: l.Addr().String()}
}

func readRequest(conn net.Conn) {
	r, err := http.ReadRequest(bufio.NewReader(conn))
	if err == nil {
		_, _ = io.Copy(io.Discard, r.Body)
	}
}

// brokenServers end a call without an answer; sent is whether a byte of it may have been read.
var brokenServers = []struct {
	name  string
	base  func(t *testing.T) *url.URL
	sent  bool
	until time.Duration // 0 = no deadline
}{
	// A port that was free a moment ago may be somebody else's by now; the first one is nobody's.
	{"nobody listens", func(*testing.T) *url.URL { return &url.URL{Scheme: "http", Host: "127.0.0.1:1"} }, false, 0},
	{"the name does not resolve", func(*testing.T) *url.URL { return &url.URL{Scheme: "http", Host: "nowhere.invalid:80"} }, false, 0},
	{"TLS fails", func(t *testing.T) *url.URL {
		u := wire(t, func(conn net.Conn) { _, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n") })
		u.Scheme = "https"
		return u
	}, false, 0},
	{"the certificate is nobody's", func(t *testing.T) *url.URL {
		s := httptest.NewUnstartedServer(http.NotFoundHandler())
		s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
		s.StartTLS()
		t.Cleanup(s.Close)
		u, _ := url.Parse(s.URL)
		return u
	}, false, 0},
	{"TLS hangs", func(t *testing.T) *url.URL {
		u := wire(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
		u.Scheme = "https"
		return u
	}, false, 100 * time.Millisecond},
	{"it reads all and hangs up", func(t *testing.T) *url.URL { return wire(t, readRequest) }, true, 0},
	{"it hangs up at once", func(t *testing.T) *url.URL { return wire(t, func(conn net.Conn) { _, _ = conn.Read(make([]byte, 1)) }) }, true, 0},
	{"it reads all and hangs", func(t *testing.T) *url.URL { return wire(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }) }, true, time.Second},
	{"it answers nonsense", func(t *testing.T) *url.URL {
		return wire(t, func(conn net.Conn) { readRequest(conn); _, _ = io.WriteString(conn, "SSH-2.0-x\r\n\r\n") })
	}, true, 0},
	{"it answers without end before it answers", func(t *testing.T) *url.URL {
		return wire(t, func(conn net.Conn) {
			readRequest(conn)
			for range 1000 {
				if _, err := io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\n\r\n"); err != nil {
					return
				}
			}
		})
	}, true, 0},
	{"its headers have no end", func(t *testing.T) *url.URL {
		return wire(t, func(conn net.Conn) {
			readRequest(conn)
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
			for range 100_000 {
				if _, err := io.WriteString(conn, "X-A: "+strings.Repeat("a", 100)+"\r\n"); err != nil {
					return
				}
			}
		})
	}, true, 0},
}

func TestOnlyWhatWasSurelyNotWrittenCountsAsNotSent(t *testing.T) {
	for _, c := range brokenServers {
		t.Run(c.name, func(t *testing.T) {
			base := c.base(t)
			client := upstream.NewClient(nil)
			defer client.Close()
			ctx := t.Context()
			if c.until > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, c.until)
				defer cancel()
			}
			answer := client.Do(ctx, base, open{base}, &upstream.Request{Method: "POST", Path: "/v1/refunds", Body: []byte("a=b"), IdempotencyKey: "k"})
			if answer.Err == nil || answer.Sent != c.sent || answer.Status != 0 {
				t.Fatalf("%+v", answer)
			}
		})
	}
}

func TestAnAnswerIsWholeOrAnError(t *testing.T) {
	respond := func(text string) func(net.Conn) {
		return func(conn net.Conn) { readRequest(conn); _, _ = io.WriteString(conn, text) }
	}
	for _, c := range []struct {
		name   string
		serve  func(net.Conn)
		status int
		whole  bool
	}{
		{"a body of known length", respond("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), 200, true},
		{"an empty body", respond("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), 200, true},
		{"a chunked body", respond("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"), 200, true},
		{"a redirect is an answer", respond("HTTP/1.1 302 Found\r\nLocation: http://elsewhere.invalid/\r\nContent-Length: 0\r\n\r\n"), 302, true},
		{"a body that is cut", respond("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{}"), 200, false},
		{"a chunk that is cut", respond("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n{}"), 200, false},
		{"chunks that do not end", respond("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"), 200, false},
		{"more than anybody needs", respond(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", upstream.MaxAnswer+1)), 200, false},
		{"chunks of more than anybody needs", func(conn net.Conn) {
			readRequest(conn)
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			chunk := "100000\r\n" + strings.Repeat("a", 1<<20) + "\r\n"
			for range 20 {
				if _, err := io.WriteString(conn, chunk); err != nil {
					return
				}
			}
		}, 200, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			base := wire(t, c.serve)
			client := upstream.NewClient(nil)
			defer client.Close()
			answer := client.Do(t.Context(), base, open{base}, &upstream.Request{Method: "POST", Path: "/", Body: []byte("a=b")})
			if answer.Status != c.status || (answer.Err == nil) != c.whole || !answer.Sent {
				t.Fatalf("%d %v", answer.Status, answer.Err)
			}
			if len(answer.Body) > upstream.MaxAnswer {
				t.Fatalf("%d bytes", len(answer.Body))
			}
		})
	}
}

func TestATimeoutIsToldFromABrokenConnection(t *testing.T) {
	base := wire(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	client := upstream.NewClient(nil)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	answer := client.Do(ctx, base, open{base}, &upstream.Request{Method: "GET", Path: "/"})
	if !upstream.IsTimeout(answer.Err) {
		t.Errorf("%v", answer.Err)
	}
	if upstream.IsTimeout(errors.New("reset")) || upstream.IsTimeout(nil) {
		t.Error("anything is a timeout")
	}
}
