package vault

import "strings"

// PassKind is what a pass is for. The zero value is for nothing.
type PassKind uint8

// The kinds.
const (
	// PassSession is what a browser keeps of somebody who has signed in.
	PassSession PassKind = iota + 1
	// PassInvite is the secret in a link with which an operator signs in once.
	PassInvite
)

// The texts of passes have the form of a vault key's behind these.
const (
	prefixSession = "keybrake_sess_"
	prefixInvite  = "keybrake_link_"
)

func (k PassKind) prefix() string {
	switch k {
	case PassSession:
		return prefixSession
	case PassInvite:
		return prefixInvite
	default:
		panic("a pass of no kind") // a bug of ours
	}
}

// MintPass makes a pass. The Secret is for whoever it lets in, the Digest for the store.
func (m *Master) MintPass(kind PassKind) (Secret, Digest) {
	text := mintText(kind.prefix())
	return NewSecret(text), m.digest(text)
}

// PassDigest is under which a pass of a kind would be stored; false for what is none by its form.
func (m *Master) PassDigest(kind PassKind, text string) (Digest, bool) {
	prefix := kind.prefix()
	if !strings.HasPrefix(text, prefix) || !wellFormed(text, len(prefix)) {
		return Digest{}, false
	}
	return m.digest(text), true
}

// NewOperatorID makes the id of an operator's account: "opr_" and 16 base32 digits.
func NewOperatorID() string { return NewID("opr_") }
