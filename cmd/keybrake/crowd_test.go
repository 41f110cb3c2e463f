package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// crowded serves on a crowd of a size. A request for /wait says on begun that it is there and is answered once let is
// closed.
func crowded(t *testing.T, size int) (address string, begun, let chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	begun, let = make(chan struct{}), make(chan struct{})
	c := newCrowd(l, size)
	srv := &http.Server{ConnState: c.noticed, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			begun <- struct{}{}
			<-let
		}
		_, _ = io.WriteString(w, "ok")
	})}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(c) }()
	t.Cleanup(func() {
		_ = srv.Close()
		if err := <-done; err != http.ErrServerClosed {
			t.Error(err)
		}
	})
	return l.Addr().String(), begun, let
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second)) // a bound for a test that fails
	return conn
}

func request(t *testing.T, conn net.Conn, path string) {
	t.Helper()
	if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
}

func answered(t *testing.T, conn net.Conn) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal("no answer:", err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
}

func TestTheLongestIdleConnectionMakesRoom(t *testing.T) {
	address, _, _ := crowded(t, 3)
	var conns []net.Conn
	for range 3 {
		conns = append(conns, dial(t, address))
		request(t, conns[len(conns)-1], "/")
		answered(t, conns[len(conns)-1])
	}
	request(t, conns[0], "/") // now the second has been idle for the longest
	answered(t, conns[0])
	fourth := dial(t, address)
	request(t, fourth, "/")
	answered(t, fourth)
	if _, err := conns[1].Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the second connection is still there: %v", err)
	}
	for _, i := range []int{0, 2} {
		request(t, conns[i], "/")
		answered(t, conns[i])
	}
}

func TestWhoAsksIsServedThoughThousandsSayNothing(t *testing.T) {
	address, _, _ := crowded(t, 100)
	for range 2000 {
		dial(t, address)
	}
	for range 20 {
		conn := dial(t, address)
		request(t, conn, "/")
		answered(t, conn)
	}
}

func TestWhereAllAreAtWorkTheNextOneWaits(t *testing.T) {
	address, begun, let := crowded(t, 2)
	var busy []net.Conn
	for range 2 {
		busy = append(busy, dial(t, address))
		request(t, busy[len(busy)-1], "/wait")
		<-begun
	}
	third := dial(t, address)
	request(t, third, "/")
	_ = third.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := third.Read(make([]byte, 1)); err == nil {
		t.Error("the third is served beside two of two")
	}
	close(let)
	_ = third.SetReadDeadline(time.Now().Add(30 * time.Second))
	answered(t, third)
	for _, conn := range busy { // whoever was at work is not the one that leaves before its answer
		answered(t, conn)
	}
}
