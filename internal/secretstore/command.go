package secretstore

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/keybrake/keybrake/internal/program"
	"github.com/keybrake/keybrake/internal/vault"
)

const secretMark = "{secret}"

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

// run runs a program to its end and returns what it wrote to standard output, bounded.
func (c *command) run(ctx context.Context, argv []string, label, stdin string, secret vault.Secret) (string, error) {
	var args []string
	for _, a := range argv[1:] {
		args = append(args, fill(a, label))
	}
	return program.Run(ctx, program.Program{
		Argv: append([]string{argv[0]}, args...), Env: c.environment(label), Stdin: []byte(stdin), Output: maxSecret + 1,
		Hide: func(text string) string { return without(secret, text) },
	})
}

// environment is what the config file adds to the command line's own, in which the store's program finds its sign-in.
func (c *command) environment(label string) (env []string) {
	for name, value := range c.place.Env {
		env = append(env, name+"="+fill(value, label))
	}
	return env
}

// without is a text without a secret.
func without(secret vault.Secret, text string) string {
	if secret.IsZero() {
		return text
	}
	return strings.ReplaceAll(text, secret.Reveal(), secret.String())
}
