package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/codec"
	"github.com/keybrake/keybrake/internal/store/record"
)

var _ record.HeadRows = (*tx)(nil)

func (t *tx) Append(rec *audit.Record) (audit.Entry, error) {
	if !t.writes {
		return audit.Entry{}, errReadOnly
	}
	rec.At, rec.Node = t.now, t.db.label
	e := t.chain.Append(rec)
	_, err := t.exec(`INSERT INTO audit (seq, at, key, call, hash, body) VALUES ($1, $2, $3, $4, $5, $6)`,
		e.Seq, codec.Micros(e.At), text(e.Key), e.Call, e.Hash[:], e.Bytes)
	if err != nil {
		return e, fmt.Errorf("write record %d: %w", e.Seq, err)
	}
	return e, nil
}

// Height is the last record that is there. It is not read from books: what is told and what is there must not differ
// unseen.
func (t *tx) Height() (int64, [32]byte, error) {
	if t.writes {
		return t.chain.Seq, t.chain.Hash, nil
	}
	last, err := t.entries(`ORDER BY seq DESC LIMIT 1`)
	if err != nil || len(last) == 0 {
		return 0, audit.NewChain(audit.FirstChain).Hash, err
	}
	return last[0].Seq, last[0].Hash, nil
}

// reader reads the record in this transaction.
func (t *tx) reader() record.Reader {
	return record.Reader{Folder: t.db.archives, Rows: t, Elsewhere: t.elsewhere}
}

func (t *tx) EachRecord(from int64, f func(audit.Entry) error) error { return t.reader().Each(from, f) }

func (t *tx) Query(q store.RecordQuery) (store.RecordPage, error) { return t.reader().Query(q) }

func (t *tx) Archives() ([]store.Archive, error) { return t.reader().Archives() }

func (t *tx) FirstAt(at time.Time) (int64, error) { return t.reader().FirstAt(at) }

// entries reads the records that a clause selects.
func (t *tx) entries(clause string, args ...any) ([]audit.Entry, error) {
	return listed(t, func(row pgx.CollectableRow) (e audit.Entry, err error) {
		var at int64
		var hash []byte
		err = row.Scan(&e.Seq, &at, &e.Key, &e.Call, &hash, &e.Bytes)
		e.At = codec.FromMicros(at)
		copy(e.Hash[:], hash)
		return e, err
	}, `SELECT seq, at, key, call, hash, body FROM audit `+clause, args...)
}

// Stored implements record.Rows.
func (t *tx) Stored(from, to int64, f func(audit.Entry) error) error {
	for from <= to {
		page, err := t.entries(`WHERE seq >= $1 AND seq <= $2 ORDER BY seq LIMIT $3`, from, to, rowsPage)
		if err != nil {
			return err
		}
		for _, e := range page {
			if err := f(e); err != nil {
				return err
			}
			from = e.Seq + 1
		}
		if len(page) < rowsPage {
			return nil
		}
	}
	return nil
}

// WrittenAt implements record.Rows.
func (t *tx) WrittenAt(seq int64) (time.Time, error) {
	var at int64
	err := t.one(`SELECT at FROM audit WHERE seq >= $1 ORDER BY seq LIMIT 1`, []any{seq}, &at)
	return codec.FromMicros(at), err
}

// SignHead implements store.DB.
func (db *DB) SignHead(ctx context.Context) error {
	return db.Update(ctx, store.LaneControl, func(t store.Tx) error {
		return record.SignHead(t.(*tx), db.signer, &db.thinning)
	})
}

// Chain implements record.HeadRows.
func (t *tx) Chain() audit.Chain { return t.chain }

// LastHead implements record.HeadRows.
func (t *tx) LastHead() (seq int64, err error) {
	return seq, t.one(`SELECT coalesce(max(seq), 0) FROM heads`, nil, &seq)
}

// PutHead implements record.HeadRows.
func (t *tx) PutHead(head audit.Head) error {
	doc, err := json.Marshal(head)
	if err != nil {
		return err
	}
	t.signed = &head
	_, err = t.exec(`INSERT INTO heads (seq, doc) VALUES ($1, $2) ON CONFLICT (seq) DO NOTHING`, head.Seq, doc)
	return err
}

// DropHead implements record.HeadRows.
func (t *tx) DropHead(seq int64) error {
	_, err := t.exec(`DELETE FROM heads WHERE seq = $1`, seq)
	return err
}

// HeadsAfter implements record.HeadRows.
func (t *tx) HeadsAfter(after int64, n int) ([]audit.Head, error) {
	query := `SELECT doc FROM heads WHERE seq > $1 ORDER BY seq`
	if n >= 0 {
		query += fmt.Sprintf(` LIMIT %d`, n)
	}
	return listed(t, func(row pgx.CollectableRow) (h audit.Head, err error) {
		var doc []byte
		if err := row.Scan(&doc); err != nil {
			return h, err
		}
		if err := json.Unmarshal(doc, &h); err != nil {
			return h, fmt.Errorf("decode head: %w", err)
		}
		return h, nil
	}, query, after)
}

func (t *tx) Heads(from int64) ([]audit.Head, error) { return t.HeadsAfter(from-1, -1) }
