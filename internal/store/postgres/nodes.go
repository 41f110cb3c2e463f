package postgres

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/codec"
)

// made makes a transaction that only reads one that is committed as an admission is: a server that was cut off from its
// standby, which others have left for the standby, does not answer.
const made = `SELECT pg_logical_emit_message(true, 'keybrake', '')`

const (
	// pulses is the number of connections on which this node says that it is there and hears of the others. They are apart
	// from those of calls and of operators: however busy these are, the node keeps its lease.
	pulses = 3
	// channel is where transactions say that they changed what nodes keep. Only operators' do, and the rare call that freezes
	// a key or adds a customer: NOTIFY takes a lock of the whole database at the commit, which no other call should wait for.
	channel = "keybrake"
	// listenAgain is how long a lost listening connection waits before it is made anew.
	listenAgain = 200 * time.Millisecond
	// nodesKept is how long nodes that have ended are listed.
	nodesKept = 24 * time.Hour
)

var _ store.Shared = (*DB)(nil)

// Beat implements store.Shared.
func (db *DB) Beat(ctx context.Context, b store.Beat) error {
	tag, err := db.pulse.Exec(ctx, `UPDATE nodes SET seen = `+serverMicros+`, braked = $2, control = $3, lease = $4, calls = $5, in_flight = $6, ended = 0 WHERE id = $1`,
		db.node, b.Braked, b.Control, b.Lease.Microseconds(), b.Calls, b.InFlight)
	if err != nil {
		return fmt.Errorf("%w: say that this node is there: %w", store.ErrUnavailable, err)
	}
	if tag.RowsAffected() == 0 {
		return fmt.Errorf("say that this node is there: %w: its row is gone", store.ErrUnavailable)
	}
	return nil
}

// Nodes implements store.Shared.
func (db *DB) Nodes(ctx context.Context) (store.Nodes, error) {
	var out store.Nodes
	var now int64
	batch := &pgx.Batch{}
	batch.Queue(`SELECT control, ` + serverMicros + ` FROM books WHERE one = 1`).QueryRow(func(row pgx.Row) error { return row.Scan(&out.Control, &now) })
	batch.Queue(`SELECT id, name, version, started, seen, ended, braked, control, lease, calls, in_flight FROM nodes
		WHERE ended = 0 OR ended > `+serverMicros+` - $1 ORDER BY started, id`, nodesKept.Microseconds()).
		Query(func(rows pgx.Rows) (err error) {
			out.Nodes, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (n store.NodeRow, err error) {
				var started, seen, ended, lease int64
				err = row.Scan(&n.ID, &n.Name, &n.Version, &started, &seen, &ended, &n.Braked, &n.Control, &lease, &n.Calls, &n.InFlight)
				n.Started, n.Seen, n.Ended = codec.FromMicros(started), codec.FromMicros(seen), codec.FromMicros(ended)
				n.Lease, n.Own = time.Duration(lease)*time.Microsecond, n.ID == db.node
				return n, err
			})
			return err
		})
	batch.Queue(made)
	if err := db.pulse.SendBatch(ctx, batch).Close(); err != nil {
		return store.Nodes{}, fmt.Errorf("%w: list the nodes: %w", store.ErrUnavailable, err)
	}
	out.Now = codec.FromMicros(now)
	return out, nil
}

// Woken implements store.Shared.
func (db *DB) Woken() <-chan struct{} { return db.woken }

// notify tells all nodes, this one included, at the commit.
func notify(b *pgx.Batch, control int64) {
	b.Queue(`SELECT pg_notify($1, $2)`, channel, strconv.FormatInt(control, 10))
}

// listen wakes whoever waits for changes until the store closes. What is said while there is no connection is lost: whoever
// waits looks by itself as well.
func (db *DB) listen() {
	ctx, end := db.untilClosing()
	defer end()
	for ctx.Err() == nil {
		_ = db.hear(ctx) // begun anew
		rest(ctx, listenAgain)
	}
}

func (db *DB) hear(ctx context.Context) error {
	conn, err := pgx.ConnectConfig(ctx, db.config.Copy())
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing on it matters any more
	if _, err := conn.Exec(ctx, `LISTEN `+channel); err != nil {
		return err
	}
	for {
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return err
		}
		select {
		case db.woken <- struct{}{}:
		default: // it is awake already
		}
	}
}
