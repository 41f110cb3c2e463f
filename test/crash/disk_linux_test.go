package crash

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keybrake/keybrake/internal/admin"
)

// spender is a world with one principal, which gives money back under keys of idempotency.
type spender struct {
	*world
	who     *principal
	charges []string
	n       int
}

func newSpender(w *world) *spender {
	s := &spender{world: w, who: w.newPrincipal("agent-crash-disk-r0", "refunds: write", own, rule{resource: "refunds", per: "day", cents: 1_000_000_00})}
	for range 8 {
		s.charges = append(s.charges, w.newCharge(s.who, 900_000_00))
	}
	return s
}

// burst sends n calls, eight at a time, and returns them.
func (s *spender) burst(n int) []*call {
	calls := make([]*call, n)
	for i := range calls {
		s.n++
		calls[i] = newRefund(s.who, fmt.Sprintf("b%d", s.n), s.charges[i%len(s.charges)], 1_00+int64(i%50), fmt.Sprintf("b%d", s.n))
	}
	s.calls = append(s.calls, calls...)
	var wg sync.WaitGroup
	for lane := range 8 {
		wg.Go(func() {
			for i := lane; i < n; i += 8 {
				s.send(calls[i])
			}
		})
	}
	wg.Wait()
	return calls
}

// refused counts the calls whose last answer was that Keybrake cannot take them.
func refused(calls []*call) (n int) {
	for _, c := range calls {
		if t := c.tries[len(c.tries)-1]; t.status == 503 && t.code == "keybrake_unavailable" {
			n++
		}
	}
	return n
}

// pending counts the calls whose agents got Stripe's answer, and with it that it is not written down yet.
func pending(calls []*call) (n int) {
	for _, c := range calls {
		if t := c.tries[len(c.tries)-1]; t.status == 200 && t.pending {
			n++
		}
	}
	return n
}

// isReady asks whether the gateway takes money calls, and why not.
func (w *world) isReady() (bool, string) {
	w.t.Helper()
	resp, err := http.Get(w.operators + "/readyz")
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	why, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode == 200, string(why)
}

// awaitReady waits until the gateway takes money calls again.
func (w *world) awaitReady() {
	w.t.Helper()
	for ok := false; !ok; ok, _ = w.isReady() {
		select {
		case <-w.gateway.gone:
			w.t.Fatalf("the gateway ended:\n%s", &w.gateway.out)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// recovers waits until the gateway has mended by itself, and shows that everything goes on.
func (s *spender) recovers(before []*call) {
	s.t.Helper()
	s.awaitReady()
	for _, c := range before { // what agents do with what was refused
		if refused([]*call{c}) == 1 {
			s.send(c)
		}
	}
	if n := refused(before) + refused(s.burst(50)); n > 0 {
		s.t.Errorf("%d calls are refused though there is space again", n)
	}
	s.agree()
	for _, r := range s.books.reservations {
		if r.state != settled {
			s.t.Errorf("reservation %d is %s", r.id, stateNames[r.state])
		}
	}
	s.kill()
	s.start()
	s.agree()
}

// TestAFullDiskStopsMoneyAndNothingElse fills a real file system under the store. Calls get 503 and nothing leaves
// that is not recorded; the brake works, figures are told; and once there is space everything goes on by itself.
func TestAFullDiskStopsMoneyAndNothingElse(t *testing.T) {
	t.Parallel()
	dir := mount(t, "size=48m")
	w := startWorldIn(t, dir)
	w.addUpstream(w.box)
	s := newSpender(w)
	s.burst(50)
	ballast := filepath.Join(dir, "ballast")
	fill(t, ballast, 128<<10)
	var calls []*call
	for refused(calls) < 50 {
		calls = append(calls, s.burst(50)...)
	}
	if ok, why := s.isReady(); ok || !strings.Contains(why, "full") && !strings.Contains(why, "could not be written") {
		t.Errorf("ready: %t, %s", ok, why)
	}
	s.audited("while the disk is full")
	if a := s.pull(s.who); !a.acknowledged {
		t.Error("no brake while the disk is full")
	}
	if got := s.burst(1)[0].tries[0]; got.code != "keybrake_key_killed" && got.status != 503 {
		t.Errorf("a stopped key is answered %+v", got)
	}
	if _, err := s.ops.Spend(t.Context(), admin.KeyFilter{}); err != nil {
		t.Errorf("no figures while the disk is full: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	s.awaitReady()
	if a := s.lift(s.who); !a.acknowledged {
		t.Error("the brake cannot be lifted")
	}
	s.recovers(calls)
}

// TestADiskThatIsFullNowAndThen is the same where nothing can be mounted: the kernel says that there is no space
// for the store's writes, whichever they are, and then that there is.
func TestADiskThatIsFullNowAndThen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newSpender(w)
	w.kill()
	g := w.startBehindGate(openly)
	var calls []*call
	for skip := range 12 {
		g.set(afterSome(skip, onStore(unix.SYS_PWRITE64, unix.SYS_FTRUNCATE), unix.ENOSPC))
		burst := s.burst(20)
		if refused(burst) == 0 {
			t.Errorf("no call is refused though the disk was full after %d writes", skip)
		}
		calls = append(calls, burst...)
		s.audited(fmt.Sprintf("full after %d writes", skip))
		g.set(openly)
		s.awaitReady()
	}
	s.recovers(calls)
}

// TestAStopThatTheStoreCannotTakeSurvivesAKill: it is left beside the store, and the next gateway has it before
// anything passes.
func TestAStopThatTheStoreCannotTakeSurvivesAKill(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newSpender(w)
	w.kill()
	g := w.startBehindGate(openly)
	g.set(afterSome(0, onStore(unix.SYS_PWRITE64, unix.SYS_FTRUNCATE), unix.ENOSPC))
	a := s.pull(s.who)
	if !a.acknowledged || !strings.Contains(a.warning, "left in") {
		t.Fatalf("%+v", a)
	}
	s.acts = append(s.acts, a)
	w.kill()
	w.start()
	if got := s.burst(1)[0].tries[0]; got.code != "keybrake_key_killed" {
		t.Errorf("the stopped key is answered %+v", got)
	}
	s.agree()
}

// TestAfterAFailedWriteOrFlushThereIsNoMoneyUntilARestart: nobody knows then what the disk has. What was
// acknowledged is there all the same, and nothing leaves.
func TestAfterAFailedWriteOrFlushThereIsNoMoneyUntilARestart(t *testing.T) {
	for name, c := range map[string]struct {
		which func(*attempt) bool
		errno unix.Errno
		once  bool
		after bool // Stripe had answered: agents must be told what it said
	}{
		"the log cannot be flushed, once": {logging(unix.SYS_FDATASYNC, ""), unix.EIO, true, false},
		"the log cannot be written, once": {logging(unix.SYS_PWRITE64, ""), unix.EIO, true, false},
		"the disk became read-only":       {onStore(unix.SYS_PWRITE64, unix.SYS_FTRUNCATE, unix.SYS_FDATASYNC, unix.SYS_FSYNC), unix.EROFS, false, false},
		"the settlement cannot be flushed": {
			then(logging(unix.SYS_PWRITE64, `"fate":"moved"`), logging(unix.SYS_FDATASYNC, "")), unix.EIO, true, true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			s := newSpender(w)
			if !c.after { // where the first settlement has to be told from others, it is the first
				s.burst(8)
			}
			w.kill()
			g := w.startBehindGate(openly)
			failed := false
			g.set(func(a *attempt) answer {
				if c.once && failed || !c.which(a) {
					return pass
				}
				failed = true
				return fail(c.errno)
			})
			calls := s.burst(40)
			if refused(calls) == 0 {
				t.Error("no call is refused")
			}
			if n := pending(calls); c.after && n == 0 {
				t.Error("nobody was told what Stripe answered and could not be written down")
			}
			if ok, why := s.isReady(); ok || !strings.Contains(why, "restart") {
				t.Errorf("ready: %t, %s", ok, why)
			}
			s.readTruth()
			moved := len(s.truth.effects)
			later := s.burst(20)
			if n := refused(later); n != len(later) {
				t.Errorf("%d of %d calls are refused after it", n, len(later))
			}
			if s.readTruth(); len(s.truth.effects) != moved {
				t.Errorf("%d movements at Stripe after it", len(s.truth.effects)-moved)
			}
			s.audited("while nobody knows what is on the disk")
			w.kill()
			w.start()
			s.agree()
			for _, c := range append(calls, later...) {
				if refused([]*call{c}) == 1 {
					s.send(c)
				}
			}
			s.agree()
		})
	}
}

// TestAnActionWhoseFlushFailedIsNotToldToHaveChangedNothing: it may be there at the next start, and here it is.
func TestAnActionWhoseFlushFailedIsNotToldToHaveChangedNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.kill()
	g := w.startBehindGate(openly)
	failed := false
	flush := then(logging(unix.SYS_PWRITE64, `"action":"rates.set"`), logging(unix.SYS_FDATASYNC, "")) // not the one of what goes on beside it
	g.set(func(a *attempt) answer {
		if failed || !flush(a) {
			return pass
		}
		failed = true
		return fail(unix.EIO)
	})
	_, err := w.ops.SetRates(t.Context(), admin.RateInputs{IfMatch: "*", Rates: []admin.RateInput{{Currency: "EUR", Rate: "1.09"}}})
	if err == nil || !strings.Contains(err.Error(), "whether it was changed") || strings.Contains(err.Error(), "nothing was changed") {
		t.Errorf("the operator is told: %v", err)
	}
	w.kill()
	w.start()
	if rates, err := w.ops.Rates(t.Context()); err != nil || len(rates.Items) != 1 {
		t.Errorf("after a restart there are %d rates: %v", len(rates.Items), err)
	}
}

// TestAReadOnlyFileSystemIsRefusedAtTheStart: better no gateway than one that cannot write.
func TestAReadOnlyFileSystemIsRefusedAtTheStart(t *testing.T) {
	t.Parallel()
	dir := mount(t, "size=16m")
	w := startWorldIn(t, dir)
	w.addUpstream(w.box)
	s := newSpender(w)
	s.burst(10)
	w.kill()
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	p := w.run(here, nil, "serve", "--gateway-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--store", "sqlite:"+w.store())
	<-p.gone
	if out := p.out.String(); p.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(out, "read-only") {
		t.Errorf("exit %d: %s", p.cmd.ProcessState.ExitCode(), out)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=16m"); err != nil {
		t.Fatal(err)
	}
	w.start()
	s.agree()
	if n := refused(s.burst(10)); n > 0 {
		t.Errorf("%d calls are refused though it can be written again", n)
	}
	s.agree()
}

// audited has the books audited as they are now; nobody has taken them over.
func (s *spender) audited(when string) {
	s.t.Helper()
	for _, problem := range s.audit(false, true) {
		s.t.Errorf("%s: %s", when, problem)
	}
}

// onStore is any of the system calls on any of the store's files.
func onStore(numbers ...int32) func(*attempt) bool {
	return func(a *attempt) bool {
		if !strings.Contains(filepath.Base(a.file), "kb.db") {
			return false
		}
		for _, n := range numbers {
			if a.number == n {
				return true
			}
		}
		return false
	}
}

// afterSome lets some of the calls pass and fails all that follow.
func afterSome(skip int, which func(*attempt) bool, errno unix.Errno) func(*attempt) answer {
	return func(a *attempt) answer {
		if !which(a) {
			return pass
		}
		if skip > 0 {
			skip--
			return pass
		}
		return fail(errno)
	}
}

// mount makes a small file system of its own. Where that is not allowed the test is skipped, but for root in CI.
func mount(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		if os.Getenv("CI") == "true" && os.Getuid() == 0 {
			t.Fatalf("mount a small file system: %v", err)
		}
		t.Skipf("a small file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// fill writes a file until only so much space is left.
func fill(t *testing.T, name string, left int64) {
	t.Helper()
	var fs unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(name), &fs); err != nil {
		t.Fatal(err)
	}
	err := os.WriteFile(name, make([]byte, int64(fs.Bavail)*fs.Bsize-left), 0o600)
	if err != nil && !errors.Is(err, unix.ENOSPC) { // the store was quicker, and then it is as full as it gets
		t.Fatal(err)
	}
}
