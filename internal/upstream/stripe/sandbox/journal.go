package sandbox

import (
	"net/http"
	"time"
)

// Arrival is one HTTP request as it reached the sandbox, before any reading of it.
type Arrival struct {
	Seq            int       `json:"seq"` // from 1, without gaps
	At             time.Time `json:"at"`
	Method         string    `json:"method"`
	Path           string    `json:"path"` // as on the wire, still escaped
	Query          string    `json:"query,omitempty"`
	Authorization  string    `json:"authorization,omitempty"` // the key, masked
	IdempotencyKey string    `json:"idempotency_key,omitempty"`
	StripeVersion  string    `json:"stripe_version,omitempty"`
	StripeAccount  string    `json:"stripe_account,omitempty"`
	StripeContext  string    `json:"stripe_context,omitempty"`
	ContentType    string    `json:"content_type,omitempty"`
	UserAgent      string    `json:"user_agent,omitempty"`
	Body           []byte    `json:"body,omitempty"` // base64 in JSON
	RequestID      string    `json:"request_id"`
	Status         int       `json:"status"`             // 0 while it runs, and when the connection was cut
	Replayed       bool      `json:"replayed,omitempty"` // answered from the idempotency store
	Faults         []string  `json:"faults,omitempty"`
	Effects        []string  `json:"effects,omitempty"` // ids of the objects whose money moved
}

// journal is a ring of the last arrivals.
type journal struct {
	ring  []*Arrival
	keep  int
	total int
}

func (j *journal) add(a *Arrival) {
	j.total++
	a.Seq = j.total
	if len(j.ring) < j.keep {
		j.ring = append(j.ring, a)
		return
	}
	j.ring[(j.total-1)%j.keep] = a
}

// Journal returns the arrivals that are still kept, oldest first: the last
// journalKeep of them. [Server.Arrivals] counts them all. The bodies are shared;
// do not write to them. Safe for concurrent use.
func (s *Server) Journal() []Arrival {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Arrival, 0, len(s.journal.ring))
	start := 0
	if len(s.journal.ring) == s.journal.keep {
		start = s.journal.total % s.journal.keep
	}
	for i := range s.journal.ring {
		out = append(out, *s.journal.ring[(start+i)%len(s.journal.ring)])
	}
	return out
}

// Arrivals is the number of HTTP requests that ever arrived, control routes not
// counted. Safe for concurrent use.
func (s *Server) Arrivals() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.journal.total
}

// EffectKind says how money moved.
type EffectKind string

// The kinds of [Effect]. Amounts are always positive, in minor units.
const (
	EffectPayment       EffectKind = "payment"       // collected at once
	EffectAuthorization EffectKind = "authorization" // held on a card, or a hold raised by this much
	EffectCapture       EffectKind = "capture"       // collected out of an authorization
	EffectRelease       EffectKind = "release"       // an authorization, or its rest, given up
	EffectRefund        EffectKind = "refund"        // sent back to a customer, also while pending
	EffectRefundFailed  EffectKind = "refund_failed" // a refund that came back
	EffectPayout        EffectKind = "payout"        // sent to the bank, also while pending
	EffectPayoutBack    EffectKind = "payout_back"   // a payout canceled, failed or reversed

	EffectTransfer     EffectKind = "transfer"               // from the platform to a connected account
	EffectTransferBack EffectKind = "transfer_back"          // a transfer reversed
	EffectFee          EffectKind = "application_fee"        // from a connected account to the platform
	EffectFeeRefund    EffectKind = "application_fee_refund" // a fee given back
	EffectTopup        EffectKind = "topup"                  // from the account's own bank
	EffectTopupBack    EffectKind = "topup_back"             // a top-up that the bank took back
	EffectDispute      EffectKind = "dispute"                // taken away by a customer's bank
	EffectDisputeBack  EffectKind = "dispute_back"           // a dispute won
	EffectDisputeLost  EffectKind = "dispute_lost"           // given up for good; the money had left before

	// Those of financial accounts (treasury, v2), whose money is beside the balance.
	EffectOutbound       EffectKind = "outbound"        // sent to a bank, also while processing; payments and transfers
	EffectOutboundBack   EffectKind = "outbound_back"   // canceled, failed or returned
	EffectInbound        EffectKind = "inbound"         // pulled from a bank
	EffectInboundBack    EffectKind = "inbound_back"    // taken back by the bank
	EffectReceivedCredit EffectKind = "received_credit" // sent by somebody else
	EffectReceivedDebit  EffectKind = "received_debit"  // taken by somebody else

	// Those of cards that the account issued.
	EffectSpendHold    EffectKind = "spend_hold"    // set aside for a shop
	EffectSpendRelease EffectKind = "spend_release" // given up, or captured
	EffectSpend        EffectKind = "spend"         // paid to a shop
	EffectSpendBack    EffectKind = "spend_back"    // refunded by a shop, or won in a dispute

	EffectClimate     EffectKind = "climate"      // paid for carbon removal, fee included
	EffectClimateBack EffectKind = "climate_back" // an order canceled
)

// Effect is one movement of money that really happened.
type Effect struct {
	Seq            int        `json:"seq"` // from 1
	At             time.Time  `json:"at"`
	Kind           EffectKind `json:"kind"`
	Object         string     `json:"object"`             // re_, ch_, po_, tr_, ...
	Parent         string     `json:"parent,omitempty"`   // ch_ of a refund, pi_ of a charge, in_ of a paid invoice, acct_ of a transfer
	Account        string     `json:"account,omitempty"`  // the connected account whose books moved; empty for the platform's
	Customer       string     `json:"customer,omitempty"` // empty for guests and payouts
	Amount         int64      `json:"amount"`             // minor units
	Currency       string     `json:"currency"`           // lower case
	RequestID      string     `json:"request_id,omitempty"`
	IdempotencyKey string     `json:"idempotency_key,omitempty"`
}

// effect records a movement. Seed data is where the books start, so it moves nothing.
func (c *call) effect(kind EffectKind, object, parent, customer string, amount int64, currency string) {
	if c.quiet || amount == 0 {
		return
	}
	s := c.s
	c.effects = append(c.effects, object)
	account := s.accountID
	if s == s.platform {
		account = ""
	}
	s.effects = append(s.effects, Effect{Account: account, Seq: len(s.effects) + 1, At: c.at.UTC(), Kind: kind, Object: object, Parent: parent,
		Customer: customer, Amount: amount, Currency: currency, RequestID: c.reqID, IdempotencyKey: c.idemKey})
}

// Effects returns every movement of money since the start or the last reset,
// in order, seed data not included. Safe for concurrent use.
func (s *Server) Effects() []Effect {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Effect{}, s.effects...)
}

// Moved sums the effects of one kind at or after since, per currency in minor
// units. A zero since is all of them. Safe for concurrent use.
func (s *Server) Moved(kind EffectKind, since time.Time) map[string]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	sums := make(map[string]int64)
	for i := range s.effects {
		if e := &s.effects[i]; e.Kind == kind && !e.At.Before(since) {
			sums[e.Currency] += e.Amount
		}
	}
	return sums
}

// arrive writes a request into the journal.
func (s *Server) arrive(r *http.Request, body []byte, secret string, faults []string) *Arrival {
	a := &Arrival{At: s.now().UTC(), Method: r.Method, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery, Body: body, Faults: faults,
		IdempotencyKey: r.Header.Get("Idempotency-Key"), StripeVersion: r.Header.Get("Stripe-Version"),
		StripeAccount: r.Header.Get("Stripe-Account"), StripeContext: r.Header.Get("Stripe-Context"),
		ContentType: r.Header.Get("Content-Type"), UserAgent: r.UserAgent()}
	if secret != "" {
		a.Authorization = maskKey(secret)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.journal.add(a)
	a.RequestID = s.requestID()
	return a
}
