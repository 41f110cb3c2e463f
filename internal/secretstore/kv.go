package secretstore

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/program"
	"github.com/keybrake/keybrake/internal/vault"
)

// maxKVAnswer bounds what is read of one answer.
const maxKVAnswer = 1 << 20

// kv is a KV engine, version 2, of a HashiCorp Vault or an OpenBao: each label is a secret with one field. A write names the
// version that it replaces (check-and-set), so that it never runs over another one that came in between.
type kv struct {
	place  *Place
	base   *url.URL
	mount  []string
	field  string
	client *http.Client
}

func newKV(p *Place) (store, error) {
	base, err := url.Parse(p.Address)
	if err != nil || base.Host == "" || base.User != nil || base.RawQuery != "" || (base.Scheme != "https" && base.Scheme != "http") {
		return nil, fmt.Errorf("address %q: write it like https://bao.example.com:8200", p.Address)
	}
	if base.Scheme == "http" && !loopback(base.Hostname()) {
		return nil, fmt.Errorf("address %q would send the secret without TLS", p.Address)
	}
	if (p.TokenFile == "") == (p.TokenEnv == "") {
		return nil, errors.New("give one of `token_file` and `token_env`")
	}
	k := &kv{place: p, base: base, field: p.Field, mount: segments(p.Mount)}
	if p.Mount == "" {
		k.mount = []string{"secret"}
	}
	if k.field == "" {
		k.field = "key"
	}
	if k.mount == nil {
		return nil, fmt.Errorf("mount %q: write the engine's path, like secret", p.Mount)
	}
	if segments(p.Path) == nil {
		return nil, fmt.Errorf("path %q: write the path within the mount, like keybrake/{label}", p.Path)
	}
	if k.client, err = newKVClient(p.CAFile); err != nil {
		return nil, err
	}
	return k, nil
}

// newKVClient makes a client that goes nowhere but where it is sent: no proxy of the environment, no redirect.
func newKVClient(caFile string) (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("read `ca_file`: %w", err)
		}
		if config.RootCAs = x509.NewCertPool(); !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("`ca_file` %s has no certificate in it", caFile)
		}
	}
	return &http.Client{
		Transport:     &http.Transport{Proxy: nil, TLSClientConfig: config, TLSHandshakeTimeout: 10 * time.Second, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// segments are the parts of a path; nil if there is an empty one, or one that leads elsewhere.
func segments(path string) []string {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	if slices.ContainsFunc(parts, func(s string) bool { return s == "" || s == "." || s == ".." }) {
		return nil
	}
	return parts
}

func (k *kv) ready(ctx context.Context, label string) error {
	_, err := k.version(ctx, label)
	return err
}

func (k *kv) put(ctx context.Context, label string, secret vault.Secret, _ bool) error {
	version, err := k.version(ctx, label)
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]any{
		"options": map[string]int64{"cas": version}, "data": map[string]string{k.field: secret.Reveal()},
	})
	if err != nil {
		return fmt.Errorf("encode the secret: %w", err)
	}
	return k.ask(ctx, http.MethodPost, "data", label, body, nil)
}

// version is that of the secret which lies under a label now; 0: none does.
func (k *kv) version(ctx context.Context, label string) (int64, error) {
	var answer struct {
		Data struct {
			Current int64 `json:"current_version"`
		} `json:"data"`
	}
	var refused *kvError
	err := k.ask(ctx, http.MethodGet, "metadata", label, nil, &answer)
	if errors.As(err, &refused) && refused.status == http.StatusNotFound && len(refused.says) == 0 {
		return 0, nil // with words it is the mount that is not there
	}
	return answer.Data.Current, err
}

func (k *kv) get(ctx context.Context, label string) (vault.Secret, error) {
	var answer struct {
		Data struct {
			Data map[string]any `json:"data"`
		} `json:"data"`
	}
	if err := k.ask(ctx, http.MethodGet, "data", label, nil, &answer); err != nil {
		return vault.Secret{}, err
	}
	text, ok := answer.Data.Data[k.field].(string)
	if !ok {
		return vault.Secret{}, fmt.Errorf("the secret there has no text in its field %q", k.field)
	}
	return secretFrom(text)
}

// kvError is an answer that is no success.
type kvError struct {
	status int
	where  string
	says   []string
}

// Error says what was refused where.
func (e *kvError) Error() string {
	out := fmt.Sprintf("%s: status %d", e.where, e.status)
	if len(e.says) > 0 {
		out += ": " + strings.Join(e.says, "; ")
	}
	switch {
	case e.status == http.StatusForbidden:
		out += " (the token needs read on .../metadata/..., and create and update, or for a source read, on .../data/...)"
	case e.status >= 300 && e.status < 400:
		out += " (it sends elsewhere; name the address of the active node, or of what stands before all)"
	}
	return out
}

// ask makes one request about a label's secret; part is data or metadata. in and out may be nil.
func (k *kv) ask(ctx context.Context, method, part, label string, in []byte, out any) error {
	target, err := k.url(part, label)
	if err != nil {
		return err
	}
	token, err := k.token()
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, target.String(), bytes.NewReader(in))
	if err != nil {
		return fmt.Errorf("build the request: %w", err)
	}
	req.Header.Set("X-Vault-Token", token.Reveal())
	req.Header.Set("X-Vault-Request", "true")
	if k.place.Namespace != "" {
		req.Header.Set("X-Vault-Namespace", k.place.Namespace)
	}
	resp, err := k.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxKVAnswer))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if resp.StatusCode >= 300 {
		return refusedBy(resp.StatusCode, method+" "+target.Redacted(), body)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return errors.New("the answer is not a KV engine's; is `mount` one of version 2?")
	}
	return nil
}

func refusedBy(status int, where string, body []byte) error {
	var problem struct {
		Errors []string `json:"errors"`
	}
	if json.Unmarshal(body, &problem) != nil {
		problem.Errors = nil // not in its own words; the status says enough
	}
	for i, says := range problem.Errors {
		problem.Errors[i] = program.Quote(says)
	}
	return &kvError{status: status, where: where, says: problem.Errors}
}

func (k *kv) url(part, label string) (*url.URL, error) {
	path := segments(fill(k.place.Path, label))
	if path == nil {
		return nil, fmt.Errorf("the label %q makes no path", label)
	}
	return k.base.JoinPath(slices.Concat([]string{"v1"}, escaped(k.mount), []string{part}, escaped(path))...), nil
}

func escaped(parts []string) []string {
	out := make([]string, len(parts))
	for i, p := range parts {
		out[i] = url.PathEscape(p)
	}
	return out
}

// token reads the token when it is needed: an agent of the store may have renewed its file.
func (k *kv) token() (vault.Secret, error) {
	if k.place.TokenEnv != "" {
		token := strings.TrimSpace(os.Getenv(k.place.TokenEnv))
		if token == "" {
			return vault.Secret{}, fmt.Errorf("the environment variable %s is empty", k.place.TokenEnv)
		}
		return vault.NewSecret(token), nil
	}
	text, err := os.ReadFile(k.place.TokenFile)
	if err != nil {
		return vault.Secret{}, fmt.Errorf("read `token_file`: %w", err)
	}
	return secretFrom(string(text))
}
