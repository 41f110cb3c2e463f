package alert

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

// Watcher looks for what is wrong and sees that it is told. It is safe for concurrent use.
type Watcher struct {
	Config
	// Store keeps alerts and messages. See says what there is to see; an error is trouble of its own. Link is the console's
	// page of a key, or of all alerts for ""; nil: none.
	Store store.DB
	See   func(ctx context.Context) (Seen, error)
	Link  func(key string) string
	Log   *slog.Logger

	mu   sync.Mutex // held while it looks
	open map[string]store.AlertRow
	// ended are alerts that were over lately, by the same names: one that comes back is the same.
	ended map[string]store.AlertRow
	known bool // the two were read from the store
	// gone is since when an open alert's condition was not there, by the same names, of kinds that have to stay away a while.
	gone map[string]time.Time
	// alone is when trouble was told last past the store, which took nothing.
	alone time.Time
	// forgot is when what is old was let go of last: it reads all there is, so not in every transaction.
	forgot time.Time
	kick   map[string]chan struct{}
	once   sync.Once
}

// Times of the watcher.
const (
	// every is how often it looks.
	every = 2 * time.Second
	// refreshed is how often the store is told that an alert that nobody needs to hear of again still is one.
	refreshed = 10 * time.Minute
	// forgetEvery is how often what is over long ago is let go of.
	forgetEvery = time.Hour
	// listed is how many alerts are read at a start: far more than are open in any state that somebody can still read.
	listed = 100_000
)

func (w *Watcher) again() time.Duration {
	if w.Again > 0 {
		return w.Again
	}
	return time.Hour
}

// Run looks and delivers until ctx ends.
func (w *Watcher) Run(ctx context.Context) {
	w.init()
	if err := w.giveUpStrays(ctx); err != nil && ctx.Err() == nil {
		w.Log.Error("messages for targets that are no more still wait", "err", err)
	}
	var wg sync.WaitGroup
	for i := range w.Targets {
		wg.Go(func() { w.send(ctx, &w.Targets[i]) })
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := w.Look(ctx); err != nil && ctx.Err() == nil {
			w.Log.Error("alerts could not be kept", "err", err)
		}
		select {
		case <-ctx.Done():
			wg.Wait()
			return
		case <-tick.C:
		}
	}
}

func (w *Watcher) init() {
	w.once.Do(func() {
		w.kick = make(map[string]chan struct{})
		for _, t := range w.Targets {
			w.kick[t.Name] = make(chan struct{}, 1)
		}
		if w.Log == nil {
			w.Log = slog.Default()
		}
	})
}

func name(kind, subject string) string { return kind + " " + subject }

// Look compares what is wrong now with what was, keeps the difference and writes messages about it in one transaction.
func (w *Watcher) Look(ctx context.Context) error {
	w.init()
	w.mu.Lock()
	defer w.mu.Unlock()
	seen, err := w.See(ctx)
	if ctx.Err() != nil {
		return ctx.Err() // a stop: nothing was seen, and nothing is wrong
	}
	if err != nil {
		seen.Trouble, seen.Now = err.Error(), w.Store.Now()
	}
	conditions := w.Thresholds.Conditions(&seen)
	if err := w.read(ctx); err != nil {
		w.tellAlone(ctx, conditions, seen.Now)
		return err
	}
	c := w.compare(conditions, &seen, err != nil)
	if len(c.rows) == 0 {
		return nil
	}
	messages, err := w.messages(c.told, seen.Now)
	if err != nil {
		return err
	}
	err = w.Store.Update(ctx, store.LaneControl, func(tx store.Tx) error {
		present, err := tx.Alerts(len(w.open)) // those that are open come first, and no other can be acknowledged
		if err != nil {
			return err
		}
		for i := range c.rows {
			c.keepAck(&c.rows[i], present)
			if err := tx.PutAlert(c.rows[i]); err != nil {
				return err
			}
		}
		for _, m := range messages {
			if err := tx.PutMessage(m); err != nil {
				return err
			}
		}
		if seen.Now.Sub(w.forgot) < forgetEvery {
			return nil
		}
		return tx.ForgetAlerts(seen.Now.Add(-store.AlertsKept))
	})
	if err != nil {
		w.tellAlone(ctx, conditions, seen.Now)
		return fmt.Errorf("keep alerts: %w", err)
	}
	if seen.Now.Sub(w.forgot) >= forgetEvery {
		w.forgot = seen.Now
	}
	w.took(c.rows, seen.Now)
	for _, m := range messages {
		w.wake(m.Target)
	}
	return nil
}

// read takes over what was open when the last process ended.
func (w *Watcher) read(ctx context.Context) error {
	if w.known {
		return nil
	}
	w.open, w.ended, w.gone = map[string]store.AlertRow{}, map[string]store.AlertRow{}, map[string]time.Time{}
	err := w.Store.View(ctx, func(tx store.Tx) error {
		rows, err := tx.Alerts(listed)
		w.took(rows, tx.Now())
		return err
	})
	w.known = err == nil
	return err
}

// took keeps rows in memory as they are in the store.
func (w *Watcher) took(rows []store.AlertRow, now time.Time) {
	for _, r := range rows {
		n := name(r.Kind, r.Subject)
		if r.Resolved.IsZero() {
			w.open[n] = r
			delete(w.ended, n)
			continue
		}
		if open, is := w.open[n]; is && open.ID == r.ID {
			delete(w.open, n)
		}
		if last, is := w.ended[n]; !is || last.Resolved.Before(r.Resolved) {
			w.ended[n] = r
		}
	}
	maps.DeleteFunc(w.ended, func(_ string, r store.AlertRow) bool { return now.Sub(r.Resolved) > w.again() })
}

// changes are rows to write, and those of them that are to be told. anew are the ids of those that somebody must look at
// again, whoever has.
type changes struct {
	rows []store.AlertRow
	told []Told
	anew map[string]bool
}

// keepAck keeps what operators said of an alert meanwhile.
func (c *changes) keepAck(r *store.AlertRow, present []store.AlertRow) {
	if i := slices.IndexFunc(present, func(p store.AlertRow) bool { return p.ID == r.ID }); i >= 0 && !c.anew[r.ID] {
		r.Acked, r.AckedBy = present[i].Acked, present[i].AckedBy
	}
}

// forgetAck asks for somebody's look once more.
func (c *changes) forgetAck(r *store.AlertRow) {
	if c.anew == nil {
		c.anew = make(map[string]bool)
	}
	c.anew[r.ID] = true
	r.Acked, r.AckedBy = time.Time{}, ""
}

// compare finds what is new, worse or over. While not everything can be seen nothing is over.
func (w *Watcher) compare(conditions []Condition, seen *Seen, blind bool) (c changes) {
	now := seen.Now
	still := map[string]bool{}
	for _, is := range conditions {
		n := name(string(is.Kind), is.Subject)
		if still[n] {
			continue
		}
		still[n] = true
		delete(w.gone, n)
		w.stands(&c, n, is, now)
	}
	if blind {
		return c
	}
	for _, n := range slices.Sorted(maps.Keys(w.open)) {
		if r := w.open[n]; !still[n] && !w.lingers(n, &r, seen) {
			delete(w.gone, n)
			r.Resolved = now
			if tellsEnd(Kind(r.Kind)) && !r.Told.IsZero() {
				c.tell(w, "resolved", &r, now)
			}
			c.rows = append(c.rows, r)
		}
	}
	return c
}

// calm is for how long a vendor must have answered before its trouble is over: two of the stretches that its failures are
// counted in, so that one that comes and goes is told once.
const calm = 10 * time.Minute

// lingers reports whether an alert stays open whose condition is not there.
func (w *Watcher) lingers(n string, r *store.AlertRow, seen *Seen) bool {
	switch Kind(r.Kind) {
	case Chain: // what is written does not mend itself, and a new process has only not met it again
		return !seen.Verified.After(r.Last)
	case Upstream:
		since, known := w.gone[n]
		if !known {
			since, w.gone[n] = seen.Now, seen.Now
		}
		return seen.Now.Sub(since) < calm
	default:
		return false
	}
}

// tellsEnd are the kinds whose end people wait for.
func tellsEnd(k Kind) bool {
	return slices.Contains([]Kind{Brake, Frozen, Unresolved, Store, Upstream}, k)
}

// stands is a condition that is there: new, come back, worse, or the same.
func (w *Watcher) stands(c *changes, n string, is Condition, now time.Time) {
	r, open := w.open[n]
	endTold := false // then whoever was told that it is over must be told that it is not
	if !open {
		if last, was := w.ended[n]; was && now.Sub(last.Resolved) <= w.again() {
			r = last // the same once more
			endTold = tellsEnd(is.Kind) && last.Told.Equal(last.Resolved)
			r.Resolved = time.Time{}
			c.forgetAck(&r)
		} else {
			r = store.AlertRow{ID: vault.NewID("alr_"), Kind: string(is.Kind), Subject: is.Subject, Key: is.Key, First: now}
		}
	}
	event := ""
	switch {
	case r.Told.IsZero():
		event = "opened"
	case is.Severity.rank() > Severity(r.ToldSeverity).rank(), open && !strings.HasSuffix(r.Title, is.State):
		event = "worse"
	case endTold, !open && now.Sub(r.Told) > w.again():
		event = "opened"
	}
	worse := is.Severity.rank() > Severity(r.Severity).rank()
	if open && event == "" && !worse && now.Sub(r.Last) < refreshed {
		return
	}
	if event == "worse" {
		c.forgetAck(&r)
	}
	r.Severity, r.Title, r.Text, r.Last = string(is.Severity), is.Title, is.Text, now
	if event != "" {
		c.tell(w, event, &r, now)
	}
	c.rows = append(c.rows, r)
}

// tell notes that a row is told.
func (c *changes) tell(w *Watcher, event string, r *store.AlertRow, now time.Time) {
	r.Told, r.ToldSeverity = now, r.Severity
	t := Told{ID: r.ID, Event: event, Kind: Kind(r.Kind), Severity: Severity(r.Severity), Key: r.Key, Title: r.Title, Text: r.Text, Since: r.First.UTC()}
	if w.Link != nil {
		t.URL = w.Link(r.Key)
	}
	c.told = append(c.told, t)
}

// messages makes one message for each target out of what it takes.
func (w *Watcher) messages(told []Told, now time.Time) (out []store.MessageRow, err error) {
	for i := range w.Targets {
		t := &w.Targets[i]
		m := Message{Type: "keybrake.alerts", Timestamp: now.UTC()}
		for _, a := range told {
			if t.takes(a.Kind, a.Severity) {
				m.Alerts = append(m.Alerts, a)
			}
		}
		for len(m.Alerts) > 0 { // a flood is told in pieces that every receiver takes
			part := m
			part.Alerts = m.Alerts[:min(len(m.Alerts), maxBlocks)]
			m.Alerts = m.Alerts[len(part.Alerts):]
			body, err := json.Marshal(part)
			if err != nil {
				return nil, fmt.Errorf("write a message: %w", err)
			}
			out = append(out, store.MessageRow{ID: vault.NewID("msg_"), Target: t.Name, Body: body, Created: now, Due: now})
		}
	}
	return out, nil
}

// tellAlone tells of trouble past the store, which takes nothing: at most once within `again`, which is an hour, and once for
// each target.
func (w *Watcher) tellAlone(ctx context.Context, conditions []Condition, now time.Time) {
	if !w.alone.IsZero() && now.Sub(w.alone) < w.again() {
		return
	}
	var c changes
	for _, is := range conditions {
		if is.Kind == Store || is.Kind == Chain {
			c.tell(w, "opened", &store.AlertRow{ID: vault.NewID("alr_"), Kind: string(is.Kind), Severity: string(is.Severity), Title: is.Title, Text: is.Text, First: now}, now)
		}
	}
	if len(c.told) == 0 {
		return
	}
	w.alone = now
	messages, err := w.messages(c.told, now)
	if err != nil {
		w.Log.Error("an alert could not be written", "err", err)
		return
	}
	for _, m := range messages {
		if t := w.target(m.Target); t != nil {
			go func() {
				if err := t.deliver(context.WithoutCancel(ctx), m.ID, m.Body, now); err != nil {
					w.Log.Error("an alert about the store did not arrive", "target", m.Target, "err", err)
				}
			}()
		}
	}
}

func (w *Watcher) target(name string) *Target {
	for i := range w.Targets {
		if w.Targets[i].Name == name {
			return &w.Targets[i]
		}
	}
	return nil
}
