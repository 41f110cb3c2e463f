package crash

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	_ "modernc.org/sqlite"
)

// The states of a reservation, as they are stored.
const (
	reserved = iota
	unknown
	settled
	released
)

var stateNames = [...]string{"on the wire", "unknown", "settled", "released"}

// unitUSD and unitCalls are the units of an account, as they are stored.
const (
	unitUSD   = 1
	unitCalls = 2
)

// windows are the names of the stored windows.
var windows = [...]string{1: "call", 2: "hour", 3: "day", 4: "week", 5: "month", 6: "total"}

// books are the rows of a store, read with nothing of the program's own code.
type books struct {
	records      []record // by number, from 1: records[0] is number 1
	hash         [32]byte // of the last one that was read
	reservations map[int64]*reservation
	accounts     map[accountKey]account
	brakes       map[string]int // scope to mode
	archives     int            // how many files of records there are beside the store
	archived     int64          // the last record in them
	problems     []string       // what cannot be read as books at all
}

// record is an audit record, as much of it as the auditor looks at.
type record struct {
	Seq         int64
	At          time.Time
	Kind        string
	Action      string // of an operator
	Ref         int64
	Key         string
	Verdict     string
	Reservation int64
	Repeat      string
	Fate        string
	Proof       string
}

// reservation is a row of the store.
type reservation struct {
	id    int64
	key   string
	state int
	raw   string // of the moving part: what has not changed is not read again
	fixed struct {
		Record int64  `json:"a"`
		Sent   []byte `json:"s"`
	}
	sent struct {
		Path string `json:"p"`
		Body string `json:"b"`
		Key  string `json:"k"` // the idempotency key that Stripe gets
	}
	moving struct {
		Counted []int64 `json:"n"` // cents, for each effect
		Holds   []struct {
			Resource string `json:"r"`
			Per      int    `json:"p"`
			Unit     int    `json:"u"`
			Label    string `json:"l"`
			Amount   int64  `json:"n"`
		} `json:"h"`
		Proof string `json:"p"`
	}
}

// counted is what the reservation counts for, in cents.
func (r *reservation) counted() (cents int64) {
	for _, n := range r.moving.Counted {
		cents += n
	}
	return cents
}

type accountKey struct {
	key, resource, per string
	unit               int
	label              string
}

func (k accountKey) String() string {
	return fmt.Sprintf("%s per %s (%s, unit %d) of %s", k.resource, k.per, k.label, k.unit, k.key)
}

// account is a running total: micro-dollars, or calls.
type account struct{ held, settled int64 }

// snapshot reads the books that are in a file as they stand; the second result ends it.
func snapshot(t testing.TB, path string) (*sql.Tx, func()) {
	t.Helper()
	return beginReading(t, "sqlite", "file:"+path+"?mode=ro&_pragma=busy_timeout(5000)&_pragma=query_only(1)", sql.LevelDefault)
}

func beginReading(t testing.TB, driver, address string, level sql.IsolationLevel) (*sql.Tx, func()) {
	t.Helper()
	db, err := sql.Open(driver, address)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := db.BeginTx(t.Context(), &sql.TxOptions{ReadOnly: true, Isolation: level})
	if err != nil {
		t.Fatal(err)
	}
	return tx, func() {
		_ = tx.Rollback() // it only read
		_ = db.Close()
	}
}

// awaitTakenOver waits until nothing is on the wire of a process that is dead: on PostgreSQL others know that one is once it
// has been silent for long.
func (w *world) awaitTakenOver() {
	w.t.Helper()
	for until := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		tx, end := w.snapshot()
		var open int
		err := tx.QueryRow("SELECT count(*) FROM reservations WHERE state = 0").Scan(&open)
		end()
		if err != nil {
			w.t.Fatal(err)
		}
		if open == 0 {
			return
		}
		if time.Now().After(until) {
			w.t.Errorf("%d calls of dead nodes are on the wire still", open)
			return
		}
	}
}

// read brings the books up to what a store and its archive folder hold. Records that were read before are read again with whole.
func (b *books) read(t testing.TB, tx *sql.Tx, archive string, whole bool) {
	t.Helper()
	b.problems = nil
	b.readChain(t, tx, archive, whole)
	b.readReservations(t, tx)
	b.accounts = make(map[accountKey]account)
	each(t, tx, "SELECT key, resource, per, unit, label, held, settled FROM accounts", func(scan func(...any)) {
		var k accountKey
		var a account
		var per int
		scan(&k.key, &k.resource, &per, &k.unit, &k.label, &a.held, &a.settled)
		k.per = windows[per]
		b.accounts[k] = a
	})
	b.brakes = make(map[string]int)
	each(t, tx, "SELECT scope, mode FROM brakes", func(scan func(...any)) {
		var scope string
		var mode int
		scan(&scope, &mode)
		b.brakes[scope] = mode
	})
}

// readChain reads records and computes their hashes anew: each covers the one before.
func (b *books) readChain(t testing.TB, tx *sql.Tx, folder string, whole bool) {
	t.Helper()
	const domain = "keybrake-audit-v1\n"
	next, hash := int64(len(b.records))+1, b.hash
	if whole || next == 1 {
		next, hash = 1, sha256.Sum256([]byte(domain+"1"))
	}
	known := len(b.records)
	link := func(seq int64, stored, body []byte) {
		if len(b.problems) > 0 {
			return // the first break is what matters
		}
		if seq != next {
			b.problem("record %d is missing: after %d comes %d", next, next-1, seq)
			return
		}
		if hash = sha256.Sum256(append(append([]byte(domain), hash[:]...), body...)); !bytes.Equal(hash[:], stored) {
			b.problem("record %d, or the hash of the one before it, is not as it was written", seq)
			return
		}
		if int(seq) == known && hash != b.hash {
			b.problem("the records up to %d are others than they were", seq)
		}
		next++
		if int(seq) <= known {
			return
		}
		var r record
		if err := json.Unmarshal(body, &r); err != nil || r.Seq != seq {
			b.problem("record %d cannot be read: %v", seq, err)
		}
		b.records, b.hash = append(b.records, r), hash
	}
	b.archives = 0
	each(t, tx, "SELECT first, last, file FROM archives ORDER BY first", func(scan func(...any)) {
		var first, last int64
		var file string
		scan(&first, &last, &file)
		b.archives++
		b.archived = last
		if last >= next {
			b.readArchive(t, filepath.Join(folder, file), first, last, next, link)
		}
	})
	each(t, tx, fmt.Sprintf("SELECT seq, hash, body FROM audit WHERE seq >= %d ORDER BY seq", next), func(scan func(...any)) {
		var seq int64
		var stored, body []byte
		scan(&seq, &stored, &body)
		link(seq, stored, body)
	})
	if int64(known) >= next {
		b.problem("record %d is missing: the chain ended at %d and has %d now", next, known, next-1)
	}
}

// readArchive reads the records of a file from one of them on: lines of text, as any gzip unpacks them.
func (b *books) readArchive(t testing.TB, name string, first, last, from int64, link func(seq int64, stored, body []byte)) {
	t.Helper()
	file, err := os.Open(name)
	if err != nil {
		b.problem("the records %d to %d have left the store: %v", first, last, err)
		return
	}
	defer file.Close()
	unpacked, err := gzip.NewReader(file)
	if err != nil {
		b.problem("%s: %v", name, err)
		return
	}
	seq := first
	in := bufio.NewScanner(unpacked)
	in.Buffer(nil, 1<<24)
	for in.Scan() {
		var line struct {
			Hash   string
			Record json.RawMessage
		}
		if err := json.Unmarshal(in.Bytes(), &line); err != nil {
			b.problem("%s: %v", name, err)
			return
		}
		if line.Record == nil {
			continue // a head, or the file's own first and last line
		}
		if seq >= from {
			stored, _ := hex.DecodeString(line.Hash)
			link(seq, stored, line.Record)
		}
		seq++
	}
	if err := in.Err(); err != nil || seq != last+1 {
		b.problem("%s ends at record %d, not %d: %v", name, seq-1, last, err)
	}
}

func (b *books) readReservations(t testing.TB, tx *sql.Tx) {
	t.Helper()
	before := b.reservations
	b.reservations = make(map[int64]*reservation, len(before))
	each(t, tx, "SELECT id, key, state, fixed, moving FROM reservations", func(scan func(...any)) {
		var fixed, moving []byte
		r := &reservation{}
		scan(&r.id, &r.key, &r.state, &fixed, &moving)
		if old := before[r.id]; old != nil && old.state == r.state && old.key == r.key && old.raw == string(moving) {
			b.reservations[r.id] = old
			return
		}
		r.raw = string(moving)
		if err := json.Unmarshal(fixed, &r.fixed); err != nil {
			b.problem("reservation %d cannot be read: %v", r.id, err)
		} else if err := json.Unmarshal(r.fixed.Sent, &r.sent); err != nil {
			b.problem("what reservation %d sent cannot be read: %v", r.id, err)
		}
		if err := json.Unmarshal(moving, &r.moving); err != nil {
			b.problem("reservation %d cannot be read: %v", r.id, err)
		}
		b.reservations[r.id] = r
	})
}

func (b *books) problem(format string, args ...any) {
	b.problems = append(b.problems, fmt.Sprintf(format, args...))
}

// record is a record by its number; nil if there is none.
func (b *books) record(seq int64) *record {
	if seq < 1 || seq > int64(len(b.records)) {
		return nil
	}
	return &b.records[seq-1]
}

// each runs a query and lets f scan every row.
func each(t testing.TB, tx *sql.Tx, query string, f func(scan func(...any))) {
	t.Helper()
	rows, err := tx.Query(query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		f(func(to ...any) {
			if err := rows.Scan(to...); err != nil {
				t.Fatal(err)
			}
		})
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
}
