package admin

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/keybrake/keybrake/internal/vault"
)

// Bounds of what the API reads.
const (
	// maxPolicyBody holds a policy file of a megabyte as a JSON string, escapes included.
	maxPolicyBody = 4 << 20
	// maxRatesBody is above what money.ParseRates takes, so that its message is the one seen.
	maxRatesBody = 17 << 20
)

// prefix is where the API lives.
const prefix = "/admin/v1/"

// api registers operations.
type api struct {
	s    *Service
	huma huma.API
}

// Handler returns the admin port: the API under /admin/v1/, its description at /admin/openapi.json, /healthz
// and /readyz. Every other request is refused. A server that gives it a base context which ends at shutdown
// also ends tails.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	a := &api{s: s, huma: humago.New(mux, described())}
	handle(a, route{http.MethodGet, "status", "status", "How the server is, and how far the record", vault.ToSee, 0},
		func(ctx context.Context, _ Actor, _ *none) (Status, error) { return s.Status(ctx) })
	handle(a, route{http.MethodGet, "overview", "overview", "What stands out among all keys", vault.ToSee, 0},
		func(ctx context.Context, _ Actor, _ *none) (Overview, error) { return s.Overview(ctx) })
	a.permissions()
	a.policies()
	a.history()
	a.replay()
	a.chain()
	a.upstreams()
	a.secrets()
	a.keys()
	a.rotation()
	a.revocation()
	a.brakes()
	a.rates()
	a.people()
	a.audit()
	a.verify()
	a.statement()
	a.reconcile()
	a.alerts()
	a.nodes()
	stream(a, route{http.MethodPost, "backup", "backup", "Write a copy of the store", vault.ToChange, 0}, a.backup, sqliteFile)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "ok\n") })
	mux.HandleFunc("GET /readyz", s.readyz)
	if s.Metrics != nil {
		mux.Handle("GET /metrics", permitted(vault.ToSee, s.Metrics))
	}
	return s.guard(mux)
}

// hideValues keeps what was sent out of validation errors: it may be a secret.
func hideValues(_ huma.Context, _ string, v any) (any, error) {
	if e, ok := v.(*huma.ErrorModel); ok {
		for _, d := range e.Errors {
			d.Value = nil
		}
	}
	return v, nil
}

func (s *Service) readyz(w http.ResponseWriter, r *http.Request) {
	err := s.Store.Check(r.Context())
	if err == nil && s.Ready != nil {
		err = s.Ready(r.Context())
	}
	if err != nil {
		writeText(w, http.StatusServiceUnavailable, err.Error()+"\n")
		return
	}
	writeText(w, http.StatusOK, "ready\n")
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text) // the client went away
}

// body is a JSON request, answer a JSON answer.
type body[T any] struct{ Body T }

type none struct{}

// Done is the answer of actions that have nothing else to say.
type Done struct {
	Done bool `json:"done"`
}

type upstreamPath struct {
	Upstream string `path:"upstream"`
}

func (a *api) upstreams() {
	handleList(a, route{http.MethodGet, "upstreams", "list-upstreams", "List upstreams", vault.ToSee, 0},
		func(v UpstreamView) string { return v.ID },
		func(_ context.Context, _ Actor, _ *Paging) ([]UpstreamView, error) { return a.s.Upstreams(), nil })
	handleCreate(a, route{http.MethodPost, "upstreams", "add-upstream", "Add an upstream", vault.ToChange, 0}, a.s.AddUpstream)
	handleVersioned(a, route{http.MethodGet, "upstreams/{upstream}", "show-upstream", "Show an upstream", vault.ToSee, 0},
		func(_ context.Context, _ Actor, in *upstreamPath) (UpstreamView, error) {
			return a.s.Upstream(in.Upstream)
		})
	handleEdit(a, route{http.MethodPatch, "upstreams/{upstream}", "update-upstream", "Set the version that an upstream is pinned to, or when its secret is due", vault.ToChange, 0},
		func(ctx context.Context, who Actor, in *struct {
			Upstream string `path:"upstream" doc:"id or name"`
			Condition
			Body UpstreamUpdate
		}, ifMatch string) (UpstreamView, error) {
			in.Body.IfMatch = ifMatch
			return a.s.UpdateUpstream(ctx, who, in.Upstream, in.Body)
		})
	handle(a, route{http.MethodDelete, "upstreams/{upstream}", "remove-upstream", "Remove an upstream", vault.ToChange, 0},
		func(ctx context.Context, who Actor, in *upstreamPath) (Done, error) {
			err := a.s.RemoveUpstream(ctx, who, in.Upstream)
			return Done{err == nil}, err
		})
}

type keyPath struct {
	Key string `path:"key" doc:"id or name"`
}

// KeyQuery is a KeyFilter as a query. It is exported because only such embedded fields are read from requests.
type KeyQuery struct {
	Match    string `query:"match" doc:"glob over names"`
	Upstream string `query:"upstream"`
	Revoked  bool   `query:"revoked"`
	Paging
}

func (q *KeyQuery) filter() KeyFilter {
	return KeyFilter{Match: q.Match, Upstream: q.Upstream, Revoked: q.Revoked, After: q.After, Limit: q.Limit}
}

// Reason is why something is done.
type Reason struct {
	Reason string `json:"reason,omitempty" maxLength:"500"`
}

func (a *api) keys() {
	handle(a, route{http.MethodGet, "keys", "list-keys", "List vault keys", vault.ToSee, 0},
		func(_ context.Context, _ Actor, in *KeyQuery) (List[KeyView], error) { return a.s.Keys(in.filter()) })
	handle(a, route{http.MethodGet, "standings", "list-standings", "List vault keys with how close they are to their caps", vault.ToSee, 0},
		func(ctx context.Context, _ Actor, in *struct {
			KeyQuery
			Search string `query:"search" doc:"a part of the name, or an id"`
			Brake  string `query:"brake" enum:"normal,read-only,stopped"`
			Mode   string `query:"mode" enum:"test,live"`
			Sort   string `query:"sort" enum:"closest,called,name,created,expires" default:"closest"`
		}) (List[KeyStanding], error) {
			return a.s.Standings(ctx, StandingFilter{in.Search, in.Brake, in.Mode, in.Sort, in.filter()})
		})
	handleCreate(a, route{http.MethodPost, "keys", "create-key", "Create a vault key", vault.ToChange, maxPolicyBody}, a.s.CreateKey)
	handleVersioned(a, route{http.MethodGet, "keys/{key}", "show-key", "Show a vault key", vault.ToSee, 0},
		func(ctx context.Context, _ Actor, in *keyPath) (KeyDetail, error) { return a.s.Key(ctx, in.Key) })
	handleEdit(a, route{http.MethodPatch, "keys/{key}", "update-key", "Change what a vault key may do", vault.ToLower, maxPolicyBody},
		func(ctx context.Context, who Actor, in *struct {
			Key string `path:"key" doc:"id or name"`
			Condition
			Body KeyUpdate
		}, ifMatch string) (KeyChanged, error) {
			in.Body.IfMatch = ifMatch
			return a.s.UpdateKey(ctx, who, in.Key, in.Body)
		})
	handle(a, route{http.MethodGet, "spend", "spend", "How the caps stand", vault.ToSee, 0},
		func(ctx context.Context, _ Actor, in *KeyQuery) (Spend, error) { return a.s.Spend(ctx, in.filter()) })
}

// BrakeList are the brakes that are pulled, and the calls on their way.
type BrakeList struct {
	Items    []Brake `json:"items"`
	Next     string  `json:"next"`
	InFlight int64   `json:"in_flight" doc:"of everything"`
}

// killRoute is the operation that stops calls.
const killRoute = "kill"

func (a *api) brakes() {
	handle(a, route{http.MethodPost, "kill", killRoute, "Stop calls, now", vault.ToStop, 0},
		func(ctx context.Context, who Actor, in *body[KillRequest]) (KillAnswer, error) {
			return a.s.Kill(ctx, who, in.Body)
		})
	handle(a, route{http.MethodPost, "resume", "resume", "Lift one brake", vault.ToLower, 0},
		func(ctx context.Context, who Actor, in *body[ResumeRequest]) (ResumeAnswer, error) {
			return a.s.Resume(ctx, who, in.Body)
		})
	handle(a, route{http.MethodGet, "brakes", "list-brakes", "List what is stopped", vault.ToSee, 0},
		func(_ context.Context, _ Actor, in *Paging) (BrakeList, error) {
			page, err := cut(a.s.Brakes(), *in, func(b Brake) string { return b.Scope + ":" + b.ID })
			return BrakeList{Items: page.Items, Next: page.Next, InFlight: a.s.Ring.InFlight(ringScope("all"))}, err
		})
}

func (a *api) rates() {
	handleVersioned(a, route{http.MethodGet, "rates", "list-rates", "List exchange rates", vault.ToSee, 0},
		func(_ context.Context, _ Actor, in *Paging) (RateTable, error) {
			all := a.s.ListRates()
			page, err := cut(all.Items, *in, func(r Rate) string { return r.Currency })
			return RateTable{page.Items, page.Next, all.ETag}, err
		})
	handleEdit(a, route{http.MethodPost, "rates", "set-rates", "Set exchange rates", vault.ToChange, 0},
		func(ctx context.Context, who Actor, in *struct {
			Condition
			Body RateInputs
		}, ifMatch string) (RateTable, error) {
			in.Body.IfMatch = ifMatch
			return a.s.SetRates(ctx, who, in.Body)
		})
	handleEdit(a, route{http.MethodPost, "rates/import", "import-rates", "Import a file of exchange rates", vault.ToChange, maxRatesBody},
		func(ctx context.Context, who Actor, in *struct {
			Condition
			RawBody []byte `contentType:"text/csv"`
		}, ifMatch string) (RateTable, error) {
			return a.s.ImportRates(ctx, who, newReader(in.RawBody), ifMatch)
		})
}

type auditQuery struct {
	Key       string `query:"key" doc:"id or name"`
	Operation string `query:"operation" doc:"like refunds.create"`
	Resource  string `query:"resource" doc:"of the operation, or the bucket that its money counts in"`
	Verdict   string `query:"verdict" doc:"allow or deny"`
	Code      string `query:"code" doc:"of any rule that was broken"`
	Customer  string `query:"customer"`
	Call      string `query:"call" doc:"aud_... of any of its records, rsv_..., or a request id, ours or the vendor's"`
	Agent     string `query:"agent" doc:"a part of the User-Agent, the run id or the trace id, letter for letter"`
	MinUSD    string `query:"min_usd" doc:"some movement of money is at least that large, like 20.00"`
	MaxUSD    string `query:"max_usd" doc:"some movement of money is at most that large, and at least min_usd where both are given"`
	Deeds     bool   `query:"deeds" doc:"only what operators and the server itself did"`
	Text      string `query:"text" doc:"a part of a deed's action, subject, change or reason, whatever the case"`
	Since     string `query:"since" doc:"a time, a date, or how long ago (24h, 7d); inclusive"`
	Until     string `query:"until" doc:"likewise; exclusive"`

	After     string `query:"after" doc:"listings only: go on after this record; a page's next"`
	Scan      int    `query:"scan" doc:"listings only: the most records that a page looks at, up to 20000"`
	Limit     int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"listings only: the most items in the answer"`
	Ascending bool   `query:"ascending" doc:"listings only: oldest first"`
	Format    string `query:"format" enum:"jsonl,csv" default:"jsonl" doc:"exports only"`
	Lines     int    `query:"lines" doc:"tails only: records to begin with"`
}

func (q *auditQuery) filter(now time.Time) (AuditFilter, error) {
	f := AuditFilter{
		Key: q.Key, Operation: q.Operation, Resource: q.Resource, Verdict: q.Verdict, Code: q.Code, Customer: q.Customer,
		Call: q.Call, Agent: q.Agent, MinUSD: q.MinUSD, MaxUSD: q.MaxUSD, After: q.After, Limit: q.Limit, Ascending: q.Ascending,
		Deeds: q.Deeds, Text: q.Text, Scan: q.Scan,
	}
	var badSince, badUntil error
	f.Since, badSince = ParseInstant(q.Since, now)
	f.Until, badUntil = ParseInstant(q.Until, now)
	return f, together(located("query.since", badSince), located("query.until", badUntil))
}

// asked reads a filter; everything that is wrong with it is said at once.
func (a *api) asked(ctx context.Context, q *auditQuery) (AuditFilter, error) {
	f, badTimes := q.filter(a.s.Store.Now())
	if badTimes == nil {
		return f, nil
	}
	_, rest := a.s.search(ctx, f)
	return f, together(badTimes, rest)
}

func (a *api) audit() {
	handle(a, route{http.MethodGet, "audit", "list-audit", "List audit records; a page looks at a bounded number of them, so go on while there is a next", vault.ToSee, 0},
		func(ctx context.Context, _ Actor, in *auditQuery) (List[json.RawMessage], error) {
			f, err := a.asked(ctx, in)
			if err != nil {
				return List[json.RawMessage]{}, err
			}
			return a.s.Audit(ctx, f)
		})
	handle(a, route{http.MethodGet, "audit/records/{id}", "show-audit", "Show a record and its call's others", vault.ToSee, 0},
		func(ctx context.Context, _ Actor, in *struct {
			ID string `path:"id"`
		}) (List[json.RawMessage], error) {
			return a.s.AuditRecord(ctx, in.ID)
		})
	handle(a, route{http.MethodGet, "audit/verify", "verify-audit", "Check the audit chain", vault.ToSee, 0},
		func(ctx context.Context, _ Actor, _ *none) (Verification, error) { return a.s.VerifyAudit(ctx) })
	stream(a, route{http.MethodGet, "audit/export", "export-audit", "Export the audit as JSON Lines or CSV", vault.ToSee, 0}, a.export, jsonLines, "text/csv")
	stream(a, route{http.MethodGet, "audit/tail", "tail-audit", "Follow the audit, one record per line", vault.ToSee, 0}, a.tail, jsonLines)
}
