package stripe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

// Header names of answers that Keybrake writes itself.
const (
	headerAuditID     = "Keybrake-Audit-Id"
	headerShouldRetry = "Stripe-Should-Retry"
	headerRequestID   = "Request-Id"
)

// explanations is where every code has a heading; relative to the project, since a gateway does not know
// under which address its operators publish the pages.
const explanations = "docs/policies.md#"

// errorType is the `type` of Stripe's error object. stripe-go chooses its error by it, the other SDKs by
// the status.
type errorType string

const (
	typeInvalidRequest errorType = "invalid_request_error"
	typeIdempotency    errorType = "idempotency_error"
	typeAPI            errorType = "api_error"
)

// retryRule says what the SDKs are told about sending the same call again. The zero rule stops them.
type retryRule uint8

const (
	retryNever  retryRule = iota
	retryAlways           // nothing was sent
	retryIfSafe           // as Denial.Retry: only the gateway knows whether the call can be attached to
	retryByWill           // no header: the SDKs back off by their own rules
)

// rendering is how one code looks to an SDK.
type rendering struct {
	status int // 0 = the setting for denials by scope
	kind   errorType
	code   policy.Code // the error's `code`; empty for none, as Stripe has it
	retry  retryRule
}

// renderings has one entry per code (DESIGN.md section 6). Three codes read `keybrake_scope_denied`: an
// SDK's caller has to treat them alike, and `error.keybrake.code` keeps them apart.
var renderings = map[policy.Code]rendering{
	policy.CodeKeyInvalid:  denied(http.StatusUnauthorized, policy.CodeKeyInvalid),
	policy.CodeKeyRevoked:  denied(http.StatusUnauthorized, policy.CodeKeyRevoked),
	policy.CodeKeyExpired:  denied(http.StatusUnauthorized, policy.CodeKeyExpired),
	policy.CodeKeyKilled:   denied(http.StatusUnauthorized, policy.CodeKeyKilled),
	policy.CodeKeyReadOnly: denied(http.StatusUnauthorized, policy.CodeKeyReadOnly),
	policy.CodeKeyNetwork:  denied(http.StatusUnauthorized, policy.CodeKeyNetwork),
	policy.CodeKeyMode:     denied(http.StatusUnauthorized, policy.CodeKeyMode),
	policy.CodeFrozen:      denied(http.StatusUnauthorized, policy.CodeFrozen),

	policy.CodeScopeDenied:   denied(0, policy.CodeScopeDenied),
	policy.CodeUnknownRoute:  denied(0, policy.CodeScopeDenied),
	policy.CodeAccountDenied: denied(0, policy.CodeScopeDenied),

	policy.CodeCapExceeded:    denied(http.StatusForbidden, policy.CodeCapExceeded),
	policy.CodeUncapped:       denied(http.StatusForbidden, policy.CodeUncapped),
	policy.CodeUnmeterable:    denied(http.StatusForbidden, policy.CodeUnmeterable),
	policy.CodeNoRate:         denied(http.StatusForbidden, policy.CodeNoRate),
	policy.CodeCustomerDenied: denied(http.StatusForbidden, policy.CodeCustomerDenied),
	policy.CodeParamDenied:    denied(http.StatusForbidden, policy.CodeParamDenied),

	policy.CodeProbe: denied(http.StatusForbidden, policy.CodeProbe),

	policy.CodeMalformed:    denied(http.StatusBadRequest, policy.CodeMalformed),
	policy.CodeHeaderDenied: denied(http.StatusBadRequest, policy.CodeHeaderDenied),
	policy.CodeVersion:      denied(http.StatusBadRequest, policy.CodeVersion),

	policy.CodeIdemMismatch:   {http.StatusBadRequest, typeIdempotency, "", retryNever},
	policy.CodeIdemInUse:      {http.StatusConflict, typeIdempotency, policy.CodeIdemInUse, retryByWill},
	policy.CodeOutcomePending: {http.StatusConflict, typeIdempotency, policy.CodeOutcomePending, retryNever},

	upstream.CodeResourceMissing: denied(http.StatusNotFound, upstream.CodeResourceMissing),
	upstream.CodeUnavailable:     {http.StatusServiceUnavailable, typeAPI, upstream.CodeUnavailable, retryAlways},
	upstream.CodeUnreachable:     {http.StatusBadGateway, typeAPI, upstream.CodeUnreachable, retryAlways},
	upstream.CodeOutcomeUnknown:  {http.StatusGatewayTimeout, typeAPI, upstream.CodeOutcomeUnknown, retryIfSafe},
	upstream.CodeCredential:      {http.StatusBadGateway, typeAPI, upstream.CodeCredential, retryNever},
}

func denied(status int, code policy.Code) rendering {
	return rendering{status: status, kind: typeInvalidRequest, code: code}
}

// Refuse renders a denial or failure as Stripe's error object. The body always has a top-level `error`,
// JSON and its content type: without them stripe-go repeats the call and stripe-node takes it for a
// success. A code without a rendering of its own is a plain 403 that is not repeated.
func (a *Adapter) Refuse(d upstream.Denial) upstream.Response { return refuse(d) }

func refuse(d upstream.Denial) upstream.Response {
	r, ok := renderings[d.Code]
	if !ok {
		r = denied(http.StatusForbidden, d.Code)
	}
	if r.status == 0 {
		r.status = http.StatusUnauthorized
		if d.ScopeStatus == http.StatusForbidden {
			r.status = http.StatusForbidden
		}
	}
	h := http.Header{"Content-Type": {"application/json"}}
	setIf(h, headerRequestID, d.RequestID)
	setIf(h, headerAuditID, d.AuditID)
	switch {
	case r.retry == retryByWill:
	case r.retry == retryAlways, r.retry == retryIfSafe && d.Retry:
		h.Set(headerShouldRetry, "true")
	default:
		h.Set(headerShouldRetry, "false")
	}
	return upstream.Response{Status: r.status, Header: h, Body: errorBody(r, d)}
}

func setIf(h http.Header, name, value string) {
	if value != "" {
		h.Set(name, value)
	}
}

// errorObject is Stripe's error object. Members that Stripe leaves out are left out.
type errorObject struct {
	Type        string   `json:"type"`
	Code        string   `json:"code,omitempty"`
	DeclineCode string   `json:"decline_code,omitempty"`
	Message     string   `json:"message"`
	Param       string   `json:"param,omitempty"`
	Keybrake    *machine `json:"keybrake,omitempty"`
}

// machine says for programs what the message says for people. Its names are frozen once shipped.
type machine struct {
	Code        policy.Code `json:"code"`
	Rule        string      `json:"rule,omitempty"`
	Cap         *capState   `json:"cap,omitempty"`
	Reservation string      `json:"reservation,omitempty"`
	AuditID     string      `json:"audit_id,omitempty"`
	Doc         string      `json:"doc"`
}

// capState is how a cap stood. Figures are decimal strings of dollars under a cap in USD, whole numbers
// under a cap in calls.
type capState struct {
	Resource policy.Resource `json:"resource"`
	Per      string          `json:"per"`
	Unit     string          `json:"unit"`
	Limit    figure          `json:"limit"`
	Held     figure          `json:"held"`
	Settled  figure          `json:"settled"`
	Left     figure          `json:"left"`
	// Asked is null where the call was refused before its amount was known.
	Asked *figure `json:"asked"`
	// AskedAmount is what was asked in minor units; null where the call has no amount, or names none.
	AskedAmount *askedAmount `json:"asked_amount"`
	// ResetsAt is null for a cap that never resets.
	ResetsAt *string `json:"resets_at"`
}

// askedAmount is an amount in minor units. Its currency is null where only the object of the call knows it, and
// that was not looked up.
type askedAmount struct {
	Amount   int64           `json:"amount"`
	Currency *money.Currency `json:"currency"`
}

// figure is a number in a cap's unit.
type figure struct {
	unit  policy.Unit
	value int64
}

// MarshalJSON implements json.Marshaler.
func (f figure) MarshalJSON() ([]byte, error) {
	if f.unit == policy.UnitUSD {
		return money.USD(f.value).MarshalJSON()
	}
	return json.Marshal(f.value)
}

func errorBody(r rendering, d upstream.Denial) []byte {
	return encodeError(errorObject{
		Type: string(r.kind), Code: string(r.code), Message: d.Message, Param: d.Param,
		Keybrake: &machine{
			Code: d.Code, Rule: d.Rule, Cap: stateOf(d.Cap), Reservation: d.Reservation,
			AuditID: d.AuditID, Doc: explanations + string(d.Code),
		},
	})
}

func stateOf(f *policy.CapFailure) *capState {
	if f == nil {
		return nil
	}
	fig := func(v int64) figure { return figure{f.Cap.Unit, v} }
	s := &capState{
		Resource: f.Cap.Resource, Per: f.Cap.Per.String(), Unit: f.Cap.Unit.String(),
		Limit: fig(f.Cap.Limit), Held: fig(f.Held), Settled: fig(f.Settled), Left: fig(f.Left),
	}
	if f.Asked != 0 {
		asked := fig(f.Asked)
		s.Asked = &asked
	}
	if amount := f.AskedInCurrency; amount != (money.Amount{}) {
		s.AskedAmount = &askedAmount{Amount: amount.Minor}
		if amount.Currency != "" {
			s.AskedAmount.Currency = &amount.Currency
		}
	}
	if f.ResetsAtUnix != 0 {
		at := time.Unix(f.ResetsAtUnix, 0).UTC().Format(time.RFC3339)
		s.ResetsAt = &at
	}
	return s
}

// encodeError writes the body of an error. Signs like < and & stay readable: agents print messages.
func encodeError(e errorObject) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ") // as Stripe does
	if err := enc.Encode(struct {
		Error errorObject `json:"error"`
	}{e}); err != nil {
		panic(fmt.Sprintf("stripe: an error object does not marshal: %v", err))
	}
	return b.Bytes()
}
