// Command mutate changes the packages that judge, one place at a time, and runs their tests: a change that no test notices
// is a rule that nobody holds. It makes no file of the repository other: `go test -overlay` shows the compiler changed copies.
//
//	go run ./mutate [-pkg money,policy,ledger] [-part K/N] [-sample N -seed S] [-again FILE]
//
// All mutants of a package are compiled at once, each behind a switch that the environment sets; only changes where the
// language wants a constant are compiled alone. A survivor of a package's quick tests is tried on its long ones (the
// properties with many more draws), and then on those of a package that judges with it.
//
// Survivors that change no decision stand in accepted.txt, each with its reason. The command fails if one survives that is
// not there, and if one that is there was tried and does not survive, or is not made any more.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// suite is one run of a package's tests. One that takes longer than a mutant may is noticed too.
type suite struct {
	pkg    string
	within time.Duration
	args   []string
}

// Failures are not made small: that there is one is enough.
var (
	quick = []string{"-test.short", "-test.failfast", "-rapid.nofailfile", "-rapid.shrinktime=1ms"}
	many  = []string{"-test.failfast", "-rapid.nofailfile", "-rapid.shrinktime=1ms", "-rapid.checks=1500"}
)

// judged are the packages that judge, and what must notice: their own tests, then those of packages that judge with them.
var judged = map[string][]suite{
	"money":  {{"money", 30 * time.Second, quick}, {"ledger", time.Minute, quick}, {"policy", time.Minute, quick}},
	"policy": {{"policy", 30 * time.Second, quick}, {"ledger", time.Minute, quick}, {"upstream/stripe", time.Minute, quick}},
	"ledger": {{"ledger", 30 * time.Second, quick}, {"ledger", 2 * time.Minute, many}},
}

// verdict is what became of a mutant.
type verdict string

const (
	caught    verdict = "caught"
	overdue   verdict = "took too long" // which is noticed too
	survived  verdict = "survived"
	stillborn verdict = "did not compile"
)

func main() {
	packages := flag.String("pkg", "money,policy,ledger", "packages, apart by commas")
	sample := flag.Int("sample", 0, "how many mutants are tried, drawn by -seed; 0: all of them")
	seed := flag.Uint64("seed", 1, "draws the sample")
	workers := flag.Int("p", runtime.NumCPU(), "how many are tried at a time")
	part := flag.String("part", "1/1", "K/N: the K-th of N parts; all of them together are a whole run")
	again := flag.String("again", "", "try only those that this file, an earlier run's output, tells as survivors")
	flag.Parse()
	root, err := filepath.Abs("..")
	var which choice
	if err == nil {
		which, err = choose(*part, *again, *sample, *seed)
	}
	if err == nil {
		err = run(root, strings.Split(*packages, ","), which, *workers)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(root string, packages []string, which choice, workers int) error {
	accepted, err := readAccepted(filepath.Join(root, "test/mutate/accepted.txt"))
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	open := false
	for _, name := range packages {
		suites, known := judged[name]
		if !known {
			return fmt.Errorf("%s is none of money, policy, ledger", name)
		}
		start := time.Now()
		p, err := load(root, name)
		if err != nil {
			return err
		}
		made := mutantsOf(p)
		tried := which.of(made)
		t := &trials{builder: builder{root: root, dir: dir}, pkg: p, suites: suites, programs: map[string]string{}}
		verdicts, err := t.all(tried, workers)
		if err != nil {
			return err
		}
		r := &result{pkg: name, made: made, tried: tried, verdicts: verdicts, accepted: accepted, took: time.Since(start)}
		open = r.report() || open
	}
	if open {
		return errOpen
	}
	return nil
}

var errOpen = errors.New("some survive without a reason, or reasons without a survivor")

// trials tries the mutants of one package.
type trials struct {
	builder
	pkg      *pkg
	suites   []suite
	switches map[string][]byte // the files of the package with the mutants built in

	building sync.Mutex
	programs map[string]string // by the package whose tests they are
}

// all tries mutants, several at a time.
func (t *trials) all(mutants []*mutant, workers int) ([]verdict, error) {
	verdicts := make([]verdict, len(mutants))
	var alive []*mutant
	for i, m := range mutants {
		m.id = i + 1
		if !t.pkg.compiles(m) {
			verdicts[i] = stillborn
			continue
		}
		alive = append(alive, m)
	}
	t.switches = everyMutant(t.pkg, alive)
	// Without a mutant all must be green, or everything would count as caught.
	for _, s := range t.suites {
		if program, err := t.program(s.pkg); err != nil {
			return nil, err
		} else if out, v := t.runs(program, s, 0); v != survived {
			return nil, fmt.Errorf("the tests of %s fail without a mutant:\n%s", s.pkg, out)
		}
	}
	var failed atomic.Pointer[error]
	var done atomic.Int64
	var wait sync.WaitGroup
	next := make(chan *mutant)
	for range workers {
		wait.Go(func() {
			for m := range next {
				v, err := t.try(m)
				if err != nil {
					failed.Store(&err)
				}
				if verdicts[m.id-1] = v; v == survived {
					fmt.Fprintf(os.Stderr, "%d of %d: survived: %s\n", done.Load(), len(alive), m)
				}
				done.Add(1)
			}
		})
	}
	for _, m := range alive {
		next <- m
	}
	close(next)
	wait.Wait()
	if err := failed.Load(); err != nil {
		return nil, *err
	}
	return verdicts, nil
}

// program is the one with the switches, compiled once.
func (t *trials) program(tests string) (string, error) {
	t.building.Lock()
	defer t.building.Unlock()
	if t.programs[tests] == "" {
		program, err := t.build(tests, t.switches)
		if err != nil {
			return "", err
		}
		t.programs[tests] = program
	}
	return t.programs[tests], nil
}

// alone compiles tests with one mutant that cannot be switched.
func (t *trials) alone(m *mutant, tests string) (string, error) {
	t.building.Lock()
	defer t.building.Unlock()
	return t.build(tests, map[string][]byte{m.file.name: m.text()})
}

func (t *trials) try(m *mutant) (verdict, error) {
	for _, s := range t.suites {
		program, err := t.program(s.pkg)
		if m.at == nil {
			program, err = t.alone(m, s.pkg)
		}
		if err != nil {
			return "", err
		}
		if _, v := t.runs(program, s, m.id); v != survived {
			return v, nil
		}
	}
	return survived, nil
}

// runs runs the tests with a mutant switched on.
func (t *trials) runs(program string, s suite, alive int) (string, verdict) {
	ctx, cancel := context.WithTimeout(context.Background(), s.within)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, s.args...)
	cmd.Dir = filepath.Join(t.root, "internal", s.pkg)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", switchName, alive))
	out, err := cmd.CombinedOutput()
	switch {
	case err == nil:
		return string(out), survived
	case ctx.Err() != nil:
		return string(out), overdue
	default:
		return string(out), caught
	}
}
