package postgres

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/codec"
	"github.com/keybrake/keybrake/internal/vault"
)

const keyColumns = `k.id, k.name, k.upstream, k.version, k.live, k.policy, p.yaml, k.doc`

func scanKey(row pgx.CollectableRow) (k store.KeyRow, err error) {
	err = row.Scan(&k.ID, &k.Name, &k.Upstream, &k.Version, &k.Live, &k.Digest, &k.Policy, &k.Doc)
	return k, err
}

func (t *tx) EachKey(f func(store.KeyRow) error) error {
	for place := int64(0); ; {
		page, err := listed(t, func(row pgx.CollectableRow) (k store.KeyRow, err error) {
			err = row.Scan(&place, &k.ID, &k.Name, &k.Upstream, &k.Version, &k.Live, &k.Digest, &k.Policy, &k.Doc)
			return k, err
		}, `SELECT k.place, `+keyColumns+` FROM keys k JOIN policies p ON p.digest = k.policy WHERE k.place > $1 ORDER BY k.place LIMIT $2`, place, rowsPage)
		if err != nil {
			return err
		}
		for _, row := range page {
			if err := f(row); err != nil {
				return err
			}
		}
		if len(page) < rowsPage {
			return nil
		}
	}
}

func (t *tx) Key(id policy.KeyID) (store.KeyRow, error) {
	keys, err := listed(t, scanKey, `SELECT `+keyColumns+` FROM keys k JOIN policies p ON p.digest = k.policy WHERE k.id = $1`, text(id))
	if err == nil && len(keys) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return store.KeyRow{}, err
	}
	return keys[0], nil
}

func (t *tx) PutKey(row store.KeyRow) (int64, error) {
	var version int64
	err := t.one(`SELECT version FROM keys WHERE id = $1`, []any{text(row.ID)}, &version)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return 0, err
	}
	version++
	if _, err := t.exec(`INSERT INTO policies (digest, yaml) VALUES ($1, $2) ON CONFLICT (digest) DO NOTHING`, text(row.Digest), blob(row.Policy)); err != nil {
		return 0, fmt.Errorf("write policy: %w", err)
	}
	err = t.put(`INSERT INTO keys (id, name, upstream, version, live, policy, doc, changed) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, upstream = excluded.upstream, version = excluded.version, live = excluded.live,
		policy = excluded.policy, doc = excluded.doc, changed = excluded.changed`,
		text(row.ID), text(row.Name), text(row.Upstream), version, row.Live, text(row.Digest), blob(row.Doc), t.controlNow+1)
	if err != nil {
		return 0, err
	}
	t.control = true
	return version, nil
}

func (t *tx) Upstreams() ([]store.UpstreamRow, error) {
	return listed(t, scanUpstream, `SELECT id, name, doc FROM upstreams ORDER BY name`)
}

func scanUpstream(row pgx.CollectableRow) (u store.UpstreamRow, err error) {
	err = row.Scan(&u.ID, &u.Name, &u.Doc)
	return u, err
}

func (t *tx) PutUpstream(row store.UpstreamRow) error {
	t.control = true
	return t.put(`INSERT INTO upstreams (id, name, doc) VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET name = excluded.name, doc = excluded.doc`,
		text(row.ID), text(row.Name), blob(row.Doc))
}

func (t *tx) DeleteUpstream(id policy.UpstreamID) error {
	t.control = true
	return found(t.exec(`DELETE FROM upstreams WHERE id = $1`, text(id)))
}

func scanBrake(row pgx.CollectableRow) (b store.BrakeRow, err error) {
	var mode, at int64
	err = row.Scan(&b.Scope, &mode, &b.Reason, &b.Actor, &at)
	b.Mode, b.At = vault.Brake(mode), codec.FromMicros(at)
	return b, err
}

const selectBrakes = `SELECT scope, mode, reason, actor, at FROM brakes ORDER BY at, scope`

func (t *tx) Brakes() ([]store.BrakeRow, error) { return listed(t, scanBrake, selectBrakes) }

// putBrake writes a pulled brake or a freeze.
const putBrake = `INSERT INTO brakes (scope, mode, reason, actor, at) VALUES ($1, $2, $3, $4, $5)
	ON CONFLICT (scope) DO UPDATE SET mode = excluded.mode, reason = excluded.reason, actor = excluded.actor, at = excluded.at`

func (t *tx) PutBrake(row store.BrakeRow) error {
	if row.Mode == vault.Normal {
		return errors.New("write brake: normal is the absence of a row")
	}
	t.control, t.touchedBooks = true, t.touchedBooks || row.Scope == store.ScopeBooks
	_, err := t.exec(putBrake, text(row.Scope), int64(row.Mode), text(row.Reason), text(row.Actor), codec.Micros(row.At))
	return err
}

func (t *tx) LiftBrake(scope string) (bool, error) {
	t.control, t.touchedBooks = true, t.touchedBooks || scope == store.ScopeBooks
	n, err := t.exec(`DELETE FROM brakes WHERE scope = $1`, text(scope))
	return n > 0, err
}
