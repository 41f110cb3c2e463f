package vault

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/keybrake/keybrake/internal/policy"
)

// The master key's file is one line of text: this prefix, 64 hex digits (32 random bytes), a newline.
const masterPrefix = "keybrake-master-v1:"

// masterSize is the number of random bytes, the strength of every key derived from them.
const masterSize = 32

// maxMasterFile bounds what is read: a path that points to something else by mistake is refused early.
const maxMasterFile = 1024

// Errors of LoadOrCreateMaster that an operator has to act on; the wrapped text says how.
var (
	ErrMasterExposed   = errors.New("master key file is open to others")
	ErrMasterMalformed = errors.New("master key file is malformed")
)

// Master holds the keys derived from the master key. The master key itself is not kept. Safe for
// concurrent use.
//
// Derivation: HKDF-SHA256(master, no salt, info = "keybrake/v1/" + purpose), 32 bytes each. A purpose is
// never reused for another use.
type Master struct {
	kek         []byte
	check       []byte
	idempotency []byte
	signing     ed25519.PrivateKey
	hashers     sync.Pool // of *hasher
}

// LoadOrCreateMaster reads the master key from a file, or, if there is none, makes one and reports
// created. A file that its group or anybody else may read or write is refused with ErrMasterExposed, one
// that is not in the format with ErrMasterMalformed. A new file is durable when this returns.
func LoadOrCreateMaster(path string) (m *Master, created bool, err error) {
	m, err = loadMaster(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return m, false, err
	}
	seed := make([]byte, masterSize)
	_, _ = rand.Read(seed) // never fails: the runtime ends the process instead
	if err := writeMaster(path, seed); err != nil {
		if errors.Is(err, fs.ErrExist) { // another process was first: its key is the one
			m, err = loadMaster(path)
			return m, false, err
		}
		return nil, false, fmt.Errorf("create master key file %s: %w", path, err)
	}
	m, err = newMaster(seed)
	return m, err == nil, err
}

// EphemeralMaster returns a master key that lives as long as the process, for stores that do too.
func EphemeralMaster() (*Master, error) {
	seed := make([]byte, masterSize)
	_, _ = rand.Read(seed)
	return newMaster(seed)
}

func loadMaster(path string) (*Master, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open master key file: %w", err)
	}
	defer func() { _ = f.Close() }()
	// Stat the open file, not the path: what is checked is what is read.
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at master key file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is not a regular file", ErrMasterMalformed, path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s has mode %04o; run chmod 600 on it, and if others may have read it, treat the store's secrets as known",
			ErrMasterExposed, path, info.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, maxMasterFile))
	if err != nil {
		return nil, fmt.Errorf("read master key file %s: %w", path, err)
	}
	seed, ok := parseMaster(string(text))
	if !ok { // the text itself stays out of the error
		return nil, fmt.Errorf("%w: %s must hold one line, %q and %d hex digits; restore it from its backup (only if the store is new as well, delete it and start again)",
			ErrMasterMalformed, path, masterPrefix, 2*masterSize)
	}
	return newMaster(seed)
}

func parseMaster(text string) ([]byte, bool) {
	digits, ok := strings.CutPrefix(strings.TrimRight(text, "\r\n"), masterPrefix)
	if !ok {
		return nil, false
	}
	seed, err := hex.DecodeString(digits)
	return seed, err == nil && len(seed) == masterSize
}

// writeMaster makes the file whole or not at all, also when the machine stops in the middle: half a key must not be
// taken for a key, nor stand in the way of the next start. A file that is there already is fs.ErrExist.
func writeMaster(path string, seed []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".tmp-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.WriteString(masterPrefix + hex.EncodeToString(seed) + "\n")
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Link(f.Name(), path) // unlike a rename it takes nobody's place
	}
	if err = errors.Join(err, os.Remove(f.Name())); err != nil {
		return err
	}
	// Without this the name may be gone after a power cut, and with it every sealed secret.
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func newMaster(seed []byte) (*Master, error) {
	sub := make(map[string][]byte, 5)
	for _, purpose := range []string{"pepper", "kek", "check", "idempotency", "audit-signing"} {
		key, err := hkdf.Key(sha256.New, seed, nil, "keybrake/v1/"+purpose, 32)
		if err != nil {
			return nil, fmt.Errorf("derive the %s key: %w", purpose, err)
		}
		sub[purpose] = key
	}
	pepper := sub["pepper"]
	return &Master{
		kek:         sub["kek"],
		check:       sub["check"],
		idempotency: sub["idempotency"],
		signing:     ed25519.NewKeyFromSeed(sub["audit-signing"]),
		hashers:     sync.Pool{New: func() any { return &hasher{hmac: hmac.New(sha256.New, pepper)} }},
	}, nil
}

// CheckValue returns a constant of this master key that reveals nothing of it. A store keeps it beside
// its data and compares at start: another value means another master key, under which no key would be
// known and no secret would open.
func (m *Master) CheckValue() string {
	mac := hmac.New(sha256.New, m.check)
	mac.Write([]byte("keybrake master key check"))
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

// hasher is an HMAC-SHA256 under the pepper with room for its input and output, so that authenticating a
// call allocates nothing for it.
type hasher struct {
	hmac hash.Hash
	in   []byte
	out  []byte
}

// digest is the keyed hash of a presented text. Vault keys and operators' tokens differ in their prefix,
// so one pepper serves both.
func (m *Master) digest(text string) Digest {
	h := m.hashers.Get().(*hasher)
	h.hmac.Reset()
	h.in = append(h.in[:0], text...)
	_, _ = h.hmac.Write(h.in)
	h.out = h.hmac.Sum(h.out[:0])
	d := Digest(h.out)
	clear(h.in) // the pool must not keep credentials
	m.hashers.Put(h)
	return d
}

// Sign signs a message with the audit's Ed25519 key. The caller's message must begin with a line that
// says what it is, so that a signature for one purpose cannot serve another.
func (m *Master) Sign(message []byte) []byte { return ed25519.Sign(m.signing, message) }

// PublicKey returns the 32 bytes of the audit's public key.
func (m *Master) PublicKey() []byte {
	return append([]byte(nil), m.signing.Public().(ed25519.PublicKey)...)
}

// UpstreamIdempotencyKey returns the idempotency key that Stripe gets for an agent's own: 67 characters,
// a function of the key id (not of its text, so it survives rotation), the account and the agent's key.
// Two principals that send the same idempotency key must not meet at Stripe.
func (m *Master) UpstreamIdempotencyKey(key policy.KeyID, account policy.AccountID, agentKey string) string {
	mac := hmac.New(sha256.New, m.idempotency)
	for _, part := range []string{string(key), string(account), agentKey} {
		var n [8]byte // lengths keep "a","bc" and "ab","c" apart
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		mac.Write(n[:])
		_, _ = io.WriteString(mac, part)
	}
	return upstreamKeyPrefix + hex.EncodeToString(mac.Sum(nil))
}

// upstreamKeyPrefix begins every idempotency key that the vendor gets from Keybrake.
const upstreamKeyPrefix = "kb-"

// IsUpstreamIdempotencyKey reports whether a text has the form of an UpstreamIdempotencyKey, of this or of another
// master key: nobody else writes them so.
func IsUpstreamIdempotencyKey(s string) bool {
	digits, ok := strings.CutPrefix(s, upstreamKeyPrefix)
	raw, err := hex.DecodeString(digits)
	return ok && err == nil && len(raw) == sha256.Size
}
