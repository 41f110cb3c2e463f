package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/keybrake/keybrake/internal/audit"
)

const (
	// migrateAsks and migrateTries: how often, in seconds, a node asks for the lock under which the schema is changed, and
	// how many times before it gives up. Another one that is at it may be building an index.
	migrateAsks, migrateTries = 1, 300
	// migrateLocks is how long one statement of a migration waits for a lock that calls hold: while it waits, calls wait
	// behind it.
	migrateLocks = 2 * time.Second
)

// migrate brings the schema up to date, under a lock of its own: of several nodes that start at once one does it. A newer
// schema is run on if it says that a program of this one's age may (migrations/README.md).
func migrate(ctx context.Context, config *pgx.ConnConfig) error {
	own := config.Copy()
	own.RuntimeParams["lock_timeout"] = fmt.Sprint(migrateLocks.Milliseconds())
	own.RuntimeParams["statement_timeout"] = "0" // an index takes what it takes
	own.RuntimeParams["idle_in_transaction_session_timeout"] = "0"
	db := stdlib.OpenDB(*own)
	defer db.Close() //nolint:errcheck // everything in it was committed
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(migrateAsks, migrateTries), lock.WithUnlockTimeout(migrateAsks, migrateTries))
	if err != nil {
		return err
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithSessionLocker(locker))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	sources := p.ListSources()
	want := sources[len(sources)-1].Version
	conn, err := pgx.ConnectConfig(ctx, own)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it only reads
	have, compatible, err := schema(ctx, conn)
	switch {
	case err != nil:
		return err
	case have > want && compatible > want:
		return fmt.Errorf("the store has schema %d, which only programs that know schema %d can use; this one knows up to %d: run the newer program", have, compatible, want)
	case have > want:
		return nil // its next release was here first
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("bring the schema from %d to %d: %w", have, want, err)
	}
	start := audit.NewChain(audit.FirstChain)
	_, err = conn.Exec(ctx, `INSERT INTO books (one, writes, control, seq, hash, at, reservation) VALUES (1, 0, 0, $1, $2, 0, 1) ON CONFLICT (one) DO NOTHING`,
		start.Seq, start.Hash[:])
	return err
}

// schema reads the version of the store's schema, 0 for an empty database, and the oldest whose programs may run on it.
func schema(ctx context.Context, conn *pgx.Conn) (have, compatible int64, err error) {
	var versions, meta bool
	err = conn.QueryRow(ctx, `SELECT to_regclass('goose_db_version') IS NOT NULL, to_regclass('meta') IS NOT NULL`).Scan(&versions, &meta)
	if err != nil || !versions {
		return 0, 0, err
	}
	if err := conn.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version`).Scan(&have); err != nil {
		return 0, 0, fmt.Errorf("read the schema's version: %w", err)
	}
	if have == 0 {
		return 0, 0, nil // a first start that was cut short
	}
	if !meta {
		return 0, 0, errors.New("the database is not a Keybrake store; name another one with --store")
	}
	err = conn.QueryRow(ctx, `SELECT CAST(value AS BIGINT) FROM meta WHERE name = 'compatible'`).Scan(&compatible)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, 0, errors.New("the database is not a Keybrake store; name another one with --store")
	}
	return have, compatible, err
}
