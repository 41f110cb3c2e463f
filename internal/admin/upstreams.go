package admin

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

// UpstreamRequest asks for a new upstream.
type UpstreamRequest struct {
	Name    string `json:"name"`
	Secret  string `json:"secret" doc:"restricted key of the vendor; its prefix tells the mode"`
	BaseURL string `json:"base_url,omitempty" doc:"scheme and host; the vendor's own by default"`
	Version string `json:"version,omitempty" doc:"API version that is sent where an agent names none"`
	// RotateEvery is after how long the secret is due for another.
	RotateEvery string `json:"rotate_every,omitempty" doc:"a span like 90d; empty: nobody is reminded"`
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
	ETag    string    `json:"etag" doc:"version of what can be edited: the pinned version, rotate_every, and the secret that messages are signed with"`
	Created time.Time `json:"created"`
	Webhook bool      `json:"webhook" doc:"messages that the vendor signs are taken"`
	// Account is the vendor's id of the account that the secret belongs to, where the vendor tells.
	Account     string    `json:"account,omitempty"`
	SecretSince time.Time `json:"secret_since" doc:"when the present secret was put there"`
	RotateEvery string    `json:"rotate_every,omitempty" doc:"a span like 90d"`
	RotateBy    time.Time `json:"rotate_by,omitzero" doc:"when the next secret is due"`
	Overdue     bool      `json:"overdue,omitempty" doc:"rotate_by is over"`
	// Staged is a secret that waits to take the place of the present one.
	Staged *StagedView `json:"staged,omitempty"`
	// Missing is what Keybrake cannot read there and what will not work for it; in answers to add and rotate.
	Missing []Missing `json:"missing,omitempty"`
	// Unreachable is why the vendor could not be asked; in answers to add and rotate.
	Unreachable string   `json:"unreachable,omitempty"`
	Warnings    []string `json:"warnings,omitempty"`
}

// StagedView is a staged secret as it may be shown.
type StagedView struct {
	Secret string    `json:"secret" doc:"prefix and last four"`
	At     time.Time `json:"at"`
	By     string    `json:"by"`
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
	secret := vault.NewSecret(req.Secret)
	mode, warnings, badSecret := checkSecret(secret, req.AllowUnrestricted)
	base, badURL := s.baseURL(req)
	every, badSpan := rotateEvery(req.RotateEvery)
	if err := together(s.upstreamName(req.Name), badSecret, badURL, checkVersion(req.Version), badSpan); err != nil {
		return UpstreamView{}, err
	}
	u := vault.Upstream{
		ID: vault.NewUpstreamID(), Name: req.Name, Mode: mode, BaseURL: base, Version: cmp.Or(req.Version, s.Version),
		Brake: vault.Normal, Created: s.Store.Now(), RotateEvery: every,
	}
	var err error
	if u, err = u.SealInto(s.Ring.Master(), secret); err != nil {
		return UpstreamView{}, wrong("body.secret", "%v", vault.ErrSecretMalformed)
	}
	found, err := s.probe(ctx, &u)
	if err != nil {
		return UpstreamView{}, err
	}
	if found.unknown {
		return UpstreamView{}, wrong("body.secret", "%s", unknownSecret(&u))
	}
	u.Account = found.account
	s.changes.Lock() // not while the vendor is asked: other changes go on, and are followed
	defer s.changes.Unlock()
	if err := s.upstreamName(req.Name); err != nil { // somebody may have taken it meanwhile
		return UpstreamView{}, err
	}
	return s.putUpstream(ctx, who, u, upstreamChange{
		action: "upstream.add", diff: "secret: " + shownSecret(u.SecretPrefix, u.SecretLast4), told: found, warnings: warnings,
	})
}

// upstreamName judges the name of a new upstream.
func (s *Service) upstreamName(name string) error {
	if err := vault.CheckName(name); err != nil {
		return wrong("body.name", "%v", err)
	}
	if _, taken := s.Ring.FindUpstream(name); taken {
		return refuse(Conflict, "there is an upstream %s; choose another name, or give it a new secret with `keybrake upstream rotate`", name).at("body.name")
	}
	return nil
}

// UpstreamUpdate changes what an upstream is set to. What is empty stays.
type UpstreamUpdate struct {
	Version     string `json:"version,omitempty" doc:"API version that is sent where an agent names none, and that agents may name; takes a reason"`
	RotateEvery string `json:"rotate_every,omitempty" doc:"a span like 90d after which the secret is due for another, or never"`
	Reason      string `json:"reason,omitempty" maxLength:"500" doc:"why; goes into the audit"`
	// IfMatch is the version that the edit was made for; empty: the present one, whichever that is.
	IfMatch string `json:"-"`
}

// version is how the vendor's versions are written: a date, with the name of its release train since there are some.
var version = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}(\.[a-z]+)?$`)

// UpdateUpstream sets the version that an upstream is pinned to, and after how long its secret is due for another. Agents
// may name that version, whether the catalog knows its train or not: fields may have other names in it, so it takes a reason.
func (s *Service) UpdateUpstream(ctx context.Context, who Actor, idOrName string, req UpstreamUpdate) (UpstreamView, error) {
	s.changes.Lock()
	defer s.changes.Unlock()
	present, err := s.upstream(idOrName)
	if err != nil {
		return UpstreamView{}, err
	}
	if err := unchanged("the upstream "+present.Name, req.IfMatch, upstreamTag(present)); err != nil {
		return UpstreamView{}, err
	}
	every, badSpan := rotateEvery(req.RotateEvery)
	if err := together(checkVersion(req.Version), req.reasoned(), badSpan); err != nil {
		return UpstreamView{}, err
	}
	u := *present
	var diff []string
	if req.Version != "" {
		u.Version = req.Version
		diff = append(diff, fmt.Sprintf("version: %s -> %s", present.Version, u.Version))
	}
	if req.RotateEvery != "" {
		u.RotateEvery = every
		diff = append(diff, fmt.Sprintf("rotate_every: %s -> %s", orNone(span(present.RotateEvery)), orNone(span(u.RotateEvery))))
	}
	if len(diff) == 0 {
		return UpstreamView{}, refuse(Invalid, "say what to change: a version, or rotate_every")
	}
	return s.putUpstream(ctx, who, u, upstreamChange{action: "upstream.update", diff: strings.Join(diff, "\n"), reason: req.Reason})
}

// checkVersion judges a version that is asked for; empty asks for none.
func checkVersion(text string) error {
	switch {
	case text == "":
		return nil
	case !version.MatchString(text):
		return wrong("body.version", "the version %q is not one; write it like 2026-08-26.dahlia or 2024-06-20", text)
	case strings.HasSuffix(text, ".preview"):
		return wrong("body.version", "previews change without notice, so none can be pinned; write a released version")
	}
	return nil
}

// reasoned refuses another version without a reason.
func (u UpstreamUpdate) reasoned() error {
	if u.Version != "" && strings.TrimSpace(u.Reason) == "" {
		return wrong("body.reason", "a reason is required: in another version fields may have other names than Keybrake reads")
	}
	return nil
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
	if err := unchanged("the upstream "+present.Name, req.IfMatch, upstreamTag(present)); err != nil {
		return UpstreamView{}, err
	}
	u, err := present.SealWebhook(s.Ring.Master(), vault.NewSecret(req.Secret))
	if errors.Is(err, vault.ErrSigningSecret) {
		return UpstreamView{}, wrong("body.secret", "%v", vault.ErrSigningSecret)
	}
	if err != nil {
		return UpstreamView{}, err
	}
	diff := "signing secret: set"
	if req.Secret == "" {
		diff = "signing secret: taken away"
	}
	return s.putUpstream(ctx, who, u, upstreamChange{action: "upstream.webhook", diff: diff})
}

// upstreamChange is what is done to an upstream, and what its vendor told on the way.
type upstreamChange struct {
	action, diff, reason string
	told                 found
	warnings             []string
}

// putUpstream stores an upstream with the record of why, and brings the ring after it.
func (s *Service) putUpstream(ctx context.Context, who Actor, u vault.Upstream, c upstreamChange) (UpstreamView, error) {
	row, err := encodeUpstream(&u)
	if err != nil {
		return UpstreamView{}, err
	}
	view := func(u *vault.Upstream) UpstreamView {
		v := s.upstreamView(u, s.keysPerUpstream())
		v.Missing, v.Unreachable, v.Warnings = c.told.missing, c.told.unreachable, c.warnings
		return v
	}
	err = s.act(ctx, store.LaneControl, who, c.action, func(tx store.Tx, rec *audit.Record) error {
		rec.Subject, rec.Upstream, rec.Mode, rec.Diff, rec.Reason = "upstream "+u.Name, u.ID, u.Mode.String(), c.diff, c.reason
		if c.action == "upstream.add" {
			rec.Diff = fmt.Sprintf("base_url: %s\nversion: %s\n%s", u.BaseURL, u.Version, c.diff)
		} else if err := s.upToDate(tx, &u); err != nil {
			return err
		}
		if err := tx.PutUpstream(row); err != nil {
			return err
		}
		return remember(ctx, tx, view(&u))
	})
	if err != nil {
		return UpstreamView{}, err
	}
	in, err := s.Ring.PutUpstream(u)
	if err != nil {
		return UpstreamView{}, err
	}
	return view(in), nil
}

// upToDate refuses to edit what another node has just changed: what is edited is what this node remembers of it.
func (s *Service) upToDate(tx store.Tx, u *vault.Upstream) error {
	stored, found, err := storedUpstream(tx, u.ID)
	if err != nil {
		return err
	}
	if present, ok := s.Ring.Upstream(u.ID); ok && found {
		there, err := decodeUpstream(stored)
		if err != nil {
			return err
		}
		known, err := encodeUpstream(present)
		if err != nil {
			return err
		}
		// An older program may have written it in another form.
		if stored, err = encodeUpstream(&there); err != nil {
			return err
		}
		if known.Name == stored.Name && bytes.Equal(known.Doc, stored.Doc) {
			return nil
		}
	}
	return refuse(Conflict, "the upstream %s was just changed at another node; look at it and try again", u.Name)
}

func storedUpstream(tx store.Tx, id policy.UpstreamID) (row store.UpstreamRow, found bool, err error) {
	rows, err := tx.Upstreams()
	if err != nil {
		return row, false, fmt.Errorf("read the upstreams: %w", err)
	}
	if i := slices.IndexFunc(rows, func(r store.UpstreamRow) bool { return r.ID == id }); i >= 0 {
		return rows[i], true, nil
	}
	return row, false, nil
}

// checkSecret reads the mode from the prefix and refuses what should not be handed to anybody.
func checkSecret(secret vault.Secret, allowUnrestricted bool) (vault.Mode, []string, error) {
	mode, restricted, ok := vault.SecretKind(secret)
	switch {
	case !ok:
		return 0, nil, wrong("body.secret", "the secret is no restricted key: it must begin with rk_test_ or rk_live_")
	case !restricted && mode == vault.Live && !allowUnrestricted:
		return 0, nil, wrong("body.secret", "the secret begins with sk_live_: it can do everything at the vendor. Make a restricted key, or say --allow-unrestricted")
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
		return nil, wrong("body.base_url", "the base URL %q cannot be read; write it like https://api.example.com", text)
	}
	if err := vault.CheckBaseURL(base); err != nil {
		return nil, wrong("body.base_url", "%v", err)
	}
	if base.Scheme == "http" && !loopback(base.Hostname()) && !req.AllowInsecure {
		return nil, wrong("body.base_url", "the base URL %s would send the secret without TLS; use https, or say --allow-insecure-upstream", base)
	}
	return base, nil
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
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
		if err := s.unused(tx, u); err != nil {
			return err
		}
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

// unused refuses to remove an upstream for which another node has just made a key.
func (s *Service) unused(tx store.Tx, u *vault.Upstream) error {
	if s.Cluster == nil { // then the ring knows
		return nil
	}
	n := 0
	err := tx.EachKey(func(row store.KeyRow) error {
		if row.Upstream == u.ID && row.Live {
			n++
		}
		return nil
	})
	if err == nil && n > 0 {
		err = refuse(Conflict, "%d vault keys that were just made at another node use the upstream %s; revoke them first", n, u.Name)
	}
	return err
}

// Upstreams lists the upstreams by name.
func (s *Service) Upstreams() []UpstreamView {
	out, keys := []UpstreamView{}, s.keysPerUpstream()
	for _, u := range s.Ring.Upstreams() {
		out = append(out, s.upstreamView(u, keys))
	}
	return out
}

// Upstream shows one upstream by id or name.
func (s *Service) Upstream(idOrName string) (UpstreamView, error) {
	u, err := s.upstream(idOrName)
	if err != nil {
		return UpstreamView{}, err
	}
	return s.upstreamView(u, s.keysPerUpstream()), nil
}

// upstreamTag is the version of what can be edited of an upstream.
func upstreamTag(u *vault.Upstream) string {
	return entityTag(u.ID, u.Version, u.RotateEvery, u.WebhookVersion)
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
	v := UpstreamView{
		ID: string(u.ID), Name: u.Name, Mode: u.Mode.String(), BaseURL: u.BaseURL.String(), Version: u.Version,
		Secret: shownSecret(u.SecretPrefix, u.SecretLast4), Brake: u.Brake.String(), Keys: keys[u.ID], ETag: upstreamTag(u), Created: u.Created.UTC(),
		Webhook: len(u.SealedWebhook) > 0, Account: u.Account,
		SecretSince: u.Rotated().UTC(), RotateEvery: span(u.RotateEvery), RotateBy: u.RotateBy().UTC(),
	}
	v.Overdue = !v.RotateBy.IsZero() && !s.Store.Now().Before(v.RotateBy)
	if w := u.Staged; w != nil {
		v.Staged = &StagedView{Secret: shownSecret(w.Prefix, w.Last4), At: w.At.UTC(), By: w.By}
	}
	return v
}

func shownSecret(prefix, last string) string { return prefix + "…" + last }
