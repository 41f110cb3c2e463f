package vault

import "github.com/keybrake/keybrake/internal/policy"

// Brake says which calls a scope lets pass. The order is strictness: the strictest of key, upstream and
// all applies. The zero value stops everything.
type Brake uint8

// The brakes.
const (
	Stopped  Brake = iota
	ReadOnly       // reads pass
	Normal
)

// String returns stopped, read-only or normal, the words of the contract.
func (b Brake) String() string {
	switch b {
	case Normal:
		return "normal"
	case ReadOnly:
		return "read-only"
	default:
		return "stopped"
	}
}

// ParseBrake reads what String writes. A word that is none of them is Stopped and false: who ignores the
// second result stops.
func ParseBrake(s string) (Brake, bool) {
	switch s {
	case "normal":
		return Normal, true
	case "read-only":
		return ReadOnly, true
	default:
		return Stopped, s == "stopped"
	}
}

// passes reports whether a call may pass the brake.
func (b Brake) passes(writes bool) bool { return b == Normal || b == ReadOnly && !writes }

// Scope is what a brake acts on: one key, one upstream, or, with neither, everything. At most one is set.
type Scope struct {
	Key      policy.KeyID
	Upstream policy.UpstreamID
}

// All is the scope of everything.
var All = Scope{}

// String returns all, or the id of the key or upstream.
func (s Scope) String() string {
	switch {
	case s.Key != "":
		return string(s.Key)
	case s.Upstream != "":
		return string(s.Upstream)
	default:
		return "all"
	}
}

// BrakeState is one brake as it stands. Name is the key's or upstream's.
type BrakeState struct {
	Scope Scope
	Name  string
	Brake Brake
}
