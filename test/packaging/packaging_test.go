// Package packaging tries how Keybrake is installed.
package packaging

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keybrake/keybrake/test/binary"
)

// root is the repository.
const root = "../.."

func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestAReleaseIsTheSameEachTime makes one twice, in two folders, and holds archive, bill of materials and sums together.
func TestAReleaseIsTheSameEachTime(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program twice")
	}
	here := runtime.GOOS + "/" + runtime.GOARCH
	first, second := t.TempDir(), t.TempDir()
	for _, dir := range []string{first, second} {
		run(t, root, "scripts/release", "--only", here, dir)
	}
	sums, err := os.ReadFile(filepath.Join(first, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := os.ReadFile(filepath.Join(second, "SHA256SUMS"))
	if err != nil || string(again) != string(sums) {
		t.Errorf("made twice it is\n%sand\n%s", sums, again)
	}
	files := 0
	for lines := bufio.NewScanner(strings.NewReader(string(sums))); lines.Scan(); files++ {
		sum, name, _ := strings.Cut(lines.Text(), "  ")
		b, err := os.ReadFile(filepath.Join(first, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := sha256.Sum256(b); hex.EncodeToString(got[:]) != sum {
			t.Errorf("the sum of %s is not its own", name)
		}
		switch {
		case strings.HasSuffix(name, ".cdx.json"):
			checkBill(t, b)
		case strings.HasSuffix(name, ".tar.gz"):
			checkArchive(t, filepath.Join(first, name))
		}
	}
	if files != 2 {
		t.Errorf("%d files are in the sums", files)
	}
}

// checkBill reads a CycloneDX document: it must name the modules that the program was built from.
func checkBill(t *testing.T, b []byte) {
	t.Helper()
	var bill struct {
		Format     string `json:"bomFormat"`
		Components []struct {
			Name, Version, PURL string
		}
	}
	if err := json.Unmarshal(b, &bill); err != nil || bill.Format != "CycloneDX" {
		t.Fatalf("the bill is %q: %v", bill.Format, err)
	}
	has := map[string]bool{}
	for _, c := range bill.Components {
		has[c.Name] = true
		if c.Version == "" || !strings.HasPrefix(c.PURL, "pkg:golang/") {
			t.Errorf("%s has version %q and the address %q", c.Name, c.Version, c.PURL)
		}
	}
	for _, name := range []string{"modernc.org/sqlite", "github.com/spf13/cobra", "github.com/goccy/go-yaml"} {
		if !has[name] {
			t.Errorf("the bill does not name %s", name)
		}
	}
}

// checkArchive unpacks one: the program in it runs, and manual, completions and deploy files are there.
func checkArchive(t *testing.T, path string) {
	t.Helper()
	dir := t.TempDir()
	run(t, dir, "tar", "-xzf", path, "--strip-components=1")
	if got := run(t, dir, "./keybrake", "version"); !strings.Contains(got, "keybrake") {
		t.Errorf("version says %q", got)
	}
	for _, want := range []string{"README.md", "man/keybrake.1", "man/keybrake-kill.1", "completions/keybrake.bash", "completions/_keybrake", "completions/keybrake.fish", "deploy/systemd/keybrake.service", "deploy/docker/Dockerfile"} {
		if _, err := os.Stat(filepath.Join(dir, want)); err != nil {
			t.Error(err)
		}
	}
	if man, err := exec.LookPath("man"); err == nil {
		cmd := exec.Command(man, "--warnings", "-l", filepath.Join(dir, "man", "keybrake-key-create.1"))
		cmd.Env = append(os.Environ(), "MANPAGER=cat", "MANWIDTH=100", "LC_ALL=C.UTF-8")
		var complaints strings.Builder
		cmd.Stderr = &complaints
		text, err := cmd.Output()
		if err != nil || complaints.Len() > 0 || !strings.Contains(string(text), "--preset") {
			t.Errorf("the manual page: %v, %s", err, complaints.String())
		}
	}
}

func TestTheUnitIsHardened(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		binary.Missing(t, "needs systemd-analyze")
	}
	out, err := exec.Command(analyze, "security", "--offline=true", "--no-pager", root+"/deploy/systemd/keybrake.service").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var exposure float64
	m := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindSubmatch(out)
	if m == nil {
		t.Fatalf("it says\n%s", out)
	}
	if _, err := fmt.Sscan(string(m[1]), &exposure); err != nil || exposure > 1.5 {
		t.Errorf("its exposure is %s, %v; 1.5 at most", m[1], err)
	}
}

// TestTheProgramNeedsNothingBesideItself runs it as the image does: in a root that holds the program, the roots of
// certificates, /data and /tmp, as a user that nothing else belongs to.
func TestTheProgramNeedsNothingBesideItself(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, for another root folder")
	}
	const nobody = 65532
	jail := t.TempDir()
	mode := func(path string, m os.FileMode, owner int) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(jail, path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(jail, path), m); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(filepath.Join(jail, path), owner, owner); err != nil {
			t.Fatal(err)
		}
	}
	mode("", 0o755, 0)
	mode("data", 0o700, nobody)
	mode("tmp", 0o1777|os.ModeSticky, nobody)
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(jail, "keybrake"), "./cmd/keybrake")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	inside := func(args ...string) *exec.Cmd {
		cmd := exec.Command("/keybrake", args...)
		cmd.Dir = "/"
		cmd.Env = append(environment(t), "KEYBRAKE_GATEWAY_LISTEN=127.0.0.1:0", "KEYBRAKE_ADMIN_LISTEN=127.0.0.1:0")
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: jail, Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		return cmd
	}
	serve := inside("serve")
	printed, err := serve.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = serve.Process.Signal(syscall.SIGTERM)
		if err := serve.Wait(); err != nil {
			t.Errorf("it ended with %v", err)
		}
	})
	waitReady(t, printed)
	for _, args := range [][]string{{"healthcheck"}, {"healthcheck", "--ready"}, {"spend"}} {
		if out, err := inside(args...).CombinedOutput(); err != nil {
			t.Errorf("keybrake %s: %v\n%s", args[0], err, out)
		}
	}
}

// environment is what the Dockerfile sets.
func environment(t *testing.T) (out []string) {
	t.Helper()
	b, err := os.ReadFile(root + "/deploy/docker/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	_, last, ok := strings.Cut(string(b), "\nFROM scratch\n")
	if !ok || !strings.Contains(last, "\nUSER 65532:65532\n") {
		t.Fatal("the image is not made from scratch, or runs as root")
	}
	for _, m := range regexp.MustCompile(`(?m)(?:^ENV |^    )([A-Z_]+=\S+)`).FindAllStringSubmatch(last, -1) {
		out = append(out, m[1])
	}
	if len(out) < 4 {
		t.Fatalf("the image sets %q", out)
	}
	return out
}

func waitReady(t *testing.T, printed io.Reader) {
	t.Helper()
	ready := make(chan string, 1)
	go func() {
		var all strings.Builder
		lines := bufio.NewScanner(printed)
		for lines.Scan() {
			fmt.Fprintln(&all, lines.Text())
			if strings.Contains(lines.Text(), `"msg":"ready"`) {
				ready <- ""
			}
		}
		ready <- all.String()
	}()
	select {
	case said := <-ready:
		if said != "" {
			t.Fatalf("it ended:\n%s", said)
		}
	case <-time.After(time.Minute):
		t.Fatal("it does not come up")
	}
}
