package admin

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// healthWithin bounds a question about health: whoever asks has to act on the answer.
const healthWithin = 5 * time.Second

// Health asks a listener of Keybrake for its health: path is /healthz or /readyz. Nil: it says yes. No token is sent and
// nothing but the status is believed, so the certificate is not held against the name: a prober on the same machine calls
// the listener by another one. Errors wrap ErrUnreachable, or are a *Problem with what the listener says.
func Health(ctx context.Context, baseURL, path string) error {
	ctx, cancel := context.WithTimeout(ctx, healthWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(baseURL, "/")+path, nil)
	if err != nil {
		return fmt.Errorf("build the request: %w", err)
	}
	way := &http.Transport{Proxy: nil, DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}} //nolint:gosec // see above
	resp, err := way.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	says, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	if resp.StatusCode != http.StatusOK {
		return &Problem{Status: resp.StatusCode, Detail: strings.TrimSpace(string(says))}
	}
	return nil
}
