package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store/sqlite"
	"github.com/keybrake/keybrake/internal/vault"
)

// TestRecordsThatMoveAreNeitherLostNorDoubledHoweverOftenTheProgramIsKilled kills the program under load while it moves old
// records into archive files, until all of them have left, and begins anew with other old records. After every restart the
// auditor reads the record from its first entry, in the files and then in the store.
func TestRecordsThatMoveAreNeitherLostNorDoubledHoweverOftenTheProgramIsKilled(t *testing.T) {
	rounds, seed := max(1, int(numberFrom(roundsVariable, 10))/5), numberFrom(seedVariable, rand.Uint64())
	t.Logf("%s=%d", seedVariable, seed)
	most := int64(12_000) // records take longer to move than the program mostly lives
	if rounds < 10 {
		most = 4500
	}
	const (
		mostKills = 20   // of one world
		fewest    = 1024 // that are worth a file: what a file cut short has left may wait for more
	)
	began := time.Now()
	kills, worlds, moved, amid := 0, 0, int64(0), 0
	for kills < rounds {
		w := emptyWorld(t, t.TempDir())
		w.flags = []string{"--audit-keep", "1d"}
		old := w.fillOld(most/4 + rand.New(rand.NewPCG(seed, uint64(worlds))).Int64N(most))
		w.sandbox()
		w.start()
		w.addUpstream(w.box)
		s := newSeason(w, seed+uint64(worlds))
		for w.books.archived <= old-fewest && w.kills < mostKills { // on a busy machine it may die too soon each time
			s.round()
			if t.Failed() {
				t.Fatalf("world %d, after kill %d, %s=%d", worlds, w.kills, seedVariable, seed)
			}
			if w.books.archived <= old-fewest {
				amid++ // it was killed before all had moved
			}
		}
		for tries := 0; w.books.archived <= old-fewest; tries++ { // now it lives
			if tries > 100 {
				t.Fatalf("%d of %d records have moved, and no more do:\n%s", w.books.archived, old, &w.gateway.out)
			}
			time.Sleep(200 * time.Millisecond)
			if w.agree(); t.Failed() {
				t.FailNow()
			}
		}
		s.last()
		w.gateway.kill()
		w.withoutArchives()
		kills, worlds, moved = kills+w.kills, worlds+1, moved+w.books.archived
	}
	t.Logf("%d kills in %d worlds, %d of them before all old records had moved; %d records moved, %s", kills, worlds, amid, moved, time.Since(began).Round(time.Second))
}

// withoutArchives takes the files away and looks whether the auditor notices.
func (w *world) withoutArchives() {
	w.t.Helper()
	if err := os.RemoveAll(w.store() + ".archive"); err != nil {
		w.t.Fatal(err)
	}
	tx, end := w.snapshot()
	defer end()
	if w.books.read(w.t, tx, w.archive(), true); !strings.Contains(strings.Join(w.books.problems, " "), "have left the store") {
		w.t.Errorf("nothing is said of files that are gone: %q", w.books.problems)
	}
}

// fillOld makes a store with so many records of a month ago, of calls that were refused, and returns the last one's number.
func (w *world) fillOld(n int64) int64 {
	w.t.Helper()
	ctx := context.Background()
	master, _, err := vault.LoadOrCreateMaster(w.store() + ".key")
	if err != nil {
		w.t.Fatal(err)
	}
	begin := time.Now().AddDate(0, -1, 0)
	db, err := sqlite.Open(ctx, sqlite.Options{Path: w.store(), Signer: master, MasterCheck: master.CheckValue(), Clock: func() time.Time { return begin }})
	if err != nil {
		w.t.Fatal(err)
	}
	for written := int64(0); written < n && err == nil; {
		var some []*audit.Record
		for ; len(some) < 500 && written < n; written++ {
			some = append(some, &audit.Record{
				Kind: audit.KindDenied, Verdict: "deny", Key: "key_before", Operation: "refunds.create", RunID: fmt.Sprintf("run-%d", written), From: "10.0.0.7",
			})
		}
		_, err = db.Log(ctx, some...)
	}
	if err := errors.Join(err, db.IndexNow(), db.SignHead(ctx), db.Close()); err != nil {
		w.t.Fatal(err)
	}
	return n
}
