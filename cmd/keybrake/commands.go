package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// group is a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			names := make([]string, 0, len(commands))
			for _, c := range cmd.Commands() {
				names = append(names, c.Name())
			}
			return usageError{fmt.Errorf("%s: say what to do: %s", cmd.CommandPath(), strings.Join(names, ", "))}
		},
	}
	cmd.AddCommand(commands...)
	return cmd
}

func unknownCommand(cmd *cobra.Command, name string) error {
	cmd.SuggestionsMinimumDistance = 2
	hint := ""
	if near := cmd.SuggestionsFor(name); len(near) > 0 {
		best := near[0]
		if i := slices.IndexFunc(near, func(n string) bool { return strings.HasPrefix(n, name) }); i >= 0 {
			best = near[i] // a word that was cut short rather than another one
		}
		hint = fmt.Sprintf("; did you mean `%s %s`?", cmd.CommandPath(), best)
	}
	return usageError{fmt.Errorf("there is no command `%s %s`%s (`%s --help` lists them)", cmd.CommandPath(), name, hint, cmd.CommandPath())}
}

// usage makes wrong arguments exit with 2, as wrong flags do, in a command and all below it.
func usage(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			var already usageError
			if err == nil || errors.As(err, &already) {
				return err
			}
			return usageError{fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath())}
		}
	}
	for _, sub := range cmd.Commands() {
		usage(sub)
	}
}

// secretFlags are the three ways in which a secret comes in: never as an argument, which every process on
// the machine can read.
type secretFlags struct {
	env, file, from, config string
	stdin, sourced          bool // sourced: there is a flag for from
}

func (f *secretFlags) bind(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.env, "secret-env", "", "take the secret from this environment variable")
	cmd.Flags().StringVar(&f.file, "secret-file", "", "take the secret from this file")
	cmd.Flags().BoolVar(&f.stdin, "secret-stdin", false, "take the secret from standard input")
}

// bindSource adds what reads the secret of an upstream where it is kept.
func (f *secretFlags) bindSource(cmd *cobra.Command) {
	f.bind(cmd)
	f.sourced = true
	cmd.Flags().StringVar(&f.from, "secret-from", "", "take the secret from this source of the config file, under the upstream's name")
	cmd.Flags().StringVar(&f.config, "config", "", "config file that describes the source (default: KEYBRAKE_CONFIG)")
}

// given reports whether any of the flags was.
func (f *secretFlags) given() bool { return f.env != "" || f.file != "" || f.from != "" || f.stdin }

// maxSecret bounds what is read as a secret: a path to something else by mistake is refused early.
const maxSecret = 4096

// read returns the secret; label is what a source keeps it under.
func (f *secretFlags) read(ctx context.Context, in io.Reader, label string) (string, error) {
	if countTrue(f.env != "", f.file != "", f.from != "", f.stdin) != 1 {
		if f.sourced {
			return "", usageError{errors.New("give the secret with one of --secret-env, --secret-file, --secret-stdin and --secret-from")}
		}
		return "", usageError{errors.New("give the secret with one of --secret-env, --secret-file and --secret-stdin")}
	}
	var text string
	switch {
	case f.from != "":
		return secretFrom(ctx, f.from, f.config, label)
	case f.env != "":
		text = os.Getenv(f.env)
		if text == "" {
			return "", fmt.Errorf("the environment variable %s is empty", f.env)
		}
	default:
		if f.file != "" {
			file, err := os.Open(f.file)
			if err != nil {
				return "", fmt.Errorf("read the secret: %w", err)
			}
			defer file.Close() //nolint:errcheck // it was only read
			in = file
		}
		b, err := io.ReadAll(io.LimitReader(in, maxSecret))
		if err != nil {
			return "", fmt.Errorf("read the secret: %w", err)
		}
		text = string(b)
	}
	if text = strings.TrimSpace(text); text == "" {
		return "", errors.New("the secret is empty")
	}
	return text, nil
}

// maxFile bounds what is read of a policy file or a file of rates before it is sent.
const maxFile = 16 << 20

// readFile reads a file, or standard input for "-".
func readFile(name string, in io.Reader) ([]byte, error) {
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer file.Close() //nolint:errcheck // it was only read
		in = file
	}
	b, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes", name, maxFile)
	}
	return b, err
}
