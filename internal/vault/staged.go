package vault

import (
	"errors"
	"fmt"
	"time"
)

// Staged is a secret that waits to take the place of an upstream's. Nothing is sent with it but probes.
type Staged struct {
	// Sealed is the secret, sealed for UpstreamBinding(ID, Version): as it will lie when it is in its place.
	Sealed  []byte
	Version int64
	Prefix  string
	Last4   string
	At      time.Time
	By      string // the operator
}

// ErrNothingStaged says that an upstream has no secret that waits.
var ErrNothingStaged = errors.New("no secret is staged")

// Stage returns the upstream with a secret that waits to take the place of the present one, instead of any that waited
// before. The present one stays what calls are sent with.
func (u Upstream) Stage(m *Master, secret Secret, at time.Time, by string) (Upstream, error) {
	version := max(u.SecretVersion, u.StagedVersion) // never one that was used: what was abandoned cannot be put back
	sealed := u
	sealed.SecretVersion = version
	sealed, err := sealed.SealInto(m, secret)
	if err != nil {
		return Upstream{}, err
	}
	u.StagedVersion = sealed.SecretVersion
	u.Staged = &Staged{
		Sealed: sealed.Sealed, Version: sealed.SecretVersion, Prefix: sealed.SecretPrefix, Last4: sealed.SecretLast4, At: at, By: by,
	}
	return u, nil
}

// Switched returns the upstream with its staged secret in the place of the one before, which is gone from it. Its secret
// is open, so that it can be probed before it is stored.
func (u Upstream) Switched(m *Master, at time.Time) (Upstream, error) {
	if u.Staged == nil {
		return Upstream{}, fmt.Errorf("switch the secret of upstream %s: %w", u.Name, ErrNothingStaged)
	}
	secret, err := m.Open(UpstreamBinding(u.ID, u.Staged.Version), u.Staged.Sealed)
	if err != nil {
		return Upstream{}, fmt.Errorf("switch the secret of upstream %s: %w", u.Name, err)
	}
	u.Sealed, u.SecretVersion, u.SecretPrefix, u.SecretLast4 = u.Staged.Sealed, u.Staged.Version, u.Staged.Prefix, u.Staged.Last4
	u.SecretSince, u.secret, u.Staged = at, secret, nil
	return u, nil
}

// RotateBy is when the upstream's next secret is due, by its RotateEvery; zero: never.
func (u *Upstream) RotateBy() time.Time {
	if u.RotateEvery <= 0 {
		return time.Time{}
	}
	return u.Rotated().Add(u.RotateEvery)
}

// Rotated is since when the upstream has its present secret.
func (u *Upstream) Rotated() time.Time {
	if u.SecretSince.IsZero() {
		return u.Created
	}
	return u.SecretSince
}
