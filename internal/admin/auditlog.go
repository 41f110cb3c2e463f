package admin

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
)

const (
	// auditPage is how many records one read of an export takes. Reads are short on purpose: one that lasts
	// as long as a slow download would keep the store's log from being cut.
	auditPage = 1000
	// tailPoll is how often a tail looks for new records.
	tailPoll = 200 * time.Millisecond
	// defaultAuditLimit is the page of a listing that names none.
	defaultAuditLimit = 100
)

// AuditFilter selects records.
type AuditFilter struct {
	Key   string // id or name of a vault key
	After int64  // number of the last record of the page before
	Limit int    // 0 = 100, at most 1000
	// Ascending reads from the oldest on.
	Ascending bool
	// Since and Until bound the time of records (inclusive, exclusive); zero = open. For exports only.
	Since, Until time.Time
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

// Audit lists records, newest first unless the filter says otherwise: each the stored JSON with its id in
// front.
func (s *Service) Audit(ctx context.Context, f AuditFilter) (List[json.RawMessage], error) {
	out := List[json.RawMessage]{Items: []json.RawMessage{}}
	id, err := s.keyID(f.Key)
	if err != nil {
		return out, err
	}
	limit := f.Limit
	if limit <= 0 {
		limit = defaultAuditLimit
	}
	limit = min(limit, auditPage)
	entries, err := s.query(ctx, store.RecordQuery{Key: id, After: f.After, Limit: limit, Ascending: f.Ascending})
	if err != nil {
		return out, err
	}
	for _, e := range entries {
		out.Items = append(out.Items, withID(&e))
	}
	if len(entries) == limit {
		out.Next = strconv.FormatInt(entries[limit-1].Seq, 10)
	}
	return out, nil
}

func (s *Service) query(ctx context.Context, q store.RecordQuery) (entries []audit.Entry, err error) {
	err = s.Store.View(ctx, func(tx store.Tx) error {
		entries, err = tx.Query(q)
		return err
	})
	return entries, understood("read the audit", err)
}

// withID puts a record's id before its stored fields.
func withID(e *audit.Entry) json.RawMessage {
	out := append(make([]byte, 0, len(e.Bytes)+32), `{"id":"`...)
	out = append(append(out, audit.ID(audit.FirstChain, e.Seq)...), '"')
	if rest, ok := strings.CutPrefix(string(e.Bytes), "{"); ok && rest != "}" {
		return append(append(out, ','), rest...)
	}
	return append(out, '}')
}

// AuditRecord shows a record and, where it belongs to a call, the call's other records, oldest first.
func (s *Service) AuditRecord(ctx context.Context, id string) (List[json.RawMessage], error) {
	out := List[json.RawMessage]{Items: []json.RawMessage{}}
	_, seq, err := audit.ParseID(id)
	if err != nil {
		return out, refuse(Invalid, "%v", err)
	}
	entries, err := s.query(ctx, store.RecordQuery{After: seq - 1, Limit: 1, Ascending: true})
	if err != nil {
		return out, err
	}
	if len(entries) == 0 || entries[0].Seq != seq {
		return out, refuse(NotFound, "there is no record %s", id)
	}
	if call := entries[0].Call; call != 0 {
		if entries, err = s.query(ctx, store.RecordQuery{Call: call, Limit: auditPage, Ascending: true}); err != nil {
			return out, err
		}
	}
	for _, e := range entries {
		out.Items = append(out.Items, withID(&e))
	}
	return out, nil
}

// TailAudit writes the last n records, oldest first, one per line, and then every new one until ctx ends. flush is
// called whenever something was written.
func (s *Service) TailAudit(ctx context.Context, w io.Writer, f AuditFilter, n int, flush func()) error {
	id, err := s.keyID(f.Key)
	if err != nil {
		return err
	}
	var last int64
	if err := s.Store.View(ctx, func(tx store.Tx) error { last, _, err = tx.Height(); return err }); err != nil {
		return understood("read the audit", err)
	}
	if n > 0 {
		entries, err := s.query(ctx, store.RecordQuery{Key: id, After: last + 1, Limit: min(n, auditPage)})
		if err != nil {
			return err
		}
		slices.Reverse(entries)
		if err := writeLines(w, entries); err != nil {
			return err
		}
	}
	flush()
	tick := time.NewTicker(tailPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		entries, err := s.query(ctx, store.RecordQuery{Key: id, After: last, Limit: auditPage, Ascending: true})
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			continue
		}
		last = entries[len(entries)-1].Seq
		if err := writeLines(w, entries); err != nil {
			return err
		}
		flush()
	}
}

func writeLines(w io.Writer, entries []audit.Entry) error {
	for _, e := range entries {
		if _, err := w.Write(append(withID(&e), '\n')); err != nil {
			return fmt.Errorf("write record %d: %w", e.Seq, err)
		}
	}
	return nil
}

// entries reads records in order from after (exclusive) to the number `to` (inclusive), page by page.
func (s *Service) entries(ctx context.Context, after, to int64) iter.Seq2[audit.Entry, error] {
	return func(yield func(audit.Entry, error) bool) {
		for after < to {
			page, err := s.query(ctx, store.RecordQuery{After: after, Limit: auditPage, Ascending: true})
			if err != nil {
				yield(audit.Entry{}, err)
				return
			}
			for _, e := range page {
				if e.Seq > to {
					return
				}
				if !yield(e, nil) {
					return
				}
				after = e.Seq
			}
			if len(page) == 0 {
				return // records are missing; whoever verifies sees it
			}
		}
	}
}

// signed signs the chain as it stands and returns where it ends, with all signed heads.
func (s *Service) signed(ctx context.Context) (height int64, heads []audit.Head, err error) {
	if err := s.Store.SignHead(ctx); err != nil {
		return 0, nil, understood("sign the audit's head", err)
	}
	err = s.Store.View(ctx, func(tx store.Tx) error {
		if height, _, err = tx.Height(); err != nil {
			return err
		}
		heads, err = tx.Heads(1)
		return err
	})
	return height, heads, understood("read the audit", err)
}

// Export is one export of the audit, ready to be written: what can go wrong before the first byte has not.
type Export struct {
	s       *Service
	ctx     context.Context
	height  int64
	heads   []audit.Head
	keep    func(*audit.Entry) bool
	filter  string
	signer  audit.Signer
	started time.Time
}

// PrepareExport signs the chain's head and fixes what an export will hold.
func (s *Service) PrepareExport(ctx context.Context, f AuditFilter) (*Export, error) {
	id, err := s.keyID(f.Key)
	if err != nil {
		return nil, err
	}
	x := &Export{s: s, ctx: ctx, signer: s.Ring.Master(), started: s.Store.Now()}
	if x.height, x.heads, err = s.signed(ctx); err != nil {
		return nil, err
	}
	var words []string
	if id != "" {
		words = append(words, "key "+string(id))
	}
	if !f.Since.IsZero() {
		words = append(words, "since "+stamp(f.Since))
	}
	if !f.Until.IsZero() {
		words = append(words, "until "+stamp(f.Until))
	}
	if x.filter = strings.Join(words, ", "); x.filter != "" {
		x.keep = func(e *audit.Entry) bool {
			return (id == "" || e.Key == id) && (f.Since.IsZero() || !e.At.Before(f.Since)) && (f.Until.IsZero() || e.At.Before(f.Until))
		}
	}
	return x, nil
}

// WriteJSONL writes the export that `audit verify` reads. A filtered one says that it is partial.
func (x *Export) WriteJSONL(w io.Writer) error {
	buffered := bufio.NewWriter(w)
	_, err := audit.Export(buffered, x.s.entries(x.ctx, 0, x.height), audit.ExportOptions{
		After: audit.NewChain(audit.FirstChain), Heads: x.heads, Keep: x.keep, Filter: x.filter, At: x.started, Signer: x.signer,
	})
	if err != nil {
		return err
	}
	return buffered.Flush()
}

// WriteCSV writes the export for spreadsheets. It carries no proof.
func (x *Export) WriteCSV(w io.Writer) error {
	buffered := bufio.NewWriter(w)
	if err := audit.ExportCSV(buffered, x.s.entries(x.ctx, 0, x.height), x.keep); err != nil {
		return err
	}
	return buffered.Flush()
}

// Verification is what a check of the audit found.
type Verification struct {
	OK         bool   `json:"ok"`
	Chain      string `json:"chain"`
	First      int64  `json:"first"`
	Last       int64  `json:"last"`
	Records    int64  `json:"records"`
	LastSigned int64  `json:"last_signed" doc:"last record under a good signature"`
	Partial    bool   `json:"partial"`
	Filter     string `json:"filter,omitempty"`
	PublicKey  string `json:"public_key" doc:"hex; compare it with the one you noted"`
	Trusted    bool   `json:"trusted" doc:"the public key is the one that was asked for"`
	Problem    string `json:"problem,omitempty"`
	ProblemID  string `json:"problem_id,omitempty" doc:"the first record that is not as it was written"`
}

// VerificationOf shows a report.
func VerificationOf(r audit.Report) Verification {
	v := Verification{
		OK: r.OK, Chain: r.Chain, First: r.First, Last: r.Last, Records: r.Records, LastSigned: r.LastSigned,
		Partial: r.Partial, Filter: r.Filter, PublicKey: hex.EncodeToString(r.PublicKey), Trusted: r.Trusted,
	}
	if r.Problem != nil {
		v.Problem, v.ProblemID = r.Problem.String(), r.Problem.ID
	}
	return v
}

// VerifyAudit checks the store's own chain, whole.
func (s *Service) VerifyAudit(ctx context.Context) (Verification, error) {
	height, heads, err := s.signed(ctx)
	if err != nil {
		return Verification{}, err
	}
	report, err := audit.VerifyEntries(audit.NewChain(audit.FirstChain), s.entries(ctx, 0, height), heads, s.Ring.Master().PublicKey())
	if err != nil {
		return Verification{}, err
	}
	return VerificationOf(report), nil
}
