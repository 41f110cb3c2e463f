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
	cmd := &cobra.Command{
		Use:   "rotate [KEY...]",
		Short: "Give a vault key a new text; the old one works on for a while",
		Long: "Give a vault key a new text, which works at once; it is shown this once. The old one works until the overlap is over.\n" +
			"Both are the same key: one policy, one set of caps, one brake. --end-overlap ends the old texts now, --undo takes the\n" +
			"newest one back.",
		Example: "  keybrake key rotate agent-support-refunds-runner42 --overlap 7d\n" +
			"  keybrake key rotate agent-support-refunds-runner42 --end-overlap",
		RunE: func(cmd *cobra.Command, args []string) error {
			if end && undo || (end || undo) && cmd.Flags().Changed("overlap") {
				return usageError{errors.New("give one of --overlap, --end-overlap and --undo")}
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
	outputFlag(cmd)
	return cmd
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
