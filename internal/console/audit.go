package console

import (
	"encoding/json"
	"html/template"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/admin"
)

// auditPage answers: which agent did it, what was refused and why?
type auditPage struct {
	Form    auditForm
	Rows    []record
	Older   string // query of the next page; empty at the end
	Looked  bool   // the page looked at as much as one may, and there is more behind it
	Held    string // sum of the rows in dollars; empty without money
	Problem string
	At      map[string]string // what is wrong with a field, by its place in the API's query
	Rules   []string          // that can be asked for
	Export  string            // query of the export of the same selection
}

// rules are the reasons for which calls are refused, as they are offered: the record has them with keybrake_ before.
var rules = []string{
	"scope_denied", "cap_exceeded", "customer_denied", "param_denied", "request_malformed", "unmeterable", "key_killed", "key_readonly", "key_frozen",
	"key_expired", "key_revoked", "key_invalid", "key_network", "key_mode", "route_unknown", "account_denied", "header_denied", "cap_missing",
	"rate_missing", "version_unknown", "outcome_pending", "idempotency_mismatch", "probe",
}

// auditForm is the filter as it was typed.
type auditForm struct {
	Key, Operation, Verdict, Code, Customer, Min, Max, From, To, Text, Call string
	Deeds                                                                   bool
}

const (
	// auditRows is how many records a page shows, auditScan how many it looks at: a search for something rare goes on by
	// Older rather than keep somebody waiting.
	auditRows = 50
	auditScan = 3000
)

func (v *visit) auditForm() auditForm {
	get := func(name string) string { return strings.TrimSpace(v.r.FormValue(name)) }
	return auditForm{
		Key: get("key"), Operation: get("operation"), Verdict: get("verdict"), Code: get("code"), Customer: get("customer"), Min: get("min"), Max: get("max"),
		From: get("from"), To: get("to"), Text: get("q"), Call: get("call"), Deeds: get("deeds") != "",
	}
}

// filter is what the API is asked; at says which times cannot be read.
func (f auditForm) filter(now time.Time, zone *time.Location) (out admin.AuditFilter, at map[string]string) {
	out = admin.AuditFilter{
		Key: f.Key, Operation: f.Operation, Customer: f.Customer, MinUSD: plainAmount(f.Min), MaxUSD: plainAmount(f.Max), Text: f.Text,
		Call: f.Call, Deeds: f.Deeds, Limit: auditRows, Scan: auditScan,
	}
	switch f.Verdict {
	case "allowed":
		out.Verdict = "allow"
	case "denied":
		out.Verdict = "deny"
	}
	if f.Code != "" {
		out.Code = "keybrake_" + f.Code
	}
	at = map[string]string{}
	read := func(text, location string, to *time.Time) {
		var err error
		if *to, err = instant(text, now, zone); err != nil {
			at[location] = err.Error()
		}
	}
	read(f.From, "query.since", &out.Since)
	read(f.To, "query.until", &out.Until)
	return out, at
}

// instant reads a time as it is typed into the form: in the zone that the page shows, or as the API takes it.
func instant(text string, now time.Time, zone *time.Location) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, "2006-01-02 15:04", "2006-01-02 15:04:05"} {
		if t, err := time.ParseInLocation(layout, text, zone); err == nil {
			return t, nil
		}
	}
	return admin.ParseInstant(text, now)
}

func (v *visit) audit() (*page, error) {
	d := auditPage{Form: v.auditForm(), Rules: rules}
	p := &page{Title: "Audit", Heading: "Audit", Nav: "/audit", Template: "audit"}
	p.Sub = template.HTML(count(v.status.Height) + " records, signed up to " + count(v.status.Signed) + ".")
	f, at := d.Form.filter(v.now, v.zone(v.r))
	f.After = v.r.FormValue("after")
	list, err := v.api.Audit(v.ctx(), f) // with a time that cannot be read too: it says what else is wrong
	_, no := refused(err)
	if err != nil && !no {
		return nil, err
	}
	if no || len(at) > 0 {
		d.At, d.Problem = beside(err, "query.key", "query.operation", "query.min_usd", "query.max_usd", "query.call")
		if d.At == nil {
			d.At = at
		}
		maps.Copy(d.At, at)
		p.Data = d
		return typedAgain(p, nil)
	}
	if d.Rows, err = readRecords(list.Items); err != nil {
		return nil, err
	}
	d.Rows = oneRowPerCall(d.Rows)
	q := v.r.URL.Query()
	q.Del("after")
	d.Export = "/audit/export?" + q.Encode()
	if list.Next != "" {
		q.Set("after", list.Next)
		d.Older = "/audit?" + q.Encode()
		d.Looked = len(list.Items) < auditRows
	}
	p.Data = d
	return p, nil
}

// oneRowPerCall leaves out outcomes whose intent is on the same page, and puts them to it: a call is one row.
func oneRowPerCall(rows []record) []record {
	at := map[int64]int{}
	for i, r := range rows {
		if r.Kind == "intent" {
			at[r.Seq] = i
		}
	}
	told := map[int64]bool{}
	var out []record
	for i := range rows {
		r := rows[i]
		if r.Kind == "outcome" || r.Kind == "reconciled" {
			if j, ok := at[r.Ref]; ok {
				if !told[r.Ref] { // newest first: the first one has the last word
					told[r.Ref] = true
					o := &rows[j]
					o.Fate, o.Why, o.Status, o.OursMicros, o.TheirsMicros = r.Fate, r.Why, r.Status, r.OursMicros, r.TheirsMicros
					if len(r.Effects) > 0 {
						o.Effects = r.Effects
					}
				}
				continue
			}
		}
		out = append(out, r)
	}
	for i := range out {
		if j, ok := at[out[i].Seq]; ok {
			out[i] = rows[j]
		}
	}
	return out
}

// exportAudit streams a selection as a file.
func (s *console) exportAudit(w http.ResponseWriter, r *http.Request) {
	who, ok := s.whose(r)
	if !ok {
		http.Redirect(w, r, "/login?next="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
		return
	}
	v := &visit{console: s, r: r, w: w, who: who, api: s.client(who)}
	f, at := v.auditForm().filter(time.Now(), s.zone(r))
	for _, problem := range at {
		http.Error(w, problem, http.StatusUnprocessableEntity)
		return
	}
	format := "jsonl"
	if r.FormValue("format") == "csv" {
		format = "csv"
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // a whole audit takes longer than a page
	w.Header().Set("Content-Type", map[string]string{"jsonl": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}[format])
	w.Header().Set("Content-Disposition", `attachment; filename="keybrake-audit.`+format+`"`)
	if err := v.api.ExportAudit(r.Context(), f, format, w); err != nil {
		panic(http.ErrAbortHandler) // a cut export must not look like a whole one
	}
}

// recordPage answers: why was this one allowed, what moved, can I trust the record?
type recordPage struct {
	This  *record
	Call  []record // all records of its call, oldest first; itself alone where it belongs to none
	Caps  []capBar
	Chain admin.ChainPlace
	// Before and After are its neighbours.
	Before, After *record
	// Ours and Theirs are where the time went; zero where there is no outcome yet.
	Ours, Theirs time.Duration
	OursW        string
	JSON         string
}

func (v *visit) record() (*page, error) {
	id := v.r.PathValue("id")
	chain, err := v.api.AuditChain(v.ctx(), id)
	if err != nil {
		return nil, err
	}
	list, err := v.api.AuditRecord(v.ctx(), id)
	if err != nil {
		return nil, err
	}
	d := recordPage{Chain: chain}
	if d.Call, err = readRecords(list.Items); err != nil {
		return nil, err
	}
	near := []json.RawMessage{chain.This.Record}
	for _, l := range []*admin.ChainLink{chain.Before, chain.After} {
		if l != nil {
			near = append(near, l.Record)
		}
	}
	records, err := readRecords(near)
	if err != nil {
		return nil, err
	}
	d.This = &records[0]
	for i := range records[1:] {
		if r := &records[i+1]; r.Seq < d.This.Seq {
			d.Before = r
		} else {
			d.After = r
		}
	}
	d.outcome()
	d.JSON = indented(d.This.Raw)
	p := &page{Title: d.This.ID, Heading: recordHeading(&d), Nav: "/audit", Template: "record", Data: d, Crumb: &link{"/audit", "Audit"}}
	if d.This.Key != "" {
		p.Key = stopTarget{ID: d.This.Key, Name: d.This.KeyName}
	}
	return p, nil
}

// outcome puts what became of the call to what is shown of it.
func (d *recordPage) outcome() {
	last := d.This
	for i := range d.Call {
		if r := &d.Call[i]; r.Kind == "outcome" || r.Kind == "reconciled" {
			last = r
		}
		if r := &d.Call[i]; r.OursMicros > 0 {
			d.Ours, d.Theirs = time.Duration(r.OursMicros)*time.Microsecond, time.Duration(r.TheirsMicros)*time.Microsecond
		}
	}
	if last != d.This {
		d.This.Fate, d.This.Why = last.Fate, last.Why
	}
	caps := d.This.Caps
	if len(caps) == 0 {
		caps = last.Caps
	}
	for _, c := range caps {
		d.Caps = append(d.Caps, newCapBar(c))
	}
	if all := d.Ours + d.Theirs; all > 0 {
		d.OursW = tenths(int(max(2, d.Ours*1000/all)))
	}
}

func recordHeading(d *recordPage) string {
	r := d.This
	switch {
	case r.Kind == "operator":
		return r.Operator + ": " + r.Action
	case r.Kind == "system":
		return "Keybrake: " + r.Action
	}
	what := r.What()
	if m := r.Money(); m != "" {
		what += " of " + m
	}
	switch {
	case r.Verdict == "deny", r.Kind == "folded":
		return what + ", refused"
	case r.Fate == "moved":
		return what + ", allowed and settled"
	case r.Fate == "refused":
		return what + ", allowed, refused by Stripe"
	case r.Fate == "unknown":
		return what + ", allowed, outcome unknown"
	default:
		return what + ", allowed"
	}
}

func indented(raw string) string {
	var v any
	if json.Unmarshal([]byte(raw), &v) != nil {
		return raw
	}
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return raw
	}
	return string(b)
}

// verifyAudit checks the whole chain and says what it found.
func (v *visit) verifyAudit() (*page, error) {
	got, err := v.api.VerifyAudit(v.ctx())
	if err != nil {
		return nil, err
	}
	return &page{Title: "Verify", Heading: verifyHeading(got), Nav: "/audit", Template: "verified", Data: got, Crumb: &link{"/audit", "Audit"}}, nil
}

func verifyHeading(got admin.Verification) string {
	if got.OK {
		return "The record is whole."
	}
	return "The record is not whole."
}
