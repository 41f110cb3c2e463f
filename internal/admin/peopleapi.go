package admin

import (
	"context"
	"net/http"

	"github.com/keybrake/keybrake/internal/vault"
)

type operatorPath struct {
	Operator string `path:"operator" doc:"id or name"`
}

// Ended says how many sessions were ended.
type Ended struct {
	Sessions int `json:"sessions"`
}

// people are the routes about operators and how they come in. Those that need no more than to see let everybody look after
// what is their own; what is somebody else's takes an admin, which each function says.
func (a *api) people() {
	a.operators()
	a.tokens()
	a.sessions()
}

func (a *api) operators() {
	handleList(a, route{method: http.MethodGet, path: "operators", id: "list-operators", summary: "List operators", needs: vault.ToSee},
		func(o Operator) string { return o.ID },
		func(_ context.Context, _ Actor, _ *Paging) ([]Operator, error) { return a.s.Operators(), nil })
	handleCreate(a, route{method: http.MethodPost, path: "operators", id: "create-operator", summary: "Create an operator's account", needs: vault.ToChange}, a.s.CreateOperator)
	handleVersioned(a, route{method: http.MethodGet, path: "operators/{operator}", id: "show-operator", summary: "Show an operator", needs: vault.ToSee},
		func(_ context.Context, _ Actor, in *operatorPath) (Operator, error) { return a.s.Operator(in.Operator) })
	handleEdit(a, route{method: http.MethodPatch, path: "operators/{operator}", id: "update-operator", summary: "Change, disable or enable an operator's account", needs: vault.ToChange},
		func(ctx context.Context, who Actor, in *struct {
			Operator string `path:"operator" doc:"id or name"`
			Condition
			Body OperatorUpdate
		}, ifMatch string) (Operator, error) {
			in.Body.IfMatch = ifMatch
			return a.s.UpdateOperator(ctx, who, in.Operator, in.Body)
		})
	handleOnce(a, route{method: http.MethodPost, path: "operators/{operator}/invite", id: "invite-operator", summary: "Make a link that signs an operator in once", needs: vault.ToChange},
		func(ctx context.Context, who Actor, in *struct {
			Operator string `path:"operator" doc:"id or name"`
			Repeatable
			Body InviteRequest
		}) (Invite, error) {
			return a.s.Invite(ctx, who, in.Operator, in.Body)
		})
	handle(a, route{method: http.MethodDelete, path: "operators/{operator}/invite", id: "uninvite-operator", summary: "End an operator's link", needs: vault.ToChange},
		func(ctx context.Context, who Actor, in *operatorPath) (Done, error) {
			err := a.s.Uninvite(ctx, who, in.Operator)
			return Done{err == nil}, err
		})
	handle(a, route{method: http.MethodDelete, path: "operators/{operator}/sessions", id: "end-sessions", summary: "End all sessions of an operator", needs: vault.ToSee},
		func(ctx context.Context, who Actor, in *operatorPath) (Ended, error) {
			n, err := a.s.EndSessions(ctx, who, in.Operator)
			return Ended{n}, err
		})
}

func (a *api) tokens() {
	handleList(a, route{method: http.MethodGet, path: "tokens", id: "list-tokens", summary: "List tokens", needs: vault.ToSee},
		func(t Token) string { return t.Name },
		func(_ context.Context, _ Actor, _ *Paging) ([]Token, error) { return a.s.Tokens(), nil })
	handleCreate(a, route{method: http.MethodPost, path: "tokens", id: "create-token", summary: "Create a token", needs: vault.ToSee}, a.s.CreateToken)
	handle(a, route{method: http.MethodDelete, path: "tokens/{token}", id: "delete-token", summary: "End a token", needs: vault.ToSee},
		func(ctx context.Context, who Actor, in *struct {
			Token string `path:"token" doc:"its name"`
		}) (Done, error) {
			err := a.s.DeleteToken(ctx, who, in.Token)
			return Done{err == nil}, err
		})
}

func (a *api) sessions() {
	handleList(a, route{method: http.MethodGet, path: "sessions", id: "list-sessions", summary: "List the console's open sessions", needs: vault.ToSee},
		func(s Session) string { return s.ID },
		func(_ context.Context, who Actor, _ *Paging) ([]Session, error) { return a.s.Sessions(who), nil })
	handle(a, route{method: http.MethodDelete, path: "sessions/{session}", id: "end-session", summary: "End a session", needs: vault.ToSee},
		func(ctx context.Context, who Actor, in *struct {
			Session string `path:"session" doc:"its id"`
		}) (Done, error) {
			err := a.s.EndSession(ctx, who, in.Session)
			return Done{err == nil}, err
		})
}
