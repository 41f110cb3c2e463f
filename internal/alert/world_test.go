package alert

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/sqlite"
	"github.com/keybrake/keybrake/internal/vault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var began = time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)

// world is a watcher on a real store, with a clock and with things to see that the test sets.
type world struct {
	*Watcher
	config Config
	master *vault.Master
	dir    string
	db     *sqlite.DB
	ahead  atomic.Int64 // of the clock: nanoseconds
	seen   Seen
	blind  error
	log    io.Writer
}

// tester is what a test and a check of a property have in common.
type tester interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

func newWorld(t *testing.T, targets ...Target) *world {
	t.Helper()
	master, err := vault.EphemeralMaster()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{config: Config{Targets: targets}, master: master, dir: t.TempDir(), log: io.Discard}
	if err := w.config.Check(); err != nil {
		t.Fatal(err)
	}
	w.open(t)
	t.Cleanup(func() { _ = w.db.Close() }) // a test may have closed it
	return w
}

// open opens the store and makes a watcher that knows nothing yet.
func (w *world) open(t tester) {
	t.Helper()
	db, err := sqlite.Open(context.Background(), sqlite.Options{
		Path: filepath.Join(w.dir, "keybrake.db"), Signer: w.master, MasterCheck: w.master.CheckValue(), Clock: w.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.db = db
	w.watch()
}

func (w *world) watch() {
	w.Watcher = &Watcher{
		Config: w.config, Store: w.db, Log: slog.New(slog.NewTextHandler(w.log, nil)),
		See: func(context.Context) (Seen, error) {
			seen := w.seen
			seen.Now = w.db.Now()
			return seen, w.blind
		},
		Link: func(key string) string { return "https://keybrake.example.com/keys/" + key },
	}
}

// restart ends one process and begins another.
func (w *world) restart(t tester) {
	t.Helper()
	if err := w.db.Close(); err != nil {
		t.Fatal(err)
	}
	w.open(t)
}

func (w *world) now() time.Time { return began.Add(time.Duration(w.ahead.Load())) }

// pass lets time pass.
func (w *world) pass(d time.Duration) { w.ahead.Add(int64(d)) }

// look looks after a moment.
func (w *world) look(t tester) {
	t.Helper()
	w.pass(every)
	if err := w.Look(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func (w *world) alerts(t tester) (open, over []store.AlertRow) {
	t.Helper()
	err := w.db.View(context.Background(), func(tx store.Tx) error {
		all, err := tx.Alerts(10_000)
		for _, r := range all {
			if r.Resolved.IsZero() {
				open = append(open, r)
			} else {
				over = append(over, r)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return open, over
}

// only is the one open alert.
func (w *world) only(t tester) store.AlertRow {
	t.Helper()
	open, _ := w.alerts(t)
	if len(open) != 1 {
		t.Fatalf("%d alerts are open, not one: %+v", len(open), open)
	}
	return open[0]
}

// outbox is the messages for a target, oldest first.
func (w *world) outbox(t tester, target string) (out []store.MessageRow) {
	t.Helper()
	err := w.db.View(context.Background(), func(tx store.Tx) error {
		var err error
		out, err = tx.Messages(target, 10_000)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortStableFunc(out, func(a, b store.MessageRow) int { return cmp.Compare(a.Created.UnixMicro(), b.Created.UnixMicro()) })
	return out
}

// told is what a target is told, in its order.
func (w *world) told(t tester, target string) (out []Told) {
	t.Helper()
	for _, m := range w.outbox(t, target) {
		out = append(out, decode(t, m.Body).Alerts...)
	}
	return out
}

// events are those of what a target is told.
func (w *world) events(t tester, target string) []string {
	t.Helper()
	out := []string{}
	for _, a := range w.told(t, target) {
		out = append(out, a.Event+" "+string(a.Kind)+" "+string(a.Severity))
	}
	return out
}

func decode(t tester, body []byte) Message {
	t.Helper()
	var m Message
	if err := json.Unmarshal(body, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func sameEvents(t tester, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("told:\n%q, want\n%q", got, want)
	}
}

// receiver is somebody's webhook.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	status int
	got    []received
	// then is called when a message is there, before it is answered.
	then func()
}

type received struct {
	id   string
	body []byte
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{status: http.StatusNoContent, then: func() {}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		r.got = append(r.got, received{req.Header.Get("webhook-id"), body})
		then, status := r.then, r.status
		r.mu.Unlock()
		then()
		w.WriteHeader(status)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) answers(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

func (r *receiver) messages() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// hook is a webhook at an address.
func hook(t *testing.T, name, url string) Target {
	t.Helper()
	return Target{Name: name, Kind: "webhook", URL: url, SecretFile: file(t, "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n")}
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// paper is a target that nobody delivers to: the test reads its outbox.
func paper(name string) Target {
	return Target{Name: name, Kind: "command", Command: []string{"true"}, Least: Info}
}

var errBlind = errors.New("the store does not answer")

// Things to see.

func refused(key string, n int64) DenialBurst {
	return DenialBurst{Key: key, Name: "agent-" + key, Count: n, Within: 5 * time.Minute}
}

func used(key string, perCent int) Cap {
	return Cap{Key: key, Name: "agent-" + key, Resource: "refunds", Per: "day", Unit: "usd", Permille: perCent * 10, Limit: "$100", Left: "$20", Resets: began.Add(24 * time.Hour)}
}

func stopped(key string) BrakeOn {
	return BrakeOn{Scope: "key", ID: key, Name: "agent-" + key, Mode: "stopped", By: "dana", At: began}
}
