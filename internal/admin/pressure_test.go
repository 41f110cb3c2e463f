package admin

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

// TestStopsAndFiguresAreAnsweredWhileTheStoreHangs: with a thousand callers waiting for it.
func TestStopsAndFiguresAreAnsweredWhileTheStoreHangs(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-p1")
	stalled, end := make(chan struct{}), make(chan struct{})
	var callers sync.WaitGroup
	callers.Go(func() {
		if err := w.db.Update(context.Background(), store.LaneControl, func(store.Tx) error {
			close(stalled)
			<-end
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
	<-stalled
	for range 1000 {
		callers.Go(func() {
			_, err := w.db.Log(context.Background(), &audit.Record{Kind: audit.KindSystem})
			if err != nil && !errors.Is(err, store.ErrBusy) {
				t.Error(err)
			}
		})
	}
	answer, err := w.client.Kill(t.Context(), KillRequest{Target: Target{Keys: []string{k.ID}}})
	if err != nil || len(answer.Stopped) != 1 || answer.Warning == "" {
		t.Errorf("%+v %v", answer, err)
	}
	if w.passes(t, k.Key, false) {
		t.Error("a call passes after the stop")
	}
	spend, err := w.Spend(t.Context(), KeyFilter{})
	if err != nil || len(spend.Keys) != 1 || len(spend.Keys[0].Caps) == 0 {
		t.Errorf("%+v %v", spend, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	var refused *Refusal
	if _, err := w.Resume(ctx, Actor{Name: "t", Role: vault.RoleAdmin}, ResumeRequest{Target: Target{Keys: []string{k.ID}}, Reason: "x"}); !errors.As(err, &refused) || refused.Kind != Unavailable {
		t.Errorf("a resumption that the store cannot take: %v", err)
	}
	close(end)
	callers.Wait()
	until(t, "the stop is durable", func() bool {
		var rows []store.BrakeRow
		if err := w.db.View(t.Context(), func(tx store.Tx) (err error) { rows, err = tx.Brakes(); return err }); err != nil {
			t.Fatal(err)
		}
		return len(rows) == 1
	})
}
