package store

import "time"

// OperatorRow is an operator's account as stored.
type OperatorRow struct {
	ID      string // "opr_" and base32 digits
	Name    string // unique for ever: records and brakes name operators by it
	Role    string
	Issuer  string // with Subject: who this is at an OpenID provider; empty until the first sign-in there
	Subject string
	Email   string // what the provider must vouch for at that first sign-in; empty: nobody comes in that way
	Created time.Time
	// Disabled is since when the account lets nobody in; zero = it does.
	Disabled time.Time
}

// TokenRow is an operator token as stored: its digest, never the token.
type TokenRow struct {
	Digest []byte
	Name   string
	// Operator is the account that it belongs to; empty for a tool's.
	Operator string
	// Role is what it may do; empty: what its operator may.
	Role    string
	Created time.Time
	Expires time.Time // zero = never
	Used    time.Time // roughly when it was used last; zero = never
}

// PassKind says what a pass is.
type PassKind string

// The kinds.
const (
	PassSession PassKind = "session" // somebody has signed in
	PassInvite  PassKind = "invite"  // a link with which an operator can sign in once
)

// PassRow is what lets an operator in for a while, as stored: its digest, never its text.
type PassRow struct {
	Digest   []byte
	Kind     PassKind
	Operator string // id; empty: of a token that belongs to no operator
	Token    string // name of the token that opened it; it ends with that one
	Created  time.Time
	Seen     time.Time // roughly when it was used last
	Expires  time.Time
	From     string // address
	Agent    string // User-Agent
}

// CreationRow is what a create with an idempotency key answered, without the secret in it.
type CreationRow struct {
	Digest  []byte // of who asked, for what, under which key
	Request []byte // digest of what was asked
	Answer  []byte
	At      time.Time
}

// CreationsKept is how long creates are remembered.
const CreationsKept = 24 * time.Hour

// People is the part of Tx about operators and how they come in.
type People interface {
	// Operators lists the accounts by name.
	Operators() ([]OperatorRow, error)
	// PutOperator writes an account; a name, or an issuer's subject, that another one has is ErrExists.
	PutOperator(OperatorRow) error
	// Tokens lists the tokens by name.
	Tokens() ([]TokenRow, error)
	// PutToken writes a new token; a name that is taken is ErrExists.
	PutToken(TokenRow) error
	// UseToken notes when a token was used.
	UseToken(name string, at time.Time) error
	DeleteToken(name string) error
	// Passes lists sessions and invites, oldest first.
	Passes() ([]PassRow, error)
	PutPass(PassRow) error
	// DeletePass is ErrNotFound if there is none: what can be used once is deleted by the one who uses it.
	DeletePass(digest []byte) error
	// Creation finds a create that is remembered, or ErrNotFound.
	Creation(digest []byte) (CreationRow, error)
	// PutCreation remembers a create and forgets those that are older than CreationsKept.
	PutCreation(CreationRow) error
}
