package policy

import "github.com/keybrake/keybrake/internal/money"

// Verdict is the outcome of a decision. The zero value denies.
type Verdict uint8

// The verdicts.
const (
	Deny Verdict = iota
	Allow
)

// String returns deny or allow.
func (v Verdict) String() string {
	if v == Allow {
		return "allow"
	}
	return "deny"
}

// Code is a reason for machines; it is the `code` of the error that the agent sees and the anchor of its
// explanation in docs/policies.md. Frozen once shipped.
type Code string

// The codes of denials. The gateway adds those of failures (keybrake_unavailable ...).
const (
	CodeKeyInvalid  Code = "keybrake_key_invalid"  // absent, malformed or unknown
	CodeKeyRevoked  Code = "keybrake_key_revoked"  //
	CodeKeyExpired  Code = "keybrake_key_expired"  //
	CodeKeyKilled   Code = "keybrake_key_killed"   // the brake is pulled: key, upstream or all
	CodeKeyReadOnly Code = "keybrake_key_readonly" // the brake is read-only and the call writes
	CodeKeyNetwork  Code = "keybrake_key_network"  // from outside the key's networks
	CodeKeyMode     Code = "keybrake_key_mode"     // a test key at a live upstream or the reverse

	CodeScopeDenied    Code = "keybrake_scope_denied"
	CodeUnknownRoute   Code = "keybrake_route_unknown"
	CodeAccountDenied  Code = "keybrake_account_denied"
	CodeHeaderDenied   Code = "keybrake_header_denied"
	CodeCapExceeded    Code = "keybrake_cap_exceeded"
	CodeUncapped       Code = "keybrake_cap_missing" // a write scope that moves money without a cap
	CodeUnmeterable    Code = "keybrake_unmeterable"
	CodeNoRate         Code = "keybrake_rate_missing"
	CodeFrozen         Code = "keybrake_key_frozen" // Stripe moved more than was held, or the guard tripped
	CodeCustomerDenied Code = "keybrake_customer_denied"
	CodeParamDenied    Code = "keybrake_param_denied"
	CodeMalformed      Code = "keybrake_request_malformed"
	CodeVersion        Code = "keybrake_version_unknown"
	CodeOutcomePending Code = "keybrake_outcome_pending"
	CodeIdemMismatch   Code = "keybrake_idempotency_mismatch"
	CodeIdemInUse      Code = "idempotency_key_in_use"
	CodeProbe          Code = "keybrake_probe" // a write of a key that `keybrake verify` made
)

// Failure is one rule that a call broke. Message is a full sentence for people: what was refused, by
// which rule and what would admit it.
type Failure struct {
	Code    Code
	Rule    string // the rule in the policy's words: "scopes.refunds", "caps.refunds/day", "customers"
	Param   string // the parameter at fault, if one is
	Message string
	// Soft failures do not deny under Shadow.
	Soft bool
	// Cap and the figures are set on CodeCapExceeded only.
	Cap *CapFailure
}

// CapFailure tells how a cap stood when a call was refused. Figures are in the cap's unit.
type CapFailure struct {
	Cap           Cap
	Held, Settled int64
	Asked, Left   int64 // Asked is 0 where the call was refused before its amount was known in dollars
	ResetsAtUnix  int64 // 0 = never (total, call)
	// AskedInCurrency is the amount as the vendor gets it; without a currency where only the call's own figure is
	// known, zero where it names none.
	AskedInCurrency  money.Amount
	WouldAdmitAtMost int64
}

// Decision is what policy says about one operation.
type Decision struct {
	Verdict Verdict
	// Failures holds every rule that was broken, the decisive one first. Under Shadow an allowed call may
	// carry soft failures: what enforcement would have said.
	Failures []Failure
	// Shadowed: the call is allowed only because of Shadow; enforcement would deny it.
	Shadowed bool
}

// First returns the failure that decided, or nil for an allowed call without failures.
func (d *Decision) First() *Failure {
	if len(d.Failures) == 0 {
		return nil
	}
	return &d.Failures[0]
}
