package audit

import (
	"fmt"
	"iter"
	"strings"
	"testing"
)

// written is a chain of records, each "node: action of subject" or "node" for a call's.
func written(after Chain, lines ...string) (Chain, iter.Seq2[Entry, error]) {
	var entries []Entry
	for _, line := range lines {
		node, deed, _ := strings.Cut(line, ": ")
		action, subject, _ := strings.Cut(deed, " of ")
		r := &Record{Kind: KindIntent, Node: node, Why: `a text with ,"node":"other/node" in it`}
		if action != "" {
			r.Kind, r.Action, r.Subject = KindSystem, "node."+action, subject
		}
		entries = append(entries, after.Append(r))
	}
	return after, func(yield func(Entry, error) bool) {
		for _, e := range entries {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// TestARecordLiesInThePartOfTheNodeThatWroteIt verifies a record in one piece and in two, the first of them in an archive.
func TestARecordLiesInThePartOfTheNodeThatWroteIt(t *testing.T) {
	for name, c := range map[string]struct {
		lines []string
		parts string // "node first-last records joined ended", each
		wrong int    // the record that is; 0: none
	}{
		"one process alone tells nothing": {lines: []string{"", ""}},
		"two nodes in turn, one of which leaves": {
			lines: []string{"a/1: join of a/1", "b/2: join of b/2", "a/1", "b/2", "b/2: leave of b/2", "a/1"},
			parts: "a/1 1-6 3 joined open; b/2 2-5 3 joined node.leave",
		},
		"a lost one is closed by another": {
			lines: []string{"a/1: join of a/1", "b/2: join of b/2", "b/2", "a/1: lost of b/2", "a/1"},
			parts: "a/1 1-5 3 joined open; b/2 2-3 2 joined node.lost",
		},
		"one that was given up comes back": {
			lines: []string{"a/1: join of a/1", "b/2: join of b/2", "a/1: lost of b/2", "b/2: join of b/2", "b/2", "b/2: leave of b/2"},
			parts: "a/1 1-3 2 joined open; b/2 2-6 4 joined node.leave",
		},
		"it acts without having come back": {
			lines: []string{"a/1: join of a/1", "b/2: join of b/2", "a/1: lost of b/2", "a/1", "b/2"}, wrong: 5,
		},
		"a node acts after it has left":   {lines: []string{"a/1: join of a/1", "a/1: leave of a/1", "a/1"}, wrong: 3},
		"a node acts that has not joined": {lines: []string{"a/1: join of a/1", "a/1", "c/3"}, wrong: 3},
		"a program that tells no node":    {lines: []string{"a/1: join of a/1", "", "a/1"}, parts: "a/1 1-3 2 joined open"},
		"nodes come to a store of one":    {lines: []string{"", "a/1: join of a/1"}, parts: "a/1 2-2 1 joined open"},
		"one is lost of which nothing is": {lines: []string{"a/1: join of a/1", "a/1: lost of x/9"}, parts: "a/1 1-2 2 joined open; x/9 0-0 0 node.lost"},
	} {
		t.Run(name, func(t *testing.T) {
			verify := func(after Chain, entries iter.Seq2[Entry, error]) Report {
				t.Helper()
				r, err := VerifyEntries(after, entries, nil, nil)
				if err != nil {
					t.Fatal(err)
				}
				return r
			}
			_, all := written(NewChain(FirstChain), c.lines...)
			whole := verify(NewChain(FirstChain), all)
			found := int64(0)
			if whole.Problem != nil {
				found = whole.Problem.Seq
			} else if got := partsText(whole.Parts); got != c.parts {
				t.Errorf("parts %q, want %q", got, c.parts)
			}
			if found != int64(c.wrong) {
				t.Errorf("found %v, want record %d to be outside its part", whole.Problem, c.wrong)
			}
			for cut := 1; cut < len(c.lines); cut++ {
				middle, first := written(NewChain(FirstChain), c.lines[:cut]...)
				_, rest := written(middle, c.lines[cut:]...)
				early := verify(NewChain(FirstChain), first)
				if early.Problem != nil {
					continue // it is in the first piece
				}
				late := verify(middle, rest)
				if late.Problem != nil {
					if late.Problem.Seq != int64(c.wrong) {
						t.Errorf("cut after %d: %v", cut, late.Problem)
					}
					continue
				}
				joined, outside := JoinParts(early.Parts, late.Parts, true)
				switch {
				case c.wrong != 0 && (outside == nil || outside.First != int64(c.wrong)):
					t.Errorf("cut after %d: %+v, want record %d to be outside its part", cut, outside, c.wrong)
				case c.wrong == 0 && (outside != nil || partsText(joined) != c.parts):
					t.Errorf("cut after %d: %q (%+v), want %q", cut, partsText(joined), outside, c.parts)
				}
			}
		})
	}
}

func partsText(parts []*Part) string {
	var out []string
	for _, p := range parts {
		joined, ended := " joined", " open"
		if !p.Joined {
			joined = ""
		}
		if p.Ended != "" {
			ended = " " + p.Ended
		}
		out = append(out, fmt.Sprintf("%s %d-%d %d%s%s", p.Node, p.First, p.Last, p.Records, joined, ended))
	}
	return strings.Join(out, "; ")
}
