package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/keybrake/keybrake/internal/admin"
	"github.com/keybrake/keybrake/internal/audit"
)

func newAudit(s streams) *cobra.Command {
	return group("audit", "The record of every call and every operator's action",
		newAuditList(s), newAuditTail(s), newAuditShow(s), newAuditVerify(s), newAuditExport(s))
}

// recordsFlag takes the -o json that scripts give everywhere: records are JSON, one per line, whatever it says.
func recordsFlag(cmd *cobra.Command) {
	outputFlag(cmd)
	cmd.Flags().Lookup("output").Usage = "records are always JSON, one per line"
}

func (s streams) lines(items []json.RawMessage) error {
	w := bufio.NewWriter(s.out)
	for _, item := range items {
		_, _ = w.Write(item) // kept until Flush
		_ = w.WriteByte('\n')
	}
	return w.Flush()
}

// auditFilter are the flags that select records, for every command that has them.
type auditFilter struct {
	admin.AuditFilter
	since, until string
}

func (f *auditFilter) bind(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.Key, "key", "", "of this vault key (id or name)")
	flags.StringVar(&f.Operation, "operation", "", "of this operation, like refunds.create")
	flags.StringVar(&f.Resource, "resource", "", "of this resource: of the operation, or the bucket that its money counts in")
	flags.StringVar(&f.Verdict, "verdict", "", "allow or deny")
	flags.StringVar(&f.Code, "code", "", "that broke this rule, like keybrake_cap_exceeded")
	flags.StringVar(&f.Customer, "customer", "", "that concern this customer")
	flags.StringVar(&f.Call, "call", "", "of one call: aud_... of any of its records, rsv_..., or a request id (req_...)")
	flags.StringVar(&f.Agent, "agent", "", "with this text in the User-Agent or the run id, letter for letter")
	flags.StringVar(&f.MinUSD, "min-usd", "", "that move at least so many dollars, like 20.00")
	flags.StringVar(&f.MaxUSD, "max-usd", "", "that move at most so many dollars; with --min-usd, one amount between the two")
	flags.StringVar(&f.since, "since", "", "from this time on: RFC 3339, a date in UTC, or how long ago (90m, 24h, 7d)")
	flags.StringVar(&f.until, "until", "", "before this time, written alike")
}

// read understands the times as of now.
func (f *auditFilter) read(now time.Time) (err error) {
	for _, t := range []struct {
		flag, text string
		to         *time.Time
	}{{"--since", f.since, &f.Since}, {"--until", f.until, &f.Until}} {
		if *t.to, err = admin.ParseInstant(t.text, now); err != nil {
			return usageError{fmt.Errorf("%s %w", t.flag, err)}
		}
	}
	return nil
}

func newAuditList(s streams) *cobra.Command {
	var f auditFilter
	limit := 100
	cmd := &cobra.Command{
		Use: "list", Short: "List records, newest first",
		Long: "List records, newest first: those that have all that the flags ask for. Keys, calls and times are found at once;\n" +
			"everything else is looked for record by record, in short reads beside the calls that are being served. The id of\n" +
			"the last record goes to --after for more.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 0 {
				return usageError{errors.New("--limit must not be negative; 0 is all")}
			}
			if err := f.read(time.Now()); err != nil {
				return err
			}
			conn, err := connect()
			if err != nil {
				return err
			}
			return explain(conn, s.listAudit(cmd.Context(), conn.client, f.AuditFilter, limit))
		},
	}
	f.bind(cmd)
	cmd.Flags().IntVar(&limit, "limit", limit, "at most so many; 0: all")
	cmd.Flags().StringVar(&f.After, "after", "", "go on after the record with this id")
	cmd.Flags().BoolVar(&f.Ascending, "oldest-first", false, "oldest first")
	recordsFlag(cmd)
	return cmd
}

// listAudit writes page after page: one may be empty where the next is not.
func (s streams) listAudit(ctx context.Context, client *admin.Client, f admin.AuditFilter, limit int) error {
	searching := s.progress(s.out, true) // its line is taken away before records are written
	defer searching.end()
	for left := limit; ; {
		f.Limit = 1000
		if limit > 0 {
			f.Limit = min(left, 1000)
		}
		page, err := client.Audit(ctx, f)
		if err != nil {
			return err
		}
		if len(page.Items) > 0 {
			searching.end()
		}
		if err := s.lines(page.Items); err != nil {
			return err
		}
		left -= len(page.Items)
		if page.Next == "" || limit > 0 && left <= 0 {
			return nil
		}
		f.After = page.Next
		searching.say("searched to " + page.Next)
	}
}

func newAuditTail(s streams) *cobra.Command {
	var f auditFilter
	n := 10
	cmd := &cobra.Command{
		Use: "tail", Short: "Show the last records and then every new one, until interrupted",
		Long: "Show the last records that have all that the flags ask for, and then every new one, until interrupted. For the first\n" +
			"ones it looks back through at most the last 20,000 records.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if n < 0 || n > 1000 {
				return usageError{errors.New("--lines must be from 0 to 1000")}
			}
			if err := f.read(time.Now()); err != nil {
				return err
			}
			conn, err := connect()
			if err != nil {
				return err
			}
			return explain(conn, conn.client.TailAudit(cmd.Context(), f.AuditFilter, n, s.out))
		},
	}
	f.bind(cmd)
	cmd.Flags().IntVarP(&n, "lines", "n", n, "records to begin with")
	recordsFlag(cmd)
	return cmd
}

func newAuditShow(s streams) *cobra.Command {
	cmd := &cobra.Command{
		Use: "show ID", Short: "Show a record (the Keybrake-Audit-Id of an answer) and what belongs to its call", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := ask(func(c *admin.Client) (admin.List[json.RawMessage], error) {
				return c.AuditRecord(cmd.Context(), args[0])
			})
			if err != nil {
				return err
			}
			return s.lines(list.Items)
		},
	}
	recordsFlag(cmd)
	return cmd
}

func newAuditVerify(s streams) *cobra.Command {
	var trusted string
	cmd := &cobra.Command{
		Use:   "verify [FILE]",
		Short: "Check the chain: of the server's store and its archives, or of an exported or archived file without any server",
		Long: "Check that no record was changed, removed, added or moved. The server's store and its archive files are checked as one\n" +
			"chain. With a FILE (or - for standard input) an export or an archive file is checked without any server. A file\n" +
			"vouches for itself only until --public-key names the key that must have signed it.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := hex.DecodeString(trusted)
			if err != nil || len(key) != 0 && len(key) != 32 {
				return usageError{errors.New("--public-key must be 64 hex digits")}
			}
			v, err := verify(cmd.Context(), s, args, key)
			if err != nil {
				return err
			}
			if err := s.print(*outputOf(cmd), v, func(w io.Writer) { printVerification(w, v) }); err != nil {
				return err
			}
			if !v.OK {
				return fmt.Errorf("the record is not as it was written: %s", v.Problem)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&trusted, "public-key", "", "the key that must have signed (hex)")
	outputFlag(cmd)
	return cmd
}

func verify(ctx context.Context, s streams, args []string, trusted []byte) (admin.Verification, error) {
	if len(args) == 0 {
		v, err := ask(func(c *admin.Client) (admin.Verification, error) { return c.VerifyAudit(ctx) })
		if err == nil && len(trusted) > 0 && v.PublicKey != hex.EncodeToString(trusted) {
			v.OK, v.Trusted, v.Problem = false, false, "another key than the one given signs it"
		}
		return v, err
	}
	in := s.in
	if args[0] != "-" {
		file, err := os.Open(args[0])
		if err != nil {
			return admin.Verification{}, fmt.Errorf("read the export: %w", err)
		}
		defer file.Close() //nolint:errcheck // it was only read
		in = file
	}
	if len(trusted) == 0 {
		trusted = nil
	}
	report, err := audit.Verify(in, trusted)
	if err != nil {
		return admin.Verification{}, fmt.Errorf("read the export: %w", err)
	}
	return admin.VerificationOf(report), nil
}

func printVerification(w io.Writer, v admin.Verification) {
	state := "ok"
	if !v.OK {
		state = "FAILED"
	}
	fmt.Fprintf(w, "%s: %d records of chain %s are as they were written (%d to %d), signed up to %d\n", state, v.Records, printable(v.Chain), v.First, v.Last, v.LastSigned)
	if v.Archives > 0 {
		fmt.Fprintf(w, "read from %d archive files and the store\n", v.Archives)
	}
	if v.Absent > 0 {
		fmt.Fprintf(w, "the records 1 to %d are not here: the oldest %d archive files are gone; whole is what comes after them\n", v.AbsentTo, v.Absent)
	}
	if len(v.Nodes) > 0 {
		n := make(map[string]int)
		for _, part := range v.Nodes {
			n[part.State]++
		}
		fmt.Fprintf(w, "parts of nodes: %d; %d open, %d closed by themselves, %d closed by another when they were lost\n",
			len(v.Nodes), n["open"], n["left"], n["lost"])
	}
	if v.Partial {
		fmt.Fprintf(w, "partial: only %s; records in between exist elsewhere\n", printable(v.Filter))
	}
	trust := "compare it with the one you noted, or give it with --public-key"
	if v.Trusted {
		trust = "the one that was asked for"
	}
	fmt.Fprintf(w, "public key %s (%s)\n", v.PublicKey, trust)
}

func newAuditExport(s streams) *cobra.Command {
	var f auditFilter
	var out string
	form := "jsonl"
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the whole record as JSON Lines (which verify checks) or CSV (for spreadsheets)",
		Long: "Write the whole record as JSON Lines (which verify checks) or CSV (for spreadsheets). With flags that select records\n" +
			"the export is partial, and says so and of what.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if form != "jsonl" && form != "csv" {
				return usageError{fmt.Errorf("--format %q: write jsonl or csv", form)}
			}
			if err := f.read(time.Now()); err != nil {
				return err
			}
			conn, err := connect()
			if err != nil {
				return err
			}
			export := func(w io.Writer) error {
				progress := s.progress(w, out != "")
				defer progress.end()
				return explain(conn, conn.client.ExportAudit(cmd.Context(), f.AuditFilter, form, progress))
			}
			if out == "" {
				return export(s.out)
			}
			return writeWhole(out, export)
		},
	}
	f.bind(cmd)
	cmd.Flags().StringVar(&form, "format", form, "jsonl or csv")
	cmd.Flags().StringVar(&out, "out", "", "write this file instead of standard output")
	recordsFlag(cmd)
	return cmd
}

// writeWhole puts a file in place only once it is whole, readable by its owner only: half an export is no evidence,
// and whoever waits for a ready file must not read a part of it.
func writeWhole(path string, f func(io.Writer) error) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	err = f(tmp)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err == nil {
		if err = os.Rename(tmp.Name(), path); err == nil {
			return nil
		}
	}
	return errors.Join(err, os.Remove(tmp.Name()))
}
