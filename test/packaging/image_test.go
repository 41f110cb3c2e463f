package packaging

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	composeFile   = root + "/deploy/docker/compose.yaml"
	composeAgents = "http://127.0.0.1:8787" // as the file publishes it
)

// engine is the compose file, run by the container engine that scripts/image found or brought.
type engine struct {
	compose []string // how compose is called: `docker compose`, or `docker-compose`
	key     string   // the vault key that was made with the file's own command
}

func (e *engine) cmd(args ...string) *exec.Cmd {
	all := append(slices.Clone(e.compose), "-p", "keybrake-image-test", "-f", composeFile)
	all = append(all, args...)
	cmd := exec.Command(all[0], all[1:]...)
	cmd.Env = append(os.Environ(), "VERSION=v0.0.0-image-test")
	return cmd
}

func (e *engine) do(t *testing.T, args ...string) string {
	t.Helper()
	out, err := e.cmd(args...).CombinedOutput()
	if err != nil {
		t.Fatalf("compose %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// inspect asks for a field of the container of a service.
func (e *engine) inspect(t *testing.T, service, field string) string {
	t.Helper()
	id, err := e.cmd("ps", "-a", "-q", service).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(run(t, ".", "docker", "inspect", "-f", "{{"+field+"}}", strings.TrimSpace(string(id))))
}

func (e *engine) waitHealthy(t *testing.T) {
	t.Helper()
	for until := time.Now().Add(time.Minute); time.Now().Before(until); time.Sleep(200 * time.Millisecond) {
		if e.inspect(t, "keybrake", ".State.Health.Status") == "healthy" {
			return
		}
	}
	t.Fatalf("it does not get healthy\n%s", e.do(t, "logs", "keybrake"))
}

// answer is what an agent gets; refused is the gateway's code, if it said no.
type answer struct {
	status  int
	refused string
	body    []byte
}

func (e *engine) call(method, path string, form url.Values) (answer, error) {
	req, err := http.NewRequest(method, composeAgents+path, strings.NewReader(form.Encode()))
	if err != nil {
		return answer{}, err
	}
	req.SetBasicAuth(e.key, "")
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode}
	if a.body, err = io.ReadAll(resp.Body); err != nil {
		return answer{}, err
	}
	var said struct {
		Error struct{ Keybrake struct{ Code string } }
	}
	err = json.Unmarshal(a.body, &said)
	a.refused = said.Error.Keybrake.Code
	return a, err
}

func (e *engine) expect(t *testing.T, method, path string, form url.Values, status int, refused string) answer {
	t.Helper()
	a, err := e.call(method, path, form)
	if err != nil || a.status != status || a.refused != refused {
		t.Fatalf("%s %s: %d %s %v, not %d %s\n%s", method, path, a.status, a.refused, err, status, refused, a.body)
	}
	return a
}

// TestTheImage builds the image and runs the compose file: what its head says is typed as it stands there.
func TestTheImage(t *testing.T) {
	compose := os.Getenv("KEYBRAKE_COMPOSE")
	if compose == "" {
		t.Skip("needs a container engine; `make image` brings one")
	}
	e := &engine{compose: strings.Fields(compose)}
	documented := commandsOfTheFile(t)
	t.Cleanup(func() {
		if out, err := e.cmd("down", "-v").CombinedOutput(); err != nil {
			t.Errorf("compose down: %v\n%s", err, out)
		}
	})
	e.do(t, append(documented[0], "-d")...)
	e.waitHealthy(t)
	t.Run("it knows its version", func(t *testing.T) {
		if got := e.do(t, "exec", "-T", "keybrake", "/keybrake", "version"); !strings.Contains(got, "v0.0.0-image-test") {
			t.Errorf("version says %q", got)
		}
	})
	t.Run("it is nobody, may do nothing, and writes in its folders alone", e.isConfined)
	t.Run("the first admin's link leads in", e.letsIn)
	t.Run("the commands of the file make a key", func(t *testing.T) {
		for _, args := range documented[1:] {
			said := e.do(t, append([]string{"exec", "-T"}, args[1:]...)...)
			if key := regexp.MustCompile(`vault_key_test_\w+`).FindString(said); key != "" {
				e.key = key
			}
		}
		if e.key == "" {
			t.Fatal("none of them shows a key")
		}
	})
	charge := e.charge(t)
	refund := url.Values{"charge": {charge}, "amount": {"6000"}}
	t.Run("an agent refunds as far as the cap goes", func(t *testing.T) {
		e.expect(t, "POST", "/v1/refunds", refund, http.StatusOK, "")
		e.expect(t, "POST", "/v1/refunds", refund, http.StatusForbidden, "keybrake_cap_exceeded")
	})
	t.Run("told to stop, it lets a call finish and ends well", func(t *testing.T) { e.finishes(t, charge) })
	t.Run("started again, it knows its keys and what they spent", func(t *testing.T) {
		e.do(t, "start")
		e.waitHealthy(t)
		e.expect(t, "GET", "/v1/charges/"+charge, nil, http.StatusOK, "")
		e.expect(t, "POST", "/v1/refunds", refund, http.StatusForbidden, "keybrake_cap_exceeded")
	})
	t.Run("a stop from inside holds at the next call", func(t *testing.T) {
		e.do(t, "exec", "-T", "keybrake", "/keybrake", "kill", "--all")
		e.expect(t, "GET", "/v1/charges/"+charge, nil, http.StatusUnauthorized, "keybrake_key_killed")
	})
}

// commandsOfTheFile are the arguments of compose in the comment at its head, each from the subcommand on.
func commandsOfTheFile(t *testing.T) (all [][]string) {
	t.Helper()
	text, err := os.ReadFile(composeFile)
	if err != nil {
		t.Fatal(err)
	}
	joined := strings.ReplaceAll(string(text), "\\\n#", "")
	for _, m := range regexp.MustCompile(`(?m)^#   docker compose -f deploy/docker/compose\.yaml (.*)$`).FindAllStringSubmatch(joined, -1) {
		all = append(all, strings.Fields(m[1]))
	}
	if len(all) != 3 || all[0][0] != "up" || all[1][0] != "exec" || all[2][0] != "exec" {
		t.Fatalf("the file says to run %q", all)
	}
	return all
}

func (e *engine) isConfined(t *testing.T) {
	if e.inspect(t, "keybrake", ".HostConfig.ReadonlyRootfs") != "true" {
		t.Error("its root can be written")
	}
	status, err := os.ReadFile("/proc/" + e.inspect(t, "keybrake", ".State.Pid") + "/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"Uid:\t65532\t65532\t65532\t65532", "CapPrm:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"} {
		if !strings.Contains(string(status), "\n"+line+"\n") {
			t.Errorf("it is not %q:\n%s", line, status)
		}
	}
	folder, err := exec.Command("docker", "cp", e.inspect(t, "keybrake", ".Id")+":/data", "-").Output()
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	for r := tar.NewReader(bytes.NewReader(folder)); ; files++ {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 65532 || h.Mode&0o077 != 0 {
			t.Errorf("%s belongs to %d and has the mode %o", h.Name, h.Uid, h.Mode)
		}
	}
	if files < 5 {
		t.Errorf("/data holds %d files: no store", files)
	}
}

func (e *engine) letsIn(t *testing.T) {
	link := regexp.MustCompile(`http://\S+/welcome\?link=\w+`).FindString(e.do(t, "logs", "keybrake"))
	resp, err := http.Get(link)
	if err != nil {
		t.Fatalf("the link %q: %v", link, err)
	}
	defer resp.Body.Close()
	if page, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || !bytes.Contains(page, []byte("<form")) {
		t.Errorf("the link answers %d, %v", resp.StatusCode, err)
	}
}

// charge is one that a hundred dollars can be given back of.
func (e *engine) charge(t *testing.T) string {
	t.Helper()
	var list struct {
		Data []struct {
			ID       string
			Amount   int64
			Refunded int64 `json:"amount_refunded"`
		}
	}
	if err := json.Unmarshal(e.expect(t, "GET", "/v1/charges?limit=100", nil, http.StatusOK, "").body, &list); err != nil {
		t.Fatal(err)
	}
	for _, c := range list.Data {
		if c.Amount-c.Refunded >= 20_000 {
			return c.ID
		}
	}
	t.Fatal("the sandbox has no charge that is large enough")
	return ""
}

// finishes stops the services while Stripe takes three seconds for an answer.
func (e *engine) finishes(t *testing.T, charge string) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to reach the sandbox behind the gateway's loopback")
	}
	sandbox := func(path, body string) string {
		return run(t, ".", "nsenter", "-t", e.inspect(t, "keybrake", ".State.Pid"), "-n", "curl", "-sS", "--fail", "http://127.0.0.1:12111/_sandbox"+path, "-d", body)
	}
	arrivals := func() int {
		out := run(t, ".", "nsenter", "-t", e.inspect(t, "keybrake", ".State.Pid"), "-n", "curl", "-sS", "--fail", "http://127.0.0.1:12111/_sandbox/journal")
		var journal struct{ Total int }
		if err := json.Unmarshal([]byte(out), &journal); err != nil {
			t.Fatal(err)
		}
		return journal.Total
	}
	sandbox("/faults", `{"kind":"latency","latency_ms":3000,"method":"POST","path":"/v1/refunds"}`)
	before := arrivals()
	answered := make(chan error, 1)
	go func() {
		a, err := e.call("POST", "/v1/refunds", url.Values{"charge": {charge}, "amount": {"100"}})
		if err == nil && a.status != http.StatusOK {
			err = fmt.Errorf("%d %s", a.status, a.body)
		}
		answered <- err
	}()
	for until := time.Now().Add(10 * time.Second); arrivals() <= before+1; time.Sleep(50 * time.Millisecond) { // the look-up, then the refund
		if time.Now().After(until) {
			t.Fatal("the call does not reach the sandbox")
		}
	}
	begun := time.Now()
	e.do(t, "stop", "keybrake")
	if err := <-answered; err != nil {
		t.Errorf("the call that was on the wire got %v", err)
	}
	if code, err := strconv.Atoi(e.inspect(t, "keybrake", ".State.ExitCode")); err != nil || code != 0 {
		t.Errorf("it ended with %d, %v after %v", code, err, time.Since(begun).Round(time.Second))
	}
	e.do(t, "stop")
}
