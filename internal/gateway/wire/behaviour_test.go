package wire_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/gateway/wire"
)

// serve runs any handler behind the guard and returns its address.
func serve(t *testing.T, l net.Listener, h http.HandlerFunc) string {
	t.Helper()
	s := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the server: %v", err)
		}
		<-done
	})
	return l.Addr().String()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestABodyFoundBadWhileTheHandlerReadsItIsAnErrorOfItsRead(t *testing.T) {
	began, got := make(chan struct{}), make(chan error, 1)
	addr := serve(t, wire.Listen(listen(t), wire.Limits{}), func(w http.ResponseWriter, r *http.Request) {
		close(began)
		_, err := io.ReadAll(r.Body)
		got <- err
		w.WriteHeader(http.StatusOK) // must not reach the client
	})
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, coded+"4\r\n"); err != nil {
		t.Fatal(err)
	}
	<-began
	if _, err := io.WriteString(c, "ch_1;"); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	var refusal wire.RefusedError
	if err := <-got; !errors.As(err, &refusal) || refusal.Why != wire.BadChunk {
		t.Errorf("the handler read %v", err)
	}
	if strings.Count(string(all), "HTTP/1.1 ") != 1 || !strings.HasPrefix(string(all), "HTTP/1.1 400 ") {
		t.Errorf("the client read %q", all)
	}
}

func TestAnAnswerThatHasBegunIsNotFollowedByASecond(t *testing.T) {
	begun := make(chan struct{})
	addr := serve(t, wire.Listen(listen(t), wire.Limits{}), func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		if err := control.EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusAccepted)
		if err := control.Flush(); err != nil {
			t.Error(err)
		}
		close(begun)
		_, _ = io.ReadAll(r.Body) // fails: that is what the test makes happen
	})
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, coded+"4\r\n"); err != nil {
		t.Fatal(err)
	}
	<-begun
	if _, err := io.WriteString(c, "ch_1;"); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(all), "HTTP/1.1 202 ") || strings.Contains(string(all), "HTTP/1.1 400") {
		t.Errorf("the client read %q", all)
	}
}

func TestARefusalAfterContinueIsStillAnswered(t *testing.T) {
	s := start(t, wire.Limits{})
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, head("Expect: 100-continue", "Transfer-Encoding: chunked")); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	if line, err := r.ReadString('\n'); err != nil || !strings.Contains(line, " 100 ") {
		t.Fatalf("%q, %v", line, err)
	}
	if _, err := io.WriteString(c, "zz"); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(r)
	if err != nil || !strings.Contains(string(all), "HTTP/1.1 400 ") {
		t.Errorf("the client read %q, %v", all, err)
	}
}

func TestARefusalWaitsForTheAnswerBefore(t *testing.T) {
	release := make(chan struct{})
	seen := make(chan struct{})
	var told = make(chan wire.Reason, 1)
	limits := wire.Limits{OnRefused: func(_ net.Addr, why wire.Reason) string { told <- why; return "" }}
	addr := serve(t, wire.Listen(listen(t), limits), func(w http.ResponseWriter, _ *http.Request) {
		close(seen)
		<-release
		_, _ = io.WriteString(w, "slow") // the client checks what arrives
	})
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// The second request is bad from its first byte on, and all of it is there while the first is served.
	if _, err := io.WriteString(c, get+"\x00\x00\x00\x00"); err != nil {
		t.Fatal(err)
	}
	<-seen
	select {
	case why := <-told:
		t.Errorf("refused (%s) before the first answer", why)
	default:
	}
	close(release)
	all, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	first, second := strings.Index(string(all), "200 OK"), strings.Index(string(all), "400 Bad Request")
	if first < 0 || second < first || !strings.Contains(string(all), "slow") {
		t.Errorf("the client read %q", all)
	}
}

func TestTheLimitsAreExact(t *testing.T) {
	full := head("X-A: a")
	for _, tt := range []struct {
		name   string
		limits wire.Limits
		passes bool
	}{
		{"a head of exactly the limit", wire.Limits{Head: len(full)}, true},
		{"a head of one byte more", wire.Limits{Head: len(full) - 1}, false},
		{"as many headers as the limit", wire.Limits{HeaderLines: 2}, true},
		{"one header more", wire.Limits{HeaderLines: 1}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, tt.limits)
			send(t, s.addr, full)
			if arrivals, _ := s.seen(); (len(arrivals) == 1) != tt.passes {
				t.Errorf("arrivals: %v", arrivals)
			}
		})
	}
}

func TestARecordThatCouldBreakAHeaderIsNotSent(t *testing.T) {
	s := start(t, wire.Limits{OnRefused: func(net.Addr, wire.Reason) string { return "a\r\nSet-Cookie: b" }})
	replies := send(t, s.addr, "x")
	if len(replies) != 1 || replies[0].Header.Get("Set-Cookie") != "" || replies[0].Header.Get("Request-Id") != "" {
		t.Errorf("answers: %+v", replies)
	}
}

func TestTheGuardStandsBehindTLS(t *testing.T) {
	pair := httptest.NewUnstartedServer(nil)
	pair.StartTLS()
	config := pair.TLS.Clone()
	client := pair.Client()
	pair.Close()
	config.NextProtos = []string{"http/1.1"}
	addr := serve(t, wire.Listen(tls.NewListener(listen(t), config), wire.Limits{}), func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto) // the client checks what arrives
	})
	answer, err := client.Get("https://" + addr + "/v1/charges")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil || string(body) != "HTTP/1.1" {
		t.Errorf("%q, %v", body, err)
	}
	if err := answer.Body.Close(); err != nil {
		t.Error(err)
	}
	c, err := tls.Dial("tcp", addr, client.Transport.(*http.Transport).TLSClientConfig)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, head("Content-Length: 1", "Transfer-Encoding: chunked")); err != nil {
		t.Fatal(err)
	}
	if all, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(all), "HTTP/1.1 400 ") {
		t.Errorf("the client read %q, %v", all, err)
	}
}
