package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/store"
)

// Limits of a connection, each with its reason.
const (
	// idleInTransaction is how long a node may hold the lock without doing anything: one that is paused or cut off must not
	// keep the others from a stop. A node that was only slow is served again, from the beginning. It is shorter than a
	// node's lease, so that a stop waits for no longer than it does for that.
	idleInTransaction = 500 * time.Millisecond
	// lockTimeout is how long one attempt waits for the lock. It is longer than idleInTransaction, so that the lock of a
	// node that has gone is seen to fall.
	lockTimeout = 2 * time.Second
	// reach is how long a connection may take to come about at one server. A server that is not there is not waited for: the
	// calls are refused, and the next one asks again.
	reach = time.Second
	// unheard is how long what was sent to the other end may stay without a sign that it arrived, either way. A network that
	// loses everything tells nobody, and left to itself the kernel goes on trying for a quarter of an hour.
	unheard = 3 * time.Second
)

// parse reads a connection string and adds what every connection of ours has.
func parse(url string) (*pgx.ConnConfig, error) {
	c, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, errors.New("the connection string cannot be read; it looks like postgres://user@host:5432/database") // err may hold the password
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = reach
	}
	if len(c.Fallbacks) > 0 && c.ValidateConnect == nil {
		c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	keepAlive := net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 2}
	c.DialFunc = (&net.Dialer{KeepAliveConfig: keepAlive, Control: giveUpUnheard}).DialContext
	for name, value := range map[string]string{
		"application_name": "keybrake", "timezone": "UTC", "lock_timeout": fmt.Sprint(lockTimeout.Milliseconds()),
		// The server, too, must notice soon that a node has gone.
		"tcp_keepalives_idle": "1", "tcp_keepalives_interval": "1", "tcp_keepalives_count": "2", "tcp_user_timeout": fmt.Sprint(unheard.Milliseconds()),
	} {
		if c.RuntimeParams[name] == "" {
			c.RuntimeParams[name] = value
		}
	}
	return c, nil
}

// hasten lets a connection come about within a time whichever of several servers is the one to be had: those before it may be
// silent, their machines or the network gone.
func hasten(c *pgx.ConnConfig, within time.Duration) {
	if c.ConnectTimeout == reach && len(c.Fallbacks) > 0 {
		c.ConnectTimeout = min(reach, within/time.Duration(2+len(c.Fallbacks)))
	}
}

// pool makes connections beside those of the writer. each, if it is not nil, prepares every one.
func (db *DB) pool(ctx context.Context, config *pgx.ConnConfig, n int32, each func(context.Context, *pgx.Conn) error) (*pgxpool.Pool, error) {
	c, err := pgxpool.ParseConfig("")
	if err != nil {
		return nil, err
	}
	c.ConnConfig, c.MaxConns, c.AfterConnect = config, n, each
	return pgxpool.NewWithConfig(ctx, c)
}

// forRows is for connections on which calls are served: what these read are single rows, by an index, however old the
// statistics are.
func forRows(c *pgx.ConnConfig) *pgx.ConnConfig {
	c = c.Copy()
	for _, plan := range []string{"enable_seqscan", "enable_hashjoin", "enable_mergejoin", "jit"} {
		c.RuntimeParams[plan] = "off"
	}
	return c
}

// fit makes sure that what is committed on a connection is as durable as an admission, and that no server renews this node's lease
// which another one has taken the place of.
func (db *DB) fit(ctx context.Context, conn *pgx.Conn) error {
	set, err := readSettings(ctx, conn)
	if err != nil {
		return err
	}
	if err := set.refuse(db.unsafe); err != nil {
		return err
	}
	return checkTimeline(db.knows(), set.timeline)
}

// session is a connection that writes. It belongs to one goroutine.
type session struct {
	db   *DB
	conn *pgx.Conn // nil: not connected
	// warned is a warning of the server's in this transaction: that a commit was not waited for, say.
	warned atomic.Bool
	// doubt is a transaction of which nobody knows whether it was committed; nil: there is none.
	doubt *doubt
	// store is the name of the store at the other end, and timeline that of the server, 0 if it is not known.
	store    string
	timeline int64
	// astray: it is not as this node knew it, and the transaction that freezes it is being written. No other one is begun
	// without holding it against what this node knew, not on the other session either.
	astray bool
}

// locked is the row of books as a transaction finds it.
type locked struct {
	writes, control int64
	chain           audit.Chain
	next            ledger.ReservationID
	now             time.Time
	outside         bool // this node's part in the record is not open
}

const (
	beginSQL = `BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE`
	lockSQL  = `SELECT writes, control, seq, hash, at, reservation FROM books WHERE one = 1 FOR UPDATE`
	// clockSQL is a statement of its own: its time is one after the lock was there.
	clockSQL = `SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint`
	moveSQL  = `UPDATE books SET writes = $1, control = $2, seq = $3, hash = $4, at = $5, reservation = $6 WHERE one = 1`
)

// begin begins a transaction and takes the lock; what reads queues is read in the same round trip, after the lock was
// taken. On an error there is no transaction.
func (s *session) begin(ctx context.Context, reads func(*pgx.Batch)) (*locked, error) {
	if err := s.connect(ctx); err != nil {
		return nil, err
	}
	s.warned.Store(false)
	// Read before the lock is taken: the node's other session may go on while the answer is on its way.
	seen := s.db.knows()
	l := &locked{chain: audit.NewChain(audit.FirstChain)}
	var at, server int64
	b := &pgx.Batch{}
	b.Queue(beginSQL)
	b.Queue(lockSQL).QueryRow(func(row pgx.Row) error {
		var hash []byte
		err := row.Scan(&l.writes, &l.control, &l.chain.Seq, &hash, &at, &l.next)
		copy(l.chain.Hash[:], hash)
		return err
	})
	b.Queue(clockSQL).QueryRow(func(row pgx.Row) error { return row.Scan(&server) })
	s.db.readPart(b, l)
	if reads != nil {
		reads(b)
	}
	if err := s.conn.SendBatch(ctx, b).Close(); err != nil {
		s.rollback()
		return nil, fmt.Errorf("begin: %w", err)
	}
	l.now = s.db.at(at, server)
	if !s.astray {
		if err := checkPosition(seen, &l.chain); err != nil {
			s.rollback()
			return nil, err
		}
	}
	return l, nil
}

// at is the time of a transaction: the server's, or the test's, and never before the last record.
func (db *DB) at(at, server int64) time.Time {
	now := time.UnixMicro(server).UTC()
	if db.clock != nil {
		now = db.ownTime()
	} else {
		db.learn(server)
	}
	if last := time.UnixMicro(at).UTC(); now.Before(last) {
		return last
	}
	return now
}

// commit sends the writes, moves the row of books on and commits, in one round trip. An errUncertain leaves a doubt behind;
// on any other error nothing was written.
func (s *session) commit(ctx context.Context, b *pgx.Batch, before, after *locked, made []*ledger.Reservation) error {
	if after.control != before.control {
		notify(b, after.control)
	}
	b.Queue(moveSQL, before.writes+1, after.control, after.chain.Seq, after.chain.Hash[:], after.now.UnixMicro(), int64(after.next))
	b.Queue(`COMMIT`).Exec(func(tag pgconn.CommandTag) error {
		if tag.String() != "COMMIT" {
			return fmt.Errorf("COMMIT was answered with %s", tag)
		}
		return nil
	})
	err := s.conn.SendBatch(ctx, b).Close()
	if err == nil && !s.warned.Load() {
		return nil
	}
	if err != nil && s.rollback() {
		return fmt.Errorf("commit: %w", err) // the server says that it did not
	}
	s.drop()
	s.doubt = &doubt{chain: after.chain, records: after.chain.Seq > before.chain.Seq, writes: before.writes + 1, made: made}
	if err == nil {
		err = errors.New("PostgreSQL warned that the commit is not safe")
	}
	return fmt.Errorf("%w: %w", errUncertain, err)
}

// rollback ends the transaction and reports whether the server says so. If not, the connection is given up.
func (s *session) rollback() bool {
	if s.conn == nil {
		return false
	}
	if !s.conn.IsClosed() {
		ctx, cancel := context.WithTimeout(context.Background(), reach)
		defer cancel()
		if _, err := s.conn.Exec(ctx, `ROLLBACK`); err == nil {
			return true
		}
	}
	s.drop()
	return false
}

// drop gives the connection up.
func (s *session) drop() {
	if s.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), reach)
	defer cancel()
	_ = s.conn.Close(ctx) // nothing on it matters any more
	s.conn = nil
}

// connect makes sure that there is a connection to a server that may be written to, and that nothing is in doubt.
func (s *session) connect(ctx context.Context) error {
	// The node's other session may have found the server that took this one's place. Whether there is no other is seen anew.
	if s.conn != nil && (s.conn.IsClosed() || !s.astray && checkTimeline(s.db.knows(), s.timeline) != nil) {
		s.drop()
	}
	if s.conn != nil {
		return nil
	}
	c := forRows(s.db.config)
	c.RuntimeParams["idle_in_transaction_session_timeout"] = fmt.Sprint(idleInTransaction.Milliseconds())
	c.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if n.SeverityUnlocalized == "WARNING" {
			s.warned.Store(true)
		}
	}
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	s.conn = conn
	if err := s.examine(ctx); err != nil {
		s.drop()
		return err
	}
	return nil
}

// examine makes sure that the server at the other end may be written to and is the one that this node knew.
func (s *session) examine(ctx context.Context) error {
	set, err := readSettings(ctx, s.conn)
	if err != nil {
		return err
	}
	if err := set.refuse(s.db.unsafe); err != nil {
		return fmt.Errorf("%w: %w", errUnfit, err)
	}
	safety := set.safety()
	s.db.safety.Store(&safety)
	s.timeline = set.timeline
	return s.recognize(ctx, set.system)
}

// lost reports whether an error came before the server can have committed anything and may be gone if everything is done
// again: a conflict, or a connection that ended.
func lost(err error) bool {
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch refused.Code {
		case "40001", "40P01", "55P03", // serialization, deadlock, lock not to be had
			"57014", "25P03", "57P01", "57P02", "57P03": // statement cancelled, idle for too long, shut down, crashed, not up yet
			return true
		}
		return false
	}
	var network net.Error
	return errors.As(err, &network) || pgconn.SafeToRetry(err) || errors.Is(err, errGone)
}

var (
	// errGone: the connection has ended.
	errGone = errors.New("the connection has ended")
	// errUnfit: the server must not be written to.
	errUnfit = errors.New("this PostgreSQL cannot be used")
)

// unavailable wraps an error of PostgreSQL's for a caller: nothing was written.
func (db *DB) unavailable(what string, err error) error {
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok && refused.Code == "55P03" {
		return fmt.Errorf("%w: %s: another node holds the lock", store.ErrBusy, what)
	}
	wrapped := fmt.Errorf("%w: %s: %w", store.ErrUnavailable, what, err)
	if errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrBusy) {
		wrapped = err
	}
	db.trouble.Stuck(wrapped)
	return wrapped
}
