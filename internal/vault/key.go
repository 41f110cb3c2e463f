package vault

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
)

// Mode says which of Stripe's worlds a credential belongs to. The zero value is neither and matches
// nothing.
type Mode uint8

// The modes.
const (
	Test Mode = iota + 1
	Live
)

// String returns test, live or invalid.
func (m Mode) String() string {
	switch m {
	case Test:
		return "test"
	case Live:
		return "live"
	default:
		return "invalid"
	}
}

// ParseMode reads what String writes, except "invalid".
func ParseMode(s string) (Mode, bool) {
	switch s {
	case "test":
		return Test, true
	case "live":
		return Live, true
	default:
		return 0, false
	}
}

// Key is one principal's vault key as the Ring holds it. A Key is immutable: a change is a new value put
// in its place, so nobody may write to one that a Ring returned, nor to what it points to.
type Key struct {
	ID       policy.KeyID
	Name     string // unique among keys that are not revoked
	Upstream policy.UpstreamID
	Version  int64 // of the stored row; an admission with an older one is stale
	Mode     Mode
	Probe    bool // a twin made by `keybrake verify`; its calls are no agent's
	// Brake as it was when this value was made; Ring.BrakeOf tells the present one.
	Brake Brake
	// Policy as it was written; Effective is what decides.
	Policy *policy.Policy
	// PolicyDigest names the policy's content: keys with equal digests share one Policy in memory. Empty
	// means do not share.
	PolicyDigest string
	Created      time.Time
	Expires      time.Time // zero = never
	Revoked      time.Time // zero = not
	// Credentials that open this key: one, or after a rotation the old ones too, with their end.
	Credentials []Credential
	// Frozen resources with the reason in one sentence; policy.AllResources freezes all money. Nil = none.
	Frozen map[policy.Resource]string
	// Verified is the last time that `keybrake verify` found the key as its policy has it; nil = never.
	Verified *Verified
	// Joined customers were created under may_create_customers and count as listed.
	Joined []policy.CustomerID

	effective *policy.Policy
	state     *keyState
}

// Verified says that a key's scopes were tried, operation by operation, and held.
type Verified struct {
	// Policy is the digest of the policy that was tried, its customers left out: they differ from mode to mode.
	Policy string
	At     time.Time
	Denied int // calls outside the scopes that were refused
}

// keyState is what all successive values of one key share: the parts that a call on its way must see at
// once, without a look-up.
type keyState struct {
	brake   atomic.Uint32 // a Brake; only Ring writes
	flights atomic.Int64
	key     atomic.Pointer[Key] // the present value
}

// Credential is one secret text that opens a key, as a keyed hash.
type Credential struct {
	Digest  Digest
	Last4   [4]byte // of the text, for people
	Created time.Time
	Expires time.Time // zero = with the key; set on the old one when a key is rotated
}

// Effective returns the policy that decides: Policy with the joined customers in its list.
func (k *Key) Effective() *policy.Policy {
	if k.effective != nil {
		return k.effective
	}
	return effective(k.Policy, k.Joined)
}

func effective(p *policy.Policy, joined []policy.CustomerID) *policy.Policy {
	if p == nil || len(joined) == 0 || p.Customers.Any {
		return p
	}
	merged := *p
	merged.Customers = p.Customers.With(joined...)
	return &merged
}

// FrozenFor returns why the key's money on a resource is frozen, or false.
func (k *Key) FrozenFor(r policy.Resource) (reason string, frozen bool) {
	if reason, frozen = k.Frozen[policy.AllResources]; frozen {
		return reason, true
	}
	reason, frozen = k.Frozen[r]
	return reason, frozen
}

// Live reports whether the key is neither revoked nor expired at a time.
func (k *Key) Live(now time.Time) bool {
	return k.Revoked.IsZero() && (k.Expires.IsZero() || now.Before(k.Expires))
}

// Rotated is when the key's newest text was made: its last rotation, or its creation.
func (k *Key) Rotated() time.Time {
	at := k.Created
	for _, c := range k.Credentials {
		if c.Created.After(at) {
			at = c.Created
		}
	}
	return at
}

// WorkingTexts are the key's credentials that have not ended at a time, the newest last; a copy.
func (k *Key) WorkingTexts(now time.Time) []Credential {
	var out []Credential
	for _, c := range k.Credentials {
		if c.Expires.IsZero() || now.Before(c.Expires) {
			out = append(out, c)
		}
	}
	slices.SortStableFunc(out, func(a, b Credential) int { return a.Created.Compare(b.Created) })
	return out
}

// RotateBy is when the key's next text is due, by its policy's rotate_every; zero: never, or it was revoked.
func (k *Key) RotateBy() time.Time {
	if k.Policy == nil || k.Policy.RotateEvery <= 0 || !k.Revoked.IsZero() {
		return time.Time{}
	}
	return k.Rotated().Add(k.Policy.RotateEvery)
}

// idDigits are lower case, without look-alikes in either case.
var idDigits = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewID returns a fresh id: a prefix and 16 base32 digits (80 random bits).
func NewID(prefix string) string {
	var b [10]byte
	_, _ = rand.Read(b[:]) // never fails: the runtime ends the process instead
	return prefix + idDigits.EncodeToString(b[:])
}

// NewKeyID returns a fresh id, which begins with "key_".
func NewKeyID() policy.KeyID { return policy.KeyID(NewID("key_")) }

// NewUpstreamID returns a fresh id: "up_" and 16 base32 digits.
func NewUpstreamID() policy.UpstreamID { return policy.UpstreamID(NewID("up_")) }

// MaxName is the length of a key's or an upstream's name in bytes. Names are in every record and alert.
const MaxName = 100

// CheckName says what is wrong with the name of a key or an upstream, for people, or returns nil.
// Letters, digits and . _ : @ / - only: a name is printed in terminals, file names and spreadsheets. A
// name may not look like an id, because commands take either.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("a name is needed")
	case len(name) > MaxName:
		return fmt.Errorf("the name has %d characters, the limit is %d", len(name), MaxName)
	case strings.HasPrefix(name, "key_"), strings.HasPrefix(name, "up_"):
		return fmt.Errorf("the name %q looks like an id: names may not begin with key_ or up_", name)
	}
	for i := range len(name) {
		c := name[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || !strings.ContainsRune("._:@/-", rune(c))) {
			return fmt.Errorf("the name %q has %q in it: write letters, digits and . _ : @ / -, a letter or digit first", name, rune(c))
		}
	}
	return nil
}
