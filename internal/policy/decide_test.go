package policy

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/money"
)

var dollars = money.Quote{Currency: "usd", Exponent: 2, Value: 1_000_000_000_000}

func cents(bucket Resource, n int64) Effect {
	return Effect{Bucket: bucket, Known: true, Amount: money.Amount{Minor: n, Currency: "usd"}, Quote: dollars}
}

// refund is a resolved refund of $20 of customer A.
func refund() *Operation {
	return &Operation{
		Name: "refunds.create", Resource: "refunds", Access: Write, Effects: []Effect{cents("refunds", 2000)},
		Customer: CustomerTie{Kind: TieKnown, Customers: []CustomerID{"cus_A"}}, Resolved: true,
	}
}

func listing() *Operation {
	return &Operation{Name: "charges.list", Resource: "charges", Access: Read, Customer: CustomerTie{Kind: TieFilter, Add: "customer"}, Resolved: true}
}

func support() *Policy {
	return &Policy{
		Scopes:    map[Resource]Access{"charges": Read, "customers": Read, "refunds": Write},
		Caps:      []Cap{{"refunds", PerDay, UnitUSD, 100_000_000}},
		Customers: Customers{List: []CustomerID{"cus_A", "cus_B"}},
	}
}

func TestZeroValuesDeny(t *testing.T) {
	if Verdict(0) != Deny || Access(0) != None || Enforcement(0) != Enforce || TieUnfilterable != CustomerKind(0) || Gross != CountMode(0) {
		t.Error("a zero value is not the one that denies")
	}
	open := &Policy{
		Scopes: map[Resource]Access{"*": Write}, Uncapped: true, Unmetered: []OperationName{"*"}, Customers: Customers{Any: true},
	}
	for name, test := range map[string]struct {
		p  *Policy
		op *Operation
	}{
		"the zero policy and a refund":             {&Policy{}, refund()},
		"the zero policy and a read":               {&Policy{}, &Operation{Name: "products.list", Resource: "products", Access: Read, Customer: CustomerTie{Kind: TieNone}}},
		"no policy":                                {nil, refund()},
		"no operation":                             {open, nil},
		"the zero operation":                       {open, &Operation{}},
		"an operation without access":              {open, &Operation{Name: "a.b", Resource: "a"}},
		"an operation without a name":              {open, &Operation{Resource: "a", Access: Read}},
		"an operation without a resource":          {open, &Operation{Name: "a.b", Access: Read}},
		"an access that does not exist":            {open, &Operation{Name: "a.b", Resource: "a", Access: 3}},
		"a scope with an access that is none":      {&Policy{Scopes: map[Resource]Access{"refunds": 7}, Uncapped: true, Customers: Customers{Any: true}}, refund()},
		"a zero tie under a list":                  {support(), func() *Operation { op := refund(); op.Customer = CustomerTie{}; return op }()},
		"a zero cap is no cap":                     {func() *Policy { p := support(); p.Caps = []Cap{{Resource: "refunds"}}; return p }(), refund()},
		"a zero effect under a cap":                {support(), func() *Operation { op := refund(); op.Effects = []Effect{{Bucket: "refunds"}}; return op }()},
		"a zero quote under a cap":                 {support(), func() *Operation { op := refund(); op.Effects[0].Quote = money.Quote{}; return op }()},
		"a quote of another currency under a cap":  {support(), func() *Operation { op := refund(); op.Effects[0].Quote.Currency = "jpy"; return op }()},
		"an effect without a bucket":               {support(), func() *Operation { op := refund(); op.Effects[0].Bucket = ""; return op }()},
		"an enforcement that is neither one":       {func() *Policy { p := &Policy{}; p.Enforcement = 9; return p }(), refund()},
		"a customer kind that does not exist":      {support(), func() *Operation { op := refund(); op.Customer.Kind = 99; return op }()},
		"a known tie without customers":            {support(), func() *Operation { op := refund(); op.Customer.Customers = nil; return op }()},
		"a refusal without words":                  {open, func() *Operation { op := refund(); op.Refused = &Refusal{}; return op }()},
		"a need without access is a need of reads": {support(), func() *Operation { op := refund(); op.Needs = []Need{{Resource: "payouts"}}; return op }()},
	} {
		d := Decide(test.p, test.op)
		if d.Verdict != Deny || d.First() == nil || d.First().Message == "" || d.First().Code == "" {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// decisions starts from a refund within everything that its policy allows; each row changes one thing.
var decisions = map[string]struct {
	p     func(*Policy)
	op    func(*Operation)
	codes []Code // nil = allowed
	rule  string // of the first failure
	says  string // in its message
}{
	"a refund within everything is allowed":  {},
	"a read scope does not write":            {p: func(p *Policy) { p.Scopes["refunds"] = Read }, codes: []Code{CodeScopeDenied}, rule: "scopes.refunds", says: "may not write refunds, which refunds.create needs: its scope there is read. Add `refunds: write`"},
	"a scope that is not named is none":      {p: func(p *Policy) { delete(p.Scopes, "refunds") }, codes: []Code{CodeScopeDenied}, rule: "scopes.refunds", says: "its scope there is none"},
	"the wildcard grants":                    {p: func(p *Policy) { p.Scopes = map[Resource]Access{"*": Write} }},
	"a named none beats the wildcard":        {p: func(p *Policy) { p.Scopes = map[Resource]Access{"*": Write, "refunds": None} }, codes: []Code{CodeScopeDenied}, rule: "scopes.refunds"},
	"the wildcard is named when it is short": {p: func(p *Policy) { p.Scopes = map[Resource]Access{"*": Read} }, codes: []Code{CodeScopeDenied}, rule: "scopes.*"},
	"a scope matches its exact name":         {op: func(op *Operation) { op.Resource, op.Access, op.Effects = "customers.sources", Read, nil }, codes: []Code{CodeScopeDenied}, rule: "scopes.customers.sources"},
	"a need is judged":                       {op: func(op *Operation) { op.Needs = []Need{{"charges", Read, ""}, {"invoices", Read, "expand[]=invoice"}} }, codes: []Code{CodeScopeDenied}, rule: "scopes.invoices", says: "(expand[]=invoice)"},
	"a need of a write is judged":            {op: func(op *Operation) { op.Needs = []Need{{"charges", Write, "transfer_data"}} }, codes: []Code{CodeScopeDenied}, rule: "scopes.charges", says: "may not write charges, which refunds.create needs (transfer_data): its scope there is read"},
	"a need without access is one of a read": {op: func(op *Operation) { op.Needs = []Need{{Resource: "payouts"}} }, codes: []Code{CodeScopeDenied}, says: "may not read payouts"},
	"another bucket needs write on it":       {p: func(p *Policy) { p.Caps = append(p.Caps, Cap{"*", PerDay, UnitUSD, 1e9}) }, op: func(op *Operation) { op.Effects = append(op.Effects, cents("charges", 1)) }, codes: []Code{CodeScopeDenied}, rule: "scopes.charges", says: "(it moves money there)"},
	"a bucket of a read needs write":         {op: func(op *Operation) { op.Access, op.Resource = Read, "charges" }},
	"a bucket of the own resource of a read": {p: func(p *Policy) { p.Scopes["refunds"] = Read }, op: func(op *Operation) { op.Access = Read }, codes: []Code{CodeScopeDenied}},
	"the catalog's refusal stands":           {op: func(op *Operation) { op.Refused = &Refusal{Code: CodeMalformed, Param: "x", Message: "No."} }, codes: []Code{CodeMalformed}, rule: "catalog", says: "No."},
	"an account that is granted":             {p: func(p *Policy) { p.Accounts = []AccountID{"acct_1"} }, op: func(op *Operation) { op.Account = "acct_1" }},
	"an account that is not":                 {p: func(p *Policy) { p.Accounts = []AccountID{"acct_1"} }, op: func(op *Operation) { op.Account = "acct_2" }, codes: []Code{CodeAccountDenied}, rule: "accounts"},
	"a customer of the list":                 {op: func(op *Operation) { op.Customer.Customers = []CustomerID{"cus_B", "cus_A"} }},
	"one foreign customer among several":     {op: func(op *Operation) { op.Customer.Customers = []CustomerID{"cus_A", "cus_C"} }, codes: []Code{CodeCustomerDenied}, rule: "customers"},
	"a guest":                                {op: func(op *Operation) { op.Customer.Guest = true }, codes: []Code{CodeCustomerDenied}, says: "a guest is not an allowed customer"},
	"a guest under any":                      {p: func(p *Policy) { p.Customers = Customers{Any: true} }, op: func(op *Operation) { op.Customer = CustomerTie{Guest: true} }},
	"a look-up that found nothing":           {op: func(op *Operation) { op.Customer = CustomerTie{Kind: TieLookup} }, codes: []Code{CodeCustomerDenied}, says: "could not be found out"},
	"a look-up that is to come":              {op: func(op *Operation) { op.Customer, op.Resolved = CustomerTie{Kind: TieLookup}, false }},
	"a foreign customer beside a look-up": {op: func(op *Operation) {
		op.Customer, op.Resolved = CustomerTie{Kind: TieLookup, Customers: []CustomerID{"cus_C"}}, false
	}, codes: []Code{CodeCustomerDenied}},
	"a list without its filter":               {op: func(op *Operation) { *op = *listing() }, codes: []Code{CodeCustomerDenied}, says: "Add the parameter `customer`"},
	"a list without its filter under any":     {p: func(p *Policy) { p.Customers.Any = true }, op: func(op *Operation) { *op = *listing() }},
	"what cannot be filtered":                 {op: func(op *Operation) { op.Customer = CustomerTie{} }, codes: []Code{CodeCustomerDenied}, says: "under `no_customer`"},
	"what cannot be filtered, excepted":       {p: func(p *Policy) { p.NoCustomer = []OperationName{"refunds.create"} }, op: func(op *Operation) { op.Customer = CustomerTie{} }},
	"an exception does not lift a filter":     {p: func(p *Policy) { p.NoCustomer = []OperationName{"charges.list"} }, op: func(op *Operation) { *op = *listing() }, codes: []Code{CodeCustomerDenied}},
	"no customer is concerned":                {op: func(op *Operation) { op.Customer = CustomerTie{Kind: TieNone} }},
	"a new customer under a list":             {op: func(op *Operation) { op.CreatesCustomer, op.Customer = true, CustomerTie{} }, codes: []Code{CodeCustomerDenied}, says: "may_create_customers: true"},
	"a new customer that may be":              {p: func(p *Policy) { p.MayCreate = true }, op: func(op *Operation) { op.CreatesCustomer, op.Customer = true, CustomerTie{Kind: TieNone} }},
	"a new customer with nobody knows whose":  {p: func(p *Policy) { p.MayCreate = true }, op: func(op *Operation) { op.CreatesCustomer, op.Customer = true, CustomerTie{} }, codes: []Code{CodeCustomerDenied}},
	"a new customer with another's card":      {p: func(p *Policy) { p.MayCreate = true }, op: func(op *Operation) { op.CreatesCustomer, op.Customer.Customers = true, []CustomerID{"cus_C"} }, codes: []Code{CodeCustomerDenied}},
	"a new customer under any":                {p: func(p *Policy) { p.Customers.Any = true }, op: func(op *Operation) { op.CreatesCustomer = true }},
	"an amount without a bound":               {op: func(op *Operation) { op.Effects[0].Unmeterable, op.Effects[0].Why = true, "It bills usage." }, codes: []Code{CodeUnmeterable}, rule: "unmetered", says: "It bills usage. An amount"},
	"an amount without a bound, uncapped":     {p: func(p *Policy) { p.Uncapped, p.Caps = true, nil }, op: func(op *Operation) { op.Effects[0].Unmeterable = true }, codes: []Code{CodeUnmeterable}},
	"an amount without a bound, unmetered":    {p: func(p *Policy) { p.Unmetered = []OperationName{"refunds.create"} }, op: func(op *Operation) { op.Effects[0].Unmeterable = true }},
	"an amount without a bound, all of them":  {p: func(p *Policy) { p.Unmetered = []OperationName{"*"} }, op: func(op *Operation) { op.Effects[0].Unmeterable = true }},
	"an unmetered other operation":            {p: func(p *Policy) { p.Unmetered = []OperationName{"refunds.update"} }, op: func(op *Operation) { op.Effects[0].Unmeterable = true }, codes: []Code{CodeUnmeterable}},
	"an amount that stayed unknown":           {op: func(op *Operation) { op.Effects[0].Known = false }, codes: []Code{CodeUnmeterable}},
	"an amount that is still to be found":     {op: func(op *Operation) { op.Effects[0].Known, op.Resolved = false, false }},
	"no rate":                                 {op: func(op *Operation) { op.Effects[0].NoRate = "set EUR" }, codes: []Code{CodeNoRate}, rule: "rates", says: "set EUR"},
	"no rate, known before the amount is":     {op: func(op *Operation) { op.Effects[0] = Effect{Bucket: "refunds", NoRate: "set EUR"}; op.Resolved = false }, codes: []Code{CodeNoRate}},
	"no rate where nothing counts dollars":    {p: func(p *Policy) { p.Uncapped, p.Caps = true, []Cap{{"*", PerDay, UnitCalls, 5}} }, op: func(op *Operation) { op.Effects[0].NoRate = "set EUR" }},
	"no rate is not lifted by unmetered":      {p: func(p *Policy) { p.Unmetered = []OperationName{"*"} }, op: func(op *Operation) { op.Effects[0].NoRate = "set EUR" }, codes: []Code{CodeNoRate}},
	"a negative amount":                       {op: func(op *Operation) { op.Effects[0].Amount.Minor = -1 }, codes: []Code{CodeUnmeterable}, rule: "amounts"},
	"an amount too large":                     {op: func(op *Operation) { op.Effects[0].Amount.Minor = math.MaxInt64 }, codes: []Code{CodeUnmeterable}, rule: "amounts"},
	"no cap over time":                        {p: func(p *Policy) { p.Caps[0].Per = PerCall }, codes: []Code{CodeUncapped}, rule: "caps.refunds", says: "{resource: refunds, per: day, usd: 100.00}"},
	"a cap in calls is none":                  {p: func(p *Policy) { p.Caps[0].Unit = UnitCalls }, codes: []Code{CodeUncapped}},
	"a cap on another resource is none":       {p: func(p *Policy) { p.Caps[0].Resource = "charges" }, codes: []Code{CodeUncapped}},
	"the wildcard's cap":                      {p: func(p *Policy) { p.Caps[0].Resource = "*" }},
	"no cap where that is meant":              {p: func(p *Policy) { p.Caps, p.Uncapped = nil, true }},
	"exactly the cap per call":                {p: perCall("refunds", UnitUSD, 20_000_000)},
	"one micro-dollar over the cap per call":  {p: perCall("refunds", UnitUSD, 19_999_999), codes: []Code{CodeCapExceeded}, rule: "caps.refunds/call", says: "Ask for less in one call"},
	"a cap per call of zero":                  {p: perCall("refunds", UnitUSD, 0), codes: []Code{CodeCapExceeded}},
	"a cap per call of zero and nothing":      {p: perCall("refunds", UnitUSD, 0), op: func(op *Operation) { op.Effects[0].Amount.Minor = 0 }},
	"a negative cap per call":                 {p: perCall("refunds", UnitUSD, -1), codes: []Code{CodeCapExceeded}},
	"a cap per call over all":                 {p: perCall("*", UnitUSD, 19_000_000), codes: []Code{CodeCapExceeded}, rule: "caps.*/call"},
	"a cap per call of another resource":      {p: perCall("payouts", UnitUSD, 1)},
	"two effects are one call":                {p: perCall("refunds", UnitUSD, 39_000_000), op: func(op *Operation) { op.Effects = append(op.Effects, op.Effects[0]) }, codes: []Code{CodeCapExceeded}},
	"one call per call":                       {p: perCall("refunds", UnitCalls, 1)},
	"no call per call":                        {p: perCall("refunds", UnitCalls, 0), codes: []Code{CodeCapExceeded}},
	"no call per call and a read":             {p: perCall("*", UnitCalls, 0), op: func(op *Operation) { *op = *listing(); op.Customer.Kind = TieNone }},
	"no call per call and a write of nothing": {p: perCall("refunds", UnitCalls, 0), op: func(op *Operation) { op.Effects = nil }, codes: []Code{CodeCapExceeded}},
	"an unmetered amount counts no dollars":   {p: func(p *Policy) { perCall("refunds", UnitUSD, 0)(p); p.Unmetered = []OperationName{"*"} }, op: func(op *Operation) { op.Effects[0].Unmeterable = true }},
	"all that is wrong, in order": {
		p: func(p *Policy) {
			perCall("*", UnitUSD, 1)(p)
			p.Caps = p.Caps[1:]
			p.Scopes["refunds"] = Read
			p.Params = map[OperationName]map[string]ParamRule{"refunds.create": {"reason": {Required: true}}}
		},
		op: func(op *Operation) {
			op.Refused, op.Account, op.Customer.Guest = &Refusal{Code: CodeHeaderDenied, Message: "No."}, "acct_1", true
			op.Effects = append(op.Effects, Effect{Bucket: "refunds", Unmeterable: true})
		},
		codes: []Code{CodeHeaderDenied, CodeScopeDenied, CodeAccountDenied, CodeParamDenied, CodeCustomerDenied, CodeUnmeterable, CodeUncapped, CodeCapExceeded},
	},
	"an unknown route is nothing else": {op: func(op *Operation) { op.Access = None; op.Account = "acct_1" }, codes: []Code{CodeUnknownRoute}, rule: "catalog"},
}

func TestDecide(t *testing.T) {
	for name, test := range decisions {
		t.Run(name, func(t *testing.T) {
			p, op := support(), refund()
			if test.p != nil {
				test.p(p)
			}
			if test.op != nil {
				test.op(op)
			}
			d := Decide(p, op)
			var codes []Code
			for _, f := range d.Failures {
				codes = append(codes, f.Code)
				if !strings.HasSuffix(f.Message, ".") || f.Rule == "" {
					t.Errorf("%q of rule %q is no sentence", f.Message, f.Rule)
				}
				if strings.Contains(f.Message, "cus_C") {
					t.Errorf("%q tells a foreign customer", f.Message)
				}
			}
			if !slices.Equal(codes, test.codes) || (d.Verdict == Allow) != (test.codes == nil) || d.Shadowed {
				t.Fatalf("%s with %q, want %q: %+v", d.Verdict, codes, test.codes, d.Failures)
			}
			if f := d.First(); f != nil && (!strings.Contains(f.Message, test.says) || (test.rule != "" && f.Rule != test.rule)) {
				t.Errorf("rule %q says %q, want rule %q to say %q", f.Rule, f.Message, test.rule, test.says)
			}
		})
	}
}

func perCall(r Resource, u Unit, limit int64) func(*Policy) {
	return func(p *Policy) { p.Caps = append(p.Caps, Cap{r, PerCall, u, limit}) }
}

func TestParameterRules(t *testing.T) {
	p, _, err := Parse("p.yaml", []byte(`scopes: {refunds: write}
customers: any
uncapped: true
params: {refunds.create: {reason: {in: [duplicate], pattern: "[a-z]+"}, "metadata[order]": {pattern: "[0-9]+|none"}}}
`), vocabulary)
	if err != nil {
		t.Fatal(err)
	}
	parsed := p.Params["refunds.create"]["metadata[order]"]
	tests := map[string]struct {
		rule ParamRule
		has  []string // nil = absent
		want bool
	}{
		"an absent parameter passes":             {ParamRule{In: []string{"a"}}, nil, true},
		"a required one must be there":           {ParamRule{Required: true}, nil, false},
		"a required one is there":                {ParamRule{Required: true}, []string{"x"}, true},
		"a denied one is not there":              {ParamRule{Deny: true}, nil, true},
		"a denied one is there":                  {ParamRule{Deny: true}, []string{"false"}, false},
		"a denied hash is there":                 {ParamRule{Deny: true}, []string{}, false},
		"a value of the choice":                  {ParamRule{In: []string{"a", "b"}}, []string{"b"}, true},
		"a value outside the choice":             {ParamRule{In: []string{"a", "b"}}, []string{"c"}, false},
		"a choice of nothing admits nothing":     {ParamRule{In: []string{}}, []string{"c"}, false},
		"all elements are judged":                {ParamRule{In: []string{"a", "b"}}, []string{"a", "c"}, false},
		"a hash where a value was meant":         {ParamRule{In: []string{"a"}}, []string{}, false},
		"a hash where a value was excluded":      {ParamRule{Not: []string{"a"}}, []string{}, false},
		"an excluded value":                      {ParamRule{Not: []string{"a"}}, []string{"a"}, false},
		"another value":                          {ParamRule{Not: []string{"a"}}, []string{"b"}, true},
		"the largest":                            {ParamRule{Max: ptr(int64(5))}, []string{"5"}, true},
		"more than the largest":                  {ParamRule{Max: ptr(int64(5))}, []string{"6"}, false},
		"the least":                              {ParamRule{Min: ptr(int64(5))}, []string{"5"}, true},
		"less than the least":                    {ParamRule{Min: ptr(int64(5))}, []string{"4"}, false},
		"a fraction cannot be judged":            {ParamRule{Max: ptr(int64(5))}, []string{"4.5"}, false},
		"a huge number cannot be judged":         {ParamRule{Min: ptr(int64(5))}, []string{"99999999999999999999"}, false},
		"nothing is no number":                   {ParamRule{Max: ptr(int64(5))}, []string{""}, false},
		"a pattern that matches":                 {parsed, []string{"123"}, true},
		"a pattern that matches the other way":   {parsed, []string{"none"}, true},
		"a pattern matches the whole value":      {parsed, []string{"123x"}, false},
		"a pattern matches from the start":       {parsed, []string{"xnone"}, false},
		"a line feed does not end a value":       {parsed, []string{"123\nx"}, false},
		"a pattern that Parse did not see":       {ParamRule{Pattern: "a|b"}, []string{"ab"}, false},
		"a pattern that is none admits nothing":  {ParamRule{Pattern: "("}, []string{"("}, false},
		"all parts must hold":                    {ParamRule{In: []string{"7"}, Max: ptr(int64(5))}, []string{"7"}, false},
		"the zero rule admits everything it may": {ParamRule{}, []string{"x"}, true},
	}
	for name, test := range tests {
		p := support()
		p.Params = map[OperationName]map[string]ParamRule{"refunds.create": {"x": test.rule}, "refunds.update": {"y": {Required: true}}}
		op := refund()
		if test.has != nil {
			op.Params = values{"x": test.has}
		}
		d := Decide(p, op)
		if (d.Verdict == Allow) != test.want {
			t.Errorf("%s: %s %+v", name, d.Verdict, d.Failures)
		}
		if f := d.First(); f != nil && (f.Code != CodeParamDenied || f.Param != "x" || f.Rule != "params.refunds.create.x") {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

func TestParameterValuesAreNotRepeated(t *testing.T) {
	p := support()
	p.Params = map[OperationName]map[string]ParamRule{"refunds.create": {"x": {In: []string{"a"}, Max: ptr(int64(1)), Pattern: "a"}}}
	op := refund()
	op.Params = values{"x": {"4242424242424242"}}
	if m := Decide(p, op).Failures[0].Message; strings.Contains(m, "4242") {
		t.Error(m)
	}
}

func TestShadowSoftensOnlyTheSoftRules(t *testing.T) {
	soft := map[string]func(*Policy, *Operation){
		"scope": func(p *Policy, _ *Operation) { p.Scopes = nil },
		"parameter": func(p *Policy, _ *Operation) {
			p.Params = map[OperationName]map[string]ParamRule{"refunds.create": {"x": {Required: true}}}
		},
		"customer": func(p *Policy, _ *Operation) { p.Customers.List = nil },
		"cap":      func(p *Policy, _ *Operation) { p.Caps = nil },
		"per call": func(p *Policy, _ *Operation) { perCall("*", UnitUSD, 1)(p) },
	}
	hard := map[string]func(*Policy, *Operation){
		"unknown route": func(_ *Policy, op *Operation) { op.Access = None },
		"refusal":       func(_ *Policy, op *Operation) { op.Refused = &Refusal{Code: CodeMalformed, Message: "No."} },
		"account":       func(_ *Policy, op *Operation) { op.Account = "acct_9" },
		"unmeterable":   func(_ *Policy, op *Operation) { op.Effects[0].Unmeterable = true },
		"no rate":       func(_ *Policy, op *Operation) { op.Effects[0].NoRate = "none" },
	}
	for name, breaks := range soft {
		p, op := support(), refund()
		p.Enforcement = Shadow
		breaks(p, op)
		if d := Decide(p, op); d.Verdict != Allow || !d.Shadowed || len(d.Failures) == 0 {
			t.Errorf("%s under shadow: %+v", name, d)
		}
		p.Enforcement = Enforce
		if d := Decide(p, op); d.Verdict != Deny || d.Shadowed {
			t.Errorf("%s enforced: %+v", name, d)
		}
	}
	for name, breaks := range hard {
		p, op := support(), refund()
		p.Enforcement = Shadow
		p.Scopes = nil
		breaks(p, op)
		if d := Decide(p, op); d.Verdict != Deny || d.First().Soft || d.Shadowed {
			t.Errorf("%s under shadow: %+v", name, d)
		}
	}
	p := support()
	p.Enforcement = Shadow
	if d := Decide(p, refund()); d.Verdict != Allow || d.Shadowed || d.Failures != nil {
		t.Errorf("nothing wrong under shadow: %+v", d)
	}
}

func TestCheckMode(t *testing.T) {
	for name, test := range map[string]struct {
		p    Policy
		live bool
		want error
	}{
		"shadow in live mode":           {Policy{Enforcement: Shadow}, true, ErrShadowLive},
		"shadow in live mode, uncapped": {Policy{Enforcement: Shadow, Uncapped: true}, true, nil},
		"shadow in test mode":           {Policy{Enforcement: Shadow}, false, nil},
		"enforced in live mode":         {Policy{}, true, nil},
	} {
		if got := CheckMode(&test.p, test.live); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestAFullCapSaysWhatIsLeftAndWhen(t *testing.T) {
	day := Cap{"refunds", PerDay, UnitUSD, 100_000_000}
	for want, f := range map[string]CapFailure{
		"This call of $20.00 would pass the cap of $100.00 per day on refunds: $80.00 settled, $10.00 held, $10.00 left. " +
			"It resets at 2026-11-24T05:00:00Z.": {Cap: day, Asked: 20_000_000, Settled: 80_000_000, Held: 10_000_000, Left: 10_000_000, ResetsAtUnix: 1_795_496_400},
		"The cap of 30 refunds calls per total is used up: 30 made, 0 left. This cap never resets.": {
			Cap: Cap{"refunds", PerTotal, UnitCalls, 30}, Asked: 1, Settled: 30,
		},
		"The cap of $100.00 per day on refunds is used up: $100.00 settled, $0.00 held, $0.00 left. This call asks for 2000 minor " +
			"units; their currency was not looked up, since nothing is left. It resets at 2026-11-24T05:00:00Z.": {
			Cap: day, Settled: 100_000_000, ResetsAtUnix: 1_795_496_400, AskedInCurrency: money.Amount{Minor: 2000},
		},
		"The cap of $100.00 per day on refunds is used up: $60.00 settled, $40.00 held, $0.00 left. How much this call asks for " +
			"was not looked up, since nothing is left. It resets at 2026-11-24T05:00:00Z.": {
			Cap: day, Settled: 60_000_000, Held: 40_000_000, ResetsAtUnix: 1_795_496_400,
		},
	} {
		got := f.Failure()
		if got.Message != want || got.Code != CodeCapExceeded || !got.Soft || got.Cap == nil || got.Cap.Cap != f.Cap {
			t.Errorf("%+v, want %q", got, want)
		}
	}
	p := support()
	perCall("refunds", UnitUSD, 15_000_000)(p)
	d := Decide(p, refund())
	got := d.First()
	if got == nil || got.Cap == nil || got.Cap.Asked != 20_000_000 || got.Cap.WouldAdmitAtMost != 15_000_000 || got.Cap.AskedInCurrency != (money.Amount{Minor: 2000, Currency: "usd"}) {
		t.Errorf("%+v", got)
	}
}

func TestWaive(t *testing.T) {
	open := func() *Policy {
		return &Policy{Scopes: map[Resource]Access{"*": Write}, Uncapped: true, Unmetered: []OperationName{"*"}, Customers: Customers{Any: true}}
	}
	for name, test := range map[string]struct {
		p       func(*Policy)
		op      func(*Operation)
		looksUp bool
	}{
		"nothing to hold an amount against":   {},
		"admitted by its name":                {p: func(p *Policy) { p.Unmetered = []OperationName{"refunds.create"} }},
		"a cap in calls":                      {p: func(p *Policy) { p.Caps = []Cap{{"refunds", PerDay, UnitCalls, 5}} }},
		"a cap on another bucket":             {p: func(p *Policy) { p.Caps = []Cap{{"charges", PerDay, UnitUSD, 5}} }},
		"a cap in dollars":                    {p: func(p *Policy) { p.Caps = []Cap{{"refunds", PerDay, UnitUSD, 5}} }, looksUp: true},
		"a cap in dollars on everything":      {p: func(p *Policy) { p.Caps = []Cap{{"*", PerMonth, UnitUSD, 5}} }, looksUp: true},
		"a cap in dollars per call":           {p: func(p *Policy) { p.Caps = []Cap{{"*", PerCall, UnitUSD, 5}} }, looksUp: true},
		"not admitted uncounted":              {p: func(p *Policy) { p.Unmetered = nil }, looksUp: true},
		"another operation admitted":          {p: func(p *Policy) { p.Unmetered = []OperationName{"refunds.update"} }, looksUp: true},
		"a customer under a list":             {p: func(p *Policy) { p.Customers = Customers{List: []CustomerID{"cus_A"}} }, looksUp: true},
		"a second effect under a cap":         {p: func(p *Policy) { p.Caps = []Cap{{"charges", PerDay, UnitUSD, 5}} }, op: func(op *Operation) { op.Effects = append(op.Effects, Effect{Bucket: "charges"}) }, looksUp: true},
		"an amount that the call itself says": {op: func(op *Operation) { op.Effects[0] = cents("refunds", 2000) }},
	} {
		t.Run(name, func(t *testing.T) {
			p, op := open(), refund()
			op.Effects, op.Resolved, op.Customer = []Effect{{Bucket: "refunds"}}, false, CustomerTie{Kind: TieLookup}
			if test.p != nil {
				test.p(p)
			}
			if test.op != nil {
				test.op(op)
			}
			known := op.Effects[0].Known
			p.Waive(op)
			if op.NeedsLookup(p) != test.looksUp {
				t.Errorf("looks up: %v", !test.looksUp)
			}
			if known && op.Effects[0].Unmeterable {
				t.Error("a known amount is not counted")
			}
			op.Resolved = true
			if d := Decide(p, op); !test.looksUp && d.Verdict != Allow {
				t.Errorf("denied: %+v", d.Failures)
			}
			if op.NeedsLookup(p) {
				t.Error("it was resolved, and looks up again")
			}
		})
	}
}
