package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keybrake/keybrake/internal/admin"
)

const (
	// killTries is how long kill waits for the admin port before it leaves the KILL file: the store's wait and the longest lease
	// of a node that was just lost.
	killTries = 2 * time.Second
	// killFileWait is how long it then waits for a server to take the file: five polls. Somebody waits at a terminal.
	killFileWait = 500 * time.Millisecond
)

// targetFlags say what a stop or a resumption is about.
type targetFlags struct{ admin.Target }

func (f *targetFlags) bind(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.Match, "match", "", "vault keys by a glob over their names")
	cmd.Flags().StringVar(&f.Upstream, "upstream", "", "every vault key of this upstream")
	cmd.Flags().BoolVar(&f.All, "all", false, "everything")
}

func (f *targetFlags) read(args []string) error {
	f.Keys = args
	given := 0
	for _, is := range []bool{len(args) > 0, f.Match != "", f.Upstream != "", f.All} {
		if is {
			given++
		}
	}
	if given != 1 {
		return usageError{errors.New("name one of: vault keys, --match GLOB, --upstream U, --all")}
	}
	return nil
}

// killResult is the answer of the contract; the last three are there only if the server could not be asked.
type killResult struct {
	admin.KillAnswer
	KillFile string `json:"kill_file,omitempty"`
	Applied  bool   `json:"applied,omitempty"`
}

func newKill(s streams) *cobra.Command {
	var target targetFlags
	var req admin.KillRequest
	var store string
	cmd := &cobra.Command{
		Use:   "kill [KEY...]",
		Short: "Stop calls: when it returns, no later one passes",
		Long: "Stop vault keys, an upstream or everything. When it returns, no call that arrives later passes. If the server does\n" +
			"not answer within a second, the stop is left in a KILL file next to the store, which the server looks at ten\n" +
			"times a second, and before anything passes when it starts.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := target.read(args); err != nil {
				return err
			}
			req.Target = target.Target
			return kill(cmd.Context(), s, *outputOf(cmd), req, store)
		},
	}
	target.bind(cmd)
	cmd.Flags().BoolVar(&req.ReadOnly, "read-only", false, "let reads pass")
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why; goes into the audit")
	cmd.Flags().StringVar(&store, "store", os.Getenv("KEYBRAKE_STORE"), "the store's file, if the server cannot be reached")
	outputFlag(cmd)
	return cmd
}

func kill(ctx context.Context, s streams, f format, req admin.KillRequest, store string) error {
	start := time.Now()
	conn, err := connect()
	var answer admin.KillAnswer
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, killTries)
		answer, err = conn.client.Kill(ctx, req)
		cancel()
	}
	var refused *admin.Problem
	var misused usageError
	switch {
	case err == nil:
		return printKill(s, f, killResult{KillAnswer: answer})
	case errors.As(err, &refused) && refused.Status < 500 && refused.Status != http.StatusUnauthorized, errors.As(err, &misused):
		return err
	}
	// A token that the server does not know goes on: server.json may be an earlier server's, and who may write
	// next to the store may stop it.
	if store = strings.TrimPrefix(store, "sqlite:"); store == "" || strings.Contains(store, "://") {
		store = conn.store
	}
	if store == "" && refused != nil {
		return err
	}
	if store == "" {
		return reachError{fmt.Errorf("NOTHING WAS STOPPED: %w. Name the store's file with --store to leave a KILL file there, or send SIGUSR1 to the server to stop everything", err)}
	}
	return killByFile(ctx, s, f, req, store, start, err)
}

// killByFile leaves the KILL file and waits a moment for a server to take it.
func killByFile(ctx context.Context, s streams, f format, req admin.KillRequest, store string, start time.Time, why error) error {
	lines, err := admin.KillLines(req)
	if err != nil {
		return reachError{fmt.Errorf("NOTHING WAS STOPPED: %w, and %w", why, err)}
	}
	path := admin.KillFilePath(store)
	if err := admin.WriteKillFile(path, lines); err != nil {
		return reachError{fmt.Errorf("NOTHING WAS STOPPED: %w, and the KILL file could not be written: %w", why, err)}
	}
	applied := taken(ctx, path)
	out := killResult{KillFile: path, Applied: applied}
	out.Scope, out.Mode = scopeOf(req.Target), "stopped"
	if req.ReadOnly {
		out.Mode = "read-only"
	}
	out.Stopped, out.Failed = []string{}, []admin.KeyError{}
	out.EffectiveMS = float64(time.Since(start).Microseconds()) / 1000
	if applied {
		out.Warning = "the admin port did not answer; the server took the stop from " + path
		return printKill(s, f, out)
	}
	out.Warning = "the admin port did not answer; the stop was left in " + path
	if err := printKill(s, f, out); err != nil {
		return err
	}
	return reachError{fmt.Errorf("no server has taken %s yet; one that runs does so within 100 ms, one that starts before anything passes", path)}
}

func scopeOf(t admin.Target) string {
	switch {
	case t.All:
		return "all"
	case t.Upstream != "":
		return "upstream"
	default:
		return "key"
	}
}

// taken waits until a server has applied the file and put it away.
func taken(ctx context.Context, path string) bool {
	ctx, cancel := context.WithTimeout(ctx, killFileWait)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if !admin.KillFilePending(path) {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}

func printKill(s streams, f format, k killResult) error {
	if k.Warning != "" {
		s.warn([]string{k.Warning})
	}
	err := s.print(f, k, func(w io.Writer) {
		switch {
		case k.KillFile != "" && k.Applied:
			fmt.Fprintf(w, "%s by the KILL file (%s) after %.0f ms\n", k.Mode, k.Scope, k.EffectiveMS)
		case k.KillFile != "":
		case k.Scope == "all":
			fmt.Fprintf(w, "%s after %.1f ms: everything, with %s; %s on their way\n", k.Mode, k.EffectiveMS, count(len(k.Stopped), "vault key"), count(int(k.InFlight), "call"))
		default:
			fmt.Fprintf(w, "%s after %.1f ms: %s; %s on their way\n", k.Mode, k.EffectiveMS, count(len(k.Stopped), "vault key"), count(int(k.InFlight), "call"))
			for _, id := range k.Stopped {
				fmt.Fprintln(w, " ", id)
			}
		}
		for _, n := range k.Nodes {
			how := "obeys it"
			if n.Expired {
				how = "did not answer; its lease ran out"
			}
			fmt.Fprintf(w, "  node %s %s after %.1f ms\n", n.Name, how, n.MS)
		}
	})
	if err != nil {
		return err
	}
	return failedKeys(k.Failed)
}

func newResume(s streams) *cobra.Command {
	var target targetFlags
	var req admin.ResumeRequest
	cmd := &cobra.Command{
		Use:   "resume [KEY...]",
		Short: "Lift one brake; says what still stops",
		Long: "Lift the brake of vault keys (and their freezes), of an upstream, or of everything. Each brake is lifted by itself:\n" +
			"what still stops calls is in the answer. --books lifts the freeze of all writes that a start sets when the store is not\n" +
			"the one that was written last; docs/operating.md#backup-and-restore says what to look at before.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := target.read(args); err != nil && (!req.Books || len(args) > 0) {
				return err
			}
			if strings.TrimSpace(req.Reason) == "" {
				return usageError{errors.New("--reason is required: say why it is safe again")}
			}
			req.Target = target.Target
			r, err := ask(func(c *admin.Client) (admin.ResumeAnswer, error) { return c.Resume(cmd.Context(), req) })
			if err != nil {
				return err
			}
			if err := s.print(*outputOf(cmd), r, func(w io.Writer) { printResume(w, r) }); err != nil {
				return err
			}
			return failedKeys(r.Failed)
		},
	}
	target.bind(cmd)
	cmd.Flags().BoolVar(&req.Books, "books", false, "let writes pass although the books are not the ones that were written last")
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why it is safe again (required)")
	outputFlag(cmd)
	return cmd
}

func printResume(w io.Writer, r admin.ResumeAnswer) {
	for _, id := range r.Resumed {
		fmt.Fprintln(w, "resumed", id)
	}
	if len(r.Still) == 0 {
		return
	}
	fmt.Fprintln(w, "\nStill stopped by:")
	var rows [][]string
	for _, b := range r.Still {
		rows = append(rows, []string{b.Scope, b.Name, b.ID, b.Mode, b.Reason, b.Actor, b.At})
	}
	table(w, "SCOPE NAME ID MODE REASON BY SINCE", rows)
}
