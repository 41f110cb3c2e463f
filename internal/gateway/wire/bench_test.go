package wire_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/gateway/wire"
)

// ordinary is a request as stripe-node sends it, telemetry included.
const ordinary = "POST /v1/payment_intents HTTP/1.1\r\n" +
	"Authorization: Bearer vault_key_test_3xampleK3y3xampleK3y3xampl3abcdef\r\n" +
	"Accept: application/json\r\n" +
	"Content-Type: application/x-www-form-urlencoded\r\n" +
	"User-Agent: Stripe/v1 NodeBindings/23.1.0\r\n" +
	"X-Stripe-Client-User-Agent: {\"bindings_version\":\"23.1.0\",\"lang\":\"node\",\"publisher\":\"stripe\",\"lang_version\":\"v20\"}\r\n" +
	"X-Stripe-Client-Telemetry: {\"last_request_metrics\":{\"request_id\":\"req_1\",\"request_duration_ms\":31}}\r\n" +
	"Stripe-Version: 2026-08-26.endive\r\n" +
	"Idempotency-Key: stripe-node-retry-0c1f5b7e-5b0e-4a39-9ad1-3d4f3f3d8a10\r\n" +
	"Content-Length: 24\r\n" +
	"Host: 127.0.0.1:8787\r\n" +
	"Connection: keep-alive\r\n\r\n" +
	"amount=2000&currency=usd"

var ordinaryBytes = []byte(ordinary)

// endless repeats one request, one per read as a keep-alive client does.
type endless struct {
	net.Conn
	rest []byte
}

func (e *endless) Read(p []byte) (int, error) {
	if len(e.rest) == 0 {
		e.rest = ordinaryBytes
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

func BenchmarkRead(b *testing.B) {
	for _, kind := range []string{"plain", "guarded"} {
		b.Run(kind, func(b *testing.B) {
			var c net.Conn = &endless{}
			if kind == "guarded" {
				var err error
				if c, err = wire.Listen(one{c}, wire.Limits{}).Accept(); err != nil {
					b.Fatal(err)
				}
			}
			p := make([]byte, 4096)
			b.SetBytes(int64(len(ordinary)))
			b.ReportAllocs()
			for b.Loop() {
				if n, err := c.Read(p); n != len(ordinary) || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	for _, kind := range []string{"plain", "guarded"} {
		b.Run(kind, func(b *testing.B) {
			addr := startKind(b, kind)
			c, err := net.Dial("tcp", addr)
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			p := make([]byte, 4096)
			for b.Loop() {
				if _, err := io.WriteString(c, ordinary); err != nil {
					b.Fatal(err)
				}
				if n, err := c.Read(p); err != nil || !bytes.HasPrefix(p[:n], []byte("HTTP/1.1 200")) {
					b.Fatalf("%q, %v", p[:n], err)
				}
			}
		})
	}
}

func startKind(b *testing.B, kind string) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	addr := l.Addr().String()
	if kind == "guarded" {
		l = wire.Listen(l, wire.Limits{})
	}
	s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(w, r.Body); err != nil {
			b.Error(err)
		}
	})}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
		<-done
	})
	return addr
}
