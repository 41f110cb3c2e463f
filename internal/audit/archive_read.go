package audit

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"slices"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
)

// notAsWritten says in what a file differs from what was written, as opposed to a file that cannot be read.
type notAsWritten string

func (n notAsWritten) Error() string { return string(n) }

// block is what the head of an archive's block says.
type block struct {
	first   int64
	records int64
	packed  int64 // length of the compressed data
	at      int64 // where its head is in the file
	sum     uint32
}

func parseBlock(head []byte) (b block, ok bool) {
	if len(head) != blockHead || string(head[:len(blockPrefix)]) != blockPrefix {
		return block{}, false
	}
	numbers := head[len(blockPrefix):]
	b.first = int64(binary.LittleEndian.Uint64(numbers))
	b.records = int64(binary.LittleEndian.Uint32(numbers[8:]))
	b.packed = int64(binary.LittleEndian.Uint32(numbers[12:]))
	b.sum = binary.LittleEndian.Uint32(numbers[16:])
	return b, b.first > 0 && b.records <= blockRecords && b.packed <= maxBlock
}

// unpack returns a block's text, if head and body (the compressed data with the trailer) are as they were written.
func (b block) unpack(head, body []byte) ([]byte, error) {
	if blockSum(head, body) != b.sum {
		return nil, notAsWritten("a part of the file was changed: its sum does not hold")
	}
	packed, trailer := body[:b.packed], body[b.packed:]
	text, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), maxBlock+1))
	if err != nil || crc32.ChecksumIEEE(text) != binary.LittleEndian.Uint32(trailer) || uint32(len(text)) != binary.LittleEndian.Uint32(trailer[4:]) {
		return nil, notAsWritten("a part of the file does not unpack to what was packed")
	}
	n := int64(0)
	for line := range bytes.Lines(text) {
		if !bytes.HasPrefix(line, []byte(openHash)) {
			continue
		}
		if n++; n == 1 {
			rec, _ := parseRecordLine(bytes.TrimSuffix(line, []byte("\n")), false)
			if seq, _, _ := place(rec.bytes); seq != b.first {
				return nil, notAsWritten(fmt.Sprintf("a part of the file is said to begin with record %d and does not", b.first))
			}
		}
	}
	if n != b.records {
		return nil, notAsWritten(fmt.Sprintf("a part of the file is said to have %d records and has %d", b.records, n))
	}
	return text, nil
}

// unpacker reads an archive's text from its beginning to its end. Its errors are notAsWritten or the reader's.
type unpacker struct {
	in   io.Reader
	text []byte
}

// Read implements io.Reader.
func (u *unpacker) Read(p []byte) (int, error) {
	for len(u.text) == 0 {
		if err := u.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, u.text)
	u.text = u.text[n:]
	return n, nil
}

func (u *unpacker) next() error {
	head := make([]byte, blockHead)
	switch _, err := io.ReadFull(u.in, head); {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return notAsWritten("the file is cut off, or something was added at its end")
	case err != nil: // io.EOF where the file ends
		return err
	}
	b, ok := parseBlock(head)
	if !ok {
		return notAsWritten("a part of the file does not begin as archives do; if it was packed by another program, unpack it first")
	}
	var body bytes.Buffer // grows as data comes: the length is only what the file says
	switch _, err := io.CopyN(&body, u.in, b.packed+blockTrailer); {
	case errors.Is(err, io.EOF):
		return notAsWritten("the file is cut off")
	case err != nil:
		return err
	}
	text, err := b.unpack(head, body.Bytes())
	u.text = text
	return err
}

// unpacked returns the text of an archive or, of anything else, what it is.
func unpacked(in *bufio.Reader) *bufio.Reader {
	if magic, _ := in.Peek(len(gzipMagic)); string(magic) == gzipMagic {
		return bufio.NewReader(&unpacker{in: in})
	}
	return in
}

// Archive reads records out of an archive by their numbers, a block at a time. What it returns is whole by the file's
// own sums; whether it is what was written is for VerifyFrom to say. Safe for concurrent use if its reader is.
type Archive struct {
	in     io.ReaderAt
	blocks []block
}

// OpenArchive reads where an archive's blocks are. An error says that the file is not as it was written, or cannot be
// read.
func OpenArchive(in io.ReaderAt, size int64) (*Archive, error) {
	a := &Archive{in: in}
	head := make([]byte, blockHead)
	for at := int64(0); at < size; {
		if _, err := in.ReadAt(head, at); err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read archive: %w", err)
		}
		b, ok := parseBlock(head)
		if !ok || at+blockHead+b.packed+blockTrailer > size {
			return nil, notAsWritten("the file is cut off or changed")
		}
		if n := len(a.blocks); n > 0 && b.first != a.blocks[n-1].first+a.blocks[n-1].records {
			return nil, notAsWritten(fmt.Sprintf("a part that begins with record %d is missing", a.blocks[n-1].first+a.blocks[n-1].records))
		}
		b.at = at
		at += blockHead + b.packed + blockTrailer
		a.blocks = append(a.blocks, b)
	}
	if len(a.blocks) == 0 {
		return nil, notAsWritten("the file is empty")
	}
	return a, nil
}

// Range returns the numbers of the first and the last record.
func (a *Archive) Range() (first, last int64) {
	end := a.blocks[len(a.blocks)-1]
	return a.blocks[0].first, end.first + end.records - 1
}

// Entries reads records in the order of their numbers, or the other way, beginning with number from.
func (a *Archive) Entries(from int64, ascending bool) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		i, _ := slices.BinarySearchFunc(a.blocks, from, func(b block, from int64) int { return cmp.Compare(b.first, from+1) })
		step := -1
		if ascending {
			step = 1
		}
		for i = max(i-1, 0); i >= 0 && i < len(a.blocks); i += step {
			entries, err := a.read(a.blocks[i])
			if err != nil {
				yield(Entry{}, err)
				return
			}
			if !ascending {
				slices.Reverse(entries)
			}
			for _, e := range entries {
				if passed := cmp.Compare(e.Seq, from) * step; passed >= 0 && !yield(e, nil) {
					return
				}
			}
		}
	}
}

// FirstAt is the number of the first record that was written at a time or later; one more than the last number if
// there is none.
func (a *Archive) FirstAt(at time.Time) (int64, error) {
	low, high := 0, len(a.blocks) // of the blocks whose first record is older, the last may have it
	for low < high {
		middle := low + (high-low)/2
		entries, err := a.read(a.blocks[middle])
		if err != nil {
			return 0, err
		}
		if len(entries) > 0 && entries[0].At.Before(at) {
			low = middle + 1
		} else {
			high = middle
		}
	}
	for e, err := range a.Entries(a.blocks[max(low-1, 0)].first, true) {
		if err != nil || !e.At.Before(at) {
			return e.Seq, err
		}
	}
	_, last := a.Range()
	return last + 1, nil
}

// read reads a block's records.
func (a *Archive) read(b block) ([]Entry, error) {
	raw := make([]byte, blockHead+b.packed+blockTrailer)
	if _, err := a.in.ReadAt(raw, b.at); err != nil {
		return nil, fmt.Errorf("read archive: %w", err)
	}
	text, err := b.unpack(raw[:blockHead], raw[blockHead:])
	if err != nil {
		return nil, err
	}
	out := make([]Entry, 0, b.records)
	for line := range bytes.Lines(text) {
		if !bytes.HasPrefix(line, []byte(openHash)) {
			continue
		}
		rec, ok := parseRecordLine(bytes.TrimSuffix(line, []byte("\n")), false)
		rec.bytes = bytes.Clone(rec.bytes) // who keeps one record must not keep its block
		e, located := locate(rec)
		if want := b.first + int64(len(out)); !ok || !located || e.Seq != want {
			return nil, notAsWritten(fmt.Sprintf("record %d is not as records are", want))
		}
		out = append(out, e)
	}
	return out, nil
}

// locate finds out what a store keeps beside a record's bytes. Millions are read to find one, so it reads no more
// than the beginning, where AppendJSON writes these fields in this order.
func locate(rec recordLine) (Entry, bool) {
	e := Entry{Hash: rec.hash, Bytes: rec.bytes}
	var ok bool
	if e.Seq, _, ok = place(rec.bytes); !ok {
		return e, false
	}
	_, rest, _ := bytes.Cut(rec.bytes, []byte(`,"at":"`))
	at, rest, _ := bytes.Cut(rest, []byte(`","kind":"`))
	kind, rest, ok := bytes.Cut(rest, []byte(`"`))
	if !ok {
		return e, false
	}
	var err error
	if e.At, err = time.Parse(timeFormat, string(at)); err != nil {
		return e, false
	}
	r := Record{Seq: e.Seq, Kind: Kind(kind)}
	if digits, found := bytes.CutPrefix(rest, []byte(`,"ref":`)); found {
		n := 0
		for ; n < len(digits) && digits[n] >= '0' && digits[n] <= '9'; n++ {
			r.Ref = r.Ref*10 + int64(digits[n]-'0')
		}
		rest = digits[n:]
	}
	e.Call = r.Call()
	if text, found := bytes.CutPrefix(rest, []byte(`,"key":"`)); found {
		key, _, _ := bytes.Cut(text, []byte(`"`))
		e.Key = policy.KeyID(key)
		if bytes.IndexByte(key, '\\') >= 0 { // ours never have one
			whole, err := Decode(rec.bytes)
			if err != nil {
				return e, false
			}
			e.Key = whole.Key
		}
	}
	return e, true
}
