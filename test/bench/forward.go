package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// forward is the least that a Go program can do between an agent and Stripe: net/http in front,
// http.Transport behind, the credential swapped, nothing judged and nothing written down.
func forward(args []string) error {
	flags := flag.NewFlagSet("forward", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:0", "address to listen on")
	to := flags.String("to", "", "upstream host:port")
	if err := flags.Parse(args); err != nil {
		return err
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	f := &forwarder{
		to: *to, authorization: "Bearer " + os.Getenv(secretVariable),
		transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 512, MaxConnsPerHost: 512},
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, os.Interrupt)
	failed := make(chan error, 1)
	srv := &http.Server{Handler: f, ReadHeaderTimeout: 10 * time.Second}
	go func() { failed <- srv.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-end:
		return srv.Close()
	}
}

type forwarder struct {
	to, authorization string
	transport         *http.Transport
}

func (f *forwarder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host, out.Host, out.RequestURI = "http", f.to, f.to, ""
	out.Header.Set("Authorization", f.authorization)
	answer, err := f.transport.RoundTrip(out)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer answer.Body.Close() //nolint:errcheck // it was read to its end or the client sees a short answer
	header := w.Header()
	for name, values := range answer.Header {
		header[name] = values
	}
	w.WriteHeader(answer.StatusCode)
	_, _ = io.Copy(w, answer.Body) // a client that went away has no use for the rest
}
