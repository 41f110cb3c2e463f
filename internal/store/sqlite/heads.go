package sqlite

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
)

// SignHead implements store.DB.
func (db *DB) SignHead(ctx context.Context) error {
	return db.Update(ctx, store.LaneControl, func(t store.Tx) error { return t.(*tx).signHead(db.signer) })
}

// signHead keeps a signed head of the chain as it stands in this transaction.
func (t *tx) signHead(signer audit.Signer) error {
	var signed int64
	if err := t.q.QueryRowContext(t.ctx, `SELECT coalesce(max(seq), 0) FROM heads`).Scan(&signed); err != nil {
		return fmt.Errorf("read the last signed head: %w", err)
	}
	if t.chain.Seq == signed {
		return nil
	}
	doc, err := json.Marshal(audit.SignHead(t.chain, t.now, signer))
	if err != nil {
		return err
	}
	_, err = t.w.stmts.putHead.ExecContext(t.ctx, t.chain.Seq, doc)
	return err
}
