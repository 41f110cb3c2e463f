package vault

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
)

// Upstream is one credential at one vendor account, with the only host that may see it. Like Key it is
// immutable; a change is a new value.
type Upstream struct {
	ID   policy.UpstreamID
	Name string
	Mode Mode
	// BaseURL pins scheme and host. No path but "/", no user, no query.
	BaseURL *url.URL
	// Version is the Stripe version that is sent where the agent names none.
	Version string
	// Brake as it was when this value was made; Ring.BrakeOf tells the present one.
	Brake Brake
	// Sealed is the secret, sealed for UpstreamBinding(ID, SecretVersion).
	Sealed        []byte
	SecretVersion int64
	SecretPrefix  string // "rk_test_": the kind, for people
	SecretLast4   string
	Created       time.Time
	// SecretSince is when the secret took the place of the one before; zero: it is the first.
	SecretSince time.Time
	// RotateEvery is after how long the secret is due for another; 0: nobody is reminded.
	RotateEvery time.Duration
	// Account is the vendor's id of the account that the secret belongs to; empty: not known.
	Account string
	// Staged waits to take the secret's place; nil: nothing does. StagedVersion is the version of the last one that did.
	Staged        *Staged
	StagedVersion int64
	// SealedWebhook is the secret that the vendor signs its messages with, sealed; nil: it sends none.
	SealedWebhook  []byte
	WebhookVersion int64

	secret  Secret
	webhook Secret
	beside  []*url.URL // further hosts of the vendor, pinned like BaseURL
}

// UpstreamBinding is the place for which an upstream's secret is sealed.
func UpstreamBinding(id policy.UpstreamID, version int64) Binding {
	return Binding{Table: "upstreams", ID: string(id), Field: "secret", Version: version}
}

// SealInto returns the upstream with a new secret: sealed, its version one higher, with the prefix and the
// last four for people, ready for the store and the Ring. This is how secrets come in and how they rotate.
func (u Upstream) SealInto(m *Master, secret Secret) (Upstream, error) {
	text := secret.Reveal()
	if text == "" || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return Upstream{}, fmt.Errorf("seal the secret of upstream %s: %w", u.Name, ErrSecretMalformed)
	}
	u.SecretVersion++
	sealed, err := m.Seal(UpstreamBinding(u.ID, u.SecretVersion), secret)
	if err != nil {
		return Upstream{}, err
	}
	u.Sealed, u.SecretPrefix, u.SecretLast4, u.secret = sealed, "", "", secret
	shown, tail, _ := strings.Cut(Mask(text), "…")
	u.SecretPrefix, u.SecretLast4 = shown, tail
	return u, nil
}

// ErrSecretMalformed says that an upstream secret has characters that no header may carry, or none.
var ErrSecretMalformed = errors.New("the secret must be printable characters without spaces")

// SecretKind tells what a Stripe secret's prefix says: its mode, and whether it is restricted. ok is false
// for anything that is not a secret of the API.
func SecretKind(secret Secret) (mode Mode, restricted, ok bool) {
	text := secret.Reveal()
	switch {
	case strings.HasPrefix(text, "rk_test_"):
		return Test, true, true
	case strings.HasPrefix(text, "rk_live_"):
		return Live, true, true
	case strings.HasPrefix(text, "sk_test_"):
		return Test, false, true
	case strings.HasPrefix(text, "sk_live_"):
		return Live, false, true
	default:
		return 0, false, false
	}
}

// ErrNotPinned says that a request was about to carry a secret to a host that is not the upstream's.
var ErrNotPinned = errors.New("the request does not go to the upstream's pinned host")

// pinned reports whether a request goes to the base URL's scheme and host, or to one that was pinned beside it.
func (u *Upstream) pinned(req *http.Request) bool {
	to := req.URL
	if u.BaseURL == nil || to == nil || to.Host == "" || to.User != nil || to.Opaque != "" || req.Host != "" && req.Host != to.Host {
		return false
	}
	same := func(base *url.URL) bool { return to.Scheme == base.Scheme && to.Host == base.Host }
	return same(u.BaseURL) || slices.ContainsFunc(u.beside, same)
}

// Attach puts the upstream's secret on a request that goes to a pinned scheme and host, and refuses any other
// with ErrNotPinned. It replaces whatever credential the request carried. The upstream must come
// from a Ring: only there secrets are open.
func (u *Upstream) Attach(req *http.Request) error {
	if u.secret.IsZero() {
		return fmt.Errorf("attach the secret of upstream %s: its secret is not open", u.Name)
	}
	if !u.pinned(req) {
		return fmt.Errorf("attach the secret of upstream %s: %w", u.Name, ErrNotPinned)
	}
	if req.Header == nil {
		req.Header = make(http.Header, 1)
	}
	for name := range req.Header { // in any spelling: net/http sends map keys as they are
		if strings.EqualFold(name, "Authorization") || strings.EqualFold(name, "Proxy-Authorization") {
			delete(req.Header, name)
		}
	}
	req.Header["Authorization"] = []string{"Bearer " + u.secret.Reveal()}
	return nil
}

// CheckBaseURL says what is wrong with a base URL, for people, or returns nil. A pinned host has a scheme
// and a host and nothing that could send a request elsewhere.
func CheckBaseURL(u *url.URL) error {
	switch {
	case u == nil:
		return errors.New("a base URL is needed")
	case u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("the base URL %q must begin with https://", u.Redacted())
	case u.Host == "" || u.Opaque != "":
		return fmt.Errorf("the base URL %q has no host", u.Redacted())
	case u.User != nil:
		return errors.New("the base URL must not carry a user or password")
	case u.Path != "" && u.Path != "/", u.RawQuery != "", u.Fragment != "":
		return fmt.Errorf("the base URL %q must be scheme and host only", u.Redacted())
	}
	return nil
}
