package admin

import (
	"context"
	"net/http"
)

// Operators calls Service.Operators: all of them.
func (c *Client) Operators(ctx context.Context) (List[Operator], error) {
	return whole[Operator](ctx, c, "operators")
}

// Operator calls Service.Operator.
func (c *Client) Operator(ctx context.Context, idOrName string) (Operator, error) {
	return call[Operator](ctx, c, http.MethodGet, "operators/"+seg(idOrName), nil, nil)
}

// UpdateOperator calls Service.UpdateOperator.
func (c *Client) UpdateOperator(ctx context.Context, idOrName string, req OperatorUpdate) (Operator, error) {
	return edit[Operator](ctx, c, http.MethodPatch, "operators/"+seg(idOrName), req.IfMatch, req)
}

// Uninvite calls Service.Uninvite.
func (c *Client) Uninvite(ctx context.Context, operator string) error {
	_, err := call[Done](ctx, c, http.MethodDelete, "operators/"+seg(operator)+"/invite", nil, nil)
	return err
}

// EndSessions calls Service.EndSessions.
func (c *Client) EndSessions(ctx context.Context, operator string) (ended int, err error) {
	out, err := call[Ended](ctx, c, http.MethodDelete, "operators/"+seg(operator)+"/sessions", nil, nil)
	return out.Sessions, err
}

// Tokens calls Service.Tokens: all of them.
func (c *Client) Tokens(ctx context.Context) (List[Token], error) {
	return whole[Token](ctx, c, "tokens")
}

// DeleteToken calls Service.DeleteToken.
func (c *Client) DeleteToken(ctx context.Context, name string) error {
	_, err := call[Done](ctx, c, http.MethodDelete, "tokens/"+seg(name), nil, nil)
	return err
}

// Sessions calls Service.Sessions: all of them.
func (c *Client) Sessions(ctx context.Context) (List[Session], error) {
	return whole[Session](ctx, c, "sessions")
}

// EndSession calls Service.EndSession.
func (c *Client) EndSession(ctx context.Context, id string) error {
	_, err := call[Done](ctx, c, http.MethodDelete, "sessions/"+seg(id), nil, nil)
	return err
}
