package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keybrake/keybrake/internal/admin"
	"github.com/keybrake/keybrake/internal/policy"
)

func newKey(s streams) *cobra.Command {
	return group("key", "Vault keys", newKeyCreate(s), newKeyList(s), newKeyShow(s), newKeyUpdate(s), newKeyRotate(s), newKeyRevoke(s))
}

// policyFlags are what create and update have in common.
type policyFlags struct {
	file            string
	caps, customers []string
	expires, rotate string
}

func (f *policyFlags) bind(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.file, "policy", "", "policy file (YAML), - for standard input")
	cmd.Flags().StringArrayVar(&f.caps, "cap", nil, "add or replace a cap: refunds/day=500 or refunds/hour=30calls (repeat)")
	cmd.Flags().StringArrayVar(&f.customers, "customer", nil, "the customers, in place of the policy's: an `id`, or \"any\" alone (repeat)")
	cmd.Flags().StringVar(&f.expires, "expires", "", "a span from the key's creation like 90d, or a date")
	cmd.Flags().StringVar(&f.rotate, "rotate-every", "", "after how long the key's text is due for another, like 90d")
}

func (f *policyFlags) read(in io.Reader) (admin.PolicyEdit, error) {
	e := admin.PolicyEdit{Caps: f.caps, Customers: f.customers, Expires: f.expires, RotateEvery: f.rotate}
	if f.file == "" {
		return e, nil
	}
	text, err := readFile(f.file, in)
	if err != nil {
		return e, fmt.Errorf("read the policy: %w", err)
	}
	if strings.TrimSpace(string(text)) == "" {
		return e, fmt.Errorf("%s:1:1: the policy is empty; it needs at least `scopes:`", f.file)
	}
	e.Policy, e.PolicyFile = string(text), f.file
	return e, nil
}

func newKeyCreate(s streams) *cobra.Command {
	var req admin.KeyRequest
	var flags policyFlags
	var into sinkFlags
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a vault key; it is shown this once",
		Long: "Make a vault key under a policy: from a preset, a file, or another key. It is shown this once, with a link that\n" +
			"makes the restricted key which its upstream needs at Stripe.\n\nPresets:\n" + policy.PresetList(),
		Example: "  keybrake key create --preset refund-support --cap refunds/day=100 --customer cus_A\n" +
			"  keybrake key create --policy agent.yaml --name agent-support-refunds-runner42 -o json\n" +
			"  keybrake key create --preset refund-support --customer cus_A --sink runner-files",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if req.PolicyEdit, err = flags.read(s.in); err != nil {
				return err
			}
			if req.Preset == "" && req.Policy == "" && req.Like == "" {
				return usageError{errors.New("say what the key may do with one of --preset, --policy and --like")}
			}
			sink, err := into.open()
			if err != nil {
				return err
			}
			if sink != nil {
				k, err := into.createInto(cmd.Context(), sink, req)
				if err != nil {
					return err
				}
				return s.printCreated(*outputOf(cmd), k, k.KeyCreated, func(w io.Writer) { printSunk(w, k.Sink, k.Label) })
			}
			k, err := ask(func(c *admin.Client) (admin.KeyCreated, error) { return c.CreateKey(cmd.Context(), req) })
			if err != nil {
				return err
			}
			return s.printCreated(*outputOf(cmd), k, k, func(w io.Writer) {
				fmt.Fprintf(w, "\n  %s\n\nIt is shown this once: put it into your secret store under the label %s.\n", k.Key, k.Name)
			})
		},
	}
	cmd.Flags().StringVar(&req.Name, "name", "", "agent-<role>-<action>-<runner-id>")
	cmd.Flags().StringVar(&req.Preset, "preset", "", "start from a preset, one of those above")
	cmd.Flags().StringVar(&req.Like, "like", "", "start from the policy of this vault key")
	cmd.Flags().BoolVar(&req.Unverified, "unverified", false, "take a test key's policy live though nobody verified it; this is recorded")
	cmd.Flags().StringVar(&req.Upstream, "upstream", "", "upstream (default: the only one)")
	flags.bind(cmd)
	into.bind(cmd)
	outputFlag(cmd)
	return cmd
}

// printCreated tells of a new key: out for scripts, for people what is known of it and where its text is.
func (s streams) printCreated(f format, out any, k admin.KeyCreated, text func(io.Writer)) error {
	s.warn(k.Warnings)
	return s.print(f, out, func(w io.Writer) {
		fmt.Fprintf(w, "vault key %s (%s) for upstream %s, %s mode%s\n", k.Name, k.ID, k.Upstream, k.Mode, until(k))
		text(w)
		printRestricted(w, k.Upstream, k.RestrictedKey)
	})
}

func until(k admin.KeyCreated) string {
	if k.Expires.IsZero() {
		return ""
	}
	return ", until " + when(k.Expires)
}

func newKeyList(s streams) *cobra.Command {
	var f admin.KeyFilter
	cmd := &cobra.Command{
		Use: "list", Short: "List vault keys", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := ask(func(c *admin.Client) (admin.List[admin.KeyView], error) { return allKeys(cmd.Context(), c, f) })
			if err != nil {
				return err
			}
			return s.print(*outputOf(cmd), list, func(w io.Writer) {
				var rows [][]string
				for _, k := range list.Items {
					brake := k.Brake
					if k.Frozen != "" {
						brake += ", frozen"
					}
					rows = append(rows, []string{k.Name, k.ID, k.Upstream, k.Mode, k.State, brake, "…" + k.Last4, when(k.Created), when(k.Expires), rotateBy(k.RotateBy, k.Overdue)})
				}
				table(w, "NAME ID UPSTREAM MODE STATE BRAKE KEY CREATED EXPIRES ROTATE-BY", rows)
			})
		},
	}
	cmd.Flags().StringVar(&f.Match, "match", "", "glob over names")
	cmd.Flags().StringVar(&f.Upstream, "upstream", "", "of this upstream")
	cmd.Flags().BoolVar(&f.Revoked, "revoked", false, "with those that were revoked")
	outputFlag(cmd)
	return cmd
}

// allKeys follows the pages of a listing.
func allKeys(ctx context.Context, c *admin.Client, f admin.KeyFilter) (admin.List[admin.KeyView], error) {
	all := admin.List[admin.KeyView]{Items: []admin.KeyView{}}
	for {
		page, err := c.Keys(ctx, f)
		if err != nil {
			return all, err
		}
		all.Items = append(all.Items, page.Items...)
		if f.After = page.Next; f.After == "" {
			return all, nil
		}
	}
}

func newKeyShow(s streams) *cobra.Command {
	cmd := &cobra.Command{
		Use: "show KEY", Short: "Show a vault key and its policy", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := ask(func(c *admin.Client) (admin.KeyDetail, error) { return c.Key(cmd.Context(), args[0]) })
			if err != nil {
				return err
			}
			return s.print(*outputOf(cmd), k, func(w io.Writer) {
				table(w, "NAME ID UPSTREAM MODE STATE BRAKE KEY CREATED EXPIRES ROTATE-BY", [][]string{
					{k.Name, k.ID, k.Upstream, k.Mode, k.State, k.Brake, "…" + k.Last4, when(k.Created), when(k.Expires), rotateBy(k.RotateBy, k.Overdue)},
				})
				if len(k.Credentials) > 1 {
					fmt.Fprintln(w)
					printTexts(w, k.Credentials)
				}
				if k.Frozen != "" {
					fmt.Fprintf(w, "\nWrites are frozen: %s\n", printable(k.Frozen))
				}
				if len(k.Caps) > 0 {
					fmt.Fprintln(w)
					table(w, "CAP LIMIT HELD SETTLED LEFT RESETS", capRows(k.Caps))
				}
				printRestricted(w, k.Upstream, k.RestrictedKey)
				fmt.Fprintf(w, "\n%s", k.Policy)
				if len(k.Joined) > 0 {
					fmt.Fprintf(w, "# created by the key and allowed: %v\n", k.Joined)
				}
			})
		},
	}
	outputFlag(cmd)
	return cmd
}

// chosen is the answer about several keys.
type chosen[T any] struct {
	Items  []T              `json:"items"`
	Failed []admin.KeyError `json:"failed"`
	Next   string           `json:"next"` // always empty: all are there
}

// each does something to the keys that the arguments or a glob name. One that fails does not keep the
// others from it, but makes the command fail. With -o json one named KEY is answered by one object, anything
// else by a list.
func each[T any](cmd *cobra.Command, s streams, args []string, match string, do func(*admin.Client, string) (T, error), people func(io.Writer, T)) error {
	if (len(args) == 0) == (match == "") {
		return usageError{errors.New("name vault keys, or give --match")}
	}
	conn, err := connect()
	if err != nil {
		return err
	}
	if match != "" {
		list, err := allKeys(cmd.Context(), conn.client, admin.KeyFilter{Match: match})
		if err != nil {
			return explain(conn, err)
		}
		for _, k := range list.Items {
			args = append(args, k.ID)
		}
		if len(args) == 0 {
			return fmt.Errorf("no vault key that is not revoked matches %q", match)
		}
	}
	all := chosen[T]{Items: []T{}, Failed: []admin.KeyError{}}
	for _, name := range args {
		v, err := do(conn.client, name)
		if errors.Is(err, admin.ErrUnreachable) || err != nil && len(args) == 1 {
			return explain(conn, err)
		}
		if err != nil {
			all.Failed = append(all.Failed, admin.KeyError{Key: name, Error: err.Error()})
			continue
		}
		all.Items = append(all.Items, v)
	}
	var out any = all
	if match == "" && len(args) == 1 {
		out = all.Items[0]
	}
	if err := s.print(*outputOf(cmd), out, func(w io.Writer) {
		for _, v := range all.Items {
			people(w, v)
		}
	}); err != nil {
		return err
	}
	return failedKeys(all.Failed)
}

// failedKeys is the error of a command that could not do all that it was asked for.
func failedKeys(failed []admin.KeyError) error {
	if len(failed) == 0 {
		return nil
	}
	lines := make([]string, len(failed))
	for i, f := range failed {
		lines[i] = printable(f.Key) + ": " + f.Error
	}
	return errors.New(strings.Join(lines, "\nkeybrake: "))
}

func newKeyUpdate(s streams) *cobra.Command {
	var req admin.KeyUpdate
	var flags policyFlags
	var match string
	cmd := &cobra.Command{
		Use:   "update [KEY...]",
		Short: "Change what a vault key may do",
		Long: "Change a vault key's policy: put another file in its place, or edit the present one with flags. Whatever lets the\n" +
			"key do more needs a --reason. A cap that is added counts what its window has seen already.",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if req.PolicyEdit, err = flags.read(s.in); err != nil {
				return err
			}
			if req.Name == "" && flags.file == "" && len(flags.caps) == 0 && len(flags.customers) == 0 && flags.expires == "" && flags.rotate == "" {
				return usageError{errors.New("say what to change: --policy, --cap, --customer, --expires, --rotate-every, --name")}
			}
			return each(cmd, s, args, match,
				func(c *admin.Client, key string) (admin.KeyChanged, error) {
					return c.UpdateKey(cmd.Context(), key, req)
				},
				func(w io.Writer, k admin.KeyChanged) {
					s.warn(k.Warnings)
					fmt.Fprintf(w, "vault key %s (%s) changed\n", k.Name, k.ID)
					for _, c := range k.Changes {
						fmt.Fprintf(w, "  %s: %s -> %s\n", c.Field, dash(c.Old), dash(c.New))
					}
				})
		},
	}
	cmd.Flags().StringVar(&match, "match", "", "glob over names, instead of KEYs")
	cmd.Flags().StringVar(&req.Name, "name", "", "the new name")
	ifMatchFlag(cmd, &req.IfMatch, "key", "key show")
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why; required if the key may do more afterwards")
	flags.bind(cmd)
	outputFlag(cmd)
	return cmd
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return printable(s)
}
