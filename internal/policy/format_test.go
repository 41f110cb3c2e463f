package policy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var zones = []string{"UTC", "America/New_York", "Asia/Kathmandu", "Europe/Lisbon"}

// anyPolicy draws a policy that Parse would accept: bounded wherever it moves money, customers answered.
func anyPolicy(t *rapid.T) *Policy {
	zone, err := time.LoadLocation(rapid.SampledFrom(zones).Draw(t, "zone"))
	if err != nil {
		t.Fatal(err)
	}
	access := rapid.SampledFrom([]Access{None, Read, Write})
	limit := rapid.Int64Range(0, 100_000)
	resource := rapid.SampledFrom(append([]Resource{AllResources}, vocabulary.Resources()...))
	p := &Policy{
		Name:     rapid.StringMatching(`([a-zA-Z0-9._-]{1,20})?`).Draw(t, "name"),
		Upstream: rapid.SampledFrom([]string{"", "stripe-test", "true", "1"}).Draw(t, "upstream"),
		Scopes:   rapid.MapOfN(resource, access, 0, 6).Draw(t, "scopes"),
		Uncapped: rapid.Bool().Draw(t, "uncapped"),
		Customers: Customers{
			Any: rapid.Bool().Draw(t, "any"),
		},
		MayCreate:     rapid.Bool().Draw(t, "may_create"),
		NoCustomer:    operations(t, "no_customer"),
		Accounts:      nilIfEmpty(sortedOnce(rapid.SliceOfN(rapid.SampledFrom([]AccountID{"acct_1", "acct_2", "null"}), 0, 2).Draw(t, "accounts"))),
		Unmetered:     operations(t, "unmetered"),
		ClientSecrets: rapid.Bool().Draw(t, "client_secrets"),
		RepeatUnknown: rapid.Bool().Draw(t, "repeat"),
		Network:       nilIfEmpty(rapid.SliceOfNDistinct(rapid.SampledFrom(networks), 0, 3, rapid.ID).Draw(t, "network")),
		RotateEvery:   time.Duration(rapid.IntRange(0, 10_000).Draw(t, "rotate")) * time.Minute,
		Timezone:      zone,
		Enforcement:   rapid.SampledFrom([]Enforcement{Enforce, Shadow}).Draw(t, "enforcement"),
	}
	if !p.Customers.Any {
		p.Customers.List = sortedOnce(rapid.SliceOfN(rapid.SampledFrom([]CustomerID{"cus_A", "cus_B", "cus_C", "~", "#1:[x]"}), 0, 4).Draw(t, "customers"))
	}
	switch rapid.IntRange(0, 2).Draw(t, "expires") {
	case 1:
		p.Expires.After = time.Duration(rapid.IntRange(1, 10_000).Draw(t, "after")) * time.Minute
	case 2:
		p.Expires.At = time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "at"), 0).UTC()
	}
	for _, c := range rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Cap {
		c := Cap{Resource: resource.Draw(t, "of"), Per: Window(rapid.IntRange(1, 6).Draw(t, "per"))}
		c.Unit, c.Limit = UnitUSD, limit.Draw(t, "limit")*10_000
		if rapid.Bool().Draw(t, "calls") {
			c.Unit = UnitCalls
		}
		return c
	}), 0, 5).Draw(t, "caps") {
		if !slices.ContainsFunc(p.Caps, c.same) {
			p.Caps = append(p.Caps, c)
		}
	}
	total := Cap{Resource: AllResources, Per: PerTotal, Unit: UnitUSD, Limit: 5_000_000}
	if !slices.ContainsFunc(p.Caps, total.same) {
		p.Caps = append(p.Caps, total)
	}
	p.Params = anyParams(t)
	return p
}

var networks = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("0.0.0.0/0"),
	netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("192.0.2.1/32"),
}

func operations(t *rapid.T, label string) []OperationName {
	return nilIfEmpty(sortedOnce(rapid.SliceOfN(rapid.SampledFrom(vocabulary.Operations()), 0, 2).Draw(t, label)))
}

func anyParams(t *rapid.T) map[OperationName]map[string]ParamRule {
	text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", "true", "null", "~", "1", "- a", "a: b", "#", "\u2028", "'", "\x7f", "\ufeff", "é"}))
	rule := rapid.Custom(func(t *rapid.T) ParamRule {
		var r ParamRule
		switch rapid.IntRange(0, 5).Draw(t, "kind") {
		case 0:
			r.Deny = true
		case 1:
			r.Required = true
		case 2:
			r.In = sortedOnce(rapid.SliceOfN(text, 1, 3).Draw(t, "in"))
		case 3:
			r.Not = sortedOnce(rapid.SliceOfN(text, 1, 3).Draw(t, "not"))
			r.Required = rapid.Bool().Draw(t, "required")
		case 4:
			r.Min = ptr(rapid.Int64Range(-5, 5).Draw(t, "min"))
			r.Max = ptr(rapid.Int64Range(5, 50).Draw(t, "max"))
		default:
			r.Pattern = rapid.SampledFrom([]string{"[0-9]+", `a|b\.`, `"x": '\\'`}).Draw(t, "pattern")
		}
		return r
	})
	rules := rapid.MapOfN(rapid.SampledFrom([]string{"amount", "lines[][quantity]"}), rule, 0, 2).Draw(t, "rules")
	if len(rules) == 0 {
		return nil
	}
	return map[OperationName]map[string]ParamRule{"refunds.create": rules}
}

func TestCanonicalFormReadsBackEqual(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := anyPolicy(t)
		text := Format(want)
		got, _, err := Parse("canonical.yaml", text, vocabulary)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if diff := cmp.Diff(want, got, same); diff != "" {
			t.Fatalf("%s\n%s", diff, text)
		}
		if Digest(got) != Digest(want) || len(Diff(got, want)) != 0 || Widens(want, got) {
			t.Fatalf("an equal policy counts as changed: %v", Diff(got, want))
		}
	})
}

func TestFormatIsForPeople(t *testing.T) {
	p, _, err := Parse("p.yaml", []byte(whole), vocabulary)
	if err != nil {
		t.Fatal(err)
	}
	const want = `name: agent-support-refunds-runner42
upstream: stripe-test
scopes:
  charges: read
  customers: none
  payment_intents: read
  refunds: write
`
	if got := string(Format(p)); !strings.HasPrefix(got, want) {
		t.Errorf("got\n%s", got)
	}
	const caps = "caps:\n  - {resource: refunds, per: day, usd: 500.00}\n  - {resource: refunds, per: call, usd: 0.07}\n" +
		"  - {resource: refunds, per: hour, calls: 30}\n  - {resource: \"*\", per: month, usd: 5000.00}\ncustomers: [cus_A, cus_B]\n"
	if got := string(Format(p)); !strings.Contains(got, caps) {
		t.Errorf("no caps as written in\n%s", got)
	}
}

func TestWhatIsNotSetIsNotWritten(t *testing.T) {
	if got := string(Format(&Policy{})); got != "scopes: {}\n" {
		t.Errorf("the zero policy is written\n%s", got)
	}
}

func TestTextIsWrittenAsItStands(t *testing.T) {
	for in, want := range map[string]string{
		"<a> & b": `"<a> & b"`, "1": `"1"`, "a\"b": `"a\"b"`, "": `""`,
	} {
		if got := quote(in); got != want {
			t.Errorf("%q is written %s", in, got)
		}
	}
}

func TestDigestTellsPoliciesApart(t *testing.T) {
	a := &Policy{Scopes: map[Resource]Access{"refunds": Read}}
	b := &Policy{Scopes: map[Resource]Access{"refunds": Write}}
	if Digest(a) == Digest(b) || len(Digest(a)) != 64 {
		t.Errorf("digests %s and %s", Digest(a), Digest(b))
	}
}

func TestPresetsAreThoseOfTheGuide(t *testing.T) {
	want := map[string]map[Resource]Access{
		"refund-support": {"charges": Read, "payment_intents": Read, "customers": Read, "refunds": Write},
		"reconciliation": {
			"charges": Read, "payment_intents": Read, "customers": Read, "invoices": Read, "balance_transactions": Read,
			"events": Read, "payouts": Read,
		},
		"catalog-update": {"products": Write, "plans": Write, "prices": Write},
	}
	for _, preset := range Presets()[:3] { // the others are held against the catalog, which knows their names
		p, _, err := Parse(preset.Name, preset.YAML, vocabulary)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if diff := cmp.Diff(want[preset.Name], p.Scopes); diff != "" || preset.Title == "" || preset.Description == "" {
			t.Errorf("%s: %s", preset.Name, diff)
		}
		if p.Uncapped || len(p.Unmetered) > 0 || p.Enforcement != Enforce {
			t.Errorf("%s is looser than its scopes", preset.Name)
		}
		delete(want, preset.Name)
	}
	if len(want) > 0 {
		t.Errorf("no preset for %v", want)
	}
	if _, err := FindPreset("refund-suport"); err == nil || !strings.Contains(err.Error(), "did you mean `refund-support`?") {
		t.Errorf("got %v", err)
	}
	if p, err := FindPreset("catalog-update"); err != nil || p.Name != "catalog-update" {
		t.Errorf("got %v, %v", p.Name, err)
	}
}

func TestFlagsChangeAPreset(t *testing.T) {
	preset, err := FindPreset("refund-support")
	if err != nil {
		t.Fatal(err)
	}
	day, err := ParseCapFlag("refunds/day=100")
	if err != nil {
		t.Fatal(err)
	}
	hour, err := ParseCapFlag("refunds/hour=30calls")
	if err != nil {
		t.Fatal(err)
	}
	customers, err := ParseCustomerFlags([]string{"cus_B", "cus_A", "cus_B"})
	if err != nil {
		t.Fatal(err)
	}
	edit := Edit{Name: "agent-support-refunds-r1", Upstream: "u", Caps: []Cap{day, hour}, Customers: &customers, Expires: &Expiry{After: time.Hour}}
	got, warnings, err := ParseEdited(preset.Name, preset.YAML, vocabulary, edit)
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	want := &Policy{
		Name: "agent-support-refunds-r1", Upstream: "u",
		Scopes:    map[Resource]Access{"charges": Read, "payment_intents": Read, "customers": Read, "refunds": Write},
		Caps:      []Cap{{"refunds", PerDay, UnitUSD, 100_000_000}, {"refunds", PerHour, UnitCalls, 30}},
		Customers: Customers{List: []CustomerID{"cus_A", "cus_B"}}, Expires: Expiry{After: time.Hour},
		RotateEvery: 90 * 24 * time.Hour, Timezone: time.UTC,
	}
	if diff := cmp.Diff(want, got, same); diff != "" {
		t.Error(diff)
	}
}

func TestFlagsCanCompleteAFile(t *testing.T) {
	day := Cap{"refunds", PerDay, UnitUSD, 1}
	edit := Edit{Caps: []Cap{day}, Customers: &Customers{Any: true}}
	if _, _, err := ParseEdited("p.yaml", []byte("scopes: {refunds: write}\n"), vocabulary, edit); err != nil {
		t.Error(err)
	}
	for want, edit := range map[string]Edit{
		"no such resource `refund`; did you mean `refunds`?": {Caps: []Cap{{"refund", PerDay, UnitUSD, 1}}},
		"name: \"a b\" holds characters":                     {Name: "a b"},
		"upstream: \"*\" holds characters":                   {Upstream: "*"},
	} {
		_, _, err := ParseEdited("p.yaml", []byte("scopes: {products: write}\n"), vocabulary, edit)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestAnEditLeavesItsPolicyAlone(t *testing.T) {
	before := &Policy{Caps: []Cap{{"refunds", PerDay, UnitUSD, 1}}, Customers: Customers{Any: true}, Name: "a"}
	after := Edit{Name: "b", Caps: []Cap{{"refunds", PerDay, UnitUSD, 2}}, Customers: &Customers{}}.Apply(before)
	if before.Caps[0].Limit != 1 || before.Name != "a" || !before.Customers.Any || after.Caps[0].Limit != 2 {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

func TestParseCapFlag(t *testing.T) {
	for in, want := range map[string]Cap{
		"refunds/day=500": {"refunds", PerDay, UnitUSD, 500_000_000}, "refunds/hour=30calls": {"refunds", PerHour, UnitCalls, 30},
		"*/month=5000.50": {"*", PerMonth, UnitUSD, 5_000_500_000}, "refunds/call=0": {"refunds", PerCall, UnitUSD, 0},
	} {
		if got, err := ParseCapFlag(in); err != nil || got != want {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
		if again, err := ParseCapFlag(want.Flag()); err != nil || again != want {
			t.Errorf("%s is written as %s, which is read as %+v, %v", in, want.Flag(), again, err)
		}
	}
	for in, want := range map[string]string{
		"": "write resource/window=dollars", "refunds=5": "write resource/window=dollars", "refunds/day": "write resource",
		"/day=5": "write resource", "refunds/dya=5": "did you mean `day`?", "refunds/day=-5": "cannot be negative",
		"refunds/day=": "write dollars", "refunds/day=calls": "whole number of calls", "refunds/day=1.5calls": "whole number",
		"refunds/day=$5": "write dollars", "refunds/day=5=6": "write dollars", "refunds/day=-1calls": "cannot be negative",
	} {
		if got, err := ParseCapFlag(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v; want %q", in, got, err, want)
		}
	}
}

func TestParseLabel(t *testing.T) {
	if got, err := ParseLabel("agent-1"); err != nil || got != "agent-1" {
		t.Errorf("a good name: %q, %v", got, err)
	}
	if got, err := ParseLabel("agent 1"); err == nil || got != "" || !strings.HasPrefix(err.Error(), "name: ") {
		t.Errorf("a name with a space: %q, %v", got, err)
	}
}

func TestParseCustomerFlags(t *testing.T) {
	if got, err := ParseCustomerFlags([]string{"any"}); err != nil || !got.Any {
		t.Errorf("any: %+v, %v", got, err)
	}
	for _, bad := range [][]string{{"cus_A", "any"}, {""}, {"a b"}} {
		if got, err := ParseCustomerFlags(bad); err == nil {
			t.Errorf("%q: %+v", bad, got)
		}
	}
}
