package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/keybrake/keybrake/internal/admin"
)

func newReplay(s streams) *cobra.Command {
	var req admin.ReplayRequest
	var flags policyFlags
	var examples int
	limit := 5 * time.Minute
	cmd := &cobra.Command{
		Use:   "replay",
		Short: "Run a policy over recorded calls: what it would have refused and allowed",
		Long: "Run a policy over the calls on record, as if it had come into force at --since and was enforced. Nothing is sent and\n" +
			"nothing changes. Calls that the record does not tell enough about are shown as such, never guessed.\n\n" +
			"With --key, the key's calls: under the policy of the file, or under its own with the other flags. Without, the calls\n" +
			"of all keys, each under the policy.",
		Example: "  keybrake replay --policy agent.yaml --since 30d --key agent-support-refunds-runner42\n" +
			"  keybrake replay --key agent-support-refunds-runner42 --cap refunds/day=50\n" +
			"  keybrake replay --policy agent.yaml --since 2026-11-01 -o json",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if req.PolicyEdit, err = flags.read(s.in); err != nil {
				return err
			}
			switch {
			case req.Policy == "" && req.Key == "":
				return usageError{errors.New("say which policy is replayed with --policy, --key or both")}
			case limit < time.Second || limit > 15*time.Minute:
				return usageError{fmt.Errorf("--for %s: write a time from 1s to 15m", limit)}
			case examples < 0 || examples > 200:
				return usageError{fmt.Errorf("--examples %d: write a number from 0 to 200", examples)}
			}
			req.Seconds, req.Examples = int(limit/time.Second), &examples
			watched := s.watch("replaying")
			found, err := ask(func(c *admin.Client) (admin.Replay, error) { return c.Replay(cmd.Context(), req) })
			watched()
			if err != nil {
				return err
			}
			s.warn(found.Warnings)
			if err := s.print(*outputOf(cmd), found, func(w io.Writer) { printReplay(w, &found) }); err != nil {
				return err
			}
			if found.Stopped {
				return fmt.Errorf("the time was up at %s; ask for less with --since or --key, or give it more time with --for", orNever(found.Until))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&req.Key, "key", "", "the vault key whose calls are judged, an id or a name")
	cmd.Flags().StringVar(&req.Since, "since", "30d", "when the policy would have come into force: RFC 3339, a date in UTC, or how long ago (24h, 30d)")
	cmd.Flags().IntVar(&examples, "examples", 20, "how many calls of each kind are shown")
	cmd.Flags().DurationVar(&limit, "for", limit, "how long it may read, at most 15m")
	flags.bind(cmd)
	outputFlag(cmd)
	return cmd
}

// watch tells a terminal for how long something has been going on; the result ends it.
func (s streams) watch(what string) (end func()) {
	p := s.progress(s.out, true)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for start := time.Now(); ; {
			select {
			case <-tick.C:
				p.say(fmt.Sprintf("%s, %d s", what, int(time.Since(start).Seconds())))
			case <-ctx.Done():
				p.end()
				return
			}
		}
	}()
	return func() { cancel(); <-done }
}

func orNever(t time.Time) string {
	if t.IsZero() {
		return "no call of that time yet"
	}
	return when(t)
}

func printReplay(w io.Writer, r *admin.Replay) {
	whose := "all keys"
	if r.KeyName != "" {
		whose = "vault key " + r.KeyName
	}
	fmt.Fprintf(w, "%d calls of %s since %s, up to %s\n", r.Calls, whose, when(r.Since), orNever(r.Until))
	if r.Shadow {
		fmt.Fprintln(w, "The policy is in shadow: this is what it would refuse once it is enforced.")
	}
	fmt.Fprintln(w)
	row := func(name string, t *admin.ReplayTally) []string {
		return []string{name, strconv.FormatInt(t.Calls, 10), t.USD.String(), t.Moved.String()}
	}
	table(w, "VERDICT CALLS ASKED MOVED", [][]string{
		row("allowed then, would be refused", &r.NewlyRefused), row("refused then, would be allowed", &r.NewlyAllowed),
		row("allowed, as then", &r.Allowed), row("refused, as then", &r.Refused), row("cannot be told", &r.Untold),
	})
	printRules(w, "WHAT-WOULD-REFUSE CALLS ASKED MOVED", r.Rules)
	printRules(w, "WHAT-REFUSED-THEN CALLS ASKED MOVED", r.Lifted)
	if len(r.Reasons) > 0 {
		fmt.Fprintln(w, "\nCannot be told from the record:")
		for _, x := range r.Reasons {
			fmt.Fprintf(w, "  %d calls: %s\n", x.Calls, printable(x.Why))
		}
	}
	printReplayCaps(w, r.Caps)
	var days [][]string
	for _, d := range r.Days {
		if d.NewlyRefused.Calls+d.NewlyAllowed.Calls+d.Untold.Calls > 0 {
			days = append(days, []string{
				d.Day, d.Resource, d.NewlyRefused.USD.String(), d.NewlyAllowed.USD.String(), d.Allowed.USD.String(),
				fmt.Sprintf("%d/%d/%d", d.NewlyRefused.Calls, d.NewlyAllowed.Calls, d.Untold.Calls),
			})
		}
	}
	if len(days) > 0 {
		fmt.Fprintln(w)
		table(w, "DAY RESOURCE REFUSED-USD ADMITTED-USD AS-THEN-USD CALLS-REFUSED/ADMITTED/UNTOLD", days)
	}
	printReplayCalls(w, "Would be refused", r.Examples.NewlyRefused)
	printReplayCalls(w, "Would be allowed", r.Examples.NewlyAllowed)
	printReplayCalls(w, "Cannot be told", r.Examples.Untold)
	if r.Uncounted > 0 {
		fmt.Fprintf(w, "\n%d earlier calls may count in the windows and could not be counted: their records are from before records told how.\n", r.Uncounted)
	}
}

func printRules(w io.Writer, heading string, rules []admin.ReplayRule) {
	if len(rules) == 0 {
		return
	}
	var rows [][]string
	for _, r := range rules {
		rows = append(rows, []string{r.Rule, strconv.FormatInt(r.Calls, 10), r.USD.String(), r.Moved.String()})
	}
	fmt.Fprintln(w)
	table(w, heading, rows)
}

func printReplayCaps(w io.Writer, caps []admin.ReplayCap) {
	var rows [][]string
	for _, c := range caps {
		rows = append(rows, []string{
			c.Resource + "/" + c.Per + " " + c.Unit, c.Limit.String(), c.Used.String(), c.Window, strconv.FormatInt(c.Refuses, 10),
		})
	}
	if len(rows) > 0 {
		fmt.Fprintln(w)
		table(w, "CAP LIMIT FULLEST WINDOW REFUSES", rows)
	}
}

func printReplayCalls(w io.Writer, what string, calls []admin.ReplayCall) {
	if len(calls) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s (the first %d):\n", what, len(calls))
	for _, c := range calls {
		says := c.Message
		if says == "" {
			says = c.Why
		}
		if c.Rule != "" {
			says = c.Rule + ": " + says
		}
		fmt.Fprintf(w, "  %s  %s  %s  %s  %s USD  %s\n", c.Record, when(c.At), printable(c.KeyName), printable(c.Operation), c.USD, printable(says))
	}
}
