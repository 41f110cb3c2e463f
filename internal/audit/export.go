package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"iter"
	"time"
)

// An export is JSON Lines, meant to be verified without the server:
//
//	{"keybrake_audit_export":1,"chain":..,"after":..,"prev":..,"partial":..,"filter":..,"at":..,"public_key":..}
//	{"hash":"<64 hex>","record":<the stored bytes>}
//	{"head":{..}}                           wherever the store had signed
//	{"end":{..,"digest":..,"signature":..}} the last line, over everything before it
//
// A partial export holds the records that a filter kept, each with the hash of the one before it in the
// chain: {"prev":"..","hash":"..","record":..}. The chain cannot show there that nothing was left out; the
// signed end does.
const exportVersion = 1

type exportHeader struct {
	Version   int       `json:"keybrake_audit_export"`
	Chain     string    `json:"chain"`
	After     int64     `json:"after"` // the first record's number less one
	Prev      string    `json:"prev"`  // hash of that record
	Partial   bool      `json:"partial"`
	Filter    string    `json:"filter,omitempty"`
	At        time.Time `json:"at"`
	PublicKey []byte    `json:"public_key"`
}

type headLine struct {
	Head Head `json:"head"`
}

type endLine struct {
	End exportEnd `json:"end"`
}

// exportEnd closes an export: where the chain stood, how many records are in the file, and a digest of all
// of it, signed.
type exportEnd struct {
	Chain     string    `json:"chain"`
	After     int64     `json:"after"`
	Seq       int64     `json:"seq"` // of the last record that was looked at, kept or not
	Hash      string    `json:"hash"`
	Records   int64     `json:"records"`
	Partial   bool      `json:"partial"`
	Digest    string    `json:"digest"` // SHA-256 of every byte before this line
	At        time.Time `json:"at"`
	PublicKey []byte    `json:"public_key"`
	Signature []byte    `json:"signature"`
}

func (e *exportEnd) message() []byte {
	return fmt.Appendf(nil, "keybrake-audit-export-v1\n%s\n%d\n%d\n%s\n%d\n%t\n%s\n%s\n", e.Chain, e.After, e.Seq, e.Hash,
		e.Records, e.Partial, e.Digest, e.At.UTC().Format(timeFormat))
}

// ExportOptions says what an export holds.
type ExportOptions struct {
	// After is the chain as it was before the first entry: NewChain(name) for an export from the start.
	After Chain
	// Heads are the signed heads within the range, ascending. A partial export leaves them out.
	Heads []Head
	// Keep makes the export partial: entries for which it returns false are passed over. Filter says in
	// words what it keeps.
	Keep   func(*Entry) bool
	Filter string
	At     time.Time
	Signer Signer
}

// Export writes entries, which must follow each other without a gap from o.After on, and closes them with a
// signature. It writes entries as they are stored, also where they would not verify: an export is evidence.
// It returns the end of the chain that was written. w is written to in small pieces; wrap it in a buffer.
func Export(w io.Writer, entries iter.Seq2[Entry, error], o ExportOptions) (Chain, error) {
	out := &exporter{w: w, digest: sha256.New()}
	at, key := o.At.UTC().Truncate(time.Microsecond), o.Signer.PublicKey()
	out.json(exportHeader{
		Version: exportVersion, Chain: o.After.Name, After: o.After.Seq, Prev: hex.EncodeToString(o.After.Hash[:]),
		Partial: o.Keep != nil, Filter: o.Filter, At: at, PublicKey: key,
	})
	end, heads := o.After, o.Heads
	var kept int64
	for e, err := range entries {
		if err != nil {
			return end, fmt.Errorf("export audit record %d: %w", end.Seq+1, err)
		}
		if o.Keep == nil || o.Keep(&e) {
			kept++
			out.record(end.Hash, &e, o.Keep != nil)
		}
		end.Seq, end.Hash = e.Seq, e.Hash
		for o.Keep == nil && len(heads) > 0 && heads[0].Seq <= end.Seq {
			if heads[0].Seq == end.Seq {
				out.json(headLine{heads[0]})
			}
			heads = heads[1:]
		}
		if out.err != nil {
			break
		}
	}
	last := exportEnd{
		Chain: end.Name, After: o.After.Seq, Seq: end.Seq, Hash: hex.EncodeToString(end.Hash[:]), Records: kept,
		Partial: o.Keep != nil, Digest: hex.EncodeToString(out.digest.Sum(nil)), At: at, PublicKey: key,
	}
	last.Signature = o.Signer.Sign(last.message())
	out.json(endLine{last})
	if out.err != nil {
		return end, fmt.Errorf("write audit export: %w", out.err)
	}
	return end, nil
}

// exporter keeps the first error and writes nothing after it.
type exporter struct {
	w      io.Writer
	digest hash.Hash
	line   []byte
	err    error
}

func (x *exporter) write(line []byte) {
	if x.err == nil {
		_, _ = x.digest.Write(line)
		_, x.err = x.w.Write(line)
	}
}

func (x *exporter) json(v any) {
	line, err := json.Marshal(v)
	if err != nil {
		if x.err == nil {
			x.err = err
		}
		return
	}
	x.write(append(line, '\n'))
}

const (
	openPrev   = `{"prev":"`
	openHash   = `{"hash":"`
	thenHash   = `","hash":"`
	thenRecord = `","record":`
)

func (x *exporter) record(prev [32]byte, e *Entry, partial bool) {
	b := x.line[:0]
	if partial {
		b = append(hex.AppendEncode(append(b, openPrev...), prev[:]), thenHash...)
	} else {
		b = append(b, openHash...)
	}
	b = append(hex.AppendEncode(b, e.Hash[:]), thenRecord...)
	b = append(append(b, e.Bytes...), "}\n"...)
	x.line = b
	x.write(b)
}

// recordLine is a record's line taken apart.
type recordLine struct {
	prev, hash [32]byte
	bytes      []byte
}

// parseRecordLine accepts exactly what exporter.record writes, without its line end.
func parseRecordLine(line []byte, partial bool) (recordLine, bool) {
	var r recordLine
	rest, ok := line, false
	if partial {
		if rest, ok = cutHash(rest, openPrev, &r.prev); !ok {
			return r, false
		}
		rest, ok = cutHash(rest, thenHash, &r.hash)
	} else {
		rest, ok = cutHash(rest, openHash, &r.hash)
	}
	if !ok {
		return r, false
	}
	if rest, ok = bytes.CutPrefix(rest, []byte(thenRecord)); !ok {
		return r, false
	}
	r.bytes, ok = bytes.CutSuffix(rest, []byte("}"))
	return r, ok
}

// cutHash reads a fixed text and 64 hex digits after it.
func cutHash(b []byte, before string, to *[32]byte) (rest []byte, ok bool) {
	if b, ok = bytes.CutPrefix(b, []byte(before)); !ok || len(b) < 64 {
		return b, false
	}
	return b[64:], parseHash(b[:64], to)
}

// parseHash reads 64 hex digits in lower case: a changed byte must not read alike.
func parseHash(text []byte, to *[32]byte) bool {
	if len(text) != 64 || bytes.ContainsAny(text, "ABCDEF") {
		return false
	}
	_, err := hex.Decode(to[:], text)
	return err == nil
}
