package alert

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Config is the section `alerts` of the config file. It comes from there alone: whoever could set a target through the API
// could make the server run a command or call an address.
type Config struct {
	Targets    []Target   `yaml:"targets"`
	Thresholds Thresholds `yaml:"thresholds"`
	// Again is how long an alert that comes back stays untold, unless it is worse; 0 = an hour.
	Again time.Duration `yaml:"again"`
}

// Target is where messages go.
type Target struct {
	Name string `yaml:"name"`
	Kind string `yaml:"kind"` // webhook, slack, email, command
	// Least is the least severity that is told; empty: warning. Only are the kinds that are; empty: all.
	Least Severity `yaml:"least"`
	Only  []Kind   `yaml:"only"`

	URL        string `yaml:"url"`         // of a webhook
	URLFile    string `yaml:"url_file"`    // the same, out of a file: Slack's is a secret
	SecretFile string `yaml:"secret_file"` // of a webhook: whsec_ and base64, as Standard Webhooks have it

	Server       string   `yaml:"server"`        // of e-mail: host:port
	TLS          string   `yaml:"tls"`           // starttls (the default), implicit, or none on this machine
	Username     string   `yaml:"username"`      // empty: nobody signs in
	PasswordFile string   `yaml:"password_file"` //
	From         string   `yaml:"from"`
	To           []string `yaml:"to"`

	Command []string `yaml:"command"` // program and arguments; the message is on standard input
}

// Check says everything that is wrong with the section, with what to write.
func (c *Config) Check() error {
	var wrong []error
	seen := map[string]bool{}
	for i := range c.Targets {
		t := &c.Targets[i]
		if t.Name == "" || strings.ContainsAny(t.Name, "/ \t\n") {
			wrong = append(wrong, fmt.Errorf("alerts: target %d has the name %q: write one without spaces and slashes", i+1, t.Name))
		} else if seen[t.Name] {
			wrong = append(wrong, fmt.Errorf("alerts: two targets are called %s", t.Name))
		}
		seen[t.Name] = true
		if err := t.check(); err != nil {
			wrong = append(wrong, fmt.Errorf("alerts: target %s: %w", t.Name, err))
		}
	}
	for _, level := range c.Thresholds.Caps {
		if level < 1 || level > 1000 {
			wrong = append(wrong, fmt.Errorf("alerts: thresholds: caps: %d: write per cents like [50, 80, 100]", level))
		}
	}
	t := c.Thresholds
	if t.Denials < 0 || t.Repeats < 0 || t.UpstreamFailed < 0 || t.UpstreamFailed > 100 || t.UnresolvedAfter < 0 || t.ExpiryBefore < 0 || t.RotationBefore < 0 || c.Again < 0 {
		wrong = append(wrong, errors.New("alerts: thresholds: a number is below zero, or more than 100 per cent"))
	}
	return errors.Join(wrong...)
}

func (t *Target) check() error {
	if t.Least != "" && t.Least.rank() < 0 {
		return fmt.Errorf("least: %q: write info, warning or critical", t.Least)
	}
	for _, k := range t.Only {
		if !slices.Contains(Kinds, k) {
			return fmt.Errorf("only: there is no kind %q; there are %v", k, Kinds)
		}
	}
	switch t.Kind {
	case "webhook", "slack":
		if (t.URL == "") == (t.URLFile == "") {
			return errors.New("write `url`, or `url_file` to have it in a file")
		}
		if t.Kind == "webhook" && t.SecretFile == "" {
			return errors.New("`secret_file` is needed: the receiver knows by it that a message is from here")
		}
		if t.URL != "" {
			return checkURL(t.URL)
		}
	case "email":
		return t.checkMail()
	case "command":
		if len(t.Command) == 0 || t.Command[0] == "" {
			return errors.New("`command` is needed: a list of the program and its arguments")
		}
	default:
		return fmt.Errorf("kind: %q: write webhook, slack, email or command", t.Kind)
	}
	return nil
}

func (t *Target) checkMail() error {
	if t.Server == "" || len(t.To) == 0 {
		return errors.New("`server` (host:port), `from` and `to` are needed")
	}
	for _, a := range append([]string{t.From}, t.To...) {
		if _, err := mail.ParseAddress(a); err != nil {
			return fmt.Errorf("%q is no address", a)
		}
	}
	host, _, err := t.mailServer()
	switch {
	case err != nil:
		return err
	case t.TLS == "none" && !isHere(host):
		return errors.New("tls: none is for a server on this machine; write starttls or implicit")
	case t.TLS != "" && !slices.Contains([]string{"starttls", "implicit", "none"}, t.TLS):
		return fmt.Errorf("tls: %q: write starttls, implicit or none", t.TLS)
	case (t.Username == "") != (t.PasswordFile == ""):
		return errors.New("`username` and `password_file` go together")
	}
	return nil
}

// mailServer is where to hand mail in: a name or an IPv4 address, since the mail client takes no other.
func (t *Target) mailServer() (host string, port int, err error) {
	host, digits, err := net.SplitHostPort(t.Server)
	if port, _ = strconv.Atoi(digits); err != nil || host == "" || strings.Contains(host, ":") || port < 1 || port > 65535 {
		return "", 0, fmt.Errorf("server: %q: write host:port, with a name or an IPv4 address", t.Server)
	}
	return host, port, nil
}

// isHere reports whether a host is this machine.
func isHere(host string) bool {
	return slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, host)
}

// checkURL lets plain HTTP be used on this machine alone: messages name keys and customers.
func checkURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil {
		return errors.New("url: write an address like https://example.com/hooks/keybrake")
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !isHere(u.Hostname())) {
		return errors.New("url: it must begin with https://")
	}
	return nil
}

// takes reports whether a target is told of a condition.
func (t *Target) takes(kind Kind, s Severity) bool {
	least := t.Least
	if least == "" {
		least = Warning
	}
	return s.rank() >= least.rank() && (len(t.Only) == 0 || slices.Contains(t.Only, kind))
}

// maxSecretFile bounds what is read of a file that holds a secret.
const maxSecretFile = 8 << 10

// fromFile reads a secret of one line.
func fromFile(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(b))
	if text == "" || len(text) > maxSecretFile || strings.ContainsAny(text, "\r\n") {
		return "", fmt.Errorf("%s must hold one line", path)
	}
	return text, nil
}

// signingKey reads a secret as Standard Webhooks write it.
func signingKey(path string) ([]byte, error) {
	text, err := fromFile(path)
	if err != nil {
		return nil, err
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(text, "whsec_"))
	if err != nil || len(key) < 16 {
		return nil, fmt.Errorf("%s must hold whsec_ and the base64 of 24 to 64 random bytes; `openssl rand -base64 32` makes them", path)
	}
	return key, nil
}
