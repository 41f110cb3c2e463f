// Package program runs programs that the config file names: the command lines of secret stores, and what alerts are told by.
// No shell is in between, what they write is bounded, and nothing that is Keybrake's own is in their environment. It knows
// nothing of what they are for.
package program

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
	"unicode"
)

const (
	// maxComplaint is how much of the end of what a program writes to standard error is kept, and maxQuoted how much of
	// that an error quotes.
	maxComplaint = 4 << 10
	maxQuoted    = 400
	// afterKill is how long the pipes of a program that was ended are waited for: a child of its own may hold them.
	afterKill = 2 * time.Second
)

// Program is a program to run.
type Program struct {
	Argv  []string // the program and its arguments; at least one
	Env   []string // beside our own environment, NAME=value
	Stdin []byte
	// Output is how many bytes of the beginning of its standard output are kept.
	Output int
	// Hide takes secrets out of what an error quotes; nil: there are none.
	Hide func(string) string
}

// Run runs a program until it or ctx ends, and returns the beginning of its standard output. An error quotes the end of its
// standard error; its standard output never is: some print there what they were given.
func Run(ctx context.Context, p Program) (string, error) {
	cmd := exec.CommandContext(ctx, p.Argv[0], p.Argv[1:]...)
	out, complaint := &head{limit: p.Output}, &tail{limit: maxComplaint}
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = bytes.NewReader(p.Stdin), out, complaint, afterKill
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "KEYBRAKE_") }), p.Env...)
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("%s did not end in time: %w", p.Argv[0], ctx.Err())
	case err != nil && len(complaint.kept) > 0:
		return "", fmt.Errorf("%s: %w: %s", p.Argv[0], err, Quote(p.hidden(complaint.words())))
	case err != nil:
		return "", fmt.Errorf("%s: %w", p.Argv[0], err)
	}
	return string(out.kept), nil
}

func (p *Program) hidden(text string) string {
	if p.Hide == nil {
		return text
	}
	return p.Hide(text)
}

// Quote is the end of a text in one line, short enough for an error.
func Quote(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxQuoted {
		text = "…" + text[len(text)-maxQuoted:]
	}
	return strings.ToValidUTF8(text, "")
}

// head keeps the beginning of what is written and lets go of the rest.
type head struct {
	kept  []byte
	limit int
}

// Write never fails: a program that writes much is not ended by it.
func (h *head) Write(b []byte) (int, error) {
	h.kept = append(h.kept, b[:min(len(b), h.limit-len(h.kept))]...)
	return len(b), nil
}

// tail keeps the end of what is written and lets go of the rest.
type tail struct {
	kept  []byte
	limit int
	cut   bool // something was let go of
}

// words is what is kept without a word that has lost its beginning: half a secret would not be known for one.
func (t *tail) words() string {
	if !t.cut {
		return string(t.kept)
	}
	return string(t.kept[bytes.IndexFunc(t.kept, unicode.IsSpace)+1:])
}

// Write never fails.
func (t *tail) Write(b []byte) (int, error) {
	n := len(b)
	b = b[max(0, n-t.limit):]
	over := max(0, len(t.kept)+len(b)-t.limit)
	t.cut = t.cut || over > 0 || len(b) < n
	t.kept = append(t.kept[:0], t.kept[over:]...)
	t.kept = append(t.kept, b...)
	return n, nil
}
