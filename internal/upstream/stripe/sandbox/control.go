package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// controlPrefix starts the paths of the control routes. They ask for no
// credential, so the sandbox belongs on a loopback address:
//
//	GET    /_sandbox/healthz               what is kept, what was dropped
//	GET    /_sandbox/journal?after=SEQ     {"total":N,"items":[Arrival]}; those above SEQ, without it all that are kept
//	GET    /_sandbox/effects?after=SEQ     {"items":[Effect]}
//	POST   /_sandbox/faults                a Fault, with latency_ms beside latency
//	DELETE /_sandbox/faults                no faults; hanging calls go on
//	POST   /_sandbox/release               hanging calls go on, faults stay
//	POST   /_sandbox/keys                  {"key":"rk_test_..","permissions":{"charges":"read"}}
//	POST   /_sandbox/seed                  what Seed returns
//	POST   /_sandbox/advance               {"seconds":N}: time passes, and what is due happens
//	POST   /_sandbox/reset                 everything forgotten but the keys
//	POST   /_sandbox/refunds/{id}          {"status":"failed"} or succeeded
//	POST   /_sandbox/payouts/{id}          {"status":"paid"} or failed
//	POST   /_sandbox/topups/{id}           {"status":"succeeded"}, failed or reversed
//	POST   /_sandbox/charges/{id}          {"status":"disputed"} or inquiry: what the customer's bank does
//	POST   /_sandbox/disputes/{id}         {"status":"won"} or lost
//	POST   /_sandbox/issuing.disputes/{id} {"status":"won"} or lost
//	POST   /_sandbox/v2.outbound_payments/{id}  {"status":"posted"}, failed or returned; v2.outbound_transfers alike
//	POST   /_sandbox/v2.inbound_transfers/{id}  {"status":"succeeded"}, failed or returned
//	POST   /_sandbox/payment_intents/{id}  {"status":"succeeded"} or failed: what a customer asked to authenticate does
//	POST   /_sandbox/setup_intents/{id}    the same for a SetupIntent
//	POST   /_sandbox/checkout_sessions/{id} a Shopper: what a customer does on the page
//	POST   /_sandbox/payment_links/{id}    a Shopper: somebody follows the link
const controlPrefix = "/_sandbox/"

// control answers the control routes.
func (s *Server) control(w http.ResponseWriter, r *http.Request) {
	out, err := s.command(r)
	w.Header().Set("Content-Type", "application/json")
	var bad *controlError
	if errors.As(err, &bad) {
		w.WriteHeader(bad.status)
		out = map[string]string{"error": bad.message}
	}
	// A failed write means that the client has gone; there is nobody to tell.
	_ = json.NewEncoder(w).Encode(out)
}

// controlError is a refused control command.
type controlError struct {
	status  int
	message string
}

func (e *controlError) Error() string { return e.message }

func badCommand(err error) error {
	return &controlError{http.StatusBadRequest, err.Error()}
}

// done is the answer of commands that have nothing to say.
type done struct {
	OK bool `json:"ok"`
}

func (s *Server) command(r *http.Request) (any, error) {
	route := r.Method + " " + strings.TrimPrefix(r.URL.Path, controlPrefix)
	switch route {
	case "GET healthz":
		return s.health(), nil
	case "GET journal", "GET effects":
		return s.commandHistory(r)
	case "POST faults":
		return s.commandFault(r.Body)
	case "DELETE faults":
		s.ClearFaults()
		return done{true}, nil
	case "POST release":
		s.Release()
		return done{true}, nil
	case "POST keys":
		return s.commandKey(r.Body)
	case "POST seed":
		return s.Seed(), nil
	case "POST advance":
		return s.commandAdvance(r.Body)
	case "POST reset":
		s.Reset()
		return done{true}, nil
	}
	kind, id, _ := strings.Cut(strings.TrimPrefix(route, "POST "), "/")
	if r.Method == http.MethodPost && id != "" {
		if kind == "checkout_sessions" || kind == "payment_links" {
			return s.commandShopper(r.Body, kind, id)
		}
		return s.commandStatus(r.Body, kind, id)
	}
	return nil, &controlError{http.StatusNotFound, "no control route " + route}
}

func decode(body io.Reader, into any) error {
	d := json.NewDecoder(io.LimitReader(body, maxBody))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return badCommand(fmt.Errorf("read command: %w", err))
	}
	return nil
}

// commandHistory shows what arrived, or what moved, after a place that the reader has been to.
func (s *Server) commandHistory(r *http.Request) (any, error) {
	after := 0
	if text := r.URL.Query().Get("after"); text != "" {
		var err error
		if after, err = strconv.Atoi(text); err != nil {
			return nil, badCommand(fmt.Errorf("after=%s is no number", text))
		}
	}
	if strings.HasSuffix(r.URL.Path, "/effects") {
		return map[string]any{"items": slices.DeleteFunc(s.Effects(), func(e Effect) bool { return e.Seq <= after })}, nil
	}
	return map[string]any{"total": s.Arrivals(), "items": slices.DeleteFunc(s.Journal(), func(a Arrival) bool { return a.Seq <= after })}, nil
}

func (s *Server) commandFault(body io.Reader) (any, error) {
	var in struct {
		Fault
		LatencyMS int64 `json:"latency_ms"`
	}
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	if in.LatencyMS != 0 {
		in.Latency = time.Duration(in.LatencyMS) * time.Millisecond
	}
	if err := s.Inject(in.Fault); err != nil {
		return nil, badCommand(err)
	}
	return done{true}, nil
}

func (s *Server) commandAdvance(body io.Reader) (any, error) {
	var in struct {
		Seconds int64 `json:"seconds"`
	}
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	if err := s.Advance(time.Duration(in.Seconds) * time.Second); err != nil {
		return nil, badCommand(err)
	}
	return done{true}, nil
}

func (s *Server) commandKey(body io.Reader) (any, error) {
	var in struct {
		Key         string            `json:"key"`
		Permissions map[string]Access `json:"permissions"`
	}
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	if !strings.HasPrefix(in.Key, "rk_"+string(s.opts.Mode)+"_") {
		return nil, badCommand(fmt.Errorf("key must start with rk_%s_", s.opts.Mode))
	}
	s.AddRestrictedKey(in.Key, in.Permissions)
	return done{true}, nil
}

// commandShopper answers with the session that was completed.
func (s *Server) commandShopper(body io.Reader, kind, id string) (any, error) {
	var by Shopper
	if err := decode(body, &by); err != nil {
		return nil, err
	}
	session, err := id, error(nil)
	if kind == "payment_links" {
		session, err = s.FollowLink(id, by)
	} else {
		err = s.Checkout(id, by)
	}
	if err != nil {
		return nil, badCommand(err)
	}
	return map[string]string{"session": session}, nil
}

func (s *Server) commandStatus(body io.Reader, kind, id string) (any, error) {
	var in struct {
		Status string `json:"status"`
	}
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	var err error
	switch kind {
	case "refunds":
		err = s.SetRefundStatus(id, in.Status)
	case "payouts":
		err = s.SetPayoutStatus(id, in.Status)
	case "setup_intents":
		err = s.outside(func(c *call) *stripeError { return c.authenticateSetup(id, in.Status == succeeded) })
	case "payment_intents":
		err = s.Authenticate(id, in.Status == succeeded)
	default:
		do, ok := outsides[kind]
		if !ok {
			return nil, &controlError{http.StatusNotFound, "no control route for " + kind}
		}
		err = s.outsideOf(id, func(c *call) *stripeError { return do(c, id, in.Status) })
	}
	if err != nil {
		return nil, badCommand(err)
	}
	return done{true}, nil
}

// Advance moves the clock ahead by d and does what becomes due: drafts finalize
// and collect, subscriptions renew. A time that does not pass is an error. What
// is on a test clock stays there. Safe for concurrent use.
func (s *Server) Advance(d time.Duration) error {
	if d <= 0 {
		return fmt.Errorf("advance by %s: time only passes", d)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead.Add(int64(d))
	s.pass()
	return nil
}

// outsides are what happens to objects without any call of the merchant.
var outsides = map[string]func(c *call, id, status string) *stripeError{
	"topups":   (*call).setTopup,
	"charges":  (*call).setCharge,
	"disputes": (*call).setDispute,

	"issuing.disputes": (*call).setIssuingDispute,

	"v2.outbound_payments":  (*call).setOutbound,
	"v2.outbound_transfers": (*call).setOutbound,
	"v2.inbound_transfers":  (*call).setInbound,
}

// Happen does to an object what time, a bank or a customer does to it: kind is
// topups, charges or disputes, and status what becomes of it, as the control
// route of that name says. Safe for concurrent use.
func (s *Server) Happen(kind, id, status string) error {
	do, ok := outsides[kind]
	if !ok {
		return fmt.Errorf("nothing happens to %s", kind)
	}
	return s.outsideOf(id, func(c *call) *stripeError { return do(c, id, status) })
}

// outsideOf is outside on the books of the account that has the object.
func (s *Server) outsideOf(id string, do func(*call) *stripeError) error {
	return s.outside(func(c *call) *stripeError {
		for _, a := range s.connected {
			if v, _ := a.find(id); v != nil {
				c.s = a
			}
		}
		return do(c)
	})
}

// outside runs what happens without any call of the merchant.
func (s *Server) outside(do func(*call) *stripeError) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.pass()
	c := &call{s: s.platform, p: &node{kind: nodeMap}, at: at, now: at.Unix()}
	if f := do(c); f != nil {
		return errors.New(f.message)
	}
	return nil
}

// SetRefundStatus does what a bank does later: a pending refund becomes
// succeeded or failed, and a succeeded one may still become failed, with its
// money back in the balance. Other changes are errors. Safe for concurrent use.
func (s *Server) SetRefundStatus(id, status string) error {
	return s.outsideOf(id, func(c *call) *stripeError { return c.setRefund(id, status) })
}

// SetPayoutStatus makes a pending payout paid, or a pending or paid one failed
// with its money back. Other changes are errors. Safe for concurrent use.
func (s *Server) SetPayoutStatus(id, status string) error {
	return s.outsideOf(id, func(c *call) *stripeError { return c.setPayout(id, status) })
}

// Authenticate does what the customer of a PaymentIntent in requires_action
// does: with ok the payment goes on, otherwise it fails. An intent in another
// status is an error. Safe for concurrent use.
func (s *Server) Authenticate(id string, ok bool) error {
	return s.outsideOf(id, func(c *call) *stripeError { return c.authenticate(id, ok) })
}

// health is the answer of /_sandbox/healthz.
type health struct {
	Status         string         `json:"status"`
	Account        string         `json:"account"`
	Arrivals       int            `json:"arrivals"`
	Effects        int            `json:"effects"`
	Hanging        int            `json:"hanging"`
	Running        int64          `json:"running"` // arrivals that are not answered yet, hanging ones included
	Objects        map[string]int `json:"objects"`
	Dropped        map[string]int `json:"dropped"` // objects let go at the bound
	KeysDropped    int            `json:"idempotency_keys_dropped"`
	FaultsInjected int            `json:"faults"`
}

func (s *Server) health() health {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := health{Status: "ok", Account: s.platform.accountID, Arrivals: s.journal.total, Effects: len(s.effects),
		Hanging: s.hanging, Running: s.running.Load(),
		KeysDropped: s.platform.idem.forgot, FaultsInjected: len(s.faults), Objects: map[string]int{}, Dropped: map[string]int{}}
	note := func(name string, kept, dropped int) {
		h.Objects[name] += kept
		if dropped > 0 {
			h.Dropped[name] += dropped
		}
	}
	for _, shelf := range s.platform.shelves {
		kept, dropped := shelf.count()
		note(shelf.resource(), kept, dropped)
	}
	note("idempotency_keys", len(s.platform.idem.byKey), s.platform.idem.forgot)
	return h
}
