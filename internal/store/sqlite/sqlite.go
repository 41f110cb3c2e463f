// Package sqlite is the embedded engine: one file, one writer, group commit.
//
// Every caller's work goes through one writer goroutine, which takes up to queue.MaxBatch of them into one
// transaction and one fsync (WAL, synchronous=FULL: an answer means durable). Readers use connections of
// their own and never wait for the writer.
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/queue"
	"github.com/keybrake/keybrake/internal/store/record"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Limits of the engine, each with its reason.
const (
	// readers is the number of read-only connections that calls look things up on.
	readers = 4
	// viewers is the number of those that operators read on: however many lists and exports they ask for, no
	// call waits for one.
	viewers = 2
	// writerCache is the writer's page cache in bytes: the inner pages of the indexes that every call touches. The
	// allocator underneath rounds a page and its header up to a power of two, so that it really takes 2.3 times
	// this. Eight times as much made nothing faster: behind it is the kernel's cache.
	writerCache = 8 << 20
	// readerCache is that of each other connection. They look up single rows or read a table once, which would
	// only keep a second copy of it.
	readerCache = 1 << 20
	// maxCachedAccounts bounds the cache of running totals (about 200 bytes each).
	maxCachedAccounts = 65536
	// applicationID marks the file as Keybrake's ("kbrk").
	applicationID = 0x6b62726b
	// minSQLite is the first release without the WAL-reset corruption (sqlite.org/wal.html).
	minSQLite = 3051003
)

// Options opens a store.
type Options struct {
	// Path of the database file. Its directory must exist.
	Path string
	// Clock gives the time; nil = time.Now.
	Clock func() time.Time
	// Signer signs chain heads. Required.
	Signer audit.Signer
	// MasterCheck is a value derived from the master key: a store that was made under another one is
	// refused, because nothing in it could be opened.
	MasterCheck string
	// Archives is the folder of the archive files; empty: the store's name with ".archive". It is made when the first one
	// is written.
	Archives string
	// ArchiveRecords is the most records in one of them; 0 = the default. Less is for tests.
	ArchiveRecords int64
	// MaxBatch is the most callers in one transaction; 0 = the default. 1 switches group commit off, which
	// only a benchmark wants.
	MaxBatch int
	// Observer is told what the writer does.
	Observer store.Observer
	// Wait is how long work may wait for its turn before it is withdrawn with ErrBusy, and a read for an answer;
	// 0 = the default. Work that the writer has taken up is waited for, however long the disk takes.
	Wait time.Duration
}

// DB is the engine. It implements store.DB.
type DB struct {
	path string
	// archives is the folder of the archive files, and perArchive the most records in one of them.
	archives   string
	perArchive int64

	clock  func() time.Time
	signer audit.Signer
	batch  int           // the most callers in one transaction
	wait   time.Duration // Options.Wait
	lock   *os.File
	write  *sql.DB
	read   *sql.DB // for calls
	views  *sql.DB // for operators
	side   *sql.DB // copies the log into the database beside the writer
	writer *writer

	attached *sql.Stmt     // finds a reservation by its idempotency key, on the readers
	account  *sql.Stmt     // reads a running total there
	copied   chan struct{} // closed when copyLog has ended
	scrubbed chan struct{} // closed when scrub has ended

	observer store.Observer
	figures  store.Gauges

	last    atomic.Int64 // microseconds of the newest committed record: the clock never goes behind it
	trouble store.Trouble

	closing   sync.Once
	archiving sync.Mutex // held while records are moved into a file

	mu       sync.RWMutex // guards accounts
	accounts map[ledger.AccountKey]ledger.Account
}

var _ store.DB = (*DB)(nil)

func init() {
	// Any close of the file elsewhere in the process would otherwise drop POSIX locks silently.
	_, _ = sqlite.OFDLocking(true) // not on every platform; there POSIX locks must do
	sqlite.Fdatasync(true)
}

// Open opens or creates a store, brings its schema up to date, takes over what a dead process left open
// and starts the writer. Errors say what to do.
func Open(ctx context.Context, o Options) (*DB, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Wait == 0 {
		o.Wait = queue.DefaultWait
	}
	if o.Archives == "" {
		o.Archives = Neighbour(o.Path, ".archive")
	}
	if o.ArchiveRecords == 0 {
		o.ArchiveRecords = record.PerFile
	}
	db := &DB{
		path: o.Path, archives: o.Archives, perArchive: o.ArchiveRecords, clock: o.Clock, signer: o.Signer, batch: o.MaxBatch, wait: o.Wait,
		observer: o.Observer, accounts: make(map[ledger.AccountKey]ledger.Account),
	}
	if err := db.open(ctx, o); err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", o.Path, err), db.closeFiles())
	}
	return db, nil
}

func (db *DB) open(ctx context.Context, o Options) error {
	if err := db.takeLock(o.Path); err != nil {
		return err
	}
	existed, err := prepareFile(o.Path)
	if err != nil {
		return err
	}
	if db.write, err = sql.Open("sqlite", dsn(o.Path, "rwc", "synchronous(FULL)", writerCache)); err != nil {
		return err
	}
	db.write.SetMaxOpenConns(1)
	if err := db.checkEngine(ctx, existed); err != nil {
		return err
	}
	if err := db.migrate(ctx); err != nil {
		return err
	}
	if err := db.checkMaster(ctx, o.MasterCheck); err != nil {
		return err
	}
	if err := db.checkFile(ctx, o.Path); err != nil {
		return fmt.Errorf("the file is damaged (%w); restore a backup (docs/operating.md#backup-and-restore)", err)
	}
	if db.read, err = openReaders(o.Path, readers); err != nil {
		return err
	}
	if db.views, err = openReaders(o.Path, viewers); err != nil {
		return err
	}
	if db.attached, err = db.read.PrepareContext(ctx, `SELECT `+reservationColumns+` FROM reservations WHERE key = ? AND idem = ?`); err != nil {
		return err
	}
	if db.account, err = db.read.PrepareContext(ctx, selectAccount); err != nil {
		return err
	}
	if db.side, err = sql.Open("sqlite", dsn(o.Path, "rwc", "synchronous(FULL)", readerCache)); err != nil {
		return err
	}
	db.side.SetMaxOpenConns(1)
	damage, err := db.checkRows(ctx, o.Path)
	if err != nil {
		return fmt.Errorf("the file is damaged (%w); restore a backup (docs/operating.md#backup-and-restore)", err)
	}
	if db.writer, err = newWriter(ctx, db); err != nil {
		return err
	}
	if err := db.writer.watchBooks(ctx, o.Path, damage); err != nil {
		return err
	}
	if err := db.writer.takeOver(); err != nil {
		return fmt.Errorf("take over what an earlier process left open: %w", err)
	}
	db.copied, db.scrubbed = make(chan struct{}), make(chan struct{})
	go db.writer.queue.Run()
	go db.copyLog()
	go db.scrub()
	return nil
}

func openReaders(path string, n int) (*sql.DB, error) {
	pool, err := sql.Open("sqlite", dsn(path, "ro", "query_only(1)", readerCache))
	if err != nil {
		return nil, err
	}
	pool.SetMaxOpenConns(n)
	pool.SetMaxIdleConns(n)
	return pool, nil
}

func dsn(path, mode, pragma string, cache int) string {
	q := url.Values{
		"mode":    {mode},
		"_pragma": {"busy_timeout(5000)", "foreign_keys(1)", "temp_store(MEMORY)", fmt.Sprintf("cache_size(-%d)", cache/1024), pragma},
	}
	if mode == "rwc" {
		q["_pragma"] = append(q["_pragma"], "journal_mode(WAL)", "wal_autocheckpoint(0)",
			fmt.Sprintf("journal_size_limit(%d)", maxLogBytes))
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

// takeLock makes sure that no other process serves this store.
func (db *DB) takeLock(path string) error {
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("the store's folder must exist and be writable: %w", err)
	}
	db.lock = lock
	if err := flock(lock); err != nil {
		return errors.New("another process serves this store; stop it first, or give this one another --store")
	}
	return nil
}

// prepareFile creates the file with mode 0600 before SQLite can create it wider.
func prepareFile(path string) (existed bool, err error) {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return false, errors.New("it is a folder; name a file")
	case err == nil:
		return info.Size() > 0, nil
	case !errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return false, err
	}
	return false, f.Close()
}

// checkEngine reads back what durability depends on, instead of trusting the connection string.
func (db *DB) checkEngine(ctx context.Context, existed bool) error {
	var version string
	if err := db.write.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&version); err != nil {
		return fmt.Errorf("the file cannot be read as a database: %w", err)
	}
	var major, minor, patch int
	if _, err := fmt.Sscanf(version, "%d.%d.%d", &major, &minor, &patch); err != nil || major*1e6+minor*1e3+patch < minSQLite {
		return fmt.Errorf("SQLite %s is too old; this build must be linked against 3.51.3 or later", version)
	}
	var mode string
	var synchronous, id int64
	if err := db.write.QueryRowContext(ctx, "PRAGMA application_id").Scan(&id); err != nil {
		return fmt.Errorf("the file cannot be read as a database: %w", err)
	}
	if existed && id != applicationID {
		// A first start that was cut short leaves a database without a table; that one may be started again.
		var tables int64
		if err := db.write.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&tables); err != nil {
			return fmt.Errorf("the file cannot be read as a database: %w", err)
		}
		if id != 0 || tables > 0 {
			return errors.New("the file is not a Keybrake store; name another one with --store")
		}
	}
	if err := db.write.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
		return err
	}
	if err := db.write.QueryRowContext(ctx, "PRAGMA synchronous").Scan(&synchronous); err != nil {
		return err
	}
	if mode != "wal" || synchronous != 2 {
		return fmt.Errorf("journal_mode is %s and synchronous is %d where wal and 2 are needed: put the store on a local disk", mode, synchronous)
	}
	// First of all, so that a start that is cut short after this is known as ours.
	_, err := db.write.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d", applicationID))
	return err
}

// migrate brings the schema up to date; a newer schema than this program knows is refused.
func (db *DB) migrate(ctx context.Context) error {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db.write, sub)
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	have, want, err := p.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if have > want {
		return fmt.Errorf("the store has schema %d, this program knows up to %d: run the newer program", have, want)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("bring the schema from %d to %d: %w", have, want, err)
	}
	return nil
}

func (db *DB) checkMaster(ctx context.Context, want string) error {
	var have string
	err := db.write.QueryRowContext(ctx, "SELECT value FROM meta WHERE name = 'master'").Scan(&have)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		_, err = db.write.ExecContext(ctx, "INSERT INTO meta (name, value) VALUES ('master', ?)", want)
		return err
	case err != nil:
		return err
	case have != want:
		return errors.New("the master key is not the one this store was made with; name the right file with --master-key-file")
	}
	return nil
}

// Now implements store.DB.
func (db *DB) Now() time.Time {
	now := db.clock().UTC().Truncate(time.Microsecond)
	if last := fromMicros(db.last.Load()); now.Before(last) {
		return last
	}
	return now
}

// Check implements store.DB.
func (db *DB) Check(ctx context.Context) error {
	if err := db.trouble.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, db.wait)
	defer cancel()
	var one int
	return db.read.QueryRowContext(ctx, "SELECT 1").Scan(&one)
}

// Close implements store.DB: it finishes what is queued and closes the files. A second call does nothing.
func (db *DB) Close() (err error) {
	db.closing.Do(func() {
		db.writer.queue.Stop()
		<-db.copied
		<-db.scrubbed
		err = db.closeFiles()
	})
	return err
}

func (db *DB) closeFiles() error {
	var errs []error
	if db.writer != nil {
		errs = append(errs, db.writer.close())
	}
	for _, stmt := range []*sql.Stmt{db.attached, db.account} {
		if stmt != nil {
			errs = append(errs, stmt.Close())
		}
	}
	if db.side != nil {
		errs = append(errs, db.side.Close())
	}
	if db.read != nil {
		errs = append(errs, db.read.Close())
	}
	if db.views != nil {
		errs = append(errs, db.views.Close())
	}
	if db.write != nil {
		errs = append(errs, db.write.Close())
	}
	if db.lock != nil {
		errs = append(errs, db.lock.Close())
	}
	return errors.Join(errs...)
}

// Path of the store's neighbours: "keybrake.db" + suffix.
func Neighbour(store, suffix string) string { return filepath.Clean(store) + suffix }
