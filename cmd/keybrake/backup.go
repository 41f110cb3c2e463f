package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/keybrake/keybrake/internal/admin"
)

func newBackup(s streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write a copy of the store, while it serves",
		Long: "Write a copy of the store as it is now, while calls go on. Keep it with a copy of the master key's file, in another\n" +
			"place: without that key nothing in it can be opened. To restore it stop the server, put the file in the store's\n" +
			"place and start. What happened since is not in it, so all writes are frozen until an operator has looked:\n" +
			"docs/operating.md#backup-and-restore.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := os.Lstat(args[0]); err == nil {
				return fmt.Errorf("%s is there already; name another file", args[0])
			}
			conn, err := connect()
			if err != nil {
				return err
			}
			var done admin.BackedUp
			err = writeWhole(args[0], func(w io.Writer) (err error) {
				progress := s.progress(w, true)
				defer progress.end()
				done, err = conn.client.Backup(cmd.Context(), progress)
				return explain(conn, err)
			})
			if err != nil {
				return err
			}
			if err := syncFolder(args[0]); err != nil {
				return err
			}
			done.File = args[0]
			return s.print(*outputOf(cmd), done, func(w io.Writer) {
				fmt.Fprintf(w, "%s: %d bytes, up to record %d, sha256 %s\n", done.File, done.Size, done.Seq, done.SHA256)
			})
		},
	}
	outputFlag(cmd)
	return cmd
}

// syncFolder makes a file's name durable.
func syncFolder(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("flush the folder of %s: %w", path, err)
	}
	defer dir.Close() //nolint:errcheck // nothing was written to it
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("flush the folder of %s: %w", path, err)
	}
	return nil
}
