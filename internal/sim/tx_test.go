package sim

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
)

// tx is one operator's action on rows: what it writes is staged.
type tx struct {
	*rows
	control  *control
	now      time.Time
	readOnly bool
	chain    audit.Chain
	entries  []audit.Entry
}

var _ store.Tx = (*tx)(nil)

var errReadOnly = errors.New("write in a read-only transaction")

func (t *tx) Now() time.Time { return t.now }

func (t *tx) Meta(name string) (string, error) {
	if v, ok := t.control.meta[name]; ok {
		return v, nil
	}
	return "", store.ErrNotFound
}

func (t *tx) SetMeta(name, value string) error { t.control.meta[name] = value; return nil }

func (t *tx) Rates() ([]money.Rate, error) { return t.control.rates, nil }
func (t *tx) PutRate(r money.Rate) error   { t.control.rates = append(t.control.rates, r); return nil }
func (t *tx) Brakes() ([]store.BrakeRow, error) {
	return slices.SortedFunc(maps.Values(t.control.brakes), func(a, b store.BrakeRow) int { return cmp.Compare(a.Scope, b.Scope) }), nil
}
func (t *tx) PutBrake(r store.BrakeRow) error { t.control.brakes[r.Scope] = r; return nil }

func (t *tx) LiftBrake(scope string) (bool, error) {
	_, ok := t.control.brakes[scope]
	delete(t.control.brakes, scope)
	return ok, nil
}

func (t *tx) EachKey(f func(store.KeyRow) error) error {
	for _, id := range t.control.order {
		if err := f(t.control.keys[id]); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) Key(id policy.KeyID) (store.KeyRow, error) {
	if row, ok := t.control.keys[id]; ok {
		return row, nil
	}
	return store.KeyRow{}, store.ErrNotFound
}

func (t *tx) PutKey(row store.KeyRow) (int64, error) {
	if t.readOnly {
		return 0, errReadOnly
	}
	old, known := t.control.keys[row.ID]
	for _, other := range t.control.keys {
		if other.ID != row.ID && other.Name == row.Name && other.Live && row.Live {
			return 0, store.ErrExists
		}
	}
	if !known {
		t.control.order = append(t.control.order, row.ID)
	}
	row.Version = old.Version + 1
	t.control.keys[row.ID] = row
	return row.Version, nil
}

func (t *tx) Upstreams() ([]store.UpstreamRow, error) {
	return slices.SortedFunc(maps.Values(t.control.upstreams), func(a, b store.UpstreamRow) int { return cmp.Compare(a.ID, b.ID) }), nil
}

func (t *tx) PutUpstream(row store.UpstreamRow) error   { t.control.upstreams[row.ID] = row; return nil }
func (t *tx) DeleteUpstream(id policy.UpstreamID) error { delete(t.control.upstreams, id); return nil }

func (t *tx) AccountsIn(per policy.Window, label string, f func(ledger.AccountKey, ledger.Account) error) error {
	for k, a := range t.accounts {
		if k.Per == per && k.Label == label {
			if err := f(k, a); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *tx) OpenReservations(key policy.KeyID) (out []*ledger.Reservation, err error) {
	for _, id := range t.open {
		if r := t.reservations[id]; key == "" || r.Key == key {
			out = append(out, r)
		}
	}
	return out, nil
}

func (t *tx) Unresolved(after ledger.ReservationID, n int) (out []*ledger.Reservation, err error) {
	for _, id := range t.open {
		if r := t.reservations[id]; id > after && r.State == ledger.Unresolved && len(out) < n {
			out = append(out, r)
		}
	}
	return out, nil
}

func (t *tx) Counted(id policy.ObjectID) (map[ledger.ObjectKey]ledger.Object, error) {
	out := make(map[ledger.ObjectKey]ledger.Object)
	for k, o := range t.objects {
		if k.Object == id {
			out[k] = o
		}
	}
	return out, nil
}

func (t *tx) ReservationsSince(key policy.KeyID, since time.Time, f func(*ledger.Reservation) error) error {
	for _, id := range slices.Sorted(maps.Keys(t.reservations)) {
		if r := t.reservations[id]; r.Key == key && !r.At.Before(since) {
			if err := f(r); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *tx) Seed(store.Seeding) error { return errors.New("seeding is not simulated") }

func (t *tx) Append(r *audit.Record) (audit.Entry, error) {
	if t.readOnly {
		return audit.Entry{}, errReadOnly
	}
	r.At = t.now
	e := t.chain.Append(r)
	t.entries = append(t.entries, e)
	return e, nil
}

func (t *tx) EachRecord(from int64, f func(audit.Entry) error) error {
	for _, e := range t.rows.entries {
		if e.Seq >= from {
			if err := f(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// Query is not simulated: nobody searches.
func (t *tx) Query(store.RecordQuery) (store.RecordPage, error) {
	return store.RecordPage{}, errors.New("search is not simulated")
}
func (t *tx) Archives() ([]store.Archive, error) { return nil, nil }
func (t *tx) Heads(int64) ([]audit.Head, error)  { return nil, nil }

func (t *tx) FirstAt(at time.Time) (int64, error) {
	i, _ := slices.BinarySearchFunc(t.rows.entries, at, func(e audit.Entry, at time.Time) int { return e.At.Compare(at) })
	return int64(i) + 1, nil
}

func (t *tx) Height() (int64, [32]byte, error) { return t.rows.chain.Seq, t.rows.chain.Hash, nil }
