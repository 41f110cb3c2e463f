package postgres_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/postgres"
	"github.com/keybrake/keybrake/internal/store/postgres/postgrestest"
	"github.com/keybrake/keybrake/internal/store/storetest"
)

func TestContract(t *testing.T) {
	storetest.Run(t, func(t testing.TB) storetest.Open {
		url, dir := postgrestest.Database(t), t.TempDir()
		return func(t testing.TB, clock func() time.Time) store.DB {
			db, err := postgres.Open(t.Context(), postgres.Options{
				URL: url, Clock: clock, Signer: storetest.NewSigner("test"), ArchiveRecords: storetest.ArchiveRecords,
				Archives: filepath.Join(dir, "archive"), Mark: filepath.Join(dir, "mark"),
			})
			if err != nil {
				t.Fatal(err)
			}
			return db
		}
	})
}
