"""An agent with the unmodified stripe package: one call a line on standard input, what became of it a line on
standard output. test/sdk/driver_test.go has the words of both."""

import json
import sys

import stripe
from stripe.api_requestor import APIRequestor

stripe.max_network_retries = 2  # as the other SDKs have by default

RESOURCES = {
    "charges": stripe.Charge,
    "customers": stripe.Customer,
    "events": stripe.Event,
    "payment_intents": stripe.PaymentIntent,
    "products": stripe.Product,
    "refunds": stripe.Refund,
    "subscriptions": stripe.Subscription,
}


def call(ask):
    stripe.api_base = ask["url"]
    params = ask.get("params") or {}
    if " " in ask["op"]:
        method, path = ask["op"].split(" ")
        requestor = APIRequestor(ask["key"], api_version=ask.get("version"), account=ask.get("account"))
        headers = dict(ask.get("headers") or {})
        if ask.get("idempotency_key"):
            headers["Idempotency-Key"] = ask["idempotency_key"]
        return requestor.request(method.lower(), path, params, headers)
    resource, method = ask["op"].split(".")
    options = {"api_key": ask["key"]}
    for name, option in (("idempotency_key", "idempotency_key"), ("account", "stripe_account"), ("version", "stripe_version")):
        if ask.get(name):
            options[option] = ask[name]
    ids = [ask["id"]] if ask.get("id") else []
    return getattr(RESOURCES[resource], method)(*ids, **options, **params)


for line in sys.stdin:
    try:
        call(json.loads(line))
        answer = {}
    except stripe.error.StripeError as err:
        told = err.error or {}  # the error object of the answer
        answer = {"raised": {
            "class": type(err).__name__, "type": told.get("type"), "code": told.get("code"), "message": err.user_message,
            "param": told.get("param"), "status": err.http_status, "request_id": err.request_id,
            "headers": {name.lower(): value for name, value in err.headers.items()},
        }}
    except Exception as err:  # not the SDK's own: the test tells
        answer = {"raised": {"class": type(err).__name__, "message": str(err)}}
    print(json.dumps(answer), flush=True)
