// Package postgres is the engine for more than one machine: any number of gateways on one PostgreSQL, group commit on
// each of them.
//
// There is one order. Whoever writes locks the one row of the table books first, reads what it decides by with later
// statements, writes, moves that row on and commits. So there is one chain of records for all nodes, and a stop, a lowered
// cap and an admission can never pass each other. What makes that fast is that a node's callers share a transaction, and
// that a transaction takes two round trips.
package postgres

import (
	"context"
	"embed"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keybrake/keybrake/internal/audit"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Options opens a store.
type Options struct {
	// URL is the connection string, "postgres://user@host/database?..." or key=value pairs. Several hosts may be named;
	// the one that takes writes is found.
	URL string
	// Clock gives the time in place of the server's; nil = the server's.
	Clock func() time.Time
	// Signer signs chain heads. Required.
	Signer audit.Signer
	// MasterCheck is a value derived from the master key: a store that was made under another one is refused, because
	// nothing in it could be opened.
	MasterCheck string
	// Archives is the folder of the archive files, the same one on all nodes. It is made when the first one is written.
	Archives string
	// ArchiveRecords is the most records in one of them; 0 = the default. Less is for tests.
	ArchiveRecords int64
}

// DB is the engine. It implements store.DB.
type DB struct {
	// archives is the folder of the archive files, and perArchive the most records in one of them.
	archives   string
	perArchive int64

	signer audit.Signer
	wait   time.Duration // how long work waits for its turn before it is withdrawn
	// views are the connections that operators read on.
	views *pgxpool.Pool

	archiving sync.Mutex // held while records are moved into a file
}

// Now implements store.DB.
func (db *DB) Now() time.Time { return time.Now() }

var _ = context.Background
