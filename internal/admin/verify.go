package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/upstream"
	"github.com/keybrake/keybrake/internal/vault"
)

// Limits of verification.
const (
	// twinLives is how long a key that probes for another one lives, whatever happens to who made it.
	twinLives = 10 * time.Minute
	// defaultProbeRate is how many probes reach an upstream in a second: well under the vendor's limits, so that
	// agents keep theirs.
	defaultProbeRate = 10
	maxProbeRate     = 1000
)

// noAccount stands for a connected account that no key has on its list.
const noAccount = "acct_keybrake_probe_of_nothing"

// VerifyKeyReport is what the probes of a vault key found.
type VerifyKeyReport struct {
	Key       string    `json:"key"`
	Name      string    `json:"name"`
	At        time.Time `json:"at"`
	Passed    bool      `json:"passed"`
	Tried     int       `json:"tried"`
	Denied    int       `json:"denied" doc:"outside the scopes, and refused"`
	Open      int       `json:"open" doc:"inside the scopes, and not refused for them"`
	Resources []Tried   `json:"resources"`
	// Wrong are the operations that were not as the scopes have them.
	Wrong []Wrong `json:"wrong"`
}

// Tried is one resource: what the policy grants, and how many of its operations were open, of how many.
type Tried struct {
	Resource   string `json:"resource"`
	Granted    string `json:"granted" doc:"none, read or write"`
	Reads      int    `json:"reads"`
	ReadsOpen  int    `json:"reads_open"`
	Writes     int    `json:"writes"`
	WritesOpen int    `json:"writes_open"`
}

// Wrong is an operation that was answered otherwise than the scopes say.
type Wrong struct {
	Operation string `json:"operation"`
	Expected  string `json:"expected" doc:"denied or open"`
	Status    int    `json:"status"`
	Code      string `json:"code,omitempty"`
}

// Progress tells how far a verification is.
type Progress struct {
	Done int `json:"done"`
	Of   int `json:"of"`
}

// VerifyKey tries every operation with a ten-minute twin of a key (the same policy, its own counters) and holds the
// answers against the scopes. Reads inside the scopes reach the upstream, at most perSecond of them (0 = the
// default); writes stop in the gateway once they are decided. What passed is noted on the key.
func (s *Service) VerifyKey(ctx context.Context, who Actor, idOrName string, perSecond int, tell func(Progress) error) (VerifyKeyReport, error) {
	limiter, err := probeRate(perSecond)
	if err != nil {
		return VerifyKeyReport{}, err
	}
	k, err := s.key(idOrName)
	if err != nil {
		return VerifyKeyReport{}, err
	}
	switch now := s.Store.Now(); {
	case len(s.Probes) == 0 || s.Agents == nil:
		return VerifyKeyReport{}, refuse(Unavailable, "this server has no agents' side to verify a key at")
	case !k.Live(now):
		return VerifyKeyReport{}, refuse(Conflict, "the vault key %s is revoked or expired; there is nothing to verify", k.Name)
	}
	twin, err := s.makeTwin(ctx, who, k)
	if err != nil {
		return VerifyKeyReport{}, err
	}
	defer s.endTwin(who, twin.ID)
	report := VerifyKeyReport{Key: string(k.ID), Name: k.Name, At: s.Store.Now().UTC(), Wrong: []Wrong{}}
	rows := map[policy.Resource]*Tried{}
	for i, p := range s.Probes {
		granted := grants(k.Policy, p)
		if granted && p.Access == policy.Read {
			if err := limiter.Wait(ctx); err != nil {
				return VerifyKeyReport{}, fmt.Errorf("verify vault key %s: %w", k.Name, err)
			}
		}
		status, code := s.asAgent(ctx, twin, p)
		if slices.Contains(keyCodes, code) {
			return VerifyKeyReport{}, refuse(Conflict, "the probes are refused for the key, not for its scopes (%s): lift the brake of its upstream or of everything first", code)
		}
		report.count(rows, k.Policy, p, granted, status, code)
		if err := tell(Progress{Done: i + 1, Of: len(s.Probes)}); err != nil {
			return VerifyKeyReport{}, err
		}
	}
	report.Tried, report.Passed = len(s.Probes), len(report.Wrong) == 0
	for _, row := range rows {
		report.Resources = append(report.Resources, *row)
	}
	slices.SortFunc(report.Resources, func(a, b Tried) int { return strings.Compare(a.Resource, b.Resource) })
	return report, s.noteVerified(ctx, who, k, &report)
}

func probeRate(perSecond int) (*rate.Limiter, error) {
	if perSecond == 0 {
		perSecond = defaultProbeRate
	}
	if perSecond < 1 || perSecond > maxProbeRate {
		return nil, wrong("body.rate", "the rate must be between 1 and %d probes per second", maxProbeRate)
	}
	return rate.NewLimiter(rate.Limit(perSecond), 1), nil
}

// grants says whether a policy's scopes open an operation: read off the policy's own words here, so that the
// decision that is verified is not what it is verified by.
func grants(p *policy.Policy, probe upstream.Probe) bool {
	if probe.Closed || p.Scope(probe.Resource) < probe.Access || probe.Account && len(p.Accounts) == 0 {
		return false
	}
	return !slices.ContainsFunc(probe.Needs, func(r policy.Resource) bool { return p.Scope(r) < policy.Write })
}

// scopeCodes are the reasons of denials by scope; keyCodes those of keys that nothing passes with.
var (
	scopeCodes = []policy.Code{policy.CodeScopeDenied, policy.CodeUnknownRoute, policy.CodeAccountDenied}
	keyCodes   = []policy.Code{policy.CodeKeyInvalid, policy.CodeKeyRevoked, policy.CodeKeyExpired, policy.CodeKeyKilled, policy.CodeKeyReadOnly, policy.CodeKeyNetwork, policy.CodeKeyMode}
)

func (r *VerifyKeyReport) count(rows map[policy.Resource]*Tried, p *policy.Policy, probe upstream.Probe, granted bool, status int, code policy.Code) {
	row := rows[probe.Resource]
	if row == nil {
		row = &Tried{Resource: string(probe.Resource), Granted: p.Scope(probe.Resource).String()}
		rows[probe.Resource] = row
	}
	denied := slices.Contains(scopeCodes, code) && (status == http.StatusUnauthorized || status == http.StatusForbidden)
	open := 0
	if denied {
		r.Denied++
	} else {
		r.Open++
		open = 1
	}
	if probe.Access == policy.Read {
		row.Reads, row.ReadsOpen = row.Reads+1, row.ReadsOpen+open
	} else {
		row.Writes, row.WritesOpen = row.Writes+1, row.WritesOpen+open
	}
	if denied == granted {
		expected := "denied"
		if granted {
			expected = "open"
		}
		r.Wrong = append(r.Wrong, Wrong{Operation: string(probe.Operation), Expected: expected, Status: status, Code: string(code)})
	}
}

// twin is a key that probes for another one.
type twin struct {
	vault.Key
	text vault.Secret
	from netip.AddrPort // an address that the policy lets in
}

func (s *Service) makeTwin(ctx context.Context, who Actor, k *vault.Key) (*twin, error) {
	secret, digest, last4 := s.Ring.Master().Mint(k.Mode)
	t := &twin{text: secret, from: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 1)}
	if len(k.Policy.Network) > 0 {
		t.from = netip.AddrPortFrom(k.Policy.Network[0].Addr(), 1)
	}
	t.Key = vault.Key{
		ID: vault.NewKeyID(), Upstream: k.Upstream, Mode: k.Mode, Probe: true,
		Policy: k.Policy, PolicyDigest: k.PolicyDigest, Joined: k.Joined, Brake: vault.Normal,
	}
	t.Name = "probe-" + strings.TrimPrefix(string(t.ID), "key_")
	err := s.act(ctx, store.LaneControl, who, "key.probe", func(tx store.Tx, rec *audit.Record) error {
		t.Created = tx.Now()
		t.Expires = t.Created.Add(twinLives)
		t.Credentials = []vault.Credential{{Digest: digest, Last4: last4, Created: t.Created}}
		keyRecord(rec, &t.Key)
		rec.Diff = "twin of: " + k.Name
		return putKey(tx, &t.Key)
	})
	if err != nil {
		return nil, err
	}
	return t, s.showKey(&t.Key)
}

// endTwin revokes a twin, also when whoever asked for it has gone away. One that cannot be revoked expires.
func (s *Service) endTwin(who Actor, id policy.KeyID) {
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	if _, err := s.RevokeKey(ctx, who, string(id), "verification is over"); err != nil {
		s.Log.Warn("the key of a verification lives on until it expires", "key", id, "error", err)
	}
}

// asAgent sends one probe into the agents' side with the twin's text, and returns the reason that it names.
func (s *Service) asAgent(ctx context.Context, t *twin, p upstream.Probe) (status int, code policy.Code) {
	account := noAccount
	if len(t.Policy.Accounts) > 0 {
		account = string(t.Policy.Accounts[0])
	}
	target := strings.Replace(p.Path, "{account}", account, 1)
	if p.Query != "" {
		target += "?" + p.Query
	}
	req, err := http.NewRequestWithContext(ctx, p.Method, "http://agents"+target, bytes.NewReader(p.Body))
	if err != nil {
		return 0, policy.CodeMalformed
	}
	req.RequestURI, req.RemoteAddr = target, t.from.String()
	req.Header.Set("Authorization", "Bearer "+t.text.Reveal())
	req.Header.Set("User-Agent", "keybrake-verify")
	if p.ContentType != "" {
		req.Header.Set("Content-Type", p.ContentType)
	}
	w := &answered{header: http.Header{}}
	s.Agents().ServeHTTP(w, req)
	var body struct {
		Error struct {
			Keybrake struct {
				Code policy.Code `json:"code"`
			} `json:"keybrake"`
		} `json:"error"`
	}
	_ = json.Unmarshal(w.body.Bytes(), &body) // Stripe's own answers name no reason of ours
	return w.status, body.Error.Keybrake.Code
}

// answered keeps one answer.
type answered struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answered) Header() http.Header         { return a.header }
func (a *answered) Write(b []byte) (int, error) { return a.body.Write(b) }
func (a *answered) WriteHeader(status int)      { a.status = status }

// noteVerified writes what was found into the audit and, if the key passed, onto it: a policy may go live then.
func (s *Service) noteVerified(ctx context.Context, who Actor, k *vault.Key, r *VerifyKeyReport) error {
	s.changes.Lock()
	defer s.changes.Unlock()
	return s.changeKey(ctx, who, "key.verify", string(k.ID), func(next *vault.Key, tx store.Tx, rec *audit.Record) error {
		rec.Diff = fmt.Sprintf("passed: %v\ntried: %d\ndenied: %d\nopen: %d\nwrong: %d", r.Passed, r.Tried, r.Denied, r.Open, len(r.Wrong))
		next.Verified = nil
		if r.Passed && next.PolicyDigest == k.PolicyDigest {
			next.Verified = &vault.Verified{Policy: promotedDigest(k.Policy), At: tx.Now(), Denied: r.Denied}
		}
		return nil
	})
}

// promotedDigest names what of a policy goes along from test mode to live mode: all but the customers, who are
// others there.
func promotedDigest(p *policy.Policy) string {
	same := *bare(p)
	same.Customers = policy.Customers{Any: p.Customers.Any}
	return policy.Digest(&same)
}

// promotable stands against taking a test key's policy into live mode before somebody has seen it hold: the test
// key must have passed a verification with this very policy, and have met a refusal in it.
func (s *Service) promotable(req KeyRequest, p *policy.Policy, u *vault.Upstream) error {
	if req.Like == "" || u.Mode != vault.Live || req.Unverified {
		return nil
	}
	like, err := s.key(req.Like)
	if err != nil {
		return err
	}
	const how = "run `keybrake verify %s`, or say --unverified, which is recorded"
	switch v := like.Verified; {
	case like.Mode == vault.Live:
		return nil
	case v == nil:
		return refuse(Conflict, "nobody has verified the test key %s, so its policy does not go live; "+how, like.Name, like.Name)
	case v.Policy != promotedDigest(p):
		return refuse(Conflict, "the policy is not the one that the test key %s was verified with on %s; "+how, like.Name, stamp(v.At), like.Name)
	case v.Denied == 0:
		return refuse(Conflict, "the test key %s never met a refusal when it was verified: its policy refuses nothing, so nothing was shown; "+how, like.Name, like.Name)
	}
	return nil
}

// VerifyOptions are what a verification may be asked.
type VerifyOptions struct {
	Rate int `json:"rate,omitempty" doc:"probes per second that may reach the upstream; 0 = 10"`
}

func (a *api) verify() {
	stream(a, route{http.MethodPost, "keys/{key}/verify", "verify-key", "Try every operation with a twin of a vault key", vault.ToChange, 0},
		func(_ context.Context, who Actor, in *struct {
			Key  string `path:"key" doc:"id or name"`
			Body VerifyOptions
		}) (string, writing, error) {
			return told(func(ctx context.Context, tell func(Progress) error) (any, error) {
				return a.s.VerifyKey(ctx, who, in.Key, in.Body.Rate, tell)
			})
		}, jsonLines)
	stream(a, route{http.MethodPost, "upstreams/{upstream}/verify", "verify-upstream", "Find out what an upstream's credential opens", vault.ToChange, 0},
		func(_ context.Context, who Actor, in *struct {
			Upstream string `path:"upstream" doc:"id or name"`
			Body     VerifyOptions
		}) (string, writing, error) {
			return told(func(ctx context.Context, tell func(Progress) error) (any, error) {
				return a.s.VerifyUpstream(ctx, who, in.Upstream, in.Body.Rate, tell)
			})
		}, jsonLines)
}

// verifyLine is one line of the answer to a verification: how far it is, and last its report or why there is none.
type verifyLine struct {
	Progress *Progress       `json:"progress,omitempty"`
	Report   json.RawMessage `json:"report,omitempty"`
	Problem  string          `json:"problem,omitempty"`
}

// told writes a verification as it goes on.
func told(work func(context.Context, func(Progress) error) (any, error)) (string, writing, error) {
	return jsonLines, func(ctx context.Context, w http.ResponseWriter) error {
		lines := json.NewEncoder(w)
		report, err := work(ctx, func(p Progress) error {
			err := lines.Encode(verifyLine{Progress: &p})
			_ = http.NewResponseController(w).Flush() // the client went away: the next write tells
			return err
		})
		if refused, ok := err.(*Refusal); ok { //nolint:errorlint // refusals are not wrapped
			return lines.Encode(verifyLine{Problem: refused.Message})
		}
		if err != nil {
			return err
		}
		text, err := json.Marshal(report)
		if err != nil {
			return fmt.Errorf("encode the report: %w", err)
		}
		return lines.Encode(verifyLine{Report: text})
	}, nil
}
