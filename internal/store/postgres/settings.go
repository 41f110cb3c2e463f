package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keybrake/keybrake/internal/store"
)

// minServer is the first release that the engine is tried on.
const minServer = 150000

// Safety says whether the store can forget what it has acknowledged, as of the last time that this node connected.
func (db *DB) Safety() store.Safety {
	if s := db.safety.Load(); s != nil {
		return *s
	}
	return store.Safety{Why: "nobody has asked PostgreSQL yet"}
}

// settings are those that durability depends on.
type settings struct {
	version                   int
	fsync, pages, synchronous string
	standbys                  string
	recovering                bool
	system                    string // the system identifier; empty: we may not read it
	timeline                  int64  // of what a primary writes; 0: not known
}

// readSettings reads back what durability depends on, instead of trusting the connection string. It makes sure that a
// commit is waited for.
func readSettings(ctx context.Context, conn *pgx.Conn) (settings, error) {
	var s settings
	var version string
	row := func() pgx.Row {
		return conn.QueryRow(ctx, `SELECT current_setting('server_version_num'), current_setting('fsync'), current_setting('full_page_writes'),
			current_setting('synchronous_commit'), current_setting('synchronous_standby_names'), pg_is_in_recovery()`)
	}
	if err := row().Scan(&version, &s.fsync, &s.pages, &s.synchronous, &s.standbys, &s.recovering); err != nil {
		return s, fmt.Errorf("read PostgreSQL's settings: %w", err)
	}
	if s.synchronous != "on" && s.synchronous != "remote_apply" {
		if _, err := conn.Exec(ctx, "SET synchronous_commit = on"); err != nil {
			return s, fmt.Errorf("switch synchronous_commit on: %w", err)
		}
		if err := row().Scan(&version, &s.fsync, &s.pages, &s.synchronous, &s.standbys, &s.recovering); err != nil {
			return s, fmt.Errorf("read PostgreSQL's settings: %w", err)
		}
	}
	s.version, _ = strconv.Atoi(version) // 0 is refused
	return s, s.readIdentity(ctx, conn)
}

// readIdentity reads which server this is. Whoever may not read it goes by the store's own name and record alone; what passes must
// not look like another server.
func (s *settings) readIdentity(ctx context.Context, conn *pgx.Conn) error {
	hidden := func(err error) bool {
		refused, ok := errors.AsType[*pgconn.PgError](err)
		return ok && slices.Contains([]string{"42501", "42883", "0A000"}, refused.Code) // no right, no such function, not supported
	}
	err := conn.QueryRow(ctx, `SELECT system_identifier::text FROM pg_control_system()`).Scan(&s.system)
	if err != nil && !hidden(err) {
		return fmt.Errorf("read PostgreSQL's system identifier: %w", err)
	}
	if s.recovering {
		return nil
	}
	// What the control file says lags behind a promotion.
	var timeline string
	err = conn.QueryRow(ctx, `SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)`).Scan(&timeline)
	if err != nil && !hidden(err) {
		return fmt.Errorf("read PostgreSQL's timeline: %w", err)
	}
	s.timeline, _ = strconv.ParseInt(timeline, 16, 64) // 0 is not known
	return nil
}

// probe makes sure that the server may be written to, before anything is.
func (db *DB) probe(ctx context.Context) error {
	_, err := examine(ctx, db.config.Copy(), db.unsafe)
	return err
}

// Examine makes sure that a server could be used, and says what it can lose. It changes nothing.
func Examine(ctx context.Context, url string, unsafe bool) (store.Safety, error) {
	config, err := parse(url)
	if err != nil {
		return store.Safety{}, err
	}
	return examine(ctx, config, unsafe)
}

func examine(ctx context.Context, config *pgx.ConnConfig, unsafe bool) (store.Safety, error) {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return store.Safety{}, fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it only reads
	set, err := readSettings(ctx, conn)
	if err != nil {
		return store.Safety{}, err
	}
	return set.safety(), set.refuse(unsafe)
}

// Exists reports whether a store was made in a database already.
func Exists(ctx context.Context, url string) (bool, error) {
	config, err := parse(url)
	if err != nil {
		return false, err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return false, fmt.Errorf("look into the database: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it only reads
	var there bool
	if err := conn.QueryRow(ctx, `SELECT to_regclass('meta') IS NOT NULL`).Scan(&there); err != nil || !there {
		return false, err
	}
	err = conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM meta WHERE name = 'master')`).Scan(&there)
	return there, err
}

// refuse says why a server must not be written to; nil = it may be.
func (s *settings) refuse(unsafe bool) error {
	if s.version < minServer {
		return fmt.Errorf("PostgreSQL %d is too old: 15 or later is needed", s.version/10000)
	}
	if s.recovering {
		return errors.New("this PostgreSQL is a standby, which takes no writes: name the primary, or all of them (postgres://host1,host2/...?target_session_attrs=read-write)")
	}
	if s.synchronous != "on" && s.synchronous != "remote_apply" {
		return fmt.Errorf("synchronous_commit is %s and cannot be switched on: it would acknowledge what a crash forgets", s.synchronous)
	}
	if unsafe {
		return nil
	}
	for name, value := range map[string]string{"fsync": s.fsync, "full_page_writes": s.pages} {
		if value != "on" {
			return fmt.Errorf("%s is %s on this PostgreSQL: a crash of its machine can lose or damage what was acknowledged. Switch it on, or say --store-unsafe if that may happen", name, value)
		}
	}
	return nil
}

// safety says what the settings mean for what was acknowledged.
func (s *settings) safety() store.Safety {
	switch {
	case s.fsync != "on" || s.pages != "on":
		return store.Safety{Why: "fsync or full_page_writes is off: a crash of PostgreSQL's machine can lose what was acknowledged"}
	case strings.TrimSpace(s.standbys) == "":
		return store.Safety{Why: "no synchronous standby: what was acknowledged survives a crash, but not the loss of PostgreSQL's disk"}
	default:
		return store.Safety{Remembers: true, Why: "synchronous standby: what was acknowledged is on two machines"}
	}
}
