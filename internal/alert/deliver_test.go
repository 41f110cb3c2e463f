package alert

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/store"
)

// due delivers what a target's outbox has due.
func (w *world) due(t *testing.T, target string) time.Duration {
	t.Helper()
	next, err := w.Deliver(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// one is the only message of a target.
func (w *world) one(t *testing.T, target string) store.MessageRow {
	t.Helper()
	all := w.outbox(t, target)
	if len(all) != 1 {
		t.Fatalf("%s has %d messages, not one", target, len(all))
	}
	return all[0]
}

func TestAMessageIsDeliveredOnce(t *testing.T) {
	r := newReceiver(t)
	w := newWorld(t, hook(t, "hook", r.URL))
	w.seen.Denials = []DenialBurst{refused("a", 40)}
	w.look(t)
	w.due(t, "hook")
	w.due(t, "hook")
	m := w.one(t, "hook")
	if m.Done.IsZero() || m.Attempts != 1 || m.Error != "" {
		t.Errorf("the message is kept as %+v", m)
	}
	if got := r.messages(); len(got) != 1 || got[0].id != m.ID || string(got[0].body) != string(m.Body) {
		t.Errorf("the receiver has %q, the store %s %s", got, m.ID, m.Body)
	}
}

func TestMessagesOfATargetArriveOldestFirst(t *testing.T) {
	r := newReceiver(t)
	w := newWorld(t, hook(t, "hook", r.URL))
	for i := range 3 {
		w.seen.Denials = append(w.seen.Denials, refused(fmt.Sprint("k", i), 40))
		w.look(t)
	}
	w.due(t, "hook")
	var keys []string
	for _, m := range r.messages() {
		keys = append(keys, decode(t, m.body).Alerts[0].Key)
	}
	sameEvents(t, keys, []string{"k0", "k1", "k2"})
}

func TestWhatWasSentAndNotMarkedIsSentAgainUnderItsID(t *testing.T) {
	for _, tt := range []struct {
		name  string
		crash func(w *world, stop context.CancelFunc)
		fails bool
	}{
		{"the store goes between", func(w *world, _ context.CancelFunc) { _ = w.db.Close() }, true},
		{"the process is told to stop between", func(_ *world, stop context.CancelFunc) { stop() }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newReceiver(t)
			w := newWorld(t, hook(t, "hook", r.URL))
			w.seen.Denials = []DenialBurst{refused("a", 40)}
			w.look(t)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			r.then = func() { tt.crash(w, stop) }
			if _, err := w.Deliver(ctx, "hook"); (err != nil) != tt.fails {
				t.Fatalf("deliver: %v", err)
			}
			r.then = func() {}
			_ = w.db.Close()
			w.open(t)
			if m := w.one(t, "hook"); !m.Done.IsZero() || m.Attempts != 0 {
				t.Fatalf("after the crash the message is kept as %+v", m)
			}
			w.due(t, "hook")
			w.look(t)
			w.due(t, "hook")
			got := r.messages()
			if len(got) != 2 || got[0].id != got[1].id || string(got[0].body) != string(got[1].body) {
				t.Errorf("the receiver has %q", got)
			}
			if w.one(t, "hook").Done.IsZero() {
				t.Error("the message still waits")
			}
		})
	}
}

func TestAReceiverThatIsDownIsAskedLessAndLess(t *testing.T) {
	r := newReceiver(t)
	w := newWorld(t, hook(t, "hook", r.URL))
	r.answers(http.StatusInternalServerError)
	w.seen.Denials = []DenialBurst{refused("a", 40)}
	w.look(t)
	var last time.Duration
	for i := range 12 {
		next := w.due(t, "hook")
		m := w.one(t, "hook")
		if m.Attempts != i+1 || !m.Done.IsZero() || !strings.Contains(m.Error, "500") {
			t.Fatalf("after attempt %d it is kept as %+v", i+1, m)
		}
		wait := m.Due.Sub(w.db.Now())
		if grows := last < retryMost*4/5; grows && wait <= last {
			t.Errorf("after attempt %d it waits %s, before %s", i+1, wait, last)
		}
		if next > max(wait, idle) {
			t.Errorf("the sender would sleep %s though something is due in %s", next, wait)
		}
		last = wait
		w.pass(wait - time.Millisecond)
		w.due(t, "hook")
		if got := len(r.messages()); got != i+1 {
			t.Fatalf("it was sent %d times before it was due", got)
		}
		w.pass(2 * time.Millisecond)
	}
	r.answers(http.StatusOK)
	w.due(t, "hook")
	if m := w.one(t, "hook"); m.Done.IsZero() || m.Error != "" {
		t.Errorf("the receiver is up and the message is kept as %+v", m)
	}
}

func TestAMessageIsGivenUpAfterThreeDays(t *testing.T) {
	r := newReceiver(t)
	w := newWorld(t, hook(t, "hook", r.URL))
	var log strings.Builder
	w.log = &log
	w.watch()
	r.answers(http.StatusServiceUnavailable)
	w.seen.Denials = []DenialBurst{refused("a", 40)}
	w.look(t)
	w.pass(givenUp)
	w.due(t, "hook")
	if m := w.one(t, "hook"); !m.Done.IsZero() {
		t.Fatalf("given up too early: %+v", m)
	}
	w.pass(time.Hour)
	w.due(t, "hook")
	m := w.one(t, "hook")
	if m.Done.IsZero() || !strings.HasPrefix(m.Error, "given up: ") || !strings.Contains(m.Error, "503") {
		t.Errorf("after three days the message is kept as %+v", m)
	}
	if !strings.Contains(log.String(), "an alert was given up") || !strings.Contains(log.String(), m.ID) {
		t.Errorf("the log says %s", log.String())
	}
	w.pass(time.Hour)
	w.due(t, "hook")
	if got := len(r.messages()); got != 2 {
		t.Errorf("it was sent %d times", got)
	}
}

func TestAStuckReceiverDelaysNobodyElse(t *testing.T) {
	stuck, well := newReceiver(t), newReceiver(t)
	release, arrived := make(chan struct{}), make(chan struct{}, 10)
	stuck.then = func() { <-release }
	well.then = func() { arrived <- struct{}{} }
	w := newWorld(t, hook(t, "stuck", stuck.URL), hook(t, "well", well.URL))
	w.See = func(context.Context) (Seen, error) {
		return Seen{Now: w.db.Now(), Denials: []DenialBurst{refused("a", 40)}}, nil
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { w.Run(ctx); close(done) }()
	<-arrived
	stop()
	<-done // though a receiver is stuck
	close(release)
	if m := w.one(t, "stuck"); !m.Done.IsZero() || m.Attempts != 0 {
		t.Errorf("the stop is held against the receiver: %+v", m)
	}
}

// TestATargetThatIsDeadForLongTakesNoOthersPlace: its messages wait, and are more than one reading takes.
func TestATargetThatIsDeadForLongTakesNoOthersPlace(t *testing.T) {
	well := newReceiver(t)
	w := newWorld(t, hook(t, "dead", "http://127.0.0.1:1"), hook(t, "well", well.URL))
	w.seen.Denials = []DenialBurst{refused("a", 40)}
	w.look(t)
	body := w.one(t, "dead").Body
	err := w.db.Update(t.Context(), store.LaneControl, func(tx store.Tx) error {
		for i := range waiting + 1 {
			later := tx.Now().Add(time.Duration(i) * time.Second)
			if err := tx.PutMessage(store.MessageRow{ID: fmt.Sprint("msg_", i), Target: "dead", Body: body, Created: later, Due: later.Add(time.Hour)}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w.due(t, "well")
	if got := well.messages(); len(got) != 1 {
		t.Errorf("the other target has %d messages", len(got))
	}
}

func TestACommandIsQuotedWithTheEndOfWhatItSays(t *testing.T) {
	target := Target{Name: "it", Kind: "command", Command: []string{"sh", "-c", "yes filler | head -c 10000000; echo the end >&2; exit 3"}}
	w := newWorld(t, target)
	err := w.Test(t.Context(), "it")
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || len(err.Error()) > 600 {
		t.Errorf("%v", err)
	}
}

// TestAMailServerThatFallsSilentIsHungUpOn: the client library waits for ever for what a server says.
func TestAMailServerThatFallsSilentIsHungUpOn(t *testing.T) {
	for _, tt := range []struct {
		name, tls string
		says      []string // one for each line of the client, the first before any
	}{
		{"from the first moment", "none", nil},
		{"in the handshake", "implicit", nil},
		{"after the greeting", "none", []string{"220 mail"}},
		{"after it was greeted", "starttls", []string{"220 mail", "250-mail\r\n250 STARTTLS"}},
		{"in the letter's envelope", "none", []string{"220 mail", "250 mail", "250 yes", "250 yes"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close() //nolint:errcheck // nothing waits in it
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			hungUp := make(chan struct{})
			go func() {
				defer close(hungUp)
				c, err := l.Accept()
				if err != nil {
					return
				}
				in := bufio.NewReader(c)
				for _, line := range tt.says {
					_, _ = fmt.Fprintf(c, "%s\r\n", line)
					_, _ = in.ReadString('\n')
				}
				stop()
				_, _ = io.Copy(io.Discard, in) // until the client hangs up
				_ = c.Close()
			}()
			w := newWorld(t, Target{Name: "mail", Kind: "email", Server: l.Addr().String(), TLS: tt.tls, From: "a@example.com", To: []string{"b@example.com"}})
			if err := w.Test(ctx, "mail"); !errors.Is(err, context.Canceled) {
				t.Errorf("it says %v", err)
			}
			<-hungUp
		})
	}
}

func TestOneMessageThatIsRefusedHoldsUpNoOther(t *testing.T) {
	r := newReceiver(t)
	w := newWorld(t, hook(t, "hook", r.URL))
	var first atomic.Bool
	first.Store(true)
	r.then = func() {
		if first.CompareAndSwap(true, false) {
			r.answers(http.StatusOK) // the first answer is already chosen
		}
	}
	r.answers(http.StatusBadRequest)
	w.seen.Denials = []DenialBurst{refused("a", 40)}
	w.look(t)
	w.seen.Denials = append(w.seen.Denials, refused("b", 40))
	w.look(t)
	w.due(t, "hook")
	m := w.outbox(t, "hook")
	if len(m) != 2 || !m[0].Done.IsZero() || m[1].Done.IsZero() {
		t.Errorf("the messages are kept as %+v", m)
	}
}

func TestMessagesForATargetThatIsNoMoreAreGivenUp(t *testing.T) {
	w := newWorld(t, paper("old"))
	w.seen.Denials = []DenialBurst{refused("a", 40)}
	w.look(t)
	w.config.Targets = []Target{paper("new")}
	w.restart(t)
	ctx, stop := context.WithCancel(t.Context())
	w.See = func(context.Context) (Seen, error) {
		stop() // by the first look it has begun
		return Seen{}, errBlind
	}
	w.Run(ctx)
	if m := w.one(t, "old"); m.Done.IsZero() || !strings.HasPrefix(m.Error, "given up: ") {
		t.Errorf("the message waits for ever: %+v", m)
	}
}

func TestThereIsNoSuchTarget(t *testing.T) {
	w := newWorld(t, paper("it"))
	if _, err := w.Deliver(t.Context(), "other"); err == nil || !strings.Contains(err.Error(), "other") {
		t.Errorf("deliver says %v", err)
	}
	if err := w.Test(t.Context(), "other"); err == nil || !strings.Contains(err.Error(), "other") {
		t.Errorf("test says %v", err)
	}
}

func TestWaitsBetweenAttempts(t *testing.T) {
	for attempts := 1; attempts < 100; attempts++ {
		nominal := retryMost
		if attempts < 9 {
			nominal = min(retryFirst<<(attempts-1), retryMost)
		}
		least, most := time.Duration(1<<62), time.Duration(0)
		for range 200 {
			d := backoff(attempts)
			least, most = min(least, d), max(most, d)
		}
		if least < nominal*4/5 || most > nominal*6/5 || least == most {
			t.Errorf("after %d attempts it waits %s to %s, not a fifth around %s", attempts, least, most, nominal)
		}
	}
}

// TestAnErrorNamesNoSecret: receivers repeat the path that was asked for, and Slack's path is its secret.
func TestAnErrorNamesNoSecret(t *testing.T) {
	const secret = "T00CANARY/B00/xyzcanary"
	echo := newEcho(t)
	for _, tt := range []struct {
		name   string
		target Target
	}{
		{"a receiver that repeats the path", Target{Kind: "slack", URLFile: file(t, echo+"/services/"+secret)}},
		{"a receiver that repeats the query", Target{Kind: "slack", URLFile: file(t, echo+"/hook?token="+secret)}},
		{"nobody is there", Target{Kind: "slack", URLFile: file(t, "http://127.0.0.1:1/services/"+secret)}},
		{"an address that is none", Target{Kind: "slack", URLFile: file(t, "https://hooks.example.com:x/services/"+secret)}},
		{"plain HTTP beyond this machine", Target{Kind: "slack", URLFile: file(t, "http://hooks.example.com/services/"+secret)}},
		{"a file of two lines", Target{Kind: "slack", URLFile: file(t, "https://hooks.example.com/"+secret+"\nmore")}},
		{"a key that is no base64", Target{Kind: "webhook", URL: echo, SecretFile: file(t, "whsec_!"+secret)}},
		{"a key that is too short", Target{Kind: "webhook", URL: echo, SecretFile: file(t, "whsec_Q0FOQVJZ")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.target.Name = "it"
			w := newWorld(t, tt.target)
			err := w.Test(t.Context(), "it")
			if err == nil {
				t.Fatal("it arrived")
			}
			for _, part := range []string{"CANARY", "canary", "Q0FOQVJZ"} {
				if strings.Contains(err.Error(), part) {
					t.Errorf("the error says %v", err)
				}
			}
		})
	}
}

func newEcho(t *testing.T) string {
	t.Helper()
	s := newReceiver(t)
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "cannot POST "+r.URL.String(), http.StatusNotFound)
	})
	return s.URL
}
