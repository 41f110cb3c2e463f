package audit

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
)

// Decode reads a record from its stored bytes, for showing and searching. Fields that a later version
// added are ignored. It checks form only: whether the bytes are the ones that were written is Verify's.
func Decode(b []byte) (*Record, error) {
	var in recordJSON
	if err := json.Unmarshal(b, &in); err != nil {
		return nil, fmt.Errorf("decode audit record: %w", err)
	}
	return in.record()
}

// MarshalJSON writes the record as AppendJSON does, so that there is one form of it everywhere.
func (r *Record) MarshalJSON() ([]byte, error) { return r.AppendJSON(nil), nil }

// recordJSON has the fields of the encoded form, in its order.
type recordJSON struct {
	Seq   int64     `json:"seq"`
	Chain string    `json:"chain"`
	At    time.Time `json:"at"`
	Kind  Kind      `json:"kind"`
	Ref   int64     `json:"ref"`

	Key        policy.KeyID      `json:"key"`
	KeyName    string            `json:"key_name"`
	Credential string            `json:"credential"`
	Presented  string            `json:"presented"`
	Upstream   policy.UpstreamID `json:"upstream"`
	Mode       string            `json:"mode"`
	Policy     string            `json:"policy"`
	From       string            `json:"from"`
	UserAgent  string            `json:"user_agent"`
	RunID      string            `json:"run_id"`
	Node       string            `json:"node"`

	Trace      string `json:"trace"`
	ParentSpan string `json:"parent_span"`
	Span       string `json:"span"`
	TraceState string `json:"trace_state"`

	Request   string               `json:"request"`
	Operation policy.OperationName `json:"operation"`
	Method    string               `json:"method"`
	Route     string               `json:"route"`
	Object    string               `json:"object"`
	Customers []policy.CustomerID  `json:"customers"`
	Account   policy.AccountID     `json:"account"`
	Effects   []effectJSON         `json:"effects"`
	judgedJSON
	Repeat string `json:"repeat"`

	Verdict  string        `json:"verdict"`
	Shadowed bool          `json:"shadowed"`
	Failures []failureJSON `json:"failures"`
	Caps     []capJSON     `json:"caps"`

	Status          int               `json:"status"`
	UpstreamStatus  int               `json:"upstream_status"`
	UpstreamRequest string            `json:"upstream_request"`
	Fate            string            `json:"fate"`
	Proof           string            `json:"proof"`
	Reservation     int64             `json:"reservation"`
	Finals          []finalJSON       `json:"finals"`
	Pending         bool              `json:"pending"`
	Alone           bool              `json:"alone"`
	Created         policy.CustomerID `json:"created"`
	Why             string            `json:"why"`
	Replayed        bool              `json:"replayed"`
	Guarded         bool              `json:"guarded"`
	Withheld        int               `json:"withheld"`
	OursMicros      int64             `json:"ours_us"`
	TheirsMicros    int64             `json:"theirs_us"`

	Operator string `json:"operator"`
	Action   string `json:"action"`
	Subject  string `json:"subject"`
	Diff     string `json:"diff"`
	Reason   string `json:"reason"`
	InFlight int64  `json:"in_flight"`
	Count    int64  `json:"count"`
}

func (in *recordJSON) record() (*Record, error) {
	r := &Record{
		Seq: in.Seq, Chain: in.Chain, At: in.At.UTC(), Kind: in.Kind, Ref: in.Ref,
		Key: in.Key, KeyName: in.KeyName, Credential: in.Credential, Presented: in.Presented, Upstream: in.Upstream, Mode: in.Mode,
		Policy: in.Policy, From: in.From, UserAgent: in.UserAgent, RunID: in.RunID, Node: in.Node,
		Trace: in.Trace, ParentSpan: in.ParentSpan, Span: in.Span, TraceState: in.TraceState,
		Request: in.Request, Operation: in.Operation, Method: in.Method, Route: in.Route, Object: in.Object,
		Customers: in.Customers, Account: in.Account, Repeat: in.Repeat,
		Verdict: in.Verdict, Shadowed: in.Shadowed,
		Status: in.Status, UpstreamStatus: in.UpstreamStatus, UpstreamRequest: in.UpstreamRequest,
		Fate: in.Fate, Proof: in.Proof, Reservation: in.Reservation, Why: in.Why,
		Replayed: in.Replayed, Guarded: in.Guarded, Withheld: in.Withheld,
		OursMicros: in.OursMicros, TheirsMicros: in.TheirsMicros,
		Operator: in.Operator, Action: in.Action, Subject: in.Subject, Diff: in.Diff, Reason: in.Reason,
		InFlight: in.InFlight, Count: in.Count,
		Judged: in.judged(), Pending: in.Pending, Alone: in.Alone, Created: in.Created,
	}
	for _, e := range in.Effects {
		r.Effects = append(r.Effects, Effect{
			Bucket: e.Bucket, Amount: money.Amount{Minor: e.Amount, Currency: e.Currency},
			USD: e.USD, Rate: e.Rate, Object: e.Object,
			Value: e.Value, MarginBP: e.MarginBP, Mode: modeOf(e.Mode), Ceiling: e.Ceiling, LookedUp: e.LookedUp,
		})
	}
	for _, f := range in.Finals {
		r.Finals = append(r.Finals, Final{Bucket: f.Bucket, Object: f.Object, Amount: money.Amount{Minor: f.Amount, Currency: f.Currency}})
	}
	for _, f := range in.Failures {
		r.Failures = append(r.Failures, f.failure())
	}
	for i := range in.Caps {
		c, err := in.Caps[i].cap()
		if err != nil {
			return nil, fmt.Errorf("decode audit record %d: %w", in.Seq, err)
		}
		r.Caps = append(r.Caps, c)
	}
	return r, nil
}

type effectJSON struct {
	Bucket   string         `json:"bucket"`
	Amount   int64          `json:"amount"`
	Currency money.Currency `json:"currency"`
	USD      money.USD      `json:"usd"`
	Rate     money.RateID   `json:"rate"`
	Object   string         `json:"object"`

	Value    int64  `json:"rate_value"`
	MarginBP int64  `json:"margin_bp"`
	Mode     string `json:"mode"`
	Ceiling  int64  `json:"ceiling"`
	LookedUp bool   `json:"looked_up"`
}

type finalJSON struct {
	Bucket   string         `json:"bucket"`
	Object   string         `json:"object"`
	Amount   int64          `json:"amount"`
	Currency money.Currency `json:"currency"`
}

// modeOf reads what modeNames writes.
func modeOf(word string) policy.CountMode {
	return policy.CountMode(max(0, slices.Index(modeNames[:], word)))
}

type failureJSON struct {
	Code    policy.Code `json:"code"`
	Rule    string      `json:"rule"`
	Param   string      `json:"param"`
	Message string      `json:"message"`
	Soft    bool        `json:"soft"`
}

func (f failureJSON) failure() policy.Failure {
	return policy.Failure{Code: f.Code, Rule: f.Rule, Param: f.Param, Message: f.Message, Soft: f.Soft}
}

type capJSON struct {
	Resource string          `json:"resource"`
	Per      string          `json:"per"`
	Unit     string          `json:"unit"`
	Limit    json.RawMessage `json:"limit"`
	Held     json.RawMessage `json:"held"`
	Settled  json.RawMessage `json:"settled"`
	Left     json.RawMessage `json:"left"`
	ResetsAt time.Time       `json:"resets_at"`
}

func (in *capJSON) cap() (Cap, error) {
	out := Cap{Resource: in.Resource, Per: in.Per, ResetsAt: in.ResetsAt.UTC()}
	for _, u := range [...]policy.Unit{policy.UnitUSD, policy.UnitCalls} {
		if u.String() == in.Unit {
			out.Unit = u
		}
	}
	for _, f := range [...]struct {
		raw json.RawMessage
		to  *int64
	}{{in.Limit, &out.Limit}, {in.Held, &out.Held}, {in.Settled, &out.Settled}, {in.Left, &out.Left}} {
		if len(f.raw) == 0 {
			continue
		}
		var err error
		if out.Unit == policy.UnitUSD {
			err = json.Unmarshal(f.raw, (*money.USD)(f.to))
		} else {
			err = json.Unmarshal(f.raw, f.to)
		}
		if err != nil {
			return Cap{}, fmt.Errorf("cap %s/%s: %w", in.Resource, in.Per, err)
		}
	}
	return out, nil
}
