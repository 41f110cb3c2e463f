package postgres

import (
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/codec"
)

func (t *tx) Operators() ([]store.OperatorRow, error) {
	return listed(t, scanOperator, `SELECT `+operatorColumns+` FROM operators ORDER BY name`)
}

const operatorColumns = `id, name, role, issuer, subject, email, created, disabled`

func scanOperator(row pgx.CollectableRow) (o store.OperatorRow, err error) {
	var created, disabled int64
	err = row.Scan(&o.ID, &o.Name, &o.Role, &o.Issuer, &o.Subject, &o.Email, &created, &disabled)
	o.Created, o.Disabled = codec.FromMicros(created), codec.FromMicros(disabled)
	return o, err
}

func (t *tx) PutOperator(o store.OperatorRow) error {
	t.control = true
	return t.put(`INSERT INTO operators (id, name, role, issuer, subject, email, created, disabled) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, role = excluded.role, issuer = excluded.issuer, subject = excluded.subject,
		email = excluded.email, disabled = excluded.disabled`,
		text(o.ID), text(o.Name), text(o.Role), text(o.Issuer), text(o.Subject), text(o.Email), codec.Micros(o.Created), codec.Micros(o.Disabled))
}

func (t *tx) Tokens() ([]store.TokenRow, error) {
	return listed(t, scanToken, `SELECT `+tokenColumns+` FROM tokens ORDER BY name`)
}

const tokenColumns = `name, digest, operator, role, created, expires, used`

func scanToken(row pgx.CollectableRow) (token store.TokenRow, err error) {
	var created, expires, used int64
	err = row.Scan(&token.Name, &token.Digest, &token.Operator, &token.Role, &created, &expires, &used)
	token.Created, token.Expires, token.Used = codec.FromMicros(created), codec.FromMicros(expires), codec.FromMicros(used)
	return token, err
}

func (t *tx) PutToken(row store.TokenRow) error {
	t.control = true
	return t.put(`INSERT INTO tokens (name, digest, operator, role, created, expires, used) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		text(row.Name), blob(row.Digest), text(row.Operator), text(row.Role), codec.Micros(row.Created), codec.Micros(row.Expires), codec.Micros(row.Used))
}

// UseToken is no change that other nodes must hear of.
func (t *tx) UseToken(name string, at time.Time) error {
	return found(t.exec(`UPDATE tokens SET used = $1 WHERE name = $2`, codec.Micros(at), text(name)))
}

func (t *tx) DeleteToken(name string) error {
	t.control = true
	return found(t.exec(`DELETE FROM tokens WHERE name = $1`, text(name)))
}

func (t *tx) Passes() ([]store.PassRow, error) {
	return listed(t, scanPass, `SELECT `+passColumns+` FROM passes ORDER BY created, digest`)
}

const passColumns = `digest, kind, operator, token, created, seen, expires, origin, agent`

func scanPass(row pgx.CollectableRow) (p store.PassRow, err error) {
	var created, seen, expires int64
	err = row.Scan(&p.Digest, &p.Kind, &p.Operator, &p.Token, &created, &seen, &expires, &p.From, &p.Agent)
	p.Created, p.Seen, p.Expires = codec.FromMicros(created), codec.FromMicros(seen), codec.FromMicros(expires)
	return p, err
}

func (t *tx) PutPass(p store.PassRow) error {
	t.control = true
	return t.put(`INSERT INTO passes (digest, kind, operator, token, created, seen, expires, origin, agent) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		ON CONFLICT (digest) DO UPDATE SET seen = excluded.seen, expires = excluded.expires, origin = excluded.origin, agent = excluded.agent`,
		blob(p.Digest), text(p.Kind), text(p.Operator), text(p.Token), codec.Micros(p.Created), codec.Micros(p.Seen), codec.Micros(p.Expires), text(p.From), text(p.Agent))
}

func (t *tx) DeletePass(digest []byte) error {
	t.control = true
	return found(t.exec(`DELETE FROM passes WHERE digest = $1`, blob(digest)))
}

func (t *tx) Creation(digest []byte) (store.CreationRow, error) {
	row := store.CreationRow{Digest: digest}
	var at int64
	err := t.one(`SELECT request, answer, at FROM creations WHERE digest = $1`, []any{blob(digest)}, &row.Request, &row.Answer, &at)
	row.At = codec.FromMicros(at)
	return row, err
}

func (t *tx) PutCreation(row store.CreationRow) error {
	if _, err := t.exec(`DELETE FROM creations WHERE at <= $1`, codec.Micros(row.At.Add(-store.CreationsKept))); err != nil {
		return err
	}
	return t.put(`INSERT INTO creations (digest, request, answer, at) VALUES ($1, $2, $3, $4)`,
		blob(row.Digest), blob(row.Request), blob(row.Answer), codec.Micros(row.At))
}
