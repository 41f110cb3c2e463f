package crash

import (
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

// TestKilledAtEveryStepOfAFirstStart ends the very first start at each of its writes, cuts and flushes, by SIGKILL and
// by a power cut: there is always a next start that works.
func TestKilledAtEveryStepOfAFirstStart(t *testing.T) {
	t.Parallel()
	stride := 9 // after the first steps, which make the master key and the file
	if numberFrom(roundsVariable, 0) > 0 {
		stride = 1
	}
	seed := numberFrom(seedVariable, rand.Uint64())
	t.Logf("%s=%d", seedVariable, seed)
	rng := rand.New(rand.NewPCG(seed, 7))
	steps := 0
	for step := 0; ; step++ {
		if step > 9 {
			step += rng.IntN(2*stride - 1)
		}
		w := emptyWorld(t, t.TempDir())
		d := &disk{w: w, rng: rng}
		if d.startUntil(step) {
			break
		}
		steps++
		if rng.IntN(2) == 0 {
			d.cut()
		}
		w.start()
		w.gateway.kill()
		tx, end := w.snapshot()
		if w.books.read(t, tx, w.archive(), true); len(w.books.brakes) > 0 {
			t.Errorf("after step %d money is stopped: %v", step, w.books.brakes)
		}
		end()
	}
	t.Logf("%d steps", steps)
	if steps == 0 {
		t.Error("the start has no steps")
	}
}

// TestKilledAtEveryStepOfATakeOver ends starts on a store with calls on the wire at each of their writes, one after
// the other, on the same store: the calls are held, once, and the next start goes on with what is left to do.
func TestKilledAtEveryStepOfATakeOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newSpender(w)
	s.burst(10)
	w.command("POST", "faults", `{"kind":"hang","method":"POST","path":"/v1/refunds","after":true,"times":8}`)
	back := make(chan struct{})
	go func() { defer close(back); s.burst(8) }()
	w.awaitHanging(8)
	w.kill()
	<-back
	d := &disk{w: w, rng: rand.New(rand.NewPCG(1, 2))}
	steps := 0
	for ; !d.startUntil(steps); steps++ {
		if steps%2 == 0 {
			d.cut()
		}
	}
	w.gateway.kill()
	w.start()
	s.agree()
	open := 0
	for _, r := range s.books.reservations {
		if r.state == unknown {
			open++
		}
	}
	if open != 8 || steps == 0 {
		t.Errorf("%d calls are held after %d steps, 8 were on the wire", open, steps)
	}
	t.Logf("%d steps", steps)
}

// startUntil starts a gateway and kills it at a step, counted from 0; true if it serves before it comes to that.
func (d *disk) startUntil(step int) bool {
	d.w.t.Helper()
	d.insert()
	touches := onStore(unix.SYS_WRITE, unix.SYS_PWRITE64, unix.SYS_FTRUNCATE, unix.SYS_FDATASYNC, unix.SYS_FSYNC)
	reached := make(chan struct{})
	d.gate = d.w.launchBehindGate(func(a *attempt) answer {
		if !touches(a) {
			return pass
		}
		if step--; step == -1 {
			close(reached)
		}
		if step < 0 {
			return hold
		}
		return d.watch(a)
	})
	if d.w.awaitServing(reached) {
		return true
	}
	select {
	case <-reached:
	default:
		d.w.t.Fatalf("serve ended:\n%s", &d.w.gateway.out)
	}
	d.w.gateway.kill()
	<-d.gate.closed
	return false
}
