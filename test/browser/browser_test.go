// Package browser tries the console as people have it: in headless Chromium, against the real program.
package browser

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/keybrake/keybrake/test/binary"
)

// program is the path of the binary under test.
var program string

func TestMain(m *testing.M) { os.Exit(binary.Main(m, &program)) }

// TestConsole runs each file of tests against a server of its own: they stop things.
func TestConsole(t *testing.T) {
	for _, tool := range []string{"node", "chromium"} {
		if _, err := exec.LookPath(tool); err != nil {
			binary.Missing(t, "needs "+tool)
		}
	}
	if _, err := os.Stat("node_modules"); err != nil {
		binary.Missing(t, "needs `npm ci` in test/browser")
	}
	files, err := filepath.Glob("*.test.js")
	if err != nil || len(files) == 0 {
		t.Fatal("no tests:", files, err)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			cmd := exec.Command("node", "--test", "--test-reporter=spec", file)
			cmd.Env = os.Environ()
			where := []string{"--dev"}
			switch file {
			case "first.test.js": // somebody's first start, with nothing in the store
				where = []string{"--store", "sqlite:" + filepath.Join(t.TempDir(), "keybrake.db")}
			case "flows.test.js": // where people are told
				where = append(where, "--config", toldConfig(t))
			case "pages.test.js": // where people work
				l := liveIn(t)
				where = []string{"--store", "sqlite:" + l.Store}
				cmd.Env = append(cmd.Env, "KEYBRAKE_LIVED="+l.write(t))
			}
			server := binary.Serve(t, program, where...)
			cmd.Env = append(cmd.Env, "KEYBRAKE_READY="+server.ReadyFile, "KEYBRAKE_PRINTED="+server.Printed)
			out, err := cmd.CombinedOutput()
			t.Logf("%s", out)
			if err != nil {
				t.Errorf("node --test %s: %v", file, err)
			}
		})
	}
}

// toldConfig is a config file with a target that takes messages, and one that does not.
func toldConfig(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "keybrake.yaml")
	const text = "alerts:\n  targets:\n" +
		"    - {name: pager, kind: command, command: [cat], least: info}\n" +
		"    - {name: broken, kind: command, command: [\"false\"], least: critical, only: [chain]}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
