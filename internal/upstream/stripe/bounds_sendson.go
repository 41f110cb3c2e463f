package stripe

import "github.com/keybrake/keybrake/internal/policy"

// sendsOn is nothing, where raising an intent raises only what it takes: it keeps it, a fixed part of it is sent on to another
// account, or this call says how much. Otherwise all that the intent becomes is sent on, and no effect of the call counts that.
func (r *resolver) sendsOn(i int) (bound, *policy.Refusal, error) {
	transfer := Field{"transfer_data"}
	if r.req.Params.Get(transfer) != nil {
		return bound{}, nil, nil
	}
	body, refusal, err := r.object(r.req.Effects[i].Currency[len(r.req.Effects[i].Currency)-1])
	if refusal != nil || err != nil {
		return bound{}, refusal, err
	}
	if k, _ := findJSON(body, transfer); k == 0 || k == jsonNull {
		return bound{}, nil, nil
	}
	if _, fixed := wholeNumber(body, append(transfer, "amount")); fixed {
		return bound{}, nil, nil
	}
	return bound{why: "it sends all that it takes on to another account, which this call does not count; name transfer_data[amount] in it"}, nil, nil
}
