package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/keybrake/keybrake/internal/vault"
)

// route is one operation, and the one place that says who may ask for it.
type route struct {
	method, path, id, summary string
	// needs is the right that the operation asks for at least. What depends on the request beyond that is its own to judge:
	// an edit of a key that makes it able to do more, a resumption of what somebody else stopped.
	needs   vault.Right
	maxBody int64
}

// operation describes a route to the API. Whoever lacks the right is refused before anything of the request is read.
func (a *api) operation(r route) huma.Operation {
	op := describes(r)
	op.Middlewares = huma.Middlewares{func(ctx huma.Context, next func(huma.Context)) {
		if why := lacks(actorOf(ctx.Context()), r.needs); why != "" {
			_ = huma.WriteErr(a.huma, ctx, http.StatusForbidden, why) // the client went away
			return
		}
		next(ctx)
	}}
	return op
}

// lacks says what somebody lacks for a right; empty: nothing.
func lacks(who Actor, right vault.Right) string {
	switch {
	case who.Role.May(right):
		return ""
	case who.Role == vault.RoleStop:
		return "the token " + who.Name + " has the role stop and may only stop; use an operator's token"
	default:
		return "the role " + who.Role.String() + " may not do that; it needs " + least(right).String()
	}
}

// least is the lowest role that has a right.
func least(right vault.Right) vault.Role {
	for r := vault.RoleStop; r < vault.RoleAdmin; r++ {
		if r.May(right) {
			return r
		}
	}
	return vault.RoleAdmin
}

// permitted guards a handler beside the API's operations.
func permitted(right vault.Right, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if why := lacks(actorOf(r.Context()), right); why != "" {
			problem(w, http.StatusForbidden, why)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// handle registers an operation; f's error becomes a problem document.
func handle[I, O any](a *api, r route, f func(context.Context, Actor, *I) (O, error)) {
	huma.Register(a.huma, a.operation(r), func(ctx context.Context, in *I) (*body[O], error) {
		out, err := f(ctx, actorOf(ctx), in)
		if err != nil {
			return nil, a.s.problem(r.id, err)
		}
		a.spread(ctx, r)
		return &body[O]{out}, nil
	})
}

// spread waits until other nodes act on what an operation changed, before its answer says that it is done. A stop waits by
// itself, to tell who acts on it.
func (a *api) spread(ctx context.Context, r route) {
	if r.method != http.MethodGet && r.id != killRoute {
		a.s.spread(ctx)
	}
}

// problem is the one place that turns errors into answers. What is not the operator's business goes to the
// log under a number that the answer names.
func (s *Service) problem(operation string, err error) error {
	var refused *Refusal
	if errors.As(err, &refused) {
		return refused.document()
	}
	if errors.Is(err, context.Canceled) {
		return huma.NewError(http.StatusServiceUnavailable, "the request was cancelled")
	}
	id := rand.Text()[:12]
	s.Log.Error("an admin request failed", "operation", operation, "request", id, "error", err)
	return huma.NewError(http.StatusInternalServerError, "internal error; the server's log has it under request "+id)
}

func statusOf(k Kind) int {
	switch k {
	case NotFound:
		return http.StatusNotFound
	case Conflict:
		return http.StatusConflict
	case Forbidden:
		return http.StatusForbidden
	case Stranger:
		return http.StatusUnauthorized
	case TooMany:
		return http.StatusTooManyRequests
	case Unavailable:
		return http.StatusServiceUnavailable
	case Stale:
		return http.StatusPreconditionFailed
	case Unversioned:
		return http.StatusPreconditionRequired
	case Reused:
		return http.StatusUnprocessableEntity
	default:
		return http.StatusBadRequest
	}
}
