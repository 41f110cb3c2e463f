package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keybrake/keybrake/internal/admin"
)

func newKeyRevoke(s streams) *cobra.Command {
	var match, reason string
	var yes bool
	cmd := &cobra.Command{
		Use:   "revoke [KEY...]",
		Short: "End vault keys for good (to stop them for now: kill)",
		Long: "End vault keys for good: several of them in one transaction, all or none. Those that --match finds are listed first, and\n" +
			"asked about on a terminal; a script says --yes. What is ended is what was listed, also if others match meanwhile.",
		Example: "  keybrake key revoke agent-support-refunds-runner42\n" +
			"  keybrake key revoke --match 'agent-*-runner42' --reason 'the runner left' --yes",
		RunE: func(cmd *cobra.Command, args []string) error {
			if match == "" && len(args) == 1 {
				return each(cmd, s, args, "",
					func(c *admin.Client, key string) (admin.KeyChanged, error) {
						return c.RevokeKey(cmd.Context(), key, reason)
					},
					printRevoked)
			}
			if (len(args) == 0) == (match == "") {
				return usageError{errors.New("name vault keys, or give --match")}
			}
			conn, err := connect()
			if err != nil {
				return err
			}
			if match != "" {
				if args, err = s.confirmed(cmd.Context(), conn, match, yes); err != nil {
					return err
				}
			}
			out, err := conn.client.RevokeKeys(cmd.Context(), admin.Revocation{Keys: args, Reason: reason})
			if err != nil {
				return explain(conn, err)
			}
			if err := s.print(*outputOf(cmd), out, func(w io.Writer) {
				for _, k := range out.Items {
					printRevoked(w, k)
				}
				fmt.Fprintf(w, "%s revoked\n", count(len(out.Items), "vault key"))
			}); err != nil {
				return err
			}
			return failedKeys(out.Failed)
		},
	}
	cmd.Flags().StringVar(&match, "match", "", "glob over names, instead of KEYs")
	cmd.Flags().StringVar(&reason, "reason", "", "why; goes into the audit")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask about the keys that --match finds")
	outputFlag(cmd)
	return cmd
}

func printRevoked(w io.Writer, k admin.KeyChanged) {
	fmt.Fprintf(w, "vault key %s (%s) revoked\n", k.Name, k.ID)
}

// confirmed lists the keys that a glob finds and returns their ids, once somebody said that they are meant.
func (s streams) confirmed(ctx context.Context, conn connection, match string, yes bool) ([]string, error) {
	list, err := allKeys(ctx, conn.client, admin.KeyFilter{Match: match})
	if err != nil {
		return nil, explain(conn, err)
	}
	if len(list.Items) == 0 {
		return nil, fmt.Errorf("no vault key that is not revoked matches %q", match)
	}
	var ids []string
	var names strings.Builder
	for _, k := range list.Items {
		ids = append(ids, k.ID)
		fmt.Fprintf(&names, "  %s (%s)\n", printable(k.Name), k.ID)
	}
	if yes {
		return ids, nil
	}
	what := fmt.Sprintf("%q matches %s:\n%s", match, count(len(ids), "vault key"), names.String())
	if in, ok := s.in.(*os.File); !ok || !isTerminal(in) {
		return nil, usageError{errors.New(what + "to revoke them for good, say --yes")}
	}
	if _, err := fmt.Fprintf(s.err, "%sRevoke %s for good? Type yes: ", what, count(len(ids), "vault key")); err != nil {
		return nil, err
	}
	answer, err := bufio.NewReader(s.in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if strings.TrimSpace(answer) != "yes" {
		return nil, errors.New("nothing was revoked")
	}
	return ids, nil
}
