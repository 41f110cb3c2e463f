package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keybrake/keybrake/internal/store"
)

// alertsStay: what was wrong and what waits to be told is there after a restart, in its order, and goes when it is old.
func alertsStay(t *testing.T, open Open) {
	at := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	loop := store.AlertRow{ID: "alr_1", Kind: "loop", Subject: "key_1 refunds.create", Key: "key_1", Severity: "warning", Title: "a loop", Text: "ten", First: at, Last: at}
	full := store.AlertRow{ID: "alr_2", Kind: "cap", Subject: "key_2", Severity: "critical", First: at.Add(time.Minute), Last: at.Add(time.Minute)}
	over := store.AlertRow{ID: "alr_3", Kind: "cap", Subject: "key_2", Severity: "info", First: at.Add(time.Hour), Last: at, Resolved: at.Add(2 * time.Hour), Told: at, ToldSeverity: "info", Acked: at, AckedBy: "ines"}
	waits := store.MessageRow{ID: "msg_1", Target: "pager", Body: []byte(`{"a":1}`), Created: at, Due: at}
	done := store.MessageRow{ID: "msg_2", Target: "pager", Body: []byte(`{}`), Created: at.Add(time.Hour), Due: at, Attempts: 3, Done: at.Add(time.Hour)}
	db := open(t, nil)
	update(t, db, func(tx store.Tx) error {
		return errors.Join(tx.PutAlert(loop), tx.PutAlert(full), tx.PutAlert(over), tx.PutMessage(waits), tx.PutMessage(done))
	})
	loop.Severity, loop.Last, loop.Told, loop.ToldSeverity = "critical", at.Add(time.Minute), at.Add(time.Minute), "critical"
	waits.Due, waits.Attempts, waits.Error = at.Add(time.Minute), 1, "no route"
	update(t, db, func(tx store.Tx) error { return errors.Join(tx.PutAlert(loop), tx.PutMessage(waits)) })
	must(t, db.Close())
	db = opened(t, open)
	seen := func(limit int, alerts []store.AlertRow, messages []store.MessageRow) {
		t.Helper()
		must(t, db.View(t.Context(), func(tx store.Tx) error {
			a, err1 := tx.Alerts(limit)
			m, err2 := tx.Messages("pager", limit)
			all, err3 := tx.Messages("", limit)
			others, err4 := tx.Messages("nobody", limit)
			if d := cmp.Diff(m, all); d != "" || len(others) != 0 {
				t.Errorf("all messages are others than those of the one target: %s %v", d, others)
			}
			if d := cmp.Diff(alerts, a); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(messages, m); d != "" {
				t.Error(d)
			}
			return errors.Join(err1, err2, err3, err4)
		}))
	}
	seen(10, []store.AlertRow{full, loop, over}, []store.MessageRow{waits, done})
	seen(1, []store.AlertRow{full}, []store.MessageRow{waits})
	update(t, db, func(tx store.Tx) error { return tx.ForgetAlerts(at.Add(90 * time.Minute)) })
	seen(10, []store.AlertRow{full, loop, over}, []store.MessageRow{waits})
	update(t, db, func(tx store.Tx) error { return tx.ForgetAlerts(at.Add(3 * time.Hour)) })
	seen(10, []store.AlertRow{full, loop}, []store.MessageRow{waits})
}
