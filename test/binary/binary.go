// Package binary builds the program under test, once for each test package that drives it as a process.
package binary

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Main builds keybrake, puts its path into *path, runs the tests and returns their exit code.
func Main(m *testing.M, path *string) int {
	dir, err := os.MkdirTemp("", "keybrake-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	*path = filepath.Join(dir, "keybrake")
	build := exec.Command("go", "build", "-o", *path, "./cmd/keybrake")
	build.Dir = filepath.Join("..", "..") // the repository, from a package of this module
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build keybrake: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}
