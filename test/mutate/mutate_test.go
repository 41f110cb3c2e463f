package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestMutantsAreTriedForReal tries one that must be caught, one that changes nothing, and one that does not compile, on a
// package of their own.
func TestMutantsAreTriedForReal(t *testing.T) {
	root := t.TempDir()
	folder := filepath.Join(root, "internal", "money")
	for name, text := range map[string]string{
		"../../go.mod": "module m\n\ngo 1.26\n",
		"judge.go": `package money

func Fits(asked, left int) bool { return asked <= left }

func Idle(n int) bool { return n > 0 && n > -1 }

const most = 3

func Room(n int) bool { return n < most }

func Sum(a string) string { return a + "b" }
`,
		"judge_test.go": `package money

import "testing"

func TestFits(t *testing.T) {
	if !Fits(1, 1) || Fits(2, 1) || Idle(0) || !Idle(1) || !Room(2) {
		t.Fail()
	}
}
`,
	} {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
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
	}
	tried := &trials{
		builder: builder{root: root, dir: t.TempDir()}, pkg: p, suites: []suite{{"money", time.Minute, nil}}, programs: map[string]string{},
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
