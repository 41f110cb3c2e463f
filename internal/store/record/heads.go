package record

import (
	"fmt"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
)

const (
	// thinChunk is how many signed heads are looked at when one is signed (under a millisecond).
	thinChunk = 128
	// thinEvery is how often all of them are looked at: the finest span of which one is kept is an hour.
	thinEvery = time.Hour
)

// HeadRows is what one writing transaction of an engine knows of signed heads.
type HeadRows interface {
	Now() time.Time
	// Chain is the chain as it stands in this transaction.
	Chain() audit.Chain
	// LastHead is the number of the last record under a signed head; 0 = none.
	LastHead() (int64, error)
	// HeadsAfter reads at most n signed heads behind a number, ascending; n < 0 = all.
	HeadsAfter(after int64, n int) ([]audit.Head, error)
	PutHead(audit.Head) error
	DropHead(seq int64) error
}

// Thinning is how far the signed heads have been looked at for those that may go. A restart begins anew, and so
// does a transaction that failed after it moved on: in the next round.
type Thinning struct {
	after int64     // number of the last one that was looked at
	again time.Time // when the next round begins
}

// SignHead keeps a signed head of the chain, if it has grown since the last one, and removes those of the next heads that
// later ones supersede.
func SignHead(t HeadRows, signer audit.Signer, at *Thinning) error {
	signed, err := t.LastHead()
	if err != nil {
		return fmt.Errorf("read the last signed head: %w", err)
	}
	if chain := t.Chain(); chain.Seq != signed {
		if err := t.PutHead(audit.SignHead(chain, t.Now(), signer)); err != nil {
			return fmt.Errorf("keep a signed head: %w", err)
		}
	}
	return at.thin(t)
}

func (at *Thinning) thin(t HeadRows) error {
	if t.Now().Before(at.again) {
		return nil
	}
	heads, err := t.HeadsAfter(at.after, thinChunk+1)
	if err != nil {
		return fmt.Errorf("read signed heads: %w", err)
	}
	for i := range len(heads) - 1 {
		if audit.Superseded(heads[i].At, heads[i+1].At, t.Now()) {
			if err := t.DropHead(heads[i].Seq); err != nil {
				return fmt.Errorf("remove signed head %d: %w", heads[i].Seq, err)
			}
		}
		at.after = heads[i].Seq
	}
	if len(heads) <= thinChunk {
		*at = Thinning{again: t.Now().Add(thinEvery)}
	}
	return nil
}
