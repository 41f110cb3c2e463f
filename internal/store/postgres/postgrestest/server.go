// Package postgrestest starts a PostgreSQL of its own for tests: in a temporary folder, on a free port of the loopback
// interface or on a host that the test made, without a system service, and gone with the process that started it. Tests only.
package postgrestest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

// startTimeout is how long a server may take until it answers.
const startTimeout = 60 * time.Second

// superuser is the role that owns everything on a test server. It needs no password.
const superuser = "keybrake"

// Host is where a server runs: this machine, or a network namespace of it.
type Host struct {
	// Address is the one on which the server listens and others reach it.
	Address string
	// Enter, if it is not nil, is called on the thread that starts a process there, before it does.
	Enter func() error
}

// here is the machine itself, for itself alone.
var here = Host{Address: "127.0.0.1"}

// Server is a PostgreSQL that belongs to this process.
type Server struct {
	// Port on its host.
	Port int

	host   Host
	dir    string // the data folder
	binary string
	who    *syscall.Credential
	cmd    *exec.Cmd
	exited chan struct{}
	says   bytes.Buffer // what the process wrote; read once it has exited
}

var shared struct {
	sync.Mutex
	server *Server
	err    error
}

// Main runs a package's tests and ends the server that they shared. Goroutines that the tests left behind fail them. It is all
// that TestMain has to call.
func Main(m *testing.M) {
	code := m.Run()
	shared.Lock()
	if shared.server != nil {
		shared.server.End()
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// Database makes an empty database on the server that this process's tests share and returns its connection string. It is
// gone when the test ends. Without PostgreSQL on this machine the test is skipped, or fails under CI=true. The package's
// TestMain must call Main.
func Database(t testing.TB) string {
	t.Helper()
	shared.Lock()
	if shared.server == nil && shared.err == nil {
		shared.server, shared.err = New(folder())
	}
	s, err := shared.server, shared.err
	shared.Unlock()
	need(t, err)
	return s.Database(t)
}

// Start starts a server for one test, with settings ("fsync=off") beside the usual ones.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	return StartOn(t, here, settings...)
}

// StartOn is Start on another host. There everybody of the host's network may come in.
func StartOn(t testing.TB, host Host, settings ...string) *Server {
	t.Helper()
	s, err := newOn(host, folder(), settings...)
	need(t, err)
	t.Cleanup(s.End)
	return s
}

func need(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case errors.Is(err, errMissing) && os.Getenv("CI") != "true":
		t.Skip(err)
	default:
		t.Fatal(err)
	}
}

var errMissing = errors.New("PostgreSQL's server is not installed; on Debian: apt-get install postgresql")

// Database makes an empty database and returns its connection string.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := "t_" + strings.ToLower(rand.Text())
	s.Exec(t, "CREATE DATABASE "+name)
	t.Cleanup(func() {
		// The server may have been stopped by the test.
		if conn, err := pgx.Connect(context.Background(), s.URL("postgres")); err == nil {
			_, _ = conn.Exec(context.Background(), "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
			_ = conn.Close(context.Background())
		}
	})
	return s.URL(name)
}

// Exec runs a statement as the superuser, in the database postgres.
func (s *Server) Exec(t testing.TB, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background()) //nolint:errcheck // the statement was answered
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

// URL is the connection string of a database.
func (s *Server) URL(database string) string {
	return fmt.Sprintf("postgres://%s@%s:%d/%s?sslmode=disable", superuser, s.host.Address, s.Port, database)
}

// Kill ends the server as a crash does.
func (s *Server) Kill() { s.signal(syscall.SIGQUIT) }

// Stop ends the server cleanly.
func (s *Server) Stop() { s.signal(syscall.SIGINT) }

func (s *Server) signal(sig os.Signal) {
	_ = s.cmd.Process.Signal(sig) // it may be dead already
	<-s.exited
}

// MakeStandby lets a server that was stopped cleanly be a standby from its next start on. It follows nobody.
func (s *Server) MakeStandby(t testing.TB) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, "standby.signal"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Restart starts a server again that has ended.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	if err := s.run(); err != nil {
		t.Fatal(err)
	}
}

// programsVariable names the folder with initdb and postgres, where tests are to run on another version than the machine's.
const programsVariable = "KEYBRAKE_TEST_POSTGRES_BIN"

// binaries is the folder with initdb and postgres.
func binaries() (string, error) {
	if dir := os.Getenv(programsVariable); dir != "" {
		return filepath.Abs(dir)
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil { // the rest lies where it really is
			return filepath.Dir(path), nil
		}
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // where Debian has them
	if err != nil || len(found) == 0 {
		return "", errMissing
	}
	return filepath.Dir(slices.Max(found)), nil
}

// New makes and starts a server whose data lies in a new folder of its own within a folder (empty: the temporary one), with
// settings beside the usual ones. End ends it.
func New(within string, settings ...string) (*Server, error) {
	return newOn(here, within, settings...)
}

func newOn(host Host, within string, settings ...string) (s *Server, err error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(within, "keybrake-postgres-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	s = &Server{host: host, dir: dir, binary: filepath.Join(bin, "postgres")}
	if err := s.leaveRoot(); err != nil {
		return nil, err
	}
	initdb := exec.Command(filepath.Join(bin, "initdb"), "--pgdata", dir, "--username", superuser, "--auth", "trust",
		"--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions")
	initdb.Dir, initdb.SysProcAttr = dir, &syscall.SysProcAttr{Credential: s.who}
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	conf := append([]string{
		"unix_socket_directories=''", "shared_buffers=64MB", "max_connections=200",
		"log_min_messages=fatal", "fsync=on", "jit=off",
		"wal_keep_size=128MB", // for a standby that is being copied
	}, settings...)
	if err := appendTo(filepath.Join(dir, "postgresql.conf"), strings.Join(conf, "\n")+"\n"); err != nil {
		return nil, err
	}
	if host.Enter != nil {
		if err := appendTo(filepath.Join(dir, "pg_hba.conf"), "host all all samenet trust\nhost replication all samenet trust\n"); err != nil {
			return nil, err
		}
	}
	// Somebody else may take the port that was free a moment ago.
	for range 5 {
		if s.Port, err = host.freePort(); err != nil {
			return nil, err
		}
		if err = s.run(); err == nil {
			return s, nil
		}
	}
	return nil, err
}

// memory is where Linux keeps files in memory, and roomy how much of it must be free to hold a server there.
const (
	memory = "/dev/shm"
	roomy  = 4 << 30
)

// folder is where a server's data lies: in KEYBRAKE_TEST_POSTGRES, else in memory where there is room, else in the temporary folder.
// In memory a flush costs nothing, and a server that is killed loses as little as on a disk; whoever measures names a disk.
func folder() string {
	if dir := os.Getenv("KEYBRAKE_TEST_POSTGRES"); dir != "" {
		return dir
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(memory, &fs); err != nil || fs.Bavail*uint64(fs.Bsize) < roomy {
		return "" // the temporary folder
	}
	return memory
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// leaveRoot finds another user where we are root: the server refuses to be.
func (s *Server) leaveRoot() error {
	if os.Geteuid() != 0 {
		return nil
	}
	who, err := user.Lookup("postgres")
	if err != nil {
		if who, err = user.Lookup("nobody"); err != nil {
			return fmt.Errorf("PostgreSQL does not run as root, and there is no other user: %w", err)
		}
	}
	uid, err := strconv.ParseUint(who.Uid, 10, 32)
	if err != nil {
		return err
	}
	gid, err := strconv.ParseUint(who.Gid, 10, 32)
	if err != nil {
		return err
	}
	s.who = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return own(s.dir, s.who)
}

// own gives a file to the user under whom a server runs; nil: it is ours already.
func own(path string, who *syscall.Credential) error {
	if who == nil {
		return nil
	}
	return os.Chown(path, int(who.Uid), int(who.Gid))
}

// usualPort is PostgreSQL's.
const usualPort = 5432

// freePort is where a server can listen: the usual port on a host that has nothing else.
func (h Host) freePort() (int, error) {
	if h.Enter != nil {
		return usualPort, nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}

// Start starts a process on the host. The goroutine is locked to its thread, which must end with it.
func (h Host) Start(cmd *exec.Cmd) error {
	if h.Enter != nil {
		if err := h.Enter(); err != nil {
			return err
		}
	}
	return cmd.Start()
}

// run starts the process and waits until it answers.
func (s *Server) run() error {
	// Said here, not in the file: a standby has a copy of that.
	cmd := exec.Command(s.binary, "-D", s.dir, "-p", strconv.Itoa(s.Port), "-c", "listen_addresses="+s.host.Address)
	s.says.Reset()
	cmd.Dir, cmd.Stderr = s.dir, &s.says
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.who, Setpgid: true, Pdeathsig: syscall.SIGQUIT}
	started := make(chan error)
	s.cmd, s.exited = cmd, make(chan struct{})
	go func() {
		// The kernel sends Pdeathsig when this thread ends, so it must not end before the server has.
		runtime.LockOSThread()
		err := s.host.Start(cmd)
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended shows in what the tests see of it
		}
		close(s.exited)
	}()
	if err := <-started; err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-s.exited:
			return fmt.Errorf("PostgreSQL ended right after its start: %s", s.says.String())
		case <-ctx.Done():
			s.Kill()
			return fmt.Errorf("PostgreSQL does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// End ends the server and removes what it had.
func (s *Server) End() {
	s.Kill()
	_ = os.RemoveAll(s.dir) // it is of no use to anybody
}
