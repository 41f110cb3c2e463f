package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// timeWithin bounds a question about the time.
const timeWithin = 5 * time.Second

// ServerTime asks a server, a vendor's for one, what time it has: the Date of its answer, whatever else it answers, in whole
// seconds; and how long the answer took. Its certificate is checked.
func ServerTime(ctx context.Context, baseURL string) (there time.Time, took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(baseURL, "/")+"/", nil)
	if err != nil {
		return there, 0, fmt.Errorf("build the request: %w", err)
	}
	before := time.Now()
	resp, err := (&http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return there, 0, err
	}
	defer resp.Body.Close() //nolint:errcheck // only its header is read
	if there, err = http.ParseTime(resp.Header.Get("Date")); err != nil {
		return there, 0, errors.New("its answer has no time")
	}
	return there, time.Since(before), nil
}
