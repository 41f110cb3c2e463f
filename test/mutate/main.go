// Command mutate changes the packages that judge, one place at a time, and runs their tests: a change that no test notices
// is a rule that nobody holds. It makes no file of the repository other: `go test -overlay` shows the compiler a changed copy.
//
//	go run ./mutate [-pkg money,policy,ledger] [-sample N -seed S] [-again FILE]
//
// A survivor of a package's quick tests is tried on its long ones (the properties with many more draws), and then on those of
// the packages that judge with it.
//
// Survivors that change no decision stand in accepted.txt, each with its reason. The command fails if one survives that is
// not there, and, in a whole run, if one that is there does not survive any more.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// judged are the packages that judge, and who else judges them, quickest first: a survivor of its own tests is tried there.
var judged = map[string][]string{
	"money":  {"policy", "ledger"},
	"policy": {"ledger", "upstream/stripe", "gateway"},
	"ledger": {"store/sqlite", "gateway"},
}

// long are the arguments of a package's own tests in their long form.
var long = map[string][]string{"ledger": {"-rapid.checks=10000"}}

// How long the tests of one package may take with a mutant: one that never ends is noticed too. Its own tests take seconds.
const (
	ownTime  = time.Minute
	longTime = 3 * time.Minute
	testTime = 5 * time.Minute
)

// verdict is what became of a mutant.
type verdict string

const (
	caught    verdict = "caught"
	survived  verdict = "survived"
	stillborn verdict = "did not compile"
)

func main() {
	packages := flag.String("pkg", "money,policy,ledger", "packages, apart by commas")
	sample := flag.Int("sample", 0, "how many mutants are tried, drawn by -seed; 0: all of them")
	seed := flag.Uint64("seed", 1, "draws the sample")
	workers := flag.Int("p", runtime.NumCPU(), "how many are tried at a time")
	again := flag.String("again", "", "try only those that this file of an earlier run's output tells as survivors")
	near := flag.Bool("near", false, "do not try survivors on the tests of other packages")
	flag.Parse()
	if err := run(strings.Split(*packages, ","), *sample, *seed, *workers, *near, *again); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(packages []string, sample int, seed uint64, workers int, near bool, again string) error {
	root, err := filepath.Abs("..")
	if err != nil {
		return err
	}
	var all []mutant
	for _, p := range packages {
		if _, known := judged[p]; !known {
			return fmt.Errorf("%s is none of money, policy, ledger", p)
		}
		found, err := mutantsOf(root, p)
		if err != nil {
			return err
		}
		all = append(all, found...)
	}
	made, whole := len(all), sample == 0 && again == ""
	if again != "" {
		told, err := os.ReadFile(again)
		if err != nil {
			return err
		}
		survivors := strings.Split(string(told), "\n")
		all = slices.DeleteFunc(all, func(m mutant) bool { return !slices.Contains(survivors, "    "+m.key()) })
	}
	if sample > 0 && sample < len(all) {
		r := rand.New(rand.NewPCG(seed, 0))
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:sample]
	}
	accepted, err := readAccepted("mutate/accepted.txt")
	if err != nil {
		return err
	}
	start := time.Now()
	verdicts := tryAll(root, all, workers, near)
	return report(all, verdicts, accepted, made, packages, whole, time.Since(start))
}

func tryAll(root string, all []mutant, workers int, near bool) []verdict {
	verdicts := make([]verdict, len(all))
	next := make(chan int)
	var done atomic.Int64
	var wait sync.WaitGroup
	for range workers {
		wait.Go(func() {
			for i := range next {
				verdicts[i] = try(root, &all[i], near)
				n := done.Add(1)
				if verdicts[i] == survived {
					fmt.Fprintf(os.Stderr, "%d of %d: survived: %s\n", n, len(all), &all[i])
				} else if n%50 == 0 {
					fmt.Fprintf(os.Stderr, "%d of %d\n", n, len(all))
				}
			}
		})
	}
	for i := range all {
		next <- i
	}
	close(next)
	wait.Wait()
	return verdicts
}

// try runs the tests over one mutant.
func try(root string, m *mutant, near bool) verdict {
	dir, err := os.MkdirTemp("", "mutant-")
	if err != nil {
		return fatal(err)
	}
	defer os.RemoveAll(dir)
	changed, overlay := filepath.Join(dir, "changed.go"), filepath.Join(dir, "overlay.json")
	text, err := json.Marshal(map[string]map[string]string{"Replace": {m.file: changed}})
	if err = errors.Join(err, os.WriteFile(changed, m.text(), 0o600), os.WriteFile(overlay, text, 0o600)); err != nil {
		return fatal(err)
	}
	own := func(within time.Duration, args ...string) trial { return trial{m.pkg, within, args} }
	trials := []trial{own(ownTime, "-short")}
	if args := long[m.pkg]; args != nil {
		trials = append(trials, own(longTime, args...))
	}
	if !near {
		for _, pkg := range judged[m.pkg] {
			trials = append(trials, trial{pkg, testTime, []string{"-short"}})
		}
	}
	for i, t := range trials {
		ctx, cancel := context.WithTimeout(context.Background(), t.within)
		cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-overlay", overlay, "-count=1", "-failfast", "-vet=off", "./internal/" + t.pkg}, t.args...)...)
		cmd.Dir = root
		out, err := cmd.CombinedOutput()
		cancel()
		switch {
		case err == nil:
		case i == 0 && strings.Contains(string(out), "[build failed]"):
			return stillborn
		default:
			return caught
		}
	}
	return survived
}

// trial is one run of a package's tests.
type trial struct {
	pkg    string
	within time.Duration
	args   []string
}

func fatal(err error) verdict {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
	return ""
}

// report prints the figures and what survived without leave.
func report(all []mutant, verdicts []verdict, accepted map[string]string, made int, packages []string, whole bool, took time.Duration) error {
	count := map[verdict]int{}
	var open []string
	used := map[string]bool{}
	for i := range all {
		count[verdicts[i]]++
		if verdicts[i] != survived {
			continue
		}
		key := all[i].key()
		used[key] = true
		if accepted[key] == "" {
			open = append(open, all[i].String()+"\n    "+key)
		}
	}
	var stale []string
	for key := range accepted {
		if pkg, _, _ := strings.Cut(key, "/"); whole && slices.Contains(packages, pkg) && !used[key] {
			stale = append(stale, key)
		}
	}
	fmt.Printf("%d mutants of %s, %d tried in %s: %d caught, %d survived (%d of them accepted), %d did not compile\n",
		made, strings.Join(packages, ", "), len(all), took.Round(time.Second), count[caught], count[survived], count[survived]-len(open), count[stillborn])
	slices.Sort(open)
	slices.Sort(stale)
	for _, s := range open {
		fmt.Println("survived:", s)
	}
	for _, s := range stale {
		fmt.Println("accepted, and caught:", s)
	}
	if len(open)+len(stale) > 0 {
		return fmt.Errorf("%d survive that no reason is given for, %d reasons are of no use any more", len(open), len(stale))
	}
	return nil
}

// readAccepted reads lines of "key => reason".
func readAccepted(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, reason, ok := strings.Cut(line, " => ")
		if !ok || reason == "" {
			return nil, fmt.Errorf("%s: %q is not `key => reason`", path, line)
		}
		out[key] = reason
	}
	return out, nil
}
