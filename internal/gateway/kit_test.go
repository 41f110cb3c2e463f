package gateway_test

import (
	"context"

	"encoding/base64"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

// late is a handler that is set after the server around it was started.
type late struct {
	handler atomic.Pointer[http.Handler]
}

func (l *late) set(h http.Handler) { l.handler.Store(&h) }

func (l *late) ServeHTTP(w http.ResponseWriter, r *http.Request) { (*l.handler.Load()).ServeHTTP(w, r) }

// eventually waits until something that another goroutine brings about is so. The bound only ends a test
// that has failed.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	for range 10_000 {
		if so() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("it never came to pass that %s", what)
}

func basicAuth(key string) string { return base64.StdEncoding.EncodeToString([]byte(key + ":")) }

// hookedAdapter is the real adapter with a place to stand on the path.
type hookedAdapter struct {
	upstream.Adapter
	beforeResolve func()
	afterResolve  func()
	beforeOutcome func()
}

func (a *hookedAdapter) Resolve(ctx context.Context, call *upstream.Call, p *policy.Policy, look upstream.Lookup) (*policy.Refusal, error) {
	if a.beforeResolve != nil {
		a.beforeResolve()
	}
	refusal, err := a.Adapter.Resolve(ctx, call, p, look)
	if a.afterResolve != nil {
		a.afterResolve()
	}
	return refusal, err
}

func (a *hookedAdapter) Outcome(call *upstream.Call, answer *upstream.Answer) upstream.Outcome {
	if a.beforeOutcome != nil {
		a.beforeOutcome()
	}
	return a.Adapter.Outcome(call, answer)
}
