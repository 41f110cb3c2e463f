package sdk

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stripe/stripe-go/v85"
	"github.com/stripe/stripe-go/v85/rawrequest"
)

// startGo makes calls with stripe-go, in this process.
func startGo(t *testing.T) func(ask) *raised {
	return func(a ask) *raised {
		backends := stripe.NewBackendsWithConfig(&stripe.BackendConfig{URL: stripe.String(a.URL), LeveledLogger: &stripe.LeveledLogger{}})
		var err error
		if method, path, raw := strings.Cut(a.Op, " "); raw {
			_, err = rawrequest.Client{B: backends.API.(stripe.RawRequestBackend), Key: a.Key}.RawRequest(method, path, a.form().Encode(), &stripe.RawParams{Params: a.options()})
		} else {
			err = goCalls[a.Op](t.Context(), stripe.NewClient(a.Key, stripe.WithBackends(backends)), a)
		}
		return raisedByGo(err)
	}
}

var goCalls = map[string]func(context.Context, *stripe.Client, ask) error{
	"charges.list": func(ctx context.Context, c *stripe.Client, a ask) error {
		params := &stripe.ChargeListParams{ListParams: a.list()}
		return firstError(c.V1Charges.List(ctx, params).All(ctx))
	},
	"charges.retrieve": func(ctx context.Context, c *stripe.Client, a ask) error {
		_, err := c.V1Charges.Retrieve(ctx, a.ID, &stripe.ChargeRetrieveParams{Params: a.params()})
		return err
	},
	"customers.create": func(ctx context.Context, c *stripe.Client, a ask) error {
		_, err := c.V1Customers.Create(ctx, &stripe.CustomerCreateParams{Params: a.params()})
		return err
	},
	"customers.retrieve": func(ctx context.Context, c *stripe.Client, a ask) error {
		_, err := c.V1Customers.Retrieve(ctx, a.ID, &stripe.CustomerRetrieveParams{Params: a.params()})
		return err
	},
	"events.list": func(ctx context.Context, c *stripe.Client, a ask) error {
		return firstError(c.V1Events.List(ctx, &stripe.EventListParams{ListParams: a.list()}).All(ctx))
	},
	"payment_intents.create": func(ctx context.Context, c *stripe.Client, a ask) error {
		_, err := c.V1PaymentIntents.Create(ctx, &stripe.PaymentIntentCreateParams{Params: a.params()})
		return err
	},
	"products.create": func(ctx context.Context, c *stripe.Client, a ask) error {
		_, err := c.V1Products.Create(ctx, &stripe.ProductCreateParams{Params: a.params()})
		return err
	},
	"products.delete": func(ctx context.Context, c *stripe.Client, a ask) error {
		_, err := c.V1Products.Delete(ctx, a.ID, &stripe.ProductDeleteParams{Params: a.params()})
		return err
	},
	"refunds.create": func(ctx context.Context, c *stripe.Client, a ask) error {
		_, err := c.V1Refunds.Create(ctx, &stripe.RefundCreateParams{Params: a.params()})
		return err
	},
	"subscriptions.retrieve": func(ctx context.Context, c *stripe.Client, a ask) error {
		_, err := c.V1Subscriptions.Retrieve(ctx, a.ID, &stripe.SubscriptionRetrieveParams{Params: a.params()})
		return err
	},
	"v2.core.events.list": func(ctx context.Context, c *stripe.Client, _ ask) error {
		return firstError(c.V2CoreEvents.List(ctx, nil).All(ctx))
	},
}

// options are what any call of stripe-go may carry beside its parameters.
func (a ask) options() stripe.Params {
	p := stripe.Params{Headers: make(http.Header)}
	if a.IdempotencyKey != "" {
		p.SetIdempotencyKey(a.IdempotencyKey)
	}
	if a.Account != "" {
		p.SetStripeAccount(a.Account)
	}
	if a.Version != "" {
		p.Headers.Set("Stripe-Version", a.Version)
	}
	for name, value := range a.Headers {
		p.Headers.Set(name, value)
	}
	return p
}

func (a ask) params() stripe.Params {
	p := a.options()
	for name, value := range a.Params {
		p.AddExtra(name, value)
	}
	return p
}

func (a ask) list() stripe.ListParams {
	var p stripe.ListParams
	if a.Account != "" {
		p.SetStripeAccount(a.Account)
	}
	for name, value := range a.Params {
		p.Filters.AddFilter(name, "", value)
	}
	return p
}

func (a ask) form() url.Values {
	out := make(url.Values)
	for name, value := range a.Params {
		out.Set(name, value)
	}
	return out
}

// firstError reads a list to its end, page by page.
func firstError[T any, L ~func(func(T, error) bool)](items L) error {
	for _, err := range items {
		if err != nil {
			return err
		}
	}
	return nil
}

func raisedByGo(err error) *raised {
	if err == nil {
		return nil
	}
	var v1 *stripe.Error
	if errors.As(err, &v1) {
		r := &raised{
			Class: className(v1.Err), Type: string(v1.Type), Code: string(v1.Code), Message: v1.Msg, Param: v1.Param,
			Status: v1.HTTPStatusCode, RequestID: v1.RequestID, Headers: make(map[string]string),
		}
		for name := range v1.LastResponse.Header {
			r.Headers[strings.ToLower(name)] = v1.LastResponse.Header.Get(name)
		}
		return r
	}
	var v2 *stripe.V2RawError
	if errors.As(err, &v2) && v2.Type != nil {
		return &raised{Class: className(v2), Type: string(*v2.Type), Code: v2.Code, Message: v2.Message, Status: v2.HTTPStatusCode, RequestID: v2.RequestID}
	}
	return &raised{Class: className(err), Message: err.Error()} // not the SDK's own: the test tells
}

// className is the name of an error's type, as its package has it.
func className(err error) string { return strings.TrimPrefix(fmt.Sprintf("%T", err), "*stripe.") }
