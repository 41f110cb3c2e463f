package sqlite

import (
	"context"
	"slices"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/store"
)

// takeOver marks what a dead process left on the wire as unknown: its calls may have happened.
func (w *writer) takeOver(ctx context.Context) error {
	var ids []ledger.ReservationID
	for id, r := range w.open {
		if r.State == ledger.Reserved {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for chunk := range slices.Chunk(ids, maxBatch) {
		units := make([]*unit, 0, len(chunk))
		for _, id := range chunk {
			r := w.open[id]
			units = append(units, &unit{resolution: &store.Resolution{
				Reservation: id,
				Fate:        ledger.Fate{State: ledger.Unresolved, Why: "the process that sent it ended before the answer"},
				Record: &audit.Record{
					Kind: audit.KindOutcome, Ref: r.AuditSeq, Key: r.Key, Operation: r.Operation, Upstream: r.Upstream,
					Fate: "unknown", Reason: "the process that sent it ended before the answer",
				},
			}})
		}
		if err := w.commit(units); err != nil {
			return err
		}
	}
	return nil
}
