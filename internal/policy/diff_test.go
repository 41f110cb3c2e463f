package policy

import (
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/keybrake/keybrake/internal/money"
)

func TestDiff(t *testing.T) {
	before := support()
	after := support()
	after.Scopes = map[Resource]Access{"charges": Read, "customers": Read, "refunds": Read, "payouts": Read}
	after.Caps = []Cap{{"refunds", PerDay, UnitUSD, 200_000_000}}
	after.Customers = Customers{List: []CustomerID{"cus_A"}}
	after.Timezone = time.FixedZone("Here", 3600)
	after.RotateEvery = 90 * 24 * time.Hour
	want := []Change{
		{"caps.refunds/day/usd", "100.00", "200.00"},
		{"customers.cus_B", "allowed", ""},
		{"rotate_every", "", "90d"},
		{"scopes.payouts", "", "read"},
		{"scopes.refunds", "write", "read"},
		{"timezone", "UTC", "Here"},
	}
	if diff := cmp.Diff(want, Diff(before, after)); diff != "" {
		t.Error(diff)
	}
	if got := Diff(before, support()); got != nil {
		t.Errorf("equal policies differ: %v", got)
	}
}

func network(s ...string) func(*Policy) {
	return func(p *Policy) {
		for _, n := range s {
			p.Network = append(p.Network, netip.MustParsePrefix(n))
		}
	}
}

func rule(r ParamRule) func(*Policy) {
	return func(p *Policy) { p.Params = map[OperationName]map[string]ParamRule{"refunds.create": {"x": r}} }
}

func expires(e Expiry) func(*Policy) { return func(p *Policy) { p.Expires = e } }

func none(*Policy) {}

var spring, autumn = time.Unix(1_800_000_000, 0), time.Unix(1_820_000_000, 0)

var edits = map[string]struct {
	before, after func(*Policy)
	there, back   bool // from before to after, and back
}{
	"nothing changes":            {none, none, false, false},
	"a name changes":             {none, func(p *Policy) { p.Name = "b" }, false, false},
	"a reminder changes":         {none, func(p *Policy) { p.RotateEvery = time.Hour }, false, false},
	"another upstream":           {none, func(p *Policy) { p.Upstream = "b" }, true, true},
	"a scope is added":           {none, func(p *Policy) { p.Scopes["payouts"] = Read }, true, false},
	"a scope is raised":          {none, func(p *Policy) { p.Scopes["charges"] = Write }, true, false},
	"a wildcard is added":        {none, func(p *Policy) { p.Scopes["*"] = Read }, true, false},
	"a none under a wildcard":    {func(p *Policy) { p.Scopes["*"] = Write }, func(p *Policy) { p.Scopes["*"] = Write; p.Scopes["payouts"] = None }, false, true},
	"a cap is raised":            {none, func(p *Policy) { p.Caps[0].Limit++ }, true, false},
	"a cap is removed":           {none, func(p *Policy) { p.Caps = nil }, true, false},
	"another window":             {none, func(p *Policy) { p.Caps[0].Per = PerWeek }, true, true},
	"another zone without a cap": {func(p *Policy) { p.Caps = nil }, func(p *Policy) { p.Caps, p.Timezone = nil, time.FixedZone("Here", 3600) }, false, false},
	"another time zone":          {none, func(p *Policy) { p.Timezone = time.FixedZone("Here", 3600) }, true, true},
	"uncapped":                   {none, func(p *Policy) { p.Uncapped = true }, true, false},
	"any customer":               {none, func(p *Policy) { p.Customers = Customers{Any: true} }, true, false},
	"one customer more":          {none, func(p *Policy) { p.Customers.List = []CustomerID{"cus_A", "cus_B", "cus_C"} }, true, false},
	"creating customers":         {none, func(p *Policy) { p.MayCreate = true }, true, false},
	"an unfilterable operation":  {none, func(p *Policy) { p.NoCustomer = []OperationName{"a"} }, true, false},
	"an account":                 {none, func(p *Policy) { p.Accounts = []AccountID{"a"} }, true, false},
	"an unmetered operation":     {none, func(p *Policy) { p.Unmetered = []OperationName{"a"} }, true, false},
	"one of all unmetered":       {func(p *Policy) { p.Unmetered = []OperationName{"*"} }, func(p *Policy) { p.Unmetered = []OperationName{"a"} }, false, true},
	"client secrets":             {none, func(p *Policy) { p.ClientSecrets = true }, true, false},
	"repeats":                    {none, func(p *Policy) { p.RepeatUnknown = true }, true, false},
	"shadow":                     {none, func(p *Policy) { p.Enforcement = Shadow }, true, false},
	"no network":                 {network("10.0.0.0/8"), none, true, false},
	"a network within":           {network("10.0.0.0/8"), network("10.1.0.0/16"), false, true},
	"a network beside":           {network("10.0.0.0/8"), network("11.0.0.0/8"), true, true},
	"a network more":             {network("10.0.0.0/8"), network("10.0.0.0/8", "11.0.0.0/8"), true, false},
	"the same span":              {expires(Expiry{After: 1}), expires(Expiry{After: 1}), false, false},
	"the same date":              {expires(Expiry{At: spring}), expires(Expiry{At: spring}), false, false},
	"a longer span":              {expires(Expiry{After: 1}), expires(Expiry{After: 2}), true, false},
	"no end":                     {expires(Expiry{After: 1}), none, true, false},
	"a later date":               {expires(Expiry{At: spring}), expires(Expiry{At: autumn}), true, false},
	"no date":                    {expires(Expiry{At: spring}), none, true, false},
	"a date for a span":          {expires(Expiry{At: spring}), expires(Expiry{After: 1}), true, true},
	"a rule":                     {none, rule(ParamRule{Deny: true}), false, true},
	"a rule that still denies":   {rule(ParamRule{Max: ptr(int64(5))}), rule(ParamRule{Deny: true}), false, true},
	"a larger choice":            {rule(ParamRule{In: []string{"a"}}), rule(ParamRule{In: []string{"a", "b"}}), true, false},
	"fewer exclusions":           {rule(ParamRule{Not: []string{"a", "b"}}), rule(ParamRule{Not: []string{"a"}}), true, false},
	"a larger maximum":           {rule(ParamRule{Max: ptr(int64(5))}), rule(ParamRule{Max: ptr(int64(6))}), true, false},
	"a smaller minimum":          {rule(ParamRule{Min: ptr(int64(5))}), rule(ParamRule{Min: ptr(int64(4))}), true, false},
	"no maximum":                 {rule(ParamRule{Max: ptr(int64(5))}), rule(ParamRule{Required: true}), true, true},
	"a pattern more":             {rule(ParamRule{Required: true}), rule(ParamRule{Required: true, Pattern: "a"}), false, true},
	"another pattern":            {rule(ParamRule{Pattern: "b"}), rule(ParamRule{Pattern: "a"}), true, true},
	"no longer required":         {rule(ParamRule{Required: true, Pattern: "a"}), rule(ParamRule{Pattern: "a"}), true, false},
	"a denial in place of need":  {rule(ParamRule{Required: true}), rule(ParamRule{Deny: true}), true, true},
	"a cap more under uncapped":  {func(p *Policy) { p.Uncapped, p.Caps = true, nil }, func(p *Policy) { p.Uncapped = true }, false, true},
	"another list of one length": {none, func(p *Policy) { p.Customers.List = []CustomerID{"cus_A", "cus_C"} }, true, true},
}

func TestWidens(t *testing.T) {
	for name, test := range edits {
		before, after := support(), support()
		test.before(before)
		test.after(after)
		if got := Widens(before, after); got != test.there {
			t.Errorf("%s: %v, want %v", name, got, test.there)
		}
		if got := Widens(after, before); got != test.back {
			t.Errorf("%s, undone: %v, want %v", name, got, test.back)
		}
	}
}

// anyOperation draws what an adapter could hand over, right or wrong.
func anyOperation(t *rapid.T) *Operation {
	name := rapid.SampledFrom(vocabulary.Operations()).Draw(t, "operation")
	term, _ := vocabulary.Operation(name)
	op := &Operation{
		Name: name, Resource: term.Resource, Access: Access(rapid.IntRange(0, 3).Draw(t, "access")),
		Account:         rapid.SampledFrom([]AccountID{"", "", "acct_1"}).Draw(t, "account"),
		CreatesCustomer: rapid.IntRange(0, 4).Draw(t, "creates") == 0,
		Resolved:        rapid.Bool().Draw(t, "resolved"),
		Customer: CustomerTie{
			Kind:      CustomerKind(rapid.IntRange(0, 5).Draw(t, "tie")),
			Customers: rapid.SliceOfN(rapid.SampledFrom([]CustomerID{"cus_A", "cus_B", "cus_C"}), 0, 2).Draw(t, "concerned"),
			Guest:     rapid.IntRange(0, 4).Draw(t, "guest") == 0,
			Add:       "customer",
		},
	}
	for _, bucket := range rapid.SliceOfN(rapid.SampledFrom(vocabulary.Resources()), 0, 2).Draw(t, "buckets") {
		e := cents(bucket, rapid.Int64Range(-1, 200_000).Draw(t, "cents"))
		e.Known = rapid.IntRange(0, 5).Draw(t, "known") > 0
		e.Unmeterable = rapid.IntRange(0, 5).Draw(t, "unmeterable") == 0
		if rapid.IntRange(0, 5).Draw(t, "rate") == 0 {
			e.Quote = money.Quote{}
		}
		op.Effects = append(op.Effects, e)
	}
	if rapid.IntRange(0, 3).Draw(t, "needs") == 0 {
		op.Needs = []Need{{Resource: rapid.SampledFrom(vocabulary.Resources()).Draw(t, "need"), Access: Read}}
	}
	if rapid.IntRange(0, 9).Draw(t, "refused") == 0 {
		op.Refused = &Refusal{Code: CodeMalformed, Message: "No."}
	}
	view := values{}
	for _, path := range []string{"amount", "lines[][quantity]"} {
		if rapid.Bool().Draw(t, path) {
			view[path] = rapid.SliceOfN(rapid.SampledFrom([]string{"1", "5", "a", ""}), 0, 2).Draw(t, "values of "+path)
		}
	}
	op.Params = view
	return op
}

// narrowed changes one thing in the direction of less.
func narrowed(t *rapid.T, p *Policy) *Policy {
	out := *p
	switch rapid.IntRange(0, 9).Draw(t, "narrowing") {
	case 0:
		out.Scopes = maps.Clone(p.Scopes)
		if out.Scopes == nil {
			out.Scopes = map[Resource]Access{}
		}
		r := rapid.SampledFrom(vocabulary.Resources()).Draw(t, "lower")
		out.Scopes[r] = Access(rapid.IntRange(0, int(p.Scope(r))).Draw(t, "to"))
	case 1:
		out.Caps = slices.Clone(p.Caps)
		i := rapid.IntRange(0, len(out.Caps)-1).Draw(t, "cap")
		out.Caps[i].Limit = rapid.Int64Range(0, out.Caps[i].Limit).Draw(t, "lowered")
	case 2:
		c := Cap{"payouts", PerCall, UnitUSD, 5}
		if !slices.ContainsFunc(p.Caps, c.same) {
			out.Caps = append(slices.Clone(p.Caps), c)
		}
	case 3:
		out.Uncapped = false
	case 4:
		out.Customers = Customers{List: []CustomerID{}}
	case 5:
		out.MayCreate, out.NoCustomer = false, nil
	case 6:
		out.Unmetered, out.Accounts = nil, nil
	case 7:
		out.Enforcement = Enforce
	case 8:
		out.Params = map[OperationName]map[string]ParamRule{}
		maps.Copy(out.Params, p.Params)
		name := rapid.SampledFrom(vocabulary.Operations()).Draw(t, "ruled")
		rules := maps.Clone(p.Params[name])
		if rules == nil {
			rules = map[string]ParamRule{}
		}
		if !rules["amount"].Required {
			rules["amount"] = ParamRule{Deny: true}
		}
		out.Params[name] = rules
	default:
		out.Network = nil
		if len(p.Network) == 0 {
			out.Network = networks[:1]
		} else {
			out.Network = p.Network[:1]
		}
	}
	return &out
}

func TestANarrowerPolicyNeverAllowsMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		wide := anyPolicy(t)
		narrow := wide
		for range rapid.IntRange(1, 4).Draw(t, "steps") {
			narrow = narrowed(t, narrow)
		}
		if Widens(wide, narrow) {
			t.Fatalf("counts as wider: %v", Diff(wide, narrow))
		}
		for range 5 {
			op := anyOperation(t)
			if Decide(narrow, op).Verdict == Allow && Decide(wide, op).Verdict == Deny {
				t.Fatalf("%+v is allowed by the narrower policy only: %+v\n%v", op, Decide(wide, op), Diff(wide, narrow))
			}
		}
	})
}

func TestWhatDoesNotWidenNeverAllowsMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before, after := anyPolicy(t), anyPolicy(t)
		after.Upstream, after.Timezone = before.Upstream, before.Timezone
		op := anyOperation(t)
		if !Widens(before, after) && Decide(after, op).Verdict == Allow && Decide(before, op).Verdict == Deny {
			t.Fatalf("%+v is newly allowed by a change that does not widen: %v", op, Diff(before, after))
		}
	})
}

func TestDecideKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, op := anyPolicy(t), anyOperation(t)
		d := Decide(p, op)
		soft := !slices.ContainsFunc(d.Failures, func(f Failure) bool { return !f.Soft })
		switch {
		case (op.Access != Read && op.Access != Write) && (d.Verdict == Allow || d.First().Code != CodeUnknownRoute && op.Refused == nil):
			t.Fatalf("an unknown route gets %+v", d)
		case op.Refused != nil && d.Verdict == Allow:
			t.Fatalf("a refused operation gets %+v", d)
		case p.Enforcement == Shadow && soft && d.Verdict == Deny:
			t.Fatalf("shadow denies softly: %+v", d)
		case p.Enforcement == Enforce && (d.Verdict == Allow) != (len(d.Failures) == 0):
			t.Fatalf("verdict and failures disagree: %+v", d)
		case d.Shadowed != (d.Verdict == Allow && len(d.Failures) > 0):
			t.Fatalf("shadowed and verdict disagree: %+v", d)
		case d.Verdict == Deny && p.Enforcement == Shadow && d.First().Soft:
			t.Fatalf("the first failure did not decide: %+v", d)
		}
		if d.Verdict != Allow || !op.Resolved {
			return
		}
		for _, e := range op.Counted() {
			if !e.Known || e.Unmeterable || e.Amount.Minor < 0 {
				t.Fatalf("%+v is to be held", e)
			}
			if _, err := e.dollars(); err != nil && p.hasUSDCap(e.Bucket) {
				t.Fatalf("%+v is to be held in dollars: %v", e, err)
			}
		}
		if len(op.Counted()) < len(op.Effects) && !p.Unmeters(op.Name) {
			t.Fatal("an effect goes uncounted that the policy does not unmeter")
		}
	})
}

func TestCapsFor(t *testing.T) {
	p := &Policy{Caps: []Cap{
		{"refunds", PerDay, UnitUSD, 1}, {"*", PerDay, UnitUSD, 1}, {"charges", PerDay, UnitUSD, 1},
		{"refunds", PerHour, UnitCalls, 1}, {"*", PerHour, UnitCalls, 1}, {"charges", PerHour, UnitCalls, 1},
	}}
	update := refund()
	update.Effects = nil
	for name, test := range map[string]struct {
		op     *Operation
		want   []int
		counts []Resource
	}{
		"a refund counts in dollars and calls": {refund(), []int{0, 1, 3, 4}, []Resource{"refunds"}},
		"a write that moves nothing is a call": {update, []int{3, 4}, []Resource{"refunds"}},
		"a read counts nowhere":                {listing(), nil, nil},
	} {
		var want []Cap
		for _, i := range test.want {
			want = append(want, p.Caps[i])
		}
		if diff := cmp.Diff(want, p.CapsFor(test.op)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if diff := cmp.Diff(test.counts, test.op.Counts()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestWhatBreaksNoRuleCostsNoAllocation(t *testing.T) {
	p := support()
	read := &Operation{Name: "charges.retrieve", Resource: "charges", Access: Read, Customer: CustomerTie{Kind: TieLookup}}
	write := refund()
	if n := testing.AllocsPerRun(100, func() { Decide(p, read); Decide(p, write) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDecideRead(b *testing.B) {
	p := support()
	op := &Operation{Name: "charges.retrieve", Resource: "charges", Access: Read, Customer: CustomerTie{Kind: TieLookup}}
	b.ReportAllocs()
	for b.Loop() {
		if d := Decide(p, op); d.Verdict != Allow {
			b.Fatal(d)
		}
	}
}

func BenchmarkDecideRefund(b *testing.B) {
	p, op := support(), refund()
	b.ReportAllocs()
	for b.Loop() {
		if d := Decide(p, op); d.Verdict != Allow {
			b.Fatal(d)
		}
	}
}
