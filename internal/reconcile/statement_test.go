package reconcile

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

var noon = time.Date(2026, 11, 10, 12, 0, 0, 0, time.UTC)

// entry is one entry, written in few words: key, minor units, then what is special about it.
func entry(id int, key string, minor int64, words ...string) Entry {
	e := Entry{
		Reservation: ledger.ReservationID(id), Key: policy.KeyID(key), At: noon, Resolved: noon.Add(time.Second), State: ledger.Settled,
		Trace: upstream.Trace{Kind: upstream.Refund}, Amount: money.Amount{Minor: minor, Currency: "usd"},
	}
	for _, w := range words {
		name, value, _ := strings.Cut(w, "=")
		switch name {
		case "object":
			e.Objects = append(e.Objects, policy.ObjectID(value))
		case "request":
			e.Request = value
		case "key":
			e.IdempotencyKey = value
		case "kind":
			e.Trace.Kind = upstream.MovementKind(value)
		case "currency":
			e.Amount.Currency = money.Currency(value)
		case "account":
			e.Account = policy.AccountID(value)
		case "open":
			e.State, e.Resolved = ledger.Unresolved, time.Time{}
		case "released":
			e.State, e.Proof = ledger.Released, ledger.ProofRefused
		case "pending":
			e.Pending = true
		case "later":
			e.Trace.Shows, e.Trace.Why = upstream.ShowsLater, "later"
		case "never":
			e.Trace.Shows, e.Trace.Why = upstream.ShowsNever, "never"
		case "most":
			e.Trace.AtMost = true
		case "uncounted":
			e.Effect = -1
		case "elsewhere":
			e.Elsewhere = true
		case "fresh":
			e.At = noon.Add(6 * time.Hour)
		case "yesterday":
			e.At = noon.AddDate(0, 0, -1)
		default:
			panic(w)
		}
	}
	return e
}

// line is one line of the vendor's books, likewise.
func line(id string, minor int64, words ...string) Moving {
	m := Moving{Movement: upstream.Movement{
		ID: id, Type: "refund", Kind: upstream.Refund, Amount: money.Amount{Minor: minor, Currency: "usd"}, At: noon.Add(time.Second),
	}}
	for _, w := range words {
		name, value, _ := strings.Cut(w, "=")
		switch name {
		case "object":
			m.Object = policy.ObjectID(value)
		case "same":
			m.Same = append(m.Same, policy.ObjectID(value))
		case "cause":
			m.Causes = append(m.Causes, policy.ObjectID(value))
		case "request":
			m.Calls, m.Origin = append(m.Calls, upstream.MadeBy{Request: value}), upstream.OriginCall
		case "key":
			m.Calls, m.Origin = append(m.Calls, upstream.MadeBy{IdempotencyKey: value}), upstream.OriginCall
		case "kind":
			m.Kind = upstream.MovementKind(value)
		case "currency":
			m.Amount.Currency = money.Currency(value)
		case "account":
			m.Account = policy.AccountID(value)
		case "automatic":
			m.Origin = upstream.OriginAutomatic
		case "before":
			m.Before = -minor
		case "after":
			m.After = -minor
		case "yesterday":
			m.At = m.At.AddDate(0, 0, -1)
		default:
			panic(w)
		}
	}
	return m
}

// told writes a line in few words: class, key, ledger and vendor.
func told(lines []Line) []string {
	out := []string{}
	for _, l := range lines {
		key := string(l.Key)
		if key == "" {
			key = "nobody"
		}
		out = append(out, fmt.Sprintf("%s %s %d %d", l.Class, key, l.Ledger.Minor, l.Vendor.Minor))
	}
	slices.Sort(out)
	return out
}

func TestCompare(t *testing.T) {
	type entries = []Entry
	type lines = []Moving
	for _, tc := range []struct {
		name    string
		entries entries
		lines   lines
		want    []string
	}{
		{"nothing on either side is no line", nil, nil, nil},
		{"the same object is the same money", entries{entry(1, "a", 500, "object=re_1")}, lines{line("t1", 500, "object=re_1")}, []string{"matched a 500 500"}},
		{"so is the same request", entries{entry(1, "a", 500, "request=req_1")}, lines{line("t1", 500, "object=re_1", "request=req_1")}, []string{"matched a 500 500"}},
		{"and the same idempotency key", entries{entry(1, "a", 500, "key=k")}, lines{line("t1", 500, "object=re_1", "key=k")}, []string{"matched a 500 500"}},
		{"an intent is matched by its charge's intent", entries{entry(1, "a", 500, "object=pi_1", "kind=payment")},
			lines{line("t1", 500, "object=ch_1", "same=pi_1", "kind=payment")}, []string{"matched a 500 500"}},
		{"equal amounts alone are no match", entries{entry(1, "a", 500, "object=re_1")}, lines{line("t1", 500, "object=re_2")},
			[]string{"missing_here nobody 0 500", "missing_there a 500 0"}},
		{"the same id in another account is another object", entries{entry(1, "a", 500, "object=re_1", "account=acct_1")}, lines{line("t1", 500, "object=re_1")},
			[]string{"missing_here nobody 0 500", "missing_there a 500 0"}},
		{"the same request that moved two kinds is two matters", entries{entry(1, "a", 500, "request=req_1"), entry(2, "a", 300, "request=req_1", "kind=transfer_reversal")},
			lines{line("t1", 500, "request=req_1"), line("t2", 300, "request=req_1", "kind=transfer_reversal")}, []string{"matched a 300 300", "matched a 500 500"}},
		{"a refund that names its charge is not the charge", entries{entry(1, "a", 900, "object=ch_1", "kind=payment")},
			lines{line("t1", 900, "object=ch_1", "kind=payment"), line("t2", 200, "object=re_1", "same=ch_1", "request=r")},
			[]string{"matched a 900 900", "missing_here nobody 0 200"}},
		{"less moved", entries{entry(1, "a", 500, "object=re_1")}, lines{line("t1", 400, "object=re_1")}, []string{"different a 500 400"}},
		{"more moved", entries{entry(1, "a", 500, "object=re_1")}, lines{line("t1", 501, "object=re_1")}, []string{"different a 500 501"}},
		{"another currency moved", entries{entry(1, "a", 500, "object=re_1", "currency=eur")}, lines{line("t1", 500, "object=re_1")}, []string{"different a 500 500"}},
		{"a second currency beside the right one is nobody's", entries{entry(1, "a", 500, "object=re_1")},
			lines{line("t1", 500, "object=re_1"), line("t2", 9, "object=re_1", "currency=eur")}, []string{"matched a 500 500", "missing_here nobody 0 9"}},
		{"parts add up on the ledger's side", entries{entry(1, "a", 200, "object=re_1"), entry(2, "a", 300, "object=re_1")}, lines{line("t1", 500, "object=re_1")}, []string{"matched a 500 500"}},
		{"and on the vendor's", entries{entry(1, "a", 500, "object=re_1")}, lines{line("t1", 200, "object=re_1"), line("t2", 300, "object=re_1")}, []string{"matched a 500 500"}},
		{"what came back counts as nothing", entries{entry(1, "a", 500, "object=re_1")}, lines{line("t1", 500, "object=re_1"), line("t2", -500, "object=re_1", "automatic")}, []string{"different a 500 0"}},
		{"and matches once the ledger has followed", entries{entry(1, "a", 0, "object=re_1")}, lines{line("t1", 500, "object=re_1"), line("t2", -500, "object=re_1", "automatic")}, []string{"matched a 0 0"}},
		{"also if only the return is among the lines", entries{entry(1, "a", 0, "object=re_1")}, lines{line("t2", -500, "object=re_1", "before", "automatic")}, []string{"matched a 0 0"}},
		{"what is held is open", entries{entry(1, "a", 500, "object=re_1", "open")}, nil, []string{"open a 500 0"}},
		{"also if it moved", entries{entry(1, "a", 500, "key=k", "open")}, lines{line("t1", 500, "key=k")}, []string{"open a 500 500"}},
		{"held and settled on one object", entries{entry(1, "a", 500, "object=pi_1"), entry(2, "a", 40, "object=pi_1", "open")}, lines{line("t1", 500, "object=pi_1")},
			[]string{"matched a 500 500", "open a 40 0"}},
		{"held and settled, and both moved", entries{entry(1, "a", 500, "object=pi_1"), entry(2, "a", 40, "object=pi_1", "open")}, lines{line("t1", 540, "object=pi_1")}, []string{"open a 540 540"}},
		{"what was given back and did not move leaves no line", entries{entry(1, "a", 0, "key=k", "released")}, nil, nil},
		{"what was given back and moved is missing here, with its key", entries{entry(1, "a", 0, "key=k", "released")}, lines{line("t1", 500, "key=k")}, []string{"missing_here a 0 500"}},
		{"a release beside the settlement of the same object", entries{entry(1, "a", 0, "object=pi_1", "released"), entry(2, "a", 500, "object=pi_1")}, lines{line("t1", 500, "object=pi_1")}, []string{"matched a 500 500"}},
		{"what may still change is not yet", entries{entry(1, "a", 500, "object=pi_1", "pending")}, nil, []string{"not_yet a 500 0"}},
		{"counted ahead is not yet", entries{entry(1, "a", 500, "object=in_1", "later")}, nil, []string{"not_yet a 500 0"}},
		{"a part of what was counted ahead", entries{entry(1, "a", 500, "object=in_1", "later")}, lines{line("t1", 200, "object=in_1")}, []string{"not_yet a 500 200"}},
		{"all of it", entries{entry(1, "a", 500, "object=in_1", "later")}, lines{line("t1", 500, "object=in_1")}, []string{"matched a 500 500"}},
		{"more than it", entries{entry(1, "a", 500, "object=in_1", "later")}, lines{line("t1", 501, "object=in_1")}, []string{"different a 500 501"}},
		{"a first bill that moved and a renewal that waits", entries{entry(1, "a", 500, "request=r", "pending"), entry(2, "a", 700, "request=r", "later")},
			lines{line("t1", 500, "request=r")}, []string{"matched a 500 500", "not_yet a 700 0"}},
		{"a bound that less came of", entries{entry(1, "a", 500, "request=r", "most")}, lines{line("t1", 450, "request=r")}, []string{"at_most a 500 450"}},
		{"a bound that nothing came of", entries{entry(1, "a", 500, "request=r", "most")}, nil, []string{"missing_there a 500 0"}},
		{"a bound that more came of", entries{entry(1, "a", 500, "request=r", "most")}, lines{line("t1", 501, "request=r")}, []string{"different a 500 501"}},
		{"no money of these books", entries{entry(1, "a", 500, "object=cus_1", "never")}, nil, []string{"not_money a 500 0"}},
		{"passed without being counted", entries{entry(1, "a", 0, "request=r", "uncounted")}, lines{line("t1", 500, "request=r")}, []string{"unmetered a 0 500"}},
		{"counted by an earlier call of the same key", entries{entry(1, "a", 500, "object=pi_1"), entry(2, "a", 0, "object=pi_1")}, lines{line("t1", 500, "object=pi_1")}, []string{"matched a 500 500"}},
		{"an update that added nothing leaves no line", entries{entry(2, "a", 0, "object=pi_1")}, nil, nil},
		{"two keys that both counted all of it", entries{entry(1, "a", 500, "object=pi_1"), entry(2, "b", 500, "object=pi_1")}, lines{line("t1", 500, "object=pi_1")},
			[]string{"matched a 500 500", "matched b 500 500"}},
		{"two keys that each counted a part", entries{entry(1, "a", 200, "object=pi_1"), entry(2, "b", 300, "object=pi_1")}, lines{line("t1", 500, "object=pi_1")},
			[]string{"matched a 200 200", "matched b 300 300"}},
		{"two keys of which one counted all and one a part that it made", entries{entry(1, "a", 500, "object=pi_1"), entry(2, "b", 300, "object=pi_1", "request=r2")},
			lines{line("t1", 200, "object=pi_1", "request=r1"), line("t2", 300, "object=pi_1", "request=r2")}, []string{"matched a 500 500", "matched b 300 300"}},
		{"two keys of which one counted wrongly", entries{entry(1, "a", 500, "object=pi_1"), entry(2, "b", 400, "object=pi_1")}, lines{line("t1", 500, "object=pi_1")},
			[]string{"different b 400 500", "matched a 500 500"}},
		{"a key that was refused what another one did", entries{entry(1, "a", 500, "object=pi_1"), entry(2, "b", 0, "object=pi_1", "released")}, lines{line("t1", 500, "object=pi_1", "request=r1")},
			[]string{"matched a 500 500"}},
		{"a key whose hold was given back, and whose call did it beside another one's", entries{entry(1, "a", 500, "object=pi_1"), entry(2, "b", 0, "object=pi_1", "request=r1", "released")},
			lines{line("t1", 500, "object=pi_1", "request=r1")}, []string{"matched a 500 500", "missing_here b 0 500"}},
		{"two keys that each counted the part that they made", entries{entry(1, "a", 200, "object=pi_1", "request=r1"), entry(2, "b", 300, "object=pi_1", "key=k2")},
			lines{line("t1", 200, "object=pi_1", "request=r1"), line("t2", 300, "object=pi_1", "key=k2")}, []string{"matched a 200 200", "matched b 300 300"}},
		{"two keys whose parts add up, though each made the other's", entries{entry(1, "a", 300, "object=pi_1", "request=r1"), entry(2, "b", 200, "object=pi_1", "key=k2")},
			lines{line("t1", 200, "object=pi_1", "request=r1"), line("t2", 300, "object=pi_1", "key=k2")}, []string{"matched a 300 300", "matched b 200 200"}},
		{"two keys of which one counted less than it made", entries{entry(1, "a", 200, "object=pi_1", "request=r1"), entry(2, "b", 100, "object=pi_1", "key=k2")},
			lines{line("t1", 200, "object=pi_1", "request=r1"), line("t2", 300, "object=pi_1", "key=k2")}, []string{"different b 100 300", "matched a 200 200"}},
		{"two keys that were both refused what moved all the same", entries{entry(1, "a", 0, "object=pi_1", "released"), entry(2, "b", 0, "object=pi_1", "released")}, lines{line("t1", 500, "object=pi_1")},
			[]string{"missing_here a 0 500", "missing_here b 0 500"}},
		{"held and settled, and something else moved", entries{entry(1, "a", 500, "object=pi_1"), entry(2, "a", 40, "object=pi_1", "open")}, lines{line("t1", 520, "object=pi_1")},
			[]string{"different a 500 520", "open a 40 0"}},
		{"counted ahead, paid, and paid back", entries{entry(1, "a", 500, "object=in_1", "later")}, lines{line("t1", 500, "object=in_1"), line("t2", -500, "object=in_1", "automatic")}, []string{"different a 500 0"}},
		{"not the last word, and it came back", entries{entry(1, "a", 500, "object=re_1", "pending")}, lines{line("t1", 500, "object=re_1", "after")}, []string{"different a 500 0"}},
		{"came back after the lines that were read", entries{entry(1, "a", 500, "object=re_1")}, lines{line("t1", 500, "object=re_1", "after")}, []string{"different a 500 0"}},
		{"what a call that counted nothing made, in any currency", entries{entry(1, "a", 0, "request=r", "uncounted", "currency=")}, lines{line("t1", 500, "request=r", "currency=eur")}, []string{"unmetered a 0 500"}},
		{"a call that nobody of ours made", nil, lines{line("t1", 500, "object=re_1", "request=r")}, []string{"missing_here nobody 0 500"}},
		{"nobody tells who made it", nil, lines{line("t1", 500, "object=re_1")}, []string{"missing_here nobody 0 500"}},
		{"no call made it", nil, lines{line("t1", 500, "object=po_1", "automatic")}, []string{"automatic nobody 0 500"}},
		{"a renewal of what was counted ahead", entries{entry(1, "a", 500, "object=sub_1", "later")}, lines{line("t1", 500, "object=ch_9", "cause=sub_1")},
			[]string{"automatic nobody 0 500", "not_yet a 500 0"}},
		{"a bill that a call of somebody else's made", nil, lines{line("t1", 500, "object=ch_9", "cause=sub_1", "request=r")}, []string{"missing_here nobody 0 500"}},
		{"a renewal that nobody here counted", nil, lines{line("t1", 500, "object=ch_9", "cause=sub_1", "automatic")}, []string{"automatic nobody 0 500"}},
		{"a customer who pays through a link that was counted", entries{entry(1, "a", 500, "object=plink_1", "later")}, lines{line("t1", 500, "object=ch_9", "cause=plink_1", "request=r")},
			[]string{"automatic nobody 0 500", "not_yet a 500 0"}},
		{"fees stand alone, whatever they name", entries{entry(1, "a", 500, "object=re_1")},
			lines{line("t1", 500, "object=re_1"), line("t2", -30, "object=re_1", "kind=other", "automatic")}, []string{"automatic nobody 0 -30", "matched a 500 500"}},
		{"a key of another upstream made it", entries{entry(1, "a", 500, "object=re_1", "elsewhere")}, lines{line("t1", 500, "object=re_1")}, []string{"elsewhere a 500 500"}},
		{"another upstream's books are not asked about", entries{entry(1, "a", 500, "object=re_1", "elsewhere")}, nil, nil},
		{"younger than a minute", entries{entry(1, "a", 500, "object=re_1", "fresh")}, nil, []string{"not_yet a 500 0"}},
		{"yesterday is another statement", entries{entry(1, "a", 500, "object=re_1", "yesterday")}, lines{line("t1", 500, "object=re_1", "yesterday")}, nil},
		{"counted yesterday and moved today is in both", entries{entry(1, "a", 500, "object=re_1", "yesterday")}, lines{line("t1", 500, "object=re_1")}, []string{"matched a 500 500"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := Compare(Comparison{From: "2026-11-10", To: "2026-11-10", Entries: tc.entries, Movements: tc.lines, AsOf: noon.Add(6 * time.Hour)})
			slices.Sort(tc.want)
			if diff := cmp.Diff(append([]string{}, tc.want...), told(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			for _, l := range got {
				if l.Class.Difference() != (l.Class == MissingHere || l.Class == MissingThere || l.Class == Different) || l.Class != Matched && l.Why == "" {
					t.Errorf("a line that does not explain itself: %+v", l)
				}
			}
		})
	}
}

// manner writes what else a line tells: by what it was matched, whether it is shared, its day and its dollars.
func manner(l Line) string {
	out := fmt.Sprintf("%s by %q on %s", l.Key, l.By, l.Day)
	if l.USD != 0 {
		out += " $" + l.USD.String()
	}
	if l.Shared {
		out += " shared"
	}
	return out
}

func TestALineTellsHowItCameAbout(t *testing.T) {
	dollars := entry(1, "a", 500, "object=re_1")
	dollars.USD = 5 * money.Dollar
	more := entry(2, "a", 200, "object=re_1")
	more.USD = 2 * money.Dollar
	for _, tc := range []struct {
		name    string
		entries []Entry
		lines   []Moving
		want    []string
		why     string
	}{
		{"by the object that moved", []Entry{entry(1, "a", 500, "object=re_1", "request=r", "key=k")}, []Moving{line("t1", 500, "object=re_1", "request=r", "key=k")}, []string{`a by "object" on 2026-11-10`}, ""},
		{"by an object that is the same money", []Entry{entry(1, "a", 500, "object=pi_1")}, []Moving{line("t1", 500, "object=ch_1", "same=pi_1")}, []string{`a by "object" on 2026-11-10`}, ""},
		{"by the request", []Entry{entry(1, "a", 500, "object=x", "request=r")}, []Moving{line("t1", 500, "object=re_1", "request=q", "request=r")}, []string{`a by "request" on 2026-11-10`}, ""},
		{"by the idempotency key", []Entry{entry(1, "a", 500, "request=q", "key=k")}, []Moving{line("t1", 500, "object=re_1", "request=r", "key=j", "key=k")}, []string{`a by "idempotency_key" on 2026-11-10`}, ""},
		{"the request before the key", []Entry{entry(1, "a", 500, "request=r", "key=k")}, []Moving{line("t1", 500, "request=r", "key=k")}, []string{`a by "request" on 2026-11-10`}, ""},
		{"by nothing, where nothing moved", []Entry{entry(1, "a", 500, "object=re_1", "open")}, nil, []string{`a by "" on 2026-11-10`}, "not known yet"},
		{"shared by two keys that count all of it", []Entry{entry(1, "a", 500, "object=pi_1"), entry(2, "b", 500, "object=pi_1")}, []Moving{line("t1", 500, "object=pi_1")},
			[]string{`a by "object" on 2026-11-10 shared`, `b by "object" on 2026-11-10 shared`}, ""},
		{"not shared where each has its part", []Entry{entry(1, "a", 200, "object=pi_1"), entry(2, "b", 300, "object=pi_1")}, []Moving{line("t1", 500, "object=pi_1")},
			[]string{`a by "object" on 2026-11-10`, `b by "object" on 2026-11-10`}, ""},
		{"on the day of the call that counted, not of those that added nothing", []Entry{entry(1, "a", 0, "object=pi_1", "yesterday"), entry(2, "a", 500, "object=pi_1")}, []Moving{line("t1", 500, "object=pi_1")},
			[]string{`a by "object" on 2026-11-10`}, ""},
		{"in the dollars of all its calls", []Entry{dollars, more}, []Moving{line("t1", 700, "object=re_1")}, []string{`a by "object" on 2026-11-10 $7.00`}, ""},
		{"why more", []Entry{entry(1, "a", 500, "object=re_1")}, []Moving{line("t1", 501, "object=re_1")}, []string{`a by "object" on 2026-11-10`}, "more moved"},
		{"why less", []Entry{entry(1, "a", 500, "object=re_1")}, []Moving{line("t1", 499, "object=re_1")}, []string{`a by "object" on 2026-11-10`}, "less moved"},
		{"why it came back", []Entry{entry(1, "a", 500, "object=re_1")}, []Moving{line("t1", 500, "object=re_1"), line("t2", -500, "object=re_1")}, []string{`a by "object" on 2026-11-10`}, "5.00 USD came back (refund)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			lines := Compare(Comparison{From: "2026-11-10", To: "2026-11-10", Entries: tc.entries, Movements: tc.lines, AsOf: noon.Add(6 * time.Hour)})
			got := []string{}
			for _, l := range lines {
				got = append(got, manner(l))
				if !strings.Contains(l.Why, tc.why) || tc.why == "" && l.Why != "" {
					t.Errorf("why: %q, want %q", l.Why, tc.why)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDaysAreOfTheKeysZoneAndOfUTCForNobody(t *testing.T) {
	early := entry(1, "a", 500, "object=re_1")
	early.At = time.Date(2026, 11, 10, 3, 0, 0, 0, time.UTC)
	nobodys := line("t2", 600, "object=re_2", "request=r")
	nobodys.At = early.At
	honolulu, err := time.LoadLocation("Pacific/Honolulu")
	if err != nil {
		t.Fatal(err)
	}
	c := Comparison{From: "2026-11-09", To: "2026-11-10", Entries: []Entry{early}, Movements: []Moving{nobodys}, AsOf: noon, Zone: func(k policy.KeyID) *time.Location {
		if k == "a" {
			return honolulu
		}
		return nil
	}}
	got := Compare(c)
	if len(got) != 2 || got[0].Key != "a" || got[0].Day != "2026-11-09" || got[1].Day != "2026-11-10" {
		t.Errorf("%+v", got)
	}
}

func TestARenewalNamesTheFirstReservationThatCountedItsCause(t *testing.T) {
	for _, order := range [][]int{{7, 3, 5}, {3, 5, 7}, {5, 7, 3}} {
		var c Comparison
		c.From, c.To, c.AsOf = "2026-11-10", "2026-11-10", noon.Add(6*time.Hour)
		for _, id := range order {
			c.Entries = append(c.Entries, entry(id, "a", 0, "object=sub_1", "later"))
		}
		c.Movements = []Moving{line("t1", 500, "object=ch_1", "cause=plink_1", "cause=sub_1")}
		if got := Compare(c); len(got) != 1 || !strings.Contains(got[0].Why, "reservation 3 ") {
			t.Errorf("%v: %+v", order, got)
		}
	}
}

func TestKeybrakesOwnKeyThatTheLedgerDoesNotHaveIsToldApart(t *testing.T) {
	got := Compare(Comparison{
		From: "2026-11-10", To: "2026-11-10", Ours: func(k string) bool { return k == "kb-lost" },
		Movements: []Moving{line("t1", 500, "key=kb-lost"), line("t2", 600, "key=other")},
	})
	if len(got) != 2 || !got[0].Ours || got[1].Ours || got[0].Vendor.Minor != 500 {
		t.Errorf("%+v", got)
	}
}

// deal is one thing that happened, and how it must be told.
type deal struct {
	entries []Entry
	lines   []Moving
	want    Class
}

// drawDeal makes the n-th deal: its names are its own.
func drawDeal(t *rapid.T, n int) deal {
	kind := rapid.SampledFrom([]upstream.MovementKind{upstream.Payment, upstream.Refund, upstream.Payout, upstream.Transfer}).Draw(t, "kind")
	currency := rapid.SampledFrom([]money.Currency{"usd", "eur", "jpy"}).Draw(t, "currency")
	account := rapid.SampledFrom([]policy.AccountID{"", "acct_1"}).Draw(t, "account")
	amount := rapid.Int64Range(2, 1_000_000).Draw(t, "amount")
	at := noon.Add(time.Duration(rapid.IntRange(0, 3600).Draw(t, "second")) * time.Second)
	names := fmt.Sprintf("%d", n)
	by := rapid.SampledFrom([]string{"object", "request", "key"}).Draw(t, "by")
	e := Entry{
		Reservation: ledger.ReservationID(10 * n), Key: rapid.SampledFrom([]policy.KeyID{"a", "b"}).Draw(t, "key"), Account: account,
		At: at, Resolved: at, State: ledger.Settled, Trace: upstream.Trace{Kind: kind}, Amount: money.Amount{Minor: amount, Currency: currency},
	}
	m := Moving{Account: account, Movement: upstream.Movement{
		ID: "txn_" + names, Kind: kind, Object: policy.ObjectID("moved_" + names), Amount: e.Amount, At: at, Origin: upstream.OriginCall,
		Calls: []upstream.MadeBy{{Request: "req_" + names, IdempotencyKey: "key_" + names}},
	}}
	switch by {
	case "object":
		e.Objects = []policy.ObjectID{policy.ObjectID("intent_" + names)}
		m.Same = e.Objects
	case "request":
		e.Request = "req_" + names
	case "key":
		e.IdempotencyKey = "key_" + names
	}
	d := deal{entries: []Entry{e}, lines: []Moving{m}, want: Matched}
	if rapid.Bool().Draw(t, "two lines") {
		part := rapid.Int64Range(1, amount-1).Draw(t, "part")
		second := m
		second.ID += "_2"
		d.lines[0].Amount.Minor, second.Amount.Minor = part, amount-part
		d.lines = append(d.lines, second)
	}
	if rapid.Bool().Draw(t, "two calls") {
		part := rapid.Int64Range(0, amount).Draw(t, "counted by the second")
		second := e
		second.Reservation++
		d.entries[0].Amount.Minor, second.Amount.Minor = amount-part, part
		d.entries = append(d.entries, second)
	}
	switch d.want = rapid.SampledFrom([]Class{Matched, MissingHere, MissingThere, Different, Open, NotYet}).Draw(t, "class"); d.want {
	case MissingHere:
		d.entries = nil
	case MissingThere:
		d.lines = nil
	case Different:
		d.lines[0].Amount.Minor += rapid.Int64Range(1, 1000).Draw(t, "more")
	case Open:
		for i := range d.entries {
			d.entries[i].State = ledger.Unresolved
		}
	case NotYet:
		d.lines = nil
		for i := range d.entries {
			d.entries[i].Pending = true
		}
	}
	return d
}

func TestWhateverHappenedIsToldOnceAndAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c Comparison
		c.From, c.To, c.AsOf = "2026-11-10", "2026-11-10", noon.Add(6*time.Hour)
		want := map[Class]int{}
		for n := range rapid.IntRange(0, 12).Draw(t, "deals") {
			d := drawDeal(t, n+1)
			c.Entries, c.Movements = append(c.Entries, d.entries...), append(c.Movements, d.lines...)
			want[d.want]++
		}
		first := Compare(c)
		got, vendor, counted := map[Class]int{}, map[string]int{}, map[ledger.ReservationID]int{}
		var theirs, ours int64
		for _, l := range first {
			got[l.Class]++
			theirs, ours = theirs+l.Vendor.Minor, ours+l.Ledger.Minor
			for _, m := range l.Movements {
				vendor[m.ID]++
			}
			for _, e := range l.Entries {
				counted[e.Reservation]++
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("classes (-want +got):\n%s", diff)
		}
		for _, m := range c.Movements {
			theirs -= m.Amount.Minor
			if vendor[m.ID] != 1 {
				t.Fatalf("%s is told %d times", m.ID, vendor[m.ID])
			}
		}
		for _, e := range c.Entries {
			ours -= e.Amount.Minor
			if counted[e.Reservation] != 1 {
				t.Fatalf("reservation %d is told %d times", e.Reservation, counted[e.Reservation])
			}
		}
		if theirs != 0 || ours != 0 {
			t.Fatalf("the sums are off by %d and %d", ours, theirs)
		}
		c.Entries, c.Movements = rapid.Permutation(c.Entries).Draw(t, "entries"), rapid.Permutation(c.Movements).Draw(t, "lines")
		if diff := cmp.Diff(first, Compare(c)); diff != "" {
			t.Fatalf("the order of the lists matters:\n%s", diff)
		}
	})
}

// BenchmarkCompare compares a month of a busy account: 100,000 refunds, each with its line.
func BenchmarkCompare(b *testing.B) {
	c := Comparison{From: "2026-11-10", To: "2026-11-10", AsOf: noon.Add(6 * time.Hour)}
	for n := range 100_000 {
		id := fmt.Sprint(n)
		c.Entries = append(c.Entries, entry(n+1, "a", 500, "object=re_"+id, "request=req_"+id, "key=k"+id))
		c.Movements = append(c.Movements, line("t"+id, 500, "object=re_"+id, "request=req_"+id))
	}
	for b.Loop() {
		if got := Compare(c); len(got) != 100_000 {
			b.Fatalf("%d lines", len(got))
		}
	}
}
