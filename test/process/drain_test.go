package process

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// red waits until the operators' port says that money calls are not taken.
func (s *server) red() {
	s.h.t.Helper()
	for {
		resp, err := http.Get(s.Admin + "/readyz")
		if err != nil {
			s.h.t.Fatalf("the operators' port is gone before the calls on the wire are: %v\n%s", err, s.out)
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusServiceUnavailable {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// held reads the first cap of the first key.
func (h *home) held() (held, settled string) {
	h.t.Helper()
	var spend struct {
		Keys []struct {
			Caps []struct{ Held, Settled string }
		}
	}
	h.must(&spend, "spend", "-o", "json")
	return spend.Keys[0].Caps[0].Held, spend.Keys[0].Caps[0].Settled
}

// hanging waits until so many calls hang at the sandbox.
func (h *home) hanging(n int) {
	for {
		if _, hanging := h.health(); hanging == n {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// TestAStopWithCallsOnTheWireLosesNone: of 200 calls 100 are answered while the server stops and 100 never. Those are
// told that their outcome is unknown, and the next process finds exactly what they hold.
func TestAStopWithCallsOnTheWireLosesNone(t *testing.T) {
	h := newHome(t)
	s := h.serve("--calls-per-key", "200", "--drain-timeout", "3", "--lookups-per-second", "10000", "--lookups-per-upstream", "10000", "--reconcile-per-second", "0")
	key := h.ready()
	charge := h.seeded()[0].Charges[1]
	h.sandbox("POST", "faults", `{"kind":"hang","path":"/v1/refunds","times":100}`)
	h.sandbox("POST", "faults", `{"kind":"latency","path":"/v1/refunds","times":-1,"latency_ms":1000}`)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	var statuses sync.Map
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			r := call(t, client, key, "POST", s.Gateway+"/v1/refunds", "charge="+charge+"&amount=10", "Idempotency-Key", fmt.Sprint("k", i))
			n, _ := statuses.LoadOrStore(r.Status, new(atomic.Int64))
			n.(*atomic.Int64).Add(1)
		})
	}
	h.hanging(100)
	s.signal(syscall.SIGTERM)
	s.red()
	wg.Wait()
	<-s.done
	if s.err != nil {
		t.Errorf("it ended with %v\n%s", s.err, s.out)
	}
	count := func(status int) int64 {
		n, ok := statuses.Load(status)
		if !ok {
			return 0
		}
		return n.(*atomic.Int64).Load()
	}
	moved, unknown, away := count(200), count(504), count(503)
	if unknown != 100 || moved+unknown+away != 200 || moved == 0 {
		t.Errorf("%d answered, %d unknown, %d turned away", moved, unknown, away)
	}
	h.serve("--reconcile-per-second", "0")
	held, settled := h.held()
	if want := fmt.Sprintf("%d.%d0", moved/10, moved%10); held != "10.00" || settled != want {
		t.Errorf("after the restart %s are held and %s settled, want 10.00 and %s", held, settled, want)
	}
	h.must(nil, "audit", "verify")
	t.Logf("%d answered, %d unknown and held, %d turned away", moved, unknown, away)
}

func TestASecondSignalEndsTheProcessAtOnce(t *testing.T) {
	h := newHome(t)
	s := h.serve("--drain-timeout", "3600")
	key := h.ready()
	charge := h.seeded()[0].Charges[1]
	h.sandbox("POST", "faults", `{"kind":"hang","path":"/v1/refunds"}`)
	broken := make(chan struct{})
	go func() {
		defer close(broken)
		form := url.Values{"charge": {charge}, "amount": {"10"}}
		req, err := http.NewRequest("POST", s.Gateway+"/v1/refunds", strings.NewReader(form.Encode()))
		if err != nil {
			t.Error(err)
			return
		}
		req.Header.Set("Authorization", "Bearer "+key)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if resp, err := http.DefaultClient.Do(req); err == nil { // the process dies under it
			_ = resp.Body.Close()
			t.Errorf("it was answered with %d", resp.StatusCode)
		}
	}()
	h.hanging(1)
	s.signal(syscall.SIGTERM)
	s.red()
	s.signal(syscall.SIGTERM)
	<-s.done
	<-broken
	if status, ok := s.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGTERM {
		t.Errorf("%v\n%s", s.err, s.out)
	}
	h.serve("--reconcile-per-second", "0")
	if held, _ := h.held(); held != "0.10" {
		t.Errorf("%s are held", held)
	}
}
