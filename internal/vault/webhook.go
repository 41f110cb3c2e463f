package vault

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
)

const (
	// webhookPrefix is what Stripe's signing secrets begin with.
	webhookPrefix = "whsec_"
	// webhookTolerance is how old or how early a signed message may be: Stripe's libraries allow as much.
	webhookTolerance = 5 * time.Minute
	// maxSignatures bounds how many signatures of one message are looked at: Stripe sends two while a secret rotates.
	maxSignatures = 8
)

// Errors of webhooks.
var (
	// ErrSignature says that a message was not signed with the upstream's signing secret, or not lately.
	ErrSignature = errors.New("the message's signature is not the vendor's for this upstream")
	// ErrSigningSecret says that a signing secret has not the form of one.
	ErrSigningSecret = errors.New("a signing secret begins with whsec_ and is printable characters without spaces")
)

// webhookBinding is the place for which an upstream's signing secret is sealed.
func webhookBinding(id policy.UpstreamID, version int64) Binding {
	return Binding{Table: "upstreams", ID: string(id), Field: "webhook", Version: version}
}

// SealWebhook returns the upstream with the secret that its vendor signs messages with, sealed; an empty one takes it
// away, and then no message is believed.
func (u Upstream) SealWebhook(m *Master, secret Secret) (Upstream, error) {
	text := secret.Reveal()
	u.WebhookVersion++
	if text == "" {
		u.SealedWebhook = nil
		return u, nil
	}
	if !strings.HasPrefix(text, webhookPrefix) || len(text) == len(webhookPrefix) ||
		strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return Upstream{}, ErrSigningSecret
	}
	sealed, err := m.Seal(webhookBinding(u.ID, u.WebhookVersion), secret)
	if err != nil {
		return Upstream{}, err
	}
	u.SealedWebhook = sealed
	return u, nil
}

// openWebhook opens the signing secret, if there is one.
func (u *Upstream) openWebhook(m *Master) error {
	u.webhook = Secret{}
	if len(u.SealedWebhook) == 0 {
		return nil
	}
	secret, err := m.Open(webhookBinding(u.ID, u.WebhookVersion), u.SealedWebhook)
	if err != nil {
		return fmt.Errorf("open the signing secret of upstream %s: %w", u.Name, err)
	}
	u.webhook = secret
	return nil
}

// VerifyWebhook checks the header Stripe-Signature of a message: "t=<seconds>,v1=<hex>", where v1 is the HMAC-SHA256 of
// "<seconds>.<message>". Everything that is not surely Stripe's word of these five minutes is ErrSignature.
func (u *Upstream) VerifyWebhook(message []byte, header string, now time.Time) error {
	if u.webhook.IsZero() {
		return ErrSignature
	}
	var at string
	var signatures [][]byte
	for part := range strings.SplitSeq(header, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "t":
			if at != "" {
				return ErrSignature
			}
			at = value
		case "v1":
			if raw, err := hex.DecodeString(value); err == nil && len(signatures) < maxSignatures {
				signatures = append(signatures, raw)
			}
		}
	}
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > webhookTolerance {
		return ErrSignature
	}
	mac := hmac.New(sha256.New, []byte(u.webhook.Reveal()))
	_, _ = fmt.Fprintf(mac, "%s.", at) // a hash takes everything
	_, _ = mac.Write(message)
	want := mac.Sum(nil)
	for _, s := range signatures {
		if hmac.Equal(want, s) {
			return nil
		}
	}
	return ErrSignature
}
