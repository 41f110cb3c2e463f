package policy

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// vocabulary is a small catalog with one operation of every kind that policies tell apart.
var vocabulary = NewVocabulary([]OperationTerm{
	{Name: "charges.retrieve", Resource: "charges", Access: Read, ReachesCustomer: true},
	{Name: "charges.create", Resource: "charges", Access: Write, Buckets: []Resource{"charges"}, ReachesCustomer: true},
	{Name: "payment_intents.retrieve", Resource: "payment_intents", Access: Read, ReachesCustomer: true},
	{Name: "customers.retrieve", Resource: "customers", Access: Read, ReachesCustomer: true},
	{Name: "customers.create", Resource: "customers", Access: Write, ReachesCustomer: true, Unfilterable: true},
	{Name: "refunds.retrieve", Resource: "refunds", Access: Read, ReachesCustomer: true},
	{
		Name: "refunds.create", Resource: "refunds", Access: Write, Buckets: []Resource{"refunds"}, ReachesCustomer: true,
		Params: func() *ParamTerm { return refundParams },
	},
	{Name: "invoices.list", Resource: "invoices", Access: Read, ReachesCustomer: true},
	{Name: "invoices.pay", Resource: "invoices", Access: Write, Buckets: []Resource{"invoices", "transfers"}, ReachesCustomer: true},
	{Name: "transfers.list", Resource: "transfers", Access: Read},
	{Name: "balance_transactions.list", Resource: "balance_transactions", Access: Read, ReachesCustomer: true, Unfilterable: true},
	{Name: "events.list", Resource: "events", Access: Read, ReachesCustomer: true, Unfilterable: true},
	{Name: "payouts.list", Resource: "payouts", Access: Read},
	{Name: "payouts.create", Resource: "payouts", Access: Write, Buckets: []Resource{"payouts"}},
	{Name: "products.create", Resource: "products", Access: Write},
	{Name: "products.list", Resource: "products", Access: Read},
	{Name: "plans.create", Resource: "plans", Access: Write},
	{Name: "prices.create", Resource: "prices", Access: Write},
	{Name: "billing.meter_events.create", Resource: "billing.meter_events", Access: Write, Buckets: []Resource{"billing.meter_events"}, ReachesCustomer: true},
})

var refundParams = &ParamTerm{Type: ParamHash, Members: map[string]*ParamTerm{
	"amount":           {Type: ParamInteger},
	"reason":           {Type: ParamString},
	"reverse_transfer": {Type: ParamBool},
	"metadata":         {Type: ParamMap, Element: &ParamTerm{Type: ParamString}},
	"expand":           {Type: ParamArray, Element: &ParamTerm{Type: ParamString}},
	"charge":           {Type: ParamString},
	"details":          {Type: ParamHash, Members: map[string]*ParamTerm{"name": {Type: ParamString}}},
	"lines": {Type: ParamArray, Element: &ParamTerm{Type: ParamHash, Members: map[string]*ParamTerm{
		"price": {Type: ParamString}, "quantity": {Type: ParamInteger},
	}}},
}}

// same compares policies and what they are made of.
var same = cmp.Options{
	cmpopts.IgnoreUnexported(ParamRule{}),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b *time.Location) bool { return zoneName(a) == zoneName(b) }),
}

// values is a ParamView over a map.
type values map[string][]string

func (v values) Lookup(path string) ([]string, bool) {
	got, ok := v[path]
	return got, ok
}

func (v values) Names() []string { return slices.Sorted(maps.Keys(v)) }
