package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/keybrake/keybrake/internal/admin"
)

func newUpstream(s streams) *cobra.Command {
	return group("upstream", "Credentials at the vendor",
		newUpstreamAdd(s), newUpstreamList(s), newUpstreamUpdate(s), newUpstreamRotate(s), newUpstreamWebhook(s), newUpstreamRemove(s))
}

func newUpstreamAdd(s streams) *cobra.Command {
	var secret secretFlags
	var req admin.UpstreamRequest
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Add a credential with its pinned host",
		Long: "Add a restricted key of the vendor. Its prefix tells the mode. The vendor is asked whether the key lets Keybrake\n" +
			"read what it needs; what will not work without a permission is named.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			req.Name = args[0]
			if req.Secret, err = secret.read(cmd.Context(), s.in, args[0]); err != nil {
				return err
			}
			u, err := ask(func(c *admin.Client) (admin.UpstreamView, error) { return c.AddUpstream(cmd.Context(), req) })
			if err != nil {
				return err
			}
			return s.printUpstream(*outputOf(cmd), "added", u)
		},
	}
	secret.bindSource(cmd)
	cmd.Flags().StringVar(&req.BaseURL, "base-url", "", "scheme and host (default: the vendor's own)")
	cmd.Flags().StringVar(&req.Version, "api-version", "", "API version that is sent where an agent names none")
	cmd.Flags().StringVar(&req.RotateEvery, "rotate-every", "", "after how long the secret is due for another, like 90d")
	cmd.Flags().BoolVar(&req.AllowUnrestricted, "allow-unrestricted", false, "take a live secret that can do everything")
	cmd.Flags().BoolVar(&req.AllowInsecure, "allow-insecure-upstream", false, "take a base URL without TLS")
	outputFlag(cmd)
	return cmd
}

func newUpstreamWebhook(s streams) *cobra.Command {
	var secret secretFlags
	var remove bool
	var req admin.SigningSecret
	cmd := &cobra.Command{
		Use:   "webhook UPSTREAM",
		Short: "Take messages that the vendor signs with this secret",
		Long: "Make an endpoint at the vendor that sends events to https://GATEWAY/keybrake/v1/webhooks/UPSTREAM and give its signing\n" +
			"secret (whsec_...) here. A message says that something changed; Keybrake then reads it at the vendor. Without an\n" +
			"endpoint it reads the vendor's log of events every minute, and learns the same a little later.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if !remove {
				if req.Secret, err = secret.read(cmd.Context(), s.in, args[0]); err != nil {
					return err
				}
			}
			u, err := ask(func(c *admin.Client) (admin.UpstreamView, error) { return c.SetWebhook(cmd.Context(), args[0], req) })
			if err != nil {
				return err
			}
			return s.print(*outputOf(cmd), u, func(w io.Writer) {
				if !u.Webhook {
					fmt.Fprintf(w, "upstream %s takes no messages any more\n", u.Name)
					return
				}
				fmt.Fprintf(w, "upstream %s takes messages at /keybrake/v1/webhooks/%s\n", u.Name, u.Name)
			})
		},
	}
	secret.bind(cmd)
	ifMatchFlag(cmd, &req.IfMatch, "upstream", "upstream list")
	cmd.Flags().BoolVar(&remove, "remove", false, "take no messages any more")
	outputFlag(cmd)
	return cmd
}

func newUpstreamUpdate(s streams) *cobra.Command {
	var req admin.UpstreamUpdate
	cmd := &cobra.Command{
		Use:   "update UPSTREAM [--api-version V --reason T] [--rotate-every 90d]",
		Short: "Set the API version that an upstream is pinned to, or when its secret is due",
		Long: "Set the API version that is sent where an agent names none. Agents may name it too, also where Keybrake does not know its\n" +
			"release train: fields may have other names in it, and an amount that is not where it is looked for is not let through.\n" +
			"Or set after how long the secret is due for another; `never` takes that away.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			u, err := ask(func(c *admin.Client) (admin.UpstreamView, error) {
				return c.UpdateUpstream(cmd.Context(), args[0], req)
			})
			if err != nil {
				return err
			}
			return s.printUpstream(*outputOf(cmd), "is set", u)
		},
	}
	cmd.Flags().StringVar(&req.Version, "api-version", "", "like 2026-08-26.dahlia, or an older date; takes a --reason")
	cmd.Flags().StringVar(&req.RotateEvery, "rotate-every", "", "after how long the secret is due for another, like 90d; or never")
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why; goes into the audit")
	ifMatchFlag(cmd, &req.IfMatch, "upstream", "upstream list")
	outputFlag(cmd)
	return cmd
}

func (s streams) printUpstream(f format, did string, u admin.UpstreamView) error {
	s.warn(u.Warnings)
	return s.print(f, u, func(w io.Writer) {
		fmt.Fprintf(w, "upstream %s (%s) %s: %s mode, %s, version %s, secret %s\n", u.Name, u.ID, did, u.Mode, u.BaseURL, u.Version, u.Secret)
		if u.Staged != nil {
			fmt.Fprintf(w, "%s is staged by %s; `keybrake upstream rotate %s --switch` puts it into its place\n", u.Staged.Secret, u.Staged.By, u.Name)
		}
		switch {
		case u.Unreachable != "":
			fmt.Fprintf(w, "%s was not reached (%s), so nothing works yet and no permission could be checked.\n", u.BaseURL, u.Unreachable)
			return
		case len(u.Missing) == 0:
			return
		}
		fmt.Fprintln(w, "The secret lacks permissions. Without them:")
		for _, m := range u.Missing {
			fmt.Fprintf(w, "  %s (%s): %s\n", m.Need, m.Found, m.Without)
		}
	})
}

func newUpstreamList(s streams) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List upstreams", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := ask(func(c *admin.Client) (admin.List[admin.UpstreamView], error) { return c.Upstreams(cmd.Context()) })
			if err != nil {
				return err
			}
			return s.print(*outputOf(cmd), list, func(w io.Writer) {
				var rows [][]string
				for _, u := range list.Items {
					rows = append(rows, []string{u.Name, u.ID, u.Mode, u.Brake, fmt.Sprint(u.Keys), u.BaseURL, u.Version, u.Secret, when(u.SecretSince), rotateBy(u.RotateBy, u.Overdue), staged(u)})
				}
				table(w, "NAME ID MODE BRAKE KEYS BASE-URL VERSION SECRET SINCE ROTATE-BY STAGED", rows)
			})
		},
	}
	outputFlag(cmd)
	return cmd
}

func newUpstreamRemove(s streams) *cobra.Command {
	cmd := &cobra.Command{
		Use: "remove UPSTREAM", Short: "Forget an upstream that no vault key uses", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, err := ask(func(c *admin.Client) (struct{}, error) { return struct{}{}, c.RemoveUpstream(cmd.Context(), args[0]) })
			if err != nil {
				return err
			}
			return s.print(*outputOf(cmd), admin.Done{Done: true}, func(w io.Writer) { fmt.Fprintf(w, "upstream %s removed\n", args[0]) })
		},
	}
	outputFlag(cmd)
	return cmd
}

// outputOf reads the -o flag of a command that has one.
func outputOf(cmd *cobra.Command) *format {
	f, ok := cmd.Flags().Lookup("output").Value.(*format)
	if !ok {
		panic("keybrake: " + cmd.CommandPath() + " has no output flag") // a bug of ours
	}
	return f
}
