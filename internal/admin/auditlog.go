package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
)

const (
	// auditPage is the largest page of a listing.
	auditPage = 1000
	// exportPage is how many records one read of an export or a verification takes. Reads are short on purpose:
	// one that lasts as long as a slow download would keep the store's log from being cut.
	exportPage = 256
	// exportBuffer is what is written at once: some hundred records, not five.
	exportBuffer = 256 << 10
	// tailPoll is how often a tail looks for new records.
	tailPoll = 200 * time.Millisecond
)

func (s *Service) query(ctx context.Context, q store.RecordQuery) (page store.RecordPage, err error) {
	err = s.Store.View(ctx, func(tx store.Tx) error {
		page, err = tx.Query(q)
		return err
	})
	return page, understood("read the audit", err)
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
	entry, err := s.record(ctx, id)
	if err != nil {
		return out, err
	}
	entries := []audit.Entry{entry}
	if entry.Call != 0 {
		page, err := s.query(ctx, store.RecordQuery{Call: entry.Call, Limit: auditPage, Ascending: true})
		if err != nil {
			return out, err
		}
		entries = page.Entries
	}
	for _, e := range entries {
		out.Items = append(out.Items, withID(&e))
	}
	return out, nil
}

// record finds one record by its id.
func (s *Service) record(ctx context.Context, id string) (audit.Entry, error) {
	_, seq, err := audit.ParseID(id)
	if err != nil {
		return audit.Entry{}, refuse(Invalid, "%v", err)
	}
	page, err := s.query(ctx, store.RecordQuery{From: seq, To: seq})
	switch {
	case err != nil:
		return audit.Entry{}, err
	case len(page.Entries) == 0:
		return audit.Entry{}, s.noRecord(ctx, id, seq)
	}
	return page.Entries[0], nil
}

// TailAudit writes the last n records that the filter selects, oldest first, one per line, and then every new one
// until ctx ends. It looks back through as many records as one page of a listing does. flush is called whenever
// something was written.
func (s *Service) TailAudit(ctx context.Context, w io.Writer, f AuditFilter, n int, flush func()) error {
	search, err := s.search(ctx, f)
	if err != nil {
		return err
	}
	var last int64
	if err := s.Store.View(ctx, func(tx store.Tx) error { last, _, err = tx.Height(); return err }); err != nil {
		return understood("read the audit", err)
	}
	if n > 0 {
		back := search
		back.query.After, back.query.Ascending = last+1, false
		entries, _, err := back.page(ctx, min(n, auditPage))
		if err != nil {
			return err
		}
		slices.Reverse(entries)
		if err := writeLines(w, entries); err != nil {
			return err
		}
	}
	flush()
	search.query.After, search.query.Ascending = last, true
	tick := time.NewTicker(tailPoll)
	defer tick.Stop()
	for {
		entries, more, err := search.page(ctx, auditPage)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if len(entries) > 0 {
			if err := writeLines(w, entries); err != nil {
				return err
			}
			flush()
		}
		if more {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
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

// entries reads records in order from after (exclusive) to the number `to` (inclusive), page by page, and slower
// while calls add records.
func (s *Service) entries(ctx context.Context, after, to int64) iter.Seq2[audit.Entry, error] {
	return func(yield func(audit.Entry, error) bool) {
		for height := to; after < to; {
			page, now, err := s.page(ctx, after)
			if err == nil {
				err = s.longReads.turn(ctx, now > height, pageEvery)
			}
			if err != nil {
				yield(audit.Entry{}, err)
				return
			}
			height = now
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

// page reads the records after a number and how many there are by now.
func (s *Service) page(ctx context.Context, after int64) (entries []audit.Entry, height int64, err error) {
	err = s.Store.View(ctx, func(tx store.Tx) error {
		if height, _, err = tx.Height(); err != nil {
			return err
		}
		page, err := tx.Query(store.RecordQuery{After: after, Limit: exportPage, Ascending: true})
		entries = page.Entries
		return err
	})
	return entries, height, understood("read the audit", err)
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

// noRecord says why there is no record.
func (s *Service) noRecord(ctx context.Context, id string, seq int64) error {
	archives, err := s.archives(ctx)
	if err != nil {
		return err
	}
	for _, a := range archives {
		if a.Absent && a.First <= seq && seq <= a.Last {
			return refuse(NotFound, "the record %s was in the archive file %s, which is not there any more", id, a.Path)
		}
	}
	return refuse(NotFound, "there is no record %s", id)
}

func (s *Service) archives(ctx context.Context) (out []store.Archive, err error) {
	err = s.Store.View(ctx, func(tx store.Tx) error {
		out, err = tx.Archives()
		return err
	})
	return out, understood("read the audit", err)
}

// Export is one export of the audit, ready to be written: what can go wrong before the first byte has not.
type Export struct {
	s       *Service
	ctx     context.Context
	after   audit.Chain // before the first record that is there
	height  int64
	heads   []audit.Head
	keep    func(*audit.Entry) bool
	filter  string
	signer  audit.Signer
	started time.Time
}

// PrepareExport signs the chain's head and fixes what an export will hold.
func (s *Service) PrepareExport(ctx context.Context, f AuditFilter) (*Export, error) {
	search, err := s.search(ctx, f)
	if err != nil {
		return nil, err
	}
	x := &Export{s: s, ctx: ctx, signer: s.Ring.Master(), started: s.Store.Now(), filter: search.filter.String()}
	if x.height, x.heads, err = s.signed(ctx); err != nil {
		return nil, err
	}
	archives, err := s.archives(ctx)
	if err != nil {
		return nil, err
	}
	x.after = store.Before(archives)
	if search.query.Deeds {
		x.filter = strings.TrimSpace(x.filter + " deeds " + f.Text)
	}
	if x.filter != "" {
		x.keep = search.match
	}
	return x, nil
}

// WriteJSONL writes the export that `audit verify` reads. A filtered one says that it is partial.
func (x *Export) WriteJSONL(w io.Writer) error {
	buffered := bufio.NewWriterSize(w, exportBuffer)
	_, err := audit.Export(buffered, x.s.entries(x.ctx, x.after.Seq, x.height), audit.ExportOptions{
		After: x.after, Heads: x.heads, Keep: x.keep, Filter: x.filter, At: x.started, Signer: x.signer,
	})
	if err != nil {
		return err
	}
	return buffered.Flush()
}

// WriteCSV writes the export for spreadsheets. It carries no proof.
func (x *Export) WriteCSV(w io.Writer) error {
	buffered := bufio.NewWriterSize(w, exportBuffer)
	if err := audit.ExportCSV(buffered, x.s.entries(x.ctx, x.after.Seq, x.height), x.keep); err != nil {
		return err
	}
	return buffered.Flush()
}
