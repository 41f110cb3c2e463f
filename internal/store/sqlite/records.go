package sqlite

import (
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
)

func (t *tx) Append(rec *audit.Record) (audit.Entry, error) {
	if t.w == nil {
		return audit.Entry{}, errReadOnly
	}
	rec.At = t.now
	e := t.chain.Append(rec)
	return e, t.w.writeEntry(t.ctx, &e)
}

func (t *tx) Height() (int64, [32]byte, error) {
	var seq int64
	var hash []byte
	var out [32]byte
	err := t.q.QueryRowContext(t.ctx, `SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1`).Scan(&seq, &hash)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, audit.NewChain(audit.FirstChain).Hash, nil
	}
	copy(out[:], hash)
	return seq, out, err
}

func (t *tx) EachRecord(from int64, f func(audit.Entry) error) error {
	border, err := t.border()
	if err != nil {
		return err
	}
	if from <= border.Seq {
		archives, err := t.Archives()
		if err != nil {
			return err
		}
		for e, err := range walk(archives, from, border.Seq, true) {
			if err == nil {
				err = f(e)
			}
			if err != nil {
				return err
			}
		}
	}
	rows, err := t.q.QueryContext(t.ctx, `SELECT seq, at, key, call, hash, body FROM audit WHERE seq >= ? ORDER BY seq`, max(from, border.Seq+1))
	if err != nil {
		return err
	}
	return eachEntry(rows, f)
}

func eachEntry(rows *sql.Rows, f func(audit.Entry) error) error {
	defer rows.Close()
	for rows.Next() {
		var e audit.Entry
		var at int64
		var hash []byte
		if err := rows.Scan(&e.Seq, &at, &e.Key, &e.Call, &hash, &e.Bytes); err != nil {
			return err
		}
		e.At = fromMicros(at)
		copy(e.Hash[:], hash)
		if err := f(e); err != nil {
			return err
		}
	}
	return rows.Err()
}

// FirstAt halves the numbers: the store's clock never goes back, so they are in the order of time.
func (t *tx) FirstAt(at time.Time) (int64, error) {
	if n, found, err := t.firstArchivedAt(at); err != nil || found {
		return n, err
	}
	border, err := t.border()
	if err != nil {
		return 0, err
	}
	last, _, err := t.Height()
	if err != nil {
		return 0, err
	}
	low, high := border.Seq+1, last+1
	for low < high {
		middle := low + (high-low)/2
		var written int64
		if err := t.q.QueryRowContext(t.ctx, `SELECT at FROM audit WHERE seq >= ? ORDER BY seq LIMIT 1`, middle).Scan(&written); err != nil {
			return 0, fmt.Errorf("read the time of record %d: %w", middle, err)
		}
		if fromMicros(written).Before(at) {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low, nil
}
