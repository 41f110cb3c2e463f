package audit

import (
	"strings"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
)

// Judged is what a record says about a call beyond its operation, its customers and its money, so that another policy
// can judge it once more. It holds names, never what an agent wrote beside them. The zero Judged is that of a call that
// could not be read, or of a record that was written before there was one: nothing can be judged by it.
type Judged struct {
	Access policy.Access
	Tie    string // how the call is tied to customers, as by tieNames; empty: it was not read to the end
	Guest  bool   // an object without a customer is among what it concerns
	// Creates: the call makes a customer.
	Creates bool
	Needs   []policy.Need // further scopes; without their reason
	Open    []Open        // movements of money without a known amount
	// Params are the names of the parameters, sorted, as a policy writes them; an array's elements are "[]". Cut: there
	// were more.
	Params    []string
	ParamsCut bool
}

// Open is a movement of money whose amount the record does not know. At is its place among all movements of the call.
type Open struct {
	At      int
	Bucket  string
	Mode    policy.CountMode
	Object  string
	Unbound bool // nobody could say what it would come to
	Waived  bool // the policy of then counted it nowhere, so it was not looked up
}

var tieNames = [...]string{
	policy.TieUnfilterable: "any", policy.TieNone: "none", policy.TieKnown: "known", policy.TieLookup: "lookup",
	policy.TieFilter: "filter",
}

// Judge writes down an operation as it was judged. whole says that the call was read to the end; of one that was not,
// only what it would be called and its access are certain.
func (r *Record) Judge(op *policy.Operation, whole bool) {
	r.Access = op.Access
	if !whole || len(op.Needs) > maxNeeds || len(op.Effects) > maxEffects { // half of it would pass for all of it
		return
	}
	if int(op.Customer.Kind) < len(tieNames) {
		r.Tie = tieNames[op.Customer.Kind]
	}
	r.Guest, r.Creates, r.Needs = op.Customer.Guest, op.CreatesCustomer, op.Needs
	if op.Params != nil {
		r.Params = op.Params.Names()
	}
	for i := range op.Effects {
		e := &op.Effects[i]
		if !e.Known {
			r.Open = append(r.Open, Open{
				At: i, Bucket: string(e.Bucket), Mode: e.Mode, Object: string(e.Object), Unbound: e.Unmeterable && !e.Waived, Waived: e.Waived,
			})
			continue
		}
		moves := Effect{
			Bucket: string(e.Bucket), Amount: e.Amount, USD: e.USD, Rate: e.Quote.Rate, Mode: e.Mode, Ceiling: e.Ceiling,
			Object: string(e.Object), LookedUp: e.LookedUp,
		}
		if moves.Rate != "" {
			moves.Value, moves.MarginBP = e.Quote.Value, e.Quote.MarginBP
		}
		r.Effects = append(r.Effects, moves)
	}
}

// Rejudge returns the operation of a call's first record as it was judged, for another policy to judge; ok is false if the
// record does not say enough. It is Resolved where nothing was left to be found out; amounts that were looked up are
// known, at the rates of then. Without Params: a rule on parameters must be told by Has. The operation belongs to the caller.
func (r *Record) Rejudge() (op policy.Operation, ok bool) {
	if r.Tie == "" || r.Operation == "" || r.Access == policy.None {
		return policy.Operation{}, false
	}
	op = policy.Operation{
		Name: r.Operation, Resource: ResourceOf(r.Operation), Access: r.Access, Needs: r.Needs, Account: r.Account,
		CreatesCustomer: r.Creates, Effects: make([]policy.Effect, 0, len(r.Effects)+len(r.Open)),
	}
	op.Customer = policy.CustomerTie{Customers: r.Customers, Guest: r.Guest, Add: "customer"}
	for kind, name := range tieNames {
		if name == r.Tie {
			op.Customer.Kind = policy.CustomerKind(kind)
		}
	}
	op.Resolved = op.Customer.Kind != policy.TieLookup
	known, open := r.Effects, r.Open
	for i := range len(known) + len(open) {
		if len(open) > 0 && (open[0].At == i || len(known) == 0) {
			o := &open[0]
			op.Effects = append(op.Effects, policy.Effect{
				Bucket: policy.Resource(o.Bucket), Mode: o.Mode, Object: policy.ObjectID(o.Object), Unmeterable: o.Unbound,
			})
			op.Resolved = op.Resolved && o.Unbound
			open = open[1:]
			continue
		}
		op.Effects = append(op.Effects, known[0].rejudge())
		known = known[1:]
	}
	return op, true
}

// rejudge is a movement of money as it was judged.
func (e *Effect) rejudge() policy.Effect {
	out := policy.Effect{
		Bucket: policy.Resource(e.Bucket), Known: true, Amount: e.Amount, USD: e.USD, Mode: e.Mode, Ceiling: e.Ceiling,
		Object: policy.ObjectID(e.Object), LookedUp: e.LookedUp,
	}
	exponent, ok := e.Amount.Currency.Exponent()
	switch {
	case e.Value > 0 && ok:
		out.Quote = money.Quote{Rate: e.Rate, Currency: e.Amount.Currency, Exponent: exponent, Value: e.Value, MarginBP: e.MarginBP}
	case e.Amount.Currency == "usd":
		out.Quote = money.Dollars()
	default:
		out.NoRate = "there was no rate for " + string(e.Amount.Currency) + " when the call was made"
	}
	return out
}

// Has tells whether the call had a parameter, by its name in a policy; known is false where the record cannot say.
func (j *Judged) Has(path string) (has, known bool) {
	path = strings.TrimSuffix(path, "[]")
	for _, name := range j.Params {
		if rest, under := strings.CutPrefix(name, path); under && (rest == "" || rest[0] == '[') {
			return true, true
		}
		if strings.HasSuffix(name, ellipsis) { // a name that was cut may be any longer one
			return false, false
		}
	}
	// An element by its number stands in the record as "[]".
	numbered := strings.ContainsFunc(path, func(c rune) bool { return c >= '0' && c <= '9' }) && strings.Contains(path, "[")
	return false, !j.ParamsCut && !numbered
}

// Bounds of the names in a record: of the parameters that are told, and of the scopes, beyond which nothing is.
const (
	maxParams = 48
	maxNeeds  = 64
)

func appendJudgedAs(b []byte, j *Judged) []byte {
	if j.Access != policy.None {
		b = text(b, "access", j.Access.String(), maxID)
	}
	b = text(b, "tie", j.Tie, maxID)
	b = flag(b, "guest", j.Guest)
	b = flag(b, "creates_customer", j.Creates)
	for i, n := range j.Needs[:min(len(j.Needs), maxNeeds)] {
		b = open(b, "needs", i)
		b = appendText(b, n.Access.String()+" "+string(n.Resource), maxID)
	}
	b = closing(b, len(j.Needs))
	for i, o := range j.Open[:min(len(j.Open), maxEffects)] {
		b = open(b, "open", i)
		b = appendText(append(b, `{"bucket":`...), o.Bucket, maxID)
		b = text(mode(number(b, "at", int64(o.At)), o.Mode), "object", o.Object, maxID)
		b = flag(b, "unbound", o.Unbound)
		b = append(flag(b, "waived", o.Waived), '}')
	}
	b = closing(b, len(j.Open))
	b = list(b, "params", j.Params, maxParams)
	return flag(b, "params_cut", j.ParamsCut || len(j.Params) > maxParams)
}

type judgedJSON struct {
	Access    string     `json:"access"`
	Tie       string     `json:"tie"`
	Guest     bool       `json:"guest"`
	Creates   bool       `json:"creates_customer"`
	Needs     []string   `json:"needs"`
	Open      []openJSON `json:"open"`
	Params    []string   `json:"params"`
	ParamsCut bool       `json:"params_cut"`
}

type openJSON struct {
	Bucket  string `json:"bucket"`
	At      int    `json:"at"`
	Mode    string `json:"mode"`
	Object  string `json:"object"`
	Unbound bool   `json:"unbound"`
	Waived  bool   `json:"waived"`
}

func (in *judgedJSON) judged() Judged {
	out := Judged{
		Access: accessOf(in.Access), Tie: in.Tie, Guest: in.Guest, Creates: in.Creates, Params: in.Params, ParamsCut: in.ParamsCut,
	}
	for _, n := range in.Needs {
		access, resource, _ := strings.Cut(n, " ")
		out.Needs = append(out.Needs, policy.Need{Resource: policy.Resource(resource), Access: accessOf(access)})
	}
	for _, o := range in.Open {
		out.Open = append(out.Open, Open{At: o.At, Bucket: o.Bucket, Mode: modeOf(o.Mode), Object: o.Object, Unbound: o.Unbound, Waived: o.Waived})
	}
	return out
}

func accessOf(word string) policy.Access {
	for _, a := range [...]policy.Access{policy.Read, policy.Write} {
		if a.String() == word {
			return a
		}
	}
	return policy.None
}
