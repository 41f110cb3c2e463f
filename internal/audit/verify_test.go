package audit

import (
	"bytes"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/keybrake/keybrake/internal/policy"
	"pgregory.net/rapid"
)

// log is a chain with its entries and signed heads, as a store has them.
type log struct {
	entries []Entry
	heads   []Head
}

func (l *log) all() iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for _, e := range l.entries {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// newLog chains n records with a head after every fourth.
func newLog(n int, s Signer) *log {
	l, c := &log{}, NewChain("1")
	for i := range n {
		r := refund()
		r.At = noon.Add(time.Duration(i) * time.Second)
		r.RunID = fmt.Sprint("run-", i)
		if i%3 == 1 {
			r.Key, r.Verdict = "key_other", "deny"
			r.Kind = KindDenied
			r.Failures = []policy.Failure{{Code: policy.CodeCapExceeded, Message: "=SUM(A1)"}}
		}
		l.entries = append(l.entries, c.Append(r))
		if i%4 == 3 {
			l.heads = append(l.heads, SignHead(c, r.At, s))
		}
	}
	return l
}

func export(t testing.TB, l *log, s Signer, change func(*ExportOptions)) []byte {
	t.Helper()
	o := ExportOptions{After: NewChain("1"), Heads: l.heads, At: noon, Signer: s}
	if change != nil {
		change(&o)
	}
	var out bytes.Buffer
	if _, err := Export(&out, l.all(), o); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func verify(t testing.TB, file []byte, trusted []byte) Report {
	t.Helper()
	r, err := Verify(bytes.NewReader(file), trusted)
	if err != nil {
		t.Fatal(err)
	}
	if r.OK != (r.Problem == nil) {
		t.Fatalf("OK %v with problem %v", r.OK, r.Problem)
	}
	return r
}

func TestAWholeExportVerifies(t *testing.T) {
	s := newSigner(0)
	for _, n := range []int{0, 1, 4, 10} {
		file := export(t, newLog(n, s), s, nil)
		got := verify(t, file, s.PublicKey())
		want := Report{OK: true, Chain: "1", Last: int64(n), Records: int64(n), LastSigned: int64(n), PublicKey: s.PublicKey(), Trusted: true}
		if n > 0 {
			want.First = 1
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%d records: %s", n, diff)
		}
		if r := verify(t, file, nil); !r.OK || r.Trusted {
			t.Errorf("%d records, no key to trust: %+v", n, r)
		}
	}
}

// TestAnExportOfAnEarlierProgramVerifies has a file that was exported before outcomes told how caps stand. Whoever
// keeps one must be able to check it with any later program, and to read what it says.
func TestAnExportOfAnEarlierProgramVerifies(t *testing.T) {
	file, err := os.ReadFile("testdata/export-1.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	key, err := hex.DecodeString("774b7d588d57d2d266505912e8a920054bb27930e19dc4b5d7e5676f47fc3edf")
	if err != nil {
		t.Fatal(err)
	}
	if r := verify(t, file, key); !r.OK || !r.Trusted || r.Records != 17 || r.LastSigned != 17 {
		t.Errorf("%+v", r)
	}
	kinds := map[Kind]int{}
	for line := range bytes.Lines(file) {
		rec, ok := parseRecordLine(bytes.TrimSuffix(line, []byte("\n")), false)
		if !ok {
			continue
		}
		r, err := Decode(rec.bytes)
		if err != nil {
			t.Fatal(err)
		}
		kinds[r.Kind]++
		if diff := cmp.Diff(string(rec.bytes), string(r.AppendJSON(nil))); diff != "" {
			t.Errorf("record %d is no longer written as it was: %s", r.Seq, diff)
		}
	}
	if want := map[Kind]int{KindOperator: 4, KindIntent: 6, KindOutcome: 6, KindDenied: 1}; !maps.Equal(kinds, want) {
		t.Errorf("%v, want %v", kinds, want)
	}
}

func TestARangeAndAPartialExportVerify(t *testing.T) {
	s := newSigner(0)
	l := newLog(10, s)
	tail := &log{entries: l.entries[4:], heads: l.heads}
	got := verify(t, export(t, tail, s, func(o *ExportOptions) { o.After = Chain{Name: "1", Seq: 4, Hash: l.entries[3].Hash} }), s.PublicKey())
	if !got.OK || got.First != 5 || got.Last != 10 || got.Records != 6 {
		t.Errorf("from record 5: %+v %v", got, got.Problem)
	}
	keep := func(e *Entry) bool { return e.Key == "key_other" }
	file := export(t, l, s, func(o *ExportOptions) { o.Keep, o.Filter = keep, "key key_other" })
	got = verify(t, file, s.PublicKey())
	if !got.OK || !got.Partial || got.Filter != "key key_other" || got.First != 2 || got.Last != 8 || got.Records != 3 || got.LastSigned != 10 {
		t.Errorf("partial: %+v %v", got, got.Problem)
	}
	lines := bytes.SplitAfter(file, []byte("\n"))
	without := bytes.Join(slices.Delete(slices.Clone(lines), 2, 3), nil)
	if r := verify(t, without, nil); r.OK {
		t.Error("a record left out of a partial export goes unnoticed")
	}
}

func TestEveryTamperingIsFoundAndTheRecordNamed(t *testing.T) {
	s, other := newSigner(0), newSigner(1)
	l := newLog(10, s)
	file := export(t, l, s, nil)
	lines := func() [][]byte {
		return bytes.SplitAfter(bytes.TrimSuffix(bytes.Clone(file), []byte("\n")), []byte("\n"))
	}
	at := func(seq int64) int { // the line of a record
		return slices.IndexFunc(lines(), func(b []byte) bool { return bytes.Contains(b, fmt.Appendf(nil, `{"seq":%d,`, seq)) })
	}
	change := func(seq int64, from, to string) []byte {
		out := lines()
		out[at(seq)] = bytes.Replace(out[at(seq)], []byte(from), []byte(to), 1)
		return bytes.Join(out, nil)
	}
	for name, c := range map[string]struct {
		file    []byte
		trusted []byte
		seq     int64
		says    string
	}{
		"an amount changed":                     {file: change(6, `"amount":2000`, `"amount":1000`), seq: 6, says: "changed"},
		"a verdict changed":                     {file: change(2, `"deny"`, `"allow"`), seq: 2, says: "changed"},
		"a hash changed":                        {file: change(3, `{"hash":"`, `{"hash":"0`), seq: 3, says: "not a record"},
		"a record renumbered":                   {file: change(5, `"seq":5`, `"seq":6`), seq: 5, says: "missing"},
		"a record of another chain":             {file: change(5, `"chain":"1"`, `"chain":"2"`), seq: 5, says: "chain"},
		"a record deleted":                      {file: bytes.Join(slices.Delete(lines(), at(7), at(7)+1), nil), seq: 7, says: "missing"},
		"the first record deleted":              {file: bytes.Join(slices.Delete(lines(), at(1), at(1)+1), nil), seq: 1, says: "missing"},
		"the last record deleted":               {file: bytes.Join(slices.Delete(lines(), at(10), at(10)+1), nil), seq: 10, says: "missing"},
		"a record twice":                        {file: bytes.Join(slices.Insert(lines(), at(6), lines()[at(6)]), nil), seq: 6, says: "again"},
		"two records swapped":                   {file: swap(lines(), at(6), at(7)), seq: 6, says: "missing"},
		"a signed head deleted":                 {file: bytes.Join(slices.Delete(lines(), at(4)+1, at(4)+2), nil), seq: 8, says: "not the one that was signed"},
		"the last line cut":                     {file: bytes.Join(lines()[:len(lines())-1], nil), seq: 11, says: "cut off"},
		"the tail cut":                          {file: bytes.Join(lines()[:at(6)], nil), seq: 6, says: "signed is up to 4"},
		"cut in the middle of a record":         {file: file[:bytes.Index(file, []byte(`{"seq":9,`))+50], seq: 9, says: "cut off"},
		"something behind the end":              {file: append(bytes.Clone(file), "{}\n"...), says: "follows"},
		"signed by another key":                 {file: export(t, newLog(10, other), other, nil), trusted: s.PublicKey(), says: "trusted is"},
		"the end signed by another key":         {file: resigned(t, l, other), seq: 0, says: "another key"},
		"an empty file":                         {file: []byte{}, seq: 1, says: "cut off"},
		"another kind of file":                  {file: []byte("hello\n"), says: "not that of an audit export"},
		"a rewritten chain under the old heads": {file: rewritten(t, l, s), seq: 8, says: "after record 4 was changed"},
	} {
		t.Run(name, func(t *testing.T) {
			r := verify(t, c.file, c.trusted)
			if r.OK {
				t.Fatal("not found")
			}
			if r.Problem.Seq != c.seq || !strings.Contains(r.Problem.String(), c.says) {
				t.Errorf("names %d: %s; want %d, saying %q", r.Problem.Seq, r.Problem, c.seq, c.says)
			}
			if c.seq > 0 && len(c.file) > 0 && r.Problem.ID != ID("1", c.seq) {
				t.Errorf("id %q", r.Problem.ID)
			}
		})
	}
}

func swap(lines [][]byte, a, b int) []byte {
	lines[a], lines[b] = lines[b], lines[a]
	return bytes.Join(lines, nil)
}

// resigned is the file of somebody who has the records and heads but another key.
func resigned(t testing.TB, l *log, other Signer) []byte {
	file := export(t, l, other, func(o *ExportOptions) { o.Heads = nil })
	whole := export(t, l, newSigner(0), func(o *ExportOptions) { o.Heads = nil })
	last := bytes.LastIndex(bytes.TrimSpace(file), []byte("\n"))
	first := bytes.IndexByte(whole, '\n')
	return append(append(bytes.Clone(whole[:first]), file[bytes.IndexByte(file, '\n'):last]...), file[last:]...)
}

// rewritten changes record 6 and makes every later hash anew, as somebody with the store but not the key
// could.
func rewritten(t testing.TB, l *log, s Signer) []byte {
	c, out := NewChain("1"), &log{heads: l.heads}
	for _, e := range l.entries {
		r, err := Decode(e.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if r.Seq == 6 {
			r.Effects[0].USD = 1
		}
		out.entries = append(out.entries, c.Append(r))
	}
	return export(t, out, s, nil)
}

func TestAnyFlippedBitIsFound(t *testing.T) {
	s := newSigner(0)
	l := newLog(6, s)
	whole := export(t, l, s, nil)
	partial := export(t, l, s, func(o *ExportOptions) { o.Keep = func(e *Entry) bool { return e.Seq%2 == 0 } })
	for name, file := range map[string][]byte{"whole": whole, "partial": partial} {
		for i := range file {
			changed := bytes.Clone(file)
			changed[i] ^= 1 << (i % 8)
			if i == len(file)-1 {
				continue // the last line's end: without it the line is whole all the same
			}
			if r := verify(t, changed, nil); r.OK {
				t.Fatalf("%s: a flipped bit in byte %d (%q) goes unnoticed", name, i, file[max(0, i-20):i+1])
			}
		}
		for i := range len(file) - 1 {
			if r := verify(t, file[:i], nil); r.OK {
				t.Fatalf("%s: cut after %d bytes it verifies", name, i)
			}
		}
	}
}

func TestAStoresOwnChainIsVerified(t *testing.T) {
	s := newSigner(0)
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(4, 12).Draw(t, "records")
		l := newLog(n, s)
		i := rapid.IntRange(0, n-1).Draw(t, "at")
		what := rapid.SampledFrom([]string{"nothing", "byte", "hash", "delete", "swap", "insert", "row number", "rewrite"}).Draw(t, "what")
		bad := int64(i + 1)
		switch what {
		case "nothing":
			bad = 0
		case "byte":
			body := bytes.Clone(l.entries[i].Bytes)
			body[len(body)/2] ^= 1
			l.entries[i].Bytes = body
		case "hash":
			l.entries[i].Hash[3] ^= 1
		case "delete":
			l.entries = slices.Delete(l.entries, i, i+1)
			if bad > l.heads[len(l.heads)-1].Seq {
				if int(bad) == n { // the tail beyond the last head: only the store's mark can tell
					bad = 0
				}
			}
		case "swap":
			if i == n-1 {
				bad = 0
				break
			}
			l.entries[i], l.entries[i+1] = l.entries[i+1], l.entries[i]
		case "insert":
			l.entries = slices.Insert(l.entries, i, l.entries[i])
		case "row number":
			l.entries[i].Seq += 100
		case "rewrite":
			l.entries[i].Bytes = bytes.Replace(l.entries[i].Bytes, []byte("run-"), []byte("ruN-"), 1)
			prev := NewChain("1").Hash
			for j := range l.entries {
				l.entries[j].Hash = Link(prev, l.entries[j].Bytes)
				prev = l.entries[j].Hash
			}
			bad = (bad + 3) / 4 * 4 // the next head
			if bad > l.heads[len(l.heads)-1].Seq {
				bad = 0
			}
		}
		r, err := VerifyEntries(NewChain("1"), l.all(), l.heads, s.PublicKey())
		if err != nil {
			t.Fatal(err)
		}
		if r.OK != (bad == 0) {
			t.Fatalf("%s at %d: ok %v, %v", what, i+1, r.OK, r.Problem)
		}
		if bad != 0 && r.Problem.Seq != bad {
			t.Fatalf("%s: names %d (%s), want %d", what, r.Problem.Seq, r.Problem, bad)
		}
	})
	l := newLog(4, newSigner(1))
	if r, _ := VerifyEntries(NewChain("1"), l.all(), l.heads, s.PublicKey()); r.OK {
		t.Error("heads of another key pass")
	}
	if h := l.heads[0]; !VerifyHead(h) {
		t.Error("a good head does not verify")
	} else if h.Seq++; VerifyHead(h) {
		t.Error("a changed head verifies")
	}
}

func TestErrorsOfReadersAndWritersAreReturned(t *testing.T) {
	s, broken := newSigner(0), errors.New("broken")
	bad := func(yield func(Entry, error) bool) { yield(Entry{}, broken) }
	if _, err := Export(io.Discard, bad, ExportOptions{After: NewChain("1"), Signer: s}); !errors.Is(err, broken) {
		t.Errorf("export: %v", err)
	}
	if _, err := VerifyEntries(NewChain("1"), bad, nil, nil); !errors.Is(err, broken) {
		t.Errorf("verify entries: %v", err)
	}
	if err := ExportCSV(io.Discard, bad, nil); !errors.Is(err, broken) {
		t.Errorf("csv: %v", err)
	}
	if _, err := Verify(io.MultiReader(strings.NewReader("{"), brokenReader{broken}), nil); !errors.Is(err, broken) {
		t.Errorf("verify: %v", err)
	}
	if _, err := Export(brokenWriter{broken}, newLog(3, s).all(), ExportOptions{After: NewChain("1"), Signer: s}); !errors.Is(err, broken) {
		t.Errorf("export to a full disk: %v", err)
	}
}

type brokenReader struct{ err error }

func (r brokenReader) Read([]byte) (int, error) { return 0, r.err }

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }

func TestCSVIsSafeForSpreadsheets(t *testing.T) {
	l, c := newLog(3, newSigner(0)), NewChain("1")
	r := refund()
	r.UserAgent, r.RunID, r.Reason = "=cmd|' /C calc'!A0", "@x\ny", "-1"
	r.Effects = append(r.Effects, r.Effects[0])
	l.entries = append(l.entries[:2], c.Append(r))
	var out bytes.Buffer
	if err := ExportCSV(&out, l.all(), func(e *Entry) bool { return e.Seq != 1 || e.Hash == c.Hash }); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&out).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(csvColumns, rows[0]); diff != "" || len(rows) != 4 {
		t.Fatalf("%d rows; columns %s", len(rows), diff)
	}
	col := func(name string) int { return slices.Index(csvColumns, name) }
	want := map[string]string{
		"user_agent": "'=cmd|' /C calc'!A0", "run_id": "'@x y", "reason": "'-1", "amount": "2000", "currency": "usd", "usd": "20.00",
		"id": "aud_1_1", "call": "aud_1_1", "caps": "refunds/day usd 80.00 of 100.00 left (20.00 held, 0.00 settled) */hour calls 29 of 30 left (0 held, 1 settled)",
	}
	for name, w := range want {
		if got := rows[3][col(name)]; got != w {
			t.Errorf("%s: %q, want %q", name, got, w)
		}
	}
	if got := rows[1][col("messages")]; got != "'=SUM(A1)" {
		t.Errorf("a failure's message: %q", got)
	}
}

func FuzzVerify(f *testing.F) {
	s := newSigner(0)
	whole := export(f, newLog(5, s), s, nil)
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add(export(f, newLog(5, s), s, func(o *ExportOptions) { o.Keep = func(e *Entry) bool { return e.Seq == 2 } }))
	f.Fuzz(func(t *testing.T, file []byte) {
		r, err := Verify(bytes.NewReader(file), s.PublicKey())
		if err != nil {
			t.Fatal(err)
		}
		if r.OK && !strings.Contains(string(file), hex.EncodeToString(func() []byte { h := NewChain("1").Hash; return h[:] }())) {
			t.Fatalf("a file that was never exported verifies: %q", file)
		}
	})
}
