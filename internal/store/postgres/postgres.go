// Package postgres is the engine for more than one machine: any number of gateways on one PostgreSQL, group commit on
// each of them.
//
// There is one order. Whoever writes locks the one row of the table books first, reads what it decides by with later
// statements, writes, moves that row on and commits. So there is one chain of records for all nodes, and a stop, a lowered
// cap and an admission can never pass each other. What makes that fast is that a node's callers share a transaction, and
// that a transaction takes two round trips.
package postgres

import (
	"context"
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/codec"
	"github.com/keybrake/keybrake/internal/store/mark"
	"github.com/keybrake/keybrake/internal/store/queue"
	"github.com/keybrake/keybrake/internal/store/record"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Limits of the engine, each with its reason.
const (
	// readers is the number of connections that calls look things up on.
	readers = 4
	// viewers is the number of those that operators read on: however many lists and exports they ask for, no call waits
	// for one.
	viewers = 2
	// maxCachedAccounts bounds the cache of running totals (about 200 bytes each).
	maxCachedAccounts = 65536
	// archiveRecords is the default of Options.ArchiveRecords.
	archiveRecords = 50_000
)

// Options opens a store.
type Options struct {
	// URL is the connection string, "postgres://user@host/database?..." or key=value pairs. Several hosts may be named;
	// the one that takes writes is found.
	URL string
	// Clock gives the time in place of the server's; nil = the server's.
	Clock func() time.Time
	// Machine is this machine's clock; nil = the real one. It measures what has passed since the server told its time,
	// and decides nothing: another one is for tests of that.
	Machine func() time.Time
	// Signer signs chain heads. Required.
	Signer audit.Signer
	// MasterCheck is a value derived from the master key: a store that was made under another one is refused, because
	// nothing in it could be opened.
	MasterCheck string
	// Archives is the folder of the archive files, the same one on all nodes. It is made when the first one is written.
	Archives string
	// ArchiveRecords is the most records in one of them; 0 = the default. Less is for tests.
	ArchiveRecords int64
	// Mark is the file in which this node remembers how far the record had come; empty: only in memory.
	Mark string
	// Node is the operator's name for this node. Version is the program's. Both are shown.
	Node, Version string
	// AllowUnsafe serves a PostgreSQL that can lose what it has acknowledged when its machine crashes.
	AllowUnsafe bool
	// MaxBatch is the most callers in one transaction; 0 = the default. 1 switches group commit off, which only a benchmark
	// wants.
	MaxBatch int
	// Observer is told what the writer does.
	Observer store.Observer
	// Wait is how long work may wait for its turn before it is withdrawn with ErrBusy, and how long PostgreSQL is waited
	// for; 0 = the default.
	Wait time.Duration
}

// DB is the engine. It implements store.DB.
type DB struct {
	// archives is the folder of the archive files, and perArchive the most records in one of them.
	archives   string
	perArchive int64

	config   *pgx.ConnConfig
	clock    func() time.Time // nil: the server's
	machine  func() time.Time
	signer   audit.Signer
	observer store.Observer
	unsafe   bool          // Options.AllowUnsafe
	wait     time.Duration // Options.Wait
	named    string        // Options.Node
	version  string        // Options.Version

	node  string // what this process calls itself in the store
	label string // and in the record; empty: nothing

	reads *pgxpool.Pool // for calls
	views *pgxpool.Pool // for operators
	side  *pgxpool.Pool // for the search index
	pulse *pgxpool.Pool // for this node among the others

	attached gather[attachment, codec.Reservation] // whom idempotency keys belong to

	queue   *queue.Queue
	writer  *writer
	indexed chan struct{}  // closed when indexing has ended
	woken   chan struct{}  // another node has changed something
	beside  sync.WaitGroup // what else runs beside the queue
	closing sync.Once

	archiving sync.Mutex // held while records are moved into a file
	thinning  record.Thinning

	trouble store.Trouble
	safety  atomic.Pointer[store.Safety]
	figures store.Gauges

	last atomic.Int64           // microseconds of the newest record that this node knows: the clock never goes behind it
	told atomic.Pointer[moment] // nil: the server has told no time yet

	mu       sync.RWMutex // guards what follows
	seen     mark.Position
	mark     *mark.Mark // nil: there is no file
	accounts map[ledger.AccountKey]cachedAccount
}

// cachedAccount is a running total as this node's last transaction about it left it.
type cachedAccount struct {
	ledger.Account
	at time.Time // by our own clock
}

var _ store.DB = (*DB)(nil)

// Open opens or creates a store, brings its schema up to date, takes over what dead processes left open and begins to
// serve. Errors say what to do.
func Open(ctx context.Context, o Options) (*DB, error) {
	if o.Wait == 0 {
		o.Wait = queue.DefaultWait
	}
	if o.ArchiveRecords == 0 {
		o.ArchiveRecords = archiveRecords
	}
	if o.Machine == nil {
		o.Machine = time.Now
	}
	db := &DB{
		archives: o.Archives, perArchive: o.ArchiveRecords, clock: o.Clock, machine: o.Machine, signer: o.Signer, observer: o.Observer,
		unsafe: o.AllowUnsafe, wait: o.Wait, named: o.Node, version: o.Version, node: newNode(),
		accounts: make(map[ledger.AccountKey]cachedAccount), woken: make(chan struct{}, 1),
	}
	db.label, db.attached.read = labelOf(db.named, db.node), db.readAttached
	if err := db.open(ctx, o); err != nil {
		return nil, errors.Join(fmt.Errorf("open the store on PostgreSQL: %w", err), db.closeConnections())
	}
	return db, nil
}

// newNode is a name for this process that no other one has.
func newNode() string { return "node_" + strings.ToLower(rand.Text()) }

func (db *DB) open(ctx context.Context, o Options) (err error) {
	if db.config, err = parse(o.URL); err != nil {
		return err
	}
	hasten(db.config, o.Wait)
	if err := db.probe(ctx); err != nil {
		return err
	}
	if err := migrate(ctx, db.config); err != nil {
		return err
	}
	if db.reads, err = db.pool(ctx, forRows(db.config), readers, nil); err != nil {
		return err
	}
	if db.views, err = db.pool(ctx, db.config.Copy(), viewers, nil); err != nil {
		return err
	}
	if db.side, err = db.pool(ctx, db.config.Copy(), 2, nil); err != nil {
		return err
	}
	if db.pulse, err = db.pool(ctx, db.config.Copy(), pulses, db.fit); err != nil {
		return err
	}
	if err := db.name(ctx, o.MasterCheck); err != nil {
		return err
	}
	db.writer = newWriter(db)
	db.queue = queue.New(queue.Options{
		Engine: db.writer, MaxBatch: o.MaxBatch, Wait: o.Wait, Every: tickEvery, OwnBrakes: true,
	})
	if err := db.watchBooks(ctx, o.Mark); err != nil {
		return err
	}
	if err := db.register(ctx); err != nil {
		return err
	}
	if err := db.writer.takeOver(); err != nil {
		return fmt.Errorf("take over what an earlier process left open: %w", err)
	}
	if err := db.readFigures(ctx); err != nil {
		return err
	}
	db.indexed = make(chan struct{})
	go db.indexing()
	db.beside.Go(db.lookAfter)
	db.beside.Go(db.listen)
	go db.queue.Run()
	return nil
}

// name names the store, the first time, and makes sure that the master key is this store's.
func (db *DB) name(ctx context.Context, master string) error {
	for name, value := range map[string]string{"master": master, "identity": rand.Text()} {
		if _, err := db.reads.Exec(ctx, `INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING`, name, value); err != nil {
			return fmt.Errorf("name the store: %w", err)
		}
	}
	var have string
	if err := db.reads.QueryRow(ctx, `SELECT value FROM meta WHERE name = 'master'`).Scan(&have); err != nil {
		return err
	}
	if have != master {
		return errors.New("the master key is not the one this store was made with; name the right file with --master-key-file")
	}
	return nil
}

// Now implements store.DB.
func (db *DB) Now() time.Time {
	now := db.ownTime()
	if last := codec.FromMicros(db.last.Load()); now.Before(last) {
		return last
	}
	return now
}

// ownTime is the store's time as this node can tell it without asking.
func (db *DB) ownTime() time.Time {
	if db.clock != nil {
		return db.clock().UTC().Truncate(time.Microsecond)
	}
	now := db.machine()
	if told := db.told.Load(); told != nil {
		now = told.server.Add(now.Sub(told.here))
	}
	return now.UTC().Truncate(time.Microsecond)
}

// moment is what the server's clock said, and what this machine's clock said when it was heard. What has passed since is
// measured by a clock that nobody sets.
type moment struct{ server, here time.Time }

// learn notes what the server's clock says, in microseconds.
func (db *DB) learn(server int64) {
	db.told.Store(&moment{server: time.UnixMicro(server).UTC(), here: db.machine()})
}

// Check implements store.DB.
func (db *DB) Check(ctx context.Context) error {
	if err := db.trouble.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, db.wait)
	defer cancel()
	var one int
	return looking(ctx, func() error { return db.reads.QueryRow(ctx, "SELECT 1").Scan(&one) })
}

// Node is what this process calls itself in the store.
func (db *DB) Node() string { return db.node }

// Close implements store.DB: it finishes what is queued and ends the connections. A second call does nothing. Where PostgreSQL is
// away, each of what is queued and the goodbye take no longer than it is waited for.
func (db *DB) Close() (err error) {
	db.closing.Do(func() {
		db.queue.Stop()
		db.beside.Wait()
		<-db.indexed
		db.sayGoodbye()
		err = db.closeConnections()
	})
	return err
}

// untilClosing is the context of what runs beside the queue.
func (db *DB) untilClosing() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		select {
		case <-db.queue.Closing():
		case <-ctx.Done():
		}
		cancel()
	}()
	return ctx, cancel
}

func (db *DB) closeConnections() error {
	if db.writer != nil {
		db.writer.calls.drop()
		db.writer.brakes.drop()
	}
	var pools sync.WaitGroup
	for _, pool := range []*pgxpool.Pool{db.reads, db.views, db.side, db.pulse} {
		if pool != nil {
			pools.Go(pool.Close)
		}
	}
	closed := make(chan struct{})
	go func() { pools.Wait(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(reach): // a pool tells the server to end what was given up, for a quarter of a minute
	}
	if db.mark != nil {
		return db.mark.Close()
	}
	return nil
}

// Admit implements store.DB.
func (db *DB) Admit(ctx context.Context, a *store.Admission) (store.Admitted, error) {
	return db.queue.Admit(ctx, a)
}

// Resolve implements store.DB.
func (db *DB) Resolve(ctx context.Context, r *store.Resolution) (store.Resolved, error) {
	return db.queue.Resolve(ctx, r)
}

// Log implements store.DB.
func (db *DB) Log(ctx context.Context, records ...*audit.Record) ([]audit.Entry, error) {
	return db.queue.Log(ctx, records...)
}

// Update implements store.DB.
func (db *DB) Update(ctx context.Context, lane store.Lane, f func(store.Tx) error) error {
	return db.queue.Update(ctx, lane, f)
}
