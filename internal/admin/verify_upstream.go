package admin

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/upstream"
	"github.com/keybrake/keybrake/internal/vault"
)

// VerifyUpstreamReport is what an upstream's own credential opens, held against what its vault keys and Keybrake
// itself need.
type VerifyUpstreamReport struct {
	Upstream string    `json:"upstream"`
	At       time.Time `json:"at"`
	Passed   bool      `json:"passed"`
	Tried    int       `json:"tried"`
	Open     int       `json:"open"`
	Closed   int       `json:"closed"`
	// NotTried are writes that nothing is sure to refuse at the vendor before they do something.
	NotTried int `json:"not_tried"`
	// Unclear are operations whose answer told nothing.
	Unclear []Wrong `json:"unclear"`
	// TooWide is what is open and nobody needs: permissions to untick.
	TooWide []Permitted `json:"too_wide"`
	// Missing is what is needed and not open.
	Missing []Permitted `json:"missing"`
}

// Permitted is a permission of the vendor with the operations that showed it.
type Permitted struct {
	Permission string   `json:"permission" doc:"the vendor's name; empty where none is known"`
	Resource   string   `json:"resource"`
	Access     string   `json:"access"`
	Operations []string `json:"operations"`
}

// retryProbe is how long a probe waits that the vendor's rate limit turned away, and probeTries how often it is sent.
const (
	retryProbe = time.Second
	probeTries = 4
)

// VerifyUpstream asks the vendor, with the upstream's own secret, for one operation after the other in a form that
// cannot have an effect, and compares what is open with what the upstream's vault keys need.
func (s *Service) VerifyUpstream(ctx context.Context, who Actor, idOrName string, perSecond int, tell func(Progress) error) (VerifyUpstreamReport, error) {
	limiter, err := probeRate(perSecond)
	if err != nil {
		return VerifyUpstreamReport{}, err
	}
	u, err := s.upstream(idOrName)
	if err != nil {
		return VerifyUpstreamReport{}, err
	}
	if len(s.Probes) == 0 || s.Prober == nil {
		return VerifyUpstreamReport{}, refuse(Unavailable, "this server cannot ask its upstreams")
	}
	report := VerifyUpstreamReport{
		Upstream: u.Name, At: s.Store.Now().UTC(), Unclear: []Wrong{}, TooWide: []Permitted{}, Missing: []Permitted{},
	}
	need := s.neededAt(u)
	for i, p := range s.Probes {
		if err := tell(Progress{Done: i + 1, Of: len(s.Probes)}); err != nil {
			return VerifyUpstreamReport{}, err
		}
		if p.Closed || p.Access == policy.Write && p.Broken == "" {
			report.NotTried++
			continue
		}
		status, err := s.try(ctx, u, p, limiter.Wait)
		if ctx.Err() != nil {
			return VerifyUpstreamReport{}, fmt.Errorf("verify upstream %s: %w", u.Name, ctx.Err())
		}
		report.Tried++
		switch {
		case err != nil || status >= 500 || status == http.StatusTooManyRequests || status == 0:
			report.Unclear = append(report.Unclear, Wrong{Operation: string(p.Operation), Expected: "an answer", Status: status})
		case status == http.StatusUnauthorized:
			return VerifyUpstreamReport{}, refuse(Conflict, "%s refuses the secret of the upstream %s (status 401); give it another with `keybrake upstream rotate`", u.BaseURL, u.Name)
		case status == http.StatusForbidden:
			report.Closed++
			if need.has(p) {
				report.Missing = addPermitted(report.Missing, p)
			}
		default:
			report.Open++
			if !need.has(p) {
				report.TooWide = addPermitted(report.TooWide, p)
			}
		}
	}
	report.Passed = len(report.TooWide) == 0 && len(report.Missing) == 0 && len(report.Unclear) == 0
	return report, s.act(ctx, store.LaneControl, who, "upstream.verify", func(_ store.Tx, rec *audit.Record) error {
		rec.Subject, rec.Upstream, rec.Mode = "upstream "+u.Name, u.ID, u.Mode.String()
		rec.Diff = fmt.Sprintf("passed: %v\ntried: %d\nopen: %d\ntoo wide: %d\nmissing: %d\nunclear: %d",
			report.Passed, report.Tried, report.Open, len(report.TooWide), len(report.Missing), len(report.Unclear))
		return nil
	})
}

// try sends a probe, again where the vendor's rate limit turns it away.
func (s *Service) try(ctx context.Context, u *vault.Upstream, p upstream.Probe, wait func(context.Context) error) (status int, err error) {
	p.Path = strings.Replace(p.Path, "{account}", noAccount, 1)
	for range probeTries {
		if err := wait(ctx); err != nil {
			return 0, err
		}
		if status, err = s.Prober.Try(ctx, u, p); status != http.StatusTooManyRequests {
			return status, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryProbe):
		}
	}
	return status, err
}

// needs is what an upstream's credential has to open.
type needs struct {
	permissions map[string]bool
	policies    []*policy.Policy
}

// neededAt collects what the upstream's live keys and Keybrake itself need there.
func (s *Service) neededAt(u *vault.Upstream) needs {
	n := needs{permissions: map[string]bool{}}
	now := s.Store.Now()
	for _, k := range s.Ring.Keys() {
		if k.Upstream != u.ID || !k.Live(now) || k.Probe {
			continue
		}
		n.policies = append(n.policies, k.Policy)
		if r := s.restrictedKey(s.whole(k), k.Mode); r != nil {
			n.add(r.Permissions)
		}
	}
	own := &policy.Policy{Scopes: map[policy.Resource]policy.Access{}} // what Keybrake reads for itself
	for _, p := range s.Probes {
		if slices.ContainsFunc(s.Needs, func(need Need) bool { return p.Method == http.MethodGet && p.Path == need.Path }) {
			own.Scopes[p.Resource] = policy.Read
			n.add(p.Permissions)
		}
	}
	n.policies = append(n.policies, own)
	return n
}

func (n needs) add(permissions []string) {
	for _, p := range permissions {
		p = strings.TrimPrefix(p, "rak_")
		n.permissions[p] = true
		if read, ok := strings.CutSuffix(p, "_write"); ok {
			n.permissions[read+"_read"] = true // Write implies Read
		}
	}
}

// has reports whether somebody needs what a probe found open. Several names are other names for one permission.
func (n needs) has(p upstream.Probe) bool {
	if slices.ContainsFunc(p.Permissions, func(name string) bool { return n.permissions[name] }) {
		return true
	}
	return slices.ContainsFunc(n.policies, func(pol *policy.Policy) bool { return grants(pol, p) })
}

func addPermitted(list []Permitted, p upstream.Probe) []Permitted {
	name := strings.Join(p.Permissions, " or ")
	i := slices.IndexFunc(list, func(o Permitted) bool { return o.Resource == string(p.Resource) && o.Access == p.Access.String() })
	if i < 0 {
		return append(list, Permitted{Permission: name, Resource: string(p.Resource), Access: p.Access.String(), Operations: []string{string(p.Operation)}})
	}
	list[i].Operations = append(list[i].Operations, string(p.Operation))
	return list
}
