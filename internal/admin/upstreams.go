package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

// probeTimeout bounds all questions to a new upstream together: somebody waits at a terminal.
const probeTimeout = 20 * time.Second

// UpstreamRequest asks for a new upstream, or (with Secret alone) for another secret of one.
type UpstreamRequest struct {
	Name    string `json:"name"`
	Secret  string `json:"secret" doc:"restricted key of the vendor; its prefix tells the mode"`
	BaseURL string `json:"base_url,omitempty" doc:"scheme and host; the vendor's own by default"`
	Version string `json:"version,omitempty" doc:"API version that is sent where an agent names none"`
	// AllowUnrestricted admits an unrestricted live secret, AllowInsecure a base URL without TLS.
	AllowUnrestricted bool `json:"allow_unrestricted,omitempty"`
	AllowInsecure     bool `json:"allow_insecure_upstream,omitempty"`
}

// UpstreamView is an upstream as it may be shown.
type UpstreamView struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Mode    string    `json:"mode"`
	BaseURL string    `json:"base_url"`
	Version string    `json:"version"`
	Secret  string    `json:"secret" doc:"prefix and last four"`
	Brake   string    `json:"brake"`
	Keys    int       `json:"keys" doc:"vault keys that are not revoked"`
	Created time.Time `json:"created"`
	Webhook bool      `json:"webhook" doc:"messages that the vendor signs are taken"`
	// Missing is what Keybrake cannot read there and what will not work for it; in answers to add and rotate.
	Missing []Missing `json:"missing,omitempty"`
	// Unreachable is why the vendor could not be asked; in answers to add and rotate.
	Unreachable string   `json:"unreachable,omitempty"`
	Warnings    []string `json:"warnings,omitempty"`
}

// Missing is one thing that Keybrake needs and does not get.
type Missing struct {
	Need    string `json:"need"`
	Found   string `json:"found" doc:"what the vendor answered"`
	Without string `json:"without" doc:"what does not work"`
}

// AddUpstream adds a credential with its pinned host. The secret's prefix says which mode it is for; the
// vendor is asked whether it gives what Keybrake needs. A secret that the vendor does not know at all is
// refused; one that lacks permissions is taken, with what is missing in the answer.
func (s *Service) AddUpstream(ctx context.Context, who Actor, req UpstreamRequest) (UpstreamView, error) {
	s.changes.Lock()
	defer s.changes.Unlock()
	if err := vault.CheckName(req.Name); err != nil {
		return UpstreamView{}, refuse(Invalid, "%v", err)
	}
	if _, taken := s.Ring.FindUpstream(req.Name); taken {
		return UpstreamView{}, refuse(Conflict, "there is an upstream %s; choose another name, or give it a new secret with `keybrake upstream rotate`", req.Name)
	}
	secret := vault.NewSecret(req.Secret)
	mode, warnings, err := checkSecret(secret, req.AllowUnrestricted)
	if err != nil {
		return UpstreamView{}, err
	}
	base, err := s.baseURL(req)
	if err != nil {
		return UpstreamView{}, err
	}
	u := vault.Upstream{
		ID: vault.NewUpstreamID(), Name: req.Name, Mode: mode, BaseURL: base, Version: req.Version,
		Brake: vault.Normal, Created: s.Store.Now(),
	}
	if u.Version == "" {
		u.Version = s.Version
	}
	return s.putUpstream(ctx, who, "upstream.add", u, secret, warnings)
}

// RotateUpstream gives an upstream another secret of the same mode. Calls from now on carry the new one.
func (s *Service) RotateUpstream(ctx context.Context, who Actor, idOrName string, req UpstreamRequest) (UpstreamView, error) {
	s.changes.Lock()
	defer s.changes.Unlock()
	u, err := s.upstream(idOrName)
	if err != nil {
		return UpstreamView{}, err
	}
	secret := vault.NewSecret(req.Secret)
	mode, warnings, err := checkSecret(secret, req.AllowUnrestricted)
	if err != nil {
		return UpstreamView{}, err
	}
	if mode != u.Mode {
		return UpstreamView{}, refuse(Conflict, "the secret is for %s mode and the upstream %s is in %s mode; add another upstream for it", mode, u.Name, u.Mode)
	}
	return s.putUpstream(ctx, who, "upstream.rotate", *u, secret, warnings)
}

// UpstreamUpdate changes what an upstream is set to.
type UpstreamUpdate struct {
	Version string `json:"version" doc:"API version that is sent where an agent names none, and that agents may name"`
	Reason  string `json:"reason" doc:"why; goes into the audit"`
}

// version is how the vendor's versions are written: a date, with the name of its release train since there are some.
var version = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}(\.[a-z]+)?$`)

// UpdateUpstream sets the version that an upstream is pinned to. Agents may name that one, whether the catalog
// knows its train or not: fields may have other names in it, so it takes a reason.
func (s *Service) UpdateUpstream(ctx context.Context, who Actor, idOrName string, req UpstreamUpdate) (UpstreamView, error) {
	s.changes.Lock()
	defer s.changes.Unlock()
	present, err := s.upstream(idOrName)
	if err != nil {
		return UpstreamView{}, err
	}
	switch {
	case !version.MatchString(req.Version):
		return UpstreamView{}, refuse(Invalid, "the version %q is not one; write it like 2026-08-26.dahlia or 2024-06-20", req.Version)
	case strings.HasSuffix(req.Version, ".preview"):
		return UpstreamView{}, refuse(Invalid, "previews change without notice, so none can be pinned; write a released version")
	case strings.TrimSpace(req.Reason) == "":
		return UpstreamView{}, refuse(Invalid, "a reason is required: in another version fields may have other names than Keybrake reads")
	}
	u := *present
	u.Version = req.Version
	row, err := encodeUpstream(&u)
	if err != nil {
		return UpstreamView{}, err
	}
	err = s.act(ctx, store.LaneControl, who, "upstream.update", func(tx store.Tx, rec *audit.Record) error {
		rec.Subject, rec.Upstream, rec.Mode, rec.Reason = "upstream "+u.Name, u.ID, u.Mode.String(), req.Reason
		rec.Diff = fmt.Sprintf("version: %s -> %s", present.Version, u.Version)
		return tx.PutUpstream(row)
	})
	if err != nil {
		return UpstreamView{}, err
	}
	in, err := s.Ring.PutUpstream(u)
	if err != nil {
		return UpstreamView{}, err
	}
	return s.upstreamView(in, s.keysPerUpstream()), nil
}

// SetWebhook sets the secret that an upstream's vendor signs its messages with, for the endpoint that takes them; an empty
// one takes it away. From then on messages signed with any other are refused.
func (s *Service) SetWebhook(ctx context.Context, who Actor, idOrName string, req SigningSecret) (UpstreamView, error) {
	s.changes.Lock()
	defer s.changes.Unlock()
	present, err := s.upstream(idOrName)
	if err != nil {
		return UpstreamView{}, err
	}
	u, err := present.SealWebhook(s.Ring.Master(), vault.NewSecret(req.Secret))
	if errors.Is(err, vault.ErrSigningSecret) {
		return UpstreamView{}, refuse(Invalid, "%v", vault.ErrSigningSecret)
	}
	if err != nil {
		return UpstreamView{}, err
	}
	row, err := encodeUpstream(&u)
	if err != nil {
		return UpstreamView{}, err
	}
	err = s.act(ctx, store.LaneControl, who, "upstream.webhook", func(tx store.Tx, rec *audit.Record) error {
		rec.Subject, rec.Upstream, rec.Mode, rec.Diff = "upstream "+u.Name, u.ID, u.Mode.String(), "signing secret: set"
		if req.Secret == "" {
			rec.Diff = "signing secret: taken away"
		}
		return tx.PutUpstream(row)
	})
	if err != nil {
		return UpstreamView{}, err
	}
	in, err := s.Ring.PutUpstream(u)
	if err != nil {
		return UpstreamView{}, err
	}
	return s.upstreamView(in, s.keysPerUpstream()), nil
}

func (s *Service) putUpstream(ctx context.Context, who Actor, action string, u vault.Upstream, secret vault.Secret, warnings []string) (UpstreamView, error) {
	u, err := u.SealInto(s.Ring.Master(), secret)
	if err != nil {
		return UpstreamView{}, refuse(Invalid, "%v", vault.ErrSecretMalformed)
	}
	missing, unreachable, err := s.probe(ctx, &u)
	if err != nil {
		return UpstreamView{}, err
	}
	row, err := encodeUpstream(&u)
	if err != nil {
		return UpstreamView{}, err
	}
	err = s.act(ctx, store.LaneControl, who, action, func(tx store.Tx, rec *audit.Record) error {
		rec.Subject, rec.Upstream, rec.Mode = "upstream "+u.Name, u.ID, u.Mode.String()
		rec.Diff = fmt.Sprintf("base_url: %s\nversion: %s\nsecret: %s…%s", u.BaseURL, u.Version, u.SecretPrefix, u.SecretLast4)
		return tx.PutUpstream(row)
	})
	if err != nil {
		return UpstreamView{}, err
	}
	in, err := s.Ring.PutUpstream(u)
	if err != nil {
		return UpstreamView{}, err
	}
	view := s.upstreamView(in, s.keysPerUpstream())
	view.Missing, view.Unreachable, view.Warnings = missing, unreachable, warnings
	return view, nil
}

// checkSecret reads the mode from the prefix and refuses what should not be handed to anybody.
func checkSecret(secret vault.Secret, allowUnrestricted bool) (vault.Mode, []string, error) {
	mode, restricted, ok := vault.SecretKind(secret)
	switch {
	case !ok:
		return 0, nil, refuse(Invalid, "the secret is no restricted key: it must begin with rk_test_ or rk_live_")
	case !restricted && mode == vault.Live && !allowUnrestricted:
		return 0, nil, refuse(Invalid, "the secret begins with sk_live_: it can do everything at the vendor. Make a restricted key, or say --allow-unrestricted")
	case !restricted:
		return mode, []string{"the secret is unrestricted: nothing at the vendor stops what Keybrake would let through by mistake"}, nil
	}
	return mode, nil, nil
}

// baseURL checks the pinned host. Without TLS anybody on the way reads the secret, so plain HTTP is for this
// machine only.
func (s *Service) baseURL(req UpstreamRequest) (*url.URL, error) {
	text := req.BaseURL
	if text == "" {
		text = s.BaseURL
	}
	base, err := url.Parse(text)
	if err != nil {
		return nil, refuse(Invalid, "the base URL %q cannot be read; write it like https://api.example.com", text)
	}
	if err := vault.CheckBaseURL(base); err != nil {
		return nil, refuse(Invalid, "%v", err)
	}
	if base.Scheme == "http" && !loopback(base.Hostname()) && !req.AllowInsecure {
		return nil, refuse(Invalid, "the base URL %s would send the secret without TLS; use https, or say --allow-insecure-upstream", base)
	}
	return base, nil
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// probe asks for everything that Keybrake needs. Where nobody answers, unreachable says why: that tells nothing about
// permissions.
func (s *Service) probe(ctx context.Context, u *vault.Upstream) (missing []Missing, unreachable string, err error) {
	if s.Prober == nil {
		return nil, "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	unknown := 0
	for _, n := range s.Needs {
		status, _, err := s.Prober.Probe(ctx, u, n.Path, n.Query)
		switch {
		case err != nil:
			return nil, err.Error(), nil
		case status == http.StatusOK:
		default:
			missing = append(missing, Missing{n.Name, fmt.Sprintf("status %d", status), n.Without})
			if status == http.StatusUnauthorized {
				unknown++
			}
		}
	}
	if unknown > 0 && unknown == len(s.Needs) {
		return nil, "", refuse(Invalid, "%s does not know the secret (status 401 on every read); check that it was copied whole and not revoked", u.BaseURL)
	}
	return missing, "", nil
}

// RemoveUpstream forgets an upstream and its secret. It is refused while vault keys that are not revoked use
// it.
func (s *Service) RemoveUpstream(ctx context.Context, who Actor, idOrName string) error {
	s.changes.Lock()
	defer s.changes.Unlock()
	u, err := s.upstream(idOrName)
	if err != nil {
		return err
	}
	if n := s.keysPerUpstream()[u.ID]; n > 0 {
		return refuse(Conflict, "%d vault keys that are not revoked use the upstream %s; revoke them first", n, u.Name)
	}
	err = s.act(ctx, store.LaneControl, who, "upstream.remove", func(tx store.Tx, rec *audit.Record) error {
		rec.Subject, rec.Upstream, rec.Mode = "upstream "+u.Name, u.ID, u.Mode.String()
		if _, err := tx.LiftBrake(store.UpstreamScope(u.ID)); err != nil {
			return err
		}
		return tx.DeleteUpstream(u.ID)
	})
	if err != nil {
		return err
	}
	return s.Ring.RemoveUpstream(u.ID)
}

// Upstreams lists the upstreams by name.
func (s *Service) Upstreams() []UpstreamView {
	out, keys := []UpstreamView{}, s.keysPerUpstream()
	for _, u := range s.Ring.Upstreams() {
		out = append(out, s.upstreamView(u, keys))
	}
	return out
}

func (s *Service) upstream(idOrName string) (*vault.Upstream, error) {
	u, ok := s.Ring.FindUpstream(idOrName)
	if !ok {
		return nil, refuse(NotFound, "there is no upstream %q; `keybrake upstream list` shows them", idOrName)
	}
	return u, nil
}

func (s *Service) keysPerUpstream() map[policy.UpstreamID]int {
	n := map[policy.UpstreamID]int{}
	for _, k := range s.Ring.Keys() {
		if k.Revoked.IsZero() {
			n[k.Upstream]++
		}
	}
	return n
}

func (s *Service) upstreamView(u *vault.Upstream, keys map[policy.UpstreamID]int) UpstreamView {
	return UpstreamView{
		ID: string(u.ID), Name: u.Name, Mode: u.Mode.String(), BaseURL: u.BaseURL.String(), Version: u.Version,
		Secret: u.SecretPrefix + "…" + u.SecretLast4, Brake: u.Brake.String(), Keys: keys[u.ID], Created: u.Created.UTC(),
		Webhook: len(u.SealedWebhook) > 0,
	}
}
