package process

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// TestTheDemoGoesAsTold runs `make demo`'s script, which checks every step of its own.
func TestTheDemoGoesAsTold(t *testing.T) {
	out, err := exec.Command("bash", filepath.Join("..", "..", "scripts", "demo"), program).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
