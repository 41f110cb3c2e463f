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
		case <-db.writer.queue.Stopped():
			return
		case <-tick.C:
		}
		if frames := db.copyOnce(db.side); frames > maxLogFrames {
			db.writer.queue.Aside(func() { db.copyOnce(db.writer.conn) }) // while nobody writes
		}
	}
}

// copyOnce copies once and returns how many frames the log has. What cannot be copied now, because a reader is
// in the way or the disk is full, is tried again. After a failed read, write or flush nothing is: the kernel
// forgets the pages that it could not write, a second flush would succeed without them, and the log, which
// alone still had them, would be written over.
func (db *DB) copyOnce(q logCopier) int64 {
	if db.trouble.Broken() != nil {
		return 0
	}
	frames, err := checkpoint(q)
	if err != nil {
		db.look("copy the log", err)
		return 0
	}
	return frames
}

type logCopier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// checkpoint copies what no reader stands before and returns how many frames the log has.
func checkpoint(q logCopier) (frames int64, err error) {
	var busy, copied int64
	err = q.QueryRowContext(context.Background(), "PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &frames, &copied)
	return frames, err
}
