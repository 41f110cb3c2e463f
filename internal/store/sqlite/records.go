package sqlite

import (
	"database/sql"
	"errors"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/record"
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

// reader reads the record in this transaction.
func (t *tx) reader() record.Reader { return record.Reader{Folder: t.archives, Rows: t} }

func (t *tx) EachRecord(from int64, f func(audit.Entry) error) error { return t.reader().Each(from, f) }

func (t *tx) Query(q store.RecordQuery) (store.RecordPage, error) { return t.reader().Query(q) }

func (t *tx) Archives() ([]store.Archive, error) { return t.reader().Archives() }

func (t *tx) FirstAt(at time.Time) (int64, error) { return t.reader().FirstAt(at) }

// Stored implements record.Rows.
func (t *tx) Stored(from, to int64, f func(audit.Entry) error) error {
	rows, err := t.q.QueryContext(t.ctx, `SELECT seq, at, key, call, hash, body FROM audit WHERE seq >= ? AND seq <= ? ORDER BY seq`, from, to)
	if err != nil {
		return err
	}
	return eachEntry(rows, f)
}

// WrittenAt implements record.Rows.
func (t *tx) WrittenAt(seq int64) (time.Time, error) {
	var at int64
	err := t.q.QueryRowContext(t.ctx, `SELECT at FROM audit WHERE seq >= ? ORDER BY seq LIMIT 1`, seq).Scan(&at)
	return fromMicros(at), err
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
