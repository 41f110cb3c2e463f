package console

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/admin"
)

// record is an audit record as the API writes it: what pages show of it.
type record struct {
	ID      string    `json:"id"`
	Seq     int64     `json:"seq"`
	At      time.Time `json:"at"`
	Kind    string    `json:"kind"`
	Ref     int64     `json:"ref"`
	Key     string    `json:"key"`
	KeyName string    `json:"key_name"`
	// Presented is the credential that was sent, masked, where no key is known.
	Presented string   `json:"presented"`
	Upstream  string   `json:"upstream"`
	Mode      string   `json:"mode"`
	Policy    string   `json:"policy"`
	From      string   `json:"from"`
	UserAgent string   `json:"user_agent"`
	RunID     string   `json:"run_id"`
	Node      string   `json:"node"`
	Trace     string   `json:"trace"`
	Request   string   `json:"request"`
	Operation string   `json:"operation"`
	Access    string   `json:"access"` // read or write
	Method    string   `json:"method"`
	Route     string   `json:"route"`
	Object    string   `json:"object"`
	Customers []string `json:"customers"`
	Account   string   `json:"account"`
	Effects   []effect `json:"effects"`
	Repeat    string   `json:"repeat"`

	Verdict  string           `json:"verdict"`
	Shadowed bool             `json:"shadowed"`
	Failures []failure        `json:"failures"`
	Caps     []admin.SpendCap `json:"caps"`

	Status          int    `json:"status"`
	UpstreamStatus  int    `json:"upstream_status"`
	UpstreamRequest string `json:"upstream_request"`
	Fate            string `json:"fate"`
	Proof           string `json:"proof"`
	Reservation     int64  `json:"reservation"`
	Why             string `json:"why"`
	Replayed        bool   `json:"replayed"`
	Guarded         bool   `json:"guarded"`
	Withheld        int    `json:"withheld"`
	OursMicros      int64  `json:"ours_us"`
	TheirsMicros    int64  `json:"theirs_us"`

	Operator string `json:"operator"`
	Action   string `json:"action"`
	Subject  string `json:"subject"`
	Diff     string `json:"diff"`
	Reason   string `json:"reason"`
	InFlight int64  `json:"in_flight"`
	Count    int64  `json:"count"`

	// Raw is the record as it was answered.
	Raw string `json:"-"`
}

type effect struct {
	Bucket   string `json:"bucket"`
	Amount   int64  `json:"amount"`
	Currency string `json:"currency"`
	USD      string `json:"usd"`
	Object   string `json:"object"`
}

type failure struct {
	Code    string `json:"code"`
	Rule    string `json:"rule"`
	Param   string `json:"param"`
	Message string `json:"message"`
	Soft    bool   `json:"soft"`
}

// readRecords reads records of the API.
func readRecords(raw []json.RawMessage) ([]record, error) {
	out := make([]record, len(raw))
	for i := range raw {
		if err := json.Unmarshal(raw[i], &out[i]); err != nil {
			return nil, fmt.Errorf("read an audit record: %w", err)
		}
		out[i].Raw = string(raw[i])
	}
	return out, nil
}

// Chip is the verdict's chip.
func (r *record) Chip() string {
	switch {
	case r.Kind == "operator":
		return "operator"
	case r.Kind == "system", r.Kind == "reconciled" && r.Fate == "":
		return "system"
	case r.Fate == "unknown":
		return "unknown"
	case r.Verdict != "":
		return r.Verdict
	case r.Kind == "folded":
		return "deny"
	default:
		return "allow"
	}
}

// What is what the record is about: the operation, or the operator's action.
func (r *record) What() string {
	switch {
	case r.Operation != "":
		return r.Operation
	case r.Action != "":
		return r.Action
	case r.Kind == "folded":
		return fmt.Sprintf("%d more like it", r.Count)
	default:
		return r.Kind
	}
}

// Who is the key's name, or what else stands for who it was.
func (r *record) Who() string {
	switch {
	case r.KeyName != "":
		return r.KeyName
	case r.Presented != "":
		return r.Presented
	case r.Operator != "":
		return r.Operator
	default:
		return r.From
	}
}

// Money is the sum in dollars, and what became of it; empty for what moves none.
func (r *record) Money() string {
	if len(r.Effects) == 0 {
		return ""
	}
	if len(r.Effects) == 1 {
		return dollars(r.Effects[0].USD)
	}
	sums := make([]string, len(r.Effects))
	for i, e := range r.Effects {
		sums[i] = dollars(e.USD)
	}
	return strings.Join(sums, " + ")
}

// State says what became of the money, or that there was none.
func (r *record) State() string {
	switch {
	case r.Verdict == "deny":
		return "not held"
	case r.Fate == "moved":
		return "settled"
	case r.Fate == "refused":
		return "released"
	case r.Fate == "unknown", r.Kind == "intent" && len(r.Effects) > 0:
		return "held"
	default:
		return ""
	}
}

// Rule is the rule that decided, in its own words.
func (r *record) Rule() string {
	if len(r.Failures) > 0 {
		return r.Failures[0].Message
	}
	if r.Reason != "" {
		return "“" + r.Reason + "”"
	}
	return r.Why
}

// Code is the code of the rule that decided.
func (r *record) Code() string {
	if len(r.Failures) > 0 {
		return strings.TrimPrefix(r.Failures[0].Code, "keybrake_")
	}
	return ""
}

// Took is how long the call took, as far as an outcome says.
func (r *record) Took() string {
	if r.OursMicros+r.TheirsMicros == 0 {
		return ""
	}
	return milliseconds(time.Duration(r.OursMicros+r.TheirsMicros) * time.Microsecond)
}
