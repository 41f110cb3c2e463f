package admin

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/vault"
)

// as returns a client with the token of somebody who has a role.
func (w *world) as(t *testing.T, name string, role vault.Role) *Client {
	t.Helper()
	c, err := NewClient(w.server.URL, w.MintLocal(name, role).Reveal())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// forbidden reports whether an answer was 403.
func forbidden(err error) bool {
	var p *Problem
	return errors.As(err, &p) && p.Status == http.StatusForbidden
}

func TestAResponderLowersAndDoesNotRaise(t *testing.T) {
	w := newWorld(t)
	ben := w.as(t, "ben", vault.RoleResponder)
	n := 0
	for name, c := range map[string]struct {
		update KeyUpdate
		taken  bool
	}{
		"a lower cap":                  {KeyUpdate{PolicyEdit: PolicyEdit{Caps: []string{"refunds/day=50"}}}, true},
		"a cap more":                   {KeyUpdate{PolicyEdit: PolicyEdit{Caps: []string{"refunds/week=20"}}}, true},
		"fewer customers":              {KeyUpdate{PolicyEdit: PolicyEdit{Customers: []string{"cus_A"}}}, true},
		"a higher cap, with a reason":  {KeyUpdate{PolicyEdit: PolicyEdit{Caps: []string{"refunds/day=500"}}, Reason: "more"}, false},
		"any customer, with a reason":  {KeyUpdate{PolicyEdit: PolicyEdit{Customers: []string{"any"}}, Reason: "more"}, false},
		"another name":                 {KeyUpdate{Name: "agent-support-refunds-two"}, false},
		"one cap lower and one higher": {KeyUpdate{PolicyEdit: PolicyEdit{Caps: []string{"refunds/day=40", "refunds/hour=90"}}, Reason: "x"}, false},
	} {
		n++
		k := w.key(t, "agent-support-refunds-"+fmt.Sprint(n))
		if _, err := w.client.UpdateKey(t.Context(), k.ID, KeyUpdate{PolicyEdit: PolicyEdit{Caps: []string{"refunds/hour=20"}}}); err != nil {
			t.Fatal(err)
		}
		before := len(w.records(t))
		_, err := ben.UpdateKey(t.Context(), k.ID, c.update)
		if (err == nil) != c.taken || (!c.taken && !forbidden(err)) {
			t.Errorf("%s: %v", name, err)
		}
		if grew := len(w.records(t)) - before; (grew == 1) != c.taken {
			t.Errorf("%s: %d records", name, grew)
		}
	}
	k := w.key(t, "agent-support-refunds-last")
	if _, err := w.as(t, "ada", vault.RoleAuditor).UpdateKey(t.Context(), k.ID, KeyUpdate{PolicyEdit: PolicyEdit{Caps: []string{"refunds/day=1"}}}); !forbidden(err) {
		t.Errorf("an auditor lowers: %v", err)
	}
}

func TestOnlyAnAdminTakesAPolicyIntoShadowAndWhoeverLowersEnforcesIt(t *testing.T) {
	w := newWorld(t)
	ben := w.as(t, "ben", vault.RoleResponder)
	k := w.key(t, "agent-support-refunds-r1")
	detail, err := w.client.Key(t.Context(), k.ID)
	if err != nil {
		t.Fatal(err)
	}
	enforced := KeyUpdate{PolicyEdit: PolicyEdit{Policy: detail.Policy}}
	shadow := KeyUpdate{PolicyEdit: PolicyEdit{Policy: detail.Policy + "enforcement: shadow\n"}, Reason: "the caps are new"}
	if _, err := ben.UpdateKey(t.Context(), k.ID, shadow); !forbidden(err) {
		t.Errorf("a responder takes it into shadow: %v", err)
	}
	silent := shadow
	silent.Reason = ""
	if _, err := w.client.UpdateKey(t.Context(), k.ID, silent); !said(err, 400, "needs a reason") {
		t.Errorf("without a reason: %v", err)
	}
	if _, err := w.client.UpdateKey(t.Context(), k.ID, shadow); err != nil {
		t.Fatal(err)
	}
	if spend, err := w.client.Spend(t.Context(), KeyFilter{}); err != nil || !spend.Keys[0].Shadow {
		t.Errorf("%+v, %v", spend, err)
	}
	if _, err := ben.UpdateKey(t.Context(), k.ID, enforced); err != nil {
		t.Errorf("a responder enforces it: %v", err)
	}
}

func TestOnlyAnAdminResumesWhatSomebodyElseStopped(t *testing.T) {
	w := newWorld(t)
	ben, cleo := w.as(t, "ben", vault.RoleResponder), w.as(t, "cleo", vault.RoleResponder)
	ada, ines := w.as(t, "ada", vault.RoleAuditor), w.as(t, "ines", vault.RoleAdmin)
	for name, c := range map[string]struct {
		stops   []*Client
		resumes *Client
		may     bool
	}{
		"a responder, his own":                    {[]*Client{ben}, ben, true},
		"a responder, his own twice":              {[]*Client{ben, ben}, ben, true},
		"a responder, another's":                  {[]*Client{cleo}, ben, false},
		"a responder, an auditor's":               {[]*Client{ada}, ben, false},
		"a responder, an admin's":                 {[]*Client{ines}, ben, false},
		"a responder, his own and then another's": {[]*Client{ben, cleo}, ben, false},
		"a responder, another's and then his own": {[]*Client{ines, ben}, ben, false},
		"an admin, another's":                     {[]*Client{ben}, ines, true},
		"an admin, what several stopped":          {[]*Client{ben, cleo, ines}, ines, true},
		"an auditor, his own":                     {[]*Client{ada}, ada, false},
	} {
		t.Run(name, func(t *testing.T) {
			k := w.key(t, "agent-support-refunds-"+strings.ToLower(strings.NewReplacer(" ", "-", ",", "", "'", "").Replace(name)))
			target := Target{Keys: []string{k.ID}}
			for i, c := range c.stops {
				if _, err := c.Kill(t.Context(), KillRequest{Target: target, ReadOnly: i == 0}); err != nil {
					t.Fatal(err)
				}
			}
			if w.passes(t, k.Key, true) {
				t.Fatal("not stopped")
			}
			_, err := c.resumes.Resume(t.Context(), ResumeRequest{Target: target, Reason: "looked at it"})
			if (err == nil) != c.may || (!c.may && !forbidden(err)) {
				t.Errorf("%v", err)
			}
			if w.passes(t, k.Key, true) != c.may {
				t.Error("the brake does not follow the answer")
			}
		})
	}
}

func TestNobodyComesInWithoutARole(t *testing.T) {
	w := newWorld(t)
	c := As(w.Handler(), Actor{Name: "nobody"})
	if _, err := c.Keys(t.Context(), KeyFilter{}); !forbidden(err) {
		t.Errorf("%v", err)
	}
	if _, err := c.Kill(t.Context(), KillRequest{Target: Target{All: true}}); !forbidden(err) {
		t.Errorf("%v", err)
	}
}
