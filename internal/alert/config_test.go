package alert

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

func parse(t *testing.T, text string) (*Config, error) {
	t.Helper()
	var file struct {
		Alerts Config `yaml:"alerts"`
	}
	err := yaml.UnmarshalWithOptions([]byte(text), &file, yaml.Strict())
	return &file.Alerts, err
}

func TestASectionIsChecked(t *testing.T) {
	web := "{name: a, kind: webhook, url: 'https://example.com/h', secret_file: s}"
	mail := func(more string) string {
		return "targets: [{name: a, kind: email, from: a@example.com, to: [b@example.com], " + more + "}]"
	}
	for _, tt := range []struct{ name, section, says string }{
		{"a webhook", "targets: [" + web + "]", ""},
		{"a webhook on this machine", "targets: [{name: a, kind: webhook, url: 'http://localhost:9/h', secret_file: s}]", ""},
		{"Slack by a file", "targets: [{name: a, kind: slack, url_file: f}]", ""},
		{"mail", "targets: [{name: a, kind: email, server: 'mail.example.com:587', from: 'Keybrake <a@example.com>', to: [b@example.com]}]", ""},
		{"mail with a password", mail("server: 'mail.example.com:587', username: u, password_file: p"), ""},
		{"mail on this machine", mail("server: '127.0.0.1:25', tls: none"), ""},
		{"a command", "targets: [{name: a, kind: command, command: [/bin/page, now], only: [chain, store], least: critical}]", ""},

		{"no name", "targets: [{kind: command, command: [x]}]", `target 1 has the name ""`},
		{"a name with a space", "targets: [{name: a b, kind: command, command: [x]}]", "without spaces"},
		{"a name with a slash", "targets: [{name: a/b, kind: command, command: [x]}]", "slashes"},
		{"a name twice", "targets: [" + web + ", " + web + "]", "two targets are called a"},
		{"a kind that is none", "targets: [{name: a, kind: pager}]", "write webhook, slack, email or command"},
		{"no kind", "targets: [{name: a}]", "write webhook, slack, email or command"},
		{"a severity that is none", "targets: [{name: a, kind: command, command: [x], least: high}]", "write info, warning or critical"},
		{"an alert that is none", "targets: [{name: a, kind: command, command: [x], only: [caps]}]", `there is no kind "caps"`},
		{"no address", "targets: [{name: a, kind: slack}]", "write `url`"},
		{"two addresses", "targets: [{name: a, kind: slack, url: 'https://example.com', url_file: f}]", "write `url`"},
		{"a webhook without a key", "targets: [{name: a, kind: webhook, url: 'https://example.com'}]", "`secret_file` is needed"},
		{"plain HTTP", "targets: [{name: a, kind: slack, url: 'http://example.com/h'}]", "begin with https://"},
		{"plain HTTP to a name that looks near", "targets: [{name: a, kind: slack, url: 'http://localhost.example.com/h'}]", "begin with https://"},
		{"another scheme", "targets: [{name: a, kind: slack, url: 'file:///etc/passwd'}]", "write an address like"},
		{"a password in the address", "targets: [{name: a, kind: slack, url: 'https://u:p@example.com/h'}]", "write an address like"},
		{"no server", mail("tls: starttls"), "`server` (host:port)"},
		{"nobody to write to", "targets: [{name: a, kind: email, server: 'm:25', from: a@example.com}]", "are needed"},
		{"nobody who writes", "targets: [{name: a, kind: email, server: 'm:25', to: [b@example.com]}]", `"" is no address`},
		{"an address that is none", "targets: [{name: a, kind: email, server: 'm:25', from: a@example.com, to: [b]}]", `"b" is no address`},
		{"a line break in an address", `targets: [{name: a, kind: email, server: 'm:25', from: a@example.com, to: ["b@example.com\r\nBcc: c@example.com"]}]`, "is no address"},
		{"a server without a port", mail("server: mail.example.com"), "write host:port"},
		{"mail to an IPv6 address", mail("server: '[::1]:25', tls: none"), "or an IPv4 address"},
		{"a port that is a word", mail("server: 'mail.example.com:smtp'"), "write host:port"},
		{"mail beyond this machine without TLS", mail("server: 'mail.example.com:25', tls: none"), "on this machine"},
		{"a way of TLS that is none", mail("server: 'mail.example.com:25', tls: maybe"), "write starttls, implicit or none"},
		{"a user without a password", mail("server: 'm:25', username: u"), "go together"},
		{"a password without a user", mail("server: 'm:25', password_file: p"), "go together"},
		{"no command", "targets: [{name: a, kind: command}]", "`command` is needed"},
		{"an empty program", "targets: [{name: a, kind: command, command: ['']}]", "`command` is needed"},

		{"a cap at nothing", "thresholds: {caps: [0, 50]}", "write per cents"},
		{"a cap beyond reason", "thresholds: {caps: [80000]}", "write per cents"},
		{"fewer than no refusals", "thresholds: {denials: -1}", "below zero"},
		{"fewer than no repeats", "thresholds: {repeats: -1}", "below zero"},
		{"more than all calls", "thresholds: {upstream_failed: 101}", "more than 100 per cent"},
		{"a span backwards", "thresholds: {unresolved_after: -1m}", "below zero"},
		{"an end backwards", "thresholds: {expiry_before: -1h}", "below zero"},
		{"a rotation backwards", "thresholds: {rotation_before: -1h}", "below zero"},
		{"again backwards", "again: -1h", "below zero"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := parse(t, "alerts: {"+tt.section+"}")
			if err != nil {
				t.Fatalf("the test's section does not parse: %v", err)
			}
			switch err := c.Check(); {
			case err == nil && tt.says != "":
				t.Errorf("it passes; it should say %q", tt.says)
			case err != nil && (tt.says == "" || !strings.Contains(err.Error(), tt.says) || !strings.HasPrefix(err.Error(), "alerts: ")):
				t.Errorf("it says %q, want %q", err, tt.says)
			}
		})
	}
}

// TestTheSampleOfTheManual holds the config file that docs/operating.md shows.
func TestTheSampleOfTheManual(t *testing.T) {
	page, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	var sample string
	for _, block := range regexp.MustCompile("(?ms)^```yaml\n(.*?)^```").FindAllStringSubmatch(string(page), -1) {
		if strings.HasPrefix(block[1], "alerts:") {
			sample = block[1]
		}
	}
	c, err := parse(t, sample)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, target := range c.Targets {
		kinds = append(kinds, target.Kind)
	}
	slices.Sort(kinds)
	if want := []string{"command", "email", "slack", "webhook"}; !slices.Equal(kinds, want) {
		t.Errorf("the sample has %v, want one of each of %v", kinds, want)
	}
	// What it shows as thresholds is what they are if nobody writes them.
	if got, want := c.Thresholds, (Thresholds{}).withDefaults(); !slices.Equal(got.Caps, want.Caps) || got.Denials != want.Denials || got.Repeats != want.Repeats ||
		got.UnresolvedAfter != want.UnresolvedAfter || got.ExpiryBefore != want.ExpiryBefore || got.RotationBefore != want.RotationBefore || got.UpstreamFailed != want.UpstreamFailed {
		t.Errorf("the sample's thresholds are %+v, the defaults %+v", got, want)
	}
	if c.Again != time.Hour {
		t.Errorf("the sample's again is %s", c.Again)
	}
	if _, err := parse(t, "alerts: {target: []}"); err == nil {
		t.Error("a section with a key that there is not parses")
	}
}

func TestTheManualNamesEveryKindOfAlert(t *testing.T) {
	page, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range Kinds {
		if !strings.Contains(string(page), "| `"+string(kind)+"` |") {
			t.Errorf("docs/operating.md does not say what %s is", kind)
		}
	}
}
