package crash

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// disk knows what of the store's files would survive a power cut: what was flushed, and of the rest whatever the disk
// happened to have written. It watches the program through its gate.
type disk struct {
	w     *world
	rng   *rand.Rand
	gate  *gate
	stall bool // a last flush never comes to an end
	lies  bool // it says that it has flushed, and has not
	files map[string]*platter
	lost  int // writes that a cut took away, in whole or in part
}

// platter is a file as it lies on the disk, and what was written to it and not flushed.
type platter struct {
	data    []byte
	pending []attempt
}

// sector is what a disk writes whole or not at all.
const sector = 512

// start starts a gateway on what the files hold now, all of which counts as flushed.
func (d *disk) start() {
	d.w.t.Helper()
	d.insert()
	d.stall = d.rng.IntN(3) > 0
	d.gate = d.w.startBehindGate(d.watch)
}

// insert reads the files as they are.
func (d *disk) insert() {
	d.w.t.Helper()
	d.files = make(map[string]*platter)
	for _, name := range []string{d.w.store(), d.w.store() + "-wal"} {
		data, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			d.w.t.Fatal(err)
		}
		d.files[name] = &platter{data: data}
	}
}

// dying is told shortly before the cut. It usually comes while the disk is at work: a flush that is quick would
// hardly ever be met.
func (d *disk) dying() {
	if !d.stall {
		return
	}
	d.gate.set(func(a *attempt) answer {
		if d.files[a.file] != nil && a.number == unix.SYS_FDATASYNC {
			return hold
		}
		return d.watch(a)
	})
}

func (d *disk) watch(a *attempt) answer {
	f := d.files[a.file]
	switch {
	case f == nil:
	case d.lies && (a.number == unix.SYS_FDATASYNC || a.number == unix.SYS_FSYNC):
	case a.number == unix.SYS_FDATASYNC || a.number == unix.SYS_FSYNC:
		for i := range f.pending {
			f.write(&f.pending[i])
		}
		f.pending = nil
	case a.size > looked && a.number == unix.SYS_PWRITE64:
		d.w.t.Errorf("a write of %d bytes, more than the gate looks at", a.size)
	default:
		f.pending = append(f.pending, *a)
	}
	return pass
}

func (f *platter) write(a *attempt) {
	end := a.size
	if a.number == unix.SYS_PWRITE64 {
		end = a.at + int64(len(a.data))
	}
	if grow := end - int64(len(f.data)); grow > 0 {
		f.data = append(f.data, make([]byte, grow)...)
	}
	if a.number == unix.SYS_FTRUNCATE {
		f.data = f.data[:a.size]
		return
	}
	copy(f.data[a.at:], a.data)
}

// cut is what is found when the power is back: everything that was flushed, and of the rest some, some of it torn.
func (d *disk) cut() {
	d.w.t.Helper()
	<-d.gate.closed
	for name, f := range d.files {
		for _, a := range f.pending {
			luck := d.rng.IntN(3)
			switch {
			case luck == 0 || d.lies:
				d.lost++
				continue
			case luck == 1:
				d.lost++
				a.data = a.data[:min(len(a.data), sector*d.rng.IntN(1+len(a.data)/sector))]
			}
			f.write(&a)
		}
		if err := os.WriteFile(name, f.data, 0o600); err != nil {
			d.w.t.Fatal(err)
		}
	}
	if err := os.Remove(d.w.store() + "-shm"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.w.t.Fatal(err)
	}
}

// TestNothingAcknowledgedIsLostInAPowerCut is the crash test on a disk that forgets what was not flushed.
func TestNothingAcknowledgedIsLostInAPowerCut(t *testing.T) {
	seed := numberFrom(seedVariable, rand.Uint64())
	rounds := max(5, int(numberFrom(roundsVariable, 0))/10)
	t.Logf("%s=%d", seedVariable, seed)
	began := time.Now()
	w := newWorld(t)
	d := &disk{w: w, rng: rand.New(rand.NewPCG(seed, 99))}
	s := newSeason(w, seed)
	s.start, s.dying, s.died = d.start, d.dying, d.cut
	w.kill()
	d.start()
	for n := range rounds {
		s.round()
		if t.Failed() {
			t.Fatalf("after cut %d, %s=%d", n+1, seedVariable, seed)
		}
	}
	s.last()
	s.summary(time.Since(began))
	t.Logf("%d writes were lost or torn that nobody had been promised", d.lost)
	if d.lost == 0 {
		t.Error("no write was ever lost: this was no power cut")
	}
}

// TestALyingDiskIsFound shows that the test above can fail: where flushes do nothing, what was acknowledged is gone.
func TestALyingDiskIsFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := &disk{w: w, rng: rand.New(rand.NewPCG(1, 1)), lies: true}
	s := newSeason(w, 1)
	s.generation()
	w.kill()
	d.start()
	s.load()
	d.cut()
	if found := strings.Join(w.audit(false, true), "\n"); !strings.Contains(found, "reached Stripe") || !strings.Contains(found, "was answered 200 with record") {
		t.Errorf("the auditor says only %q", found)
	}
	w.start() // what it had written is in the mark beside the store
	p := w.keys[0]
	if got := w.send(newRefund(p, "late", p.charges[0], 1_00, "late")); got.code != "keybrake_key_frozen" {
		t.Errorf("on books that went backwards a call gets %+v", got)
	}
}
