package stripe

import (
	"net/http"
	"slices"
	"strconv"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

// readError reads a 4xx. Only what Stripe surely said itself, and says before it does anything, is a
// refusal: a proxy on the way can answer 403 or 404 to a call that Stripe has executed.
func readError(call *upstream.Call, answer *upstream.Answer, out *upstream.Outcome) {
	body := answer.Body
	out.Why = strconv.Itoa(answer.Status) + " from upstream"
	if k, _ := findJSON(body, Field{"error"}); k != jsonObject || out.RequestID == "" {
		return
	}
	kind, code := errorType(findText(body, Field{"error", "type"})), closedWord(findText(body, Field{"error", "code"}))
	if code != "" {
		out.Why = code
	}
	switch answer.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		out.Fate, out.CredentialRefused = upstream.Refused, !slices.Contains(aboutTheCall, code)
	case http.StatusPaymentRequired:
		readDecline(call, body, kind, out)
	case http.StatusTooManyRequests:
		if code != "lock_timeout" {
			out.Fate = upstream.Refused
		}
	case http.StatusBadRequest:
		out.Fate = upstream.Refused
		if kind == typeIdempotency {
			out.Why = "idempotency_error: this attempt did nothing, the first with its key may have"
		}
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotAcceptable,
		http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		out.Fate = upstream.Refused
	}
}

// aboutTheCall are codes of a 403 that speaks of an account which the call names, not of our credential: an agent
// with a wrong id must not ring the operators' alarm.
var aboutTheCall = []string{"account_invalid"}

// declineObjects are the objects that a decline can carry and the statuses in which nothing has moved and nothing
// is on its way. requires_action is not among them: the customer's bank may finish it without us.
var declineObjects = map[string][]string{
	"payment_intent": {"requires_payment_method", "requires_confirmation", "canceled"},
	"setup_intent":   {"requires_payment_method", "requires_confirmation", "canceled"},
	"charge":         {"failed"},
}

// readDecline reads a 402. The attempt was made; it is a refusal only if no object in the answer shows money
// that moved or is moving.
func readDecline(call *upstream.Call, body []byte, kind errorType, out *upstream.Outcome) {
	if kind != "card_error" {
		return
	}
	for name, nothing := range declineObjects {
		if k, _ := findJSON(body, Field{"error", name}); k != jsonObject {
			continue // absent, or an id only
		}
		status := findText(body, Field{"error", name, "status"})
		if !slices.Contains(nothing, status) {
			out.Why = "declined, but the answer shows a " + name + " " + closedWord(status)
			return
		}
	}
	if stillPayable(call, body, out) {
		return
	}
	out.Fate = upstream.Refused
}

// stillPayable settles a declined intent at what was held if its client_secret is with the agent.
func stillPayable(call *upstream.Call, body []byte, out *upstream.Outcome) bool {
	req := requestOf(call)
	if len(req.Effects) == 0 || len(req.Effects) != len(call.Operation.Effects) {
		return false
	}
	intent := Field{"error", "payment_intent"}
	status := findText(body, append(intent[:2:2], "status"))
	id := policy.ObjectID(findText(body, append(intent[:2:2], "id")))
	moved := make([]upstream.MovedEffect, len(req.Effects))
	for i, rule := range req.Effects {
		e := &call.Operation.Effects[i]
		moved[i] = upstream.MovedEffect{Amount: e.Amount, Object: e.Object}
		if e.Unmeterable {
			continue
		}
		if !keepsCounting(call, rule, status) || e.Object == "" && id == "" {
			return false
		}
		if e.Object == "" {
			moved[i].Object = id
		}
	}
	out.Fate, out.Moved, out.Pending = upstream.Moved, moved, true
	return true
}
