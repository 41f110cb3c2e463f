package upstream

import (
	"errors"

	"github.com/keybrake/keybrake/internal/policy"
)

// ErrCredential says that a look-up failed because the vendor refused our secret, or our secret may not read
// what the look-up needs. What the error says is for operators; agents get CodeCredential.
var ErrCredential = errors.New("the upstream secret was refused")

// The codes of failures: what the gateway says when no rule refused the call. Like the codes of denials
// they are the error's `code` and frozen once shipped.
const (
	// CodeUnavailable: overloaded, or the store is down; nothing was sent.
	CodeUnavailable policy.Code = "keybrake_unavailable"
	// CodeUnreachable: the vendor could not be reached; nothing was written.
	CodeUnreachable policy.Code = "keybrake_upstream_unreachable"
	// CodeOutcomeUnknown: a write was sent and nobody knows what became of it. Its hold stays.
	CodeOutcomeUnknown policy.Code = "keybrake_upstream_unknown"
	// CodeCredential: the vendor refused our secret, not the agent's wish.
	CodeCredential policy.Code = "keybrake_upstream_credential"
	// CodeResourceMissing: a look-up for the decision found nothing. It is the vendor's own code, so that
	// agents see what they would have seen without a gateway.
	CodeResourceMissing policy.Code = "resource_missing"
)

// ErrForgotten says that the vendor does not know a place in its log of events any more.
var ErrForgotten = errors.New("the vendor has forgotten the place")
