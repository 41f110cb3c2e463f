package vault

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/policy"
	"pgregory.net/rapid"
)

const canary = "rk_test_canary0123456789canary"

func TestASecretNeverPrints(t *testing.T) {
	s := NewSecret(canary)
	type holder struct {
		Shown  Secret
		hidden Secret
		ptr    *Secret
	}
	up := Upstream{Name: "u", secret: s}
	values := map[string]any{
		"itself": s, "pointer": &s, "in a struct": holder{s, s, &s}, "struct pointer": &holder{s, s, &s},
		"in a slice": []Secret{s}, "in a map": map[string]Secret{"k": s}, "an upstream": up, "upstream pointer": &up,
		"as a map key's struct": map[string]holder{"k": {Shown: s, hidden: s}},
	}
	for name, v := range values {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%p"} {
				fmt.Fprintf(&out, verb+"\n", v)
			}
			log := slog.New(slog.NewTextHandler(&out, nil))
			log.Info("m", "v", v)
			slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "v", v)
			fmt.Fprintln(&out, fmt.Errorf("wrapped: %v", v))
			if b, err := json.Marshal(v); err == nil {
				out.Write(b)
			}
			for _, form := range []string{canary, "canary", fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary), base64.StdEncoding.EncodeToString([]byte(canary))} {
				if strings.Contains(out.String(), form) {
					t.Errorf("printed %q in:\n%s", form, out.String())
				}
			}
		})
	}
	if s.Reveal() != canary {
		t.Error("Reveal does not return the text")
	}
	if !(Secret{}).IsZero() || (Secret{}).Reveal() != "" {
		t.Error("the zero Secret is not empty")
	}
}

func TestAMasterKeyIsMadeOnceAndReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.key")
	first, created, err := LoadOrCreateMaster(path)
	if err != nil || !created {
		t.Fatalf("first start: created=%v err=%v", created, err)
	}
	second, created, err := LoadOrCreateMaster(path)
	if err != nil || created {
		t.Fatalf("second start: created=%v err=%v", created, err)
	}
	if first.CheckValue() != second.CheckValue() || !bytes.Equal(first.PublicKey(), second.PublicKey()) {
		t.Error("the same file gave two master keys")
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, err %v; want 0600", info.Mode(), err)
	}
	if text, _ := os.ReadFile(path); !regexp.MustCompile(`^keybrake-master-v1:[0-9a-f]{64}\n$`).Match(text) {
		t.Errorf("the file is not in its documented format (%d bytes)", len(text))
	}
}

func TestABadMasterKeyFileIsRefused(t *testing.T) {
	good := masterPrefix + strings.Repeat("ab", 32)
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		want error
	}{
		"readable by the group":     {good, 0o640, ErrMasterExposed},
		"readable by everybody":     {good, 0o604, ErrMasterExposed},
		"writable by the group":     {good, 0o620, ErrMasterExposed},
		"empty":                     {"", 0o600, ErrMasterMalformed},
		"cut":                       {good[:len(good)-2], 0o600, ErrMasterMalformed},
		"too long":                  {good + "ab", 0o600, ErrMasterMalformed},
		"two lines":                 {good + "\n" + good, 0o600, ErrMasterMalformed},
		"not hex":                   {masterPrefix + strings.Repeat("zz", 32), 0o600, ErrMasterMalformed},
		"without its prefix":        {strings.Repeat("ab", 32), 0o600, ErrMasterMalformed},
		"good":                      {good + "\n", 0o600, nil},
		"good, without a line end":  {good, 0o400, nil},
		"good, with a Windows line": {good + "\r\n", 0o600, nil},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "k")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, c.mode); err != nil {
				t.Fatal(err)
			}
			m, created, err := LoadOrCreateMaster(path)
			if !errors.Is(err, c.want) || created || (m != nil) != (c.want == nil) {
				t.Fatalf("got master %v, created %v, err %v; want %v", m != nil, created, err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), strings.Repeat("ab", 8)) {
				t.Error("the error shows the key")
			}
		})
	}
	if _, _, err := LoadOrCreateMaster(t.TempDir()); err == nil {
		t.Error("a directory passed for a key file")
	}
	if _, _, err := LoadOrCreateMaster(filepath.Join(t.TempDir(), "no", "such", "dir", "k")); err == nil {
		t.Error("a missing directory went unnoticed")
	}
}

func TestASealedSecretOpensOnlyWhereItWasSealed(t *testing.T) {
	m, other := master(t), master(t)
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[a-z|]{0,4}`)
		bind := func(label string) Binding {
			return Binding{word.Draw(t, label+"table"), word.Draw(t, label+"id"), word.Draw(t, label+"field"), rapid.Int64Range(0, 3).Draw(t, label+"version")}
		}
		a, b := bind("a"), bind("b")
		plain := rapid.String().Draw(t, "plain")
		sealed, err := m.Seal(a, NewSecret(plain))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := m.Open(a, sealed); err != nil || got.Reveal() != plain {
			t.Fatalf("open where it was sealed: %q, %v", got.Reveal(), err)
		}
		if _, err := m.Open(b, sealed); a != b && !errors.Is(err, ErrSealed) {
			t.Fatalf("sealed for %+v, opened for %+v: %v", a, b, err)
		}
		if _, err := other.Open(a, sealed); !errors.Is(err, ErrSealed) {
			t.Fatalf("another master key opened it: %v", err)
		}
		i := rapid.IntRange(0, len(sealed)-1).Draw(t, "at")
		changed := bytes.Clone(sealed)
		changed[i] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, err := m.Open(a, changed); !errors.Is(err, ErrSealed) {
			t.Fatalf("a flipped bit at %d went unnoticed: %v", i, err)
		}
		if _, err := m.Open(a, sealed[:i]); !errors.Is(err, ErrSealed) {
			t.Fatalf("cut to %d bytes it opened: %v", i, err)
		}
	})
}

var scanner = regexp.MustCompile(`^vault_key_(test|live)_[0-9A-Za-z]{33}$`)

func TestAMintedKeyIsWellFormedAndAnyOneChangeIsNot(t *testing.T) {
	m := master(t)
	rapid.Check(t, func(t *rapid.T) {
		mode := rapid.SampledFrom([]Mode{Test, Live}).Draw(t, "mode")
		secret, digest, tail := m.Mint(mode)
		text := secret.Reveal()
		p, ok := ParsePresented(text)
		if !ok || p.Mode() != mode || !scanner.MatchString(text) || !strings.HasSuffix(text, string(tail[:])) {
			t.Fatalf("minted %s key: ok=%v mode=%v form=%v", mode, ok, p.Mode(), scanner.MatchString(text))
		}
		if !m.Digest(p).Equal(digest) {
			t.Fatal("digest of the presented key differs from the minted one's")
		}
		i := rapid.IntRange(0, len(text)-1).Draw(t, "at")
		c := rapid.Byte().Draw(t, "byte")
		if changed := text[:i] + string([]byte{c}) + text[i+1:]; changed != text {
			if _, ok := ParsePresented(changed); ok {
				t.Fatalf("changed at %d it still parses", i)
			}
		}
		if _, ok := ParsePresented(text[:i]); ok {
			t.Fatal("cut it still parses")
		}
	})
	if _, ok := ParsePresented(strings.Replace(mint(t, m, Test), "_test_", "_live_", 1)); ok {
		t.Error("a test key passes for a live one")
	}
}

func FuzzParsePresented(f *testing.F) {
	m, err := EphemeralMaster()
	if err != nil {
		f.Fatal(err)
	}
	secret, _, _ := m.Mint(Live)
	for _, seed := range []string{"", "vault_key_live_", secret.Reveal(), "sk_test_123", "vault_key_test_" + strings.Repeat("0", 33)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, ok := ParsePresented(text)
		if ok != (p.Mode() != 0) {
			t.Fatalf("ok=%v with mode %v", ok, p.Mode())
		}
		if ok && !scanner.MatchString(text) {
			t.Fatalf("%q parses but scanners would not find it", text)
		}
		masked := Mask(text)
		for _, p := range knownPrefixes {
			masked = strings.TrimPrefix(masked, p)
		}
		if len(strings.TrimPrefix(masked, "…")) > 4 {
			t.Fatalf("the mask shows more than four characters: %q", masked)
		}
	})
}

func TestAMaskShowsThePrefixAndAtMostFour(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "…",
		"short":                             "…",
		"sk_live_short":                     "sk_live_…",
		"sk_live_0123456789abcdefghWXYZ":    "sk_live_…WXYZ",
		"something-long-without-prefix-abc": "…",
		"vault_key_test_0123456789abcdefgh": "vault_key_test_…efgh",
	} {
		if got := Mask(text); got != want {
			t.Errorf("Mask(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestPresentedFrom(t *testing.T) {
	basic := func(s string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(s)) }
	for name, c := range map[string]struct {
		values []string
		want   string
	}{
		"bearer":                      {[]string{"Bearer k"}, "k"},
		"bearer in any case":          {[]string{"bEARER k"}, "k"},
		"basic as stripe's curl":      {[]string{basic("k:")}, "k"},
		"basic without a colon":       {[]string{basic("k")}, "k"},
		"basic with a password":       {[]string{basic("k:p")}, ""},
		"basic without a user":        {[]string{basic(":")}, ""},
		"basic that is not base64":    {[]string{"Basic !"}, ""},
		"no header":                   {nil, ""},
		"an empty header":             {[]string{""}, ""},
		"two headers":                 {[]string{"Bearer a", "Bearer a"}, ""},
		"another scheme":              {[]string{"Digest a"}, ""},
		"a scheme alone":              {[]string{"Bearer"}, ""},
		"a scheme and nothing behind": {[]string{"Bearer  "}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := PresentedFrom(c.values)
			if got != c.want || ok != (c.want != "") {
				t.Errorf("got %q, %v; want %q", got, ok, c.want)
			}
		})
	}
}

func TestASecretIsAttachedToThePinnedHostOnly(t *testing.T) {
	base, _ := url.Parse("https://api.stripe.com")
	up := &Upstream{Name: "u", BaseURL: base, secret: NewSecret(canary)}
	for target, want := range map[string]error{
		"https://api.stripe.com/v1/refunds":           nil,
		"http://api.stripe.com/v1/refunds":            ErrNotPinned,
		"https://api.stripe.com:8443/v1/refunds":      ErrNotPinned,
		"https://api.stripe.com.evil.test/":           ErrNotPinned,
		"https://evil.test/":                          ErrNotPinned,
		"https://user@api.stripe.com/v1/refunds":      ErrNotPinned,
		"https:api.stripe.com/v1/refunds":             ErrNotPinned,
		"https://evil.test/https://api.stripe.com/v1": ErrNotPinned,
	} {
		u, err := url.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		req := &http.Request{URL: u, Header: http.Header{"authorization": {"Bearer other"}}}
		if err := up.Attach(req); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", target, err, want)
		}
		sent := fmt.Sprint(req.Header)
		if strings.Contains(sent, canary) != (want == nil) || want == nil && strings.Contains(sent, "other") {
			t.Errorf("%s: headers are wrong", target)
		}
	}
	u, _ := url.Parse("https://api.stripe.com/v1")
	if err := up.Attach(&http.Request{URL: u, Host: "evil.test"}); !errors.Is(err, ErrNotPinned) {
		t.Errorf("another Host header: %v", err)
	}
	files, _ := url.Parse("https://files.stripe.com")
	if err := up.Attach(&http.Request{URL: files}); !errors.Is(err, ErrNotPinned) {
		t.Errorf("a host that nobody pinned: %v", err)
	}
	up.beside = []*url.URL{base, files}
	for target, want := range map[string]error{
		"https://api.stripe.com/v1/files":        nil,
		"https://files.stripe.com/v1/files":      nil,
		"http://files.stripe.com/v1/files":       ErrNotPinned,
		"https://files.stripe.com.evil.test/":    ErrNotPinned,
		"https://connect.stripe.com/oauth/token": ErrNotPinned,
	} {
		u, _ := url.Parse(target)
		if err := up.Attach(&http.Request{URL: u}); !errors.Is(err, want) {
			t.Errorf("%s beside: %v, want %v", target, err, want)
		}
	}
	if err := (&Upstream{BaseURL: base}).Attach(&http.Request{URL: u}); err == nil {
		t.Error("an upstream without an open secret attached something")
	}
}

func TestUpstreamIdempotencyKeysKeepPrincipalsApart(t *testing.T) {
	m := master(t)
	rapid.Check(t, func(t *rapid.T) {
		type in struct {
			k policy.KeyID
			a policy.AccountID
			s string
		}
		draw := func(l string) in {
			w := rapid.StringMatching(`[ab]{0,3}`)
			return in{policy.KeyID(w.Draw(t, l+"k")), policy.AccountID(w.Draw(t, l+"a")), w.Draw(t, l+"s")}
		}
		x, y := draw("x"), draw("y")
		kx, ky := m.UpstreamIdempotencyKey(x.k, x.a, x.s), m.UpstreamIdempotencyKey(y.k, y.a, y.s)
		if (kx == ky) != (x == y) || len(kx) > 255 {
			t.Fatalf("%+v -> %s, %+v -> %s", x, kx, y, ky)
		}
	})
}

func TestZeroValuesGrantNothing(t *testing.T) {
	if Brake(0) != Stopped || Brake(0).passes(false) || Brake(0).passes(true) {
		t.Error("the zero Brake lets something pass")
	}
	if Role(0).May(ToStop) || RoleAdmin.May(Right(0)) || Role(99).May(ToSee) {
		t.Error("a role that is none may something, or a right that is none is given")
	}
	if _, ok := ParseMode(Mode(0).String()); ok {
		t.Error("the zero Mode parses")
	}
	if b, ok := ParseBrake("norml"); ok || b != Stopped {
		t.Error("a misspelled brake is not stopped")
	}
	for _, b := range []Brake{Stopped, ReadOnly, Normal} {
		if got, ok := ParseBrake(b.String()); !ok || got != b {
			t.Errorf("%v reads back as %v", b, got)
		}
	}
}

func TestRolesAreALadder(t *testing.T) {
	for role, may := range map[Role]string{
		RoleStop: "stop", RoleAuditor: "stop see", RoleResponder: "stop see lower", RoleAdmin: "stop see lower change",
	} {
		var got []string
		for right := ToStop; right <= ToChange; right++ {
			if role.May(right) {
				got = append(got, right.String())
			}
		}
		if strings.Join(got, " ") != may {
			t.Errorf("%v may %v", role, got)
		}
		if back, ok := ParseRole(role.String()); !ok || back != role {
			t.Errorf("%v reads back as %v", role, back)
		}
	}
	if r, ok := ParseRole("operator"); !ok || r != RoleAdmin {
		t.Error("the old word for admin is not understood")
	}
	if _, ok := ParseRole(Role(0).String()); ok {
		t.Error("no role is a role")
	}
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"agent-support-refunds-runner42": true, "a": true, "team/agent:1@x_y.z": true,
		"": false, "-x": false, "a b": false, "key_x": false, "up_x": false, "a\n": false, "=1": false, "ü": false,
		strings.Repeat("a", MaxName): true, strings.Repeat("a", MaxName+1): false,
	} {
		if err := CheckName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func master(t testing.TB) *Master {
	t.Helper()
	m, err := EphemeralMaster()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func mint(t testing.TB, m *Master, mode Mode) string {
	t.Helper()
	s, _, _ := m.Mint(mode)
	return s.Reveal()
}
