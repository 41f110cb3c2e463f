package reconcile

import (
	"context"
	"fmt"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/upstream"
)

// Asked is what came of asking about one reservation.
type Asked struct {
	State ledger.State // where it stands now
	Note
}

// Ask asks about one reservation now, whether it is due or not. who is recorded; empty for ourselves.
func (r *Reconciler) Ask(ctx context.Context, id ledger.ReservationID, who string) (Asked, error) {
	var rsv *ledger.Reservation
	err := r.Store.View(ctx, func(tx store.Tx) (err error) {
		rsv, err = tx.Reservation(id)
		return err
	})
	if err != nil {
		return Asked{}, fmt.Errorf("read reservation %d: %w", id, err)
	}
	if rsv.State == ledger.Reserved || rsv.State == ledger.Unresolved && r.Store.Now().Before(r.given(rsv)) {
		return Asked{}, store.ErrOnTheWire
	}
	if rsv.State != ledger.Unresolved {
		return Asked{State: rsv.State, Note: Note{Why: rsv.Why}}, nil
	}
	return r.ask(ctx, rsv, who)
}

// ask asks the vendor about one reservation and writes what it says.
func (r *Reconciler) ask(ctx context.Context, rsv *ledger.Reservation, who string) (Asked, error) {
	r.asking.Lock()
	defer r.asking.Unlock()
	open := Asked{State: ledger.Unresolved}
	found, err := r.inquire(ctx, rsv)
	if err != nil {
		open.Note = r.noted(rsv, "the upstream could not be asked: "+err.Error(), time.Time{})
		return open, fmt.Errorf("ask about reservation %d: %w", rsv.ID, err)
	}
	switch found.Fate {
	case upstream.Moved:
		fate := ledger.Fate{State: ledger.Settled, Pending: found.Pending, Why: found.Why, UpstreamRequest: rsv.UpstreamRequest}
		for _, f := range found.Finals {
			fate.Finals = append(fate.Finals, ledger.Final(f))
		}
		for _, m := range found.Moved {
			fate.Moved = append(fate.Moved, ledger.Moved(m))
		}
		return r.resolve(ctx, rsv, fate, &found, who)
	case upstream.Refused:
		return r.absent(ctx, rsv, &found, who)
	}
	if !rsv.Absent.IsZero() { // something is there after all
		if _, err := r.resolve(ctx, rsv, ledger.Fate{State: ledger.Unresolved, Why: found.Why}, &found, who); err != nil {
			return open, err
		}
	}
	open.Note = r.noted(rsv, found.Why, time.Time{})
	return open, nil
}

// inquire reads at the vendor.
func (r *Reconciler) inquire(ctx context.Context, rsv *ledger.Reservation) (upstream.Outcome, error) {
	u, err := r.upstreamOf(rsv.Upstream)
	if err != nil {
		return upstream.Outcome{}, err
	}
	sent, err := upstream.DecodeSent(rsv.Sent)
	if err != nil {
		return upstream.Outcome{Why: "its request was not kept"}, nil
	}
	q := &upstream.Inquiry{
		Sent: sent, Effects: rsv.Effects, From: rsv.FirstSent, To: r.given(rsv).Add(Late),
		Owned: func(id policy.ObjectID) (bool, error) { return r.owned(ctx, id) },
	}
	found, err := r.Vendor.Inquire(ctx, q, r.lookup(u, sent.Host, scope(sent.Header)))
	if err == nil && found.Fate == upstream.Moved && len(found.Moved) != len(rsv.Effects) {
		return upstream.Outcome{Why: "what was found does not fit what was held"}, nil
	}
	return found, err
}

// owned reports whether some call is counted for an object.
func (r *Reconciler) owned(ctx context.Context, id policy.ObjectID) (owned bool, err error) {
	err = r.Store.View(ctx, func(tx store.Tx) error {
		counted, err := tx.Counted(id)
		owned = len(counted) > 0
		return err
	})
	return owned, err
}

// absent takes note that nothing is to be seen of a call, and lets its holds go when that is proof.
func (r *Reconciler) absent(ctx context.Context, rsv *ledger.Reservation, found *upstream.Outcome, who string) (Asked, error) {
	now := r.Store.Now()
	late := r.given(rsv).Add(Late)
	open := Asked{State: ledger.Unresolved}
	switch {
	case now.Before(late):
		open.Note = r.noted(rsv, found.Why+"; it may still come", late)
		return open, nil
	case rsv.Absent.IsZero():
		asked, err := r.resolve(ctx, rsv, ledger.Fate{State: ledger.Unresolved, Absent: now, Why: found.Why + "; it is looked at once more"}, found, who)
		if err == nil && asked.State == ledger.Unresolved {
			asked.Note = r.noted(rsv, found.Why+"; it is looked at once more", now.Add(Late))
		}
		return asked, err
	case now.Before(rsv.Absent.Add(Late)):
		open.Note = r.noted(rsv, found.Why+"; it is looked at once more", rsv.Absent.Add(Late))
		return open, nil
	}
	return r.resolve(ctx, rsv, ledger.Fate{State: ledger.Released, Proof: ledger.ProofAbsent, Why: found.Why + "; twice"}, found, who)
}

// Decide ends a reservation by an operator's word: that it moved as much as was held, or that nothing did. It does not
// ask the vendor.
func (r *Reconciler) Decide(ctx context.Context, id ledger.ReservationID, moved bool, who, reason string) (Asked, error) {
	var rsv *ledger.Reservation
	err := r.Store.View(ctx, func(tx store.Tx) (err error) {
		rsv, err = tx.Reservation(id)
		return err
	})
	if err != nil {
		return Asked{}, fmt.Errorf("read reservation %d: %w", id, err)
	}
	if rsv.State == ledger.Reserved || rsv.State == ledger.Unresolved && r.Store.Now().Before(r.given(rsv)) {
		return Asked{}, store.ErrOnTheWire
	}
	if rsv.State != ledger.Unresolved {
		return Asked{State: rsv.State, Note: Note{Why: rsv.Why}}, nil
	}
	fate := ledger.Fate{State: ledger.Released, Proof: ledger.ProofOperator, Why: reason}
	found := &upstream.Outcome{Fate: upstream.Refused, Why: reason}
	if moved {
		fate, found.Fate = ledger.Fate{State: ledger.Settled, Why: reason}, upstream.Moved
		for i := range rsv.Effects {
			m := ledger.Moved{Amount: rsv.Effects[i].Amount, Object: rsv.Effects[i].Object}
			fate.Moved, found.Moved = append(fate.Moved, m), append(found.Moved, upstream.MovedEffect(m))
		}
	}
	return r.resolve(ctx, rsv, fate, found, who)
}

// resolve writes a fate with its record, unless the call was sent again or resolved meanwhile.
func (r *Reconciler) resolve(ctx context.Context, rsv *ledger.Reservation, fate ledger.Fate, found *upstream.Outcome, who string) (Asked, error) {
	rec := &audit.Record{
		Kind: audit.KindReconciled, Ref: rsv.AuditSeq, Key: rsv.Key, Upstream: rsv.Upstream, Operation: rsv.Operation,
		Customers: rsv.Customers, Account: rsv.IdemAccount, Fate: wordOf(fate), Proof: string(fate.Proof), Why: fate.Why,
		Operator: who, Pending: fate.Pending,
	}
	for _, f := range fate.Finals {
		rec.Finals = append(rec.Finals, audit.Final{Bucket: string(f.Bucket), Object: string(f.Object), Amount: f.Amount})
	}
	if who != "" {
		rec.Action, rec.Subject, rec.Reason = "reconcile", fmt.Sprintf("rsv_%d", rsv.ID), fate.Why
	}
	if k, ok := r.Ring.Key(rsv.Key); ok {
		rec.KeyName, rec.Mode = k.Name, k.Mode.String()
	}
	for i, m := range found.Moved {
		e := audit.Effect{Amount: m.Amount, Object: string(m.Object)}
		if i < len(rsv.Effects) {
			e.Bucket, e.Rate = string(rsv.Effects[i].Bucket), rsv.Effects[i].Quote.Rate
			if usd, err := rsv.Effects[i].Quote.USD(m.Amount.Minor); err == nil {
				e.USD = usd
			}
		}
		rec.Effects = append(rec.Effects, e)
	}
	done, err := r.Store.Resolve(ctx, &store.Resolution{Reservation: rsv.ID, Made: rsv.At, Fate: fate, Record: rec, Asked: rsv.Sends()})
	if err != nil {
		return Asked{}, fmt.Errorf("write what became of reservation %d: %w", rsv.ID, err)
	}
	for _, o := range done.Overs {
		r.Log.Error("the upstream moved more than was held; the key's writes are frozen",
			"key", rsv.Key, "bucket", o.Bucket, "held_usd", o.Held.String(), "moved_usd", o.Moved.String(), "reservation", int64(rsv.ID))
	}
	if done.Already {
		return Asked{State: done.State, Note: Note{Why: "it was sent again or resolved meanwhile"}}, nil
	}
	r.Log.Info("an unknown outcome was asked about", "reservation", int64(rsv.ID), "key", rsv.Key, "fate", rec.Fate, "proof", rec.Proof, "why", fate.Why)
	return Asked{State: done.State, Note: Note{Why: fate.Why, Asked: r.Store.Now()}}, nil
}

func wordOf(f ledger.Fate) string {
	switch f.State {
	case ledger.Settled:
		return upstream.Moved.String()
	case ledger.Released:
		return upstream.Refused.String()
	default:
		return upstream.Unknown.String()
	}
}
