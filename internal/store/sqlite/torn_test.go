package sqlite_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"hash"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/sqlite"
)

// tornRuns is how many places are damaged in each way: KEYBRAKE_TORN=2000 for the long form (make crash).
func tornRuns(t *testing.T) int {
	text := os.Getenv("KEYBRAKE_TORN")
	if text == "" {
		return 20
	}
	n, err := strconv.Atoi(text)
	must(t, err)
	return n
}

// served is a store as a power cut leaves it: copied while it is served and everything in it is acknowledged.
func served(t *testing.T) closedStore {
	t.Helper()
	s := newClosedStore(t)
	var copied closedStore
	s.serve(func(db *sqlite.DB) {
		for i := range 30 {
			s.call(db, 1, fmt.Sprint("re_b", i))
		}
		must(t, db.SignHead(t.Context()))
		// The writer stands still meanwhile. Or the log may begin anew between one file's copy and the next one's, as no power
		// cut would leave them: with the database from before, and the log from after it was copied there.
		must(t, db.Update(t.Context(), store.LaneControl, func(store.Tx) error {
			copied = s.copyTo(t.TempDir(), "", "-wal", ".mark")
			return nil
		}))
	})
	return copied
}

// TestWhatWasNotFlushedCanBeLost: behind the last flush the log may hold half of anything. Whatever that is, everything
// that was acknowledged is there, and nobody is alarmed.
func TestWhatWasNotFlushedCanBeLost(t *testing.T) {
	s := served(t)
	want, err := dump(s.path)
	must(t, err)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range tornRuns(t) {
		c := s.copyTo(t.TempDir(), "", "-wal", ".mark")
		log, err := os.OpenFile(c.path+"-wal", os.O_APPEND|os.O_WRONLY, 0)
		must(t, err)
		torn := make([]byte, r.IntN(3*4120))
		for j := range torn {
			torn[j] = byte(r.UintN(256))
		}
		if i%3 == 0 { // a frame of this very log that was written before, half of it
			whole, err := os.ReadFile(s.path + "-wal")
			must(t, err)
			torn = whole[len(whole)-4120:][:r.IntN(4120)]
		}
		_, err = log.Write(torn)
		must(t, err)
		must(t, log.Close())
		if got, err := dump(c.path); err != nil || got != want {
			t.Fatalf("run %d, %d bytes behind the log: the rows are others (%v)", i, len(torn), err)
		}
		if why, err := c.frozen(); why != "" || err != nil {
			t.Fatalf("run %d, %d bytes behind the log: %q %v", i, len(torn), why, err)
		}
	}
}

// TestWhatWasFlushedIsNeverLostSilently cuts and flips bytes that were acknowledged, in every file: a start refuses, or
// freezes all money, or finds every row as it was.
func TestWhatWasFlushedIsNeverLostSilently(t *testing.T) {
	s := served(t)
	stopped := newClosedStore(t) // all of it in the database, no log
	for _, c := range []struct {
		name, file string
		store      closedStore
		damage     func(r *rand.Rand, b []byte) []byte
	}{
		{"a byte of the database", "", stopped, flipByte},
		{"a bit of the database", "", stopped, flipBit},
		{"the end of the database", "", stopped, cutEnd},
		{"a sector of the database", "", stopped, zeroSector},
		{"a byte of the log", "-wal", s, flipByte},
		{"a bit of the log", "-wal", s, flipBit},
		{"the end of the log", "-wal", s, cutEnd},
		{"a sector of the log", "-wal", s, zeroSector},
		{"a byte of the mark", ".mark", s, flipByte},
		{"the end of the mark", ".mark", s, cutEnd},
	} {
		t.Run(c.name, func(t *testing.T) {
			want, err := dump(c.store.path)
			must(t, err)
			r := rand.New(rand.NewPCG(3, uint64(len(c.name))))
			var refused, frozen, same int
			for i := range tornRuns(t) {
				d := c.store.copyTo(t.TempDir(), "", "-wal", ".mark")
				b, err := os.ReadFile(d.path + c.file)
				must(t, err)
				must(t, os.WriteFile(d.path+c.file, c.damage(r, b), 0o600))
				got, readErr := dump(d.path)
				why, err := d.frozen()
				switch {
				case err != nil:
					refused++
					if !strings.Contains(err.Error(), "open store") {
						t.Errorf("run %d: %v", i, err)
					}
				case why != "":
					frozen++
				case readErr != nil || got != want:
					t.Fatalf("run %d: it starts as if nothing had happened, with other rows (%v)\n%s\n%s", i, readErr, want, got)
				default:
					same++
				}
			}
			t.Logf("%d refused, %d frozen, %d changed nothing", refused, frozen, same)
		})
	}
}

func flipByte(r *rand.Rand, b []byte) []byte {
	b[r.IntN(len(b))] ^= byte(1 + r.UintN(255))
	return b
}

func flipBit(r *rand.Rand, b []byte) []byte {
	b[r.IntN(len(b))] ^= 1 << r.UintN(8)
	return b
}

func cutEnd(r *rand.Rand, b []byte) []byte { return b[:r.IntN(len(b))] }

func zeroSector(r *rand.Rand, b []byte) []byte {
	at := r.IntN(len(b)/512) * 512
	clear(b[at : at+512])
	return b
}

// dump digests every row of a store as a reader sees it. Left out is what is made anew: the search index, and signed
// heads, of which a store that lost the newest signs another within a second.
func dump(path string) (string, error) {
	// A reader of its own would change the log's index; it reads a copy.
	folder, err := os.MkdirTemp("", "dump-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(folder)
	at := filepath.Join(folder, "copy.db")
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(path + suffix)
		if os.IsNotExist(err) {
			continue
		}
		if err = errors.Join(err, os.WriteFile(at+suffix, b, 0o600)); err != nil {
			return "", err
		}
	}
	db, err := sql.Open("sqlite", "file:"+at)
	if err != nil {
		return "", err
	}
	defer db.Close()
	var tables strings.Builder
	for _, table := range []string{"meta", "upstreams", "policies", "keys", "operators", "tokens", "brakes", "rates", "accounts", "objects", "reservations", "audit"} {
		h := sha256.New()
		if err := digest(h, db, table); err != nil {
			return "", fmt.Errorf("%s: %w", table, err)
		}
		fmt.Fprintf(&tables, "%s %x\n", table, h.Sum(nil)[:8])
	}
	return tables.String(), nil
}

func digest(h hash.Hash, db *sql.DB, table string) error {
	rows, err := db.QueryContext(context.Background(), "SELECT * FROM "+table+" ORDER BY 1, 2")
	if err != nil {
		return err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return err
	}
	values, at := make([]any, len(names)), make([]any, len(names))
	for i := range values {
		at[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(at...); err != nil {
			return err
		}
		for i, v := range values {
			if b, ok := v.([]byte); ok {
				values[i] = string(b) // the same bytes under the other type are the same to whoever scans them
			}
		}
		fmt.Fprintf(h, "%s %q\n", table, fmt.Sprint(values...))
	}
	return rows.Err()
}

// TestADamageThatAppearsLaterIsFound: the store is large, so a start does not read all of it; what goes on beside does.
func TestADamageThatAppearsLaterIsFound(t *testing.T) {
	s := newClosedStore(t)
	s.serve(func(db *sqlite.DB) {
		must(t, db.ReadAll())
		must(t, db.Behind(`UPDATE audit SET body = replace(CAST(body AS TEXT), 'refunds', 'refundz') WHERE seq = 9`))
		if err := db.ReadAll(); err == nil || !strings.Contains(err.Error(), "record 9") {
			t.Errorf("%v", err)
		}
	})
}
