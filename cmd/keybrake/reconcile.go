package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keybrake/keybrake/internal/admin"
)

func newReconcile(s streams) *cobra.Command {
	var statement, moved, nothing bool
	var upstream string
	var req admin.StatementRequest
	var d admin.Decision
	cmd := &cobra.Command{
		Use:   "reconcile [RESERVATION...] [--moved | --nothing] | --statement",
		Short: "What became of calls without an answer; the ledger beside Stripe's books",
		Long: "Without arguments: the calls whose outcome nobody knows, why, and what the last look at Stripe showed. What they may have\n" +
			"moved stays held. The server looks by itself; with a RESERVATION it looks now. --moved or --nothing with --reason ends\n" +
			"one by your word: as much as was held, or none of it.\n\n" +
			"With --statement: what the ledger says moved, by key and day, beside Stripe's balance transactions and events of that\n" +
			"upstream's account. Days are those of each vault key's time zone. A line is a difference if the money moved and the\n" +
			"ledger does not have it (missing_here), if the ledger has it and Stripe shows nothing (missing_there), or if the\n" +
			"amounts differ (different). What is held, moves later or is no money of the balance is told, and is no difference.\n\n" +
			"Stripe tells that a call was made, not with which key. Where other systems use the same account, --others keeps\n" +
			"their movements from being differences.\n\n" +
			"Exit 1 if there is a difference.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := statementFlags(cmd, statement, &req); err != nil {
				return err
			}
			switch {
			case statement && len(args) > 0, moved && nothing, statement && (moved || nothing):
				return usageError{errors.New("say one of: --statement, RESERVATION --moved, RESERVATION --nothing")}
			case (moved || nothing) && len(args) == 0:
				return usageError{errors.New("say which call: `keybrake reconcile` lists them")}
			case statement:
				return s.statement(cmd.Context(), *outputOf(cmd), upstream, req)
			case len(args) == 0:
				return s.openCalls(cmd.Context(), *outputOf(cmd))
			case moved:
				d.Outcome = "moved"
			case nothing:
				d.Outcome = "nothing"
			}
			return s.resolveCalls(cmd.Context(), *outputOf(cmd), args, d)
		},
	}
	cmd.Flags().BoolVar(&moved, "moved", false, "the call moved as much as was held")
	cmd.Flags().BoolVar(&nothing, "nothing", false, "the call did nothing")
	cmd.Flags().StringVar(&d.Reason, "reason", "", "how you know; goes into the audit")
	cmd.Flags().BoolVar(&statement, "statement", false, "compare the ledger with Stripe's balance transactions and events")
	cmd.Flags().StringVar(&upstream, "upstream", "", "the upstream whose account is read (default: the only one)")
	cmd.Flags().StringVar(&req.From, "from", "", "first day, like 2026-11-01 (default: six days before the last)")
	cmd.Flags().StringVar(&req.To, "to", "", "last day, inclusive (default: today)")
	cmd.Flags().StringVar(&req.Key, "key", "", "only what this vault key made, by id or name")
	cmd.Flags().BoolVar(&req.All, "all", false, "list what matches too")
	cmd.Flags().BoolVar(&req.Others, "others", false, "other systems move money at this account: what no vault key made is no difference")
	cmd.Flags().IntVar(&req.Rate, "rate", 0, "pages per second that Stripe is asked for (default 10)")
	outputFlag(cmd)
	return cmd
}

// statementFlags refuses days that are none, and flags of a statement where none is asked for.
func statementFlags(cmd *cobra.Command, statement bool, req *admin.StatementRequest) error {
	for _, name := range []string{"upstream", "from", "to", "key", "all", "others", "rate"} {
		if !statement && cmd.Flags().Changed(name) {
			return usageError{fmt.Errorf("--%s goes with --statement", name)}
		}
	}
	for _, day := range []string{req.From, req.To} {
		if _, err := time.Parse(time.DateOnly, day); day != "" && err != nil {
			return usageError{fmt.Errorf("%q is no day; write it like 2026-11-01", day)}
		}
	}
	return nil
}

func (s streams) statement(ctx context.Context, f format, upstream string, req admin.StatementRequest) error {
	bar := s.bar()
	r, err := ask(func(c *admin.Client) (admin.Statement, error) {
		name, err := onlyUpstream(ctx, c, upstream)
		if err != nil {
			return admin.Statement{}, err
		}
		return c.Statement(ctx, name, req, bar.count("pages"))
	})
	bar.end()
	if err != nil {
		return err
	}
	if err := s.print(f, r, func(w io.Writer) { writeStatement(w, &r) }); err != nil || r.Passed {
		return err
	}
	return fmt.Errorf("the ledger and Stripe's books differ in %s", count(r.Differences, "line"))
}

// onlyUpstream names the upstream that there is, where none was named.
func onlyUpstream(ctx context.Context, c *admin.Client, name string) (string, error) {
	if name != "" {
		return name, nil
	}
	list, err := c.Upstreams(ctx)
	if err != nil {
		return "", err
	}
	if len(list.Items) != 1 {
		return "", usageError{fmt.Errorf("there are %s; say which with --upstream", count(len(list.Items), "upstream"))}
	}
	return list.Items[0].Name, nil
}

func writeStatement(w io.Writer, r *admin.Statement) {
	fmt.Fprintf(w, "Upstream %s, %s to %s, as of %s\n\n", r.Upstream, r.From, r.To, when(r.AsOf))
	var rows [][]string
	for _, d := range r.Days {
		rows = append(rows, []string{
			d.Day, d.KeyName, d.Kind, strings.ToUpper(d.Currency), d.Ledger, d.Vendor, d.USD,
			fmt.Sprint(d.Matched), fmt.Sprint(d.Waiting), fmt.Sprint(d.Differences),
		})
	}
	table(w, "DAY KEY KIND CUR LEDGER STRIPE LEDGER-USD MATCHED WAITING DIFFERENT", rows)
	writeLines(w, "Differences", r.Items, true, len(r.Items))
	writeLines(w, "No difference", r.Items, false, mostAgreed)
	for _, n := range r.Notes {
		fmt.Fprintf(w, "\nNote: %s\n", printable(n))
	}
	verdict := "no differences"
	if !r.Passed {
		verdict = count(r.Differences, "difference")
	}
	fmt.Fprintf(w, "\n%s; %s of Stripe's books were read\n", verdict, count(r.Read, "line"))
}

// mostAgreed is how many lines that are no difference people are shown; the account may be a busy one's.
const mostAgreed = 25

func writeLines(w io.Writer, title string, items []admin.StatementLine, difference bool, most int) {
	var rows [][]string
	left := 0
	for i := range items {
		switch {
		case items[i].Difference != difference:
		case len(rows) == most:
			left++
		default:
			rows = append(rows, lineRow(&items[i]))
		}
	}
	if len(rows) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s\n", title)
	table(w, "CLASS DAY KEY KIND LEDGER STRIPE OBJECT CALL WHY", rows)
	if left > 0 {
		fmt.Fprintf(w, "and %s more; -o json has them all\n", count(left, "line"))
	}
}

// lineRow shows one line: the object by Stripe's word where it tells, and the call by which the audit finds it.
func lineRow(l *admin.StatementLine) []string {
	object, call := "", ""
	if len(l.Movements) > 0 {
		object = l.Movements[0].Object
		if len(l.Movements[0].Requests) > 0 {
			call = l.Movements[0].Requests[0]
		}
	}
	if len(l.Calls) > 0 {
		call = l.Calls[0].Reservation
		if object == "" && len(l.Calls[0].Objects) > 0 {
			object = l.Calls[0].Objects[0]
		}
	}
	vendor := l.VendorCurrency
	if vendor == "" {
		vendor = l.Currency
	}
	return []string{
		l.Class, l.Day, l.KeyName, l.Kind, l.Ledger + " " + strings.ToUpper(l.Currency), l.Vendor + " " + strings.ToUpper(vendor), object, call, l.Why,
	}
}
