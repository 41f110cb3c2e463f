package sim

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
)

// rows is everything that a store keeps. Reservations are never changed in place, so copies of rows may share them.
type rows struct {
	accounts     map[ledger.AccountKey]ledger.Account
	objects      map[ledger.ObjectKey]ledger.Object
	reservations map[ledger.ReservationID]*ledger.Reservation
	idem         map[attachment]ledger.ReservationID
	open         []ledger.ReservationID // sorted
	next         ledger.ReservationID
	entries      []audit.Entry
	chain        audit.Chain
	at           time.Time // of the last record
	control
}

// control is the part of the rows that operators change.
type control struct {
	keys      map[policy.KeyID]store.KeyRow
	order     []policy.KeyID
	upstreams map[policy.UpstreamID]store.UpstreamRow
	brakes    map[string]store.BrakeRow
	meta      map[string]string
	people
	notices
	rates []money.Rate
}

type attachment struct {
	key     policy.KeyID
	account policy.AccountID
	idem    string
}

func newRows() *rows {
	return &rows{
		accounts: make(map[ledger.AccountKey]ledger.Account), objects: make(map[ledger.ObjectKey]ledger.Object),
		reservations: make(map[ledger.ReservationID]*ledger.Reservation), idem: make(map[attachment]ledger.ReservationID),
		next: 1, chain: audit.NewChain(audit.FirstChain),
		control: control{
			keys: make(map[policy.KeyID]store.KeyRow), upstreams: make(map[policy.UpstreamID]store.UpstreamRow),
			brakes: make(map[string]store.BrakeRow), meta: make(map[string]string), people: newPeople(), notices: newNotices(),
		},
	}
}

func (r *rows) clone() *rows {
	c := *r
	c.accounts, c.objects = maps.Clone(r.accounts), maps.Clone(r.objects)
	c.reservations, c.idem = maps.Clone(r.reservations), maps.Clone(r.idem)
	c.open, c.entries = slices.Clone(r.open), slices.Clip(r.entries)
	c.control = r.control.clone()
	return &c
}

func (c control) clone() control {
	c.keys, c.order, c.upstreams = maps.Clone(c.keys), slices.Clip(c.order), maps.Clone(c.upstreams)
	c.brakes, c.meta, c.rates = maps.Clone(c.brakes), maps.Clone(c.meta), slices.Clip(c.rates)
	c.people, c.notices = c.people.clone(), c.notices.clone()
	return c
}

// change is what one transaction does to the rows.
type change struct {
	ledger  ledger.Changes
	entries []audit.Entry
	chain   audit.Chain
	freezes []store.BrakeRow
	joins   []store.Join
	control *control // operators' rows as they are afterwards; nil: as before
	at      time.Time
	stamps  bool // the clock of the rows is at least that from now on, even without a record
	// action is what an operator did, for the journal.
	action func(context.Context, store.DB) error
}

// empty reports whether there is nothing to write.
func (c *change) empty() bool {
	l := &c.ledger
	return c.control == nil && len(c.entries)+len(c.freezes)+len(c.joins)+len(l.Created)+len(l.Updated)+len(l.Accounts)+len(l.Objects) == 0
}

func (r *rows) apply(c *change) error {
	maps.Copy(r.accounts, c.ledger.Accounts)
	maps.Copy(r.objects, c.ledger.Objects)
	for _, group := range [][]*ledger.Reservation{c.ledger.Created, c.ledger.Updated} {
		for _, rsv := range group {
			r.put(rsv)
		}
	}
	if c.ledger.Next > 0 {
		r.next = c.ledger.Next
	}
	if c.control != nil {
		r.control = c.control.clone()
	}
	for _, b := range c.freezes {
		r.brakes[b.Scope] = b
	}
	for _, j := range c.joins {
		row := r.keys[j.Key]
		doc, err := store.JoinCustomer(row.Doc, j.Customer)
		if err != nil {
			return err
		}
		row.Doc = doc
		r.keys[j.Key] = row
	}
	if r.entries = append(r.entries, c.entries...); len(c.entries) > 0 || c.stamps {
		r.at = c.at
	}
	r.chain = c.chain
	return nil
}

func (r *rows) put(rsv *ledger.Reservation) {
	if old := r.reservations[rsv.ID]; old != nil && old.IdemKey != "" && (rsv.IdemKey == "" || rsv.State == ledger.Released) {
		delete(r.idem, attachment{old.Key, old.IdemAccount, old.IdemKey})
	}
	r.reservations[rsv.ID] = kept(rsv)
	if rsv.IdemKey != "" && rsv.State != ledger.Released {
		r.idem[attachment{rsv.Key, rsv.IdemAccount, rsv.IdemKey}] = rsv.ID
	}
	i, has := slices.BinarySearch(r.open, rsv.ID)
	switch {
	case rsv.State.Open() && !has:
		r.open = slices.Insert(r.open, i, rsv.ID)
	case !rsv.State.Open() && has:
		r.open = slices.Delete(r.open, i, i+1)
	}
}

// kept is a reservation as stores keep it: whether an amount was looked up matters only until it is held.
func kept(rsv *ledger.Reservation) *ledger.Reservation {
	k := *rsv
	k.Effects = slices.Clone(rsv.Effects)
	for i := range k.Effects {
		k.Effects[i].LookedUp = false
	}
	return &k
}

// Account implements ledger.Rows, like its siblings; those below implement store.Facts.
func (r *rows) Account(k ledger.AccountKey) (ledger.Account, error) { return r.accounts[k], nil }
func (r *rows) Object(k ledger.ObjectKey) (ledger.Object, error)    { return r.objects[k], nil }
func (r *rows) Reservation(id ledger.ReservationID) (*ledger.Reservation, error) {
	if rsv, ok := r.reservations[id]; ok {
		return rsv, nil
	}
	return nil, store.ErrNotFound
}

func (r *rows) Brake(scope string) (store.BrakeRow, bool, error) {
	row, ok := r.brakes[scope]
	return row, ok, nil
}

func (r *rows) KeyVersion(id policy.KeyID) (int64, error) { return r.keys[id].Version, nil }

func (r *rows) Attached(key policy.KeyID, account policy.AccountID, idem string) (ledger.ReservationID, error) {
	return r.idem[attachment{key, account, idem}], nil
}

func (r *rows) Pending(key policy.KeyID, fingerprint [32]byte) (out []ledger.ReservationID, err error) {
	for _, id := range r.open {
		if rsv := r.reservations[id]; rsv.State == ledger.Unresolved && rsv.Key == key && rsv.Fingerprint == fingerprint {
			out = append(out, id)
		}
	}
	return out, nil
}

func (r *rows) Recorded(seq int64, hash [32]byte) (bool, error) {
	return seq <= int64(len(r.entries)) && r.entries[seq-1].Hash == hash, nil
}
