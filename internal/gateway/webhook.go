package gateway

import (
	"errors"
	"io"
	"net/http"

	"github.com/keybrake/keybrake/internal/vault"
)

// webhookPath is where a vendor sends its messages, with the upstream's name behind it. It lies on the agents' listener,
// because that is the one which can be reached from outside; no vault key opens it, and it opens nothing.
const webhookPath = "/keybrake/v1/webhooks/"

// maxMessage bounds a message of a vendor: Stripe's events are some ten kilobytes.
const maxMessage = 512 << 10

// messages bounds how many are looked at at once. The vendor sends again what was turned away.
const messages = 32

// webhook hands a vendor's message on. A message is only a hint where to look, so what is wrong with one is told by the
// status alone. Stripe sends again what was not answered with 2xx.
func (g *Gateway) webhook(w http.ResponseWriter, r *http.Request, name string) {
	if g.Webhook == nil || r.Method != http.MethodPost {
		http.Error(w, "not here", http.StatusNotFound)
		return
	}
	leave, ok := g.messages.take("")
	if !ok {
		http.Error(w, "later", http.StatusServiceUnavailable)
		return
	}
	defer leave()
	message, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessage))
	if err != nil {
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
		return
	}
	signatures := r.Header["Stripe-Signature"]
	if len(signatures) != 1 {
		http.Error(w, "not signed", http.StatusBadRequest)
		return
	}
	switch err := g.Webhook(r.Context(), name, message, signatures[0]); {
	case errors.Is(err, vault.ErrSignature):
		// The same words whether there is no such upstream, no signing secret, or another one.
		http.Error(w, "not signed", http.StatusBadRequest)
	case err != nil:
		g.Log.Warn("a vendor's message could not be followed up; it will come again", "upstream", name, "err", err)
		http.Error(w, "later", http.StatusServiceUnavailable)
	default:
		_, _ = io.WriteString(w, "ok\n") // the vendor sends it again if it does not hear this
	}
}
