package policy

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const whole = `# comment
name: agent-support-refunds-runner42
upstream: stripe-test
scopes:
  charges: read
  payment_intents: read
  customers: none
  refunds: write
caps:
  - {resource: refunds, per: day, usd: 500.00}
  - {resource: refunds, per: call, usd: 0.07}
  - {resource: refunds, per: hour, calls: 30}
  - resource: "*"
    per: month
    usd: "5000"
customers: [cus_B, cus_A, cus_A]
may_create_customers: true
no_customer: [events.list]
accounts: [acct_1]
params:
  refunds.create:
    reason: {in: [requested_by_customer, duplicate], required: true}
    reverse_transfer: deny
    amount: {max: 5000, min: 100}
    metadata[order]: {pattern: "[0-9]+|none"}
    lines[][price]: {not: [price_1, 7, True]}
    charge: required
unmetered: [billing.meter_events.create]
client_secrets: allow
repeat_unknown: allow
network: [10.0.0.0/8, "2001:db8::/32"]
expires: 90d
rotate_every: 12h
timezone: America/New_York
enforcement: shadow
`

func ptr[T any](v T) *T { return &v }

func TestParseReadsEveryField(t *testing.T) {
	got, _, err := Parse("p.yaml", []byte(whole), vocabulary)
	if err != nil {
		t.Fatal(err)
	}
	zone, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	want := &Policy{
		Name: "agent-support-refunds-runner42", Upstream: "stripe-test",
		Scopes: map[Resource]Access{"charges": Read, "payment_intents": Read, "customers": None, "refunds": Write},
		Caps: []Cap{
			{"refunds", PerDay, UnitUSD, 500_000_000}, {"refunds", PerCall, UnitUSD, 70_000},
			{"refunds", PerHour, UnitCalls, 30}, {"*", PerMonth, UnitUSD, 5_000_000_000},
		},
		Customers: Customers{List: []CustomerID{"cus_A", "cus_B"}}, MayCreate: true,
		NoCustomer: []OperationName{"events.list"}, Accounts: []AccountID{"acct_1"},
		Params: map[OperationName]map[string]ParamRule{"refunds.create": {
			"reason":           {In: []string{"duplicate", "requested_by_customer"}, Required: true},
			"reverse_transfer": {Deny: true},
			"amount":           {Max: ptr(int64(5000)), Min: ptr(int64(100))},
			"metadata[order]":  {Pattern: "[0-9]+|none"},
			"lines[][price]":   {Not: []string{"7", "price_1", "true"}},
			"charge":           {Required: true},
		}},
		Unmetered: []OperationName{"billing.meter_events.create"}, ClientSecrets: true, RepeatUnknown: true,
		Network: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")},
		Expires: Expiry{After: 90 * 24 * time.Hour}, RotateEvery: 12 * time.Hour, Timezone: zone, Enforcement: Shadow,
	}
	if diff := cmp.Diff(want, got, same); diff != "" {
		t.Error(diff)
	}
}

func TestParseDefaults(t *testing.T) {
	got, _, err := Parse("p.yaml", []byte("scopes: {products: write}\n"), vocabulary)
	if err != nil {
		t.Fatal(err)
	}
	want := &Policy{Scopes: map[Resource]Access{"products": Write}, Timezone: time.UTC}
	if diff := cmp.Diff(want, got, same); diff != "" {
		t.Error(diff)
	}
}

// productsOnly is a whole policy, to which a line can be added.
const productsOnly = "scopes: {products: write}\n"

// Each source has one thing wrong, or several where the name says so; every line of want must be among the
// messages, and there must be no more messages.
var refusedFiles = map[string]struct {
	src  string
	want []string
}{
	"an unknown field":              {productsOnly + "cap: []\n", []string{"p.yaml:2:1: cap: no such field; did you mean `caps`?"}},
	"an unknown field far from any": {productsOnly + "zebra: 1\n", []string{"p.yaml:2:1: zebra: no such field"}},
	"a field given twice":           {productsOnly + "name: a\nname: b\n", []string{"p.yaml:3:1: name: given twice, first on line 2"}},
	"an unknown resource in a scope": {
		"scopes:\n  products: read\n  refund: read\n", []string{"p.yaml:3:3: scopes.refund: no such resource `refund`; did you mean `refunds`?"},
	},
	"an unknown resource in a cap": {
		productsOnly + "caps:\n  - {resource: product, per: day, usd: 1}\n", []string{"p.yaml:3:16: caps[0].resource: no such resource `product`; did you mean `products`?"},
	},
	"an access that is none":   {"scopes: {products: admin}\n", []string{"p.yaml:1:20: scopes.products: write `none`, `read` or `write`"}},
	"an access left out":       {"scopes:\n  products:\n", []string{"scopes.products: write `none`"}},
	"a negative cap":           {productsOnly + "caps: [{resource: \"*\", per: day, usd: -5}]\n", []string{"p.yaml:2:39: caps[0].usd: `-5`: a cap cannot be negative"}},
	"a negative count":         {productsOnly + "caps: [{resource: \"*\", per: day, calls: -5}]\n", []string{"a cap cannot be negative"}},
	"a third decimal":          {productsOnly + "caps: [{resource: \"*\", per: day, usd: 5.001}]\n", []string{"`5.001`: at most 2 decimals"}},
	"an exponent":              {productsOnly + "caps: [{resource: \"*\", per: day, usd: 5e3}]\n", []string{"`5e3`: write it as digits"}},
	"infinity":                 {productsOnly + "caps: [{resource: \"*\", per: day, usd: .inf}]\n", []string{"`.inf`: write it as digits"}},
	"not a number":             {productsOnly + "caps: [{resource: \"*\", per: day, usd: .nan}]\n", []string{"`.nan`: write it as digits"}},
	"a hexadecimal amount":     {productsOnly + "caps: [{resource: \"*\", per: day, usd: 0x10}]\n", []string{"`0x10`: write it as digits"}},
	"an octal amount":          {productsOnly + "caps: [{resource: \"*\", per: day, usd: 0500}]\n", []string{"`0500`: write it without leading zeros"}},
	"too large an amount":      {productsOnly + "caps: [{resource: \"*\", per: day, usd: 99999999999999}]\n", []string{"amount too large"}},
	"half a call":              {productsOnly + "caps: [{resource: \"*\", per: day, calls: 1.5}]\n", []string{"`1.5`: write a whole number of calls"}},
	"an unknown window":        {productsOnly + "caps: [{resource: \"*\", per: days, usd: 5}]\n", []string{"no window `days`, there are call, hour, day, week, month, total; did you mean `day`?"}},
	"a cap without a resource": {productsOnly + "caps: [{per: day, usd: 5}]\n", []string{"caps[0]: `resource` is missing"}},
	"a cap without a window":   {productsOnly + "caps: [{resource: \"*\", usd: 5}]\n", []string{"caps[0]: `per` is missing"}},
	"a cap in several lines":   {productsOnly + "caps:\n  - resource: \"*\"\n    usd: 5\n", []string{"p.yaml:3:5: caps[0]: `per` is missing"}},
	"a cap in one line":        {productsOnly + "caps:\n  - resource: \"*\"\n", []string{"p.yaml:3:5: caps[0]: `per` is missing"}},
	"a cap without a limit":    {productsOnly + "caps: [{resource: \"*\", per: day}]\n", []string{"caps[0]: write either `usd` or `calls`"}},
	"a cap with two limits":    {productsOnly + "caps: [{resource: \"*\", per: day, usd: 5, calls: 5}]\n", []string{"caps[0]: write either `usd` or `calls`"}},
	"an unknown field of a cap": {
		productsOnly + "caps: [{resource: \"*\", per: day, usd: 5, call: 5}]\n", []string{"caps[0].call: no such field; did you mean `calls`?"},
	},
	"the same cap twice": {
		productsOnly + "caps:\n  - {resource: \"*\", per: day, usd: 5}\n  - {resource: \"*\", per: day, usd: 6}\n",
		[]string{"p.yaml:4:5: caps[1]: there is a cap on * per day in usd already"},
	},
	"caps that are no list":     {productsOnly + "caps: 5\n", []string{"p.yaml:2:7: caps: write a list"}},
	"a write scope without cap": {"scopes:\n  refunds: write\ncustomers: any\n", []string{"p.yaml:2:3: caps: the scope `refunds: write` moves money"}},
	"a cap per call only": {
		"scopes: {refunds: write}\ncustomers: any\ncaps: [{resource: refunds, per: call, usd: 5}]\n", []string{"no cap in dollars per hour, day"},
	},
	"a cap in calls only": {
		"scopes: {refunds: write}\ncustomers: any\ncaps: [{resource: refunds, per: day, calls: 5}]\n", []string{"no cap in dollars per hour, day"},
	},
	"a cap on another resource": {
		"scopes: {refunds: write}\ncustomers: any\ncaps: [{resource: payouts, per: day, usd: 5}]\n", []string{"add {resource: refunds, per: day"},
	},
	"a second bucket without a cap": {
		"scopes: {invoices: write, transfers: write}\ncustomers: any\ncaps: [{resource: invoices, per: day, usd: 5}]\n",
		[]string{"p.yaml:1:27: caps: the scope `transfers: write` moves money"},
	},
	"the wildcard without a cap": {
		"scopes: {\"*\": write}\ncustomers: any\n",
		[]string{"the scope `*: write` moves money on billing.meter_events, charges, invoices, payouts, refunds, transfers, and no cap"},
	},
	"the wildcard without a cap on one": {
		"scopes: {\"*\": write, billing.meter_events: none, charges: none, invoices: none, payouts: read}\ncustomers: any\n" +
			"caps: [{resource: transfers, per: day, usd: 5}]\n",
		[]string{"the scope `*: write` moves money on refunds, and no cap"},
	},
	"a scope that reaches customers": {"scopes: {products: read, charges: read}\n", []string{"p.yaml:1:26: customers: missing, and the scope `charges: read` reaches customers"}},
	"a wildcard that reaches them":   {"scopes: {\"*\": read}\n", []string{"customers: missing, and the scope `*: read` reaches customers"}},
	"no scopes":                      {"name: a\n", []string{"p.yaml: scopes: missing"}},
	"a customer outside a list":      {productsOnly + "customers: cus_A\n", []string{"customers: write a list, like [cus_A, cus_B], or `any`"}},
	"any among customers":            {productsOnly + "customers: [any]\n", []string{"`any` is not a customer"}},
	"a customer with a space":        {productsOnly + "customers: [\"cus A\"]\n", []string{"\"cus A\" is not an id"}},
	"an empty customer":              {productsOnly + "customers: [\"\"]\n", []string{"write an id of 1 to 255"}},
	"a null customer":                {productsOnly + "customers: [null]\n", []string{"customers[0]: write one plain value"}},
	"an unknown operation": {
		productsOnly + "unmetered: [refund.create]\n", []string{"p.yaml:2:13: unmetered[0]: no such operation `refund.create`; did you mean `refunds.create`?"},
	},
	"the wildcard in no_customer":      {productsOnly + "no_customer: [\"*\"]\n", []string{"no_customer[0]: no such operation `*`"}},
	"rules for an unknown operation":   {productsOnly + "params: {refunds.crate: {amount: deny}}\n", []string{"p.yaml:2:10: params.refunds.crate: no such operation `refunds.crate`; did you mean `refunds.create`?"}},
	"rules for an unknown parameter":   {productsOnly + "params: {refunds.create: {amuont: deny}}\n", []string{"no such parameter `amuont`; did you mean `amount`?"}},
	"rules for an unknown part":        {productsOnly + "params: {refunds.create: {\"lines[][prise]\": deny}}\n", []string{"no such part `prise`; did you mean `price`?"}},
	"rules for an unknown part in one": {productsOnly + "params: {refunds.create: {\"details[nmae]\": deny}}\n", []string{"no such part `nmae`; did you mean `name`?"}},
	"rules for one element":            {productsOnly + "params: {refunds.create: {\"lines[0][price]\": deny}}\n", []string{"write `[]` for `[0]`"}},
	"rules inside a plain parameter":   {productsOnly + "params: {refunds.create: {\"amount[x]\": deny}}\n", []string{"nothing is inside a parameter of type integer"}},
	"a list that is none":              {productsOnly + "params: {refunds.create: {\"metadata[][x]\": required}}\n", []string{"there is no list before `[]`"}},
	"a path that is none":              {productsOnly + "params: {refunds.create: {\"metadata[x\": deny}}\n", []string{"is not the path of a parameter"}},
	"a path without a name":            {productsOnly + "params: {refunds.create: {\"[x]\": deny}}\n", []string{"`[x]` is not the path of a parameter"}},
	"a path that only ends":            {productsOnly + "params: {refunds.create: {\"metadata]\": deny}}\n", []string{"`metadata]` is not the path of a parameter"}},
	"a path that begins twice":         {productsOnly + "params: {refunds.create: {\"metadata[a[b]\": deny}}\n", []string{"`metadata[a[b]` is not the path of a parameter"}},
	"an empty choice on a hash":        {productsOnly + "params: {refunds.create: {metadata: {in: []}}}\n", []string{"the list is empty"}},
	"a value rule on a hash":           {productsOnly + "params: {refunds.create: {metadata: {in: [a]}}}\n", []string{"this parameter holds others"}},
	"an unknown word as rule":          {productsOnly + "params: {refunds.create: {amount: denied}}\n", []string{"write `deny`, `required`, or parts"}},
	"an unknown part of a rule":        {productsOnly + "params: {refunds.create: {amount: {maximum: 5}}}\n", []string{"maximum: no such part of a rule"}},
	"an empty rule":                    {productsOnly + "params: {refunds.create: {amount: {}}}\n", []string{"the rule is empty"}},
	"a rule that is switched off":      {productsOnly + "params: {refunds.create: {amount: {deny: false}}}\n", []string{"the rule is empty"}},
	"an empty choice":                  {productsOnly + "params: {refunds.create: {reason: {in: []}}}\n", []string{"the list is empty"}},
	"deny with more":                   {productsOnly + "params: {refunds.create: {amount: {deny: true, max: 5}}}\n", []string{"leave out the other parts"}},
	"bounds that exclude all":          {productsOnly + "params: {refunds.create: {amount: {min: 6, max: 5}}}\n", []string{"no number is at least 6 and at most 5"}},
	"a bound on a word":                {productsOnly + "params: {refunds.create: {reason: {max: 5}}}\n", []string{"this parameter is a string"}},
	"a bound that is no number":        {productsOnly + "params: {refunds.create: {amount: {max: 5.5}}}\n", []string{"write a whole number, in the parameter's own unit"}},
	"a pattern that is none":           {productsOnly + "params: {refunds.create: {reason: {pattern: \"a)|(b\"}}}\n", []string{"write a regular expression (RE2) of 1 to 1000 characters"}},
	"a network that is none":           {productsOnly + "network: [office]\n", []string{"p.yaml:2:11: network[0]: `office` is not a network; write it like 10.0.0.0/8"}},
	"an address as network":            {productsOnly + "network: [10.1.2.3]\n", []string{"write it like 10.1.2.3/32"}},
	"bits behind the length":           {productsOnly + "network: [10.1.2.3/8]\n", []string{"write 10.0.0.0/8"}},
	"IPv4 written as IPv6":             {productsOnly + "network: [\"::ffff:10.0.0.0/104\"]\n", []string{"is an IPv4 network written as IPv6"}},
	"a bad span":                       {productsOnly + "expires: 90 days\n", []string{"p.yaml:2:10: expires: `90 days` is no time to expire"}},
	"a span of nothing":                {productsOnly + "expires: 0d\n", []string{"`0d` is no time to expire"}},
	"a negative span":                  {productsOnly + "expires: -5d\n", []string{"`-5d` is no time to expire"}},
	"a span of ages":                   {productsOnly + "rotate_every: 99999d\n", []string{"rotate_every: `99999d` is longer than ten years"}},
	"a span in weeks":                  {productsOnly + "rotate_every: 2w\n", []string{"`2w` is not a span of time"}},
	"a date that is none":              {productsOnly + "expires: 2027-02-30\n", []string{"`2027-02-30` is no time to expire"}},
	"an unknown time zone":             {productsOnly + "timezone: Mars/Olympus\n", []string{"p.yaml:2:11: timezone: no time zone `Mars/Olympus`"}},
	"the machine's time zone":          {productsOnly + "timezone: Local\n", []string{"no time zone `Local`"}},
	"a path as time zone":              {productsOnly + "timezone: ../../etc/passwd\n", []string{"no time zone `../../etc/passwd`"}},
	"an unknown enforcement":           {productsOnly + "enforcement: warn\n", []string{"write `enforce` or `shadow`"}},
	"a word for a flag":                {productsOnly + "uncapped: yes\n", []string{"p.yaml:2:11: uncapped: write true or false"}},
	"a wrong word for secrets":         {productsOnly + "client_secrets: true\n", []string{"client_secrets: write `allow` or `withhold`"}},
	"a wrong word for repeats":         {productsOnly + "repeat_unknown: deny\n", []string{"repeat_unknown: write `allow` or `refuse`"}},
	"a name with a glob":               {productsOnly + "name: agent-*\n", []string{"name: \"agent-*\" holds characters"}},
	"a name with a line feed":          {productsOnly + "name: \"a\\nb\"\n", []string{"holds characters that a name cannot have"}},
	"an empty name":                    {productsOnly + "name: \"\"\n", []string{"name: write 1 to 100 characters"}},
	"a name that is a list":            {productsOnly + "name: [a]\n", []string{"name: write one plain value"}},
	"an anchor":                        {productsOnly + "name: &n a\n", []string{"name: write one plain value; anchors, aliases"}},
	"an alias":                         {"name: &n a\nupstream: *n\n" + productsOnly, []string{"p.yaml:1:7: name", "upstream: write one plain value; anchors, aliases"}},
	"a merge":                          {productsOnly + "<<: {name: a}\n", []string{"policy: write a plain name as key; anchors, aliases, merges"}},
	"a tag":                            {productsOnly + "name: !!str a\n", []string{"name: write one plain value; anchors"}},
	"two documents":                    {productsOnly + "---\n" + productsOnly, []string{"the file holds 2 documents"}},
	"an empty file":                    {"", []string{"p.yaml: policy: the file is empty"}},
	"a comment alone":                  {"# nothing\n", []string{"the file is empty"}},
	"a list":                           {"- a\n", []string{"policy: write fields"}},
	"a word":                           {"a\n", []string{"policy: write fields"}},
	"what is not YAML":                 {"scopes: [\n", []string{"p.yaml:1:9: policy: not YAML"}},
	"what is not text":                 {productsOnly + "name: \xff\n", []string{"the file is not UTF-8 text"}},
	"deep nesting":                     {strings.Repeat("[", maxPolicyStructure+1), []string{"more than 5000 fields and brackets"}},
	"a huge file":                      {productsOnly + strings.Repeat("#", maxPolicyBytes), []string{"at most 1048576 are read"}},
	"a cap that is refused is not missing as well": {
		"scopes: {refunds: write}\ncustomers: any\ncaps: [{resource: refunds, per: day, usd: -5}]\n", []string{"caps[0].usd: `-5`: a cap cannot be negative"},
	},
	"a cap on a misspelt resource is not missing as well": {
		"scopes: {refunds: write}\ncustomers: any\ncaps: [{resource: refund, per: day, usd: 5}]\n", []string{"no such resource `refund`"},
	},
	"a cap in a misspelt window is not missing as well": {
		"scopes: {\"*\": write}\ncustomers: any\ncaps: [{resource: \"*\", per: days, usd: 5}]\n", []string{"no window `days`"},
	},
	"a cap without a window is not missing as well": {
		"scopes: {refunds: write}\ncustomers: any\ncaps: [{resource: refunds, usd: 5}]\n", []string{"`per` is missing"},
	},
	"a cap without a resource is not missing as well": {
		"scopes: {refunds: write}\ncustomers: any\ncaps: [{per: day, usd: 5}]\n", []string{"`resource` is missing"},
	},
	"a cap without a limit is not missing as well": {
		"scopes: {refunds: write}\ncustomers: any\ncaps: [{resource: refunds, per: day}]\n", []string{"write either `usd` or `calls`"},
	},
	"a cap with two limits is not missing as well": {
		"scopes: {refunds: write}\ncustomers: any\ncaps: [{resource: refunds, per: day, usd: 5, calls: 5}]\n", []string{"write either `usd` or `calls`"},
	},
	"a cap whose limit is a list is not missing as well": {
		"scopes: {refunds: write}\ncustomers: any\ncaps: [{resource: refunds, per: day, usd: [5]}]\n", []string{"caps[0].usd: write one plain value"},
	},
	"a cap that is no mapping is not missing as well": {
		"scopes: {refunds: write}\ncustomers: any\ncaps: [refunds/day=5]\n", []string{"caps[0]: write a mapping"},
	},
	"a refused cap on one bucket does not hide that another has none": {
		"scopes: {refunds: write, payouts: write}\ncustomers: any\ncaps: [{resource: refunds, per: day, usd: -5}]\n",
		[]string{"a cap cannot be negative", "caps: the scope `payouts: write` moves money"},
	},
	"a refused cap in calls does not hide that none is in dollars": {
		"scopes: {refunds: write}\ncustomers: any\ncaps: [{resource: refunds, per: day, calls: -5}]\n",
		[]string{"a cap cannot be negative", "no cap in dollars per hour, day"},
	},
	"a refused cap per call does not hide that none bounds a day": {
		"scopes: {refunds: write}\ncustomers: any\ncaps: [{resource: refunds, per: call, usd: -5}]\n",
		[]string{"a cap cannot be negative", "no cap in dollars per hour, day"},
	},
	"misspelt caps are not missing as well": {
		"scopes: {refunds: write}\ncustomers: any\ncap: [{resource: refunds, per: day, usd: 5}]\n", []string{"cap: no such field; did you mean `caps`?"},
	},
	"caps that are no list are not missing as well": {
		"scopes: {refunds: write}\ncustomers: any\ncaps: 5\n", []string{"caps: write a list"},
	},
	"a refused `uncapped` does not ask for caps": {
		"scopes: {refunds: write}\ncustomers: any\nuncapped: yes\n", []string{"uncapped: write true or false"},
	},
	"misspelt customers are not missing as well": {
		"scopes: {charges: read}\ncustomer: any\n", []string{"customer: no such field; did you mean `customers`?"},
	},
	"misspelt scopes are not missing as well": {"scope: {charges: read}\ncustomers: any\n", []string{"scope: no such field; did you mean `scopes`?"}},
	"everything at once": {
		"nmae: a\nscopes: {refund: write, charges: read}\ncaps: [{resource: refunds, per: day, usd: -1}]\nexpires: soon\n",
		[]string{"p.yaml:1:1: nmae", "p.yaml:2:10: scopes.refund", "p.yaml:2:25: customers: missing", "p.yaml:3:43: caps[0].usd", "p.yaml:4:10: expires"},
	},
}

func TestParseRefuses(t *testing.T) {
	for name, test := range refusedFiles {
		t.Run(name, func(t *testing.T) {
			got, _, err := Parse("p.yaml", []byte(test.src), vocabulary)
			var refused *ParseError
			if !errors.As(err, &refused) || got != nil {
				t.Fatalf("got %+v, %v; want a refusal", got, err)
			}
			if len(refused.Problems) != len(test.want) {
				t.Errorf("%d problems, want %d:\n%v", len(refused.Problems), len(test.want), err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("no %q in\n%v", want, err)
				}
			}
		})
	}
}

func TestParseAccepts(t *testing.T) {
	for name, src := range map[string]string{
		"an own cap":                       "scopes: {refunds: write}\ncustomers: any\ncaps: [{resource: refunds, per: total, usd: 0}]\n",
		"the wildcard's cap":               "scopes: {refunds: write}\ncustomers: any\ncaps: [{resource: \"*\", per: hour, usd: 5}]\n",
		"uncapped":                         "scopes: {refunds: write}\ncustomers: any\nuncapped: true\n",
		"no cap for a bucket out of scope": "scopes: {invoices: write}\ncustomers: any\ncaps: [{resource: invoices, per: day, usd: 5}]\n",
		"no cap where only what is out of scope moves money": "scopes: {transfers: write}\n",
		"no customers for a wildcard that reaches none": "scopes: {\"*\": read, balance_transactions: none, charges: none, customers: none, events: none, " +
			"invoices: none, payment_intents: none, refunds: none}\n",
		"no customers for none reached": "scopes: {products: write, payouts: read, charges: none}\n",
		"an empty list of customers":    "scopes: {charges: read}\ncustomers: []\n",
		"nothing at all":                "scopes: {}\n",
		"the fully open policy":         "scopes: {\"*\": write}\nuncapped: true\nunmetered: [\"*\"]\ncustomers: any\n",
		"an expiry by date":             "scopes: {}\nexpires: 2027-01-31\n",
		"an expiry by instant":          "scopes: {}\nexpires: 2027-01-31T12:00:00+01:00\n",
		"quoted fields":                 "\"scopes\": {'products': \"read\"}\n",
		"a rule on an undeclared set":   "scopes: {products: write}\nparams: {products.create: {\"a[b][]\": deny}}\n",
	} {
		if _, _, err := Parse("p.yaml", []byte(src), vocabulary); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestExpiryDatesAreCivil(t *testing.T) {
	p, _, err := Parse("p.yaml", []byte("scopes: {}\nexpires: 2027-01-31\ntimezone: America/New_York\n"), vocabulary)
	if err != nil {
		t.Fatal(err)
	}
	if want := time.Date(2027, 1, 31, 5, 0, 0, 0, time.UTC); !p.Expires.At.Equal(want) {
		t.Errorf("it expires at %s, want midnight in New York, %s", p.Expires.At, want)
	}
}

func TestWarnings(t *testing.T) {
	const base = "name: agent-a-b-c\n"
	for name, test := range map[string]struct{ src, want string }{
		"no name":                    {"scopes: {}\n", "name: write it as agent-<role>"},
		"another name":               {"name: Key-3\nscopes: {}\n", "p.yaml:1:1: name: write it as agent-<role>"},
		"the fully open policy":      {base + "scopes: {\"*\": write}\nuncapped: true\nunmetered: [\"*\"]\ncustomers: any\n", "scopes: this policy is fully open"},
		"a wildcard that writes":     {base + "scopes: {\"*\": write}\nuncapped: true\ncustomers: any\n", "also grants what the vendor adds later"},
		"shadow":                     {base + "scopes: {}\nenforcement: shadow\n", "p.yaml:3:1: enforcement: shadow"},
		"uncapped":                   {base + "scopes: {refunds: write}\nuncapped: true\ncustomers: any\n", "nothing bounds what this key can move on refunds"},
		"unmetered":                  {base + "scopes: {}\nunmetered: [payouts.create]\n", "counted against no cap: payouts.create"},
		"client secrets":             {base + "scopes: {}\nclient_secrets: allow\n", "client_secrets: allow"},
		"repeats":                    {base + "scopes: {}\nrepeat_unknown: allow\n", "repeat_unknown: allow"},
		"an empty list of customers": {base + "scopes: {charges: read}\ncustomers: []\n", "customers: the list is empty"},
		"a cap where nothing moves":  {base + "scopes: {products: write}\ncaps: [{resource: products, per: day, usd: 5}]\n", "no operation moves money on products"},
		"a cap without a scope":      {base + "scopes: {}\ncaps: [{resource: refunds, per: day, usd: 5}]\n", "the scopes grant no write on refunds"},
		"no_customer under any":      {base + "scopes: {}\ncustomers: any\nno_customer: [events.list]\n", "customers is `any`"},
		"no_customer without need":   {base + "scopes: {}\ncustomers: []\nno_customer: [charges.retrieve]\n", "it needs no exception and gets none"},
		"rules out of scope":         {base + "scopes: {}\nparams: {refunds.create: {amount: deny}}\n", "the scopes do not allow this operation"},
		"uncapped where none moves":  {base + "scopes: {products: write}\nuncapped: true\n", ""},
		"a cap over all":             {base + "scopes: {refunds: write}\ncustomers: any\ncaps: [{resource: \"*\", per: day, usd: 5}]\n", ""},
		"no_customer with need":      {base + "scopes: {}\ncustomers: []\nno_customer: [events.list]\n", ""},
		"nothing to say":             {base + "scopes: {refunds: write}\ncustomers: any\ncaps: [{resource: refunds, per: day, usd: 5}]\n", ""},
	} {
		_, warnings, err := Parse("p.yaml", []byte(test.src), vocabulary)
		var lines []string
		for _, w := range warnings {
			lines = append(lines, w.In("p.yaml"))
		}
		got := strings.Join(lines, "\n")
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if (test.want == "" && got != "") || !strings.Contains(got, test.want) {
			t.Errorf("%s: warnings %q, want %q", name, got, test.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte("scopes: {\"*\": write}\ncaps: [{resource: \"*\", per: day, usd: 5}]\ncustomers: any\n"))
	f.Add([]byte("a: &x [1]\nb: *x\n<<: {c: 1}\n"))
	f.Add([]byte("scopes:\n- a\n? b\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		if len(src) > 4096 {
			return
		}
		p, _, err := Parse("p.yaml", src, vocabulary)
		if err != nil {
			var refused *ParseError
			if !errors.As(err, &refused) || len(refused.Problems) == 0 {
				t.Fatalf("refused without a problem: %v", err)
			}
			return
		}
		again, _, err := Parse("again.yaml", Format(p), vocabulary)
		if err != nil {
			t.Fatalf("the canonical form is refused: %v\n%s", err, Format(p))
		}
		if diff := cmp.Diff(p, again, same); diff != "" {
			t.Fatal(diff)
		}
	})
}
