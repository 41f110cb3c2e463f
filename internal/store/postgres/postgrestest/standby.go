package postgrestest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Standby starts a server that follows this one through a port of the loopback interface, from a copy of what it has now.
// Until it is promoted it takes no writes.
func (s *Server) Standby(t testing.TB, through int) *Server {
	t.Helper()
	return s.StandbyOn(t, here, here.Address, through)
}

// StandbyOn is Standby on another host, which reaches this server at an address and port.
func (s *Server) StandbyOn(t testing.TB, host Host, address string, port int) *Server {
	t.Helper()
	standby, err := s.standby(t.Context(), host, address, port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(standby.End)
	return standby
}

func (s *Server) standby(ctx context.Context, host Host, address string, port int) (standby *Server, err error) {
	dir, err := os.MkdirTemp(folder(), "keybrake-postgres-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	standby = &Server{host: host, dir: dir, binary: s.binary}
	if err := standby.leaveRoot(); err != nil {
		return nil, err
	}
	if err := s.copyTo(ctx, dir, standby.who); err != nil {
		return nil, fmt.Errorf("copy the server: %w", err)
	}
	follow := fmt.Sprintf("primary_conninfo='host=%s port=%d user=%s application_name=standby'\n", address, port, superuser)
	if err := appendTo(filepath.Join(dir, "postgresql.conf"), follow); err != nil {
		return nil, err
	}
	if err := give(filepath.Join(dir, "standby.signal"), nil, standby.who); err != nil {
		return nil, err
	}
	if standby.Port, err = host.freePort(); err != nil {
		return nil, err
	}
	return standby, standby.run()
}

// copyTo copies the server's data folder while it serves, as PostgreSQL's own low-level backup does. (pg_basebackup does not
// come with every distribution of the server, and refuses one that is newer than itself.)
func (s *Server) copyTo(ctx context.Context, dir string, owner *syscall.Credential) error {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it was answered
	if _, err := conn.Exec(ctx, "SELECT pg_backup_start('standby', true)"); err != nil {
		return err
	}
	if err := copyFiles(s.dir, dir, owner); err != nil {
		return err
	}
	var label string // without it the copy would begin where its control file says, which is too late
	if err := conn.QueryRow(ctx, "SELECT labelfile FROM pg_backup_stop(false)").Scan(&label); err != nil {
		return err
	}
	return give(filepath.Join(dir, "backup_label"), []byte(label), owner)
}

// copyFiles copies a server's files, but not those of the running process. What vanishes meanwhile is not needed.
func copyFiles(from, to string, owner *syscall.Credential) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		switch {
		case err != nil:
			return err
		case name == "." || name == "postmaster.pid" || name == "postmaster.opts":
			return nil
		case entry.IsDir():
			return errors.Join(os.Mkdir(filepath.Join(to, name), 0o700), own(filepath.Join(to, name), owner))
		}
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return give(filepath.Join(to, name), content, owner)
	})
}

// give writes a file that belongs to a server.
func give(path string, content []byte, owner *syscall.Credential) error {
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return err
	}
	return own(path, owner)
}

// Synchronous makes every commit wait until a standby has it, from now on and on whatever is copied from this server.
func (s *Server) Synchronous(t testing.TB) {
	t.Helper()
	s.Exec(t, "ALTER SYSTEM SET synchronous_standby_names = '*'")
	s.Exec(t, "SELECT pg_reload_conf()")
}

// Followed waits until a standby follows that every commit waits for.
func (s *Server) Followed(t testing.TB) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background()) //nolint:errcheck // it only reads
	for {
		var n int
		if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state IN ('sync', 'quorum')").Scan(&n); err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Standing reports whether the server is a standby.
func (s *Server) Standing(t testing.TB) (standing bool) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background()) //nolint:errcheck // it only reads
	if err := conn.QueryRow(t.Context(), "SELECT pg_is_in_recovery()").Scan(&standing); err != nil {
		t.Fatal(err)
	}
	return standing
}

// Promote lets a standby take writes.
func (s *Server) Promote(t testing.TB) {
	t.Helper()
	s.Exec(t, "SELECT pg_promote()")
}

// Freeze stops the server and all of its backends where they are, as a machine that hangs would.
func (s *Server) Freeze() { s.each(syscall.SIGSTOP) }

// Thaw lets them go on.
func (s *Server) Thaw() { s.each(syscall.SIGCONT) }

// each sends a signal to the server and to its backends, each of which is a process group of its own.
func (s *Server) each(sig syscall.Signal) {
	own := s.cmd.Process.Pid
	_ = syscall.Kill(own, sig) // it may be dead
	folders, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		panic(err) // our own pattern
	}
	for _, f := range folders {
		stat, err := os.ReadFile(filepath.Join(f, "stat"))
		if err != nil {
			continue // it has ended
		}
		// After the name, which stands in brackets, come the state and the parent.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if parent, err := strconv.Atoi(string(fields[1])); err != nil || parent != own {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(f)); err == nil {
			_ = syscall.Kill(pid, sig) // it may have ended
		}
	}
}
