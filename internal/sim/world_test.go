package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/keybrake/keybrake/internal/admin"
	"github.com/keybrake/keybrake/internal/gateway"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/reconcile"
	"github.com/keybrake/keybrake/internal/upstream"
	"github.com/keybrake/keybrake/internal/upstream/stripe"
	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
	"github.com/keybrake/keybrake/internal/vault"
)

// options say what a run is like. The zero value is an ordinary one.
type options struct {
	calls   int  // of all agents together
	calm    bool // no crashes, faults or jumps
	fault   fault
	verbose func(format string, args ...any)
	sweep   *sweep       // a scripted day with one failure, in place of chance
	after   func(*world) // looks at what is left, once everything is over
	journal *journal     // keeps what became durable; nil: nobody wants it
	network bool         // the store is at the other end of a network, which breaks
	server  bool         // and it is PostgreSQL that decides
}

// result is what came of a run.
type result struct {
	calls, crashes, steps int
	hash                  string
	figures
	broken []violation
}

// world is a whole Keybrake with its agents, operators and vendor, under one baton.
type world struct {
	options
	b        *baton
	rng      *rand.Rand
	clock    *wallClock
	sandbox  *sandbox.Server
	seeded   sandbox.Seeded
	vendor   *vendor
	auditor  *auditor
	engine   *engine
	master   *vault.Master
	adapter  *stripe.Adapter
	log      *errorLog
	p        *process
	keys     []agentKey
	abroad   []string     // charges that are not in dollars
	payee    string       // an account that money can be paid out to through the second API
	working  atomic.Int64 // agents and operators that are not done
	agents   atomic.Int64 // agents that are not done
	calls    int
	crashes  int
	ending   bool
	skewed   time.Time // when our clock was set last
	problems []string
	reseed   func() // gives what is drawn from now on a beginning of its own
}

// agentKey is a vault key in an agent's hands.
type agentKey struct {
	id     policy.KeyID
	name   string
	secret string
	older  []text
}

// process is one life of the program.
type process struct {
	dead      bool
	up        bool
	stop      context.CancelFunc
	store     *engine
	ring      *vault.Ring
	service   *admin.Service
	gateway   *gateway.Gateway
	reconcile *reconcile.Reconciler
}

// errorLog keeps what says that the product broke an invariant of its own.
type errorLog struct{ broken []string }

func (l *errorLog) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelError }
func (l *errorLog) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "a call broke an invariant" {
		text := ""
		r.Attrs(func(a slog.Attr) bool { text += a.String() + " "; return true })
		l.broken = append(l.broken, text)
	}
	return nil
}
func (l *errorLog) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l *errorLog) WithGroup(string) slog.Handler      { return l }

// simulate runs one seed. The same seed and options give the same result, trace included.
func simulate(t *testing.T, seed uint64, o options) (out result) {
	t.Helper()
	t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
		var s *server
		if o.server {
			s = newServer(t)
		}
		cryptotest.SetGlobalRandom(t, seed)
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, seed, o)
			w.reseed = func() { cryptotest.SetGlobalRandom(t, seed+uint64(w.crashes+1)<<32) }
			w.serveBy(t, s)
			w.run()
			if o.after != nil {
				o.after(w)
			}
			out = w.result()
		})
	})
	return out
}

func newWorld(t testing.TB, seed uint64, o options) *world {
	w := &world{options: o, b: newBaton(), rng: rand.New(rand.NewPCG(seed, 1)), clock: &wallClock{}, log: &errorLog{}}
	w.b.verbose = o.verbose
	w.sandbox = sandbox.New(sandbox.Options{Seed: int64(seed), Now: w.clock.world})
	w.seeded = w.sandbox.Seed()
	w.auditor = newAuditor(func() int64 { return w.b.steps.Load() }, w.now)
	w.sellAbroad(t)
	w.payOutTo(t)
	w.vendor = &vendor{
		b: w.b, sandbox: w.sandbox, rng: rand.New(rand.NewPCG(seed, 2)), auditor: w.auditor,
		seen: len(w.sandbox.Effects()), running: make(map[string]int), wires: make(map[*request]bool), rate: []float64{0.02, 0.1, 0.3}[w.rng.IntN(3)],
	}
	w.vendor.plan = w.vendor.random
	if o.calm {
		w.vendor.rate = 0
	}
	if o.sweep != nil {
		w.vendor.plan = o.sweep.plan
	}
	var err error
	w.master, err = vault.EphemeralMaster()
	must(t, err)
	w.adapter, err = stripe.New()
	must(t, err)
	w.engine = &engine{b: w.b, clock: w.clock.ours, network: o.network, seen: w.auditor.durable, lost: func(n int64) { w.auditor.lost += n },
		panicked: func(what string) { w.auditor.fail("assertion", "%s", what) }, durable: newRows(), live: newRows(), faulty: w.readFails, journal: o.journal}
	return w
}

// sellAbroad makes charges that are not in dollars.
func (w *world) sellAbroad(t testing.TB) {
	for _, form := range []string{"amount=30000&currency=eur", "amount=30000&currency=eur", "amount=90000&currency=jpy"} {
		var charge struct{ ID, Currency string }
		w.atVendor(t, "/v1/charges", form+"&source=tok_visa", "", &charge)
		w.abroad = append(w.abroad, charge.ID)
		w.auditor.foreign[charge.ID] = charge.Currency
	}
}

// payOutTo makes an account that money can be paid out to.
func (w *world) payOutTo(t testing.TB) {
	var to struct{ ID string }
	w.atVendor(t, "/v2/core/accounts", `{"contact_email":"paid@example.com","display_name":"A recipient","identity":{"country":"us",`+
		`"entity_type":"company"},"configuration":{"recipient":{"capabilities":{"bank_accounts":{"ach":{"requested":true}}}}}}`, "", &to)
	w.atVendor(t, "/v2/money_management/outbound_setup_intents", `{"payout_method_data":{"type":"bank_account","bank_account":{"account_number":`+
		`"000123456789","routing_number":"110000000","country":"us","currency":"usd"}},"usage_intent":"payment"}`, to.ID, &struct{}{})
	w.payee = to.ID
}

// atVendor makes something at the vendor before the run begins.
func (w *world) atVendor(t testing.TB, path, body, account string, into any) {
	rec := &recorder{head: make(http.Header)}
	r, err := http.NewRequest(http.MethodPost, "https://api.stripe.example"+path, strings.NewReader(body))
	must(t, err)
	r.Header.Set("Authorization", "Bearer sk_test_simulated")
	r.Header.Set("Content-Type", contentType(path))
	if account != "" {
		r.Header.Set("Stripe-Context", account)
	}
	w.sandbox.ServeHTTP(rec, r)
	if rec.code != http.StatusOK {
		t.Fatalf("%s: %s", path, rec)
	}
	must(t, json.Unmarshal(rec.body.Bytes(), into))
}

func contentType(path string) string {
	if strings.HasPrefix(path, "/v2/") {
		return "application/json"
	}
	return "application/x-www-form-urlencoded"
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) readFails() string {
	if w.sweep != nil {
		return w.sweep.strikesRead(w)
	}
	if !w.calm && w.p.up && w.rng.IntN(400) == 0 {
		return unavailable
	}
	return ""
}

// policies are what the keys of a run may do; the figures are drawn.
func (w *world) policies() []string {
	usd := func(low, high int) string { return fmt.Sprintf("%d.%02d", low+w.rng.IntN(high-low), w.rng.IntN(2)*50) }
	zone := []string{"America/New_York", "Pacific/Auckland", "UTC"}[w.rng.IntN(3)]
	repeat := []string{"", "repeat_unknown: allow\n"}[w.rng.IntN(2)]
	return []string{
		`scopes: {charges: read, payment_intents: read, customers: read, refunds: write}
caps:
  - {resource: refunds, per: day, usd: ` + usd(100, 900) + `}
  - {resource: refunds, per: hour, calls: ` + fmt.Sprint(8+w.rng.IntN(40)) + `}
  - {resource: refunds, per: call, usd: ` + usd(30, 60) + `}
  - {resource: "*", per: month, usd: ` + usd(500, 2000) + `}
customers: any
`,
		`scopes: {charges: read, customers: read, payment_intents: write, refunds: write}
caps:
  - {resource: payment_intents, per: day, usd: ` + usd(200, 1500) + `}
  - {resource: refunds, per: week, usd: ` + usd(100, 600) + `}
  - {resource: "*", per: day, usd: ` + usd(400, 1800) + `}
customers: [` + w.seeded.Customers[0].ID + `]
timezone: ` + zone + "\n" + repeat,
		`scopes: {charges: read, payment_intents: write, payouts: write}
caps:
  - {resource: payouts, per: hour, usd: ` + usd(100, 400) + `}
  - {resource: payouts, per: total, usd: ` + usd(400, 3000) + `}
  - {resource: payment_intents, per: month, usd: ` + usd(300, 3000) + `}
  - {resource: "*", per: day, calls: ` + fmt.Sprint(30+w.rng.IntN(200)) + `}
customers: any
timezone: ` + zone + "\n",
		`scopes: {charges: read, v2.money_management.outbound_payments: write}
caps:
  - {resource: v2.money_management.outbound_payments, per: day, usd: ` + usd(100, 900) + `}
  - {resource: "*", per: hour, calls: ` + fmt.Sprint(5+w.rng.IntN(40)) + `}
customers: any
no_customer: [v2.money_management.outbound_payments.create]
timezone: ` + zone + "\n" + repeat,
		`scopes: {charges: read, payment_intents: read, refunds: write}
caps:
  - {resource: refunds, per: day, usd: ` + usd(20, 200) + `}
  - {resource: refunds, per: hour, calls: ` + fmt.Sprint(2+w.rng.IntN(20)) + `}
  - {resource: refunds, per: call, usd: ` + usd(20, 50) + `}
customers: [` + w.seeded.Customers[0].ID + `]
enforcement: shadow
`,
	}
}

// What the keys of a run are for, by their place in it.
const (
	refundsKey = iota
	customerKey
	payoutsKey
	secondAPIKey
	shadowKey
)

// setUp adds an upstream and keys, as operators do before agents come.
func (w *world) setUp(ctx context.Context, s *admin.Service) error {
	who := admin.Actor{Name: "setup", Role: vault.RoleAdmin}
	if _, err := s.SetRates(ctx, who, admin.RateInputs{Rates: []admin.RateInput{{Currency: "EUR", Rate: "1.0937"}, {Currency: "JPY", Rate: "0.00669"}}}); err != nil {
		return err
	}
	_, err := s.AddUpstream(ctx, who, admin.UpstreamRequest{Name: "stripe", Secret: "sk_test_simulated", BaseURL: "https://api.stripe.example"})
	if err != nil {
		return err
	}
	if _, err := s.SetWebhook(ctx, who, "stripe", admin.SigningSecret{Secret: signing}); err != nil {
		return err
	}
	for i, text := range w.policies() {
		name := fmt.Sprintf("agent-sim-money-%d", i)
		made, err := s.CreateKey(ctx, who, admin.KeyRequest{PolicyEdit: admin.PolicyEdit{Policy: "name: " + name + "\n" + text, PolicyFile: "sim.yaml"}})
		if err != nil {
			return err
		}
		w.keys = append(w.keys, agentKey{id: policy.KeyID(made.ID), name: name, secret: made.Key})
	}
	return nil
}

// boot brings a process up on the present store, as serve does.
func (w *world) boot() {
	p := &process{store: w.engine, ring: vault.NewRing(w.master)}
	w.p = p
	w.working.Add(1)
	go func() {
		defer w.done()
		log := slog.New(w.log)
		db := w.fault.db(w.engine)
		p.service = admin.New(admin.Config{Store: db, Ring: p.ring, Vocabulary: w.adapter.Catalog().Vocabulary(), Version: stripe.DefaultVersion, Log: log})
		ctx := context.WithValue(context.Background(), whoKey{}, "boot")
		for !p.dead {
			if _, err := p.service.Load(ctx); err == nil {
				break
			}
		}
		if p.dead {
			return
		}
		if len(w.keys) == 0 {
			if err := w.setUp(ctx, p.service); err != nil {
				w.problems = append(w.problems, "set up: "+err.Error())
				return
			}
		}
		ring := w.fault.ring(ctx, w, p)
		if p.dead {
			return
		}
		client := upstream.NewClientOver(&wire{w.vendor, p})
		p.gateway = gateway.New(gateway.Config{
			Adapter: w.fault.adapter(w.adapter), Ring: ring, Store: db, Client: client, Rates: p.service.Rates, Log: log,
			LookupsPerSecond: 1e6, LookupsPerUpstream: 1e6,
		})
		p.reconcile = reconcile.New(reconcile.Config{Vendor: w.fault.vendor(w.adapter), Ring: p.ring, Store: db, Client: client, Log: log, PerSecond: 1e6})
		watch, stop := context.WithCancel(context.WithValue(context.Background(), whoKey{}, "sync"))
		p.stop = stop
		go p.service.WatchKillFile(watch, "")
		p.up = true
	}()
}

// crash ends the process where it stands and starts another on what was durable.
func (w *world) crash() {
	w.crashes++
	w.b.note("crash", "process", "")
	p := w.p
	p.dead, w.engine.dead = true, true
	w.auditor.crashed()
	w.engine.unflushed = nil
	// Those who wait for the store or the vendor find the process gone, one after the other.
	lost := func(t *turn) bool { return !t.late && t.what != idle && t.what != "next" }
	for {
		w.b.settle(w.enqueue, w.now())
		w.b.waiting = append(w.b.waiting, w.engine.queue...)
		w.engine.queue = nil
		i := slices.IndexFunc(w.b.waiting, lost)
		if i >= 0 {
			w.b.pass(&w.b.waiting, i)
			continue
		}
		if len(w.b.hanging) == 0 {
			break
		}
		w.b.pass(&w.b.hanging, 0)
	}
	if p.gateway != nil {
		p.stop()
		p.gateway.Close()
	}
	if p.service != nil {
		p.service.Close()
	}
	next, err := w.engine.reopen()
	if err != nil {
		w.auditor.fail("I-28", "the store does not open again: %v", err)
		return
	}
	w.engine = next
	if w.network {
		w.reseed()
	}
	w.boot()
}

func (w *world) enqueue(t *turn) { w.engine.queue = append(w.engine.queue, t) }
func (w *world) now() int64      { return int64(time.Since(bubble) / time.Second) }

func (w *world) result() result {
	for _, text := range w.log.broken {
		w.auditor.fail("check", "%s", text)
	}
	for _, text := range w.problems {
		w.auditor.fail("sim", "%s", text)
	}
	a := w.auditor
	return result{
		calls: w.calls, crashes: w.crashes, steps: int(w.b.steps.Load()), hash: w.b.hash(), figures: a.figures, broken: a.broken,
	}
}
