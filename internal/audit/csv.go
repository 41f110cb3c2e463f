package audit

import (
	"encoding/csv"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
)

// csvColumns are stable: new ones are added at the end. Lists are joined with a space.
var csvColumns = []string{
	"id", "at", "kind", "call", "key", "key_name", "mode", "upstream", "operation", "method", "route", "object",
	"customers", "account", "bucket", "amount", "currency", "usd", "verdict", "shadowed", "codes", "messages", "fate",
	"proof", "reservation", "status", "upstream_status", "upstream_request", "request", "ours_us", "theirs_us",
	"from", "user_agent", "run_id", "operator", "action", "subject", "reason", "count", "caps", "trace", "span",
	"credential",
}

// ExportCSV writes records for spreadsheets, one row each and one more for every further movement of money.
// CSV carries no proof: for that there is Export. Cells that a spreadsheet would take for a formula begin
// with an apostrophe. keep, if not nil, filters.
func ExportCSV(w io.Writer, entries iter.Seq2[Entry, error], keep func(*Entry) bool) error {
	out := csv.NewWriter(w)
	if err := out.Write(csvColumns); err != nil {
		return fmt.Errorf("write audit table: %w", err)
	}
	for e, err := range entries {
		if err != nil {
			return fmt.Errorf("export audit records: %w", err)
		}
		if keep != nil && !keep(&e) {
			continue
		}
		rec, err := Decode(e.Bytes)
		if err != nil {
			return fmt.Errorf("export audit record %d: %w", e.Seq, err)
		}
		for i := range max(1, len(rec.Effects)) {
			if err := out.Write(csvRow(rec, i)); err != nil {
				return fmt.Errorf("write audit table: %w", err)
			}
		}
	}
	out.Flush()
	if err := out.Error(); err != nil {
		return fmt.Errorf("write audit table: %w", err)
	}
	return nil
}

func csvRow(r *Record, effect int) []string {
	var bucket, amount, currency, usd string
	if effect < len(r.Effects) {
		e := r.Effects[effect]
		bucket, currency, usd = e.Bucket, string(e.Amount.Currency), e.USD.String()
		amount = strconv.FormatInt(e.Amount.Minor, 10)
	}
	row := []string{
		ID(r.Chain, r.Seq), r.At.UTC().Format(timeFormat), string(r.Kind), "", string(r.Key), r.KeyName, r.Mode,
		string(r.Upstream), string(r.Operation), r.Method, r.Route, r.Object,
		join(r.Customers), string(r.Account), bucket, amount, currency, usd, r.Verdict, yes(r.Shadowed),
		join(each(r.Failures, func(f policy.Failure) string { return string(f.Code) })),
		join(each(r.Failures, func(f policy.Failure) string { return f.Message })),
		r.Fate, r.Proof, count(r.Reservation), count(int64(r.Status)), count(int64(r.UpstreamStatus)),
		r.UpstreamRequest, r.Request, count(r.OursMicros), count(r.TheirsMicros), r.From, r.UserAgent, r.RunID,
		r.Operator, r.Action, r.Subject, r.Reason, count(r.Count), join(each(r.Caps, Cap.String)),
		r.Trace, r.Span, r.Credential,
	}
	if call := r.Call(); call != 0 {
		row[3] = ID(r.Chain, call)
	}
	for i := range row {
		row[i] = harmless(row[i])
	}
	return row
}

// String writes the cap for people: "refunds/day usd 80.00 of 100.00 left (5.00 held, 15.00 settled)".
func (c Cap) String() string {
	figure := func(n int64) string {
		if c.Unit == policy.UnitUSD {
			return money.USD(n).String()
		}
		return strconv.FormatInt(n, 10)
	}
	return c.Resource + "/" + c.Per + " " + c.Unit.String() + " " + figure(c.Left) + " of " + figure(c.Limit) + " left (" +
		figure(c.Held) + " held, " + figure(c.Settled) + " settled)"
}

// harmless keeps a spreadsheet from running a cell as a formula, and a terminal from obeying it.
func harmless(cell string) string {
	cell = strings.Map(func(c rune) rune {
		if unprintable(c) {
			return ' '
		}
		return c
	}, cell)
	if cell != "" && strings.ContainsRune("=+-@|%", rune(cell[0])) {
		return "'" + cell
	}
	return cell
}

func each[T any](items []T, f func(T) string) []string {
	out := make([]string, len(items))
	for i := range items {
		out[i] = f(items[i])
	}
	return out
}

func join[S ~string](items []S) string {
	return strings.Join(each(items, func(s S) string { return string(s) }), " ")
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}

func count(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}
