package wire_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keybrake/keybrake/internal/gateway/wire"
)

// arrival is one request as the handler saw it, its body read to the end.
type arrival struct{ Method, Target, Body string }

// server is a net/http server behind the guard, on a real socket.
type server struct {
	addr     string
	mu       sync.Mutex
	arrivals []arrival
	refusals []wire.Reason
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusTeapot) // must never reach the client: the guard has answered
		return
	}
	s.mu.Lock()
	s.arrivals = append(s.arrivals, arrival{r.Method, r.URL.RequestURI(), string(body)})
	s.mu.Unlock()
	_, _ = io.WriteString(w, "ok "+r.URL.Path) // a client that left shows itself in the test
}

func (s *server) refused(_ net.Addr, why wire.Reason) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusals = append(s.refusals, why)
	return "rec_1"
}

func (s *server) seen() ([]arrival, []wire.Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]arrival(nil), s.arrivals...), append([]wire.Reason(nil), s.refusals...)
}

func start(t testing.TB, limits wire.Limits) *server {
	t.Helper()
	s := &server{}
	if limits.OnRefused == nil {
		limits.OnRefused = s.refused
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	h := &http.Server{Handler: s, MaxHeaderBytes: wire.DefaultHead, ReadHeaderTimeout: time.Minute}
	done := make(chan error, 1)
	go func() { done <- h.Serve(wire.Listen(l, limits)) }()
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Errorf("close the server: %v", err)
		}
		if err := <-done; err != http.ErrServerClosed {
			t.Errorf("serve: %v", err)
		}
	})
	return s
}

// reply is one answer as the client read it.
type reply struct {
	Status int
	Body   string
	Header http.Header
	Close  bool
}

// send writes raw in pieces of the given sizes (the last size repeats; none = all at once), ends its half of the
// connection and reads every answer until the server hangs up.
func send(t testing.TB, addr, raw string, sizes ...int) []reply {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go write(c.(*net.TCPConn), raw, sizes)
	var replies []reply
	for r := bufio.NewReader(c); ; {
		answer, err := http.ReadResponse(r, nil)
		if err != nil {
			if len(replies) == 0 && err != io.ErrUnexpectedEOF && err != io.EOF {
				t.Logf("no answer: %v", err)
			}
			return replies
		}
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatalf("read an answer: %v", err)
		}
		replies = append(replies, reply{answer.StatusCode, string(body), answer.Header, answer.Close})
	}
}

// write sends raw in pieces. A refusing server may hang up in between, so errors only end it.
func write(c *net.TCPConn, raw string, sizes []int) {
	for i := 0; raw != ""; i++ {
		n := len(raw)
		if len(sizes) > 0 {
			n = min(n, sizes[min(i, len(sizes)-1)])
		}
		if _, err := c.Write([]byte(raw[:n])); err != nil {
			return
		}
		raw = raw[n:]
	}
	_ = c.CloseWrite() // the same: the server may have hung up
}

const (
	get    = "GET /v1/charges?limit=3 HTTP/1.1\r\nHost: a\r\n\r\n"
	fixed  = "POST /v1/refunds HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\ncharge=ch_1"
	coded  = "POST /v1/refunds HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
	chunks = coded + "7\r\ncharge=\r\n4\r\nch_1\r\n0\r\n\r\n"
)

// head is a request of the given header lines.
func head(lines ...string) string {
	return "POST /v1/refunds HTTP/1.1\r\nHost: a\r\n" + strings.Join(append(lines, "", ""), "\r\n")
}

var refused = []struct {
	name string
	raw  string
	want wire.Reason
}{
	{"Content-Length with Transfer-Encoding", head("Content-Length: 5", "Transfer-Encoding: chunked") + "0\r\n\r\n", wire.TwoFramings},
	{"Transfer-Encoding before Content-Length", head("Transfer-Encoding: chunked", "Content-Length: 5") + "0\r\n\r\n", wire.TwoFramings},
	{"Content-Length zero with Transfer-Encoding", head("Content-Length: 0", "Transfer-Encoding: chunked") + "0\r\n\r\n", wire.TwoFramings},
	{"two equal Content-Lengths", head("Content-Length: 1", "Content-Length: 1") + "a", wire.BadLength},
	{"two different Content-Lengths", head("Content-Length: 1", "content-length: 2") + "ab", wire.BadLength},
	{"a list of lengths", head("Content-Length: 1, 1") + "a", wire.BadLength},
	{"a signed length", head("Content-Length: +1") + "a", wire.BadLength},
	{"a negative length", head("Content-Length: -1"), wire.BadLength},
	{"a length in hexadecimal", head("Content-Length: 0x1") + "a", wire.BadLength},
	{"an empty length", head("Content-Length:"), wire.BadLength},
	{"a length with a leading zero", head("Content-Length: 010") + "aaaaaaaaaa", wire.BadLength},
	{"a length that overflows", head("Content-Length: 99999999999999999999"), wire.BadLength},
	{"a length longer than is kept", head("Content-Length: 1" + strings.Repeat(" ", 40) + "1"), wire.BadLength},
	{"an unknown coding", head("Transfer-Encoding: xchunked"), wire.BadCoding},
	{"identity", head("Transfer-Encoding: identity"), wire.BadCoding},
	{"two codings in a line", head("Transfer-Encoding: gzip, chunked"), wire.BadCoding},
	{"chunked twice in a line", head("Transfer-Encoding: chunked, chunked"), wire.BadCoding},
	{"two coding lines", head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), wire.BadCoding},
	{"a hidden coding", head("Transfer-Encoding: \x0bchunked"), wire.ControlByte},
	{"an empty coding", head("Transfer-Encoding:"), wire.BadCoding},
	{"a bare LF after the request line", "GET /v1/charges HTTP/1.1\nHost: a\r\n\r\n", wire.BareLF},
	{"a bare LF after a header", "GET /v1/charges HTTP/1.1\r\nHost: a\n\r\n", wire.BareLF},
	{"a bare LF at the end of the head", "GET /v1/charges HTTP/1.1\r\nHost: a\r\n\n", wire.BareLF},
	{"a bare LF in a name", head("X-A\nB: c"), wire.BareLF},
	{"a bare CR in a value", head("X-A: b\rTransfer-Encoding: chunked"), wire.BareCR},
	{"a bare CR after the version", "GET / HTTP/1.1\rHost: a\r\n\r\n", wire.BareCR},
	{"two CRs", "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", wire.BareCR},
	{"a NUL in a value", head("X-A: b\x00c"), wire.ControlByte},
	{"a NUL in a name", head("X-\x00A: b"), wire.ControlByte},
	{"a NUL in the target", "GET /v1\x00 HTTP/1.1\r\nHost: a\r\n\r\n", wire.ControlByte},
	{"an escape in a value", head("X-A: \x1b[31m"), wire.ControlByte},
	{"DEL in a value", head("X-A: \x7f"), wire.ControlByte},
	{"a folded header", head("X-A: b", " c"), wire.FoldedHeader},
	{"a folded header by tab", head("X-A: b", "\tc"), wire.FoldedHeader},
	{"a space before the first header", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", wire.FoldedHeader},
	{"a space before the colon", head("Content-Length : 5"), wire.SpaceBeforeColon},
	{"a tab before the colon", head("Transfer-Encoding\t: chunked"), wire.SpaceBeforeColon},
	{"a header without a colon", head("X-A"), wire.BadHeaderName},
	{"a header without a name", head(": a"), wire.BadHeaderName},
	{"a name beyond ASCII", head("X-\xc3\xa4: a"), wire.BadHeaderName},
	{"a name in brackets", head("X[a]: b"), wire.BadHeaderName},
	{"a name without end", head(strings.Repeat("x", 200) + ": a"), wire.BadHeaderName},
	{"two Hosts", head("host: b"), wire.RepeatedHeader},
	{"two Authorizations", head("Authorization: Bearer a", "AUTHORIZATION: Bearer b"), wire.RepeatedHeader},
	{"two Idempotency-Keys", head("Idempotency-Key: a", "idempotency-key: a"), wire.RepeatedHeader},
	{"two Stripe-Versions", head("Stripe-Version: a", "stripe-version: a"), wire.RepeatedHeader},
	{"two Stripe-Accounts", head("Stripe-Account: a", "Stripe-Version: v", "STRIPE-ACCOUNT: b"), wire.RepeatedHeader},
	{"two Content-Types", head("Content-Type: a/b", "Content-Type: a/b"), wire.RepeatedHeader},
	{"more Stripe headers than there are", head("Stripe-A: 1", "Stripe-B: 1", "Stripe-C: 1", "Stripe-D: 1", "Stripe-E: 1", "Stripe-F: 1", "Stripe-G: 1", "Stripe-H: 1", "Stripe-I: 1"), wire.TooManyHeaders},
	{"an absolute target", "GET http://169.254.169.254/v1/charges HTTP/1.1\r\nHost: a\r\n\r\n", wire.BadTarget},
	{"an authority target", "CONNECT api.stripe.com:443 HTTP/1.1\r\nHost: a\r\n\r\n", wire.BadMethod},
	{"CONNECT to a path", "CONNECT /v1/charges HTTP/1.1\r\nHost: a\r\n\r\n", wire.BadMethod},
	{"an asterisk target", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", wire.BadTarget},
	{"no target", "GET HTTP/1.1\r\nHost: a\r\n\r\n", wire.BadTarget},
	{"a fragment", "GET /v1/charges#a HTTP/1.1\r\nHost: a\r\n\r\n", wire.BadTarget},
	{"a broken escape in the path", "GET /v1/%zz HTTP/1.1\r\nHost: a\r\n\r\n", wire.BadTarget},
	{"half an escape in the path", "GET /v1/%4 HTTP/1.1\r\nHost: a\r\n\r\n", wire.BadTarget},
	{"a target beyond ASCII", "GET /v1/\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", wire.BadTarget},
	{"a tab in the target", "GET /v1\t/a HTTP/1.1\r\nHost: a\r\n\r\n", wire.ControlByte},
	{"two spaces before the version", "GET /  HTTP/1.1\r\nHost: a\r\n\r\n", wire.BadVersion},
	{"a space after the version", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", wire.BadVersion},
	{"no version", "GET /v1/charges\r\n\r\n", wire.BadTarget},
	{"HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\n\r\n", wire.BadVersion},
	{"HTTP/2.0", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", wire.BadVersion},
	{"a version in lower case", "GET / http/1.1\r\nHost: a\r\n\r\n", wire.BadVersion},
	{"the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", wire.BadTarget},
	{"a method in lower case", "get / HTTP/1.1\r\nHost: a\r\n\r\n", wire.BadMethod},
	{"a method without end", strings.Repeat("A", 40) + " / HTTP/1.1\r\nHost: a\r\n\r\n", wire.BadMethod},
	{"an empty line first", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", wire.BadMethod},
	{"the beginning of TLS", "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03", wire.BadMethod},
	{"no Host", "GET / HTTP/1.1\r\n\r\n", wire.BadHost},
	{"an empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", wire.BadHost},
	{"a Host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", wire.BadHost},
	{"two words in Host", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", wire.BadHost},
	{"an upgrade", head("Connection: Upgrade", "Upgrade: h2c"), wire.Upgrade},
	{"a promise of trailers", head("Transfer-Encoding: chunked", "Trailer: X-A") + "0\r\n\r\n", wire.Trailers},
	{"another expectation", head("Expect: 200-maybe"), wire.BadExpect},
	{"two expectations", head("Expect: 100-continue", "Expect: 100-continue"), wire.RepeatedHeader},
	{"a chunk extension", coded + "4;a=b\r\nch_1\r\n0\r\n\r\n", wire.ChunkExtension},
	{"an extension of the last chunk", coded + "4\r\nch_1\r\n0;a\r\n\r\n", wire.ChunkExtension},
	{"a space after a size", coded + "4 \r\nch_1\r\n0\r\n\r\n", wire.BadChunk},
	{"a size that is none", coded + "x\r\nch_1\r\n0\r\n\r\n", wire.BadChunk},
	{"a size with a prefix", coded + "0x4\r\nch_1\r\n0\r\n\r\n", wire.BadChunk},
	{"a negative size", coded + "-1\r\nch_1\r\n0\r\n\r\n", wire.BadChunk},
	{"no size", coded + "\r\nch_1\r\n0\r\n\r\n", wire.BadChunk},
	{"a size that overflows", coded + "FFFFFFFFFFFFFFFFF\r\nch_1", wire.BadChunk},
	{"a bare LF after a size", coded + "4\nch_1\r\n0\r\n\r\n", wire.BareLF},
	{"a bare CR after a size", coded + "4\rch_1\r\n0\r\n\r\n", wire.BareCR},
	{"a bare LF after a chunk", coded + "4\r\nch_1\n0\r\n\r\n", wire.BareLF},
	{"a chunk longer than its size", coded + "4\r\nch_12\r\n0\r\n\r\n", wire.BadChunk},
	{"a bare LF at the end of the body", coded + "0\r\n\n", wire.BareLF},
	{"a trailer", coded + "4\r\nch_1\r\n0\r\nX-A: b\r\n\r\n", wire.Trailers},
	{"a smuggled length in a trailer", coded + "0\r\nContent-Length: 5\r\n\r\n", wire.Trailers},
	{"a head longer than the limit", head("X-A: " + strings.Repeat("a", wire.DefaultHead)), wire.HeadTooLong},
	{"a target longer than the limit", "GET /" + strings.Repeat("a", wire.DefaultHead) + " HTTP/1.1\r\nHost: a\r\n\r\n", wire.HeadTooLong},
	{"more headers than the limit", head(strings.Split(strings.Repeat("X-A: b\n", wire.DefaultHeaderLines), "\n")...), wire.TooManyHeaders},
}

func TestARequestWithTwoReadingsIsRefused(t *testing.T) {
	for _, tt := range refused {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, wire.Limits{})
			replies := send(t, s.addr, tt.raw)
			arrivals, refusals := s.seen()
			if len(arrivals) != 0 {
				t.Errorf("the handler saw %v", arrivals)
			}
			if diff := cmp.Diff([]wire.Reason{tt.want}, refusals); diff != "" {
				t.Errorf("refusals (-want +got):\n%s", diff)
			}
			if len(replies) != 1 {
				t.Fatalf("%d answers, want 1: %v", len(replies), replies)
			}
			checkRefusal(t, replies[0], tt.want)
		})
	}
}

// checkRefusal holds an answer to what the SDKs need to raise their own error and not to repeat the call.
func checkRefusal(t *testing.T, r reply, why wire.Reason) {
	t.Helper()
	var body struct {
		Error struct {
			Type, Code, Message string
			Keybrake            struct {
				Code, Rule, Reason string
				AuditID            string `json:"audit_id"`
			}
		}
	}
	if err := json.Unmarshal([]byte(r.Body), &body); err != nil {
		t.Fatalf("the answer is not JSON: %v\n%s", err, r.Body)
	}
	e := body.Error
	if r.Status != http.StatusBadRequest || e.Type != "invalid_request_error" || e.Code != "keybrake_request_malformed" || e.Message == "" {
		t.Errorf("status %d, error %+v", r.Status, e)
	}
	if e.Keybrake.Reason != string(why) || e.Keybrake.Rule != "wire" || e.Keybrake.AuditID != "rec_1" {
		t.Errorf("error.keybrake is %+v, want reason %s", e.Keybrake, why)
	}
	if !r.Close {
		t.Error("the answer does not announce that the connection ends")
	}
	want := map[string]string{
		"Content-Type": "application/json", "Stripe-Should-Retry": "false",
		"Request-Id": "rec_1", "Keybrake-Audit-Id": "rec_1",
	}
	for name, value := range want {
		if got := r.Header.Get(name); got != value {
			t.Errorf("%s: %q, want %q", name, got, value)
		}
	}
}

func TestEveryRefusalAlsoComesAfterGoodRequests(t *testing.T) {
	for _, tt := range refused {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, wire.Limits{})
			replies := send(t, s.addr, chunks+get+fixed+tt.raw)
			arrivals, refusals := s.seen()
			want := []arrival{
				{"POST", "/v1/refunds", "charge=ch_1"}, {"GET", "/v1/charges?limit=3", ""}, {"POST", "/v1/refunds", "charge=ch_1"},
			}
			if diff := cmp.Diff(want, arrivals); diff != "" {
				t.Errorf("arrivals (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]wire.Reason{tt.want}, refusals); diff != "" {
				t.Errorf("refusals (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]int{200, 200, 200, 400}, statuses(replies)); diff != "" {
				t.Errorf("statuses (-want +got):\n%s", diff)
			}
		})
	}
}

func statuses(replies []reply) []int {
	var list []int
	for _, r := range replies {
		list = append(list, r.Status)
	}
	return list
}

var passed = []struct {
	name string
	raw  string
	want []arrival
}{
	{"a read", get, []arrival{{"GET", "/v1/charges?limit=3", ""}}},
	{"a body with a length", fixed, []arrival{{"POST", "/v1/refunds", "charge=ch_1"}}},
	{"a body in chunks", chunks, []arrival{{"POST", "/v1/refunds", "charge=ch_1"}}},
	{"an empty chunked body", coded + "0\r\n\r\n", []arrival{{"POST", "/v1/refunds", ""}}},
	{"a size of many digits in any case", coded + "0000000A\r\n0123456789\r\n00\r\n\r\n", []arrival{{"POST", "/v1/refunds", "0123456789"}}},
	{"a body that looks like a request", head("Content-Length: 44") + get[:44] + get, []arrival{{"POST", "/v1/refunds", get[:44]}, {"GET", "/v1/charges?limit=3", ""}}},
	{"a length of zero", head("Content-Length: 0"), []arrival{{"POST", "/v1/refunds", ""}}},
	{"a length with spaces around", head("Content-Length: \t 1 \t") + "a", []arrival{{"POST", "/v1/refunds", "a"}}},
	{"chunked in capitals", head("Transfer-Encoding: Chunked") + "0\r\n\r\n", []arrival{{"POST", "/v1/refunds", ""}}},
	{"an awaited continuation", head("Expect: 100-continue", "Content-Length: 1") + "a", []arrival{{"POST", "/v1/refunds", "a"}}},
	{"a pipeline", fixed + chunks + get + get, []arrival{
		{"POST", "/v1/refunds", "charge=ch_1"}, {"POST", "/v1/refunds", "charge=ch_1"},
		{"GET", "/v1/charges?limit=3", ""}, {"GET", "/v1/charges?limit=3", ""},
	}},
	{"many other headers, some twice", head("X-Forwarded-For: 1.2.3.4", "X-Forwarded-For: 5.6.7.8", "Cookie: \"a b\"; c", "X-N:", "User-Agent: caf\xc3\xa9"),
		[]arrival{{"POST", "/v1/refunds", ""}}},
	{"what the SDKs send", head("Authorization: Bearer vault_key_test_1", "Stripe-Version: 2026-08-26.endive", "Stripe-Account: acct_1",
		"Idempotency-Key: a b", "Content-Type: application/x-www-form-urlencoded", "Content-Length: 1") + "a", []arrival{{"POST", "/v1/refunds", "a"}}},
	{"brackets and escapes", "GET /v1/coupons/a%2Fb?created[gte]=1&expand%5B0%5D=%zz HTTP/1.1\r\nHost: [::1]:8787 \r\n\r\n",
		[]arrival{{"GET", "/v1/coupons/a%2Fb?created[gte]=1&expand%5B0%5D=%zz", ""}}},
	{"a double slash", "GET //v1/../charges HTTP/1.1\r\nHost: a\r\n\r\n", []arrival{{"GET", "//v1/../charges", ""}}},
	{"a large body", head("Content-Length: 100000") + strings.Repeat("a", 100000), []arrival{{"POST", "/v1/refunds", strings.Repeat("a", 100000)}}},
}

func TestARequestWithOneReadingPasses(t *testing.T) {
	for _, tt := range passed {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, wire.Limits{})
			replies := send(t, s.addr, tt.raw)
			arrivals, refusals := s.seen()
			if diff := cmp.Diff(tt.want, arrivals); diff != "" {
				t.Errorf("arrivals (-want +got):\n%s", diff)
			}
			if len(refusals) != 0 {
				t.Errorf("refused: %v", refusals)
			}
			for _, r := range replies {
				if r.Status != 200 && r.Status != 100 {
					t.Errorf("status %d: %s", r.Status, r.Body)
				}
			}
		})
	}
}
