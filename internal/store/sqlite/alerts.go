package sqlite

import (
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/keybrake/keybrake/internal/store"
)

func (t *tx) Alerts(limit int) ([]store.AlertRow, error) {
	const columns = `id, kind, subject, key, severity, title, text, first, last, resolved, told, told_severity, acked, acked_by`
	scan := func(rows *sql.Rows) (a store.AlertRow, err error) {
		var first, last, resolved, told, acked int64
		err = rows.Scan(&a.ID, &a.Kind, &a.Subject, &a.Key, &a.Severity, &a.Title, &a.Text, &first, &last, &resolved, &told, &a.ToldSeverity, &acked, &a.AckedBy)
		a.First, a.Last, a.Resolved, a.Told, a.Acked = fromMicros(first), fromMicros(last), fromMicros(resolved), fromMicros(told), fromMicros(acked)
		return a, err
	}
	return inTurn(t, `SELECT `+columns+` FROM alerts WHERE resolved %s ORDER BY first DESC, id LIMIT %d`, limit, scan)
}

// inTurn lists rows that are not over, found by the index of those alone, and behind them as many that are as there is room for.
func inTurn[R any](t *tx, query string, limit int, scan func(*sql.Rows) (R, error), args ...any) ([]R, error) {
	open, err := listed(t, fmt.Sprintf(query, "= 0", limit), scan, args...)
	if err != nil || len(open) == limit {
		return open, err
	}
	over, err := listed(t, fmt.Sprintf(query, "<> 0", limit-len(open)), scan, args...)
	return append(open, over...), err
}

func (t *tx) PutAlert(a store.AlertRow) error {
	_, err := t.exec(`INSERT INTO alerts (id, kind, subject, key, severity, title, text, first, last, resolved, told, told_severity, acked, acked_by)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET severity = excluded.severity, title = excluded.title, text = excluded.text, last = excluded.last,
		resolved = excluded.resolved, told = excluded.told, told_severity = excluded.told_severity, acked = excluded.acked, acked_by = excluded.acked_by`,
		a.ID, a.Kind, a.Subject, a.Key, a.Severity, a.Title, a.Text, micros(a.First), micros(a.Last), micros(a.Resolved), micros(a.Told), a.ToldSeverity,
		micros(a.Acked), a.AckedBy)
	return err
}

func (t *tx) Messages(target string, limit int) ([]store.MessageRow, error) {
	scan := func(rows *sql.Rows) (m store.MessageRow, err error) {
		var created, due, done int64
		err = rows.Scan(&m.ID, &m.Target, &m.Body, &created, &due, &m.Attempts, &done, &m.Error)
		m.Created, m.Due, m.Done = fromMicros(created), fromMicros(due), fromMicros(done)
		return m, err
	}
	return inTurn(t, `SELECT id, target, body, created, due, attempts, done, error FROM messages WHERE done %s AND (?1 = '' OR target = ?1) ORDER BY created DESC, id LIMIT %d`, limit, scan, target)
}

func (t *tx) PutMessage(m store.MessageRow) error {
	_, err := t.exec(`INSERT INTO messages (id, target, body, created, due, attempts, done, error) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET due = excluded.due, attempts = excluded.attempts, done = excluded.done, error = excluded.error`,
		m.ID, m.Target, m.Body, micros(m.Created), micros(m.Due), m.Attempts, micros(m.Done), m.Error)
	return err
}

func (t *tx) ForgetAlerts(before time.Time) error {
	_, err1 := t.exec(`DELETE FROM alerts WHERE resolved <> 0 AND resolved < ?`, micros(before))
	_, err2 := t.exec(`DELETE FROM messages WHERE done <> 0 AND done < ?`, micros(before))
	return errors.Join(err1, err2)
}
