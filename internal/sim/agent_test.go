package sim

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"

	"github.com/keybrake/keybrake/internal/admin"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

// agent works with one vault key: it makes calls, and repeats what had no good answer.
type agent struct {
	w       *world
	name    string
	rng     *rand.Rand
	n       int
	intents []string // its key's payment intents that it knows of
	last    []shot   // writes that it may send again
}

// shot is one request that an agent sends.
type shot struct {
	class              class
	method, path, form string
	idem               string
	key                int
	secret             string // a text of the key that is not its newest; empty: the newest
}

func newAgent(w *world, i int) *agent {
	return &agent{w: w, name: fmt.Sprintf("a%d", i), rng: rand.New(rand.NewPCG(w.rng.Uint64(), 3))}
}

// work makes calls until the run has had enough of them.
func (a *agent) work() {
	defer func() { a.w.agents.Add(-1) }()
	for {
		a.w.b.wait(a.name, "next")
		if a.w.calls >= a.w.options.calls {
			return
		}
		if a.w.p.up && !a.w.p.dead {
			a.send(a.choose())
		}
	}
}

// send makes one call and looks at what comes of it.
func (a *agent) send(s shot) {
	a.w.calls++
	a.n++
	k, p := a.w.keys[s.key], a.w.p
	c := &call{
		run: fmt.Sprintf("%s-%d", a.name, a.n), key: k.id, write: s.method != http.MethodGet, class: s.class,
		begun: a.w.b.steps.Load(), at: a.w.engine.time(),
	}
	a.w.auditor.calls[c.run] = c
	rec := a.w.request(context.WithValue(context.Background(), whoKey{}, c.run), p, cmp.Or(s.secret, k.secret), c.run, s)
	a.w.b.wait(c.run, "answered") // several may have waited for one record
	if p.dead {
		if s.class.must == "" {
			a.last = append(a.last, s) // the connection broke
		}
		return
	}
	code, reason := a.heard(s, rec)
	a.w.auditor.answered(c, rec, reason)
	a.w.b.notef("answer", c.run, "%d %s", rec.code, code)
}

// heard takes down what an answer is good for, and returns its error code and our own reason in it.
func (a *agent) heard(s shot, rec *recorder) (code, reason string) {
	var body struct {
		ID, Object string
		Error      struct {
			Code     string
			Keybrake struct{ Code string }
		}
	}
	_ = json.Unmarshal(rec.body.Bytes(), &body)
	if body.Object == "payment_intent" && rec.code == http.StatusOK && !slices.Contains(a.intents, body.ID) {
		a.intents = append(a.intents, body.ID)
	}
	if s.method != http.MethodGet && s.class.must == "" && (rec.code >= 500 || rec.code == http.StatusConflict || a.rng.IntN(20) == 0) {
		a.last = append(a.last, s)
	}
	return body.Error.Code, body.Error.Keybrake.Code
}

// request hands one HTTP request to the agents' listener.
func (w *world) request(ctx context.Context, p *process, secret, run string, s shot) *recorder {
	target, body := s.path, ""
	if s.method == http.MethodGet && s.form != "" {
		target += "?" + s.form
	} else {
		body = s.form
	}
	r, err := http.NewRequestWithContext(ctx, s.method, "http://keybrake"+target, strings.NewReader(body))
	if err != nil {
		w.problems = append(w.problems, err.Error())
		return &recorder{}
	}
	r.RequestURI, r.RemoteAddr = target, "10.0.0.1:5000"
	r.Header.Set("Authorization", "Bearer "+secret)
	r.Header.Set("X-Agent-Run-Id", run)
	if s.method != http.MethodGet {
		r.Header.Set("Content-Type", contentType(s.path))
	}
	if s.idem != "" {
		r.Header.Set("Idempotency-Key", s.idem)
	}
	rec := &recorder{head: make(http.Header)}
	p.gateway.ServeHTTP(rec, r)
	return rec
}

var (
	ordinary  = class{name: "ordinary"}
	repeated  = class{name: "repeated", may: []string{"idempotency_key_in_use", "keybrake_idempotency_mismatch", "keybrake_request_malformed"}}
	pinned    = class{name: "for what is left", may: []string{"keybrake_request_malformed"}} // refused when nothing is
	outside   = class{name: "out of scope", must: "keybrake_scope_denied"}
	foreign   = class{name: "foreign customer", must: "keybrake_customer_denied", may: []string{"keybrake_cap_exceeded"}}
	shadowed  = class{name: "in the shadow", marked: true}
	malformed = class{name: "malformed", must: "keybrake_request_malformed"}
)

// choose decides what the agent does next.
func (a *agent) choose() shot {
	if len(a.last) > 0 && a.rng.IntN(3) == 0 {
		i := a.rng.IntN(len(a.last))
		s := a.last[i]
		a.last = slices.Delete(a.last, i, i+1)
		s.class = repeated
		switch { // the same key for another call
		case a.rng.IntN(12) > 0 || s.idem == "":
		case strings.HasPrefix(s.path, "/v2/"):
			s.form = strings.Replace(s.form, `"value":`, `"value":1`, 1)
		default:
			s.form = strings.TrimPrefix(s.form+"&metadata[x]=1", "&")
		}
		return s
	}
	key := int(a.name[1]-'0') % len(a.w.keys)
	s := a.call(key)
	s.key = key
	if older := a.w.keys[key].older; len(older) > 0 && a.rng.IntN(10) == 0 {
		s.secret = older[a.rng.IntN(len(older))].secret
	}
	if s.method == http.MethodPost && a.rng.IntN(5) > 0 {
		s.idem = fmt.Sprintf("%s-k%d", a.name, a.n)
	}
	return s
}

func (a *agent) call(key int) shot {
	post := func(c class, path, format string, args ...any) shot {
		return shot{class: c, method: http.MethodPost, path: path, form: fmt.Sprintf(format, args...)}
	}
	customer := a.w.seeded.Customers[a.rng.IntN(2)]
	if key == customerKey || key == shadowKey {
		customer = a.w.seeded.Customers[0]
	}
	charge := customer.Charges[a.rng.IntN(len(customer.Charges))]
	cents := 100 * (1 + a.rng.IntN(60))
	out, other := outside, foreign
	if key == shadowKey {
		out, other = shadowed, shadowed
	}
	switch n := a.rng.IntN(100); {
	case n < 4:
		return post(out, "/v1/transfers", "amount=%d&currency=usd&destination=acct_1", cents)
	case n < 7 && key == secondAPIKey:
		return post(malformed, a.path(key), `{"amount":{"value":1,"value":%d,"currency":"usd"}}`, cents)
	case n < 7:
		return post(malformed, a.path(key), "amount=100&amount=%d&charge=%s", cents, charge)
	case n < 10 && (key == customerKey || key == shadowKey):
		return post(other, "/v1/refunds", "charge=%s&amount=%d", a.w.seeded.Customers[1].Charges[0], cents)
	case n < 22:
		return shot{class: ordinary, method: http.MethodGet, path: "/v1/charges/" + charge}
	case key == payoutsKey && n < 60:
		return post(ordinary, "/v1/payouts", "amount=%d&currency=usd", cents)
	case key == secondAPIKey:
		return post(ordinary, a.path(key), `{"amount":{"value":%d,"currency":"usd"},"from":{"financial_account":%q,"currency":"usd"},"to":{"recipient":%q}}`,
			cents, a.w.seeded.FinancialAccount, a.w.payee)
	case key == refundsKey || key == shadowKey || key == customerKey && n < 50:
		if a.rng.IntN(12) == 0 {
			return post(pinned, "/v1/refunds", "charge=%s", charge)
		}
		if key == refundsKey && a.rng.IntN(4) == 0 {
			charge = a.w.abroad[a.rng.IntN(len(a.w.abroad))]
			cents += a.rng.IntN(100) // so that dollars have to be rounded
		}
		return post(ordinary, "/v1/refunds", "charge=%s&amount=%d", charge, cents)
	}
	return a.intent(customer.ID, customer.Card, cents)
}

// path is where a key writes.
func (a *agent) path(key int) string {
	return []string{"/v1/refunds", "/v1/refunds", "/v1/payouts", "/v2/money_management/outbound_payments", "/v1/refunds"}[key]
}

// intent makes a payment intent, or goes on with one.
func (a *agent) intent(customer, card string, cents int) shot {
	post := func(path, form string) shot {
		return shot{class: pinned, method: http.MethodPost, path: path, form: form}
	}
	if len(a.intents) > 0 && a.rng.IntN(3) == 0 {
		id := a.intents[a.rng.IntN(len(a.intents))]
		switch a.rng.IntN(4) {
		case 0:
			return post("/v1/payment_intents/"+id+"/cancel", "")
		case 1:
			return post("/v1/payment_intents/"+id+"/confirm", "")
		case 2:
			return post("/v1/payment_intents/"+id+"/capture", fmt.Sprintf("amount_to_capture=%d", max(100, cents/2)))
		default:
			return post("/v1/payment_intents/"+id+"/capture", "")
		}
	}
	form := fmt.Sprintf("amount=%d&currency=usd&customer=%s&payment_method=%s", cents, customer, card)
	switch a.rng.IntN(4) {
	case 0:
		form += "&confirm=true&capture_method=manual"
	case 1: // to be confirmed later
	default:
		form += "&confirm=true"
	}
	return post("/v1/payment_intents", form)
}

// operator does what people do at the admin port.
type operator struct {
	w    *world
	name string
	rng  *rand.Rand
	// hurry: something is stopped, and people want it back.
	hurry bool
}

func newOperator(w *world, name string, n uint64) *operator {
	return &operator{w: w, name: name, rng: rand.New(rand.NewPCG(w.rng.Uint64(), n))}
}

// each runs an action now and then, until the agents are done.
func (o *operator) each(act func(context.Context, *process)) {
	for {
		o.w.b.wait(o.name, idle)
		if o.w.agents.Load() == 0 {
			return
		}
		if p := o.w.p; p.up && !p.dead && (o.rng.IntN(60) == 0 || o.hurry && o.rng.IntN(8) == 0) {
			act(context.WithValue(context.Background(), whoKey{}, o.name), p)
		}
	}
}

// brakes stops and resumes keys, the upstream and everything.
func (o *operator) brakes() {
	stopped := ""
	o.each(func(ctx context.Context, p *process) {
		k := o.w.keys[o.rng.IntN(len(o.w.keys))]
		if o.w.auditor.frozen[k.id] && stopped == "" {
			o.resume(ctx, p, admin.Target{Keys: []string{string(k.id)}}, store.KeyScope(k.id))
			return
		}
		scope := store.KeyScope(k.id)
		if stopped != "" {
			scope = stopped
		} else if o.rng.IntN(4) == 0 {
			scope = store.ScopeAll
		}
		target := admin.Target{All: true}
		if id, ok := strings.CutPrefix(scope, "key:"); ok {
			target = admin.Target{Keys: []string{id}}
		}
		if stopped == "" {
			stopped, o.hurry = scope, true
			o.kill(ctx, p, target, scope, o.rng.IntN(3) == 0)
			return
		}
		stopped, o.hurry = "", false
		o.resume(ctx, p, target, scope)
	})
}

func (o *operator) kill(ctx context.Context, p *process, target admin.Target, scope string, readOnly bool) {
	brake := o.w.auditor.brake(scope, readOnly)
	answer, err := p.service.Kill(ctx, admin.Actor{Name: o.name, Role: vault.RoleAdmin}, admin.KillRequest{Target: target, ReadOnly: readOnly})
	o.w.b.notef("kill", o.name, "%s: warning %v, error %v", scope, answer.Warning != "", err)
	if err == nil && !p.dead {
		brake.inForce, brake.durable = true, answer.Warning == ""
	}
}

func (o *operator) resume(ctx context.Context, p *process, target admin.Target, scope string) {
	begun := o.w.b.steps.Load() + 1
	o.w.auditor.releasing(scope)
	_, err := p.service.Resume(ctx, admin.Actor{Name: o.name, Role: vault.RoleAdmin}, admin.ResumeRequest{Target: target, Reason: "looked at it"})
	o.w.b.notef("resume", o.name, "%s: error %v", scope, err)
	if err == nil {
		o.w.auditor.released(scope, begun)
	}
}

// changes edits keys. One person does it: two would wait for each other in the program, which the baton does not see.
func (o *operator) changes() {
	o.each(func(ctx context.Context, p *process) {
		if i := o.rng.IntN(len(o.w.keys)); o.rng.IntN(4) == 0 {
			o.rotate(ctx, p, i)
		} else {
			o.limit(ctx, p, i)
		}
	})
}

// limit raises or lowers a cap.
func (o *operator) limit(ctx context.Context, p *process, i int) {
	cap := fmt.Sprintf("%s=%d", []string{"refunds/day", "refunds/week", "payouts/hour", "v2.money_management.outbound_payments/day", "refunds/day"}[i], 50+o.rng.IntN(800))
	_, err := p.service.UpdateKey(ctx, admin.Actor{Name: o.name, Role: vault.RoleAdmin}, string(o.w.keys[i].id),
		admin.KeyUpdate{PolicyEdit: admin.PolicyEdit{Caps: []string{cap}}, Reason: "season"})
	o.w.b.notef("limits", o.name, "%s: error %v", cap, err)
}

// asker asks the vendor, now and then, what became of calls without an answer.
func (w *world) asker() {
	for {
		w.b.wait("asker", idle)
		if w.agents.Load() == 0 {
			return
		}
		often := slices.ContainsFunc(w.b.waiting, func(t *turn) bool { return t.late })
		if n := w.rng.IntN(200); n == 0 || often && n < 10 {
			w.askOnce()
		}
	}
}

func (w *world) askOnce() {
	p := w.p
	if !p.up || p.dead {
		return
	}
	ctx := context.WithValue(context.Background(), whoKey{}, "asker")
	err := p.reconcile.Open(ctx)
	w.b.notef("ask", "asker", "open: error %v", err != nil)
	err = p.reconcile.Follow(ctx)
	w.b.notef("ask", "asker", "follow: error %v", err != nil)
}
