package console

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/keybrake/keybrake/internal/admin"
)

// keyFormPage answers: what is the least that it needs, what is the worst it could do?
type keyFormPage struct {
	Form      keyForm
	Presets   []admin.PresetView
	Upstreams []admin.UpstreamView
	Scopes    []scopeChoice
	All       int      // resources there are
	Resources []string // that a cap can be on
	Pers      []string
	NameFits  bool
	Check     admin.PolicyCheck
	Problems  []string          // those that belong to no field
	At        map[string]string // what is wrong with a field, in the policy's words
	Can       []string          // what the key can do, a sentence each
	Cannot    []string
	Wild      string // what a loop costs at most; empty if nothing is known
	Checked   bool
	Replay    *admin.Replay // what the policy would have done; nil: it was not asked for
	NoReplay  string        // why that could not be told
}

// scopeChoice is a resource with the three accesses to choose from.
type scopeChoice struct {
	admin.Scope
	Access string
}

// fieldsOfForm are the parts of a policy that have one field in the form.
var fieldsOfForm = []string{"name", "upstream", "customers", "expires", "network", "timezone", "enforcement"}

// common are the resources that the form shows at once: those that agents are given most.
var common = []string{"refunds", "charges", "payment_intents", "customers", "invoices", "subscriptions", "payouts", "products", "prices"}

func (v *visit) newKey() (*page, error) {
	presets, err := v.api.Presets(v.ctx())
	if err != nil {
		return nil, err
	}
	f := keyForm{Preset: v.r.FormValue("preset"), Customers: "list", Expires: "90d", Enforcement: "enforce"}
	if f.Preset == "" {
		f.Preset = "refund-support"
	}
	if i := slices.IndexFunc(presets.Items, func(p admin.PresetView) bool { return p.Name == f.Preset }); i >= 0 && presets.Items[i].View != nil {
		from := formOf(presets.Items[i].View, presets.Items[i].Policy)
		from.Preset, from.Expires = f.Preset, f.Expires
		f = from
	}
	return v.formPage(&f, false)
}

// makeKey is the form of a new key, step by step and at the end.
func (v *visit) makeKey() (*page, error) {
	f := readForm(v.r.PostForm)
	do := v.r.PostFormValue("do")
	if do == "preset" {
		q := url.Values{"preset": {f.Preset}}
		return nil, redirect("/keys/new?" + q.Encode())
	}
	scopes, err := v.scopeMap()
	if err != nil {
		return nil, err
	}
	if f.step(do, scopes) {
		return v.formPage(&f, do == "check")
	}
	text, _ := f.policy()
	made, err := v.api.CreateKey(v.ctx(), admin.KeyRequest{
		Name: f.Name, Upstream: f.Upstream, PolicyEdit: admin.PolicyEdit{Policy: text, PolicyFile: "form"},
	})
	if problem, ok := refused(err); ok {
		return v.formAgain(&f, problem)
	}
	if err != nil {
		return nil, err
	}
	d := revealPage{ID: made.ID, Name: made.Name, Key: made.Key, Mode: made.Mode, Warnings: made.Warnings, RestrictedKey: made.RestrictedKey}
	if f.Customers != "any" && len(words(f.List)) > 0 {
		d.Customer = words(f.List)[0]
	}
	return v.reveal(d), nil
}

// editKey is the form of a key that exists.
func (v *visit) editKey() (*page, error) {
	k, err := v.api.Key(v.ctx(), v.r.PathValue("key"))
	if err != nil {
		return nil, err
	}
	f := formOf(&k.View, k.Policy)
	f.Key, f.Version, f.Name, f.Upstream = k.ID, k.ETag, k.Name, k.Upstream
	f.Expires = expiryIn(k.Policy)
	return v.formPage(&f, false)
}

// expiryIn is what a policy file says of its expiry.
func expiryIn(policy string) string {
	for line := range strings.Lines(policy) {
		if value, ok := strings.CutPrefix(line, "expires: "); ok {
			return strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return ""
}

func (v *visit) saveKey() (*page, error) {
	f := readForm(v.r.PostForm)
	f.Key = v.r.PathValue("key")
	do := v.r.PostFormValue("do")
	scopes, err := v.scopeMap()
	if err != nil {
		return nil, err
	}
	if do == "replay" {
		return v.replayed(&f)
	}
	if f.step(do, scopes) {
		return v.formPage(&f, do == "check")
	}
	text, _ := f.policy()
	_, err = v.api.UpdateKey(v.ctx(), f.Key, admin.KeyUpdate{
		Name: f.Name, PolicyEdit: admin.PolicyEdit{Policy: text, PolicyFile: "form"}, Reason: f.Reason, IfMatch: f.Version,
	})
	if outdated(err) {
		return v.changedMeanwhile(&f)
	}
	if problem, ok := refused(err); ok {
		return v.formAgain(&f, problem)
	}
	if err != nil {
		return nil, err
	}
	return nil, redirect("/keys/" + url.PathEscape(f.Key))
}

// changedMeanwhile is the form once more, on the key as it is now: what somebody else changed stands in the difference, and
// saving takes it back only if that is what is wanted.
func (v *visit) changedMeanwhile(f *keyForm) (*page, error) {
	k, err := v.api.Key(v.ctx(), f.Key)
	if err != nil {
		return nil, err
	}
	f.Version = k.ETag
	p, err := v.formPage(f, true)
	if err != nil {
		return nil, err
	}
	d := p.Data.(keyFormPage)
	d.Problems = append([]string{"Somebody changed this key while you had the form. What would change now, theirs included, is below: look at it before you save."}, d.Problems...)
	p.Data, p.Status = d, http.StatusPreconditionFailed
	return p, nil
}

// formAgain is the form with what was typed, after a refusal. Where the policy alone would be taken, the refusal's own words
// say what is wrong.
func (v *visit) formAgain(f *keyForm, problem string) (*page, error) {
	p, err := v.formPage(f, true)
	if err != nil {
		return nil, err
	}
	if d := p.Data.(keyFormPage); len(d.Problems)+len(d.At) == 0 && !slices.ContainsFunc(d.Form.Caps, func(c capField) bool { return c.Problem != "" }) {
		d.Problems = append(d.Problems, problem)
		p.Data = d
	}
	return typedAgain(p, nil)
}

// replayFor is how long a page waits for what a policy would have done: as much of thirty days as can be read by then.
const replayFor = 5

// replayed is the form with what the policy in it would have done to the key's calls of the last thirty days.
func (v *visit) replayed(f *keyForm) (*page, error) {
	p, err := v.formPage(f, true)
	if err != nil {
		return nil, err
	}
	d, ok := p.Data.(keyFormPage)
	if !ok || len(d.Check.Problems) > 0 {
		return p, nil
	}
	text, _ := f.policy()
	few := 3
	r, err := v.api.Replay(v.ctx(), admin.ReplayRequest{
		Key: f.Key, Since: "30d", Seconds: replayFor, Examples: &few, PolicyEdit: admin.PolicyEdit{Policy: text, PolicyFile: "form"},
	})
	switch problem, is := refused(err); {
	case is:
		d.NoReplay = problem
	case unavailable(err):
		d.NoReplay = "Another one is being worked out. Try again in a moment."
	case err != nil:
		return nil, err
	default:
		d.Replay = &r
	}
	p.Data = d
	return p, nil
}

// formPage shows the form with what the key would be. Before somebody has asked for it, problems are not shown: nothing was
// typed yet.
func (v *visit) formPage(f *keyForm, checked bool) (*page, error) {
	d := keyFormPage{Form: *f, Pers: []string{"call", "hour", "day", "week", "month", "total"}, NameFits: nameFits.MatchString(f.Name), Checked: checked}
	presets, err := v.api.Presets(v.ctx())
	if err != nil {
		return nil, err
	}
	upstreams, err := v.api.Upstreams(v.ctx())
	if err != nil {
		return nil, err
	}
	scopes, err := v.scopeMap()
	if err != nil {
		return nil, err
	}
	d.Presets, d.Upstreams, d.All = presets.Items, upstreams.Items, len(scopes)
	if d.Form.Upstream == "" && len(d.Upstreams) > 0 {
		d.Form.Upstream = d.Upstreams[0].Name
	}
	d.choose(scopes)
	text, lines := d.Form.policy()
	d.Check, err = v.api.CheckPolicy(v.ctx(), admin.PolicyCheckRequest{Key: f.Key, KeyRequest: admin.KeyRequest{
		Name: f.Name, Upstream: d.Form.Upstream, PolicyEdit: admin.PolicyEdit{Policy: text, PolicyFile: "form"},
	}})
	if err != nil {
		return nil, err
	}
	if checked {
		d.At = map[string]string{}
		d.Form.Caps = slices.Clone(d.Form.Caps)
		for _, p := range d.Check.Problems {
			if i, ok := lines[p.Line]; ok {
				d.Form.Caps[i].Problem = p.Message
				continue
			}
			if slices.Contains(fieldsOfForm, p.Field) {
				d.At[p.Field] = p.Message
				continue
			}
			d.Problems = append(d.Problems, p.Message)
		}
	}
	d.review(scopes)
	p := &page{
		Title: "New key", Heading: "New key", Nav: "/keys", Template: "keyform", Crumb: &link{"/keys", "Keys"},
		Sub: "Give one agent, on one runner, the least it needs. You can check it before it exists.",
	}
	if f.Key != "" {
		p.Title, p.Heading, p.Sub = "Edit", "Edit "+f.Name, "What it may do afterwards, and what changes. Calls on the wire finish under the old policy."
		p.Crumb = &link{"/keys/" + f.Key, f.Name}
		p.Key = stopTarget{ID: f.Key, Name: f.Name}
	}
	p.Data = d
	return p, nil
}

// choose lists the resources that the form shows: those that are granted, common ones, and what is searched for.
func (d *keyFormPage) choose(scopes []admin.Scope) {
	access := map[string]string{}
	for _, s := range d.Form.Scopes {
		access[s.Resource] = s.Access
	}
	others := access["*"]               // what all the others have
	for _, one := range d.Form.Scopes { // what no map has must not be lost either
		if !slices.ContainsFunc(scopes, func(s admin.Scope) bool { return s.Resource == one.Resource }) {
			title := one.Resource
			if title == "*" {
				title = "All other resources"
			}
			d.Scopes = append(d.Scopes, scopeChoice{admin.Scope{Resource: one.Resource, Title: title, Worst: "Whatever no other line says.", Writes: 1, Risk: "extreme"}, one.Access})
		}
	}
	for _, s := range scopes {
		a, shown := access[s.Resource]
		if shown || slices.Contains(common, s.Resource) || d.Form.Find != "" && names(&s, d.Form.Find) {
			if a == "" {
				a = cmp.Or(others, "none")
			}
			d.Scopes = append(d.Scopes, scopeChoice{s, a})
		}
	}
	order := []string{"write", "read", "none"}
	slices.SortStableFunc(d.Scopes, func(a, b scopeChoice) int { return slices.Index(order, a.Access) - slices.Index(order, b.Access) })
	d.Resources = append(d.Form.buckets(scopes), "*")
	for _, c := range d.Form.Caps {
		if !slices.Contains(d.Resources, c.Resource) {
			d.Resources = append(d.Resources, c.Resource)
		}
	}
}

// review says in sentences what the key could and could not do.
func (d *keyFormPage) review(scopes []admin.Scope) {
	var reads, writes []string
	for _, s := range d.Form.Scopes {
		switch s.Access {
		case "read":
			reads = append(reads, s.Resource)
		case "write":
			writes = append(writes, s.Resource)
		}
	}
	whose := "of any customer"
	if d.Form.Customers != "any" {
		whose = "of " + plural(len(words(d.Form.List)), "customer")
		if len(words(d.Form.List)) == 0 {
			whose = "of no customer until you name one"
		}
	}
	if len(reads) > 0 {
		d.Can = append(d.Can, "Read "+strings.Join(reads, ", ")+" "+whose+".")
	}
	for _, w := range writes {
		says := "Write " + w
		i := slices.IndexFunc(scopes, func(s admin.Scope) bool { return s.Resource == w })
		var at []string
		for _, c := range d.Form.Caps {
			if i >= 0 && (c.Resource == "*" || slices.Contains(scopes[i].Moves, c.Resource)) {
				at = append(at, capWords(c))
			}
		}
		if len(at) > 0 {
			says += ", at most " + strings.Join(at, ", ")
		}
		d.Can = append(d.Can, says+".")
	}
	if len(d.Can) == 0 {
		d.Cannot = append(d.Cannot, "Nothing at all: every resource is none.")
	} else {
		d.Cannot = append(d.Cannot, "Nothing on "+count(int64(d.All-len(reads)-len(writes)))+" other resources.")
	}
	if d.Form.Network != "" {
		d.Cannot = append(d.Cannot, "Nothing from outside "+d.Form.Network+".")
	}
	if d.Form.Expires != "" && d.Form.Expires != "never" {
		d.Cannot = append(d.Cannot, "Nothing after "+d.Form.Expires+" from its making.")
	}
	for _, c := range d.Form.Caps {
		if c.Unit == "usd" && c.Per != "call" && c.Limit != "" {
			if d.Wild != "" {
				d.Wild += ", "
			}
			d.Wild += capWords(c) + " on " + strings.ReplaceAll(c.Resource, "*", "all resources")
		}
	}
}

func capWords(c capField) string {
	if c.Unit == "calls" {
		return c.Limit + " calls a " + c.Per
	}
	limit := dollars(plainAmount(c.Limit))
	if c.Per == "total" {
		return limit + " in all"
	}
	return limit + " a " + c.Per
}
