package stripe

import "github.com/keybrake/keybrake/internal/policy"

// Release tells how public an operation is.
type Release string

// The releases. Preview operations are denied.
const (
	GA      Release = "ga"     // in an SDK
	Legacy  Release = "legacy" // in the OpenAPI document, in no SDK
	Preview Release = "preview"
)

// Verdict is what happens to an operation without a special grant.
type Verdict string

// The verdicts of a row. The zero Verdict is refused when the tables are loaded.
const (
	AllowByScope   Verdict = "allow_by_scope"
	DenyUnmetered  Verdict = "deny_unmetered" // only while an effect without a bound applies
	DenyCredential Verdict = "deny_credential"
	DenyEgress     Verdict = "deny_egress"
	DenyBulk       Verdict = "deny_bulk"
	DenyPreview    Verdict = "deny_preview"
)

// Host is which of Stripe's hosts takes an operation.
type Host string

// The hosts. A row names exactly one.
const (
	HostAPI         Host = "api"
	HostFiles       Host = "files"
	HostConnect     Host = "connect"
	HostMeterEvents Host = "meter-events"
)

// Row is one operation of the catalog. Rows are immutable once loaded and shared by all calls.
type Row struct {
	Method   string // GET, POST or DELETE
	Template string // "/v1/charges/{charge}/capture"
	// Placeholders are the names in Template's braces, in order.
	Placeholders []string
	Name         policy.OperationName
	Resource     policy.Resource
	Access       policy.Access
	Release      Release
	Default      Verdict
	Host         Host
	Object       string // object type of the answer, as far as it is known
	Witness      string // "openapi", or the package that knows the operation
	Money        MoneyRule
	Customer     CustomerRule
	// Params are the parameters that the operation declares; nil if none are known (v2), which a write
	// that moves money may not use.
	Params *ParamSpec
}

// V2 reports whether the operation belongs to Stripe's second API: JSON bodies, other idempotency.
func (r *Row) V2() bool { return len(r.Template) > 4 && r.Template[:4] == "/v2/" }

// Klass says what an operation does, in one word of the tables' closed list.
type Klass string

// The classes.
const (
	KlassMoveIn     Klass = "move_in"
	KlassMoveOut    Klass = "move_out"
	KlassCommitIn   Klass = "commit_in"
	KlassCommitOut  Klass = "commit_out"
	KlassValue      Klass = "value"
	KlassRelease    Klass = "release"
	KlassSetup      Klass = "setup"
	KlassCredential Klass = "credential"
	KlassEgress     Klass = "egress"
	KlassBulk       Klass = "bulk"
	KlassCatalog    Klass = "catalog"
	KlassAdmin      Klass = "admin"
	KlassConfig     Klass = "config"
	KlassRecord     Klass = "record"
	KlassTest       Klass = "test"
	KlassNone       Klass = "none"
)

// Metered reports whether the class has to be counted: it moves or commits money or changes what is owed.
func (k Klass) Metered() bool {
	switch k {
	case KlassMoveIn, KlassMoveOut, KlassCommitIn, KlassCommitOut, KlassValue:
		return true
	}
	return false
}

// MoneyRule is what an operation does to money. The zero rule does nothing.
type MoneyRule struct {
	Klass Klass
	// Effects are the movements that the call may make, each under its own condition, in the order of the
	// table. Later ones may count by what earlier ones come to (worst_case:amount).
	Effects []*EffectRule
	// Makes are objects of other resources that the call makes on the way: it needs write there, or a key for
	// products would set prices.
	Makes []MakeRule
	// Final, if set, tells when the call brings an object to its last state.
	Final *FinalRule
	// OneOf are parameters of which exactly one must be given: the object that the call is about.
	OneOf []Field
	// Routing are parameters that send a part of the money, or a fee, elsewhere: they need write on transfers.
	Routing []Field
	// Raising are parameters that can lift the final amount above the counted one.
	Raising []Field
	// Refused are parameters that cannot be bounded, each with the reason.
	Refused []RefusedParam
	// Later says, in one sentence, what may happen afterwards without a call and how much of it was counted;
	// empty for nothing.
	Later string
	// Exposes names what the answer hands out: client_secret, public_url, api_token, signing_secret,
	// bank_details, pan; empty for none.
	Exposes string
}

// MakeRule is an object of another resource that a call makes on the way.
type MakeRule struct {
	Resource policy.Resource
	When     Condition
}

// RefusedParam is a parameter whose use makes a call unmeterable.
type RefusedParam struct {
	When Condition
	Why  string // what it would do, as the end of a sentence
}

// FinalRule says when an object's last word has been spoken, and what of it remains counted.
type FinalRule struct {
	Bucket     policy.Resource
	ObjectFrom string    // the placeholder that has the object's id
	When       Condition // on a 2xx answer
	// Amount is what remains counted, from the answer; empty for nothing.
	Amount        []Source
	CurrencyField []Field
}

// EffectRule is one movement, as data. Alternatives in a []Source are tried in order: the first whose
// placeholders are all in the request is used.
type EffectRule struct {
	Klass  Klass
	Bucket policy.Resource
	// When is evaluated on the request; the effect is nothing where it fails.
	When Condition
	// Amount, and Absent where the request parameter of Amount is missing.
	Amount, Absent []Source
	// Floor, if set, is looked up too and the larger of it and the amount is held.
	Floor []Source
	// Base is the state before: for Distance, and for conditions on the answer that compare with "base".
	Base     []Source
	Currency []Source
	// Distance: the amount is a new value, and what counts is how far it is from Base, either way.
	Distance bool
	// Mode says how the amount is counted. Under policy.Total the amount and what Settle yields are the
	// object's totals. Ceiling is the object's authorised total for policy.Part; it is never taken below
	// Base plus the amount asked, or an overcapture would go uncounted.
	Mode    policy.CountMode
	Ceiling []Source
	// Signed: the amount may be negative and its absolute value counts.
	Signed bool
	// Pin is the parameter into which a resolved amount is written; nil where the route takes none.
	Pin Field
	// CountsWhen, PendingWhen and NothingWhen are evaluated on a 2xx answer. What is in neither CountsWhen
	// nor NothingWhen is an unknown outcome. While PendingWhen holds the amount held stays counted: Settle
	// is the last word only afterwards.
	CountsWhen, PendingWhen, NothingWhen Condition
	Settle                               []Source
	CurrencyField                        []Field // in the answer
	// CountKey is the object type under whose id amounts are counted once; empty for none.
	CountKey string
	// ObjectFrom is the placeholder that has the object's id before the call; empty if only the answer
	// names it.
	ObjectFrom string
	// ObjectField is where the answer has the object's id ("id").
	ObjectField Field
}

// CustomerForm is how a call is tied to customers.
type CustomerForm string

// The forms. The zero form is unfilterable.
const (
	CustomerPath       CustomerForm = "path"
	CustomerParam      CustomerForm = "param"
	CustomerLookup     CustomerForm = "lookup"
	CustomerParent     CustomerForm = "parent"
	CustomerListFilter CustomerForm = "list_filter"
	CustomerNone       CustomerForm = "none"
	CustomerUnknown    CustomerForm = "unfilterable"
)

// CustomerRule tells how to learn whose objects a call touches.
type CustomerRule struct {
	Form CustomerForm
	// Name is the placeholder (path) that has the customer.
	Name string
	// Param is the parameter that names the customer (param), or the main filter (list_filter).
	Param Field
	// Chains are the look-ups of lookup and parent: alternatives in order, the first whose placeholders
	// are all in the request is followed.
	Chains []Chain
	// Search: the filter is the search language (list_filter:query).
	Search bool
	// Checks are further parameters that name a customer or an object of one. Every one that is present
	// must resolve to an allowed customer. For list_filter they are the filters, Param included: at least
	// one must be present.
	Checks []Check
	// Creates: the answer names a customer that did not exist before.
	Creates bool
}

// Check is one parameter that names a customer, or an object that a customer owns.
type Check struct {
	Field Field
	// Direct: the value is a customer's (or customer account's) id.
	Direct bool
	// Chains lead from the value to its customer, chosen by the id's prefix: the first chain whose Prefix
	// fits. None fits: the call is unfilterable.
	Chains []PrefixedChain
}

// PrefixedChain is a chain for ids with one prefix. Placeholders of its first step stand for the id.
type PrefixedChain struct {
	Prefix string // "pm_"; empty fits all
	Chain  Chain
}

// Chain is a row of look-ups; the value found by one fills the placeholder of the next.
type Chain []Step

// Step is one look-up of a chain.
type Step struct {
	Ref   LookupRef
	Field Field
}

// Request is what Parse leaves in Call.Vendor for the later steps.
type Request struct {
	Row *Row
	// IDs are the decoded path segments for Row.Placeholders, in the same order.
	IDs []string
	// Params are the call's parameters, after canonical form; pinning changes them.
	Params *Params
	// Effects are the rules behind Call.Operation.Effects, in the same order.
	Effects []*EffectRule
	// Bases are texts that Base look-ups found, by effect; for conditions that compare the answer with them.
	// Empty where the call was not resolved here: a retry of an earlier one.
	Bases map[int]string
	// Version is the Stripe-Version that will be sent.
	Version string
}

// Value returns what a placeholder stands for: a path segment, or else a plain parameter of that name.
func (r *Request) Value(name string) (string, bool) {
	for i, p := range r.Row.Placeholders {
		if p == name {
			return r.IDs[i], true
		}
	}
	if n := r.Params.Get(Field{name}); n != nil && n.Plain() && n.Text != "" {
		return n.Text, true
	}
	return "", false
}
