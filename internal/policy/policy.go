// Package policy answers one question: what may a principal do? It is pure: no clock, no I/O, no
// logger. Time, balances and everything learned from a vendor come in as arguments.
//
// A denial is a value (Decision), never an error, and every zero value is the one that denies: Access
// zero is None, Verdict zero is Deny, the zero Policy permits nothing.
package policy

import (
	"net/netip"
	"regexp"
	"slices"
	"time"

	"github.com/keybrake/keybrake/internal/money"
)

// Identities that several packages share. They live here because everything above may name them.
type (
	// KeyID names a vault key: "key_" and 16 base32 digits. It survives rotation.
	KeyID string
	// UpstreamID names an upstream: "up_" and 16 base32 digits.
	UpstreamID string
	// Resource is a scope name of the catalog ("refunds", "tax.settings"), matched exactly, or
	// AllResources.
	Resource string
	// OperationName is resource + the SDK's method ("refunds.create"). Frozen once shipped: policies
	// and audit records name it.
	OperationName string
	// CustomerID is a Stripe customer ("cus_...", though Stripe also takes custom ids) or a customer
	// account ("acct_...").
	CustomerID string
	// AccountID is a connected account that Stripe-Account, Stripe-Context or a path names.
	AccountID string
)

// AllResources is the wildcard of scopes and caps: a named scope beats it; a cap on it sums over all.
const AllResources Resource = "*"

// Access is what a scope grants. Write implies Read. The zero value grants nothing.
type Access uint8

// The access levels, in order.
const (
	None Access = iota
	Read
	Write
)

// String returns the word used in policy files: none, read, write.
func (a Access) String() string {
	switch a {
	case Read:
		return "read"
	case Write:
		return "write"
	default:
		return "none"
	}
}

// Window is the span of time over which a cap counts. Windows are civil in the policy's time zone; they
// are part of an account's identity, so nothing is ever reset. Stores keep the numbers.
type Window uint8

// The windows. The zero value is none of them and makes a cap invalid.
const (
	PerCall Window = iota + 1
	PerHour
	PerDay
	PerWeek // starts on Monday
	PerMonth
	PerTotal // the key's whole life
)

// String returns the word used in policy files.
func (w Window) String() string {
	if int(w) < len(windowNames) {
		return windowNames[w]
	}
	return "invalid"
}

var windowNames = [...]string{"invalid", "call", "hour", "day", "week", "month", "total"}

// Unit is what a cap counts. Stores keep the numbers.
type Unit uint8

// The units. The zero value makes a cap invalid.
const (
	UnitUSD   Unit = 1 // micro-dollars
	UnitCalls Unit = 2 // admitted writes
)

// String returns the word used in policy files.
func (u Unit) String() string {
	switch u {
	case UnitUSD:
		return "usd"
	case UnitCalls:
		return "calls"
	default:
		return "invalid"
	}
}

// Cap limits one resource in one window. Limit is in micro-dollars (UnitUSD) or calls (UnitCalls) and
// never negative; zero admits nothing. Two caps with the same (Resource, Per, Unit) are refused when a
// policy is made, so those three identify a cap within a policy.
type Cap struct {
	Resource Resource
	Per      Window
	Unit     Unit
	Limit    int64
}

// Customers says whose objects a key may touch. The zero value allows none.
type Customers struct {
	Any  bool
	List []CustomerID // sorted, without duplicates; meaningful only if !Any
}

// Enforcement says whether the soft rules (scope, cap, customer, parameter) deny or only mark.
type Enforcement uint8

// Enforce is the zero value on purpose: a forgotten field must not soften a policy.
const (
	Enforce Enforcement = iota
	Shadow
)

// Policy is what one vault key may do. It is immutable once made and shared between keys, so nobody may
// write to a Policy after Parse returned it.
type Policy struct {
	Name       string
	Upstream   string // name of the upstream; empty = the only one
	Scopes     map[Resource]Access
	Caps       []Cap
	Uncapped   bool // write scopes without a cap are meant
	Customers  Customers
	MayCreate  bool            // may_create_customers
	NoCustomer []OperationName // unfilterable operations allowed under a customer list
	Accounts   []AccountID
	Params     map[OperationName]map[string]ParamRule // by parameter path, "metadata[order]"
	Unmetered  []OperationName                        // "*" = all
	// ClientSecrets lets client_secret through in answers.
	ClientSecrets bool
	// RepeatUnknown lifts the refusal of a call that looks like one whose outcome is unknown.
	RepeatUnknown bool
	Network       []netip.Prefix // empty = anywhere
	Expires       Expiry
	RotateEvery   time.Duration  // 0 = no reminder
	Timezone      *time.Location // never nil after Parse; UTC by default
	Enforcement   Enforcement
}

// Expiry is either a span counted from the key's creation or a fixed instant; the zero Expiry never
// ends. Updating a policy does not move a span: it is counted from the creation all the same.
type Expiry struct {
	After time.Duration
	At    time.Time
}

// Deadline returns when a key created at the given time expires; the zero time means never.
func (e Expiry) Deadline(created time.Time) time.Time {
	switch {
	case !e.At.IsZero():
		return e.At
	case e.After != 0:
		return created.Add(e.After)
	default:
		return time.Time{}
	}
}

// ParamRule restricts one parameter of one operation. All parts that are set must hold. A rule on an
// absent parameter passes unless Required.
type ParamRule struct {
	In       []string
	Not      []string
	Max, Min *int64
	Deny     bool
	Required bool
	Pattern  string // anchored regular expression (RE2)

	pattern *regexp.Regexp // of Pattern; made by Parse, so that no call compiles it
}

// Allows reports whether the customer may be touched.
func (c Customers) Allows(id CustomerID) bool {
	if c.Any {
		return true
	}
	_, ok := slices.BinarySearch(c.List, id)
	return ok
}

// With returns the customers with more of them. It leaves c as it is.
func (c Customers) With(more ...CustomerID) Customers {
	if c.Any || len(more) == 0 {
		return c
	}
	list := slices.Concat(c.List, more)
	slices.Sort(list)
	return Customers{List: slices.Compact(list)}
}

// AllowsFrom reports whether the key may be used from an address.
func (p *Policy) AllowsFrom(from netip.Addr) bool {
	from = from.Unmap().WithZone("") // an IPv4 client on a dual-stack listener is still that client
	return len(p.Network) == 0 || slices.ContainsFunc(p.Network, func(n netip.Prefix) bool { return n.Contains(from) })
}

// Scope returns the access that the policy gives to a resource: a named scope beats the wildcard, also
// where it is lower. An access that is none of the three is none.
func (p *Policy) Scope(r Resource) Access {
	a, ok := p.Scopes[r]
	if !ok {
		a = p.Scopes[AllResources]
	}
	if a > Write {
		return None
	}
	return a
}

// Covers reports whether the cap bounds what a bucket can move over time: in dollars, over an hour or more.
// A cap per call bounds no loop.
func (c Cap) Covers(bucket Resource) bool {
	return c.Unit == UnitUSD && c.Per >= PerHour && c.Per <= PerTotal && (c.Resource == bucket || c.Resource == AllResources)
}

// Money reads the limit of a cap in UnitUSD.
func (c Cap) Money() money.USD { return money.USD(c.Limit) }
