package sqlite

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/record"
)

var _ record.HeadRows = (*tx)(nil)

// SignHead implements store.DB.
func (db *DB) SignHead(ctx context.Context) error {
	return db.Update(ctx, store.LaneControl, func(t store.Tx) error {
		own := t.(*tx)
		return record.SignHead(own, db.signer, &own.w.thinning)
	})
}

// Chain implements record.HeadRows.
func (t *tx) Chain() audit.Chain { return t.chain }

// LastHead implements record.HeadRows.
func (t *tx) LastHead() (seq int64, err error) {
	err = t.q.QueryRowContext(t.ctx, `SELECT coalesce(max(seq), 0) FROM heads`).Scan(&seq)
	return seq, err
}

// PutHead implements record.HeadRows.
func (t *tx) PutHead(head audit.Head) error {
	doc, err := json.Marshal(head)
	if err != nil {
		return err
	}
	t.signed = &head
	_, err = t.w.stmts.putHead.ExecContext(t.ctx, head.Seq, doc)
	return err
}

// DropHead implements record.HeadRows.
func (t *tx) DropHead(seq int64) error {
	_, err := t.exec(`DELETE FROM heads WHERE seq = ?`, seq)
	return err
}

// HeadsAfter implements record.HeadRows.
func (t *tx) HeadsAfter(after int64, n int) ([]audit.Head, error) {
	rows, err := t.q.QueryContext(t.ctx, `SELECT doc FROM heads WHERE seq > ? ORDER BY seq LIMIT ?`, after, n)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []audit.Head
	for rows.Next() {
		var doc []byte
		if err := rows.Scan(&doc); err != nil {
			return nil, err
		}
		var h audit.Head
		if err := json.Unmarshal(doc, &h); err != nil {
			return nil, fmt.Errorf("decode head: %w", err)
		}
		out = append(out, h)
	}
	return out, rows.Err()
}

func (t *tx) Heads(from int64) ([]audit.Head, error) { return t.HeadsAfter(from-1, -1) }
