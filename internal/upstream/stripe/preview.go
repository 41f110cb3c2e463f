package stripe

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

const previewColumns = "name method path send ignore notes"

// PreviewRule is a route of Stripe that tells what a call would come to, without doing anything, and how the
// call's parameters are written there.
type PreviewRule struct {
	Name string
	Ref  LookupRef
	Send []PreviewParam
	// Ignore are parameters of the call, by first name, that change nothing about its amount. One that is
	// neither sent nor ignored makes the call unpreviewable: nobody could say what it does to the amount.
	Ignore []string
}

// PreviewParam is one parameter of a preview and where its value comes from. A value that is not there is
// left out.
type PreviewParam struct {
	Target Field
	Source Source
}

// addPreview reads one line of previews.csv. send is "target=source ;; target=source".
func (c *Catalog) addPreview(r record) error {
	p := &parser{record: r}
	rule := &PreviewRule{Name: r.get("name"), Ignore: strings.Fields(r.get("ignore"))}
	if rule.Name == "" || c.previews[rule.Name] != nil {
		return fmt.Errorf("the preview %q has no name of its own", rule.Name)
	}
	var err error
	if rule.Ref, err = ParseLookupRef(r.get("method") + " " + r.get("path")); err != nil {
		return err
	}
	for part := range strings.SplitSeq(r.get("send"), " ;; ") {
		target, source, ok := strings.Cut(part, "=")
		if !ok {
			return fmt.Errorf("send: %q is not target=source", part)
		}
		param := PreviewParam{}
		param.Target, err = ParseField(target)
		p.fail("send", err)
		param.Source, err = parseSource(source)
		p.fail("send", err)
		rule.Send = append(rule.Send, param)
	}
	c.previews[rule.Name] = rule
	return p.err
}

// checkPreview holds a preview against the route that it calls and the operation that it is for.
func (c *Catalog) checkPreview(row *Row, name string) error {
	rule := c.previews[name]
	if rule == nil {
		return fmt.Errorf("previews.csv has no %q", name)
	}
	target := c.byCall[rule.Ref.Method+" "+rule.Ref.Template]
	if target == nil || target.Access != policy.Read {
		return fmt.Errorf("preview %s: %s %s is no read of operations.csv", name, rule.Ref.Method, rule.Ref.Template)
	}
	for _, p := range rule.Send {
		if err := target.declares(p.Target.elements()); err != nil {
			return fmt.Errorf("preview %s: %w", name, err)
		}
		if err := c.checkSource(row, p.Source); err != nil {
			return fmt.Errorf("preview %s: %w", name, err)
		}
	}
	for _, name := range rule.Ignore {
		if err := row.declares(Field{name}); err != nil {
			return fmt.Errorf("preview %s: ignore: %w", rule.Name, err)
		}
	}
	return nil
}

// elements is a field with every position in an array written as any: "items.0.id" is one of "items[].id".
func (f Field) elements() Field {
	out := slices.Clone(f)
	for i, name := range out {
		if allDigits(name) {
			out[i] = anyElement
		}
	}
	return out
}

// open names a parameter of the call that the preview does not know; "" if it knows them all.
func (rule *PreviewRule) open(p *Params) string {
	for _, m := range p.Root().Members {
		known := false
		for _, name := range rule.Ignore {
			known = known || name == m.Key
		}
		for _, s := range rule.Send {
			known = known || s.Source.Kind == FromRequest && s.Source.Field[0] == m.Key
		}
		if !known {
			return m.Key
		}
	}
	return ""
}

// preview asks Stripe what the call would come to. why is set where nobody can tell.
func (r *resolver) preview(src Source) (b bound, refusal *policy.Refusal, err error) {
	rule := r.catalog.previews[src.Name]
	if name := rule.open(r.req.Params); name != "" {
		return bound{why: "the preview of " + string(r.req.Row.Name) + " does not show what " + name + " does"}, nil, nil
	}
	params := &Params{root: Node{Kind: Hash}}
	for _, p := range rule.Send {
		there, refusal, err := r.previewParam(params, p)
		if refusal != nil || err != nil {
			return bound{}, refusal, err
		}
		if !there {
			return bound{}, nil, nil // the object that would be billed is not there yet
		}
	}
	look := upstream.Look{Method: rule.Ref.Method}
	look.Path, _ = rule.Ref.Path(r.req.Value)
	if look.Method == http.MethodGet {
		look.Query = string(params.EncodeForm())
	} else {
		look.Body = params.EncodeForm()
	}
	body, refusal, err := r.ask(look.Path+"?"+look.Query+string(look.Body), look, rule.Ref.Template, "")
	if refusal != nil || err != nil {
		return bound{}, refusal, err
	}
	if body == nil {
		return bound{}, notAllowed(""), nil
	}
	n, ok := wholeNumber(body, src.Field)
	if !ok {
		return bound{}, nil, fmt.Errorf("preview %s: %s is no whole number", rule.Name, src.Field)
	}
	return bound{amount: max(n, 0), currency: lowerCurrency(findText(body, Field{"currency"}))}, nil, nil
}

// previewParam writes one parameter of a preview. there is false if a look-up tells that the object that the
// preview is about does not exist.
func (r *resolver) previewParam(params *Params, p PreviewParam) (there bool, refusal *policy.Refusal, err error) {
	switch p.Source.Kind {
	case FromRequest:
		if n := r.req.Params.Get(p.Source.Field); n != nil {
			params.put(p.Target, n)
		}
	case FromValue:
		if v, ok := r.req.Value(p.Source.Name); ok {
			params.Set(p.Target, v)
		}
	case FromLiteral:
		params.Set(p.Target, p.Source.Name)
	case FromLookup:
		body, refusal, err := r.object(p.Source)
		if refusal != nil || err != nil {
			return false, refusal, err
		}
		id := identity(body, p.Source.Field)
		if id == "" {
			return false, nil, nil
		}
		params.Set(p.Target, id)
	}
	return true, nil, nil
}

// Follow completes an outcome whose amounts stand in objects that the answer only names: it reads them and
// writes what they say into o. What cannot be read stays counted as it was held, and pending. Only an outcome
// with Fate Moved has something to follow.
func (a *Adapter) Follow(ctx context.Context, call *upstream.Call, answer *upstream.Answer, o *upstream.Outcome, look upstream.Lookup) error {
	req := requestOf(call)
	if o.Fate != upstream.Moved || len(o.Moved) != len(req.Effects) {
		return nil
	}
	for i, rule := range req.Effects {
		if !rule.follows() || call.Operation.Effects[i].Unmeterable {
			continue
		}
		if err := followEffect(ctx, req, i, &call.Operation.Effects[i], answer.Body, &o.Moved[i], look); err != nil {
			return err
		}
	}
	return nil
}

// follows reports whether an effect settles from an object that only the answer names.
func (e *EffectRule) follows() bool { return len(e.Settle) > 0 && e.Settle[0].Kind == FromLookup }

func followEffect(ctx context.Context, req *Request, i int, e *policy.Effect, answer []byte, m *upstream.MovedEffect, look upstream.Lookup) error {
	src := req.Effects[i].Settle[0]
	name := src.Ref.Placeholders[0]
	id := identity(answer, Field{name})
	if base, known := req.Bases[i]; id == "" || !known && len(req.Effects[i].Base) > 0 || known && base == id {
		return nil // no new object: what was held stays counted
	}
	path, ok := src.Ref.Path(func(string) (string, bool) { return id, true })
	if !ok {
		return fmt.Errorf("follow %s: the answer's id cannot be looked up", name)
	}
	status, body, err := look(ctx, upstream.Look{Method: http.MethodGet, Path: path})
	if err != nil {
		return fmt.Errorf("follow %s: %w", name, err)
	}
	if status != http.StatusOK || !validJSON(body) {
		return fmt.Errorf("follow %s: status %d", name, status)
	}
	n, ok := wholeNumber(body, src.Field)
	if !ok || lowerCurrency(findText(body, Field{"currency"})) != e.Amount.Currency {
		return fmt.Errorf("follow %s: no %s in the currency that was held", name, src.Field)
	}
	// What was held stays counted until the last word: this only tells whether Stripe is beyond it.
	m.Amount.Minor = max(m.Amount.Minor, n)
	return nil
}
