package alert

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wneessen/go-mail"

	"github.com/keybrake/keybrake/internal/program"
)

// Message is what a target gets.
type Message struct {
	Type      string    `json:"type"` // keybrake.alerts, or keybrake.test
	Timestamp time.Time `json:"timestamp"`
	Alerts    []Told    `json:"alerts"`
}

// Told is one alert of a message.
type Told struct {
	ID       string    `json:"id"`
	Event    string    `json:"event"` // opened, worse, resolved
	Kind     Kind      `json:"kind"`
	Severity Severity  `json:"severity"`
	Key      string    `json:"key,omitempty"`
	Title    string    `json:"title"`
	Text     string    `json:"text"`
	Since    time.Time `json:"since"`
	URL      string    `json:"url,omitempty"` // of the console's page
}

// Subject is a message in a line.
func (m *Message) Subject() string {
	if len(m.Alerts) == 0 {
		return "Keybrake: a test message"
	}
	first := m.Alerts[0]
	for _, a := range m.Alerts {
		if a.Severity.rank() > first.Severity.rank() {
			first = a
		}
	}
	line := "Keybrake: "
	if first.Event == "resolved" {
		line += "over: "
	}
	line += first.Title
	if n := len(m.Alerts) - 1; n > 0 {
		line += fmt.Sprintf(" (and %d more)", n)
	}
	return line
}

// Plain is a message as text.
func (m *Message) Plain() string {
	if len(m.Alerts) == 0 {
		return "This is a test message. Alerts will come this way.\n"
	}
	var b strings.Builder
	for _, a := range m.Alerts {
		head := strings.ToUpper(string(a.Severity))
		if a.Event == "resolved" {
			head = "OVER"
		}
		fmt.Fprintf(&b, "%s: %s\n%s\n", head, a.Title, a.Text)
		if a.URL != "" {
			fmt.Fprintln(&b, a.URL)
		}
		fmt.Fprintln(&b)
	}
	return b.String()
}

const (
	// deliverWithin bounds one attempt.
	deliverWithin = 15 * time.Second
	// maxReply is how much of a receiver's answer is read, to be told why it refused.
	maxReply = 2 << 10
)

// deliver sends a message once. The error says why it did not arrive; it names no secret.
func (t *Target) deliver(ctx context.Context, id string, body []byte, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, deliverWithin)
	defer cancel()
	var m Message
	if err := json.Unmarshal(body, &m); err != nil {
		return fmt.Errorf("read the message: %w", err)
	}
	switch t.Kind {
	case "webhook":
		return t.webhook(ctx, id, body, now)
	case "slack":
		return t.slack(ctx, &m)
	case "email":
		return t.email(ctx, id, &m, now)
	case "command":
		return t.command(ctx, body)
	default:
		return fmt.Errorf("there is no kind of target %q", t.Kind)
	}
}

// webhook posts a message signed as standardwebhooks.com has it: the receiver can tell that it is from here, that it is
// new, and by its id that it has seen it before.
func (t *Target) webhook(ctx context.Context, id string, body []byte, now time.Time) error {
	key, err := signingKey(t.SecretFile)
	if err != nil {
		return err
	}
	at := strconv.FormatInt(now.Unix(), 10)
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", id, at, body)
	return t.post(ctx, body, map[string]string{
		"webhook-id": id, "webhook-timestamp": at, "webhook-signature": "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)),
	})
}

func (t *Target) slack(ctx context.Context, m *Message) error {
	type text struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	type block struct {
		Type string `json:"type"`
		Text text   `json:"text"`
	}
	quiet := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;") // what a name holds is no link and mentions nobody
	blocks := []block{{"section", text{"mrkdwn", quiet.Replace(m.Plain())}}}
	if len(m.Alerts) > 0 {
		blocks = nil
	}
	for _, a := range m.Alerts[:min(len(m.Alerts), maxBlocks)] {
		words := "*" + quiet.Replace(a.Title) + "*\n" + quiet.Replace(a.Text)
		if a.Event == "resolved" {
			words = "Over: " + words
		}
		if a.URL != "" {
			words += "\n<" + a.URL + "|Open in Keybrake>"
		}
		blocks = append(blocks, block{"section", text{"mrkdwn", words}})
	}
	body, err := json.Marshal(map[string]any{"text": quiet.Replace(m.Subject()), "blocks": blocks})
	if err != nil {
		return err
	}
	return t.post(ctx, body, nil)
}

// maxBlocks is below the 50 that Slack takes.
const maxBlocks = 40

func (t *Target) post(ctx context.Context, body []byte, header map[string]string) error {
	address := t.URL
	if t.URLFile != "" {
		var err error
		if address, err = fromFile(t.URLFile); err != nil {
			return err
		}
	}
	if err := checkURL(address); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return errors.New("the address is none") // not the error: it may hold the address, which may be a secret
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "keybrake-alerts")
	for name, value := range header {
		req.Header.Set(name, value)
	}
	client := &http.Client{
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	var urlErr *url.Error
	if errors.As(err, &urlErr) {
		err = urlErr.Err // without the address
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	says, _ := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("the receiver answers %d: %s", resp.StatusCode, hide(strings.Join(strings.Fields(string(says)), " "), req.URL))
	}
	return nil
}

// leastHidden is how long a part of an address is that can be a secret.
const leastHidden = 4

// hide takes the parts of an address, which may be a secret, out of what its receiver says: many repeat what they were asked.
func hide(text string, u *url.URL) string {
	query, _ := url.QueryUnescape(u.RawQuery)
	all := strings.Join([]string{u.Path, u.EscapedPath(), u.RawQuery, query}, "/")
	parts := strings.FieldsFunc(all, func(r rune) bool { return strings.ContainsRune("/?&=", r) })
	slices.SortFunc(parts, func(a, b string) int { return len(b) - len(a) }) // a part of another after it
	for _, part := range parts {
		if len(part) >= leastHidden {
			text = strings.ReplaceAll(text, part, "…")
		}
	}
	return text
}

func (t *Target) email(ctx context.Context, id string, m *Message, now time.Time) error {
	host, port, err := t.mailServer()
	if err != nil {
		return err
	}
	options := []mail.Option{mail.WithPort(port), mail.WithTimeout(deliverWithin), mail.WithDialContextFunc(t.dialUntil(ctx, host))}
	auth := mail.SMTPAuthAutoDiscover
	switch t.TLS {
	case "implicit":
		// The client cannot tell that what was dialled is encrypted, and would find no way to sign in that is safe without.
		options, auth = append(options, mail.WithSSL()), mail.SMTPAuthPlain
	case "none":
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
	default:
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	}
	if t.Username != "" {
		password, err := fromFile(t.PasswordFile)
		if err != nil {
			return err
		}
		options = append(options, mail.WithSMTPAuth(auth), mail.WithUsername(t.Username), mail.WithPassword(password))
	}
	client, err := mail.NewClient(host, options...)
	if err != nil {
		return err
	}
	letter := mail.NewMsg()
	if err := letter.From(t.From); err != nil {
		return err
	}
	if err := letter.To(t.To...); err != nil {
		return err
	}
	letter.Subject(strings.Join(strings.Fields(m.Subject()), " "))
	letter.SetMessageIDWithValue(id + "@keybrake")
	letter.SetDateWithValue(now)
	letter.SetBodyString(mail.TypeTextPlain, m.Plain())
	err = client.DialAndSendWithContext(ctx, letter)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("the mail server did not finish: %w", ctx.Err())
	}
	return err
}

// dialUntil dials a mail server and hangs up when ctx ends. The mail client looks at its context while it dials, and no
// longer while it waits for what the server says.
func (t *Target) dialUntil(ctx context.Context, host string) mail.DialContextFunc {
	return func(dialling context.Context, network, address string) (net.Conn, error) {
		plain, err := new(net.Dialer).DialContext(dialling, network, address)
		if err != nil {
			return nil, err
		}
		context.AfterFunc(ctx, func() { _ = plain.Close() })
		if t.TLS != "implicit" {
			return plain, nil
		}
		conn := tls.Client(plain, &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12})
		return conn, conn.HandshakeContext(dialling)
	}
}

// command runs a program with the message on its standard input.
func (t *Target) command(ctx context.Context, body []byte) error {
	_, err := program.Run(ctx, program.Program{Argv: t.Command, Stdin: body, Output: maxReply})
	return err
}
