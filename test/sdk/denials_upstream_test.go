package sdk

import (
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

// keyed returns a call with an idempotency key of the agent's own.
func keyed(a ask, key string) ask {
	a.IdempotencyKey = key
	return a
}

// again sends the call with an idempotency key that was used before.
func again(key string) func(*scene, *ask) {
	return func(_ *scene, a *ask) { a.IdempotencyKey = key }
}

const cutRefunds = `{"kind":"cut","after":true,"method":"POST","path":"/v1/refunds"}`

var idempotencyDenials = []denial{
	{
		name: "an idempotency key of another call", code: policy.CodeIdemMismatch, call: keyed(with(refundOwn, "amount", "200"), "order-1"),
		before:  func(s *scene, _ *ask) { s.mustPost(200, "/v1/refunds", "order-1", refundOwn.Params) },
		refused: "was used before with other parameters", cure: "Send a new key for a new call", cured: again("order-2"),
	},
	{
		name: "an idempotency key of a call that is on its way", code: policy.CodeIdemInUse, call: keyed(refundOwn, "order-1"),
		before: func(s *scene, _ *ask) {
			s.fault(`{"kind":"hang","method":"POST","path":"/v1/refunds"}`)
			s.alongside("/v1/refunds", "order-1", refundOwn.Params)
			s.hanging()
		},
		refused: "is on its way", cure: "Wait for its answer, then send the key again",
		cured: func(s *scene, _ *ask) {
			s.mend()
			s.going.Wait()
		},
	},
	{
		name: "a call whose equal has an unknown outcome", code: policy.CodeOutcomePending, call: refundOwn, sent: 1,
		before: func(s *scene, _ *ask) {
			s.fault(cutRefunds)
			s.mustPost(504, "/v1/refunds", "order-1", refundOwn.Params)
		},
		refused: "its outcome is not known yet", cure: "Send it again with the idempotency key of that call", cured: again("order-1"),
	},
	{
		name: "a call whose equal has an unknown outcome and no key", code: policy.CodeOutcomePending, call: refundOwn, sent: 1,
		before: func(s *scene, _ *ask) {
			s.fault(cutRefunds)
			s.mustPost(504, "/v1/refunds", "", refundOwn.Params)
		},
		refused: "its outcome is not known yet", cure: "look at Stripe whether it happened, or ask an operator",
	},
}

var upstreamDenials = []denial{
	{
		name: "a write to an upstream where nobody listens", code: upstream.CodeUnreachable, upstream: goneUpstream, call: payment, on: asPair,
		refused: "nothing was sent", cure: "Try again",
	},
	{
		name: "a look-up at an upstream where nobody listens", code: upstream.CodeUnreachable, upstream: goneUpstream, call: refundOwn,
		refused: "the call was not sent", cure: "Try again",
	},
	{
		name: "a read from an upstream where nobody listens", code: upstream.CodeUnreachable, upstream: goneUpstream, call: readCharge, on: asPair,
		refused: "nothing was sent", cure: "Try again",
	},
	{
		name: "a read whose answer is cut", code: upstream.CodeUnreachable, call: readCharge, on: asPair, sent: 1,
		before: func(s *scene, _ *ask) {
			s.fault(`{"kind":"cut_body","method":"GET","path":"/v1/charges/*","times":-1}`)
		},
		refused: "gave no usable answer to this read", cure: "Try again", cured: func(s *scene, _ *ask) { s.mend() },
	},
	{
		name: "a write that our secret may not", code: upstream.CodeCredential, upstream: narrowUpstream, call: payment, on: asPair, sent: 1,
		refused: "Stripe refused the credential", cure: "An operator has to look at it",
		cured: func(s *scene, _ *ask) {
			s.admin("POST", "upstreams/"+narrowUpstream+"/rotate", map[string]string{"secret": "sk_test_wide"}, nil)
		},
	},
	{
		name: "a look-up that our secret may not", code: upstream.CodeCredential, upstream: blindUpstream, call: refundOwn, sent: 1,
		refused: "Stripe refused the credential", cure: "An operator has to look at it",
	},
	{
		name: "a read that our secret may not", code: upstream.CodeCredential, upstream: blindUpstream, call: readCharge, on: asPair, sent: 1,
		refused: "Stripe refused the credential", cure: "An operator has to look at it",
	},
	{
		name: "more look-ups than may be made", code: upstream.CodeUnavailable, call: refundOwn,
		before: func(s *scene, _ *ask) {
			for range lookupBurst { // how much there is left of a charge is looked up each time
				s.mustPost(403, "/v1/refunds", "", map[string]string{"charge": "{own}"})
			}
		},
		policy:  "scopes: {charges: read, refunds: write}\ncaps: [{resource: refunds, per: day, usd: 30.00}]\ncustomers: any\n",
		refused: "it was not sent", cure: "Try again",
	},
	{
		name: "a write while the store cannot write", code: upstream.CodeUnavailable, call: payment, on: asNothing,
		before:  func(s *scene, _ *ask) { s.breakStore() },
		refused: "it was not sent", cure: "Try again", cured: func(s *scene, _ *ask) { s.mendStore() },
	},
	{
		name: "a denial while the store cannot write", code: upstream.CodeUnavailable, call: ask{Op: "subscriptions.retrieve", ID: "sub_1"}, on: asNothing,
		before:  func(s *scene, _ *ask) { s.breakStore() },
		refused: "it gives no answer to it", cure: "Try again",
	},
	{
		name: "a read while the store cannot write", code: upstream.CodeUnavailable, call: readCharge, on: asNothing, sent: 1,
		before:  func(s *scene, _ *ask) { s.breakStore() },
		refused: "it gives no answer to it", cure: "Try again", cured: func(s *scene, _ *ask) { s.mendStore() },
	},
	{
		name: "a write with an idempotency key and no answer", code: upstream.CodeOutcomeUnknown, call: keyed(payment, "order-1"), on: asPair, sent: 1,
		before: func(s *scene, _ *ask) {
			s.fault(`{"kind":"cut","after":true,"method":"POST","path":"/v1/payment_intents","times":-1}`)
		},
		refused: "its outcome is not known", cure: "Send it again with the same idempotency key", cured: func(s *scene, _ *ask) { s.mend() },
	},
	{
		name: "a write without an idempotency key and no answer", code: upstream.CodeOutcomeUnknown, call: ask{Op: "products.delete"}, on: asPair, sent: 1,
		before: func(s *scene, a *ask) {
			a.ID = s.newProduct()
			s.fault(`{"kind":"cut","method":"DELETE","path":"/v1/products/*"}`)
		},
		refused: "its outcome is not known", cure: "look at Stripe whether it happened, or ask an operator",
	},
}
