package crash

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/store/postgres/postgrestest"
)

// quiet is for how long a test listens before it believes that it hears nothing.
const quiet = 300 * time.Millisecond

// TestANetworkDoesWhatItIsTold holds both kinds of network to what the tests of a cluster take for granted of them.
func TestANetworkDoesWhatItIsTold(t *testing.T) {
	t.Run("lines", func(t *testing.T) { holdNetwork(t, lines{t}) })
	t.Run("namespaces", func(t *testing.T) {
		n, err := newNamespaces(t)
		if err != nil {
			t.Skip(err)
		}
		holdNetwork(t, n)
		alone := n.host("alone")
		err = on(alone, func() error { _, err := net.Dial("tcp", "192.0.2.1:80"); return err })
		if !errors.Is(err, syscall.ENETUNREACH) {
			t.Errorf("a host finds a way out of its network: %v", err)
		}
	})
}

// on does something on a host.
func on(host postgrestest.Host, do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this
		if host.Enter != nil {
			if err := host.Enter(); err != nil {
				done <- err
				return
			}
		}
		done <- do()
	}()
	return <-done
}

// holdNetwork has a client on one host say lines to a server on another, which says them again.
func holdNetwork(t *testing.T, n network) {
	client, server := n.host("client"), n.host("server")
	w := n.way("client", "server")
	heard := make(chan string, 10)
	echo(t, server, w, heard)
	reach := func() (conn net.Conn) {
		t.Helper()
		if err := on(client, func() (err error) { conn, err = net.Dial("tcp", hostPort(w.address())); return err }); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	conn := reach()
	answers := bufio.NewReader(conn)
	say := func(what string) {
		t.Helper()
		if _, err := io.WriteString(conn, what+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	answered := func(what string) {
		t.Helper()
		_ = conn.SetReadDeadline(time.Time{})
		if got, err := answers.ReadString('\n'); got != what+"\n" || err != nil {
			t.Fatalf("the answer to %q: %q, %v", what, got, err)
		}
	}
	silent := func() {
		t.Helper()
		_ = conn.SetReadDeadline(time.Now().Add(quiet))
		if got, err := answers.ReadString('\n'); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("an answer that was to be lost: %q, %v", got, err)
		}
	}
	say("whole")
	answered(<-heard)

	hole(w)
	say("lost on the way there")
	silent()
	if len(heard) > 0 {
		t.Errorf("%q arrived", <-heard)
	}
	heal(w)
	answered(<-heard)

	mute(w)
	say("lost on the way back")
	answer := <-heard
	silent()
	heal(w)
	answered(answer)

	spoil(w)
	say("slow")
	answered(<-heard)
	heal(w)

	w.cut()
	_, _ = io.WriteString(conn, "broken\n") // the first to find out, or not even that
	_ = conn.SetReadDeadline(time.Time{})
	if got, err := answers.ReadString('\n'); err == nil {
		t.Errorf("a connection that was cut: %q", got)
	}
	conn = reach()
	answers.Reset(conn)
	say("again")
	answered(<-heard)
}

// echo listens on a host, leads the way there, and says whatever it hears again.
func echo(t *testing.T, host postgrestest.Host, w way, heard chan<- string) {
	t.Helper()
	var listen net.Listener
	if err := on(host, func() (err error) { listen, err = net.Listen("tcp", net.JoinHostPort(host.Address, "0")); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listen.Close() })
	w.lead(listen.Addr().(*net.TCPAddr).Port)
	go func() {
		for {
			conn, err := listen.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for said := bufio.NewScanner(conn); said.Scan(); {
					heard <- said.Text()
					if _, err := io.WriteString(conn, said.Text()+"\n"); err != nil {
						return
					}
				}
			}()
		}
	}()
}
