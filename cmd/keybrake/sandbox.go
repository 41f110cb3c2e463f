package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

// newSandbox runs the sandbox alone, so that a gateway can be killed and its Stripe live on.
func newSandbox(s streams) *cobra.Command {
	listen, seed, ready := "127.0.0.1:0", int64(1), ""
	cmd := &cobra.Command{
		Use:   "sandbox",
		Short: "Run a stateful Stripe in memory, for trying things out",
		Long: "Run a stateful Stripe in memory. Every sk_test_ key has full access. Routes under /_sandbox/ show what " +
			"happened and break things on demand; they ask for no credential, so it listens on loopback only.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			host, _, err := net.SplitHostPort(listen)
			if err != nil || !loopback(host) {
				return usageError{fmt.Errorf("--listen %q: write a loopback address like 127.0.0.1:12111", listen)}
			}
			l, err := net.Listen("tcp", listen)
			if err != nil {
				return fmt.Errorf("listen: %w", err)
			}
			box := sandbox.New(sandbox.Options{Seed: seed})
			box.Seed()
			srv := &http.Server{Handler: box, ReadHeaderTimeout: 10 * time.Second}
			failed := make(chan error, 1)
			go func() { failed <- srv.Serve(l) }()
			if _, err := fmt.Fprintf(s.out, "sandbox: http://%s\n", l.Addr()); err != nil {
				return err
			}
			if ready != "" {
				if err := writeWhole(ready, func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "http://%s\n", l.Addr())
					return err
				}); err != nil {
					return fmt.Errorf("--ready-file: %w", err)
				}
			}
			select {
			case <-cmd.Context().Done():
				box.Close()
				err = srv.Close()
			case err = <-failed:
			}
			if errors.Is(err, http.ErrServerClosed) {
				return nil
			}
			return err
		},
	}
	cmd.Flags().StringVar(&listen, "listen", listen, "loopback address")
	cmd.Flags().StringVar(&ready, "ready-file", ready, "write the address into this file once it accepts")
	cmd.Flags().Int64Var(&seed, "seed", seed, "seed of ids and data: the same seed makes the same Stripe")
	return cmd
}
