package sim

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/keybrake/keybrake/internal/store"
)

// people are the rows about operators and how they come in.
type people struct {
	operators map[string]store.OperatorRow
	tokens    map[string]store.TokenRow
	passes    map[string]store.PassRow
	creations map[string]store.CreationRow
}

func newPeople() people {
	return people{map[string]store.OperatorRow{}, map[string]store.TokenRow{}, map[string]store.PassRow{}, map[string]store.CreationRow{}}
}

func (p people) clone() people {
	return people{maps.Clone(p.operators), maps.Clone(p.tokens), maps.Clone(p.passes), maps.Clone(p.creations)}
}

// sorted lists rows by what a function says of each.
func sorted[R any](rows map[string]R, by func(R) string) []R {
	return slices.SortedFunc(maps.Values(rows), func(a, b R) int { return cmp.Compare(by(a), by(b)) })
}

// taken deletes a row that must be there.
func taken[R any](rows map[string]R, id string) error {
	if _, ok := rows[id]; !ok {
		return store.ErrNotFound
	}
	delete(rows, id)
	return nil
}

func (t *tx) Operators() ([]store.OperatorRow, error) {
	return sorted(t.control.operators, func(o store.OperatorRow) string { return o.Name }), nil
}

func (t *tx) PutOperator(o store.OperatorRow) error {
	for _, other := range t.control.operators {
		if other.ID != o.ID && (other.Name == o.Name || o.Subject != "" && other.Issuer == o.Issuer && other.Subject == o.Subject) {
			return store.ErrExists
		}
	}
	t.control.operators[o.ID] = o
	return nil
}

func (t *tx) Tokens() ([]store.TokenRow, error) {
	return sorted(t.control.tokens, func(r store.TokenRow) string { return r.Name }), nil
}

func (t *tx) PutToken(r store.TokenRow) error {
	if _, taken := t.control.tokens[r.Name]; taken {
		return store.ErrExists
	}
	t.control.tokens[r.Name] = r
	return nil
}

func (t *tx) UseToken(name string, at time.Time) error {
	r, ok := t.control.tokens[name]
	if !ok {
		return store.ErrNotFound
	}
	r.Used = at
	t.control.tokens[name] = r
	return nil
}

func (t *tx) DeleteToken(name string) error { return taken(t.control.tokens, name) }

func (t *tx) Passes() ([]store.PassRow, error) {
	return sorted(t.control.passes, func(p store.PassRow) string { return p.Created.UTC().Format(time.RFC3339Nano) + string(p.Digest) }), nil
}

func (t *tx) PutPass(p store.PassRow) error { t.control.passes[string(p.Digest)] = p; return nil }

func (t *tx) DeletePass(digest []byte) error { return taken(t.control.passes, string(digest)) }

func (t *tx) Creation(digest []byte) (store.CreationRow, error) {
	row, ok := t.control.creations[string(digest)]
	if !ok {
		return row, store.ErrNotFound
	}
	return row, nil
}

func (t *tx) PutCreation(row store.CreationRow) error {
	maps.DeleteFunc(t.control.creations, func(_ string, old store.CreationRow) bool { return !old.At.After(row.At.Add(-store.CreationsKept)) })
	if _, ok := t.control.creations[string(row.Digest)]; ok {
		return store.ErrExists
	}
	t.control.creations[string(row.Digest)] = row
	return nil
}
