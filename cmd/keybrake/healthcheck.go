package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/keybrake/keybrake/internal/admin"
)

// newHealthcheck is what a container without a shell runs to know how it is.
func newHealthcheck(s streams) *cobra.Command {
	ready := false
	cmd := &cobra.Command{
		Use:   "healthcheck [URL]",
		Short: "Ask a server of this machine how it is; exit 0 if it is well",
		Long: "Asks for /healthz: the process lives. With --ready for /readyz: it takes money calls. Restart a server for the first, never\n" +
			"for the second: a restart does not mend a full disk. Without a URL it asks the operators' listener of this user's server.\n\n" +
			"No token is sent, and the certificate is not checked. Exit 1 if the answer is no, or if there is none.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			url := os.Getenv("KEYBRAKE_ADMIN_URL")
			switch {
			case len(args) == 1:
				url = args[0]
			case url == "":
				path, err := serverFilePath(os.Getenv)
				if err != nil {
					return err
				}
				file, err := readServerFile(path)
				if err != nil {
					return fmt.Errorf("no server was found: %w", err)
				}
				url = file.Admin
			}
			path := "/healthz"
			if ready {
				path = "/readyz"
			}
			err := admin.Health(cmd.Context(), url, path)
			var no *admin.Problem
			if errors.As(err, &no) {
				return fmt.Errorf("%s answers %d: %s", url+path, no.Status, no.Detail)
			}
			if err != nil {
				return err // exit 1 all the same: a container's health has two values
			}
			_, err = fmt.Fprintln(s.out, "ok")
			return err
		},
	}
	cmd.Flags().BoolVar(&ready, "ready", false, "ask whether it takes money calls")
	return cmd
}
