package sqlite_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store/sqlite"
	"github.com/keybrake/keybrake/internal/store/storetest"
)

// TestAFirstStartThatWasCutShortCanBeRepeated: the process died after the file was made and before anything
// was in it.
func TestAFirstStartThatWasCutShortCanBeRepeated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keybrake.db")
	raw, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := raw.ExecContext(t.Context(), "PRAGMA journal_mode = WAL"); err != nil {
		t.Fatal(err)
	}
	if err := raw.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		t.Fatalf("the file is empty, which is another case (%v)", err)
	}
	open(t, sqlite.Options{Path: path})
}

// TestAStoreWithADamagedPageIsRefused: a page that no start would read on its own.
func TestAStoreWithADamagedPageIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keybrake.db")
	o := sqlite.Options{Path: path, Signer: storetest.NewSigner("test")}
	db, err := sqlite.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if _, err := db.Log(t.Context(), &audit.Record{Kind: audit.KindSystem, Action: strings.Repeat("x", 200)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	var page, size int64
	if err := raw.QueryRowContext(t.Context(), "SELECT rootpage FROM sqlite_schema WHERE name = 'objects'").Scan(&page); err != nil {
		t.Fatal(err)
	}
	if err := raw.QueryRowContext(t.Context(), "PRAGMA page_size").Scan(&size); err != nil {
		t.Fatal(err)
	}
	if err := raw.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(strings.Repeat("?", int(size))), (page-1)*size); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if db, err := sqlite.Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "damaged") {
		if db != nil {
			_ = db.Close()
		}
		t.Errorf("%v", err)
	}
}

// TestADamagedRecordFreezesTheBooks changes the records that a start reads: money must not be built upon a damaged end of
// the chain.
func TestADamagedRecordFreezesTheBooks(t *testing.T) {
	for name, damage := range map[string]string{
		"a record was changed": `UPDATE audit SET body = replace(CAST(body AS TEXT), 'second', 'changed') WHERE seq = 2`,
		"a record is missing":  `DELETE FROM audit WHERE seq = 2`,
		"a hash was changed":   `UPDATE audit SET hash = zeroblob(32) WHERE seq = 3`,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keybrake.db")
			o := sqlite.Options{Path: path, Signer: storetest.NewSigner("test")}
			db, err := sqlite.Open(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			for _, action := range []string{"first", "second", "third"} {
				if _, err := db.Log(t.Context(), &audit.Record{Kind: audit.KindSystem, Action: action}); err != nil {
					t.Fatal(err)
				}
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			raw, err := sql.Open("sqlite", path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := raw.ExecContext(t.Context(), damage); err != nil {
				t.Fatal(err)
			}
			if err := raw.Close(); err != nil {
				t.Fatal(err)
			}
			if db, err = sqlite.Open(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			if err := db.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "money is frozen: record") {
				t.Errorf("%v", err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}
