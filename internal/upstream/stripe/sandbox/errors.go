package sandbox

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// stripeError is a refusal in Stripe's shape. It is a value of the fake API,
// not a Go error of this package.
type stripeError struct {
	status      int
	typ         string
	code        string
	declineCode string
	message     string
	param       string
	charge      string
	intent      *paymentIntent // embedded whole, client_secret included, as Stripe does
	method      *paymentMethod
	setup       *setupIntent // embedded like an intent
	retry       string       // Stripe-Should-Retry
}

func (f *stripeError) render(e *enc, _ *expansion) {
	e.open()
	e.key("error")
	e.open()
	if f.charge != "" {
		e.str("charge", f.charge)
	}
	if f.code != "" {
		e.str("code", f.code)
	}
	if f.declineCode != "" {
		e.str("decline_code", f.declineCode)
	}
	if f.code != "" {
		e.str("doc_url", "https://stripe.com/docs/error-codes/"+strings.ReplaceAll(f.code, "_", "-"))
	}
	e.str("message", f.message)
	if f.param != "" {
		e.str("param", f.param)
	}
	if f.intent != nil {
		e.key("payment_intent")
		f.intent.render(e, nil)
	}
	if f.method != nil {
		e.key("payment_method")
		f.method.render(e, nil)
	}
	if f.setup != nil {
		e.key("setup_intent")
		f.setup.render(e, nil)
	}
	e.str("type", f.typ)
	e.close()
	e.close()
}

const (
	typeInvalid     = "invalid_request_error"
	typeCard        = "card_error"
	typeIdempotency = "idempotency_error"
	typeAPI         = "api_error"
)

func errInvalid(param, code, message string) *stripeError {
	return &stripeError{status: http.StatusBadRequest, typ: typeInvalid, code: code, param: param, message: message, retry: "false"}
}

// errMissing is an unknown id: 404 where the path names it, 400 where a parameter does.
func errMissing(what, id, param string) *stripeError {
	f := errInvalid(param, "resource_missing", fmt.Sprintf("No such %s: '%s'", what, id))
	if param == "id" {
		f.status = http.StatusNotFound
	}
	return f
}

func errState(pi *paymentIntent, message string) *stripeError {
	f := errInvalid("", "payment_intent_unexpected_state", message)
	f.intent = pi
	return f
}

func errUnauthorized(message string) *stripeError {
	return &stripeError{status: http.StatusUnauthorized, typ: typeInvalid, message: message, retry: "false"}
}

func errForbidden(message string) *stripeError {
	return &stripeError{status: http.StatusForbidden, typ: typeInvalid, message: message, retry: "false"}
}

// errPermission is a restricted key without the permission it would need.
func errPermission(s *account, who *credential, resource string, need Access) *stripeError {
	return errForbidden(fmt.Sprintf("The provided key '%s' does not have the required permissions for this endpoint on account '%s'. "+
		"Having the '%s' permission would allow this request to continue.", maskKey(who.key), s.accountID, permissionName(resource, need)))
}

func errUnrecognized(method, path string) *stripeError {
	f := errInvalid("", "", fmt.Sprintf("Unrecognized request URL (%s: %s). Please see https://stripe.com/docs or we can help at https://support.stripe.com/.", method, path))
	f.status = http.StatusNotFound
	return f
}

// declines are the cards that fail: decline code to the words of the message.
var declines = map[string]string{
	"generic_decline":         "Your card was declined.",
	"insufficient_funds":      "Your card has insufficient funds.",
	"lost_card":               "Your card was declined.",
	"stolen_card":             "Your card was declined.",
	"authentication_required": "Your card was declined. This transaction requires authentication.",
}

// errDeclined is a card that said no.
func errDeclined(decline, charge string) *stripeError {
	f := &stripeError{status: http.StatusPaymentRequired, typ: typeCard, code: "card_declined", declineCode: decline,
		message: declines[decline], charge: charge, retry: "false"}
	if decline == "authentication_required" {
		f.code = decline
	}
	return f
}

// zeroDecimal and threeDecimal are Stripe's exponents, not ISO's.
const (
	zeroDecimal  = " bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf "
	threeDecimal = " bhd jod kwd omr tnd "
)

// currencies are those that Stripe takes; any other is refused by name.
const currencies = " usd aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd bwp byn bzd cad cdf chf clp cny cop " +
	"crc cve czk djf dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gnf gtq gyd hkd hnl hrk htg huf idr ils inr isk jmd jod jpy kes kgs khr kmf " +
	"krw kwd kyd kzt lak lbp lkr lrd lsl mad mdl mga mkd mmk mnt mop mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd omr pab pen pgk php pkr pln " +
	"pyg qar ron rsd rub rwf sar sbd scr sek sgd shp sle sos srd std szl thb tjs tnd top try ttd twd tzs uah ugx uyu uzs vnd vuv wst xaf xcd xof " +
	"xpf yer zar zmw "

func known(list, code string) bool { return len(code) == 3 && strings.Contains(list, " "+code+" ") }

// formatAmount writes an amount as Stripe's messages do: $20.00, or 20.00 sek.
func formatAmount(amount int64, currency string) string {
	digits := 2
	switch {
	case known(zeroDecimal, currency):
		digits = 0
	case known(threeDecimal, currency):
		digits = 3
	}
	text := strconv.FormatInt(amount, 10)
	if digits > 0 {
		for len(text) <= digits {
			text = "0" + text
		}
		text = text[:len(text)-digits] + "." + text[len(text)-digits:]
	}
	switch currency {
	case "usd":
		return "$" + text
	case "eur":
		return "€" + text
	case "gbp":
		return "£" + text
	}
	return text + " " + currency
}
