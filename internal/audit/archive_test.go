package audit

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keybrake/keybrake/internal/policy"
)

// archive packs a stretch of a log.
func archive(t testing.TB, l *log, s Signer) []byte {
	t.Helper()
	after := NewChain("1")
	if first := l.entries[0].Seq; first > 1 {
		after = Chain{Name: "1", Seq: first - 1, Hash: newLog(int(first)-1, s).entries[first-2].Hash}
	}
	var out bytes.Buffer
	if _, err := WriteArchive(&out, l.all(), ExportOptions{After: after, Heads: l.heads, At: noon, Signer: s}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func stretch(l *log, from, to int) *log { return &log{entries: l.entries[from-1 : to], heads: l.heads} }

func TestAnArchiveIsTheExportThatAnyGzipUnpacks(t *testing.T) {
	s := newSigner(0)
	for _, n := range []int{1, 10, blockRecords, blockRecords + 1, 3*blockRecords + 7} {
		l := newLog(n, s)
		packed := archive(t, l, s)
		z, err := gzip.NewReader(bytes.NewReader(packed))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(text, export(t, l, s, nil)) {
			t.Errorf("%d records: gzip unpacks it to something else", n)
		}
		want := Report{OK: true, Chain: "1", First: 1, Last: int64(n), Records: int64(n), LastSigned: int64(n), PublicKey: s.PublicKey(), Trusted: true}
		if diff := cmp.Diff(want, verify(t, packed, s.PublicKey())); diff != "" {
			t.Errorf("%d records: %s", n, diff)
		}
		if r := verify(t, packed, newSigner(1).PublicKey()); r.OK {
			t.Error("it verifies under another key")
		}
	}
}

func TestAnArchiveContinuesTheOneBefore(t *testing.T) {
	s := newSigner(0)
	l := newLog(30, s)
	one, two, three := archive(t, stretch(l, 1, 10), s), archive(t, stretch(l, 11, 20), s), archive(t, stretch(l, 21, 30), s)
	at := NewChain("1")
	for i, file := range [][]byte{one, two, three} {
		r, end, err := VerifyFrom(bytes.NewReader(file), at, s.PublicKey())
		if err != nil || !r.OK || end.Seq != int64(i+1)*10 || end.Hash != l.entries[end.Seq-1].Hash {
			t.Fatalf("file %d: %+v, %+v, %v", i+1, r, end, err)
		}
		at = end
	}
	after := Chain{Name: "1", Seq: 10, Hash: l.entries[9].Hash}
	other := Chain{Name: "1", Seq: 10, Hash: l.entries[8].Hash}
	for name, test := range map[string]struct {
		file  []byte
		after Chain
	}{
		"one left out":      {three, after},
		"the one before":    {one, after},
		"another history":   {two, other},
		"a partial export":  {export(t, l, s, func(o *ExportOptions) { o.Keep = func(*Entry) bool { return true } }), NewChain("1")},
		"from another key":  {archive(t, newLog(10, newSigner(1)), newSigner(1)), NewChain("1")},
		"of another chain":  {export(t, &log{}, s, func(o *ExportOptions) { o.After = NewChain("2") }), NewChain("1")},
		"no archive at all": {[]byte("{}\n"), NewChain("1")},
	} {
		if r, _, err := VerifyFrom(bytes.NewReader(test.file), test.after, s.PublicKey()); err != nil || r.OK || r.Problem == nil {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

func TestNoByteOfAnArchiveCanChange(t *testing.T) {
	s := newSigner(0)
	l := newLog(5, s)
	file := archive(t, l, s)
	for i := range file {
		bits := []int{i % 8, (i + 3) % 8}
		if i < blockHead || i >= len(file)-blockTrailer-8 { // where gzip itself would not look at every bit
			bits = []int{0, 1, 2, 3, 4, 5, 6, 7}
		}
		for _, bit := range bits {
			changed := bytes.Clone(file)
			changed[i] ^= 1 << bit
			if r := verify(t, changed, s.PublicKey()); r.OK {
				t.Fatalf("bit %d of byte %d (of %d) was flipped, and it verifies", bit, i, len(file))
			}
			if got, err := readAll(changed, 1, true); err == nil && !same(l.entries, got) {
				t.Fatalf("bit %d of byte %d was flipped, and other records are read without an error", bit, i)
			}
		}
		if r := verify(t, file[:i], s.PublicKey()); r.OK {
			t.Fatalf("it was cut to %d bytes of %d, and verifies", i, len(file))
		}
		if r := verify(t, slices.Insert(bytes.Clone(file), i, 0), s.PublicKey()); r.OK {
			t.Fatalf("a byte was put before byte %d of %d, and it verifies", i, len(file))
		}
	}
	if r := verify(t, append(bytes.Clone(file), 0), s.PublicKey()); r.OK {
		t.Error("a byte was added, and it verifies")
	}
}

func TestNoBlockOfAnArchiveCanBeMissingOrElsewhere(t *testing.T) {
	s := newSigner(0)
	l := newLog(3*blockRecords, s)
	file := archive(t, l, s)
	a, err := OpenArchive(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	var parts [][]byte
	for i, b := range a.blocks {
		end := int64(len(file))
		if i+1 < len(a.blocks) {
			end = a.blocks[i+1].at
		}
		parts = append(parts, file[b.at:end])
	}
	if len(parts) != 3 {
		t.Fatalf("%d blocks", len(parts))
	}
	for name, order := range map[string][]int{
		"the first is missing": {1, 2}, "the middle is missing": {0, 2}, "the last is missing": {0, 1}, "two are swapped": {0, 2, 1}, "one comes twice": {0, 1, 1, 2}, "none is there": {},
	} {
		var changed []byte
		for _, i := range order {
			changed = append(changed, parts[i]...)
		}
		if r := verify(t, changed, s.PublicKey()); r.OK {
			t.Errorf("%s, and it verifies", name)
		}
		if got, err := readAll(changed, 1, true); err == nil && len(got) == len(l.entries) {
			t.Errorf("%s, and all is read", name)
		}
	}
	if r := verify(t, slices.Concat(parts[0], parts[2]), s.PublicKey()); r.Problem.Seq != blockRecords+1 {
		t.Errorf("the middle is missing: %+v", r.Problem)
	}
}

func TestRecordsAreReadFromAnArchiveByNumber(t *testing.T) {
	s := newSigner(0)
	const first, n = 101, 2*blockRecords + 150
	l := stretch(newLog(n, s), first, n)
	file := archive(t, l, s)
	a, err := OpenArchive(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	if from, to := a.Range(); from != first || to != n {
		t.Errorf("it has %d to %d", from, to)
	}
	down := slices.Clone(l.entries)
	slices.Reverse(down)
	for _, from := range []int64{1, first - 1, first, first + 1, first + blockRecords - 1, first + blockRecords, first + blockRecords + 1, n - 1, n, n + 1} {
		for _, ascending := range []bool{true, false} {
			all, in := l.entries, func(e Entry) bool { return e.Seq < from }
			if !ascending {
				all, in = down, func(e Entry) bool { return e.Seq > from }
			}
			want := slices.DeleteFunc(slices.Clone(all), in)
			got, err := readAll(file, from, ascending)
			if err != nil || !same(want, got) {
				t.Errorf("from %d, ascending %t: %d records, want %d; %v", from, ascending, len(got), len(want), err)
			}
		}
	}
	for _, i := range []int{0, 1, 57, blockRecords - 1, blockRecords, blockRecords + 1, len(l.entries) - 1} {
		for _, before := range []time.Duration{0, time.Millisecond} {
			if got, err := a.FirstAt(l.entries[i].At.Add(-before)); err != nil || got != l.entries[i].Seq {
				t.Errorf("the first since %s before record %d: %d, %v", before, l.entries[i].Seq, got, err)
			}
		}
	}
	if got, err := a.FirstAt(l.entries[len(l.entries)-1].At.Add(1)); err != nil || got != n+1 {
		t.Errorf("the first behind the last: %d, %v", got, err)
	}
}

func readAll(file []byte, from int64, ascending bool) (out []Entry, err error) {
	a, err := OpenArchive(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		return nil, err
	}
	for e, err := range a.Entries(from, ascending) {
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

func same(a, b []Entry) bool {
	return slices.EqualFunc(a, b, func(x, y Entry) bool {
		return x.Seq == y.Seq && x.At.Equal(y.At) && x.Key == y.Key && x.Call == y.Call && x.Hash == y.Hash && bytes.Equal(x.Bytes, y.Bytes)
	})
}

func TestWhatAStoreKeepsIsFoundInARecordsBytes(t *testing.T) {
	c := NewChain("a-chain")
	for _, r := range []*Record{
		refund(),
		{At: noon, Kind: KindOutcome, Ref: 1, Key: "key_two"},
		{At: noon, Kind: KindDenied, Presented: "vault_key_…"},
		{At: noon, Kind: KindFolded, Ref: 3, Key: "key_two", Count: 9},
		{At: noon, Kind: KindReconciled, Ref: 1, Key: `key "of" \ nobody`},
		{At: noon, Kind: KindSystem, Action: `,"key":"key_two"`},
		{At: noon, Kind: KindOperator, KeyName: "x", Reason: `","ref":5,"key":"key_two"`},
	} {
		want := c.Append(r)
		got, ok := locate(recordLine{hash: want.Hash, bytes: want.Bytes})
		if diff := cmp.Diff(want, got); diff != "" || !ok {
			t.Errorf("%s: %t, %s", want.Bytes, ok, diff)
		}
	}
}

func TestABlockEndsAlsoWhereItsRecordsAreLong(t *testing.T) {
	s := newSigner(0)
	l, c := &log{}, NewChain("1")
	for i := range 200 {
		failures := make([]policy.Failure, maxFailures)
		for f := range failures {
			failures[f] = policy.Failure{Code: policy.CodeParamDenied, Message: strings.Repeat(fmt.Sprintf("no %d in %d ", f, i), 100)}
		}
		l.entries = append(l.entries, c.Append(&Record{At: noon, Kind: KindDenied, Failures: failures}))
	}
	file := archive(t, l, s)
	if r := verify(t, file, s.PublicKey()); !r.OK {
		t.Fatalf("%+v", r.Problem)
	}
	a, err := OpenArchive(bytes.NewReader(file), int64(len(file)))
	if err != nil || len(a.blocks) < 3 {
		t.Errorf("%d blocks, %v", len(a.blocks), err)
	}
	if got, err := readAll(file, 150, true); err != nil || len(got) != 51 {
		t.Errorf("%d records, %v", len(got), err)
	}
}

func TestAnArchiveThatCannotBeWrittenIsAnError(t *testing.T) {
	s := newSigner(0)
	l := newLog(2*blockRecords, s)
	whole := len(archive(t, l, s))
	for _, room := range []int{0, blockHead, whole / 2, whole - 1} {
		if _, err := WriteArchive(&full{room}, l.all(), ExportOptions{After: NewChain("1"), Heads: l.heads, At: noon, Signer: s}); !errors.Is(err, errFull) {
			t.Errorf("with room for %d of %d bytes: %v", room, whole, err)
		}
	}
	var failing iter.Seq2[Entry, error] = func(yield func(Entry, error) bool) { yield(Entry{}, errFull) }
	if _, err := WriteArchive(io.Discard, failing, ExportOptions{After: NewChain("1"), At: noon, Signer: s}); !errors.Is(err, errFull) {
		t.Errorf("records that cannot be read: %v", err)
	}
}

var errFull = errors.New("no room")

// full is a disk with little room.
type full struct{ room int }

func (f *full) Write(p []byte) (int, error) {
	if f.room -= len(p); f.room < 0 {
		return 0, errFull
	}
	return len(p), nil
}
