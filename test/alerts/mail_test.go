package alerts

import (
	"bufio"
	"encoding/json"
	"io"
	"mime"
	"net"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/keybrake/keybrake/internal/alert"
)

// letter is what the mail server took.
type letter struct {
	From, User, Data string
	To               []string
	TLS              bool
}

var smtpd = sync.OnceValues(func() (string, error) {
	program := filepath.Join(dir, "smtpd")
	out, err := exec.Command("go", "build", "-o", program, "./smtpd").CombinedOutput()
	if err != nil {
		_, _ = os.Stderr.Write(out)
	}
	return program, err
})

// postOffice is a mail server's process.
type postOffice struct {
	port string
	out  *bufio.Scanner
}

func newPostOffice(t *testing.T, flags ...string) *postOffice {
	t.Helper()
	program, err := smtpd()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, flags...)
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
	})
	p := &postOffice{out: bufio.NewScanner(out)}
	p.out.Buffer(nil, 1<<20)
	if !p.out.Scan() {
		t.Fatal("the mail server says nothing")
	}
	if _, p.port, err = net.SplitHostPort(p.out.Text()); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *postOffice) next(t *testing.T) (l letter, m *mail.Message) {
	t.Helper()
	if !p.out.Scan() {
		t.Fatal("no letter came")
	}
	if err := json.Unmarshal(p.out.Bytes(), &l); err != nil {
		t.Fatal(err)
	}
	m, err := mail.ReadMessage(strings.NewReader(l.Data))
	if err != nil {
		t.Fatal(err)
	}
	return l, m
}

func letterTo(server, tls string) alert.Target {
	return alert.Target{Kind: "email", Server: server, TLS: tls, From: "Keybrake <keybrake@example.com>", To: []string{"finance@example.com", "dana@example.com"}}
}

func TestMailArrives(t *testing.T) {
	own := []string{"-cert", cert, "-key", key}
	for _, tt := range []struct {
		name, host, tls string
		flags           []string
		signsIn         bool
		overTLS         bool
	}{
		{"STARTTLS is the default", "localhost", "", own, false, true},
		{"STARTTLS with a password", "localhost", "starttls", append(own, "-user", "keybrake", "-password", password), true, true},
		{"TLS from the first byte with a password", "127.0.0.1", "implicit", append(own, "-implicit", "-user", "keybrake", "-password", password), true, true},
		{"plain on this machine", "127.0.0.1", "none", nil, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPostOffice(t, tt.flags...)
			target := letterTo(tt.host+":"+p.port, tt.tls)
			if tt.signsIn {
				target.Username, target.PasswordFile = "keybrake", file(t, password)
			}
			w := newWorld(t, target)
			kept := w.arrives(t)
			l, m := p.next(t)
			if l.From != "keybrake@example.com" || strings.Join(l.To, " ") != "finance@example.com dana@example.com" || l.TLS != tt.overTLS || (l.User == "keybrake") != tt.signsIn {
				t.Errorf("the server took %+v", l)
			}
			if m.Header.Get("Bcc") != "" {
				t.Error("a reason became a header")
			}
			if id := m.Header.Get("Message-ID"); id != "<"+kept.ID+"@keybrake>" {
				t.Errorf("the letter's id is %s, the message's %s", id, kept.ID)
			}
			subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
			if err != nil || !strings.HasPrefix(subject, "Keybrake: ") || !strings.HasSuffix(subject, "(and 1 more)") {
				t.Errorf("the subject is %q: %v", subject, err)
			}
			body, err := io.ReadAll(m.Body)
			if text := string(body); err != nil || !strings.Contains(text, "Everything is stopped") || !strings.Contains(text, "agent-1 may be in a loop") {
				t.Errorf("the letter says %s", text)
			}
			if err := w.Test(t.Context(), "it"); err != nil {
				t.Fatal(err)
			}
			if _, m := p.next(t); m.Header.Get("Subject") != "Keybrake: a test message" {
				t.Errorf("the test's subject is %q", m.Header.Get("Subject"))
			}
		})
	}
}

func TestMailDoesNotArrive(t *testing.T) {
	own := []string{"-cert", cert, "-key", key}
	for _, tt := range []struct {
		name, tls string
		flags     []string
		password  string
		says      string
	}{
		{"the server has no STARTTLS", "starttls", nil, "", "STARTTLS"},
		{"its certificate is nobody's that is trusted", "starttls", []string{"-cert", stranger, "-key", strangerKey}, "", "certificate"},
		{"the password is another", "starttls", append(own, "-user", "keybrake", "-password", "another"), password, "535"},
		{"nobody signs in and somebody must", "starttls", append(own, "-user", "keybrake", "-password", password), "", "authenticate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPostOffice(t, tt.flags...)
			target := letterTo("localhost:"+p.port, tt.tls)
			if tt.password != "" {
				target.Username, target.PasswordFile = "keybrake", file(t, tt.password)
			}
			newWorld(t, target).fails(t, tt.says)
		})
	}
	t.Run("nobody is there", func(t *testing.T) {
		const nobody = "127.0.0.1:1" // a port that was free a moment ago may be somebody else's by now
		newWorld(t, letterTo(nobody, "none")).fails(t, "refused")
	})
}
