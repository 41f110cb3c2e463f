package secretstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/vault"
)

const (
	// maxComplaint bounds what a failed command is quoted with.
	maxComplaint = 400
	// afterKill is how long the pipes of a command that was ended are waited for: a child of its own may hold them.
	afterKill  = 2 * time.Second
	secretMark = "{secret}"
)

// command is the command line of a secret store. No shell is in between: a label is one argument, whatever is in it.
type command struct{ place *Place }

func newCommand(p *Place, sink bool) (store, error) {
	if len(p.Command) == 0 || p.Command[0] == "" {
		return nil, errors.New("`command` is needed: a list of the program and its arguments")
	}
	if !sink && (len(p.Replace) > 0 || p.Stdin != "") {
		return nil, errors.New("`replace` and `stdin` are for sinks: a source only reads")
	}
	if p.Stdin != "" && !strings.Contains(p.Stdin, secretMark) {
		return nil, fmt.Errorf("`stdin` has no %s in it, so the secret would get lost", secretMark)
	}
	words := slices.Concat(p.Command, p.Replace)
	for _, v := range p.Env {
		words = append(words, v)
	}
	if slices.ContainsFunc(words, func(w string) bool { return strings.Contains(w, secretMark) }) {
		return nil, fmt.Errorf("%s may be in `stdin` only: others on this machine see arguments and environments", secretMark)
	}
	return &command{p}, nil
}

func (c *command) ready(_ context.Context, _ string) error {
	for _, argv := range [][]string{c.place.Command, c.place.Replace} {
		if len(argv) == 0 {
			continue
		}
		if _, err := exec.LookPath(argv[0]); err != nil {
			return err
		}
	}
	return nil
}

func (c *command) put(ctx context.Context, label string, secret vault.Secret, replaces bool) error {
	argv, stdin := c.place.Command, c.place.Stdin
	if replaces && len(c.place.Replace) > 0 {
		argv = c.place.Replace
	}
	if stdin == "" {
		stdin = secretMark
	}
	_, err := c.run(ctx, argv, label, labels(label, secretMark, secret.Reveal()).Replace(stdin), secret)
	return err
}

func (c *command) get(ctx context.Context, label string) (vault.Secret, error) {
	out, err := c.run(ctx, c.place.Command, label, "", vault.Secret{})
	if err != nil {
		return vault.Secret{}, err
	}
	return secretFrom(out)
}

// run runs a program to its end and returns what it wrote to standard output, bounded. What it complains about on standard
// error is in the error, without the secret; its standard output never is: some print there what they were given.
func (c *command) run(ctx context.Context, argv []string, label, stdin string, secret vault.Secret) (string, error) {
	var args []string
	for _, a := range argv[1:] {
		args = append(args, fill(a, label))
	}
	cmd := exec.CommandContext(ctx, argv[0], args...)
	out, complaint := &bounded{limit: maxSecret + 1}, &bounded{limit: 64 << 10}
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = strings.NewReader(stdin), out, complaint, afterKill
	cmd.Env = c.environment(label)
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("%s did not end in time: %w", argv[0], ctx.Err())
	case err != nil && complaint.Len() > 0:
		return "", fmt.Errorf("%s: %w: %s", argv[0], err, quoted(complaint.String(), secret))
	case err != nil:
		return "", fmt.Errorf("%s: %w", argv[0], err)
	}
	return out.String(), nil
}

// environment is the command line's own, in which the store's program finds its sign-in, without what is Keybrake's.
func (c *command) environment(label string) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "KEYBRAKE_") })
	for name, value := range c.place.Env {
		env = append(env, name+"="+fill(value, label))
	}
	return env
}

// quoted is the end of a complaint in one line, without the secret.
func quoted(text string, secret vault.Secret) string {
	if !secret.IsZero() {
		text = strings.ReplaceAll(text, secret.Reveal(), secret.String())
	}
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxComplaint {
		text = "…" + strings.ToValidUTF8(text[len(text)-maxComplaint:], "")
	}
	return text
}

// bounded keeps the beginning of what is written and lets go of the rest.
type bounded struct {
	bytes.Buffer
	limit int
}

// Write never fails: a program that writes much is not ended by it.
func (b *bounded) Write(p []byte) (int, error) {
	if room := b.limit - b.Len(); room > 0 {
		_, _ = b.Buffer.Write(p[:min(room, len(p))]) // it never fails
	}
	return len(p), nil
}
