package admin

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

// operator makes an account.
func (w *world) operator(t *testing.T, name string, role vault.Role) Operator {
	t.Helper()
	op, err := w.client.CreateOperator(t.Context(), OperatorRequest{Name: name, Role: role.String()})
	if err != nil {
		t.Fatal(err)
	}
	return op
}

// token makes an operator a token and returns a client with it, and its text.
func (w *world) token(t *testing.T, req TokenRequest) (*Client, string) {
	t.Helper()
	made, err := w.client.CreateToken(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(w.server.URL, made.Token)
	if err != nil {
		t.Fatal(err)
	}
	return c, made.Token
}

// link makes an operator a link and returns its secret.
func (w *world) link(t *testing.T, operator string) string {
	t.Helper()
	invite, err := w.client.Invite(t.Context(), operator, InviteRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return secretOf(t, invite)
}

func secretOf(t *testing.T, invite Invite) string {
	t.Helper()
	u, err := url.Parse(invite.Path)
	if err != nil || u.Path != WelcomePath {
		t.Fatal(invite.Path, err)
	}
	return u.Query().Get("link")
}

// signedIn signs an operator in by a link, and returns the API as they may use it, and the session.
func (w *world) signedIn(t *testing.T, operator string) (*Client, string) {
	t.Helper()
	entry, err := w.Welcome(t.Context(), w.link(t, operator), "", Visitor{From: "192.0.2.7", Agent: "Firefox"})
	if err != nil {
		t.Fatal(err)
	}
	return As(w.Handler(), entry.Who), entry.Session.Reveal()
}

// answered reports whether an error is the answer with a status, and says something of what it should.
func refusedWith(err error, status int, says string) bool {
	var p *Problem
	return errors.As(err, &p) && p.Status == status && strings.Contains(p.Detail, says)
}

func TestWhatAnOperatorMayDoFollowsTheAccountAtTheNextRequest(t *testing.T) {
	w := newWorld(t)
	ben := w.operator(t, "ben", vault.RoleAdmin)
	w.operator(t, "ines", vault.RoleAdmin)
	c, text := w.token(t, TokenRequest{Name: "laptop", Operator: "ben"})
	entry, err := w.SignIn(t.Context(), text, Visitor{From: "192.0.2.7"})
	if err != nil {
		t.Fatal(err)
	}
	_, byLink := w.signedIn(t, "ben")
	yes, no := true, false
	for _, step := range []struct {
		name   string
		update OperatorUpdate
		role   vault.Role // 0: comes in by nothing
	}{
		{"an admin", OperatorUpdate{Email: ptr("ben@example.com")}, vault.RoleAdmin},
		{"made an auditor", OperatorUpdate{Role: "auditor"}, vault.RoleAuditor},
		{"made a responder", OperatorUpdate{Role: "responder", Reason: "on call"}, vault.RoleResponder},
		{"disabled", OperatorUpdate{Disabled: &yes}, 0},
	} {
		if _, err := w.client.UpdateOperator(t.Context(), ben.ID, step.update); err != nil {
			t.Fatal(step.name, err)
		}
		for how, come := range map[string]func() (Actor, bool){
			"the token":             func() (Actor, bool) { return w.present(text) },
			"the token's session":   func() (Actor, bool) { return w.Whose(entry.Session.Reveal(), true) },
			"the session of a link": func() (Actor, bool) { return w.Whose(byLink, true) },
		} {
			who, ok := come()
			if ok != (step.role != 0) || who.Role != step.role || ok && (who.Name != "ben" || who.Operator != ben.ID) {
				t.Errorf("%s, by %s: %+v, %v", step.name, how, who, ok)
			}
		}
	}
	if _, err := c.Keys(t.Context(), KeyFilter{}); !refusedWith(err, http.StatusUnauthorized, "") {
		t.Errorf("disabled, over the network: %v", err)
	}
	if _, err := w.client.UpdateOperator(t.Context(), "ben", OperatorUpdate{Disabled: &no, Reason: "is back"}); err != nil {
		t.Fatal(err)
	}
	if _, ok := w.present(text); !ok {
		t.Error("enabled again, the token does not work")
	}
	for _, session := range []string{entry.Session.Reveal(), byLink} {
		if _, ok := w.Whose(session, true); ok {
			t.Error("a session came back with the account")
		}
	}
	w.restart(t)
	if who, ok := w.present(text); !ok || who.Role != vault.RoleResponder {
		t.Errorf("after a restart: %+v, %v", who, ok)
	}
}

func ptr[T any](v T) *T { return &v }

func TestTheLastAdminStaysOne(t *testing.T) {
	w := newWorld(t)
	w.operator(t, "ines", vault.RoleAdmin)
	w.operator(t, "ben", vault.RoleResponder)
	yes := true
	for name, update := range map[string]OperatorUpdate{"demoted": {Role: "responder"}, "disabled": {Disabled: &yes}} {
		if _, err := w.client.UpdateOperator(t.Context(), "ines", update); !refusedWith(err, http.StatusConflict, "last admin") {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.operator(t, "cleo", vault.RoleAdmin)
	if _, err := w.client.UpdateOperator(t.Context(), "ines", OperatorUpdate{Disabled: &yes}); err != nil {
		t.Errorf("with another admin: %v", err)
	}
	if _, err := w.client.UpdateOperator(t.Context(), "cleo", OperatorUpdate{Role: "auditor"}); !refusedWith(err, http.StatusConflict, "last admin") {
		t.Errorf("the other admin, with the first disabled: %v", err)
	}
}

func TestRequestsAboutOperatorsThatAreRefused(t *testing.T) {
	w := newWorld(t)
	w.operator(t, "ines", vault.RoleAdmin)
	w.operator(t, "ben", vault.RoleResponder)
	if _, err := w.client.UpdateOperator(t.Context(), "ben", OperatorUpdate{Email: ptr("Ben@Example.com")}); err != nil {
		t.Fatal(err)
	}
	w.token(t, TokenRequest{Name: "pager", Role: "stop"})
	ctx := t.Context()
	no := false
	create := func(req OperatorRequest) func() error {
		return func() error { _, err := w.client.CreateOperator(ctx, req); return err }
	}
	update := func(name string, req OperatorUpdate) func() error {
		return func() error { _, err := w.client.UpdateOperator(ctx, name, req); return err }
	}
	token := func(req TokenRequest) func() error {
		return func() error { _, err := w.client.CreateToken(ctx, req); return err }
	}
	before := len(w.records(t))
	for name, c := range map[string]struct {
		do     func() error
		status int
		says   string
	}{
		"a name that is taken":               {create(OperatorRequest{Name: "Ines", Role: "auditor"}), 409, "names are for ever"},
		"a tool's name":                      {create(OperatorRequest{Name: "pager", Role: "auditor"}), 409, "choose another name"},
		"a name that records use":            {create(OperatorRequest{Name: "kill-file", Role: "auditor"}), 400, "choose another name"},
		"a name with a blank":                {create(OperatorRequest{Name: "a b", Role: "auditor"}), 400, "write letters"},
		"no name":                            {create(OperatorRequest{Role: "auditor"}), 400, "a name is needed"},
		"an account that can only stop":      {create(OperatorRequest{Name: "x", Role: "stop"}), 422, ""},
		"an email that is none":              {create(OperatorRequest{Name: "x", Role: "auditor", Email: "x"}), 400, "like ines@example.com"},
		"another one's email":                {create(OperatorRequest{Name: "x", Role: "auditor", Email: "ben@example.com"}), 409, "one account"},
		"a change of nothing":                {update("ben", OperatorUpdate{Role: "responder"}), 400, "nothing would change"},
		"a higher role without a reason":     {update("ben", OperatorUpdate{Role: "admin"}), 400, "needs a reason"},
		"nobody":                             {update("dora", OperatorUpdate{Role: "admin", Reason: "x"}), 404, "keybrake operator list"},
		"enabling who is enabled":            {update("ben", OperatorUpdate{Disabled: &no}), 400, "nothing would change"},
		"a token above its operator's role":  {token(TokenRequest{Name: "t", Operator: "ben", Role: "admin"}), 403, "cannot be admin"},
		"a token of nobody":                  {token(TokenRequest{Name: "t", Operator: "dora"}), 404, "keybrake operator list"},
		"a token for ever":                   {token(TokenRequest{Name: "t", Operator: "ben", Expires: "900d"}), 400, "366 days"},
		"a tool's token without a role":      {token(TokenRequest{Name: "t"}), 400, "say what the token may do"},
		"a tool's token named like ben":      {token(TokenRequest{Name: "ben", Role: "stop"}), 409, "choose another name"},
		"a link for a month":                 {func() error { _, err := w.client.Invite(ctx, "ben", InviteRequest{Expires: "30d"}); return err }, 400, "7d at most"},
		"ending a link that is not there":    {func() error { return w.client.Uninvite(ctx, "ben") }, 404, "no link"},
		"ending a session that is not there": {func() error { return w.client.EndSession(ctx, "ses_x") }, 404, "keybrake session list"},
	} {
		if err := c.do(); !refusedWith(err, c.status, c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if now := len(w.records(t)); now != before {
		t.Errorf("%d records of what was refused", now-before)
	}
}

func TestOperatorsLookAfterWhatIsTheirOwn(t *testing.T) {
	w := newWorld(t)
	for name, role := range map[string]vault.Role{"ines": vault.RoleAdmin, "ben": vault.RoleResponder, "ada": vault.RoleAuditor} {
		w.operator(t, name, role)
	}
	w.token(t, TokenRequest{Name: "ines-laptop", Operator: "ines"})
	ada, adaSession := w.signedIn(t, "ada")
	_, inesSession := w.signedIn(t, "ines")
	ctx := t.Context()
	made, err := ada.CreateToken(ctx, TokenRequest{Name: "ada-laptop", Operator: "ada"})
	if err != nil || made.Role != "auditor" || made.Operator != "ada" {
		t.Fatalf("her own token: %+v, %v", made, err)
	}
	if in := made.Expires.Sub(w.now()); in < 89*24*time.Hour || in > 90*24*time.Hour {
		t.Errorf("it expires in %v", in)
	}
	byToken, err := NewClient(w.server.URL, made.Token)
	if err != nil {
		t.Fatal(err)
	}
	who := func(session string) Actor { a, _ := w.Whose(session, false); return a }
	for name, c := range map[string]struct {
		do   func() error
		says string
	}{
		"a tool's token":            {func() error { _, err := ada.CreateToken(ctx, TokenRequest{Name: "x", Role: "stop"}); return err }, "only an admin"},
		"a token for somebody else": {func() error { _, err := ada.CreateToken(ctx, TokenRequest{Name: "x", Operator: "ines"}); return err }, "for somebody else"},
		"a token above her role": {func() error {
			_, err := ada.CreateToken(ctx, TokenRequest{Name: "x", Operator: "ada", Role: "responder"})
			return err
		}, "cannot be responder"},
		"a token by a token":               {func() error { _, err := byToken.CreateToken(ctx, TokenRequest{Name: "x", Operator: "ada"}); return err }, "a token makes no other"},
		"ending another's token":           {func() error { return ada.DeleteToken(ctx, "ines-laptop") }, "somebody else's token"},
		"ending another's session":         {func() error { return ada.EndSession(ctx, who(inesSession).Session) }, "somebody else's session"},
		"ending all of another's sessions": {func() error { _, err := ada.EndSessions(ctx, "ines"); return err }, "somebody else's sessions"},
	} {
		if err := c.do(); !refusedWith(err, http.StatusForbidden, c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := ada.DeleteToken(ctx, "ada-laptop"); err != nil {
		t.Errorf("ending her own token: %v", err)
	}
	if n, err := ada.EndSessions(ctx, "ada"); err != nil || n != 1 {
		t.Errorf("ending her own sessions: %d, %v", n, err)
	}
	if _, ok := w.Whose(adaSession, true); ok {
		t.Error("the session goes on")
	}
	list, err := w.client.Operators(ctx)
	if err != nil || len(list.Items) != 3 || list.Items[2].Name != "ines" || list.Items[2].Sessions != 1 || list.Items[2].Tokens != 1 {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestASessionEndsWithWhatOpenedIt(t *testing.T) {
	w := newWorld(t)
	w.operator(t, "ines", vault.RoleAdmin)
	ctx := t.Context()
	_, short := w.token(t, TokenRequest{Name: "short", Operator: "ines", Expires: "1h"})
	_, deleted := w.token(t, TokenRequest{Name: "deleted", Operator: "ines"})
	local := w.MintLocal("local", vault.RoleAdmin).Reveal()
	sessions := map[string]string{}
	for name, token := range map[string]string{"a token that expires": short, "a token that is deleted": deleted, "the process": local} {
		entry, err := w.SignIn(ctx, token, Visitor{From: "192.0.2.7"})
		if err != nil {
			t.Fatal(name, err)
		}
		sessions[name] = entry.Session.Reveal()
	}
	alive := func() (out int) {
		for _, session := range sessions {
			if _, ok := w.Whose(session, true); ok {
				out++
			}
		}
		return out
	}
	if alive() != 3 {
		t.Fatal("not all came in")
	}
	if err := w.client.DeleteToken(ctx, "deleted"); err != nil {
		t.Fatal(err)
	}
	if alive() != 2 {
		t.Error("the session of a deleted token goes on")
	}
	// Another token under the name does not bring it back.
	w.token(t, TokenRequest{Name: "deleted", Operator: "ines"})
	if alive() != 2 {
		t.Error("it came back with another token of the same name")
	}
	w.pass(time.Hour)
	if alive() != 1 {
		t.Error("the session of an expired token goes on")
	}
	w.restart(t)
	if alive() != 0 {
		t.Error("the session of a process's token outlives the process")
	}
}

func TestSessionsEndByThemselves(t *testing.T) {
	w := newWorld(t)
	w.operator(t, "ines", vault.RoleAdmin)
	_, used := w.signedIn(t, "ines")
	_, idle := w.signedIn(t, "ines")
	_, watched := w.signedIn(t, "ines")
	in := func(session string) bool { _, ok := w.Whose(session, false); return ok }
	for at := time.Duration(0); at < SessionLife; at += time.Hour {
		_, ok := w.Whose(used, true)
		if !ok {
			t.Fatalf("a session in use ended after %v", at)
		}
		if _, ok := w.Whose(watched, false); ok != (at < SessionIdle) || in(idle) != (at < SessionIdle) {
			t.Fatalf("after %v: watched %v, idle %v", at, ok, in(idle))
		}
		w.pass(time.Hour)
	}
	if in(used) {
		t.Error("a session in use lives for ever")
	}
	list, err := w.client.Sessions(t.Context())
	if err != nil || len(list.Items) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	w.Service.Close() // what was noted meanwhile is written
	w.signedIn(t, "ines")
	rows := 0
	err = w.db.View(t.Context(), func(tx store.Tx) error {
		passes, err := tx.Passes()
		rows = len(passes)
		return err
	})
	if err != nil || rows != 1 {
		t.Errorf("%d rows are left of sessions that ended: %v", rows, err)
	}
}

func TestASessionSurvivesARestartAndIsStoredAsADigest(t *testing.T) {
	w := newWorld(t)
	w.operator(t, "ines", vault.RoleAdmin)
	_, session := w.signedIn(t, "ines")
	w.pass(SessionIdle - time.Minute)
	if _, ok := w.Whose(session, true); !ok {
		t.Fatal("it ended")
	}
	w.restart(t)
	w.pass(SessionIdle - time.Minute) // would be too long since it was opened
	who, ok := w.Whose(session, true)
	if !ok || who.Name != "ines" || who.Via != ViaSession {
		t.Errorf("%+v, %v", who, ok)
	}
	list := w.Sessions(who)
	if len(list) != 1 || !list[0].Current || list[0].From != "192.0.2.7" || list[0].Agent != "Firefox" || strings.Contains(session, list[0].ID[4:]) {
		t.Errorf("%+v", list)
	}
}

func TestTheOldestSessionMakesRoom(t *testing.T) {
	w := newWorld(t)
	w.operator(t, "ines", vault.RoleAdmin)
	_, text := w.token(t, TokenRequest{Name: "laptop", Operator: "ines"})
	var sessions []string
	for range maxSessions + 3 {
		w.pass(time.Second)
		entry, err := w.SignIn(t.Context(), text, Visitor{})
		if err != nil {
			t.Fatal(err)
		}
		sessions = append(sessions, entry.Session.Reveal())
	}
	for i, session := range sessions {
		if _, ok := w.Whose(session, false); ok != (i >= 3) {
			t.Errorf("session %d: %v", i, ok)
		}
	}
}

func TestALinkSignsInOnce(t *testing.T) {
	w := newWorld(t)
	w.operator(t, "ines", vault.RoleAdmin)
	w.operator(t, "ben", vault.RoleAuditor)
	ctx, v := t.Context(), Visitor{From: "192.0.2.7"}
	link := w.link(t, "ben")
	for range 2 { // to look is not to use
		if name, ok := w.Link(link); !ok || name != "ben" {
			t.Fatal(name, ok)
		}
	}
	entry, err := w.Welcome(ctx, link, "", v)
	if err != nil || entry.Who.Name != "ben" || entry.Who.Role != vault.RoleAuditor {
		t.Fatal(entry, err)
	}
	replaced := w.link(t, "ben")
	expired := w.link(t, "ben")
	if _, err := w.Welcome(ctx, replaced, "", v); !stranger(err) {
		t.Errorf("a link that another one replaced: %v", err)
	}
	w.pass(24 * time.Hour)
	ended := w.link(t, "ines")
	if err := w.client.Uninvite(ctx, "ines"); err != nil {
		t.Fatal(err)
	}
	disabled := w.link(t, "ben")
	yes := true
	if _, err := w.client.UpdateOperator(ctx, "ben", OperatorUpdate{Disabled: &yes}); err != nil {
		t.Fatal(err)
	}
	before := len(w.records(t))
	for name, link := range map[string]string{
		"used": link, "expired": expired, "ended": ended, "of a disabled operator": disabled, "cut": link[:20], "none": "", "a session": entry.Session.Reveal(),
	} {
		if _, ok := w.Link(link); ok {
			t.Errorf("a link that is %s looks good", name)
		}
		if _, err := w.Welcome(ctx, link, "mallory", Visitor{From: "198.51.100." + fmt.Sprint(len(name))}); !stranger(err) {
			t.Errorf("a link that is %s: %v", name, err)
		}
	}
	if now := len(w.records(t)); now != before {
		t.Errorf("%d records of it", now-before)
	}
}

func stranger(err error) bool {
	var r *Refusal
	return errors.As(err, &r) && r.Kind == Stranger
}

func TestTheFirstAdminComesInByTheLinkThatTheStartPrinted(t *testing.T) {
	w := newWorld(t)
	ctx, v := t.Context(), Visitor{From: "192.0.2.7"}
	old, ok, err := w.FirstAdmin(ctx)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	w.restart(t)
	invite, ok, err := w.FirstAdmin(ctx)
	if err != nil || !ok {
		t.Fatal("a later start has none:", ok, err)
	}
	link := secretOf(t, invite)
	if _, ok := w.Link(secretOf(t, old)); ok {
		t.Error("the link of an earlier start works")
	}
	if _, err := w.Welcome(ctx, link, "in es", v); err == nil || stranger(err) {
		t.Errorf("a name that is none: %v", err)
	}
	if name, ok := w.Link(link); !ok || name != "" {
		t.Fatal("a name that is none used the link up")
	}
	entry, err := w.Welcome(ctx, link, "ines", v)
	if err != nil || entry.Who.Role != vault.RoleAdmin || entry.Who.Name != "ines" || entry.Who.Operator == "" {
		t.Fatal(entry.Who, err)
	}
	if _, err := w.Welcome(ctx, link, "mallory", v); !stranger(err) {
		t.Errorf("twice: %v", err)
	}
	if _, ok, err := w.FirstAdmin(ctx); ok || err != nil {
		t.Errorf("there is an admin and a link for the first: %v", err)
	}
	records := w.records(t)
	last := records[len(records)-1]
	if last.Action != "operator.create" || last.Operator != "ines" || last.From != "192.0.2.7" || last.Subject != "operator ines" {
		t.Errorf("%+v", last)
	}
	if who, ok := w.Whose(entry.Session.Reveal(), true); !ok || who.Role != vault.RoleAdmin {
		t.Error(who, ok)
	}
}

func TestNobodyBecomesTheFirstAdminBesideSomebodyElse(t *testing.T) {
	ctx, v := t.Context(), Visitor{From: "192.0.2.7"}
	for name, change := range map[string]func(*testing.T, *world){
		"after an operator was made by hand": func(t *testing.T, w *world) { w.operator(t, "ines", vault.RoleAdmin) },
		"after its time":                     func(_ *testing.T, w *world) { w.pass(24 * time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			invite, _, err := w.FirstAdmin(ctx)
			if err != nil {
				t.Fatal(err)
			}
			change(t, w)
			if _, err := w.Welcome(ctx, secretOf(t, invite), "mallory", v); !stranger(err) {
				t.Error(err)
			}
		})
	}
	w := newWorld(t)
	w.token(t, TokenRequest{Name: "pager", Role: "stop"})
	if _, ok, err := w.FirstAdmin(ctx); ok || err != nil {
		t.Errorf("with a token: %v, %v", ok, err)
	}
}

func TestSigningInIsSlowedDownWhereItWentWrong(t *testing.T) {
	var a attempts
	at := time.Date(2026, 11, 27, 2, 0, 0, 0, time.UTC)
	for i := range fromOne {
		if !a.allow("192.0.2.7", at) {
			t.Fatalf("refused after %d", i)
		}
		a.wrong("192.0.2.7", at)
	}
	if a.allow("192.0.2.7", at) || a.allow("::ffff:192.0.2.7", at) {
		t.Error("one more is looked at")
	}
	if !a.allow("192.0.2.8", at) {
		t.Error("another address pays for it")
	}
	if !a.allow("192.0.2.7", at.Add(fromOneEvery)) {
		t.Error("it is never forgiven")
	}
	for range fromOne {
		a.wrong("2001:db8::1", at)
	}
	if a.allow("2001:db8::2", at) || !a.allow("2001:db8:0:1::2", at) {
		t.Error("a host's other IPv6 addresses are not counted with it, or others' are")
	}
	for i := range fromAll {
		a.wrong(fmt.Sprintf("10.0.%d.%d", i/200, i%200), at)
	}
	if a.allow("10.0.0.7", at) || !a.allow("192.0.2.9", at) {
		t.Error("when many are wrong, who was wrong is looked at, or who was not is not")
	}
}

func TestWhatIsRememberedOfWrongAttemptsHasAnEnd(t *testing.T) {
	var a attempts
	at := time.Date(2026, 11, 27, 2, 0, 0, 0, time.UTC)
	for range fromOne {
		a.wrong("192.0.2.7", at)
	}
	for i := range maxAddresses + 500 {
		a.wrong(fmt.Sprintf("10.%d.%d.1", i/250, i%250), at)
	}
	if len(a.from) > maxAddresses {
		t.Errorf("%d addresses", len(a.from))
	}
	if a.allow("192.0.2.7", at) {
		t.Error("who was wrong most was forgotten first")
	}
	a.wrong("192.0.2.9", at.Add(time.Hour))
	if len(a.from) != 1 {
		t.Errorf("an hour later %d are remembered", len(a.from))
	}
}

func TestWrongTokensAtTheDoorAreRefusedUnseenAfterAWhile(t *testing.T) {
	w := newWorld(t)
	w.operator(t, "ines", vault.RoleAdmin)
	_, good := w.token(t, TokenRequest{Name: "laptop", Operator: "ines"})
	_, stop := w.token(t, TokenRequest{Name: "pager", Role: "stop"})
	for range fromOne {
		if _, err := w.SignIn(t.Context(), "keybrake_admin_wrong", Visitor{From: "192.0.2.7"}); !stranger(err) {
			t.Fatal(err)
		}
	}
	var r *Refusal
	if _, err := w.SignIn(t.Context(), good, Visitor{From: "192.0.2.7"}); !errors.As(err, &r) || r.Kind != TooMany {
		t.Errorf("after %d wrong ones: %v", fromOne, err)
	}
	if _, err := w.SignIn(t.Context(), good, Visitor{From: "192.0.2.8"}); err != nil {
		t.Errorf("from elsewhere: %v", err)
	}
	w.pass(fromOneEvery)
	if _, err := w.SignIn(t.Context(), good, Visitor{From: "192.0.2.7"}); err != nil {
		t.Errorf("after a while: %v", err)
	}
	if _, err := w.SignIn(t.Context(), stop, Visitor{From: "192.0.2.8"}); !errors.As(err, &r) || r.Kind != Forbidden {
		t.Errorf("a token that may only stop: %v", err)
	}
}

func TestComingAndGoingLeavesOneRecordEach(t *testing.T) {
	w := newWorld(t)
	ctx, v := t.Context(), Visitor{From: "192.0.2.7"}
	first, _, err := w.FirstAdmin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var session string
	enter := func(e Entry, err error) error { session = e.Session.Reveal(); return err }
	for _, step := range []struct {
		action, subject, operator, from string
		do                              func() error
	}{
		{"operator.invite", "the first admin", "server", "", func() error {
			invite, _, err := w.FirstAdmin(ctx)
			first = invite
			return err
		}},
		{"operator.create", "operator ines", "ines", "192.0.2.7", func() error { return enter(w.Welcome(ctx, secretOf(t, first), "ines", v)) }},
		{"session.end", "session of ines", "ines", "192.0.2.7", func() error { return w.SignOut(ctx, session, v) }},
		{"session.open", "session of local", "local", "192.0.2.7", func() error {
			return enter(w.SignIn(ctx, w.MintLocal("local", vault.RoleAdmin).Reveal(), v))
		}},
		{"session.end", "session of local", "local", "192.0.2.7", func() error { return w.SignOut(ctx, session, v) }},
	} {
		before := len(w.records(t))
		if err := step.do(); err != nil {
			t.Fatal(step.action, err)
		}
		records := w.records(t)
		if len(records) != before+1 {
			t.Fatalf("%s: %d records", step.action, len(records)-before)
		}
		if r := records[before]; r.Action != step.action || r.Subject != step.subject || r.Operator != step.operator || r.From != step.from {
			t.Errorf("%s: %+v", step.action, r)
		}
	}
	before := len(w.records(t))
	if err := w.SignOut(ctx, session, v); err != nil {
		t.Errorf("signing out twice: %v", err)
	}
	if _, err := w.SignIn(ctx, "keybrake_admin_wrong", v); err == nil {
		t.Error("a wrong token comes in")
	}
	if now := len(w.records(t)); now != before {
		t.Errorf("%d records of nothing", now-before)
	}
}

func TestWhoIsSignedInStaysSoWithoutAStore(t *testing.T) {
	w := newWorld(t)
	w.operator(t, "ines", vault.RoleAdmin)
	c, session := w.signedIn(t, "ines")
	if err := w.db.Close(); err != nil {
		t.Fatal(err)
	}
	if who, ok := w.Whose(session, true); !ok || who.Name != "ines" {
		t.Error(who, ok)
	}
	if answer, err := c.Kill(t.Context(), KillRequest{Target: Target{All: true}}); err != nil || answer.Warning == "" {
		t.Errorf("a stop without a store: %+v, %v", answer, err)
	}
	var r *Refusal
	if _, err := w.SignIn(t.Context(), w.MintLocal("local", vault.RoleAdmin).Reveal(), Visitor{}); !errors.As(err, &r) || r.Kind != Unavailable {
		t.Errorf("signing in without a store: %v", err)
	}
}
