package crash

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	// stopsVariable is how many stops are measured; a longer run sets it.
	stopsVariable = "KEYBRAKE_CLUSTER_STOPS"
	// paceVariable is for how many milliseconds an agent of these tests rests after each call, so that the machine is busy and
	// not full: each test tells how busy it was.
	paceVariable = "KEYBRAKE_CLUSTER_PACE"
)

var pace = time.Duration(numberFrom(paceVariable, 40)) * time.Millisecond

// busy is for how long all processors together were busy since the machine started, and for how long they were not; zero where
// the system does not say.
func busy() (busy, idle float64) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	line, _, _ := strings.Cut(string(text), "\n")
	for i, field := range strings.Fields(line)[1:] { // user, nice, system, idle, iowait, ...
		n, _ := strconv.ParseFloat(field, 64)
		if i == 3 || i == 4 {
			idle += n
		} else if i < 8 { // guests count as users already
			busy += n
		}
	}
	return busy, idle
}

// crowd are agents that call through all nodes of a cluster until they are told to stop.
type crowd struct {
	w     *world
	over  atomic.Bool
	wg    sync.WaitGroup
	mu    sync.Mutex
	calls []*call
}

// newCrowd makes vault keys and lets so many agents use each: next is what one wants, and ask sends it.
func newCrowd(w *world, keys, agents int, next func(p *principal, id string) *call, ask func(*call)) *crowd {
	w.t.Helper()
	c := &crowd{w: w}
	for n := range keys {
		w.newPrincipal(fmt.Sprintf("agent-stops-k%d", n), "payment_intents: write", own, rule{resource: "payment_intents", per: "day", cents: 1_000_000_00})
	}
	for n := range keys * agents {
		p := w.keys[n%keys]
		c.wg.Go(func() {
			for i := 0; !c.over.Load(); i++ {
				call := next(p, fmt.Sprintf("s%d-%d", n, i))
				ask(call)
				c.mu.Lock()
				c.calls = append(c.calls, call)
				c.mu.Unlock()
				time.Sleep(pace)
			}
		})
	}
	return c
}

// spend moves money, look moves none, and either is one of both.
func spend(p *principal, id string) *call { return newIntent(p, id, 100, "", "key-"+id) }

func look(p *principal, id string) *call {
	return newCall(p, read, id, "/v1/charges?limit=1&customer="+url.QueryEscape(p.customer), "", "")
}

func either(p *principal, id string) *call {
	if rand.IntN(2) == 0 {
		return look(p, id)
	}
	return spend(p, id)
}

// once sends a call once, and retry as an SDK does where nothing was sent or nobody knows.
func (w *world) once(c *call) { w.send(c) }

func (w *world) retry(c *call) {
	for range 8 {
		if t := w.send(c); t.status != 0 && t.status < 500 && t.status != 429 {
			return
		}
		time.Sleep(pace)
	}
}

// leave ends the agents.
func (c *crowd) leave() {
	c.over.Store(true)
	c.wg.Wait()
	c.w.calls = c.calls
}

// TestAStopIsInForceAtEveryNodeWhenItReturns stops keys under load, each time at another node: no call that is sent after a
// stop has returned passes at any node. It tells how long after a stop was written the last call reached Stripe.
func TestAStopIsInForceAtEveryNodeWhenItReturns(t *testing.T) {
	stops, seed := int(numberFrom(stopsVariable, 30)), numberFrom(seedVariable, rand.Uint64())
	rng := rand.New(rand.NewPCG(seed, 0))
	t.Logf("%s=%d", seedVariable, seed)
	w := newCluster(t, 3)
	c := newCrowd(w, 6, 4, either, w.once)
	var took []time.Duration
	busyBefore, idleBefore := busy()
	for n := range stops {
		if n%50 == 0 {
			w.readTruth() // the sandbox does not keep all of it
		}
		p := w.keys[rng.IntN(len(w.keys))]
		a := w.pullAt(w.nodes[rng.IntN(len(w.nodes))].ops, p)
		w.acts = append(w.acts, a)
		took = append(took, a.ended.Sub(a.began))
		time.Sleep(pace + time.Duration(rng.IntN(20))*time.Millisecond)
		w.acts = append(w.acts, w.liftAt(w.nodes[rng.IntN(len(w.nodes))].ops, p))
	}
	if b, i := busy(); b+i > busyBefore+idleBefore {
		t.Logf("all processors were busy for %.0f %% of the time", 100*(b-busyBefore)/(b-busyBefore+i-idleBefore))
	}
	c.leave()
	w.agree()
	if n := w.after(t, "stop"); n == 0 {
		t.Error("no call was on its way when a key was stopped: this test shows nothing")
	}
	t.Logf("%d stops returned after %s", stops, quantiles(took))
}

// after holds what reached Stripe against the stops that were acknowledged, tells how long after each was written the last
// call came, and returns how many came after one was written.
func (w *world) after(t *testing.T, what string) (n int) {
	t.Helper()
	var late []time.Duration
	for i, a := range w.acts {
		if !a.stop || !a.acknowledged {
			continue
		}
		written := w.written(a)
		until := time.Now()
		for _, next := range w.acts[i+1:] {
			if next.who == a.who {
				until = next.began
				break
			}
		}
		last := time.Duration(0)
		for _, at := range w.truth.came[a.who.customer] {
			if at.After(written) && at.Before(until) {
				last = max(last, at.Sub(written))
				n++
			}
			if at.After(a.ended) && at.Before(until) {
				t.Errorf("a call of %s reached Stripe %s after its %s had returned", a.who.name, at.Sub(a.ended), what)
			}
		}
		late = append(late, last)
	}
	t.Logf("last call at Stripe after the %s was written: %s", what, quantiles(late))
	t.Logf("%s", histogram(late))
	return n
}

// written is when a stop was written, by its record.
func (w *world) written(a *act) time.Time {
	w.t.Helper()
	for _, r := range w.books.records {
		if r.Action == "kill" && r.At.After(a.began.Add(-time.Millisecond)) && r.At.Before(a.ended) {
			return r.At
		}
	}
	w.t.Fatalf("the stop of %s has no record between %s and %s", a.who.name, a.began, a.ended)
	return time.Time{}
}

func quantiles(all []time.Duration) string {
	if len(all) == 0 {
		return "none"
	}
	s := slices.Sorted(slices.Values(all))
	at := func(q float64) time.Duration {
		return s[min(len(s)-1, int(q*float64(len(s))))].Round(10 * time.Microsecond)
	}
	return fmt.Sprintf("p50 %s, p90 %s, p99 %s, at most %s", at(.5), at(.9), at(.99), s[len(s)-1].Round(10*time.Microsecond))
}

// histogram counts how many were at most so many milliseconds.
func histogram(all []time.Duration) string {
	bounds := []int{0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000}
	counts := make([]int, len(bounds)+1)
	for _, d := range all {
		i, _ := slices.BinarySearchFunc(bounds, d, func(ms int, d time.Duration) int {
			return int(time.Duration(ms)*time.Millisecond - d)
		})
		counts[i]++
	}
	var parts []string
	for i, n := range counts {
		if i == len(bounds) {
			parts = append(parts, fmt.Sprintf("more: %d", n))
			break
		}
		parts = append(parts, fmt.Sprintf("≤ %d ms: %d", bounds[i], n))
	}
	return strings.Join(parts, ", ")
}

// TestANodeThatIsCutOffLetsNothingPassAfterItsLease cuts a node off from the store and not from agents, and stops keys at
// another one: what the first lets pass of them ends with its lease.
func TestANodeThatIsCutOffLetsNothingPassAfterItsLease(t *testing.T) {
	stops, seed := int(numberFrom(stopsVariable, 30))/10, numberFrom(seedVariable, rand.Uint64())
	rng := rand.New(rand.NewPCG(seed, 0))
	t.Logf("%s=%d", seedVariable, seed)
	w := newCluster(t, 3)
	w.client.Timeout = 150 * time.Millisecond // or all agents soon wait for the node that cannot write anything down
	c := newCrowd(w, 6, 4, look, w.once)
	for i := range max(1, stops) {
		if i%10 == 0 {
			w.readTruth() // the sandbox does not keep all of it
		}
		n := rng.IntN(len(w.nodes))
		w.nodes[n].store(hole)
		time.Sleep(time.Duration(rng.IntN(400)) * time.Millisecond)
		p, at := w.keys[rng.IntN(len(w.keys))], w.nodes[(n+1)%len(w.nodes)].ops
		w.acts = append(w.acts, w.pullAt(at, p))
		time.Sleep(time.Duration(rng.IntN(300)) * time.Millisecond)
		w.nodes[n].store(heal)
		w.awaitNodes()
		w.acts = append(w.acts, w.liftAt(at, p))
		time.Sleep(2 * pace)
	}
	c.leave()
	w.agree()
	w.after(t, "stop")
}

// TestNodesAreRestartedOneByOneWithoutAFailedCall restarts every node under load, behind a load balancer, as an upgrade does:
// what fails meanwhile succeeds when it is sent again, and moves its money once.
func TestNodesAreRestartedOneByOneWithoutAFailedCall(t *testing.T) {
	w := newCluster(t, 3)
	defer w.balance()()
	c := newCrowd(w, 4, 4, spend, w.retry)
	for _, n := range w.nodes {
		time.Sleep(5 * pace)
		n.signal(syscall.SIGTERM)
		<-n.gone
		n.sane()
		n.start()
	}
	time.Sleep(5 * pace)
	c.leave()
	w.ops = w.nodes[0].ops
	w.agree()
	again := 0
	for _, call := range c.calls {
		again += len(call.tries) - 1
		if call.succeeded() == nil {
			last := call.tries[len(call.tries)-1]
			t.Errorf("call %s failed in %d tries: %d %s", call.id, len(call.tries), last.status, last.code)
		}
	}
	t.Logf("%d calls, sent again %d times", len(c.calls), again)
}
