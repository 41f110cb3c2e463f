package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/vault"
)

// probeTimeout bounds all questions to a vendor about one secret together: somebody waits at a terminal.
const probeTimeout = 20 * time.Second

// UpstreamSecret is another secret for an upstream.
type UpstreamSecret struct {
	Secret            string `json:"secret"`
	AllowUnrestricted bool   `json:"allow_unrestricted,omitempty"`
	Stage             bool   `json:"stage,omitempty" doc:"let it wait, probed, until it is switched to"`
	SwitchRequest
}

// SwitchRequest says what an operator answers for where the vendor does not tell enough about a new secret.
type SwitchRequest struct {
	AllowMissing bool `json:"allow_missing,omitempty" doc:"take a secret that lacks a permission which the present one has"`
	SameAccount  bool `json:"same_account,omitempty" doc:"answer for it that the secret is of the same account, where the vendor does not tell"`
}

// found is what a vendor tells about a secret.
type found struct {
	account     string // empty: it does not tell
	missing     []Missing
	unreachable string // why the vendor could not be asked; then nothing else is known
	unknown     bool   // the vendor knows no such secret
}

// probe asks the vendor, with harmless reads, what an upstream's secret is good for.
func (s *Service) probe(ctx context.Context, u *vault.Upstream) (found, error) {
	var out found
	if s.Prober == nil {
		return out, nil
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	unauthorized := 0
	for _, n := range s.Needs {
		status, _, err := s.Prober.Probe(ctx, u, n.Path, n.Query)
		switch {
		case err != nil:
			return found{unreachable: err.Error()}, nil
		case status == http.StatusOK:
		default:
			out.missing = append(out.missing, Missing{n.Name, fmt.Sprintf("status %d", status), n.Without})
			if status == http.StatusUnauthorized {
				unauthorized++
			}
		}
	}
	if out.unknown = unauthorized > 0 && unauthorized == len(s.Needs); out.unknown || s.Account.Path == "" {
		return out, nil
	}
	status, body, err := s.Prober.Probe(ctx, u, s.Account.Path, "")
	if err != nil {
		return found{unreachable: err.Error()}, nil
	}
	out.account = s.Account.Of(status, body)
	return out, nil
}

func unknownSecret(u *vault.Upstream) string {
	return fmt.Sprintf("%s does not know the secret (status 401 on every read); check that it was copied whole and not revoked", u.BaseURL)
}

// RotateUpstream gives an upstream another secret of the same mode and account, or with Stage lets it wait. The vendor
// is asked first, with reads, and what does not hold changes nothing. Calls that are on their way end with the secret
// that they left with; those that leave from now on carry the new one, and the old one is gone from the store.
func (s *Service) RotateUpstream(ctx context.Context, who Actor, idOrName string, req UpstreamSecret) (UpstreamView, error) {
	present, err := s.upstream(idOrName)
	if err != nil {
		return UpstreamView{}, err
	}
	secret := vault.NewSecret(req.Secret)
	mode, warnings, err := checkSecret(secret, req.AllowUnrestricted)
	if err != nil {
		return UpstreamView{}, err
	}
	if mode != present.Mode {
		return UpstreamView{}, refuse(Conflict, "the secret is for %s mode and the upstream %s is in %s mode; add another upstream for it", mode, present.Name, present.Mode)
	}
	staged, err := present.Stage(s.Ring.Master(), secret, s.Store.Now(), who.Name)
	if err != nil {
		return UpstreamView{}, wrong("body.secret", "%v", vault.ErrSecretMalformed)
	}
	next, told, err := s.successor(ctx, &staged, req.SwitchRequest)
	if err != nil {
		return UpstreamView{}, err
	}
	action, diff := "upstream.rotate", switchDiff(present, &next)
	if req.Stage {
		staged.Account = next.Account // learned on the way
		action, next, diff = "upstream.stage", staged, "staged: "+shownSecret(staged.Staged.Prefix, staged.Staged.Last4)
	}
	return s.replaceUpstream(ctx, who, present, next, upstreamChange{action: action, diff: diff + req.answeredFor(), told: told, warnings: warnings})
}

// SwitchUpstream puts an upstream's staged secret into its place, after the vendor was asked about it once more.
func (s *Service) SwitchUpstream(ctx context.Context, who Actor, idOrName string, req SwitchRequest) (UpstreamView, error) {
	present, err := s.upstream(idOrName)
	if err != nil {
		return UpstreamView{}, err
	}
	next, told, err := s.successor(ctx, present, req)
	if err != nil {
		return UpstreamView{}, err
	}
	return s.replaceUpstream(ctx, who, present, next, upstreamChange{action: "upstream.switch", diff: switchDiff(present, &next) + req.answeredFor(), told: told})
}

// AbandonUpstream forgets an upstream's staged secret.
func (s *Service) AbandonUpstream(ctx context.Context, who Actor, idOrName string) (UpstreamView, error) {
	present, err := s.upstream(idOrName)
	if err != nil {
		return UpstreamView{}, err
	}
	if present.Staged == nil {
		return UpstreamView{}, nothingStaged(present)
	}
	next := *present
	next.Staged = nil
	return s.replaceUpstream(ctx, who, present, next, upstreamChange{action: "upstream.abandon", diff: "abandoned: " + shownSecret(present.Staged.Prefix, present.Staged.Last4)})
}

func nothingStaged(u *vault.Upstream) error {
	return refuse(Conflict, "no secret of the upstream %s is staged; stage one with `keybrake upstream rotate %s --stage`", u.Name, u.Name)
}

func switchDiff(present, next *vault.Upstream) string {
	return fmt.Sprintf("secret: %s -> %s", shownSecret(present.SecretPrefix, present.SecretLast4), shownSecret(next.SecretPrefix, next.SecretLast4))
}

// answeredFor is what the record says of the operator's own word.
func (r SwitchRequest) answeredFor() string {
	out := ""
	if r.AllowMissing {
		out += "\nallow_missing: yes"
	}
	if r.SameAccount {
		out += "\nsame_account: yes"
	}
	return out
}

// successor is the upstream with its staged secret in its place, if the vendor says that this may be.
func (s *Service) successor(ctx context.Context, u *vault.Upstream, req SwitchRequest) (vault.Upstream, found, error) {
	next, err := u.Switched(s.Ring.Master(), s.Store.Now())
	if errors.Is(err, vault.ErrNothingStaged) {
		return next, found{}, nothingStaged(u)
	}
	if err != nil {
		return next, found{}, err
	}
	told, err := s.probe(ctx, &next)
	switch {
	case err != nil:
		return next, told, err
	case told.unreachable != "":
		return next, told, refuse(Conflict, "%s was not reached (%s), so the secret could not be tried: nothing was changed; try again when it answers", u.BaseURL, told.unreachable)
	case told.unknown:
		return next, told, wrong("body.secret", "%s; nothing was changed", unknownSecret(u))
	}
	if err := s.sameAccount(ctx, u, told, req.SameAccount); err != nil {
		return next, told, err
	}
	if told.account != "" {
		next.Account = told.account
	}
	if req.AllowMissing || len(told.missing) == 0 {
		return next, told, nil
	}
	return next, told, s.noLess(ctx, u, told.missing)
}

// sameAccount refuses a secret of another account than the present one's. What the vendor does not tell, an operator can
// answer for; what it tells, nobody.
func (s *Service) sameAccount(ctx context.Context, u *vault.Upstream, told found, answered bool) error {
	if s.Prober == nil || s.Account.Path == "" {
		return nil
	}
	account := u.Account
	if account == "" { // it was added before accounts were asked for, or without the permission
		present, err := s.askPresent(ctx, u)
		if err != nil {
			return err
		}
		account = present.account
	}
	switch {
	case account == "" || told.account == "":
		if answered {
			return nil
		}
		return refuse(Conflict, "the vendor does not tell whether the secret is of the same account as the present one (it does with %s): nothing was changed; "+
			"give the secret that permission, or answer for it with --same-account", s.Account.Needs)
	case account != told.account:
		return refuse(Conflict, "the secret is of the account %s and the upstream %s is of %s: nothing was changed; add another upstream for it", told.account, u.Name, account)
	}
	return nil
}

// noLess refuses a secret that lacks what the present one has: calls that work would stop working.
func (s *Service) noLess(ctx context.Context, u *vault.Upstream, missing []Missing) error {
	present, err := s.askPresent(ctx, u)
	if err != nil || present.unreachable != "" || present.unknown {
		return err // the present one is good for nothing: whatever the next one has is more
	}
	var lost []string
	for _, m := range missing {
		if !slices.ContainsFunc(present.missing, func(had Missing) bool { return had.Need == m.Need }) {
			lost = append(lost, m.Need)
		}
	}
	if len(lost) == 0 {
		return nil
	}
	return refuse(Conflict, "the secret lacks what the present one has (%s): nothing was changed; give it these permissions, or say --allow-missing", strings.Join(lost, ", "))
}

// askPresent asks the vendor about the secret that an upstream has in the ring.
func (s *Service) askPresent(ctx context.Context, u *vault.Upstream) (found, error) {
	in, ok := s.Ring.Upstream(u.ID)
	if !ok {
		return found{}, refuse(NotFound, "the upstream %s was removed", u.Name)
	}
	return s.probe(ctx, in)
}

// replaceUpstream puts next into the place of present, unless somebody changed that while the vendor was asked.
func (s *Service) replaceUpstream(ctx context.Context, who Actor, present *vault.Upstream, next vault.Upstream, c upstreamChange) (UpstreamView, error) {
	s.changes.Lock()
	defer s.changes.Unlock()
	now, ok := s.Ring.Upstream(present.ID)
	if !ok || !sameSecrets(now, present) {
		return UpstreamView{}, refuse(Conflict, "somebody else changed the secret of the upstream %s meanwhile: nothing was changed; look at it and try again", present.Name)
	}
	next.Version, next.RotateEvery = now.Version, now.RotateEvery // somebody may have set these
	next.SealedWebhook, next.WebhookVersion = now.SealedWebhook, now.WebhookVersion
	return s.putUpstream(ctx, who, next, c)
}

func sameSecrets(a, b *vault.Upstream) bool {
	return a.SecretVersion == b.SecretVersion && a.StagedVersion == b.StagedVersion && (a.Staged == nil) == (b.Staged == nil)
}

// rotateEvery reads a span; empty and never are none.
func rotateEvery(text string) (time.Duration, error) {
	if text == "" || text == "never" {
		return 0, nil
	}
	d, err := policy.ParseSpan(text)
	if err != nil {
		return 0, wrong("body.rotate_every", "rotate_every: %v, or never", err)
	}
	return d, nil
}

// span writes a span as it is read; zero: empty.
func span(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return policy.FormatSpan(d)
}

// secrets registers what gives upstreams other secrets.
func (a *api) secrets() {
	handleOnce(a, route{http.MethodPost, "upstreams/{upstream}/rotate", "rotate-upstream", "Give an upstream another secret, or stage one", vault.ToChange, 0},
		func(ctx context.Context, who Actor, in *struct {
			Upstream string `path:"upstream" doc:"id or name"`
			Repeatable
			Body UpstreamSecret
		}) (UpstreamView, error) {
			return a.s.RotateUpstream(ctx, who, in.Upstream, in.Body)
		})
	handle(a, route{http.MethodPost, "upstreams/{upstream}/switch", "switch-upstream", "Put an upstream's staged secret into its place", vault.ToChange, 0},
		func(ctx context.Context, who Actor, in *struct {
			Upstream string `path:"upstream" doc:"id or name"`
			Body     SwitchRequest
		}) (UpstreamView, error) {
			return a.s.SwitchUpstream(ctx, who, in.Upstream, in.Body)
		})
	handle(a, route{http.MethodPost, "upstreams/{upstream}/abandon", "abandon-upstream", "Forget an upstream's staged secret", vault.ToChange, 0},
		func(ctx context.Context, who Actor, in *upstreamPath) (UpstreamView, error) {
			return a.s.AbandonUpstream(ctx, who, in.Upstream)
		})
}

// SwitchUpstream calls Service.SwitchUpstream.
func (c *Client) SwitchUpstream(ctx context.Context, name string, req SwitchRequest) (UpstreamView, error) {
	return call[UpstreamView](ctx, c, http.MethodPost, "upstreams/"+seg(name)+"/switch", nil, req)
}

// AbandonUpstream calls Service.AbandonUpstream.
func (c *Client) AbandonUpstream(ctx context.Context, name string) (UpstreamView, error) {
	return call[UpstreamView](ctx, c, http.MethodPost, "upstreams/"+seg(name)+"/abandon", nil, nil)
}
