package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// module makes a module with one package that judges, and returns its root.
func module(t *testing.T, pkg string) string {
	t.Helper()
	root := t.TempDir()
	write(t, root, map[string]string{
		"go.mod": "module m\n\ngo 1.26\n",
		"internal/" + pkg + "/judge.go": `package judge

func Fits(asked, left int) bool { return asked <= left }

func Idle(n int) bool { return n > 0 && n > -1 }

const most = 3

func Room(n int) bool { return n < most }

func Sum(a string) string { return a + "b" }
`,
		"internal/" + pkg + "/judge_test.go": `package judge

import (
	"flag"
	"testing"
)

// As the properties of the packages that judge have.
var _, _, _ = flag.Bool("rapid.nofailfile", false, ""), flag.String("rapid.shrinktime", "", ""), flag.Int("rapid.checks", 0, "")

func TestFits(t *testing.T) {
	if !Fits(1, 1) || Fits(2, 1) || Idle(0) || !Idle(1) || !Room(2) {
		t.Fail()
	}
}
`,
		"test/mutate/accepted.txt": "# none\n",
	})
	return root
}

func write(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMutantsAreTriedForReal tries some that must be caught, that change nothing, that do not compile and that never end, on a
// package of their own.
func TestMutantsAreTriedForReal(t *testing.T) {
	root := module(t, "money")
	write(t, root, map[string]string{
		"internal/money/count.go": `package judge

func Count(to int) (n int) {
	for ; n != to; n++ {
	}
	return n
}
`,
		"internal/money/count_test.go": `package judge

import "testing"

func TestCount(t *testing.T) {
	if Count(5) != 5 {
		t.Fail()
	}
}
`,
	})
	p, err := load(root, "money")
	if err != nil {
		t.Fatal(err)
	}
	all := mutantsOf(p)
	want := map[string]verdict{
		"money/Fits: asked <= left: <= -> <":    caught,
		"money/Fits: asked <= left: <= -> >":    caught,
		"money/Idle: n > -1: > -> >=":           survived,
		"money/Sum: a + \"b\": + -> -":          stillborn,
		"money/most: most = 3: 3 -> 2":          caught,
		"money/most: most = 3: 3 -> 4":          survived,
		"money/Idle: n > 0 && n > -1: && -> ||": caught,
		"money/Count: n++: ++ -> --":            overdue,
	}
	tried := &trials{
		builder: builder{root: root, dir: t.TempDir()}, pkg: p, suites: []suite{{"money", 2 * time.Second, nil}}, programs: map[string]string{},
	}
	verdicts, err := tried.all(all, 2)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range all {
		if expected, asked := want[m.key()]; asked && verdicts[i] != expected {
			t.Errorf("%s: %s, want %s", m.key(), verdicts[i], expected)
		}
		delete(want, m.key())
	}
	for key := range want {
		t.Errorf("%s was not made", key)
	}
}

func TestASurvivorWithoutAReasonIsAnError(t *testing.T) {
	const reasons = `ledger/Idle: n > -1: > -> >= => n is more than nothing
ledger/Idle: -1: 1 -> 0 => n is more than nothing
ledger/Idle: -1: 1 -> 2 => n is more than nothing
ledger/most: most = 3: 3 -> 4 => nobody asks for as much
ledger/Room: n < most: < -> <= => nobody asks for as much
`
	for name, test := range map[string]struct {
		accepted string
		want     error
	}{
		"none has a reason":      {"", errOpen},
		"all have one":           {reasons, nil},
		"a reason has no mutant": {reasons + "ledger/Fits: asked <= left: <= -> < => it stands here by mistake\n", errOpen},
	} {
		root := module(t, "ledger")
		write(t, root, map[string]string{"test/mutate/accepted.txt": test.accepted})
		if err := run(root, []string{"ledger"}, choice{parts: 1}, 2); !errors.Is(err, test.want) || (test.want == nil) != (err == nil) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
}
