package process

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestStoreAndMasterKeySurviveARestart(t *testing.T) {
	h := newHome(t)
	s := h.serve()
	key := h.ready()
	charge := h.seeded()[0].Charges[1]
	if r := call(t, http.DefaultClient, key, "POST", s.Gateway+"/v1/refunds", "charge="+charge+"&amount=3000"); r.Status != 200 {
		t.Fatal(r)
	}
	stopped := h.newKey("agent-support-refunds-p2")
	h.must(nil, "kill", "agent-support-refunds-p2")
	h.must(nil, "rates", "set", "EUR=1.09")
	if err := s.end(); err != nil {
		t.Fatalf("%v\n%s", err, s.out)
	}
	if r := h.run("spend"); r.Exit != 3 {
		t.Errorf("a command without a server: exit %d %s", r.Exit, r.Err)
	}

	s = h.serve()
	if r := call(t, http.DefaultClient, key, "GET", s.Gateway+"/v1/charges/"+charge, ""); r.Status != 200 {
		t.Errorf("the key after a restart: %+v", r)
	}
	if r := call(t, http.DefaultClient, stopped, "GET", s.Gateway+"/v1/charges/"+charge, ""); r.Status != 401 || r.Code != "keybrake_key_killed" {
		t.Errorf("the stopped key after a restart: %+v", r)
	}
	var spend struct {
		Keys []struct {
			Name string
			Caps []struct{ Held, Settled, Left string }
		}
	}
	h.must(&spend, "spend", "-o", "json")
	if c := spend.Keys[0].Caps[0]; c.Settled != "30.00" || c.Left != "70.00" {
		t.Errorf("spend after a restart: %+v", spend)
	}
	if r := h.run("rates", "list"); !strings.Contains(r.Out, "1.09") {
		t.Errorf("rates after a restart: %s", r.Out)
	}
	h.must(nil, "audit", "verify")
	if err := s.end(); err != nil {
		t.Error(err)
	}

	if err := os.Rename(filepath.Join(h.dir, "kb.db.key"), filepath.Join(h.dir, "kept.key")); err != nil {
		t.Fatal(err)
	}
	if r := h.run("serve", "--store", "sqlite:kb.db", "--gateway-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"); r.Exit != 1 || !strings.Contains(r.Err, "--master-key-file") {
		t.Errorf("another master key: exit %d %s", r.Exit, r.Err)
	}
	s = h.serve("--master-key-file", "kept.key")
	if r := call(t, http.DefaultClient, key, "GET", s.Gateway+"/v1/charges/"+charge, ""); r.Status != 200 {
		t.Errorf("the right master key by name: %+v", r)
	}
	if r := h.run("serve", "--store", "sqlite:kb.db", "--master-key-file", "kept.key", "--gateway-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"); r.Exit != 1 || !strings.Contains(r.Err, "another process") {
		t.Errorf("a second server on one store: exit %d %s", r.Exit, r.Err)
	}
}

func TestServeRefusesUnsafeAndUnreadableSettings(t *testing.T) {
	h := newHome(t)
	config := func(text string) string {
		file := filepath.Join(t.TempDir(), "keybrake.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"plain HTTP beyond loopback":   {[]string{"--gateway-listen", "0.0.0.0:0"}, "--allow-plain-http"},
		"plain admin beyond loopback":  {[]string{"--admin-listen", ":0"}, "--allow-plain-http"},
		"a certificate without a key":  {[]string{"--tls-cert", "x.pem"}, "go together"},
		"a proxy that is no network":   {[]string{"--trusted-proxy", "10.0.0.1"}, "10.0.0.0/8"},
		"a store in no folder":         {[]string{"--store", "sqlite:/nowhere/at/all/kb.db"}, "does not exist"},
		"an engine that is not there":  {[]string{"--store", "mysql:x"}, "sqlite:FILE"},
		"a status that is no denial":   {[]string{"--scope-denial-status", "200"}, "401 or 403"},
		"an unknown key in the config": {[]string{"--config", config("gateway_listen: 127.0.0.1:0\ngatway: x\n")}, "gatway"},
		"a config file that is gone":   {[]string{"--config", "nowhere.yaml"}, "nowhere.yaml"},
		"an unknown flag":              {[]string{"--gatway"}, "--gatway"},
	} {
		t.Run(name, func(t *testing.T) {
			r := h.run(append([]string{"serve"}, c.args...)...)
			if r.Exit != 2 || !strings.Contains(r.Err, c.want) || strings.Contains(r.Err, "panic") {
				t.Errorf("exit %d, want 2 and %q:\n%s", r.Exit, c.want, r.Err)
			}
		})
	}
}

func TestSettingsComeFromFlagThenEnvironmentThenFile(t *testing.T) {
	h := newHome(t)
	file := filepath.Join(h.dir, "keybrake.yaml")
	if err := os.WriteFile(file, []byte("scope_denial_status: 403\nlog_format: json\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	status := func(flags ...string) int {
		s := h.serve(flags...)
		defer func() { _ = s.end() }()
		key := h.newKeyOnce()
		return call(t, http.DefaultClient, key, "GET", s.Gateway+"/v1/products", "").Status
	}
	if n := status("--config", file); n != 403 {
		t.Errorf("from the file: %d", n)
	}
	t.Setenv("KEYBRAKE_SCOPE_DENIAL_STATUS", "401")
	if n := status("--config", file); n != 401 {
		t.Errorf("from the environment: %d", n)
	}
	if n := status("--config", file, "--scope-denial-status", "403"); n != 403 {
		t.Errorf("from the flag: %d", n)
	}
}

var keyCount int

// newKeyOnce makes the upstream if there is none and a key with a fresh name.
func (h *home) newKeyOnce() string {
	h.t.Helper()
	if r := h.run("upstream", "list", "-o", "json"); !strings.Contains(r.Out, "stripe-test") {
		return h.ready()
	}
	keyCount++
	return h.newKey("agent-support-refunds-n" + string(rune('a'+keyCount)))
}

func TestTLSOnBothListeners(t *testing.T) {
	h := newHome(t)
	pool := selfSigned(t, h.dir)
	s := h.serve("--tls-cert", "cert.pem", "--tls-key", "key.pem")
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	for _, url := range []string{s.Gateway, s.Admin} {
		if !strings.HasPrefix(url, "https://") {
			t.Fatalf("announced as %s", url)
		}
		for _, path := range []string{"/healthz", "/readyz"} {
			resp, err := client.Get(url + path)
			if err != nil || resp.StatusCode != 200 {
				t.Fatalf("%s%s: %v %v", url, path, resp, err)
			}
			_ = resp.Body.Close()
		}
		resp, err := http.Get("http://" + strings.TrimPrefix(url, "https://") + "/healthz")
		if err == nil && resp.StatusCode == 200 {
			t.Errorf("%s answers without TLS", url)
		}
	}
	if r := call(t, client, "vault_key_test_x", "GET", s.Gateway+"/v1/charges", ""); r.Status != 401 || r.Code != "keybrake_key_invalid" {
		t.Errorf("a call over TLS: %+v", r)
	}
}

// selfSigned writes cert.pem and key.pem for 127.0.0.1.
func selfSigned(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "keybrake test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, text := range map[string][]byte{
		"cert.pem": certPEM, "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	return pool
}

func TestOnlyTrustedProxiesNameTheAgentsAddress(t *testing.T) {
	h := newHome(t)
	policy := filepath.Join(h.dir, "office.yaml")
	if err := os.WriteFile(policy, []byte("name: agent-office-reads-p1\nscopes: {charges: read}\ncustomers: any\nnetwork: [10.1.0.0/16]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := h.serve()
	h.ready()
	var created struct{ Key string }
	h.must(&created, "key", "create", "--policy", policy, "-o", "json")
	ask := func(s *server, forwarded string) answer {
		return call(t, http.DefaultClient, created.Key, "GET", s.Gateway+"/v1/charges", "", "X-Forwarded-For", forwarded)
	}
	if r := ask(s, "10.1.2.3"); r.Status != 401 || r.Code != "keybrake_key_network" {
		t.Errorf("anybody can say so: %+v", r)
	}
	_ = s.end()
	s = h.serve("--trusted-proxy", "127.0.0.0/8")
	if r := ask(s, "10.1.2.3"); r.Status != 200 {
		t.Errorf("behind the proxy: %+v", r)
	}
	if r := ask(s, "10.1.2.3, 192.0.2.1"); r.Status != 401 {
		t.Errorf("an address that the agent put in front: %+v", r)
	}
}

func TestAPolicyFileIsRefusedWithFileLineAndTheNearestName(t *testing.T) {
	h := newHome(t)
	h.serve()
	h.ready()
	file := filepath.Join(h.dir, "bad.yaml")
	text := "name: agent-x-y-1\nscopes:\n  refnds: write\ncaps:\n  - {resource: refunds, per: day, usd: -5}\nexpires: soon\nsurprise: 1\ncustomers: any\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := h.run("key", "create", "--policy", file)
	if r.Exit != 1 && r.Exit != 2 {
		t.Errorf("exit %d", r.Exit)
	}
	for _, want := range []string{"bad.yaml:3", "refunds", "bad.yaml:5", "bad.yaml:6", "bad.yaml:7", "surprise"} {
		if !strings.Contains(r.Err, want) {
			t.Errorf("%q is not in:\n%s", want, r.Err)
		}
	}
}
