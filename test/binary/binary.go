// Package binary builds the program under test, once for each test package that drives it as a process.
package binary

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// raceVariable, when it is set, has the program built with the race detector. Its reports are files, since most tests read
// neither what a program prints nor how it ends.
const raceVariable = "KEYBRAKE_RACE"

// Main builds keybrake, puts its path into *path, runs the tests and returns their exit code.
func Main(m *testing.M, path *string) int {
	dir, err := os.MkdirTemp("", "keybrake-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	*path = filepath.Join(dir, "keybrake")
	args := []string{"build", "-o", *path}
	reports := filepath.Join(dir, "race")
	if os.Getenv(raceVariable) != "" {
		args = append(args, "-race")
		if err := os.Setenv("GORACE", "log_path="+reports); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	build := exec.Command("go", append(args, "./cmd/keybrake")...)
	build.Dir = filepath.Join("..", "..") // the repository, from a package of this module
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build keybrake: %v\n%s", err, out)
		return 1
	}
	code := m.Run()
	found, err := filepath.Glob(reports + ".*")
	for _, file := range found {
		text, readErr := os.ReadFile(file)
		err = errors.Join(err, readErr)
		fmt.Fprintf(os.Stderr, "a race in a program under test:\n%s\n", text)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if err != nil || len(found) > 0 {
		return max(code, 1)
	}
	return code
}
