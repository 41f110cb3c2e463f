// Package contract holds Keybrake against a Stripe that it must be invisible to: what is asked through a fully
// open vault key has the same answer as what is asked directly.
package contract

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keybrake/keybrake/test/binary"
)

// program is the path of the binary under test.
var program string

func TestMain(m *testing.M) { os.Exit(binary.Main(m, &program)) }

// secret is the upstream's: stripe-mock takes test keys of exactly three parts.
const secret = "sk_test_contract"

// openPolicy allows everything there is, but for the accounts, which are named.
const openPolicy = "name: " + keyName + `
scopes: {"*": write}
uncapped: true
unmetered: ["*"]
client_secrets: allow
customers: any
`

const keyName = "agent-contract-everything-1"

// start runs a program until the test ends.
func start(t *testing.T, cmd *exec.Cmd, stop os.Signal) (out io.Reader) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(stop) // one that ended needs none
		_ = cmd.Wait()               // how it ends says nothing here
	})
	return out
}

// waitFor reads what a program prints until the pattern matches, and goes on reading so that it never blocks.
func waitFor(t *testing.T, out io.Reader, re *regexp.Regexp) string {
	t.Helper()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if m := re.FindStringSubmatch(lines.Text()); m != nil {
			go func() { _, _ = io.Copy(io.Discard, out) }() // ends with the program
			return m[1]
		}
	}
	t.Fatalf("it ended without saying %s", re)
	return ""
}

// startStripeMock builds and runs stripe-mock on a port of its own and returns its base URL.
func startStripeMock(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "stripe-mock")
	if out, err := exec.Command("go", "build", "-o", path, "github.com/stripe/stripe-mock").CombinedOutput(); err != nil {
		t.Fatalf("build stripe-mock: %v\n%s", err, out)
	}
	out := start(t, exec.Command(path, "-http-addr", "127.0.0.1:0"), syscall.SIGKILL)
	return "http://" + waitFor(t, out, regexp.MustCompile(`Listening for HTTP at address: (\S+)`))
}

// gateway is a running Keybrake with one upstream and one fully open key.
type gateway struct {
	t    *testing.T
	dir  string
	base string
	key  string
	// accounts are those that the key's policy names.
	accounts []string
}

// startGateway runs Keybrake on a store of its own, with the upstream and the key made from the command line.
func startGateway(t *testing.T, upstream, account string) *gateway {
	t.Helper()
	g := &gateway{t: t, dir: t.TempDir()}
	ready := filepath.Join(g.dir, "ready.json")
	cmd := g.command("serve", "--reconcile-per-second", "0", "--gateway-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--store", "sqlite:"+filepath.Join(g.dir, "kb.db"), "--ready-file", ready)
	go func(out io.Reader) { _, _ = io.Copy(io.Discard, out) }(start(t, cmd, syscall.SIGTERM))
	for g.base == "" {
		text, err := os.ReadFile(ready)
		if err != nil {
			time.Sleep(5 * time.Millisecond)
			continue
		}
		var f struct{ Gateway string }
		if err := json.Unmarshal(text, &f); err != nil {
			t.Fatal(err)
		}
		g.base = f.Gateway
	}
	g.run("upstream", "add", "stripe-test", "--secret-env", "SECRET", "--base-url", upstream)
	g.accounts = []string{account}
	var created struct{ Key string }
	if err := json.Unmarshal(g.run("key", "create", "--policy", g.policy(), "-o", "json"), &created); err != nil {
		t.Fatal(err)
	}
	g.key = created.Key
	return g
}

// allow adds a connected account to the policy.
func (g *gateway) allow(account string) {
	g.t.Helper()
	g.accounts = append(g.accounts, account)
	g.run("key", "update", keyName, "--policy", g.policy(), "--reason", "a new account")
}

// policy writes the policy into a file and returns its path.
func (g *gateway) policy() string {
	path := filepath.Join(g.dir, "policy.yaml")
	text := openPolicy + "accounts: [" + strings.Join(g.accounts, ", ") + "]\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
	return path
}

func (g *gateway) command(args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env = g.dir, append(os.Environ(), "XDG_STATE_HOME="+g.dir, "SECRET="+secret)
	return cmd
}

func (g *gateway) run(args ...string) []byte {
	g.t.Helper()
	var errs bytes.Buffer
	cmd := g.command(args...)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		g.t.Fatalf("keybrake %s: %v\n%s%s", strings.Join(args, " "), err, out, errs.String())
	}
	return out
}
