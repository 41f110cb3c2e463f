package admin

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/keybrake/keybrake/internal/vault"
)

func TestAClientInTheSameProcessIsRecordedAsWhoSignedIn(t *testing.T) {
	w := newWorld(t)
	c := As(w.Handler(), Actor{Name: "ines", From: "192.0.2.7", Role: vault.RoleAdmin})
	if _, err := c.CreateKey(t.Context(), KeyRequest{Name: "agent-support-refunds-one", Preset: "refund-support"}); err != nil {
		t.Fatal(err)
	}
	page, err := c.Audit(t.Context(), AuditFilter{Limit: 1})
	if err != nil || len(page.Items) != 1 {
		t.Fatal(page, err)
	}
	if got := string(page.Items[0]); !strings.Contains(got, `"ines"`) || !strings.Contains(got, "192.0.2.7") {
		t.Errorf("the record does not say who it was: %s", got)
	}
	var p *Problem
	if _, err = c.Key(t.Context(), "nobody"); !errors.As(err, &p) || p.Status != http.StatusNotFound {
		t.Errorf("a key that is not there: %v", err)
	}
}

func TestNobodyMayDoNothingInTheSameProcess(t *testing.T) {
	w := newWorld(t)
	_, err := As(w.Handler(), Actor{}).Keys(t.Context(), KeyFilter{})
	var p *Problem
	if !errors.As(err, &p) || p.Status != http.StatusUnauthorized {
		t.Error(err)
	}
}

func TestATailInTheSameProcessIsReadWhileItGrows(t *testing.T) {
	w := newWorld(t)
	c := As(w.Handler(), Actor{Name: "ines", Role: vault.RoleAdmin})
	ctx, leave := context.WithCancel(t.Context())
	read, write := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- c.TailAudit(ctx, AuditFilter{}, 100, write) }()
	lines := bufio.NewScanner(read)
	w.key(t, "agent-support-refunds-one")
	for lines.Scan() && !strings.Contains(lines.Text(), "key.create") {
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	leave()
	_ = read.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAnAnswerThatBreaksOffIsNoWholeOne(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"before it begins": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"half-way": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"items":[`)
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := As(h, Actor{Name: "ines", Role: vault.RoleAdmin}).Keys(t.Context(), KeyFilter{}); !errors.Is(err, ErrUnreachable) {
				t.Errorf("it is taken: %v", err)
			}
		})
	}
}

// TestAnAnswerThatNobodyWaitsForKeepsNothing: a page that was left before its answer began must not hold the handler for good.
func TestAnAnswerThatNobodyWaitsForKeepsNothing(t *testing.T) {
	asked, left, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(asked)
		<-left
		_, err := io.WriteString(w, `{"items":[]}`)
		ended <- err
	})
	ctx, leave := context.WithCancel(t.Context())
	go func() { <-asked; leave() }()
	if _, err := As(h, Actor{Name: "ines", Role: vault.RoleAdmin}).Keys(ctx, KeyFilter{}); !errors.Is(err, context.Canceled) {
		t.Errorf("who left is told %v", err)
	}
	close(left)
	if err := <-ended; err == nil {
		t.Error("the handler is told that its answer was read")
	}
}

func TestAnAnswerWithoutABodyIsAlwaysHeard(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	c := As(h, Actor{Name: "ines", Role: vault.RoleAdmin})
	var callers sync.WaitGroup
	for range 64 { // so that an answer ends before its caller looks
		callers.Go(func() {
			for range 200 {
				answer, err := c.http.Get(c.base)
				if err != nil {
					t.Error(err)
					return
				}
				_ = answer.Body.Close()
			}
		})
	}
	callers.Wait()
}

func TestStatus(t *testing.T) {
	w := newWorld(t)
	if err := w.db.SignHead(t.Context()); err != nil {
		t.Fatal(err)
	}
	signed, err := w.client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if signed.Signed != signed.Height || signed.SignedAt.IsZero() || signed.Trouble != "" || len(signed.Brakes) != 0 {
		t.Errorf("a quiet server: %+v", signed)
	}
	if _, err := w.client.Kill(t.Context(), KillRequest{Target: Target{All: true}}); err != nil {
		t.Fatal(err)
	}
	stopped, err := w.client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if stopped.Height <= signed.Height || stopped.Signed != signed.Signed || len(stopped.Brakes) != 1 {
		t.Errorf("a stopped one: %+v after %+v", stopped, signed)
	}
	if err := w.db.Close(); err != nil {
		t.Fatal(err)
	}
	broken, err := As(w.Handler(), Actor{Name: "ines", Role: vault.RoleAdmin}).Status(t.Context())
	if err != nil || broken.Trouble == "" || len(broken.Brakes) != 1 {
		t.Errorf("without a store: %+v, %v", broken, err)
	}
}
