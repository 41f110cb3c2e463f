package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var doctorsDay = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

// found are the findings of one check as lines: level and text.
func (d *doctor) found(check string) string {
	var out []string
	for _, f := range d.out.Findings {
		if f.Check == check {
			out = append(out, string(f.Level)+": "+f.Found)
			if (f.Level == failure || f.Level == warning) && f.Do == "" {
				out = append(out, "and it does not say what to do")
			}
		}
	}
	return strings.Join(out, "\n")
}

// certificate writes a pair for a name that is good between two times.
func certificate(t *testing.T, name string, from, until time.Time) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: from, NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, f := range []struct {
		path *string
		name string
		kind string
		der  []byte
	}{{&cert, "cert.pem", "CERTIFICATE", der}, {&key, "key.pem", "PRIVATE KEY", secret}} {
		*f.path = filepath.Join(dir, f.name)
		if err := os.WriteFile(*f.path, pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: f.der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestTheDoctorLooksAtTheCertificate(t *testing.T) {
	year := 365 * 24 * time.Hour
	for name, tt := range map[string]struct {
		from, until time.Time
		host        string
		want        string
	}{
		"a good one":             {doctorsDay.Add(-year), doctorsDay.Add(year), "keybrake.example.com", "ok: the certificate fits"},
		"one that ends soon":     {doctorsDay.Add(-year), doctorsDay.Add(20 * 24 * time.Hour), "keybrake.example.com", "warn: the certificate ends"},
		"one that ends tomorrow": {doctorsDay.Add(-year), doctorsDay.Add(24 * time.Hour), "keybrake.example.com", "fail: the certificate ends"},
		"one that has ended":     {doctorsDay.Add(-year), doctorsDay, "keybrake.example.com", "fail: the certificate ended"},
		"one that has not begun": {doctorsDay.Add(time.Hour), doctorsDay.Add(year), "keybrake.example.com", "fail: the certificate begins"},
		"one of another name":    {doctorsDay.Add(-year), doctorsDay.Add(year), "other.example.com", "fail: the certificate is not for other.example.com"},
	} {
		t.Run(name, func(t *testing.T) {
			d := &doctor{now: doctorsDay, settings: settings{AdminHost: []string{tt.host}}}
			d.settings.TLSCert, d.settings.TLSKey = certificate(t, "keybrake.example.com", tt.from, tt.until)
			if d.checkTLS(); !strings.Contains(d.found("tls"), tt.want) {
				t.Errorf("it says %q", d.found("tls"))
			}
		})
	}
	t.Run("a key of another certificate", func(t *testing.T) {
		d := &doctor{now: doctorsDay}
		d.settings.TLSCert, _ = certificate(t, "a", doctorsDay.Add(-year), doctorsDay.Add(year))
		_, d.settings.TLSKey = certificate(t, "a", doctorsDay.Add(-year), doctorsDay.Add(year))
		if d.checkTLS(); !strings.HasPrefix(d.found("tls"), "fail: ") {
			t.Errorf("it says %q", d.found("tls"))
		}
	})
}

func TestTheDoctorLooksWhoCanReachThePorts(t *testing.T) {
	for name, tt := range map[string]struct {
		settings settings
		want     string
	}{
		"this machine alone":       {settings{GatewayListen: "127.0.0.1:8787", AdminListen: "[::1]:8788"}, "ok: 127.0.0.1:8787 for agents"},
		"all the world":            {settings{GatewayListen: "0.0.0.0:8787", AdminListen: "127.0.0.1:8788"}, "fail: 0.0.0.0:8787 for agents: reachable from elsewhere without TLS"},
		"behind a proxy":           {settings{GatewayListen: ":8787", AdminListen: "127.0.0.1:8788", AllowPlainHTTP: true}, "warn: :8787 for agents"},
		"operators from elsewhere": {settings{GatewayListen: "127.0.0.1:8787", AdminListen: "10.0.0.1:8788", TLSCert: "x"}, "warn: 10.0.0.1:8788 for operators"},
		"no port":                  {settings{GatewayListen: "localhost", AdminListen: "127.0.0.1:8788"}, `fail: "localhost" for agents is no address`},
	} {
		t.Run(name, func(t *testing.T) {
			d := &doctor{settings: tt.settings}
			if d.checkListeners(); !strings.Contains(d.found("listen"), tt.want) {
				t.Errorf("it says %q", d.found("listen"))
			}
		})
	}
}

func TestTheDoctorLooksWhoElseCanReadWhatIsSecret(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	for name, tt := range map[string]struct {
		spoil func(t *testing.T, dir string)
		want  string
	}{
		"all is well":                  {func(*testing.T, string) {}, "ok: store, keys and settings are this user's alone"},
		"a store that others read":     {func(t *testing.T, dir string) { mode(t, dir+"/kb.db", 0o644) }, "/kb.db has mode 0644"},
		"a master key of the group's":  {func(t *testing.T, dir string) { mode(t, dir+"/kb.db.key", 0o640) }, "/kb.db.key has mode 0640"},
		"a config that others write":   {func(t *testing.T, dir string) { mode(t, dir+"/keybrake.yaml", 0o666) }, "/keybrake.yaml has mode 0666"},
		"a folder that others write":   {func(t *testing.T, dir string) { mode(t, dir, 0o777) }, "has mode 0777: others can put another store in its place"},
		"a store without a master key": {func(t *testing.T, dir string) { remove(t, dir+"/kb.db.key") }, "kb.db.key is not there, and the store is"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			mode(t, dir, 0o700)
			for _, f := range []string{"kb.db", "kb.db.key", "keybrake.yaml"} {
				if err := os.WriteFile(filepath.Join(dir, f), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			tt.spoil(t, dir)
			d := &doctor{settings: settings{Store: "sqlite:" + filepath.Join(dir, "kb.db")}, configFile: filepath.Join(dir, "keybrake.yaml")}
			d.checkFiles()
			if all := d.found("files") + "\n" + d.found("master key"); !strings.Contains(all, tt.want) {
				t.Errorf("it says %q", all)
			}
			if bad := name != "all is well"; bad != (d.out.Failures > 0) {
				t.Errorf("%d failures", d.out.Failures)
			}
		})
	}
}

func mode(t *testing.T, path string, m os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, m); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func TestTheDoctorHoldsTheClockAgainstTheVendors(t *testing.T) {
	for name, tt := range map[string]struct {
		off  time.Duration // of the vendor's clock
		want string
	}{
		"the same time":       {0, "ok: agrees"},
		"ten seconds behind":  {10 * time.Second, "warn: this machine's clock is "},
		"an hour ahead":       {-time.Hour, "fail: this machine's clock is "},
		"most of a second on": {-900 * time.Millisecond, "ok: agrees"},
	} {
		t.Run(name, func(t *testing.T) {
			vendor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Date", time.Now().Add(tt.off).UTC().Format(http.TimeFormat))
			}))
			defer vendor.Close()
			d := &doctor{now: time.Now()}
			if d.clockAt(t.Context(), []string{vendor.URL, vendor.URL}); !strings.HasPrefix(d.found("clock"), tt.want) || len(d.out.Findings) != 1 {
				t.Errorf("it says %q", d.found("clock"))
			}
		})
	}
	d := &doctor{now: time.Now()}
	if d.clockAt(t.Context(), []string{"http://127.0.0.1:1"}); !strings.HasPrefix(d.found("clock"), "warn: http://127.0.0.1:1 could not be asked") {
		t.Errorf("it says %q", d.found("clock"))
	}
}

func TestTheDoctorReadsAStoreThatNoServerHas(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kb.db")
	d := &doctor{settings: settings{Store: "sqlite:" + path}}
	if d.checkStore(t.Context()); !strings.Contains(d.found("store"), "skip: ") {
		t.Errorf("of one that there is not it says %q", d.found("store"))
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	d = &doctor{settings: d.settings}
	if d.checkStore(t.Context()); !strings.HasPrefix(d.found("store"), "fail: "+path) {
		t.Errorf("of a file that is none it says %q", d.found("store"))
	}
}
