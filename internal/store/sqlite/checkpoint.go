package sqlite

import (
	"context"
	"database/sql"
	"time"
)

const (
	// checkpointEvery is how often the log is copied into the database, beside the writer. Done by the writer
	// itself, as SQLite does by default, the copying of some thousand pages and its flush would stand in the way
	// of every call that waits.
	checkpointEvery = 250 * time.Millisecond
	// maxLogFrames is when the writer copies the rest itself, so that the log starts again from its beginning:
	// beside a writer that never rests it would grow for ever. A frame is a page, 4 kB.
	maxLogFrames = 16384
	// maxLogBytes is what remains of the file after that.
	maxLogBytes = 64 << 20
)

// copyLog runs until the store closes.
func (db *DB) copyLog() {
	defer close(db.copied)
	tick := time.NewTicker(checkpointEvery)
	defer tick.Stop()
	for {
		select {
		case <-db.writer.stopped:
			return
		case <-tick.C:
		}
		frames, err := checkpoint(db.side)
		if err != nil {
			continue // a reader is in the way, or the disk is full: tried again; a dead disk is noticed by the writer
		}
		if frames > maxLogFrames {
			select {
			case db.writer.restartLog <- struct{}{}:
			default: // asked already
			}
		}
	}
}

// checkpoint copies what no reader stands before and returns how many frames the log has.
func checkpoint(q interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}) (frames int64, err error) {
	var busy, copied int64
	err = q.QueryRowContext(context.Background(), "PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &frames, &copied)
	return frames, err
}
