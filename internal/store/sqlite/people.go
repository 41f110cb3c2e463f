package sqlite

import (
	"database/sql"
	"errors"
	"time"

	"github.com/keybrake/keybrake/internal/store"
)

// listed reads the rows of a query, each with scan.
func listed[R any](t *tx, query string, scan func(row *sql.Rows) (R, error), args ...any) ([]R, error) {
	rows, err := t.q.QueryContext(t.ctx, query, args...)
	if err != nil {
		return nil, err
	}
	var out []R
	for rows.Next() {
		r, err := scan(rows)
		if err != nil {
			return nil, errors.Join(err, rows.Close())
		}
		out = append(out, r)
	}
	return out, errors.Join(rows.Err(), rows.Close())
}

func (t *tx) Operators() ([]store.OperatorRow, error) {
	return listed(t, `SELECT id, name, role, issuer, subject, email, created, disabled FROM operators ORDER BY name`,
		func(rows *sql.Rows) (o store.OperatorRow, err error) {
			var created, disabled int64
			err = rows.Scan(&o.ID, &o.Name, &o.Role, &o.Issuer, &o.Subject, &o.Email, &created, &disabled)
			o.Created, o.Disabled = fromMicros(created), fromMicros(disabled)
			return o, err
		})
}

func (t *tx) PutOperator(o store.OperatorRow) error {
	_, err := t.exec(`INSERT INTO operators (id, name, role, issuer, subject, email, created, disabled) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, role = excluded.role, issuer = excluded.issuer, subject = excluded.subject,
		email = excluded.email, disabled = excluded.disabled`,
		o.ID, o.Name, o.Role, o.Issuer, o.Subject, o.Email, micros(o.Created), micros(o.Disabled))
	return err
}

func (t *tx) Tokens() ([]store.TokenRow, error) {
	return listed(t, `SELECT name, digest, operator, role, created, expires, used FROM tokens ORDER BY name`,
		func(rows *sql.Rows) (row store.TokenRow, err error) {
			var created, expires, used int64
			err = rows.Scan(&row.Name, &row.Digest, &row.Operator, &row.Role, &created, &expires, &used)
			row.Created, row.Expires, row.Used = fromMicros(created), fromMicros(expires), fromMicros(used)
			return row, err
		})
}

func (t *tx) PutToken(row store.TokenRow) error {
	_, err := t.exec(`INSERT INTO tokens (name, digest, operator, role, created, expires, used) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		row.Name, row.Digest, row.Operator, row.Role, micros(row.Created), micros(row.Expires), micros(row.Used))
	return err
}

func (t *tx) UseToken(name string, at time.Time) error {
	return found(t.exec(`UPDATE tokens SET used = ? WHERE name = ?`, micros(at), name))
}

func (t *tx) DeleteToken(name string) error {
	return found(t.exec(`DELETE FROM tokens WHERE name = ?`, name))
}

func (t *tx) Passes() ([]store.PassRow, error) {
	return listed(t, `SELECT digest, kind, operator, token, created, seen, expires, origin, agent FROM passes ORDER BY created, digest`,
		func(rows *sql.Rows) (p store.PassRow, err error) {
			var created, seen, expires int64
			err = rows.Scan(&p.Digest, &p.Kind, &p.Operator, &p.Token, &created, &seen, &expires, &p.From, &p.Agent)
			p.Created, p.Seen, p.Expires = fromMicros(created), fromMicros(seen), fromMicros(expires)
			return p, err
		})
}

func (t *tx) PutPass(p store.PassRow) error {
	_, err := t.exec(`INSERT INTO passes (digest, kind, operator, token, created, seen, expires, origin, agent) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (digest) DO UPDATE SET seen = excluded.seen, expires = excluded.expires, origin = excluded.origin, agent = excluded.agent`,
		p.Digest, string(p.Kind), p.Operator, p.Token, micros(p.Created), micros(p.Seen), micros(p.Expires), p.From, p.Agent)
	return err
}

func (t *tx) DeletePass(digest []byte) error {
	return found(t.exec(`DELETE FROM passes WHERE digest = ?`, digest))
}

func (t *tx) Creation(digest []byte) (store.CreationRow, error) {
	row := store.CreationRow{Digest: digest}
	var at int64
	err := t.q.QueryRowContext(t.ctx, `SELECT request, answer, at FROM creations WHERE digest = ?`, digest).Scan(&row.Request, &row.Answer, &at)
	if err != nil {
		return row, translate(err)
	}
	row.At = fromMicros(at)
	return row, nil
}

func (t *tx) PutCreation(row store.CreationRow) error {
	if _, err := t.exec(`DELETE FROM creations WHERE at <= ?`, micros(row.At.Add(-store.CreationsKept))); err != nil {
		return err
	}
	_, err := t.exec(`INSERT INTO creations (digest, request, answer, at) VALUES (?, ?, ?, ?)`, row.Digest, row.Request, row.Answer, micros(row.At))
	return err
}

// found turns a change of nothing into ErrNotFound.
func found(changed int64, err error) error {
	if err == nil && changed == 0 {
		return store.ErrNotFound
	}
	return err
}
