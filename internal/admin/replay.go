package admin

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/replay"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

const (
	defaultReplay = "30d"
	// replayFor and maxReplayFor are how long a replay reads at most.
	replayFor    = 20 * time.Second
	maxReplayFor = 15 * time.Minute
	// defaultExamples and maxExamples are how many calls of each kind are shown.
	defaultExamples = 20
	maxExamples     = 200
	// replayEvery is how far apart a replay's pages are while calls add records: 20,000 records a second, at most half of
	// a core.
	replayEvery = auditPage * time.Second / 20_000
)

// ReplayRequest asks what a policy would have done. Without Policy it is the key's own, with the edits.
type ReplayRequest struct {
	// Key is the vault key whose calls are judged; empty: those of all keys, each under the policy.
	Key   string `json:"key,omitempty" doc:"id or name; absent: the calls of all keys of the policy's upstream"`
	Since string `json:"since,omitempty" doc:"when the policy would have come into force: RFC 3339, a date in UTC, or how long ago (24h, 30d); 30d by default"`
	// Examples is how many calls of each kind are shown.
	Examples *int `json:"examples,omitempty" minimum:"0" maximum:"200" doc:"20 by default"`
	Seconds  int  `json:"seconds,omitempty" minimum:"0" maximum:"900" doc:"how long it may read; 20 by default"`
	PolicyEdit
}

// Replay is what a policy would have done, judged as if it were enforced.
type Replay struct {
	Since time.Time `json:"since"`
	// Until is when the last record was written that was judged. Stopped: there are later ones, and the time was up.
	Until    time.Time `json:"until,omitzero"`
	Stopped  bool      `json:"stopped"`
	Key      string    `json:"key,omitempty"`
	KeyName  string    `json:"key_name,omitempty"`
	Shadow   bool      `json:"shadow" doc:"the policy is in shadow: this is what it would refuse once it is enforced"`
	Timezone string    `json:"timezone" doc:"of the days"`
	Records  int64     `json:"records" doc:"that were read, those of the windows' beginnings included"`
	Calls    int64     `json:"calls"`
	ReplayVerdicts
	Other     int64          `json:"other" doc:"of refused: for what no policy decides"`
	Rules     []ReplayRule   `json:"rules" doc:"that would refuse what was allowed"`
	Lifted    []ReplayRule   `json:"lifted" doc:"that refused what would be allowed"`
	Reasons   []ReplayReason `json:"reasons" doc:"why calls cannot be told"`
	Days      []ReplayDay    `json:"days"`
	Caps      []ReplayCap    `json:"caps" doc:"how close the calls come to each"`
	Keys      []ReplayKey    `json:"keys" doc:"the most changed first, at most 50"`
	KeysCut   bool           `json:"keys_cut"`
	Examples  ReplayCalls    `json:"examples" doc:"the first calls of each kind"`
	Uncounted int64          `json:"uncounted" doc:"earlier calls in the windows that could not be counted"`
	Forgotten int64          `json:"forgotten" doc:"what the vendor said about calls too long ago to be kept, and changed nothing"`
	Warnings  []string       `json:"warnings"`
}

// ReplayTally counts calls, in dollars at the rates of then: what they asked for, as far as it is known, and what moved.
type ReplayTally struct {
	Calls int64  `json:"calls"`
	USD   Figure `json:"usd"`
	Moved Figure `json:"moved_usd"`
}

// ReplayVerdicts counts calls by what was decided then and what would have been decided.
type ReplayVerdicts struct {
	Allowed      ReplayTally `json:"allowed" doc:"then and now"`
	Refused      ReplayTally `json:"refused" doc:"then and now"`
	NewlyRefused ReplayTally `json:"newly_refused" doc:"allowed then"`
	NewlyAllowed ReplayTally `json:"newly_allowed" doc:"refused then"`
	Untold       ReplayTally `json:"untold" doc:"cannot be told from the record"`
}

// ReplayRule is what one rule decides.
type ReplayRule struct {
	Rule string `json:"rule"`
	Code string `json:"code"`
	ReplayTally
}

// ReplayReason is why calls cannot be told.
type ReplayReason struct {
	Why string `json:"why"`
	ReplayTally
}

// ReplayDay is one resource on one day.
type ReplayDay struct {
	Day      string `json:"day"`
	Resource string `json:"resource"`
	ReplayVerdicts
}

// ReplayKey is one key.
type ReplayKey struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	ReplayVerdicts
}

// ReplayCap is how close the calls come to a cap: its fullest window, or for a cap per call the largest call.
type ReplayCap struct {
	Resource string    `json:"resource"`
	Per      string    `json:"per"`
	Unit     string    `json:"unit"`
	Limit    Figure    `json:"limit"`
	Used     Figure    `json:"used"`
	Window   string    `json:"window,omitempty" doc:"2026-11-23, 2026-W48"`
	Key      string    `json:"key,omitempty"`
	At       time.Time `json:"at,omitzero"`
	Refuses  int64     `json:"refuses" doc:"calls that it is the first to refuse"`
}

// ReplayCalls are the first calls of each kind.
type ReplayCalls struct {
	NewlyRefused []ReplayCall `json:"newly_refused"`
	NewlyAllowed []ReplayCall `json:"newly_allowed"`
	Untold       []ReplayCall `json:"untold"`
}

// ReplayCall is one call. Rule and Message refuse it, or refused it then; Why is what the record does not say.
type ReplayCall struct {
	Record    string    `json:"record"`
	At        time.Time `json:"at"`
	Key       string    `json:"key"`
	KeyName   string    `json:"key_name"`
	Operation string    `json:"operation"`
	Object    string    `json:"object,omitempty"`
	Customers []string  `json:"customers"`
	USD       Figure    `json:"usd"`
	Rule      string    `json:"rule,omitempty"`
	Message   string    `json:"message,omitempty"`
	Why       string    `json:"why,omitempty"`
}

// Replay runs a policy over the recorded calls of a key, or of all. It reads only, one at a time, for as long as is asked
// for: what it has not read by then it says.
func (s *Service) Replay(ctx context.Context, req ReplayRequest) (Replay, error) {
	run, err := s.replayOf(req)
	if err != nil {
		return Replay{}, err
	}
	if !s.replaying.TryLock() {
		return Replay{}, refuse(Unavailable, "another replay is running; try again when it has ended")
	}
	defer s.replaying.Unlock()
	ctx, cancel := context.WithTimeout(ctx, run.limit)
	defer cancel()
	stopped, err := run.read(ctx)
	if err != nil {
		return Replay{}, err
	}
	return run.told(stopped), nil
}

// replayRun is one replay and where in the record it reads.
type replayRun struct {
	s        *Service
	policy   *policy.Policy
	warnings []string
	key      *vault.Key // nil: all
	upstream policy.UpstreamID
	since    time.Time
	limit    time.Duration
	replay   *replay.Replay
}

func (s *Service) replayOf(req ReplayRequest) (*replayRun, error) {
	run := &replayRun{s: s, limit: replayFor}
	now := s.Store.Now()
	if req.Since == "" {
		req.Since = defaultReplay
	}
	var err, badSince error
	if run.since, badSince = ParseInstant(req.Since, now); badSince == nil && run.since.After(now) {
		badSince = refuse(Invalid, "since %q is in the future: nothing is on record from there", req.Since)
	}
	badSince = located("body.since", badSince)
	file, text := policyFile(req.PolicyEdit), []byte(req.Policy)
	if req.Key != "" {
		id, err := s.keyID(req.Key)
		if err != nil {
			return nil, together(badSince, located("body.key", err))
		}
		run.key, _ = s.Ring.Key(id)
		if req.Policy == "" {
			file, text = "policy of "+run.key.Name, policy.Format(s.whole(run.key))
		}
	} else if req.Policy == "" {
		return nil, together(badSince, wrong("body.policy", "say which policy is replayed: a policy, or a key whose own it is"))
	}
	run.policy, run.warnings, err = s.parse(file, text, "", req.PolicyEdit)
	if err := together(badSince, err); err != nil {
		return nil, err
	}
	if u, ok := s.Ring.FindUpstream(run.policy.Upstream); ok && run.key == nil {
		run.upstream = u.ID
	}
	if req.Seconds > 0 {
		run.limit = min(time.Duration(req.Seconds)*time.Second, maxReplayFor)
	}
	examples := defaultExamples
	if req.Examples != nil {
		examples = min(max(*req.Examples, 0), maxExamples)
	}
	run.replay = replay.New(replay.Options{
		Policy: run.policy, Since: run.since, Key: s.replayKey, Stood: s.stood(run.policy), Examples: examples,
	})
	return run, nil
}

// replayKey is what a replay may know of a key.
func (s *Service) replayKey(id policy.KeyID) replay.Key {
	k, ok := s.Ring.Key(id)
	if !ok {
		return replay.Key{}
	}
	return replay.Key{Created: k.Created, Joined: k.Joined}
}

// stood finds policies by their digests: those that keys have at present, and the one that is asked about, which may have
// been some key's before.
func (s *Service) stood(asked *policy.Policy) func(string) *policy.Policy {
	known := map[string]*policy.Policy{policy.Digest(bare(asked)): asked}
	for _, k := range s.Ring.Keys() {
		known[k.PolicyDigest] = k.Policy
	}
	return func(digest string) *policy.Policy { return known[digest] }
}

// read gives the replay its records. stopped: the time was up before the end.
func (r *replayRun) read(ctx context.Context) (stopped bool, err error) {
	q := store.RecordQuery{Ascending: true, Limit: auditPage}
	start := replay.Start(r.policy, r.since)
	if r.key != nil {
		q.Key = r.key.ID
	}
	var height int64
	err = r.s.Store.View(ctx, func(tx store.Tx) (err error) {
		if height, _, err = tx.Height(); err != nil || start.IsZero() {
			return err
		}
		q.From, err = tx.FirstAt(start)
		return err
	})
	if ctx.Err() != nil {
		return true, cancelled(ctx)
	}
	if err != nil {
		return false, understood("read the audit", err)
	}
	q.To = height // what is added meanwhile would keep it reading
	for height > 0 {
		page, err := r.s.query(ctx, q)
		if ctx.Err() != nil {
			return true, cancelled(ctx)
		}
		if err != nil {
			return false, err
		}
		for i := range page.Entries {
			if err := r.add(&page.Entries[i]); err != nil {
				return false, err
			}
		}
		if q.After = page.Next; q.After == 0 {
			return false, nil
		}
		now, err := r.s.height(ctx)
		if err == nil {
			err = r.s.replays.turn(ctx, now > height, replayEvery)
			height = now
		}
		if ctx.Err() != nil {
			return true, cancelled(ctx)
		}
		if err != nil {
			return false, err
		}
	}
	return false, nil
}

// cancelled is the error of a replay that nobody waits for any more; nil if its time was up.
func cancelled(ctx context.Context) error {
	if err := context.Cause(ctx); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

func (s *Service) height(ctx context.Context) (height int64, err error) {
	err = s.Store.View(ctx, func(tx store.Tx) error {
		height, _, err = tx.Height()
		return err
	})
	return height, understood("read the audit", err)
}

// add takes one entry: those of no key, of another upstream and of `keybrake verify` are none of the policy's.
func (r *replayRun) add(e *audit.Entry) error {
	if e.Key == "" {
		return nil
	}
	rec, err := audit.Decode(e.Bytes)
	if err != nil {
		return err
	}
	if r.key == nil {
		if k, ok := r.s.Ring.Key(rec.Key); ok && k.Probe || r.upstream != "" && rec.Upstream != r.upstream {
			return nil
		}
	}
	return r.replay.Add(rec)
}

// told is the report as it goes out.
func (r *replayRun) told(stopped bool) Replay {
	in := r.replay.Report()
	out := Replay{
		Since: r.since.UTC(), Until: in.Last, Stopped: stopped, Shadow: r.policy.Enforcement == policy.Shadow,
		Timezone: r.policy.Timezone.String(), Records: in.Records, Calls: in.Calls, ReplayVerdicts: verdictsOf(&in.Verdicts),
		Other: in.Other, Rules: rulesOf(in.Rules), Lifted: rulesOf(in.Lifted), Reasons: []ReplayReason{}, Days: []ReplayDay{},
		Caps: []ReplayCap{}, Keys: []ReplayKey{}, KeysCut: in.KeysCut, Uncounted: in.Uncounted, Forgotten: in.Forgotten, Warnings: r.warnings,
		Examples: ReplayCalls{NewlyRefused: callsOf(in.RefusedCalls), NewlyAllowed: callsOf(in.AllowedCalls), Untold: callsOf(in.UntoldCalls)},
	}
	if r.key != nil {
		out.Key, out.KeyName = string(r.key.ID), r.key.Name
	}
	for _, x := range in.Reasons {
		out.Reasons = append(out.Reasons, ReplayReason{x.Why, tallyOf(x.Tally)})
	}
	for i := range in.Days {
		d := &in.Days[i]
		out.Days = append(out.Days, ReplayDay{d.Day, string(d.Resource), verdictsOf(&d.Verdicts)})
	}
	for i := range in.Keys {
		k := &in.Keys[i]
		out.Keys = append(out.Keys, ReplayKey{string(k.ID), k.Name, verdictsOf(&k.Verdicts)})
	}
	for _, p := range in.Caps {
		out.Caps = append(out.Caps, ReplayCap{
			Resource: string(p.Cap.Resource), Per: p.Cap.Per.String(), Unit: p.Cap.Unit.String(), Limit: figure(p.Cap.Unit, p.Cap.Limit),
			Used: figure(p.Cap.Unit, p.Used), Window: p.Window, Key: string(p.Key), At: p.At, Refuses: p.Refuses,
		})
	}
	return out
}

func tallyOf(t replay.Tally) ReplayTally {
	return ReplayTally{t.Calls, figure(policy.UnitUSD, int64(t.Asked)), figure(policy.UnitUSD, int64(t.Moved))}
}

func verdictsOf(v *replay.Verdicts) ReplayVerdicts {
	return ReplayVerdicts{tallyOf(v.Allowed), tallyOf(v.Refused), tallyOf(v.NewlyRefused), tallyOf(v.NewlyAllowed), tallyOf(v.Untold)}
}

func rulesOf(in []replay.RuleTally) []ReplayRule {
	out := []ReplayRule{}
	for _, r := range in {
		out = append(out, ReplayRule{r.Rule, string(r.Code), tallyOf(r.Tally)})
	}
	return out
}

func callsOf(in []replay.Example) []ReplayCall {
	out := []ReplayCall{}
	for _, e := range in {
		out = append(out, ReplayCall{
			Record: e.Record, At: e.At, Key: string(e.Key), KeyName: e.KeyName, Operation: string(e.Operation), Object: e.Object,
			Customers: texts(e.Customers), USD: figure(policy.UnitUSD, int64(e.Asked)), Rule: e.Rule, Message: e.Message, Why: e.Why,
		})
	}
	return out
}

func (a *api) replay() {
	handle(a, route{http.MethodPost, "policies/replay", "replay-policy", "Run a policy over recorded calls: what it would have refused and allowed", vault.ToSee, maxPolicyBody},
		func(ctx context.Context, _ Actor, in *body[ReplayRequest]) (Replay, error) {
			return a.s.Replay(ctx, in.Body)
		})
}

// Replay calls Service.Replay.
func (c *Client) Replay(ctx context.Context, req ReplayRequest) (Replay, error) {
	return call[Replay](ctx, c, http.MethodPost, "policies/replay", nil, req)
}
