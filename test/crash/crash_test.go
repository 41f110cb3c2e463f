package crash

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/admin"
	"github.com/keybrake/keybrake/internal/store/postgres/postgrestest"
)

const (
	// clients spend at the same time.
	clients = 32
	// roundsVariable is how often the program is killed; a longer run sets it.
	roundsVariable = "KEYBRAKE_CRASH_ROUNDS"
	// seedVariable chooses what agents want and when the program dies, as far as that is ours to choose: how the
	// threads of two programs fall is not.
	seedVariable = "KEYBRAKE_CRASH_SEED"
	// oneVariable, set to anything, lets all agents of a generation share one vault key.
	oneVariable = "KEYBRAKE_CRASH_ONE_KEY"
	// generation is after how many rounds new vault keys come in place of those whose caps are full.
	generation = 20
	// wholeEvery is after how many rounds a long chain is read again from its beginning.
	wholeEvery = 25
	// readWhole is how long a chain is read whole in every round.
	readWhole = 20_000
)

// kinds are the vault keys of a generation: some fill within a round, some never.
var kinds = []struct {
	name, scopes string
	rules        []rule
}{
	{"small", "refunds: write", []rule{{resource: "refunds", per: "day", cents: 60_00}, {resource: "refunds", per: "call", cents: 2_50}}},
	{"hourly", "refunds: write", []rule{{resource: "refunds", per: "hour", cents: 900_00}, {resource: "refunds", per: "hour", calls: 150}}},
	{"intents", "payment_intents: write", []rule{{resource: "payment_intents", per: "total", cents: 400_00}, {resource: "*", per: "month", cents: 380_00}}},
	{"both", "refunds: write, payment_intents: write", []rule{{resource: "*", per: "total", cents: 9000_00}, {resource: "refunds", per: "day", cents: 4000_00}}},
}

func init() {
	if os.Getenv(oneVariable) != "" {
		kinds = kinds[len(kinds)-1:]
	}
}

// numberFrom is a number from the environment, or another one.
func numberFrom(variable string, or uint64) uint64 {
	if n, err := strconv.ParseUint(os.Getenv(variable), 10, 64); err == nil {
		return n
	}
	return or
}

// TestNothingIsLostOrOverspentHoweverOftenTheProgramIsKilled kills the program under load, again and again, on one
// store, and has the books audited after every restart.
func TestNothingIsLostOrOverspentHoweverOftenTheProgramIsKilled(t *testing.T) {
	rounds, seed := int(numberFrom(roundsVariable, 10)), numberFrom(seedVariable, rand.Uint64())
	t.Logf("%s=%d", seedVariable, seed)
	began := time.Now()
	w := newWorld(t)
	s := newSeason(w, seed)
	s.kill(rounds, seed)
	s.last()
	s.summary(time.Since(began))
}

// TestNothingIsLostOrOverspentHoweverOftenTheProgramIsKilledOnPostgreSQL is the same where the books are on a server that lives
// on: what the dead process had sent there may be committed after its death, and the next one is another node.
func TestNothingIsLostOrOverspentHoweverOftenTheProgramIsKilledOnPostgreSQL(t *testing.T) {
	rounds, seed := int(numberFrom(roundsVariable, 15))/3, numberFrom(seedVariable, rand.Uint64())
	t.Logf("%s=%d", seedVariable, seed)
	began := time.Now()
	w := emptyWorld(t, t.TempDir())
	w.server = postgrestest.Start(t)
	w.server.Exec(t, "CREATE DATABASE "+database)
	w.sandbox()
	w.start()
	w.addUpstream(w.box)
	s := newSeason(w, seed)
	s.kill(rounds, seed)
	w.awaitTakenOver()
	s.last()
	s.summary(time.Since(began))
}

// kill has the process killed until that has happened so many times, and the books audited after each. seed is the season's.
func (s *season) kill(times int, seed uint64) {
	for s.w.kills < times {
		s.round()
		if s.w.t.Failed() {
			s.w.t.Fatalf("after kill %d, %s=%d", s.w.kills, seedVariable, seed)
		}
	}
}

// summary says in one line what was shown, and what is still open.
func (s *season) summary(took time.Duration) {
	w := s.w
	tries, open, learned := 0, 0, 0
	for _, c := range w.calls {
		tries += len(c.tries)
	}
	for _, r := range w.books.reservations {
		if r.state == unknown {
			open++
		}
	}
	for _, r := range w.books.records {
		if r.Kind == "reconciled" {
			learned++
		}
	}
	w.t.Logf("%d kills, %d calls in %d tries, %d effects at Stripe, %d reservations of which %d are open, %d records, %d looks at Stripe for what was open, %d brakes pulled or lifted, %s",
		w.kills, len(w.calls), tries, len(w.truth.effects), len(w.books.reservations), open, len(w.books.records), learned, len(w.acts), took.Round(time.Second))
	// A cluster may lose nobody's answer in a few rounds; a process that is killed under load does.
	if len(w.truth.effects) == 0 || w.kills > 0 && open+learned == 0 {
		w.t.Error("nothing moved, or nothing was on the wire when something broke")
	}
}

// season is many rounds with the same agents.
type season struct {
	w       *world
	rng     *rand.Rand
	agents  []*agent
	renewed int    // by which kill the vault keys are new
	start   func() // a gateway
	dying   func() // it has a few milliseconds left
	died    func() // one was killed; what happens to its files meanwhile
}

func newSeason(w *world, seed uint64) *season {
	s := &season{w: w, rng: rand.New(rand.NewPCG(seed, 0)), start: w.start, dying: func() {}, died: func() {}}
	w.flags = append(w.flags, "--upstream-deadline", "1", "--reconcile-per-second", "1000") // so that outcomes can soon be asked for
	for n := range clients {
		s.agents = append(s.agents, &agent{w: w, number: n, rng: rand.New(rand.NewPCG(seed, uint64(n)+1))})
	}
	return s
}

// round is one life of the program, from its start to its end by SIGKILL. The gateway runs already.
func (s *season) round() {
	w := s.w
	w.t.Helper()
	if len(w.keys) == 0 || w.kills >= s.renewed+generation {
		s.renewed = w.kills
		s.generation()
	}
	s.lift()
	s.misbehave()
	s.load()
	s.died()
	if s.rng.IntN(10) == 0 {
		w.acts = append(w.acts, s.pullDead(w.keys[len(w.keys)-1-s.rng.IntN(len(kinds))]))
	}
	if s.rng.IntN(10) == 0 { // and once more while it takes over what the first left open
		again := w.launch(nil)
		time.Sleep(time.Duration(s.rng.IntN(60_000)) * time.Microsecond)
		again.kill()
		w.kills++
	}
	s.start()
	s.check()
}

// generation makes new vault keys, each with a customer who has something to give back.
func (s *season) generation() {
	w := s.w
	n := len(w.keys) / len(kinds)
	for _, k := range kinds {
		p := w.newPrincipal(fmt.Sprintf("agent-crash-%s-r%d", k.name, n), k.scopes, own, k.rules...)
		for i := 0; p.refunds && i < 60; i++ {
			p.small = append(p.small, w.newCharge(p, 50+s.rng.Int64N(200)))
			if i < 10 {
				p.charges = append(p.charges, w.newCharge(p, 999_00))
			}
		}
	}
}

// lift resumes half of what is stopped, or may be.
func (s *season) lift() {
	for _, p := range s.w.keys {
		if last := s.w.lastAct(p); last != nil && (last.stop || !last.acknowledged) && s.rng.IntN(2) == 0 {
			s.w.acts = append(s.w.acts, s.w.lift(p))
		}
	}
}

func (w *world) lastAct(p *principal) *act {
	for i := len(w.acts) - 1; i >= 0; i-- {
		if w.acts[i].who == p {
			return w.acts[i]
		}
	}
	return nil
}

// misbehave makes Stripe slow, lets some calls hang, so that more is on the wire when the program dies, or loses and
// garbles some of its answers, so that agents ask again.
func (s *season) misbehave() {
	n := 1 + s.rng.IntN(8)
	fault := func(kind string, after bool, more string) {
		s.w.command("POST", "faults", fmt.Sprintf(`{"kind":%q,"method":"POST","path":"/v1/**","after":%t%s}`, kind, after, more))
	}
	after := s.rng.IntN(2) == 0
	switch s.rng.IntN(6) {
	case 0:
		fault("latency", false, fmt.Sprintf(`,"times":-1,"latency_ms":%d`, n))
	case 1:
		fault("hang", after, fmt.Sprintf(`,"times":%d`, n))
	case 2:
		kind := []string{"error", "cut", "cut_body", "garbage", "truncate", "rate_limit"}[s.rng.IntN(6)]
		fault(kind, after, fmt.Sprintf(`,"times":%d,"skip":%d`, n, s.rng.IntN(50)))
	}
}

// load lets all agents spend, and an operator brake, until the program is killed at a moment that nobody knows.
func (s *season) load() {
	w := s.w
	limit := int64(1 + s.rng.IntN(200)) // counted, not timed: a slow machine is killed as deep in its work
	if s.rng.IntN(10) == 0 {
		limit *= 10
	}
	moment := time.Duration(s.rng.IntN(10_000)) * time.Microsecond
	var told atomic.Int64
	var die sync.Once
	kill := func() { die.Do(func() { go w.gateway.kill() }) }
	stuck := time.AfterFunc(time.Minute, func() {
		w.t.Errorf("only %d of %d answers in a minute", told.Load(), limit)
		kill()
	})
	defer stuck.Stop()
	var wg sync.WaitGroup
	for _, a := range s.agents {
		wg.Go(func() {
			a.spend(func() {
				if told.Add(1) == limit {
					s.dying()
					time.AfterFunc(moment, kill)
				}
			})
		})
	}
	acts := s.operate(&wg)
	if s.rng.IntN(3) == 0 {
		wg.Go(func() { s.reconcile(50) })
	}
	wg.Wait()
	w.kill()
	w.acts = append(w.acts, *acts...)
	w.calls = w.calls[:0]
	for _, a := range s.agents {
		w.calls = append(w.calls, a.calls...)
	}
}

// operate is what an operator does meanwhile, in half of the rounds: stop a key, and sometimes let it go on.
func (s *season) operate(wg *sync.WaitGroup) *[]*act {
	var acts []*act
	if s.rng.IntN(2) == 0 {
		return &acts
	}
	p := s.w.keys[len(s.w.keys)-1-s.rng.IntN(len(kinds))]
	early, late, resume := s.rng.IntN(30_000), s.rng.IntN(30_000), s.rng.IntN(2) == 0
	wg.Go(func() {
		time.Sleep(time.Duration(early) * time.Microsecond)
		acts = append(acts, s.w.pull(p))
		if resume {
			time.Sleep(time.Duration(late) * time.Microsecond)
			acts = append(acts, s.w.lift(p))
		}
	})
	return &acts
}

// reconcile has Stripe asked about some of what is open, or until the gateway is gone.
func (s *season) reconcile(some int) {
	open, err := s.w.ops.OpenCalls(s.w.t.Context(), "")
	if err != nil {
		return
	}
	for _, c := range open.Items[max(0, len(open.Items)-some):] {
		if _, err := s.w.ops.Reconcile(s.w.t.Context(), c.Reservation, admin.Decision{}); errors.Is(err, admin.ErrUnreachable) {
			return
		}
	}
}

// pullDead stops a key while no gateway runs: the command leaves the stop beside the store, and says so.
func (s *season) pullDead(p *principal) *act {
	a := &act{who: p, stop: true, began: time.Now()}
	cmd := exec.Command(program, "kill", p.id, "--store", s.w.beside())
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+s.w.dir)
	out, _ := cmd.CombinedOutput() // it is no success before a gateway has taken it
	if a.acknowledged = cmd.ProcessState.ExitCode() == 3 && strings.Contains(string(out), "left in"); !a.acknowledged {
		s.w.t.Errorf("kill without a gateway: exit %d %s", cmd.ProcessState.ExitCode(), out)
	}
	a.ended = time.Now()
	return a
}

// check has the books audited, and asks the new process whether it stands by what the dead one said.
func (s *season) check() {
	w := s.w
	// On PostgreSQL nobody knows at once that another process is dead.
	for _, problem := range w.audit(w.server == nil, len(w.books.records) < readWhole || w.kills%wholeEvery == 0) {
		w.t.Error(problem)
	}
	for _, p := range w.keys[max(0, len(w.keys)-len(kinds)):] {
		stopped, last := false, w.lastAct(p)
		if last != nil {
			if stopped = last.stop; !last.acknowledged {
				continue // nobody knows
			}
		}
		t := w.send(newCall(p, read, "probe", "/v1/charges?limit=1&customer="+url.QueryEscape(p.customer), "", ""))
		if stopped != (t.code == "keybrake_key_killed") {
			w.t.Errorf("%s is stopped: %t, and its next call after the restart gets %d %s", p.name, stopped, t.status, t.code)
		}
	}
	if v, err := w.ops.VerifyAudit(w.t.Context()); err != nil || !v.OK {
		w.t.Errorf("the program's own verification: %+v %v", v, err)
	}
	s.repeat()
	if s.rng.IntN(3) == 0 {
		s.reconcile(10)
	}
}

// repeat asks for some calls again that were answered before the kill: the answer must be the same, from Stripe's
// memory, and nothing may move. The next audit sees to the latter.
func (s *season) repeat() {
	for range 5 {
		c := s.w.calls[s.rng.IntN(len(s.w.calls))]
		if c.succeeded() == nil || c.idem == "" {
			continue
		}
		if t := s.w.send(c); t.status != 200 && t.code != "keybrake_key_killed" {
			s.w.t.Errorf("call %s succeeded before the kill; asked again it gets %d %s", c.id, t.status, t.code)
		}
	}
}

// last audits everything once more, and has an export verified without the server.
func (s *season) last() {
	w := s.w
	w.t.Helper()
	w.agree()
	name := filepath.Join(w.dir, "audit.jsonl")
	file, err := os.Create(name)
	if err != nil {
		w.t.Fatal(err)
	}
	err = w.ops.ExportAudit(w.t.Context(), admin.AuditFilter{}, "", file)
	if err = errors.Join(err, file.Close()); err != nil {
		w.t.Fatal(err)
	}
	if out, err := exec.Command(program, "audit", "verify", name).CombinedOutput(); err != nil {
		w.t.Errorf("the export does not verify: %v\n%s", err, out)
	}
}
