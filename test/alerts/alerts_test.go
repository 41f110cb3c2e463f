// Package alerts has alerts told to real receivers: a webhook that verifies with a public library of Standard Webhooks, what
// Slack's incoming webhooks take, a mail server in a process of its own, and a program.
package alerts

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/keybrake/keybrake/internal/alert"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/sqlite"
	"github.com/keybrake/keybrake/internal/vault"
)

// cert and key are files of a throw-away certificate that this process trusts; stranger is one that it does not. All are in
// dir, which goes with the tests.
var dir, cert, key, stranger, strangerKey string

func TestMain(m *testing.M) {
	var err error
	if dir, err = os.MkdirTemp("", "alerts"); err != nil {
		panic(err)
	}
	cert, key = certificate("ours")
	stranger, strangerKey = certificate("stranger")
	if err := os.Setenv("SSL_CERT_FILE", cert); err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func certificate(name string) (cert, key string) {
	private, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	t := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err2 := x509.CreateCertificate(rand.Reader, t, t, &private.PublicKey, private)
	pkcs8, err3 := x509.MarshalPKCS8PrivateKey(private)
	cert, key = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	err4 := os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
	err5 := os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600)
	for _, err := range []error{err1, err2, err3, err4, err5} {
		if err != nil {
			panic(err)
		}
	}
	return cert, key
}

const (
	secret   = "whsec_Q0FOQVJZMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY="
	password = "CANARY-mail-password"
)

// world is a watcher on a real store that sees a brake, whose reason somebody chose with care, and a loop.
type world struct {
	*alert.Watcher
	db *sqlite.DB
}

const reason = "<!channel> <https://evil.example|click> & *bold* @here\r\nBcc: eve@example.com"

func newWorld(t *testing.T, target alert.Target) *world {
	t.Helper()
	target.Name, target.Least = "it", alert.Info
	config := alert.Config{Targets: []alert.Target{target}}
	if err := config.Check(); err != nil {
		t.Fatal(err)
	}
	master, err := vault.EphemeralMaster()
	if err != nil {
		t.Fatal(err)
	}
	db, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "keybrake.db"), Signer: master, MasterCheck: master.CheckValue()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	w := &world{db: db, Watcher: &alert.Watcher{
		Config: config, Store: db,
		See: func(context.Context) (alert.Seen, error) {
			return alert.Seen{
				Now:    db.Now(),
				Brakes: []alert.BrakeOn{{Scope: "all", Mode: "stopped", By: "dana", Reason: reason, At: db.Now()}},
				Loops:  []alert.Repeat{{Key: "key_1", Name: "agent-1", Operation: "refunds.create", Subject: "ch_1", Count: 12, Within: 10 * time.Minute}},
			}, nil
		},
		Link: func(key string) string { return "https://keybrake.example.com/keys/" + key },
	}}
	if err := w.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

// deliver delivers what is due and returns the message as it is kept then.
func (w *world) deliver(t *testing.T) store.MessageRow {
	t.Helper()
	if _, err := w.Deliver(t.Context(), "it"); err != nil {
		t.Fatal(err)
	}
	var all []store.MessageRow
	err := w.db.View(t.Context(), func(tx store.Tx) (err error) {
		all, err = tx.Messages("", 10)
		return err
	})
	if err != nil || len(all) != 1 {
		t.Fatalf("%d messages are kept: %v", len(all), err)
	}
	return all[0]
}

func (w *world) arrives(t *testing.T) store.MessageRow {
	t.Helper()
	m := w.deliver(t)
	if m.Done.IsZero() || m.Error != "" {
		t.Fatalf("it did not arrive: %s", m.Error)
	}
	return m
}

// fails holds that a message stays for another attempt, with a reason that names no secret.
func (w *world) fails(t *testing.T, says string) {
	t.Helper()
	m := w.deliver(t)
	if !m.Done.IsZero() || m.Attempts != 1 || !m.Due.After(w.db.Now()) || !strings.Contains(m.Error, says) || strings.Contains(m.Error, "CANARY") {
		t.Fatalf("the message is kept as done %t, attempts %d, error %q; want one that says %q", !m.Done.IsZero(), m.Attempts, m.Error, says)
	}
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// got is a request as a receiver has it.
type got struct {
	path   string
	header http.Header
	body   []byte
}

// receiver is a server over TLS that answers with a status.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	status int
	all    []got
}

func newReceiver(t *testing.T, status int, cert, key string) *receiver {
	t.Helper()
	r := &receiver{status: status}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	r.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.all = append(r.all, got{req.URL.String(), req.Header, body})
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(r.status)
		_, _ = fmt.Fprintf(w, "you asked for %s", req.URL)
	}))
	r.Config.ErrorLog = nil
	r.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	r.StartTLS()
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) got() []got {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]got(nil), r.all...)
}

func TestAWebhookVerifiesWithThePublicLibrary(t *testing.T) {
	r := newReceiver(t, http.StatusOK, cert, key)
	w := newWorld(t, alert.Target{Kind: "webhook", URL: r.URL + "/hook", SecretFile: file(t, secret)})
	m := w.arrives(t)
	if err := w.Test(t.Context(), "it"); err != nil {
		t.Fatal(err)
	}
	verify, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	all := r.got()
	if len(all) != 2 {
		t.Fatalf("the receiver has %d requests", len(all))
	}
	for i, types := range []string{"keybrake.alerts", "keybrake.test"} {
		if err := verify.Verify(all[i].body, all[i].header); err != nil {
			t.Errorf("%s: %v", types, err)
		}
		if err := verify.Verify(append([]byte(" "), all[i].body...), all[i].header); err == nil {
			t.Errorf("%s: a changed body verifies", types)
		}
		var said alert.Message
		if err := json.Unmarshal(all[i].body, &said); err != nil || said.Type != types {
			t.Errorf("the body is %s: %v", all[i].body, err)
		}
	}
	if id := all[0].header.Get("webhook-id"); id != m.ID || id == all[1].header.Get("webhook-id") {
		t.Errorf("the ids are %q and %q, the message is %q", id, all[1].header.Get("webhook-id"), m.ID)
	}
	other, err := standardwebhooks.NewWebhook("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
	if err != nil || other.Verify(all[0].body, all[0].header) == nil {
		t.Errorf("it verifies under another key (%v)", err)
	}
}

func TestSlackTakesItAndNobodyIsMentioned(t *testing.T) {
	r := newReceiver(t, http.StatusOK, cert, key)
	w := newWorld(t, alert.Target{Kind: "slack", URLFile: file(t, r.URL+"/services/T0/B0/CANARY")})
	w.arrives(t)
	if err := w.Test(t.Context(), "it"); err != nil {
		t.Fatal(err)
	}
	for _, g := range r.got() {
		var said struct {
			Text   string `json:"text"`
			Blocks []struct {
				Type string `json:"type"`
				Text struct {
					Type string `json:"type"`
					Text string `json:"text"`
				} `json:"text"`
			} `json:"blocks"`
		}
		if err := json.Unmarshal(g.body, &said); err != nil || said.Text == "" || len(said.Blocks) == 0 {
			t.Fatalf("Slack gets %s: %v", g.body, err)
		}
		words := said.Text
		for _, b := range said.Blocks {
			if b.Type != "section" || b.Text.Type != "mrkdwn" || b.Text.Text == "" || len(b.Text.Text) > 3000 {
				t.Errorf("a block is %+v", b)
			}
			words += b.Text.Text
		}
		ours := strings.Count(words, "<https://keybrake.example.com/keys/")
		if strings.Count(words, "<") != ours || strings.Count(words, ">") != ours {
			t.Errorf("somebody's reason is a link or a mention: %s", words)
		}
		if g.path != "/services/T0/B0/CANARY" {
			t.Errorf("it went to %s", g.path)
		}
	}
	if first := string(r.got()[0].body); !strings.Contains(first, "Everything is stopped") || !strings.Contains(first, "agent-1 may be in a loop") {
		t.Errorf("Slack gets %s", first)
	}
}

func TestWhatAReceiverDoesWrong(t *testing.T) {
	for _, tt := range []struct {
		name      string
		status    int
		cert, key string
		says      string
		asked     int
	}{
		{"an error is tried again", 500, cert, key, "500", 1},
		{"so is too much", 429, cert, key, "429", 1},
		{"a redirect is not followed", 307, cert, key, "307", 1},
		{"nor is one that changes the method", 302, cert, key, "302", 1},
		{"a certificate of nobody that is trusted", 200, stranger, strangerKey, "certificate", 0},
	} {
		for _, kind := range []string{"webhook", "slack"} {
			t.Run(tt.name+", "+kind, func(t *testing.T) {
				r := newReceiver(t, tt.status, tt.cert, tt.key)
				target := alert.Target{Kind: kind, URLFile: file(t, r.URL+"/services/CANARY?token=CANARY")}
				if kind == "webhook" {
					target.SecretFile = file(t, secret)
				}
				w := newWorld(t, target)
				w.fails(t, tt.says)
				if got := r.got(); len(got) != tt.asked {
					t.Errorf("the receiver was asked %d times", len(got))
				}
				if err := w.Test(t.Context(), "it"); err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "CANARY") {
					t.Errorf("the test says %v", err)
				}
			})
		}
	}
}

func TestACommandGetsTheMessageAndNoneOfOurEnvironment(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "on-alert")
	text := "#!/bin/sh\ncat >\"$1/stdin\"; env >\"$1/env\"; echo \"$2\" >\"$1/argument\"\n"
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KEYBRAKE_MASTER_KEY", "CANARY")
	t.Setenv("HOME_OF_ALERTS", "kept")
	w := newWorld(t, alert.Target{Kind: "command", Command: []string{script, dir, "$(touch hacked); `id`"}})
	m := w.arrives(t)
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if got := read("stdin"); got != string(m.Body) {
		t.Errorf("its standard input is %s", got)
	}
	if got := read("env"); strings.Contains(got, "KEYBRAKE_") || !strings.Contains(got, "HOME_OF_ALERTS=kept") {
		t.Errorf("its environment is %s", got)
	}
	if got := read("argument"); got != "$(touch hacked); `id`\n" {
		t.Errorf("its argument is %s", got)
	}
}

func TestACommandThatFailsIsTriedAgain(t *testing.T) {
	w := newWorld(t, alert.Target{Kind: "command", Command: []string{"/bin/sh", "-c", "echo no pager today >&2; exit 3"}})
	w.fails(t, "no pager today")
}
