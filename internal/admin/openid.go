package admin

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

// OpenIDConfig says which OpenID provider vouches for operators. It comes from the config file alone.
type OpenIDConfig struct {
	Issuer       string
	ClientID     string
	ClientSecret vault.Secret
	// Redirect is the console's address to which the provider sends browsers back, as it is registered there.
	Redirect func() string
	// SignedOut is the console's address to which the provider may send browsers back after they have signed out there too.
	SignedOut func() string
	// Label is what people call the provider; empty: its host.
	Label string
	// CreateRole is the role of the accounts that are made for people whom nobody has added, and CreateDomain where their
	// verified email must be. Zero: nobody gets an account by themselves.
	CreateRole   vault.Role
	CreateDomain string
}

const (
	// openIDWait bounds what we wait for the provider in all.
	openIDWait = 10 * time.Second
	// openIDAgain is for how long a provider that did not answer is not asked again.
	openIDAgain = 5 * time.Second
	// maxOpenIDAnswer bounds what is read of each answer.
	maxOpenIDAnswer = 1 << 20
)

// openID is the provider, as far as it has told about itself. It is asked at the first sign-in: Keybrake starts without it.
type openID struct {
	config OpenIDConfig
	client *http.Client
	now    func() time.Time

	mu       sync.Mutex
	provider *oidc.Provider
	failed   error
	tried    time.Time
}

func newOpenID(c OpenIDConfig, now func() time.Time) *openID {
	return &openID{config: c, now: now, client: &http.Client{
		Transport: careful{&http.Transport{Proxy: nil, TLSHandshakeTimeout: openIDWait, ResponseHeaderTimeout: openIDWait}},
		Timeout:   openIDWait, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// careful speaks plainly with this machine alone, and reads no more of an answer than there may be.
type careful struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (c careful) RoundTrip(r *http.Request) (*http.Response, error) {
	if !private(r.URL) {
		return nil, fmt.Errorf("%s is not https", r.URL.Redacted())
	}
	resp, err := c.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = bounded{io.LimitReader(resp.Body, maxOpenIDAnswer), resp.Body}
	return resp, nil
}

// private reports whether nobody reads along on the way to an address.
func private(u *url.URL) bool {
	return u.Scheme == "https" || u.Scheme == "http" && loopback(u.Hostname())
}

type bounded struct {
	io.Reader
	io.Closer
}

// discover asks the provider about itself, once.
func (o *openID) discover(ctx context.Context) (*oidc.Provider, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.provider != nil {
		return o.provider, nil
	}
	now := o.now()
	if o.failed != nil && now.Sub(o.tried) < openIDAgain {
		return nil, o.failed
	}
	// The provider keeps this context's client for its keys, but not its end.
	p, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), o.client), o.config.Issuer)
	o.provider, o.failed, o.tried = p, err, now
	return p, err
}

func (o *openID) oauth(p *oidc.Provider) *oauth2.Config {
	return &oauth2.Config{
		ClientID: o.config.ClientID, ClientSecret: o.config.ClientSecret.Reveal(), Endpoint: p.Endpoint(),
		RedirectURL: o.config.Redirect(), Scopes: []string{oidc.ScopeOpenID, "email", "profile"},
	}
}

// OpenIDLabel names the provider through which operators can sign in; false if there is none.
func (s *Service) OpenIDLabel() (label string, ok bool) {
	if s.openID == nil {
		return "", false
	}
	u, err := url.Parse(s.openID.config.Issuer)
	if err != nil {
		return s.openID.config.Label, true
	}
	return cmp.Or(s.openID.config.Label, u.Hostname()), true
}

// flow is what a browser keeps, in a cookie of its own, while somebody is at the provider: what the answer must match.
type flow struct{ state, nonce, verifier, next string }

func (f flow) String() string {
	return strings.Join([]string{f.state, f.nonce, f.verifier, base64.RawURLEncoding.EncodeToString([]byte(f.next))}, ".")
}

func parseFlow(text string) (flow, bool) {
	parts := strings.Split(text, ".")
	if len(parts) != 4 || parts[0] == "" || parts[1] == "" || parts[2] == "" {
		return flow{}, false
	}
	next, err := base64.RawURLEncoding.DecodeString(parts[3])
	return flow{parts[0], parts[1], parts[2], string(next)}, err == nil
}

// BeginOpenID starts a sign-in at the provider: at is where the browser goes, keep what it must bring back, in a cookie.
func (s *Service) BeginOpenID(ctx context.Context, next string) (at, keep string, err error) {
	if s.openID == nil {
		return "", "", refuse(NotFound, "this server knows no OpenID provider; sign in with a token")
	}
	p, err := s.openID.discover(ctx)
	if err != nil {
		s.Log.Error("the OpenID provider does not answer", "issuer", s.openID.config.Issuer, "error", err)
		return "", "", refuse(Unavailable, "the OpenID provider does not answer as it should; the server's log says more. Sign in with a token meanwhile")
	}
	f := flow{rand.Text(), rand.Text(), oauth2.GenerateVerifier(), next}
	return s.openID.oauth(p).AuthCodeURL(f.state, oidc.Nonce(f.nonce), oauth2.S256ChallengeOption(f.verifier)), f.String(), nil
}

// FinishOpenID takes a browser that comes back from the provider: kept is what it kept, answer what the provider had it
// say. next is where it wanted to go.
func (s *Service) FinishOpenID(ctx context.Context, kept string, answer url.Values, v Visitor) (entry Entry, next string, err error) {
	if s.openID == nil {
		return Entry{}, "", refuse(NotFound, "this server knows no OpenID provider; sign in with a token")
	}
	f, ok := parseFlow(kept)
	if !ok || subtle.ConstantTimeCompare([]byte(f.state), []byte(answer.Get("state"))) != 1 {
		return Entry{}, "", refuse(Invalid, "this answer of the provider belongs to no sign-in of this browser's, or it took longer than ten minutes; begin again")
	}
	entry, err = s.knock(v, func() (Entry, error) {
		who, err := s.openID.person(ctx, f, answer)
		if err != nil {
			return Entry{}, err
		}
		entry, err := s.admit(ctx, who, v)
		entry.IDToken = who.token
		return entry, err
	})
	return entry, f.next, err
}

// person is who the provider says it is.
type person struct {
	subject string
	email   string // empty: the provider does not vouch for one
	token   string // with which the provider says so
}

// LeaveOpenID is where a browser goes to sign out at the provider too (OpenID Connect RP-Initiated Logout); idToken is what it came
// in with. False: it came in otherwise, or the provider does not end sessions for others, or does not answer.
func (s *Service) LeaveOpenID(ctx context.Context, idToken string) (at string, ok bool) {
	if s.openID == nil || idToken == "" {
		return "", false
	}
	p, err := s.openID.discover(ctx)
	if err != nil {
		return "", false
	}
	var told struct {
		EndSession string `json:"end_session_endpoint"`
	}
	if err := p.Claims(&told); err != nil || told.EndSession == "" {
		return "", false
	}
	u, err := url.Parse(told.EndSession)
	if err != nil || !private(u) {
		s.Log.Warn("the OpenID provider's address to sign out at is not https", "address", told.EndSession)
		return "", false
	}
	q := u.Query()
	q.Set("id_token_hint", idToken)
	q.Set("client_id", s.openID.config.ClientID)
	q.Set("post_logout_redirect_uri", s.openID.config.SignedOut())
	u.RawQuery = q.Encode()
	return u.String(), true
}

// person redeems the provider's answer.
func (o *openID) person(ctx context.Context, f flow, answer url.Values) (person, error) {
	if code := answer.Get("error"); code != "" {
		return person{}, refuse(Forbidden, "the provider did not let you in: %s", short(strings.TrimSpace(code+" "+answer.Get("error_description"))))
	}
	if iss := answer.Get("iss"); iss != "" && iss != o.config.Issuer {
		return person{}, refuse(Stranger, "the answer is another provider's")
	}
	ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, o.client), openIDWait)
	defer cancel()
	p, err := o.discover(ctx)
	if err != nil {
		return person{}, refuse(Unavailable, "the OpenID provider does not answer; sign in with a token meanwhile")
	}
	token, err := o.oauth(p).Exchange(ctx, answer.Get("code"), oauth2.VerifierOption(f.verifier))
	var refused *oauth2.RetrieveError
	switch {
	case errors.As(err, &refused):
		return person{}, refuse(Stranger, "the provider does not stand by its answer (%s); begin again", short(refused.ErrorCode))
	case err != nil:
		return person{}, refuse(Unavailable, "the OpenID provider does not answer; sign in with a token meanwhile")
	}
	raw, _ := token.Extra("id_token").(string)
	id, err := p.VerifierContext(ctx, &oidc.Config{ClientID: o.config.ClientID, Now: o.now}).Verify(ctx, raw)
	if err != nil || subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(f.nonce)) != 1 || id.Subject == "" {
		return person{}, refuse(Stranger, "what the provider says of you does not hold: its signature, time, audience or nonce is wrong")
	}
	var claims emailClaims
	if err := id.Claims(&claims); err != nil {
		return person{}, refuse(Stranger, "what the provider says of you cannot be read")
	}
	if claims.Email == "" && p.UserInfoEndpoint() != "" { // many keep it out of the token
		info, err := p.UserInfo(ctx, oauth2.StaticTokenSource(token))
		if err == nil && info.Subject == id.Subject {
			err = info.Claims(&claims)
		}
		if err != nil {
			return person{}, refuse(Unavailable, "the OpenID provider does not say who you are; sign in with a token meanwhile")
		}
	}
	return person{id.Subject, claims.vouched(), raw}, nil
}

// emailClaims are what a provider says of an email.
type emailClaims struct {
	Email    string `json:"email"`
	Verified any    `json:"email_verified"` // true; some write "true"
}

func (c emailClaims) vouched() string {
	if c.Verified != true && c.Verified != "true" {
		return ""
	}
	return strings.ToLower(c.Email)
}

func short(text string) string {
	if len(text) > 200 {
		return strings.ToValidUTF8(text[:200], "") + "…"
	}
	return text
}

// admit opens a session for whoever the provider vouches for, if they have an account. Who comes for the first time is told by
// the email that an admin has put there; from then on by the provider's own name for them.
func (s *Service) admit(ctx context.Context, p person, v Visitor) (entry Entry, err error) {
	who := Actor{Name: cmp.Or(p.email, "somebody"), From: v.From}
	if row, ok := s.roster.Load().person(s.openID.config.Issuer, p); ok {
		who.Name = row.Name
	}
	err = s.changeRoster(ctx, who, "session.open", func(tx store.Tx, rec *audit.Record, r *roster) error {
		row, change, err := s.accountOf(r, p, tx.Now())
		if err != nil {
			return err
		}
		rec.Subject, rec.Diff = "session of "+row.Name, joined("with: OpenID", change)
		if _, known := r.operators[row.ID]; !known {
			rec.Action, rec.Subject = "operator.create", "operator "+row.Name
		}
		if change != "" {
			if err := tx.PutOperator(row); err != nil {
				return err
			}
		}
		role, _ := vault.ParseRole(row.Role)
		entry, err = s.openSession(tx, r, Actor{Name: row.Name, Role: role, Operator: row.ID}, v)
		return err
	})
	return entry, err
}

// person finds the account of somebody whom the provider vouches for.
func (r *roster) person(issuer string, p person) (row store.OperatorRow, ok bool) {
	for _, o := range r.operators {
		if o.Subject == p.subject && o.Issuer == issuer {
			return o, true
		}
		if p.email != "" && o.Email == p.email {
			row, ok = o, true
		}
	}
	return row, ok
}

// accountOf finds or makes the account; change is what is new about it, a line or more of a record's difference.
func (s *Service) accountOf(r *roster, p person, now time.Time) (row store.OperatorRow, change string, err error) {
	c := s.openID.config
	row, known := r.person(c.Issuer, p)
	switch {
	case known && !row.Disabled.IsZero():
		return row, "", refuse(Forbidden, "the account %s is disabled; an admin can enable it", row.Name)
	case known && row.Subject == p.subject && row.Issuer == c.Issuer:
		return row, "", nil
	case known && row.Subject != "":
		return row, "", refuse(Forbidden, "the account %s is somebody else's at the provider, though the email is yours; an admin can let the email decide anew (`keybrake operator edit %s --forget-openid`)", row.Name, row.Name)
	case known:
		row.Issuer, row.Subject = c.Issuer, p.subject
		return row, changed("openid subject", "", p.subject), nil
	case p.email == "":
		return row, "", refuse(Forbidden, "the provider vouches for no email of yours, so nobody knows which account is yours; verify it there, or sign in with a token")
	case c.CreateRole == 0 || !strings.HasSuffix(p.email, "@"+c.CreateDomain):
		return row, "", refuse(Forbidden, "nobody here has an account with the email %s; an admin makes one: `keybrake operator add NAME --role ROLE --email %s`", p.email, p.email)
	}
	row, err = r.newOperator(OperatorRequest{Name: p.email, Role: c.CreateRole.String(), Email: p.email}, now)
	row.Issuer, row.Subject = c.Issuer, p.subject
	return row, joined(changed("role", "", row.Role), changed("email", "", row.Email), changed("openid subject", "", p.subject)), err
}

// CheckOpenID says what is wrong with a configuration, before anything is opened.
func CheckOpenID(issuer, clientID string) error {
	u, err := url.Parse(issuer)
	switch {
	case err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("the issuer %q must be an address like https://id.example.com", issuer)
	case !private(u):
		return fmt.Errorf("the issuer %q must be https", issuer)
	}
	if clientID == "" {
		return errors.New("a client_id is needed; the provider has given Keybrake one")
	}
	return nil
}
