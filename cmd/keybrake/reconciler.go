package main

import (
	"context"
	"time"

	"github.com/keybrake/keybrake/internal/admin"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/reconcile"
	"github.com/keybrake/keybrake/internal/vault"
)

// reconciler lets operators see and use what runs behind.
type reconciler struct {
	*reconcile.Reconciler
	ring *vault.Ring
}

// Seen implements admin.Reconciler.
func (r reconciler) Seen(rsv *ledger.Reservation) (why string, asked, next time.Time) {
	n := r.NoteOf(rsv)
	return n.Why, n.Asked, n.Next
}

// Ask implements admin.Reconciler.
func (r reconciler) Ask(ctx context.Context, id ledger.ReservationID, who string) (ledger.State, string, error) {
	asked, err := r.Reconciler.Ask(ctx, id, who)
	return asked.State, asked.Why, err
}

// Decide implements admin.Reconciler.
func (r reconciler) Decide(ctx context.Context, id ledger.ReservationID, moved bool, who, reason string) (ledger.State, string, error) {
	decided, err := r.Reconciler.Decide(ctx, id, moved, who, reason)
	return decided.State, decided.Why, err
}

// message takes a vendor's message for the upstream of that name. Where there is none it is as if it were not signed.
func (r reconciler) message(ctx context.Context, name string, message []byte, signature string) error {
	u, ok := r.ring.FindUpstream(name)
	if !ok {
		return vault.ErrSignature
	}
	return r.Announced(ctx, u, message, signature)
}

var _ admin.Reconciler = reconciler{}
