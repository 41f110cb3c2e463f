package vault

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
)

// redacted is what every printer shows in place of a secret.
const redacted = "[secret]"

// Secret is a text that must not be shown: a vault key, an upstream secret, an operator's token. It
// prints as "[secret]" through fmt, slog and JSON. The zero Secret is empty. Safe for concurrent use.
type Secret struct {
	// The text sits behind a function: fmt cannot call methods on a Secret in another struct's
	// unexported field and would print a plain string field from there by reflection.
	text func() string
}

// NewSecret wraps a text.
func NewSecret(text string) Secret { return Secret{text: func() string { return text }} }

// Reveal returns the text itself. Whoever calls it is responsible for where the text goes: to the one
// answer that shows a new key, or into a sealed record. Never into a log, an error or an audit record.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return s.text()
}

// IsZero reports whether the secret is empty.
func (s Secret) IsZero() bool { return s.Reveal() == "" }

// String returns "[secret]".
func (Secret) String() string { return redacted }

// Format prints "[secret]" whatever the verb, so that %x and %#v reveal nothing either.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue keeps slog from looking inside.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON writes "[secret]".
func (Secret) MarshalJSON() ([]byte, error) { return json.Marshal(redacted) }

// MarshalText writes [secret]; it covers map keys and encoders other than JSON.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

var (
	_ fmt.Formatter  = Secret{}
	_ slog.LogValuer = Secret{}
	_ json.Marshaler = Secret{}
)
