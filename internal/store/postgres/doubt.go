package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/queue"
)

// doubt is a transaction whose COMMIT was sent and not answered.
type doubt struct {
	chain   audit.Chain // as it stands if it was committed
	records bool        // it has records, so that it can be looked for
	writes  int64       // how many transactions there are at least, if it was committed
	made    []*ledger.Reservation
	then    func() // adopts it
}

var (
	// errUncertain: nobody knows whether the transaction was committed.
	errUncertain = fmt.Errorf("%w: the commit was not answered", store.ErrUncertain)
	// errNotCommitted: it was not.
	errNotCommitted = errors.New("the transaction was not committed")
	// errNoTrace: it wrote no record, and others have committed something, which may have been it.
	errNoTrace = errors.New("the transaction left nothing to look for")
)

// settle finds out whether the transaction in doubt was committed: its last record is there, with its hash, or it is not.
// The lock answers first whether the old connection's transaction has ended, since it held it. awaited says that its
// callers still wait; otherwise they were told that it failed, and what it admitted will never be sent.
func (w *writer) settle(ctx context.Context, s *session, awaited bool) error {
	d := s.doubt
	if d == nil {
		return nil
	}
	var hash []byte
	before, err := s.begin(ctx, func(b *pgx.Batch) {
		b.Queue(`SELECT hash FROM audit WHERE seq = $1`, d.chain.Seq).QueryRow(func(row pgx.Row) error {
			if err := row.Scan(&hash); !errors.Is(err, pgx.ErrNoRows) {
				return err
			}
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("find out whether it was committed: %w", err)
	}
	if !d.records || string(hash) != string(d.chain.Hash[:]) {
		s.rollback()
		s.doubt = nil
		if !d.records && before.writes >= d.writes {
			return errNoTrace
		}
		return errNotCommitted
	}
	// It is there. That it will be there after the loss of this server, too, is known once something that was written after
	// it was committed.
	after := *before
	if err := s.commit(ctx, &pgx.Batch{}, before, &after, nil); err != nil {
		s.doubt = d
		return fmt.Errorf("make sure that it stays: %w", err)
	}
	s.doubt = nil
	d.then()
	if !awaited && len(d.made) > 0 { // only the calls' session makes any, and only its goroutine touches unsent
		w.unsent = append(w.unsent, d.made...)
	}
	return nil
}

// releaseUnsent takes back what was admitted by a transaction whose callers had been told that it failed. Nobody sends a
// call before Admit has returned, and it never did: that is proof that it was not sent, which only this process has. If it
// ends before, whoever takes over must call them unknown.
func (w *writer) releaseUnsent() error {
	if len(w.unsent) == 0 {
		return nil
	}
	const why = "PostgreSQL was not to be reached when the call was admitted, and it was refused"
	var units []*queue.Unit
	for _, r := range w.unsent[:min(len(w.unsent), queue.MaxBatch)] {
		units = append(units, queue.Resolve(&store.Resolution{
			Reservation: r.ID, Made: r.At, OnWire: true, // another node may have taken it over, and sent it again
			Fate: ledger.Fate{State: ledger.Released, Proof: ledger.ProofNotSent, Why: why},
			Record: &audit.Record{
				Kind: audit.KindOutcome, Ref: r.AuditSeq, Key: r.Key, Operation: r.Operation, Upstream: r.Upstream,
				Fate: "refused", Proof: string(ledger.ProofNotSent), Reason: why,
			},
		}))
	}
	if err := w.commit(units); err != nil {
		return err
	}
	w.unsent = w.unsent[len(units):]
	return nil
}
