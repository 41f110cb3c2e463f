package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/codec"
	"github.com/keybrake/keybrake/internal/store/queue"
)

// attachment is what an idempotency key binds.
type attachment struct {
	key  policy.KeyID
	idem string // the column's value
}

// repeat is what two calls that ask for the same thing share.
type repeat struct {
	key         policy.KeyID
	fingerprint [32]byte
}

// wants is what a transaction will probably ask for. It is read in as few round trips as possible; what turns out to be
// missing is read when it is asked for.
type wants struct {
	keys         map[policy.KeyID]struct{}
	reservations map[ledger.ReservationID]struct{}
	attached     map[attachment]struct{}
	pending      map[repeat]struct{}
	accounts     map[ledger.AccountKey]struct{}
	objects      map[ledger.ObjectKey]struct{}
}

func newWants() *wants {
	return &wants{
		keys: make(map[policy.KeyID]struct{}), reservations: make(map[ledger.ReservationID]struct{}),
		attached: make(map[attachment]struct{}), pending: make(map[repeat]struct{}),
		accounts: make(map[ledger.AccountKey]struct{}), objects: make(map[ledger.ObjectKey]struct{}),
	}
}

// of adds what a unit will ask for at about a time. mine are this node's own open reservations.
func (w *wants) of(u *queue.Unit, now time.Time, labels labels, mine map[ledger.ReservationID]*ledger.Reservation) {
	if a := u.Admission(); a != nil {
		w.keys[a.Key] = struct{}{}
		if a.Resend != 0 {
			w.reservations[a.Resend] = struct{}{}
		}
		if r := a.Reserve; r != nil {
			w.request(r, now, labels)
			if r.IdemKey != "" {
				w.attached[attachment{r.Key, codec.IdemValue(r.IdemAccount, r.IdemKey)}] = struct{}{}
			}
			if !a.AllowRepeat && a.Resend == 0 {
				w.pending[repeat{r.Key, r.Fingerprint}] = struct{}{}
			}
		}
	}
	if r := u.Resolution(); r != nil {
		if r.Reservation != 0 {
			w.reservations[r.Reservation] = struct{}{}
		}
		if known := mine[r.Reservation]; known != nil {
			w.reservation(known)
			w.fate(known, &r.Fate)
		}
		if r.Again != nil {
			w.request(r.Again.Request, now, labels)
		}
		if l := r.Learned; l != nil {
			w.objects[ledger.ObjectKey{Key: l.Key, Bucket: l.Final.Bucket, Object: l.Final.Object, Currency: l.Final.Amount.Currency}] = struct{}{}
		}
	}
}

// labels finds the label of each window once.
type labels map[window]string

type window struct {
	per  policy.Window
	zone *time.Location
}

func (l labels) at(per policy.Window, now time.Time, zone *time.Location) string {
	label, ok := l[window{per, zone}]
	if !ok {
		label = ledger.Label(per, now, zone)
		l[window{per, zone}] = label
	}
	return label
}

// request adds the accounts and objects of a call that wants to leave.
func (w *wants) request(r *ledger.Request, now time.Time, labels labels) {
	for _, c := range r.Caps {
		if c.Per != policy.PerCall {
			w.accounts[ledger.AccountKey{Key: r.Key, Resource: c.Resource, Per: c.Per, Unit: c.Unit, Label: labels.at(c.Per, now, r.Zone)}] = struct{}{}
		}
	}
	w.effects(r.Key, r.Effects)
}

func (w *wants) effects(key policy.KeyID, effects []policy.Effect) {
	for i := range effects {
		if e := &effects[i]; e.Object != "" {
			w.objects[ledger.ObjectKey{Key: key, Bucket: e.Bucket, Object: e.Object, Currency: e.Amount.Currency}] = struct{}{}
		}
	}
}

// reservation adds what a reservation's fate changes.
func (w *wants) reservation(r *ledger.Reservation) {
	for i := range r.Holds {
		w.accounts[r.Holds[i].Account] = struct{}{}
	}
	w.effects(r.Key, r.Effects)
}

// fate adds the objects that an answer names.
func (w *wants) fate(r *ledger.Reservation, f *ledger.Fate) {
	for i, m := range f.Moved {
		if m.Object != "" && i < len(r.Effects) {
			e := &r.Effects[i]
			w.objects[ledger.ObjectKey{Key: r.Key, Bucket: e.Bucket, Object: m.Object, Currency: e.Amount.Currency}] = struct{}{}
		}
	}
	for _, final := range f.Finals {
		w.objects[ledger.ObjectKey{Key: r.Key, Bucket: final.Bucket, Object: final.Object, Currency: final.Amount.Currency}] = struct{}{}
	}
}

// facts is what one transaction knows of the store, all of it read after the lock was taken.
type facts struct {
	ctx  context.Context
	conn *pgx.Conn

	brakes       map[string]store.BrakeRow
	versions     map[policy.KeyID]int64
	reservations map[ledger.ReservationID]*ledger.Reservation
	attached     map[attachment]ledger.ReservationID
	pending      map[repeat][]ledger.ReservationID
	accounts     map[ledger.AccountKey]ledger.Account
	objects      map[ledger.ObjectKey]ledger.Object
}

var (
	_ ledger.Rows = (*facts)(nil)
	_ store.Facts = (*facts)(nil)
)

func newFacts(ctx context.Context) *facts {
	return &facts{
		ctx: ctx, brakes: make(map[string]store.BrakeRow), versions: make(map[policy.KeyID]int64),
		reservations: make(map[ledger.ReservationID]*ledger.Reservation), attached: make(map[attachment]ledger.ReservationID),
		pending: make(map[repeat][]ledger.ReservationID), accounts: make(map[ledger.AccountKey]ledger.Account),
		objects: make(map[ledger.ObjectKey]ledger.Object),
	}
}

// read queues the reads of what is wanted and not known yet, and reports whether that is anything.
func (f *facts) read(b *pgx.Batch, w *wants) bool {
	before := b.Len()
	f.readVersions(b, w)
	f.readReservations(b, w)
	f.readAccounts(b, w)
	f.readObjects(b, w)
	return b.Len() > before
}

// look reads what is wanted in a round trip of its own, unless everything is known.
func (f *facts) look(w *wants) error {
	b := &pgx.Batch{}
	if !f.read(b, w) {
		return nil
	}
	return f.conn.SendBatch(f.ctx, b).Close()
}

// lookFurther reads what the reservations that were read lead to, for those that this node had not at hand.
func (f *facts) lookFurther(units []*queue.Unit) error {
	w := newWants()
	for _, u := range units {
		if r := u.Resolution(); r != nil && r.Reservation != 0 {
			if known := f.reservations[r.Reservation]; known != nil {
				w.reservation(known)
				w.fate(known, &r.Fate)
			}
		}
	}
	return f.look(w)
}

func (f *facts) readBrakes(b *pgx.Batch) {
	b.Queue(selectBrakes).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			row, err := scanBrake(rows)
			if err != nil {
				return err
			}
			f.brakes[row.Scope] = row
		}
		return rows.Err()
	})
}

func (f *facts) readVersions(b *pgx.Batch, w *wants) {
	var ids []string
	for id := range w.keys {
		if _, known := f.versions[id]; !known {
			f.versions[id] = 0 // no such key any more: no version matches, so the call is judged anew
			ids = append(ids, string(id))
		}
	}
	if len(ids) == 0 {
		return
	}
	b.Queue(`SELECT id, version FROM keys WHERE id = ANY($1)`, ids).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			var id string
			var version int64
			if err := rows.Scan(&id, &version); err != nil {
				return err
			}
			f.versions[policy.KeyID(id)] = version
		}
		return rows.Err()
	})
}

// joinedColumns are reservationColumns where another table has such names too.
const joinedColumns = `r.id, r.key, r.state, r.at, r.fixed, r.moving`

// selectAttached selects the reservations of idempotency keys, each with its key.
const selectAttached = `SELECT ` + joinedColumns + `, r.idem FROM unnest($1::text[], $2::bytea[]) AS n(key, idem)
	JOIN reservations r ON r.key = n.key AND r.idem = n.idem`

func (f *facts) readReservations(b *pgx.Batch, w *wants) {
	var ids []int64
	for id := range w.reservations {
		if _, known := f.reservations[id]; !known {
			ids = append(ids, int64(id))
		}
	}
	var idemKeys, printKeys []string
	var idems, prints [][]byte
	for a := range w.attached {
		if _, known := f.attached[a]; !known {
			f.attached[a] = 0
			idemKeys, idems = append(idemKeys, string(a.key)), append(idems, []byte(a.idem))
		}
	}
	for r := range w.pending {
		if _, known := f.pending[r]; !known {
			f.pending[r] = nil
			printKeys, prints = append(printKeys, string(r.key)), append(prints, bytesOf(r.fingerprint))
		}
	}
	if len(ids) > 0 {
		b.Queue(`SELECT `+reservationColumns+` FROM reservations WHERE id = ANY($1)`, ids).Query(f.addReservations(nil))
	}
	if len(idems) > 0 {
		b.Queue(selectAttached, idemKeys, idems).Query(f.addAttached)
	}
	if len(prints) > 0 {
		b.Queue(`SELECT `+joinedColumns+` FROM unnest($1::text[], $2::bytea[]) AS n(key, fingerprint)
			JOIN reservations r ON r.state = 1 AND r.key = n.key AND r.fingerprint = n.fingerprint`, printKeys, prints).
			Query(f.addReservations(func(r *ledger.Reservation) {
				at := repeat{r.Key, r.Fingerprint}
				i, has := slices.BinarySearch(f.pending[at], r.ID)
				if !has {
					f.pending[at] = slices.Insert(f.pending[at], i, r.ID)
				}
			}))
	}
}

func bytesOf(a [32]byte) []byte { return a[:] }

// addReservations takes rows of reservationColumns up; each, if not nil, is told of every one.
func (f *facts) addReservations(each func(*ledger.Reservation)) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		for rows.Next() {
			r, err := scanReservation(rows)
			if err != nil {
				return err
			}
			f.reservations[r.ID] = r
			if each != nil {
				each(r)
			}
		}
		return rows.Err()
	}
}

func (f *facts) addAttached(rows pgx.Rows) error {
	return eachAttached(rows, func(at attachment, row codec.Reservation) error {
		r, err := row.Decode()
		if err != nil {
			return err
		}
		f.reservations[r.ID] = r
		f.attached[at] = r.ID
		return nil
	})
}

// eachAttached tells the rows of selectAttached.
func eachAttached(rows pgx.Rows, each func(attachment, codec.Reservation) error) error {
	for rows.Next() {
		var c codec.Reservation
		var idem []byte
		if err := rows.Scan(&c.ID, &c.Key, &c.State, &c.At, &c.Fixed, &c.Moving, &idem); err != nil {
			return err
		}
		if err := each(attachment{policy.KeyID(c.Key), string(idem)}, c); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (f *facts) readAccounts(b *pgx.Batch, w *wants) {
	var keys []ledger.AccountKey
	for k := range w.accounts {
		if _, known := f.accounts[k]; !known {
			f.accounts[k] = ledger.Account{}
			keys = append(keys, k)
		}
	}
	if len(keys) > 0 {
		queueAccounts(b, keys, func(k ledger.AccountKey, a ledger.Account) { f.accounts[k] = a })
	}
}

// queueAccounts queues the read of those running totals that there are.
func queueAccounts(b *pgx.Batch, keys []ledger.AccountKey, each func(ledger.AccountKey, ledger.Account)) {
	c := accountColumnsOf(keys)
	b.Queue(`SELECT a.key, a.resource, a.per, a.unit, a.label, a.held, a.settled
		FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::text[]) AS n(key, resource, per, unit, label)
		JOIN accounts a ON a.key = n.key AND a.resource = n.resource AND a.per = n.per AND a.unit = n.unit AND a.label = n.label`,
		c.keys, c.resources, c.pers, c.units, c.labels).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			var k ledger.AccountKey
			var a ledger.Account
			var per, unit int64
			if err := rows.Scan(&k.Key, &k.Resource, &per, &unit, &k.Label, &a.Held, &a.Settled); err != nil {
				return err
			}
			k.Per, k.Unit = policy.Window(per), policy.Unit(unit)
			each(k, a)
		}
		return rows.Err()
	})
}

// objectColumns are the columns of objects' names, each as an array.
type objectColumns struct {
	keys, buckets, currencies []string
	objects                   [][]byte
}

func (c *objectColumns) add(k ledger.ObjectKey) {
	c.keys, c.objects = append(c.keys, string(k.Key)), append(c.objects, []byte(k.Object))
	c.buckets, c.currencies = append(c.buckets, string(k.Bucket)), append(c.currencies, string(k.Currency))
}

func (f *facts) readObjects(b *pgx.Batch, w *wants) {
	var c objectColumns
	for k := range w.objects {
		if _, known := f.objects[k]; !known {
			f.objects[k] = ledger.Object{}
			c.add(k)
		}
	}
	if len(c.keys) == 0 {
		return
	}
	b.Queue(`SELECT o.key, o.object, o.bucket, o.currency, o.doc
		FROM unnest($1::text[], $2::bytea[], $3::text[], $4::text[]) AS n(key, object, bucket, currency)
		JOIN objects o ON o.object = n.object AND o.key = n.key AND o.bucket = n.bucket AND o.currency = n.currency`,
		c.keys, c.objects, c.buckets, c.currencies).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			var k ledger.ObjectKey
			var object, doc []byte
			var bucket, currency string
			if err := rows.Scan(&k.Key, &object, &bucket, &currency, &doc); err != nil {
				return err
			}
			k.Object, k.Bucket, k.Currency = policy.ObjectID(object), policy.Resource(bucket), money.Currency(currency)
			o, err := decodeObject(k, doc)
			if err != nil {
				return err
			}
			f.objects[k] = o
		}
		return rows.Err()
	})
}

// known returns what a map of facts says about k, after a look if it says nothing.
func known[K comparable, V any](f *facts, m map[K]V, k K, want func(*wants)) (V, error) {
	if v, ok := m[k]; ok {
		return v, nil
	}
	w := newWants()
	want(w)
	if err := f.look(w); err != nil {
		delete(m, k) // it was not read
		var none V
		return none, err
	}
	return m[k], nil
}

func (f *facts) Account(k ledger.AccountKey) (ledger.Account, error) {
	return known(f, f.accounts, k, func(w *wants) { w.accounts[k] = struct{}{} })
}

func (f *facts) Object(k ledger.ObjectKey) (ledger.Object, error) {
	return known(f, f.objects, k, func(w *wants) { w.objects[k] = struct{}{} })
}

func (f *facts) Reservation(id ledger.ReservationID) (*ledger.Reservation, error) {
	r, err := known(f, f.reservations, id, func(w *wants) { w.reservations[id] = struct{}{} })
	if err == nil && r == nil {
		return nil, store.ErrNotFound
	}
	return r, err
}

func (f *facts) Brake(scope string) (store.BrakeRow, bool, error) {
	row, pulled := f.brakes[scope]
	return row, pulled, nil
}

func (f *facts) KeyVersion(id policy.KeyID) (int64, error) {
	return known(f, f.versions, id, func(w *wants) { w.keys[id] = struct{}{} })
}

func (f *facts) Attached(key policy.KeyID, account policy.AccountID, idem string) (ledger.ReservationID, error) {
	at := attachment{key, codec.IdemValue(account, idem)}
	return known(f, f.attached, at, func(w *wants) { w.attached[at] = struct{}{} })
}

func (f *facts) Pending(key policy.KeyID, fingerprint [32]byte) ([]ledger.ReservationID, error) {
	at := repeat{key, fingerprint}
	return known(f, f.pending, at, func(w *wants) { w.pending[at] = struct{}{} })
}

// Recorded is asked only about what was tried before, so it is not foreseen.
func (f *facts) Recorded(seq int64, hash [32]byte) (there bool, err error) {
	err = f.conn.QueryRow(f.ctx, `SELECT EXISTS (SELECT FROM audit WHERE seq = $1 AND hash = $2)`, seq, hash[:]).Scan(&there)
	return there, err
}
