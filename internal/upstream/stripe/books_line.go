package stripe

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

// bookLine is what is read of a balance transaction, with its source expanded.
type bookLine struct {
	ID       string     `json:"id"`
	Type     string     `json:"type"`
	Amount   int64      `json:"amount"`
	Fee      int64      `json:"fee"`
	Currency string     `json:"currency"`
	Created  int64      `json:"created"`
	Balance  string     `json:"balance_type"`
	Source   bookSource `json:"source"`
}

// bookSource has the members of all objects that move money; each has some of them.
type bookSource struct {
	ID             string `json:"id"`
	Object         string `json:"object"`
	Amount         int64  `json:"amount"`
	AmountCaptured int64  `json:"amount_captured"`
	Currency       string `json:"currency"`
	Automatic      bool   `json:"automatic"`
	PaymentIntent  idOf   `json:"payment_intent"`
	Invoice        idOf   `json:"invoice"`
	Transfer       idOf   `json:"transfer"`
	Transaction    idOf   `json:"source_transaction"`
	Refund         idOf   `json:"source_refund"`
	Fee            idOf   `json:"fee"`
	Failure        idOf   `json:"failure_balance_transaction"`
}

// plain is the same without its own UnmarshalJSON.
type plain bookSource

// UnmarshalJSON takes the object, or its id alone where Stripe does not expand it.
func (s *bookSource) UnmarshalJSON(b []byte) error {
	var id idOf
	if err := id.UnmarshalJSON(b); err != nil {
		return err
	}
	var p plain
	if len(b) > 0 && b[0] == '{' {
		if err := json.Unmarshal(b, &p); err != nil {
			return err
		}
	}
	*s = bookSource(p)
	s.ID = string(id)
	return nil
}

// lineKind is a type of balance transaction: what it is about, and which way is the direction of that (+1: into the
// balance). A type that is in no row is none that a call of ours makes.
type lineKind struct {
	kind upstream.MovementKind
	sign int64
}

var lineKinds = map[string]lineKind{
	"charge": {upstream.Payment, +1}, "payment": {upstream.Payment, +1}, "payment_failure_refund": {upstream.Payment, +1},
	"payment_reversal": {upstream.Payment, +1}, "payment_unreconciled": {upstream.Payment, +1},
	"refund": {upstream.Refund, -1}, "payment_refund": {upstream.Refund, -1}, "refund_failure": {upstream.Refund, -1},
	"payout": {upstream.Payout, -1}, "payout_cancel": {upstream.Payout, -1}, "payout_failure": {upstream.Payout, -1},
	"transfer": {upstream.Transfer, -1}, "transfer_cancel": {upstream.Transfer, -1}, "transfer_failure": {upstream.Transfer, -1},
	"transfer_refund":        {upstream.TransferReversal, +1},
	"application_fee_refund": {upstream.FeeRefund, -1},
	"topup":                  {upstream.Topup, +1}, "topup_reversal": {upstream.Topup, +1},
	"climate_order_purchase": {upstream.Climate, -1}, "climate_order_refund": {upstream.Climate, -1},
}

// byThemselves are types that no call makes: Stripe, a bank or a cardholder does.
var byThemselves = map[string]bool{
	"adjustment": true, "stripe_fee": true, "stripe_fx_fee": true, "tax_fee": true, "tax_fund": true, "application_fee": true,
	"refund_failure": true, "payout_failure": true, "payment_failure_refund": true, "payment_reversal": true, "topup_reversal": true,
	"transfer_failure": true, "reserve_transaction": true, "reserved_funds": true, "reserve_hold": true, "reserve_release": true,
	"payout_minimum_balance_hold": true, "payout_minimum_balance_release": true, "payment_network_reserve_hold": true,
	"payment_network_reserve_release": true, "advance": true, "advance_funding": true, "anticipation_repayment": true,
	"contribution": true, "fee_credit_funding": true, "issuing_authorization_hold": true, "issuing_authorization_release": true,
	"issuing_dispute": true, "issuing_transaction": true, "connect_collection_transfer": true, "obligation_outbound": true,
	"obligation_reversal_inbound": true,
}

// otherHands are types that no call which is counted here makes, and that do not come about by themselves either.
var otherHands = map[string]bool{
	"inbound_transfer": true, "inbound_transfer_reversal": true, "stripe_balance_payment_debit": true,
	"stripe_balance_payment_debit_reversal": true,
}

// movements turns lines, oldest first, into movements.
func movements(lines []bookLine, told *told) []upstream.Movement {
	out := make([]upstream.Movement, 0, len(lines))
	intents := make(map[idOf]idOf) // of charges
	for i := range lines {
		if s := &lines[i].Source; s.Object == "charge" && s.PaymentIntent != "" {
			intents[idOf(s.ID)] = s.PaymentIntent
		}
	}
	b := books{
		forward: make(map[policy.ObjectID]bool), listed: make(map[idOf]bool), converted: make(map[string]bool), told: told, intents: intents,
	}
	for i := range lines {
		b.listed[idOf(lines[i].ID)] = true
	}
	for i := range lines {
		out = append(out, b.movement(&lines[i]))
	}
	return out
}

// books is what one line must know of the others.
type books struct {
	told    *told
	intents map[idOf]idOf
	// forward are objects whose movement, and not only its return, is among the lines.
	forward map[policy.ObjectID]bool
	// listed are the ids of all lines.
	listed map[idOf]bool
	// converted are objects whose amount was told in their own currency, by line type.
	converted map[string]bool
}

func (b *books) movement(line *bookLine) upstream.Movement {
	s := &line.Source
	k, known := lineKinds[line.Type]
	if !known || line.Balance != "" && line.Balance != "payments" {
		k = lineKind{upstream.OtherMovement, +1}
	}
	if line.Type == "payout" && line.Amount > 0 { // pulled from the bank: a reversal, or a debit
		k = lineKind{upstream.PayoutReversal, +1}
	}
	m := upstream.Movement{
		ID: line.ID, Type: line.Type, Kind: k.kind, Object: policy.ObjectID(s.ID), Fee: line.Fee, At: time.Unix(line.Created, 0).UTC(),
		Booked: money.Amount{Minor: line.Amount, Currency: money.Currency(line.Currency)},
	}
	m.Amount = b.asked(line, k)
	switch {
	case m.Kind == upstream.OtherMovement:
	case m.Amount.Minor > 0:
		b.forward[m.Object] = true
		if s.Failure != "" && !b.listed[s.Failure] { // Stripe tells of the object as it is now
			m.After = -m.Amount.Minor
		}
	case m.Amount.Minor < 0 && !b.forward[m.Object] && m.Object != "":
		m.Before = -m.Amount.Minor
		b.forward[m.Object] = true
	}
	b.same(&m, s)
	b.told.behind(&m)
	parent := s.Transfer
	if s.Object == "fee_refund" {
		parent = s.Fee
	}
	if byThemselves[line.Type] || s.Object == "payout" && s.Automatic {
		m.Origin = upstream.OriginAutomatic
		return m
	}
	b.told.who(&m, parent)
	if m.Origin == upstream.OriginCall { // then the call made it, and not the subscription's next period
		m.Causes = slices.DeleteFunc(m.Causes, func(id policy.ObjectID) bool { return strings.HasPrefix(string(id), "sub_") })
	}
	return m
}

// same names the further objects of a line.
func (b *books) same(m *upstream.Movement, s *bookSource) {
	switch s.Object {
	case "charge":
		m.Same = addID(addID(m.Same, s.PaymentIntent), s.Invoice)
	case "transfer": // of a charge that is sent on
		m.Same = addID(addID(m.Same, s.Transaction), b.intents[s.Transaction])
	case "transfer_reversal":
		m.Same = addID(m.Same, s.Refund)
	}
}

// asked is a line's amount in the currency of what moved, in the direction of its kind. Where Stripe converted it, the object
// tells the amount: once, for all lines of its type together.
func (b *books) asked(line *bookLine, k lineKind) money.Amount {
	s := &line.Source
	moved := money.Amount{Minor: k.sign * line.Amount, Currency: money.Currency(line.Currency)}
	if s.Currency == "" || s.Currency == line.Currency || k.kind == upstream.OtherMovement {
		return moved
	}
	amount := s.Amount
	if s.Object == "charge" && s.AmountCaptured > 0 {
		amount = s.AmountCaptured
	}
	amount = max(amount, -amount)
	if moved.Minor < 0 {
		amount = -amount
	}
	once := s.ID + " " + line.Type
	if b.converted[once] {
		amount = 0
	}
	b.converted[once] = true
	return money.Amount{Minor: amount, Currency: money.Currency(s.Currency)}
}
