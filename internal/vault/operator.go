package vault

import (
	"strings"
	"time"
)

// Role is what an operator may do. The zero value may do nothing.
type Role uint8

// The roles. All but the first are roles of people; each includes the one before it.
const (
	// RoleStop may pull brakes and do nothing else: not release them, not read. It is a token's role, for a tool.
	RoleStop Role = iota + 1
	// RoleAuditor may see and export everything, and stop.
	RoleAuditor
	// RoleResponder may also make vault keys able to do less, and resume what they stopped themselves.
	RoleResponder
	// RoleAdmin may do everything.
	RoleAdmin
)

// Right is what an action asks of whoever wants it. Nobody has the zero Right.
type Right uint8

// The rights.
const (
	// ToStop is pulling brakes: everybody who signs in has it.
	ToStop Right = iota + 1
	// ToSee is reading, and what changes nothing but the operator's own session.
	ToSee
	// ToLower is whatever only makes vault keys able to do less, and taking back what one stopped oneself.
	ToLower
	// ToChange is everything else.
	ToChange
)

var (
	roleNames  = [...]string{RoleStop: "stop", RoleAuditor: "auditor", RoleResponder: "responder", RoleAdmin: "admin"}
	rightNames = [...]string{ToStop: "stop", ToSee: "see", ToLower: "lower", ToChange: "change"}
)

// String returns stop, auditor, responder, admin or none.
func (r Role) String() string {
	if r == 0 || int(r) >= len(roleNames) {
		return "none"
	}
	return roleNames[r]
}

// String returns stop, see, lower, change or none.
func (r Right) String() string {
	if r == 0 || int(r) >= len(rightNames) {
		return "none"
	}
	return rightNames[r]
}

// ParseRole reads what String writes, except "none"; and "operator", which stores of older versions have for admin.
func ParseRole(s string) (Role, bool) {
	if s == "operator" {
		return RoleAdmin, true
	}
	for r := RoleStop; r <= RoleAdmin; r++ {
		if r.String() == s {
			return r, true
		}
	}
	return 0, false
}

// May reports whether the role has a right.
func (r Role) May(right Right) bool {
	return right != 0 && r <= RoleAdmin && Right(r) >= right
}

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
		ID: NewID("op_"), Name: name, Role: role, Digest: m.digest(text), Last4: last4(text), Created: now,
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
