package sqlite

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/keybrake/keybrake/internal/store"
)

// ticket is a place in a queue. Either the writer takes the work up or whoever queued it withdraws it, never both.
type ticket struct {
	taken atomic.Bool
	done  chan struct{} // closed by the writer once the work is durable or has failed
}

// take claims the work and reports whether nobody had.
func (t *ticket) take() bool { return t.taken.CompareAndSwap(false, true) }

// submit queues a unit and waits for it. A unit that was not taken up when ctx ends or the store's wait is over
// is withdrawn: then nothing of it will ever be written.
func (w *writer) submit(ctx context.Context, u *unit, queue chan *unit) error {
	if err := w.accepts(ctx); err != nil {
		return err
	}
	u.done = make(chan struct{})
	select {
	case queue <- u:
	default:
		return fmt.Errorf("%w: %d calls are waiting", store.ErrBusy, queueLength)
	}
	timer := time.NewTimer(w.db.wait)
	defer timer.Stop()
	if err := w.await(ctx, &u.ticket, timer.C); err != nil {
		return err
	}
	return u.err
}

// accepts says why no work can be queued; nil = it can. Work that nobody wants any more is not: a writer with nothing else
// to do might take it up before it is withdrawn.
func (w *writer) accepts(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", store.ErrBusy, err)
	}
	if err := w.db.broken.Load(); err != nil {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, *err)
	}
	select {
	case <-w.quit: // or callers who never stop asking would keep the store from closing
		return fmt.Errorf("%w: shutting down", store.ErrUnavailable)
	default:
		return nil
	}
}

// await waits for queued work to be done. Work that is still untouched when ctx ends, at over or at the end of
// the writer is withdrawn, which is the error. What was taken up is waited for: it may be durable already.
func (w *writer) await(ctx context.Context, t *ticket, over <-chan time.Time) error {
	var err error
	select {
	case <-t.done:
		return nil
	case <-over:
		err = fmt.Errorf("%w: waited %s", store.ErrBusy, w.db.wait)
	case <-ctx.Done():
		err = fmt.Errorf("%w: %w", store.ErrBusy, ctx.Err())
	case <-w.stopped:
		err = fmt.Errorf("%w: shutting down", store.ErrUnavailable)
	}
	if t.take() {
		return err
	}
	<-t.done
	return nil
}

// Update implements store.DB.
func (db *DB) Update(ctx context.Context, lane store.Lane, f func(store.Tx) error) error {
	w := db.writer
	if err := w.accepts(ctx); err != nil {
		return err
	}
	c := &control{f: f, ticket: ticket{done: make(chan struct{})}}
	if lane == store.LaneBrake {
		select {
		case w.brakes <- c:
		default:
			return fmt.Errorf("%w: %d stops are waiting", store.ErrBusy, laneLength)
		}
		// Not withdrawn while anybody wants it: a stop that comes late is still a stop.
		return w.served(ctx, c, nil)
	}
	timer := time.NewTimer(db.wait)
	defer timer.Stop()
	select {
	case w.controls <- c:
		return w.served(ctx, c, timer.C)
	case <-timer.C:
		return fmt.Errorf("%w: waited %s", store.ErrBusy, db.wait)
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", store.ErrBusy, ctx.Err())
	case <-w.stopped:
		return fmt.Errorf("%w: shutting down", store.ErrUnavailable)
	}
}

// served waits for an action and returns what came of it.
func (w *writer) served(ctx context.Context, c *control, over <-chan time.Time) error {
	if err := w.await(ctx, &c.ticket, over); err != nil {
		return err
	}
	return c.err
}
