package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/upstream"
	"github.com/keybrake/keybrake/internal/vault"
)

// kept is how long a vendor keeps its log: what is older was not seen and cannot be.
const kept = 29 * 24 * time.Hour

// place is how far an upstream's log of events was followed.
type place struct {
	Event string    `json:"event,omitempty"` // the last one; empty: none yet
	At    time.Time `json:"at"`              // everything up to then was seen
}

func placeName(id policy.UpstreamID) string { return "events:" + string(id) }

// Follow reads what has changed at every upstream since the last time, and writes the last word about every object that
// some key is counted for: a refund that failed after all, an intent that was captured for less or canceled.
func (r *Reconciler) Follow(ctx context.Context) error {
	var errs []error
	for _, u := range r.Ring.Upstreams() {
		if err := r.followOne(ctx, u); err != nil {
			errs = append(errs, fmt.Errorf("follow the events of %s: %w", u.Name, err))
		}
	}
	return errors.Join(errs...)
}

func (r *Reconciler) followOne(ctx context.Context, u *vault.Upstream) error {
	at, err := r.placeOf(ctx, u.ID)
	if err != nil {
		return err
	}
	look := r.lookup(u, "", nil)
	for {
		began := r.Store.Now()
		changed, next, more, err := r.Vendor.Changes(ctx, at.Event, at.At, look)
		if errors.Is(err, upstream.ErrForgotten) {
			r.Log.Warn("an upstream has forgotten how far its events were followed; they are read again from a time on", "upstream", u.Name, "from", at.At)
			at.Event = ""
			continue
		}
		if err != nil {
			return err
		}
		for _, c := range changed {
			if err := r.learn(ctx, u, c, look); err != nil {
				return err // the place stays: it is learned again
			}
		}
		if next != at.Event || began.Sub(at.At) > time.Hour {
			at = place{Event: next, At: began.Add(-time.Minute)}
			if err := r.setPlace(ctx, u.ID, at); err != nil {
				return err
			}
		}
		if !more {
			return nil
		}
	}
}

// placeOf reads how far an upstream's events were followed. At first that is now: what is older no key is counted for.
func (r *Reconciler) placeOf(ctx context.Context, id policy.UpstreamID) (at place, err error) {
	var text string
	err = r.Store.View(ctx, func(tx store.Tx) error {
		text, err = tx.Meta(placeName(id))
		return err
	})
	if errors.Is(err, store.ErrNotFound) || err == nil && text == "" {
		at = place{At: r.Store.Now().Add(-time.Hour)}
		return at, r.setPlace(ctx, id, at)
	}
	if err == nil {
		err = json.Unmarshal([]byte(text), &at)
	}
	if err != nil {
		return place{}, fmt.Errorf("read the place: %w", err)
	}
	if oldest := r.Store.Now().Add(-kept); at.At.Before(oldest) {
		at = place{At: oldest}
	}
	return at, nil
}

func (r *Reconciler) setPlace(ctx context.Context, id policy.UpstreamID, at place) error {
	text, err := json.Marshal(at)
	if err == nil {
		err = r.Store.Update(ctx, store.LaneControl, func(tx store.Tx) error { return tx.SetMeta(placeName(id), string(text)) })
	}
	if err != nil {
		return fmt.Errorf("keep the place: %w", err)
	}
	return nil
}

// ErrNotOurs says that a message was not signed by the vendor for this upstream.
var ErrNotOurs = vault.ErrSignature

// Announced takes a message that a vendor pushed. It is only a hint: the object is read at the vendor before anything is
// believed, so an old message that is sent again changes nothing.
func (r *Reconciler) Announced(ctx context.Context, u *vault.Upstream, message []byte, signature string) error {
	if err := u.VerifyWebhook(message, signature, r.Store.Now()); err != nil {
		return err
	}
	c, err := r.Vendor.Announced(message)
	if err != nil {
		return err
	}
	return r.learn(ctx, u, c, r.lookup(u, "", nil))
}

// learn reads an object that has changed, if some key is counted for it, and writes the last word about it.
func (r *Reconciler) learn(ctx context.Context, u *vault.Upstream, c upstream.Changed, look upstream.Lookup) error {
	keys, err := r.countedAt(ctx, u, c.Object)
	if err != nil || len(keys) == 0 {
		return err
	}
	truths, err := r.Vendor.Truths(ctx, c, look)
	if err != nil {
		return fmt.Errorf("learn about %s: %w", c.Object, err)
	}
	for _, t := range truths {
		var on []policy.KeyID
		for k := range keys {
			if k.Bucket == t.Final.Bucket && k.Currency == t.Final.Amount.Currency {
				on = append(on, k.Key)
			}
		}
		for _, key := range on {
			if err := r.learned(ctx, u, key, c, t, len(on) == 1); err != nil {
				return err
			}
		}
	}
	return nil
}

// countedAt lists the keys of an upstream that are counted for an object.
func (r *Reconciler) countedAt(ctx context.Context, u *vault.Upstream, id policy.ObjectID) (keys map[ledger.ObjectKey]ledger.Object, err error) {
	err = r.Store.View(ctx, func(tx store.Tx) error {
		keys, err = tx.Counted(id)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look up who is counted for %s: %w", id, err)
	}
	for k := range keys {
		if key, ok := r.Ring.Key(k.Key); !ok || key.Upstream != u.ID {
			delete(keys, k)
		}
	}
	return keys, nil
}

func (r *Reconciler) learned(ctx context.Context, u *vault.Upstream, key policy.KeyID, c upstream.Changed, t upstream.Truth, alone bool) error {
	rec := &audit.Record{
		Kind: audit.KindReconciled, Key: key, Upstream: u.ID, Mode: u.Mode.String(), Object: string(c.Object),
		Fate: upstream.Moved.String(), Alone: alone, Why: t.Why + ", as the event " + c.Event + " announced",
		Effects: []audit.Effect{{Bucket: string(t.Final.Bucket), Amount: t.Final.Amount, Object: string(c.Object)}},
		Finals:  []audit.Final{{Bucket: string(t.Final.Bucket), Object: string(t.Final.Object), Amount: t.Final.Amount}},
	}
	if k, ok := r.Ring.Key(key); ok {
		rec.KeyName = k.Name
	}
	done, err := r.Store.Resolve(ctx, &store.Resolution{
		Record: rec, Learned: &store.Learned{Key: key, Final: ledger.Final(t.Final), Alone: alone},
	})
	if err != nil {
		return fmt.Errorf("write what became of %s: %w", c.Object, err)
	}
	for _, o := range done.Overs {
		r.Log.Error("more moved later than was counted; the key's writes are frozen",
			"key", key, "bucket", o.Bucket, "counted_usd", o.Held.String(), "moved_usd", o.Moved.String(), "object", c.Object)
	}
	if !done.Already {
		r.Log.Info("an object reached its last state", "key", key, "object", c.Object, "why", t.Why)
	}
	return nil
}
