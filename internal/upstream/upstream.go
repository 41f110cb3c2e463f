// Package upstream is what the data plane must know of a vendor, and no more: how a raw request becomes
// a Call that can be judged, what must be looked up, what an answer means for the money, and how a
// denial looks to the vendor's SDKs. Each vendor is a folder below; only cmd/keybrake names one.
package upstream

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
)

// RawCall is an agent's request as the edge read it. Nothing in it has been judged, and no byte of it
// is ever sent on.
type RawCall struct {
	Method string
	Path   string // as on the wire, still escaped, without the query
	Query  string // as on the wire, without the question mark
	Header http.Header
	Body   []byte
	// Stream is the body of a form with a file in it, still unread, instead of Body. Parse reads it once, and
	// keeps what it found in Form and Upload for a second look; whoever made the RawCall closes Upload.
	Stream io.Reader
	Form   string
	Upload *Upload
}

// Call is a request in our own form: everything that was decided on and everything that will be sent.
// A Call belongs to one goroutine.
type Call struct {
	Operation policy.Operation
	Method    string
	Template  string // "/v1/refunds/{refund}": bounded, for logs and metrics
	Path      string // canonical and escaped, as it will be sent
	Query     string // canonical, as it will be sent
	Body      []byte // canonical, as it will be sent; nil for none
	// Header holds what will be forwarded, from a closed list; never credentials, never the agent's
	// idempotency key.
	Header http.Header
	// IdempotencyKey is the agent's own; empty for none. At most 255 bytes.
	IdempotencyKey string
	// Fingerprint is a digest of the operation and the agent's parameters before pinning: two calls with
	// the same fingerprint ask for the same thing.
	Fingerprint [32]byte
	Account     policy.AccountID
	// AttachFor is how long after its first send a write may be attached to again.
	AttachFor time.Duration
	// MarksReplays: the vendor marks an answer that it gives again under an idempotency key; one without the mark is a
	// second run.
	MarksReplays bool
	// SecretsPass: the key's policy lets client secrets through, so what a declined attempt left behind can
	// still be paid without another call of ours and stays counted. Set by the gateway.
	SecretsPass bool
	// Upstream is where the call goes; what an adapter remembers of one upstream's objects says nothing about
	// another's. Set by the gateway; empty: nothing is remembered.
	Upstream policy.UpstreamID
	// Host is which of the vendor's hosts takes the call ("" = the API; "files").
	Host string
	// Upload is the file that goes with the call, and Fields the rest of its form; nil for none.
	Upload *Upload
	Fields []FormField
	// Vendor carries what the adapter needs again later (parsed parameters, the catalog's row).
	Vendor any
}

// Writes reports whether the call may change something.
func (c *Call) Writes() bool { return c.Operation.Access == policy.Write }

// Answer is what came back from a vendor, or why nothing did. The zero Answer says nothing at all: it is
// read as an unknown outcome.
type Answer struct {
	Status int // 0 = no answer
	Header http.Header
	Body   []byte
	// Err is why there is no (whole) answer.
	Err error
	// Sent reports whether any byte of the request may have reached the vendor. Only Sent=false is proof
	// that nothing happened.
	Sent bool
	// Took is the time from dialling to the last byte.
	Took time.Duration
}

// Fate is what became of a call's money. The zero value is the one that keeps the hold.
type Fate uint8

// The fates.
const (
	Unknown Fate = iota
	Refused
	Moved
)

// String returns the word used in records.
func (f Fate) String() string {
	switch f {
	case Refused:
		return "refused"
	case Moved:
		return "moved"
	default:
		return "unknown"
	}
}

// Outcome is what an answer says. The zero Outcome is unknown.
type Outcome struct {
	Fate Fate
	// Moved lists what each of the operation's effects came to, in the same order; set when Fate is Moved.
	Moved []MovedEffect
	// Pending: counted, but not final; a later truth may lower it.
	Pending bool
	// Finals are objects that reached their final state through this call (canceled, failed, final
	// partial capture): what the principal was counted for beyond Amount is given back, in the window
	// where it was held.
	Finals []Final
	// NewCustomer is the customer that the call created.
	NewCustomer policy.CustomerID
	// Customers are those that the answer names, each once and of a long list the first ones: for the record.
	Customers []policy.CustomerID
	// Replayed: the vendor marked the answer as a replay of an earlier run.
	Replayed bool
	// RequestID is the vendor's.
	RequestID string
	// CredentialRefused: the vendor refused our secret, not the agent's wish.
	CredentialRefused bool
	// Garbled: the answer is not the vendor's word, or not whole, so that nothing of it can be shown.
	Garbled bool
	// Why explains Unknown and Refused in one phrase for the record ("500 from upstream", "card_declined").
	Why string
}

// MovedEffect is what one effect came to.
type MovedEffect struct {
	Amount money.Amount
	Object policy.ObjectID // under which later calls are counted together; empty for none
}

// Final is the last word about an object.
type Final struct {
	Bucket policy.Resource
	Object policy.ObjectID
	Amount money.Amount // what remains counted
}

// Look is one read-only request for a decision: an object, or a preview of what a call would come to. All of
// it is canonical and escaped.
type Look struct {
	Method, Path, Query string
	Body                []byte // nil for none
}

// Lookup reads one object for a decision. It returns the vendor's status and body; err only when there was no
// answer.
type Lookup func(ctx context.Context, look Look) (status int, body []byte, err error)

// Adapter is one vendor. All methods are safe for concurrent use.
type Adapter interface {
	// TakesUpload reports whether a request's body is a form with a file, which the edge must not read into
	// memory. path is as on the wire.
	TakesUpload(method, path, contentType string) bool
	// Base returns where one of the vendor's hosts (Call.Host) is, for an upstream whose API is at base.
	Base(base *url.URL, host string) *url.URL
	// Parse matches the route, reads the parameters strictly and classifies the call. A non-nil Refusal
	// ends the call; the Call is then nil or good for the record only. pinnedVersion is sent when the
	// agent names none.
	Parse(raw *RawCall, pinnedVersion string) (*Call, *policy.Refusal)
	// Resolve completes call.Operation with what only the vendor knows, and pins resolved amounts into
	// the call's Body. Under a policy with customers `any` customers are not looked up. An error means
	// that the vendor could not be asked; a Refusal that its answer ends the call.
	Resolve(ctx context.Context, call *Call, p *policy.Policy, look Lookup) (*policy.Refusal, error)
	// Outcome reads an answer to a call that was sent (or could not be).
	Outcome(call *Call, answer *Answer) Outcome
	// Follow completes an Outcome whose amounts stand in objects that the answer only names, by reading them.
	// An error means that one could not be read; its amount then stays as it was held.
	Follow(ctx context.Context, call *Call, answer *Answer, o *Outcome, look Lookup) error
	// Guard turns the vendor's answer into what the agent may see.
	Guard(call *Call, p *policy.Policy, answer *Answer) Guarded
	// Refuse renders a denial or failure so that the vendor's SDKs raise it and treat it as they should.
	Refuse(d Denial) Response
}

// Guarded is an answer that may be shown.
type Guarded struct {
	Status int
	Header http.Header
	Body   []byte
	// Foreign names what tripped the guard (a customer that is not allowed). For a read the answer must
	// be replaced by a denial; for an executed write Body is already cut down to the bare facts and the key must
	// freeze.
	Foreign policy.CustomerID
	// Tripped is true if Foreign (or a guest) was found.
	Tripped bool
	// Withheld counts secrets that were removed.
	Withheld int
}

// Denial is what the gateway wants to tell an agent instead of an answer.
type Denial struct {
	Code    policy.Code
	Message string
	Param   string
	AuditID string
	// RequestID is ours, in the vendor's form.
	RequestID string
	// ScopeStatus is the status of out-of-scope denials: 401, or 403 by setting.
	ScopeStatus int
	// Retry tells SDKs whether the same call may be sent again.
	Retry bool
	// Cap has the figures of a full cap.
	Cap *policy.CapFailure
	// Rule is the rule that refused, in the policy's words.
	Rule string
	// Reservation is set where an outcome is unknown.
	Reservation string
}

// Response is what is written to an agent.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}
