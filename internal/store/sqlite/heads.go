package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
)

const (
	// thinChunk is how many signed heads are looked at when one is signed (under a millisecond).
	thinChunk = 128
	// thinEvery is how often all of them are looked at: the finest span of which one is kept is an hour.
	thinEvery = time.Hour
)

// thinning is how far the signed heads have been looked at for those that may go. A restart begins anew, and so
// does a transaction that failed after it moved on: in the next round.
type thinning struct {
	after int64     // number of the last one that was looked at
	again time.Time // when the next round begins
}

// SignHead implements store.DB.
func (db *DB) SignHead(ctx context.Context) error {
	return db.Update(ctx, store.LaneControl, func(t store.Tx) error {
		own := t.(*tx)
		if err := own.signHead(db.signer); err != nil {
			return err
		}
		return own.thinHeads(&own.w.thinning)
	})
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
	head := audit.SignHead(t.chain, t.now, signer)
	doc, err := json.Marshal(head)
	if err != nil {
		return err
	}
	t.signed = &head
	_, err = t.w.stmts.putHead.ExecContext(t.ctx, t.chain.Seq, doc)
	return err
}

// thinHeads removes those of the next heads that later ones supersede.
func (t *tx) thinHeads(at *thinning) error {
	if t.now.Before(at.again) {
		return nil
	}
	heads, err := t.headsAfter(at.after, thinChunk+1)
	if err != nil {
		return fmt.Errorf("read signed heads: %w", err)
	}
	for i := range len(heads) - 1 {
		if audit.Superseded(heads[i].At, heads[i+1].At, t.now) {
			if _, err := t.exec(`DELETE FROM heads WHERE seq = ?`, heads[i].Seq); err != nil {
				return fmt.Errorf("remove signed head %d: %w", heads[i].Seq, err)
			}
		}
		at.after = heads[i].Seq
	}
	if len(heads) <= thinChunk {
		*at = thinning{again: t.now.Add(thinEvery)}
	}
	return nil
}

// headsAfter reads at most n signed heads behind a number, ascending.
func (t *tx) headsAfter(after int64, n int) ([]audit.Head, error) {
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

func (t *tx) Heads(from int64) ([]audit.Head, error) { return t.headsAfter(from-1, -1) }
