package gateway_test

import (
	"encoding/base64"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
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
