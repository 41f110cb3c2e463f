// Package openid signs operators in through a real OpenID provider.
package openid

import (
	"bufio"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/keybrake/keybrake/test/binary"
)

// program is the path of the binary under test.
var program string

func TestMain(m *testing.M) { os.Exit(binary.Main(m, &program)) }

const returnPath = "/login/openid/return"

// place is a provider's process, a Keybrake that knows it, and the API of that.
type place struct {
	t            *testing.T
	provider     *exec.Cmd
	issuer       string
	admin, token string
	ready        string // the file that Keybrake wrote once it was ready
}

func newPlace(t *testing.T, settings string) *place {
	t.Helper()
	for what, err := range map[string]error{"needs node": look("node"), "needs `npm ci` in test/openid": stat("node_modules")} {
		if err != nil {
			binary.Missing(t, what)
		}
	}
	p := &place{t: t, provider: exec.Command("node", "provider.mjs")}
	in, err1 := p.provider.StdinPipe()
	out, err2 := p.provider.StdoutPipe()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	p.start(p.provider)
	said := bufio.NewScanner(out)
	if !said.Scan() {
		t.Fatal("the provider says nothing")
	}
	p.issuer = said.Text()
	p.serve(settings)
	if _, err := fmt.Fprintln(in, p.admin+returnPath); err != nil {
		t.Fatal(err)
	}
	if !said.Scan() || said.Text() != "ready" {
		t.Fatalf("the provider is not ready: %s", said.Text())
	}
	return p
}

func look(tool string) error { _, err := exec.LookPath(tool); return err }
func stat(path string) error { _, err := os.Stat(path); return err }

// start runs a process that ends with the test.
func (p *place) start(cmd *exec.Cmd) {
	p.t.Helper()
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // a test may have ended it
		_ = cmd.Wait()
	})
}

// serve runs a Keybrake with the provider in its config file.
func (p *place) serve(settings string) {
	p.t.Helper()
	dir := p.t.TempDir()
	config := fmt.Sprintf("openid:\n  issuer: %s\n  client_id: keybrake\n  client_secret_file: %s\n  label: Test ID\n%s", p.issuer, filepath.Join(dir, "secret"), settings)
	for name, text := range map[string]string{"keybrake.yaml": config, "secret": "a-secret-of-the-client\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			p.t.Fatal(err)
		}
	}
	server := binary.Serve(p.t, program, "--dev", "--config", filepath.Join(dir, "keybrake.yaml"))
	p.admin, p.token, p.ready = server.Admin, server.Token, server.ReadyFile
}

// ask calls the admin API as an admin and returns the answer.
func (p *place) ask(method, path, body string) string {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), method, p.admin+"/admin/v1/"+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+p.token)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("If-Match", "*") // for edits: nobody else makes any
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		p.t.Fatalf("%s %s: %d %s %v", method, path, resp.StatusCode, text, err)
	}
	return string(text)
}

// browser follows redirects, but stops before it goes back to Keybrake.
type browser struct {
	*place
	http.Client
}

func (p *place) browser() *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return &browser{p, http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if r.URL.Path == returnPath {
			return http.ErrUseLastResponse
		}
		return nil
	}}}
}

// page is an answer.
type page struct {
	status   int
	location string
	body     string
}

func (b *browser) get(address string) page {
	b.t.Helper()
	resp, err := b.Get(address)
	return b.read(resp, err)
}

func (b *browser) read(resp *http.Response, err error) page {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return page{resp.StatusCode, resp.Header.Get("Location"), string(text)}
}

var action = regexp.MustCompile(`action="([^"]+)"`)

// toProvider begins to sign in, does what the provider asks of somebody, and returns where it sends the browser back to.
func (b *browser) toProvider(name string) string {
	b.t.Helper()
	at := b.get(b.admin + "/login/openid?next=/keys?x=1")
	for _, form := range []url.Values{{"prompt": {"login"}, "login": {name}, "password": {"x"}}, {"prompt": {"consent"}}} {
		found := action.FindStringSubmatch(at.body)
		if found == nil {
			b.t.Fatalf("the provider shows no form: %d %s", at.status, at.body)
		}
		resp, err := b.PostForm(found[1], form)
		at = b.read(resp, err)
	}
	if !strings.HasPrefix(at.location, b.admin+returnPath+"?") {
		b.t.Fatalf("the provider leads to %q: %d %s", at.location, at.status, at.body)
	}
	return at.location
}

// in reports whether the browser has a session.
func (b *browser) in() bool {
	b.t.Helper()
	return !strings.Contains(b.get(b.admin+"/more").body, `id="token"`)
}

// kept is the cookie that waits for the provider's answer.
func (b *browser) kept() string {
	u, _ := url.Parse(b.admin)
	for _, c := range b.Jar.Cookies(u) {
		if c.Name == "keybrake_openid" {
			return c.Value
		}
	}
	return ""
}

func (b *browser) keep(value string) {
	u, _ := url.Parse(b.admin)
	b.Jar.SetCookies(u, []*http.Cookie{{Name: "keybrake_openid", Value: value, Path: "/"}})
}

func TestAnOperatorSignsInThroughAProvider(t *testing.T) {
	p := newPlace(t, "")
	p.ask("POST", "operators", `{"name":"ines","role":"responder","email":"ines@example.com"}`)
	b := p.browser()
	if login := b.get(p.admin + "/login?next=/keys"); !strings.Contains(login.body, `href="/login/openid?next=%2fkeys"`) || !strings.Contains(login.body, "Sign in with Test ID") {
		t.Fatalf("the page offers no provider: %s", login.body)
	}
	back := b.toProvider("ines")
	if b.in() {
		t.Fatal("in before the provider said anything")
	}
	if got := b.get(back); got.status != http.StatusOK || !strings.Contains(got.body, `content="0;url=/keys?x=1"`) {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if !b.in() {
		t.Fatal("not in afterwards")
	}
	if got := p.ask("GET", "sessions", ""); !strings.Contains(got, `"operator":"ines"`) || strings.Contains(got, `"token"`) {
		t.Errorf("%s", got)
	}
	if got := p.ask("GET", "audit?deeds=true&limit=1", ""); !strings.Contains(got, `"session.open"`) || !strings.Contains(got, "openid subject: (none) -> ines") {
		t.Errorf("the record: %s", got)
	}

	// The answer is good once, in the browser that asked.
	if got := b.get(back); got.status != http.StatusBadRequest {
		t.Errorf("the same answer again: %d", got.status)
	}
	other := p.browser()
	if got := other.get(back); got.status != http.StatusBadRequest || other.in() {
		t.Errorf("in another browser: %d", got.status)
	}

	// From now on the subject decides, whatever becomes of the email.
	p.ask("PATCH", "operators/ines", `{"email":"elsewhere@example.com"}`)
	if again := p.browser(); again.get(again.toProvider("ines")).status != http.StatusOK || !again.in() {
		t.Error("with another email the same person does not come in")
	}
	p.ask("PATCH", "operators/ines", `{"email":"ines@example.com"}`)
	refused := func(name, says string) {
		t.Helper()
		b := p.browser()
		if got := b.get(b.toProvider(name)); got.status != http.StatusForbidden || !strings.Contains(got.body, says) || b.in() {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	refused("twin", "somebody else")
	refused("mallory", "vouches for no email")
	refused("nina", "keybrake operator add NAME --role ROLE --email nina@new.example")
	p.ask("PATCH", "operators/ines", `{"disabled":true}`)
	if b.in() {
		t.Error("disabled, and the session goes on")
	}
	refused("ines", "disabled")
}

// People have a browser: scripts, policies on what forms and pages may do, cookies that do not go along from another site.
func TestInABrowserTheWayLeadsToTheProviderAndBack(t *testing.T) {
	for what, err := range map[string]error{"needs chromium": look("chromium"), "needs `npm ci` in test/browser": stat("../browser/node_modules")} {
		if err != nil {
			binary.Missing(t, what)
		}
	}
	p := newPlace(t, "")
	cmd := exec.Command("node", "--test", "--test-reporter=spec", "signin.test.js")
	cmd.Env = append(os.Environ(), "KEYBRAKE_READY="+p.ready)
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("node --test signin.test.js: %v", err)
	}
}

// onward is where a page leads by itself.
var onward = regexp.MustCompile(`http-equiv="refresh" content="0;url=([^"]+)"`)

func (b *browser) signOut() page {
	b.t.Helper()
	resp, err := b.PostForm(b.admin+"/logout", nil)
	return b.read(resp, err)
}

// asked reports whether the provider asks who it is, rather than say who it was before.
func (b *browser) asked() bool {
	b.t.Helper()
	return strings.Contains(b.get(b.admin+"/login/openid").body, `name="login"`)
}

func TestWhoSignsOutIsSignedOutAtTheProviderToo(t *testing.T) {
	p := newPlace(t, "")
	p.ask("POST", "operators", `{"name":"ines","role":"responder","email":"ines@example.com"}`)
	b := p.browser()
	b.get(b.toProvider("ines"))
	if !b.in() || b.asked() {
		t.Fatal("whoever has signed in at the provider is asked again")
	}
	left := b.signOut()
	to := onward.FindStringSubmatch(left.body)
	if to == nil || !strings.HasPrefix(to[1], p.issuer+"/session/end?") {
		t.Fatalf("a sign-out leads nowhere: %d %s", left.status, left.body)
	}
	if b.in() {
		t.Error("the session goes on")
	}
	at := b.get(html.UnescapeString(to[1]))
	form, token := action.FindStringSubmatch(at.body), regexp.MustCompile(`name="xsrf" value="([^"]+)"`).FindStringSubmatch(at.body)
	if form == nil || token == nil {
		t.Fatalf("the provider does not ask: %d %s", at.status, at.body)
	}
	resp, err := b.PostForm(form[1], url.Values{"xsrf": {token[1]}, "logout": {"yes"}})
	if got := b.read(resp, err); got.status != http.StatusOK || resp.Request.URL.String() != p.admin+"/login" || !strings.Contains(got.body, `id="token"`) {
		t.Errorf("the provider leads back to %s: %d", resp.Request.URL, got.status)
	}
	if !b.asked() {
		t.Error("the next one at this browser is taken for the last")
	}
}

func TestWhoCameInOtherwiseIsNotSentToTheProvider(t *testing.T) {
	p := newPlace(t, "")
	p.ask("POST", "operators", `{"name":"ines","role":"responder","email":"ines@example.com"}`)
	b := p.browser()
	b.get(b.toProvider("ines"))
	resp, err := b.PostForm(p.admin+"/login", url.Values{"token": {p.token}})
	if b.read(resp, err); !b.in() {
		t.Fatal("the token does not sign in")
	}
	if got := b.signOut(); onward.MatchString(got.body) || !strings.Contains(got.body, `id="token"`) {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestAnAnswerThatWasTamperedWithLetsNobodyIn(t *testing.T) {
	p := newPlace(t, "")
	p.ask("POST", "operators", `{"name":"ines","role":"admin","email":"ines@example.com"}`)
	change := func(part int) func(*browser, string) string {
		return func(b *browser, back string) string {
			parts := strings.Split(b.kept(), ".")
			parts[part] += "x"
			b.keep(strings.Join(parts, "."))
			return back
		}
	}
	for name, c := range map[string]struct {
		change func(*browser, string) string
		status int
	}{
		"another state kept":    {change(0), http.StatusBadRequest},
		"another nonce kept":    {change(1), http.StatusUnauthorized},
		"another verifier kept": {change(2), http.StatusUnauthorized},
		"nothing kept":          {func(b *browser, back string) string { b.keep(""); return back }, http.StatusBadRequest},
		"another code":          {func(_ *browser, back string) string { return strings.Replace(back, "code=", "code=x", 1) }, http.StatusUnauthorized},
		"another state":         {func(_ *browser, back string) string { return strings.Replace(back, "state=", "state=x", 1) }, http.StatusBadRequest},
		"another issuer":        {func(_ *browser, back string) string { return strings.Replace(back, "iss=", "iss=x", 1) }, http.StatusUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			b := p.browser()
			b.t = t
			if got := b.get(c.change(b, b.toProvider("ines"))); got.status != c.status || b.in() {
				t.Errorf("%d %s", got.status, got.body)
			}
		})
	}
}

func TestPeopleOfADomainMayGetAnAccountByThemselves(t *testing.T) {
	p := newPlace(t, "  create_role: auditor\n  create_domain: new.example\n")
	b := p.browser()
	if got := b.get(b.toProvider("nina")); got.status != http.StatusOK || !b.in() {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if got := p.ask("GET", "operators/nina@new.example", ""); !strings.Contains(got, `"role":"auditor"`) || !strings.Contains(got, `"openid":true`) {
		t.Errorf("%s", got)
	}
	other := p.browser()
	if got := other.get(other.toProvider("ines")); got.status != http.StatusForbidden {
		t.Errorf("of another domain: %d", got.status)
	}
}

func TestWithoutTheProviderATokenStillSignsIn(t *testing.T) {
	p := newPlace(t, "")
	_ = p.provider.Process.Kill()
	_ = p.provider.Wait()
	b := p.browser()
	if got := b.get(p.admin + "/login/openid"); got.status != http.StatusServiceUnavailable || !strings.Contains(got.body, "Sign in with a token meanwhile") {
		t.Errorf("%d %s", got.status, got.body)
	}
	resp, err := b.PostForm(p.admin+"/login", url.Values{"token": {p.token}})
	if got := b.read(resp, err); got.status != http.StatusOK || !b.in() {
		t.Errorf("%d %s", got.status, got.body)
	}
}
