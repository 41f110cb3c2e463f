package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

const (
	// scrubFirst is when the first round over the whole store begins, and scrubEvery when the next: a disk that loses
	// bits does so over months.
	scrubFirst = time.Minute
	scrubEvery = 24 * time.Hour
	// scrubPage is how many records are read at once, and scrubPause the rest after that: together some ten thousand
	// records a second, which leaves the disk to the calls.
	scrubPage = 500
	// freezeAgain is the wait before damage that could not be written down is told again.
	freezeAgain = time.Second
	scrubPause  = 50 * time.Millisecond
)

// damaged says what is not as it was written.
type damaged string

func (d damaged) Error() string { return string(d) }

// foundDamage tells what was found apart from what could not be read.
func foundDamage(err error) (string, error) {
	var wrong damaged
	if errors.As(err, &wrong) {
		return string(wrong), nil
	}
	return "", err
}

// scrub reads everything again, page by page, and freezes the books if something is not as it was written. A start reads
// only what it builds upon, where the store is large.
func (db *DB) scrub() {
	defer close(db.scrubbed)
	timer := time.NewTimer(scrubFirst)
	defer timer.Stop()
	for {
		select {
		case <-db.writer.queue.Closing():
			return
		case <-timer.C:
			timer.Reset(scrubEvery)
		}
		why, err := foundDamage(db.readAll(func() bool {
			pause := time.NewTimer(scrubPause)
			defer pause.Stop()
			select {
			case <-db.writer.queue.Closing():
				return false
			case <-pause.C:
				return true
			}
		}))
		if err != nil {
			db.look("read everything again", err)
			continue
		}
		if why == "" {
			continue
		}
		db.freezeFound(why)
	}
}

// freezeFound freezes the books for damage that was found while serving. It does not give up: stops may fill the lane, or
// the disk may be full, and the next round is a day away.
func (db *DB) freezeFound(why string) {
	for {
		err := db.Update(context.Background(), store.LaneBrake, func(t store.Tx) error { return store.FreezeBooks(t, why) })
		if err == nil {
			return
		}
		db.look("freeze the books", err)
		again := time.NewTimer(freezeAgain)
		select {
		case <-db.writer.queue.Closing():
			again.Stop()
			return // the damage is found again after the start
		case <-again.C:
		}
	}
}

// readAll reads the chain and the books. rest is called between two pages and returns false to end early.
func (db *DB) readAll(rest func() bool) error {
	ctx := context.Background()
	var chain audit.Chain
	for more := true; more && rest(); {
		err := db.View(ctx, func(v store.Tx) (err error) {
			more, err = v.(*tx).followChain(&chain)
			return err
		})
		if err != nil {
			return err
		}
	}
	last := int64(0)
	for more := true; more && rest(); {
		err := db.View(ctx, func(v store.Tx) (err error) {
			more, err = v.(*tx).checkRows(&last)
			return err
		})
		if err != nil {
			return err
		}
	}
	var keys []policy.KeyID
	err := db.View(ctx, func(v store.Tx) error {
		own := v.(*tx)
		for _, check := range []func() error{own.checkControl, own.checkBrakes, own.checkHeads} {
			if err := check(); err != nil {
				return err
			}
		}
		return v.EachKey(func(row store.KeyRow) error {
			keys = append(keys, row.ID)
			return nil
		})
	})
	for _, key := range keys {
		if err != nil || !rest() {
			return err
		}
		err = db.View(ctx, func(v store.Tx) error { return v.(*tx).checkBooks(key) })
	}
	return err
}

// followChain holds the next page of records against the chain so far. It begins where the archives end, and once more if
// they have grown past it.
func (t *tx) followChain(chain *audit.Chain) (more bool, err error) {
	n := 0
	border, err := t.Border()
	if err != nil {
		return false, err
	}
	if chain.Name == "" || chain.Seq < border.Seq {
		*chain = border
	}
	rows, err := t.q.QueryContext(t.ctx, `SELECT seq, at, key, call, hash, body FROM audit WHERE seq > ? ORDER BY seq LIMIT ?`, chain.Seq, scrubPage)
	if err != nil {
		return false, err
	}
	err = eachEntry(rows, func(e audit.Entry) error {
		n++
		switch {
		case e.Seq != chain.Seq+1:
			return damaged(fmt.Sprintf("record %d is missing", chain.Seq+1))
		case audit.Link(chain.Hash, e.Bytes) != e.Hash || !asRecorded(&e):
			return damaged(fmt.Sprintf("record %d is not as it was written", e.Seq))
		}
		chain.Seq, chain.Hash = e.Seq, e.Hash
		return nil
	})
	return n == scrubPage, err
}

// asRecorded holds the columns by which a record is found against the record itself.
func asRecorded(e *audit.Entry) bool {
	r, err := audit.Decode(e.Bytes)
	return err == nil && r.Seq == e.Seq && r.Key == e.Key && r.Call() == e.Call && micros(r.At) == micros(e.At)
}

// checkHeads looks at the signed heads: each must still be signed, and over the record that it names.
func (t *tx) checkHeads() error {
	heads, err := t.Heads(0)
	if err != nil {
		return damaged("a signed head cannot be read")
	}
	for i := range heads {
		var hash []byte
		err := t.q.QueryRowContext(t.ctx, "SELECT hash FROM audit WHERE seq = ?", heads[i].Seq).Scan(&hash)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if !audit.VerifyHead(heads[i]) || err == nil && string(hash) != string(heads[i].Hash[:]) {
			return damaged(fmt.Sprintf("the signed head of record %d is not as it was written", heads[i].Seq))
		}
	}
	return nil
}

// checkBrakes looks for rows that no program of ours writes: a stop whose name was damaged would stop nothing.
func (t *tx) checkBrakes() error {
	rows, err := t.Brakes()
	if err != nil {
		return err
	}
	for _, b := range rows {
		kind, id, named := strings.Cut(b.Scope, ":")
		known := b.Scope == store.ScopeAll || named && id != "" && (kind == "key" || kind == "upstream" || kind == "freeze")
		if !known || b.Mode != vault.Stopped && b.Mode != vault.ReadOnly {
			return damaged(fmt.Sprintf("the brake %q in mode %d is none that was pulled", b.Scope, b.Mode))
		}
	}
	return nil
}

// checkRows looks at the next page of reservations as they lie in the table: whoever finds them by an index is told
// the key that stands there.
func (t *tx) checkRows(last *int64) (more bool, err error) {
	rows, err := t.q.QueryContext(t.ctx, `SELECT `+reservationColumns+` FROM reservations NOT INDEXED WHERE id > ? ORDER BY id LIMIT ?`, *last, scrubPage)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		var row reservationRow
		if err := rows.Scan(row.fields()...); err != nil {
			return false, err
		}
		if !row.whole() {
			return false, damaged(fmt.Sprintf("reservation %d is not as it was written", row.ID))
		}
		n, *last = n+1, row.ID
	}
	return n == scrubPage, rows.Err()
}

// checkBooks works out from a key's reservations what its accounts and objects must say.
func (t *tx) checkBooks(key policy.KeyID) error {
	accounts := make(map[ledger.AccountKey]ledger.Account)
	objects := make(map[ledger.ObjectKey]int64)
	err := t.eachReservation(key, func(r *ledger.Reservation) {
		for i := range r.Holds {
			h := &r.Holds[i]
			a := accounts[h.Account]
			if r.State.Open() {
				a.Held += h.Amount
			} else {
				a.Settled += h.Amount
			}
			accounts[h.Account] = a
		}
		for i := range r.Effects {
			if e := &r.Effects[i]; e.Object != "" {
				objects[ledger.ObjectKey{Key: key, Bucket: e.Bucket, Object: e.Object, Currency: e.Amount.Currency}] += r.Counted[i]
			}
		}
	})
	if err != nil {
		return err
	}
	if err := t.compareAccounts(key, accounts); err != nil {
		return err
	}
	return t.compareObjects(key, objects)
}

// eachReservation reads a key's reservations. What does not decode is damage.
func (t *tx) eachReservation(key policy.KeyID, f func(*ledger.Reservation)) error {
	rows, err := t.q.QueryContext(t.ctx, `SELECT `+reservationColumns+`, idem FROM reservations WHERE key = ? ORDER BY id`, string(key))
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var row reservationRow
		var found any
		if err := rows.Scan(append(row.fields(), &found)...); err != nil {
			return err
		}
		r, err := row.decode()
		if err != nil || r.State > ledger.Released || found != idem(r) {
			return damaged(fmt.Sprintf("reservation %d cannot be read", row.ID))
		}
		f(r)
	}
	return rows.Err()
}

func (t *tx) compareAccounts(key policy.KeyID, want map[ledger.AccountKey]ledger.Account) error {
	rows, err := t.q.QueryContext(t.ctx, `SELECT resource, per, unit, label, held, settled FROM accounts WHERE key = ?`, string(key))
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		k := ledger.AccountKey{Key: key}
		var has ledger.Account
		if err := rows.Scan(&k.Resource, &k.Per, &k.Unit, &k.Label, &has.Held, &has.Settled); err != nil {
			return err
		}
		if has != want[k] {
			return damaged(fmt.Sprintf("the account of %s for %s in %s says held %d and settled %d, its reservations say %d and %d",
				key, k.Resource, k.Label, has.Held, has.Settled, want[k].Held, want[k].Settled))
		}
		delete(want, k)
	}
	for k, a := range want {
		if a != (ledger.Account{}) {
			return damaged(fmt.Sprintf("the account of %s for %s in %s is missing", key, k.Resource, k.Label))
		}
	}
	return rows.Err()
}

func (t *tx) compareObjects(key policy.KeyID, want map[ledger.ObjectKey]int64) error {
	rows, err := t.q.QueryContext(t.ctx, `SELECT object, bucket, currency, doc, sum FROM objects WHERE key = ?`, string(key))
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		k := ledger.ObjectKey{Key: key}
		var doc sql.RawBytes
		var sum sql.NullInt64
		if err := rows.Scan(&k.Object, &k.Bucket, &k.Currency, &doc, &sum); err != nil {
			return err
		}
		if o, err := decodeObject(k, doc, sum); err != nil || o.Counts() != want[k] {
			return damaged(fmt.Sprintf("what %s is counted for on %s is not what its reservations say", key, k.Object))
		}
		delete(want, k)
	}
	for k, n := range want {
		if n != 0 {
			return damaged(fmt.Sprintf("what %s is counted for on %s is missing", key, k.Object))
		}
	}
	return rows.Err()
}
