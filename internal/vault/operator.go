package vault

import (
	"strings"
	"time"
)

// Role is what an operator's token may do. The zero value may do nothing.
type Role uint8

// The roles.
const (
	// RoleStop may pull brakes and do nothing else: not release them, not read.
	RoleStop Role = iota + 1
	// RoleOperator may do everything.
	RoleOperator
)

// String returns stop, operator or none.
func (r Role) String() string {
	switch r {
	case RoleStop:
		return "stop"
	case RoleOperator:
		return "operator"
	default:
		return "none"
	}
}

// ParseRole reads what String writes, except "none".
func ParseRole(s string) (Role, bool) {
	switch s {
	case "stop":
		return RoleStop, true
	case "operator":
		return RoleOperator, true
	default:
		return 0, false
	}
}

// MayStop reports whether the role may pull a brake.
func (r Role) MayStop() bool { return r == RoleStop || r == RoleOperator }

// MayOperate reports whether the role may do everything else.
func (r Role) MayOperate() bool { return r == RoleOperator }

// Operator is a token for people and scripts at the admin port, as it is stored.
type Operator struct {
	ID      string // "op_" and 16 base32 digits
	Name    string
	Role    Role
	Digest  Digest
	Last4   [4]byte
	Created time.Time
	Expires time.Time // zero = never
	Revoked time.Time // zero = not
}

// MintOperator makes a token and what is stored of it. The Secret is for the one answer that shows it.
func (m *Master) MintOperator(name string, role Role, now time.Time) (Secret, Operator) {
	text := mintText(prefixAdmin)
	return NewSecret(text), Operator{
		ID: newID("op_"), Name: name, Role: role, Digest: m.digest(text), Last4: last4(text), Created: now,
	}
}

// AuthenticateOperator finds the operator whose token was presented. It compares with every one of them
// in constant time; there are few. A token that is malformed, unknown, revoked or expired is nobody's.
func (m *Master) AuthenticateOperator(token string, operators []Operator, now time.Time) (Operator, bool) {
	if !strings.HasPrefix(token, prefixAdmin) || !wellFormed(token, len(prefixAdmin)) {
		return Operator{}, false
	}
	digest, found := m.digest(token), -1
	for i := range operators {
		if operators[i].Digest.Equal(digest) {
			found = i
		}
	}
	if found < 0 {
		return Operator{}, false
	}
	op := operators[found]
	if !op.Revoked.IsZero() || now.IsZero() || (!op.Expires.IsZero() && !now.Before(op.Expires)) {
		return Operator{}, false
	}
	return op, true
}
