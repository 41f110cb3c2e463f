package alert

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"

	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

// Times of a sender.
const (
	// retryFirst is after how long a message that did not arrive is sent again; it doubles up to retryMost.
	retryFirst = 5 * time.Second
	retryMost  = 15 * time.Minute
	// givenUp is how long it is tried.
	givenUp = 3 * 24 * time.Hour
	// waiting is how many messages of a target are looked at.
	waiting = 1000
	// idle is how long a sender sleeps that nobody wakes.
	idle = time.Minute
)

// wake tells a sender that there is a message.
func (w *Watcher) wake(target string) {
	if c, ok := w.kick[target]; ok {
		select {
		case c <- struct{}{}:
		default: // it will look anyway
		}
	}
}

// giveUpStrays ends the wait of messages for targets that the config file has no more.
func (w *Watcher) giveUpStrays(ctx context.Context) error {
	return w.Store.Update(ctx, store.LaneControl, func(tx store.Tx) error {
		all, err := tx.Messages("", listed)
		for _, m := range all {
			if !m.Done.IsZero() || w.target(m.Target) != nil {
				continue
			}
			m.Done, m.Error = tx.Now(), "given up: the config file has no such target any more"
			if err := tx.PutMessage(m); err != nil {
				return err
			}
		}
		return err
	})
}

// send delivers one target's messages until ctx ends: the ones that are due, oldest first. Another target never waits for it.
func (w *Watcher) send(ctx context.Context, t *Target) {
	for ctx.Err() == nil {
		next, err := w.Deliver(ctx, t.Name)
		if err != nil && ctx.Err() == nil {
			w.Log.Error("messages could not be delivered", "target", t.Name, "err", err)
		}
		select {
		case <-ctx.Done():
		case <-w.kick[t.Name]:
		case <-time.After(next):
		}
	}
}

// Deliver sends a target's messages that are due and says after how long there is more to do. An error is the store's: what
// the receiver answers is kept with the message.
func (w *Watcher) Deliver(ctx context.Context, target string) (next time.Duration, err error) {
	w.init()
	t := w.target(target)
	if t == nil {
		return idle, fmt.Errorf("there is no target %s", target)
	}
	var due []store.MessageRow
	next = idle
	err = w.Store.View(ctx, func(tx store.Tx) error {
		all, err := tx.Messages(target, waiting)
		for _, m := range all {
			switch rest := m.Due.Sub(tx.Now()); {
			case !m.Done.IsZero():
			case rest > 0:
				next = min(next, rest)
			default:
				due = append([]store.MessageRow{m}, due...) // oldest first
			}
		}
		return err
	})
	if err != nil {
		return retryFirst, fmt.Errorf("read the messages: %w", err)
	}
	for _, m := range due {
		failed := t.deliver(ctx, m.ID, m.Body, w.Store.Now())
		if failed != nil && ctx.Err() != nil {
			return next, nil // a stop is no failure of the receiver's; it is sent again at the next start
		}
		m.Attempts++
		now := w.Store.Now()
		switch {
		case failed == nil:
			m.Done, m.Error = now, ""
		case now.Sub(m.Created) > givenUp:
			m.Done, m.Error = now, "given up: "+failed.Error()
			w.Log.Error("an alert was given up", "target", target, "message", m.ID, "err", failed)
		default:
			m.Error, m.Due = failed.Error(), now.Add(backoff(m.Attempts))
			next = min(next, m.Due.Sub(now))
			w.Log.Warn("an alert did not arrive and is sent again", "target", target, "message", m.ID, "attempts", m.Attempts, "err", failed)
		}
		// The receiver may have it though this is not written: then it gets it twice, under one id.
		if err := w.Store.Update(context.WithoutCancel(ctx), store.LaneControl, func(tx store.Tx) error { return tx.PutMessage(m) }); err != nil {
			return retryFirst, fmt.Errorf("keep what became of a message: %w", err)
		}
	}
	return next, nil
}

// backoff is how long to wait after so many attempts: doubling, a fifth to and fro, so that senders do not march in step.
func backoff(attempts int) time.Duration {
	d := retryMost
	if attempts < 16 {
		d = min(retryFirst<<(attempts-1), retryMost)
	}
	var b [1]byte
	_, _ = rand.Read(b[:]) // never fails: the runtime ends the process instead
	return d + (time.Duration(b[0])-128)*d/640
}

// Test delivers a test message to a target now and returns why it did not arrive.
func (w *Watcher) Test(ctx context.Context, target string) error {
	t := w.target(target)
	if t == nil {
		return fmt.Errorf("there is no target %q in the config file", target)
	}
	now := w.Store.Now()
	body, err := json.Marshal(Message{Type: "keybrake.test", Timestamp: now.UTC(), Alerts: []Told{}})
	if err != nil {
		return err
	}
	return t.deliver(ctx, vault.NewID("msg_"), body, now)
}
