package vault

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"hash/crc32"
	"math/big"
	"strings"
)

// The text of a vault key, for secret scanners:
//
//	vault_key_(test|live)_[0-9A-Za-z]{33}
//
// The last 33 are 27 base62 digits of 160 random bits and 6 of the CRC-32 (IEEE) of everything before
// them, prefix included: a mistyped key, a cut one and one whose mode was changed are told from an unknown
// one without a look-up. An operator's token has the same form behind keybrake_admin_.
const (
	prefixTest  = "vault_key_test_"
	prefixLive  = "vault_key_live_"
	prefixAdmin = "keybrake_admin_"

	randomBytes = 20 // 160 bits
	bodyDigits  = 27 // ceil(160 / log2(62))
	sumDigits   = 6  // ceil(32 / log2(62))
)

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// Digest is the keyed hash (HMAC-SHA256 under the master's pepper) under which a vault key or an
// operator's token is stored. Without the master key it tells nothing about the text.
type Digest [32]byte

// Equal compares in constant time.
func (d Digest) Equal(e Digest) bool { return subtle.ConstantTimeCompare(d[:], e[:]) == 1 }

// String returns hex digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Presented is a well-formed vault key as an agent sent it: its checksum holds, nothing else is known.
type Presented struct {
	mode Mode
	text Secret
}

// Mode returns the mode that the key's prefix names.
func (p Presented) Mode() Mode { return p.mode }

// Mint makes a new vault key. The Secret is for the one answer that shows it; the Credential, without
// times, is for the store. The mode must be Test or Live, anything else panics: it is a bug of ours.
func (m *Master) Mint(mode Mode) (Secret, Digest, [4]byte) {
	var prefix string
	switch mode {
	case Test:
		prefix = prefixTest
	case Live:
		prefix = prefixLive
	default:
		panic("mint a vault key: mode is neither test nor live")
	}
	text := mintText(prefix)
	return NewSecret(text), m.digest(text), last4(text)
}

// Digest returns the keyed hash of a presented key.
func (m *Master) Digest(p Presented) Digest { return m.digest(p.text.Reveal()) }

// ParsePresented accepts the exact form of a vault key and checks its checksum. It looks nothing up.
func ParsePresented(text string) (Presented, bool) {
	mode, ok := presentedMode(text)
	if !ok {
		return Presented{}, false
	}
	return Presented{mode: mode, text: NewSecret(text)}, true
}

func presentedMode(text string) (Mode, bool) {
	mode := Live
	if strings.HasPrefix(text, prefixTest) {
		mode = Test
	} else if !strings.HasPrefix(text, prefixLive) {
		return 0, false
	}
	if !wellFormed(text, len(prefixTest)) { // both prefixes have the same length
		return 0, false
	}
	return mode, true
}

func mintText(prefix string) string {
	var b [randomBytes]byte
	_, _ = rand.Read(b[:]) // never fails: the runtime ends the process instead
	text := prefix + encode62(new(big.Int).SetBytes(b[:]), bodyDigits)
	return text + checksum(text)
}

func checksum(text string) string {
	return encode62(big.NewInt(int64(crc32.ChecksumIEEE([]byte(text)))), sumDigits)
}

func encode62(n *big.Int, width int) string {
	out := make([]byte, width)
	base, digit := big.NewInt(62), new(big.Int)
	for i := width - 1; i >= 0; i-- {
		n.DivMod(n, base, digit)
		out[i] = base62[digit.Int64()]
	}
	return string(out)
}

// wellFormed checks length, alphabet and checksum of what follows a prefix. It allocates nothing: it is
// the first thing that happens to whatever anybody sends.
func wellFormed(text string, prefix int) bool {
	if len(text) != prefix+bodyDigits+sumDigits {
		return false
	}
	var sum uint64
	for i := prefix; i < len(text); i++ {
		digit := strings.IndexByte(base62, text[i])
		if digit < 0 {
			return false
		}
		if i >= prefix+bodyDigits {
			sum = sum*62 + uint64(digit)
		}
	}
	var whole [len(prefixTest) + bodyDigits]byte // prefixAdmin is no longer than a key's prefix
	return sum == uint64(crc32.ChecksumIEEE(append(whole[:0], text[:prefix+bodyDigits]...)))
}

func last4(text string) [4]byte { return [4]byte([]byte(text[len(text)-4:])) }

// knownPrefixes may be shown: they say what kind of credential was sent and nothing about which.
var knownPrefixes = []string{
	prefixTest, prefixLive, prefixAdmin, prefixSession, prefixInvite, "sk_test_", "sk_live_", "rk_test_", "rk_live_", "pk_test_", "pk_live_",
}

// Mask returns what may be shown of a presented credential: its prefix, if it is one of the known ones,
// and its last four characters, if it is long enough for them to tell little. "vault_key_live_…wxyz".
func Mask(text string) string {
	const enough = 24
	masked := "…"
	for _, p := range knownPrefixes {
		if strings.HasPrefix(text, p) {
			masked = p + masked
			break
		}
	}
	if len(text) < enough {
		return masked
	}
	tail := text[len(text)-4:]
	for i := range len(tail) {
		if strings.IndexByte(base62, tail[i]) < 0 {
			return masked
		}
	}
	return masked + tail
}
