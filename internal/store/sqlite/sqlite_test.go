package sqlite_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/sqlite"
	"github.com/keybrake/keybrake/internal/store/storetest"
)

func TestContract(t *testing.T) {
	storetest.Run(t, func(t testing.TB) storetest.Open {
		path := filepath.Join(t.TempDir(), "keybrake.db")
		return func(t testing.TB, clock func() time.Time) store.DB {
			db, err := sqlite.Open(t.Context(), sqlite.Options{
				Path: path, Clock: clock, Signer: storetest.NewSigner("test"), ArchiveRecords: storetest.ArchiveRecords,
				Wait: time.Minute, // no part of the contract says how fast the machine is
			})
			if err != nil {
				t.Fatal(err)
			}
			return db
		}
	})
}

func TestOpenRefusesWhatItCannotServe(t *testing.T) {
	signer := storetest.NewSigner("test")
	for name, c := range map[string]struct {
		prepare func(t *testing.T, path string)
		options sqlite.Options
		want    string
	}{
		"a store made under another master key": {
			prepare: func(t *testing.T, path string) {
				db, err := sqlite.Open(t.Context(), sqlite.Options{Path: path, Signer: signer, MasterCheck: "one"})
				if err != nil {
					t.Fatal(err)
				}
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
			},
			options: sqlite.Options{MasterCheck: "two"}, want: "--master-key-file",
		},
		"a store that is being served": {
			prepare: func(t *testing.T, path string) { open(t, sqlite.Options{Path: path}) }, want: "another process",
		},
		"a file that is no database": {
			prepare: func(t *testing.T, path string) { write(t, path, strings.Repeat("not a database ", 1000)) }, want: "cannot be read",
		},
		"a database of another program": {
			prepare: func(t *testing.T, path string) {
				db := open(t, sqlite.Options{Path: path})
				if err := db.SetApplicationID(1); err != nil {
					t.Fatal(err)
				}
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
			}, want: "not a Keybrake store",
		},
		"a store from a newer version": {
			prepare: func(t *testing.T, path string) {
				db := open(t, sqlite.Options{Path: path})
				if err := db.SetSchemaVersion(9999); err != nil {
					t.Fatal(err)
				}
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
			}, want: "run the newer program",
		},
		"a folder": {
			prepare: func(t *testing.T, path string) {
				if err := os.Mkdir(path, 0o700); err != nil {
					t.Fatal(err)
				}
			}, want: "folder",
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keybrake.db")
			c.prepare(t, path)
			c.options.Path, c.options.Signer = path, signer
			db, err := sqlite.Open(t.Context(), c.options)
			if err == nil {
				_ = db.Close()
				t.Fatal("it opened")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v\nwant it to say %q", err, c.want)
			}
		})
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
