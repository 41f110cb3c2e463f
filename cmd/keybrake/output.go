package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"
)

// format is how a command answers; the contract for scripts is json.
type format string

const (
	asTable format = "table"
	asJSON  format = "json"
)

// String, Set and Type make it a flag.
func (f *format) String() string { return string(*f) }

// Set refuses what is no format.
func (f *format) Set(s string) error {
	if format(s) != asTable && format(s) != asJSON {
		return fmt.Errorf("write table or json")
	}
	*f = format(s)
	return nil
}

// Type is shown in help.
func (*format) Type() string { return "table|json" }

// outputFlag adds -o to a command.
func outputFlag(cmd *cobra.Command) *format {
	f := asTable
	cmd.Flags().VarP(&f, "output", "o", "how to answer: a table for people, or json for scripts")
	return &f
}

// ifMatchFlag lets an edit say which version it was made for, whose etag a reading command shows. Without it the edit is about
// whatever is there: who types a command says what shall be.
func ifMatchFlag(cmd *cobra.Command, to *string, what, reads string) {
	cmd.Flags().StringVar(to, "if-match", "", fmt.Sprintf("refuse if the %s is not at this version (the `etag` of keybrake %s -o json)", what, reads))
}

// print writes v as indented JSON, or lets people write what people read.
func (s streams) print(f format, v any, people func(io.Writer)) error {
	if f == asJSON {
		e := json.NewEncoder(s.out)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	w := &heldWriter{w: s.out}
	people(w)
	return w.err
}

// heldWriter keeps the first error, so that tables are written without asking after every cell.
type heldWriter struct {
	w   io.Writer
	err error
}

// Write implements io.Writer.
func (h *heldWriter) Write(b []byte) (int, error) {
	if h.err != nil {
		return 0, h.err
	}
	n, err := h.w.Write(b)
	h.err = err
	return n, err
}

// table writes aligned columns under a heading.
func table(w io.Writer, heading string, rows [][]string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.ReplaceAll(heading, " ", "\t"))
	for _, row := range rows {
		for i := range row {
			if row[i] = printable(row[i]); row[i] == "" {
				row[i] = "-"
			}
		}
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	_ = t.Flush() // the writer below keeps its error
}

// printable keeps what others wrote from moving a terminal's cursor.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) {
			return ' '
		}
		return r
	}, s)
}

// when writes a time for people; the zero time is none.
func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// warn writes what the operator should know to the error stream.
func (s streams) warn(warnings []string) {
	for _, w := range warnings {
		_, _ = fmt.Fprintln(s.err, "keybrake: warning:", printable(w)) // nothing else could be told either
	}
}

// count writes a number of things: "1 call", "2 calls".
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
