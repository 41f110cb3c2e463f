package admin

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
)

// Verification is what a check of the audit found.
type Verification struct {
	OK         bool   `json:"ok"`
	Chain      string `json:"chain"`
	First      int64  `json:"first"`
	Last       int64  `json:"last"`
	Records    int64  `json:"records"`
	LastSigned int64  `json:"last_signed" doc:"last record under a good signature"`
	Archives   int    `json:"archives,omitempty" doc:"archive files that were read"`
	AbsentTo   int64  `json:"absent_to,omitempty" doc:"records up to this one were in archive files that are not there any more"`
	Absent     int    `json:"absent,omitempty" doc:"how many files those are"`
	Partial    bool   `json:"partial"`
	Filter     string `json:"filter,omitempty"`
	PublicKey  string `json:"public_key" doc:"hex; compare it with the one you noted"`
	Trusted    bool   `json:"trusted" doc:"the public key is the one that was asked for"`
	Problem    string `json:"problem,omitempty"`
	ProblemID  string `json:"problem_id,omitempty" doc:"the first record that is not as it was written"`
	File       string `json:"file,omitempty" doc:"the archive file that is missing or not as it was written"`
	// Nodes are the parts of the processes that wrote it, where several serve the store.
	Nodes []NodePart `json:"nodes,omitempty" doc:"who wrote which part of it, where several processes serve the store"`

	parts []*audit.Part
}

// NodePart is what one process wrote of the record.
type NodePart struct {
	Node    string `json:"node" doc:"its name and the end of its id"`
	First   int64  `json:"first" doc:"its first record"`
	Last    int64  `json:"last" doc:"its last one"`
	Records int64  `json:"records"`
	State   string `json:"state" enum:"open,left,lost" doc:"left: it closed its part; lost: another node did"`
}

// tell takes over the parts of a record.
func (v *Verification) tell(parts []*audit.Part) {
	v.parts, v.Nodes = parts, nil
	for _, p := range parts {
		if p.Records == 0 {
			continue // only its end was looked at
		}
		part := NodePart{Node: p.Node, First: p.First, Last: p.Last, Records: p.Records, State: "open"}
		switch p.Ended {
		case audit.ActionNodeLeave:
			part.State = "left"
		case audit.ActionNodeLost:
			part.State = "lost"
		}
		v.Nodes = append(v.Nodes, part)
	}
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
	v.tell(r.Parts)
	return v
}

// VerifyAudit checks the record as one chain: the archive files, oldest first, and the store's own records after them.
func (s *Service) VerifyAudit(ctx context.Context) (Verification, error) {
	height, heads, err := s.signed(ctx)
	if err != nil {
		return Verification{}, err
	}
	archives, err := s.archives(ctx)
	if err != nil {
		return Verification{}, err
	}
	key := s.Ring.Master().PublicKey()
	at := store.Before(archives)
	whole := Verification{AbsentTo: at.Seq}
	for _, a := range archives {
		if a.Absent {
			whole.Absent++
			continue
		}
		part, end, err := s.verifyArchive(ctx, a, at, key)
		if err != nil {
			return Verification{}, err
		}
		whole.Archives++
		if whole = whole.with(part); !whole.OK {
			whole.File = a.Path
			return whole, nil
		}
		at = end
	}
	report, err := audit.VerifyEntries(at, s.entries(ctx, at.Seq, height), heads, key)
	if err != nil {
		return Verification{}, err
	}
	whole = whole.with(VerificationOf(report))
	s.figures.found(whole, s.Store.Now())
	return whole, nil
}

// with adds what a later part of the record showed.
func (v Verification) with(part Verification) Verification {
	part.Archives, part.Absent, part.AbsentTo = v.Archives, v.Absent, v.AbsentTo
	if part.Records += v.Records; v.First != 0 {
		part.First, part.Last = v.First, max(v.Last, part.Last)
	}
	part.LastSigned = max(v.LastSigned, part.LastSigned)
	parts, outside := audit.JoinParts(v.parts, part.parts, v.AbsentTo == 0)
	if outside != nil && part.OK {
		part.OK, part.ProblemID = false, audit.ID(part.Chain, outside.First)
		part.Problem = fmt.Sprintf("%s: it is of the node %s, whose part of the record had been closed, or was not begun", part.ProblemID, outside.Node)
	}
	part.tell(parts)
	return part
}

// verifyArchive checks one file as the continuation of the chain up to it.
func (s *Service) verifyArchive(ctx context.Context, a store.Archive, after audit.Chain, key []byte) (Verification, audit.Chain, error) {
	wrong := func(r audit.Report, what string) (Verification, audit.Chain, error) {
		r.OK, r.PublicKey, r.Chain, r.Trusted = false, key, after.Name, true
		v := VerificationOf(r)
		v.Problem = (&store.ArchiveError{Path: a.Path, First: a.First, Last: a.Last, What: what}).Error()
		if v.ProblemID == "" {
			v.ProblemID = audit.ID(after.Name, a.First)
		}
		return v, after, nil
	}
	file, err := os.Open(a.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return wrong(audit.Report{}, "it is missing")
	}
	if err != nil {
		return Verification{}, after, fmt.Errorf("read an archive: %w", err)
	}
	defer file.Close() //nolint:errcheck // it was only read
	report, end, err := audit.VerifyFrom(&slowly{ctx: ctx, s: s, in: file}, after, key)
	switch {
	case err != nil:
		return Verification{}, after, fmt.Errorf("read an archive: %w", err)
	case !report.OK:
		return wrong(report, report.Problem.String())
	case end.Seq != a.Last || end.Hash != a.Hash:
		return wrong(report, fmt.Sprintf("it ends with record %d, or with another one of that number than was archived", end.Seq))
	}
	return VerificationOf(report), end, nil
}

// slowly reads an archive as slowly as other long reads of the record while calls add to it.
type slowly struct {
	ctx    context.Context
	s      *Service
	in     io.Reader
	height int64
	read   int
}

// slowlyPage is what is read of an archive at a time: with what it unpacks to, about a page of an export.
const slowlyPage = 16 << 10

// Read implements io.Reader.
func (r *slowly) Read(p []byte) (int, error) {
	if r.read <= 0 {
		before := r.height
		err := r.s.Store.View(r.ctx, func(tx store.Tx) (err error) {
			r.height, _, err = tx.Height()
			return err
		})
		if err == nil {
			err = r.s.longReads.turn(r.ctx, before != 0 && r.height > before, pageEvery)
		}
		if err != nil {
			return 0, err
		}
		r.read = slowlyPage
	}
	n, err := r.in.Read(p[:min(len(p), slowlyPage)])
	r.read -= n
	return n, err
}
