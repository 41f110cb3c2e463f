package admin

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/keybrake/keybrake/internal/alert"
	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

// Alert is something that was wrong, or still is.
type Alert struct {
	ID       string    `json:"id"`
	Kind     string    `json:"kind" doc:"cap, denials, brake, frozen, loop, unresolved, expiry, rotation, chain, store, upstream"`
	Severity string    `json:"severity" doc:"info, warning or critical"`
	Key      string    `json:"key,omitempty" doc:"id of the vault key that it is about"`
	Title    string    `json:"title"`
	Text     string    `json:"text"`
	Since    time.Time `json:"since"`
	Resolved time.Time `json:"resolved,omitzero" doc:"since when it is over; absent: it is not"`
	Told     time.Time `json:"told,omitzero" doc:"when a message about it was written last"`
	Acked    time.Time `json:"acknowledged,omitzero"`
	AckedBy  string    `json:"acknowledged_by,omitempty"`
}

// AlertTarget is where messages go. What it is called and where it is comes from the config file.
type AlertTarget struct {
	Name    string    `json:"name"`
	Kind    string    `json:"kind" doc:"webhook, slack, email or command"`
	Least   string    `json:"least" doc:"the least severity that it is told"`
	Waiting int       `json:"waiting" doc:"messages that have not arrived"`
	Arrived time.Time `json:"arrived,omitzero" doc:"when the last one did"`
	Failed  time.Time `json:"failed,omitzero" doc:"when the last attempt was that did not, if none arrived since"`
	Error   string    `json:"error,omitempty" doc:"why not"`
}

// AlertTested says what a target answered to a test message.
type AlertTested struct {
	Target  string `json:"target"`
	Arrived bool   `json:"arrived"`
	Error   string `json:"error,omitempty"`
}

// AlertFilter selects alerts.
type AlertFilter struct {
	Key  string // id or name; empty: all
	Kind string // empty: all
	Open bool   // only those that are not over
}

const (
	// alertsRead is how many alerts are looked through, messagesRead how many messages of a target.
	alertsRead   = 2000
	messagesRead = 1000
)

// Alerts lists alerts: those that are open first, then newest first.
func (s *Service) Alerts(ctx context.Context, f AlertFilter) (List[Alert], error) {
	out := List[Alert]{Items: []Alert{}}
	key, err := s.keyID(f.Key)
	if err != nil {
		return out, err
	}
	err = s.Store.View(ctx, func(tx store.Tx) error {
		rows, err := tx.Alerts(alertsRead)
		for _, r := range rows {
			if (f.Key == "" || r.Key == string(key)) && (f.Kind == "" || r.Kind == f.Kind) && (!f.Open || r.Resolved.IsZero()) {
				out.Items = append(out.Items, viewAlert(&r))
			}
		}
		return err
	})
	return out, understood("list the alerts", err)
}

func viewAlert(r *store.AlertRow) Alert {
	return Alert{
		ID: r.ID, Kind: r.Kind, Severity: r.Severity, Key: r.Key, Title: r.Title, Text: r.Text, Since: utc(r.First), Resolved: utc(r.Resolved),
		Told: utc(r.Told), Acked: utc(r.Acked), AckedBy: r.AckedBy,
	}
}

// AcknowledgeAlert notes that somebody looks after an open alert. It ends when what it is about does.
func (s *Service) AcknowledgeAlert(ctx context.Context, who Actor, id string) (Alert, error) {
	var out Alert
	err := s.act(ctx, store.LaneControl, who, "alert.acknowledge", func(tx store.Tx, rec *audit.Record) error {
		rows, err := openAlerts(tx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(rows, func(r store.AlertRow) bool { return r.ID == id })
		if i < 0 {
			return overOrNone(tx, id)
		}
		r := rows[i]
		r.Acked, r.AckedBy = tx.Now(), who.Name
		rec.Subject, rec.Diff = "alert "+r.ID, r.Title
		out = viewAlert(&r)
		return tx.PutAlert(r)
	})
	return out, err
}

// openAlerts are all alerts that are open: they come first, so that it is read until there is one that is over.
func openAlerts(tx store.Tx) ([]store.AlertRow, error) {
	for limit := 64; ; limit *= 8 {
		rows, err := tx.Alerts(limit)
		if err != nil {
			return nil, err
		}
		over := slices.IndexFunc(rows, func(r store.AlertRow) bool { return !r.Resolved.IsZero() })
		if over >= 0 {
			return rows[:over], nil
		}
		if len(rows) < limit {
			return rows, nil
		}
	}
}

// overOrNone says why an alert is not open.
func overOrNone(tx store.Tx, id string) error {
	rows, err := tx.Alerts(alertsRead)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(rows, func(r store.AlertRow) bool { return r.ID == id && !r.Resolved.IsZero() })
	if i < 0 {
		return refuse(NotFound, "there is no alert %q; `keybrake alerts list` shows them", id)
	}
	return refuse(Conflict, "the alert %s is over since %s", id, stamp(rows[i].Resolved))
}

// AlertTargets lists where messages go and how that goes.
func (s *Service) AlertTargets(ctx context.Context) (List[AlertTarget], error) {
	out := List[AlertTarget]{Items: []AlertTarget{}}
	if s.Alerter == nil {
		return out, nil
	}
	for _, t := range s.Alerter.Targets {
		least := string(t.Least)
		if least == "" {
			least = string(alert.Warning)
		}
		out.Items = append(out.Items, AlertTarget{Name: t.Name, Kind: t.Kind, Least: least})
	}
	err := s.Store.View(ctx, func(tx store.Tx) error {
		for i := range out.Items {
			rows, err := tx.Messages(out.Items[i].Name, messagesRead)
			if err != nil {
				return err
			}
			for _, m := range rows {
				out.Items[i].count(&m, tx.Now())
			}
		}
		return nil
	})
	for i := range out.Items {
		if t := &out.Items[i]; t.Arrived.After(t.Failed) {
			t.Failed, t.Error = time.Time{}, ""
		}
	}
	return out, understood("list the targets", err)
}

// count takes a message in.
func (t *AlertTarget) count(m *store.MessageRow, now time.Time) {
	if m.Done.IsZero() {
		t.Waiting++
	}
	at := m.Done
	if at.IsZero() { // it waits, and the next attempt may be to come
		if at = m.Due; at.After(now) {
			at = now
		}
	}
	switch {
	case m.Attempts == 0:
	case m.Error == "" && at.After(t.Arrived):
		t.Arrived = utc(at)
	case m.Error != "" && at.After(t.Failed):
		t.Failed, t.Error = utc(at), m.Error
	}
}

// TestAlertTarget sends a test message to a target now.
func (s *Service) TestAlertTarget(ctx context.Context, who Actor, target string) (AlertTested, error) {
	if s.Alerter == nil || !slices.ContainsFunc(s.Alerter.Targets, func(t alert.Target) bool { return t.Name == target }) {
		return AlertTested{}, refuse(NotFound, "there is no target %q; the config file's section `alerts` has them", target)
	}
	out := AlertTested{Target: target, Arrived: true}
	if err := s.Alerter.Test(ctx, target); err != nil {
		out.Arrived, out.Error = false, err.Error()
	}
	return out, s.act(ctx, store.LaneControl, who, "alert.test", func(_ store.Tx, rec *audit.Record) error {
		rec.Subject, rec.Diff = "target "+target, "arrived"
		if !out.Arrived {
			rec.Diff = "did not arrive: " + out.Error
		}
		return nil
	})
}

func (a *api) alerts() {
	handleList(a, route{http.MethodGet, "alerts", "list-alerts", "List what is wrong, and what was", vault.ToSee, 0},
		func(v Alert) string { return v.ID },
		func(ctx context.Context, _ Actor, in *struct {
			Key  string `query:"key" doc:"id or name of the vault key that they are about"`
			Kind string `query:"kind" enum:"cap,denials,brake,frozen,loop,unresolved,expiry,rotation,chain,store,upstream"`
			Open bool   `query:"open" doc:"only what is not over"`
			Paging
		}) ([]Alert, error) {
			found, err := a.s.Alerts(ctx, AlertFilter{in.Key, in.Kind, in.Open})
			return found.Items, err
		})
	handle(a, route{http.MethodPost, "alerts/{alert}/acknowledge", "acknowledge-alert", "Say that somebody looks after an alert", vault.ToSee, 0},
		func(ctx context.Context, who Actor, in *struct {
			Alert string `path:"alert" doc:"its id"`
		}) (Alert, error) {
			return a.s.AcknowledgeAlert(ctx, who, in.Alert)
		})
	handleList(a, route{http.MethodGet, "alert-targets", "list-alert-targets", "List where alerts are told, and how that goes", vault.ToSee, 0},
		func(t AlertTarget) string { return t.Name },
		func(ctx context.Context, _ Actor, _ *Paging) ([]AlertTarget, error) {
			found, err := a.s.AlertTargets(ctx)
			return found.Items, err
		})
	handle(a, route{http.MethodPost, "alert-targets/{target}/test", "test-alert-target", "Send a test message", vault.ToLower, 0},
		func(ctx context.Context, who Actor, in *struct {
			Target string `path:"target" doc:"its name"`
		}) (AlertTested, error) {
			return a.s.TestAlertTarget(ctx, who, in.Target)
		})
}

// Alerts calls Service.Alerts.
func (c *Client) Alerts(ctx context.Context, f AlertFilter) (List[Alert], error) {
	v := url.Values{}
	for name, value := range map[string]string{"key": f.Key, "kind": f.Kind} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if f.Open {
		v.Set("open", "true")
	}
	return call[List[Alert]](ctx, c, http.MethodGet, "alerts", v, nil)
}

// AcknowledgeAlert calls Service.AcknowledgeAlert.
func (c *Client) AcknowledgeAlert(ctx context.Context, id string) (Alert, error) {
	return call[Alert](ctx, c, http.MethodPost, "alerts/"+seg(id)+"/acknowledge", nil, nil)
}

// AlertTargets calls Service.AlertTargets.
func (c *Client) AlertTargets(ctx context.Context) (List[AlertTarget], error) {
	return call[List[AlertTarget]](ctx, c, http.MethodGet, "alert-targets", nil, nil)
}

// TestAlertTarget calls Service.TestAlertTarget.
func (c *Client) TestAlertTarget(ctx context.Context, name string) (AlertTested, error) {
	return call[AlertTested](ctx, c, http.MethodPost, "alert-targets/"+seg(name)+"/test", nil, nil)
}
