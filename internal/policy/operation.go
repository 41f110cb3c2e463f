package policy

import "github.com/keybrake/keybrake/internal/money"

// Operation is what a call would do, in our terms. The adapter of a vendor fills it in: first from the
// call alone (Resolved=false), then, where NeedsLookup says so, with what the look-ups found
// (Resolved=true). The zero Operation is unknown and denied.
type Operation struct {
	Name     OperationName
	Resource Resource
	Access   Access // Read or Write; None = unknown route
	// Needs lists further scopes: write on a bucket that is not the own resource, read on what `expand`
	// opens.
	Needs []Need
	// Refused is a denial that nothing lifts, with the reason in one sentence (preview operations). What
	// hands out credentials, sends data elsewhere or runs in bulk is an Effect without a bound instead:
	// `unmetered` admits it, by its name or by "*".
	Refused *Refusal
	// Account is the connected account that the call names, if any.
	Account AccountID
	// Effects are the movements of money that the call makes or commits to; empty for none.
	Effects []Effect
	// Customer says how the call is tied to customers.
	Customer CustomerTie
	// CreatesCustomer: the answer names a customer that did not exist before. Customer is then about what
	// else the call names: TieNone for nothing, TieUnfilterable for an instrument of nobody knows whom.
	CreatesCustomer bool
	// Params gives the call's parameters to the policy's parameter rules. Nil means none.
	Params ParamView
	// Resolved: Effects and Customer are complete. Before, Decide judges what it can and treats the rest
	// as still open.
	Resolved bool
}

// Need is one further scope that an operation requires, with what makes it necessary
// ("expand[]=customer", "transfer_data").
type Need struct {
	Resource Resource
	Access   Access
	Because  string
}

// Refusal is a denial by the catalog itself.
type Refusal struct {
	Code    Code
	Param   string // the parameter at fault, if one is
	Message string // one sentence: what was refused and what would admit it
}

// ParamView reads decided parameters by path ("amount", "metadata[order]"). Safe for concurrent use.
type ParamView interface {
	// Lookup returns the value as it will be sent; ok is false if the parameter is absent. A path that
	// names an array matches each of its elements: every value is returned.
	Lookup(path string) (values []string, ok bool)
	// Names lists the parameters that hold a value, each once, as paths in which an array's elements are "[]".
	Names() []string
}

// CountMode says how an effect's amount relates to its object (DESIGN.md section 4, "One object, one
// count").
type CountMode uint8

// The modes. The zero value counts the amount in full.
const (
	// Gross adds the amount, whatever the object held before.
	Gross CountMode = iota
	// Total brings the object to the amount: only what the principal does not yet hold or settle on it
	// is added.
	Total
	// Part adds the amount up to Ceiling: captures of an authorisation that the principal may already
	// have been charged for.
	Part
)

// ObjectID is a vendor's object under which amounts are counted once ("pi_...", "ch_...").
type ObjectID string

// Effect is one movement (or commitment) of money that a call makes. Amounts are never negative.
type Effect struct {
	Bucket Resource
	// Known: Amount is what will be sent. A false Known on a resolved operation is a denial.
	Known  bool
	Amount money.Amount
	// Named is the amount in minor units that the call itself names while the effect is not Known, because its
	// currency, say, is still to be looked up; 0 for none. It is for telling only: nothing is counted by it.
	Named int64       `json:"-"`
	Quote money.Quote // fixed at the decision; the reservation settles at it
	USD   money.USD   // Amount at Quote, rounded up
	// LookedUp: only the vendor knew Amount. Waived: Unmeterable because a policy counts it nowhere. For the record only.
	LookedUp bool `json:"-"`
	Waived   bool `json:"-"`
	// Unmeterable: no bound exists; denied unless the policy lists the operation under `unmetered`.
	Unmeterable bool
	Why         string // for Unmeterable: the sentence of the denial
	NoRate      string // not empty: why the amount has no dollar value

	Mode    CountMode
	Object  ObjectID // empty until the answer names it
	Ceiling int64    // for Part: the object's authorised total in minor units
}

// CustomerTie says how much is known about whose objects a call touches.
type CustomerTie struct {
	Kind CustomerKind
	// Customers are all customers that the call concerns. Under TieKnown, every one must be allowed.
	Customers []CustomerID
	// Guest: at least one object has no customer. A guest is not an allowed customer.
	Guest bool
	// Add names the parameter that would make a list answerable ("customer"), for the denial's text.
	Add string
}

// CustomerKind is the state of a CustomerTie. The zero value is unfilterable: denied under a list.
type CustomerKind uint8

// The kinds.
const (
	// TieUnfilterable: the call may concern any customer.
	TieUnfilterable CustomerKind = iota
	// TieNone: no customer is concerned; passes by scope.
	TieNone
	// TieKnown: Customers is complete.
	TieKnown
	// TieLookup: a look-up must tell; allowed only before resolution.
	TieLookup
	// TieFilter: a list without its customer filter; Add names the parameter.
	TieFilter
)

// NeedsLookup reports whether the operation must be resolved before a complete decision under p: an
// amount that only the vendor knows, or, under a customer list, a customer that does.
func (op *Operation) NeedsLookup(p *Policy) bool {
	if op.Resolved {
		return false
	}
	if op.Customer.Kind == TieLookup && !p.Customers.Any {
		return true
	}
	for _, e := range op.Effects {
		if !e.Known && !e.Unmeterable {
			return true
		}
	}
	return false
}
