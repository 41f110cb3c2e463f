package process

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// killed reports whether a key is stopped.
func killed(r answer) bool { return r.Status == 401 && r.Code == "keybrake_key_killed" }

// until asks until the answer is as wanted; it ends with the test's own deadline.
func until(t *testing.T, ask func() answer, want func(answer) bool) {
	t.Helper()
	deadline, ok := t.Deadline()
	for {
		r := ask()
		if want(r) {
			return
		}
		if ok && time.Now().After(deadline.Add(-10*time.Second)) {
			t.Fatalf("still %+v", r)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func TestTheNextCallAfterKillFailsWhileTheUpstreamHangs(t *testing.T) {
	h := newHome(t)
	s := h.serve()
	key := h.ready()
	charge := h.seeded()[0].Charges[1]
	h.sandbox("POST", "faults", `{"kind":"hang","path":"/v1/refunds","times":8,"after":true}`)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if r := call(t, http.DefaultClient, key, "POST", s.Gateway+"/v1/refunds", "charge="+charge+"&amount=100"); r.Status != 200 {
				t.Errorf("a call that had left gets Stripe's answer: %+v", r)
			}
		})
	}
	for {
		if _, hanging := h.health(); hanging == 8 {
			break
		}
		time.Sleep(2 * time.Millisecond)
	}
	var k struct {
		Stopped  []string
		InFlight int     `json:"in_flight"`
		MS       float64 `json:"effective_ms"`
	}
	h.must(&k, "kill", "agent-support-refunds-p1", "-o", "json")
	if len(k.Stopped) != 1 || k.InFlight != 8 {
		t.Errorf("%+v", k)
	}
	if r := call(t, http.DefaultClient, key, "GET", s.Gateway+"/v1/charges/"+charge, ""); !killed(r) {
		t.Errorf("the next call: %+v", r)
	}
	h.sandbox("POST", "release", "")
	wg.Wait()
	t.Logf("in force after %.3f ms with %d calls on the wire", k.MS, k.InFlight)
}

func TestKillWorksWhileTheGatewayIsSaturated(t *testing.T) {
	h := newHome(t)
	s := h.serve()
	key := h.ready()
	charge := h.seeded()[0].Charges[1]
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer client.CloseIdleConnections()
	var passed, refused atomic.Int64
	var returned atomic.Bool
	var late atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				after := returned.Load() // before the call is sent
				r := call(t, client, key, "GET", s.Gateway+"/v1/charges/"+charge, "")
				switch {
				case r.Status == 200 && after:
					late.Add(1)
				case r.Status == 200:
					passed.Add(1)
				case killed(r):
					refused.Add(1)
				default:
					t.Errorf("%+v", r)
				}
			}
		})
	}
	for passed.Load() < 500 {
		time.Sleep(time.Millisecond)
	}
	var k struct {
		MS       float64 `json:"effective_ms"`
		InFlight int     `json:"in_flight"`
	}
	h.must(&k, "kill", "--all", "-o", "json")
	returned.Store(true)
	for refused.Load() < 500 {
		time.Sleep(time.Millisecond)
	}
	close(stop)
	wg.Wait()
	if n := late.Load(); n > 0 {
		t.Errorf("%d calls passed that were sent after kill had returned", n)
	}
	t.Logf("%d passed, then %d refused; in force after %.3f ms with %d calls on the wire", passed.Load(), refused.Load(), k.MS, k.InFlight)
}

func TestSIGUSR1StopsEverything(t *testing.T) {
	h := newHome(t)
	s := h.serve()
	key := h.ready()
	ask := func() answer { return call(t, http.DefaultClient, key, "GET", s.Gateway+"/v1/charges", "") }
	if r := ask(); r.Status != 200 {
		t.Fatalf("%+v", r)
	}
	s.signal(syscall.SIGUSR1)
	until(t, ask, killed)
	h.must(nil, "resume", "--all", "--reason", "it was a test")
	if r := ask(); r.Status != 200 {
		t.Errorf("after resume: %+v", r)
	}
}

func TestKillLeavesAFileWhenTheAdminPortIsDead(t *testing.T) {
	h := newHome(t)
	s := h.serve()
	key := h.ready()
	ask := func() answer { return call(t, http.DefaultClient, key, "GET", s.Gateway+"/v1/charges", "") }
	h.killAdminPort()
	r := h.run("kill", "agent-support-refunds-p1", "--reason", "the admin port is dead")
	if r.Exit != 0 || !strings.Contains(r.Out+r.Err, "KILL") {
		t.Errorf("exit %d\n%s%s", r.Exit, r.Out, r.Err)
	}
	until(t, ask, killed)
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	s = h.serve()
	if r := ask(); !killed(r) {
		t.Errorf("after a restart: %+v", r)
	}
}

// killAdminPort makes this user's commands see an admin port at which nobody listens, as if it had died. The
// gateway lives on.
func (h *home) killAdminPort() {
	h.t.Helper()
	const dead = "http://127.0.0.1:1" // a port that was free a moment ago may be somebody else's by now
	path := filepath.Join(h.dir, "keybrake", "server.json")
	text, err := os.ReadFile(path)
	if err != nil {
		h.t.Fatal(err)
	}
	var file map[string]any
	if err := json.Unmarshal(text, &file); err != nil {
		h.t.Fatal(err)
	}
	file["admin"] = dead
	if text, err = json.Marshal(file); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func TestAKillFileWrittenByHandStopsEverything(t *testing.T) {
	h := newHome(t)
	s := h.serve()
	key := h.ready()
	if err := os.WriteFile(filepath.Join(h.dir, "kb.db.KILL"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, func() answer { return call(t, http.DefaultClient, key, "GET", s.Gateway+"/v1/charges", "") }, killed)
}

func TestAStopTokenCanStopAndNothingElse(t *testing.T) {
	h := newHome(t)
	s := h.serve()
	key := h.ready()
	var token struct{ Token string }
	h.must(&token, "token", "create", "pager", "--role", "stop", "-o", "json")
	env := []string{"KEYBRAKE_ADMIN_URL=" + s.Admin, "KEYBRAKE_ADMIN_TOKEN=" + token.Token}
	for _, args := range [][]string{
		{"spend"}, {"key", "list"}, {"audit", "list"}, {"resume", "--all", "--reason", "x"}, {"upstream", "list"},
		{"key", "create", "--preset", "refund-support"}, {"token", "list"}, {"rates", "set", "EUR=1"},
	} {
		if r := h.runEnv(env, args...); r.Exit != 1 {
			t.Errorf("%v: exit %d %s%s", args, r.Exit, r.Out, r.Err)
		}
	}
	if r := h.runEnv(env, "kill", "agent-support-refunds-p1"); r.Exit != 0 {
		t.Errorf("kill: exit %d %s", r.Exit, r.Err)
	}
	if r := call(t, http.DefaultClient, key, "GET", s.Gateway+"/v1/charges", ""); !killed(r) {
		t.Errorf("%+v", r)
	}
}

func TestACallOnTheWireFinishesWhenTheServerIsToldToStop(t *testing.T) {
	h := newHome(t)
	s := h.serve()
	key := h.ready()
	charge := h.seeded()[0].Charges[1]
	h.sandbox("POST", "faults", `{"kind":"hang","path":"/v1/refunds","after":true}`)
	got := make(chan answer, 1)
	go func() {
		got <- call(t, http.DefaultClient, key, "POST", s.Gateway+"/v1/refunds", "charge="+charge+"&amount=100")
	}()
	for {
		if _, hanging := h.health(); hanging == 1 {
			break
		}
		time.Sleep(2 * time.Millisecond)
	}
	s.signal(syscall.SIGTERM)
	h.sandbox("POST", "release", "")
	if r := <-got; r.Status != 200 {
		t.Errorf("%+v", r)
	}
	<-s.done
	if s.err != nil {
		t.Errorf("%v\n%s", s.err, s.out)
	}
}
