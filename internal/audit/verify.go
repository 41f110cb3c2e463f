package audit

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"strconv"
)

// Report is what verification found. Up to the problem, if there is one, everything is as it was written.
type Report struct {
	OK      bool
	Chain   string
	First   int64 // number of the first record; 0 for none
	Last    int64 // of the last one that was found good
	Records int64 // found good
	// LastSigned is the last record under a good signature: up to there nobody without the signing key
	// can have changed anything.
	LastSigned int64
	// Partial: a filter made the file; records between those it holds exist elsewhere.
	Partial bool
	Filter  string
	// PublicKey signed it. Trusted says that it is the key that the caller gave; without one the file
	// vouches for itself only.
	PublicKey []byte
	Trusted   bool
	// Parts are the parts of the processes that wrote it, where several serve the store; not told of a Partial file.
	Parts   []*Part
	Problem *Problem // the first; nil if OK
}

// Problem is the first thing that is not as it was written.
type Problem struct {
	Seq  int64  // the record concerned; 0 = the file's frame (its first or last line)
	ID   string // RecordID of Seq; empty for 0
	Line int    // of the file, from 1; 0 for a store
	What string // one sentence
}

// String writes the problem for people.
func (p *Problem) String() string {
	where := p.ID
	if where == "" {
		where = "the export"
	}
	if p.Line > 0 {
		where += " (line " + strconv.Itoa(p.Line) + ")"
	}
	return where + ": " + p.What
}

// verifier walks a chain.
type verifier struct {
	report Report
	after  *Chain // where the file must begin; nil: anywhere
	at     Chain  // the end of what was found good
	line   int
	end    bool
	parts  parts
}

// problem notes the first problem and returns false.
func (v *verifier) problem(seq int64, format string, args ...any) bool {
	if v.report.Problem == nil {
		p := &Problem{Seq: seq, Line: v.line, What: fmt.Sprintf(format, args...)}
		if seq > 0 {
			p.ID = ID(v.at.Name, seq)
		}
		v.report.Problem = p
	}
	return false
}

// record checks the next record. prev is its predecessor's hash, which a whole chain knows itself.
func (v *verifier) record(prev, hash [32]byte, body []byte) bool {
	next := v.at.Seq + 1
	seq, chain, ok := place(body)
	switch {
	case !ok:
		return v.problem(next, "the record does not begin with its number and chain as records do")
	case chain != v.at.Name:
		return v.problem(next, "the record is of chain %q, not of %q", chain, v.at.Name)
	case seq < next:
		return v.problem(seq, "the record comes again, or out of its order, after %d", v.at.Seq)
	case seq > next && !v.report.Partial:
		return v.problem(next, "missing: after record %d comes %d", v.at.Seq, seq)
	case Link(prev, body) != hash:
		return v.problem(seq, "the record, its hash or the one before it was changed")
	}
	if v.report.First == 0 {
		v.report.First = seq
	}
	if !v.report.Partial {
		v.parts.whole = v.report.First == 1
		if wrong := v.parts.take(seq, body); wrong != "" {
			return v.problem(seq, "%s", wrong)
		}
		v.report.Parts = v.parts.list
	}
	v.report.Records++
	v.report.Last = seq
	v.at.Seq, v.at.Hash = seq, hash
	return true
}

// head checks a signed head that stands right after its record.
func (v *verifier) head(h Head) bool {
	switch {
	case h.Chain != v.at.Name:
		return v.problem(h.Seq, "a signed head is of chain %q, not of %q", h.Chain, v.at.Name)
	case !bytes.Equal(h.PublicKey, v.report.PublicKey):
		return v.problem(h.Seq, "a head is signed with another key than %x", v.report.PublicKey)
	case !VerifyHead(h):
		return v.problem(h.Seq, "the signature of its head does not hold")
	case h.Seq > v.at.Seq:
		return v.problem(v.at.Seq+1, "missing: a head was signed up to record %d", h.Seq)
	case h.Seq < v.at.Seq || !bytes.Equal(h.Hash, v.at.Hash[:]):
		return v.problem(h.Seq, "its signed head says another hash: something after record %d was changed", v.report.LastSigned)
	}
	v.report.LastSigned = h.Seq
	return true
}

// place reads number and chain from the beginning of a record's bytes; see AppendJSON.
func place(body []byte) (seq int64, chain string, ok bool) {
	rest, ok := bytes.CutPrefix(body, []byte(`{"seq":`))
	digits, rest, cut := bytes.Cut(rest, []byte(`,"chain":"`))
	name, _, closed := bytes.Cut(rest, []byte(`","at":"`))
	if !ok || !cut || !closed || len(digits) > 19 {
		return 0, "", false
	}
	seq, err := strconv.ParseInt(string(digits), 10, 64)
	return seq, string(name), err == nil && seq > 0
}

// VerifyEntries checks a store's own chain: entries in order from after on (NewChain(name) for all), with
// the heads that were signed, ascending. publicKey is the one that signed them. A tail that was cut off
// together with its heads cannot be seen here; the store's mark tells. An error is the iterator's.
func VerifyEntries(after Chain, entries iter.Seq2[Entry, error], heads []Head, publicKey []byte) (Report, error) {
	v := &verifier{at: after, report: Report{Chain: after.Name, PublicKey: publicKey, Trusted: true}}
	v.report.LastSigned = after.Seq
	for len(heads) > 0 && heads[0].Seq <= after.Seq {
		heads = heads[1:]
	}
	for e, err := range entries {
		if err != nil {
			return v.report, fmt.Errorf("read audit record %d: %w", v.at.Seq+1, err)
		}
		if !v.record(v.at.Hash, e.Hash, e.Bytes) {
			return v.report, nil
		}
		if e.Seq != v.at.Seq {
			v.problem(v.at.Seq, "its row has the number %d", e.Seq)
			return v.report, nil
		}
		for len(heads) > 0 && heads[0].Seq == v.at.Seq {
			if !v.head(heads[0]) {
				return v.report, nil
			}
			heads = heads[1:]
		}
	}
	if len(heads) > 0 {
		v.problem(v.at.Seq+1, "missing: a head was signed up to record %d", heads[len(heads)-1].Seq)
		return v.report, nil
	}
	v.report.OK = true
	return v.report, nil
}

// maxLine bounds a line of an export: a record and what stands around it.
const maxLine = MaxRecord + 4096

// Verify checks an exported file or an archive. trusted is the public key that it must be signed with (32 bytes); nil
// takes the file's own, and the report then says that it is not Trusted. An error means that r could not be
// read; whatever is wrong with the content is the report's Problem.
func Verify(r io.Reader, trusted []byte) (Report, error) {
	v := &verifier{}
	err := v.file(r, trusted)
	return v.report, err
}

// VerifyFrom checks an exported file, of which the chain after is the predecessor, and returns where the chain stands at
// its end. publicKey must have signed it. A file that belongs elsewhere in the chain, or to another one, is a Problem.
func VerifyFrom(r io.Reader, after Chain, publicKey []byte) (Report, Chain, error) {
	v := &verifier{after: &after}
	err := v.file(r, publicKey)
	return v.report, v.at, err
}

// file reads an export to its end or to the first problem.
func (v *verifier) file(r io.Reader, trusted []byte) error {
	in := unpacked(bufio.NewReader(r))
	digest := sha256.New()
	var line []byte
	for {
		var err error
		line, err = readLine(in, line[:0])
		v.line++
		var changed notAsWritten
		switch {
		case len(line) > maxLine:
			v.problem(v.at.Seq+1, "the line is longer than any record")
			return nil
		case errors.As(err, &changed):
			v.line = 0 // the file has other lines than its text
			if v.at.Name == "" {
				v.problem(0, "%s", changed)
			} else {
				v.problem(v.at.Seq+1, "%s; signed is up to %d", changed, v.report.LastSigned)
			}
			return nil
		case err != nil && !errors.Is(err, io.EOF):
			return fmt.Errorf("read audit export: %w", err)
		case len(line) == 0:
			v.cut()
			return nil
		}
		whole := bytes.HasSuffix(line, []byte("\n"))
		if !v.next(bytes.TrimSuffix(line, []byte("\n")), digest, trusted) {
			if !whole && !v.end && !json.Valid(line) { // half a line is what a cut leaves: say that, not "changed"
				v.report.Problem = nil
				v.cut()
			}
			return nil
		}
		_, _ = digest.Write(line)
	}
}

// readLine appends the next line, its end included, and gives up on one that is too long.
func readLine(in *bufio.Reader, line []byte) ([]byte, error) {
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) || len(line) > maxLine {
			return line, err
		}
	}
}

// cut judges the end of the file.
func (v *verifier) cut() {
	if v.end {
		v.report.OK = true
		return
	}
	v.problem(v.at.Seq+1, "the export is cut off: its signed last line is missing, and with it any record after %d; signed is up to %d",
		v.at.Seq, v.report.LastSigned)
}

// next takes one line; digest has taken in everything before it.
func (v *verifier) next(line []byte, digest hash.Hash, trusted []byte) bool {
	switch {
	case v.line == 1:
		return v.header(line, trusted)
	case v.end:
		return v.problem(0, "something follows the signed last line")
	case bytes.HasPrefix(line, []byte(`{"end":`)):
		return v.close(line, digest.Sum(nil))
	case bytes.HasPrefix(line, []byte(`{"head":`)):
		var h headLine
		if !strict(line, &h) || v.report.Partial {
			return v.problem(max(v.at.Seq, v.report.First), "the line of a signed head is not as it was written")
		}
		return v.head(h.Head)
	default:
		rec, ok := parseRecordLine(line, v.report.Partial)
		if !ok {
			return v.problem(v.at.Seq+1, "the line is not a record as it was written")
		}
		if !v.report.Partial {
			rec.prev = v.at.Hash
		}
		return v.record(rec.prev, rec.hash, rec.bytes)
	}
}

func (v *verifier) header(line, trusted []byte) bool {
	var h exportHeader
	if !strict(line, &h) || CheckChainName(h.Chain) != nil || !parseHash([]byte(h.Prev), &v.at.Hash) || h.After < 0 {
		return v.problem(0, "the first line is not that of an audit export")
	}
	if h.Version != exportVersion {
		return v.problem(0, "the export has format %d, this program knows %d", h.Version, exportVersion)
	}
	v.at.Name, v.at.Seq = h.Chain, h.After
	v.report.Chain, v.report.Partial, v.report.Filter, v.report.PublicKey = h.Chain, h.Partial, h.Filter, h.PublicKey
	if h.After == 0 && v.at.Hash != NewChain(h.Chain).Hash {
		return v.problem(0, "the export begins at the chain's first record, but with another hash than that of its name")
	}
	if v.after != nil && (v.at != *v.after || h.Partial) {
		return v.problem(0, "it begins after record %d, or after another one of that number, where the chain goes on after record %d", h.After, v.after.Seq)
	}
	if trusted != nil {
		if !bytes.Equal(trusted, h.PublicKey) {
			return v.problem(0, "the export names the public key %x, trusted is %x", h.PublicKey, trusted)
		}
		v.report.Trusted = true
	}
	v.report.LastSigned = h.After
	return true
}

// close checks the signed last line against everything that came before it.
func (v *verifier) close(line, digest []byte) bool {
	var l endLine
	if !strict(line, &l) {
		return v.problem(0, "the signed last line is not as it was written")
	}
	e := l.End
	switch at := hex.EncodeToString(v.at.Hash[:]); {
	case !bytes.Equal(e.PublicKey, v.report.PublicKey):
		return v.problem(0, "the last line is signed with another key than %x", v.report.PublicKey)
	case !verified(e.PublicKey, e.message(), e.Signature):
		return v.problem(0, "the signature of the last line does not hold")
	case e.Chain != v.at.Name || e.Partial != v.report.Partial:
		return v.problem(0, "the last line belongs to another export")
	case !e.Partial && e.Seq > v.at.Seq:
		return v.problem(v.at.Seq+1, "missing: the export was signed up to record %d", e.Seq)
	case e.Records != v.report.Records:
		return v.problem(0, "the export was signed with %d records and has %d", e.Records, v.report.Records)
	case !e.Partial && (e.Seq != v.at.Seq || e.Hash != at):
		return v.problem(v.report.LastSigned+1, "something after record %d was changed and its hashes made anew", v.report.LastSigned)
	case e.Digest != hex.EncodeToString(digest):
		return v.problem(v.report.LastSigned, "the file is not the one that was signed, though every record's hash holds; signed is up to record %d", v.report.LastSigned)
	}
	v.report.LastSigned, v.end = e.Seq, true
	return true
}

// strict decodes a line and accepts it only if it is exactly what encoding gives: JSON has many spellings
// of one value, and a file with a changed byte is a changed file.
func strict[T any](line []byte, to *T) bool {
	if err := json.Unmarshal(line, to); err != nil {
		return false
	}
	again, err := json.Marshal(to)
	return err == nil && bytes.Equal(again, line)
}
