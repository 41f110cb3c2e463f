package sqlite

import (
	"slices"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/store/queue"
)

// takeOver marks what a dead process left on the wire as unknown: its calls may have happened.
func (w *writer) takeOver() error {
	var ids []ledger.ReservationID
	for id, r := range w.open {
		if r.State == ledger.Reserved {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for chunk := range slices.Chunk(ids, queue.MaxBatch) {
		units := make([]*queue.Unit, 0, len(chunk))
		for _, id := range chunk {
			units = append(units, queue.Abandoned(w.open[id]))
		}
		if err := w.Commit(units); err != nil {
			return err
		}
	}
	return nil
}
