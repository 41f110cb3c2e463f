package sandbox

import "math/big"

// split says who else gets part of each invoice of a subscription.
type split struct {
	destination string   // the connected account that the money goes on to; empty for nobody
	percent     *big.Rat // of it; nil is all
	fee         *big.Rat // application_fee_percent; nil is none
	onBehalfOf  string
}

// readSplit merges transfer_data, application_fee_percent and on_behalf_of into s.
func (c *call) readSplit(s split, p part) split {
	if p.sent("transfer_data") {
		to := p.sub("transfer_data")
		s.destination, s.percent = to.str("destination"), to.rat("amount_percent")
		if s.destination != "" {
			p.keep(c.destination(s.destination, to.nameOf("destination")))
		}
	}
	if p.sent("application_fee_percent") {
		s.fee = p.rat("application_fee_percent")
	}
	if p.sent("on_behalf_of") {
		s.onBehalfOf = p.str("on_behalf_of")
		if s.onBehalfOf != "" && c.s.connectedAccount(s.onBehalfOf) == nil {
			p.keep(errMissing("account", s.onBehalfOf, p.nameOf("on_behalf_of")))
		}
	}
	switch {
	case s.fee != nil && s.percent != nil:
		p.refuse("application_fee_percent", "", "You may not provide application_fee_percent and transfer_data[amount_percent] simultaneously.")
	case s.fee != nil && s.destination == "" && c.s == c.s.platform:
		p.refuse("application_fee_percent", "", "Can only apply an application_fee when the request is made on behalf of another account "+
			"(using an OAuth key, the Stripe-Account header, or the destination parameter).")
	}
	for name, share := range map[string]*big.Rat{"application_fee_percent": s.fee, "transfer_data[amount_percent]": s.percent} {
		if share != nil && (share.Sign() < 0 || share.Cmp(ratOf(100)) > 0) {
			p.refuse(name, "", "Invalid percentage: must be between 0 and 100.")
		}
	}
	return s
}

// of is what an amount is shared as.
func (s *split) of(amount int64) sharing {
	part := func(percent *big.Rat) int64 {
		return round(new(big.Rat).Mul(ratOf(amount), new(big.Rat).Quo(percent, ratOf(100))))
	}
	out := sharing{destination: s.destination, onBehalfOf: s.onBehalfOf}
	if s.percent != nil {
		out.share, out.hasShare = part(s.percent), true
	}
	if s.fee != nil {
		out.fee, out.hasFee = part(s.fee), true
	}
	return out
}

func (s *split) render(e *enc, x *expansion) {
	e.raw("application_fee_percent", decimal(s.fee))
	e.ref("on_behalf_of", s.onBehalfOf, x)
	if s.destination == "" {
		e.null("transfer_data")
		return
	}
	e.key("transfer_data")
	e.open()
	e.raw("amount_percent", decimal(s.percent))
	e.ref("destination", s.destination, x.child("transfer_data"))
	e.close()
}
