package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
)

// Binding says where a sealed secret belongs. It is authenticated with the secret: sealed bytes that were
// moved to another row, field or version do not open.
type Binding struct {
	Table   string
	ID      string
	Field   string
	Version int64 // grows with each replacement, so that an older secret cannot be put back
}

// Sealed bytes are, in this order:
//
//	1 byte   format, sealFormat
//	60 bytes the record's own key, AES-256-GCM under the master's key encryption key (12 nonce, 32, 16 tag)
//	n bytes  the secret, AES-256-GCM under the record's own key (12 nonce, text, 16 tag)
//
// Both layers authenticate the binding. Each record has its own key so that a change of the master key
// rewraps keys and never touches secrets, and so that no key comes near GCM's bound on random nonces.
const (
	sealFormat = 1
	dekSize    = 32
	wrapSize   = 12 + dekSize + 16
)

// ErrSealed says that sealed bytes do not open: another master key, another place, or changed bytes. No
// more is known, on purpose.
var ErrSealed = errors.New("sealed secret does not open here")

// Seal encrypts a secret for one place.
func (m *Master) Seal(at Binding, plain Secret) ([]byte, error) {
	dek := make([]byte, dekSize)
	_, _ = rand.Read(dek) // never fails: the runtime ends the process instead
	wrap, err := gcm(m.kek)
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", at.ID, err)
	}
	inner, err := gcm(dek)
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", at.ID, err)
	}
	aad := at.aad()
	out := append(make([]byte, 0, 1+wrapSize+len(plain.Reveal())+28), sealFormat)
	out = wrap.Seal(out, nil, dek, append(aad, 'k'))
	return inner.Seal(out, nil, []byte(plain.Reveal()), append(aad, 's')), nil
}

// Open decrypts what Seal made for the same place; otherwise it returns ErrSealed.
func (m *Master) Open(at Binding, sealed []byte) (Secret, error) {
	if len(sealed) < 1+wrapSize || sealed[0] != sealFormat {
		return Secret{}, fmt.Errorf("open %s %s: %w", at.Table, at.ID, ErrSealed)
	}
	wrap, err := gcm(m.kek)
	if err != nil {
		return Secret{}, fmt.Errorf("open %s %s: %w", at.Table, at.ID, err)
	}
	aad := at.aad()
	dek, err := wrap.Open(nil, nil, sealed[1:1+wrapSize], append(aad, 'k'))
	if err != nil {
		return Secret{}, fmt.Errorf("open %s %s: %w", at.Table, at.ID, ErrSealed)
	}
	inner, err := gcm(dek)
	if err != nil {
		return Secret{}, fmt.Errorf("open %s %s: %w", at.Table, at.ID, err)
	}
	plain, err := inner.Open(nil, nil, sealed[1+wrapSize:], append(aad, 's'))
	if err != nil {
		return Secret{}, fmt.Errorf("open %s %s: %w", at.Table, at.ID, ErrSealed)
	}
	return NewSecret(string(plain)), nil
}

func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// aad writes the binding with the length of every part before it, so that no two bindings read alike.
func (b Binding) aad() []byte {
	out := []byte("keybrake-seal-v1")
	for _, part := range []string{b.Table, b.ID, b.Field} {
		out = binary.BigEndian.AppendUint64(out, uint64(len(part)))
		out = append(out, part...)
	}
	return binary.BigEndian.AppendUint64(out, uint64(b.Version))
}
