package postgres_test

import (
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/postgres"
	"github.com/keybrake/keybrake/internal/store/postgres/postgrestest"
	"github.com/keybrake/keybrake/internal/store/storetest"
)

func TestOpenRefusesWhatItCannotServe(t *testing.T) {
	prepared := func(sql string) func(t *testing.T) string {
		return func(t *testing.T) string {
			url := postgrestest.Database(t)
			must(t, opened(t, postgres.Options{URL: url, MasterCheck: "one"}).Close())
			if sql != "" {
				exec(t, url, sql)
			}
			return url
		}
	}
	server := func(settings ...string) func(t *testing.T) string {
		return func(t *testing.T) string { return postgrestest.Start(t, settings...).URL("postgres") }
	}
	for name, c := range map[string]struct {
		url  func(t *testing.T) string
		o    postgres.Options
		want string
	}{
		"a store made under another master key":       {prepared(""), postgres.Options{MasterCheck: "two"}, "--master-key-file"},
		"a store that only newer programs understand": {prepared(`UPDATE meta SET value = '9999' WHERE name = 'compatible'; INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, true)`), postgres.Options{MasterCheck: "one"}, "run the newer program"},
		"a server that does not flush":                {server("fsync=off"), postgres.Options{}, "fsync is off"},
		"a server whose pages can tear":               {server("full_page_writes=off"), postgres.Options{}, "full_page_writes is off"},
		"a standby": {func(t *testing.T) string {
			s := postgrestest.Start(t)
			s.Stop()
			s.MakeStandby(t)
			s.Restart(t)
			return s.URL("postgres")
		}, postgres.Options{}, "standby"},
		"a server that is not there":   {func(*testing.T) string { return "postgres://nobody@127.0.0.1:1/nothing" }, postgres.Options{}, "connect"},
		"what is no connection string": {func(*testing.T) string { return "postgres://user:secret@host:port/" }, postgres.Options{}, "postgres://user@host:5432/database"},
	} {
		t.Run(name, func(t *testing.T) {
			c.o.URL, c.o.Signer = c.url(t), storetest.NewSigner("test")
			db, err := postgres.Open(t.Context(), c.o)
			if err == nil {
				_ = db.Close()
				t.Fatal("it opened")
			}
			if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%v\nwant it to say %q", err, c.want)
			}
		})
	}
}

func TestItSaysWhetherTheStoreCanForget(t *testing.T) {
	for name, c := range map[string]struct {
		settings []string
		o        postgres.Options
		want     store.Safety
	}{
		"one machine":         {nil, postgres.Options{}, store.Safety{Why: "no synchronous standby"}},
		"commits not awaited": {[]string{"synchronous_commit=off"}, postgres.Options{}, store.Safety{Why: "no synchronous standby"}}, // ours are
		"nothing is flushed":  {[]string{"fsync=off"}, postgres.Options{AllowUnsafe: true}, store.Safety{Why: "fsync"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := postgrestest.Start(t, c.settings...)
			c.o.URL = s.URL("postgres")
			got := node(t, c.o).Safety()
			if got.Remembers != c.want.Remembers || !strings.Contains(got.Why, c.want.Why) {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

func TestACommitIsAwaitedWhateverTheServersDefaultIs(t *testing.T) {
	s := postgrestest.Start(t, "synchronous_commit=off")
	if got := node(t, postgres.Options{URL: s.URL("postgres")}).SynchronousCommit(t); got != "on" {
		t.Errorf("synchronous_commit is %s on the connection that writes", got)
	}
}
