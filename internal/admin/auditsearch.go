package admin

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
)

const (
	// defaultAuditLimit is the page of a listing that names none.
	defaultAuditLimit = 100
	// maxAuditScan is how many records one page looks at, however few of them the filter selects: some tenths of a
	// second of reading. Whoever searches further goes on from the page's `next`.
	maxAuditScan = 20_000
)

// AuditFilter selects records, as operators write it: those that have all that is set.
type AuditFilter struct {
	Key       string // id or name of a vault key
	Operation string // like refunds.create
	Resource  string // of the operation, or the bucket that its money counts in
	Verdict   string // allow or deny
	Code      string // of any rule that was broken
	Customer  string
	Call      string // aud_... (of any record of the call), rsv_..., or a request id of ours or the vendor's
	Agent     string // a part of the User-Agent, the run id or the trace id, letter for letter
	MinUSD    string // some movement of money is at least that large,
	MaxUSD    string // and no larger than that
	// Deeds selects only what operators and the server itself did; Text those of them that have it in the action, its
	// subject, what it changed or the reason, whatever the case.
	Deeds bool
	Text  string
	// Since and Until bound the time of records (inclusive, exclusive); zero = open.
	Since, Until time.Time

	// After goes on after the record with this id; a page's Next. Not for exports and tails.
	After string
	Limit int // 0 = 100, at most 1000
	// Scan bounds how many records a page looks at; 0 = 20,000, which is also the most.
	Scan int
	// Ascending reads from the oldest on.
	Ascending bool
}

// ParseInstant reads a time as operators write it: RFC 3339, a date in UTC, or how long before now ("90m", "24h", "7d").
// Empty is the zero time.
func ParseInstant(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	if ago, err := policy.ParseSpan(text); err == nil {
		return now.Add(-ago), nil
	}
	return time.Time{}, refuse(Invalid, "%q: write 2026-11-23T10:00:00Z, 2026-11-23, or how long ago, like 90m, 24h or 7d", text)
}

// auditSearch is a filter that is understood, and where in the record it reads.
type auditSearch struct {
	s      *Service
	filter audit.Filter
	match  func(*audit.Entry) bool
	text   bool // looks for a text
	budget int  // records that a page looks at
	query  store.RecordQuery
}

// keyID finds a key's id, also of one whose name belongs to a revoked key only.
func (s *Service) keyID(idOrName string) (policy.KeyID, error) {
	if idOrName == "" {
		return "", nil
	}
	if k, ok := s.Ring.FindKey(idOrName); ok {
		return k.ID, nil
	}
	for _, k := range s.Ring.Keys() {
		if k.Name == idOrName {
			return k.ID, nil
		}
	}
	return "", refuse(NotFound, "there is no vault key %q; `keybrake key list --revoked` shows them", idOrName)
}

// search understands a filter. What the store has an order or an index for (numbers, times, keys, calls) narrows the
// reading itself; everything else is looked for in what is read.
func (s *Service) search(ctx context.Context, f AuditFilter) (auditSearch, error) {
	out := auditSearch{s: s}
	var bad faults
	key, err := s.keyID(f.Key)
	bad.add("query.key", err)
	s.knows(f, &bad)
	out.filter = audit.Filter{
		Key: key, Operation: policy.OperationName(f.Operation), Resource: policy.Resource(f.Resource), Verdict: f.Verdict,
		Code: policy.Code(f.Code), Customer: policy.CustomerID(f.Customer), Agent: f.Agent, Since: f.Since, Until: f.Until,
	}
	out.between(f, &bad)
	out.query = store.RecordQuery{Key: key, Ascending: f.Ascending, Deeds: f.Deeds || f.Text != ""}
	out.text, out.budget = f.Text != "", f.Scan
	if out.budget <= 0 || out.budget > maxAuditScan {
		out.budget = maxAuditScan
	}
	out.query.After, err = cursor(f.After)
	bad.add("query.after", err)
	if err := bad.refusal(); err != nil {
		return out, err
	}
	if err := out.within(ctx, f.Since, f.Until); err != nil {
		return out, err
	}
	if err := out.ofCall(ctx, f.Call); err != nil {
		return out, err
	}
	out.match = out.filter.Matcher()
	if out.query.Deeds {
		calls, text := out.match, strings.ToLower(f.Text)
		out.match = func(e *audit.Entry) bool { return e.Call == 0 && calls(e) && says(e, text) }
	}
	return out, nil
}

// knows refuses names that no record can have: a misspelt one must not look like a search that found nothing.
func (s *Service) knows(f AuditFilter, bad *faults) {
	near := func(name string, ok bool) string {
		if !ok {
			return ""
		}
		return "; did you mean `" + name + "`?"
	}
	if _, ok := s.Vocabulary.Operation(policy.OperationName(f.Operation)); !ok && f.Operation != "" {
		name, found := s.Vocabulary.NearestOperation(f.Operation)
		bad.add("", wrong("query.operation", "there is no operation `%s`%s", f.Operation, near(string(name), found)))
	}
	if f.Resource != "" && !s.Vocabulary.HasResource(policy.Resource(f.Resource)) {
		name, found := s.Vocabulary.NearestResource(f.Resource)
		bad.add("", wrong("query.resource", "there is no resource `%s`%s", f.Resource, near(string(name), found)))
	}
	if f.Verdict != "" && f.Verdict != policy.Allow.String() && f.Verdict != policy.Deny.String() {
		bad.add("", wrong("query.verdict", "the verdict %q: write allow or deny", f.Verdict))
	}
}

// between understands the bounds of an amount.
func (a *auditSearch) between(f AuditFilter, bad *faults) {
	read := func(where, text string) (usd money.USD, ok bool) {
		if text == "" {
			return 0, false
		}
		usd, err := money.ParseUSD(text)
		if err != nil {
			bad.add("", wrong(where, "the amount %q: %v; write dollars, like 20.00", text, err))
		}
		return usd, err == nil
	}
	a.filter.MinUSD, _ = read("query.min_usd", f.MinUSD)
	most, ok := read("query.max_usd", f.MaxUSD)
	switch {
	case ok && most == 0: // the filter's zero is no bound
		bad.add("", wrong("query.max_usd", "nothing that moves is of 0 dollars; write the highest amount, like 20.00"))
	case ok && most < a.filter.MinUSD:
		bad.add("", wrong("query.max_usd", "the highest amount %s is below the lowest, %s", most, a.filter.MinUSD))
	}
	a.filter.MaxUSD = most
}

// cursor reads where to go on: a record's id, or its number.
func cursor(after string) (int64, error) {
	if after == "" {
		return 0, nil
	}
	if _, seq, err := audit.ParseID(after); err == nil {
		return seq, nil
	}
	if seq, err := strconv.ParseInt(after, 10, 64); err == nil && seq > 0 {
		return seq, nil
	}
	return 0, wrong("query.after", "after %q: write the id of the last record that was seen, like aud_1_42", after)
}

// within turns times into numbers, so that nothing outside is read.
func (a *auditSearch) within(ctx context.Context, since, until time.Time) error {
	err := a.s.Store.View(ctx, func(tx store.Tx) (err error) {
		if !since.IsZero() {
			if a.query.From, err = tx.FirstAt(since); err != nil {
				return err
			}
		}
		if !until.IsZero() {
			if a.query.To, err = tx.FirstAt(until); err != nil {
				return err
			}
			if a.query.To--; a.query.To == 0 { // nothing is that old, and 0 would be no bound
				a.query.From, a.query.To = 2, 1
			}
		}
		return nil
	})
	return understood("read the audit", err)
}

// ofCall narrows a search to what belongs to one call, or to all calls of one reservation.
func (a *auditSearch) ofCall(ctx context.Context, id string) error {
	switch kind, rest, _ := strings.Cut(id, "_"); {
	case id == "":
		return nil
	case kind == "aud":
		entry, err := a.s.record(ctx, id)
		if err != nil {
			return err
		}
		if entry.Call == 0 { // it belongs to no call and is all there is
			a.query.From, a.query.To = max(a.query.From, entry.Seq), entry.Seq
			return nil
		}
		a.filter.Call, a.query.Call = entry.Call, entry.Call
	case kind == "rsv":
		number, err := strconv.ParseInt(rest, 10, 64)
		if err != nil {
			return wrong("query.call", "reservation id %q: want rsv_<number>", id)
		}
		var made int64
		err = a.s.Store.View(ctx, func(tx store.Tx) error {
			r, err := tx.Reservation(ledger.ReservationID(number))
			if err == nil {
				made = r.AuditSeq
			}
			return err
		})
		if errors.Is(err, store.ErrNotFound) {
			return refuse(NotFound, "there is no reservation %s", id)
		}
		if err != nil {
			return understood("read reservation "+id, err)
		}
		a.filter.Reservation, a.query.From = number, max(a.query.From, made)
	case kind == "req":
		a.filter.Request = id
	default:
		return wrong("query.call", "call %q: write aud_..., rsv_... or req_...", id)
	}
	return nil
}

// page returns the next records that are selected, at most limit of them and from at most maxAuditScan, and moves on
// behind what it has looked at. more is false at the end. Each read is short, on a connection of its own: no search
// keeps the writer waiting, or a snapshot for long.
func (a *auditSearch) page(ctx context.Context, limit int) (found []audit.Entry, more bool, err error) {
	for scanned := 0; scanned < a.budget; scanned += auditPage { // a query looks at no more
		if a.query.Limit = auditPage; a.whole() {
			a.query.Limit = limit
		}
		page, err := a.s.query(ctx, a.query)
		if err != nil {
			return nil, false, err
		}
		for i := range page.Entries {
			e := &page.Entries[i]
			a.query.After = e.Seq
			if !a.match(e) {
				continue
			}
			if found = append(found, *e); len(found) == limit {
				return found, true, nil
			}
		}
		if page.Next == 0 {
			return found, false, nil
		}
		a.query.After = page.Next
	}
	return found, true, nil
}

// says reports whether a deed has a text, which is in lower case.
func says(e *audit.Entry, text string) bool {
	if text == "" {
		return true
	}
	r, err := audit.Decode(e.Bytes)
	return err == nil && slices.ContainsFunc([]string{r.Action, r.Subject, r.Diff, r.Reason, r.Operator}, func(s string) bool {
		return strings.Contains(strings.ToLower(s), text)
	})
}

// whole reports whether every record that the store finds is selected.
func (a *auditSearch) whole() bool {
	return !a.text && a.filter == audit.Filter{Key: a.query.Key, Call: a.query.Call, Since: a.filter.Since, Until: a.filter.Until}
}

// Audit lists records, newest first unless the filter says otherwise: each the stored JSON with its id in
// front. A page ends when it is full or has looked at maxAuditScan records; its Next, if there is one, is where the
// next page begins.
func (s *Service) Audit(ctx context.Context, f AuditFilter) (List[json.RawMessage], error) {
	out := List[json.RawMessage]{Items: []json.RawMessage{}}
	search, err := s.search(ctx, f)
	if err != nil {
		return out, err
	}
	limit := f.Limit
	if limit <= 0 {
		limit = defaultAuditLimit
	}
	entries, more, err := search.page(ctx, min(limit, auditPage))
	if err != nil {
		return out, err
	}
	for i := range entries {
		out.Items = append(out.Items, withID(&entries[i]))
	}
	if more {
		out.Next = audit.ID(audit.FirstChain, search.query.After)
	}
	return out, nil
}
