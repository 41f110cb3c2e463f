package policy

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keybrake/keybrake/internal/money"
)

func TestAsksAreWhatACapMustTakeForSure(t *testing.T) {
	one := func(change func(*Effect)) *Operation {
		op := refund()
		op.Effects[0].USD = 20 * money.Dollar
		change(&op.Effects[0])
		return op
	}
	usual := func(*Effect) {}
	priced := []Ask{{Asked: 20_000_000, Amount: money.Amount{Minor: 2000, Currency: "usd"}}}
	dollarsPer := func(r Resource) Cap { return Cap{r, PerDay, UnitUSD, 1} }
	tests := map[string]struct {
		op   *Operation
		cap  Cap
		want []Ask
	}{
		"an amount under its resource's cap":         {one(usual), dollarsPer("refunds"), priced},
		"and under the wildcard's":                   {one(usual), dollarsPer("*"), priced},
		"not under another resource's":               {one(usual), dollarsPer("charges"), nil},
		"a cap per call is no account":               {one(usual), Cap{"refunds", PerCall, UnitUSD, 1}, nil},
		"a read asks for nothing":                    {func() *Operation { op := one(usual); op.Access = Read; return op }(), dollarsPer("refunds"), nil},
		"a call under a cap in calls":                {one(usual), Cap{"refunds", PerDay, UnitCalls, 1}, []Ask{{Asked: 1}}},
		"not under another resource's in calls":      {one(usual), Cap{"charges", PerDay, UnitCalls, 1}, nil},
		"what has no bound asks for nothing":         {one(func(e *Effect) { e.Unmeterable = true }), dollarsPer("refunds"), nil},
		"a total on an object may add nothing":       {one(func(e *Effect) { e.Object, e.Mode = "re_1", Total }), dollarsPer("refunds"), nil},
		"a total on no object adds":                  {one(func(e *Effect) { e.Mode = Total }), dollarsPer("refunds"), priced},
		"what is gross adds on an object":            {one(func(e *Effect) { e.Object = "re_1" }), dollarsPer("refunds"), priced},
		"nothing asks for nothing":                   {one(func(e *Effect) { e.USD = 0 }), dollarsPer("refunds"), nil},
		"the least asks for the least":               {one(func(e *Effect) { e.USD = 1 }), dollarsPer("refunds"), []Ask{{Asked: 1, Amount: money.Amount{Minor: 2000, Currency: "usd"}}}},
		"what is not known yet is more than nothing": {one(func(e *Effect) { *e = Effect{Bucket: "refunds", Named: 70} }), dollarsPer("refunds"), []Ask{{Amount: money.Amount{Minor: 70}}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, test.op.Asks(test.cap)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestOnlyWhatIsKnownAndMeteredIsHeld(t *testing.T) {
	op := refund()
	known, unknown, both := cents("refunds", 1), Effect{Bucket: "refunds", Unmeterable: true}, cents("refunds", 2)
	both.Unmeterable = true
	op.Effects = []Effect{known, unknown, both, {Bucket: "refunds"}}
	if diff := cmp.Diff([]Effect{known}, op.Counted()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	op.Effects = []Effect{known, known}
	if got := op.Counted(); len(got) != 2 || &got[0] != &op.Effects[0] {
		t.Errorf("all are known, and it made %v", got)
	}
}

func TestWaivingKeepsWhyAnAmountIsUnmeterable(t *testing.T) {
	p := &Policy{Unmetered: []OperationName{"*"}}
	for name, test := range map[string]struct {
		unmeterable, waived, want bool
	}{
		"an amount that would be looked up": {false, false, true},
		"one that never had a bound":        {true, false, false},
		"one that was waived before":        {true, true, true},
	} {
		op := refund()
		op.Effects[0] = Effect{Bucket: "refunds", Unmeterable: test.unmeterable, Waived: test.waived}
		p.Waive(op)
		if e := op.Effects[0]; e.Waived != test.want || !e.Unmeterable {
			t.Errorf("%s: waived %t, unmeterable %t", name, e.Waived, e.Unmeterable)
		}
	}
}

func TestAFullCapPerCallTellsTheAmountInItsCurrency(t *testing.T) {
	euros := cents("refunds", 5000)
	euros.Amount.Currency, euros.Quote.Currency = "eur", "eur"
	half := cents("refunds", math.MaxInt64/2+1) // two of them are more than 64 bits
	half.Quote = money.Quote{Currency: "usd", Exponent: 2, Value: 1}
	rest := half
	rest.Amount.Minor = math.MaxInt64 - half.Amount.Minor
	none := cents("refunds", 0)
	tests := map[string]struct {
		effects []Effect
		want    money.Amount
	}{
		"one":                                {[]Effect{cents("refunds", 5000)}, money.Amount{Minor: 5000, Currency: "usd"}},
		"two of one currency":                {[]Effect{cents("refunds", 5000), cents("refunds", 1)}, money.Amount{Minor: 5001, Currency: "usd"}},
		"two currencies":                     {[]Effect{cents("refunds", 5000), euros}, money.Amount{}},
		"two currencies, and the last again": {[]Effect{cents("refunds", 5000), euros, euros}, money.Amount{}},
		"more than can be written":           {[]Effect{cents("refunds", 5000), half, half}, money.Amount{}},
		"twice more than can be written":     {[]Effect{half, half, half, half, cents("refunds", 5000)}, money.Amount{}},
		"as much as can be written":          {[]Effect{rest, half}, money.Amount{Minor: math.MaxInt64, Currency: "usd"}},
		"a cent after nothing":               {[]Effect{none, cents("refunds", 5000)}, money.Amount{Minor: 5000, Currency: "usd"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p, op := support(), refund()
			perCall("refunds", UnitUSD, 1)(p)
			op.Effects = test.effects
			full := PerCallFailures(p, op)
			if len(full) != 1 || full[0].AskedInCurrency != test.want {
				t.Errorf("got %+v, want %v", full, test.want)
			}
		})
	}
}

func TestPresenceDecidesWhatValuesCannot(t *testing.T) {
	limit := int64(5)
	tests := map[string]struct {
		rule            ParamRule
		present         bool
		broken, certain bool
	}{
		"a required one is there":         {ParamRule{Required: true}, true, false, true},
		"a required one is not":           {ParamRule{Required: true}, false, true, true},
		"a forbidden one is there":        {ParamRule{Deny: true}, true, true, true},
		"a forbidden one is not":          {ParamRule{Deny: true}, false, false, true},
		"its value decides: a list":       {ParamRule{In: []string{"a"}}, true, false, false},
		"its value decides: another list": {ParamRule{Not: []string{"a"}}, true, false, false},
		"its value decides: most":         {ParamRule{Max: &limit}, true, false, false},
		"its value decides: least":        {ParamRule{Min: &limit}, true, false, false},
		"its value decides: a pattern":    {ParamRule{Pattern: "a"}, true, false, false},
		"no value, nothing to break":      {ParamRule{Max: &limit}, false, false, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if broken, certain := test.rule.ByPresence(test.present); broken != test.broken || certain != test.certain {
				t.Errorf("broken %t, certain %t", broken, certain)
			}
		})
	}
}

func TestWholeNumbersAreDecimalAndOf64Bits(t *testing.T) {
	most, least := int64(math.MaxInt64), int64(math.MinInt64)
	rule := ParamRule{Max: &most, Min: &least}
	for value, breaks := range map[string]bool{
		"9223372036854775807": false, "-9223372036854775808": false, "9223372036854775808": true, "9": false, "a": true, "": true,
	} {
		if why := rule.valueBroken(value); (why != "") != breaks {
			t.Errorf("%q: %s", value, why)
		}
	}
	ten := int64(10)
	if why := (&ParamRule{Min: &ten, Max: &ten}).valueBroken("10"); why != "" {
		t.Errorf("10 is not ten: %s", why)
	}
}

func TestALongListIsToldInPart(t *testing.T) {
	list := func(n int) (out []string) {
		for i := range n {
			out = append(out, fmt.Sprint(i))
		}
		return out
	}
	for n, want := range map[int]string{
		0: "(nothing)", 10: "0, 1, 2, 3, 4, 5, 6, 7, 8, 9", 12: "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more",
	} {
		if got := sample(list(n)); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}

func TestWhatTogetherIsTooMuchToCountPassesNoCapPerCall(t *testing.T) {
	p, op := support(), refund()
	perCall("refunds", UnitUSD, 5)(p)
	most := cents("refunds", math.MaxInt64/10_000)
	op.Effects = []Effect{most, most}
	full := PerCallFailures(p, op)
	if len(full) != 1 || full[0].Asked != math.MaxInt64 || full[0].AskedInCurrency != (money.Amount{}) {
		t.Errorf("got %+v", full)
	}
}

// TestLowers: whoever may only lower must not be able to give, nor to change what neither gives nor takes.
func TestLowers(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Policy)
		want   bool
	}{
		"nothing":                        {func(*Policy) {}, true},
		"a lower limit":                  {func(p *Policy) { p.Caps[0].Limit-- }, true},
		"a higher limit":                 {func(p *Policy) { p.Caps[0].Limit++ }, false},
		"a smaller scope":                {func(p *Policy) { p.Scopes["refunds"] = Read }, true},
		"another name":                   {func(p *Policy) { p.Name = "other" }, false},
		"another timezone":               {func(p *Policy) { p.Timezone = time.FixedZone("X", 3600) }, false},
		"other rotations":                {func(p *Policy) { p.RotateEvery = time.Hour }, false},
		"a lower limit and another name": {func(p *Policy) { p.Caps[0].Limit--; p.Name = "other" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			after := support()
			test.change(after)
			if got := Lowers(support(), after); got != test.want {
				t.Errorf("lowers: %t", got)
			}
		})
	}
}

func TestSpans(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"1m": time.Minute, "90m": 90 * time.Minute, "2h": 2 * time.Hour, "1d": 24 * time.Hour, "3660d": 3660 * 24 * time.Hour,
		"87840h": 3660 * 24 * time.Hour, "000003660d": 3660 * 24 * time.Hour,
		"3661d": 0, "87841h": 0, "0000003660d": 0, "0d": 0, "d": 0, "": 0, "5": 0, "5s": 0, "4294967296m": 0, "-1d": 0, "99999999d": 0,
	} {
		got, err := ParseSpan(in)
		if got != want || (err != nil) != (want == 0) {
			t.Errorf("%q: %s, %v", in, got, err)
		}
		if n, _ := strings.CutPrefix(in, "00000"); want > 0 && in != "87840h" && FormatSpan(got) != n {
			t.Errorf("%q is written %q", in, FormatSpan(got))
		}
	}
	for d, want := range map[time.Duration]string{time.Hour: "1h", 23 * time.Hour: "23h", 25 * time.Hour: "25h", 61 * time.Minute: "61m"} {
		if got := FormatSpan(d); got != want {
			t.Errorf("%s is written %q", d, got)
		}
	}
}

func TestLimitsInCalls(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "7": 7, "10": 10, "1000000000000": maxCalls,
		"1000000000001": -1, "+7": -1, "07": -1, "00": -1, "-1": -1, "1.0": -1, "x": -1, "99999999999999999999": -1,
	} {
		unit, got, err := parseLimit("calls", in)
		if unit != UnitCalls || (err == nil) != (want >= 0) || (err == nil && got != want) {
			t.Errorf("%q: %v %d, %v", in, unit, got, err)
		}
	}
}

func TestAChangeNamesWhatWasSet(t *testing.T) {
	before := support()
	for field, change := range map[string]func(*Policy){
		"name": func(p *Policy) { p.Name = "n" }, "upstream": func(p *Policy) { p.Upstream = "u" },
		"rotate_every": func(p *Policy) { p.RotateEvery = 1 }, "enforcement": func(p *Policy) { p.Enforcement = Shadow },
		"expires": func(p *Policy) { p.Expires = Expiry{After: time.Hour} },
	} {
		after := support()
		change(after)
		got := Diff(before, after)
		if len(got) != 1 || got[0].Field != field || got[0].Old != "" || got[0].New == "" {
			t.Errorf("%s: %+v", field, got)
		}
	}
	after := support()
	after.Customers = Customers{Any: true}
	fields := map[string]bool{}
	for _, c := range Diff(before, after) {
		fields[c.Field+": "+c.Old+" -> "+c.New] = true
	}
	if !fields["customers: a list -> any"] {
		t.Errorf("from a list to any: %v", fields)
	}
	silent := support()
	silent.Customers = Customers{}
	after.Customers = Customers{List: []CustomerID{}}
	if got := Diff(silent, after); len(got) != 1 || got[0] != (Change{"customers", "", "a list"}) {
		t.Errorf("from no customers to a list of none: %v", got)
	}
}

func TestNamesThatNeedNoQuotes(t *testing.T) {
	for s, want := range map[string]bool{
		"a": true, "z": true, "A": true, "Z": true, "a0": true, "a9": true, "a_b.c-d/e": true, "Zz9": true,
		"": false, "0": false, "9a": false, ".a": false, "-": false, "a b": false, "a:": false, "a@": false, "a[": false, "a`": false, "a{": false,
		"Yes": false, "null": false,
	} {
		if got := bare(s); got != want {
			t.Errorf("%q: %t", s, got)
		}
	}
	for e, want := range map[Expiry]string{
		{}: "never", {After: 1}: "0m", {After: time.Minute}: "1m", {After: time.Hour}: "1h", {At: time.Unix(0, 0)}: "1970-01-01T00:00:00Z",
	} {
		if got := e.String(); got != want {
			t.Errorf("%+v is written %q", e, got)
		}
	}
}

func TestFailuresStandInTheirOrderUnderShadow(t *testing.T) {
	p := &Policy{Enforcement: Shadow}
	soft, hard := func(s string) Failure { return Failure{Rule: s, Soft: true} }, func(s string) Failure { return Failure{Rule: s} }
	d := verdict(p, []Failure{soft("1"), hard("2"), soft("3"), hard("4"), soft("5")})
	var order []string
	for _, f := range d.Failures {
		order = append(order, f.Rule)
	}
	if got := strings.Join(order, " "); got != "2 4 1 3 5" || d.Verdict != Deny {
		t.Errorf("%s: %s", d.Verdict, got)
	}
}

func TestPoliciesAtTheirLimits(t *testing.T) {
	const base = "scopes: {refunds: write}\ncustomers: any\nuncapped: true\n"
	long := strings.Repeat
	for name, test := range map[string]struct {
		src string
		ok  bool
	}{
		"a name as long as one may be":     {base + "name: " + long("a", maxLabel) + "\n", true},
		"a name one longer":                {base + "name: " + long("a", maxLabel+1) + "\n", false},
		"a name with the last that prints": {base + "name: \"a~\"\n", true},
		"a name with a control character":  {base + "name: \"a\\x7f\"\n", false},
		"a name beyond ASCII":              {base + "name: \"a\\u0080\"\n", false},
		"an account as long as one may be": {base + "accounts: [acct_" + long("a", maxID-5) + "]\n", true},
		"an account one longer":            {base + "accounts: [acct_" + long("a", maxID-4) + "]\n", false},
		"an account that ends in a tilde":  {base + "accounts: [\"acct_~\"]\n", true},
		"an account with a last character": {base + "accounts: [\"acct_\\x7f\"]\n", false},
		"a pattern as long as one may be":  {base + "params: {refunds.create: {reason: {pattern: " + long("a", maxPattern) + "}}}\n", true},
		"a pattern one longer":             {base + "params: {refunds.create: {reason: {pattern: " + long("a", maxPattern+1) + "}}}\n", false},
		"a range of one number":            {base + "params: {refunds.create: {amount: {min: 5, max: 5}}}\n", true},
		"a range of none":                  {base + "params: {refunds.create: {amount: {min: 6, max: 5}}}\n", false},
		"a file as large as one may be":    {base + "#" + long("x", maxPolicyBytes-len(base)-1), true},
		"a file one byte larger":           {base + "#" + long("x", maxPolicyBytes-len(base)), false},
		"as many colons as may be":         {base + "#" + long(":", maxPolicyStructure-strings.Count(base, ":")-1), true},
		"a colon more":                     {base + "#" + long(":", maxPolicyStructure-strings.Count(base, ":")), false},
		"a bound as large as one may be":   {base + "params: {refunds.create: {amount: {max: 9223372036854775807}}}\n", true},
		"a bound one larger":               {base + "params: {refunds.create: {amount: {max: 9223372036854775808}}}\n", false},
	} {
		if _, _, err := Parse("p.yaml", []byte(test.src), vocabulary); (err == nil) != test.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
