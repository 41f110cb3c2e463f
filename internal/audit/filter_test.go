package audit

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
)

// entryOf chains one record.
func entryOf(r *Record) *Entry {
	c := NewChain("1")
	e := c.Append(r)
	return &e
}

func TestAFilterSelectsByEachOfItsParts(t *testing.T) {
	denied := refund()
	denied.Deny(policy.Failure{Code: policy.CodeParamDenied})
	denied.Deny(policy.Failure{Code: policy.CodeCapExceeded})
	legacy := refund() // a refund by another route
	legacy.Operation, legacy.Reservation, legacy.RunID, legacy.Request = "charges.refund", 70, "nightly", "req_kb_10"
	legacy.Effects[0].USD = 5 * money.Dollar
	legacy.Customers = append(legacy.Customers, "cus_other")
	outcome := &Record{At: noon.Add(time.Hour), Kind: KindOutcome, Ref: 1, Key: "key_two", Operation: "refunds.create", UpstreamRequest: "req_theirs"}
	read := &Record{At: noon, Kind: KindIntent, Key: "key_two", Operation: "charges.retrieve", Verdict: "allow", UserAgent: `say "cus_R7mQ2xLw04Kd" or refunds.create`}
	for name, test := range map[string]struct {
		filter Filter
		want   []*Record
	}{
		"everything":               {Filter{}, []*Record{refund(), denied, legacy, outcome, read}},
		"a key":                    {Filter{Key: "key_two"}, []*Record{outcome, read}},
		"a call":                   {Filter{Call: 1}, []*Record{refund(), denied, legacy, outcome, read}},
		"another call":             {Filter{Call: 2}, nil},
		"an operation":             {Filter{Operation: "refunds.create"}, []*Record{refund(), denied, outcome}},
		"a resource or bucket":     {Filter{Resource: "refunds"}, []*Record{refund(), denied, legacy, outcome}},
		"an operation's resource":  {Filter{Resource: "charges"}, []*Record{legacy, read}},
		"a part of a resource":     {Filter{Resource: "refund"}, nil},
		"what was allowed":         {Filter{Verdict: "allow"}, []*Record{refund(), legacy, read}},
		"what was denied":          {Filter{Verdict: "deny"}, []*Record{denied}},
		"a rule that decided":      {Filter{Code: policy.CodeParamDenied}, []*Record{denied}},
		"a rule broken as well":    {Filter{Code: policy.CodeCapExceeded}, []*Record{denied}},
		"a customer":               {Filter{Customer: "cus_R7mQ2xLw04Kd"}, []*Record{refund(), denied, legacy}},
		"the second of two":        {Filter{Customer: "cus_other"}, []*Record{legacy}},
		"an amount":                {Filter{MinUSD: 20 * money.Dollar}, []*Record{refund(), denied}},
		"at most an amount":        {Filter{MaxUSD: 19 * money.Dollar}, []*Record{legacy}},
		"one amount alone":         {Filter{MinUSD: 20 * money.Dollar, MaxUSD: 20 * money.Dollar}, []*Record{refund(), denied}},
		"a range with nothing":     {Filter{MinUSD: 1000 * money.Dollar, MaxUSD: 2000 * money.Dollar}, nil},
		"a reservation":            {Filter{Reservation: 7}, []*Record{refund(), denied}},
		"our request id":           {Filter{Request: "req_kb_1"}, []*Record{refund(), denied}},
		"the vendor's":             {Filter{Request: "req_theirs"}, []*Record{outcome}},
		"a part of the run id":     {Filter{Agent: "ight"}, []*Record{legacy}},
		"a part of the User-Agent": {Filter{Agent: "NodeBindings"}, []*Record{refund(), denied, legacy}},
		"with quotes in it":        {Filter{Agent: `"cus_R7`}, []*Record{read}},
		"since":                    {Filter{Since: noon.Add(time.Minute)}, []*Record{outcome}},
		"until":                    {Filter{Until: noon.Truncate(time.Microsecond).Add(time.Hour)}, []*Record{refund(), denied, legacy, read}},
		"several at once":          {Filter{Key: "key_abcdefghijklmnop", Verdict: "allow", MinUSD: money.Dollar, Customer: "cus_other"}, []*Record{legacy}},
		"several that none has":    {Filter{Verdict: "deny", Customer: "cus_other"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			match := test.filter.Matcher()
			for _, r := range []*Record{refund(), denied, legacy, outcome, read} {
				want := false
				for _, w := range test.want {
					want = want || w.Operation == r.Operation && w.Kind == r.Kind && w.RunID == r.RunID
				}
				if got := match(entryOf(r)); got != want {
					t.Errorf("%s %s: %v, want %v", r.Kind, r.Operation, got, want)
				}
			}
		})
	}
}

// TestTheQuickLookLosesNothing holds the filter, which looks for bytes first, against one that decodes everything.
func TestTheQuickLookLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := records().Draw(t, "record")
		e := entryOf(r)
		said, err := Decode(e.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		// Filters by what the record itself says, each part now and then.
		var f Filter
		part := func(name string, set func()) {
			if rapid.Bool().Draw(t, name) {
				set()
			}
		}
		part("operation", func() { f.Operation = said.Operation })
		part("resource", func() { f.Resource = ResourceOf(said.Operation) })
		part("verdict", func() { f.Verdict = said.Verdict })
		part("reservation", func() { f.Reservation = said.Reservation })
		part("request", func() { f.Request = said.Request })
		part("agent", func() { f.Agent = said.UserAgent[len(said.UserAgent)/2:] })
		for i := range said.Customers {
			part("customer", func() { f.Customer = said.Customers[i] })
			part("bucket", func() { f.Resource = policy.Resource(said.Effects[i].Bucket) })
			part("code", func() { f.Code = said.Failures[i].Code })
			part("from usd", func() { f.MinUSD = said.Effects[i].USD })
			part("to usd", func() { f.MaxUSD = said.Effects[i].USD })
		}
		if got, want := f.Matcher()(e), f.says(said); got != want || !want && !f.asksUSD() {
			t.Fatalf("%v, want %v: %+v of %s", got, want, f, e.Bytes)
		}
	})
}

func TestAFilterSaysWhatItSelects(t *testing.T) {
	if got := (Filter{}).String(); got != "" {
		t.Errorf("everything is %q", got)
	}
	f := Filter{
		Key: "key_1", Call: 7, Reservation: 3, Request: "req_1", Operation: "refunds.create", Resource: "refunds", Verdict: "deny",
		Code: "keybrake_cap_exceeded", Customer: "cus_1", MinUSD: 20 * money.Dollar, MaxUSD: 50 * money.Dollar, Agent: "run-7", Since: noon, Until: noon.Add(time.Hour),
	}
	const want = "key key_1, call aud_1_7, reservation 3, request req_1, operation refunds.create, resource refunds, verdict deny, " +
		"code keybrake_cap_exceeded, customer cus_1, at least 20.00 USD, at most 50.00 USD, agent run-7, since 2026-11-23T12:00:00Z, until 2026-11-23T13:00:00Z"
	if got := f.String(); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func BenchmarkFilter(b *testing.B) {
	e := entryOf(refund())
	for name, f := range map[string]Filter{
		"not there": {Customer: "cus_nobody"}, "there": {Customer: "cus_R7mQ2xLw04Kd"}, "too small": {MinUSD: 1000 * money.Dollar},
	} {
		b.Run(name, func(b *testing.B) {
			match := f.Matcher()
			b.ReportAllocs()
			for b.Loop() {
				match(e)
			}
		})
	}
}
