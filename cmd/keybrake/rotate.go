package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/keybrake/keybrake/internal/admin"
)

func newKeyRotate(s streams) *cobra.Command {
	var req admin.Rotation
	var match string
	var end, undo bool
	var into sinkFlags
	cmd := &cobra.Command{
		Use:   "rotate [KEY...]",
		Short: "Give a vault key a new text; the old one works on for a while",
		Long: "Give a vault key a new text, which works at once; it is shown this once. The old one works until the overlap is over.\n" +
			"Both are the same key: one policy, one set of caps, one brake. --end-overlap ends the old texts now, --undo takes the\n" +
			"newest one back.",
		Example: "  keybrake key rotate agent-support-refunds-runner42 --overlap 7d\n" +
			"  keybrake key rotate agent-support-refunds-runner42 --end-overlap",
		RunE: func(cmd *cobra.Command, args []string) error {
			if end && undo || (end || undo) && (cmd.Flags().Changed("overlap") || into.name != "") {
				return usageError{errors.New("give one of --overlap (with --sink or without), --end-overlap and --undo")}
			}
			if end || undo {
				change := endOverlap
				if undo {
					change = undoRotation
				}
				return each(cmd, s, args, match, func(c *admin.Client, key string) (admin.KeyTexts, error) { return change(cmd.Context(), c, key) },
					func(w io.Writer, k admin.KeyTexts) {
						fmt.Fprintf(w, "vault key %s (%s)\n", k.Name, k.ID)
						printTexts(w, k.Texts)
					})
			}
			sink, err := into.open()
			if err != nil {
				return err
			}
			if sink != nil {
				return each(cmd, s, args, match,
					func(c *admin.Client, key string) (sunkRotation, error) {
						return into.rotateInto(cmd.Context(), c, sink, key, req.Overlap)
					},
					func(w io.Writer, k sunkRotation) {
						fmt.Fprintf(w, "vault key %s (%s); the text before works until %s\n", k.Name, k.ID, when(k.OldUntil))
						printSunk(w, k.Sink, k.Label)
					})
			}
			return each(cmd, s, args, match,
				func(c *admin.Client, key string) (admin.KeyRotated, error) {
					return c.RotateKey(cmd.Context(), key, req)
				},
				func(w io.Writer, k admin.KeyRotated) {
					fmt.Fprintf(w, "vault key %s (%s); the text before works until %s\n\n  %s\n\n", k.Name, k.ID, when(k.OldUntil), k.Key)
				})
		},
	}
	cmd.Flags().StringVar(&match, "match", "", "glob over names, instead of KEYs")
	cmd.Flags().StringVar(&req.Overlap, "overlap", "24h", "how long the present text works on, like 24h or 7d; 0s: not at all")
	cmd.Flags().BoolVar(&end, "end-overlap", false, "make no new text; end the older ones now")
	cmd.Flags().BoolVar(&undo, "undo", false, "make no new text; take the newest one back")
	into.bind(cmd)
	outputFlag(cmd)
	return cmd
}

func newUpstreamRotate(s streams) *cobra.Command {
	var secret secretFlags
	var req admin.UpstreamSecret
	var change, abandon bool
	cmd := &cobra.Command{
		Use:   "rotate UPSTREAM",
		Short: "Give an upstream another secret of the same account and mode",
		Long: "Give an upstream another secret. The vendor is asked first, with harmless reads, whether it knows the secret, whether it is\n" +
			"of the same account, and whether it may what the present one may; what does not hold changes nothing. Calls on their\n" +
			"way end with the secret that they left with, later ones carry the new one. Vault keys stay as they are.\n" +
			"With --stage the secret waits until --switch puts it into its place, or --abandon forgets it.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if n := countTrue(req.Stage, change, abandon); n > 1 || (change || abandon) && secret.given() {
				return usageError{errors.New("give a secret (with --stage or without), or --switch, or --abandon")}
			}
			did, do := "has a new secret", func(c *admin.Client) (admin.UpstreamView, error) {
				return c.RotateUpstream(cmd.Context(), args[0], req)
			}
			switch {
			case change:
				do = func(c *admin.Client) (admin.UpstreamView, error) {
					return c.SwitchUpstream(cmd.Context(), args[0], req.SwitchRequest)
				}
			case abandon:
				did, do = "keeps its secret", func(c *admin.Client) (admin.UpstreamView, error) { return c.AbandonUpstream(cmd.Context(), args[0]) }
			default:
				if req.Stage {
					did = "has a staged secret"
				}
				if req.Secret, err = secret.read(cmd.Context(), s.in, args[0]); err != nil {
					return err
				}
			}
			u, err := ask(do)
			if err != nil {
				return err
			}
			return s.printUpstream(*outputOf(cmd), did, u)
		},
	}
	secret.bindSource(cmd)
	cmd.Flags().BoolVar(&req.Stage, "stage", false, "let the secret wait until it is switched to")
	cmd.Flags().BoolVar(&change, "switch", false, "put the staged secret into its place")
	cmd.Flags().BoolVar(&abandon, "abandon", false, "forget the staged secret")
	cmd.Flags().BoolVar(&req.AllowUnrestricted, "allow-unrestricted", false, "take a live secret that can do everything")
	cmd.Flags().BoolVar(&req.AllowMissing, "allow-missing", false, "take a secret that lacks permissions which the present one has")
	cmd.Flags().BoolVar(&req.SameAccount, "same-account", false, "answer for it that the account is the same, where the vendor does not tell")
	outputFlag(cmd)
	return cmd
}

func countTrue(flags ...bool) (n int) {
	for _, f := range flags {
		if f {
			n++
		}
	}
	return n
}

// staged writes what waits to take the place of an upstream's secret.
func staged(u admin.UpstreamView) string {
	if u.Staged == nil {
		return ""
	}
	return u.Staged.Secret
}

func endOverlap(ctx context.Context, c *admin.Client, key string) (admin.KeyTexts, error) {
	return c.EndOverlap(ctx, key, admin.Overlap{})
}

func undoRotation(ctx context.Context, c *admin.Client, key string) (admin.KeyTexts, error) {
	k, err := c.Key(ctx, key)
	if err != nil {
		return admin.KeyTexts{}, err
	}
	return c.UndoRotation(ctx, k.ID, k.Last4)
}

// printTexts lists what opens a key.
func printTexts(w io.Writer, texts []admin.CredentialView) {
	var rows [][]string
	for _, t := range texts {
		rows = append(rows, []string{"…" + t.Last4, when(t.Created), when(t.Expires)})
	}
	table(w, "TEXT CREATED UNTIL", rows)
}

// rotateBy writes when a rotation is due.
func rotateBy(at time.Time, overdue bool) string {
	if overdue {
		return when(at) + " (overdue)"
	}
	return when(at)
}
