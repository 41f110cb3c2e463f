package queue

import (
	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/store"
)

// Abandoned is what an engine gives itself for a reservation that is on the wire of a process that is no more: its outcome
// is unknown, because the call may have happened.
func Abandoned(r *ledger.Reservation) *Unit {
	const why = "the process that sent it ended before the answer"
	return &Unit{resolution: &store.Resolution{
		Reservation: r.ID, Made: r.At, OnWire: true,
		Fate: ledger.Fate{State: ledger.Unresolved, Why: why},
		Record: &audit.Record{
			Kind: audit.KindOutcome, Ref: r.AuditSeq, Key: r.Key, Operation: r.Operation, Upstream: r.Upstream,
			Fate: "unknown", Reason: why,
		},
	}}
}
