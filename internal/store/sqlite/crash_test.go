package sqlite_test

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/sqlite"
	"github.com/keybrake/keybrake/internal/store/storetest"
)

const (
	// crashStore makes the test binary the process that is killed: it serves the store of this path.
	crashStore = "KEYBRAKE_CRASH_STORE"
	// crashRounds is how many times it is killed; a longer run sets it.
	crashRounds = "KEYBRAKE_CRASH_ROUNDS"
	// crashWriters admit and settle at the same time.
	crashWriters = 32
)

// crashCaps are what the killed process lives under: a dollar cap that it fills, a count of calls that it never does.
var crashCaps = []policy.Cap{
	{Resource: "refunds", Per: policy.PerTotal, Unit: policy.UnitUSD, Limit: 800 * 1_000_000},
	{Resource: policy.AllResources, Per: policy.PerTotal, Unit: policy.UnitCalls, Limit: 1 << 40},
}

func TestMain(m *testing.M) {
	if path := os.Getenv(crashStore); path != "" {
		if err := serveUntilKilled(path, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// serveUntilKilled admits and settles for ever. It prints a line for everything that was acknowledged: "a" with
// reservation and record of an admission, "r" with those of a settlement, "d" with the record of a denial.
// A line is one write, so that a kill cannot cut it from what it acknowledges.
func serveUntilKilled(path string, out io.Writer) error {
	ctx := context.Background()
	db, err := sqlite.Open(ctx, sqlite.Options{Path: path, Signer: storetest.NewSigner("crash")})
	if err != nil {
		return err
	}
	var version int64
	err = db.Update(ctx, store.LaneControl, func(tx store.Tx) error {
		version, err = tx.PutKey(store.KeyRow{ID: "key_1", Name: "n", Upstream: "up_1", Live: true, Digest: "d", Policy: []byte("p"), Doc: []byte("{}")})
		return err
	})
	if err != nil {
		return err
	}
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(out, format+"\n", args...)
	}
	failed := make(chan error, crashWriters)
	say("ready")
	for range crashWriters {
		go func() {
			for i := 0; ; i++ {
				if err := crashCall(ctx, db, version, i, say); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	return <-failed
}

// crashCall is one call: settled, released, left unknown, or never answered at all.
func crashCall(ctx context.Context, db store.DB, version int64, i int, say func(string, ...any)) error {
	a := storetest.Admission("key_1", version, crashCaps, storetest.USD("refunds", 100))
	a.AllowRepeat = true
	got, err := db.Admit(ctx, a)
	if err != nil {
		return err
	}
	if got.Verdict != policy.Allow {
		say("d 0 %d", got.Entry.Seq)
		return nil
	}
	say("a %d %d", got.Reservation.ID, got.Entry.Seq)
	r := storetest.Settle(got.Reservation)
	switch i % 4 {
	case 1, 2:
		r.Fate = ledger.Fate{State: ledger.Released, Proof: ledger.ProofRefused}
	case 3:
		if i%64 == 3 {
			return nil // the answer never came
		}
	}
	done, err := db.Resolve(ctx, r)
	if err != nil {
		return err
	}
	say("r %d %d", got.Reservation.ID, done.Entry.Seq)
	return nil
}

// TestWhatWasAcknowledgedSurvivesAKill kills a process that serves one store, again and again, at moments that
// nobody chooses, and holds what it acknowledged against what is there.
func TestWhatWasAcknowledgedSurvivesAKill(t *testing.T) {
	rounds := 5
	if n, err := strconv.Atoi(os.Getenv(crashRounds)); err == nil {
		rounds = n
	}
	path := filepath.Join(t.TempDir(), "keybrake.db")
	seen := &acknowledged{admitted: make(map[ledger.ReservationID]int64), resolved: make(map[ledger.ReservationID]int64)}
	for round := range rounds {
		killOnce(t, path, seen)
		if t.Failed() {
			t.Fatalf("in round %d", round+1)
		}
		seen.check(t, path)
	}
	if len(seen.admitted) == 0 || len(seen.resolved) == 0 {
		t.Errorf("nothing was acknowledged before the kills: %d, %d", len(seen.admitted), len(seen.resolved))
	}
	t.Logf("%d rounds: %d admissions, %d settlements, last record %d", rounds, len(seen.admitted), len(seen.resolved), seen.last)
}

// acknowledged is what a process said before it was killed.
type acknowledged struct {
	admitted, resolved map[ledger.ReservationID]int64
	last               int64 // the highest record
}

func killOnce(t *testing.T, path string, seen *acknowledged) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), crashStore+"="+path)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := 0
	limit := 1 + rand.IntN(2000) // counted, not timed: a slow machine is killed as deep in its work
	var moment time.Duration     // and not at the instant of an acknowledgement only
	for in := bufio.NewScanner(pipe); in.Scan(); lines++ {
		if lines == limit {
			moment = time.Duration(rand.IntN(10_000)) * time.Microsecond
			time.AfterFunc(moment, func() { _ = cmd.Process.Kill() })
		}
		seen.add(t, in.Text())
	}
	_ = cmd.Wait()
	if lines < limit {
		t.Errorf("the process ended by itself after %d lines: %s", lines, complaint.String())
	}
}

func (s *acknowledged) add(t *testing.T, line string) {
	t.Helper()
	if line == "ready" {
		return
	}
	var kind string
	var id ledger.ReservationID
	var seq int64
	if n, err := fmt.Sscanf(line, "%s %d %d", &kind, &id, &seq); n != 3 {
		t.Fatalf("line %q: %v", line, err)
	}
	s.last = max(s.last, seq)
	switch kind {
	case "a":
		s.admitted[id] = seq
	case "r":
		s.resolved[id] = seq
	}
}

// check opens the store as the next process would.
func (s *acknowledged) check(t *testing.T, path string) {
	t.Helper()
	db, err := sqlite.Open(t.Context(), sqlite.Options{Path: path, Signer: storetest.NewSigner("crash")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		integrity(t, path)
	}()
	var rs []*ledger.Reservation
	records := make(map[int64]*audit.Record)
	err = db.View(t.Context(), func(tx store.Tx) error {
		if err := tx.ReservationsSince("key_1", time.Time{}, func(r *ledger.Reservation) error {
			rs = append(rs, r)
			return nil
		}); err != nil {
			return err
		}
		chain := audit.NewChain(audit.FirstChain)
		return tx.EachRecord(1, func(e audit.Entry) error {
			if e.Seq != chain.Seq+1 || audit.Link(chain.Hash, e.Bytes) != e.Hash {
				t.Fatalf("the chain breaks at record %d", e.Seq)
			}
			chain.Seq, chain.Hash = e.Seq, e.Hash
			r, err := audit.Decode(e.Bytes)
			records[e.Seq] = r
			return err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if records[s.last] == nil {
		t.Errorf("record %d was acknowledged and is not there", s.last)
	}
	s.checkReservations(t, rs, records)
	for k, want := range ledger.Recount(crashCaps, time.UTC, rs) {
		got, err := db.Peek(t.Context(), []ledger.AccountKey{k})
		if err != nil || got[0] != want {
			t.Errorf("account %v is %+v, its reservations add up to %+v (%v)", k, got, want, err)
		}
		if limit := crashCaps[0].Limit; k.Unit == policy.UnitUSD && want.Held+want.Settled > limit {
			t.Errorf("%+v under a cap of %d", want, limit)
		}
	}
}

func (s *acknowledged) checkReservations(t *testing.T, rs []*ledger.Reservation, records map[int64]*audit.Record) {
	t.Helper()
	there := make(map[ledger.ReservationID]*ledger.Reservation, len(rs))
	for _, r := range rs {
		there[r.ID] = r
		if rec := records[r.AuditSeq]; rec == nil || rec.Reservation != int64(r.ID) {
			t.Errorf("reservation %d has no record at %d", r.ID, r.AuditSeq)
		}
		if r.State == ledger.Reserved {
			t.Errorf("reservation %d is still on the wire of a dead process", r.ID)
		}
	}
	for id, seq := range s.admitted {
		if r := there[id]; r == nil || r.AuditSeq != seq {
			t.Errorf("reservation %d (record %d) was acknowledged; there is %+v", id, seq, r)
		}
	}
	for id, seq := range s.resolved {
		if r := there[id]; r == nil || r.State.Open() || records[seq] == nil || records[seq].Reservation != int64(id) {
			t.Errorf("the end of reservation %d (record %d) was acknowledged; there is %+v", id, seq, r)
		}
	}
}

func integrity(t *testing.T, path string) {
	t.Helper()
	raw, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	var found string
	if err := raw.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&found); err != nil || found != "ok" {
		t.Errorf("%s %v", found, err)
	}
}
