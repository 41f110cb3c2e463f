package wire_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/keybrake/keybrake/internal/gateway/wire"
)

// outcome is all that the two sides of a connection can see of it.
type outcome struct {
	Arrivals []arrival
	Refusals []wire.Reason
	Statuses []int
}

func run(t testing.TB, raw string, sizes ...int) outcome {
	s := start(t, wire.Limits{})
	replies := send(t, s.addr, raw, sizes...)
	arrivals, refusals := s.seen()
	return outcome{arrivals, refusals, statuses(replies)}
}

func TestHowBytesArriveChangesNothing(t *testing.T) {
	var all []string
	for _, tt := range refused {
		all = append(all, tt.raw)
	}
	for _, tt := range passed {
		if !strings.Contains(tt.raw, "Expect:") { // whether 100 is sent depends on whether the body is there
			all = append(all, tt.raw)
		}
	}
	for i, raw := range all {
		if len(raw) > 4096 {
			all[i] = raw[:4096]
		}
	}
	rapid.Check(t, func(r *rapid.T) {
		raw := rapid.SampledFrom([]string{"", get, chunks, fixed + chunks}).Draw(r, "before") +
			rapid.SampledFrom(all).Draw(r, "request") + rapid.SampledFrom([]string{"", get}).Draw(r, "after")
		sizes := rapid.SliceOfN(rapid.IntRange(1, 40), 1, 6).Draw(r, "sizes")
		if diff := cmp.Diff(run(t, raw), run(t, raw, sizes...)); diff != "" {
			r.Fatalf("in one piece (-), in pieces (+):\n%s", diff)
		}
	})
}

func TestOneByteAtATimeGivesTheSame(t *testing.T) {
	for _, tt := range refused {
		if len(tt.raw) > 300 {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			got := run(t, get+tt.raw, 1)
			want := outcome{[]arrival{{"GET", "/v1/charges?limit=3", ""}}, []wire.Reason{tt.want}, []int{200, 400}}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// script is a connection that delivers given bytes in pieces of a given size and remembers what was written.
type script struct {
	net.Conn
	in   *bytes.Reader
	size int
	out  bytes.Buffer
}

func (s *script) Read(p []byte) (int, error)       { return s.in.Read(p[:min(len(p), s.size)]) }
func (s *script) Write(p []byte) (int, error)      { return s.out.Write(p) }
func (s *script) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }
func (s *script) Close() error                     { return nil }

// one is a listener with one connection.
type one struct{ c net.Conn }

func (o one) Accept() (net.Conn, error) { return o.c, nil }
func (o one) Close() error              { return nil }
func (o one) Addr() net.Addr            { return &net.TCPAddr{} }

// through is what the guard lets through of raw, and whether it refused.
func through(t *testing.T, raw []byte, size int) (passed []byte, refused bool) {
	limits := wire.Limits{Head: 1 << 10, OnRefused: func(net.Addr, wire.Reason) string {
		if refused {
			t.Error("refused twice")
		}
		refused = true
		return ""
	}}
	s := &script{in: bytes.NewReader(raw), size: size}
	c, err := wire.Listen(one{s}, limits).Accept()
	if err != nil {
		t.Fatal(err)
	}
	passed, err = io.ReadAll(c)
	if (err != nil) != refused {
		t.Errorf("refused: %v, but reading gave %v", refused, err)
	}
	if refused != strings.HasPrefix(s.out.String(), "HTTP/1.1 400 ") {
		t.Errorf("refused: %v, but the client read %q", refused, s.out.String())
	}
	return passed, refused
}

// reading is how net/http understands b, which must be nothing but whole requests.
func reading(b []byte) (requests []arrival, err error) {
	r := bufio.NewReader(bytes.NewReader(b))
	for {
		req, err := http.ReadRequest(r)
		if err == io.EOF {
			return requests, nil
		}
		if err != nil {
			return requests, err
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return requests, err
		}
		requests = append(requests, arrival{req.Method, req.RequestURI, string(body)})
	}
}

// strict is a second, slow reading of b by the rules of this package, written without looking at the first: it
// splits where the guard must split. whole is what of b are requests that have their end.
func strict(b string) (requests []arrival, whole string) {
	all := b
	for {
		whole = all[:len(all)-len(b)]
		head, rest, ok := strings.Cut(b, "\r\n\r\n")
		if !ok {
			return requests, whole
		}
		lines := strings.Split(head, "\r\n")
		first := strings.Split(lines[0], " ")
		if len(first) != 3 {
			return requests, whole
		}
		body, rest, ok := strictBody(lines[1:], rest)
		if !ok {
			return requests, whole
		}
		requests = append(requests, arrival{first[0], first[1], body})
		b = rest
	}
}

func strictBody(lines []string, b string) (body, rest string, ok bool) {
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		switch strings.ToLower(name) {
		case "content-length":
			n := 0
			for _, c := range strings.Trim(value, " \t") {
				n = min(n*10+int(c-'0'), 1<<30)
			}
			if len(b) < n {
				return "", "", false
			}
			return b[:n], b[n:], true
		case "transfer-encoding":
			return strictChunks(b)
		}
	}
	return "", b, true
}

func strictChunks(b string) (body, rest string, ok bool) {
	for {
		line, after, ok := strings.Cut(b, "\r\n")
		if !ok {
			return "", "", false
		}
		n := 0
		for _, c := range strings.ToLower(line) {
			n = min(n*16+strings.IndexRune("0123456789abcdef", c), 1<<30)
		}
		if len(after) < n+2 {
			return "", "", false
		}
		body, b = body+after[:n], after[n+2:]
		if n == 0 {
			return body, b, true
		}
	}
}

// FuzzWhatPassesHasOneReading holds three readers against each other: the guard, net/http and a plain one.
func FuzzWhatPassesHasOneReading(f *testing.F) {
	for _, tt := range refused {
		if len(tt.raw) < 1<<10 {
			f.Add([]byte(get+tt.raw), byte(7))
		}
	}
	for _, tt := range passed {
		f.Add([]byte(tt.raw), byte(200))
	}
	f.Fuzz(func(t *testing.T, raw []byte, size byte) {
		got, refusedHere := through(t, raw, int(size)+1)
		all, _ := through(t, raw, len(raw)+1)
		want, whole := strict(string(got))
		if other, _ := strict(string(all)); !cmp.Equal(want, other) {
			t.Fatalf("pieces of %d bytes change what passes:\n%s", int(size)+1, cmp.Diff(other, want))
		}
		if !refusedHere && !bytes.Equal(got, raw) {
			t.Fatalf("%d of %d bytes passed without a refusal", len(got), len(raw))
		}
		theirs, err := reading([]byte(whole))
		if err != nil {
			t.Fatalf("net/http refuses what passed: %v\n%q", err, whole)
		}
		if diff := cmp.Diff(want, theirs); diff != "" {
			t.Fatalf("plain (-), net/http (+) on %q:\n%s", whole, diff)
		}
	})
}
