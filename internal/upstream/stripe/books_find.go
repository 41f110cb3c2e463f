package stripe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

// finds are the objects that can be asked for one by one, by the prefix of their ids, with what they move.
var finds = map[string]struct {
	kinds       []upstream.MovementKind
	path, query string
}{
	"re":  {[]upstream.MovementKind{upstream.Refund}, "/v1/refunds/", "expand%5B0%5D=balance_transaction"},
	"pyr": {[]upstream.MovementKind{upstream.Refund}, "/v1/refunds/", "expand%5B0%5D=balance_transaction"},
	"ch":  {[]upstream.MovementKind{upstream.Payment}, "/v1/charges/", "expand%5B0%5D=balance_transaction"},
	"py":  {[]upstream.MovementKind{upstream.Payment}, "/v1/charges/", "expand%5B0%5D=balance_transaction"},
	"pi":  {[]upstream.MovementKind{upstream.Payment}, "/v1/payment_intents/", "expand%5B0%5D=latest_charge.balance_transaction"},
	"in":  {[]upstream.MovementKind{upstream.Payment}, "/v1/invoices/", ""},
	"cs":  {[]upstream.MovementKind{upstream.Payment}, "/v1/checkout/sessions/", ""},
	"po":  {[]upstream.MovementKind{upstream.Payout, upstream.PayoutReversal}, "/v1/payouts/", "expand%5B0%5D=balance_transaction"},
	"tr":  {[]upstream.MovementKind{upstream.Transfer}, "/v1/transfers/", "expand%5B0%5D=balance_transaction"},
	"tu":  {[]upstream.MovementKind{upstream.Topup}, "/v1/topups/", "expand%5B0%5D=balance_transaction"},
}

// moneyState is what is read of an object to say what became of its money.
type moneyState struct {
	Object       string         `json:"object"`
	Status       string         `json:"status"`
	Currency     money.Currency `json:"currency"`
	Amount       int64          `json:"amount"`
	Received     int64          `json:"amount_received"`
	Captured     *bool          `json:"captured"`
	AmountCaught int64          `json:"amount_captured"`
	AmountPaid   int64          `json:"amount_paid"`
	AmountDue    int64          `json:"amount_due"`
	Line         lineOf         `json:"balance_transaction"`
	Latest       latestOf       `json:"latest_charge"`
	Failed       idOf           `json:"failure_balance_transaction"`
}

// lineOf is an object's line in the books: its id, and when it was written where the line is expanded.
type lineOf struct {
	id      idOf
	created int64
}

// UnmarshalJSON takes the line, its id alone, or null.
func (l *lineOf) UnmarshalJSON(b []byte) error {
	var line struct {
		Created int64 `json:"created"`
	}
	_ = json.Unmarshal(b, &line) // an id alone tells no time
	l.created = line.Created
	return l.id.UnmarshalJSON(b)
}

// latestOf is the line of an intent's charge.
type latestOf struct{ line lineOf }

// UnmarshalJSON takes the charge, its id alone, or null.
func (l *latestOf) UnmarshalJSON(b []byte) error {
	var charge struct {
		Line lineOf `json:"balance_transaction"`
	}
	_ = json.Unmarshal(b, &charge) // an id alone tells no line
	l.line = charge.Line
	return nil
}

// Find asks Stripe for one object and says what became of its money.
func (a *Adapter) Find(
	ctx context.Context, kind upstream.MovementKind, id policy.ObjectID, look upstream.Lookup,
) (upstream.Found, bool, error) {
	prefix, _, _ := strings.Cut(string(id), "_")
	at, ok := finds[prefix]
	if !ok || !slices.Contains(at.kinds, kind) {
		return upstream.Found{}, false, nil
	}
	status, body, err := look(ctx, upstream.Look{Method: http.MethodGet, Path: at.path + url.PathEscape(string(id)), Query: at.query})
	switch {
	case err != nil:
		return upstream.Found{}, false, fmt.Errorf("ask Stripe for %s: %w", id, err)
	case status == http.StatusNotFound:
		return upstream.Found{Why: "Stripe knows no such object"}, true, nil
	case status == http.StatusForbidden || status == http.StatusUnauthorized:
		return upstream.Found{}, false, nil
	case status != http.StatusOK:
		return upstream.Found{}, false, fmt.Errorf("ask Stripe for %s: %w", id, refusedRead(status, body))
	}
	var s moneyState
	if err := json.Unmarshal(body, &s); err != nil {
		return upstream.Found{}, false, errors.New("Stripe's answer for " + string(id) + " cannot be read")
	}
	return s.found(), true, nil
}

// found reads the state of an object.
func (s *moneyState) found() upstream.Found {
	f := upstream.Found{Why: "its status at Stripe is " + closedWord(s.Status)}
	if at := max(s.Line.created, s.Latest.line.created); at > 0 {
		f.At = time.Unix(at, 0).UTC()
	}
	moved := func(minor int64) { f.Moved, f.Known = money.Amount{Minor: minor, Currency: s.Currency}, true }
	switch s.Object {
	case "payment_intent":
		s.intent(&f, moved)
	case "charge":
		switch {
		case s.Status == "failed":
			moved(0)
		case s.Captured != nil && !*s.Captured && s.Line.id == "":
			f.Shows, f.Why = upstream.ShowsLater, "the charge is authorised and not captured"
		default:
			moved(s.AmountCaught)
		}
	case "invoice":
		s.invoice(&f, moved)
	case "checkout.session":
		if s.Status == "open" {
			f.Shows, f.Why = upstream.ShowsLater, laterWords["checkout.sessions"]
		}
	case "refund", "payout", "topup", "transfer":
		s.once(&f, moved)
	}
	return f
}

func (s *moneyState) intent(f *upstream.Found, moved func(int64)) {
	switch {
	case s.Received > 0 || s.Status == "canceled" || s.Status == "succeeded":
		moved(s.Received)
	case s.Status == "requires_capture":
		f.Shows, f.Why = upstream.ShowsLater, "it is authorised and not captured"
	default:
		f.Shows, f.Why = upstream.ShowsLater, "the intent waits: "+closedWord(s.Status)
	}
}

func (s *moneyState) invoice(f *upstream.Found, moved func(int64)) {
	switch {
	case s.Status == "draft" || s.Status == "open":
		f.Shows, f.Why = upstream.ShowsLater, laterWords["invoices"]
	case s.Status == "paid" && s.AmountPaid < s.AmountDue:
		f.Shows, f.Why = upstream.ShowsNever, "it was paid without money of the balance"
	default:
		moved(s.AmountPaid)
	}
}

// once reads objects that move their amount once, and may bring it back.
func (s *moneyState) once(f *upstream.Found, moved func(int64)) {
	back := s.Status == "failed" || s.Status == "canceled" || s.Failed != ""
	switch {
	case back:
		moved(0)
	case s.Line.id != "":
		moved(max(s.Amount, -s.Amount))
	case s.Object == "refund" && s.Status == "succeeded":
		f.Shows, f.Why = upstream.ShowsNever, "an authorization was given up, and no money went back"
	default:
		f.Shows = upstream.ShowsLater
	}
}

var _ upstream.Bookkeeper = (*Adapter)(nil)
