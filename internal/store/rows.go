package store

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/vault"
)

// keyDoc is what a key's row keeps beside its columns. Digests are keyed hashes; nothing here opens
// anything.
type keyDoc struct {
	Mode        string                     `json:"mode"`
	Probe       bool                       `json:"probe,omitempty"`
	Created     time.Time                  `json:"created"`
	Expires     time.Time                  `json:"expires,omitzero"`
	Revoked     time.Time                  `json:"revoked,omitzero"`
	Credentials []credentialDoc            `json:"credentials"`
	Joined      []policy.CustomerID        `json:"joined,omitempty"`
	Frozen      map[policy.Resource]string `json:"frozen,omitempty"`
	Verified    *vault.Verified            `json:"verified,omitempty"`
}

type credentialDoc struct {
	Digest  []byte    `json:"digest"`
	Last4   string    `json:"last4"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
}

// EncodeKey makes the row of a key. yaml is the canonical form of its policy, digest the policy's digest.
func EncodeKey(k *vault.Key, yaml []byte, digest string) (KeyRow, error) {
	d := keyDoc{
		Mode: k.Mode.String(), Probe: k.Probe, Created: k.Created, Expires: k.Expires, Revoked: k.Revoked,
		Joined: k.Joined, Frozen: k.Frozen, Verified: k.Verified,
	}
	for _, c := range k.Credentials {
		d.Credentials = append(d.Credentials, credentialDoc{
			Digest: c.Digest[:], Last4: string(c.Last4[:]), Created: c.Created, Expires: c.Expires,
		})
	}
	doc, err := json.Marshal(d)
	if err != nil {
		return KeyRow{}, fmt.Errorf("encode key %s: %w", k.ID, err)
	}
	return KeyRow{
		ID: k.ID, Name: k.Name, Upstream: k.Upstream, Live: k.Revoked.IsZero(),
		Digest: digest, Policy: yaml, Doc: doc,
	}, nil
}

// DecodeKey reads a row; p is the row's policy, parsed by the caller, who may share it between keys.
func DecodeKey(row KeyRow, p *policy.Policy) (*vault.Key, error) {
	var d keyDoc
	if err := json.Unmarshal(row.Doc, &d); err != nil {
		return nil, fmt.Errorf("decode key %s: %w", row.ID, err)
	}
	mode, ok := vault.ParseMode(d.Mode)
	if !ok {
		return nil, fmt.Errorf("decode key %s: mode %q", row.ID, d.Mode)
	}
	k := &vault.Key{
		ID: row.ID, Name: row.Name, Upstream: row.Upstream, Version: row.Version, Mode: mode, Probe: d.Probe,
		Policy: p, PolicyDigest: row.Digest, Created: d.Created, Expires: d.Expires, Revoked: d.Revoked,
		Joined: d.Joined, Frozen: d.Frozen, Verified: d.Verified,
	}
	for _, c := range d.Credentials {
		credential := vault.Credential{Created: c.Created, Expires: c.Expires}
		if len(c.Digest) != len(credential.Digest) || len(c.Last4) != len(credential.Last4) {
			return nil, fmt.Errorf("decode key %s: a credential is damaged", row.ID)
		}
		copy(credential.Digest[:], c.Digest)
		copy(credential.Last4[:], c.Last4)
		k.Credentials = append(k.Credentials, credential)
	}
	return k, nil
}

// JoinCustomer adds a customer to the row's own list. It works on the encoded form because the engine
// does it inside a batch, where no policy is at hand.
func JoinCustomer(doc []byte, c policy.CustomerID) ([]byte, error) {
	var d keyDoc
	if err := json.Unmarshal(doc, &d); err != nil {
		return nil, fmt.Errorf("decode key: %w", err)
	}
	if !slices.Contains(d.Joined, c) {
		d.Joined = append(d.Joined, c)
	}
	return json.Marshal(d)
}
