// Package secretstore puts vault keys where agents find them, and reads upstream secrets from where they are kept: files,
// commands (the command line of a secret store), and HashiCorp Vault or OpenBao over HTTP.
//
// Where that is comes from the config file of whoever runs the command line, never from an API: whoever can ask the server
// for something must not be able to make it run a command or dial a host. The secret goes to a command on standard input,
// never into its arguments, where other processes of the machine would see it.
package secretstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/vault"
)

// Place is one secret store as the config file describes it. As a sink it takes vault keys, as a source it gives upstream
// secrets; both lie under a label: the name of the vault key or of the upstream. In texts {label} stands for it, and {LABEL}
// for it in upper case with _ for everything but letters and digits.
type Place struct {
	Name string `yaml:"name"`
	Kind string `yaml:"kind"` // file, command or vault
	// Path is the file, absolute; or the path within Mount.
	Path string `yaml:"path,omitempty"`

	// Command is a program with its arguments. As a sink it gets Stdin on standard input, as a source it writes the secret to
	// standard output. Replace takes its place where the store has the label already: after a rotation.
	Command []string `yaml:"command,omitempty"`
	Replace []string `yaml:"replace,omitempty"`
	// Stdin is what the command reads; {secret} stands for the secret there, and only there. Empty: the secret alone.
	Stdin string            `yaml:"stdin,omitempty"`
	Env   map[string]string `yaml:"env,omitempty"`     // beside the environment of the command line itself
	Wait  string            `yaml:"timeout,omitempty"` // like 30s, the default

	// Address is the base URL of a Vault or OpenBao, Mount the path of its KV engine (version 2).
	Address   string `yaml:"address,omitempty"`
	Namespace string `yaml:"namespace,omitempty"`
	Mount     string `yaml:"mount,omitempty"` // default: secret
	Field     string `yaml:"field,omitempty"` // default: key
	TokenFile string `yaml:"token_file,omitempty"`
	TokenEnv  string `yaml:"token_env,omitempty"`
	CAFile    string `yaml:"ca_file,omitempty"` // PEM; default: the system's
}

// defaultWait is how long a secret store may take: somebody waits at a terminal, and may have to unlock it there.
const defaultWait = 30 * time.Second

// maxSecret bounds what is taken for a secret.
const maxSecret = 4096

// store is what each kind does. Errors never have the secret in them.
type store interface {
	// ready says what stands against putting a secret under the label, as far as that can be told before.
	ready(ctx context.Context, label string) error
	put(ctx context.Context, label string, secret vault.Secret, replaces bool) error
	get(ctx context.Context, label string) (vault.Secret, error)
}

// Sink is a place that takes vault keys. Safe for concurrent use.
type Sink struct {
	place Place
	store store
}

// Source is a place that gives upstream secrets. Safe for concurrent use.
type Source struct {
	place Place
	store store
}

// NewSink opens a sink; nothing is read or dialled yet.
func NewSink(p Place) (*Sink, error) {
	s, err := p.open(true)
	if err != nil {
		return nil, fmt.Errorf("sink %q: %w", p.Name, err)
	}
	return &Sink{p, s}, nil
}

// NewSource opens a source; nothing is read or dialled yet.
func NewSource(p Place) (*Source, error) {
	s, err := p.open(false)
	if err != nil {
		return nil, fmt.Errorf("source %q: %w", p.Name, err)
	}
	return &Source{p, s}, nil
}

// Ready says what stands against putting a secret under a label, as far as that can be told before there is one.
func (s *Sink) Ready(ctx context.Context, label string) error {
	return s.do(ctx, func(ctx context.Context) error { return s.store.ready(ctx, label) })
}

// Put puts a secret under a label. replaces: there was one before. On an error the store may have it all the same.
func (s *Sink) Put(ctx context.Context, label string, secret vault.Secret, replaces bool) error {
	if secret.IsZero() {
		return fmt.Errorf("sink %q: there is no secret to put there", s.place.Name)
	}
	return s.do(ctx, func(ctx context.Context) error { return s.store.put(ctx, label, secret, replaces) })
}

func (s *Sink) do(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.place.wait())
	defer cancel()
	if err := f(ctx); err != nil {
		return fmt.Errorf("sink %q: %w", s.place.Name, err)
	}
	return nil
}

// Get reads the secret that lies under a label.
func (s *Source) Get(ctx context.Context, label string) (vault.Secret, error) {
	ctx, cancel := context.WithTimeout(ctx, s.place.wait())
	defer cancel()
	secret, err := s.store.get(ctx, label)
	if err == nil && secret.IsZero() {
		err = errors.New("what lies there is empty")
	}
	if err != nil {
		return vault.Secret{}, fmt.Errorf("source %q: %w", s.place.Name, err)
	}
	return secret, nil
}

// Check finds what is wrong in sinks and sources before they are needed.
func Check(sinks, sources []Place) error {
	for _, group := range []struct {
		what   string
		places []Place
		sink   bool
	}{{"sinks", sinks, true}, {"sources", sources, false}} {
		for i, p := range group.places {
			if slices.ContainsFunc(group.places[:i], func(o Place) bool { return o.Name == p.Name }) {
				return fmt.Errorf("%s: there are two named %q", group.what, p.Name)
			}
			if _, err := p.open(group.sink); err != nil {
				return fmt.Errorf("%s: %q: %w", group.what, p.Name, err)
			}
		}
	}
	return nil
}

func (p *Place) wait() time.Duration {
	if d, err := parseWait(p.Wait); err == nil {
		return d
	}
	return defaultWait
}

func parseWait(text string) (time.Duration, error) {
	if text == "" {
		return defaultWait, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 || d > 10*time.Minute {
		return 0, fmt.Errorf("timeout %q: write 1s to 10m", text)
	}
	return d, nil
}

// open makes the store of a place. What does not belong to its kind is refused: it would be believed to do something.
func (p *Place) open(sink bool) (store, error) {
	if err := vault.CheckName(p.Name); err != nil {
		return nil, err
	}
	if _, err := parseWait(p.Wait); err != nil {
		return nil, err
	}
	type setting struct {
		name  string
		given bool
		kinds string
	}
	for _, s := range []setting{
		{"path", p.Path != "", "file vault"}, {"command", len(p.Command) > 0, "command"}, {"replace", len(p.Replace) > 0, "command"},
		{"stdin", p.Stdin != "", "command"}, {"env", len(p.Env) > 0, "command"}, {"address", p.Address != "", "vault"},
		{"namespace", p.Namespace != "", "vault"}, {"mount", p.Mount != "", "vault"}, {"field", p.Field != "", "vault"},
		{"token_file", p.TokenFile != "", "vault"}, {"token_env", p.TokenEnv != "", "vault"}, {"ca_file", p.CAFile != "", "vault"},
	} {
		if s.given && !slices.Contains(strings.Fields(s.kinds), p.Kind) {
			return nil, fmt.Errorf("`%s` means nothing for the kind %q", s.name, p.Kind)
		}
	}
	switch p.Kind {
	case "file":
		return newFile(p)
	case "command":
		return newCommand(p, sink)
	case "vault":
		return newKV(p)
	default:
		return nil, fmt.Errorf("kind %q: write file, command or vault", p.Kind)
	}
}

// fill puts the label into a text.
func fill(text, label string) string { return labels(label).Replace(text) }

func labels(label string, more ...string) *strings.Replacer {
	return strings.NewReplacer(append([]string{"{label}", label, "{LABEL}", upper(label)}, more...)...)
}

// upper is the label where only A to Z, 0 to 9 and _ may be.
func upper(label string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		default:
			return '_'
		}
	}, label)
}

// secretFrom is the secret that lies in a text: one line, without the white space around it.
func secretFrom(text string) (vault.Secret, error) {
	if len(text) > maxSecret {
		return vault.Secret{}, fmt.Errorf("what lies there is longer than %d bytes", maxSecret)
	}
	if text = strings.TrimSpace(text); strings.ContainsAny(text, "\n\r") {
		return vault.Secret{}, errors.New("what lies there has several lines")
	}
	return vault.NewSecret(text), nil
}
