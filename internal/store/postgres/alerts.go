package postgres

import (
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/codec"
)

const alertColumns = `id, kind, subject, key, severity, title, text, first, last, resolved, told, told_severity, acked, acked_by`

func (t *tx) Alerts(limit int) ([]store.AlertRow, error) {
	scan := func(row pgx.CollectableRow) (a store.AlertRow, err error) {
		var first, last, resolved, told, acked int64
		err = row.Scan(&a.ID, &a.Kind, &a.Subject, &a.Key, &a.Severity, &a.Title, &a.Text, &first, &last, &resolved, &told, &a.ToldSeverity, &acked, &a.AckedBy)
		a.First, a.Last, a.Resolved, a.Told, a.Acked = codec.FromMicros(first), codec.FromMicros(last), codec.FromMicros(resolved), codec.FromMicros(told), codec.FromMicros(acked)
		return a, err
	}
	return inTurn(t, `SELECT `+alertColumns+` FROM alerts WHERE resolved %s ORDER BY first DESC, id LIMIT %d`, limit, scan)
}

// inTurn lists rows that are not over, found by the index of those alone, and behind them as many that are as there is room for.
func inTurn[R any](t *tx, query string, limit int, scan func(pgx.CollectableRow) (R, error), args ...any) ([]R, error) {
	open, err := listed(t, scan, fmt.Sprintf(query, "= 0", limit), args...)
	if err != nil || len(open) == limit {
		return open, err
	}
	over, err := listed(t, scan, fmt.Sprintf(query, "<> 0", limit-len(open)), args...)
	return append(open, over...), err
}

func (t *tx) PutAlert(a store.AlertRow) error {
	return t.put(`INSERT INTO alerts (`+alertColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
		ON CONFLICT (id) DO UPDATE SET severity = excluded.severity, title = excluded.title, text = excluded.text, last = excluded.last,
		resolved = excluded.resolved, told = excluded.told, told_severity = excluded.told_severity, acked = excluded.acked, acked_by = excluded.acked_by`,
		text(a.ID), text(a.Kind), text(a.Subject), text(a.Key), text(a.Severity), text(a.Title), text(a.Text), codec.Micros(a.First), codec.Micros(a.Last),
		codec.Micros(a.Resolved), codec.Micros(a.Told), text(a.ToldSeverity), codec.Micros(a.Acked), text(a.AckedBy))
}

const messageColumns = `id, target, body, created, due, attempts, done, error`

func (t *tx) Messages(target string, limit int) ([]store.MessageRow, error) {
	scan := func(row pgx.CollectableRow) (m store.MessageRow, err error) {
		var created, due, done int64
		err = row.Scan(&m.ID, &m.Target, &m.Body, &created, &due, &m.Attempts, &done, &m.Error)
		m.Created, m.Due, m.Done = codec.FromMicros(created), codec.FromMicros(due), codec.FromMicros(done)
		return m, err
	}
	return inTurn(t, `SELECT `+messageColumns+` FROM messages WHERE done %s AND ($1 = '' OR target = $1) ORDER BY created DESC, id LIMIT %d`, limit, scan, text(target))
}

func (t *tx) PutMessage(m store.MessageRow) error {
	return t.put(`INSERT INTO messages (`+messageColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (id) DO UPDATE SET due = excluded.due, attempts = excluded.attempts, done = excluded.done, error = excluded.error`,
		text(m.ID), text(m.Target), blob(m.Body), codec.Micros(m.Created), codec.Micros(m.Due), int64(m.Attempts), codec.Micros(m.Done), text(m.Error))
}

func (t *tx) ForgetAlerts(before time.Time) error {
	_, err1 := t.exec(`DELETE FROM alerts WHERE resolved <> 0 AND resolved < $1`, codec.Micros(before))
	_, err2 := t.exec(`DELETE FROM messages WHERE done <> 0 AND done < $1`, codec.Micros(before))
	return errors.Join(err1, err2)
}
