package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/keybrake/keybrake/internal/store/move"
	"github.com/keybrake/keybrake/internal/store/postgres"
	"github.com/keybrake/keybrake/internal/store/sqlite"
	"github.com/keybrake/keybrake/internal/vault"
)

func newStoreCommand(s streams) *cobra.Command {
	return group("store", "The store itself", newStoreMigrate(s))
}

// migrated is what a move answers.
type migrated struct {
	From string `json:"from"`
	To   string `json:"to"`
	// Archives is the folder of the archive files, which the command does not move; empty: there are none.
	Archives string `json:"archives,omitempty"`
	*move.Proof
}

func newStoreMigrate(s streams) *cobra.Command {
	o := defaultSettings()
	var config, to string
	var unsafe bool
	cmd := &cobra.Command{
		Use:   "migrate --to postgres://USER@HOST/DATABASE",
		Short: "Move an SQLite store to PostgreSQL, and prove that it arrived",
		Long: "Moves everything in the store into an empty PostgreSQL database, in one transaction: until the end nobody sees any of\n" +
			"it, and after an error there is nothing of it. Before it commits it reads back what it wrote: every row of every table,\n" +
			"every running total worked out again from the reservations, the whole record from its first entry to its last with its\n" +
			"signatures. Stop the server first. The password comes from PGPASSWORD or ~/.pgpass.\n\n" +
			"Money in the old store is frozen then, so that a server that is started on it by mistake moves none. The master key and\n" +
			"the archive files stay where they are: docs/operating.md#postgresql says where every node needs them.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if to == "" {
				return usageError{errors.New("say where to with --to postgres://USER@HOST/DATABASE")}
			}
			if err := o.load(cmd.Flags(), firstOf(config, os.Getenv("KEYBRAKE_CONFIG")), os.Getenv); err != nil {
				return usageError{err}
			}
			done, err := migrate(cmd.Context(), &o, postgres.Options{URL: to, AllowUnsafe: unsafe})
			if err != nil {
				return err
			}
			return s.print(*outputOf(cmd), done, func(w io.Writer) { done.tell(w) })
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "the database to move to, postgres://USER@HOST/DATABASE")
	cmd.Flags().BoolVar(&unsafe, "store-unsafe", false, "move to a PostgreSQL that can forget what it has acknowledged")
	cmd.Flags().StringVar(&o.Store, "store", o.Store, "the store to move, sqlite:FILE")
	cmd.Flags().StringVar(&o.MasterKeyFile, "master-key-file", o.MasterKeyFile, "file of the master key (default: the store's file + .key)")
	cmd.Flags().StringVar(&o.AuditArchive, "audit-archive", o.AuditArchive, "folder of the archive files (default: the store's file + .archive)")
	cmd.Flags().StringVar(&config, "config", "", "config file (YAML)")
	outputFlag(cmd)
	return cmd
}

// migrate moves a store and freezes the old one.
func migrate(ctx context.Context, from *settings, to postgres.Options) (_ *migrated, err error) {
	path, err := from.storePath()
	if err != nil {
		return nil, err
	}
	if !exists(path) {
		return nil, fmt.Errorf("there is no store %s", path)
	}
	done := &migrated{From: path}
	if done.To, err = postgres.Place(to.URL); err != nil {
		return nil, usageError{err}
	}
	key := firstOf(from.MasterKeyFile, path+".key")
	if !exists(key) {
		return nil, fmt.Errorf("the master key file %s is not there; name the right one with --master-key-file", key)
	}
	master, _, err := vault.LoadOrCreateMaster(key)
	if err != nil {
		return nil, err
	}
	old, err := sqlite.Open(ctx, sqlite.Options{Path: path, Signer: master, MasterCheck: master.CheckValue(), Archives: from.AuditArchive})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, old.Close()) }()
	if err := old.SignHead(ctx); err != nil {
		return nil, err
	}
	to.Signer, to.Archives = master, old.Archives()
	err = old.Moving(ctx, func(source move.Source) (err error) {
		done.Proof, err = postgres.Fill(ctx, to, path, source)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("move the store to %s: %w; nothing was moved", done.To, err)
	}
	for _, t := range done.Tables {
		if t.Table == "archives" && t.To > 0 {
			done.Archives = old.Archives()
		}
	}
	if err := old.FreezeBooks(context.WithoutCancel(ctx), "the store was moved to "+done.To); err != nil {
		return nil, fmt.Errorf("the store is in %s now, and the old one could not be frozen: %w; do not start a server on it", done.To, err)
	}
	return done, nil
}

func (m *migrated) tell(w io.Writer) {
	var rows [][]string
	for _, t := range m.Tables {
		rows = append(rows, []string{t.Table, strconv.FormatInt(t.From, 10), strconv.FormatInt(t.To, 10), t.Digest[:16]})
	}
	table(w, "TABLE ROWS COPIED SHA256", rows)
	fmt.Fprintf(w, "\nbalances: %d accounts are what their reservations add up to; %d open reservations hold what the accounts say (%d)\n", m.Accounts, m.Open, m.Held)
	fmt.Fprintf(w, "chain: the records %d to %d verify, %d of them; the last one's hash is %s; %d signed heads, up to record %d\n",
		m.First, m.Last, m.Records, m.Hash, m.Heads, m.Signed)
	fmt.Fprintf(w, "\n%s is in %s now; money in the old store is frozen\n", m.From, m.To)
	if m.Archives != "" {
		fmt.Fprintf(w, "the archive files are still in %s: move them into the folder that all nodes share (--audit-archive)\n", m.Archives)
	}
}
