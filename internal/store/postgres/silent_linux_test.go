package postgres_test

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
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

// TestAServerThatIsSilentDoesNotHideTheOneThatAnswers names machines that are gone, or hang, before the server that serves, with
// no more time for a call than attempts to connect to them may take. There are three: the more servers, the more time the one that
// answers has.
func TestAServerThatIsSilentDoesNotHideTheOneThatAnswers(t *testing.T) {
	for name, first := range map[string]func(*testing.T) string{"gone": silent, "hangs": dumb} {
		t.Run(name, func(t *testing.T) {
			u, err := url.Parse(postgrestest.Database(t))
			must(t, err)
			u.Host = strings.Join([]string{first(t), first(t), first(t), u.Host}, ",")
			db := node(t, postgres.Options{URL: u.String(), Wait: 3 * time.Second})
			must(t, db.Update(t.Context(), store.LaneControl, func(store.Tx) error { return nil }))
		})
	}
}
