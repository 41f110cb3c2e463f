package postgres_test

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/postgres"
	"github.com/keybrake/keybrake/internal/store/postgres/postgrestest"
)

// silent is an address at which nobody answers, as that of a machine that is gone: its queue of connections is full.
func silent(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	must(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	must(t, unix.Listen(fd, 0))
	at, err := unix.Getsockname(fd)
	must(t, err)
	address := fmt.Sprintf("127.0.0.1:%d", at.(*unix.SockaddrInet4).Port)
	for {
		conn, err := net.DialTimeout("tcp", address, 300*time.Millisecond)
		if why, ok := errors.AsType[net.Error](err); ok && why.Timeout() {
			return address
		}
		must(t, err)
		t.Cleanup(func() { _ = conn.Close() })
	}
}

// dumb is an address at which connections are accepted and nothing is ever said, as at a server that hangs.
func dumb(t *testing.T) string {
	t.Helper()
	listen, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = listen.Close() })
	return listen.Addr().String()
}

// TestAServerThatIsSilentDoesNotHideTheOneThatAnswers names a machine that is gone, or hangs, before the server that serves, with
// no more time for a call than one attempt to connect may take.
func TestAServerThatIsSilentDoesNotHideTheOneThatAnswers(t *testing.T) {
	for name, first := range map[string]func(*testing.T) string{"gone": silent, "hangs": dumb} {
		t.Run(name, func(t *testing.T) {
			u, err := url.Parse(postgrestest.Database(t))
			must(t, err)
			u.Host = first(t) + "," + u.Host
			db := node(t, postgres.Options{URL: u.String(), Wait: time.Second})
			must(t, db.Update(t.Context(), store.LaneControl, func(store.Tx) error { return nil }))
		})
	}
}
