package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keybrake/keybrake/internal/admin"
)

func newVerify(s streams) *cobra.Command {
	var upstream string
	var options admin.VerifyOptions
	cmd := &cobra.Command{
		Use:   "verify KEY | --upstream U",
		Short: "Try every operation and hold the answers against the scopes",
		Long: "With a vault key: a twin of it, with the same policy and counters of its own, tries every operation for ten\n" +
			"minutes at most. What is outside the scopes must be refused; reads inside them reach the upstream and name objects\n" +
			"that do not exist; writes inside them are decided and stop in Keybrake. A test key that passed may go live with\n" +
			"`keybrake key create --like KEY --upstream LIVE`.\n\n" +
			"With --upstream: the upstream's own restricted key is asked for every operation in a form that cannot have an effect, and\n" +
			"what is open is compared with what its vault keys need: permissions to untick, and permissions that are missing.\n\n" +
			"Exit 1 if anything is not as it should be.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == (upstream != "") {
				return usageError{errors.New("name one vault key, or an upstream with --upstream")}
			}
			ctx, f := cmd.Context(), *outputOf(cmd)
			if upstream != "" {
				return s.verifyUpstream(ctx, f, upstream, options)
			}
			return s.verifyKey(ctx, f, args[0], options)
		},
	}
	cmd.Flags().StringVar(&upstream, "upstream", "", "verify this upstream's own credential")
	cmd.Flags().IntVar(&options.Rate, "rate", 0, "probes per second that may reach the upstream (default 10)")
	outputFlag(cmd)
	return cmd
}

func (s streams) verifyKey(ctx context.Context, f format, key string, o admin.VerifyOptions) error {
	bar := s.bar()
	r, err := ask(func(c *admin.Client) (admin.VerifyKeyReport, error) { return c.VerifyKey(ctx, key, o, bar.show) })
	bar.end()
	if err != nil {
		return err
	}
	if err := s.print(f, r, func(w io.Writer) { writeKeyReport(w, &r) }); err != nil || r.Passed {
		return err
	}
	return fmt.Errorf("the vault key %s is not as its scopes have it: %d operations", r.Name, len(r.Wrong))
}

func writeKeyReport(w io.Writer, r *admin.VerifyKeyReport) {
	var rows [][]string
	none := 0
	for _, t := range r.Resources {
		if t.Granted == "none" && t.ReadsOpen+t.WritesOpen == 0 {
			none++
			continue
		}
		rows = append(rows, []string{t.Resource, t.Granted, share(t.ReadsOpen, t.Reads), share(t.WritesOpen, t.Writes)})
	}
	table(w, "RESOURCE GRANTED READS WRITES", rows)
	fmt.Fprintf(w, "and %d resources of which nothing is granted and nothing is open\n\n", none)
	if len(r.Wrong) > 0 {
		rows = nil
		for _, o := range r.Wrong {
			rows = append(rows, []string{o.Operation, o.Expected, strconv.Itoa(o.Status), o.Code})
		}
		table(w, "OPERATION EXPECTED STATUS CODE", rows)
		fmt.Fprintln(w)
	}
	verdict := "passed"
	if !r.Passed {
		verdict = "FAILED"
	}
	fmt.Fprintf(w, "%s: %d operations tried, %d refused outside the scopes, %d open inside them\n", verdict, r.Tried, r.Denied, r.Open)
}

// share writes how many of all are open.
func share(open, all int) string {
	if all == 0 {
		return "none"
	}
	return fmt.Sprintf("%d of %d open", open, all)
}

func (s streams) verifyUpstream(ctx context.Context, f format, upstream string, o admin.VerifyOptions) error {
	bar := s.bar()
	r, err := ask(func(c *admin.Client) (admin.VerifyUpstreamReport, error) {
		return c.VerifyUpstream(ctx, upstream, o, bar.show)
	})
	bar.end()
	if err != nil {
		return err
	}
	if err := s.print(f, r, func(w io.Writer) { writeUpstreamReport(w, &r) }); err != nil || r.Passed {
		return err
	}
	return fmt.Errorf("the upstream %s opens %d things that nobody needs, lacks %d that are needed, and %d answers told nothing",
		r.Upstream, len(r.TooWide), len(r.Missing), len(r.Unclear))
}

func writeUpstreamReport(w io.Writer, r *admin.VerifyUpstreamReport) {
	for _, part := range []struct {
		title string
		list  []admin.Permitted
	}{
		{"Nobody needs these: untick them at the vendor", r.TooWide},
		{"These are needed and not there: tick them", r.Missing},
	} {
		if len(part.list) == 0 {
			continue
		}
		fmt.Fprintln(w, part.title)
		var rows [][]string
		for _, p := range part.list {
			rows = append(rows, []string{p.Resource, p.Access, p.Permission, some(p.Operations)})
		}
		table(w, "RESOURCE ACCESS PERMISSION SHOWN_BY", rows)
		fmt.Fprintln(w)
	}
	if len(r.Unclear) > 0 {
		var names []string
		for _, o := range r.Unclear {
			names = append(names, o.Operation)
		}
		fmt.Fprintf(w, "No clear answer: %s\n\n", some(names))
	}
	fmt.Fprintf(w, "%d operations tried: %d open, %d closed. %d were not tried, because nothing is sure to refuse them before they do something.\n",
		r.Tried, r.Open, r.Closed, r.NotTried)
}

// some lists the first few of many.
func some(names []string) string {
	const few = 3
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}

// bar tells a terminal how far long work is.
type bar struct {
	to    io.Writer // nil: nobody watches
	shown time.Time
}

func (s streams) bar() *bar {
	b := &bar{}
	if isTerminal(s.err) {
		b.to = s.err
	}
	return b
}

// barWidth is the bar's length in characters.
const barWidth = 40

func (b *bar) show(p admin.Progress) {
	if b.to == nil || p.Of == 0 || time.Since(b.shown) < progressEvery/5 {
		return
	}
	b.shown = time.Now()
	full := barWidth * p.Done / p.Of
	_, _ = fmt.Fprintf(b.to, "\r[%s%s] %d of %d", strings.Repeat("#", full), strings.Repeat("-", barWidth-full), p.Done, p.Of) // only decoration
}

// count shows how much was read where nobody knows how much there is.
func (b *bar) count(things string) func(admin.Progress) {
	return func(p admin.Progress) {
		if b.to != nil && time.Since(b.shown) >= progressEvery/5 {
			b.shown = time.Now()
			_, _ = fmt.Fprintf(b.to, "\rread %d %s", p.Done, things) // likewise
		}
	}
}

func (b *bar) end() {
	if b.to != nil {
		_, _ = fmt.Fprint(b.to, "\r\x1b[K") // likewise
	}
}
