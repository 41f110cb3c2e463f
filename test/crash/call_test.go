package crash

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/admin"
)

// kind is what an agent wants of a call.
type kind string

const (
	refund  kind = "refund"
	create  kind = "create"
	confirm kind = "confirm"
	capture kind = "capture"
	read    kind = "read"
)

// call is one thing that an agent wants, however often it has to ask for it.
type call struct {
	id   string // its own; Stripe sees it as metadata[call] of refunds and new intents
	who  *principal
	kind kind
	path string
	form string
	idem string // idempotency key; empty for none
	// object is the intent that a confirmation or capture is about.
	object string
	tries  []try
}

// try is one time that a call was sent.
type try struct {
	began, ended time.Time
	status       int // 0: the connection broke before an answer had come whole
	code         string
	ours         bool // the answer is Keybrake's own and not Stripe's
	object       string
	amount       int64
	state        string // "status" of the object
	record       int64  // that the answer names, by number
	pending      bool   // answered before the outcome was written down
}

// succeeded is the first answer that said so; nil if there is none.
func (c *call) succeeded() *try {
	for i := range c.tries {
		if c.tries[i].status == http.StatusOK {
			return &c.tries[i]
		}
	}
	return nil
}

// refused reports a call of which every try was answered that Keybrake does not let it pass.
func (c *call) refused() bool {
	for _, t := range c.tries {
		if !t.ours || t.unknown() {
			return false
		}
	}
	return len(c.tries) > 0
}

// failed reports a call of which every try was answered that nothing was done, by whomever.
func (c *call) failed() bool {
	for _, t := range c.tries {
		if t.status < 400 || t.status >= 500 {
			return false
		}
	}
	return len(c.tries) > 0
}

// unavailable reports the answer of a gateway that could not take the call: it says that nothing was sent.
func (t *try) unavailable() bool { return t.status == 503 && t.code == "keybrake_unavailable" }

// unknown reports the answer of a gateway that does not know what Stripe did.
func (t *try) unknown() bool { return t.status == 504 && t.code == "keybrake_upstream_unknown" }

// send tries a call once.
func (w *world) send(c *call) *try {
	t := try{began: time.Now()}
	w.exchange(c, &t)
	t.ended = time.Now()
	c.tries = append(c.tries, t)
	return &c.tries[len(c.tries)-1]
}

// goSend asks on the side; the channel closes when the call has come back.
func (w *world) goSend(c *call) <-chan struct{} {
	w.calls = append(w.calls, c)
	back := make(chan struct{})
	go func() { defer close(back); w.send(c) }()
	return back
}

// where is a gateway's URL: any node's, of those that a load balancer has not taken out.
func (w *world) where() string {
	if len(w.nodes) == 0 {
		return w.url
	}
	from := rand.IntN(len(w.nodes))
	for i := range w.nodes {
		if n := w.nodes[(from+i)%len(w.nodes)]; !n.away.Load() {
			return n.url.Load().(string)
		}
	}
	return w.nodes[from].url.Load().(string)
}

func (w *world) exchange(c *call, t *try) {
	method := http.MethodPost
	if c.kind == read {
		method = http.MethodGet
	}
	req, err := http.NewRequest(method, w.where()+c.path, strings.NewReader(c.form))
	if err != nil {
		panic(err) // our own constant
	}
	req.GetBody = nil // or net/http would send it again by itself
	req.Header.Set("Authorization", "Bearer "+c.who.secret)
	if c.form != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if c.idem != "" {
		req.Header["Idempotency-key"] = []string{c.idem} // likewise: under this spelling it keeps its hands off
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return
	}
	var a struct {
		ID     string
		Amount int64
		Status string
		Error  struct {
			Code     string
			Keybrake json.RawMessage
		}
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return // cut short
	}
	t.status, t.code, t.ours = resp.StatusCode, a.Error.Code, a.Error.Keybrake != nil
	t.object, t.amount, t.state = a.ID, a.Amount, a.Status
	t.pending = resp.Header.Get("Keybrake-Settlement") == "pending"
	t.record, _ = strconv.ParseInt(strings.TrimPrefix(resp.Header.Get("Keybrake-Audit-Id"), "aud_1_"), 10, 64)
}

// newCall is a call of a principal; form is what Stripe reads, with the call's own name where Stripe takes metadata.
func newCall(who *principal, k kind, id, path, form, idem string) *call {
	if k == refund || k == create {
		form += "&metadata[call]=" + id
	}
	return &call{id: id, who: who, kind: k, path: path, form: form, idem: idem}
}

func newRefund(who *principal, id, charge string, cents int64, idem string) *call {
	form := "charge=" + charge
	if cents > 0 {
		form += fmt.Sprintf("&amount=%d", cents)
	}
	return newCall(who, refund, id, "/v1/refunds", form, idem)
}

func newIntent(who *principal, id string, cents int64, how, idem string) *call {
	return newCall(who, create, id, "/v1/payment_intents",
		fmt.Sprintf("amount=%d&currency=usd&customer=%s&payment_method=%s%s", cents, who.customer, who.card, how), idem)
}

// step is a confirmation or capture of an intent.
func newStep(who *principal, k kind, id, intent, form, idem string) *call {
	c := newCall(who, k, id, "/v1/payment_intents/"+intent+"/"+string(k), form, idem)
	c.object = intent
	return c
}

// callID reads the name that a call gave itself; empty if it could not.
func callID(body []byte) string {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return ""
	}
	return form.Get("metadata[call]")
}

// act is what an operator did to a principal's brake.
type act struct {
	who          *principal
	stop         bool
	began, ended time.Time
	acknowledged bool
	warning      string // that a stop came with
}

func (w *world) pull(p *principal) *act { return w.pullAt(w.ops, p) }
func (w *world) lift(p *principal) *act { return w.liftAt(w.ops, p) }

func (w *world) pullAt(ops *admin.Client, p *principal) *act {
	a := &act{who: p, stop: true, began: time.Now()}
	told, err := ops.Kill(w.t.Context(), admin.KillRequest{Target: admin.Target{Keys: []string{p.id}}, Reason: "crash test"})
	a.ended, a.acknowledged, a.warning = time.Now(), err == nil, told.Warning
	return a
}

func (w *world) liftAt(ops *admin.Client, p *principal) *act {
	a := &act{who: p, began: time.Now()}
	_, err := ops.Resume(w.t.Context(), admin.ResumeRequest{Target: admin.Target{Keys: []string{p.id}}, Reason: "crash test"})
	a.ended, a.acknowledged = time.Now(), err == nil
	return a
}
