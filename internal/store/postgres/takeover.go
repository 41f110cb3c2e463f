package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/store/queue"
)

const (
	// lookEvery is how often a node says that it is there and looks after those that are not.
	lookEvery = time.Second
	// nodeSilent is how long a node may say nothing until its calls are taken over. Being taken over costs a call nothing
	// but that its outcome is called unknown until it is told, so this is far above what a slow machine takes.
	nodeSilent = 10 * time.Second
)

// lookAfter says that this node is there, and takes over from nodes that are not, until the store closes.
func (db *DB) lookAfter() {
	open, end := db.untilClosing()
	defer end()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-open.Done():
			return
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeout(open, db.wait)
		// What fails is tried again at the next tick, and readiness tells of it: nothing works then.
		if db.register(ctx) == nil {
			_ = db.readFigures(ctx)
			_ = db.loadBooks(ctx)
			_ = db.giveUpSilent(ctx)
			if left, err := db.absent(ctx, 1); err == nil && len(left) > 0 {
				db.queue.Aside(func() { _ = db.writer.takeOver() })
			} else if lost, err := db.unclosed(ctx); err == nil && lost {
				db.queue.Aside(func() { _ = db.writer.closeLost() })
			}
		}
		cancel()
	}
}

// register says that this node is there, as of now by the server's clock, and learns what that says: a machine that was
// suspended, or one that has nothing to write, tells the right time all the same.
func (db *DB) register(ctx context.Context) error {
	var now int64
	err := db.pulse.QueryRow(ctx, `INSERT INTO nodes (id, name, version, started, alive, seen, braked, control, lease, calls, in_flight, ended)
		VALUES ($1, $2, $3, `+serverMicros+`, `+serverMicros+`, 0, 0, 0, 0, 0, 0, 0)
		ON CONFLICT (id) DO UPDATE SET alive = excluded.alive, ended = 0 RETURNING alive`, db.node, text(db.named), text(db.version)).Scan(&now)
	if err != nil {
		return fmt.Errorf("register this node: %w", err)
	}
	db.learn(now)
	return nil
}

// serverMicros is the server's time in microseconds. Nodes are judged by it also where a test has a clock of its own.
const serverMicros = `(extract(epoch FROM clock_timestamp()) * 1000000)::bigint`

// unclosed reports whether another node has ended without closing its part in the record.
func (db *DB) unclosed(ctx context.Context) (lost bool, err error) {
	if db.label == "" {
		return false, nil
	}
	err = db.reads.QueryRow(ctx, `SELECT EXISTS (SELECT FROM nodes WHERE open AND ended > 0 AND id <> $1)`, db.node).Scan(&lost)
	return lost, err
}

// sayGoodbye says that this node has ended, so that its calls are taken over at once. Without it others wait for nodeSilent.
func (db *DB) sayGoodbye() {
	if db.label != "" && db.writer.Broken() == nil && !db.trouble.IsStuck() {
		_ = db.writer.closeOwn()
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), reach)
	defer cancel()
	_, _ = db.reads.Exec(ctx, `UPDATE nodes SET ended = `+serverMicros+` WHERE id = $1`, db.node)
}

// giveUpSilent notes that nodes have ended which said nothing for long, and forgets those that ended long ago.
func (db *DB) giveUpSilent(ctx context.Context) error {
	b := &pgx.Batch{}
	b.Queue(`UPDATE nodes SET ended = `+serverMicros+` WHERE ended = 0 AND greatest(alive, seen + lease) < `+serverMicros+` - $1`, nodeSilent.Microseconds())
	b.Queue(`DELETE FROM nodes WHERE NOT open AND ended > 0 AND ended < `+serverMicros+` - $1`, nodesKept.Microseconds())
	return db.reads.SendBatch(ctx, b).Close()
}

// takeOver marks what nodes that are no more left on the wire as unknown: those calls may have happened. A node that was
// only silent tells what became of its calls when it is back; until then they hold what they hold.
func (w *writer) takeOver() error {
	ctx, cancel := context.WithTimeout(context.Background(), w.db.wait)
	defer cancel()
	for {
		left, err := w.db.absent(ctx, queue.MaxBatch)
		if err != nil || len(left) == 0 {
			return err
		}
		units := make([]*queue.Unit, 0, len(left))
		for _, r := range left {
			units = append(units, queue.Abandoned(r))
		}
		if err := w.Commit(units); err != nil {
			return err
		}
	}
}

// absent reads reservations that are on the wire of nodes that have ended or are silent.
func (db *DB) absent(ctx context.Context, n int) ([]*ledger.Reservation, error) {
	rows, err := db.reads.Query(ctx, `SELECT `+joinedColumns+` FROM reservations r LEFT JOIN nodes n ON n.id = r.node
		WHERE r.state < 2 AND r.state = 0 AND (n.id IS NULL OR n.ended > 0 OR greatest(n.alive, n.seen + n.lease) < `+serverMicros+` - $1) ORDER BY r.id LIMIT $2`,
		nodeSilent.Microseconds(), n)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanReservation)
}
