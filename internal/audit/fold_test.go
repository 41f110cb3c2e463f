package audit

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/keybrake/keybrake/internal/policy"
	"pgregory.net/rapid"
)

func denial(key policy.KeyID, code policy.Code, param, from string) *Record {
	return &Record{Kind: KindDenied, Key: key, KeyName: "n", Operation: "refunds.create", Status: 403, From: from,
		Failures: []policy.Failure{{Code: code, Param: param, Message: "m"}}}
}

func TestTheFirstDenialPassesAndTheRestIsCounted(t *testing.T) {
	f := NewFolder()
	g, first := f.Fold(denial("k", policy.CodeCapExceeded, "", ""), noon)
	if !first {
		t.Fatal("the first denial was folded")
	}
	g.Wrote(7)
	for i := range 9 {
		if g, first := f.Fold(denial("k", policy.CodeCapExceeded, "", ""), noon.Add(time.Duration(i)*time.Millisecond)); first || g.First() != 7 {
			t.Fatalf("denial %d: first %v of %d", i, first, g.First())
		}
	}
	if _, first := f.Fold(denial("k", policy.CodeScopeDenied, "", ""), noon); !first {
		t.Error("another reason was folded with it")
	}
	if _, first := f.Fold(denial("k2", policy.CodeCapExceeded, "", ""), noon); !first {
		t.Error("another key was folded with it")
	}
	if got := f.Flush(noon.Add(foldFor - 1)); len(got) != 0 {
		t.Errorf("flushed before a second was over: %d", len(got))
	}
	end := noon.Add(foldFor)
	want := []*Record{{Kind: KindFolded, At: end, Ref: 7, Count: 9, Key: "k", KeyName: "n", Operation: "refunds.create", Status: 403,
		Verdict: "deny", Failures: []policy.Failure{{Code: policy.CodeCapExceeded, Message: "m"}}}}
	if diff := cmp.Diff(want, f.Flush(end)); diff != "" {
		t.Error(diff)
	}
	if _, first := f.Fold(denial("k", policy.CodeCapExceeded, "", ""), end); !first {
		t.Error("the next second's first denial was folded")
	}
}

func TestCallsThatAreNotDenialsAreNeverFolded(t *testing.T) {
	f := NewFolder()
	for _, kind := range []Kind{KindIntent, KindOutcome, KindOperator, KindSystem, ""} {
		for range 3 {
			r := denial("k", policy.CodeCapExceeded, "", "")
			r.Kind = kind
			g, first := f.Fold(r, noon)
			g.Wrote(1) // a nil group takes it
			if !first || g.First() != 0 {
				t.Errorf("%q was folded", kind)
			}
		}
	}
}

func TestCallsWithoutAKeyFoldByNetwork(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"10.0.0.1", "10.0.0.200", true}, {"10.0.0.1", "10.0.1.1", false}, {"2001:db8::1", "2001:db8::ffff:1", true},
		{"2001:db8::1", "2001:db8:0:1::1", false}, {"::ffff:10.0.0.1", "10.0.0.9", true}, {"", "nonsense", true},
	} {
		f := NewFolder()
		f.Fold(denial("", policy.CodeKeyInvalid, "", c.a), noon)
		if _, first := f.Fold(denial("", policy.CodeKeyInvalid, "", c.b), noon); first == c.same {
			t.Errorf("%s and %s: folded %v", c.a, c.b, !first)
		}
	}
}

// Whatever comes: nothing is lost, and neither memory nor records grow with the number of calls.
func TestFoldingCountsEverythingAndStaysBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, now := NewFolder(), noon
		keys := rapid.IntRange(1, 600).Draw(t, "keys")
		params := rapid.IntRange(1, 40).Draw(t, "params")
		calls := rapid.IntRange(0, 12_000).Draw(t, "calls")
		var written, counted, records int64
		flush := func(out []*Record) {
			records += int64(len(out))
			for _, r := range out {
				counted += r.Count
			}
		}
		for i := range calls {
			key := policy.KeyID(fmt.Sprint("k", i%keys))
			if _, first := f.Fold(denial(key, policy.CodeMalformed, fmt.Sprint(i*7%params), ""), now); first {
				written++
			}
			if len(f.groups) > maxGroups+keys+1 {
				t.Fatalf("%d groups", len(f.groups))
			}
		}
		flush(f.Flush(now))
		now = now.Add(time.Hour)
		flush(f.Flush(now))
		if written+counted != int64(calls) {
			t.Fatalf("%d calls: %d written, %d counted", calls, written, counted)
		}
		if most := int64(keys)*(maxGroupsOfKey+1) + 1; written > most || records > most {
			t.Fatalf("%d records and %d folds from %d keys", written, records, keys)
		}
		if len(f.groups) != 0 || len(f.ofKey) != 0 {
			t.Fatalf("%d groups and %d keys are left", len(f.groups), len(f.ofKey))
		}
	})
}

func TestFoldingFromManyGoroutines(t *testing.T) {
	f := NewFolder()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var total int64
	for range 8 {
		wg.Go(func() {
			for range 500 {
				g, first := f.Fold(denial("k", policy.CodeCapExceeded, "", ""), noon)
				if first {
					g.Wrote(1)
					mu.Lock()
					total++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	for _, r := range f.Drain(noon) {
		total += r.Count
	}
	if total != 4000 {
		t.Errorf("%d of 4000 calls are accounted for", total)
	}
}
