package admin

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

// Reconciler asks upstreams what became of calls. It is safe for concurrent use.
type Reconciler interface {
	// Seen tells what the last look at the vendor showed, when it was (zero: there was none yet), and when the next is.
	Seen(*ledger.Reservation) (why string, asked, next time.Time)
	// Ask looks now; who is recorded. It returns where the reservation stands then.
	Ask(ctx context.Context, id ledger.ReservationID, who string) (ledger.State, string, error)
	// Decide ends a reservation by an operator's word.
	Decide(ctx context.Context, id ledger.ReservationID, moved bool, who, reason string) (ledger.State, string, error)
}

// OpenCall is a call whose outcome nobody knows: what it may have moved stays held.
type OpenCall struct {
	Reservation string      `json:"reservation"`
	AuditID     string      `json:"audit_id"`
	Key         string      `json:"key"`
	KeyName     string      `json:"key_name"`
	Upstream    string      `json:"upstream"`
	Operation   string      `json:"operation"`
	Customers   []string    `json:"customers,omitempty"`
	State       string      `json:"state" doc:"unknown; or reserved: it is on the wire"`
	Held        []OpenMoney `json:"held"`
	Sent        time.Time   `json:"sent" doc:"the last time that it left"`
	Bound       bool        `json:"bound" doc:"an idempotency key of the agent's binds it: sent again with it, its outcome is learned"`
	Why         string      `json:"why" doc:"why its outcome is not known"`
	Seen        string      `json:"seen" doc:"what the last look at the vendor showed"`
	Asked       time.Time   `json:"asked,omitzero" doc:"the last look; absent: none yet"`
	Next        time.Time   `json:"next,omitzero" doc:"the next look is not before"`
}

// OpenMoney is an amount that is held for a call.
type OpenMoney struct {
	Bucket   string `json:"bucket"`
	Amount   string `json:"amount" doc:"in the currency's unit"`
	Currency string `json:"currency"`
	USD      string `json:"usd"`
}

// Resolved is how a call stands after it was asked about or decided on.
type Resolved struct {
	Reservation string `json:"reservation"`
	State       string `json:"state" doc:"settled, released, or unknown: its hold stays"`
	Why         string `json:"why"`
}

// Decision is what an operator says about a call. Without an outcome the vendor is asked.
type Decision struct {
	Outcome string `json:"outcome,omitempty" enum:"moved,nothing" doc:"moved: as much as was held; nothing: it did not happen"`
	Reason  string `json:"reason,omitempty" maxLength:"500" doc:"how you know; goes into the audit; required with an outcome"`
}

// check refuses a decision that is none, or that nobody answers for.
func (d Decision) check() error {
	var bad faults
	if d.Outcome != "" && d.Outcome != "moved" && d.Outcome != "nothing" {
		bad.add("", wrong("body.outcome", "the outcome is moved or nothing, not %q", d.Outcome))
	}
	if d.Outcome != "" && strings.TrimSpace(d.Reason) == "" {
		bad.add("", wrong("body.reason", "a reason is required: say how you know what became of the call"))
	}
	return bad.refusal()
}

// openPage is how many open calls one answer lists.
const openPage = 100

// OpenCalls lists what is open, oldest first.
func (s *Service) OpenCalls(ctx context.Context, after string) (List[OpenCall], error) {
	out := List[OpenCall]{Items: []OpenCall{}}
	from := ledger.ReservationID(0)
	if after != "" {
		var err error
		if from, err = reservationID(after); err != nil {
			return out, located("query.after", err)
		}
	}
	var open []*ledger.Reservation
	err := s.Store.View(ctx, func(tx store.Tx) (err error) {
		open, err = tx.Unresolved(from, openPage)
		return err
	})
	if err != nil {
		return out, understood("read what is open", err)
	}
	for _, r := range open {
		out.Items = append(out.Items, s.openCall(r))
	}
	if len(open) == openPage {
		out.Next = out.Items[openPage-1].Reservation
	}
	return out, nil
}

func (s *Service) openCall(r *ledger.Reservation) OpenCall {
	c := OpenCall{
		Reservation: rsv(r.ID), AuditID: audit.ID(audit.FirstChain, r.AuditSeq), Key: string(r.Key), Upstream: string(r.Upstream),
		Operation: string(r.Operation), State: r.State.String(), Held: []OpenMoney{}, Sent: r.Sends().UTC(), Bound: r.IdemKey != "", Why: r.Why,
	}
	if k, ok := s.Ring.Key(r.Key); ok {
		c.KeyName = k.Name
	}
	if u, ok := s.Ring.Upstream(r.Upstream); ok {
		c.Upstream = u.Name
	}
	for _, id := range r.Customers {
		c.Customers = append(c.Customers, string(id))
	}
	for i, e := range r.Effects {
		m := OpenMoney{Bucket: string(e.Bucket), Currency: string(e.Amount.Currency)}
		m.Amount, _, _ = strings.Cut(money.Amount{Minor: r.Counted[i], Currency: e.Amount.Currency}.String(), " ")
		if usd, err := e.Quote.USD(r.Counted[i]); err == nil {
			m.USD = usd.String()
		}
		c.Held = append(c.Held, m)
	}
	if s.Reconciler != nil {
		c.Seen, c.Asked, c.Next = s.Reconciler.Seen(r)
		c.Asked, c.Next = utc(c.Asked), utc(c.Next)
	}
	return c
}

func rsv(id ledger.ReservationID) string { return "rsv_" + strconv.FormatInt(int64(id), 10) }

func reservationID(text string) (ledger.ReservationID, error) {
	n, err := strconv.ParseInt(strings.TrimPrefix(text, "rsv_"), 10, 64)
	if err != nil || n <= 0 {
		return 0, wrong("path.reservation", "%q is no reservation; `keybrake reconcile` lists them, like rsv_12", text)
	}
	return ledger.ReservationID(n), nil
}

// Reconcile asks the vendor what became of a call, or takes an operator's word for it.
func (s *Service) Reconcile(ctx context.Context, who Actor, reservation string, d Decision) (Resolved, error) {
	id, err := reservationID(reservation)
	if err != nil {
		return Resolved{}, err
	}
	if s.Reconciler == nil {
		return Resolved{}, refuse(Unavailable, "this server does not ask its upstreams")
	}
	if err := d.check(); err != nil {
		return Resolved{}, err
	}
	var state ledger.State
	var why string
	if d.Outcome == "" {
		state, why, err = s.Reconciler.Ask(ctx, id, who.Name)
	} else {
		state, why, err = s.Reconciler.Decide(ctx, id, d.Outcome == "moved", who.Name, d.Reason)
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		return Resolved{}, refuse(NotFound, "there is no reservation %s; `keybrake reconcile` lists what is open", reservation)
	case errors.Is(err, store.ErrOnTheWire):
		return Resolved{}, refuse(Conflict, "the call %s may still be on the wire; ask again in two minutes", reservation)
	case err != nil && state == ledger.Unresolved && why != "":
		return Resolved{}, refuse(Unavailable, "%s", why)
	case err != nil:
		return Resolved{}, understood("reconcile "+reservation, err)
	}
	return Resolved{Reservation: rsv(id), State: state.String(), Why: why}, nil
}

func (a *api) reconcile() {
	handle(a, route{http.MethodGet, "reconcile", "list-open", "List calls whose outcome is unknown", vault.ToSee, 0},
		func(ctx context.Context, _ Actor, in *struct {
			After string `query:"after" doc:"a page's next: go on after it"`
			Limit int    `query:"limit" minimum:"1" maximum:"100" default:"100" doc:"the most items in the answer"`
		}) (List[OpenCall], error) {
			page, err := a.s.OpenCalls(ctx, in.After)
			if err == nil && len(page.Items) > in.Limit {
				page.Items, page.Next = page.Items[:in.Limit], page.Items[in.Limit-1].Reservation
			}
			return page, err
		})
	handle(a, route{http.MethodPost, "reconcile/{reservation}", "reconcile", "Ask what became of a call, or decide", vault.ToChange, 0},
		func(ctx context.Context, who Actor, in *struct {
			Reservation string `path:"reservation"`
			Body        Decision
		}) (Resolved, error) {
			return a.s.Reconcile(ctx, who, in.Reservation, in.Body)
		})
	handleEdit(a, route{http.MethodPost, "upstreams/{upstream}/webhook", "set-webhook", "Set the secret that an upstream signs its messages with", vault.ToChange, 0},
		func(ctx context.Context, who Actor, in *struct {
			Upstream string `path:"upstream" doc:"id or name"`
			Condition
			Body SigningSecret
		}, ifMatch string) (UpstreamView, error) {
			in.Body.IfMatch = ifMatch
			return a.s.SetWebhook(ctx, who, in.Upstream, in.Body)
		})
}

// SigningSecret is what a vendor signs its messages with; empty takes it away.
type SigningSecret struct {
	Secret string `json:"secret"`
	// IfMatch is the version of the upstream that it is for; empty: the present one, whichever that is.
	IfMatch string `json:"-"`
}

// OpenCalls calls Service.OpenCalls: one page.
func (c *Client) OpenCalls(ctx context.Context, after string) (List[OpenCall], error) {
	query := url.Values{}
	if after != "" {
		query.Set("after", after)
	}
	return call[List[OpenCall]](ctx, c, http.MethodGet, "reconcile", query, nil)
}

// Reconcile calls Service.Reconcile.
func (c *Client) Reconcile(ctx context.Context, reservation string, d Decision) (Resolved, error) {
	return call[Resolved](ctx, c, http.MethodPost, "reconcile/"+seg(reservation), nil, d)
}

// SetWebhook calls Service.SetWebhook.
func (c *Client) SetWebhook(ctx context.Context, upstream string, secret SigningSecret) (UpstreamView, error) {
	return edit[UpstreamView](ctx, c, http.MethodPost, "upstreams/"+seg(upstream)+"/webhook", secret.IfMatch, secret)
}
