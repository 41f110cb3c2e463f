package audit

import (
	"crypto/ed25519"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// timeFormat writes times in records: RFC 3339 in UTC, always six decimals, so that they sort as text.
const timeFormat = "2006-01-02T15:04:05.000000Z"

// Signer signs heads; package vault supplies it.
type Signer interface {
	// Sign returns an Ed25519 signature over the message.
	Sign(message []byte) []byte
	// PublicKey returns the 32 bytes that verify it.
	PublicKey() []byte
}

// Head is a signed statement: at this time the chain ended with this record. Whoever holds one can tell
// later that nothing up to it was changed.
type Head struct {
	Chain     string    `json:"chain"`
	Seq       int64     `json:"seq"`
	Hash      []byte    `json:"hash"`
	At        time.Time `json:"at"`
	PublicKey []byte    `json:"public_key"`
	Signature []byte    `json:"signature"`
}

// SignHead signs the end of a chain as of a time, which is cut to microseconds in UTC.
func SignHead(c Chain, at time.Time, signer Signer) Head {
	h := Head{
		Chain: c.Name, Seq: c.Seq, Hash: append([]byte(nil), c.Hash[:]...),
		At: at.UTC().Truncate(time.Microsecond), PublicKey: signer.PublicKey(),
	}
	h.Signature = signer.Sign(h.message())
	return h
}

// VerifyHead reports whether the head's signature holds under the head's own public key. Whether that key
// is one to trust is for the caller to say.
func VerifyHead(h Head) bool { return verified(h.PublicKey, h.message(), h.Signature) }

// How long signed heads are kept apart. To prove a chain one signature is needed, the newest: it is over a hash
// that every record before it went into. An older one tells more narrowly up to where a chain that was written
// anew is still as it was signed, and when; that need not be known to the second for ever.
const (
	everyHeadFor   = time.Hour
	hourlyHeadsFor = 30 * 24 * time.Hour
)

// Superseded reports whether the head signed at the time `at` may go because a later one, signed at `next`, is
// kept: of the last hour every head stays, of the last thirty days the last one of each hour, before that the
// last one of each day, in UTC.
func Superseded(at, next, now time.Time) bool {
	span := 24 * time.Hour
	switch age := now.Sub(at); {
	case age < everyHeadFor:
		return false
	case age < hourlyHeadsFor:
		span = time.Hour
	}
	return at.UTC().Truncate(span).Equal(next.UTC().Truncate(span))
}

// message is what a head's signature is over. The name of a chain has no line break, so lines cannot shift.
func (h *Head) message() []byte {
	return fmt.Appendf(nil, "keybrake-audit-head-v1\n%s\n%d\n%x\n%s\n", h.Chain, h.Seq, h.Hash, h.At.UTC().Format(timeFormat))
}

func verified(publicKey, message, signature []byte) bool {
	return len(publicKey) == ed25519.PublicKeySize && ed25519.Verify(publicKey, message, signature)
}

// MaxChainName is the length of a chain's name.
const MaxChainName = 32

// CheckChainName returns an error unless the name is 1 to MaxChainName lower-case letters, digits and
// dashes: it is part of record ids and of what is signed.
func CheckChainName(name string) error {
	if name == "" || len(name) > MaxChainName {
		return fmt.Errorf("chain name %q: want 1 to %d characters", name, MaxChainName)
	}
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return fmt.Errorf("chain name %q: lower-case letters, digits and dashes only", name)
		}
	}
	return nil
}

// ParseID reads what ID wrote; sequences begin at 1.
func ParseID(id string) (chain string, seq int64, err error) {
	rest, ok := strings.CutPrefix(id, "aud_")
	chain, digits, cut := strings.Cut(rest, "_")
	if !ok || !cut || CheckChainName(chain) != nil {
		return "", 0, fmt.Errorf("record id %q: want aud_<chain>_<number>", id)
	}
	seq, err = strconv.ParseInt(digits, 10, 64)
	if err != nil || seq < 1 || strconv.FormatInt(seq, 10) != digits {
		return "", 0, fmt.Errorf("record id %q: the last part must be a number from 1", id)
	}
	return chain, seq, nil
}
