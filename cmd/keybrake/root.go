package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// Exit codes, a contract for scripts.
const (
	exitDone    = 0
	exitFailed  = 1 // refused or failed
	exitUsage   = 2
	exitNoReach = 3 // server or store not reached
)

// streams are where a command reads and writes; tests give their own.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// usageError is a wrong command line: exit 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// reachError is a server or store that could not be reached: exit 3.
type reachError struct{ error }

func (e reachError) Unwrap() error { return e.error }

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, s streams) int {
	root := newRoot(s)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var usage usageError
	var reach reachError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage):
		fmt.Fprintln(s.err, "keybrake:", err)
		return exitUsage
	case errors.As(err, &reach):
		fmt.Fprintln(s.err, "keybrake:", err)
		return exitNoReach
	default:
		fmt.Fprintln(s.err, "keybrake:", err)
		return exitFailed
	}
}

func newRoot(s streams) *cobra.Command {
	root := &cobra.Command{
		Use:           "keybrake",
		Short:         "A gateway between AI agents and the Stripe API",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(newServe(s), newSandbox(s), newUpstream(s), newKey(s), newApply(s), newKill(s), newResume(s), newSpend(s),
		newAudit(s), newRates(s), newScopes(s), newVerify(s), newReconcile(s), newBackup(s), newToken(s), newOperator(s), newSession(s),
		newReplay(s), newStoreCommand(s), newHealthcheck(s), newMan(s), newDoctor(s), newAlerts(s), newNodes(s), newVersion(s))
	usage(root)
	completions(root)
	return root
}
