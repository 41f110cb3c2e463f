package main

import (
	"os"
	"path/filepath"
	"testing"
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

func Sum(a string) string { return a + "b" }
`,
		"judge_test.go": `package money

import "testing"

func TestFits(t *testing.T) {
	if !Fits(1, 1) || Fits(2, 1) || Idle(0) || !Idle(1) {
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
	all, err := mutantsOf(root, "money")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]verdict{
		"money/Fits: asked <= left: <= -> <":    caught,
		"money/Fits: asked <= left: <= -> >":    caught,
		"money/Idle: n > -1: > -> >=":           survived,
		"money/Sum: a + \"b\": + -> -":          stillborn,
		"money/Idle: n > 0 && n > -1: && -> ||": caught,
	}
	for i := range all {
		expected, asked := want[all[i].key()]
		if !asked {
			continue
		}
		delete(want, all[i].key())
		if got := try(root, &all[i], true); got != expected {
			t.Errorf("%s: %s, want %s", all[i].key(), got, expected)
		}
	}
	for key := range want {
		t.Errorf("%s was not made", key)
	}
}
