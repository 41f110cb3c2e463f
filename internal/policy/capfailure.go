package policy

import (
	"fmt"
	"time"

	"github.com/keybrake/keybrake/internal/money"
)

// Failure says in a sentence what a full cap refused, what is left and when there is room again.
func (f *CapFailure) Failure() Failure {
	when := "This cap never resets."
	if f.Cap.Per == PerCall {
		when = "Ask for less in one call."
	} else if f.ResetsAtUnix != 0 {
		when = "It resets at " + time.Unix(f.ResetsAtUnix, 0).UTC().Format(time.RFC3339) + "."
	}
	rule := fmt.Sprintf("caps.%s/%s", f.Cap.Resource, f.Cap.Per)
	var what string
	switch {
	case f.Cap.Unit == UnitCalls:
		what = fmt.Sprintf("The cap of %d %s calls per %s is used up: %d made, %d left.",
			f.Cap.Limit, f.Cap.Resource, f.Cap.Per, f.Held+f.Settled, f.Left)
	case f.Asked == 0: // refused before its amount was looked up
		what = fmt.Sprintf("The cap of $%s per %s on %s is used up: $%s settled, $%s held, $%s left. %s",
			money.USD(f.Cap.Limit), f.Cap.Per, f.Cap.Resource,
			money.USD(f.Settled), money.USD(f.Held), money.USD(f.Left), f.unknownAsk())
	default:
		what = fmt.Sprintf("This call of $%s would pass the cap of $%s per %s on %s: $%s settled, $%s held, $%s left.",
			money.USD(f.Asked), money.USD(f.Cap.Limit), f.Cap.Per, f.Cap.Resource,
			money.USD(f.Settled), money.USD(f.Held), money.USD(f.Left))
	}
	return Failure{Code: CodeCapExceeded, Rule: rule, Message: what + " " + when, Soft: true, Cap: f}
}

// unknownAsk says how much is known of the amount of a call that was refused before it was looked up.
func (f *CapFailure) unknownAsk() string {
	if f.AskedInCurrency.Minor == 0 {
		return "How much this call asks for was not looked up, since nothing is left."
	}
	return fmt.Sprintf("This call asks for %d minor units; their currency was not looked up, since nothing is left.", f.AskedInCurrency.Minor)
}
